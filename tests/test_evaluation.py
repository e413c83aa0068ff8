"""What is reported is what it says, and the committed runs' weights, pictures and numbers belong together."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import inception_file, real_data, small, subprocess_environment
from PIL import Image
from torch import nn

from wwae_lib import data, evaluation, inception, methods, runs
from wwae_lib.gaussian import moments, w2_squared

BOOK_RESULTS = Path(__file__).resolve().parents[1] / "book" / "results"
COMMITTED = sorted(path.parent for path in BOOK_RESULTS.glob("*/*/seed-*/run.json"))


@pytest.fixture(scope="module")
def method():
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return methods.build(small()).eval()


# ---------------------------------------------------------------- cheap metrics


def test_measure_is_its_definition(method, test_digits):
    with torch.no_grad():
        images = test_digits.pixels / 255
        mean, log_variance = (t.double().numpy() for t in method.encode(images))
        rebuilt = method.decode(method.encode(images)[0])
        error = ((images - rebuilt).double() ** 2).sum((1, 2, 3)).mean().item()
    covariance = np.cov(mean, rowvar=False) + np.diag(np.exp(log_variance).mean(0))
    roots = np.sqrt(np.linalg.eigvalsh(covariance))
    found = evaluation.measure(method, test_digits)
    assert found["squared_error"] == pytest.approx(error, rel=1e-6)
    expected = (mean.mean(0) ** 2).sum() + ((roots - 1) ** 2).sum()
    assert found["posterior_w2_squared"] == pytest.approx(expected, rel=1e-6)
    assert found["posterior_variance"] == pytest.approx(np.exp(log_variance).mean(), rel=1e-6)


def test_measure_does_not_depend_on_the_chunks(method, test_digits, monkeypatch):
    whole = evaluation.measure(method, test_digits)
    monkeypatch.setattr(evaluation, "CHUNK", 7)
    assert evaluation.measure(method, test_digits) == pytest.approx(whole, rel=1e-5)


def test_to_pixels_rounds_to_the_nearest():
    images = torch.tensor([0, 0.4 / 255, 0.6 / 255, 1, 1.2, -0.1])
    assert evaluation.to_pixels(images).tolist() == [0, 0, 1, 255, 255, 0]
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(evaluation.to_pixels(data.to_unit(every)), every)


def test_prior_samples_begin_alike_however_many(method):
    """The samples that a run shows are the first of those that its FID sees."""
    many = evaluation.prior_samples(method, 1100, seed=0)
    assert many.shape == (1100, 1, 28, 28) and many.dtype == torch.uint8
    for n in (1, 100, 499, 500, 501):
        assert torch.equal(evaluation.prior_samples(method, n, seed=0), many[:n])
    assert len({image.numpy().tobytes() for image in many}) > 1000  # chunks do not repeat
    assert not torch.equal(evaluation.prior_samples(method, 10, seed=1), many[:10])


def test_load_method_is_ready_to_measure(finished):
    loaded = evaluation.load_method(finished)
    assert not loaded.training
    for name, value in loaded.state_dict().items():
        assert value.dtype == torch.float32 and torch.equal(value, value.half().float()), name


# ---------------------------------------------------------------- pictures


def tiles(grid: np.ndarray, side: int = 28) -> np.ndarray:
    """``(rows, columns, side, side)`` of a grid of grey images."""
    return grid.reshape(grid.shape[0] // side, side, grid.shape[1] // side, side).swapaxes(1, 2)


def check_pictures(run: runs.Run, method, originals: torch.Tensor, tolerance: int) -> None:
    """A run's grids are those of its weights, up to so many levels of grey."""

    def near(found: np.ndarray, expected: torch.Tensor) -> bool:
        return np.abs(found.astype(int) - expected.numpy().astype(int)).max() <= tolerance

    with torch.no_grad():
        samples = evaluation.prior_samples(method, 100, run.experiment.seed)
        assert near(tiles(run.grid("samples")).reshape(-1, 28, 28), samples[:, 0])
        pairs = tiles(run.grid("reconstructions"))
        assert np.array_equal(pairs[::2].reshape(-1, 28, 28), originals[:50, 0].numpy())
        images = data.to_unit(originals[:50])
        assert near(pairs[1::2].reshape(-1, 28, 28), evaluation.to_pixels(method.reconstruct(images))[:, 0])
        between = tiles(run.grid("interpolations"))
        mean, log_variance = method.encode(images[:20])
        ends = evaluation.to_pixels(method.decode(mean))[:, 0]
        assert near(between[:, 0], ends[:10]) and near(between[:, 9], ends[10:])
        third = torch.lerp(mean[:10], mean[10:], 3 / 9)
        assert near(between[:, 3], evaluation.to_pixels(method.decode(third))[:, 0])
        codes = run.codes()
        torch.testing.assert_close(codes["mean"][:20], mean, rtol=2e-3, atol=2e-3)
        torch.testing.assert_close(codes["std"][:20], (log_variance / 2).exp(), rtol=2e-3, atol=2e-3)


