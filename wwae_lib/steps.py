"""How is a step of training taken, so that a GPU can repeat it by itself?

A step reads and writes tensors that stay in place. A counter on the device, and no number of the host,
decides which images, which learning rate and which row of the log it uses. So a GPU that has recorded a step
once, as a CUDA graph, repeats it with a single launch. Elsewhere the same operations are called one by one.
The numbers are the same: a graph draws the random numbers that would have been drawn without it.
"""

from __future__ import annotations

import collections
import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from . import processes
from .methods import Loss, Method

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["Lane", "NotFinite", "Steps", "can_capture", "loss_name", "rate_dtype"]

WARM_UP = 3  # steps called one by one before one is recorded: libraries set themselves up in them


class Steps:
    """The steps of a training, epoch after epoch.

    Args:
        fabric, method, optimizers: as ``fabric.setup`` gave them; the learning rates are tensors.
        pixels: uint8 images ``(n, ...)`` on the device.
        size: images of a step, those of all processes together.
        count: steps of an epoch.
        capture: record steps and replay them.
    """

    def __init__(
        self,
        fabric: Fabric,
        method: Any,
        optimizers: dict[str, Any],
        pixels: Tensor,
        size: int,
        count: int,
        capture: bool,
    ):
        self.fabric, self.method, self.optimizers, self.pixels = fabric, method, optimizers, pixels
        device = pixels.device
        self.order = torch.zeros(count, size, dtype=torch.int64, device=device)
        self.rates = torch.zeros(count, dtype=rate_dtype(device), device=device)
        self.step = torch.zeros(1, dtype=torch.int64, device=device)
        self.names: dict[str, list[str]] = {}
        self.log: dict[str, Tensor] = {}  # of each player: a row a step, a column a term
        self.moved: dict[str, list[int]] = {}  # the steps of this epoch in which each player moved
        self.taken = 0
        self.capture = capture
        self.warmed_up: collections.Counter[tuple[str, ...]] = collections.Counter()
        self.graphs: dict[tuple[str, ...], torch.cuda.CUDAGraph] = {}

    def begin(self, order: Tensor, rates: Sequence[float]) -> None:
        """Start an epoch, with its images in the order of the steps, and the learning rate of each step."""
        self.order.copy_(order.view_as(self.order))
        self.rates.copy_(torch.tensor(rates, dtype=self.rates.dtype))
        self.step.zero_()
        self.moved = {player: [] for player in self.moved}
        self.taken = 0

    def take(self, players: tuple[str, ...]) -> None:
        """Take the epoch's next step, in which these players move in this order, without waiting for it."""
        if not self.capture or self.warmed_up[players] < WARM_UP:
            self._take(players)
            self.warmed_up[players] += 1
        else:
            if players not in self.graphs:
                self.graphs[players] = self._record(players)
            self.graphs[players].replay()
        for player in players:
            self.moved.setdefault(player, []).append(self.taken)
        self.taken += 1

    def _take(self, players: tuple[str, ...]) -> None:
        """What is recorded: nothing here may look at a value, or pass on a number that changes."""
        rows = self.order[self.step][0]
        batch = self.pixels[processes.share(rows)]
        rate = self.rates[self.step][0]
        for player in players:
            optimizer = self.optimizers[player]
            for group in optimizer.param_groups:
                group["lr"].copy_(rate * self.method.module.rates.get(player, 1))
            loss = self.method(batch, player)
            optimizer.zero_grad()
            self.fabric.backward(loss.total)
            optimizer.step()
            self._note(player, loss)
        self.step += 1

    def _note(self, player: str, loss: Loss) -> None:
        terms = torch.stack([loss.total, *loss.terms.values()]).detach()
        if player not in self.log:
            self.names[player] = [loss_name(player), *loss.terms]
            self.log[player] = terms.new_zeros(len(self.rates), len(terms))
        self.log[player].index_copy_(0, self.step, terms[None])

    def _record(self, players: tuple[str, ...]) -> torch.cuda.CUDAGraph:
        # On the stream of the steps before, where libraries have their workspaces. Each graph has memory of
        # its own, the gradients' included: no step reads what another left there.
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=torch.cuda.current_stream(self.pixels.device)):
            self._take(players)  # which does nothing yet
        return graph

    def close(self) -> None:
        """Free the graphs: those of a stream share workspaces, so they go before its next training comes."""
        if self.graphs:
            torch.cuda.synchronize(self.pixels.device)
            self.graphs.clear()

    def means(self) -> dict[str, float]:
        """Means of the epoch's terms so far, over all processes, which waits for the device.

        Raises:
            NotFinite: a term was NaN or infinite.
        """
        means, first_bad = {}, {}
        for player, moved in self.moved.items():
            if not moved:
                continue
            steps = torch.tensor(moved)
            rows = self.log[player].cpu()[steps]
            bad = torch.where(rows.isfinite(), math.inf, steps[:, None].double()).amin(0)
            first_bad[player] = self._over_processes(bad, "min")
            means |= zip(self.names[player], self._over_processes(rows.double().mean(0), "mean"), strict=True)
        player = min(first_bad, key=lambda player: min(first_bad[player]))  # the first of those in one step
        if (step := min(first_bad[player])) < math.inf:
            terms = zip(self.names[player], first_bad[player], strict=True)
            raise NotFinite(int(step) + 1, [name for name, first in terms if first == step])
        return means

    def _over_processes(self, values: Tensor, how: str) -> list[float]:
        if processes.count() > 1:
            values = cast(Tensor, self.fabric.all_reduce(values.to(self.pixels.device), reduce_op=how))
        return values.tolist()


