"""Ensembles made elsewhere as experiments: their numbers are those of numpy, scipy and scikit-learn, or of the
experiment that they were exported from; what is odd about them is asked, counted or said."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from real_data import mnist_logits, mnist_test
from safetensors.numpy import save_file
from scipy.special import log_softmax, softmax
from scipy.stats import norm
from sklearn.metrics import log_loss, roc_auc_score

import modescape as ms
from modescape.claims import CLAIMS
from modescape.cli import main
from modescape.drawing.reading import FigureNotReady
from modescape.errors import InvalidInput
from modescape.executor import Executor
from modescape.exporting import ensemble_of
from modescape.imported.arrays import held
from modescape.imported.digest import contents, set_digest
from modescape.imported.door import Odd, examine
from modescape.imported.ensemble import OutputKind, Recipe, Unclear
from modescape.imported.manifest import document
from modescape.imported.memory import Samples, from_arrays
from modescape.imported.reading import read
from modescape.imported.writing import stream, write
from modescape.importing import bring_in
from modescape.laboratory import Lab, export, run, started
from modescape.records import StageState
from modescape.registry import figures
from modescape.science.confidence import Word
from modescape.settings import Settings

pytestmark = pytest.mark.usefixtures("few_redraws")
Arrays = NDArray[Any]

M, N, K, S = 4, 600, 5, 3


def made(seed: int = 0, members: int = M) -> tuple[Arrays, Arrays]:
    """Logits [M, N, K] of members that know most classes and err apart, and the labels [N]."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, K, N)
    shared = rng.normal(size=(N, K))
    own = rng.normal(size=(members, N, K))
    return (0.8 * shared + own + 2.2 * np.eye(K)[truth]).astype(np.float32), truth


def around(logits: Arrays, steps: float = 0.4, seed: int = 1) -> Arrays:
    """Samples [M, S, N, K] around every member."""
    rng = np.random.default_rng(seed)
    return (logits[:, None] + steps * rng.normal(size=(len(logits), S, *logits.shape[1:]))).astype(np.float32)


def analysed(folder: Path, logits: Arrays, truth: Arrays, **given: Any) -> Lab:
    lab = ms.analyse(logits, truth, folder=folder, progress=False, **{"recipe": "same", **given})
    stopped = [f"{s.kind}/{s.key}: {s.error}" for s in lab.stages if s.state != StageState.SUCCEEDED]
    assert not stopped
    return lab


def group(lab: Lab, subject: str, metric: str) -> float:
    found = {m.value for m in lab.measurements(subject=subject, metric=metric) if m.split in (None, "test")}
    assert len(found) == 1, found
    return float(found.pop() or 0.0)


# -- the numbers are what others compute -------------------------------------------------------------------------------


@pytest.mark.slow
def test_disagreement_and_divergence_are_numpys(tmp_path: Path) -> None:
    logits, truth = made()
    lab = analysed(tmp_path, logits, truth)
    labels = logits.argmax(-1)
    expected = (labels[:, None] != labels[None]).mean(-1)
    matrix = lab.matrix("disagreement")
    assert matrix is not None
    np.testing.assert_allclose(matrix.values, expected, atol=1e-12)
    p = softmax(logits.astype(np.float64), axis=-1)
    entropy = lambda q: -(q * np.log(q)).sum(-1).mean()  # noqa: E731
    js = entropy(p.mean(0)) - np.mean([entropy(one) for one in p])
    assert group(lab, "independent", "js_mean") == pytest.approx(js, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(OutputKind)[:3])
def test_an_ensemble_of_all_members_scores_as_the_mean_of_their_probabilities(tmp_path: Path, kind: OutputKind) -> None:
    logits, truth = made()
    p = softmax(logits.astype(np.float64), axis=-1)
    given = {OutputKind.LOGITS: logits, OutputKind.PROBS: p, OutputKind.LOG_PROBS: np.log(p)}[kind]
    lab = analysed(tmp_path, given, truth, kind=kind)
    mean = p.mean(0)
    at = f"ensemble/independent/{M}"
    assert group(lab, at, "accuracy") == pytest.approx((mean.argmax(1) == truth).mean())
    assert group(lab, at, "nll") == pytest.approx(log_loss(truth, mean), abs=1e-6)
    brier = np.square(mean - np.eye(K)[truth]).sum(1).mean()
    assert group(lab, at, "brier") == pytest.approx(brier, abs=1e-6)


@pytest.mark.slow
def test_labels_alone_give_votes_and_no_number_that_needs_probabilities(tmp_path: Path) -> None:
    logits, truth = made()
    labels = logits.argmax(-1)
    lab = analysed(tmp_path, labels, truth, kind="labels", samples={"swag": around(logits).argmax(-1)})
    votes = np.stack([np.bincount(labels[:, n], minlength=K) for n in range(N)])
    assert group(lab, f"ensemble/independent/{M}", "accuracy") == pytest.approx((votes.argmax(1) == truth).mean())
    assert {m.metric for m in lab.measurements()} == {"accuracy"}
    assert lab.matrix("disagreement") is not None
    assert lab.matrix("js") is None
    assert {told.record.id for told in lab.claims()} <= {"a", "b", "c", "d1", "d2"}


@pytest.mark.slow
def test_other_images_are_told_apart_as_scikit_learn_would(tmp_path: Path) -> None:
    logits, truth = made()
    strange = np.random.default_rng(5).normal(size=(M, 300, K)).astype(np.float32)
    lab = analysed(tmp_path, logits, truth, ood={"SVHN (cropped)": strange})
    entropy = lambda z: -(softmax(z, axis=-1) * log_softmax(z, axis=-1)).sum(-1)  # noqa: E731
    areas = [
        roc_auc_score([0] * 300 + [1] * 300, [*entropy(own[:300].astype(float)), *entropy(other.astype(float))])
        for own, other in zip(logits, strange, strict=True)
    ]
    assert group(lab, "ood/0/independent/single/entropy", "auroc") == pytest.approx(np.mean(areas), abs=1e-9)
    assert lab.measurements(subject="ood/0/independent/single/entropy")[0].details["title"] == "SVHN (cropped)"


