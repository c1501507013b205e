"""A user's own numbers that are no pictures, kept as float32 as they are: .npz files, and tables of them.

    found = read_numbers(Path("wine.csv"), seed=0)
    found.raw.train_images.shape                 # (N, 13, 1, 1): one number a column

An example (science k.6) is what stands behind the first axis: features [N, F], signals [N, C, L], maps [N, C, H, W].
All become [N, C, H, W] for networks, features as channels of one pixel.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modescape.errors import InvalidInput
from modescape.names import from_cell, some
from modescape.science.data import bounds
from modescape.science.data.files import Version, version_of
from modescape.science.data.layouts import ArrayLayout, Place, arrays_of, images_of, readable, refuse_arrays, role_of
from modescape.science.data.own_npz import (
    FoundArrays,
    as_classes,
    as_labels,
    check_pairs,
    in_order,
    npz_arrays,
    npz_keys,
)
from modescape.science.data.raw import Labels, Numbers, as_read

TABLES = (".csv", ".tsv", ".parquet")
_LABELS = ("label", "labels", "target", "class", "y")
_SPLITS = ("split", "set", "subset")
_LARGEST = 1 << 24  # numbers of one example
_MOST = 1 << 30  # numbers of a table: 8 GB while it is read
_SHAPES = "[N, features], [N, channels, length] or [N, channels, height, width], none empty"
NO_REGRESSION = (
    "labels are fractions, as those of a regression are; only classifiers can be judged here, whose labels are class "
    "numbers or names"
)


@dataclass(frozen=True)
class FoundNumbers(FoundArrays):
    """As arrays of pictures, but numbers. used: which columns of a table are what, in words."""

    used: str = ""

    def fingerprint(self, digest: str, seed: int) -> str:
        """digest: the SHA-256 of the file."""
        return as_read(digest, {"numbers": "", "order": str(seed)})


def read_numbers(path: Path, seed: int = 0, label: str | None = None) -> FoundNumbers:
    """The user's numbers, validated. seed: of the order; label: a table's column of labels.

    Raises InvalidInput in words a person can act on.
    """
    with readable(path):
        return _read(path, version_of(path.stat()), seed, label)


@lru_cache(maxsize=2)
def _read(path: Path, version: Version, seed: int, label: str | None) -> FoundNumbers:
    if path.suffix.lower() in TABLES:
        arrays, layout, used = _table(path, label)
    else:
        layout, used = arrays_of(npz_keys(path)), ""
        keys = [key for pair in layout.pairs.values() for key in pair] + ([layout.classes] if layout.classes else [])
        arrays = npz_arrays(path, keys)
    names = arrays.get(layout.classes) if layout.classes else None
    examples: dict[Place, Numbers] = {}
    given: dict[Place, Labels] = {}
    for place, (key, labels_key) in layout.pairs.items():
        examples[place], given[place] = _as_numbers(arrays[key], key), _as_labels(arrays[labels_key], labels_key)
        if len(examples[place]) != len(given[place]):
            raise refuse_arrays(f"{key} holds {len(examples[place])} examples, {labels_key} {len(given[place])} labels")
    check_pairs(layout, examples, given)
    classes, labels = as_classes(given, names, layout.classes)
    raw = in_order(layout, examples, labels, classes, seed)
    return FoundNumbers(raw, layout, True, {place: len(one) for place, one in labels.items()}, used)


def are_rows(path: Path) -> bool:
    """Whether an .npz file holds numbers that cannot be pictures: rows of features. Raises InvalidInput."""
    key = images_of(npz_keys(path))
    return key is not None and npz_arrays(path, [key])[key].ndim == 2


def _as_numbers(values: NDArray[Any], key: str) -> Numbers:
    """float32 [N, C, H, W]."""
    if values.dtype.kind not in "uifb":
        raise refuse_arrays(f"{key} holds {values.dtype}, not numbers")
    if values.ndim not in (2, 3, 4) or 0 in values.shape or int(np.prod(values.shape[1:])) > _LARGEST:
        raise refuse_arrays(f"{key} has shape {values.shape}", allowed=_SHAPES)
    found = np.asarray(values, np.float32)
    odd = ~np.isfinite(found)
    if odd.any():
        where = [int(i) for i in np.argwhere(odd)[0]]
        raise refuse_arrays(
            f"{key} holds {values[tuple(where)]:g} at {where}",
            allowed="finite float32 numbers, none missing; fill what is missing before",
        )
    shape = {2: (*found.shape, 1, 1), 3: (*found.shape[:2], 1, found.shape[-1]), 4: found.shape}[values.ndim]
    return np.ascontiguousarray(found.reshape(shape))


def _as_labels(values: NDArray[Any], key: str) -> Labels:
    if values.dtype.kind == "f" and np.isfinite(values).all() and (values != np.rint(values)).any():
        raise InvalidInput(f"{key}: {NO_REGRESSION}", field="data.path", allowed="whole numbers from 0")
    return as_labels(values, key)


# --- tables -----------------------------------------------------------------------------------------------------------


def _table(path: Path, label: str | None) -> tuple[dict[str, NDArray[Any]], ArrayLayout, str]:
    """The arrays of a table, by the names that arrays of an .npz would have."""
    columns = _columns(path)
    lower = {name.strip().lower(): name for name in columns}
    truth = label or next((lower[one] for one in _LABELS if one in lower), None)
    if truth not in columns:
        raise InvalidInput(
            f"{path.name} has no column {label!r}" if label else f"which column of {path.name} holds the labels?",
            field="data.label", allowed="one of " + ", ".join(list(columns)[:50]),
        )  # fmt: skip
    split = next((lower[one] for one in _SPLITS if one in lower and lower[one] != truth), None)
    features = [name for name in columns if name not in (truth, split)]
    if not features:
        raise refuse_arrays(f"{path.name} has no columns beside {truth}")
    examples = np.stack([_numbers_of(columns[name], name) for name in features], axis=1)
    names, numbers = _numbered(columns[truth], str(truth))
    arrays: dict[str, NDArray[Any]] = {}
    everything: Mapping[Place, NDArray[np.intp]] = {"all": np.arange(len(examples))}
    rows = _rows_of(columns[split], str(split)) if split else everything
    pairs: dict[Place, tuple[str, str]] = {}
    for place, chosen in rows.items():
        keys = (f"{place} rows", f"{place} {truth}")
        arrays |= {keys[0]: examples[chosen], keys[1]: numbers[chosen]}
        pairs[place] = keys
    if names is not None:
        arrays["classes"] = names
    shown = some(features)
    return (
        arrays,
        ArrayLayout(pairs, "classes" if names is not None else None, ()),
        f"features: {shown}; labels: {truth}",
    )


def _columns(path: Path) -> dict[str, Sequence[Any]]:
    columns = _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path)
    if not columns or not next(iter(columns.values())):
        raise refuse_arrays(f"{path.name} holds no rows", allowed="a heading and a row for each example")
    return columns


def _csv(path: Path) -> dict[str, Sequence[Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline(1 << 20)
        file.seek(0)
        tab, semicolon = path.suffix.lower() == ".tsv" or "\t" in first, ";" in first and "," not in first
        try:
            heading, *rows = csv.reader(file, delimiter="\t" if tab else ";" if semicolon else ",")
        except (ValueError, csv.Error, UnicodeDecodeError) as error:
            raise refuse_arrays(f"{path.name} cannot be read as a table ({error})", allowed="CSV in UTF-8") from error
    heading, rows = list(map(from_cell, heading)), [list(map(from_cell, row)) for row in rows if row]
    if len(set(heading)) != len(heading):
        raise refuse_arrays(f"{path.name}: two of its columns have one name", allowed="names that differ")
    for number, row in enumerate(rows, 2):
        if len(row) != len(heading):
            raise refuse_arrays(
                f"{path.name}, line {number} has {len(row)} values", allowed=f"{len(heading)}, one a column"
            )
    return {name: [row[place] for row in rows] for place, name in enumerate(heading)}


def _parquet(path: Path) -> dict[str, Sequence[Any]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as missing:
        raise refuse_arrays(
            f"{path.name} is read by pyarrow, which is not installed", allowed="after pip install 'modescape[tables]'"
        ) from missing
    try:
        file = parquet.ParquetFile(path)
        if file.metadata.num_rows * file.metadata.num_columns > (most := min(_MOST, bounds.most_unpacked() // 8)):
            raise refuse_arrays(f"{path.name} holds more than {most:,} values")
        columns: dict[str, Sequence[Any]] = file.read().to_pydict()
        return columns
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise refuse_arrays(f"{path.name} cannot be read ({error})", allowed="a whole .parquet file") from error


def _numbers_of(values: Sequence[Any], name: str) -> NDArray[np.float64]:
    """Raises InvalidInput naming the first value that is no number, and its row."""
    found = np.empty(len(values), np.float64)
    for row, value in enumerate(values):
        try:
            found[row] = float(value)
        except (TypeError, ValueError) as error:
            said = "nothing" if value in (None, "") else repr(value)[:60]
            raise refuse_arrays(
                f"column {name!r} holds {said} in row {row + 1}",
                allowed="numbers in every column but the labels'; leave out, fill or encode the rest",
            ) from error
    return found


def _numbered(values: Sequence[Any], name: str) -> tuple[NDArray[Any] | None, NDArray[Any]]:
    """Class names [K] and numbers [N] of labels that are texts; None and numbers of those that are numbers."""
    try:
        return None, np.array([float(value) for value in values])
    except (TypeError, ValueError):
        pass
    texts = ["" if value is None else str(value).strip() for value in values]
    if "" in texts:
        raise refuse_arrays(
            f"column {name!r} has no label in row {texts.index('') + 1}", allowed="a label for each row"
        )
    names, numbers = np.unique(np.array(texts), return_inverse=True)
    return names, numbers.astype(np.int64)


def _rows_of(values: Sequence[Any], name: str) -> Mapping[Place, NDArray[np.intp]]:
    """Rows by split, as a column says. Raises InvalidInput for words that name none."""
    places = [role_of(str(value)) for value in values]
    for row, (place, value) in enumerate(zip(places, values, strict=True), 1):
        if place is None:
            raise refuse_arrays(f"column {name!r} says {value!r} in row {row}", allowed="train, validation or test")
    found = np.array(places)
    return {place: np.flatnonzero(found == place) for place in _in_order(set(places))}


def _in_order(places: set[Any]) -> Iterator[Place]:
    yield from (place for place in ("train", "validation", "test") if place in places)
