"""Which images there are: found on disk, checked, split and held as uint8, with the transform that networks see.

    splits = load(spec.data, folders)                  # DataMissing says how to get the set
    images = splits.transform(splits.train.batch(torch.arange(128)))      # float32 [128, C, H, W]

Everything up to the `load` needs numpy and Pillow only, so the web process can describe any set without loading torch.
Nothing here downloads by itself: `fetch` does, when a person asks for it, and checks what came. Only CIFAR has pickles;
torchvision reads them, and `own_test` the test labels alone, each file's checksum having been verified.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import shutil
import tarfile
import tempfile
import time
import urllib.request
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Literal, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from modescape.errors import DataCorrupt, DataMissing, InvalidInput
from modescape.registry import Dataset, datasets
from modescape.spec import DataInfo, DataSpec, InputScale

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Augmentation = Literal["none", "shift-flip", "crop-flip", "resized-crop-flip"]


class Shape(NamedTuple):
    """What a network must know of its data: image size and the number of classes."""

    channels: int
    height: int
    width: int
    classes: int


# --- what a data set is before torch sees it --------------------------------------------------------------------------


@dataclass(frozen=True)
class Published:
    """A file of a public data set: where torchvision fetches it, its MD5 as published, its size in bytes."""

    url: str
    md5: str
    bytes: int

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[1]


CIFAR10_FILES = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
}
CIFAR100_FILES = {
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "meta": "7973b15100ade9c7d40fb424638fde48",
}
SVHN_FILES = {
    "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
    "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
}
CHECKSUMS: Mapping[str, Mapping[str, str]] = {"cifar10": CIFAR10_FILES, "cifar100": CIFAR100_FILES, "svhn": SVHN_FILES}

_FASHION_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_CIFAR_URL = "https://www.cs.toronto.edu/~kriz/"
_SVHN_URL = "http://ufldl.stanford.edu/housenumbers/"
DOWNLOADS: Mapping[str, tuple[Published, ...]] = {
    "fashion-mnist": (
        Published(_FASHION_URL + "train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d", 26_421_880),
        Published(_FASHION_URL + "train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe", 29_515),
        Published(_FASHION_URL + "t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79", 4_422_102),
        Published(_FASHION_URL + "t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310", 5_148),
    ),
    "cifar10": (Published(_CIFAR_URL + "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a", 170_498_071),),
    "cifar100": (Published(_CIFAR_URL + "cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85", 169_001_437),),
    "svhn": (
        Published(_SVHN_URL + "train_32x32.mat", SVHN_FILES["train_32x32.mat"], 182_040_794),
        Published(_SVHN_URL + "test_32x32.mat", SVHN_FILES["test_32x32.mat"], 64_275_384),
    ),
}


@dataclass(frozen=True)
class DataLocation:
    """Where to look for files, in order, and which checksums to demand of pickled ones (tests bring their own)."""

    folders: tuple[Path, ...]
    checksums: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: CHECKSUMS)

    def find(self, *names: str) -> Path | None:
        """The first of `names` (relative paths) that exists in the first folder that has any of them."""
        for folder in self.folders:
            for name in names:
                if (folder / name).exists():
                    return folder / name
        return None


@dataclass(frozen=True)
class RawData:
    """A data set as read: uint8 images [N, C, H, W] (or files read on demand), labels int64 [N], class names."""

    train_images: Images | ImageFiles
    train_labels: Labels
    test_images: Images | ImageFiles
    test_labels: Labels
    classes: tuple[str, ...]


@dataclass(frozen=True)
class ImageFiles:
    """Images too many to hold: read from disk when a batch asks for them, scaled to one size.

    With `crop` (ImageNet) the shorter side is scaled to 256/224 of the size and the centre is cut out, else the whole
    image is scaled.
    """

    paths: tuple[Path, ...]
    channels: int
    height: int
    width: int
    crop: bool = False

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, indices: Sequence[int]) -> ImageFiles:
        return replace(self, paths=tuple(self.paths[i] for i in indices))

    def read(self, indices: Sequence[int], boxes: Sequence[Box | None] | None = None) -> Images:
        """uint8 [n, C, H, W]; decoding runs in threads, for Pillow lets go of the interpreter lock."""
        found = [None] * len(indices) if boxes is None else boxes
        images = np.empty((len(indices), self.height, self.width, self.channels), np.uint8)

        def one(position: int) -> None:
            images[position] = self._decode(self.paths[indices[position]], found[position])

        with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
            for _ in threads.map(one, range(len(indices))):
                pass
        return images.transpose(0, 3, 1, 2)

    def _decode(self, path: Path, box: Box | None) -> Images:
        with Image.open(path) as opened:
            image = opened.convert("L" if self.channels == 1 else "RGB")
        region = box.of(image.width, image.height) if box else self._centre(image) if self.crop else None
        image = image.resize((self.width, self.height), Image.Resampling.BILINEAR, box=region, reducing_gap=3)
        return np.asarray(image, np.uint8).reshape(self.height, self.width, self.channels)

    def _centre(self, image: Image.Image) -> tuple[float, float, float, float]:
        share = 224 / 256
        scale = min(image.width / self.width, image.height / self.height) * share
        width, height = self.width * scale, self.height * scale
        left, top = (image.width - width) / 2, (image.height - height) / 2
        return left, top, left + width, top + height


@dataclass(frozen=True)
class Box:
    """A random part of an image: its share of the area, its aspect ratio, and its place (Szegedy 2015)."""

    area: float
    ratio: float
    across: float
    down: float

    def of(self, width: int, height: int) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) inside an image of that size."""
        w = min(width, (self.area * width * height * self.ratio) ** 0.5)
        h = min(height, (self.area * width * height / self.ratio) ** 0.5)
        left, top = self.across * (width - w), self.down * (height - h)
        return left, top, left + w, top + h


def size_of(images: Images | Tensor | ImageFiles) -> tuple[int, int, int]:
    """(channels, height, width)."""
    if isinstance(images, ImageFiles):
        return images.channels, images.height, images.width
    _, channels, height, width = images.shape
    return channels, height, width


F = TypeVar("F", bound=Callable[..., RawData])


def dataset(
    name: str,
    *,
    title: str,
    source: str,
    channels: int = 0,
    height: int = 0,
    width: int = 0,
    classes: tuple[str, ...] = (),
    train_total: int = 0,
    test_total: int = 0,
    validation_default: int = 0,
) -> Callable[[F], F]:
    """Register a reader `(location, spec: DataSpec) -> RawData`; its docstring is the summary, sizes as published."""

    def register(reader: F) -> F:
        files = DOWNLOADS.get(name)
        datasets.add(
            Dataset(
                name=name, title=title, summary=" ".join((reader.__doc__ or "").split()), source=source, call=reader,
                channels=channels, height=height, width=width, classes=classes, train_total=train_total,
                test_total=test_total, validation_default=validation_default,
                download_bytes=sum(f.bytes for f in files) if files else None,
            )
        )  # fmt: skip
        return reader

    return register


def _missing(name: str, location: DataLocation, what: str) -> DataMissing:
    entry = datasets[name]
    places = ", ".join(str(folder) for folder in location.folders) or "no folder at all"
    how = f"run `modescape data fetch {name}`" if name in DOWNLOADS else HOW_TO_GET.get(name, "")
    return DataMissing(f"{entry.title} is not on this machine: no {what} in {places}; {how}")


