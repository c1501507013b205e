"""An independent verdict: the statistics of claims (a) to (f2) again, from what anyone can download.

Written from science o in numpy, scipy and scikit-learn; it shares no code with the product. Alone, against a running
server:

    python tests/independent_verdict.py http://127.0.0.1:8000 quickstart

prints a table claim / method / theirs / ours / word and exits with 1 if anything differs. Equal must be: estimates and
the numbers behind them, to 1e-6; n, N and margins; which gates are closed; which claims were tested, and what survives
Holm's correction over them. The runs' part V_R of a variance is exact as well, but the API shows V_R + V_E only, by its
interval.

The examples' part V_E cannot be equal: it is the variance of DRAWS random redraws here, of THEIR_DRAWS others there in
(d1) and (d2), and in all other claims that of endlessly many, by the influence of every example. The variance s² of B
draws with kurtosis k has itself the variance sigma⁴ (2 / (B - 1) + (k - 3) / B): for normal draws and B = 1000, s² is
off by 4.5 % and s by 2.2 %. So ln(V_E there / V_E here) has as its variance the sum of that bracket for both B, and
their half-width must be t sqrt(V_R + V_E exp(+-x)) with x at most SIGMAS standard deviations. In (a) there are no
examples and x is 0. A word must be one that such a V_E can give; where it can give several, the last lines say so. The
table's last number is their V_E over ours, were V_R the same: near 1 it confirms both.
"""

from __future__ import annotations

import functools
import itertools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from independent import TOLERANCE, Downloaded, cosines, reduced, softmax, trained
from numpy.typing import NDArray
from scipy.stats import t as student
from sklearn.isotonic import isotonic_regression

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Runs = Sequence[int]
# A quantity of a set of runs (places, not numbers) under some columns of the weights: 1/N first, then the redraws.
Statistic = Callable[[Runs, slice], Floats]

LEVEL = 0.025
THEIR_DRAWS, DRAWS, SIGMAS = 10_000, 1000, 4.0
COST = 0.01  # of accuracy, at which (d1) is read
FEWEST_SAMPLES = 3
FEWEST_IMAGES = {"b": 500, "c": 500, "d1": 1000, "d2": 1000, "e1": 1000, "e2": 1000, "f1": 1000, "f2": 1000}
FEWEST_DIFFERENT = 20  # examples on which a pair of runs differs, in the mean
FEWEST_BELOW, FEWEST_BEYOND = 5, 3  # pooled samples on both sides of s*
UNDEFINED = 0.05  # share of redraws
NO_SUPPORT, TOO_SHORT = "no common support", "range too short"
ALL, PLAIN = slice(None), slice(0, 1)
HOLDS, FAILS, OPEN, FOR_OTHERS = "holds", "does not hold", "cannot tell", "cannot tell: holds for the others"


# ---- estimates and words (o.2, o.3, o.6) ----


@dataclass(frozen=True)
class Estimate:
    """T with both parts of its variance. spread: standard deviation of ln(V_E there / V_E here)."""

    value: float
    runs_part: float
    examples_part: float
    spread: float
    n: int
    undefined: float

    def error(self, scale: float = 1.0) -> float:
        return math.sqrt(self.runs_part + scale * self.examples_part)

    def interval(self, scale: float = 1.0) -> tuple[float, float]:
        half = float(student.ppf(1 - LEVEL, self.n - 1)) * self.error(scale)
        return self.value - half, self.value + half

    def beyond(self, margin: float, scale: float) -> float:
        """One-sided p of "above the margin". Without any error only a gain of exactly nothing is known: all samples are
        the solution itself, because averaging is best at strength 0."""
        error = self.error(scale)
        if error > 0:
            return float(student.sf((self.value - margin) / error, self.n - 1))
        return float(margin > 0) if self.value == 0 else math.nan

    @property
    def undefined_tolerance(self) -> float:
        """How far two shares of undefined redraws may lie apart: binomial, and one redraw."""
        return SIGMAS * math.sqrt(self.undefined * (1 - self.undefined) * 2 / DRAWS) + 1 / DRAWS

    @property
    def scales(self) -> tuple[float, ...]:
        """Smallest, our and largest V_E that theirs may be, over ours."""
        if not self.examples_part > 0:
            return (1.0,)
        return math.exp(-SIGMAS * self.spread), 1.0, math.exp(SIGMAS * self.spread)


def estimate(statistic: Statistic, runs: Runs, their_draws: float = math.inf) -> Estimate:
    """T = stat(all, 1/N); V_R by leaving out each run; V_E over the redraws for which the quantity is defined."""
    n = len(runs)
    with np.errstate(all="ignore"):
        whole = statistic(runs, ALL)
        without = np.array([statistic([i for i in runs if i != left], PLAIN)[0] for left in runs])
    drawn = whole[1:][np.isfinite(whole[1:])]
    runs_part = (n - 1) / n * float(((without - without.mean()) ** 2).sum())
    if len(whole) == 1:
        return Estimate(float(whole[0]), runs_part, 0.0, 0.0, n, 0.0)
    examples_part = spread = math.nan
    if len(drawn) > 3:
        examples_part, spread = float(drawn.var(ddof=1)), _spread(drawn, their_draws)
    undefined = 1 - len(drawn) / (len(whole) - 1)
    return Estimate(float(whole[0]), runs_part, examples_part, spread, n, undefined)


def _spread(drawn: Floats, their_draws: float) -> float:
    z = (drawn - drawn.mean()) / max(drawn.std(), 1e-300)
    more = float((z**4).mean()) - 3
    return math.sqrt(sum(max(2 / (b - 1) + more / b, 0.0) for b in (their_draws, len(drawn))))


@dataclass(frozen=True)
class Part:
    """One method's part in a claim, or the whole of (a) and (b).

    gate: why no word can be given; hangs_on_draws: other redraws might open or close it; is_lower_bound: o.5 (ii);
    level: what (d) reads at equal accuracy, with an interval of its own.
    """

    method: str
    estimate: Estimate | None
    gate: str = ""
    hangs_on_draws: bool = False
    is_lower_bound: bool = False
    numbers: dict[str, float] = field(default_factory=dict)
    level: Estimate | None = None


