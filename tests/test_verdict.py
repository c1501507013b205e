"""The verdict's statistics against hand-computed cases, scipy, and runs made to order."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression

from modescape.claims.combining import holm
from modescape.claims.equal_accuracy import at_equal_accuracy
from modescape.claims.evidence import Evidence, MethodEvidence
from modescape.claims.judging import judge
from modescape.claims.record import ClaimRecord
from modescape.science import confidence, isotonic

Labels = NDArray[np.int64]
pytestmark = pytest.mark.usefixtures("few_redraws")


Floats = NDArray[np.float64]


# --- Student's t, weights, isotonic fits ------------------------------------------------------------------------------


@pytest.mark.parametrize(("degrees", "quantile"), [(2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262)])
def test_t_quantiles_are_the_tabulated_ones(degrees: int, quantile: float) -> None:
    assert confidence.t_quantile(0.975, degrees) == pytest.approx(quantile, abs=5e-4)


def test_t_tails_equal_scipy() -> None:
    from scipy.stats import t

    for degrees in (1, 1.5, 2, 2.4, 3, 3.7, 4, 7, 9.9, 30, 101, 250.5):
        for value in (-3.0, 0.0, 0.5, 2.0, 8.0):
            assert confidence.t_tail(value, degrees) == pytest.approx(t.sf(value, degrees), abs=1e-12)


def test_quantiles_of_any_degrees_equal_scipy() -> None:
    from scipy.stats import t

    for degrees in (1, 1.01, 1.99, 2.5, 4.8, 17.3):
        for level in (0.9, 0.975, 0.9875, 0.9999):
            assert confidence.t_quantile(level, degrees) == pytest.approx(t.ppf(level, degrees), rel=1e-10)


def test_degrees_of_a_difference_are_those_of_welch() -> None:
    """(1 + 1)^2 / (1/2 + 1/3) = 4.8; where one error is far larger its own degrees are all there are."""
    from scipy.stats import ttest_ind

    assert confidence.welch_degrees((1.0, 1.0), (2, 3)) == pytest.approx(4.8)
    assert confidence.welch_degrees((1.0, 0.0), (2, 3)) == pytest.approx(2)
    assert confidence.welch_degrees((1.0, 1.0), (4, 4)) == pytest.approx(8)
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=4), 3 * rng.normal(size=7)
    errors = a.std(ddof=1) / 2, b.std(ddof=1) / math.sqrt(7)
    assert confidence.welch_degrees(errors, (3, 6)) == pytest.approx(ttest_ind(a, b, equal_var=False).df)


def test_redraws_of_examples_are_multinomial_counts() -> None:
    weights = np.concatenate(list(confidence.redraws(400, draws=300, seed=1, block=64)), axis=1)
    assert weights.shape == (400, 300)
    assert (weights.sum(axis=0) == 400).all()
    assert weights.var() == pytest.approx(1 - 1 / 400, rel=0.03)  # of a multinomial count
    # the draws do not depend on how they are cut into blocks
    assert (next(confidence.redraws(400, draws=300, seed=1, block=300)) == weights).all()
    means = confidence.weighted_sum((np.arange(400) < 100)[None], weights)[0] / 400
    assert means.std(ddof=1) == pytest.approx(math.sqrt(0.25 * 0.75 / 400), rel=0.15)


def test_isotonic_fit_equals_the_minimax_formula() -> None:
    """fit_k = max over i <= k of min over j >= k of the mean of values i to j (Barlow et al. 1972)."""
    rng = np.random.default_rng(0)
    columns, weights = rng.normal(size=(30, 20)).cumsum(axis=0), rng.integers(1, 4, 30).astype(float)

    def mean(values: Floats, i: int, j: int) -> float:
        return float((values[i : j + 1] @ weights[i : j + 1]) / weights[i : j + 1].sum())

    for values, found in zip(columns.T, isotonic.isotonic(columns, weights).T, strict=True):
        expected = [max(min(mean(values, i, j) for j in range(k, 30)) for i in range(k + 1)) for k in range(30)]
        assert found == pytest.approx(expected, abs=1e-12)
    assert isotonic.isotonic(np.array([[3.0], [1], [2]]), np.ones(3))[:, 0] == pytest.approx([2, 2, 2])


def test_columns_fitted_together_are_fitted_as_each_alone() -> None:
    rng = np.random.default_rng(1)
    for columns in (1, 63, 64, 65, 300):
        values = rng.uniform(size=(12, columns)) + 5.0 * rng.normal(size=columns)
        values[:, 0] = 0.0
        alone = [isotonic_regression(column).x for column in values.T]
        np.testing.assert_allclose(isotonic.isotonic(values, np.ones(12)).T, alone, rtol=0, atol=1e-12)


# --- intervals --------------------------------------------------------------------------------------------------------


def test_the_interval_of_a_plain_mean_is_the_textbook_one() -> None:
    values = np.array([1.0, 2.0, 4.0, 5.0])
    found = confidence.estimate(lambda runs: float(values[runs].mean()), 4, margin=0.5)
    error = values.std(ddof=1) / 2  # the jackknife of a mean is exactly s / sqrt(n)
    assert found.value == 3
    assert found.error == pytest.approx(error)
    assert found.high - 3 == pytest.approx(3.182446 * error, rel=1e-6)
    assert found.p_holds == pytest.approx(confidence.t_tail(2.5 / error, 3))
    assert found.p_fails == pytest.approx(1 - found.p_holds)
    assert found.word == "cannot tell"
    assert replace(found, margin=-5).word == "holds"
    assert replace(found, margin=9).word == "does not hold"


def test_examples_add_their_variance_to_that_of_the_runs() -> None:
    def statistic(runs: NDArray[np.intp]) -> float:
        return float(runs.mean())

    of_runs = 1 / 3  # variance 1 of (0, 1, 2) over 3
    found = confidence.estimate(statistic, 3, margin=0, redrawn=np.array([1.0, 3, 2, 4]))
    assert found.error == pytest.approx(math.sqrt(of_runs + np.var([1, 3, 2, 4], ddof=1)))
    influence = np.array([1.0, -1, 2, -2])
    found = confidence.estimate(statistic, 3, margin=0, influence=influence)
    assert found.error == pytest.approx(math.sqrt(of_runs + 10 / 16))


@pytest.mark.parametrize("kind", ["mean", "log ratio"])
def test_the_variance_by_influence_is_that_of_redraws(kind: str) -> None:
    """Of a mean exactly, of a log ratio to its first order: over 8,000 redraws of 1,000 examples."""
    rng = np.random.default_rng(0)
    x, y = rng.random(1000) < 0.3, rng.random(1000) < 0.2
    both = np.stack([x, y])
    counts = [confidence.weighted_sum(both, w) for w in confidence.redraws(1000, draws=8000, seed=3)]
    drawn = np.concatenate(counts, axis=1) / 1000
    if kind == "mean":
        redrawn, influence = drawn[0], x.astype(float)
        assert confidence.variance_of_examples(influence) == pytest.approx(x.mean() * (1 - x.mean()) / 1000)
    else:
        redrawn, influence = np.log(drawn[0] / drawn[1]), confidence.log_ratio_influence(x * 1.0, y * 1.0)
    assert confidence.variance_of_examples(influence) == pytest.approx(redrawn.var(), rel=0.05)


def test_an_undefined_quantity_is_never_given_a_word() -> None:
    half = confidence.estimate(lambda runs: 5.0, 4, margin=0, redrawn=np.array([np.nan, 5, 5, np.nan]))
    assert half.undefined == 0.5
    assert half.word == "cannot tell"
    gone = confidence.estimate(lambda runs: 5.0 if 0 in runs else math.nan, 4, margin=0)
    assert gone.word == "cannot tell"
    # one run pair that differs on 2 of 1000 images: a redraw misses both with the chance (998/1000)^1000
    rows = np.zeros((4, 1000), np.float32)
    rows[:, :2] = 1
    few, many = confidence.OverRuns.of(rows), confidence.OverRuns.of(np.ones((4, 1000)))
    found = confidence.log_ratio(many, few, 4, margin=0)
    assert found.undefined == pytest.approx(0.998**1000)
    assert found.word == "cannot tell"


def test_pairs_without_a_run_are_the_pairs_of_the_others() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(3, size=(5, 50))

    def of(kept: Labels) -> confidence.OverPairs:
        return confidence.OverPairs.of(len(kept), lambda i, j: kept[i] != kept[j], 50)

    whole, fewer = of(labels), of(np.delete(labels, 2, axis=0))
    assert whole.examples.mean() == pytest.approx(whole.mean(np.arange(5)))
    assert whole.without(2).table == pytest.approx(fewer.table)
    assert whole.without(2).examples == pytest.approx(fewer.examples)
    assert whole.mean(np.array([0, 1, 3, 4])) == pytest.approx(fewer.mean(np.arange(4)))


# --- at equal accuracy ------------------------------------------------------------------------------------------------


def _read(
    strengths: ArrayLike | None, losses: ArrayLike, changed: ArrayLike, *, start_loss: float = 0.0, start: float = 0.0
) -> isotonic.EqualAccuracy:
    """Of samples of one run, given by what they lose and change."""
    found = np.asarray(losses, np.float64)
    nobody = np.zeros(0, np.intp)
    sums = isotonic.Sums(
        np.zeros(len(found), np.intp), None if strengths is None else np.asarray(strengths, np.float64),
        found[:, None], np.asarray(changed, np.float64)[:, None], np.full((1, 1), start_loss), np.full((1, 1), start),
        nobody, None if strengths is None else np.zeros(0), np.zeros((0, 1)),
    )  # fmt: skip
    return sums.point()


def test_disagreement_is_read_where_the_fitted_loss_is_one_point() -> None:
    strengths = np.arange(1, 11) / 10
    found = _read(strengths, 0.02 * strengths, 0.3 * strengths)
    # loss reaches 0.01 at s = 0.5, where the disagreement is 0.15; five samples at or below, five beyond
    assert found.strength == pytest.approx(0.5)
    assert found.distance == pytest.approx(0.15)
    assert (found.below, found.beyond, found.support) == (5, 5, "ok")
    between = _read(strengths, 0.0175 * strengths, 0.3 * strengths)
    assert between.strength == pytest.approx(0.01 / 0.0175)
    assert between.distance == pytest.approx(0.3 * 0.01 / 0.0175)


def test_support_is_judged_before_any_word() -> None:
    s = np.arange(1, 11) / 10
    assert _read(s, 0.001 * s, s).support == "range too short"
    assert _read(s, 0.001 * s, s).distance == 1
    assert _read(s, 0.1 * s, s).support == "too few samples"  # s* = 0.1: one below
    centred = _read(s, 0.011 + 0.02 * s, s, start_loss=0.011)
    assert centred.support == "no common support"
    assert math.isnan(centred.distance)
    assert _read([], [], []).support == "too few samples"
    point = _read(None, [0.002, 0.004], [0.05, 0.07])
    assert (point.distance, point.support) == (pytest.approx(0.06), "range too short")
    assert _read(None, [0.02, 0.04], [0.05, 0.07]).support == "no common support"


def test_a_fitted_loss_equal_to_the_cost_but_for_rounding_counts() -> None:
    s = np.arange(1.0, 13)
    losses = 0.9 - np.array([0.9] * 5 + [0.884, 0.891, 0.892, 0.893] + [0.88] * 3)  # .016 to .007: pooled to .01
    assert isotonic.isotonic(losses[:, None], np.ones(12))[5, 0] > 0.01, "in floats it is a little more"
    found = _read(s, losses, 0.01 * s)
    assert (found.strength, found.below, found.beyond) == (9.0, 9, 3)
    assert found.distance == pytest.approx(0.09)


def test_the_start_point_of_a_mean_centred_method_counts() -> None:
    s = np.array([1.0, 2, 3, 4, 5, 6, 7, 8])
    found = _read(s, 0.002 * s, 0.1 + 0.01 * s, start_loss=-0.004, start=0.1)
    assert found.distance == pytest.approx(0.15)  # s* = 5


def test_samples_of_one_strength_are_averaged_first() -> None:
    found = _read([1, 1, 2, 2], [0.0, 0.01, 0.01, 0.03], [0.0, 0.2, 0.2, 0.4])
    assert found.strength == pytest.approx(1 + 0.005 / 0.015)  # loss 0.005 at 1 and 0.02 at 2
    assert found.distance == pytest.approx(0.1 + 0.2 / 3)


# --- runs made to order -----------------------------------------------------------------------------------------------

CLASSES, EXAMPLES = 5, 4000


def _flip(rng: np.random.Generator, labels: Labels, rate: float) -> Labels:
    """Labels with a share of them replaced by another class."""
    other = (labels + rng.integers(1, CLASSES, labels.shape)) % CLASSES
    return np.where(rng.random(labels.shape) < rate, other, labels)


def _evidence(
    runs: int = 5,
    *,
    error: float = 0.2,
    within: float = 0.05,
    far: float = 0.05,
    examples: int = EXAMPLES,
    seed: int = 0,
) -> Evidence:
    """Independent runs with the given error; snapshots and samples are their final with some labels changed.

    within: share changed in snapshots; far: share changed in the strongest sample.
    """
    rng = np.random.default_rng(seed)
    truth = rng.integers(CLASSES, size=examples)
    finals = np.stack([_flip(rng, truth, error * rng.uniform(0.9, 1.1)) for _ in range(runs)])
    strengths = [(np.arange(12) + rng.random()) / 12 for _ in range(runs)]
    wide = [np.stack([_flip(rng, final, far * s) for s in own]) for final, own in zip(finals, strengths, strict=True)]
    near = [np.stack([_flip(rng, final, 0.03) for _ in range(5)]) for final in finals]
    cosine = np.eye(runs) + 0.01 * rng.normal(size=(runs, runs))
    return Evidence(
        classes=CLASSES,
        truth=truth,
        finals=finals,
        cosine=(cosine + cosine.T) / 2,
        windows=[np.stack([_flip(rng, final, within) for _ in range(4)]) for final in finals],
        methods=(MethodEvidence("flips", "Flips", near=near, wide=wide, strengths=strengths),),
    )


def _one(letter: str, evidence: Evidence) -> ClaimRecord:
    return next(claim for claim in judge(evidence) if claim.id == letter)


def test_all_claims_hold_for_independent_runs_with_tame_samples() -> None:
    claims = judge(_evidence())
    assert [claim.id for claim in claims] == ["a", "b", "c", "d1", "d2"]
    assert len(holm({claim.id: claim.p or 0.0 for claim in claims})) == 5
    for claim in claims:
        assert claim.word == "holds", claim.because
        assert claim.rests_on == ()
        assert claim.low is not None
        assert claim.high is not None
        assert claim.estimate is not None
        assert claim.low < claim.estimate < claim.high
        assert claim.n == 5


def test_estimates_equal_a_plain_recomputation() -> None:
    evidence = _evidence()
    finals, runs = evidence.finals, range(5)
    pairs = [(finals[i] != finals[j]).mean() for i in runs for j in range(i)]
    inside = [
        np.mean([(window[i] != window[j]).mean() for i in range(4) for j in range(i)]) for window in evidence.windows
    ]
    near = evidence.methods[0].near
    own = np.mean([(near[i] != finals[i]).mean() for i in runs])
    others = np.mean([[(near[i] != finals[j]).mean() for j in runs if j != i] for i in runs])
    claims = {claim.id: claim for claim in judge(evidence)}
    assert claims["b"].estimate == pytest.approx(math.log(np.mean(pairs) / np.mean(inside)))
    assert claims["c"].estimate == pytest.approx(math.log(others / own))
    found = {letter: _plain(evidence, list(runs), np.full(EXAMPLES, 1 / EXAMPLES))[letter] for letter in ("d1", "d2")}
    assert {letter: claims[letter].estimate for letter in found} == pytest.approx(found)
    read = at_equal_accuracy(evidence, evidence.methods[0])
    assert claims["d1"].estimate == pytest.approx(math.log(np.mean(pairs) / read.distance))
    assert claims["d2"].estimate == pytest.approx(math.log(np.mean(pairs) / read.among))
    assert claims["d1"].parts["samples at equal accuracy"] == read.distance
    assert claims["d2"].parts["two samples of a run at equal accuracy"] == read.among
    assert claims["a"].parts["largest |cosine|"] < 0.1


def _plain(evidence: Evidence, runs: list[int], w: Floats) -> dict[str, float]:
    """(d1) and (d2) of the first method under example weights w [N], word for word from their definitions."""
    from sklearn.isotonic import isotonic_regression

    finals, truth, method = evidence.finals, evidence.truth, evidence.methods[0]
    assert method.strengths is not None
    points, pairs = [], []
    for i in runs:
        own, s = np.asarray(method.wide[i]), np.asarray(method.strengths[i])
        for k in range(len(own)):
            points.append((s[k], ((finals[i] == truth) * 1.0 - (own[k] == truth)) @ w, (own[k] != finals[i]) @ w))
        both = [(k, m) for m in range(len(own)) for k in range(m)]
        for k, m in both:
            x = (s[k] + s[m]) / 2 if method.are_rates else math.sqrt((s[k] ** 2 + s[m] ** 2) / 2)
            pairs.append((x, (own[k] != own[m]) @ w, 1 / len(both)))
    start_loss, start = 0.0, 0.0
    if method.centre is not None:
        start_loss = float(np.mean([((finals[i] == truth) * 1.0 - (method.centre[i] == truth)) @ w for i in runs]))
        start = float(np.mean([(method.centre[i] != finals[i]) @ w for i in runs]))
    s, loss, changed = np.array(sorted([(0.0, start_loss, start), *points])).T  # no two are equal
    loss, changed = isotonic_regression(loss), isotonic_regression(changed)
    last = int(np.flatnonzero(loss <= 0.01 + 1e-12)[-1])
    star = s[-1]
    if last < len(s) - 1:
        star = s[last] + (0.01 - loss[last]) / (loss[last + 1] - loss[last]) * (s[last + 1] - s[last])
    tied: dict[float, list[tuple[float, float]]] = {}
    for x, apart, share in [(0.0, 0.0, 1.0), *pairs]:  # of equal strengths the mean
        tied.setdefault(round(x, 12), []).append((apart, share))
    x = np.array(sorted(tied))
    shares = np.array([sum(share for _, share in tied[place]) for place in x])
    apart = np.array([sum(d * share for d, share in tied[place]) for place in x]) / shares
    top = np.mean([(finals[i] != finals[j]) @ w for i in runs for j in runs if j < i])
    among = np.interp(star, x, isotonic_regression(apart, sample_weight=shares))
    return {"d1": math.log(top / np.interp(star, s, changed)), "d2": math.log(top / among)}


@pytest.mark.slow
@pytest.mark.parametrize("are_rates", [False, True])
@pytest.mark.parametrize("is_centred", [False, True])
def test_claims_at_equal_accuracy_equal_a_plain_recomputation(are_rates: bool, is_centred: bool) -> None:
    """Estimates to rounding; intervals to what two seeds of so many redraws may differ by."""
    rng = np.random.default_rng(5)
    evidence = _evidence(runs=4, examples=1500)
    method = replace(evidence.methods[0], are_rates=are_rates)
    if is_centred:
        method = replace(method, centre=np.stack([_flip(rng, final, 0.004) for final in evidence.finals]))
    # runs of unequal numbers of samples; mean strengths are often equal
    method = replace(method, wide=[method.wide[0][:9], *method.wide[1:]], strengths=[
        np.asarray(method.strengths[0])[:9], *map(np.asarray, method.strengths[1:])  # type: ignore[index]
    ])  # fmt: skip
    evidence = replace(evidence, methods=(method,), cosine=None, windows=())
    everyone, even = [0, 1, 2, 3], np.full(1500, 1 / 1500)
    draws = np.random.default_rng(8).multinomial(1500, even, size=300) / 1500
    data = _plain(evidence, everyone, even)
    left_out = [_plain(evidence, [j for j in everyone if j != i], even) for i in everyone]
    redrawn = [_plain(evidence, everyone, w) for w in draws]
    for letter in ("d1", "d2"):
        claim = _one(letter, evidence)
        runs = np.array([one[letter] for one in left_out])
        of_runs = 3 / 4 * np.square(runs - runs.mean()).sum()
        error = math.sqrt(of_runs + np.var([one[letter] for one in redrawn], ddof=1))
        assert claim.high is not None
        assert claim.estimate == pytest.approx(data[letter], abs=1e-9)
        assert claim.high - data[letter] == pytest.approx(confidence.t_quantile(0.975, 3) * error, rel=0.15)
    assert ("of which the centre's own distance" in _one("d1", evidence).parts) == is_centred


def test_pairs_of_evenly_spaced_rates_are_ties_in_any_unit() -> None:
    """In whole numbers the mean of 1 and 6 is that of 3 and 4; in tenths the last digits may differ."""
    rng = np.random.default_rng(2)
    truth = rng.integers(10, size=300)
    finals = np.stack([_flip(rng, truth, 0.1) for _ in range(3)])
    wide = [np.stack([_flip(rng, final, 0.003 * k) for k in range(1, 17)]) for final in finals]
    whole = [np.arange(1.0, 17)] * 3
    off = [own * (1 + 1e-14 * rng.uniform(-1, 1, 16)) for own in whole]
    exact, rounded = (isotonic.Samples(finals, truth, wide, s, are_rates=True).sums().point() for s in (whole, off))
    assert 0 < exact.strength < 16
    assert rounded.among == pytest.approx(exact.among, rel=1e-9)


@pytest.mark.slow
def test_half_widths_hardly_depend_on_the_seed_of_the_redraws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard deviation over seeds at most 1 % of the half-width; here 8 seeds, whose own spread allows 1.8 %."""
    monkeypatch.undo()
    evidence = replace(_evidence(runs=3, examples=1000), cosine=None, windows=())
    halves: dict[str, list[float]] = {"d1": [], "d2": []}
    for seed in range(8):
        for claim in judge(replace(evidence, seed=seed), rests=False):
            if claim.id not in halves:
                continue
            assert claim.high is not None
            assert claim.low is not None
            halves[claim.id].append(claim.high - claim.low)
    for letter, found in halves.items():
        assert np.std(found, ddof=1) / np.mean(found) < 0.018, letter