HOW_TO_GET: Mapping[str, str] = {
    "imagenet": "get it from image-net.org under its own terms and unpack it as "
    "imagenet/train/<class>/ and imagenet/val/<class>/",
    **dict.fromkeys(("digits", "digits-0-4", "digits-5-9"), "it ships with scikit-learn, nothing to fetch"),
    "blobs": "it is made up on the spot, nothing to fetch",
}


# --- the sets ---------------------------------------------------------------------------------------------------------

_DIGITS = tuple("0123456789")


@dataset(
    "digits", title="Digits", source="scikit-learn `load_digits`, after Alpaydin and Kaynak 1998 (UCI)",
    channels=1, height=8, width=8, classes=_DIGITS, train_total=597, test_total=1200, validation_default=197,
)  # fmt: skip
def _digits(location: DataLocation, spec: DataSpec) -> RawData:
    """1,797 handwritten digits of 8x8 pixels; ships with scikit-learn. 597 to train on, 1,200 to test, stratified."""
    return _some_digits(0, 9, test=1200)


@dataset(
    "digits-0-4", title="Digits 0 to 4", source="scikit-learn `load_digits`, after Alpaydin and Kaynak 1998 (UCI)",
    channels=1, height=8, width=8, classes=_DIGITS[:5], train_total=401, test_total=500, validation_default=101,
)  # fmt: skip
def _low_digits(location: DataLocation, spec: DataSpec) -> RawData:
    """The 901 digits 0 to 4; 5 to 9 are held out, to be looked at as images of another kind. 500 to test."""
    return _some_digits(0, 4, test=500)


@dataset(
    "digits-5-9", title="Digits 5 to 9", source="scikit-learn `load_digits`, after Alpaydin and Kaynak 1998 (UCI)",
    channels=1, height=8, width=8, classes=_DIGITS[5:], train_total=396, test_total=500, validation_default=96,
)  # fmt: skip
def _high_digits(location: DataLocation, spec: DataSpec) -> RawData:
    """The 896 digits 5 to 9, the classes that digits-0-4 holds out. 500 to test."""
    return _some_digits(5, 9, test=500)


def _some_digits(first: int, last: int, *, test: int) -> RawData:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    kept = (bunch.target >= first) & (bunch.target <= last)
    images = np.rint(bunch.images[kept] * (255 / 16)).astype(np.uint8)[:, None]
    labels = bunch.target[kept].astype(np.int64) - first
    trained, tested = stratified_split(labels, test=test, seed=0)
    return RawData(images[trained], labels[trained], images[tested], labels[tested], _DIGITS[first : last + 1])


FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@dataset(
    "fashion-mnist", title="Fashion-MNIST", source="Xiao, Rasul, Vollgraf 2017",
    channels=1, height=28, width=28, classes=FASHION_CLASSES, train_total=60_000, test_total=10_000,
    validation_default=5_000,
)  # fmt: skip
def _fashion_mnist(location: DataLocation, spec: DataSpec) -> RawData:
    """70,000 grey pictures of clothing, 28x28 pixels, 10 classes; IDX files, gzipped or not."""
    folder = _find_fashion(location)
    if folder is None:
        raise _missing("fashion-mnist", location, "IDX files")
    train_images, train_labels, test_images, test_labels = (read_idx(_idx_file(folder, name)) for name in _IDX_FILES)
    for images, labels, part in ((train_images, train_labels, "train"), (test_images, test_labels, "t10k")):
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels) or images.shape[1:] != (28, 28):
            raise DataCorrupt(f"{folder}: the {part} files hold images {images.shape} and labels {labels.shape}")
        if labels.max(initial=0) > 9:
            raise DataCorrupt(f"{folder}: the {part} labels go up to {labels.max()}, Fashion-MNIST has 0 to 9")
    return RawData(
        train_images[:, None],
        train_labels.astype(np.int64),
        test_images[:, None],
        test_labels.astype(np.int64),
        FASHION_CLASSES,
    )


def _find_fashion(location: DataLocation) -> Path | None:
    for folder in location.folders:
        for place in (folder, folder / "fashion-mnist", folder / "FashionMNIST" / "raw"):
            if all((place / name).exists() or (place / f"{name}.gz").exists() for name in _IDX_FILES):
                return place
    return None


def _idx_file(folder: Path, name: str) -> Path:
    plain = folder / name
    return plain if plain.exists() else folder / f"{name}.gz"


def read_idx(path: Path) -> NDArray[np.uint8]:
    """An IDX file of unsigned bytes, gzipped or not. Raises DataCorrupt when it is something else or cut short.

    Layout (LeCun): two zero bytes, type 0x08, number of dimensions, each size as a big-endian 32-bit integer, data.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, EOFError, OSError) as error:
        raise DataCorrupt(f"{path} cannot be read: {error}") from error
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise DataCorrupt(f"{path} is not an IDX file of bytes (it begins with {content[:4]!r})")
    start = 4 + 4 * content[3]
    sizes = tuple(int(n) for n in np.frombuffer(content[4:start], ">u4"))
    data = np.frombuffer(content, np.uint8, offset=min(start, len(content)))
    if len(sizes) != content[3] or data.size != int(np.prod(sizes, dtype=np.int64)):
        raise DataCorrupt(f"{path} promises {'x'.join(map(str, sizes))} bytes and holds {data.size}")
    return data.reshape(sizes)


CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR100_NAMES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CIFAR100_CLASSES = tuple(_CIFAR100_NAMES.split())


@dataset(
    "cifar10", title="CIFAR-10", source="Krizhevsky 2009",
    channels=3, height=32, width=32, classes=CIFAR10_CLASSES,
    train_total=50_000, test_total=10_000, validation_default=500,
)  # fmt: skip
def _cifar10(location: DataLocation, spec: DataSpec) -> RawData:
    """60,000 colour pictures of animals and vehicles, 32x32 pixels, 10 classes."""
    return _cifar("cifar10", location)


@dataset(
    "cifar100", title="CIFAR-100", source="Krizhevsky 2009",
    channels=3, height=32, width=32, classes=CIFAR100_CLASSES,
    train_total=50_000, test_total=10_000, validation_default=500,
)  # fmt: skip
def _cifar100(location: DataLocation, spec: DataSpec) -> RawData:
    """60,000 colour pictures, 32x32 pixels, 100 fine classes."""
    return _cifar("cifar100", location)


_CIFAR_FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}


def _cifar(name: str, location: DataLocation) -> RawData:
    base = _CIFAR_FOLDERS[name]
    folder = location.find(base, f"{name}/{base}", f"{datasets[name].title.replace('-', '')}/{base}")
    if folder is None:
        raise _missing(name, location, f"folder {base}")
    checksums = location.checksums[name]
    for file, md5 in checksums.items():  # before torchvision unpickles anything
        verify_md5(folder / file, md5)
    train, test = (checked_cifar(name, folder.parent, train=part, checksums=checksums) for part in (True, False))
    classes = tuple(str(label) for label in train.classes)
    return RawData(*_cifar_part(train, len(classes), folder), *_cifar_part(test, len(classes), folder), classes)


def checked_cifar(name: str, root: Path, *, train: bool, checksums: Mapping[str, str]) -> Any:
    """torchvision's CIFAR10 or CIFAR100, demanding `checksums` (file name to MD5) instead of the published ones."""
    from torchvision.datasets import CIFAR10, CIFAR100

    base: Any = {"cifar10": CIFAR10, "cifar100": CIFAR100}[name]

    class Checked(base):  # type: ignore[misc]
        train_list: ClassVar = [[file, checksums[file]] for file, _ in base.train_list]
        test_list: ClassVar = [[file, checksums[file]] for file, _ in base.test_list]
        meta: ClassVar = {**base.meta, "md5": checksums[base.meta["filename"]]}

    return Checked(str(root), train=train)


