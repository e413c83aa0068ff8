"""No digit is lost that need not be, and no device is asked for what it has not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from no_float64 import OnMPS
from scipy.spatial.distance import cdist

from wwae_lib import precision

LIBRARY = Path(precision.__file__).parent


def normal(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def in_clusters(n: int, d: int, seed: int = 0) -> torch.Tensor:
    """Five clusters far apart, each a hair wide."""
    return 100 * normal(5, d)[torch.arange(n) % 5] + 1e-3 * normal(n, d, seed + 1)


SAMPLES = {
    "apart": lambda seed: normal(60, 30, seed),
    "far away, near each other": lambda seed: 100 + 0.01 * normal(60, 30, seed),
    "one coordinate large": lambda seed: normal(60, 30, seed) + 1e4 * torch.eye(30)[0],
    "in clusters": lambda seed: in_clusters(60, 30, seed),
    "a line": lambda seed: normal(60, 1, seed) + 1e3,
}


@pytest.mark.parametrize("name", SAMPLES)
def test_distances_have_all_their_digits(name):
    """SciPy's are of the differences themselves."""
    x, y = SAMPLES[name](1), SAMPLES[name](2)
    expected = cdist(x.double(), y.double())
    np.testing.assert_allclose(precision.distances(x, y), expected, rtol=1e-9)


@pytest.mark.parametrize("rows", [7, 1000])
def test_equal_points_are_no_distance_apart(rows, monkeypatch):
    monkeypatch.setattr(precision, "ROWS", rows)
    points = in_clusters(50, 2000)
    apart = precision.distances(points, points)
    assert (apart.diagonal() == 0).all() and (apart.fill_diagonal_(1) > 0).all()
    same = points[:1].expand(50, -1)
    assert (precision.distances(same, same) == 0).all()


def test_distances_of_pixels_are_exact():
    x, y = torch.randint(0, 256, (2, 40, 300), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    apart = precision.distances(x, torch.cat([y, x]))
    np.testing.assert_allclose(apart, cdist(x.double(), torch.cat([y, x]).double()), rtol=1e-12, atol=0)


def test_distances_are_computed_in_one_place():
    """A product of matrices, which torch's ``cdist`` takes unasked, loses what near points differ in."""
    for path in LIBRARY.rglob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            assert "cdist(" not in line or "donot_use_mm" in line, f"{path.name}: {line.strip()}"


def test_wide_is_float64_where_there_is_one():
    for given in (torch.ones(3), torch.ones(3, dtype=torch.uint8), OnMPS(torch.ones(3))):
        widened = precision.wide(given)
        assert widened.dtype == torch.float64 and widened.device.type == "cpu" and widened.tolist() == [1] * 3


def test_a_device_without_float64_refuses_it():
    """The tests' own device does what it stands for."""
    here = OnMPS(normal(4, 4))
    assert (here @ here + 1).device.type == "mps" and isinstance(here.sum().item(), float)
    for refused in (here.double, lambda: here.sum(dtype=torch.float64), lambda: here.to(torch.float64)):
        with pytest.raises(TypeError, match="float64"):
            refused()
    with pytest.raises(NotImplementedError, match="eigh"):
        torch.linalg.eigh(here)


@pytest.mark.parametrize("error", [AttributeError, NotImplementedError, RuntimeError, TypeError])
def test_bfloat16_is_not_computed_where_torch_cannot_tell(monkeypatch, error):
    """As with Apple's wheels, which lack oneDNN's operators."""

    def lacking(*arguments, **options):
        raise error("no such operator")

    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace(_is_mkldnn_bf16_supported=lacking))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lacking)
    for device in ("cpu", "cuda", "mps"):
        assert precision.computes_bf16(torch.device(device)) is False


def test_bfloat16_is_computed_where_torch_says_so(monkeypatch):
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace(_is_mkldnn_bf16_supported=lambda: True))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: not including_emulation)
    computes = {name: precision.computes_bf16(torch.device(name)) for name in ("cpu", "cuda", "mps")}
    assert computes == {"cpu": True, "cuda": True, "mps": False}


def test_private_operators_of_torch_are_used_in_one_place_each():
    """Each asks first: torch's wheels need not have them; but for one that torch.autograd itself needs."""
    using = {
        path.stem
        for path in LIBRARY.rglob("*.py")
        if any(word in path.read_text(encoding="utf-8") for word in ("torch.ops.", "torch._C"))
    }
    assert using == {"precision", "inception", "gaussian"}
