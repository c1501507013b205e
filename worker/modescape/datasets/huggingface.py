"""A user's own set of pictures that the library `datasets` saved."""

from __future__ import annotations

from modescape.datasets.dataset import DataLocation, dataset, own_path
from modescape.datasets.here import with_sizes
from modescape.records import DataInfo
from modescape.science.data.hugging_face import digest_of, read_saved
from modescape.science.data.layouts import Role
from modescape.science.data.raw import Labels, OwnTest, RawData, size_of
from modescape.spec_parts import DataSpec


def _describe(location: DataLocation, spec: DataSpec) -> DataInfo:
    path = own_path(spec)
    found = read_saved(path, spec.split_seed)
    raw = found.raw
    info = DataInfo(
        *size_of(raw.train_images), raw.classes, 0, 0, 0, found.fingerprint(digest_of(path), spec.split_seed),
        layout=found.layout.words(found.counts), test_is_cut="all" in found.layout.pairs,
    )  # fmt: skip
    labels: dict[Role, Labels] = {"train": raw.train_labels, "test": raw.test_labels}
    if raw.validation_labels is not None:
        labels["validation"] = raw.validation_labels
    return with_sizes(info, spec, labels)


def _own_test(location: DataLocation, spec: DataSpec) -> OwnTest:
    return OwnTest(read_saved(own_path(spec), spec.split_seed).raw.test_labels)


@dataset(
    "huggingface", title="Hugging Face data set", source="the user's own", place=140, describe=_describe,
    own_test=_own_test,
)  # fmt: skip
def _saved(location: DataLocation, spec: DataSpec) -> RawData:
    """A set of the library datasets, as its save_to_disk leaves it: a column of Image and one of ClassLabel."""
    return read_saved(own_path(spec), spec.split_seed).raw
