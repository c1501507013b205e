"""Tables of Lightning's CSVLogger (version_*/metrics.csv, hparams.yaml) and of Keras's CSVLogger (epoch, loss, ...).

A folder of Lightning's is a run, and so is one with a table of Keras and predictions beside it.

Keras appends where it is told to: when the epoch of a row is not past that of the row before, another run has begun.
Lightning's rows may lack any value; an empty cell is no point.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from modescape.imported.arrays import refuse
from modescape.imported.ensemble import Curve
from modescape.imported.trackers.logged import (
    MOST_POINTS,
    Asked,
    LoggedRun,
    Logs,
    curve,
    holds_labels,
    holds_outputs,
    shown,
    value_of,
)
from modescape.imported.two_arrays import natural

METRICS, OPTIONS = "metrics.csv", "hparams.yaml"
_TEXT = 4 << 20
_MOST_OPTIONS = 10_000  # a few lines of YAML can stand for any number
Points = dict[str, list[tuple[float, float, float]]]


def find(path: Path, asked: Asked) -> Logs | None:
    """None where no such table lies there. Raises InvalidInput."""
    if path.is_file():
        return _keras([path], path.stem) if _is_keras(path) else None
    versions = [one.parent for one in sorted(path.glob(f"**/{OPTIONS}"), key=lambda one: natural(str(one)))]
    versions += [one.parent for one in path.glob(f"**/{METRICS}") if one.parent not in versions]
    if any((one / METRICS).is_file() for one in versions):
        names = _short(path, versions)
        runs = [_lightning(one, name) for one, name in zip(versions, names, strict=True)]
        return Logs(path.name, tuple(sorted(runs, key=lambda run: natural(run.name))))
    tables = sorted((one for one in path.glob("*.csv") if _is_keras(one)), key=lambda one: natural(one.name))
    return _keras(tables, path.name) if tables else _folders(path, asked)


def _folders(path: Path, asked: Asked) -> Logs | None:
    """Tables of Keras in a folder a run, beside predictions and true labels: any table may have a column epoch."""
    arrays = list(path.glob("*/**/*.npy"))
    if asked.truth(path) is None and not any(holds_labels(one.name, asked) for one in arrays):
        return None
    beside = {one.parent for one in arrays if holds_outputs(one.name, asked)}
    tables = {one: [table for table in one.glob("*.csv") if _is_keras(table)] for one in beside}
    folders = sorted((one for one in tables if len(tables[one]) == 1), key=lambda one: natural(str(one)))
    runs, left_out = [], []
    for folder, name in zip(folders, _short(path, folders), strict=True):
        *before, last = _split(tables[folder][0])  # the predictions are of the training that came last
        runs.append(LoggedRun(name, name, {}, _curves(last), folder))
        left_out += [f"{len(before)} earlier trainings in {shown(tables[folder][0])}"] if before else []
    return Logs(path.name, tuple(runs), tuple(left_out)) if runs else None


def _short(path: Path, folders: Sequence[Path]) -> list[str]:
    """Folders by their last names where those differ, else by their paths below."""
    last = [one.name for one in folders]
    return last if len(set(last)) == len(last) else [one.relative_to(path).as_posix() for one in folders]


def _lightning(folder: Path, name: str) -> LoggedRun:
    points: Points = defaultdict(list)
    table = folder / METRICS
    if table.is_file():
        for number, (columns, row) in enumerate(_rows(table)):
            cells = dict(zip(columns, row, strict=True))
            step = _number(table, number, cells.get("step") or cells.get("epoch") or str(number))
            _add(points, table, number, step, {key: text for key, text in cells.items() if key != "step"})
    return LoggedRun(name, name, _options(folder / OPTIONS), _curves(points), folder)


def _options(path: Path) -> dict[str, Any]:
    """hparams.yaml, flattened: {"model.width": 8}. Objects of Python in it are taken for the mappings they are."""
    if not path.is_file() or path.stat().st_size > _TEXT:
        return {}
    try:
        found = yaml.load(path.read_text(encoding="utf-8", errors="replace"), Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise refuse(
            shown(path), f"it is no YAML ({str(error).splitlines()[0]})", "hparams.yaml of Lightning"
        ) from error
    return dict(islice(_flat("", found), _MOST_OPTIONS)) if isinstance(found, dict) else {}


def _flat(before: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _flat(f"{before}.{key}" if before else str(key), one)
    else:
        yield before, value_of(value) if isinstance(value, str) else value


def _is_keras(path: Path) -> bool:
    """Whether the columns of a table are those of a log: an epoch, no members."""
    if path.suffix.lower() != ".csv":
        return False
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        columns = [one.strip().lower() for one in file.readline(1 << 16).replace(";", ",").strip().split(",")]
    return "epoch" in columns and "member" not in columns


def _keras(tables: Sequence[Path], name: str) -> Logs:
    runs: list[LoggedRun] = []
    for table in tables:
        found = list(_split(table))
        names = [table.stem] if len(found) == 1 else [f"{table.stem} {number}" for number in range(1, len(found) + 1)]
        runs += [LoggedRun(one, one, {}, _curves(points)) for one, points in zip(names, found, strict=True)]
    return Logs(name, tuple(runs))


def _split(table: Path) -> Iterator[Points]:
    points: Points = defaultdict(list)
    before = -math.inf
    for number, (columns, row) in enumerate(_rows(table)):
        cells = dict(zip(columns, row, strict=True))
        epoch = _number(table, number, cells["epoch"])
        if epoch <= before:
            yield points
            points = defaultdict(list)
        before = epoch
        _add(points, table, number, epoch, {key: text for key, text in cells.items() if key != "epoch"})
    yield points


def _rows(table: Path) -> Iterator[tuple[list[str], list[str]]]:
    """(columns, cells) of every row. Columns may change on the way: a row of as many texts is a new heading."""
    with table.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        first = file.readline(1 << 20)
        file.seek(0)
        reader = csv.reader(file, delimiter=";" if ";" in first and "," not in first else ",")
        columns: list[str] = []
        total = 0
        for row in reader:
            if not row:
                continue
            if "epoch" in row or "step" in row or not columns:
                columns = [one.strip() for one in row]
                continue
            if len(row) != len(columns):
                raise refuse(
                    shown(table), f"line {reader.line_num} has {len(row)} values", f"{len(columns)}, one a column"
                )
            total += len(row)
            if total > MOST_POINTS:
                raise refuse(shown(table), f"it holds more than {MOST_POINTS:,} numbers", "fewer")
            yield columns, row


def _add(points: Points, table: Path, number: int, step: float, cells: Mapping[str, str]) -> None:
    for name, text in cells.items():
        if text.strip() and name:
            points[name].append((step, _number(table, number, text), math.nan))


def _number(table: Path, number: int, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise refuse(shown(table), f"row {number + 1} holds {text[:40]!r}, which is no number", "numbers") from error


def _curves(points: Points) -> dict[str, Curve]:
    return {name: curve(found) for name, found in points.items() if name != "epoch"}
