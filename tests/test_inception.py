"""The network sees in an image what pytorch-fid's sees, faster."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import conftest
import numpy as np
import pytest
import torch
from conftest import inception_file, subprocess_environment
from PIL import Image

from wwae_lib import data, evaluation, inception, processes


def save_pngs(images: torch.Tensor, folder: Path) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{number:05}.png" for number in range(len(images))]
    for image, path in zip(images.permute(0, 2, 3, 1).numpy(), paths, strict=True):
        Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(path)
    return paths


@pytest.mark.parametrize("colours", [1, 3])
def test_features_are_pytorch_fids(tmp_path, digits, colours):
    inception_file()
    from pytorch_fid.fid_score import get_activations
    from pytorch_fid.inception import InceptionV3

    images = digits.pixels[::50]
    if colours == 3:
        images = torch.stack([images[:, 0], images[:, 0].flip(1), images[:, 0].mT], dim=1)
    theirs = InceptionV3([InceptionV3.BLOCK_INDEX_BY_DIM[2048]]).eval()
    expected = get_activations(save_pngs(images, tmp_path / "png"), theirs, batch_size=8, num_workers=0)
    found = inception.features(images, inception.network(), progress=False)
    assert expected.shape == found.shape == (8, 2048) and np.abs(expected).max() > 0.5
    assert np.abs(found.numpy() - expected).max() < 1e-4


def test_bfloat16_is_near(digits):
    inception_file()
    images = digits.pixels[::100]
    exact = inception.features(images, inception.network(), progress=False)
    near = inception.features(images, inception.network("bfloat16"), progress=False)
    assert near.dtype == torch.float32 and not torch.equal(near, exact)
    assert (near - exact).square().mean().sqrt() < 0.05 * exact.std(0).square().mean().sqrt()


@pytest.mark.parametrize("precision", inception.PRECISIONS)
def test_without_onednn_the_features_are_the_same(monkeypatch, digits, precision):
    inception_file()
    images = digits.pixels[:2]
    expected = inception.features(images, inception.network(precision), progress=False)
    monkeypatch.setattr(inception, "_onednn_computes_in", lambda dtype: False)
    found = inception.features(images, inception.network(precision), progress=False)
    off = (found - expected).square().mean().sqrt() / expected.std()
    assert off < (1e-5 if precision == "float32" else 0.05)


def test_an_unknown_precision():
    with pytest.raises(ValueError, match="no precision 'float8'; known: float32, bfloat16"):
        inception.network("float8")


def test_batches_are_put_together_in_order(monkeypatch, digits):
    conftest.stand_in(monkeypatch)
    monkeypatch.setitem(inception.BATCH, "cpu", 7)
    images = digits.pixels[:23]
    found = inception.features(images, conftest.StandIn(), progress=False)
    expected = images.double().div(255).unflatten(3, (2, 14)).unflatten(2, (2, 14)).mean((1, 3, 5))
    torch.testing.assert_close(found.double(), expected.flatten(1), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("n", [1, 6, 23])
def test_each_process_sees_its_share(monkeypatch, digits, n):
    """One process after another, in turn taken for each of three."""
    conftest.stand_in(monkeypatch)
    images = digits.pixels[:n]
    whole = inception.features(images, conftest.StandIn(), progress=False)
    monkeypatch.setattr(processes, "count", lambda: 3)
    shares = []
    for rank in range(3):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(processes, "gather", lambda own: shares.append(own) or own)
        inception.features(images, conftest.StandIn(), progress=False)
    assert len({len(share) for share in shares}) == 1  # gathering needs equal shares
    torch.testing.assert_close(torch.cat(shares)[:n], whole)


@pytest.mark.slow
def test_fid_is_that_of_pytorch_fids_own_command(tmp_path):
    inception_file()
    every = torch.cat([data.embedded_digits(split).pixels for split in ("train", "test")])
    every = every[torch.randperm(5000, generator=torch.Generator().manual_seed(0))]
    one, other = every[:2048], every[2048:4096]
    save_pngs(one, tmp_path / "one")
    save_pngs(other, tmp_path / "other")
    command = [sys.executable, "-m", "pytorch_fid", str(tmp_path / "one"), str(tmp_path / "other")]
    done = subprocess.run(
        [*command, "--device", "cpu", "--num-workers", "0"],
        capture_output=True, text=True, check=True, env=subprocess_environment(OMP_NUM_THREADS="2"),
    )  # fmt: skip
    expected = float(re.search(r"FID:\s*([\d.eE+-]+)", done.stdout)[1])
    assert evaluation.fid(one, other, progress=False) == pytest.approx(expected, rel=1e-3)
