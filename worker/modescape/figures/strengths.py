"""How strong should the samples be that are averaged? The validation NLL of the average, along each method's grid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from modescape.drawing import style
from modescape.drawing.figure import Cell, FigureData, Legend, Note, Notes, Words, figure
from modescape.drawing.numbers import lines, stacked
from modescape.drawing.options import FigureOptions
from modescape.drawing.panels import Picture, Trace, scatter
from modescape.drawing.reading import FigureNotReady, Floats
from modescape.drawing.style import Theme
from modescape.drawing.words import loss, rate, thousands
from modescape.records import Json
from modescape.registry import method_title
from modescape.results import Results

if TYPE_CHECKING:
    import plotly.graph_objects as go


UNITS = {"step": "step over the solution’s norm", "rate": "rate", "scale": "factor on the deviations"}
_SMALL = 0.02  # nats: smaller gains are drawn in thousandths


@dataclass(frozen=True)
class Walk:
    """What was looked at for one method: strengths, 0 first, NLL there (mean over runs) and its spread over runs [T].

    chosen: place of the smallest NLL; end: which end of the grid it lies at, or ""; grid: all that might be looked at.
    """

    method: str
    unit: str
    grid: str
    strengths: Floats
    nll: Floats
    sd: Floats
    chosen: int
    end: str
    runs: int
    samples: int
    images: int

    @property
    def gain(self) -> float:
        """NLL saved against strength 0, nats."""
        return float(self.nll[0] - self.nll[self.chosen])

    @property
    def said(self) -> str:
        at = f"{self.strengths[self.chosen]:.3g}".replace("0.", ".", 1)
        return f"{at} ({self.end})" if self.end else at


@dataclass(frozen=True, kw_only=True)
class Strengths(FigureData):
    """Every method for which a strength was chosen."""

    options: FigureOptions
    walks: tuple[Walk, ...]

    columns = ("method", "strength", "unit", "nll", "sd", "chosen", "runs", "samples", "images")

    def rows(self) -> list[tuple[Cell, ...]]:
        return stacked(
            lines(
                walk.method, walk.strengths, walk.unit, walk.nll, walk.sd,
                ["yes" if i == walk.chosen else "no" for i in range(len(walk.strengths))],
                walk.runs, walk.samples, walk.images,
            )
            for walk in self.walks
        )  # fmt: skip


@figure(
    "strengths",
    order=48,
    title="Sample strength",
    question="How strong should samples be?",
    summary="Validation NLL of the average of a run's samples against their strength, and the strength chosen.",
    source="Modescape",
    needs=("strength",),
)
def strengths(results: Results, options: FigureOptions) -> Strengths:
    if results.spec.evaluation.averaged != "fair":
        raise FigureNotReady("no strengths are chosen in this spec: the narrow samples are averaged as they are drawn")
    if results.spec.weights is not None and not results.spec.weights.held_out:
        raise FigureNotReady(
            "strengths are chosen on images that no network was trained on, and nobody has said that the validation "
            "images are such (`weights.held_out`): the narrow samples are averaged"
        )
    found = [(chosen.method, results.extra("strength", chosen.method)) for chosen in results.spec.methods]
    walks = tuple(_walk(name, extra) for name, extra in found if extra and extra["strength"] is not None)
    if not walks:
        raise FigureNotReady("strengths are chosen when all runs are trained", waits_for=("strength",))
    waiting = [method_title(name) for name, extra in found if extra is None and name not in _unchosen(results)]
    return Strengths(
        options=options,
        walks=walks,
        legend=tuple(Legend.of(walk.method, method_title(walk.method)) for walk in walks),
        partial=f"without {', '.join(waiting)}, which are to come" if waiting else "",
    )


def _unchosen(results: Results) -> set[str]:
    """Methods without a strength, or without samples that are averaged."""
    from modescape.draft import FAIR_IMAGES, fair_sets

    return {chosen.method for chosen in results.spec.methods} - set(fair_sets(results.spec, FAIR_IMAGES))


def _walk(name: str, extra: Mapping[str, Any]) -> Walk:
    from modescape.registry import methods

    per_run = np.array(extra["nll_of_runs"], dtype=np.float64)
    unit = methods[name].strength if name in methods else None
    return Walk(
        method=name,
        unit=unit or "",
        grid=extra["grid"],
        strengths=np.array(extra["strengths"], dtype=np.float64),
        nll=np.array(extra["nll"], dtype=np.float64),
        sd=per_run.std(axis=1, ddof=1) if per_run.shape[1] > 1 else np.full(len(per_run), np.nan),
        chosen=extra["strengths"].index(extra["strength"]),
        end=extra["end"],
        runs=len(extra["runs"]),
        samples=extra["samples"],
        images=extra["images"],
    )


@strengths.tell
def tell(data: Strengths) -> Words:
    return Words(_caption(data.walks), _summary(data.walks), _notes(data.walks))


def _caption(walks: Sequence[Walk]) -> str:
    first = walks[0]
    return (
        f"NLL of the average of {first.samples} samples of a run on {thousands(first.images)} validation images, mean "
        f"over {max(walk.runs for walk in walks)} runs, less that at strength 0: below the line averaging helps. Dots "
        "are the strengths that were looked at, with the same random numbers at each; the large one is chosen, for all "
        "runs alike, and fresh samples are drawn there. They are what ensembles and claims (e) and (f) average."
    )


def _summary(walks: Sequence[Walk]) -> str:
    parts = [f"{method_title(w.method)} {w.said} (saves {loss(w.gain)} nats)" for w in walks if w.chosen]
    none = [method_title(w.method) for w in walks if not w.chosen]
    if none:
        parts.append(f"{', '.join(none)} 0: averaging gains nothing")
    return f"Averages of samples predict best at these strengths: {'; '.join(parts)}."


def _notes(walks: Sequence[Walk]) -> Notes:
    lines = tuple(
        Note.of(
            walk.method,
            method_title(walk.method),
            (f"{walk.unit} {walk.said}", loss(walk.nll[0]), loss(walk.nll[walk.chosen])),
        )
        for walk in walks
    )
    grids: dict[str, list[str]] = {}
    for walk in walks:
        grids.setdefault(f"{UNITS.get(walk.unit, walk.unit)}: {walk.grid}", []).append(method_title(walk.method))
    text = tuple(f"Grid of {', '.join(names)}, {about}." for about, names in grids.items())
    text += ("Each grid is walked as far as the best strength may lie.",)
    ends = [method_title(walk.method) for walk in walks if walk.end]
    if ends:
        text += (f"At an end of the grid, so that a better strength may lie beyond: {', '.join(ends)}.",)
    return Notes(("", "strength", "NLL at 0, nats", "there, nats"), lines, text)


@strengths.draw
def draw(data: Strengths, theme: Theme) -> go.Figure:
    picture = Picture("strengths", data, theme, kind="curves", margin={"r": 16})
    deepest = max(max(walk.gain for walk in data.walks), 1e-3)
    scale, unit = (1000.0, "10⁻³ nats") if deepest < _SMALL else (1.0, "nats")
    deepest *= scale
    bounds = [-1.15 * deepest, 1.15 * deepest]
    weakest = min(float(walk.strengths[1:].min()) for walk in data.walks)
    strongest = max(float(walk.strengths.max()) for walk in data.walks)
    window = [np.log10(weakest) - 0.1, np.log10(strongest) + 0.1]
    panel = picture.panel(
        x={"type": "log", "range": window, "anchor": "y", **_ticks(window)},
        y={"range": bounds, "zeroline": True, "anchor": "x"},
    )
    picture.add(*(trace for walk in data.walks for trace in _traces(walk, scale, theme)))
    picture.titles(panel, "strength, each in its unit", f"NLL less that at strength 0, {unit}")
    picture.write(*_labels(data.walks, scale, theme))
    return picture.figure()


def _ticks(window: Sequence[float]) -> Json:
    """1, 2 and 5 of each decade, or powers of ten alone where there are many."""
    decades = range(math.floor(window[0]), math.ceil(window[1]) + 1)
    parts = (1, 2, 5) if window[1] - window[0] < 2 else (1,)
    at = [part * 10.0**decade for decade in decades for part in parts]
    return {"tickmode": "array", "tickvals": at, "ticktext": [f"{one:g}".removeprefix("0") for one in at]}


def _traces(walk: Walk, scale: float, theme: Theme) -> list[Trace]:
    """Beside 0, which a logarithmic axis has no place for: it is the line at height 0."""
    entry = style.look(walk.method)
    ink = entry.colour(theme)
    place, change = walk.strengths[1:], scale * (walk.nll - walk.nll[0])[1:]
    sizes = [12 if i == walk.chosen else 6 for i in range(1, len(walk.strengths))]
    return [scatter(
        "lines+markers", place, change, hover=[_hover(walk, i) for i in range(1, len(walk.strengths))],
        name=method_title(walk.method), legendgroup=walk.method, meta={"method": walk.method},
        line={"color": ink, "width": 2}, marker={**style.marker(entry, theme), "size": sizes},
    )]  # fmt: skip


def _hover(walk: Walk, i: int) -> str:
    around = f" ± {rate(walk.sd[i])} over runs" if np.isfinite(walk.sd[i]) else ""
    chosen = "<br>chosen" if i == walk.chosen else ""
    return (
        f"<b>{method_title(walk.method)}</b><br>strength  {walk.strengths[i]:.3g}<br>"
        f"NLL  {loss(walk.nll[i])}{around}{chosen}"
    )


def _labels(walks: Sequence[Walk], scale: float, theme: Theme) -> list[Json]:
    """Names beside the chosen strengths, to the left of one that has another close to its right; where averaging gains
    nothing, beside the weakest."""
    chosen = [(float(np.log10(walk.strengths[walk.chosen or 1])), walk) for walk in walks]
    chosen.sort(key=lambda pair: pair[0])
    crowded = [i + 1 < len(chosen) and chosen[i + 1][0] - x < 0.4 for i, (x, _) in enumerate(chosen)]
    heights = [scale * float(walk.nll[walk.chosen or 1] - walk.nll[0]) for _, walk in chosen]
    return [
        style.label(
            walk.method, theme, x=x, y=height, xref="x", yref="y", yanchor="top", yshift=-2,
            xanchor="right" if left else "left", xshift=-6 if left else 6,
        )
        for (x, walk), height, left in zip(chosen, heights, crowded, strict=True)
    ]  # fmt: skip
