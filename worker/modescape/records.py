"""What passes between the rooms of the house: the words that rows and documents use, and frozen records.

    if stage.state is StageState.READY: ...
    StageOutput(measurements=[NewMeasurement(metric="accuracy", value=0.9)])

The words are texts (`StrEnum`), so rows and JSON hold them as they stand here. Knows no database, no web and no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, TypedDict

import orjson

from modescape.errors import InvalidInput
from modescape.prices import Work

Json = dict[str, Any]
Point = tuple[int, float, float]  # step, value, Unix time
Need = tuple[str, str]  # kind, key


# --- words ------------------------------------------------------------------------------------------------------------


class Status(StrEnum):
    """How an experiment stands, as follows from its stages (`graph.status`)."""

    QUEUED = "queued"  # no stage has started
    RUNNING = "running"  # a stage runs, or some have and others may
    PAUSED = "paused"  # a stage is held and none runs
    SUCCEEDED = "succeeded"  # all has ended, and every stage that must has succeeded
    FAILED = "failed"  # all has ended, and a stage that must succeed has not
    CANCELLED = "cancelled"  # all has ended, and some stages never will be done

    @property
    def has_ended(self) -> bool:
        return self in (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED)


class StageState(StrEnum):
    """What may happen to a stage next."""

    BLOCKED = "blocked"  # waits for other stages
    READY = "ready"  # may be claimed
    RUNNING = "running"  # a worker has its lease
    PAUSED = "paused"  # would be ready, and is held
    SUCCEEDED = "succeeded"  # its output is there
    FAILED = "failed"  # stopped with an error, or cannot be done without one that did
    CANCELLED = "cancelled"  # given up by the user, or needs one that was

    @property
    def has_ended(self) -> bool:
        return self in (StageState.SUCCEEDED, StageState.FAILED, StageState.CANCELLED)


class Wish(StrEnum):
    """What the user wants of a running stage; its worker notices at the next step."""

    PAUSE = "pause"  # save and hold
    CANCEL = "cancel"  # give up


PRIORITIES = {"low": -1, "normal": 0, "high": 1}  # of experiments: stages of higher ones are claimed first


class Role(StrEnum):
    """What a solution is to its run."""

    CHECKPOINT = "checkpoint"  # a point on its trajectory
    OPTIMUM = "optimum"  # the end of its training
    SAMPLE = "sample"  # drawn around or along it by a method


class SampleSet(StrEnum):
    """Why a sample was drawn."""

    SPREAD = "spread"  # over all strengths, to see how far the method reaches
    TYPICAL = "typical"  # near the optimum, where the method is meant to work
    FAIR = "fair"  # at the strength whose average is best on validation images
    LAST = "last"  # the last iterate of a method that trains on from an optimum


class Group(StrEnum):
    """Functions that are meant together, as measurements, figures and filters call them. A method's samples are a group
    too, which goes by the method's name."""

    INDEPENDENT = "independent"  # the final functions of the runs
    TRAJECTORY = "trajectory"  # checkpoints along one training

    @property
    def words(self) -> str:
        """As read inside a sentence."""
        return {Group.INDEPENDENT: "independent runs", Group.TRAJECTORY: "checkpoints"}[self]

    @classmethod
    def with_methods(cls, methods: Iterable[str]) -> list[str]:
        """Every group there is beside these methods, in the order of figures."""
        return [*cls, *methods]


_FORMER = re.compile(r"(?<![\w-])optim(um|a)(?![\w-])")


def group_name(text: str) -> str:
    """A group, or a subject with one in it ("ensemble/optimum/4"), in the spelling of now. Before revision 0008 the
    final functions had several names; kept outputs of stages, saved links and habits still use them."""
    return _FORMER.sub(Group.INDEPENDENT, text)


class StageKind(StrEnum):
    """Stages that other rooms speak of. A study names its own (`stages.KINDS` has all), so this list is not whole."""

    TRAIN = "train"  # one run, from its initial weights to its optimum
    PREDICT = "predict"  # what the checkpoints of a run say of every evaluation image
    SAMPLE = "sample"  # functions drawn around a run's optimum
    CHAIN = "chain"  # functions along a trajectory that trains on

    @classmethod
    def of_runs(cls) -> tuple[StageKind, StageKind]:
        """Those that decide whether a run is healthy."""
        return cls.TRAIN, cls.PREDICT


