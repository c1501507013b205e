"""CIFAR-100."""

from __future__ import annotations

from modescape.datasets import cifar_reading
from modescape.datasets.dataset import DataLocation, dataset
from modescape.science.data.raw import Published, RawData
from modescape.spec_parts import DataSpec

_FOLDER = "cifar-100-python"
FILES = {
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "meta": "7973b15100ade9c7d40fb424638fde48",
}
_NAMES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CLASSES = tuple(_NAMES.split())
_ARCHIVE = Published(cifar_reading.URL + "cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85", 169_001_437)


@dataset(
    "cifar100", title="CIFAR-100", source="Krizhevsky 2009",
    channels=3, height=32, width=32, classes=CLASSES,
    train_total=50_000, test_total=10_000, validation_default=500,
    place=60, checksums=FILES, downloads=(_ARCHIVE,), files=cifar_reading.files("cifar100", _FOLDER),
    own_test=cifar_reading.own_test("cifar100", _FOLDER, "test", "fine_labels"),
)  # fmt: skip
def _cifar100(location: DataLocation, spec: DataSpec) -> RawData:
    """60,000 colour pictures, 32x32 pixels, 100 fine classes."""
    return cifar_reading.read("cifar100", _FOLDER, location)
