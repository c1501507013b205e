"""(a) Independent optima are orthogonal: the mean cosine over pairs lies inside (-0.1, 0.1).

An equivalence: whether the mean differs from 0 at all is not the question.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from modescape.claims.claim import MIN_UNITS, Asked, Claim, DecidedBy, Margin, Side, short
from modescape.claims.combining import known, too_few
from modescape.claims.evidence import BY_SHAPE, Evidence
from modescape.claims.record import ClaimRecord
from modescape.science.confidence import Runs, Word, estimate, pairs


def _left_open(margin: float, half_width: float) -> str:
    if half_width >= margin:
        return f"stays open: the interval is wider than ±{short(margin)}"
    return f"mean cosines beyond ±{short(margin - half_width)} stay open"


@Claim(
    letter="a",
    title="Independent optima are orthogonal",
    estimand="mean cosine over pairs of runs",
    paper="Fig 2 and 3",
    margin=Margin(default=0.1, gt=0, le=1, says="Optima are orthogonal: the mean cosine lies within ± this."),
    unit="cosine",
    side=Side.WITHIN,
    evidence=Evidence,
    examples=0,
    left_open=_left_open,
    figures=("similarity-runs",),
    decided_by=DecidedBy(
        words="two or more runs",
        add="runs",
        stages=("compare",),
        runs=MIN_UNITS,
        brought="the weights of every member",
    ),
)
def orthogonal(asked: Asked, evidence: Evidence) -> ClaimRecord | None:
    if evidence.cosine is None:
        return None
    cosines, n, margin = np.asarray(evidence.cosine, np.float64), evidence.units, asked.margin
    base = replace(asked.record(evidence), N=0)
    if evidence.reduction:
        base = replace(base, estimand=f"{base.estimand}, {evidence.reduction}")
    if evidence.reduction.startswith(BY_SHAPE):  # not the number that a training here has
        base = replace(base, qualifier=f"{BY_SHAPE} alone")
    if n < MIN_UNITS:
        return replace(base, because=too_few(evidence))

    def mean_cosine(runs: Runs) -> float:
        return float(cosines[pairs(runs)].mean())

    above = estimate(mean_cosine, n, margin=margin)
    below = estimate(mean_cosine, n, margin=-margin)
    numbers = {"largest |cosine|": float(np.abs(cosines[pairs(np.arange(n))]).max())}
    if evidence.plain_cosine is not None:
        numbers["of all weights as they are"] = float(evidence.plain_cosine[pairs(np.arange(n))].mean())
    record = known(base, above, numbers)
    if not math.isfinite(above.error):
        return replace(
            record,
            because="a cosine is undefined: some weights are all zero or not finite, or files have no tensors of the "
            "same names or order, or their shapes differ; train those runs again, of one architecture",
        )
    p_holds, p_fails = max(above.p_fails, below.p_holds), min(above.p_holds, below.p_fails)
    record = replace(record, p=min(p_holds, p_fails))
    if -margin < above.low and above.high < margin:
        return replace(record, word=Word.HOLDS, because=f"the whole interval lies within ±{margin:g}")
    if above.low > margin or above.high < -margin:
        return replace(record, word=Word.DOES_NOT_HOLD, because=f"the whole interval lies outside ±{margin:g}")
    return replace(record, because=f"the interval crosses ±{margin:g}: more runs would narrow it")
