"""From a spec to images: which of a set's images train, validate and test, read and split.

splits = load(spec.data, folders)                  # DataMissing says how to get the set
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from modescape.datasets.dataset import DataLocation
from modescape.datasets.here import since_created
from modescape.datasets.splitting import cut, held_out
from modescape.errors import DataCorrupt
from modescape.registry import datasets
from modescape.science.data.raw import ImageFiles, Images, Labels, Numbers, Origin, RawData, Shape, scaled, size_of
from modescape.science.data.tensors import Inputs, Split, Splits, transform_of
from modescape.spec_parts import DataSpec

_loaded: LRUCache[tuple[str, tuple[Path, ...]], Splits] = LRUCache(maxsize=2)


def load(
    spec: DataSpec, folders: Sequence[Path], *, checksums: Mapping[str, Mapping[str, str]] | None = None
) -> Splits:
    """The splits a spec asks for, on the CPU. The last two sets stay loaded, for a worker's stages share them.

    Raises DataMissing, DataCorrupt (also when a set of files has changed since the experiment was created).
    """
    key = (spec.model_dump_json(), tuple(folders))
    if key in _loaded and checksums is None:
        if _loaded[key].train.is_streamed:  # its files are still being read
            _check_unchanged(spec, folders)
        return _loaded[key]
    _check_unchanged(spec, folders)
    location = DataLocation(tuple(folders)) if checksums is None else DataLocation(tuple(folders), checksums)
    raw = datasets[spec.dataset].call(location, spec)
    splits = split(raw, spec)
    _loaded[key] = splits
    return splits


def _check_unchanged(spec: DataSpec, folders: Sequence[Path]) -> None:
    if spec.fingerprint is not None and (said := since_created(spec, folders)) is not None:
        raise DataCorrupt(said)


def split(raw: RawData, spec: DataSpec) -> Splits:
    """Training, validation and test images as the spec asks for them (`splitting.cut`). Raises InvalidInput."""
    own = 0 if raw.validation_labels is None else len(raw.validation_labels)
    total, side = len(raw.train_labels), spec.image_size
    chosen = cut(spec, total, own, len(raw.test_labels), held_out(spec.dataset, total))
    train_split = _part(raw.train_images, raw.train_labels, chosen.train, raw.origins.get("train"), side)
    if raw.validation_images is not None and raw.validation_labels is not None:
        validation = _part(
            raw.validation_images, raw.validation_labels, chosen.validation, raw.origins.get("validation"), side
        )
    else:
        validation = _part(raw.train_images, raw.train_labels, chosen.validation, raw.origins.get("train"), side)
    test_split = _part(raw.test_images, raw.test_labels, chosen.test, raw.origins.get("test"), side)
    channels, height, width = size_of(train_split.images)
    return Splits(
        train_split, validation, test_split, raw.classes, transform_of(inputs_of(spec), train_split),
        Shape(channels, height, width, len(raw.classes)),
    )  # fmt: skip


def inputs_of(spec: DataSpec) -> Inputs:
    return Inputs(spec.input_scale, spec.mean, spec.deviation, spec.channel_order)


def _part(
    images: Images | Numbers | ImageFiles,
    labels: Labels,
    indices: NDArray[np.intp],
    origin: Origin | None,
    side: int | None,
) -> Split:
    """side: of the square that pictures are scaled to; None: they stay as they are."""
    import torch

    chosen, kept = torch.from_numpy(labels[indices]), origin.take(indices) if origin else None
    if isinstance(images, ImageFiles):
        files = images.take(indices.tolist())
        return Split(files if side is None else replace(files, height=side, width=side), chosen, kept)
    found = images[indices] if side is None else scaled(images[indices], side)
    pixels = np.ascontiguousarray(found.transpose(0, 2, 3, 1))  # pixels together: what convolutions like best
    return Split(torch.from_numpy(pixels).permute(0, 3, 1, 2), chosen, kept)
