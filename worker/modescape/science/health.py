"""Which runs, chains and functions have failed: one rule for lists, figures, claims and stages (science o.1).

A run or chain has failed when its loss, weights or logits are not finite, or when it is at chance. A sample, a
checkpoint or a point of a plane fails only by not being finite: to be at chance is a result there.

    failure(logits, truth, classes=10)      # "" or why, of the function a training ended with
    finite(logits)                          # of any other function

numpy only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

STANDARD_ERRORS = 3
NOT_FINITE = "its logits are not all finite numbers"


def run_failure(logits: Mapping[str, NDArray[Any]], truth: NDArray[np.integer[Any]], main: str, classes: int) -> str:
    """Why a run has failed, from its final logits [N, K] on every split; chance is judged on `main`, whose labels
    `truth` are."""
    if not all(map(finite, logits.values())):
        return NOT_FINITE
    return failure(logits[main], truth, classes)


def finite(values: NDArray[Any]) -> bool:
    return bool(np.isfinite(values).all())


def failure(logits: NDArray[Any], truth: NDArray[np.integer[Any]], classes: int) -> str:
    """Why what predicts these logits [N, K] has failed; "" when it has not."""
    if not finite(logits):
        return NOT_FINITE
    return at_chance(logits.argmax(-1), truth, classes)


def at_chance(labels: NDArray[np.integer[Any]], truth: NDArray[np.integer[Any]], classes: int) -> str:
    """How labels [N] are no better than guessing among `classes`; "" when they are.

    The mean recall over the classes that occur is at most 1/K + 3 standard errors of guessing. It counts every class
    alike, so a set of which one class is 90 % is not learned by naming that class. Where some of the K classes do not
    occur, naming one that does beats 1/K; one label for everything is no better than guessing there either. Of so few
    examples that even all right would be within the three errors, nothing can be told.
    """
    counts = np.bincount(truth, minlength=classes)
    hits = np.bincount(truth[labels == truth], minlength=len(counts))
    occurring = np.flatnonzero(counts)
    if not len(occurring):
        return ""
    recall = float((hits[occurring] / counts[occurring]).mean())
    limit = chance_limit(counts[occurring], classes)
    if recall <= limit < 1:
        return f"it is at chance: a mean recall of {recall:.3f} over its classes, more than {limit:.3f} is learning"
    if len(occurring) > 1 and len(np.unique(labels)) == 1:
        return "it is at chance: it gives every image the same label"
    return ""


def chance_limit(counts: NDArray[np.integer[Any]], classes: int) -> float:
    """The mean recall that guessing among `classes` stays under; counts: examples of each class that occurs."""
    q = 1 / classes
    error = math.sqrt(float((q * (1 - q) / counts).sum())) / len(counts)
    return q + STANDARD_ERRORS * error
