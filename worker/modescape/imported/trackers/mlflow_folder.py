"""MLflow's file store: mlruns/<experiment>/<run>/{meta.yaml, params/*, metrics/*, tags/*, artifacts/}.

The folder may be the store, one experiment, or one run. A line of a metric is: time in milliseconds, value, step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from modescape.imported.arrays import refuse
from modescape.imported.ensemble import Curve
from modescape.imported.trackers.logged import Asked, LoggedRun, Logs, curve, one_experiment, shown, value_of

META = "meta.yaml"
_FINISHED = {"3", "FINISHED"}
_TEXT = 4 << 20  # bytes of one parameter or meta.yaml
_METRIC = 256 << 20  # bytes of one metric


def find(path: Path, asked: Asked) -> Logs | None:
    """None where no file store lies there. Raises InvalidInput, Unclear."""
    if not path.is_dir():
        return None
    meta = _meta(path)
    if "run_id" in meta or "run_uuid" in meta:
        run = _run(path, meta)
        return Logs(run.name, (run,))
    experiments = [path] if "experiment_id" in meta else sorted(one.parent for one in path.glob(f"*/{META}"))
    if not experiments and (inner := path / "mlruns").is_dir():  # the folder that MLflow was run in
        return find(inner, asked)
    found = {one: runs for one in experiments if (runs := list(_runs(one)))}
    if not found:
        return None
    named = {one.name: _meta(one).get("name", one.name) for one in found}
    chosen = one_experiment(path.name, named, asked.experiment)
    folder = next(one for one in found if one.name == chosen)
    living = [(one, meta) for one, meta in found[folder] if meta.get("lifecycle_stage", "active") == "active"]
    living.sort(key=lambda pair: (_number(pair[1].get("start_time", "0")), pair[0].name))
    deleted = [f"run {_name(one, meta)}, which was deleted" for one, meta in found[folder] if (one, meta) not in living]
    unfinished = [
        f"Run {_name(one, meta)} had not finished; it is read as far as it came"
        for one, meta in living
        if str(meta.get("status", "3")) not in _FINISHED
    ]
    return Logs(named[chosen], tuple(_run(one, meta) for one, meta in living), tuple(deleted), tuple(unfinished))


def _runs(experiment: Path) -> Iterator[tuple[Path, Mapping[str, str]]]:
    for place in sorted(experiment.glob(f"*/{META}")):
        meta = _meta(place.parent)
        if "run_id" in meta or "run_uuid" in meta:
            yield place.parent, meta


def _meta(folder: Path) -> Mapping[str, str]:
    """What meta.yaml says in texts; {} where there is none. Tags of Python in it mean nothing here, nor do lists and
    mappings, a few lines of which may stand for billions."""
    path = folder / META
    if not path.is_file():
        return {}
    try:
        found = yaml.load(_text(path), Loader=yaml.BaseLoader)  # texts, and lists and mappings of them
    except yaml.YAMLError as error:
        raise refuse(shown(path), f"it is no YAML ({str(error).splitlines()[0]})", "a file of MLflow") from error
    said = found.items() if isinstance(found, dict) else ()
    return {key: value for key, value in said if isinstance(key, str) and isinstance(value, str)}


def _run(folder: Path, meta: Mapping[str, str]) -> LoggedRun:
    params: dict[str, Any] = {name: value_of(_text(path)) for name, path in _files(folder / "params")}
    curves = {name: _metric(path) for name, path in _files(folder / "metrics")}
    drawn = {name: one for name, one in curves.items() if len(one)}
    return LoggedRun(folder.name, _name(folder, meta), params, drawn, folder / "artifacts")


def _name(folder: Path, meta: Mapping[str, str]) -> str:
    tag = folder / "tags" / "mlflow.runName"
    return meta.get("run_name") or (_text(tag).strip() if tag.is_file() else "") or folder.name


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Names may have slashes, which are folders."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield path.relative_to(folder).as_posix(), path


def _text(path: Path) -> str:
    if path.stat().st_size > _TEXT:
        raise refuse(shown(path, 3), f"it has {path.stat().st_size:,} bytes", f"at most {_TEXT >> 20} MiB")
    return path.read_text(encoding="utf-8", errors="replace")


def _metric(path: Path) -> Curve:
    if path.stat().st_size > _METRIC:
        raise refuse(shown(path, 3), f"it has {path.stat().st_size:,} bytes", f"at most {_METRIC >> 20} MiB")
    with path.open(encoding="utf-8", errors="replace") as file:
        return curve(_point(path, number, line) for number, line in enumerate(file, 1) if line.strip())


def _point(path: Path, number: int, line: str) -> tuple[float, float, float]:
    """Stores older than 2018 noted no steps."""
    try:
        time, value, *rest = line.split()
        step = float(rest[0]) if rest else 0.0
        if not math.isfinite(step):
            raise ValueError(f"step {rest[0]}")
        return step, float(value), float(time) / 1000
    except ValueError as error:
        raise refuse(
            shown(path, 3), f"line {number} is no point of a metric ({error})", "time, value and step"
        ) from error


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
