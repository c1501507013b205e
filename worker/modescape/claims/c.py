"""(c) Subspace samples stay near their own run: for every method ln(O_q / S_q), disagreement of a sample with the other
runs' finals, and with its own.

Only samples within 0.05 of their run's accuracy count, at least 3 of them in every run.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from modescape.claims.claim import MIN_SAMPLES, SAMPLES, Asked, Claim, Joins, Margin, Reads
from modescape.claims.combining import closed, judged, over_methods, sampled
from modescape.claims.evidence import Evidence, Labels, MethodEvidence
from modescape.claims.record import ClaimRecord, MethodRecord
from modescape.science.confidence import OverPairs, OverRuns, log_ratio
from modescape.science.isotonic import ROUNDING

NEAR = 0.05  # of accuracy, which samples that count lose at most


@Claim(
    letter="c",
    title="Subspace samples stay near their own run",
    estimand="a sample's disagreement with other runs / with its own",
    paper="Fig 4",
    margin=Margin(default=1.25, gt=0, le=100, says="Samples are at least this many times nearer to their own run."),
    ratio=True,
    evidence=Evidence,
    joins=Joins.EVERY,
    reads=Reads.NARROW,
    shares=("from other runs", "from its own run", "share nearest to its own run"),
    figures=("tsne-samples",),
    decided_by=SAMPLES,
)
def stay_near(asked: Asked, evidence: Evidence) -> ClaimRecord | None:
    return over_methods(asked, evidence, sampled, partial(_stays, asked))


def _stays(asked: Asked, evidence: Evidence, method: MethodEvidence) -> MethodRecord:
    accuracies = (evidence.finals == evidence.truth).mean(axis=1)
    usable = [
        samples[(samples == evidence.truth).mean(axis=1) >= accuracy - NEAR - ROUNDING]
        for samples, accuracy in zip(method.near, accuracies, strict=True)
    ]
    fewest = min(len(samples) for samples in usable)
    if fewest < MIN_SAMPLES:
        return closed(
            method,
            f"a run has {fewest} sample{'s' * (fewest != 1)} within {100 * NEAR:g} points of its accuracy, "
            f"{MIN_SAMPLES} are needed: use smaller strengths, or more typical samples",
        )
    # of every run's samples, the mean over them of their disagreement with each final: [n, n, N]
    gaps = np.stack([_cross(samples, evidence.finals).mean(axis=0, dtype=np.float32) for samples in usable])
    own_is_nearest = [
        _cross(samples, evidence.finals).mean(axis=2).argmin(axis=1) == i for i, samples in enumerate(usable)
    ]
    n = evidence.units
    own = OverRuns.of(gaps[np.arange(n), np.arange(n)])
    others = OverPairs.of(n, lambda i, j: (gaps[i, j] + gaps[j, i]) / 2, evidence.examples)
    found = log_ratio(others, own, n, margin=asked.margin)
    numbers = {
        "from other runs": others.mean(np.arange(n)),
        "from its own run": own.mean(np.arange(n)),
        "share nearest to its own run": float(np.mean([hits.mean() for hits in own_is_nearest])),
        "fewest usable samples in a run": float(fewest),
    }
    return judged(asked.claim, method, found, numbers)


def _cross(samples: Labels, finals: Labels) -> NDArray[np.bool_]:
    """Where samples [S, N] differ from finals [n, N]: [S, n, N]."""
    return np.asarray(samples[:, None] != finals[None])
