"""Does it know what it does not know? Divergence, detection and entropy on images of another kind (the SVHN row)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from modescape.errors import InvalidInput
from modescape.figures import style
from modescape.figures.figure import (
    GROUNDS,
    INDEPENDENT,
    Cell,
    FigureData,
    FigureNotReady,
    FigureOptions,
    Floats,
    Legend,
    Note,
    Notes,
    Results,
    figure,
    float32,
    method_look,
    method_title,
    rate,
    thousands,
)
from modescape.figures.style import Theme
from modescape.science.ood import SCORES, entropy_edges
from modescape.science.outside import title as set_title
from modescape.studies import GroupStudy, said_of_chains

if TYPE_CHECKING:
    import plotly.graph_objects as go

OPTIMUM, TRAJECTORY = "optimum", "trajectory"  # groups as the stage names them

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
_SET: Any = Field(0, ge=0, le=7, description="Which of the experiment's sets of other images; 0 is the first.")


class SetOptions(FigureOptions):
    """Which images."""

    ood: int = _SET

    @classmethod
    def choices(cls, results: Results) -> Mapping[str, Mapping[str, str]]:
        return {"ood": {str(i): set_title(study) for i, study in enumerate(results.spec.ood)}}


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


class EntropyOptions(SetOptions):
    """Whose entropy."""

    redraws: ClassVar[bool] = True

    method: tuple[str, ...] = Field(
        (), max_length=16,
        description="Groups shown, comma-separated: independent, trajectory, methods; empty: independent runs.",
    )  # fmt: skip
    panel: Literal["both", "single", "ensemble"] = Field(
        "both", description="Single runs and ensembles, or one of them for narrow screens."
    )

    @field_validator("method", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return tuple(filter(None, value.split(","))) if isinstance(value, str) else value

    def groups_of(self, results: Results) -> list[str]:
        """Groups asked for, as the stage names them. Raises InvalidInput for one the experiment does not have."""
        groups = [OPTIMUM, TRAJECTORY, *(chosen.method for chosen in results.spec.methods)]
        known = [_legend_group(group) for group in groups]
        unknown = [name for name in self.method if name not in (*known, *GROUNDS)]
        if unknown:
            raise InvalidInput(
                f"this experiment has no group {unknown[0][:60]!r}",
                field="method",
                allowed="some of " + ", ".join(known),
            )
        return [group for group in groups if _legend_group(group) in (self.method or (INDEPENDENT,))]


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
class Ood(FigureData):
    """members: M of every group; runs: averaged by ensembles; chance: what a score that knows nothing gets; measured:
    every number of the set, for the table."""

    options: OodOptions
    title: str
    members: int
    runs: int
    chance: float
    divergences: tuple[Divergence, ...]
    detected: tuple[Detected, ...]
    measured: tuple[tuple[Cell, ...], ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return ("group", "functions", "score", "metric", "value", "sd", "test_images", "test_images_sd", "n", "members",
                "dataset", "images")  # fmt: skip

    def rows(self) -> list[tuple[Cell, ...]]:
        return list(self.measured)

    @property
    def page_height(self) -> int:
        return self.height("page")

    def height(self, size: str) -> int:
        """px of both panels, a line a row, with what stands around them."""
        lines = len(self.divergences) + len(self.detected)
        between = _BETWEEN if self.divergences and self.detected else 0
        return _ROW[size] * lines + between + _TOP + _BOTTOM


def _measured(results: Results, index: int) -> list[Any]:
    """Measurements of one set of images, those of the spec's groups only, in their order. Raises FigureNotReady."""
    planned = results.spec.ood
    if not planned:
        raise FigureNotReady("no images of another kind in this spec; name a set under Out of distribution")
    if index >= len(planned):
        raise FigureNotReady(f"this spec has no set {index} of other images; it has {len(planned)}")
    prefix = f"ood/{index}/"
    found = [m for m in results.measurements() if m.subject.startswith(prefix)]
    if not found:
        raise FigureNotReady("the comparison comes after every run’s predictions", waits_for=("ood", "ood-compare"))
    order = {name: i for i, name in enumerate((OPTIMUM, TRAJECTORY, *(m.method for m in results.spec.methods)))}
    return sorted(found, key=lambda m: (order.get(m.details["group"], len(order)), m.subject, m.metric))


