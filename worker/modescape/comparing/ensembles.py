"""One experiment's numbers with their intervals, and how those of two experiments differ.

Runs are the unit of replication: intervals are delete-one jackknives with Student's t. The difference of two
independent experiments has Welch's degrees of freedom. Where runs of both began from the same seeds, it is the
jackknife over those pairs of runs of the difference itself. Networks that both hold differ in nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from modescape.drawing.words import duration, loss, percent, rate
from modescape.finding import Finding
from modescape.records import Group, Role
from modescape.results import Results
from modescape.science.confidence import LEVEL, estimate, p_beyond, pairs, t_quantile, welch_degrees
from modescape.science.predictions import softmax
from modescape.tables import Solution

Runs = NDArray[np.intp]
Floats = NDArray[np.float64]
Statistic = Callable[[Runs], float]
Unit = Literal["accuracy", "points", "rate", "nats", "times", "seconds", ""]
How = Literal["", "welch", "paired", "identical", "shared"]
MOST_LOGITS = 20_000_000  # of all runs of one experiment: 80 MB

SCORES = ("brier", "nll", "ece")
TITLES: dict[str, tuple[str, Unit]] = {
    "accuracy": ("Accuracy of a run", "accuracy"),
    "ensemble": ("Accuracy of all runs together", "accuracy"),
    "gain": ("What averaging all runs gains in accuracy", "points"),
    "disagreement": ("Disagreement of two runs", "rate"),
    "diversity": ("Disagreement over error rate", ""),
    "cosine": ("Cosine of two runs’ weights", ""),
    "brier": ("Brier score of a run", ""),
    "ensemble-brier": ("Brier score of all runs together", ""),
    "nll": ("NLL of a run", "nats"),
    "ensemble-nll": ("NLL of all runs together", "nats"),
    "ece": ("Calibration error of a run", ""),
    "ensemble-ece": ("Calibration error of all runs together", ""),
    "seconds": ("Machine time", "seconds"),
}
BOUNDS = {
    "accuracy": (0, 1), "ensemble": (0, 1), "disagreement": (0, 1), "diversity": (0, math.inf), "cosine": (-1, 1),
    "gain": (-1, 1), "brier": (0, 2), "ensemble-brier": (0, 2), "nll": (0, math.inf), "ensemble-nll": (0, math.inf),
    "ece": (0, 1), "ensemble-ece": (0, 1), "seconds": (0, math.inf),
}  # fmt: skip


def difference_bounds(name: str) -> tuple[float, float]:
    """Where the difference of two such numbers can be."""
    least, most = BOUNDS.get(name, (-math.inf, math.inf))
    return least - most, most - least


@dataclass(frozen=True, kw_only=True)
class Value:
    """A number of one experiment, or a difference from the reference's; low and high are None without an interval.

    Of a difference also how it was judged: "welch" of independent runs, "paired" over runs that began from the same
    seeds, "identical" where both hold the same networks, "shared" where some are the same (neither has an interval);
    p: two-sided; stands: it is other than zero with Holm's correction over the experiments compared, at 5 %."""

    value: float
    low: float | None = None
    high: float | None = None
    runs: int = 0
    how: How = ""
    p: float | None = None
    stands: bool = False

    def within(self, least: float, most: float) -> Value:
        """Its interval ends where such a number can be."""
        if self.low is None or self.high is None:
            return self
        return replace(self, low=max(self.low, least), high=min(self.high, most))


def told(value: Value | None, unit: str, *, difference: bool = False) -> str:
    """As people read it: "93.1 % (92.0 to 94.2)", accuracies in percent, their differences in points."""
    if value is None:
        return "–"
    unit = "points" if difference and unit == "accuracy" else unit
    tail = {"accuracy": " %", "points": " points", "times": " times", "nats": " nats"}.get(unit, "")
    around = ""
    if value.low is not None and value.high is not None:
        around = f" ({plain(value.low, unit)} to {plain(value.high, unit)})"
    return f"{plain(value.value, unit)}{tail}{around}"


