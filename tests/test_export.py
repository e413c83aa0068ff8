"""The explorers' scripts and still figures: what was recorded, nothing else, byte for byte."""

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from wwae_lib import __main__, runs
from wwae_lib.book import explorers
from wwae_lib.gaussian import w2_squared
from wwae_lib.measures import evaluation

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def written(finished, tmp_path_factory):
    """The scripts of one small run, by file name."""
    folder = tmp_path_factory.mktemp("explorers")
    explorers.export(folder, finished.path.parents[2])
    texts = [path for path in folder.iterdir() if path.suffix != ".png"]
    assert {path.name for path in folder.glob("*.png")} == {"samples-mnist-wwae.png"}
    return {path.name: path.read_text(encoding="utf-8") for path in texts}


def script(text: str) -> dict:
    assert text.startswith("wwaeExplorer.add({") and text.endswith("});\n")
    return json.loads(text.removeprefix("wwaeExplorer.add(").removesuffix(");\n"))


def halves(text: str) -> np.ndarray:
    planes = np.frombuffer(base64.b64decode(text), np.uint8).reshape(2, -1)
    return planes.T.copy().view("<f2")[:, 0].astype(np.float32)


def test_a_script_holds_the_decoder_and_the_codes(written, finished):
    content = script(written["mnist-wwae.js"])
    decoder = runs.load_method(finished).decoder
    weights = torch.cat([p.detach().flatten() for p in decoder.parameters()]).numpy()
    np.testing.assert_array_equal(halves(content["weights"]), weights)  # recorded in half precision: no loss
    kept = finished.codes()
    np.testing.assert_array_equal(halves(content["codes"]).reshape(kept["mean"].shape), kept["mean"].numpy())
    assert [int(label) for label in content["labels"]] == kept["label"].tolist()
    assert content["shape"] == [1, 28, 28]
    assert [layer["kind"] for layer in content["layers"]] == [
        "dense", "dense", "unflatten", "convolution", "transposed", "transposed"
    ]  # fmt: skip
    assert ["relu" in layer for layer in content["layers"]] == [True, True, False, True, True, False]


def test_a_script_holds_the_encoder_in_eight_bits(written, finished):
    content = script(written["mnist-wwae-encoder.js"])
    whole = np.frombuffer(base64.b64decode(content["weights8"]), np.int8).astype(np.float32)
    scales, biases = halves(content["scales"]), halves(content["biases"])
    encoder = runs.load_method(finished).encoder
    *inner, last = [layer for layer in encoder.layers if hasattr(layer, "weight")]
    for layer, outputs in [
        *((layer_before, len(layer_before.bias)) for layer_before in inner),
        (last, finished.experiment.latent),
    ]:
        rows = layer.weight.detach()[:outputs].flatten(1).numpy()
        size, whole = whole[: rows.size].reshape(rows.shape), whole[rows.size :]
        own, scales = scales[:outputs, None], scales[outputs:]
        np.testing.assert_allclose(size * own, rows, atol=own.max() * 0.51)  # half a step of 127
        np.testing.assert_allclose(biases[:outputs], layer.bias.detach()[:outputs].numpy(), atol=1e-3)
        biases = biases[outputs:]
    assert not len(whole) and not len(scales) and not len(biases)
    image = np.frombuffer(base64.b64decode(content["examples"][1]), np.uint8).reshape(28, 28)
    np.testing.assert_array_equal(image, finished.grid("reconstructions")[:28, 28:56])


