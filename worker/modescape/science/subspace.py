"""What can be reached from one solution? Methods that draw weights around a single optimum, and how strongly.

    around = Neighbourhood(theta, snapshots, layout)
    entry = methods["random"]
    options = entry.options()
    reach = calibrate(entry, around, options, accuracy=probe, chance=0.1, seed=seed)
    for found in sample(entry, around, options, sample_set="typical", count=10, seed=seed, reach=reach,
                        accuracy=on_validation, reference=accuracy_of_the_optimum):
        found.draw.theta                      # float32 [P]

A method is one function `(around, options, strength, rng) -> Draw`: where weights lie at a given strength. How strong
is decided here for all methods alike (science d.9), so that a method added elsewhere gets its sample sets for nothing:

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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from modescape.errors import InvalidInput
from modescape.registry import Method, NoOptions, Options, methods
from modescape.science.seeds import sample_rng

FloatArray = NDArray[np.floating[Any]]
Layout = Sequence[tuple[str, tuple[int, ...]]]
SampleSet = Literal["spread", "typical", "fair"]  # which `sample` and `sample_at` draw

FORT = "Fort, Hu & Lakshminarayanan 2019, section 4.1"
NEAR_COST = 0.02  # accuracy given up at the strongest typical sample, and at the end of the near part of graded ones
NEAR_SHARE = 0.6  # of graded samples
FLOOR_DROP = 0.06  # accuracy below the optimum's at which a typical sample is refused
PROBES = 3  # directions averaged by `calibrate`
_BLOCK = 1 << 20  # parameters handled at a time in float64 (8 MB a row)
_GOLDEN = (math.sqrt(5) - 1) / 2


# ---------------------------------------------------------------------------------------------- the neighbourhood


@dataclass(frozen=True)
class Modes:
    """Eigenpairs of the snapshots' Gram matrix X X^T, descending, without null directions.

    eigenvalues [R]; coefficients [S, R]: unit eigenvectors u_j, so that X^T u_j / sqrt(lambda_j) is a unit direction.
    """

    eigenvalues: NDArray[np.float64]
    coefficients: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """One run's optimum and what is known around it. Derived quantities are computed once, when first asked for.

    theta: float32 [P], the final weights theta_0; snapshots: float32 [S, P] of the end of training, or None;
    layout: (name, shape) of each tensor in the order in which theta was flattened.
    """

    theta: FloatArray
    snapshots: FloatArray | None = None
    layout: Layout = ()

    @cached_property
    def norm(self) -> float:
        return float(np.linalg.norm(self.theta.astype(np.float64)))

    @cached_property
    def mean(self) -> NDArray[np.float64]:
        """Mean of the snapshots, [P]: the centre mu of both Gaussians, and the weight average."""
        return np.asarray(self._kept().mean(axis=0, dtype=np.float64))

    @cached_property
    def squares(self) -> NDArray[np.float64]:
        """Sum of squared deviations from the mean, [P], in two passes: E[x^2] - E[x]^2 would lose every digit."""
        return np.concatenate([np.square(block).sum(axis=0) for _, block in self._deviations()])

    @cached_property
    def modes(self) -> Modes:
        """Principal modes of the snapshots by their [S, S] Gram matrix; nothing of size P x P is built."""
        count = len(self._kept())
        gram = np.zeros((count, count))
        for _, block in self._deviations():
            gram += block @ block.T
        eigenvalues, vectors = np.linalg.eigh(gram)
        eigenvalues, vectors = eigenvalues[::-1], vectors[:, ::-1]
        kept = eigenvalues > max(1e-10 * eigenvalues[0], 0.0)
        kept[count - 1 :] = False  # the deviations sum to zero: at most S - 1 directions
        return Modes(eigenvalues[kept], vectors[:, kept])

    def combine(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum of the snapshots' deviations from their mean, times `weights` [S]; [P]."""
        return np.concatenate([weights @ block for _, block in self._deviations()])

    def distance(self, theta: FloatArray) -> float:
        """|theta - theta_0| / |theta_0|; NaN when theta_0 is zero."""
        away = float(np.linalg.norm(theta.astype(np.float64) - self.theta))
        return away / self.norm if self.norm else math.nan

    def _kept(self) -> FloatArray:
        if self.snapshots is None or len(self.snapshots) < 2:
            raise InvalidInput("this method needs 2 or more snapshots", field="training.snapshots", allowed="2 or more")
        return self.snapshots

    def _deviations(self) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        snapshots = self._kept()
        for start in range(0, snapshots.shape[1], _BLOCK):
            part = slice(start, start + _BLOCK)
            yield part, snapshots[:, part].astype(np.float64) - self.mean[part]


