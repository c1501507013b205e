"""What every data set keeps to: pixels of 8 bits and labels, as many as it says, the same each time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from modescape.datasets.dataset import DataLocation, own_path
from modescape.errors import DataMissing
from modescape.records import DataInfo
from modescape.registry import Dataset, datasets
from modescape.science.data import Images, RawData, size_of
from modescape.science.data.raw import ImageFiles, Numbers
from modescape.spec_parts import DataSpec
from modescape.testing.contract import (
    SHARED,
    Checked,
    Contract,
    NotAsked,
    concerns,
    equal,
    expect,
    module_of,
    refused,
)

NOWHERE = DataLocation(())


@dataclass(frozen=True)
class Trial:
    """folders: where to look; spec: with the `path` of a user's own set; checksums: instead of the published ones."""

    entry: Dataset
    folders: tuple[Path, ...] = ()
    spec: DataSpec = field(default_factory=DataSpec)
    checksums: Mapping[str, str] | None = None

    @property
    def module(self) -> str:
        return module_of(self.entry.call)

    @property
    def is_own(self) -> bool:
        return self.spec.path is not None

    @cached_property
    def location(self) -> DataLocation:
        own = None if self.checksums is None else {self.entry.name: self.checksums}
        return DataLocation(self.folders) if own is None else DataLocation(self.folders, own)

    def read(self) -> RawData:
        """Raises NotAsked where it is not here."""
        if self.entry.files(self.location) is None or (self.is_own and not own_path(self.spec).exists()):
            raise NotAsked(f"Its files are not in {', '.join(map(str, self.folders)) or 'any folder'}.")
        found: RawData = self.entry.call(self.location, self.spec)
        return found

    @cached_property
    def raw(self) -> RawData:
        return self.read()

    @property
    def info(self) -> DataInfo | None:
        """What it says of itself before it is read; None where it says nothing."""
        if self.entry.describe is not None:
            return self.entry.describe(self.location, self.spec)
        one = self.entry
        if not one.train_total:
            return None
        return DataInfo(
            one.channels, one.height, one.width, one.classes, one.train_total, one.test_total, one.validation_default
        )


DATASET: Contract[Trial] = Contract("data set", *SHARED)


@DATASET.rule
def _sizes(trial: Trial) -> None:
    """It declares all of its sizes and classes, or none where they are known from the files alone."""
    one = trial.entry
    said = {"channels": one.channels, "height": one.height, "width": one.width, "classes": len(one.classes),
            "train_total": one.train_total, "test_total": one.test_total}  # fmt: skip
    missing = [name for name, value in said.items() if not value]
    expect(not missing or len(missing) == len(said), f"It declares sizes, but not {', '.join(missing)}.")
    expect(len(set(one.classes)) == len(one.classes) and all(one.classes), "Two of its classes have one name, or none.")
    expect(one.validation_default < max(one.train_total, 1), "It holds out all of its training images.")


@DATASET.rule
def _to_get(trial: Trial) -> None:
    """Where its files are missing it says how to get them, and reading it says so too."""
    concerns(not trial.is_own and trial.entry.files(NOWHERE) is None)
    expect(trial.entry.downloads or trial.entry.how_to_get, "Its files can be missing, and it does not say what next.")
    error = refused("Reading from nowhere", lambda: trial.entry.call(NOWHERE, trial.spec), DataMissing)
    expect(trial.entry.title in str(error), f"It is missing with the words {error}, which do not name it.")


@DATASET.rule
def _pixels(trial: Trial) -> None:
    """Images are bytes [N, C, H, W], or files read on demand (float32 are finite numbers that are no pictures), with as
    many labels as images, all of them classes."""
    for part, images, labels in _parts(trial.raw):
        equal(f"number of {part} labels", len(labels), len(images))
        equal(f"kind of {part} labels", labels.dtype.kind, "i")
        inside = len(labels) and labels.min() >= 0 and labels.max() < len(trial.raw.classes)
        expect(inside, f"Its {part} labels are not all in 0 to {len(trial.raw.classes) - 1}.")
        pixels = _first(images)
        expect(str(pixels.dtype) in ("uint8", "float32"), f"The type of {part} images is {pixels.dtype}.")
        expect(np.isfinite(pixels).all(), f"Its {part} images hold infinities or NaN.")
        equal(f"number of axes of {part} images", pixels.ndim, 4)
        equal(f"size of {part} images", pixels.shape[1:], size_of(trial.raw.train_images))


