"""What do a number of runs, of test images and of samples leave open? Half-widths of every claim's interval, simulated.

    python benchmarks/power.py            # writes worker/modescape/power.json, which the launch form reads

The problems are made to order, with runs that differ a little ("even" in science o.7: their scales vary by 5 %). Each
image has logits that all runs share (how hard it is, and what it is taken for) and each run adds its own; a subspace
sample adds noise to its run's, more of it the stronger it is. Weights for (a) are vectors of 1,000 independent numbers:
real networks have more, but of unequal weight; five runs then give a half-width of .03, as five SmallCNNs on
Fashion-MNIST did (.034). The verdict itself judges what comes out, and the half-widths are averaged over replicates. In
(f2) they are in units of the lead on clean images. `told`: how often the claim's gates are open. Seeded: the same table
again, but for rounding. Takes half an hour on two cores.
"""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from modescape.claims.evidence import (
    ChainEvidence,
    Evidence,
    Function,
    Members,
    MethodEvidence,
    SeedsEvidence,
    ShiftEvidence,
    divergence,
    mean_divergence,
)
from modescape.claims.judging import judge
from modescape.claims.record import ClaimRecord
from modescape.power import TABLE
from modescape.science.confidence import OverRuns
from modescape.science.predictions import entropy, softmax

CLASSES = 5
RUNS, IMAGES, SAMPLES = (3, 4, 5, 10), (1000, 2000, 4000, 10_000), (5, 10, 20)
REPLICATES = 16  # half as many from 4 runs on, where half-widths vary less
# Accuracy .82, disagreement of two runs .16, of late checkpoints .05: near the real check of science o.7.
SIGNAL, SHARED, OWN, LATE = 2.9, 1.2, 0.68, 0.2
UNEVEN = 0.05
WEIGHTS = 1000

Logits = NDArray[np.float64]
Strengths = Literal["graded", "uniform"]


def world(rng: np.random.Generator, runs: int, images: int) -> tuple[NDArray[np.intp], Logits, Logits]:
    """True labels [N], what all runs share [N, K], and the logits of each run [n, N, K]."""
    truth = rng.integers(CLASSES, size=images)
    shared = SHARED * rng.normal(size=(images, CLASSES))
    shared[np.arange(images), truth] += SIGNAL
    scales = 1 + UNEVEN * rng.normal(size=(2, runs, 1, 1))
    return truth, shared, scales[0] * shared + scales[1] * OWN * rng.normal(size=(runs, images, CLASSES))


def noisy(rng: np.random.Generator, logits: Logits, strengths: NDArray[np.float64]) -> Logits:
    """One function [K] a strength around logits [N, K]: [S, N, K]."""
    return logits + strengths[:, None, None] * rng.normal(size=(len(strengths), *logits.shape)).astype(np.float32)


@cache
def costing(points: float) -> float:
    """Strength of a sample's noise at which it costs so much accuracy, in the mean over many images."""
    rng = np.random.default_rng(1)
    truth, _, logits = world(rng, 1, 40_000)
    accuracy, noise = (logits[0].argmax(-1) == truth).mean(), rng.normal(size=(8, *logits[0].shape))
    low, high = 0.0, 4.0
    for _ in range(30):
        middle = (low + high) / 2
        lost = accuracy - ((logits[0] + middle * noise).argmax(-1) == truth).mean()
        low, high = (middle, high) if lost < points else (low, middle)
    return low


def wide_strengths(rng: np.random.Generator, count: int, how: Strengths) -> NDArray[np.float64]:
    """graded: as the sampler draws by default; uniform: to 7 times the strength that costs one point (science o.5)."""
    far = 7 * costing(0.01)
    if how == "uniform":
        return far * rng.random(count)
    near = costing(0.02)
    u = (np.arange(count) + rng.random(count)) / count
    return np.where(u < 0.6, near * u / 0.6, near * (far / near) ** ((u - 0.6) / 0.4))


