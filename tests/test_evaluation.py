"""What is reported is what it says, and the committed runs' weights, pictures and numbers belong together."""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import shutil
from pathlib import Path

import conftest
import numpy as np
import pytest
import torch
from conftest import cpu_fabric, real_data, small
from no_float64 import OnMPS
from PIL import Image
from safetensors.torch import save_file

from wwae_lib import data, experiments, files, methods, runs, training
from wwae_lib.gaussian import moments, w2_squared
from wwae_lib.measures import evaluation, fidelity, inception, latents, pictures

BOOK_RESULTS = Path(__file__).resolve().parents[1] / "book" / "results"
COMMITTED = sorted(path.parent for path in BOOK_RESULTS.glob("*/*/seed-*/run.json"))
WEIGHED = [path for path in COMMITTED if (path / "weights.safetensors").exists()]
# the methods that the book leads with; the others' test is marked slow
LEADING = [
    pytest.param(path, id=name, marks=[] if path.parent.name in ("wwae", "gan") else pytest.mark.slow)
    for path in WEIGHED
    for name in [str(path.relative_to(BOOK_RESULTS))]
]
OTHER_LOSSES = ("ae", "gan", "wgan_gp", "vae_bernoulli", "vae_learned")  # not squared error and penalty


@pytest.fixture(scope="module")
def method():
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return experiments.build(small()).eval()


# ---------------------------------------------------------------- cheap metrics


def test_measure_is_its_definition(method, test_digits):
    with torch.no_grad():
        images = test_digits.pixels / 255
        mean, log_variance = (t.double().numpy() for t in method.encode(images))
        rebuilt = method.decode(method.encode(images)[0])
        error = ((images - rebuilt).double() ** 2).sum((1, 2, 3)).mean().item()
    covariance = np.cov(mean, rowvar=False) + np.diag(np.exp(log_variance).mean(0))
    roots = np.sqrt(np.linalg.eigvalsh(covariance))
    metrics = evaluation.quick_metrics(method, test_digits)
    assert metrics["squared_error"] == pytest.approx(error, rel=1e-6)
    expected = (mean.mean(0) ** 2).sum() + ((roots - 1) ** 2).sum()
    assert metrics["posterior_w2_squared"] == pytest.approx(expected, rel=1e-6)
    assert metrics["posterior_variance"] == pytest.approx(np.exp(log_variance).mean(), rel=1e-6)


def test_measure_of_a_device_without_float64(method, test_digits, monkeypatch):
    expected, encode = evaluation.quick_metrics(method, test_digits), type(method).encode
    monkeypatch.setattr(type(method), "encode", lambda *given: tuple(map(OnMPS, encode(*given))))
    decode = type(method).decode
    monkeypatch.setattr(type(method), "decode", lambda self, codes: decode(self, codes.cpu()))
    assert evaluation.quick_metrics(method, test_digits) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("spoilt", [0, 1])
def test_distances_refuse_pixels_that_are_not_uint8(stand_in, test_digits, spoilt):
    """Each function that takes pixels; and nothing of the caller's is written to."""
    pixels = test_digits.pixels
    numbers = pixels / 255
    before = numbers.clone()
    pair = [(numbers, pixels), (pixels, numbers)][spoilt]
    for measure in (evaluation.fid, evaluation.nearest):
        with pytest.raises(ValueError, match=r"uint8 pixels, 0 to 255; got torch.float32"):
            measure(*pair)
    for see in (fidelity.sharpness, lambda x: inception.features(x, conftest.StandIn(), progress=False)):
        with pytest.raises(ValueError, match=r"uint8 pixels, 0 to 255; got torch.float32"):
            see(numbers)
    assert torch.equal(numbers, before)
    evaluation.fid(pixels, pixels, progress=False)
    assert torch.equal(pixels, (before * 255).round().to(torch.uint8))


