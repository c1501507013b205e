"""How sure can one be of a number read from a few runs and many test images? Intervals, p-values, corrections.

    weights = example_weights(10_000)                             # [N, 1 + 200]: the data, and redraws of it
    across = weighted(labels[0] != labels[1], weights)            # [1 + 200]
    estimate(statistic, runs, margin=0.1, draws=DRAWS).word

The run is the unit of replication: five runs give ten pairs but five units, because pairs share runs. Test examples
are a second, crossed factor. Every quantity is a statistic of a set of runs and of example weights. Its standard error
joins a delete-one jackknife over runs and 200 multinomial redraws of the examples; the interval uses Student's t with
n - 1 degrees of freedom. A pair bootstrap, or any percentile bootstrap over runs, covers 35 to 80 % instead of 95 %.
numpy only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Runs = NDArray[np.intp]
Word = Literal["holds", "does not hold", "cannot tell"]
Support = Literal["ok", "no common support", "range too short", "too few samples"]

DRAWS = 200  # redraws of the examples
LEVEL = 0.025  # one-sided, so intervals are at 95 %
COST = 0.01  # accuracy given up "at equal accuracy"
ROUNDING = 1e-12  # far below one image in a million: accuracies that are equal but for rounding count as equal
MAX_UNDEFINED = 0.05  # share of redraws that may be undefined

# A statistic of runs (positions) and redraws (a slice: 0 is the data itself) gives one value a redraw.
Statistic = Callable[[Runs, slice], Floats]


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
    def room(self) -> float:
        """How far the interval's nearer end lies on the side where the claim holds; negative when it does not."""
        return self.low - self.margin if self.above else self.margin - self.high

    @property
    def word(self) -> Word:
        if not self.exists:
            return "cannot tell"
        if self.room > 0:
            return "holds"
        fails = self.high < self.margin if self.above else self.low > self.margin
        return "does not hold" if fails else "cannot tell"


@lru_cache(maxsize=2)
def example_weights(examples: int, *, draws: int = DRAWS, seed: int = 0) -> NDArray[np.float32]:
    """Counts [N, 1 + draws]: once each, then multinomial redraws. The same for every run, method and type."""
    rng = np.random.Generator(np.random.Philox(seed))
    counts = np.ones((examples, 1 + draws), np.float32)
    for draw in range(1, 1 + draws):
        counts[:, draw] = np.bincount(rng.integers(examples, size=examples), minlength=examples)
    counts.setflags(write=False)  # kept for the next claim
    return counts


def weighted(values: NDArray[Any], weights: NDArray[np.float32]) -> Floats:
    """Means over examples of arrays [..., N] under every weight column, [..., 1 + draws].

    0/1 arrays are counted exactly in float32 (up to 2^24 examples); others are summed in float64.
    """
    return weighted_sum(values, weights) / np.float64(values.shape[-1])


def weighted_sum(values: NDArray[Any], weights: NDArray[np.float32]) -> Floats:
    """`weighted` without the division, for examples that come block by block."""
    kind = np.dtype(np.float32 if values.dtype == np.bool_ else np.float64)
    flat, columns = values.reshape(-1, values.shape[-1]), weights.astype(kind, copy=False)
    # one block at a time, so that the copy stays small
    rows = [flat[i : i + 256].astype(kind, copy=False) @ columns for i in range(0, len(flat), 256)]
    sums = np.concatenate(rows) if rows else np.empty((0, weights.shape[1]))
    return np.asarray(sums.reshape(*values.shape[:-1], columns.shape[1]), np.float64)


def estimate(statistic: Statistic, units: int, *, margin: float, draws: int = 0, above: bool = True) -> Estimate:
    """Value, t interval and p-values of a statistic of `units` runs and of `draws` example redraws (0: no examples)."""
    everyone = np.arange(units)
    values = statistic(everyone, slice(0, 1 + draws))
    value, redrawn = float(values[0]), values[1:]
    variance = jackknife(statistic, units)
    if not math.isfinite(value + variance):
        return Estimate(value, math.nan, math.nan, math.nan, margin, math.nan, math.nan, 1.0, above)
    usable = redrawn[np.isfinite(redrawn)]
    undefined = 1 - len(usable) / draws if draws else 0.0
    if len(usable) > 1:
        variance += float(usable.var(ddof=1))
    error, degrees = math.sqrt(variance), units - 1
    half = t_quantile(1 - LEVEL, degrees) * error
    p_above, p_below = _p_above(value - margin, error, degrees), _p_above(margin - value, error, degrees)
    p_holds, p_fails = (p_above, p_below) if above else (p_below, p_above)
    return Estimate(value, value - half, value + half, error, margin, p_holds, p_fails, undefined, above)


def jackknife(statistic: Statistic, units: int) -> float:
    """Delete-one variance of a statistic over its runs, examples untouched; NaN where it does not exist."""
    if units < 2:
        return math.nan
    everyone = np.arange(units)
    left_out = np.array([statistic(np.delete(everyone, i), slice(0, 1))[0] for i in everyone])
    if not np.isfinite(left_out).all():
        return math.nan
    return (units - 1) / units * float(np.square(left_out - left_out.mean()).sum())


def _p_above(gap: float, error: float, degrees: int) -> float:
    if error == 0:
        return 0.0 if gap > 0 else 1.0
    return t_tail(gap / error, degrees)


