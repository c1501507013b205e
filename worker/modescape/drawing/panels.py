"""A picture in the making: its panels, what is drawn in them, and what is written around them.

picture = Picture("tunnel", data, theme, kind="curves", panels=("loss", "accuracy"))
for name, across in picture.beside(("loss", "accuracy"), gap=0.09):
    panel = picture.panel(across, x={"range": [0, 1]}, y={"range": bounds})
    picture.add(curve(data, name, panel), ...)
    picture.titles(panel, "along the path", name)
return picture.figure()
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from modescape.drawing import style
from modescape.drawing.figure import FigureData
from modescape.drawing.numbers import float32
from modescape.drawing.reading import Floats, Ints
from modescape.drawing.style import Theme
from modescape.records import Json

if TYPE_CHECKING:
    import plotly.graph_objects as go

T = TypeVar("T")
Trace = Json


@dataclass(frozen=True)
class Panel:
    """One pair of axes: number "" of the first, then "2", "3"; bounds: the range of y."""

    number: str
    bounds: Sequence[float]

    @property
    def x(self) -> str:
        return f"x{self.number}"

    @property
    def y(self) -> str:
        return f"y{self.number}"


class Picture:
    """Layout, traces and words of one figure. panels: the options that show one of them alone, on narrow screens,
    where there are several."""

    def __init__(
        self,
        name: str,
        data: FigureData,
        theme: Theme,
        *,
        kind: style.Kind,
        revision: str = "",
        drag: str = "zoom",
        panels: Sequence[str] = (),
        margin: Mapping[str, int] | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        self.theme = theme
        self.layout = style.layout(theme, kind=kind, height=data.pixels, revision=revision or name, drag=drag)
        self.layout["margin"] |= margin or {}
        self.layout |= {
            "annotations": [],
            "shapes": [],
            "meta": {"figure": name, "panels": list(panels) if len(panels) > 1 else [], **(meta or {})},
        }
        self._traces: list[Trace] = []
        self._count = 0

    @property
    def left(self) -> int:
        """px left of the plot."""
        return int(self.layout["margin"]["l"])

    @property
    def plot_height(self) -> int:
        """px of the plot's height."""
        return int(self.layout["height"] - self.layout["margin"]["t"] - self.layout["margin"]["b"])

    def panel(
        self,
        across: Sequence[float] | None = None,
        up: Sequence[float] | None = None,
        *,
        x: Mapping[str, Any] | None = None,
        y: Mapping[str, Any] | None = None,
    ) -> Panel:
        """The next panel, over these fractions of the plot; x, y: what else its axes have."""
        self._count += 1
        made = Panel("" if self._count == 1 else f"{self._count}", (y or {}).get("range", ()))
        for axis, domain, other, more in (("x", across, made.y, x), ("y", up, made.x, y)):
            place: Json = {"anchor": other} if across or up else {}
            place |= {"domain": list(domain)} if domain else {}
            styled = style.x_axis if axis == "x" else style.y_axis
            self.layout[f"{axis}axis{made.number}"] = styled(self.theme, **place, **(more or {}))
        return made

    def maps(
        self, across: Sequence[float], up: Sequence[float] | None = None, *, alike: bool = True, tall: float = 0,
        **axes: Any,
    ) -> Panel:  # fmt: skip
        """A panel with square cells, no grid and no line; alike: all panels show the same window; tall: its height over
        its width, so that a picture that is narrower needs no more room than its maps fill (`fitted`)."""
        first = self._count == 0
        if tall:
            share = (across[1] - across[0]) * tall / (up[1] - up[0] if up else 1)
            self.layout["meta"]["tall"] = max(self.layout["meta"].get("tall", 0), round(share, 4))
        bare = {"showgrid": False, "showline": False, "ticks": "", "constrain": "domain"}
        x = {
            **bare,
            "constraintoward": "left",
            **({"matches": "x"} if alike and not first else {}),
            **axes.pop("x", {}),
        }
        tied = {"matches": "y"} if alike and not first else {"scaleanchor": f"x{'' if first else self._count + 1}"}
        return self.panel(across, up, x=x, y={**bare, "constraintoward": "top", **tied, **axes.pop("y", {})})

    def add(self, *traces: Trace) -> None:
        self._traces += traces

    def steps(self, label: str, texts: Sequence[str], *, plays: bool = False) -> None:
        """Pages show it step by step: those points of which `meta={"at": ...}` of their trace names a later step are
        not there yet. texts: each step in words, the last with all; plays: by itself, as time goes."""
        if len(texts) > 1:
            self.layout["meta"]["along"] = {"label": label, "texts": list(texts), "plays": plays}

    def write(self, *labels: Json) -> None:
        self.layout["annotations"] += labels

    def mark(self, *shapes: Json) -> None:
        self.layout["shapes"] += shapes

    def rule(self, panel: Panel, colour: str, *, x: float | None = None, y: float | None = None, **line: Any) -> None:
        """A thin line behind everything, upright at x or level at y; line: its width and dash, dotted unless said."""
        if y is None:
            place = {"xref": panel.x, "yref": f"{panel.y} domain", "x0": x, "x1": x, "y0": 0, "y1": 1}
        else:
            place = {"xref": f"{panel.x} domain", "yref": panel.y, "x0": 0, "x1": 1, "y0": y, "y1": y}
        self.mark(
            {"type": "line", "layer": "below", **place, "line": {"color": colour, "width": 1, "dash": "dot", **line}}
        )

    def titles(self, panel: Panel, x: str = "", y: str = "", *, left: int | None = None) -> None:
        """Quantity and unit at the upper left, and at the lower right."""
        if y:
            self.write(style.y_title(y, self.theme, panel.x, panel.y, self.left if left is None else left))
        if x:
            self.write(style.x_title(x, self.theme, panel.x, panel.y))

    def head(self, panel: Panel, text: str, *, up: int = 8) -> None:
        """What a map shows, over its upper left corner."""
        place = style.corner(panel.x, panel.y, "left", "top")
        self.write(style.label(text, self.theme, strong=True, **place, xshift=-2, yshift=up))

    def ends(self, panel: Panel, ends: Sequence[style.End], *, room: float = 0, reach: int = 20) -> None:
        """Names where curves end. room: px of the panel's height, else the plot's."""
        placed = style.end_labels(
            ends, self.theme, x=panel.x, y=panel.y, bounds=panel.bounds, room=room or self.plot_height, reach=reach
        )
        self.write(*placed)

    def figure(self) -> go.Figure:
        import plotly.graph_objects as go

        return go.Figure(data=self._traces, layout=self.layout, layout_template=None)


