"""A step is one that a GPU could repeat by itself, and repeated so it computes what the loop computes."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from conftest import cpu_fabric, small
from replaying import Recorded, Tape

from wwae_lib import experiments, gaussian, methods, steps, training
from wwae_lib.book import together
from wwae_lib.book.together import round_robin
from wwae_lib.methods import METHODS
from wwae_lib.steps import Lane, Steps

EVERY = [small(method, epochs=2, batch_size=32) for method in METHODS]
EVERY += [small(estimator=name, epochs=2, batch_size=32, variant=name) for name in ("sampled", "diagonal")]


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch):
    """Nothing looks at a value, and the penalty goes by matrix products."""
    monkeypatch.setattr(gaussian, "looking_is_free", lambda tensor: False)


@pytest.fixture
def replayed(monkeypatch):
    """Call it, and every step after the first of its kind is repeated from a tape."""

    def begin():
        monkeypatch.setattr(training, "can_capture", lambda device, method: True)
        monkeypatch.setattr(steps, "WARM_UP", 1)
        monkeypatch.setattr(Steps, "_record", lambda self, players: Recorded(lambda: self._take(players)))
        monkeypatch.setattr(Steps, "close", lambda self: None)

    return begin


def result(experiment, images, fabric=None):
    fabric = fabric or cpu_fabric()
    method, history, _ = training.fit_experiment(experiment, images, fabric=fabric, progress=False)
    return method.state_dict(), without_seconds(history)


def without_seconds(history) -> list[dict]:
    return [{name: value for name, value in line.items() if name != "seconds"} for line in history]


def assert_same(first, second) -> None:
    """Weights and history, bit for bit."""
    assert first[1] == second[1]
    assert all(torch.equal(value, second[0][name]) for name, value in first[0].items())


# ---------------------------------------------------------------- repeated


@pytest.mark.parametrize("experiment", EVERY, ids=lambda one: one.name)
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_repeating_a_step_trains_as_the_loop_does(experiment, precision, digits, replayed):
    fabric = training.choose_fabric("cpu", precision)
    called = result(experiment, digits, fabric)
    replayed()
    assert_same(result(experiment, digits, fabric), called)


@pytest.mark.parametrize("experiment", EVERY, ids=lambda one: one.name)
def test_two_steps_differ_in_nothing_but_data(experiment, digits, monkeypatch):
    """Number by number: what Python passes to an operation would be frozen in a graph."""
    noted, take = {}, Steps._take

    def noting(self, players):
        with (tape := Tape()):
            take(self, players)
        noted.setdefault(players, []).append(tape.signature())

    monkeypatch.setattr(Steps, "_take", noting)
    training.fit_experiment(experiment, digits, fabric=cpu_fabric(), progress=False)
    for _, second, *others in noted.values():  # the first sets the moments and the log up
        assert second and others and all(other == second for other in others)


def asks_for_the_rate(self, players):
    """As where the learning rate is a number of the host's."""
    self.rates.fill_(1e-3 / (1 + self.taken))
    TAKE(self, players)


def counts_on_the_host(self, players):
    """As where the step is a number of the host's."""
    self.step.fill_(self.taken)
    TAKE(self, players)


def decides_on_the_host(self, players):
    """As where what is computed depends on the step."""
    TAKE(self, players)
    if self.taken % 2:
        with torch.no_grad():
            next(self.method.parameters()).mul_(0.9)


TAKE = Steps._take


@pytest.mark.parametrize("take", [asks_for_the_rate, counts_on_the_host, decides_on_the_host])
def test_what_the_host_decides_is_frozen_and_noticed(take, digits, monkeypatch, replayed):
    monkeypatch.setattr(Steps, "_take", take)
    called = result(small(), digits)
    replayed()
    with pytest.raises(AssertionError):
        assert_same(result(small(), digits), called)


@pytest.mark.parametrize(
    "look",
    [
        lambda self: self.log["model"].sum().item(),
        lambda self: self.log["model"][self.log["model"] > 0],
        lambda self: self.rates.copy_(torch.tensor(1e-3)),
    ],
    ids=["item", "mask", "number"],
)
def test_a_look_at_a_value_is_noticed(look, digits, monkeypatch, replayed):
    monkeypatch.setattr(Steps, "_take", lambda self, players: (TAKE(self, players), look(self)))
    result(small(), digits)
    replayed()
    with pytest.raises(RuntimeError, match="a graph cannot hold"):
        result(small(), digits)


