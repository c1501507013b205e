"""How claims that were judged are told: together, with the correction for all of them, and by the method that decides.

    for one in told(records, look):
        print(one.record.title, one.record.word, one.effect, one.interval, one.survives)

The stages that judge may run at any time, so only here are all claims known, and only here corrected: of older findings
from the intervals they kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from modescape.claims.claim import CLAIMS, Claim, Joins, Side
from modescape.claims.combining import holm
from modescape.claims.record import ClaimRecord
from modescape.claims.repeated_looks import FIRST, Look
from modescape.records import Json
from modescape.science.confidence import LEVEL, Estimate, Word, p_beyond, t_quantile

Records = Mapping[str, ClaimRecord]


@dataclass(frozen=True, kw_only=True)
class Bar:
    """The interval that gives the word. confidence: its level, .95 where no further methods are allowed for; decides:
    the method it is of, "" of a claim that is not over methods."""

    low: float | None
    value: float | None
    high: float | None
    confidence: float
    decides: str = ""

    def read(self, claim: Claim[Any]) -> tuple[float | None, float | None, float | None]:
        """(low, value, high) as people read them: ratios, where the estimand is a ratio's logarithm."""
        low, value, high = (
            math.exp(min(end, 700.0)) if claim.ratio and end is not None else end
            for end in (self.low, self.value, self.high)
        )
        return low, value, high

    def words(self, claim: Claim[Any]) -> str:
        if self.low is None or self.high is None:
            return ""
        return f"{claim.say(self.low, bare=True)} to {claim.say(self.high)}"


@dataclass(frozen=True, kw_only=True)
class AtLook:
    """The word a claim would have, and its interval, at the level 5 %/k that is left for look k."""

    look: int
    level: float
    word: Word
    bar: Bar
    interval: str

    def to_json(self) -> Json:
        return {
            "look": self.look, "level": self.level, "word": self.word, "glyph": self.word.glyph, "low": self.bar.low,
            "high": self.bar.high, "interval": self.interval,
        }  # fmt: skip

    @staticmethod
    def words(known: Mapping[str, Any]) -> str:
        """Of what `to_json` gives, at 2.5 %: cannot tell (1.2 to 2.1 times); without a word the interval alone, and ""
        at the first look."""
        word, interval = known["word"], known["interval"]
        if known["look"] == 1 or not (word or interval):
            return ""
        within = f" ({interval})" if interval else ""
        return f"at {100 * known['level']:.2g} %: {f'{word}{within}' if word else interval}"


def in_a_line(
    letter: str,
    title: str,
    word: Word | None,
    *,
    survives: bool,
    is_fragile: bool,
    effect: str,
    interval: str,
    because: str,
    look: int = 1,
    at_look: str = "",
) -> str:
    """(d) Ensembles gain more: ✓ holds *, 2.1 points (1.4 to 2.8). Of what cannot be told, why, and of what has no word
    before a seal, how far it is. survives: the word stands with Holm's correction, which the star says; at_look: of a
    later look at the same trainings the word at its level."""
    measured = f"{effect} ({interval})" if effect and interval else effect
    told = filter(None, (measured, because if word in (Word.CANNOT_TELL, None) else ""))
    shade = f"{', fragile' if is_fragile else ''}{' *' if survives else ''}"
    said = "no word yet" if word is None else f"{word.glyph} {word}{shade}"
    later = f"; look {look}, {at_look}" if at_look else ""
    return ", ".join((f"({letter}) {title}: {said}", *told)) + later


def star(claims: Iterable[Claimed]) -> str:
    """What the star in these lines says; "" where none has it."""
    starred = [one for one in claims if one.survives]
    if not starred:
        return ""
    count = starred[0].tested
    return f"* with Holm's correction too, over the {count} claim{'s' * (count != 1)} tested"


def fragile(word: Word | None, *, survives: bool, tested: int, rests_on: Sequence[int]) -> bool:
    """Whether a word is given that does not stand with all tests at once, or that would be another without one unit
    (science o.6)."""
    return word in (Word.HOLDS, Word.DOES_NOT_HOLD) and bool(rests_on or (tested > 1 and not survives))


class Claimed(Protocol):
    """A claim of which it is known whether its word stands among all that were tested."""

    @property
    def survives(self) -> bool: ...
    @property
    def tested(self) -> int: ...