class EventKind(StrEnum):
    """What happened. A stage may tell events of kinds of its own besides (`StageControl.note`)."""

    CREATED = "created"  # an experiment, with its name and slug
    CHANGED = "changed"  # its name, tags or notes, or what else lists show of it
    STATUS = "status"  # its status, with how many stages are done
    CANCELLED = "cancelled"  # by the user: how many stages at once, how many are asked to stop
    PAUSED = "paused"  # likewise
    RESUMED = "resumed"  # likewise
    RETRIED = "retried"  # how many stages get another chance
    ARCHIVED = "archived"  # out of the lists
    RESTORED = "restored"  # in the lists again
    PURGED = "purged"  # gone, with the bytes it freed
    STAGE_READY = "stage-ready"  # a stage may be claimed
    STAGE_RUNNING = "stage-running"  # claimed, by whom
    STAGE_PAUSED = "stage-paused"  # given back and held
    STAGE_SUCCEEDED = "stage-succeeded"  # its output is there
    STAGE_FAILED = "stage-failed"  # with its error
    STAGE_CANCELLED = "stage-cancelled"  # given up
    PROGRESS = "progress"  # how far a running stage is
    POINTS = "points"  # new points of curves, or of a picture that is drawn on the way
    RESTARTED = "restarted"  # a stage begins again: what it had saved cannot be used
    IDENTITY = "identity violated"  # an identity that ensembles obey did not hold to rounding
    WORKER = "worker"  # started or stopped
    PARCEL = "parcel"  # how far an archive of an experiment is

    @classmethod
    def of(cls, state: StageState) -> EventKind:
        """That a stage has come into this state."""
        return cls(f"stage-{state}")


# --- files ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ArtifactInfo:
    """What is known of one file: sha-256 of its bytes, its use, type and shape of its numbers, its size.

    kind: weights, predictions, labels or matrix. For tensors dtype is the common one or "mixed" and
    shape holds the number of elements.
    """

    digest: str
    kind: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int


# --- what is planned, and what stages leave behind --------------------------------------------------------------------


class Queue(StrEnum):
    """What workers may be kept to, by what a stage is expected to be."""

    CPU = "cpu"  # gathering, judging and drawing: no image goes through a network
    GPU = "gpu"  # training and predicting
    LONG = "long"  # whatever takes more than LONG_SECONDS


LONG_SECONDS = 3600.0


@dataclass(frozen=True)
class PlannedStage:
    """A stage as the plan has it.

    needs: (kind, key) of stages that must succeed first; wants: of those that must end first, and whose results it can
    do without; params: what the stage function gets besides the spec ("run" where it belongs to one, "first_number"
    where it makes solutions); work: what there is to do, shape: on what (see `prices`); estimate: seconds that takes on
    the workers there are; optional: the experiment succeeds even if this one fails.
    """

    kind: str
    key: str
    needs: tuple[Need, ...] = ()
    params: Json = field(default_factory=dict)
    estimate: float = 0.0
    wants: tuple[Need, ...] = ()
    optional: bool = False
    work: Work = field(default_factory=Work)
    shape: str = ""

    @property
    def queue(self) -> Queue:
        """Which workers take it."""
        if self.estimate > LONG_SECONDS:
            return Queue.LONG
        return Queue.GPU if self.work.trained or self.work.predicted else Queue.CPU


class About(TypedDict, total=False):
    """What is said of an experiment beside its name and its promise. idempotency: (key, digest of the request);
    provenance: where an imported ensemble came from; parent: slug of the experiment it is a clone of."""

    preset: str | None
    notes: str
    tags: Sequence[str]
    fresh: bool
    priority: int
    idempotency: tuple[str, str] | None
    provenance: Json | None
    project: str
    parent: str | None


@dataclass(frozen=True)
class Absent:
    """Why an experiment has no stages of a kind, as a sentence, "" where nobody would look for any; add: what
    `/launch?with=` adds; place: where the form asks for it."""

    words: str
    add: str
    place: str = ""


