"""Curves: their points in chunks of a thousand, and the last, smallest and largest value of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import delete, func, insert, select, tuple_
from sqlalchemy.orm import Session

from modescape.records import Json, Point
from modescape.store.lookup import find_experiment, row_id
from modescape.store.transaction import Subject
from modescape.tables import Chunk, Series, Stage

CHUNK_POINTS = 1000


class SeriesPoints(NamedTuple):
    """One curve: steps int64 [n], values float64 [n], times float64 [n] (Unix seconds)."""

    steps: NDArray[np.int64]
    values: NDArray[np.float64]
    times: NDArray[np.float64]


class Curves(Subject):
    """What trainings drew, step by step."""

    def of(self, reference: str, run: int | None = None) -> list[Series]:
        """The curves of an experiment: last, smallest and largest value of each, without their points."""
        with self.database.reading() as session:
            statement = select(Series).where(Series.experiment_id == find_experiment(session, reference).id)
            if run is not None:
                statement = statement.where(Series.run == run)
            return list(session.scalars(statement.order_by(Series.run, Series.name)))

    def points(self, experiment_id: str, run: int, name: str) -> SeriesPoints:
        """One curve, whole; empty arrays when there is none."""
        with self.database.reading() as session:
            return _curve_of(session, row_id(experiment_id, "series", run, name))


def summed_up(run: int, name: str, points: SeriesPoints) -> Series:
    """Last, smallest and largest value of a curve that is not stored as one (yet)."""
    found = Series(run=run, name=name, n=0)
    _count_points(found, points.steps.tolist(), points.values.tolist())
    return found


def add_points(session: Session, stage: Stage, run: int, points: Mapping[str, Sequence[Point]]) -> None:
    """New points of a run's curves; those at or before a curve's last step are known already and left out."""
    ids = {name: row_id(stage.experiment_id, "series", run, name) for name in points}
    known = {series.id: series for series in session.scalars(select(Series).where(Series.id.in_(ids.values())))}
    for name, id_ in ids.items():
        if id_ not in known:
            about = {"experiment_id": stage.experiment_id, "stage_id": stage.id, "run": run, "name": name}
            known[id_] = Series(id=id_, n=0, **about)
            session.add(known[id_])
    session.flush()
    last = select(Chunk.series_id, func.max(Chunk.sequence)).where(Chunk.series_id.in_(ids.values()))
    at_end = tuple_(Chunk.series_id, Chunk.sequence).in_(last.group_by(Chunk.series_id))
    tails = {chunk.series_id: chunk for chunk in session.scalars(select(Chunk).where(at_end))}
    rows: list[Json] = []
    for name, id_ in ids.items():
        series, tail = known[id_], tails.get(id_)
        fresh = [p for p in points[name] if series.last_step is None or p[0] > series.last_step]
        if not fresh:
            continue
        new = _curve(*(np.array(column) for column in zip(*fresh, strict=True)))
        sequence = 0 if tail is None else tail.sequence + 1
        if tail is not None and tail.n < CHUNK_POINTS:
            new, sequence = joined([unpacked(tail.points), new]), tail.sequence
            session.delete(tail)
        rows += _chunks(id_, sequence, new)
        _count_points(series, [p[0] for p in fresh], [p[1] for p in fresh])
    session.flush()
    if rows:
        session.execute(insert(Chunk), rows)


def drop_points(session: Session, stage_id: str, after_step: int) -> None:
    """Forget the points of the stage's curves beyond `after_step`."""
    beyond = select(Series).where(Series.stage_id == stage_id, Series.last_step > after_step)
    for series in session.scalars(beyond).all():
        kept = _curve_of(session, series.id)
        keep = kept.steps <= after_step
        kept = _curve(kept.steps[keep], kept.values[keep], kept.times[keep])
        session.execute(delete(Chunk).where(Chunk.series_id == series.id))
        _write_chunks(session, series.id, kept)
        series.n, series.last, series.last_step = 0, None, None
        series.smallest = series.smallest_step = series.largest = series.largest_step = None
        _count_points(series, kept.steps.tolist(), kept.values.tolist())
    session.flush()


def copy_points(session: Session, source: Stage, target: Stage) -> None:
    run = target.params.get("run")
    for series in session.scalars(select(Series).where(Series.stage_id == source.id)).all():
        number = run if run is not None else series.run
        values = {c.key: getattr(series, c.key) for c in Series.__table__.columns}
        own = row_id(target.experiment_id, "series", number, series.name)
        session.execute(delete(Series).where(Series.id == own))
        values |= {"id": own, "experiment_id": target.experiment_id, "stage_id": target.id, "run": number}
        session.execute(insert(Series), [values])
        _write_chunks(session, own, _curve_of(session, series.id))


def _write_chunks(session: Session, series_id: str, curve: SeriesPoints) -> None:
    """A whole curve."""
    if rows := _chunks(series_id, 0, curve):
        session.execute(insert(Chunk), rows)


def _chunks(series_id: str, sequence: int, curve: SeriesPoints) -> list[Json]:
    """Rows for the points of a curve, the first of them with that sequence."""
    rows: list[Json] = []
    for i, start in enumerate(range(0, len(curve.steps), CHUNK_POINTS)):
        part = _curve(*(column[start : start + CHUNK_POINTS] for column in curve))
        rows.append(
            {"series_id": series_id, "sequence": sequence + i, "n": len(part.steps),
             "first_step": int(part.steps[0]), "last_step": int(part.steps[-1]),
             "points": packed(part)}
        )  # fmt: skip
    return rows


def _curve_of(session: Session, series_id: str) -> SeriesPoints:
    chunks = session.scalars(select(Chunk.points).where(Chunk.series_id == series_id).order_by(Chunk.sequence))
    return joined([unpacked(points) for points in chunks])


def _curve(steps: NDArray[Any], values: NDArray[Any], times: NDArray[Any]) -> SeriesPoints:
    return SeriesPoints(steps.astype("<i8"), values.astype("<f8"), times.astype("<f8"))


def packed(curve: SeriesPoints) -> bytes:
    return b"".join(column.tobytes() for column in _curve(*curve))


def unpacked(points: bytes) -> SeriesPoints:
    n = len(points) // 24
    return SeriesPoints(
        np.frombuffer(points, "<i8", n), np.frombuffer(points, "<f8", n, 8 * n), np.frombuffer(points, "<f8", n, 16 * n)
    )


def joined(parts: Sequence[SeriesPoints]) -> SeriesPoints:
    if not parts:
        return _curve(np.zeros(0), np.zeros(0), np.zeros(0))
    return SeriesPoints(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("steps", "values", "times")))


def _count_points(series: Series, steps: Sequence[int], values: Sequence[float]) -> None:
    """Bring last, smallest and largest up to date with points that follow what is there."""
    series.n += len(steps)
    for step, value in zip(steps, values, strict=True):
        number = float(value) if np.isfinite(value) else None
        series.last, series.last_step = number, int(step)
        if number is None:
            continue
        if series.smallest is None or number < series.smallest:
            series.smallest, series.smallest_step = number, int(step)
        if series.largest is None or number > series.largest:
            series.largest, series.largest_step = number, int(step)
