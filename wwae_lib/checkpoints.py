"""How does an interrupted training go on? When a checkpoint is due, what it holds, and which is refused."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from torch import Tensor

from . import files, runs
from .experiments import Experiment
from .methods import Method
from .steps import loss_name

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["Checkpoints", "TrainingDiverged", "environment", "trained_in"]

SAVING = 0.05  # the share of the time that the checkpoints of all trainings on a GPU may take together


class TrainingDiverged(files.RunError):
    """A term of the loss stopped being finite; the message names it and the checkpoint that is kept."""


class Checkpoints:
    """A training's checkpoints, and when the next is due.

    On a CPU the next is due after every epoch. On a GPU an epoch can be shorter than its checkpoint. There
    all checkpoints together, the last one included, take no more than a share of the time.
    """

    def __init__(self, draft: runs.Draft | None, identity: dict[str, Any], fabric: Fabric, at_once: int):
        self.draft, self.identity, self.epoch, self.fabric = draft, identity, 0, fabric
        self.environment = environment(fabric, at_once) if draft else {}  # its commit is the one that trains
        self.sittings: list[dict[str, Any]] = []  # those before this one, in other environments
        self.share = math.inf if fabric.device.type == "cpu" else SAVING / at_once
        self.began, self.spent, self.cost = time.perf_counter(), 0.0, 0.0

    def restore(self, method: Method, optimizers: Mapping[str, torch.optim.Optimizer]) -> tuple[int, list]:
        """Load the last checkpoint, if there is one; the epochs done and their history."""
        history: list[dict[str, float]] = []
        if self.draft and self.draft.checkpoint.exists():
            self.epoch, history, before = _restore(self.draft, method, optimizers, self.identity)
            self.sittings = before.pop("sittings", [])
            if before and before != self.environment:
                self.sittings = [*self.sittings, before | {"epochs_done": self.epoch}]
            if self.fabric.is_global_zero:  # a killed process may have left an older history
                self.draft.write_history(history)
        return self.epoch, history

    def due(self, last: bool) -> bool:
        """Whether to save now; always after the last epoch."""
        if not self.draft or not self.fabric.is_global_zero:
            return False
        # what was spent, this one, and the last one
        return last or self.spent + 2 * self.cost <= self.share * (time.perf_counter() - self.began)

    def save(self, epoch: int, history: list, method: Method, optimizers: dict[str, Any]) -> None:
        assert self.draft is not None, "due only where there is one"
        start = time.perf_counter()
        state = {"format": runs.FORMAT, "epoch": epoch, "history": history, **self.identity}
        here = self.environment | ({"sittings": self.sittings} if self.sittings else {})
        self.draft.save_checkpoint(_tensors(method, optimizers), state | {"environment": here})
        self.epoch, self.cost = epoch, time.perf_counter() - start
        self.spent += self.cost

    def diverged(self, place: str) -> TrainingDiverged:
        """The error that says what is not finite, and which checkpoint is kept."""
        kept = "no epoch was saved, so there is no checkpoint"
        if self.draft and self.draft.checkpoint.exists():
            kept = f"the checkpoint of epoch {self.epoch} is kept in {self.draft.folder}"
        return TrainingDiverged(
            f"{place} stopped being finite; {kept}. "
            "A smaller learning_rate or penalty_weight, or precision 32-true, usually helps."
        )


def _tensors(method: Method, optimizers: dict[str, Any]) -> dict[str, Tensor]:
    """Method and every player's optimiser as one flat dictionary of tensors."""
    tensors = {f"method.{name}": value for name, value in method.state_dict().items()}
    for player, optimizer in optimizers.items():
        for number, entries in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{player}.{number}.{name}": value for name, value in entries.items()}
    return tensors


