"""Which images there are: found on disk, checked, split and held as uint8, with the transform that networks see.

    splits = load(spec.data, folders)                  # DataMissing says how to get the set
    images = splits.transform(splits.train.batch(torch.arange(128)))      # float32 [128, C, H, W]

`sets` has a function for each published set (add one there), `user` reads a person's own pictures, `here` says what is
on this machine, `tensors` is what training and predictions see, `augmentation` what training does to it.

Everything up to the `load` needs numpy and Pillow only, so the web process can describe any set without loading torch.
Nothing here downloads by itself: `fetch` does, when a person asks for it, and checks what came. Only CIFAR has pickles;
torchvision reads them, and `own_test` the test labels alone, each file's checksum having been verified.
"""

from modescape.science.data.augmentation import augment
from modescape.science.data.here import (
    Names,
    OwnTest,
    availability,
    availability_of,
    describe,
    fetch,
    own_test,
    published,
    seed_name,
)
from modescape.science.data.raw import (
    CHECKSUMS,
    CIFAR10_FILES,
    CIFAR100_FILES,
    DOWNLOADS,
    SVHN_FILES,
    DataLocation,
    ImageFiles,
    Images,
    Labels,
    Published,
    RawData,
    Shape,
    file_digest,
    size_of,
)
from modescape.science.data.sets import CIFAR10_CLASSES, CIFAR100_CLASSES, read_idx
from modescape.science.data.tensors import InputTransform, Split, Splits, load, make_transform, split
from modescape.science.data.user import (
    fingerprint_of_npz,
    levels_of,
    own_path,
    read_images,
    read_npz,
    scan_folder,
    scan_pictures,
)

__all__ = [
    "CHECKSUMS",
    "CIFAR10_CLASSES",
    "CIFAR10_FILES",
    "CIFAR100_CLASSES",
    "CIFAR100_FILES",
    "DOWNLOADS",
    "SVHN_FILES",
    "DataLocation",
    "ImageFiles",
    "Images",
    "InputTransform",
    "Labels",
    "Names",
    "OwnTest",
    "Published",
    "RawData",
    "Shape",
    "Split",
    "Splits",
    "augment",
    "availability",
    "availability_of",
    "describe",
    "fetch",
    "file_digest",
    "fingerprint_of_npz",
    "levels_of",
    "load",
    "make_transform",
    "own_path",
    "own_test",
    "published",
    "read_idx",
    "read_images",
    "read_npz",
    "scan_folder",
    "scan_pictures",
    "seed_name",
    "size_of",
    "split",
]
