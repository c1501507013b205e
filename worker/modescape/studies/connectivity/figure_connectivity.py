"""Straight lines between all pairs of runs, before and after their units are put in the same order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from modescape.drawing import style
from modescape.drawing.figure import Cell, FigureData, Note, Notes, Words, figure
from modescape.drawing.groups import refuse_skipped
from modescape.drawing.numbers import finite, lines, spread
from modescape.drawing.options import FigureOptions, shown_panels
from modescape.drawing.panels import Picture, beside, heat
from modescape.drawing.reading import FigureNotReady, Floats, Ints
from modescape.drawing.style import Theme
from modescape.drawing.words import loss, percent, rate, thousands
from modescape.records import Role
from modescape.results import Results
from modescape.spec_parts import TrainingSpec

if TYPE_CHECKING:
    import plotly.graph_objects as go


_TITLES = {"straight": "as trained", "aligned": "units aligned", "repaired": "aligned and repaired"}


class ConnectivityOptions(FigureOptions):
    """Which barrier, on which images."""

    quantity: Literal["loss", "error"] = Field("loss", description="Barrier of the loss, or of the error rate.")
    split: Literal["train", "test"] = Field("test", description="Images the barrier is measured on.")
    panel: Literal["all", "straight", "aligned", "repaired"] = shown_panels("all", "All lines beside each other")


@dataclass(frozen=True, kw_only=True)
class Connectivity(FigureData):
    """runs, numbers [n]: the runs and their optima; barriers: line -> [n, n], in nats or as a rate, and cosines;
    NaN for a pair that could not be compared; compared: what the stage of each pair left; points: of a line;
    given: whether the weights were made elsewhere; repairs: whether repaired lines were asked for."""

    options: ConnectivityOptions
    runs: Ints
    numbers: Ints
    barriers: dict[str, Floats]
    cosines: dict[str, Floats]
    disagreement: Floats | None
    compared: tuple[Mapping[str, Any], ...]
    points: int
    training: TrainingSpec
    input_scale: str
    given: bool
    repairs: bool

    @property
    def page_height(self) -> int:
        """One row of squares."""
        return {2: 552, 3: 400}.get(len(self.shown()), self.size.page)

    @property
    def columns(self) -> tuple[str, ...]:
        names = [f"barrier_{line}" for line in self.barriers] + [f"cosine_{line}" for line in self.cosines]
        return ("solution_a", "solution_b", *names, "disagreement")

    def rows(self) -> list[tuple[Cell, ...]]:
        a, b = np.triu_indices(len(self.numbers), 1)
        matrices = (*self.barriers.values(), *self.cosines.values(), self.disagreement)
        found = (None if matrix is None else matrix[a, b] for matrix in matrices)
        return lines(self.numbers[a], self.numbers[b], *found)

    def shown(self) -> list[str]:
        return [line for line in self.barriers if self.options.panel in ("all", line)]


@figure(
    "connectivity",
    order=97,
    title="Straight lines",
    question="Are two runs the same once their units stand in the same order?",
    summary="Barriers on the straight lines between all pairs of runs, before and after permutation alignment.",
    source="Entezari et al. 2022; Ainsworth, Hayase, Srinivasa 2022; Jordan et al. 2022",
    needs=("train", "connectivity", "connectivity-compare"),
    card=340,
    full=True,
)
def connectivity(results: Results, options: ConnectivityOptions) -> Connectivity:
    study = results.spec.connectivity
    if study is None:
        raise FigureNotReady("no straight lines in this spec; the preset connectivity-short has them")
    barriers, cosines, numbers = {}, {}, []
    points = 0
    for line in _TITLES:
        found = results.matrix(f"barrier-{options.quantity}-{line}", options.split)
        if found is not None:
            barriers[line] = np.asarray(found.values)
            numbers, points = list(found.rows), int(found.details["points"])
        near = results.matrix(f"cosine-{line}", "")
        if near is not None:
            cosines[line] = np.asarray(near.values)
    if not barriers:
        refuse_skipped(results, "connectivity-compare", "all")
        raise FigureNotReady(
            "not all pairs are compared yet", waits_for=("train", "connectivity", "connectivity-compare")
        )
    between = results.matrix("disagreement", results.spec.evaluation.splits[0])
    disagreement = None
    if between is not None:
        at = [list(between.rows).index(number) for number in numbers]
        disagreement = np.asarray(between.values)[np.ix_(at, at)]
    run_of = {optimum.number: optimum.run for optimum in results.solutions(role=Role.OPTIMUM)}
    runs = [run_of[number] for number in numbers]
    pairs = combinations(runs, 2)
    compared = [about for a, b in pairs if (about := results.extra("connectivity", f"{a}-{b}"))]
    return Connectivity(
        options=options,
        runs=np.array(runs),
        numbers=np.array(numbers),
        barriers=barriers,
        cosines=cosines,
        disagreement=disagreement,
        compared=tuple(compared),
        points=points,
        training=results.spec.training,
        input_scale=results.spec.data.input_scale,
        given=results.spec.weights is not None,
        repairs=study.repair,
    )


@connectivity.tell
def tell(data: Connectivity) -> Words:
    return Words(_caption(data), _summary(data.barriers, data.cosines, data.options), _notes(data))


def _caption(data: Connectivity) -> str:
    """What was measured, and how."""
    options, training, compared, runs = data.options, data.training, data.compared, len(data.numbers)
    pairs = runs * (runs - 1) // 2
    parts = [
        f"Barrier: the most the {'loss' if options.quantity == 'loss' else 'error rate'} rises above its chord on "
        f"the straight line between two runs, at {data.points} points."
    ]
    if "aligned" in data.barriers:
        logits = max((about["change"] for about in compared), default=0.0)
        labels = max((about["changed_labels"] for about in compared), default=0.0)
        parts.append(
            "Aligned: the hidden units of the second run are permuted to lie nearest to the first’s (weight matching), "
            f"which leaves its function as it is: logits changed by at most {logits:.0e} of the largest, "
            + ("and no label." if labels == 0 else f"{percent(labels)} % of labels.")
        )
    if "repaired" in data.barriers:
        seen = max((about.get("repair_images", 0) for about in compared), default=0)
        where = f" on {thousands(seen)} training images" if seen else ""
        parts.append(
            f"Repaired: every hidden unit’s mean and deviation before its non-linearity{where} set between those of "
            "the two ends, layer after layer."
        )
    normed = max((about.get("batch_norm_images", 0) for about in compared), default=0)
    if data.repairs and "aligned" in data.barriers and "repaired" not in data.barriers and not normed:
        parts.append(
            "None is repaired: the network does not say how it is wired (wiring=), so which of its layers feed a plain "
            "non-linearity is not known."
        )
    if normed:
        parts.append(f"Batch-norm statistics estimated anew at every point, on {thousands(normed)} training images.")
    seen = max((about["images"][options.split] for about in compared), default=0)
    how = "Trained elsewhere" if data.given else f"Trained with {training.optimiser} at {training.learning_rate:g}"
    parts.append(f"{how} on {data.input_scale} pixels, on which alignment depends.")
    words = {"train": "training", "test": "test"}[options.split]
    parts.append(f"n = {pairs} pair{'s' * (pairs > 1)} of {runs} runs; {thousands(seen)} {words} images.")
    return " ".join(parts)


def _pairs(matrix: Floats) -> Floats:
    """Of the pairs that could be compared."""
    return finite(matrix[np.triu_indices(len(matrix), 1)])


def _words(options: ConnectivityOptions, values: Floats) -> str:
    return (loss if options.quantity == "loss" else percent)(float(values.mean()))


def _deviation(options: ConnectivityOptions, values: Floats) -> str:
    return (loss if options.quantity == "loss" else percent)(spread(values)) if len(values) > 1 else "–"


def _unit(options: ConnectivityOptions) -> str:
    return "nats" if options.quantity == "loss" else "points"


def _summary(barriers: dict[str, Floats], cosines: dict[str, Floats], options: ConnectivityOptions) -> str:
    text = f"The mean barrier between runs is {_words(options, _pairs(barriers['straight']))} {_unit(options)}"
    if "aligned" in barriers:
        text += f", {_words(options, _pairs(barriers['aligned']))} once their units are aligned"
        if "repaired" in barriers:
            text += f", {_words(options, _pairs(barriers['repaired']))} with activity repaired as well"
        text += (
            f"; the cosine of their weights rises from {rate(float(_pairs(cosines['straight']).mean()))} to "
            f"{rate(float(_pairs(cosines['aligned']).mean()))}"
        )
    return f"{text}."


def _notes(data: Connectivity) -> Notes:
    barriers, cosines, disagreement, options = data.barriers, data.cosines, data.disagreement, data.options
    lines = []
    for line, matrix in barriers.items():
        values = _pairs(matrix)
        near = rate(float(_pairs(cosines[line]).mean())) if line in cosines else "–"
        apart = "–" if disagreement is None or line == "repaired" else percent(float(_pairs(disagreement).mean()))
        lines.append(Note(_TITLES[line], (_words(options, values), _deviation(options, values), near, apart)))
    text = []
    if "aligned" in barriers:
        text.append(f"Aligning {_effect(barriers['straight'], barriers['aligned'], options)}")
    if "repaired" in barriers:
        text.append(f"Repair after it {_effect(barriers['aligned'], barriers['repaired'], options)}")
    if "aligned" in barriers:
        text.append(
            "Alignment brings weights together and leaves functions as they are: the disagreement is the same number. "
            "The cosine is of all weights as they are, with what two networks share for free."
        )
    return Notes(("Lines", f"barrier, {_unit(options)}", "± σ", "cosine", "disagr., %"), tuple(lines), tuple(text))


def _effect(before: Floats, after: Floats, options: ConnectivityOptions) -> str:
    """In how many pairs a barrier fell, and by how much it changed: neither alignment nor REPAIR has to lower it."""
    change = _pairs(after) - _pairs(before)
    text = f"lowers the barrier of {int((change < 0).sum())} of {len(change)} pair{'s' * (len(change) > 1)}"
    if raised := int((change > 0).sum()):
        text += f" and raises that of {raised}"
    more = f" ± {_deviation(options, change)}" if len(change) > 1 else ""
    return f"{text}; mean change {_words(options, change)}{more} {_unit(options)}."


@connectivity.draw
def draw(data: Connectivity, theme: Theme) -> go.Figure:
    shown = data.shown()
    picture = Picture(
        "connectivity",
        data,
        theme,
        kind="maps",
        margin={"r": 24, "b": 44},
        panels=shown,
    )
    scale = 1.0 if data.options.quantity == "loss" else 100.0
    high = max(float(np.nanmax([_pairs(matrix).max(initial=0.0) for matrix in data.barriers.values()])) * scale, 1e-6)
    written = partial(rate, digits=2) if data.options.quantity == "loss" else "{:.1f}".format
    count, names = len(data.numbers), [f"{run}" for run in data.runs]
    ticks = {"tickmode": "array", "tickvals": list(range(count)), "ticktext": names}
    for line, across in zip(shown, beside(len(shown), 0.06), strict=True):
        first = line == shown[0]
        panel = picture.maps(
            across, alike=False, tall=1,
            x={**ticks, "showline": True, "range": [-0.5, count - 0.5]},
            y={**ticks, "showticklabels": first, "range": [count - 0.5, -0.5]},  # run 0 above, as in every map
        )  # fmt: skip
        values = data.barriers[line] * scale
        hover = f"<b>{_TITLES[line]}</b><br>runs %{{x}} and %{{y}}<br>barrier %{{z:.3~g}} {_unit(data.options)}"
        trace = heat(
            panel, values, low=0.0, high=high, name=_TITLES[line], hover=hover, xgap=1, ygap=1, reversescale=True,
            showscale=first,
        )  # fmt: skip
        if count <= 12:  # numbers where they fit
            trace["text"] = [["" if a == b else written(values[a, b]) for b in range(count)] for a in range(count)]
            trace["texttemplate"] = "%{text}"
        if trace["showscale"]:  # beside the shortest title
            trace["colorbar"] = style.colour_bar(
                theme, x=across[1], length=0.4 * (across[1] - across[0]), ticks=[0.0, high], texts=["0", written(high)]
            )
        picture.add(trace)
        picture.head(panel, _TITLES[line])
    picture.write(style.x_title("run", theme, "x", "y"))
    unit = {**style.corner("x", "y", "left", "bottom"), "yshift": -18}
    picture.write(style.label(f"barrier, {_unit(data.options)}", theme, **unit))
    return picture.figure()
