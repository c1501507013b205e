"""A user's own arrays, in an .npz file."""

from __future__ import annotations

import numpy as np

from modescape.datasets.dataset import DataLocation, dataset, own_path
from modescape.datasets.here import with_sizes
from modescape.names import some
from modescape.records import DataInfo
from modescape.science.data.layouts import Role
from modescape.science.data.own_npz import read_npz
from modescape.science.data.raw import Labels, OwnTest, RawData, file_digest, size_of
from modescape.spec_parts import DataSpec


def _describe(location: DataLocation, spec: DataSpec) -> DataInfo:
    path = own_path(spec)
    found = read_npz(path, spec.white, spec.split_seed)
    raw, aside = found.raw, found.layout.aside
    info = DataInfo(
        *size_of(raw.train_images), raw.classes, 0, 0, 0,
        found.fingerprint(file_digest(path, "sha256"), spec.split_seed),
        remarks=raw.reading.remarks if raw.reading else (), layout=found.layout.words(found.counts),
        ignored=(f"other arrays: {some(aside)}",) if aside else (), test_is_cut="all" in found.layout.pairs,
    )  # fmt: skip
    labels: dict[Role, Labels] = {"train": raw.train_labels, "test": raw.test_labels}
    if raw.validation_labels is not None:
        labels["validation"] = raw.validation_labels
    return with_sizes(info, spec, labels)


def _own_test(location: DataLocation, spec: DataSpec) -> OwnTest:
    raw = read_npz(own_path(spec), spec.white, spec.split_seed).raw
    rows = raw.origins["test"].own_rows
    return OwnTest(raw.test_labels if rows is None else raw.test_labels[np.argsort(rows)])


@dataset(
    "npz",
    title="NumPy file",
    source="the user's own",
    place=110,
    describe=_describe,
    own_test=_own_test,
)
def _npz(location: DataLocation, spec: DataSpec) -> RawData:
    """Your own arrays: an .npz file with images and labels, or with those of training and test (and validation)."""
    return read_npz(own_path(spec), spec.white, spec.split_seed).raw
