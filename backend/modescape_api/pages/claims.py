"""An experiment's verdict as its page shows it: each claim with its interval drawn, what is behind it, and its figure.

    asked = answered(found, figures)                # claims with a word
    left = undecided(spec, found, kinds)            # claims this experiment cannot decide, and what would

A claim without data gets no word; it says which study would decide it, with a link to a clone that has that study.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from modescape.claims import CLAIMS, Claim
from modescape.claims.claim import Side
from modescape.claims.evidence import OfRuns
from modescape.claims.record import MethodRecord
from modescape.claims.repeated_looks import FIRST, Look
from modescape.claims.telling import Told
from modescape.draft import FAIR_IMAGES
from modescape.drawing.ticks import even
from modescape.finding import Finding, Gain
from modescape.registry import methods
from modescape.science.confidence import Estimate, Word
from modescape.spec import ExperimentSpec
from modescape.voice import HERE, Voice
from modescape_api.pages import forms
from modescape_api.pages.display import KindProgress

# The picture: the margin is drawn at the same place in every row, what lies beyond it to the right.
WIDTH, MARGIN_AT, ROOM = 288, 116, 12
# Ratios have one scale, so that bars of one length are of one precision: so many pixels a factor of e, within limits
# that keep a factor of 2 apart and a factor of 8 in the picture. What lies beyond is cut off, and the bar says so.
FEWEST, MOST = 50.0, 150.0
RATIOS = tuple(2.0**power for power in range(-10, 11))


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A number of the scale, and where it is; is_null: of no effect at all."""

    x: float
    text: str
    is_null: bool


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An interval in pixels of the picture; x is the estimate; ticks: of its scale; cut_low, cut_high: whether it goes
    on beyond the picture."""

    low: float
    x: float
    high: float
    ticks: list[Mark]
    cut_low: bool = False
    cut_high: bool = False


@dataclass(frozen=True, kw_only=True)
class Part:
    """One method's part in a claim, as text."""

    record: MethodRecord
    text: str
    because: str
    numbers: str


@dataclass(frozen=True)
class Row:
    """One claim with a word, as the page says it. figure: which shows it here, "" where none does; place: its number.

    Effect, interval and picture are of the method that decides, at the `level` (such as "95 %") at which it does.
    scale: pixels of the picture for one unit of the estimand, None: as many as its own interval leaves room for.
    """

    told: Told
    figure: str
    place: int
    voice: Voice = HERE
    scale: float | None = None

    @property
    def shown_by(self) -> str:
        """What the address of the figure's own page must ask for to show this claim; "" where the card here does."""
        return self.told.claim.shown_by.get(self.figure, "")

    @property
    def effect(self) -> str:
        return self.told.counted

    @property
    def level(self) -> str:
        return self.told.level

    @property
    def margin(self) -> str:
        claim, margin = self.told.claim, self.told.record.margin
        text = "within ±" if claim.side is Side.WITHIN else f"{claim.side} "
        text += claim.counted(margin)
        edited = not math.isclose(margin, claim.default_margin, abs_tol=1e-12)
        return f"{text} (edited; by default {claim.say(claim.default_margin)})" if edited else text

    @property
    def stands(self) -> str:
        """Whether the word survives Holm's correction."""
        if self.told.record.word is Word.CANNOT_TELL or self.told.tested <= 1:
            return ""
        return f"{'also' if self.told.survives else 'not'} with all {self.told.tested} tests at once"

    @property
    def at_look(self) -> str:
        """The word at the level left for this look at the same trainings, of what waits for members the interval alone;
        "" at the first."""
        return self.told.later

    @property
    def rests(self) -> str:
        record = self.told.record
        if not record.rests_on:
            return ""
        units = ", ".join(str(number) for number in record.rests_on)
        several, without = ("s", "one of them") if len(record.rests_on) > 1 else ("", "it")
        return f"Rests on {record.unit}{several} {units}: without {without} the word would be another."

    @cached_property
    def picture(self) -> Interval | None:
        """Distances beyond the margin, scaled so that all of the interval and the margin fit; None without interval."""
        far = self._beyond
        if far is None:
            return None
        scale = self.scale or _fitting(far)
        places = [round(MARGIN_AT + distance * scale, 1) for distance in far]
        within = [min(max(place, ROOM), WIDTH - ROOM) for place in places]
        return Interval(
            low=within[0], x=within[1], high=within[2], ticks=list(self._ticks(scale)),
            cut_low=places[0] < ROOM - 1, cut_high=places[2] > WIDTH - ROOM + 1,
        )  # fmt: skip

    @property
    def _beyond(self) -> tuple[float, float, float] | None:
        """How far low end, estimate and high end of the picture lie beyond the margin, negative short of it."""
        low, x, high, margin = self.told.bar.low, self.told.bar.value, self.told.bar.high, self.told.record.margin
        if low is None or x is None or high is None:
            return None
        if self.told.claim.side is Side.ABOVE:
            return low - margin, x - margin, high - margin
        if self.told.claim.side is Side.BELOW:
            return margin - high, margin - x, margin - low
        # within: from the end that is farthest from zero
        nearest = 0.0 if low < 0 < high else min(abs(low), abs(high))
        return margin - max(abs(low), abs(high)), margin - abs(x), margin - nearest

    def _ticks(self, scale: float) -> Iterator[Mark]:
        """Round numbers of the estimand as people read it, ratios by factors of 2."""
        claim, margin = self.told.claim, self.told.record.margin
        short, beyond = (MARGIN_AT - ROOM) / scale, (WIDTH - MARGIN_AT - ROOM) / scale
        is_above, is_within = claim.side is Side.ABOVE, claim.side is Side.WITHIN
        low, high = (margin - short, margin + beyond) if is_above else (margin - beyond, margin + short)
        low = max(low, 0.0) if is_within else low
        values = [math.log(ratio) for ratio in RATIOS] if claim.ratio else even(low, high, 4)
        for value in values:
            if low <= value <= high:
                distance = value - margin if is_above else margin - value
                sign = "±" if is_within and value else ""
                yield Mark(
                    x=round(MARGIN_AT + distance * scale, 1), text=f"{sign}{claim.say(value, bare=True)}",
                    is_null=abs(value) < 1e-12,
                )  # fmt: skip

    @property
    def parts(self) -> dict[str, str]:
        return {self.voice(name): text for name, text in _numbers(self.told.claim, self.told.record.parts).items()}

    @cached_property
    def methods(self) -> list[Part]:
        return [_method(self.told.claim, method, self.voice) for method in self.told.record.methods]