def _look(group: str) -> style.Look:
    if group == OPTIMUM:
        return style.look("independent")
    return style.look(TRAJECTORY) if group == TRAJECTORY else method_look(group)


def _legend_group(group: str) -> str:
    return "independent" if group == OPTIMUM else group


def _title(group: str) -> str:
    if group == OPTIMUM:
        return "independent runs"
    return "latest checkpoints" if group == TRAJECTORY else method_title(group)


def _inside(title: str) -> str:
    """A set's title inside a sentence: "SVHN", "uniform noise"."""
    return title if title[1:2].isupper() or "-" in title else title[:1].lower() + title[1:]


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)


# ---- the row ----


@figure(
    "ood",
    order=70,
    title="Out of distribution",
    question="Does it know what it does not know?",
    summary="Divergence inside each group of functions on images of another kind, and how well scores detect them.",
    source="Fort, Hu, Lakshminarayanan 2019, section 5 (SVHN); Hendrycks & Gimpel 2017 (AUROC)",
    paper="SVHN row",
    needs=("predict", "ood", "ood-compare"),
    options=OodOptions,
)
def ood(results: Results, options: OodOptions) -> Ood:
    measured = _measured(results, options.ood)
    about = measured[0].details
    study: GroupStudy = results.spec.ood[options.ood]
    divergences = tuple(
        Divergence(
            m.details["group"], _number(m.value), _number(m.details["sd"]), _number(m.details["in"]), int(m.n or 0)
        )
        for m in measured
        if m.metric == f"js_{options.reduction}"
    )
    detected = _detected(measured, options.score, options.measure)
    runs = _runs(measured)
    words = _Words(options, about, study.size(results.spec), runs, divergences, detected, _told(measured, options))
    groups = list(dict.fromkeys(m.details["group"] for m in measured))
    return Ood(
        options=options,
        title=about["title"],
        members=words.members,
        runs=runs,
        chance=_chance_of(options.measure, about),
        divergences=divergences,
        detected=detected,
        measured=tuple(_row(m) for m in measured if m.metric != "entropy"),
        caption=words.caption(),
        summary=words.summary(),
        notes=words.notes(),
        legend=tuple(Legend(_legend_group(group), _title(group), _look(group).key) for group in groups),
    )


def _runs(measured: Sequence[Any]) -> int:
    """Runs that were shown the images."""
    return max((int(m.details["runs"]) for m in measured if "runs" in m.details), default=0)


def _row(m: Any) -> tuple[Cell, ...]:
    d = m.details
    return (d["group"], d.get("functions"), d.get("score"), m.metric, m.value, d["sd"], d.get("in"), d.get("in_sd"),
            m.n, d["members"], d["title"], d["size"])  # fmt: skip


def _prevalence(measure: Measure, about: Mapping[str, Any]) -> float:
    """Share of the images that are what precision is about."""
    return float(about["in_size" if measure == "aupr_in" else "size"] / (about["size"] + about["in_size"]))


def _chance_of(measure: Measure, about: Mapping[str, Any]) -> float:
    """What a score gets that knows nothing: 95 % of the test images lie above a threshold that finds 95 %."""
    return {"auroc": 0.5, "fpr95": 0.95}.get(measure) or _prevalence(measure, about)


def _told(measured: Sequence[Any], options: OodOptions) -> tuple[str, ...]:
    """All four measures of the runs, by the score shown (of all: predictive entropy)."""
    score = "entropy" if options.score == "all" else options.score
    told = []
    for measure, name in _MEASURES.items():
        for d in _detected(measured, score, measure):
            if d.group == OPTIMUM and d.score == score:
                several = f", ensemble {rate(d.ensemble)}" if np.isfinite(d.ensemble) else ""
                alone = f" {rate(d.single)}{_deviation(d.deviation)}" if np.isfinite(d.single) else " –"
                told.append(f"{name}{alone}{several}")
    if not told:
        return ()
    of = {name: rate(_prevalence(name, measured[0].details)) for name in ("aupr_out", "aupr_in")}
    return (
        f"By {_SCORES[score]}, a run: {'; '.join(told)}.",
        f"Prevalence, which is AUPR by chance: other images {of['aupr_out']}, test images {of['aupr_in']}.",
    )


