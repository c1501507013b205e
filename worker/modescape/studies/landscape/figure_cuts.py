"""Is there a barrier on the straight way? Lines between optima, rays from the origin, random directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from modescape.drawing import style
from modescape.drawing.figure import Cell, FigureData, Note, Notes, Words, figure
from modescape.drawing.numbers import known
from modescape.drawing.options import FigureOptions, shown_panels
from modescape.drawing.panels import Picture, Trace, scatter
from modescape.drawing.reading import FigureNotReady, Floats
from modescape.drawing.style import Theme
from modescape.drawing.words import listed, loss, percent, thousands
from modescape.records import Json
from modescape.results import Results
from modescape.science.landscape import radii
from modescape.studies.landscape.cuts import (
    ACCURACY,
    LOSS,
    SPLIT_WORDS,
    anchors_of,
    closed,
    details_of,
    refuse_closed,
    titles,
    told_apart,
)
from modescape.studies.landscape.reading import PlaneData, computed, planned_cuts

if TYPE_CHECKING:
    import plotly.graph_objects as go


class CutOptions(FigureOptions):
    """What is drawn of the cuts."""

    plane: str = Field("", max_length=80, description="Which cut, by name; empty means all of them.")
    panel: Literal["both", "loss", "accuracy"] = shown_panels("both", "Both panels")

    @classmethod
    def choices(cls, results: Results) -> Mapping[str, Mapping[str, str]]:
        found = titles(results, lines=True)
        return {"plane": {"": "all", **found} if found else {}}


@dataclass(frozen=True)
class Cut:
    """One straight line through weight space. at [n]; scores [n, S, 2 + A]; run: whose, None between two."""

    kind: Literal["line", "ray", "random"]
    words: str
    at: Floats
    scores: Floats
    splits: tuple[str, ...]
    run: int | None

    @property
    def between(self) -> NDArray[np.bool_]:
        return np.asarray((self.at > -1e-9) & (self.at < 1 + 1e-9) & np.isfinite(self.scores[:, 0, ACCURACY]))

    def barrier(self, split: int) -> float:
        """Highest loss above the straight line between the two ends' losses (science f.2); NaN while incomplete."""
        at, losses = self.at[self.between], self.scores[self.between, split, LOSS]
        if self.kind != "line" or len(at) < 2 or at[0] > 1e-9 or at[-1] < 1 - 1e-9:
            return float("nan")
        return float((losses - (losses[0] + (losses[-1] - losses[0]) * at)).max())