@dataclass(frozen=True, kw_only=True)
class Open:
    """A claim without a word: what would decide it, and `add`, which a clone needs; "" while its stages are to come."""

    letter: str
    title: str
    needs: str
    add: str


@dataclass(frozen=True)
class GainRow:
    """What averaging one method's samples, or an ensemble, gains in a run and what it costs, as text. given: the
    samples came with the members; runs: how many there are."""

    row: Gain
    runs: int
    voice: Voice = HERE
    given: bool = False

    @property
    def title(self) -> str:
        if self.row.method is None:
            # the sentence averages all runs, the claims as many everywhere
            of = f"mean over every {self.row.members} of the {self.runs} runs"
            of = f"from the pairs of {self.runs} runs" if self.runs < self.row.members else of
            return f"Ensemble of {self.row.members}" + self.voice(f" ({of})") * (self.runs != self.row.members)
        part = f" (around {self.row.runs} of {self.row.of} runs)" if self.row.runs is not None else ""
        return self.voice.titles.get(self.row.method, methods.title(self.row.method)) + self.voice(part)

    @property
    def strength(self) -> str:
        """The strength that was chosen, or which samples are averaged without a choice."""
        row = self.row
        if self.given:
            return "–" if row.method is None else "as they came"
        if row.strength is None:
            entry = methods.get(row.method) if row.method is not None else None
            if row.samples == 1 or entry is None:  # of one that is not loaded here nobody knows which
                return "–"
            return "narrow samples" if entry.sampled else "all its samples"
        if row.strength == 0:
            return "0: averaging samples gains nothing"
        end = f" ({row.end} of its grid)" if row.end else ""
        return f"{row.strength:.3g}{end}"

    @property
    def gain(self) -> str:
        return _signed(self.row.brier)

    @property
    def against(self) -> str:
        row = self.row
        if row.over_last is None:
            return self.voice("single runs")
        return self.voice(
            f"the better of run and last iterate ({_signed(row.over_finals)} over the runs, "
            f"{_signed(row.over_last)} over the last iterates)"
        )


def gains(spec: ExperimentSpec, found: Finding) -> list[GainRow]:
    """An ensemble first, then the methods; [] before all is compared, and for experiments judged before costs were."""
    return [GainRow(row, spec.ensemble.runs, found.voice, spec.imported is not None) for row in found.gains]


def rule(spec: ExperimentSpec, kinds: Sequence[KindProgress]) -> str:
    """At which strength samples are averaged, without the full stop."""
    if spec.imported is not None:
        return "What is averaged are the samples as they came; strengths that came with them are taken as given"
    if any(kind.kind == "strength" for kind in kinds):
        return (
            "Each method’s samples are drawn afresh at the one strength, for all runs alike, at which their average "
            "predicts the validation images best"
        )
    if spec.weights is not None and not spec.weights.held_out:
        return (
            "What is averaged are the narrow samples, at strengths that were not chosen for it: these networks may "
            "have been trained on the validation images"
        )
    why = f": {FAIR_IMAGES} validation images are needed" if spec.evaluation.averaged == "fair" else ""
    return f"What is averaged are the narrow samples, at strengths that were not chosen for it{why}"


def _signed(value: float) -> str:
    return f"{value:+.2g}".replace("-", "−")


