"""Two matrices over the same solutions: cosine of weights and disagreement of labels, read and drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from modescape.drawing import style
from modescape.drawing.figure import Cell, FigureData
from modescape.drawing.numbers import finite, lines
from modescape.drawing.options import SplitOptions, shown_panels
from modescape.drawing.panels import Panel, Picture, Trace, heat, parted
from modescape.drawing.reading import Floats, Ints, square
from modescape.drawing.style import Theme
from modescape.drawing.words import rate
from modescape.finding import reduction
from modescape.records import Group, Json
from modescape.results import Results
from modescape.science.similarity import disagreement
from modescape.tables import Solution

if TYPE_CHECKING:
    import plotly.graph_objects as go


WEIGHTS: Any = Field(
    "reduced",
    description="reduced: without what two networks share for free, as in the verdict; all: every trainable weight as "
    "it is; kernels: tensors of two or more dimensions only, kept by older experiments.",
)


class AlongOptions(SplitOptions):
    """Which run, and how its weights are compared."""

    run: int | None = Field(None, ge=0, le=999, description="Which run; empty means the first that has finished.")
    weights: Literal["reduced", "all", "kernels"] = WEIGHTS
    panel: Literal["both", "cosine", "disagreement"] = shown_panels("both", "Both maps")


class AcrossOptions(SplitOptions):
    """How many checkpoints stand for each run."""

    blocks: int = Field(
        1, ge=1, le=64, description="Checkpoints shown of each run, early to late; 1: its final solution, as the paper."
    )
    weights: Literal["reduced", "all", "kernels"] = WEIGHTS
    panel: Literal["both", "cosine", "disagreement"] = shown_panels("both", "Both maps")


@dataclass(frozen=True, kw_only=True)
class Similarity(FigureData):
    """Two matrices over the same solutions.

    numbers, runs [S] int and epochs [S]; numbers are -1 and values NaN where a run is not there yet. cosine [S, S] in
    [-1, 1], or None before it is computed; disagreement [S, S] in [0, 1]. block: rows a run; kept: solutions there are.
    """

    options: AlongOptions | AcrossOptions
    numbers: Ints
    runs: Ints
    epochs: Floats
    cosine: Floats | None
    disagreement: Floats
    block: int
    images: int
    kept: int

    @property
    def card_height(self) -> int:
        return self.size.card if self.options.panel == "both" else 440

    columns = ("solution", "run", "epoch", "solution_2", "run_2", "epoch_2", "cosine", "disagreement")

    def rows(self) -> list[tuple[Cell, ...]]:
        """One row a pair, first before second."""
        present = np.flatnonzero(self.numbers >= 0)
        i, j = (present[side] for side in np.triu_indices(len(present), 1))
        pairs = (column[side] for side in (i, j) for column in (self.numbers, self.runs, self.epochs))
        return lines(*pairs, None if self.cosine is None else self.cosine[i, j], self.disagreement[i, j])


NO_WEIGHTS = "The cosine of weights, and claim (a), need weights, which did not come with the members."


def matrices_of(
    results: Results, solutions: Sequence[Solution], split: str, weights: str
) -> tuple[Floats | None, Floats, str]:
    """Cosine and disagreement over these solutions, and what is missing, in words. Before the compare stage
    disagreement comes from the stored logits."""
    numbers = [solution.number for solution in solutions]
    stored = results.matrix("disagreement", split)
    apart = square(stored, numbers) if stored is not None else None
    if apart is None or not np.isfinite(apart).all():
        apart = disagreement(results.labels_of(solutions, split))
    missing = ""
    measured = results.matrix("cosine" if weights == "all" else f"cosine-{weights}", "")
    if measured is None and weights != "all":
        measured = results.matrix("cosine", "")
        if measured is not None:
            missing = "Only the cosine of all weights, as they are, is kept here."
    if measured is None:
        came_without = results.spec.imported is not None and not any(one.weights for one in solutions)
        return None, apart, NO_WEIGHTS if came_without else "The cosine of weights is not computed yet."
    if "head" in measured.details:
        of_files, details = results.spec.imported is not None, measured.details
        missing = f"Cosine of weights {reduction(details['head'], details['left_out'], of_files=of_files)}."
    return square(measured, numbers), apart, missing


def cosine_words(value: float) -> str:
    """Three decimals near 0, two near 1, where the third carries nothing."""
    return rate(value, 2) if round(value, 2) >= 1 else rate(value)


def maps(
    data: Similarity,
    theme: Theme,
    *,
    figure_name: str,
    names: list[str],
    ticks: tuple[list[float], list[str]],
    axis: str,
) -> go.Figure:
    panels = ("cosine", "disagreement") if data.options.panel == "both" else (data.options.panel,)
    numbers = [int(number) for number in data.numbers]
    # "run" stands in the corner; a longer word fits neither there nor beside the title on narrow screens and paper.
    corner, below = {"x": 0, "xshift": -2, "yshift": -6}, {"x": 1, "xshift": 0, "yshift": -20}
    place: Json = corner if axis == "run" else below
    picture = Picture(
        figure_name,
        data,
        theme,
        kind="maps",
        margin={"b": style.MARGINS["maps"]["b"] - min(0, 8 + place["yshift"])},
        panels=("cosine", "disagreement"),
        meta={"rows": numbers, "columns": numbers},
    )
    size = len(names)
    labelled = {"type": "category", "tickmode": "array", "tickvals": ticks[0], "ticktext": ticks[1]}
    for panel, domain in parted(panels, ([0.0, 0.48], [0.52, 1.0])):
        axes = picture.maps(
            domain,
            alike=False,
            tall=1,
            x={**labelled, "range": [-0.5, size - 0.5]},
            y={**labelled, "range": [size - 0.5, -0.5]},
        )
        x, y = axes.x, axes.y
        values = data.cosine if panel == "cosine" else data.disagreement
        title = "cosine of weights" if panel == "cosine" else "disagreement of labels"
        picture.head(axes, title)
        picture.write(
            style.label(
                axis, theme, xref=f"{x} domain", yref=f"{y} domain", y=0, xanchor="right", yanchor="top", **place
            )
        )
        if values is None:
            words = "needs weights" if data.missing == NO_WEIGHTS else "not computed yet"
            why = style.label(words, theme, x=0.5, y=0.5, xref=f"{x} domain", yref=f"{y} domain")
            picture.write(why)
        if values is None or not np.isfinite(values).all():
            picture.mark(style.ground(theme, x, y, size))
        picture.add(_map(data, panel, values, names, theme, axes, domain))
        if 1 < data.block < size and size // data.block <= 40:
            picture.mark(*style.block_lines(theme, x, y, size, data.block))
    return picture.figure()


def _map(
    data: Similarity,
    panel: str,
    values: Floats | None,
    names: list[str],
    theme: Theme,
    axes: Panel,
    domain: Sequence[float],
) -> Trace:
    size = len(names)
    shown = np.full((size, size), np.nan) if values is None else values
    bottom = 0.0
    if panel == "cosine":
        bottom, top = _cosine_scale(data), 1.0
        beyond = "≤ " if (finite(shown) < bottom - 1e-9).any() and bottom else ""
        middle = (bottom + top) / 2
        ticks, texts = [bottom, middle, top], [beyond + _short(bottom), _short(middle), "1"]
    else:
        top = _disagreement_scale(data)
        beyond = "≥ " if (finite(shown) > top).any() else ""
        ticks, texts = [0.0, top / 2, top], ["0", _short(top / 2), beyond + _short(top)]
    width = domain[1] - domain[0]
    few = data.block == 1 and size <= 40
    bar = style.colour_bar(theme, x=domain[1] - 0.015 * width, length=0.4 * width, ticks=ticks, texts=texts)
    return heat(
        axes, shown, low=bottom, high=top, name=panel, hover=f"<b>%{{y}}</b><br>%{{x}}<br>{panel} %{{z:.3f}}", x=names,
        y=names, reversescale=panel == "disagreement", xgap=int(few), ygap=int(few), hoverongaps=False,
        legendgroup=Group.TRAJECTORY, colorbar=bar,
    )  # fmt: skip


def _cosine_scale(data: Similarity) -> float:
    """Where the colours begin: at 0 across runs, whose weights know nothing of each other; along one run at what its
    weights come down to, for they hardly turn and would all be one colour."""
    if data.cosine is None or data.block < len(data.numbers):
        return 0.0
    seen = finite(data.cosine)
    spread = max(1.0 - float(seen.min()), 1e-3) if len(seen) else 1.0
    step = 10.0 ** np.floor(np.log10(spread)) / 2
    return max(0.0, round(float(1.0 - np.ceil(spread / step - 1e-9) * step), 6))


def _disagreement_scale(data: Similarity) -> float:
    """Where the colours end: twice what optima differ by; along one run, what it differs by after its first tenth.

    Untrained networks disagree on nearly everything; a scale that reaches them would hide all the rest.
    """
    last = np.arange(data.block - 1, len(data.numbers), data.block)
    if len(last) > 1:
        told = 2 * data.disagreement[np.ix_(last, last)]
    else:
        late = max(1, len(data.numbers) // 10) if len(data.numbers) > 2 else 0
        told = data.disagreement[late:, late:]
    told = finite(told)
    highest = float(told.max()) if len(told) else 1.0
    step = 0.1 if highest > 0.2 else 0.02
    return min(1.0, max(0.02, round(float(np.ceil(highest / step - 1e-9) * step), 2)))


def _short(value: float) -> str:
    """As few digits as the value needs."""
    return f"{value:.4g}".replace("0.", ".", 1) if 0 < value < 1 else f"{value:.4g}"
