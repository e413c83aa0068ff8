"""Records of runs that never were, for tests of what is rendered from records."""

from __future__ import annotations

from pathlib import Path

from wwae_lib.experiments import experiment
from wwae_lib.runs import Run

ENVIRONMENT = {
    "device": "cpu (x86_64)",
    "precision": "32-true",
    "threads": 1,
    "torch": "2.12.1",
    "train_seconds": 600.0,
}
IMAGES = {"source": "made up", "train": {"images": 60_000}, "test": {"images": 10_000}}


def run(
    method: str, seed: int = 0, dataset: str = "mnist", variant: str = "", seconds: float = 600.0, **metrics
) -> Run:
    """A run with these metrics and no files."""
    planned = experiment(dataset, method, seed=seed, variant=variant)
    record = {
        "format": 1,
        "config": planned.as_dict(),
        "data": IMAGES,
        "environment": ENVIRONMENT | {"train_seconds": seconds},
        "metrics": metrics,
        "files": {},
    }
    return Run(Path(planned.name), record)


def seeds(method: str, dataset: str = "mnist", **metrics) -> list[Run]:
    """Runs of seeds 0, 1, ...: each metric a list, a value a seed."""
    (count,) = {len(values) for values in metrics.values()}
    return [
        run(method, seed, dataset, **{key: values[seed] for key, values in metrics.items()})
        for seed in range(count)
    ]