def test_methods_without_strength_are_read_as_means_over_their_pairs() -> None:
    evidence = _evidence(far=0.01)
    method = replace(evidence.methods[0], strengths=None)
    claim = _one("d2", replace(evidence, methods=(method,)))
    inside = [np.mean([(own[k] != own[m]).mean() for m in range(12) for k in range(m)]) for own in method.wide]
    assert claim.parts["two samples of a run at equal accuracy"] == pytest.approx(np.mean(inside))
    assert claim.word == "cannot tell"  # what it shows is a lower bound of what it may reach
    assert "only `does not hold` could be told" in claim.because
    assert claim.p is not None, "it could have given a word, so it was tested"


def test_the_error_of_claim_b_is_the_jackknife_joined_with_the_examples() -> None:
    evidence = _evidence(runs=4)
    runs = range(4)
    apart = {(i, j): evidence.finals[i] != evidence.finals[j] for i in runs for j in range(i)}
    inside = [np.mean([s[i] != s[j] for i in runs for j in range(i)], axis=0) for s in evidence.windows]

    def statistic(kept: list[int]) -> float:
        across = [apart[i, j].mean() for i in kept for j in kept if j < i]
        return math.log(np.mean(across) / np.mean([inside[i].mean() for i in kept]))

    left_out = [statistic([j for j in runs if j != i]) for i in runs]
    of_runs = 3 / 4 * np.sum((left_out - np.mean(left_out)) ** 2)
    # the delta method: variance of x / mean(x) - y / mean(y), over N
    x, y = np.mean(list(apart.values()), axis=0), np.mean(inside, axis=0)
    of_examples = np.var(x / x.mean() - y / y.mean()) / EXAMPLES
    claim = _one("b", evidence)
    assert claim.high is not None
    assert claim.estimate == pytest.approx(statistic(list(runs)))
    expected = confidence.t_quantile(0.975, 3) * math.sqrt(of_runs + of_examples)
    assert claim.high - claim.estimate == pytest.approx(expected, rel=1e-6)


