"""The columns of lists, one entry each: experiments, stages, runs, curves, solutions and measurements.

    Field("seconds", Kind.NUMBER, Experiment.seconds, words="cost in seconds",
          cell=Cell("Cost", Shows.DURATION, "num opt"))

What can be asked of the store, the parameters of the API with their descriptions and errors, the words of conditions,
documents, examples and CSV, facets, and the headings and cells of the page are all made from these tables. A column
that is stored needs a migration and the stage that fills it besides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, partial
from typing import Any, Generic, TypeVar

from sqlalchemy.orm import InstrumentedAttribute

from modescape import stored_values
from modescape.finding import Finding
from modescape.records import Role, SampleSet, StageState, Status, group_name
from modescape.registry import architectures, datasets, method_title, presets
from modescape.spec import words
from modescape.tables import Base, Experiment, Measurement, Run, Series, Solution, Stage

Row = TypeVar("Row", bound=Base)
Attribute = InstrumentedAttribute[Any]


class Kind(StrEnum):
    """What values a field has, which decides how it can be asked for."""

    TEXT = "text"
    LIST = "list"  # of texts: asked for by one of them
    NUMBER = "number"
    WHOLE = "whole"
    TIME = "time"
    FLAG = "flag"  # asked for only; true where the column has a value
    DOCUMENT = "document"  # shown only


class Shows(StrEnum):
    """How the page shows a cell: the macros of templates/_cells.html."""

    PLAIN = "plain"  # the value, a list's parted by commas
    DURATION = "duration"
    WHEN = "when"
    TAGS = "tags"  # each a link to its experiments
    TITLE = "title"  # with what came of it
    NETWORK = "network"  # below the data
    ENSEMBLE = "ensemble"  # one network's accuracy and the ensemble's
    PARENT = "parent"  # a link to the experiment
    BARS = "bars"  # of independent runs and of the best method


class Mark(StrEnum):
    """What stands before a facet's values: the macros of templates/_macros.html."""

    LOOK = "sym"  # of a method, as figures draw it
    STATUS = "glyph"


@dataclass(frozen=True)
class Cell:
    """A column of the page's table. css: classes of its width; usual: there unless others are asked for; place: from
    the left, equal ones as in the table of fields."""

    heading: str
    shows: Shows = Shows.PLAIN
    css: str = "opt"
    place: int = 0
    usual: bool = True


@dataclass(frozen=True)
class Facet:
    """Values that are counted and can be picked; without a heading the page shows none. place: as for a cell; label: a
    value as people read it; rare: shown only where there are several values. The index `ix_experiment_facets` holds
    them all, so that counting reads no rows."""

    heading: str = ""
    place: int = 0
    label: Callable[[str], str] = str
    mark: Mark | None = None
    rare: bool = False


@dataclass(frozen=True)
class Field:
    """One column. name: in a query; key: in documents and CSV, where another; also: another name the store takes;
    words: in a sentence ("": the API does not filter by it); choices: the closed set of values, if any; place: among
    the API's parameters, equal ones as in the table; example: a value, for documents of the API whose own file has
    none; reads: how its value is read off the column, of_row: off the row, when it is not the column itself; now: a
    text that is asked for in the spelling of now, where it may be an old name; folded: the column that holds it as it
    is compared and put in order, of what people write as they like (`names.folded`); prose: a part of it is asked for
    more often than the whole; most: no value is larger."""

    name: str
    kind: Kind
    column: Any
    words: str = ""
    key: str = ""
    also: str = ""
    choices: tuple[str, ...] = ()
    sortable: bool = True
    description: str = ""
    place: int = 0
    example: Any = None
    reads: Callable[[Any], Any] | None = None
    of_row: Callable[[Any], Any] | None = None
    now: Callable[[str], str] = str
    folded: Any = None
    prose: bool = False
    most: float | None = None
    cell: Cell | None = None
    facet: Facet | None = None

    @property
    def compared(self) -> Any:
        """The column that the store compares and sorts by."""
        return self.column if self.folded is None else self.folded

    def value(self, row: Base) -> Any:
        if self.of_row is not None:
            return self.of_row(row)
        found = getattr(row, str(self.column.key))
        return self.reads(found) if self.reads else found


