"""What can be reached from one solution? Samples of a method around a single optimum, and how strong they are.

    around = Neighbourhood(theta, snapshots, layout)
    entry = methods["random"]
    options = entry.options()
    reach = calibrate(entry, around, options, accuracy=probe, chance=0.1, seed=seed)
    for found in sample(entry, around, options, sample_set=SampleSet.TYPICAL, count=10, seed=seed, reach=reach,
                        accuracy=on_validation, reference=accuracy_of_the_optimum):
        found.draw.theta                      # float32 [P]

A method says where weights lie at a given strength (`method`). How strong is decided here for all of them alike
(science d.9):

* `spread` covers the diversity-accuracy plane, without rejection. By default strengths are *graded*: six tenths of the
  samples are even up to `near`, where two points of accuracy are given up, so that about half of those lie on each side
  of the one-point cost at which the verdict reads "at equal accuracy"; the others, even in log strength, reach to
  twice the strength at which accuracy is halfway to chance. Uniform strengths, as in the paper, put almost every sample
  of a small network where accuracy is gone, and leave "at equal accuracy" without data.
* `typical` stays near: strengths uniform up to `near` (random, dropout) or a fixed scale (Gaussians), each draw
  accepted only above an accuracy floor on the validation images, six points below the optimum. The strongest cost a
  third of what the floor allows, so few draws fall below it: what is left is the range asked for, not what passed.

* `fair` holds samples of one strength for all runs, without rejection: the strength at which the average of as many
  samples predicts the validation images best (`best_strength`), so that no method's average is judged at a strength
  that suits another.

The first two ranges are measured on the network itself (`calibrate`), because step lengths and rates do not carry over
from one network to another (science n.1: at |t| = 0.2 |theta_0| SmallCNN loses 8 points with raw pixels and 2 with
scaled ones). Give `spread_max`, `typical_max` and `strengths = "uniform"` for the paper's fixed ranges.

Every number is drawn from Philox keyed by (seed, method, set, index, attempt): `remake` gives the same bits again.
numpy only; arithmetic in float64, weights returned in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from modescape.errors import InvalidInput
from modescape.methods.method import Draw, GaussianOptions, Neighbourhood, SampledOptions, draw_at
from modescape.records import SampleSet
from modescape.registry import Method, Options
from modescape.science.seeds import sample_rng

NEAR_COST = 0.02  # accuracy given up at the strongest typical sample, and at the end of the near part of graded ones
NEAR_SHARE = 0.6  # of graded samples
PROBES = 3  # directions averaged by `calibrate`
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Sampled:
    """An accepted draw and what names it. validation_accuracy is None when no floor was asked for."""

    draw: Draw
    index: int
    attempt: int
    validation_accuracy: float | None


@dataclass(frozen=True)
class Reach:
    """Strengths at which this network gives up accuracy, in the method's unit (`calibrate`).

    near: 2 points below the optimum; half: halfway between the optimum's accuracy and chance.
    """

    near: float
    half: float


# ------------------------------------------------------------------------------------------------------ strengths


def needs_reach(entry: Method, options: Options, sample_set: SampleSet) -> bool:
    """Whether the strengths of this set are measured on the network, so that `calibrate` must come first."""
    if not isinstance(options, SampledOptions) or sample_set == SampleSet.FAIR:
        return False
    if sample_set == SampleSet.TYPICAL:
        return not isinstance(options, GaussianOptions) and _maximum(options, "typical_max") is None
    return options.strengths == "graded" or _maximum(options, "spread_max") is None


def calibrate(
    entry: Method,
    around: Neighbourhood,
    options: Options,
    *,
    accuracy: Callable[[Draw], float],
    chance: float,
    seed: int,
) -> Reach:
    """Where does this network lose accuracy? A deterministic scan along a few fixed random directions.

    accuracy(draw): fraction correct on a fixed set of images (1,000 are enough; about 30 calls); chance: 1/K.
    Strengths are doubled until accuracy is halfway to chance and halved until it costs less than two points; between
    them the mean over the directions, made monotone, is interpolated in log strength. A method that starts at the
    mean of the snapshots may start below the optimum: costs then count from there.
    """
    base = accuracy(Draw(np.asarray(around.theta, np.float32), 0.0, 0.0))
    if entry.centre == "mean":
        base = min(base, accuracy(draw_at(around, around.mean, 0.0)))
    targets = base - NEAR_COST, (base + chance) / 2
    first, last = {"step": (0.05, 100.0), "rate": (0.01, 0.9), "scale": (1.0, 1e4)}[entry.strength or "scale"]

    def mean_accuracy(strength: float) -> float:
        rngs = (sample_rng(seed, entry.name, "calibration", probe, 0) for probe in range(PROBES))
        return float(np.mean([accuracy(entry.call(around, options, strength, rng)) for rng in rngs]))

    seen = {first: mean_accuracy(first)}
    while min(seen.values()) > min(targets) and max(seen) < last:
        strength = min(2 * max(seen), last)
        seen[strength] = mean_accuracy(strength)
    while seen[min(seen)] <= max(targets) and min(seen) > first / 1000:
        seen[min(seen) / 2] = mean_accuracy(min(seen) / 2)
    strengths = np.array(sorted(seen))
    fallen = np.minimum.accumulate([seen[strength] for strength in strengths])

    def strength_at(target: float) -> float:
        below = int(np.searchsorted(-fallen, -target))  # the first strength at or below the target
        if below in (0, len(fallen)):
            return float(strengths[min(below, len(fallen) - 1)])
        share = (fallen[below - 1] - target) / (fallen[below - 1] - fallen[below])
        return float(strengths[below - 1] * (strengths[below] / strengths[below - 1]) ** share)

    return Reach(*(strength_at(target) for target in targets))


def _maximum(options: SampledOptions, name: str) -> float | None:
    value: float | None = getattr(options, name, None)
    return value


def _strength(
    entry: Method, around: Neighbourhood, options: SampledOptions, sample_set: SampleSet, u: float, reach: Reach | None
) -> float:
    """The strength at quantile u of its range, in the method's own unit."""
    if sample_set == SampleSet.TYPICAL and isinstance(options, GaussianOptions):
        return options.typical_scale
    if reach is None and needs_reach(entry, options, sample_set):
        raise InvalidInput(f"{entry.title}: its {sample_set} strengths are measured on the network; calibrate first")
    highest = 0.95 if entry.strength == "rate" else math.inf
    asked = _maximum(options, f"{sample_set}_max")
    if asked is not None:
        asked = options.in_own_unit(asked, around)
    if sample_set == SampleSet.TYPICAL or options.strengths == "uniform":
        if asked is None:
            assert reach is not None
            asked = reach.near if sample_set == SampleSet.TYPICAL else 2 * reach.half
        return u * min(asked, highest)
    assert reach is not None
    far = min(asked if asked is not None else 2 * max(reach.half, reach.near), highest)
    near = min(reach.near, far)
    if u < NEAR_SHARE:
        return near * u / NEAR_SHARE
    return float(near * (far / near) ** ((u - NEAR_SHARE) / (1 - NEAR_SHARE)))


