"""A figure that is taken away says what it is: its question, the experiment, its legend and its caption go with it.

framed(drawn, Frame.of(figure, data, "My experiment"), "light", 960)      # a picture, 960 px wide
html(drawn, words)                                                       # one file that shows it anywhere
"""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from modescape.drawing import style
from modescape.drawing.figure import FigureData, Legend
from modescape.drawing.style import LETTER, Theme
from modescape.records import Json
from modescape.registry import Figure

if TYPE_CHECKING:
    import plotly.graph_objects as go

PAD = 16  # px beside and between the parts
TITLE, BODY = 16, 12  # px of their letters
LINE = {TITLE: 22, BODY: 16}  # px of their lines
LEGEND_ROW = 20  # px
LEGEND_GAP = 45  # px of an entry beside its text: Plotly's symbol and spaces
PAGE_WIDTH = 960  # px, at least, of a page's plot: narrower ones would break its legend into more rows


@dataclass(frozen=True)
class Frame:
    """What a picture says of itself. title: the question it answers; name: the experiment's; plain: groups of which
    the symbol alone tells, so it is in plain ink."""

    title: str
    name: str
    caption: str
    legend: tuple[Legend, ...] = ()
    plain: frozenset[str] = frozenset()

    @classmethod
    def of(cls, figure: Figure, data: FigureData, name: str) -> Frame:
        """Of a figure of the experiment of that name; the legend is of what is drawn."""
        said = " ".join(filter(None, (figure.tell(data).caption, data.partial, data.missing, data.thinned)))
        shown = tuple(entry for entry in data.legend if entry.on)
        plain = frozenset(entry.group for entry in shown if data.is_plain(entry))
        return cls(data.voice(figure.question), name, said, shown, plain)


def framed(drawn: go.Figure, frame: Frame, theme: Theme, width: int) -> go.Figure:
    """The picture `width` px wide with its words around it: title, experiment and legend above, caption below.

    The plot keeps its height, the picture grows. Changes `drawn`.
    """
    height, margin = fitted(drawn, width), drawn.layout.margin.to_plotly_json()
    title, name, caption = (
        _lines(text, width, size) for text, size in ((frame.title, TITLE), (frame.name, BODY), (frame.caption, BODY))
    )
    heads = PAD + LINE[TITLE] * len(title) + LINE[BODY] * len(name) + PAD // 2
    rows = _add_legend(drawn, frame, theme, width)
    above, below = heads + rows, LINE[BODY] * len(caption) + PAD
    top = margin["t"] + above - PAD
    drawn.update_layout(
        height=height + above + below, width=width, autosize=False, paper_bgcolor=style.token("card", theme),
        margin={"t": margin["t"] + above, "b": margin["b"] + below}, legend_y=1 - heads / (height + above + below),
    )  # fmt: skip
    left = PAD - margin["l"]
    for lines, size, ink, y, up in (
        (title, TITLE, "text", 1, top),
        (name, BODY, "muted", 1, top - LINE[TITLE] * len(title)),
        (caption, BODY, "muted", 0, -margin["b"]),
    ):
        for i, line in enumerate(lines):
            drawn.add_annotation(_line(line, size, style.token(ink, theme), y=y, left=left, up=up - LINE[size] * i))
    return drawn


def fitted(drawn: go.Figure, width: int) -> int:
    """px of height that a picture needs when it is so wide: of maps, which keep their shape, no more than they fill."""
    margin, tall = drawn.layout.margin, (drawn.layout.meta or {}).get("tall")
    height = int(drawn.layout.height)
    return min(height, margin.t + margin.b + math.ceil(tall * (width - margin.l - margin.r))) if tall else height


def _line(text: str, size: int, colour: str, *, y: int, left: float, up: float) -> Json:
    """A line of text beginning px from the plot's upper left corner (y = 1) or its lower one."""
    return {
        "text": escape(text, quote=False), "font": {"size": size, "color": colour}, "name": "frame", "align": "left",
        "showarrow": False, "borderpad": 0, "xref": "paper", "yref": "paper", "x": 0, "y": y, "xanchor": "left",
        "yanchor": "top", "xshift": left, "yshift": up,
    }  # fmt: skip


