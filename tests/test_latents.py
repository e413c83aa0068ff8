"""Measures of codes are their formulas, written out another way, and tell laws apart that differ."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from wwae_lib.gaussian import moments
from wwae_lib.measures import latents


def normal(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


# ---------------------------------------------------------------- classifiers


def test_accuracies_of_classes_apart_and_of_classes_that_are_not():
    labels = torch.arange(200) % 2
    apart = normal(200, 2) + 20 * labels[:, None]
    assert latents.accuracies(apart[:100], labels[:100], apart[100:], labels[100:]) == {
        "knn_accuracy": 1.0,
        "linear_accuracy": 1.0,
    }
    mixed = latents.accuracies(normal(100, 2), labels[:100], normal(100, 2, 1), labels[100:])
    assert all(0.3 < value < 0.7 for value in mixed.values())


def test_a_ring_about_a_point_is_for_neighbours_alone():
    labels = torch.arange(400) % 2
    codes = torch.nn.functional.normalize(normal(400, 2)) * torch.where(labels == 1, 5.0, 0.5)[:, None]
    accuracies = latents.accuracies(codes[:200], labels[:200], codes[200:], labels[200:])
    assert accuracies["knn_accuracy"] == 1 and accuracies["linear_accuracy"] < 0.8


def test_five_neighbours_vote():
    """Each test code lies on a training code of the wrong class, and four of the right class are next."""
    places = torch.arange(10.0)[:, None] * 100
    wrong, right = torch.arange(10) % 2, (torch.arange(10) + 1) % 2
    around = [places + shift for shift in (1.0, -1.0, 2.0, -2.0)]
    codes, labels = torch.cat([places, *around]), torch.cat([wrong, *[right] * 4])
    accuracies = latents.accuracies(codes.expand(-1, 2), labels, places.expand(-1, 2), right)
    assert accuracies["knn_accuracy"] == 1


def test_codes_are_standardised_before_the_regression():
    """The class is in a coordinate of little variance, beside one of much."""
    labels = torch.arange(400) % 2
    codes = torch.stack([1e-4 * (labels + 0.1 * normal(400, 1)[:, 0]), 1e3 * normal(400, 1, 1)[:, 0]], 1)
    scores = latents.accuracies(codes[:200], labels[:200], codes[200:], labels[200:])
    assert scores["linear_accuracy"] == 1 and scores["knn_accuracy"] < 0.7  # which are not


def test_a_rare_class_is_seen_by_the_regression():
    """A penalty much heavier than scikit-learn's would guess the frequent one everywhere."""
    labels = (torch.arange(100) % 10 == 0).long()
    codes = labels[:, None] + 0.05 * normal(100, 2)
    assert latents.accuracies(codes, labels, codes, labels)["linear_accuracy"] == 1


# ---------------------------------------------------------------- distance to the prior


def test_sliced_w2_of_a_line_is_that_of_its_quantiles():
    """In one dimension every direction is that line or its mirror image."""
    codes = normal(60, 1) * 0.5 + 1
    quantiles = stats.norm.ppf((np.arange(60) + 0.5) / 60)
    mirrored = [np.mean((np.sort(sign * codes[:, 0].double().numpy()) - quantiles) ** 2) for sign in (1, -1)]
    assert mirrored[0] == pytest.approx(mirrored[1])  # the quantiles are symmetric
    assert latents.sliced_w2_to_prior(codes, 0)[0] == pytest.approx(mirrored[0], rel=1e-6)


def test_sliced_w2_is_near_pots_between_samples():
    import ot

    codes = normal(1000, 3).double() * 2 + torch.tensor([1.0, 0, 0])
    prior = normal(1000, 3, 1).double()
    theirs = ot.sliced.sliced_wasserstein_distance(codes.numpy(), prior.numpy(), n_projections=500, seed=0)
    assert latents.sliced_w2_to_prior(codes, 0)[0] == pytest.approx(theirs**2, rel=0.1)


def test_sliced_w2_of_a_shift_is_its_square_over_the_dimension():
    shift = torch.tensor([3.0, 4, 0, 0])
    assert latents.sliced_w2_to_prior(normal(4000, 4) + shift, 0)[0] == pytest.approx(25 / 4, rel=0.1)
    assert latents.sliced_w2_to_prior(normal(4000, 4), 0)[0] < 0.01


def test_sliced_w2_is_over_directions_enough_to_repeat():
    """Of 500 directions the mean varies by 1 / sqrt(500) of what one direction does."""
    shift, codes = torch.tensor([10.0, 0, 0, 0]), normal(200, 4)
    distances = [latents.sliced_w2_to_prior(codes + shift, seed)[0] for seed in range(60)]
    spread = np.std(distances, ddof=1) / np.mean(distances)
    # for theta uniform on the sphere in d = 4, theta_1^2 is Beta(1/2, 3/2): variance over squared mean is 1
    assert spread == pytest.approx(1 / math.sqrt(500), rel=0.3)


