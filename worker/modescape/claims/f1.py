"""(f1) Jensen-Shannon divergence is largest between runs: for every method ln(J_b / J_q), divergence of two runs, and
of two samples of one run."""

from __future__ import annotations

import numpy as np

from modescape.claims.claim import (
    MIN_EXAMPLES_ACCURACY,
    MIN_SAMPLES,
    SAMPLES,
    Asked,
    Claim,
    Joins,
    Margin,
    Reads,
)
from modescape.claims.combining import closed, judged, over_methods, sampled, too_few_samples
from modescape.claims.evidence import Evidence, MethodEvidence
from modescape.claims.record import ClaimRecord, MethodRecord
from modescape.science.confidence import OverPairs, OverRuns, log_ratio

ALIKE = (
    "averaging its samples is best at strength 0, where all samples of a run are one function: there is no divergence "
    "to compare (evaluation.averaged: typical compares its narrow samples)"
)


@Claim(
    letter="f1",
    title="Jensen-Shannon divergence is largest between independent runs",
    estimand="JS between two runs / between two samples of one run",
    paper="Fig 9",
    margin=Margin(default=1.25, gt=0, le=100, says="Divergence between runs is at least this many times larger."),
    ratio=True,
    evidence=Evidence,
    joins=Joins.EVERY,
    reads=Reads.NARROW,
    examples=MIN_EXAMPLES_ACCURACY,
    figures=("shift", "ood", "plane"),
    shown_by={"plane": "distance=js"},
    decided_by=SAMPLES,
)
def largest_divergence(asked: Asked, evidence: Evidence) -> ClaimRecord | None:
    if evidence.js is None:
        return None

    def found(part: Evidence, method: MethodEvidence) -> MethodRecord:
        if method.strength == 0:
            return closed(method, ALIKE)
        if method.fewest < MIN_SAMPLES or method.js is None or part.js is None:
            return closed(method, too_few_samples(method))
        return js_ratio(asked.claim, method, part.js, method.js, margin=asked.margin)

    return over_methods(asked, evidence, sampled, found)


def js_ratio(
    claim: Claim[Evidence], method: MethodEvidence, across: OverPairs, within: OverRuns, *, margin: float
) -> MethodRecord:
    """ln(J_b / J_q) of one method, judged as (f1) is."""
    everyone = np.arange(len(within.values))
    numbers = {
        "between two runs (nats)": across.mean(everyone),
        "between two samples of a run (nats)": within.mean(everyone),
    }
    return judged(claim, method, log_ratio(across, within, len(everyone), margin=margin), numbers)
