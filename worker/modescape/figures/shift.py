"""What is left when the images are corrupted, and do functions know? (paper Fig 9 and Fig 10)

Accuracy, Brier score and divergence against the intensity of corruptions, mean over types; and type by type.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from modescape.errors import InvalidInput
from modescape.figures import ensembles, style
from modescape.figures.figure import (
    GROUNDS,
    INDEPENDENT,
    PAGE_HEIGHT,
    TRAJECTORY,
    Cell,
    FigureData,
    FigureNotReady,
    FigureOptions,
    Floats,
    Ints,
    Legend,
    Measurement,
    Note,
    Notes,
    Results,
    figure,
    float32,
    known,
    loss,
    method_look,
    method_title,
    percent,
    rate,
    thousands,
)
from modescape.figures.style import Theme
from modescape.registry import corruptions
from modescape.studies import said_of_chains

if TYPE_CHECKING:
    import plotly.graph_objects as go

Metric = Literal["accuracy", "brier", "nll", "ece", "nll-calibrated", "ece-calibrated", "js_mean"]
_PANELS: tuple[Metric, ...] = ("accuracy", "brier", "js_mean")
TITLES: Mapping[str, str] = {**ensembles.TITLES, "js_mean": "Jensen–Shannon divergence, nats"}
WORDS: Mapping[str, str] = {**ensembles.WORDS, "js_mean": "Jensen–Shannon divergence"}
_HEADS: Mapping[str, str] = {
    "accuracy": "acc., %",
    "brier": "Brier",
    "nll": "NLL",
    "ece": "ECE",
    "nll-calibrated": "NLL after temperature",
    "ece-calibrated": "ECE after temperature",
    "js_mean": "JS",
}
_SOLID = 4  # runs in the solid ensemble, as in the paper, where there are as many
_DASHES = {1: "dash", 2: "dot"}


# ---- what is read ----


@dataclass(frozen=True)
class Line:
    """One quantity of one group by intensity. corruption: "" for the mean over types; size: runs averaged, 0 for
    divergences; members: functions of a run that are averaged (scores) or compared (divergences); value and sd over
    ensembles or runs [T], NaN where undefined; units: how many ensembles or runs."""

    group: str
    metric: Metric
    size: int
    corruption: str
    intensities: Ints
    value: Floats
    sd: Floats
    members: int
    units: int

    def at(self, intensity: int) -> float:
        """Value at one intensity; NaN where there is none."""
        where = np.flatnonzero(self.intensities == intensity)
        return float(self.value[where[0]]) if len(where) else math.nan


@dataclass(frozen=True)
class Source:
    """Where the corrupted images come from, as words, how many types they are of, and how many images."""

    words: str
    types: tuple[str, ...]
    images: int


def _lines(rows: Sequence[Measurement], metric: Metric) -> list[Line]:
    """Rows of one metric as lines; clean images (intensity 0) begin every line."""
    clean: dict[str, Measurement] = {}
    by: dict[tuple[str, str], list[Measurement]] = {}
    for row in rows:
        if row.intensity == 0:
            clean[row.subject] = row
        else:
            by.setdefault((row.subject, row.corruption or ""), []).append(row)
    return [_line(subject, corruption, metric, [clean[subject], *found]) for (subject, corruption), found in by.items()]


def _line(subject: str, corruption: str, metric: Metric, rows: Sequence[Measurement]) -> Line:
    _, group, *size = subject.split("/")
    rows = sorted(rows, key=lambda row: row.intensity or 0)
    return Line(
        group=group,
        metric=metric,
        size=int(size[0]) if size else 0,
        corruption=corruption,
        intensities=np.array([row.intensity for row in rows], dtype=np.int64),
        value=np.array([_number(row.value) for row in rows]),
        sd=np.array([_number(row.details["sd"]) for row in rows]),
        members=int(rows[0].details["members"]),
        units=int(rows[0].details["units"]),
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _mean_line(lines: Sequence[Line]) -> Line:
    """The mean of one group's lines over types; how ensembles or runs vary in it is not known then."""
    first = lines[0]
    values = np.mean([line.value for line in lines], axis=0)
    return Line(
        first.group, first.metric, first.size, "", first.intensities, values, np.full(len(values), np.nan),
        first.members, first.units,
    )  # fmt: skip


def type_title(name: str) -> str:
    """ "Gaussian noise" """
    return corruptions[name].title if name in corruptions else name.replace("_", " ")


def _look(group: str) -> style.Look:
    return style.look(group) if group in (INDEPENDENT, TRAJECTORY) else method_look(group)


def _title(group: str) -> str:
    return {INDEPENDENT: "independent runs", TRAJECTORY: "one trajectory"}.get(group) or method_title(group)


