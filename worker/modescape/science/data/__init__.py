"""Which images there are: found on disk, checked, split and held as uint8, with the transform that networks see.

    splits = load(spec.data, folders)                  # DataMissing says how to get the set
    images = splits.transform(splits.train.batch(torch.arange(128)))      # float32 [128, C, H, W]

`modescape.datasets` has a file for each set (add one there), `user` reads a person's own pictures, `layouts` says which
of them are what split and `files` which are pictures at all, `here` says what is on this machine, `tensors` is what
training and predictions see, `augmentation` what training does to it.

Everything up to the `load` needs numpy and Pillow only, so the web process can describe any set without loading torch.
Nothing here downloads by itself: `fetch` does, when a person asks for it, and checks what came. Only CIFAR has pickles;
torchvision reads them, and `own_test` the test labels alone, each file's checksum having been verified.
"""

from modescape.science.data.augmentation import augment
from modescape.science.data.files import is_left_behind, is_picture, linked_folders
from modescape.science.data.here import (
    ANEW,
    Names,
    OwnTest,
    availability,
    availability_of,
    describe,
    fetch,
    fetchable,
    own_names,
    own_test,
    published,
    seed_name,
    since_created,
)
from modescape.science.data.raw import (
    DataLocation,
    ImageFiles,
    Images,
    Labels,
    Origin,
    Published,
    RawData,
    Shape,
    file_digest,
    shown_order,
    size_of,
)
from modescape.science.data.tensors import InputTransform, Split, Splits, load, make_transform, split
from modescape.science.data.user import (
    fingerprint_of_npz,
    first_outside_digest,
    levels_of,
    own_path,
    read_images,
    read_npz,
    scan_folder,
    scan_pictures,
)

__all__ = [
    "ANEW",
    "DataLocation",
    "ImageFiles",
    "Images",
    "InputTransform",
    "Labels",
    "Names",
    "Origin",
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
    "fetchable",
    "file_digest",
    "fingerprint_of_npz",
    "first_outside_digest",
    "is_left_behind",
    "is_picture",
    "levels_of",
    "linked_folders",
    "load",
    "make_transform",
    "own_names",
    "own_path",
    "own_test",
    "published",
    "read_images",
    "read_npz",
    "scan_folder",
    "scan_pictures",
    "seed_name",
    "shown_order",
    "since_created",
    "size_of",
    "split",
]
