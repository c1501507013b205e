"""SVHN, the Street View house numbers: two MATLAB files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from modescape.datasets.dataset import DataLocation, all_there, dataset, missing
from modescape.science.data.raw import OwnTest, Published, RawData, verify_md5
from modescape.spec_parts import DataSpec

_DIGITS = tuple("0123456789")
FILES = {
    "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
    "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
}
_URL = "http://ufldl.stanford.edu/housenumbers/"
DOWNLOADS = (
    Published(_URL + "train_32x32.mat", FILES["train_32x32.mat"], 182_040_794),
    Published(_URL + "test_32x32.mat", FILES["test_32x32.mat"], 64_275_384),
)


def _files(location: DataLocation) -> Sequence[Path] | None:
    first = location.find("train_32x32.mat", "svhn/train_32x32.mat", "SVHN/train_32x32.mat")
    return all_there([first, first.parent / "test_32x32.mat"]) if first else None


def _labels_unread(location: DataLocation, spec: DataSpec) -> OwnTest:
    return OwnTest(None)  # SciPy has them


@dataset(
    "svhn", title="SVHN", source="Netzer et al. 2011",
    channels=3, height=32, width=32, classes=_DIGITS, train_total=73_257, test_total=26_032, validation_default=5_000,
    place=70, checksums=FILES, downloads=DOWNLOADS, files=_files, own_test=_labels_unread,
)  # fmt: skip
def _svhn(location: DataLocation, spec: DataSpec) -> RawData:
    """99,289 cropped house numbers in colour, 32x32 pixels, 10 classes; the published class 10 is the digit 0."""
    files = _files(location)
    if files is None:
        raise missing("svhn", location, "train_32x32.mat and test_32x32.mat")
    checksums = location.checksums["svhn"]
    for file, md5 in checksums.items():
        verify_md5(files[0].parent / file, md5)
    train, test = (_checked(files[0].parent, split=part, checksums=checksums) for part in ("train", "test"))
    return RawData(
        np.ascontiguousarray(train.data),
        np.atleast_1d(train.labels),
        np.ascontiguousarray(test.data),
        np.atleast_1d(test.labels),
        _DIGITS,
    )


def _checked(root: Path, *, split: str, checksums: Mapping[str, str]) -> Any:
    """torchvision's SVHN, demanding `checksums` (file name to MD5) instead of the published ones."""
    from torchvision.datasets import SVHN

    class Checked(SVHN):  # type: ignore[misc]
        split_list: ClassVar = {
            part: [url, file, checksums[file]] for part, (url, file, _) in SVHN.split_list.items() if file in checksums
        }

    return Checked(str(root), split=split)