@dataclass(frozen=True)
class Rule:
    """How a claim's parts make its word. side: where the interval must lie; join: one, every or some method."""

    side: str
    join: str

    def tails(self, found: Estimate, margin: float, scale: float) -> tuple[float, float]:
        """(p_holds, p_fails)."""
        if self.side == "within":
            low, high = found.beyond(-margin, scale), found.beyond(margin, scale)
            return max(low, 1 - high), min(1 - low, high)
        above = found.beyond(margin, scale)
        return (above, 1 - above) if self.side == "above" else (1 - above, above)

    def word(self, parts: Sequence[Part], margin: float, scales: Sequence[float]) -> tuple[str, float | None]:
        """The claim's word and its p, were V_E of each part `scales` times ours."""
        tested = [
            (*self.tails(part.estimate, margin, scale), part.is_lower_bound)
            for part, scale in zip(parts, scales, strict=True)
            if part.estimate is not None and not part.gate
        ]
        # Of a lower bound of D_q only "does not hold" can be said: any other word is a closed gate (o.5 ii).
        opened = [(holds, fails) for holds, fails, bound in tested if not bound or fails <= LEVEL]
        is_complete = len(opened) == len(parts)
        if not tested:
            return OPEN, None
        if self.join == "some":  # the first step of Holm's correction decides whether any method stands
            p_holds, p_fails = min(1.0, len(opened) * min(h for h, _ in opened)), max(f for _, f in opened)
            p = min(p_holds, p_fails) if is_complete else p_holds
            return (HOLDS if p_holds <= LEVEL else FAILS if p_fails <= LEVEL and is_complete else OPEN), p
        p_fails = min(1.0, len(tested) * min(fails for _, fails, _ in tested))
        if p_fails <= LEVEL:
            return FAILS, p_fails
        p = min(p_fails, max(h for h, _ in opened)) if is_complete else p_fails
        if opened and max(h for h, _ in opened) <= LEVEL:
            return HOLDS if is_complete else FOR_OTHERS, p
        return OPEN, p

    def words(self, parts: Sequence[Part], margin: float) -> dict[str, list[float]]:
        """Every word that V_E within the tolerance can give, with the p it can have."""
        choices = [part.estimate.scales if part.estimate is not None else (1.0,) for part in parts]
        if len(parts) > 7:  # 3^8 combinations are too many
            choices = [choice[::2] for choice in choices]
        found: dict[str, list[float]] = {}
        for scales in itertools.product(*choices):
            word, p = self.word(parts, margin, scales)
            found.setdefault(word, []).append(math.nan if p is None else p)
        return found


RULES = {
    "a": Rule("within", "one"), "b": Rule("above", "one"), "c": Rule("above", "every"), "d1": Rule("above", "every"),
    "d2": Rule("above", "every"),
    "e1": Rule("below", "every"), "e2": Rule("above", "some"), "f1": Rule("above", "every"),
    "f2": Rule("above", "every"),
}  # fmt: skip
RATIOS = ("b", "c", "d1", "d2", "f1")  # margins given as ratios, judged as logarithms


# ---- what the downloads say ----


def redraws(n: int) -> Floats:
    """Weights of n examples [n, 1 + DRAWS]: 1/n, then multinomial redraws."""
    drawn = np.random.default_rng(20191205).multinomial(n, np.full(n, 1 / n), size=DRAWS)
    return np.concatenate([np.full((n, 1), 1 / n), drawn.T / n], axis=1)


def entropy(p: Floats) -> Floats:
    """Nats, over the last axis; 0 log 0 = 0."""
    return np.asarray(-(p * np.log(np.maximum(p, 1e-300))).sum(-1))


def divergences(p: Floats) -> Floats:
    """js_mean (M = 2, a.9) of every example, mean over the pairs of functions [M, ..., K]."""
    own = entropy(p)
    pairs = list(itertools.combinations(range(len(p)), 2))
    return np.asarray(sum(entropy((p[i] + p[j]) / 2) - (own[i] + own[j]) / 2 for i, j in pairs) / len(pairs))


def brier(p: Floats, truth: Labels) -> Floats:
    """Of every example, summed over classes (a.5)."""
    return np.asarray(((p - np.eye(p.shape[1])[truth]) ** 2).sum(-1))


def over_pairs(table: Floats, runs: Runs, columns: slice) -> Floats:
    """Mean over the pairs i<j of runs; table [R, R, 1 + B]."""
    return np.asarray(np.mean([table[i, j, columns] for i, j in itertools.combinations(runs, 2)], axis=0))


def over_runs(table: Floats, runs: Runs, columns: slice) -> Floats:
    """Mean over runs; table [R, 1 + B]."""
    return np.asarray(table[list(runs), columns].mean(0))


def pair_table(runs: int, weights: Floats, apart: Callable[[int, int], NDArray[Any]]) -> Floats:
    """Example means of a symmetric quantity of two runs, under every column of weights: [R, R, 1 + B]."""
    table = np.zeros((runs, runs, weights.shape[1]))
    for i, j in itertools.combinations(range(runs), 2):
        table[i, j] = table[j, i] = apart(i, j) @ weights
    return table


@dataclass(frozen=True)
class Typical:
    """What the verdict needs of a method's typical samples (c) and of those it averages (e, f), which are the same
    unless a strength was chosen: means over a run's samples, then over the examples."""

    counts: list[int]  # samples to average
    usable: list[int]  # samples of each run that (c) may use
    nearest_own: float  # share of those that disagree least with their own final, mean over the runs
    from_finals: Floats  # [R, R, 1 + B]: disagreement of run i's usable samples with the final of run j
    within: Floats  # [R, 1 + B]: JS over the pairs of a run's samples
    averaged: int  # samples in an average, the same for every method
    strength: float | None  # at which they were drawn; None for the typical ones themselves
    gain: Floats  # [R, 1 + B]: Brier of the reference minus Brier of the averaged samples
    apart: Floats  # [R, R, 1 + B]: squared distance of two runs' averages


