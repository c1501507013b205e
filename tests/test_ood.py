"""Images of another kind: scores against scikit-learn, conversions by hand, the stages by the real executor."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from drawn import told
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from modescape.database import upgrade
from modescape.datasets.dataset import DataLocation
from modescape.datasets.here import describe
from modescape.datasets.loading import load
from modescape.drawing import style
from modescape.drawing.figure import csv, encode
from modescape.drawing.reading import FigureNotReady
from modescape.drawing.style import THEMES
from modescape.errors import DataCorrupt, DataMissing, InvalidInput, StageInterrupted
from modescape.executor import Executor
from modescape.laboratory import Lab, Laboratory, run
from modescape.plan import plan, prepare
from modescape.records import DataInfo
from modescape.registry import datasets, figures, presets
from modescape.science.data import Shape
from modescape.science.ood import SCORES, Together, detection, entropy_counts, entropy_edges, noticed
from modescape.science.predictions import ActivationMask
from modescape.settings import Settings
from modescape.spec import parse
from modescape.spec_parts import SYNTHETIC, DataSpec
from modescape.stages.around import Around
from modescape.studies.ood import stages as ood
from modescape.studies.ood.images import available, count_images, fitted, outside_images, resizing, title
from modescape.studies.ood.stages import _subsets
from modescape.studies.ood.study import OodSpec
from modescape.tables import Solution, Stage
from modescape.voice import HERE
from modescape_api.pages import forms

GRAY, COLOUR = Shape(1, 28, 28, 10), Shape(3, 32, 32, 10)
TEST = np.random.default_rng(0).integers(0, 256, (60, 3, 32, 32), dtype=np.uint8)
FASHION = DataInfo(1, 28, 28, tuple("abcdefghij"), 60_000, 10_000, 5_000)
CIFAR = DataInfo(3, 32, 32, tuple("abcdefghij"), 50_000, 10_000, 500)


# ---- scores ----


@pytest.mark.parametrize("seed", range(40))
def test_detection_equals_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    digits = seed % 4  # with few digits there are many ties, as saturated predictions give
    outside = random.normal(0.7, 1, random.integers(2, 400)).round(digits)
    inside = random.normal(0, 1, random.integers(2, 400)).round(digits)
    truth = np.r_[np.ones(len(outside)), np.zeros(len(inside))]
    values = np.r_[outside, inside]
    found = detection(outside, inside)
    fpr, tpr, _ = roc_curve(truth, values, drop_intermediate=False)
    assert found.auroc == pytest.approx(roc_auc_score(truth, values), abs=1e-9)
    assert found.fpr95 == pytest.approx(fpr[np.argmax(tpr >= 0.95)], abs=1e-9)
    assert found.aupr_out == pytest.approx(average_precision_score(truth, values), abs=1e-9)
    assert found.aupr_in == pytest.approx(average_precision_score(1 - truth, -values), abs=1e-9)


def test_equal_scores_are_chance() -> None:
    found = detection(np.zeros(30), np.zeros(70))
    assert (found.auroc, found.fpr95, found.aupr_out, found.aupr_in) == (0.5, 1.0, 0.3, 0.7)
    perfect = detection(np.array([2.0, 3.0]), np.array([0.0, 1.0]))
    assert (perfect.auroc, perfect.fpr95, perfect.aupr_out, perfect.aupr_in) == (1.0, 0.0, 1.0, 1.0)


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    values = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return np.asarray(values / values.sum(-1, keepdims=True))


def entropy(p: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(-(p * np.log(np.maximum(p, 1e-300))).sum(-1))  # 0 log 0 is 0


def test_scores_of_several_members() -> None:
    logits = np.random.default_rng(1).normal(0, 2, (4, 50, 6)).astype(np.float32)
    together = Together()
    for member in logits:
        together.add(member)
    p = softmax(logits)
    mean, middle = p.mean(0), logits.astype(np.float64).mean(0)
    expected = {
        "entropy": entropy(mean),
        "max-probability": 1 - mean.max(1),
        "mutual-information": entropy(mean) - entropy(p).mean(0),
        "max-logit": -middle.max(1),
        "energy": -np.log(np.exp(middle).sum(1)),
    }
    assert set(expected) == set(SCORES)
    for name in SCORES:
        np.testing.assert_allclose(together.score(name), expected[name], atol=1e-12)
    [told], _ = noticed([list(logits)])
    assert told.members == 4
    assert told.js_mean == pytest.approx(expected["mutual-information"].mean(), abs=1e-12)


def test_runs_count_the_same_however_many_samples_they_have() -> None:
    logits = np.random.default_rng(2).normal(0, 2, (3, 20, 4))
    few, many, all_runs = Together(), Together(), Together()
    few.add(logits[0])
    many.add(logits[1])
    many.add(logits[2])
    all_runs.merge(few)
    all_runs.merge(many)
    p = softmax(logits)
    mean = (p[0] + (p[1] + p[2]) / 2) / 2
    np.testing.assert_allclose(all_runs.probabilities, mean, atol=1e-12)
    own = (entropy(p[0]) + (entropy(p[1]) + entropy(p[2])) / 2) / 2
    np.testing.assert_allclose(all_runs.score("mutual-information"), entropy(mean) - own, atol=1e-12)
    middle = (logits[0] + (logits[1] + logits[2]) / 2) / 2
    np.testing.assert_allclose(all_runs.score("max-logit"), -middle.max(1), atol=1e-12)


def test_what_is_noticed_in_blocks_is_what_all_images_say_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = np.random.default_rng(3).normal(0, 2, (3, 100, 4))
    runs = [[logits[0]], [logits[1], logits[2]]]
    each, whole = noticed(runs)
    p = softmax(logits)
    np.testing.assert_allclose(whole.scores["entropy"], entropy((p[0] + (p[1] + p[2]) / 2) / 2), atol=1e-12)
    np.testing.assert_allclose(each[1].scores["entropy"], entropy((p[1] + p[2]) / 2), atol=1e-12)
    assert [one.members for one in (*each, whole)] == [1, 2, 2]
    monkeypatch.setattr("modescape.science.ood._VALUES", 4 * 7)
    again, all_again = noticed(runs)
    for one, other in zip((*each, whole), (*again, all_again), strict=True):
        for score in SCORES:
            np.testing.assert_array_equal(one.scores[score], other.scores[score])


def test_bins_of_entropy_hold_every_image() -> None:
    one = np.array([[0.0, 0.0, 0.0, 0.0], [1000.0, 0.0, 0.0, 0.0], [0.0, 0.0, -1000.0, -1000.0]])
    [told], _ = noticed([[one]])
    counts = entropy_counts(
        told.scores["entropy"], 4
    )  # log 4: the last bin; 0: the first; log 2: half-way, in the bin that begins there
    assert counts.sum() == 3
    assert (counts[0], counts[20], counts[39]) == (1, 1, 1)
    assert entropy_edges(4)[20] == pytest.approx(np.log(2))


# ---- images made to fit ----


def test_scaling_weights_by_hand() -> None:
    # growing 2 -> 4: centres -.25, .25, .75, 1.25, the outer ones at the border pixel
    np.testing.assert_allclose(resizing(2, 4), [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])
    # shrinking 4 -> 2: centres .5 and 2.5, a triangle two pixels to either side: 3/4, 3/4, 1/4 of 7/4
    np.testing.assert_allclose(resizing(4, 2), np.array([[3, 3, 1, 0], [0, 1, 3, 3]]) / 7)
    np.testing.assert_array_equal(resizing(5, 5), np.eye(5))


@pytest.mark.parametrize("size", [(8, 8), (40, 50), (17, 13)])
def test_scaling_agrees_with_pillow(size: tuple[int, int]) -> None:
    images = TEST[:5]
    ours = fitted(images, Shape(3, *size, 10), size).astype(int)
    theirs = [Image.fromarray(i.transpose(1, 2, 0)).resize(size[::-1], Image.Resampling.BILINEAR) for i in images]
    assert np.abs(ours - np.stack([np.asarray(i) for i in theirs]).transpose(0, 3, 1, 2)).max() <= 1  # its fixed point


def test_gray_and_colour_by_hand() -> None:
    pixel = np.array([[[[10]], [[200]], [[30]]]], np.uint8)
    assert fitted(pixel, Shape(1, 1, 1, 2), (1, 1)).item() == round(0.299 * 10 + 0.587 * 200 + 0.114 * 30)
    gray = np.array([[[[7, 9]]]], np.uint8)
    assert fitted(gray, Shape(3, 1, 2, 2), (1, 2)).tolist() == [[[[7, 9]]] * 3]


def test_digits_stand_in_the_middle_of_fashion_mnist() -> None:
    from sklearn.datasets import load_digits

    found = outside_images(OodSpec(dataset="digits"), GRAY, TEST, ())
    assert found.pixels.shape == (1797, 1, 28, 28)
    assert found.conversion == "gray 8x8 digits scaled to 20x20 in 28x28"
    exact = load_digits().images * (255 / 16)
    place = ((np.arange(20) + 0.5) * 8 / 20 - 0.5).clip(0, 7)  # pixel centres at half numbers, borders repeated
    low = np.floor(place).astype(int)
    high, share = np.minimum(low + 1, 7), place - low
    rows = exact[:, low] * (1 - share)[:, None] + exact[:, high] * share[:, None]
    scaled = (rows[:, :, low] * (1 - share) + rows[:, :, high] * share)[:, None]
    expected = np.zeros((1797, 1, 28, 28))
    expected[:, :, 4:24, 4:24] = np.rint(scaled)
    apart = np.abs(found.pixels.astype(float) - expected)
    assert apart.max() <= 1
    assert (apart > 0).mean() < 1e-3  # halves that the two ways round apart


def test_other_sets_are_chosen_by_the_seed_and_described() -> None:
    spec = OodSpec(dataset="blobs", images=50)
    found = outside_images(spec, COLOUR, TEST, ())
    assert found.pixels.shape == (50, 3, 32, 32)
    assert found.conversion == "gray 8x8, repeated in three channels, scaled to 32x32"
    np.testing.assert_array_equal(found.pixels, outside_images(spec, COLOUR, TEST, ()).pixels)
    other = outside_images(spec.model_copy(update={"seed": 1}), COLOUR, TEST, ())
    assert (found.pixels != other.pixels).any()
    everything = outside_images(OodSpec(dataset="blobs"), Shape(1, 8, 8, 4), TEST, ())
    assert everything.conversion == "gray 8x8, as they are"
    raw = datasets["blobs"].call(DataLocation(()), DataSpec(dataset="blobs"))
    np.testing.assert_array_equal(everything.pixels, raw.test_images)


@pytest.mark.parametrize("name", SYNTHETIC)
def test_made_up_images(name: str) -> None:
    spec = OodSpec(dataset=name, images=40)
    pixels = outside_images(spec, COLOUR, TEST, ()).pixels
    assert pixels.shape == (40, 3, 32, 32)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, outside_images(spec, COLOUR, TEST, ()).pixels)
    assert (pixels != outside_images(spec.model_copy(update={"seed": 5}), COLOUR, TEST, ()).pixels).any()
    values = pixels.astype(float)
    if name == "constant":
        assert (values == values[:, :, :1, :1]).all()
        assert len(np.unique(values)) > 20
    elif name == "permuted":

        def colours(image: NDArray[Any]) -> list[Any]:
            return sorted(map(tuple, image.reshape(3, -1).T.tolist()))

        assert all(colours(made) == colours(own) for made, own in zip(pixels, TEST, strict=False))
        assert (pixels != TEST[:40]).mean() > 0.9
    else:
        # 122,880 values: five standard errors of a mean of 127.5 and a deviation of 64 (cut) or 73.9 are about 1
        assert abs(values.mean() - 127.5) < 1.1
        wide = {"gaussian-noise": 61.6, "uniform-noise": 73.9}[name]  # the normal's tails lie at 0 and 255
        assert abs(values.std() - wide) < 1


def test_without_a_number_ten_thousand_or_all() -> None:
    assert count_images(OodSpec(dataset="svhn"), 500) == 10_000
    assert count_images(OodSpec(dataset="digits"), 500) == 1797
    assert count_images(OodSpec(dataset="permuted"), 500) == 500
    assert count_images(OodSpec(dataset="constant"), 500) == 10_000
    assert count_images(OodSpec(dataset="svhn", images=20), 500) == 20


def test_own_pictures_of_any_size_without_classes(tmp_path: Path) -> None:
    for i in range(12):
        size = (20 + i, 30)
        Image.fromarray(np.full((*size, 3), 10 * i, np.uint8)).save(tmp_path / f"{i:02d}.png")
    spec = OodSpec(dataset="folder", path=str(tmp_path))
    there = available(spec, FASHION, ())
    assert (there.count, there.channels) == (12, 3)
    spec = spec.looked_up(DataSpec(dataset="fashion-mnist"), FASHION, ())
    assert spec.fingerprint == there.fingerprint
    found = outside_images(spec, GRAY, TEST, ())
    assert found.conversion == "RGB, of several sizes, made gray by luma, stretched to 28x28"
    assert found.pixels[:, 0, 14, 14].tolist() == [10 * i for i in range(12)]
    (tmp_path / "00.png").write_bytes((tmp_path / "01.png").read_bytes())
    with pytest.raises(DataCorrupt, match="has changed since"):
        outside_images(spec, GRAY, TEST, ())
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "._00.png").write_bytes(b"x")
    assert available(spec, FASHION, ()).count == 12
    (tmp_path / "13.heic").write_bytes(b"x")
    with pytest.raises(InvalidInput, match=r"13\.heic: pictures of a kind that is not read") as refused:
        available(spec, FASHION, ())
    assert refused.value.field == "path"


def test_own_arrays_need_no_labels(tmp_path: Path) -> None:
    file = tmp_path / "mine.npz"
    images = TEST[:, :, ::2, ::2]
    np.savez(file, images=images)
    spec = OodSpec(dataset="npz", path=str(file)).looked_up(DataSpec(dataset="cifar10"), CIFAR, ())
    found = outside_images(spec, Shape(3, 16, 16, 10), TEST, ())
    np.testing.assert_array_equal(found.pixels, images)
    assert found.conversion == "RGB 16x16, as they are"
    assert title(spec) == "mine"


def test_what_is_left_aside_or_lost_of_own_images_is_said_before_a_launch(tmp_path: Path) -> None:
    for i in range(12):
        (tmp_path / "mine").mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8), i, np.uint8)).save(tmp_path / "mine" / f"{i}.png")
    (tmp_path / "mine" / "notes.txt").write_text("x")
    said = prepare(spec_with({"dataset": "folder", "path": str(tmp_path / "mine")}), ()).plan.warnings
    assert "mine: left aside: not pictures: notes.txt" in said
    np.savez(tmp_path / "deep.npz", images=np.arange(12 * 64, dtype=np.uint16).reshape(12, 8, 8) * 5)
    said = prepare(spec_with({"dataset": "npz", "path": str(tmp_path / "deep.npz")}), ()).plan.warnings
    assert "deep: images: 0 to 3835, of which 4095 is white." in said
    assert "deep: They are rounded to 256 levels, and differences finer than that are lost." in said


def test_of_two_arrays_of_images_none_is_chosen_silently(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", x_test=np.zeros((12, 8, 8)), X_test=np.ones((12, 8, 8)))
    with pytest.raises(InvalidInput, match="X_test and x_test both look like the test images"):
        OodSpec(dataset="npz", path=str(tmp_path / "two.npz")).looked_up(DataSpec(), CIFAR, ())


# ---- bad input ----

DIGITS: dict[str, Any] = {
    "data": {"dataset": "digits", "train_images": 200, "validation_images": 100, "test_images": 300},
    "network": {"architecture": "mlp"},
    "training": {"epochs": 3, "batch_size": 50, "snapshots": 2},
    "ensemble": {"runs": 3},
}


def spec_with(ood: dict[str, Any], **parts: Any) -> dict[str, Any]:
    return {**DIGITS, "ood": [{"dataset": "permuted"}, ood], **parts}


@pytest.mark.parametrize(
    ("study", "parts", "field", "says"),
    [
        ({}, {}, "ood.1.dataset", "required"),
        ({"dataset": "svhn11"}, {}, "ood.1.dataset", "uniform-noise"),
        ({"dataset": "digits"}, {}, "ood.1.dataset", "trained on"),
        ({"dataset": "digits-5-9"}, {}, "ood.1.dataset", "shares images with"),
        ({"dataset": "folder"}, {}, "ood.1.path", "need it"),
        ({"dataset": "constant", "path": "/tmp"}, {}, "ood.1.path", "belongs to"),
        ({"dataset": "folder", "path": "/no/such"}, {}, "ood.1.path", "no folder"),
        ({"dataset": "npz", "path": "/no/such.npz"}, {}, "ood.1.path", "there is no"),
        ({"dataset": "blobs", "images": 201}, {}, "ood.1.images", "10 to 200, or empty"),
        ({"dataset": "permuted", "images": 301}, {}, "ood.1.images", "10 to 300, or empty"),
        ({"dataset": "constant", "images": 9}, {}, "ood.1.images", "10"),
        ({"dataset": "constant", "seed": -1}, {}, "ood.1.seed", "0"),
        ({"dataset": "constant", "members": 1}, {}, "ood.1.members", "2"),
        ({"dataset": "constant", "members": 4}, {}, "ood.1.members", "groups of 4 cannot be made of 3 runs"),
        ({"dataset": "constant", "members": 2}, {"ensemble": {"runs": 1}}, "ood.1.members", "at least 2 runs"),
        ({"dataset": "constant", "members": 3}, {"methods": [{"method": "random", "typical": 2}]}, "ood.1.members",
         "2 to 2, or more typical samples"),
        ({"dataset": "constant", "members": 2}, {"methods": [{"method": "random", "typical": 1}]}, "ood.1.members",
         "2 typical samples or more, or none"),
        ({"dataset": "constant", "members": 3}, {"training": {**DIGITS["training"], "epochs": 2}}, "ood.1.trajectory",
         "more epochs"),
        ({"dataset": "constant"}, {"training": {**DIGITS["training"], "checkpoint_every": 3}}, "ood.1.trajectory",
         "the 1 checkpoint after the first"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_in_words(
    study: dict[str, Any], parts: dict[str, Any], field: str, says: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        prepare(spec_with(study, **parts), ())
    problem = next(p for p in refused.value.problems if p.field == field)
    assert says in str(problem)


def test_classes_that_were_held_out_are_images_of_another_kind() -> None:
    trained = {**DIGITS, "data": {"dataset": "digits-0-4"}, "ood": [{"dataset": "digits-5-9"}]}
    assert prepare(trained, ()).info.classes == ("0", "1", "2", "3", "4")
    found = outside_images(OodSpec(dataset="digits-5-9"), Shape(1, 8, 8, 5), TEST, ())
    assert found.pixels.shape == (500, 1, 8, 8)
    assert found.conversion == "gray 8x8, as they are"


def test_a_set_that_is_not_here_says_how_to_get_it() -> None:
    with pytest.raises(DataMissing, match="modescape data fetch svhn"):
        prepare(spec_with({"dataset": "svhn"}), ())


def test_the_training_folder_is_not_another_kind_of_image(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(60):
            Image.fromarray(np.full((8, 8), i, np.uint8)).save(tmp_path / name / f"{i}.png")
    data = {"dataset": "folder", "path": str(tmp_path), "validation_images": 10}
    training = {**DIGITS["training"], "batch_size": 20}
    with pytest.raises(InvalidInput, match="trained on"):
        prepare(spec_with({"dataset": "folder", "path": f"{tmp_path}/"}, data=data, training=training), ())
    part = prepare(spec_with({"dataset": "folder", "path": str(tmp_path / "a")}, data=data, training=training), ())
    assert part.spec.ood[1].fingerprint is not None
    assert "ood.1.fingerprint" not in part.spec.digest()


def test_channels_that_cannot_be_turned_into_each_other() -> None:
    with pytest.raises(InvalidInput, match="has 1 channels, the training images have 2"):
        available(OodSpec(dataset="blobs"), DataInfo(2, 8, 8, ("a", "b"), 100, 50, 10), ())


def test_the_form_offers_every_set_and_asks_for_no_fingerprint() -> None:
    own = {"dataset": "npz", "path": "/mine.npz", "fingerprint": "0" * 64}
    values = forms.to_values({"ood": [own, {"dataset": "constant", "images": 50}]})
    document = forms.to_document(list(values.items()))
    assert [study["dataset"] for study in document["ood"]] == ["npz", "constant"]
    assert document["ood"][1]["images"] == 50
    assert "fingerprint" not in document["ood"][0]  # looked up again, for the file may have changed
    sections = forms.sections(values, was=values, missing={"svhn": "fetch it first"})
    controls = {control.name: control for part in sections for row in part.rows for control in row.controls}
    chosen = controls["ood.0.dataset"]
    assert {choice.value for choice in chosen.choices} == {*SYNTHETIC, *datasets}
    assert [choice.note for choice in chosen.choices if choice.value == "svhn"] != [""]
    assert "ood.0.fingerprint" not in controls


# ---- groups and plan ----


def test_groups_are_as_large_as_the_smallest_when_left_open() -> None:
    def size(**changes: Any) -> int:
        return OodSpec(dataset="constant").size(parse({**DIGITS, **changes}))

    assert size() == 3
    assert size(ensemble={"runs": 9}, training={"epochs": 40}) == 5
    assert size(ensemble={"runs": 9}, training={"epochs": 40}, methods=[{"method": "random", "typical": 4}]) == 4
    assert size(ensemble={"runs": 9}, training={"epochs": 40}, methods=[{"method": "random", "typical": 0}]) == 5
    assert size(ensemble={"runs": 1}) == 3  # one run has no other to compare, its checkpoints have


def test_groups_of_runs_are_all_of_them_or_some_drawn_by_the_seed() -> None:
    assert _subsets(4, 3, 0) == list(combinations(range(4), 3))
    some = _subsets(12, 5, 0)
    assert len(set(some)) == 20
    assert all(len(set(one)) == 5 for one in some)
    assert some == _subsets(12, 5, 0) != _subsets(12, 5, 1)


def test_the_plan_prices_every_prediction() -> None:
    methods = [{"method": "random", "spread": 0, "typical": 4}, {"method": "averaging"}]
    spec = parse(spec_with({"dataset": "constant", "images": 500}, methods=methods))
    info = describe(spec.data, ())
    with_it, without = plan(spec, info), plan(spec.model_copy(update={"ood": ()}), info)
    # a run: its optimum, three checkpoints, three samples and its average; on 300 permuted and 500 constant images
    assert with_it.predictions - without.predictions == 3 * (1 + 3 + 3 + 1) * (300 + 500)
    assert with_it.bytes - without.bytes == 4 * 10 * 3 * 8 * 800
    made = {(stage.kind, stage.key): stage for stage in with_it.stages}
    assert ("sample", "2/random/typical") in made["ood", "1/2"].wants
    assert set(made["ood-compare", "0"].wants) >= {("ood", f"0/{run}") for run in range(3)}
    assert "ood" in with_it.answers
    assert "ood" not in without.answers


# ---- presets ----


@pytest.mark.parametrize("name", ["svhn-row", "svhn-row-short"])
def test_presets_ask_for_the_row(name: str) -> None:
    spec = parse(presets[name].call())
    assert [m.method for m in spec.methods] == ["random", "diagonal", "low-rank"]
    assert spec.methods[2].options["rank"] == 5
    assert all(study.size(spec) == 5 and study.trajectory for study in spec.ood)
    assert spec.ensemble.runs == 5
    assert spec.ood[0].images == (10_000 if name == "svhn-row" else None)


# ---- the stages, by the real executor ----

TINY: dict[str, Any] = {
    **DIGITS,
    "methods": [{"method": "random", "spread": 0, "typical": 2}, {"method": "averaging"}],
    "evaluation": {"embed_images": 20},
    "ood": [
        {"dataset": "permuted", "images": 120, "members": 2},
        {"dataset": "uniform-noise", "images": 80, "members": 2, "trajectory": False},
    ],
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Three small networks on digits, looking at shuffled digits and at noise."""
    return run(TINY, settings=Settings(home=tmp_path_factory.mktemp("home"), device="cpu"), name="outside")


