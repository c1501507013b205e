"""(d2) At equal accuracy runs are more diverse than a method's samples: for every method ln(D_b / P_q), disagreement of
finals, and of two samples of one run at the strength where they cost one point of accuracy (science o.5), which is what
averaging them uses. The margin is (d1)'s."""

from __future__ import annotations

from functools import partial

from modescape.claims.claim import MIN_EXAMPLES_ACCURACY, SAMPLES, Asked, Claim, Joins, Reads
from modescape.claims.combining import over_methods
from modescape.claims.d1 import MARGIN
from modescape.claims.equal_accuracy import SHARES, ReadOff, of_all_strengths, reaches, with_redraws
from modescape.claims.evidence import Evidence
from modescape.claims.record import ClaimRecord
from modescape.science.isotonic import COST


@Claim(
    letter="d2",
    title="At equal accuracy independent runs are more diverse than the samples of any subspace method",
    estimand=f"disagreement of runs / of two samples of one run that cost {100 * COST:g} point of accuracy",
    paper="beside Fig 6",
    margin=MARGIN,
    ratio=True,
    evidence=Evidence,
    joins=Joins.EVERY,
    reads=Reads.WIDE,
    examples=MIN_EXAMPLES_ACCURACY,
    prepare=with_redraws,
    shares=SHARES,
    figures=("plane",),
    decided_by=SAMPLES,
)
def more_diverse(asked: Asked, evidence: Evidence) -> ClaimRecord | None:
    return over_methods(asked, evidence, of_all_strengths, partial(reaches, asked, ReadOff.AMONG))