def answered(found: Finding, figures: Sequence[str], look: Look = FIRST) -> list[Row]:
    """Claims that were asked, ratios drawn at one scale. figures: names of this experiment's, in the order of the
    page."""
    rows = [_row(told, figures, found.voice) for told in found.told(look)]
    of_ratios = [_fitting(far) for row in rows if row.told.claim.ratio and (far := row._beyond) is not None]
    scale = min(max(min(of_ratios, default=MOST), FEWEST), MOST)
    return [replace(row, scale=scale) if row.told.claim.ratio else row for row in rows]


def _fitting(far: tuple[float, float, float]) -> float:
    """Pixels a unit with which an interval fits, short of the margin and beyond it."""
    left, right = MARGIN_AT - ROOM, WIDTH - MARGIN_AT - ROOM
    return min(right / max(far[2], 1e-12), left / max(-far[0], 1e-12))


def headline(rows: Sequence[Row]) -> str:
    """How many hold, in a sentence; "" without claims."""
    if not rows:
        return ""
    words = [row.told.word_at_look for row in rows]
    holds, fails, open_ = (words.count(word) for word in Word)
    one = len(rows) == 1 or holds == 1
    text = f"{holds} of {len(rows)} claim{'s'[: (holds, len(rows)) != (1, 1)]} {'holds' if one else 'hold'} here"
    held = [row for row in rows if row.told.word_at_look is Word.HOLDS]
    if weak := sum(row.told.is_fragile for row in held):
        text += f" ({weak} of them fragile)" if weak < holds else ", but fragile" if holds == 1 else ", all fragile"
    if (look := rows[0].told.at_look).look > 1:
        text += f" at {100 * look.level:.2g} %, the level of look {look.look}"
    if fails:
        text += f", {fails} {'does' if fails == 1 else 'do'} not"
    if open_:
        text += f", {open_} cannot be told"
    return f"{text}."


def undecided(
    spec: ExperimentSpec, found: Finding, kinds: Sequence[KindProgress], *, is_alive: bool, learned: bool = True
) -> list[Open]:
    """Claims without a word: those whose stages are to come or have failed, and those this spec cannot decide.

    learned: False where every run has failed, which nothing that is added to a clone would mend.
    """
    waiting = {kind.kind for kind in kinds if kind.done < kind.total}
    unanswered = {one.letter: one for one in found.unanswered(spec)}
    stopped = {kind.kind for kind in kinds if kind.cancelled}
    rows = []
    for letter, claim in CLAIMS.items():
        if letter in found.claims:
            continue
        needed = claim.decided_by
        is_asked = _has(spec, needed.add)
        if is_alive and not is_asked:
            continue  # while it runs there is enough to come
        comes = is_asked and bool(waiting & set(needed.stages))
        needs = unanswered[letter].needs
        if not learned and issubclass(claim.evidence, OfRuns):
            needs, is_asked = "no run learned", True
        elif comes:
            stage = " or ".join(needed.stages)
            needs = f"comes with the stage {stage}" if is_alive else (
                f"the stage {stage} was cancelled; take the experiment up again" if stopped & set(needed.stages)
                else f"the stage {stage} has not succeeded; retry it"
            )  # fmt: skip
        elif spec.imported is not None or spec.weights is not None:  # the form launches trainings
            is_asked = True
        elif is_asked:
            needs = "what decides it was asked for and gave no answer: it has failed, or an older version judged less"
        title, needs = found.voice(claim.title), found.voice(needs)
        rows.append(Open(letter=letter, title=title, needs=needs, add="" if is_asked else needed.add))
    return rows


def _has(spec: ExperimentSpec, add: str) -> bool:
    """Whether the spec already asks for what /launch?with=`add` would add."""
    return forms.with_more(spec.model_dump(mode="json"), add) == spec.model_dump(mode="json")


def _row(told: Told, figures: Sequence[str], voice: Voice) -> Row:
    figure = next((name for name in told.claim.figures if name in figures), "")
    return Row(told, figure, figures.index(figure) + 1 if figure else 0, voice)


def _numbers(claim: Claim[Any], parts: Mapping[str, float]) -> dict[str, str]:
    return {name: claim.part(name, value) for name, value in parts.items()}


def _method(claim: Claim[Any], found: MethodRecord, voice: Voice) -> Part:
    return Part(
        record=found,
        text=_interval(claim, found.estimate),
        because=found.because + (voice(f"; from {found.n} runs") if found.n else ""),
        numbers="; ".join(f"{voice(name)} {text}" for name, text in _numbers(claim, found.parts).items()),
    )


def _interval(claim: Claim[Any], found: Estimate | None) -> str:
    if found is None or math.isnan(found.value):
        return "–"
    ends = f" ({claim.say(found.low, bare=True)} to {claim.say(found.high, bare=True)})"
    return claim.say(found.value) + ("" if math.isnan(found.low + found.high) else ends)
