"""Published sets in small: the layouts of CIFAR-10-C and ImageNet-C, and everything that can be wrong with one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from modescape.corruptions.published import PublishedSet, check_set
from modescape.errors import InvalidInput
from modescape.records import DataInfo
from modescape.registry import corruptions
from modescape.science.data import ImageFiles, OwnTest, Split

N, CLASSES, SYNSETS = 12, ("cat", "dog", "owl"), ("n00", "n01", "n02")
LABELS = np.arange(N, dtype=np.int64) % 3
INFO = DataInfo(3, 32, 32, CLASSES, 100, N, 10)
PHOTOS = DataInfo(3, 24, 24, CLASSES, 100, 6, 10)
OPEN_HEADER = b"\x93NUMPY\x01\x00\x10\x00{'descr': [(       "  # of which numpy says TokenError


def clean_split() -> Split:
    return Split(torch.zeros(N, 3, 32, 32, dtype=torch.uint8), torch.from_numpy(LABELS))


def rows(number: int) -> NDArray[np.uint8]:
    """Image i of intensity s holds the value 40 s + i in its first channel, the number of its type in the second."""
    images = np.zeros((5 * N, 32, 32, 3), np.uint8)
    images[..., 0] = (40 * np.arange(5)[:, None] + np.arange(N)).reshape(-1)[:, None, None]
    images[..., 1] = number
    return images


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    """Every type in the layout of CIFAR-10-C, two under the names of TensorFlow Datasets."""
    for number, name in enumerate(corruptions):
        name = {"glass_blur": "frosted_glass_blur", "elastic_transform": "elastic"}.get(name, name)
        np.save(tmp_path / f"{name}.npy", rows(number))
    np.save(tmp_path / "labels.npy", np.tile(LABELS, 5).astype(np.uint8))
    return tmp_path


MAIN = tuple(name for name, kind in corruptions.items() if kind.family.key != "extra")


@pytest.fixture
def photographs(tmp_path: Path) -> tuple[Path, Split]:
    """Fog and snow at intensities 1 and 2 in the layout of ImageNet-C, and the clean test set, shuffled."""
    names = [(f"n0{label}", f"ILSVRC2012_val_{i}.JPEG") for i, label in enumerate((0, 0, 1, 1, 2, 2))]
    for t, name in enumerate(("fog", "snow")):
        for intensity in (1, 2):
            for i, (folder, file) in enumerate(names):
                place = tmp_path / "c" / name / str(intensity) / folder
                place.mkdir(parents=True, exist_ok=True)
                grey = Image.new("RGB", (24, 24), (100 * t + 20 * intensity + i,) * 3)
                grey.save(place / file, quality=100)
    order = (3, 0, 5, 1, 4, 2)
    paths = tuple(tmp_path / "clean" / names[i][0] / names[i][1] for i in order)
    labels = torch.tensor([(0, 0, 1, 1, 2, 2)[i] for i in order])
    return tmp_path / "c", Split(ImageFiles(paths, 3, 24, 24), labels)


def test_rows_of_arrays_are_images_of_their_intensity(arrays: Path) -> None:
    fingerprint = check_set(arrays, INFO, tuple(corruptions))
    assert len(fingerprint) == 64
    assert check_set(str(arrays), INFO, tuple(corruptions), (2, 3)) == fingerprint
    found = PublishedSet(arrays, clean_split(), CLASSES)
    found.check_labels(LABELS)
    found.check_labels(LABELS[:5])
    for number, name in enumerate(corruptions):
        images = found.images(name, 4, 2, 7)
        assert images.shape == (5, 3, 32, 32)
        assert images.dtype == np.uint8
        assert images[:, 0, 5, 5].tolist() == [122, 123, 124, 125, 126]
        assert (images[:, 1] == number).all()


def test_a_fingerprint_changes_with_the_images(arrays: Path) -> None:
    before = check_set(arrays, INFO, ("fog",))
    assert check_set(arrays, INFO, ("snow",)) != before
    changed = rows(0)
    changed[1, 2, 3] = 7  # one that is not among the images looked at
    np.save(arrays / "fog.npy", changed)
    assert check_set(arrays, INFO, ("fog",)) != before


def test_pictures_of_folders_come_in_the_order_of_the_test_set(photographs: tuple[Path, Split]) -> None:
    folder, test = photographs
    check_set(folder, PHOTOS, ("fog", "snow"), (1, 2))
    found = PublishedSet(folder, test, SYNSETS)
    found.check_labels(test.numpy_labels())
    images = found.images("snow", 2, 1, 5)
    assert images.shape == (4, 3, 24, 24)
    assert np.abs(images[:, 0, 3, 3].astype(int) - [140 + i for i in (0, 5, 1, 4)]).max() <= 1  # JPEG


Wrong = Callable[[Path], None]


def _archive(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, rows(0))


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "fog.npy").unlink(), "lacks 1 of 19 types: fog"),
        (lambda folder: (folder / "labels.npy").unlink(), "no labels.npy"),
        (lambda folder: np.save(folder / "labels.npy", np.zeros((5 * N, 2), np.uint8)), "5 x images"),
        (lambda folder: np.save(folder / "labels.npy", np.zeros(5 * N)), "float64"),
        (lambda folder: np.save(folder / "labels.npy", np.tile(LABELS[:-1], 5)), "has 11 images of each .* 12 to test"),
        (lambda folder: np.save(folder / "labels.npy", np.tile(LABELS, 5) + 1), "from 1 to 3, the data set's from 0 "),
        (lambda folder: np.save(folder / "fog.npy", rows(0).astype(np.float32)), "fog.npy holds float32, not uint8"),
        (lambda folder: np.save(folder / "fog.npy", rows(0)[:-1]), r"fog.npy has shape \(59, 32, 32, 3\)"),
        (lambda folder: np.save(folder / "fog.npy", rows(0).transpose(0, 3, 1, 2)), r"needed is \(60, 32, 32, 3\)"),
        (lambda folder: (folder / "fog.npy").write_bytes(b"not an array"), "fog.npy is not a whole .npy file"),
        (lambda folder: np.save(folder / "fog.npy", np.array([{}, {}])), "fog.npy is not a whole .npy file"),
        (lambda folder: _archive(folder / "fog.npy"), "fog.npy is not a whole .npy file"),
        (lambda folder: (folder / "fog.npy").write_bytes(OPEN_HEADER), "fog.npy is not a whole .npy file"),
        (lambda folder: _pipe(folder / "fog.npy"), "fog.npy is no file"),
        (lambda folder: _pipe(folder / "labels.npy"), "labels.npy is no file"),
    ],
)  # fmt: skip
def test_wrong_arrays_are_refused_in_words_before_anything_starts(arrays: Path, spoil: Wrong, words: str) -> None:
    spoil(arrays)
    with pytest.raises(InvalidInput, match=words) as refused:
        check_set(arrays, INFO, tuple(corruptions))
    assert refused.value.field == "path"
    assert "CIFAR-10-C" in refused.value.allowed


def test_labels_in_another_order_are_refused(arrays: Path, photographs: tuple[Path, Split]) -> None:
    with pytest.raises(InvalidInput, match=r"another order.*image 0 is of class 0 there, 1 here"):
        PublishedSet(arrays, clean_split(), CLASSES).check_labels((LABELS + 1) % 3)
    second = np.tile(LABELS, 5)
    second[N + 3] = 2  # intensity 2 alone is wrong
    np.save(arrays / "labels.npy", second)
    with pytest.raises(InvalidInput, match=r"image 3 is of class 2 there, 0 here \(1 of 12 differ\)"):
        PublishedSet(arrays, clean_split(), CLASSES).check_labels(LABELS)
    folder, test = photographs
    with pytest.raises(InvalidInput, match="another order"):
        PublishedSet(folder, test, SYNSETS).check_labels(2 - test.numpy_labels())


def test_another_order_is_refused_before_anything_starts(arrays: Path, photographs: tuple[Path, Split]) -> None:
    check_set(arrays, INFO, ("fog",), own=OwnTest(LABELS))
    check_set(arrays, INFO, ("fog",), own=OwnTest(None))  # not known here: the worker compares
    wrong = LABELS.copy()
    wrong[7] = 0
    with pytest.raises(InvalidInput, match=r"image 7 is of class 1 there, 0 here \(1 of 12 differ\)") as refused:
        check_set(arrays, INFO, ("fog",), own=OwnTest(wrong))
    assert (refused.value.field, bool(refused.value.allowed)) == ("path", True)
    folder, _ = photographs
    names = tuple((f"n0{c}", frozenset(f"ILSVRC2012_val_{i}.JPEG" for i in (2 * c, 2 * c + 1))) for c in range(3))
    photos = DataInfo(3, 24, 24, ("n00", "n01", "n02"), 100, 6, 10)
    check_set(folder, photos, ("fog", "snow"), (1, 2), own=OwnTest(None, names))
    for info, own, words in (
        (DataInfo(3, 24, 24, ("n00", "n01", "n09"), 100, 6, 10), OwnTest(None, names), r"data set: n02 \(1 of 3\)"),
        (photos, OwnTest(LABELS), "whose order only a test set read from files tells"),
    ):
        with pytest.raises(InvalidInput, match=words):
            check_set(folder, info, ("fog", "snow"), (1, 2), own=own)
    (folder / "snow" / "2" / "n02" / "ILSVRC2012_val_5.JPEG").unlink()
    with pytest.raises(InvalidInput, match="snow/2/n02 lacks 1 of 2 images of the test set, such as ILSVRC2012_val_5"):
        check_set(folder, photos, ("fog", "snow"), (1, 2), own=OwnTest(None, names))


def test_more_images_than_there_are_is_refused(arrays: Path) -> None:
    with pytest.raises(InvalidInput, match="has 12 images of each type and intensity, number 12 is needed"):
        PublishedSet(arrays, clean_split(), CLASSES).images("fog", 1, 10, 13)
    with pytest.raises(InvalidInput, match="13 are needed"):
        PublishedSet(arrays, clean_split(), CLASSES).check_labels(np.append(LABELS, 0))
    with pytest.raises(InvalidInput, match="no 'fog' of intensity 6"):
        PublishedSet(arrays, clean_split(), CLASSES).images("fog", 6, 0, 3)


def test_wrong_folders_are_refused_in_words(photographs: tuple[Path, Split], tmp_path: Path) -> None:
    folder, test = photographs

    def refused(words: str, types: tuple[str, ...] = ("fog", "snow"), info: DataInfo = PHOTOS) -> None:
        with pytest.raises(InvalidInput, match=words) as found:
            check_set(folder, info, types, (1, 2))
        assert found.value.field == "path"

    refused("lacks 1 of 2 types: frost", ("fog", "frost"))
    refused("neither .npy files nor folders of corruption types", ("frost",))
    refused("24x24 pixels, networks are trained on 32x32", info=INFO)
    refused("holds 3 classes, the data set 2", info=DataInfo(3, 24, 24, CLASSES[:2], 100, 6, 10))
    with pytest.raises(InvalidInput, match="there is no folder"):
        check_set(tmp_path / "elsewhere", PHOTOS, ("fog",))
    with pytest.raises(InvalidInput, match="lacks the folder fog/3"):
        check_set(folder, PHOTOS, ("fog",), (3,))
    (folder / "snow" / "2" / "n02" / "ILSVRC2012_val_5.JPEG").unlink()
    published = PublishedSet(folder, test, SYNSETS)
    for call in (lambda: published.check_labels(test.numpy_labels()), lambda: published.images("snow", 2, 0, 6)):
        with pytest.raises(
            InvalidInput, match="snow/2/n02 lacks 1 of 2 images of the test set, such as ILSVRC2012_val_5"
        ):
            call()
    with pytest.raises(InvalidInput, match="whose order only a test set read from files tells"):
        PublishedSet(folder, clean_split(), SYNSETS).images("fog", 1, 0, 2)
    (folder / "snow" / "1" / "n09").mkdir()
    (folder / "snow" / "1" / "n09" / "ILSVRC2012_val_9.JPEG").write_bytes(b"x")
    refused("snow/1 has other classes than fog/1: n09")
    (folder / "fog" / "1" / "n00" / "ILSVRC2012_val_0.JPEG").write_bytes(b"no picture")
    refused("ILSVRC2012_val_0.JPEG cannot be read as a picture")


@pytest.mark.timeout(60)  # of a pipe that is read, nothing comes
def test_only_files_are_pictures_of_a_published_set(photographs: tuple[Path, Split]) -> None:
    folder, test = photographs
    place = folder / "snow" / "2" / "n02"
    os.mkfifo(place / "ILSVRC2012_val_0.JPEG")
    (place / "ILSVRC2012_val_1.JPEG").mkdir()
    check_set(folder, PHOTOS, ("fog", "snow"), (1, 2))
    found = PublishedSet(folder, test, SYNSETS)
    assert found.images("snow", 2, 0, 6).shape == (6, 3, 24, 24)
    (place / "ILSVRC2012_val_5.JPEG").unlink()
    (place / "ILSVRC2012_val_5.JPEG").symlink_to("nowhere.JPEG")
    with pytest.raises(InvalidInput, match="lacks 1 of 2 images of the test set, such as ILSVRC2012_val_5"):
        found.check_labels(test.numpy_labels())


def test_every_picture_of_a_published_set_has_the_size_networks_see(photographs: tuple[Path, Split]) -> None:
    folder, test = photographs
    Image.new("RGB", (30, 24)).save(folder / "snow" / "2" / "n02" / "ILSVRC2012_val_5.JPEG")
    with pytest.raises(InvalidInput, match=r"ILSVRC2012_val_5\.JPEG has 24x30 pixels, networks are trained on 24x24"):
        PublishedSet(folder, test, SYNSETS).images("snow", 2, 0, 6)


def test_what_systems_and_programs_leave_is_no_part_of_a_published_set(
    arrays: Path, photographs: tuple[Path, Split]
) -> None:
    before = check_set(arrays, INFO, ("fog",))
    (arrays / "._fog.npy").write_bytes(b"x")
    (arrays / "readme.txt").write_text("x")
    assert check_set(arrays, INFO, ("fog",)) == before
    folder, test = photographs
    (folder / "._labels.npy").write_bytes(b"x")
    before = check_set(folder, PHOTOS, ("fog", "snow"), (1, 2))
    for name in ("@eaDir", ".ipynb_checkpoints", "__MACOSX", "empty"):
        (folder / "snow" / "1" / name).mkdir()
    (folder / "snow" / "1" / "n00" / "._ILSVRC2012_val_0.JPEG").write_bytes(b"x")
    (folder / "snow" / "1" / "n00" / "Thumbs.db").write_bytes(b"x")
    check_set(folder, PHOTOS, ("fog", "snow"), (1, 2))
    found = PublishedSet(folder, test, SYNSETS)
    found.check_labels(test.numpy_labels())
    assert found.images("snow", 1, 0, 6).shape == (6, 3, 24, 24)
