"""Does it help when the data shift? Scores and divergence by intensity of corruption (paper Fig 9 and 10)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from modescape.drawing import style
from modescape.drawing.figure import Cell, Legend, Note, Notes, Words, figure
from modescape.drawing.layers import Axes, Layer, Series
from modescape.drawing.numbers import lines, stacked
from modescape.drawing.panels import Picture, Trace, parted, scatter
from modescape.drawing.style import Theme
from modescape.drawing.words import rate, thousands
from modescape.errors import InvalidInput
from modescape.figures.shared import scores
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
    OtherImages,
    ShiftData,
    ShiftOptions,
    bounds_of,
    group_title,
    hover,
    other_images,
    own_images,
    read_lines,
    source_of,
)
from modescape.study import said_of_chains

if TYPE_CHECKING:
    import plotly.graph_objects as go


_PANELS: tuple[Metric, ...] = ("accuracy", "brier", "js_mean")
_HEADS: Mapping[str, str] = {
    "accuracy": "acc., %",
    "brier": "Brier",
    "nll": "NLL, nats",
    "ece": "ECE",
    "nll-calibrated": "NLL after temperature, nats",
    "ece-calibrated": "ECE after temperature",
    "js_mean": "JS, nats",
}
_DASHES = {1: "dash", 2: "dot"}


def _mean_line(lines: Sequence[Line]) -> Line:
    """The mean of one group's lines over types; how ensembles or runs vary in it is not known then."""
    shared = sorted(set.intersection(*({int(one) for one in line.intensities} for line in lines)))
    values = np.mean([[line.at(intensity) for intensity in shared] for line in lines], axis=0)
    nobody = np.full(len(values), np.nan)
    return replace(lines[0], corruption="", intensities=np.array(shared), value=values, sd=nobody)


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
class Shift(ShiftData):
    """Lines of every group shown: scores for one run, two runs and `solid` runs averaged, and divergences. accuracy and
    apart: of single runs on sets with images of their own; untempered: why there would be no temperatures."""

    options: IntensityOptions
    untempered: str
    accuracy: tuple[OtherImages, ...] = ()
    apart: tuple[OtherImages, ...] = ()

    columns = ("method", "measure", "runs", "members", "intensity", "value", "sd", "units", "types", "images")

    def rows(self) -> list[tuple[Cell, ...]]:
        types = len(self.source.types)
        return stacked(
            lines(
                line.group, line.metric, line.size or None, line.members, self.intensities(line), line.value, line.sd,
                line.units, types, self.images(line),
            )
            for line in self.lines
        )  # fmt: skip

    @property
    def groups(self) -> list[str]:
        return list(dict.fromkeys(line.group for line in self.lines))

    def line(self, group: str, metric: Metric, size: int) -> Line | None:
        return next((one for one in self.lines if (one.group, one.metric, one.size) == (group, metric, size)), None)


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
    full=True,
)
def shift(results: Results, options: IntensityOptions) -> Shift:
    asked = options.metrics
    read = read_lines(results, options, asked, by_type=False)
    twins = [scores.TWINS[metric] for metric in asked if metric in scores.TWINS]
    if any(results.shifted(twin) for twin in twins):
        read += read_lines(results, options, twins, by_type=False)
    own = own_images(results)
    changed = [name for name in options.corruption if name not in own]
    if changed:  # a mean at an intensity has no images of their own in it
        read = [line for line in read if line.corruption in changed]
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
    solid = options.ensemble or max((size for size in sizes if size <= SOLID), default=0)
    lines = [line for line in read if line.size in {0, 1, 2, solid}]
    # Late checkpoints are compared, not recommended: they are shown by their divergence, as in the paper.
    if Group.TRAJECTORY not in options.method:
        lines = [line for line in lines if line.group != Group.TRAJECTORY or not line.size]
    return Shift(
        options=options,
        lines=tuple(lines),
        solid=solid,
        source=source_of(results, changed or options.corruption),
        untempered=scores.no_temperature(results.spec, "test"),
        accuracy=tuple(other_images(results, "accuracy-change")),
        apart=tuple(other_images(results, "disagreement-change")),
        own=own,
        legend=tuple(Legend.of(group, group_title(group)) for group in dict.fromkeys(line.group for line in lines)),
    )


def _summed(line: Line) -> Line:
    if line.metric != "js_mean":
        return line
    return replace(line, value=line.value * line.members, sd=line.sd * line.members)


