"""The comparisons of the chapter on the objective: MMD, the expected root trace, the toy."""

import inspect
import math

import pytest
import torch

from wwae_lib import exact_draws, gaussian, methods, penalties
from wwae_lib.book import toy


def naive_mmd(z, p):
    n, d = z.shape

    def k(x, y):
        c = 2 * d * torch.tensor([0.1, 0.2, 0.5, 1, 2, 5, 10], dtype=x.dtype)
        return (c / (c + (x - y).square().sum())).sum()

    pairs = [(i, j) for i in range(n) for j in range(n)]
    within = sum(k(z[i], z[j]) + k(p[i], p[j]) for i, j in pairs if i != j)
    return within / (n * (n - 1)) - 2 * sum(k(z[i], p[j]) for i, j in pairs) / n**2


def test_mmd_is_its_definition():
    z, p = torch.randn(2, 7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(penalties.mmd_squared(z, p), naive_mmd(z, p), rtol=1e-12, atol=1e-13)


def test_mmd_gradient():
    z, p = torch.randn(2, 6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert torch.autograd.gradcheck(lambda z: penalties.mmd_squared(z, p), z.requires_grad_())


def test_mmd_in_float32_and_autocast():
    """Its kernels are summed in float32, also where products would be rounded to bfloat16."""
    z, p = torch.randn(2, 64, 8, generator=torch.Generator().manual_seed(1))
    values_seen = []
    for enabled in (False, True):
        codes = z.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            value = penalties.mmd_squared(codes, p)
        values_seen.append((value.detach(), *torch.autograd.grad(value, codes)))
    codes = z.double().requires_grad_()
    wide = penalties.mmd_squared(codes, p.double())
    truth = wide.detach(), *torch.autograd.grad(wide, codes)
    for value, gradient in values_seen:
        assert (value - truth[0]).abs() < 1e-6 * 7  # of the seven kernels' sums, which it is a difference of
        assert (gradient - truth[1]).norm() < 1e-6 * truth[1].norm()


@pytest.mark.parametrize("n", [20, 60])  # from 25 points on torch would take products
def test_mmd_of_nearly_equal_points_keeps_its_digits(n):
    z, p = (100 + 0.01 * torch.randn(n, 5, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    expected = naive_mmd(z.double() - 100, p.double() - 100)
    assert abs(expected) < 1e-4
    assert penalties.mmd_squared(z, p).item() == pytest.approx(expected.item(), rel=1e-3)


@pytest.mark.parametrize("shapes", [((4, 2), (5, 2)), ((1, 2), (1, 2)), ((4,), (4,))])
def test_mmd_refuses(shapes):
    with pytest.raises(ValueError, match="mmd_squared needs"):
        penalties.mmd_squared(torch.zeros(shapes[0]), torch.zeros(shapes[1]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_penalties_of_short_numbers_are_float32(dtype):
    """Whatever the estimator: a penalty in half precision would lose what it is to show."""
    torch.manual_seed(0)
    codes = (3 * torch.randn(30, 4)).to(dtype)
    for estimator in penalties.ESTIMATORS:
        memory = penalties.AccumulatedMoments(4)
        value = penalties.posterior_w2_penalty(codes, torch.zeros_like(codes), codes, estimator, memory)
        assert value.dtype == torch.float32 and value.isfinite()
    for value in (
        penalties.mmd_squared(codes, torch.randn(30, 4)),
        penalties.cramer_wold_squared(codes),
        penalties.kl_to_standard_normal(codes.float(), torch.zeros(30, 4)),
    ):
        assert value.dtype == torch.float32 and value.isfinite()


def test_penalties_refuse_what_would_be_broadcast():
    """As a user calls them, without the checks of types that the tests have on."""
    penalty, divergence, cramer_wold = map(
        inspect.unwrap,
        (penalties.posterior_w2_penalty, penalties.kl_to_standard_normal, penalties.cramer_wold_squared),
    )
    mean, short, narrow = torch.zeros(6, 4), torch.zeros(1, 4), torch.zeros(6, 3)
    for arguments in ((mean, short, mean), (mean, narrow, mean), (mean, mean, narrow)):
        with pytest.raises(ValueError, match="all arguments must be"):
            penalty(*arguments)
    for arguments in ((mean, short), (torch.zeros(0, 4), torch.zeros(0, 4))):
        with pytest.raises(ValueError, match="all arguments must be"):
            divergence(*arguments)
    with pytest.raises(ValueError, match=r"decay is 1\.5"):
        penalties.AccumulatedMoments(4, decay=1.5)
    with pytest.raises(ValueError, match=r"n >= 1, d >= 2"):
        cramer_wold(torch.zeros(0, 4))


def test_toy_trains():
    method = methods.WWAE(*toy.networks(2, hidden=16), latent=2, penalty_weight=1.0)
    kept = toy.train(method, 300, keep=(0, 300), n=64)
    points = toy.curve(torch.linspace(0, 1, 50))
    with torch.no_grad():
        before, after = (kept[step].loss(points).total.item() for step in (0, 300))
    assert after < before / 2


def test_trained_scale_is_one_without_bias():
    def exact(z):  # the expectation is d |s - 1|^2 to first order in 1 / n
        mean, cov = gaussian.moments(z)
        return gaussian.w2_squared_to_standard_normal(mean, cov)

    scale = toy.trained_scale(exact, 2, 500, steps=200, rate=0.1)
    assert scale == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("fresh", [True, False])
def test_discriminator(fresh):
    generator = torch.Generator().manual_seed(0)

    def draw():
        return torch.randn(2, 3, 64, 2, generator=generator) + torch.tensor([[[[0.0]]], [[[6.0]]]])

    trained, held_out = toy.discriminator_js(draw, fresh)
    assert trained.shape == held_out.shape == (3,)
    # Two normals at a distance of 6 * sqrt(2) standard deviations: within 1e-4 of log 2.
    assert held_out.mean() == pytest.approx(math.log(2), abs=0.03)


def test_accumulated_gradient_has_weight_one():
    z = torch.randn(
        50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True
    )
    plain = gaussian.w2_squared_to_standard_normal(*gaussian.moments(z))
    accumulated = toy.AccumulatedW2(0.9)
    for _ in range(2):  # of equal batches the average is the batch
        value = accumulated(z)
        torch.testing.assert_close(value, plain)
        torch.testing.assert_close(*(torch.autograd.grad(v, z, retain_graph=True)[0] for v in (value, plain)))


@pytest.mark.parametrize("kind", ["none", "circle"])
def test_moments_of_departures(kind):
    mean, cov = gaussian.moments(toy.departure(kind, (40000, 3), torch.Generator().manual_seed(0)))
    assert mean.abs().max() < 0.025
    assert (cov - torch.eye(3)).abs().max() < 0.035


def test_unknown_departure():
    with pytest.raises(ValueError, match="there is no departure"):
        toy.departure("skew", (2, 2), torch.Generator())


def test_accumulated_moments_of_several_batches_are_each_its_own():
    z = torch.randn(2, 3, 20, 2, generator=torch.Generator().manual_seed(0))  # two steps of three batches
    together, alone = toy.AccumulatedW2(0.8), toy.AccumulatedW2(0.8)
    values = [together(step) for step in z], [alone(step[1]) for step in z]
    torch.testing.assert_close(values[0][1][1], values[1][1])


def test_means_over_wishart_matrices_are_exact():
    """E tr S = 2, E det S = (nu - 1) / nu, and the mean root trace of the other formula."""
    for nu in (5, 100):
        mean = toy.wishart_means_in_the_plane
        assert mean(lambda trace, root: trace, nu) == pytest.approx(2, rel=1e-12)
        assert mean(lambda trace, root: root**2, nu) == pytest.approx((nu - 1) / nu, rel=1e-12)
        root_trace = mean(lambda trace, root: (trace + 2 * root) ** 0.5, nu)
        assert root_trace == pytest.approx(exact_draws.expected_root_trace(nu + 1, 2), rel=1e-3)
    with pytest.raises(ValueError, match="nu must"):
        toy.wishart_means_in_the_plane(lambda trace, root: trace, 1000)


def test_sigreg_is_its_definition_and_vanishes_at_the_prior():
    generator = torch.Generator().manual_seed(0)
    z, directions = torch.randn(9, 3, generator=generator).double(), torch.eye(3).double()[:, :2]
    t = torch.linspace(-5, 5, 2001).double()
    truth = 0.0
    for y in (z @ directions).T:
        characteristic = torch.exp(1j * t[:, None] * y).mean(1)
        apart = (characteristic - (-t.square() / 2).exp()).abs().square()
        truth += torch.trapezoid(apart * (-t.square() / 2).exp(), t) / 2
    assert toy.sigreg(z, directions, nodes=201).item() == pytest.approx(truth.item(), rel=1e-4)
    grid = torch.special.ndtri((torch.arange(4000).double() + 0.5) / 4000)[:, None]
    assert (
        toy.sigreg(grid, torch.ones(1, 1).double())
        < 1e-6
        < toy.sigreg(grid.sign(), torch.ones(1, 1).double())
    )
    torch.testing.assert_close(
        toy.sigreg(torch.stack([z, 2 * z]), directions)[1], toy.sigreg(2 * z, directions)
    )
