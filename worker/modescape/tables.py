"""The nouns of the house as tables: what a row means, and nothing else. Every query and every change is in `store`.

Times are aware UTC. Ids are UUIDs as text; within an experiment runs and solutions also carry small numbers, which
is what URLs and people use. Ids of things a stage makes are derived from the stage and an index, so a stage that runs
again updates its rows instead of doubling them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    event,
    false,
    inspect,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine.default import DefaultExecutionContext
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from modescape import names
from modescape.acting import UserRole
from modescape.records import Role, SampleSet, StageState, Status, Wish


def utcnow() -> datetime:
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC in, aware UTC out, on SQLite too; refuses naive times."""

    impl = DateTime(timezone=True)
    cache_ok = True

    @property
    def python_type(self) -> type[datetime]:
        return datetime

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("times must carry a time zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Word(TypeDecorator[StrEnum]):
    """A text that is one of an enum's members."""

    impl = String
    cache_ok = True

    def __init__(self, words: type[StrEnum]) -> None:
        super().__init__()
        self.words = words
        self.read = {str(word): word for word in words}  # a call of the enum takes ten times as long

    @property
    def python_type(self) -> type[str]:
        return str

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> StrEnum | None:
        return None if value is None else self.read.get(value) or self.words(value)


Document = JSON().with_variant(JSONB(), "postgresql")
Counter = BigInteger().with_variant(Integer(), "sqlite")  # SQLite autoincrements INTEGER only
Id = String(36)
# Ordered by code points on both databases.
Plain = String().with_variant(String(collation="C"), "postgresql")
PlainText = Text().with_variant(Text(collation="C"), "postgresql")


class Base(DeclarativeBase):
    type_annotation_map = {  # noqa: RUF012  (SQLAlchemy reads it once)
        dict[str, Any]: Document, list[Any]: Document, datetime: UtcDateTime(), Status: Word(Status),
        StageState: Word(StageState), Wish: Word(Wish), Role: Word(Role), SampleSet: Word(SampleSet),
        UserRole: Word(UserRole),
    }  # fmt: skip


_SHOWN = text("archived_at IS NULL")
_READY = text("state = 'ready'")


def _folded(name: str) -> Any:
    """A column that holds another one as it is compared (`names.folded`), from the first insert on."""

    def default(context: DefaultExecutionContext) -> Any:
        return fold_column(name, context.get_current_parameters())  # type: ignore[no-untyped-call]

    return default


class Experiment(Base):
    """A promise, and what lists and facets need of its state (written with the transition that changes it)."""

    __tablename__ = "experiment"
    __table_args__ = (
        # Both of the rows that lists show: PostgreSQL walks no index in order behind an IS NULL column, and SQLite
        # takes the wrong one of two that begin with it.
        Index("ix_experiment_list", "created_at", "id", sqlite_where=_SHOWN, postgresql_where=_SHOWN),
        Index("ix_experiment_digest", "digest"),
        Index("ix_experiment_recipe", "recipe"),
        Index(  # holds all that facets count, so that counting never reads the rows
            "ix_experiment_facets",
            "status",
            "dataset",
            "input_scale",
            "architecture",
            "methods",
            "preset",
            "tags",
            "created_by",
            "project",
            "archived_at",
            sqlite_where=_SHOWN,
            postgresql_where=_SHOWN,
        ),
        Index(  # all that lists are filtered and sorted by: rows are long (PostgreSQL keeps a long value elsewhere)
            "ix_experiment_columns",
            "created_at",
            "id",
            "status",
            "dataset_folded",
            "input_scale",
            "architecture",
            "methods",
            "tags_folded",
            "project_folded",
            "created_by_folded",
            "runs",
            "preset",
            "parent",
            "slug",
            "name_folded",
            "seconds",
            "accuracy",
            "ensemble_accuracy",
            "disagreement",
            "started_at",
            "finished_at",
            "archived_at",
            "priority",
            sqlite_where=_SHOWN,
        ).ddl_if(dialect="sqlite"),
        Index(  # all that says whose turn it is; SQLite finds a row by its id alone
            "ix_experiment_turn", "id", "priority", "created_by", "turn", "created_at"
        ).ddl_if(dialect="postgresql"),
        Index(  # of three letters each, for the search; SQLite's is a table of its own (migration 0014)
            "ix_experiment_text",
            "folded",
            postgresql_using="gin",
            postgresql_ops={"folded": "gin_trgm_ops"},
            postgresql_with={"fastupdate": False},
        ).ddl_if(dialect="postgresql"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    slug: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    notes: Mapped[str] = mapped_column(Text, default="")
    tags: Mapped[list[Any]]
    spec: Mapped[dict[str, Any]]
    digest: Mapped[str] = mapped_column(String(64))
    preset: Mapped[str | None]
    fresh: Mapped[bool] = mapped_column(default=False)  # never reuse earlier stages
    created_by: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    archived_at: Mapped[datetime | None]
    # list columns
    status: Mapped[Status]
    dataset: Mapped[str]
    input_scale: Mapped[str]
    architecture: Mapped[str]
    methods: Mapped[list[Any]]  # names
    runs: Mapped[int]
    stages_total: Mapped[int]
    stages_done: Mapped[int] = mapped_column(default=0)
    seconds: Mapped[float] = mapped_column(default=0.0)  # summed over finished stages
    accuracy: Mapped[float | None]  # mean of the runs' final test accuracies
    ensemble_accuracy: Mapped[float | None]
    disagreement: Mapped[float | None]  # mean over pairs of independent runs
    finding: Mapped[dict[str, Any]]  # summary numbers of the compare stage; {} before
    # what was promised, and when the same trainings were looked at before
    recipe: Mapped[str] = mapped_column(String(64))  # ExperimentSpec.recipe: equal ones share trainings
    planned_runs: Mapped[int]  # runs promised at the first launch of these trainings
    earlier: Mapped[list[Any]]  # id, slug, name, digest, runs of the experiments that had them before, oldest first
    error: Mapped[str | None] = mapped_column(Text)  # first failed stage, in one line
    provenance: Mapped[dict[str, Any] | None]  # where an ensemble that was made elsewhere came from (`importing`)
    priority: Mapped[int] = mapped_column(default=0, server_default="0")  # records.PRIORITIES: higher ones first
    planned_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")  # that its stages will keep
    turn: Mapped[str] = mapped_column(Id, default="", server_default="")  # what takes turns: its sweep's id, or its own
    project: Mapped[str] = mapped_column(default="", server_default="")  # a name that people give several; "": none
    parent: Mapped[str | None]  # slug of the experiment that it was cloned from, while that is there
    # as texts are compared, whoever typed them and on which machine
    folded: Mapped[str] = mapped_column(PlainText, default=_folded("folded"), server_default="")  # all that is searched
    name_folded: Mapped[str] = mapped_column(Plain, default=_folded("name_folded"), server_default="")
    dataset_folded: Mapped[str] = mapped_column(Plain, default=_folded("dataset_folded"), server_default="")
    project_folded: Mapped[str] = mapped_column(Plain, default=_folded("project_folded"), server_default="")
    created_by_folded: Mapped[str] = mapped_column(Plain, default=_folded("created_by_folded"), server_default="")
    tags_folded: Mapped[list[Any]] = mapped_column(default=_folded("tags_folded"), server_default="[]")


SEARCHED = ("name", "slug", "tags", "project", "notes")  # columns that `folded` holds, a line each
FOLDED = ("name", "dataset", "project", "created_by", "tags")  # those that have one of their own besides


def fold_column(name: str, row: Mapping[str, Any]) -> Any:
    """What a column of folded text holds, of the others of its row; one that is not given is empty."""
    if name == "folded":
        parts = (row.get(one) or "" for one in SEARCHED)
        texts = (" | ".join(part) if isinstance(part, list) else part for part in parts)
        return "\n".join(map(names.folded, texts))
    given = row.get(name.removesuffix("_folded")) or ("" if name != "tags_folded" else [])
    return [names.folded(one) for one in given] if isinstance(given, list) else names.folded(given)


@event.listens_for(Experiment, "before_update")
def _fold_again(_mapper: object, _connection: object, row: Experiment) -> None:
    changed = {name for name in {*SEARCHED, *FOLDED} if inspect(row).attrs[name].history.has_changes()}
    if changed:
        now = {name: getattr(row, name) for name in {*SEARCHED, *FOLDED}}
        for name in ("folded", *(f"{name}_folded" for name in FOLDED)):
            setattr(row, name, fold_column(name, now))


class SavedView(Base):
    """A way to look at the list of experiments, under a name: filters, columns, order and groups as an address."""

    __tablename__ = "saved_view"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    slug: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    query: Mapped[str] = mapped_column(Text)  # what stands behind the question mark of the list's address
    created_by: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class Sweep(Base):
    """Experiments that differ in a few fields of their specs: one of every combination of values, a cell each."""

    __tablename__ = "sweep"
    __table_args__ = (Index("ix_sweep_list", "created_at", "id"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    slug: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    document: Mapped[dict[str, Any]]  # base, over, runs, paired, as asked
    created_by: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    archived_at: Mapped[datetime | None]
    request_key: Mapped[str | None] = mapped_column(unique=True)  # acting.own of a request that may be repeated
    request: Mapped[str | None] = mapped_column(String(64))  # digest of its body


class SweepCell(Base):
    """One combination of a sweep's values, and the experiment that has them; null once that was purged."""

    __tablename__ = "sweep_cell"

    sweep_id: Mapped[str] = mapped_column(ForeignKey("sweep.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    experiment_id: Mapped[str | None] = mapped_column(ForeignKey("experiment.id", ondelete="SET NULL"), index=True)
    varied: Mapped[dict[str, Any]]  # field of the spec -> its value in this cell


class Run(Base):
    """One training from one initialisation."""

    __tablename__ = "run"
    __table_args__ = (UniqueConstraint("experiment_id", "number"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    experiment_id: Mapped[str] = mapped_column(ForeignKey("experiment.id", ondelete="CASCADE"))
    number: Mapped[int]
    seeds: Mapped[dict[str, Any]]
    accuracy: Mapped[float | None]  # of the optimum, on the first evaluation split
    best_accuracy: Mapped[float | None]  # over its checkpoints
    arithmetic: Mapped[dict[str, Any]]  # of its training: precision, device, hardware, torch; {} before
    failed: Mapped[str | None] = mapped_column(Text)  # why it counts nowhere; "": healthy; null: not told (yet)


class Stage(Base):
    """One unit of work that may be killed at any moment and run again."""

    __tablename__ = "stage"
    __table_args__ = (
        UniqueConstraint("experiment_id", "kind", "key"),
        Index("ix_stage_state", "state", "lease_expires"),
        Index("ix_stage_memo", "memo"),
        Index(  # all that claiming asks of stages that wait for a worker: there are few, and rows are long
            "ix_stage_ready",
            "state",
            "queue",
            "experiment_id",
            "ordinal",
            "id",
            "kind",
            "memo",
            "waits_until",
            "room",
            sqlite_where=_READY,
            postgresql_where=_READY,
        ),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    experiment_id: Mapped[str] = mapped_column(ForeignKey("experiment.id", ondelete="CASCADE"))
    ordinal: Mapped[int]  # place in the plan; earlier ones are claimed first
    kind: Mapped[str]
    key: Mapped[str]  # such as "3" or "0/dropout/typical", unique within its kind
    queue: Mapped[str] = mapped_column(default="cpu")
    params: Mapped[dict[str, Any]]  # what the stage function gets besides the spec
    estimate: Mapped[float] = mapped_column(default=0.0)  # seconds, as planned
    work: Mapped[dict[str, Any] | None]  # what there is to do, in units: prices.Work and its shape; null in old rows
    optional: Mapped[bool] = mapped_column(default=False, server_default=false())  # the experiment may succeed without
    state: Mapped[StageState]
    wish: Mapped[Wish | None]  # for a running stage
    attempt: Mapped[int] = mapped_column(default=0)
    losses: Mapped[int] = mapped_column(default=0)  # lost leases at the same step
    lost_at_step: Mapped[int | None]
    lease_token: Mapped[str | None] = mapped_column(Id)
    lease_owner: Mapped[str | None]
    lease_expires: Mapped[datetime | None]
    rung_at: Mapped[datetime | None]  # when its id was last put on the queue
    ready_at: Mapped[datetime | None]  # since when somebody could work on it; null: since its experiment is there
    waits: Mapped[str | None] = mapped_column(Text)  # of a ready one: what it waits for, in a sentence
    waits_until: Mapped[datetime | None]  # when that is looked at again
    room: Mapped[int | None] = mapped_column(
        BigInteger
    )  # bytes that it could not write; claimed where as many are free
    step: Mapped[int] = mapped_column(default=0)
    steps: Mapped[int] = mapped_column(default=0)  # 0: not known yet
    progress: Mapped[dict[str, Any]]  # epoch, loss, accuracy, images_per_second, seconds_left
    partial: Mapped[dict[str, Any]]  # what a later attempt resumes from
    memo: Mapped[str | None] = mapped_column(String(64))  # stage key: equal memos give equal bytes
    reused_from: Mapped[str | None] = mapped_column(Id)
    result: Mapped[dict[str, Any]]  # StageOutput as JSON; {} before success
    error: Mapped[dict[str, Any]]  # type, message, traceback, attempt; {} when none
    seconds: Mapped[float] = mapped_column(default=0.0)  # worked on, over all attempts
    claimed_at: Mapped[datetime | None]  # when the present or last attempt began
    history: Mapped[list[Any]]  # attempts: number, worker, from_step, step, at, ended, how; the last fifty
    worker: Mapped[str | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class StageNeed(Base):
    """An arrow of the graph: `stage_id` waits for `needs_id`, which must succeed, or (optional) only end."""

    __tablename__ = "stage_need"

    stage_id: Mapped[str] = mapped_column(ForeignKey("stage.id", ondelete="CASCADE"), primary_key=True)
    needs_id: Mapped[str] = mapped_column(ForeignKey("stage.id", ondelete="CASCADE"), primary_key=True, index=True)
    optional: Mapped[bool] = mapped_column(default=False, server_default=false())


class Solution(Base):
    """One point in weight space that made predictions: a dot in every plot."""

    __tablename__ = "solution"
    __table_args__ = (UniqueConstraint("experiment_id", "number"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    experiment_id: Mapped[str] = mapped_column(ForeignKey("experiment.id", ondelete="CASCADE"))
    stage_id: Mapped[str] = mapped_column(ForeignKey("stage.id", ondelete="CASCADE"), index=True)
    number: Mapped[int]
    run: Mapped[int]
    role: Mapped[Role]
    method: Mapped[str | None]  # samples only
    sample_set: Mapped[SampleSet | None]  # samples only
    index: Mapped[int]  # of the checkpoint along its trajectory, or of the sample in its set
    epoch: Mapped[float | None]  # checkpoints: 0 is the initial weights
    seed: Mapped[int | None] = mapped_column(BigInteger)
    attempt: Mapped[int | None]  # accepted try of a rejected-and-retried sample
    strength: Mapped[float | None]  # absolute step, dropout rate or scale
    relative: Mapped[float | None]  # distance from the centre over the optimum's norm
    norm: Mapped[float | None]
    cosine: Mapped[float | None]  # with its own run's optimum
    distance: Mapped[float | None]  # Euclidean, from its own run's optimum
    accuracy: Mapped[float | None]  # on the first evaluation split
    diversity: Mapped[float | None]  # disagreement with its own optimum over its error rate; null at accuracy 1
    disagreement: Mapped[float | None]  # with its own optimum
    weights: Mapped[str | None] = mapped_column(String(64))  # artifact digest; null until materialised for samples
    predictions: Mapped[dict[str, Any]]  # split -> {"artifact": digest, "index": row}


class Measurement(Base):
    """One number: of a solution, or of a named group of them."""

    __tablename__ = "measurement"
    __table_args__ = (Index("ix_measurement_experiment", "experiment_id", "metric"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    experiment_id: Mapped[str] = mapped_column(ForeignKey("experiment.id", ondelete="CASCADE"))
    stage_id: Mapped[str] = mapped_column(ForeignKey("stage.id", ondelete="CASCADE"), index=True)
    solution: Mapped[int | None]  # number
    subject: Mapped[str] = mapped_column(default="")  # group, such as "independent" or "random/typical"
    metric: Mapped[str]
    split: Mapped[str | None]
    corruption: Mapped[str | None]
    intensity: Mapped[int | None]
    value: Mapped[float | None]  # null where undefined
    n: Mapped[int | None]  # examples, pairs or members the number is over
    details: Mapped[dict[str, Any]]


class Series(Base):
    """One curve: the last, smallest and largest of it here, its points in chunks."""

    __tablename__ = "series"
    __table_args__ = (UniqueConstraint("experiment_id", "run", "name"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    experiment_id: Mapped[str] = mapped_column(ForeignKey("experiment.id", ondelete="CASCADE"))
    stage_id: Mapped[str] = mapped_column(ForeignKey("stage.id", ondelete="CASCADE"), index=True)  # that draws it
    run: Mapped[int]
    name: Mapped[str]  # such as train/loss
    n: Mapped[int] = mapped_column(default=0)
    last: Mapped[float | None]
    last_step: Mapped[int | None]
    smallest: Mapped[float | None]
    smallest_step: Mapped[int | None]
    largest: Mapped[float | None]
    largest_step: Mapped[int | None]


class Chunk(Base):
    """Up to a thousand points of a curve: little-endian int64 steps, then float64 values, then float64 Unix times."""

    __tablename__ = "chunk"

    series_id: Mapped[str] = mapped_column(ForeignKey("series.id", ondelete="CASCADE"), primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True)
    n: Mapped[int]
    first_step: Mapped[int]
    last_step: Mapped[int]
    points: Mapped[bytes] = mapped_column(LargeBinary)


class Matrix(Base):
    """One array over solutions: a similarity matrix, or an embedding (columns are coordinates)."""

    __tablename__ = "matrix"
    __table_args__ = (UniqueConstraint("experiment_id", "name", "split"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    experiment_id: Mapped[str] = mapped_column(ForeignKey("experiment.id", ondelete="CASCADE"))
    stage_id: Mapped[str] = mapped_column(ForeignKey("stage.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]  # cosine, disagreement, js, ..., tsne-trajectories
    split: Mapped[str]  # "" for weight space
    rows: Mapped[list[Any]]  # solution numbers
    columns: Mapped[list[Any]]  # solution numbers, or names of coordinates
    artifact: Mapped[str] = mapped_column(String(64))
    details: Mapped[dict[str, Any]]  # seed, perplexity, images, ...


class Artifact(Base):
    """One file, named by its content."""

    __tablename__ = "artifact"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str]  # weights, predictions, matrix, resume
    dtype: Mapped[str]
    shape: Mapped[list[Any]]
    bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class ArtifactUse(Base):
    """Which stage names which file: what purge counts before it deletes."""

    __tablename__ = "artifact_use"

    stage_id: Mapped[str] = mapped_column(ForeignKey("stage.id", ondelete="CASCADE"), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), primary_key=True, index=True)


class Event(Base):
    """Something happened. The id is the cursor of every live view."""

    __tablename__ = "event"
    __table_args__ = ({"sqlite_autoincrement": True},)  # ids are never given twice, also after a purge

    id: Mapped[int] = mapped_column(Counter, primary_key=True, autoincrement=True)
    experiment_id: Mapped[str | None] = mapped_column(Id, index=True)
    stage_id: Mapped[str | None] = mapped_column(Id)
    kind: Mapped[str]  # EventKind, or a stage's own
    payload: Mapped[dict[str, Any]]
    at: Mapped[datetime] = mapped_column(default=utcnow)


class Turn(Base):
    """When a stage was last claimed of what takes turns: an owner ("by " and the name), a sweep or an experiment."""

    __tablename__ = "turn"

    name: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]


class Worker(Base):
    """A process that computes."""

    __tablename__ = "worker"

    name: Mapped[str] = mapped_column(primary_key=True)
    device: Mapped[str]
    numerics: Mapped[str]  # numerics class: device kind, torch, precision, threads
    queue: Mapped[str]
    speed: Mapped[dict[str, Any]]  # architecture -> measured training images a second
    calibration: Mapped[dict[str, Any] | None]  # prices.Calibration, measured at its start; null before
    stage_id: Mapped[str | None] = mapped_column(Id)
    readings: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")  # readings.Reader's last
    # kind of stage -> {"how": {how attempts at it ended: count}, "seconds": worked}, since the row was made
    tally: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    pid: Mapped[int]
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    stopped_at: Mapped[datetime | None]


class Throughput(Base):
    """What finished stages of one kind amount to on one shape of data and network: sums, older ones counting less."""

    __tablename__ = "throughput"

    kind: Mapped[str] = mapped_column(primary_key=True)
    shape: Mapped[str] = mapped_column(primary_key=True)
    numerics: Mapped[str] = mapped_column(primary_key=True)
    stages: Mapped[float]
    trained: Mapped[float]  # images
    predicted: Mapped[float]  # images
    other: Mapped[float]  # seconds on the core that planners' constants were measured on
    seconds: Mapped[float]
    at: Mapped[datetime] = mapped_column(default=utcnow)


class Catalogue(Base):
    """Things known to this database only: data sets users registered, what was found in their pictures, ways of
    training that were measured, and entries published by workers' plugins."""

    __tablename__ = "catalogue"

    kind: Mapped[str] = mapped_column(
        primary_key=True
    )  # data, look, size, grouping; a noun of the registries, or plugin
    name: Mapped[str] = mapped_column(primary_key=True)
    details: Mapped[dict[str, Any]]
    at: Mapped[datetime] = mapped_column(default=utcnow)


class Gathering(Base):
    """An ensemble made elsewhere whose members come in pieces until it is sealed; reopened it is another experiment."""

    __tablename__ = "gathering"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    name: Mapped[str]
    planned: Mapped[int]  # members promised
    sealed: Mapped[bool]
    declared: Mapped[dict[str, Any]]  # what was said of all members before any came: gathering.Declared
    key: Mapped[str | None] = mapped_column(unique=True)  # acting.own of the request that opened it
    request: Mapped[str] = mapped_column(String(64))  # digest of its body
    revision: Mapped[int] = mapped_column(default=0)  # grows with every change: who planned on another one plans again
    experiment_id: Mapped[str | None] = mapped_column(ForeignKey("experiment.id", ondelete="CASCADE"))
    looks: Mapped[list[Any]]  # ids of the experiments as which it was sealed, oldest first
    created_by: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    changed_at: Mapped[datetime] = mapped_column(default=utcnow)

    __table_args__ = (Index("ix_gathering_experiment", "experiment_id"),)


class Gathered(Base):
    """One piece of a gathering: a member, or those of an archive."""

    __tablename__ = "gathered"

    gathering_id: Mapped[str] = mapped_column(ForeignKey("gathering.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)  # in the order in which they came
    request: Mapped[str] = mapped_column(String(64))  # digest of what was sent: the same again changes nothing
    members: Mapped[list[Any]]  # their ids
    piece: Mapped[dict[str, Any]]  # pieces.Piece
    files: Mapped[list[Any]]  # name, sha256 and bytes of every file that was sent
    at: Mapped[datetime] = mapped_column(default=utcnow)


class LoggedMember(Base):
    """A member that is still being trained elsewhere: how many points of its curves were sent. It goes when the member
    comes, whose curves they then are."""

    __tablename__ = "logged_member"

    gathering_id: Mapped[str] = mapped_column(ForeignKey("gathering.id", ondelete="CASCADE"), primary_key=True)
    member: Mapped[str] = mapped_column(primary_key=True)  # its id
    points: Mapped[int]
    batches: Mapped[int]
    curves: Mapped[list[Any]]  # their names
    told_at: Mapped[datetime]  # when an event last said that there are more


class LoggedBatch(Base):
    """Points that were sent together. Of each curve: little-endian int64 steps, then float64 values, then float64 Unix
    times."""

    __tablename__ = "logged_batch"

    gathering_id: Mapped[str] = mapped_column(primary_key=True)
    member: Mapped[str] = mapped_column(primary_key=True)
    # its sender's name for it, by which it is kept once; behind that of the training it is of, and a space, if one was
    # named: a member that is trained again has only the points of the training that it came of
    batch: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int]  # in the order in which they came
    curves: Mapped[list[Any]]  # [name, points] of each, in the order of the bytes
    points: Mapped[bytes] = mapped_column(LargeBinary)

    __table_args__ = (
        ForeignKeyConstraint(
            ["gathering_id", "member"], ["logged_member.gathering_id", "logged_member.member"], ondelete="CASCADE"
        ),
    )


class Idempotency(Base):
    """The answer already given to a request that may be repeated."""

    __tablename__ = "idempotency"

    key: Mapped[str] = mapped_column(primary_key=True)  # acting.own of the request's
    request: Mapped[str] = mapped_column(String(64))  # digest of the body: another body under the same key is refused
    experiment_id: Mapped[str] = mapped_column(Id)
    at: Mapped[datetime] = mapped_column(default=utcnow)


class Selection(Base):
    """A selection of solutions too long for a URL, under a short key."""

    __tablename__ = "selection"

    key: Mapped[str] = mapped_column(String(16), primary_key=True)
    experiment_id: Mapped[str] = mapped_column(ForeignKey("experiment.id", ondelete="CASCADE"))
    numbers: Mapped[list[Any]]
    at: Mapped[datetime] = mapped_column(default=utcnow)


class Fact(Base):
    """Small facts about this database, such as that Quickstart was queued once."""

    __tablename__ = "fact"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime] = mapped_column(default=utcnow)


class User(Base):
    """Somebody who may sign in, or whose programs may ask."""

    __tablename__ = "user_account"  # PostgreSQL means something else by `user`

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    name: Mapped[str]
    key: Mapped[str] = mapped_column(unique=True)  # users.key_of the name: alike names are one
    role: Mapped[UserRole]
    password: Mapped[str | None]  # Argon2id, with its parameters; null: signs in by tokens alone
    disabled: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    created_by: Mapped[str]


class ApiToken(Base):
    """A secret of a user's programs, of which only the digest is kept."""

    __tablename__ = "api_token"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("user_account.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    expires_at: Mapped[datetime | None]
    used_at: Mapped[datetime | None]  # to a minute
    parent_id: Mapped[str | None] = mapped_column(Id, index=True)  # the token by which it was made, which it ends with


class SignIn(Base):
    """A browser that has signed in. user_id: null of one that showed a secret of the server itself."""

    __tablename__ = "sign_in"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)  # of what the cookie holds
    user_id: Mapped[str | None] = mapped_column(ForeignKey("user_account.id", ondelete="CASCADE"), index=True)
    secret: Mapped[str]  # what was shown: password, token, server-token, home-key
    token_id: Mapped[str | None] = mapped_column(ForeignKey("api_token.id", ondelete="CASCADE"), index=True)
    address: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    expires_at: Mapped[datetime]
    seen_at: Mapped[datetime]  # to a minute


class FormerUser(Base):
    """The name of a user who was removed, which nobody has again: what that one made stays under it."""

    __tablename__ = "former_user"

    key: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(default=utcnow)


class KnownBrowser(Base):
    """A browser in which a user's password was once right: others' failures with that name do not hold it up."""

    __tablename__ = "known_browser"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)  # of what its own cookie holds
    user_id: Mapped[str] = mapped_column(
        ForeignKey("user_account.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    used_at: Mapped[datetime] = mapped_column(default=utcnow)


class SignInCode(Base):
    """What an address holds that signs in once whoever runs the server."""

    __tablename__ = "sign_in_code"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    expires_at: Mapped[datetime]


class SignInFailure(Base):
    """How often somebody failed to sign in lately: under a user's name, from an address, or in a known browser."""

    __tablename__ = "sign_in_failure"

    key: Mapped[str] = mapped_column(primary_key=True)  # users.of_user, of_address, of_browser
    count: Mapped[int]
    at: Mapped[datetime] = mapped_column(index=True)  # the last of them


class Deed(Base):
    """Something that somebody did on purpose, as the audit list has it."""

    __tablename__ = "deed"
    __table_args__ = (Index("ix_deed_thing", "thing"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Counter, primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(default=utcnow)
    who: Mapped[str]
    role: Mapped[UserRole]
    address: Mapped[str]  # "" where it was done on the server's machine itself
    verb: Mapped[str]
    kind: Mapped[str]  # experiment, sweep, import, data set, user, token, ...
    thing: Mapped[str]  # its id
    name: Mapped[str]  # as it was called then
    details: Mapped[dict[str, Any]]


class Recipient(Base):
    """An address that hears when experiments end: a webhook's, or a mail address."""

    __tablename__ = "recipient"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    address: Mapped[str]
    secret: Mapped[str]  # that messages to it are signed with
    endings: Mapped[list[Any]]  # statuses it wants to hear of
    created_by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class Notice(Base):
    """Something that an address is told, until it is, or given up."""

    __tablename__ = "notice"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    recipient_id: Mapped[str] = mapped_column(ForeignKey("recipient.id", ondelete="CASCADE"), index=True)
    payload: Mapped[dict[str, Any]]
    attempts: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    next_at: Mapped[datetime | None] = mapped_column(index=True)  # null: it was told, or is given up
    claimed_until: Mapped[datetime | None]
    told_at: Mapped[datetime | None]
    error: Mapped[str | None] = mapped_column(Text)  # why it failed the last time


class Report(Base):
    """Notes between figures, claims and numbers of experiments, which are references: what they show is read anew."""

    __tablename__ = "report"
    __table_args__ = (Index("ix_report_list", "changed_at", "id"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    slug: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    blocks: Mapped[list[Any]]  # reports.blocks, in their order
    revision: Mapped[int] = mapped_column(default=1)  # grows with every change: who changes an older one is told so
    created_by: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    changed_at: Mapped[datetime] = mapped_column(default=utcnow)


class ReportRevision(Base):
    """What a report said once, and who wrote that; the present revision is one of them."""

    __tablename__ = "report_revision"

    report_id: Mapped[str] = mapped_column(ForeignKey("report.id", ondelete="CASCADE"), primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str]
    blocks: Mapped[list[Any]]
    by: Mapped[str]
    at: Mapped[datetime]


class ReportImage(Base):
    """An image that was put into a report, as it was written anew when it came."""

    __tablename__ = "report_image"

    report_id: Mapped[str] = mapped_column(ForeignKey("report.id", ondelete="CASCADE"), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str]
    media: Mapped[str]
    width: Mapped[int]
    height: Mapped[int]
    content: Mapped[bytes] = mapped_column(LargeBinary)
    at: Mapped[datetime] = mapped_column(default=utcnow)


class SharedLink(Base):
    """A secret by which one experiment, report or view can be read; only its digest is kept. It ends with what it leads
    to, and holds for as long as who made it may share."""

    __tablename__ = "shared_link"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    kind: Mapped[str]  # links.LinkKind
    target: Mapped[str] = mapped_column(Text)  # the address it leads to, with its query
    things: Mapped[list[Any]] = mapped_column(default=list)  # ids of the experiments, report or sweep that it is of
    name: Mapped[str]
    created_by: Mapped[str]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    without_sign_in: Mapped[bool]  # where the settings let links do without, too


class Parcel(Base):
    """An archive of an experiment that is made for somebody to fetch, and kept for a while."""

    __tablename__ = "parcel"
    __table_args__ = (Index("ix_parcel_experiment_id", "experiment_id"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    experiment_id: Mapped[str] = mapped_column(ForeignKey("experiment.id", ondelete="CASCADE"))
    parts: Mapped[list[Any]]  # exporting.Part, those that were asked for
    state: Mapped[str]  # making, ready, failed
    done_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    total_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    files: Mapped[int] = mapped_column(default=0)
    error: Mapped[str | None] = mapped_column(Text)
    created_by: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    heard_at: Mapped[datetime] = mapped_column(default=utcnow)  # when its maker last said how far it is
    finished_at: Mapped[datetime | None]
