"""How did the runs get where they are, and does weight space know what function space knows?

Training curves; cosine of weights and disagreement of labels along one run (paper Fig 2a, 2b) and across runs (Fig 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from modescape.figures import style
from modescape.figures.figure import (
    MAX_ROWS,
    Cell,
    FigureData,
    FigureNotReady,
    Floats,
    Ints,
    Legend,
    MainSplitOptions,
    Note,
    Notes,
    Results,
    Solution,
    SplitOptions,
    after_runs,
    figure,
    float32,
    known,
    labels_of,
    left_out,
    loss,
    percent,
    rate,
    refuse_failed,
    spread,
    square,
    thin,
    thousands,
    trajectories,
)
from modescape.figures.style import Theme
from modescape.finding import reduction
from modescape.science.similarity import disagreement

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Averaging members anew for every checkpoint must fit into one request: about 0.1 s for this many probabilities.
_ENSEMBLE_BUDGET = 6_000_000


# ---- training curves ----


class CurveOptions(MainSplitOptions):
    """What the training curves show."""

    split: Literal["test", "validation", "train"] = Field(
        "test", description="Images loss and accuracy are measured on; left out, the first of the experiment's splits."
    )
    color: Literal["method", "run"] = Field("method", description="method: all runs alike; run: an ink for each run.")
    panel: Literal["both", "loss", "accuracy"] = Field("both", description="Both panels, or one for narrow screens.")

    @classmethod
    def choices(cls, results: Results) -> Mapping[str, Mapping[str, str]]:
        splits = (results.spec.evaluation.splits[0], "test", "validation", "train")
        return {"split": {split: split for split in splits}}


@dataclass(frozen=True)
class Curve:
    """One run. epochs, loss (nats) and accuracy [T]; solutions [T] are numbers, -1 where none was predicted.

    finished: its optimum has made predictions; others are still moving and count in no mean.
    """

    run: int
    epochs: Floats
    loss: Floats
    accuracy: Floats
    solutions: Ints
    finished: bool


@dataclass(frozen=True)
class Mean:
    """Loss and accuracy [T] of something made of several runs, by epoch [T]."""

    epochs: Floats
    loss: Floats
    accuracy: Floats


@dataclass(frozen=True, kw_only=True)
class Trajectories(FigureData):
    """Curves of all runs, their median, and the ensemble of the finished ones (None where it is not known)."""

    options: CurveOptions
    curves: tuple[Curve, ...]
    median: Mean | None
    ensemble: Mean | None
    members: int
    epochs: int

    @property
    def columns(self) -> tuple[str, ...]:
        return ("series", "run", "solution", "epoch", "loss", "accuracy")

    def rows(self) -> list[tuple[Cell, ...]]:
        lines: list[tuple[Cell, ...]] = []
        for curve in self.curves:
            for i, number in enumerate(curve.solutions):
                solution = int(number) if number >= 0 else None
                values = (known(curve.epochs[i]), known(curve.loss[i]), known(curve.accuracy[i]))
                lines.append(("run", curve.run, solution, *values))
        for series, mean in (("median", self.median), ("ensemble", self.ensemble)):
            if mean is not None:
                together = zip(mean.epochs, mean.loss, mean.accuracy, strict=True)
                lines += [(series, None, None, known(e), known(v), known(a)) for e, v, a in together]
        return lines


@figure(
    "trajectories",
    order=10,
    title="Training curves",
    question="Do the runs reach equally good places?",
    summary="Loss and accuracy of every run by epoch, their median, and the ensemble of all.",
    source="Fort, Hu, Lakshminarayanan 2019, section 3",
    paper="Fig 2",
    needs=("train", "predict"),
    options=CurveOptions,
)
def training_curves(results: Results, options: CurveOptions) -> Trajectories:
    done = trajectories(results)
    kept = options.split in results.spec.evaluation.splits
    losses = results.scores("nll", options.split) if kept else {}
    accuracies = results.scores("accuracy", options.split) if kept else {}
    curves = []
    for run in range(results.spec.ensemble.runs):
        curve = _predicted(done.get(run, []), losses, accuracies)
        curve = curve or _recorded(results, run, options.split, finished=run in done)
        if curve is not None:
            curves.append(curve)
    if not curves and not results.healthy:
        raise FigureNotReady("no run learned, and none has finished an epoch", closed=True)
    if not curves:
        raise FigureNotReady("no run has finished its first epoch yet", waits_for=("train",))
    finished = [curve for curve in curves if curve.finished]
    median = _median(finished) if len(finished) > 1 else None
    ensemble = None
    if kept and len(finished) > 1:
        ensemble = _ensemble(results, [done[curve.run] for curve in finished], options.split)
    final = np.array([curve.accuracy[-1] for curve in finished])
    partial = after_runs(len(finished), results)
    failed = list(results.failed)
    nothing = "No run learned" if not results.healthy else "No run has finished yet"
    return Trajectories(
        options=options,
        curves=tuple(curves),
        median=median,
        ensemble=ensemble,
        members=len(finished),
        epochs=results.spec.training.epochs,
        caption=_curve_caption(curves, finished, failed, ensemble, options.split),
        summary=_curve_summary(finished, final, ensemble, options.split, nothing),
        notes=_curve_notes(finished, ensemble, partial, nothing),
        legend=(
            *((Legend("independent", "ensemble of runs", "independent"),) if ensemble is not None else ()),
            Legend("trajectory", "run", "trajectory", len(curves)),
        ),
        partial=partial,
    )


def _predicted(
    points: Sequence[Solution], losses: Mapping[int, float], accuracies: Mapping[int, float]
) -> Curve | None:
    points = [point for point in points if point.number in losses and point.number in accuracies]
    if not points:
        return None
    return Curve(
        run=points[0].run,
        epochs=np.array([point.epoch for point in points], dtype=np.float64),
        loss=np.array([losses[point.number] for point in points]),
        accuracy=np.array([accuracies[point.number] for point in points]),
        solutions=np.array([point.number for point in points]),
        finished=True,
    )


def _recorded(results: Results, run: int, split: str, *, finished: bool) -> Curve | None:
    """The curve the training loop wrote down: validation images where there are any, else training batches.

    A run that still trains has no test predictions; its curve on other images says how far it is, no more.
    """
    per_epoch = results.steps_per_epoch
    for name in ("train",) if split == "train" else ("validation", "train"):
        steps, losses = results.points(run, f"{name}/loss")
        also, accuracies = results.points(run, f"{name}/accuracy")
        if len(steps) and len(also) and per_epoch:
            shared, first, second = np.intersect1d(steps, also, return_indices=True)
            some = thin(len(shared), 200)
            return Curve(
                run=run,
                epochs=shared[some] / per_epoch,
                loss=losses[first][some],
                accuracy=accuracies[second][some],
                solutions=np.full(len(some), -1),
                finished=finished and name == split,
            )
    return None


def _median(curves: Sequence[Curve]) -> Mean | None:
    """Median over runs at the epochs that all of them have."""
    shared = curves[0].epochs
    for curve in curves[1:]:
        shared = np.intersect1d(shared, curve.epochs)
    if not len(shared):
        return None
    rows = [np.searchsorted(curve.epochs, shared) for curve in curves]
    return Mean(
        shared,
        np.median([curve.loss[row] for curve, row in zip(curves, rows, strict=True)], axis=0),
        np.median([curve.accuracy[row] for curve, row in zip(curves, rows, strict=True)], axis=0),
    )


def _ensemble(results: Results, runs: Sequence[Sequence[Solution]], split: str) -> Mean | None:
    """Average of the members' probabilities (science a.8) by checkpoint; fewer of them when it costs much."""
    length = min(len(points) for points in runs)
    truth = results.true_labels(split)
    cost = len(runs) * len(truth) * len(results.class_names)
    if cost > 3 * _ENSEMBLE_BUDGET:
        return None
    chosen = [length - 1 - i for i in thin(length, max(2, _ENSEMBLE_BUDGET // cost))][::-1]
    losses, accuracies = [], []
    for at in chosen:
        average = 0.0
        for points in runs:
            logits = results.logits(points[at], split).astype(np.float64)
            odds = np.exp(logits - logits.max(-1, keepdims=True))
            average = average + odds / odds.sum(-1, keepdims=True)
        members: Floats = np.asarray(average) / len(runs)
        with np.errstate(divide="ignore"):  # a true class that every member rules out: an infinite loss, a gap
            losses.append(-np.log(members[np.arange(len(truth)), truth]).mean())
        accuracies.append((members.argmax(-1) == truth).mean())
    epochs = np.array([runs[0][at].epoch for at in chosen], dtype=np.float64)
    return Mean(epochs, np.array(losses), np.array(accuracies))


def _curve_caption(
    curves: Sequence[Curve], finished: Sequence[Curve], failed: Sequence[int], ensemble: Mean | None, split: str
) -> str:
    apart = [curve.run for curve in curves if not curve.finished]
    moving, lost = [run for run in apart if run not in failed], [run for run in apart if run in failed]
    parts = []
    if len(finished) > 1:
        parts.append(f"{len(finished)} runs, thin; their median, dashed" + ("." if ensemble is None else ";"))
        if ensemble is not None:
            parts.append("the average of their probabilities, bold.")
        final = [curve.accuracy[-1] for curve in finished]
        parts.append(f"The runs end within {percent(max(final) - min(final))} points of each other.")
    elif finished:
        parts.append(f"Run {finished[0].run} alone.")
    parts.append({"test": "Test", "validation": "Validation", "train": "Training"}[split] + " images.")
    if moving:
        names = " and ".join(", ".join(map(str, moving)).rsplit(", ", 1))
        many = len(moving) > 1
        parts.append(
            f"Run{'s' * many} {names} {'are' if many else 'is'} still moving, drawn as the training loop sees "
            f"{'them' if many else 'it'}, and count{'s' * (not many)} in no mean."
        )
    if lost:
        names = " and ".join(", ".join(map(str, lost)).rsplit(", ", 1))
        parts.append(
            f"Run{'s' * (len(lost) > 1)} {names}: drawn as the training loop saw {'them' if len(lost) > 1 else 'it'}."
        )
    return " ".join(parts)


def _curve_summary(finished: Sequence[Curve], final: Floats, ensemble: Mean | None, split: str, nothing: str) -> str:
    if not finished:
        return f"{nothing}; the curves are what the training loop sees."
    if len(finished) == 1:
        return f"Run {finished[0].run} ends with an accuracy of {percent(final[0])} % on {split} images."
    text = (
        f"{len(finished)} runs end with an accuracy of {percent(final.mean())} ± {percent(spread(final))} % "
        f"on {split} images"
    )
    return text + ("." if ensemble is None else f"; their ensemble reaches {percent(ensemble.accuracy[-1])} %.")


def _curve_notes(finished: Sequence[Curve], ensemble: Mean | None, partial: str, nothing: str) -> Notes:
    if not finished:
        return Notes(text=(f"{nothing}: there is nothing to average.",))
    losses = np.array([curve.loss[-1] for curve in finished])
    final = np.array([curve.accuracy[-1] for curve in finished])
    lines = [
        Note("loss of a run", (loss(losses.mean()), loss(spread(losses)))),
        Note("accuracy of a run, %", (percent(final.mean()), percent(spread(final)))),
    ]
    if ensemble is not None:
        ours = percent(ensemble.accuracy[-1])
        lines.append(Note(f"accuracy of {len(finished)} together, %", (ours, "–"), strong=True))
    return Notes(("So far" if partial else "At the end", "mean", "± σ"), tuple(lines), (f"n = {len(finished)} runs.",))


@training_curves.draw
def _(data: Trajectories, theme: Theme) -> go.Figure:
    import plotly.graph_objects as go

    large = data.options.size == "page"
    height = 592 if large else 292
    layout = style.layout(theme, kind="curves", height=height, revision="trajectories")
    panels = ("loss", "accuracy") if data.options.panel == "both" else (data.options.panel,)
    traces: list[dict[str, Any]] = []
    layout["annotations"] = []
    for i, panel in enumerate(panels):
        x, y = f"x{i + 1 if i else ''}", f"y{i + 1 if i else ''}"
        # Between two panels, on paper too, there is room for a name and the next one's ticks.
        domain = [0, 1] if len(panels) == 1 else ([0, 0.36], [0.64, 1])[i]
        bounds = _window(data, panel)
        layout[f"xaxis{i + 1 if i else ''}"] = style.x_axis(
            theme, domain=domain, anchor=y, range=[0, max(1.0, float(data.epochs))]
        )
        layout[f"yaxis{i + 1 if i else ''}"] = style.y_axis(theme, anchor=x, range=bounds)
        traces += _curve_traces(data, panel, theme, x, y)
        left = layout["margin"]["l"]
        room = height - layout["margin"]["t"] - layout["margin"]["b"]
        title = "loss, nats" if panel == "loss" else "accuracy, %"
        layout["annotations"] += [
            style.y_title(title, theme, x, y, left),
            style.x_title("epoch", theme, x, y),
            *_end_labels(data, panel, theme, x, y, bounds, room),
        ]
    layout["meta"] = {"figure": "trajectories", "panels": ["loss", "accuracy"]}
    return go.Figure(data=traces, layout=layout, layout_template=None)


def _values(curve: Curve | Mean, panel: str) -> Floats:
    return curve.loss if panel == "loss" else 100 * curve.accuracy


def _window(data: Trajectories, panel: str) -> list[float]:
    """The part worth looking at: everything from the second tenth of training on (the first steps would fill it)."""
    shown: list[Curve | Mean] = [*data.curves, *([data.ensemble] if data.ensemble is not None else [])]
    late = []
    for curve in shown:
        start = min(max(1.0, 0.1 * data.epochs), curve.epochs[-1])
        late.append(_values(curve, panel)[curve.epochs >= start])
    values = np.concatenate(late)
    values = values[np.isfinite(values)]
    if not len(values):
        return [0.0, 1.0]
    low, high = float(values.min()), float(values.max())
    pad = max(0.06 * (high - low), 0.02 * abs(high), 1e-3)
    if panel == "loss":
        return [max(0.0, low - pad), high + pad]
    return [max(0.0, low - pad), min(100.0, high + pad)]


def _curve_traces(data: Trajectories, panel: str, theme: Theme, x: str, y: str) -> list[dict[str, Any]]:
    run_look, ensemble_look = style.look("trajectory"), style.look("independent")
    unit = "loss %{y:.3f}" if panel == "loss" else "accuracy %{y:.1f} %"
    traces: list[dict[str, Any]] = []
    alone = data.median is None
    for curve in data.curves:
        by_run = data.options.color == "run"
        ink = style.run_ink(curve.run, theme) if by_run else run_look.colour(theme)
        bold = alone or not curve.finished
        trace = {
            "type": "scatter",
            "mode": "lines",
            "x": float32(curve.epochs),
            "y": float32(_values(curve, panel)),
            "customdata": curve.solutions.astype(np.int32),
            "name": f"run {curve.run}",
            "legendgroup": "trajectory",
            "meta": {"run": curve.run},
            "line": {"color": ink, "width": 2 if alone else 1.5 if bold or by_run else 1},
            "opacity": 1 if bold or by_run else style.RUN_OPACITY[theme],
            "hovertemplate": f"<b>run {curve.run}</b><br>epoch %{{x:.3~g}}<br>{unit}<extra></extra>",
            "xaxis": x,
            "yaxis": y,
        }
        traces.append(trace)
        if not curve.finished:
            traces.append(_end_mark(curve, panel, x, y, style.run_mark(ink, theme), "trajectory"))
    if data.median is not None:
        traces.append({
            "type": "scatter",
            "mode": "lines",
            "x": float32(data.median.epochs),
            "y": float32(_values(data.median, panel)),
            "name": "median run",
            "legendgroup": "trajectory",
            "line": {"color": run_look.colour(theme), "width": 2, "dash": "dash"},
            "hovertemplate": f"<b>median run</b><br>epoch %{{x:.3~g}}<br>{unit}<extra></extra>",
            "xaxis": x,
            "yaxis": y,
        })  # fmt: skip
    if data.ensemble is not None:
        name = f"ensemble of {data.members}"
        traces.append({
            "type": "scatter",
            "mode": "lines",
            "x": float32(data.ensemble.epochs),
            "y": float32(_values(data.ensemble, panel)),
            "name": name,
            "legendgroup": "independent",
            "line": {"color": ensemble_look.colour(theme), "width": 2.5},
            "hovertemplate": f"<b>{name}</b><br>epoch %{{x:.3~g}}<br>{unit}<extra></extra>",
            "xaxis": x,
            "yaxis": y,
        })  # fmt: skip
        traces.append(_end_mark(data.ensemble, panel, x, y, style.marker(ensemble_look, theme), "independent"))
    return traces


def _end_mark(curve: Curve | Mean, panel: str, x: str, y: str, marker: dict[str, Any], group: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": float32(curve.epochs[-1:]),
        "y": float32(_values(curve, panel)[-1:]),
        "marker": marker,
        "legendgroup": group,
        "cliponaxis": False,
        "hoverinfo": "skip",
        "xaxis": x,
        "yaxis": y,
    }


def _end_labels(
    data: Trajectories, panel: str, theme: Theme, x: str, y: str, bounds: list[float], room: int
) -> list[dict[str, Any]]:
    """Names at the right ends, and over a card where a run still moves."""
    run_colour = style.look("trajectory").colour(theme)
    named: list[tuple[str, Curve | Mean, str, bool]] = []
    if data.ensemble is not None:
        named.append((f"ensemble of {data.members}", data.ensemble, style.look("independent").colour(theme), True))
    if data.median is not None:
        named.append(("median run", data.median, run_colour, True))
    few = len(data.curves) <= 6
    for curve in data.curves:
        ink = style.run_ink(curve.run, theme) if data.options.color == "run" else run_colour
        if not curve.finished or data.median is None or (few and data.options.color == "run"):
            named.append((f"run {curve.run}", curve, ink, curve.finished))
    ends = [
        (style.End(name, float(curve.epochs[-1]), float(_values(curve, panel)[-1]), colour), finished)
        for name, curve, colour, finished in named
    ]

    def written(ends: list[style.End]) -> list[dict[str, Any]]:
        return style.end_labels(ends, theme, x=x, y=y, bounds=bounds, room=room, reach=14)

    labels = written([end for end, finished in ends if finished])  # only labels at the same right end can meet
    for end, finished in ends:
        if not finished:
            labels += [{**label, "name": "moving", "bgcolor": style.token("card", theme)} for label in written([end])]
    return labels


# ---- similarity matrices ----


_WEIGHTS: Any = Field(
    "reduced",
    description="reduced: without what two networks share for free, as in the verdict; all: every trainable weight as "
    "it is; kernels: tensors of two or more dimensions only, kept by older experiments.",
)


class AlongOptions(SplitOptions):
    """Which run, and how its weights are compared."""

    run: int | None = Field(None, ge=0, le=999, description="Which run; empty means the first that has finished.")
    weights: Literal["reduced", "all", "kernels"] = _WEIGHTS
    panel: Literal["both", "cosine", "disagreement"] = Field(
        "both", description="Both maps, or one for narrow screens."
    )


class AcrossOptions(SplitOptions):
    """How many checkpoints stand for each run."""

    blocks: int = Field(
        1, ge=1, le=64, description="Checkpoints shown of each run, early to late; 1: its final solution, as the paper."
    )
    weights: Literal["reduced", "all", "kernels"] = _WEIGHTS
    panel: Literal["both", "cosine", "disagreement"] = Field(
        "both", description="Both maps, or one for narrow screens."
    )


@dataclass(frozen=True, kw_only=True)
class Similarity(FigureData):
    """Two matrices over the same solutions.

    numbers, runs [S] int and epochs [S]; numbers are -1 and values NaN where a run is not there yet. cosine [S, S] in
    [-1, 1], or None before it is computed; disagreement [S, S] in [0, 1]. block: rows a run.
    """

    options: AlongOptions | AcrossOptions
    numbers: Ints
    runs: Ints
    epochs: Floats
    cosine: Floats | None
    disagreement: Floats
    block: int

    @property
    def columns(self) -> tuple[str, ...]:
        return ("solution", "run", "epoch", "solution_2", "run_2", "epoch_2", "cosine", "disagreement")

    def rows(self) -> list[tuple[Cell, ...]]:
        """One row a pair, first before second."""
        present = np.flatnonzero(self.numbers >= 0)
        who = [(int(self.numbers[i]), int(self.runs[i]), float(self.epochs[i])) for i in range(len(self.numbers))]
        return [
            (
                *who[i],
                *who[j],
                None if self.cosine is None else known(self.cosine[i, j]),
                known(self.disagreement[i, j]),
            )
            for at, i in enumerate(present)
            for j in present[at + 1 :]
        ]


@figure(
    "similarity-trajectory",
    order=20,
    title="Similarity along a run",
    question="How does one run move?",
    summary="Cosine of weights and disagreement of labels between all checkpoints of one run.",
    source="Fort, Hu, Lakshminarayanan 2019, Figure 2 (a, b)",
    paper="Fig 2",
    needs=("predict", "compare"),
    options=AlongOptions,
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
    chosen = [done[run][i] for i in thin(len(done[run]), MAX_ROWS)]
    cosine, apart, missing = _matrices(results, chosen, options.split, options.weights)
    late = float(apart[-1, -2]) if len(chosen) > 1 else float("nan")
    first = float(apart[-1, 0])
    lines = [
        Note("first and last", (_value(cosine, 0, -1), rate(first))),
        Note("last two", (_value(cosine, -2, -1) if len(chosen) > 1 else "–", rate(late))),
    ]
    full = len(done[run])
    thinned = f"{len(chosen)} of {full} checkpoints, evenly." if len(chosen) < full else ""
    n = len(results.true_labels(options.split))
    return Similarity(
        options=options,
        numbers=np.array([point.number for point in chosen]),
        runs=np.full(len(chosen), run),
        epochs=np.array([point.epoch for point in chosen], dtype=np.float64),
        cosine=cosine,
        disagreement=apart,
        block=len(chosen),
        caption=(
            f"All checkpoints of run {run}, early to late. Bright means alike in both maps; the colours of the cosine "
            "begin where this run's do. "
            f"{thousands(n)} {options.split} images; {full} checkpoints."
        ),
        summary=(
            f"Along run {run} the first and the last checkpoint disagree on {percent(first)} % of labels, "
            f"the last two on {percent(late)} %."
        ),
        notes=Notes(("Checkpoints", "cosine", "disagr."), tuple(lines), ("Bright means alike in both maps.",)),
        legend=(Legend("trajectory", "checkpoints", "trajectory", len(chosen)),),
        missing=missing,
        thinned=thinned,
    )


@figure(
    "similarity-runs",
    order=30,
    title="Similarity across runs",
    question="Are they the same function, and do their weights know?",
    summary="Cosine of weights and disagreement of labels between independent runs.",
    source="Fort, Hu, Lakshminarayanan 2019, Figure 3",
    paper="Fig 3",
    needs=("predict", "compare"),
    options=AcrossOptions,
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
    small_cosine, small_apart, missing = _matrices(results, solutions, options.split, options.weights)
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
    n = len(results.true_labels(options.split))
    notes, summary = _across_notes(cosine, apart, block, len(runs), n, options.split)
    shown = (
        "Each cell is a pair of runs, by their final solutions"
        if block == 1
        else f"Each block is a pair of runs, {block} checkpoints each, early to late"
    )
    legend = ("independent", "runs") if block == 1 else ("trajectory", "checkpoints")
    return Similarity(
        options=options,
        numbers=np.array([point.number if point is not None else -1 for point in chosen]),
        runs=np.repeat(runs, block),
        epochs=np.array([np.nan if point is None else point.epoch for point in chosen], dtype=np.float64),
        cosine=cosine,
        disagreement=apart,
        block=block,
        caption=(f"{shown}. Bright means alike in both maps. {thousands(n)} {options.split} images."),
        summary=summary,
        notes=notes,
        legend=(Legend(*legend, legend[0], len(solutions)),),
        partial=after_runs(len(done), results),
        missing=missing,
        thinned=" ".join(thinned),
    )


@dataclass(frozen=True)
class _Pair:
    cosine: Floats | None
    disagreement: Floats
    missing: str

    def __iter__(self) -> Any:
        return iter((self.cosine, self.disagreement, self.missing))


def _matrices(results: Results, solutions: Sequence[Solution], split: str, weights: str) -> _Pair:
    """Both matrices over these solutions. Before the compare stage disagreement comes from the stored logits."""
    numbers = [solution.number for solution in solutions]
    stored = results.matrix("disagreement", split)
    apart = square(stored, numbers) if stored is not None else None
    if apart is None or not np.isfinite(apart).all():
        apart = disagreement(labels_of(results, solutions, split))
    missing = ""
    measured = results.matrix("cosine" if weights == "all" else f"cosine-{weights}", "")
    if measured is None and weights != "all":
        measured = results.matrix("cosine", "")
        if measured is not None:
            missing = "Only the cosine of all weights, as they are, is kept here."
    if measured is None:
        return _Pair(None, apart, "The cosine of weights is not computed yet.")
    if "head" in measured.details:
        missing = f"Cosine of weights {reduction(measured.details['head'], measured.details['left_out'])}."
    return _Pair(square(measured, numbers), apart, missing)


def _value(matrix: Floats | None, i: int, j: int) -> str:
    return "–" if matrix is None else _cosine(float(matrix[i, j]))


def _cosine(value: float) -> str:
    """Three decimals near 0, two near 1, where the third carries nothing."""
    return rate(value, 2) if round(value, 2) >= 1 else rate(value)


def _across_notes(
    cosine: Floats | None, apart: Floats, block: int, runs: int, images: int, split: str
) -> tuple[Notes, str]:
    last = np.arange(runs) * block + block - 1
    upper = np.triu_indices(runs, 1)

    def pairs(matrix: Floats | None) -> Floats:
        if matrix is None:
            return np.array([])
        values = matrix[np.ix_(last, last)][upper]
        return values[np.isfinite(values)]

    def late(matrix: Floats | None) -> Floats:
        if matrix is None or block < 2:
            return np.array([])
        values = matrix[last - 1, last]
        return values[np.isfinite(values)]

    lines = []
    inside, across = late(apart), pairs(apart)
    inside_cosine, across_cosine = late(cosine), pairs(cosine)
    if len(inside):
        lines += [
            Note("last two of a run", (_mean(inside_cosine), _mean(inside))),
            Note("", (_deviation(inside_cosine), _deviation(inside))),
        ]
    lines += [
        Note("different runs", (_mean(across_cosine), _mean(across)), strong=True),
        Note("", (_deviation(across_cosine), _deviation(across))),
    ]
    counts = f"{len(across)} pairs across runs; {thousands(images)} {split} images."
    text = ["Bright means alike in both maps."]
    if len(inside):
        text.append("Last two: of the checkpoints shown of a run.")
        counts = f"{len(inside)} pairs in, {counts}"
    text.append(f"n = {counts}")
    summary = f"Different runs disagree on {percent(across.mean())} % of labels"
    summary += f" (± {percent(spread(across))}, n = {len(across)} pairs)" if len(across) > 1 else " (one pair)"
    if len(inside):
        summary += f", the last two checkpoints shown of a run on {percent(inside.mean())} %"
    if len(across_cosine):
        summary += f"; the cosine of their weights is {rate(across_cosine.mean())}"
    return Notes(("", "cosine", "disagr."), tuple(lines), tuple(text)), summary + "."


def _mean(values: Floats) -> str:
    return _cosine(float(values.mean())) if len(values) else "–"


def _deviation(values: Floats) -> str:
    return f"± {rate(spread(values))}" if len(values) > 1 else "–"


@similarity_along.draw
def _(data: Similarity, theme: Theme) -> go.Figure:
    names = [f"epoch {epoch:.4g}" for epoch in data.epochs]
    some = range(0, len(names), -(-len(names) // 8))
    ticks = ([float(i) for i in some], [f"{data.epochs[i]:.4g}" for i in some])
    return _maps(data, theme, figure_name="similarity-trajectory", names=names, ticks=ticks, axis="epoch")


@similarity_across.draw
def _(data: Similarity, theme: Theme) -> go.Figure:
    names = [
        f"run {run}, row {i}" if np.isnan(epoch) else f"run {run}, epoch {epoch:.4g}"
        for i, (run, epoch) in enumerate(zip(data.runs, data.epochs, strict=True))
    ]
    runs = data.runs[:: data.block]
    some = range(0, len(runs), -(-len(runs) // 20))
    ticks = ([float(i * data.block + (data.block - 1) / 2) for i in some], [str(runs[i]) for i in some])
    return _maps(data, theme, figure_name="similarity-runs", names=names, ticks=ticks, axis="run")


def _maps(
    data: Similarity,
    theme: Theme,
    *,
    figure_name: str,
    names: list[str],
    ticks: tuple[list[float], list[str]],
    axis: str,
) -> go.Figure:
    import plotly.graph_objects as go

    both = data.options.panel == "both"
    height = 592 if data.options.size == "page" else 552 if both else 440
    layout = style.layout(theme, kind="maps", height=height, revision=figure_name)
    panels = ("cosine", "disagreement") if both else (data.options.panel,)
    size = len(names)
    traces: list[dict[str, Any]] = []
    layout["annotations"], layout["shapes"] = [], []
    # "run" stands in the corner; a longer word fits neither there nor beside the title on narrow screens and paper.
    corner, below = {"x": 0, "xshift": -2, "yshift": -6}, {"x": 1, "xshift": 0, "yshift": -20}
    place: dict[str, Any] = corner if axis == "run" else below
    layout["margin"]["b"] -= min(0, 8 + place["yshift"])
    for i, panel in enumerate(panels):
        x, y = f"x{i + 1 if i else ''}", f"y{i + 1 if i else ''}"
        domain = [0.0, 1.0] if len(panels) == 1 else ([0.0, 0.48], [0.52, 1.0])[i]
        shared = {
            "type": "category",
            "showgrid": False,
            "showline": False,
            "ticks": "",
            "constrain": "domain",
        }
        shared |= {"tickmode": "array", "tickvals": ticks[0], "ticktext": ticks[1]}
        layout[f"xaxis{i + 1 if i else ''}"] = style.x_axis(
            theme, **shared, domain=domain, anchor=y, range=[-0.5, size - 0.5], constraintoward="left"
        )
        layout[f"yaxis{i + 1 if i else ''}"] = style.y_axis(
            theme, **shared, anchor=x, range=[size - 0.5, -0.5], scaleanchor=x, constraintoward="top"
        )
        values = data.cosine if panel == "cosine" else data.disagreement
        title = "cosine of weights" if panel == "cosine" else "disagreement of labels"
        layout["annotations"] += [
            style.label(
                title, theme, strong=True, xref=f"{x} domain", yref=f"{y} domain", x=0, y=1,
                xanchor="left", yanchor="bottom", xshift=-2, yshift=8,
            ),
        ]  # fmt: skip
        layout["annotations"].append(
            style.label(
                axis, theme, xref=f"{x} domain", yref=f"{y} domain", y=0, xanchor="right", yanchor="top", **place
            )
        )
        if values is None:
            why = style.label("not computed yet", theme, x=0.5, y=0.5, xref=f"{x} domain", yref=f"{y} domain")
            layout["annotations"].append(why)
        if values is None or not np.isfinite(values).all():
            layout["shapes"].append(style.ground(theme, x, y, size))
        traces.append(_map(data, panel, values, names, theme, x, y, domain))
        if 1 < data.block < size and size // data.block <= 40:
            layout["shapes"] += style.block_lines(theme, x, y, size, data.block)
    layout["meta"] = {
        "figure": figure_name,
        "panels": ["cosine", "disagreement"],
        "rows": [int(number) for number in data.numbers],
        "columns": [int(number) for number in data.numbers],
    }
    return go.Figure(data=traces, layout=layout, layout_template=None)


def _map(
    data: Similarity,
    panel: str,
    values: Floats | None,
    names: list[str],
    theme: Theme,
    x: str,
    y: str,
    domain: list[float],
) -> dict[str, Any]:
    size = len(names)
    shown = np.full((size, size), np.nan) if values is None else values
    bottom = 0.0
    if panel == "cosine":
        bottom, top = _cosine_scale(data), 1.0
        beyond = "≤ " if (shown[np.isfinite(shown)] < bottom - 1e-9).any() and bottom else ""
        middle = (bottom + top) / 2
        ticks, texts = [bottom, middle, top], [beyond + _short(bottom), _short(middle), "1"]
    else:
        top = _disagreement_scale(data)
        beyond = "≥ " if (shown[np.isfinite(shown)] > top).any() else ""
        ticks, texts = [0.0, top / 2, top], ["0", _short(top / 2), beyond + _short(top)]
    width = domain[1] - domain[0]
    few = data.block == 1 and size <= 40
    return {
        "type": "heatmap",
        "x": names,
        "y": names,
        "z": float32(shown),
        "zmin": bottom,
        "zmax": top,
        "colorscale": style.SEQUENTIAL,
        "reversescale": panel == "disagreement",
        "xgap": 1 if few else 0,
        "ygap": 1 if few else 0,
        "hoverongaps": False,
        "name": panel,
        "legendgroup": "trajectory",
        "hovertemplate": f"<b>%{{y}}</b><br>%{{x}}<br>{panel} %{{z:.3f}}<extra></extra>",
        "colorbar": style.colour_bar(theme, x=domain[1] - 0.015 * width, length=0.4 * width, ticks=ticks, texts=texts),
        "xaxis": x,
        "yaxis": y,
    }


def _cosine_scale(data: Similarity) -> float:
    """Where the colours begin: at 0 across runs, whose weights know nothing of each other; along one run at what its
    weights come down to, for they hardly turn and would all be one colour."""
    if data.cosine is None or data.block < len(data.numbers):
        return 0.0
    seen = data.cosine[np.isfinite(data.cosine)]
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
    told = told[np.isfinite(told)]
    highest = float(told.max()) if len(told) else 1.0
    step = 0.1 if highest > 0.2 else 0.02
    return min(1.0, max(0.02, round(float(np.ceil(highest / step - 1e-9) * step), 2)))


def _short(value: float) -> str:
    """As few digits as the value needs."""
    return f"{value:.4g}".replace("0.", ".", 1) if 0 < value < 1 else f"{value:.4g}"
