"""Do the functions notice that images are of another kind? Scores of one or several members, and how well they detect.

    [inside], _ = noticed([own])                      # logits [N, K] of each member, on both sets
    [outside], _ = noticed([other])
    detection(outside.scores["entropy"], inside.scores["entropy"]).auroc

Larger scores mean more out of distribution, and out-of-distribution images are the positives. Everything is computed in
float64 from logits, members one at a time, a block of images after the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from modescape.science.blocks import blocks
from modescape.science.predictions import entropy, log_softmax

Array = NDArray[Any]
Floats = NDArray[np.float64]

Score = Literal["entropy", "max-probability", "mutual-information", "max-logit", "energy"]
SCORES: tuple[Score, ...] = get_args(Score)
BINS = 40

_VALUES = 1 << 18  # probabilities of a member at a time: 2 MB


class Together:
    """Several members' predictions on the same images, added one at a time; every member counts the same."""

    def __init__(self) -> None:
        self.members = 0
        self._probabilities: Any = 0.0
        self._logits: Any = 0.0
        self._entropy: Any = 0.0

    def add(self, logits: Array) -> None:
        """One member's logits [N, K]."""
        p = np.exp(log_softmax(logits))
        self._probabilities = self._probabilities + p
        self._logits = self._logits + np.asarray(logits, np.float64)
        self._entropy = self._entropy + entropy(p)
        self.members += 1

    def merge(self, other: Together) -> None:
        """The members of another group as one more, however many they are: a run of several samples (science a.8)."""
        self._probabilities = self._probabilities + other.probabilities
        self._logits = self._logits + other._logits / other.members
        self._entropy = self._entropy + other._entropy / other.members
        self.members += 1

    @property
    def probabilities(self) -> Floats:
        """Mean probabilities [N, K]: the ensemble's prediction."""
        return np.asarray(self._probabilities / self.members)

    @property
    def mutual_information(self) -> Floats:
        """Entropy of the mean minus mean entropy, per image [N] in nats: its mean is `similarity.js_mean`."""
        return np.asarray(np.maximum(entropy(self.probabilities) - self._entropy / self.members, 0.0))

    def score(self, name: Score) -> Floats:
        """How far out each image looks [N]; larger is further (science a.11).

        entropy: of the mean probabilities; max-probability: 1 - their largest; mutual-information: what the members
        disagree on (zero for one member); max-logit: - the largest, and energy: -logsumexp, of the members' mean
        logits (Hendrycks et al. 2022; Liu et al. 2020).
        """
        if name == "entropy":
            return entropy(self.probabilities)
        if name == "max-probability":
            return np.asarray(1 - self.probabilities.max(axis=-1))
        if name == "mutual-information":
            return self.mutual_information
        logits = np.asarray(self._logits / self.members)
        largest = logits.max(axis=-1)
        if name == "max-logit":
            return np.asarray(-largest)
        return np.asarray(-(largest + np.log(np.exp(logits - largest[:, None]).sum(axis=-1))))


@dataclass(frozen=True, eq=False)
class Noticed:
    """Scores [N] of every image by several members together, and how many they are."""

    members: int
    scores: Mapping[Score, Floats]

    @property
    def js_mean(self) -> float:
        """M-sample Jensen-Shannon divergence, 1/M form, mean over images in nats (science a.9)."""
        return float(self.scores["mutual-information"].mean())


def noticed(runs: Sequence[Sequence[Array]]) -> tuple[list[Noticed], Noticed]:
    """What each run's functions say together, and what all runs do, each counting the same: logits [N, K] of every
    function, of which a block is in memory at a time."""
    images, classes = runs[0][0].shape
    found = [{score: np.empty(images) for score in SCORES} for _ in (*runs, "all")]
    for part in blocks([function for run in runs for function in run], _VALUES // classes):
        everyone = Together()
        for run, scores in zip(runs, found, strict=False):
            own = Together()
            for function in run:
                own.add(function[part])
            everyone.merge(own)
            _put(scores, part, own)
        _put(found[-1], part, everyone)
    *each, whole = found
    return [Noticed(len(run), own) for run, own in zip(runs, each, strict=True)], Noticed(len(runs), whole)


def _put(scores: dict[Score, Floats], part: slice, together: Together) -> None:
    for score, values in scores.items():
        values[part] = together.score(score)


@dataclass(frozen=True)
class Detection:
    """How well a score parts images of another kind (the positives) from images of the same kind.

    auroc: P(score outside > inside) + P(equal) / 2, chance .5; fpr95: the share of inside images flagged when at least
    95 % of the outside ones are; aupr_out, aupr_in: average precision with the outside, or the inside, as positives,
    whose chance level is their share.
    """

    auroc: float
    fpr95: float
    aupr_out: float
    aupr_in: float


def detection(outside: Array, inside: Array) -> Detection:
    """Detection by scores [n] of images outside and [m] inside the training distribution; ties count as ties."""
    return Detection(
        auroc=auroc(outside, inside),
        fpr95=fpr_at_tpr(outside, inside),
        aupr_out=average_precision(outside, inside),
        aupr_in=average_precision(-np.asarray(inside), -np.asarray(outside)),
    )


def auroc(positives: Array, negatives: Array) -> float:
    """Area under the ROC curve as a rank statistic: P(positive > negative) + P(equal) / 2, with mid-ranks."""
    values = np.concatenate([positives, negatives]).astype(np.float64)
    n, m = len(positives), len(negatives)
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2  # the mean rank of each group of equal values, from 1
    return float((middle[place[:n]].sum() - n * (n + 1) / 2) / (n * m))


def fpr_at_tpr(positives: Array, negatives: Array, *, tpr: float = 0.95) -> float:
    """Share of negatives at or above the highest threshold that catches at least `tpr` of the positives."""
    ordered = np.sort(np.asarray(positives, np.float64))
    needed = int(np.ceil(tpr * len(ordered) - 1e-9))
    return float(np.mean(np.asarray(negatives, np.float64) >= ordered[len(ordered) - needed]))


def average_precision(positives: Array, negatives: Array) -> float:
    """Area under the precision-recall curve as the sum of precision times the step of recall, thresholds at ties."""
    values = np.concatenate([positives, negatives]).astype(np.float64)
    levels, place = np.unique(values, return_inverse=True)
    hits = np.bincount(place[: len(positives)], minlength=len(levels))[::-1].astype(np.float64)
    flagged = np.cumsum(np.bincount(place, minlength=len(levels))[::-1])
    return float((hits / len(positives) * np.cumsum(hits) / flagged).sum())


def entropy_edges(classes: int) -> Floats:
    """Edges of the bins of predictive entropy: 0 to log K."""
    return np.linspace(0.0, np.log(classes), BINS + 1)


def entropy_counts(entropies: Floats, classes: int) -> NDArray[np.int64]:
    """Images [N] in each of the bins of predictive entropy (the last includes its upper edge)."""
    edges = entropy_edges(classes)
    counts, _ = np.histogram(entropies.clip(0, edges[-1]), bins=edges)
    return counts.astype(np.int64)
