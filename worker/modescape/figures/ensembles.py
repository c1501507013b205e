"""What is it worth to average? Accuracy, Brier score, NLL and calibration error by ensemble size (paper Fig 8)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from modescape.drawing import style
from modescape.drawing.figure import Cell, FigureData, Legend, Note, Notes, Words, figure
from modescape.drawing.layers import Axes, Layer, Series
from modescape.drawing.numbers import lines, number
from modescape.drawing.options import FilterOptions
from modescape.drawing.panels import Picture, Trace, band, parted, scatter
from modescape.drawing.reading import FigureNotReady, Floats, Ints
from modescape.drawing.style import Theme
from modescape.drawing.words import listed, percent, rate, thousands
from modescape.figures.shared.scores import (
    METRICS,
    TITLES,
    TWINS,
    WORDS,
    Metric,
    bounds_of,
    drawn,
    groups_of,
    no_temperature,
    refusal,
    title,
    twin_words,
    value_of,
)
from modescape.methods.trained import relative_training
from modescape.records import Group, SampleSet
from modescape.registry import methods
from modescape.results import Results
from modescape.tables import Measurement

if TYPE_CHECKING:
    import plotly.graph_objects as go


_IDENTITIES = {
    "identity/brier": "Brier of the mean = mean Brier − ambiguity",
    "identity/entropy": "entropy = aleatoric + epistemic",
    "identity/size": "Brier by size = from distances of pairs",
}


class EnsembleOptions(FilterOptions):
    """What is drawn against ensemble size."""

    redraws: ClassVar[bool] = True

    panel: Literal["both", "accuracy", "brier", "nll", "ece", "nll-calibrated", "ece-calibrated"] = Field(
        "both",
        description="Accuracy and Brier score, or one measure alone (narrow screens show one); calibrated: after a "
        "temperature of its own for every run, average and ensemble, fitted on validation images.",
    )
    band: Literal["first", "all", "none"] = Field(
        "first",
        description="Whose spread over the ensembles of a size is drawn, ± 1 standard deviation: of the first group "
        "(of both where two are shown), of all, or of none.",
    )

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return ("accuracy", "brier") if self.panel == "both" else (self.panel,)


@dataclass(frozen=True)
class Curve:
    """One measure of one group by size [T]: mean, sd (NaN for a single ensemble), low and high over `subsets` of the
    `possible` ensembles of that size."""

    group: str
    metric: Metric
    sizes: Ints
    mean: Floats
    sd: Floats
    low: Floats
    high: Floats
    subsets: Ints
    possible: Ints


@dataclass(frozen=True)
class Check:
    """What must be equal for a group, how far it is off (NaN: no number), and how far it may be."""

    words: str
    group: str
    residual: float
    allowed: float


@dataclass(frozen=True, kw_only=True)
class Ensembles(FigureData):
    """Every measure of every group, whatever is drawn.

    By group: runs: how many members there are at most; samples: how many (fewest, most) were averaged inside each;
    training: epochs behind one member, over a run's. fair: groups whose samples are at the strength at which averages
    predict best. limits: Brier score of endlessly many members, by group; last: of methods that train on, the last
    iterates' measurements; checks: identities that must hold; untempered: why there would be no temperatures.
    """

    options: EnsembleOptions
    curves: tuple[Curve, ...]
    runs: Mapping[str, int]
    samples: Mapping[str, tuple[int, int]]
    training: Mapping[str, float | None]
    fair: tuple[str, ...]
    images: int
    limits: Mapping[str, float | None]
    last: Mapping[str, Mapping[Metric, Measurement]]
    checks: tuple[Check, ...]
    untempered: str

    columns = ("method", "measure", "size", "mean", "sd", "low", "high", "ensembles", "possible", "runs", "samples",
               "training", "passes")  # fmt: skip

    def rows(self) -> list[tuple[Cell, ...]]:
        return [row for curve in self.curves for row in self._lines(curve)]

    def _lines(self, curve: Curve) -> list[tuple[Cell, ...]]:
        samples, epochs = self.samples[curve.group], self.training[curve.group]
        return lines(
            curve.group, curve.metric, curve.sizes, curve.mean, curve.sd, curve.low, curve.high, curve.subsets,
            curve.possible, self.runs[curve.group], _count(samples), None if epochs is None else curve.sizes * epochs,
            curve.sizes * samples[1],
        )  # fmt: skip

    def has(self, metric: Metric) -> bool:
        return any(curve.metric == metric for curve in self.curves)

    def curve(self, group: str, metric: Metric) -> Curve:
        return next(curve for curve in self.curves if (curve.group, curve.metric) == (group, metric))

    @property
    def groups(self) -> list[str]:
        return list(dict.fromkeys(curve.group for curve in self.curves))

    @property
    def banded(self) -> list[str]:
        """Groups whose spread is drawn; seven bands over each other would hide the curves."""
        if self.options.band == "none":
            return []
        return self.groups if self.options.band == "all" or len(self.groups) <= 2 else self.groups[:1]


def _count(samples: tuple[int, int]) -> str:
    """ "10", or "7-10" where an accuracy floor took some."""
    return f"{samples[0]}" if samples[0] == samples[1] else f"{samples[0]}-{samples[1]}"


@figure(
    "ensembles",
    order=50,
    title="Ensemble size",
    question="What is it worth to average?",
    summary="Accuracy, Brier score, NLL and calibration error of ensembles of every size, of single networks and of "
    "subspace samples.",
    source="Fort, Hu, Lakshminarayanan 2019, Figure 8",
    paper="Fig 8",
    needs=("ensemble",),
    full=True,
)
def ensembles(results: Results, options: EnsembleOptions) -> Ensembles:
    if options.panel == "both" and not results.spec.has_probabilities:
        options = options.model_copy(update={"panel": "accuracy"})  # votes have no Brier score
    groups = groups_of(results, options)
    found = {metric: _by_group(results, metric, options.split) for metric in METRICS}
    shown = [group for group in groups if group in found["accuracy"]]
    if not shown:
        raise refusal(results, options.split)
    if not results.spec.has_probabilities:
        if options.panel not in ("both", "accuracy"):
            raise FigureNotReady("it needs probabilities, and labels alone came with the members", closed=True)
        options = options.model_copy(update={"panel": "accuracy"})
    if not all(group in found[metric] for group in shown for metric in options.metrics):
        raise FigureNotReady(no_temperature(results.spec, options.split))
    rows = [(group, metric, found[metric][group]) for group in shown for metric in METRICS if group in found[metric]]
    curves = tuple(_curve(*row) for row in rows)
    details = {group: found["accuracy"][group][0].details for group in shown}
    samples = {group: (int(kept["samples"][0]), int(kept["samples"][-1])) for group, kept in details.items()}
    return Ensembles(
        options=options,
        curves=curves,
        runs={group: int(kept["runs"]) for group, kept in details.items()},
        samples=samples,
        training={group: _training(results, group) for group in shown},
        fair=tuple(group for group, kept in details.items() if kept.get("set") == SampleSet.FAIR),
        images=found["accuracy"][shown[0]][0].n or 0,
        limits={group: row.value for group, row in _of_groups(results, "brier-limit", options.split)},
        last=_last_iterates(results, options, shown),
        checks=_checks(results, options.split, shown),
        untempered=no_temperature(results.spec, options.split),
        legend=tuple(Legend.of(group, title(group)) for group in shown),
        missing=_without_samples(results, groups, shown, details),
    )


def _training(results: Results, group: str) -> float | None:
    if group not in methods:  # not loaded here
        return 1.0 if group == Group.INDEPENDENT else None
    found = relative_training(results.spec, group)
    return None if math.isnan(found) else found


def _checks(results: Results, split: str, shown: Sequence[str]) -> tuple[Check, ...]:
    return tuple(
        Check(words, group, number(row.value), float(row.details["tolerance"]))
        for name, words in _IDENTITIES.items()
        for group, row in _of_groups(results, name, split)
        if group in shown
    )


def _of_groups(results: Results, metric: str, split: str) -> list[tuple[str, Measurement]]:
    """A number that each group has once, in the order stored."""
    rows = results.measurements(metric=metric)
    return [(row.subject.partition("/")[2], row) for row in rows if row.split == split]


def _last_iterates(
    results: Results, options: EnsembleOptions, shown: Sequence[str]
) -> dict[str, dict[Metric, Measurement]]:
    found: dict[str, dict[Metric, Measurement]] = {}
    for metric in options.metrics:
        for row in results.measurements(metric=metric):
            kind, _, method = row.subject.partition("/")
            if kind == SampleSet.LAST and row.split == options.split and method in shown:
                found.setdefault(method, {})[metric] = row
    return found


def _by_group(results: Results, metric: str, split: str) -> dict[str, list[Measurement]]:
    """Group -> its measurements on that split by size."""
    found: dict[str, list[Measurement]] = {}
    for measured in results.measurements(metric=metric):
        kind, _, rest = measured.subject.partition("/")
        if kind == "ensemble" and measured.split == split and "size" in measured.details:
            found.setdefault(rest.rpartition("/")[0], []).append(measured)
    return {group: sorted(rows, key=lambda row: int(row.details["size"])) for group, rows in found.items()}


def _curve(group: str, metric: Metric, rows: Sequence[Measurement]) -> Curve:
    def of(name: str) -> Floats:
        return np.array([number(row.details[name]) for row in rows], dtype=np.float64)

    return Curve(
        group,
        metric,
        sizes=of("size").astype(np.int64),
        mean=np.array([number(row.value) for row in rows], dtype=np.float64),
        sd=of("sd"),
        low=of("low"),
        high=of("high"),
        subsets=of("subsets").astype(np.int64),
        possible=of("of").astype(np.int64),
    )


def _without_samples(
    results: Results, groups: Sequence[str], shown: Sequence[str], details: Mapping[str, Mapping[str, Any]]
) -> str:
    planned = len(results.healthy)
    none = [title(group) for group in groups if group not in shown]
    fewer = [f"{title(g)} (of {details[g]['runs']} of {planned} runs)" for g in shown if details[g]["runs"] < planned]
    parts = [f"No typical samples: {', '.join(none)}."] if none else []
    why = "whose samples passed the accuracy floor, and whose chain has not failed,"
    parts += [f"Only runs {why} count: {', '.join(fewer)}."] if fewer else []
    return " ".join(parts)


@ensembles.tell
def tell(data: Ensembles) -> Words:
    return Words(_caption(data), _summary(data), _notes(data))


def _caption(data: Ensembles) -> str:
    split, curve = data.options.split, data.curves[0]
    measures = " and ".join(WORDS[metric] for metric in data.options.metrics)
    members = max(data.runs.values())
    sampled = curve.subsets < curve.possible
    drawn = ""
    if sampled.any():
        named = listed([str(size) for size in curve.sizes[sampled]])
        drawn = f", of {named} {int(curve.subsets[sampled].max())} of them drawn at random (seeded)"
    parts = [
        f"{measures[0].upper()}{measures[1:]} of ensembles by size, on {thousands(data.images)} {split} images. "
        f"Solid: mean over all choices of runs among {members}{drawn}; dashed: one run, mean of {members}."
    ]
    if data.banded:
        whose = "" if data.banded == data.groups else f" ({title(data.banded[0])} only)"
        parts.append(
            f"Band{whose}: ± 1 standard deviation over those ensembles; they share members, so it is a spread "
            "and not a standard error."
        )
    methods = [group for group in data.groups if data.samples[group][1] > 1]
    if methods:
        low, high = (pick(data.samples[g][i] for g in methods) for i, pick in enumerate((min, max)))
        parts.append(f"Of a subspace, M = {_count((low, high))} samples are averaged inside each run first.")
    if data.fair:
        parts.append("They are drawn at the strength at which such averages predict the validation images best.")
    return " ".join(parts)


def _summary(data: Ensembles) -> str:
    def ends(group: str) -> tuple[float, float, int]:
        curve = data.curve(group, "accuracy")
        return float(curve.mean[0]), float(curve.mean[-1]), int(curve.sizes[-1])

    group = data.groups[0]
    single, together, size = ends(group)
    whose = "" if group == Group.INDEPENDENT else f"{title(group)}: "
    text = (
        f"{whose}One run has an accuracy of {percent(single)} % on {data.options.split} images, an ensemble of {size} "
        f"{percent(together)} %"
    )
    others = [name for name in data.groups[1:] if np.isfinite(ends(name)[0])]
    if others:
        best = max(others, key=lambda name: ends(name)[1])
        alone, ensembled, _ = ends(best)
        text += (
            f"; the best ensemble of the others, {title(best)}, reaches {percent(alone)} % in one run "
            f"and {percent(ensembled)} % ensembled"
        )
    return f"{text[0].upper()}{text[1:]}."


def _notes(data: Ensembles) -> Notes:
    asked = data.options.metrics
    # beside NLL and calibration error stand their twins: what one number could have gained as well
    metrics = [one for metric in asked for one in (metric, TWINS.get(metric)) if one is not None and data.has(one)]
    lines = []
    for group in data.groups:
        curves = [data.curve(group, metric) for metric in metrics]
        values = [f"{value_of(c.metric, c.mean[0])} → {value_of(c.metric, c.mean[-1])}" for c in curves]
        epochs = data.training[group]
        cost = f"{'?' if epochs is None else f'{epochs:.3g}'}×, {data.samples[group][1]}×"
        lines.append(Note.of(group, title(group), (*values, cost)))
    text = [
        f"One run → {max(data.runs.values())} runs. Cost: epochs trained and forward passes of an image, of one run "
        "with that method, as many times as of one run.",
        *_trained_on(data),
    ]
    limit = data.limits.get(data.groups[0])
    if limit is not None and "brier" in metrics:
        text.append(
            f"Brier score of endlessly many such members, from the distances of pairs: {rate(limit)} "
            f"({title(data.groups[0])})."
        )
    text += twin_words(data.untempered, asked, metrics)
    heads = (TITLES[metric].removesuffix(", 0 to 2") for metric in metrics)
    return Notes(("", *heads, "epochs, passes"), tuple(lines), (*text, _checked(data)))


def _trained_on(data: Ensembles) -> list[str]:
    """Methods that train on gain by that too: the last iterates, equally long trained, beside the runs' finals."""
    texts = []
    for method, rows in data.last.items():
        scores = []
        for metric, row in rows.items():
            last, final = value_of(metric, number(row.value)), value_of(metric, number(row.details["final"]))
            scores.append(f"{WORDS[metric]} {last} (the runs {final})")
        about = next(iter(rows.values())).details
        texts.append(
            f"{title(method)} trains on. Its last iterates: {', '.join(scores)}; in {about['better']} of "
            f"{about['runs']} runs the last iterate has the lower validation NLL, and its gain is counted from there."
        )
    return texts