def test_claims_fail_when_runs_are_alike() -> None:
    """Runs that are one function with 2 % of its labels changed; snapshots and samples differ more than they do."""
    evidence = _evidence()
    rng = np.random.default_rng(9)
    finals = np.stack([_flip(rng, evidence.finals[0], 0.02) for _ in range(5)])
    same = replace(evidence, finals=finals, cosine=np.full((5, 5), 0.9) + np.eye(5) * 0.1)

    def moved(final: Labels, share: float) -> Labels:
        """A share of the wrong labels changed, which costs no accuracy."""
        hit = (final != evidence.truth) & (rng.random(EXAMPLES) < share)
        return np.where(hit, (final + 1) % CLASSES, final)

    near = [np.stack([moved(final, 0.9) for _ in range(5)]) for final in finals]
    wide = [np.stack([_flip(rng, moved(final, k / 12), 0.1 * k / 12) for k in range(1, 13)]) for final in finals]
    strengths = [np.arange(1, 13) / 12] * 5
    same = replace(same, methods=(MethodEvidence("flips", "Flips", near, wide, strengths),))
    claims = {claim.id: claim for claim in judge(same)}
    assert {claim.word for claim in claims.values()} == {"does not hold"}
    assert "Flips" in claims["d1"].because


def test_gates_close_before_any_word() -> None:
    two = judge(_evidence(runs=2))
    assert {claim.word for claim in two} == {"cannot tell"}
    assert all("2 runs" in claim.because for claim in two)
    few = {claim.id: claim for claim in judge(_evidence(examples=800))}
    assert few["b"].word != "cannot tell"
    assert few["d1"].word == "cannot tell"
    assert "800 test images, at least 1000" in few["d1"].because
    tiny = {claim.id: claim for claim in judge(_evidence(examples=400))}
    assert "400 test images, at least 500" in tiny["b"].because
    sure = _one("b", _evidence(error=0.001, examples=1000))
    assert sure.word == "cannot tell"
    assert "disagree on" in sure.because


