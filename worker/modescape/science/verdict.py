"""Do the paper's claims hold on these runs? Each as an estimand, an interval and one of three words.

    evidence = Evidence(classes=10, truth=truth, finals=finals, cosine=cosines, windows=windows, methods=(random, ...))
    for claim in judge(evidence):
        print(claim.title, claim.word, claim.because)

The question answered is "would this still be true for fresh runs of the same recipe, and fresh test images of the same
kind?". The run is the unit of replication: five runs give ten pairs but five units, because pairs share runs. Test
examples are a second, crossed factor. Checkpoints and samples are averaged inside their run and never raise n.

Every quantity is a statistic of a set of runs and of example weights. Its standard error joins a delete-one jackknife
over runs and 200 multinomial redraws of the examples; the interval uses Student's t with n - 1 degrees of freedom.
A pair bootstrap, or any percentile bootstrap over runs, covers 35 to 80 % instead of 95 %.
Words: `holds` when the whole interval is above the margin, `does not hold` when it is below, else `cannot tell`;
and `cannot tell` whenever a gate is closed, which is then named with what would open it. numpy only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.integer[Any]]
Word = Literal["holds", "does not hold", "cannot tell"]
Support = Literal["ok", "no common support", "range too short", "too few samples"]

DRAWS = 200  # redraws of the examples
LEVEL = 0.025  # one-sided, so intervals are at 95 %
MIN_RUNS = 3
MIN_EXAMPLES = 500
MIN_DISAGREEING = 20  # examples a pair of runs must disagree on, in the mean
MAX_UNDEFINED = 0.05  # share of redraws that may be undefined
COST = 0.01  # accuracy given up "at equal accuracy"
NEAR = 0.05  # samples of claim (c) lose at most this


# ------------------------------------------------------------------------------------------------------- evidence


@dataclass(frozen=True, eq=False)
class MethodEvidence:
    """What one subspace method predicted around each run, in the order of the runs.

    near: labels of typical samples, one [S_i, N] a run (claim c); wide: labels of samples of all strengths, one
    [S_i, N] a run, with their strengths [S_i] (claim d; None for a method that has no strength); centre: labels of
    the weight average [n, N] for methods centred there, None for those centred at the optimum itself.
    """

    name: str
    title: str
    near: Sequence[Labels] = ()
    wide: Sequence[Labels] = ()
    strengths: Sequence[ArrayLike] | None = None
    centre: Labels | None = None

    def without(self, run: int) -> MethodEvidence:
        strengths = None if self.strengths is None else _drop(self.strengths, run)
        centre = None if self.centre is None else np.delete(self.centre, run, axis=0)
        return replace(self, near=_drop(self.near, run), wide=_drop(self.wide, run), strengths=strengths, centre=centre)


@dataclass(frozen=True, eq=False)
class Evidence:
    """Predicted labels of runs that differ in seeds only, on the same N examples.

    truth [N]; finals [n, N]: last checkpoints; cosine [n, n] of the finals' weights (kernels only with batch norm), or
    None; windows: labels [T_i, N] of each run's recent snapshots, empty when there are none; failed: runs left out.
    """

    classes: int
    truth: Labels
    finals: Labels
    cosine: Floats | None = None
    windows: Sequence[Labels] = ()
    methods: tuple[MethodEvidence, ...] = ()
    numbers: tuple[int, ...] = ()
    failed: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.numbers:
            object.__setattr__(self, "numbers", tuple(range(len(self.finals))))

    @property
    def runs(self) -> int:
        return len(self.finals)

    @property
    def examples(self) -> int:
        return len(self.truth)

    def without(self, run: int) -> Evidence:
        """The same evidence had that run (by position) not been made."""
        return replace(
            self,
            finals=np.delete(self.finals, run, axis=0),
            cosine=None if self.cosine is None else np.delete(np.delete(self.cosine, run, 0), run, 1),
            windows=_drop(self.windows, run),
            methods=tuple(method.without(run) for method in self.methods),
            numbers=self.numbers[:run] + self.numbers[run + 1 :],
        )

    def without_failed(self) -> Evidence:
        """Leaves out runs with accuracy below 1/K + 0.05, by this rule alone, and counts them."""
        accuracies = (self.finals == self.truth).mean(axis=1)
        kept = self
        for run in np.flatnonzero(accuracies < 1 / self.classes + 0.05)[::-1]:
            kept = kept.without(int(run))
        return replace(kept, failed=self.failed + self.runs - kept.runs)


def _drop(values: Sequence[Any], run: int) -> tuple[Any, ...]:
    return tuple(value for i, value in enumerate(values) if i != run)


# ----------------------------------------------------------------------------------------------------- conclusions


@dataclass(frozen=True)
class Estimate:
    """A quantity with its 95 % interval and one-sided p-values against its margin.

    error: standard error; undefined: share of example redraws on which the quantity does not exist, 1 when it does not
    exist for all the data or with some run left out.
    """

    value: float
    low: float
    high: float
    error: float
    margin: float
    p_holds: float
    p_fails: float
    undefined: float = 0.0

    @property
    def word(self) -> Word:
        if self.undefined > MAX_UNDEFINED or not math.isfinite(self.low + self.high):
            return "cannot tell"
        return "holds" if self.low > self.margin else "does not hold" if self.high < self.margin else "cannot tell"


@dataclass(frozen=True)
class Finding:
    """One method's part in a claim over methods. gate: why it cannot be told, "" while its gates are open."""

    method: str
    title: str
    word: Word
    because: str
    estimate: Estimate | None
    gate: str = ""
    parts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """One claim of the paper, answered.

    estimate, low, high: in the estimand's own unit (for a claim over methods, of the weakest one), None when there is
    none; n runs, N examples; parts: the numbers behind the estimate; p: of the word given; qualifier: a shade the word
    leaves out; survives: still given after Holm's correction over the answered claims; rests_on: runs without which
    the word would be another.
    """

    id: str
    title: str
    estimand: str
    word: Word
    because: str
    margin: float
    n: int
    N: int
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    qualifier: str = ""
    parts: Mapping[str, float] = field(default_factory=dict)
    methods: tuple[Finding, ...] = ()
    survives: bool = False
    rests_on: tuple[int, ...] = ()