# --------------------------------------------------------------------------------------------------- what is drawn


@dataclass(frozen=True)
class ActivationMask:
    """Dropout at prediction time, as a recipe: `predictions.predict` draws the mask from the seed.

    rate: probability of dropping a unit; seed: of the mask; per_example: a fresh mask for every image instead of one
    mask for all (then the sample is a random process, not a function).
    """

    rate: float
    seed: int
    per_example: bool


@dataclass(frozen=True, eq=False)
class Draw:
    """Weights around an optimum.

    theta: float32 [P]; strength: in the method's own unit (step length over |theta_0|, rate, or scale);
    relative: |theta - theta_0| / |theta_0|, comparable across methods; mask: for activation dropout only.
    """

    theta: NDArray[np.float32]
    strength: float
    relative: float
    mask: ActivationMask | None = None


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


# ------------------------------------------------------------------------------------------------------- options


class SampledOptions(Options):
    """What every sampled method lets one choose."""

    strengths: Literal["graded", "uniform"] = Field(
        "graded",
        description="graded: evenly spaced, in the spread set denser near the optimum (six tenths of its samples cost "
        "less than two points of accuracy); uniform: independent uniform draws, as in the paper.",
    )
    floor: Literal["none", "drop", "absolute"] = Field(
        "drop",
        description="Accuracy floor of typical samples on the first 2,000 validation images. none: accept all; drop: "
        "the optimum's accuracy minus the floor value; absolute: the floor value itself.",
    )
    floor_value: float = Field(
        FLOOR_DROP, ge=0, le=1, description="Accuracy given up (drop) or required (absolute), as a fraction."
    )
    tries: int = Field(5, ge=1, le=100, description="Draws for one typical sample before it is skipped.")


class RandomOptions(SampledOptions):
    unit: Literal["relative", "absolute"] = Field(
        "relative",
        description="Unit of the two lengths below: relative to the norm of the solution, or absolute as in the paper.",
    )
    spread_max: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="Longest step of spread samples (paper: 70 absolute); empty: measured on the network.",
    )
    typical_max: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="Longest step of typical samples (paper: 10 absolute); empty: where accuracy falls by 2 points.",
    )
    filter_normalised: bool = Field(
        False,
        description="Rescale each filter of the direction to the norm of the solution's; biases stay (Li et al. 2018).",
    )


class DropoutOptions(SampledOptions):
    spread_max: float | None = Field(
        None, gt=0, le=0.95, description="Highest rate of spread samples (paper: 0.1); empty: measured on the network."
    )
    typical_max: float | None = Field(
        None,
        gt=0,
        le=0.95,
        description="Highest rate of typical samples (paper: 0.1); empty: where accuracy falls by 2 points.",
    )


class ActivationDropoutOptions(DropoutOptions):
    masks: Literal["function", "example"] = Field(
        "function",
        description="function: one mask for all images, so a sample is a function; example: a fresh mask per image.",
    )


class GaussianOptions(SampledOptions):
    spread_max: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="Largest factor on the standard deviations of spread samples; empty: measured on the network.",
    )
    typical_scale: float = Field(1.0, gt=0, le=1e6, description="Factor on the standard deviations of typical samples.")


class DiagonalOptions(GaussianOptions):
    ddof: Literal[0, 1] = Field(0, description="0: divide the squares by S snapshots (authors' code); 1: by S - 1.")


