"""What do the members of an ensemble say of each example? (science q)

    found = of_each(blocks, labels)         # blocks of logits [M, n, K], labels [N]
    found.numbers["mutual-information"]     # [N] nats
    found.votes                             # [M, N] each member's label

Nothing here is a mean over examples: the means are those of `ensembles` and `similarity`, which the tests hold it to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from modescape.science.predictions import Array, Floats, average, entropy, log_softmax

Ints = NDArray[np.int64]


class ExampleNumber(StrEnum):
    """A number of one example."""

    DISAGREEMENT = "disagreement"  # share of pairs of members with different labels, 0 to 1
    VOTE_ENTROPY = "vote-entropy"  # of the shares of members that gave each label, nats
    MEMBERS_WRONG = "members-wrong"  # how many of them; needs labels
    MUTUAL_INFORMATION = "mutual-information"  # epistemic part of the entropy, nats
    ENTROPY = "entropy"  # of the ensemble's probabilities, nats
    CONFIDENCE = "confidence"  # the ensemble's probability of its own answer
    LOSS = "loss"  # minus the logarithm of the ensemble's probability of the true class, nats; needs labels
    WRONG_AND_SURE = "wrong-and-sure"  # the confidence where the ensemble is wrong, NaN elsewhere; needs labels

    @property
    def needs_probabilities(self) -> bool:
        return self not in (ExampleNumber.DISAGREEMENT, ExampleNumber.VOTE_ENTROPY, ExampleNumber.MEMBERS_WRONG)

    @property
    def needs_labels(self) -> bool:
        return self in (ExampleNumber.MEMBERS_WRONG, ExampleNumber.LOSS, ExampleNumber.WRONG_AND_SURE)


@dataclass(frozen=True)
class OfEach:
    """numbers: those that can be told, [N] float64 each; votes [M, N] and answers [N]: the members' labels and the
    ensemble's."""

    numbers: dict[ExampleNumber, Floats]
    votes: Ints
    answers: Ints


def of_each(
    blocks: Iterable[Array],
    labels: Array | None = None,
    *,
    has_probabilities: bool = True,
    check: Callable[[], None] | None = None,
) -> OfEach:
    """Every number of every example, from blocks of the members' outputs [M, n, K] (logits or log-probabilities).

    labels [N]: the true classes, None where nobody knows them. has_probabilities: False where the outputs stand for
    labels alone (all of the probability on one class); then the ensemble's answer is the vote of its members. Ties go
    to the lowest class (science a.2). Memory is a few blocks. Raises ValueError for no blocks.
    """
    found: list[OfEach] = []
    start = 0
    for block in blocks:
        if check is not None:
            check()
        count = np.shape(block)[1]
        truth = None if labels is None else np.asarray(labels[start : start + count], np.int64)
        found.append(_of_block(block, truth, has_probabilities))
        start += count
    if not found:
        raise ValueError("there are no examples")
    return OfEach(
        {name: np.concatenate([one.numbers[name] for one in found]) for name in found[0].numbers},
        np.concatenate([one.votes for one in found], axis=1),
        np.concatenate([one.answers for one in found]),
    )


def _of_block(block: Array, truth: Ints | None, has_probabilities: bool) -> OfEach:
    members, _, classes = np.shape(block)
    votes = np.asarray(np.argmax(block, axis=-1), np.int64)
    cast = _counts(votes, classes)
    together = average(block)
    answers = np.asarray((together if has_probabilities else cast).argmax(axis=-1), np.int64)  # science q.1
    spread = np.abs(entropy(cast / members))  # never -0.0
    numbers = {ExampleNumber.DISAGREEMENT: pairs_apart(cast), ExampleNumber.VOTE_ENTROPY: spread}
    if truth is not None:
        numbers[ExampleNumber.MEMBERS_WRONG] = (votes != truth).sum(axis=0).astype(np.float64)
    if has_probabilities:
        numbers |= _of_probabilities(block, together, answers, truth)
    return OfEach(numbers, votes, answers)


def _counts(votes: Ints, classes: int) -> Floats:
    """How many members gave each label: votes [M, n] -> [n, K]."""
    found = np.zeros((votes.shape[1], classes))
    for own in votes:
        found[np.arange(votes.shape[1]), own] += 1
    return found


def pairs_apart(cast: Floats) -> Floats:
    """Share of pairs of members with different labels, [n], from how many gave each label [n, K] (science q.2).

    NaN where there is one member, who has nobody to disagree with.
    """
    members = cast.sum(axis=-1)
    alike = (cast * (cast - 1)).sum(axis=-1)
    with np.errstate(invalid="ignore"):
        return np.asarray(1 - alike / (members * (members - 1)))


def _of_probabilities(block: Array, together: Floats, answers: Ints, truth: Ints | None) -> dict[ExampleNumber, Floats]:
    """Those that need more than labels (science q.3, q.4); together: the logarithm of the mean probabilities [n, K]."""
    rows, mean = np.arange(len(together)), np.exp(together)
    total = entropy(mean)
    own = np.mean([entropy(np.exp(log_softmax(logits))) for logits in block], axis=0)
    confidence = mean[rows, answers]
    numbers = {
        ExampleNumber.MUTUAL_INFORMATION: np.maximum(total - own, 0.0),  # never negative but for rounding
        ExampleNumber.ENTROPY: total,
        ExampleNumber.CONFIDENCE: confidence,
    }
    if truth is not None:
        numbers[ExampleNumber.LOSS] = np.maximum(-together[rows, truth], 0.0)
        numbers[ExampleNumber.WRONG_AND_SURE] = np.where(answers == truth, np.nan, confidence)
    return numbers


# ------------------------------------------------------------------------------------------------------ class by class


@dataclass(frozen=True)
class OfClass:
    """One class: how many examples have it as their true label, the share of those on which the ensemble is right, the
    members' mean accuracy and disagreement there, and the label that the ensemble confuses it with most often."""

    label: int
    examples: int
    accuracy: float
    members_accuracy: float
    disagreement: float
    taken_for: int | None
    taken: int


def by_class(found: OfEach, labels: Array, classes: int) -> list[OfClass]:
    """Every class that occurs, in order (science q.5). Ties between wrong labels go to the lowest."""
    truth = np.asarray(labels, np.int64)
    counts = np.bincount(truth, minlength=classes)

    def mean(values: Array) -> Floats:
        return np.asarray(np.bincount(truth, weights=values, minlength=classes) / np.maximum(counts, 1))

    right, members = mean(found.answers == truth), mean((found.votes == truth).mean(axis=0))
    apart, taken = mean(found.numbers[ExampleNumber.DISAGREEMENT]), _most_taken(truth, found.answers, classes)
    return [
        OfClass(k, int(counts[k]), float(right[k]), float(members[k]), float(apart[k]), *taken.get(k, (None, 0)))
        for k in np.flatnonzero(counts).tolist()
    ]


def _most_taken(truth: Ints, answers: Ints, classes: int) -> dict[int, tuple[int, int]]:
    """Class -> the wrong class that is answered most often for it, and how often; only classes that are confused."""
    wrong = truth != answers
    pairs, times = np.unique(truth[wrong] * classes + answers[wrong], return_counts=True)
    order = np.lexsort((pairs, -times))  # most often first
    confused, first = np.unique(pairs[order] // classes, return_index=True)
    chosen = order[first]
    return {
        int(k): (int(pair % classes), int(count))
        for k, pair, count in zip(confused, pairs[chosen], times[chosen], strict=True)
    }