def stage(lab: Lab, kind: str, key: str) -> Stage:
    return next(s for s in lab.stages if (s.kind, s.key) == (kind, key))


def logits(lab: Lab, index: int, run: int, group: str) -> NDArray[np.float32]:
    """A stage keeps its run's final function under the role of it."""
    kept = stage(lab, "ood", f"{index}/{run}").result["extra"]["groups"]
    return np.asarray(lab.artifacts.array(kept[{"independent": "optimum"}.get(group, group)]))


def inside(lab: Lab, run: int, group: str, images: int) -> NDArray[np.float32]:
    """Logits on the first test images of what a group should hold, chosen here again."""
    own = lab.solutions(run=run)
    chosen = {
        "independent": [s for s in own if s.role == "optimum"],
        "trajectory": [s for s in own if s.role != "sample" and s.epoch in (2.0, 3.0)],
        "random": [s for s in own if s.method == "random" and s.index < 2],
        "averaging": [s for s in own if s.method == "averaging"],
    }[group]
    return np.stack([lab.logits(s, "test")[:images] for s in chosen])


def value(lab: Lab, subject: str, metric: str) -> Any:
    found = lab.measurements(metric=metric, subject=subject)
    assert len(found) == 1, (subject, metric)
    return found[0]


def js(members: NDArray[Any]) -> float:
    p = softmax(members)
    return float((entropy(p.mean(0)) - entropy(p).mean(0)).mean())


