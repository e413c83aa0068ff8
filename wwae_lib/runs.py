"""Where does a run live on disk, what does it record, how is it read back?

A finished run is a folder ``RESULTS/<dataset>/<method>/seed-<n>/``:

* ``run.json``: format, configuration, environment, data, metrics, checksums of the other files;
* ``metrics.jsonl``: one line an epoch;
* ``weights.safetensors``: the weights, half precision;
* ``codes.safetensors``: mean, standard deviation and label of some test images' codes;
* ``samples.png``, ``neighbours.png``, ``reconstructions.png``, ``interpolations.png``: grids of images.

A method without an encoder has no codes and no reconstructions. A copy needs no more than the first two:
weights, codes and pictures are large, and the book's repository keeps those that its pages show.

While it trains, a run is a hidden draft beside that place, with a checkpoint. A draft becomes a run by
renaming whole folders, so that a killed process leaves the old run or the new one.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .experiments import Experiment, experiment

__all__ = [
    "FORMAT",
    "Draft",
    "Run",
    "RunError",
    "checkout",
    "files_of",
    "fits",
    "load",
    "recorded",
    "results_root",
    "settle",
    "write_aside",
]

FORMAT = 1
WEIGHTS = "weights.safetensors"
HISTORY = "metrics.jsonl"
FILES = (
    HISTORY,
    WEIGHTS,
    "codes.safetensors",
    "samples.png",
    "neighbours.png",
    "reconstructions.png",
    "interpolations.png",
)


def files_of(experiment: Experiment) -> tuple[str, ...]:
    """What a run of an experiment holds beside its record."""
    needs_encoder = ("codes.safetensors", "reconstructions.png")
    return tuple(name for name in FILES if experiment.has_encoder or name not in needs_encoder)


class RunError(Exception):
    """A run or checkpoint is missing, damaged or foreign; the message says which and what to do."""


def checkout() -> Path | None:
    """The checkout of the book that this library lies in; None where it was installed without the book."""
    root = Path(__file__).resolve().parents[1]
    return root if (root / "_toc.yml").is_file() and (root / "book").is_dir() else None


def results_root() -> Path:
    """The folder that ``WWAE_RESULTS`` names, else the book's own ``book/results``.

    Where the library was installed without the book, ``results`` in the working directory.
    """
    if named := os.environ.get("WWAE_RESULTS"):
        return Path(named).expanduser()
    root = checkout()
    return root / "book" / "results" if root else Path("results").absolute()


@contextlib.contextmanager
def write_aside(path: Path) -> Iterator[Path]:
    """Yield a temporary name to write to; rename it to ``path`` when all went well.

    Raises:
        RunError: it cannot be written: the disk is full, or the folder not ours.
    """
    part = path.with_name(f"{path.name}.part{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with open(part, "rb") as f:
            os.fsync(f.fileno())
        part.chmod(0o644)  # safetensors makes its files readable by their owner alone
        part.replace(path)
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path} cannot be written ({error}); what was there before is kept") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    with write_aside(path) as part:
        part.write_text(json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        RunError: the file is missing, cut short or no safetensors file.
    """
    try:
        with safe_open(path, "pt") as f:
            return {key: f.get_tensor(key) for key in f.keys()}, f.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"{path} cannot be read as safetensors ({error}); restore it, or delete it and make it again"
        ) from error


@dataclass(frozen=True)
class Run:
    """A finished run, read and checked by :func:`load`."""

    path: Path
    record: dict[str, Any]

    @property
    def experiment(self) -> Experiment:
        return experiment(**self.record["config"])

    @property
    def metrics(self) -> dict[str, float]:
        return self.record["metrics"]

    def history(self) -> list[dict[str, float]]:
        """One dictionary an epoch: epoch, learning rate, mean of each term, seconds."""
        return [json.loads(line) for line in (self.path / HISTORY).read_text().splitlines()]

    def weights(self) -> dict[str, Tensor]:
        """What the method keeps of its state (:meth:`wwae_lib.methods.Method.kept`), in float32.

        Raises:
            RunError: the weights were left out of this copy.
        """
        return {k: v.float() for k, v in read_tensors(self._file(WEIGHTS))[0].items()}

    def codes(self) -> dict[str, Tensor]:
        """``mean`` and ``std`` ``(n, latent)`` float32 and ``label`` ``(n,)`` of test images' codes.

        Raises:
            RunError: the codes were left out of this copy.
        """
        tensors, _ = read_tensors(self._file("codes.safetensors"))
        return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}

    def grid(self, name: str) -> np.ndarray:
        """``samples``, ``reconstructions`` or ``interpolations`` as uint8 ``(H, W[, 3])``.

        Raises:
            RunError: the picture was left out of this copy.
        """
        from PIL import Image

        with Image.open(self._file(f"{name}.png")) as image:
            return np.asarray(image)

    def _file(self, name: str) -> Path:
        """A file of the run that a copy may lack."""
        if not (file := self.path / name).exists():
            raise RunError(f"{file} is not in this copy, which keeps the run's record alone; train it again")
        return file

    def add_metrics(self, metrics: dict[str, float], **more: Any) -> Run:
        """The run with metrics added (and other entries replaced), written at once."""
        record = self.record | more | {"metrics": self.metrics | metrics}
        write_json(self.path / "run.json", record)
        return Run(self.path, record)


