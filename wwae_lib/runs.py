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

import fnmatch
import json
import math
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from .data import DATASETS, OWN, data_root
from .experiments import Experiment, build, experiment
from .files import RunError, owned, read_tensors, sha256, write_atomically, write_json, write_tensors
from .methods import METHODS, Method

__all__ = [
    "FORMAT",
    "Draft",
    "Run",
    "check_history",
    "check_ours",
    "checkout",
    "exists",
    "files_of",
    "finish_swap",
    "load",
    "load_method",
    "misplaced",
    "name_matches",
    "recorded",
    "results_root",
    "settle",
]

APART = ("own", "quick")  # folders of the data folder that hold runs which are none of the book's
FORMAT = 1
RECORD = "run.json"
CHECKPOINT = "checkpoint.safetensors"
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
        """What was measured; what could not be is None in the record, whose ``unmeasured`` says why."""
        return {name: value for name, value in self.record["metrics"].items() if value is not None}

    def history(self) -> list[dict[str, float]]:
        """One dictionary an epoch: epoch, learning rate, mean of each term, seconds.

        Raises:
            RunError: it is no history.
        """
        file = self.path / HISTORY
        try:
            history = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        except ValueError as error:
            raise RunError(f"{file} is damaged ({error}); restore it or train again") from error
        check_history(history, file)
        return history

    def weights(self) -> dict[str, Tensor]:
        """What the method keeps of its state (:meth:`wwae_lib.methods.Method.kept`), in float32.

        Raises:
            RunError: the weights were left out of this copy.
        """
        return {k: v.float() for k, v in read_tensors(self._file(WEIGHTS), checked=False)[0].items()}

    def codes(self) -> dict[str, Tensor]:
        """``mean`` and ``std`` ``(n, latent)`` float32 and ``label`` ``(n,)`` of test images' codes.

        Raises:
            RunError: the codes were left out of this copy.
        """
        tensors, _ = read_tensors(self._file("codes.safetensors"), checked=False)
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

    def add_metrics(
        self, metrics: dict[str, float], unmeasured: dict[str, str] | None = None, **more: Any
    ) -> Run:
        """The run with metrics added (and other entries replaced), written at once.

        Args:
            metrics: by name; what is not finite is recorded as None, with the reason.
            unmeasured: why others could not be measured.
            more: entries of the record.
        """
        measured, why = _measured({**metrics, **dict.fromkeys(unmeasured or {})})
        whole = self.record["metrics"] | measured
        reasons = self.record.get("unmeasured", {}) | why | (unmeasured or {})
        record = self.record | more | {"metrics": whole}
        record["unmeasured"] = {name: reason for name, reason in reasons.items() if whole.get(name) is None}
        if not record["unmeasured"]:
            del record["unmeasured"]
        write_json(self.path / RECORD, record)
        return Run(self.path, record)


def load(path: Path | str) -> Run:
    """Read a run from its folder, or by its name below the results folder, such as ``mnist/wwae/seed-0``.

    What is not there is looked for where ``train`` keeps runs on own pictures and on embedded digits.
    Nothing is written: where a process was killed while it replaced a run, the whole one beside it is read.

    Raises:
        RunError: there is no run, or it is damaged, of a newer format, not of this library, or of another
            experiment than its folder's name says.
    """
    folder = Path(path).expanduser().absolute()
    if folder.is_file() and exists(folder.parent):
        folder = folder.parent
    if not exists(folder):
        apart = (data_root() / name for name in APART)
        places = [root / path for root in (results_root(), *apart)]  # an absolute path stays itself
        folder = next(filter(exists, places), places[0])
    if not (folder / RECORD).exists():
        for place in (_new(folder), _old(folder)):
            if _holds_a_run(place):
                return _load(place)
    run = _load(folder)
    if misplaced(run.experiment, folder):
        raise RunError(f"{folder} holds {run.experiment.name}: move it where its name says, or take it away")
    return run


def load_method(run: Run | Path | str) -> Method:
    """The trained method of a run, in evaluation mode, on the CPU; its weights need no gradients.

    Args:
        run: the run, its folder, or its name below the results folder, such as ``mnist/wwae/seed-0``.

    Raises:
        RunError: there is no such run, it is damaged, or its weights were left out of this copy.
    """
    run = run if isinstance(run, Run) else load(run)
    method = build(run.experiment)
    try:
        adversaries = method.state_dict().keys() - method.kept().keys()  # which a run does not keep
        keys = method.load_state_dict(run.weights(), strict=False)
        # torch does not report counters of batches that are missing: it sets them to 0
        if keys.unexpected_keys or not set(keys.missing_keys) <= adversaries:
            raise RuntimeError(f"unexpected {keys.unexpected_keys}, missing {keys.missing_keys}")
    except RuntimeError as error:
        raise RunError(
            f"{run.path}: the weights are not those of its configuration ({' '.join(str(error).split())})"
        ) from error
    return method.requires_grad_(False).eval()


