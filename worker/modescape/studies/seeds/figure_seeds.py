"""What makes two trainings end as different functions? Initial weights against the order of examples (paper Fig S4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from modescape.drawing import style
from modescape.drawing.figure import Cell, FigureData, Legend, Note, Notes, Words, figure
from modescape.drawing.numbers import finite, float32, lines, number, spread
from modescape.drawing.options import FigureOptions, shown_panels
from modescape.drawing.panels import Picture, Trace, parted, scatter
from modescape.drawing.reading import FigureNotReady, Floats, Ints
from modescape.drawing.style import Theme
from modescape.drawing.words import percent, rate, thousands
from modescape.records import Group, Json
from modescape.results import Results

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class _Kind:
    """What differs between a pair of trainings: as a label, inside a sentence, and the size of its marks."""

    label: str
    words: str
    size: int


# The pair that differs in both is what two independent runs are; one that differs in nothing is the base itself.
_KINDS: Mapping[str, _Kind] = {
    "both": _Kind("both", "both", 10),
    "weights": _Kind("initial weights", "other initial weights", 8),
    "batches": _Kind("batch order", "another batch order", 8),
    "same": _Kind("nothing", "the same seeds", 10),
}
_USUAL = ("spare-2", "spare-1")  # looks of the two kinds between, where no method has them
_PATH = "spare-3"  # which the pictures of tunnels have
BASE = "base"
_DODGE = 0.016  # of the width, between the marks of two kinds at one learning rate


class SeedOptions(FigureOptions):
    """How far apart two functions are."""

    quantity: Literal["diversity", "disagreement"] = Field(
        "diversity", description="diversity: disagreement over the error rate; disagreement: share of labels."
    )
    panel: Literal["both", "accuracy", "diversity"] = shown_panels("both", "Both panels")


@dataclass(frozen=True, kw_only=True)
class Seeds(FigureData):
    """One row a training. kinds: what differs from the base, or BASE; distances are NaN for the base and where a
    training diverged. judged: the learning rate that is put into words, asked: that of the spec;
    epochs of a training; repeated: repetitions at each rate; failed: trainings that diverged; looks: of each kind."""

    options: SeedOptions
    kinds: tuple[str, ...]
    rates: Floats
    repetitions: Ints
    disagreement: Floats
    diversity: Floats
    accuracy: Floats
    judged: float
    asked: float
    epochs: int
    repeated: int
    images: int
    split: str
    failed: int
    looks: Mapping[str, str]

    columns = ("differs", "learning_rate", "repetition", "disagreement", "diversity", "accuracy")

    def rows(self) -> list[tuple[Cell, ...]]:
        return lines(self.kinds, self.rates, self.repetitions, self.disagreement, self.diversity, self.accuracy)

    @property
    def distance(self) -> Floats:
        return self.diversity if self.options.quantity == "diversity" else self.disagreement

    def where(self, kind: str, learning_rate: float | None = None) -> Ints:
        chosen = np.array([name == kind for name in self.kinds])
        return np.flatnonzero(chosen if learning_rate is None else chosen & (self.rates == learning_rate))


@figure(
    "seeds",
    order=80,
    title="Initial weights and batch order",
    question="Does the start or the order of examples make the difference?",
    summary="Diversity between pairs of trainings that differ in initial weights, batch order, both or nothing, "
    "against the learning rate.",
    source="Fort, Hu, Lakshminarayanan 2019, supplementary section on decoupling the sources of randomness",
    paper="Fig S4",
    needs=("arm", "seeds"),
    card=340,
    full=True,
    of_runs=False,
)
def seeds(results: Results, options: SeedOptions) -> Seeds:
    study = results.spec.seeds
    if study is None:
        raise FigureNotReady("no seed study in this spec; the preset s4-short has one")
    table: dict[tuple[str, float, int], dict[str, float]] = {}
    images, split, failed = 0, "", 0
    for kind in (*_KINDS, BASE):
        for measured in results.measurements(subject=f"seeds/{kind}"):
            key = (kind, float(measured.details["learning_rate"]), int(measured.details["repetition"]))
            table.setdefault(key, {})[measured.metric] = number(measured.value)
            images, split = measured.n or 0, measured.split or ""
            failed += measured.metric == "accuracy" and "failed" in measured.details
    if not table:
        raise FigureNotReady("the trainings of the seed study are not all compared yet", waits_for=("arm", "seeds"))
    keys = sorted(table, key=lambda key: ([*_KINDS, BASE].index(key[0]), key[1:]))

    def column(metric: str) -> Floats:
        return np.array([table[key].get(metric, np.nan) for key in keys])

    kinds = tuple(kind for kind, _, _ in keys)
    looks = _looks(results)
    return Seeds(
        options=options,
        looks=looks,
        kinds=kinds,
        rates=np.array([learning_rate for _, learning_rate, _ in keys]),
        repetitions=np.array([repetition for _, _, repetition in keys]),
        disagreement=column("disagreement"),
        diversity=column("diversity"),
        accuracy=column("accuracy"),
        judged=study.judged(results.spec),
        asked=results.spec.training.learning_rate,
        epochs=study.epochs or results.spec.training.epochs,
        repeated=study.repetitions,
        images=images,
        split=split,
        failed=failed,
        legend=tuple(
            Legend(f"seeds-{kind}", about.label, looks[kind], kinds.count(kind)) for kind, about in _KINDS.items()
        ),
    )


def _looks(results: Results) -> dict[str, str]:
    """Pairs that differ in one thing have looks that no method of the experiment has, for a colour of a page means one
    thing."""
    spec = results.spec
    taken = {style.look(chosen.method).key for chosen in spec.methods}
    taken |= {_PATH} if spec.tunnels else set()
    free = [key for key in (*_USUAL, *style.looks()) if key not in {*taken, *Group, "baseline"}]
    return {"both": Group.INDEPENDENT, "weights": free[0], "batches": next(k for k in free if k != free[0]),
            "same": "baseline"}  # fmt: skip


@seeds.tell
def tell(data: Seeds) -> Words:
    found = {kind: finite(data.disagreement[data.where(kind, data.judged)]) for kind in _KINDS}
    same = finite(data.disagreement[data.where("same")])
    notes = _notes(found, data.judged, data.asked, same, data.looks)
    return Words(_caption(data), _summary(found, data.judged, data.split), notes)


def _caption(data: Seeds) -> str:
    over = ", over its own error rate" if data.options.quantity == "diversity" else ""
    epochs, repetitions, failed = data.epochs, data.repeated, data.failed
    words = (
        "Each mark is one repetition: on how many images a network trained with something else disagrees with the base "
        f"network{over}; lines join their means. The learning rate is constant over {epochs} "
        f"epoch{'s' * (epochs > 1)}; dropout masks and augmentation go with the batch order. "
        f"n = {repetitions} repetition{'s' * (repetitions > 1)}, each with seeds of its own; "
        f"{thousands(data.images)} {data.split} images."
    )
    if failed:
        words += f" {failed} training{'s' * (failed > 1)} diverged and {'are' if failed > 1 else 'is'} left out."
    return words


def _summary(found: Mapping[str, Floats], judged: float, split: str) -> str:
    parts = []
    for kind in ("weights", "batches", "both", "same"):
        values = found[kind]
        if len(values):
            around = f" ± {percent(spread(values))}" if len(values) > 1 else ""
            share = f"{percent(float(values.mean()))}{around} %" if values.any() else "exactly 0"
            parts.append(f"{_KINDS[kind].words} {share}")
    if not parts:
        return f"At a learning rate of {judged:g} no pair of trainings came to its end."
    n = len(found["weights"])
    return (
        f"At a learning rate of {judged:g}, {', '.join(parts)}: the share of {split} labels that change "
        f"(n = {n} repetition{'s' * (n != 1)})."
    )


def _notes(
    found: Mapping[str, Floats], judged: float, asked: float, same: Floats, looks: Mapping[str, str]
) -> Notes:  # fmt: skip
    lines = []
    for kind, about in _KINDS.items():
        values = found[kind]
        mean = "–" if not len(values) else "0" if not values.any() else percent(float(values.mean()))
        deviation = percent(spread(values)) if values.any() else "–"
        lines.append(Note(about.label, (mean, deviation), look=looks[kind], strong=kind == "both"))
    text = [f"At the learning rate {judged:g}" + ("." if judged == asked else f", the nearest to {asked:g}.")]
    if len(same):
        exact = int((same == 0).sum())
        pairs = f"{len(same)} pair{'s' * (len(same) > 1)}"
        text.append(
            f"Same seeds: exactly 0 in all {pairs}."
            if exact == len(same)
            else f"Same seeds: exactly 0 in {exact} of {pairs}, at most {percent(float(same.max()))} %."
        )
    return Notes(("What differs", "disagr., %", "± σ"), tuple(lines), tuple(text))


@seeds.draw
def draw(data: Seeds, theme: Theme) -> go.Figure:
    panels = ("diversity", "accuracy") if data.options.panel == "both" else (data.options.panel,)
    between = {"r": 16} if "accuracy" in panels else None  # the names stand between the panels
    picture = Picture("seeds", data, theme, kind="curves", margin=between, panels=("accuracy", "diversity"))
    for name, across in parted(panels, ([0.0, 0.48], [0.74, 1.0])):
        panel = picture.panel(across, x=_rate_axis(data), y={"range": _window(data, name)})
        if name == "diversity":
            diverse = data.options.quantity == "diversity"
            title = "diversity: disagreement ÷ error rate" if diverse else "disagreement, %"
            picture.add(*_distances(data, theme, panel.x, panel.y))
            picture.ends(panel, _ends(data, theme), reach=24)
        else:
            title = "accuracy, %"
            picture.add(*_accuracies(data, theme, panel.x, panel.y))
        picture.titles(panel, "learning rate", title)
    return picture.figure()


def _scale(data: Seeds) -> float:
    return 1.0 if data.options.quantity == "diversity" else 100.0


def _rate_axis(data: Seeds) -> Json:
    """Logarithmic, ticks at the rates that were tried; a label is left out where it would touch the one before."""
    logs = np.log10(np.unique(data.rates))
    air = max(0.08 * (logs[-1] - logs[0]), 0.1)
    width = logs[-1] - logs[0] + 2 * air
    texts, last = [], -np.inf
    for at in logs:
        fits = at - last > 0.13 * width
        texts.append(f"{10**at:.4g}" if fits else "")
        last = at if fits else last
    ticks = {"tickmode": "array", "tickvals": float32(10**logs), "ticktext": texts}
    return {"type": "log", "range": [logs[0] - air, logs[-1] + air], **ticks}


def _window(data: Seeds, panel: str) -> list[float]:
    values = finite(data.distance * _scale(data) if panel == "diversity" else 100 * data.accuracy)
    if not len(values):
        return [0.0, 1.0]
    low, high = float(values.min()), float(values.max())
    if panel == "diversity":  # from a little below zero, so that exact zeros are seen whole
        return [-0.05 * max(high, 1e-3), 1.08 * max(high, 1e-3)]
    pad = max(0.08 * (high - low), 0.5)
    return [max(0.0, low - pad), min(100.0, high + pad)]


def _dodged(data: Seeds, kind: str, rates: Floats) -> Floats:
    """Where marks stand: beside each other at one rate, in the order of the kinds."""
    logs = np.log10(np.unique(data.rates))
    place = (list(_KINDS).index(kind) - (len(_KINDS) - 1) / 2) * _DODGE
    return np.asarray(rates * 10 ** (place * max(logs[-1] - logs[0], 0.5)))


def _mean_curve(data: Seeds, kind: str) -> tuple[Floats, Floats]:
    """Learning rates, and the mean over the repetitions that came to their end; rates without any are left out."""
    rates, means = [], []
    for learning_rate in np.unique(data.rates):
        values = finite(data.distance[data.where(kind, learning_rate)])
        if len(values):
            rates.append(learning_rate)
            means.append(values.mean() * _scale(data))
    return np.array(rates), np.array(means)


def _distances(data: Seeds, theme: Theme, x: str, y: str) -> list[Trace]:
    traces: list[Trace] = []
    for kind, about in reversed(tuple(_KINDS.items())):
        look, at = style.look(data.looks[kind]), data.where(kind)
        rates, means = _mean_curve(data, kind)
        put = partial(scatter, axes=(x, y), legendgroup=f"seeds-{kind}", name=about.label, cliponaxis=False)
        line = {"color": look.colour(theme), "width": 2}
        traces += [
            put("lines", _dodged(data, kind, rates), means, silent=True, line=line),
            put(
                "markers", _dodged(data, kind, data.rates[at]), data.distance[at] * _scale(data),
                hover=[_hover(data, int(i)) for i in at], marker=style.marker(look, theme, size=about.size),
                customdata=np.full(len(at), -1, np.int32),  # arms are no solutions
            ),
        ]  # fmt: skip
    return traces


def _accuracies(data: Seeds, theme: Theme, x: str, y: str) -> list[Trace]:
    traces: list[Trace] = []
    for kind, about in reversed(tuple(_KINDS.items())):
        shown = np.concatenate([data.where(kind), data.where(BASE)]) if kind == "same" else data.where(kind)
        traces.append(scatter(
            "markers", _dodged(data, kind, data.rates[shown]), 100 * data.accuracy[shown], axes=(x, y),
            hover=[_hover(data, int(i)) for i in shown], customdata=np.full(len(shown), -1, np.int32),
            marker=style.marker(style.look(data.looks[kind]), theme, size=about.size), legendgroup=f"seeds-{kind}",
            name=about.label, cliponaxis=False,
        ))  # fmt: skip
    return traces


def _hover(data: Seeds, i: int) -> str:
    kind = data.kinds[i]
    head = "base" if kind == BASE else _KINDS[kind].words
    lines = [f"<b>{head}</b>", f"learning rate {data.rates[i]:g}, repetition {data.repetitions[i] + 1}"]
    if kind != BASE:
        lines.append(f"disagreement  {percent(float(data.disagreement[i]))} %")
        lines.append(f"diversity  {rate(float(data.diversity[i]), 2)}")
    return "<br>".join([*lines, f"accuracy  {percent(float(data.accuracy[i]))} %"])


def _ends(data: Seeds, theme: Theme) -> list[style.End]:
    """What differs, at the right ends of the lines."""
    ends = []
    for kind in _KINDS:
        rates, means = _mean_curve(data, kind)
        if len(rates):
            at = np.log10(_dodged(data, kind, rates[-1:])[0])  # annotations on a logarithmic axis stand at the exponent
            colour = style.look(data.looks[kind]).colour(theme)
            ends.append(style.End(_KINDS[kind].label, float(at), float(means[-1]), colour))
    return ends