@dataclass(frozen=True)
class Progress:
    """How far a running stage is. steps: of how many, 0: not known yet; numbers: what else is worth telling on the way
    (epoch, loss, accuracy, images_per_second, seconds_left, or what the stage is at)."""

    step: int
    steps: int
    numbers: Json = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class NewSolution:
    """A row of `tables.Solution`, before it has an id."""

    number: int
    run: int
    role: Role
    index: int
    method: str | None = None
    sample_set: SampleSet | None = None
    epoch: float | None = None
    seed: int | None = None
    attempt: int | None = None
    strength: float | None = None
    relative: float | None = None
    norm: float | None = None
    cosine: float | None = None
    distance: float | None = None
    accuracy: float | None = None
    diversity: float | None = None
    disagreement: float | None = None
    weights: str | None = None
    predictions: Json = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class NewMeasurement:
    """A row of `tables.Measurement`, before it has an id."""

    metric: str
    value: float | None
    solution: int | None = None
    subject: str = ""
    split: str | None = None
    corruption: str | None = None
    intensity: int | None = None
    n: int | None = None
    details: Json = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class NewMatrix:
    """A row of `tables.Matrix`, before it has an id."""

    name: str
    split: str
    rows: list[int]
    columns: list[Any]
    artifact: str
    details: Json = field(default_factory=dict)


@dataclass(frozen=True)
class TrainedRun:
    """What a training says of its run. arithmetic: its precision, device, hardware and torch; failed: why it counts
    nowhere."""

    arithmetic: Json
    failed: str | None = None  # None: not known yet


@dataclass(frozen=True)
class PredictedRun:
    """What its predictions say of a run. accuracy: of its optimum, best_accuracy: over its checkpoints, on the first
    evaluation split; failed: why it counts nowhere, "" when it does."""

    accuracy: float | None
    best_accuracy: float | None
    failed: str | None = None  # None: from a version that did not tell


@dataclass
class ListColumns:
    """Columns of the list of experiments that a stage sets. None, and an empty finding: left as they are."""

    accuracy: float | None = None
    finding: Json = field(default_factory=dict)
    ensemble_accuracy: float | None = None
    disagreement: float | None = None

    def told(self) -> Json:
        told = _without_none(self, "accuracy", "ensemble_accuracy", "disagreement")
        return told if self.finding else {name: value for name, value in told.items() if name != "finding"}


def told_of(run: TrainedRun | PredictedRun) -> Json:
    """What a run's row gets of it."""
    return _without_none(run, "failed")


def _without_none(record: Any, *names: str) -> Json:
    return {name: value for name, value in asdict(record).items() if not (name in names and value is None)}


@dataclass
class StageOutput:
    """All that a finished stage leaves: rows, files, and what its dependants need. Kept whole as `stage.result`.

    runs: by run number; weights: solution number -> digest, for weights made again; extra: JSON for the stages that
    need this one; "failed" in it says that what the stage made has failed (a training that diverged), "skipped" why it
    made nothing. A finding joins what other stages have found: its keys replace theirs, and the claims under its key
    "claims" (letter -> claim) replace those of the same letter.
    """

    solutions: list[NewSolution] = field(default_factory=list)
    measurements: list[NewMeasurement] = field(default_factory=list)
    matrices: list[NewMatrix] = field(default_factory=list)
    artifacts: list[ArtifactInfo] = field(default_factory=list)
    runs: dict[int, TrainedRun | PredictedRun] = field(default_factory=dict)
    experiment: ListColumns = field(default_factory=ListColumns)
    weights: dict[int, str] = field(default_factory=dict)
    extra: Json = field(default_factory=dict)

    def to_json(self) -> Json:
        """Plain JSON: numpy numbers become Python's, NaN and infinity become null."""
        option = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
        document = asdict(self) | {
            "runs": {number: told_of(outcome) for number, outcome in self.runs.items()},
            "experiment": self.experiment.told(),
        }
        plain: Json = orjson.loads(orjson.dumps(document, option=option))
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StageOutput:
        return cls(
            solutions=[_solution(item) for item in data["solutions"]],
            measurements=[_measurement(item) for item in data["measurements"]],
            matrices=[NewMatrix(**item) for item in data["matrices"]],
            artifacts=[ArtifactInfo(**{**item, "shape": tuple(item["shape"])}) for item in data["artifacts"]],
            runs={int(number): _outcome(told) for number, told in data["runs"].items()},
            experiment=ListColumns(**data["experiment"]),
            weights={int(number): digest for number, digest in data["weights"].items()},
            extra=data["extra"],
        )

    def moved(self, source: Json, target: Json) -> StageOutput | None:
        """The same output for a stage with other params: own solution numbers and the run change, nothing else.

        None when it speaks of solutions it did not make and the numbers differ: those cannot be told here.
        """
        shift = target.get("first_number", 0) - source.get("first_number", 0)
        old_run, new_run = source.get("run"), target.get("run")
        if shift == 0 and old_run == new_run:
            return self
        own = {solution.number for solution in self.solutions} | set(self.weights)
        named = {m.solution for m in self.measurements if m.solution is not None}
        for matrix in self.matrices:
            named |= {*matrix.rows, *(column for column in matrix.columns if isinstance(column, int))}
        if not named <= own:
            return None

        def run(number: int) -> int:
            return new_run if new_run is not None and number == old_run else number

        def shifted(items: list[Any]) -> list[Any]:
            return [item + shift if isinstance(item, int) else item for item in items]

        return replace(
            self,
            solutions=[replace(s, number=s.number + shift, run=run(s.run)) for s in self.solutions],
            measurements=[
                m if m.solution is None else replace(m, solution=m.solution + shift) for m in self.measurements
            ],
            matrices=[replace(m, rows=shifted(m.rows), columns=shifted(m.columns)) for m in self.matrices],
            runs={run(number): values for number, values in self.runs.items()},
            weights={number + shift: digest for number, digest in self.weights.items()},
        )


