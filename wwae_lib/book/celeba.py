"""How do the official faces of CelebA become the cache that the library reads?"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..data import CELEBA_CACHE, CELEBA_INDEX, CELEBA_PARTITION, DataError, celeba_checksum
from ..files import write_atomically

__all__ = ["build", "prepare"]

SIZE = (178, 218)  # width, height of an official aligned image
BOX = (19, 39, 159, 179)  # the centre 140 x 140: left, upper, right, lower


def prepare(root: Path) -> None:
    """Make the cache where it is not there (:func:`build`)."""
    if not all((root / "celeba" / name).exists() for name in CELEBA_CACHE):
        build(root)


def build(root: Path) -> None:
    """Crop and resize the official aligned CelebA images into one array, once.

    Reads ``celeba/img_align_celeba/``, ``celeba/list_eval_partition.txt`` and
    ``celeba/identity_CelebA.txt`` of the official release, which asks who fetches it to accept its terms;
    cuts the centre 140 x 140, resizes to 64 x 64 (Pillow, bicubic) and writes ``celeba/celeba_64.npy``
    (uint8, ``(N, 64, 64, 3)``), ``celeba/celeba_64.csv`` (image, identity, partition) and a checksum of both.

    Raises:
        DataError: the images are not there, or one is missing, damaged or of another size.
        RunError: the cache cannot be written.
    """
    folder = root / "celeba"
    _look_for_release(folder)
    partition = _read_pairs(folder / "list_eval_partition.txt")
    identity = _read_pairs(folder / "identity_CelebA.txt")
    if unknown := set(partition.values()) - set(CELEBA_PARTITION.values()):
        raise DataError(
            f"{folder / 'list_eval_partition.txt'} names a partition {unknown.pop()}, not 0, 1 or 2"
        )
    if missing := sorted(partition.keys() - identity.keys()):
        raise DataError(f"{folder / 'identity_CelebA.txt'} lacks {len(missing)} images, {missing[0]} first")
    names = sorted(partition)

    array_path, index_path = (folder / name for name in CELEBA_CACHE)
    with write_atomically(array_path) as part:
        _crop_all([folder / "img_align_celeba" / name for name in names], part)
    lines = [(name, str(identity[name]), str(partition[name])) for name in names]
    with write_atomically(array_path.with_suffix(".sha256")) as part:
        part.write_bytes(f"{celeba_checksum(np.load(array_path, mmap_mode='r'), lines)}\n".encode())
    with write_atomically(index_path) as part:
        part.write_bytes("".join(",".join(line) + "\n" for line in [CELEBA_INDEX, *lines]).encode())


def _crop_all(paths: list[Path], target: Path) -> None:
    """Write the faces as one array, one after the other: all of them would take gigabytes of memory."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(paths), 64, 64, 3)}
    with open(target, "wb") as f, ThreadPoolExecutor() as pool:  # Pillow decodes without Python's lock
        np.lib.format.write_array_header_2_0(f, header)
        for image in tqdm(pool.map(_crop, paths), "CelebA, once", len(paths), unit="image"):
            f.write(image.tobytes())


def _look_for_release(folder: Path) -> None:
    """Refuse a folder that lacks the official release, and say what is there in its place."""
    images, needed = folder / "img_align_celeba", ["list_eval_partition.txt", "identity_CelebA.txt"]
    missing = [name for name in needed if not (folder / name).exists()]
    hint = "Put img_align_celeba/ and both lists of the official release there."
    if not images.is_dir():
        missing = ["img_align_celeba/", *missing]
        if archives := sorted(
            p.name for p in folder.glob("*") if p.suffix in (".zip", ".7z", ".001", ".tar")
        ):
            hint = f"Unpack {archives[0]} there, so that there is {images / '000001.jpg'}."
    elif (images / images.name).is_dir():
        missing = [f"{images.name}/000001.jpg", *missing]
        hint = f"Move the pictures of {images / images.name} up into {images}."
    if missing and missing != needed[1:]:  # of which its reading says more
        present = sorted(path.name for path in folder.glob("*"))
        found = f"there are only {', '.join(present[:6])}" if present else "the folder is empty or not there"
        raise DataError(f"CelebA in {folder} lacks {', '.join(missing)}; {found}. {hint}")


def _crop(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            if image.size != SIZE:
                raise DataError(f"{path} is {image.size}, expected the aligned {SIZE}")
            face = image.convert("RGB").crop(BOX).resize((64, 64), Image.Resampling.BICUBIC)
    except OSError as error:  # missing, truncated, or no image
        raise DataError(
            f"{path} cannot be read ({error}); fetch it again from the official release"
        ) from error
    return np.asarray(face)


def _read_pairs(path: Path) -> dict[str, int]:
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        pairs = {name: int(value) for name, value in (line.split() for line in lines)}
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as lines of 'image number' ({error})") from error
    if len(pairs) < len(lines):
        raise DataError(f"{path} lists an image twice: {len(lines)} lines are of {len(pairs)} images")
    if not pairs:
        raise DataError(f"{path} lists no image")
    return pairs
