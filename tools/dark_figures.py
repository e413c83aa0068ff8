"""How does a figure look in the dark? A Sphinx extension: every figure gets a twin for dark pages.

Figures are drawn once, ink on white paper. The twin mirrors their lightness and keeps their hues, so that
white becomes the dark page's ground and ink becomes light; photographs within a figure stay as they are. The
pages show one or the other by the theme's classes ``only-light`` and ``only-dark``.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

GROUND = 0.183  # lightness, in Oklab, of the dark theme's page, #121212
LIFT = 0.75  # an exponent below 1 makes the middle tones lighter: thin lines need it on dark ground
PHOTOGRAPH = 44  # pixels: nothing that is drawn fills a solid block of this width and height
IMAGE = re.compile(
    r'<img (?![^>]*\bclass=)([^>]*)src="((?:\.\./)*)_images/([^"]+\.(?:png|jpe?g))"([^>]*?)\s*/?>'
)

# Oklab (Ottosson 2020): from linear RGB to cone responses, from their cube roots to lightness and the rest.
CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
OPPONENTS = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def darkened(pixels: np.ndarray) -> np.ndarray:
    """A drawing ``(H, W, 3)``, uint8, for dark ground: its lightness mirrored, hue and chroma kept."""
    packed = pixels.reshape(-1, 3).astype(np.uint32) @ np.array([65536, 256, 1], dtype=np.uint32)
    colours, places = np.unique(packed, return_inverse=True)
    s = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=1) / 255.0
    linear = np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4)
    lab = np.cbrt(linear @ CONES.T) @ OPPONENTS.T
    lab[:, 0] = GROUND + (0.96 - GROUND) * np.clip(1 - lab[:, 0], 0, 1) ** LIFT
    linear = np.clip((lab @ np.linalg.inv(OPPONENTS).T) ** 3 @ np.linalg.inv(CONES).T, 0, 1)
    s = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(255 * s).astype(np.uint8)[places.reshape(-1)].reshape(pixels.shape)


def photographs(pixels: np.ndarray) -> np.ndarray:
    """Where a drawing holds photographs: bands of solid blocks of anything but paper, side by side.

    Within a band everything counts but columns of bare paper, so that a photograph may be white at its edge.
    """
    solid = ndimage.binary_opening(pixels.min(-1) < 240, np.ones((PHOTOGRAPH, PHOTOGRAPH)))
    found = np.zeros(solid.shape, bool)
    if not solid.any():
        return found
    columns = np.flatnonzero(solid.any(0))
    left, right = columns[0], columns[-1] + 1
    for (rows,) in ndimage.find_objects(ndimage.label(solid.any(1))[0]):
        paper = (pixels[rows, left:right] >= 250).all((0, 2))
        found[rows, left:right] = ~ndimage.binary_opening(paper, np.ones(7))
    return found


def make_twin(path: Path) -> Path:
    """Write a figure's twin beside it, where it is not there yet."""
    twin = path.with_name(f"{path.stem}-dark{path.suffix}")
    if not twin.exists():
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        photographic = path.suffix != ".png"
        dark = darkened(pixels)
        if photographic:
            kept = photographs(pixels)
            dark[kept] = pixels[kept]
            Image.fromarray(dark).save(twin, quality=85, optimize=True)
        else:
            Image.fromarray(dark).quantize(256, dither=Image.Dither.NONE).save(twin, optimize=True)
    return twin


def with_twins(html: str, images: Path) -> str:
    """A page whose figures are there twice, for light and dark, in a button that enlarges them."""

    def both(found: re.Match) -> str:
        before, up, name, after = found.groups()
        path = images / name
        twin = make_twin(path)
        with Image.open(path) as image:
            width, height = image.size
        shown = " ".join(filter(None, (before.strip(), after.strip())))
        size = f'width="{width}" height="{height}" loading="lazy"'
        return "".join(
            f'<img class="only-{when}" {shown} {size} src="{up}_images/{one.name}" />'
            for when, one in (("light", path), ("dark", twin))
        )

    return IMAGE.sub(both, html)


def _finish(app, exception) -> None:
    if exception is None and app.builder.format == "html":
        images = Path(app.outdir) / "_images"
        for page in sorted((Path(app.outdir) / "book").glob("*.html")):
            text = page.read_text(encoding="utf-8")
            if (changed := with_twins(text, images)) != text:
                page.write_text(changed, encoding="utf-8")


def setup(app) -> dict:
    app.connect("build-finished", _finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
