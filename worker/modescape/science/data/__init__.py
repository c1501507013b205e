"""Images as arrays: found on disk, held as uint8, with the transform that networks see.

    images = splits.transform(splits.train.batch(torch.arange(128)))      # float32 [128, C, H, W]

Sets by name are in `modescape.datasets`. `user` reads a person's own pictures, `layouts` says which of them are what
split and `files` which are pictures at all, `tensors` is what training and predictions see, `augmentation` what
training does to it.
"""

from modescape.science.data.augmentation import augment
from modescape.science.data.files import is_left_behind, is_picture, keep_to
from modescape.science.data.own_folders import first_outside_digest, levels_of, scan_folder, scan_pictures
from modescape.science.data.own_npz import fingerprint_of_npz, read_images, read_npz
from modescape.science.data.raw import (
    ImageFiles,
    Images,
    Labels,
    Names,
    Origin,
    OwnTest,
    Published,
    RawData,
    Shape,
    file_digest,
    shown_order,
    size_of,
)
from modescape.science.data.tensors import InputScale, InputTransform, Split, Splits, make_transform

__all__ = [
    "ImageFiles",
    "Images",
    "InputScale",
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
    "file_digest",
    "fingerprint_of_npz",
    "first_outside_digest",
    "is_left_behind",
    "is_picture",
    "keep_to",
    "levels_of",
    "make_transform",
    "read_images",
    "read_npz",
    "scan_folder",
    "scan_pictures",
    "shown_order",
    "size_of",
]