def _checked(data: Ensembles) -> str:
    """What must be equal, and whether it was."""
    broken = [check for check in data.checks if not check.residual <= check.allowed]
    if broken:
        allowed = data.checks[-1].allowed
        said = "; ".join(f"{title(check.group)}: {check.words} ({_off(check.residual)})" for check in broken)
        return f"Do not trust these numbers. Violated, beyond {allowed:.0e}: {said}."
    worst = max((check.residual for check in data.checks), default=0.0)
    most = f"1e{math.ceil(math.log10(worst))}" if worst > 0 else "0"
    return f"Checked: {', '.join(_IDENTITIES.values())}; at most {most} off."


def _off(residual: float) -> str:
    return f"off by {residual:.1e}" if math.isfinite(residual) else "not a finite number"


@ensembles.lay
def lay(data: Ensembles) -> Layer:
    axes = tuple(Axes(metric, "runs averaged", TITLES[metric]) for metric in data.options.metrics)
    series = [
        Series(panel=metric, group=group, title=title(group), marked=True, x=curve.sizes.astype(np.float64),
               y=drawn(metric, curve.mean), dash="" if group == Group.INDEPENDENT else "dot",
               hover=f"%{{x}} runs averaged<br>{WORDS[metric]} %{{y:.4~g}}")
        for metric in data.options.metrics for group in data.groups for curve in [data.curve(group, metric)]
    ]  # fmt: skip
    words = "Mean over all choices of runs by size; dotted: of methods, averaged inside each run first."
    return Layer(axes, tuple(series), f"{max(data.runs.values())} runs, {data.images} images", words)


