"""Ensembles of every size against brute force and other libraries; identities that must hold, and that can fail."""

from __future__ import annotations

from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from modescape.science import ensembles, predictions
from modescape.science.ensembles import EnsembleScores

R, N, K = 5, 400, 4


@pytest.fixture(scope="module")
def logits() -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(0, 1.5, (R, N, K)).astype(np.float32)


@pytest.fixture(scope="module")
def labels(logits: NDArray[np.float32]) -> NDArray[np.int64]:
    """True labels of which more than half are predicted."""
    rng = np.random.default_rng(1)
    return np.where(rng.random(N) < 0.5, logits.mean(0).argmax(-1), rng.integers(K, size=N))


def scored(logits: NDArray[Any], labels: NDArray[np.int64], **options: Any) -> EnsembleScores:
    found = EnsembleScores(len(logits), **options)
    found.add(logits, labels)
    return found


def probabilities(logits: NDArray[Any]) -> NDArray[np.float64]:
    odds = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return np.asarray(odds / odds.sum(-1, keepdims=True))


# ---- which ensembles ----


def test_all_subsets_are_taken_up_to_a_hundred_and_then_a_hundred_different_ones() -> None:
    assert ensembles.subsets(5, 3) == tuple(combinations(range(5), 3))
    drawn = ensembles.subsets(12, 6)  # 924 there are
    assert len(set(drawn)) == len(drawn) == 100
    assert all(len(set(subset)) == 6 and subset == tuple(sorted(subset)) for subset in drawn)
    assert drawn == ensembles.subsets(12, 6)  # the same for every group of twelve
    assert drawn != ensembles.subsets(12, 6, seed=1)
    assert {member for subset in drawn for member in subset} == set(range(12))


def test_many_members_are_scored_at_a_few_sizes() -> None:
    assert ensembles.sizes(1) == (1,)
    assert ensembles.sizes(10) == tuple(range(1, 11))
    assert ensembles.sizes(50) == (*range(1, 11), 14, 19, 26, 35, 47, 50)


# ---- scores ----


