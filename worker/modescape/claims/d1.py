"""(d1) At equal accuracy runs are farther apart than samples from their solution, which is the paper's Figure 6: for
every method ln(D_b / D_q), disagreement of finals, and of the method's samples with their own solution, at the strength
where they cost on average one point of accuracy (science o.5). A point given for free makes the claim harder."""

from __future__ import annotations

from functools import partial

from modescape.claims.claim import MIN_EXAMPLES_ACCURACY, SAMPLES, Asked, Claim, Joins, Margin, Reads
from modescape.claims.combining import over_methods
from modescape.claims.equal_accuracy import SHARES, ReadOff, of_all_strengths, reaches, with_redraws
from modescape.claims.evidence import Evidence
from modescape.claims.record import ClaimRecord
from modescape.science.isotonic import COST

MARGIN = Margin(
    field="d1",
    default=1.1,
    gt=0,
    le=100,
    says="Runs are at least this many times as diverse, at equal accuracy (d1 and d2).",
    was="d",
)


@Claim(
    letter="d1",
    title="At equal accuracy independent runs are farther apart than any subspace sample is from its solution",
    estimand=f"disagreement of runs / of a sample that costs {100 * COST:g} point of accuracy with its solution",
    paper="Fig 6",
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
def farther_apart(asked: Asked, evidence: Evidence) -> ClaimRecord | None:
    return over_methods(asked, evidence, of_all_strengths, partial(reaches, asked, ReadOff.DISTANCE))