def load(path: Path | str) -> Run:
    """Read a run: from its folder, or by its name ``mnist/wwae/seed-0`` below the results folder.

    Raises:
        RunError: there is none, it is damaged, of a newer format, or not one of ours.
    """
    folder = Path(path).absolute()
    settle(folder)
    if not (folder / "run.json").exists():
        folder = results_root() / path  # which an absolute path replaces
    settle(folder)
    file = folder / "run.json"
    if not file.exists():
        raise RunError(f"there is no run in {folder}: {file.name} is missing; train it, or look at the name")
    try:
        record = json.loads(file.read_text())
        version = record["format"]
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise RunError(
            f"{file} is damaged or not a run's record ({error!r}); restore it or train again"
        ) from error
    if version != FORMAT:
        raise RunError(f"{file} has format {version!r}, this library reads {FORMAT}; update the library")
    for key in ("config", "environment", "data", "metrics", "files"):
        if not isinstance(record.get(key), dict):
            raise RunError(f"{file} lacks {key!r}: it is damaged or not a run's record")
    try:
        experiment(**record["config"])
    except (TypeError, ValueError) as error:
        raise RunError(f"{file} describes no experiment of this library: {error}") from error
    for name in files_of(experiment(**record["config"])):
        content = folder / name
        if name != HISTORY and not content.exists():
            continue
        if not content.is_file():
            raise RunError(f"{content} is missing; restore it or train again")
        if _sha256(content) != record["files"].get(name):
            raise RunError(f"{content} is not the file that {file.name} recorded; restore it or train again")
    return Run(folder, record)


def fits(name: str, patterns: Iterable[str]) -> bool:
    """Whether a run's name, such as ``mnist/wwae/seed-0``, is one of these patterns: ``*``, ``?``, ``[]``."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def recorded(*patterns: str, results: Path | None = None) -> list[Run]:
    """Finished runs, by name: those of these patterns (:func:`fits`), without a pattern all.

    Args:
        patterns: such as ``mnist/*/seed-0``.
        results: the results folder; default :func:`results_root`.

    Raises:
        RunError: one is damaged (:func:`load`).
    """
    root = results or results_root()
    found = {
        record.parent: record.parent.relative_to(root).as_posix() for record in root.glob("*/*/*/run.json")
    }
    return [load(path) for path in sorted(found) if fits(found[path], patterns or ("*",))]


@dataclass(frozen=True)
class Draft:
    """A run in the making: where it will live, and the hidden folder where it grows."""

    path: Path

    @property
    def folder(self) -> Path:
        return self.path.with_name(f".{self.path.name}.draft")

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    def save_checkpoint(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Write a checkpoint aside and rename it; then the history in it, for people to follow."""
        with write_aside(self.checkpoint) as part:
            save_file({k: v.contiguous() for k, v in tensors.items()}, part, {"state": json.dumps(state)})
        self.write_history(state["history"])

    def write_history(self, history: list[dict[str, float]]) -> None:
        with write_aside(self.folder / HISTORY) as part:
            part.write_text("".join(json.dumps(line) + "\n" for line in history))

    def load_checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and state of the last checkpoint.

        Raises:
            RunError: it is damaged or of another format.
        """
        tensors, metadata = read_tensors(self.checkpoint)
        try:
            state = json.loads(metadata["state"])
            version = state["format"]
        except (KeyError, ValueError, TypeError) as error:
            raise RunError(f"{self.checkpoint} is not a checkpoint of this library ({error!r})") from error
        if version != FORMAT:
            raise RunError(f"{self.checkpoint} has format {version!r}, this library reads {FORMAT}")
        if missing := {"epoch", "history", "experiment", "images"} - state.keys():
            raise RunError(
                f"{self.checkpoint} lacks {', '.join(sorted(missing))}: it is no checkpoint of ours"
            )
        return tensors, state

    def publish(self, record: dict[str, Any]) -> Run:
        """Make the draft the run: complete its record, swap the folders, forget the checkpoint."""
        new = _new(self.path)
        (new / "run.json").unlink(missing_ok=True)  # first, or a half-deleted folder would count as complete
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        names = files_of(experiment(**record["config"]))
        for name in names:
            shutil.copy2(self.folder / name, new / name)
        files = {name: _sha256(new / name) for name in names}
        write_json(new / "run.json", {"format": FORMAT, **record, "files": files})
        settle(self.path)
        shutil.rmtree(self.folder)
        return load(self.path)

    def discard(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _new(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def settle(path: Path) -> None:
    """Finish the swap of a run for a newer one, also where an earlier process was killed in it.

    ``.new`` is complete once it holds run.json, which is written last.
    """
    new, old = _new(path), path.with_name(f".{path.name}.old")
    if (new / "run.json").exists():
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
            path.rename(old)
        new.rename(path)
    elif old.exists() and not path.exists():
        old.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
