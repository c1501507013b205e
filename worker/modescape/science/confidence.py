"""How sure can one be of a number read from a few runs and many test images? Intervals, p-values, corrections.

    across = OverPairs.of(5, lambda i, j: labels[i] != labels[j])
    within = OverRuns.of(changed)                                 # [5, N]
    log_ratio(across, within, margin=0.1).word

The run is the unit of replication: five runs give ten pairs but five units, because pairs share runs. Test examples
are a second, crossed factor. The standard error of a quantity joins a delete-one jackknife over runs and the variance
over multinomial redraws of the examples; the interval uses Student's t with n - 1 degrees of freedom. A pair bootstrap,
or any percentile bootstrap over runs, covers 35 to 80 % instead of 95 % (science o.2, o.7).

Of smooth quantities (ratios and differences of means) the variance over redraws is known without drawing any: with
psi_n the influence of example n it is sum_n psi_n^2 / N^2 (the infinitesimal jackknife, Efron 1982). What is read off
isotonic fits is not smooth, and is redrawn (`isotonic`). numpy only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rows = NDArray[np.float32]
Runs = NDArray[np.intp]

LEVEL = 0.025  # one-sided, so intervals are at 95 %
_FIXED: ContextVar[bool] = ContextVar("fixed", default=False)
_LIKE_NORMAL = 1e6  # degrees of freedom
MAX_UNDEFINED = 0.05  # share of redraws that may be undefined

Statistic = Callable[[Runs], float]  # a quantity of some of the units, by their positions, and of all examples


class Word(StrEnum):
    """What an interval says of its margin (science o.3)."""

    HOLDS = "holds"  # the whole interval lies on the claim's side of the margin
    DOES_NOT_HOLD = "does not hold"  # it lies on the other side
    CANNOT_TELL = "cannot tell"  # the margin is inside, or a gate is closed

    @property
    def glyph(self) -> str:
        return {"holds": "✓", "does not hold": "✗", "cannot tell": "?"}[self]


@dataclass(frozen=True)
class Estimate:
    """A quantity with its 95 % interval and one-sided p-values against its margin.

    error: standard error; undefined: share of example redraws on which the quantity does not exist, 1 when it does not
    exist for all the data or with some run left out; above: the side of the margin on which the claim holds.
    """

    value: float
    low: float
    high: float
    error: float
    margin: float
    p_holds: float
    p_fails: float
    undefined: float = 0.0
    above: bool = True

    @property
    def exists(self) -> bool:
        return self.undefined <= MAX_UNDEFINED and math.isfinite(self.low + self.high)

    @property
    def beyond_margin(self) -> float:
        """How far the interval's nearer end lies on the side where the claim holds; negative when it does not."""
        return self.low - self.margin if self.above else self.margin - self.high

    @property
    def word(self) -> Word:
        if not self.exists:
            return Word.CANNOT_TELL
        if self.beyond_margin > 0:
            return Word.HOLDS
        fails = self.high < self.margin if self.above else self.low > self.margin
        return Word.DOES_NOT_HOLD if fails else Word.CANNOT_TELL

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Estimate:
        """From its stored fields, in which what is not finite is null."""
        fields: dict[str, Any] = {name: math.nan if value is None else value for name, value in stored.items()}
        return cls(**fields)


# ------------------------------------------------------------------------------------------------ means over examples


class Quantity(Protocol):
    """A mean over examples of something of every unit or pair; `without` gives it for all units but one."""

    @property
    def examples(self) -> Floats:
        """[N]: the mean over all units, example by example."""

    def mean(self, runs: Runs) -> float:
        """Over these units and all examples; NaN where there are none."""


@dataclass(frozen=True, eq=False)
class OverRuns:
    """Something of every unit: values [n], means over the examples; rows [n, N], the same example by example."""

    values: Floats
    rows: Rows

    @classmethod
    def of(cls, rows: NDArray[Any]) -> OverRuns:
        return cls(rows.mean(axis=1, dtype=np.float64), rows.astype(np.float32, copy=False))

    @property
    def examples(self) -> Floats:
        return np.asarray(self.rows.mean(axis=0, dtype=np.float64))

    def mean(self, runs: Runs) -> float:
        return float(self.values[runs].mean()) if len(runs) else math.nan

    def less(self, other: OverRuns) -> OverRuns:
        return OverRuns(self.values - other.values, self.rows - other.rows)

    def without(self, unit: int) -> OverRuns:
        return OverRuns(np.delete(self.values, unit), np.delete(self.rows, unit, axis=0))


