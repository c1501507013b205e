"""One number of several things, a line each: a dot with its 95 % interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modescape.drawing import style
from modescape.drawing.style import Theme

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Bar:
    """low, high: None without an interval; told: the number and its interval as people read them."""

    name: str
    value: float
    low: float | None
    high: float | None
    told: str


def draw(title: str, bars: Sequence[Bar], theme: Theme, *, in_percent: bool = False) -> go.Figure:
    """The first on top."""
    import plotly.graph_objects as go

    layout = style.layout(theme, kind="page", height=96 + 40 * len(bars), revision=title)
    layout["margin"] |= {"l": 160}
    layout["xaxis"] = style.x_axis(theme, title={"text": title}, tickformat=".1%" if in_percent else "")
    layout["yaxis"] = style.y_axis(
        theme, autorange="reversed", tickvals=[*range(len(bars))], ticktext=[b.name for b in bars]
    )
    layout["yaxis"] |= {"nticks": 0, "labelalias": {}}
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": [bar.value for bar in bars],
        "y": [*range(len(bars))],
        "marker": {**style.marker(style.look("baseline"), theme), "symbol": "circle", "size": 9},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [0.0 if bar.high is None else bar.high - bar.value for bar in bars],
            "arrayminus": [0.0 if bar.low is None else bar.value - bar.low for bar in bars],
            "color": style.token("control", theme),
            "thickness": 1.5,
        },
        "hovertext": [f"<b>{bar.name}</b><br>{bar.told}" for bar in bars],
        "hoverinfo": "text",
    }
    return go.Figure(data=[trace], layout=layout, layout_template=None)