def test_the_nearest_image_is_the_nearest_of_many_that_are_nearly_as_near():
    """A grey level of a pixel decides, which products in float32 cannot see."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 250, (1, 3, 64, 64), dtype=torch.uint8, generator=generator)
    among = image.repeat(30, 1, 1, 1)
    for number in range(30):
        among[number, 0, 0, 0] += 1 + (number + 11) % 30 // 6
        among[number, 1, 3, number] += (number + 11) % 30 % 6
    expected = (among.double() - image.double()).square().flatten(1).sum(1).argmin()
    assert evaluation.nearest(image, among) == expected == 19


def test_measure_does_not_depend_on_the_chunks(method, test_digits, monkeypatch):
    whole = evaluation.quick_metrics(method, test_digits)
    monkeypatch.setattr(evaluation, "CHUNK", 7)
    assert evaluation.quick_metrics(method, test_digits) == pytest.approx(whole, rel=1e-5)


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
    loaded = runs.load_method(finished)
    assert not loaded.training
    for name, value in loaded.state_dict().items():
        assert value.dtype == torch.float32 and torch.equal(value, value.half().float()), name


# ---------------------------------------------------------------- pictures


def tiles(grid: np.ndarray, side: int = 28) -> np.ndarray:
    """``(rows, columns, side, side)`` of a grid of grey images."""
    return grid.reshape(grid.shape[0] // side, side, grid.shape[1] // side, side).swapaxes(1, 2)


def check_samples(run: runs.Run, method, tolerance: int) -> None:
    samples = evaluation.prior_samples(method, 100, run.experiment.seed)[:, 0].numpy()
    shown = tiles(run.grid("samples")).reshape(-1, 28, 28)
    assert np.abs(shown.astype(int) - samples.astype(int)).max() <= tolerance
    assert np.array_equal(tiles(run.grid("neighbours"))[0], shown[:10])


def check_pictures(run: runs.Run, method, originals: torch.Tensor, tolerance: int) -> None:
    """A run's grids are those of its weights, up to so many levels of grey."""

    def near(found: np.ndarray, expected: torch.Tensor) -> bool:
        return np.abs(found.astype(int) - expected.numpy().astype(int)).max() <= tolerance

    check_samples(run, method, tolerance)
    with torch.no_grad():
        pairs = tiles(run.grid("reconstructions"))
        assert np.array_equal(pairs[::2].reshape(-1, 28, 28), originals[:50, 0].numpy())
        images = data.to_unit(originals[:50])
        assert near(pairs[1::2].reshape(-1, 28, 28), evaluation.to_pixels(method.reconstruct(images))[:, 0])
        between = tiles(run.grid("interpolations"))
        mean, _ = method.encode(images[:20])
        ends = evaluation.to_pixels(method.decode(mean))[:, 0]
        assert near(between[:, 0], ends[:10]) and near(between[:, 9], ends[10:])
        third = torch.lerp(mean[:10], mean[10:], 3 / 9)
        assert near(between[:, 3], evaluation.to_pixels(method.decode(third))[:, 0])


