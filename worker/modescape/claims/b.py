"""(b) Functions are alike along one trajectory and different across runs: ln(D_b / D_w), disagreement of finals and of
the snapshots of one run's recent window."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from modescape.claims.claim import MIN_SAMPLES, Asked, Claim, DecidedBy, Margin
from modescape.claims.combining import answer, apart, closed_gate
from modescape.claims.evidence import Evidence
from modescape.claims.record import ClaimRecord
from modescape.science.confidence import OverRuns, log_ratio


@Claim(
    letter="b",
    title="Functions are alike along one trajectory, different across runs",
    estimand="disagreement across runs / within a run's recent snapshots",
    paper="Fig 2 and 3",
    margin=Margin(default=1.25, gt=0, le=100, says="Runs disagree at least this many times more than one trajectory."),
    ratio=True,
    evidence=Evidence,
    shares=("across runs", "two recent checkpoints of a run"),
    figures=("similarity-runs",),
    decided_by=DecidedBy(words="three or more recent checkpoints of every run", add="checkpoints", stages=("compare",)),
)
def alike_along(asked: Asked, evidence: Evidence) -> ClaimRecord | None:
    if not len(evidence.windows):
        return None
    n, base = evidence.units, asked.record(evidence)
    shortest = min(len(window) for window in evidence.windows)
    if shortest < MIN_SAMPLES:
        return replace(
            base,
            because=f"a run has {shortest} recent checkpoints, at least {MIN_SAMPLES} are needed: keep more "
            "(training.checkpoint_every) or train longer",
        )
    across, everyone = apart(evidence.finals), np.arange(n)
    gate = closed_gate(evidence, across.mean(everyone), asked.claim.examples)
    if gate:
        return replace(base, because=gate)
    within = OverRuns.of(np.stack([apart(window).examples for window in evidence.windows]))
    numbers = {"across runs": across.mean(everyone), "two recent checkpoints of a run": within.mean(everyone)}
    if evidence.rates is not None:  # a rate of almost 0 makes a window alike for free
        numbers |= {"learning rate at the window's start": evidence.rates[0], "at its end": evidence.rates[1]}
    return answer(asked, base, log_ratio(across, within, n, margin=asked.margin), numbers)