def t_tail(t: float, degrees: int) -> float:
    """P(T > t) of Student's distribution with whole degrees of freedom (Abramowitz & Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan(abs(t) / math.sqrt(degrees))
    cosine, sine = math.cos(angle), math.sin(angle)
    if degrees % 2:
        total, term = 0.0, cosine
        for k in range(1, degrees - 1, 2):
            total += term
            term *= cosine * cosine * (k + 1) / (k + 2)
        inside = 2 / math.pi * (angle + sine * total)
    else:
        total, term = 0.0, 1.0
        for k in range(0, degrees - 1, 2):
            total += term
            term *= cosine * cosine * (k + 1) / (k + 2)
        inside = sine * total
    tail = max((1 - inside) / 2, 0.0)
    return tail if t >= 0 else 1 - tail


def t_quantile(level: float, degrees: int) -> float:
    """The t with P(T <= t) = level, for level above one half, by bisection."""
    low, high = 0.0, 1.0
    while t_tail(high, degrees) > 1 - level:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if t_tail(middle, degrees) > 1 - level else (low, middle)
    return (low + high) / 2


def pairs(runs: Runs) -> tuple[Runs, Runs]:
    """Both members of every pair i < j of `runs`."""
    first, second = np.triu_indices(len(runs), 1)
    return runs[first], runs[second]


def log_ratio(top: Floats, bottom: Floats) -> Floats:
    """ln(top / bottom), NaN where either is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where((top > 0) & (bottom > 0), np.log(top) - np.log(bottom), np.nan))


def holm(p_values: Mapping[str, float]) -> frozenset[str]:
    """The names whose statements stand together at 2.5 % one-sided (Holm 1979)."""
    standing: set[str] = set()
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        if p > LEVEL / (len(p_values) - rank):
            break
        standing.add(name)
    return frozenset(standing)


# ------------------------------------------------------------------------------------- at equal accuracy (o.5)


@dataclass(frozen=True)
class EqualAccuracy:
    """How much a subspace method disagrees with its base at the strength where it costs `cost` of accuracy.

    disagreement: D_q, NaN without common support; strength: s*; below, beyond: samples at 0 < s <= s* and above;
    support: "ok"; "no common support": the start point itself costs more; "range too short": even the strongest sample
    costs less, so D_q is only a lower bound; "too few samples": under 5 below or under 3 beyond.
    """

    disagreement: float
    strength: float
    below: int
    beyond: int
    support: Support


def equal_accuracy_disagreement(
    strengths: ArrayLike | None,
    losses: ArrayLike,
    disagreements: ArrayLike,
    *,
    start_loss: float = 0.0,
    start_disagreement: float = 0.0,
    cost: float = COST,
) -> EqualAccuracy:
    """Pools samples of all runs: strength, accuracy lost against the run's optimum, disagreement with it, [m] each.

    Both grow along isotonic fits through the start point at strength 0 (the optimum itself, or for methods centred at
    the weight average its mean loss and disagreement), linear between samples; s* is the largest strength whose fitted
    loss is at most `cost`. strengths None: a method without strength is one point, usable where its mean loss is.
    """
    losses, disagreements = np.asarray(losses, np.float64), np.asarray(disagreements, np.float64)
    if len(losses) == 0:
        return EqualAccuracy(math.nan, math.nan, 0, 0, "too few samples")
    if strengths is None:
        if losses.mean() > cost + ROUNDING:
            return EqualAccuracy(math.nan, math.nan, 0, len(losses), "no common support")
        found = float(disagreements.mean())
        return EqualAccuracy(found, math.nan, len(losses), 0, "range too short")
    strengths = np.asarray(strengths, np.float64)
    axis, loss, changed = _curves(strengths, losses, disagreements, start_loss, start_disagreement)
    if loss[0] > cost + ROUNDING:
        return EqualAccuracy(math.nan, math.nan, 0, len(losses), "no common support")
    star, found = _read_at(axis, loss, changed, cost)
    below = int(((strengths > 0) & (strengths <= star)).sum())
    beyond = int((strengths > star).sum())
    support: Support = "ok" if below >= 5 and beyond >= 3 else "too few samples"
    if loss[-1] <= cost + ROUNDING and below >= 5:
        support = "range too short"
    return EqualAccuracy(found, star, below, beyond, support)


def _curves(
    strengths: Floats, losses: Floats, disagreements: Floats, start_loss: float, start_disagreement: float
) -> tuple[Floats, Floats, Floats]:
    """Strengths in order from 0 and the isotonic fits of loss and disagreement there. Ties are averaged first."""
    axis, place, counts = np.unique(strengths, return_inverse=True, return_counts=True)
    means = [np.bincount(place, values) / counts for values in (losses, disagreements)]
    axis, weights = np.concatenate([[0.0], axis]), np.concatenate([[1.0], counts])
    starts = (start_loss, start_disagreement)
    fits = [isotonic(np.concatenate([[first], rest]), weights) for first, rest in zip(starts, means, strict=True)]
    return axis, fits[0], fits[1]


def _read_at(axis: Floats, loss: Floats, changed: Floats, cost: float) -> tuple[float, float]:
    """The largest strength with fitted loss <= cost, and the fitted disagreement there."""
    last = int(np.flatnonzero(loss <= cost + ROUNDING)[-1])
    if last == len(axis) - 1:
        return float(axis[-1]), float(changed[-1])
    share = max(0.0, cost - loss[last]) / (loss[last + 1] - loss[last])
    return (
        float(axis[last] + share * (axis[last + 1] - axis[last])),
        float(changed[last] + share * (changed[last + 1] - changed[last])),
    )


def isotonic(values: Floats, weights: Floats) -> Floats:
    """The increasing sequence nearest to `values` in weighted squares, by pooling adjacent violators."""
    means: list[float] = []
    sums: list[float] = []
    lengths: list[int] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        mean, total, length = value, weight, 1
        while means and means[-1] >= mean:
            mean = (means[-1] * sums[-1] + mean * total) / (sums[-1] + total)
            total += sums.pop()
            length += lengths.pop()
            means.pop()
        means.append(mean)
        sums.append(total)
        lengths.append(length)
    return np.repeat(means, lengths)