def _cifar_part(part: Any, classes: int, folder: Path) -> tuple[Images, Labels]:
    labels = np.asarray(part.targets, np.int64)
    if len(labels) != len(part.data) or labels.min(initial=0) < 0 or labels.max(initial=0) >= classes:
        raise DataCorrupt(
            f"{folder}: {len(part.data)} images, {len(labels)} labels from {labels.min()} to {labels.max()}"
        )
    return np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)), labels


@dataset(
    "svhn", title="SVHN", source="Netzer et al. 2011",
    channels=3, height=32, width=32, classes=_DIGITS, train_total=73_257, test_total=26_032, validation_default=5_000,
)  # fmt: skip
def _svhn(location: DataLocation, spec: DataSpec) -> RawData:
    """99,289 cropped house numbers in colour, 32x32 pixels, 10 classes; the published class 10 is the digit 0."""
    first = location.find("train_32x32.mat", "svhn/train_32x32.mat", "SVHN/train_32x32.mat")
    if first is None or not (first.parent / "test_32x32.mat").exists():
        raise _missing("svhn", location, "train_32x32.mat and test_32x32.mat")
    checksums = location.checksums["svhn"]
    for file, md5 in checksums.items():
        verify_md5(first.parent / file, md5)
    train, test = (checked_svhn(first.parent, split=part, checksums=checksums) for part in ("train", "test"))
    return RawData(
        np.ascontiguousarray(train.data),
        np.atleast_1d(train.labels),
        np.ascontiguousarray(test.data),
        np.atleast_1d(test.labels),
        _DIGITS,
    )


def checked_svhn(root: Path, *, split: str, checksums: Mapping[str, str]) -> Any:
    """torchvision's SVHN, demanding `checksums` (file name to MD5) instead of the published ones."""
    from torchvision.datasets import SVHN

    class Checked(SVHN):  # type: ignore[misc]
        split_list: ClassVar = {
            part: [url, file, checksums[file]] for part, (url, file, _) in SVHN.split_list.items() if file in checksums
        }

    return Checked(str(root), split=split)


def _imagenet_folder(location: DataLocation) -> Path | None:
    return location.find("imagenet/train", "ImageNet/train", "ILSVRC2012/train")


@dataset(
    "imagenet", title="ImageNet", source="Russakovsky et al. 2015 (ILSVRC 2012)",
    channels=3, height=224, width=224, classes=tuple(f"class {i}" for i in range(1000)), train_total=1_281_167,
    test_total=50_000, validation_default=10_000,
)  # fmt: skip
def _imagenet(location: DataLocation, spec: DataSpec) -> RawData:
    """1,331,167 photographs in 1,000 classes, cut to 224x224 and read from disk as they are needed."""
    folder = _imagenet_folder(location)
    if folder is None or not (folder.parent / "val").is_dir():
        raise _missing("imagenet", location, "imagenet/train and imagenet/val")
    from torchvision.datasets import ImageFolder

    parts = []
    for part in ("train", "val"):
        found = ImageFolder(str(folder.parent / part))
        order = np.random.Generator(np.random.Philox(0)).permutation(len(found.samples))  # folders come class by class
        paths = tuple(Path(found.samples[i][0]) for i in order)
        labels = np.array([found.samples[i][1] for i in order], np.int64)
        parts.append((ImageFiles(paths, 3, 224, 224, crop=True), labels, tuple(found.classes)))
    (train, train_labels, classes), (test, test_labels, test_classes) = parts
    if classes != test_classes:
        raise DataCorrupt(f"{folder.parent}: train and val do not hold the same class folders")
    return RawData(train, train_labels, test, test_labels, classes)


@dataset(
    "blobs", title="Blobs", source="made up here, for tests: one Gaussian blob per class at its own place",
    channels=1, height=8, width=8, classes=("a", "b", "c", "d"),
    train_total=400, test_total=200, validation_default=100,
)  # fmt: skip
def _blobs(location: DataLocation, spec: DataSpec) -> RawData:
    """600 noisy spots, 8x8 pixels, 4 classes by the place of the spot; for tests and first steps, needs no files."""
    rng = np.random.Generator(np.random.Philox(20))
    labels = rng.permutation(np.arange(600) % 4)
    centre = np.array([(2, 2), (2, 5), (5, 2), (5, 5)])[labels] + rng.normal(0, 0.8, (600, 2))
    rows, columns = np.mgrid[:8, :8]
    distance = (rows - centre[:, 0, None, None]) ** 2 + (columns - centre[:, 1, None, None]) ** 2
    light = 180 * np.exp(-distance / 3) + rng.normal(30, 40, (600, 8, 8))
    images = np.rint(light.clip(0, 255)).astype(np.uint8)[:, None]
    return RawData(images[:400], labels[:400], images[400:], labels[400:], ("a", "b", "c", "d"))


# --- a user's own pictures --------------------------------------------------------------------------------------------

PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
_IGNORED = {"thumbs.db", "desktop.ini"}
_LARGEST_SIDE = 128  # pictures of several sizes are scaled to their median size, at most this
_HELD_BYTES = 1 << 30  # folders that decode to more than this are read batch by batch
_PATH = "data.path"


@dataset("folder", title="Folder of pictures", source="the user's own")
def _folder(location: DataLocation, spec: DataSpec) -> RawData:
    """Your own pictures: one folder per class, or train/ and test/ with one folder per class in each."""
    found = scan_folder(own_path(spec))
    parts = []
    for paths, labels in ((found.train, found.train_labels), (found.test, found.test_labels)):
        files = ImageFiles(paths, found.channels, found.height, found.width)
        parts.append((files.read(range(len(files))) if _is_held(files) else files, labels))
    (train, train_labels), (test, test_labels) = parts
    return RawData(train, train_labels, test, test_labels, found.classes)


def _is_held(files: ImageFiles) -> bool:
    return len(files) * files.channels * files.height * files.width <= _HELD_BYTES


@dataset("npz", title="NumPy file", source="the user's own")
def _npz(location: DataLocation, spec: DataSpec) -> RawData:
    """Your own arrays: an .npz file with images and labels, or train_images, train_labels, test_images, test_labels."""
    return read_npz(own_path(spec))


def own_path(spec: DataSpec) -> Path:
    """The folder or file of a user's own set. Raises InvalidInput when it is not there."""
    if not spec.path:
        raise InvalidInput("this set needs a path", field=_PATH, allowed="a folder or an .npz file on this machine")
    path = Path(spec.path).expanduser()
    wanted = "a folder" if spec.dataset == "folder" else "an .npz file"
    try:
        there = path.is_dir() if spec.dataset == "folder" else path.is_file()
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{spec.path!r} cannot be looked at: {error}", field=_PATH, allowed=wanted) from error
    if not there:
        raise InvalidInput(
            f"there is no {wanted.split(' ', 1)[1]} {spec.path!r}", field=_PATH, allowed=f"{wanted} that exists"
        )
    return path


@dataclass(frozen=True)
class FoundFolder:
    """What a folder of class folders holds: files in their fixed order, labels, the common size, and a fingerprint."""

    train: tuple[Path, ...]
    train_labels: Labels
    test: tuple[Path, ...]
    test_labels: Labels
    classes: tuple[str, ...]
    channels: int
    height: int
    width: int
    fingerprint: str


