"""Labelled sets of other images of the same classes, such as CIFAR-10.1: shifted sets with images of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modescape.datasets.here import describe
from modescape.datasets.loading import load
from modescape.errors import InvalidInput
from modescape.records import DataInfo
from modescape.registry import datasets
from modescape.science.data import Split
from modescape.spec_parts import DataSpec

MOST = 10_000  # images, the first of the set


def check(name: str, info: DataInfo, folders: Sequence[Path]) -> None:
    """Whether networks trained on a set can be asked about another. info: of what they are trained on.

    Raises DataMissing where it is not here, InvalidInput where its images or classes are others.
    """
    found = describe(DataSpec(dataset=name), tuple(folders))
    shapes = [(one.channels, one.height, one.width) for one in (found, info)]
    if shapes[0] != shapes[1]:
        own, trained = (f"{c} x {h} x {w}" for c, h, w in shapes)
        raise InvalidInput(
            f"the images of {name} are {own}, the networks see {trained}", field="others",
            allowed=f"sets whose images are {trained}",
        )  # fmt: skip
    if found.classes != info.classes:
        raise InvalidInput(
            f"the classes of {name} are not those the networks are trained on", field="others",
            allowed="sets with the same classes, in the same order",
        )  # fmt: skip


def expected(name: str) -> int:
    """How many of its images are evaluated, as far as is known before it is read."""
    there = datasets[name].test_total if name in datasets else 0
    return min(MOST, there or MOST)


def images_of(name: str, folders: Sequence[Path]) -> Split:
    """Its first test images. Raises DataMissing, DataCorrupt."""
    test = load(DataSpec(dataset=name), folders).test
    return test.take(min(MOST, len(test)))