def _over(data: Shift) -> str:
    count = len(data.source.types)
    return f"mean over {count} {'types' if data.last else 'sets'}" if count > 1 else data.title_of(data.source.types[0])


def _caption(data: Shift) -> str:
    parts = []
    scores = [line for line in data.lines if line.size]
    averaged = max((line.members for line in scores), default=1)
    if scores:
        inside = f", with {averaged} samples inside each run for subspace methods" if averaged > 1 else ""
        solid = f"Solid: {data.solid} runs averaged{inside}" if data.solid > 1 else f"One run{inside}"
        two = "; dotted: two" if data.solid > 2 else ""
        parts.append(f"{solid}{two}{'; dashed: one run' if data.solid > 1 else ''}.")
    over = f"{_over(data)[:1].upper()}{_over(data)[1:]}"
    if data.last:
        parts.append(f"{over}, {thousands(data.source.images)} test images each; intensity 0 is clean.")
        parts.append(f"Images: {data.source.words}.")
    else:
        over = f"{over}, beside" if len(data.source.types) > 1 else "Beside"
        parts.append(f"{over} {thousands(data.source.images)} test images.")
    parts += [f"{data.own[name].words}." for name in data.source.types if name in data.own]
    compared = [line for line in data.lines if not line.size]
    if compared:
        members = compared[0].members
        kind = "times M (the sum)" if data.options.divergence == "sum" else "the mean form, with 1/M"
        parts.append(f"Divergence of M = {members} functions ({kind}): {members} runs, or {members} functions of one "
                     "run, mean over runs.")  # fmt: skip
    parts += said_of_chains({line.group for line in data.lines})
    return " ".join(parts)


def _summary(data: Shift) -> str:
    last = data.last or 1
    parts = []
    for metric in data.options.metrics:
        one, many = data.line(Group.INDEPENDENT, metric, 1), data.line(Group.INDEPENDENT, metric, data.solid)
        unit = " %" if metric == "accuracy" else ""
        if metric == "js_mean":
            own = {line.group: line.at(last) for line in data.lines if line.metric == metric}
            rest = {group: value for group, value in own.items() if group != Group.INDEPENDENT and math.isfinite(value)}
            if Group.INDEPENDENT in own:
                parts.append(f"the divergence of independent runs is {rate(own[Group.INDEPENDENT])} nats")
            if rest:
                best = max(rest, key=lambda group: rest[group])
                parts.append(f"the largest inside one run, {group_title(best)}, {rate(rest[best])} nats")
        elif one is not None:
            words = f"one run has {_article(WORDS[metric])} of {value_of(metric, one.at(last))}{unit}"
            if many is not None and data.solid > 1:
                words += f", {data.solid} together {value_of(metric, many.at(last))}{unit}"
            parts.append(words)
    if not parts:
        return f"{len(data.groups)} groups by intensity of corruption."
    return f"{f'At intensity {last}' if data.last else 'On images of its own'}, {_over(data)}: {'; '.join(parts)}."