@dataclass(frozen=True)
class Columns(Generic[Row]):
    """The columns of one list, in the order of its documents."""

    all: tuple[Field, ...]

    @cached_property
    def keys(self) -> tuple[str, ...]:
        return tuple(field.key or field.name for field in self.all)

    @cached_property
    def example(self) -> dict[str, Any]:
        return {key: field.example for key, field in zip(self.keys, self.all, strict=True)}

    def document(self, row: Row) -> dict[str, Any]:
        """One line of the list."""
        return {key: field.value(row) for key, field in zip(self.keys, self.all, strict=True)}


@dataclass(frozen=True, kw_only=True)
class Fields(Columns[Row]):
    """The columns of a list that can be asked for some of its rows.

    key: unique column that breaks ties; sort: the order when none is asked for; text: the folded column that `text`
    searches, searchable: what it holds in words ("": no `q`); text_index: SQLite's index of it, with `text_index`_row
    from its rows to keys; selectable: `sel=12-40,77` picks by number.
    """

    noun: str
    key: Attribute
    sort: str
    sort_words: Mapping[str, str]
    searchable: str = ""
    text: Attribute | None = None
    text_index: str = ""
    selectable: bool = False
    beside: Callable[[str], Field | None] = lambda name: None  # columns that are computed: of names that none here has

    def find(self, name: str) -> Field | None:
        """What the API filters and sorts by, by either of its names; computed columns too."""
        return self.asked.get(name) or self._others.get(name) or self.beside(name)

    @cached_property
    def _others(self) -> dict[str, Field]:
        return {field.also: field for field in self.asked.values() if field.also}

    @cached_property
    def columns(self) -> dict[str, Any]:
        """What the store compares and sorts by."""
        unlike = (Kind.LIST, Kind.FLAG, Kind.DOCUMENT)
        compared = [field for field in self.all if field.kind not in unlike]
        return {name: field.compared for field in compared for name in (field.name, field.also) if name}

    @cached_property
    def lists(self) -> dict[str, Attribute]:
        """JSON columns that hold a list of texts."""
        lists = [field for field in self.all if field.kind == Kind.LIST]
        return {name: field.compared for field in lists for name in (field.name, field.also) if name}

    @cached_property
    def folds(self) -> frozenset[str]:
        """Names of those that are compared folded."""
        folded = [field for field in self.all if field.folded is not None]
        return frozenset(name for field in folded for name in (field.name, field.also) if name)

    @cached_property
    def asked(self) -> dict[str, Field]:
        """What the API filters by."""
        return {field.name: field for field in sorted(self.all, key=lambda field: field.place) if field.words}

    @cached_property
    def facets(self) -> tuple[tuple[Field, Facet], ...]:
        return tuple((field, field.facet) for field in self.all if field.facet)

    @cached_property
    def cells(self) -> tuple[tuple[Field, Cell], ...]:
        """Of the page's table, from the left: the usual ones before the others."""
        found = ((field, field.cell) for field in self.all if field.cell)
        return tuple(sorted(found, key=lambda pair: (not pair[1].usual, pair[1].place)))


def _stored_value(name: str) -> Field | None:
    """`spec.<path>` and `result.<path>`."""
    found = stored_values.find(name)
    if found is None:
        return None
    return Field(
        found.name, Kind.NUMBER if found.is_number else Kind.TEXT, found.expression, found.words,
        cell=Cell(found.words.capitalize(), Shows.PLAIN, "num opt" if found.is_number else "opt"),
    )  # fmt: skip


def _newest_finding(row: Experiment) -> str | None:
    return Finding.of(row).line if row.finding else None


def _shown(*columns: Attribute) -> tuple[Field, ...]:
    """Columns as they are stored, which nobody asks by."""
    return tuple(Field(column.key, Kind.DOCUMENT, column) for column in columns)


