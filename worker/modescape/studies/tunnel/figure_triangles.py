"""Where along a tunnel does the function change? The triangles that a path spans (paper Fig S3)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from modescape.drawing import style
from modescape.drawing.figure import Cell, FigureData, Legend, Words, figure
from modescape.drawing.groups import refuse_skipped
from modescape.drawing.numbers import finite, float32, known
from modescape.drawing.panels import Panel, Picture, Trace, beside, heat
from modescape.drawing.reading import FigureNotReady, Floats
from modescape.drawing.style import Theme
from modescape.drawing.words import percent, thousands
from modescape.records import Group, Json
from modescape.results import Results
from modescape.studies.tunnel.reading import (
    ACCURACY,
    AGREEMENT_A,
    PATH,
    QUANTITIES,
    OneTunnel,
    counted,
    from_to,
    partial_of,
    study_of,
)
from modescape.studies.tunnel.study import TunnelSpec

if TYPE_CHECKING:
    import plotly.graph_objects as go


RASTER = 161  # cells along the longer side of the picture of the triangles
FULL_TURN = 2 * np.pi


class TriangleOptions(OneTunnel):
    """Which path, and what is shown on its triangles."""

    panel: Literal["all", "loss", "accuracy", "agreement_a", "agreement_b"] = Field(
        "all", description="Accuracy and both agreements beside each other, or one panel; loss has a log scale."
    )


@dataclass(frozen=True, kw_only=True)
class Triangles(FigureData):
    """surface [W, quantity, angles, radii], NaN where nothing is computed yet; radii [radii]; spans [W]: angles of the
    wedges; offsets [K], lengths [K]: where the points of the path lie."""

    options: TriangleOptions
    study: TunnelSpec
    images: int
    surface: Floats
    radii: Floats
    spans: Floats
    offsets: Floats
    lengths: Floats

    columns = ("wedge", "angle", "radius", *QUANTITIES)

    def rows(self) -> list[tuple[Cell, ...]]:
        return [
            (w, float(angle), float(radius), *(known(v) for v in self.surface[w, :, i, j]))
            for w in range(len(self.surface))
            for i, angle in enumerate(self.angles(w))
            for j, radius in enumerate(self.radii)
            if np.isfinite(self.surface[w, ACCURACY, i, j])
        ]

    def angles(self, wedge: int) -> Floats:
        """Angles of a wedge's rows from the first point of the path, radians."""
        return np.linspace(self.offsets[wedge], self.offsets[wedge] + self.spans[wedge], self.surface.shape[2])

    def shown(self) -> tuple[str, ...]:
        return ("accuracy", "agreement_a", "agreement_b") if self.options.panel == "all" else (self.options.panel,)

    @property
    def drawn(self) -> Floats:
        """Angles at which the points of the path are drawn, [K]: a fan wider than a full turn is narrowed to one, so
        that no wedge hides another."""
        total = float(self.offsets[-1])
        return self.offsets * (FULL_TURN / total) if total > FULL_TURN else self.offsets

    @property
    def card_height(self) -> int:
        return 440 if len(self.shown()) == 1 else self.size.card

    @property
    def page_height(self) -> int:
        """One row of up to three fans."""
        return self.size.page if len(self.shown()) == 1 else 400

    def raster(self, quantity: str) -> tuple[Floats, Floats, Floats]:
        """x [X], y [Y] around the whole fan and the nearest cell's value [Y, X], NaN outside the fan and where nothing
        is computed."""
        reach, borders = float(self.radii[-1]), self.drawn
        # the fan is widest at its two sides and where it crosses an axis
        far = np.array([0.0, borders[-1], *np.arange(np.pi / 2, borders[-1], np.pi / 2)])
        x_ends, y_ends = ([min(0.0, ends.min()), max(0.0, ends.max())] for ends in (np.cos(far), np.sin(far)))
        step = reach * max(x_ends[1] - x_ends[0], y_ends[1] - y_ends[0]) / (RASTER - 1)
        # whole steps from the origin: the row of A's direction is not lost to a rounding error
        x, y = (
            step * np.arange(np.floor(low * reach / step), np.ceil(high * reach / step) + 1)
            for low, high in (x_ends, y_ends)
        )
        radius, angle = np.hypot(x[None], y[:, None]), np.arctan2(y[:, None], x[None]) % FULL_TURN
        values = np.full(radius.shape, np.nan)
        angles, count = self.surface.shape[2], len(self.radii)
        for w, (begin, end) in enumerate(pairwise(borders)):
            inside = (angle >= begin) & (angle <= end) & (radius <= reach)
            share = (angle[inside] - begin) / max(end - begin, 1e-12)
            i = np.clip(np.round(share * (angles - 1)).astype(int), 0, angles - 1)
            j = np.clip(np.round(radius[inside] / reach * (count - 1)).astype(int), 0, count - 1)
            values[inside] = self.surface[w, QUANTITIES.index(quantity)][i, j]
        return x, y, values