def _article(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def _notes(data: Shift) -> Notes:
    last, asked = data.last or 1, data.options.metrics
    metrics = list(dict.fromkeys((*asked, *(line.metric for line in data.lines))))  # twins beside what was asked for
    lines = []
    for group in data.groups:
        cells = []
        for metric in metrics:
            line = data.line(group, metric, 0 if metric == "js_mean" else data.solid)
            cells.append("–" if line is None else value_of(metric, line.at(last)))
        lines.append(Note.of(group, group_title(group), tuple(cells)))
    text = [f"{data.solid} runs averaged."] if data.solid > 1 and asked != ("js_mean",) else []
    text += scores.twin_words(data.untempered, asked, metrics)
    text += _other_words(data)
    head = f"Intensity {last}" if data.last else "Images of its own"
    return Notes((head, *(_HEADS[metric] for metric in metrics)), tuple(lines), tuple(text))


def _other_words(data: Shift) -> list[str]:
    """A sentence for each set with images of its own, whose interval adds the variances of both sets."""
    apart = {one.title: one for one in data.apart}
    found = []
    for one in data.accuracy:
        words = f"On {one.title}, {thousands(one.images)} images of its own, single runs are right on {_changed(one)}"
        if one.title in apart:
            words += f"; two of them differ on {_changed(apart[one.title])}"
        found.append(f"{words}.{' Intervals are over images only.' if one.images_only else ''}")
    return found


def _changed(one: OtherImages) -> str:
    change = f"{_points(one.there - one.here)} points"
    if math.isfinite(one.low + one.high):
        change += f" [{_points(one.low)}, {_points(one.high)}]"
    return f"{100 * one.there:.2f} % ({100 * one.here:.2f} % of the test images: {change})"


def _points(share: float) -> str:
    return f"{100 * share:+.2f}".replace("-", "−")


@shift.tell
def tell(data: Shift) -> Words:
    return Words(_caption(data), _summary(data), _notes(data))


_OPTION = {"js_mean": "js"}  # measures that are asked for by another name


@shift.lay
def lay(data: Shift) -> Layer:
    """The solid lines, of what has intensities."""
    metrics = data.options.metrics if data.last else ()
    main = [line for line in data.lines if line.metric in metrics and line.size in (0, data.solid)]
    axes = tuple(
        Axes(_OPTION.get(metric, metric), "intensity", _panel_title(metric, data, 2), y_from_zero=metric == "js_mean")
        for metric in metrics if any(line.metric == metric for line in main)
    )  # fmt: skip
    series = [
        Series(panel=_OPTION.get(line.metric, line.metric), group=line.group, title=group_title(line.group),
               marked=True, x=line.intensities.astype(np.float64), y=drawn(line.metric, line.value),
               dash="" if line.group == Group.INDEPENDENT else "dot",
               hover="intensity %{x}<br>%{y:.4~g}")
        for line in main
    ]  # fmt: skip
    over = _over(data)
    return Layer(axes, tuple(series), f"{data.solid} runs averaged, {over}, {data.source.images} images",
                 "Solid: runs averaged; dotted: methods, averaged inside each run first.")  # fmt: skip


@shift.draw
def draw(data: Shift, theme: Theme) -> go.Figure:
    picture = Picture("shift", data, theme, kind="curves-values", panels=("accuracy", "brier", "js"))
    metrics, places = data.options.metrics, {"range": [-0.15, 5.15], "dtick": 1}
    named = len(data.groups) <= style.MOST_LABELS  # of more the legend and whoever points tell
    gaps = ([0, 0.22], [0.39, 0.61], [0.78, 1]) if named else ([0, 0.27], [0.365, 0.635], [0.73, 1])
    for metric, across in parted(metrics, gaps):
        drawn = [line for line in data.lines if line.metric == metric]
        panel = picture.panel(across, x=places if data.last else PLACES, y={"range": bounds_of(drawn, metric)})
        for line in sorted(drawn, key=lambda line: (line.size not in (0, data.solid), line.group == Group.INDEPENDENT)):
            picture.add(_line_trace(line, data, theme, panel.x, panel.y))
        picture.titles(panel, "intensity" if data.last else "", _panel_title(metric, data, len(metrics)))
        main = [line for line in drawn if line.size in (0, data.solid) and np.isfinite(line.value[-1])]
        is_last = metric == metrics[-1]  # beside it there is room for a number
        picture.ends(panel, [_end(line, metric, theme, is_last) for line in main if named], reach=14)
    return picture.figure()


def _panel_title(metric: Metric, data: Shift, panels: int) -> str:
    if metric != "js_mean":
        return TITLES[metric]
    members = next((line.members for line in data.lines if line.metric == metric), 0)
    kind = "JS" if panels > 1 else "Jensen–Shannon divergence"
    return f"{'sum of ' if data.options.divergence == 'sum' else ''}{kind} of {members} functions, nats"


def _line_trace(line: Line, data: Shift, theme: Theme, x: str, y: str) -> Trace:
    """A line; with symbols where it is the solid one."""
    entry, main = style.look(line.group), line.size in (0, data.solid)
    dash = "solid" if main else _DASHES.get(line.size, "dashdot")
    width = (2.5 if line.group == Group.INDEPENDENT else 2) if main else 1.25
    symbols: Json = {"marker": style.marker(entry, theme)} if main else {}
    return scatter(
        "lines+markers" if main else "lines", line.intensities, drawn(line.metric, line.value), axes=(x, y),
        hover=[hover(data, line, i) for i in range(len(line.intensities))], name=group_title(line.group),
        legendgroup=line.group, meta={"method": line.group}, cliponaxis=False,
        line={"color": entry.colour(theme), "width": width, "dash": dash}, **symbols,
    )  # fmt: skip


def _end(line: Line, metric: Metric, theme: Theme, with_value: bool) -> style.End:
    """Short name where the line ends."""
    return style.End(
        f"{value_of(metric, float(line.value[-1]))} {line.group}" if with_value else line.group,
        int(line.intensities[-1]),
        float(drawn(metric, line.value)[-1]),
        style.look(line.group).colour(theme),
    )
