"""An experiment that cannot be run is refused when it is written down, not hours later."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from wwae_lib import experiments
from wwae_lib.experiments import Experiment, experiment
from wwae_lib.methods import METHODS


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dataset": "cifar"}, "no dataset 'cifar'; known: mnist"),
        ({"method": "flow"}, "no method 'flow'; known: wwae, vae"),
        ({"network": "huge"}, "no network 'huge'; known: tiny, compact"),
        ({"estimator": "full"}, "no estimator 'full'; known: total"),
        ({"penalty_weight": -1.0}, "penalty_weight is -1.0"),
        ({"penalty_weight": math.nan}, "penalty_weight is nan"),
        ({"penalty_weight": math.inf}, "penalty_weight is inf"),
        ({"latent": 0}, "latent is 0; it must be at least 1"),
        ({"latent": 2.5}, "latent is 2.5; it must be a whole number"),
        ({"latent": np.int64(4)}, "latent is .*whole number"),  # which JSON could not hold
        ({"latent": True}, "latent is True"),
        ({"epochs": 0}, "epochs is 0"),
        (
            {"batch_size": 1},
            "batch_size is 1; it must be at least 2",
        ),  # one has no covariance
        ({"seed": -1}, "seed is -1"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"learning_rate": 1.0}, "learning_rate is 1.0"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"initial_std": -0.1}, "initial_std is -0.1"),
        ({"method": "vae", "initial_std": 0.0}, "a VAE's codes need a variance"),
        ({"initial_std": math.nan}, "initial_std is nan"),
        ({"variant": "../escape"}, "variant '../escape' may hold only"),
        ({"variant": "a b"}, "variant 'a b'"),
        ({"variant": "trailing\n"}, "variant"),
    ],
)
def test_what_cannot_be_is_refused_by_name(changes, said):
    with pytest.raises(ValueError, match=said):
        experiment(**{"dataset": "mnist", "method": "wwae"} | changes)


@pytest.mark.parametrize("value", [np.float32(10), np.float64(10), 10, np.int64(10)])
def test_numbers_of_other_kinds_become_pythons(value):
    """What is accepted can be written."""
    trained = experiment("mnist", "wwae", penalty_weight=value)
    assert type(trained.penalty_weight) is float and trained == experiment(
        "mnist", "wwae", penalty_weight=10.0
    )
    assert json.loads(json.dumps(trained.as_dict()))["penalty_weight"] == 10.0
    assert type(experiment("mnist", "wwae", learning_rate=np.float32(0.001)).learning_rate) is float


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Experiment)])
@pytest.mark.parametrize(
    "value", [None, "10", torch.tensor(10.0), [1], {}, b"x", object()], ids=lambda value: type(value).__name__
)
def test_what_is_no_value_of_a_field_is_refused_where_it_is_written(field, value):
    if (field, value) == ("variant", "10"):
        return  # which is one
    with pytest.raises(ValueError, match=rf"{field} is |no {field} |no dataset|variant"):
        experiment(**{"dataset": "mnist", "method": "wwae"} | {field: value})


def test_unknown_fields_are_named():
    with pytest.raises(ValueError, match=r"no field lambda_, width; known: batch_size, .*penalty_weight"):
        experiment("mnist", "wwae", lambda_=1, width=3)


def test_a_change_of_type_is_refused():
    with pytest.raises((TypeError, ValueError)):
        experiment("mnist", "wwae", penalty_weight="10")
    with pytest.raises((TypeError, ValueError)):
        experiment("mnist", "wwae", latent="8")


def test_an_experiment_is_frozen_and_survives_json():
    original = experiment("celeba", "vae", seed=3, variant="wide_2", learning_rate=2e-4)
    assert Experiment(**json.loads(json.dumps(original.as_dict()))) == original
    with pytest.raises(dataclasses.FrozenInstanceError):
        original.latent = 3


def test_names_are_places_below_the_results():
    assert experiment("mnist", "wwae").name == "mnist/wwae/seed-0"
    assert experiment("mnist", "wwae", variant="sampled", seed=7).name == "mnist/wwae-sampled/seed-7"


def test_defaults_give_way_to_changes():
    assert experiment("mnist", "wwae").penalty_weight == 10 and experiment("mnist", "vae").penalty_weight == 1
    assert experiment("celeba", "wwae").latent == 64
    assert experiment("celeba", "wwae", latent=8, penalty_weight=0).latent == 8


def test_what_the_book_would_run_can_be_built_and_has_places_of_its_own():
    planned = [experiment("mnist", method, network="tiny") for method in METHODS]
    assert len({trained.name for trained in planned}) == len(METHODS)
    assert {"mnist/wwae/seed-0", "mnist/vae/seed-0"} <= {trained.name for trained in planned}
    for trained in planned:
        experiments.build(trained)