def _detected(measured: Sequence[Any], score: str, measure: Measure) -> tuple[Detected, ...]:
    """A measure by score for the runs, or by group for one score; nan where a group or a score has none."""
    found = {
        (m.details["group"], m.details["score"], m.details["functions"]): m for m in measured if m.metric == measure
    }
    wanted: list[tuple[str, str]]
    if score == "all":
        wanted = [(OPTIMUM, name) for name in SCORES]
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
                    np.nan if single is None else _number(single.value),
                    np.nan if single is None else _number(single.details["sd"]),
                    np.nan if together is None else _number(together.value),
                )
            )
    return tuple(made)


@dataclass(frozen=True)
class _Words:
    """Caption, summary and notes of the row."""

    options: OodOptions
    about: dict[str, Any]
    members: int
    runs: int
    divergences: tuple[Divergence, ...]
    detected: tuple[Detected, ...]
    told: tuple[str, ...]

    def caption(self) -> str:
        about, m = self.about, self.members
        parts = [
            f"{about['title']}: {thousands(about['size'])} images ({about['conversion']}), beside "
            f"{thousands(about['in_size'])} {about['in_split']} images of the training set."
        ]
        times = f"{m} times the " if self.options.reduction == "sum" else ""
        parts.append(
            f"Jensen–Shannon divergence of M = {m} functions: {times}entropy of their mean minus their mean entropy, "
            "in nats. Inside a run: mean ± σ over runs."
        )
        by_runs = next((d for d in self.divergences if d.group == OPTIMUM), None)
        if by_runs is not None and by_runs.n > 1:
            parts.append(f"Independent runs: mean ± σ over {by_runs.n} groups of {m} of {self.runs}, which overlap.")
        what = "functions averaged inside a run, then over runs" if self.options.score != "all" else "runs"
        parts.append(f"{self._measure()}; ensemble: {what}, n = {self.runs}.")
        parts += said_of_chains({d.group for d in self.divergences} | {d.group for d in self.detected})
        return " ".join(parts)

    def _measure(self) -> str:
        """What the lower panel shows, and what chance would give."""
        measure, score = self.options.measure, _SCORES.get(self.options.score, "a score")
        chance = f"{rate(_chance_of(measure, self.about), 2 if measure == 'fpr95' else 3)} by chance"
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

    def summary(self) -> str:
        parts = []
        runs = next((d for d in self.divergences if d.group == OPTIMUM), None)
        inside = [d for d in self.divergences if d.group != OPTIMUM]
        if runs is not None:
            parts.append(f"{self.members} independent runs diverge by {rate(runs.outside)} nats")
        if inside:
            best = max(inside, key=lambda d: d.outside)
            parts.append(
                f"{'the' if runs is not None else 'The'} most diverse group inside a run, {_title(best.group)}, "
                f"by {rate(best.outside)}{_deviation(best.deviation)} (n = {best.n} runs)"
            )
        entropy = next((d for d in self.detected if d.group == OPTIMUM), None)
        if entropy is not None:
            ensemble = f", their ensemble by {rate(entropy.ensemble)}" if np.isfinite(entropy.ensemble) else ""
            parts.append(
                f"{_SCORES[entropy.score]} of a run tells the images from test images with an "
                f"{_MEASURES[self.options.measure]} of "
                f"{rate(entropy.single)}{_deviation(entropy.deviation)}{ensemble}"
            )
        size, title = thousands(self.about["size"]), self.about["title"]
        return f"{title}, {size} images: {'; '.join(parts)}."

    def notes(self) -> Notes:
        lines = [
            Note(
                _title(d.group),
                (rate(d.outside), rate(d.deviation), rate(d.inside)),
                look=_look(d.group).key,
                strong=d.group == OPTIMUM,
            )
            for d in self.divergences
        ]
        text = [f"M = {self.members} functions in every group; nats.", *self.told]
        for d in self.detected:
            if self.options.score != "all" and d.group != OPTIMUM:
                ensemble = f", ensemble {rate(d.ensemble)}" if np.isfinite(d.ensemble) else ""
                text.append(
                    f"{_MEASURES[self.options.measure]} by {_SCORES[d.score]}, {_title(d.group)}: "
                    f"{rate(d.single)}{_deviation(d.deviation)}{ensemble}."
                )
        return Notes(("Divergence", "here", "± σ", "test images"), tuple(lines), tuple(text))


def _deviation(value: float) -> str:
    return f" ± {rate(value)}" if np.isfinite(value) else ""


