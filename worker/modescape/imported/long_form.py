"""A table with one row an example and member: CSV, and parquet or arrow where pyarrow is installed.

    member,set,example,label,p_0,p_1,p_2
    0,test,17,2,0.1,0.2,0.7

Columns: member; set (test where there is none; ood/svhn, shift/fog/3, validation); example (an id; the order of rows
where there is none); label (empty where there is none); then p_0 ... (probabilities), logit_0 ... or log_p_0 ..., or
prediction (the predicted class). A table is held in memory, so there is a limit to it; arrays have none of that kind.
"""

from __future__ import annotations

import csv
import importlib
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, islice
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from modescape.imported import parts
from modescape.imported.arrays import Refused, held, refuse
from modescape.imported.ensemble import TEST, Ensemble, ExampleSet, Member, OutputKind
from modescape.names import from_cell

MOST_VALUES = 50_000_000  # 400 MB
MOST_ROWS = 5_000_000  # an example's name and label take some hundred bytes a row
_BATCH = 10_000  # rows at a time
_KINDS = {"p": OutputKind.PROBS, "logit": OutputKind.LOGITS, "log_p": OutputKind.LOG_PROBS}
_NUMBERED = re.compile(r"(p|logit|log_p)_([0-9]{1,4000})")
_COLUMNS = "member, set, example, label, and p_0, p_1, ... (or logit_0, ..., log_p_0, ..., or prediction)"
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
_LARGEST_LABEL = 2**31
_PLACE = re.compile(r"test|validation|ood/[^/]+|shift/[^/]+/[1-5]")

Row = Sequence[Any]
Rows = Iterator[tuple[int, Row]]  # with its line


def read_table(path: Path, *, kind: OutputKind | None = None) -> Ensemble:
    """Raises InvalidInput naming the row, and for parquet and arrow the package that reads them."""
    if path.suffix.lower() == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _assembled(path.name, *_csv_rows(path.name, file), kind)
    return _assembled(path.name, *_arrow_rows(path), kind)


def _csv_rows(name: str, file: IO[str]) -> tuple[list[str], Rows]:
    rows = csv.reader(file, strict=True)
    try:
        columns = next(rows, [])
    except (csv.Error, UnicodeDecodeError) as error:
        raise refuse(name, f"its first line cannot be read ({error})", "CSV in UTF-8") from error
    return [from_cell(column.strip()) for column in columns], _each_row(name, rows)


def _each_row(name: str, rows: Any) -> Rows:
    """rows: a reader of CSV."""
    try:
        for row in rows:
            if row:
                yield rows.line_num, list(map(from_cell, row))
    except (csv.Error, UnicodeDecodeError) as error:
        raise refuse(name, f"it cannot be read after line {rows.line_num} ({error})", "CSV in UTF-8") from error


def _arrow_rows(path: Path) -> tuple[list[str], Rows]:
    try:
        arrow = importlib.import_module("pyarrow")
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise refuse(
            path.name, "reading it needs a package: pip install pyarrow", "pyarrow, or the table as CSV"
        ) from error
    try:
        if path.suffix.lower() == ".parquet":
            opened = parquet.ParquetFile(path)
            return list(opened.schema_arrow.names), _batches(path.name, opened.iter_batches(_BATCH))
        opened = arrow.ipc.open_file(arrow.memory_map(str(path)))
        parts_of = (opened.get_batch(i) for i in range(opened.num_record_batches))
        return list(opened.schema.names), _batches(path.name, parts_of)
    except Exception as error:  # pyarrow raises what it pleases on damaged files
        raise refuse(path.name, f"it cannot be read ({error})", "a whole parquet or arrow file") from error


def _batches(name: str, batches: Iterable[Any]) -> Rows:
    """Lines as they would be of a CSV, after one of names."""
    number = count(2)
    try:
        for batch in batches:
            for start in range(0, batch.num_rows, _BATCH):
                columns = [column.to_pylist() for column in batch.slice(start, _BATCH).columns]
                for row in zip(*columns, strict=True):
                    yield next(number), row
    except Exception as error:
        raise refuse(name, f"it cannot be read ({error})", "a whole parquet or arrow file") from error


