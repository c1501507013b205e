"""Shifted sets with images of their own (CIFAR-10.1) are drawn independently of the test images: variances add."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from real_data import real
from scipy import stats
from sklearn.datasets import load_digits

import modescape as ms
from modescape import own_sets
from modescape.claims.evidence import OwnImages, ShiftEvidence
from modescape.claims.judging import judge
from modescape.database import upgrade
from modescape.datasets.dataset import DataLocation, dataset
from modescape.datasets.here import describe
from modescape.errors import InvalidInput
from modescape.example_list import sets_of
from modescape.exporting import ensemble_of
from modescape.imported.containers import values
from modescape.imported.reading import read
from modescape.importing import bring_in
from modescape.laboratory import Lab, started
from modescape.plan import prepare
from modescape.records import StageState
from modescape.registry import datasets, figures
from modescape.science.data.raw import RawData
from modescape.settings import Settings
from modescape.spec import parse
from modescape.spec_parts import DataSpec, keyed
from modescape.stages import KINDS
from modescape.stages.stage import Task
from modescape.store import Store
from modescape.studies.ood.images import title
from modescape.studies.shift.others import images_of, looked_at
from modescape.study import OtherSet
from modescape.testing.evidence import made_shift

pytestmark = pytest.mark.usefixtures("few_redraws")

Floats = NDArray[np.float64]
Arrays = NDArray[Any]

M, S, N, OTHER, K = 4, 4, 1200, 700, 6


def interval(value: float, left_out: Sequence[float], influences: Sequence[Floats]) -> tuple[float, float, float]:
    """science o.2 by hand: a jackknife over runs, and for every set that was drawn by itself the variance of a mean."""
    n = len(left_out)
    of_runs = (n - 1) / n * float(np.square(np.array(left_out) - np.mean(left_out)).sum())
    of_images = sum(float(one.var()) / len(one) for one in influences)
    half = float(stats.t.ppf(0.975, n - 1)) * np.sqrt(of_runs + of_images)
    return value, value - half, value + half


def without(runs: int) -> list[list[int]]:
    return [[i for i in range(runs) if i != out] for out in range(runs)]


# -- claim (f2) --------------------------------------------------------------------------------------------------------


def half_elsewhere(evidence: ShiftEvidence, images: int = 300) -> ShiftEvidence:
    """Half of the mean under shift is over a set of other images."""
    other = made_shift(3.0, seed=5)
    own = OwnImages(0.5 * other.shifted_between[..., :images],
                    {name: 0.5 * rows[:, :images] for name, rows in other.shifted_within.items()})  # fmt: skip
    return replace(
        evidence,
        shifted_between=0.5 * evidence.shifted_between,
        shifted_within={name: 0.5 * rows for name, rows in evidence.shifted_within.items()},
        own={"new": own},
        over="the mean over fog 3, new (300 images of its own, drawn independently)",
    )


def test_under_shift_the_variances_of_other_images_and_of_test_images_add() -> None:
    evidence = half_elsewhere(made_shift())
    (claim,) = judge(evidence)
    own = evidence.own["new"]

    def lead(between: Floats, within: Floats, runs: Sequence[int]) -> Floats:
        pairs = [between[i, j] for i, j in itertools.combinations(runs, 2)]
        return np.asarray(np.mean(pairs, axis=0) - within[list(runs)].mean(axis=0))

    def on_test(runs: Sequence[int]) -> Floats:
        shifted = lead(evidence.shifted_between, evidence.shifted_within["random"], runs)
        return shifted - 1.1 * lead(evidence.clean_between, evidence.clean_within["random"], runs)

    def elsewhere(runs: Sequence[int]) -> Floats:
        return lead(own.between, own.within["random"], runs)

    n = evidence.units
    values = [float(on_test(runs).mean() + elsewhere(runs).mean()) for runs in (range(n), *without(n))]
    expected = interval(values[0], values[1:], [on_test(range(n)), elsewhere(range(n))])
    assert (claim.estimate, claim.low, claim.high) == pytest.approx(expected, abs=1e-6)
    assert claim.because.endswith("under shift: the mean over fog 3, new (300 images of its own, drawn independently)")


def test_evidence_without_a_run_is_without_it_on_other_images_too() -> None:
    less = half_elsewhere(made_shift()).without(1)
    assert less.own["new"].between.shape[:2] == (less.units, less.units)
    assert len(less.own["new"].within["random"]) == less.units
    assert judge(less)


# -- what comes in -----------------------------------------------------------------------------------------------------


def members(seed: int, images: int, skill: float = 2.2) -> tuple[Arrays, Arrays]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, K, images)
    logits = 0.8 * rng.normal(size=(images, K)) + rng.normal(size=(M, images, K)) + skill * np.eye(K)[truth]
    return logits.astype(np.float32), truth


def around(logits: Arrays, seed: int) -> Arrays:
    rng = np.random.default_rng(seed)
    return (logits[:, None] + 0.4 * rng.normal(size=(M, S, *logits.shape[1:]))).astype(np.float32)


def analysed(folder: Path, *, fog: bool = True, **given: Any) -> Lab:
    (here, truth), (there, other) = members(0, N), members(1, OTHER, 1.4)
    changed = here + np.float32(0.5) * members(2, N, 0.0)[0]
    shift: dict[Any, Any] = {("CIFAR-10.1", 1): (there, other), **({("fog", 3): changed} if fog else {})}
    drawn = {("CIFAR-10.1", 1): around(there, 3), **({("fog", 3): around(changed, 4)} if fog else {})}
    lab = ms.analyse(
        here, truth, shift=shift, samples={"swag": ms.Samples(around(here, 5), shift=drawn)}, folder=folder,
        progress=False, **{"recipe": "same", **given},
    )  # fmt: skip
    stopped = [f"{s.kind}/{s.key}: {s.error}" for s in lab.stages if s.state != StageState.SUCCEEDED]
    assert not stopped
    return lab


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("modescape.science.isotonic.REDRAWS", 600)
        return analysed(tmp_path_factory.mktemp("own") / "home")


def row(lab: Lab, metric: str, subject: str = "shift/independent/1", corruption: str = "cifar-10-1") -> Any:
    (found,) = [m for m in lab.shifted(metric, by_type=True) if (m.subject, m.corruption) == (subject, corruption)]
    return found


@pytest.mark.slow
def test_a_set_with_images_of_its_own_is_scored_on_its_own_labels(lab: Lab) -> None:
    there, other = members(1, OTHER, 1.4)
    odds = np.exp(there.astype(float) - there.max(-1, keepdims=True))
    odds /= odds.sum(-1, keepdims=True)
    found = row(lab, "accuracy")
    assert (found.n, found.details["own"]) == (OTHER, True)
    assert found.value == pytest.approx((there.argmax(-1) == other).mean(), abs=1e-12)
    together = row(lab, "brier", f"shift/independent/{M}")
    expected = np.square(odds.mean(0) - np.eye(K)[other]).sum(-1).mean()
    assert together.value == pytest.approx(expected, abs=1e-9)
    by_intensity = {m.intensity: m.value for m in lab.shifted("accuracy") if m.subject == "shift/independent/1"}
    assert set(by_intensity) == {0, 1, 3}, "where nothing but other images has that intensity they stand for it"


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["same", "unknown"])
def test_a_change_between_sets_that_were_drawn_independently_has_the_variances_of_both(
    recipe: str, lab: Lab, tmp_path: Path
) -> None:
    lab = lab if recipe == "same" else analysed(tmp_path, recipe=recipe)
    (here, truth), (there, other) = members(0, N), members(1, OTHER, 1.4)
    right = here.argmax(-1) == truth, there.argmax(-1) == other
    pairs = list(itertools.combinations(range(M), 2))
    apart = [np.array([x[i] != x[j] for i, j in pairs]) for x in (here.argmax(-1), there.argmax(-1))]
    of_runs: dict[str, list[list[Arrays]]] = {
        "accuracy-change": [[x[runs] for x in right] for runs in ([*range(M)], *without(M))],
        "disagreement-change": [
            [x[[k for k, (i, j) in enumerate(pairs) if i in runs and j in runs]] for x in apart]
            for runs in ([*range(M)], *without(M))
        ],
    }
    for metric, parts in of_runs.items():
        values = [float(b.mean() - a.mean()) for a, b in parts]
        influences = [x.mean(axis=0) for x in parts[0]]
        found = row(lab, metric)
        assert found.value == pytest.approx(values[0], abs=1e-12)
        if recipe == "same":
            expected = interval(values[0], values[1:], influences)
        else:  # of these members, over images alone
            error = np.sqrt(sum(one.var() / len(one) for one in influences))
            expected = (values[0], values[0] - stats.norm.ppf(0.975) * error, values[0] + stats.norm.ppf(0.975) * error)
        assert (found.details["low"], found.details["high"]) == pytest.approx(expected[1:], abs=2e-6)
        assert found.details["images_only"] is (recipe != "same")
        assert found.details["title"] == "CIFAR-10.1"


@pytest.mark.slow
@pytest.mark.parametrize("fog", [True, False])
def test_the_claim_under_shift_averages_over_what_was_given_and_names_it(fog: bool, lab: Lab, tmp_path: Path) -> None:
    lab = lab if fog else analysed(tmp_path, fog=False)
    (told,) = [one.record for one in lab.claims() if one.record.id == "f2"]
    own = "CIFAR-10.1 (700 images of its own, drawn independently)"
    assert told.because.endswith(f"under shift: the mean over {'fog 3, ' if fog else ''}{own}")
    assert told.estimate is not None


@pytest.mark.slow
def test_figures_of_shift_show_sets_with_images_of_their_own(lab: Lab) -> None:
    data = figures["shift"].call(lab, figures["shift"].options())
    words = figures["shift"].tell(data)
    said = " ".join(words.notes.text)
    assert "On CIFAR-10.1, 700 images of its own, single members are right on " in said
    assert "of the test images: −" in said
    types = figures["shift-types"].call(lab, figures["shift-types"].options())
    assert set(types.types) == {"cifar-10-1", "fog"}
    for name in ("shift", "shift-types"):
        for options in ({}, {"corruption": "cifar-10-1"}, {"corruption": "fog,cifar-10-1"}):
            lab.figure(name, **options)


def test_a_shifted_set_of_other_images_without_labels_is_said_to_be_left_aside(tmp_path: Path) -> None:
    (here, truth), (there, _) = members(0, N), members(1, OTHER)
    lab = ms.analyse(here, truth, shift={("new", 1): there}, recipe="same", folder=tmp_path, progress=False)
    assert lab.spec.shift is None
    assert lab.experiment.provenance is not None
    (said,) = [one["sentence"] for one in lab.experiment.provenance["odd"] if one["what"] == "aside"]
    assert said.startswith("shift/new/1 is left aside: its images are not the test images, and it has no labels")


# -- what others counted of real ones ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_thirty_published_models_lose_on_cifar_10_1_what_their_labels_say(tmp_path: Path) -> None:
    kept = np.load(real("real/cifar10.1-testbed") / "cifar10.1-testbed-label-predictions.npz")
    sets = {name: (kept[f"{key}_labels_predicted"], kept[f"{key}_labels_true"])
            for name, key in (("test", "original"), ("v4", "v4"), ("v6", "v6"))}  # fmt: skip
    lab = ms.analyse(
        *sets["test"], kind="labels", recipe="different", folder=tmp_path, progress=False,
        shift={("CIFAR-10.1 v4", 1): sets["v4"], ("CIFAR-10.1 v6", 1): sets["v6"]},
    )  # fmt: skip
    here = sets["test"][0] == sets["test"][1]
    for name in ("v4", "v6"):
        there = sets[name][0] == sets[name][1]
        found = row(lab, "accuracy-change", corruption=f"cifar-10-1-{name}")
        assert found.n == there.shape[1]
        assert (found.details["here"], found.details["there"]) == pytest.approx((here.mean(), there.mean()), abs=1e-12)
        error = np.sqrt(here.mean(0).var() / here.shape[1] + there.mean(0).var() / there.shape[1])
        assert found.details["error"] == pytest.approx(error, abs=1e-6)
        assert found.details["high"] < 0, "every model of the test bed lost accuracy there"


# -- sets of one's own, for networks that are trained here -------------------------------------------------------------


@pytest.fixture
def faded() -> Iterator[str]:
    """A registered set with the classes of digits: some of its images, turned and darkened."""
    before = dict(datasets.here)

    @dataset("faded", title="Faded digits", source="a test", channels=1, height=8, width=8,
             classes=tuple("0123456789"), train_total=20, test_total=150, validation_default=5)  # fmt: skip
    def made(location: DataLocation, spec: DataSpec) -> RawData:
        """Digits of scikit-learn, darker."""
        pixels, labels = load_digits(return_X_y=True)
        images = (pixels[:170].reshape(-1, 1, 8, 8) * 9).astype(np.uint8).swapaxes(2, 3).copy()
        return RawData(images[:20], labels[:20], images[20:], labels[20:170], tuple("0123456789"))

    yield "faded"
    datasets.keep(before)


SPEC: dict[str, Any] = {
    "data": {
        "dataset": "digits",
        "train_images": 300,
        "validation_images": 50,
        "test_images": 300,
        "input_scale": "standardised",
    },
    "network": {"architecture": "mlp", "options": {"first": 16, "second": 12}},
    "training": {"epochs": 5, "batch_size": 20, "learning_rate": 0.005, "snapshots": 4},
    "ensemble": {"runs": 3},
    "methods": [{"method": "random", "spread": 0, "typical": 3}],
    "evaluation": {"embed_images": 20},
    "shift": {"corruptions": ["contrast"], "images": 60, "members": 2, "others": ["faded"]},
}


@pytest.mark.slow
def test_trained_networks_are_asked_about_a_labelled_set_of_other_images(faded: str, tmp_path: Path) -> None:
    lab = ms.run(SPEC, folder=tmp_path, progress=False)
    stopped = [f"{s.kind}/{s.key}: {s.error}" for s in lab.stages if s.state != StageState.SUCCEEDED]
    assert not stopped
    found = row(lab, "accuracy-change", corruption=faded)
    assert (found.n, found.details["title"]) == (150, "Faded digits")
    (first,) = [s.result["extra"] for s in lab.stages if (s.kind, s.key) == ("shift", "0/optimum")]
    kept = first["own"][0]
    truth = load_digits().target[20:170]
    np.testing.assert_array_equal(lab.array(kept["labels"]), truth)
    scores = []
    for run in range(3):
        (one,) = [s.result["extra"]["own"][0] for s in lab.stages if (s.kind, s.key) == ("shift", f"{run}/optimum")]
        scores.append((lab.array(one["logits"])[0, 0].argmax(-1) == truth).mean())
    assert found.details["there"] == pytest.approx(np.mean(scores), abs=1e-12)
    (told,) = [one.record for one in lab.claims() if one.record.id == "f2"]
    assert "Faded digits (150 images of its own, drawn independently)" in told.because
    said = " ".join(figures["shift"].tell(figures["shift"].call(lab, figures["shift"].options())).notes.text)
    assert "On Faded digits, 150 images of its own, single runs are right on " in said
    lab.figure("shift-types")


def test_an_experiment_without_other_images_is_the_one_it_was_before_there_were_any() -> None:
    without_others = {**SPEC, "shift": {key: value for key, value in SPEC["shift"].items() if key != "others"}}
    named = {**SPEC, "shift": {**SPEC["shift"], "others": []}}
    assert parse(without_others).digest() == parse(named).digest()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("digits", "is what the networks are trained on"),
        ("nowhere", "is no set with a name"),
        ("fashion-mnist", "the images of Fashion-MNIST are 1 x 28 x 28, the networks see 1 x 8 x 8"),
    ],
)
def test_other_images_that_no_network_can_be_asked_about_are_refused(name: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as refused:
        ms.run({**SPEC, "shift": {**SPEC["shift"], "others": [name]}}, folder=tmp_path, progress=False)
    (problem,) = refused.value.problems
    assert said in problem.message
    assert problem.field == "shift.others"


# -- a user's own files ------------------------------------------------------------------------------------------------


def written(folder: Path) -> dict[str, dict[str, Any]]:
    """An .npz file of digits, turned, and a folder of pictures without the last class: as specs name them."""
    pixels, labels = load_digits(return_X_y=True)
    images = (pixels.reshape(-1, 8, 8) * 15).astype(np.uint8)
    np.savez(folder / "turned.npz", images=images[:200].swapaxes(1, 2), labels=labels[:200])
    for i in np.flatnonzero(labels[:150] < 9):
        (folder / "pictures" / str(labels[i])).mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[i]).save(folder / "pictures" / str(labels[i]) / f"{i}.png")
    return {
        "turned": {"dataset": "npz", "path": str(folder / "turned.npz"), "name": "Turned, by hand"},
        "pictures": {"dataset": "folder", "path": str(folder / "pictures")},
    }


def with_others(*others: Any) -> dict[str, Any]:
    return {**SPEC, "shift": {**SPEC["shift"], "others": list(others)}}


@pytest.mark.slow
def test_trained_networks_are_asked_about_own_files_by_the_name_they_are_registered_under(tmp_path: Path) -> None:
    own = written(tmp_path)
    (tmp_path / "home").mkdir()
    settings = Settings(home=tmp_path / "home")
    upgrade(settings.database)
    store = Store(settings.database)
    store.own_sets.register("Turned, by hand", {"dataset": "npz", "where": own["turned"]["path"]})
    lab = ms.run(with_others("Turned, by hand", own["pictures"]), folder=tmp_path / "home", progress=False)
    stopped = [f"{s.kind}/{s.key}: {s.error}" for s in lab.stages if s.state != StageState.SUCCEEDED]
    assert not stopped
    assert ("look", "shift.others.1") in {(s.kind, s.key) for s in lab.stages}, "every picture is decoded first"
    truth = load_digits().target
    found = row(lab, "accuracy-change", corruption="turned-by-hand")
    assert (found.n, found.details["title"]) == (200, "Turned, by hand"), "all of a set without splits"
    kept = next(s.result["extra"]["own"] for s in lab.stages if (s.kind, s.key) == ("shift", "1/optimum"))
    np.testing.assert_array_equal(np.bincount(lab.array(kept[0]["labels"])), np.bincount(truth[:200]))
    np.testing.assert_array_equal(np.bincount(lab.array(kept[1]["labels"])), np.bincount(truth[:150])[:9])
    # the pictures are digits as they are, of which all but the last networks knew half: right far above chance
    assert row(lab, "accuracy-change", corruption="pictures").details["there"] > 0.4
    said = figures["shift-types"].tell(figures["shift-types"].call(lab, figures["shift-types"].options()))
    assert "Turned, by hand: 200 images of its own" in said.caption
    table = figures["shift-types"].call(lab, figures["shift-types"].options())
    assert {row[0] for row in table.rows()} >= {"Turned, by hand", "pictures"}
    assert "turned-by-hand" not in {row[0] for row in table.rows()}, "as the page and the export have it"
    listed = {one.name: (one.title, one.examples) for one in sets_of(lab)}
    assert listed["shift/turned-by-hand/1"] == ("Turned, by hand", 200)
    assert listed["shift/pictures/1"] == ("pictures", (truth[:150] < 9).sum())
    file = np.load(own["turned"]["path"])
    label_of = {image.tobytes(): label for image, label in zip(file["images"], file["labels"], strict=True)}
    turned = lab.examples("shift/turned-by-hand/1")
    assert [label_of[turned.picture(i).tobytes()] for i in range(200)] == turned.labels.tolist(), "each its own picture"
    np.testing.assert_array_equal(turned.votes[:, 1], lab.array(kept[0]["logits"])[0, 0].argmax(-1))
    assert (lab.examples("shift/pictures/1").pictures, lab.examples("shift/pictures/1").unpictured) == (135, "")
    exported = ensemble_of(lab.laboratory.results(lab.experiment.slug)).sets["shift/Turned, by hand/1"]
    assert exported.labels is not None
    assert exported.has_own_images
    np.testing.assert_array_equal(exported.labels, lab.array(kept[0]["labels"]))
    np.testing.assert_array_equal(values(exported.outputs)[1], lab.array(kept[0]["logits"])[0, 0])


@pytest.mark.slow
def test_images_of_their_own_are_shown_and_counted_of_members_made_elsewhere(tmp_path: Path) -> None:
    """One set with pictures at no intensity, and one that is graded, by hand."""
    rng = np.random.default_rng(0)
    counts = {"test": 60, "street": 50, "night": 40, "dusk": 30}
    truth = {name: rng.integers(0, 4, count) for name, count in counts.items()}
    said = {
        name: (rng.normal(size=(3, len(y), 4)) + 2 * np.eye(4)[y][None]).astype(np.float32) for name, y in truth.items()
    }
    pictures = rng.integers(0, 256, (50, 3, 8, 8), dtype=np.uint8)
    cells = {("street", 1): "street", ("dark", 1): "dusk", ("dark", 2): "night"}
    for name, array in (("test", "test"), *((f"shift/{kind}/{i}", one) for (kind, i), one in cells.items())):
        (tmp_path / "e" / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "e" / f"{name}.logits.npy", said[array])
        np.save(tmp_path / "e" / f"{name}.labels.npy", truth[array])
    (tmp_path / "e" / "images" / "shift" / "street").mkdir(parents=True)
    np.save(tmp_path / "e" / "images" / "shift" / "street" / "1.npy", pictures)
    here = started(tmp_path / "home", None)
    lab = here.finish(bring_in(here.laboratory, read(tmp_path / "e"), name="e"), progress=False)
    assert {one.name: (one.title, one.examples) for one in sets_of(lab)} == {
        "test": ("test", 60), "shift/street/1": ("street", 50), "shift/dark/1": ("dark 1", 30),
        "shift/dark/2": ("dark 2", 40),
    }  # fmt: skip
    for (kind, i), name in cells.items():
        shown = lab.examples(f"shift/{kind}/{i}")
        np.testing.assert_array_equal(shown.labels, truth[name])
        np.testing.assert_array_equal(shown.votes.T, said[name].argmax(-1))
    np.testing.assert_array_equal(lab.examples("shift/street/1").picture(49), pictures[49])
    assert lab.examples("shift/dark/2").unpictured == "no images came with this ensemble"
    data = figures["shift-types"].call(lab, figures["shift-types"].options())
    words = figures["shift-types"].tell(data)
    assert "60 test images. " in words.caption
    for one in ("street: 50 images of its own", "dark: 30 and 40 images of its own by intensity"):
        assert one in words.caption
    at = [data.columns.index(name) for name in ("corruption", "intensity", "images")]
    assert {tuple(row[i] for i in at) for row in data.rows()} == {
        ("street", 0, 60), ("street", None, 50), ("dark", 0, 60), ("dark", 1, 30), ("dark", 2, 40),
    }  # fmt: skip


@pytest.mark.slow
def test_own_images_of_another_kind_are_called_what_they_are_registered_as(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "odd.npz", images=rng.integers(0, 256, (40, 8, 8), dtype=np.uint8))
    (tmp_path / "home").mkdir()
    settings = Settings(home=tmp_path / "home")
    upgrade(settings.database)
    Store(settings.database).own_sets.register("Odd, shuffled", {"dataset": "npz", "where": str(tmp_path / "odd.npz")})
    asked = {**SPEC, "shift": None, "ood": [{"dataset": "Odd, shuffled", "members": 2}]}
    lab = ms.run(asked, folder=tmp_path / "home", progress=False)
    assert (lab.spec.ood[0].path, lab.spec.ood[0].name) == (str(tmp_path / "odd.npz"), "Odd, shuffled")
    for name in ("ood", "ood-entropy"):
        entry = figures[name]
        data = entry.call(lab, entry.options())
        said = entry.tell(data)
        words = " ".join([said.caption, said.summary, repr(said.notes), entry.draw(data, "light").to_json()])
        assert "Odd, shuffled" in words
        assert not re.search(r"\bodd\b", words), name
        assert entry.options.choices(lab) == {"ood": {"0": "Odd, shuffled"}}
    assert {one.name: one.title for one in sets_of(lab)}["ood/0"] == "Odd, shuffled"
    assert "ood/Odd, shuffled" in ensemble_of(lab.laboratory.results(lab.experiment.slug)).sets


def test_a_name_is_for_own_images_and_moves_no_experiment_without_one(tmp_path: Path) -> None:
    place = {"dataset": "npz", "path": str(tmp_path / "odd.npz")}
    plain = parse({"ood": [place]})
    assert plain.digest() == parse({"ood": [{**place, "name": ""}]}).digest()
    assert "name" not in keyed(plain)["ood"][0]
    assert title(plain.ood[0]) == "odd"
    assert title(parse({"ood": [{**place, "name": "Odd, shuffled"}]}).ood[0]) == "Odd, shuffled"
    sets = {"Odd, shuffled": {"dataset": "npz", "where": place["path"]}}
    (asked,) = own_sets.named({"ood": [{"dataset": "Odd, shuffled", "name": "mine"}]}, sets)["ood"]
    assert asked == {**place, "name": "mine"}
    (unnamed,) = own_sets.named({"ood": [place]}, sets)["ood"]
    assert unnamed == place, "a place stays as it was given"
    with pytest.raises(InvalidInput) as refused:
        parse({"ood": [{"dataset": "uniform-noise", "name": "Odd"}]})
    assert [one.field for one in refused.value.problems] == ["ood.0.name"]


def test_own_files_decide_what_is_promised_and_no_other_experiment_moves(tmp_path: Path) -> None:
    own = written(tmp_path)
    first = prepare(with_others(own["turned"]), ())
    written(tmp_path)  # other bytes under the same name: the time in the archive
    np.savez(tmp_path / "turned.npz", images=np.full((200, 8, 8), 9, np.uint8), labels=np.arange(200) % 10)
    second = prepare(with_others(own["turned"]), ())
    assert first.spec.digest() != second.spec.digest()
    decided = []
    for one in (first, second):
        planned = next(stage for stage in one.plan.stages if (stage.kind, stage.key) == ("shift", "0/optimum"))
        decided.append(KINDS["shift"].parts(Task("shift", planned.key, planned.params, one.spec)))
    assert decided[0] != decided[1], "other files, another stage"


def test_own_files_that_no_network_can_be_asked_about_are_refused(tmp_path: Path) -> None:
    own = written(tmp_path)
    for place in ("cats", "dogs"):
        (tmp_path / "pets" / place).mkdir(parents=True)
        for i in range(6):
            Image.fromarray(np.full((8, 8), 9 * i, np.uint8)).save(tmp_path / "pets" / place / f"{i}.png")
    pets = {"dataset": "folder", "path": str(tmp_path / "pets")}
    large = tmp_path / "large.npz"
    np.savez(large, images=np.zeros((40, 9, 9), np.uint8), labels=np.arange(40) % 10)
    cases = [
        (with_others(pets), "the networks know no class 'cats', which pets has"),
        (with_others({"dataset": "npz", "path": str(large)}), "the images of large are 1 x 9 x 9, the networks see"),
        (with_others({"dataset": "npz", "path": str(tmp_path / "gone.npz")}), "there is no"),
        (with_others(own["turned"], {**own["turned"], "path": str(large)}), "Turned, by hand is there already"),
        (with_others({**own["turned"], "name": "Contrast"}), "Contrast is the name of a corruption, and types"),
        (with_others({**own["turned"], "colour": 1}), "colour"),
        (with_others({"dataset": "table", "path": "x.csv"}), "table"),
    ]
    colour = tmp_path / "colour.npz"
    np.savez(colour, images=np.zeros((40, 8, 8, 3), np.uint8), labels=np.arange(40) % 10)
    cases.append((with_others({"dataset": "npz", "path": str(colour)}), "are 3 x 8 x 8, the networks see 1 x 8 x 8"))
    for document, said in cases:
        with pytest.raises(InvalidInput) as refused:
            prepare(document, ())
        (problem,) = refused.value.problems
        assert said in str(problem), str(problem)
        assert ("data.image_size" in problem.allowed) == ("1 x 9 x 9" in said), "no scaling takes colours away"
        assert problem.field.startswith("shift.others"), problem.field


def test_classes_are_the_same_however_their_accents_are_written_and_by_name_in_any_order(tmp_path: Path) -> None:
    trained = ("\u00e9l\u00e9phant", "\u00e2ne", "zebra")  # composed
    for place in ("zebra", "a\u0302ne"):  # decomposed, as a Mac writes names; one is missing
        (tmp_path / "others" / place).mkdir(parents=True)
        for i in range(6):
            level = (100 if place == "zebra" else 0) + i
            Image.fromarray(np.full((8, 8), level, np.uint8)).save(tmp_path / "others" / place / f"{i}.png")
    other = OtherSet("others", "others", DataSpec(dataset="folder", path=f"{tmp_path}/others", validation_images=0))
    own = describe(other.data, ())
    assert looked_at(other, replace(own, classes=trained), ()) == own.fingerprint
    parts = [(part.rows(0, len(part)).numpy(), labels) for part, labels in images_of(other, trained, ())]
    levels, truth = np.concatenate([one[:, 0, 0, 0] for one, _ in parts]), np.concatenate([one for _, one in parts])
    assert np.bincount(truth).tolist() == [0, 6, 6]
    assert np.array_equal(truth, np.where(levels >= 100, 2, 1))
    with pytest.raises(InvalidInput, match="the networks know no class 'zebra'"):
        looked_at(other, replace(own, classes=("\u00e2ne", "Zebra")), ())


def test_a_name_with_commas_is_one_name_as_a_form_takes_it_apart() -> None:
    sets = {"Noisy, 2026, v2": {"dataset": "npz", "where": "/data/n.npz"}, "Noisy": {"dataset": "npz", "where": "/n"}}
    asked = {"shift": {"others": ["digits", "Noisy", "Turned", "2026"]}}
    with pytest.raises(InvalidInput, match="no data set is called 'Turned'"):
        own_sets.named(asked, sets)
    sets = {"Noisy, 2026, v2": sets["Noisy, 2026, v2"]}
    asked = {"shift": {"others": ["digits", "Noisy", "2026", "v2", "mnist"]}}
    assert own_sets.named(asked, sets)["shift"]["others"] == [
        "digits", {"dataset": "npz", "path": "/data/n.npz", "name": "Noisy, 2026, v2"}, "mnist"
    ]  # fmt: skip
    sets = {"Noisy,2026": sets["Noisy, 2026, v2"]}
    (found,) = own_sets.named({"shift": {"others": ["Noisy", "2026"]}}, sets)["shift"]["others"]
    assert found["name"] == "Noisy,2026", "a form takes spaces away, too"
