"""What lies between the solutions? Planes through weight space, with loss, accuracy and agreement (paper Fig 5, S1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from modescape.drawing import style
from modescape.drawing.figure import Cell, FigureData, Legend, Note, Notes, Words, figure
from modescape.drawing.numbers import finite, float32, known
from modescape.drawing.options import FigureOptions, shown_panels
from modescape.drawing.panels import Panel, Picture, Trace, beside, heat, scatter
from modescape.drawing.reading import FigureNotReady, Floats
from modescape.drawing.style import Theme
from modescape.drawing.words import listed, loss, percent, rate, thousands
from modescape.records import Group, Json, Role
from modescape.registry import method_title, methods
from modescape.results import Results
from modescape.science.landscape import changed
from modescape.studies.landscape.cuts import (
    ACCURACY,
    AGREEMENT,
    LOSS,
    SPLIT_WORDS,
    Anchor,
    anchors_of,
    closed,
    refuse_closed,
    titles,
)
from modescape.studies.landscape.reading import PlaneData, computed, planned_cuts

if TYPE_CHECKING:
    import plotly.graph_objects as go


SHARES = (20.0, 40.0, 60.0, 80.0)  # contours of accuracy and agreement, %
LOSSES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # contours and ticks of the loss
RATIOS = (0.25, 0.5, 0.75)  # contours of disagreement over error rate; unrelated functions lie around 1
RATIO_TOP = 1.25
WORST = 10.0  # losses beyond this times ln K, what knowing nothing costs, are drawn alike


class LandscapeOptions(FigureOptions):
    """Which plane, and what is measured on it."""

    plane: str = Field("", max_length=80, description="Which plane, by name; empty means the first.")
    zoom: Literal["all", "first", "second", "third"] = Field(
        "all", description="The whole plane, or where samples and checkpoints crowd around one of its solutions."
    )
    quantity: Literal["functions", "accuracy", "loss", "diversity"] = Field(
        "functions",
        description="functions: accuracy, and agreement with each solution; accuracy, loss: on training and on other "
        "images; diversity: disagreement with each solution over the error rate.",
    )
    split: Literal["test", "validation", "train"] = Field("test", description="Images predictions are compared on.")
    surface: Literal["flat", "rotatable"] = Field(
        "flat", description="flat: heat maps with contours; rotatable: surfaces to turn, in browsers with WebGL."
    )
    panel: Literal["all", "accuracy", "training", "other", "first", "second", "third"] = shown_panels(
        "all", "All panels"
    )

    @classmethod
    def choices(cls, results: Results) -> Mapping[str, Mapping[str, str]]:
        return {"plane": titles(results, lines=False)}


@dataclass(frozen=True)
class Map:
    """One map. values [Y, X], NaN where nothing is computed; own: of each mark, at its own weights; scale says how
    values become colours."""

    key: str
    title: str
    values: Floats
    own: Floats
    scale: Literal["share", "loss", "ratio"]


@dataclass(frozen=True)
class Mark:
    """A solution on the plane or above it: the coordinates of its projection, and how far away it is over its norm."""

    number: int
    run: int
    group: str
    words: str
    x: float
    y: float
    relative: float


@dataclass(frozen=True, kw_only=True)
class Landscape(FigureData):
    """One plane. marks lie on it or are projected; cut: as computed, its scores are what the table shows whatever is
    drawn; split: whose predictions are shown."""

    options: LandscapeOptions
    panels: tuple[Map, ...]
    anchors: tuple[Anchor, ...]
    marks: tuple[Mark, ...]
    splits: tuple[str, ...]
    ceiling: float
    cut: PlaneData
    split: str

    @property
    def card_height(self) -> int:
        return {1: 440, 2: 540, 3: self.size.card}.get(len(self.panels), 350)

    @property
    def page_height(self) -> int:
        """One row of up to three panels about as high as they are wide, or two rows."""
        return {1: self.size.page, 2: 552, 3: 400}.get(len(self.panels), 1040)

    @property
    def columns_of_panels(self) -> int:
        return 2 if len(self.panels) > 3 and self.is_large else len(self.panels)

    @property
    def columns(self) -> tuple[str, ...]:
        found = ["what", "solution", "run", "x", "y", "residual_over_norm"]
        for split in self.splits:
            found += [f"{split}_loss", f"{split}_accuracy"]
            found += [f"{split}_agreement_{anchor.number}" for anchor in self.anchors]
        return tuple(found)

    def rows(self) -> list[tuple[Cell, ...]]:
        """Solutions with their own scores, then every computed node of the plane."""
        lines: list[tuple[Cell, ...]] = []
        for mark, scores in zip(self.marks, self.cut.own, strict=True):
            place = (known(mark.x), known(mark.y), known(mark.relative))
            lines.append((mark.words, mark.number, mark.run, *place, *_cells(scores)))
        for j, y in enumerate(self.cut.y):
            for i, x in enumerate(self.cut.x):
                if np.isfinite(self.cut.scores[j, i, 0, ACCURACY]):
                    lines.append(("plane", None, None, float(x), float(y), 0.0, *_cells(self.cut.scores[j, i])))
        return lines


def _cells(scores: Floats) -> list[Cell]:
    return [known(float(value)) for value in scores.ravel()]


@figure(
    "landscape",
    order=90,
    title="Landscape",
    question="What lies between the solutions?",
    summary="Accuracy, loss and agreement on a plane through solutions, with the trajectories and samples near it.",
    source="Fort, Hu, Lakshminarayanan 2019, Figures 5 and S1; Garipov et al. 2018; Li et al. 2018",
    paper="Fig 5",
    needs=("plane",),
    card=400,
    full=True,
)
def landscape(results: Results, options: LandscapeOptions) -> Landscape:
    plane, ignored = _chosen(results, options.plane)
    anchors = anchors_of(results, plane)
    plane, elsewhere = _of_the_runs(plane, anchors)
    splits = tuple(view["split"] for view in plane.views)
    split = options.split if options.split in splits else splits[-1]
    marks = tuple(_mark(point) for point in plane.points)
    panels = _panels(options.quantity, plane, anchors, splits, split)
    shown = tuple(panel for panel in panels if options.panel in ("all", panel.key)) or panels
    complete = plane.done == plane.cells
    missing = [
        ignored,
        elsewhere,
        closed(results, [name for name, cut in planned_cuts(results).items() if cut["kind"] != "line"]),
    ]
    if not plane.points:
        missing.append("Trajectories, samples and the solutions’ own scores are not computed yet.")
    if options.split not in splits:
        missing.append(
            f"This plane was evaluated on {SPLIT_WORDS[split]} images, not on {SPLIT_WORDS[options.split]} ones."
        )
    return Landscape(
        options=options,
        panels=shown,
        anchors=anchors,
        marks=marks,
        splits=splits,
        ceiling=WORST * float(np.log(len(results.class_names))),
        cut=plane,
        split=split,
        legend=_legend(marks),
        partial="" if complete else f"after {plane.done} of {plane.cells} points",
        missing=" ".join(filter(None, missing)),
    )


def _chosen(results: Results, name: str) -> tuple[PlaneData, str]:
    """The plane of that name, else the first; and what to say if there is no such plane. Raises FigureNotReady."""
    planned = [key for key, params in planned_cuts(results).items() if params["kind"] != "line"]
    planes = {plane.name: plane for plane in computed(results) if plane.params["kind"] != "line"}
    refuse_closed(results, [name] if name in planned else planned, planes)
    if not planned and not any(chosen.kind != "line" for chosen in results.spec.planes):
        raise FigureNotReady("no plane in this spec; select three solutions, or clone it with one", waits_for=())
    if name in planned and name not in planes:
        raise FigureNotReady("no point of this plane is computed yet", waits_for=("plane",))
    if not planes:
        raise FigureNotReady("no point of the plane is computed yet", waits_for=("plane",))
    if not name or name in planes:
        return planes.get(name) or next(iter(planes.values())), ""
    return next(iter(planes.values())), f"There is no plane {name!r} here, so the first one is shown."


def _of_the_runs(plane: PlaneData, anchors: Sequence[Anchor]) -> tuple[PlaneData, str]:
    """The plane without samples of chains that began at weights of their own, unless it goes through them; what to say.

    Where such a sample projects to says nothing: nearly all of it is off the plane.
    """
    held = {anchor.number for anchor in anchors}
    strange = [
        point["number"] not in held and point["method"] in methods and methods[point["method"]].trained == "fresh"
        for point in plane.points
    ]
    off = [point["relative"] for point, is_strange in zip(plane.points, strange, strict=True) if is_strange]
    if not off:
        return plane, ""
    kept = [i for i, is_strange in enumerate(strange) if not is_strange]
    known_ones = [distance for distance in off if distance is not None]
    far = f"; they lie at least {rate(min(known_ones), 2)} of their norm off the plane" if known_ones else ""
    words = f"{len(off)} sample{'s' * (len(off) > 1)} of chains with initial weights of their own not drawn{far}."
    return replace(plane, points=[plane.points[i] for i in kept], own=plane.own[kept]), words


def _mark(point: Mapping[str, Any]) -> Mark:
    group = point["method"] or (Group.INDEPENDENT if point["role"] == Role.OPTIMUM else Group.TRAJECTORY)
    if group == Group.INDEPENDENT:
        words = f"run {point['run']}, optimum"
    elif group == Group.TRAJECTORY:
        words = f"run {point['run']}, epoch {point['epoch']:.4g}"
    else:
        words = f"{method_title(group)}, sample {point['index'] + 1}, run {point['run']}"
    relative = point["relative"] if point["relative"] is not None else np.nan
    return Mark(point["number"], point["run"], group, words, point["x"], point["y"], relative)


def _panels(
    quantity: str, plane: PlaneData, anchors: Sequence[Anchor], splits: Sequence[str], split: str
) -> tuple[Map, ...]:
    at = splits.index(split)
    grid, own = plane.scores, plane.own
    keys = ("first", "second", "third")
    if quantity in ("loss", "accuracy"):
        place, scale = (LOSS, "loss") if quantity == "loss" else (ACCURACY, "share")
        return tuple(
            Map(key, f"{SPLIT_WORDS[name]} {quantity}", grid[..., s, place], own[:, s, place], scale)  # type: ignore[arg-type]
            for s, (key, name) in enumerate(zip(("training", "other"), splits, strict=True))
        )
    if quantity == "diversity":
        return tuple(
            Map(
                key, f"changed labels ÷ errors, {anchor.words}",
                changed(grid[..., at, AGREEMENT + a], grid[..., at, ACCURACY]),
                changed(own[:, at, AGREEMENT + a], own[:, at, ACCURACY]),
                "ratio",
            )
            for a, (key, anchor) in enumerate(zip(keys, anchors, strict=False))
        )  # fmt: skip
    accuracy = Map("accuracy", f"{SPLIT_WORDS[split]} accuracy", grid[..., at, ACCURACY], own[:, at, ACCURACY], "share")
    return accuracy, *(
        Map(key, f"agreement with {anchor.words}", grid[..., at, AGREEMENT + a], own[:, at, AGREEMENT + a], "share")
        for a, (key, anchor) in enumerate(zip(keys, anchors, strict=False))
    )


_WHERE = {
    "radial": "The plane through the origin of weight space and the solutions {names}",
    "affine": "The plane through the solutions {names}",
    "random": "The plane around {names} along two random directions, each filter as long as its own",
}


@landscape.tell
def tell(data: Landscape) -> Words:
    own = {point["number"]: scores for point, scores in zip(data.cut.points, data.cut.own, strict=True)}
    return Words(_caption(data), _summary(data, own), _notes(data, own))


def _caption(data: Landscape) -> str:
    plane, anchors, marks = data.cut, data.anchors, data.marks
    images = {view["split"]: int(view["images"]) for view in plane.views}
    names = listed([anchor.words for anchor in anchors])
    counted = listed([f"the first {thousands(n)} {SPLIT_WORDS[name]} images" for name, n in images.items()])
    parts = [f"{_WHERE[plane.params['kind']].format(names=names)}: {len(plane.x)} × {len(plane.y)} nodes, {counted}."]
    held = {anchor.number for anchor in anchors}
    away = [mark for mark in marks if mark.number not in held and np.isfinite(mark.relative)]
    if away:
        far = max(away, key=lambda mark: mark.relative)
        parts.append(
            "Checkpoints and samples are drawn where they project to and are not on the plane: the farthest, "
            f"{far.words}, is {rate(far.relative, 2)} of its norm away."
        )
    if plane.params["kind"] == "radial":
        parts.append("Distances are in weight space, the origin is the network of zeros.")
    return " ".join(parts)


def _summary(data: Landscape, own: Mapping[int, Floats]) -> str:
    plane, anchors, split, at = data.cut, data.anchors, data.split, data.splits.index(data.split)
    held = [anchor for anchor in anchors if anchor.number in own]
    if not held:
        return f"{plane.done} of {plane.cells} points of the plane are computed."
    words = [f"{anchor.words} has {percent(own[anchor.number][at, ACCURACY])} %" for anchor in held]
    text = f"On {SPLIT_WORDS[split]} images {listed(words)} accuracy"
    if len(held) > 1:
        agreement = own[held[1].number][at, AGREEMENT]
        text += f"; {held[1].words} gives {percent(agreement)} % of the labels that {held[0].words} gives"
    best = np.nanmax(plane.scores[..., at, ACCURACY])
    return f"{text}. The best node of the plane reaches {percent(float(best))} %."


def _notes(data: Landscape, own: Mapping[int, Floats]) -> Notes:
    anchors, marks, splits, split, at = data.anchors, data.marks, data.splits, data.split, data.splits.index(data.split)
    lines = []
    for anchor in anchors:
        if anchor.number in own:
            scores = own[anchor.number]
            values = (percent(scores[at, ACCURACY]), loss(float(scores[0, LOSS])), loss(float(scores[-1, LOSS])))
            lines.append(Note(anchor.words, values, look=Group.INDEPENDENT))
    away: dict[str, float] = {}
    for mark in marks:
        if mark.group != Group.INDEPENDENT and np.isfinite(mark.relative):
            away[mark.group] = max(away.get(mark.group, 0.0), mark.relative)
    text = []
    for group, far in away.items():
        name = "checkpoints" if group == Group.TRAJECTORY else method_title(group)
        text.append(f"{name[:1].upper()}{name[1:]}: at most {rate(far, 2)} of their norm off the plane.")
    head = ("", f"{split} acc., %", f"{splits[0]} loss, nats", f"{splits[-1]} loss, nats")
    return Notes(head, tuple(lines), tuple(text))


def _legend(marks: Sequence[Mark]) -> tuple[Legend, ...]:
    groups = [mark.group for mark in marks]
    titles: dict[str, str] = {Group.INDEPENDENT: "optima", Group.TRAJECTORY: "checkpoints, projected"}
    return tuple(
        Legend.of(group, titles.get(group) or f"{method_title(group)}, projected", groups.count(group))
        for group in dict.fromkeys(groups)
    )


@dataclass(frozen=True)
class Scale:
    """How values become colours: z from low to high, bright where alike or high unless reversed; ticks in z."""

    kind: str
    low: float
    high: float
    reverse: bool
    ticks: tuple[float, ...]
    texts: tuple[str, ...]
    contours: tuple[float, ...]  # of `level`

    def z(self, values: Floats) -> Floats:
        """What is coloured: percent, logarithms of losses, or ratios."""
        if self.kind != "loss":
            return self.level(values)
        with np.errstate(divide="ignore"):
            return np.clip(np.log10(values), self.low, self.high)

    def level(self, values: Floats) -> Floats:
        """What contours are labelled with: percent, losses, or ratios."""
        return 100 * values if self.kind == "share" else values

    def text(self, value: float) -> str:
        """A value as people read it."""
        if self.kind == "loss":
            return loss(value) if np.isfinite(value) else "∞"
        return f"{percent(value)} %" if self.kind == "share" else rate(value, 2)

    def is_bright(self, z: float) -> bool:
        place = (z - self.low) / (self.high - self.low)
        return (1 - place if self.reverse else place) > 0.5


def _scale(data: Landscape) -> Scale:
    """One scale for all panels of the picture."""
    kind = data.panels[0].scale
    if kind == "share":
        return Scale(kind, 0.0, 100.0, False, (0.0, 50.0, 100.0), ("0", "50", "100 %"), SHARES)
    seen = np.concatenate([finite(panel.values) for panel in data.panels])
    if kind == "ratio":
        beyond = "≥ " if (seen > RATIO_TOP).any() else ""
        return Scale(kind, 0.0, RATIO_TOP, True, (0.0, 0.5, RATIO_TOP), ("0", ".5", f"{beyond}1.25"), RATIOS)
    low = max(float(seen.min(initial=data.ceiling)), 1e-3)
    high = min(max(float(seen.max(initial=low)), 1.01 * low), max(data.ceiling, 2 * low))
    inside = [value for value in LOSSES if low < value < high] or [float(np.sqrt(low * high))]
    ticks = inside[:: -(-len(inside) // 3)]
    beyond = "≥ " if (seen > high).any() or any(np.isinf(panel.values).any() for panel in data.panels) else ""
    texts = [f"{value:.2g}".replace("0.", ".", 1) for value in (*ticks, high)]
    texts[-1] = beyond + texts[-1]
    places = [*(float(np.log10(value)) for value in ticks), float(np.log10(high))]
    if len(places) > 1 and places[-1] - places[-2] < 0.2 * (places[-1] - np.log10(low)):
        del texts[-2], places[-2]
    return Scale(kind, float(np.log10(low)), float(np.log10(high)), False, tuple(places), tuple(texts), tuple(inside))


@landscape.draw
def draw(data: Landscape, theme: Theme) -> go.Figure:
    return _surfaces(data, theme) if data.options.surface == "rotatable" else _maps(data, theme)


def _maps(data: Landscape, theme: Theme) -> go.Figure:
    columns = data.columns_of_panels
    rows, count = -(-len(data.panels) // columns), len(data.panels)
    margin = {"r": 24, "t": 64, "b": 44}  # above: the colour bar, and under it the titles
    picture = Picture(
        "landscape", data, theme, kind="maps", revision=f"landscape-{data.options.zoom}", margin=margin,
        panels=[panel.key for panel in data.panels],
    )  # fmt: skip
    scale = _scale(data)
    across, up = _window(data)
    widths, gap_up = beside(columns, 0.035), 0.08
    tall = (1 - gap_up * (rows - 1)) / rows
    for i, shown in enumerate(data.panels):
        row, column = divmod(i, columns)
        top = 1 - row * (tall + gap_up)
        panel = picture.maps(
            widths[column],
            [max(0.0, top - tall), top],
            tall=(up[1] - up[0]) / (across[1] - across[0]),
            x={"nticks": 5, "range": across, "showticklabels": i + columns >= count},
            y={"nticks": 5, "range": up, "showticklabels": column == 0},
        )
        x, y = panel.x, panel.y
        picture.add(_map(data, shown, scale, theme, panel, bar=i == 0))
        if np.isfinite(data.cut.scores[..., ACCURACY]).all():
            picture.add(*_contours(data, shown, scale, x, y))
        else:
            picture.mark(_ground(data, theme, x, y))
        picture.add(*_paths(data, shown, scale, theme, x, y))
        picture.head(panel, shown.title, up=4)
        picture.write(*_names(data, theme, x, y))
        if i == (rows - 1) * columns:
            picture.write(style.x_title(_AXES[data.cut.params["kind"]], theme, x, y) | {"yshift": -22})
    return picture.figure()


_AXES = {"radial": "distance in weight space", "affine": "distance in weight space", "random": "step, filter norms"}


def _window(data: Landscape) -> tuple[list[float], list[float]]:
    """What is seen of x and y: everything, or the neighbourhood of one anchor, as far as its run's samples project to,
    without any as far as its checkpoints."""
    place = ("first", "second", "third").index(data.options.zoom) if data.options.zoom != "all" else len(data.anchors)
    if place >= len(data.anchors):
        return _reach(data.cut.x), _reach(data.cut.y)
    at = data.anchors[place]
    mine = [mark for mark in data.marks if mark.run == at.run and mark.number != at.number]
    near = [mark for mark in mine if mark.group not in (Group.TRAJECTORY, Group.INDEPENDENT)] or mine
    far = max((max(abs(mark.x - at.x), abs(mark.y - at.y)) for mark in near), default=0.0)
    half = 1.25 * far or float(data.cut.x[1] - data.cut.x[0])
    return [at.x - half, at.x + half], [at.y - half, at.y + half]


def _reach(nodes: Floats) -> list[float]:
    half = (nodes[1] - nodes[0]) / 2
    return [float(nodes[0] - half), float(nodes[-1] + half)]


def _map(data: Landscape, shown: Map, scale: Scale, theme: Theme, panel: Panel, *, bar: bool) -> Trace:
    hover = f"{shown.title} %{{z:.3~g}}{' %' if shown.scale == 'share' else ''}"
    more: Json = {"colorbar": _bar(scale, theme)} if bar else {}
    if shown.scale == "loss":  # colours are logarithms; people read losses
        more["text"] = [[scale.text(float(value)) for value in row] for row in shown.values]
        hover = f"{shown.title} %{{text}}"
    return heat(
        panel, scale.z(shown.values), low=scale.low, high=scale.high, name=shown.title, hover=hover, showscale=bar,
        x=float32(data.cut.x), y=float32(data.cut.y), reversescale=scale.reverse, hoverongaps=False, **more,
    )  # fmt: skip


def _bar(scale: Scale, theme: Theme) -> Json:
    """One for all panels, in a row of its own above their titles."""
    bar = style.colour_bar(theme, x=1.0, length=120, ticks=list(scale.ticks), texts=list(scale.texts))
    return bar | {"lenmode": "pixels", "ypad": 26}


def _contours(data: Landscape, panel: Map, scale: Scale, x: str, y: str) -> list[Trace]:
    """A few labelled lines, light on the dark half of the colours and dark on the bright one. A loss's levels lie
    evenly on no linear scale, so each is a trace of its own."""
    values = scale.level(panel.values)
    seen = finite(values)
    levels = [level for level in scale.contours if seen.min(initial=np.inf) < level < seen.max(initial=-np.inf)]
    traces = []
    for bright in (False, True):
        mine = [v for v in levels if scale.is_bright(np.log10(v) if panel.scale == "loss" else v) == bright]
        even = [mine] if panel.scale != "loss" else [[level] for level in mine]
        ink = style.token("text", "light" if bright else "dark")
        for group in filter(None, even):
            step = group[1] - group[0] if len(group) > 1 else 1.0
            traces.append(
                {
                    "type": "contour",
                    "x": float32(data.cut.x),
                    "y": float32(data.cut.y),
                    "z": float32(np.minimum(values, 2 * group[-1]) if panel.scale == "loss" else values),
                    "autocontour": False,
                    "contours": {
                        "coloring": "none",
                        "start": group[0],
                        "end": group[-1],
                        "size": step,
                        "showlabels": True,
                        "labelformat": ".2~g",
                        "labelfont": {"size": 12, "color": ink},
                    },
                    "line": {"color": ink, "width": 1},
                    "hoverinfo": "skip",
                    "showscale": False,
                    "showlegend": False,
                    "xaxis": x,
                    "yaxis": y,
                }
            )
    return traces


def _ground(data: Landscape, theme: Theme, x: str, y: str) -> Json:
    """What shows through where the plane is not computed yet."""
    across, up = _reach(data.cut.x), _reach(data.cut.y)
    place = {"x0": across[0], "x1": across[1], "y0": up[0], "y1": up[1]}
    return {**style.ground(theme, x, y, 1), **place}


def _paths(data: Landscape, panel: Map, scale: Scale, theme: Theme, x: str, y: str) -> list[Trace]:
    """Projected trajectories in the inks of their runs, samples as their methods, origin and optima."""
    traces: list[Trace] = []
    card = style.token("card", theme)
    runs = dict.fromkeys(mark.run for mark in data.marks if mark.group in (Group.TRAJECTORY, Group.INDEPENDENT))
    axes: Json = {"xaxis": x, "yaxis": y, "cliponaxis": True}
    for run in runs:
        path = _trajectory(data, run)
        place = [data.marks[i].x for i in path], [data.marks[i].y for i in path]
        for colour, width in ((card, 4.5), (style.run_ink(run, theme), 2)):  # a rim, seen on any colour
            line = {"color": colour, "width": width}
            strand = scatter("lines", *place, silent=True, legendgroup=Group.TRAJECTORY, line=line, **axes)
            traces.append({**strand, "meta": {"run": run}})
    groups = dict.fromkeys(mark.group for mark in data.marks)
    # samples lie within a few pixels of their optimum: on top
    order: dict[str, int] = {Group.INDEPENDENT: 0, Group.TRAJECTORY: 1}
    for group in sorted(groups, key=lambda name: order.get(name, 2)):
        at = [i for i, mark in enumerate(data.marks) if mark.group == group]
        marker = style.marker(style.look(group), theme, size=11 if group == Group.INDEPENDENT else 6)
        if group == Group.TRAJECTORY:
            marker |= {"symbol": [style.run_symbol(data.marks[i].run) for i in at], "size": 5}
            marker |= {"color": [style.run_ink(data.marks[i].run, theme) for i in at]}
            marker |= {"line": {"color": card, "width": 1}}
        traces.append(scatter(
            "markers", [data.marks[i].x for i in at], [data.marks[i].y for i in at],
            hover=[_hover(data.marks[i], panel, scale, i) for i in at],
            customdata=np.array([data.marks[i].number for i in at], dtype=np.int32), legendgroup=group,
            meta={"method": group}, marker=marker, **axes,
        ))  # fmt: skip
    return [*traces, *_fixed(data, theme, x, y)]


def _fixed(data: Landscape, theme: Theme, x: str, y: str) -> list[Trace]:
    """The origin, and the solutions the plane goes through while their own scores are not there yet."""
    card, ink = style.token("card", theme), style.token("text", theme)
    spots = [(0.0, 0.0)] if data.cut.params["kind"] == "radial" else []
    known_ones = {mark.number for mark in data.marks}
    spots += [(anchor.x, anchor.y) for anchor in data.anchors if anchor.number not in known_ones]
    if not spots:
        return []
    marker = {"symbol": "cross", "size": 9, "color": ink, "line": {"color": card, "width": 1}}
    across, up = zip(*spots, strict=True)
    return [scatter("markers", across, up, axes=(x, y), silent=True, marker=marker)]


def _trajectory(data: Landscape, run: int) -> list[int]:
    """Indices of a run's marks in the order of training: solutions are numbered as they were kept."""
    of_it = [i for i, m in enumerate(data.marks) if m.run == run and m.group in (Group.TRAJECTORY, Group.INDEPENDENT)]
    return sorted(of_it, key=lambda i: data.marks[i].number)