@dataclass(frozen=True, kw_only=True)
class Cuts(FigureData):
    """All one-dimensional cuts there are, grouped by kind when drawn; images: the most that any was evaluated on, by
    split."""

    options: CutOptions
    cuts: tuple[Cut, ...]
    images: Mapping[str, int]

    @property
    def card_height(self) -> int:
        return 240 * len({cut.kind for cut in self.cuts}) + 24

    @property
    def page_height(self) -> int:
        """A row for each kind of cut."""
        kinds = len({cut.kind for cut in self.cuts})
        return kinds * max(240, 560 // kinds) + 24

    columns = ("cut", "kind", "at", "split", "loss", "accuracy")

    def rows(self) -> list[tuple[Cell, ...]]:
        return [
            (cut.words, cut.kind, float(at), split, known(scores[s, LOSS]), known(scores[s, ACCURACY]))
            for cut in self.cuts
            for at, scores in zip(cut.at, cut.scores, strict=True)
            for s, split in enumerate(cut.splits)
            if np.isfinite(scores[s, ACCURACY])
        ]


@figure(
    "cuts",
    order=92,
    title="Straight cuts",
    question="Is there a barrier on the straight way?",
    summary="Loss and accuracy along lines between optima, along rays from the origin, and along random directions.",
    source="Fort, Hu, Lakshminarayanan 2019, section 4.2; Goodfellow et al. 2015; Li et al. 2018",
    paper="",
    needs=("plane",),
    card=504,
    full=True,
)
def straight_cuts(results: Results, options: CutOptions) -> Cuts:
    planned = {name for name, params in planned_cuts(results).items() if params["kind"] != "affine"}
    planes = [plane for plane in computed(results) if options.plane in ("", plane.name) or options.plane not in planned]
    found: dict[tuple[Any, ...], Cut] = {}  # a ray lies in every radial plane through its solution: once is enough
    params: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for plane in planes:
        for cut in _cuts_of(results, plane):
            key = (cut.kind, cut.words, *details_of(plane.params))
            found.setdefault(key, cut)
            params.setdefault(key, plane.params)
    if not found:
        refuse_closed(results, sorted(planned), ())
        if not planned and not results.spec.planes:
            raise FigureNotReady("no cut through the landscape in this spec; clone it with one", waits_for=())
        raise FigureNotReady("no point of a cut is computed yet", waits_for=("plane",))
    words = told_apart([cut.words for cut in found.values()], list(params.values()))
    order = ("line", "ray", "random")
    named = (replace(cut, words=said) for cut, said in zip(found.values(), words, strict=True))
    cuts = tuple(sorted(named, key=lambda cut: order.index(cut.kind)))
    is_unknown = options.plane and options.plane not in planned
    unknown = f"There is no cut {options.plane!r} here, so all are shown." if is_unknown else ""
    open_ones = sum(not np.isfinite(cut.scores[:, 0, ACCURACY]).all() for cut in cuts)
    return Cuts(
        options=options,
        cuts=cuts,
        images=_most_images(planes),
        partial=f"{len(cuts) - open_ones} of {len(cuts)} cuts are complete" if open_ones else "",
        missing=" ".join(filter(None, (unknown, closed(results, sorted(planned))))),
    )


def _cuts_of(results: Results, plane: PlaneData) -> list[Cut]:
    """The straight lines a stage's cut holds: itself, the rays of a radial plane, the axes of a random one."""
    anchors = anchors_of(results, plane)
    splits = tuple(view["split"] for view in plane.views)
    kind = plane.params["kind"]
    if kind == "line":
        words = f"{anchors[0].words} to {anchors[1].words.removeprefix('run ')}"
        return [Cut("line", words, plane.x / plane.unit, plane.scores[0], splits, None)]
    if kind == "radial" and len(plane.rays):
        steps = radii(plane.rays.shape[1])
        return [Cut("ray", a.words, steps, ray, splits, a.run) for a, ray in zip(anchors, plane.rays, strict=True)]
    if kind == "radial":  # the first solution's ray is a row of the plane
        row = int(np.abs(plane.y).argmin())
        ray = plane.scores[row]
        first = Cut("ray", anchors[0].words, plane.x / plane.unit, ray, splits, anchors[0].run)
        return [first] if np.isfinite(ray).any() else []
    if kind == "random":
        row, column = int(np.abs(plane.y).argmin()), int(np.abs(plane.x).argmin())
        lines = ((plane.x, plane.scores[row]), (plane.y, plane.scores[:, column]))
        names = [f"{anchors[0].words}, dir. {i}" for i in (1, 2)]
        return [
            Cut("random", name, at, scores, splits, anchors[0].run)
            for name, (at, scores) in zip(names, lines, strict=True)
            if np.isfinite(scores).any()
        ]
    return []


_ACROSS = {
    "line": "0 and 1: the solutions",
    "ray": "distance ÷ the solution’s own",
    "random": "step along the direction, filter norms",
}


def _most_images(planes: Sequence[PlaneData]) -> dict[str, int]:
    most: dict[str, int] = {}
    for view in (view for plane in planes for view in plane.views):
        most[view["split"]] = max(most.get(view["split"], 0), int(view["images"]))
    return most


@straight_cuts.tell
def tell(data: Cuts) -> Words:
    return Words(_caption(data), _summary(data.cuts), _notes(data.cuts))


def _caption(data: Cuts) -> str:
    cuts = data.cuts
    kinds = {cut.kind for cut in cuts}
    parts = []
    if "line" in kinds:
        parts.append("Lines between two solutions and a sixth of their length beyond.")
    if "ray" in kinds:
        parts.append("Rays from the origin through a solution.")
    if "random" in kinds:
        parts.append("Random directions through a solution, each filter as long as its own.")
    images = listed([f"the first {thousands(n)} {SPLIT_WORDS[split]}" for split, n in data.images.items()])
    count = f"n = {len(cuts)} cut{'s' * (len(cuts) > 1)}"
    parts.append(f"Solid: held-out images; dotted: training images. {count}; {images} images.")
    return " ".join(parts)


def _summary(cuts: Sequence[Cut]) -> str:
    barriers = [cut.barrier(0) for cut in cuts if np.isfinite(cut.barrier(0))]
    if not barriers:
        return f"Loss and accuracy along {len(cuts)} straight cuts."
    lowest = min(float(np.nanmin(cut.scores[cut.between, -1, ACCURACY])) for cut in cuts if cut.kind == "line")
    highest = loss(max(barriers))
    return (
        f"Along {len(barriers)} straight line{'s' * (len(barriers) > 1)} between solutions the training loss rises by "
        f"up to {highest} nats above the ends’, and accuracy falls to {percent(lowest)} %."
    )


def _notes(cuts: Sequence[Cut]) -> Notes:
    lines = []
    for cut in cuts:
        if np.isfinite(cut.barrier(0)):
            lowest = float(np.nanmin(cut.scores[cut.between, -1, ACCURACY]))
            values = (loss(cut.barrier(0)), loss(cut.barrier(len(cut.splits) - 1)), percent(lowest))
            lines.append(Note(cut.words, values))
    if not lines:
        return Notes()
    text = ("Barrier: the highest loss above the straight line between the losses of the two ends, in nats.",)
    return Notes(("", "barrier, training, nats", "held out, nats", "lowest acc., %"), tuple(lines), text)


@straight_cuts.draw
def draw(data: Cuts, theme: Theme) -> go.Figure:
    kinds = list(dict.fromkeys(cut.kind for cut in data.cuts))
    quantities = ("loss", "accuracy") if data.options.panel == "both" else (data.options.panel,)
    names = {cut.words: _folded(cut.words) for cut in data.cuts}
    longest = max(len(line) for name in names.values() for line in name.split("<br>"))
    wide = (
        _PHONE_PIXELS if data.options.size == "card" and len(quantities) == 1 else _PANEL_PIXELS * 2 / len(quantities)
    )
    room = min(0.4, (7 * longest + 20) / wide)  # at the curves' ends
    picture = Picture("cuts", data, theme, kind="scatter", panels=("accuracy", "loss"))
    tall = picture.plot_height * 0.66 / len(kinds)  # px of a panel
    for row, kind in enumerate(kinds):
        cuts = [cut for cut in data.cuts if cut.kind == kind]
        for column, quantity in enumerate(quantities):
            left, right = column / len(quantities), (column + 1) / len(quantities)
            top, bottom = 1 - row / len(kinds), 1 - (row + 1) / len(kinds)
            span = [left + 0.06 * column, right - room * (right - left)]
            panel = picture.panel(
                span, [bottom + 0.22 / len(kinds), top - 0.12 / len(kinds)], x=_along(cuts), y=_upright(cuts, quantity)
            )
            x, y = panel.x, panel.y
            for cut in cuts:
                picture.add(*_curves(cut, quantity, theme, x, y))
            few = cuts if len(cuts) <= style.MOST_LABELS else []
            ends = [_end(names[cut.words], cut, quantity, theme) for cut in few]
            picture.ends(panel, ends, room=tall, reach=14)
            picture.titles(panel, y="loss, nats" if quantity == "loss" else "accuracy, %")
            picture.write(style.x_title(_ACROSS[kind], theme, x, y) | {"yshift": -22})
            for at in _SPOTS[kind]:
                picture.rule(panel, style.token("control", theme), x=at)
    return picture.figure()


_PHONE_PIXELS = 260  # of one panel alone, which a card shows on phones
_PANEL_PIXELS = 400  # of one of two panels beside each other, where a page is not wide
_LINE = 16  # letters of a name before it is folded


def _folded(words: str) -> str:
    """A long name in several lines, broken between words."""
    lines = [""]
    for word in words.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > _LINE:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return "<br>".join(lines)


_SPOTS = {"line": (0.0, 1.0), "ray": (0.0, 1.0), "random": (0.0,)}  # where the solutions are, and the origin of a ray


def _along(cuts: Sequence[Cut]) -> Json:
    return {"range": [min(float(cut.at[0]) for cut in cuts), max(float(cut.at[-1]) for cut in cuts)]}


def _upright(cuts: Sequence[Cut], quantity: str) -> Json:
    """Range and ticks: losses on a logarithmic axis, their range from what is there."""
    if quantity == "accuracy":
        return {"range": [0, 103], "tickvals": [0, 25, 50, 75, 100]}
    seen = np.concatenate([cut.scores[..., LOSS].ravel() for cut in cuts])
    seen = seen[np.isfinite(seen) & (seen > 0)]
    low, high = (float(seen.min()), float(seen.max())) if len(seen) else (0.1, 10.0)
    span = [float(np.log10(low)) - 0.05, float(np.log10(max(high, 2 * low))) + 0.1]
    decades = range(int(np.floor(span[0])), int(np.ceil(span[1])) + 1)
    for parts in ((1.0,), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)):  # until there are three
        ticks = [m * 10.0**d for d in decades for m in parts if span[0] <= np.log10(m * 10.0**d) <= span[1]]
        if len(ticks) >= 3:
            break
    return {
        "type": "log",
        "range": span,
        "tickvals": ticks,
        "ticktext": [f"{tick:g}".removeprefix("0") if tick < 1 else f"{tick:g}" for tick in ticks],
    }


