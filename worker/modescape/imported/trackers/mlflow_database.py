"""MLflow's SQLite: the tables experiments, runs, params, tags and metrics of `--backend-store-uri sqlite:///mlflow.db`.

The database itself, or the folder that MLflow was run in, which holds it beside the runs' files.
"""

from __future__ import annotations

import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from modescape.errors import InvalidInput
from modescape.imported.arrays import refuse
from modescape.imported.containers import is_inside
from modescape.imported.ensemble import Curve
from modescape.imported.trackers.logged import MOST_POINTS, Asked, LoggedRun, Logs, curve, one_experiment, value_of

_MAGIC = b"SQLite format 3\0"
_NAME = "mlflow.db"  # as MLflow calls it
_TABLES = {"experiments", "runs", "params", "metrics"}


def find(path: Path, asked: Asked) -> Logs | None:
    """None where no SQLite lies there. Raises InvalidInput where it is not MLflow's, Unclear."""
    if path.is_dir():
        path = path / _NAME
        if path.is_file() and any(path.parent.glob("mlruns/*/*/meta.yaml")):
            raise refuse(
                path.parent.name,
                f"runs are in {_NAME}, and others in mlruns as files",
                f"{_NAME} or mlruns, by its path",
            )
        if path.is_symlink():  # nothing outside of a folder is read
            return None
    if not path.is_file():
        return None
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            return None
    with _opened(path) as database:
        there = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not there >= _TABLES:
            raise refuse(path.name, "it is a database, and not one of MLflow's", "tables experiments, runs, metrics")
        return _logs(path, database, asked)


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Only to read, and also while MLflow writes. Its name may be a stranger's: what it says to a URI is written out,
    or it would name another file or mode; and what the tables' own definitions would call is not trusted."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            database.execute("PRAGMA trusted_schema = OFF")
            yield database
    except sqlite3.DatabaseError as error:
        raise refuse(path.name, f"it cannot be read ({error})", "a whole database of MLflow") from error


def _logs(path: Path, database: sqlite3.Connection, asked: Asked) -> Logs:
    query = """SELECT e.experiment_id, e.name FROM experiments e WHERE EXISTS
               (SELECT 1 FROM runs r WHERE r.experiment_id = e.experiment_id) ORDER BY e.experiment_id"""
    named = {str(one): str(name) for one, name in database.execute(query)}
    if not named:
        raise refuse(path.name, "it holds no runs", "a database with runs")
    chosen = one_experiment(path.name, named, asked.experiment)
    columns = {row[1] for row in database.execute("PRAGMA table_info(runs)")}
    titles = _texts(database, "SELECT run_uuid, value FROM tags WHERE key = 'mlflow.runName'")
    name = "name" if "name" in columns else "''"  # as tags alone, before MLflow 2
    query = f"""SELECT run_uuid, {name}, lifecycle_stage, status, artifact_uri FROM runs
                WHERE CAST(experiment_id AS TEXT) = ? ORDER BY start_time, run_uuid"""
    runs, left_out, remarks = [], [], []
    for run, name, stage, status, files in database.execute(query, (chosen,)).fetchall():
        title = str(name or titles.get(str(run)) or run)
        if stage == "deleted":
            left_out.append(f"run {title}, which was deleted")
            continue
        if status not in (None, "FINISHED"):
            remarks.append(f"Run {title} had not finished; it is read as far as it came")
        params = {key: value_of(value) for key, value in _texts(database, _PARAMS, run).items()}
        try:
            curves = _curves(path, database, run)
        except InvalidInput:  # a database of too many points
            raise
        except (TypeError, ValueError) as error:  # SQLite keeps whatever it is given in whatever column
            left_out.append(f"run {title}, one of whose metrics is no number ({str(error)[:80]})")
            continue
        try:
            folder = _folder(path, files, asked.within)
        except (OSError, ValueError):
            remarks.append(f"Run {title} says that its files are at {str(files)[:80]!a}, which is no place")
            folder = None
        runs.append(LoggedRun(str(run), title, params, curves, folder))
    return Logs(named[chosen], tuple(runs), tuple(left_out), tuple(remarks))


_PARAMS = "SELECT key, value FROM params WHERE run_uuid = ? ORDER BY key"
_METRICS = "SELECT key, step, value, timestamp, is_nan FROM metrics WHERE run_uuid = ? ORDER BY key, timestamp, step"


def _texts(database: sqlite3.Connection, query: str, *values: Any) -> dict[str, str]:
    try:
        return {str(key): str(value) for key, value in database.execute(query, values)}
    except sqlite3.OperationalError:  # no table of tags
        return {}


def _curves(path: Path, database: sqlite3.Connection, run: str) -> dict[str, Curve]:
    points: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for count, (key, step, value, time, is_nan) in enumerate(database.execute(_METRICS, (run,))):
        if count > MOST_POINTS:
            raise refuse(path.name, f"run {run} has more than {MOST_POINTS:,} points", "fewer")
        points[str(key)].append((float(step or 0), float("nan") if is_nan else float(value), float(time) / 1000))
    return {name: curve(found) for name, found in points.items()}


def _folder(database: Path, address: str | None, within: Path | None) -> Path | None:
    """Where a run keeps its files, if that is on this machine: as it was noted, or beside the database. Raises
    ValueError for what names no place."""
    if not address:
        return None
    parsed = urlparse(str(address))
    if re.search(r"[\x00-\x1f\x7f]", unquote(str(address))):
        raise ValueError("a control character")
    if parsed.scheme not in ("", "file"):
        return None
    noted = Path(unquote(parsed.path))
    beside = database.parent.joinpath(*noted.parts[-4:])  # mlruns or mlartifacts / experiment / run / artifacts
    found = (one for one in (noted, beside) if one.is_absolute() and is_inside(one, within) and one.is_dir())
    return next(found, beside if is_inside(beside, within) else None)