@dataclass(frozen=True)
class Choice:
    """The strength at which averaged samples predict best, and every strength that was looked at, increasing.

    nll[i]: at strengths[i]; end: "" or which end of the grid the best one lies at, so that a better one may lie beyond.
    """

    strength: float
    strengths: tuple[float, ...]
    nll: tuple[float, ...]
    end: Literal["", "lowest", "highest"]


# Best strengths are chosen among 0 and first * 2^(k / 2), in the method's own unit, k from lowest to highest.
_GRID = {"step": (0.05, -16, 12), "rate": (0.01, -12, 12), "scale": (1.0, -20, 20)}
NEGLIGIBLE = 5e-4  # nats: where the weakest strength is worse than none by no more, a weaker one need not be looked at
CLEARLY = 0.02  # nats: where the strongest is worse than the best by more, a stronger one need not be


def grid_strength(entry: Method, rung: int) -> float:
    """The strength k = rung half octaves above the grid's first."""
    return float(_GRID[entry.strength or "scale"][0] * 2 ** (rung / 2))


def grid_in_words(entry: Method) -> str:
    first, low, high = _GRID[entry.strength or "scale"]
    return f"0 and {first:g} × 2^(k/2), k = {low} to {high}".replace("-", "−")


def best_strength(entry: Method, nll: Callable[[float], float]) -> Choice:
    """Where is nll(strength) smallest (science o.8)? Asked for at 0 and, rung by rung, where the answer may lie.

    nll: of the average of a method's samples, mean over runs; with common random numbers, so that it is smooth. It need
    not fall at once: the mean of few draws lies off the centre, which costs in proportion to the strength, while what
    averaging saves grows with its square. So the walk goes by octaves up until it is clearly worse than the best; then
    down while the weakest is the best, or while nothing is better than 0 and the weakest differs from it by something
    that counts; at last to the half octaves on both sides of the best.
    """
    _, low, high = _GRID[entry.strength or "scale"]
    seen: dict[int, float] = {}

    def look(rung: int) -> None:
        if low <= rung <= high:
            value = nll(grid_strength(entry, rung))
            seen[rung] = value if math.isfinite(value) else math.inf

    none = nll(0.0)
    look(0)
    while seen[top := max(seen)] <= min(none, *seen.values()) + CLEARLY and top < high:
        look(top + 2)
    while (bottom := min(seen)) > low:
        lowest = min(seen.values())
        if (lowest < none and seen[bottom] > lowest) or none <= seen[bottom] <= none + NEGLIGIBLE:
            break
        look(bottom - 2)
    best = min(seen, key=lambda rung: (seen[rung], rung))
    if seen[best] < none:
        look(best - 1)
        look(best + 1)
        best = min(seen, key=lambda rung: (seen[rung], rung))
    is_none = none <= seen[best]
    end: Literal["", "lowest", "highest"] = "lowest" if best == low else "highest" if best == high else ""
    rungs = sorted(seen)
    return Choice(
        0.0 if is_none else grid_strength(entry, best),
        (0.0, *(grid_strength(entry, rung) for rung in rungs)),
        (none, *(seen[rung] for rung in rungs)),
        "" if is_none else end,
    )


