"""What do a run's pictures show? Grids of images, and the codes of some of them."""

from __future__ import annotations

from pathlib import Path

import torch

from .. import files
from ..data import Images, to_unit
from ..methods import AutoEncoder, Method
from ..shapes import Pixels
from .evaluation import FID_IMAGES, device_of, encode, nearest, prior_samples, sample_seed, to_pixels
from .inception import full_float32

__all__ = ["GRID", "write_pictures"]

GRID = 10  # images a row and a column of a grid
KEPT_CODES = 2000  # test images whose codes a run keeps


@full_float32()
@torch.inference_mode()
def write_pictures(method: Method, images: Images, test_images: Images, folder: Path, seed: int) -> None:
    """Write a run's grids of images, and codes of test images.

    * ``samples.png``: 10 x 10 from the prior, the first of those that the FID sees;
    * ``neighbours.png``: the first ten of them, each above the training image nearest to it;
    * ``reconstructions.png``: rows of originals, each above its row of reconstructions, 50 test images;
    * ``interpolations.png``: a row leads from one test image to another along the straight line of codes;
    * ``codes.safetensors``: mean, std (half precision) and label of 2,000 codes, of every so many-th test
      image (the first of MNIST's are no sample of them all).

    A method without an encoder interpolates between draws of the prior, and has neither reconstructions
    nor codes.
    """
    device = device_of(method)
    samples = prior_samples(method, GRID * GRID, seed)
    _write_grid(folder / "samples.png", samples)
    shown = samples[:GRID]
    _write_grid(folder / "neighbours.png", torch.cat([shown, images.pixels[nearest(shown, images.pixels)]]))
    if isinstance(method, AutoEncoder):
        _write_reconstructions(method, test_images, folder)
        ends = method.encode(to_unit(test_images.pixels[: 2 * GRID].to(device)))[0]
    else:
        generator = torch.Generator().manual_seed(sample_seed(seed, FID_IMAGES))
        ends = torch.randn(2 * GRID, method.latent, generator=generator).to(device)
    share = torch.linspace(0, 1, GRID, device=device)[:, None]
    lines = [method.decode(torch.lerp(a, b, share)) for a, b in zip(ends[:GRID], ends[GRID:], strict=True)]
    _write_grid(folder / "interpolations.png", to_pixels(torch.cat(lines)))


def _write_reconstructions(method: AutoEncoder, test_images: Images, folder: Path) -> None:
    """What of a run's pictures needs an encoder."""
    device = device_of(method)
    originals = to_unit(test_images.pixels[: GRID * GRID // 2].to(device))
    rebuilt = method.reconstruct(originals)
    rows = [row for pair in zip(originals.split(GRID), rebuilt.split(GRID), strict=True) for row in pair]
    _write_grid(folder / "reconstructions.png", to_pixels(torch.cat(rows)))

    kept = slice(0, None, max(1, len(test_images) // KEPT_CODES))
    mean, variance = (part[:KEPT_CODES] for part in encode(method, test_images.pixels[kept]))
    labels = test_images.labels[kept][:KEPT_CODES].clone()
    codes = {"mean": mean.half(), "std": variance.sqrt().half(), "label": labels}
    files.write_tensors(folder / "codes.safetensors", codes)


def _write_grid(path: Path, pixels: Pixels) -> None:
    """uint8 ``(n, C, H, W)`` as one PNG, ``GRID`` images a row."""
    from PIL import Image

    n, channels, height, width = pixels.shape
    grid = pixels.view(n // GRID, GRID, channels, height, width).permute(0, 3, 1, 4, 2)
    grid = grid.reshape(n // GRID * height, GRID * width, channels).numpy()
    with files.write_atomically(path) as part:
        Image.fromarray(grid[..., 0] if channels == 1 else grid).save(part, "PNG", optimize=True)