def check_codes(run: runs.Run, method, pixels: torch.Tensor) -> None:
    """The codes that a run keeps are of images from the whole test split."""
    codes = run.codes()
    kept = pixels[:: len(pixels) // len(codes["mean"])][: len(codes["mean"])]
    with torch.no_grad():
        mean, log_variance = method.encode(data.to_unit(kept))
    torch.testing.assert_close(codes["mean"], mean, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(codes["std"], (log_variance / 2).exp(), rtol=2e-3, atol=2e-3)


def test_pictures_show_what_they_say(finished, test_digits):
    check_pictures(finished, runs.load_method(finished), test_digits.pixels, tolerance=0)
    check_codes(finished, runs.load_method(finished), test_digits.pixels)


def test_colour_grids(tmp_path):
    pixels = torch.randint(0, 256, (20, 3, 4, 4), dtype=torch.uint8)
    pictures._write_grid(tmp_path / "grid.png", pixels)
    with Image.open(tmp_path / "grid.png") as image:
        grid = np.asarray(image)
    assert grid.shape == (8, 40, 3)
    assert np.array_equal(grid[4:8, 8:12], pixels[12].permute(1, 2, 0).numpy())


# ---------------------------------------------------------------- sets of made images


def _noted(decode, codes: list[torch.Tensor], given: torch.Tensor) -> torch.Tensor:
    codes.append(given)
    return decode(given)


def test_sets_are_what_they_say(finished, digits, test_digits, monkeypatch):
    method, seed, real = runs.load_method(finished), 5, test_digits.pixels

    def made(name: str, n: int = 40, step: int = 1) -> torch.Tensor:
        return evaluation._Encoded(method, digits, test_digits).made_images(name, n, seed, step)

    def decoded(codes: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return evaluation.to_pixels(method.decode(codes))

    assert torch.equal(made("prior"), evaluation.prior_samples(method, 40, seed))
    means = evaluation.encode(method, real)[0]
    torch.testing.assert_close(made("reconstruction"), decoded(means[:40]), rtol=0, atol=1)
    assert len(made("reconstruction", 1000)) == len(real)  # no more than there are
    assert torch.equal(made("reconstruction", 20, step=2), made("reconstruction")[::2])  # each beside its own
    middles = (means[:20, None] + means[None, :20])[~torch.eye(20, dtype=torch.bool)] / 2
    first = dataclasses.replace(test_digits, pixels=real[:20], labels=test_digits.labels[:20])
    between = evaluation._Encoded(method, digits, first).made_images("interpolation", 40, seed)
    distances = torch.cdist(between.flatten(1).float(), decoded(middles).flatten(1).float())
    assert distances.min(1).values.max() < 0.2 * distances.median()
    train = evaluation.encode(method, digits.pixels)[0]
    of_100 = functools.partial(latents.draw_mixture, components=100)
    draws = {"gaussian": latents.draw_gaussian, "mixture": latents.draw_mixture, "mixture_100": of_100}
    for name, draw in draws.items():
        expected = decoded(draw(train, 40, evaluation._seed(seed, name)))
        torch.testing.assert_close(made(name), expected, rtol=0, atol=1)
        codes: list[torch.Tensor] = []  # images of a short training differ too little to tell laws apart
        with monkeypatch.context() as patch:
            decode = functools.partial(_noted, method.decode, codes)
            patch.setattr(method, "decode", decode)
            made(name)
        drawn = draw(train, 40, evaluation._seed(seed, name))
        torch.testing.assert_close(torch.cat(codes), drawn, rtol=1e-4, atol=1e-4)
        assert not torch.equal(
            made(name), evaluation._Encoded(method, digits, test_digits).made_images(name, 40, 6)
        )


def test_training_images_are_the_same_for_every_run(method, digits, test_digits):
    def made(n: int, seed: int) -> torch.Tensor:
        return evaluation._Encoded(method, digits, test_digits).made_images("training", n, seed)

    assert torch.equal(made(40, 1), made(40, 2)) and torch.equal(made(40, 1), made(60, 1)[:40])
    rows = {image.numpy().tobytes() for image in digits.pixels}
    assert {image.numpy().tobytes() for image in made(10_000, 1)} == rows  # each once


def test_seeds_of_purposes_differ():
    seeds = {evaluation._seed(seed, name) for seed in range(5) for name in (*evaluation.SETS, "codes")}
    assert len(seeds) == 5 * (len(evaluation.SETS) + 1)


def test_an_image_is_not_interpolated_with_itself(method, digits, test_digits, monkeypatch):
    """Of two images, all interpolations are the one midpoint."""
    pair = [3, 60]
    two = dataclasses.replace(test_digits, pixels=test_digits.pixels[pair], labels=test_digits.labels[pair])
    between = evaluation._Encoded(method, digits, two).made_images("interpolation", 50, 0)
    assert (between.float() - between[0].float()).abs().max() <= 1


# ---------------------------------------------------------------- codes


def test_codes_are_measured_by_what_each_measure_asks_for(method, digits, test_digits):
    metrics = evaluation.code_metrics(method, digits, test_digits, seed=1)
    mean, variance = evaluation.encode(method, test_digits.pixels)
    assert metrics["effective_dimension"] == latents.effective_dimension(mean)
    assert metrics["active_dimensions"] == sum(np.var(mean.double().numpy(), axis=0, ddof=1) > 0.01)
    train = evaluation.encode(method, digits.pixels)[0]
    expected = latents.accuracies(train, digits.labels, mean, test_digits.labels)
    assert metrics["knn_accuracy"] == expected["knn_accuracy"] > 0.15  # chance is 0.1
    assert metrics["linear_accuracy"] == expected["linear_accuracy"]
    # the rest on one draw a code, whose law has both variances; the untrained encoder's is nearly its noise
    law = mean.double().var(0) + variance.double().mean(0)
    assert metrics["sliced_w2_squared"] == pytest.approx(((law.sqrt() - 1) ** 2).mean().item(), abs=0.05)
    assert 0 < metrics["sliced_w2_squared_floor"] < 0.1
    assert metrics == evaluation.code_metrics(method, digits, test_digits, seed=1)
    assert (
        metrics["henze_zirkler"] != evaluation.code_metrics(method, digits, test_digits, 2)["henze_zirkler"]
    )


def test_codes_that_fill_no_volume_have_no_henze_zirkler(method, digits, test_digits, monkeypatch):
    def flat(method, pixels):
        mean = torch.zeros(len(pixels), 3)
        mean[:, 0] = torch.linspace(-1, 1, len(pixels))
        return mean, torch.zeros_like(mean)

    monkeypatch.setattr(evaluation, "encode", flat)
    metrics = evaluation.code_metrics(method, digits, test_digits, seed=1)
    assert "henze_zirkler" not in metrics and metrics["active_dimensions"] == 1
    assert metrics["effective_dimension"] == pytest.approx(1)


def test_what_a_mixture_gains_is_measured_on_drawn_codes_of_held_out_images(
    method, digits, test_digits, monkeypatch
):
    """Codes of one mean and normal noise are a Gaussian's; those of ten means are not."""

    def fake(means):
        def encoded(method, pixels):
            repeated = means[torch.arange(len(pixels)) % len(means)]
            return repeated, torch.full_like(repeated, 0.01)

        return encoded

    for means, expected in ((torch.zeros(1, 3), 0), (20 * torch.eye(10)[:, :3] + 3, None)):
        monkeypatch.setattr(evaluation, "encode", fake(means))
        metrics = evaluation.code_metrics(method, digits, test_digits, seed=1)
        assert metrics["mixture_nats_floor"] < 0.05, "a mixture gains nothing on exact draws"
        if expected is None:
            assert metrics["mixture_nats"] > 3
        else:
            assert metrics["mixture_nats"] < 0.05


def test_distances_to_the_nearest_training_image_tell_who_memorised(digits, test_digits):
    training = digits.pixels
    metrics, entry = evaluation._nearest_training(training, {"": training[:40], "_data": test_digits.pixels})
    assert metrics["neighbour_distance"] == 0 < metrics["neighbour_distance_data_5"]
    assert metrics["neighbour_distance_data_5"] < metrics["neighbour_distance_data"]
    percentiles = entry["neighbours"]
    assert percentiles["images"] == 40
    expected = [
        min(((a - b) ** 2).mean() ** 0.5 for b in training.double()).item()
        for a in test_digits.pixels[:40].double()
    ]
    np.testing.assert_allclose(percentiles["test"], np.quantile(expected, np.linspace(0, 1, 101)), rtol=1e-9)


def test_faces_have_no_classes(method, digits, test_digits):
    faces = data.Images(digits.pixels, digits.labels, "celeba", "train", "made up")
    assert "knn_accuracy" not in evaluation.code_metrics(method, faces, test_digits, seed=1)


# ---------------------------------------------------------------- evaluation of a run


@pytest.fixture
def stand_in(monkeypatch):
    conftest.stand_in(monkeypatch)
    return monkeypatch


@pytest.fixture
def run(finished, tmp_path) -> runs.Run:
    """A copy to change."""
    shutil.copytree(finished.path, tmp_path / "run")
    return runs.load(tmp_path / "run")


@pytest.fixture
def evaluate(digits, test_digits):
    return lambda run, **options: evaluation.evaluate(run, digits, test_digits, progress=False, **options)


DISTANCES = {f"fid{suffix}{error}" for error in ("", "_error") for suffix in (
    "", "_reconstruction", "_interpolation", "_gaussian", "_mixture", "_mixture_100", "_training"
)}  # fmt: skip
OF_PRIOR = {
    f"{name}{error}"
    for error in ("", "_error")
    for name in ("kid", "precision", "recall", "density", "coverage")
}
CHEAP = {
    "squared_error", "squared_error_error", "posterior_w2_squared", "posterior_variance",
    "sharpness", "sharpness_error", "sharpness_reconstruction", "sharpness_reconstruction_error",
    "sharpness_data", "sharpness_data_error", "knn_accuracy", "linear_accuracy",
    "sliced_w2_squared", "sliced_w2_squared_error",
    "sliced_w2_squared_floor", "sliced_w2_squared_floor_error",
    "ks_mean", "ks_rejected", "henze_zirkler", "henze_zirkler_p", "effective_dimension", "active_dimensions",
    "mixture_nats", "mixture_nats_error", "mixture_nats_floor", "mixture_nats_floor_error",
    "neighbour_distance", "neighbour_distance_5", "neighbour_distance_data", "neighbour_distance_data_5",
}  # fmt: skip


def quarters(pixels: torch.Tensor) -> torch.Tensor:
    """What conftest.StandIn sees of grey images."""
    return (pixels.double() / 255).unflatten(3, (2, 14)).unflatten(2, (2, 14)).mean((1, 3, 5)).flatten(1)


def test_a_run_is_measured_whole(run, evaluate, stand_in, digits, test_digits):
    done = evaluate(run, sets=evaluation.SETS)
    assert done.metrics.keys() == DISTANCES | OF_PRIOR | CHEAP
    assert runs.load(run.path).record == done.record
    method, seed, real = runs.load_method(run), run.experiment.seed, test_digits.pixels
    for name in evaluation.SETS:
        made = evaluation._Encoded(method, digits, test_digits).made_images(name, 61, seed)
        expected = w2_squared(*moments(quarters(made)), *moments(quarters(real))).item()
        suffix = "" if name == "prior" else f"_{name}"
        assert done.metrics[f"fid{suffix}"] == pytest.approx(expected, rel=1e-4, abs=1e-7), name
        how = done.record["evaluation"][name]
        assert how.pop("seconds") >= 0
        assert how == {
            "protocol": "full", "images": 61, "reference": "test", "reference_images": 100,
            "reference_sha256": test_digits.sha256, "features": "float32", "inception_sha256": "stand-in",
        }  # fmt: skip
    made = evaluation.prior_samples(method, 61, seed)
    kid = fidelity.kid(quarters(made), quarters(real))
    assert (done.metrics["kid"], done.metrics["kid_error"]) == pytest.approx(kid, rel=1e-3)
    for of, pixels in (("", evaluation.prior_samples(method, 100, seed)), ("_data", real)):
        measured = done.metrics[f"sharpness{of}"], done.metrics[f"sharpness{of}_error"]
        assert measured == fidelity.sharpness(pixels)
    shares = fidelity.neighbourhoods(quarters(made), quarters(real))
    assert {name: (done.metrics[name], done.metrics[f"{name}_error"]) for name in shares} == shares
    mean, variance = evaluation.encode(method, real)
    latent = done.record["latent"]
    assert latent["posterior_variance"] == pytest.approx(variance.mean(0).tolist())
    assert latent["code_variance"] == pytest.approx(mean.double().var(0).tolist(), rel=1e-4)


@pytest.mark.parametrize("protocol", ["full", "brief"])
def test_an_evaluation_encodes_and_hashes_every_image_once(run, evaluate, stand_in, protocol):
    """Whatever is measured of them: codes, reconstructions, interpolations, laws fitted to codes, caches."""
    encoded, hashed = collections.Counter(), []
    encode, checksum = evaluation.AutoEncoder.encode, data.checksum

    def counting(self, images):
        encoded.update(image.numpy().tobytes() for image in images)
        return encode(self, images)

    stand_in.setattr(evaluation.AutoEncoder, "encode", counting)
    stand_in.setattr(data, "checksum", lambda pixels: hashed.append(len(pixels)) or checksum(pixels))
    done = evaluate(run, sets=evaluation.SETS, protocol=protocol)
    assert done.metrics.keys() == DISTANCES | OF_PRIOR | CHEAP
    assert len(encoded) == 500 and set(encoded.values()) == {1}
    # Images remember their checksums, and those of the digits are known; a part of them is hashed once.
    assert hashed.count(50) == (protocol == "brief") and not {400, 100} & set(hashed)


def without_seconds(record: dict) -> dict:
    entries = {name: dict(how, seconds=0) for name, how in record["evaluation"].items()}
    return record | {"evaluation": entries}


def test_an_interrupted_evaluation_goes_on(run, evaluate, stand_in, tmp_path):
    shutil.copytree(run.path, tmp_path / "other")
    whole = evaluate(runs.load(tmp_path / "other"), sets=evaluation.SETS)
    features, seen = inception.features, []

    def counting(images, *arguments):
        seen.append(len(images))
        if len(seen) == 2:
            raise KeyboardInterrupt
        return features(images, *arguments)

    stand_in.setattr(inception, "features", counting)
    with pytest.raises(KeyboardInterrupt):
        evaluate(run, sets=evaluation.SETS)
    half = runs.load(run.path)
    assert half.record["evaluation"].keys() == {"codes", "prior"} and "fid_reconstruction" not in half.metrics
    assert evaluation.missing_sets(half, sets=evaluation.SETS) == list(evaluation.SETS[1:])
    cheap = []
    stand_in.setattr(evaluation, "_measure_without_inception", lambda *arguments: cheap.append(arguments))
    done = evaluate(half, sets=evaluation.SETS)
    # two before, the others after; the features of the reference and of training images are in the cache
    assert seen == [61] * len(evaluation.SETS) and not cheap
    assert without_seconds(done.record) == without_seconds(whole.record)


def test_what_is_recorded_is_measured_again_only_if_asked(run, evaluate, stand_in):
    done = evaluate(run)
    assert done.record["evaluation"].keys() == {"codes", "prior"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "load_method", lambda run: Idle())
        assert evaluate(done).record == done.record
        assert evaluate(done, sets=()).record == done.record
    with pytest.MonkeyPatch.context() as patch:
        conftest.stand_in(patch)
        brief = evaluate(done, protocol="brief")
        assert brief.metrics["fid"] != done.metrics["fid"]
        how = brief.record["evaluation"]["prior"]
        assert (how["protocol"], how["images"], how["reference_images"]) == ("brief", 31, 50)
        changed = brief.add_metrics({"fid": -1.0, "sharpness": -1.0})
        assert evaluate(changed, protocol="brief").metrics["fid"] == -1
        redone = evaluate(changed, protocol="brief", redo=True)
        assert redone.metrics == pytest.approx(brief.metrics)


def test_a_distance_is_extrapolated_where_the_protocol_says_so_and_the_record_says_it_too(
    run, evaluate, stand_in
):
    stand_in.setitem(evaluation.PROTOCOLS, "few", evaluation.Protocol(31, 1))
    few, far = (evaluate(run, sets=["prior", "training"], protocol=name) for name in ("few", "extrapolated"))
    for name, metric in (("prior", "fid"), ("training", "fid_training")):
        how = far.record["evaluation"][name]
        assert (how["images"], how["extrapolated_to"]) == (31, 61)
        assert "extrapolated_to" not in few.record["evaluation"][name]
        assert far.metrics[metric] != few.metrics[metric]
    assert far.metrics["precision"] == few.metrics["precision"] and far.metrics["kid"] == few.metrics["kid"]


class Idle(methods.Method):
    """A method that is measured nowhere."""


def test_a_gan_has_no_codes_and_what_needs_none_is_measured(
    digits, test_digits, evaluate, stand_in, tmp_path
):
    options = {"results": tmp_path, "fabric": cpu_fabric(), "progress": False}
    run = training.train(small("gan", epochs=1), digits, test_digits, **options)
    done = evaluate(run, sets=evaluation.SETS)
    of_pixels = {"sharpness", "sharpness_error", "sharpness_data", "sharpness_data_error"}
    distances = {"fid", "fid_error", "fid_training", "fid_training_error"}
    of_pixels |= {f"neighbour_distance{of}" for of in ("", "_5", "_data", "_data_5")}
    assert done.metrics.keys() == distances | of_pixels | OF_PRIOR
    assert done.record["evaluation"].keys() == {"codes", "prior", "training"} and "latent" not in done.record


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"protocol": "long"}, "there is no protocol 'long'; known: full, extrapolated, brief"),
        ({"sets": ["prior", "noise"]}, "there is no set of images 'noise'; known: prior, reconstruction"),
    ],
)
def test_unknown_names(run, evaluate, options, said):
    with pytest.raises(ValueError, match=said):
        evaluate(run, **options)
    assert runs.load(run.path).record == run.record


