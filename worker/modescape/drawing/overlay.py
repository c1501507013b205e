"""Several experiments in one picture: what each has of a figure, laid over each other on the same axes.

    overlay = overlaid(figures["plane"], [("a", "A", data_of_a), ("b", "B", data_of_b)])
    overlay.draw(overlay.call, "light")

A figure says what of it can be laid over that of others (`@plane.lay`), as curves and points without any colour. Colour
means experiment here, up to eight of them; of more, all are grey and the pointed one is lit. Shape goes on to mean
method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

MOST_COLOURS = style.MOST_EXPERIMENTS
MOST_POINTS = 2000  # of all experiments together, in one picture
MARK = "e:"  # before an experiment's slug where it stands among groups
THEORY = "theory"  # the look that is grey
# By panels beside each other: their places, with room for names after each; letters of a name at the end of a curve; px
# of width under which they are shown one at a time, for the names would reach into the next one.
_BESIDE: Mapping[int, tuple[Sequence[Sequence[float]], int, int]] = {
    1: ([[0, 1]], 22, 0), 2: ([[0, 0.36], [0.64, 1]], 16, 720), 3: ([[0, 0.22], [0.39, 0.61], [0.78, 1]], 12, 900),
}  # fmt: skip


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
        return len(self.members) <= MOST_COLOURS

    def look(self, member: Member) -> str:
        """By its place among all that were asked for, whatever this figure has of them: one colour in every picture."""
        if not self.is_coloured:
            return THEORY
        return style.experiment_look([one.slug for one in self.members].index(member.slug))

    def ink(self, member: Member, theme: Theme) -> str:
        if not self.is_coloured:
            return style.softened(style.token("muted", theme), 0.6)
        return style.look(self.look(member)).colour(theme)

    def is_plain(self, entry: Legend) -> bool:
        """Symbols mean methods, and have no colour."""
        return not style.is_of_experiment(entry.look) and entry.look != THEORY

    @property
    def groups(self) -> list[str]:
        """Of methods, in the order of figures."""
        there = {series.group for member in self.shown for series in member.layer.series}
        return [group for group in Group.with_methods(sorted(there)) if group in there]


def overlaid(figure: Figure, options: FigureOptions, members: Sequence[Member]) -> Overlay:
    """members: with their layers. Raises InvalidInput for a figure that cannot be laid over others."""
    if figure.lay is None:
        raise InvalidInput(f"{figure.name} of several experiments cannot be laid over each other", field="name")
    axes = _axes([one for member in members for one in member.layer.axes])
    made = Overlay(options=options, members=tuple(members), axes=axes, size=Size(max(figure.card, 400), 592))
    lost = [f"{member.name}: {member.why}" for member in members if member.why]
    points = sum(len(series.x) for member in members for series in member.layer.series if series.is_points)
    thinned = f"{thousands(MOST_POINTS)} of {thousands(points)} points drawn, evenly." if points > MOST_POINTS else ""
    return replace(
        made,
        legend=(
            *(Legend(one.group, one.name, made.look(one)) for one in made.shown),
            *(Legend.of(group, group_title(group)) for group in made.groups),
        ),
        missing=f"Not here: {'; '.join(lost)}." if lost else "",
        thinned=thinned,
    )


def _axes(of_members: Sequence[Axes]) -> tuple[Axes, ...]:
    """Each panel once; its window shows what each experiment's own does."""
    found: dict[str, Axes] = {}
    for one in of_members:
        windows = [kept.window for kept in (found.get(one.name), one) if kept is not None and kept.window is not None]
        window = (min(low for low, _ in windows), max(high for _, high in windows)) if windows else None
        found[one.name] = replace(one, window=window)
    return tuple(found.values())


def over(figure: Figure) -> Figure:
    """The declaration of the figure of many."""
    return replace(figure, tell=_told, draw=draw)