def _restore(
    draft: runs.Draft, method: Method, optimizers: Mapping[str, torch.optim.Optimizer], identity: dict
) -> tuple[int, list[dict[str, float]], dict[str, Any]]:
    """Load a checkpoint into method and optimizers; the epochs done, their history, and where they were."""
    try:
        tensors, state = draft.load_checkpoint()
        _check_checkpoint(draft.checkpoint, tensors, state, identity, method)
    except files.RunError as error:
        raise files.RunError(f"{error}. Restart to throw it away.") from error
    weights: dict[str, Tensor] = {}
    moments: dict[str, dict[int, dict[str, Tensor]]] = {player: {} for player in optimizers}
    for name, value in tensors.items():
        kind, rest = name.split(".", 1)
        if kind == "method":
            weights[rest] = value
        else:
            player, number, entry = rest.split(".", 2)
            layout = torch.channels_last if value.ndim == 4 else torch.contiguous_format
            moments[player].setdefault(int(number), {})[entry] = value.contiguous(memory_format=layout)
    method.load_state_dict(weights)
    for player, optimizer in optimizers.items():
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": moments[player], "param_groups": groups})
    return state["epoch"], state["history"], state.get("environment") or {}


def _check_checkpoint(
    file: Path, tensors: dict[str, Tensor], state: dict[str, Any], identity: dict[str, Any], method: Method
) -> None:
    """Refuse a checkpoint that another training wrote, or that is not what this one would have written."""
    if changes := _changes(state, identity):
        raise files.RunError(f"{file} belongs to another training: {changes}")
    epoch, epochs = state["epoch"], identity["experiment"]["epochs"]
    if type(epoch) is not int or not 1 <= epoch <= epochs:
        raise files.RunError(f"{file} is of epoch {epoch!r:.40}, of {epochs}")
    runs.check_history(state["history"], file)
    if len(state["history"]) != epoch:
        raise files.RunError(f"{file} is of epoch {epoch}, and its history of {len(state['history'])}")
    expected = {f"method.{name}": value.shape for name, value in method.state_dict().items()}
    for player in method.players:
        if any(loss_name(player) in line for line in state["history"]):  # it has moved
            for number, weight in enumerate(method.weights(player)):
                shapes = {"step": (), "exp_avg": weight.shape, "exp_avg_sq": weight.shape}
                expected |= {f"optimizer.{player}.{number}.{x}": shape for x, shape in shapes.items()}
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors or name not in expected:
            raise files.RunError(f"{file} {'lacks' if name in expected else 'has an unknown'} {name}")
        if tensors[name].shape != expected[name]:
            actual, right = tuple(tensors[name].shape), tuple(expected[name])
            raise files.RunError(f"{file} has {name} of shape {actual} where the method has {right}")


def _changes(state: dict[str, Any], identity: dict[str, Any]) -> str:
    """How a checkpoint's experiment and images differ from those at hand, in words."""
    recorded = state["experiment"] if isinstance(state["experiment"], dict) else {}
    if changes := Experiment(**identity["experiment"]).changes_from(recorded):
        return "; ".join(changes)
    return "" if state["images"] == identity["images"] else "the training images are not those it began with"


def environment(fabric: Fabric, at_once: int = 1) -> dict[str, Any]:
    """What a run's record says about where it was computed, ``at_once`` trainings sharing the device."""
    device = fabric.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "device": f"{device.type} ({name})",
        "precision": str(fabric._precision.precision),
        "threads": torch.get_num_threads(),
        "processes": fabric.world_size,
        "trainings_at_once": at_once,
        "git_commit": _git_commit(),
    }


def trained_in(draft: runs.Draft) -> dict[str, Any]:
    """Where the last epoch was computed, which need not be where the run is published."""
    with safe_open(draft.checkpoint, "pt") as file:
        return json.loads(file.metadata()["state"])["environment"]


def _git_commit() -> str:
    """WWAE_COMMIT, for copies without git; else the checkout's commit, marked where files differ from it."""
    if commit := os.environ.get("WWAE_COMMIT"):
        return commit
    # A copy without git may lie in somebody else's repository.
    if not (root := runs.checkout()) or not (root / ".git").exists():
        return "not from a git checkout"
    variables = {
        name: value for name, value in os.environ.items() if not name.startswith("GIT_")
    }  # a hook's, say
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            cwd=root, capture_output=True, text=True, check=True, env=variables,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "not from a git checkout"
    return described.stdout.strip()
