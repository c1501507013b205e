"""One's own numbers that are no pictures, tables, sets of Hugging Face, and pictures of a chosen size."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_breast_cancer, load_digits
from test_data import saved_pictures

from modescape.datasets.here import describe, own_names
from modescape.datasets.loading import load
from modescape.errors import InvalidInput
from modescape.laboratory import run
from modescape.plan import prepare
from modescape.records import StageState
from modescape.science.data.own_numbers import read_numbers
from modescape.spec import parse
from modescape.spec_parts import DataSpec, keyed

ROWS = np.random.default_rng(0).normal(3, 20, (90, 4))
LABELS = np.arange(90) % 3


def saved(folder: Path, **arrays: Any) -> DataSpec:
    np.savez(folder / "numbers.npz", **arrays)
    return DataSpec(dataset="arrays", path=str(folder / "numbers.npz"))


def table(path: Path, rows: np.ndarray = ROWS, labels: Any = None, *, heading: str = "a,b,c,d,target") -> DataSpec:
    lines = [
        ",".join([*map(repr, row.tolist()), f"{label}"]) for row, label in zip(rows, labels or LABELS, strict=False)
    ]
    path.write_text("\n".join([heading, *lines]))
    return DataSpec(dataset="table", path=str(path))


def rows_of(name: str) -> int:
    return int(name.rsplit("[", 1)[1].rstrip("]"))


# --- what is read ---


@pytest.mark.parametrize(
    ("shape", "as_read"),
    [((90, 4), (4, 1, 1)), ((90, 2, 7), (2, 1, 7)), ((90, 3, 5, 6), (3, 5, 6))],
    ids=["features", "signals", "maps"],
)
def test_networks_see_the_numbers_as_they_are(shape: tuple[int, ...], as_read: tuple[int, ...], tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(-5, 1000, shape)
    spec = saved(tmp_path, x=values, y=LABELS)
    splits = load(spec, ())
    assert tuple(splits.shape[:3]) == as_read
    names = own_names(spec, "train")
    seen = splits.transform(splits.train.batch(torch.arange(len(splits.train)))).numpy()
    expected = values[[rows_of(name) for name in names]].astype(np.float32)
    assert np.array_equal(seen.reshape(expected.shape), expected)
    assert np.array_equal(splits.train.numpy_labels(), LABELS[[rows_of(name) for name in names]])


def test_standardising_gives_every_feature_mean_0_and_deviation_1_and_leaves_the_data_alone(tmp_path: Path) -> None:
    splits = load(saved(tmp_path, x=ROWS, y=LABELS).model_copy(update={"input_scale": "standardised"}), ())
    everything = torch.arange(len(splits.train))
    before = splits.train.batch(everything).clone()
    seen = splits.transform(splits.train.images).numpy()
    np.testing.assert_allclose(seen.mean(0).ravel(), 0, atol=1e-5)
    np.testing.assert_allclose(seen.std(0).ravel(), 1, atol=1e-5)
    assert torch.equal(splits.train.batch(everything), before)


def test_a_table_says_which_columns_are_what_and_names_its_classes(tmp_path: Path) -> None:
    info = describe(table(tmp_path / "t.csv", labels=["xyz"[k] for k in LABELS]), ())
    assert (info.channels, info.height, info.width, info.classes) == (4, 1, 1, ("x", "y", "z"))
    assert "features: a, b, c, d; labels: target" in info.layout
    assert not info.are_pictures


def test_the_same_table_as_parquet_and_with_semicolons_reads_alike(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    first = read_numbers(Path(str(table(tmp_path / "t.csv").path)))
    columns = {name: ROWS[:, i] for i, name in enumerate("abcd")} | {"target": LABELS}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    text = (tmp_path / "t.csv").read_text().replace(",", ";")
    (tmp_path / "semicolons.csv").write_text(text)
    for name in ("t.parquet", "semicolons.csv"):
        other = read_numbers(tmp_path / name)
        assert np.array_equal(other.raw.train_images, first.raw.train_images), name  # type: ignore[arg-type]
        assert other.raw.classes == first.raw.classes == ("0", "1", "2")


def test_a_column_of_splits_is_used(tmp_path: Path) -> None:
    parts = ["train"] * 60 + ["test"] * 20 + ["val"] * 10
    lines = [f"{row[0]},{label},{part}" for row, label, part in zip(ROWS, LABELS, parts, strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(["a,y,split", *lines]))
    raw = read_numbers(tmp_path / "t.csv").raw
    assert (len(raw.train_labels), len(raw.test_labels), len(raw.validation_labels)) == (60, 20, 10)  # type: ignore[arg-type]
    assert set(raw.test_images.ravel().tolist()) == set(ROWS[60:80, 0].astype(np.float32).tolist())  # type: ignore[union-attr]


# --- what is refused ---


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.where(ROWS[7, 2] == ROWS, np.nan, ROWS), "y": LABELS}, r"x holds nan at \[7, 2, 0, 0\]|x holds nan"),
        ({"x": ROWS, "y": LABELS + 0.5}, "regression"),
        ({"x": ROWS.astype(str), "y": LABELS}, "not numbers"),
        ({"x": ROWS[:50], "y": LABELS}, "50 examples, y 90 labels"),
        ({"x": ROWS[:, :0], "y": LABELS}, "shape"),
    ],
    ids=["missing", "regression", "texts", "counts", "empty"],
)
def test_odd_arrays_are_refused_in_words(arrays: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=words):
        describe(saved(tmp_path, **arrays), ())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", "which column of t.csv holds the labels"),
        ("a,target\n1,x\nred,y\n", "column 'a' holds 'red' in row 2"),
        ("a,target\n1,x\n,y\n", "column 'a' holds nothing in row 2"),
        ("a,target\n1,x\n2\n", "line 3 has 1 values"),
        ("a,target,split\n1,x,train\n2,y,later\n", "says 'later' in row 2"),
        ("a,a,target\n1,2,x\n", "two of its columns have one name"),
        ("a,target\n", "holds no rows"),
        ("target\nx\n", "has no columns beside target"),
        ("a,target\n1,0.5\n2,0.25\n3,1.5\n", "regression"),
    ],
)
def test_odd_tables_are_refused_in_words(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InvalidInput, match=words):
        describe(DataSpec(dataset="table", path=str(tmp_path / "t.csv")), ())


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"data": {"input_scale": "unit"}}, "data.input_scale"),
        ({"data": {"image_size": 8}}, "data.image_size"),
        ({"training": {"augmentation": "crop-flip"}}, "training.augmentation"),
        ({"network": {"architecture": "resnet20v1"}}, "network.architecture"),
        ({"shift": {"corruptions": ["fog"]}}, "shift"),
        ({"ood": [{"dataset": "digits"}]}, "ood"),
    ],
)
def test_what_is_for_pictures_alone_is_refused_by_its_field(more: dict[str, Any], field: str, tmp_path: Path) -> None:
    place = saved(tmp_path, x=ROWS, y=LABELS)
    document = {"network": {"architecture": "mlp"}, "training": {"batch_size": 16}, **more}
    document["data"] = {"dataset": "arrays", "path": place.path, **more.get("data", {})}
    with pytest.raises(InvalidInput) as refused:
        prepare(document, ())
    assert field in [problem.field for problem in refused.value.problems]


def test_a_level_of_white_belongs_to_pictures(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="white"):
        prepare({"data": {"dataset": "table", "path": str(tmp_path), "white": 1}}, ())


# --- from end to end ---


@pytest.mark.slow
def test_an_ensemble_on_a_table_is_as_good_as_the_field_knows(tmp_path: Path) -> None:
    """Breast cancer in Wisconsin: linear and small models reach 95 % and more on held out cases."""
    found = load_breast_cancer()
    spec = table(
        tmp_path / "cancer.csv", found.data, [str(found.target_names[k]) for k in found.target],
        heading=",".join([*(name.replace(" ", "_") for name in found.feature_names), "target"]),
    )  # fmt: skip
    lab = run(
        {
            "data": {"dataset": "table", "path": spec.path, "input_scale": "standardised", "validation_images": 40},
            "network": {"architecture": "mlp"}, "ensemble": {"runs": 2},
            "training": {"epochs": 20, "batch_size": 32, "snapshots": 0},
        },
        folder=tmp_path / "home", progress=False,
    )  # fmt: skip
    assert {stage.state for stage in lab.stages} == {StageState.SUCCEEDED}
    assert lab.experiment.accuracy is not None
    assert lab.experiment.accuracy > 0.93


# --- sets of Hugging Face, and pictures of a chosen size ---


def test_a_saved_set_of_hugging_face_has_its_pictures_and_class_names(tmp_path: Path) -> None:
    saved_pictures(tmp_path / "mine")
    spec = DataSpec(dataset="huggingface", path=str(tmp_path / "mine"))
    rough = np.random.default_rng(0).integers(0, 256, (60, 8, 6, 3), dtype=np.uint8)
    splits = load(spec, ())
    assert splits.classes == ("a", "b", "c")
    names = own_names(spec, "train")
    expected = rough[[rows_of(name) for name in names]].transpose(0, 3, 1, 2)
    assert np.array_equal(splits.train.images.numpy(), expected)  # type: ignore[union-attr]


def test_a_folder_that_library_did_not_save_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        describe(DataSpec(dataset="huggingface", path=str(tmp_path)), ())


@pytest.mark.parametrize("way", ["file", "link", "split", "path", "address"])
def test_a_saved_set_opens_nothing_outside_its_folder(way: str, tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, DatasetDict, Features
    from datasets import Image as Picture
    from datasets.arrow_writer import ArrowWriter

    mine, outside = tmp_path / "mine", tmp_path / "outside"
    saved_pictures(outside)
    shutil.copytree(outside, mine)
    arrow = next(mine.glob("*.arrow"))
    if way == "file":
        state = json.loads((mine / "state.json").read_text())
        state["_data_files"] = [{"filename": str(next(outside.glob("*.arrow")))}]
        (mine / "state.json").write_text(json.dumps(state))
    elif way == "link":
        arrow.unlink()
        arrow.symlink_to(next(outside.glob("*.arrow")))
    elif way == "split":
        shutil.rmtree(mine)
        DatasetDict({"train": Dataset.load_from_disk(str(outside))}).save_to_disk(str(mine))
        (mine / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "../outside"]}))
    else:
        Image.new("RGB", (8, 6)).save(tmp_path / "secret.png")
        named = str(tmp_path / "secret.png") if way == "path" else "http://127.0.0.1:9/0.png"
        features = Features({"image": Picture(), "label": ClassLabel(names=["a", "b"])})
        with ArrowWriter(path=str(arrow), features=features) as writer:
            for row in range(30):
                writer.write({"image": {"path": named, "bytes": None}, "label": row % 2})
            writer.finalize()
    allowed = "files that lie in its folder" if way in ("file", "link", "split") else "pictures that the set holds"
    with pytest.raises(InvalidInput, match=r"leads out of it|is not in it") as refused:
        describe(DataSpec(dataset="huggingface", path=str(mine)), ())
    assert allowed in str(refused.value.problems[0].allowed)


def test_pictures_are_scaled_as_pillow_scales_them() -> None:
    spec = DataSpec(dataset="digits", image_size=5)
    info, splits = describe(spec, ()), load(spec, ())
    assert (info.height, info.width, tuple(splits.shape)) == (5, 5, (1, 5, 5, 10))
    whole = load(DataSpec(dataset="digits"), ())
    before = whole.test.images[3, 0].numpy()  # type: ignore[index]
    after = np.asarray(Image.fromarray(before).resize((5, 5), Image.Resampling.BILINEAR))
    assert np.array_equal(splits.test.images[3, 0].numpy(), after)  # type: ignore[index]
    assert load_digits().images.shape[1:] == (8, 8), "they were larger before"


def test_a_spec_that_chooses_no_size_keeps_its_digest() -> None:
    first = parse({"data": {"dataset": "digits"}})
    second = parse({"data": {"dataset": "digits", "image_size": None, "label": None}})
    other = parse({"data": {"dataset": "digits", "image_size": 5}})
    assert first.digest() == second.digest() != other.digest()
    assert not {"image_size", "label"} & keyed(first)["data"].keys()
