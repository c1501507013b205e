"""How does one run move? All checkpoints of one run against each other (paper Fig 2a, 2b)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from modescape.drawing.figure import Note, Notes, Words, figure
from modescape.drawing.groups import refuse_failed
from modescape.drawing.numbers import MAX_ROWS, thin
from modescape.drawing.reading import FigureNotReady, Floats, trajectories
from modescape.drawing.style import Theme
from modescape.drawing.words import percent, thousands
from modescape.figures.shared.similarity import AlongOptions, Similarity, cosine_words, maps, matrices_of
from modescape.results import Results

if TYPE_CHECKING:
    import plotly.graph_objects as go


@figure(
    "similarity-trajectory",
    order=20,
    title="Similarity along a run",
    question="How does one run move?",
    summary="Cosine of weights and disagreement of labels between all checkpoints of one run.",
    source="Fort, Hu, Lakshminarayanan 2019, Figure 2 (a, b)",
    paper="Fig 2",
    needs=("predict", "compare"),
    card=552,
    full=True,
)
def similarity_along(results: Results, options: AlongOptions) -> Similarity:
    done = trajectories(results)
    run = options.run if options.run is not None else min(done, default=min(results.healthy, default=0))
    planned = results.spec.ensemble.runs
    if run >= planned:
        raise FigureNotReady(f"there is no run {run}; this experiment has {planned}, counted from 0")
    refuse_failed(results, run)
    if run not in done:
        raise FigureNotReady(f"run {run} has made no predictions yet", waits_for=("train", "predict"))
    if len(done[run]) < 2 and results.voice.elsewhere:
        raise FigureNotReady(
            "it needs checkpoints along a training that all members have alike, and there are none", closed=True
        )
    chosen = [done[run][i] for i in thin(len(done[run]), MAX_ROWS)]
    cosine, apart, missing = matrices_of(results, chosen, options.split, options.weights)
    full = len(done[run])
    thinned = f"{len(chosen)} of {full} checkpoints, evenly." if len(chosen) < full else ""
    return Similarity(
        options=options,
        numbers=np.array([point.number for point in chosen]),
        runs=np.full(len(chosen), run),
        epochs=np.array([point.epoch for point in chosen], dtype=np.float64),
        cosine=cosine,
        disagreement=apart,
        block=len(chosen),
        images=len(results.true_labels(options.split)),
        kept=full,
        missing=missing,
        thinned=thinned,
    )


def _value(matrix: Floats | None, i: int, j: int) -> str:
    return "–" if matrix is None else cosine_words(float(matrix[i, j]))


@similarity_along.tell
def tell(data: Similarity) -> Words:
    run, apart = data.runs[0], data.disagreement
    first, late = float(apart[-1, 0]), float(apart[-1, -2]) if len(apart) > 1 else float("nan")
    caption = (
        f"All checkpoints of run {run}, early to late. Bright means alike in both maps; the colours of the cosine "
        f"begin where this run's do. {thousands(data.images)} {data.options.split} images; {data.kept} checkpoints."
    )
    summary = (
        f"Along run {run} the first and the last checkpoint disagree on {percent(first)} % of labels, the last two on "
        f"{percent(late)} %."
    )
    lines = (
        Note("first and last", (_value(data.cosine, 0, -1), percent(first))),
        Note("last two", (_value(data.cosine, -2, -1) if len(apart) > 1 else "–", percent(late))),
    )
    return Words(
        caption, summary, Notes(("Checkpoints", "cosine", "disagr., %"), lines, ("Bright means alike in both maps.",))
    )


@similarity_along.draw
def draw(data: Similarity, theme: Theme) -> go.Figure:
    called = ["the last" if np.isnan(epoch) else f"{epoch:.4g}" for epoch in data.epochs]  # of which nobody said it
    names = [name if np.isnan(epoch) else f"epoch {name}" for name, epoch in zip(called, data.epochs, strict=True)]
    some = range(0, len(names), -(-len(names) // 8))
    ticks = ([float(i) for i in some], [called[i] for i in some])
    return maps(data, theme, figure_name="similarity-trajectory", names=names, ticks=ticks, axis="epoch")