@dataclass(frozen=True, kw_only=True, repr=False)
class Told:
    """A claim with a word, among all that were asked.

    record: with its p under all tests of its methods; bar: the interval of the method that decides, at the confidence
    its word needs. survives: the word is still given once Holm's correction for all tested claims is made; tested: how
    many those are; note: what an older rule said of it, where that was something else; waits: for members, so that the
    word is none yet.
    """

    claim: Claim[Any]
    record: ClaimRecord
    bar: Bar
    survives: bool
    tested: int
    note: str
    at_look: AtLook
    waits: bool = False

    def __repr__(self) -> str:
        return in_a_line(
            self.record.id, self.claim.title, None if self.waits else self.record.word, survives=self.survives,
            is_fragile=self.is_fragile, effect=self.effect if self.bar.value is not None else "",
            interval=self.interval, because=self.record.because, look=self.at_look.look, at_look=self.later,
        )  # fmt: skip

    @property
    def word_at_look(self) -> Word:
        """At the level of its look, which is that of the record at the first."""
        return self.record.word if self.at_look.look == 1 else self.at_look.word

    @property
    def is_fragile(self) -> bool:
        word = None if self.waits else self.record.word
        return fragile(word, survives=self.survives, tested=self.tested, rests_on=self.record.rests_on)

    @property
    def later(self) -> str:
        """Of a later look, the word at its level, of what waits for members the interval alone; "" at the first."""
        return AtLook.words(self.at_look.to_json() | ({"word": None} if self.waits else {}))

    @property
    def effect(self) -> str:
        return "–" if self.bar.value is None else self.claim.say(self.bar.value)

    @property
    def interval(self) -> str:
        return self.bar.words(self.claim)

    @property
    def counted(self) -> str:
        """The effect with what it is counted in: "0.00327 cosine"."""
        return "–" if self.bar.value is None else self.claim.counted(self.bar.value)

    @property
    def level(self) -> str:
        """Of the interval: "95 %", or "98.8 %" where the word needs several methods to be allowed for."""
        return f"{100 * self.bar.confidence:.3g} %"

    def to_json(self) -> Json:
        """As the API gives it: estimate, low and high are the bar's."""
        return {
            **self.record.to_json(),
            "estimate": self.bar.value,
            "low": self.bar.low,
            "high": self.bar.high,
            "confidence": self.bar.confidence,
            "decides": self.bar.decides,
            "survives": self.survives,
            "at_look": self.at_look.to_json(),
            "glyph": self.record.word.glyph,
            "effect": self.effect,
            "interval": self.interval,
            "tested": self.tested,
            "note": self.note,
        }


def told(records: Records, look: Look = FIRST) -> list[Told]:
    """The claims that were asked, in the paper's order; those no code here declares are left out."""
    known = {letter: records[letter] for letter in CLAIMS if letter in records}
    p_values = {letter: p for letter, record in known.items() if (p := _p(CLAIMS[letter], record)) is not None}
    standing = holm(p_values)
    before = _standing_before(known, p_values)
    return [
        _told(CLAIMS[letter], record, p_values.get(letter), letter in standing, look, len(p_values), letter in before)
        for letter, record in known.items()
    ]


def _standing_before(known: Records, p_values: Mapping[str, float]) -> frozenset[str]:
    """What stood by the rule before, which counted answers only; of newer findings there is no such rule."""
    if all(record.p is not None or letter not in p_values for letter, record in known.items()):
        return holm(p_values)
    answered = {letter: record.p for letter, record in known.items() if record.word is not Word.CANNOT_TELL}
    return holm({letter: p for letter, p in answered.items() if p is not None})


def _told(
    claim: Claim[Any], record: ClaimRecord, p: float | None, survives: bool, look: Look, tested: int, stood: bool
) -> Told:
    note = ""
    if record.word is Word.DOES_NOT_HOLD and p is not None and p > LEVEL:
        # methods whose range was too short were tested, too, and were not counted
        record = replace(record, word=Word.CANNOT_TELL, qualifier="")
        note = "by the rule before, which counted fewer methods, it did not hold"
    elif record.word is not Word.CANNOT_TELL and stood != survives:
        note = f"by the rule before, which counted answers only, it {'stood' if stood else 'did not stand'}"
        note += " with all of them at once"
    record = replace(record, p=p)
    return Told(
        claim=claim, record=record, bar=_bar(claim, record), survives=survives, tested=tested, note=note,
        at_look=_at_look(claim, record, look),
    )  # fmt: skip


def _at_look(claim: Claim[Any], record: ClaimRecord, look: Look) -> AtLook:
    """From what is stored of it.

    A smaller level takes words away and gives none. p is of the word given, corrected for several methods where the
    word is, so that the word stands at a level whenever p does.
    """
    level = look.level / 2
    stands = record.p is not None and record.p <= level
    word = record.word if stands else Word.CANNOT_TELL
    bar = _bar(claim, replace(record, word=word), level)
    return AtLook(look=look.number, level=look.level, word=word, bar=bar, interval=bar.words(claim))


