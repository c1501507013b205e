"""A user's own pictures, in folders."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from modescape.datasets.dataset import DataLocation, dataset, own_path
from modescape.datasets.here import with_sizes
from modescape.records import DataInfo
from modescape.science.data.layouts import Role, folder_words
from modescape.science.data.own_folders import is_held, levels_of, scan_folder
from modescape.science.data.raw import ImageFiles, Images, Labels, Names, Origin, OwnTest, RawData
from modescape.spec_parts import DataSpec


def _describe(location: DataLocation, spec: DataSpec) -> DataInfo:
    found = scan_folder(own_path(spec))
    info = DataInfo(
        found.channels, found.height, found.width, found.classes, 0, 0, 0, found.fingerprint(spec.split_seed),
        layout=folder_words(found.survey), ignored=found.survey.aside, test_is_cut="all" in dict(found.survey.parts),
    )  # fmt: skip
    return with_sizes(info, spec, {role: labels for role, (_, labels) in found.ordered(spec.split_seed).items()})


def _own_test(location: DataLocation, spec: DataSpec) -> OwnTest:
    found = scan_folder(own_path(spec))
    paths, labels = found.ordered(spec.split_seed)["test"]
    held = is_held(ImageFiles(paths, found.channels, found.height, found.width))
    return OwnTest(labels, None if held else _names_by_class(paths, labels.tobytes(), found.classes))


@lru_cache(maxsize=2)
def _names_by_class(paths: tuple[Path, ...], labels: bytes, classes: tuple[str, ...]) -> Names:
    """labels: int64, one a path."""
    found: dict[str, set[str]] = {}
    for path, label in zip(paths, np.frombuffer(labels, np.int64), strict=True):
        found.setdefault(classes[label], set()).add(path.name)
    return tuple((name, frozenset(files)) for name, files in sorted(found.items()))


@dataset(
    "folder",
    title="Folder of pictures",
    source="the user's own",
    place=100,
    describe=_describe,
    own_test=_own_test,
)
def _folder(location: DataLocation, spec: DataSpec) -> RawData:
    """Your own pictures: one folder per class, or train/ and test/ (and val/) with one folder per class in each."""
    found = scan_folder(own_path(spec))
    levels = levels_of(found, spec.white)
    images: dict[Role, Images | ImageFiles] = {}
    labels: dict[Role, Labels] = {}
    origins: dict[str, Origin] = {}
    for role, (paths, truth) in found.ordered(spec.split_seed).items():
        files = ImageFiles(paths, found.channels, found.height, found.width, levels=levels)
        images[role] = files.read(range(len(files))) if is_held(files) else files
        labels[role] = truth
        origins[role] = found.origin(paths)
    return RawData(
        images["train"], labels["train"], images["test"], labels["test"], found.classes,
        validation_images=images.get("validation"), validation_labels=labels.get("validation"), origins=origins,
    )  # fmt: skip