def _outcome(told: Json) -> TrainedRun | PredictedRun:
    return TrainedRun(**told) if "arithmetic" in told else PredictedRun(**told)


def _measurement(item: Json) -> NewMeasurement:
    details = item["details"]
    if "group" in details:
        details = {**details, "group": group_name(details["group"])}
    return NewMeasurement(**{**item, "subject": group_name(item["subject"]), "details": details})


def _solution(item: Json) -> NewSolution:
    drawn = item["sample_set"]
    return NewSolution(**{**item, "role": Role(item["role"]), "sample_set": SampleSet(drawn) if drawn else None})


@dataclass(frozen=True)
class Occurring:
    """Places of a class's images in the order of their splits, -1 where there are none: the first and the last of
    training, the first of a validation set of its own, the first of the test set."""

    train: int
    last_train: int
    validation: int
    test: int


@dataclass(frozen=True)
class DataInfo:
    """What is known of a data set before anything is computed. Sizes in images.

    train_total includes validation where that is cut from it; a set with validation images of its own has
    validation_total of them beside. layout: what is used for what, in words; ignored: what was left aside; remarks:
    how it is read, where that needs saying before a launch, a sentence each; are_pictures: False of numbers that are
    kept as they are; test_is_cut: whether the test images are a part of a set without splits; occurring: of a user's
    own set where each class is found, by which is told what fewer of its images would lack.
    """

    channels: int
    height: int
    width: int
    classes: tuple[str, ...]
    train_total: int
    test_total: int
    validation_default: int
    fingerprint: str | None = None
    remarks: tuple[str, ...] = ()
    validation_total: int = 0
    layout: str = ""
    ignored: tuple[str, ...] = ()
    are_pictures: bool = True
    test_is_cut: bool = False
    occurring: tuple[Occurring, ...] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True)
class Sizes:
    """How many images of each split an experiment uses. held_out: of the validation images those that no training is
    known to have seen, which is all or none; temperatures and strengths are chosen on no others."""

    train: int
    validation: int
    test: int
    held_out: int


class BulkAction(StrEnum):
    """What can be done to many experiments at once."""

    CHANGE = "change"  # tags and project
    ARCHIVE = "archive"  # out of the lists, with everything kept
    RESTORE = "restore"  # back from the archive
    PURGE = "purge"  # archived ones, for good


@dataclass(frozen=True)
class BulkDeed:
    """What is done to many. tag, untag: to add and to take away; project: to put them into, "" takes them out of
    theirs, None leaves it."""

    action: BulkAction
    tag: tuple[str, ...] = ()
    untag: tuple[str, ...] = ()
    project: str | None = None

    def check(self) -> None:
        """Raises InvalidInput for a change that changes nothing."""
        if self.action is BulkAction.CHANGE and not (self.tag or self.untag or self.project is not None):
            raise InvalidInput("nothing to change is named", field="tag", allowed="tag, untag or project")


@dataclass
class BulkDone:
    """What was done to many. done: slugs; failed: why not, by slug; forbidden: how many of these are somebody else's;
    freed: bytes."""

    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    forbidden: int = 0
    freed: int = 0

    def document(self) -> Json:
        failed = [{"slug": slug, "why": why} for slug, why in self.failed.items()]
        return {"done": self.done, "failed": failed, "freed_bytes": self.freed}

    @classmethod
    def from_json(cls, told: Json) -> BulkDone:
        return cls(list(told["done"]), {one["slug"]: one["why"] for one in told["failed"]}, 0, told["freed_bytes"])
