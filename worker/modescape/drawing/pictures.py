"""Pictures of figures by a browser that nobody sees (Kaleido with Chrome or Chromium): SVG, PNG and PDF.

    if not missing():
        svg, png = drawn_as([Wanted(figure, "svg"), Wanted(figure, "png", scale=2)])

A page's figures are drawn by Plotly's script, and so are these: they look alike to the pixel. The browser begins with
the call and ends with it, and asks no other host: the script is the one that Plotly's package brings.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from modescape import extras
from modescape.errors import ConfigurationError

if TYPE_CHECKING:
    import plotly.graph_objects as go

_BROWSERS = (
    "google-chrome", "google-chrome-stable", "chrome", "chromium", "chromium-browser", "microsoft-edge",
)  # fmt: skip
_SECONDS = 90.0  # until a picture must be there
Vector = Literal["svg", "png", "pdf"]


@dataclass(frozen=True)
class Wanted:
    """A picture. drawn: with its width and height in the layout, px; scale: device pixels for each, of PNG."""

    drawn: go.Figure
    form: Vector
    scale: float = 1.0


def browser() -> str | None:
    """The browser that draws: BROWSER_PATH, or the first that is found."""
    named = os.environ.get("BROWSER_PATH")
    return shutil.which(named) if named else next(filter(None, map(shutil.which, _BROWSERS)), None)


def missing() -> str:
    """What keeps pictures from being made here, in words; "" when nothing does."""
    if not extras.has("kaleido"):
        return f"Kaleido is not installed on the server: {extras.line('pictures')}"
    if browser() is None:
        return "no Chrome or Chromium is found on the server; install one, or name it in BROWSER_PATH"
    return ""


def prepare() -> None:
    """Load what drawing takes, before forks of this process draw."""
    import plotly.graph_objects  # noqa: F401

    if not missing():
        import kaleido  # noqa: F401


def drawn_as(wanted: Sequence[Wanted]) -> list[bytes]:
    """All of them, by one browser. Raises ConfigurationError where something is missing, or the browser fails."""
    if lack := missing():
        raise ConfigurationError(lack)
    return asyncio.run(_drawn(wanted))


async def _drawn(wanted: Sequence[Wanted]) -> list[bytes]:
    import plotly
    from kaleido import Kaleido

    script = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    # Formulas are no part of our figures: MathJax would be asked for elsewhere.
    async with Kaleido(n=1, timeout=_SECONDS, plotlyjs=script, mathjax=False, path=browser()) as kaleido:
        return [await kaleido.calc_fig(one.drawn, opts=_options(one)) for one in wanted]


def _options(one: Wanted) -> dict[str, Any]:
    size = {"width": one.drawn.layout.width, "height": one.drawn.layout.height}
    return {"format": one.form, "scale": one.scale if one.form == "png" else 1, **size}