@pytest.mark.slow
def test_shifted_images_are_scored_cell_by_cell_and_only_those_that_were_given(tmp_path: Path) -> None:
    logits, truth = made()
    rng = np.random.default_rng(7)
    shift = {(name, i): (logits + i * rng.normal(size=logits.shape)).astype(np.float32)
             for name, i in (("fog", 1), ("fog", 3), ("My blur", 2))}  # fmt: skip
    drawn = {at: around(given, seed=9) for at, given in shift.items()}
    lab = analysed(tmp_path, logits, truth, shift=shift, samples={"swag": Samples(around(logits), shift=drawn)})
    rows = lab.shifted("accuracy", by_type=True)
    found = {(m.corruption, m.intensity): m.value for m in rows if m.subject == "shift/independent/1" and m.corruption}
    expected = {("fog", 1), ("fog", 3), ("my-blur", 2)}
    assert set(found) == expected
    for (name, i), given in shift.items():
        key = name.lower().replace(" ", "-")
        assert found[key, i] == pytest.approx((given.argmax(-1) == truth).mean())
    assert "f2" in {told.record.id for told in lab.claims()}


@pytest.mark.slow
def test_cosines_are_of_all_weights_but_running_statistics_and_reduced_ones_of_matrices(tmp_path: Path) -> None:
    logits, truth = made()
    rng = np.random.default_rng(3)
    files, flat, whole = [], [], []
    for i in range(M):
        tensors = {"conv.weight": rng.normal(size=(3, 2, 2)), "conv.bias": rng.normal(size=3) + 5,
                   "bn.running_mean": np.full(3, 100.0), "bn.num_batches_tracked": np.array(9)}  # fmt: skip
        tensors = {name: np.asarray(t, np.int64 if "num" in name else np.float32) for name, t in tensors.items()}
        save_file(tensors, tmp_path / f"{i}.safetensors")
        files.append(tmp_path / f"{i}.safetensors")
        flat.append(tensors["conv.weight"].reshape(-1).astype(np.float64))
        whole.append(np.concatenate([flat[-1], tensors["conv.bias"]]))
    lab = analysed(tmp_path / "home", logits, truth, weights=files)

    def cosines(vectors: list[Arrays]) -> Arrays:
        return np.array([[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in vectors] for a in vectors])

    for name, vectors in (("cosine", whole), ("cosine-reduced", flat)):
        matrix = lab.matrix(name, "")
        assert matrix is not None
        np.testing.assert_allclose(matrix.values, cosines(vectors), atol=1e-12)
    (a,) = [told.record for told in lab.claims() if told.record.id == "a"]
    about = "of tensors of two or more dimensions, without 1 other, with the class mean of a head"
    assert a.estimand.startswith(f"mean cosine over pairs of members, {about}")
    assert a.qualifier == "of tensors of two or more dimensions alone"
    reduced, plain = (f"{cosines(one)[np.triu_indices(M, 1)].mean():.3f}".replace("-", "−") for one in (flat, whole))
    assert f"cosine of their weights is {reduced} of tensors of two or more dimensions ({plain} of all weights)" in (
        lab.sentence()
    )
    drawn = figures["similarity-runs"].call(lab, figures["similarity-runs"].options())
    assert drawn.missing.startswith(f"Cosine of weights {about}")


@pytest.mark.slow
def test_what_of_weights_is_not_compared_is_told_with_its_reason(tmp_path: Path) -> None:
    logits, truth = made()
    rng = np.random.default_rng(3)

    def whole(width: int = 4) -> dict[str, Arrays]:
        return {
            "stem.weight": rng.normal(size=(3, 2)), "head.weight": rng.normal(size=(width, 3)),
            "bn.running_mean": np.zeros(width), "steps": np.array(9),
        }  # fmt: skip

    def odd(weights: list[dict[str, Arrays]]) -> list[str]:
        one = from_arrays(logits, truth, weights=weights, recipe="same")
        return [found.sentence for found in examine(one).told if found.what is Odd.WEIGHTS]

    assert not odd([whole() for _ in range(M)])
    assert not odd([{f"dense_{i}/{name}": one for name, one in whole().items()} for i in range(M)]), "by their order"
    assert not odd([whole() | {"bn.running_var": np.ones(i + 1)} for i in range(M)]), "which nobody compares"
    without = [whole() for _ in range(M)]
    del without[0]["head.weight"]
    (said,) = odd(without)
    assert said.endswith("that every member has alike. Left out: head.weight, which member 0 has not")
    wider = [whole(4 + (i == 1)) for i in range(M)]
    (said,) = odd(wider)
    assert said.endswith("Left out: head.weight, [4, 3] of member 0 and [5, 3] of member 1")
    (said,) = odd([{"net": rng.normal(size=(2, 3 + i))} for i in range(M)])
    assert said.startswith("Weights are not compared, and claim (a) cannot be told")
    lab = analysed(tmp_path, logits, truth, weights=wider)
    assert [line for line in lab.odd if "Left out: head.weight, [4, 3] of member 0" in line]
    stems = np.array([weights["stem.weight"].reshape(-1) for weights in wider])
    stems /= np.linalg.norm(stems, axis=1, keepdims=True)
    matrix = lab.matrix("cosine-reduced", "")
    assert matrix is not None
    np.testing.assert_allclose(matrix.values, stems @ stems.T, atol=1e-12)
    other = analysed(tmp_path / "b", logits, truth, weights=[{"net": rng.normal(size=(2, 3 + i))} for i in range(M)])
    claim = other.claim("a")
    assert claim is not None
    assert "their shapes differ" in claim.because


def test_without_weights_nobody_asks_about_them(tmp_path: Path) -> None:
    lab = analysed(tmp_path, *made())
    assert lab.matrix("cosine", "") is None
    assert "a" not in {told.record.id for told in lab.claims()}
    assert "cosine" not in lab.sentence()


# -- the same experiment, out and in again -----------------------------------------------------------------------------

OWN = {
    "data": {"dataset": "digits", "train_images": 300, "validation_images": 100, "test_images": 600,
             "input_scale": "standardised"},
    "network": {"architecture": "mlp", "options": {"first": 16, "second": 12}},
    "training": {"epochs": 5, "batch_size": 20, "learning_rate": 0.005, "snapshots": 4},
    "ensemble": {"runs": 4},
    "evaluation": {"splits": ["test", "validation"]},
    "methods": [{"method": "random", "spread": 0, "typical": 6}],
}  # fmt: skip