@figure(
    "triangles",
    order=96,
    title="Stitched triangles",
    question="Where along a tunnel does the function change?",
    summary="Accuracy and agreement with both ends on the planes through the origin and each two points of a path.",
    source="Fort, Hu, Lakshminarayanan 2019, supplementary section on tunnels",
    paper="Fig S3",
    needs=("tunnel", "triangles"),
    card=400,
    full=True,
)
def triangles(results: Results, options: TriangleOptions) -> Triangles:
    study = study_of(results, options.tunnel)
    if not study.triangles:
        raise FigureNotReady("no triangles in this spec; switch them on in its tunnel, as the preset s3-short does")
    kept = results.so_far("triangles", f"{options.tunnel}")
    if "surface" not in kept:
        refuse_skipped(results, "triangles", f"{options.tunnel}")
        raise FigureNotReady("no point of the triangles is computed yet", waits_for=("tunnel", "triangles"))
    surface = np.asarray(results.array(kept["surface"]), np.float64)
    return Triangles(
        options=options,
        study=study,
        images=kept["images"],
        surface=surface,
        radii=np.array(kept["radii"]),
        spans=np.array(kept["spans"]),
        offsets=np.array(kept["offsets"]),
        lengths=np.array(kept["lengths"]),
        legend=(Legend("tunnel-path", "optimised path", PATH),),
        partial=partial_of(np.isfinite(surface[:, ACCURACY])),
    )


@triangles.tell
def tell(data: Triangles) -> Words:
    runs, total = data.study.runs, float(np.degrees(data.offsets[-1]))
    distances = "Distances are true inside each wedge, not across the whole picture."
    if total > 360:
        distances = (
            f"Angles are drawn {percent(360 / total)} % as wide as they are, so that the fan closes one turn and no "
            "wedge hides another; distances are true along rays only."
        )
    caption = (
        f"{len(data.surface)} wedges from run {runs[0]} (A) to run {runs[1]} (B), {total:.0f} degrees in all, each in "
        "the plane through the origin and two neighbouring points of the path; radius: length of the weight vector. "
        f"{distances} {thousands(data.images)} test images. n = 1 pair of runs."
    )
    computed = np.isfinite(data.surface[:, ACCURACY])
    return Words(caption, counted(computed, "the triangles") if data.partial else _crossed(data))


def _crossed(data: Triangles) -> str:
    """What the path passes: the cells nearest to its points, each a wedge's first border, the last one's second."""
    surface = data.surface
    near = np.abs(data.radii[:, None] - data.lengths).argmin(axis=0)
    passed = np.stack([*(surface[w, :, 0, near[w]] for w in range(len(surface))), surface[-1, :, -1, near[-1]]])
    accuracy, agreement = passed[:, ACCURACY], passed[:, AGREEMENT_A]
    return (
        f"At the cells nearest to the path accuracy lies between {percent(float(accuracy.min()))} and "
        f"{percent(float(accuracy.max()))} %, and agreement with run {data.study.runs[0]} "
        f"{from_to(float(agreement[0]), float(agreement[-1]))}."
    )


_TRIANGLES = {
    "loss": "loss, nats", "accuracy": "accuracy, %", "agreement_a": "agreement with A, %",
    "agreement_b": "agreement with B, %",
}  # fmt: skip


