"""How early is it settled where a training ends? Barriers between branches of one training (Frankle et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from modescape.drawing import style
from modescape.drawing.figure import Cell, FigureData, Legend, Note, Notes, Words, figure
from modescape.drawing.groups import refuse_skipped
from modescape.drawing.numbers import finite, lines, number, spread
from modescape.drawing.options import FigureOptions, shown_panels
from modescape.drawing.panels import Picture, Trace, parted, scatter
from modescape.drawing.reading import FigureNotReady, Floats, Ints
from modescape.drawing.style import Theme
from modescape.drawing.words import loss, percent, thousands
from modescape.results import Results

if TYPE_CHECKING:
    import plotly.graph_objects as go


# Frankle et al. 2020, section 3: an instability below two points of error counts as stable.
STABLE = 0.02
SPLITS = ("train", "test")


class InstabilityOptions(FigureOptions):
    """Which barrier."""

    quantity: Literal["error", "loss"] = Field("error", description="Barrier of the error rate, or of the loss.")
    split: Literal["both", "train", "test"] = Field("both", description="Images the barrier is measured on.")
    panel: Literal["both", "disagreement", "barrier"] = shown_panels("both", "Both panels")


@dataclass(frozen=True, kw_only=True)
class Instability(FigureData):
    """One row a pair of branches and split. epochs: where they parted; barrier_error and disagreement are rates,
    barrier_loss in nats; accuracy: mean of the two ends; pairs: that parted at each epoch; points: of a line; images:
    of each split."""

    options: InstabilityOptions
    splits: tuple[str, ...]
    epochs: Ints
    repetitions: Ints
    barrier_error: Floats
    barrier_loss: Floats
    disagreement: Floats
    accuracy: Floats
    last: int
    run: int
    pairs: int
    points: int
    images: Mapping[str, int]

    columns = ("epoch", "repetition", "split", "barrier_error", "barrier_loss", "disagreement", "accuracy")

    def rows(self) -> list[tuple[Cell, ...]]:
        return lines(
            self.epochs, self.repetitions, self.splits, self.barrier_error, self.barrier_loss, self.disagreement,
            self.accuracy,
        )  # fmt: skip

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
    card=300,
    full=True,
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
        table.setdefault(key, {})[measured.metric] = number(measured.value)
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

    return Instability(
        options=options,
        splits=tuple(split for _, _, split in keys),
        epochs=np.array([epoch for epoch, _, _ in keys]),
        repetitions=np.array([repetition for _, repetition, _ in keys]),
        barrier_error=column("barrier/error"),
        barrier_loss=column("barrier/loss"),
        disagreement=column("disagreement"),
        accuracy=column("accuracy"),
        last=results.spec.training.epochs,
        run=run,
        pairs=study.repetitions,
        points=study.points,
        images=images,
        legend=tuple(
            Legend(f"instability-{split}", _NAMES[split], _LOOK) for split in ("test", "train")
        ),
        partial=f"after {done} of {planned} pairs of branches" if done < planned else "",
    )  # fmt: skip


_NAMES = {"train": "training images", "test": "test images"}
_LOOK = "baseline"  # ink: what differs are images, which are told apart by dashes, and no colour means them


@instability.tell
def tell(data: Instability) -> Words:
    """Summary and notes are read off the first split shown (test before training images)."""
    counts = " and ".join(
        f"{thousands(data.images[split])} {_NAMES[split]}" for split in SPLITS if split in data.images
    )
    caption = (
        f"Two branches leave run {data.run} after epoch k, each with an order of examples and an optimiser of its own, "
        f"and train to epoch {data.last}. Barrier: how far the straight line between their ends rises above its chord, "
        f"at {data.points} points. Marks are pairs, lines their means. n = {data.pairs} pair{'s' * (data.pairs > 1)} "
        f"an epoch; {counts}."
    )
    return Words(caption, *_read(data))


def _read(data: Instability) -> tuple[str, Notes]:
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
    return summary, Notes(head, tuple(lines), tuple(text))


@instability.draw
def draw(data: Instability, theme: Theme) -> go.Figure:
    panels = ("barrier", "disagreement") if data.options.panel == "both" else (data.options.panel,)
    picture = Picture("instability", data, theme, kind="curves", panels=("disagreement", "barrier"))
    late = max(float(data.epochs.max()), 1.0)
    ticks = {"tickmode": "array", "tickvals": sorted(set(data.epochs.tolist()))} if late <= 12 else {}
    for name, across in parted(panels, ([0.0, 0.35], [0.61, 1.0])):
        panel = picture.panel(
            across, x={"range": [-0.04 * late, 1.04 * late], **ticks}, y={"range": _window(data, name)}
        )
        for split in data.shown():
            picture.add(*_curve(data, name, split, theme, panel.x, panel.y))
        if name == "barrier" and data.options.quantity == "error" and panel.bounds[1] > 100 * STABLE:
            picture.rule(panel, style.look("theory").colour(theme), y=100 * STABLE, width=1.5, dash="dash")
        picture.titles(panel, "epoch k at which they part", _title(data, name))
        picture.ends(panel, _ends(data, name, theme))
    return picture.figure()


def _title(data: Instability, panel: str) -> str:
    if panel == "disagreement":
        return "disagreement of the ends, %"
    return "barrier, points of error" if data.options.quantity == "error" else "barrier, nats"


def _window(data: Instability, panel: str) -> list[float]:
    values = finite(np.concatenate([data.values(panel)[data.where(split)] for split in data.shown()]))
    high = max(float(values.max(initial=0.0)), 1e-3)
    if panel == "barrier" and data.options.quantity == "error":
        high = max(high, 125 * STABLE)
    return [-0.04 * high, 1.08 * high]


def _curve(data: Instability, panel: str, split: str, theme: Theme, x: str, y: str) -> list[Trace]:
    """Marks of all pairs and the line of their means; training images smaller and dotted, as in every picture."""
    look, at = style.look(_LOOK), data.where(split)
    ink = look.colour(theme)
    epochs, means = data.means(panel, split)
    mark = style.marker(look, theme, size=9 if split == "test" else 6)
    mark |= {"line": {"color": ink, "width": 1.5}}
    put = partial(scatter, axes=(x, y), legendgroup=f"instability-{split}", name=_NAMES[split], cliponaxis=False)
    line = {"color": ink, "width": 2, "dash": "solid" if split == "test" else "dot"}
    return [
        put("lines", epochs, means, silent=True, line=line),
        put(
            "markers", data.epochs[at], data.values(panel)[at], hover=[_hover(data, int(i)) for i in at], marker=mark,
            customdata=np.full(len(at), -1, np.int32),  # branches are no solutions
        ),
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
    ink = style.look(_LOOK).colour(theme)
    ends = []
    for split in data.shown():
        epochs, means = data.means(panel, split)
        ends.append(style.End(_NAMES[split], float(epochs[-1]), float(means[-1]), ink))
    if panel == "barrier" and data.options.quantity == "error":
        grey = style.look("theory").colour(theme)
        ends.append(style.End("stable below", float(data.epochs.max()), 100 * STABLE, grey, strong=False))
    return ends