@ensembles.draw
def draw(data: Ensembles, theme: Theme) -> go.Figure:
    picture = Picture("ensembles", data, theme, kind="curves", panels=("brier", "accuracy"))
    metrics, largest = data.options.metrics, max(int(curve.sizes[-1]) for curve in data.curves)
    runs = {
        "range": [0.8, largest + 0.2],
        "dtick": 1 if largest <= 12 else None,
        "showgrid": False,
        "fixedrange": False,
    }
    for metric, across in parted(metrics, ([0, 0.36], [0.62, 0.98])):  # room for the names of curves after each
        panel = picture.panel(across, x=runs, y={"range": _bounds(data, metric)})
        for group in reversed(data.groups):  # the optima on top
            picture.add(*_curve_traces(data, data.curve(group, metric), theme, panel.x, panel.y, largest))
        picture.titles(panel, "runs averaged", TITLES[metric])
        if len(data.groups) <= style.MOST_LABELS:
            picture.ends(panel, _ends(data, metric, theme))
    return picture.figure()


def _bounds(data: Ensembles, metric: Metric) -> list[float]:
    """Room for every mean, and for bands from ensembles of two on (single runs may be far apart)."""
    seen = []
    for group in data.groups:
        curve = data.curve(group, metric)
        spread = np.where(np.isfinite(curve.sd) & (curve.sizes > 1) & (group in data.banded), curve.sd, 0.0)
        seen += [curve.mean - spread, curve.mean + spread]
    return bounds_of(metric, np.concatenate(seen))