def _left(names: Sequence[str]) -> int:
    """px for the names of the rows: a letter of the label font is seldom wider than 6.4."""
    return 16 + int(6.4 * max(map(len, names), default=0))


@ood.draw
def _(data: Ood, theme: Theme) -> go.Figure:
    import plotly.graph_objects as go

    one, height = _ROW[data.options.size], data.height(data.options.size)
    above, below, plot = one * len(data.divergences), one * len(data.detected), height - _TOP - _BOTTOM
    layout = style.layout(theme, kind="scatter", height=height, revision="ood")
    every = data.options.score == "all"
    upper = [_title(d.group) for d in data.divergences]
    lower = [_SCORES[d.score] if every else _title(d.group) for d in data.detected]
    left = _left([*upper, *lower])
    layout["margin"] = {**layout["margin"], "l": left, "t": _TOP, "b": _BOTTOM}
    layout["annotations"], layout["shapes"] = [], []
    traces: list[dict[str, Any]] = []
    if above:
        times = f"{data.members} × " if data.options.reduction == "sum" else ""
        _rows(layout, theme, "", [1 - above / plot, 1], upper, _divergence_window(data.divergences))
        layout["annotations"] += _heads(
            f"{times}divergence of {data.members} functions on {_inside(data.title)}",
            "│ own test images",
            "nats",
            theme,
            "",
            left,
        )
        traces += _divergence_traces(data, theme)
    if below:
        number = "2" if above else ""
        low, high = _window(data.detected)
        _rows(layout, theme, number, [0, below / plot], lower, [low, high])
        what = "detection by score" if every else f"detection by {_SCORES[data.options.score]}"
        marks = "○ a run   ★ their ensemble" if every else "○ one run   filled: over runs"
        layout["annotations"] += _heads(what, marks, _MEASURES[data.options.measure], theme, number, left)
        traces += _detection_traces(data, theme, number)
        if low < data.chance < high:
            layout["shapes"].append(_chance(data.chance, theme, number))
    layout["meta"] = {"figure": "ood", "panels": []}
    return go.Figure(data=traces, layout=layout, layout_template=None)


def _rows(
    layout: dict[str, Any], theme: Theme, number: str, domain: list[float], names: Sequence[str], window: list[float]
) -> None:
    """A panel with one row a name, the first on top, and a hairline for each."""
    x, y = f"x{number}", f"y{number}"
    layout[f"xaxis{number}"] = style.x_axis(theme, anchor=y, range=window, labelalias=style.y_axis(theme)["labelalias"])
    layout[f"yaxis{number}"] = style.y_axis(
        theme, anchor=x, domain=domain, range=[len(names) - 0.5, -0.5], fixedrange=True, tickmode="array",
        tickvals=list(range(len(names))), ticktext=[""] * len(names),
    )  # fmt: skip
    layout["annotations"] += [
        style.label(
            name, theme, strong=True, xref=f"{x} domain", yref=y, x=0, y=row, xanchor="right", yanchor="middle",
            xshift=-8,
        )
        for row, name in enumerate(names)
    ]  # fmt: skip


def _heads(title: str, marks: str, unit: str, theme: Theme, number: str, left: int) -> list[dict[str, Any]]:
    """The title, and what the marks mean on a line of its own: side by side they meet on narrow screens."""
    x, y = f"x{number}", f"y{number}"
    return [
        {**style.y_title(title, theme, x, y, left), "yshift": 24},
        style.label(marks, theme, **style.corner(x, y, "right", "top"), yshift=8),
        style.x_title(unit, theme, x, y),
    ]


def _chance(at: float, theme: Theme, number: str) -> dict[str, Any]:
    line = {"color": style.token("control", theme), "width": 1, "dash": "dot"}
    place = {"xref": f"x{number}", "yref": f"y{number} domain", "x0": at, "x1": at, "y0": 0, "y1": 1}
    return {"type": "line", "layer": "below", "line": line, **place}


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
    return max(0.0, low - air), min(1.0, high + air) + 0.01


