"""What a data set says of itself: how it is read, and what is known of it before.

@dataset("mine", title="Mine", source="...", channels=1, height=8, width=8, classes=("a", "b"), train_total=900,
         test_total=100, files=lambda location: ...)
def mine(location: DataLocation, spec: DataSpec) -> RawData:
    ...  # its docstring is the summary
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from modescape.errors import DataMissing, InvalidInput
from modescape.records import DataInfo
from modescape.registry import LAST, Dataset, Outside, datasets, needs_none, unknown
from modescape.science.data.raw import OwnTest, Published, RawData
from modescape.spec_parts import DataSpec

F = TypeVar("F", bound=Callable[..., RawData])


def checksums_published() -> Mapping[str, Mapping[str, str]]:
    """MD5 of what the files of each public set hold, by set and file name."""
    return {name: entry.checksums for name, entry in datasets.items() if entry.checksums}


@dataclass(frozen=True)
class DataLocation:
    """Where to look for files, in order, and which checksums to demand (tests bring their own)."""

    folders: tuple[Path, ...]
    checksums: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: checksums_published())

    def find(self, *names: str) -> Path | None:
        """The first of `names` (relative paths) that exists in the first folder that has any of them."""
        for folder in self.folders:
            for name in names:
                if (folder / name).exists():
                    return folder / name
        return None


def missing(name: str, location: DataLocation, what: str) -> DataMissing:
    entry = datasets[name]
    places = ", ".join(str(folder) for folder in location.folders) or "no folder at all"
    how = f"run `modescape data fetch {name}`" if entry.downloads else entry.how_to_get
    return DataMissing(f"{entry.title} is not on this machine: no {what} in {places}; {how}", dataset=name)


def own_path(spec: DataSpec) -> Path:
    """The folder or file of a user's own set. Raises InvalidInput when it is not there."""
    if not spec.path:
        raise InvalidInput(
            "this set needs a path", field="data.path", allowed="a folder or an .npz file on this machine"
        )
    path = Path(spec.path).expanduser()
    wanted = {"folder": "a folder", "huggingface": "a folder", "table": "a .csv, .tsv or .parquet file"}.get(
        spec.dataset, "an .npz file"
    )
    try:
        there = path.is_dir() if wanted == "a folder" else path.is_file()
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{spec.path!r} cannot be looked at: {error}", field="data.path", allowed=wanted) from error
    if not there:
        raise InvalidInput(
            f"there is no {wanted.split(' ', 1)[1]} {spec.path!r}", field="data.path", allowed=f"{wanted} that exists"
        )
    return path


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
