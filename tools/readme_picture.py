"""Draw the README's picture from the recorded run that it shows.

python tools/readme_picture.py
"""

import argparse
import hashlib
import io
import sys
from pathlib import Path

from PIL import Image, PngImagePlugin

from wwae_lib import runs
from wwae_lib.book import figures

RUN = "mnist/wwae/seed-0"
PICTURE = Path(__file__).resolve().parents[1] / "book" / "_static" / "overview.png"


def origin(run: runs.Run) -> str:
    """The run and what tells it from others: the checksums of the files that the picture reads."""
    read = [
        (run.path / name).read_bytes() for name in ("codes.safetensors", "reconstructions.png", "samples.png")
    ]
    return f"{RUN}, SHA-256 {hashlib.sha256(b''.join(read)).hexdigest()}"


def draw() -> None:
    run = runs.load(RUN)
    figures.use_style()
    drawn = io.BytesIO()
    figures.overview(run).savefig(drawn, format="png", dpi=150, facecolor="white")
    picture = Image.open(drawn).convert("RGB").quantize(128)  # a third of the bytes, and looks the same
    note = PngImagePlugin.PngInfo()
    note.add_text("Source", origin(run))
    with runs.write_atomically(PICTURE) as part:
        picture.save(part, "PNG", optimize=True, pnginfo=note)


if __name__ == "__main__":
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    try:
        draw()
    except runs.RunError as error:
        sys.exit(f"error: {error}")
    print(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes")