@pytest.mark.slow
def test_every_stage_came_to_its_end(lab: Lab) -> None:
    assert [(s.kind, s.key, s.error) for s in lab.stages if s.state != "succeeded"] == []
    extra = stage(lab, "ood", "0/1").result["extra"]
    assert extra["images"] == 120
    assert extra["title"] == "Permuted pixels"
    assert set(extra["groups"]) == {"optimum", "trajectory", "random", "averaging"}
    assert set(stage(lab, "ood", "1/1").result["extra"]["groups"]) == {"optimum", "random", "averaging"}
    assert [len(logits(lab, 0, 0, group)) for group in extra["groups"]] == [1, 2, 2, 1]


@pytest.mark.slow
def test_predictions_are_those_of_the_optimum_on_the_images(lab: Lab) -> None:
    """The network put together here by hand: weights from the artifacts, pixels shuffled as the study shuffles them."""
    splits = load(lab.spec.data, ())
    pixels = outside_images(lab.spec.ood[0], splits.shape, splits.test.images.numpy(), ()).pixels  # type: ignore[union-attr]
    optimum = lab.solutions(run=1, role="optimum")[0]
    weights = {name: w.astype(np.float64) for name, w in lab.artifacts.tensors(str(optimum.weights)).items()}
    assert lab.spec.data.input_scale == "raw255"
    values = pixels.reshape(120, -1).astype(np.float64)
    for layer in ("first", "second", "head"):
        values = values @ weights[f"{layer}.weight"].T + weights[f"{layer}.bias"]
        values = np.maximum(values, 0) if layer != "head" else values
    np.testing.assert_allclose(logits(lab, 0, 1, "independent")[0], values, rtol=2e-4, atol=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("index", "images"), [(0, 120), (1, 80)])
