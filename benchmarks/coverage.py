"""How often do the verdict's intervals contain the truth, and how often is a word given that should not be?

    python benchmarks/coverage.py --replicates 200 > docs/coverage.md      # an hour or two

Every claim is asked of many synthetic problems whose truth is known, with its margin at that truth, where each word is
wrong: an interval should contain the truth 95 times in 100, and each of the two words be given 2.5 times. Problems have
five classes; runs share the difficulty of examples and differ in signal and noise, whose scales vary between runs by
5 % (even), by 35 % (uneven), or of which the signal is halved in 15 % of the runs (failing, though above the rule that
leaves failed runs out). Truths are means of the same estimators over problems with many runs and examples.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

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
    divergence,
    mean_divergence,
)
from modescape.claims.judging import judge
from modescape.claims.record import ClaimRecord
from modescape.science import isotonic
from modescape.science.confidence import OverRuns

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Random = np.random.Generator

CLASSES, EXAMPLES = 5, 1000
UNITS = (3, 5, 10)
CONDITIONS = ("even", "uneven", "failing")
LETTERS = ("a", "b", "c", "d1", "d2", "e1", "e2", "f1", "f2", "g", "h")
STRONGEST = 1.1  # of the wide samples: about three and a half times the strength at which they cost one point
REDRAWS = 1000  # instead of ten times as many: the spread of a half-width is 2 % then, and 200 problems are affordable


@dataclass(frozen=True)
class Population:
    """Where runs come from: how far their scales vary, and what share of them is half broken."""

    spread: float
    broken: float

    def scales(self, random: Random, units: int) -> Floats:
        scales = np.exp(self.spread * random.normal(size=units) - self.spread**2 / 2)
        return np.asarray(np.where(random.random(units) < self.broken, scales / 2, scales))


POPULATIONS = {"even": Population(0.05, 0), "uneven": Population(0.35, 0), "failing": Population(0.05, 0.15)}


@dataclass(frozen=True)
class Problem:
    """truth [N]; logits [n, N, K] of the runs; noise [n]: of each run's own neighbourhood."""

    truth: Labels
    logits: Floats
    noise: Floats

    @classmethod
    def drawn(cls, random: Random, population: Population, units: int, examples: int, *, shift: float = 1.0) -> Problem:
        truth = random.integers(CLASSES, size=examples)
        shared = 2.6 * random.gamma(2, 0.5, (examples, 1)) * np.eye(CLASSES)[truth]
        shared = shared + 0.6 * random.normal(size=(examples, CLASSES))
        signal = population.scales(random, units)[:, None, None]
        noise = replace(population, broken=0.0).scales(random, units)[:, None, None]
        logits = signal * shared + 0.7 * shift * noise * random.normal(size=(units, examples, CLASSES))
        return cls(truth, logits, noise[:, 0, 0])

    def around(self, random: Random, run: int, strengths: Sequence[float] | Floats) -> Floats:
        """Logits [S, N, K] of samples of one run, each of its own strength."""
        steps = np.asarray(strengths)[:, None, None] * random.normal(size=(len(strengths), *self.logits.shape[1:]))
        return np.asarray(self.logits[run] + self.noise[run] * steps)


def softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def functions(probabilities: Floats) -> list[Function]:
    return [partial(lambda p, part: p[part], p) for p in probabilities]


def cosines(random: Random, population: Population, units: int) -> Floats:
    """Around .1, the margin of (a): every run leans its own way."""
    lean = 0.02 * (population.scales(random, units) - 1 + 0.3 * random.normal(size=units))
    own = 0.004 * random.normal(size=(units, units))
    return np.asarray(0.1 + lean[:, None] + lean[None] + (own + own.T) / 2)


def evidence(random: Random, population: Population, units: int, examples: int, *, samples: int = 10) -> Evidence:
    """Claims (a) to (f1) of one method."""
    problem = Problem.drawn(random, population, units, examples)
    runs = range(units)
    typical = [softmax(problem.around(random, run, [0.3] * 5)) for run in runs]
    strengths = [STRONGEST * (np.arange(samples) + random.random()) / samples for _ in runs]
    averages = np.stack([own.mean(axis=0) for own in typical])
    finals = softmax(problem.logits)
    method = MethodEvidence(
        "noise",
        "Noise",
        near=[own.argmax(axis=-1) for own in typical],
        wide=[problem.around(random, run, strengths[run]).argmax(axis=-1) for run in runs],
        strengths=strengths,
        averaged=5,
        members=Members.of(functions(averages), problem.truth),
        js=OverRuns.of(np.stack([mean_divergence(functions(own), examples) for own in typical])),
    )
    return Evidence(
        classes=CLASSES,
        truth=problem.truth,
        finals=finals.argmax(axis=-1),
        cosine=cosines(random, population, units),
        windows=[problem.around(random, run, [0.25] * 4).argmax(axis=-1) for run in runs],
        methods=(method,),
        members=Members.of(functions(finals), problem.truth),
        js=divergence(functions(finals), examples),
        seed=int(random.integers(1 << 30)),
    )


