"""How far apart are the runs' accuracies? One mark a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modescape.drawing import style
from modescape.drawing.figure import Cell, FigureData, Legend, Words, figure
from modescape.drawing.groups import after_runs
from modescape.drawing.numbers import spread
from modescape.drawing.options import SplitOptions
from modescape.drawing.panels import Picture, scatter
from modescape.drawing.reading import FigureNotReady, Floats, Ints
from modescape.drawing.style import Theme
from modescape.drawing.words import percent
from modescape.results import Results

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True, kw_only=True)
class RunAccuracies(FigureData):
    """runs, solutions [R]: their numbers; accuracies [R]."""

    options: SplitOptions
    runs: Ints
    solutions: Ints
    accuracies: Floats

    @property
    def columns(self) -> tuple[str, ...]:
        return ("run", "solution", "accuracy")

    def rows(self) -> list[tuple[Cell, ...]]:
        rows = zip(self.runs, self.solutions, self.accuracies, strict=True)
        return [(int(run), int(solution), float(accuracy)) for run, solution, accuracy in rows]


@figure(
    "their-accuracies",
    order=999,
    title="Their accuracies",
    question="How far apart are the runs' accuracies?",
    summary="The accuracy of every run's final solution.",
    source="their lab",
    needs=("predict",),
    card=432,
)
def run_accuracies(results: Results, options: SplitOptions) -> RunAccuracies:
    known = results.scores("accuracy", options.split)
    optima = [one for one in results.solutions(role="optimum") if one.number in known]
    if not optima:
        raise FigureNotReady("no run has made predictions yet", waits_for=("train", "predict"))
    return RunAccuracies(
        options=options,
        runs=np.array([one.run for one in optima]),
        solutions=np.array([one.number for one in optima]),
        accuracies=np.array([known[one.number] for one in optima]),
        legend=(Legend("independent", "run", "independent", len(optima)),),
        partial=after_runs(len(optima), results),
    )


@run_accuracies.tell
def tell(data: RunAccuracies) -> Words:
    mean, around = percent(float(data.accuracies.mean())), percent(spread(data.accuracies))
    return Words(
        caption=f"One mark a run, {data.options.split} images. n = {len(data.runs)} runs.",
        summary=f"The runs are right on {mean} % in the mean, with a standard deviation of {around} points.",
    )


@run_accuracies.draw
def draw(data: RunAccuracies, theme: Theme) -> go.Figure:
    picture = Picture("their-accuracies", data, theme, kind="page" if data.is_large else "scatter")
    panel = picture.panel()
    look = style.look("independent")
    marks = scatter("markers", data.runs, 100 * data.accuracies, marker=style.marker(look, theme), name="run")
    picture.add({**marks, "legendgroup": "independent", "customdata": data.solutions})
    picture.titles(panel, "run", "accuracy, %")
    return picture.figure()
