"""Is it unsure where it should be? Predictive entropy on images of another kind and on test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from modescape.drawing import style
from modescape.drawing.figure import Cell, Legend, Note, Notes, Words, figure
from modescape.drawing.numbers import lines, number
from modescape.drawing.options import Groups, groups_asked
from modescape.drawing.panels import Picture, Trace, scatter
from modescape.drawing.reading import FigureNotReady, Floats
from modescape.drawing.style import Theme
from modescape.drawing.words import rate, thousands
from modescape.records import Group, Json
from modescape.results import Results
from modescape.science.ood import entropy_edges
from modescape.studies.ood.sets import (
    SetData,
    SetOptions,
    deviation,
    group_title,
    inside,
    measured_on,
    runs_shown,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go


class EntropyOptions(SetOptions):
    """Whose entropy."""

    redraws: ClassVar[bool] = True

    method: Groups = Field(
        (), max_length=16,
        description="Groups shown, comma-separated: independent, trajectory, methods; empty: independent runs.",
    )  # fmt: skip
    panel: Literal["both", "single", "ensemble"] = Field(
        "both", description="Single runs and ensembles, or one of them for narrow screens."
    )

    def groups_of(self, results: Results) -> list[str]:
        """Groups asked for. Raises InvalidInput for one the experiment does not have."""
        return groups_asked(self.method, results, usual=(Group.INDEPENDENT,))


@dataclass(frozen=True)
class Spectrum:
    """Shares of images in each bin of predictive entropy, on the other images and on own test images [BINS]; means in
    nats, deviation over runs (nan: one); functions: "single" (all runs' images together) or "ensemble"; n: runs
    averaged."""

    group: str
    functions: str
    outside: Floats
    inside: Floats
    mean: float
    deviation: float
    own: float
    n: int

    @property
    def name(self) -> str:
        alone = "a run" if self.group == Group.INDEPENDENT else f"{group_title(self.group)} in a run"
        together = "ensemble" if self.group == Group.INDEPENDENT else group_title(self.group)
        return f"{together} of {self.n} runs" if self.functions == "ensemble" else alone

    @property
    def look(self) -> style.Look:
        """A single run is no group of runs: it has the grey of what one compares with."""
        is_run = (self.group, self.functions) == (Group.INDEPENDENT, "single")
        return style.look("baseline") if is_run else style.look(self.group)


@dataclass(frozen=True, kw_only=True)
class Entropies(SetData):
    """edges [BINS + 1] in nats, from 0 to log K."""

    options: EntropyOptions
    edges: Floats
    spectra: tuple[Spectrum, ...]

    columns = ("group", "functions", "from", "to", "share", "share_test_images")

    def rows(self) -> list[tuple[Cell, ...]]:
        low, high = self.edges[:-1], self.edges[1:]
        return [row for s in self.spectra for row in lines(s.group, s.functions, low, high, s.outside, s.inside)]

    @property
    def groups(self) -> list[str]:
        return list(dict.fromkeys(s.group for s in self.spectra))

    @property
    def card_height(self) -> int:
        return self.size.card if len(self.groups) == 1 else 220 * len(self.groups)

    @property
    def page_height(self) -> int:
        """More groups are more rows of panels."""
        return self.size.page if len(self.groups) == 1 else 260 * len(self.groups)


@figure(
    "ood-entropy",
    order=72,
    title="Entropy on other images",
    question="Is it unsure where it should be?",
    summary="Histograms of predictive entropy on images of another kind and on test images.",
    source="Lakshminarayanan, Pritzel, Blundell 2017, Figure 3",
    needs=("predict", "ood", "ood-compare"),
    card=292,
    page=520,
)
def ood_entropy(results: Results, options: EntropyOptions) -> Entropies:
    everyone = [m for m in measured_on(results, options.ood) if m.metric == "entropy"]
    groups = options.groups_of(results)
    measured = [m for m in everyone if m.details["group"] in groups]
    if not measured:
        raise FigureNotReady("none of the groups asked for was shown these images")
    about = measured[0].details
    edges = entropy_edges(len(results.class_names))
    spectra = tuple(
        Spectrum(
            m.details["group"], m.details["functions"], _shares(m.details["counts"]), _shares(m.details["in_counts"]),
            number(m.value), number(m.details["sd"]), number(m.details["in"]), m.details["runs"],
        )
        for m in sorted(
            measured, key=lambda m: (groups.index(m.details["group"]), m.details["functions"] == "ensemble")
        )
    )  # fmt: skip
    return Entropies(
        options=options,
        edges=edges,
        spectra=spectra,
        about=about,
        runs=runs_shown(measured),
        legend=tuple(
            Legend.of(group, group_title(group), on=group in groups)
            for group in dict.fromkeys(m.details["group"] for m in everyone)
        ),
    )


@ood_entropy.tell
def tell(data: Entropies) -> Words:
    about, named = data.about, inside(data.title)
    unsure = [
        f"{s.name}, {rate(s.mean)}{deviation(s.deviation)} nats on them and {rate(s.own)} on test images"
        for s in data.spectra
    ]
    lines = tuple(
        Note(
            s.name,
            (rate(s.mean), rate(s.own)),
            look=s.look.key,
            strong=(s.group, s.functions) == (Group.INDEPENDENT, "ensemble"),
        )
        for s in data.spectra
    )
    how = f" ({about['conversion']})" if about["conversion"] else ""
    caption = (
        f"Predictive entropy of {thousands(about['size'])} images, {named}{how}, and of "
        f"{thousands(about['in_size'])} {about['in_split']} images, in {len(data.edges) - 1} bins of equal width; "
        f"0 is certain, {rate(float(data.edges[-1]), 2)} nats is no idea. In a run: its own function, or the average "
        f"of the group’s functions in it; the images of all {data.runs} runs together."
    )
    summary = f"Mean predictive entropy on {named}: {'; '.join(unsure)}."
    return Words(caption, summary, Notes(("Mean entropy, nats", "here", "test images"), lines))


def _shares(counts: Sequence[int]) -> Floats:
    values = np.asarray(counts, np.float64)
    return np.asarray(values / max(values.sum(), 1.0))


_GAP = 64  # px between rows of panels: tick labels, and the names of the next


@ood_entropy.draw
def draw(data: Entropies, theme: Theme) -> go.Figure:
    down = len(data.groups)
    kind: style.Kind = "page" if data.is_large else "scatter"
    picture = Picture("ood-entropy", data, theme, kind=kind, panels=("single", "ensemble"))
    shown = [s for s in data.spectra if data.options.panel in ("both", s.functions)] or data.spectra
    alone = all(s.functions == shown[0].functions for s in shown)
    top = 108 * max(float(np.concatenate([s.outside, s.inside]).max()) for s in shown)
    for s in shown:
        first = alone or s.functions == "single"
        domain = [0.0, 1.0] if alone else [0.0, 0.46] if first else [0.54, 1.0]
        row = data.groups.index(s.group)
        tall = [1 - (row + 1) / down + (_GAP / picture.plot_height if row < down - 1 else 0), 1 - row / down]
        panel = picture.panel(
            domain,
            tall,
            x={"range": [0, float(data.edges[-1])], "labelalias": style.y_axis(theme)["labelalias"]},
            y={"range": [0, top], "nticks": 4, "showticklabels": first},
        )
        x, y = panel.x, panel.y
        picture.add(*_steps(data, s, theme, x, y))
        picture.write(
            style.label(s.name, theme, strong=True, **style.corner(x, y, "right", "top"), yshift=8),
            *_peaks(data, s, theme, x, y, top, alone),
        )
        if row == down - 1:
            picture.titles(panel, "predictive entropy, nats")
    picture.write(style.y_title("images, %", theme, "x", "y", picture.left))
    return picture.figure()


def _steps(data: Entropies, s: Spectrum, theme: Theme, x: str, y: str) -> list[Trace]:
    """Test images as a grey ground, the other images as a line over it."""
    muted, colour = style.token("muted", theme), s.look.colour(theme)
    traces = []
    for share, ink, fill, what in (
        (s.inside, muted, style.softened(muted, 0.28), "test images"),
        (s.outside, colour, style.softened(colour, 0.12), data.title),
    ):
        said = f"<b>{what}</b>, {s.name}<br>from %{{x:.2f}} nats<br>%{{y:.1f}} % of images<extra></extra>"
        traces.append(scatter(
            "lines", data.edges, 100 * np.append(share, share[-1]), axes=(x, y), fill="tozeroy", fillcolor=fill,
            line={"shape": "hv", "color": ink, "width": 1 if ink == muted else 2}, hovertemplate=said,
            legendgroup=s.group, name=s.name,
        ))  # fmt: skip
    return traces


def _peaks(data: Entropies, s: Spectrum, theme: Theme, x: str, y: str, top: float, alone: bool) -> list[Json]:
    """Names of the two histograms where each stands highest over the other, above what lies under the name."""
    found: list[Json] = []
    both, bins, last = np.maximum(s.inside, s.outside), len(s.inside), -1.0
    for share, other, what in ((s.inside, s.outside, "test images"), (s.outside, s.inside, inside(data.title))):
        at = int((share - other).argmax())
        right = at < bins / 2
        wide = int(np.ceil(len(what) * bins / (80 if alone else 36)))
        under = both[at : at + wide] if right else both[max(0, at - wide) : at + 1]
        height = min(100 * float(under.max()) + 0.01 * top, 0.93 * top)
        height = height + 0.08 * top if abs(height - last) < 0.07 * top else height
        last = height
        found.append(
            style.label(
                what, theme, strong=what != "test images", xref=x, yref=y, x=float(data.edges[at if right else at + 1]),
                y=height, xanchor="left" if right else "right", yanchor="bottom",
            )
        )  # fmt: skip
    return found
