"""Is there a way between two runs that never leaves low loss? A path and the straight line (paper Fig S2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from modescape.drawing import style
from modescape.drawing.figure import Cell, FigureData, Legend, Note, Notes, Words, figure
from modescape.drawing.groups import refuse_skipped
from modescape.drawing.numbers import finite, known
from modescape.drawing.options import shown_panels
from modescape.drawing.panels import Panel, Picture, Trace, beside, scatter
from modescape.drawing.reading import FigureNotReady, Floats
from modescape.drawing.style import Theme
from modescape.drawing.words import loss, percent, thousands
from modescape.records import Json
from modescape.results import Results
from modescape.science.barriers import barrier
from modescape.studies.tunnel.reading import (
    ACCURACY,
    AGREEMENT_A,
    LINES,
    LOSS,
    PATH,
    QUANTITIES,
    SPLITS,
    OneTunnel,
    counted,
    from_to,
    partial_of,
    study_of,
)
from modescape.studies.tunnel.study import TunnelSpec

if TYPE_CHECKING:
    import plotly.graph_objects as go


_METHODS = {
    "perpendicular": "knots moved at right angles to the straight line",
    "bezier": "one trained bend, a Bezier curve",
    "chain": "one trained bend, two straight segments",
}


class TunnelOptions(OneTunnel):
    """Which path, on which images."""

    split: Literal["train", "test"] = Field("test", description="Images the path is evaluated on.")
    panel: Literal["all", "loss", "accuracy", "agreement"] = shown_panels("all", "All panels")


@dataclass(frozen=True, kw_only=True)
class Tunnel(FigureData):
    """t [T]: fraction of the path; profile [line, split, quantity, T] in the order of LINES, SPLITS and QUANTITIES, NaN
    where nothing is computed yet; study, kept: what was asked for, and what its stage left; averaged: scores of the
    mean probability of points along the path, by metric, where that was asked for."""

    options: TunnelOptions
    study: TunnelSpec
    kept: Mapping[str, Any]
    t: Floats
    profile: Floats
    averaged: Mapping[str, float] = field(default_factory=dict)

    columns = ("line", "split", "fraction", *QUANTITIES)

    def rows(self) -> list[tuple[Cell, ...]]:
        found: list[tuple[Cell, ...]] = [
            (line, split, float(share), *(known(v) for v in self.profile[i, j, :, k]))
            for i, line in enumerate(LINES)
            for j, split in enumerate(SPLITS)
            for k, share in enumerate(self.t)
            if np.isfinite(self.profile[i, j, ACCURACY, k])
        ]
        if self.averaged:
            name = f"mean probability of {self.study.averaged} points"
            found.append((name, "test", None, self.averaged["nll"], self.averaged["accuracy"], None, None))
        return found

    def curve(self, line: str, quantity: str) -> Floats:
        """[T] on the split shown."""
        found = self.profile[LINES.index(line), SPLITS.index(self.options.split), QUANTITIES.index(quantity)]
        return np.asarray(found)


@figure(
    "tunnel",
    order=94,
    title="Tunnel",
    question="Is there a way between two runs that never leaves low loss?",
    summary="Loss, accuracy and agreement with both ends along an optimised path and along the straight line.",
    source="Fort, Hu, Lakshminarayanan 2019, supplementary section on tunnels; Garipov et al. 2018",
    paper="Fig S2",
    needs=("train", "tunnel"),
    card=300,
    full=True,
)
def tunnel(results: Results, options: TunnelOptions) -> Tunnel:
    study = study_of(results, options.tunnel)
    kept = results.so_far("tunnel", f"{options.tunnel}")
    if "profile" not in kept:
        refuse_skipped(results, "tunnel", f"{options.tunnel}")
        raise FigureNotReady("no point of the path is evaluated yet", waits_for=("train", "tunnel"))
    profile = np.asarray(results.array(kept["profile"]), np.float64)
    return Tunnel(
        options=options,
        study=study,
        kept=kept,
        t=np.linspace(0.0, 1.0, profile.shape[-1]),
        profile=profile,
        averaged=_averaged(results, options.tunnel) if study.averaged else {},
        legend=(
            Legend("tunnel-path", "optimised path", PATH),
            Legend("tunnel-straight", "straight line", "theory"),
        ),
        partial=partial_of(np.isfinite(profile[:, 0, ACCURACY])),
    )


def _averaged(results: Results, number: int) -> dict[str, float]:
    found = results.measurements(subject=f"tunnel/{number}/averaged")
    return {one.metric: one.value for one in found if one.value is not None}


@tunnel.tell
def tell(data: Tunnel) -> Words:
    computed = np.isfinite(data.profile[:, 0, ACCURACY])
    summary = counted(computed, "the two lines") if data.partial else _summary(data)
    return Words(_caption(data.study, data.kept), summary, _notes(data))


def _caption(study: TunnelSpec, kept: Mapping[str, Any]) -> str:
    trained, images = kept["trained"], kept["images"]
    knots = f" {len(trained['knots'])} knots," if trained["knots"] else ""
    how = (
        f"{_METHODS[study.method]},{knots} {thousands(trained['steps'])} steps of Adam at {study.learning_rate:g} in "
        f"batches of {study.batch_size}, dropout off"
    )
    if study.bend is not None:
        how = _METHODS[study.method].replace("trained bend", "bend that was trained elsewhere and given")
    return (
        f"From run {study.runs[0]} (A) to run {study.runs[1]} (B). Path: {how}. "
        f"Barrier: the most a line rises above its chord, max over t of L(t) − ((1 − t) L(A) + t L(B)). "
        f"{thousands(images['train'])} training and {thousands(images['test'])} test images. n = 1 pair of runs."
    )


def _notes(data: Tunnel) -> Notes:
    """Both lines on both splits, an en dash while a line is not complete; then the path in words."""
    profile, t, split = data.profile, data.t, data.options.split
    lines = []
    for i, (line, look) in enumerate(zip(LINES, (PATH, "theory"), strict=True)):
        for j, name in enumerate(SPLITS):
            values = (loss(barrier(profile[i, j, LOSS], t)), percent(float(profile[i, j, ACCURACY].min())))
            lines.append(
                Note(f"{'path' if line == 'path' else 'straight'}, {name}", values, look=look, strong=name == split)
            )
    text = []
    if not data.partial:
        words = ("Accuracy", "Agreement with A", "Agreement with B")
        text = [
            f"{word} along the path {from_to(float(rates[0]), float(rates[-1]))} on {split} images; halfway it is "
            f"{percent(float(rates[len(t) // 2]))} %, at its lowest {percent(float(rates.min()))} %."
            for word, rates in zip(words, profile[0, SPLITS.index(split), ACCURACY:], strict=True)
        ]
    if data.averaged:
        text.append(
            f"The mean probability of {data.study.averaged} points along the path is right on "
            f"{100 * data.averaged['accuracy']:.2f} % of all test images; its loss is "
            f"{loss(data.averaged['nll'])} nats."
        )
    steps = [knot["steps"] for knot in data.kept["trained"]["knots"]]
    if steps:
        text.append(f"Each knot took {min(steps)} to {max(steps)} steps.")
    return Notes(("Line", "barrier, nats", "lowest acc., %"), tuple(lines), tuple(text))


def _summary(data: Tunnel) -> str:
    t, split = data.t, data.options.split
    path, straight = data.profile[:, SPLITS.index(split)]
    return (
        f"On {split} images the straight line rises {loss(barrier(straight[LOSS], t))} nats above its chord, the "
        f"optimised path {loss(barrier(path[LOSS], t))}; halfway it agrees with run {data.study.runs[0]} on "
        f"{percent(float(path[AGREEMENT_A, len(t) // 2]))} % of labels."
    )


_PANELS = {"loss": "loss, nats", "accuracy": "accuracy, %", "agreement": "agreement with A and B, %"}


@tunnel.draw
def draw(data: Tunnel, theme: Theme) -> go.Figure:
    panels = tuple(_PANELS) if data.options.panel == "all" else (data.options.panel,)
    picture = Picture("tunnel", data, theme, kind="curves", margin={"r": 56}, panels=("accuracy", "agreement", "loss"))
    for name, across in zip(panels, beside(len(panels), 0.09), strict=True):
        lines = _lines(name)
        scale = 1.0 if name == "loss" else 100.0
        panel = picture.panel(across, x=_FROM_A_TO_B, y={"range": _window(data, name, lines, scale)})
        picture.add(*(_curve(data, *line, scale, theme, panel.x, panel.y) for line in lines))
        picture.titles(panel, "along the path", _PANELS[name], left=28 if panel.number else None)
        if name == "agreement":
            picture.ends(panel, _ends(data, theme), reach=14)
        picture.write(*_names(data, lines[-1][1], scale, theme, panel))
    return picture.figure()


_FROM_A_TO_B: Mapping[str, Any] = {
    "range": [-0.02, 1.02],
    "tickmode": "array",
    "tickvals": [0, 0.25, 0.5, 0.75, 1],
    "ticktext": ["A", ".25", ".5", ".75", "B"],
}


def _lines(panel: str) -> list[tuple[str, str, str]]:
    """What a panel draws: line, quantity and dash."""
    shown = (("agreement_a", "solid"), ("agreement_b", "dot")) if panel == "agreement" else ((panel, "solid"),)
    return [(line, name, dash) for line in reversed(LINES) for name, dash in shown]


def _window(data: Tunnel, panel: str, lines: Sequence[tuple[str, str, str]], scale: float) -> list[float]:
    values = finite(np.concatenate([data.curve(line, name) * scale for line, name, _ in lines]))
    low, high = (0.0 if panel == "loss" else float(values.min())), float(values.max())
    pad = 0.06 * max(high - low, 1e-3)
    return [low - pad, min(high + pad, 101.0) if panel != "loss" else high + pad]


_SAID = {"agreement_a": "agreement with A", "agreement_b": "agreement with B"}


def _curve(data: Tunnel, line: str, name: str, dash: str, scale: float, theme: Theme, x: str, y: str) -> Trace:
    look, title, width = (PATH, "optimised path", 2.5) if line == "path" else ("theory", "straight line", 1.5)
    dash = "dash" if line == "straight" and dash == "solid" else dash
    value = f"{_SAID.get(name, name)} %{{y:.3~g}}{'' if name == 'loss' else ' %'}"
    return scatter(
        "lines", data.t, data.curve(line, name) * scale, axes=(x, y), name=title, legendgroup=f"tunnel-{line}",
        line={"color": style.look(look).colour(theme), "width": width, "dash": dash},
        hovertemplate=f"<b>{title}</b><br>at %{{x:.2f}}<br>{value}<extra></extra>",
    )  # fmt: skip


def _ends(data: Tunnel, theme: Theme) -> list[style.End]:
    """Which end the path's two agreements are with."""
    colour = style.look(PATH).colour(theme)
    last = {end: float(100 * data.curve("path", f"agreement_{end.lower()}")[-1]) for end in "AB"}
    return [style.End(f"with {end}", 1.0, at, colour) for end, at in last.items() if np.isfinite(at)]


def _names(data: Tunnel, name: str, scale: float, theme: Theme, panel: Panel) -> list[Json]:
    """The two lines meet at both ends, so their names stand where they are farthest apart, each on its own side."""
    path, straight = (data.curve(line, name) * scale for line in ("path", "straight"))
    apart = np.abs(path - straight)
    apart = np.where((data.t > 0.2) & (data.t < 0.8), apart, np.nan)  # the words are centred there
    if not np.isfinite(apart).any():
        return []
    at = int(np.nanargmax(apart))
    ground = style.faint("card", theme, 0.8)
    return [
        style.label(
            words, theme, xref=panel.x, yref=panel.y, x=float(data.t[at]), y=float(own[at]), bgcolor=ground,
            yanchor="bottom" if own[at] > other[at] else "top", yshift=3 if own[at] > other[at] else -3,
        )
        for words, own, other in (("optimised path", path, straight), ("straight line", straight, path))
    ]  # fmt: skip
