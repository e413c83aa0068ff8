"""How do the verdicts look? Tiles and forest plots, as HTML with inline SVG, drawn from the verdicts alone.

On every axis what speaks for the claim lies to the right. Colours are the style sheet's, so that they follow
the reader's light or dark; what a colour says a word and an icon say too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from ..data import DATASETS
from .tables import counted as in_words
from .tables import enumeration
from .verdicts import CHALLENGES, CONTRADICTED, HOLDS, OPEN, TIE, UNTESTED, Effect, Finding, Verdict

__all__ = ["Standing", "counted", "forest", "overall", "tiles"]


class Standing(NamedTuple):
    """What a tile says of a claim: one word, its icon, and the class of its colour."""

    word: str
    icon: str
    name: str


HELD = Standing("holds", "✓", "holds")
IN_PART = Standing("holds in part", "◐", "part")
FAILS = Standing("does not hold", "✗", "fails")
FAILS_IN_PART = Standing("contradicted in part", "◐", "fails")
TIED = Standing("no difference", "=", "tie")
TIED_IN_PART = Standing("no difference in part", "=", "tie")
UNDECIDED = Standing("open", "?", "open")
MARKS = {HOLDS: HELD, CONTRADICTED: FAILS, TIE: TIED, OPEN: UNDECIDED}
TIMES, MINUS = "\N{MULTIPLICATION SIGN}", "\N{MINUS SIGN}"
ROOM = 11  # per cent of an axis that a number takes on a phone, where it is narrowest
SHORT = {row.title: name for row, name in zip(DATASETS.values(), ("MNIST", "Fashion", "CelebA"), strict=True)}


def overall(verdict: Verdict) -> Standing:
    """A claim in one word.

    It holds where it holds in every place that it names, and does not hold where it is contradicted in every
    place where it could be tested with enough seeds. It holds in part where it holds in some places, and is
    contradicted in part where it holds in none and is contradicted in some. Where every place that could be
    tested is a tie, there is no difference, and where only some are, there is none in part; else it is open.
    """
    outcomes = set(verdict.outcomes.values())
    tested = {finding.outcome for finding in verdict.findings if not math.isnan(finding.p)}
    if outcomes == {HOLDS}:
        return HELD
    if HOLDS in outcomes:
        return IN_PART
    if CONTRADICTED in outcomes:
        return FAILS if tested == {CONTRADICTED} else FAILS_IN_PART
    if TIE in outcomes:
        return TIED if tested == {TIE} else TIED_IN_PART
    return UNDECIDED


def counted(verdicts: Mapping[str, Verdict]) -> str:
    """How many claims hold, hold in part, and so on; and which are our reading: two or three sentences."""
    made = [one for one in verdicts.values() if any(not math.isnan(finding.p) for finding in one.findings)]
    words = [overall(verdict).word for verdict in made]
    forms = {  # of one claim, of several
        HELD: ("{} holds", "{} hold"),
        IN_PART: ("{} holds in part", "{} hold in part"),
        FAILS: ("{} does not hold", "{} do not hold"),
        FAILS_IN_PART: ("{} is contradicted in part", "{} are contradicted in part"),
        TIED: ("for {} there is no difference", "for {} there is no difference"),
        TIED_IN_PART: ("for {} there is none in some places", "for {} there is none in some places"),
        UNDECIDED: ("{} is open", "{} are open"),
    }
    parts = [
        form[n > 1].format(in_words(n))
        for standing, form in forms.items()
        if (n := words.count(standing.word))
    ]
    sentence = f"Of {in_words(len(verdicts))} claims, {in_words(len(made))} could be tested"
    sentence += f": {enumeration(parts)}." if parts else "."
    if left := len(verdicts) - len(made):
        sentence += f" For the other{'s' * (left > 1)} there are too few seeds or no records."
    if read := [f"“{one.claim.name}”" for one in verdicts.values() if one.claim.quote == CHALLENGES]:
        sentence += (
            f" The abstract does not make all of them: {enumeration(read)} "
            f"{'is' if len(read) == 1 else 'are'} our reading of the challenges that it names."
        )
    return sentence


# ---------------------------------------------------------------- tiles


def tiles(found: Mapping[str, Verdict], page: str = "verdict.html") -> str:
    """A tile for each claim: its verdict in a word, and each data set's interval; it leads to its section."""
    return f'<div class="claims">{"".join(_tile(key, one, page) for key, one in found.items())}</div>'


