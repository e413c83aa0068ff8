"""The squared W2 between Gaussians against independent implementations, on nasty spectra.

Truth comes from mpmath (60 digits), SciPy's matrix square root and PythonOT. Tolerances: an
eigenvalue is known to the rounding of the largest one, so a root near 0 is known to the root of
that; where the spectrum is well conditioned nothing is lost and 1e-9 is asked for.
"""

import importlib
import math
import sys
import types
from contextlib import nullcontext

import mpmath
import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.optimize import linear_sum_assignment, linprog
from share_of_a_batch import share_of_a_batch
from torch._subclasses import FakeTensorMode
from torch.autograd import gradcheck, gradgradcheck

import wwae_lib
from wwae_lib import gaussian as g
from wwae_lib.book import geometry

KINDS = ("well", "repeated", "ill", "singular", "few points")
EXACT = {"well", "repeated"}  # the others are known to about 1e-8 of their trace


def covariance(rng, d: int, kind: str) -> torch.Tensor:
    """One covariance in float64 with a random basis and a spectrum of the kind named."""
    if kind == "few points":  # n < d where d > 1
        points = rng.standard_normal((max(2, d // 2), d))
        return torch.from_numpy(np.atleast_2d(np.cov(points.T)))
    values = {
        "well": rng.uniform(0.1, 10, d),
        "repeated": rng.choice([1.0, 2.0], d),
        "ill": np.logspace(0, -12, d) if d > 1 else np.array([1e-12]),
        "singular": rng.choice([0.0, 1.0, 3.0], d),
    }[kind]
    basis = np.linalg.qr(rng.standard_normal((d, d)))[0]
    return torch.from_numpy(basis * values @ basis.T)


def gaussians(seed: int, d: int, *kinds: str) -> list[torch.Tensor]:
    """mean, cov, mean, cov, ... one pair for each kind."""
    rng = np.random.default_rng(seed)
    return [t for kind in kinds for t in (torch.from_numpy(rng.standard_normal(d)), covariance(rng, d, kind))]


def batch_of(kind1: str, kind2: str, d: int, count: int) -> list[torch.Tensor]:
    return [torch.stack(t) for t in zip(*(gaussians(i, d, kind1, kind2) for i in range(count)), strict=True)]


def close(value, truth, scale, kind1, kind2) -> bool:
    """1e-9 relative where both spectra allow it, else 1e-7 of the traces (see above)."""
    exact = {kind1, kind2} <= EXACT
    bound = 1e-9 * torch.as_tensor(truth).abs() + (1e-13 if exact else 1e-7) * scale
    return bool(((value - truth).abs() <= bound).all())


def traces(cov1, cov2) -> torch.Tensor:
    return (cov1 + cov2).diagonal(dim1=-2, dim2=-1).sum(-1)


def mpmath_w2_squared(mean1, cov1, mean2, cov2) -> float:
    with mpmath.workdps(60):
        a, b = (mpmath.matrix(((c + c.T) / 2).tolist()) for c in (cov1, cov2))
        values, basis = mpmath.eigsy(a)
        root = basis * mpmath.diag([mpmath.sqrt(max(v, 0)) for v in values]) * basis.T
        product = root * b * root
        cross = mpmath.eigsy((product + product.T) / 2, eigvals_only=True)
        shift = sum(
            (mpmath.mpf(x) - mpmath.mpf(y)) ** 2 for x, y in zip(mean1.tolist(), mean2.tolist(), strict=True)
        )
        trace = sum(a[i, i] + b[i, i] for i in range(a.rows))
        return float(shift + trace - 2 * sum(mpmath.sqrt(max(v, 0)) for v in cross))


nasty = settings(max_examples=60, deadline=None, derandomize=True)
seeds, dims, kinds = st.integers(0, 10**6), st.integers(1, 9), st.sampled_from(KINDS)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small matrices: more threads only get in each other's way."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# The value


@pytest.mark.parametrize("kind2", KINDS)
@pytest.mark.parametrize("kind1", KINDS)
def test_w2_squared_agrees_with_scipy_on_thousands_of_pairs(kind1, kind2):
    for d in (1, 2, 5, 8):
        mean1, cov1, mean2, cov2 = batch_of(kind1, kind2, d, 25)
        value = g.w2_squared(mean1, cov1, mean2, cov2)
        assert (value >= 0).all()
        # the cross term through the general (not symmetric) root of the product of the covariances' roots
        roots = []
        for c in (cov1, cov2):
            values, vectors = np.linalg.eigh(c.numpy())
            roots.append(vectors * np.sqrt(values.clip(0))[:, None] @ vectors.swapaxes(-1, -2))
        nuclear = np.linalg.svd(roots[0] @ roots[1], compute_uv=False).sum(-1)
        truth = (mean1 - mean2).square().sum(-1) + traces(cov1, cov2) - 2 * torch.from_numpy(nuclear)
        assert close(value, truth, traces(cov1, cov2), kind1, kind2)
        if {kind1, kind2} <= EXACT:  # sqrtm of a product that is singular is not to be trusted
            cross = [np.trace(sqrtm((a @ b).numpy())).real for a, b in zip(cov1, cov2, strict=True)]
            truth = (mean1 - mean2).square().sum(-1) + traces(cov1, cov2) - 2 * torch.tensor(cross)
            assert close(value, truth, traces(cov1, cov2), kind1, kind2)


@pytest.mark.parametrize(
    "kind1, kind2", [("well", "well"), ("repeated", "well"), ("ill", "well"), ("ill", "singular")]
)
def test_w2_squared_agrees_with_mpmath(kind1, kind2):
    for d in (1, 2, 4):
        for seed in range(6):
            pair = gaussians(seed, d, kind1, kind2)
            truth = mpmath_w2_squared(*pair)
            assert close(g.w2_squared(*pair), truth, traces(pair[1], pair[3]), kind1, kind2)


def test_close_gaussians_lose_no_digits():
    """The textbook formula has no digit left here: it subtracts traces of 1 to find 1e-16."""
    mean1, cov1, _, _ = gaussians(0, 4, "well", "well")
    cov2 = cov1 + 1e-8 * torch.diag(torch.tensor([1.0, 2.0, 0.5, 0.0], dtype=torch.float64))
    assert g.w2_squared(mean1, cov1, mean1, cov2).item() == pytest.approx(
        mpmath_w2_squared(mean1, cov1, mean1, cov2), rel=1e-6
    )


def test_w2_is_pythonots_distance():
    for seed in range(200):
        mean1, cov1, mean2, cov2 = gaussians(seed, 1 + seed % 6, "well", "repeated")
        truth = ot.gaussian.bures_wasserstein_distance(mean1, mean2, cov1, cov2)
        assert g.w2(mean1, cov1, mean2, cov2).item() == pytest.approx(truth.item(), rel=1e-9)


@nasty
@given(seeds, dims, kinds, kinds, kinds)
def test_w2_is_a_metric(seed, d, kind1, kind2, kind3):
    mean1, cov1, mean2, cov2, mean3, cov3 = gaussians(seed, d, kind1, kind2, kind3)
    scale = (traces(cov1, cov2) + cov3.trace()).sqrt()
    there, back = g.w2(mean1, cov1, mean2, cov2), g.w2(mean2, cov2, mean1, cov1)
    assert there >= 0
    assert (there - back).abs() <= 1e-7 * scale + 1e-12
    assert g.w2(mean1, cov1, mean1, cov1) == 0
    assert g.w2_squared(mean1, cov1, mean1, cov1) == 0
    detour = g.w2(mean1, cov1, mean3, cov3) + g.w2(mean3, cov3, mean2, cov2)
    assert there <= detour + 1e-7 * scale


@nasty
@given(seeds, dims, kinds, kinds, st.floats(-4, 4))
def test_w2_squared_under_rotation_translation_and_scaling(seed, d, kind1, kind2, exponent):
    mean1, cov1, mean2, cov2 = gaussians(seed, d, kind1, kind2)
    rng = np.random.default_rng(seed)
    turn = torch.from_numpy(np.linalg.qr(rng.standard_normal((d, d)))[0])
    shift, c = torch.from_numpy(rng.standard_normal(d)), 10.0**exponent
    truth = g.w2_squared(mean1, cov1, mean2, cov2)
    moved = g.w2_squared(
        c * turn @ (mean1 + shift),
        c**2 * turn @ cov1 @ turn.T,
        c * turn @ (mean2 + shift),
        c**2 * turn @ cov2 @ turn.T,
    )
    assert (moved / c**2 - truth).abs() <= 1e-7 * traces(cov1, cov2) + 1e-12
    if {kind1, kind2} <= EXACT:
        assert moved.item() / c**2 == pytest.approx(truth.item(), rel=1e-9)


@nasty
@given(seeds, dims, kinds)
def test_standard_normal_and_diagonal_agree_with_the_general_form(seed, d, kind):
    mean, cov = gaussians(seed, d, kind)
    zero, eye = torch.zeros(d, dtype=torch.float64), torch.eye(d, dtype=torch.float64)
    general = g.w2_squared(mean, cov, zero, eye)
    assert close(g.w2_squared_to_standard_normal(mean, cov), general, cov.trace() + d, kind, "well")
    variance = cov.diagonal()
    assert close(
        g.w2_squared_diagonal(mean, variance),
        g.w2_squared_to_standard_normal(mean, variance.diag()),
        cov.trace() + d,
        kind,
        "well",
    )


@nasty
@given(seeds, dims, kinds, kinds)
def test_float32_is_as_near_as_float32_allows(seed, d, kind1, kind2):
    pair = gaussians(seed, d, kind1, kind2)
    single = g.w2_squared(*(t.float() for t in pair))
    assert single.dtype == torch.float32
    # 3e-4 is the root of float32's rounding, the error of the root of an eigenvalue that should be 0
    bound = 1e-5 if {kind1, kind2} <= EXACT else 3e-3
    assert (single - g.w2_squared(*pair)).abs() <= bound * (traces(pair[1], pair[3]) + g.w2_squared(*pair))


# Gradients


@pytest.mark.parametrize("kind", ["well", "repeated"])
@pytest.mark.parametrize("d", [1, 3])
def test_gradients_equal_finite_differences(d, kind):
    pair = [t.requires_grad_() for t in gaussians(3, d, kind, "well")]
    assert gradcheck(g.w2_squared, pair)
    assert gradcheck(g.w2, pair)
    assert gradcheck(lambda *p: geometry.entropic_w2_squared(*p, 0.7), pair)
    assert gradcheck(lambda *p: geometry.sinkhorn_divergence(*p, 0.7), pair)
    assert gradcheck(g.w2_squared_to_standard_normal, pair[:2])
    assert gradcheck(g.w2_squared_diagonal, [pair[0], pair[1].detach().diagonal().clone().requires_grad_()])
    z = torch.randn(7, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    for eigensolver in (True, False):
        assert gradcheck(lambda z, e=eigensolver: g.w2_penalty(z, eigensolver=e), [z])
    target = z.detach() ** 2
    assert gradcheck(lambda z: geometry.gelbrich_bound(z, target), [z])


def test_gradients_at_the_optimum_are_zero():
    d = 4
    mean, cov = torch.zeros(d, requires_grad=True), torch.eye(d, requires_grad=True)
    for value in (
        g.w2_squared_to_standard_normal(mean, cov),
        g.w2_squared(mean, cov, torch.zeros(d), torch.eye(d)),
    ):
        for gradient in torch.autograd.grad(value, (mean, cov)):
            assert gradient.abs().max() < 1e-6
    for gradient in torch.autograd.grad(g.w2(mean, cov, torch.zeros(d), torch.eye(d)), (mean, cov)):
        assert torch.equal(gradient, torch.zeros_like(gradient))


@nasty
@given(seeds, dims, kinds, kinds)
def test_gradients_are_finite_everywhere(seed, d, kind1, kind2):
    pair = [t.requires_grad_() for t in gaussians(seed, d, kind1, kind2)]
    functions = [g.w2_squared, g.w2, lambda *p: geometry.entropic_w2_squared(*p, 0.1)]
    for function in functions:
        value = function(*pair)
        assert value.isfinite()
        for gradient in torch.autograd.grad(value, pair):
            assert gradient.isfinite().all()


def test_only_what_asks_for_a_gradient_gets_one():
    mean1, cov1, mean2, cov2 = gaussians(0, 3, "well", "well")
    cov2.requires_grad_()
    g.w2_squared(mean1, cov1, mean2, cov2).backward()
    assert cov2.grad is not None and mean1.grad is None
    assert torch.allclose(cov2.grad, cov2.grad.T)


# Second derivatives, and what transforms of torch.func and torch.compile make of them


@pytest.mark.parametrize("kind", ["well", "repeated"])
def test_second_derivatives_equal_finite_differences(kind):
    pair = [t.requires_grad_() for t in gaussians(3, 3, kind, "well")]
    for function in (g.w2_squared, g.w2, g.bures_squared):
        assert gradgradcheck(function, pair[1::2] if function is g.bures_squared else pair)
    assert gradgradcheck(lambda *p: geometry.entropic_w2_squared(*p, 0.7), pair)
    assert gradgradcheck(lambda *p: geometry.sinkhorn_divergence(*p, 0.7), pair)
    assert gradgradcheck(g.w2_squared_to_standard_normal, pair[:2])
    variance = pair[1].detach().diagonal().clone().requires_grad_()
    assert gradgradcheck(g.w2_squared_diagonal, [pair[0], variance])


@pytest.mark.parametrize("n, d", [(7, 3), (4, 4), (3, 5)])
def test_second_derivatives_in_a_batch_equal_finite_differences(n, d):
    """Also of few points, whose covariance is singular and keeps its rank."""
    z = torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(n), requires_grad=True)
    for eigensolver in (True, False):
        assert gradgradcheck(lambda z, e=eigensolver: g.w2_penalty(z, eigensolver=e), [z])
    assert gradgradcheck(lambda z: g.w2_squared_to_standard_normal(*g.moments(z)), [z])
    variance = torch.rand(d, dtype=torch.float64, requires_grad=True)
    assert gradgradcheck(g.w2_penalty, [z, variance])
    assert gradgradcheck(
        lambda z: g.w2_squared_to_standard_normal(*g.total_moments(z, variance.expand_as(z))), [z]
    )


def test_the_hessian_of_one_dimension_is_that_of_calculus():
    """Of (sqrt(s) - 1)^2 it is s^{-3/2} / 2; of (sqrt(s) - sqrt(r))^2, sqrt(r) s^{-3/2} / 2."""
    s = torch.tensor([[2.0]], dtype=torch.float64)
    hessian = torch.autograd.functional.hessian
    second = hessian(lambda c: g.w2_squared_to_standard_normal(torch.zeros(1).double(), c), s)
    assert second.item() == pytest.approx(0.5 * 2**-1.5, rel=1e-12)
    assert hessian(lambda c: g.bures_squared(c, 3 * torch.ones(1, 1).double()), s).item() == pytest.approx(
        0.5 * 3**0.5 * 2**-1.5, rel=1e-12
    )


def test_third_derivatives_equal_finite_differences():
    z = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    cov = gaussians(5, 2, "well")[1].requires_grad_()
    fixed = gaussians(6, 2, "well")[1]

    def slope(function):
        return lambda x: torch.autograd.grad(function(x), x, create_graph=True)[0]

    assert gradgradcheck(slope(g.w2_penalty), [z])
    assert gradgradcheck(slope(lambda c: g.bures_squared(c, fixed)), [cov])


def test_a_second_derivative_that_does_not_exist_is_an_error():
    cov = torch.diag(torch.tensor([1.0, 0.0])).requires_grad_()
    other = torch.tensor([[2.0, 0.5], [0.5, 1.0]])
    (slope,) = torch.autograd.grad(g.bures_squared(cov, other), cov, create_graph=True)
    with pytest.raises(RuntimeError, match="singular"):
        torch.autograd.grad(slope.sum(), cov)
    hessian = torch.autograd.functional.hessian(lambda c: g.bures_squared(c, cov.detach()), other)
    assert hessian.isfinite().all() and hessian.abs().max() > 0.1


def test_few_points_have_the_gradient_of_their_own_rank():
    """The bound's last term is a nuclear norm, of the product of the centred batches: smooth at that rank."""
    batches = [
        torch.randn(n, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(n), requires_grad=True)
        for n in (3, 4, 30)
    ]
    for x, y in ((0, 1), (0, 2), (2, 1)):
        x, y = batches[x], batches[y]
        x0, y0 = ((z - z.mean(0)) / len(z) ** 0.5 for z in (x, y))
        squares = (x.mean(0) - y.mean(0)).square().sum() + x0.square().sum() + y0.square().sum()
        truth = squares - 2 * torch.linalg.svdvals(x0 @ y0.T).sum()
        bound = geometry.gelbrich_bound(x, y)
        torch.testing.assert_close(bound, truth, rtol=1e-7, atol=0)
        for a, b in zip(*(torch.autograd.grad(v, (x, y)) for v in (bound, truth)), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's, of its own
def test_torch_func_finds_the_same():
    generator = torch.Generator().manual_seed(0)
    batches = torch.randn(3, 7, 4, dtype=torch.float64, generator=generator)
    variances = torch.rand(3, 4, dtype=torch.float64, generator=generator)
    grad, jacrev, vmap = torch.func.grad, torch.func.jacrev, torch.func.vmap
    loop = [torch.autograd.functional.jacobian(g.w2_penalty, z) for z in batches]
    torch.testing.assert_close(vmap(grad(g.w2_penalty))(batches), torch.stack(loop))
    torch.testing.assert_close(
        jacrev(jacrev(g.w2_penalty))(batches[0]),
        torch.autograd.functional.hessian(g.w2_penalty, batches[0]),
    )
    by_variance = vmap(jacrev(jacrev(lambda v, z: g.w2_penalty(z, v))), in_dims=(0, None))
    torch.testing.assert_close(
        by_variance(variances, batches[0])[1],
        torch.autograd.functional.hessian(lambda v: g.w2_penalty(batches[0], v), variances[1]),
    )
    mean1, cov1, mean2, cov2 = batch_of("well", "well", 3, 4)
    for function in (g.w2_squared, g.w2, lambda *p: geometry.entropic_w2_squared(*p, 0.5)):
        mapped = vmap(function, in_dims=(0, 0, None, None))(mean1, cov1, mean2[0], cov2[0])
        torch.testing.assert_close(mapped, function(mean1, cov1, mean2[0], cov2[0]))
    torch.testing.assert_close(
        vmap(g.w2_squared_diagonal)(mean1, mean1.square()), g.w2_squared_diagonal(mean1, mean1.square())
    )
    with pytest.raises(NotImplementedError, match="forward mode"):  # as the docstring says
        torch.func.jvp(g.w2_penalty, (batches[0],), (batches[0],))


CALLS = {
    "penalty": (lambda z: g.w2_penalty(z), [(64, 8)]),
    "penalty of few": (lambda z: g.w2_penalty(z), [(8, 16)]),
    "penalty with a variance": (lambda z, v: g.w2_penalty(z, v.square()), [(64, 8), (8,)]),
    "two steps": (lambda z: g.w2_squared_to_standard_normal(*g.moments(z)), [(64, 8)]),
    "two samples": (lambda x, y: g.w2(*g.moments(x), *g.moments(y)), [(64, 4), (32, 4)]),
    "entropic": (
        lambda x, y: geometry.entropic_w2_squared(*g.moments(x), *g.moments(y), 0.5),
        [(64, 4), (32, 4)],
    ),
    "diagonal": (lambda m, s: g.w2_squared_diagonal(m, s.square()), [(4,), (4,)]),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("function, shapes", CALLS.values(), ids=CALLS)
def test_compiled_without_a_break_it_finds_the_same(function, shapes, monkeypatch):
    """As users have it: the tests' own checks of shapes, around every function, cannot be compiled."""
    package = types.ModuleType("unchecked")
    package.__path__ = list(wwae_lib.__path__)
    monkeypatch.setitem(sys.modules, "unchecked", package)
    for name, module in {"g": "gaussian", "geometry": "book.geometry"}.items():
        monkeypatch.setattr(sys.modules[__name__], name, importlib.import_module(f"unchecked.{module}"))
    generator = torch.Generator().manual_seed(0)
    given = [torch.randn(shape, generator=generator, requires_grad=True) for shape in shapes]
    torch._dynamo.reset()
    results = []
    for variant in (torch.compile(function, fullgraph=True, backend="aot_eager"), function):
        value = variant(*given)
        results.append((value.detach(), *torch.autograd.grad(value, given)))
    for compiled, plain in zip(*results, strict=True):
        torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["meta", "fake"])
@pytest.mark.parametrize("function, shapes", CALLS.values(), ids=CALLS)
def test_tensors_without_values_get_shapes(function, shapes, kind):
    with FakeTensorMode() if kind == "fake" else nullcontext():
        device = "cpu" if kind == "fake" else "meta"
        given = [torch.empty(shape, device=device, requires_grad=True) for shape in shapes]
        value = function(*given)
        assert value.shape == ()
        assert [a.shape for a in torch.autograd.grad(value, given)] == [t.shape for t in given]


# The batch penalty


def exact_penalty(z):
    """Value and gradient through the singular value decomposition, in float64."""
    z = z.detach().double()
    n, d = z.shape
    mean, x = z.mean(0), (z - z.mean(0)) / math.sqrt(n - 1)
    left, s, right = torch.linalg.svd(x, full_matrices=False)
    polar = left * (s > 1e-7 * s[0]) @ right
    value = mean.square().sum() + (s - 1).square().sum() + max(0, d - n)
    return value, 2 / n * mean + 2 / math.sqrt(n - 1) * (x - polar)


SHAPES = [(100, 8), (256, 32), (20, 50), (33, 32), (2, 5), (10, 1)]


@pytest.mark.parametrize("eigensolver", [True, False])
@pytest.mark.parametrize("n, d", SHAPES)
def test_penalty_is_the_two_step_form(n, d, eigensolver):
    z = torch.randn(n, d, generator=torch.Generator().manual_seed(n), dtype=torch.float64) * 1.2 + 0.3
    z.requires_grad_()
    value, gradient = exact_penalty(z)
    two_steps = g.w2_squared_to_standard_normal(*g.moments(z))
    assert torch.allclose(two_steps, value, rtol=1e-7)
    assert torch.allclose(torch.autograd.grad(two_steps, z)[0], gradient, atol=1e-7)
    one_step = g.w2_penalty(z, eigensolver=eigensolver)
    assert torch.allclose(one_step, value, rtol=1e-7)
    assert torch.allclose(torch.autograd.grad(one_step, z)[0], gradient, atol=1e-7)


@pytest.mark.parametrize("eigensolver", [True, False])
@pytest.mark.parametrize("n, d", SHAPES)
def test_penalty_of_total_moments(n, d, eigensolver):
    """With the mean variance of the codes: value and both gradients of the two-step form."""
    generator = torch.Generator().manual_seed(n)
    mean = (torch.randn(n, d, generator=generator, dtype=torch.float64) + 0.3).requires_grad_()
    variance = torch.rand(n, d, generator=generator, dtype=torch.float64).requires_grad_()
    two_steps = g.w2_squared_to_standard_normal(*g.total_moments(mean, variance))
    one_step = g.w2_penalty(mean, variance.mean(0), eigensolver=eigensolver)
    assert torch.allclose(one_step, two_steps, rtol=1e-9)
    gradients, truth = (torch.autograd.grad(value, (mean, variance)) for value in (one_step, two_steps))
    for a, b in zip(gradients, truth, strict=True):
        assert torch.allclose(a, b, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("eigensolver", [True, False])
def test_penalty_with_a_variance_equals_finite_differences(eigensolver):
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(2, 7, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    variance = torch.rand(2, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    assert gradcheck(lambda z, v: g.w2_penalty(z, v, eigensolver=eigensolver), [z, variance])
    with pytest.raises(ValueError, match="variance of shape"):
        g.w2_penalty(z, variance[0])


@nasty
@given(seeds, dims, st.sampled_from([0.0, 1e-12, 1e-3, 1.0]), st.booleans())
def test_penalty_with_a_variance_is_finite_and_not_negative(seed, d, size, eigensolver):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 20))
    z = torch.from_numpy(rng.standard_normal((n, d)) * rng.choice([0.0, 1e-6, 1.0], d)).requires_grad_()
    variance = torch.full((d,), size, dtype=torch.float64, requires_grad=True)
    value = g.w2_penalty(z, variance, eigensolver=eigensolver)
    assert value >= 0
    cov = g.moments(z.detach())[1] + variance.detach().diag()
    two_steps = g.w2_squared_to_standard_normal(z.detach().mean(0), cov)
    assert torch.allclose(value, two_steps, rtol=1e-5, atol=1e-9)
    for gradient in torch.autograd.grad(value, (z, variance)):
        assert gradient.isfinite().all()


def test_penalty_with_a_variance_vanishes_at_the_prior_and_tells_nan():
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]) * (3 / 8) ** 0.5
    corners, half = corners.requires_grad_(), torch.full((2,), 0.5, requires_grad=True)
    for eigensolver in (True, False):
        value = g.w2_penalty(corners, half, eigensolver=eigensolver)
        assert value.item() < 1e-12
        assert all(a.abs().max() < 1e-6 for a in torch.autograd.grad(value, (corners, half)))
        assert g.w2_penalty(corners, half * torch.nan, eigensolver=eigensolver).isnan()


def spectrum(kind: str, rank: int) -> torch.Tensor:
    """Standard deviations, the largest first."""
    ones = torch.ones(rank, dtype=torch.float64)
    if kind == "geometric":
        return torch.logspace(0, -4, rank, dtype=torch.float64)
    if kind == "repeated":
        ones[rank // 2 :] = 0.1
    elif kind == "collapsed":
        ones[rank // 2 :] = 0
    elif kind != "prior":
        ones[-1] = float(kind)
    return ones


def shaped(n: int, d: int, kind: str, rotated: bool, seed: int = 0) -> torch.Tensor:
    """A float64 batch with exactly those standard deviations, along axes or in no axis' direction."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, dtype=torch.float64, generator=generator)
    left, _, right = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    rank = min(n - 1, d)
    directions = right if rotated else torch.eye(d, dtype=torch.float64)
    return left[:, :rank] * (math.sqrt(n - 1) * spectrum(kind, rank)) @ directions[:rank]


@pytest.mark.parametrize("eigensolver", [True, False])
@pytest.mark.parametrize("n, d", [(256, 8), (128, 64), (64, 64), (32, 64), (1024, 128)])
@pytest.mark.parametrize("kind", ["geometric", "1e-2", "1e-3", "1e-4", "repeated", "collapsed", "prior"])
def test_penalty_pulls_every_direction_alike_on_every_device(n, d, kind, eigensolver):
    """In float32 against singular values in float64; eigenvalues in float32 would forget the small ones."""
    batches = (True, 0.0, 1.3), (False, 0.0, 1.3), (True, 100.0, 0.7), (True, -3.0, 1e-5)
    for rotated, offset, size in batches:
        z = (size * shaped(n, d, kind, rotated) + offset).float().requires_grad_()
        penalty = g.w2_penalty(z, eigensolver=eigensolver)
        value, truth = exact_penalty(z)
        assert penalty.item() == pytest.approx(value.item(), rel=1e-4)
        (found,) = torch.autograd.grad(penalty, z)
        assert found.isfinite().all()
        _, s, directions = torch.linalg.svd(z.detach().double() - z.detach().double().mean(0))
        resolved = torch.nn.functional.pad(s, (0, d - len(s))) >= 0.99e-4 * s[0]
        error = ((found.double() - truth) @ directions.mT).norm(dim=0)
        true = (truth @ directions.mT).norm(dim=0)
        assert (error <= 1e-3 * true + 1e-6 * truth.norm())[resolved].all(), (rotated, offset)


@pytest.mark.parametrize("eigensolver", [True, False])
def test_penalty_with_a_variance_pulls_every_direction_alike(eigensolver):
    """What is next to nothing in the means may be next to nothing in the variance as well."""
    z = shaped(128, 16, "geometric", rotated=False).float().requires_grad_()
    variance = torch.logspace(-9, -7, 16).requires_grad_()
    gradients = torch.autograd.grad(g.w2_penalty(z, variance, eigensolver=eigensolver), (z, variance))
    wide = [t.detach().double().requires_grad_() for t in (z, variance)]
    mean, cov = g.moments(wide[0])
    two_steps = g.w2_squared_to_standard_normal(mean, cov + wide[1].diag())
    for gradient, truth in zip(gradients, torch.autograd.grad(two_steps, wide), strict=True):
        error = (gradient.double() - truth).reshape(-1, 16).norm(dim=0)
        assert (error <= 1e-3 * truth.reshape(-1, 16).norm(dim=0) + 1e-6 * truth.norm()).all()


@pytest.mark.parametrize("eigensolver", [True, False])
def test_penalty_brings_a_direction_back_that_has_nearly_collapsed(eigensolver):
    z = shaped(128, 64, "1e-3", rotated=True).float().requires_grad_()
    optimizer = torch.optim.SGD([z], lr=1.0)
    for _ in range(300):
        optimizer.zero_grad()
        g.w2_penalty(z, eigensolver=eigensolver).backward()
        optimizer.step()
    assert torch.linalg.svdvals(z.detach() - z.detach().mean(0))[-1] / math.sqrt(127) > 0.9


def test_the_polynomials_of_the_products_are_the_best_and_go_to_one():
    grid = np.concatenate([np.geomspace(5e-5, 1, 2001), np.linspace(0.01, 1, 2001)])
    low, high, x = 5e-5, 1.0, grid
    for coefficients in g._TO_ONE:
        low, high = low / 1.01, 1.01 * high
        points = np.unique(np.concatenate([np.geomspace(low, high, 2000), np.linspace(low, high, 2000)]))
        powers = np.stack([points, points**3, points**5], 1)
        column, ones = np.ones((len(points), 1)), np.ones(len(points))
        best = linprog(
            [0, 0, 0, 1],
            A_ub=np.block([[powers, -column], [-powers, -column]]),
            b_ub=np.concatenate([ones, -ones]),
            bounds=[(None, None)] * 4,
        )
        reached = powers @ np.array(coefficients)
        low, high = reached.min(), reached.max()
        assert max(high - 1, 1 - low) <= best.fun * 1.01 + 2e-4
        x = np.stack([x, x**3, x**5], 1) @ np.array(coefficients)
    assert np.abs(x - 1).max() < 5e-3
    last = (35 * x**3 - 42 * x**5 + 15 * x**7) / 8
    assert np.abs(last - 1).max() < 3e-6


@pytest.mark.parametrize("eigensolver", [True, False])
def test_penalty_on_degenerate_batches(eigensolver):
    for z, truth in [
        (torch.zeros(5, 3), 3.0),
        (torch.ones(5, 3), 6.0),
        (torch.full((5, 3), 1e-30), 3.0),
        (torch.tensor([[1e4], [-1e4]]), (math.sqrt(2) * 1e4 - 1) ** 2),
    ]:
        z = z.requires_grad_()
        penalty = g.w2_penalty(z, eigensolver=eigensolver)
        assert penalty.item() == pytest.approx(truth, rel=1e-6)
        assert torch.autograd.grad(penalty, z)[0].isfinite().all()
    batch = torch.randn(2, 10, 4, generator=torch.Generator().manual_seed(0))
    batch[0, 3, 1] = torch.nan
    batch.requires_grad_()
    penalty = g.w2_penalty(batch, eigensolver=eigensolver)
    assert penalty.isnan().tolist() == [True, False]
    assert penalty[1].item() == pytest.approx(g.w2_penalty(batch[1]).item(), rel=1e-5)
    assert torch.autograd.grad(penalty.sum(), batch)[0].isfinite().all((-1, -2)).tolist() == [False, True]


# Shapes, dtypes, what is refused


def test_batches_are_loops_and_broadcast():
    mean1, cov1, mean2, cov2 = batch_of("well", "singular", 3, 4)
    single = torch.stack([g.w2_squared(*p) for p in zip(mean1, cov1, mean2, cov2, strict=True)])
    assert torch.allclose(g.w2_squared(mean1, cov1, mean2, cov2), single, rtol=1e-12)
    table = g.w2_squared(mean1[:, None], cov1[:, None], mean2, cov2)
    assert table.shape == (4, 4) and torch.allclose(table.diagonal(), single, rtol=1e-12)
    assert g.w2_squared(mean1, cov1, mean2[0], cov2[0]).shape == (4,)
    z = torch.randn(2, 3, 9, 4, generator=torch.Generator().manual_seed(0))
    for function in (g.w2_penalty, lambda z: g.w2_penalty(z, eigensolver=False)):
        assert torch.allclose(function(z)[1, 2], function(z[1, 2]), rtol=1e-5)


def test_numpy_lists_integers_and_autocast():
    assert g.w2_squared(np.zeros(2), np.eye(2), [3.0, 4.0], np.eye(2)).item() == 25.0
    assert g.w2_squared([0, 0], [[1, 0], [0, 1]], [1, 0], [[4, 0], [0, 1]]).item() == pytest.approx(2.0)
    z = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    outside = g.w2_penalty(z), g.w2_squared_to_standard_normal(*g.moments(z))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = g.w2_penalty(z), g.w2_squared_to_standard_normal(*g.moments(z))
    assert all(torch.equal(a, b) for a, b in zip(outside, inside, strict=True))


def test_nan_in_is_nan_out():
    mean1, cov1, mean2, cov2 = batch_of("well", "well", 3, 2)
    cov1[0, 0, 1] = cov1[0, 1, 0] = torch.inf
    for value in (
        g.w2_squared(mean1, cov1, mean2, cov2),
        g.w2_squared_to_standard_normal(mean1, cov1),
        geometry.entropic_w2_squared(mean1, cov1, mean2, cov2, 1.0),
    ):
        assert value.isfinite().tolist() == [False, True]


def test_a_covariance_that_was_rounded_to_float32_is_one_in_float64_too():
    factor = torch.randn(200, 4, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    cov, mean = factor @ factor.mT, torch.zeros(4, dtype=torch.float64)
    rounded = cov.float().double()
    values = torch.linalg.eigvalsh(rounded)
    assert (
        values[:, 0] < -(torch.finfo(torch.float64).eps ** 0.5) * values[:, -1]
    ).any()  # else nothing seen
    truth = g.w2_squared_to_standard_normal(mean, cov)
    torch.testing.assert_close(g.w2_squared_to_standard_normal(mean, rounded), truth, rtol=0, atol=2e-3)
    assert g.w2_squared(mean, rounded.numpy(), mean, cov).max() < 1e-5
    with pytest.raises(ValueError, match="not a covariance"):  # further below 0 than float64 rounds
        g.w2_squared_to_standard_normal(mean, cov - 1e-6 * torch.eye(4).double())


def test_numbers_too_large_for_their_square_give_nan():
    assert g.w2_penalty(torch.tensor([[1e20], [-1e20]])).isnan()
    assert g.w2_penalty(torch.tensor([[1e15], [-1e15]])).isfinite()


def test_what_is_no_gaussian_is_refused():
    zero, eye = torch.zeros(2), torch.eye(2)
    with pytest.raises(ValueError, match="not a covariance"):
        g.w2_squared(zero, -eye, zero, eye)
    with pytest.raises(ValueError, match="must be"):
        g.w2_squared(zero, torch.eye(3), zero, eye)
    with pytest.raises(ValueError, match="2 and 3 dimensions"):
        g.w2_squared(zero, eye, torch.zeros(3), torch.eye(3))
    with pytest.raises(ValueError, match="cannot be negative"):
        g.w2_squared_diagonal(zero, torch.tensor([1.0, -1.0]))
    points, logarithms = torch.randn(5, 2), torch.tensor([0.5, 0.1]).log()
    with pytest.raises(ValueError, match="is it a logarithm"):
        g.w2_penalty(points, logarithms)
    with pytest.raises(ValueError, match="cannot be negative"):
        g.total_moments(points, logarithms.expand(5, 2))
    for points in (torch.zeros(1, 3), torch.zeros(3), torch.zeros(3, 0)):
        with pytest.raises(ValueError, match="points of shape"):
            g.moments(points)
        with pytest.raises(ValueError, match="points of shape"):
            g.w2_penalty(points)
    with pytest.raises(ValueError, match="epsilon"):
        geometry.entropic_w2_squared(zero, eye, zero, eye, 0)
    with pytest.raises(ValueError, match="time"):
        geometry.geodesic(zero, eye, zero, eye, 1.5)


# Map, geodesic, barycentre, bounds


@nasty
@given(seeds, dims, kinds, kinds)
def test_transport_map_and_geodesic(seed, d, kind1, kind2):
    mean1, cov1, mean2, cov2 = gaussians(seed, d, kind1, kind2)
    scale = traces(cov1, cov2)
    if kind1 in EXACT:  # invertible: the map reaches its target, is symmetric, and costs W2^2
        matrix, offset = geometry.transport_map(mean1, cov1, mean2, cov2)
        assert (matrix @ cov1 @ matrix.T - cov2).abs().max() <= 1e-9 * scale
        assert (matrix @ mean1 + offset - mean2).abs().max() <= 1e-9 * (1 + scale)
        assert (matrix - matrix.T).abs().max() <= 1e-7 * (1 + matrix.abs().max())
        move = matrix - torch.eye(d, dtype=torch.float64)
        cost = (mean1 - mean2).square().sum() + (move @ cov1 @ move.T).trace()
        assert (cost - g.w2_squared(mean1, cov1, mean2, cov2)).abs() <= 1e-7 * scale + 1e-12
    times = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    mean, cov = geometry.geodesic(mean1, cov1, mean2, cov2, times)
    whole = g.w2(mean1, cov1, mean2, cov2)
    assert (g.w2(mean1, cov1, mean, cov) - times * whole).abs().max() <= 1e-6 * (1 + scale.sqrt())
    assert (g.w2(mean, cov, mean2, cov2) - (1 - times) * whole).abs().max() <= 1e-6 * (1 + scale.sqrt())


def test_transport_map_from_a_singular_gaussian():
    """From a line the map reaches any line that is not orthogonal to it, and no plane."""
    zero = torch.zeros(2, dtype=torch.float64)
    line, other = (
        torch.outer(v, v) for v in (torch.tensor([1.0, 0]).double(), torch.tensor([1.0, 2]).double())
    )
    matrix, _ = geometry.transport_map(zero, line, zero, other)
    assert torch.allclose(matrix @ line @ matrix.T, other)
    matrix, _ = geometry.transport_map(zero, line, zero, torch.eye(2, dtype=torch.float64))
    assert torch.allclose(matrix, line)


def test_barycentre():
    means, covs = zip(*(gaussians(i, 3, "well") for i in range(4)), strict=True)
    means, covs, weights = (
        torch.stack(means),
        torch.stack(covs),
        torch.tensor([1.0, 2, 3, 4], dtype=torch.float64),
    )
    mean, cov = geometry.barycentre(means, covs, weights)
    mean_ot, cov_ot = ot.gaussian.bures_wasserstein_barycenter(
        means, covs, weights=weights / 10, num_iter=10_000, eps=1e-12
    )
    assert torch.allclose(mean, mean_ot.squeeze(), rtol=1e-9)
    assert torch.allclose(cov, cov_ot, rtol=1e-7)
    # the optimal maps from the barycentre average to the identity (Agueh & Carlier 2011)
    maps = torch.stack([geometry.transport_map(mean, cov, m, c)[0] for m, c in zip(means, covs, strict=True)])
    assert torch.allclose(
        (weights[:, None, None] / 10 * maps).sum(0), torch.eye(3, dtype=torch.float64), atol=1e-9
    )
    # of two, the barycentre is on the geodesic
    half = geometry.geodesic(means[0], covs[0], means[1], covs[1], 0.25)
    assert torch.allclose(geometry.barycentre(means[:2], covs[:2], [0.75, 0.25])[1], half[1], atol=1e-9)
    with pytest.raises(RuntimeError, match="converge"):
        geometry.barycentre(means, covs, max_steps=1)
    with pytest.raises(ValueError, match="weights"):
        geometry.barycentre(means, covs, [0.0, 0, 0, 0])


@nasty
@given(seeds, st.integers(1, 4), st.integers(2, 12))
def test_gelbrich_bound_is_below_the_exact_distance(seed, d, n):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((n, d)), 0.5 + 2 * rng.exponential(size=(n, d))
    cost = ((x[:, None] - y) ** 2).sum(-1)
    rows, columns = linear_sum_assignment(cost)
    assert geometry.gelbrich_bound(x, y) <= cost[rows, columns].mean() * (1 + 1e-9)
    # the divisor is n: equality for a symmetric positive affine map
    stretched = 3 * x + 1
    assert geometry.gelbrich_bound(x, stretched).item() == pytest.approx(
        ((x - stretched) ** 2).sum(-1).mean(), rel=1e-7
    )


# Entropic forms


@nasty
@given(seeds, st.integers(1, 5), kinds, kinds, st.floats(0.05, 20))
def test_entropic_value_is_the_published_formula(seed, d, kind1, kind2, epsilon):
    """Janati et al. (2020), theorem 1, as printed, with epsilon = 2 sigma^2."""
    mean1, cov1, mean2, cov2 = gaussians(seed, d, kind1, kind2)
    s2, eye = epsilon / 2, np.eye(d)
    values, vectors = np.linalg.eigh(cov1.numpy())
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    inner = np.linalg.eigvalsh(4 * root @ cov2.numpy() @ root + s2**2 * eye)
    truth = (mean1 - mean2).square().sum().item() + traces(cov1, cov2).item() - np.sqrt(inner).sum()
    truth += d * s2 * (1 - math.log(2 * s2)) + s2 * np.log(np.sqrt(inner) + s2).sum()
    value = geometry.entropic_w2_squared(mean1, cov1, mean2, cov2, epsilon).item()
    assert value == pytest.approx(truth, rel=1e-9, abs=1e-9)
    divergence = geometry.sinkhorn_divergence(mean1, cov1, mean2, cov2, epsilon)
    assert -1e-9 * (1 + traces(cov1, cov2)) <= divergence
    assert geometry.sinkhorn_divergence(mean1, cov1, mean1, cov1, epsilon).abs() <= 1e-12 * (1 + cov1.trace())


def test_entropic_value_is_what_sinkhorn_finds():
    x, epsilon = np.linspace(-7, 7, 300), 0.5
    a, b = np.exp(-(x**2) / 2), np.exp(-((x - 0.5) ** 2) / 2 / 0.49)
    a, b, cost = a / a.sum(), b / b.sum(), (x[:, None] - x) ** 2
    plan = ot.sinkhorn(a, b, cost, reg=epsilon, stopThr=1e-12, numItermax=5000)
    kept = plan > 0
    relative_entropy = (plan[kept] * np.log(plan[kept] / np.outer(a, b)[kept])).sum()
    value = geometry.entropic_w2_squared(*(np.array(v) for v in ([0.0], [[1.0]], [0.5], [[0.49]])), epsilon)
    assert value.item() == pytest.approx((plan * cost).sum() + epsilon * relative_entropy, rel=1e-6)


def test_entropic_limits():
    pair = gaussians(0, 4, "well", "well")
    assert geometry.entropic_w2_squared(*pair, 1e-10).item() == pytest.approx(
        g.w2_squared(*pair).item(), rel=1e-7
    )
    independent = (pair[0] - pair[2]).square().sum() + traces(pair[1], pair[3])
    assert geometry.entropic_w2_squared(*pair, 1e8).item() == pytest.approx(independent.item(), rel=1e-6)


# Moments


def test_moments_are_numpys():
    z = np.random.default_rng(0).standard_normal((30, 4)) + 5
    mean, cov = g.moments(z)
    assert np.allclose(mean, z.mean(0), rtol=1e-12) and np.allclose(cov, np.cov(z.T), rtol=1e-10)


def test_total_moments_are_the_mixtures():
    rng = np.random.default_rng(0)
    mean, variance = (
        torch.from_numpy(rng.standard_normal((50, 3))),
        torch.from_numpy(rng.uniform(0.1, 1, (50, 3))),
    )
    centre, cov = g.total_moments(mean, variance)
    second = (
        (mean[:, :, None] * mean[:, None, :]).mean(0) + variance.mean(0).diag() - torch.outer(centre, centre)
    )
    assert torch.allclose(cov - second, (g.moments(mean)[1]) / 50)  # the divisor n - 1 is all that differs
    with pytest.raises(ValueError, match="differ in shape"):
        g.total_moments(mean, variance[:10])


def test_two_processes_find_the_loss_and_gradient_of_one(tmp_path):
    generator = torch.Generator().manual_seed(0)
    whole = torch.randn(20, 4, generator=generator, dtype=torch.float64)
    weight = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    torch.save((whole, weight), tmp_path / "batch.pt")
    torch.multiprocessing.spawn(share_of_a_batch, args=(str(tmp_path),), nprocs=2)
    weight.requires_grad_()
    loss = g.w2_squared_to_standard_normal(*g.moments_across_processes(whole @ weight))  # here: one process
    loss.backward()
    (slope,) = torch.autograd.grad(
        g.w2_squared_to_standard_normal(*g.moments(whole @ weight)), weight, create_graph=True
    )
    (curvature,) = torch.autograd.grad(slope.square().sum(), weight)
    for rank in (0, 1):
        value, gradient, second = torch.load(tmp_path / f"result-{rank}.pt", weights_only=True)
        assert torch.allclose(second, curvature, rtol=1e-9)
        assert torch.allclose(value, loss.detach(), rtol=1e-12)
        assert torch.allclose(gradient, weight.grad, rtol=1e-10)