class LowRankOptions(GaussianOptions):
    rank: int = Field(5, ge=1, le=200, description="Principal directions kept; needs at least one snapshot more.")
    scaling: Literal["covariance", "unit"] = Field(
        "covariance",
        description="covariance: as wide as the snapshots in each direction; unit: standard normal factors "
        "(authors' code).",
    )


class PcaRandomOptions(LowRankOptions):
    rank: int = Field(
        4, ge=1, le=200, description="Principal directions kept (paper: 4); needs one more narrow random sample."
    )


class EmaOptions(Options):
    decay: float = Field(
        0.8, ge=0, lt=1, description="What the average keeps of itself at each snapshot; 0: the last snapshot alone."
    )


# ------------------------------------------------------------------------------------------------------- methods

Call = Callable[[Neighbourhood, Any, float, np.random.Generator], Draw]


def method(
    name: str,
    *,
    title: str,
    summary: str,
    source: str,
    look: str,
    centre: Literal["optimum", "mean"],
    strength: Literal["step", "rate", "scale"] | None,
    options: type[Options] = NoOptions,
    needs_snapshots: bool = False,
    sampled: bool = True,
    trained: Literal["fresh", "continued"] | None = None,
    of: str | None = None,
    needs_dropout: bool = False,
    count: Callable[[Any], int] | None = None,
) -> Callable[[Call], Call]:
    """Register `(around, options, strength, rng) -> Draw`. The options of a sampled method extend SampledOptions."""
    if sampled != issubclass(options, SampledOptions) or sampled != (strength is not None):
        raise ValueError(f"method {name!r}: sampled methods have a strength and SampledOptions, others have neither")

    def register(call: Call) -> Call:
        methods.add(
            Method(
                name=name,
                title=title,
                summary=summary,
                source=source,
                options=options,
                call=call,
                look=look,
                centre=centre,
                strength=strength,
                needs_snapshots=needs_snapshots,
                sampled=sampled,
                trained=trained,
                of=of,
                needs_dropout=needs_dropout,
                **({} if count is None else {"count": count}),
            )
        )
        return call

    return register


@method(
    "random",
    title="Random subspace",
    summary="A step from the solution in a uniformly random direction of all weights.",
    source=FORT,
    look="random",
    centre="optimum",
    strength="step",
    options=RandomOptions,
)
def random(around: Neighbourhood, options: RandomOptions, strength: float, rng: np.random.Generator) -> Draw:
    """theta_0 + s |theta_0| v, v of unit length over the whole network (science d.1).

    With `filter_normalised` the direction has the norms of the solution's own filters instead (Li et al. 2018,
    "Visualizing the Loss Landscape of Neural Nets"), and s = 1 doubles or cancels a filter that it is parallel to.
    """
    direction = rng.standard_normal(around.theta.size)
    if options.filter_normalised:
        step = _like_filters(direction, around)
    else:
        step = direction * (around.norm / np.linalg.norm(direction))
    return draw_at(around, around.theta + strength * step, strength)


@method(
    "dropout",
    title="Dropout subspace",
    summary="The solution with a random share of its weights set to zero and the others scaled up.",
    source=FORT + "; authors' code: dropout on the weight vector, biases included",
    look="dropout",
    centre="optimum",
    strength="rate",
    options=DropoutOptions,
)
def dropout(around: Neighbourhood, options: DropoutOptions, strength: float, rng: np.random.Generator) -> Draw:
    """theta_0 * mask / (1 - q), each of the P weights kept with probability 1 - q; then deterministic (science d.2)."""
    kept = rng.random(around.theta.size) >= strength
    return draw_at(around, around.theta.astype(np.float64) * kept / (1.0 - strength), strength)


