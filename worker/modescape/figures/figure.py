"""What a figure is: numbers first (`collect`), then a picture of them (`draw`).

    @figure("calibration", order=85, question="Does it know what it knows?", paper="", needs=("predict",), ...)
    def calibration(results: Results, options: CalibrationOptions) -> Calibration: ...

    @calibration.draw
    def _(data: Calibration, theme: Theme) -> go.Figure: ...

`collect` asks and computes and is tested to the digit; `draw` neither asks nor computes. Plotly is imported inside
`draw` only, so that declaring figures costs nothing.
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol, Self, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import Field, field_validator

from modescape import registry
from modescape.errors import Conflict, InvalidInput, NotFound
from modescape.figures import style
from modescape.figures.style import Theme
from modescape.registry import Options
from modescape.spec import ExperimentSpec, Split

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from modescape.claims.record import ClaimRecord

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Cell = str | int | float | None

MAX_POINTS = 2000  # SVG marks in one plot that a browser still brushes within 150 ms
MAX_ROWS = 128  # rows of a heat map; the whole matrix is a download
PAGE_HEIGHT = 592  # px of a figure alone on a page


class FigureNotReady(Conflict):
    """The figure has nothing to show. `waits_for` names the stages that will give it; empty: not in this spec, or
    `closed` because of what has failed."""

    def __init__(self, reason: str, *, waits_for: Sequence[str] = (), closed: bool = False) -> None:
        self.reason = reason
        self.waits_for = tuple(waits_for)
        self.closed = closed
        super().__init__(reason)

    @property
    def planned(self) -> bool:
        return bool(self.waits_for)


# ---- what figures read ----


class Solution(Protocol):
    """The columns of a solution that figures use (tables.Solution)."""

    @property
    def number(self) -> int: ...
    @property
    def run(self) -> int: ...
    @property
    def role(self) -> str: ...
    @property
    def method(self) -> str | None: ...
    @property
    def sample_set(self) -> str | None: ...
    @property
    def index(self) -> int: ...
    @property
    def epoch(self) -> float | None: ...
    @property
    def strength(self) -> float | None: ...
    @property
    def relative(self) -> float | None: ...


class Measurement(Protocol):
    """The columns of a group's number that figures use (tables.Measurement)."""

    @property
    def subject(self) -> str: ...
    @property
    def metric(self) -> str: ...
    @property
    def split(self) -> str | None: ...
    @property
    def corruption(self) -> str | None: ...
    @property
    def intensity(self) -> int | None: ...
    @property
    def value(self) -> float | None: ...
    @property
    def n(self) -> int | None: ...
    @property
    def details(self) -> Mapping[str, Any]: ...


class Matrix(Protocol):
    """values [rows, columns]; rows are solution numbers, columns too or names of coordinates."""

    @property
    def values(self) -> Floats: ...
    @property
    def rows(self) -> Sequence[int]: ...
    @property
    def columns(self) -> Sequence[Any]: ...
    @property
    def details(self) -> Mapping[str, Any]: ...


class Results(Protocol):
    """Everything figures ask of an experiment; modescape.results.Results answers from store and artifacts."""

    @property
    def spec(self) -> ExperimentSpec: ...

    @property
    def failed(self) -> Mapping[int, str]:
        """Run -> why it has failed; no solution of it is among `solutions`."""

    @property
    def healthy(self) -> Sequence[int]:
        """The other runs, also while they train."""

    @property
    def failed_chains(self) -> Mapping[str, Mapping[int, str]]:
        """Method -> the number of its chain -> why that one has failed."""

    def chains(self, method: str) -> int:
        """How many chains of a method there are in all."""

    def skipped(self, kind: str, key: str) -> str:
        """Why a stage has ended and left nothing to use; "" when it did, or has not ended."""

    @property
    def class_names(self) -> Sequence[str]:
        """Raises NotFound before the first prediction."""

    @property
    def steps_per_epoch(self) -> float | None:
        """Optimiser steps an epoch; None before the first training has reported."""

    def solutions(
        self,
        *,
        run: int | None = None,
        role: str | None = None,
        method: str | None = None,
        sample_set: str | None = None,
    ) -> Sequence[Any]:
        """`Solution`s by number."""

    def logits(self, solution: Any, split: str) -> NDArray[np.float32]:
        """[N, K] of one solution."""

    def true_labels(self, split: str) -> Ints:
        """[N]"""

    def scores(self, metric: str, split: str) -> Mapping[int, float]:
        """Solution number -> accuracy, nll, ... on that split, of every solution that has it."""

    def matrix(self, name: str, split: str = ...) -> Any | None:
        """A `Matrix`, or None while it is not computed; weight space has split ""."""

    def points(self, run: int, name: str) -> tuple[Ints, Floats]:
        """Steps and values of a curve; empty when there is none."""

    def measurements(self, *, metric: str | None = None, subject: str | None = None) -> Sequence[Any]:
        """`Measurement`s of groups, narrowed by metric and subject; not those under shift."""

    def shifted(self, metric: str, *, by_type: bool = False) -> Sequence[Any]:
        """`Measurement`s of groups on clean images (intensity 0) and under shift: means over types, or each type."""

    def extra(self, kind: str, key: str) -> dict[str, Any] | None:
        """What a finished stage left for others; None while it is not finished, or not planned."""

    def so_far(self, kind: str, key: str) -> dict[str, Any]:
        """What a stage left, or has saved on the way; empty before that."""

    def array(self, digest: str) -> NDArray[Any]:
        """An array that a stage kept."""

    def claim(self, letter: str) -> ClaimRecord | None:
        """What the verdict says of one claim; None while it is not judged, or never asked."""

    def planned_cuts(self) -> Mapping[str, Mapping[str, Any]]:
        """Name -> parameters of every cut through the landscape that is planned, computed or not."""

    def planes(self) -> Sequence[Any]:
        """Cuts through the landscape of which anything is computed (results.PlaneData)."""