def scatter(
    mode: str,
    x: ArrayLike,
    y: ArrayLike,
    *,
    axes: tuple[str, str] | None = None,
    hover: Sequence[str] | None = None,
    silent: bool = False,
    **more: Any,
) -> Trace:
    """Lines or marks through points [T]. axes: of the panel, else the first; hover: what is said of each point; silent:
    nothing is; neither, where a template says it."""
    trace: Trace = {"type": "scatter", "mode": mode, "x": float32(x), "y": float32(y), **more}
    if axes is not None:
        trace |= {"xaxis": axes[0], "yaxis": axes[1]}
    if hover is not None:
        trace |= {"hovertext": hover, "hoverinfo": "text"}
    if silent:
        trace["hoverinfo"] = "skip"
    return trace


def heat(panel: Panel, values: ArrayLike, *, low: float, high: float, name: str, hover: str, **more: Any) -> Trace:
    """A map of values [Y, X] in the colours of matrices; hover: what is said of each cell."""
    return {
        "type": "heatmap", "z": float32(values), "zmin": low, "zmax": high, "colorscale": style.SEQUENTIAL,
        "name": name, "hovertemplate": f"{hover}<extra></extra>", "xaxis": panel.x, "yaxis": panel.y, **more,
    }  # fmt: skip


def band(x: Floats | Ints, low: Floats, high: Floats, colour: str, *, axes: tuple[str, str], group: str) -> Trace:
    """The ground between two curves [T]."""
    return scatter(
        "lines", np.concatenate([x, x[::-1]]), np.concatenate([low, high[::-1]]), axes=axes, silent=True,
        legendgroup=group, line={"width": 0}, fill="toself", fillcolor=style.softened(colour, 0.14),
    )  # fmt: skip


def beside(count: int, gap: float) -> list[list[float]]:
    """Fractions of the width that equally wide panels take, `gap` apart."""
    width = (1 - gap * (count - 1)) / count
    return [[i * (width + gap), min(i * (width + gap) + width, 1.0)] for i in range(count)]


def parted(items: Sequence[T], domains: Sequence[Sequence[float]]) -> Iterator[tuple[T, Sequence[float]]]:
    """Each panel with its fractions of the width; one alone takes it all."""
    return zip(items, domains if len(items) > 1 else [[domains[0][0], domains[-1][1]]], strict=True)
