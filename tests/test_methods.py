"""Each loss is checked against its formula in NumPy, written out here a second time, in float64."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from conftest import small
from scipy import stats
from torch import nn

from wwae_lib import experiments, training
from wwae_lib.exact_draws import expected_root_trace
from wwae_lib.gaussian import moments, w2_squared_to_standard_normal
from wwae_lib.methods import VAE, WWAE, squared_error
from wwae_lib.penalties import (
    ESTIMATORS,
    AccumulatedMoments,
    bias_corrected,
    kl_to_standard_normal,
    posterior_w2_penalty,
)

PLAIN = ("total", "sampled", "diagonal")  # a distance of one batch's moments, no more


@pytest.fixture
def posterior():
    """Means, log-variances and codes of a batch of 7 in 3 dimensions: correlated, off centre."""
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(7, 3)) @ np.array([[1.0, 0.8, 0], [0, 0.5, 0.3], [0, 0, 2.0]]) + [0.5, -1, 0.2]
    log_variance = rng.normal(size=(7, 3)) - 1
    codes = mean + np.exp(log_variance / 2) * rng.normal(size=(7, 3))
    return mean, log_variance, codes


def w2_by_hand(mean: np.ndarray, covariance: np.ndarray) -> float:
    """|m|^2 + tr S + d - 2 tr S^{1/2}"""
    roots = np.sqrt(np.linalg.eigvalsh(covariance))
    return mean @ mean + np.trace(covariance) + len(mean) - 2 * roots.sum()


def penalty_by_hand(mean, log_variance, codes, estimator: str) -> float:
    if estimator == "sampled":
        return w2_by_hand(codes.mean(0), np.cov(codes, rowvar=False))  # divisor n - 1
    covariance = np.cov(mean, rowvar=False) + np.diag(np.exp(log_variance).mean(0))
    if estimator == "corrected":
        n, d = mean.shape
        root_trace = np.sqrt(np.linalg.eigvalsh(covariance)).sum() * d / expected_root_trace(n, d)
        unbiased = (mean.mean(0) ** 2).sum() - np.trace(covariance) / n
        return unbiased + np.trace(covariance) + d - 2 * root_trace
    if estimator == "accumulated":  # a tenth of the way from the prior
        return w2_by_hand(0.1 * mean.mean(0), 0.9 * np.eye(mean.shape[1]) + 0.1 * covariance)
    if estimator == "sliced":
        return w2_by_hand(mean.mean(0), covariance) + codes.shape[1] * sliced_by_hand(codes)
    return w2_by_hand(mean.mean(0), covariance if estimator == "total" else np.diag(np.diag(covariance)))


def sliced_by_hand(codes: np.ndarray) -> float:
    """On 50 lines, which torch's generator draws next: from each point to its part of N(0, 1), in SciPy."""
    lines = torch.randn(50, codes.shape[1], dtype=torch.float64).numpy()
    ranked = np.sort(codes @ (lines / np.linalg.norm(lines, axis=1, keepdims=True)).T, axis=0)
    ends = stats.norm.ppf(np.arange(len(codes) + 1) / len(codes))
    means, variances = stats.truncnorm.stats(ends[:-1], ends[1:], moments="mv")
    return ((ranked - means[:, None]) ** 2 + variances[:, None]).mean()


def memory(latent: int) -> AccumulatedMoments:
    return AccumulatedMoments(latent).double()


def tensors(*arrays, dtype=torch.float64):
    return tuple(torch.tensor(array, dtype=dtype) for array in arrays)


# ---------------------------------------------------------------- penalties


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_w2_penalty_is_its_formula(posterior, estimator):
    torch.manual_seed(4)
    penalty = posterior_w2_penalty(*tensors(*posterior), estimator, memory(3))
    torch.manual_seed(4)
    assert penalty.shape == ()
    assert penalty.item() == pytest.approx(penalty_by_hand(*posterior, estimator), rel=1e-12)


