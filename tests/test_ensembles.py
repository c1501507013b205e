"""Ensembles of every size against brute force and other libraries; identities that must hold, and that can fail."""

from __future__ import annotations

from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import pytest
from drawn import told
from numpy.typing import NDArray
from test_figures import averaged, collect, lab

import modescape
from modescape.drawing.reading import FigureNotReady
from modescape.laboratory import Lab
from modescape.plan import prepare
from modescape.registry import figures, presets
from modescape.science import ensembles, predictions
from modescape.science.ensembles import EnsembleScores
from modescape.spec import parse

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
    assert len(values) == 100, "of 3432"
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


# ---- figures ----


def test_the_figure_gives_every_measure_of_every_group_by_size() -> None:
    data = collect("ensembles", averaged(lab()))
    assert data.groups == ["independent", "random"]
    assert len(data.rows()) == 2 * 4 * 2  # groups, measures, sizes
    assert data.rows()[0] == ("independent", "accuracy", 1, 7 / 8, 0.01, 7 / 8 - 0.01, 7 / 8 + 0.01, 2, 2, 2, "1", 1, 1)
    assert data.rows()[-1][-3] == "1-2"  # samples averaged inside a run
    assert data.rows()[-1][-2:] == (2, 4)  # two runs' training, twice two forward passes
    assert data.rows()[1][4] is None  # one ensemble of all has no spread
    assert "an ensemble of 2 75.0 %" in told(data).summary
    assert "not a standard error" in told(data).caption
    assert "M = 1-2 samples" in told(data).caption
    costs = ["1×, 1×", "1×, 2×"]  # epochs and forward passes of one run, in runs
    assert [line.values for line in told(data).notes.lines] == [("87.5 → 75.0", ".250 → .200", cost) for cost in costs]
    assert "endlessly many such members, from the distances of pairs: .150 (optima)" in told(data).notes.text[1]
    assert told(data).notes.text[-1].startswith("Checked: ")
    assert collect("ensembles", averaged(lab()), method="random", panel="nll").groups == ["random"]


def test_sampled_subsets_are_said_to_be_sampled() -> None:
    results = averaged(lab())
    for row in results.measured:
        if row.subject.endswith("/2"):
            row.details |= {"subsets": 100, "of": 252}
    assert "of 2 100 of them drawn at random (seeded)" in told(collect("ensembles", results)).caption


def test_a_violated_identity_is_said_in_words() -> None:
    results = averaged(lab())
    wrong = next(row for row in results.measured if row.metric == "identity/brier" and row.subject == "ensemble/random")
    wrong.value = 3e-4
    assert told(collect("ensembles", results)).notes.text[-1] == (
        "Do not trust these numbers. Violated, beyond 1e-09: "
        "random subspace: Brier of the mean = mean Brier − ambiguity (off by 3.0e-04)."
    )
    wrong.value = None  # what the store keeps of a number that is not finite
    assert "not a finite number" in told(collect("ensembles", results)).notes.text[-1]


def test_reliability_shows_one_run_beside_the_ensemble() -> None:
    data = collect("reliability", averaged(lab()))
    assert [(d.group, d.of, d.ece) for d in data.diagrams] == [
        ("independent", "single", 0.2), ("independent", "ensemble", 0.3),
    ]  # fmt: skip
    assert data.rows()[0] == ("independent", "single", 2, 1, 2, 0.42, 0.5, 0.2)
    assert data.thinned.startswith("Not drawn: 2 bins of fewer than 10 images")
    assert [d.group for d in collect("reliability", averaged(lab()), method="random").diagrams] == ["random"] * 2
    for old in ({"show": "optima"}, {"method": "optimum"}):
        assert {d.group for d in collect("reliability", averaged(lab()), **old).diagrams} == {"independent"}
    with pytest.raises(FigureNotReady, match="500 validation images or more"):
        collect("reliability", averaged(lab()), temperature="fitted")