def test_samples_that_are_too_strong_close_the_gate_with_advice() -> None:
    evidence = _evidence()
    rng = np.random.default_rng(1)
    method = evidence.methods[0]
    strong = replace(method, near=[np.stack([_flip(rng, final, 0.5)] * 5) for final in evidence.finals])
    near = _one("c", replace(evidence, methods=(strong,)))
    assert near.word == "cannot tell"
    assert "use smaller strengths" in near.because
    far = replace(
        method,
        wide=[np.stack([_flip(rng, final, 0.4 + 0.1 * k) for k in range(5)]) for final in evidence.finals],
        strengths=[0.4 + 0.1 * np.arange(5)] * 5,
    )
    wide = _one("d1", replace(evidence, methods=(far,)))
    assert wide.word == "cannot tell"
    assert "draw strengths between 0 and" in wide.because


def test_one_closed_method_leaves_the_claim_open_for_the_others() -> None:
    evidence = _evidence()
    rng = np.random.default_rng(2)
    other = replace(
        evidence.methods[0], name="strong", title="Strong",
        near=[np.stack([_flip(rng, final, 0.5)] * 5) for final in evidence.finals],
    )  # fmt: skip
    claim = _one("c", replace(evidence, methods=(*evidence.methods, other)))
    assert claim.word == "cannot tell"
    assert claim.qualifier == "holds for the others"
    assert "Strong" in claim.because
    assert [finding.word for finding in claim.methods] == ["holds", "cannot tell"]