def test_divergences_are_those_of_the_stored_predictions(lab: Lab, index: int, images: int) -> None:
    for group in ("trajectory", "random") if index == 0 else ("random",):
        found = value(lab, f"ood/{index}/{group}", "js_mean")
        per_run = [js(logits(lab, index, run, group)) for run in range(3)]
        own = [js(inside(lab, run, group, images)) for run in range(3)]
        assert found.value == pytest.approx(np.mean(per_run), abs=1e-9)
        assert found.details["sd"] == pytest.approx(np.std(per_run, ddof=1), abs=1e-9)
        assert found.details["in"] == pytest.approx(np.mean(own), abs=1e-9)
        assert (found.n, found.details["members"], found.details["size"]) == (3, 2, images)
        summed = value(lab, f"ood/{index}/{group}", "js_sum")
        assert summed.value == pytest.approx(2 * np.mean(per_run), abs=1e-9)
    runs = np.concatenate([logits(lab, index, run, "independent") for run in range(3)])
    pairs = [js(runs[list(pair)]) for pair in combinations(range(3), 2)]
    found = value(lab, f"ood/{index}/independent", "js_mean")
    assert found.value == pytest.approx(np.mean(pairs), abs=1e-9)
    assert found.n == 3
    assert lab.measurements(metric="js_mean", subject=f"ood/{index}/averaging") == []  # one function a run


