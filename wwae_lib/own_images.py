"""How do pictures of one's own, a folder or an array of any size, become images that a method trains on?

Pictures are taken in the order of their names. Of every ten, the ninth validates and the tenth tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from tqdm import tqdm

from .data import OWN, DataError, Images, check_split, own_dataset_name

__all__ = ["MINIMUM", "load", "load_parts", "read"]

MINIMUM = 500  # pictures, of which a run shows 50 held out ones
PARTS = {"train": range(8), "valid": (8,), "test": (9,)}  # of every ten


def load(path: Path, split: str, side: int = 32, grey: bool = False) -> Images:
    """A split of the pictures, as :func:`read` has them.

    Args:
        path, side, grey: as :func:`read`.
        split: ``train``, ``valid`` or ``test``.

    Raises:
        DataError: as :func:`read`; there is no such split, or there are fewer than 500 pictures.
    """
    return load_parts(path, (split,), side, grey)[0]


def load_parts(path: Path, splits: Sequence[str], side: int = 32, grey: bool = False) -> list[Images]:
    """Several splits of the pictures (:func:`load`), which are read once."""
    for split in splits:
        check_split(split, PARTS)
    path = Path(path)
    pixels = read(path, side, grey)
    if len(pixels) < MINIMUM:
        raise DataError(f"{path} has {len(pixels)} pictures; a tenth tests: at least {MINIMUM} are needed")
    source = f"own images: {len(pixels):,} pictures of {path.name}, centre square to {side} x {side}"
    dataset, parts = own_dataset_name(pixels.shape[1], side), []
    for split in splits:
        kept = pixels[torch.from_numpy(np.isin(np.arange(len(pixels)) % 10, PARTS[split]))]
        parts.append(Images(kept, torch.zeros(len(kept), dtype=torch.int64), dataset, split, source))
    return parts


def read(path: Path, side: int = 32, grey: bool = False) -> Tensor:
    """Pictures as uint8 ``(n, channels, side, side)``: the centre square of each, resized (Lanczos).

    Args:
        path: a folder, whose own folders are searched too, or an ``.npy`` file of uint8
            ``(n, height, width)``, or the same with a last or second axis of 1 or 3 channels.
        side: 28, 32 or 64.
        grey: drop the colours. Where every picture is grey there is one channel anyway.

    Raises:
        DataError: nothing is there, a picture is damaged or has other than 8 bits a channel, or the networks
            have no such side.
    """
    path = Path(path)
    if side not in {row.shape[-1] for row in OWN.values()}:
        raise DataError(f"there are no networks for a side of {side} pixels; choose 28, 32 or 64")
    pictures = _pictures_of(path) if path.suffix == ".npy" else _files_in(path)
    pixels = np.empty((len(pictures), side, side, 3), np.uint8)
    for number, picture in enumerate(tqdm(pictures, "reading pictures", unit="img", leave=False)):
        pixels[number] = _fitted(picture, side, grey)
    if (pixels[..., :1] == pixels).all():
        pixels = pixels[..., :1]
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def _files_in(folder: Path) -> list[Path]:
    known = Image.registered_extensions()
    pictures = sorted(path for path in folder.rglob("*") if path.suffix.lower() in known and path.is_file())
    if not pictures:
        raise DataError(
            f"there are no pictures in {folder}; it must be a folder of pictures, or an .npy file"
        )
    return pictures


def _pictures_of(path: Path) -> np.ndarray:
    """The array of an ``.npy`` file as ``(n, height, width)`` or ``(n, height, width, 3)``."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read as an array ({error})") from error
    if array.dtype == np.uint8 and array.ndim == 4 and array.shape[-1] not in (1, 3):
        array = np.moveaxis(array, 1, -1)
    if array.dtype != np.uint8 or not (array.ndim == 3 or (array.ndim == 4 and array.shape[-1] in (1, 3))):
        raise DataError(
            f"{path} holds {array.dtype} {array.shape}; pictures are uint8 (n, height, width), "
            "(n, height, width, 3) or (n, 3, height, width)"
        )
    if 0 in array.shape[1:3]:
        raise DataError(f"{path} holds pictures without pixels, {array.shape}")
    return array[..., 0] if array.ndim == 4 and array.shape[-1] == 1 else array


def _fitted(picture: Path | np.ndarray, side: int, grey: bool) -> np.ndarray:
    """One picture, ``(side, side, 3)``."""
    try:
        if isinstance(picture, Path):
            with Image.open(picture) as opened:
                if opened.mode[0] in "IF":
                    raise DataError(
                        f"{picture} has other than 8 bits a channel ({opened.mode}); save it with 8"
                    )
                image = ImageOps.exif_transpose(opened).convert("RGB")
        else:
            image = Image.fromarray(picture).convert("RGB")
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise DataError(
            f"{picture} cannot be read as a picture ({error}); mend it or take it away"
        ) from error
    if grey:
        image = image.convert("L").convert("RGB")
    least, (width, height) = min(image.size), image.size
    left, upper = (width - least) // 2, (height - least) // 2
    square = image.crop((left, upper, left + least, upper + least))  # first: resizing looks beyond a box
    return np.asarray(square.resize((side, side), Image.Resampling.LANCZOS))