def _ink(cut: Cut, theme: Theme) -> str:
    """A run's own, and grey of what lies between two, as in the pictures of tunnels."""
    return style.look("theory").colour(theme) if cut.run is None else style.run_ink(cut.run, theme)


def _curves(cut: Cut, quantity: str, theme: Theme, x: str, y: str) -> list[Trace]:
    ink = _ink(cut, theme)
    whose: Json = {"meta": {"run": cut.run}} if cut.run is not None else {}
    place, unit = (LOSS, "") if quantity == "loss" else (ACCURACY, " %")
    traces = []
    for s, split in enumerate(cut.splits):
        values = cut.scores[:, s, place]
        shown = 100 * values if quantity == "accuracy" else np.where(np.isfinite(values), values, np.nan)
        width, dash = (1.5, "dot") if split == "train" else (2, "solid")
        images = SPLIT_WORDS[split]
        traces.append(scatter(
            "lines", cut.at, shown, axes=(x, y), name=cut.words, **whose,
            line={"color": ink, "width": width, "dash": dash},
            hovertemplate=f"<b>{cut.words}</b>, {images}<br>at %{{x:.2f}}: %{{y:.3~g}}{unit}<extra></extra>",
        ))  # fmt: skip
    return traces


def _end(name: str, cut: Cut, quantity: str, theme: Theme) -> style.End:
    """Where the curve of held-out images ends, as the axis counts."""
    values = cut.scores[:, -1, LOSS if quantity == "loss" else ACCURACY]
    values = values[np.isfinite(values) & (values > 0)]
    last = float(values[-1]) if len(values) else 1.0
    height = float(np.log10(last)) if quantity == "loss" else 100 * last
    return style.End(name, float(cut.at[-1]), height, _ink(cut, theme))
