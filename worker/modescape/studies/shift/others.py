"""Labelled sets of other images of the same classes, such as CIFAR-10.1: shifted sets with images of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modescape.datasets.here import describe
from modescape.datasets.loading import load
from modescape.errors import DataCorrupt, DataMissing, InvalidInput, Problem
from modescape.names import normal
from modescape.records import DataInfo
from modescape.registry import datasets
from modescape.science.data import Split
from modescape.study import OtherSet

MOST = 10_000  # images, the first of the set


def looked_at(other: OtherSet, info: DataInfo, folders: Sequence[Path]) -> str | None:
    """The fingerprint of a user's own set, None of others; networks trained on a set can be asked about it. info: of
    what they are trained on.

    Raises DataMissing where it is not here, DataCorrupt, and InvalidInput where its images or classes are others.
    """
    try:
        found = describe(other.data, tuple(folders))
    except InvalidInput as error:
        problems = [Problem(f"{other.title}: {one.message}", "others", one.allowed) for one in error.problems]
        raise InvalidInput("; ".join(map(str, problems)), problems=problems) from None
    except DataMissing as error:
        raise DataMissing(str(error), problems=[Problem(str(error), "others")], dataset=error.dataset) from None
    except DataCorrupt as error:
        raise DataCorrupt(str(error), problems=[Problem(str(error), "others")]) from None
    shapes = [(one.channels, one.height, one.width) for one in (found, info)]
    if shapes[0] != shapes[1]:
        own, trained = (f"{c} x {h} x {w}" if h else "of several sizes" for c, h, w in shapes)
        can_scale = found.channels == info.channels and found.are_pictures and info.are_pictures
        raise InvalidInput(
            f"the images of {other.title} are {own}, the networks see {trained}", field="others",
            allowed=f"sets whose images are {trained}"
            + (", or `data.image_size`, which scales all" if can_scale else ""),
        )  # fmt: skip
    if unknown := [name for name in _names(found.classes, info.classes) if name not in info.classes]:
        raise InvalidInput(
            f"the networks know no class {unknown[0][:60]!r}, which {other.title} has", field="others",
            allowed="sets with classes that the networks are trained on, by their names",
        )  # fmt: skip
    return found.fingerprint if other.data.path is not None else None


def _names(classes: Sequence[str], trained: Sequence[str]) -> Sequence[str]:
    """The names of a set's classes, those that are trained on as they are called there, however their accents are
    written; those of arrays without names are the numbers of the classes."""
    known = {normal(name): name for name in reversed(trained)} | {name: name for name in trained}
    found = [known.get(name) or known.get(normal(name)) or name for name in classes]
    numbered = len(classes) <= len(trained) and all(name.isdecimal() and int(name) < len(trained) for name in classes)
    return [trained[int(name)] for name in classes] if numbered and not {*found} <= {*trained} else found


def expected(other: OtherSet) -> int:
    """How many of its images are evaluated, as far as is known before it is read."""
    if other.data.path is None:
        there = datasets[other.data.dataset].test_total if other.data.dataset in datasets else 0
    else:
        info = describe(other.data, ())
        there = info.test_total + info.train_total * info.test_is_cut
    return min(MOST, there or MOST)


def images_of(
    other: OtherSet, classes: Sequence[str], folders: Sequence[Path]
) -> Iterator[tuple[Split, NDArray[np.int64]]]:
    """Its first test images, in one or two parts (of a set without splits, all are), each with its labels among the
    classes that are trained on. Raises DataMissing, DataCorrupt."""
    loaded = load(other.data, folders)
    own = _names(loaded.classes, classes)
    numbers = np.array([classes.index(name) for name in own], np.int64)
    is_cut = other.data.path is not None and describe(other.data, folders).test_is_cut
    left = MOST
    for part in (loaded.train, loaded.test) if is_cut else (loaded.test,):
        first = part.take(min(left, len(part)))
        left -= len(first)
        if len(first):
            yield first, numbers[first.numpy_labels()]