def _told(data: Overlay) -> Words:
    shown = data.shown
    if data.is_coloured:
        colours = "Colour means experiment here, symbols mean methods."
    else:
        colours = f"{len(data.members)} experiments are too many for colours: all are grey, and the pointed one is lit."
    said = " ".join(filter(None, (one.layer.words for one in shown[:1])))
    told = tuple(Note(one.name, (one.layer.n,), strong=False) for one in shown)
    return Words(
        f"{said} {colours}".strip(),
        f"{listed([one.name for one in shown])} on the same axes." if shown else "No experiment has this figure.",
        Notes(("Experiment", "of"), told) if told else Notes(),
    )


def draw(data: Overlay, theme: Theme) -> go.Figure:
    count = len(data.axes)
    places, letters, narrow = _BESIDE.get(count, (beside(count, 0.1), 0, 0))
    meta: Json = {"narrow": narrow} if narrow else {}
    meta |= {} if data.is_coloured else {"lit": style.token("link", theme)}
    panels = [one.name for one in data.axes]
    picture = Picture("overlay", data, theme, kind="curves-values", panels=panels, meta=meta)
    share = _share(data)
    for i, (axes, across) in enumerate(zip(data.axes, places, strict=True)):
        found = [(one, series) for one in data.shown for series in one.layer.series if series.panel == axes.name]
        panel = picture.panel(
            None if count == 1 else across, x=_counted([s.x for _, s in found], axes),
            y={"range": axes.window or _range([s.y for _, s in found], axes.y_from_zero)},
        )  # fmt: skip
        for member, series in found:
            picture.add(_trace(series, member, data.ink(member, theme), theme, (panel.x, panel.y), share))
        picture.titles(panel, axes.x, axes.y)
        if data.is_coloured and (letters or i == count - 1):
            picture.ends(panel, _ends(data, found, theme, letters or _BESIDE[1][1]))
    return picture.figure()


def in_one_ink(drawn: go.Figure, place: int, theme: Theme) -> go.Figure:
    """The picture of one experiment beside pictures of several: its methods are told by symbol and name, for colour
    means experiment. place: below MOST_COLOURS."""
    import plotly.graph_objects as go

    ink = style.experiment_ink(place, theme)
    parts = (drawn.layout.to_plotly_json(), *(trace.to_plotly_json() for trace in drawn.data))
    layout, *traces = (style.in_one_ink(part, ink, theme) for part in parts)
    return go.Figure(data=traces, layout=layout, layout_template=None)


def _ends(data: Overlay, found: Sequence[tuple[Member, Series]], theme: Theme, letters: int) -> list[style.End]:
    """Names where curves end: of each experiment's main curve its own, and while they are few, of those beside it what
    they are."""
    curves = [(one, s) for one, s in found if not s.is_points and len(s.x) and np.isfinite(s.y[-1])]
    main: dict[str, Series] = {}
    for one, s in sorted(curves, key=lambda pair: (pair[1].group != Group.INDEPENDENT, pair[1].dash != "")):
        main.setdefault(one.slug, s)
    few = len(curves) <= style.MOST_LABELS
    return [
        style.End(_short(one.name if s is main[one.slug] else s.title, letters), float(s.x[-1]), float(s.y[-1]),
                  data.ink(one, theme), strong=s is main[one.slug])
        for one, s in curves if s is main[one.slug] or few
    ]  # fmt: skip


def _share(data: Overlay) -> float:
    points = sum(len(s.x) for one in data.shown for s in one.layer.series if s.is_points)
    return min(1.0, MOST_POINTS / points) if points else 1.0


def _short(name: str, letters: int) -> str:
    """Without its middle, for names of experiments often begin alike."""
    half = letters // 2
    return escape(name if len(name) <= letters else f"{name[: letters - half - 1]}…{name[-half:]}")


def _counted(values: Sequence[np.ndarray], axes: Axes) -> Json:
    """What an x axis shows; steps of one where few whole numbers are counted."""
    whole = np.unique(np.concatenate(values)) if values else np.empty(0)
    steps = {"dtick": 1} if 1 < len(whole) <= 12 and (whole == np.round(whole)).all() and np.ptp(whole) <= 12 else {}
    return {"range": _range(values, axes.x_from_zero), **steps}


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