def _lines(text: str, width: int, size: int) -> list[str]:
    """The text in lines that fit; words longer than a line are cut."""
    room, lines = (width - 2 * PAD) * BODY / size, [""]
    for word in filter(None, re.split(r"[ \n\t]+", text)):  # numbers hold spaces at which no line breaks
        if lines[-1] and _long(f"{lines[-1]} {word}") > room:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
        while _long(lines[-1]) > room:
            fits = next(n for n in range(len(lines[-1]), 0, -1) if n == 1 or _long(lines[-1][:n]) <= room)
            lines[-1:] = [lines[-1][:fits], lines[-1][fits:]]
    return [line for line in lines if line]


def _long(text: str) -> float:
    """About how many px 12 px text takes, rather too many; fonts differ."""
    wide = sum(letter in "MWmw@%&" or unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return LETTER * len(text) + 5.5 * wide


def _add_legend(drawn: go.Figure, frame: Frame, theme: Theme, width: int) -> int:
    """Plotly's own legend of what the page shows beside the picture, at its upper edge; its height in px.

    Each entry is a trace without points: a figure's own traces may be many for one entry, or look otherwise.
    """
    legend = frame.legend
    if not legend:
        return 0
    drawn.update_traces(showlegend=False)
    if "xaxis" not in drawn.layout.to_plotly_json():  # a scene alone: the entries' traces bring axes with them
        drawn.update_layout(xaxis_visible=False, yaxis_visible=False)
    for entry in legend:
        look = style.look(entry.look)
        colour = style.token("text", theme) if entry.group in frame.plain else look.colour(theme)
        drawn.add_scatter(
            x=[None], y=[None], name=escape(entry.title, quote=False), legendgroup=entry.group, showlegend=True,
            mode="lines" if look.symbol.startswith("line") else "markers",
            marker=style.marker(look, theme, colour=colour),
            line={"color": colour, "dash": look.dash, "width": 1.5}, hoverinfo="skip",
        )  # fmt: skip
    longest = max(_long(entry.title) for entry in legend) + PAD
    room = width - drawn.layout.margin.l - drawn.layout.margin.r  # Plotly makes its legend no wider than the plot
    across = max(1, int(room // (longest + LEGEND_GAP)))
    drawn.update_layout(
        showlegend=True,
        legend={
            "orientation": "h", "xref": "container", "yref": "container", "x": PAD / width, "xanchor": "left", "y": 1,
            "yanchor": "top", "itemwidth": 30, "entrywidth": longest, "entrywidthmode": "pixels",
            "bgcolor": style.TRANSPARENT, "font": {"size": BODY, "color": style.token("text", theme)},
            "tracegroupgap": 0,
        },
    )  # fmt: skip
    return LEGEND_ROW * math.ceil(len(legend) / across) + PAD // 2


def plot(drawn: go.Figure, frame: Frame, *, theme: Theme = "light", script: bool = True) -> str:
    """The picture with its legend as a part of a page. script: with Plotly's own, which a page needs once. Changes
    `drawn`."""
    from plotly.io import to_html

    margin, height = drawn.layout.margin, drawn.layout.height
    rows = _add_legend(drawn, frame, theme, PAGE_WIDTH)
    drawn.update_layout(height=height + rows, margin={"t": margin.t + rows})
    shown: str = to_html(
        drawn, full_html=False, include_plotlyjs=script,
        # The library's own picture would have none of the words around the plot.
        config={
            "displaylogo": False, "responsive": True, "showSendToCloud": False, "modeBarButtonsToRemove": ["toImage"],
        },
    )  # fmt: skip
    return shown


def html(drawn: go.Figure, frame: Frame, *, theme: Theme = "light") -> str:
    """One file that shows the figure with its words, Plotly's script inside; asks no other host. Changes `drawn`."""
    shown = plot(drawn, frame, theme=theme)
    ink, card = style.token("text", theme), style.token("card", theme)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(frame.title)}</title>'
        '<meta name="viewport" content="width=device-width">'
        f"<style>body{{font:16px/1.5 {style.FONT};color:{ink};background:{card};margin:24px}}"
        f"h1,p{{overflow-wrap:anywhere}}p{{max-width:68ch}}.plotly-graph-div{{min-width:{PAGE_WIDTH}px}}</style></head>"
        f"<body><h1>{escape(frame.title)}</h1><p>{escape(frame.name)}</p>{shown}<p>{escape(frame.caption)}</p>"
        "</body></html>"
    )
