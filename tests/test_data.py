"""Every data set is read in its published layout, refused when it is something else, split, scaled and augmented."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import re
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from modescape.datasets import cifar10, cifar100, dataset, here, imagenet, loading
from modescape.datasets.dataset import DataLocation
from modescape.datasets.fashion_mnist import read_idx
from modescape.errors import DataCorrupt, DataMissing, InvalidInput
from modescape.registry import datasets
from modescape.science import data
from modescape.science.data import ImageFiles, Published, RawData, contents
from modescape.spec_parts import DataSpec

DEBIAN = Path("/usr/share/datasets")


def spec(dataset: str, **fields: Any) -> DataSpec:
    return DataSpec.model_validate({"dataset": dataset, **fields})


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def pixels(n: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def refused(call: Callable[[], object]) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        call()
    assert caught.value.field == "data.path"
    assert caught.value.allowed
    return caught.value


# --- sets that need no files ------------------------------------------------------------------------------------------


def test_digits_are_all_there_stratified_and_disjoint() -> None:
    from sklearn.datasets import load_digits

    splits = loading.load(spec("digits"), ())
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (400, 197, 1200)
    bunch = load_digits()
    raw = datasets["digits"].call(DataLocation(()), spec("digits"))
    together = np.concatenate([raw.train_images, raw.test_images])[:, 0]
    # 0..16 becomes 0..255 by x * 255 / 16, rounded to the nearest: 8 -> 127.5 -> 128 (half to even)
    assert {0: 0, 1: 16, 8: 128, 16: 255}.items() <= dict(
        zip(bunch.images.ravel().astype(int), np.rint(bunch.images.ravel() * 255 / 16).astype(int), strict=True)
    ).items()
    mine = sorted(image.tobytes() for image in together)
    theirs = sorted(np.rint(image * 255 / 16).astype(np.uint8).tobytes() for image in bunch.images)
    assert mine == theirs
    share = np.bincount(raw.test_labels) / np.bincount(bunch.target)
    assert np.all(np.abs(share - 1200 / 1797) < 0.01)


def test_half_of_the_digits_can_be_held_out() -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    for name, first in (("digits-0-4", 0), ("digits-5-9", 5)):
        raw = datasets[name].call(DataLocation(()), spec(name))
        mine = np.bincount(np.concatenate([raw.train_labels, raw.test_labels]), minlength=5)
        assert mine.tolist() == np.bincount(bunch.target)[first : first + 5].tolist()
        theirs = {np.rint(image * 255 / 16).astype(np.uint8).tobytes() for image in bunch.images[bunch.target == first]}
        assert {image.tobytes() for image in raw.test_images[raw.test_labels == 0]} < theirs
        assert len(raw.train_labels) == datasets[name].train_total


def test_blobs_are_the_same_each_time_and_need_nothing() -> None:
    first, second = (datasets["blobs"].call(DataLocation(()), spec("blobs")) for _ in range(2))
    assert np.array_equal(first.train_images, second.train_images)
    assert np.bincount(first.train_labels).min() > 80


# --- Fashion-MNIST ----------------------------------------------------------------------------------------------------


def idx(path: Path, values: np.ndarray, *, gz: bool = False) -> None:
    header = b"\x00\x00\x08" + bytes([values.ndim]) + b"".join(n.to_bytes(4, "big") for n in values.shape)
    content = header + values.astype(np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if gz else content)


def fashion(folder: Path, *, gz: bool, n: int = 40) -> np.ndarray:
    images, end = pixels(n, 28, 28), ".gz" if gz else ""
    idx(folder / f"train-images-idx3-ubyte{end}", images, gz=gz)
    idx(folder / f"train-labels-idx1-ubyte{end}", np.arange(n) % 10, gz=gz)
    idx(folder / f"t10k-images-idx3-ubyte{end}", images[:10], gz=gz)
    idx(folder / f"t10k-labels-idx1-ubyte{end}", np.arange(10), gz=gz)
    return images


def sums_of_idx(folder: Path) -> dict[str, str]:
    """MD5s of what the files hold."""
    files = sorted(folder.glob("*-ubyte*"))
    return {
        path.name.removesuffix(".gz"): hashlib.md5(
            gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        ).hexdigest()
        for path in files
    }


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize("place", ["", "fashion-mnist", "FashionMNIST/raw"])
def test_fashion_mnist_is_found_gzipped_or_not(tmp_path: Path, gz: bool, place: str) -> None:
    images = fashion(tmp_path / place, gz=gz)
    sums = {"fashion-mnist": sums_of_idx(tmp_path / place)}
    asked = spec("fashion-mnist", validation_images=5)
    splits = loading.load(asked, (tmp_path / "elsewhere", tmp_path), checksums=sums)
    assert splits.shape == (1, 28, 28, 10)
    assert isinstance(splits.train.images, Tensor)
    assert np.array_equal(splits.train.images.numpy(), images[:35, None])
    assert splits.test.numpy_labels().tolist() == list(range(10))


def test_another_set_under_fashion_mnists_names_is_refused(tmp_path: Path) -> None:
    """MNIST's files have the same names and shapes: labels tell before a launch, images when they are loaded."""
    fashion(tmp_path, gz=False)
    for call in (here.describe, loading.load, here.own_test):
        with pytest.raises(
            DataCorrupt, match=r"labels-idx1-ubyte holds another set|images-idx3-ubyte holds another set"
        ):
            call(spec("fashion-mnist", validation_images=5), (tmp_path,))
    sums = {"fashion-mnist": sums_of_idx(tmp_path)}
    path = tmp_path / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")  # one pixel
    with pytest.raises(DataCorrupt, match="t10k-images-idx3-ubyte holds another set"):
        loading.load(spec("fashion-mnist", validation_images=5), (tmp_path,), checksums=sums)