def test_batch_normalisation_becomes_part_of_the_layer_before_it():
    torch.manual_seed(0)
    layers = nn.Sequential(
        *(nn.ConvTranspose2d(3, 5, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(5), nn.ReLU()),
        *(nn.Conv2d(5, 4, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(4)),
        *(nn.Flatten(), nn.Linear(4 * 9, 6, bias=False), nn.BatchNorm1d(6)),
    )
    layers(torch.randn(50, 3, 3, 3))  # moments that differ from those at the start
    layers.eval()
    up, down, _, dense = explorers._layers(layers)
    x = torch.randn(2, 3, 3, 3)
    y = nn.functional.conv_transpose2d(x, up.weight, up.bias, stride=2, padding=1).relu()
    y = nn.functional.conv2d(y, down.weight, down.bias, stride=2, padding=1).flatten(1)
    torch.testing.assert_close(nn.functional.linear(y, dense.weight, dense.bias), layers(x))


def test_the_same_run_gives_the_same_bytes(written, finished, tmp_path):
    for path in explorers.export(tmp_path, finished.path.parents[2]):
        if path.suffix != ".png":
            assert path.read_text(encoding="utf-8") == written[path.name]


def test_only_what_was_recorded_is_written(written, tmp_path):
    assert set(written) == {
        *(f"{name}-still.html" for name in ("gaussian", "toy", "faces", "latent", "draw", "film")),
        *("mnist-wwae.js", "mnist-wwae-encoder.js"),
    }
    assert "no run on CelebA" in written["faces-still.html"]
    paths = explorers.export(tmp_path / "explorers", tmp_path / "no results")
    stills = ("gaussian", "toy", "faces", "film")
    assert [path.name for path in paths] == [f"{name}-still.html" for name in stills]


def test_the_books_explorers_show_its_recorded_runs_and_no_others(tmp_path):
    made = {path.name: path for path in explorers.export(tmp_path, ROOT / "book" / "results")}
    there = {path.name: path for path in explorers.explorer_folder().iterdir() if "-" in path.name}
    assert sorted(made) == sorted(there), "run python -m wwae_lib export"
    assert {"mnist-wwae.js", "mnist-vae.js"} <= made.keys()
    for name, path in made.items():
        same = pixels if path.suffix == ".png" else Path.read_bytes  # a PNG's bytes depend on its writer
        assert np.array_equal(same(path), same(there[name])), f"{name}: run python -m wwae_lib export"


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_sheet_is_cut_from_what_the_run_recorded(shelf, tmp_path):
    explorers.export(tmp_path, shelf)
    recorded = explorers.recorded(shelf, "celeba")
    assert len(recorded) == 2
    for run in recorded:
        shown = pixels(tmp_path / f"celeba-{run.experiment.method}.png")
        assert shown.shape == (explorers.FACES * 64, 12 * 64 + 2 * explorers.GAP, 4)
        middle = shown[:, 64 + explorers.GAP : -64 - explorers.GAP]
        np.testing.assert_array_equal(middle[..., :3], run.grid("interpolations")[: explorers.FACES * 64])
        assert (shown[:, 64 : 64 + explorers.GAP, 3] == 0).all() and (middle[..., 3] == 255).all()
        decoder = runs.load_method(run)
        kept = run.codes()["mean"]
        for start, column, photographs in ((0, 0, shown[:, :64]), (10, -1, shown[:, -64:])):
            with torch.inference_mode():
                ends = evaluation.to_pixels(decoder.decode(kept[start : start + explorers.FACES]))
            cells = middle.reshape(explorers.FACES, 64, 10, 64, 4)[:, :, column, :, :3]
            np.testing.assert_allclose(
                cells.astype(int), ends.permute(0, 2, 3, 1).numpy(), atol=2
            )  # half precision
            originals = run.grid("reconstructions").reshape(10, 64, 10, 64, 3)[2 * (start > 0)]
            expected = originals.transpose(1, 0, 2, 3)[: explorers.FACES].reshape(-1, 64, 3)
            np.testing.assert_array_equal(photographs[..., :3], expected)


def test_planes_are_orthonormal_and_hold_the_variance_they_claim():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 4
    centres = torch.zeros(4, 6)
    centres[:, 4], centres[:, 5] = torch.tensor([3.0, -3, 0, 0]), torch.tensor([0.0, 0, 2, -2])
    codes = torch.randn(400, 6, generator=generator) * 0.1 + centres[labels]
    codes[:, 0] *= 50  # the direction of largest variance says nothing about the classes
    classes, principal = explorers.planes(codes, labels)
    for plane in (classes, principal):
        basis = np.array(plane["basis"])
        np.testing.assert_allclose(basis @ basis.T, np.eye(2), atol=3e-6)  # six decimals
        inside = (codes.double().numpy() @ basis.T).var(0, ddof=1).sum()
        assert plane["share"] == pytest.approx(inside / codes.double().var(0).sum().item(), abs=1e-4)
    directions = np.abs(np.array(classes["basis"]))
    # sampling moves a centre by 5 * 0.1 in direction 0
    assert directions[0, 4] > 0.97 and directions[1, 5] > 0.97
    assert abs(principal["basis"][0][0]) > 0.99


def test_the_still_gaussians_show_their_distance():
    text = explorers.gaussian_still()
    total, mean, bures = map(float, re.findall(r"<b>([\d.]+)</b>", text))
    moments = [(s["mean"], explorers._covariance(s["angle"], s["axes"])) for s in explorers.GAUSSIANS]
    (mean1, cov1), (mean2, cov2) = moments
    expected = w2_squared(*map(np.array, (mean1, cov1, mean2, cov2))).item()
    assert total == pytest.approx(expected, abs=0.006)
    assert total == pytest.approx(mean + bures, abs=0.011)  # three rounded numbers


def test_the_still_map_shows_what_the_decoder_makes(written, finished):
    picture = re.search(r"base64,([^\"]+)\"", written["latent-still.html"])[1]
    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        shown = np.asarray(image.convert("L"))
    kept = finished.codes()
    start = explorers.typical(kept["mean"], kept["label"], explorers.PAIRS["mnist"][0])
    decoded = runs.load_method(finished).decode(kept["mean"][start : start + 1])[0, 0].detach().numpy()
    np.testing.assert_allclose(255 - shown.astype(float), 255 * decoded, atol=0.51)
    assert written["latent-still.html"].count("h0") == len(kept["label"])


def test_an_unknown_layer_is_named():
    with pytest.raises(ValueError, match="Tanh"):
        explorers._layers(nn.Sequential(nn.Linear(2, 2), nn.Tanh()))


def test_the_command_lists_what_it_wrote(finished, tmp_path, capsys):
    results, folder = str(finished.path.parents[2]), str(tmp_path)
    assert __main__.main(["export", "--results", results, "--folder", folder]) == 0
    assert "mnist-wwae.js" in capsys.readouterr().out


def test_a_damaged_run_is_an_error(finished, tmp_path, capsys):
    copy = tmp_path / "mnist" / "wwae" / "seed-0"
    copy.mkdir(parents=True)
    for path in finished.path.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / "weights.safetensors").write_bytes(b"nothing")
    with pytest.raises(runs.RunError, match=r"weights\.safetensors"):
        explorers.export(tmp_path / "explorers", tmp_path)
