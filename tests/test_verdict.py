"""The verdict's statistics against hand-computed cases, scipy, and runs made to order."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from modescape.science import inference, verdict
from modescape.science.verdict import Claim, Evidence, MethodEvidence

Labels = NDArray[np.int64]


# --- Student's t, weights, isotonic fits ------------------------------------------------------------------------------


@pytest.mark.parametrize(("degrees", "quantile"), [(2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262)])
def test_t_quantiles_are_the_tabulated_ones(degrees: int, quantile: float) -> None:
    assert inference.t_quantile(0.975, degrees) == pytest.approx(quantile, abs=5e-4)


def test_t_tails_equal_scipy() -> None:
    from scipy.stats import t

    for degrees in (1, 2, 3, 4, 7, 30, 101):
        for value in (-3.0, 0.0, 0.5, 2.0, 8.0):
            assert inference.t_tail(value, degrees) == pytest.approx(t.sf(value, degrees), abs=1e-12)


def test_redraws_of_examples_are_multinomial_counts() -> None:
    weights = inference.example_weights(400, draws=300, seed=1)
    assert weights.shape == (400, 301)
    assert (weights[:, 0] == 1).all()
    assert (weights.sum(axis=0) == 400).all()
    assert weights[:, 1:].var() == pytest.approx(1 - 1 / 400, rel=0.03)  # of a multinomial count
    assert (inference.example_weights(400, draws=300, seed=1) == weights).all()
    indicator = np.arange(400) < 100
    means = inference.weighted(indicator[None], weights)[0]
    assert means[0] == 0.25
    assert means[1:].std(ddof=1) == pytest.approx(math.sqrt(0.25 * 0.75 / 400), rel=0.15)


def test_isotonic_fit_equals_the_minimax_formula_and_scikit_learn() -> None:
    from sklearn.isotonic import isotonic_regression

    rng = np.random.default_rng(0)
    for _ in range(20):
        values, weights = rng.normal(size=30).cumsum(), rng.integers(1, 4, 30).astype(float)
        expected = isotonic_regression(values, sample_weight=weights)
        assert inference.isotonic(values, weights) == pytest.approx(expected, abs=1e-10)
    assert inference.isotonic(np.array([3.0, 1, 2]), np.ones(3)) == pytest.approx([2, 2, 2])


# --- intervals --------------------------------------------------------------------------------------------------------


def test_the_interval_of_a_plain_mean_is_the_textbook_one() -> None:
    values = np.array([1.0, 2.0, 4.0, 5.0])
    found = inference.estimate(lambda runs, draws: np.atleast_1d(values[runs].mean()), 4, margin=0.5)
    error = values.std(ddof=1) / 2  # the jackknife of a mean is exactly s / sqrt(n)
    assert found.value == 3
    assert found.error == pytest.approx(error)
    assert found.high - 3 == pytest.approx(3.182446 * error, rel=1e-6)
    assert found.p_holds == pytest.approx(inference.t_tail(2.5 / error, 3))
    assert found.p_fails == pytest.approx(1 - found.p_holds)
    assert found.word == "cannot tell"
    assert replace(found, margin=-5).word == "holds"
    assert replace(found, margin=9).word == "does not hold"


def test_examples_add_their_variance_to_that_of_the_runs() -> None:
    draws = np.array([0.0, 1.0, 3.0, 2.0, 4.0])  # the data and four redraws

    def statistic(runs: NDArray[np.intp], which: slice) -> NDArray[np.float64]:
        return draws[which] + runs.mean()

    found = inference.estimate(statistic, 3, margin=0, draws=4)
    of_runs = 1 / 3  # variance 1 of (0, 1, 2) over 3
    assert found.error == pytest.approx(math.sqrt(of_runs + np.var([1, 3, 2, 4], ddof=1)))


def test_an_undefined_quantity_is_never_given_a_word() -> None:
    values = np.array([5.0, np.nan, 5.0, 5.0, np.nan])
    half = inference.estimate(lambda runs, which: values[which], 4, margin=0, draws=4)
    assert half.undefined == 0.5
    assert half.word == "cannot tell"
    gone = inference.estimate(lambda runs, which: np.full(1, 5.0 if 0 in runs else np.nan), 4, margin=0)
    assert gone.word == "cannot tell"


# --- at equal accuracy ------------------------------------------------------------------------------------------------


def test_disagreement_is_read_where_the_fitted_loss_is_one_point() -> None:
    strengths = np.arange(1, 11) / 10
    found = inference.equal_accuracy_disagreement(strengths, 0.02 * strengths, 0.3 * strengths)
    # loss reaches 0.01 at s = 0.5, where the disagreement is 0.15; five samples at or below, five beyond
    assert found.strength == pytest.approx(0.5)
    assert found.disagreement == pytest.approx(0.15)
    assert (found.below, found.beyond, found.support) == (5, 5, "ok")
    between = inference.equal_accuracy_disagreement(strengths, 0.0175 * strengths, 0.3 * strengths)
    assert between.strength == pytest.approx(0.01 / 0.0175)
    assert between.disagreement == pytest.approx(0.3 * 0.01 / 0.0175)


def test_support_is_judged_before_any_word() -> None:
    s = np.arange(1, 11) / 10
    assert inference.equal_accuracy_disagreement(s, 0.001 * s, s).support == "range too short"
    assert inference.equal_accuracy_disagreement(s, 0.001 * s, s).disagreement == 1
    assert inference.equal_accuracy_disagreement(s, 0.1 * s, s).support == "too few samples"  # s* = 0.1: one below
    centred = inference.equal_accuracy_disagreement(s, 0.011 + 0.02 * s, s, start_loss=0.011)
    assert centred.support == "no common support"
    assert math.isnan(centred.disagreement)
    assert inference.equal_accuracy_disagreement([], [], []).support == "too few samples"
    point = inference.equal_accuracy_disagreement(None, [0.002, 0.004], [0.05, 0.07])
    assert (point.disagreement, point.support) == (pytest.approx(0.06), "range too short")
    assert inference.equal_accuracy_disagreement(None, [0.02, 0.04], [0.05, 0.07]).support == "no common support"


def test_a_fitted_loss_equal_to_the_cost_but_for_rounding_counts() -> None:
    s = np.arange(1.0, 13)
    losses = 0.9 - np.array([0.9] * 5 + [0.884, 0.891, 0.892, 0.893] + [0.88] * 3)  # .016 to .007: pooled to .01
    assert inference.isotonic(losses, np.ones(12))[5] > 0.01, "in floats it is a little more"
    found = inference.equal_accuracy_disagreement(s, losses, 0.01 * s)
    assert (found.strength, found.below, found.beyond) == (9.0, 9, 3)
    assert found.disagreement == pytest.approx(0.09)


def test_the_start_point_of_a_mean_centred_method_counts() -> None:
    s = np.array([1.0, 2, 3, 4, 5, 6, 7, 8])
    found = inference.equal_accuracy_disagreement(
        s, 0.002 * s, 0.1 + 0.01 * s, start_loss=-0.004, start_disagreement=0.1
    )
    assert found.disagreement == pytest.approx(0.15)  # s* = 5


def test_samples_of_one_strength_are_averaged_first() -> None:
    found = inference.equal_accuracy_disagreement([1, 1, 2, 2], [0.0, 0.01, 0.01, 0.03], [0.0, 0.2, 0.2, 0.4])
    assert found.strength == pytest.approx(1 + 0.005 / 0.015)  # loss 0.005 at 1 and 0.02 at 2
    assert found.disagreement == pytest.approx(0.1 + 0.2 / 3)


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


def _one(letter: str, evidence: Evidence) -> Claim:
    return next(claim for claim in verdict.judge(evidence) if claim.id == letter)


def test_all_four_claims_hold_for_independent_runs_with_tame_samples() -> None:
    claims = verdict.judge(_evidence())
    assert [claim.id for claim in claims] == ["a", "b", "c", "d1"]
    assert len(inference.holm({claim.id: claim.p or 0.0 for claim in claims})) == 4
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
    finals, truth, runs = evidence.finals, evidence.truth, range(5)
    pairs = [(finals[i] != finals[j]).mean() for i in runs for j in range(i)]
    inside = [
        np.mean([(window[i] != window[j]).mean() for i in range(4) for j in range(i)]) for window in evidence.windows
    ]
    near = evidence.methods[0].near
    own = np.mean([(near[i] != finals[i]).mean() for i in runs])
    others = np.mean([[(near[i] != finals[j]).mean() for j in runs if j != i] for i in runs])
    claims = {claim.id: claim for claim in verdict.judge(evidence)}
    assert claims["b"].estimate == pytest.approx(math.log(np.mean(pairs) / np.mean(inside)))
    assert claims["c"].estimate == pytest.approx(math.log(others / own))
    accuracy = (finals == truth).mean(axis=1)
    wide, strengths = evidence.methods[0].wide, evidence.methods[0].strengths
    assert strengths is not None
    read = inference.equal_accuracy_disagreement(
        np.concatenate([np.asarray(s) for s in strengths]),
        np.concatenate([accuracy[i] - (wide[i] == truth).mean(axis=1) for i in runs]),
        np.concatenate([(wide[i] != finals[i]).mean(axis=1) for i in runs]),
    )
    assert claims["d1"].estimate == pytest.approx(math.log(np.mean(pairs) / read.disagreement))
    assert verdict.at_equal_accuracy(evidence, evidence.methods[0]) == read
    assert claims["a"].parts["largest |cosine|"] < 0.1


def test_the_error_of_claim_b_is_the_jackknife_joined_with_the_examples() -> None:
    evidence = _evidence(runs=4)
    weights = inference.example_weights(EXAMPLES, seed=0).astype(np.float64) / EXAMPLES

    def statistic(runs: list[int], w: NDArray[np.float64]) -> float:
        across = [(evidence.finals[i] != evidence.finals[j]) @ w for i in runs for j in runs if i < j]
        within = [
            np.mean([(s[i] != s[j]) @ w for i in range(4) for j in range(i)])
            for s in (evidence.windows[r] for r in runs)
        ]
        return math.log(np.mean(across) / np.mean(within))

    everyone = [0, 1, 2, 3]
    left_out = [statistic([j for j in everyone if j != i], weights[:, 0]) for i in everyone]
    of_runs = 3 / 4 * np.sum((left_out - np.mean(left_out)) ** 2)
    of_examples = np.var([statistic(everyone, w) for w in weights.T[1:]], ddof=1)
    claim = _one("b", evidence)
    assert claim.high is not None
    assert claim.estimate is not None
    expected = inference.t_quantile(0.975, 3) * math.sqrt(of_runs + of_examples)
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
    claims = {claim.id: claim for claim in verdict.judge(same)}
    assert {claim.word for claim in claims.values()} == {"does not hold"}
    assert "Flips" in claims["d1"].because


def test_gates_close_before_any_word() -> None:
    two = verdict.judge(_evidence(runs=2))
    assert {claim.word for claim in two} == {"cannot tell"}
    assert all("2 runs" in claim.because for claim in two)
    few = {claim.id: claim for claim in verdict.judge(_evidence(examples=800))}
    assert few["b"].word != "cannot tell"
    assert few["d1"].word == "cannot tell"
    assert "800 test images, at least 1000" in few["d1"].because
    tiny = {claim.id: claim for claim in verdict.judge(_evidence(examples=400))}
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
    for claim in verdict.judge(replace(evidence, finals=finals, methods=())):
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
    (claim,) = verdict.judge(evidence)
    assert claim.word == "holds"
    assert claim.high == pytest.approx(0.07 + 3.182446 * math.sqrt(4 / 3) * 0.0052, abs=1e-6)
    assert claim.rests_on == (0, 1)


def test_holm_keeps_the_words_that_stand_together() -> None:
    # levels 0.025/3, 0.025/2, 0.025: the second fails its level, so the third is not reached
    assert inference.holm({"x": 0.02, "y": 0.001, "z": 0.013}) == {"y"}
    assert inference.holm({"x": 0.02, "y": 0.001, "z": 0.012}) == {"x", "y", "z"}
    assert inference.holm({}) == frozenset()


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