def _hover(mark: Mark, panel: Map, scale: Scale, i: int) -> str:
    off = f"{rate(mark.relative, 2)} of its norm off the plane" if mark.relative > 5e-3 else "on the plane"
    return f"<b>{mark.words}</b><br>{panel.title}  {scale.text(float(panel.own[i]))}<br>{off}"


def _names(data: Landscape, theme: Theme, x: str, y: str) -> list[Json]:
    """Names beside the solutions and the origin, on a ground that lets the map through; of two at one height the right
    one's is under its solution."""
    ground = style.faint("card", theme, 0.8)
    (left, end), (low, high) = _window(data)
    found: list[Json] = []
    taken: list[float] = []
    for anchor in sorted(data.anchors, key=lambda anchor: anchor.x):
        side = "right" if anchor.x > (left + end) / 2 else "left"
        meets = any(abs(anchor.y - other) < 0.15 * (high - low) for other in taken)
        taken.append(anchor.y)
        place = {"x": anchor.x, "y": anchor.y, "xref": x, "yref": y, "xanchor": side}
        place |= {"yanchor": "top" if meets else "bottom"}
        shift = {"xshift": -6 if side == "right" else 6, "yshift": -7 if meets else 7}
        found.append(style.label(anchor.words, theme, strong=True, bgcolor=ground, **place, **shift))
    if data.cut.params["kind"] == "radial":
        place = {"x": 0, "y": 0, "xref": x, "yref": y, "xanchor": "left", "yanchor": "top"}
        found.append(style.label("origin", theme, strong=True, bgcolor=ground, **place, xshift=6, yshift=-4))
    return found


