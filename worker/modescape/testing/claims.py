"""What every claim keeps to: it says all of itself, and its word is what its interval says."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from modescape.claims import CLAIMS
from modescape.claims.claim import MIN_UNITS, Asked, Claim, Joins, Side
from modescape.claims.evidence import Evidence, Units
from modescape.claims.record import ClaimRecord
from modescape.registry import figures
from modescape.science.confidence import Word
from modescape.spec import parse
from modescape.stages import KINDS
from modescape.testing.contract import (
    Checked,
    Contract,
    NotAsked,
    concerns,
    equal,
    expect,
    is_declared_lightly,
    module_of,
)
from modescape.testing.evidence import EVIDENCE


@dataclass(frozen=True)
class Trial:
    """evidence: on which it is judged."""

    entry: Claim[Any]
    evidence: Sequence[Units] = ()

    @property
    def module(self) -> str:
        return module_of(self.entry.judge)

    @cached_property
    def margins(self) -> dict[str, float]:
        own = {self.entry.letter: self.entry.default_margin}
        return {letter: claim.default_margin for letter, claim in CLAIMS.items()} | own

    def prepared(self, evidence: Units) -> Units:
        kept = evidence.without_failed()
        made: Units = self.entry.prepare(kept, lambda: None) if self.entry.prepare else kept
        return made

    def judge(self, kept: Units, margin: float | None = None) -> ClaimRecord | None:
        """kept: prepared; margin: in the estimand's own unit."""
        at = self.entry.default_margin if margin is None else margin
        asked = Asked(self.entry, at, {**self.margins, self.entry.letter: at})
        record: ClaimRecord | None = self.entry.judge(asked, kept)
        return record

    @cached_property
    def kept(self) -> list[Units]:
        if not self.evidence:
            raise NotAsked(f"No evidence of the kind {self.entry.evidence.__name__} was given.")
        return [self.prepared(one) for one in self.evidence]

    @cached_property
    def told(self) -> list[tuple[Units, ClaimRecord]]:
        """Evidence on which there is an interval, and what is said of it."""
        records = ((kept, self.judge(kept)) for kept in self.kept)
        found = [(kept, record) for kept, record in records if record is not None and record.low is not None]
        expect(found, "On none of the evidence it has an interval.")
        return found


CLAIM: Contract[Trial] = Contract("claim", is_declared_lightly)


@CLAIM.rule
def _says(trial: Trial) -> None:
    """It says all of itself: letter, title without a full stop, estimand, where the paper says it, what decides it; and
    its file says what is estimated."""
    claim = trial.entry
    expect(claim.letter and claim.estimand and claim.paper, "Its letter, estimand or place in the paper is empty.")
    expect(claim.title[:1].isupper() and not claim.title.endswith("."), f"Its title is {claim.title!r}.")
    expect(claim.decided_by.words and claim.decided_by.stages, "It does not say what decides it.")
    expect(inspect.getdoc(inspect.getmodule(claim.judge)), "Its file does not say what is estimated.")


@CLAIM.rule
def _exists(trial: Trial) -> None:
    """The figures that show it, the stages that judge it and its kind of evidence exist."""
    claim = trial.entry
    unknown = [name for name in claim.figures if name not in figures]
    expect(claim.figures and not unknown, f"It is shown by the figures {unknown or 'none'}, which do not exist.")
    unknown = [kind for kind in claim.decided_by.stages if kind not in KINDS]
    expect(not unknown, f"It is judged by the stages {unknown}; there are {', '.join(KINDS)}.")
    expect(issubclass(claim.evidence, Units), "Its evidence extends Units of modescape.claims.evidence.")


@CLAIM.rule
def _needs(trial: Trial) -> None:
    """A claim over methods reads some of their samples, others none; it needs 500 examples or more, or does not count
    them."""
    claim = trial.entry
    equal("being about methods (joins), by `reads`,", claim.joins is not Joins.ONE, claim.reads is not None)
    expect(claim.examples == 0 or claim.examples >= 500, f"It needs {claim.examples} examples.")


@CLAIM.rule
def _margin(trial: Trial) -> None:
    """Its margin has a description, a default within its bounds, which a spec without that field has, and the unit of
    what is estimated."""
    claim, margin = trial.entry, trial.entry.margin
    above = (margin.gt is None or margin.default > margin.gt) and (margin.ge is None or margin.default >= margin.ge)
    expect(above and (margin.le is None or margin.default <= margin.le), "Its default margin lies outside its bounds.")
    expect(margin.says.endswith("."), f"Its margin says {margin.says!r}.")
    equal("margin in a spec that says nothing", claim.margin_in(parse({})), margin.default)
    equal("margin of 0.5 in the estimand's unit", claim.in_unit(0.5), math.log(0.5) if claim.ratio else 0.5)


@CLAIM.rule
def _open(trial: Trial) -> None:
    """What a half-width leaves open it says in words that end so."""
    words = trial.entry.left_open(trial.entry.margin.default, 0.05)
    expect(words.endswith(("open", "opens")), f"It says {words!r}; expected are words that end with “stay open”.")