@dataclass(frozen=True)
class Strong:
    """A method's samples as (d) reads them; of each run: strengths [S], losses and changes [S, 1 + B]."""

    strengths: list[Floats]
    losses: list[Floats]
    changes: list[Floats]
    start: Floats  # [R, 2, 1 + B]: loss and change at strength 0
    is_centred: bool
    between: list[list[tuple[float, Floats]]]  # of each run: strength and disagreement [1 + B] of its pairs

    def among(self, cost: float, runs: Runs, columns: slice) -> Floats:
        """P_q under each column: pairs of a run pooled with equal weight a run, isotonic through (0, 0), read at s*."""
        star = self.at(cost, runs, columns)[1]
        pooled = [(x, apart[columns], 1 / len(self.between[i])) for i in runs for x, apart in self.between[i]]
        s, place = np.unique(np.array([x for x, _, _ in pooled]).round(12), return_inverse=True)
        share = (place == np.arange(len(s))[:, None]) * np.array([weight for _, _, weight in pooled])
        mean = share / share.sum(1, keepdims=True) @ np.stack([apart for _, apart, _ in pooled])
        weights = np.array([1.0, *share.sum(1)])
        fits = [isotonic_regression(np.array([0.0, *column]), sample_weight=weights) for column in mean.T]
        read = [np.interp(t, [0.0, *s], fit) for t, fit in zip(star, fits, strict=True)]
        return np.where(np.isfinite(star), read, np.nan)

    def at(self, cost: float, runs: Runs, columns: slice) -> tuple[Floats, Floats, list[str]]:
        """(D_q, s*, support) under each column, by o.5: pooled, ties averaged, isotonic, linear between."""
        s, place = np.unique(np.concatenate([self.strengths[i] for i in runs]), return_inverse=True)
        mean = (place == np.arange(len(s))[:, None]) / np.bincount(place)[:, None]
        loss, change = (
            np.concatenate([self.start[list(runs), k][:, columns].mean(0)[None], mean @ pooled])
            for k, pooled in enumerate(
                np.concatenate([table[i][:, columns] for i in runs]) for table in (self.losses, self.changes)
            )
        )
        read = [read_at(cost, np.array([0.0, *s]), loss[:, b], change[:, b]) for b in range(loss.shape[1])]
        return np.array([one[0] for one in read]), np.array([one[1] for one in read]), [one[2] for one in read]


def read_at(cost: float, s: Floats, loss: Floats, change: Floats) -> tuple[float, float, str]:
    """(change, strength, what is wrong) at the largest strength whose fitted loss is at most `cost`."""
    fitted, changed = isotonic_regression(loss), isotonic_regression(change)
    cost += 1e-12  # differences of rates are whole examples but for rounding
    if fitted[0] > cost:
        return math.nan, math.nan, NO_SUPPORT
    last = int(np.flatnonzero(fitted <= cost)[-1])
    if last == len(s) - 1:
        return float(changed[-1]), float(s[-1]), TOO_SHORT
    there = s[last] + (cost - fitted[last]) / (fitted[last + 1] - fitted[last]) * (s[last + 1] - s[last])
    return float(np.interp(there, s, changed)), float(there), ""


@dataclass(frozen=True)
class Shifted:
    """Pairwise JS on clean images and on corrupted ones (mean over types and intensities), and of how many images."""

    images: int
    between: tuple[Floats, Floats]  # clean, shifted: [R, R, 1 + B]
    within: dict[str, tuple[Floats, Floats]]  # [R, 1 + B]