@pytest.mark.slow
def test_detection_is_that_of_the_stored_predictions(lab: Lab) -> None:
    for index, images in ((0, 120), (1, 80)):
        for group in ("independent", "random", "averaging"):
            outside = [softmax(logits(lab, index, run, group)).mean(0) for run in range(3)]
            own = [softmax(inside(lab, run, group, images)).mean(0) for run in range(3)]
            truth = np.r_[np.ones(images), np.zeros(images)]
            single = [roc_auc_score(truth, np.r_[entropy(a), entropy(b)]) for a, b in zip(outside, own, strict=True)]
            found = value(lab, f"ood/{index}/{group}/single/entropy", "auroc")
            assert found.details["values"] == pytest.approx(single, abs=1e-9)
            assert found.value == pytest.approx(np.mean(single), abs=1e-9)
            together = np.r_[1 - np.mean(outside, 0).max(1), 1 - np.mean(own, 0).max(1)]
            for metric, expected in (
                ("auroc", roc_auc_score(truth, together)),
                ("aupr_out", average_precision_score(truth, together)),
                ("aupr_in", average_precision_score(1 - truth, -together)),
            ):
                found = value(lab, f"ood/{index}/{group}/ensemble/max-probability", metric)
                assert found.value == pytest.approx(expected, abs=1e-9)
            means = value(lab, f"ood/{index}/{group}/ensemble", "entropy")
            assert means.value == pytest.approx(entropy(np.mean(outside, 0)).mean(), abs=1e-9)
            edges = np.linspace(0, np.log(10), 41)
            assert means.details["in_counts"] == np.histogram(entropy(np.mean(own, 0)), edges)[0].tolist()
    assert lab.measurements(subject="ood/0/independent/single/mutual-information") == []  # one function has none
    energy = np.stack([logits(lab, 0, run, "independent")[0].astype(np.float64) for run in range(3)]).mean(0)
    own_energy = np.stack([inside(lab, run, "independent", 120)[0].astype(np.float64) for run in range(3)]).mean(0)
    scores = [-np.logaddexp.reduce(e, 1) for e in (energy, own_energy)]
    found = value(lab, "ood/0/independent/ensemble/energy", "auroc")
    truth = np.r_[np.ones(120), np.zeros(120)]
    assert found.value == pytest.approx(roc_auc_score(truth, np.concatenate(scores)), abs=1e-9)