EXPERIMENTS = Fields[Experiment](
    noun="Experiments",
    key=Experiment.id,
    sort="-created",
    sort_words={"-created": "newest first", "created": "oldest first"},
    searchable="name, tags, project or notes",
    text=Experiment.folded,
    text_index="experiment_text",
    beside=_stored_value,
    all=(
        Field("id", Kind.TEXT, Experiment.id),
        Field("slug", Kind.TEXT, Experiment.slug, "address", place=5, sortable=False,
              description="What stands in its address."),
        Field("name", Kind.TEXT, Experiment.name, "name", place=1, folded=Experiment.name_folded, prose=True,
              cell=Cell("Name and newest finding", Shows.TITLE, "name")),
        Field("status", Kind.TEXT, Experiment.status, "status", also="state", choices=tuple(Status),
              facet=Facet("Status", place=1, mark=Mark.STATUS), cell=Cell("Status", usual=False)),
        Field("dataset", Kind.TEXT, Experiment.dataset, "dataset", also="data", folded=Experiment.dataset_folded,
              facet=Facet("Dataset", label=datasets.title), cell=Cell("Data and network", Shows.NETWORK)),
        Field("input_scale", Kind.TEXT, Experiment.input_scale, "input scale", place=1,
              facet=Facet("Input scale", place=2, label=partial(words, "input_scale"), rare=True)),
        Field("architecture", Kind.TEXT, Experiment.architecture, "architecture", also="arch",
              facet=Facet("Architecture", label=architectures.title), cell=Cell("Architecture", usual=False)),
        Field("method", Kind.LIST, Experiment.methods, "methods", "methods", sortable=False,
              facet=Facet("Methods", label=method_title, mark=Mark.LOOK), cell=Cell("Methods", usual=False)),
        Field("runs", Kind.WHOLE, Experiment.runs, "number of runs", place=1, cell=Cell("Runs", css="num opt")),
        Field("preset", Kind.TEXT, Experiment.preset, "preset",
              facet=Facet("Preset", place=3, label=presets.title, rare=True),
              cell=Cell("Preset", usual=False)),
        Field("tag", Kind.LIST, Experiment.tags, "tags", "tags", sortable=False, folded=Experiment.tags_folded,
              facet=Facet("Tags", place=1), cell=Cell("Tags", Shows.TAGS, usual=False)),
        Field("created_by", Kind.TEXT, Experiment.created_by, "owner", also="owner", place=4,
              folded=Experiment.created_by_folded, description="Who launched it, or brought it in.",
              facet=Facet("Owner", place=3, rare=True), cell=Cell("Owner", usual=False)),
        Field("created", Kind.TIME, Experiment.created_at, "created", "created_at", place=4,
              cell=Cell("When", Shows.WHEN, "num opt", place=3)),
        Field("started", Kind.TIME, Experiment.started_at, key="started_at"),
        Field("finished", Kind.TIME, Experiment.finished_at, "finished", "finished_at", place=4),
        Field("archived", Kind.FLAG, Experiment.archived_at, "archived", "archived_at", sortable=False, place=4,
              description="Archived ones instead of the others."),
        Field("stages_total", Kind.WHOLE, Experiment.stages_total),
        Field("stages_done", Kind.WHOLE, Experiment.stages_done),
        Field("seconds", Kind.NUMBER, Experiment.seconds, "cost in seconds", also="cost", place=3,
              cell=Cell("Cost", Shows.DURATION, "num opt", place=2)),
        Field("accuracy", Kind.NUMBER, Experiment.accuracy, "accuracy", place=2, most=1.0,
              description="Mean test accuracy of the runs, 0 to 1.",
              cell=Cell("Accuracy, % single → ensemble", Shows.ENSEMBLE, "num", place=1)),
        Field("ensemble_accuracy", Kind.NUMBER, Experiment.ensemble_accuracy, "ensemble accuracy", place=2, most=1.0),
        Field("disagreement", Kind.NUMBER, Experiment.disagreement, "disagreement", place=2, most=1.0,
              description="Mean over pairs of independent runs, 0 to 1.",
              cell=Cell("Disagreement independent, best subspace", Shows.BARS, "", place=1)),
        Field("finding", Kind.DOCUMENT, Experiment.finding, of_row=_newest_finding),
        Field("error", Kind.TEXT, Experiment.error),
        Field("digest", Kind.TEXT, Experiment.digest, "spec digest", sortable=False, place=3),
        Field("priority", Kind.WHOLE, Experiment.priority, "priority", place=3,
              description="Stages of higher ones are claimed first: -1 is low, 0 normal, 1 high.",
              cell=Cell("Priority", css="num opt", usual=False)),
        Field("project", Kind.TEXT, Experiment.project, "project", place=1, folded=Experiment.project_folded,
              description="A name that several experiments are given, to be found together.", example="",
              facet=Facet("Project", place=1), cell=Cell("Project", usual=False)),
        Field("parent", Kind.TEXT, Experiment.parent, "parent", place=4, example=None,
              description="Address of the experiment that it was cloned from.",
              cell=Cell("Cloned from", Shows.PARENT, usual=False)),
    ),
)  # fmt: skip