def test_what_waits_in_the_eigensolver_is_not_recorded():
    device = torch.device("cuda")
    for estimator in ("corrected", "accumulated"):
        assert not steps.can_capture(device, experiments.build(small(estimator=estimator)))
    assert steps.can_capture(device, experiments.build(small()))
    assert not steps.can_capture(torch.device("cpu"), experiments.build(small()))


def test_the_tape_would_notice_a_frozen_draw():
    """Draws are made anew when repeated, from where the generator is then."""
    x, tape = torch.zeros(3), Tape()
    torch.manual_seed(0)
    with tape:
        x.copy_(torch.randn(3))
    first = x.clone()
    tape.replay()
    torch.manual_seed(0)
    assert torch.equal(first, torch.randn(3)) and torch.equal(x, torch.randn(3))


# ---------------------------------------------------------------- the log


def test_the_first_player_that_was_not_finite_is_named(digits, monkeypatch):
    """In one step all that follows is spoilt too; a player that does not move every time is counted right."""
    loss = methods.WGANGP.loss

    def spoilt(self, images, player):
        loss_of = loss(self, images, player)
        return loss_of._replace(total=loss_of.total * float("nan")) if player == "generator" else loss_of

    monkeypatch.setattr(methods.WGANGP, "loss", spoilt)
    with pytest.raises(training.TrainingDiverged, match="epoch 1, step 5: generator_loss stopped"):
        result(small("wgan_gp"), digits)


# ---------------------------------------------------------------- in turns


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_in_turns_each_computes_what_it_would_alone(at_once, digits):
    experiments = [small(seed=1, epochs=1), small("vae"), small("gan", epochs=2), small("wgan_gp", epochs=2)]
    alone = {planned: result(planned, digits) for planned in experiments}
    given = ((planned, digits, None) for planned in experiments)
    results = dict(together.fit_together(given, at_once=at_once, fabric=cpu_fabric(), progress=False))
    assert results.keys() == alone.keys()
    for planned, (method, history, _) in results.items():
        assert_same((method.state_dict(), without_seconds(history)), alone[planned])


def test_one_that_fails_costs_only_itself(digits):
    experiments = [small(batch_size=401), small()]
    given = [(planned, digits, None) for planned in experiments]
    results = dict(together.fit_together(given, at_once=2, fabric=cpu_fabric(), progress=False))
    assert isinstance(results[experiments[0]], ValueError) and "a batch of 401" in str(
        results[experiments[0]]
    )
    method, history, _ = results[experiments[1]]
    assert_same((method.state_dict(), without_seconds(history)), result(experiments[1], digits))


def test_a_training_is_asked_for_when_there_is_room(digits):
    """So that who asks can decide then whether there is time for it."""
    asked, ended = [], []

    def given():
        for number in range(3):
            asked.append((number, len(ended)))
            yield dataclasses.replace(small(epochs=1), seed=number), digits, None

    for ended_now, _ in together.fit_together(given(), at_once=2, fabric=cpu_fabric(), progress=False):
        ended.append(ended_now.seed)
    assert ended == [0, 1, 2] and asked == [(0, 0), (1, 0), (2, 1)]


def test_a_lane_has_random_numbers_of_its_own():
    torch.manual_seed(3)
    lane = Lane(torch.device("cpu"))
    before = torch.get_rng_state()
    with lane.active():
        torch.manual_seed(5)
        first = torch.rand(2)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)
    with lane.active():
        second = torch.rand(2)
    torch.manual_seed(5)
    assert torch.equal(torch.cat([first, second]), torch.cat([torch.rand(2), torch.rand(2)]))


def test_in_turns_yields_each_as_it_ends():
    def work(n):
        for _ in range(n):
            yield
        if n == 1:
            raise KeyError("one")
        return n

    works = ((name, work(n)) for name, n in (("a", 3), ("b", 1), ("c", 2)))
    (b, error), *others = round_robin(works, [Lane(torch.device("cpu")) for _ in range(2)])
    assert b == "b" and isinstance(error, KeyError) and others == [("a", 3), ("c", 2)]
