"""How diverse does a subspace method get at the strength where it costs one point of accuracy? (science o.5)

    found = Samples(finals, truth, wide, strengths).sums().point()
    found.distance                                # D_q: from the solution
    found.among                                   # P_q: among the method's samples, at the same strength

Every subspace method has a strength s (a step, a rate, a factor). Samples of all runs are pooled; the accuracy they
lose and the labels they change grow along isotonic fits in s, and are read at s*, the largest strength whose fitted
loss is at most COST. Pairs of one run's samples lie at the quadratic mean of their strengths (of rates: at the mean)
and are read at the same s*. Nothing of this is smooth, so its variance over examples is that of redraws, read in
blocks: memory does not grow with their number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modescape.science.confidence import Floats, Rows, Runs, redraws, weighted_sum

Labels = NDArray[np.integer[Any]]
Support = Literal["ok", "no common support", "range too short", "too few samples"]

COST = 0.01  # accuracy given up "at equal accuracy"
ROUNDING = 1e-12  # far below one image in a million: accuracies and strengths equal but for rounding count as equal
REDRAWS = 10_000  # of the examples
_TOGETHER = 64  # columns fitted in one call
FEWER = 1_000  # of them, at least, are read without each run in turn, for the word alone
FEWEST_BELOW, FEWEST_BEYOND = 5, 3  # samples on both sides of s*

_COLUMNS = 1024  # redraws read at a time


@dataclass(frozen=True)
class EqualAccuracy:
    """What a subspace method reaches at the strength where it costs `cost` of accuracy.

    distance: D_q, disagreement of a sample with its own solution; among: P_q, of two samples of one run; both NaN
    without common support; centre: disagreement of the point where the method starts with the solution, 0 where they
    are one; strength: s*; below, beyond: samples at 0 < s <= s* and above; support: "ok"; "no common support": the
    start itself costs more; "range too short": even the strongest sample costs less, so D_q is only a lower bound; "too
    few samples": under 5 below or under 3 beyond.
    """

    distance: float
    among: float
    centre: float
    strength: float
    below: int
    beyond: int
    support: Support


@dataclass(frozen=True, eq=False)
class Reading:
    """The same for b weightings of the examples at once: distance, among, strength [b], NaN without common support."""

    distance: Floats
    among: Floats
    strength: Floats
    is_too_short: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Sums:
    """A method's samples of all runs as means over examples, one column a weighting of them.

    run, strength [m]; loss, changed [m, b]: accuracy lost against the run's solution and labels changed; start_loss,
    start_changed [n, b]: the same of the centre, 0 for methods that start at the solution; pair_run, pair_strength [p],
    among [p, b]: disagreement of two samples of one run. Strengths are None of a method that has none.
    """

    run: Runs
    strength: Floats | None
    loss: Floats
    changed: Floats
    start_loss: Floats
    start_changed: Floats
    pair_run: Runs
    pair_strength: Floats | None
    among: Floats

    def without(self, run: int) -> Sums:
        kept, pairs = self.run != run, self.pair_run != run
        return Sums(
            _renumbered(self.run[kept], run),
            None if self.strength is None else self.strength[kept],
            self.loss[kept],
            self.changed[kept],
            np.delete(self.start_loss, run, axis=0),
            np.delete(self.start_changed, run, axis=0),
            _renumbered(self.pair_run[pairs], run),
            None if self.pair_strength is None else self.pair_strength[pairs],
            self.among[pairs],
        )

    def read(self, runs: Runs, *, cost: float = COST) -> Reading:
        """At the strength where the samples of these runs cost `cost`, under every weighting."""
        kept, pairs = np.isin(self.run, runs), np.isin(self.pair_run, runs)
        loss, changed, among, own = self.loss[kept], self.changed[kept], self.among[pairs], self.pair_run[pairs]
        if not len(loss):
            nothing = np.full(self.loss.shape[1], np.nan)
            return Reading(nothing, nothing, nothing, np.isfinite(nothing))
        weights = 1.0 / np.bincount(own, minlength=len(self.start_loss))[own]  # a run counts once, whatever it has
        if self.strength is None or self.pair_strength is None:
            usable = loss.mean(axis=0) <= cost + ROUNDING
            found = np.where(usable, changed.mean(axis=0), np.nan)
            apart = np.where(usable, _mean_of(among, weights), np.nan)
            return Reading(found, apart, np.full(len(found), np.nan), usable)
        start_loss, start_changed = self.start_loss[runs].mean(axis=0), self.start_changed[runs].mean(axis=0)
        samples = _Axis.of(self.strength[kept])
        fitted = samples.fit(loss, start_loss)
        last = (fitted <= cost + ROUNDING).sum(axis=0) - 1
        star = _strength_at(samples.places, fitted, last, cost)
        distance = _value_at(samples.places, samples.fit(changed, start_changed), star)
        pooled = _Axis.of(self.pair_strength[pairs], weights)
        apart = _value_at(pooled.places, pooled.fit(among, np.zeros(len(star))), star)
        return Reading(distance, apart, star, last == len(samples.places) - 1)

    def point(self, *, cost: float = COST) -> EqualAccuracy:
        """What is read on the data themselves, the first column, of all runs, with its support."""
        if len(self.loss) == 0:
            return EqualAccuracy(math.nan, math.nan, math.nan, math.nan, 0, 0, "too few samples")
        found = self._first.read(np.arange(len(self.start_loss)), cost=cost)
        distance, among, star = float(found.distance[0]), float(found.among[0]), float(found.strength[0])
        centre = float(self.start_changed[:, 0].mean())
        if not math.isfinite(distance):
            return EqualAccuracy(distance, among, centre, star, 0, len(self.loss), "no common support")
        if self.strength is None:
            return EqualAccuracy(distance, among, centre, star, len(self.loss), 0, "range too short")
        below = int(((self.strength > 0) & (self.strength <= star)).sum())
        beyond = int((self.strength > star).sum())
        support: Support = "ok" if below >= FEWEST_BELOW and beyond >= FEWEST_BEYOND else "too few samples"
        if found.is_too_short[0] and below >= FEWEST_BELOW:
            support = "range too short"
        return EqualAccuracy(distance, among, centre, star, below, beyond, support)

    @property
    def _first(self) -> Sums:
        return replace(self, **{name: getattr(self, name)[:, :1] for name in MEANS})


MEANS = ("loss", "changed", "start_loss", "start_changed", "among")  # of Sums: a column for each weighting


@dataclass(frozen=True, eq=False)
class Samples:
    """A method's wide samples around every run, as labels; `sums` makes means of them.

    finals [n, N] and truth [N]; wide: one [S_i, N] a run; strengths: one [S_i] a run, or None; centre [n, N]: of
    methods that start off the solution, else None; are_rates: pairs lie at the mean of their strengths; reference
    [n, N]: what accuracy is lost against, where that is not the finals.
    """

    finals: Labels
    truth: Labels
    wide: Sequence[Labels]
    strengths: Sequence[ArrayLike] | None = None
    centre: Labels | None = None
    are_rates: bool = False
    reference: Labels | None = None
    _right: tuple[Any, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        right = (self.finals if self.reference is None else self.reference) == self.truth
        lost = [np.subtract(own, samples == self.truth, dtype=np.int8)
                for own, samples in zip(right, self.wide, strict=True)]  # fmt: skip
        changed = [samples != final for samples, final in zip(self.wide, self.finals, strict=True)]
        start: tuple[Any, Any] = (None, None)
        if self.centre is not None or self.reference is not None:
            centre = self.finals if self.centre is None else self.centre
            start = np.subtract(right, centre == self.truth, dtype=np.int8), centre != self.finals
        object.__setattr__(self, "_right", (np.concatenate(lost), np.concatenate(changed), *start))

    def sums(self, weights: NDArray[np.float32] | None = None) -> Sums:
        """Under every column of `weights` [N, b]; None: the data themselves."""
        columns = np.ones((len(self.truth), 1), np.float32) if weights is None else weights
        n, counts = len(self.finals), [len(samples) for samples in self.wide]
        lost, changed, start_lost, start_changed = self._right

        def mean(values: NDArray[Any] | None) -> Floats:
            if values is None:
                return np.zeros((n, columns.shape[1]))
            return weighted_sum(values, columns) / np.float64(len(self.truth))

        pairs = [np.triu_indices(count, 1) for count in counts]
        among = [mean(own[i] != own[j]) for own, (i, j) in zip(self.wide, pairs, strict=True)]
        return Sums(
            np.repeat(np.arange(n), counts),
            None if self.strengths is None else np.concatenate([np.asarray(s, np.float64) for s in self.strengths]),
            mean(lost),
            mean(changed),
            mean(start_lost),
            mean(start_changed),
            np.repeat(np.arange(n), [len(i) for i, _ in pairs]),
            self._pair_strengths(pairs),
            np.concatenate(among),
        )

    def _pair_strengths(self, pairs: Sequence[tuple[Runs, Runs]]) -> Floats | None:
        if self.strengths is None:
            return None
        found = []
        for own, (i, j) in zip(self.strengths, pairs, strict=True):
            s = np.asarray(own, np.float64)
            found.append((s[i] + s[j]) / 2 if self.are_rates else np.sqrt((s[i] ** 2 + s[j] ** 2) / 2))
        return np.concatenate(found)


def _renumbered(runs: Runs, left_out: int) -> Runs:
    return np.where(runs > left_out, runs - 1, runs)


def _mean_of(values: Floats, weights: Floats) -> Floats:
    return np.asarray(weights @ values / weights.sum()) if len(values) else np.full(values.shape[1], np.nan)


@dataclass(frozen=True, eq=False)
class _Axis:
    """Strengths in order from 0, and how values [m, b] become fits [places, b]: ties are averaged, then an increasing
    fit through the value at 0."""

    places: Floats
    order: Runs
    starts: Runs
    weights: Floats
    own: Floats

    @classmethod
    def of(cls, strengths: Floats, weights: Floats | None = None) -> _Axis:
        own = np.ones(len(strengths)) if weights is None else weights
        order = np.argsort(strengths, kind="stable")
        ordered = strengths[order]
        # means of two pairs of evenly spaced rates are equal but for rounding: ties, too
        starts = np.flatnonzero(np.diff(ordered, prepend=-1.0) > ROUNDING * ordered)
        sums = np.add.reduceat(own[order], starts) if len(starts) else own
        return cls(np.concatenate([[0.0], ordered[starts]]), order, starts, np.concatenate([[1.0], sums]), own)

    def fit(self, values: Floats, start: Floats) -> Floats:
        if not len(self.starts):
            return start[None]
        sums = np.add.reduceat((values * self.own[:, None])[self.order], self.starts, axis=0)
        means = np.concatenate([start[None], sums / self.weights[1:, None]])
        return isotonic(means, self.weights)


def isotonic(values: Floats, weights: Floats) -> Floats:
    """The increasing sequences nearest to the columns of `values` [m, b] in weighted squares, by weights [m]."""
    from scipy.optimize import isotonic_regression  # not with the page: only stages fit

    # A call costs many times what so few values do. Columns are laid end to end, each on a step so far above the one
    # before that nothing is pooled across; few at a time, so that the steps cost two digits of sixteen.
    count, columns = values.shape
    fitted = np.empty_like(values)
    for first in range(0, columns, _TOGETHER):
        part = values[:, first : first + _TOGETHER]
        steps = 2.0 * (part.max() - part.min()) * np.arange(part.shape[1])
        row = isotonic_regression((part + steps).T.ravel(), weights=np.tile(weights, part.shape[1])).x
        fitted[:, first : first + _TOGETHER] = row.reshape(-1, count).T - steps
    return fitted


def _strength_at(places: Floats, loss: Floats, last: Runs, cost: float) -> Floats:
    """Where the fitted loss [places, b] crosses `cost` after the place `last` [b]; NaN where it starts above."""
    column, here = np.arange(len(last)), np.maximum(last, 0)
    there = np.minimum(here + 1, len(places) - 1)
    low, high = loss[here, column], loss[there, column]
    share = np.divide(np.maximum(cost - low, 0.0), high - low, out=np.zeros_like(low), where=high > low)
    # at the last place there is nothing beyond, so the share is 0
    return np.asarray(np.where(last < 0, np.nan, places[here] + share * (places[there] - places[here])))


def _value_at(places: Floats, fitted: Floats, strengths: Floats) -> Floats:
    """Fits [places, b], each at its own strength [b], linear between places and constant beyond; NaN at NaN."""
    column = np.arange(len(strengths))
    here = np.clip(np.searchsorted(places, strengths, side="right") - 1, 0, len(places) - 1)
    there = np.minimum(here + 1, len(places) - 1)
    gap = places[there] - places[here]
    share = np.divide(strengths - places[here], gap, out=np.zeros_like(strengths), where=gap > 0)
    found = fitted[here, column] + share * (fitted[there, column] - fitted[here, column])
    return np.asarray(np.where(np.isfinite(strengths), found, np.nan))


# ------------------------------------------------------------------------------------------------------------ redraws


@dataclass(frozen=True, eq=False)
class Redrawn:
    """One quantity under redraws of the examples: whole [B], of all runs; left_out: fewer of them, without each run."""

    whole: Floats
    left_out: tuple[Floats, ...] = ()

    def without(self, run: int) -> Redrawn:
        return Redrawn(self.left_out[run] if self.left_out else np.full(1, np.nan))


@dataclass(frozen=True, eq=False)
class MethodRedraws:
    """sums: of the data themselves; distance, among: D_q and P_q under redraws."""

    sums: Sums
    distance: Redrawn
    among: Redrawn

    def without(self, run: int) -> MethodRedraws:
        return MethodRedraws(self.sums.without(run), self.distance.without(run), self.among.without(run))


@dataclass(frozen=True, eq=False)
class Redraws:
    """Disagreement of two runs, and what every method reaches, under the same redraws of the examples."""

    between: Redrawn
    methods: Mapping[str, MethodRedraws]

    def without(self, run: int) -> Redraws:
        methods = {name: found.without(run) for name, found in self.methods.items()}
        return Redraws(self.between.without(run), methods)


def read_redraws(
    partners: Rows,
    methods: Mapping[str, Samples],
    *,
    seed: int = 0,
    draws: int,
    fewer: int,
    check: Callable[[], None] = lambda: None,
) -> Redraws:
    """partners [n, N]: with how many of the other runs each run disagrees on an example (`OverPairs.rows`)."""
    n = len(partners)
    everyone = np.arange(n)
    sets = [everyone, *(np.delete(everyone, i) for i in everyone)]
    between: list[list[Floats]] = [[] for _ in sets]
    found: dict[str, list[list[Reading]]] = {name: [[] for _ in sets] for name in methods}
    read = 0
    for apart, sums in _summed(partners, methods, draws, seed, check):
        for k in range(len(sets) if read < fewer else 1):
            rest = apart.sum(axis=0) if k == 0 else apart.sum(axis=0) - 2 * apart[k - 1]
            size = len(sets[k])
            between[k].append(rest / max(size * (size - 1), 1))
            for name, own in sums.items():
                check()
                found[name][k].append(own.read(sets[k]))
        read += apart.shape[1]

    def whole(parts: Sequence[Sequence[Floats]]) -> Redrawn:
        first, *rest = [np.concatenate(list(part)) for part in parts if part]
        return Redrawn(first, tuple(rest))

    return Redraws(
        whole(between),
        {
            name: MethodRedraws(
                samples.sums(),
                whole([[r.distance for r in part] for part in found[name]]),
                whole([[r.among for r in part] for part in found[name]]),
            )
            for name, samples in methods.items()
        },
    )


def _summed(
    partners: Rows, methods: Mapping[str, Samples], draws: int, seed: int, check: Callable[[], None]
) -> Iterator[tuple[Floats, dict[str, Sums]]]:
    """Means of partners [n, b] and every method's sums, in blocks of about _COLUMNS redraws."""
    apart: list[Floats] = []
    sums: dict[str, list[Sums]] = {name: [] for name in methods}
    columns = 0
    for weights in redraws(partners.shape[1], draws=draws, seed=seed):
        check()
        apart.append(weighted_sum(partners, weights) / np.float64(len(weights)))
        for name, samples in methods.items():
            sums[name].append(samples.sums(weights))
        columns += weights.shape[1]
        if columns % _COLUMNS < weights.shape[1] or columns == draws:
            yield np.concatenate(apart, axis=1), {name: _joined(own) for name, own in sums.items()}
            apart, sums = [], {name: [] for name in methods}


def _joined(parts: Sequence[Sums]) -> Sums:
    """The same samples under more weightings."""
    return replace(
        parts[0], **{name: np.concatenate([getattr(part, name) for part in parts], axis=1) for name in MEANS}
    )
