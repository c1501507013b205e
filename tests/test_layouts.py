"""What lies where in own sets and ImageNet: splits by name, links, what is left aside, order, labels, fingerprints."""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat
from serving import served

import modescape
from modescape.datasets import here, loading
from modescape.errors import DataCorrupt, InvalidInput
from modescape.laboratory import Laboratory, export
from modescape.plan import prepare
from modescape.science import data
from modescape.science.data import keep_to
from modescape.science.data.layouts import arrays_of, images_of
from modescape.settings import Settings
from modescape.spec_parts import DataSpec
from modescape_api.resources.data import inside


def fill(folder: Path, n: int, *, level: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        Image.new("L", (6, 6), level + i).save(folder / f"{i:02}.png")
    return folder


def classes(root: Path, counts: dict[str, int]) -> Path:
    for number, (name, n) in enumerate(counts.items()):
        fill(root / name, n, level=50 * (number % 5))
    return root


def spec(path: Path, **fields: Any) -> DataSpec:
    return DataSpec.model_validate({"dataset": "npz" if path.suffix else "folder", "path": str(path), **fields})


def names(split: data.Split) -> list[str]:
    assert split.origin is not None
    return split.origin.names()


# --- folders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [("train", "val", "test"), ("Train", "Valid", "Test"), ("TRAINING", "Validation", "testing")],
)
def test_a_validation_folder_is_used_whole_and_training_keeps_all(
    tmp_path: Path, train: str, validation: str, test: str
) -> None:
    for part, n in ((train, 20), (validation, 6), (test, 8)):
        classes(tmp_path / part, {"cat": n, "dog": n})
    info = here.describe(spec(tmp_path), ())
    assert (info.train_total, info.validation_total, info.validation_default, info.test_total) == (40, 12, 12, 16)
    splits = loading.load(spec(tmp_path), ())
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [40, 12, 16]
    assert {name.split("/")[0] for name in names(splits.validation)} == {validation}
    assert len(set(names(splits.train))) == 40
    fewer = loading.load(spec(tmp_path, validation_images=5), ())
    assert (len(fewer.train), len(fewer.validation)) == (40, 5)
    assert names(fewer.validation) == names(splits.validation)[:5]
    sizes = prepare(
        {"data": {"dataset": "folder", "path": str(tmp_path), "validation_images": 5}, "training": SMALL}, ()
    )
    assert (sizes.sizes.train, sizes.sizes.validation, sizes.sizes.test) == (40, 5, 16)


SMALL = {"epochs": 1, "batch_size": 8, "snapshots": 0}


