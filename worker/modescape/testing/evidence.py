"""Evidence made to order, for whoever tries a claim: functions of runs, repetitions and chains that differ as asked.

made_runs(own=0.1)          # runs that are almost one function
made_shift(3.0)             # divergences between runs that grow three times under shift
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray

from modescape.claims.evidence import (
    ChainEvidence,
    Evidence,
    Function,
    Members,
    MethodEvidence,
    SeedsEvidence,
    ShiftEvidence,
    Units,
    divergence,
    mean_divergence,
)
from modescape.science.confidence import OverRuns

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

RUNS, CLASSES = 5, 4
EXAMPLES = 1200
MANY, SAMPLES = 2000, 8  # examples and samples a run of `made_runs`


def softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def functions_of(probabilities: Iterable[Floats]) -> list[Function]:
    return [lambda part, p=p: p[part] for p in probabilities]  # type: ignore[misc]


def flipped(rng: np.random.Generator, labels: Labels, rate: float) -> Labels:
    other = (labels + rng.integers(1, CLASSES, labels.shape)) % CLASSES
    return np.where(rng.random(labels.shape) < rate, other, labels)


@cache
def made_runs(
    *, own: float = 1.0, noise: float = 0.6, around: float = 0.0, late: float = 0.2, cosine: float = 0.01
) -> Evidence:
    """Runs that differ by `own` and, each time anew, by `noise`; samples share their run's own and have new noise, or,
    with `around`, they are their run's final with that much noise added. late: noise of recent checkpoints."""
    rng = np.random.default_rng(3)
    truth = rng.integers(CLASSES, size=MANY)
    shape = (MANY, CLASSES)
    shared = 2.5 * np.eye(CLASSES)[truth] + 0.8 * rng.normal(size=shape)
    runs = shared + own * rng.normal(size=(RUNS, *shape))
    finals = runs + noise * rng.normal(size=(RUNS, *shape))
    fresh = rng.normal(size=(RUNS, SAMPLES, *shape))
    p = softmax(finals[:, None] + around * fresh if around else runs[:, None] + noise * fresh)
    strengths = np.linspace(0.05, 1.2, 16)
    wide = finals[:, None] + strengths[:, None, None] * rng.normal(size=(RUNS, len(strengths), *shape))
    cosines = np.full((RUNS, RUNS), cosine) + 0.005 * rng.normal(size=(RUNS, RUNS))
    method = MethodEvidence(
        "made",
        "Made",
        near=list(p.argmax(axis=-1)),
        wide=list(wide.argmax(axis=-1)),
        strengths=[strengths] * RUNS,
        averaged=SAMPLES,
        members=Members.of(functions_of(p.mean(axis=1)), truth),
        js=OverRuns.of(np.stack([mean_divergence(functions_of(one), MANY) for one in p])),
    )
    windows = finals[:, None] + late * rng.normal(size=(RUNS, 4, *shape))
    return Evidence(
        CLASSES,
        truth,
        finals.argmax(axis=-1),
        cosine=(cosines + cosines.T) / 2,
        windows=list(windows.argmax(axis=-1)),
        methods=(method,),
        members=Members.of(functions_of(softmax(finals)), truth),
        js=divergence(functions_of(softmax(finals)), MANY),
    )


def alike() -> Evidence:
    """Runs that are almost one function, and samples far from it."""
    return made_runs(own=0.15, noise=0.0, around=0.5, late=0.5, cosine=0.5)


def made_shift(lead: float = 2.0, *, within: float = 0.02, seed: int = 0) -> ShiftEvidence:
    """Divergences between runs that grow `lead` times under shift, those within runs 1.5 times."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(CLASSES, size=EXAMPLES)
    finals = np.where(rng.random((RUNS, EXAMPLES)) < 0.2, (truth + 1) % CLASSES, truth)
    between = rng.gamma(2.0, 0.05, (RUNS, RUNS, EXAMPLES))
    between = (between + between.transpose(1, 0, 2)) / 2
    own = rng.gamma(2.0, within / 2, (RUNS, EXAMPLES))
    return ShiftEvidence(
        CLASSES, truth, finals, between, lead * between, {"random": own}, {"random": 1.5 * own}, {"random": "Random"}
    )


def made_seeds(repetitions: int = 4, *, init: float = 0.3, batches: float = 0.1, seed: int = 0) -> SeedsEvidence:
    rng = np.random.default_rng(seed)
    truth = rng.integers(CLASSES, size=EXAMPLES)
    base = np.stack([flipped(rng, truth, 0.1) for _ in range(repetitions)])
    arms = {"A": base, "B": flipped(rng, base, init), "C": flipped(rng, base, batches), "D": flipped(rng, base, 0.35)}
    return SeedsEvidence(CLASSES, truth, arms, 0.001)


def made_chains(chains: int = 4, cycles: int = 3, *, own: float = 0.05, seed: int = 0) -> ChainEvidence:
    """Cycles are their chain's function with some labels changed."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(CLASSES, size=EXAMPLES)
    centres = [flipped(rng, truth, 0.2) for _ in range(chains)]
    labels = np.stack([[flipped(rng, centre, own) for _ in range(cycles)] for centre in centres])
    finals = np.stack([flipped(rng, truth, 0.2) for _ in range(3)])
    return ChainEvidence(CLASSES, truth, labels, finals)


# Kind of evidence -> some on which claims of it are judged.
EVIDENCE: Mapping[type[Units], tuple[Callable[[], Units], ...]] = {
    Evidence: (made_runs, alike),
    ShiftEvidence: (lambda: made_shift(3.0), lambda: made_shift(0.9)),
    SeedsEvidence: (made_seeds, lambda: made_seeds(init=0.1, batches=0.3)),
    ChainEvidence: (made_chains, lambda: made_chains(own=0.6)),
}