# ------------------------------------------------------------------------------------------------ the statistics (o.2)

# A statistic of runs (positions) and redraws (a slice: 0 is the data itself) gives one value a redraw.
Statistic = Callable[[NDArray[np.intp], slice], Floats]


def example_weights(examples: int, *, draws: int = DRAWS, seed: int = 0) -> NDArray[np.float32]:
    """Counts [N, 1 + draws]: once each, then multinomial redraws. The same for every run, method and type."""
    rng = np.random.Generator(np.random.Philox(seed))
    counts = np.ones((examples, 1 + draws), np.float32)
    for draw in range(1, 1 + draws):
        counts[:, draw] = np.bincount(rng.integers(examples, size=examples), minlength=examples)
    return counts


def weighted(indicators: NDArray[Any], weights: NDArray[np.float32]) -> Floats:
    """Means over examples of 0/1 arrays [..., N] under every weight column, [..., 1 + draws]; counts are exact."""
    examples = indicators.shape[-1]
    flat = indicators.reshape(-1, examples)
    # one block at a time: float32 holds counts up to 2^24, and the copy stays small
    rows = [flat[i : i + 256].astype(np.float32) @ weights for i in range(0, len(flat), 256)]
    counts = np.concatenate(rows) if rows else np.empty((0, weights.shape[1]))
    return np.asarray(counts.reshape(*indicators.shape[:-1], -1) / np.float64(examples))


def estimate(statistic: Statistic, units: int, *, margin: float, draws: int = 0) -> Estimate:
    """Value, t interval and p-values of a statistic of `units` runs and of `draws` example redraws (0: no examples)."""
    everyone = np.arange(units)
    values = statistic(everyone, slice(0, 1 + draws))
    value, redrawn = float(values[0]), values[1:]
    left_out = np.array([statistic(np.delete(everyone, i), slice(0, 1))[0] for i in everyone])
    if not np.isfinite(value) or not np.isfinite(left_out).all() or units < 2:
        return Estimate(value, math.nan, math.nan, math.nan, margin, math.nan, math.nan, 1.0)
    variance = (units - 1) / units * float(np.square(left_out - left_out.mean()).sum())
    usable = redrawn[np.isfinite(redrawn)]
    undefined = 1 - len(usable) / draws if draws else 0.0
    if len(usable) > 1:
        variance += float(usable.var(ddof=1))
    error = math.sqrt(variance)
    half = t_quantile(1 - LEVEL, units - 1) * error
    return Estimate(
        value,
        value - half,
        value + half,
        error,
        margin,
        _p_above((value - margin), error, units - 1),
        _p_above((margin - value), error, units - 1),
        undefined,
    )


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


