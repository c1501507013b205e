"""What diversity would chance alone give at an accuracy? The limit curves of the plane and the family between them.

    d = independent(0.7, base=0.7, classes=10)          # 0.5
    family(np.linspace(0, 1, 5), e=0.22, base=0.7, classes=10).disagreement
    fit_exponent(accuracies, disagreements, base=0.71, classes=10).exponent

Fort, Hu & Lakshminarayanan 2019, appendix D. Throughout, a wrong prediction is assumed uniform over the wrong classes.
The left-hand sides of its equations (3) and (4) are exchanged: with p+ = p- = p the disagreement must be p, and only
the right-hand side printed under the name of the accuracy is. Here each quantity carries its right name.

Letters: `base` is a*, the accuracy of the base solution, `accuracy` is a, that of the other one, C = `classes`.
Disagreement d is the fraction of changed labels; the plane shows y = d / (1 - a), `similarity.diversity`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_LOWEST = -2000.0  # log p where bisection starts: for small e the root lies far below 1e-300
_BOOTSTRAP = 200  # redraws of the samples
_EXPONENTS = (-4.0, 2.0)  # range of log e in the fit
_GOLDEN = (np.sqrt(5) - 1) / 2


def independent(accuracy: ArrayLike, *, base: float, classes: int) -> Floats:
    """Disagreement of two functions whose errors are independent: the paper's upper limit (science i.1).

    d = a*(1 - a) + a(1 - a*) + (1 - a)(1 - a*)(C - 2)/(C - 1). "Uncorrelated", not a hard maximum.
    """
    a = np.asarray(accuracy, np.float64)
    both_wrong = (1 - a) * (1 - base) * (classes - 2) / (classes - 1)
    return np.asarray(base * (1 - a) + a * (1 - base) + both_wrong)


def perturbed(accuracy: ArrayLike, *, base: float, classes: int) -> Floats:
    """Disagreement if each label flips with one probability to a uniform other: the paper's lower limit (science i.2).

    d = (C - 1)(a* - a)/(C a* - 1) for 1/C <= a <= a*, NaN elsewhere. Not a hard minimum either.
    """
    a = np.asarray(accuracy, np.float64)
    if classes * base <= 1:
        return np.full(a.shape, np.nan)
    inside = (a <= base + 1e-12) & (a >= 1 / classes - 1e-12)
    return np.where(inside, (classes - 1) * (base - a) / (classes * base - 1), np.nan)


@dataclass(frozen=True, eq=False)
class Bounds:
    """What no pair of functions with these accuracies can leave, whatever their errors are like."""

    lowest: Floats
    highest: Floats


def hard_bounds(accuracy: ArrayLike, *, base: float, classes: int) -> Bounds:
    """|a* - a| <= d <= 1 - max(0, a + a* - 1). With two classes wrong labels agree: d <= min(a + a*, 2 - a - a*)."""
    a = np.asarray(accuracy, np.float64)
    highest = 1 - np.maximum(0.0, a + base - 1)
    if classes == 2:
        highest = np.minimum(a + base, 2 - a - base)
    return Bounds(np.abs(base - a), highest)


@dataclass(frozen=True, eq=False)
class Curve:
    """Points of the plane: accuracy a and disagreement d of the perturbed function, for each flip probability."""

    accuracy: Floats
    disagreement: Floats


def flipped(p_right: ArrayLike, p_wrong: ArrayLike, *, base: float, classes: int) -> Curve:
    """A right label flips with probability p+, a wrong one with p- (science i.4, names as they should be).

    a = a*(1 - p+) + (1 - a*) p-/(C - 1) and d = a* p+ + (1 - a*) p-.
    """
    right, wrong = np.asarray(p_right, np.float64), np.asarray(p_wrong, np.float64)
    accuracy = base * (1 - right) + (1 - base) * wrong / (classes - 1)
    return Curve(np.asarray(accuracy), np.asarray(base * right + (1 - base) * wrong))


def family(p: ArrayLike, *, e: float, base: float, classes: int) -> Curve:
    """The one-parameter family p+ = p, p- = p^e. e = 1 is `perturbed`; below 1 wrong labels flip more easily."""
    values = np.asarray(p, np.float64)
    return flipped(values, values**e, base=base, classes=classes)


def family_curve(*, e: float, base: float, classes: int, points: int = 200) -> Curve:
    """The family drawn from the base (d = 0) down to chance, a = 1/C; parametric, since a(p) rises first when e < 1."""
    fine = np.concatenate([[0.0], np.logspace(-12, 0, 4000)])
    whole = family(fine, e=e, base=base, classes=classes)
    # after its maximum the accuracy only falls: cut at chance there (at p = 1 it lies below chance)
    top = int(whole.accuracy.argmax())
    below = np.flatnonzero(whole.accuracy[top:] <= 1 / classes)
    stop = top + (int(below[0]) if len(below) else len(fine) - 1 - top)
    # even steps along the drawn curve, so the steep start near the base is as smooth as the rest
    steps = np.hypot(np.diff(whole.accuracy[: stop + 1]), np.diff(whole.disagreement[: stop + 1]))
    length = np.concatenate([[0.0], np.cumsum(steps)])
    p = np.interp(np.linspace(0, length[-1], points), length, fine[: stop + 1])
    return family(p, e=e, base=base, classes=classes)


# ------------------------------------------------------------------------------------------------------ fitting e


@dataclass(frozen=True)
class Fit:
    """The exponent that explains the samples best; nothing to fit leaves it None, with the reason.

    border: "lowest" or "highest" where it lies at that end of the range that was searched: the samples then ask for an
    exponent that is not there, and there is no interval. low, high: 95 % percentile bootstrap over the samples, None
    below 5 samples and where an end lies at the border; residual: root mean square of (a - a_hat); used: samples that
    entered; base and classes: as given.
    """

    exponent: float | None
    low: float | None
    high: float | None
    residual: float | None
    used: int
    base: float
    classes: int
    reason: str = ""
    border: Literal["", "lowest", "highest"] = ""

    @property
    def sign(self) -> str:
        """What stands before the exponent: =, or at a border at most and at least."""
        return {"": "=", "lowest": "≤", "highest": "≥"}[self.border]


def fit_exponent(accuracies: ArrayLike, disagreements: ArrayLike, *, base: float, classes: int) -> Fit:
    """Least squares over log e in [-4, 2]: invert d for each sample, predict its accuracy, compare (science i.5).

    d(p) = a* p + (1 - a*) p^e is increasing in p, a(p) is not, so d is inverted. Samples within 0.02 of chance and
    those that changed no label say nothing about e and are left out.
    (Fort et al. report e = 0.22 for ResNet20v1 on CIFAR-100 without saying how it was fitted.)
    """
    a, d = np.asarray(accuracies, np.float64), np.asarray(disagreements, np.float64)
    kept = np.isfinite(a) & np.isfinite(d) & (a >= 1 / classes + 0.02) & (d > 0) & (d < 1)
    order = np.lexsort((d[kept], a[kept]))  # the draws below are of samples, in whatever order they came
    a, d = a[kept][order], d[kept][order]
    w = np.ones_like(a)
    nothing = Fit(None, None, None, None, len(a), base, classes)
    if not 1 / classes < base < 1:
        return Fit(**{**vars(nothing), "reason": f"the base accuracy {base:.3g} is not between chance and 1"})
    if len(a) < 3:
        return Fit(**{**vars(nothing), "reason": "fewer than 3 samples changed any label and stayed above chance"})
    grid = np.linspace(*_EXPONENTS, 301)
    errors = np.square(a - _accuracy_at(d, np.exp(grid), base, classes))  # [301, samples]

    def cost(log_e: float) -> float:
        return float(np.square(a - _accuracy_at(d, np.exp([log_e]), base, classes)[0]) @ w)

    best = int((errors @ w).argmin())
    found = float(np.exp(_golden_section(cost, grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])))
    border = _border(found)
    low = high = None
    if len(a) >= 5 and not border:
        rng = np.random.default_rng(0)
        counts = rng.multinomial(len(a), np.full(len(a), 1 / len(a)), size=_BOOTSTRAP) * w
        drawn = np.exp(_parabolic_minima(grid, errors @ counts.T))
        # samples that lie exactly on one curve leave only the parabola's own error, which must not exclude the fit
        low, high = min(float(np.quantile(drawn, 0.025)), found), max(float(np.quantile(drawn, 0.975)), found)
        low, high = None if _border(low) else low, None if _border(high) else high
    misses = cost(float(np.log(found))) / float(w.sum())
    return Fit(found, low, high, float(np.sqrt(misses)), len(a), base, classes, border=border)


def _border(exponent: float) -> Literal["", "lowest", "highest"]:
    """The end of the searched range at which an exponent lies; "" inside."""
    lowest, highest = _EXPONENTS
    if np.log(exponent) < lowest + 1e-3:
        return "lowest"
    return "highest" if np.log(exponent) > highest - 1e-3 else ""


def _accuracy_at(d: Floats, exponents: Floats, base: float, classes: int) -> Floats:
    """Accuracy of the family member that has disagreement d: [E] exponents, [n] samples -> [E, n]."""
    p = _invert(d, exponents[:, None], base)
    return flipped(np.exp(p), np.exp(exponents[:, None] * p), base=base, classes=classes).accuracy


def _invert(d: Floats, e: Floats, base: float) -> Floats:
    """log p with a* p + (1 - a*) p^e = d, by bisection in log p (a bracket starting at p = 1e-12 would miss roots)."""
    low = np.full(np.broadcast_shapes(d.shape, e.shape), _LOWEST)
    high = np.zeros_like(low)
    for _ in range(60):
        middle = (low + high) / 2
        above = base * np.exp(middle) + (1 - base) * np.exp(e * middle) > d
        high, low = np.where(above, middle, high), np.where(above, low, middle)
    return (low + high) / 2


def _golden_section(cost: Callable[[float], float], low: float, high: float) -> float:
    """Where `cost` is least between low and high, to 1e-6."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = cost(left), cost(right)
    while high - low > 1e-6:
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = cost(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = cost(right)
    return (low + high) / 2


def _parabolic_minima(grid: Floats, values: Floats) -> Floats:
    """The minimum of each column of values [G, B] on an even grid [G], refined by the parabola through three points."""
    best = values.argmin(axis=0)
    inner = np.clip(best, 1, len(grid) - 2)
    column = np.arange(values.shape[1])
    before, at, after = (values[inner + step, column] for step in (-1, 0, 1))
    bend = before - 2 * at + after
    shift = np.divide(before - after, 2 * bend, out=np.zeros_like(bend), where=bend > 0)
    refined = grid[inner] + np.clip(shift, -1, 1) * (grid[1] - grid[0])
    return np.asarray(np.where(best == inner, refined, grid[best]))