@pytest.mark.slow
def test_an_interrupted_stage_goes_on_and_gives_the_same_bytes(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Around.place_solution
    seen: list[str] = []

    def broken(self: Around, solution: Solution) -> ActivationMask | None:
        seen.append(f"{solution.role} {solution.index}")
        if len(seen) == 3:  # the second of two points: the optimum is kept, and the first of them
            raise StageInterrupted("told to stop")
        return whole(self, solution)

    settings = Settings(home=tmp_path, device="cpu")
    upgrade(settings.database)
    laboratory = Laboratory(settings)
    experiment = laboratory.create({**TINY, "methods": [], "ood": TINY["ood"][:1]}, name="again")
    monkeypatch.setattr(ood, "SAVE_EVERY_SECONDS", -1.0)
    monkeypatch.setattr(Around, "place_solution", broken)
    Executor(laboratory.store, laboratory.artifacts, settings).run_experiment(experiment.id)
    first, second = "checkpoint 2", "optimum 3"  # which the group of one is, too
    assert seen == [second, first, second, second, *[second, first, second] * 2]  # the second again; two more runs
    again = Lab(laboratory, experiment.id)
    for run_ in range(3):
        kept = stage(again, "ood", f"0/{run_}").result["extra"]["groups"]
        before = stage(lab, "ood", f"0/{run_}").result["extra"]["groups"]
        assert kept == {name: before[name] for name in ("optimum", "trajectory")}


# ---- figures ----

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("ood", {}),
    ("ood", {"ood": 1, "reduction": "sum"}),
    ("ood", {"score": "energy", "size": "page"}),
    ("ood", {"score": "mutual-information"}),
    ("ood-entropy", {}),
    ("ood-entropy", {"ood": 1, "size": "page"}),
]


