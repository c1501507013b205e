"""Several experiments in one picture: what each has of a figure, laid over each other on the same axes.

    overlay = overlaid(figures["plane"], [("a", "A", data_of_a), ("b", "B", data_of_b)])
    overlay.draw(overlay.call, "light")

A figure says what of it can be laid over that of others (`@plane.lay`), as curves and points without any colour. Colour
means experiment here, up to eight of them; of more, all are grey and the pointed one is lit. Shape goes on to mean
method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from modescape.drawing import style
from modescape.drawing.figure import Cell, FigureData, Legend, Note, Notes, Size, Words
from modescape.drawing.groups import group_title
from modescape.drawing.layers import Axes, Layer, Series
from modescape.drawing.numbers import finite, lines, stacked, thin
from modescape.drawing.options import FigureOptions
from modescape.drawing.panels import Picture, Trace, beside, scatter
from modescape.drawing.style import Theme
from modescape.drawing.words import listed, thousands
from modescape.errors import InvalidInput
from modescape.records import Group, Json
from modescape.registry import Figure

if TYPE_CHECKING:
    import plotly.graph_objects as go

MOST_COLOURS = 8
MOST_POINTS = 2000  # of all experiments together, in one picture
MARK = "e:"  # before an experiment's slug where it stands among groups
_NAME = 22  # letters of a name at the end of a curve


_NOTHING = Layer((), ())


@dataclass(frozen=True)
class Member:
    """One experiment in a picture of many. why: it has nothing to show, in words; else its layer."""

    slug: str
    name: str
    layer: Layer = _NOTHING
    why: str = ""

    @property
    def group(self) -> str:
        return f"{MARK}{self.slug}"


@dataclass(frozen=True, kw_only=True)
class Overlay(FigureData):
    """What experiments have of one figure. members: all that were asked for, in that order."""

    options: FigureOptions
    members: tuple[Member, ...]
    axes: tuple[Axes, ...]

    columns = ("experiment", "panel", "method", "series", "x", "y")

    def rows(self) -> list[tuple[Cell, ...]]:
        return stacked(
            lines(member.slug, series.panel, series.group, series.title, series.x, series.y)
            for member in self.members for series in member.layer.series
        )  # fmt: skip

    @property
    def shown(self) -> list[Member]:
        return [member for member in self.members if member.layer.series]

    @property
    def is_coloured(self) -> bool:
        return len(self.shown) <= MOST_COLOURS

    @property
    def groups(self) -> list[str]:
        """Of methods, in the order of figures."""
        there = {series.group for member in self.shown for series in member.layer.series}
        return [group for group in Group.with_methods(sorted(there)) if group in there]


def overlaid(figure: Figure, options: FigureOptions, members: Sequence[Member]) -> Overlay:
    """members: with their layers. Raises InvalidInput for a figure that cannot be laid over others."""
    if figure.lay is None:
        raise InvalidInput(f"{figure.name} of several experiments cannot be laid over each other", field="name")
    axes = tuple({one.name: one for member in members for one in member.layer.axes}.values())
    made = Overlay(options=options, members=tuple(members), axes=axes, size=Size(max(figure.card, 400), 592))
    lost = [f"{member.name}: {member.why}" for member in members if member.why]
    points = sum(len(series.x) for member in members for series in member.layer.series if series.is_points)
    thinned = f"{thousands(MOST_POINTS)} of {thousands(points)} points drawn, evenly." if points > MOST_POINTS else ""
    return replace(
        made,
        legend=(
            *(Legend(one.group, one.name, f"experiment-{k}") for k, one in enumerate(made.shown)),
            *(Legend.of(group, group_title(group)) for group in made.groups),
        ),
        missing=f"Not here: {'; '.join(lost)}." if lost else "",
        thinned=thinned,
    )


def over(figure: Figure) -> Figure:
    """The declaration of the figure of many."""
    return replace(figure, tell=_told, draw=draw)


def _told(data: Overlay) -> Words:
    shown = data.shown
    if data.is_coloured:
        colours = "Colour means experiment here, symbols mean methods."
    else:
        colours = f"{len(shown)} experiments are too many for colours: all are grey, and the pointed one is lit."
    said = " ".join(filter(None, (one.layer.words for one in shown[:1])))
    told = tuple(Note(one.name, (one.layer.n,), strong=False) for one in shown)
    return Words(
        f"{said} {colours}".strip(),
        f"{listed([one.name for one in shown])} on the same axes." if shown else "No experiment has this figure.",
        Notes(("Experiment", "of"), told) if told else Notes(),
    )


def draw(data: Overlay, theme: Theme) -> go.Figure:
    single = len(data.axes) == 1
    picture = Picture(
        "overlay", data, theme, kind="curves-values", panels=[one.name for one in data.axes],
        meta={"lit": style.token("link", theme)} if not data.is_coloured else None,
    )  # fmt: skip
    for axes, across in zip(data.axes, beside(len(data.axes), 0.1), strict=True):
        found = [(k, one, s) for k, one in enumerate(data.shown) for s in one.layer.series if s.panel == axes.name]
        panel = picture.panel(
            None if single else across, x={"range": _range([s.x for _, _, s in found], axes.x_from_zero)},
            y={"range": _range([s.y for _, _, s in found], axes.y_from_zero)},
        )  # fmt: skip
        share = _share(data)
        for place, member, series in found:
            picture.add(_trace(series, member, _ink(data, place, theme), theme, (panel.x, panel.y), share))
        picture.titles(panel, axes.x, axes.y)
    if data.is_coloured:  # names at the right end of the last panel
        main = [(k, one, s) for k, one, s in found if not s.is_points and not s.dash and s.group == Group.INDEPENDENT]
        picture.ends(panel, [
            style.End(_short(one.name), float(s.x[-1]), float(s.y[-1]), _ink(data, k, theme))
            for k, one, s in main if len(s.x) and np.isfinite(s.y[-1])
        ])  # fmt: skip
    return picture.figure()


def _ink(data: Overlay, place: int, theme: Theme) -> str:
    return style.experiment_ink(place, theme) if data.is_coloured else style.softened(style.token("muted", theme), 0.6)


def _share(data: Overlay) -> float:
    points = sum(len(s.x) for one in data.shown for s in one.layer.series if s.is_points)
    return min(1.0, MOST_POINTS / points) if points else 1.0


def _short(name: str) -> str:
    return escape(name if len(name) <= _NAME else f"{name[: _NAME - 1]}…")


def _range(values: Sequence[np.ndarray], from_zero: bool) -> list[float]:
    seen = finite(np.concatenate([np.asarray(one, np.float64) for one in values])) if values else np.empty(0)
    if not len(seen):
        return [0.0, 1.0]
    low, high = float(seen.min()), float(seen.max())
    pad = max(0.05 * (high - low), 1e-3 * max(abs(high), 1e-3))
    return [min(0.0, low) - pad if from_zero else low - pad, high + pad]


def _trace(
    series: Series, member: Member, ink: str, theme: Theme, axes: tuple[str, str], share: float
) -> Trace:  # fmt: skip
    at = np.arange(len(series.x))
    if series.is_points and share < 1:
        at = np.asarray(thin(len(series.x), max(1, int(share * len(series.x)))))
    name = escape(f"{member.name}, {series.title}" if series.title else member.name)
    entry = style.look(series.group)
    more: Json = {}
    mode = "markers" if series.is_points else "lines+markers" if series.marked else "lines"
    if not series.is_points:
        more["line"] = {"color": ink, "width": 1.25 if series.dash else 2, "dash": series.dash or "solid"}
    if "markers" in mode:
        more["marker"] = style.marker(entry, theme, colour=ink)
    return scatter(
        mode, series.x[at], series.y[at], axes=axes, name=name, legendgroup=series.group, cliponaxis=False,
        hovertemplate=f"<b>%{{fullData.name}}</b><br>{series.hover}<extra></extra>",
        meta={"experiment": member.group, "method": series.group}, **more,
    )  # fmt: skip