def test_legends_list_the_groups_that_are_not_drawn_and_filters_may_name_them() -> None:
    legend = collect("reliability", averaged(lab())).legend
    assert [(entry.group, entry.on) for entry in legend] == [("independent", True), ("random", False)]
    # a legend's grounds are no groups: a filter carried over from the plane may name them
    assert collect("ensembles", averaged(lab()), method="theory,random").groups == ["random"]
    with pytest.raises(FigureNotReady, match="none of the groups"):
        collect("ensembles", averaged(lab()), method="theory")


def test_one_run_has_no_ensemble_and_other_splits_no_predictions() -> None:
    with pytest.raises(FigureNotReady, match="launch with 2 runs or more") as refusal:
        collect("ensembles", lab(planned=1, done=1))
    assert not refusal.value.planned
    with pytest.raises(FigureNotReady, match="no predictions on validation images"):
        collect("ensembles", averaged(lab()), split="validation")


# ---- the stage ----

SPEC: dict[str, Any] = {
    "data": {"dataset": "digits", "train_images": 90, "validation_images": 505, "test_images": 150},
    "network": {"architecture": "small-cnn"},
    "training": {"epochs": 4, "batch_size": 20, "snapshots": 3},
    "ensemble": {"runs": 3, "seed": 1},
    "methods": [{"method": "random", "spread": 0, "typical": 2}, {"method": "averaging"}],
    "evaluation": {"splits": ["test", "validation"], "embed_runs": 1},
}


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Three tiny networks on digits, two samples around each, evaluated on two splits."""
    made = modescape.run(SPEC, folder=tmp_path_factory.mktemp("ensembles"))
    assert [(stage.kind, stage.error) for stage in made.stages if stage.state != "succeeded"] == []
    return made


def measured(results: Lab, subject: str, metric: str, split: str) -> Any:
    [row] = [row for row in results.measurements(metric=metric, subject=subject) if row.split == split]
    return row


@pytest.mark.slow
@pytest.mark.parametrize("split", ["test", "validation"])
def test_the_stage_equals_a_recomputation_from_the_stored_predictions(experiment: Lab, split: str) -> None:
    truth = experiment.true_labels(split)
    groups = {"independent": {"role": "optimum"}, "random": {"method": "random"}, "averaging": {"method": "averaging"}}
    for group, which in groups.items():
        runs = [
            np.mean(
                [probabilities(experiment.logits(s, split)) for s in experiment.solutions(run=run, **which)], axis=0
            )
            for run in range(3)
        ]
        for size in (1, 2, 3):
            means = [np.mean([runs[i] for i in subset], axis=0) for subset in combinations(range(3), size)]
            expected = {
                "accuracy": [np.mean(mean.argmax(-1) == truth) for mean in means],
                "brier": [((mean - np.eye(10)[truth]) ** 2).sum(-1).mean() for mean in means],
                "nll": [-np.log(mean[np.arange(len(truth)), truth]).mean() for mean in means],
                "ece": [predictions.ece(mean, truth) for mean in means],
            }
            for metric, values in expected.items():
                row = measured(experiment, f"ensemble/{group}/{size}", metric, split)
                assert row.value == pytest.approx(np.mean(values), abs=1e-9), (group, size, metric)
                details = row.details
                assert (details["low"], details["high"]) == pytest.approx((min(values), max(values)), abs=1e-9)
                spread = None if len(values) == 1 else pytest.approx(np.std(values, ddof=1), abs=1e-9)
                assert details["sd"] == spread
                assert (details["subsets"], details["of"], row.n) == (len(values), len(values), len(truth))
                assert details["samples"] == ([2, 2] if group == "random" else [1, 1])
        for identity in ("brier", "entropy", "size"):
            assert measured(experiment, f"ensemble/{group}", f"identity/{identity}", split).value <= 1e-9
        sure = np.mean(runs, axis=0)
        row = measured(experiment, f"reliability/{group}/ensemble/width-10", "reliability", split)
        assert row.value == pytest.approx(predictions.ece(sure, truth, bins=10), abs=1e-9)
        assert sum(row.details["count"]) == len(truth)
        pooled = measured(experiment, f"reliability/{group}/single/mass-15", "reliability", split)
        assert sum(pooled.details["count"]) == 3 * len(truth)


@pytest.mark.slow
def test_temperatures_come_from_validation_images(experiment: Lab) -> None:
    truth = {split: experiment.true_labels(split) for split in ("test", "validation")}
    optima = experiment.solutions(role="optimum")
    logs = {s: predictions.average([experiment.logits(o, s) for o in optima]) for s in truth}
    fitted = ensembles.fit_temperature(logs["validation"], truth["validation"])
    row = measured(experiment, "reliability/independent/ensemble/width-15/calibrated", "reliability", "test")
    assert row.details["temperatures"] == pytest.approx([fitted])
    assert (
        row.details["temperatures"]
        == measured(experiment, "ensemble/independent/3", "nll-calibrated", "test").details["temperatures"]
    )
    assert row.value == pytest.approx(predictions.ece(probabilities(logs["test"] / fitted), truth["test"]), abs=1e-9)
    subjects = {row.subject for row in experiment.measurements(metric="reliability") if row.split == "validation"}
    assert not [subject for subject in subjects if "calibrated" in subject]  # never judged where they were fitted
    data = collect("reliability", experiment, temperature="fitted", show="all")
    assert [d.group for d in data.diagrams] == ["independent", "independent", "random", "averaging"]


@pytest.mark.slow
@pytest.mark.parametrize("group", ["independent", "random"])
def test_every_average_has_a_twin_after_a_temperature_of_its_own(experiment: Lab, group: str) -> None:
    """Pooled first, then calibrated, by a plain search for the temperature of every run and ensemble."""
    from scipy.optimize import minimize_scalar

    which: dict[str, Any] = {"role": "optimum"} if group == "independent" else {"method": "random"}
    truth = {split: experiment.true_labels(split) for split in ("test", "validation")}
    runs = {
        split: [
            np.mean(
                [probabilities(experiment.logits(s, split)) for s in experiment.solutions(run=run, **which)], axis=0
            )
            for run in range(3)
        ]
        for split in truth
    }
    for size in (1, 2, 3):
        nll, ece, fitted = [], [], []
        for subset in combinations(range(3), size):
            logs = {split: np.log(np.mean([own[i] for i in subset], axis=0)) for split, own in runs.items()}

            def loss(log_t: float, logs: dict[str, NDArray[np.float64]] = logs) -> float:
                return predictions.nll(logs["validation"] / np.exp(log_t), truth["validation"])

            fitted.append(
                float(np.exp(minimize_scalar(loss, bounds=(-4, 4), method="bounded", options={"xatol": 1e-9}).x))
            )
            sure = probabilities(logs["test"] / fitted[-1])
            nll.append(-np.log(sure[np.arange(len(sure)), truth["test"]]).mean())
            ece.append(predictions.ece(sure, truth["test"]))
        row = measured(experiment, f"ensemble/{group}/{size}", "nll-calibrated", "test")
        assert row.details["temperatures"] == pytest.approx(fitted, rel=1e-5)
        assert row.details["fitted_on"] == 505
        assert row.value == pytest.approx(np.mean(nll), abs=1e-6)
        assert measured(experiment, f"ensemble/{group}/{size}", "ece-calibrated", "test").value == pytest.approx(
            np.mean(ece), abs=1e-6
        )
    data = collect("ensembles", experiment, panel="nll")
    assert "NLL after temperature, nats" in told(data).notes.head
    assert collect("ensembles", experiment, panel="nll-calibrated").curve("independent", "nll-calibrated").mean[2] < 3
    with pytest.raises(FigureNotReady, match="judged on others"):
        collect("ensembles", experiment, panel="nll-calibrated", split="validation")


@pytest.mark.slow
def test_temperatures_do_not_need_kept_predictions_and_are_the_same_without(experiment: Lab) -> None:
    kept = {"splits": ["test"], "embed_runs": 1}
    other = modescape.run({**SPEC, "evaluation": kept}, settings=experiment.laboratory.settings, name="test only")
    subject = "ensemble/random/2"
    with_, without = (measured(lab, subject, "nll-calibrated", "test") for lab in (experiment, other))
    assert without.details["temperatures"] == pytest.approx(with_.details["temperatures"])
    assert without.value == pytest.approx(with_.value)
    few = {**SPEC, "data": {**SPEC["data"], "validation_images": 400}, "evaluation": kept, "methods": []}
    none = modescape.run(few, settings=experiment.laboratory.settings, name="few")
    assert not none.measurements(metric="nll-calibrated")
    with pytest.raises(FigureNotReady, match="500 validation images or more"):
        collect("ensembles", none, panel="nll-calibrated")
    assert "500 validation images or more" in " ".join(told(collect("ensembles", none, panel="nll")).notes.text)


@pytest.mark.slow
def test_the_figures_show_what_was_measured(experiment: Lab) -> None:
    data = collect("ensembles", experiment, split="validation")
    assert data.groups == ["independent", "random", "averaging"]
    curve = data.curve("random", "brier")
    assert curve.mean[2] == measured(experiment, "ensemble/random/3", "brier", "validation").value
    assert "at most 1e-1" in told(data).notes.text[-1]  # 1e-10 to 1e-19
    for name in ("ensembles", "reliability"):
        figures[name].draw(collect(name, experiment), "dark")


@pytest.mark.slow
def test_an_unrelated_change_takes_the_scores_over_and_a_violation_is_an_event(
    experiment: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = experiment.laboratory.settings
    other = {**SPEC, "evaluation": {**SPEC["evaluation"], "embed_seed": 5}}
    again = modescape.run(other, settings=settings, name="again")
    [stage] = [stage for stage in again.stages if stage.kind == "ensemble"]
    assert stage.reused_from is not None
    assert len(again.measurements(metric="nll")) == len(experiment.measurements(metric="nll"))

    in_nats = ensembles.entropy
    monkeypatch.setattr(ensembles, "entropy", lambda p: in_nats(p) / np.log(2))
    fewer = {**SPEC, "ensemble": {**SPEC["ensemble"], "runs": 2}, "methods": []}
    wrong = modescape.run(fewer, settings=settings, name="in bits")
    events = wrong.store.events.after(0, experiment_id=wrong.experiment.id, limit=1000)
    [said] = [event for event in events if event.kind == "identity violated" and event.payload["split"] == "test"]
    assert (said.payload["identity"], said.payload["group"]) == ("entropy", "independent")
    assert told(collect("ensembles", wrong)).notes.text[-1].startswith("Do not trust these numbers.")


@pytest.mark.parametrize("runs", [1, 2])
def test_one_run_plans_no_ensemble(runs: int) -> None:
    stages = prepare({**SPEC, "ensemble": {"runs": runs}}, ()).plan.stages
    planned = [stage for stage in stages if stage.kind == "ensemble"]
    assert len(planned) == runs - 1
    if planned:
        made = {(stage.kind, stage.key) for stage in stages if stage.kind in ("predict", "sample")}
        assert (set(planned[0].wants), planned[0].needs) == (made, ())  # it takes what is there
        assert planned[0].estimate > 0


def test_the_presets_of_figure_8_ask_for_what_the_paper_did() -> None:
    full, short = (parse(presets[name].call()) for name in ("fig-8", "fig-8-short"))
    for spec in (full, short):
        assert spec.ensemble.runs == 5
        assert {m.method for m in spec.methods} == {
            "random", "dropout", "diagonal", "low-rank", "pca-random", "averaging",
        }  # fmt: skip
        assert all(m.typical == 10 for m in spec.methods if m.method != "averaging")
    options = {m.method: m.options for m in full.methods}
    assert options["low-rank"]["rank"] == options["pca-random"]["rank"] == 4
    assert all(o["floor_value"] == 0.65 and o["floor"] == "absolute" for name, o in options.items() if o)
    assert presets["fig-8-short"].twin_of == "fig-8"
    assert len(presets["fig-8-short"].substitutions) >= 5
