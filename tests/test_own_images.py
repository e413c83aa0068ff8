"""A folder of pictures becomes images, a run and samples; what cannot be read is named."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import wwae_lib
from wwae_lib import data, own_images, runs
from wwae_lib.__main__ import main, parser
from wwae_lib.data import DataError

PAGE = (Path(__file__).resolve().parents[1] / "book" / "own_images.md").read_text(encoding="utf-8")
TINY = ["--network", "tiny", "--latent", "2", "--epochs", "1", "--batch-size", "100", "--accelerator", "cpu"]


def pictures(folder: Path, count: int, size=(40, 30), colour=True) -> Path:
    """Pictures of one colour each, whose first channel is their number, in two folders."""
    for number in range(count):
        place = folder / f"{number // 300}"
        place.mkdir(parents=True, exist_ok=True)
        shade = (number % 256, 100, 7) if colour else (number % 256,) * 3
        Image.new("RGB", size, shade).save(place / f"{number:05}.png")
    return folder


def test_pictures_are_split_in_the_order_of_their_names(tmp_path):
    folder = pictures(tmp_path / "mine", 500)
    first = {part: own_images.load(folder, part, side=28) for part in ("train", "valid", "test")}
    numbers = {part: images.pixels[:, 0, 3, 3].tolist() for part, images in first.items()}
    assert numbers["test"][:3] == [9, 19, 29] and numbers["valid"][:3] == [8, 18, 28]
    assert numbers["train"][:9] == [0, 1, 2, 3, 4, 5, 6, 7, 10]
    assert [len(images) for images in first.values()] == [400, 50, 50]
    train = first["train"]
    assert train.pixels.shape == (400, 3, 28, 28) and train.dataset == "own_28_colour"
    assert str(tmp_path) not in train.source and "500 pictures of mine" in train.source


@pytest.mark.parametrize("side", [28, 32, 64])
def test_the_centre_square_is_kept(tmp_path, side):
    picture = np.zeros((60, 100, 3), np.uint8)
    picture[:, 20:80] = 200  # the centre square
    Image.fromarray(picture).save(tmp_path / "one.png")
    pixels = own_images.read(tmp_path, side)
    assert pixels.shape == (1, 1, side, side) and pixels.dtype == torch.uint8  # one channel: it is grey
    assert (pixels == 200).all()


def test_turned_photographs_stand_upright(tmp_path):
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:32] = (250, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(picture).save(tmp_path / "one.png", exif=exif)
    assert own_images.read(tmp_path, 64)[0, 0, [5, 60], 5].tolist() == [0, 250]


def test_grey_drops_colours(tmp_path):
    assert own_images.read(pictures(tmp_path, 3), 28, grey=True).shape == (3, 1, 28, 28)
    assert own_images.read(tmp_path, 28).shape == (3, 3, 28, 28)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((7, 28, 28), 1), ((7, 28, 28, 1), 1), ((7, 1, 28, 28), 1), ((7, 28, 28, 3), 3), ((7, 3, 28, 28), 3)],
)
def test_arrays_of_the_right_size_are_taken_as_they_are(tmp_path, shape, expected):
    array = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    np.save(tmp_path / "mine.npy", array)
    pixels = own_images.read(tmp_path / "mine.npy", 28)
    assert pixels.shape == (7, expected, 28, 28)
    last = array if array.ndim == 3 or shape[-1] in (1, 3) else np.moveaxis(array, 1, -1)
    assert np.array_equal(pixels.permute(0, 2, 3, 1).numpy().reshape(last.shape), last)


@pytest.mark.parametrize(
    "array", [np.zeros((7, 28, 28)), np.zeros((28, 28), np.uint8), np.zeros((7, 28, 28, 2), np.uint8)]
)
def test_arrays_that_are_no_pictures_are_named(tmp_path, array):
    np.save(tmp_path / "mine.npy", array)
    with pytest.raises(DataError, match=r"mine.npy holds"):
        own_images.read(tmp_path / "mine.npy", 28)


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no pictures in .*nowhere"):
        own_images.read(tmp_path / "nowhere")
    (tmp_path / "mine.npy").write_bytes(b"no array")
    with pytest.raises(DataError, match=r"mine.npy cannot be read"):
        own_images.read(tmp_path / "mine.npy")
    folder = pictures(tmp_path / "mine", 3)
    with pytest.raises(DataError, match=r"3 pictures; .*at least 500"):
        own_images.load(folder, "train")
    with pytest.raises(DataError, match=r"no split 'all'"):
        own_images.load(folder, "all")
    with pytest.raises(DataError, match=r"side of 30"):
        own_images.read(folder, 30)
    Image.fromarray(np.zeros((30, 30), np.uint16)).save(folder / "deep.png")
    with pytest.raises(DataError, match=r"deep.png has other than 8 bits"):
        own_images.read(folder)
    (folder / "deep.png").write_bytes(b"\x89PNG damaged")
    with pytest.raises(DataError, match=r"deep.png cannot be read as a picture"):
        own_images.read(folder)


def test_a_folder_is_trained_on_recorded_measured_and_loaded(tmp_path, capsys, monkeypatch):
    folder = pictures(tmp_path / "mine", 500)
    assert main(["train", "--images", str(folder), *TINY]) == 0
    assert "400 training images: own images: 500 pictures of mine" in capsys.readouterr().out
    run = runs.load("own_32_colour/wwae/seed-0")
    assert run.record["data"]["train"]["images"] == 400 and run.record["data"]["test"]["images"] == 50
    assert str(tmp_path) not in (run.path / "run.json").read_text()
    assert main(["evaluate", "own_32_colour/wwae/seed-0", "--images", str(folder), "--sets", "none"]) == 0
    assert "sharpness" in runs.load(run.path).metrics
    shown = {}
    (example,) = re.findall(r"```python\n(import wwae_lib.*?)```", PAGE, re.DOTALL)
    exec(example, shown)
    assert shown["new"].shape == (64, 3, 32, 32) and shown["between"].shape == (32, 3, 32, 32)

    other = pictures(tmp_path / "other", 510)
    assert main(["evaluate", "own_32_colour/wwae/seed-0", "--images", str(other), "--sets", "none"]) == 1
    assert "SHA-256" in capsys.readouterr().err
    assert main(["evaluate", "own_32_colour/wwae/seed-0", "--sets", "none"]) == 1
    assert "--images" in capsys.readouterr().err


def test_own_runs_are_kept_apart_from_the_books(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("WWAE_RESULTS")
    folder = pictures(tmp_path / "mine", 500, colour=False)
    assert main(["train", "--images", str(folder), "--side", "28", *TINY]) == 0
    place = data.data_root() / "own" / "own_28_grey/wwae/seed-0"
    told = capsys.readouterr().out
    assert str(place) in told
    *_, command = told.splitlines()
    words = shlex.split(command.removeprefix("to measure it: python -m wwae_lib "))
    assert main(words) == 0 and "sharpness" in capsys.readouterr().out  # what is printed can be done
    assert wwae_lib.load(place).sample(2).shape == (2, 1, 28, 28)
    name = "own_28_grey/wwae/seed-0"  # which suffices, as it does of the book's runs
    assert runs.load(name).path == place and runs.load(place / "run.json").path == place


def test_pictures_are_read_once(tmp_path, monkeypatch):
    folder, reads = pictures(tmp_path / "mine", 500), []
    read = own_images.read
    monkeypatch.setattr(own_images, "read", lambda *words: reads.append(words) or read(*words))
    assert main(["train", "--images", str(folder), *TINY]) == 0
    assert len(reads) == 1


@pytest.mark.parametrize("words", [[], ["mnist", "--images", "here"]])
def test_train_takes_a_data_set_or_ones_own(words, capsys):
    with pytest.raises(SystemExit):
        main(["train", *words])
    assert "--images" in capsys.readouterr().err


def test_the_pages_commands_parse_and_its_program_runs():
    commands = re.findall(r"^    wwae (.*)$", PAGE, re.MULTILINE)
    assert len(commands) == 2 and all(parser().parse_args(line.split()).images for line in commands)
    program = re.findall(r"```python\n(import torch.*?)```", PAGE, re.DOTALL)[0]
    shown: dict = {}
    exec(program, shown)
    assert len(shown["history"]) == 3
