"""A user's own numbers that are no pictures, in an .npz file."""

from __future__ import annotations

from modescape.datasets.dataset import DataLocation, dataset, own_path
from modescape.datasets.here import with_sizes
from modescape.names import some
from modescape.records import DataInfo
from modescape.science.data.layouts import Role
from modescape.science.data.own_numbers import read_numbers
from modescape.science.data.raw import Labels, RawData, file_digest, size_of
from modescape.spec_parts import DataSpec


def describe_numbers(location: DataLocation, spec: DataSpec) -> DataInfo:
    """Sizes and classes of numbers of any file that `read_numbers` knows."""
    path = own_path(spec)
    found = read_numbers(path, spec.split_seed, spec.label)
    raw, aside = found.raw, found.layout.aside
    info = DataInfo(
        *size_of(raw.train_images), raw.classes, 0, 0, 0,
        found.fingerprint(file_digest(path, "sha256"), spec.split_seed),
        layout="; ".join(filter(None, (found.layout.words(found.counts), found.used))),
        ignored=(f"other arrays: {some(aside)}",) if aside else (), are_pictures=False,
        test_is_cut="all" in found.layout.pairs,
    )  # fmt: skip
    labels: dict[Role, Labels] = {"train": raw.train_labels, "test": raw.test_labels}
    if raw.validation_labels is not None:
        labels["validation"] = raw.validation_labels
    return with_sizes(info, spec, labels)


def numbers_of(location: DataLocation, spec: DataSpec) -> RawData:
    return read_numbers(own_path(spec), spec.split_seed, spec.label).raw


@dataset("arrays", title="NumPy file of numbers", source="the user's own", place=120, describe=describe_numbers)
def _arrays(location: DataLocation, spec: DataSpec) -> RawData:
    """Your own numbers, kept as they are: an .npz file with x [N, features], [N, channels, length] or
    [N, channels, height, width], and y."""
    return numbers_of(location, spec)
