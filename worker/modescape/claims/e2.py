"""(e2) Ensembling and subspace sampling add up: for some method kappa = G_both(4) / G_ens(4) - 1 above 0.05, what
averaging the samples inside each run adds to an ensemble of four."""

from __future__ import annotations

from functools import partial

from modescape.claims.claim import MIN_EXAMPLES_ACCURACY, SAMPLES, Asked, Claim, Joins, Margin, Reads, short
from modescape.claims.combining import over_methods, sampled
from modescape.claims.evidence import MEMBERS, Evidence
from modescape.claims.gains import Gained, gain
from modescape.claims.record import ClaimRecord


def _left_open(margin: float, half_width: float) -> str:
    return f"gains of less than {short(100 * (margin + half_width))} % more stay open"


@Claim(
    letter="e2",
    title="Ensembling and subspace sampling add up",
    estimand=f"Brier gain of an ensemble of {MEMBERS} of averaged samples / of {MEMBERS} runs, minus 1",
    paper="Fig 8",
    margin=Margin(default=0.05, ge=-1, le=100, says="Both gain at least this share more than an ensemble alone."),
    unit="of the ensemble’s gain",
    evidence=Evidence,
    joins=Joins.SOME,
    reads=Reads.NARROW,
    examples=MIN_EXAMPLES_ACCURACY,
    left_open=_left_open,
    figures=("ensembles", "plane"),
    decided_by=SAMPLES,
)
def add_up(asked: Asked, evidence: Evidence) -> ClaimRecord | None:
    if evidence.members is None:
        return None
    return over_methods(asked, evidence, sampled, partial(gain, asked, Gained.TOGETHER))
