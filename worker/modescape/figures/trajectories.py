"""Do the runs reach equally good places? Loss and accuracy of every run by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from modescape.drawing import style
from modescape.drawing.figure import Cell, FigureData, Legend, Note, Notes, Words, figure
from modescape.drawing.groups import after_runs
from modescape.drawing.layers import Axes, Layer, Series
from modescape.drawing.numbers import finite, lines, spread, stacked, thin
from modescape.drawing.options import MainSplitOptions, shown_panels
from modescape.drawing.panels import Panel, Picture, Trace, parted, scatter
from modescape.drawing.reading import FigureNotReady, Floats, Ints, trajectories
from modescape.drawing.style import Theme
from modescape.drawing.words import listed, loss, percent
from modescape.records import Group, Json
from modescape.results import Results
from modescape.tables import Solution

if TYPE_CHECKING:
    import plotly.graph_objects as go


# Averaging members anew for every checkpoint must fit into one request: about 0.1 s for this many probabilities.
_ENSEMBLE_BUDGET = 6_000_000
_LABEL = 0.3  # of a panel's width: what a name and its leader may take on the narrowest that has two


class CurveOptions(MainSplitOptions):
    """What the training curves show."""

    split: Literal["test", "validation", "train"] = Field(
        "test", description="Images loss and accuracy are measured on; left out, the first of the experiment's splits."
    )
    color: Literal["method", "run"] = Field(
        "run", description="run: an ink for each run, as in every picture of single runs; method: all runs alike."
    )
    panel: Literal["both", "loss", "accuracy"] = shown_panels("both", "Both panels")

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
    """Curves of all runs, their median, and the ensemble of the finished ones (None where it is not known);
    failed: runs; learned: some run did not fail; guessed: nobody said of which epoch the last points are."""

    options: CurveOptions
    curves: tuple[Curve, ...]
    median: Mean | None
    ensemble: Mean | None
    epochs: int
    failed: tuple[int, ...]
    learned: bool
    guessed: bool

    @property
    def finished(self) -> list[Curve]:
        return [curve for curve in self.curves if curve.finished]

    @property
    def moving(self) -> list[int]:
        """Runs that are still being trained."""
        return [curve.run for curve in self.curves if not curve.finished and curve.run not in self.failed]

    @property
    def by_run(self) -> bool:
        """Whether colour is the run: as was asked, and while some still move, so that they are told apart."""
        return self.options.color == "run" or bool(self.moving)

    def is_plain(self, entry: Legend) -> bool:
        return self.by_run and entry.group == Group.TRAJECTORY

    columns = ("series", "run", "solution", "epoch", "loss", "accuracy")

    def rows(self) -> list[tuple[Cell, ...]]:
        found = stacked(
            lines("run", c.run, [n if n >= 0 else None for n in c.solutions], c.epochs, c.loss, c.accuracy)
            for c in self.curves
        )
        for series, mean in (("median", self.median), ("ensemble", self.ensemble)):
            if mean is not None:
                found += lines(series, None, None, mean.epochs, mean.loss, mean.accuracy)
        return found


@figure(
    "trajectories",
    order=10,
    title="Training curves",
    question="Do the runs reach equally good places?",
    summary="Loss and accuracy of every run by epoch, their median, and the ensemble of all.",
    source="Fort, Hu, Lakshminarayanan 2019, section 3",
    paper="Fig 2",
    needs=("train", "predict"),
    card=292,
    full=True,
)
def training_curves(results: Results, options: CurveOptions) -> Trajectories:
    done = trajectories(results)
    if results.voice.elsewhere and done and all(len(points) < 2 for points in done.values()):
        raise FigureNotReady(
            "it needs checkpoints along a training that all members have alike, and there are none", closed=True
        )
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
    if not curves and not results.spec.has_probabilities:
        raise FigureNotReady("only labels are known here, and a loss needs probabilities", closed=True)
    if not curves:
        raise FigureNotReady("no run has finished its first epoch yet", waits_for=("train",))
    finished = [curve for curve in curves if curve.finished]
    median = _median(finished) if len(finished) > 1 else None
    ensemble = None
    if kept and len(finished) > 1:
        ensemble = _ensemble(results, [done[curve.run] for curve in finished], options.split)
    return Trajectories(
        options=options,
        curves=tuple(curves),
        median=median,
        ensemble=ensemble,
        epochs=results.spec.training.epochs,
        failed=tuple(results.failed),
        learned=bool(results.healthy),
        guessed=any(points[-1].epoch is None for points in done.values()),
        legend=(
            *((Legend(Group.INDEPENDENT, "ensemble of runs", Group.INDEPENDENT),) if ensemble is not None else ()),
            Legend(Group.TRAJECTORY, "run", Group.TRAJECTORY, len(curves)),
        ),
        partial=after_runs(len(finished), results),
    )


def _epochs(points: Sequence[Solution]) -> Floats:
    """Their epochs [T]; a last point of which nobody said it lies one step behind the one before."""
    found = np.array([point.epoch for point in points], dtype=np.float64)
    if len(found) > 1 and np.isnan(found[-1]):
        found[-1] = found[-2] + (found[-2] - found[-3] if len(found) > 2 else 1.0)
    return found


def _predicted(
    points: Sequence[Solution], losses: Mapping[int, float], accuracies: Mapping[int, float]
) -> Curve | None:
    points = [point for point in points if point.number in losses and point.number in accuracies]
    if not points:
        return None
    return Curve(
        run=points[0].run,
        epochs=_epochs(points),
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
    return Mean(_epochs(runs[0][:length])[chosen], np.array(losses), np.array(accuracies))


@training_curves.tell
def tell(data: Trajectories) -> Words:
    nothing = "No run has finished yet" if data.learned else "No run learned"
    return Words(_caption(data), _summary(data, nothing), _notes(data, nothing))


def _caption(data: Trajectories) -> str:
    curves, finished, failed, ensemble, split = (
        data.curves, data.finished, data.failed, data.ensemble, data.options.split
    )  # fmt: skip
    moving, lost = data.moving, [curve.run for curve in curves if not curve.finished and curve.run in failed]
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
    if data.guessed:
        parts.append("The epoch of the last points was not told: they are drawn one step behind the ones before.")
    if moving:
        names = listed([f"{run}" for run in moving])
        many = len(moving) > 1
        parts.append(
            f"Run{'s' * many} {names} {'are' if many else 'is'} still moving, drawn as the training loop sees "
            f"{'them' if many else 'it'}, and count{'s' * (not many)} in no mean."
        )
    if lost:
        names = listed([f"{run}" for run in lost])
        parts.append(
            f"Run{'s' * (len(lost) > 1)} {names}: drawn as the training loop saw {'them' if len(lost) > 1 else 'it'}."
        )
    if data.by_run and len(curves) > 1:
        parts.append("The colour of a thin line is its run.")
    return " ".join(parts)


def _summary(data: Trajectories, nothing: str) -> str:
    finished, ensemble, split = data.finished, data.ensemble, data.options.split
    final = np.array([curve.accuracy[-1] for curve in finished])
    if not finished:
        return f"{nothing}; the curves are what the training loop sees."
    if len(finished) == 1:
        return f"Run {finished[0].run} ends with an accuracy of {percent(final[0])} % on {split} images."
    text = (
        f"{len(finished)} runs end with an accuracy of {percent(final.mean())} % on {split} images "
        f"(standard deviation {percent(spread(final))})"
    )
    return text + ("." if ensemble is None else f"; their ensemble reaches {percent(ensemble.accuracy[-1])} %.")


def _notes(data: Trajectories, nothing: str) -> Notes:
    finished, ensemble = data.finished, data.ensemble
    if not finished:
        return Notes(text=(f"{nothing}: there is nothing to average.",))
    losses = np.array([curve.loss[-1] for curve in finished])
    final = np.array([curve.accuracy[-1] for curve in finished])
    lines = [
        Note("loss of a run, nats", (loss(losses.mean()), loss(spread(losses)))),
        Note("accuracy of a run, %", (percent(final.mean()), percent(spread(final)))),
    ]
    if ensemble is not None:
        ours = percent(ensemble.accuracy[-1])
        lines.append(Note(f"accuracy of {len(finished)} together, %", (ours, "–"), strong=True))
    return Notes(
        ("So far" if data.partial else "At the end", "mean", "± σ"), tuple(lines), (f"n = {len(finished)} runs.",)
    )


@training_curves.lay
def lay(data: Trajectories) -> Layer:
    """The median run and the ensemble, or the only run."""
    curves: list[tuple[str, Curve | Mean, str]] = []
    if data.median is not None:
        curves.append((Group.TRAJECTORY, data.median, "median run"))
    if data.ensemble is not None:
        curves.append((Group.INDEPENDENT, data.ensemble, f"ensemble of {len(data.finished)}"))
    if not curves:
        curves = [(Group.TRAJECTORY, curve, f"run {curve.run}") for curve in data.curves]
    series = [
        Series(panel=panel, group=group, title=title, x=curve.epochs, y=_values(curve, panel),
               dash="" if group == Group.INDEPENDENT or data.ensemble is None else "dash",
               hover=f"epoch %{{x:.3~g}}<br>{panel} %{{y:.4~g}}")
        for panel in _panels(data) for group, curve, title in curves
    ]  # fmt: skip
    windows = {name: _window(data, name) for name in _panels(data)}
    axes = tuple(Axes(name, "epoch", _TITLES[name], window=(low, high)) for name, (low, high) in windows.items())
    words = "Solid: the average of the probabilities of all runs; dashed: the median run."
    return Layer(axes, tuple(series), f"{len(data.finished)} runs", words)


@training_curves.draw
def draw(data: Trajectories, theme: Theme) -> go.Figure:
    picture = Picture("trajectories", data, theme, kind="curves", panels=("loss", "accuracy"))
    # Between two panels, on paper too, there is room for a name and the next one's ticks.
    for name, across in parted(_panels(data), ([0, 0.36], [0.64, 1])):
        panel = picture.panel(across, x={"range": [0, max(1.0, float(data.epochs))]}, y={"range": _window(data, name)})
        picture.add(*_curve_traces(data, name, theme, panel.x, panel.y))
        picture.titles(panel, "epoch", _TITLES[name])
        picture.write(*_end_labels(data, name, theme, panel, picture.plot_height))
    return picture.figure()


_TITLES = {"loss": "loss, nats", "accuracy": "accuracy, %"}


def _panels(data: Trajectories) -> tuple[str, ...]:
    return ("loss", "accuracy") if data.options.panel == "both" else (data.options.panel,)


def _values(curve: Curve | Mean, panel: str) -> Floats:
    return curve.loss if panel == "loss" else 100 * curve.accuracy


def _window(data: Trajectories, panel: str) -> list[float]:
    """The part worth looking at: everything from the second tenth of training on (the first steps would fill it)."""
    shown: list[Curve | Mean] = [*data.curves, *([data.ensemble] if data.ensemble is not None else [])]
    late = []
    for curve in shown:
        start = min(max(1.0, 0.1 * data.epochs), curve.epochs[-1])
        late.append(_values(curve, panel)[curve.epochs >= start])
    values = finite(np.concatenate(late))
    if not len(values):
        return [0.0, 1.0]
    low, high = float(values.min()), float(values.max())
    pad = max(0.06 * (high - low), 0.02 * abs(high), 1e-3)
    if panel == "loss":
        return [max(0.0, low - pad), high + pad]
    return [max(0.0, low - pad), min(100.0, high + pad)]


def _curve_traces(data: Trajectories, panel: str, theme: Theme, x: str, y: str) -> list[Trace]:
    run_look, ensemble_look = style.look(Group.TRAJECTORY), style.look(Group.INDEPENDENT)
    unit = "loss %{y:.3f}" if panel == "loss" else "accuracy %{y:.1f} %"
    alone, by_run, few = data.median is None, data.by_run, len(data.curves) <= style.MOST_LABELS

    def put(curve: Curve | Mean, name: str, group: str, line: Json, **more: Any) -> Trace:
        return scatter(
            "lines", curve.epochs, _values(curve, panel), axes=(x, y), name=name, legendgroup=group, line=line,
            hovertemplate=f"<b>{name}</b><br>epoch %{{x:.3~g}}<br>{unit}<extra></extra>", **more,
        )  # fmt: skip

    traces: list[Trace] = []
    for curve in data.curves:
        ink = style.run_ink(curve.run, theme) if by_run else run_look.colour(theme)
        bold = alone or not curve.finished or (by_run and few)
        line = {"color": ink, "width": 2 if alone else 1.5 if bold else 1}
        traces.append(put(
            curve, f"run {curve.run}", Group.TRAJECTORY, line, customdata=curve.solutions.astype(np.int32),
            meta={"run": curve.run}, opacity=1 if bold else style.RUN_OPACITY[theme],
        ))  # fmt: skip
        if not curve.finished:
            mark = _end_mark(curve, panel, x, y, style.run_mark(ink, theme), Group.TRAJECTORY)
            traces.append({**mark, "meta": {"run": curve.run}})
    if data.median is not None:
        line = {"color": run_look.colour(theme), "width": 2, "dash": "dash"}
        traces.append(put(data.median, "median run", Group.TRAJECTORY, line))
    if data.ensemble is not None:
        line = {"color": ensemble_look.colour(theme), "width": 2.5}
        traces.append(put(data.ensemble, f"ensemble of {len(data.finished)}", Group.INDEPENDENT, line))
        traces.append(_end_mark(data.ensemble, panel, x, y, style.marker(ensemble_look, theme), Group.INDEPENDENT))
    return traces


def _outermost(data: Trajectories) -> Curve:
    """The run that ends farthest from the median, whose name is in nobody's way."""
    middle = float(np.median([curve.accuracy[-1] for curve in data.finished]))
    return max(data.finished, key=lambda curve: abs(float(curve.accuracy[-1]) - middle))