# --- rows into arrays -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Columns:
    """Where in a row things are; None: nowhere."""

    member: int
    set: int | None
    example: int | None
    label: int | None
    outputs: tuple[int, ...]
    kind: OutputKind

    @classmethod
    def of(cls, name: str, columns: Sequence[str], kind: OutputKind | None) -> _Columns:
        at = {column.lower(): place for place, column in enumerate(columns)}
        if len(at) != len(columns):
            raise refuse(name, "two of its columns have one name", _COLUMNS)
        numbered: dict[str, dict[int, int]] = {}
        for column, place in at.items():
            if found := _NUMBERED.fullmatch(column):
                if int(found[2]) in numbered.setdefault(found[1], {}):
                    raise refuse(name, f"two of its columns are {found[1]}_{int(found[2])}", _COLUMNS)
                numbered[found[1]][int(found[2])] = place
        if "member" not in at or len(numbered) + ("prediction" in at) != 1:
            raise _other_columns(name, columns)
        rest = (at.get("set"), at.get("example"), at.get("label"))
        if not numbered:
            return cls(at["member"], *rest, (at["prediction"],), OutputKind.LABELS)
        prefix, classes = next(iter(numbered.items()))
        missing = next((k for k in range(len(classes)) if k not in classes), None)
        if missing is not None:
            raise refuse(name, f"it has no column {prefix}_{missing}", f"{prefix}_0 to {prefix}_K, none left out")
        return cls(at["member"], *rest, tuple(classes[k] for k in range(len(classes))), kind or _KINDS[prefix])


def _other_columns(name: str, columns: Sequence[str]) -> Refused:
    """With the usual reason, where a first line is read as one column."""
    only = columns[0] if len(columns) == 1 else ""
    for separator, called in _SEPARATORS.items():
        if separator in only:
            return refuse(
                name, f"its columns are separated by {called}: {', '.join(only.split(separator)[:12])}",
                f"commas between columns and points in numbers; {_COLUMNS}",
            )  # fmt: skip
    return refuse(name, f"its columns are {', '.join(columns[:12]) or 'none'}", _COLUMNS)


@dataclass
class _Outputs:
    """What one member says of one set, in the order of its rows. lines: where in the table those are."""

    values: array[float] = field(default_factory=lambda: array("d"))
    lines: array[int] = field(default_factory=lambda: array("q"))
    examples: list[str] = field(default_factory=list)
    labels: list[int | None] = field(default_factory=list)


def _assembled(name: str, columns: Sequence[str], rows: Rows, kind: OutputKind | None) -> Ensemble:
    at = _Columns.of(name, columns, kind)
    found: dict[str, dict[str, _Outputs]] = {}
    members: dict[str, None] = {}
    values = 0
    for number, row in rows:
        if len(row) != len(columns):
            raise refuse(name, f"line {number} has {len(row)} values", f"{len(columns)}, one a column")
        member, place = _named(name, number, columns, row, at.member), TEST
        if at.set is not None:
            place = _text(row[at.set]) or TEST
        members[member] = None
        one = found.setdefault(place, {}).setdefault(member, _Outputs())
        _add(name, number, one, row, at)
        example = str(len(one.examples)) if at.example is None else _named(name, number, columns, row, at.example)
        one.examples.append(example)
        one.lines.append(number)
        values += len(at.outputs)
        if values > MOST_VALUES or number > MOST_ROWS:
            many = f"{MOST_VALUES:,} numbers" if values > MOST_VALUES else f"{MOST_ROWS:,} rows"
            raise refuse(name, f"it holds more than {many}", "arrays (.npy) for as many")
    if not found:
        raise refuse(name, "it has a line of names and no rows", "one row an example and member")
    if TEST not in found:
        raise refuse(name, f"it has no rows of the set test, but {', '.join(found)}", "set: test, ...")
    asked = next(iter(found[TEST].values())).examples
    sets = {place: _set(name, place, list(members), found[place], at, asked) for place in sorted(found)}
    sets = {place: _against(sets[TEST], one) for place, one in sets.items()}
    return Ensemble(Path(name).stem, at.kind, tuple(Member(one) for one in members), sets)


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _named(name: str, number: int, columns: Sequence[str], row: Row, place: int) -> str:
    """What a cell calls a member or an example. Raises InvalidInput for one that is empty, or NaN, as tools fill it."""
    text = _text(row[place])
    if not text or row[place] != row[place]:
        raise refuse(
            name, f"line {number} has an empty cell in its column {columns[place]}", f"a {columns[place]} in every row"
        )
    return text


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _add(name: str, number: int, one: _Outputs, row: Row, at: _Columns) -> None:
    try:
        one.values.extend(float(row[place]) for place in at.outputs)
        one.labels.append(_label(_text(row[at.label])) if at.label is not None else None)
    except (TypeError, ValueError, OverflowError):
        odd = [f"{_text(row[place])[:40]!r}" for place in at.outputs if not _is_number(row[place])]
        label = "" if at.label is None or odd else f"the label {_text(row[at.label])[:40]}"
        shown = label or ("an empty cell" if odd[0] == "''" else odd[0])
        raise refuse(
            name, f"line {number} holds {shown}, which is no {'class number' if label else 'number'}",
            "numbers, and whole numbers as labels",
        ) from None  # fmt: skip


def _label(text: str) -> int | None:
    """Of an empty cell None. Raises ValueError for what is no class number."""
    if not text:
        return None
    value = float(text)
    if not (value == int(value) and abs(value) < _LARGEST_LABEL):
        raise ValueError(f"the label {text[:40]}")
    return int(value)


