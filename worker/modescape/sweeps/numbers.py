"""Numbers of a sweep's cells against the fields that were varied, with their intervals.

    table = Numbers.of(laboratory, sweep)
    table.series("gain", x="training.learning_rate", by="network.architecture")

Intervals are over runs, as where experiments are compared. Differences are from the first cell: of cells with a root
seed of their own by Welch's degrees of freedom, of paired ones by the jackknife over runs of the difference itself
(science r.3).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from cachetools import LRUCache, cached

from modescape.claims import CLAIMS
from modescape.claims.telling import Told
from modescape.comparing.ensembles import TITLES, Ensemble, Reading, Value, paired, told
from modescape.drawing import style
from modescape.drawing.style import Theme
from modescape.errors import InvalidInput
from modescape.finding import Finding
from modescape.laboratory import Laboratory
from modescape.store.sweeps import KeptCell, KeptSweep
from modescape.sweeps.asked import said, short
from modescape.sweeps.launching import is_paired
from modescape.sweeps.telling import voice_of_cells
from modescape.tables import Experiment
from modescape.voice import Voice

if TYPE_CHECKING:
    import plotly.graph_objects as go

MOST_SERIES = 5  # told apart by ink and symbol


@dataclass(frozen=True)
class Quantity:
    """A number that cells have. unit: of `ensembles.Unit`."""

    name: str
    title: str
    unit: str

    def told(self, value: Value | None, *, difference: bool = False) -> str:
        """As people read it; differences of accuracies in points."""
        return told(value, self.unit, difference=difference)


@dataclass(frozen=True)
class Point:
    """One cell in the plot. x, by: the values of its fields."""

    cell: KeptCell
    x: Any
    by: Any
    value: Value


class Numbers:
    """The numbers of every cell, read when they are asked for."""

    def __init__(self, laboratory: Laboratory, sweep: KeptSweep) -> None:
        self.sweep = sweep
        self.is_paired = is_paired(sweep)
        self._laboratory = laboratory

    @property
    def fields(self) -> list[str]:
        return list(self.sweep.cells[0].varied)

    @cached_property
    def voice(self) -> Voice:
        """How its cells are spoken of together."""
        return voice_of_cells(self.sweep)

    @cached_property
    def _read(self) -> list[Read]:
        rows = [cell.experiment for cell in self.sweep.cells]
        return [Read({}, frozenset()) if row is None else _read(self._laboratory, row) for row in rows]

    @cached_property
    def quantities(self) -> dict[str, Quantity]:
        """Of every experiment, then the estimate of every claim that some cell was asked."""
        found = {name: Quantity(name, self.voice(title), unit) for name, (title, unit) in TITLES.items()}
        for claims in self._claims:
            for letter, value in claims.items():
                title, unit = self.voice(f"({letter}) {value[0]}"), "times" if CLAIMS[letter].ratio else ""
                found.setdefault(f"claim-{letter}", Quantity(f"claim-{letter}", title, unit))
        return found

    @cached_property
    def _claims(self) -> list[dict[str, tuple[str, Value]]]:
        """Of each cell: claim -> its estimand, estimate with interval; a ratio as a ratio."""
        found = []
        for cell in self.sweep.cells:
            told = Finding.from_json(cell.experiment.finding).told() if cell.experiment is not None else []
            found.append({
                one.record.id: (
                    one.record.estimand,
                    _of_bar(one),
                )
                for one in told if one.bar.value is not None
            })  # fmt: skip
        return found

    def value(self, place: int, name: str) -> Value | None:
        """A number of one cell; None where it has none (yet)."""
        if name.startswith("claim-"):
            found = self._claims[place].get(name.removeprefix("claim-"))
            return None if found is None else found[1]
        reading = self._read[place].readings.get(name)
        return None if reading is None else reading.shown(name)

    def difference(self, place: int, name: str) -> Value | None:
        """A number of one cell minus that of the first; no interval where both hold the same networks."""
        mine, other = self.value(place, name), self.value(0, name)
        if place == 0 or mine is None or other is None or name.startswith("claim-"):
            return None  # effects of claims have intervals of their own, and no difference that anybody tested
        plain = Value(value=mine.value - other.value)
        first, here = self._read[0], self._read[place]
        a, b = first.readings.get(name), here.readings.get(name)
        rows = self.sweep.cells[0].experiment, self.sweep.cells[place].experiment
        if rows[0] is None or rows[1] is None or a is None or b is None:
            return plain
        if not self.is_paired:
            return b.less(a, name, apart=not first.networks & here.networks)
        return _paired(self._laboratory, rows[0], rows[1], name) or plain

    def common(self, place: int, name: str) -> str:
        """Of which runs a difference from the first cell is, where those are not all that either cell has."""
        less, both = self.difference(place, name), (self.value(0, name), self.value(place, name))
        if less is None or not less.runs or {less.runs} == {one.runs for one in both if one is not None}:
            return ""
        return self.voice(f"of the {less.runs} common runs")

    def points(self, y: str, x: str, by: str = "", *, from_first: bool = False) -> list[Point]:
        """Raises InvalidInput naming y, x or by."""
        if y not in self.quantities:
            raise InvalidInput(f"there is no number {y[:80]!r}", field="y", allowed=", ".join(self.quantities))
        for field, given in (("x", x), *((("by", by),) if by else ())):
            if given not in self.fields:
                raise InvalidInput(f"{given[:80]!r} is not varied", field=field, allowed=", ".join(self.fields))
        found = []
        for place, cell in enumerate(self.sweep.cells):
            value = self.difference(place, y) if from_first else self.value(place, y)
            if value is not None and math.isfinite(value.value):
                found.append(Point(cell, cell.varied[x], self._series(cell, x, by), value))
        return found

    def _series(self, cell: KeptCell, x: str, by: str) -> str:
        """What the line is that a cell belongs to: the field chosen, else all others together."""
        fields = [by] if by else [field for field in self.fields if field != x]
        return ", ".join(f"{short(field)} {said(cell.varied[field])}" for field in fields)


def _of_bar(one: Told) -> Value:
    low, value, high = one.bar.read(one.claim)
    return Value(value=math.nan if value is None else value, low=low, high=high, runs=one.record.n)


@dataclass(frozen=True)
class Read:
    """What was read of one cell; networks: digests of its weights."""

    readings: Mapping[str, Reading | None]
    networks: frozenset[str]


def _state(row: Experiment) -> tuple[object, ...]:
    """What an experiment's numbers change with."""
    return row.id, row.status, row.stages_done, row.finished_at