RUNS = Columns[Run](_shown(Run.number, Run.seeds, Run.arithmetic, Run.accuracy, Run.best_accuracy, Run.failed, Run.id))

SERIES = Columns[Series](
    _shown(Series.run, Series.name, Series.n, Series.last, Series.last_step, Series.smallest, Series.smallest_step,
           Series.largest, Series.largest_step)
)  # fmt: skip


def _waits(stage: Stage) -> str | None:
    """What it waits for: of one that could start."""
    return stage.waits if stage.state == StageState.READY else None


STAGES = Columns[Stage](
    (
        *_shown(Stage.id, Stage.kind, Stage.key, Stage.state, Stage.wish, Stage.attempt, Stage.ordinal, Stage.queue,
                Stage.estimate, Stage.step, Stage.steps, Stage.progress, Stage.seconds, Stage.worker, Stage.reused_from,
                Stage.started_at, Stage.finished_at),
        Field("waits", Kind.DOCUMENT, Stage.waits, of_row=_waits),
        Field("error", Kind.DOCUMENT, Stage.error, reads=lambda stored: stored or None),
    )
)  # fmt: skip

SOLUTIONS = Fields[Solution](
    noun="Solutions",
    key=Solution.number,
    sort="number",
    sort_words={"number": "by number"},
    selectable=True,
    all=(
        Field("number", Kind.WHOLE, Solution.number, "number"),
        Field("run", Kind.WHOLE, Solution.run, "run"),
        Field("role", Kind.TEXT, Solution.role, "role", choices=tuple(Role)),
        Field("method", Kind.TEXT, Solution.method, "method"),
        Field("set", Kind.TEXT, Solution.sample_set, "sample set", also="sample_set", choices=tuple(SampleSet)),
        Field("index", Kind.WHOLE, Solution.index, "index"),
        Field("epoch", Kind.NUMBER, Solution.epoch, "epoch"),
        Field("seed", Kind.WHOLE, Solution.seed),
        Field("attempt", Kind.WHOLE, Solution.attempt),
        Field("strength", Kind.NUMBER, Solution.strength, "strength"),
        Field("relative", Kind.NUMBER, Solution.relative, "relative distance from its centre"),
        Field("norm", Kind.NUMBER, Solution.norm, "norm of the weights"),
        Field("cosine", Kind.NUMBER, Solution.cosine, "cosine with its optimum"),
        Field("distance", Kind.NUMBER, Solution.distance, "distance from its optimum"),
        Field("accuracy", Kind.NUMBER, Solution.accuracy, "accuracy"),
        Field("diversity", Kind.NUMBER, Solution.diversity, "diversity"),
        Field("disagreement", Kind.NUMBER, Solution.disagreement, "disagreement with its optimum"),
        Field("weights", Kind.TEXT, Solution.weights),  # digest of their file; null until asked for
        Field("predictions", Kind.DOCUMENT, Solution.predictions, reads=sorted),  # splits kept
        Field("id", Kind.TEXT, Solution.id),
    ),
)

MEASUREMENTS = Fields[Measurement](
    noun="Measurements",
    key=Measurement.id,
    sort="metric",
    sort_words={"metric": "by metric"},
    all=(
        Field("metric", Kind.TEXT, Measurement.metric, "metric"),
        Field("subject", Kind.TEXT, Measurement.subject, "subject", now=group_name),
        Field("solution", Kind.WHOLE, Measurement.solution, "solution"),
        Field("split", Kind.TEXT, Measurement.split, "split"),
        Field("corruption", Kind.TEXT, Measurement.corruption, "corruption"),
        Field("intensity", Kind.WHOLE, Measurement.intensity, "intensity"),
        Field("value", Kind.NUMBER, Measurement.value, "value"),
        Field("n", Kind.WHOLE, Measurement.n, "n"),
        Field("details", Kind.DOCUMENT, Measurement.details),
        Field("id", Kind.TEXT, Measurement.id),
    ),
)
