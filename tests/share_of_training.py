"""Run by test_distributed.py, by torchrun in two processes and by itself in one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from conftest import first_of_each_class, small, stand_in
from torch import nn

from wwae_lib import data, methods, processes, runs, training
from wwae_lib.measures import evaluation
from wwae_lib.penalties import ESTIMATORS

N, D = 12, 3
TRAINED = ("wwae", "wae_mmd", "wae_gan", "gan")  # the last with batch normalisation
CASES = {
    **{f"wwae-{name}": ("wwae", {"estimator": name}) for name in ESTIMATORS},
    **{name: (name, {}) for name in methods.METHODS if name != "wwae"},
    **{f"normed-{name}": (name, {}) for name in ("wwae", "vae", "gan")},
}


class Wide(nn.Module):
    """Images or codes to images, scores, or the mean and log-variance of codes, in float64."""

    def __init__(self, inputs: int, outputs: int, kind: str, normed: bool):
        super().__init__()
        layers = [nn.Linear(inputs, outputs)]
        if normed:
            layers += [nn.BatchNorm1d(outputs)]
            if outputs % 2 == 0:  # so many images of two channels
                layers += [nn.Unflatten(1, (2, outputs // 2, 1)), nn.BatchNorm2d(2), nn.Flatten()]
        self.kind, self.layer = kind, nn.Sequential(*layers)

    def forward(self, given):
        answer = self.layer(given.flatten(1)).tanh()
        if self.kind == "codes":
            mean, log_variance = answer.chunk(2, dim=1)
            return mean, log_variance
        return answer[:, 0] if self.kind == "scores" else answer.sigmoid().unflatten(1, (1, 2, 2))

    def logits(self, codes):
        return self.layer(codes).unflatten(1, (1, 2, 2))


def build(case: str) -> methods.Method:
    torch.manual_seed(1)
    (name, options), normed = CASES[case], case.startswith("normed-")
    kind, decoder = methods.METHODS[name], Wide(D, 4, "images", normed)
    if name in ("gan", "wgan_gp"):
        return kind(Wide(4, 1, "scores", normed), decoder, D).double()
    if name == "wae_gan":
        options = {"discriminator": Wide(D, 1, "scores", normed)}
    return kind(Wide(4, 2 * D, "codes", normed), decoder, D, penalty_weight=2.0, **options).double()


def losses_and_gradients(case: str, fabric) -> dict[str, torch.Tensor]:
    """Every player's loss on the whole batch, averaged over processes, gradients, and running means."""
    method = build(case)
    players = method.players
    optimizers = [torch.optim.SGD(method.weights(player), lr=0.0) for player in players]
    processes.normalise_whole_batch(method)
    method, *_ = fabric.setup(method, *optimizers)
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(N, 1, 2, 2, dtype=torch.float64, generator=generator)
    results = {}
    for player in players:
        torch.manual_seed(3)
        method.zero_grad()
        loss = method(processes.share(images), player)
        fabric.backward(loss.total)
        results[f"{case} {player}"] = fabric.all_reduce(loss.total.detach(), reduce_op="mean")
        for number, weight in enumerate(method.module.weights(player)):
            results[f"{case} {player} {number}"] = weight.grad.clone()
        for name, running in method.module.named_buffers():
            results[f"{case} {player} {name}"] = running.double()
    return results


def train(folder: Path, fabric) -> None:
    """Two epochs each of three methods."""
    images = first_of_each_class(data.embedded_digits("train"), 40)
    tests = first_of_each_class(data.embedded_digits("test"), 10)
    for method in TRAINED:
        experiment = small(method, epochs=2)
        training.train(experiment, images, tests, results=folder, fabric=fabric, progress=False)


def interrupt(folder: Path, fabric) -> None:
    """A training of three epochs, stopped in every process as its second begins."""
    images = first_of_each_class(data.embedded_digits("train"), 40)
    seed, begun = training.reseed, []

    def stopping(*entropy):
        seed(*entropy)
        begun.append(entropy)
        if len(begun) == 3:  # the weights, the first epoch, the second
            raise KeyboardInterrupt

    training.reseed = stopping
    try:
        training.train(small(epochs=3), images, images, results=folder, fabric=fabric, progress=False)
    except KeyboardInterrupt:
        pass
    finally:
        training.reseed = seed
    fabric.barrier()


def evaluate(folder: Path, fabric) -> None:
    """Every set of a run trained above, by a stand-in for Inception."""
    images = first_of_each_class(data.embedded_digits("train"), 40)
    tests = first_of_each_class(data.embedded_digits("test"), 10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WWAE_DATA", str(folder.parent / f"data-{fabric.world_size}"))
        stand_in(patch)
        run = runs.load(folder / small("wwae", epochs=2).name)
        for again in (False, True):  # with the reference's features computed, and from the cache
            options = {"sets": evaluation.SETS, "redo": again, "progress": False}
            run = evaluation.evaluate(run, images, tests, **options)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    fabric = training.choose_fabric("cpu", "64-true")
    results = {}
    for case in CASES:
        results |= losses_and_gradients(case, fabric)
    torch.save(results, folder / f"found-{fabric.world_size}-{fabric.global_rank}.pt")
    plain = training.choose_fabric("cpu", "32-true")
    train(folder / f"results-{fabric.world_size}", plain)
    if fabric.world_size == 2:
        fabric.barrier()
        evaluate(folder / "results-2", plain)
    if fabric.world_size == 2:
        interrupt(folder / "interrupted", plain)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
