"""What is one experiment? A frozen configuration, and the list of those the book reports."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Any

from .data import DATASETS
from .networks import NETWORKS
from .penalties import ESTIMATORS

__all__ = ["ABLATIONS", "BOOK", "METHODS", "Experiment", "experiment"]

METHODS = (
    "wwae",
    "vae",
    "vae_learned",
    "vae_bernoulli",
    "ae",
    "wae_mmd",
    "wae_gan",
    "swae",
    "cwae",
    "gan",
    "wgan_gp",
)
WITHOUT_ENCODER = ("gan", "wgan_gp")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything that decides a run's result, but for the data and the machine.

    The reconstruction term is the squared error summed over pixels in [0, 1], averaged over the
    batch; ``penalty_weight`` multiplies the method's penalty on that scale (:mod:`wwae_lib.methods`
    says what it is for each): lambda for the WWAE, and for the VAE the weight of the KL term, which is
    twice the decoder's variance. ``initial_std`` is the standard deviation of the codes before
    training, where the encoder has one; 0 makes a WWAE's encoder deterministic.

    Raises:
        ValueError: a field is out of range or names something unknown.
    """

    dataset: str
    method: str
    seed: int = 0
    variant: str = ""
    network: str = "compact"
    latent: int = 8
    initial_std: float = 0.01
    penalty_weight: float = 1.0
    estimator: str = "total"
    epochs: int = 6
    batch_size: int = 128
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        for field, known in (
            ("dataset", DATASETS),
            ("method", METHODS),
            ("network", tuple(NETWORKS)),
            ("estimator", ESTIMATORS),
        ):
            if getattr(self, field) not in known:
                raise ValueError(f"there is no {field} {getattr(self, field)!r}; known: {', '.join(known)}")
        for field, least in (("seed", 0), ("latent", 1), ("epochs", 1), ("batch_size", 2)):
            if type(value := getattr(self, field)) is not int or value < least:
                raise ValueError(f"{field} is {value!r}; it must be a whole number of at least {least}")
        if not 0 <= self.penalty_weight < math.inf:
            raise ValueError(f"penalty_weight is {self.penalty_weight}; it must be finite and not negative")
        if not 0 < self.learning_rate < 1:
            raise ValueError(f"learning_rate is {self.learning_rate}; it must lie between 0 and 1")
        if not 0 <= self.initial_std <= 10:
            raise ValueError(f"initial_std is {self.initial_std}; it must lie between 0 and 10")
        if self.estimator != "total" and self.method != "wwae":
            raise ValueError(
                f"estimator is {self.estimator!r}; only the WWAE has one, {self.method} has none"
            )
        if self.initial_std == 0 and self.method.startswith("vae"):
            raise ValueError("initial_std is 0; a VAE's codes need a variance")
        if not re.fullmatch(r"[a-z0-9_]*", self.variant):
            raise ValueError(f"variant {self.variant!r} may hold only lower-case letters, digits and _")

    @property
    def name(self) -> str:
        """Where its run lives below the results folder: ``dataset/method[-variant]/seed-n``."""
        return f"{self.dataset}/{self.method}{'-' * bool(self.variant)}{self.variant}/seed-{self.seed}"

    @property
    def has_encoder(self) -> bool:
        return self.method not in WITHOUT_ENCODER

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


# What we chose, per data set, per method, and per both; lambda is on the scale described above. The
# weight of WAE-MMD is that of the authors' code (wwae_lib.methods.WAEMMD converts it), and CWAE's is its
# authors'. WAE-GAN's would be 200 for MNIST, with which our networks, which have no batch normalisation,
# did not leave the mean image in 900 steps: with 20 they did. Codes of GANs: 64, as Lucic et al. (2018).
# A WWAE on faces has a deterministic encoder: with 64 dimensions one that may be random left most of them
# to noise, which the penalty cannot see.
DEFAULTS: dict[str, dict[str, Any]] = {
    "celeba": {"latent": 64, "epochs": 4},
    "wwae": {"penalty_weight": 10.0},
    "vae": {"penalty_weight": 1.0},
    "ae": {"penalty_weight": 0.0},
    "wae_mmd": {"penalty_weight": 200.0},
    "wae_gan": {"penalty_weight": 20.0},
    "swae": {"penalty_weight": 100.0},
    "gan": {"latent": 64, "learning_rate": 2e-4, "batch_size": 64},
    "wgan_gp": {
        "latent": 64,
        "learning_rate": 1e-4,
        "penalty_weight": 10.0,
        "batch_size": 64,
        "epochs": 18,  # its generator moves at every fifth batch
    },
    "celeba/wwae": {"initial_std": 0.0},
    "celeba/wae_mmd": {"penalty_weight": 50.0},
    "celeba/wae_gan": {"penalty_weight": 50.0},
}


def experiment(dataset: str, method: str, **changes: Any) -> Experiment:
    """The experiment that the book would run for a method on a data set, with changes.

    Raises:
        ValueError: as :class:`Experiment`; an unknown field is named too.
    """
    known = {field.name for field in dataclasses.fields(Experiment)}
    if unknown := sorted(changes.keys() - known):
        raise ValueError(
            f"an experiment has no field {', '.join(unknown)}; known: {', '.join(sorted(known))}"
        )
    chosen = {}
    for key in (dataset, method, f"{dataset}/{method}"):
        chosen |= DEFAULTS.get(key, {})
    return Experiment(**{"dataset": dataset, "method": method} | chosen | changes)


BOOK = tuple(experiment("mnist", method) for method in ("wwae", "vae"))

# What the WWAE's choices change, one at a time, from the baseline ``lambda_10``.
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
        **{f"estimator_{name}": {"estimator": name} for name in ESTIMATORS if name != "total"},
    },
    "batch": {
        "batch_32": {"batch_size": 32},
        "batch_64": {"batch_size": 64},
        "lambda_10": {},
        "batch_256": {"batch_size": 256},
        "batch_512": {"batch_size": 512},
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
    """The WWAE with one choice changed at a time: for each question its experiments, baseline among them."""
    return {
        question: tuple(
            experiment(dataset, "wwae", variant=prefix + variant, **({"epochs": 3} | changes | one))
            for variant, one in answers.items()
        )
        for question, answers in CHOICES.items()
    }


ABLATIONS = ablations()