def plain(value: float, unit: str) -> str:
    """The number alone."""
    if unit == "seconds":
        return f"{'−' if value < 0 else ''}{duration(abs(value))}"
    say = percent if unit in ("accuracy", "points") else loss if unit == "nats" else rate
    return say(value)


@dataclass(frozen=True)
class Reading:
    """A number, its standard error over runs and its interval; NaN where there are none."""

    value: float
    runs: int
    error: float = math.nan
    low: float = math.nan
    high: float = math.nan

    def shown(self, name: str) -> Value:
        """Of the number of that name: its interval ends where such a number can be."""
        if not math.isfinite(self.error):
            return Value(value=self.value, runs=self.runs)
        found = Value(value=self.value, low=self.low, high=self.high, runs=self.runs)
        return found.within(*BOUNDS.get(name, (-math.inf, math.inf)))

    def less(self, first: Reading, name: str, *, apart: bool) -> Value:
        """This minus the first, of the number of that name, with Welch's interval (science o.2) where both have errors
        and share no networks."""
        value, error = self.value - first.value, math.hypot(self.error, first.error)
        if not apart or not math.isfinite(error) or error == 0:
            return Value(value=value)
        degrees = welch_degrees((self.error, first.error), (self.runs - 1, first.runs - 1))
        return _judged(value, error, degrees, name, "welch", runs=0)


def _judged(value: float, error: float, degrees: float, name: str, how: How, *, runs: int) -> Value:
    half = t_quantile(1 - LEVEL, degrees) * error
    p = min(1.0, 2 * p_beyond(abs(value), error, degrees))
    whole = Value(value=value, low=value - half, high=value + half, runs=runs, how=how, p=p)
    return whole.within(*difference_bounds(name))