# ---- what figures give ----


@dataclass(frozen=True)
class Note:
    """One line of the small table beside a figure. look: the key whose symbol stands before the label."""

    label: str
    values: tuple[str, ...]
    look: str = ""
    strong: bool = False


@dataclass(frozen=True)
class Notes:
    """The small table beside a figure: heads of its columns, its lines, and sentences under it."""

    head: tuple[str, ...] = ()
    lines: tuple[Note, ...] = ()
    text: tuple[str, ...] = ()


@dataclass(frozen=True)
class Legend:
    """One thing that can be shown and hidden. group: `legendgroup` of its traces; look: key of style.looks; on: drawn,
    else only on request (`method`)."""

    group: str
    title: str
    look: str
    count: int | None = None
    on: bool = True


@dataclass(frozen=True)
class Table:
    """A tidy table, one row per point or pair; `solution` columns hold numbers within the experiment."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, kw_only=True)
class FigureData(ABC):
    """The numbers of one figure, before any colour.

    caption: a paragraph with n and spread; summary: one sentence with numbers, the accessible name; notes: the small
    table; legend: what is shown, in order; partial: "after 4 of 10 runs" or ""; missing: which part is not there
    and why, or ""; thinned: what was left out of the picture (never of the table), or "".
    """

    caption: str
    summary: str
    notes: Notes = Notes()
    legend: tuple[Legend, ...] = ()
    partial: str = ""
    missing: str = ""
    thinned: str = ""

    @property
    def page_height(self) -> int:
        """Pixels it takes alone on a page, reserved there before it is drawn."""
        return PAGE_HEIGHT

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Heads of the table."""

    @abstractmethod
    def rows(self) -> list[tuple[Cell, ...]]:
        """Lines of the table, complete; None where a number is undefined."""

    def table(self) -> Table:
        return Table(self.columns, tuple(self.rows()))


class FigureOptions(Options):
    """Query parameters every figure understands.

    redraws: the picture depends on `method`, so a browser asks for another; else it hides groups by itself.
    """

    redraws: ClassVar[bool] = False

    size: Literal["card", "page"] = Field("card", description="card: beside others; page: alone and large.")

    @classmethod
    def choices(cls, results: Results) -> Mapping[str, Mapping[str, str]]:
        """Options whose values only the experiment knows: value -> its words, the default first."""
        return {}

    def of(self, results: Results) -> Self:
        """These options with what was left open filled in from the experiment."""
        return self


class MainSplitOptions(FigureOptions):
    """Left out, their `split` is the first of the experiment's, which its lists and verdicts are about too."""

    @classmethod
    def choices(cls, results: Results) -> Mapping[str, Mapping[str, str]]:
        return {"split": {split: split for split in results.spec.evaluation.splits}}

    def of(self, results: Results) -> Self:
        if "split" in self.model_fields_set:
            return self
        return self.model_copy(update={"split": results.spec.evaluation.splits[0]})


class SplitOptions(MainSplitOptions):
    """For figures of predictions."""

    split: Split = Field(
        "test", description="Images the predictions are compared on; left out, the first of the experiment's splits."
    )


TRAJECTORY, INDEPENDENT = "trajectory", "independent"  # groups of solutions beside the methods
GROUNDS = ("baseline", "theory")  # legends may name them, so a filter may too; they are no group of functions


