"""What a figure is: numbers first (`collect`), then its words (`tell`) and a picture of them (`draw`).

    @figure("calibration", order=85, question="Does it know what it knows?", needs=("predict",), card=300, ...)
    def calibration(results: Results, options: CalibrationOptions) -> Calibration: ...

    @calibration.tell
    def tell(data: Calibration) -> Words: ...

    @calibration.lay  # where several experiments' can lie over each other (`layers`)
    def lay(data: Calibration) -> Layer: ...

    @calibration.draw
    def draw(data: Calibration, theme: Theme) -> go.Figure: ...

`collect` asks and computes and is tested to the digit; `tell` and `draw` neither ask nor compute. Plotly is imported
inside `draw` only, so that declaring figures costs nothing.
"""

from __future__ import annotations

import base64
import csv as csv_module
import functools
import hashlib
import importlib.metadata
import io
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, get_type_hints

import numpy as np
import orjson

import modescape.registry as registry
from modescape.drawing import style
from modescape.drawing.groups import left_out
from modescape.drawing.layers import Layer
from modescape.drawing.options import FigureOptions
from modescape.drawing.reading import FigureNotReady
from modescape.drawing.style import Theme
from modescape.errors import NotFound
from modescape.names import as_cell
from modescape.records import Group, Role
from modescape.results import Results
from modescape.voice import HERE, Voice

if TYPE_CHECKING:
    import plotly.graph_objects as go


Cell = str | int | float | None


@dataclass(frozen=True)
class Size:
    """Pixels that are reserved before anything is drawn: for a card beside others, and for a page of its own."""

    card: int = 432
    page: int = 592


@dataclass(frozen=True)
class Note:
    """One line of the small table beside a figure. look: the key whose symbol stands before the label."""

    label: str
    values: tuple[str, ...]
    look: str = ""
    strong: bool = False

    @classmethod
    def of(cls, group: str, label: str, values: tuple[str, ...], *, strong: bool | None = None) -> Note:
        """Of a group, with its own look; independent runs stand out unless it is said."""
        return cls(label, values, style.look(group).key, group == Group.INDEPENDENT if strong is None else strong)


@dataclass(frozen=True)
class Notes:
    """The small table beside a figure: heads of its columns, its lines, and sentences under it."""

    head: tuple[str, ...] = ()
    lines: tuple[Note, ...] = ()
    text: tuple[str, ...] = ()


@dataclass(frozen=True)
class Words:
    """caption: a paragraph with n and spread; summary: one sentence with numbers, the accessible name; notes: the small
    table."""

    caption: str
    summary: str
    notes: Notes = Notes()

    def said(self, voice: Voice) -> Words:
        """As an experiment says them."""
        lines = tuple(
            replace(line, label=voice(line.label), values=tuple(map(voice, line.values))) for line in self.notes.lines
        )
        notes = Notes(tuple(map(voice, self.notes.head)), lines, tuple(map(voice, self.notes.text)))
        return Words(voice(self.caption), voice(self.summary), notes)


@dataclass(frozen=True)
class Legend:
    """One thing that can be shown and hidden. group: `legendgroup` of its traces; look: key of style.looks; on: drawn,
    else only on request (`method`)."""

    group: str
    title: str
    look: str
    count: int | None = None
    on: bool = True

    @classmethod
    def of(cls, group: str, title: str, count: int | None = None, *, on: bool = True) -> Legend:
        """Of a group, with its own look."""
        return cls(group, title, style.look(group).key, count, on)