# ------------------------------------------------------------------------------------------------------- sampling


def sample(
    entry: Method,
    around: Neighbourhood,
    options: Options,
    *,
    sample_set: SampleSet,
    count: int,
    seed: int,
    reach: Reach | None = None,
    accuracy: Callable[[Draw], float] | None = None,
    reference: float | None = None,
    start: int = 0,
) -> Iterator[Sampled]:
    """The samples `start` .. `count` - 1 of one set, in order; one whose tries all fall below the floor is left out.

    seed: the run's sampling seed; reach: from `calibrate` where `needs_reach`; accuracy(draw): fraction correct on the
    validation images, called once a try; reference: the optimum's own (both only where there is a floor).
    A method that is not sampled gives its one solution in the typical set. Raises InvalidInput when something needed
    is missing.
    """
    if not isinstance(options, SampledOptions):
        if sample_set == SampleSet.TYPICAL and start == 0 and count > 0:
            yield Sampled(entry.call(around, options, 0.0, sample_rng(seed, entry.name, sample_set, 0, 0)), 0, 0, None)
        return
    floored = sample_set == SampleSet.TYPICAL and options.floor != "none"
    if floored and accuracy is None:
        raise InvalidInput(f"{entry.title}: the accuracy floor needs validation images", field="data.validation_images")
    floor = _floor(options, reference) if floored else None
    for index in range(start, count):
        for attempt in range(options.tries if floor is not None else 1):
            u, rng = _quantile(entry, options, sample_set, seed, index, attempt)
            draw = entry.call(around, options, _strength(entry, around, options, sample_set, u, reach), rng)
            found = None if floor is None or accuracy is None else accuracy(draw)
            if floor is None or (found is not None and found >= floor):
                yield Sampled(draw, index, attempt, found)
                break


def sample_at(
    entry: Method,
    around: Neighbourhood,
    options: Options,
    *,
    sample_set: SampleSet | Literal["grid"],
    strength: float,
    count: int,
    seed: int,
    start: int = 0,
) -> Iterator[Sampled]:
    """The samples `start` .. `count` - 1 at one strength, without rejection; at strength 0 one, for all are alike.

    The same seed, set and index give the same random numbers at every strength: common ones along the `grid`, and
    others in the fair set, so that nothing is judged by the draws it was chosen by.
    """
    for index in range(start, count if strength > 0 else min(count, 1)):
        draw = remake(
            entry, around, options, sample_set=sample_set, index=index, attempt=0, strength=strength, seed=seed
        )
        yield Sampled(draw, index, 0, None)


def remake(
    entry: Method,
    around: Neighbourhood,
    options: Options,
    *,
    sample_set: SampleSet | Literal["grid"],
    index: int,
    attempt: int,
    strength: float,
    seed: int,
) -> Draw:
    """The draw that `sample` or `sample_at` gave under this index and attempt with this strength, bit for bit."""
    rng = sample_rng(seed, entry.name, sample_set, index, attempt)
    if isinstance(options, SampledOptions):
        rng.random()  # the strength's quantile came first
    draw: Draw = entry.call(around, options, strength, rng)
    return draw


def _quantile(
    entry: Method, options: SampledOptions, sample_set: SampleSet, seed: int, index: int, attempt: int
) -> tuple[float, np.random.Generator]:
    """The quantile of the strength, and the generator for the rest of the draw.

    Graded first tries follow the golden-ratio sequence: evenly spread for any number of samples, so a longer set
    contains the shorter one. Its offset differs by run, so pooled runs fill each other's gaps.
    """
    rng = sample_rng(seed, entry.name, sample_set, index, attempt)
    u = float(rng.random())
    if options.strengths == "graded" and attempt == 0:
        offset = float(sample_rng(seed, entry.name, sample_set, 0, 0).random())
        u = (offset + index * _GOLDEN) % 1.0
    return u, rng


def _floor(options: SampledOptions, reference: float | None) -> float:
    if options.floor == "absolute":
        return options.floor_value
    if reference is None:
        raise InvalidInput("an accuracy floor below the optimum's needs the optimum's accuracy", field="options.floor")
    return reference - options.floor_value