def _surfaces(data: Landscape, theme: Theme) -> go.Figure:
    """The same maps as surfaces to turn; solutions stand at their own values, above or below the plane's."""
    columns = data.columns_of_panels
    rows = -(-len(data.panels) // columns)
    picture = Picture(
        "landscape", data, theme, kind="maps", revision="surface", margin={"r": 24, "t": 64, "b": 12},
        panels=[panel.key for panel in data.panels],
    )  # fmt: skip
    scale = _scale(data)
    for i, panel in enumerate(data.panels):
        name = "scene" if i == 0 else f"scene{i + 1}"
        row, column = divmod(i, columns)
        left, right, top = column / columns, (column + 1) / columns, 1 - row / rows
        scene = _scene(data, panel, scale, theme, columns)
        picture.layout[name] = scene | {"domain": {"x": [left, right], "y": [max(0.0, top - 0.94 / rows), top]}}
        picture.add(
            {
                "type": "surface",
                "x": float32(data.cut.x),
                "y": float32(data.cut.y),
                "z": float32(scale.z(panel.values)),
                "cmin": scale.low,
                "cmax": scale.high,
                "colorscale": style.SEQUENTIAL,
                "reversescale": scale.reverse,
                "showscale": i == 0,
                "colorbar": _bar(scale, theme),
                "hoverinfo": "skip",
                "scene": name,
            }
        )
        picture.add(*_heights(data, panel, scale, theme, name))
        place = {"xref": "paper", "yref": "paper", "x": left, "y": top, "xanchor": "left", "yanchor": "bottom"}
        picture.write(style.label(panel.title, theme, strong=True, **place, yshift=4))
    return picture.figure()


_SHAPES = {"star": "diamond", "triangle-up": "diamond-open"}  # a scene has few symbols
_FLAT = ("circle", "circle-open", "cross", "diamond", "diamond-open", "square", "square-open", "x")


def _heights(data: Landscape, panel: Map, scale: Scale, theme: Theme, scene: str) -> list[Trace]:
    """Trajectories, samples, optima and the origin in a scene; each solution at its own value."""
    heights = scale.z(panel.own)

    def marks(at: Sequence[int], group: str, **how: Any) -> Trace:
        return {
            "type": "scatter3d",
            "x": float32([data.marks[k].x for k in at]),
            "y": float32([data.marks[k].y for k in at]),
            "z": float32(heights[list(at)]),
            "hovertext": [_hover(data.marks[k], panel, scale, k) for k in at],
            "hoverinfo": "text",
            "legendgroup": group,
            "scene": scene,
            **how,
        }

    traces = []
    for run in dict.fromkeys(mark.run for mark in data.marks):
        ink = style.run_ink(run, theme)
        line = {"line": {"color": ink, "width": 4}, "marker": {"size": 2.5, "color": ink}}
        traces.append(marks(_trajectory(data, run), Group.TRAJECTORY, mode="lines+markers", meta={"run": run}, **line))
    names = {anchor.number: anchor.words for anchor in data.anchors}
    font = {"size": 12, "color": style.token("text", theme)}
    for group in dict.fromkeys(mark.group for mark in data.marks if mark.group != Group.TRAJECTORY):
        at = [k for k, mark in enumerate(data.marks) if mark.group == group]
        symbol = _SHAPES.get(style.look(group).symbol, style.look(group).symbol)
        edge = {"color": style.token("card", theme), "width": 1}
        marker = {
            "symbol": symbol if symbol in _FLAT else "circle",
            "color": style.look(group).colour(theme),
            "line": edge,
        }
        size = {"size": 6 if group == Group.INDEPENDENT else 3}
        words = {"text": [names.get(data.marks[k].number, "") for k in at], "textposition": "top center"}
        traces.append(marks(at, group, mode="markers+text", marker=marker | size, textfont=font, **words))
    if data.cut.params["kind"] == "radial":
        row, column = int(np.abs(data.cut.y).argmin()), int(np.abs(data.cut.x).argmin())
        here = {"x": [0.0], "y": [0.0], "z": float32(scale.z(panel.values[row, column : column + 1]))}
        traces.append(
            {
                "type": "scatter3d", "mode": "markers+text", **here, "text": ["origin"],
                "textposition": "bottom center", "textfont": font,
                "marker": {"symbol": "cross", "size": 4, "color": font["color"]}, "hoverinfo": "skip", "scene": scene,
            }
        )  # fmt: skip
    return traces


def _scene(data: Landscape, panel: Map, scale: Scale, theme: Theme, columns: int) -> Json:
    axis = {
        "color": style.token("muted", theme),
        "gridcolor": style.token("hairline", theme),
        "showbackground": False,
        "zeroline": False,
        "nticks": 5,
        "title": {"text": ""},
    }
    room = 0.02 * (scale.high - scale.low)  # what lies exactly at an end would be cut to speckles
    upright = {
        **axis,
        "range": [scale.low - room, scale.high + room],
        "tickvals": list(scale.ticks),
        "ticktext": list(scale.texts),
    }
    back = {1: 1.0, 2: 1.2}.get(columns, 1.35)  # narrow scenes are cut off at their sides
    return {
        "xaxis": axis,
        "yaxis": axis,
        "zaxis": upright,
        "dragmode": "turntable",
        "aspectmode": "manual",
        "aspectratio": {"x": 1, "y": len(data.cut.y) / len(data.cut.x), "z": 0.6},
        "camera": {"eye": {"x": -1.15 * back, "y": -1.3 * back, "z": 0.95 * back}},
        "uirevision": panel.key,
    }