def test_pictures_show_what_they_say(finished, test_digits):
    check_pictures(finished, evaluation.load_method(finished), test_digits.pixels, tolerance=0)


def test_colour_grids(tmp_path):
    pixels = torch.randint(0, 256, (20, 3, 4, 4), dtype=torch.uint8)
    evaluation._write_grid(tmp_path / "grid.png", pixels)
    with Image.open(tmp_path / "grid.png") as image:
        grid = np.asarray(image)
    assert grid.shape == (8, 40, 3)
    assert np.array_equal(grid[4:8, 8:12], pixels[12].permute(1, 2, 0).numpy())


# ---------------------------------------------------------------- FID


def test_fid_refuses_fewer_than_2048_images():
    few, enough = torch.zeros(2047, 1, 2, 2, dtype=torch.uint8), torch.zeros(2048, 1, 2, 2, dtype=torch.uint8)
    with pytest.raises(ValueError, match="at least 2,048 images, one a feature; got 2,047"):
        evaluation.fid(few, enough)
    with pytest.raises(ValueError, match="at least 2,048 reference images, one a feature; got 2,047"):
        evaluation.fid(enough, few)


@pytest.mark.parametrize(("n", "d"), [(2048, 64), (100, 40)])
def test_distance_is_pytorch_fids(n, d):
    from pytorch_fid.fid_score import calculate_frechet_distance

    rng = np.random.default_rng(0)
    one = rng.normal(size=(n, d)) @ rng.normal(size=(d, d))
    other = rng.gamma(2.0, size=(n, d)) @ rng.normal(size=(d, d)) + 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it passes SciPy's sqrtm an old argument
        expected = calculate_frechet_distance(
            one.mean(0), np.cov(one, rowvar=False), other.mean(0), np.cov(other, rowvar=False)
        )
    found = w2_squared(*moments(one), *moments(other)).item()
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.fixture
def features_are_pixels(monkeypatch):
    """In place of Inception: the four pixels of an image are its features. Counts the calls."""
    calls = []

    def features(images, *arguments, **options):
        calls.append(len(images))
        return images.flatten(1).float()

    monkeypatch.setattr(evaluation, "inception_network", nn.Identity)
    monkeypatch.setattr(evaluation, "inception_features", features)
    return calls


def test_fid_is_the_distance_of_the_features_and_remembers_the_reference(features_are_pixels):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 200, (2048, 1, 2, 2), generator=generator, dtype=torch.uint8)
    reference = torch.randint(0, 256, (2100, 1, 2, 2), generator=generator, dtype=torch.uint8)
    expected = w2_squared(
        *moments(images.flatten(1).double()), *moments(reference.flatten(1).double())
    ).item()
    assert evaluation.fid(images, reference, progress=False) == pytest.approx(expected, rel=1e-12)
    assert features_are_pixels == [2048, 2100]
    assert evaluation.fid(images, reference, progress=False) == pytest.approx(expected, rel=1e-12)
    assert features_are_pixels == [2048, 2100, 2048]
    changed = reference.clone()
    changed[0, 0, 0, 0] ^= 1
    assert evaluation.fid(images, changed, progress=False) != expected
    assert features_are_pixels[-2:] == [2048, 2100]
    assert evaluation.fid(images, images, progress=False) == pytest.approx(0, abs=1e-8)