SETS = {  # wide samples, narrow ones, and where a method trained on to
    **OWN,
    "data": {"dataset": "digits", "train_images": 97, "validation_images": 500, "test_images": 1200,
             "input_scale": "standardised"},
    "training": {**OWN["training"], "epochs": 12},
    "evaluation": {"splits": ["test"]},
    "methods": [
        {"method": "random", "spread": 7, "typical": 5}, {"method": "swag", "spread": 6, "typical": 5},
        {"method": "dropout", "spread": 9, "typical": 4},
        {"method": "diagonal", "spread": 7, "typical": 0}, {"method": "averaging"},
    ],
    "shift": {"corruptions": ["contrast"], "intensities": [1, 2, 3, 4, 5], "images": 1200, "members": 4},
}  # fmt: skip
PART = {**SETS, "shift": {**SETS["shift"], "images": 1000}}  # of the test images
FAIR = {**SETS, "evaluation": {"splits": ["test"], "averaged": "fair"}}
UNLUCKY = {  # of which one run learns nothing
    **SETS,
    "data": {"dataset": "digits", "train_images": 197, "validation_images": 400, "test_images": 1200},
    "network": {"architecture": "mlp", "options": {"first": 24, "second": 16}},
    "training": {"epochs": 10, "batch_size": 20, "learning_rate": 0.003, "snapshots": 4},
    "ensemble": {"runs": 5, "seed": 7},
    "shift": {"corruptions": ["gaussian_noise", "contrast"], "intensities": [1, 2, 3, 4, 5], "members": 4,
              "trajectory": False},
    "ood": [{"dataset": "permuted", "images": 200, "members": 4, "trajectory": False}],
}  # fmt: skip


def disagreements(lab: Lab) -> np.ndarray:
    """Of every two functions, in the order of what they are: an import has its methods in alphabetical order."""
    found = lab.matrix("disagreement")
    assert found is not None
    what = {
        one.number: (one.run, one.role, one.method or "", one.sample_set or "", one.index) for one in lab.solutions()
    }
    order = sorted(range(len(found.rows)), key=lambda i: what[found.rows[i]])
    values: np.ndarray = found.values[np.ix_(order, order)]
    return values


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec",
    [SETS, UNLUCKY, *(pytest.param(one, marks=pytest.mark.check) for one in (OWN, PART, FAIR))],
    ids=["every set", "a run failed", "two splits", "of some images", "fair"],
)
def test_an_exported_experiment_comes_back_with_the_same_numbers_and_words(
    spec: dict[str, Any], tmp_path: Path
) -> None:
    own = run(spec, folder=tmp_path / "home", name="own", progress=False)
    export(own.laboratory, "own", tmp_path / "out")
    there = started(None, Settings(home=tmp_path / "other"))
    ensemble = read(tmp_path / "out", recipe=Recipe.SAME)
    back = there.finish(bring_in(there.laboratory, ensemble, name="back"), progress=False)
    assert back.failed == own.failed
    assert bool(own.failed) == (spec is UNLUCKY)

    def numbers(lab: Lab) -> Mapping[tuple[str, str, str | None], float | None]:
        return {(m.metric, m.subject, m.split): m.value for m in lab.measurements()}

    first, second = numbers(own), numbers(back)
    assert second.keys() <= first.keys()
    fitted = ("calibrated", "temperature", "strength/")  # on validation images whose predictions are not kept
    lost = first.keys() - second.keys()
    assert not {key for key in lost if not any(word in f"{key}" for word in fitted)}
    assert not lost or "validation" not in own.spec.evaluation.splits
    assert len(first) > 50
    for key in first.keys() & second.keys():
        assert second[key] == pytest.approx(first[key], abs=1e-12), key
    np.testing.assert_array_equal(disagreements(own), disagreements(back))
    judged = {told.record.id: told.record for told in back.claims()}
    for told in own.claims():
        other = judged[told.record.id]
        if told.record.id == "a":  # reduced otherwise, where nobody knows which tensor is the head; as they are, equal
            whole = "of all weights as they are"
            assert other.parts[whole] == pytest.approx(told.record.parts[whole], abs=1e-12)
            continue
        assert (other.word, other.estimate, other.low, other.high) == (
            told.record.word, told.record.estimate, told.record.low, told.record.high,
        )  # fmt: skip
    assert [one.tested for one in own.claims()] == [one.tested for one in back.claims()], "for Holm's correction"
    assert {one.record.id for one in own.claims() if one.survives} - {"a"} == {
        one.record.id for one in back.claims() if one.survives
    } - {"a"}


@pytest.mark.slow
def test_samples_that_were_evaluated_on_other_images_in_part_come_back_as_they_were(tmp_path: Path) -> None:
    chain = {"cycles": 2, "epochs_per_cycle": 3, "samples_per_cycle": 2, "noise_epochs": 1, "learning_rate": 0.1}
    spec = {
        **OWN,
        "methods": [
            {"method": "random", "spread": 0, "typical": 6},
            {"method": "sgmcmc", "spread": 0, "typical": 4, "options": chain},
        ],
        "ood": [
            {"dataset": name, "images": 80, "members": 3, "trajectory": False} for name in ("permuted", "constant")
        ],
        "shift": {"corruptions": ["contrast", "brightness"], "intensities": [5], "members": 3, "trajectory": False},
    }
    own = run(spec, folder=tmp_path / "home", name="own", progress=False)
    export(own.laboratory, "own", tmp_path / "out")
    ensemble = read(tmp_path / "out", recipe=Recipe.SAME)
    for name, count in (("random-typical", 6), ("sgmcmc-typical", 4)):
        counts = {place: array.shape[1] for place, array in ensemble.samples[name].outputs.items()}
        assert counts.pop("test") == counts.pop("validation") == count
        assert counts == dict.fromkeys(("ood/permuted", "ood/constant", "shift/contrast/5", "shift/brightness/5"), 3)
    there = started(None, Settings(home=tmp_path / "other"))
    back = there.finish(bring_in(there.laboratory, ensemble, name="back"), progress=False)

    def told(lab: Lab) -> dict[tuple[str, str, str | None], float | None]:
        found = {(m.metric, m.subject, m.split): m.value for m in lab.measurements()}
        return {key: value for key, value in found.items() if key[1].startswith(("shift", "ood"))}

    assert [one.dataset for one in back.spec.ood] == ["permuted", "constant"], "as it was, and not by the alphabet"
    assert back.spec.shift.corruptions == ("contrast", "brightness")
    first, second = told(own), told(back)
    assert len(first) > 50
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert second[key] == pytest.approx(value, abs=1e-6), key