@pytest.mark.parametrize("spread", [1.0, 1.5])
def test_sliced_w2s_error_is_the_spread_of_repeats(spread):
    """The spread of 100 repeats is itself known to 7 %."""
    shift = torch.tensor([0.5, 0, 0])
    repeats = [latents.sliced_w2_to_prior(normal(300, 3, seed) * spread + shift, 0) for seed in range(100)]
    values, errors = np.array(repeats).T
    assert math.sqrt(np.mean(errors**2)) == pytest.approx(np.std(values, ddof=1), rel=0.2)


# ---------------------------------------------------------------- normality


def test_marginal_normality_is_scipys_and_holms():
    codes = normal(200, 5)
    codes[:, 0] += 1  # rejected
    codes[:, 1] *= 2
    normality = latents.marginal_normality(codes)
    each = [stats.kstest(column, "norm") for column in codes.double().numpy().T]
    assert normality["ks_mean"] == pytest.approx(np.mean([test.statistic for test in each]))
    ordered, rejected = sorted(test.pvalue for test in each), 0
    while rejected < 5 and ordered[rejected] <= 0.05 / (5 - rejected):
        rejected += 1
    assert normality["ks_rejected"] == rejected / 5 == 2 / 5
    assert latents.marginal_normality(codes + 9)["ks_rejected"] == 1


def test_holm_rejects_in_the_order_of_the_p_values():
    """Whichever the order of the coordinates: of five, three are rejected, each in its turn alone."""
    n = 400
    shifts = torch.tensor([0.0, 0.205, 0.0, 0.24, 0.195])
    codes = torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n)[:, None] + shifts
    each = sorted(stats.kstest(column, "norm").pvalue for column in codes.numpy().T)
    rejected = 0
    while rejected < 5 and each[rejected] <= 0.05 / (5 - rejected):
        rejected += 1
    assert rejected == 3 and each[2] > 0.05 / 5  # which Bonferroni's bound, or another order, would not
    for seed in range(6):
        order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
        assert latents.marginal_normality(codes[:, order])["ks_rejected"] == 3 / 5


def test_henze_zirkler_is_its_formula():
    codes = normal(25, 3) @ torch.tensor([[1.0, 0.5, 0], [0, 2, 0.3], [0, 0, 0.1]]) + 4
    x, n, d = codes.double().numpy(), 25, 3
    inverse = np.linalg.inv(np.cov(x, rowvar=False, bias=True))
    beta = ((2 * d + 1) * n / 4) ** (1 / (d + 4)) / math.sqrt(2)

    def squared(v):
        return v @ inverse @ v

    pairs = sum(math.exp(-(beta**2) / 2 * squared(a - b)) for a in x for b in x) / n
    single = sum(math.exp(-(beta**2) / (2 * (1 + beta**2)) * squared(a - x.mean(0))) for a in x)
    expected = pairs - 2 * (1 + beta**2) ** (-d / 2) * single + n * (1 + 2 * beta**2) ** (-d / 2)
    assert latents.henze_zirkler(codes)[0] == pytest.approx(expected, rel=1e-6)
    shifted = latents.henze_zirkler(codes * 3 - 7)  # whichever the moments
    assert shifted == pytest.approx(latents.henze_zirkler(codes), rel=1e-3)


def test_henze_zirkler_rejects_a_normal_law_as_often_as_it_says():
    rejected = np.mean([latents.henze_zirkler(normal(60, 2, seed))[1] < 0.1 for seed in range(400)])
    assert rejected == pytest.approx(0.1, abs=0.05)  # three standard errors


def test_henze_zirkler_rejects_what_is_not_normal():
    assert latents.henze_zirkler(normal(300, 2).exp())[1] < 1e-6
    ring = torch.nn.functional.normalize(normal(300, 2))
    assert latents.henze_zirkler(ring)[1] < 1e-6


def test_henze_zirkler_refuses_more_dimensions_than_it_can_see():
    with pytest.raises(ValueError, match="2000 points of 40 dimensions are too far apart"):
        latents.henze_zirkler(normal(2000, 40))


@pytest.mark.parametrize("codes", [normal(3, 3), normal(20, 1).expand(-1, 2)])
def test_henze_zirkler_refuses_codes_without_volume(codes):
    with pytest.raises(ValueError, match="needs codes of full rank"):
        latents.henze_zirkler(codes)


def test_blocks_of_rows_change_nothing(monkeypatch):
    whole = latents.henze_zirkler(normal(50, 2))
    monkeypatch.setattr(latents, "ROWS", 7)
    assert latents.henze_zirkler(normal(50, 2)) == pytest.approx(whole)


# ---------------------------------------------------------------- what a mixture gains


def two_bumps(n: int, seed: int, apart: float = 6.0) -> torch.Tensor:
    """Two round Gaussians of equal share, in two dimensions."""
    sides = torch.arange(n) % 2 * 2.0 - 1
    return normal(n, 2, seed) + apart / 2 * torch.stack([sides, torch.zeros(n)], 1)


