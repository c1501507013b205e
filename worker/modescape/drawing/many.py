"""Many experiments on one picture, to be taken away: a scatter of two fields, and a line for each along several axes.

drawn(Many.from_json(told), "light", 960)      # with its title, legend and words around it

Where each lies was worked out where fields are known (`modescape.axes`); here are places and labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Self

from modescape.drawing import style
from modescape.drawing.figure import Legend
from modescape.drawing.frame import Frame, framed
from modescape.drawing.panels import Trace
from modescape.drawing.style import Theme
from modescape.records import Json

if TYPE_CHECKING:
    import plotly.graph_objects as go

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "pentagon", "triangle-down")  # by number of ink
_NONE = -0.08  # where what has no value lies
_LONGEST = 18  # letters of a tick
_HEIGHT = 760  # px of both pictures


@dataclass(frozen=True)
class Line:
    """One field. ticks: places from 0 to 1, with what is written there; places [S], None of what has no value."""

    title: str
    ticks: Sequence[tuple[float, str]]
    places: Sequence[float | None]

    @property
    def is_whole(self) -> bool:
        return None not in self.places

    @property
    def range(self) -> list[float]:
        return [-0.03 if self.is_whole else 1.4 * _NONE, 1.03]

    @property
    def written(self) -> tuple[list[float], list[str]]:
        """Places and texts of ticks."""
        shown = [(place, _cut(label)) for place, label in self.ticks] + ([] if self.is_whole else [(_NONE, "none")])
        return [place for place, _ in shown], [text for _, text in shown]

    def at(self, i: int) -> float:
        place = self.places[i]
        return _NONE if place is None else place


@dataclass(frozen=True)
class Many:
    """title, name, caption: what it is of; inks: what each colour means, by its number; of_ink [S], None in grey;
    is_out [S]: not among those that were picked."""

    title: str
    name: str
    caption: str
    x: Line
    y: Line
    axes: Sequence[Line]
    inks: Sequence[str]
    of_ink: Sequence[int | None]
    is_out: Sequence[bool]

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Self:
        lines = {name: Line(**told[name]) for name in ("x", "y")}
        return cls(**{**told, **lines, "axes": [Line(**one) for one in told["axes"]]})

    def groups(self) -> Iterator[tuple[int | None, bool, list[int]]]:
        """Those of one colour, first what was not picked: its number, whether it was left out, and the experiments."""
        for is_out in (True, False):
            for ink in (None, *range(len(self.inks))):
                found = [i for i, one in enumerate(self.of_ink) if one == ink and self.is_out[i] == is_out]
                if found:
                    yield ink, is_out, found


def drawn(many: Many, theme: Theme, width: int) -> go.Figure:
    import plotly.graph_objects as go

    layout = style.layout(theme, kind="page", height=_HEIGHT, revision="many")
    layout["margin"] |= {"l": 132, "b": 56}
    layout["annotations"] = [
        style.y_title(escape(many.y.title), theme, "x", "y", 116), style.x_title(escape(many.x.title), theme, "x", "y"),
    ]  # fmt: skip
    places, texts = many.x.written
    layout["xaxis"] = style.x_axis(theme, range=many.x.range, tickvals=places, ticktext=texts, anchor="y", tickangle=0)
    places, texts = many.y.written
    layout["yaxis"] = style.y_axis(theme, range=many.y.range, tickvals=places, ticktext=texts, domain=[0.55, 1])
    lowest = min(one.range[0] for one in many.axes)
    layout["xaxis2"] = style.no_axis(range=[-0.3, len(many.axes) - 0.3], anchor="y2")
    layout["yaxis2"] = style.no_axis(range=[lowest, 1.03], domain=[0, 0.4])
    layout["shapes"] = [_upright(k, theme) for k in range(len(many.axes))]
    for k, axis in enumerate(many.axes):
        layout["annotations"] += _of_axis(k, axis, theme)
    traces: list[Trace] = []
    for ink, is_out, found in many.groups():
        traces += _traces(many, ink, is_out, found, theme)
    legend = tuple(Legend(f"ink-{k}", text, style.experiment_look(k)) for k, text in enumerate(many.inks))
    picture = go.Figure(data=traces, layout=layout, layout_template=None)
    return framed(picture, Frame(many.title, many.name, many.caption, legend), theme, width)


def _traces(many: Many, ink: int | None, is_out: bool, found: Sequence[int], theme: Theme) -> list[Trace]:
    plain = style.token("text", theme) if not many.inks else style.token("control", theme)
    colour = style.experiment_ink(ink, theme) if ink is not None else plain
    colour = style.token("hairline", theme) if is_out else colour
    few = len(found) <= 60
    xs: list[float | None] = []
    ys: list[float | None] = []
    for i in found:
        xs += [*range(len(many.axes)), None]
        ys += [*(axis.at(i) for axis in many.axes), None]
    common: Json = {"type": "scatter", "hoverinfo": "skip", "showlegend": False}
    return [
        {**common, "mode": "lines", "x": xs, "y": ys, "xaxis": "x2", "yaxis": "y2",
         "line": {"color": style.softened(colour, 0.9 if few else 0.4), "width": 1.5 if few else 1}},
        {**common, "mode": "markers", "x": [many.x.at(i) for i in found], "y": [many.y.at(i) for i in found],
         "cliponaxis": False,
         "marker": {"color": colour, "size": 8, "symbol": SYMBOLS[ink or 0],
                    "line": {"color": style.token("card", theme), "width": 1}}},
    ]  # fmt: skip


def _upright(k: int, theme: Theme) -> Json:
    line = {"color": style.token("control", theme), "width": 1}
    return {"type": "line", "xref": "x2", "yref": "y2", "x0": k, "x1": k, "y0": 0, "y1": 1, "line": line}


def _of_axis(k: int, axis: Line, theme: Theme) -> list[Json]:
    """Its name above, and what is written beside it."""
    head = style.label(
        escape(axis.title), theme, strong=True, xref="x2", yref="y2 domain", x=k, y=1, xanchor="center",
        yanchor="bottom", yshift=6,
    )  # fmt: skip
    ground = style.faint("card", theme, 0.8)
    return [head] + [
        style.label(text, theme, xref="x2", yref="y2", x=k, y=place, xanchor="left", yanchor="middle", xshift=4,
                    bgcolor=ground)
        for place, text in zip(*axis.written, strict=True)
    ]  # fmt: skip


def _cut(text: str) -> str:
    return escape(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…")
