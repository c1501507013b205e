"""Which corruptions? Scores and divergence type by type (paper Fig 9 and 10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from modescape.drawing import style
from modescape.drawing.figure import Cell, Legend, Note, Notes, Words, figure
from modescape.drawing.numbers import float32, lines, stacked
from modescape.drawing.panels import Picture, Trace, band, scatter
from modescape.drawing.reading import FigureNotReady
from modescape.drawing.style import Theme
from modescape.drawing.words import listed, rate, thousands
from modescape.figures.shared.scores import drawn, value_of
from modescape.records import Group, Json
from modescape.results import Results
from modescape.studies.shift.curves import (
    PLACES,
    SOLID,
    TITLES,
    WORDS,
    Line,
    Metric,
    ShiftData,
    ShiftOptions,
    bounds_of,
    group_title,
    hover,
    own_images,
    read_lines,
    source_of,
)
from modescape.study import said_of_chains

if TYPE_CHECKING:
    import plotly.graph_objects as go


class TypeOptions(ShiftOptions):
    """How types of corruption are told apart."""

    metric: Metric = Field("accuracy", description="What is measured.")
    panel: Literal["all", "types", "intensities"] = Field(
        "all",
        description="all: a small picture for each type; types: a box for each type, over its intensities; "
        "intensities: a box for each intensity, over the types (narrow screens show boxes).",
    )


_ACROSS, _PICTURE = 6, 216  # small pictures in a row, and the least height in px of one on a page
_NAMED = 4  # small pictures, at most, whose lines are named where they end
_HEAD = 16  # px above the first row, for what is measured


@dataclass(frozen=True, kw_only=True)
class ShiftTypes(ShiftData):
    """Lines of every group and type: size 1 and `solid` (scores) or 0 (divergences). types: in the order drawn; shown:
    groups drawn, independent runs first; gain: what `solid` runs gain over one at the largest intensity, by type;
    names: of types that somebody has named, as they were given."""

    options: TypeOptions
    types: tuple[str, ...]
    shown: tuple[str, ...]
    gain: Mapping[str, float]
    names: Mapping[str, str]

    columns = ("corruption", "method", "measure", "runs", "members", "intensity", "value", "sd", "units", "images")

    def rows(self) -> list[tuple[Cell, ...]]:
        return stacked(
            lines(
                self.names.get(line.corruption, line.corruption), line.group, line.metric, line.size or None,
                line.members, self.intensities(line),
                line.value, line.sd, line.units, self.images(line),
            )
            for line in self.lines
        )  # fmt: skip

    def line(self, group: str, corruption: str, size: int) -> Line | None:
        found = [one for one in self.lines if (one.group, one.corruption, one.size) == (group, corruption, size)]
        return found[0] if found else None

    @property
    def changed(self) -> list[str]:
        """Types at intensities; the others have images of their own and are at none."""
        return [name for name in self.types if self.is_graded(name)]

    @property
    def drawn(self) -> list[tuple[str, int]]:
        """(group, size) of the lines of one picture: one run and the ensemble of the first, one run of the others."""
        if self.options.metric == "js_mean":
            return [(group, 0) for group in self.shown]
        found = []
        for group in self.shown:
            found.append((group, 1))
            if group == Group.INDEPENDENT and self.solid > 1:
                found.append((group, self.solid))
        return found

    @property
    def card_height(self) -> int:
        return self.down * 176 + 20 + _HEAD if self.options.panel == "all" else 440

    @property
    def page_height(self) -> int:
        small = 20 + _HEAD + self.down * max(_PICTURE, (self.size.page - 20 - _HEAD) // self.down)
        return small if self.options.panel == "all" else self.size.page

    @property
    def down(self) -> int:
        """Rows of small pictures."""
        return -(-len(self.types) // _ACROSS)

    @property
    def drawn_lines(self) -> list[Line]:
        """What the axes must hold: the table has groups that no picture shows."""
        return [line for line in self.lines if (line.group, line.size) in self.drawn]


@figure(
    "shift-types",
    order=62,
    title="Shift by type",
    question="Which corruptions?",
    summary="Accuracy, or another measure, against intensity for every type of corruption, and box plots over them.",
    source="Fort, Hu, Lakshminarayanan 2019, Figures 9 and 10; corruptions of Hendrycks and Dietterich 2019",
    paper="Fig 9",
    needs=("shift", "shift-compare"),
    card=548,
    full=True,
)
def shift_types(results: Results, options: TypeOptions) -> ShiftTypes:
    metric, own, imported = options.metric, own_images(results), results.spec.imported
    read = read_lines(results, options, [metric], by_type=True)
    if options.panel == "intensities" and all(
        line.corruption in own and not own[line.corruption].is_graded for line in read
    ):
        raise FigureNotReady("images of their own are at no intensity")
    solid = max((line.size for line in read if line.size <= SOLID), default=0)
    lines = [line for line in read if line.size in (0, 1, solid)]
    last = max(int(line.intensities[-1]) for line in lines)
    gain = _gains(lines, metric, solid, last)
    types = sorted(dict.fromkeys(line.corruption for line in lines), key=lambda name: -gain.get(name, 0.0))
    shown = options.method or (Group.INDEPENDENT, *_best(lines, metric, last))
    groups = [group for group in dict.fromkeys(line.group for line in lines) if group in shown]
    return ShiftTypes(
        options=options,
        lines=tuple(lines),
        types=tuple(types),
        shown=tuple(groups),
        solid=solid,
        gain=gain,
        source=source_of(results, types),
        own=own,
        names={**(imported.titles if imported is not None else {}), **{name: one.title for name, one in own.items()}},
        legend=tuple(
            Legend.of(group, group_title(group), on=group in groups)
            for group in dict.fromkeys(line.group for line in lines)
        ),
    )


def _gains(lines: Sequence[Line], metric: Metric, solid: int, last: int) -> dict[str, float]:
    """What averaging `solid` runs improves at intensity `last`, by type; for divergences: how large they are."""
    own = {(line.corruption, line.size): line.at(last) for line in lines if line.group == Group.INDEPENDENT}
    names = dict.fromkeys(line.corruption for line in lines)
    if metric == "js_mean":
        return {name: own[name, 0] for name in names if (name, 0) in own}
    sign = 1 if metric == "accuracy" else -1
    return {name: sign * (own[name, solid] - own[name, 1]) for name in names if (name, solid) in own}


def _best(lines: Sequence[Line], metric: Metric, last: int) -> list[str]:
    """The group that does best inside one run, mean over types at intensity `last`: the one worth comparing with."""
    values: dict[str, list[float]] = {}
    for line in lines:
        if line.group not in (Group.INDEPENDENT, Group.TRAJECTORY) and line.size in (0, 1):
            values.setdefault(line.group, []).append(line.at(last))
    if not values:
        return [Group.TRAJECTORY]
    higher = metric in ("accuracy", "js_mean")
    return [max(values, key=lambda group: float(np.mean(values[group])) * (1 if higher else -1))]


def _caption(data: ShiftTypes) -> str:
    metric, panel, changed = data.options.metric, data.options.panel, data.changed
    head = _capital(WORDS[metric])
    first = {
        "all": f"{head} by intensity 0 to {data.last}, one picture a type" if changed else f"{head}, one picture a set",
        "types": f"{head}: a box for each type, over its intensities",
        "intensities": f"{head}: a box for each intensity, over {len(changed)} type{'s'[: len(changed) != 1]}",
    }[panel]
    every = [data.own[name] for name in data.types if name in data.own]
    own = [one for one in every if not one.is_graded]
    parts = [first + "."]
    if own:
        parts.append({
            "all": "Sets with images of their own are at no intensity: the test images left, theirs right.",
            "types": "A set with images of its own is at no intensity and has one value.",
            "intensities": f"Without {listed([one.title for one in own])}: images of their own are at no intensity.",
        }[panel])  # fmt: skip
    if data.gain and data.options.panel != "intensities":
        what = "how large it is for independent runs" if metric == "js_mean" else f"what {data.solid} runs gain"
        where = [*["at the largest intensity"] * bool(changed), *["on images of their own"] * bool(own)]
        parts.append(f"Sorted by {what} {' or '.join(where)}.")
    if metric != "js_mean" and data.solid > 1 and Group.INDEPENDENT in data.shown:
        boxes = data.options.panel != "all"
        parts.append(
            f"Filled: {data.solid} runs averaged; outlined: one run." if boxes
            else f"Solid: {data.solid} runs averaged; dashed: one run; shaded: the gain."
        )  # fmt: skip
    others = [group for group in data.shown if group != Group.INDEPENDENT]
    if others and metric != "js_mean":
        members = max(line.members for line in data.lines if line.group in others)
        inside = f", {members} functions averaged" if members > 1 else ""
        beside = "Beside them" if Group.INDEPENDENT in data.shown else "Boxes"
        also = "Thin" if data.options.panel == "all" else beside
        parts.append(f"{also}: {listed([group_title(group) for group in others])} in one run{inside}.")
    count = thousands(data.source.images)
    parts.append(f"{count} test images{f' each: {data.source.words}' if len(every) < len(data.types) else ''}.")
    if said := [one.words for one in every if one.is_graded or panel != "intensities"]:
        parts.append(f"{'; '.join(said)}.")
    parts += said_of_chains(data.shown)
    return " ".join(parts)


def _capital(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}"


def _summary(data: ShiftTypes) -> str:
    metric = data.options.metric
    if not data.gain:
        groups = "1 group" if len(data.shown) == 1 else f"{len(data.shown)} groups"
        count, own = len(data.changed), len(data.types) - len(data.changed)
        types = [f"{count} type{'s'[: count != 1]} of corruption"] * bool(count)
        sets = [f"{own} set{'s'[: own != 1]} with images of {'its' if own == 1 else 'their'} own"] * bool(own)
        return f"{', '.join([*types, *sets, groups])}."
    changed = [name for name in data.changed if name in data.gain]
    parts = [_of_changed(data, changed)] if changed else []
    for name in data.types:
        if not data.is_graded(name) and name in data.gain:
            title, amount = data.title_of(name), _amount(data, name)
            what = f"independent runs differ by {amount}" if metric == "js_mean" else f"{data.solid} runs gain {amount}"
            parts.append(f"On {title}, {thousands(data.own[name].images)} images of its own, {what}.")
    return " ".join(parts)


def _of_changed(data: ShiftTypes, names: Sequence[str]) -> str:
    """Of the types that change the test images, by what averaging gains at the largest intensity."""
    most, least = (f"{data.title_of(name).lower()} ({_amount(data, name)})" for name in (names[0], names[-1]))
    does = "independent runs differ" if data.options.metric == "js_mean" else f"{data.solid} runs gain"
    if len(names) == 1:
        joined = "by" if data.options.metric == "js_mean" else ""
        amount = " ".join(filter(None, (joined, _amount(data, names[0]))))
        return f"At intensity {data.last}, {does} {amount} under {data.title_of(names[0]).lower()}."
    return f"At intensity {data.last}, {does} most under {most} and least under {least}."


def _amount(data: ShiftTypes, name: str) -> str:
    metric, value = data.options.metric, data.gain[name]
    if metric == "js_mean":
        return f"{rate(value)} nats"
    return _signed(metric, value) + " points" * (metric == "accuracy")


def _signed(metric: Metric, value: float) -> str:
    text = value_of(metric, value)
    return text if text.startswith("−") else f"+{text}"


def _notes(data: ShiftTypes) -> Notes:
    last, metric, group = data.last or 1, data.options.metric, data.shown[0]
    every = [data.own[name] for name in data.types if name in data.own]
    own = [one for one in every if not one.is_graded]
    where = [*[f"Intensity {last}"] * bool(data.changed), *["images of its own"] * bool(own)]
    lines = []
    for name in data.types:
        if metric == "js_mean":
            line = data.line(group, name, 0)
            lines.append(Note(data.title_of(name), ("–" if line is None else value_of(metric, line.at(last)),)))
            continue
        one, many = data.line(group, name, 1), data.line(group, name, data.solid)
        cells = tuple("–" if line is None else value_of(metric, line.at(last)) for line in (one, many))
        lines.append(Note(data.title_of(name), cells))
    heads = ("JS",) if metric == "js_mean" else ("one run", f"{data.solid} runs")
    return Notes(
        (f"{TITLES[metric]}: {', or '.join(where)}", *heads),
        tuple(lines),
        (
            *(() if group == Group.INDEPENDENT else (f"Of {group_title(group)}.",)),
            *(f"{one.words}{', at no intensity' * (not one.is_graded)}." for one in every),
        ),
    )


@shift_types.tell
def tell(data: ShiftTypes) -> Words:
    return Words(_caption(data), _summary(data), _notes(data))


@shift_types.draw
def draw(data: ShiftTypes, theme: Theme) -> go.Figure:
    every = data.options.panel == "all"
    kind: style.Kind = "multiples" if every else "page"
    revision = "shift-types" if every else "shift-box"
    head = {"t": style.MARGINS[kind]["t"] + _HEAD} if every else None
    picture = Picture(
        "shift-types", data, theme, kind=kind, revision=revision, margin=head, panels=("types", "intensities")
    )
    (_small_pictures if every else _boxes)(data, picture)
    return picture.figure()


def _small_pictures(data: ShiftTypes, picture: Picture) -> None:
    across, down, theme = min(_ACROSS, len(data.types)), data.down, picture.theme
    gap = 64 if data.is_large else 52
    bounds = bounds_of(data.drawn_lines, data.options.metric)
    width, tall, room = 1 / across, 1 / down, picture.plot_height
    ticks = {"dtick": 25} if data.options.metric == "accuracy" else {"nticks": 4}
    for i, name in enumerate(data.types):
        column, row = i % across, i // across
        panel = picture.panel(
            [column * width, column * width + (0.6 if len(data.types) <= _NAMED else 0.84) * width],
            [1 - (row + 1) * tall + gap / room, 1 - row * tall - 0.02 * tall],
            x=_places(data, name, i),
            y={"range": bounds, **ticks, **({"matches": "y"} if i else {})},
        )
        x, y = panel.x, panel.y
        picture.add(*_picture(data, name, theme, x, y))
        head: Json = {"xref": f"{x} domain", "yref": f"{y} domain", "y": 1, "yanchor": "bottom", "yshift": 2}
        picture.write(style.label(data.title_of(name), theme, strong=True, x=0, xanchor="left", **head))
        if data.options.metric != "js_mean" and name in data.gain:
            said = _signed(data.options.metric, data.gain[name])
            picture.write(style.label(said, theme, x=1, xanchor="right", xshift=16, **head))
        if i == 0:
            above = style.y_title(_measured(data), theme, x, y, picture.left)
            picture.write({**above, "yshift": above["yshift"] + _HEAD + 4})
        if i == len(data.types) - across if down > 1 else i == 0:
            picture.titles(panel, "intensity" if data.last else "")
        if len(data.types) <= _NAMED:
            picture.ends(panel, _ends(data, name, theme), room=0.8 * tall * room, reach=14)


def _measured(data: ShiftTypes) -> str:
    """What the small pictures show, and what the number beside each type is."""
    metric, unit = data.options.metric, ", points" * (data.options.metric == "accuracy")
    gained = f"; +: what {data.solid} runs gain{unit}" if data.gain and metric != "js_mean" else ""
    return f"{TITLES[metric]}{gained}"


def _ends(data: ShiftTypes, name: str, theme: Theme) -> list[style.End]:
    found = []
    for group, size in data.drawn:
        line = data.line(group, name, size)
        if line is None or not np.isfinite(line.value[-1]):
            continue
        runs = "one run" if size == 1 else f"{size} runs"
        text = runs if size and group == Group.INDEPENDENT else group
        at = float(drawn(data.options.metric, line.value)[-1])
        found.append(style.End(text, int(line.intensities[-1]), at, style.look(group).colour(theme)))
    return found


def _picture(data: ShiftTypes, name: str, theme: Theme, x: str, y: str) -> list[Trace]:
    """One type: the gain as a ground, one run dashed, the ensemble solid with a symbol at its end."""
    metric, traces = data.options.metric, []
    one, many = data.line(Group.INDEPENDENT, name, 1), data.line(Group.INDEPENDENT, name, data.solid)
    if one is not None and many is not None and data.solid > 1 and Group.INDEPENDENT in data.shown:
        low, high = drawn(metric, one.value), drawn(metric, many.value)
        ink = style.look(Group.INDEPENDENT).colour(theme)
        traces.append(band(one.intensities, low, high, ink, axes=(x, y), group=Group.INDEPENDENT))
    for group, size in data.drawn:
        line = data.line(group, name, size)
        if line is not None:
            traces.append(_thin_line(line, data, theme, x, y))
    return traces


def _thin_line(line: Line, data: ShiftTypes, theme: Theme, x: str, y: str) -> Trace:
    entry = style.look(line.group)
    main = line.size in (0, data.solid)
    dashed = line.group == Group.INDEPENDENT and not main
    last = len(line.intensities) - 1
    marker = style.marker(entry, theme)
    marker["size"] = [0] * last + [entry.size - 1 if main else 0]
    marker["line"] = {**marker["line"], "width": [0] * last + [1 if main else 0]}
    return scatter(
        "lines+markers", line.intensities, drawn(line.metric, line.value), axes=(x, y),
        hover=[hover(data, line, i) for i in range(last + 1)],
        name=group_title(line.group), legendgroup=line.group,
        meta={"method": line.group},
        line={"color": entry.colour(theme), "width": 2 if main else 1.25, "dash": "dash" if dashed else "solid"},
        marker=marker, cliponaxis=False,
    )  # fmt: skip


def _places(data: ShiftTypes, name: str, number: int) -> Json:
    """The axis below a small picture: of intensities, which all of them share, or of the two sets of images."""
    if not data.is_graded(name):
        return dict(PLACES)
    first = data.types.index(data.changed[0])
    shared = {} if number == first else {"matches": f"x{first + 1 if first else ''}"}
    return {"range": [-0.2, data.last + 0.2], "tickvals": [0, data.last], **shared}


def _boxes(data: ShiftTypes, picture: Picture) -> None:
    """A box for each type (over intensities) or for each intensity (over types); groups beside each other."""
    metric, by_type = data.options.metric, data.options.panel == "types"
    names = [data.title_of(name) for name in data.types]
    across: Json = {"range": [0.4, 5.6], "dtick": 1}
    if by_type:
        picture.layout["margin"]["b"] = 120
        across = {
            "tickvals": list(range(len(names))), "ticktext": names, "tickangle": -40, "range": [-0.6, len(names) - 0.4],
        }  # fmt: skip
    panel = picture.panel(x=across, y={"range": bounds_of(data.drawn_lines, metric)})
    picture.layout |= {"boxmode": "group", "boxgap": 0.35, "boxgroupgap": 0.15}
    picture.titles(panel, "" if by_type else "intensity", TITLES[metric])
    picture.add(*(_box(data, group, size, picture.theme) for group, size in data.drawn))


def _box(data: ShiftTypes, group: str, size: int, theme: Theme) -> Trace:
    names = data.types if data.options.panel == "types" else data.changed
    lines = {name: data.line(group, name, size) for name in names}
    found = {name: line for name, line in lines.items() if line is not None}
    ink = style.look(group).colour(theme)
    if data.options.panel == "types":
        where = [i for i, name in enumerate(names) if name in found]
        values = [found[name].value[found[name].intensities > 0] for name in names if name in found]
    else:
        where = sorted({int(k) for line in found.values() for k in line.intensities if k > 0})
        values = [np.array([line.at(k) for line in found.values()]) for k in where]
    five = np.array([np.quantile(drawn(data.options.metric, one), [0, 0.25, 0.5, 0.75, 1]) for one in values])
    filled = size in (0, data.solid)
    head = f"{group_title(group)}, {size} runs averaged" if size > 1 else group_title(group)
    return {
        "type": "box",
        "x": float32(where),
        "lowerfence": float32(five[:, 0]),
        "q1": float32(five[:, 1]),
        "median": float32(five[:, 2]),
        "q3": float32(five[:, 3]),
        "upperfence": float32(five[:, 4]),
        "name": head,
        "legendgroup": group,
        "offsetgroup": f"{group}/{size}",
        "meta": {"method": group},
        "line": {"color": ink, "width": 1.5},
        "fillcolor": style.softened(ink, 0.35 if filled else 0.0),
        "hoverinfo": "y+name",
    }