@dataclass(frozen=True, eq=False)
class OverPairs:
    """Something of every pair of units, the same in both orders: table [n, n], means over the examples; examples [N],
    the mean over all pairs, example by example; rows [n, N]: the sums over each unit's partners, from which `without`
    takes it away (None once a unit has been left out: memory grows with n only, so no second one can be)."""

    table: Floats
    examples: Floats
    rows: Rows | None

    @classmethod
    def summed(cls, table: Floats, rows: Rows) -> OverPairs:
        """From the table and the sums over partners."""
        n = len(table)
        return cls(table, rows.sum(axis=0, dtype=np.float64) / max(n * (n - 1), 1), rows)

    @classmethod
    def of(cls, units: int, apart: Callable[[int, int], NDArray[Any]], examples: int) -> OverPairs:
        """apart(i, j) with i < j: the quantity of a pair on every example, [N]."""
        table, rows = np.zeros((units, units)), np.zeros((units, examples), np.float32)
        for i in range(units):
            for j in range(i + 1, units):
                found = apart(i, j)
                table[i, j] = table[j, i] = found.mean(dtype=np.float64)
                rows[i] += found
                rows[j] += found
        return cls.summed(table, rows)

    def mean(self, runs: Runs) -> float:
        return float(self.table[pairs(runs)].mean()) if len(runs) > 1 else math.nan

    def without(self, unit: int) -> OverPairs:
        table, n = np.delete(np.delete(self.table, unit, 0), unit, 1), len(self.table)
        if self.rows is None:
            return OverPairs(table, np.full_like(self.examples, np.nan), None)
        fewer = (n * (n - 1) * self.examples - 2.0 * self.rows[unit]) / max((n - 1) * (n - 2), 1)
        return OverPairs(table, fewer, None)