def test_weak_samples_only_allow_a_negative_answer() -> None:
    evidence = _evidence(far=0.005)
    claim = _one("d1", evidence)
    assert claim.word == "cannot tell"
    assert "even the strongest sample" in claim.because


def test_failed_runs_are_left_out_and_counted() -> None:
    evidence = _evidence(runs=6)
    finals = evidence.finals.copy()
    finals[2] = 0  # one class for everything: accuracy about 1/5
    for claim in judge(replace(evidence, finals=finals, methods=())):
        assert claim.n == 5
        assert claim.word == "holds"
        assert "1 of 6 runs failed" in claim.because


def test_a_word_that_rests_on_single_runs_says_so() -> None:
    """Cosines 0.07 + e_i + e_j, e = (-a, -a, a, a): by hand T = 0.07 and SE = 1.155 a, so 0.07 + 3.67 a < 0.1 holds.

    Of three runs (-a, a, a) give 0.07 + 0.667 a + 5.74 a, and (-a, -a, a) 0.07 - 0.667 a + 5.74 a: with a = 0.0052
    the word is lost without run 0 or 1 only.
    """
    effect = 0.0052 * np.array([-1, -1, 1, 1])
    cosine = 0.07 + effect[:, None] + effect[None]
    evidence = replace(_evidence(runs=4), cosine=cosine, windows=(), methods=())
    (claim,) = judge(evidence)
    assert claim.word == "holds"
    assert claim.high == pytest.approx(0.07 + 3.182446 * math.sqrt(4 / 3) * 0.0052, abs=1e-6)
    assert claim.rests_on == (0, 1)


def test_holm_keeps_the_words_that_stand_together() -> None:
    # levels 0.025/3, 0.025/2, 0.025: the second fails its level, so the third is not reached
    assert holm({"x": 0.02, "y": 0.001, "z": 0.013}) == {"y"}
    assert holm({"x": 0.02, "y": 0.001, "z": 0.012}) == {"x", "y", "z"}
    assert holm({}) == frozenset()


@pytest.mark.slow
def test_intervals_cover_the_truth() -> None:
    """Claim (b) on fresh problems: 95 % intervals should contain the true log ratio about 19 times in 20."""
    expected = _one("b", replace(_evidence(runs=40, examples=20_000, seed=999), methods=()))
    assert expected.estimate is not None
    covered = []
    for seed in range(60):
        claim = _one("b", replace(_evidence(runs=4, examples=1000, seed=seed), methods=()))
        assert claim.low is not None
        assert claim.high is not None
        covered.append(claim.low <= expected.estimate <= claim.high)
    assert np.mean(covered) >= 0.88  # two standard errors (0.028 each) below 0.95