@DATASET.rule
def _declared(trial: Trial) -> None:
    """What it says before it is read is what is read: sizes, classes, how many images train and test."""
    raw, info = trial.raw, trial.info
    concerns(info)
    assert info is not None
    equal("(channels, height, width) said", (info.channels, info.height, info.width), size_of(raw.train_images))
    equal("classes said", tuple(info.classes), tuple(raw.classes))
    equal("number of training images said", info.train_total, len(raw.train_labels))
    equal("number of test images said", info.test_total, len(raw.test_labels))


@DATASET.rule
def _again(trial: Trial) -> None:
    """Read again it is the same, image by image."""
    for (part, images, labels), (_, other, others) in zip(_parts(trial.raw), _parts(trial.read()), strict=True):
        same = np.array_equal(labels, others) and np.array_equal(_first(images), _first(other))
        expect(same, f"Its {part} images or labels are others the second time: seed what is drawn.")


@DATASET.rule
def _test_labels(trial: Trial) -> None:
    """Test labels that it knows without being read are those that are read."""
    raw, known = trial.raw, trial.entry.own_test(trial.location, trial.spec)
    concerns(known is not None and known.labels is not None)
    assert known is not None
    same = np.array_equal(np.asarray(known.labels), raw.test_labels)
    expect(same, "The test labels it knows are others than those it reads.")


@DATASET.rule
def _split(trial: Trial) -> None:
    """A spec cuts it into images that train, validate and test, which networks see as finite numbers."""
    import torch

    from modescape.datasets.loading import split

    raw = trial.raw
    total = len(raw.train_labels)
    asked = {"train_images": max(2, total - 2), "validation_images": min(2, total - 2), "input_scale": "standardised"}
    if total < 4:
        raise NotAsked(f"It has {total} training images.")
    splits = split(raw, trial.spec.model_copy(update=asked))
    equal("number of training images cut", len(splits.train), asked["train_images"])
    equal("number of validation images cut", len(splits.validation), asked["validation_images"])
    seen = splits.transform(splits.train.batch(torch.arange(2)))
    equal("shape of two images that networks see", tuple(seen.shape), (2, *size_of(raw.train_images)))
    expect(seen.isfinite().all(), "Networks would see numbers that are not finite.")


def _parts(raw: RawData) -> list[tuple[str, Images | Numbers | ImageFiles, np.ndarray]]:
    own = [("training", raw.train_images, raw.train_labels), ("test", raw.test_images, raw.test_labels)]
    if raw.validation_images is not None and raw.validation_labels is not None:
        own.append(("validation", raw.validation_images, raw.validation_labels))
    return own


def _first(images: Images | Numbers | ImageFiles) -> Images | Numbers:
    """All images that are held, or the first of those that are read on demand."""
    return images.read(range(min(4, len(images)))) if isinstance(images, ImageFiles) else images


@DATASET.lists
def check_dataset(
    entry: Dataset | str,
    *,
    folders: Sequence[Path] = (),
    path: Path | None = None,
    checksums: Mapping[str, str] | None = None,
) -> Checked:
    """Is this a data set as `modescape.datasets.dataset` asks? It is read, if its files are here; it must be
    registered.

    folders: where its files are; path: of a user's own set; checksums: demanded instead of the published ones (MD5 by
    file name). Raises ContractBroken with the first rule that does not hold.
    """
    entry = datasets[entry] if isinstance(entry, str) else entry
    spec = DataSpec(dataset=entry.name, path=None if path is None else str(path))
    return DATASET.check(entry.name, Trial(entry, tuple(folders), spec, checksums))