@CLAIM.rule
def _record(trial: Trial) -> None:
    """What it says of evidence is its own: letter, title, margin, units, with a reason and finite numbers in their
    order."""
    claim = trial.entry
    for kept, record in trial.told:
        equal("record's letter and title", (record.id, record.title), (claim.letter, claim.title))
        equal("record's margin and units", (record.margin, record.unit), (claim.default_margin, kept.unit))
        expect(record.n <= kept.units, f"It counts {record.n} units of {kept.units}.")
        expect(record.because, "It gives no reason.")
        values = (record.low, record.estimate, record.high)
        finite = [value for value in values if value is not None and math.isfinite(value)]
        expect(len(finite) == 3 and finite == sorted(finite), f"Interval and estimate are {values}.")


@CLAIM.rule
def _stored(trial: Trial) -> None:
    """A record comes back from its JSON as it was."""
    for _, record in trial.told:
        stored = orjson.loads(orjson.dumps(record.to_json()))
        equal("record, read again,", ClaimRecord.from_json(stored), record)


@CLAIM.rule
def _again(trial: Trial) -> None:
    """Judged again it says the same, to the digit."""
    for kept, record in trial.told:
        equal("record, judged again,", trial.judge(kept), record)


@CLAIM.rule
def _word(trial: Trial) -> None:
    """Its word is what its interval says: it holds only with the whole interval on its side of the margin, and fails
    only with the whole interval on the other."""
    for record in _at_moved_margins(trial):
        side, (low, high) = trial.entry.side, (record.low or 0.0, record.high or 0.0)
        where = f"with the interval {low:.4g} to {high:.4g} and the margin {record.margin:.4g}"
        expect(record.word is not Word.HOLDS or _inside(side, low, high, record.margin), f"It holds {where}.")
        expect(record.word is not Word.DOES_NOT_HOLD or _outside(side, low, high, record.margin), f"It fails {where}.")


@CLAIM.rule
def _both(trial: Trial) -> None:
    """Far from the margin it is told: with the margin moved away to either side, it holds and it does not."""
    words = {record.word for record in _at_moved_margins(trial)}
    for word in (Word.HOLDS, Word.DOES_NOT_HOLD):
        expect(word in words, f"“{word}” is never its word, wherever the margin lies.")


@CLAIM.rule
def _crossed(trial: Trial) -> None:
    """With the margin inside its interval it cannot be told, and says so."""
    asked = 0
    for kept, record in trial.told:
        at = record.estimate if trial.entry.side is not Side.WITHIN else abs(record.estimate or 0.0)
        inside = trial.judge(kept, at)
        if inside is None or not (inside.low or 0.0) < (at or 0.0) < (inside.high or 0.0):
            continue  # another method decides at this margin
        asked += 1
        equal("word with the margin inside the interval", str(inside.word), str(Word.CANNOT_TELL))
        expect(inside.because, "It gives no reason where the margin is inside the interval.")
    if not asked:
        raise NotAsked("The margin never lay inside an interval.")


@CLAIM.rule
def _few(trial: Trial) -> None:
    """From two units it cannot be told, without a p-value, and it says how many are needed."""
    kept = trial.kept[0]
    while kept.units >= MIN_UNITS:
        kept = kept.without(0)
    record = trial.judge(kept)
    expect(record is not None, "Of two units it says nothing at all.")
    assert record is not None
    equal("word, units and p-value of two units", (str(record.word), record.n, record.p), ("cannot tell", 2, None))
    words = f"2 {record.unit}s: at least {MIN_UNITS} are needed"
    expect(words in record.because, f"Its reason for two units is {record.because!r}; expected is “{words}”.")


@CLAIM.rule
def _absent(trial: Trial) -> None:
    """Of evidence in which there is nothing of what it reads it says nothing, or cannot be told."""
    concerns(trial.entry.evidence is Evidence)
    full = trial.kept[0]
    assert isinstance(full, Evidence)
    record = trial.judge(trial.prepared(Evidence(full.classes, full.truth, full.finals)))
    told = record is not None and record.word is not Word.CANNOT_TELL
    expect(not told, "It gives a word on evidence without weights, windows, methods and probabilities.")


def _at_moved_margins(trial: Trial) -> Iterator[ClaimRecord]:
    """At the margin asked, and at those a little beyond both ends of the interval."""
    for kept, record in trial.told:
        yield record
        low, high = record.low or 0.0, record.high or 0.0
        beyond = 0.1 * (high - low)
        ends = (low - beyond, high + beyond)
        if trial.entry.side is Side.WITHIN:
            ends = (max(abs(low), abs(high)) + beyond, min(abs(low), abs(high)) - beyond)
        for margin in ends:
            moved = trial.judge(kept, margin)
            if moved is not None and moved.low is not None:
                yield moved


def _inside(side: Side, low: float, high: float, margin: float) -> bool:
    if side is Side.WITHIN:
        return -margin < low and high < margin
    return low > margin if side is Side.ABOVE else high < margin


def _outside(side: Side, low: float, high: float, margin: float) -> bool:
    if side is Side.WITHIN:
        return low > margin or high < -margin
    return high < margin if side is Side.ABOVE else low > margin


@CLAIM.lists
def check_claim(entry: Claim[Any] | str, *, evidence: Sequence[Units] | None = None) -> Checked:
    """Is this a claim as `modescape.claims.claim` asks? Judged on evidence made to order (`testing.evidence`).

    evidence: instead, for a claim with evidence of a kind of its own: some on which there is an interval. Raises
    ContractBroken with the first rule that does not hold.
    """
    claim = CLAIMS[entry] if isinstance(entry, str) else entry
    made = evidence if evidence is not None else [make() for make in EVIDENCE.get(claim.evidence, ())]
    return CLAIM.check(f"({claim.letter})", Trial(claim, made))