def collect(name: str, results: Any, **options: Any) -> Any:
    entry = figures[name]
    return entry.call(results, entry.options.model_validate(options))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_figures_say_and_draw_what_was_measured(lab: Lab, name: str, options: dict[str, Any]) -> None:
    data = collect(name, lab, **options)
    assert told(data).caption.endswith(".")
    assert told(data).summary.endswith(".")
    assert told(data).notes.lines
    assert all(len(line.values) == len(told(data).notes.head) - 1 for line in told(data).notes.lines)
    assert all(entry.look in style.looks() for entry in data.legend)
    assert csv(data).count("\n") == 1 + len(data.rows())
    assert all(len(row) == len(data.columns) for row in data.rows())
    assert stage(lab, "ood", f"{options.get('ood', 0)}/0").result["extra"]["conversion"] in told(data).caption
    for theme in THEMES:
        drawn = figures[name].draw(data, theme).to_dict()
        assert drawn["layout"]["meta"]["figure"] == name
        assert drawn["layout"]["paper_bgcolor"] == style.TRANSPARENT
        assert {trace["type"] for trace in drawn["data"]} == {"scatter"}
        assert all(trace[axis]["dtype"] == "f4" for trace in drawn["data"] for axis in "xy")
        assert len(encode(figures[name].draw(data, theme))) < 60_000