def _value(metric: Metric, value: float) -> str:
    return percent(value) if metric == "accuracy" else loss(value) if metric.startswith("nll") else rate(value)


def _drawn(metric: Metric, values: Floats) -> Floats:
    return 100 * values if metric == "accuracy" else values


def _not_ready(results: Results) -> FigureNotReady:
    if results.spec.shift is None:
        return FigureNotReady("no corruptions in this spec; clone it and add a study of shift")
    if results.shifted("accuracy"):
        return FigureNotReady(ensembles.no_temperature(results, "test"))
    return FigureNotReady("groups are compared when all of them have seen every corruption",
                          waits_for=("shift", "shift-compare"))  # fmt: skip


class ShiftOptions(FigureOptions):
    """Which types and groups are shown."""

    redraws: ClassVar[bool] = True

    corruption: tuple[str, ...] = Field(
        (), max_length=19, description="Types of corruption, comma-separated; empty means all."
    )
    method: tuple[str, ...] = Field(
        (), max_length=16, description="Groups shown, comma-separated: independent, trajectory, methods; empty: all."
    )

    @field_validator("corruption", "method", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return tuple(filter(None, value.split(","))) if isinstance(value, str) else value

    def groups_of(self, results: Results) -> list[str]:
        """Groups asked for, in the order of the spec. Raises InvalidInput for one it does not have."""
        known_groups = [INDEPENDENT, TRAJECTORY, *(chosen.method for chosen in results.spec.methods)]
        unknown = [name for name in self.method if name not in (*known_groups, *GROUNDS)]
        if unknown:
            raise InvalidInput(
                f"this experiment has no group {unknown[0][:60]!r}",
                field="method",
                allowed="some of " + ", ".join(known_groups),
            )
        return [name for name in known_groups if not self.method or name in self.method]

    @classmethod
    def choices(cls, results: Results) -> Mapping[str, Mapping[str, str]]:
        types = (row.corruption for row in results.shifted("accuracy", by_type=True) if row.corruption)
        return {"corruption": {"": "all", **{name: type_title(name) for name in types}}}


def _read(results: Results, options: ShiftOptions, metrics: Sequence[Metric], *, by_type: bool) -> list[Line]:
    """Lines of the groups and types asked for. Raises FigureNotReady, and InvalidInput for types that are not there."""
    groups, found = options.groups_of(results), []
    for metric in metrics:
        found += _lines(results.shifted(metric, by_type=by_type or bool(options.corruption)), metric)
    if not found:
        raise _not_ready(results)
    there = list(dict.fromkeys(line.corruption for line in found if line.corruption))
    unknown = [name for name in options.corruption if name not in there]
    if unknown:
        raise InvalidInput(
            f"this experiment has no corruption {unknown[0][:60]!r}",
            field="corruption",
            allowed="some of " + ", ".join(there),
        )
    shown = [line for line in found if not options.corruption or line.corruption in options.corruption]
    shown.sort(key=lambda line: groups.index(line.group) if line.group in groups else -1)
    if not any(line.group in groups for line in shown):
        raise FigureNotReady("none of the groups asked for was shown corrupted images")
    return [line for line in shown if line.group in groups]


def _source(results: Results, chosen: Sequence[str]) -> Source:
    """Read off the means over all types, which say where their images come from."""
    rows = [row for row in results.shifted("accuracy") if row.intensity]
    about: Mapping[str, Any] = rows[0].details["from"]
    study = results.spec.shift
    assert study is not None
    types = tuple(chosen) or study.corruptions
    if not types:
        types = tuple(dict.fromkeys(row.corruption for row in results.shifted("accuracy", by_type=True)
                                    if row.corruption))  # fmt: skip
    if about["source"] == "published":
        return Source(f"the published set in the folder {about['folder']}", types, int(rows[0].n or 0))
    constants = "CIFAR" if about["constants"] == "cifar" else "ImageNet"
    words = f"corrupted here with the {constants} constants, version {about['version']}, not a published set"
    if results.spec.data.dataset == "fashion-mnist":
        words = f"in-house F-MNIST-C ({constants} constants), version {about['version']}"
    if "frost" in types:
        photographs = about.get("photographs")
        words += f"; frost is from the photographs in {photographs}" if photographs else "; frost is procedural"
    return Source(words, types, int(rows[0].n or 0))


# ---- by intensity ----


class IntensityOptions(ShiftOptions):
    """What is drawn against intensity."""

    panel: Literal["all", "accuracy", "brier", "js", "nll", "ece", "nll-calibrated", "ece-calibrated"] = Field(
        "all",
        description="Accuracy, Brier score and divergence, or one measure alone (narrow screens show one); calibrated: "
        "after a temperature of its own for every run, average and ensemble, fitted on clean validation images.",
    )
    ensemble: int | None = Field(
        None, ge=1, le=1000, description="Runs averaged in the solid lines; empty means 4, or the most there are."
    )
    divergence: Literal["mean", "sum"] = Field(
        "mean",
        description="mean: with 1/M, as here everywhere; sum: M times that, for comparing with sums.",
    )

    @property
    def metrics(self) -> tuple[Metric, ...]:
        if self.panel == "all":
            return _PANELS
        return ("js_mean",) if self.panel == "js" else (self.panel,)


@dataclass(frozen=True, kw_only=True)
class Shift(FigureData):
    """Lines of every group shown: scores for one run, two runs and `solid` runs averaged, and divergences."""

    options: IntensityOptions
    lines: tuple[Line, ...]
    solid: int
    source: Source

    @property
    def columns(self) -> tuple[str, ...]:
        return ("method", "measure", "runs", "members", "intensity", "value", "sd", "units", "types")

    def rows(self) -> list[tuple[Cell, ...]]:
        return [
            (line.group, line.metric, line.size or None, line.members, int(line.intensities[i]), known(line.value[i]),
             known(line.sd[i]), line.units, len(self.source.types))
            for line in self.lines
            for i in range(len(line.intensities))
        ]  # fmt: skip

    @property
    def groups(self) -> list[str]:
        return list(dict.fromkeys(line.group for line in self.lines))

    def line(self, group: str, metric: Metric, size: int) -> Line | None:
        found = [line for line in self.lines if (line.group, line.metric, line.size) == (group, metric, size)]
        return found[0] if found else None


@figure(
    "shift",
    order=60,
    title="Shift",
    question="Does it help when the data shift?",
    summary="Accuracy, Brier score and Jensen–Shannon divergence of single functions and ensembles against the "
    "intensity of corruptions.",
    source="Fort, Hu, Lakshminarayanan 2019, Figures 9 and 10; corruptions of Hendrycks and Dietterich 2019",
    paper="Fig 9",
    needs=("shift", "shift-compare"),
    options=IntensityOptions,
)
def shift(results: Results, options: IntensityOptions) -> Shift:
    asked = options.metrics
    read = _read(results, options, asked, by_type=False)
    twins = [ensembles.TWINS[metric] for metric in asked if metric in ensembles.TWINS]
    if any(results.shifted(twin) for twin in twins):
        read += _read(results, options, twins, by_type=False)
    if options.corruption:
        together: dict[tuple[str, str, int], list[Line]] = {}
        for line in read:
            together.setdefault((line.group, line.metric, line.size), []).append(line)
        read = [_mean_line(lines) for lines in together.values()]
    if options.divergence == "sum":
        read = [_summed(line) for line in read]
    sizes = sorted({line.size for line in read if line.size})
    if options.ensemble is not None and sizes and options.ensemble not in sizes:
        raise InvalidInput(
            f"ensembles of {options.ensemble} were not scored", field="ensemble",
            allowed="one of " + ", ".join(map(str, sizes)),
        )  # fmt: skip
    solid = options.ensemble or max((size for size in sizes if size <= _SOLID), default=0)
    lines = [line for line in read if line.size in {0, 1, 2, solid}]
    # Late checkpoints are compared, not recommended: they are shown by their divergence, as in the paper.
    if TRAJECTORY not in options.method:
        lines = [line for line in lines if line.group != TRAJECTORY or not line.size]
    source = _source(results, options.corruption)
    data = Shift(options=options, lines=tuple(lines), solid=solid, source=source, caption="", summary="")
    return Shift(
        options=options, lines=data.lines, solid=solid, source=source, caption=_caption(data), summary=_summary(data),
        notes=_notes(data, results),
        legend=tuple(Legend(group, _title(group), _look(group).key) for group in data.groups),
    )  # fmt: skip


def _summed(line: Line) -> Line:
    if line.metric != "js_mean":
        return line
    return Line(line.group, line.metric, line.size, line.corruption, line.intensities, line.value * line.members,
                line.sd * line.members, line.members, line.units)  # fmt: skip


def _over(source: Source) -> str:
    count = len(source.types)
    return f"mean over {count} types" if count > 1 else type_title(source.types[0])


def _caption(data: Shift) -> str:
    parts = []
    scores = [line for line in data.lines if line.size]
    averaged = max((line.members for line in scores), default=1)
    if scores:
        inside = f", with {averaged} samples inside each run for subspace methods" if averaged > 1 else ""
        solid = f"Solid: {data.solid} runs averaged{inside}" if data.solid > 1 else f"One run{inside}"
        two = "; dotted: two" if data.solid > 2 else ""
        parts.append(f"{solid}{two}{'; dashed: one run' if data.solid > 1 else ''}.")
    parts.append(
        f"{_over(data.source)[:1].upper()}{_over(data.source)[1:]}, {thousands(data.source.images)} test images each; "
        f"intensity 0 is clean. Images: {data.source.words}."
    )
    compared = [line for line in data.lines if not line.size]
    if compared:
        members = compared[0].members
        kind = "times M (the sum)" if data.options.divergence == "sum" else "the mean form, with 1/M"
        parts.append(f"Divergence of M = {members} functions ({kind}): {members} runs, or {members} functions of one "
                     "run, mean over runs.")  # fmt: skip
    parts += said_of_chains({line.group for line in data.lines})
    return " ".join(parts)


def _last(data: Shift) -> int:
    return max(int(line.intensities[-1]) for line in data.lines)


def _summary(data: Shift) -> str:
    last = _last(data)
    parts = []
    for metric in data.options.metrics:
        one, many = data.line(INDEPENDENT, metric, 1), data.line(INDEPENDENT, metric, data.solid)
        unit = " %" if metric == "accuracy" else ""
        if metric == "js_mean":
            own = {line.group: line.at(last) for line in data.lines if line.metric == metric}
            rest = {group: value for group, value in own.items() if group != INDEPENDENT and math.isfinite(value)}
            if INDEPENDENT in own:
                parts.append(f"the divergence of independent runs is {rate(own[INDEPENDENT])}")
            if rest:
                best = max(rest, key=lambda group: rest[group])
                parts.append(f"the largest inside one run, {_title(best)}, {rate(rest[best])}")
        elif one is not None:
            words = f"one run has {_article(WORDS[metric])} of {_value(metric, one.at(last))}{unit}"
            if many is not None and data.solid > 1:
                words += f", {data.solid} together {_value(metric, many.at(last))}{unit}"
            parts.append(words)
    if not parts:
        return f"{len(data.groups)} groups by intensity of corruption."
    return f"At intensity {last}, {_over(data.source)}: {'; '.join(parts)}."


def _article(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def _notes(data: Shift, results: Results) -> Notes:
    last, asked = _last(data), data.options.metrics
    metrics = list(dict.fromkeys((*asked, *(line.metric for line in data.lines))))  # twins beside what was asked for
    lines = []
    for group in data.groups:
        cells = []
        for metric in metrics:
            line = data.line(group, metric, 0 if metric == "js_mean" else data.solid)
            cells.append("–" if line is None else _value(metric, line.at(last)))
        lines.append(Note(_title(group), tuple(cells), look=_look(group).key, strong=group == INDEPENDENT))
    text = [f"{data.solid} runs averaged."] if data.solid > 1 and asked != ("js_mean",) else []
    text += ensembles.twin_words(results, asked, metrics, "test")
    return Notes((f"Intensity {last}", *(_HEADS[metric] for metric in metrics)), tuple(lines), tuple(text))


@shift.draw
def _(data: Shift, theme: Theme) -> go.Figure:
    import plotly.graph_objects as go

    height = 592 if data.options.size == "page" else 432
    layout = style.layout(theme, kind="curves-values", height=height, revision="shift")
    room = height - layout["margin"]["t"] - layout["margin"]["b"]
    metrics = data.options.metrics
    traces: list[dict[str, Any]] = []
    layout["annotations"] = []
    for i, metric in enumerate(metrics):
        number = "" if i == 0 else str(i + 1)
        x, y = f"x{number}", f"y{number}"
        domain = [0, 1] if len(metrics) == 1 else ([0, 0.27], [0.365, 0.635], [0.73, 1])[i]
        drawn = [line for line in data.lines if line.metric == metric]
        bounds = _bounds(drawn, metric)
        layout[f"xaxis{number}"] = style.x_axis(theme, domain=domain, anchor=y, range=[-0.15, 5.15], dtick=1)
        layout[f"yaxis{number}"] = style.y_axis(theme, anchor=x, range=bounds)
        for line in sorted(drawn, key=lambda line: (line.size not in (0, data.solid), line.group == INDEPENDENT)):
            traces += _line_traces(line, data, theme, x, y)
        layout["annotations"] += [
            style.y_title(_panel_title(metric, data, len(metrics)), theme, x, y, layout["margin"]["l"]),
            style.x_title("intensity", theme, x, y),
        ]
        if i == len(metrics) - 1:  # colours and symbols say the rest
            ends = [
                _end(line, metric, theme)
                for line in drawn
                if line.size in (0, data.solid) and np.isfinite(line.value[-1])
            ]
            layout["annotations"] += style.end_labels(ends, theme, x=x, y=y, bounds=bounds, room=room)
    layout["meta"] = {"figure": "shift", "panels": ["accuracy", "brier", "js"]}
    return go.Figure(data=traces, layout=layout, layout_template=None)


def _panel_title(metric: Metric, data: Shift, panels: int) -> str:
    if metric != "js_mean":
        return TITLES[metric]
    members = next((line.members for line in data.lines if line.metric == metric), 0)
    kind = "JS" if panels > 1 else "Jensen–Shannon divergence"
    return f"{'sum of ' if data.options.divergence == 'sum' else ''}{kind} of {members} functions, nats"


def _bounds(lines: Sequence[Line], metric: Metric) -> list[float]:
    values = _drawn(metric, np.concatenate([line.value for line in lines])) if lines else np.array([])
    values = values[np.isfinite(values)]
    if not len(values):
        return [0.0, 1.0]
    low, high = float(values.min()), float(values.max())
    if metric == "js_mean":
        low = 0.0
    pad = max(0.05 * (high - low), 1e-3 * max(abs(high), 1e-3))
    return [max(0.0, low - pad) if metric != "js_mean" else -pad, high + pad]


def _line_traces(line: Line, data: Shift, theme: Theme, x: str, y: str) -> list[dict[str, Any]]:
    """A line; with symbols where it is the solid one."""
    entry, main = _look(line.group), line.size in (0, data.solid)
    dash = "solid" if main else _DASHES.get(line.size, "dashdot")
    width = (2.5 if line.group == INDEPENDENT else 2) if main else 1.25
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines+markers" if main else "lines",
        "x": float32(line.intensities),
        "y": float32(_drawn(line.metric, line.value)),
        "name": _title(line.group),
        "legendgroup": line.group,
        "meta": {"method": line.group},
        "line": {"color": entry.colour(theme), "width": width, "dash": dash},
        "hovertext": [_hover(line, i) for i in range(len(line.intensities))],
        "hoverinfo": "text",
        "cliponaxis": False,
        "xaxis": x,
        "yaxis": y,
    }
    if main:
        trace["marker"] = style.marker(entry, theme)
    return [trace]


def _hover(line: Line, i: int) -> str:
    if line.size:
        inside = f", {line.members} samples each" if line.members > 1 else ""
        head = ("one run" if line.size == 1 else f"{line.size} runs averaged") + inside
    else:
        head = f"{line.members} functions"
    spread = f" ± {_value(line.metric, float(line.sd[i]))}" if np.isfinite(line.sd[i]) else ""
    unit = " %" if line.metric == "accuracy" else ""
    intensity = int(line.intensities[i])
    where = f"intensity {intensity}" if intensity else "clean"
    where = f"{type_title(line.corruption)}, {where}" if line.corruption else where
    value = f"{_value(line.metric, float(line.value[i]))}{spread}{unit}"
    return f"<b>{_title(line.group)}, {head}</b><br>{where}<br>{WORDS[line.metric]}  {value}"


def _end(line: Line, metric: Metric, theme: Theme) -> style.End:
    """Value and short name where the line ends."""
    return style.End(
        f"{_value(metric, float(line.value[-1]))} {line.group}",
        int(line.intensities[-1]),
        float(_drawn(metric, line.value)[-1]),
        _look(line.group).colour(theme),
    )


# ---- by type ----


class TypeOptions(ShiftOptions):
    """How types of corruption are told apart."""

    metric: Metric = Field("accuracy", description="What is measured.")
    panel: Literal["all", "types", "intensities"] = Field(
        "all",
        description="all: a small picture for each type; types: a box for each type, over its intensities; "
        "intensities: a box for each intensity, over the types (narrow screens show boxes).",
    )


_ACROSS, _PICTURE = 6, 216  # small pictures in a row, and the least height in px of one on a page


@dataclass(frozen=True, kw_only=True)
class ShiftTypes(FigureData):
    """Lines of every group and type: size 1 and `solid` (scores) or 0 (divergences). types: in the order drawn; shown:
    groups drawn, independent runs first; gain: what `solid` runs gain over one at the largest intensity, by type."""

    options: TypeOptions
    lines: tuple[Line, ...]
    types: tuple[str, ...]
    shown: tuple[str, ...]
    solid: int
    gain: Mapping[str, float]
    source: Source

    @property
    def columns(self) -> tuple[str, ...]:
        return ("corruption", "method", "measure", "runs", "members", "intensity", "value", "sd", "units")

    def rows(self) -> list[tuple[Cell, ...]]:
        return [
            (line.corruption, line.group, line.metric, line.size or None, line.members, int(line.intensities[i]),
             known(line.value[i]), known(line.sd[i]), line.units)
            for line in self.lines
            for i in range(len(line.intensities))
        ]  # fmt: skip

    def line(self, group: str, corruption: str, size: int) -> Line | None:
        found = [one for one in self.lines if (one.group, one.corruption, one.size) == (group, corruption, size)]
        return found[0] if found else None

    @property
    def drawn(self) -> list[tuple[str, int]]:
        """(group, size) of the lines of one picture: one run and the ensemble of the first, one run of the others."""
        if self.options.metric == "js_mean":
            return [(group, 0) for group in self.shown]
        found = []
        for group in self.shown:
            found.append((group, 1))
            if group == INDEPENDENT and self.solid > 1:
                found.append((group, self.solid))
        return found

    @property
    def page_height(self) -> int:
        small = 20 + self.down * max(_PICTURE, (PAGE_HEIGHT - 20) // self.down)
        return small if self.options.panel == "all" else PAGE_HEIGHT

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
    options=TypeOptions,
)
def shift_types(results: Results, options: TypeOptions) -> ShiftTypes:
    metric = options.metric
    read = _read(results, options, [metric], by_type=True)
    solid = max((line.size for line in read if line.size <= _SOLID), default=0)
    lines = [line for line in read if line.size in (0, 1, solid)]
    last = max(int(line.intensities[-1]) for line in lines)
    gain = _gains(lines, metric, solid, last)
    types = sorted(dict.fromkeys(line.corruption for line in lines), key=lambda name: -gain.get(name, 0.0))
    shown = options.method or (INDEPENDENT, *_best(lines, metric, last))
    groups = [group for group in dict.fromkeys(line.group for line in lines) if group in shown]
    source = _source(results, types)
    data = ShiftTypes(
        options=options, lines=tuple(lines), types=tuple(types), shown=tuple(groups), solid=solid, gain=gain,
        source=source, caption="", summary="",
    )  # fmt: skip
    return ShiftTypes(
        options=options, lines=data.lines, types=data.types, shown=data.shown, solid=solid, gain=gain, source=source,
        caption=_types_caption(data), summary=_types_summary(data, last), notes=_types_notes(data, last),
        legend=tuple(Legend(group, _title(group), _look(group).key, on=group in groups)
                     for group in dict.fromkeys(line.group for line in lines)),
    )  # fmt: skip


def _gains(lines: Sequence[Line], metric: Metric, solid: int, last: int) -> dict[str, float]:
    """What averaging `solid` runs improves at intensity `last`, by type; for divergences: how large they are."""
    own = {(line.corruption, line.size): line.at(last) for line in lines if line.group == INDEPENDENT}
    names = dict.fromkeys(line.corruption for line in lines)
    if metric == "js_mean":
        return {name: own[name, 0] for name in names if (name, 0) in own}
    sign = 1 if metric == "accuracy" else -1
    return {name: sign * (own[name, solid] - own[name, 1]) for name in names if (name, solid) in own}


def _best(lines: Sequence[Line], metric: Metric, last: int) -> list[str]:
    """The group that does best inside one run, mean over types at intensity `last`: the one worth comparing with."""
    values: dict[str, list[float]] = {}
    for line in lines:
        if line.group not in (INDEPENDENT, TRAJECTORY) and line.size in (0, 1):
            values.setdefault(line.group, []).append(line.at(last))
    if not values:
        return [TRAJECTORY]
    higher = metric in ("accuracy", "js_mean")
    return [max(values, key=lambda group: float(np.mean(values[group])) * (1 if higher else -1))]


def _types_caption(data: ShiftTypes) -> str:
    metric, last = data.options.metric, WORDS[data.options.metric]
    first = {
        "all": f"{last[:1].upper()}{last[1:]} by intensity 0 to 5, one picture a type",
        "types": f"{last[:1].upper()}{last[1:]}: a box for each type, over its intensities",
        "intensities": f"{last[:1].upper()}{last[1:]}: a box for each intensity, over {len(data.types)} types",
    }[data.options.panel]
    parts = [first + "."]
    if data.gain and data.options.panel != "intensities":
        what = "how large it is for independent runs" if metric == "js_mean" else f"what {data.solid} runs gain"
        parts.append(f"Sorted by {what} at the largest intensity.")
    if metric != "js_mean" and data.solid > 1 and INDEPENDENT in data.shown:
        boxes = data.options.panel != "all"
        parts.append(
            f"Filled: {data.solid} runs averaged; outlined: one run." if boxes
            else f"Solid: {data.solid} runs averaged; dashed: one run; shaded: the gain."
        )  # fmt: skip
    others = [group for group in data.shown if group != INDEPENDENT]
    if others and metric != "js_mean":
        members = max(line.members for line in data.lines if line.group in others)
        inside = f", {members} functions averaged" if members > 1 else ""
        beside = "Beside them" if INDEPENDENT in data.shown else "Boxes"
        also = "Thin" if data.options.panel == "all" else beside
        parts.append(f"{also}: {_and([_title(group) for group in others])} in one run{inside}.")
    parts.append(f"{thousands(data.source.images)} test images each: {data.source.words}.")
    parts += said_of_chains(data.shown)
    return " ".join(parts)


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _types_summary(data: ShiftTypes, last: int) -> str:
    metric = data.options.metric
    if not data.gain:
        groups = "1 group" if len(data.shown) == 1 else f"{len(data.shown)} groups"
        return f"{len(data.types)} types of corruption, {groups}."
    most, least = data.types[0], data.types[-1]
    if metric == "js_mean":
        return (
            f"At intensity {last} independent runs differ most under {type_title(most).lower()} "
            f"({rate(data.gain[most])} nats) and least under {type_title(least).lower()} ({rate(data.gain[least])})."
        )
    unit = " points" if metric == "accuracy" else ""
    return (
        f"At intensity {last}, {data.solid} runs gain most under {type_title(most).lower()} "
        f"({_signed(metric, data.gain[most])}{unit}) and least under {type_title(least).lower()} "
        f"({_signed(metric, data.gain[least])}{unit})."
    )


def _signed(metric: Metric, value: float) -> str:
    text = _value(metric, value)
    return text if text.startswith("−") else f"+{text}"


def _types_notes(data: ShiftTypes, last: int) -> Notes:
    metric, group = data.options.metric, data.shown[0]
    lines = []
    for name in data.types:
        if metric == "js_mean":
            line = data.line(group, name, 0)
            lines.append(Note(type_title(name), ("–" if line is None else _value(metric, line.at(last)),)))
            continue
        one, many = data.line(group, name, 1), data.line(group, name, data.solid)
        cells = tuple("–" if line is None else _value(metric, line.at(last)) for line in (one, many))
        lines.append(Note(type_title(name), cells))
    heads = ("JS",) if metric == "js_mean" else ("one run", f"{data.solid} runs")
    return Notes((f"Intensity {last}", *heads), tuple(lines), () if group == INDEPENDENT else (f"Of {_title(group)}.",))


@shift_types.draw
def _(data: ShiftTypes, theme: Theme) -> go.Figure:
    import plotly.graph_objects as go

    layout, traces = _small_pictures(data, theme) if data.options.panel == "all" else _boxes(data, theme)
    layout["meta"] = {"figure": "shift-types", "panels": ["types", "intensities"]}
    return go.Figure(data=traces, layout=layout, layout_template=None)


def _small_pictures(data: ShiftTypes, theme: Theme) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    across, down = min(_ACROSS, len(data.types)), data.down
    large = data.options.size == "page"
    height, gap = (data.page_height, 64) if large else (down * 176 + 20, 52)
    layout = style.layout(theme, kind="multiples", height=height, revision="shift-types")
    layout["annotations"] = []
    bounds = _bounds(data.drawn_lines, data.options.metric)
    traces: list[dict[str, Any]] = []
    last = max(int(line.intensities[-1]) for line in data.lines)
    width, tall, room = 1 / across, 1 / down, height - layout["margin"]["t"] - layout["margin"]["b"]
    for i, name in enumerate(data.types):
        number = "" if i == 0 else str(i + 1)
        x, y = f"x{number}", f"y{number}"
        column, row = i % across, i // across
        layout[f"xaxis{number}"] = style.x_axis(
            theme, domain=[column * width, column * width + 0.84 * width], anchor=y, range=[-0.2, last + 0.2],
            tickvals=[0, last], **({"matches": "x"} if i else {}),
        )  # fmt: skip
        layout[f"yaxis{number}"] = style.y_axis(
            theme, domain=[1 - (row + 1) * tall + gap / room, 1 - row * tall - 0.02 * tall], anchor=x,
            range=bounds, **({"dtick": 25} if data.options.metric == "accuracy" else {"nticks": 4}),
            **({"matches": "y"} if i else {}),
        )  # fmt: skip
        traces += _picture(data, name, theme, x, y)
        head: dict[str, Any] = {"xref": f"{x} domain", "yref": f"{y} domain", "y": 1, "yanchor": "bottom", "yshift": 2}
        layout["annotations"].append(style.label(type_title(name), theme, strong=True, x=0, xanchor="left", **head))
        if data.options.metric != "js_mean" and name in data.gain:
            said = _signed(data.options.metric, data.gain[name])
            layout["annotations"].append(style.label(said, theme, x=1, xanchor="right", xshift=16, **head))
    return layout, traces


def _picture(data: ShiftTypes, name: str, theme: Theme, x: str, y: str) -> list[dict[str, Any]]:
    """One type: the gain as a ground, one run dashed, the ensemble solid with a symbol at its end."""
    metric, traces = data.options.metric, []
    one, many = data.line(INDEPENDENT, name, 1), data.line(INDEPENDENT, name, data.solid)
    if one is not None and many is not None and data.solid > 1 and INDEPENDENT in data.shown:
        low, high = _drawn(metric, one.value), _drawn(metric, many.value)
        traces.append({
            "type": "scatter",
            "mode": "lines",
            "x": float32(np.concatenate([one.intensities, one.intensities[::-1]])),
            "y": float32(np.concatenate([low, high[::-1]])),
            "legendgroup": INDEPENDENT,
            "line": {"width": 0},
            "fill": "toself",
            "fillcolor": style.softened(_look(INDEPENDENT).colour(theme), 0.14),
            "hoverinfo": "skip",
            "xaxis": x,
            "yaxis": y,
        })  # fmt: skip
    for group, size in data.drawn:
        line = data.line(group, name, size)
        if line is not None:
            traces.append(_thin_line(line, data, theme, x, y))
    return traces


def _thin_line(line: Line, data: ShiftTypes, theme: Theme, x: str, y: str) -> dict[str, Any]:
    entry = _look(line.group)
    main = line.size in (0, data.solid)
    dashed = line.group == INDEPENDENT and not main
    last = len(line.intensities) - 1
    marker = style.marker(entry, theme)
    marker["size"] = [0] * last + [entry.size - 1 if main else 0]
    marker["line"] = {**marker["line"], "width": [0] * last + [1 if main else 0]}
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": float32(line.intensities),
        "y": float32(_drawn(line.metric, line.value)),
        "name": _title(line.group),
        "legendgroup": line.group,
        "meta": {"method": line.group},
        "line": {"color": entry.colour(theme), "width": 2 if main else 1.25, "dash": "dash" if dashed else "solid"},
        "marker": marker,
        "hovertext": [_hover(line, i) for i in range(last + 1)],
        "hoverinfo": "text",
        "cliponaxis": False,
        "xaxis": x,
        "yaxis": y,
    }


