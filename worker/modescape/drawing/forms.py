"""The forms in which a figure is taken home: what each is, what it takes to make it, and how it is made.

    FORMS["pdf"].missing()          # "", or why there is none here
    made(Home(figure, data, name="My experiment", slug="my-experiment"), Asked("pdf"))

JSON, CSV and HTML are text of the numbers that a page shows anyway (`figure`, `frame`). What the others take (a
browser, pyarrow) is never loaded by a web process: another one makes them (`making`).
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any

import numpy as np

from modescape import extras
from modescape.drawing import latex, pictures
from modescape.drawing.figure import FigureData, Table, csv, encode
from modescape.drawing.frame import Frame, framed, html
from modescape.drawing.style import Theme
from modescape.errors import InvalidInput
from modescape.registry import Figure

LEAST, MOST = 320, 4000  # px of a picture's width and height
PAGE = 960  # px, as wide as a figure is alone
LARGEST = 4.0  # device pixels for each
DEVICE = 8000  # device pixels of a side of a PNG: a browser takes 4 bytes for each of the square


@dataclass(frozen=True)
class Form:
    """title: on buttons; media: its type; summary: what it is, in a sentence; missing: what keeps it from being made
    here, "" when nothing does; is_text: written of what a page needs anyway, so a web process makes it itself."""

    name: str
    title: str
    media: str
    summary: str
    missing: Callable[[], str] = field(repr=False, default=lambda: "")
    is_text: bool = False


def _lacks_tables() -> str:
    return "" if extras.has("pyarrow") else f"pyarrow is not installed on the server: {extras.line('tables')}"


def _lacks_latex() -> str:
    return "" if extras.has("pylatexenc") else f"pylatexenc is not installed on the server: {extras.line('reports')}"


FORMS = {
    one.name: one
    for one in (
        Form("json", "JSON", "application/json", "As Plotly draws it, for a program.", is_text=True),
        Form("csv", "CSV", "text/csv; charset=utf-8", "Every number in it, a row each.", is_text=True),
        Form("html", "HTML", "text/html; charset=utf-8", "One file that shows it anywhere.", is_text=True),
        Form("svg", "SVG", "image/svg+xml", "A drawing of any size.", pictures.missing),
        Form("png", "PNG", "image/png", "A picture of a chosen size.", pictures.missing),
        Form("pdf", "PDF", "application/pdf", "A drawing for print and LaTeX.", pictures.missing),
        Form("parquet", "Parquet", "application/vnd.apache.parquet", "Every number, with its type.", _lacks_tables),
        Form("tex", "LaTeX", "application/x-tex", "The figure and its numbers for a paper.", _lacks_latex),
        Form("py", "Python", "text/x-python; charset=utf-8", "Code and numbers that draw it again."),
    )
}


@dataclass(frozen=True)
class Asked:
    """width: px of the picture; height: px of the plot, None as on the page; scale: device pixels for each, of PNG."""

    form: str
    theme: Theme = "light"
    width: int = PAGE
    height: int | None = None
    scale: float = 2.0


@dataclass(frozen=True)
class Home:
    """A figure with what says where it is from. given: options as they were asked for; link: the address of the server,
    or the folder of the home, that has it."""

    figure: Figure
    data: FigureData
    name: str
    slug: str
    given: Mapping[str, Any] = field(default_factory=dict)
    link: str = ""

    @property
    def frame(self) -> Frame:
        return Frame.of(self.figure, self.data, self.name)

    @property
    def stem(self) -> str:
        """Of its files."""
        return f"{self.slug}-{self.figure.name}"


def named(name: str) -> Form:
    """Raises InvalidInput."""
    if name not in FORMS:
        raise InvalidInput(f"there is no form {name[:40]!r}", field="form", allowed=", ".join(FORMS))
    return FORMS[name]


def checked(asked: Asked) -> Asked:
    """Raises InvalidInput."""
    for name, side in (("width", asked.width), ("height", asked.height or LEAST)):
        if not (LEAST if name == "width" else 1) <= side <= MOST:
            raise InvalidInput(f"is {side}", field=name, allowed=f"{LEAST} to {MOST} px")
    if not 1 <= asked.scale <= LARGEST or (asked.form == "png" and asked.width * asked.scale > DEVICE):
        allowed = f"1 to {LARGEST:g}, and {DEVICE} pixels of the picture's width at most"
        raise InvalidInput(f"is {asked.scale:g} at a width of {asked.width}", field="scale", allowed=allowed)
    return asked


def made(home: Home, asked: Asked) -> bytes:
    """The figure in the form asked for. Raises ConfigurationError for a form that is missing here, InvalidInput for a
    size that no picture has."""
    checked(asked)
    return _MAKE[named(asked.form).name](home, asked)


def picture(home: Home, asked: Asked, *, words: bool = True) -> pictures.Wanted:
    """With its words around it, to be drawn: many are drawn by one browser (`pictures.drawn_as`). words: title and
    caption, which a document may say itself; the legend always."""
    drawn = home.figure.draw(home.data, asked.theme)
    if asked.height is not None:
        # asked for, it holds also where maps leave some of it empty
        drawn.update_layout(height=asked.height, meta={**(drawn.layout.meta or {}), "tall": 0})
    frame = home.frame if words else replace(home.frame, title="", name="", caption="")
    return pictures.Wanted(framed(drawn, frame, asked.theme, asked.width), asked.form, asked.scale)  # type: ignore[arg-type]


def _picture(home: Home, asked: Asked) -> bytes:
    return pictures.drawn_as([picture(home, asked)])[0]


def _json(home: Home, asked: Asked) -> bytes:
    return encode(home.figure.draw(home.data, asked.theme), "list")


def _csv(home: Home, asked: Asked) -> bytes:
    return csv(home.data).encode()


def _html(home: Home, asked: Asked) -> bytes:
    return html(home.figure.draw(home.data, asked.theme), home.frame, theme=asked.theme).encode()


def _parquet(home: Home, asked: Asked) -> bytes:
    """Its columns as numbers where all their values are; the words beside them in the file's metadata."""
    extras.require("tables", "Parquet", "pyarrow")
    import pyarrow as pa
    import pyarrow.parquet as parquet

    found, frame = home.data.table(), home.frame
    columns = {name: pa.array(_typed([row[i] for row in found.rows])) for i, name in enumerate(found.columns)}
    about = {
        "title": frame.title, "experiment": home.name, "figure": home.figure.name, "caption": frame.caption,
        "modescape": version("modescape"),
    }  # fmt: skip
    out = io.BytesIO()
    parquet.write_table(pa.table(columns).replace_schema_metadata(about), out)
    return out.getvalue()