def _divergence_traces(data: Ood, theme: Theme) -> list[dict[str, Any]]:
    """From own test images (a bar) to the other images (the group's mark), with the deviation over runs."""
    traces: list[dict[str, Any]] = []
    for row, d in enumerate(data.divergences):
        look, group = _look(d.group), _legend_group(d.group)
        colour = look.colour(theme)
        text = (
            f"<b>{_title(d.group)}</b><br>{data.title}  {rate(d.outside)}{_deviation(d.deviation)}<br>"
            f"test images  {rate(d.inside)}<br>M = {data.members}, n = {d.n}"
        )
        shared = {"type": "scatter", "legendgroup": group, "name": _title(d.group), "meta": {"method": group}}
        traces.append({
            **shared, "mode": "lines", "x": float32([d.inside, d.outside]), "y": float32([row, row]),
            "line": {"color": style.softened(colour, 0.35), "width": 2}, "hoverinfo": "skip",
        })  # fmt: skip
        traces.append({
            **shared, "mode": "markers", "x": float32([d.inside]), "y": float32([row]), "hoverinfo": "text",
            "hovertext": [text], "cliponaxis": False,
            "marker": {"symbol": "line-ns", "size": 12, "color": colour, "line": {"color": colour, "width": 2}},
        })  # fmt: skip
        mark = {
            **shared, "mode": "markers", "x": float32([d.outside]), "y": float32([row]), "hoverinfo": "text",
            "hovertext": [text], "marker": style.marker(look, theme), "cliponaxis": False,
        }  # fmt: skip
        if np.isfinite(d.deviation):
            mark["error_x"] = _bar([d.deviation], colour)
        traces.append(mark)
    return traces


def _bar(deviations: Sequence[float], colour: str) -> dict[str, Any]:
    return {"type": "data", "array": float32(deviations), "color": colour, "thickness": 1.25, "width": 3}


def _detection_traces(data: Ood, theme: Theme, number: str) -> list[dict[str, Any]]:
    """A ring for single runs, with their deviation, and the group's own mark for the average over runs."""
    traces: list[dict[str, Any]] = []
    axes = {"xaxis": f"x{number}", "yaxis": f"y{number}"}
    for row, d in enumerate(data.detected):
        look, group = _look(d.group), _legend_group(d.group)
        colour = look.colour(theme)
        ring = style.token("text", theme) if d.group == OPTIMUM else colour
        name = _SCORES[d.score] if data.options.score == "all" else _title(d.group)
        text = f"<b>{name}</b><br>a run  {rate(d.single)}{_deviation(d.deviation)}<br>"
        text += f"over {data.runs} runs  {rate(d.ensemble)}"
        shared = {"type": "scatter", "legendgroup": group, "name": name, "meta": {"method": group}, **axes}
        if np.isfinite(d.single) and np.isfinite(d.ensemble):
            traces.append({
                **shared, "mode": "lines", "x": float32([d.single, d.ensemble]), "y": float32([row, row]),
                "line": {"color": style.softened(colour, 0.35), "width": 2}, "hoverinfo": "skip",
            })  # fmt: skip
        if np.isfinite(d.single):
            mark = {
                **shared, "mode": "markers", "x": float32([d.single]), "y": float32([row]), "hoverinfo": "text",
                "hovertext": [text], "cliponaxis": False,
                "marker": {"symbol": "circle-open", "size": 8, "color": ring, "line": {"color": ring, "width": 1.5}},
            }  # fmt: skip
            if np.isfinite(d.deviation):
                mark["error_x"] = _bar([d.deviation], ring)
            traces.append(mark)
        if np.isfinite(d.ensemble):
            solid = {**style.marker(look, theme), "symbol": look.symbol.removesuffix("-open")}
            traces.append({
                **shared, "mode": "markers", "x": float32([d.ensemble]), "y": float32([row]), "hoverinfo": "text",
                "hovertext": [text], "marker": solid, "cliponaxis": False,
            })  # fmt: skip
    return traces


# ---- entropy ----


@dataclass(frozen=True)
class Spectrum:
    """Shares of images in each bin of predictive entropy, on the other images and on own test images [BINS]; means in
    nats, deviation over runs (nan: one); functions: "single" (all runs' images together) or "ensemble"; n: runs
    averaged."""

    group: str
    functions: str
    outside: Floats
    inside: Floats
    mean: float
    deviation: float
    own: float
    n: int

    @property
    def name(self) -> str:
        alone = "a run" if self.group == OPTIMUM else f"{_title(self.group)} in a run"
        together = "ensemble" if self.group == OPTIMUM else _title(self.group)
        return f"{together} of {self.n} runs" if self.functions == "ensemble" else alone

    @property
    def look(self) -> style.Look:
        """A single run is no group of runs: it has the grey of what one compares with."""
        return style.look("baseline") if (self.group, self.functions) == (OPTIMUM, "single") else _look(self.group)


