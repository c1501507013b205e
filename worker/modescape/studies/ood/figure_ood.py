"""Does it know what it does not know? Divergence and detection on images of another kind (the SVHN row)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from modescape.drawing import style
from modescape.drawing.figure import Cell, Legend, Note, Notes, Words, figure
from modescape.drawing.numbers import float32, number
from modescape.drawing.panels import Panel, Picture, Trace, scatter
from modescape.drawing.style import Theme
from modescape.drawing.words import rate, thousands
from modescape.records import Group
from modescape.results import Results
from modescape.science.ood import SCORES
from modescape.studies.ood.sets import (
    SetData,
    SetOptions,
    deviation,
    group_title,
    inside,
    measured_on,
    runs_shown,
)
from modescape.study import GroupStudy, said_of_chains
from modescape.tables import Measurement

if TYPE_CHECKING:
    import plotly.graph_objects as go


_SCORES = {
    "entropy": "predictive entropy",
    "max-probability": "largest probability",
    "mutual-information": "mutual information",
    "max-logit": "largest logit",
    "energy": "energy",
}
Measure = Literal["auroc", "fpr95", "aupr_out", "aupr_in"]
_MEASURES: dict[Measure, str] = {
    "auroc": "AUROC",
    "fpr95": "FPR95",
    "aupr_out": "AUPR of other images",
    "aupr_in": "AUPR of test images",
}
_ROW = {"page": 34, "card": 26}  # px
_TOP, _BOTTOM, _BETWEEN = 52, 48, 92  # px: two lines of titles, tick labels, both between panels


class OodOptions(SetOptions):
    """How divergence is reduced, what detects the images, and how that is scored."""

    reduction: Literal["mean", "sum"] = Field(
        "mean",
        description="mean: the divergence with its 1/M; sum: M times as much, as the paper's formula is printed.",
    )
    score: Literal["all", "entropy", "max-probability", "mutual-information", "max-logit", "energy"] = Field(
        "all", description="all: every score, of runs and of their ensemble; one score: by every group of functions."
    )
    measure: Measure = Field(
        "auroc",
        description="auroc: how often an image of the other set scores above a test image; fpr95: share of test images "
        "above the threshold that finds 95 % of the others; aupr_out, aupr_in: area under precision and recall where "
        "the others, or the test images, are what is looked for.",
    )


@dataclass(frozen=True)
class Divergence:
    """Of one group: on the other images and on own test images, mean and sample deviation over `n` runs (nan: one)."""

    group: str
    outside: float
    deviation: float
    inside: float
    n: int


@dataclass(frozen=True)
class Detected:
    """One measure of one score read off one group: single functions (mean and deviation over runs), their ensemble."""

    group: str
    score: str
    single: float
    deviation: float
    ensemble: float


@dataclass(frozen=True, kw_only=True)
class Ood(SetData):
    """members: M of every group; chance: what a score that knows nothing gets; measured: every number of the set, for
    the table; by_measure: what one score gives the runs, which ensembles average."""

    options: OodOptions
    members: int
    chance: float
    divergences: tuple[Divergence, ...]
    detected: tuple[Detected, ...]
    measured: tuple[tuple[Cell, ...], ...]
    by_measure: Mapping[Measure, tuple[Detected, ...]]

    columns = ("group", "functions", "score", "metric", "value", "sd", "test_images", "test_images_sd", "n", "members",
            "dataset", "images")  # fmt: skip

    def rows(self) -> list[tuple[Cell, ...]]:
        return list(self.measured)

    @property
    def card_height(self) -> int:
        return self._tall("card")

    @property
    def page_height(self) -> int:
        return self._tall("page")

    def _tall(self, size: str) -> int:
        """px of both panels, a line a row, with what stands around them."""
        lines = len(self.divergences) + len(self.detected)
        between = _BETWEEN if self.divergences and self.detected else 0
        return _ROW[size] * lines + between + _TOP + _BOTTOM


@figure(
    "ood",
    order=70,
    title="Out of distribution",
    question="Does it know what it does not know?",
    summary="Divergence inside each group of functions on images of another kind, and how well scores detect them.",
    source="Fort, Hu, Lakshminarayanan 2019, section 5 (SVHN); Hendrycks & Gimpel 2017 (AUROC)",
    paper="SVHN row",
    needs=("predict", "ood", "ood-compare"),
)
def ood(results: Results, options: OodOptions) -> Ood:
    measured = measured_on(results, options.ood)
    about = measured[0].details
    study: GroupStudy = results.spec.ood[options.ood]
    divergences = tuple(
        Divergence(m.details["group"], number(m.value), number(m.details["sd"]), number(m.details["in"]), int(m.n or 0))
        for m in measured
        if m.metric == f"js_{options.reduction}"
    )
    detected = _detected(measured, options.score, options.measure)
    groups = list(dict.fromkeys(m.details["group"] for m in measured))
    return Ood(
        options=options,
        members=study.size(results.spec),
        runs=runs_shown(measured),
        chance=_chance_of(options.measure, about),
        divergences=divergences,
        detected=detected,
        measured=tuple(_row(m) for m in measured if m.metric != "entropy"),
        about=about,
        by_measure={name: _of_runs(measured, options, name) for name in _MEASURES},
        legend=tuple(Legend.of(group, group_title(group)) for group in groups),
    )


def _row(m: Measurement) -> tuple[Cell, ...]:
    d = m.details
    return (d["group"], d.get("functions"), d.get("score"), m.metric, m.value, d["sd"], d.get("in"), d.get("in_sd"),
            m.n, d["members"], d["title"], d["size"])  # fmt: skip


def _prevalence(measure: Measure, about: Mapping[str, Any]) -> float:
    """Share of the images that are what precision is about."""
    return float(about["in_size" if measure == "aupr_in" else "size"] / (about["size"] + about["in_size"]))


def _chance_of(measure: Measure, about: Mapping[str, Any]) -> float:
    """What a score gets that knows nothing: 95 % of the test images lie above a threshold that finds 95 %."""
    return {"auroc": 0.5, "fpr95": 0.95}.get(measure) or _prevalence(measure, about)


def _of_runs(measured: Sequence[Measurement], options: OodOptions, measure: Measure) -> tuple[Detected, ...]:
    """By the score shown (of all: predictive entropy)."""
    score = "entropy" if options.score == "all" else options.score
    found = _detected(measured, score, measure)
    return tuple(d for d in found if d.group == Group.INDEPENDENT and d.score == score)


def _told(data: Ood) -> tuple[str, ...]:
    """All four measures of the runs."""
    score = "entropy" if data.options.score == "all" else data.options.score
    told = []
    for measure, name in _MEASURES.items():
        for d in data.by_measure[measure]:
            several = f", ensemble {rate(d.ensemble)}" if np.isfinite(d.ensemble) else ""
            alone = f" {rate(d.single)}{deviation(d.deviation)}" if np.isfinite(d.single) else " –"
            told.append(f"{name}{alone}{several}")
    if not told:
        return ()
    of = {name: rate(_prevalence(name, data.about)) for name in ("aupr_out", "aupr_in")}
    return (
        f"By {_SCORES[score]}, a run: {'; '.join(told)}.",
        f"Prevalence, which is AUPR by chance: other images {of['aupr_out']}, test images {of['aupr_in']}.",
    )


def _detected(measured: Sequence[Measurement], score: str, measure: Measure) -> tuple[Detected, ...]:
    """A measure by score for the runs, or by group for one score; nan where a group or a score has none."""
    found = {
        (m.details["group"], m.details["score"], m.details["functions"]): m for m in measured if m.metric == measure
    }
    wanted: list[tuple[str, str]]
    if score == "all":
        wanted = [(Group.INDEPENDENT, name) for name in SCORES]
    else:
        wanted = [(group, score) for group in dict.fromkeys(group for group, _, _ in found)]
    made = []
    for group, name in wanted:
        single, together = found.get((group, name, "single")), found.get((group, name, "ensemble"))
        if single is not None or together is not None:
            made.append(
                Detected(
                    group,
                    name,
                    np.nan if single is None else number(single.value),
                    np.nan if single is None else number(single.details["sd"]),
                    np.nan if together is None else number(together.value),
                )
            )
    return tuple(made)


@ood.tell
def tell(data: Ood) -> Words:
    return Words(_caption(data), _summary(data), _notes(data))


def _caption(data: Ood) -> str:
    about, m = data.about, data.members
    how = f" ({about['conversion']})" if about["conversion"] else ""
    parts = [
        f"{about['title']}: {thousands(about['size'])} images{how}, beside "
        f"{thousands(about['in_size'])} {about['in_split']} images of the training set."
    ]
    times = f"{m} times the " if data.options.reduction == "sum" else ""
    parts.append(
        f"Jensen–Shannon divergence of M = {m} functions: {times}entropy of their mean minus their mean entropy, "
        "in nats. Inside a run: mean ± σ over runs."
    )
    by_runs = next((d for d in data.divergences if d.group == Group.INDEPENDENT), None)
    if by_runs is not None and by_runs.n > 1:
        parts.append(f"Independent runs: mean ± σ over {by_runs.n} groups of {m} of {data.runs}, which overlap.")
    what = "functions averaged inside a run, then over runs" if data.options.score != "all" else "runs"
    parts.append(f"{_measure(data)}; ensemble: {what}, n = {data.runs}.")
    parts += said_of_chains({d.group for d in data.divergences} | {d.group for d in data.detected})
    return " ".join(parts)


def _measure(data: Ood) -> str:
    """What the lower panel shows, and what chance would give."""
    measure, score = data.options.measure, _SCORES.get(data.options.score, "a score")
    chance = f"{rate(_chance_of(measure, data.about), 2 if measure == 'fpr95' else 3)} by chance"
    if measure == "auroc":
        return f"AUROC: how often {score} ranks one of these images above a test image, .5 by chance"
    if measure == "fpr95":
        return (
            f"FPR95: share of test images that {score} ranks above the threshold that finds 95 % of these images, "
            f"{chance}"
        )
    sought = "these images" if measure == "aupr_out" else "test images"
    return (
        f"{_MEASURES[measure]}: area under precision and recall of {score} looking for {sought}, {chance} "
        "(their prevalence)"
    )


def _summary(data: Ood) -> str:
    parts = []
    runs = next((d for d in data.divergences if d.group == Group.INDEPENDENT), None)
    inside = [d for d in data.divergences if d.group != Group.INDEPENDENT]
    if runs is not None:
        parts.append(f"{data.members} independent runs diverge by {rate(runs.outside)} nats")
    if inside:
        best = max(inside, key=lambda d: d.outside)
        parts.append(
            f"{'the' if runs is not None else 'The'} most diverse group inside a run, {group_title(best.group)}, "
            f"by {rate(best.outside)}{deviation(best.deviation)} (n = {best.n} runs)"
        )
    entropy = next((d for d in data.detected if d.group == Group.INDEPENDENT), None)
    if entropy is not None:
        ensemble = f", their ensemble by {rate(entropy.ensemble)}" if np.isfinite(entropy.ensemble) else ""
        parts.append(
            f"{_SCORES[entropy.score]} of a run tells the images from test images with an "
            f"{_MEASURES[data.options.measure]} of "
            f"{rate(entropy.single)}{deviation(entropy.deviation)}{ensemble}"
        )
    size, title = thousands(data.about["size"]), data.title
    return f"{title}, {size} images: {'; '.join(parts)}."


def _notes(data: Ood) -> Notes:
    lines = [
        Note.of(d.group, group_title(d.group), (rate(d.outside), rate(d.deviation), rate(d.inside)))
        for d in data.divergences
    ]
    text = [f"M = {data.members} functions in every group; nats.", *_told(data)]
    for d in data.detected:
        if data.options.score != "all" and d.group != Group.INDEPENDENT:
            ensemble = f", ensemble {rate(d.ensemble)}" if np.isfinite(d.ensemble) else ""
            text.append(
                f"{_MEASURES[data.options.measure]} by {_SCORES[d.score]}, {group_title(d.group)}: "
                f"{rate(d.single)}{deviation(d.deviation)}{ensemble}."
            )
    return Notes(("Divergence, nats", "here", "± σ", "test images"), tuple(lines), tuple(text))


def _left(names: Sequence[str]) -> int:
    """px for the names of the rows: a letter of the label font is seldom wider than 6.4."""
    return 16 + int(6.4 * max(map(len, names), default=0))


@ood.draw
def draw(data: Ood, theme: Theme) -> go.Figure:
    one = _ROW[data.options.size]
    above, below = one * len(data.divergences), one * len(data.detected)
    every = data.options.score == "all"
    upper = [group_title(d.group) for d in data.divergences]
    lower = [_SCORES[d.score] if every else group_title(d.group) for d in data.detected]
    margin = {"l": _left([*upper, *lower]), "t": _TOP, "b": _BOTTOM}
    picture = Picture("ood", data, theme, kind="scatter", margin=margin)
    if above:
        panel = _rows(picture, [1 - above / picture.plot_height, 1], upper, _divergence_window(data.divergences))
        times = f"{data.members} × " if data.options.reduction == "sum" else ""
        title = f"{times}divergence of {data.members} functions on {inside(data.title)}"
        _heads(picture, panel, title, "│ own test images", "nats")
        picture.add(*_divergence_traces(data, theme))
    if below:
        low, high = _window(data.detected)
        panel = _rows(picture, [0, below / picture.plot_height], lower, [low, high])
        what = "detection by score" if every else f"detection by {_SCORES[data.options.score]}"
        marks = "○ a run   ★ their ensemble" if every else "○ one run   filled: over runs"
        _heads(picture, panel, what, marks, _MEASURES[data.options.measure])
        picture.add(*_detection_traces(data, theme, (panel.x, panel.y)))
        if low < data.chance < high:
            picture.rule(panel, style.token("control", theme), x=data.chance)
    return picture.figure()


def _rows(picture: Picture, up: Sequence[float], names: Sequence[str], window: Sequence[float]) -> Panel:
    """A panel with one row a name, the first on top, and a hairline for each."""
    panel = picture.panel(
        None,
        up,
        x={"range": window, "labelalias": style.y_axis(picture.theme)["labelalias"]},
        y={
            "range": [len(names) - 0.5, -0.5], "fixedrange": True, "tickmode": "array",
            "tickvals": list(range(len(names))), "ticktext": [""] * len(names),
        },
    )  # fmt: skip
    place = {"xref": f"{panel.x} domain", "yref": panel.y, "x": 0, "xanchor": "right", "yanchor": "middle"}
    picture.write(
        *(style.label(name, picture.theme, strong=True, y=row, xshift=-8, **place) for row, name in enumerate(names))
    )
    return panel


def _heads(picture: Picture, panel: Panel, title: str, marks: str, unit: str) -> None:
    """The title, and what the marks mean on a line of its own: side by side they meet on narrow screens."""
    theme, x, y = picture.theme, panel.x, panel.y
    picture.write(
        {**style.y_title(title, theme, x, y, picture.left), "yshift": 24},
        style.label(marks, theme, **style.corner(x, y, "right", "top"), yshift=8),
        style.x_title(unit, theme, x, y),
    )


def _divergence_window(shown: Sequence[Divergence]) -> list[float]:
    """From zero, a true one, to the largest mark with its deviation."""
    ends = [value for d in shown for value in (d.outside, d.outside + d.deviation, d.inside) if np.isfinite(value)]
    high = max([1e-3, *ends])
    return [-0.02 * high, 1.05 * high]


def _window(shown: Sequence[Detected]) -> tuple[float, float]:
    ends = [
        value
        for d in shown
        for value in (d.single - d.deviation, d.single, d.single + d.deviation, d.ensemble)
        if np.isfinite(value)
    ]
    low, high = min(ends), max(ends)
    air = max(0.06 * (high - low), 0.01)
    return low - air, high + air  # a deviation may reach beyond what the number itself can be


def _divergence_traces(data: Ood, theme: Theme) -> list[Trace]:
    """From own test images (a bar) to the other images (the group's mark), with the deviation over runs."""
    traces: list[Trace] = []
    for row, d in enumerate(data.divergences):
        look, group, title = style.look(d.group), d.group, group_title(d.group)
        colour = look.colour(theme)
        text = (
            f"<b>{title}</b><br>{data.title}  {rate(d.outside)}{deviation(d.deviation)}<br>"
            f"test images  {rate(d.inside)}<br>M = {data.members}, n = {d.n}"
        )
        put = partial(_put, row, text, legendgroup=group, name=title, meta={"method": group})
        bar = {"symbol": "line-ns", "size": 12, "color": colour, "line": {"color": colour, "width": 2}}
        traces += [
            put([d.inside, d.outside], line=colour),
            put([d.inside], marker=bar),
            put([d.outside], marker=style.marker(look, theme), deviation=d.deviation, ink=colour),
        ]
    return traces


def _put(
    row: int, text: str, at: Sequence[float], *, line: str = "", deviation: float = np.nan, ink: str = "", **more: Any
) -> Trace:
    """A line in a row, in a softened colour, or a mark with its deviation where there is one."""
    if line:
        more["line"] = {"color": style.softened(line, 0.35), "width": 2}
        return scatter("lines", at, [row] * len(at), silent=True, **more)
    if np.isfinite(deviation):
        more["error_x"] = {
            "type": "data", "array": float32([deviation]), "color": ink, "thickness": 1.25, "width": 3,
        }  # fmt: skip
    return scatter("markers", at, [row], hover=[text], cliponaxis=False, **more)


def _detection_traces(data: Ood, theme: Theme, axes: tuple[str, str]) -> list[Trace]:
    """A ring for single runs, with their deviation, and the group's own mark for the average over runs."""
    traces: list[Trace] = []
    for row, d in enumerate(data.detected):
        look, group = style.look(d.group), d.group
        colour = look.colour(theme)
        ring = style.token("text", theme) if d.group == Group.INDEPENDENT else colour
        name = _SCORES[d.score] if data.options.score == "all" else group_title(d.group)
        text = f"<b>{name}</b><br>a run  {rate(d.single)}{deviation(d.deviation)}<br>"
        text += f"over {data.runs} runs  {rate(d.ensemble)}"
        put = partial(_put, row, text, axes=axes, legendgroup=group, name=name, meta={"method": group})
        if np.isfinite(d.single) and np.isfinite(d.ensemble):
            traces.append(put([d.single, d.ensemble], line=colour))
        if np.isfinite(d.single):
            mark = {"symbol": "circle-open", "size": 8, "color": ring, "line": {"color": ring, "width": 1.5}}
            traces.append(put([d.single], marker=mark, deviation=d.deviation, ink=ring))
        if np.isfinite(d.ensemble):
            solid = {**style.marker(look, theme), "symbol": look.symbol.removesuffix("-open")}
            traces.append(put([d.ensemble], marker=solid))
    return traces