def _tile(key: str, one: Verdict, page: str) -> str:
    standing = overall(one)
    name = one.claim.name[:1].upper() + one.claim.name[1:]
    drawn = [finding for finding in one.findings if finding.effect]
    axis = _Axis([finding.effect for finding in drawn])
    rows = [
        f'<span class="claim-place">{escape(_place(finding.setting))}</span>{axis.plot(finding, 14, 3)}'
        for finding in drawn
    ]
    rows += [
        f'<span class="claim-place">{escape(_place(place))}</span><span class="claim-none">not tested</span>'
        for place, outcome in one.outcomes.items()
        if outcome == UNTESTED
    ]
    told = "; ".join(f"{place}: {outcome}" for place, outcome in one.outcomes.items())
    return (
        f'<a class="claim claim-{standing.name}" href="{page}#verdict-{key}">'
        f'<span class="claim-word"><span class="claim-icon" aria-hidden="true">{standing.icon}</span>'
        f'{standing.word}</span><span class="claim-name">{escape(name)}</span>'
        f'<span class="claim-told">{escape(told)}</span>'
        f'<span class="claim-rows" aria-hidden="true">{"".join(rows)}</span></a>'
    )


def _place(setting: str) -> str:
    title, _, rest = setting.partition(", ")
    return SHORT.get(title, title) + ("*" if rest else "")


# ---------------------------------------------------------------- forest plots


def forest(one: Verdict) -> str:
    """The primary tests of a claim: estimate and 95% interval of each, for and against it.

    The plain ground is where the claim would be false, the tinted where it is true; a grey band in a row is
    what counts as no difference there.
    """
    drawn = [finding for finding in one.findings if finding.effect]
    if not drawn:
        return ""
    axis = _Axis([finding.effect for finding in drawn])
    rows = []
    for finding in drawn:
        mark = MARKS[finding.outcome]
        rows.append(
            f'<span class="forest-label">{escape(finding.setting)}</span>{axis.plot(finding, 30, 5)}'
            f'<span class="forest-word forest-{mark.name}">{mark.icon} {escape(mark.word)}</span>'
        )
    sides = '<span class="forest-sides"><span>against the claim</span><span>for the claim</span></span>'
    scale = f'<span class="forest-scale">{escape(drawn[0].effect.scale)}</span>'
    return (
        f'<figure class="forest"><div class="forest-rows" role="img" aria-label="{escape(_told(drawn))}">'
        f"{sides}{''.join(rows)}{axis.ticks()}{scale}</div>"
        f"<figcaption>{escape(_concluded(drawn))}</figcaption></figure>"
    )


def _told(drawn: Sequence[Finding]) -> str:
    lines = [
        f"{finding.setting}, against {finding.rival}: {finding.result}, {finding.outcome}"
        for finding in drawn
    ]
    return "Estimates with 95% intervals. " + "; ".join(lines)


def _concluded(drawn: Sequence[Finding]) -> str:
    """The figure's conclusion, a sentence for each outcome."""
    ways = {
        HOLDS: "The claim holds on {places}.",
        CONTRADICTED: "The claim does not hold on {places}.",
        TIE: "On {places} the whole interval lies within what counts as no difference.",
        OPEN: "On {places} the records cannot decide.",
    }
    lines = []
    for outcome, words in ways.items():
        if places := [finding.setting for finding in drawn if finding.outcome == outcome]:
            lines.append(words.format(places=enumeration(places)))
    if single := [finding.setting for finding in drawn if math.isnan(finding.p)]:
        lines.append(f"The hollow dot on {enumeration(single)} rests on too few seeds or pairs for a test.")
    if any(finding.effect.margin for finding in drawn):
        lines.append("The grey band is what counts as no difference.")
    return " ".join(lines)


