"""Where is a run on disk, what does it record, and how is it read back?

A finished run is a folder ``RESULTS/<dataset>/<method>/seed-<n>/``:

* ``run.json``: format, configuration, environment, data, metrics, checksums of the other files;
* ``metrics.jsonl``: one line an epoch;
* ``weights.safetensors``: the weights, half precision;
* ``codes.safetensors``: mean, standard deviation and label of some test images' codes;
* ``samples.png``, ``neighbours.png``, ``reconstructions.png``, ``interpolations.png``: grids of images.

A method without an encoder has no codes and no reconstructions. A copy of a run needs the first two files
only: weights, codes and pictures are large, and the book's repository keeps those that its pages show.

While it is trained, a run is a hidden folder beside that place, the draft, with a checkpoint. A draft becomes
a run when its folder is renamed, so that a killed process leaves either the old run or the new one.
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
    "finish_swap",
    "load",
    "name_matches",
    "recorded",
    "results_root",
    "write_atomically",
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
    """The files of an experiment's run, beside its record."""
    needs_encoder = ("codes.safetensors", "reconstructions.png")
    return tuple(name for name in FILES if experiment.has_encoder or name not in needs_encoder)


class RunError(Exception):
    """A run or checkpoint is missing, damaged or foreign; the message says which and what to do."""


def checkout() -> Path | None:
    """The book's checkout that holds this library; None where the library was installed without the book."""
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
def write_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary name to write to, and rename that file to ``path`` if nothing was raised.

    Raises:
        RunError: the file cannot be written: the disk is full, or the folder is read-only.
    """
    part = path.with_name(f"{path.name}.part{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with open(part, "rb") as f:
            os.fsync(f.fileno())
        part.chmod(0o644)  # safetensors writes files that only their owner can read
        part.replace(path)
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path} cannot be written ({error}); what was there before is kept") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    with write_atomically(path) as part:
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
            raise RunError(f"{file} is not in this copy, which keeps only the run's record; train it again")
        return file

    def add_metrics(self, metrics: dict[str, float], **more: Any) -> Run:
        """The run with metrics added (and other entries replaced), written at once."""
        record = self.record | more | {"metrics": self.metrics | metrics}
        write_json(self.path / "run.json", record)
        return Run(self.path, record)


def load(path: Path | str) -> Run:
    """Read a run from its folder, or by its name below the results folder, such as ``mnist/wwae/seed-0``.

    Raises:
        RunError: there is no run, or it is damaged, of a newer format, or not of this library.
    """
    folder = Path(path).absolute()
    finish_swap(folder)
    if not (folder / "run.json").exists():
        folder = results_root() / path  # an absolute path stays itself
        finish_swap(folder)
    run = Run(folder, _read_record(folder / "run.json"))
    for name in files_of(run.experiment):
        file = folder / name
        if name != HISTORY and not file.exists():
            continue
        if not file.is_file():
            raise RunError(f"{file} is missing; restore it or train again")
        if _sha256(file) != run.record["files"].get(name):
            raise RunError(f"{file} is not the file that run.json recorded; restore it or train again")
    return run


def _read_record(file: Path) -> dict[str, Any]:
    """What ``run.json`` holds, if it describes a run of this library."""
    if not file.exists():
        raise RunError(f"there is no run in {file.parent}: run.json is missing; train it, or check the name")
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
    return record


def name_matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a run's name, such as ``mnist/wwae/seed-0``, matches one of these patterns of ``*?[]``."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def recorded(*patterns: str, results: Path | None = None) -> list[Run]:
    """The finished runs whose names match a pattern (:func:`name_matches`), in the order of their names.

    Args:
        patterns: such as ``mnist/*/seed-0``; without any, all runs.
        results: the results folder; default :func:`results_root`.

    Raises:
        RunError: a run is damaged (:func:`load`).
    """
    root = results or results_root()
    folders = sorted(record.parent for record in root.glob("*/*/*/run.json"))
    return [
        load(folder)
        for folder in folders
        if name_matches(folder.relative_to(root).as_posix(), patterns or ("*",))
    ]


@dataclass(frozen=True)
class Draft:
    """A run that is being trained: where it will be, and the hidden folder that holds it until then."""

    path: Path

    @property
    def folder(self) -> Path:
        return self.path.with_name(f".{self.path.name}.draft")

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    def save_checkpoint(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Write a checkpoint, and then its history, for people to follow."""
        with write_atomically(self.checkpoint) as part:
            save_file({k: v.contiguous() for k, v in tensors.items()}, part, {"state": json.dumps(state)})
        self.write_history(state["history"])

    def write_history(self, history: list[dict[str, float]]) -> None:
        with write_atomically(self.folder / HISTORY) as part:
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
            raise RunError(f"{self.checkpoint} lacks {', '.join(sorted(missing))}: it is damaged or foreign")
        return tensors, state

    def publish(self, record: dict[str, Any]) -> Run:
        """Make the draft the run: complete its record, swap the folders, delete the checkpoint."""
        new = _new(self.path)
        (new / "run.json").unlink(missing_ok=True)  # first, or a half-deleted folder would count as complete
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        names = files_of(experiment(**record["config"]))
        for name in names:
            shutil.copy2(self.folder / name, new / name)
        files = {name: _sha256(new / name) for name in names}
        whole = {"format": FORMAT, **record, "files": files}
        write_json(new / "run.json", whole)
        finish_swap(self.path)
        shutil.rmtree(self.folder)
        return Run(self.path, whole)

    def discard(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _new(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def finish_swap(path: Path) -> None:
    """Replace a run by the newer one beside it, also where an earlier process was killed while it did so.

    The newer one, ``.new``, is complete once it holds run.json, which is written last.
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