def _set(
    name: str, place: str, members: Sequence[str], found: dict[str, _Outputs], at: _Columns, tested: Sequence[str]
) -> ExampleSet:
    """tested: the test set's examples; whose examples are the same are put in the same order."""
    if not _PLACE.fullmatch(place):
        raise refuse(name, f"it has a set {place!r}", "test, validation, ood/<name>, shift/<type>/<1 to 5>")
    for member in members:
        if member not in found:
            raise refuse(name, f"member {member!r} has no rows of the set {place}", "the same sets for every member")
    _check_once(name, place, members[0], found[members[0]])
    first = found[members[0]].examples
    examples = tested if at.example is not None and set(tested) == set(first) else first
    order = {example: row for row, example in enumerate(examples)}
    outputs = np.stack(
        [_member(name, place, member, found[member], found[members[0]], order, at) for member in members]
    )
    labels = _labels(name, place, [found[member] for member in members], order)
    ids = np.array(examples) if at.example is not None else None
    checked = parts.outputs(held(f"{place} of {name}", outputs), at.kind)
    return parts.set_of(place, checked, labels=labels, ids=ids, examples=len(tested))


def _against(test: ExampleSet, one: ExampleSet) -> ExampleSet:
    """A shifted set of the test set's examples is the test set changed; every row of a table repeats its label."""
    if one.shift is None or test.ids is None or one.ids is None or not np.array_equal(one.ids, test.ids):
        return one
    if one.labels is not None and (test.labels is None or not np.array_equal(one.labels, test.labels)):
        return one
    return replace(one, labels=None, has_own_images=False)


def _member(
    name: str, place: str, member: str, one: _Outputs, first: _Outputs, order: dict[str, int], at: _Columns
) -> NDArray[Any]:
    """[N, K], or [N] of labels, in that order. first: what the first member says."""
    _check_once(name, place, member, one)
    rows = np.array([order.get(example, -1) for example in one.examples])
    if len(rows) != len(order) or (rows < 0).any():
        raise _other_examples(name, place, member, one, first)
    values = np.frombuffer(one.values, np.float64).reshape(len(rows), -1)
    placed = np.empty_like(values)
    placed[rows] = values
    if at.kind is not OutputKind.LABELS:
        return placed
    are_labels = np.isfinite(values) & (values == np.rint(values)) & (np.abs(values) < _LARGEST_LABEL)
    if not are_labels.all():
        said = f"member {member!r} predicts what is no class number, in line {one.lines[int(are_labels.argmin())]}"
        raise refuse(name, said, "class numbers from 0")
    return placed[:, 0].astype(np.int64)


def _check_once(name: str, place: str, member: str, one: _Outputs) -> None:
    if len(set(one.examples)) != len(one.examples):
        (twice, _), *_ = Counter(one.examples).most_common(1)
        lines = [str(line) for example, line in zip(one.examples, one.lines, strict=True) if example == twice]
        said = f"member {member!r} has the example {twice[:80]!r} twice in {place}, in lines {' and '.join(lines[:2])}"
        raise refuse(name, said, "one row an example and member")


def _other_examples(name: str, place: str, member: str, found: _Outputs, first: _Outputs) -> Refused:
    """found, first: what this member says, and the first."""
    which = [
        f"{example[:80]!r} {what} (line {line})"
        for one, other, what in ((found, first, "is of it alone"), (first, found, "is missing, of which the first has"))
        for example, line in islice(_only(one, other), 1)
    ]
    counts = f"{len(found.examples)} examples of {place}, the first {len(first.examples)}"
    return refuse(name, f"member {member!r} has {counts}: {', '.join(which)}", "the same for all")


def _only(one: _Outputs, other: _Outputs) -> Iterator[tuple[str, int]]:
    """Examples that `other` lacks, each with its line."""
    there = set(other.examples)
    return ((example, line) for example, line in zip(one.examples, one.lines, strict=True) if example not in there)


def _labels(name: str, place: str, members: Sequence[_Outputs], order: dict[str, int]) -> NDArray[np.int64] | None:
    """[N] in that order, None where no row has one; every member's rows must say the same."""
    found: dict[str, tuple[int, int]] = {}  # example -> label and line of the first row that has one
    for one in members:
        for example, label, line in zip(one.examples, one.labels, one.lines, strict=True):
            if label is None:
                continue
            known, before = found.setdefault(example, (label, line))
            if known != label:
                said = (
                    f"the example {example[:80]!r} of {place} has the label {known} in line {before}, {label} in {line}"
                )
                raise refuse(name, said, "one label")
    if not found:
        return None
    first = members[0]
    for example, line in zip(first.examples, first.lines, strict=True):
        if example not in found:
            labelled = next(iter(found.values()))[1]
            said = (
                f"the example {example[:80]!r} of {place} has no label (line {line}), and others have (line {labelled})"
            )
            raise refuse(name, said, "labels of all examples of a set, or of none")
    return np.array([found[example][0] for example in order], np.int64)