def test_too_few_images(run, evaluate, stand_in):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "MINIMUM_FID_IMAGES", 101)
        with pytest.raises(ValueError, match="at least 101 images, one per feature; got 61"):
            evaluate(run)
        patch.setitem(evaluation.PROTOCOLS, "full", evaluation.Protocol(200, 1))
        with pytest.raises(ValueError, match="at least 101 reference images, one per feature; got 100"):
            evaluate(run)
        assert runs.load(run.path).record == run.record  # it failed before anything was measured
        assert "knn_accuracy" in evaluate(run, sets=()).metrics  # which needs no reference


@pytest.mark.parametrize("part", ["train", "test"])
def test_other_images_are_refused(run, digits, test_digits, part):
    given = {"train": digits, "test": test_digits}
    pixels = given[part].pixels.clone()
    pixels[0, 0, 0, 0] ^= 1
    given[part] = data.Images(pixels, given[part].labels, "mnist", part, "changed")
    with pytest.raises(runs.RunError, match=f"has the {part} images with SHA-256 .*those at hand .*changed"):
        evaluation.evaluate(run, given["train"], given["test"], progress=False)


def read_pngs(folder: Path) -> torch.Tensor:
    images = []
    for path in sorted(folder.iterdir()):
        with Image.open(path) as image:
            assert image.mode == "L"
            images.append(np.asarray(image))
    return torch.from_numpy(np.stack(images))[:, None]