def scan_folder(root: Path) -> FoundFolder:
    """Look through a folder of class folders. Raises InvalidInput saying what is wrong and where.

    Without train/ and test/ a fifth of every class is the test set, chosen by a fixed seed from the sorted names. The
    result is remembered until a file's name, size or time changes, for forms ask at every key press.
    """
    state = tuple(
        (str(path.relative_to(root)), (stat := path.stat()).st_size, stat.st_mtime_ns)
        for path in sorted(root.rglob("*"))
        if path.is_file() and not _is_ignored(path)
    )
    return _scan_folder(root, state)


@lru_cache(maxsize=8)
def _scan_folder(root: Path, state: tuple[tuple[str, int, int], ...]) -> FoundFolder:
    split = (root / "train").is_dir() and (root / "test").is_dir()
    classes, paths, labels = _class_folders(root / "train" if split else root)
    order = np.random.Generator(np.random.Philox(0))
    if split:
        test_classes, test_paths, test_labels = _class_folders(root / "test")
        if test_classes != classes:
            odd = sorted(set(classes) ^ set(test_classes))
            raise _refuse(f"train/ and test/ do not hold the same classes: {', '.join(odd[:5])}")
        train, test = order.permutation(len(paths)), order.permutation(len(test_paths))
    else:
        test_paths, test_labels = paths, labels
        train, test = stratified_split(labels, test=len(labels) // 5, seed=0)
    if len(test) == 0:
        raise _refuse(f"{len(paths)} pictures are too few to set a fifth aside for testing")
    digest = hashlib.sha256()
    sizes, grey = [], True
    for name, _, _ in state:
        path = root / name
        content = path.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
        width, height, colourless = _picture(path)
        sizes.append((height, width))
        grey = grey and colourless
    height, width = _common_size(sizes)
    return FoundFolder(
        tuple(paths[i] for i in train), labels[train], tuple(test_paths[i] for i in test), test_labels[test],
        classes, 1 if grey else 3, height, width, digest.hexdigest(),
    )  # fmt: skip


def _class_folders(root: Path) -> tuple[tuple[str, ...], list[Path], Labels]:
    """Class names (sorted), picture files (sorted by class and name) and their labels."""
    entries = sorted(entry for entry in root.iterdir() if not _is_ignored(entry))
    loose = [entry for entry in entries if not entry.is_dir()]
    folders = [entry for entry in entries if entry.is_dir()]
    if loose:
        raise _refuse(f"{loose[0].name} lies beside the class folders of {root}, not in one of them")
    if len(folders) < 2:
        raise _refuse(f"{root} holds {len(folders)} class folder(s), a classifier needs at least 2")
    paths: list[Path] = []
    labels: list[int] = []
    for label, folder in enumerate(folders):
        files = sorted(path for path in folder.rglob("*") if path.is_file() and not _is_ignored(path))
        odd = [path for path in files if path.suffix.lower() not in PICTURES]
        if odd:
            raise _refuse(f"{odd[0].relative_to(root)} is not a picture, and class folders hold nothing else")
        if not files:
            raise _refuse(f"the class folder {folder.name!r} holds no pictures")
        paths += files
        labels += [label] * len(files)
    return tuple(folder.name for folder in folders), paths, np.array(labels, np.int64)


def _refuse(message: str) -> InvalidInput:
    kinds = ", ".join(sorted(suffix[1:] for suffix in PICTURES))
    return InvalidInput(
        message,
        field=_PATH,
        allowed=f"a folder with one folder of pictures ({kinds}) per class, or train/ and test/ of such",
    )


def _is_ignored(path: Path) -> bool:
    return path.name.startswith(".") or path.name.lower() in _IGNORED


def _picture(path: Path) -> tuple[int, int, bool]:
    """Width, height, and whether the picture is grey. Pillow reads the header only."""
    try:
        with Image.open(path) as image:
            return image.width, image.height, image.mode in ("1", "L", "LA", "I", "I;16", "F")
    except (OSError, Image.DecompressionBombError) as error:
        raise _refuse(f"{path.name} cannot be read as a picture: {error}") from error


def _common_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Height and width all pictures are scaled to: their own (at most 224) when equal, else the median (to 128)."""
    height, width = (int(np.median([size[axis] for size in sizes])) for axis in (0, 1))
    limit = 224 if len(set(sizes)) == 1 else _LARGEST_SIDE
    scale = min(1.0, limit / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


@dataclass(frozen=True)
class FoundPictures:
    """What a folder holds when classes do not matter: files in their order, the common size (0x0 if there are several
    sizes), and a fingerprint."""

    paths: tuple[Path, ...]
    channels: int
    height: int
    width: int
    fingerprint: str


def scan_pictures(root: Path) -> FoundPictures:
    """Every picture under `root`, or under its test/ where it has train/ and test/; remembered like `scan_folder`.

    Raises InvalidInput saying which file is no picture.
    """
    place = root / "test" if (root / "train").is_dir() and (root / "test").is_dir() else root
    files = sorted(path for path in place.rglob("*") if path.is_file() and not _is_ignored(path))
    return _scan_pictures(place, tuple((path, (s := path.stat()).st_size, s.st_mtime_ns) for path in files))


@lru_cache(maxsize=8)
def _scan_pictures(root: Path, state: tuple[tuple[Path, int, int], ...]) -> FoundPictures:
    digest = hashlib.sha256()
    sizes: set[tuple[int, int]] = set()
    grey = True
    for path, _, _ in state:
        if path.suffix.lower() not in PICTURES:
            raise InvalidInput(
                f"{path.relative_to(root)} is not a picture", field=_PATH, allowed="a folder of pictures only"
            )
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root)}\0{len(content)}\0".encode())
        digest.update(content)
        width, height, colourless = _picture(path)
        sizes.add((height, width))
        grey = grey and colourless
    height, width = sizes.pop() if len(sizes) == 1 else (0, 0)
    return FoundPictures(tuple(path for path, _, _ in state), 1 if grey else 3, height, width, digest.hexdigest())


def read_images(path: Path) -> Images:
    """The images alone of an .npz file: `test_images` if it has them, else `images`. Raises InvalidInput."""
    stat = path.stat()
    return _read_images(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=2)
def _read_images(path: Path, size: int, changed: int) -> Images:
    arrays = _npz_arrays(path)
    key = next((key for key in ("test_images", "images") if key in arrays), None)
    if key is None:
        held = ", ".join(sorted(arrays)) or "nothing"
        raise _bad_npz(f"it holds {held}", allowed="an .npz file with images or test_images")
    return _as_images(arrays[key], key)


_NPZ_KEYS = "images and labels, or train_images, train_labels, test_images and test_labels"
_NPZ_LARGEST = 8 << 30  # bytes once unpacked


def read_npz(path: Path) -> RawData:
    """The user's arrays, validated. Raises InvalidInput in words a person can act on."""
    stat = path.stat()
    return _read_npz(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=2)
def _read_npz(path: Path, size: int, changed: int) -> RawData:
    arrays = _npz_arrays(path)
    if {"train_images", "train_labels", "test_images", "test_labels"} <= arrays.keys():
        train, train_labels = _npz_pair(arrays, "train_images", "train_labels")
        test, test_labels = _npz_pair(arrays, "test_images", "test_labels")
        if train.shape[1:] != test.shape[1:]:
            raise _bad_npz(
                f"train_images are {train.shape[1:]} and test_images {test.shape[1:]} (channels, height, width)"
            )
    elif {"images", "labels"} <= arrays.keys():
        images, labels = _npz_pair(arrays, "images", "labels")
        if len(images) < 10:
            raise _bad_npz(f"{len(images)} images are too few to set a fifth aside for testing")
        chosen, other = stratified_split(labels, test=len(labels) // 5, seed=0)
        train, train_labels, test, test_labels = images[chosen], labels[chosen], images[other], labels[other]
    else:
        raise _bad_npz(f"it holds {', '.join(sorted(arrays)) or 'nothing'}")
    count = int(max(train_labels.max(), test_labels.max())) + 1
    if count < 2 or len(np.unique(train_labels)) < 2:
        raise _bad_npz("all training labels are the same, a classifier needs at least 2 classes")
    unseen = np.setdiff1d(test_labels, train_labels)
    if unseen.size:
        raise _bad_npz(f"test label {unseen[0]} does not occur in training")
    if count > 100_000:
        raise _bad_npz(f"labels go up to {count - 1}, which would mean {count} classes")
    names = arrays.get("classes")
    if names is not None and (names.shape != (count,) or names.dtype.kind != "U"):
        raise _bad_npz(f"`classes` must be {count} texts, it is {names.dtype} of shape {names.shape}")
    classes = tuple(str(i) for i in range(count)) if names is None else tuple(str(name) for name in names)
    return RawData(train, train_labels, test, test_labels, classes)


def _npz_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(item.file_size for item in archive.infolist())
        if unpacked > _NPZ_LARGEST:
            raise _bad_npz(
                f"it unpacks to {unpacked / 2**30:.1f} GiB, the limit is {_NPZ_LARGEST >> 30} GiB; use class folders"
            )
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except InvalidInput:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError) as error:
        raise _bad_npz(f"it cannot be read as .npz ({error})") from error


def _npz_pair(arrays: Mapping[str, NDArray[Any]], images_key: str, labels_key: str) -> tuple[Images, Labels]:
    images, labels = _as_images(arrays[images_key], images_key), _as_labels(arrays[labels_key], labels_key)
    if len(images) != len(labels):
        raise _bad_npz(f"{images_key} holds {len(images)} images, {labels_key} {len(labels)} labels")
    return images, labels


def _as_images(values: NDArray[Any], key: str) -> Images:
    """uint8 [N, C, H, W] from NHW, NHWC or NCHW; floats in 0..1 or 0..255 are scaled and rounded."""
    if values.dtype.kind not in "uif":
        raise _bad_npz(f"{key} holds {values.dtype}, not numbers")
    if values.ndim not in (3, 4) or 0 in values.shape:
        raise _bad_npz(f"{key} has shape {values.shape}", allowed="[N, H, W], [N, H, W, C] or [N, C, H, W], none empty")
    if values.ndim == 3:
        values = values[:, None]
    elif values.shape[3] in (1, 3):
        values = values.transpose(0, 3, 1, 2)
    elif values.shape[1] not in (1, 3):
        raise _bad_npz(f"{key} has shape {values.shape}", allowed="1 or 3 channels, at the second or the last place")
    if max(values.shape[2:]) > 1024:
        raise _bad_npz(f"{key} are {values.shape[2]}x{values.shape[3]} pixels", allowed="at most 1024 a side")
    if values.dtype != np.uint8:
        if not np.isfinite(values).all():
            raise _bad_npz(f"{key} holds values that are not numbers (NaN or infinite)")
        low, high = float(values.min()), float(values.max())
        if low < 0 or high > 255:
            raise _bad_npz(f"{key} goes from {low:g} to {high:g}", allowed="pixels 0 to 255, or 0 to 1 as floats")
        factor = 255.0 if values.dtype.kind == "f" and high <= 1 else 1.0
        values = np.rint(values * factor).astype(np.uint8)
    return np.ascontiguousarray(values)


def _as_labels(values: NDArray[Any], key: str) -> Labels:
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or values.dtype.kind not in "uif":
        raise _bad_npz(
            f"{key} holds {values.dtype} of shape {values.shape}", allowed="whole numbers from 0, one an image"
        )
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            where = int(np.flatnonzero(~np.isfinite(values))[0])
            raise _bad_npz(
                f"{key} holds {values[where]} at position {where}", allowed="whole numbers from 0, none missing"
            )
        if (values != np.rint(values)).any():
            raise _bad_npz(f"{key} holds {values[values != np.rint(values)][0]:g}", allowed="whole numbers from 0")
    if values.size and values.min() < 0:
        raise _bad_npz(f"{key} holds {values.min():g}", allowed="whole numbers from 0")
    if values.size and values.max() >= 2**31:
        raise _bad_npz(f"{key} holds {values.max():g}", allowed="class numbers from 0")
    return values.astype(np.int64)


def _bad_npz(message: str, *, allowed: str = f"an .npz file with {_NPZ_KEYS}") -> InvalidInput:
    return InvalidInput(message, field=_PATH, allowed=allowed)


def stratified_split(labels: Labels, *, test: int, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices (train, test) in shuffled order; each class gives its share of `test`, by largest remainder."""
    rng = np.random.Generator(np.random.Philox(seed))
    names, counts = np.unique(labels, return_counts=True)
    exact = counts * (test / len(labels))
    given = np.floor(exact).astype(int)
    given[np.argsort(given - exact, kind="stable")[: test - given.sum()]] += 1
    tested, trained = [], []
    for name, share in zip(names, given, strict=True):
        members = rng.permutation(np.flatnonzero(labels == name))
        tested.append(members[:share])
        trained.append(members[share:])
    return rng.permutation(np.concatenate(trained)), rng.permutation(np.concatenate(tested))


# --- what is here, what is missing ------------------------------------------------------------------------------------


def describe(spec: DataSpec, folders: Sequence[Path]) -> DataInfo:
    """Sizes and classes without loading torch; a user's own data is read and checked.

    Raises DataMissing (saying how to get the set) and InvalidInput (field data.path).
    """
    entry, location = datasets[spec.dataset], DataLocation(tuple(folders))
    if spec.dataset == "folder":
        found = scan_folder(own_path(spec))
        n = len(found.train)
        return DataInfo(
            found.channels,
            found.height,
            found.width,
            found.classes,
            n,
            len(found.test),
            min(5000, n // 10),
            found.fingerprint,
        )
    if spec.dataset == "npz":
        path = own_path(spec)
        raw = read_npz(path)
        n = len(raw.train_labels)
        shape = cast(Images, raw.train_images).shape
        return DataInfo(
            shape[1],
            shape[2],
            shape[3],
            raw.classes,
            n,
            len(raw.test_labels),
            min(5000, n // 10),
            file_digest(path, "sha256"),
        )
    if not entry.train_total:  # a plug-in's set says its sizes by being read
        raw = entry.call(location, spec)
        return _info_of(raw)
    if not availability_of(spec.dataset, location).present:
        raise _missing(spec.dataset, location, "files")
    if spec.dataset == "imagenet":
        return _describe_imagenet(location)
    return published(spec.dataset)


def published(name: str) -> DataInfo:
    """Sizes and classes of a public set as published, for plans of one that is not here."""
    entry = datasets[name]
    return DataInfo(
        entry.channels,
        entry.height,
        entry.width,
        entry.classes,
        entry.train_total,
        entry.test_total,
        entry.validation_default,
    )


def _held_out(name: str, total: int) -> int:
    """Images for validation where none are asked for: the set's own number, or a tenth of a part of it."""
    default = datasets[name].validation_default
    return default if 0 < default < total else min(5000, total // 10)


def _describe_imagenet(location: DataLocation) -> DataInfo:
    """What is there, which may be a part of ImageNet in its layout: a hundred classes, or a few images of each."""
    folder = _imagenet_folder(location)
    assert folder is not None
    train, test = (_list_pictures(part) for part in (folder, folder.parent / "val"))
    entry, names = datasets["imagenet"], train.classes
    digest = hashlib.sha256(f"{train.fingerprint}|{test.fingerprint}".encode()).hexdigest()
    total = train.count
    return DataInfo(
        entry.channels, entry.height, entry.width, names, total, test.count, _held_out("imagenet", total), digest
    )  # fmt: skip


@dataclass(frozen=True)
class _ListedPictures:
    """Class folders whose pictures are too many to read: class names (sorted), how many pictures, and a fingerprint of
    classes and of every picture's name, size and time."""

    classes: tuple[str, ...]
    count: int
    fingerprint: str


_listed: dict[Path, tuple[tuple[tuple[Path, int], ...], float, _ListedPictures]] = {}
_QUICK = 0.1  # seconds
_TRUSTED = 100  # times as long as listing took


def _list_pictures(root: Path) -> _ListedPictures:
    """The class folders of `root`, listed anew when a folder's time has changed.

    Pictures overwritten in place leave their folder's time as it is, so what is listed quickly is always listed, and
    only a listing that took longer than a tenth of a second is trusted, a hundred times as long as it took: forms,
    which ask at every key press, wait for what is large (1.3 million files: seconds) once in minutes.
    """
    state = tuple((entry, entry.stat().st_mtime_ns) for entry in sorted(root.iterdir()) if entry.is_dir())
    begun = time.monotonic()
    before, until, found = _listed.get(root, ((), 0.0, None))
    if found is not None and before == state and begun < until:
        return found
    digest, count = hashlib.sha256(), 0
    for folder, _ in state:
        digest.update(b"\0\0" + os.fsencode(folder.name))
        for path in _pictures_of(folder):
            try:
                stat = os.stat(path)  # noqa: PTH116 - a Path for each would double the time
            except OSError as error:
                raise DataCorrupt(f"{path} cannot be read: {error}") from error
            digest.update(os.fsencode(path[len(str(folder)) :]))
            digest.update(f"\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
            count += 1
    found = _ListedPictures(tuple(folder.name for folder, _ in state), count, digest.hexdigest())
    now = time.monotonic()
    took = now - begun
    _listed[root] = (state, now + _TRUSTED * took if took > _QUICK else 0.0, found)
    return found


def _pictures_of(folder: Path) -> list[str]:
    """Paths of the pictures of a class, sorted; folders inside it count, as torchvision reads them."""
    return sorted(
        f"{place}/{name}"
        for place, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name[name.rfind(".") :].lower() in PICTURES
    )


def _info_of(raw: RawData) -> DataInfo:
    images = raw.train_images
    channels, height, width = size_of(images)
    n = len(raw.train_labels)
    return DataInfo(channels, height, width, raw.classes, n, len(raw.test_labels), min(5000, n // 10))


Names = tuple[tuple[str, frozenset[str]], ...]  # of picture files, by class folder


@dataclass(frozen=True)
class OwnTest:
    """What can be known of the test images without torch or scikit-learn. labels: in their order; names: of the files
    of a set that is read as it is needed. None: not known, or no such files."""

    labels: Labels | None
    names: Names | None = None


def own_test(spec: DataSpec, folders: Sequence[Path]) -> OwnTest | None:
    """Of all test images of a set that `describe` has found; None for a plug-in's set, whose reader may need anything.

    Raises DataCorrupt when a pickled file is not the published one.
    """
    location = DataLocation(tuple(folders))
    if spec.dataset == "folder":
        found = scan_folder(own_path(spec))
        held = _is_held(ImageFiles(found.test, found.channels, found.height, found.width))
        return OwnTest(found.test_labels, None if held else _names_by_folder(found.test))
    if spec.dataset == "npz":
        return OwnTest(read_npz(own_path(spec)).test_labels)
    if spec.dataset == "blobs":
        return OwnTest(_blobs(location, spec).test_labels)
    if spec.dataset in ("digits", "digits-0-4", "digits-5-9", "svhn"):
        return OwnTest(None)  # scikit-learn and SciPy have them
    files = _files_of(spec.dataset, location)
    if not files:
        return None
    if spec.dataset == "imagenet":
        return OwnTest(None, _names_listed(files[1], _list_pictures(files[1]).fingerprint))
    if spec.dataset == "fashion-mnist":
        return OwnTest(read_idx(files[3]).astype(np.int64))
    file, key = {"cifar10": ("test_batch", "labels"), "cifar100": ("test", "fine_labels")}[spec.dataset]
    path = files[0].parent / file
    return OwnTest(_cifar_labels(path, key, location.checksums[spec.dataset][file], path.stat().st_mtime_ns))


@lru_cache(maxsize=2)
def _names_by_folder(paths: tuple[Path, ...]) -> Names:
    found: dict[str, set[str]] = {}
    for path in paths:
        found.setdefault(path.parent.name, set()).add(path.name)
    return tuple((name, frozenset(files)) for name, files in sorted(found.items()))


@lru_cache(maxsize=2)
def _names_listed(root: Path, fingerprint: str) -> Names:
    return _names_by_folder(
        tuple(Path(path) for folder in root.iterdir() if folder.is_dir() for path in _pictures_of(folder))
    )


@lru_cache(maxsize=2)
def _cifar_labels(path: Path, key: str, md5: str, changed: int) -> Labels:
    verify_md5(path, md5)  # before anything is unpickled
    with path.open("rb") as file:
        return np.array(pickle.load(file, encoding="latin1")[key], np.int64)


def seed_name(spec: DataSpec) -> str:
    """What names a set's images in the seeds of their corruptions: a user's own by their content, others by their name,
    so that they are the same on every machine."""
    return (spec.fingerprint or spec.dataset) if spec.path else spec.dataset


@dataclass(frozen=True)
class Availability:
    """Whether a data set is here. bytes: on disk when present, else of the download; how: the next step, in words."""

    name: str
    title: str
    present: bool
    where: Path | None
    bytes: int | None
    how: str
    fetchable: bool


def availability(folders: Sequence[Path]) -> list[Availability]:
    """Every registered set with published files, and whether it is here; a user's own sets are not listed."""
    location = DataLocation(tuple(folders))
    return [availability_of(name, location) for name in datasets if name not in ("folder", "npz")]


def availability_of(name: str, location: DataLocation) -> Availability:
    entry = datasets[name]
    files = _files_of(name, location)
    present = files is not None
    fetchable = name in DOWNLOADS and not present
    size = sum(path.stat().st_size for path in files) if files else entry.download_bytes
    if name in DOWNLOADS:
        how = f"modescape data fetch {name}"
    else:
        how = HOW_TO_GET.get(name, "brought by a plug-in")
    return Availability(name, entry.title, present, files[0].parent if files else None, size, how, fetchable)


def _files_of(name: str, location: DataLocation) -> list[Path] | None:
    """The files of a set; [] for sets that need none, None when they are missing."""
    if name == "fashion-mnist":
        folder = _find_fashion(location)
        return [_idx_file(folder, file) for file in _IDX_FILES] if folder else None
    if name in _CIFAR_FOLDERS:
        base = _CIFAR_FOLDERS[name]
        found = location.find(base, f"{name}/{base}", f"{datasets[name].title.replace('-', '')}/{base}")
        return _all_there([found / file for file in CHECKSUMS[name]]) if found else None
    if name == "svhn":
        first = location.find("train_32x32.mat", "svhn/train_32x32.mat", "SVHN/train_32x32.mat")
        return _all_there([first, first.parent / "test_32x32.mat"]) if first else None
    if name == "imagenet":
        folder = _imagenet_folder(location)
        return _all_there([folder, folder.parent / "val"]) if folder else None
    return []


def _all_there(paths: list[Path]) -> list[Path] | None:
    return paths if all(path.exists() for path in paths) else None


def verify_md5(path: Path, expected: str) -> None:
    """Raises DataMissing or DataCorrupt unless the file's MD5 is `expected` (the published form of these checksums)."""
    if not path.is_file():
        raise DataMissing(f"{path} is missing; fetch the set again")
    found = file_digest(path, "md5")
    if found != expected:
        raise DataCorrupt(f"{path} has MD5 {found}, expected {expected}; delete it and fetch the set again")


def file_digest(path: Path, algorithm: Literal["md5", "sha256"]) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def fetch(
    name: str,
    folder: Path,
    progress: Callable[[int, int], None],
    *,
    downloads: Mapping[str, Sequence[Published]] = DOWNLOADS,
) -> None:
    """Download a public set into `folder`, check it, put it in place whole or not at all. progress(bytes done, of all).

    Raises InvalidInput for sets that cannot be fetched, DataMissing when the server does not answer, DataCorrupt when
    what came has another checksum.
    """
    if name not in downloads:
        raise InvalidInput(f"{name!r} cannot be fetched", field="name", allowed="one of " + ", ".join(downloads))
    files = downloads[name]
    total, done = sum(file.bytes for file in files), 0
    target = folder if name in _CIFAR_FOLDERS else folder / name
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=target) as temporary:
        for file in files:
            arriving = Path(temporary) / file.name
            for size in _download(file, arriving):
                done += size
                progress(min(done, total), total)
            found = file_digest(arriving, "md5")
            if found != file.md5:
                raise DataCorrupt(f"{file.url} arrived with MD5 {found}, expected {file.md5}; nothing was kept")
            if arriving.name.endswith(".tar.gz"):
                _unpack(arriving, Path(temporary) / "unpacked", target)
            else:
                arriving.replace(target / file.name)
    progress(total, total)


def _download(file: Published, target: Path) -> Iterator[int]:
    """Write the file; yields the size of each piece as it comes."""
    request = urllib.request.Request(file.url, headers={"User-Agent": "modescape"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer, target.open("wb") as out:
            while piece := cast(BinaryIO, answer).read(1 << 18):
                out.write(piece)
                yield len(piece)
    except OSError as error:
        raise DataMissing(f"{file.url} could not be fetched: {error}") from error


def _unpack(archive: Path, temporary: Path, target: Path) -> None:
    """Unpack beside the target and rename each top folder into place."""
    with tarfile.open(archive) as tar:
        tar.extractall(temporary, filter="data")
    for entry in temporary.iterdir():
        shutil.rmtree(target / entry.name, ignore_errors=True)
        entry.replace(target / entry.name)


# --- as torch sees it -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class InputTransform:
    """What a network sees of pixels: (pixel - shift) * scale, with values computed from the training set.

    shift and scale are float32 and broadcast against [N, C, H, W]; science c: raw255 is the authors' code.
    """

    kind: InputScale
    shift: NDArray[np.float32]
    scale: NDArray[np.float32]

    def __call__(self, images: Tensor) -> Tensor:
        """float32 in the memory layout of `images` (uint8 [N, C, H, W])."""
        import torch

        values = images.to(torch.float32)
        if self.kind == "raw255":
            return values
        shift, scale = self._on(images.device)
        return values.sub_(shift).mul_(scale)

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        import torch

        if device not in self._cache:
            self._cache[device] = (torch.from_numpy(self.shift).to(device), torch.from_numpy(self.scale).to(device))
        return self._cache[device]

    @cached_property
    def _cache(self) -> dict[torch.device, tuple[Tensor, Tensor]]:
        return {}


@dataclass(frozen=True)
class Split:
    """Images of one split, as uint8 [N, C, H, W] on a device or as files, and their labels int64 [N]."""

    images: Tensor | ImageFiles
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def is_streamed(self) -> bool:
        return isinstance(self.images, ImageFiles)

    def batch(
        self, indices: Tensor, *, augmentation: Augmentation = "none", rng: np.random.Generator | None = None
    ) -> Tensor:
        """uint8 images [n, C, H, W] in channels-last memory, augmented from `rng`."""
        import torch

        if isinstance(self.images, ImageFiles):
            boxes = None
            if augmentation == "resized-crop-flip" and rng is not None:
                boxes, augmentation = random_boxes(len(indices), rng), "resized-crop-flip"
            read = torch.from_numpy(self.images.read(indices.tolist(), boxes)).to(self.labels.device)
            if boxes is not None and rng is not None:
                return _flip(read, rng)
            return read if rng is None else augment(read, augmentation, rng)
        picked = self.images.permute(0, 2, 3, 1).index_select(0, indices).permute(0, 3, 1, 2)
        return picked if augmentation == "none" or rng is None else augment(picked, augmentation, rng)

    def take(self, n: int) -> Split:
        """The first n."""
        images = self.images.take(range(min(n, len(self)))) if isinstance(self.images, ImageFiles) else self.images[:n]
        return Split(images, self.labels[:n])

    def to(self, device: torch.device | str) -> Split:
        images = self.images if isinstance(self.images, ImageFiles) else self.images.to(device)
        return Split(images, self.labels.to(device))

    def numpy_labels(self) -> Labels:
        return cast(Labels, self.labels.cpu().numpy())


@dataclass(frozen=True)
class Splits:
    """A data set ready for training: three splits, class names, and the transform computed from the training images."""

    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    transform: InputTransform
    shape: Shape

    def to(self, device: torch.device | str) -> Splits:
        return replace(
            self, train=self.train.to(device), validation=self.validation.to(device), test=self.test.to(device)
        )


_loaded: OrderedDict[tuple[str, tuple[Path, ...]], Splits] = OrderedDict()
_KEPT_SETS = 2


def load(spec: DataSpec, folders: Sequence[Path], *, checksums: Mapping[str, Mapping[str, str]] = CHECKSUMS) -> Splits:
    """The splits a spec asks for, on the CPU. The last two sets stay loaded, for a worker's stages share them.

    Raises DataMissing, DataCorrupt (also when a set of files has changed since the experiment was created).
    """
    key = (spec.model_dump_json(), tuple(folders))
    if key in _loaded and checksums is CHECKSUMS:
        _loaded.move_to_end(key)
        if _loaded[key].train.is_streamed:  # its files are still being read
            _check_unchanged(spec, folders)
        return _loaded[key]
    _check_unchanged(spec, folders)
    raw = datasets[spec.dataset].call(DataLocation(tuple(folders), checksums), spec)
    splits = split(raw, spec)
    _loaded[key] = splits
    while len(_loaded) > _KEPT_SETS:
        _loaded.popitem(last=False)
    return splits


def _check_unchanged(spec: DataSpec, folders: Sequence[Path]) -> None:
    if spec.fingerprint is not None and describe(spec, folders).fingerprint != spec.fingerprint:
        what = spec.path or datasets[spec.dataset].title
        raise DataCorrupt(f"{what} has changed since the experiment was created; clone it to use the new data")


def split(raw: RawData, spec: DataSpec) -> Splits:
    """Cut the training files into training and validation, and take the test images asked for.

    `first`: the first images train, the last validate, as in the authors' code. `shuffled`: by `split_seed`.
    """
    total = len(raw.train_labels)
    default = _held_out(spec.dataset, total)
    validation = default if spec.validation_images is None else spec.validation_images
    train = total - validation if spec.train_images is None else spec.train_images
    test = len(raw.test_labels) if spec.test_images is None else spec.test_images
    if train < 1 or train + validation > total or test > len(raw.test_labels):
        raise InvalidInput(
            f"{train} + {validation} images were asked for, {total} are there (test: {test} of {len(raw.test_labels)})",
            field="data.train_images", allowed=f"at most {total} together",
        )  # fmt: skip
    order = np.arange(total)
    if spec.split == "shuffled":
        order = np.random.Generator(np.random.Philox(spec.split_seed)).permutation(total)
    train_split = _part(raw.train_images, raw.train_labels, order[:train])
    validation_split = _part(raw.train_images, raw.train_labels, order[total - validation :])
    test_split = _part(raw.test_images, raw.test_labels, np.arange(test))
    channels, height, width = size_of(train_split.images)
    return Splits(
        train_split, validation_split, test_split, raw.classes, make_transform(spec.input_scale, train_split),
        Shape(channels, height, width, len(raw.classes)),
    )  # fmt: skip


def _part(images: Images | ImageFiles, labels: Labels, indices: NDArray[np.intp]) -> Split:
    import torch

    chosen = torch.from_numpy(labels[indices])
    if isinstance(images, ImageFiles):
        return Split(images.take(indices.tolist()), chosen)
    pixels = np.ascontiguousarray(images[indices].transpose(0, 2, 3, 1))  # pixels together: what convolutions like best
    return Split(torch.from_numpy(pixels).permute(0, 3, 1, 2), chosen)


_STATISTICS_IMAGES = 10_000  # of streamed sets, whose every image would be read from disk


def make_transform(kind: InputScale, train: Split) -> InputTransform:
    """The transform of science c, from all training images (streamed sets: from the first 10,000)."""
    if kind in ("raw255", "unit", "symmetric"):
        middle, factor = {"raw255": (0.0, 1.0), "unit": (0.0, 1 / 255), "symmetric": (127.5, 1 / 127.5)}[kind]
        return InputTransform(kind, _constant(middle), _constant(factor))
    total, squares, n = _sums(train)
    if kind == "pixel-mean":
        return InputTransform(kind, (total / n).astype(np.float32)[None], _constant(1 / 255))
    pixels = n * total.shape[1] * total.shape[2]
    mean = total.sum((1, 2)) / pixels
    deviation = np.sqrt(np.maximum(squares.sum((1, 2)) / pixels - mean**2, 0))
    shift, scale = (
        v.astype(np.float32)[None, :, None, None] for v in (mean, 1 / np.where(deviation > 0, deviation, 1))
    )
    return InputTransform(kind, shift, scale)


def _constant(value: float) -> NDArray[np.float32]:
    return np.full((1, 1, 1, 1), value, np.float32)


def _sums(train: Split) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Sum and sum of squares of every pixel over the training images [C, H, W], exact, and their number."""
    import torch

    n = min(len(train), _STATISTICS_IMAGES) if train.is_streamed else len(train)
    total: Any = 0
    squares: Any = 0
    for start in range(0, n, 1000):
        pixels = train.batch(torch.arange(start, min(start + 1000, n))).numpy().astype(np.int64)
        total = total + pixels.sum(0)
        squares = squares + (pixels**2).sum(0)
    return total.astype(np.float64), squares.astype(np.float64), n


# --- augmentation -----------------------------------------------------------------------------------------------------


def augment(images: Tensor, kind: Augmentation, rng: np.random.Generator) -> Tensor:
    """Random changes of a batch of uint8 images [n, C, H, W], each image its own, in channels-last memory.

    shift-flip: shifts of up to a tenth of each side (continuous, linear interpolation, border pixels repeated), as
    Keras does; crop-flip: edge-padded by an eighth (4 of 32 pixels) and cut back; resized-crop-flip: 8 to 100 % of the
    area at an aspect ratio of 3/4 to 4/3. All flip every second image from left to right.
    """
    if kind == "none":
        return images
    n, _, height, width = images.shape
    if kind == "shift-flip":
        moved = _shift(images, rng.uniform(-0.1, 0.1, (2, n)) * np.array([[height], [width]]))
    elif kind == "crop-flip":
        reach = np.array([[max(1, height // 8)], [max(1, width // 8)]])
        moved = _shift(images, rng.integers(-reach, reach + 1, (2, n)).astype(float))
    else:
        moved = _resized(images, random_boxes(n, rng))
    return _flip(moved, rng)


def random_boxes(n: int, rng: np.random.Generator) -> list[Box]:
    area, ratio = rng.uniform(0.08, 1, n), np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3), n))
    across, down = rng.uniform(size=n), rng.uniform(size=n)
    return [Box(*map(float, values)) for values in zip(area, ratio, across, down, strict=True)]


def _flip(images: Tensor, rng: np.random.Generator) -> Tensor:
    import torch

    flipped = torch.from_numpy(rng.random(len(images)) < 0.5).to(images.device)
    return torch.where(flipped[:, None, None, None], images.flip(3), images)


def _shift(images: Tensor, offsets: NDArray[np.float64]) -> Tensor:
    """Move each image by offsets [2, n] pixels (down, right), repeating border pixels."""
    height, width = images.shape[2:]
    rows = np.arange(height)[None] - offsets[0][:, None]
    columns = np.arange(width)[None] - offsets[1][:, None]
    return _sample(images, rows, columns)


def _resized(images: Tensor, boxes: Sequence[Box]) -> Tensor:
    _, _, height, width = images.shape
    corners = np.array([box.of(width, height) for box in boxes])
    left, top, right, bottom = corners.T[:, :, None]
    rows = top + (np.arange(height)[None] + 0.5) * (bottom - top) / height - 0.5
    columns = left + (np.arange(width)[None] + 0.5) * (right - left) / width - 0.5
    return _sample(images, rows, columns)


def _sample(images: Tensor, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> Tensor:
    """Each image at its own rows [n, H] and columns [n, W], bilinear; coordinates outside are clamped to the border."""
    import torch

    n, _, height, width = images.shape
    pixels = images.permute(0, 2, 3, 1)
    image = torch.arange(n, device=images.device)[:, None, None]

    def corner(r: NDArray[np.float64], c: NDArray[np.float64]) -> Tensor:
        row = torch.from_numpy(r.clip(0, height - 1).astype(np.int64)).to(images.device)
        column = torch.from_numpy(c.clip(0, width - 1).astype(np.int64)).to(images.device)
        return pixels[image, row[:, :, None], column[:, None, :]]

    top, left = np.floor(rows), np.floor(columns)
    if (top == rows).all() and (left == columns).all():  # whole pixels: nothing to interpolate
        return corner(top, left).permute(0, 3, 1, 2)
    down = torch.from_numpy((rows - top).astype(np.float32)).to(images.device)[:, :, None, None]
    right = torch.from_numpy((columns - left).astype(np.float32)).to(images.device)[:, None, :, None]
    upper = corner(top, left) * (1 - right) + corner(top, left + 1) * right
    lower = corner(top + 1, left) * (1 - right) + corner(top + 1, left + 1) * right
    return (upper * (1 - down) + lower * down).round_().to(torch.uint8).permute(0, 3, 1, 2)
