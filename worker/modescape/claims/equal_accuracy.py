"""What claims (d1) and (d2) share: what every method reaches where it costs one point of accuracy, and how sure that is
(science o.5). The reading itself is `science.isotonic`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum

import numpy as np

from modescape.claims.claim import MIN_EXAMPLES_ACCURACY, MIN_UNITS, Asked
from modescape.claims.combining import apart, closed, closed_gate, judged
from modescape.claims.evidence import Evidence, MethodEvidence
from modescape.claims.record import MethodRecord
from modescape.science import isotonic
from modescape.science.confidence import Runs, Word, estimate, log_of_ratio
from modescape.science.isotonic import COST, EqualAccuracy, Samples, Sums, read_redraws


class ReadOff(StrEnum):
    """What is read at equal accuracy."""

    DISTANCE = "samples"  # their disagreement with their own solution
    AMONG = "two samples of a run"  # with each other


SHARES = (  # parts of the records of both
    "independent runs", *(f"{what} at equal accuracy" for what in ReadOff), "its lower end", "its upper end",
    "of which the centre's own distance", "accuracy of the runs", "accuracy of the method's last iterates",
)  # fmt: skip


def with_redraws(evidence: Evidence, check: Callable[[], None]) -> Evidence:
    """The evidence with what is read from redraws of the examples, where the gates are open."""
    if evidence.partial:
        fewer_runs = tuple(with_redraws(part, check) for part in evidence.partial)
        return replace(with_redraws(replace(evidence, partial=()), check), partial=fewer_runs)
    methods, across = of_all_strengths(evidence), apart(evidence.finals)
    gate = closed_gate(evidence, across.mean(np.arange(evidence.units)), MIN_EXAMPLES_ACCURACY)
    if gate or not methods or across.rows is None:
        return evidence
    samples = {method.name: _samples(evidence, method) for method in methods}
    draws, fewer = isotonic.REDRAWS, isotonic.FEWER if evidence.units > MIN_UNITS else 0
    redrawn = read_redraws(across.rows, samples, seed=evidence.seed, draws=draws, fewer=min(fewer, draws), check=check)
    return replace(evidence, redrawn=redrawn)


def of_all_strengths(evidence: Evidence) -> list[MethodEvidence]:
    return [method for method in evidence.methods if any(len(samples) for samples in method.wide)]


def at_equal_accuracy(evidence: Evidence, method: MethodEvidence) -> EqualAccuracy:
    """What one method reaches around all these runs at the strength where it costs one point of accuracy."""
    return _samples(evidence, method).sums().point()


def _samples(evidence: Evidence, method: MethodEvidence) -> Samples:
    return Samples(
        evidence.finals, evidence.truth, method.wide, method.strengths, method.centre, are_rates=method.are_rates,
        reference=None if method.last is None else evidence.reference(method),
    )  # fmt: skip


def reaches(asked: Asked, what: ReadOff, evidence: Evidence, method: MethodEvidence) -> MethodRecord:
    """ln of the disagreement of runs over what one method reaches."""
    assert evidence.redrawn is not None  # the gate is open
    own, across, everyone = evidence.redrawn.methods[method.name], apart(evidence.finals), np.arange(evidence.units)
    data, top, n = own.sums.point(), evidence.redrawn.between.whole, evidence.units
    is_distance = what is ReadOff.DISTANCE
    value, redrawn = (data.distance, own.distance) if is_distance else (data.among, own.among)

    def reached(runs: Runs, cost: float = COST) -> float:
        found = own.sums.read(runs, cost=cost)
        return float((found.distance if is_distance else found.among)[0])

    def ratio(runs: Runs, cost: float = COST) -> float:
        return log_of_ratio(across.mean(runs), reached(runs, cost))

    level = estimate(reached, n, margin=0.0, redrawn=redrawn.whole)
    numbers = {
        "independent runs": across.mean(everyone),
        f"{what} at equal accuracy": value,
        "its lower end": max(level.low, 0.0),
        "its upper end": level.high,
        **({"of which the centre's own distance": data.centre} if is_distance and method.centre is not None else {}),
        "strength there": data.strength,
        "samples below": float(data.below),
        "samples beyond": float(data.beyond),
    }
    if method.last is not None:
        numbers |= {
            "accuracy of the runs": float((evidence.finals == evidence.truth).mean()),
            "accuracy of the method's last iterates": float((method.last.labels == evidence.truth).mean()),
            "runs whose last iterate is the reference": float(method.last.better.sum()),
        }
    gate = _support_gate(method, own.sums, data)
    if gate:
        return closed(method, gate, numbers)
    with np.errstate(divide="ignore", invalid="ignore"):
        draws = np.where((top > 0) & (redrawn.whole > 0), np.log(top) - np.log(redrawn.whole), np.nan)
    found = estimate(ratio, n, margin=asked.margin, redrawn=draws)
    for cost in (COST / 2, 2 * COST):
        numbers[f"ratio at {100 * cost:g} points"] = math.exp(min(ratio(everyone, cost), 700.0))
    if data.support == "range too short" and found.word is not Word.DOES_NOT_HOLD:
        gate = (
            f"even the strongest sample (at {data.strength:.3g}) costs less than {100 * COST:g} point: "
            + ("ask for wide samples (spread)" if method.stands_in else "draw stronger ones (spread_max)")
            if method.strengths is not None
            else "the method has no strength, so it may reach more than it shows: only `does not hold` could be told"
        )
        return closed(method, gate, numbers, found)
    return judged(asked.claim, method, found, numbers)


def _support_gate(method: MethodEvidence, sums: Sums, data: EqualAccuracy) -> str:
    """Why nothing can be read at equal accuracy, and what would change that; "" when it can."""
    if data.support == "no common support":
        start = float((sums.loss if method.strengths is None else sums.start_loss)[:, 0].mean())
        return (
            f"never as accurate as the runs: it costs {100 * start:.1f} points before it differs at all; snapshots "
            "from a later or longer window (training.snapshot_window, epochs) would start nearer"
        )
    if data.support == "too few samples":
        return (
            f"{data.below} samples cost less than {100 * COST:g} point and {data.beyond} more, at least 5 and 3 are "
            f"needed: draw strengths between 0 and {2 * data.strength:.3g}, or more spread samples"
        )
    return ""