@cached(LRUCache(2048), key=lambda laboratory, row: _state(row), lock=Lock())
def _read(laboratory: Laboratory, row: Experiment) -> Read:
    """Kept while nothing of the cell has changed: its page is asked for again at every event."""
    measured = Ensemble(laboratory.results(row.id))
    return Read(measured.readings, frozenset(one.weights for one in measured.optima if one.weights))


@cached(LRUCache(4096), key=lambda laboratory, a, b, name: (_state(a), _state(b), name), lock=Lock())
def _paired(laboratory: Laboratory, first: Experiment, row: Experiment, name: str) -> Value | None:
    """The difference of a number over the runs that two cells both have."""
    a, b = (Ensemble(laboratory.results(one.id)) for one in (first, row))
    return paired(a, b, name, [(run, run) for run in sorted({*a.runs} & {*b.runs})])


# ---- picture ----


def draw(numbers: Numbers, theme: Theme, *, y: str, x: str, by: str = "", from_first: bool = False) -> go.Figure:
    """Each cell a dot with its interval over its field's value; cells of one series are joined. Raises InvalidInput."""
    import plotly.graph_objects as go

    points = numbers.points(y, x, by, from_first=from_first)
    quantity = numbers.quantities[y]
    values = list(dict.fromkeys(cell.varied[x] for cell in numbers.sweep.cells if _is_key(cell.varied[x])))
    is_measured = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values) and len(values) > 1
    series = list(dict.fromkeys(point.by for point in points))
    layout = style.layout(theme, kind="page", height=420, revision=f"{y}/{x}/{by}/{from_first}")
    layout["margin"] |= {"l": 64, "r": 24, "b": 64}
    layout["showlegend"] = len(series) > 1
    layout["legend"] = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
    layout["margin"]["t"] = 32 + 20 * math.ceil(len(series) / 2) if len(series) > 1 else 24
    title = short(x).capitalize()
    if is_measured:
        wide = min(values) > 0 and max(values) / min(values) >= 8
        ticks = {"tickvals": sorted(values), "ticktext": [said(v) for v in sorted(values)], "nticks": 0}
        layout["xaxis"] = style.x_axis(theme, title={"text": title}, type="log" if wide else "linear", **ticks)
    else:
        texts = [said(v) for v in values]
        ticks = {"tickvals": [*range(len(texts))], "ticktext": texts, "nticks": 0}
        layout["xaxis"] = style.x_axis(theme, title={"text": title}, range=[-0.5, len(texts) - 0.5], **ticks)
    layout["xaxis"]["labelalias"] = {}
    in_percent = quantity.unit in ("accuracy", "points")
    head = quantity.title + (", minus the first cell's" if from_first else "")
    layout["yaxis"] = style.y_axis(theme, title={"text": head}, tickformat=".1%" if in_percent else "")
    layout["yaxis"]["labelalias"] = {}
    if in_percent and not from_first:
        layout["yaxis"]["range"] = _within_shares([point.value for point in points])
    traces = [
        _trace([point for point in points if point.by == name], name, place, theme, quantity,
               None if is_measured else [said(v) for v in values])
        for place, name in enumerate(series)
    ]  # fmt: skip
    return go.Figure(data=traces, layout=layout, layout_template=None)