def _p(claim: Claim[Any], record: ClaimRecord) -> float | None:
    """The smaller of the p-values of both words, over methods as `combining` joins them; None of what was not
    tested."""
    if record.closed:
        return None
    if claim.joins is Joins.ONE:
        return record.p if record.p is not None else _p_of_interval(claim, record)
    tested = [one for one in record.methods if one.tested]
    if not tested:
        return None
    holds = [one.estimate.p_holds for one in tested if one.estimate and not one.gate]
    fails = [one.estimate.p_fails for one in tested if one.estimate]
    if claim.joins is Joins.SOME:
        p_holds, p_fails = min(1.0, len(fails) * min(holds, default=1.0)), max(fails)
        return p_holds if len(holds) < len(record.methods) else min(p_holds, p_fails)
    p_fails = min(1.0, len(fails) * min(fails))
    return p_fails if len(holds) < len(record.methods) else min(p_fails, max(holds))


def _p_of_interval(claim: Claim[Any], record: ClaimRecord) -> float | None:
    """Of a claim that kept its interval but, having got no word, no p."""
    low, high, value, degrees = record.low, record.high, record.estimate, record.n - 1
    if low is None or high is None or value is None or degrees < 1:
        return None
    error = (high - low) / 2 / t_quantile(1 - LEVEL, degrees)
    above, below = (p_beyond(gap, error, degrees) for gap in (value - record.margin, record.margin - value))
    if claim.side is Side.WITHIN:
        inside = p_beyond(value + record.margin, error, degrees)  # of "above the lower margin"
        return min(max(below, inside), min(above, 1 - inside))
    return min(above, below)


def _bar(claim: Claim[Any], record: ClaimRecord, level: float = LEVEL) -> Bar:
    """Of a claim over methods, the method on which its word rests, with the interval of the level at which it does.

    "For every method" is decided by the method farthest from holding, at 95 % where it holds; that it fails, or might,
    is judged with all k methods allowed for, at 1 - 0.05 / k. "For one method" is the same with both words exchanged.
    level: on either side of an interval.
    """
    opened = [(one, one.told) for one in record.methods if one.told and _is_whole(one.told)]
    if not opened:
        return _widened(record.estimate, record.low, record.high, record.n, level, "")
    enough = claim.joins is Joins.SOME
    sure = Word.DOES_NOT_HOLD if enough else Word.HOLDS  # the word that every method must have
    undecided = [pair for pair in opened if pair[0].word is not sure]
    if record.word is sure:
        chosen, k = max(opened, key=lambda pair: pair[1].p_fails if enough else pair[1].p_holds), 1
    else:
        chosen = min(undecided or opened, key=lambda pair: pair[1].p_holds if enough else pair[1].p_fails)
        k = len(opened)
    one, found = chosen
    decides = one.title if record.word is sure or undecided else ""  # else a method that cannot be told
    return _widened(found.value, found.low, found.high, one.n or record.n, level / k, decides)


def _widened(value: float | None, low: float | None, high: float | None, n: int, level: float, decides: str) -> Bar:
    """The 95 % interval at another level."""
    confidence = 1 - 2 * level
    if value is None or low is None or high is None or n < 2:
        return Bar(low=low, value=value, high=high, confidence=confidence, decides=decides)
    wider = t_quantile(1 - level, n - 1) / t_quantile(1 - LEVEL, n - 1) if level != LEVEL else 1.0
    return Bar(
        low=value + wider * (low - value), value=value, high=value + wider * (high - value),
        confidence=confidence, decides=decides,
    )  # fmt: skip


def _is_whole(found: Estimate) -> bool:
    return math.isfinite(found.value + found.low + found.high)


@dataclass(frozen=True, kw_only=True)
class AtEqualAccuracy:
    """Disagreement of one method's samples with their solution at equal accuracy, as claim (d1) reads it, and its 95 %
    interval (None where an older version kept none)."""

    method: str
    disagreement: float
    low: float | None
    high: float | None


def equal_accuracy(claim: ClaimRecord | None) -> list[AtEqualAccuracy]:
    """What every subspace method with open gates reaches, from claim (d1)."""
    return [
        AtEqualAccuracy(
            method=one.method,
            disagreement=one.parts["samples at equal accuracy"],
            low=one.parts.get("its lower end"),
            high=one.parts.get("its upper end"),
        )
        for one in (claim.methods if claim else ())
        if not one.gate and "samples at equal accuracy" in one.parts
    ]
