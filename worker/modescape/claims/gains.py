"""What claims (e1) and (e2) share: the Brier score that averaging a run's samples gains, beside that of an ensemble of
four runs (`Members.ensemble_gain`, which exists from three runs on), and what each costs (science o.9)."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TypeVar

import numpy as np

from modescape.claims.claim import MIN_SAMPLES, Asked
from modescape.claims.combining import closed, judged, too_few_samples
from modescape.claims.evidence import MEMBERS, SHARE, Evidence, Members, MethodEvidence
from modescape.claims.record import MethodRecord
from modescape.science.confidence import Floats, Runs, estimate, share_without

N = TypeVar("N", float, Floats)


class Gained(StrEnum):
    """What is compared with the gain of an ensemble."""

    ALONE = "alone"  # what averaging a run's samples gains
    TOGETHER = "together"  # what both gain, beyond the ensemble


def gain(asked: Asked, what: Gained, evidence: Evidence, method: MethodEvidence) -> MethodRecord:
    finals, own = evidence.members, method.members
    if method.fewest < MIN_SAMPLES or own is None or finals is None:
        return closed(method, too_few_samples(method))
    before = finals.brier if method.last is None else method.last.reference(finals.brier)
    alone, n = before.less(own.brier), evidence.units
    accuracy = float((evidence.reference(method) == evidence.truth).mean())

    def top(gained: N, of_samples: N, of_finals: N) -> N:
        """What is compared with the ensemble's gain, as numbers or example by example."""
        return gained if what is Gained.ALONE else gained + of_samples - of_finals

    def relative(runs: Runs) -> float:
        ensemble = finals.ensemble_gain(runs)
        gained = top(alone.mean(runs), own.ensemble_gain(runs), ensemble)
        return float(gained / ensemble) if ensemble > 0 else math.nan

    of_samples, of_finals = SHARE * own.gaps.examples, SHARE * finals.gaps.examples
    found = estimate(
        relative,
        n,
        margin=asked.margin,
        influence=_ratio_influence(top(alone.examples, of_samples, of_finals), of_finals),
        undefined=share_without(of_finals),
        above=what is Gained.TOGETHER,
    )
    everyone = np.arange(n)
    gained, ensemble = alone.mean(everyone), finals.ensemble_gain(everyone)
    numbers = {
        "Brier gain of averaging a run's samples": gained,
        f"of an ensemble of {MEMBERS}": ensemble,
        "of both": gained + own.ensemble_gain(everyone),
        "samples averaged": float(method.averaged),
        "accuracy gain of averaging a run's samples": own.accuracy - accuracy,
        f"accuracy gain of an ensemble of {min(MEMBERS, n)}": finals.together - finals.accuracy,
        "accuracy gain of both": own.together - accuracy,
        **_behind(method, finals, own),
    }
    return judged(asked.claim, method, found, numbers)


def _behind(method: MethodEvidence, finals: Members, own: Members) -> dict[str, float]:
    """Which strength the averaged samples have, what they cost, and what they gain over each reference."""
    found: dict[str, float] = {}
    if method.strength is not None:
        found["strength of the samples"] = method.strength
    if method.cost is not None:
        found |= {
            "training, in runs": method.cost.training,
            "forward passes": float(method.cost.passes),
            f"training of an ensemble of {MEMBERS}": float(MEMBERS),
            f"forward passes of an ensemble of {MEMBERS}": float(MEMBERS),
        }
    if method.last is not None and method.last.brier is not None:
        averaged = float(own.brier.values.mean())
        found |= {
            "Brier gain over the runs": float(finals.brier.values.mean()) - averaged,
            "Brier gain over the method's last iterates": float(method.last.brier.values.mean()) - averaged,
            "runs whose last iterate is the reference": float(method.last.better.sum()),
        }
    return found


def _ratio_influence(top: Floats, bottom: Floats) -> Floats:
    """Of every example on mean(top) / mean(bottom)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((top - top.mean() / bottom.mean() * bottom) / bottom.mean())
