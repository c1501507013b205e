"""How early is it settled where a training ends? Barriers between branches of one training (Frankle et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from modescape.drawing import style
from modescape.drawing.figure import Cell, FigureData, Legend, Note, Notes, figure
from modescape.drawing.groups import refuse_skipped
from modescape.drawing.numbers import float32, known, spread
from modescape.drawing.options import FigureOptions
from modescape.drawing.reading import FigureNotReady, Floats, Ints, Results
from modescape.drawing.style import Theme
from modescape.drawing.words import loss, percent, thousands

if TYPE_CHECKING:
    import plotly.graph_objects as go


# Frankle et al. 2020, section 3: an instability below two points of error counts as stable.
STABLE = 0.02


SPLITS = ("train", "test")


class InstabilityOptions(FigureOptions):
    """Which barrier."""

    quantity: Literal["error", "loss"] = Field("error", description="Barrier of the error rate, or of the loss.")
    split: Literal["both", "train", "test"] = Field("both", description="Images the barrier is measured on.")
    panel: Literal["both", "disagreement", "barrier"] = Field(
        "both", description="Both panels, or one for narrow screens."
    )


@dataclass(frozen=True, kw_only=True)
class Instability(FigureData):
    """One row a pair of branches and split. epochs: where they parted; barrier_error and disagreement are rates,
    barrier_loss in nats; accuracy: mean of the two ends."""

    options: InstabilityOptions
    splits: tuple[str, ...]
    epochs: Ints
    repetitions: Ints
    barrier_error: Floats
    barrier_loss: Floats
    disagreement: Floats
    accuracy: Floats
    last: int

    @property
    def columns(self) -> tuple[str, ...]:
        return ("epoch", "repetition", "split", "barrier_error", "barrier_loss", "disagreement", "accuracy")

    def rows(self) -> list[tuple[Cell, ...]]:
        return [
            (
                int(self.epochs[i]),
                int(self.repetitions[i]),
                split,
                known(self.barrier_error[i]),
                known(self.barrier_loss[i]),
                known(self.disagreement[i]),
                known(self.accuracy[i]),
            )
            for i, split in enumerate(self.splits)
        ]

    def values(self, panel: str) -> Floats:
        """What a panel draws, in its unit."""
        if panel == "disagreement":
            return 100 * self.disagreement
        return 100 * self.barrier_error if self.options.quantity == "error" else self.barrier_loss

    def shown(self) -> tuple[str, ...]:
        return SPLITS if self.options.split == "both" else (self.options.split,)

    def where(self, split: str) -> Ints:
        return np.flatnonzero([name == split for name in self.splits])

    def means(self, panel: str, split: str) -> tuple[Ints, Floats]:
        """Epochs, and the mean over the pairs that parted there."""
        at, values = self.where(split), self.values(panel)
        epochs = np.unique(self.epochs[at])
        return epochs, np.array([values[at][self.epochs[at] == epoch].mean() for epoch in epochs])


@figure(
    "instability",
    order=85,
    title="Instability",
    question="How early is it settled where a training ends?",
    summary="Barrier between two branches of one training against the epoch at which they parted.",
    source="Frankle, Dziugaite, Roy, Carbin 2020, Figure 3",
    needs=("train", "branch", "instability"),
    options=InstabilityOptions,
)
def instability(results: Results, options: InstabilityOptions) -> Instability:
    study = results.spec.instability
    if study is None:
        raise FigureNotReady("no branches in this spec; the preset instability-short has them")
    table: dict[tuple[int, int, str], dict[str, float]] = {}
    images: dict[str, int] = {}
    run = 0
    for measured in results.measurements(subject="instability"):
        split = str(measured.split)
        key = (int(measured.details["epoch"]), int(measured.details["repetition"]), split)
        table.setdefault(key, {})[measured.metric] = np.nan if measured.value is None else float(measured.value)
        images[split], run = measured.n or 0, int(measured.details.get("run", 0))
    branches = [f"{k}/{repetition}" for repetition in range(study.repetitions) for k in study.epochs]
    if not table:
        for branch in branches:
            refuse_skipped(results, "instability", branch)
        raise FigureNotReady("no two branches are compared yet", waits_for=("train", "branch", "instability"))
    keys = sorted(table)
    compared = {f"{k}/{repetition}" for k, repetition, _ in keys}
    lost = [b for b in branches if b not in compared and results.skipped("instability", b)]
    done, planned = len(compared), len(branches) - len(lost)

    def column(metric: str) -> Floats:
        return np.array([table[key].get(metric, np.nan) for key in keys])

    data = Instability(
        options=options,
        splits=tuple(split for _, _, split in keys),
        epochs=np.array([epoch for epoch, _, _ in keys]),
        repetitions=np.array([repetition for _, repetition, _ in keys]),
        barrier_error=column("barrier/error"),
        barrier_loss=column("barrier/loss"),
        disagreement=column("disagreement"),
        accuracy=column("accuracy"),
        last=results.spec.training.epochs,
        caption=_caption(run, study.repetitions, study.points, images, results.spec.training.epochs),
        summary="",
        legend=tuple(
            Legend(f"instability-{split}", _NAMES[split], "trajectory") for split in ("test", "train")
        ),
        partial=f"after {done} of {planned} pairs of branches" if done < planned else "",
    )  # fmt: skip
    return _with_words(data)


_NAMES = {"train": "training images", "test": "test images"}


def _caption(run: int, repetitions: int, points: int, images: dict[str, int], last: int) -> str:
    counts = " and ".join(f"{thousands(images[split])} {_NAMES[split]}" for split in SPLITS if split in images)
    return (
        f"Two branches leave run {run} after epoch k, each with an order of examples and an optimiser of its own, and "
        f"train to epoch {last}. Barrier: how far the straight line between their ends rises above its chord, at "
        f"{points} points. Marks are pairs, lines their means. n = {repetitions} pair{'s' * (repetitions > 1)} an "
        f"epoch; {counts}."
    )


def _with_words(data: Instability) -> Instability:
    """Summary and notes, read off the first split shown (test before training images)."""
    split = "test" if "test" in data.shown() else "train"
    at = data.where(split)
    error = data.options.quantity == "error"
    barriers, unit = (data.barrier_error, "points") if error else (data.barrier_loss, "nats")
    words = percent if error else loss
    lines = []
    for epoch in np.unique(data.epochs):
        own = at[data.epochs[at] == epoch]
        values = barriers[own]
        deviation = words(spread(values)) if len(own) > 1 else "–"
        ends = (percent(float(column[own].mean())) for column in (data.disagreement, data.accuracy))
        lines.append(Note(f"k = {epoch}", (words(float(values.mean())), deviation, *ends)))
    first, late = data.epochs.min(), data.epochs.max()
    early, latest = (at[data.epochs[at] == epoch] for epoch in (first, late))
    summary = f"Branches that part after epoch {first} are {words(float(barriers[early].mean()))} {unit} of "
    summary += f"{'error' if error else 'loss'} apart on {_NAMES[split]}"
    if late > first:
        summary += f", and those that part after epoch {late} are {words(float(barriers[latest].mean()))} {unit} apart"
    summary += f"; the ends still disagree on {percent(float(data.disagreement[latest].mean()))} % of labels."
    head = ("Parted after", f"barrier, {unit}", "± σ", "disagr., %", "acc., %")
    fewest, most = (int(count(np.unique(data.epochs[at], return_counts=True)[1])) for count in (np.min, np.max))
    pairs = f"{most}" if fewest == most else f"{fewest} to {most}"
    text = [
        f"On {_NAMES[split]}; n = {pairs} pair{'s' * (most > 1)} each.",
        "Frankle et al. keep the optimiser's moments at k; here both branches start theirs anew.",
    ]
    if error:
        text.append("Below two points Frankle et al. (2020) call a training stable.")
    return replace(data, summary=summary, notes=Notes(head, tuple(lines), tuple(text)))


@instability.draw
def draw(data: Instability, theme: Theme) -> go.Figure:
    import plotly.graph_objects as go

    height = 592 if data.options.size == "page" else 300
    layout = style.layout(theme, kind="curves", height=height, revision="instability")
    panels = ("barrier", "disagreement") if data.options.panel == "both" else (data.options.panel,)
    room = height - layout["margin"]["t"] - layout["margin"]["b"]
    layout["annotations"], layout["shapes"] = [], []
    traces: list[dict[str, Any]] = []
    for i, panel in enumerate(panels):
        x, y = f"x{i + 1 if i else ''}", f"y{i + 1 if i else ''}"
        domain = [0.0, 1.0] if len(panels) == 1 else ([0.0, 0.35], [0.61, 1.0])[i]
        bounds = _window(data, panel)
        late = float(data.epochs.max())
        layout[f"xaxis{i + 1 if i else ''}"] = style.x_axis(
            theme, domain=domain, anchor=y, range=[-0.04 * max(late, 1.0), 1.04 * max(late, 1.0)],
            **({"tickmode": "array", "tickvals": sorted(set(data.epochs.tolist()))} if late <= 12 else {}),
        )  # fmt: skip
        layout[f"yaxis{i + 1 if i else ''}"] = style.y_axis(theme, anchor=x, range=bounds)
        for split in data.shown():
            traces += _curve(data, panel, split, theme, x, y)
        if panel == "disagreement":
            title = "disagreement of the ends, %"
        else:
            title = "barrier, points of error" if data.options.quantity == "error" else "barrier, nats"
        if panel == "barrier" and data.options.quantity == "error" and bounds[1] > 100 * STABLE:
            layout["shapes"].append(_stable(theme, x, y))
        layout["annotations"] += [
            style.y_title(title, theme, x, y, layout["margin"]["l"]),
            style.x_title("epoch k at which they part", theme, x, y),
            *style.end_labels(_ends(data, panel, theme), theme, x=x, y=y, bounds=bounds, room=room),
        ]
    layout["meta"] = {"figure": "instability", "panels": ["disagreement", "barrier"]}
    return go.Figure(data=traces, layout=layout, layout_template=None)


def _window(data: Instability, panel: str) -> list[float]:
    values = np.concatenate([data.values(panel)[data.where(split)] for split in data.shown()])
    values = values[np.isfinite(values)]
    high = max(float(values.max(initial=0.0)), 1e-3)
    if panel == "barrier" and data.options.quantity == "error":
        high = max(high, 125 * STABLE)
    return [-0.04 * high, 1.08 * high]


def _stable(theme: Theme, x: str, y: str) -> dict[str, Any]:
    return {
        "type": "line",
        "xref": f"{x} domain",
        "yref": y,
        "x0": 0,
        "x1": 1,
        "y0": 100 * STABLE,
        "y1": 100 * STABLE,
        "layer": "below",
        "line": {"color": style.look("theory").colour(theme), "width": 1.5, "dash": "dash"},
    }


def _curve(data: Instability, panel: str, split: str, theme: Theme, x: str, y: str) -> list[dict[str, Any]]:
    """Marks of all pairs and the line of their means; training images smaller and dashed."""
    look, at = style.look("trajectory"), data.where(split)
    ink = look.colour(theme)
    epochs, means = data.means(panel, split)
    mark = style.marker(look, theme, size=9 if split == "test" else 6)
    mark |= {"line": {"color": ink, "width": 1.5}}
    shared = {
        "type": "scatter", "legendgroup": f"instability-{split}", "name": _NAMES[split], "xaxis": x, "yaxis": y,
        "cliponaxis": False,
    }  # fmt: skip
    line = {"color": ink, "width": 2, "dash": "solid" if split == "test" else "dash"}
    return [
        {**shared, "mode": "lines", "x": float32(epochs), "y": float32(means), "line": line, "hoverinfo": "skip"},
        {
            **shared, "mode": "markers", "x": float32(data.epochs[at]), "y": float32(data.values(panel)[at]),
            "marker": mark, "hovertext": [_hover(data, int(i)) for i in at], "hoverinfo": "text",
            "customdata": np.full(len(at), -1, np.int32),  # branches are no solutions
        },
    ]  # fmt: skip


def _hover(data: Instability, i: int) -> str:
    return "<br>".join((
        f"<b>{_NAMES[data.splits[i]]}</b>",
        f"parted after epoch {data.epochs[i]}, pair {data.repetitions[i] + 1}",
        f"barrier  {percent(float(data.barrier_error[i]))} points, {loss(float(data.barrier_loss[i]))} nats",
        f"disagreement of the ends  {percent(float(data.disagreement[i]))} %",
        f"accuracy of the ends  {percent(float(data.accuracy[i]))} %",
    ))  # fmt: skip


def _ends(data: Instability, panel: str, theme: Theme) -> list[style.End]:
    """Names at the right ends; in the barrier panel also of the stability line."""
    ink = style.look("trajectory").colour(theme)
    ends = []
    for split in data.shown():
        epochs, means = data.means(panel, split)
        ends.append(style.End(_NAMES[split], float(epochs[-1]), float(means[-1]), ink))
    if panel == "barrier" and data.options.quantity == "error":
        grey = style.look("theory").colour(theme)
        ends.append(style.End("2 points: stable", float(data.epochs.max()), 100 * STABLE, grey, strong=False))
    return ends
