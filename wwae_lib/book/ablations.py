"""Which of the WWAE's choices does the book change, one at a time?"""

from __future__ import annotations

from typing import Any

from ..experiments import Experiment, experiment
from ..penalties import ESTIMATORS

__all__ = ["ABLATIONS", "ablations"]

# What the WWAE's choices change, one at a time, from the baseline ``lambda_10``; of "steps" the baseline is
# its own, which takes as many steps as the others.
CHOICES: dict[str, dict[str, dict[str, Any]]] = {
    "lambda": {
        "lambda_01": {"penalty_weight": 0.1},
        "lambda_1": {"penalty_weight": 1.0},
        "lambda_10": {},
        "lambda_100": {"penalty_weight": 100.0},
        "lambda_1000": {"penalty_weight": 1000.0},
    },
    "estimator": {
        "lambda_10": {},
        # "sliced" is no estimator of the closed form alone; its trials stand beside the remedies'
        **{
            f"estimator_{name}": {"estimator": name} for name in ESTIMATORS if name not in ("total", "sliced")
        },
    },
    "batch": {
        "batch_32": {"batch_size": 32},
        "batch_64": {"batch_size": 64},
        "lambda_10": {},
        "batch_256": {"batch_size": 256},
        "batch_512": {"batch_size": 512},
    },
    "steps": {  # as many steps whatever the batch: those of one epoch with the smallest
        f"equal_steps_{size}": {"batch_size": size, "epochs": size // 32} for size in (32, 64, 128, 256, 512)
    },
    "latent": {
        "latent_2": {"latent": 2},
        "latent_4": {"latent": 4},
        "lambda_10": {},
        "latent_16": {"latent": 16},
        "latent_32": {"latent": 32},
    },
    "encoder": {
        "deterministic": {"initial_std": 0.0},
        "lambda_10": {},
        "start_wide": {"initial_std": 1.0},
    },
}


def ablations(dataset: str = "mnist", prefix: str = "", **changes: Any) -> dict[str, tuple[Experiment, ...]]:
    """The WWAE with one choice changed at a time: for each question its experiments, baseline among them.

    Args:
        dataset: on which.
        prefix: of the variants.
        changes: to all experiments; the epochs of ``steps`` stay its own.
    """
    return {
        question: tuple(
            experiment(dataset, "wwae", variant=prefix + variant, **({"epochs": 3} | changes | choice))
            for variant, choice in choices.items()
        )
        for question, choices in CHOICES.items()
    }


ABLATIONS = ablations()