class NotFinite(Exception):
    """Some terms of the loss were NaN or infinite at a step, counted from 1; the message names both."""

    def __init__(self, step: int, terms: list[str]):
        guilty = [name for name in terms if "loss" not in name] or terms
        super().__init__(f"step {step}: {' and '.join(guilty)}")


def can_capture(device: torch.device, method: Method) -> bool:
    """Whether steps can be recorded: on one CUDA device, by a method whose loss does not wait for it."""
    return device.type == "cuda" and processes.count() == 1 and not method.waits


def loss_name(player: str) -> str:
    """What a history calls the loss of a player."""
    return "loss" if player == "model" else f"{player}_loss"


def rate_dtype(device: torch.device) -> torch.dtype:
    """The dtype of a learning rate on a device: fused Adam reads float32 on a GPU, and any on a CPU."""
    return torch.float64 if device.type == "cpu" else torch.float32


class Lane:
    """A training's own random numbers and, on a GPU, its own stream, so that trainings can take turns.

    Within ``with lane.active():`` torch's default generators are the lane's, and work is queued on its
    stream.
    """

    def __init__(self, device: torch.device):
        self.device, self.numbers = device, []
        if device.type == "cuda":
            self.stream = torch.cuda.Stream(device)
            self.generator = torch.Generator(device)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        modules = (torch, *[torch.mps] * (self.device.type == "mps"))  # each with a default generator
        outside = [module.get_rng_state() for module in modules]
        for module, state in zip(modules, self.numbers or outside, strict=True):
            module.set_rng_state(state)
        try:
            with self._on_stream() if self.device.type == "cuda" else contextlib.nullcontext():
                yield
        finally:
            self.numbers = [module.get_rng_state() for module in modules]
            for module, state in zip(modules, outside, strict=True):
                module.set_rng_state(state)

    @contextlib.contextmanager
    def _on_stream(self) -> Iterator[None]:
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        default = torch.cuda.default_generators[self.stream.device.index]
        outside, benchmark = default.graphsafe_get_state(), torch.backends.cudnn.benchmark
        default.graphsafe_set_state(self.generator)  # a graph goes on with the generator it was recorded with
        torch.backends.cudnn.benchmark = True  # shapes never change: try out once which algorithm is fastest
        try:
            with torch.cuda.stream(self.stream):
                yield
        finally:
            default.graphsafe_set_state(outside)
            torch.backends.cudnn.benchmark = benchmark
