"""Is there a way between two runs that never leaves low loss? A path and the straight line (paper Fig S2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from modescape.drawing import style
from modescape.drawing.figure import Cell, FigureData, Legend, Note, Notes, figure
from modescape.drawing.groups import refuse_skipped
from modescape.drawing.numbers import float32, known
from modescape.drawing.reading import FigureNotReady, Floats, Results
from modescape.drawing.style import Theme
from modescape.drawing.words import loss, percent, thousands
from modescape.figures.shared.tunnels import (
    ACCURACY,
    AGREEMENT_A,
    LINES,
    LOSS,
    QUANTITIES,
    SPLITS,
    OneTunnel,
    counted,
    from_to,
    partial_of,
    study_of,
)

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
    panel: Literal["all", "loss", "accuracy", "agreement"] = Field(
        "all", description="All panels, or one for narrow screens."
    )


@dataclass(frozen=True, kw_only=True)
class Tunnel(FigureData):
    """t [T]: fraction of the path; profile [line, split, quantity, T] in the order of LINES, SPLITS and QUANTITIES, NaN
    where nothing is computed yet."""

    options: TunnelOptions
    runs: tuple[int, int]
    t: Floats
    profile: Floats

    @property
    def columns(self) -> tuple[str, ...]:
        return ("line", "split", "fraction", *QUANTITIES)

    def rows(self) -> list[tuple[Cell, ...]]:
        return [
            (line, split, float(share), *(known(v) for v in self.profile[i, j, :, k]))
            for i, line in enumerate(LINES)
            for j, split in enumerate(SPLITS)
            for k, share in enumerate(self.t)
            if np.isfinite(self.profile[i, j, ACCURACY, k])
        ]

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
    options=TunnelOptions,
)
def tunnel(results: Results, options: TunnelOptions) -> Tunnel:
    study = study_of(results, options.tunnel)
    kept = results.so_far("tunnel", f"{options.tunnel}")
    if "profile" not in kept:
        refuse_skipped(results, "tunnel", f"{options.tunnel}")
        raise FigureNotReady("no point of the path is evaluated yet", waits_for=("train", "tunnel"))
    profile = np.asarray(results.array(kept["profile"]), np.float64)
    computed = np.isfinite(profile[:, 0, ACCURACY])
    partial = partial_of(computed)
    t = np.linspace(0.0, 1.0, profile.shape[-1])
    return Tunnel(
        options=options,
        runs=(study.runs[0], study.runs[1]),
        t=t,
        profile=profile,
        caption=_caption(study, kept),
        summary=counted(computed, "the two lines") if partial else _summary(study, profile, t, options.split),
        notes=_notes(profile, t, kept, options.split, complete=not partial),
        legend=(
            Legend("tunnel-path", "optimised path", "averaging"),
            Legend("tunnel-straight", "straight line", "theory"),
        ),
        partial=partial,
    )


def _caption(study: Any, kept: dict[str, Any]) -> str:
    trained, images = kept["trained"], kept["images"]
    knots = f" {len(trained['knots'])} knots," if trained["knots"] else ""
    return (
        f"From run {study.runs[0]} (A) to run {study.runs[1]} (B). Path: {_METHODS[study.method]},{knots} "
        f"{thousands(trained['steps'])} steps of Adam at {study.learning_rate:g} in batches of {study.batch_size}, "
        f"dropout off. Barrier: the most a line rises above its chord, max over t of L(t) − ((1 − t) L(A) + t L(B)). "
        f"{thousands(images['train'])} training and {thousands(images['test'])} test images. n = 1 pair of runs."
    )


def barrier(values: Floats, t: Floats) -> float:
    """How far values [T] at fractions t rise above their chord; 0 when they never do."""
    return float(np.max(values - ((1 - t) * values[0] + t * values[-1])))


def _notes(profile: Floats, t: Floats, kept: dict[str, Any], split: str, *, complete: bool) -> Notes:
    """Both lines on both splits, an en dash while a line is not complete; then the path in words."""
    lines = []
    for i, (line, look) in enumerate(zip(LINES, ("averaging", "theory"), strict=True)):
        for j, name in enumerate(SPLITS):
            values = (loss(barrier(profile[i, j, LOSS], t)), percent(float(profile[i, j, ACCURACY].min())))
            lines.append(
                Note(f"{'path' if line == 'path' else 'straight'}, {name}", values, look=look, strong=name == split)
            )
    text = []
    if complete:
        words = ("Accuracy", "Agreement with A", "Agreement with B")
        text = [
            f"{word} along the path {from_to(float(rates[0]), float(rates[-1]))} on {split} images; halfway it is "
            f"{percent(float(rates[len(t) // 2]))} %, at its lowest {percent(float(rates.min()))} %."
            for word, rates in zip(words, profile[0, SPLITS.index(split), ACCURACY:], strict=True)
        ]
    steps = [knot["steps"] for knot in kept["trained"]["knots"]]
    if steps:
        text.append(f"Each knot took {min(steps)} to {max(steps)} steps.")
    return Notes(("Line", "barrier, nats", "lowest acc., %"), tuple(lines), tuple(text))


def _summary(study: Any, profile: Floats, t: Floats, split: str) -> str:
    path, straight = profile[:, SPLITS.index(split)]
    return (
        f"On {split} images the straight line rises {loss(barrier(straight[LOSS], t))} nats above its chord, the "
        f"optimised path {loss(barrier(path[LOSS], t))}; halfway it agrees with run {study.runs[0]} on "
        f"{percent(float(path[AGREEMENT_A, len(t) // 2]))} % of labels."
    )


_PANELS = {"loss": "loss, nats", "accuracy": "accuracy, %", "agreement": "agreement with A and B, %"}


@tunnel.draw
def draw(data: Tunnel, theme: Theme) -> go.Figure:
    import plotly.graph_objects as go

    height = 592 if data.options.size == "page" else 300
    layout = style.layout(theme, kind="curves", height=height, revision="tunnel")
    panels = tuple(_PANELS) if data.options.panel == "all" else (data.options.panel,)
    layout["margin"] = {**layout["margin"], "r": 24}
    layout["annotations"] = []
    traces: list[dict[str, Any]] = []
    gap = 0.09
    width = (1 - gap * (len(panels) - 1)) / len(panels)
    for i, panel in enumerate(panels):
        number = "" if i == 0 else f"{i + 1}"
        x, y = f"x{number}", f"y{number}"
        start = i * (width + gap)
        layout[f"xaxis{number}"] = style.x_axis(
            theme, domain=[start, min(start + width, 1.0)], anchor=y, range=[-0.02, 1.02], tickmode="array",
            tickvals=[0, 0.25, 0.5, 0.75, 1], ticktext=["A", ".25", ".5", ".75", "B"],
        )  # fmt: skip
        drawn = [
            *((line, panel, "solid") for line in reversed(LINES) if panel != "agreement"),
            *((line, name, dash) for line in reversed(LINES) if panel == "agreement"
              for name, dash in (("agreement_a", "solid"), ("agreement_b", "dot"))),
        ]  # fmt: skip
        scale = 1.0 if panel == "loss" else 100.0
        values = np.concatenate([data.curve(line, name) * scale for line, name, _ in drawn])
        values = values[np.isfinite(values)]
        low, high = (0.0 if panel == "loss" else float(values.min())), float(values.max())
        pad = 0.06 * max(high - low, 1e-3)
        layout[f"yaxis{number}"] = style.y_axis(
            theme, anchor=x, range=[low - pad, min(high + pad, 101.0) if panel != "loss" else high + pad]
        )
        for line, name, dash in drawn:
            traces.append(_curve(data, line, name, dash, scale, theme, x, y))
        layout["annotations"].append(
            style.y_title(_PANELS[panel], theme, x, y, layout["margin"]["l"] if i == 0 else 28)
        )
        layout["annotations"].append(style.x_title("along the path", theme, x, y))
    layout["meta"] = {"figure": "tunnel", "panels": ["accuracy", "agreement", "loss"]}
    return go.Figure(data=traces, layout=layout, layout_template=None)


def _curve(data: Tunnel, line: str, name: str, dash: str, scale: float, theme: Theme, x: str, y: str) -> dict[str, Any]:
    look = style.look("averaging" if line == "path" else "theory")
    words = {
        "loss": "loss",
        "accuracy": "accuracy",
        "agreement_a": "agreement with A",
        "agreement_b": "agreement with B",
    }
    title = "optimised path" if line == "path" else "straight line"
    unit = "" if name == "loss" else " %"
    return {
        "type": "scatter", "mode": "lines", "x": float32(data.t), "y": float32(data.curve(line, name) * scale),
        "line": {"color": look.colour(theme), "width": 2.5 if line == "path" else 1.5,
                 "dash": "dash" if line == "straight" and dash == "solid" else dash},
        "name": title, "legendgroup": f"tunnel-{line}", "xaxis": x, "yaxis": y,
        "hovertemplate": f"<b>{title}</b><br>at %{{x:.2f}}<br>{words[name]} %{{y:.3~g}}{unit}<extra></extra>",
    }  # fmt: skip