def _pairs(runs: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    first, second = np.triu_indices(len(runs), 1)
    return runs[first], runs[second]


def _log_ratio(top: Floats, bottom: Floats) -> Floats:
    """ln(top / bottom), NaN where either is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where((top > 0) & (bottom > 0), np.log(top) - np.log(bottom), np.nan))


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
        if losses.mean() > cost:
            return EqualAccuracy(math.nan, math.nan, 0, len(losses), "no common support")
        found = float(disagreements.mean())
        return EqualAccuracy(found, math.nan, len(losses), 0, "range too short")
    strengths = np.asarray(strengths, np.float64)
    axis, loss, changed = _curves(strengths, losses, disagreements, start_loss, start_disagreement)
    if loss[0] > cost:
        return EqualAccuracy(math.nan, math.nan, 0, len(losses), "no common support")
    star, found = _read_at(axis, loss, changed, cost)
    below = int(((strengths > 0) & (strengths <= star)).sum())
    beyond = int((strengths > star).sum())
    support: Support = "ok" if below >= 5 and beyond >= 3 else "too few samples"
    if loss[-1] <= cost and below >= 5:
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
    last = int(np.flatnonzero(loss <= cost)[-1])
    if last == len(axis) - 1:
        return float(axis[-1]), float(changed[-1])
    share = (cost - loss[last]) / (loss[last + 1] - loss[last])
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


# -------------------------------------------------------------------------------------------------------- the claims


def judge(evidence: Evidence) -> list[Claim]:
    """Every claim this evidence can be asked about, with Holm's correction and the runs each word rests on."""
    kept = evidence.without_failed()
    claims = []
    for decide in CLAIMS:
        claim = decide(kept)
        if claim is None:
            continue
        if claim.word != "cannot tell" and kept.runs > MIN_RUNS:
            others = [decide(kept.without(run)) for run in range(kept.runs)]
            words = [None if other is None else other.word for other in others]
            claim = replace(
                claim, rests_on=tuple(kept.numbers[i] for i, word in enumerate(words) if word != claim.word)
            )
        if kept.failed:
            failed = f"{kept.failed} of {kept.runs + kept.failed} runs failed and were left out"
            claim = replace(claim, because=f"{claim.because}; {failed}")
        claims.append(claim)
    return holm(claims)


def holm(claims: Sequence[Claim]) -> list[Claim]:
    """Marks the answered claims whose words stand together at 95 % (Holm 1979)."""
    answered = sorted((c for c in claims if c.word != "cannot tell" and c.p is not None), key=lambda c: c.p or 0.0)
    surviving = set()
    for rank, claim in enumerate(answered):
        if claim.p is None or claim.p > LEVEL / (len(answered) - rank):
            break
        surviving.add(claim.id)
    return [replace(claim, survives=claim.id in surviving) for claim in claims]


def orthogonal(evidence: Evidence, *, margin: float = 0.1) -> Claim | None:
    """(a) Independent optima are orthogonal in weight space: the mean cosine over pairs lies inside (-0.1, 0.1).

    An equivalence: whether the mean differs from 0 at all is not the question.
    """
    if evidence.cosine is None:
        return None
    cosines, n = np.asarray(evidence.cosine, np.float64), evidence.runs
    base = Claim(
        "a", "Independent optima are orthogonal", "mean cosine over pairs of runs", "cannot tell", "", margin, n, 0
    )
    if n < MIN_RUNS:
        return replace(base, because=_too_few_runs(n))

    def mean_cosine(runs: NDArray[np.intp], draws: slice) -> Floats:
        return np.atleast_1d(cosines[_pairs(runs)].mean())

    above = estimate(mean_cosine, n, margin=margin)
    below = estimate(mean_cosine, n, margin=-margin)
    largest = float(np.abs(cosines[_pairs(np.arange(n))]).max())
    known = _with(base, above, {"largest |cosine|": largest})
    if not math.isfinite(above.error):
        return replace(known, because="a cosine is undefined: some weights are all zero or not finite")
    if -margin < above.low and above.high < margin:
        return replace(
            known, word="holds", p=max(above.p_fails, below.p_holds),
            because=f"the whole interval lies within ±{margin:g}",
        )  # fmt: skip
    if above.low > margin or above.high < -margin:
        return replace(
            known, word="does not hold", p=min(above.p_holds, below.p_fails),
            because=f"the whole interval lies outside ±{margin:g}",
        )  # fmt: skip
    return replace(known, because=f"the interval crosses ±{margin:g}: more runs would narrow it")


def alike_along(evidence: Evidence, *, margin: float = math.log(1.25)) -> Claim | None:
    """(b) Functions along one trajectory are alike, across runs they are not: ln(D_b / D_w) above ln 1.25."""
    if not len(evidence.windows):
        return None
    n = evidence.runs
    base = Claim(
        "b", "Functions are alike along one trajectory, different across runs",
        "ln(disagreement across runs / within a run's recent snapshots)", "cannot tell", "", margin, n,
        evidence.examples,
    )  # fmt: skip
    shortest = min(len(window) for window in evidence.windows)
    if shortest < 3:
        return replace(base, because=f"a run has {shortest} recent snapshots, at least 3 are needed")
    weights = example_weights(evidence.examples, seed=evidence.seed)
    across = _pair_disagreements(evidence.finals, weights)
    gate = _common_gate(evidence, across)
    if gate:
        return replace(base, because=gate)
    within = np.stack(
        [_mean_pair(_pair_disagreements(window, weights), np.arange(len(window))) for window in evidence.windows]
    )

    def log_ratio(runs: NDArray[np.intp], draws: slice) -> Floats:
        return _log_ratio(_mean_pair(across[:, :, draws], runs), within[runs, draws].mean(axis=0))

    found = estimate(log_ratio, n, margin=margin, draws=DRAWS)
    everyone = np.arange(n)
    parts = {"across runs": float(_mean_pair(across, everyone)[0]), "within a run": float(within[:, 0].mean())}
    return _answer(_with(base, found, parts), found)


def stay_near(evidence: Evidence, *, margin: float = math.log(1.25)) -> Claim | None:
    """(c) Subspace samples stay near their own run: for every method ln(O_q / S_q) above ln 1.25.

    S_q: disagreement of a sample with its own run's final, O_q: with the other runs' finals. Only samples within 0.05
    of their run's accuracy count, at least 3 of them in every run.
    """
    methods = [method for method in evidence.methods if len(method.near) and any(len(s) for s in method.near)]
    if not methods:
        return None
    base = Claim(
        "c", "Subspace samples stay near their own run",
        "ln(a sample's disagreement with other runs / with its own)", "cannot tell", "", margin, evidence.runs,
        evidence.examples,
    )  # fmt: skip
    weights = example_weights(evidence.examples, seed=evidence.seed)
    gate = _common_gate(evidence, _pair_disagreements(evidence.finals, weights[:, :1]))
    if gate:
        return replace(base, because=gate)
    return _over_methods(base, [_stays(evidence, method, weights, margin) for method in methods])


def _stays(evidence: Evidence, method: MethodEvidence, weights: NDArray[np.float32], margin: float) -> Finding:
    accuracies = (evidence.finals == evidence.truth).mean(axis=1)
    usable = [
        samples[(samples == evidence.truth).mean(axis=1) >= accuracy - NEAR]
        for samples, accuracy in zip(method.near, accuracies, strict=True)
    ]
    fewest = min(len(samples) for samples in usable)
    if fewest < 3:
        gate = (
            f"a run has {fewest} samples within {100 * NEAR:g} points of its accuracy, 3 are needed: "
            "use smaller strengths"
        )
        return Finding(method.name, method.title, "cannot tell", gate, None, gate)
    # [run of the sample, run of the final, draw]: the mean over that run's samples
    gaps = np.stack([_cross(samples, evidence.finals, weights).mean(axis=0) for samples in usable])
    own_is_nearest = [
        _cross(samples, evidence.finals, weights[:, :1])[..., 0].argmin(axis=1) == i for i, samples in enumerate(usable)
    ]

    def parts(runs: NDArray[np.intp], draws: slice) -> tuple[Floats, Floats]:
        block = gaps[np.ix_(runs, runs)][:, :, draws]
        own = np.einsum("iid->id", block)
        others = (block.sum(axis=1) - own) / (len(runs) - 1)
        return own.mean(axis=0), others.mean(axis=0)

    def log_ratio(runs: NDArray[np.intp], draws: slice) -> Floats:
        own, others = parts(runs, draws)
        return _log_ratio(others, own)

    found = estimate(log_ratio, evidence.runs, margin=margin, draws=DRAWS)
    own, others = parts(np.arange(evidence.runs), slice(0, 1))
    numbers = {
        "from its own run": float(own[0]),
        "from other runs": float(others[0]),
        "share nearest to its own run": float(np.mean([hits.mean() for hits in own_is_nearest])),
        "fewest usable samples in a run": float(fewest),
    }
    return _finding(method, found, numbers)


def more_diverse(evidence: Evidence, *, margin: float = math.log(1.1), cost: float = COST) -> Claim | None:
    """(d) At equal accuracy independent runs are more diverse than every subspace method: ln(D_b / D_q) above ln 1.1.

    D_q is what the method reaches at the strength where it costs on average one point of accuracy: a point given for
    free, which makes the claim harder.
    """
    methods = [method for method in evidence.methods if len(method.wide) and any(len(s) for s in method.wide)]
    if not methods:
        return None
    base = Claim(
        "d", "At equal accuracy independent runs are more diverse than every subspace method",
        f"ln(disagreement of runs / of samples that cost {100 * cost:g} points)", "cannot tell", "", margin,
        evidence.runs, evidence.examples,
    )  # fmt: skip
    weights = example_weights(evidence.examples, seed=evidence.seed)
    across = _pair_disagreements(evidence.finals, weights)
    gate = _common_gate(evidence, across, examples=1000)
    if gate:
        return replace(base, because=gate)
    return _over_methods(base, [_reaches(evidence, method, weights, across, margin, cost) for method in methods])


def _reaches(
    evidence: Evidence,
    method: MethodEvidence,
    weights: NDArray[np.float32],
    across: Floats,
    margin: float,
    cost: float,
) -> Finding:
    own = _Pool.of(evidence, method, weights)
    everyone = np.arange(evidence.runs)
    data = own.at(everyone, 0, cost)
    d_runs = float(_mean_pair(across, everyone)[0])
    numbers = {
        "independent runs": d_runs,
        "samples at equal accuracy": data.disagreement,
        "strength there": data.strength,
        "samples below": float(data.below),
        "samples beyond": float(data.beyond),
    }
    if data.support in ("no common support", "too few samples"):
        gate = "never as accurate as the runs" if data.support == "no common support" else (
            f"{data.below} samples cost less than {100 * cost:g} points and {data.beyond} more, at least 5 and 3 are "
            f"needed: draw strengths between 0 and {2 * data.strength:.3g}"
        )  # fmt: skip
        return Finding(method.name, method.title, "cannot tell", gate, None, gate, _finite(numbers))

    def log_ratio_at(eps: float) -> Statistic:
        def log_ratio(runs: NDArray[np.intp], draws: slice) -> Floats:
            top = _mean_pair(across[:, :, draws], runs)
            columns = range(*draws.indices(across.shape[2]))
            return _log_ratio(top, np.array([own.at(runs, column, eps).disagreement for column in columns]))

        return log_ratio

    found = estimate(log_ratio_at(cost), evidence.runs, margin=margin, draws=DRAWS)
    for eps in (cost / 2, 2 * cost):
        numbers[f"ratio (log) at {100 * eps:g} points"] = float(log_ratio_at(eps)(everyone, slice(0, 1))[0])
    if data.support == "range too short" and found.word != "does not hold":
        gate = (
            f"even the strongest sample (at {data.strength:.3g}) costs less than {100 * cost:g} points"
            if method.strengths is not None
            else "the method has no strength, so what it gives is only a lower bound of what it can reach"
        )
        return Finding(method.name, method.title, "cannot tell", gate, found, gate, _finite(numbers))
    return _finding(method, found, _finite(numbers))


def at_equal_accuracy(evidence: Evidence, method: MethodEvidence, *, cost: float = COST) -> EqualAccuracy:
    """What one method reaches around all these runs at the strength where it costs `cost` of accuracy."""
    pool = _Pool.of(evidence, method, np.ones((evidence.examples, 1), np.float32))
    return pool.at(np.arange(evidence.runs), 0, cost)


@dataclass(frozen=True, eq=False)
class _Pool:
    """A method's samples of all runs, one column of losses and disagreements a redraw of the examples."""

    run: NDArray[np.intp]  # [m]
    strength: Floats | None  # [m]
    loss: Floats  # [m, 1 + draws]
    changed: Floats
    start_loss: Floats  # [n, 1 + draws]: of the centre, 0 for methods that start at the optimum
    start_changed: Floats

    @classmethod
    def of(cls, evidence: Evidence, method: MethodEvidence, weights: NDArray[np.float32]) -> _Pool:
        finals, truth = evidence.finals, evidence.truth
        accuracy = weighted(finals == truth, weights)
        loss, changed, run = [], [], []
        for i, samples in enumerate(method.wide):
            loss.append(accuracy[i] - weighted(samples == truth, weights))
            changed.append(weighted(samples != finals[i], weights))
            run.append(np.full(len(samples), i))
        start_loss = start_changed = np.zeros((evidence.runs, weights.shape[1]))
        if method.centre is not None:
            start_loss = accuracy - weighted(method.centre == truth, weights)
            start_changed = weighted(method.centre != finals, weights)
        strength = None
        if method.strengths is not None:
            strength = np.concatenate([np.asarray(s, np.float64) for s in method.strengths])
        return cls(
            np.concatenate(run), strength, np.concatenate(loss), np.concatenate(changed), start_loss, start_changed
        )

    def at(self, runs: NDArray[np.intp], draw: int, cost: float) -> EqualAccuracy:
        kept = np.isin(self.run, runs)
        return equal_accuracy_disagreement(
            None if self.strength is None else self.strength[kept],
            self.loss[kept, draw],
            self.changed[kept, draw],
            start_loss=float(self.start_loss[runs, draw].mean()),
            start_disagreement=float(self.start_changed[runs, draw].mean()),
            cost=cost,
        )


CLAIMS: tuple[Callable[[Evidence], Claim | None], ...] = (orthogonal, alike_along, stay_near, more_diverse)


# ------------------------------------------------------------------------------------------ shared parts of the claims


def _pair_disagreements(labels: Labels, weights: NDArray[np.float32]) -> Floats:
    """[S, S, 1 + draws]: weighted disagreement of each pair of rows of labels [S, N]."""
    first, second = np.triu_indices(len(labels), 1)
    result = np.zeros((len(labels), len(labels), weights.shape[1]))
    result[first, second] = weighted(labels[first] != labels[second], weights)
    return result + result.transpose(1, 0, 2)


def _cross(samples: Labels, finals: Labels, weights: NDArray[np.float32]) -> Floats:
    """[S, n, 1 + draws]: weighted disagreement of samples [S, N] with finals [n, N]."""
    return weighted(samples[:, None] != finals[None], weights)


def _mean_pair(disagreements: Floats, runs: NDArray[np.intp]) -> Floats:
    """Mean over pairs i < j of `runs`, one value a draw; NaN for a single run."""
    if len(runs) < 2:
        return np.full(disagreements.shape[2], np.nan)
    return np.asarray(disagreements[_pairs(runs)].mean(axis=0))


def _common_gate(evidence: Evidence, across: Floats, *, examples: int = MIN_EXAMPLES) -> str:
    """Why no claim about functions can be answered, or "" (o.3)."""
    if evidence.runs < MIN_RUNS:
        return _too_few_runs(evidence.runs)
    if evidence.examples < examples:
        return f"{evidence.examples} test images, at least {examples} are needed"
    disagreeing = float(_mean_pair(across, np.arange(evidence.runs))[0]) * evidence.examples
    if disagreeing < MIN_DISAGREEING:
        return (
            f"two runs disagree on {disagreeing:.1f} images in the mean, at least {MIN_DISAGREEING} are needed: "
            "use more test images"
        )
    return ""


def _too_few_runs(runs: int) -> str:
    return f"{runs} {'run' if runs == 1 else 'runs'}: at least {MIN_RUNS} are needed to measure how runs vary"


def _with(claim: Claim, found: Estimate, parts: Mapping[str, float]) -> Claim:
    return replace(
        claim,
        estimate=_number(found.value),
        low=_number(found.low),
        high=_number(found.high),
        parts={**claim.parts, **_finite(parts)},
    )


def _answer(claim: Claim, found: Estimate) -> Claim:
    """The word of a claim with one estimate."""
    p = {"holds": found.p_holds, "does not hold": found.p_fails, "cannot tell": None}[found.word]
    return replace(claim, word=found.word, because=_because(found), p=p, qualifier=_qualifier(found))


def _because(found: Estimate) -> str:
    if found.undefined > MAX_UNDEFINED:
        return f"the quantity is undefined in {100 * found.undefined:.0f} % of the redraws, or without some run"
    if found.word == "holds":
        return f"the whole interval lies above {found.margin:.3g}"
    if found.word == "does not hold":
        return f"the whole interval lies below {found.margin:.3g}"
    return f"the interval crosses {found.margin:.3g}: more runs or more test images would narrow it"


def _qualifier(found: Estimate) -> str:
    return "there is an effect, but below the margin" if found.word == "does not hold" and found.low > 0 else ""


def _finding(method: MethodEvidence, found: Estimate, parts: Mapping[str, float]) -> Finding:
    gate = _because(found) if found.undefined > MAX_UNDEFINED else ""
    return Finding(method.name, method.title, found.word, _because(found), found, gate, _finite(parts))


def _over_methods(base: Claim, findings: Sequence[Finding]) -> Claim:
    """A claim that must hold for every method (o.6): intersection-union for `holds`, Bonferroni for `does not hold`."""
    opened = [finding for finding in findings if not finding.gate and finding.estimate is not None]
    closed = [finding for finding in findings if finding.gate]
    # the estimate shown is that of the method on which the claim stands or falls
    known = [f for f in findings if f.estimate is not None and math.isfinite(f.estimate.low)]
    weakest = min(opened or known, key=lambda f: f.estimate.low if f.estimate else math.inf, default=None)
    claim = replace(base, methods=tuple(findings))
    if weakest is not None and weakest.estimate is not None:
        claim = _with(claim, weakest.estimate, weakest.parts)
    if not opened:
        return replace(claim, because="; ".join(f"{f.title}: {f.gate}" for f in closed))
    failing = min(opened, key=lambda f: f.estimate.p_fails if f.estimate else 1.0)
    assert failing.estimate is not None
    if failing.estimate.p_fails <= LEVEL / len(opened):
        return replace(
            _with(claim, failing.estimate, failing.parts),
            word="does not hold",
            because=f"{failing.title}: {failing.because}",
            p=min(1.0, len(opened) * failing.estimate.p_fails),
            qualifier=_qualifier(failing.estimate),
        )
    undecided = [finding for finding in opened if finding.word != "holds"]
    if undecided:
        reasons = [f"{f.title}: {f.because}" for f in (*undecided, *closed)]
        return replace(claim, because="; ".join(reasons))
    if closed:
        others = ", ".join(finding.title for finding in opened)
        gates = "; ".join(f"{f.title}: {f.gate}" for f in closed)
        return replace(claim, qualifier="holds for the others", because=f"holds for {others}; {gates}")
    worst = max(finding.estimate.p_holds for finding in opened if finding.estimate)
    return replace(
        claim, word="holds", p=worst, because=f"for every method the whole interval lies above {base.margin:.3g}"
    )


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _finite(parts: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in parts.items() if math.isfinite(value)}
