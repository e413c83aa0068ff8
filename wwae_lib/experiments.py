"""What is an experiment? A frozen configuration, and what we chose for each method and data set."""

from __future__ import annotations

import dataclasses
import math
import numbers
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from .data import get_dataset
from .methods import METHODS, VAE, AutoEncoder, Method
from .networks import NETWORKS
from .penalties import ESTIMATORS

__all__ = ["Experiment", "Plan", "build", "experiment"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a method is trained: Adam on shuffled batches, its rate falling to 0 along a cosine.

    In the first ``warm_up`` steps the rate rises, by equal steps, to what the cosine has there.

    Raises:
        ValueError: a field is of another type, or out of range.
    """

    seed: int = 0
    epochs: int = 6
    batch_size: int = 128
    learning_rate: float = 1e-3
    warm_up: int = 0

    least: ClassVar[dict[str, int]] = {"seed": 0, "epochs": 1, "batch_size": 1, "warm_up": 0}

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = plain(field.name, str(field.type), getattr(self, field.name))
            object.__setattr__(self, field.name, value)
            if value < (least := self.least.get(field.name, value)):
                raise ValueError(f"{field.name} is {value}; it must be at least {least}")
        if not 0 < self.learning_rate < 1:
            raise ValueError(f"learning_rate is {self.learning_rate}; it must lie between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class Experiment(Plan):
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
    variant: str = ""
    network: str = "compact"
    latent: int = 8
    initial_std: float = 0.01
    penalty_weight: float = 1.0
    estimator: str = "total"

    least = Plan.least | {"latent": 1, "batch_size": 2}

    def __post_init__(self) -> None:
        super().__post_init__()
        get_dataset(self.dataset)
        for field, known in (("method", METHODS), ("network", NETWORKS), ("estimator", ESTIMATORS)):
            if getattr(self, field) not in known:
                raise ValueError(f"there is no {field} {getattr(self, field)!r}; known: {', '.join(known)}")
        if not 0 <= self.penalty_weight < math.inf:
            raise ValueError(f"penalty_weight is {self.penalty_weight}; it must be finite and not negative")
        if not 0 <= self.initial_std <= 10:
            raise ValueError(f"initial_std is {self.initial_std}; it must lie between 0 and 10")
        kind = METHODS[self.method]
        if self.estimator != "total" and "estimator" not in kind.takes:
            raise ValueError(
                f"estimator is {self.estimator!r}; only the WWAE has one, {self.method} has none"
            )
        if self.initial_std == 0 and issubclass(kind, VAE):
            raise ValueError("initial_std is 0; a VAE's codes need a variance")
        if not re.fullmatch(r"[a-z0-9_]*", self.variant):
            raise ValueError(f"variant {self.variant!r} may hold only lower-case letters, digits and _")

    @property
    def name(self) -> str:
        """Where its run lives below the results folder: ``dataset/method[-variant]/seed-n``."""
        return f"{self.dataset}/{self.method}{'-' * bool(self.variant)}{self.variant}/seed-{self.seed}"

    @property
    def has_encoder(self) -> bool:
        return issubclass(METHODS[self.method], AutoEncoder)

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def changes_from(self, recorded: Mapping[str, Any]) -> list[str]:
        """Each field that differs from a recorded configuration, in words; one it lacks had its default."""
        was = {field.name: recorded.get(field.name, field.default) for field in dataclasses.fields(self)}
        now = self.as_dict()
        return [f"{name} was {was[name]!r}, is now {now[name]!r}" for name in now if was[name] != now[name]]


KINDS = {
    "str": (str, str, "text"),
    "int": (int, int, "a whole number"),
    "float": (numbers.Real, float, "a number"),
}


def plain(name: str, kind: str, value: Any) -> Any:
    """A field's value as Python's own type, of which a record can be made: NumPy's numbers are taken too.

    Raises:
        ValueError: it is something else.
    """
    taken, own, words = KINDS[kind]
    if not isinstance(value, taken) or isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; it must be {words}")
    return own(value)


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
    dataset, method = plain("dataset", "str", dataset), plain("method", "str", method)
    fields: dict[str, Any] = {"dataset": dataset, "method": method} | get_dataset(dataset).defaults
    if kind := METHODS.get(method):
        fields |= kind.defaults | kind.defaults_on.get(dataset, {})
    return Experiment(**fields | changes)


def build(experiment: Experiment) -> Method:
    """The method of an experiment with fresh weights, drawn from torch's generator.

    Raises:
        ValueError: the network does not exist for the data set's images.
    """
    kind = METHODS[experiment.method]
    options = {field: getattr(experiment, field) for field in kind.takes}
    return kind.for_images(get_dataset(experiment.dataset).shape, experiment.network, **options)
