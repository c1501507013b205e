"""(h) Cycles of one SG-MCMC chain are less diverse than independent chains: ln(D_ind / D_cyc), last samples of cycles
c < c' of two chains, both orders, and of one chain (science h.3).

Training length and accuracy are equal by construction. Beside it, without a word, the same against separately trained
runs, whose own variation then counts too.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from modescape.claims.claim import MIN_UNITS, Asked, Claim, DecidedBy, Margin
from modescape.claims.combining import answer, apart, closed_gate, too_few
from modescape.claims.evidence import ChainEvidence
from modescape.claims.record import ClaimRecord
from modescape.science.confidence import (
    LEVEL,
    Floats,
    OverPairs,
    OverRuns,
    Word,
    jackknife,
    log_of_ratio,
    log_ratio,
    log_ratio_influence,
    t_quantile,
    variance_of_examples,
)


@Claim(
    letter="h",
    title="Cycles of one SG-MCMC chain are less diverse than independent chains",
    estimand="disagreement across chains / between cycles of one chain",
    paper="Fig S5",
    margin=Margin(default=1.1, gt=0, le=100, says="Chains differ at least this many times as much as cycles."),
    ratio=True,
    evidence=ChainEvidence,
    shares=("across chains", "between cycles of a chain", "across separately trained runs"),
    figures=("cycles", "plane"),
    decided_by=DecidedBy(words="the method cyclical SG-MCMC", add="sgmcmc", stages=("chain",), runs=MIN_UNITS),
)
def cycles_alike(asked: Asked, evidence: ChainEvidence) -> ClaimRecord | None:
    base = asked.record(evidence)
    chains, cycles = evidence.labels.shape[:2]
    if cycles < 2:
        return replace(base, because="a chain has one cycle: at least 2 are needed (the method's cycles)")
    if chains < MIN_UNITS:  # or none at all, where every one failed
        return replace(base, because=too_few(evidence))
    first, second = np.triu_indices(cycles, 1)

    def between(k: int, m: int) -> Floats:
        """Of the earlier cycles of one chain and the later ones of another, example by example [N]."""
        return np.asarray((evidence.labels[k][first] != evidence.labels[m][second]).mean(axis=0))

    others = OverPairs.of(chains, lambda k, m: (between(k, m) + between(m, k)) / 2, evidence.examples)
    own = OverRuns.of(np.stack([between(k, k) for k in range(chains)]))
    everyone = np.arange(chains)
    gate = closed_gate(evidence, others.mean(everyone), asked.claim.examples)
    if gate:
        return replace(base, because=gate)
    numbers = {"across chains": others.mean(everyone), "between cycles of a chain": own.mean(everyone)}
    if evidence.finals is not None and len(evidence.finals) >= MIN_UNITS:
        numbers |= _against_runs(apart(evidence.finals), own, len(evidence.finals), chains)
    record = answer(asked, base, log_ratio(others, own, chains, margin=asked.margin), numbers)
    return replace(record, qualifier="; ".join(filter(None, (record.qualifier, _beside_runs(record)))))


def _beside_runs(record: ClaimRecord) -> str:
    """What separately trained runs say where their whole interval lies beyond the margin from the claim's word."""
    low, high = (record.parts.get(f"its {end} end") for end in ("lower", "upper"))
    if low is None or high is None:
        return ""
    limit = math.exp(record.margin)
    if not ((record.word is Word.HOLDS and high < limit) or (record.word is Word.DOES_NOT_HOLD and low > limit)):
        return ""
    ratio = record.parts["ratio to those runs"]
    return f"but separately trained runs differ {ratio:.2f} times as much as cycles ({low:.2f} to {high:.2f})"


def _against_runs(runs_apart: OverPairs, cycles: OverRuns, runs: int, chains: int) -> dict[str, float]:
    """ln(D of separate runs / D_cyc) with its interval: both kinds of unit vary, and the examples (science o.4)."""
    fixed, of_chains = runs_apart.mean(np.arange(runs)), cycles.mean(np.arange(chains))
    value = log_of_ratio(fixed, of_chains)
    variance = (
        jackknife(lambda kept: log_of_ratio(fixed, cycles.mean(kept)), chains)
        + jackknife(lambda kept: log_of_ratio(runs_apart.mean(kept), of_chains), runs)
        + variance_of_examples(log_ratio_influence(runs_apart.examples, cycles.examples))
    )
    half = t_quantile(1 - LEVEL, min(chains, runs) - 1) * math.sqrt(variance) if math.isfinite(variance) else math.nan
    return {
        "across separately trained runs": fixed,
        "ratio to those runs": math.exp(value),
        "its lower end": math.exp(value - half),
        "its upper end": math.exp(value + half),
    }