def test_the_files_of_debians_package_hold_what_is_published() -> None:
    """Packed as published, with gzip's name and time put back, one has the MD5 that torchvision demands of it."""
    from torchvision.datasets import FashionMNIST

    name = "t10k-labels-idx1-ubyte"
    packed = (Path("/usr/share/datasets/fashion-mnist") / f"{name}.gz").read_bytes()
    named = b"\x1f\x8b\x08\x08" + (1504176627).to_bytes(4, "little") + b"\x00\x03" + name.encode() + b"\x00"
    assert hashlib.md5(named + packed[10:]).hexdigest() == dict(FashionMNIST.resources)[f"{name}.gz"]
    assert hashlib.md5(gzip.decompress(packed)).hexdigest() == datasets["fashion-mnist"].checksums[name]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda content: content[:-3], "promises"),
        (lambda content: b"\x00\x00\x0d" + content[3:], "not an IDX file"),
        (lambda content: b"", "not an IDX file"),
        (lambda content: content[:6], "is cut off"),  # in the middle of its sizes
        (lambda content: content[:3] + b"\x00" + content[4:], "not an IDX file"),
        (lambda content: content[:3] + b"\xff" + content[4:], "not an IDX file"),
        (lambda content: content[:4] + b"\xff" * 12 + content[16:], "promises"),  # more than any memory
    ],
)
def test_a_broken_idx_file_is_refused(tmp_path: Path, spoil: Callable[[bytes], bytes], words: str) -> None:
    fashion(tmp_path, gz=False)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DataCorrupt, match=words):
        loading.load(spec("fashion-mnist", validation_images=5), (tmp_path,))


def test_a_cut_gzip_is_refused(tmp_path: Path) -> None:
    fashion(tmp_path, gz=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataCorrupt, match="cannot be read"):
        loading.load(spec("fashion-mnist", validation_images=5), (tmp_path,))


