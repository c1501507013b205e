"""(z) Runs err on different images. A module of its own: claims are in the keys of stages of every experiment."""

from dataclasses import replace

import numpy as np

from modescape.claims.claim import Claim, DecidedBy, Margin
from modescape.claims.combining import answer, apart, closed_gate
from modescape.claims.evidence import Evidence
from modescape.science.confidence import OverRuns, log_ratio


@Claim(
    letter="z", title="Runs err on different images", estimand="disagreement of two runs / error rate of one",
    paper="Fig 3",
    margin=Margin(field="z", default=0.5, gt=0, le=10, says="Runs disagree at least this many times as often as err."),
    ratio=True, evidence=Evidence, figures=("plane", "their-accuracies"),
    decided_by=DecidedBy(words="three or more runs", add="runs", stages=("compare",), runs=3),
)  # fmt: skip
def elsewhere(asked, evidence):
    base, across, wrong = asked.record(evidence), apart(evidence.finals), OverRuns.of(evidence.finals != evidence.truth)
    gate = closed_gate(evidence, across.mean(np.arange(evidence.units)), asked.claim.examples)
    if gate:
        return replace(base, because=gate)
    return answer(asked, base, log_ratio(across, wrong, evidence.units, margin=asked.margin), {})
