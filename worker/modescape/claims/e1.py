"""(e1) Ensembling gains more than averaging samples: for every method rho = G_q / G_ens(4) below 0.9, in Brier score.
Averaging that loses is below, too."""

from __future__ import annotations

from dataclasses import replace

from modescape.claims.claim import MIN_EXAMPLES_ACCURACY, SAMPLES, Asked, Claim, Joins, Margin, Reads, Side, short
from modescape.claims.combining import over_methods, sampled
from modescape.claims.evidence import MEMBERS, Evidence, MethodEvidence
from modescape.claims.gains import Gained, gain
from modescape.claims.record import ClaimRecord, MethodRecord


def _left_open(margin: float, half_width: float) -> str:
    return f"shares above {short(max(margin - half_width, 0.0))} stay open"


@Claim(
    letter="e1",
    title="Ensembling gains more than averaging subspace samples",
    estimand=f"Brier gain of averaging a run's samples / of an ensemble of {MEMBERS}",
    paper="Fig 8",
    margin=Margin(default=0.9, gt=0, le=100, says="Averaging samples gains at most this share of an ensemble's gain."),
    unit="of the ensemble’s gain",
    side=Side.BELOW,
    evidence=Evidence,
    joins=Joins.EVERY,
    reads=Reads.NARROW,
    examples=MIN_EXAMPLES_ACCURACY,
    left_open=_left_open,
    figures=("ensembles", "plane"),
    decided_by=SAMPLES,
)
def gains_more(asked: Asked, evidence: Evidence) -> ClaimRecord | None:
    if evidence.members is None:
        return None

    def alone(part: Evidence, method: MethodEvidence) -> MethodRecord:
        found = gain(asked, Gained.ALONE, part, method)
        if method.strength != 0 or found.gate:
            return found
        whose = "" if method.centre is None else "; what remains is the gain of the mean they are drawn around"
        return replace(found, because=f"averaging its samples gains nothing: strength 0 predicts best{whose}")

    return over_methods(asked, evidence, sampled, alone)