@pytest.mark.slow
def test_the_row_holds_the_stored_numbers(lab: Lab) -> None:
    data = collect("ood", lab)
    assert [d.group for d in data.divergences] == ["independent", "trajectory", "random"]
    for d in data.divergences:
        assert d.outside == value(lab, f"ood/0/{d.group}", "js_mean").value
    assert [d.score for d in data.detected] == list(SCORES)
    entropy_row = data.detected[0]
    assert entropy_row.single == value(lab, "ood/0/independent/single/entropy", "auroc").value
    assert entropy_row.ensemble == value(lab, "ood/0/independent/ensemble/entropy", "auroc").value
    assert np.isnan(data.detected[2].single)  # mutual information of one function
    summed = collect("ood", lab, reduction="sum")
    assert [s.outside / d.outside for s, d in zip(summed.divergences, data.divergences, strict=True)] == [2, 2, 2]
    by_group = collect("ood", lab, score="entropy")
    assert [d.group for d in by_group.detected] == ["independent", "trajectory", "random", "averaging"]
    spectra = collect("ood-entropy", lab).spectra
    assert [s.functions for s in spectra] == ["single", "ensemble"]
    assert all(s.outside.sum() == pytest.approx(1) == s.inside.sum() for s in spectra)


def looked_at() -> Any:
    """Two groups looking at 100 other images beside 300 test images; the numbers are only to be told apart."""
    numbers = {"auroc": 0.8, "fpr95": 0.6, "aupr_out": 0.4, "aupr_in": 0.9}
    about = {"title": "Permuted pixels", "conversion": "as they are", "size": 100, "in_size": 300, "in_split": "test",
             "sd": 0.01, "in": 0.1, "in_sd": 0.01, "members": 2, "runs": 3}  # fmt: skip
    rows = []
    for group in ("independent", "averaging"):
        for functions, more in (("single", 0.0), ("ensemble", 0.05)):
            told = {**about, "group": group, "functions": functions}
            subject = f"ood/0/{group}/{functions}"
            for metric, value in numbers.items():
                rows.append((f"{subject}/entropy", metric, value + more, {**told, "score": "entropy"}))
            counts = {"counts": [1] * 40, "in_counts": [3] * 40}
            rows.append((subject, "entropy", 1.0 + more, {**told, **counts}))
    measured = [SimpleNamespace(subject=s, metric=m, value=v, n=3, details=d) for s, m, v, d in rows]
    return SimpleNamespace(
        voice=HERE,
        spec=parse(TINY), measurements=lambda: measured, class_names=list("abcdefghij"), failed={}, failed_chains={}
    )  # fmt: skip


def test_detection_is_shown_by_any_of_its_measures() -> None:
    by_chance = {"auroc": 0.5, "fpr95": 0.95, "aupr_out": 0.25, "aupr_in": 0.75}
    expected = {"auroc": (0.8, 0.85), "fpr95": (0.6, 0.65), "aupr_out": (0.4, 0.45), "aupr_in": (0.9, 0.95)}
    for measure, (single, together) in expected.items():
        data = collect("ood", looked_at(), measure=measure, score="entropy")
        assert [(d.group, d.single, d.ensemble) for d in data.detected] == [
            ("independent", single, pytest.approx(together)), ("averaging", single, pytest.approx(together)),
        ]  # fmt: skip
        assert data.chance == by_chance[measure]
        assert "AUROC .800 ± .010, ensemble .850; FPR95 .600 ± .010, ensemble .650" in told(data).notes.text[1]
        assert told(data).notes.text[2].endswith("other images .250, test images .750.")
    assert collect("ood", looked_at(), score="entropy", size="page").page_height == 34 * 2 + 100


def test_entropy_can_be_seen_of_every_group() -> None:
    usual = collect("ood-entropy", looked_at())
    assert usual.groups == ["independent"]
    assert [(one.group, one.on) for one in usual.legend] == [("independent", True), ("averaging", False)]
    both = collect("ood-entropy", looked_at(), method="independent,averaging,theory")
    assert both.groups == ["independent", "averaging"]
    drawn = figures["ood-entropy"].draw(both, "light")
    assert {trace.legendgroup for trace in drawn.data} == {"independent", "averaging"}
    assert {trace.yaxis for trace in drawn.data} == {"y", "y2", "y3", "y4"}
    one = figures["ood-entropy"].draw(collect("ood-entropy", looked_at(), panel="ensemble"), "light")
    assert {trace.name for trace in one.data} == {"ensemble of 3 runs"}
    with pytest.raises(InvalidInput, match="no group 'swag'"):
        collect("ood-entropy", looked_at(), method="swag")


@pytest.mark.parametrize("name", ["ood", "ood-entropy"])
def test_figures_wait_or_say_how_to_get_them(name: str) -> None:
    def results(document: dict[str, Any]) -> Any:
        return SimpleNamespace(spec=parse(document), measurements=list, voice=HERE)

    with pytest.raises(FigureNotReady, match="name a set") as refusal:
        collect(name, results(DIGITS))
    assert not refusal.value.planned
    with pytest.raises(FigureNotReady) as refusal:
        collect(name, results(TINY))
    assert set(refusal.value.waits_for) <= set(figures[name].needs)
    with pytest.raises(FigureNotReady, match="no set 2"):
        collect(name, results(TINY), ood=2)
