"""Which images of a set train, validate and test."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from modescape.errors import InvalidInput
from modescape.registry import datasets
from modescape.spec_parts import DataSpec


class Cut(NamedTuple):
    """Indices of the images of each split; validation: into the set's own validation images where it has some."""

    train: NDArray[np.intp]
    validation: NDArray[np.intp]
    test: NDArray[np.intp]


def cut(spec: DataSpec, total: int, own_validation: int, test_total: int, default: int) -> Cut:
    """Which images train, validate and test, of `total` training images. Raises InvalidInput when there are too few.

    A set with validation images of its own uses all of them, or the first that were asked for, and trains on all of
    its training images. Else validation is cut from training: `first`: the first images train, the last validate, as in
    the authors' code; `shuffled`: by `split_seed`. default: images cut off where none are asked for.
    """
    train, validation, test = numbers(spec, total, own_validation, test_total, default)
    order = in_order(spec, total)
    held = np.arange(validation) if own_validation else order[total - validation :]
    return Cut(order[:train], held, np.arange(test))


def in_order(spec: DataSpec, total: int) -> NDArray[np.intp]:
    """All training images: the first are trained on, and where validation is cut from them, the last validate."""
    if spec.split == "shuffled":
        return np.random.Generator(np.random.Philox(spec.split_seed)).permutation(total)
    return np.arange(total)


class Numbers(NamedTuple):
    """Images of each split."""

    train: int
    validation: int
    test: int


def numbers(spec: DataSpec, total: int, own_validation: int, test_total: int, default: int) -> Numbers:
    """As `cut`. Raises InvalidInput when there are too few."""
    validation = (own_validation or default) if spec.validation_images is None else spec.validation_images
    taken = 0 if own_validation else validation
    train = total - taken if spec.train_images is None else spec.train_images
    test = test_total if spec.test_images is None else spec.test_images
    if train < 1 or train + taken > total or test > test_total or (own_validation and validation > own_validation):
        raise InvalidInput(
            f"{train} + {validation} images were asked for, {total} are there"
            + (f" and {own_validation} to validate" if own_validation else "")
            + f" (test: {test} of {test_total})",
            field="data.train_images", allowed=f"at most {total}" + ("" if own_validation else " together"),
        )  # fmt: skip
    return Numbers(train, validation, test)


def held_out(name: str, total: int) -> int:
    """Images for validation where none are asked for: the set's own number, or a tenth of a part of it."""
    default = datasets[name].validation_default
    return default if 0 < default < total else min(5000, total // 10)
