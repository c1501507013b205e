"""What counts as failed: the rule against numbers worked out by hand."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from modescape.science.health import at_chance, chance_limit, failure, finite, run_failure

TRUTH = np.repeat(np.arange(4), 25)


def guessed(right: tuple[int, int, int, int]) -> np.ndarray:
    """Labels of which that many of each class's 25 are right."""
    labels = (TRUTH + 1) % 4
    for k, count in enumerate(right):
        labels[np.flatnonzero(k == TRUTH)[:count]] = k
    return labels


def test_the_limit_is_chance_and_three_standard_errors_of_guessing() -> None:
    # K = 4, q = 1/4, n_k = 25 each: SE = 1/4 sqrt(4 * 3/16 / 25) = 1/4 sqrt(3/100)
    assert chance_limit(np.full(4, 25), 4) == pytest.approx(0.25 + 0.75 * math.sqrt(0.03), abs=1e-15)
    # uneven classes: 1/K^2 sum q (1 - q) / n_k, in fractions
    counts = (900, 50, 50)
    variance = sum(Fraction(2, 9) / n for n in counts) / 9
    assert chance_limit(np.array(counts), 3) == pytest.approx(1 / 3 + 3 * math.sqrt(variance), abs=1e-15)


@pytest.mark.parametrize(("right", "failed"), [((9, 10, 9, 9), True), ((10, 10, 9, 10), False), ((25, 9, 0, 3), True)])
def test_a_run_fails_at_the_limit_and_not_above(right: tuple[int, int, int, int], failed: bool) -> None:
    """The limit is .3799: 37 of 100 is below, 39 above; which classes they are in makes no difference."""
    assert bool(at_chance(guessed(right), TRUTH, 4)) == failed


def test_naming_the_most_frequent_class_is_no_learning() -> None:
    truth = np.array([0] * 900 + [1] * 50 + [2] * 50)
    assert (truth == 0).mean() == 0.9
    assert "mean recall of 0.333" in at_chance(np.zeros(1000, int), truth, 3)


def test_classes_that_do_not_occur_make_no_one_learn() -> None:
    truth = np.array([0, 1] * 500)
    assert "same label" in at_chance(np.zeros(1000, int), truth, 10)  # a mean recall of 1/2 among ten classes
    assert not at_chance(truth, truth, 10)
    some = np.where(np.arange(1000) < 400, truth, 7)  # four tenths right where a guess of ten is a tenth
    assert not at_chance(some, truth, 10)
    assert not at_chance(np.zeros(50, int), np.zeros(50, int), 10)  # one class is all there is, and it is right


def test_nothing_is_told_of_a_handful_of_images() -> None:
    truth = np.array([0, 1])  # .5 and three errors of sqrt(2 x .25) / 2 are 1.56: more than all of them
    assert chance_limit(np.array([1, 1]), 2) > 1
    assert not at_chance(1 - truth, truth, 2)
    assert "same label" in at_chance(np.zeros(2, int), truth, 2)


def test_what_is_not_finite_has_failed_whatever_its_labels_are() -> None:
    logits = np.eye(4, dtype=np.float32)[TRUTH]
    assert finite(logits)
    assert failure(logits, TRUTH, 4) == ""
    for wrong in (np.nan, np.inf, -np.inf):
        broken = logits.copy()
        broken[17, 2] = wrong
        assert "finite" in failure(broken, TRUTH, 4)
        assert "finite" in run_failure({"test": logits, "validation": broken}, TRUTH, "test", 4)
    assert run_failure({"test": logits, "validation": logits[:3]}, TRUTH, "test", 4) == ""