def test_a_damaged_gzip_is_refused(tmp_path: Path) -> None:
    fashion(tmp_path, gz=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[30:60] = bytes(30)  # inside the deflated data: zlib's error, not gzip's
    path.write_bytes(bytes(content))
    with pytest.raises(DataCorrupt, match=r"images-idx3-ubyte\.gz cannot be read"):
        read_idx(path)
    with pytest.raises(DataCorrupt, match=r"images-idx3-ubyte\.gz cannot be read"):
        here.describe(spec("fashion-mnist"), (tmp_path,))


@pytest.mark.slow
def test_debians_fashion_mnist_is_the_published_one() -> None:
    if not (DEBIAN / "fashion-mnist").is_dir():
        pytest.fail("Fashion-MNIST is not installed: sudo apt-get install dataset-fashion-mnist")
    splits = loading.load(spec("fashion-mnist"), (DEBIAN,))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (55_000, 5_000, 10_000)
    assert np.bincount(splits.test.numpy_labels()).tolist() == [1000] * 10
    assert isinstance(splits.train.images, Tensor)
    # the published mean of the training pixels, 0.2860 of 255, over all 60,000
    assert isinstance(splits.validation.images, Tensor)
    total = splits.train.images.long().sum() + splits.validation.images.long().sum()
    assert float(total) / (60_000 * 784 * 255) == pytest.approx(0.2860, abs=1e-4)


# --- CIFAR and SVHN: torchvision's readers behind checksums -----------------------------------------------------------


def small_cifar10(root: Path, n: int = 4) -> dict[str, str]:
    """A small CIFAR-10 in the exact published layout; its checksums."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for i, name in enumerate([*(f"data_batch_{b}" for b in range(1, 6)), "test_batch"]):
        planes = pixels(n, 3072, seed=i)
        entry = {
            "data": planes,
            "labels": [(i + j) % 10 for j in range(n)],
            "filenames": [f"{j}.png" for j in range(n)],
        }
        (folder / name).write_bytes(pickle.dumps(entry))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(cifar10.CLASSES)}))
    return {path.name: md5(path) for path in folder.iterdir()}


def test_cifar10_in_its_published_layout(tmp_path: Path) -> None:
    sums = {"cifar10": small_cifar10(tmp_path)}
    splits = loading.load(spec("cifar10", validation_images=2), (tmp_path,), checksums=sums)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (18, 2, 4)
    first = pixels(4, 3072, seed=0).reshape(4, 3, 32, 32)  # planes: all red, all green, all blue, row by row
    assert isinstance(splits.train.images, Tensor)
    assert np.array_equal(splits.train.images[:4].numpy(), first)
    assert splits.train.numpy_labels()[:5].tolist() == [0, 1, 2, 3, 1]
    assert splits.classes == cifar10.CLASSES


def small_cifar100(root: Path) -> dict[str, str]:
    folder = root / "cifar100" / "cifar-100-python"
    folder.mkdir(parents=True)
    for name, n in (("train", 6), ("test", 3)):
        entry = {"data": pixels(n, 3072), "fine_labels": list(range(90, 90 + n)), "coarse_labels": [0] * n}
        (folder / name).write_bytes(pickle.dumps(entry))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": list(cifar100.CLASSES)}))
    return {path.name: md5(path) for path in folder.iterdir()}


def test_cifar100_reads_fine_labels(tmp_path: Path) -> None:
    sums = {"cifar100": small_cifar100(tmp_path)}
    splits = loading.load(spec("cifar100", validation_images=1), (tmp_path,), checksums=sums)
    assert splits.train.numpy_labels().tolist() == [90, 91, 92, 93, 94]
    assert splits.shape == (3, 32, 32, 100)
    assert len(cifar100.CLASSES) == 100
    assert list(cifar100.CLASSES) == sorted(cifar100.CLASSES)


def test_test_labels_are_known_without_loading_the_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fashion(tmp_path / "fashion-mnist", gz=True)
    sums = {"cifar10": small_cifar10(tmp_path), "fashion-mnist": sums_of_idx(tmp_path / "fashion-mnist")}
    monkeypatch.setattr(dataset, "checksums_published", lambda: sums)
    pictures(tmp_path / "mine", {"cats": 20, "dogs": 30})
    for asked in (
        spec("cifar10", validation_images=2),
        spec("fashion-mnist", validation_images=5),
        spec("blobs"),
        folder_spec(tmp_path / "mine"),
        npz(tmp_path, images=pixels(30, 6, 5), labels=LABELS),
    ):
        found = here.own_test(asked, (tmp_path,))
        assert found is not None
        assert found.labels is not None
        assert found.labels.tolist() == loading.load(asked, (tmp_path,), checksums=sums).test.numpy_labels().tolist()
        assert found.names is None
    found = here.own_test(spec("imagenet"), (photographs(tmp_path),))
    assert found is not None
    assert found.names == tuple((name, {"val0.png", "val1.png", "val2.png"}) for name in "ab")
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps(_Bomb()))
    with pytest.raises(DataCorrupt, match="test_batch has MD5"):
        here.own_test(spec("cifar10"), (tmp_path,))


class _Bomb:
    """Unpickling this raises the alarm."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (_alarm, ("unpickled",))


def _alarm(word: str) -> None:
    raise AssertionError(word)


@pytest.mark.parametrize("name", ["data_batch_3", "batches.meta"])
def test_nothing_is_unpickled_before_its_checksum_is_verified(tmp_path: Path, name: str) -> None:
    sums = {"cifar10": small_cifar10(tmp_path)}
    (tmp_path / "cifar-10-batches-py" / name).write_bytes(pickle.dumps(_Bomb()))
    with pytest.raises(DataCorrupt, match=f"{name} has MD5"):
        loading.load(spec("cifar10", validation_images=2), (tmp_path,), checksums=sums)


def test_the_published_checksums_are_demanded_by_default(tmp_path: Path) -> None:
    small_cifar10(tmp_path)
    with pytest.raises(DataCorrupt, match="expected c99cafc152244af753f735de768cd75f"):
        loading.load(spec("cifar10"), (tmp_path,))


def test_checksums_are_torchvisions_own() -> None:
    from torchvision.datasets import CIFAR10, CIFAR100, SVHN

    for ours, theirs in ((cifar10.FILES, CIFAR10), (cifar100.FILES, CIFAR100)):
        lists = dict([*theirs.train_list, *theirs.test_list, [theirs.meta["filename"], theirs.meta["md5"]]])
        assert ours == lists
        name = "cifar10" if theirs is CIFAR10 else "cifar100"
        assert datasets[name].downloads[0].md5 == theirs.tgz_md5
        assert datasets[name].downloads[0].url == theirs.url
    assert {file: sums for _, file, sums in SVHN.split_list.values() if "extra" not in file} == datasets[
        "svhn"
    ].checksums


def small_svhn(root: Path) -> dict[str, str]:
    from scipy.io import savemat

    for name, n in (("train_32x32.mat", 12), ("test_32x32.mat", 5)):
        labels = np.array([10, *range(1, n)], np.uint8)[:, None]
        savemat(root / name, {"X": pixels(n, 32, 32, 3).transpose(1, 2, 3, 0), "y": labels.clip(1, 10)})
    return {path.name: md5(path) for path in root.iterdir()}


def test_svhn_in_its_published_layout(tmp_path: Path) -> None:
    sums = {"svhn": small_svhn(tmp_path)}
    splits = loading.load(spec("svhn", validation_images=2), (tmp_path,), checksums=sums)
    assert splits.train.numpy_labels()[:3].tolist() == [0, 1, 2]  # class 10 is the digit 0
    assert isinstance(splits.train.images, Tensor)
    assert np.array_equal(splits.train.images[1].numpy(), pixels(12, 32, 32, 3)[1].transpose(2, 0, 1))


# --- ImageNet's layout, read as needed --------------------------------------------------------------------------------


def test_imagenet_is_streamed_from_class_folders(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part, n in (("train", 6), ("val", 3)):
        for name in ("n01440764", "n01443537"):
            folder = tmp_path / "imagenet" / part / name
            folder.mkdir(parents=True)
            for i in range(n):
                colour = (200, 30, 30) if name == "n01440764" else (30, 30, 200)
                size = (int(rng.integers(230, 400)), int(rng.integers(230, 400)))
                Image.new("RGB", size, colour).save(folder / f"{i}.png")
    splits = loading.load(spec("imagenet", validation_images=2, input_scale="symmetric"), (tmp_path,))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (10, 2, 6)
    assert splits.train.is_streamed
    batch = splits.train.batch(torch.tensor([0, 3]))
    assert batch.shape == (2, 3, 224, 224)
    for image, label in zip(batch, splits.train.labels[[0, 3]], strict=True):
        assert image[:, 100, 100].tolist() == ([200, 30, 30] if label == 0 else [30, 30, 200])
    rng_ = np.random.default_rng(1)
    grown = splits.train.batch(torch.arange(4), augmentation="resized-crop-flip", rng=rng_)
    assert grown.shape == (4, 3, 224, 224)
    assert splits.train.take(3).batch(torch.arange(3)).shape == (3, 3, 224, 224)


def photographs(root: Path, classes: str = "ab", colour: int = 90) -> Path:
    for part in ("train", "val"):
        for name in classes:
            (root / "imagenet" / part / name).mkdir(parents=True, exist_ok=True)
            for i in range(3):
                Image.new("RGB", (230, 230), (colour,) * 3).save(root / "imagenet" / part / name / f"{part}{i}.png")
    return root


def test_pictures_of_imagenet_that_changed_are_other_data(tmp_path: Path) -> None:
    """Replaced under the same names, or a class more: neither is what an experiment was made for."""
    asked, folders = spec("imagenet", validation_images=2, input_scale="unit"), (photographs(tmp_path),)
    first = here.describe(asked, folders).fingerprint
    made = asked.model_copy(update={"fingerprint": first})
    assert len(loading.load(made, folders).train) == 4
    photographs(tmp_path, "b", colour=200)
    second = here.describe(asked, folders).fingerprint
    for loaded_before in (made, made.model_copy(update={"split_seed": 1})):
        with pytest.raises(DataCorrupt, match="ImageNet has changed since the experiment was created"):
            loading.load(loaded_before, folders)
    photographs(tmp_path, "c")
    assert len({first, second, here.describe(asked, folders).fingerprint, None}) == 4
    assert here.seed_name(made) == "imagenet"  # corruptions of the same pictures are the same on every machine
    assert here.seed_name(folder_spec(tmp_path, fingerprint="f")) == "f"


def test_a_long_listing_is_not_repeated_until_a_folder_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photographs(tmp_path)
    monkeypatch.setattr(imagenet, "_QUICK", 0.0)
    monkeypatch.setattr(imagenet, "_TRUSTED", 1e9)
    before = here.describe(spec("imagenet"), (tmp_path,))
    listing = imagenet.pictures
    monkeypatch.setattr(imagenet, "pictures", lambda *_: pytest.fail("listed again"))
    assert here.describe(spec("imagenet"), (tmp_path,)) == before
    monkeypatch.setattr(imagenet, "pictures", listing)
    (tmp_path / "imagenet" / "train" / "a" / "train0.png").unlink()
    assert here.describe(spec("imagenet"), (tmp_path,)).train_total == before.train_total - 1


def test_centre_crop_keeps_the_middle(tmp_path: Path) -> None:
    picture = np.zeros((256, 512, 3), np.uint8)
    picture[:, 144:368] = 255  # exactly the middle 224 columns of a 256 x 512 picture
    path = tmp_path / "wide.png"
    Image.fromarray(picture).save(path)
    read = ImageFiles((path,), 3, 224, 224, crop=True).read([0])
    assert read.min() == 255


# --- a user's folder --------------------------------------------------------------------------------------------------


def pictures(root: Path, classes: dict[str, int], *, size: tuple[int, int] = (12, 10), mode: str = "RGB") -> Path:
    for label, (name, n) in enumerate(classes.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            Image.new(mode, size, (40 * label + 20,) * 3 if mode == "RGB" else 40 * label + 20).save(
                root / name / f"{i}.png"
            )
    return root


def folder_spec(path: Path, **fields: Any) -> DataSpec:
    return spec("folder", path=str(path), **fields)


def test_a_folder_of_class_folders(tmp_path: Path) -> None:
    root = pictures(tmp_path / "mine", {"cats": 20, "dogs": 30})
    (root / "cats" / ".DS_Store").write_bytes(b"x")
    info = here.describe(folder_spec(root), ())
    assert (info.channels, info.height, info.width, info.classes) == (3, 10, 12, ("cats", "dogs"))
    assert (info.train_total, info.test_total, info.validation_default) == (40, 10, 4)
    splits = loading.load(folder_spec(root, fingerprint=info.fingerprint), ())
    assert np.bincount(splits.test.numpy_labels()).tolist() == [4, 6]  # a fifth of each class
    assert isinstance(splits.train.images, Tensor)
    for image, label in zip(splits.train.images, splits.train.labels, strict=True):
        assert image.unique().tolist() == [40 * int(label) + 20]
    again = loading.load(folder_spec(root, train_images=36), ())
    assert torch.equal(again.train.labels, splits.train.labels)


def test_train_and_test_folders_and_grey_pictures(tmp_path: Path) -> None:
    pictures(tmp_path / "train", {"a": 5, "b": 6}, mode="L")
    pictures(tmp_path / "test", {"a": 2, "b": 2}, mode="L")
    info = here.describe(folder_spec(tmp_path), ())
    assert (info.channels, info.train_total, info.test_total) == (1, 11, 4)


def test_pictures_of_several_sizes_meet_at_their_median(tmp_path: Path) -> None:
    pictures(tmp_path, {"a": 6}, size=(40, 20))
    pictures(tmp_path, {"b": 6}, size=(400, 200))
    info = here.describe(folder_spec(tmp_path), ())
    # medians 110 x 220, scaled so that the longer side is 128
    assert (info.height, info.width) == (64, 128)
    images = loading.load(folder_spec(tmp_path), ()).train.images
    assert isinstance(images, Tensor)
    assert images.shape[1:] == (3, 64, 128)


def test_large_folders_are_read_batch_by_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(tmp_path, {"a": 8, "b": 8})
    held = loading.load(folder_spec(tmp_path), ())
    monkeypatch.setattr(data.own_folders, "_HELD_BYTES", 100)
    loading._loaded.clear()
    streamed = loading.load(folder_spec(tmp_path), ())
    assert streamed.train.is_streamed
    rows = torch.arange(len(held.train))
    assert torch.equal(streamed.train.batch(rows), held.train.batch(rows))


def test_a_changed_folder_is_noticed(tmp_path: Path) -> None:
    root = pictures(tmp_path / "mine", {"a": 8, "b": 8})
    before = here.describe(folder_spec(root), ()).fingerprint
    Image.new("RGB", (12, 10), (1, 2, 3)).save(root / "a" / "0.png")
    assert here.describe(folder_spec(root), ()).fingerprint != before
    with pytest.raises(DataCorrupt, match="has changed"):
        loading.load(folder_spec(root, fingerprint=before), ())


def _loose_picture(root: Path) -> None:
    Image.new("L", (4, 4)).save(root / "loose.png")


def _broken_picture(root: Path) -> None:
    (root / "a" / "9.png").write_bytes(b"not a picture")


def _one_class(root: Path) -> None:
    for path in (root / "b").iterdir():
        path.unlink()
    (root / "b").rmdir()


def _other_test_classes(root: Path) -> None:
    shutil.rmtree(root / "a")
    shutil.rmtree(root / "b")
    pictures(root / "train", {"a": 3, "b": 3})
    pictures(root / "test", {"a": 3, "z": 3})


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_loose_picture, r"loose\.png lies beside"),
        (_broken_picture, r"9\.png cannot be read as a picture"),
        (_one_class, r"1 class folder\(s\)"),
        (_other_test_classes, "same classes: b, z"),
    ],
)
def test_folders_that_will_not_do_are_refused_with_words(
    tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    pictures(tmp_path, {"a": 4, "b": 4})
    spoil(tmp_path)
    error = refused(lambda: here.describe(folder_spec(tmp_path), ()))
    assert re.search(words, str(error))
    assert "folder" in error.allowed


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert "there is no folder" in str(refused(lambda: here.describe(folder_spec(tmp_path / "nowhere"), ())))
    assert "nothing\\x00" in str(refused(lambda: here.describe(folder_spec(Path("nothing\0")), ())))


# --- a user's npz -----------------------------------------------------------------------------------------------------


def npz(path: Path, **arrays: Any) -> DataSpec:
    file = path / "mine.npz"
    np.savez(file, **arrays)
    return spec("npz", path=str(file))


LABELS = np.arange(30) % 3


def test_an_npz_with_one_pair_is_split(tmp_path: Path) -> None:
    asked = npz(tmp_path, images=pixels(30, 6, 5), labels=LABELS, classes=np.array(["x", "y", "z"]))
    info = here.describe(asked, ())
    assert (info.channels, info.height, info.width, info.classes) == (1, 6, 5, ("x", "y", "z"))
    assert (info.train_total, info.test_total) == (24, 6)
    splits = loading.load(asked, ())
    assert np.bincount(splits.test.numpy_labels()).tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    "images",
    [
        pixels(30, 6, 5, 3),
        pixels(30, 6, 5, 3).transpose(0, 3, 1, 2),
        pixels(30, 6, 5, 3).astype(np.float64),
        pixels(30, 6, 5, 3) / np.float32(255),
        pixels(30, 6, 5, 3).astype(np.int32),
    ],
    ids=["NHWC", "NCHW", "0..255", "0..1", "integers"],
)
def test_layouts_and_scales_come_out_alike(tmp_path: Path, images: np.ndarray) -> None:
    asked = npz(
        tmp_path, train_images=images, train_labels=LABELS, test_images=images, test_labels=LABELS.astype(float)
    )
    splits = loading.load(asked, ())
    assert isinstance(splits.test.images, Tensor)
    assert splits.test.origin is not None
    rows = [int(name.removeprefix("test_images[")[:-1]) for name in splits.test.origin.names()]
    assert np.array_equal(splits.test.images.numpy(), pixels(30, 6, 5, 3).transpose(0, 3, 1, 2)[rows])
    assert sorted(rows) == list(range(30))