class Evidence:
    """One experiment as weighted means, from its downloads. Runs are those that have not failed, by their place."""

    def __init__(self, found: Downloaded) -> None:
        self.found, self.api = found, found.base.rpartition("/experiments/")[0]
        self.about = found.json(found.base)
        self.split: str = self.about["spec"]["evaluation"]["splits"][0]
        self.truth: Labels = found.array(f"{found.base}/labels?split={self.split}")
        optima = {s["run"]: s for s in found.solutions if s["role"] == "optimum"}
        logits = {run: self.logits(optima[run]) for run in sorted(optima)}
        self.runs = [run for run, one in logits.items() if self._is_sound(one)]
        self.optima = [optima[run] for run in self.runs]
        self.n, self.images = len(self.runs), len(self.truth)
        self.weights = redraws(self.images)
        self.finals = [logits[run].argmax(1) for run in self.runs]
        self.probabilities = [softmax(logits[run]) for run in self.runs]
        # An average of weights is one function a run and no sample of anything.
        sampled = {m["name"] for m in found.json(f"{self.api}/catalogue")["methods"] if m["sampled"]}
        self.asked: dict[str, Any] = {m["method"]: m for m in self.about["spec"]["methods"] if m["method"] in sampled}

    def _is_sound(self, logits: NDArray[np.float32]) -> bool:
        accuracy = (logits.argmax(1) == self.truth).mean()
        return bool(np.isfinite(logits).all() and accuracy >= 1 / logits.shape[1] + 0.05)

    def logits(self, solution: Mapping[str, Any]) -> NDArray[np.float32]:
        """Not kept, unlike Downloaded.logits: there are hundreds, and each is read once."""
        return self.found.array(f"{self.found.base}/solutions/{solution['number']}/predictions?split={self.split}")

    def labels(self, solution: Mapping[str, Any]) -> Labels:
        return np.asarray(self.logits(solution).argmax(1))

    def samples(self, method: str, run: int, kind: str) -> list[dict[str, Any]]:
        own = [s for s in self.found.solutions if (s["method"], s["run"], s["set"]) == (method, run, kind)]
        return sorted(own, key=lambda s: int(s["index"]))

    def stage(self, kind: str, key: str) -> dict[str, Any]:
        """What a stage left for others."""
        stage = next(s for s in self.about["stages"] if (s["kind"], s["key"]) == (kind, key))
        left: dict[str, Any] = self.found.json(f"{self.found.base}/stages/{stage['id']}")["left"]
        return left

    def strength(self, method: str) -> float | None:
        """At which the method's averaged samples were drawn: where the mean over runs of their average's NLL on the
        validation images is smallest. None where none was chosen."""
        if not any((s["kind"], s["key"]) == ("strength", method) for s in self.about["stages"]):
            return None
        left = self.stage("strength", method)
        means = self.file(left["losses"]).astype(np.float64).mean(axis=2)  # [strengths, runs, images]
        assert left["strengths"][0] == 0
        assert sorted(left["strengths"]) == left["strengths"]
        assert set(self.runs) == set(left["runs"])
        best = float(left["strengths"][int(means.mean(axis=1).argmin())])
        assert best == left["strength"], (method, best, left["strength"])
        return best

    def reference(self, method: str, place: int) -> NDArray[np.float32]:
        """Logits of what the method is measured against in a run: of one that trains on, its last iterate where that
        has the lower NLL on the validation images; else the run's final."""
        run = self.runs[place]
        own = self.samples(method, run, "last")
        left = self.stage("last", f"{run}/{method}") if own else {}
        if left.get("nll"):
            labels = self.file(left["labels"])
            rows = np.arange(len(labels))
            last, final = (
                float(-np.log(softmax(self.file(left["logits"][name]))[rows, labels]).mean())
                for name in ("last", "final")
            )
            if last < final:
                return self.logits(own[0])
        return self.logits(self.optima[place])

    def file(self, digest: str) -> NDArray[Any]:
        return self.found.array(f"{self.api}/artifacts/{digest}")

    @functools.cached_property
    def between(self) -> Floats:
        """Disagreement of finals."""
        return pair_table(self.n, self.weights, lambda i, j: self.finals[i] != self.finals[j])

    @functools.cached_property
    def apart(self) -> Floats:
        """Squared distance of the finals' probabilities."""
        p = self.probabilities
        return pair_table(self.n, self.weights, lambda i, j: ((p[i] - p[j]) ** 2).sum(1))

    @functools.cached_property
    def js(self) -> Floats:
        p = self.probabilities
        return pair_table(self.n, self.weights, lambda i, j: divergences(np.stack([p[i], p[j]])))

    @functools.cached_property
    def tensors(self) -> list[Mapping[str, NDArray[np.float32]]]:
        return [self.found.weights(solution["number"]) for solution in self.optima]

    @functools.cached_property
    def cosine(self) -> Floats:
        """Of finals [R, R, 1], without what cannot change a prediction or starts alike in every run."""
        classes = self.probabilities[0].shape[1]
        return cosines([reduced(one, classes) for one in self.tensors])[:, :, None]

    @functools.cached_property
    def plain_cosine(self) -> Floats:
        return cosines([trained(one) for one in self.tensors])[:, :, None]

    @functools.cached_property
    def windows(self) -> Floats:
        """Disagreement over the pairs of a run's late checkpoints [R, 1 + B]; NaN with fewer than three.

        The paper takes the last 10 epochs of 40; the product (science c.4) takes the last 40 % of the checkpoints after
        the initial one, at least three.
        """
        rows = []
        for run in self.runs:
            trained = [s for s in self.found.solutions if s["run"] == run and s["role"] != "sample" and s["index"] > 0]
            trained.sort(key=lambda s: int(s["index"]))
            late = [self.labels(s) for s in trained[-max(3, round(0.4 * len(trained))) :]]
            pairs = [a != b for a, b in itertools.combinations(late, 2)]
            rows.append(np.mean(pairs, axis=0) if len(late) >= 3 else np.full(self.images, np.nan))
        return np.stack(rows) @ self.weights

    @functools.cached_property
    def typical(self) -> dict[str, Typical]:
        asked = [q for q, chosen in self.asked.items() if chosen["typical"]]
        fewest = [min(self._drawn(q, run) for run in self.runs) for q in asked]
        averaged = min([count for count in fewest if count >= FEWEST_SAMPLES], default=0)
        return {q: self._typical(q, averaged) for q in asked}

    def _drawn(self, method: str, run: int) -> int:
        """Samples of a run that can be averaged; at strength 0 all are one function, of which one is kept."""
        if self.strength(method) == 0:
            return int(self.stage("strength", method)["samples"])
        return len(self.samples(method, run, "typical" if self.strength(method) is None else "fair"))

    def _typical(self, method: str, averaged: int) -> Typical:
        empty, strength = np.full(self.images, np.nan), self.strength(method)
        from_finals, within, means, counts, usable, nearest = [], [], [], [], [], []
        for own, (run, final) in enumerate(zip(self.runs, self.finals, strict=True)):
            drawn = [softmax(self.logits(s)) for s in self.samples(method, run, "typical")]
            p = np.array(drawn).reshape(-1, *self.probabilities[0].shape)
            floor = (final == self.truth).mean() - 0.05 - 1e-12
            kept = [one for one in p.argmax(-1) if (one == self.truth).mean() >= floor]
            differ = np.array([[one != other for other in self.finals] for one in kept])
            from_finals.append(differ.mean(0) if kept else [empty] * self.n)
            if kept:
                nearest.append(float((differ.mean(2).argmin(1) == own).mean()))
            usable.append(len(kept))
            if strength is not None:
                p = np.array([softmax(self.logits(s)) for s in self.samples(method, run, "fair")])
            within.append(divergences(p) if len(p) > 1 else empty)
            counts.append(self._drawn(method, run))
            enough = 0 < averaged <= counts[-1]
            means.append(p[:averaged].mean(0) if enough else np.full_like(self.probabilities[0], np.nan))
        references = [softmax(self.reference(method, place)) for place in range(self.n)]
        gain = [brier(p, self.truth) - brier(q, self.truth) for p, q in zip(references, means, strict=True)]
        return Typical(
            counts=counts,
            usable=usable,
            nearest_own=float(np.mean(nearest)) if nearest else math.nan,
            from_finals=np.array(from_finals) @ self.weights,
            within=np.stack(within) @ self.weights,
            averaged=averaged,
            strength=strength,
            gain=np.stack(gain) @ self.weights,
            apart=pair_table(self.n, self.weights, lambda i, j: ((means[i] - means[j]) ** 2).sum(1)),
        )

    @functools.cached_property
    def strong(self) -> dict[str, Strong]:
        """Of wide samples; typical ones, chosen by their accuracy, stand in where no wide ones were asked for."""
        return {q: self._strong(q, "spread" if chosen["spread"] else "typical") for q, chosen in self.asked.items()}

    def _strong(self, method: str, kind: str) -> Strong:
        strengths, losses, changes, start, between = [], [], [], [], []
        kinds = {m["name"]: m["strength"] for m in self.found.json(f"{self.api}/catalogue")["methods"]}
        for place, (run, final) in enumerate(zip(self.runs, self.finals, strict=True)):
            own = self.samples(method, run, kind)
            right = self.reference(method, place).argmax(1) == self.truth
            centre = self.stage("sample", f"{run}/{method}/{kind}")["centre"]  # the mean they are drawn around, or {}
            origin = self.file(centre[self.split]).argmax(1) if centre else final
            labels = np.stack([origin, *(self.labels(s) for s in own)])
            loss = (right * 1.0 - (labels == self.truth)) @ self.weights
            change = (labels != final) @ self.weights
            strengths.append(np.array([float(s["strength"]) for s in own]))
            losses.append(loss[1:])
            changes.append(change[1:])
            start.append([loss[0], change[0]])
            pairs = itertools.combinations(range(len(own)), 2)
            between.append([
                (self._mean(kinds[method], strengths[-1][i], strengths[-1][j]),
                 (labels[1 + i] != labels[1 + j]) @ self.weights)
                for i, j in pairs
            ])  # fmt: skip
        return Strong(strengths, losses, changes, np.array(start), bool(centre), between)

    def _mean(self, kind: str, one: float, other: float) -> float:
        """Where a pair of samples lies: rates at their mean, other strengths at the quadratic one."""
        return (one + other) / 2 if kind == "rate" else math.sqrt((one**2 + other**2) / 2)

    @functools.cached_property
    def shifted(self) -> Shifted | None:
        """From the logits [S, cells, N, K] that the stages of the study left, the first cell being clean; None where
        there is no such study or only labels and sums were kept."""
        groups = {stage["key"].split("/")[1] for stage in self.about["stages"] if stage["kind"] == "shift"}
        if "optimum" not in groups or "logits" not in self.stage("shift", f"{self.runs[0]}/optimum"):
            return None
        finals = [self._shifted_logits(run, "optimum")[0] for run in self.runs]
        weights = redraws(finals[0].shape[1])

        def pairs_of_runs(cell: int) -> Floats:
            p = [softmax(one[cell]) for one in finals]
            return np.array([[divergences(np.stack([a, b])) for b in p] for a in p])

        def tables(apart: Callable[[int], Floats]) -> tuple[Floats, Floats]:
            cells = range(1, len(finals[0]))
            return apart(0) @ weights, np.asarray(sum(apart(cell) for cell in cells) / len(cells)) @ weights

        def within(method: str) -> tuple[Floats, Floats]:
            clean, shifted = [], []
            for run in self.runs:
                own = self._shifted_logits(run, method)
                both = tables(functools.partial(pairs_of_samples, own))
                clean.append(both[0])
                shifted.append(both[1])
            return np.stack(clean), np.stack(shifted)

        def pairs_of_samples(own: NDArray[np.float32], cell: int) -> Floats:
            return divergences(np.stack([softmax(one) for one in own[:, cell]]))

        methods = sorted(name for name in groups & set(self.asked) if self.strength(name) != 0)
        return Shifted(len(weights), tables(pairs_of_runs), {method: within(method) for method in methods})

    def _shifted_logits(self, run: int, group: str) -> NDArray[np.float32]:
        kept = self.stage("shift", f"{run}/{group}")
        assert kept["cells"][0] == [None, 0], kept["cells"][0]
        return self.file(kept["logits"])