def function(logits: Logits) -> Function:
    return lambda part: softmax(logits[part])


def ensemble(rng: np.random.Generator, runs: int, images: int, samples: int) -> Evidence:
    """Claims (a) to (f1): runs, their late checkpoints, and samples around each, wide ones of both kinds."""
    truth, _, logits = world(rng, runs, images)
    finals = [function(own) for own in logits]
    near = [noisy(rng, own, costing(0.02) * rng.random(samples)) for own in logits]
    wide: dict[str, MethodEvidence] = {}
    for how in ("graded", "uniform"):
        strengths = [wide_strengths(rng, samples, how) for _ in range(runs)]
        labels = [noisy(rng, own, s).argmax(-1) for own, s in zip(logits, strengths, strict=True)]
        wide[how] = MethodEvidence(how, how, wide=labels, strengths=strengths)
    averages = [function(np.log(softmax(some).mean(axis=0))) for some in near]
    typical = MethodEvidence(
        "near", "near", [some.argmax(-1) for some in near], averaged=len(near[0]),
        members=Members.of(averages, truth),
        js=OverRuns.of(np.stack([mean_divergence([function(one) for one in some], images) for some in near])),
    )  # fmt: skip
    theta = rng.normal(size=(runs, WEIGHTS))
    theta /= np.linalg.norm(theta, axis=1, keepdims=True)
    return Evidence(
        CLASSES, truth, logits.argmax(-1), cosine=theta @ theta.T,
        windows=[noisy(rng, own, np.full(4, LATE)).argmax(-1) for own in logits], methods=(typical, *wide.values()),
        members=Members.of(finals, truth), js=divergence(finals, images),
    )  # fmt: skip


def pair_divergences(functions: Logits) -> Logits:
    """Jensen-Shannon divergence of each pair of functions [F, N, K] on each image, [F, F, N]."""
    p = softmax(functions)
    own, result = entropy(p), np.zeros((len(p), len(p), p.shape[1]))
    for i, j in zip(*np.triu_indices(len(p), 1), strict=True):
        result[i, j] = result[j, i] = entropy((p[i] + p[j]) / 2) - (own[i] + own[j]) / 2
    return result


def mean_pair(divergences: Logits) -> Logits:
    return np.asarray(divergences[np.triu_indices(len(divergences), 1)].mean(axis=0))


def shifted(rng: np.random.Generator, runs: int, images: int, samples: int) -> ShiftEvidence:
    """Claim (f2): under shift the images say half as much, and runs and samples differ as before in their logits."""
    truth, shared, logits = world(rng, runs, images)
    strengths = costing(0.02) * rng.random((runs, min(samples, 5)))
    own = logits - shared / 2
    around = [[noisy(rng, one, s) for one, s in zip(some, strengths, strict=True)] for some in (logits, own)]
    clean, moved = (np.stack([mean_pair(pair_divergences(samples)) for samples in some]) for some in around)
    return ShiftEvidence(
        CLASSES, truth, logits.argmax(-1), pair_divergences(logits), pair_divergences(own), {"made": clean},
        {"made": moved}, {"made": "made"},
    )  # fmt: skip


def seeds(rng: np.random.Generator, repetitions: int, images: int) -> SeedsEvidence:
    """Claim (g): two thirds of what is a run's own come with its initial weights, the rest with its batches."""
    truth, shared, _ = world(rng, 1, images)
    kept: dict[str, list[NDArray[np.intp]]] = {"A": [], "B": [], "C": []}
    for _ in range(repetitions):
        draws = OWN * (1 + UNEVEN * rng.normal()) * rng.normal(size=(2, 2, images, CLASSES))
        for arm, (weights, batches) in {"A": (0, 0), "B": (1, 0), "C": (0, 1)}.items():
            own = math.sqrt(2 / 3) * draws[0, weights] + math.sqrt(1 / 3) * draws[1, batches]
            kept[arm].append((shared + own).argmax(-1))
    return SeedsEvidence(CLASSES, truth, {arm: np.stack(labels) for arm, labels in kept.items()}, 1e-3)


