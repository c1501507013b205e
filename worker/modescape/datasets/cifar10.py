"""CIFAR-10."""

from __future__ import annotations

from modescape.datasets import cifar_reading
from modescape.datasets.dataset import DataLocation, dataset
from modescape.science.data.raw import Published, RawData
from modescape.spec_parts import DataSpec

_FOLDER = "cifar-10-batches-py"
FILES = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
}
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_ARCHIVE = Published(cifar_reading.URL + "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a", 170_498_071)


@dataset(
    "cifar10", title="CIFAR-10", source="Krizhevsky 2009",
    channels=3, height=32, width=32, classes=CLASSES,
    train_total=50_000, test_total=10_000, validation_default=500,
    place=50, checksums=FILES, downloads=(_ARCHIVE,), files=cifar_reading.files("cifar10", _FOLDER),
    own_test=cifar_reading.own_test("cifar10", _FOLDER, "test_batch", "labels"),
)  # fmt: skip
def _cifar10(location: DataLocation, spec: DataSpec) -> RawData:
    """60,000 colour pictures of animals and vehicles, 32x32 pixels, 10 classes."""
    return cifar_reading.read("cifar10", _FOLDER, location)