# ---- the claims (o.4) ----


@dataclass(frozen=True)
class Verdict:
    """The parts of every claim, read from some of the runs: all of them, or all but one."""

    evidence: Evidence
    places: tuple[int, ...]

    def parts(self, letter: str) -> list[Part]:
        claim: dict[str, Callable[[str], Part]] = {
            "a": self._a, "b": self._b, "c": self._c, "e1": self._e1, "e2": self._e2, "f1": self._f1,
            "f2": self._f2,
        }  # fmt: skip
        if letter in ("d1", "d2"):
            return [self._d(method, letter) for method in self.methods(letter)]
        return [claim[letter](method) for method in self.methods(letter)]

    def methods(self, letter: str) -> list[str]:
        """One nameless part in the claims without methods."""
        if letter in ("a", "b"):
            return [""]
        if letter == "f2":
            assert self.evidence.shifted is not None
            groups = {s["key"].split("/")[1] for s in self.evidence.about["stages"] if s["kind"] == "shift"}
            return sorted(groups & set(self.evidence.asked))
        return list(self.evidence.strong if letter in ("d1", "d2") else self.evidence.typical)

    def images(self, letter: str) -> int:
        """N, 0 for what has no examples."""
        shifted = self.evidence.shifted if letter == "f2" else None
        return 0 if letter == "a" else self.evidence.images if shifted is None else shifted.images

    def _part(self, letter: str, method: str, statistic: Statistic, numbers: Mapping[str, Floats], gate: str = "",
              counts: Mapping[str, float] | None = None, **more: bool) -> Part:  # fmt: skip
        """numbers: behind the estimate, each an array of one."""
        shown = {name: float(value[0]) for name, value in numbers.items()} | dict(counts or {})
        if len(self.places) < 3:
            return Part(method, None, f"{len(self.places)} runs", numbers=shown)
        found = estimate(statistic, self.places, THEIR_DRAWS if letter in ("d1", "d2") else math.inf)
        gate = self._common_gate(letter, found) or gate
        if not gate and found.undefined > UNDEFINED:
            gate = f"undefined in {found.undefined:.0%} of the redraws"
        hangs = abs(found.undefined - UNDEFINED) < found.undefined_tolerance
        return Part(method, found, gate, numbers=shown, **{"hangs_on_draws": hangs, **more})

    def _common_gate(self, letter: str, found: Estimate) -> str:
        images, evidence = self.images(letter), self.evidence
        if images < FEWEST_IMAGES.get(letter, 0):
            return f"{images} images"
        labels = [evidence.finals[i][:images] for i in self.places]
        if images and np.mean([(a != b).sum() for a, b in itertools.combinations(labels, 2)]) < FEWEST_DIFFERENT:
            return "runs differ on too few examples"
        is_defined = math.isfinite(found.value + found.runs_part)
        return "" if is_defined else "undefined, or undefined without some run"

    def _enough(self, counts: Sequence[int], what: str) -> str:
        fewest = min(counts[i] for i in self.places)
        return "" if fewest >= FEWEST_SAMPLES else f"{fewest} {what} in some run"

    def _a(self, _: str) -> Part:
        cosine = self.evidence.cosine
        largest = max(abs(float(cosine[i, j, 0])) for i, j in itertools.combinations(self.places, 2))
        plain = {"of all weights as they are": over_pairs(self.evidence.plain_cosine, self.places, PLAIN)}
        return self._part(
            "a", "", lambda runs, _: over_pairs(cosine, runs, PLAIN), plain, counts={"largest |cosine|": largest}
        )

    def _b(self, _: str) -> Part:
        between, windows, here = self.evidence.between, self.evidence.windows, (self.places, PLAIN)
        numbers = {
            "across runs": over_pairs(between, *here),
            "two recent checkpoints of a run": over_runs(windows, *here),
        }
        gate = "" if np.isfinite(windows).all() else "fewer than 3 late checkpoints"
        return self._part(
            "b", "", lambda *of: np.log(over_pairs(between, *of) / over_runs(windows, *of)), numbers, gate
        )

    def _c(self, method: str) -> Part:
        typical, here = self.evidence.typical[method], (self.places, PLAIN)
        d = typical.from_finals

        def other(runs: Runs, c: slice) -> Floats:
            return np.asarray(np.mean([d[i, j, c] for i, j in itertools.permutations(runs, 2)], axis=0))

        def own(runs: Runs, c: slice) -> Floats:
            return np.asarray(np.mean([d[i, i, c] for i in runs], axis=0))

        return self._part(
            "c",
            method,
            lambda *of: np.log(other(*of) / own(*of)),
            {"from other runs": other(*here), "from its own run": own(*here)},
            self._enough(typical.usable, "usable samples"),
            {
                "share nearest to its own run": typical.nearest_own,
                "fewest usable samples in a run": min(typical.usable[i] for i in self.places),
            },
        )

    def _d(self, method: str, letter: str) -> Part:
        strong, between, here = self.evidence.strong[method], self.evidence.between, (self.places, PLAIN)

        def reached(cost: float, runs: Runs, c: slice) -> Floats:
            return strong.at(cost, runs, c)[0] if letter == "d1" else strong.among(cost, runs, c)

        def ratio(cost: float, runs: Runs, c: slice) -> Floats:
            return np.asarray(over_pairs(between, runs, c) / reached(cost, runs, c))

        _, there, (support,) = strong.at(COST, *here)
        s = np.concatenate([strong.strengths[i] for i in self.places])
        below, beyond = int(((s > 0) & (s <= there)).sum()), int((s > there).sum())
        is_thin = below < FEWEST_BELOW or (beyond < FEWEST_BEYOND and support != TOO_SHORT)
        gate = support if support == NO_SUPPORT else f"{below} samples below s*, {beyond} beyond" if is_thin else ""
        what = "samples" if letter == "d1" else "two samples of a run"
        centre = over_runs(strong.start[:, 1], *here)
        part = self._part(
            letter,
            method,
            lambda *of: np.log(ratio(COST, *of)),
            {
                "independent runs": over_pairs(between, *here),
                f"{what} at equal accuracy": reached(COST, *here),
                **({"of which the centre's own distance": centre} if strong.is_centred and letter == "d1" else {}),
                "strength there": there,
                "ratio at 0.5 points": ratio(COST / 2, *here),
                "ratio at 2 points": ratio(COST * 2, *here),
            },
            gate,
            {"samples below": below, "samples beyond": beyond},
            is_lower_bound=support == TOO_SHORT,
        )
        enough = len(self.places) >= 3 and support != NO_SUPPORT
        level = estimate(lambda *of: reached(COST, *of), self.places, THEIR_DRAWS) if enough else None
        return replace(part, level=level)

    def _gain(self, letter: str, method: str, statistic: Callable[[Floats, Floats, Floats], Floats]) -> Part:
        """(e1) and (e2) from three gains of the Brier score: of averaged samples, of 4 runs, of both."""
        typical, apart = self.evidence.typical[method], self.evidence.apart

        def gains(runs: Runs, c: slice) -> tuple[Floats, Floats, Floats]:
            alone = over_runs(typical.gain, runs, c)
            of_four = (1 - 1 / 4) / 2
            return alone, of_four * over_pairs(apart, runs, c), alone + of_four * over_pairs(typical.apart, runs, c)

        names = ("Brier gain of averaging a run's samples", "of an ensemble of 4", "of both")
        return self._part(
            letter,
            method,
            lambda *of: statistic(*gains(*of)),
            dict(zip(names, gains(self.places, PLAIN), strict=True)),
            self._enough(typical.counts, "samples"),
            {"samples averaged": typical.averaged},
        )

    def _e1(self, method: str) -> Part:
        return self._gain("e1", method, lambda alone, ensemble, _: alone / ensemble)

    def _e2(self, method: str) -> Part:
        return self._gain("e2", method, lambda _, ensemble, both: both / ensemble - 1)

    def _f1(self, method: str) -> Part:
        if self.evidence.typical[method].strength == 0:
            return Part(method, None, "all its samples are one function")
        typical, js, here = self.evidence.typical[method], self.evidence.js, (self.places, PLAIN)
        return self._part(
            "f1",
            method,
            lambda *of: np.log(over_pairs(js, *of) / over_runs(typical.within, *of)),
            {
                "between two runs (nats)": over_pairs(js, *here),
                "between two samples of a run (nats)": over_runs(typical.within, *here),
            },
            self._enough(typical.counts, "samples"),
        )

    def _f2(self, method: str) -> Part:
        """(J_b - J_q) under shift minus 1.1 (J_b - J_q) clean; asked only where (f1) holds, here on the same clean
        images and samples."""
        shifted, here = self.evidence.shifted, (self.places, PLAIN)
        assert shifted is not None
        if method not in shifted.within:
            return Part(method, None, "all its samples are one function")
        between, within = shifted.between, shifted.within[method]

        def lead(k: int, runs: Runs, c: slice) -> Floats:
            return over_pairs(between[k], runs, c) - over_runs(within[k], runs, c)

        def first(*of: Any) -> Floats:
            return np.asarray(np.log(over_pairs(between[0], *of) / over_runs(within[0], *of)))

        part, margin = self._part("f2", method, first, {}), math.log(self.evidence.about["spec"]["margins"]["f1"])
        word, words = RULES["f1"].word([part], margin, [1.0])[0], RULES["f1"].words([part], margin)
        return self._part(
            "f2",
            method,
            lambda *of: lead(1, *of) - 1.1 * lead(0, *of),
            {
                "between runs minus within, under shift (nats)": lead(1, *here),
                "the same on clean images (nats)": lead(0, *here),
            },
            "" if word == HOLDS else "(f1) does not hold here",
            hangs_on_draws=part.hangs_on_draws or len(words) > 1,
        )