def test_dumped_images_are_those_that_were_compared(run, evaluate, stand_in, digits, test_digits, tmp_path):
    done = evaluate(run, sets=["prior", "mixture"])
    folder = tmp_path / "images"
    options = {"sets": ["prior", "mixture"]}
    files = evaluation.dump(done, digits, test_digits, folder, **options)
    assert [path.name for path in files] == ["prior", "mixture", "reference"]
    real = read_pngs(folder / "reference")
    assert torch.equal(real, test_digits.pixels)
    for name, key in (("prior", "fid"), ("mixture", "fid_mixture")):
        made = read_pngs(folder / name)
        assert len(made) == 61
        distance = w2_squared(*moments(quarters(made)), *moments(quarters(real))).item()
        assert done.metrics[key] == pytest.approx(distance, rel=1e-4)
    with pytest.raises(ValueError, match="images is not empty"):
        evaluation.dump(done, digits, test_digits, folder, **options)


# ---------------------------------------------------------------- a distance alone


def test_fid_refuses_fewer_than_2048_images():
    few, enough = torch.zeros(2047, 1, 2, 2, dtype=torch.uint8), torch.zeros(2048, 1, 2, 2, dtype=torch.uint8)
    with pytest.raises(ValueError, match="at least 2,048 images, one per feature; got 2,047"):
        evaluation.fid(few, enough)
    with pytest.raises(ValueError, match="at least 2,048 reference images, one per feature; got 2,047"):
        evaluation.fid(enough, few)


