"""(f2) The more so under shift: for every method (J_b - J_q) under shift minus 1.1 (J_b - J_q) on clean images, above
0, where (f1) holds on these images. Linear, because the ratio form covers badly when a run has failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from modescape.claims.claim import (
    CLAIMS,
    MIN_EXAMPLES_ACCURACY,
    MIN_UNITS,
    Asked,
    Claim,
    DecidedBy,
    Joins,
    Margin,
    Reads,
    short,
)
from modescape.claims.combining import closed, judged, over_methods
from modescape.claims.evidence import MethodEvidence, ShiftEvidence
from modescape.claims.f1 import ALIKE, js_ratio
from modescape.claims.record import ClaimRecord, MethodRecord
from modescape.science.confidence import OverPairs, OverRuns, Runs, Word, estimate

TIMES = 1.1  # the lead between runs under shift is compared with this times that on clean images


def _left_open(margin: float, half_width: float) -> str:
    beyond = f", and by {short(margin)} nats" if margin else ""
    return f"a lead that shift makes less than {short(TIMES + half_width)} times as large{beyond} stays open"


@Claim(
    letter="f2",
    title="The more so under shift",
    estimand="JS between runs minus JS between samples, in nats: under shift, less 1.1 times that on clean images",
    paper="Fig 9",
    margin=Margin(
        default=0.0,
        ge=-10,
        le=10,
        says="Under shift its lead grows by at least this, beyond a tenth; nats.",
    ),
    unit="nats",
    evidence=ShiftEvidence,
    joins=Joins.EVERY,
    reads=Reads.NARROW,
    examples=MIN_EXAMPLES_ACCURACY,
    left_open=_left_open,
    figures=("shift",),
    decided_by=DecidedBy(
        words="the study of shift at intensities 1 to 5, and subspace samples around every run",
        add="shift",
        stages=("shift-compare",),
        runs=MIN_UNITS,
        brought="what the members, and samples around each, say of shifted images",
    ),
)
def more_under_shift(asked: Asked, evidence: ShiftEvidence) -> ClaimRecord | None:
    @cache
    def between(part: ShiftEvidence) -> tuple[OverPairs, list[OverPairs]]:
        """Of two of its runs, on clean images; then under shift, on every set of images."""
        tables = [part.clean_between, part.shifted_between, *(own.between for own in part.own.values())]
        clean, *shifted = (
            OverPairs.of(part.units, lambda i, j, values=values: values[i, j], values.shape[-1])  # type: ignore[misc]
            for values in tables
        )
        return clean, shifted

    def found(part: ShiftEvidence, method: MethodEvidence) -> MethodRecord:
        if method.name in part.alike:
            return closed(method, ALIKE)
        (clean, shifted), own = between(part), OverRuns.of(part.clean_within[method.name])
        alone = js_ratio(CLAIMS["f1"], method, clean, own, margin=asked.margins["f1"])
        if alone.word is not Word.HOLDS:
            why = f"asked only where (f1) holds, and on these clean images: {alone.because}"
            return closed(method, why, alone.parts)
        within = [part.shifted_within, *(one.within for one in part.own.values())]
        own_shifted = [OverRuns.of(one[method.name]) for one in within]
        return _contrast(asked, method, clean, own, shifted, own_shifted)

    record = over_methods(asked, evidence, lambda part: part.methods, found)
    if record is None or not evidence.over:
        return record
    return replace(record, because="; ".join(filter(None, (record.because, f"under shift: {evidence.over}"))))


def _contrast(
    asked: Asked,
    method: MethodEvidence,
    clean: OverPairs,
    own: OverRuns,
    shifted: Sequence[OverPairs],
    own_shifted: Sequence[OverRuns],
) -> MethodRecord:
    """shifted and own_shifted: on the test images changed, then on every set with images of its own. Those were drawn
    independently of the test images, so each adds a variance; the test images changed are the clean ones, and pair."""
    everyone = np.arange(len(own.values))
    apart = list(zip(shifted, own_shifted, strict=True))

    def under_shift(runs: Runs) -> float:
        return sum((across.mean(runs) - inside.mean(runs) for across, inside in apart), 0.0)

    def contrast(runs: Runs) -> float:
        return under_shift(runs) - TIMES * (clean.mean(runs) - own.mean(runs))

    changed, *others = (across.examples - inside.examples for across, inside in apart)
    influence = [changed - TIMES * (clean.examples - own.examples), *others]
    numbers = {
        "between runs minus within, under shift (nats)": under_shift(everyone),
        "the same on clean images (nats)": clean.mean(everyone) - own.mean(everyone),
    }
    found = estimate(contrast, len(everyone), margin=asked.margin, influence=influence)
    return judged(asked.claim, method, found, numbers)