def test_what_came_in_goes_out_with_the_same_digest(tmp_path: Path) -> None:
    logits, truth = made()
    rng = np.random.default_rng(11)
    save_file({"w": rng.normal(size=(3, 2)).astype(np.float32)}, tmp_path / "one.safetensors")
    ensemble = from_arrays(
        logits.astype(np.float16), truth, recipe="same", name="first", classes=["a", "b", "c", "d", "e"],
        members=["m7", "x", "9", "last"], weights=[tmp_path / "one.safetensors"] * M,
        samples={"SWAG, wide": Samples(around(logits), strength=rng.random((M, S)), centre=logits + 1)},
        ood={"SVHN (cropped)": rng.normal(size=(M, 70, K)).astype(np.float32)},
        shift={("My blur", 2): logits * 0.5, ("other draw", 1): (logits[:, :90], truth[:90])},
        validation=(logits[:, :200], truth[:200]),
        trajectory=([0, 2.5], np.stack([logits * 0.1, logits * 0.6], axis=1)),
    )  # fmt: skip
    pictures = held("pictures", rng.integers(0, 256, (N, 1, 4, 4)).astype(np.uint8))
    names = np.array([f"image {n}" for n in range(N)])
    test = replace(ensemble.test, images=pictures, ids=names)
    matrix = held("cut", rng.normal(size=(5, 6)))
    ensemble = replace(ensemble, sets={**ensemble.sets, "test": test}, rest={"matrices/cut.npy": matrix})
    write(ensemble, tmp_path / "in.zip")
    here = started(tmp_path / "home", None)
    row = bring_in(here.laboratory, read(tmp_path / "in.zip"), name="second")
    out = ensemble_of(here.laboratory.results(row.slug))
    assert set_digest(out) == set_digest(ensemble) == row.spec["imported"]["digest"]
    assert row.provenance is not None
    assert row.provenance["digests"].keys() == contents(ensemble).keys()
    export(here.laboratory, row.slug, tmp_path / "folder")
    export(here.laboratory, row.slug, tmp_path / "out.npz")
    (tmp_path / "sent.zip").write_bytes(b"".join(stream(out)))
    for copy in ("folder", "out.npz", "sent.zip"):
        assert set_digest(read(tmp_path / copy)) == set_digest(ensemble), copy


@pytest.mark.slow
def test_the_epoch_of_the_last_checkpoint_comes_along(tmp_path: Path) -> None:
    """Given, written, read, exported, drawn; where nobody told it, the point lies a step behind, and that is said."""
    logits, truth = made()
    along = np.stack([logits * 0.1, logits * 0.5], axis=1)
    for number, (epochs, last) in enumerate((([2, 5, 7], 7.0), ([2, 5], None))):
        ensemble = from_arrays(logits, truth, recipe="same", trajectory=(epochs, along))
        assert ensemble.trajectory is not None
        assert (ensemble.trajectory.epochs.tolist(), ensemble.trajectory.last) == ([2.0, 5.0], last)
        write(ensemble, tmp_path / f"{number}.zip")
        here = started(tmp_path / f"home-{number}", None)
        row = bring_in(here.laboratory, read(tmp_path / f"{number}.zip"), name="along")
        Executor(here.laboratory.store, here.laboratory.artifacts, here.laboratory.settings).run_experiment(row.id)
        results = here.laboratory.results(row.slug)
        found = figures["trajectories"]
        data = found.call(results, found.options())
        assert data.curves[0].epochs.tolist() == [2.0, 5.0, 8.0 if last is None else last]
        assert data.ensemble.epochs.tolist() == data.curves[0].epochs.tolist() == data.median.epochs.tolist()
        assert data.guessed is (last is None)
        assert ("was not told" in found.tell(data).caption) is (last is None)
        assert set_digest(ensemble_of(results)) == set_digest(ensemble)


@pytest.mark.slow
def test_sets_of_other_images_stay_in_the_order_in_which_they_were_given(tmp_path: Path) -> None:
    logits, truth = made()
    ood = {"zebras": logits[:, :50] * 2, "apes": logits[:, :60] * 3, "mice": logits[:, :70] * 4}
    shift = {("noise", 1): logits * 0.9, ("blur", 2): logits * 0.8, ("noise", 3): logits * 0.7, ("blur", 1): logits / 2}
    ensemble = from_arrays(logits, truth, recipe="same", ood=ood, shift=shift)
    copies = [tmp_path / name for name in ("one.zip", "two.npz", "folder")]
    for path in copies:
        write(ensemble, path)
    here = started(tmp_path / "home", None)
    for number, path in enumerate(copies):
        row = bring_in(here.laboratory, read(path), name="second")
        assert [one["dataset"] for one in row.spec["ood"]] == list(ood), path
        assert row.spec["shift"]["corruptions"] == ["noise", "blur"]
        export(here.laboratory, row.slug, again := tmp_path / f"again-{number}.zip")
        assert list(read(again).sets) == list(read(path).sets)
        assert set_digest(read(again)) == set_digest(ensemble) == row.spec["imported"]["digest"]
    alphabet = from_arrays(
        logits, truth, recipe="same", ood=dict(sorted(ood.items())), shift=dict(sorted(shift.items()))
    )
    assert set_digest(alphabet) == set_digest(ensemble), "what there is is the same, whatever is shown first"
    assert "order" not in document(alphabet), "as exports were before any order was kept"


EVERYTHING = {
    **OWN,
    "ood": [{"dataset": "permuted", "images": 60, "members": 2, "trajectory": False}],
    "shift": {"corruptions": ["gaussian_noise"], "intensities": [2, 4], "members": 2, "trajectory": False},
    "connectivity": {"images": 50},
    "planes": [{"kind": "line"}],
    "tunnels": [{"knots": 1, "images": 50, "triangles": True}],
    "seeds": {"learning_rates": [0.005], "repetitions": 1, "epochs": 2},
}


@pytest.mark.slow
def test_all_that_an_experiment_keeps_has_a_place_or_is_listed(tmp_path: Path) -> None:
    own = run(EVERYTHING, folder=tmp_path / "home", name="own", progress=False)
    export(own.laboratory, "own", tmp_path / "out")
    first = read(tmp_path / "out")
    assert not first.unread
    rooms = {path.split("/")[0] for path in first.rest}
    assert rooms == {"arms", "snapshots", "matrices"}
    there = started(tmp_path / "other", None)
    row = bring_in(there.laboratory, first, name="back")
    export(there.laboratory, row.slug, tmp_path / "again.zip")
    assert set_digest(read(tmp_path / "again.zip")) == set_digest(first)
    placed = {path.read_bytes() for path in (tmp_path / "out").rglob("*.safetensors") if "artifacts" not in path.parts}
    kept = {path.read_bytes() for path in (tmp_path / "out" / "artifacts").glob("*.safetensors")}
    assert kept == placed, "every network has a place"