def test_fid_is_the_distance_of_the_features_and_remembers_the_reference(stand_in, digits, test_digits):
    features, seen = inception.features, []
    counting = lambda images, *arguments: seen.append(len(images)) or features(images, *arguments)  # noqa: E731
    stand_in.setattr(inception, "features", counting)
    images, reference = digits.pixels[::8], test_digits.pixels
    expected = w2_squared(*moments(quarters(images)), *moments(quarters(reference))).item()
    assert evaluation.fid(images, reference, progress=False) == pytest.approx(expected, rel=1e-4)
    assert seen == [50, 100]
    assert evaluation.fid(images, reference, progress=False) == pytest.approx(expected, rel=1e-4)
    assert seen == [50, 100, 50]
    changed = reference.clone()
    changed[0, 0, 0, 0] ^= 255
    assert evaluation.fid(images, changed, progress=False) != evaluation.fid(
        images, reference, progress=False
    )
    assert seen == [50, 100, 50, 50, 100, 50]


def test_features_are_remembered_of_one_network_in_one_precision(stand_in, test_digits):
    answers = itertools.count()
    stand_in.setattr(inception, "features", lambda *given: torch.full((3, 2), float(next(answers))))

    def ask(precision: str) -> float:
        network = torch.nn.Identity()
        network.precision = precision
        return (
            evaluation._cached_features(test_digits.pixels, "a checksum", network, "cpu", False).max().item()
        )

    assert [ask(precision) for precision in ("float32", "float16", "float32")] == [0, 1, 0]
    stand_in.setattr(inception, "sha256", lambda: "another network's")
    assert ask("float32") == 2


