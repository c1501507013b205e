"""What is averaging n functions worth, and does the average know how sure it may be?

    scores = EnsembleScores(members=5)
    for block in blocks:                             # the examples, a block at a time
        scores.add(logits[:, block], labels[block])  # [R, n, K], [n]
    scores.of(4)["brier"].mean()                     # over all five ensembles of four
    scores.identities()                              # what must be equal, and is it?
    reliability(*confidences(outputs, labels))       # is it right as often as it is sure?

An ensemble's prediction is the mean of its members' probabilities (science a.8). Members are given as logits, or as
the log-probabilities of `predictions.average` where a member is itself a mean of samples. Everything is summed in
float64 over blocks of examples, so memory grows with neither N nor the number of ensembles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from modescape.science.predictions import average, bin_of, entropy, log_softmax

Array = NDArray[Any]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

METRICS = ("accuracy", "brier", "nll", "ece")
MAX_SUBSETS = 100  # of one size; more are sampled
BINS = 15
TOLERANCE = 1e-9  # of the identities

_VALUES = 1 << 18  # averaged probabilities in memory at a time: 2 MB
_SMALLEST = 1e-280  # below it a probability loses digits and its logarithm is taken from the logits instead


def sizes(members: int) -> tuple[int, ...]:
    """Ensemble sizes worth scoring: each one up to ten, then steps of about a third, and all members."""
    chosen = list(range(1, min(members, 10) + 1))
    while chosen[-1] < members:
        chosen.append(min(members, -(-chosen[-1] * 4 // 3)))
    return tuple(chosen)


def subsets(members: int, size: int, *, limit: int = MAX_SUBSETS, seed: int = 0) -> tuple[tuple[int, ...], ...]:
    """Every choice of `size` of `members`, or `limit` different ones drawn by `seed` when there are more; sorted.

    The draw depends on members, size and seed alone, so groups of equally many members are compared on the same ones.
    """
    if comb(members, size) <= limit:
        return tuple(combinations(range(members), size))
    random = np.random.default_rng([seed, members, size])
    drawn: set[tuple[int, ...]] = set()
    while len(drawn) < limit:
        drawn.add(tuple(sorted(random.choice(members, size, replace=False).tolist())))
    return tuple(sorted(drawn))


@dataclass(frozen=True)
class Identity:
    """Two ways to one number. `residual` is what rounding leaves between them, or a mistake."""

    name: str
    left: float
    right: float

    @property
    def residual(self) -> float:
        return abs(self.left - self.right)

    @property
    def holds(self) -> bool:
        """Within TOLERANCE; a number that is not finite never is."""
        return self.residual <= TOLERANCE


class EnsembleScores:
    """Accuracy, Brier score, NLL (nats) and calibration error of ensembles of every size, and what they are made of.

    members: R, the functions averaged; only: these sizes (None: those of `sizes`); seed: of the subsets of sizes that
    have too many to take all; bins: of the calibration error.
    """

    def __init__(self, members: int, *, only: Sequence[int] | None = None, seed: int = 0, bins: int = BINS) -> None:
        self.members, self.bins, self.examples = members, bins, 0
        asked = sizes(members) if only is None else only
        self.subsets = {size: subsets(members, size, seed=seed) for size in asked}
        everyone = [subset for some in self.subsets.values() for subset in some]
        self._size = np.array([len(subset) for subset in everyone], dtype=np.float64)
        self._membership = np.zeros((len(everyone), members))
        for row, subset in zip(self._membership, everyone, strict=True):
            row[list(subset)] = 1.0
        self._subsets = everyone
        self._right = np.zeros(len(everyone), np.int64)
        self._brier, self._nll = np.zeros(len(everyone)), np.zeros(len(everyone))
        self._gaps = np.zeros((len(everyone), bins))
        self._gram = np.zeros((members, members))
        self._member_brier = np.zeros(members)
        self._whole_brier = self._ambiguity = self._total = self._aleatoric = self._epistemic = 0.0

    def add(self, outputs: Array, labels: Array, *, check: Callable[[], None] | None = None) -> None:
        """Take in a block of examples: logits or log-probabilities [R, n, K] of every member, labels [n].

        check is called now and then and may raise to stop.
        """
        rows = max(1, _VALUES // (len(self._subsets) * outputs.shape[-1]))
        for start in range(0, len(labels), rows):
            if check is not None:
                check()
            logs = log_softmax(outputs[:, start : start + rows])
            truth = np.asarray(labels[start : start + rows])
            probabilities = np.exp(logs)
            self._score(logs, probabilities, truth)
            self._decompose(logs, probabilities, truth)
        self.examples += len(labels)

    def _score(self, logs: Floats, probabilities: Floats, truth: Array) -> None:
        """Every subset at once: sums of probabilities are one product with the matrix of memberships."""
        members, count, classes = probabilities.shape
        sums = (self._membership @ probabilities.reshape(members, -1)).reshape(-1, count, classes)
        size = self._size[:, None]
        right = sums.argmax(axis=-1) == truth
        confidence = sums.max(axis=-1) / size
        true_sums = sums[:, np.arange(count), truth]
        squares = np.einsum("snk,snk->sn", sums, sums)
        self._right += right.sum(axis=1)
        self._brier += (squares / size**2 - 2 * true_sums / size + 1).sum(axis=1)
        self._nll += (np.log(size) - self._true_logs(true_sums, logs[:, np.arange(count), truth])).sum(axis=1)
        place = bin_of(confidence, self.bins) + self.bins * np.arange(len(sums))[:, None]
        gaps = np.bincount(place.ravel(), (right - confidence).ravel(), minlength=self._gaps.size)
        self._gaps += gaps.reshape(self._gaps.shape)

    def _true_logs(self, sums: Floats, logs: Floats) -> Floats:
        """Logarithms [S, n] of the sums, exact too where the members [R, n] give the true class less than float64."""
        found = np.log(np.maximum(sums, _SMALLEST))
        for subset, example in np.argwhere(sums <= _SMALLEST).tolist():
            found[subset, example] = np.logaddexp.reduce(logs[list(self._subsets[subset]), example])
        return found

    def _decompose(self, logs: Floats, probabilities: Floats, truth: Array) -> None:
        """The two sides of the identities, each computed as it is defined and from nothing the other side uses."""
        centre = probabilities.mean(axis=0)
        one_hot = np.zeros_like(centre)
        one_hot[np.arange(len(truth)), truth] = 1.0
        flat = probabilities.reshape(len(probabilities), -1)
        self._gram += flat @ flat.T
        self._member_brier += np.square(probabilities - one_hot).sum(axis=(1, 2))
        self._whole_brier += float(np.square(centre - one_hot).sum())
        self._ambiguity += float(np.square(probabilities - centre).sum()) / len(probabilities)
        log_centre = np.log(np.where(centre > 0, centre, 1.0))
        self._total += float(entropy(centre).sum())
        self._aleatoric -= float((probabilities * logs).sum()) / len(probabilities)
        self._epistemic += float((probabilities * (logs - log_centre)).sum()) / len(probabilities)

    # ---- what was found ----

    def of(self, size: int) -> Mapping[str, Floats]:
        """Each of METRICS for every scored ensemble of that size, [subsets] in the order of `subsets[size]`."""
        mine = self._size == size
        return {
            "accuracy": self._right[mine] / self.examples,
            "brier": self._brier[mine] / self.examples,
            "nll": self._nll[mine] / self.examples,
            "ece": np.abs(self._gaps[mine]).sum(axis=1) / self.examples,
        }

    def expected_brier(self, size: int | None) -> float:
        """Mean Brier score over *all* ensembles of that size, exactly and without forming them; None: endlessly many.

        mean single - (1 - 1/n) / 2 * mean over pairs of members of the mean squared distance of their probabilities.
        Members drawn independently make it c + b/n in expectation (science l.3), c its value at None.
        """
        single = float(self._member_brier.mean()) / self.examples
        if self.members < 2:
            return single if size == 1 else float("nan")
        squares = np.diag(self._gram)
        apart = (squares[:, None] + squares[None] - 2 * self._gram)[np.triu_indices(self.members, 1)]
        share = 1.0 if size is None else 1 - 1 / size
        return single - share / 2 * float(apart.mean()) / self.examples

    @property
    def ambiguity(self) -> float:
        """Mean squared distance of the members from their mean, summed over classes: what averaging takes off Brier."""
        return self._ambiguity / self.examples

    @property
    def entropy(self) -> tuple[float, float, float]:
        """total, aleatoric and epistemic uncertainty of the whole ensemble, nats (science a.7)."""
        return self._total / self.examples, self._aleatoric / self.examples, self._epistemic / self.examples

    def identities(self) -> tuple[Identity, ...]:
        """What must hold to rounding: the ambiguity decomposition of the Brier score (Krogh & Vedelsby 1995), the split
        of entropy into aleatoric and epistemic, and `expected_brier` of the sizes of which every ensemble was scored
        (of those the one that is furthest off)."""
        n = self.examples
        members = float(self._member_brier.mean()) / n
        total, aleatoric, epistemic = self.entropy
        complete = [size for size, some in self.subsets.items() if len(some) == comb(self.members, size)]
        by_size = [Identity("size", float(self.of(s)["brier"].mean()), self.expected_brier(s)) for s in complete]
        by_size.sort(key=lambda identity: (not identity.holds, identity.residual))
        return (
            Identity("brier", self._whole_brier / n, members - self.ambiguity),
            Identity("entropy", total, aleatoric + epistemic),
            *by_size[-1:],
        )


# ------------------------------------------------------------------------------------------------------- calibration

BinKind = Literal["width", "mass"]


def confidences(outputs: Array, labels: Array, *, temperature: float = 1.0) -> tuple[Floats, NDArray[np.bool_]]:
    """The largest probability of each prediction, and whether its class is right: [..., N, K] -> [..., N] each.

    outputs: logits, or log-probabilities of an average. temperature divides them first (Guo et al. 2017, section 4.2).
    """
    probabilities = np.exp(log_softmax(np.asarray(outputs, np.float64) / temperature))
    return probabilities.max(axis=-1), np.asarray(outputs.argmax(axis=-1) == labels)


@dataclass(frozen=True)
class Reliability:
    """Examples by confidence: count [B], mean confidence and accuracy [B] (NaN in empty bins), and their ECE."""

    count: Ints
    confidence: Floats
    accuracy: Floats

    @property
    def ece(self) -> float:
        """sum_b n_b / N |accuracy_b - confidence_b|, 0 to 1."""
        gaps = np.where(self.count > 0, self.count * np.abs(self.accuracy - self.confidence), 0.0)
        return float(gaps.sum() / self.count.sum())


def reliability(confidence: Array, right: Array, *, bins: int = BINS, kind: BinKind = "width") -> Reliability:
    """The reliability diagram of predictions with those confidences, in bins lo < confidence <= hi.

    kind "width": equal intervals of (0, 1]; "mass": between quantiles, so that bins hold equally many examples (equal
    confidences stay together, which may leave bins empty).
    """
    values, hits = np.asarray(confidence, np.float64).ravel(), np.asarray(right).ravel()
    if kind == "width":
        place = bin_of(values, bins)
    else:
        place = np.searchsorted(np.percentile(values, 100 * np.linspace(0, 1, bins + 1))[1:-1], values, side="left")
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        return Reliability(
            count,
            np.bincount(place, values, minlength=bins) / count,
            np.bincount(place, hits, minlength=bins) / count,
        )


class CalibratedScores:
    """NLL (nats) and calibration error of ensembles after each one's own temperature: pooled first, then calibrated.

    `EnsembleScores`' twin on the same subsets. Averaging probabilities makes predictions less sure, which gains NLL and
    calibration that one number could have gained as well; what is left between twins is not that (science o.10).
    temperatures: size -> one for each subset of that size, in their order; seed: of the subsets, as there.
    """

    def __init__(
        self, members: int, temperatures: Mapping[int, Sequence[float]], *, seed: int = 0, bins: int = BINS
    ) -> None:
        self.bins, self.examples = bins, 0
        self.temperatures = temperatures
        self.subsets = {size: subsets(members, size, seed=seed) for size in temperatures}
        self._nll = {size: np.zeros(len(some)) for size, some in self.subsets.items()}
        self._gaps = {size: np.zeros((len(some), bins)) for size, some in self.subsets.items()}

    def add(self, outputs: Array, labels: Array, *, check: Callable[[], None] | None = None) -> None:
        """Take in a block of examples: logits or log-probabilities [R, n, K] of every member, labels [n]."""
        for size, some in self.subsets.items():
            for i, subset in enumerate(some):
                if check is not None:
                    check()
                logs = log_softmax(average(outputs[member] for member in subset) / self.temperatures[size][i])
                sure = np.exp(logs.max(axis=-1))
                right = logs.argmax(axis=-1) == labels
                self._nll[size][i] -= float(logs[np.arange(len(labels)), labels].sum())
                self._gaps[size][i] += np.bincount(bin_of(sure, self.bins), right - sure, minlength=self.bins)
        self.examples += len(labels)

    def of(self, size: int) -> Mapping[str, Floats]:
        """nll and ece of every scored ensemble of that size."""
        return {
            "nll": self._nll[size] / self.examples,
            "ece": np.abs(self._gaps[size]).sum(axis=1) / self.examples,
        }


def fit_temperatures(
    outputs: Array,
    labels: Array,
    *,
    only: Sequence[int] = (),
    seed: int = 0,
    check: Callable[[], None] | None = None,
) -> dict[int, tuple[float, ...]]:
    """One temperature for every ensemble that is scored, fitted to its averaged prediction: members' logits or
    log-probabilities [R, n, K] on images it is not judged on, labels [n]; size -> in the order of `subsets`.

    only: sizes that are scored, all `sizes` if empty; seed: of the subsets.
    """
    members = len(outputs)
    return {
        size: tuple(
            fit_temperature(average(outputs[member] for member in subset), labels, check=check)
            for subset in subsets(members, size, seed=seed)
        )
        for size in only or sizes(members)
    }


def fit_temperature(outputs: Array, labels: Array, *, check: Callable[[], None] | None = None) -> float:
    """The temperature, 0.01 to 100, at which outputs [N, K] have the smallest NLL on labels [N] (Guo et al. 2017).

    NLL is convex in b = 1/T with the derivative mean(sum_k p_k z_k - z_y), so its root is found by bisection in log b,
    to eight digits. Fit it on other images than it is judged on. Without any wrong prediction the coldest wins.
    """
    logs = log_softmax(outputs)
    right = logs[np.arange(len(labels)), labels]
    low, high = -np.log(100.0), np.log(100.0)
    for _ in range(32):
        if check is not None:
            check()
        middle = (low + high) / 2
        odds = np.exp(log_softmax(np.exp(middle) * logs))
        if float((np.einsum("nk,nk->n", odds, logs) - right).mean()) > 0:
            high = middle
        else:
            low = middle
    return float(np.exp(-(low + high) / 2))