def _typed(values: list[Any]) -> list[Any]:
    plain = [one.item() if isinstance(one, np.generic) else one for one in values]
    kinds = {type(one) for one in plain if one is not None}
    if kinds <= {int, float}:
        return [float(one) if one is not None and float in kinds else one for one in plain]
    return [None if one is None else str(one) for one in plain] if kinds != {bool} else plain


def _latex(home: Home, asked: Asked) -> bytes:
    return latex_of(home, home.data.table(), picture=f"{home.stem}.pdf").encode()


def latex_of(home: Home, table: Table, *, picture: str) -> str:
    """The figure, and the table behind it. picture: the name of its PDF beside the document."""
    frame = home.frame
    legend = ", ".join(entry.title + (f" (n = {entry.count})" if entry.count else "") for entry in frame.legend)
    said = " ".join(filter(None, (frame.title, frame.caption, legend and f"Shown: {legend}.")))
    head = [
        f"% {home.figure.name} of {home.name!r}, by Modescape {version('modescape')}".replace("\n", " "),
        f"% Its picture: {picture}. Needs " + ", ".join(rf"\usepackage{{{one}}}" for one in latex.PACKAGES) + ".",
        "",
    ]
    numbers = f"Numbers of figure {home.figure.name}: {frame.title}"
    return "\n".join([
        *head, latex.figure(picture, caption=said, label=f"fig:{home.stem}"),
        latex.table(table.columns, table.rows, caption=numbers, label=f"tab:{home.stem}"),
    ])  # fmt: skip


def _python(home: Home, asked: Asked) -> bytes:
    return code(home, asked.theme).encode()


def opening(link: str) -> str:
    """The expression that opens what `link` names."""
    if link.startswith(("http://", "https://")):
        return f'ms.connect({link!r})  # with token="..." where the server asks for one'
    return f"ms.open({link!r})" if link else 'ms.open()  # or ms.connect("https://...")'


def call(slug: str, figure: str, given: Mapping[str, Any]) -> str:
    """The expression that draws a figure of an experiment of `lab`."""
    options = "".join(f", {key}={_literal(value)}" for key, value in given.items())
    return f"lab.experiment({slug!r}).figure({figure!r}{options})"


def code(home: Home, theme: Theme) -> str:
    """A script that draws the figure again of the numbers in it, with Plotly alone; and where they are from."""
    about = f"{home.frame.title} ({home.figure.name} of {home.name})"
    found = json.loads(encode(framed(home.figure.draw(home.data, theme), home.frame, theme, PAGE), "list"))
    origin = call(home.slug, home.figure.name, {**home.given, "theme": theme})
    return "\n".join([
        "# " + " ".join(about.split()), "# Needs: pip install plotly",
        f"# From: import modescape as ms; lab = {opening(home.link)}", f"#       {origin}",
        "import plotly.graph_objects as go", "",
        "data = [", *(f"    {trace!r}," for trace in found["data"]), "]", f"layout = {found['layout']!r}", "",
        "figure = go.Figure(data, layout)",
        f"figure.write_html({home.stem + '.html'!r})", f"print({'wrote ' + home.stem + '.html'!r})", "",
    ])  # fmt: skip


def _literal(value: Any) -> str:
    return repr(json.loads(json.dumps(value)))


_MAKE: dict[str, Callable[[Home, Asked], bytes]] = {
    "json": _json, "csv": _csv, "html": _html, "svg": _picture, "png": _picture, "pdf": _picture,
    "parquet": _parquet, "tex": _latex, "py": _python,
}  # fmt: skip
