"""Do the paper's claims hold on these runs? Each as an estimand, an interval and one of three words.

    for record in judge(evidence, margins=margins(spec)):
        print(record.title, record.word, record.because)

How intervals are made is in `science.confidence`; numpy only, until claims (d) are read (scipy).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from modescape.claims.claim import CLAIMS, MIN_UNITS, Asked
from modescape.claims.combining import counted
from modescape.claims.evidence import Units
from modescape.claims.record import ClaimRecord
from modescape.science.confidence import Word, fixed_units


def judge(
    evidence: Units,
    *,
    margins: Mapping[str, float] | None = None,
    rests: bool = True,
    closed: str = "",
    waits: str = "",
    check: Callable[[], None] = lambda: None,
) -> tuple[ClaimRecord, ...]:
    """Every claim that is judged on evidence of this kind and can be asked of it, in the paper's order.

    margins: by claim in the estimands' own units, instead of the defaults; rests: whether the words are repeated
    without each unit, to find those a word rests on. closed: why no word can be given of these units, whatever they
    say; then intervals are over examples alone. waits: why no word is given yet of units that are not all here;
    intervals are those that these units have. check is called now and then and may raise to stop.
    """
    at = {letter: claim.default_margin for letter, claim in CLAIMS.items()} | dict(margins or {})
    claims = [claim for claim in CLAIMS.values() if claim.evidence is type(evidence)]
    kept = evidence.without_failed()
    for prepare in dict.fromkeys(claim.prepare for claim in claims if claim.prepare):
        kept = prepare(kept, check)
    asked = (Asked(claim, at[claim.letter], at) for claim in claims)
    if closed:
        with fixed_units():
            shut = (_shut(record, closed) for one in asked if (record := one.claim.judge(one, kept)) is not None)
            return tuple(_shut(record, f"{waits}; {closed}") if waits else record for record in shut)
    told = (_judged(one, kept, rests=rests and not waits) for one in asked)
    if waits:
        return tuple(_shut(record, waits) for record in told if record is not None)
    return tuple(record for record in told if record is not None)


def _shut(record: ClaimRecord, closed: str) -> ClaimRecord:
    """The record with its numbers and without a word."""
    parts = tuple(replace(one, word=Word.CANNOT_TELL, because=one.gate or closed) for one in record.methods)
    because = closed if record.estimate is not None else f"{closed}; {record.because}"
    return replace(record, word=Word.CANNOT_TELL, because=because, p=None, qualifier="", methods=parts, closed=True)


def _judged(asked: Asked, kept: Units, *, rests: bool) -> ClaimRecord | None:
    record = asked.claim.judge(asked, kept)
    if record is None:
        return None
    if rests and record.word is not Word.CANNOT_TELL and kept.units > MIN_UNITS:
        record = replace(record, rests_on=_rests_on(asked, kept, record.word))
    if kept.failed:
        were = "was" if kept.failed == 1 else "were"
        failed = f"{kept.failed} of {counted(kept.units + kept.failed, kept.unit)} failed and {were} left out"
        record = replace(record, because=f"{record.because}; {failed}")
    return record


def _rests_on(asked: Asked, kept: Units, word: Word) -> tuple[int, ...]:
    """Units without which the word would be another."""
    others = [asked.claim.judge(asked, kept.without(unit)) for unit in range(kept.units)]
    return tuple(
        number for number, other in zip(kept.numbers, others, strict=True) if other is None or other.word is not word
    )
