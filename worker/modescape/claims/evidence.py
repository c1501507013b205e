"""What claims are judged on: predictions of runs, repetitions or chains on the same examples, reduced to what is read.

    evidence = Evidence(classes=10, truth=truth, finals=finals, cosine=cosines, windows=windows, methods=(random, ...))
    evidence.without(2)                  # had the third run not been made
    evidence.without_failed()

Units of replication are runs, repetitions or chains; checkpoints, samples and cycles are averaged inside their unit and
never raise n (science o.1). Each kind of evidence knows what of a spec brings it. numpy only.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modescape.registry import methods
from modescape.science.confidence import Floats, OverPairs, OverRuns, Rows, Runs
from modescape.science.health import at_chance
from modescape.science.isotonic import Redraws
from modescape.science.predictions import entropy

if TYPE_CHECKING:
    from modescape.records import Sizes
    from modescape.spec_parts import EnsembleSpec, EvaluationSpec, MethodSpec, Part

Labels = NDArray[np.integer[Any]]
Function = Callable[[slice], Floats]  # probabilities [b, K] on some of the examples

MEMBERS = 4  # size of the ensemble whose gain the subspace's is compared with (claims e)
SHARE = (1 - 1 / MEMBERS) / 2  # of the mean squared distance of two members: what averaging so many takes off
SUBSETS = 100
_VALUES = 1 << 19  # probabilities handled at a time


INTENSITIES = (1, 2, 3, 4, 5)


class Shifted(Protocol):
    @property
    def images(self) -> int | None: ...

    @property
    def intensities(self) -> tuple[int, ...]: ...


class Repeated(Protocol):
    @property
    def repetitions(self) -> int: ...


class Promised(Protocol):
    """What claims read of a spec. A spec asks the claims for their margins, so they do not import it."""

    @property
    def ensemble(self) -> EnsembleSpec: ...

    @property
    def evaluation(self) -> EvaluationSpec: ...

    @property
    def methods(self) -> Sequence[MethodSpec]: ...

    @property
    def margins(self) -> Part: ...

    @property
    def shift(self) -> Shifted | None: ...

    @property
    def seeds(self) -> Repeated | None: ...

    @property
    def imported(self) -> Part | None: ...

    def digest(self) -> str: ...


@dataclass(frozen=True, eq=False)
class Units(ABC):
    """What is replicated, on which N examples. truth [N]; failed: units left out; numbers: what users call the rest;
    decided: who has failed is known, and those are not among them."""

    classes: int
    truth: Labels
    numbers: tuple[int, ...] = field(default=(), kw_only=True)
    failed: int = field(default=0, kw_only=True)
    decided: bool = field(default=False, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    unit: ClassVar[str] = "run"
    raised_by: ClassVar[str] = "ensemble.runs"
    examples_by: ClassVar[str] = "data.test_images"
    by_unit: ClassVar[tuple[str, ...]] = ("numbers",)  # fields that hold something of each unit
    by_pair: ClassVar[tuple[str, ...]] = ()  # fields that are matrices over units

    def __post_init__(self) -> None:
        if not self.numbers:
            object.__setattr__(self, "numbers", tuple(range(len(self._trained))))

    @property
    @abstractmethod
    def _trained(self) -> Labels:
        """Labels [n, functions, N] of what must not have failed."""

    @classmethod
    def is_planned(cls, spec: Promised) -> bool:
        """Whether an experiment of this spec brings such evidence."""
        return True

    @classmethod
    def planned_units(cls, spec: Promised) -> int:
        return spec.ensemble.runs

    @classmethod
    def planned_examples(cls, spec: Promised, sizes: Sizes) -> int:
        return sizes.test if spec.evaluation.splits[0] == "test" else sizes.validation

    @property
    def units(self) -> int:
        return len(self._trained)

    @property
    def examples(self) -> int:
        return len(self.truth)

    def without(self, unit: int) -> Self:
        """The same evidence had that unit (by position) not been made."""
        own: dict[str, Any] = {name: _less(getattr(self, name), unit) for name in self.by_unit}
        return replace(self, **own, **{name: _fewer(getattr(self, name), unit) for name in self.by_pair})

    def without_failed(self) -> Self:
        """Leaves out units that are at chance (`health.at_chance`), by this rule alone, and counts them."""
        if self.decided:
            return self
        kept = self
        for unit in reversed(range(self.units)):
            if any(at_chance(labels, self.truth, self.classes) for labels in self._trained[unit]):
                kept = kept.without(unit)
        return replace(kept, failed=self.failed + self.units - kept.units, decided=True)


@dataclass(frozen=True, eq=False)
class OfRuns(Units):
    """Units that are runs, with their final functions on the examples.

    finals: labels [n, N] of last checkpoints; partial: the same about some of these runs only, each with those methods
    that the other runs lack because their chain or their samples have failed.
    """

    finals: Labels
    partial: tuple[Self, ...] = field(default=(), kw_only=True)

    by_unit: ClassVar[tuple[str, ...]] = (*Units.by_unit, "finals")

    @property
    def _trained(self) -> Labels:
        return self.finals[:, None]

    @property
    def parts(self) -> tuple[Self, ...]:
        """All runs first, then those of the methods that have fewer."""
        return (self, *self.partial)

    def without(self, unit: int) -> Self:
        number = self.numbers[unit]
        return replace(
            super().without(unit),
            partial=tuple(
                part.without(part.numbers.index(number)) if number in part.numbers else part for part in self.partial
            ),
        )


@dataclass(frozen=True, eq=False)
class Members:
    """One function a run, reduced to what averaging them gains.

    brier: of every run; gaps: of every pair, the sum over classes of (p_i - p_j)^2; accuracy of one, and together: of
    the average of min(4, n) of them, both means (of the subsets; NaN once a run has been left out).
    """

    brier: OverRuns
    gaps: OverPairs
    accuracy: float
    together: float

    @classmethod
    def of(cls, functions: Sequence[Function], truth: Labels, *, check: Callable[[], None] = lambda: None) -> Members:
        """Reads the functions block by block: memory grows with n N, never with classes or pairs."""
        n, examples = len(functions), len(truth)
        subsets = list(combinations(range(n), min(MEMBERS, n)))
        if len(subsets) > SUBSETS:
            chosen = np.random.Generator(np.random.Philox(0)).choice(len(subsets), SUBSETS, replace=False)
            subsets = [subsets[i] for i in chosen]
        brier, table = np.zeros((n, examples)), np.zeros((n, n))
        partners: Rows = np.zeros((n, examples), np.float32)
        correct = together = 0
        for part in _blocks(functions, examples):
            check()
            p = np.stack([function(part) for function in functions])  # [n, b, K]
            y = truth[part]
            own = np.take_along_axis(p, np.broadcast_to(y, (n, len(y)))[..., None], axis=2)[..., 0]
            brier[:, part] = np.square(p).sum(axis=2) - 2 * own + 1
            for i in range(n - 1):
                _add_pairs(table, partners, part, i, np.square(p[i + 1 :] - p[i]).sum(axis=2))
            correct += int((p.argmax(axis=2) == y).sum())
            together += sum(int((p[list(s)].mean(axis=0).argmax(axis=1) == y).sum()) for s in subsets)
        gaps = OverPairs.summed(table / examples, partners)
        return cls(OverRuns.of(brier), gaps, correct / (n * examples), together / (len(subsets) * examples))

    def without(self, run: int) -> Members:
        return Members(self.brier.without(run), self.gaps.without(run), math.nan, math.nan)

    def ensemble_gain(self, runs: Runs) -> float:
        """Mean single Brier score minus that of an ensemble of 4, over all its choices (the ambiguity identity)."""
        return SHARE * self.gaps.mean(runs)


def divergence(functions: Sequence[Function], examples: int, *, check: Callable[[], None] = lambda: None) -> OverPairs:
    """Jensen-Shannon divergence of each pair of functions, nats, read block by block."""
    count = len(functions)
    table = np.zeros((count, count))
    partners: Rows = np.zeros((count, examples), np.float32)
    for part in _blocks(functions, examples) if count > 1 else ():
        check()
        p = np.stack([function(part) for function in functions])
        entropies = entropy(p)
        for i in range(count - 1):
            _add_pairs(table, partners, part, i, _js_of(p, entropies, i))
    return OverPairs.summed(table / examples, partners)


def mean_divergence(functions: Sequence[Function], examples: int, *, check: Callable[[], None] = lambda: None) -> Rows:
    """The mean of `divergence` over pairs, example by example [N]; NaN for a single function."""
    result: Rows = np.full(examples, np.nan, np.float32)
    for part in _blocks(functions, examples) if len(functions) > 1 else ():
        check()
        p = np.stack([function(part) for function in functions])
        entropies = entropy(p)
        rows = [_js_of(p, entropies, i) for i in range(len(p) - 1)]
        result[part] = np.concatenate(rows).mean(axis=0)
    return result


def _add_pairs(table: Floats, partners: Rows, part: slice, i: int, values: Floats) -> None:
    """Takes in a quantity of the pairs of function i with all later ones, [n - i - 1, b], on some of the examples."""
    sums = values.sum(axis=1)
    table[i, i + 1 :] += sums
    table[i + 1 :, i] += sums
    partners[i, part] += values.sum(axis=0)
    partners[i + 1 :, part] += values


def _js_of(p: Floats, entropies: Floats, i: int) -> Floats:
    """Divergence of function i with every later one, example by example."""
    return np.asarray(np.maximum(entropy((p[i] + p[i + 1 :]) / 2) - (entropies[i] + entropies[i + 1 :]) / 2, 0.0))


def _blocks(functions: Sequence[Function], examples: int) -> list[slice]:
    rows = max(1, _VALUES // (len(functions) * functions[0](slice(0, 1)).shape[1]))
    return [slice(start, start + rows) for start in range(0, examples, rows)]


@dataclass(frozen=True)
class Cost:
    """What a method takes, relative to one run: trainings (epochs over a run's) and forward passes of an image."""

    training: float
    passes: int


@dataclass(frozen=True, eq=False)
class LastIterates:
    """Where a method that trains on ended up in each run: equally long trained as its samples, and no average.

    labels [n, N]; better [n]: whether its NLL on the validation images is below that of the run's final; brier: of the
    same functions.
    """

    labels: Labels
    better: NDArray[np.bool_]
    brier: OverRuns | None = None

    def without(self, run: int) -> LastIterates:
        return LastIterates(*(_less(each, run) for each in (self.labels, self.better, self.brier)))

    def reference(self, finals: OverRuns) -> OverRuns:
        """Brier score of the better of each run's final and its last iterate."""
        if self.brier is None:
            return finals
        rows = np.where(self.better[:, None], self.brier.rows, finals.rows)
        return OverRuns(np.where(self.better, self.brier.values, finals.values), rows)


@dataclass(frozen=True, eq=False)
class MethodEvidence:
    """What one subspace method predicted around each run, in the order of the runs.

    near: labels of typical samples, one [S_i, N] a run (claim c); wide: labels of samples of all strengths, one
    [S_i, N] a run, with their strengths [S_i] (claims d; None for a method that has no strength); centre: labels of
    the weight average [n, N] for methods centred there, None for those centred at the optimum itself; are_rates:
    strengths are rates; members: the average of `averaged` samples of each run; js: mean divergence of two of a run's
    samples (claims e and f). drawn: how many samples there are to average in every run, all at `strength`; None where
    the typical ones are averaged. last: of a method that trains on.
    """

    name: str
    title: str
    near: Sequence[Labels] = ()
    wide: Sequence[Labels] = ()
    strengths: Sequence[ArrayLike] | None = None
    centre: Labels | None = None
    are_rates: bool = False
    averaged: int = 0
    members: Members | None = None
    js: OverRuns | None = None
    drawn: int | None = None
    strength: float | None = None
    last: LastIterates | None = None
    cost: Cost | None = None

    @property
    def fewest(self) -> int:
        """Samples to average in the run that has the fewest."""
        return min((len(samples) for samples in self.near), default=0) if self.drawn is None else self.drawn

    @property
    def stands_in(self) -> bool:
        """Whether `wide` are the typical samples, because no others were asked for."""
        return len(self.near) == len(self.wide) and all(map(np.array_equal, self.near, self.wide))

    def without(self, run: int) -> MethodEvidence:
        by_run = ("near", "wide", "strengths", "centre", "members", "js", "last")
        return replace(self, **{name: _less(getattr(self, name), run) for name in by_run})


BY_SHAPE = "of tensors of two or more dimensions"  # how the cosine of weights begins that came without a network


@dataclass(frozen=True, eq=False)
class Evidence(OfRuns):
    """Predictions of runs that differ in seeds only, on the same N examples (claims a to f1).

    cosine [n, n] of the finals' weights without what they share for free (`reduction` says what that was), or None, and
    plain_cosine of all weights as they are; windows: labels [T_i, N] of each run's recent snapshots, empty when there
    are none, and rates: the learning rates at the window's start and end; members and js: the finals' probabilities,
    reduced; redrawn: what is read at equal accuracy under redraws of the examples, which is made where
    it is needed.
    """

    cosine: Floats | None = None
    plain_cosine: Floats | None = None
    reduction: str = ""
    windows: Sequence[Labels] = ()
    methods: tuple[MethodEvidence, ...] = ()
    rates: tuple[float, float] | None = None
    members: Members | None = None
    js: OverPairs | None = None
    redrawn: Redraws | None = None

    by_unit: ClassVar[tuple[str, ...]] = (*OfRuns.by_unit, "windows", "members", "js", "redrawn")
    by_pair: ClassVar[tuple[str, ...]] = ("cosine", "plain_cosine")

    def reference(self, method: MethodEvidence) -> Labels:
        """Labels [n, N] of what a method's accuracy is measured against: of one that trains on, the better of a run's
        final and the method's last iterate, for it has trained longer."""
        last = method.last
        return self.finals if last is None else np.where(last.better[:, None], last.labels, self.finals)

    def without(self, unit: int) -> Self:
        return replace(super().without(unit), methods=tuple(method.without(unit) for method in self.methods))


@dataclass(frozen=True, eq=False)
class OwnImages:
    """The same divergences on a shifted set with images of its own, which were drawn independently of the test images:
    between [n, n, N'] and within, method -> [n, N'], times the set's share of the mean over all that is shifted."""

    between: Floats
    within: Mapping[str, Floats]

    def without(self, unit: int) -> OwnImages:
        return OwnImages(_fewer(self.between, unit), {name: _less(own, unit) for name, own in self.within.items()})


def is_whole_shift(spec: Promised) -> bool:
    """Whether the study of shift gives the mean of claim (f2): over all five intensities, of an ensemble made elsewhere
    over those that came with it."""
    shift = spec.shift
    return shift is not None and (spec.imported is not None or tuple(shift.intensities) == INTENSITIES)


@dataclass(frozen=True, eq=False)
class ShiftEvidence(OfRuns):
    """Jensen-Shannon divergences of pairs, per image, on clean and on corrupted images (claim f2).

    finals: on the clean images; clean_between, shifted_between [n, n, N]: of two runs; clean_within, shifted_within:
    method -> [n, N], mean over the pairs of a run's samples. Under shift: the mean over types and intensities 1 to 5.
    titles: method -> title; alike: methods whose samples are all one function. own: sets with images of their own, by
    name, which are the rest of that mean; over: what it goes over, in words, where that is not every type at five
    intensities.
    """

    clean_between: Floats
    shifted_between: Floats
    clean_within: Mapping[str, Floats]
    shifted_within: Mapping[str, Floats]
    titles: Mapping[str, str]
    alike: Sequence[str] = ()
    own: Mapping[str, OwnImages] = field(default_factory=dict)
    over: str = ""

    examples_by: ClassVar[str] = "shift.images"
    by_unit: ClassVar[tuple[str, ...]] = (*OfRuns.by_unit, "clean_within", "shifted_within", "own")
    by_pair: ClassVar[tuple[str, ...]] = ("clean_between", "shifted_between")

    @classmethod
    def is_planned(cls, spec: Promised) -> bool:
        return is_whole_shift(spec)

    @classmethod
    def planned_examples(cls, spec: Promised, sizes: Sizes) -> int:
        asked = None if spec.shift is None else spec.shift.images
        return min(super().planned_examples(spec, sizes), asked or 2000)

    @property
    def methods(self) -> list[MethodEvidence]:
        """Names and titles alone."""
        return [MethodEvidence(name, self.titles[name]) for name in (*self.alike, *self.clean_within)]


@dataclass(frozen=True, eq=False)
class SeedsEvidence(Units):
    """Final functions of repetitions, each from fresh seeds (claim g).

    arms: labels [R, N] of A, the base; B: other initial weights, same batches; C: same initial weights, other batches;
    and if it was trained D: both others. learning_rate: at which they were trained.
    """

    arms: Mapping[str, Labels]
    learning_rate: float

    unit: ClassVar[str] = "repetition"
    raised_by: ClassVar[str] = "seeds.repetitions"
    by_unit: ClassVar[tuple[str, ...]] = (*Units.by_unit, "arms")

    @classmethod
    def is_planned(cls, spec: Promised) -> bool:
        return spec.seeds is not None

    @classmethod
    def planned_units(cls, spec: Promised) -> int:
        return 0 if spec.seeds is None else spec.seeds.repetitions

    @property
    def _trained(self) -> Labels:
        return np.stack([self.arms[name] for name in sorted(self.arms)], axis=1)


@dataclass(frozen=True, eq=False)
class ChainEvidence(Units):
    """The last sample of every cycle of independent SG-MCMC chains (claim h).

    labels [chains, cycles, N]; finals: labels [n, N] of separately trained runs, shown beside, or None.
    """

    labels: Labels
    finals: Labels | None = None

    unit: ClassVar[str] = "chain"
    by_unit: ClassVar[tuple[str, ...]] = (*Units.by_unit, "labels")

    @classmethod
    def is_planned(cls, spec: Promised) -> bool:
        own = spec.methods if spec.imported is None else ()
        return any(one.method in methods and methods[one.method].trained == "fresh" for one in own)

    @property
    def _trained(self) -> Labels:
        return self.labels[:, -1:]


def _fewer(matrix: Any, unit: int) -> Any:
    """A matrix over units, or None, without one of them."""
    return None if matrix is None else np.delete(np.delete(matrix, unit, 0), unit, 1)


def _less(values: Any, unit: int) -> Any:
    """What there is of each unit (array, sequence, record, a mapping of such, or None), without one of them."""
    if values is None:
        return None
    if isinstance(values, Mapping):
        return {name: _less(value, unit) for name, value in values.items()}
    if hasattr(values, "without"):
        return values.without(unit)
    if isinstance(values, np.ndarray):
        return np.delete(values, unit, axis=0)
    return tuple(value for i, value in enumerate(values) if i != unit)
