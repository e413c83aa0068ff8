"""What a step would do on a GPU, without one: torch's fake tensors have a device and a shape, but no values.

A step that looked at a value, and so waited for the device, cannot be taken with them, nor one that mixes
devices. Only what runs backward is asked on a fake CPU, for autograd's engine wants a true GPU.
"""

from __future__ import annotations

import functools

import pytest
import torch
from conftest import small
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from wwae_lib import experiments, gaussian, methods, training
from wwae_lib.data import DATASETS
from wwae_lib.exact_draws import expected_root_trace
from wwae_lib.experiments import Experiment
from wwae_lib.methods import METHODS
from wwae_lib.penalties import ESTIMATORS
from wwae_lib.steps import Steps


def losses(experiment: Experiment, device: str, backward: bool) -> None:
    """Every player's loss, and its gradient if asked for."""
    with torch.device(device):
        method = experiments.build(experiment).train()
        batch = torch.zeros(experiment.batch_size, *DATASETS[experiment.dataset].shape, dtype=torch.uint8)
    for player in method.players:
        loss = method(batch, player)
        assert loss.total.device.type == device and loss.total.ndim == 0
        if backward:
            loss.total.backward()
            assert all(weight.grad is not None for weight in method.weights(player))


class Plain:
    """In place of Fabric: what it would wrap as it is, and gradients without autograd's engine."""

    def __init__(self, method: methods.Method):
        self.module = method

    def __call__(self, batch, player):
        return self.module(batch, player)

    def backward(self, total):
        for weight in self.module.parameters():
            weight.grad = torch.zeros_like(weight)


@pytest.mark.parametrize("method", METHODS)
def test_a_step_waits_for_nothing(method, monkeypatch):
    """Images, learning rate, log and counter are on the device, and all that fused Adam's kernel reads."""
    none, moved = torch.zeros, []

    def kernel(weights, gradients, *moments, lr, **options):
        assert lr.dtype == torch.float32
        assert {tensor.device.type for group in (weights, *moments, [lr]) for tensor in group} == {"cuda"}
        for weight, gradient, *own in zip(weights, gradients, *moments[:2], strict=True):
            assert {tensor.stride() for tensor in own} == {weight.stride()} and gradient.dtype == weight.dtype
        moved.append(len(weights))

    monkeypatch.setattr(methods.WGANGP, "gradient_penalty", lambda self, real, made: none((), device="cuda"))
    monkeypatch.setattr(torch, "_fused_adam_", kernel)
    with FakeTensorMode():
        with torch.device("cuda"):
            plain = Plain(experiments.build(small(method)).train())
            pixels = torch.zeros(300, *DATASETS["mnist"].shape, dtype=torch.uint8)
        players = plain.module.players
        with monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, "__ge__", lambda rate, zero: True)  # at which Adam looks, this once
            adams = {player: training._adam(plain.module, player, 1e-3) for player in players}
        assert all(adam.param_groups[0]["capturable"] for adam in adams.values())
        steps = Steps(plain, plain, adams, pixels, 64, 4, capture=False)
        steps.take(players)
        steps.take(players[:1])
    assert moved == [len(list(plain.module.weights(player))) for player in (*players, players[0])]
    assert {tensor.device.type for tensor in (*steps.log.values(), steps.step, steps.order)} == {"cuda"}


@pytest.mark.parametrize("network", ["tiny", "reference"])
@pytest.mark.parametrize("method", METHODS)
def test_a_loss_waits_for_nothing(method, network, monkeypatch):
    """But for WGAN-GP's inner gradient, which wants the engine."""
    none = torch.zeros
    monkeypatch.setattr(methods.WGANGP, "gradient_penalty", lambda self, real, made: none((), device="cuda"))
    with FakeTensorMode():
        losses(small(method, network=network), "cuda", backward=False)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_no_estimator_looks_at_a_value(estimator):
    """But inside the eigensolver ``corrected`` and ``accumulated`` wait, for its report of success."""
    experiment = small(estimator=estimator)
    expected_root_trace(experiment.batch_size, experiment.latent)  # computed once, on the CPU
    with FakeTensorMode():
        losses(experiment, "cuda", backward=False)


@pytest.mark.parametrize("method", METHODS)
def test_a_gradient_waits_for_nothing(method, monkeypatch):
    by_products = functools.partial(gaussian.w2_penalty, eigensolver=False)  # as on a GPU
    monkeypatch.setattr(gaussian, "w2_penalty", by_products)
    with FakeTensorMode():
        losses(small(method), "cpu", backward=True)


def test_a_step_that_waits_is_noticed(monkeypatch):
    """As the penalty by eigenvalues, which are looked at."""
    monkeypatch.setattr(gaussian, "looking_is_free", lambda points: True)
    with FakeTensorMode(), pytest.raises(DataDependentOutputException):
        losses(small(), "cpu", backward=True)