def test_a_damaged_cache_of_the_reference_is_an_error(features_are_pixels):
    images = torch.randint(0, 200, (2048, 1, 2, 2), dtype=torch.uint8)
    evaluation.fid(images, images, progress=False)
    (cache,) = (data.data_root() / "fid").glob("*.safetensors")
    cache.write_bytes(cache.read_bytes()[:-9])
    with pytest.raises(runs.RunError, match=f"{cache.name} cannot be read"):
        evaluation.fid(images, images, progress=False)


def test_evaluate_adds_the_fid_and_its_protocol_to_the_record(finished, tmp_path, monkeypatch, test_digits):
    path = tmp_path / "run"
    shutil.copytree(finished.path, path)
    seen = {}

    def fid(images, reference, *arguments, **options):
        seen.update(images=images, reference=reference)
        return 12.5

    monkeypatch.setattr(evaluation, "fid", fid)
    monkeypatch.setattr(evaluation, "inception_network", nn.Identity)
    monkeypatch.setattr(evaluation, "FID_IMAGES", 600)
    run = evaluation.evaluate(runs.load(path), test_digits, progress=False)
    assert run.metrics == pytest.approx(finished.metrics | {"fid": 12.5}, rel=1e-6)
    assert run.record["evaluation"]["fid_samples"] == 600 and run.record["evaluation"]["fid_reference"] == 100
    assert torch.equal(seen["reference"], test_digits.pixels)
    method = evaluation.load_method(run)
    assert torch.equal(seen["images"], evaluation.prior_samples(method, 600, run.experiment.seed))
    assert runs.load(path).record == run.record


def save_pngs(images: torch.Tensor, folder: Path) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{number:05}.png" for number in range(len(images))]
    for image, path in zip(images, paths, strict=True):
        Image.fromarray(image[0].numpy()).save(path)
    return paths


def test_inception_features_are_pytorch_fids(tmp_path, digits):
    inception_file()
    from pytorch_fid.fid_score import get_activations
    from pytorch_fid.inception import InceptionV3

    images = digits.pixels[::25]
    theirs = InceptionV3([InceptionV3.BLOCK_INDEX_BY_DIM[2048]]).eval()
    expected = get_activations(save_pngs(images, tmp_path / "png"), theirs, batch_size=8, num_workers=0)
    found = inception.features(images, inception.network(), progress=False)
    assert expected.shape == found.shape == (16, 2048) and np.abs(expected).max() > 0.5
    assert np.abs(found.numpy() - expected).max() < 1e-4


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


# ---------------------------------------------------------------- the committed runs


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: str(path.relative_to(BOOK_RESULTS)))
def test_a_committed_run_is_whole_and_in_its_place(path):
    run = runs.load(path)
    assert str(path.relative_to(BOOK_RESULTS)) == run.experiment.name
    assert [line["epoch"] for line in run.history()] == list(range(1, run.experiment.epochs + 1))
    for line in run.history():
        expected = line["reconstruction"] + run.experiment.penalty_weight * line["penalty"]
        assert line["loss"] == pytest.approx(expected, rel=1e-4)
    assert sum(file.stat().st_size for file in path.iterdir()) < 10e6  # small enough for git
    assert run.record["data"]["train"]["sha256"] != run.record["data"]["test"]["sha256"]
    assert run.record["data"]["train"]["split"] == "train"


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: str(path.relative_to(BOOK_RESULTS)))
def test_a_committed_runs_pictures_are_those_of_its_weights(path):
    """Without any data: the originals are in the picture. Another processor may round the other way."""
    run = runs.load(path)
    if run.experiment.dataset == "celeba":
        pytest.skip("the grids of colour images are not taken apart here")
    originals = tiles(run.grid("reconstructions"))[::2].reshape(-1, 1, 28, 28)
    check_pictures(run, evaluation.load_method(run), torch.from_numpy(originals.copy()), tolerance=1)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: str(path.relative_to(BOOK_RESULTS)))
def test_a_committed_runs_numbers_are_those_of_its_weights_on_the_official_test_images(path):
    run = runs.load(path)
    images = data.load(run.experiment.dataset, "test", real_data(run.experiment.dataset))
    assert images.sha256() == run.record["data"]["test"]["sha256"]
    found = evaluation.measure(evaluation.load_method(run), images)
    for name, value in found.items():
        assert run.metrics[name] == pytest.approx(value, rel=1e-3), name