def chains(rng: np.random.Generator, count: int, images: int) -> ChainEvidence:
    """Claim (h): of three cycles of a chain, each with half of what is a run's own for itself."""
    truth, shared, _ = world(rng, 1, images)
    scales = OWN * (1 + UNEVEN * rng.normal(size=(count, 1, 1, 1)))
    common, own = rng.normal(size=(count, 1, images, CLASSES)), rng.normal(size=(count, 3, images, CLASSES))
    return ChainEvidence(CLASSES, truth, (shared + scales * (common + own) / math.sqrt(2)).argmax(-1))


def half_widths(claims: Iterable[ClaimRecord]) -> Iterator[tuple[str, float]]:
    """(claim, half-width), for (d1) and (d2) by how strengths were drawn; NaN where a gate is closed."""
    for claim in claims:
        told: list[tuple[str, Any, Any]] = [
            (one.method, None if one.gate else one.estimate, one.parts) for one in claim.methods
        ] or [("", claim, claim.parts)]
        for method, found, numbers in told:
            name = f"{claim.id}/{method}" if method in ("graded", "uniform") else claim.id
            if found is None or found.low is None or found.high is None:
                yield name, math.nan
                continue
            unit = numbers[LEAD] if claim.id == "f2" else 1.0
            yield name, (found.high - found.low) / 2 / unit


LEAD = "the same on clean images (nats)"


def row(claim: str, found: Sequence[float], **where: int) -> dict[str, Any]:
    known = [half for half in found if math.isfinite(half)]
    mean = round(float(np.mean(known)), 4) if known else None
    return {"claim": claim, **where, "half_width": mean, "told": round(len(known) / len(found), 2)}


def cell(runs: int, images: int, samples: int, replicates: int) -> list[dict[str, Any]]:
    """The rows of one size. What does not depend on samples is made with the fewest; (a) not on images either."""
    found: dict[str, list[float]] = {}
    for replicate in range(replicates):
        rng = np.random.default_rng([replicate, runs, images, samples])
        claims = list(judge(ensemble(rng, runs, images, samples), rests=False))
        if samples == SAMPLES[0]:
            claims += judge(seeds(rng, runs, images), rests=False)
            claims += judge(chains(rng, runs, images), rests=False)
        claims += judge(shifted(rng, runs, images, samples), rests=False)
        for claim, half in half_widths(claims):
            found.setdefault(claim, []).append(half)
    return [
        row(
            claim, halves, runs=runs, images=0 if claim == "a" else images, samples=samples if claim[0] in "cdef" else 0
        )
        for claim, halves in found.items()
        if not (claim in ("a", "b") and samples > SAMPLES[0]) and not (claim == "a" and images > IMAGES[0])
    ]


def replicates_of(runs: int) -> int:
    return REPLICATES if runs == RUNS[0] else REPLICATES // 2


def main() -> None:
    began = time.monotonic()
    sizes = list(product(RUNS, IMAGES, SAMPLES))
    with ProcessPoolExecutor(initializer=threadpool_limits, initargs=(1,)) as pool:
        made = [pool.submit(cell, *size, replicates_of(size[0])) for size in sizes]
        rows = []
        for size, one in zip(sizes, made, strict=True):
            rows += one.result()
            print(*size, f"{time.monotonic() - began:.0f} s", flush=True)
    about = {"script": "benchmarks/power.py", "replicates": {runs: replicates_of(runs) for runs in RUNS}}
    lines = ",\n".join(json.dumps(made) for made in rows)
    TABLE.write_text(f'{{"about": {json.dumps(about)},\n"rows": [\n{lines}\n]}}\n')
    print(f"{len(rows)} rows in {time.monotonic() - began:.0f} s, numpy {np.__version__}, {platform.processor()}")


if __name__ == "__main__":
    main()