def exists(folder: Path) -> bool:
    """Whether there is a run, or what a process left of one that was killed while it replaced it."""
    return any((place / RECORD).exists() for place in (folder, _new(folder), _old(folder)))


def misplaced(experiment: Experiment, folder: Path) -> bool:
    """Whether a folder has the name of another experiment's run: each part that is like a name is one."""
    dataset, method, seed = Path(experiment.name).parts
    if not folder.name.startswith("seed-"):
        return False
    if folder.name != seed:
        return True
    if folder.parent.name.partition("-")[0] not in METHODS:
        return False
    of = folder.parent.parent.name
    return folder.parent.name != method or (of in DATASETS | OWN and of != dataset)


def _load(folder: Path) -> Run:
    run = Run(folder, _read_record(folder / RECORD))
    for name in files_of(run.experiment):
        file = folder / name
        if name != HISTORY and not file.exists():
            continue
        if not file.is_file():
            raise RunError(f"{file} is missing; restore it or train again")
        if sha256(file) != run.record["files"].get(name):
            raise RunError(f"{file} is not the file that {RECORD} recorded; restore it or train again")
    return run


def _holds_a_run(folder: Path) -> bool:
    """Whether a folder holds a whole run."""
    try:
        return bool(_load(folder))
    except RunError:
        return False


# Fields of an experiment that every record has; later ones have the value that earlier runs had.
CONFIGURATION = (
    *("dataset", "method", "seed", "variant", "network", "latent", "initial_std", "penalty_weight"),
    *("estimator", "epochs", "batch_size", "learning_rate"),
)
_IMAGES = {"split": str, "images": int, "sha256": str}
# What a record holds: each key and its type. A key with ? may be missing, * is any other key; None is what
# could not be measured.
_SCHEMA = {
    "format": int,
    "config": dict.fromkeys(CONFIGURATION, object),  # an experiment knows its types
    "environment": {
        **{"device": str, "precision": str, "threads": int, "torch": str, "python": str, "git_commit": str},
        **{"train_seconds": float, "*": object},
    },
    "data": {"source": str, "train": _IMAGES, "test": _IMAGES},
    "metrics": {"*": (float, None)},
    "unmeasured?": {"*": str},
    "files": {"*": str},
    "evaluation?": {"*": {"protocol?": str, "features?": str, "images?": int, "*": object}},
    "latent?": {"posterior_variance": [float], "code_variance": [float]},
    "neighbours?": {"images": int, "samples": [float], "test": [float]},
    "*": object,
}


def _fault(value: Any, schema: Any, where: str = "") -> str:
    """What of a value is not as a schema has it; empty where all is."""
    if isinstance(schema, tuple):
        return "" if value is None else _fault(value, schema[0], where)
    if isinstance(schema, list):
        if not isinstance(value, list):
            return f"has no list {where!r}"
        return next(filter(None, (_fault(entry, schema[0], where) for entry in value)), "")
    if isinstance(schema, dict):
        return _fault_of_entries(value, schema, where)
    if schema is float:
        right = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    else:
        right = schema is object or (isinstance(value, schema) and not isinstance(value, bool))
    return "" if right else f"has {value!r:.40} for {where!r}"


def _fault_of_entries(value: Any, schema: dict[str, Any], where: str) -> str:
    if not isinstance(value, dict):
        return f"lacks {where!r}" if where else "is no record"
    place = f"{where}." if where else ""
    for key in schema:
        if key != "*" and not key.endswith("?") and key not in value:
            return f"lacks {place + key!r}"
    kinds = {"*": object} | {key.rstrip("?"): kind for key, kind in schema.items()}
    faults = (_fault(entry, kinds.get(key, kinds["*"]), place + key) for key, entry in value.items())
    return next(filter(None, faults), "")


def _read_record(file: Path) -> dict[str, Any]:
    """What ``run.json`` holds, if it describes a run of this library."""
    if not file.exists():
        raise RunError(f"there is no run in {file.parent}: run.json is missing; train it, or check the name")
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        version = record["format"]
    except (ValueError, TypeError, KeyError, OSError, RecursionError) as error:
        raise RunError(
            f"{file} is damaged or not a run's record ({error!r:.200}); restore it or train again"
        ) from error
    if version != FORMAT or isinstance(version, bool):
        raise RunError(f"{file} has format {version!r}, this library reads {FORMAT}; update the library")
    if fault := _fault(record, _SCHEMA):
        raise RunError(f"{file} {fault}: it is damaged or not a run's record; restore it or train again")
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
    root = Path(results or results_root())
    folders = sorted(record.parent for record in root.glob("*/*/*/run.json"))
    return [
        load(folder)
        for folder in folders
        if not folder.name.startswith(".")  # a draft, or what is being replaced
        and name_matches(folder.relative_to(root).as_posix(), patterns or ("*",))
    ]