def test_more_validation_images_than_there_are_is_refused_with_its_field(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        classes(tmp_path / part, {"cat": 10, "dog": 10})
    for field in ("validation_images", "train_images"):
        with pytest.raises(InvalidInput) as refused:
            prepare({"data": {"dataset": "folder", "path": str(tmp_path), field: 21}, "training": SMALL}, ())
        assert refused.value.field == f"data.{field}"


def test_validation_without_test_is_the_test_set_and_that_is_said(tmp_path: Path) -> None:
    classes(tmp_path / "train", {"cat": 20, "dog": 20})
    classes(tmp_path / "val", {"cat": 5, "dog": 5})
    prepared = prepare({"data": {"dataset": "folder", "path": str(tmp_path)}, "training": SMALL}, ())
    assert (prepared.info.validation_total, prepared.sizes.validation, prepared.sizes.test) == (0, 4, 10)
    assert any("val/ (10) is the test set, as in ImageNet" in line for line in prepared.plan.warnings)
    assert all(name.startswith("val/") for name in names(loading.load(spec(tmp_path), ()).test))


def test_folders_called_like_a_split_can_be_classes(tmp_path: Path) -> None:
    assert here.describe(spec(classes(tmp_path, {"bus": 9, "car": 9, "train": 9})), ()).classes == (
        "bus",
        "car",
        "train",
    )


def _extra(root: Path) -> None:
    classes(root / "extra", {"a": 3, "b": 3})


def _two_validations(root: Path) -> None:
    classes(root / "val", {"a": 3, "b": 3})
    classes(root / "Valid", {"a": 3, "b": 3})


def _other_classes(root: Path) -> None:
    fill(root / "test" / "c", 3)


def _never_trained(root: Path) -> None:
    fill(root / "test" / "c", 3)
    (root / "train" / "c").mkdir()


def _empty_split(root: Path) -> None:
    (root / "val").mkdir()


def _flat_test(root: Path) -> None:
    fill(root / "test", 3)


def _unread(root: Path) -> None:
    (root / "train" / "a" / "photo.heic").write_bytes(b"x")


def _without_ending(root: Path) -> None:
    (root / "train" / "a" / "00.png").rename(root / "train" / "a" / "photo")


def _lost(root: Path) -> None:
    (root / "train" / "a" / "99.png").symlink_to(root / "nowhere.png")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_extra, "it holds extra/, test/, train/, which is no layout"),
        (_two_validations, "Valid/ and val/ both look like the validation set"),
        (_other_classes, "train/ and test/ do not hold the same classes: c"),
        (_never_trained, "train/ holds no pictures of c, which test/ has"),
        (_empty_split, "val/ holds no pictures"),
        (_flat_test, "00.png lies beside the class folders"),
        (_unread, "photo.heic is no picture of a kind that is read"),
        (_without_ending, "photo is no picture of a kind that is read"),
        (_lost, "99.png is a link to nothing"),
    ],
)
def test_other_layouts_are_refused_with_what_was_seen(
    tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    for part in ("train", "test"):
        classes(tmp_path / part, {"a": 5, "b": 5})
    spoil(tmp_path)
    with pytest.raises(InvalidInput, match=words) as refused:
        here.describe(spec(tmp_path), ())
    assert "train/ val/ and test/" in refused.value.allowed


def test_what_systems_and_programs_leave_is_neither_class_nor_picture(tmp_path: Path) -> None:
    root = classes(tmp_path, {"cat": 10, "dog": 10})
    before = here.describe(spec(root), ())
    for folder in ("__MACOSX", "@eaDir", ".ipynb_checkpoints", ".git", "empty"):
        (root / folder).mkdir()
    for place in (root / "__MACOSX", root / ".ipynb_checkpoints", root / "cat" / ".ipynb_checkpoints", root / "dog"):
        fill(place, 1 if place != root / "dog" else 0)
    for name in (".DS_Store", "Thumbs.db", "._00.png", "cat/.DS_Store", "cat/._00.png", "cat/labels.csv", "notes.txt"):
        (root / name).write_bytes(b"x")
    found = here.describe(spec(root), ())
    assert (found.classes, found.train_total, found.test_total) == (("cat", "dog"), 16, 4)
    assert found.fingerprint == before.fingerprint
    told = " | ".join(found.ignored)
    for name in ("empty", "cat/labels.csv", "notes.txt", ".DS_Store"):
        assert name in told
    prepared = prepare({"data": {"dataset": "folder", "path": str(root)}, "training": SMALL}, ())
    assert any("folders without pictures: empty" in line for line in prepared.plan.warnings)


def test_a_folder_without_pictures_is_no_split(tmp_path: Path) -> None:
    for part in ("train", "test"):
        classes(tmp_path / part, {"a": 5, "b": 5})
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "a.xml").write_text("<a/>")
    found = here.describe(spec(tmp_path), ())
    assert (found.train_total, found.test_total) == (10, 10)
    assert "folders without pictures: annotations" in found.ignored
    (tmp_path / "annotations" / "a.heic").write_bytes(b"x")
    with pytest.raises(InvalidInput, match="it holds annotations/, test/, train/"):
        here.describe(spec(tmp_path), ())


def test_a_folder_around_the_folder_is_named(tmp_path: Path) -> None:
    classes(tmp_path / "pets", {"cat": 5, "dog": 5})
    (tmp_path / "__MACOSX").mkdir()
    with pytest.raises(InvalidInput, match=r"pets/ in it holds cat/, dog/: give that"):
        here.describe(spec(tmp_path), ())


# --- links ------------------------------------------------------------------------------------------------------------