def test_w2_penalty_of_two_codes_worked_out_by_hand():
    """Codes -3 and 1: mean -1, variance 8 with divisor n - 1, so 1 + (sqrt 8 - 1)^2."""
    codes = torch.tensor([[-3.0], [1.0]], dtype=torch.float64)
    nothing = torch.full_like(codes, -torch.inf)  # no variance of its own: the code is the mean
    for estimator in PLAIN:
        penalty = posterior_w2_penalty(codes, nothing, codes, estimator).item()
        assert penalty == pytest.approx(1 + (math.sqrt(8) - 1) ** 2, rel=1e-12)


def test_sliced_sees_what_two_moments_cannot_and_little_in_draws_of_the_prior():
    """Codes on a circle have the prior's mean and covariance; every line sees the arcsine law in N(0, 1)."""
    torch.manual_seed(0)
    angles = torch.arange(500) * (2 * math.pi / 500)
    circle = math.sqrt(2) * torch.stack([angles.cos(), angles.sin()], 1)
    certain = torch.full_like(circle, -torch.inf)
    seen = {name: posterior_w2_penalty(circle, certain, circle, name).item() for name in ("total", "sliced")}
    shares = (np.arange(10**5) + 0.5) / 10**5
    gap = math.sqrt(2) * np.sin(np.pi * (shares - 0.5)) - stats.norm.ppf(shares)  # between quantiles
    assert seen["total"] < 1e-5 and seen["sliced"] == pytest.approx(2 * (gap**2).mean(), rel=1e-2)
    drawn = torch.randn(500, 2)
    assert posterior_w2_penalty(drawn, certain, drawn, "sliced").item() < 0.05


def test_total_reads_variances_not_standard_deviations():
    """Equal means, variance 4: the aggregated posterior is N(0, 4), at squared distance (2 - 1)^2."""
    mean = torch.zeros(5, 1, dtype=torch.float64)
    log_variance = torch.full_like(mean, math.log(4))
    for estimator in ("total", "diagonal"):
        assert posterior_w2_penalty(mean, log_variance, mean, estimator).item() == pytest.approx(1, rel=1e-12)


def test_diagonal_ignores_correlations_and_total_does_not():
    """Two codes on a line through the origin, rotated: the marginals stay, the penalty does not."""
    line = torch.tensor([[1.0, 1], [-1, -1], [1, 1], [-1, -1]], dtype=torch.float64)
    cross = torch.tensor([[1.0, 1], [-1, -1], [1, -1], [-1, 1]], dtype=torch.float64)
    small_variance = torch.full_like(line, -9.0)
    of = {
        (name, estimator): posterior_w2_penalty(codes, small_variance, codes, estimator).item()
        for name, codes in (("line", line), ("cross", cross))
        for estimator in PLAIN
    }
    assert of["line", "diagonal"] == pytest.approx(of["cross", "diagonal"], rel=1e-12)
    assert of["line", "total"] > of["cross", "total"] + 0.5
    assert of["line", "sampled"] > of["cross", "sampled"] + 0.5


def test_total_is_the_expectation_of_sampled():
    """E[moments of codes] are the total moments; W2^2 of a large batch is nearly linear around them."""
    generator = torch.Generator().manual_seed(0)
    n, d = 20_000, 3
    mean = torch.randn(n, d, generator=generator, dtype=torch.float64) * 0.7 + 0.3
    log_variance = torch.randn(n, d, generator=generator, dtype=torch.float64) * 0.5 - 1
    total = posterior_w2_penalty(mean, log_variance, mean, "total").item()
    sampled = []
    for _ in range(30):
        noise = torch.randn(n, d, generator=generator, dtype=torch.float64)
        sampled.append(
            posterior_w2_penalty(mean, log_variance, mean + (log_variance / 2).exp() * noise, "sampled")
        )
    sampled = torch.stack(sampled)
    error = (sampled.std() / 30**0.5).item()  # of the mean of 30 batches
    assert error < 0.01 * total  # tight enough to mean something
    assert sampled.mean().item() == pytest.approx(total, abs=4 * error)


