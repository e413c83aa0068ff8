"""Tiles and forest plots: what they show is what the verdicts say."""

import itertools
import math
import re

import pytest

from wwae_lib.book import forest, reproduce, verdicts
from wwae_lib.book.verdicts import CONTRADICTED, HOLDS, OPEN, TIE, Effect, Finding, Verdict

CLAIM = verdicts.CLAIMS["fid-vaes"]._replace(places=("MNIST", "CelebA"))


def finding(setting: str, effect: Effect | None, outcome: str = OPEN, p: float = 0.5) -> Finding:
    words = [setting, "FID", "1", "VAE", "2", "-1 ± 1", "-", "3 and 3 seeds"]
    return Finding(*words, p=p, outcome=outcome, effect=effect)


def verdict(*findings: Finding) -> Verdict:
    return Verdict(CLAIM, findings, (), "")


LOWER = Effect(-8.0, -12.0, -4.0, (-math.inf, 0), 2.0, "FID: WWAE less VAE")  # lower is better


@pytest.mark.parametrize(
    ("outcomes", "word"),
    [
        ((HOLDS, HOLDS), "holds"),
        ((HOLDS, OPEN), "holds in part"),
        ((HOLDS, CONTRADICTED), "holds in part"),
        ((CONTRADICTED, OPEN), "contradicted in part"),
        ((CONTRADICTED,), "does not hold"),  # where it could be tested
        ((TIE, TIE), "no difference"),
        ((TIE,), "no difference"),  # where it could be tested
        ((TIE, OPEN), "no difference in part"),
        ((OPEN, OPEN), "open"),
        ((HOLDS,), "holds in part"),  # not tested on the other
    ],
)
def test_a_tile_says_in_a_word_what_the_outcomes_say(outcomes, word):
    places = zip(CLAIM.places, outcomes, strict=False)
    one = verdict(*(finding(place, LOWER, outcome) for place, outcome in places))
    assert forest.overall(one).word == word
    assert word in forest.tiles({"fid-vaes": one})


def test_what_speaks_for_the_claim_lies_to_the_right():
    for effect in (LOWER, Effect(8.0, 4.0, 12.0, (0, math.inf), 2.0)):
        axis = forest._Axis([effect])
        against, zero, for_it = (axis.place(sign * effect.value) for sign in (-1, 0, 1))
        assert 0 <= against < zero < for_it <= 100
        first, last = (
            float(x)
            for x in re.findall(
                r"x[12]=\"([\d.]+)%\" x2=\"([\d.]+)%\" y1=\"15", axis.plot(finding("MNIST", effect), 30, 5)
            )[0]
        )
        assert first == pytest.approx(min(map(axis.place, (effect.low, effect.high))), abs=0.01)
        assert last == pytest.approx(max(map(axis.place, (effect.low, effect.high))), abs=0.01)


def test_an_effect_without_interval_is_a_hollow_dot():
    one = verdict(finding("MNIST", Effect(1.0, math.nan, math.nan, (-0.1, 0.1)), p=math.nan))
    drawn = forest.forest(one)
    assert "forest-hollow" in drawn and "forest-interval" not in drawn
    assert "too few seeds" in drawn


def test_claims_are_counted_in_a_sentence():
    some = [verdict(finding("MNIST", LOWER, one)) for one in (OPEN, OPEN, CONTRADICTED)]
    found = dict(zip("abc", some, strict=True))
    assert (
        forest.counted(found) == "Of three claims, three could be tested: one does not hold and two are open."
    )
    found["d"] = verdict(finding("MNIST", LOWER, p=math.nan))
    assert forest.counted(found).startswith("Of four claims, three could be tested")
    assert forest.counted(found).endswith(" For the other there are too few seeds or no records.")


def test_every_row_is_told_in_words_and_escaped():
    one = verdict(finding("MNIST", LOWER, HOLDS), finding("CelebA <64>", LOWER, CONTRADICTED))
    drawn = forest.forest(one)
    assert "CelebA &lt;64&gt;" in drawn and "<64>" not in drawn
    told = re.search('aria-label="([^"]+)"', drawn)[1]
    assert "MNIST, against VAE: -1 ± 1, holds" in told
    assert "The claim holds on MNIST." in drawn
    assert drawn.count("<svg") == 3  # two rows and the axis


def test_a_claim_without_a_test_has_no_plot():
    assert forest.forest(verdict()) == ""
    assert "not tested" in forest.tiles({"fid-vaes": verdict()})


@pytest.mark.parametrize(("low", "high", "log"), [(-25, 40, False), (-0.1, 0.02, False), (-3, 3, True)])
def test_ticks_are_round_and_few(low, high, log):
    found = forest._round_numbers(low, high, log)
    assert 2 <= len(found) <= 8 and all(low <= x <= high for x in found)
    assert any(abs(x) < 1e-12 for x in found)


def test_numbers_of_an_axis_do_not_overprint_on_a_phone():
    wide = Effect(1.5, -0.3, 3.0, (0, math.inf), logarithmic=True)
    axis = forest._Axis([wide])
    round_numbers = forest._round_numbers(axis.low, axis.high, True)
    kept = axis.apart(round_numbers)
    places = [axis.place(x) for x in kept]
    assert 0.0 in kept and 2 <= len(kept) < len(round_numbers)
    assert min(b - a for a, b in itertools.pairwise(places)) >= forest.ROOM
    assert axis.ticks().count("<text") == len(kept)


def test_tests_of_the_books_records_carry_the_number_they_print(monkeypatch):
    """The number that is drawn is the one that is printed."""
    monkeypatch.delenv("WWAE_RESULTS")  # the book's own
    found = verdicts.verdicts(reproduce.records("quick", "*"), verdicts.read_benchmarks())
    drawn = [one for verdict in found.values() for one in verdict.findings if one.effect]
    assert len(drawn) > 10
    for one in drawn:
        if one.effect.logarithmic:
            printed, value = re.search(r"([\d.]+) times", one.ratio)[1], math.exp(one.effect.value)
        else:
            printed, value = one.result.split("\N{NO-BREAK SPACE}")[0], one.effect.value
        decimals = len(printed.partition(".")[2])
        assert value == pytest.approx(float(printed), abs=0.51 * 10**-decimals)
        low, high = one.effect.holds
        assert one.outcome != HOLDS or low < value < high
        assert one.outcome != CONTRADICTED or not low < value < high
