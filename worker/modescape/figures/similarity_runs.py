"""Are runs the same function, and do their weights know? Runs against each other (paper Fig 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from modescape.drawing.figure import Note, Notes, Words, figure
from modescape.drawing.groups import after_runs, left_out
from modescape.drawing.numbers import MAX_ROWS, finite, spread, thin
from modescape.drawing.reading import FigureNotReady, Floats, trajectories
from modescape.drawing.style import Theme
from modescape.drawing.words import percent, rate, thousands
from modescape.figures.shared.similarity import AcrossOptions, Similarity, cosine_words, maps, matrices_of
from modescape.results import Results
from modescape.tables import Solution

if TYPE_CHECKING:
    import plotly.graph_objects as go


@figure(
    "similarity-runs",
    order=30,
    title="Similarity across runs",
    question="Are they the same function, and do their weights know?",
    summary="Cosine of weights and disagreement of labels between independent runs.",
    source="Fort, Hu, Lakshminarayanan 2019, Figure 3",
    paper="Fig 3",
    needs=("predict", "compare"),
    card=552,
    full=True,
)
def similarity_across(results: Results, options: AcrossOptions) -> Similarity:
    everyone = np.array(results.healthy)
    planned = len(everyone)
    if planned < 2:
        alone = "one run has nothing to be compared with; this needs two or more"
        raise FigureNotReady(". ".join(filter(None, (alone, left_out(results)))), closed=bool(results.failed))
    done = trajectories(results)
    if len(done) < 2:
        raise FigureNotReady(f"{len(done)} of {planned} runs have made predictions", waits_for=("train", "predict"))
    runs = everyone[thin(planned, MAX_ROWS)]
    longest = max(len(points) for points in done.values())
    block = max(1, min(options.blocks, longest, MAX_ROWS // len(runs)))
    chosen: list[Solution | None] = []
    for run in runs:
        points = done.get(int(run), [])
        # the optimum stands for the run when only one can
        kept = [points[i] for i in thin(len(points), block)] if block > 1 else points[-1:]
        chosen += [None] * (block - len(kept)) + list(kept)
    present = [i for i, point in enumerate(chosen) if point is not None]
    solutions = [point for point in chosen if point is not None]
    small_cosine, small_apart, missing = matrices_of(results, solutions, options.split, options.weights)
    grid = np.ix_(present, present)
    apart = np.full((len(chosen), len(chosen)), np.nan)
    apart[grid] = small_apart
    cosine = None
    if small_cosine is not None:
        cosine = np.full_like(apart, np.nan)
        cosine[grid] = small_cosine
    thinned = []
    if len(runs) < planned:
        thinned.append(f"{len(runs)} of {planned} runs, evenly.")
    if block < min(options.blocks, longest):
        thinned.append(f"{block} instead of {options.blocks} checkpoints of each run.")
    return Similarity(
        options=options,
        numbers=np.array([point.number if point is not None else -1 for point in chosen]),
        runs=np.repeat(runs, block),
        epochs=np.array([np.nan if point is None else point.epoch for point in chosen], dtype=np.float64),
        cosine=cosine,
        disagreement=apart,
        block=block,
        images=len(results.true_labels(options.split)),
        kept=len(solutions),
        partial=after_runs(len(done), results),
        missing=missing,
        thinned=" ".join(thinned),
    )


@similarity_across.tell
def tell(data: Similarity) -> Words:
    block = data.block
    shown = (
        "Each cell is a pair of runs, by their final solutions"
        if block == 1
        else f"Each block is a pair of runs, {block} checkpoints each, early to late"
    )
    images = f"{thousands(data.images)} {data.options.split} images."
    return Words(f"{shown}. Bright means alike in both maps. {images}", *_read(data, images))


def _read(data: Similarity, images: str) -> tuple[str, Notes]:
    """Summary and notes."""
    cosine, apart, block, runs = data.cosine, data.disagreement, data.block, len(data.numbers) // data.block
    last = np.arange(runs) * block + block - 1
    upper = np.triu_indices(runs, 1)

    def pairs(matrix: Floats | None) -> Floats:
        return np.array([]) if matrix is None else finite(matrix[np.ix_(last, last)][upper])

    def late(matrix: Floats | None) -> Floats:
        return np.array([]) if matrix is None or block < 2 else finite(matrix[last - 1, last])

    lines = []
    inside, across = late(apart), pairs(apart)
    inside_cosine, across_cosine = late(cosine), pairs(cosine)
    if len(inside):
        lines += [
            Note("last two of a run", (_mean(inside_cosine), percent(inside.mean()))),
            Note("± σ", (_deviation(inside_cosine), _around(inside))),
        ]
    lines += [
        Note("different runs", (_mean(across_cosine), percent(across.mean())), strong=True),
        Note("± σ over pairs", (_deviation(across_cosine), _around(across))),
    ]
    counts = f"{len(across)} {'pair' if len(across) == 1 else 'pairs'} across runs; {images}"
    text = ["Bright means alike in both maps."]
    if len(inside):
        text.append("Last two: of the checkpoints shown of a run.")
        counts = f"{len(inside)} pairs in, {counts}"
    text.append(f"n = {counts}")
    summary = f"Different runs disagree on {percent(across.mean())} % of {data.options.split} labels"
    summary += (
        f" (standard deviation {percent(spread(across))}, n = {len(across)} pairs)"
        if len(across) > 1
        else " (one pair)"
    )
    if len(inside):
        summary += f", the last two checkpoints shown of a run on {percent(inside.mean())} %"
    if len(across_cosine):
        summary += f"; the cosine of their {_WEIGHTS[data.options.weights]} is {rate(across_cosine.mean())}"
    return summary + ".", Notes(("", "cosine", "disagr., %"), tuple(lines), tuple(text))


_WEIGHTS = {"reduced": "weights", "all": "weights, all of them as they are,", "kernels": "kernels"}  # as verdicts say


def _mean(values: Floats) -> str:
    return cosine_words(float(values.mean())) if len(values) else "–"


def _deviation(values: Floats) -> str:
    return f"± {rate(spread(values))}" if len(values) > 1 else "–"


def _around(values: Floats) -> str:
    return f"± {percent(spread(values))}" if len(values) > 1 else "–"


@similarity_across.draw
def draw(data: Similarity, theme: Theme) -> go.Figure:
    names = [
        f"run {run}, row {i}" if np.isnan(epoch) else f"run {run}, epoch {epoch:.4g}"
        for i, (run, epoch) in enumerate(zip(data.runs, data.epochs, strict=True))
    ]
    runs = data.runs[:: data.block]
    some = range(0, len(runs), -(-len(runs) // 20))
    ticks = ([float(i * data.block + (data.block - 1) / 2) for i in some], [str(runs[i]) for i in some])
    return maps(data, theme, figure_name="similarity-runs", names=names, ticks=ticks, axis="run")