def test_scores_equal_brute_force_over_every_subset(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
    found, members, one_hot = scored(logits, labels), probabilities(logits), np.eye(K)[labels]
    for size in range(1, R + 1):
        values = found.of(size)
        assert len(values["accuracy"]) == comb(R, size)
        for i, subset in enumerate(combinations(range(R), size)):
            mean = members[list(subset)].mean(0)
            assert values["accuracy"][i] == np.mean(mean.argmax(-1) == labels)
            assert values["nll"][i] == pytest.approx(-np.log(mean[one_hot == 1]).mean(), abs=1e-12)
            assert values["brier"][i] == pytest.approx(((mean - one_hot) ** 2).sum(-1).mean(), abs=1e-12)
            assert values["ece"][i] == pytest.approx(predictions.ece(mean, labels), abs=1e-12)


@pytest.mark.slow  # importing the libraries takes several seconds
def test_scores_equal_scikit_learn_and_torchmetrics(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
    import torch
    from sklearn.metrics import accuracy_score, log_loss
    from torchmetrics.functional.classification import multiclass_calibration_error

    found = scored(logits, labels).of(3)
    for i, subset in enumerate(combinations(range(R), 3)):
        mean = probabilities(logits)[list(subset)].mean(0)
        assert found["accuracy"][i] == accuracy_score(labels, mean.argmax(-1))
        assert found["nll"][i] == pytest.approx(log_loss(labels, mean, labels=range(K)), abs=1e-6)
        both = (torch.from_numpy(mean), torch.from_numpy(labels))
        expected = multiclass_calibration_error(*both, K, n_bins=15, norm="l1")
        assert found["ece"][i] == pytest.approx(float(expected), abs=1e-6)


def test_neither_blocks_nor_the_order_of_members_or_examples_matter(
    logits: NDArray[np.float32], labels: NDArray[np.int64]
) -> None:
    whole = scored(logits, labels)
    pieces = EnsembleScores(R)
    for start in range(0, N, 90):
        pieces.add(logits[:, start : start + 90], labels[start : start + 90])
    shuffled = np.random.default_rng(3).permutation(N)
    others = [pieces, scored(logits[:, shuffled], labels[shuffled]), scored(logits[[3, 0, 4, 1, 2]], labels)]
    for other in others:
        for size in range(1, R + 1):
            for metric in ensembles.METRICS:
                np.testing.assert_allclose(
                    np.sort(other.of(size)[metric]), np.sort(whole.of(size)[metric]), atol=1e-12, err_msg=metric
                )
        assert other.expected_brier(3) == pytest.approx(whole.expected_brier(3), abs=1e-12)
        assert other.entropy == pytest.approx(whole.entropy, abs=1e-12)


def test_members_may_be_log_probabilities_of_averages(labels: NDArray[np.int64]) -> None:
    """Two runs with three samples each: samples first, then runs; with equal counts that is the plain mean."""
    samples = np.random.default_rng(5).normal(0, 2, (2, 3, N, K))
    found = scored(np.stack([predictions.average(own) for own in samples]), labels)
    mean = probabilities(samples.reshape(6, N, K)).mean(0)
    assert found.of(2)["brier"][0] == pytest.approx(predictions.brier(mean, labels), abs=1e-12)


def test_nll_stays_exact_where_probabilities_vanish() -> None:
    """Three members that give the true class e^-3000, e^-2000 and e^-1000: of two of them the larger counts."""
    found = scored(np.array([[[3000.0, 0]], [[2000.0, 0]], [[1000.0, 0]]]), np.array([1]))
    assert found.of(1)["nll"] == pytest.approx([3000, 2000, 1000])
    assert found.of(2)["nll"] == pytest.approx(np.array([2000, 1000, 1000]) + np.log(2))
    assert found.of(3)["nll"] == pytest.approx([1000 + np.log(3)])
    assert all(identity.holds for identity in found.identities())


def test_only_the_sizes_asked_for_are_scored(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
    found = scored(logits, labels, only=(1, 4))
    assert list(found.subsets) == [1, 4]
    assert found.of(4)["nll"] == pytest.approx(scored(logits, labels).of(4)["nll"], abs=1e-12)


def test_scoring_can_be_stopped(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
    class Stop(Exception):
        pass

    def stop() -> None:
        raise Stop

    with pytest.raises(Stop):
        EnsembleScores(R).add(logits, labels, check=stop)


# ---- identities ----


@pytest.mark.parametrize(("members", "scale"), [(2, 0.1), (5, 3.0), (12, 30.0), (5, 500.0)])
def test_identities_hold_on_random_predictions(members: int, scale: float) -> None:
    rng = np.random.default_rng(members)
    found = scored(rng.normal(0, scale, (members, 1000, 10)).astype(np.float32), rng.integers(10, size=1000))
    identities = found.identities()
    assert [identity.name for identity in identities] == ["brier", "entropy", "size"]
    for identity in identities:
        assert identity.holds
        assert identity.residual < 1e-12, identity
    assert found.ambiguity > 0


def test_brier_by_size_is_known_without_forming_the_ensembles(
    logits: NDArray[np.float32], labels: NDArray[np.int64]
) -> None:
    found = scored(logits, labels)
    for size in range(1, R + 1):
        assert found.expected_brier(size) == pytest.approx(found.of(size)["brier"].mean(), abs=1e-12)
    # c + b / n through the first two sizes gives the limit
    b = 2 * (found.expected_brier(1) - found.expected_brier(2))
    assert found.expected_brier(None) == pytest.approx(found.expected_brier(1) - b, abs=1e-12)
    # two members, certain of opposite classes: 0 and 2 alone, 1/2 together; endlessly many such: 0
    opposite = scored(1e4 * np.eye(2)[:, None], np.array([0]))
    values = [opposite.expected_brier(size) for size in (1, 2, None)]
    assert values == pytest.approx([1, 0.5, 0])


def test_sampled_subsets_lie_around_the_exact_mean() -> None:
    rng = np.random.default_rng(2)
    found = scored(rng.normal(0, 2, (14, 300, 5)), rng.integers(5, size=300))
    values = found.of(7)["brier"]
    assert (len(values), found.possible(7)) == (100, 3432)
    # a hundred of 3,432: the mean of the drawn ones is within four standard errors of the mean of all
    assert abs(values.mean() - found.expected_brier(7)) < 4 * values.std() / 10
    assert {identity.name for identity in found.identities()} == {"brier", "entropy", "size"}


def test_the_entropy_split_is_that_of_other_libraries(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
    from scipy.stats import entropy

    members = probabilities(logits)
    total, aleatoric, epistemic = scored(logits, labels).entropy
    assert total == pytest.approx(entropy(members.mean(0), axis=-1).mean(), abs=1e-12)
    assert aleatoric == pytest.approx(entropy(members, axis=-1).mean(), abs=1e-12)
    divergences = [entropy(member, members.mean(0), axis=-1).mean() for member in members]
    assert epistemic == pytest.approx(np.mean(divergences), abs=1e-12)


def test_a_mistake_in_either_side_is_caught(
    logits: NDArray[np.float32], labels: NDArray[np.int64], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three mistakes one could make: bits for nats, the ambiguity divided twice, a subset scored twice."""

    def held(found: EnsembleScores) -> dict[str, bool]:
        return {identity.name: identity.holds for identity in found.identities()}

    in_nats = ensembles.entropy
    with monkeypatch.context() as wrong:
        wrong.setattr(ensembles, "entropy", lambda p: in_nats(p) / np.log(2))
        assert held(scored(logits, labels)) == {"brier": True, "entropy": False, "size": True}
    with monkeypatch.context() as wrong:
        wrong.setattr(EnsembleScores, "ambiguity", property(lambda self: self._ambiguity / self.examples / R))
        assert held(scored(logits, labels)) == {"brier": False, "entropy": True, "size": True}
    with monkeypatch.context() as wrong:
        doubled = ((0, 1), *tuple(combinations(range(R), 2))[:-1])
        all_of = ensembles.subsets
        wrong.setattr(ensembles, "subsets", lambda m, size, **given: doubled if size == 2 else all_of(m, size, **given))
        assert held(scored(logits, labels)) == {"brier": True, "entropy": True, "size": False}
    assert all(held(scored(logits, labels)).values())


def test_numbers_that_are_not_finite_never_pass(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
    broken = logits.copy()
    broken[2, 7, 1] = np.nan
    assert not any(identity.holds for identity in scored(broken, labels).identities())


# ---- calibration ----


@pytest.mark.slow  # importing scikit-learn
@pytest.mark.parametrize(("kind", "strategy"), [("width", "uniform"), ("mass", "quantile")])
@pytest.mark.parametrize("bins", [10, 15])
def test_reliability_equals_scikit_learn(
    logits: NDArray[np.float32], labels: NDArray[np.int64], kind: ensembles.BinKind, strategy: str, bins: int
) -> None:
    from sklearn.calibration import calibration_curve

    sure, right = ensembles.confidences(logits[0], labels)
    found = ensembles.reliability(sure, right, bins=bins, kind=kind)
    accuracy, confidence = calibration_curve(right, sure, n_bins=bins, strategy=strategy)  # empty bins left out
    there = found.count > 0
    np.testing.assert_allclose(found.accuracy[there], accuracy, atol=1e-12)
    np.testing.assert_allclose(found.confidence[there], confidence, atol=1e-12)
    assert found.count.sum() == N
    if kind == "width":
        assert found.ece == pytest.approx(predictions.ece(probabilities(logits[0]), labels, bins=bins), abs=1e-12)
    else:
        assert np.ptp(found.count) <= 1


def test_equal_confidences_share_a_bin() -> None:
    found = ensembles.reliability(np.array([1.0] * 8 + [0.5, 0.6]), np.ones(10), bins=5, kind="mass")
    assert sorted(found.count.tolist()) == [0, 0, 0, 2, 8]


def test_the_fitted_temperature_minimises_the_nll() -> None:
    from scipy.optimize import minimize_scalar

    rng = np.random.default_rng(4)
    honest = rng.normal(0, 1, (4000, 5))
    labels = np.array([rng.choice(5, p=row) for row in probabilities(honest)])
    found = ensembles.fit_temperature(3 * honest, labels)
    best = minimize_scalar(
        lambda t: predictions.nll(3 * honest / t, labels), bounds=(0.1, 20), method="bounded", options={"xatol": 1e-8}
    )
    assert found == pytest.approx(best.x, abs=1e-4)
    assert found == pytest.approx(3, abs=0.2)  # 4,000 labels drawn from logits three times smaller
    sure, _ = ensembles.confidences(3 * honest, labels, temperature=found)
    assert sure == pytest.approx(probabilities(3 * honest / found).max(-1), abs=1e-12)


def test_the_temperature_has_ends() -> None:
    right = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert ensembles.fit_temperature(right, np.array([0, 1])) == pytest.approx(0.01, rel=1e-6)
    assert ensembles.fit_temperature(right, np.array([1, 0])) == pytest.approx(100, rel=1e-6)
