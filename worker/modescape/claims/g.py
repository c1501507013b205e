"""(g) Initial weights matter more than the order of batches: ln(sum_r d(A_r, B_r) / sum_r d(A_r, C_r)) over
repetitions, the units (science g.2)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from modescape.claims.claim import Asked, Claim, DecidedBy, Margin
from modescape.claims.combining import answer, closed_gate
from modescape.claims.evidence import SeedsEvidence
from modescape.claims.record import ClaimRecord
from modescape.science.confidence import OverRuns, log_ratio

_TITLES = {"B": "other initial weights", "C": "other batches", "D": "both others"}


@Claim(
    letter="g",
    title="Initial weights matter more than the order of batches",
    estimand="disagreement after other initial weights / after other batches",
    paper="Fig S4",
    margin=Margin(
        default=1.1,
        gt=0,
        le=100,
        says="Initial weights matter at least this many times as much as batches.",
    ),
    ratio=True,
    evidence=SeedsEvidence,
    shares=tuple(_TITLES.values()),
    figures=("seeds",),
    decided_by=DecidedBy(words="the study of seeds", add="seeds", stages=("seeds",)),
)
def weights_matter_more(asked: Asked, evidence: SeedsEvidence) -> ClaimRecord | None:
    n, base = evidence.units, asked.record(evidence)
    base = replace(base, estimand=f"{base.estimand}, at learning rate {evidence.learning_rate:g}")
    apart = {name: OverRuns.of(evidence.arms["A"] != labels) for name, labels in evidence.arms.items() if name != "A"}
    everyone = np.arange(n)
    mean = (apart["B"].mean(everyone) + apart["C"].mean(everyone)) / 2
    gate = closed_gate(evidence, mean, asked.claim.examples)
    if gate:
        return replace(base, because=gate)
    numbers = {title: apart[name].mean(everyone) for name, title in _TITLES.items() if name in apart}
    return answer(asked, base, log_ratio(apart["B"], apart["C"], n, margin=asked.margin), numbers)