@dataclass(frozen=True, kw_only=True)
class Entropies(FigureData):
    """edges [BINS + 1] in nats, from 0 to log K."""

    options: EntropyOptions
    title: str
    edges: Floats
    spectra: tuple[Spectrum, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return ("group", "functions", "from", "to", "share", "share_test_images")

    def rows(self) -> list[tuple[Cell, ...]]:
        return [
            (s.group, s.functions, float(self.edges[i]), float(self.edges[i + 1]), float(s.outside[i]),
             float(s.inside[i]))
            for s in self.spectra
            for i in range(len(s.outside))
        ]  # fmt: skip

    @property
    def groups(self) -> list[str]:
        return list(dict.fromkeys(s.group for s in self.spectra))

    @property
    def page_height(self) -> int:
        return self.height("page")

    def height(self, size: str) -> int:
        """px; more groups are more rows of panels."""
        down = len(self.groups)
        if down == 1:
            return 520 if size == "page" else 292
        return down * (260 if size == "page" else 220)


@figure(
    "ood-entropy",
    order=72,
    title="Entropy on other images",
    question="Is it unsure where it should be?",
    summary="Histograms of predictive entropy on images of another kind and on test images.",
    source="Lakshminarayanan, Pritzel, Blundell 2017, Figure 3",
    needs=("predict", "ood", "ood-compare"),
    options=EntropyOptions,
)
def ood_entropy(results: Results, options: EntropyOptions) -> Entropies:
    everyone = [m for m in _measured(results, options.ood) if m.metric == "entropy"]
    groups = options.groups_of(results)
    measured = [m for m in everyone if m.details["group"] in groups]
    if not measured:
        raise FigureNotReady("none of the groups asked for was shown these images")
    about = measured[0].details
    edges = entropy_edges(len(results.class_names))
    spectra = tuple(
        Spectrum(
            m.details["group"], m.details["functions"], _shares(m.details["counts"]), _shares(m.details["in_counts"]),
            _number(m.value), _number(m.details["sd"]), _number(m.details["in"]), m.details["runs"],
        )
        for m in sorted(
            measured, key=lambda m: (groups.index(m.details["group"]), m.details["functions"] == "ensemble")
        )
    )  # fmt: skip
    unsure = [
        f"{s.name}, {rate(s.mean)}{_deviation(s.deviation)} nats on them and {rate(s.own)} on test images"
        for s in spectra
    ]
    lines = tuple(
        Note(
            s.name, (rate(s.mean), rate(s.own)), look=s.look.key, strong=(s.group, s.functions) == (OPTIMUM, "ensemble")
        )
        for s in spectra
    )
    highest = rate(float(edges[-1]), 2)
    return Entropies(
        options=options,
        title=about["title"],
        edges=edges,
        spectra=spectra,
        caption=(
            f"Predictive entropy of {thousands(about['size'])} images, {_inside(about['title'])} "
            f"({about['conversion']}), and of {thousands(about['in_size'])} {about['in_split']} images, "
            f"in {len(edges) - 1} bins of equal width; "
            f"0 is certain, {highest} nats is no idea. In a run: its own function, or the average of the group’s "
            f"functions in it; the images of all {_runs(measured)} runs together."
        ),
        summary=f"Mean predictive entropy on {_inside(about['title'])}: {'; '.join(unsure)}.",
        notes=Notes(("Mean entropy, nats", "here", "test images"), lines),
        legend=tuple(
            Legend(_legend_group(group), _title(group), _look(group).key, on=group in groups)
            for group in dict.fromkeys(m.details["group"] for m in everyone)
        ),
    )


def _shares(counts: Sequence[int]) -> Floats:
    values = np.asarray(counts, np.float64)
    return np.asarray(values / max(values.sum(), 1.0))


_GAP = 64  # px between rows of panels: tick labels, and the names of the next


@ood_entropy.draw
def _(data: Entropies, theme: Theme) -> go.Figure:
    import plotly.graph_objects as go

    large = data.options.size == "page"
    down = len(data.groups)
    height = data.height(data.options.size)
    layout = style.layout(theme, kind="page" if large else "scatter", height=height, revision="ood-entropy")
    room = height - layout["margin"]["t"] - layout["margin"]["b"]
    layout["annotations"] = []
    traces: list[dict[str, Any]] = []
    shown = [s for s in data.spectra if data.options.panel in ("both", s.functions)] or data.spectra
    alone = all(s.functions == shown[0].functions for s in shown)
    top = 108 * max(float(np.concatenate([s.outside, s.inside]).max()) for s in shown)
    for i, s in enumerate(shown):
        number = "" if i == 0 else str(i + 1)
        x, y = f"x{number}", f"y{number}"
        first = alone or s.functions == "single"
        domain = [0.0, 1.0] if alone else [0.0, 0.46] if first else [0.54, 1.0]
        row = data.groups.index(s.group)
        tall = [1 - (row + 1) / down + (_GAP / room if row < down - 1 else 0), 1 - row / down]
        layout[f"xaxis{number}"] = style.x_axis(
            theme, domain=domain, anchor=y, range=[0, float(data.edges[-1])],
            labelalias=style.y_axis(theme)["labelalias"],
        )  # fmt: skip
        layout[f"yaxis{number}"] = style.y_axis(
            theme, domain=tall, anchor=x, range=[0, top], nticks=4, showticklabels=first
        )
        shared = {"legendgroup": _legend_group(s.group), "name": s.name}
        traces += _steps(data, s, s.look.colour(theme), theme, shared, x, y)
        layout["annotations"] += [
            style.label(s.name, theme, strong=True, **style.corner(x, y, "right", "top"), yshift=8),
            *_peaks(data, s, theme, x, y, top, alone),
        ]
        if row == down - 1:
            layout["annotations"].append(style.x_title("predictive entropy, nats", theme, x, y))
    layout["annotations"].append(style.y_title("images, %", theme, "x", "y", layout["margin"]["l"]))
    layout["meta"] = {"figure": "ood-entropy", "panels": ["single", "ensemble"]}
    return go.Figure(data=traces, layout=layout, layout_template=None)


def _steps(
    data: Entropies, s: Spectrum, colour: str, theme: Theme, shared: dict[str, Any], x: str, y: str
) -> list[dict[str, Any]]:
    """Test images as a grey ground, the other images as a line over it."""
    muted = style.token("muted", theme)
    traces = []
    for share, ink, fill, what in (
        (s.inside, muted, style.softened(muted, 0.28), "test images"),
        (s.outside, colour, style.softened(colour, 0.12), data.title),
    ):
        traces.append({
            **shared,
            "type": "scatter",
            "mode": "lines",
            "x": float32(data.edges),
            "y": float32(100 * np.append(share, share[-1])),
            "line": {"shape": "hv", "color": ink, "width": 1 if ink == muted else 2},
            "fill": "tozeroy",
            "fillcolor": fill,
            "hovertemplate": f"<b>{what}</b>, {shared['name']}<br>from %{{x:.2f}} nats<br>%{{y:.1f}} % of images"
            "<extra></extra>",
            "xaxis": x,
            "yaxis": y,
        })  # fmt: skip
    return traces


def _peaks(data: Entropies, s: Spectrum, theme: Theme, x: str, y: str, top: float, alone: bool) -> list[dict[str, Any]]:
    """Names of the two histograms where each stands highest over the other, above what lies under the name."""
    found: list[dict[str, Any]] = []
    both, bins, last = np.maximum(s.inside, s.outside), len(s.inside), -1.0
    for share, other, what in ((s.inside, s.outside, "test images"), (s.outside, s.inside, _inside(data.title))):
        at = int((share - other).argmax())
        right = at < bins / 2
        wide = int(np.ceil(len(what) * bins / (80 if alone else 36)))
        under = both[at : at + wide] if right else both[max(0, at - wide) : at + 1]
        height = min(100 * float(under.max()) + 0.01 * top, 0.93 * top)
        height = height + 0.08 * top if abs(height - last) < 0.07 * top else height
        last = height
        found.append(
            style.label(
                what, theme, strong=what != "test images", xref=x, yref=y, x=float(data.edges[at if right else at + 1]),
                y=height, xanchor="left" if right else "right", yanchor="bottom",
            )
        )  # fmt: skip
    return found