def test_pictures_behind_links_are_looked_at_fingerprinted_and_read(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere" / "dogs" / "more", 4, level=200)
    fill(tmp_path / "elsewhere" / "dogs", 5, level=150)
    fill(tmp_path / "pets" / "cat", 8)
    (tmp_path / "pets" / "dog").symlink_to(tmp_path / "elsewhere" / "dogs")
    Image.new("L", (6, 6), 99).save(tmp_path / "elsewhere" / "one.png")
    (tmp_path / "pets" / "cat" / "linked.png").symlink_to(tmp_path / "elsewhere" / "one.png")
    asked = spec(tmp_path / "pets")
    before = here.describe(asked, ())
    splits = loading.load(asked, ())
    read = {*names(splits.train), *names(splits.validation), *names(splits.test)}
    assert {"dog/more/00.png", "dog/04.png", "cat/linked.png"} <= read
    assert before.train_total + before.test_total == len(read) == 18
    Image.new("L", (6, 6), 7).save(tmp_path / "elsewhere" / "dogs" / "more" / "00.png")
    assert here.describe(asked, ()).fingerprint != before.fingerprint
    with pytest.raises(DataCorrupt, match="has changed since"):
        loading.load(asked.model_copy(update={"fingerprint": before.fingerprint}), ())


def pinned(path: Path) -> Path:
    os.utime(path, (1e9, 1e9))
    return path


def test_other_contents_are_noticed_under_the_same_size_and_time(tmp_path: Path) -> None:
    """As where files of one archive change places, or a link comes to lead to another."""
    root = tmp_path / "set"
    for name, level in (("cat", 10), ("dog", 200)):
        (root / name).mkdir(parents=True)
        for i in range(5):
            Image.new("L", (6, 6), level + i).save(root / name / f"{i}.bmp")
            pinned(root / name / f"{i}.bmp")
    (root / "cat" / "link.bmp").symlink_to(root / "cat" / "0.bmp")
    seen = [here.describe(spec(root), ()).fingerprint]
    one, other = root / "cat" / "1.bmp", root / "dog" / "1.bmp"
    one.rename(tmp_path / "kept")
    other.rename(one)
    (tmp_path / "kept").rename(other)
    seen.append(here.describe(spec(root), ()).fingerprint)
    (root / "cat" / "link.bmp").unlink()
    (root / "cat" / "link.bmp").symlink_to(root / "dog" / "0.bmp")
    seen.append(here.describe(spec(root), ()).fingerprint)
    assert len(set(seen)) == 3


def test_an_npz_that_is_replaced_with_its_old_size_and_time_is_read_anew(tmp_path: Path) -> None:
    for name, level in (("set.npz", 10), ("new.npz", 200)):
        np.savez(tmp_path / name, images=np.full((20, 4, 4), level, np.uint8), labels=np.arange(20) % 2)
        pinned(tmp_path / name)
    assert data.read_npz(tmp_path / "set.npz").raw.test_images.max() == 10
    assert data.read_images(tmp_path / "set.npz")[0].max() == 10
    (tmp_path / "new.npz").replace(tmp_path / "set.npz")
    assert data.read_npz(tmp_path / "set.npz").raw.test_images.max() == 200
    assert data.read_images(tmp_path / "set.npz")[0].max() == 200


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    root = classes(tmp_path / "pets", {"cat": 6, "dog": 6})
    (root / "cat" / "up").symlink_to(root)
    (root / "cat" / "self").symlink_to(root / "cat")
    (root / "dog" / "again").symlink_to(root / "dog")
    (root / "round").symlink_to(root)
    (root / "dog" / "loop").symlink_to(root / "dog" / "loop")
    with pytest.raises(InvalidInput, match="dog/loop is a link to nothing"):
        here.describe(spec(root), ())
    (root / "dog" / "loop").unlink()
    found = here.describe(spec(root), ())
    assert (found.classes, found.train_total + found.test_total) == (("cat", "dog"), 12)
    assert any("cat/up" in line and "dog/again" in line for line in found.ignored)


def test_pipes_are_left_aside_and_never_opened(tmp_path: Path) -> None:
    root = classes(tmp_path, {"cat": 6, "dog": 6})
    os.mkfifo(root / "cat" / "pipe.png")
    assert "neither files nor folders: cat/pipe.png" in here.describe(spec(root), ()).ignored


@pytest.mark.parametrize(("place", "name"), [("dog/00.png", "dog/\\\\xff"), ("dog", "\\\\xff")])
def test_names_that_cannot_be_shown_are_refused_in_words(tmp_path: Path, place: str, name: str) -> None:
    root = classes(tmp_path, {"cat": 6, "dog": 6})
    (root / place).rename((root / place).parent / os.fsdecode(b"\xff" + Path(place).suffix.encode()))
    with pytest.raises(InvalidInput, match=rf"the name {name}.*is not UTF-8.*rename it"):
        here.describe(spec(root), ())


# --- arrays -----------------------------------------------------------------------------------------------------------


def test_array_names_of_medmnist_keras_and_scikit_learn_are_known() -> None:
    three = {"train": ("train_images", "train_labels"), "validation": ("val_images", "val_labels"),
             "test": ("test_images", "test_labels")}  # fmt: skip
    assert arrays_of(key for pair in three.values() for key in pair).pairs == three
    assert arrays_of(["x_train", "y_train", "x_test", "y_test"]).pairs == {
        "train": ("x_train", "y_train"), "test": ("x_test", "y_test"),
    }  # fmt: skip
    assert arrays_of(["X_train", "Y_train", "X_val", "Y_val"]).pairs["test"] == ("X_val", "Y_val")
    for pair in (("X", "y"), ("x", "y"), ("images", "labels"), ("data", "target"), ("Images", "Labels")):
        assert arrays_of([*pair, "ids"]).pairs == {"all": pair}
    assert arrays_of(["images", "data", "target", "target_names"]).pairs == {"all": ("images", "target")}
    assert images_of(["x_train", "y_train", "x_test", "y_test"]) == "x_test"
    assert images_of(["images", "data", "x"]) == "images"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (("x_train", "y_train"), "it holds x_train, y_train"),
        (("x_train", "y_train", "x_test"), "no labels go with x_test"),
        (("X", "x", "y"), "X and x both look like the images"),
        (("images", "labels", "extra_images", "extra_labels"), "a split that is not known"),
        (("images", "labels", "test_images", "test_labels"), "it holds images"),
        (("pictures",), "it holds pictures"),
    ],
)
def test_arrays_that_are_not_understood_are_refused(keys: tuple[str, ...], words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as refused:
        arrays_of(keys)
    assert "x_train" in refused.value.allowed


def part(n: int, *, start: int = 0, labels: NDArray[Any] | None = None) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Images that say their row (in two pixels) and come class by class."""
    images = np.zeros((n, 4, 4), np.uint8)
    images[:, 0, 0], images[:, 0, 1] = (start + np.arange(n)) // 256, (start + np.arange(n)) % 256
    return images, np.sort(np.arange(n) % 5) if labels is None else labels


def save(file: Path, **parts: tuple[NDArray[Any], NDArray[Any]]) -> Path:
    arrays = {f"{name}_images": images for name, (images, _) in parts.items()}
    np.savez(file, **arrays, **{f"{name}_labels": labels for name, (_, labels) in parts.items()})
    return file


def test_rows_sorted_by_class_give_all_classes_in_every_split(tmp_path: Path) -> None:
    file = save(tmp_path / "sorted.npz", train=part(500), val=part(200), test=part(300))
    for fields in ({}, {"train_images": 60, "validation_images": 60, "test_images": 60}, {"split_seed": 5}):
        splits = loading.load(spec(file, **fields), ())
        for name in ("train", "validation", "test"):
            split: data.Split = getattr(splits, name)
            assert set(split.labels.tolist()) == set(range(5))
            pixels = split.images.numpy() if not isinstance(split.images, data.ImageFiles) else None
            assert pixels is not None
            rows = pixels[:, 0, 0, 0].astype(int) * 256 + pixels[:, 0, 0, 1]
            key = {"validation": "val_images"}.get(name, f"{name}_images")
            assert names(split) == [f"{key}[{row}]" for row in rows]
    two = save(tmp_path / "two.npz", train=part(500), test=part(300))
    splits = loading.load(spec(two, test_images=60, validation_images=60), ())
    for split in (splits.train, splits.validation, splits.test):
        assert set(split.labels.tolist()) == set(range(5))
    assert len({*names(splits.train), *names(splits.validation)}) == 500


def test_the_order_is_drawn_from_the_split_seed(tmp_path: Path) -> None:
    file = save(tmp_path / "two.npz", train=part(50), test=part(30))
    rng = np.random.Generator(np.random.Philox(7))
    train, test = rng.permutation(50), rng.permutation(30)
    splits = loading.load(spec(file, split_seed=7, validation_images=10), ())
    assert names(splits.train) == [f"train_images[{i}]" for i in train[:40]]
    assert names(splits.validation) == [f"train_images[{i}]" for i in train[40:]]
    assert names(splits.test) == [f"test_images[{i}]" for i in test]
    assert here.own_names(spec(file, split_seed=7, validation_images=10), "test") == names(splits.test)


@pytest.mark.parametrize("labels", [range(1, 8), (2, 5, 9)], ids=["1..7", "2, 5, 9"])
def test_labels_that_never_occur_are_no_classes(tmp_path: Path, labels: Any) -> None:
    occurring = np.array(list(labels))
    images, _ = part(140)
    given = occurring[np.arange(140) % len(occurring)]
    np.savez(tmp_path / "gaps.npz", images=images, labels=given[:, None])
    splits = loading.load(spec(tmp_path / "gaps.npz"), ())
    assert splits.classes == tuple(str(label) for label in occurring)
    assert splits.shape.classes == len(occurring)
    for name, label in zip(names(splits.test), splits.test.labels.tolist(), strict=True):
        assert occurring[label] == given[int(name.removeprefix("images[")[:-1])]
    for classes_, expected in (
        (np.array([f"c{i}" for i in occurring]), tuple(f"c{i}" for i in occurring)),
        (np.array([f"n{i}" for i in range(max(occurring) + 1)]), tuple(f"n{i}" for i in occurring)),
    ):
        np.savez(tmp_path / "named.npz", images=images, labels=given, classes=classes_)
        assert here.describe(spec(tmp_path / "named.npz"), ()).classes == expected


def test_classes_that_training_lacks_are_said_before_a_launch(tmp_path: Path) -> None:
    file = save(tmp_path / "unseen.npz", train=part(50), val=part(10, labels=np.arange(10)), test=part(10))
    with pytest.raises(
        InvalidInput, match=r"val_labels: validation label 5 does not occur in training \(nor do 4 more"
    ):
        here.describe(spec(file), ())
    many = part(500, labels=np.arange(500) % 50)
    few = save(tmp_path / "few.npz", train=many, test=many)
    document = {"data": {"dataset": "npz", "path": str(few), "train_images": 20}, "training": SMALL}
    warned = [line for line in prepare(document, ()).plan.warnings if "hold none of" in line]
    lacking = 50 - len(set(loading.load(spec(few, train_images=20), ()).train.labels.tolist()))
    assert lacking >= 30
    assert warned[0].startswith(f"the 20 training images hold none of {lacking} of the classes: ")


# --- classes are shown by number --------------------------------------------------------------------------------------


def test_numeric_folders_keep_the_text_order_as_index_and_are_shown_by_number(tmp_path: Path) -> None:
    info = here.describe(spec(classes(tmp_path, {str(i): 5 for i in range(12)})), ())
    assert info.classes == tuple(sorted(map(str, range(12))))
    assert info.classes[2] == "10"
    assert [info.classes[i] for i in data.shown_order(info.classes)] == [str(i) for i in range(12)]
    assert data.shown_order(("b", "a", "10")) == [0, 1, 2]


# --- fingerprints -----------------------------------------------------------------------------------------------------


def first_rule(root: Path) -> str:
    """Names and contents of all pictures, by hand."""
    digest = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*.png")):
        digest.update(f"{path.relative_to(root)}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def test_what_reads_as_before_keeps_its_fingerprint_and_all_else_gets_another(tmp_path: Path) -> None:
    flat, split = classes(tmp_path / "flat", {"a": 9, "b": 9}), tmp_path / "split"
    for name in ("train", "test"):
        classes(split / name, {"a": 9, "b": 9})
    np.savez(tmp_path / "one.npz", images=part(50)[0], labels=part(50)[1])
    np.savez(tmp_path / "gaps.npz", images=part(50)[0], labels=part(50)[1] * 2)
    four = save(tmp_path / "four.npz", train=part(50), test=part(30))

    def found(path: Path, **fields: Any) -> str | None:
        return here.describe(spec(path, **fields), ()).fingerprint

    def content(path: Path) -> str:
        return hashlib.sha256(path.read_bytes()).hexdigest()

    assert found(flat) == found(flat, split="shuffled") == first_rule(flat)
    assert found(split) == first_rule(split)
    assert found(tmp_path / "one.npz") == content(tmp_path / "one.npz")
    others = [found(flat, split_seed=1), found(flat, split_seed=2), found(split, split_seed=1), found(four),
              found(four, split_seed=1), found(tmp_path / "one.npz", split_seed=1),
              found(tmp_path / "gaps.npz")]  # fmt: skip
    before = [first_rule(flat), first_rule(split), content(four), content(tmp_path / "one.npz"),
              content(tmp_path / "gaps.npz")]  # fmt: skip
    assert len({*others, *before}) == len(others) + len(before)
    classes(split / "val", {"a": 3, "b": 3})
    assert found(split) != first_rule(split)


def test_an_experiment_made_before_is_told_what_happened(tmp_path: Path) -> None:
    """Its files are the same: they have not changed, they are read in another way."""
    four = save(tmp_path / "four.npz", train=part(50), test=part(30))
    fill(tmp_path / "elsewhere", 9)
    linked = classes(tmp_path / "pets", {"a": 9})
    (linked / "b").symlink_to(tmp_path / "elsewhere")
    extra = tmp_path / "extra"
    for name in ("train", "test", "third"):
        classes(extra / name, {"a": 9, "b": 9})
    formerly = {four: hashlib.sha256(four.read_bytes()).hexdigest(), linked: first_rule_unlinked(linked)}
    for path, fingerprint in {**formerly, extra: first_rule(extra)}.items():
        with pytest.raises(DataCorrupt, match="is read differently since this experiment was created"):
            loading.load(spec(path, fingerprint=fingerprint), ())
    for path, fingerprint in formerly.items():
        asked = spec(path, fingerprint=fingerprint).model_dump()
        prepared = prepare({"data": asked, "training": SMALL}, ())
        assert "is read differently since" in prepared.plan.warnings[0]
        assert prepared.spec.data.fingerprint == prepared.info.fingerprint != fingerprint
    with pytest.raises(DataCorrupt, match="has changed since the experiment was created"):
        loading.load(spec(four, fingerprint="f" * 64), ())


def first_rule_unlinked(root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted((root / "a").iterdir()):
        digest.update(f"a/{path.name}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()


# --- a flat val/ of ImageNet ------------------------------------------------------------------------------------------

WNIDS = ("n01440764", "n01443537", "n02119789")
IDS = {"n02119789": 1, "n01443537": 2, "n01440764": 3}  # as in the development kit: another order than that of names


def imagenet(root: Path, truth: list[int], *, kit: bool = True, train: tuple[str, ...] = WNIDS) -> DataSpec:
    for number, wnid in enumerate(train):
        fill(root / "imagenet" / "train" / wnid, 4, level=50 * number)
    val = root / "imagenet" / "val"
    val.mkdir()
    for i, number in enumerate(truth, start=1):
        Image.new("RGB", (8, 8), (10 * number,) * 3).save(val / f"ILSVRC2012_val_{i:08}.JPEG")
    if kit:
        place = root / "imagenet" / "ILSVRC2012_devkit_t12" / "data"
        place.mkdir(parents=True)
        (place / "ILSVRC2012_validation_ground_truth.txt").write_text("\n".join(map(str, truth)) + "\n")
        rows = [(number, wnid, 0) for wnid, number in IDS.items()] + [(4, "n00001740", 3)]  # the last is no leaf
        kinds = [("ILSVRC2012_ID", "f8"), ("WNID", object), ("num_children", "f8")]
        savemat(place / "meta.mat", {"synsets": np.array(rows, dtype=kinds).reshape(-1, 1)})
    return DataSpec(dataset="imagenet", validation_images=2, input_scale="unit")


def test_a_flat_val_is_read_with_the_development_kits_labels(tmp_path: Path) -> None:
    truth = [2, 1, 3, 3, 1, 2, 2, 1, 1, 3]
    asked = imagenet(tmp_path, truth)
    info = here.describe(asked, (tmp_path,))
    assert (info.classes, info.test_total) == (WNIDS, 10)
    splits = loading.load(asked.model_copy(update={"fingerprint": info.fingerprint}), (tmp_path,))
    files = splits.test.images
    assert isinstance(files, data.ImageFiles)
    for path, label in zip(files.paths, splits.test.labels.tolist(), strict=True):
        number = truth[int(path.stem.rsplit("_", 1)[1]) - 1]
        assert IDS[WNIDS[label]] == number
    own = here.own_test(asked, (tmp_path,))
    assert own is not None
    assert own.names is not None
    assert dict(own.names)["n02119789"] == {f"ILSVRC2012_val_{i:08}.JPEG" for i in (2, 5, 8, 9)}


def test_a_flat_val_without_the_kit_is_refused_with_the_step_that_sorts_it(tmp_path: Path) -> None:
    asked = imagenet(tmp_path, [1, 2, 3], kit=False)
    with pytest.raises(
        DataCorrupt, match=r"no ILSVRC2012_validation_ground_truth.txt and meta.mat.*sort val/ into class"
    ):
        here.describe(asked, (tmp_path,))
    with pytest.raises(InvalidInput, match="sort them into class folders"):
        here.describe(spec(tmp_path / "imagenet"), ())


def test_pictures_of_classes_that_training_lacks_are_counted_and_left_out(tmp_path: Path) -> None:
    asked = imagenet(tmp_path, [1, 2, 3, 3], train=WNIDS[1:])
    info = here.describe(asked, (tmp_path,))
    assert info.test_total == 2
    assert "pictures of classes that train/ lacks: 2" in info.ignored


def test_imagenet_ignores_what_is_no_class(tmp_path: Path) -> None:
    for name in ("train", "val"):
        classes(tmp_path / "imagenet" / name, {"n01": 4, "n02": 4})
        (tmp_path / "imagenet" / name / "empty").mkdir()
        fill(tmp_path / "imagenet" / name / ".ipynb_checkpoints", 1)
        fill(tmp_path / "imagenet" / name / "n01" / "@eaDir", 1)
        (tmp_path / "imagenet" / name / "n01" / "list.csv").write_text("x")
    asked = DataSpec(dataset="imagenet", validation_images=2)
    info = here.describe(asked, (tmp_path,))
    assert (info.classes, info.train_total, info.test_total) == (("n01", "n02"), 8, 8)
    assert "left aside: not pictures: n01/list.csv" in info.remarks
    assert len(loading.load(asked, (tmp_path,)).test) == 8
    (tmp_path / "imagenet" / "val" / "n01" / "00.png").rename(tmp_path / "imagenet" / "val" / "n01" / "photo")
    with pytest.raises(DataCorrupt, match="n01/photo is no picture of a kind that is read, or lacks its ending"):
        here.describe(asked, (tmp_path,))


# --- shown and exported -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_row_of_predictions_can_be_traced_to_its_file(tmp_path: Path) -> None:
    root = classes(tmp_path / "pets", {str(i): 12 for i in (9, 10)})
    document = {
        "data": {"dataset": "folder", "path": str(root)},
        "network": {"architecture": "mlp"},
        "training": SMALL,
        "ensemble": {"runs": 2},
        "evaluation": {"splits": ["test"]},
    }
    lab = modescape.run(document, folder=tmp_path / "home", name="pets")
    splits = loading.load(lab.spec.data, ())
    laboratory = Laboratory(Settings(home=tmp_path / "home"))
    results = laboratory.results("pets")
    assert results.image_names("test") == names(splits.test)
    export(laboratory, "pets", tmp_path / "out")
    with (tmp_path / "out" / "images-test.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == names(splits.test)
    for i, row in enumerate(rows):
        assert row["image"] == str(i)
        assert row["class"] == row["name"].split("/")[0] == ("10", "9")[int(row["label"])]
    with served(tmp_path / "home", workers=0) as running, running.client() as client:
        table = client.get("/api/experiments/pets/images").text
        assert list(csv.DictReader(table.splitlines())) == rows
        assert client.get("/api/experiments/pets/images?split=validation").status_code == 404


@pytest.mark.slow
def test_the_data_page_says_what_is_used_for_what_and_each_classs_index(tmp_path: Path) -> None:
    root = tmp_path / "data" / "scans"
    for name in ("train", "val"):
        classes(root / name, {str(i): 6 for i in range(12)})
    (root / "val" / "notes.txt").write_text("x")
    with served(tmp_path) as running, running.client() as client:
        answer = client.post("/api/data", json={"path": str(root), "name": "scans"}).json()
        assert answer["validation"] == 0
        assert answer["ignored"] == ["not pictures: val/notes.txt"]
        page = client.get("/data", headers={"Accept": "text/html"}).text
        assert "val/ (72) is the test set, as in ImageNet, for there is no other" in page
        assert "Left aside: not pictures: val/notes.txt" in page
        shown = re.findall(r"<li>(\d+) <code class=\"muted\">(\d+)</code>", page)
        index = {name: i for i, name in enumerate(sorted(map(str, range(12))))}
        assert shown == [(str(i), str(index[str(i)])) for i in range(12)]
        tests = here.own_names(spec(root), "test")
        gallery = client.get("/gallery?dataset=scans&image=3", headers={"Accept": "text/html"}).text
        assert f"<code>{tests[3]}</code>" in gallery


@pytest.fixture
def kept_inside(tmp_path: Path) -> None:
    """This process follows links as a server and its workers do."""
    keep_to([tmp_path / "data"])


@pytest.mark.usefixtures("kept_inside")
def test_what_links_lead_to_outside_is_neither_scanned_nor_read_nor_shown(tmp_path: Path) -> None:
    """At any depth, pictures and folders alike; links inside are followed, in a circle, too."""
    root = classes(tmp_path / "data" / "scans", {"a": 9, "b": 9})
    deep = fill(root / "a" / "c" / "d", 2)
    fill(tmp_path / "data" / "shared", 3, level=40)
    outside = fill(tmp_path / "outside", 2, level=250)
    (deep / "away").symlink_to(outside)
    (root / "b" / "away.png").symlink_to(outside / "00.png")
    (root / "b" / "etc.png").symlink_to("/etc/passwd")
    (root / "secrets").symlink_to(tmp_path)  # a class, if it were followed
    (root / "b" / "shared").symlink_to(tmp_path / "data" / "shared")
    (root / "b" / "again.png").symlink_to(root / "a" / "00.png")
    (root / "b" / "round").symlink_to(root)
    told = here.describe(spec(root), ())
    splits = loading.load(spec(root), ())
    read = {*names(splits.train), *names(splits.validation), *names(splits.test)}
    assert len(read) == told.train_total + told.test_total == 9 + 9 + 2 + 3 + 1
    assert not [name for name in read if "away" in name or "etc" in name or "secrets" in name]
    (said,) = [line for line in told.ignored if "outside" in line]
    assert said.startswith(
        "4 links lead outside the allowed folders and are left out: a/c/d/away, b/away.png, b/etc.png"
    )
    assert inside(str(root), [tmp_path / "data"], field="path") == root
    assert tuple(told.classes) == ("a", "b")


@pytest.mark.usefixtures("kept_inside")
def test_a_set_that_is_elsewhere_keeps_links_that_stay_in_it(tmp_path: Path) -> None:
    root = classes(tmp_path / "mine", {"a": 9, "b": 9})
    (root / "b" / "again.png").symlink_to(root / "a" / "00.png")
    (root / "b" / "away.png").symlink_to(fill(tmp_path / "other", 1) / "00.png")
    assert here.describe(spec(root), ()).train_total + here.describe(spec(root), ()).test_total == 19