def check_history(history: Any, file: Path) -> None:
    """Refuse what is not a dictionary of finite numbers for each epoch, from the first on.

    Raises:
        RunError: it is not; the message names the file that it is from.
    """
    if fault := _fault(history, [{"epoch": int, "*": float}], "history"):
        raise RunError(f"{file} {fault}; restore it or train again")
    if [line["epoch"] for line in history] != list(range(1, len(history) + 1)):
        raise RunError(f"{file} has not every epoch of its history; restore it or train again")


@dataclass(frozen=True)
class Draft:
    """A run that is being trained: where it will be, and the hidden folder that holds it until then.

    Only one process may change it (:func:`wwae_lib.files.owned`).
    """

    path: Path

    def __post_init__(self) -> None:
        # A run behind a symbolic link is replaced where it is, which may be on another disk.
        object.__setattr__(self, "path", self.path.resolve())

    @property
    def folder(self) -> Path:
        return self.path.with_name(f".{self.path.name}.draft")

    @property
    def checkpoint(self) -> Path:
        return self.folder / CHECKPOINT

    def save_checkpoint(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Write a checkpoint, and then its history, for people to follow."""
        write_tensors(self.checkpoint, tensors, state=json.dumps(state))
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
            raise RunError(
                f"{self.checkpoint} has format {version!r}, and this library reads {FORMAT}: another version "
                "wrote it, and can resume it"
            )
        if missing := {"epoch", "history", "experiment", "images"} - state.keys():
            raise RunError(f"{self.checkpoint} lacks {', '.join(sorted(missing))}: it is damaged or foreign")
        return tensors, state

    def publish(self, record: dict[str, Any]) -> Run:
        """Make the draft the run: complete its record, swap the folders, delete the checkpoint.

        Raises:
            RunError: there is no room for it, or files in the way that are no part of a run.
        """
        check_ours(self.path)
        new = _new(self.path)
        _delete(new)
        names = files_of(experiment(**record["config"]))
        for name in names:
            with write_atomically(new / name) as part:
                shutil.copyfile(self.folder / name, part)
        files = {name: sha256(new / name) for name in names}
        metrics, unmeasured = _measured(record["metrics"])
        whole = {"format": FORMAT, **record, "metrics": metrics, "files": files}
        write_json(new / RECORD, whole | ({"unmeasured": unmeasured} if unmeasured else {}))
        finish_swap(self.path)
        if new.exists():
            raise RunError(f"{new} is not as it was written; the training is kept in {self.folder}")
        self.discard()
        return Run(self.path, _read_record(self.path / RECORD))

    def discard(self) -> None:
        """Delete what there is of it."""
        _delete(self.folder)


def _new(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def _old(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def finish_swap(path: Path) -> None:
    """Replace a run by the newer one beside it, also where an earlier process was killed while it did so.

    For the run's owner alone. The newer one, ``.new``, is complete once it holds run.json, which is written
    last. Only whole runs are moved, and only runs are deleted.

    Raises:
        RunError: there are files in the way that are no part of a run.
    """
    new, old = _new(path), _old(path)
    if _holds_a_run(new):
        if path.exists():
            check_ours(path)
            _delete(old)
            path.rename(old)
        new.rename(path)
    elif not path.exists() and _holds_a_run(old):
        old.rename(path)
    if path.exists():
        _delete(old)


def settle(path: Path) -> None:
    """Finish what a process was killed in while it replaced a run (:func:`finish_swap`), as the run's owner.

    Raises:
        RunError: as :func:`finish_swap`; or another process is the owner.
    """
    if _new(path).exists() or _old(path).exists():
        with owned(path):
            finish_swap(path)


def check_ours(*folders: Path) -> None:
    """Refuse folders that hold anything but a run's files: a new run takes their place.

    Raises:
        RunError: one does; the message names what.
    """
    for folder in folders:
        if folder.exists() and not folder.is_dir():
            raise RunError(f"{folder} is in the way, and no folder of a run; move it away")
        names = [file.name for file in folder.iterdir() if not _is_ours(file)] if folder.exists() else []
        if names:
            raise RunError(
                f"{folder} holds what is no part of a run and would be lost: {', '.join(sorted(names)[:3])}; "
                "move it away, or train another --variant"
            )


def _is_ours(file: Path) -> bool:
    name, part, _ = file.name.partition(".part")
    return name in (*FILES, RECORD, CHECKPOINT) and (bool(part) or not file.is_dir())


def _delete(folder: Path) -> None:
    """Delete a folder of a run, and nothing else."""
    if folder.is_symlink():  # of which versions before this one could leave one
        folder.unlink()
    check_ours(folder)
    if folder.exists():
        (folder / RECORD).unlink(missing_ok=True)  # first, or a half-deleted folder would count as complete
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def _measured(metrics: dict[str, float | None]) -> tuple[dict[str, float | None], dict[str, str]]:
    """Metrics, None in place of what is not finite; and why, by the metric's name."""
    why = {name: f"not finite: {x}" for name, x in metrics.items() if x is not None and not math.isfinite(x)}
    return metrics | dict.fromkeys(why), why