def test_a_damaged_cache_of_features_is_computed_again(stand_in, test_digits):
    """Half of the rows would be another distance without a word; wrong columns a traceback."""
    pixels, expected = (
        test_digits.pixels,
        evaluation.fid(test_digits.pixels, test_digits.pixels[:50], progress=False),
    )
    (cache,) = (data.data_root() / "fid").glob("*.safetensors")
    whole = cache.read_bytes()
    features, about = files.read_tensors(cache)

    def rewritten(change) -> bytes:
        save_file(change(dict(features)), cache, about | {"sha256": "0" * 64})
        return cache.read_bytes()

    damages = {
        "cut short": whole[:-9],
        "empty": b"",
        "a bit": whole[:-1] + bytes([whole[-1] ^ 1]),
        "half of the rows": rewritten(lambda f: {"features": f["features"][:25].clone()}),
        "other columns": rewritten(lambda f: {"features": f["features"][:, :2].clone()}),
        "another name": rewritten(lambda f: {"x": f["features"]}),
    }
    for name, content in damages.items():
        cache.write_bytes(content)
        with pytest.warns(UserWarning, match=rf"computed again: .*{cache.name}"):
            assert evaluation.fid(pixels, pixels[:50], progress=False) == expected, name
        assert torch.equal(files.read_tensors(cache)[0]["features"], features["features"]), name
    files.write_tensors(cache, features, key="that of other images")
    with pytest.warns(UserWarning, match="other images"):
        assert evaluation.fid(pixels, pixels[:50], progress=False) == expected


def test_a_cache_that_cannot_be_written_is_no_reason_to_fail(stand_in, test_digits):
    expected = evaluation.fid(test_digits.pixels, test_digits.pixels, progress=False)
    shutil.rmtree(data.data_root())
    data.data_root().write_text("a file in the place of the folder")
    with pytest.warns(UserWarning, match="computed every time: .*cannot be written"):
        assert evaluation.fid(test_digits.pixels, test_digits.pixels, progress=False) == expected


def test_an_evaluation_has_one_owner_and_needs_a_folder_that_can_be_written_to(run, evaluate, stand_in):
    with files.owned(run.path), pytest.raises(files.RunError, match=r"is in use \(process"):
        evaluate(run)
    done = evaluate(run)
    with files.owned(run.path):
        assert evaluate(done).record == done.record  # nothing is to be measured
    stand_in.setattr(evaluation, "_measure_without_inception", lambda *a: pytest.fail("it was measured"))

    def refuse(*arguments, **options):
        raise OSError(30, "Read-only file system")

    stand_in.setattr(files.filelock.FileLock, "acquire", refuse)
    with pytest.raises(files.RunError, match="Read-only file system"):
        evaluate(done, redo=True)


def test_features_that_are_not_finite_are_recorded_as_missing(run, evaluate, stand_in):
    features = inception.features

    def spoilt(images, *arguments):
        seen = features(images, *arguments).clone()
        seen[3] = torch.nan
        return seen

    stand_in.setattr(inception, "features", spoilt)
    done = evaluate(run, sets=["prior", "gaussian"])
    for name in ("fid", "kid", "precision", "recall", "density", "coverage", "fid_gaussian"):
        assert name not in done.metrics and done.record["metrics"][name] is None
        assert "not finite" in done.record["unmeasured"][name]
    assert done.record["evaluation"].keys() == {"codes", "prior", "gaussian"}
    assert runs.load(run.path).record == done.record and "sharpness" in done.metrics


@pytest.mark.parametrize("kind", ["collapsed", "not finite"])
def test_codes_that_say_nothing_are_no_reason_to_stop(run, evaluate, stand_in, kind):
    def encode(method, pixels):
        mean = torch.full((len(pixels), 3), 0.0 if kind == "collapsed" else torch.nan)
        return mean, torch.zeros_like(mean)

    stand_in.setattr(evaluation, "encode", encode)
    done = evaluate(run, sets=["prior"])
    assert runs.load(run.path).record == done.record
    missing = "effective_dimension" if kind == "collapsed" else "codes"
    assert done.record["metrics"][missing] is None and done.record["unmeasured"][missing]
    assert all(np.isfinite(value) for value in done.metrics.values())
    assert ("latent" in done.record) == (kind == "collapsed")