def _curve_traces(data: Ensembles, curve: Curve, theme: Theme, x: str, y: str, largest: int) -> list[Trace]:
    entry, name = style.look(curve.group), title(curve.group)
    ink = entry.colour(theme)
    mean, spread = drawn(curve.metric, curve.mean), drawn(curve.metric, np.nan_to_num(curve.sd))
    put = partial(scatter, axes=(x, y), legendgroup=curve.group)
    traces: list[Trace] = []
    if curve.group in data.banded and len(mean) > 1:
        traces.append(band(curve.sizes, mean - spread, mean + spread, ink, axes=(x, y), group=curve.group))
    return [
        *traces,
        put(
            "lines", [0.8, largest + 0.2], [mean[0], mean[0]], silent=True, name=f"{name}, one run",
            line={"color": ink, "width": 1.25, "dash": "dash"},
        ),
        put(
            "lines", curve.sizes, mean, hover=[_hover(curve, i) for i in range(len(mean))], name=name,
            meta={"method": curve.group}, line={"color": ink, "width": 2.5 if curve.group == Group.INDEPENDENT else 2},
        ),
        put("markers", curve.sizes, mean, silent=True, marker=style.marker(entry, theme), cliponaxis=False),
    ]  # fmt: skip


def _hover(curve: Curve, i: int) -> str:
    size, scored, of = int(curve.sizes[i]), int(curve.subsets[i]), int(curve.possible[i])
    head = "one run" if size == 1 else f"ensemble of {size}"
    unit = " %" if curve.metric == "accuracy" else ""
    spread = f" ± {value_of(curve.metric, curve.sd[i])}" if np.isfinite(curve.sd[i]) else ""
    value = f"{value_of(curve.metric, curve.mean[i])}{spread}{unit}"
    return f"<b>{title(curve.group)}, {head}</b><br>{WORDS[curve.metric]}  {value}<br>{scored} of {of} ensembles"


def _ends(data: Ensembles, metric: Metric, theme: Theme) -> list[style.End]:
    """The short name of every group where its curve ends."""
    curves = [data.curve(group, metric) for group in data.groups]
    return [
        style.End(
            "optima" if curve.group == Group.INDEPENDENT else curve.group,
            float(curve.sizes[-1]),
            float(drawn(metric, curve.mean)[-1]),
            style.look(curve.group).colour(theme),
        )
        for curve in curves
        if np.isfinite(curve.mean[-1])
    ]