def _within_shares(values: Sequence[Value]) -> list[float]:
    """An axis that holds all intervals as far as there are such shares: of few runs they reach beyond 0 and 1."""
    ends = np.array([[v.value, v.value if v.low is None else v.low, v.value if v.high is None else v.high]
                     for v in values])  # fmt: skip
    low, high = float(ends.min(initial=1.0)), float(ends.max(initial=0.0))
    room = 0.05 * max(high - low, 0.01)
    return [max(low - room, -0.02 if low < 0.02 else 0.0), min(high + room, 1.02 if high > 0.98 else 1.0)]


def _is_key(value: object) -> bool:
    return isinstance(value, str | int | float | bool) or value is None


def _trace(
    points: Sequence[Point], name: str, place: int, theme: Theme, quantity: Quantity, texts: Sequence[str] | None
) -> dict[str, Any]:
    ink = style.run_ink(place, theme)
    ordered = sorted(points, key=lambda point: point.x) if texts is None else list(points)
    values = [point.value for point in ordered]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name or "all cells",
        "x": [point.x if texts is None else texts.index(said(point.x)) for point in ordered],
        "y": [value.value for value in values],
        "line": {"color": ink, "width": 1.5, "dash": "solid" if place < MOST_SERIES else "dot"},
        "marker": {"symbol": style.run_symbol(place), "size": 9, "color": ink},
        "error_y": {
            "type": "data", "symmetric": False, "color": ink, "thickness": 1.5,
            "array": [0.0 if v.high is None else v.high - v.value for v in values],
            "arrayminus": [0.0 if v.low is None else v.value - v.low for v in values],
        },
        "hovertext": [f"<b>{point.by or said(point.x)}</b><br>{quantity.told(point.value)}" for point in ordered],
        "hoverinfo": "text",
    }  # fmt: skip