# -- recipes -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["unknown", "different"])
def test_without_one_recipe_no_claim_has_a_word_and_intervals_are_over_images_alone(
    tmp_path: Path, recipe: str
) -> None:
    logits, truth = made()
    checkpoints = np.stack([logits + s * np.random.default_rng(i).normal(size=logits.shape)
                            for i, s in enumerate((0.5, 0.4, 0.3, 0.2))], axis=1).astype(np.float32)  # fmt: skip
    lab = analysed(tmp_path, logits, truth, recipe=recipe, trajectory=([1, 2, 3, 4], checkpoints))
    claims = {told.record.id: told for told in lab.claims()}
    told = claims["b"]
    assert told.record.word is Word.CANNOT_TELL
    assert told.record.p is None
    assert "images only" in told.record.because
    assert not told.survives
    labels = logits.argmax(-1)
    # the last 40 % of the five functions after the initial weights, at least three
    windows = [[*own.argmax(-1)[-2:], last] for own, last in zip(checkpoints, labels, strict=True)]
    across = np.mean([labels[i] != labels[j] for i, j in combinations(range(M), 2)], axis=0)
    within = np.mean([np.mean([a != b for a, b in combinations(own, 2)], axis=0) for own in windows], axis=0)
    influence = across / across.mean() - within / within.mean()
    half = norm.ppf(0.975) * np.sqrt(np.square(influence - influence.mean()).sum()) / N
    expected = np.log(across.mean() / within.mean())
    assert told.record.estimate == pytest.approx(expected, abs=1e-6)
    assert (told.record.low, told.record.high) == pytest.approx((expected - half, expected + half), abs=1e-5)


# -- at the door -------------------------------------------------------------------------------------------------------


def test_probabilities_that_are_called_logits_are_asked_about_before_anything_is_kept(tmp_path: Path) -> None:
    logits, truth = made()
    np.save(tmp_path / "test.logits.npy", softmax(logits, axis=-1))
    np.save(tmp_path / "test.labels.npy", truth)
    here = started(tmp_path / "home", None)
    with pytest.raises(Unclear, match="sum to 1") as asked:
        bring_in(here.laboratory, read(tmp_path), name="asked")
    assert [choice.value for choice in asked.value.choices] == ["probs", "logits"]
    assert not here.laboratory.store.experiments.page().total


@pytest.mark.slow
def test_arrays_that_nobody_called_anything_are_what_they_can_only_be(tmp_path: Path) -> None:
    logits, truth = made()
    for number, (given, kind) in enumerate(
        ((softmax(logits, axis=-1), "probs"), (logits, "logits"), (logits.argmax(-1), "labels"), (logits[0], "logits"))
    ):
        lab = ms.analyse(given, truth, folder=tmp_path / f"{number}", progress=False)
        assert lab.spec.imported is not None
        assert lab.spec.imported.kind == kind
        words = {"probs": "probabilities", "logits": "logits", "labels": "predicted labels alone"}[kind]
        assert f"Good to know: The numbers were taken for {words}, for nobody said what they are (kind)" in lab.odd
        assert "were taken for" in repr(lab)
    lab = ms.analyse(logits, truth, kind="logits", folder=tmp_path / "said", progress=False)
    assert not [one for one in lab.odd if "were taken for" in one]


def test_a_claim_that_there_is_not_is_refused_with_what_was_meant(tmp_path: Path) -> None:
    logits, truth = made()
    lab = ms.analyse(logits, truth, recipe="same", folder=tmp_path, progress=False)
    assert lab.claim("b") is None, "one that is not asked of it"
    with pytest.raises(InvalidInput, match=r"there is no claim 'd'; did you mean d\d") as refused:
        lab.claim("d")
    assert refused.value.allowed == "one of " + ", ".join(CLAIMS)
    with pytest.raises(InvalidInput, match="there is no claim 'zz'"):
        lab.claim("zz")


def test_what_is_called_logits_outright_is_and_what_cannot_be_probabilities_is_not(tmp_path: Path) -> None:
    logits, truth = made()
    lab = ms.analyse(softmax(logits, axis=-1), truth, kind="logits", folder=tmp_path / "a", progress=False)
    assert lab.spec.imported is not None
    assert lab.spec.imported.kind == "logits"
    (said,) = [one for one in lab.odd if "sum to 1" in one]
    assert said.endswith("The answer was: logits"), "no question is left open"
    with pytest.raises(Unclear, match="do not sum to 1") as asked:
        ms.analyse(logits, truth, kind="probs", folder=tmp_path / "b", progress=False)
    assert [choice.value for choice in asked.value.choices] == ["logits"]


@pytest.mark.slow
def test_a_member_of_another_kind_than_the_rest_is_asked_about_whatever_was_declared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODESCAPE_HOME", str(tmp_path))
    logits, labels = made()
    logits[2] = softmax(logits[2], axis=-1)
    for kind in (None, "logits"):
        with pytest.raises(Unclear, match=r"Member 2: outputs on test were taken for logits, .* mixed='keep'") as asked:
            ms.analyse(logits, labels, kind=kind, folder=tmp_path, progress=False)
        assert asked.value.problems[0].field == "mixed"
    with pytest.raises(InvalidInput, match="mixed is 'yes'"):
        ms.analyse(logits, labels, mixed="yes", folder=tmp_path, progress=False)  # type: ignore[arg-type]
    lab = analysed(tmp_path, logits, labels, kind="logits", mixed="keep")
    assert not lab.failed
    assert [
        line for line in lab.odd if line.startswith("Good to know: Member 2: outputs on test were taken for logits")
    ]
    write(from_arrays(logits, labels), tmp_path / "e.npz")
    assert main(["import", str(tmp_path / "e.npz"), "--kind", "logits"]) == 1
    assert "Member 2: outputs on test were taken for logits" in capsys.readouterr().err
    home = ms.open(tmp_path)
    with pytest.raises(InvalidInput, match="Member 2"):
        home.import_(tmp_path / "e.npz", kind="logits")
    assert home.import_(tmp_path / "e.npz", kind="logits", mixed="keep").status == "succeeded"


