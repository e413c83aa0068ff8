"""How does the Frechet distance depend on the number of images, and how good is its extrapolation?

    python tools/fid_sizes.py [NAME]    # of a run, by default mnist/wwae/seed-0; 40 minutes of a core

The 10,000 prior samples of a run, and as many training images, are compared with all test images: whole, and
in disjoint parts of several sizes. From each part of the size of the protocol ``extrapolated`` the distance
of 10,000 is extrapolated, which the distance of all 10,000 checks. All goes to
``book/results/fid_sizes.json``, which the page of the protocol reads.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from wwae_lib import data, files, runs
from wwae_lib.measures import evaluation, fidelity, inception

PROTOCOL = evaluation.PROTOCOLS["extrapolated"]
WANTED = PROTOCOL.extrapolated_to
SIZES = (PROTOCOL.images // 2, PROTOCOL.images, 2 * PROTOCOL.images, WANTED)


def distances(made: Tensor, real: Tensor) -> dict:
    """The distance of every part of every size, and the extrapolated ones with their errors."""
    return {
        "by_size": {
            size: [fidelity.frechet_distance(part, real).value for part in made.split(size)] for size in SIZES
        },
        "extrapolated": [
            fidelity.frechet_distance(part, real, images=WANTED) for part in made.split(PROTOCOL.images)
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("name", nargs="?", default="mnist/wwae/seed-0")
    run = runs.load(parser.parse_args().name)
    dataset = run.experiment.dataset
    images, test_images = (data.load(dataset, split, fall_back=False) for split in ("train", "test"))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(run.experiment.seed))
    made = {
        "prior": evaluation.prior_samples(runs.load_method(run), WANTED, run.experiment.seed),
        "training": images.pixels[order[:WANTED]],
    }
    real, *features = (
        inception.features(pixels, inception.network()) for pixels in (test_images.pixels, *made.values())
    )
    record = {
        "run": run.experiment.name,
        "weights_sha256": run.record["files"]["weights.safetensors"],
        "reference_images": len(test_images),
        "reference_sha256": test_images.sha256,
        "inception_sha256": inception.sha256(),
        "sets": {name: distances(some, real) for name, some in zip(made, features, strict=True)},
    }
    files.write_json(runs.results_root() / "fid_sizes.json", record)


if __name__ == "__main__":
    main()