# ---------------------------------------------------------------- drawing


class _Axis:
    """From effects to places, in per cent of the width: what speaks for the claim lies to the right."""

    def __init__(self, effects: Sequence[Effect]):
        self.effects = effects
        if not effects:
            return
        # an interval that is longer is cut
        reach = 6 * max(max(abs(effect.value), effect.margin) for effect in effects) or 1.0
        ends = [x for effect in effects for x in (effect.value, effect.low, effect.high) if not math.isnan(x)]
        ends = [min(max(x, -reach), reach) for x in ends]
        ends += [side * effect.margin for effect in effects for side in (-1.3, 0, 1.3)]
        space = 0.06 * (max(ends) - min(ends))
        self.low, self.high = min(ends) - space, max(ends) + space
        self.flip = effects[0].holds[0] == -math.inf

    def place(self, x: float) -> float:
        share = (min(max(x, self.low), self.high) - self.low) / (self.high - self.low)
        return 100 * (1 - share if self.flip else share)

    def plot(self, finding: Finding, height: int, radius: int) -> str:
        """One row: where the claim is true, what counts as no difference, zero, and the interval."""
        effect, name = finding.effect, MARKS[finding.outcome].name
        parts = [self._band("forest-true", effect.holds, height)]
        if effect.margin:
            parts.append(self._band("forest-margin", (-effect.margin, effect.margin), height))
        zero = f"{self.place(0):.2f}%"
        parts.append(f'<line class="forest-zero" x1="{zero}" x2="{zero}" y1="0" y2="{height}"/>')
        hollow = " forest-hollow" if math.isnan(finding.p) else ""
        parts.append(f'<g class="forest-{name}{hollow}">')
        if not math.isnan(effect.low):
            ends = sorted((self.place(effect.low), self.place(effect.high)))
            parts.append(
                f'<line class="forest-interval" x1="{ends[0]:.2f}%" x2="{ends[1]:.2f}%" '
                f'y1="{height / 2:g}" y2="{height / 2:g}"/>'
            )
        parts.append(f'<circle cx="{self.place(effect.value):.2f}%" cy="{height / 2:g}" r="{radius}"/></g>')
        return f'<svg class="forest-plot" height="{height}">{"".join(parts)}</svg>'

    def _band(self, name: str, ends: tuple[float, float], height: int) -> str:
        first, last = sorted(map(self.place, ends))
        return f'<rect class="{name}" x="{first:.2f}%" width="{last - first:.2f}%" height="{height}"/>'

    def ticks(self) -> str:
        logarithmic = self.effects[0].logarithmic
        drawn = []
        for x in self.apart(_round_numbers(self.low, self.high, logarithmic)):
            words = f"{math.exp(x):.3g}{TIMES}" if logarithmic else f"{x:+.3g}" if x else "0"
            at = f"{self.place(x):.2f}%"
            drawn.append(
                f'<line class="forest-tick" x1="{at}" x2="{at}" y1="0" y2="5"/>'
                f'<text x="{at}" y="18" text-anchor="middle">{words.replace("-", MINUS)}</text>'
            )
        return f'<svg class="forest-axis" height="24">{"".join(drawn)}</svg>'

    def apart(self, values: Sequence[float]) -> list[float]:
        """Those of an axis' numbers that a phone has room for, that of no difference before all others."""
        kept: list[float] = []
        for x in sorted(values, key=abs):
            if all(abs(self.place(x) - self.place(other)) >= ROOM for other in kept):
                kept.append(x)
        return sorted(kept)


def _round_numbers(low: float, high: float, logarithmic: bool) -> list[float]:
    """Three to six round numbers of an axis."""
    if logarithmic:
        nice = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.8, 0.9, 1, 1.1, 1.2, 1.5, 2, 5, 10, 20, 50, 100]
        within = [math.log(x) for x in nice if low < math.log(x) < high]
        while len(within) > 6:
            within = within[within.index(0.0) % 2 :: 2]
        return within
    step = 10 ** math.floor(math.log10((high - low) / 3))
    step *= next(k for k in (5, 2, 1) if k * step <= (high - low) / 3)
    return [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