@pytest.mark.slow
def test_command_and_comparison_speak_of_members_where_all_were_made_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, truth = made()
    for name in ("one", "other"):
        ms.analyse(logits * (1 + (name == "other")), truth, name=name, folder=tmp_path, progress=False)
    compared = ms.compare("one", "other", folder=tmp_path)
    said = [one.title for one in (*compared.numbers, *compared.claims)]
    assert "Disagreement of two members" in said
    assert not [one for one in said if " run" in one]
    monkeypatch.setenv("MODESCAPE_HOME", str(tmp_path))
    assert main(["show", "one"]) == 0
    shown = capsys.readouterr().out
    assert "Members disagree" in shown
    assert f"{len(logits)} members, imported" in shown
    assert " run" not in shown.partition("claims")[0].replace(" run:", "")


@pytest.mark.slow
def test_names_that_specs_write_alike_are_told_apart(tmp_path: Path) -> None:
    """A spec has lower case letters, digits and hyphens; in other scripts nothing of a name is left."""
    logits, truth = made()
    drawn, other = np.stack([logits, logits + 0.1], 1), logits[:, :20]
    lab = ms.analyse(
        logits, truth, samples={"a b": drawn, "a-b": drawn * 0.9}, ood={"数字": other, "文字": other * 2},
        shift={("霧", 1): logits * 0.5, ("雪", 1): logits * 0.4}, folder=tmp_path, progress=False,
    )  # fmt: skip
    assert [one.method for one in lab.spec.methods] == ["a-b-2", "a-b"]
    assert {row.method for row in lab.solutions(role="sample")} == {"a-b-2", "a-b"}
    assert len({one.dataset for one in lab.spec.ood}) == 2
    assert lab.spec.imported is not None
    assert {"数字", "文字", "霧", "雪"} <= set(lab.spec.imported.titles.values())
    table = figures["shift-types"].call(lab, figures["shift-types"].options())
    assert {row[0] for row in table.rows()} == {"霧", "雪"}, "tables have the names, as the page and the export do"
    export(lab.laboratory, lab.experiment.slug, tmp_path / "out.zip")
    assert {"ood/数字", "ood/文字", "shift/霧/1"} <= set(read(tmp_path / "out.zip").sets)


def test_a_name_that_is_none_is_refused_with_what_is_allowed(tmp_path: Path) -> None:
    logits, truth = made()
    for name in ("", None, 7, "a\0"):
        with pytest.raises(InvalidInput, match=r"name: .*allowed: "):
            ms.analyse(logits, truth, name=name, folder=tmp_path, progress=False)  # type: ignore[arg-type]


@pytest.mark.slow
def test_classes_in_another_order_are_asked_about_and_put_in_order_when_told_so(tmp_path: Path) -> None:
    logits, truth = made()
    shuffled = logits[..., [1, 2, 0, 4, 3]]
    with pytest.raises(Unclear, match="another order"):
        ms.analyse(shuffled, truth, folder=tmp_path, progress=False)
    straight = analysed(tmp_path, logits, truth)
    applied = analysed(tmp_path, shuffled, truth, permutation="apply")
    assert [run.accuracy for run in applied.runs] == [run.accuracy for run in straight.runs]
    assert applied.experiment.digest == straight.experiment.digest


OUTSIDE = {"ood": {"noise": 0.5}, "shift": {("fog", 3): 0.8}}


@pytest.mark.slow
@pytest.mark.parametrize("place", ["ood", "shift"])
def test_a_member_that_is_not_finite_on_other_images_counts_nowhere(tmp_path: Path, place: str) -> None:
    logits, labels = made(members=7)
    others = [0, 1, 3, 4, 5, 6]
    sets: dict[str, Any] = {
        kind: {name: np.array(scale * logits) for name, scale in ones.items()} for kind, ones in OUTSIDE.items()
    }
    whole = ms.analyse(logits[others], labels, recipe="same", folder=tmp_path / "six", progress=False, **{
        kind: {name: values[others] for name, values in ones.items()} for kind, ones in sets.items()
    })  # fmt: skip
    next(iter(sets[place].values()))[2, 17, 1] = np.nan
    lab = ms.analyse(logits, labels, recipe="same", folder=tmp_path / "seven", progress=False, **sets)
    assert lab.laboratory.results(lab.experiment.slug).failed == {2: "its logits are not all finite numbers"}
    assert numbers(lab) == numbers(whole)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["test", "validation", "ood", "shift"])
@pytest.mark.parametrize("kind", ["probs", "log-probs"])
def test_a_member_that_fails_by_a_row_without_any_probability_counts_nowhere(
    tmp_path: Path, kind: str, place: str
) -> None:
    logits, labels = made()
    odds = {at: softmax(scale * logits, axis=-1) for at, scale in
            {"test": 1.0, "validation": 0.9, "ood": 0.5, "shift": 0.8}.items()}  # fmt: skip
    odds[place][1, 17] = 0
    with np.errstate(divide="ignore"):
        sets = {at: np.log(one) if kind == "log-probs" else one for at, one in odds.items()}
    lab = analysed(
        tmp_path, sets["test"], labels, kind=kind, validation=(sets["validation"], labels), ood={"noise": sets["ood"]},
        shift={("fog", 3): sets["shift"]},
    )  # fmt: skip
    assert set(lab.failed) == {1}
    assert [line for line in lab.odd if line.startswith("Counts as failed: Member 1")]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["probs", "log-probs"])
def test_a_checkpoint_and_a_sample_with_a_row_without_any_probability_count_nowhere(tmp_path: Path, kind: str) -> None:
    logits, labels = made()
    odds = softmax(np.stack([0.5 * logits, logits], 1), axis=-1)
    odds[1, 0, 17] = 0
    with np.errstate(divide="ignore"):
        along = np.log(odds) if kind == "log-probs" else odds
    lab = analysed(tmp_path, along[:, 1], labels, kind=kind, samples={"swag": along}, trajectory=along)
    assert not lab.failed
    assert [one.index for one in lab.solutions(run=1, method="swag")] == [1]
    assert [one.index for one in lab.solutions(run=0, method="swag")] == [0, 1]
    assert [len(lab.solutions(run=run, role="checkpoint")) for run in (0, 1)] == [2, 1]


