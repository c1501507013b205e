"""Is it right as often as it is sure? The reliability diagrams behind the calibration error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from modescape.drawing import style
from modescape.drawing.figure import Cell, FigureData, Legend, Note, Notes, Words, figure
from modescape.drawing.numbers import lines, number, stacked
from modescape.drawing.options import FilterOptions
from modescape.drawing.panels import Panel, Picture, Trace, scatter
from modescape.drawing.reading import FigureNotReady, Floats, Ints
from modescape.drawing.style import Theme
from modescape.drawing.words import rate, thousands
from modescape.figures.shared.scores import groups_of, no_temperature, refusal, title
from modescape.records import Group, Json, group_name
from modescape.results import Results
from modescape.tables import Measurement

if TYPE_CHECKING:
    import plotly.graph_objects as go


MIN_DRAWN = 10  # images in a bin; the accuracy of fewer is noise


class ReliabilityOptions(FilterOptions):
    """Whose confidence is looked at, and how it is cut."""

    redraws: ClassVar[bool] = True

    show: Annotated[Literal["independent", "all"], BeforeValidator(lambda text: group_name(f"{text}"))] = Field(
        "independent", description="independent: one run and the ensemble; all: also the ensemble of every method."
    )
    bins: Literal[15, 10] = Field(15, description="Bins of confidence.")
    kind: Literal["width", "mass"] = Field(
        "width", description="width: bins of equal width; mass: bins of equally many images."
    )
    temperature: Literal["none", "fitted"] = Field(
        "none", description="fitted: after dividing by a temperature fitted on validation images."
    )


@dataclass(frozen=True)
class Diagram:
    """One reliability diagram: bins that hold images [B]. ece: of one run, the mean over runs (sd: their spread)."""

    group: str
    of: Literal["single", "ensemble"]
    members: int
    count: Ints
    confidence: Floats
    accuracy: Floats
    ece: float
    sd: float
    temperatures: tuple[float, ...]

    @property
    def name(self) -> str:
        return "one run" if self.of == "single" else f"ensemble of {self.members}"


@dataclass(frozen=True, kw_only=True)
class ReliabilityData(FigureData):
    """Diagrams of groups, single and ensembled."""

    options: ReliabilityOptions
    diagrams: tuple[Diagram, ...]
    images: int

    columns = ("method", "of", "runs", "bin", "images", "confidence", "accuracy", "ece")

    def rows(self) -> list[tuple[Cell, ...]]:
        return stacked(
            lines(d.group, d.of, d.members, np.arange(len(d.count)) + 1, d.count, d.confidence, d.accuracy, d.ece)
            for d in self.diagrams
        )


@figure(
    "reliability",
    order=55,
    title="Reliability",
    question="Is it right as often as it is sure?",
    summary="Accuracy against confidence of single runs and of ensembles, and the expected calibration error.",
    source="Guo, Pleiss, Sun, Weinberger 2017; Lakshminarayanan, Pritzel, Blundell 2017",
    needs=("ensemble",),
)
def reliability(results: Results, options: ReliabilityOptions) -> ReliabilityData:
    suffix = f"{options.kind}-{options.bins}" + ("/calibrated" if options.temperature == "fitted" else "")
    found: dict[tuple[str, str], Measurement] = {}
    for measured in results.measurements(metric="reliability"):
        _, group, of, key = measured.subject.split("/", 3)
        if measured.split == options.split and key == suffix:
            found[group, of] = measured
    everyone = groups_of(results, options)
    groups = [Group.INDEPENDENT] if options.show == "independent" and not options.method else everyone
    diagrams = []
    for group in groups:
        # single runs of every method would be too many lines: only where few groups are asked for
        for of in ("single", "ensemble") if group == Group.INDEPENDENT or len(groups) <= 2 else ("ensemble",):
            if (group, of) in found:
                diagrams.append(_diagram(group, "single" if of == "single" else "ensemble", found[group, of]))
    if not diagrams:
        is_scored = any(row.split == options.split for row in results.measurements(metric="reliability"))
        if options.temperature == "fitted" and is_scored:
            raise FigureNotReady(no_temperature(results.spec, options.split))
        if not results.spec.has_probabilities:
            raise FigureNotReady("only labels are known here, and how sure a label is needs probabilities", closed=True)
        raise refusal(results, options.split)
    shown = {diagram.group for diagram in diagrams}
    return ReliabilityData(
        options=options,
        diagrams=tuple(diagrams),
        images=next(iter(found.values())).n or 0,
        thinned=_undrawn(diagrams),
        legend=tuple(
            Legend.of(group, title(group), on=group in shown) for group in everyone if (group, "ensemble") in found
        ),
    )


def _diagram(group: str, of: Literal["single", "ensemble"], measured: Measurement) -> Diagram:
    details = measured.details
    return Diagram(
        group=group,
        of=of,
        members=int(details["runs"]),
        count=np.array(details["count"], dtype=np.int64),
        confidence=np.array(details["confidence"], dtype=np.float64),
        accuracy=np.array(details["accuracy"], dtype=np.float64),
        ece=number(measured.value),
        sd=number(details["sd"]),
        temperatures=tuple(details["temperatures"] or ()),
    )


def _undrawn(diagrams: Sequence[Diagram]) -> str:
    few = sum(int((diagram.count < MIN_DRAWN).sum()) for diagram in diagrams)
    if not few:
        return ""
    what = "1 bin" if few == 1 else f"{few} bins"
    return f"Not drawn: {what} of fewer than {MIN_DRAWN} images, which count in the calibration error all the same."


@reliability.tell
def tell(data: ReliabilityData) -> Words:
    errors = ", ".join(f"{title(d.group)}, {d.name} {rate(d.ece)}" for d in data.diagrams)
    return Words(_caption(data), f"Expected calibration error: {errors}.", _notes(data.diagrams))


def _caption(data: ReliabilityData) -> str:
    diagrams, options = data.diagrams, data.options
    cut = "equal width" if options.kind == "width" else "equally many images"
    parts = [
        f"Share of right predictions against confidence, the largest probability, in {options.bins} bins of {cut}; "
        f"{thousands(data.images)} {options.split} images."
    ]
    if any(diagram.of == "single" for diagram in diagrams):
        runs = max(diagram.members for diagram in diagrams)
        parts.append(f"Dashed: single runs, the bins of {runs} pooled.")
    parts.append("Solid: ensembles. Below: how many images have that confidence.")
    parts.append("Above the grey diagonal a function is right more often than it claims.")
    if options.temperature == "fitted":
        parts.append("Each function’s temperature was fitted on validation images.")
    return " ".join(parts)


def _notes(diagrams: Sequence[Diagram]) -> Notes:
    lines, fitted = [], []
    for diagram in diagrams:
        around = f" ± {rate(diagram.sd)}" if np.isfinite(diagram.sd) else ""
        label = f"{title(diagram.group)}, {diagram.name}"
        values = (f"{rate(diagram.ece)}{around}",)
        lines.append(Note.of(diagram.group, label, values, strong=diagram.of == "ensemble"))
        if diagram.temperatures:
            low, high = min(diagram.temperatures), max(diagram.temperatures)
            fitted.append(f"{label} {rate(low, 2)}" + (f" to {rate(high, 2)}" if high > low else ""))
    text = ["Calibration error of one run: mean ± σ over runs."] if any(d.of == "single" for d in diagrams) else []
    return Notes(("", "ECE"), tuple(lines), (*text, *([f"Temperatures: {'; '.join(fitted)}."] if fitted else [])))


@reliability.draw
def draw(data: ReliabilityData, theme: Theme) -> go.Figure:
    picture = Picture("reliability", data, theme, kind="scatter", margin={"r": style.MARGINS["curves"]["r"]})
    low = 100 * min(float(diagram.confidence.min()) for diagram in data.diagrams)
    drawn = [100 * diagram.accuracy[diagram.count >= MIN_DRAWN] for diagram in data.diagrams]
    floor = float(np.concatenate(drawn).min(initial=low))
    across = [max(0.0, low - 5), 102.0]
    upper = picture.panel(
        up=[0.34, 1], x={"range": across, "showticklabels": False}, y={"range": [max(-2.0, floor - 5), 103.0]}
    )
    lower = picture.panel(up=[0, 0.2], x={"range": across, "matches": "x"}, y={"rangemode": "tozero", "nticks": 3})
    grey = style.look("theory")
    picture.add(scatter(
        "lines", [0, 100], [0, 100], axes=("x", "y"), silent=True,
        line={"color": grey.colour(theme), "width": 1.5, "dash": "dash"},
    ))  # fmt: skip
    for diagram in reversed(data.diagrams):
        picture.add(*_diagram_traces(diagram, theme))
    picture.titles(upper, y="accuracy, %")
    picture.titles(lower, "confidence, %", "images, %")
    picture.write(*_ece_labels(data, theme), *_names(data, upper, 0.66 * picture.plot_height, theme))
    return picture.figure()


def _diagram_traces(diagram: Diagram, theme: Theme) -> list[Trace]:
    entry = style.look(diagram.group)
    single = diagram.of == "single"
    line = {"color": entry.colour(theme), "width": 1.5 if single else 2, "dash": "dash" if single else "solid"}
    enough = np.flatnonzero(diagram.count >= MIN_DRAWN)
    sure, right = 100 * diagram.confidence, 100 * diagram.accuracy
    hover = [
        f"<b>{title(diagram.group)}, {diagram.name}</b><br>confidence  {sure[i]:.1f} %<br>"
        f"accuracy  {right[i]:.1f} %<br>{thousands(int(diagram.count[i]))} images"
        for i in enough
    ]
    name, share = f"{title(diagram.group)}, {diagram.name}", 100 * diagram.count / diagram.count.sum()
    marker = style.marker(entry, theme, size=8 if single else 0)
    put = partial(scatter, legendgroup=diagram.group)
    upper = partial(put, axes=("x", "y"))
    return [
        upper("lines", sure[enough], right[enough], name=name, meta={"method": diagram.group}, line=line, hover=hover),
        upper("markers", sure[enough], right[enough], marker=marker, silent=True, cliponaxis=False),
        put("lines", sure, share, axes=("x2", "y2"), line={**line, "shape": "hvh"}, silent=True),
    ]


def _names(data: ReliabilityData, panel: Panel, room: float, theme: Theme) -> list[Json]:
    """Where the curves end; of one group what each is, of several which group."""
    alone = len({diagram.group for diagram in data.diagrams}) == 1
    ends = []
    for diagram in data.diagrams if len(data.diagrams) <= style.MOST_LABELS else ():
        enough = np.flatnonzero(diagram.count >= MIN_DRAWN)
        if len(enough):
            short = "optima" if diagram.group == Group.INDEPENDENT else diagram.group
            text = diagram.name if alone else short if diagram.of == "ensemble" else f"{short}, one run"
            sure, right = 100 * diagram.confidence[enough[-1]], 100 * diagram.accuracy[enough[-1]]
            colour = style.look(diagram.group).colour(theme)
            ends.append((style.End(text, float(sure), float(right), colour), True))
    return style.end_labels_apart(
        ends, theme, x=panel.x, y=panel.y, bounds=panel.bounds, room=room, reach=14, wide=100
    )  # fmt: skip


def _ece_labels(data: ReliabilityData, theme: Theme) -> list[Json]:
    """The calibration errors under the diagonal, where no curve of interest is; of more than two the notes tell."""
    shown = data.diagrams if len(data.diagrams) <= 2 else ()
    of = len({diagram.group for diagram in shown}) > 1  # else it goes without saying, and would lie on a narrow axis
    return [
        style.label(
            f"{f'{title(diagram.group)}, ' if of else ''}{diagram.name}: ECE {rate(diagram.ece)}", theme,
            strong=diagram.of == "ensemble", xref="x domain", yref="y domain", x=1, y=0, xanchor="right",
            yanchor="bottom", yshift=4 + 16 * (len(shown) - 1 - i), xshift=-6,
        )
        for i, diagram in enumerate(shown)
    ]  # fmt: skip