def test_a_mixture_gains_the_divergence_from_one_gaussian():
    """Of two bumps: their KL to a Gaussian is log sqrt(1 + 9) - log 2, all of which a mixture finds."""
    gain, error = latents.mixture_nats(two_bumps(20_000, 0), two_bumps(10_000, 1), seed=0)
    expected = 0.5 * math.log(10) - math.log(2)
    x = two_bumps(200_000, 2)[:, 0].double()  # the bumps overlap a little
    law = torch.stack([-0.5 * (x - 3) ** 2, -0.5 * (x + 3) ** 2]).logsumexp(0) - math.log(2)
    gaussian = -0.5 * x**2 / 10 - 0.5 * math.log(10)
    assert (law - gaussian).mean().item() == pytest.approx(expected, abs=0.02)
    assert gain == pytest.approx((law - gaussian).mean().item(), abs=4 * error)
    assert 0 < error < 0.02


def test_a_mixture_gains_nothing_on_a_gaussian_and_the_error_is_its_spread():
    repeats = [
        latents.mixture_nats(normal(3000, 2, 0), normal(500, 2, seed), seed=0) for seed in range(1, 41)
    ]
    gains, errors = np.array(repeats).T
    assert -0.05 < gains.mean() < 0.01
    assert errors.mean() == pytest.approx(gains.std(ddof=1), rel=0.3)


def test_what_a_mixture_gains_is_the_same_on_every_scale():
    skewed = torch.tensor([[1e-3, 0.0], [2.0, 40.0]])
    codes, held = two_bumps(2000, 0), two_bumps(1000, 1)
    plain = latents.mixture_nats(codes, held, seed=3)
    assert latents.mixture_nats(codes @ skewed + 7, held @ skewed + 7, seed=3) == pytest.approx(
        plain, abs=0.02
    )
    assert latents.mixture_nats(codes, held, seed=3) == plain


def test_the_gaussians_of_a_mixture_have_full_covariances():
    """Ten needles, each in a direction of its own, which axes cannot follow."""
    angles = (torch.arange(2000) % 10) * math.pi / 10
    along, across = normal(2000, 1)[:, 0], 0.01 * normal(2000, 1, 1)[:, 0]
    centres = 30 * torch.stack([torch.arange(2000) % 10, torch.zeros(2000)], 1)
    needles = torch.stack(
        [along * angles.cos() - across * angles.sin(), along * angles.sin() + across * angles.cos()], 1
    )
    mixture = latents._mixture((centres + needles).double(), 0)
    assert mixture.covariances_.shape == (10, 2, 2)
    drawn = latents.draw_mixture(centres + needles, 2000, 0)
    near = torch.cdist(drawn, centres + needles).min(1).values
    assert near.quantile(0.9) < 0.1


@pytest.mark.parametrize("codes", [normal(29, 2), normal(400, 1).expand(-1, 2)])
def test_what_a_mixture_gains_needs_codes_that_span_the_space(codes):
    with pytest.raises(ValueError, match="need codes that span the space"):
        latents.mixture_nats(codes, codes, seed=0)


# ---------------------------------------------------------------- dimension, and laws fitted to codes


def test_effective_dimension_by_hand():
    corners = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    assert latents.effective_dimension(corners) == pytest.approx(2)
    assert latents.effective_dimension(corners * torch.tensor([1.0, 0])) == pytest.approx(1)
    assert latents.effective_dimension(corners * torch.tensor([1.0, 2])) == pytest.approx(
        25 / 17
    )  # variances 1, 4


def test_a_gaussian_has_the_codes_moments():
    codes = normal(500, 3) @ torch.tensor([[1.0, 0.5, 0], [0, 2, 0.3], [0, 0, 0.1]]) + 4
    drawn = latents.draw_gaussian(codes, 40_000, seed=1)
    for actual, expected in zip(moments(drawn.double()), moments(codes.double()), strict=True):
        torch.testing.assert_close(actual, expected, rtol=0.05, atol=0.05)
    assert torch.equal(drawn, latents.draw_gaussian(codes, 40_000, seed=1))
    assert not torch.equal(drawn, latents.draw_gaussian(codes, 40_000, seed=2))
    flat = latents.draw_gaussian(codes * torch.tensor([1.0, 1, 0]), 50, seed=1)
    assert flat[:, 2].abs().max() < 1e-5


def test_a_mixture_keeps_to_the_clusters_that_a_gaussian_fills():
    centres = 10 * torch.nn.functional.one_hot(torch.arange(10)).float()
    labels = torch.arange(1000) % 10
    codes = centres[labels] + 0.1 * normal(1000, 10)

    def off(drawn: torch.Tensor) -> torch.Tensor:
        """Distance to the nearest centre, and which it is."""
        return torch.cdist(drawn, centres).min(1)

    mixture = latents.draw_mixture(codes, 500, seed=0)
    assert off(mixture).values.max() < 1.5
    counts = torch.bincount(off(mixture).indices, minlength=10)
    assert counts.min() > 20
    assert off(latents.draw_gaussian(codes, 500, seed=0)).values.median() > 3
    first_half = torch.bincount(off(mixture[:250]).indices, minlength=10)
    assert first_half.min() > 5  # scikit-learn draws component by component; here the order is random
    assert torch.equal(mixture, latents.draw_mixture(codes, 500, seed=0))