def numbers(lab: Lab) -> dict[Any, Any]:
    rows = lab.laboratory.store.results.group_measurements(lab.experiment.id)
    return {(row.subject, row.metric, row.corruption, row.intensity): row.value for row in rows}


@pytest.mark.slow
@pytest.mark.parametrize("place", ["test", "ood", "shift"])
def test_a_sample_that_is_not_finite_somewhere_counts_nowhere_and_moves_no_other(tmp_path: Path, place: str) -> None:
    logits, labels = made()
    arrays = {"test": around(logits), "ood": around(0.5 * logits), "shift": around(0.8 * logits)}
    arrays[place][1, 0, 17, 1] = np.nan  # the first, so that all others would move up
    samples = ms.Samples(arrays["test"], ood={"noise": arrays["ood"]}, shift={("fog", 3): arrays["shift"]})
    lab = ms.analyse(
        logits, labels, samples={"swag": samples}, ood={"noise": 0.5 * logits}, shift={("fog", 3): 0.8 * logits},
        recipe="same", folder=tmp_path, progress=False,
    )  # fmt: skip
    assert {stage.state for stage in lab.stages} == {StageState.SUCCEEDED}
    results = lab.laboratory.results(lab.experiment.slug)
    assert [one.index for one in results.solutions(run=1, method="swag")] == [1, 2]
    read = results.extra("ood", "0/1")
    assert read is not None
    np.testing.assert_array_equal(results.array(read["groups"]["swag"]), arrays["ood"][1, 1:])
    moved = results.extra("shift", "1/swag")
    assert moved is not None
    np.testing.assert_array_equal(results.array(moved["logits"])[:, 1], arrays["shift"][1, 1:])


def test_a_member_that_is_not_finite_on_a_set_that_is_left_aside_has_failed_as_is_said(tmp_path: Path) -> None:
    logits, labels = made()
    other = logits.copy()
    other[2, 5, 0] = np.nan
    lab = analysed(tmp_path, logits, labels, validation=(other, labels), trajectory=np.stack([logits, logits], 1))
    assert "The validation set is left aside" in "".join(lab.odd)
    assert [line for line in lab.odd if line.startswith("Counts as failed: Member 2")]
    assert set(lab.failed) == {2}


@pytest.mark.slow
@pytest.mark.parametrize("rows", [slice(None), slice(0, 100)])
def test_samples_around_a_centre_that_is_not_finite_count_nowhere(tmp_path: Path, rows: slice) -> None:
    logits, labels = made()
    samples, centre = around(logits), logits.copy()
    strength = np.tile(np.linspace(0.1, 1, S), (M, 1))
    centre[1, rows] = np.nan
    lab = analysed(tmp_path, logits, labels, samples={"swag": ms.Samples(samples, strength=strength, centre=centre)})
    assert {stage.state for stage in lab.stages} == {StageState.SUCCEEDED}
    assert [len(lab.solutions(run=run, method="swag")) for run in range(M)] == [S, 0, S, S]
    broken = samples.copy()
    broken[1, :, 0] = np.nan
    whole = ms.Samples(broken, strength=strength, centre=logits)
    same = analysed(tmp_path / "same", logits, labels, samples={"swag": whole})
    assert [(claim.record.word, claim.bar.value) for claim in lab.claims()] == [
        (claim.record.word, claim.bar.value) for claim in same.claims()
    ]


def test_a_member_that_is_not_finite_or_given_twice_counts_as_failed_and_nowhere_else(tmp_path: Path) -> None:
    logits, truth = made(members=6)
    logits[1, 3, 0] = np.nan
    logits[4] = logits[0]
    lab = analysed(tmp_path, logits, truth)
    assert set(lab.failed) == {1, 4}
    assert "member" in lab.failed[4]
    matrix = lab.matrix("disagreement")
    assert matrix is not None
    assert len(matrix.rows) == 4
    assert lab.experiment.provenance is not None
    assert {one["level"] for one in lab.experiment.provenance["odd"]} >= {"failed", "left-out"}


@pytest.mark.slow
def test_what_is_odd_is_told_in_a_notebook_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logits, labels = made()
    moved = logits[:, :300].copy()
    logits[1, 3, 0] = np.nan
    given: dict[str, Any] = {"shift": {("fog", 3): moved}, "recipe": "same", "kind": "logits"}
    lab = ms.analyse(logits, labels, **given, folder=tmp_path, progress=True)
    told = capsys.readouterr().err
    assert [line.partition(":")[0] for line in lab.odd] == ["Counts as failed", "Good to know"]
    assert "shift/fog/3 is left aside" in lab.odd[1]
    for line in lab.odd:
        assert line in told
        assert line in repr(lab)
    assert lab.sentence() in repr(lab)
    assert all(repr(claim) in repr(lab) for claim in lab.claims())
    assert all(len(repr(claim)) < 600 for claim in lab.claims())


@pytest.mark.slow
def test_a_claim_that_cannot_be_told_says_why_in_its_line(tmp_path: Path) -> None:
    lab = ms.analyse(*made(), folder=tmp_path / "unknown", progress=False)
    assert all(claim.record.because in repr(claim) for claim in lab.claims() if claim.record.word is Word.CANNOT_TELL)
    one = ms.open(tmp_path / "unknown").experiment("ensemble")
    assert [str(claim) for claim in one.claims] == [repr(claim) for claim in lab.claims()]
    alone = ms.analyse(made()[0][0], made()[1], folder=tmp_path / "alone", progress=False)
    right = (made()[0][0].argmax(-1) == made()[1]).mean()
    assert alone.sentence() == (
        f"One member alone is compared with nothing; it is right on {100 * right:.2f} % of the test images."
    )
    assert alone.odd[0].startswith("Good to know: There is one member, which can be compared with nothing")
    needs = {one.letter: one.needs for one in alone.unanswered()}
    first = "needs 3 or more members, for one alone is compared with nothing; and "
    assert needs["a"] == f"{first}the weights of every member"
    assert {needs[letter] for letter in ("c", "d1", "e1", "f1")} == {f"{first}samples around every member"}
    assert needs["b"].startswith(first)
    assert needs["g"] == "needs the study of seeds, which it does not have"
    assert [one.letter for one in lab.unanswered()] == [*one_needs(lab)]
    assert all(str(one) in repr(lab) for one in lab.unanswered())


def one_needs(lab: Lab) -> list[str]:
    """The claims of the paper that were not judged."""
    return [letter for letter in CLAIMS if letter not in {one.record.id for one in lab.claims()}]


