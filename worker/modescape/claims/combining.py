"""From estimates to a word: gates, one method or many, and corrections for many (science o.3, o.6).

    gate = closed_gate(evidence, disagreement, 500)        # why no word can be given, or ""
    return answer(asked, base, log_ratio(across, within, n, margin=asked.margin), numbers)
    return over_methods(asked, evidence, sampled, find)    # one word of every method, or of some

`holds` when the whole interval lies on the claim's side of the margin, `does not hold` when it lies on the other, else
`cannot tell`; and `cannot tell` whenever a gate is closed, which is then named with what would open it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from modescape.claims.claim import MIN_DISAGREEING, MIN_SAMPLES, MIN_UNITS, Asked, Claim, Joins, Reads
from modescape.claims.evidence import Evidence, Labels, MethodEvidence, OfRuns, Units
from modescape.claims.record import HOLDS_FOR_OTHERS, ClaimRecord, MethodRecord, finite, number
from modescape.science.confidence import LEVEL, Estimate, OverPairs, Word

R = TypeVar("R", bound=OfRuns)
Told = list[tuple[MethodRecord, Estimate]]


# ------------------------------------------------------------------------------------------------------------ gates


def closed_gate(evidence: Units, disagreement: float, needed: int) -> str:
    """Why no claim about functions can be answered, and what would change that; "" when it can (science o.3).

    disagreement: of two units, in the mean; needed: examples.
    """
    if evidence.units < MIN_UNITS:
        return too_few(evidence)
    if evidence.examples < needed:
        return f"{evidence.examples} test images, at least {needed} are needed: raise {evidence.examples_by}"
    disagreeing = disagreement * evidence.examples
    if disagreeing < MIN_DISAGREEING:
        return (
            f"two {evidence.unit}s disagree on {disagreeing:.1f} images in the mean, at least {MIN_DISAGREEING} are "
            "needed: use more test images, or harder ones"
        )
    return ""


def counted(count: int, unit: str) -> str:
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"


def too_few(evidence: Units) -> str:
    return (
        f"{counted(evidence.units, evidence.unit)}: at least {MIN_UNITS} are needed to measure how {evidence.unit}s "
        f"vary; raise {evidence.raised_by}"
    )


def too_few_samples(method: MethodEvidence) -> str:
    which = "typical " if method.drawn is None else ""
    return (
        f"a run has {method.fewest} {which}samples, at least {MIN_SAMPLES} are needed: ask for more of them, or for "
        "smaller strengths where the accuracy floor refused them"
    )


def apart(labels: Labels) -> OverPairs:
    """Disagreement of each pair of rows of labels [S, N]."""
    return OverPairs.of(len(labels), lambda i, j: labels[i] != labels[j], labels.shape[1])


# ---------------------------------------------------------------------------------------------------- one estimate


def known(record: ClaimRecord, found: Estimate, parts: Mapping[str, float]) -> ClaimRecord:
    """The record with an estimate and the numbers behind it."""
    return replace(
        record,
        estimate=number(found.value),
        low=number(found.low),
        high=number(found.high),
        parts={**record.parts, **finite(parts)},
    )


def answer(asked: Asked, record: ClaimRecord, found: Estimate, parts: Mapping[str, float]) -> ClaimRecord:
    """The word of a claim with one estimate."""
    p = min(found.p_holds, found.p_fails) if found.exists else None
    return replace(
        known(record, found, parts), word=found.word, because=because(asked.claim, found), p=p,
        qualifier=qualifier(found),
    )  # fmt: skip


def because(claim: Claim[Any], found: Estimate) -> str:
    if not found.exists:
        return (
            f"the quantity is undefined in {100 * found.undefined:.0f} % of the redraws, or without some run: more "
            "runs or more test images would define it"
        )
    margin = claim.say(found.margin)
    if found.word is Word.CANNOT_TELL:
        return f"the interval crosses {margin}: more runs or more test images would narrow it"
    return f"the whole interval lies {'above' if (found.word is Word.HOLDS) == found.above else 'below'} {margin}"


def qualifier(found: Estimate) -> str:
    if found.word is not Word.DOES_NOT_HOLD:
        return ""
    if found.above:
        return "there is an effect, but below the margin" if found.low > 0 else ""
    return "there is an effect, but short of the margin" if found.high < 1 else ""


# ---------------------------------------------------------------------------------------------------- many methods


def sampled(evidence: Evidence) -> list[MethodEvidence]:
    """Methods of which typical samples were asked for."""
    return [method for method in evidence.methods if any(len(samples) for samples in method.near)]


def judged(claim: Claim[Any], method: MethodEvidence, found: Estimate, parts: Mapping[str, float]) -> MethodRecord:
    why = because(claim, found)
    return MethodRecord(
        method.name, method.title, found.word, why, found, "" if found.exists else why, finite(parts)
    )  # fmt: skip


def closed(
    method: MethodEvidence, gate: str, parts: Mapping[str, float] | None = None, found: Estimate | None = None
) -> MethodRecord:
    return MethodRecord(method.name, method.title, Word.CANNOT_TELL, gate, found, gate, finite(parts or {}))


def over_methods(
    asked: Asked,
    evidence: R,
    chosen: Callable[[R], Sequence[MethodEvidence]],
    find: Callable[[R, MethodEvidence], MethodRecord],
) -> ClaimRecord | None:
    """A claim over methods, each judged on the runs it has; None where it is asked of none."""
    if not any(chosen(part) for part in evidence.parts):
        return None
    base, found = asked.record(evidence), []
    for part in evidence.parts:
        gate = closed_gate(part, apart(part.finals).mean(np.arange(part.units)), asked.claim.examples)
        if gate and part is evidence:
            return replace(base, because=gate)
        own = [closed(method, gate) if gate else find(part, method) for method in chosen(part)]
        found += own if part is evidence else [replace(one, n=part.units) for one in own]
    join = some_method if asked.claim.joins is Joins.SOME else every_method
    return join(asked.claim, base, found)


def every_method(claim: Claim[Any], base: ClaimRecord, found: Sequence[MethodRecord]) -> ClaimRecord:
    """A claim that must hold for every method (science o.6): intersection-union, and Bonferroni for `does not hold`."""
    (opened, shut), tested = _told(found), _tested(found)
    record = _decided_by_one(claim, base, found)
    if tested:
        failing, worst = min(tested, key=lambda pair: pair[1].p_fails)
        p_fails = min(1.0, len(tested) * worst.p_fails)
        record = replace(record, p=p_fails if shut else min(p_fails, max(one.p_holds for _, one in opened)))
        if p_fails <= LEVEL:
            return replace(
                known(replace(record, parts={}), worst, failing.parts),
                word=Word.DOES_NOT_HOLD,
                because=f"{failing.title}: {because(claim, worst)}",
                p=p_fails,
                qualifier=qualifier(worst),
                n=failing.n or base.n,
            )
    if not opened:
        return replace(record, because=_gates(shut))
    undecided = [one for one, _ in opened if one.word is not Word.HOLDS]
    if undecided:
        return replace(record, because="; ".join(f"{one.title}: {_why(one)}" for one in (*undecided, *shut)))
    if shut:
        others = ", ".join(one.title for one, _ in opened)
        return replace(record, qualifier=HOLDS_FOR_OTHERS, because=f"holds for {others}; {_gates(shut)}")
    side = "above" if opened[0][1].above else "below"
    because_all = f"for every method the whole interval lies {side} {claim.say(base.margin)}"
    return replace(record, word=Word.HOLDS, because=because_all)


def some_method(claim: Claim[Any], base: ClaimRecord, found: Sequence[MethodRecord]) -> ClaimRecord:
    """A claim that must hold for at least one method: Holm over methods; `does not hold` when it fails for all."""
    opened, shut = _told(found)
    record = _decided_by_one(claim, base, found)
    if not opened:
        return replace(record, because=_gates(shut))
    p_holds = min(1.0, len(opened) * min(one.p_holds for _, one in opened))
    record = replace(record, p=p_holds if shut else min(p_holds, max(one.p_fails for _, one in opened)))
    standing = holm({one.method: estimate.p_holds for one, estimate in opened})
    margin = claim.say(base.margin)
    if standing:
        names = ", ".join(one.title for one, _ in opened if one.method in standing)
        return replace(record, word=Word.HOLDS, because=f"{names}: the whole interval lies above {margin}")
    undecided = [one for one, _ in opened if one.word is not Word.DOES_NOT_HOLD]
    if undecided or shut:
        return replace(record, because="; ".join(f"{one.title}: {_why(one)}" for one in (*undecided, *shut)))
    best = max((estimate for _, estimate in opened), key=lambda estimate: estimate.beyond_margin)
    return replace(
        record, word=Word.DOES_NOT_HOLD, qualifier=qualifier(best),
        because=f"for every method the whole interval lies below {margin}",
    )  # fmt: skip


def holm(p_values: Mapping[str, float]) -> frozenset[str]:
    """The names whose statements stand together at 2.5 % one-sided (Holm 1979)."""
    standing: set[str] = set()
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        if p > LEVEL / (len(p_values) - rank):
            break
        standing.add(name)
    return frozenset(standing)


def _decided_by_one(claim: Claim[Any], base: ClaimRecord, found: Sequence[MethodRecord]) -> ClaimRecord:
    """The claim with all its methods and the numbers of the one on which it stands or falls: nearest to failing (or,
    where one method is enough, to holding) by its interval, at equal accuracy by the number itself."""
    record, candidates = replace(base, methods=tuple(found)), _told(found)[0] or _tested(found)
    if not candidates:
        return record
    by_number, choose = claim.reads is Reads.WIDE, max if claim.joins is Joins.SOME else min
    one, estimate = choose(candidates, key=lambda pair: pair[1].value if by_number else pair[1].beyond_margin)
    return replace(known(record, estimate, one.parts), n=one.n or base.n)


def _told(found: Sequence[MethodRecord]) -> tuple[Told, list[MethodRecord]]:
    """Methods whose gates are open, with their estimates, and the others."""
    return [(one, one.told) for one in found if one.told], [one for one in found if not one.told]


def _tested(found: Sequence[MethodRecord]) -> Told:
    return [(one, one.tested) for one in found if one.tested]


def _gates(shut: Sequence[MethodRecord]) -> str:
    return "; ".join(f"{one.title}: {one.gate}" for one in shut)


def _why(one: MethodRecord) -> str:
    """Why one method leaves a claim open: for the word it has alone, too many methods were asked."""
    if one.word is Word.CANNOT_TELL:
        return one.because
    return f"{one.because}, but not once the number of methods is allowed for: more runs would tell"