@dataclass(frozen=True)
class Table:
    """A tidy table, one row per point or pair; `solution` columns hold numbers within the experiment."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, kw_only=True)
class FigureData(ABC):
    """The numbers of one figure, before any word and colour.

    legend: what is shown, in order; partial: "after 4 of 10 runs" or ""; missing: which part is not there and why, or
    ""; thinned: what was left out of the picture (never of the table), or ""; lost: sentences about what has failed,
    which end the caption. size, lost and voice (how the experiment calls its parts) are filled in by the declaration.
    """

    options: FigureOptions
    legend: tuple[Legend, ...] = ()
    partial: str = ""
    missing: str = ""
    thinned: str = ""
    lost: str = ""
    size: Size = Size()
    voice: Voice = HERE

    @property
    def card_height(self) -> int:
        return self.size.card

    @property
    def page_height(self) -> int:
        return self.size.page

    @property
    def is_large(self) -> bool:
        """Alone on a page."""
        return self.options.size == "page"

    def is_plain(self, entry: Legend) -> bool:
        """Whether its colour is not its own here, so that its symbol alone stands for it: colours are runs, or
        experiments."""
        return getattr(self.options, "color", "") == "run"

    @property
    def pixels(self) -> int:
        """Height of the picture."""
        return self.page_height if self.is_large else self.card_height

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Heads of the table."""

    @abstractmethod
    def rows(self) -> list[tuple[Cell, ...]]:
        """Lines of the table, complete; None where a number is undefined."""

    def table(self) -> Table:
        return Table(self.columns, tuple(self.rows()))


D = TypeVar("D", bound=FigureData)
O = TypeVar("O", bound=FigureOptions)  # noqa: E741


class Declared(Generic[D, O]):
    """A figure whose `collect` is known; `tell` and then `draw` complete and register it. Options left open are the
    experiment's."""

    def __init__(
        self, collect: Callable[[Results, O], D], complete: Callable[..., registry.Figure], size: Size, *, of_runs: bool
    ) -> None:
        self._collect = collect
        self._size = size
        self._of_runs = of_runs
        self._tell: Callable[[D], Words] | None = None
        self._lay: Callable[[D], Layer] | None = None
        self._complete = complete

    def __call__(self, results: Results, options: O) -> D:
        voice = getattr(results, "voice", HERE)  # which what a test passes instead of results need not have
        try:
            data = self._collected(results, options)
        except FigureNotReady as waiting:
            if not voice.elsewhere:
                raise
            reason, waits_for = voice(waiting.reason), waiting.waits_for
            raise FigureNotReady(reason, waits_for=waits_for, closed=waiting.closed) from None
        lost = left_out(results, [entry.group for entry in data.legend]) if self._of_runs else ""
        return replace(
            data, size=self._size, lost=lost, voice=voice, partial=voice(data.partial), missing=voice(data.missing),
            thinned=voice(data.thinned),
            legend=tuple(replace(entry, title=voice(entry.title)) for entry in data.legend),
        )  # fmt: skip

    def _collected(self, results: Results, options: O) -> D:
        try:
            return self._collect(results, options.of(results))
        except NotFound as missing:
            if results.solutions(role=Role.OPTIMUM):
                raise
            # classes and labels come with the first run's predictions: others may be there before, or without them
            waits_for, closed = ("train", "predict"), not results.healthy
            raise FigureNotReady(str(missing), waits_for=waits_for, closed=closed) from None

    def tell(self, function: Callable[[D], Words]) -> Callable[[D], Words]:
        self._tell = function
        return function

    def lay(self, function: Callable[[D], Layer]) -> Callable[[D], Layer]:
        """What of it can be laid over that of other experiments; before `draw`, of figures of which something can."""
        self._lay = function
        return function

    def draw(self, function: Callable[[D, Theme], go.Figure]) -> Callable[[D, Theme], go.Figure]:
        """Raises ValueError for a figure that has no words (a programming error)."""
        tell = self._tell
        if tell is None:
            raise ValueError("a figure needs its words, so declare `tell` before `draw`")

        def told(data: D) -> Words:
            words = tell(data)
            words = replace(words, caption=f"{words.caption} {data.lost}") if data.lost else words
            return words.said(data.voice)

        @functools.wraps(function)
        def drawn(data: D, theme: Theme) -> go.Figure:
            picture = function(data, theme)
            return _spoken(picture, data.voice) if data.voice.elsewhere else picture

        registry.figures.add(self._complete(call=self, tell=told, draw=drawn, lay=self._lay))
        return function


_READ = frozenset({"name", "text", "hovertext", "hovertemplate", "title", "ticktext", "x", "y"})  # of traces and layout


def _spoken(picture: go.Figure, voice: Voice) -> go.Figure:
    """The picture with its texts as the experiment says them."""
    import plotly.graph_objects as go

    traces = [_said(trace.to_plotly_json(), voice) for trace in picture.data]  # with arrays as they are
    return go.Figure(traces, _said(picture.layout.to_plotly_json(), voice))