class Ensemble:
    """One experiment's optima: their accuracies [R], and matrices [R, R] of pairs; empty before they are compared.

    is_of_recipe: whether others could be drawn like these, without which nothing has a spread over them (science
    p.3). most: how many outputs may be averaged for what averaging gains; it has no interval where there are more."""

    def __init__(self, results: Results, *, most: int = MOST_LOGITS) -> None:
        self.row, self.results, self._most = results.experiment, results, most
        self.split = results.spec.evaluation.splits[0]
        self.optima = optima = [s for s in results.solutions(role=Role.OPTIMUM) if s.accuracy is not None]
        self.is_of_recipe = results.spec.recipe_of_runs == "same"
        self.runs = [s.run for s in optima]
        self.accuracy = np.array([s.accuracy for s in optima], np.float64)
        self.disagreement = _pairs(results, optima, "disagreement", self.split)
        self.cosines = {name: _pairs(results, optima, name, "") for name in ("cosine-reduced", "cosine")}
        self.cosine = self.cosines["cosine-reduced"]

    def read(self, statistic: Statistic) -> Reading | None:
        n = len(self.accuracy)
        if n == 0:
            return None
        if not self.is_of_recipe:
            value = statistic(np.arange(n))
            return Reading(value, n) if math.isfinite(value) else None
        found = estimate(statistic, n, margin=0.0)
        return Reading(found.value, n, found.error, found.low, found.high) if math.isfinite(found.value) else None

    @cached_property
    def statistics(self) -> dict[str, Statistic | None]:
        """By name: of some of its runs, by their places; None of those it does not have (yet)."""

        def mean(runs: Runs) -> float:
            return float(self.accuracy[runs].mean())

        def apart(runs: Runs) -> float:
            return _mean_pair(self.disagreement, runs)

        def diversity(runs: Runs) -> float:
            return apart(runs) / (1 - mean(runs)) if mean(runs) < 1 else math.nan

        return {
            "accuracy": mean if self.accuracy.size else None,
            "ensemble": self._ensemble,
            "gain": self._gain,
            "disagreement": apart if self.disagreement.size else None,
            "diversity": diversity if self.disagreement.size else None,
            "cosine": (lambda runs: _mean_pair(self.cosine, runs)) if self.cosine.size else None,
            **{name: self._score(name) for name in SCORES},
        }

    def _score(self, name: str) -> Statistic | None:
        known = self.results.scores(name, self.split)
        if not self.optima or not {one.number for one in self.optima} <= known.keys():
            return None
        values = np.array([known[one.number] for one in self.optima], np.float64)
        return lambda runs: float(values[runs].mean())

    @cached_property
    def _ensemble(self) -> Statistic | None:
        """Accuracy of the averaged probabilities; None where the runs' predictions are too many to be averaged for a
        page, are labels only, or are not all here (yet)."""
        optima = [s for s in self.results.solutions(role=Role.OPTIMUM) if self.split in s.predictions]
        if self.row.ensemble_accuracy is None or not self.results.spec.has_probabilities:
            return None
        if len(optima) < 2 or len(optima) != len(self.runs):
            return None
        size = self.results.logits(optima[0], self.split).size
        if size * len(optima) > self._most:
            return None
        probabilities = np.stack([softmax(self.results.logits(one, self.split)) for one in optima])
        truth = self.results.true_labels(self.split)

        def together(runs: Runs) -> float:
            if len(runs) < 2:
                return math.nan  # of one run alone there is no such thing, so of two there is no spread
            return float((probabilities[runs].mean(0).argmax(-1) == truth).mean())

        return together

    @property
    def _gain(self) -> Statistic | None:
        """The same minus the accuracy of single runs."""
        together = self._ensemble
        return None if together is None else lambda runs: together(runs) - float(self.accuracy[runs].mean())

    @cached_property
    def readings(self) -> dict[str, Reading | None]:
        """By name, all that `TITLES` has."""
        found = {name: None if one is None else self.read(one) for name, one in self.statistics.items()}
        together, row = Finding.from_json(self.row.finding), self.row
        if found["gain"] is None and together.together is not None:  # as it was stored, without an interval
            kept = together.together
            found["gain"] = Reading(kept.accuracy - kept.single, kept.members)
        runs = together.runs or row.runs
        if found["ensemble"] is None and row.ensemble_accuracy is not None:
            found["ensemble"] = Reading(row.ensemble_accuracy, runs)
        found["seconds"] = Reading(row.seconds, 0) if row.seconds and row.finished_at else None
        for name in SCORES:
            found[f"ensemble-{name}"] = self._together(name)
        return {name: found.get(name) for name in TITLES}

    def _together(self, name: str) -> Reading | None:
        """A score of as many runs averaged as there are, as the stage `ensemble` kept it."""
        of = f"ensemble/{Group.INDEPENDENT}/"
        rows = [row for row in self.results.measurements(metric=name) if row.subject.startswith(of)]
        rows = [row for row in rows if row.split == self.split and row.value is not None]
        whole = max(rows, key=lambda row: int(row.details["size"]), default=None)
        return None if whole is None or whole.value is None else Reading(whole.value, int(whole.details["size"]))

    @cached_property
    def seeds(self) -> dict[int, tuple[tuple[str, object], ...]]:
        """What each run drew its randomness from; of nothing that was made elsewhere."""
        return {run.number: tuple(sorted(run.seeds.items())) for run in self.results.runs if run.seeds}


@dataclass(frozen=True)
class Pairing:
    """Which runs of two experiments belong together. identical: runs of the first and second that are one network;
    seeded: that are not, and began from the same seeds; whole: the identical ones are all that both have."""

    identical: tuple[tuple[int, int], ...] = ()
    seeded: tuple[tuple[int, int], ...] = ()
    whole: bool = False

    @property
    def turned(self) -> Pairing:
        """Of the second and the first."""
        identical, seeded = (tuple((b, a) for a, b in pairs) for pairs in (self.identical, self.seeded))
        return Pairing(identical, seeded, self.whole)

    @property
    def how(self) -> How:
        if self.whole:
            return "identical"
        if self.seeded and len(self.identical) + len(self.seeded) > 1:
            return "paired"
        return "shared" if self.identical else "welch"


def pairing(first: Ensemble, second: Ensemble) -> Pairing:
    """How each was given, with weights or without, as logits, probabilities or labels, does not matter."""
    left, identical = list(second.optima), []
    for one in first.optima:
        other = next((other for other in left if _is_same(one, first.results, other, second.results)), None)
        if other is not None:
            left.remove(other)
            identical.append((one.run, other.run))
    used = {run for run, _ in identical}, {run for _, run in identical}
    here = {first.seeds[run]: run for run in first.runs if run in first.seeds and run not in used[0]}
    there = {second.seeds[run]: run for run in second.runs if run in second.seeds and run not in used[1]}
    seeded = [(run, there[seeds]) for seeds, run in here.items() if seeds in there]
    whole = bool(identical) and len(identical) == len(first.optima) == len(second.optima)
    return Pairing(tuple(identical), tuple(seeded), whole)