def _end_mark(curve: Curve | Mean, panel: str, x: str, y: str, marker: Json, group: str) -> Trace:
    return scatter(
        "markers", curve.epochs[-1:], _values(curve, panel)[-1:], axes=(x, y), silent=True, marker=marker,
        legendgroup=group, cliponaxis=False,
    )  # fmt: skip


def _end_labels(data: Trajectories, quantity: str, theme: Theme, panel: Panel, room: int) -> list[Json]:
    """Names at the right ends, and over a card where a run still moves."""
    run_colour = style.look(Group.TRAJECTORY).colour(theme)
    named: list[tuple[str, Curve | Mean, str, bool]] = []
    if data.ensemble is not None:
        bold = style.look(Group.INDEPENDENT).colour(theme)
        named.append((f"ensemble of {len(data.finished)}", data.ensemble, bold, True))
    if data.median is not None:
        named.append(("median run", data.median, run_colour, True))
    few = len(data.curves) <= style.MOST_LABELS
    if data.median is not None and not data.by_run:  # all alike, so one name stands for them
        named.append(("a run", _outermost(data), run_colour, True))
    for curve in data.curves:
        ink = style.run_ink(curve.run, theme) if data.by_run else run_colour
        if (
            (data.median is None and few)
            or (few and data.by_run)
            or (not curve.finished and (few or curve.run in data.moving))
        ):
            named.append((f"run {curve.run}", curve, ink, curve.finished))
    ends = [
        (style.End(name, float(curve.epochs[-1]), float(_values(curve, quantity)[-1]), colour), finished)
        for name, curve, colour, finished in named
    ]
    return style.end_labels_apart(
        ends, theme, x=panel.x, y=panel.y, bounds=panel.bounds, room=room, reach=14,
        wide=_LABEL * max(1.0, float(data.epochs)),
    )  # fmt: skip