def test_protocols_are_what_the_book_says():
    """What readers and the help are told; a smaller one reads higher, and would pass unseen."""
    assert {
        "full": evaluation.Protocol(10_000, 1),
        "extrapolated": evaluation.Protocol(2_500, 1, 10_000),
        "brief": evaluation.Protocol(2_500, 2),
        "selection": evaluation.Protocol(2_500, 1),
    } == evaluation.PROTOCOLS
    assert evaluation.MINIMUM_FID_IMAGES == 2_048 and evaluation.NEAREST == 1_000


def test_the_reference_is_every_second_image_from_the_first(run, evaluate, stand_in, test_digits):
    how = evaluate(run, protocol="brief").record["evaluation"]["prior"]
    half = dataclasses.replace(test_digits, pixels=test_digits.pixels[::2], labels=test_digits.labels[::2])
    assert (how["reference_sha256"], how["reference_images"]) == (half.sha256, 50)


def test_every_draw_of_an_evaluation_is_that_of_the_runs_seed(
    digits, test_digits, evaluate, stand_in, tmp_path
):
    """Of a seed that is not 0: intervals over seeds rest on it."""
    options = {"results": tmp_path, "fabric": cpu_fabric(), "progress": False}
    run = training.train(small(seed=4, epochs=1), digits, test_digits, **options)
    check_pictures(run, runs.load_method(run), test_digits.pixels, tolerance=0)
    done = evaluate(run, sets=evaluation.SETS)
    encoded = evaluation._Encoded(runs.load_method(run), digits, test_digits)
    for name in evaluation.SETS:
        made, other = (quarters(encoded.made_images(name, 61, seed)) for seed in (4, 0))
        expected = fidelity.frechet_distance(made, quarters(test_digits.pixels)).value
        suffix = "" if name == "prior" else f"_{name}"
        assert done.metrics[f"fid{suffix}"] == pytest.approx(expected, rel=1e-4, abs=1e-7), name
        assert torch.equal(made, other) == (name in ("training", "reconstruction")), name
    codes = evaluation.code_metrics(encoded.method, digits, test_digits, 4)
    assert {name: done.metrics[name] for name in codes} == codes
    assert codes != evaluation.code_metrics(encoded.method, digits, test_digits, 0)
    sharp = fidelity.sharpness(evaluation.prior_samples(encoded.method, 100, 4))
    assert done.metrics["sharpness"] == sharp.value


# ---------------------------------------------------------------- the committed runs


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: str(path.relative_to(BOOK_RESULTS)))
def test_a_committed_run_is_whole_and_in_its_place(path):
    run = runs.load(path)
    assert str(path.relative_to(BOOK_RESULTS)) == run.experiment.name
    assert [line["epoch"] for line in run.history()] == list(range(1, run.experiment.epochs + 1))
    for line in run.history() if run.experiment.method not in OTHER_LOSSES else ():
        expected = line["reconstruction"] + run.experiment.penalty_weight * line["penalty"]
        assert line["loss"] == pytest.approx(expected, rel=1e-4)
    assert sum(file.stat().st_size for file in path.iterdir()) < 10e6  # small enough for git
    assert run.record["data"]["train"]["sha256"] != run.record["data"]["test"]["sha256"]
    assert run.record["data"]["train"]["split"] in ("train", "train + valid")
    assert run.record["data"]["test"]["split"] == "test"


@pytest.mark.parametrize("path", WEIGHED, ids=lambda path: str(path.relative_to(BOOK_RESULTS)))
def test_a_committed_runs_pictures_are_those_of_its_weights(path):
    """Without any data: the originals are in the picture. Another processor may round the other way."""
    run = runs.load(path)
    if run.experiment.dataset == "celeba":
        pytest.skip("the grids of colour images are not taken apart here")
    if not run.experiment.has_encoder:
        check_samples(run, runs.load_method(run), tolerance=1)
        return
    originals = tiles(run.grid("reconstructions"))[::2].reshape(-1, 1, 28, 28)
    check_pictures(run, runs.load_method(run), torch.from_numpy(originals.copy()), tolerance=1)


@pytest.mark.parametrize("path", LEADING)
def test_a_committed_runs_numbers_are_those_of_its_weights_on_the_official_test_images(path):
    run = runs.load(path)
    images = data.load(run.experiment.dataset, "test", real_data(run.experiment.dataset))
    assert images.sha256 == run.record["data"]["test"]["sha256"]
    if run.experiment.has_encoder:
        check_codes(run, runs.load_method(run), images.pixels)
    metrics = evaluation.quick_metrics(runs.load_method(run), images)
    for name, value in metrics.items():
        assert run.metrics[name] == pytest.approx(value, rel=1e-3), name