# ---- theirs against ours ----


@dataclass
class Comparison:
    """Their claims beside ours, row by row; `wrong` says what differs, `marginal` which words hang on the redraws."""

    evidence: Evidence
    rows: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    marginal: list[str] = field(default_factory=list)
    numbers: int = 0

    def run(self) -> None:
        theirs = {claim["id"]: claim for claim in self.evidence.about["findings"]["claims"]}
        self.rows.append(
            f"{'claim':6}{'method':12}{'theirs':>34}{'ours':>34}{'V_R':>10}{'V_E':>10}{'V_E th/ours':>13}  word"
        )
        for letter in RULES:
            if letter == "f2" and letter in theirs and self.evidence.shifted is None:
                self.rows.append("f2    left out: its logits were not kept, only labels and sums")
            elif letter in theirs:
                self._claim(letter, theirs[letter])
        survivors = holm({c["id"]: c["p"] for c in theirs.values() if c["p"] is not None})
        for letter, claim in theirs.items():
            self._equal(letter, "survives Holm", claim["survives"], letter in survivors)

    def _claim(self, letter: str, theirs: Mapping[str, Any]) -> None:
        everyone, rule = Verdict(self.evidence, tuple(range(self.evidence.n))), RULES[letter]
        margins = self.evidence.about["spec"]["margins"]
        asked = margins["d1" if letter == "d2" else letter]  # (d2) shares (d1)'s
        margin = math.log(asked) if letter in RATIOS else asked
        self._equal(letter, "n", theirs["n"], self.evidence.n)
        self._equal(letter, "N", theirs["N"], everyone.images(letter))
        self._close(letter, "margin", theirs["margin"], margin)
        parts = everyone.parts(letter)
        if letter in ("a", "b"):
            shown = {"value": theirs["estimate"], "low": theirs["low"], "high": theirs["high"]}
            parts = [self._part(letter, parts[0], {**theirs, "estimate": shown}, margin)]
        elif theirs["methods"] or not all(part.gate for part in parts):  # a gate of the whole claim lists no methods
            by_method = {part["method"]: part for part in theirs["methods"]}
            self._equal(letter, "methods", sorted(by_method), sorted(part.method for part in parts))
            parts = [self._part(letter, part, by_method[part.method], margin) for part in parts]
        possible, usual = rule.words(parts, margin), rule.word(parts, margin, [1.0] * len(parts))[0]
        word = FOR_OTHERS if f"{theirs['word']}: {theirs['qualifier']}" == FOR_OTHERS else theirs["word"]
        self._word(letter, word, usual, possible)
        if letter not in ("a", "b"):
            self.rows.append(f"{letter:6}{'all':12}{'':101}  {word} / {usual}")
        told = [p for p in possible.get(word, []) if not math.isnan(p)]
        if told or theirs["p"] is None:
            self._equal(letter, "was tested", theirs["p"] is not None, bool(told))
        if told and theirs["p"] is not None:
            low, high = min(told), max(told)
            self._within(letter, "p", theirs["p"], low * (1 - TOLERANCE), high * (1 + TOLERANCE))
        self._stability(letter, theirs, margin)

    def _part(self, letter: str, ours: Part, theirs: Mapping[str, Any], margin: float) -> Part:
        """Compares a method's part; returns ours, its gate theirs where only the redraws decide about it."""
        name, rule = f"{letter} {ours.method}".strip(), Rule(RULES[letter].side, "one")
        usual, possible = rule.word([ours], margin, [1.0])[0], rule.words([ours], margin)
        gate = theirs.get("gate", ours.gate)  # (a) and (b) have the word alone
        our_gate = ours.gate or (TOO_SHORT if ours.is_lower_bound and usual == OPEN else "")
        if bool(gate) != bool(our_gate) and (ours.hangs_on_draws or (ours.is_lower_bound and len(possible) > 1)):
            self.marginal.append(f"({name}) the gate hangs on the redraws: {gate!r}, ours {our_gate!r}")
            ours = replace(ours, gate=gate)
            usual, possible = rule.word([ours], margin, [1.0])[0], rule.words([ours], margin)
        else:
            self._equal(name, "has a gate", bool(gate), bool(our_gate))
        for title, value in ours.numbers.items():
            if title in theirs["parts"] or not gate:  # a closed gate may leave out what is behind it
                self._close(name, title, theirs["parts"].get(title), value)
        if ours.level is not None and not gate:
            ends = [theirs["parts"][f"its {end} end"] for end in ("lower", "upper")]
            closest = [ours.level.interval(scale) for scale in ours.level.scales]
            self._within(name, "lower end", ends[0], max(closest[-1][0], 0.0) - 1e-9, max(closest[0][0], 0.0) + 1e-9)
            self._within(name, "upper end", ends[1], closest[0][1] - 1e-9, closest[-1][1] + 1e-9)
        shown, found, ratio = theirs["estimate"] or {}, ours.estimate, math.nan
        there = [shown.get(key) for key in ("value", "low", "high")]
        if found is not None and None not in there:
            self._close(name, "estimate", there[0], found.value)
            ratio = self._interval(name, found, shown["low"], shown["high"])
            if "undefined" in shown:
                about = found.undefined, found.undefined_tolerance
                self._within(name, "undefined", shown["undefined"], about[0] - about[1], about[0] + about[1])
        self._word(name, theirs["word"], usual, possible)
        here = [math.nan] * 3 if found is None else [found.value, *found.interval()]
        both = [math.nan] * 2 if found is None else [found.runs_part, found.examples_part]
        self.rows.append(
            f"{letter:6}{ours.method or '-':12}{_text(there):>34}{_text(here):>34}{both[0]:10.2e}{both[1]:10.2e}"
            f"{ratio:13.3f}  {theirs['word']} / {usual}{f' ({our_gate})' if our_gate else ''}"
        )
        return ours

    def _interval(self, name: str, found: Estimate, low: float, high: float) -> float:
        """Checks both ends; returns their V_E over ours."""
        half = (high - low) / 2
        self._close(name, "middle of the interval", (high + low) / 2, found.value)
        halves = [(b - a) / 2 for a, b in map(found.interval, found.scales)]
        self._within(name, "half-width", half, min(halves) * (1 - TOLERANCE), max(halves) * (1 + TOLERANCE))
        if not found.examples_part > 0:
            return math.nan
        theirs = (half / float(student.ppf(1 - LEVEL, found.n - 1))) ** 2 - found.runs_part
        return theirs / found.examples_part

    def _stability(self, letter: str, theirs: Mapping[str, Any], margin: float) -> None:
        """The word without each run in turn (o.6)."""
        if self.evidence.n < 4 or theirs["word"] == OPEN:
            return
        for place, run in enumerate(self.evidence.runs):
            rest = tuple(i for i in range(self.evidence.n) if i != place)
            parts = Verdict(self.evidence, rest).parts(letter)
            if any(part.hangs_on_draws for part in parts):
                continue
            words = set(RULES[letter].words(parts, margin))
            changes = run in theirs["rests_on"]
            self.numbers += 1
            if (changes and words == {theirs["word"]}) or (not changes and theirs["word"] not in words):
                self.wrong.append(
                    f"({letter}) without run {run}: {sorted(words)}, theirs rests on {theirs['rests_on']}"
                )

    def _word(self, name: str, theirs: str, usual: str, possible: Mapping[str, Any]) -> None:
        self.numbers += 1
        if theirs not in possible:
            self.wrong.append(f"({name}) word: {theirs!r}, ours {usual!r}")
        elif len(possible) > 1:
            self.marginal.append(f"({name}) {theirs!r} hangs on the redraws: {', '.join(sorted(possible))}")

    def _within(self, name: str, what: str, theirs: float, low: float, high: float) -> None:
        self.numbers += 1
        if not low <= theirs <= high:
            self.wrong.append(f"({name}) {what}: {theirs:.6g} is not within {low:.6g} to {high:.6g}")

    def _equal(self, name: str, what: str, theirs: Any, ours: Any) -> None:
        self.numbers += 1
        if theirs != ours:
            self.wrong.append(f"({name}) {what}: {theirs!r}, ours {ours!r}")

    def _close(self, name: str, what: str, theirs: float | None, ours: float) -> None:
        self.numbers += 1
        value = math.nan if theirs is None else theirs
        if not np.isclose(value, ours, rtol=TOLERANCE, atol=1e-9, equal_nan=True):
            self.wrong.append(f"({name}) {what}: {value!r}, ours {ours!r}")


def holm(p: Mapping[str, float]) -> set[str]:
    """Claims whose word survives among all that were tested, whether they got one or not."""
    kept: set[str] = set()
    for place, letter in enumerate(sorted(p, key=lambda one: p[one])):
        if p[letter] > LEVEL / (len(p) - place):
            break
        kept.add(letter)
    return kept


def _text(values: Sequence[float | None]) -> str:
    return " ".join("-" if one is None or math.isnan(one) else f"{one:.6f}" for one in values)


def check_verdict(found: Downloaded) -> int:
    """Recompute every claim there is and print the table; returns how many numbers were compared."""
    comparison = Comparison(Evidence(found))
    comparison.run()
    print("\n".join([*comparison.rows, *comparison.marginal]))
    assert not comparison.wrong, "\n".join(comparison.wrong)
    return comparison.numbers


if __name__ == "__main__":
    try:
        _, url, slug = sys.argv
        print(f"{check_verdict(Downloaded(url, slug))} numbers recomputed")
    except AssertionError as difference:
        sys.exit(str(difference))