@pytest.mark.parametrize("estimator", PLAIN)
def test_penalty_is_zero_only_at_the_prior_and_its_gradient_is_finite_there(estimator):
    # Codes whose moments are exactly 0 and I, divisor n - 1 = 3.
    codes = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64) * math.sqrt(0.75)
    codes.requires_grad_()
    log_variance = torch.full((4, 2), -80.0, dtype=torch.float64, requires_grad=True)
    penalty = posterior_w2_penalty(codes, log_variance, codes, estimator)
    penalty.backward()
    assert penalty.item() == pytest.approx(0, abs=1e-14)
    assert codes.grad.abs().max() < 1e-7
    assert log_variance.grad is None or log_variance.grad.isfinite().all()
    assert (
        posterior_w2_penalty(codes.detach() + 0.1, log_variance.detach(), codes.detach() + 0.1, estimator)
        > 0.01
    )


def test_what_is_corrected_is_zero_on_average():
    """Over batches of exact draws the plain penalty reads its bias, the corrected one nothing."""
    n, d, repeats = 64, 16, 400
    codes = torch.randn(repeats, n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean, cov = moments(codes)
    corrected = bias_corrected(mean, cov, n)
    error = (corrected.std() / repeats**0.5).item()
    assert corrected.mean().item() == pytest.approx(0, abs=4 * error + 0.001 * d)
    assert w2_squared_to_standard_normal(mean, cov).mean() > 20 * error


def test_memory_begins_at_the_prior_and_forgets_it():
    """Of equal batches the average tends to the batch, and the gradient is the batch's own by then."""
    codes = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 + 1
    codes.requires_grad_()
    remembered, nothing = memory(3), torch.full_like(codes, -torch.inf)
    for step in range(300):
        value = posterior_w2_penalty(codes, nothing, codes, "accumulated", remembered)
        if step == 0:
            assert value < 0.1 * posterior_w2_penalty(codes, nothing, codes)
    plain = posterior_w2_penalty(codes, nothing, codes)
    torch.testing.assert_close(value, plain)
    torch.testing.assert_close(*(torch.autograd.grad(v, codes)[0] for v in (value, plain)))
    with torch.no_grad():
        remembered.eval()(torch.full((3,), 100.0), torch.eye(3))
    torch.testing.assert_close(remembered.mean, codes.detach().mean(0))  # evaluation leaves no trace
    with pytest.raises(ValueError, match="needs a memory"):
        posterior_w2_penalty(codes, nothing, codes, "accumulated")


@pytest.mark.parametrize("estimator", ["total", "sampled", "corrected"])
@pytest.mark.parametrize("alone", [True, False], ids=["one process", "as in several"])
def test_a_direction_of_little_variance_is_pulled_as_others_are(estimator, alone, monkeypatch):
    """In float32 its eigenvalue is lost beside a large one, and with it the pull."""
    gradients = []
    if not alone:  # the moments as several processes exchange them
        monkeypatch.setattr("wwae_lib.penalties.processes.count", lambda: 2)
        monkeypatch.setattr("wwae_lib.penalties.processes.gather", lambda own: own)
    for dtype in (torch.float32, torch.float64):
        mean = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
        mean = (mean @ torch.linalg.qr(mean[:4]).Q.T * torch.tensor([1, 1, 1, 3e-4])).to(dtype)
        mean.requires_grad_()
        log_variance = torch.full_like(mean, -torch.inf)
        value = posterior_w2_penalty(mean, log_variance, mean, estimator)
        assert value.dtype == dtype
        gradients.append(torch.autograd.grad(value, mean)[0].double())
    assert ((gradients[0] - gradients[1]).norm(dim=0) < 1e-3 * gradients[1].norm(dim=0)).all()


@pytest.mark.parametrize("estimator", ["Total", "", "full"])
def test_unknown_estimator(posterior, estimator):
    with pytest.raises(ValueError, match=r"no estimator .*known: total, sampled, diagonal"):
        posterior_w2_penalty(*tensors(*posterior), estimator)


def test_kl_is_its_formula(posterior):
    mean, log_variance, _ = posterior
    expected = 0.5 * (mean**2 + np.exp(log_variance) - log_variance - 1).sum(1).mean()
    divergence = kl_to_standard_normal(*tensors(mean, log_variance))
    assert divergence.shape == () and divergence.item() == pytest.approx(expected, rel=1e-12)


def test_kl_worked_out_by_hand_and_by_torch(posterior):
    mean_of_one = torch.tensor([[1.0]], dtype=torch.float64)
    assert kl_to_standard_normal(mean_of_one, 0 * mean_of_one).item() == 0.5  # |mu|^2 / 2
    assert kl_to_standard_normal(0 * mean_of_one, mean_of_one).item() == pytest.approx(
        (math.e - 2) / 2, rel=1e-14
    )
    mean, log_variance, _ = tensors(*posterior)
    normal = torch.distributions.Normal
    each = torch.distributions.kl_divergence(
        normal(mean, (log_variance / 2).exp()), normal(torch.zeros_like(mean), torch.ones_like(mean))
    )
    assert kl_to_standard_normal(mean, log_variance).item() == pytest.approx(
        each.sum(1).mean().item(), rel=1e-12
    )


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_autocast_does_not_touch_the_penalty(posterior, estimator):
    arguments = tensors(*posterior, dtype=torch.float32)
    torch.manual_seed(4)
    plain = (
        posterior_w2_penalty(*arguments, estimator, AccumulatedMoments(3)),
        kl_to_standard_normal(*arguments[:2]),
    )
    torch.manual_seed(4)
    with torch.autocast("cpu", torch.bfloat16):
        cast = (
            posterior_w2_penalty(*arguments, estimator, AccumulatedMoments(3)),
            kl_to_standard_normal(*arguments[:2]),
        )
    for a, b in zip(plain, cast, strict=True):
        assert a.dtype == b.dtype == torch.float32 and a.item() == b.item()


# ---------------------------------------------------------------- losses


class Table(nn.Module):
    """An encoder that answers what it was told to."""

    def __init__(self, mean, log_variance):
        super().__init__()
        self.answer = tensors(mean, log_variance)

    def forward(self, images):
        return self.answer


class Linear(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, codes):
        return (codes @ self.weight).unflatten(1, (1, 2, 2))


def test_squared_error_sums_over_pixels_and_keeps_images():
    images = torch.zeros(3, 1, 2, 2)
    other = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1).expand(3, 1, 2, 2)
    assert squared_error(images, other).tolist() == [0.0, 1.0, 4.0]
    assert torch.equal(squared_error(images, other), squared_error(other, images))


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("method", ["vae", *ESTIMATORS])
def test_loss_is_its_formula(posterior, method, weight):
    mean, log_variance, _ = posterior
    rng = np.random.default_rng(1)
    images, decoder = rng.uniform(size=(7, 1, 2, 2)), rng.normal(size=(3, 4))
    parts = Table(mean, log_variance), Linear(decoder), 3, weight
    method_itself = (VAE(*parts) if method == "vae" else WWAE(*parts, method)).double()
    again = copy.deepcopy(method_itself)  # with a memory as yet empty, where there is one
    torch.manual_seed(3)
    loss = method_itself.loss(torch.tensor(images))
    torch.manual_seed(3)
    noise = torch.randn(7, 3, dtype=torch.float64).numpy()

    codes = mean + np.exp(log_variance / 2) * noise
    reconstruction = ((images.reshape(7, 4) - codes @ decoder) ** 2).sum(1).mean()
    if method == "vae":
        penalty = (0.5 * (mean**2 + np.exp(log_variance) - log_variance - 1)).sum(1).mean()
    else:
        penalty = penalty_by_hand(mean, log_variance, codes, method)
    assert loss.terms["reconstruction"].item() == pytest.approx(reconstruction, rel=1e-12)
    assert loss.terms["penalty"].item() == pytest.approx(penalty, rel=1e-12)
    assert loss.total.item() == pytest.approx(reconstruction + weight * penalty, rel=1e-12)
    torch.manual_seed(3)
    assert torch.equal(again(torch.tensor(images)).total, loss.total)  # what training calls


