"""The handwritten digits of scikit-learn, all of them and in halves."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modescape.datasets.dataset import DataLocation, dataset
from modescape.registry import Outside
from modescape.science.data.raw import OwnTest, RawData, stratified_split
from modescape.spec_parts import DataSpec

_DIGITS = tuple("0123456789")
_SOURCE = "scikit-learn `load_digits`, after Alpaydin and Kaynak 1998 (UCI)"
_SHIPPED = "it ships with scikit-learn, nothing to fetch"


def _labels_unread(location: DataLocation, spec: DataSpec) -> OwnTest:
    return OwnTest(None)  # scikit-learn has them


def _read() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Images (1797, 8, 8) of 0 to 16 and their labels, from the file that `load_digits` reads: importing scikit-learn
    for it took longer than everything else."""
    package = find_spec("sklearn")
    assert package is not None, "it is installed with Modescape"
    assert package.origin is not None
    table = np.loadtxt(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)


def _unrounded() -> NDArray[np.float64]:
    """All 1,797, in floats before any rounding."""
    return (_read()[0] * (255 / 16))[:, None]


@dataset(
    "digits", title="Digits", source=_SOURCE,
    channels=1, height=8, width=8, classes=_DIGITS, train_total=597, test_total=1200, validation_default=197,
    place=10, how_to_get=_SHIPPED, own_test=_labels_unread, outside=Outside("digits", 1797, _unrounded, {28: 20}),
)  # fmt: skip
def _digits(location: DataLocation, spec: DataSpec) -> RawData:
    """1,797 handwritten digits of 8x8 pixels; ships with scikit-learn. 597 to train on, 1,200 to test, stratified."""
    return _some_digits(0, 9, test=1200)


@dataset(
    "digits-0-4", title="Digits 0 to 4", source=_SOURCE,
    channels=1, height=8, width=8, classes=_DIGITS[:5], train_total=401, test_total=500, validation_default=101,
    place=20, how_to_get=_SHIPPED, own_test=_labels_unread,
)  # fmt: skip
def _low_digits(location: DataLocation, spec: DataSpec) -> RawData:
    """The 901 digits 0 to 4; 5 to 9 are held out, to be looked at as images of another kind. 500 to test."""
    return _some_digits(0, 4, test=500)


@dataset(
    "digits-5-9", title="Digits 5 to 9", source=_SOURCE,
    channels=1, height=8, width=8, classes=_DIGITS[5:], train_total=396, test_total=500, validation_default=96,
    place=30, how_to_get=_SHIPPED, own_test=_labels_unread,
)  # fmt: skip
def _high_digits(location: DataLocation, spec: DataSpec) -> RawData:
    """The 896 digits 5 to 9, the classes that digits-0-4 holds out. 500 to test."""
    return _some_digits(5, 9, test=500)


def _some_digits(first: int, last: int, *, test: int) -> RawData:
    pictures, digits = _read()
    kept = (digits >= first) & (digits <= last)
    images = np.rint(pictures[kept] * (255 / 16)).astype(np.uint8)[:, None]
    labels = digits[kept] - first
    trained, tested = stratified_split(labels, test=test, seed=0)
    return RawData(images[trained], labels[trained], images[tested], labels[tested], _DIGITS[first : last + 1])