def difference(first: Ensemble, here: Ensemble, name: str, pairs: Pairing) -> Value | None:
    """A number of the second minus that of the first; None where either does not have it (yet)."""
    a, b = first.readings.get(name), here.readings.get(name)
    if a is None or b is None:
        return None
    if name == "seconds":
        return Value(value=b.value - a.value)
    if pairs.how == "paired" and (found := paired(first, here, name, (*pairs.identical, *pairs.seeded))) is not None:
        return found
    if pairs.how in ("identical", "shared"):
        return Value(value=b.value - a.value, how=pairs.how)
    return b.less(a, name, apart=not pairs.identical and not pairs.seeded)


def paired(first: Ensemble, here: Ensemble, name: str, runs: Sequence[tuple[int, int]]) -> Value | None:
    """The difference over these pairs of runs, with the jackknife over them; None where there is no such thing."""
    a, b = first.statistics.get(name), here.statistics.get(name)
    if len(runs) < 2 or a is None or b is None:
        return None
    places = [np.array([one.runs.index(run[k]) for run in runs]) for k, one in enumerate((first, here))]
    found = estimate(partial(_between, a, b, *places), len(runs), margin=0.0)
    if not math.isfinite(found.value):
        return None
    if not math.isfinite(found.error) or found.error == 0:
        return Value(value=found.value, runs=len(runs), how="paired")
    return _judged(found.value, found.error, len(runs) - 1, name, "paired", runs=len(runs))


def _between(a: Statistic, b: Statistic, in_a: Runs, in_b: Runs, kept: Runs) -> float:
    return b(in_b[kept]) - a(in_a[kept])


_ROUNDING = 0.01  # probabilities from outputs that were rounded, to two decimals at worst
_TELLING = 5  # errors, below which two good networks may make the same by chance
_AT_ONCE = 2_000  # examples


def _is_same(one: Solution, its: Results, other: Solution, others: Results) -> bool:
    if one.weights is not None and one.weights == other.weights:
        return True
    split = its.spec.evaluation.splits[0]
    here, there = one.predictions.get(split), other.predictions.get(split)
    if here is None or there is None or one.accuracy != other.accuracy:
        return False
    if here == there:
        return True
    said, also = (of.artifacts.sound_array(at["artifact"])[at["index"]] for of, at in ((its, here), (others, there)))
    if len(said) != len(also) or (said.ndim == also.ndim and said.shape != also.shape):
        return False
    for start in range(0, len(said), _AT_ONCE):
        a, b = said[start : start + _AT_ONCE], also[start : start + _AT_ONCE]
        if not np.array_equal(*(part if part.ndim == 1 else part.argmax(-1) for part in (a, b))):
            return False
        if a.ndim == b.ndim == 2 and np.abs(softmax(a) - softmax(b)).max() > _ROUNDING:
            return False
    return said.ndim == also.ndim == 2 or (1 - (one.accuracy or 0)) * len(said) >= _TELLING


def _pairs(results: Results, optima: Sequence[Solution], metric: str, split: str) -> Floats:
    """[R, R] of a metric between optima; [0, 0] before they are compared, and of fewer than two."""
    matrix = results.matrix(metric, split)
    numbers = [s.number for s in optima]
    if len(optima) < 2 or matrix is None or not set(numbers) <= set(matrix.rows):
        return np.empty((0, 0))
    places = [matrix.rows.index(number) for number in numbers]
    return np.asarray(matrix.values[np.ix_(places, places)], np.float64)


def _mean_pair(matrix: Floats, runs: Runs) -> float:
    """Mean over pairs of these runs; NaN of one run alone."""
    if len(runs) < 2:
        return math.nan
    return float(matrix[pairs(runs)].mean())