@method(
    "activation-dropout",
    title="Activation dropout",
    summary="The solution with units dropped while it predicts (Monte-Carlo dropout).",
    source="Gal & Ghahramani 2016; another reading of " + FORT,
    look="spare-4",
    centre="optimum",
    strength="rate",
    options=ActivationDropoutOptions,
    needs_dropout=True,
)
def activation_dropout(
    around: Neighbourhood, options: ActivationDropoutOptions, strength: float, rng: np.random.Generator
) -> Draw:
    """The solution's own weights with a dropout mask over activations; batch norm stays in evaluation mode."""
    mask = ActivationMask(strength, int(rng.integers(2**53)), options.masks == "example")
    return Draw(np.asarray(around.theta, np.float32), strength, 0.0, mask)


@method(
    "diagonal",
    title="Diagonal Gaussian",
    summary="Independent normal noise per weight, as wide as the weight moved over the snapshots.",
    source=FORT + "; N(mu, sigma) with sigma a standard deviation",
    look="diagonal",
    centre="mean",
    strength="scale",
    options=DiagonalOptions,
    needs_snapshots=True,
)
def diagonal(around: Neighbourhood, options: DiagonalOptions, strength: float, rng: np.random.Generator) -> Draw:
    """mu + c sigma z, z standard normal, sigma_i the standard deviation of weight i over S snapshots (science d.3)."""
    assert around.snapshots is not None
    sigma = np.sqrt(around.squares / (len(around.snapshots) - options.ddof))
    return draw_at(around, around.mean + strength * sigma * rng.standard_normal(sigma.size), strength)


@method(
    "low-rank",
    title="Low-rank Gaussian",
    summary="Normal noise along the principal directions of the snapshots.",
    source=FORT + "; scaled as the snapshots' covariance unless unit scaling is asked for",
    look="low-rank",
    centre="mean",
    strength="scale",
    options=LowRankOptions,
    needs_snapshots=True,
)
def low_rank(around: Neighbourhood, options: LowRankOptions, strength: float, rng: np.random.Generator) -> Draw:
    """mu + c X^T b, with z standard normal and (lambda, U) the first k eigenpairs of X X^T (science d.4).

    b = U z / sqrt(S - 1) gives the rank-k part of the snapshots' covariance, b = U lambda^(-1/2) z unit scaling.
    Directions in which the snapshots do not vary (below 1e-10 of the first eigenvalue) are left out.
    Raises InvalidInput for a rank above S - 1.
    """
    assert around.snapshots is not None
    count = len(around.snapshots)
    if options.rank > count - 1:
        raise InvalidInput(
            f"rank {options.rank} needs at least {options.rank + 1} snapshots, there are {count}",
            field="options.rank",
            allowed=f"1 to {count - 1}",
        )
    return _along_modes(around, options, strength, rng)


@method(
    "pca-random",
    title="Random-sample PCA",
    summary="Normal noise along the principal directions of the random subspace's narrow samples of the same run.",
    source=FORT + "; authors' code: drawn beside the others in the figures of ensembles and of shift",
    look="spare-2",
    centre="mean",
    strength="scale",
    options=PcaRandomOptions,
    of="random",
)
def pca_random(around: Neighbourhood, options: PcaRandomOptions, strength: float, rng: np.random.Generator) -> Draw:
    """`low_rank` with the accepted typical samples of `random` in place of snapshots (science d.4).

    Isotropic samples have no directions of their own: it is a compact stand-in for them, not a finding about the run.
    Samples below the accuracy floor are missing, so the rank may have to be smaller than asked: then all directions
    there are.
    """
    return _along_modes(around, options, strength, rng)


def _along_modes(around: Neighbourhood, options: LowRankOptions, strength: float, rng: np.random.Generator) -> Draw:
    assert around.snapshots is not None
    count = len(around.snapshots)
    vectors = around.modes.coefficients[:, : options.rank]
    normal = rng.standard_normal(options.rank)[: vectors.shape[1]]
    if options.scaling == "covariance":
        weights = vectors @ normal / math.sqrt(count - 1)
    else:
        weights = vectors @ (normal / np.sqrt(around.modes.eigenvalues[: vectors.shape[1]]))
    return draw_at(around, around.mean + strength * around.combine(weights), strength)


