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

from wwae_lib import gaussian, methods, training
from wwae_lib.data import SHAPES
from wwae_lib.experiments import METHODS, Experiment
from wwae_lib.penalties import ESTIMATORS, expected_root_trace


def step(experiment: Experiment, device: str, backward: bool) -> None:
    """Every player's turn, as :func:`wwae_lib.training.fit` takes it."""
    with torch.device(device):
        method = methods.build(experiment).train()
        batch = torch.zeros(experiment.batch_size, *SHAPES[experiment.dataset], dtype=torch.uint8)
    watch = training._Watch(None)
    for player in method.players:
        loss = method(batch, player)
        assert loss.total.device.type == device and loss.total.ndim == 0
        if backward:
            loss.total.backward()
            assert all(weight.grad is not None for weight in method.weights(player))
        watch.add(1, player, loss)


@pytest.mark.parametrize("network", ["tiny", "reference"])
@pytest.mark.parametrize("method", METHODS)
def test_a_loss_waits_for_nothing(method, network, monkeypatch):
    """But for WGAN-GP's inner gradient, which wants the engine."""
    none = torch.zeros
    monkeypatch.setattr(methods.WGANGP, "gradient_penalty", lambda self, real, made: none((), device="cuda"))
    with FakeTensorMode():
        step(small(method, network=network), "cuda", backward=False)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_no_estimator_looks_at_a_value(estimator):
    """But inside the eigensolver ``corrected`` and ``accumulated`` wait, for its report of success."""
    experiment = small(estimator=estimator)
    expected_root_trace(experiment.batch_size, experiment.latent)  # computed once, on the CPU
    with FakeTensorMode():
        step(experiment, "cuda", backward=False)


@pytest.mark.parametrize("method", METHODS)
def test_a_gradient_waits_for_nothing(method, monkeypatch):
    by_products = functools.partial(gaussian.w2_penalty, eigensolver=False)  # as on a GPU
    monkeypatch.setattr(gaussian, "w2_penalty", by_products)
    with FakeTensorMode():
        step(small(method), "cpu", backward=True)


def test_a_step_that_waits_is_noticed(monkeypatch):
    """As the penalty on a CPU, whose eigenvalues are looked at."""
    with FakeTensorMode(), pytest.raises(DataDependentOutputException):
        step(small(), "cpu", backward=True)