@pytest.mark.slow
def test_names_of_classes_are_those_of_the_import_and_not_of_an_earlier_one_of_the_same_arrays(tmp_path: Path) -> None:
    logits, truth = made()
    ms.analyse(logits, truth, recipe="same", folder=tmp_path, progress=False)
    names = [f"kind {k}" for k in range(logits.shape[-1])]
    lab = ms.analyse(logits, truth, recipe="same", classes=names, folder=tmp_path, progress=False)
    assert lab.class_names == names
    assert lab.examples().classes == names


@pytest.mark.slow
def test_whole_numbers_are_predicted_labels_where_nobody_said_what_they_are(tmp_path: Path) -> None:
    logits, labels = made()
    lab = ms.analyse(logits.argmax(-1), labels, folder=tmp_path, progress=False)
    assert lab.spec.imported is not None
    assert lab.spec.imported.kind == "labels"
    with pytest.raises(InvalidInput, match="logits"):
        ms.analyse(logits.argmax(-1), labels, kind="logits", folder=tmp_path, progress=False)


def test_arrays_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    logits, truth = made()
    with pytest.raises(InvalidInput, match="labels"):
        ms.analyse(logits, truth[:-1], folder=tmp_path, progress=False)
    with pytest.raises(InvalidInput):
        ms.analyse(logits, truth + K, folder=tmp_path, progress=False)


def test_a_spec_of_an_imported_ensemble_alone_cannot_be_launched(tmp_path: Path) -> None:
    lab = analysed(tmp_path, *made())
    with pytest.raises(InvalidInput, match="do not come with a spec") as refused:
        lab.laboratory.create(lab.experiment.spec, name="again")
    assert [problem.field for problem in refused.value.problems] == ["source"]
    assert "modescape import" in refused.value.problems[0].allowed
    with pytest.raises(InvalidInput, match="imported"):
        lab.laboratory.create({"source": "imported"}, name="nothing")
    with pytest.raises(InvalidInput, match="belongs to an imported ensemble"):
        lab.laboratory.create({"imported": lab.experiment.spec["imported"]}, name="half")


# -- as rows and files -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_its_rows_and_files_are_like_any_others_on_both_databases(tmp_path: Path, store_url: str) -> None:
    logits, truth = made()
    here = started(None, Settings(home=tmp_path, database_url=store_url))
    ensemble = from_arrays(logits, truth, samples={"My method": Samples(around(logits), strength=np.ones((M, S)))},
                           recipe="same", members=["a", "b", "c", "d"])  # fmt: skip
    experiment = bring_in(here.laboratory, ensemble, name="Mine", provenance={"path": "/elsewhere"})
    row = here.laboratory.store.experiments.get(experiment.id)
    assert row.provenance is not None
    assert row.provenance["path"] == "/elsewhere"
    assert [member["id"] for member in row.provenance["members"]] == ["a", "b", "c", "d"]
    files = set(here.laboratory.store.outputs.digests())
    assert files, "what was given belongs to stages before any has run, so that nobody sweeps it away"
    here.laboratory.artifacts.sweep(files, grace_seconds=0)
    lab = here.finish(experiment, progress=False)
    assert lab.experiment.methods == ["my-method"]
    assert lab.spec.method("my-method").title == "My method"
    again = bring_in(here.laboratory, ensemble, name="Mine again")
    assert again.digest == experiment.digest
    json.dumps(lab.experiment.spec)


# -- what others printed of real ones ----------------------------------------------------------------------------------

# Error in per cent, negative log-likelihood and Brier score of the first M of ten published MNIST networks, printed by
# their author.
PRINTED = {
    1: (2.07, 0.074, 0.0313), 2: (1.51, 0.051, 0.0239), 3: (1.43, 0.049, 0.0229),
    5: (1.34, 0.043, 0.0205), 7: (1.27, 0.040, 0.0196), 10: (1.29, 0.040, 0.0192),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3, *(pytest.param(count, marks=pytest.mark.check) for count in (2, 5, 7)), 10])
def test_ten_published_networks_score_as_their_author_printed_to_the_last_digit(tmp_path: Path, count: int) -> None:
    logits, (_, truth) = mnist_logits(), mnist_test()
    lab = analysed(tmp_path, logits[: max(count, 2)], truth)
    if count == 1:
        error, nll, brier = (lab.scores(metric, "test")[0] for metric in ("accuracy", "nll", "brier"))
    else:
        error, nll, brier = (
            group(lab, f"ensemble/independent/{count}", metric) for metric in ("accuracy", "nll", "brier")
        )
    assert (round(100 * (1 - error), 2), round(nll, 3), round(brier, 4)) == PRINTED[count]
    if count == 10:
        matrix = lab.matrix("disagreement")
        assert matrix is not None
        assert round(matrix.values[np.triu_indices(10, 1)].mean(), 5) == 0.02054


@pytest.mark.slow
@pytest.mark.parametrize("what", ["samples", "trajectory"])
def test_a_validation_set_that_not_everything_was_evaluated_on_is_left_aside_and_that_is_said(
    what: str, tmp_path: Path
) -> None:
    logits, truth = made()
    held, held_truth = made(5)
    along = ([1, 2], np.stack([logits, logits], axis=1))
    given: dict[str, Any] = {"samples": {"swag": around(logits)}} if what == "samples" else {"trajectory": along}
    lab = analysed(tmp_path, logits, truth, validation=(held, held_truth), **given)
    assert list(lab.spec.evaluation.splits) == ["test"]
    said = [one["sentence"] for one in (lab.experiment.provenance or {})["odd"]]
    assert any(one.startswith("The validation set is left aside") and what in one for one in said)
    roles = {solution.role for solution in lab.solutions()}
    assert ("sample" if what == "samples" else "checkpoint") in roles


@pytest.mark.slow
def test_figures_of_labels_alone_show_what_labels_tell_and_name_what_they_do_not(tmp_path: Path) -> None:
    logits, truth = made()
    lab = analysed(tmp_path, logits.argmax(-1), truth, kind="labels")
    data = figures["ensembles"].call(lab, figures["ensembles"].options())
    assert data.options.panel == "accuracy"
    lab.figure("ensembles")
    lacks = {"reliability": "how sure a label is needs probabilities", "trajectories": "needs checkpoints along"}
    for name, lacking in lacks.items():
        with pytest.raises(FigureNotReady, match=lacking) as waiting:
            lab.figure(name)
        assert waiting.value.closed
