"""What a data set says of itself: how it is read, and what is known of it before.

@dataset("mine", title="Mine", source="...", channels=1, height=8, width=8, classes=("a", "b"), train_total=900,
         test_total=100, files=lambda location: ...)
def mine(location: DataLocation, spec: DataSpec) -> RawData:
    ...  # its docstring is the summary
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from modescape.registry import LAST, Dataset, Outside, datasets, needs_none, unknown
from modescape.science.data.here import OwnTest
from modescape.science.data.raw import DataLocation, Published, RawData
from modescape.spec import DataInfo, DataSpec

F = TypeVar("F", bound=Callable[..., RawData])


def dataset(
    name: str,
    *,
    title: str,
    source: str,
    channels: int = 0,
    height: int = 0,
    width: int = 0,
    classes: tuple[str, ...] = (),
    train_total: int = 0,
    test_total: int = 0,
    validation_default: int = 0,
    place: int = LAST,
    checksums: Mapping[str, str] | None = None,
    downloads: tuple[Published, ...] = (),
    how_to_get: str = "",
    files: Callable[[DataLocation], Sequence[Path] | None] = needs_none,
    describe: Callable[[DataLocation, DataSpec], DataInfo] | None = None,
    own_test: Callable[[DataLocation, DataSpec], OwnTest | None] = unknown,
    outside: Outside | None = None,
) -> Callable[[F], F]:
    """Register a reader `(location, spec: DataSpec) -> RawData`; its docstring is the summary, sizes as published.

    What else a set can say of itself is in `registry.Dataset`.
    """

    def register(reader: F) -> F:
        datasets.add(
            Dataset(
                name=name, title=title, summary=" ".join((reader.__doc__ or "").split()), source=source, call=reader,
                channels=channels, height=height, width=width, classes=classes, train_total=train_total,
                test_total=test_total, validation_default=validation_default,
                download_bytes=sum(file.bytes for file in downloads) or None, place=place, checksums=checksums or {},
                downloads=downloads, how_to_get=how_to_get, files=files, describe=describe, own_test=own_test,
                outside=outside,
            )
        )  # fmt: skip
        return reader

    return register


def all_there(paths: Sequence[Path]) -> Sequence[Path] | None:
    """The files of a set, None where one is missing."""
    return paths if all(path.exists() for path in paths) else None
