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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modescape.science.health import at_chance
from modescape.science.inference import (
    COST,
    DRAWS,
    LEVEL,
    ROUNDING,
    EqualAccuracy,
    Estimate,
    Floats,
    Runs,
    Statistic,
    Word,
    equal_accuracy_disagreement,
    estimate,
    example_weights,
    holm,
    jackknife,
    log_ratio,
    pairs,
    t_quantile,
    weighted,
    weighted_sum,
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
MEMBERS = 4  # size of the ensemble whose gain the subspace's is compared with (claim e)
SUBSETS = 100
_VALUES = 1 << 19  # probabilities handled at a time


# ------------------------------------------------------------------------------------------------------ the questions


@dataclass(frozen=True)
class Question:
    """A claim of the paper before any data: margin in the estimand's own unit; ratio: the estimand is ln of a ratio;
    side: where the interval must lie for the claim to hold."""

    title: str
    estimand: str
    margin: float
    ratio: bool = False
    side: str = "above"

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
        "a sample's disagreement with other runs / with its own", math.log(1.25), ratio=True,
    ),
    "d": Question(
        "At equal accuracy independent runs are more diverse than every subspace method",
        f"disagreement of runs / of samples that cost {100 * COST:g} point of accuracy", math.log(1.1), ratio=True,
    ),
    "e1": Question(
        "Ensembling gains more than averaging subspace samples",
        f"Brier gain of averaging a run's samples / of an ensemble of {MEMBERS}", 0.9, side="below",
    ),
    "e2": Question(
        "Ensembling and subspace sampling add up",
        f"Brier gain of an ensemble of {MEMBERS} of averaged samples / of {MEMBERS} runs, minus 1", 0.05,
    ),
    "f1": Question(
        "Jensen-Shannon divergence is largest between independent runs",
        "JS between two runs / between two samples of one run", math.log(1.25), ratio=True,
    ),
    "f2": Question(
        "The more so under shift",
        "JS between runs minus JS between samples, in nats: under shift, less 1.1 times that on clean images", 0.0,
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
class _Units:
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
    def _trained(self) -> Labels:
        """Labels [n, functions, N] of what must not have failed."""
        raise NotImplementedError

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
class Members:
    """One function a run, reduced to what averaging them gains: means under every column of `example_weights`.

    brier [n, 1 + draws]; gaps [n, n, 1 + draws]: sum over classes of (p_i - p_j)^2; accuracy of one, and together: of
    the average of min(4, n) of them, both means (of the subsets; NaN once a run has been left out).
    """

    brier: Floats
    gaps: Floats
    accuracy: float
    together: float

    @classmethod
    def of(
        cls,
        functions: Sequence[Function],
        truth: Labels,
        weights: NDArray[np.float32],
        *,
        check: Callable[[], None] = lambda: None,
    ) -> Members:
        """Reads the functions block by block, so memory grows neither with N nor with K."""
        n, examples = len(functions), len(truth)
        subsets = list(combinations(range(n), min(MEMBERS, n)))
        if len(subsets) > SUBSETS:
            chosen = np.random.Generator(np.random.Philox(0)).choice(len(subsets), SUBSETS, replace=False)
            subsets = [subsets[i] for i in chosen]
        brier, gaps = np.zeros((n, weights.shape[1])), np.zeros((n, n, weights.shape[1]))
        correct = together = 0
        for part in _blocks(functions, examples):
            check()
            p = np.stack([function(part) for function in functions])  # [n, b, K]
            y = truth[part]
            own = np.take_along_axis(p, np.broadcast_to(y, (n, len(y)))[..., None], axis=2)[..., 0]
            brier += weighted_sum(np.square(p).sum(axis=2) - 2 * own + 1, weights[part])
            for i in range(n - 1):
                found = weighted_sum(np.square(p[i + 1 :] - p[i]).sum(axis=2), weights[part])
                gaps[i, i + 1 :] += found
                gaps[i + 1 :, i] += found
            correct += int((p.argmax(axis=2) == y).sum())
            together += sum(int((p[list(s)].mean(axis=0).argmax(axis=1) == y).sum()) for s in subsets)
        return cls(brier / examples, gaps / examples, correct / (n * examples), together / (len(subsets) * examples))

    def without(self, run: int) -> Members:
        brier, gaps = np.delete(self.brier, run, 0), np.delete(np.delete(self.gaps, run, 0), run, 1)
        return Members(brier, gaps, math.nan, math.nan)

    def ensemble_gain(self, runs: Runs, draws: slice) -> Floats:
        """Mean single Brier score minus that of an ensemble of 4, over all its choices (the ambiguity identity)."""
        return np.asarray((1 - 1 / MEMBERS) / 2 * _mean_pair(self.gaps[:, :, draws], runs))


def divergence(
    functions: Sequence[Function], weights: NDArray[np.float32], *, check: Callable[[], None] = lambda: None
) -> Floats:
    """Jensen-Shannon divergence of each pair of functions, nats, [F, F, 1 + draws], read block by block."""
    count, examples = len(functions), len(weights)
    first, second = np.triu_indices(count, 1)
    result = np.zeros((count, count, weights.shape[1]))
    for part in _blocks(functions, examples) if count > 1 else ():
        check()
        result[first, second] += weighted_sum(_pair_js(functions, part), weights[part])
    return np.asarray((result + result.transpose(1, 0, 2)) / examples)


def mean_divergence(
    functions: Sequence[Function], weights: NDArray[np.float32], *, check: Callable[[], None] = lambda: None
) -> Floats:
    """The mean of `divergence` over pairs, [1 + draws]; NaN for a single function."""
    if len(functions) < 2:
        return np.full(weights.shape[1], np.nan)
    result = np.zeros(weights.shape[1])
    for part in _blocks(functions, len(weights)):
        check()
        result += weighted_sum(_pair_js(functions, part).mean(axis=0), weights[part])
    return result / len(weights)


def _pair_js(functions: Sequence[Function], part: slice) -> Floats:
    """Divergence of every pair i < j on every example of a block, [pairs, b]."""
    p = np.stack([function(part) for function in functions])
    entropies = entropy(p)
    rows = [entropy((p[i] + p[i + 1 :]) / 2) - (entropies[i] + entropies[i + 1 :]) / 2 for i in range(len(p) - 1)]
    return np.asarray(np.maximum(np.concatenate(rows), 0.0))


def _blocks(functions: Sequence[Function], examples: int) -> list[slice]:
    rows = max(1, _VALUES // (len(functions) * functions[0](slice(0, 1)).shape[1]))
    return [slice(start, start + rows) for start in range(0, examples, rows)]


@dataclass(frozen=True, eq=False)
class MethodEvidence:
    """What one subspace method predicted around each run, in the order of the runs.

    near: labels of typical samples, one [S_i, N] a run (claims c, e, f); wide: labels of samples of all strengths, one
    [S_i, N] a run, with their strengths [S_i] (claim d; None for a method that has no strength); centre: labels of
    the weight average [n, N] for methods centred there, None for those centred at the optimum itself; members: the
    average of `averaged` typical samples of each run; js [n, 1 + draws]: mean divergence of two of a run's samples.
    """

    name: str
    title: str
    near: Sequence[Labels] = ()
    wide: Sequence[Labels] = ()
    strengths: Sequence[ArrayLike] | None = None
    centre: Labels | None = None
    averaged: int = 0
    members: Members | None = None
    js: Floats | None = None

    @property
    def fewest(self) -> int:
        """Typical samples in the run that has the fewest."""
        return min((len(samples) for samples in self.near), default=0)

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
            js=None if self.js is None else np.delete(self.js, run, axis=0),
        )


@dataclass(frozen=True, eq=False)
class Evidence(_Units):
    """Predictions of runs that differ in seeds only, on the same N examples (claims a to f1).

    finals: labels [n, N] of last checkpoints; cosine [n, n] of the finals' weights (kernels only with batch norm), or
    None; windows: labels [T_i, N] of each run's recent snapshots, empty when there are none, and rates: the learning
    rates at the window's start and end; members and js [n, n, 1 + draws]: the finals' probabilities, reduced.
    """

    finals: Labels
    cosine: Floats | None = None
    windows: Sequence[Labels] = ()
    methods: tuple[MethodEvidence, ...] = ()
    rates: tuple[float, float] | None = None
    members: Members | None = None
    js: Floats | None = None

    @property
    def _trained(self) -> Labels:
        return self.finals[:, None]

    def without(self, unit: int) -> Self:
        return replace(
            super().without(unit),
            finals=np.delete(self.finals, unit, axis=0),
            cosine=None if self.cosine is None else np.delete(np.delete(self.cosine, unit, 0), unit, 1),
            windows=_drop(self.windows, unit),
            methods=tuple(method.without(unit) for method in self.methods),
            members=None if self.members is None else self.members.without(unit),
            js=None if self.js is None else np.delete(np.delete(self.js, unit, 0), unit, 1),
        )


@dataclass(frozen=True, eq=False)
class ShiftEvidence(_Units):
    """Jensen-Shannon divergences of pairs, per image, on clean and on corrupted images (claim f2).

    finals: labels [n, N] of last checkpoints on the clean images; clean_between, shifted_between [n, n, N]: of two
    runs; clean_within, shifted_within: method -> [n, N], mean over the pairs of a run's samples. Under shift: the mean
    over types and intensities 1 to 5. titles: method -> title.
    """

    finals: Labels
    clean_between: Floats
    shifted_between: Floats
    clean_within: Mapping[str, Floats]
    shifted_within: Mapping[str, Floats]
    titles: Mapping[str, str]

    @property
    def _trained(self) -> Labels:
        return self.finals[:, None]

    def without(self, unit: int) -> Self:
        def fewer(values: Mapping[str, Floats]) -> dict[str, Floats]:
            return {name: np.delete(value, unit, axis=0) for name, value in values.items()}

        return replace(
            super().without(unit),
            finals=np.delete(self.finals, unit, axis=0),
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


def _drop(values: Sequence[Any], unit: int) -> tuple[Any, ...]:
    return tuple(value for i, value in enumerate(values) if i != unit)


# ----------------------------------------------------------------------------------------------------- conclusions


@dataclass(frozen=True)
class Finding:
    """One method's part in a claim over methods. gate: why it cannot be told, "" while its gates are open."""

    method: str
    title: str
    word: Word
    because: str
    estimate: Estimate | None
    gate: str = ""
    parts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """One claim of the paper, answered.

    estimate, low, high, margin: in the estimand's own unit (for a claim over methods, of the one on which it stands
    or falls), None when there is none; n units, N examples; parts: the numbers behind the estimate; p: of the word
    given; qualifier: a shade the word leaves out; rests_on: units without which the word would be another.
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
Decision = Callable[[U, float], Claim | None]


def judge(evidence: Evidence, *, margins: Mapping[str, float] | None = None) -> tuple[Claim, ...]:
    """Every claim this evidence can be asked about, with the runs each word rests on; margins replace the defaults."""
    decisions: dict[str, Decision[Evidence]] = {
        "a": _orthogonal,
        "b": _alike_along,
        "c": _stay_near,
        "d": _more_diverse,
        "e1": _gains_more,
        "e2": _add_up,
        "f1": _largest_js,
    }
    return _judged(evidence, decisions, margins)


def judge_shift(evidence: ShiftEvidence, *, margins: Mapping[str, float] | None = None) -> tuple[Claim, ...]:
    """Claim (f2)."""
    first = (margins or {}).get("f1", QUESTIONS["f1"].margin)
    return _judged(evidence, {"f2": partial(_more_under_shift, first=first)}, margins)


def judge_seeds(evidence: SeedsEvidence, *, margins: Mapping[str, float] | None = None) -> tuple[Claim, ...]:
    """Claim (g), at one learning rate."""
    return _judged(evidence, {"g": _weights_matter_more}, margins)


def judge_chains(evidence: ChainEvidence, *, margins: Mapping[str, float] | None = None) -> tuple[Claim, ...]:
    """Claim (h)."""
    return _judged(evidence, {"h": _cycles_alike}, margins)


def _judged(
    evidence: U, decisions: Mapping[str, Decision[U]], margins: Mapping[str, float] | None
) -> tuple[Claim, ...]:
    kept = evidence.without_failed()
    claims = []
    for letter, decide in decisions.items():
        margin = (margins or {}).get(letter, QUESTIONS[letter].margin)
        claim = decide(kept, margin)
        if claim is None:
            continue
        if claim.word != "cannot tell" and kept.units > MIN_UNITS:
            others = [decide(kept.without(unit), margin) for unit in range(kept.units)]
            words = [None if other is None else other.word for other in others]
            claim = replace(
                claim, rests_on=tuple(kept.numbers[i] for i, word in enumerate(words) if word != claim.word)
            )
        if kept.failed:
            failed = f"{kept.failed} of {_counted(kept.units + kept.failed, kept.unit)} failed and were left out"
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
    if n < MIN_UNITS:
        return replace(base, because=_too_few(evidence))

    def mean_cosine(runs: Runs, draws: slice) -> Floats:
        return np.atleast_1d(cosines[pairs(runs)].mean())

    above = estimate(mean_cosine, n, margin=margin)
    below = estimate(mean_cosine, n, margin=-margin)
    largest = float(np.abs(cosines[pairs(np.arange(n))]).max())
    known = _with(base, above, {"largest |cosine|": largest})
    if not math.isfinite(above.error):
        return replace(
            known, because="a cosine is undefined: some weights are all zero or not finite; train those runs again"
        )
    if -margin < above.low and above.high < margin:
        return replace(
            known, word="holds", p=max(above.p_fails, below.p_holds),
            because=f"the whole interval lies within ±{margin:g}",
        )  # fmt: skip
    if above.low > margin or above.high < -margin:
        return replace(
            known, word="does not hold", p=min(above.p_holds, below.p_fails),
            because=f"the whole interval lies outside ±{margin:g}",
        )  # fmt: skip
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
    weights = example_weights(evidence.examples, seed=evidence.seed)
    across = _pair_disagreements(evidence.finals, weights)
    gate = _common_gate(evidence, across)
    if gate:
        return replace(base, because=gate)
    within = np.stack(
        [_mean_pair(_pair_disagreements(window, weights), np.arange(len(window))) for window in evidence.windows]
    )

    def ratio(runs: Runs, draws: slice) -> Floats:
        return log_ratio(_mean_pair(across[:, :, draws], runs), within[runs, draws].mean(axis=0))

    found = estimate(ratio, n, margin=margin, draws=DRAWS)
    numbers = {
        "across runs": float(_mean_pair(across, np.arange(n))[0]),
        "within a run": float(within[:, 0].mean()),
    }
    if evidence.rates is not None:  # a rate of almost 0 makes a window alike for free
        numbers |= {"learning rate at the window's start": evidence.rates[0], "at its end": evidence.rates[1]}
    return _answer(_with(base, found, numbers), found)


def _stay_near(evidence: Evidence, margin: float) -> Claim | None:
    """(c) For every method ln(O_q / S_q): disagreement of a sample with the other runs' finals, and with its own.

    Only samples within 0.05 of their run's accuracy count, at least 3 of them in every run.
    """
    methods = _sampled(evidence)
    if not methods:
        return None
    base = _asked("c", evidence, margin)
    weights = example_weights(evidence.examples, seed=evidence.seed)
    gate = _common_gate(evidence, _pair_disagreements(evidence.finals, weights[:, :1]))
    if gate:
        return replace(base, because=gate)
    return _every_method(base, [_stays(evidence, method, weights, margin) for method in methods])


def _stays(evidence: Evidence, method: MethodEvidence, weights: NDArray[np.float32], margin: float) -> Finding:
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
    # [run of the sample, run of the final, draw]: the mean over that run's samples
    gaps = np.stack([_cross(samples, evidence.finals, weights).mean(axis=0) for samples in usable])
    own_is_nearest = [
        _cross(samples, evidence.finals, weights[:, :1])[..., 0].argmin(axis=1) == i for i, samples in enumerate(usable)
    ]

    def parts(runs: Runs, draws: slice) -> tuple[Floats, Floats]:
        block = gaps[np.ix_(runs, runs)][:, :, draws]
        own = np.einsum("iid->id", block)
        others = (block.sum(axis=1) - own) / (len(runs) - 1)
        return own.mean(axis=0), others.mean(axis=0)

    def ratio(runs: Runs, draws: slice) -> Floats:
        own, others = parts(runs, draws)
        return log_ratio(others, own)

    found = estimate(ratio, evidence.units, margin=margin, draws=DRAWS)
    own, others = parts(np.arange(evidence.units), slice(0, 1))
    numbers = {
        "from other runs": float(others[0]),
        "from its own run": float(own[0]),
        "share nearest to its own run": float(np.mean([hits.mean() for hits in own_is_nearest])),
        "fewest usable samples in a run": float(fewest),
    }
    return _finding("c", method, found, numbers)


def _more_diverse(evidence: Evidence, margin: float) -> Claim | None:
    """(d) For every method ln(D_b / D_q): disagreement of finals, and what the method reaches at the strength where it
    costs on average one point of accuracy: a point given for free, which makes the claim harder."""
    methods = [method for method in evidence.methods if len(method.wide) and any(len(s) for s in method.wide)]
    if not methods:
        return None
    base = _asked("d", evidence, margin)
    weights = example_weights(evidence.examples, seed=evidence.seed)
    across = _pair_disagreements(evidence.finals, weights)
    gate = _common_gate(evidence, across, examples=MIN_EXAMPLES_ACCURACY)
    if gate:
        return replace(base, because=gate)
    return _every_method(base, [_reaches(evidence, method, weights, across, margin) for method in methods])


def _reaches(
    evidence: Evidence, method: MethodEvidence, weights: NDArray[np.float32], across: Floats, margin: float
) -> Finding:
    own = _Pool.of(evidence, method, weights)
    everyone = np.arange(evidence.units)
    data = own.at(everyone, 0, COST)
    numbers = {
        "independent runs": float(_mean_pair(across, everyone)[0]),
        "samples at equal accuracy": data.disagreement,
        "strength there": data.strength,
        "samples below": float(data.below),
        "samples beyond": float(data.beyond),
    }
    if data.support == "no common support":
        start = float(own.start_loss[:, 0].mean()) if method.strengths is not None else float(own.loss[:, 0].mean())
        return _closed(
            method,
            f"never as accurate as the runs: it costs {100 * start:.1f} points before it differs at all; snapshots "
            "from a later or longer window (training.snapshot_window, epochs) would start nearer",
            numbers,
        )
    if data.support == "too few samples":
        return _closed(
            method,
            f"{data.below} samples cost less than {100 * COST:g} point and {data.beyond} more, at least 5 and 3 are "
            f"needed: draw strengths between 0 and {2 * data.strength:.3g}, or more spread samples",
            numbers,
        )

    def ratio_at(cost: float) -> Statistic:
        def ratio(runs: Runs, draws: slice) -> Floats:
            top = _mean_pair(across[:, :, draws], runs)
            columns = range(*draws.indices(across.shape[2]))
            return log_ratio(top, np.array([own.at(runs, column, cost).disagreement for column in columns]))

        return ratio

    found = estimate(ratio_at(COST), evidence.units, margin=margin, draws=DRAWS)
    for cost in (COST / 2, 2 * COST):
        with np.errstate(over="ignore"):
            numbers[f"ratio at {100 * cost:g} points"] = float(np.exp(ratio_at(cost)(everyone, slice(0, 1))[0]))
    if data.support == "range too short" and found.word != "does not hold":
        gate = (
            f"even the strongest sample (at {data.strength:.3g}) costs less than {100 * COST:g} point: "
            + ("ask for wide samples (spread)" if method.stands_in else "draw stronger ones (spread_max)")
            if method.strengths is not None
            else "the method has no strength, so it may reach more than it shows: only `does not hold` could be told"
        )
        return Finding(method.name, method.title, "cannot tell", gate, found, gate, _finite(numbers))
    return _finding("d", method, found, numbers)


def at_equal_accuracy(evidence: Evidence, method: MethodEvidence, *, cost: float = COST) -> EqualAccuracy:
    """What one method reaches around all these runs at the strength where it costs `cost` of accuracy."""
    pool = _Pool.of(evidence, method, np.ones((evidence.examples, 1), np.float32))
    return pool.at(np.arange(evidence.units), 0, cost)


@dataclass(frozen=True, eq=False)
class _Pool:
    """A method's samples of all runs, one column of losses and disagreements a redraw of the examples."""

    run: Runs  # [m]
    strength: Floats | None  # [m]
    loss: Floats  # [m, 1 + draws]
    changed: Floats
    start_loss: Floats  # [n, 1 + draws]: of the centre, 0 for methods that start at the optimum
    start_changed: Floats

    @classmethod
    def of(cls, evidence: Evidence, method: MethodEvidence, weights: NDArray[np.float32]) -> _Pool:
        finals, truth = evidence.finals, evidence.truth
        accuracy = weighted(finals == truth, weights)
        loss, changed, run = [], [], []
        for i, samples in enumerate(method.wide):
            loss.append(accuracy[i] - weighted(samples == truth, weights))
            changed.append(weighted(samples != finals[i], weights))
            run.append(np.full(len(samples), i))
        start_loss = start_changed = np.zeros((evidence.units, weights.shape[1]))
        if method.centre is not None:
            start_loss = accuracy - weighted(method.centre == truth, weights)
            start_changed = weighted(method.centre != finals, weights)
        strength = None
        if method.strengths is not None:
            strength = np.concatenate([np.asarray(s, np.float64) for s in method.strengths])
        return cls(
            np.concatenate(run), strength, np.concatenate(loss), np.concatenate(changed), start_loss, start_changed
        )

    def at(self, runs: Runs, draw: int, cost: float) -> EqualAccuracy:
        kept = np.isin(self.run, runs)
        return equal_accuracy_disagreement(
            None if self.strength is None else self.strength[kept],
            self.loss[kept, draw],
            self.changed[kept, draw],
            start_loss=float(self.start_loss[runs, draw].mean()),
            start_disagreement=float(self.start_changed[runs, draw].mean()),
            cost=cost,
        )


def _gains_more(evidence: Evidence, margin: float) -> Claim | None:
    """(e1) For every method rho = G_q / G_ens(4) below 0.9: Brier score gained by averaging a run's samples, and by an
    ensemble of 4 runs (`Members.ensemble_gain`, which exists from 3 runs on). Averaging that loses is below, too."""
    return _gains(evidence, "e1", margin)


def _add_up(evidence: Evidence, margin: float) -> Claim | None:
    """(e2) For some method kappa = G_both(4) / G_ens(4) - 1 above 0.05: what averaging the samples inside each run
    adds to an ensemble of 4."""
    return _gains(evidence, "e2", margin)


def _gains(evidence: Evidence, letter: str, margin: float) -> Claim | None:
    methods, finals = _sampled(evidence), evidence.members
    if not methods or finals is None:
        return None
    base = _asked(letter, evidence, margin)
    gate = _gate_of_finals(evidence)
    if gate:
        return replace(base, because=gate)
    findings = [
        _closed(method, _too_few_samples(method))
        if method.fewest < MIN_SAMPLES or method.members is None
        else _gain(letter, method, finals, method.members, evidence.units, margin)
        for method in methods
    ]
    return _every_method(base, findings) if letter == "e1" else _some_method(base, findings)


def _gain(letter: str, method: MethodEvidence, finals: Members, own: Members, n: int, margin: float) -> Finding:
    def gained(runs: Runs, draws: slice) -> Floats:
        return np.asarray((finals.brier[runs, draws] - own.brier[runs, draws]).mean(axis=0))

    def relative(runs: Runs, draws: slice) -> Floats:
        alone, ensemble = gained(runs, draws), finals.ensemble_gain(runs, draws)
        top = alone if letter == "e1" else alone + own.ensemble_gain(runs, draws) - ensemble
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(ensemble > 0, top / ensemble, np.nan)

    found = estimate(relative, n, margin=margin, draws=DRAWS, above=letter == "e2")
    everyone, data = np.arange(n), slice(0, 1)
    alone, ensemble = float(gained(everyone, data)[0]), float(finals.ensemble_gain(everyone, data)[0])
    numbers = {
        "Brier gain of averaging a run's samples": alone,
        f"of an ensemble of {MEMBERS}": ensemble,
        "of both": alone + float(own.ensemble_gain(everyone, data)[0]),
        "samples averaged": float(method.averaged),
        "accuracy gain of averaging a run's samples": own.accuracy - finals.accuracy,
        f"accuracy gain of an ensemble of {min(MEMBERS, n)}": finals.together - finals.accuracy,
        "accuracy gain of both": own.together - finals.accuracy,
    }
    return _finding(letter, method, found, numbers)


def _largest_js(evidence: Evidence, margin: float) -> Claim | None:
    """(f1) For every method ln(J_b / J_q): divergence of two runs, and of two samples of one run."""
    methods, across = _sampled(evidence), evidence.js
    if not methods or across is None:
        return None
    base = _asked("f1", evidence, margin)
    gate = _gate_of_finals(evidence)
    if gate:
        return replace(base, because=gate)
    findings = [
        _closed(method, _too_few_samples(method))
        if method.fewest < MIN_SAMPLES or method.js is None
        else _js_ratio(method, across, method.js, evidence.units, margin)
        for method in methods
    ]
    return _every_method(base, findings)


def _js_ratio(method: MethodEvidence, across: Floats, within: Floats, n: int, margin: float) -> Finding:
    def ratio(runs: Runs, draws: slice) -> Floats:
        return log_ratio(_mean_pair(across[:, :, draws], runs), within[runs, draws].mean(axis=0))

    found = estimate(ratio, n, margin=margin, draws=DRAWS)
    numbers = {
        "between two runs (nats)": float(_mean_pair(across, np.arange(n))[0]),
        "between two samples of a run (nats)": float(within[:, 0].mean()),
    }
    return _finding("f1", method, found, numbers)


def _more_under_shift(evidence: ShiftEvidence, margin: float, *, first: float) -> Claim | None:
    """(f2) For every method (J_b - J_q) under shift minus 1.1 (J_b - J_q) on clean images, above 0, where (f1) holds.

    Linear, because the ratio form covers badly when a run has failed.
    """
    base = _asked("f2", evidence, margin)
    weights = example_weights(evidence.examples, seed=evidence.seed)
    gate = _common_gate(evidence, _pair_disagreements(evidence.finals, weights[:, :1]), examples=MIN_EXAMPLES_ACCURACY)
    if gate:
        return replace(base, because=gate)
    clean, shifted = weighted(evidence.clean_between, weights), weighted(evidence.shifted_between, weights)
    findings = []
    for name, values in evidence.clean_within.items():
        method = MethodEvidence(name, evidence.titles[name])
        own = weighted(values, weights)
        alone = _js_ratio(method, clean, own, evidence.units, first)
        if alone.word == "holds":
            own_shifted = weighted(evidence.shifted_within[name], weights)
            findings.append(_contrast(method, clean, own, shifted, own_shifted, evidence.units, margin))
        else:
            findings.append(
                _closed(method, f"asked only where (f1) holds, and on these clean images: {alone.because}", alone.parts)
            )
    return _every_method(base, findings) if findings else None


def _contrast(
    method: MethodEvidence, clean: Floats, own: Floats, shifted: Floats, own_shifted: Floats, n: int, margin: float
) -> Finding:
    def lead(across: Floats, within: Floats, runs: Runs, draws: slice) -> Floats:
        return np.asarray(_mean_pair(across[:, :, draws], runs) - within[runs, draws].mean(axis=0))

    def contrast(runs: Runs, draws: slice) -> Floats:
        return np.asarray(lead(shifted, own_shifted, runs, draws) - 1.1 * lead(clean, own, runs, draws))

    everyone, data = np.arange(n), slice(0, 1)
    numbers = {
        "between runs minus within, under shift (nats)": float(lead(shifted, own_shifted, everyone, data)[0]),
        "the same on clean images (nats)": float(lead(clean, own, everyone, data)[0]),
    }
    return _finding("f2", method, estimate(contrast, n, margin=margin, draws=DRAWS), numbers)


def _weights_matter_more(evidence: SeedsEvidence, margin: float) -> Claim | None:
    """(g) ln(sum_r d(A_r, B_r) / sum_r d(A_r, C_r)) over repetitions, the units."""
    n, base = evidence.units, _asked("g", evidence, margin)
    base = replace(base, estimand=f"{base.estimand}, at learning rate {evidence.learning_rate:g}")
    weights = example_weights(evidence.examples, seed=evidence.seed)
    apart = {
        name: weighted(evidence.arms["A"] != labels, weights)  # [R, 1 + draws]
        for name, labels in evidence.arms.items()
        if name != "A"
    }
    gate = _gate(evidence, (apart["B"][:, 0].mean() + apart["C"][:, 0].mean()) / 2)
    if gate:
        return replace(base, because=gate)

    def ratio(repetitions: Runs, draws: slice) -> Floats:
        return log_ratio(apart["B"][repetitions, draws].mean(axis=0), apart["C"][repetitions, draws].mean(axis=0))

    found = estimate(ratio, n, margin=margin, draws=DRAWS)
    titles = {"B": "other initial weights", "C": "other batches", "D": "both others"}
    numbers = {title: float(apart[name][:, 0].mean()) for name, title in titles.items() if name in apart}
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
    weights = example_weights(evidence.examples, seed=evidence.seed)
    functions = evidence.labels.reshape(chains * cycles, -1)
    apart = _pair_disagreements(functions, weights).reshape(chains, cycles, chains, cycles, -1)
    first, second = np.triu_indices(cycles, 1)
    # [chain of the earlier cycle, chain of the later cycle, draw]: the mean over pairs of cycles
    between = apart[:, first, :, second].mean(axis=0)

    def parts(kept: Runs, draws: slice) -> tuple[Floats, Floats]:
        block = between[np.ix_(kept, kept)][:, :, draws]
        own = np.einsum("iid->id", block).mean(axis=0)
        count = len(kept)
        with np.errstate(invalid="ignore", divide="ignore"):
            return own, np.asarray((block.sum(axis=(0, 1)) - count * own) / (count * (count - 1)))

    def ratio(kept: Runs, draws: slice) -> Floats:
        own, others = parts(kept, draws)
        return log_ratio(others, own)

    everyone = np.arange(chains)
    gate = _gate(evidence, float(parts(everyone, slice(0, 1))[1][0]))
    if gate:
        return replace(base, because=gate)
    found = estimate(ratio, chains, margin=margin, draws=DRAWS)
    own, others = parts(everyone, slice(0, 1))
    numbers = {"across chains": float(others[0]), "between cycles of a chain": float(own[0])}
    if evidence.finals is not None and len(evidence.finals) >= MIN_UNITS:
        numbers |= _against_runs(evidence.finals, weights, lambda kept, draws: parts(kept, draws)[0], chains)
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


def _against_runs(finals: Labels, weights: NDArray[np.float32], cycles: Statistic, chains: int) -> dict[str, float]:
    """ln(D of separately trained runs / D_cyc) with its interval: both kinds of unit vary, and the examples (o.4)."""
    apart, runs = _pair_disagreements(finals, weights), len(finals)
    everyone, everything = np.arange(runs), slice(0, weights.shape[1])
    fixed = _mean_pair(apart, everyone)
    of_chains = cycles(np.arange(chains), everything)
    redrawn = log_ratio(fixed, of_chains)
    variance = (
        jackknife(lambda kept, draws: log_ratio(fixed[draws], cycles(kept, draws)), chains)
        + jackknife(lambda kept, draws: log_ratio(_mean_pair(apart[:, :, draws], kept), of_chains[draws]), runs)
        + float(redrawn[1:].var(ddof=1))
    )
    half = t_quantile(1 - LEVEL, min(chains, runs) - 1) * math.sqrt(variance) if math.isfinite(variance) else math.nan
    return {
        "across separately trained runs": float(fixed[0]),
        "ratio to those runs": math.exp(redrawn[0]),
        "its lower end": math.exp(redrawn[0] - half),
        "its upper end": math.exp(redrawn[0] + half),
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


def _pair_disagreements(labels: Labels, weights: NDArray[np.float32]) -> Floats:
    """[S, S, 1 + draws]: weighted disagreement of each pair of rows of labels [S, N]."""
    first, second = np.triu_indices(len(labels), 1)
    result = np.zeros((len(labels), len(labels), weights.shape[1]))
    result[first, second] = weighted(labels[first] != labels[second], weights)
    return result + result.transpose(1, 0, 2)


def _cross(samples: Labels, finals: Labels, weights: NDArray[np.float32]) -> Floats:
    """[S, n, 1 + draws]: weighted disagreement of samples [S, N] with finals [n, N]."""
    return weighted(samples[:, None] != finals[None], weights)


def _mean_pair(values: Floats, runs: Runs) -> Floats:
    """Mean over pairs i < j of `runs` of [n, n, draws], one value a draw; NaN for a single run."""
    if len(runs) < 2:
        return np.full(values.shape[2], np.nan)
    return np.asarray(values[pairs(runs)].mean(axis=0))


def _gate_of_finals(evidence: Evidence) -> str:
    weights = np.ones((evidence.examples, 1), np.float32)
    return _common_gate(evidence, _pair_disagreements(evidence.finals, weights), examples=MIN_EXAMPLES_ACCURACY)


def _common_gate(evidence: _Units, across: Floats, *, examples: int = MIN_EXAMPLES) -> str:
    return _gate(evidence, float(_mean_pair(across, np.arange(evidence.units))[0]), examples=examples)


def _gate(evidence: _Units, disagreement: float, *, examples: int = MIN_EXAMPLES) -> str:
    """Why no claim about functions can be answered, and what would change that; "" when it can (o.3)."""
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
    return (
        f"a run has {method.fewest} typical samples, at least {MIN_SAMPLES} are needed: ask for more of them, or for "
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
    p = {"holds": found.p_holds, "does not hold": found.p_fails, "cannot tell": None}[found.word]
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


def _shown(base: Claim, findings: Sequence[Finding], *, weakest: bool) -> Claim:
    """The claim with all its methods and the numbers of the one on which it stands or falls."""
    opened, _ = _told(findings)
    known = opened or [(f, f.estimate) for f in findings if f.estimate is not None and f.estimate.exists]
    claim = replace(base, methods=tuple(findings))
    if not known:
        return claim
    finding, found = (min if weakest else max)(known, key=lambda pair: pair[1].room)
    return _with(claim, found, finding.parts)


def _every_method(base: Claim, findings: Sequence[Finding]) -> Claim:
    """A claim that must hold for every method (o.6): intersection-union for `holds`, Bonferroni for `does not hold`."""
    opened, closed = _told(findings)
    claim = _shown(base, findings, weakest=True)
    if not opened:
        return replace(claim, because="; ".join(f"{f.title}: {f.gate}" for f in closed))
    failing, worst = min(opened, key=lambda pair: pair[1].p_fails)
    if worst.p_fails <= LEVEL / len(opened):
        return replace(
            _with(replace(claim, parts={}), worst, failing.parts),
            word="does not hold",
            because=f"{failing.title}: {_because(base.id, worst)}",
            p=min(1.0, len(opened) * worst.p_fails),
            qualifier=_qualifier(worst),
        )
    undecided = [finding for finding, _ in opened if finding.word != "holds"]
    if undecided:
        return replace(claim, because="; ".join(f"{f.title}: {_why(f)}" for f in (*undecided, *closed)))
    if closed:
        others = ", ".join(finding.title for finding, _ in opened)
        gates = "; ".join(f"{f.title}: {f.gate}" for f in closed)
        return replace(claim, qualifier="holds for the others", because=f"holds for {others}; {gates}")
    side = "above" if worst.above else "below"
    return replace(
        claim, word="holds", p=max(found.p_holds for _, found in opened),
        because=f"for every method the whole interval lies {side} {QUESTIONS[base.id].say(base.margin)}",
    )  # fmt: skip


def _some_method(base: Claim, findings: Sequence[Finding]) -> Claim:
    """A claim that must hold for at least one method: Holm over methods; `does not hold` when it fails for all."""
    opened, closed = _told(findings)
    claim = _shown(base, findings, weakest=False)
    if not opened:
        return replace(claim, because="; ".join(f"{f.title}: {f.gate}" for f in closed))
    standing = holm({finding.method: found.p_holds for finding, found in opened})
    margin = QUESTIONS[base.id].say(base.margin)
    if standing:
        names = ", ".join(finding.title for finding, _ in opened if finding.method in standing)
        return replace(
            claim, word="holds", because=f"{names}: the whole interval lies above {margin}",
            p=min(1.0, len(opened) * min(found.p_holds for _, found in opened)),
        )  # fmt: skip
    undecided = [finding for finding, _ in opened if finding.word != "does not hold"]
    if undecided or closed:
        return replace(claim, because="; ".join(f"{f.title}: {_why(f)}" for f in (*undecided, *closed)))
    best = max((found for _, found in opened), key=lambda found: found.room)
    return replace(
        claim, word="does not hold", p=max(found.p_fails for _, found in opened), qualifier=_qualifier(best),
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