class FilterOptions(SplitOptions):
    """For figures of several methods."""

    method: tuple[str, ...] = Field((), max_length=16, description="Methods shown, comma-separated; empty means all.")

    @field_validator("method", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return tuple(filter(None, value.split(","))) if isinstance(value, str) else value

    def methods_of(self, results: Results) -> list[str]:
        """The experiment's methods that are asked for, in its order. Raises InvalidInput for one it does not have."""
        planned = [chosen.method for chosen in results.spec.methods]
        unknown = [name for name in self.method if name not in (*planned, INDEPENDENT, TRAJECTORY, *GROUNDS)]
        if unknown:
            raise InvalidInput(
                f"this experiment has no method {unknown[0]!r}",
                field="method",
                allowed="some of " + ", ".join((*planned, INDEPENDENT, TRAJECTORY)),
            )
        return [name for name in planned if not self.method or name in self.method]


D = TypeVar("D", bound=FigureData)
O = TypeVar("O", bound=FigureOptions)  # noqa: E741


class Declared(Generic[D, O]):
    """A figure whose `collect` is known; `draw` completes and registers it. Options left open are the experiment's."""

    def __init__(
        self, collect: Callable[[Results, O], D], complete: Callable[..., registry.Figure], *, of_runs: bool
    ) -> None:
        def of_the_experiment(results: Results, options: O) -> D:
            try:
                data = collect(results, options.of(results))
            except NotFound as missing:
                if results.solutions(role="optimum"):
                    raise
                # classes and labels come with the first run's predictions: others may be there before, or without them
                waits_for, closed = ("train", "predict"), not results.healthy
                raise FigureNotReady(str(missing), waits_for=waits_for, closed=closed) from None
            lost = left_out(results, [entry.group for entry in data.legend]) if of_runs else ""
            return replace(data, caption=f"{data.caption} {lost}") if lost else data

        self._collect = of_the_experiment
        self._complete = complete

    def __call__(self, results: Results, options: O) -> D:
        return self._collect(results, options)

    def draw(self, function: Callable[[D, Theme], go.Figure]) -> Callable[[D, Theme], go.Figure]:
        registry.figures.add(self._complete(call=self._collect, draw=function))
        return function


def figure(
    name: str,
    *,
    order: int,
    title: str,
    question: str,
    summary: str,
    source: str,
    needs: tuple[str, ...],
    options: type[O],
    paper: str = "",
) -> Callable[[Callable[[Results, O], D]], Declared[D, O]]:
    """Declare a figure. order: place in the argument; question: its heading; needs: stage kinds it shows."""
    complete = functools.partial(
        registry.Figure,
        name=name,
        order=order,
        title=title,
        question=question,
        summary=summary,
        source=source,
        needs=needs,
        options=options,
        paper=paper,
    )
    return lambda collect: Declared(collect, complete, of_runs="arm" not in needs)


def picture(name: str, results: Results, theme: Theme = "light", **options: Any) -> go.Figure:
    """Collect and draw in one call, for notebooks. Raises FigureNotReady and InvalidInput."""
    entry = registry.figures[name]
    drawn: go.Figure = entry.draw(entry.call(results, entry.options.model_validate(options)), theme)
    return drawn


@functools.cache
def figure_version() -> str:
    """Changes whenever a picture might: digest of drawing code, looks, the theory behind it and Plotly's version."""
    here = Path(__file__).parent
    sources = [*sorted(here.glob("*.py")), here.parent / "science" / "theory.py"]
    digest = hashlib.sha256(importlib.metadata.version("plotly").encode())
    for source in sources:
        digest.update(source.read_bytes())
    digest.update(repr(style.looks()).encode())
    return digest.hexdigest()[:16]


# ---- ways out ----


def encode(drawn: go.Figure, arrays: Literal["typed", "list"] = "typed") -> bytes:
    """The figure as JSON. typed: arrays as base64 float32, for the browser; list: plain numbers, NaN as null."""
    plain = drawn.to_dict()
    return orjson.dumps(_plain(plain) if arrays == "list" else plain, option=orjson.OPT_SERIALIZE_NUMPY)


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
    writer.writerow(data.columns)
    writer.writerows(data.rows())  # None becomes an empty cell
    return out.getvalue()


# ---- shared by the figures ----


def known(value: float) -> float | None:
    """A table's cell: None where the number is undefined."""
    return float(value) if math.isfinite(value) else None


def float32(values: Any) -> NDArray[np.float32]:
    """What travels to the browser: half the bytes, seven digits."""
    return np.asarray(values, dtype=np.float32)


def thin(count: int, limit: int) -> Ints:
    """Indices that keep at most `limit` of `count` things, evenly, first and last included."""
    if count <= limit:
        return np.arange(count)
    return np.unique(np.round(np.linspace(0, count - 1, limit)).astype(np.int64))


def share_points(counts: Mapping[str, int], limit: int = MAX_POINTS) -> dict[str, int]:
    """How many points each group may show so that all together stay within `limit`, evenly per group."""
    total = sum(counts.values())
    if total <= limit:
        return dict(counts)
    return {group: max(1, count * limit // total) for group, count in counts.items()}


def square(matrix: Matrix, numbers: Sequence[int]) -> Floats:
    """Those rows and columns of a square matrix, NaN where it does not have them."""
    where = {number: i for i, number in enumerate(matrix.rows)}
    index = np.array([where.get(number, -1) for number in numbers], dtype=np.int64)
    values = np.asarray(matrix.values, dtype=np.float64)[np.ix_(index, index)]
    values[index < 0, :] = np.nan
    values[:, index < 0] = np.nan
    return values


def labels_of(results: Results, solutions: Sequence[Solution], split: str) -> Ints:
    """Predicted labels [S, N], ties to the lowest index."""
    return np.stack([results.logits(solution, split).argmax(-1) for solution in solutions])


def trajectories(results: Results) -> dict[int, list[Solution]]:
    """Run -> its checkpoints in order, the optimum last; only runs that have their optimum."""
    kept: dict[int, list[Solution]] = {}
    for solution in results.solutions():
        if solution.role in ("checkpoint", "optimum"):
            kept.setdefault(solution.run, []).append(solution)
    return {
        run: sorted(points, key=lambda point: (point.role == "optimum", point.index))
        for run, points in sorted(kept.items())
        if any(point.role == "optimum" for point in points)
    }


def left_out(results: Results, shown: Sequence[str] = ()) -> str:
    """Sentences for captions, "1 of 6 runs failed and counts nowhere."; also of the chains of methods that are shown;
    "" while all are healthy."""
    counts = [(len(results.failed), results.spec.ensemble.runs, "runs")]
    counts += [
        (len(chains), results.chains(name), f"{method_title(name)} chains")
        for name, chains in results.failed_chains.items()
        if name in shown
    ]
    return " ".join(
        f"{count} of {of} {what} failed and count{'s' * (count == 1)} nowhere." for count, of, what in counts if count
    )


def refuse_failed(results: Results, run: int) -> None:
    """A run that was named and has failed closes the figure. Raises FigureNotReady."""
    if run in results.failed:
        raise FigureNotReady(f"run {run} failed, so there is nothing to show: {results.failed[run]}", closed=True)


def refuse_skipped(results: Results, kind: str, key: str) -> None:
    """So does a stage that made nothing because of what failed before it. Raises FigureNotReady."""
    why = results.skipped(kind, key)
    if why:
        raise FigureNotReady(f"there is nothing to show: {why}", closed=True)


def after_runs(done: int, results: Results) -> str:
    """ "after 4 of 10 runs", or "" when all are there that have not failed."""
    planned = len(results.healthy)
    return f"after {done} of {planned} runs" if done < planned else ""


def method_title(name: str) -> str:
    """As read inside a sentence; a method this process does not know (a worker's plug-in) goes by its name."""
    if name not in registry.methods:
        return name
    title = registry.methods[name].title
    return title if title[:2].isupper() else title[:1].lower() + title[1:]


def method_look(name: str) -> style.Look:
    return style.look(name)


def percent(value: float) -> str:
    """ "14.3": one decimal, without the sign."""
    return "–" if not math.isfinite(value) else f"{100 * value:.1f}".replace("-", "−")


def rate(value: float, digits: int = 3) -> str:
    """ ".312": no zero before the point, a true minus; an en dash where undefined."""
    if not math.isfinite(value):
        return "–"
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = f"{0:.{digits}f}"
    text = text.replace("-", "−")
    return text.replace("0.", ".", 1) if text.lstrip("−").startswith("0.") else text


def loss(value: float) -> str:
    """Three significant digits: "1.23", ".442", "12.3"."""
    if not math.isfinite(value):
        return "–"
    whole = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    return rate(value, max(0, 3 - whole))


def spread(values: Floats) -> float:
    """Sample standard deviation (ddof 1); NaN for fewer than two."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def thousands(count: int) -> str:
    """ "10 000" with a narrow space at which no line breaks."""
    return f"{count:,}".replace(",", "\u202f")
