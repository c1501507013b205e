"""Joint embeddings of predictions: functions of one map, and how the map is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from modescape.drawing import style
from modescape.drawing.figure import Cell, FigureData, Legend, Note, Notes, Words
from modescape.drawing.groups import after_runs, refuse_skipped
from modescape.drawing.numbers import MAX_POINTS, lines, share_points, thin
from modescape.drawing.options import MethodOptions, SplitOptions
from modescape.drawing.panels import Picture, Trace, scatter
from modescape.drawing.reading import FigureNotReady, Floats, Ints, trajectories
from modescape.drawing.style import Theme
from modescape.drawing.words import percent, thousands
from modescape.records import Group, Json
from modescape.registry import method_title
from modescape.registry import methods as all_methods
from modescape.results import MatrixData, Results
from modescape.science.similarity import FEWEST_EMBEDDED, gram, principal
from modescape.tables import Solution

if TYPE_CHECKING:
    import plotly.graph_objects as go


_LAYOUT_TITLES = {"tsne": "t-SNE", "pca": "PCA", "mds": "Metric scaling"}
_LAYOUT: Any = Field(
    "tsne",
    description="t-SNE keeps neighbours; PCA (classical scaling) and metric scaling keep distances, as well as "
    "two axes can.",
)


class EmbeddingOptions(SplitOptions):
    """How predictions become a picture."""

    layout: Literal["tsne", "pca", "mds"] = _LAYOUT
    color: Literal["method", "run"] = Field(
        "run", description="run: an ink for each run, as in the paper; method: all runs alike."
    )


class SampleOptions(MethodOptions):
    """How predictions of trajectories and samples become a picture."""

    layout: Literal["tsne", "pca", "mds"] = _LAYOUT
    color: Literal["method", "run"] = Field(
        "run", description="run: an ink for each run, as in the paper; method: a colour for each method."
    )
    panel: Literal["joint", "method"] = Field("joint", description="joint: one picture; method: one for each method.")


@dataclass(frozen=True, kw_only=True)
class Embedding(FigureData):
    """One point a solution. numbers, runs [S]; epochs [S], NaN for samples; position [S, 2]; groups: method names;
    methods: those asked for; details: of the layout."""

    options: EmbeddingOptions | SampleOptions
    numbers: Ints
    runs: Ints
    groups: tuple[str, ...]
    indices: Ints
    epochs: Floats
    position: Floats
    accuracy: Floats
    details: Mapping[str, Any]
    methods: tuple[str, ...]

    columns = ("solution", "run", "method", "index", "epoch", "x", "y", "accuracy")

    def rows(self) -> list[tuple[Cell, ...]]:
        across, up = self.position.T
        return lines(self.numbers, self.runs, self.groups, self.indices, self.epochs, across, up, self.accuracy)

    @property
    def counts(self) -> dict[str, int]:
        return {group: self.groups.count(group) for group in (Group.TRAJECTORY, *self.methods) if group in self.groups}

    def where(self, group: str) -> Ints:
        return np.flatnonzero([name == group for name in self.groups])

    @property
    def steps(self) -> Floats:
        """Epochs at which some run has a checkpoint; their places where nobody told epochs."""
        at = self.where(Group.TRAJECTORY)
        known = np.unique(self.epochs[at][np.isfinite(self.epochs[at])])
        return known if len(known) > 1 else np.unique(self.indices[at]).astype(np.float64)

    def step_of(self, at: Ints | list[int]) -> list[int]:
        """When each of these functions is there: samples, and points that no epoch is known of, with the last."""
        steps, last = self.steps, max(0, len(self.steps) - 1)
        told = self.epochs[at] if np.isfinite(self.epochs).any() else self.indices[at].astype(np.float64)
        is_point = np.array([self.groups[i] == Group.TRAJECTORY for i in at], dtype=bool)
        places = np.clip(np.searchsorted(steps, np.nan_to_num(told)), 0, last)
        return [int(place) for place in np.where(is_point & np.isfinite(told), places, last)]


def _most(options: EmbeddingOptions | SampleOptions) -> int:
    return options.most_points if isinstance(options, SampleOptions) else MAX_POINTS


def embedding(
    results: Results,
    options: EmbeddingOptions | SampleOptions,
    what: Literal["trajectories", "samples"],
    methods: Sequence[str],
) -> Embedding:
    matrix: MatrixData | None = results.matrix(f"{options.layout}-{what}", options.split)
    if matrix is None and options.layout == "tsne":  # which so few functions do not have
        matrix = results.matrix(f"pca-{what}", options.split)
        options = options if matrix is None else options.model_copy(update={"layout": "pca"})
    is_so_far = False
    if matrix is None:
        if options.split not in results.spec.evaluation.splits:
            raise FigureNotReady(f"no predictions on {options.split} images in this spec")
        if options.split != results.spec.evaluation.splits[0]:
            raise FigureNotReady(f"functions are embedded by {results.spec.evaluation.splits[0]} images only")
        refuse_skipped(results, "embed", what)
        matrix = _so_far(results, options.split) if what == "trajectories" else None
        if matrix is None:
            raise FigureNotReady("the joint embedding comes after all its predictions", waits_for=("predict", "embed"))
        is_so_far = True
        options = options.model_copy(update={"layout": "pca"})
    if len(matrix.rows) < 2:
        raise FigureNotReady("a map needs two functions, and there is one", closed=True)
    place = {number: np.asarray(matrix.values[i, :2], dtype=np.float64) for i, number in enumerate(matrix.rows)}
    shown: list[Solution] = [
        solution
        for solution in results.solutions()
        if solution.number in place and (solution.method is None or solution.method in methods)
    ]
    accuracies = results.scores("accuracy", options.split)
    groups = tuple(solution.method or Group.TRAJECTORY for solution in shown)
    runs = np.array([solution.run for solution in shown])
    position = np.array([place[solution.number] for solution in shown]).reshape(-1, 2)
    counts = {group: groups.count(group) for group in (Group.TRAJECTORY, *methods) if group in groups}
    shares = share_points(counts, _most(options))
    thinned = ", ".join(
        f"{shares[group]} of {count} {_words(group)} drawn" for group, count in counts.items() if shares[group] < count
    )
    left_out = len(results.healthy) - len(set(runs.tolist()))
    if results.voice.elsewhere and left_out > 0 and len(set(runs.tolist())) == results.spec.evaluation.embed_runs:
        most = f"{results.spec.evaluation.embed_runs} of {len(results.healthy)} runs, as many as a map shows together"
        thinned = "; ".join(filter(None, (most, thinned)))
    return Embedding(
        options=options,
        numbers=np.array([solution.number for solution in shown]),
        runs=runs,
        groups=groups,
        indices=np.array([solution.index for solution in shown]),
        epochs=np.array([np.nan if s.epoch is None else s.epoch for s in shown], dtype=np.float64),
        position=position,
        accuracy=np.array([accuracies.get(solution.number, np.nan) for solution in shown]),
        details=matrix.details,
        methods=tuple(methods),
        legend=tuple(
            Legend.of(group, "checkpoints" if group == Group.TRAJECTORY else method_title(group), count)
            for group, count in counts.items()
        ),
        thinned=thinned,
        partial=f"PCA {after_runs(len(set(runs.tolist())), results)}".rstrip() + ", until all are embedded"
        if is_so_far
        else "",
    )


_SO_FAR = 200  # functions whose PCA comes while a page waits


def _so_far(results: Results, split: str) -> MatrixData | None:
    """PCA of the checkpoints of the runs that have predicted, until all are embedded; None of fewer than two."""
    done = dict(list(trajectories(results).items())[: results.spec.evaluation.embed_runs])
    shown = [points[i] for points in done.values() for i in thin(len(points), max(2, _SO_FAR // len(done)))]
    if len(shown) < 2:
        return None
    images = min(results.spec.evaluation.embed_images, len(results.true_labels(split)))
    places, share = principal(gram([np.asarray(results.logits(point, split)[:images]) for point in shown]))
    details = {"images": images, "share": share}
    return MatrixData("pca-trajectories", split, places, [point.number for point in shown], ["x", "y"], details, "")


def _words(group: str) -> str:
    return "checkpoints" if group == Group.TRAJECTORY else f"{method_title(group)} samples"


def _with_their_own(position: Floats, runs: Ints, checkpoints: NDArray[np.bool_]) -> tuple[int, int]:
    """How many samples (else checkpoints) lie nearest to a checkpoint of their own run, and of how many."""
    asked = np.flatnonzero(~checkpoints) if (~checkpoints).any() else np.flatnonzero(checkpoints)
    marks = np.flatnonzero(checkpoints)
    if not len(asked) or not len(marks):
        return 0, len(asked)
    apart = ((position[asked, None] - position[None, marks]) ** 2).sum(-1)
    apart[asked[:, None] == marks[None]] = np.inf
    return int((runs[marks[apart.argmin(1)]] == runs[asked]).sum()), len(asked)


def told(data: Embedding) -> Words:
    """Words of an embedding. A chain begins at initial weights of its own: the number it shares with a run makes its
    samples none of that run."""
    checkpoints = np.array([group == Group.TRAJECTORY for group in data.groups])
    strangers = np.array([name in all_methods and all_methods[name].trained == "fresh" for name in data.groups])
    own, total = _with_their_own(data.position[~strangers], data.runs[~strangers], checkpoints[~strangers])
    what = "checkpoints" if (checkpoints | strangers).all() else "samples"
    out = int(strangers.sum())
    not_counted = f" Not counted: {out} sample{'s' * (out > 1)} of chains, which belong to no run." if out else ""
    title, runs = _LAYOUT_TITLES[data.options.layout], len(set(data.runs.tolist()))
    if len(data.groups) == runs:  # no run has a checkpoint before its last
        caption = _caption(data, title, runs)
        return Words(caption, f"{title} of {runs} functions, the final one of each of {runs} runs.", Notes())
    summary = (
        f"{title} of {len(data.groups)} functions from {runs} runs: for {own} of {total} {what} the nearest other "
        f"checkpoint belongs to their own run.{not_counted}"
    )
    lines = tuple(Note.of(group, _words(group), (f"{n}",)) for group, n in data.counts.items())
    return Words(_caption(data, title, runs), summary, Notes(("", "n"), lines))


def _caption(data: Embedding, title: str, runs: int) -> str:
    options, methods, counts = data.options, data.methods, data.counts
    details = data.details
    images = f" on {thousands(int(details['images']))} {options.split} images" if details.get("images") else ""
    parts = [f"Joint {title} of predictions{images}: {runs} runs, {counts.get(Group.TRAJECTORY, 0)} checkpoints"]
    parts[0] += f", {sum(counts.get(name, 0) for name in methods)} samples." if methods else "."
    if title == "t-SNE":
        perplexity, seed = details.get("perplexity"), details.get("seed")
        if perplexity is not None:
            parts.append(f"Perplexity {perplexity:.3g}, seed {seed}.")
        parts.append("Distances between islands carry no meaning.")
    elif len(data.groups) < FEWEST_EMBEDDED:
        parts.append(f"t-SNE needs {FEWEST_EMBEDDED} functions or more.")
    if options.color == "run":
        parts.append("Each colour is a run." + (" Each symbol is a method." if methods else ""))
    if details.get("share") is not None:
        parts.append(f"The two axes hold {percent(float(details['share']))} % of the spread.")
    return " ".join(parts)


def islands(data: Embedding, theme: Theme, name: str, panels: list[list[str]]) -> go.Figure:
    across = min(2, len(panels))
    down = -(-len(panels) // across)
    picture = Picture(
        name, data, theme, kind="embedding", drag="select", panels=("method", "joint") if name == "tsne-samples" else ()
    )
    picture.layout["height"] = data.pixels if down == 1 else 300 * down
    counts = {group: len(data.where(group)) for group in dict.fromkeys(data.groups)}
    shares = share_points(counts, _most(data.options))
    picture.steps("Epoch", [f"{epoch:.4g}" for epoch in data.steps], plays=True)
    low, high = _square_window(data.position)
    for i, methods in enumerate(panels):
        column, row = i % across, i // across
        width, height = 1 / across, 1 / down
        panel = picture.panel()
        x, y = panel.x, panel.y
        picture.layout[f"xaxis{panel.number}"] = style.no_axis(
            domain=[column * width, column * width + width - 0.02 * (across > 1)],
            anchor=y,
            range=[low[0], high[0]],
            constrain="range",
            **({"matches": "x"} if i else {}),
        )
        picture.layout[f"yaxis{panel.number}"] = style.no_axis(
            domain=[1 - (row + 1) * height, 1 - row * height - 0.07 * (len(panels) > 1)],
            anchor=x,
            range=[low[1], high[1]],
            constrain="range",
            **({"matches": "y"} if i else {"scaleanchor": x}),
        )
        for run in sorted(set(data.runs.tolist())):
            picture.add(*_strand(data, run, theme, x, y, shares[Group.TRAJECTORY]))
        for method in methods:
            picture.add(*_samples(data, method, theme, x, y, shares.get(method, 0)))
        picture.add(*_optima(data, theme, x, y))
        picture.write(*_island_names(data, methods, theme, x, y))
        if len(panels) > 1:
            place = style.corner(x, y, "left", "top")
            picture.write(style.label(method_title(methods[0]), theme, strong=True, **place, yshift=4))
    return picture.figure()


def _square_window(position: Floats) -> tuple[Floats, Floats]:
    """Corners of a window with 8 % of air, more above for the names of the islands."""
    if not len(position):
        return np.zeros(2), np.ones(2)
    low, high = position.min(0), position.max(0)
    pad = np.maximum(0.08 * (high - low), 1e-6)
    return low - pad, high + pad * np.array([1, 1.6])


def _ink(data: Embedding, look: style.Look, run: int, theme: Theme) -> str:
    return style.run_ink(run, theme) if data.options.color == "run" else look.colour(theme)


def _strand(data: Embedding, run: int, theme: Theme, x: str, y: str, limit: int) -> list[Trace]:
    """The checkpoints of one run, joined in the order of time."""
    look = style.look(Group.TRAJECTORY)
    at = data.where(Group.TRAJECTORY)
    at = at[data.runs[at] == run]
    runs = len(set(data.runs.tolist()))
    at = at[np.argsort(data.indices[at], kind="stable")][thin(len(at), max(2, limit // runs))]
    if not len(at):
        return []
    colour = _ink(data, look, run, theme)
    marker = style.marker(look, theme, colour=colour, size=6)
    if data.options.color == "run":
        marker["symbol"] = f"{style.run_symbol(run)}-open"
    line = {"color": style.softened(colour, 0.45), "width": 1}
    named: Json = {"name": f"run {run}", "legendgroup": Group.TRAJECTORY, "meta": {"run": run}}
    return [_points(data, at, x, y, mode="lines+markers", line=line, marker=marker, **named)]


def _samples(data: Embedding, method: str, theme: Theme, x: str, y: str, limit: int) -> list[Trace]:
    look = style.look(method)
    at = data.where(method)
    at = at[thin(len(at), limit)]
    marker = _inked(data, look, at, theme)
    named: Json = {"name": method_title(method), "legendgroup": method, "meta": {"method": method}}
    return [_points(data, at, x, y, marker=marker, **named)]


def _optima(data: Embedding, theme: Theme, x: str, y: str) -> list[Trace]:
    """A star on the last checkpoint of every run."""
    look = style.look(Group.INDEPENDENT)
    at = []
    for run in sorted(set(data.runs.tolist())):
        own = data.where(Group.TRAJECTORY)
        own = own[data.runs[own] == run]
        if len(own):
            at.append(int(own[data.indices[own].argmax()]))
    marker = _inked(data, look, at, theme)
    return [_points(data, at, x, y, name="optima", legendgroup=Group.INDEPENDENT, marker=marker)]


def _inked(data: Embedding, look: style.Look, at: Ints | list[int], theme: Theme) -> Json:
    """Marks of some functions, each in the ink of its run where colours are runs."""
    inks = {"color": [style.run_ink(int(run), theme) for run in data.runs[at]]} if data.options.color == "run" else {}
    return style.marker(look, theme) | inks


def _points(data: Embedding, at: Ints | list[int], x: str, y: str, *, mode: str = "markers", **more: Any) -> Trace:
    """Some of the functions, by their places in the data."""
    more["meta"] = {**more.get("meta", {}), "at": data.step_of(at)}
    return scatter(
        mode, data.position[at, 0], data.position[at, 1], axes=(x, y),
        hover=[_embedded_hover(data, int(i)) for i in at], customdata=data.numbers[at].astype(np.int32), **more,
    )  # fmt: skip


def _embedded_hover(data: Embedding, i: int) -> str:
    run, group = int(data.runs[i]), data.groups[i]
    if group == Group.TRAJECTORY:
        head = f"<b>run {run}{'' if np.isnan(data.epochs[i]) else f', epoch {data.epochs[i]:.4g}'}</b>"
    else:
        head = f"<b>{method_title(group)}, sample {int(data.indices[i]) + 1}</b><br>run {run}"
    return f"{head}<br>accuracy {percent(float(data.accuracy[i]))} %"


def _island_names(data: Embedding, methods: Sequence[str], theme: Theme, x: str, y: str) -> list[Json]:
    """ "run 0" above where each run ended up, in ink: labels are what tells runs apart."""
    labels = []
    shown = np.array([group == Group.TRAJECTORY or group in methods for group in data.groups])
    for run in sorted(set(data.runs.tolist())):
        own = np.flatnonzero((data.runs == run) & shown)
        # early checkpoints of all runs lie close together; the later half is the run's own island
        middle = np.nanmedian(data.epochs[own]) if np.isfinite(data.epochs[own]).any() else -np.inf
        island = data.position[own[~(data.epochs[own] < middle)]]
        top = island[island[:, 1].argmax()]
        labels.append(
            style.label(
                f"run {run}", theme, strong=True, x=float(top[0]), y=float(top[1]), xref=x, yref=y,
                yanchor="bottom", yshift=8,
            )
        )  # fmt: skip
    return labels
