"""Lay out codes of test images in a plane by t-SNE (van der Maaten & Hinton 2008), to look at.

    python tools/code_maps.py    # of the runs in RUNS, half a minute

The layout is chaotic: another processor makes another one of the same quality. So it is recorded, in
``book/results/code_maps.json``, and the pages draw the record.
"""

from __future__ import annotations

import argparse
import base64

import numpy as np
from sklearn.manifold import TSNE

from wwae_lib import files, runs

RUNS = tuple(
    f"{dataset}/{method}/seed-0"
    for dataset in ("mnist", "fashion_mnist")
    for method in ("wwae", "vae_learned")
)


def places(codes: np.ndarray) -> str:
    """Where each code lies in a square, in steps of a 255th of its side: bytes x, y, x, y ... in base 64."""
    plane = TSNE(init="pca", perplexity=30, random_state=0).fit_transform(codes)
    plane -= plane.min(0)
    return base64.b64encode((plane / plane.max() * 255).round().astype(np.uint8)).decode()


def main() -> None:
    maps = {}
    for name in RUNS:
        run = runs.load(name)
        codes = run.codes()["mean"].double().numpy()
        maps[name] = {"codes_sha256": run.record["files"]["codes.safetensors"], "places": places(codes)}
    files.write_json(runs.results_root() / "code_maps.json", {"maps": maps})


if __name__ == "__main__":
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    main()