@pytest.mark.parametrize("method", ["wwae", "vae"])
def test_gradient_of_the_loss_is_that_of_finite_differences(method):
    """Also where it reaches the encoder by two ways: through the codes and through the penalty."""
    rng = np.random.default_rng(2)
    images = torch.tensor(rng.uniform(size=(6, 1, 2, 2)))
    mean = torch.tensor(rng.normal(size=(6, 2)), requires_grad=True)
    log_variance = torch.tensor(rng.normal(size=(6, 2)), requires_grad=True)
    decoder = Linear(rng.normal(size=(2, 4)))

    def total(mean, log_variance):
        encoder = Table(np.zeros((6, 2)), np.zeros((6, 2)))
        encoder.answer = mean, log_variance
        trained = WWAE(encoder, decoder, 2, 3.0) if method == "wwae" else VAE(encoder, decoder, 2, 3.0)
        torch.manual_seed(0)
        return trained.loss(images).total

    assert torch.autograd.gradcheck(total, (mean, log_variance))


def test_sample_is_the_prior_decoded_and_leaves_the_generator_alone():
    method = experiments.build(small()).eval()
    state = torch.get_rng_state()
    samples = method.sample(5, seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    assert samples.shape == (5, 1, 28, 28)
    assert torch.equal(samples, method.sample(5, seed=4))
    assert not torch.equal(samples, method.sample(5, seed=5))
    codes = torch.randn(5, 3, generator=torch.Generator().manual_seed(4))
    assert torch.equal(samples, method.decode(codes))


def test_reconstruct_decodes_the_mean_code(digits):
    method = experiments.build(small()).eval()
    images = digits.pixels[:4] / 255
    assert torch.equal(method.reconstruct(images), method.decode(method.encode(images)[0]))
    assert torch.equal(method.reconstruct(images), method.reconstruct(images))  # no noise


def test_build_gives_what_the_experiment_names():
    wwae = experiments.build(small(estimator="diagonal", penalty_weight=3.0, latent=4, initial_std=0.5))
    assert type(wwae) is WWAE
    assert (wwae.estimator, wwae.penalty_weight, wwae.latent) == ("diagonal", 3.0, 4)
    assert wwae.encoder.layers[-1].bias[4:].exp().tolist() == pytest.approx([0.25] * 4)  # 0.5 squared
    vae = experiments.build(small("vae", penalty_weight=0.5))
    assert type(vae) is VAE and vae.penalty_weight == 0.5
    with pytest.raises(ValueError, match="no estimator 'full'"):
        WWAE(wwae.encoder, wwae.decoder, 3, estimator="full")


def test_a_method_made_for_images_takes_no_others():
    """torch's own words would be of matrices, and numbers from 0 to 255 would train without a word."""
    method = WWAE.for_images((1, 28, 28), "tiny")
    given = torch.rand(64, 1, 28, 28)
    for images, said in (
        (torch.rand(64, 1, 32, 32), r"made for images \(1, 28, 28\); got \(1, 32, 32\)"),
        (torch.rand(64, 28, 28), r"got \(28, 28\)"),
        (255 * given, r"lie in \[0, 1\]; these go from .* to 255. Scale them"),
        (2 * given - 1, r"these go from -1 to 1"),
    ):
        with pytest.raises(ValueError, match=said):
            training.fit(method, images, epochs=1, batch_size=32, progress=False)
    assert training.fit(method, given, epochs=1, batch_size=32, progress=False)


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        (WWAE, {"latent": 0}, "latent is 0"),
        (WWAE, {"penalty_weight": -3.0}, "penalty_weight is -3.0"),
        (WWAE, {"initial_std": -3.0}, "initial_std is -3.0"),
        (VAE, {"initial_std": 0.0}, "a VAE's codes need a variance"),
    ],
)
def test_options_that_an_experiment_refuses_are_refused_without_one(kind, options, said):
    with pytest.raises(ValueError, match=said):
        kind.for_images((1, 28, 28), "tiny", **options)