@triangles.draw
def draw(data: Triangles, theme: Theme) -> go.Figure:
    shown = data.shown()
    places = beside(len(shown), 0.04)
    picture = Picture("triangles", data, theme, kind="maps", margin={"r": 24, "b": 44}, panels=shown)
    for i, (name, place) in enumerate(zip(shown, places, strict=True)):
        across, up, values = data.raster(name)
        panel = picture.maps(
            place,
            tall=float((up[-1] - up[0]) / (across[-1] - across[0])),
            x={"nticks": 4, "zeroline": False, "range": [float(across[0]), float(across[-1])]},
            y={"nticks": 4, "zeroline": False, "range": [float(up[0]), float(up[-1])], "showticklabels": i == 0},
        )
        end, width = place[0] + (places[0][1] - places[0][0]), places[0][1] - places[0][0]
        picture.add(_map(name, across, up, values, theme, panel, end, width))
        picture.add(*_path(data, theme, panel.x, panel.y))
        picture.write(*_ends(data, theme, panel.x, panel.y))
        picture.head(panel, _TRIANGLES[name])
    picture.write(style.x_title("distance in weight space", theme, "x", "y"))
    return picture.figure()


def _map(
    name: str, across: Floats, up: Floats, values: Floats, theme: Theme, panel: Panel, end: float, width: float
) -> Trace:
    log = name == "loss"
    z = np.log10(np.maximum(values, 1e-6)) if log else 100 * values
    seen = finite(z)
    low, high = (float(seen.min()), min(float(seen.max()), float(seen.min()) + 3)) if log else (0.0, 100.0)
    ticks = list(np.linspace(low, high, 3)) if log else [0.0, 50.0, 100.0]
    texts = [f"{10**tick:.2g}" for tick in ticks] if log else ["0", "50", "100"]
    title, bar = _TRIANGLES[name], style.colour_bar(theme, x=end, length=0.3 * width, ticks=ticks, texts=texts)
    return heat(
        panel, z, low=low, high=high, name=title, hover=f"{title} %{{z:.3~g}}", x=float32(across), y=float32(up),
        hoverongaps=False, colorbar=bar, showscale=True,
    )  # fmt: skip


def _path(data: Triangles, theme: Theme, x: str, y: str) -> list[Trace]:
    """Rays where wedges meet, and the path across them."""
    reach = float(data.radii[-1])
    rays_x, rays_y = (
        [at for angle in data.drawn for at in (0.0, reach * float(turn(angle)), None)] for turn in (np.cos, np.sin)
    )
    corners_x, corners_y = data.lengths * np.cos(data.drawn), data.lengths * np.sin(data.drawn)
    shared: Json = {"type": "scatter", "xaxis": x, "yaxis": y, "showlegend": False}
    path, red = style.look(PATH).colour(theme), style.look(Group.INDEPENDENT).colour(theme)
    inner, card = len(corners_x) - 2, style.token("card", theme)
    ends_x, ends_y = (float32(corners[[0, -1]]) for corners in (corners_x, corners_y))
    return [
        {
            **shared, "mode": "lines", "x": rays_x, "y": rays_y, "line": {"color": card, "width": 1},
            "hoverinfo": "skip",
        },
        {  # a seam, for on the map any colour may be near it
            **shared, "mode": "lines", "x": float32(corners_x), "y": float32(corners_y), "hoverinfo": "skip",
            "line": {"color": card, "width": 5},
        },
        {
            **shared, "mode": "lines+markers", "x": float32(corners_x), "y": float32(corners_y),
            "line": {"color": path, "width": 2.5}, "name": "optimised path", "legendgroup": "tunnel-path",
            "marker": {"symbol": "circle", "size": 6, "color": path, "line": {"color": card, "width": 1}},
            "hovertext": ["A", *(f"point {i + 1} of the path" for i in range(inner)), "B"], "hoverinfo": "text",
        },
        {
            **shared, "mode": "markers", "x": ends_x, "y": ends_y, "hoverinfo": "skip",
            "legendgroup": Group.INDEPENDENT,
            "marker": {"symbol": "star", "size": 11, "color": red, "line": {"color": card, "width": 1}},
        },
    ]  # fmt: skip


def _ends(data: Triangles, theme: Theme, x: str, y: str) -> list[Json]:
    """A and B beside the path's ends, on a ground that lets the map through."""
    ground = style.faint("card", theme, 0.8)
    return [
        style.label(
            name, theme, strong=True, xref=x, yref=y, x=float(data.lengths[i] * np.cos(data.drawn[i])),
            y=float(data.lengths[i] * np.sin(data.drawn[i])), xanchor="right", yanchor="bottom", xshift=-8, yshift=4,
            bgcolor=ground,
        )
        for name, i in (("A", 0), ("B", -1))
    ]  # fmt: skip