def shifted(random: Random, population: Population, units: int, examples: int) -> ShiftEvidence:
    """Claim (f2): the same runs on clean images, and with more noise of their own."""
    clean = Problem.drawn(random, population, units, examples)
    noisy = Problem(clean.truth, 0.8 * clean.logits + 0.5 * random.normal(size=clean.logits.shape), 1.4 * clean.noise)

    def between(problem: Problem) -> Floats:
        p = softmax(problem.logits)
        found = np.zeros((units, units, examples))
        for i in range(units):
            for j in range(i):
                found[i, j] = found[j, i] = mean_divergence(functions(p[[i, j]]), examples)
        return found

    def within(problem: Problem) -> Floats:
        runs = [softmax(problem.around(random, run, [0.3] * 3)) for run in range(units)]
        return np.stack([mean_divergence(functions(own), examples) for own in runs]).astype(np.float64)

    return ShiftEvidence(
        CLASSES, clean.truth, clean.logits.argmax(axis=-1), between(clean), between(noisy),
        {"noise": within(clean)}, {"noise": within(noisy)}, {"noise": "Noise"},
    )  # fmt: skip


def repetitions(random: Random, population: Population, units: int, examples: int) -> SeedsEvidence:
    """Claim (g): arms that differ from their base by more noise or by less."""
    base = Problem.drawn(random, population, units, examples)
    arms = {"A": base.logits.argmax(axis=-1)}
    for arm, size in (("B", 0.9), ("C", 0.6)):
        arms[arm] = np.stack([base.around(random, run, [size])[0].argmax(axis=-1) for run in range(units)])
    return SeedsEvidence(CLASSES, base.truth, arms, 1e-3)


def chains(random: Random, population: Population, units: int, examples: int) -> ChainEvidence:
    """Claim (h): three cycles around every chain."""
    centre = Problem.drawn(random, population, units, examples)
    cycles = [centre.around(random, chain, [0.5] * 3).argmax(axis=-1) for chain in range(units)]
    return ChainEvidence(CLASSES, centre.truth, np.stack(cycles))


def asked(
    random: Random, population: Population, units: int, examples: int, margins: dict[str, float] | None = None
) -> Iterator[ClaimRecord]:
    yield from judge(evidence(random, population, units, examples), margins=margins, rests=False)
    # (f2) is asked where (f1) holds, which here it should not hang on
    yield from judge(shifted(random, population, units, examples), margins=(margins or {}) | {"f1": -9.0}, rests=False)
    yield from judge(repetitions(random, population, units, examples), margins=margins, rests=False)
    yield from judge(chains(random, population, units, examples), margins=margins, rests=False)


def truths(population: Population, *, problems: int = 12) -> dict[str, float]:
    """Means of the estimators over large problems, whose own error is a small part of any interval's."""
    found: dict[str, list[float]] = defaultdict(list)
    for seed in range(problems):
        for claim in asked(np.random.default_rng([7, seed]), population, 24, 4000):
            if claim.estimate is not None:
                found[claim.id].append(claim.estimate)
    return {letter: float(np.mean(values)) for letter, values in found.items()} | {"a": 0.1}


@dataclass
class Counts:
    intervals: int = 0
    covered: int = 0
    held: int = 0
    failed: int = 0
    halves: float = 0.0

    def add(self, claim: ClaimRecord, truth: float) -> None:
        if claim.low is None or claim.high is None:
            return
        self.intervals += 1
        self.covered += claim.low <= truth <= claim.high
        self.held += claim.word == "holds"
        self.failed += claim.word == "does not hold"
        self.halves += (claim.high - claim.low) / 2

    def __str__(self) -> str:
        if not self.intervals:
            return "–"
        n = self.intervals
        return f"{self.covered / n:.3f} ({100 * self.held / n:.1f}, {100 * self.failed / n:.1f}) {self.halves / n:.2g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=CONDITIONS)
    options = parser.parse_args()
    begun = time.monotonic()
    error = math.sqrt(0.95 * 0.05 / options.replicates)
    print(f"""# Coverage of the verdict's intervals, measured

`python benchmarks/coverage.py --replicates {options.replicates} --seed {options.seed}`: synthetic problems with
N = {EXAMPLES} examples and {CLASSES} classes, {options.replicates} in every cell, so a share of .95 has a standard
error of {error:.3f}. Every margin is at the truth. Each cell: share of 95 % intervals that contain the truth (percent
of problems on which `holds` was said, and `does not hold`: both are wrong there, each should be 2.5 at most), and the
mean half-width.
""")
    for condition in options.conditions:
        _tell(condition, options.replicates, options.seed, begun)


def _tell(condition: str, replicates: int, seed: int, begun: float) -> None:
    population = POPULATIONS[condition]
    isotonic.REDRAWS = 50  # a truth needs no interval
    known = truths(population)
    isotonic.REDRAWS = REDRAWS
    counts: dict[tuple[str, int], Counts] = defaultdict(Counts)
    for units in UNITS:
        for replicate in range(replicates):
            random = np.random.default_rng([seed, CONDITIONS.index(condition), units, replicate])
            for claim in asked(random, population, units, EXAMPLES, known):
                counts[claim.id, units].add(claim, known[claim.id])
        print(f"{condition}, n = {units}: {time.monotonic() - begun:.0f} s", file=sys.stderr)
    print(f"## {condition}\n")
    print("| claim | truth | " + " | ".join(f"n = {units}" for units in UNITS) + " |")
    print("|---" * (2 + len(UNITS)) + "|")
    for letter in LETTERS:
        cells = " | ".join(str(counts[letter, units]) for units in UNITS)
        print(f"| {letter} | {known[letter]:.3f} | {cells} |")
    print(flush=True)


if __name__ == "__main__":
    main()