@method(
    "averaging",
    title="Weight averaging",
    summary="The mean of the snapshots: one solution a run.",
    source=FORT + "; Izmailov et al. 2018",
    look="averaging",
    centre="mean",
    strength=None,
    needs_snapshots=True,
    sampled=False,
)
def averaging(around: Neighbourhood, options: NoOptions, strength: float, rng: np.random.Generator) -> Draw:
    """The uniform mean mu of one run's snapshots (of several runs the mean predicts at chance; science d.5)."""
    return draw_at(around, around.mean, 0.0)


@method(
    "ema",
    title="Exponential moving average",
    summary="The mean of the snapshots, recent ones counting more: one solution a run. It moves at each snapshot, not "
    "at each training step.",
    source="Kingma & Ba 2015, section 7.2 (temporal averaging, bias-corrected)",
    look="spare-1",
    centre="mean",
    strength=None,
    options=EmaOptions,
    needs_snapshots=True,
    sampled=False,
)
def ema(around: Neighbourhood, options: EmaOptions, strength: float, rng: np.random.Generator) -> Draw:
    """theta <- b theta + (1 - b) snapshot from zero, over 1 - b^S at the end, so that the start leaves no trace.

    In closed form snapshot s of S weighs (1 - b) b^(S - s) / (1 - b^S). With the snapshots D steps apart this is the
    average that is updated at every step with decay b^(1/D), read off at the snapshots only: it costs no further
    training, and stands beside the uniform average of the same snapshots.
    """
    assert around.snapshots is not None
    weights = options.decay ** np.arange(len(around.snapshots) - 1, -1, -1, dtype=np.float64)
    return draw_at(around, around.mean + around.combine(weights / weights.sum()), 0.0)


def draw_at(around: Neighbourhood, theta: FloatArray, strength: float) -> Draw:
    """Those weights as a draw around that optimum, rounded to float32."""
    rounded = theta.astype(np.float32)
    return Draw(rounded, strength, around.distance(rounded))


def _like_filters(direction: NDArray[np.float64], around: Neighbourhood) -> NDArray[np.float64]:
    """The direction with each filter as long as the solution's, and tensors of one dimension set to zero."""
    result = np.zeros_like(direction)
    start = 0
    for _, shape in around.layout:
        stop = start + math.prod(shape)
        if len(shape) >= 2:
            rows = direction[start:stop].reshape(shape[0], -1)
            norms = np.linalg.norm(around.theta[start:stop].astype(np.float64).reshape(shape[0], -1), axis=1)
            result[start:stop] = (rows * (norms / np.linalg.norm(rows, axis=1))[:, None]).ravel()
        start = stop
    if start != direction.size:
        raise InvalidInput(f"the layout describes {start} weights, the solution has {direction.size}", field="layout")
    return result


# ------------------------------------------------------------------------------------------------------ strengths


def needs_reach(entry: Method, options: Options, sample_set: SampleSet) -> bool:
    """Whether the strengths of this set are measured on the network, so that `calibrate` must come first."""
    if not isinstance(options, SampledOptions) or sample_set == "fair":
        return False
    if sample_set == "typical":
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
    if sample_set == "typical" and isinstance(options, GaussianOptions):
        return options.typical_scale
    if reach is None and needs_reach(entry, options, sample_set):
        raise InvalidInput(f"{entry.title}: its {sample_set} strengths are measured on the network; calibrate first")
    highest = 0.95 if entry.strength == "rate" else math.inf
    asked = _maximum(options, f"{sample_set}_max")
    if asked is not None and isinstance(options, RandomOptions) and options.unit == "absolute":
        asked /= around.norm
    if sample_set == "typical" or options.strengths == "uniform":
        if asked is None:
            assert reach is not None
            asked = reach.near if sample_set == "typical" else 2 * reach.half
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
        if sample_set == "typical" and start == 0 and count > 0:
            yield Sampled(entry.call(around, options, 0.0, sample_rng(seed, entry.name, sample_set, 0, 0)), 0, 0, None)
        return
    floored = sample_set == "typical" and options.floor != "none"
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