def redraws(examples: int, *, draws: int, seed: int = 0, block: int = 256) -> Iterator[NDArray[np.float32]]:
    """Multinomial redraws of the examples as counts [N, b], a block of them at a time; b depends on N, the draws do
    not: the same for every run and method."""
    rng = np.random.Generator(np.random.Philox(seed))
    block = max(16, min(block, (1 << 22) // examples))
    for start in range(0, draws, block):
        counts = [
            np.bincount(rng.integers(examples, size=examples), minlength=examples)
            for _ in range(min(block, draws - start))
        ]
        yield np.stack(counts, axis=1).astype(np.float32)


def weighted_sum(values: NDArray[Any], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sums over examples of 0/1 (or -1/0/1) arrays [m, N] under every weight column, [m, b]: counted exactly in float32
    up to 2^24 examples, and without a large copy."""
    rows = [values[i : i + 256].astype(np.float32) @ weights for i in range(0, len(values), 256)]
    return np.concatenate(rows) if rows else np.empty((0, weights.shape[1]), np.float32)


# ---------------------------------------------------------------------------------------------------------- estimates


def estimate(
    statistic: Statistic,
    units: int,
    *,
    margin: float,
    influence: Floats | Sequence[Floats] | None = None,
    redrawn: Floats | None = None,
    undefined: float = 0.0,
    above: bool = True,
) -> Estimate:
    """Value, t interval and p-values of a statistic of `units` runs.

    The examples' part of its variance comes from the influence of every example [N] (undefined: the share of redraws on
    which it would not exist), or from its values under redraws. Several influences are of sets of examples that were
    drawn independently, whose variances add. A quantity without examples has neither, and so no interval where units
    are fixed.
    """
    everyone, fixed = np.arange(units), _FIXED.get()
    value, variance = statistic(everyone), 0.0 if fixed else jackknife(statistic, units)
    if fixed and influence is None and redrawn is None:
        variance = math.nan
    if not math.isfinite(value + variance):
        return Estimate(value, math.nan, math.nan, math.nan, margin, math.nan, math.nan, 1.0, above)
    if influence is not None:
        of_sets = [influence] if isinstance(influence, np.ndarray) else influence
        variance += sum(variance_of_examples(one) for one in of_sets)
    if redrawn is not None:
        usable = redrawn[np.isfinite(redrawn)]
        undefined = 1 - len(usable) / len(redrawn)
        variance += float(usable.var(ddof=1)) if len(usable) > 1 else 0.0
    error, degrees = math.sqrt(variance), _LIKE_NORMAL if fixed else units - 1
    half = t_quantile(1 - LEVEL, degrees) * error
    p_above, p_below = p_beyond(value - margin, error, degrees), p_beyond(margin - value, error, degrees)
    p_holds, p_fails = (p_above, p_below) if above else (p_below, p_above)
    return Estimate(value, value - half, value + half, error, margin, p_holds, p_fails, undefined, above)


@contextmanager
def fixed_units() -> Iterator[None]:
    """Inside, intervals are over examples alone: they speak of these units and of no others (science p.3)."""
    token = _FIXED.set(True)
    try:
        yield
    finally:
        _FIXED.reset(token)


def log_ratio(top: Quantity, bottom: Quantity, units: int, *, margin: float) -> Estimate:
    """ln(top / bottom). It does not exist on a redraw that holds no example on which either is other than zero."""
    x, y = top.examples, bottom.examples
    return estimate(
        lambda runs: log_of_ratio(top.mean(runs), bottom.mean(runs)),
        units,
        margin=margin,
        influence=log_ratio_influence(x, y),
        undefined=share_without(x) + share_without(y) - share_without(np.abs(x) + np.abs(y)),
    )


def log_ratio_influence(x: Floats, y: Floats) -> Floats:
    """Of every example on ln(mean x / mean y)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(x / x.mean() - y / y.mean())


def variance_of_examples(influence: Floats) -> float:
    return float(np.square(influence - influence.mean()).sum()) / len(influence) ** 2


def share_without(values: Floats) -> float:
    """The chance that N examples drawn with replacement hold none on which `values` [N] is other than zero."""
    n, some = len(values), int(np.count_nonzero(values))
    return 0.0 if some == n else math.exp(n * math.log1p(-some / n))


def jackknife(statistic: Statistic, units: int) -> float:
    """Delete-one variance of a statistic over its runs, examples untouched; NaN where it does not exist."""
    if units < 2:
        return math.nan
    everyone = np.arange(units)
    left_out = np.array([statistic(np.delete(everyone, i)) for i in everyone])
    if not np.isfinite(left_out).all():
        return math.nan
    return (units - 1) / units * float(np.square(left_out - left_out.mean()).sum())


def p_beyond(gap: float, error: float, degrees: float) -> float:
    """One-sided p of an estimate that lies `gap` beyond a margin."""
    if error == 0:
        return 0.0 if gap > 0 else 1.0
    return t_tail(gap / error, degrees)


def welch_degrees(errors: Sequence[float], degrees: Sequence[float]) -> float:
    """Degrees of freedom of a sum of independent estimates from theirs and their standard errors (Welch 1938,
    Satterthwaite 1946); hardly ever whole, and used as they are."""
    variances = [error**2 for error in errors]
    return sum(variances) ** 2 / sum(v**2 / f for v, f in zip(variances, degrees, strict=True))


def t_tail(t: float, degrees: float) -> float:
    """P(T > t) of Student's distribution (Abramowitz & Stegun 26.7.1 and 26.5.27)."""
    tail = _beta_below(degrees / (degrees + t * t), degrees / 2, 0.5) / 2
    return tail if t >= 0 else 1 - tail


def _beta_below(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction (A. & S. 26.5.8), evaluated with
    Lentz's method; where that converges slowly, from the other side."""
    if x in (0.0, 1.0):
        return x
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta_below(1 - x, b, a)
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    fraction, c, d = 1.0, 1.0, 0.0
    for k in range(1, 1000):
        m = k // 2
        top = -(a + m) * (a + b + m) if k % 2 else m * (b - m)
        term = x * top / ((a + k - 1) * (a + k))
        c, d = 1 + term / c, 1 / (1 + term * d)
        fraction *= c * d
        if c * d == 1:
            break
    return math.exp(scale) / (a * fraction)


@cache
def t_quantile(level: float, degrees: float) -> float:
    """The t with P(T <= t) = level, for level above one half, by bisection."""
    low, high = 0.0, 1.0
    while t_tail(high, degrees) > 1 - level:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if t_tail(middle, degrees) > 1 - level else (low, middle)
    return (low + high) / 2


def pairs(runs: Runs) -> tuple[Runs, Runs]:
    """Both members of every pair i < j of `runs`."""
    first, second = np.triu_indices(len(runs), 1)
    return runs[first], runs[second]


def log_of_ratio(top: float, bottom: float) -> float:
    """ln(top / bottom), NaN where either is zero."""
    return math.log(top) - math.log(bottom) if top > 0 and bottom > 0 else math.nan