def _said(value: Any, voice: Voice, *, is_read: bool = False) -> Any:
    if isinstance(value, str):
        return voice(value) if is_read else value
    if isinstance(value, dict):
        return {key: item if key == "meta" else _said(item, voice, is_read=key in _READ) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_said(item, voice, is_read=is_read) for item in value]
    if isinstance(value, np.ndarray) and value.dtype.kind in "UO":
        return [_said(item, voice, is_read=is_read) for item in value.tolist()]
    return value


def of_experiment(figure: registry.Figure, voice: Voice) -> registry.Figure:
    """The declaration as an experiment says it: its title, question and summary."""
    if not voice.elsewhere:
        return figure
    return replace(figure, title=voice(figure.title), question=voice(figure.question), summary=voice(figure.summary))


def figure(
    name: str,
    *,
    order: int,
    title: str,
    question: str,
    summary: str,
    source: str,
    needs: tuple[str, ...],
    paper: str = "",
    card: int = Size.card,
    page: int = Size.page,
    full: bool = False,
    of_runs: bool = True,
) -> Callable[[Callable[[Results, O], D]], Declared[D, O]]:
    """Declare a figure. order: place in the argument; question: its heading; needs: stage kinds it shows; card, page:
    height in px, where it depends on nothing; full: the card takes the whole width of the
    page; of_runs: its caption ends with which runs failed. What can be asked of it is the type of `options`."""
    complete = functools.partial(
        registry.Figure, name=name, order=order, place=order, title=title, question=question, summary=summary,
        source=source, needs=needs, paper=paper, card=card, full=full,
    )  # fmt: skip

    def declared(collect: Callable[[Results, O], D]) -> Declared[D, O]:
        asked = get_type_hints(collect).get("options")
        if asked is None:
            raise ValueError(f"figure {name!r}: annotate the type of `options`, which says what can be asked of it")
        return Declared(collect, functools.partial(complete, options=asked), Size(card, page), of_runs=of_runs)

    return declared


def picture(name: str, results: Results, theme: Theme = "light", **options: Any) -> go.Figure:
    """Collect and draw in one call, for notebooks. Raises FigureNotReady and InvalidInput."""
    entry = registry.figures[name]
    drawn: go.Figure = entry.draw(entry.call(results, entry.options.model_validate(options)), theme)
    return drawn


@registry.while_known
def figure_version() -> str:
    """Changes whenever a picture might: digest of drawing code, plug-ins' too, looks, the theory behind it and Plotly's
    version."""
    package = Path(__file__).parents[1]
    sources = [path for room in ("drawing", "figures") for path in sorted((package / room).rglob("*.py"))]
    sources += [package / "science" / "theory.py", package / "voice.py"]
    digest = hashlib.sha256(importlib.metadata.version("plotly").encode())
    digest.update(repr(style.looks()).encode())
    digest.update("".join(one.brought.digest for one in registry.figures.values() if one.brought).encode())
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def encode(drawn: go.Figure, arrays: Literal["typed", "list"] = "typed") -> bytes:
    """The figure as JSON. typed: arrays as base64 float32, for the browser; list: plain numbers, NaN as null."""
    plain = drawn.to_dict()
    return orjson.dumps(_plain(plain) if arrays == "list" else plain, option=orjson.OPT_SERIALIZE_NUMPY)


def decode(content: bytes) -> go.Figure:
    """What `encode` wrote."""
    import plotly.graph_objects as go

    return go.Figure(orjson.loads(content))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        if "bdata" in value and "dtype" in value:
            array = np.frombuffer(base64.b64decode(value["bdata"]), dtype=np.dtype(value["dtype"]))
            shape = [int(n) for n in str(value["shape"]).split(",")] if "shape" in value else [-1]
            return _plain(array.reshape(shape).tolist())
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def csv(data: FigureData) -> str:
    """The whole table, undefined numbers as empty cells, floats in full precision."""
    out = io.StringIO()
    writer = csv_module.writer(out, lineterminator="\n")
    writer.writerow(map(as_cell, data.columns))
    writer.writerows(map(as_cell, row) for row in data.rows())  # None becomes an empty cell
    return out.getvalue()