def _boxes(data: ShiftTypes, theme: Theme) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A box for each type (over intensities) or for each intensity (over types); groups beside each other."""
    metric, by_type = data.options.metric, data.options.panel == "types"
    layout = style.layout(theme, kind="page", height=592 if data.options.size == "page" else 440, revision="shift-box")
    names = [type_title(name) for name in data.types]
    if by_type:
        layout["margin"] = {**layout["margin"], "b": 120}
        layout["xaxis"] = style.x_axis(theme, tickvals=list(range(len(names))), ticktext=names, tickangle=-40,
                                       range=[-0.6, len(names) - 0.4])  # fmt: skip
    else:
        layout["xaxis"] = style.x_axis(theme, range=[0.4, 5.6], dtick=1)
    layout["yaxis"] = style.y_axis(theme, range=_bounds(data.drawn_lines, metric))
    layout |= {"boxmode": "group", "boxgap": 0.35, "boxgroupgap": 0.15}
    layout["annotations"] = [style.y_title(TITLES[metric], theme, "x", "y", layout["margin"]["l"])]
    if not by_type:
        layout["annotations"].append(style.x_title("intensity", theme, "x", "y"))
    return layout, [_box(data, group, size, theme) for group, size in data.drawn]


def _box(data: ShiftTypes, group: str, size: int, theme: Theme) -> dict[str, Any]:
    lines = {name: data.line(group, name, size) for name in data.types}
    found = {name: line for name, line in lines.items() if line is not None}
    ink = _look(group).colour(theme)
    if data.options.panel == "types":
        where = [i for i, name in enumerate(data.types) if name in found]
        values = [found[name].value[found[name].intensities > 0] for name in data.types if name in found]
    else:
        where = sorted({int(k) for line in found.values() for k in line.intensities if k > 0})
        values = [np.array([line.at(k) for line in found.values()]) for k in where]
    five = np.array([np.quantile(_drawn(data.options.metric, one), [0, 0.25, 0.5, 0.75, 1]) for one in values])
    filled = size in (0, data.solid)
    head = f"{_title(group)}, {size} runs averaged" if size > 1 else _title(group)
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