@pytest.mark.parametrize(("shape", "read"), [((30, 3, 8, 3), (3, 3, 8)), ((30, 1, 8, 1), (1, 1, 8))])
def test_images_whose_channels_could_be_at_either_place_are_told_to_be_read_one_way(
    tmp_path: Path, shape: tuple[int, ...], read: tuple[int, ...]
) -> None:
    arrays = {"images": pixels(*shape), "labels": LABELS}
    info = here.describe(npz(tmp_path, **arrays), ())
    assert (info.channels, info.height, info.width) == read
    (said,) = [one for one in info.remarks if "could be channels" in one]
    assert f"images: both the second and the last axis of {shape}" in said
    turned = here.describe(npz(tmp_path, **{**arrays, "images": pixels(*shape).transpose(0, 2, 3, 1)}), ())
    assert (turned.channels, turned.height, turned.width) == (shape[1], shape[2], shape[3]), "as the words say"
    assert not any("could be channels" in one for one in turned.remarks)


def pairs(*arrays: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(("train_images", "train_labels", "test_images", "test_labels"), arrays, strict=True))


def _with(array: np.ndarray, value: float) -> np.ndarray:
    changed = array.astype(float)
    changed.reshape(-1)[7] = value
    return changed


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": pixels(30, 6, 6), "labels": _with(LABELS, np.nan)}, "labels holds nan at position 7"),
        ({"images": pixels(30, 6, 6), "labels": _with(LABELS, 1.5)}, "labels holds 1.5"),
        ({"images": pixels(30, 6, 6), "labels": LABELS - 1}, "labels holds -1"),
        ({"images": pixels(30, 6, 6), "labels": LABELS[:-1]}, "holds 30 images, labels 29 labels"),
        ({"images": pixels(30, 6, 6), "labels": np.zeros(30)}, "all training labels are the same"),
        ({"images": pixels(30, 6, 6), "labels": np.array(["a"] * 30)}, "labels holds <U1"),
        ({"images": pixels(30, 6, 6), "labels": _with(LABELS, 1e12)}, "1e\\+12"),
        ({"images": _with(pixels(30, 6, 6), np.nan), "labels": LABELS}, r"images holds nan at \[0, 1, 1\]"),
        ({"images": _with(pixels(30, 6, 6), -1), "labels": LABELS}, "goes from -1"),
        ({"images": _with(pixels(30, 6, 6), 300), "labels": LABELS}, "to 300"),
        ({"images": pixels(30, 6), "labels": LABELS}, "has shape"),
        ({"images": pixels(30, 6, 6, 2), "labels": LABELS}, "has shape"),
        ({"images": pixels(0, 6, 6), "labels": LABELS[:0]}, "has shape"),
        ({"images": pixels(5, 6, 6), "labels": LABELS[:5]}, "too few"),
        ({"pictures": pixels(30, 6, 6), "labels": LABELS}, "it holds labels, pictures"),
        ({"images": pixels(30, 6, 6), "labels": LABELS, "classes": np.array(["a"])}, "`classes` must be 3 texts"),
        (
            pairs(pixels(9, 6, 6), LABELS[:9], pixels(9, 5, 6), LABELS[:9]),
            "test_images",
        ),
        (
            pairs(pixels(9, 6, 6), LABELS[:9] % 2, pixels(9, 6, 6), LABELS[:9]),
            "test label 2 does not occur",
        ),
        ({"images": np.array([{}] * 30, object), "labels": LABELS}, "cannot be read"),
    ],
)  # fmt: skip
def test_npz_files_that_will_not_do_are_refused_with_words(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    asked = npz(tmp_path, **arrays)
    error = refused(lambda: here.describe(asked, ()))
    assert re.search(words, str(error))
    assert (
        "npz" in error.allowed
        or "at" in error.allowed
        or "whole" in error.allowed
        or "class" in error.allowed
        or error.allowed
    )


def test_a_file_that_is_no_npz(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    path.write_bytes(b"PK not really")
    assert "cannot be read as .npz" in str(refused(lambda: here.describe(spec("npz", path=str(path)), ())))
    refused(lambda: here.describe(spec("npz", path=str(tmp_path / "none.npz")), ()))


# --- splits and transforms --------------------------------------------------------------------------------------------


def raw(n: int = 50, channels: int = 3) -> RawData:
    return RawData(
        pixels(n, channels, 4, 4), np.arange(n) % 5, pixels(20, channels, 4, 4), np.arange(20) % 5, tuple("abcde")
    )


def test_first_split_trains_on_the_first_and_validates_on_the_last() -> None:
    """The authors' code: the first 49,500 train, the last 500 validate."""
    splits = loading.split(raw(), spec("cifar10", validation_images=10, train_images=30, test_images=12))
    images = raw().train_images
    assert isinstance(splits.train.images, Tensor)
    assert isinstance(splits.validation.images, Tensor)
    assert isinstance(images, np.ndarray)
    assert np.array_equal(splits.train.images.numpy(), images[:30])
    assert np.array_equal(splits.validation.images.numpy(), images[40:])
    assert len(splits.test) == 12


def test_shuffled_split_is_disjoint_and_seeded() -> None:
    def rows(seed: int) -> tuple[list[bytes], list[bytes]]:
        splits = loading.split(raw(), spec("cifar10", validation_images=10, split="shuffled", split_seed=seed))
        assert isinstance(splits.train.images, Tensor)
        assert isinstance(splits.validation.images, Tensor)
        return [i.tobytes() for i in splits.train.images.numpy()], [
            i.tobytes() for i in splits.validation.images.numpy()
        ]

    train, validation = rows(1)
    assert len(set(train) | set(validation)) == 50
    assert rows(1) == (train, validation)
    assert rows(2) != (train, validation)


def test_too_many_images_are_refused() -> None:
    with pytest.raises(InvalidInput, match="asked for"):
        loading.split(raw(), spec("cifar10", validation_images=10, train_images=41))


def test_transforms_follow_their_definitions_on_the_training_images() -> None:
    train = np.asarray(raw().train_images)[:40].astype(np.float64)
    expected = {
        "raw255": train,
        "unit": train / 255,
        "symmetric": train / 127.5 - 1,
        "pixel-mean": train / 255 - train.mean(0, keepdims=True) / 255,
        "standardised": (train - train.mean((0, 2, 3), keepdims=True)) / train.std((0, 2, 3), keepdims=True),
    }
    for kind, wanted in expected.items():
        splits = loading.split(raw(), spec("cifar10", validation_images=10, input_scale=kind))
        seen = splits.transform(splits.train.batch(torch.arange(40)))
        assert seen.dtype == torch.float32
        assert np.allclose(seen.numpy(), wanted, atol=2e-5 * np.abs(wanted).max()), kind
        assert seen.is_contiguous(memory_format=torch.channels_last)


def test_batches_do_not_change_the_data() -> None:
    splits = loading.split(raw(), spec("cifar10", validation_images=10, input_scale="standardised"))
    assert isinstance(splits.train.images, Tensor)
    before = splits.train.images.clone()
    splits.transform(splits.train.batch(torch.arange(10)))
    splits.transform(splits.train.images)
    assert torch.equal(before, splits.train.images)


# --- augmentation -----------------------------------------------------------------------------------------------------


def test_whole_pixel_shifts_equal_shifting_by_hand() -> None:
    images = torch.from_numpy(pixels(3, 2, 8, 8))
    offsets = np.array([[1.0, 0.0, -2.0], [0.0, 3.0, 1.0]])  # down, right
    moved = data.augmentation._shift(images, offsets)
    for image, before, down, right in zip(moved, images, offsets[0], offsets[1], strict=True):
        rows = (np.arange(8) - int(down)).clip(0, 7)
        columns = (np.arange(8) - int(right)).clip(0, 7)
        assert np.array_equal(image.numpy(), before.numpy()[:, rows][:, :, columns])


def test_part_pixel_shifts_interpolate_linearly() -> None:
    ramp = torch.arange(0, 160, 10, dtype=torch.uint8).repeat(16, 1)[None, None]
    moved = data.augmentation._shift(ramp, np.array([[0.0], [0.3]]))
    assert moved[0, 0, 5, 1:].tolist() == [10 * c - 3 for c in range(1, 16)]


@pytest.mark.parametrize("kind", ["shift-flip", "crop-flip", "resized-crop-flip"])
def test_augmentation_is_seeded_and_keeps_size_type_and_range(kind: Any) -> None:
    images = torch.from_numpy(pixels(64, 3, 32, 32)).contiguous(memory_format=torch.channels_last)
    first, second, other = (data.augment(images, kind, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert first.shape == images.shape
    assert first.dtype == torch.uint8
    assert first.is_contiguous(memory_format=torch.channels_last)
    constant = torch.full((8, 1, 9, 9), 77, dtype=torch.uint8)
    assert data.augment(constant, kind, np.random.default_rng(0)).flatten().tolist() == [77] * (8 * 81)


def test_about_every_second_image_is_flipped() -> None:
    images = torch.zeros(2000, 1, 1, 2, dtype=torch.uint8)
    images[..., 0] = 9
    share = float((data.augmentation.flip(images, np.random.default_rng(0))[..., 1] == 9).float().mean())
    assert share == pytest.approx(0.5, abs=4 * 0.5 / 2000**0.5)


# --- the contract of every set ----------------------------------------------------------------------------------------


def own_numbers_or_saved(name: str, root: Path) -> DataSpec:
    """A small set of one's own that is neither `folder` nor `npz`."""
    rows = np.random.default_rng(0).normal(size=(60, 4)).round(3)
    path = root / {"arrays": "numbers.npz", "table": "t.csv", "huggingface": "saved"}[name]
    if name == "arrays":
        np.savez(path, x=rows, y=np.arange(60) % 3)
    elif name == "table":
        lines = [",".join(map(str, [*row, "abc"[i % 3]])) for i, row in enumerate(rows)]
        path.write_text("\n".join(["p,q,r,s,class", *lines]))
    else:
        saved_pictures(path)
    return DataSpec(dataset=name, path=str(path))


def saved_pictures(folder: Path) -> None:
    """60 pictures of three classes, as the library of Hugging Face saves them."""
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as Picture

    rough = np.random.default_rng(0).integers(0, 256, (60, 8, 6, 3), dtype=np.uint8)
    features = Features({"image": Picture(), "label": ClassLabel(names=["a", "b", "c"])})
    rows = {"image": [Image.fromarray(one) for one in rough], "label": [i % 3 for i in range(60)]}
    Dataset.from_dict(rows, features=features).save_to_disk(str(folder))


def _small(name: str, root: Path) -> tuple[DataSpec, dict[str, str]]:
    """A small set of that name in its published layout, and the checksums of its files."""
    if name in ("digits", "digits-0-4", "digits-5-9", "blobs"):
        return spec(name), {}
    if name in ("fashion-mnist", "mnist"):
        fashion(root / name, gz=False)
        return spec(name, validation_images=5), sums_of_idx(root / name)
    if name == "imagenet":
        photographs(root)
        return spec(name, validation_images=2), {}
    if name == "folder":
        return folder_spec(pictures(root / "mine", {"cats": 20, "dogs": 30})), {}
    if name == "npz":
        return npz(root, images=pixels(30, 6, 5), labels=LABELS), {}
    if name in ("arrays", "table", "huggingface"):
        return own_numbers_or_saved(name, root), {}
    write = {"cifar10": small_cifar10, "cifar100": small_cifar100, "svhn": small_svhn}[name]
    return spec(name, validation_images=1), write(root)


@pytest.mark.parametrize("name", list(datasets))
def test_every_set_keeps_its_contract(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = datasets[name]
    asked, sums = _small(name, tmp_path)
    assert set(sums) == set(entry.checksums), "every file it promises something of"
    monkeypatch.setattr(dataset, "checksums_published", lambda: {name: sums})
    location = DataLocation((tmp_path,))
    files = entry.files(location)
    assert files is not None
    assert all(path.exists() for path in files)
    info = here.describe(asked, (tmp_path,))
    one, again = (entry.call(location, asked) for _ in range(2))
    assert one.classes == again.classes == info.classes
    for part in ("train", "test"):
        images, labels = getattr(one, f"{part}_images"), getattr(one, f"{part}_labels")
        same = getattr(again, f"{part}_images")
        assert data.size_of(images) == (info.channels, info.height, info.width)
        assert len(images) == len(labels) > 0
        assert labels.dtype == np.int64
        assert 0 <= labels.min() <= labels.max() < len(one.classes)
        assert (getattr(again, f"{part}_labels") == labels).all()
        if isinstance(images, ImageFiles):
            assert images.paths == same.paths
            images, same = (found.read(range(3)) for found in (images, same))
        assert images.dtype == (np.uint8 if info.are_pictures else np.float32)
        assert images.tobytes() == same.tobytes()
    known = here.own_test(asked, (tmp_path,))
    assert (known is None) == (not info.are_pictures), "numbers have no corrupted copies"
    if known is not None and known.labels is not None:
        assert (known.labels == one.test_labels).all() or name == "npz"  # whose rows are in an order of their own
    if entry.train_total and not sums and name != "imagenet":
        assert (len(one.train_labels), len(one.test_labels)) == (entry.train_total, entry.test_total)
    if entry.outside is not None:
        assert entry.outside.read().shape == (entry.outside.total, *data.size_of(one.test_images))


@pytest.mark.parametrize("name", [name for name, entry in datasets.items() if entry.train_total])
def test_every_public_set_that_is_not_here_says_how_to_get_it(name: str, tmp_path: Path) -> None:
    entry, location = datasets[name], DataLocation((tmp_path,))
    assert bool(entry.downloads) != bool(entry.how_to_get)
    if entry.files(location) is not None:  # it needs none
        return
    for call in (here.describe, loading.load):
        with pytest.raises(DataMissing, match=entry.how_to_get or f"modescape data fetch {name}"):
            call(spec(name), (tmp_path,))


# --- what is here, and fetching ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_describing_loads_neither_torch_nor_scikit_learn(tmp_path: Path) -> None:
    asked = npz(tmp_path, images=pixels(30, 6, 5), labels=LABELS)
    script = (
        "import sys; from modescape.datasets import here; from modescape.spec_parts import DataSpec\n"
        f"for d in ({{'dataset': 'digits'}}, {{'dataset': 'npz', 'path': {asked.path!r}}}):\n"
        "    here.describe(DataSpec.model_validate(d), ())\n"
        "    here.own_test(DataSpec.model_validate(d), ())\n"
        "here.availability(())\n"
        "print([m for m in ('torch', 'torchvision', 'sklearn', 'scipy') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_availability_tells_what_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {item.name: item for item in here.availability((tmp_path,))}
    assert before["digits"].present
    assert not before["cifar10"].present
    assert before["cifar10"].fetchable
    assert before["cifar10"].bytes == 170_498_071
    assert not before["imagenet"].fetchable
    fashion(tmp_path / "fashion-mnist", gz=True)
    monkeypatch.setattr(
        dataset, "checksums_published", lambda: {"fashion-mnist": sums_of_idx(tmp_path / "fashion-mnist")}
    )
    after = {item.name: item for item in here.availability((tmp_path,), patience=None)}["fashion-mnist"]
    assert after.present
    assert after.where == tmp_path / "fashion-mnist"
    assert not after.fetchable


def test_files_that_only_have_the_names_of_a_set_are_not_here(tmp_path: Path) -> None:
    """MNIST's files are named as Fashion-MNIST's, and a CIFAR folder may hold anything."""
    fashion(tmp_path, gz=True)
    small_cifar10(tmp_path)
    found = {item.name: item for item in here.availability((tmp_path,), patience=None)}
    for name, file in (("fashion-mnist", "images-idx3-ubyte.gz"), ("cifar10", "data_batch_1")):
        assert found[name].state == "other"
        assert not found[name].present
        assert not found[name].fetchable  # a download would hide behind these, or overwrite them
        assert f"{file} holds another set than its name says" in found[name].how
        with pytest.raises(DataCorrupt, match="holds another set"):
            here.describe(spec(name), (tmp_path,))


def test_a_file_is_read_again_only_when_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, read = tmp_path / "a.bin", []
    file.write_bytes(b"one")
    monkeypatch.setattr(contents, "_md5", lambda path: (read.append(path), md5(path))[1])
    promised = [contents.Promised(file, md5(file))]
    assert [contents.wrong_in(promised), contents.wrong_in(promised)] == ["", ""]
    assert len(read) == 1
    file.write_bytes(b"other")
    assert "a.bin holds another set" in str(contents.wrong_in(promised))
    assert len(read) == 2


def test_a_page_does_not_wait_for_files_that_take_long_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(contents, "_md5", lambda path: (go_on.wait(30), md5(path))[1])
    small_cifar10(tmp_path)
    try:
        found = {item.name: item for item in here.availability((tmp_path,), patience=0.05)}["cifar10"]
    finally:
        go_on.set()
    assert found.state == "checking"
    assert not found.present


def published(path: Path, digest: str | None = None) -> Published:
    return Published(path.as_uri(), digest or md5(path), path.stat().st_size)


def test_fetching_checks_and_puts_files_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sums = {"cifar10": small_cifar10(tmp_path / "origin")}
    monkeypatch.setattr(dataset, "checksums_published", lambda: sums)
    archive = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "origin" / "cifar-10-batches-py", "cifar-10-batches-py")
    seen: list[tuple[int, int]] = []
    home = tmp_path / "home"
    here.fetch(
        "cifar10", home, lambda done, total: seen.append((done, total)), downloads={"cifar10": [published(archive)]}
    )
    assert {item.name: item for item in here.availability((home,), patience=None)}["cifar10"].present
    assert seen[-1] == (archive.stat().st_size,) * 2
    assert [path.name for path in home.iterdir()] == ["cifar-10-batches-py"]  # nothing temporary stays


def test_a_wrong_download_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "train_32x32.mat"
    file.write_bytes(b"something else")
    home = tmp_path / "home"
    with pytest.raises(DataCorrupt, match="nothing was kept"):
        here.fetch("svhn", home, lambda *_: None, downloads={"svhn": [published(file, "0" * 32)]})
    assert list(home.rglob("*.mat")) == []
    with pytest.raises(DataMissing, match="could not be fetched"):
        here.fetch("svhn", home, lambda *_: None, downloads={"svhn": [Published(f"{file.as_uri()}.gone", "", 1)]})
    with pytest.raises(InvalidInput, match="cannot be fetched"):
        here.fetch("imagenet", home, lambda *_: None)
