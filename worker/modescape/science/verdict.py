"""Do the paper's claims hold on these runs? Each as an estimand, an interval and one of three words.

    evidence = Evidence(classes=10, truth=truth, finals=finals, cosine=cosines, windows=windows, methods=(random, ...))
    for claim in judge(evidence):
        print(claim.title, claim.word, claim.because)

The question answered is "would this still be true for fresh runs of the same recipe, and fresh test images of the same
kind?". Units of replication are runs (claims a to f), repetitions (g) or chains (h); checkpoints, samples and cycles
are averaged inside their unit and never raise n. How intervals are made is in `inference`.

Words: `holds` when the whole interval lies on the claim's side of the margin, `does not hold` when it lies on the
other, else `cannot tell`; and `cannot tell` whenever a gate is closed, which is then named with what would open it.
A claim over methods holds when it holds for every method (or, claim e2, for at least one). numpy only.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import combinations
from typing import Any, ClassVar, Literal, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modescape.science import equal
from modescape.science.equal import COST, ROUNDING, EqualAccuracy, Redraws, Samples, Sums, read_redraws
from modescape.science.health import at_chance
from modescape.science.inference import (
    LEVEL,
    Estimate,
    Floats,
    OverPairs,
    OverRuns,
    Rows,
    Runs,
    Word,
    estimate,
    holm,
    jackknife,
    log_of_ratio,
    log_ratio,
    log_ratio_influence,
    pairs,
    share_without,
    t_quantile,
    variance_of_examples,
)
from modescape.science.predictions import entropy

Labels = NDArray[np.integer[Any]]
Function = Callable[[slice], Floats]  # probabilities [b, K] on some of the examples

MIN_UNITS = 3
MIN_EXAMPLES = 500
MIN_EXAMPLES_ACCURACY = 1000  # where accuracy, Brier score or divergence is compared (claims d, e, f)
MIN_DISAGREEING = 20  # examples a pair of runs must disagree on, in the mean
MIN_SAMPLES = 3
NEAR = 0.05  # samples of claim (c) lose at most this
REACHED = {"d1": "samples", "d2": "two samples of a run"}  # what claims (d) read at equal accuracy
MEMBERS = 4  # size of the ensemble whose gain the subspace's is compared with (claim e)
SHARE = (1 - 1 / MEMBERS) / 2  # of the mean squared distance of two members: what averaging so many takes off
SUBSETS = 100
_VALUES = 1 << 19  # probabilities handled at a time


# ------------------------------------------------------------------------------------------------------ the questions


@dataclass(frozen=True)
class Question:
    """A claim of the paper before any data: margin in the estimand's own unit; ratio: the estimand is ln of a ratio;
    side: where the interval must lie for the claim to hold; joins: whether one, every or some method must hold."""

    title: str
    estimand: str
    margin: float
    ratio: bool = False
    side: str = "above"
    joins: Literal["one", "every", "some"] = "one"

    def say(self, value: float, *, bare: bool = False) -> str:
        """A value of the estimand as people read it; bare: without "times"."""
        if self.ratio:
            return f"{math.exp(min(value, 700.0)):.3g}{'' if bare else ' times'}"
        return f"{value:.3g}".replace("-", "−")


QUESTIONS: dict[str, Question] = {
    "a": Question(
        "Independent optima are orthogonal", "mean cosine over pairs of runs", 0.1, side="within"
    ),
    "b": Question(
        "Functions are alike along one trajectory, different across runs",
        "disagreement across runs / within a run's recent snapshots", math.log(1.25), ratio=True,
    ),
    "c": Question(
        "Subspace samples stay near their own run",
        "a sample's disagreement with other runs / with its own", math.log(1.25), ratio=True, joins="every",
    ),
    "d1": Question(
        "At equal accuracy independent runs are farther apart than any subspace sample is from its solution",
        f"disagreement of runs / of a sample that costs {100 * COST:g} point of accuracy with its solution",
        math.log(1.1), ratio=True, joins="every",
    ),
    "d2": Question(
        "At equal accuracy independent runs are more diverse than the samples of any subspace method",
        f"disagreement of runs / of two samples of one run that cost {100 * COST:g} point of accuracy",
        math.log(1.1), ratio=True, joins="every",
    ),
    "e1": Question(
        "Ensembling gains more than averaging subspace samples",
        f"Brier gain of averaging a run's samples / of an ensemble of {MEMBERS}", 0.9, side="below", joins="every",
    ),
    "e2": Question(
        "Ensembling and subspace sampling add up",
        f"Brier gain of an ensemble of {MEMBERS} of averaged samples / of {MEMBERS} runs, minus 1", 0.05, joins="some",
    ),
    "f1": Question(
        "Jensen-Shannon divergence is largest between independent runs",
        "JS between two runs / between two samples of one run", math.log(1.25), ratio=True, joins="every",
    ),
    "f2": Question(
        "The more so under shift",
        "JS between runs minus JS between samples, in nats: under shift, less 1.1 times that on clean images", 0.0,
        joins="every",
    ),
    "g": Question(
        "Initial weights matter more than the order of batches",
        "disagreement after other initial weights / after other batches", math.log(1.1), ratio=True,
    ),
    "h": Question(
        "Cycles of one SG-MCMC chain are less diverse than independent chains",
        "disagreement across chains / between cycles of one chain", math.log(1.1), ratio=True,
    ),
}  # fmt: skip


# ------------------------------------------------------------------------------------------------------- evidence


@dataclass(frozen=True, eq=False)
class _Units(ABC):
    """What is replicated, on which N examples. truth [N]; failed: units left out; numbers: what users call the rest;
    decided: who has failed is known, and those are not among them."""

    classes: int
    truth: Labels
    numbers: tuple[int, ...] = field(default=(), kw_only=True)
    failed: int = field(default=0, kw_only=True)
    decided: bool = field(default=False, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    unit: ClassVar[str] = "run"
    raised_by: ClassVar[str] = "ensemble.runs"

    def __post_init__(self) -> None:
        if not self.numbers:
            object.__setattr__(self, "numbers", tuple(range(len(self._trained))))

    @property
    @abstractmethod
    def _trained(self) -> Labels:
        """Labels [n, functions, N] of what must not have failed."""

    @property
    def units(self) -> int:
        return len(self._trained)

    @property
    def examples(self) -> int:
        return len(self.truth)

    def without(self, unit: int) -> Self:
        """The same evidence had that unit (by position) not been made."""
        return replace(self, numbers=_drop(self.numbers, unit))

    def without_failed(self) -> Self:
        """Leaves out units that are at chance (`health.at_chance`), by this rule alone, and counts them."""
        if self.decided:
            return self
        kept = self
        for unit in reversed(range(self.units)):
            if any(at_chance(labels, self.truth, self.classes) for labels in self._trained[unit]):
                kept = kept.without(unit)
        return replace(kept, failed=self.failed + self.units - kept.units, decided=True)


@dataclass(frozen=True, eq=False)
class _Runs(_Units):
    """Units that are runs, with their final functions on the examples.

    finals: labels [n, N] of last checkpoints; partial: the same about some of these runs only, each with those methods
    that the other runs lack because their chain or their samples have failed.
    """

    finals: Labels
    partial: tuple[Self, ...] = field(default=(), kw_only=True)

    @property
    def _trained(self) -> Labels:
        return self.finals[:, None]

    @property
    def parts(self) -> tuple[Self, ...]:
        """All runs first, then those of the methods that have fewer."""
        return (self, *self.partial)

    def without(self, unit: int) -> Self:
        number = self.numbers[unit]
        return replace(
            super().without(unit),
            finals=np.delete(self.finals, unit, axis=0),
            partial=tuple(
                part.without(part.numbers.index(number)) if number in part.numbers else part for part in self.partial
            ),
        )


@dataclass(frozen=True, eq=False)
class Members:
    """One function a run, reduced to what averaging them gains.

    brier: of every run; gaps: of every pair, the sum over classes of (p_i - p_j)^2; accuracy of one, and together: of
    the average of min(4, n) of them, both means (of the subsets; NaN once a run has been left out).
    """

    brier: OverRuns
    gaps: OverPairs
    accuracy: float
    together: float

    @classmethod
    def of(cls, functions: Sequence[Function], truth: Labels, *, check: Callable[[], None] = lambda: None) -> Members:
        """Reads the functions block by block: memory grows with n N, never with classes or pairs."""
        n, examples = len(functions), len(truth)
        subsets = list(combinations(range(n), min(MEMBERS, n)))
        if len(subsets) > SUBSETS:
            chosen = np.random.Generator(np.random.Philox(0)).choice(len(subsets), SUBSETS, replace=False)
            subsets = [subsets[i] for i in chosen]
        brier, table = np.zeros((n, examples)), np.zeros((n, n))
        partners: Rows = np.zeros((n, examples), np.float32)
        correct = together = 0
        for part in _blocks(functions, examples):
            check()
            p = np.stack([function(part) for function in functions])  # [n, b, K]
            y = truth[part]
            own = np.take_along_axis(p, np.broadcast_to(y, (n, len(y)))[..., None], axis=2)[..., 0]
            brier[:, part] = np.square(p).sum(axis=2) - 2 * own + 1
            for i in range(n - 1):
                _add_pairs(table, partners, part, i, np.square(p[i + 1 :] - p[i]).sum(axis=2))
            correct += int((p.argmax(axis=2) == y).sum())
            together += sum(int((p[list(s)].mean(axis=0).argmax(axis=1) == y).sum()) for s in subsets)
        gaps = OverPairs.summed(table / examples, partners)
        return cls(OverRuns.of(brier), gaps, correct / (n * examples), together / (len(subsets) * examples))

    def without(self, run: int) -> Members:
        return Members(self.brier.without(run), self.gaps.without(run), math.nan, math.nan)

    def ensemble_gain(self, runs: Runs) -> float:
        """Mean single Brier score minus that of an ensemble of 4, over all its choices (the ambiguity identity)."""
        return SHARE * self.gaps.mean(runs)


def divergence(functions: Sequence[Function], examples: int, *, check: Callable[[], None] = lambda: None) -> OverPairs:
    """Jensen-Shannon divergence of each pair of functions, nats, read block by block."""
    count = len(functions)
    table = np.zeros((count, count))
    partners: Rows = np.zeros((count, examples), np.float32)
    for part in _blocks(functions, examples) if count > 1 else ():
        check()
        p = np.stack([function(part) for function in functions])
        entropies = entropy(p)
        for i in range(count - 1):
            _add_pairs(table, partners, part, i, _js_of(p, entropies, i))
    return OverPairs.summed(table / examples, partners)


def mean_divergence(functions: Sequence[Function], examples: int, *, check: Callable[[], None] = lambda: None) -> Rows:
    """The mean of `divergence` over pairs, example by example [N]; NaN for a single function."""
    result: Rows = np.full(examples, np.nan, np.float32)
    for part in _blocks(functions, examples) if len(functions) > 1 else ():
        check()
        p = np.stack([function(part) for function in functions])
        entropies = entropy(p)
        rows = [_js_of(p, entropies, i) for i in range(len(p) - 1)]
        result[part] = np.concatenate(rows).mean(axis=0)
    return result


def _add_pairs(table: Floats, partners: Rows, part: slice, i: int, values: Floats) -> None:
    """Takes in a quantity of the pairs of function i with all later ones, [n - i - 1, b], on some of the examples."""
    sums = values.sum(axis=1)
    table[i, i + 1 :] += sums
    table[i + 1 :, i] += sums
    partners[i, part] += values.sum(axis=0)
    partners[i + 1 :, part] += values


def _js_of(p: Floats, entropies: Floats, i: int) -> Floats:
    """Divergence of function i with every later one, example by example."""
    return np.asarray(np.maximum(entropy((p[i] + p[i + 1 :]) / 2) - (entropies[i] + entropies[i + 1 :]) / 2, 0.0))


def _blocks(functions: Sequence[Function], examples: int) -> list[slice]:
    rows = max(1, _VALUES // (len(functions) * functions[0](slice(0, 1)).shape[1]))
    return [slice(start, start + rows) for start in range(0, examples, rows)]


@dataclass(frozen=True)
class Cost:
    """What a method takes, relative to one run: trainings (epochs over a run's) and forward passes of an image."""

    training: float
    passes: int


@dataclass(frozen=True, eq=False)
class LastIterates:
    """Where a method that trains on ended up in each run: equally long trained as its samples, and no average.

    labels [n, N]; better [n]: whether its NLL on the validation images is below that of the run's final; brier: of the
    same functions.
    """

    labels: Labels
    better: NDArray[np.bool_]
    brier: OverRuns | None = None

    def without(self, run: int) -> LastIterates:
        brier = None if self.brier is None else self.brier.without(run)
        return LastIterates(np.delete(self.labels, run, axis=0), np.delete(self.better, run), brier)

    def reference(self, finals: OverRuns) -> OverRuns:
        """Brier score of the better of each run's final and its last iterate."""
        if self.brier is None:
            return finals
        rows = np.where(self.better[:, None], self.brier.rows, finals.rows)
        return OverRuns(np.where(self.better, self.brier.values, finals.values), rows)


@dataclass(frozen=True, eq=False)
class MethodEvidence:
    """What one subspace method predicted around each run, in the order of the runs.

    near: labels of typical samples, one [S_i, N] a run (claim c); wide: labels of samples of all strengths, one
    [S_i, N] a run, with their strengths [S_i] (claims d; None for a method that has no strength); centre: labels of
    the weight average [n, N] for methods centred there, None for those centred at the optimum itself; are_rates:
    strengths are rates; members: the average of `averaged` samples of each run; js: mean divergence of two of a run's
    samples (claims e and f). drawn: how many samples there are to average in every run, all at `strength`; None where
    the typical ones are averaged. last: of a method that trains on.
    """

    name: str
    title: str
    near: Sequence[Labels] = ()
    wide: Sequence[Labels] = ()
    strengths: Sequence[ArrayLike] | None = None
    centre: Labels | None = None
    are_rates: bool = False
    averaged: int = 0
    members: Members | None = None
    js: OverRuns | None = None
    drawn: int | None = None
    strength: float | None = None
    last: LastIterates | None = None
    cost: Cost | None = None

    @property
    def fewest(self) -> int:
        """Samples to average in the run that has the fewest."""
        return min((len(samples) for samples in self.near), default=0) if self.drawn is None else self.drawn

    @property
    def stands_in(self) -> bool:
        """Whether `wide` are the typical samples, because no others were asked for."""
        return len(self.near) == len(self.wide) and all(map(np.array_equal, self.near, self.wide))

    def without(self, run: int) -> MethodEvidence:
        return replace(
            self,
            near=_drop(self.near, run),
            wide=_drop(self.wide, run),
            strengths=None if self.strengths is None else _drop(self.strengths, run),
            centre=None if self.centre is None else np.delete(self.centre, run, axis=0),
            members=None if self.members is None else self.members.without(run),
            js=None if self.js is None else self.js.without(run),
            last=None if self.last is None else self.last.without(run),
        )


@dataclass(frozen=True, eq=False)
class Evidence(_Runs):
    """Predictions of runs that differ in seeds only, on the same N examples (claims a to f1).

    cosine [n, n] of the finals' weights without what they share for free (`reduction` says what that was), or None, and
    plain_cosine of all weights as they are; windows: labels [T_i, N] of each run's recent snapshots, empty when there
    are none, and rates: the learning rates at the window's start and end; members and js: the finals' probabilities,
    reduced; redrawn: what is read at equal accuracy under redraws of the examples, which `judge` makes where it needs
    them.
    """

    cosine: Floats | None = None
    plain_cosine: Floats | None = None
    reduction: str = ""
    windows: Sequence[Labels] = ()
    methods: tuple[MethodEvidence, ...] = ()
    rates: tuple[float, float] | None = None
    members: Members | None = None
    js: OverPairs | None = None
    redrawn: Redraws | None = None

    def without(self, unit: int) -> Self:
        return replace(
            super().without(unit),
            cosine=_fewer(self.cosine, unit),
            plain_cosine=_fewer(self.plain_cosine, unit),
            windows=_drop(self.windows, unit),
            methods=tuple(method.without(unit) for method in self.methods),
            members=None if self.members is None else self.members.without(unit),
            js=None if self.js is None else self.js.without(unit),
            redrawn=None if self.redrawn is None else self.redrawn.without(unit),
        )


@dataclass(frozen=True, eq=False)
class ShiftEvidence(_Runs):
    """Jensen-Shannon divergences of pairs, per image, on clean and on corrupted images (claim f2).

    finals: on the clean images; clean_between, shifted_between [n, n, N]: of two runs; clean_within, shifted_within:
    method -> [n, N], mean over the pairs of a run's samples. Under shift: the mean over types and intensities 1 to 5.
    titles: method -> title; alike: methods whose samples are all one function.
    """

    clean_between: Floats
    shifted_between: Floats
    clean_within: Mapping[str, Floats]
    shifted_within: Mapping[str, Floats]
    titles: Mapping[str, str]
    alike: Sequence[str] = ()

    @property
    def methods(self) -> list[MethodEvidence]:
        """Names and titles alone."""
        return [MethodEvidence(name, self.titles[name]) for name in (*self.alike, *self.clean_within)]

    def without(self, unit: int) -> Self:
        def fewer(values: Mapping[str, Floats]) -> dict[str, Floats]:
            return {name: np.delete(value, unit, axis=0) for name, value in values.items()}

        return replace(
            super().without(unit),
            clean_between=np.delete(np.delete(self.clean_between, unit, 0), unit, 1),
            shifted_between=np.delete(np.delete(self.shifted_between, unit, 0), unit, 1),
            clean_within=fewer(self.clean_within),
            shifted_within=fewer(self.shifted_within),
        )


@dataclass(frozen=True, eq=False)
class SeedsEvidence(_Units):
    """Final functions of repetitions, each from fresh seeds (claim g).

    arms: labels [R, N] of A, the base; B: other initial weights, same batches; C: same initial weights, other batches;
    and if it was trained D: both others. learning_rate: at which they were trained.
    """

    arms: Mapping[str, Labels]
    learning_rate: float

    unit: ClassVar[str] = "repetition"
    raised_by: ClassVar[str] = "seeds.repetitions"

    @property
    def _trained(self) -> Labels:
        return np.stack([self.arms[name] for name in sorted(self.arms)], axis=1)

    def without(self, unit: int) -> Self:
        arms = {name: np.delete(labels, unit, axis=0) for name, labels in self.arms.items()}
        return replace(super().without(unit), arms=arms)


@dataclass(frozen=True, eq=False)
class ChainEvidence(_Units):
    """The last sample of every cycle of independent SG-MCMC chains (claim h).

    labels [chains, cycles, N]; finals: labels [n, N] of separately trained runs, shown beside, or None.
    """

    labels: Labels
    finals: Labels | None = None

    unit: ClassVar[str] = "chain"

    @property
    def _trained(self) -> Labels:
        return self.labels[:, -1:]

    def without(self, unit: int) -> Self:
        return replace(super().without(unit), labels=np.delete(self.labels, unit, axis=0))


def _fewer(matrix: Floats | None, unit: int) -> Floats | None:
    return None if matrix is None else np.delete(np.delete(matrix, unit, 0), unit, 1)


def _drop(values: Sequence[Any], unit: int) -> tuple[Any, ...]:
    return tuple(value for i, value in enumerate(values) if i != unit)


# ----------------------------------------------------------------------------------------------------- conclusions


@dataclass(frozen=True)
class Finding:
    """One method's part in a claim over methods. gate: why it cannot be told, "" while its gates are open; n: runs it
    stands on, where those are not all of the claim's."""

    method: str
    title: str
    word: Word
    because: str
    estimate: Estimate | None
    gate: str = ""
    parts: Mapping[str, float] = field(default_factory=dict)
    n: int | None = None


@dataclass(frozen=True)
class Claim:
    """One claim of the paper, answered.

    estimate, low, high, margin: in the estimand's own unit (for a claim over methods, of the one on which it stands
    or falls), None when there is none; n units, N examples; parts: the numbers behind the estimate; p: the smaller of
    those for `holds` and for `does not hold`, None of a claim of which no interval could have given a word; qualifier:
    a shade the word leaves out; rests_on: units without which the word would be another.
    """

    id: str
    title: str
    estimand: str
    word: Word
    because: str
    margin: float
    n: int
    N: int
    unit: str = "run"
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    qualifier: str = ""
    parts: Mapping[str, float] = field(default_factory=dict)
    methods: tuple[Finding, ...] = ()
    rests_on: tuple[int, ...] = ()


U = TypeVar("U", bound=_Units)
R = TypeVar("R", "Evidence", "ShiftEvidence")
Decision = Callable[[U, float], Claim | None]


def judge(
    evidence: Evidence,
    *,
    margins: Mapping[str, float] | None = None,
    rests: bool = True,
    check: Callable[[], None] = lambda: None,
) -> tuple[Claim, ...]:
    """Every claim this evidence can be asked about, with the runs each word rests on; margins replace the defaults.

    rests: whether the words are repeated without each unit. check is called now and then and may raise to stop.
    """
    decisions: dict[str, Decision[Evidence]] = {
        "a": _orthogonal,
        "b": _alike_along,
        "c": _stay_near,
        "d1": partial(_more_diverse, "d1"),
        "d2": partial(_more_diverse, "d2"),
        "e1": _gains_more,
        "e2": _add_up,
        "f1": _largest_js,
    }
    return _judged(_with_redraws(evidence.without_failed(), check), decisions, margins, rests)


def judge_shift(
    evidence: ShiftEvidence, *, margins: Mapping[str, float] | None = None, rests: bool = True
) -> tuple[Claim, ...]:
    """Claim (f2)."""
    first = (margins or {}).get("f1", QUESTIONS["f1"].margin)
    return _judged(evidence, {"f2": partial(_more_under_shift, first=first)}, margins, rests)


def judge_seeds(
    evidence: SeedsEvidence, *, margins: Mapping[str, float] | None = None, rests: bool = True
) -> tuple[Claim, ...]:
    """Claim (g), at one learning rate."""
    return _judged(evidence, {"g": _weights_matter_more}, margins, rests)


def judge_chains(
    evidence: ChainEvidence, *, margins: Mapping[str, float] | None = None, rests: bool = True
) -> tuple[Claim, ...]:
    """Claim (h)."""
    return _judged(evidence, {"h": _cycles_alike}, margins, rests)


def _judged(
    evidence: U, decisions: Mapping[str, Decision[U]], margins: Mapping[str, float] | None, rests: bool
) -> tuple[Claim, ...]:
    kept = evidence.without_failed()
    claims = []
    for letter, decide in decisions.items():
        margin = (margins or {}).get(letter, QUESTIONS[letter].margin)
        claim = decide(kept, margin)
        if claim is None:
            continue
        if rests and claim.word != "cannot tell" and kept.units > MIN_UNITS:
            others = [decide(kept.without(unit), margin) for unit in range(kept.units)]
            words = [None if other is None else other.word for other in others]
            claim = replace(
                claim, rests_on=tuple(kept.numbers[i] for i, word in enumerate(words) if word != claim.word)
            )
        if kept.failed:
            were = "was" if kept.failed == 1 else "were"
            failed = f"{kept.failed} of {_counted(kept.units + kept.failed, kept.unit)} failed and {were} left out"
            claim = replace(claim, because=f"{claim.because}; {failed}")
        claims.append(claim)
    return tuple(claims)


# -------------------------------------------------------------------------------------------------------- the claims


def _orthogonal(evidence: Evidence, margin: float) -> Claim | None:
    """(a) The mean cosine over pairs lies inside (-0.1, 0.1).

    An equivalence: whether the mean differs from 0 at all is not the question.
    """
    if evidence.cosine is None:
        return None
    cosines, n = np.asarray(evidence.cosine, np.float64), evidence.units
    base = replace(_asked("a", evidence, margin), N=0)
    if evidence.reduction:
        base = replace(base, estimand=f"{base.estimand}, {evidence.reduction}")
    if n < MIN_UNITS:
        return replace(base, because=_too_few(evidence))

    def mean_cosine(runs: Runs) -> float:
        return float(cosines[pairs(runs)].mean())

    above = estimate(mean_cosine, n, margin=margin)
    below = estimate(mean_cosine, n, margin=-margin)
    largest = float(np.abs(cosines[pairs(np.arange(n))]).max())
    numbers = {"largest |cosine|": largest}
    if evidence.plain_cosine is not None:
        numbers["of all weights as they are"] = float(evidence.plain_cosine[pairs(np.arange(n))].mean())
    known = _with(base, above, numbers)
    if not math.isfinite(above.error):
        return replace(
            known, because="a cosine is undefined: some weights are all zero or not finite; train those runs again"
        )
    p_holds, p_fails = max(above.p_fails, below.p_holds), min(above.p_holds, below.p_fails)
    known = replace(known, p=min(p_holds, p_fails))
    if -margin < above.low and above.high < margin:
        return replace(known, word="holds", because=f"the whole interval lies within ±{margin:g}")
    if above.low > margin or above.high < -margin:
        return replace(known, word="does not hold", because=f"the whole interval lies outside ±{margin:g}")
    return replace(known, because=f"the interval crosses ±{margin:g}: more runs would narrow it")


def _alike_along(evidence: Evidence, margin: float) -> Claim | None:
    """(b) ln(D_b / D_w): disagreement of finals, and of the snapshots of one run's recent window."""
    if not len(evidence.windows):
        return None
    n, base = evidence.units, _asked("b", evidence, margin)
    shortest = min(len(window) for window in evidence.windows)
    if shortest < MIN_SAMPLES:
        return replace(
            base,
            because=f"a run has {shortest} recent checkpoints, at least {MIN_SAMPLES} are needed: keep more "
            "(training.checkpoint_every) or train longer",
        )
    across = _apart(evidence.finals)
    gate = _common_gate(evidence, across)
    if gate:
        return replace(base, because=gate)
    within = OverRuns.of(np.stack([_apart(window).examples for window in evidence.windows]))
    found = log_ratio(across, within, n, margin=margin)
    numbers = {
        "across runs": across.mean(np.arange(n)),
        "two recent checkpoints of a run": within.mean(np.arange(n)),
    }
    if evidence.rates is not None:  # a rate of almost 0 makes a window alike for free
        numbers |= {"learning rate at the window's start": evidence.rates[0], "at its end": evidence.rates[1]}
    return _answer(_with(base, found, numbers), found)


def _stay_near(evidence: Evidence, margin: float) -> Claim | None:
    """(c) For every method ln(O_q / S_q): disagreement of a sample with the other runs' finals, and with its own.

    Only samples within 0.05 of their run's accuracy count, at least 3 of them in every run.
    """
    return _over_methods("c", evidence, margin, _sampled, partial(_stays, margin=margin), examples=MIN_EXAMPLES)


def _stays(evidence: Evidence, method: MethodEvidence, *, margin: float) -> Finding:
    accuracies = (evidence.finals == evidence.truth).mean(axis=1)
    usable = [
        samples[(samples == evidence.truth).mean(axis=1) >= accuracy - NEAR - ROUNDING]
        for samples, accuracy in zip(method.near, accuracies, strict=True)
    ]
    fewest = min(len(samples) for samples in usable)
    if fewest < MIN_SAMPLES:
        return _closed(
            method,
            f"a run has {fewest} samples within {100 * NEAR:g} points of its accuracy, {MIN_SAMPLES} are needed: "
            "use smaller strengths, or more typical samples",
        )
    # of every run's samples, the mean over them of their disagreement with each final: [n, n, N]
    gaps = np.stack([_cross(samples, evidence.finals).mean(axis=0, dtype=np.float32) for samples in usable])
    own_is_nearest = [
        _cross(samples, evidence.finals).mean(axis=2).argmin(axis=1) == i for i, samples in enumerate(usable)
    ]
    n = evidence.units
    own = OverRuns.of(gaps[np.arange(n), np.arange(n)])
    others = OverPairs.of(n, lambda i, j: (gaps[i, j] + gaps[j, i]) / 2, evidence.examples)
    found = log_ratio(others, own, n, margin=margin)
    numbers = {
        "from other runs": others.mean(np.arange(n)),
        "from its own run": own.mean(np.arange(n)),
        "share nearest to its own run": float(np.mean([hits.mean() for hits in own_is_nearest])),
        "fewest usable samples in a run": float(fewest),
    }
    return _finding("c", method, found, numbers)


def _with_redraws(evidence: Evidence, check: Callable[[], None]) -> Evidence:
    """The evidence with what claims (d) read from redraws of the examples, where their gates are open."""
    if evidence.partial:
        fewer_runs = tuple(_with_redraws(part, check) for part in evidence.partial)
        return replace(_with_redraws(replace(evidence, partial=()), check), partial=fewer_runs)
    methods, across = _of_all_strengths(evidence), _apart(evidence.finals)
    if not methods or across.rows is None or _common_gate(evidence, across, examples=MIN_EXAMPLES_ACCURACY):
        return evidence
    samples = {method.name: _samples(evidence, method) for method in methods}
    draws, fewer = equal.REDRAWS, equal.FEWER if evidence.units > MIN_UNITS else 0
    redrawn = read_redraws(across.rows, samples, seed=evidence.seed, draws=draws, fewer=min(fewer, draws), check=check)
    return replace(evidence, redrawn=redrawn)


def _of_all_strengths(evidence: Evidence) -> list[MethodEvidence]:
    return [method for method in evidence.methods if any(len(samples) for samples in method.wide)]


def _samples(evidence: Evidence, method: MethodEvidence) -> Samples:
    return Samples(
        evidence.finals, evidence.truth, method.wide, method.strengths, method.centre, are_rates=method.are_rates,
        reference=None if method.last is None else _reference(evidence, method),
    )  # fmt: skip


def _reference(evidence: Evidence, method: MethodEvidence) -> Labels:
    """Labels [n, N] of what a method's accuracy is measured against: of one that trains on, the better of a run's final
    and the method's last iterate, for it has trained longer."""
    last = method.last
    return evidence.finals if last is None else np.where(last.better[:, None], last.labels, evidence.finals)


def at_equal_accuracy(evidence: Evidence, method: MethodEvidence) -> EqualAccuracy:
    """What one method reaches around all these runs at the strength where it costs one point of accuracy."""
    return _samples(evidence, method).sums().point()


def _more_diverse(letter: str, evidence: Evidence, margin: float) -> Claim | None:
    """(d1) For every method ln(D_b / D_q): disagreement of finals, and of the method's samples with their own solution,
    at the strength where they cost on average one point of accuracy: a point given for free, which makes the claim
    harder. (d2) ln(D_b / P_q): the same of two samples of one run, which is what averaging them uses."""
    return _over_methods(letter, evidence, margin, _of_all_strengths, partial(_reaches, letter, margin=margin))


def _reaches(letter: str, evidence: Evidence, method: MethodEvidence, *, margin: float) -> Finding:
    assert evidence.redrawn is not None  # the gate is open
    own, across, everyone = evidence.redrawn.methods[method.name], _apart(evidence.finals), np.arange(evidence.units)
    data, top, n = own.sums.point(), evidence.redrawn.between.whole, evidence.units
    value, redrawn = (data.distance, own.distance) if letter == "d1" else (data.among, own.among)

    def reached(runs: Runs, cost: float = COST) -> float:
        found = own.sums.read(runs, cost=cost)
        return float((found.distance if letter == "d1" else found.among)[0])

    def ratio(runs: Runs, cost: float = COST) -> float:
        return log_of_ratio(across.mean(runs), reached(runs, cost))

    level = estimate(reached, n, margin=0.0, redrawn=redrawn.whole)
    numbers = {
        "independent runs": across.mean(everyone),
        f"{REACHED[letter]} at equal accuracy": value,
        "its lower end": max(level.low, 0.0),
        "its upper end": level.high,
        **({"of which the centre's own distance": data.centre} if letter == "d1" and method.centre is not None else {}),
        "strength there": data.strength,
        "samples below": float(data.below),
        "samples beyond": float(data.beyond),
    }
    if method.last is not None:
        numbers |= {
            "accuracy of the runs": float((evidence.finals == evidence.truth).mean()),
            "accuracy of the method's last iterates": float((method.last.labels == evidence.truth).mean()),
            "runs whose last iterate is the reference": float(method.last.better.sum()),
        }
    gate = _support_gate(method, own.sums, data)
    if gate:
        return _closed(method, gate, numbers)
    with np.errstate(divide="ignore", invalid="ignore"):
        draws = np.where((top > 0) & (redrawn.whole > 0), np.log(top) - np.log(redrawn.whole), np.nan)
    found = estimate(ratio, n, margin=margin, redrawn=draws)
    for cost in (COST / 2, 2 * COST):
        numbers[f"ratio at {100 * cost:g} points"] = math.exp(min(ratio(everyone, cost), 700.0))
    if data.support == "range too short" and found.word != "does not hold":
        gate = (
            f"even the strongest sample (at {data.strength:.3g}) costs less than {100 * COST:g} point: "
            + ("ask for wide samples (spread)" if method.stands_in else "draw stronger ones (spread_max)")
            if method.strengths is not None
            else "the method has no strength, so it may reach more than it shows: only `does not hold` could be told"
        )
        return Finding(method.name, method.title, "cannot tell", gate, found, gate, _finite(numbers))
    return _finding(letter, method, found, numbers)


def _support_gate(method: MethodEvidence, sums: Sums, data: EqualAccuracy) -> str:
    """Why nothing can be read at equal accuracy, and what would change that; "" when it can."""
    if data.support == "no common support":
        start = float((sums.loss if method.strengths is None else sums.start_loss)[:, 0].mean())
        return (
            f"never as accurate as the runs: it costs {100 * start:.1f} points before it differs at all; snapshots "
            "from a later or longer window (training.snapshot_window, epochs) would start nearer"
        )
    if data.support == "too few samples":
        return (
            f"{data.below} samples cost less than {100 * COST:g} point and {data.beyond} more, at least 5 and 3 are "
            f"needed: draw strengths between 0 and {2 * data.strength:.3g}, or more spread samples"
        )
    return ""


def _gains_more(evidence: Evidence, margin: float) -> Claim | None:
    """(e1) For every method rho = G_q / G_ens(4) below 0.9: Brier score gained by averaging a run's samples, and by an
    ensemble of 4 runs (`Members.ensemble_gain`, which exists from 3 runs on). Averaging that loses is below, too."""
    return _gains(evidence, "e1", margin)


def _add_up(evidence: Evidence, margin: float) -> Claim | None:
    """(e2) For some method kappa = G_both(4) / G_ens(4) - 1 above 0.05: what averaging the samples inside each run
    adds to an ensemble of 4."""
    return _gains(evidence, "e2", margin)


def _gains(evidence: Evidence, letter: str, margin: float) -> Claim | None:
    if evidence.members is None:
        return None
    return _over_methods(letter, evidence, margin, _sampled, partial(_gain, letter, margin=margin))


def _gain(letter: str, evidence: Evidence, method: MethodEvidence, *, margin: float) -> Finding:
    finals, own = evidence.members, method.members
    if method.fewest < MIN_SAMPLES or own is None or finals is None:
        return _closed(method, _too_few_samples(method))
    reference = finals.brier if method.last is None else method.last.reference(finals.brier)
    alone, n = reference.less(own.brier), evidence.units
    accuracy = float((_reference(evidence, method) == evidence.truth).mean())

    def top(gained: Any, of_samples: Any, of_finals: Any) -> Any:
        """What is compared with the ensemble's gain, as numbers or example by example."""
        return gained if letter == "e1" else gained + of_samples - of_finals

    def relative(runs: Runs) -> float:
        ensemble = finals.ensemble_gain(runs)
        gained = top(alone.mean(runs), own.ensemble_gain(runs), ensemble)
        return float(gained / ensemble) if ensemble > 0 else math.nan

    of_samples, of_finals = SHARE * own.gaps.examples, SHARE * finals.gaps.examples
    found = estimate(
        relative,
        n,
        margin=margin,
        influence=_ratio_influence(top(alone.examples, of_samples, of_finals), of_finals),
        undefined=share_without(of_finals),
        above=letter == "e2",
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
    finding = _finding(letter, method, found, numbers)
    if letter == "e1" and method.strength == 0 and not finding.gate:
        whose = "" if method.centre is None else "; what remains is the gain of the mean they are drawn around"
        finding = replace(finding, because=f"averaging its samples gains nothing: strength 0 predicts best{whose}")
    return finding


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


def _largest_js(evidence: Evidence, margin: float) -> Claim | None:
    """(f1) For every method ln(J_b / J_q): divergence of two runs, and of two samples of one run."""
    if evidence.js is None:
        return None

    def found(part: Evidence, method: MethodEvidence) -> Finding:
        if method.strength == 0:
            return _closed(method, _ALIKE)
        if method.fewest < MIN_SAMPLES or method.js is None or part.js is None:
            return _closed(method, _too_few_samples(method))
        return _js_ratio(method, part.js, method.js, part.units, margin)

    return _over_methods("f1", evidence, margin, _sampled, found)


_ALIKE = (
    "averaging its samples is best at strength 0, where all samples of a run are one function: there is no divergence "
    "to compare (evaluation.averaged: typical compares its narrow samples)"
)


def _js_ratio(method: MethodEvidence, across: OverPairs, within: OverRuns, n: int, margin: float) -> Finding:
    found = log_ratio(across, within, n, margin=margin)
    numbers = {
        "between two runs (nats)": across.mean(np.arange(n)),
        "between two samples of a run (nats)": within.mean(np.arange(n)),
    }
    return _finding("f1", method, found, numbers)


def _more_under_shift(evidence: ShiftEvidence, margin: float, *, first: float) -> Claim | None:
    """(f2) For every method (J_b - J_q) under shift minus 1.1 (J_b - J_q) on clean images, above 0, where (f1) holds.

    Linear, because the ratio form covers badly when a run has failed.
    """

    @cache
    def between(part: ShiftEvidence) -> tuple[OverPairs, OverPairs]:
        """Of two of its runs, on clean images and under shift."""
        clean, shifted = (
            OverPairs.of(part.units, lambda i, j, values=values: values[i, j], part.examples)  # type: ignore[misc]
            for values in (part.clean_between, part.shifted_between)
        )
        return clean, shifted

    def found(part: ShiftEvidence, method: MethodEvidence) -> Finding:
        if method.name in part.alike:
            return _closed(method, _ALIKE)
        (clean, shifted), own = between(part), OverRuns.of(part.clean_within[method.name])
        alone = _js_ratio(method, clean, own, part.units, first)
        if alone.word != "holds":
            why = f"asked only where (f1) holds, and on these clean images: {alone.because}"
            return _closed(method, why, alone.parts)
        own_shifted = OverRuns.of(part.shifted_within[method.name])
        return _contrast(method, clean, own, shifted, own_shifted, part.units, margin)

    return _over_methods("f2", evidence, margin, lambda part: part.methods, found)


def _contrast(
    method: MethodEvidence,
    clean: OverPairs,
    own: OverRuns,
    shifted: OverPairs,
    own_shifted: OverRuns,
    n: int,
    margin: float,
) -> Finding:
    def contrast(runs: Runs) -> float:
        return shifted.mean(runs) - own_shifted.mean(runs) - 1.1 * (clean.mean(runs) - own.mean(runs))

    influence = shifted.examples - own_shifted.examples - 1.1 * (clean.examples - own.examples)
    everyone = np.arange(n)
    numbers = {
        "between runs minus within, under shift (nats)": shifted.mean(everyone) - own_shifted.mean(everyone),
        "the same on clean images (nats)": clean.mean(everyone) - own.mean(everyone),
    }
    return _finding("f2", method, estimate(contrast, n, margin=margin, influence=influence), numbers)


def _weights_matter_more(evidence: SeedsEvidence, margin: float) -> Claim | None:
    """(g) ln(sum_r d(A_r, B_r) / sum_r d(A_r, C_r)) over repetitions, the units."""
    n, base = evidence.units, _asked("g", evidence, margin)
    base = replace(base, estimand=f"{base.estimand}, at learning rate {evidence.learning_rate:g}")
    apart = {name: OverRuns.of(evidence.arms["A"] != labels) for name, labels in evidence.arms.items() if name != "A"}
    everyone = np.arange(n)
    gate = _gate(evidence, (apart["B"].mean(everyone) + apart["C"].mean(everyone)) / 2)
    if gate:
        return replace(base, because=gate)
    found = log_ratio(apart["B"], apart["C"], n, margin=margin)
    titles = {"B": "other initial weights", "C": "other batches", "D": "both others"}
    numbers = {title: apart[name].mean(everyone) for name, title in titles.items() if name in apart}
    return _answer(_with(base, found, numbers), found)


def _cycles_alike(evidence: ChainEvidence, margin: float) -> Claim | None:
    """(h) ln(D_ind / D_cyc): last samples of cycles c < c' of two chains, both orders, and of one chain.

    Training length and accuracy are equal by construction. Beside it, without a word, the same against separately
    trained runs, whose own variation then counts too.
    """
    base = _asked("h", evidence, margin)
    chains, cycles = evidence.labels.shape[:2]
    if cycles < 2:
        return replace(base, because="a chain has one cycle: at least 2 are needed (the method's cycles)")
    if chains < MIN_UNITS:  # or none at all, where every one failed
        return replace(base, because=_too_few(evidence))
    first, second = np.triu_indices(cycles, 1)

    def apart(k: int, m: int) -> Floats:
        """Of the earlier cycles of one chain and the later ones of another, example by example [N]."""
        return np.asarray((evidence.labels[k][first] != evidence.labels[m][second]).mean(axis=0))

    others = OverPairs.of(chains, lambda k, m: (apart(k, m) + apart(m, k)) / 2, evidence.examples)
    own = OverRuns.of(np.stack([apart(k, k) for k in range(chains)]))
    everyone = np.arange(chains)
    gate = _gate(evidence, others.mean(everyone))
    if gate:
        return replace(base, because=gate)
    found = log_ratio(others, own, chains, margin=margin)
    numbers = {"across chains": others.mean(everyone), "between cycles of a chain": own.mean(everyone)}
    if evidence.finals is not None and len(evidence.finals) >= MIN_UNITS:
        numbers |= _against_runs(_apart(evidence.finals), own, len(evidence.finals), chains)
    claim = _answer(_with(base, found, numbers), found)
    return replace(claim, qualifier="; ".join(filter(None, (claim.qualifier, _beside_runs(claim)))))


def _beside_runs(claim: Claim) -> str:
    """What separately trained runs say where their whole interval lies beyond the margin from the claim's word."""
    low, high = (claim.parts.get(f"its {end} end") for end in ("lower", "upper"))
    if low is None or high is None:
        return ""
    limit = math.exp(claim.margin)
    if not ((claim.word == "holds" and high < limit) or (claim.word == "does not hold" and low > limit)):
        return ""
    ratio = claim.parts["ratio to those runs"]
    return f"but separately trained runs differ {ratio:.2f} times as much as cycles ({low:.2f} to {high:.2f})"


def _against_runs(apart: OverPairs, cycles: OverRuns, runs: int, chains: int) -> dict[str, float]:
    """ln(D of separate runs / D_cyc) with its interval: both kinds of unit vary, and the examples (science o.4)."""
    fixed, of_chains = apart.mean(np.arange(runs)), cycles.mean(np.arange(chains))
    value = log_of_ratio(fixed, of_chains)
    variance = (
        jackknife(lambda kept: log_of_ratio(fixed, cycles.mean(kept)), chains)
        + jackknife(lambda kept: log_of_ratio(apart.mean(kept), of_chains), runs)
        + variance_of_examples(log_ratio_influence(apart.examples, cycles.examples))
    )
    half = t_quantile(1 - LEVEL, min(chains, runs) - 1) * math.sqrt(variance) if math.isfinite(variance) else math.nan
    return {
        "across separately trained runs": fixed,
        "ratio to those runs": math.exp(value),
        "its lower end": math.exp(value - half),
        "its upper end": math.exp(value + half),
    }


# ------------------------------------------------------------------------------------------ shared parts of the claims


def _asked(letter: str, evidence: _Units, margin: float) -> Claim:
    question = QUESTIONS[letter]
    return Claim(
        letter, question.title, question.estimand, "cannot tell", "", margin, evidence.units, evidence.examples,
        evidence.unit,
    )  # fmt: skip


def _sampled(evidence: Evidence) -> list[MethodEvidence]:
    """Methods of which typical samples were asked for."""
    return [method for method in evidence.methods if any(len(samples) for samples in method.near)]


def _apart(labels: Labels) -> OverPairs:
    """Disagreement of each pair of rows of labels [S, N]."""
    return OverPairs.of(len(labels), lambda i, j: labels[i] != labels[j], labels.shape[1])


def _cross(samples: Labels, finals: Labels) -> NDArray[np.bool_]:
    """Where samples [S, N] differ from finals [n, N]: [S, n, N]."""
    return np.asarray(samples[:, None] != finals[None])


def _common_gate(evidence: _Units, across: OverPairs, *, examples: int = MIN_EXAMPLES) -> str:
    return _gate(evidence, across.mean(np.arange(evidence.units)), examples=examples)


def _gate(evidence: _Units, disagreement: float, *, examples: int = MIN_EXAMPLES) -> str:
    """Why no claim about functions can be answered, and what would change that; "" when it can (science o.3)."""
    if evidence.units < MIN_UNITS:
        return _too_few(evidence)
    if evidence.examples < examples:
        return f"{evidence.examples} test images, at least {examples} are needed: raise data.test_images"
    disagreeing = disagreement * evidence.examples
    if disagreeing < MIN_DISAGREEING:
        return (
            f"two {evidence.unit}s disagree on {disagreeing:.1f} images in the mean, at least {MIN_DISAGREEING} are "
            "needed: use more test images, or harder ones"
        )
    return ""


def _counted(count: int, unit: str) -> str:
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"


def _too_few(evidence: _Units) -> str:
    return (
        f"{_counted(evidence.units, evidence.unit)}: at least {MIN_UNITS} are needed to measure how {evidence.unit}s "
        f"vary; raise {evidence.raised_by}"
    )


def _too_few_samples(method: MethodEvidence) -> str:
    which = "typical " if method.drawn is None else ""
    return (
        f"a run has {method.fewest} {which}samples, at least {MIN_SAMPLES} are needed: ask for more of them, or for "
        "smaller strengths where the accuracy floor refused them"
    )


def _closed(method: MethodEvidence, gate: str, parts: Mapping[str, float] | None = None) -> Finding:
    return Finding(method.name, method.title, "cannot tell", gate, None, gate, _finite(parts or {}))


def _with(claim: Claim, found: Estimate, parts: Mapping[str, float]) -> Claim:
    return replace(
        claim,
        estimate=_number(found.value),
        low=_number(found.low),
        high=_number(found.high),
        parts={**claim.parts, **_finite(parts)},
    )


def _answer(claim: Claim, found: Estimate) -> Claim:
    """The word of a claim with one estimate."""
    p = min(found.p_holds, found.p_fails) if found.exists else None
    return replace(claim, word=found.word, because=_because(claim.id, found), p=p, qualifier=_qualifier(found))


def _because(letter: str, found: Estimate) -> str:
    if not found.exists:
        return (
            f"the quantity is undefined in {100 * found.undefined:.0f} % of the redraws, or without some run: more "
            "runs or more test images would define it"
        )
    margin = QUESTIONS[letter].say(found.margin)
    if found.word == "cannot tell":
        return f"the interval crosses {margin}: more runs or more test images would narrow it"
    return f"the whole interval lies {'above' if (found.word == 'holds') == found.above else 'below'} {margin}"


def _qualifier(found: Estimate) -> str:
    if found.word != "does not hold":
        return ""
    if found.above:
        return "there is an effect, but below the margin" if found.low > 0 else ""
    return "there is an effect, but short of the margin" if found.high < 1 else ""


def _finding(letter: str, method: MethodEvidence, found: Estimate, parts: Mapping[str, float]) -> Finding:
    gate = "" if found.exists else _because(letter, found)
    return Finding(method.name, method.title, found.word, _because(letter, found), found, gate, _finite(parts))


def _told(findings: Sequence[Finding]) -> tuple[list[tuple[Finding, Estimate]], list[Finding]]:
    """Findings whose gates are open, with their estimates, and the others."""
    opened = [(f, f.estimate) for f in findings if not f.gate and f.estimate is not None]
    return opened, [f for f in findings if f.gate or f.estimate is None]


def _tested(findings: Sequence[Finding]) -> list[tuple[Finding, Estimate]]:
    """Findings whose interval could have given a word: gates open, or "does not hold" alone could be told."""
    return [(f, f.estimate) for f in findings if f.estimate is not None and f.estimate.exists]


def _over_methods(
    letter: str,
    evidence: R,
    margin: float,
    asked: Callable[[R], Sequence[MethodEvidence]],
    find: Callable[[R, MethodEvidence], Finding],
    *,
    examples: int = MIN_EXAMPLES_ACCURACY,
) -> Claim | None:
    """A claim over methods, each judged on the runs it has; None where it is asked of none."""
    if not any(asked(part) for part in evidence.parts):
        return None
    base, findings = _asked(letter, evidence, margin), []
    for part in evidence.parts:
        gate = _common_gate(part, _apart(part.finals), examples=examples)
        if gate and part is evidence:
            return replace(base, because=gate)
        own = [_closed(method, gate) if gate else find(part, method) for method in asked(part)]
        findings += own if part is evidence else [replace(finding, n=part.units) for finding in own]
    return _some_method(base, findings) if QUESTIONS[letter].joins == "some" else _every_method(base, findings)


def _shown(base: Claim, findings: Sequence[Finding]) -> Claim:
    """The claim with all its methods and the numbers of the one on which it stands or falls: nearest to failing (or,
    where one method is enough, to holding) by its interval, at equal accuracy by the number itself."""
    opened, _ = _told(findings)
    known = opened or _tested(findings)
    claim = replace(base, methods=tuple(findings))
    if not known:
        return claim
    by_number, choose = base.id in REACHED, max if QUESTIONS[base.id].joins == "some" else min
    finding, found = choose(known, key=lambda pair: pair[1].value if by_number else pair[1].room)
    return replace(_with(claim, found, finding.parts), n=finding.n or base.n)


def _every_method(base: Claim, findings: Sequence[Finding]) -> Claim:
    """A claim that must hold for every method (science o.6): intersection-union, and Bonferroni for `does not hold`."""
    (opened, closed), tested = _told(findings), _tested(findings)
    claim = _shown(base, findings)
    if tested:
        failing, worst = min(tested, key=lambda pair: pair[1].p_fails)
        p_fails = min(1.0, len(tested) * worst.p_fails)
        claim = replace(claim, p=p_fails if closed else min(p_fails, max(found.p_holds for _, found in opened)))
        if p_fails <= LEVEL:
            return replace(
                _with(replace(claim, parts={}), worst, failing.parts),
                word="does not hold",
                because=f"{failing.title}: {_because(base.id, worst)}",
                p=p_fails,
                qualifier=_qualifier(worst),
                n=failing.n or base.n,
            )
    if not opened:
        return replace(claim, because="; ".join(f"{f.title}: {f.gate}" for f in closed))
    undecided = [finding for finding, _ in opened if finding.word != "holds"]
    if undecided:
        return replace(claim, because="; ".join(f"{f.title}: {_why(f)}" for f in (*undecided, *closed)))
    if closed:
        others = ", ".join(finding.title for finding, _ in opened)
        gates = "; ".join(f"{f.title}: {f.gate}" for f in closed)
        return replace(claim, qualifier="holds for the others", because=f"holds for {others}; {gates}")
    side = "above" if opened[0][1].above else "below"
    return replace(
        claim, word="holds",
        because=f"for every method the whole interval lies {side} {QUESTIONS[base.id].say(base.margin)}",
    )  # fmt: skip


def _some_method(base: Claim, findings: Sequence[Finding]) -> Claim:
    """A claim that must hold for at least one method: Holm over methods; `does not hold` when it fails for all."""
    opened, closed = _told(findings)
    claim = _shown(base, findings)
    if not opened:
        return replace(claim, because="; ".join(f"{f.title}: {f.gate}" for f in closed))
    p_holds = min(1.0, len(opened) * min(found.p_holds for _, found in opened))
    claim = replace(claim, p=p_holds if closed else min(p_holds, max(found.p_fails for _, found in opened)))
    standing = holm({finding.method: found.p_holds for finding, found in opened})
    margin = QUESTIONS[base.id].say(base.margin)
    if standing:
        names = ", ".join(finding.title for finding, _ in opened if finding.method in standing)
        return replace(claim, word="holds", because=f"{names}: the whole interval lies above {margin}")
    undecided = [finding for finding, _ in opened if finding.word != "does not hold"]
    if undecided or closed:
        return replace(claim, because="; ".join(f"{f.title}: {_why(f)}" for f in (*undecided, *closed)))
    best = max((found for _, found in opened), key=lambda found: found.room)
    return replace(
        claim, word="does not hold", qualifier=_qualifier(best),
        because=f"for every method the whole interval lies below {margin}",
    )  # fmt: skip


def _why(finding: Finding) -> str:
    """Why one method leaves a claim open: for the word it has alone, too many methods were asked."""
    if finding.word == "cannot tell":
        return finding.because
    return f"{finding.because}, but not once the number of methods is allowed for: more runs would tell"


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _finite(parts: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in parts.items() if math.isfinite(value)}
