"""From a spec to its stages, their order and their price; imports no torch, so the form can ask at every key press.

    prepared = prepare({"data": {"dataset": "digits"}}, folders)
    prepared.plan.seconds, prepared.plan.bytes, [stage.key for stage in prepared.plan.stages]

The graph; each kind is planned by its own module in `stages`:

    train[r] --> predict[r] ~~> compare[trajectories]       predict[r] ~~> embed[trajectories]
        |            |                   |
        +------------+--> sample[r/m/s] ~+~~> compare[all]       sample[r/m/s] ~~> embed[samples]

Arrows of dashes must succeed; those of waves (`wants`) must end, and what failed is done without. A stage that stands
on a failed run or chain makes nothing and says so in its result (`stages.inputs`).
Every stage that makes solutions owns a block of solution numbers, so numbers are known before anything runs.
"""

from __future__ import annotations

import heapq
import json
import math
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from modescape import initial
from modescape.datasets import here
from modescape.draft import Draft, Given
from modescape.drawing.words import duration
from modescape.errors import Busy, DataCorrupt, DataMissing, InvalidInput, Problem
from modescape.outage import megabytes
from modescape.own_sets import place_name
from modescape.prices import INFERRED, TAKEN_OVER, Calibration, Cost, Finished, Prices
from modescape.records import DataInfo, Need, PlannedStage, Sizes
from modescape.registry import RECIPE, architectures, datasets, figures, presets
from modescape.spec import ExperimentSpec, check, parse, sizes, studies, with_studies
from modescape.spec_parts import DataSpec, ImportedSpec, keyed
from modescape.study import StudySpec

if TYPE_CHECKING:
    from modescape.science.data.picture_check import PictureCheck


@dataclass(frozen=True)
class Machines:
    """What is known of the workers that will do the work: how many of one arithmetic, what such workers have finished,
    what they measured when they started. numerics: "" where none was ever here."""

    workers: int = 1
    numerics: str = ""
    finished: tuple[Finished, ...] = ()
    calibration: Calibration | None = None

    @property
    def is_known(self) -> bool:
        return self.calibration is not None or bool(self.finished)


NOBODY = Machines()
Done = Callable[[Collection[str]], set[str]]  # stage keys -> those under which a stage has succeeded
# fingerprint, what is said to be white -> what was found there
Looked = Callable[[str, float | None], "PictureCheck | None"]


@dataclass(frozen=True)
class KindCost:
    """One line of the plan the form shows: how many stages of a kind, how many of them are here already, and what the
    others cost together on one worker."""

    kind: str
    count: int
    seconds: float
    here: int = 0


@dataclass(frozen=True)
class Link:
    """A stage of the critical path, and its seconds."""

    kind: str
    key: str
    seconds: float


@dataclass(frozen=True)
class Price:
    """Wall-clock seconds, between low and high; basis: where the speed comes from, in words."""

    seconds: float
    low: float
    high: float
    basis: str


@dataclass(frozen=True)
class Missing:
    """A set that a spec asks for in `field` and that is not on this machine. how: the next step, in words; bytes: of
    the download, None where it cannot be fetched."""

    dataset: str
    title: str
    field: str
    how: str
    bytes: int | None


@dataclass(frozen=True)
class Plan:
    """What will be done and what it will cost. seconds is wall-clock on `workers` workers, between low and high; here:
    stages that will be taken over from earlier experiments; gpu: the price on one worker with a GPU, None where these
    have one or nothing was measured on any; path: the critical path, the longest chain of stages that wait for one
    another, which no number of workers shortens."""

    stages: tuple[PlannedStage, ...]
    kinds: tuple[KindCost, ...]
    seconds: float
    low: float
    high: float
    bytes: int
    workers: int
    basis: str
    here: int
    gpu: Price | None
    parameters: int
    solutions: int
    predictions: int
    answers: tuple[str, ...]  # names of the figures it feeds
    path: tuple[Link, ...]
    warnings: tuple[str, ...]

    @property
    def machine_seconds(self) -> float:
        """On one worker."""
        return sum(kind.seconds for kind in self.kinds)

    @property
    def new_bytes(self) -> float:
        """On disk, but for what is taken over."""
        return self.bytes * (1 - self.here / len(self.stages)) if self.stages else 0.0


@dataclass(frozen=True)
class Limits:
    """What one launch may cost, None: anything. of_bytes, of_seconds: whose limits they are, in words."""

    bytes: float | None = None
    machine_seconds: float | None = None
    of_bytes: str = ""
    of_seconds: str = ""

    def and_(self, other: Limits) -> Limits:
        """Both: of each the one that allows less."""
        bytes = [(one.bytes, one.of_bytes) for one in (self, other) if one.bytes is not None]
        seconds = [(one.machine_seconds, one.of_seconds) for one in (self, other) if one.machine_seconds is not None]
        (most, of_bytes), (longest, of_seconds) = min(bytes, default=(None, "")), min(seconds, default=(None, ""))
        return Limits(most, longest, of_bytes, of_seconds)

    def exceeded(self, bytes: float, seconds: float) -> list[str]:
        """What is wrong with that much, a sentence each."""
        found = []
        if self.bytes is not None and bytes > self.bytes:
            found.append(f"it would keep {megabytes(bytes)}, and {self.of_bytes}")
        if self.machine_seconds is not None and seconds > self.machine_seconds:
            found.append(f"it would take {duration(seconds)} of machine time, and {self.of_seconds}")
        return found


@dataclass(frozen=True)
class Prepared:
    """A spec that has passed every check, with its data's real sizes (and its fingerprint filled in) and its plan.

    missing: sets that are not here, whose sizes are the published ones.
    """

    spec: ExperimentSpec
    info: DataInfo
    sizes: Sizes
    plan: Plan
    missing: tuple[Missing, ...] = ()


def prepare(
    document: Any,
    folders: Sequence[Path],
    *,
    machines: Machines = NOBODY,
    gpu: Machines | None = None,
    done: Done | None = None,
    as_published: bool = False,
    looked: Looked = lambda fingerprint, white: None,
    given: Given = MappingProxyType({}),
) -> Prepared:
    """Parse, look at the data, check across fields, plan. The one door for form, API, command line and notebook.

    machines, gpu, done: as for `plan`. as_published: public sets that are not here are planned in their published
    sizes, and named in `missing`. looked: what is known of a user's own pictures that were decoded before; given: the
    arrays of an imported ensemble.
    Raises InvalidInput (every problem with its field), DataMissing (every set with its field), DataCorrupt
    (with its field).
    """
    spec = document if isinstance(document, ExperimentSpec) else parse(document)
    if spec.imported is not None:
        if not given:
            raise InvalidInput(
                "its arrays do not come with a spec", field="source",
                allowed="trained; an ensemble made elsewhere comes by `modescape import` or ms.analyse",
            )  # fmt: skip
        info = _imported(spec.imported)
        return Prepared(spec, info, sizes(spec, info), plan(spec, info, machines=machines, done=done, given=given))
    missing: list[Missing] = []
    try:
        info = here.describe(spec.data, tuple(folders))
    except DataMissing as error:
        missing.append(_missing(spec.data.dataset, "data.dataset", error))
        if not datasets[spec.data.dataset].train_total:  # a plug-in's set says its sizes by being read
            raise _not_here(missing) from None
        info = here.as_scaled(here.published(spec.data.dataset), spec.data)
    except DataCorrupt as error:
        raise _corrupt("data", spec.data, error) from None
    if spec.data.path is not None and spec.data.fingerprint not in (None, info.fingerprint):
        said = here.since_created(spec.data, tuple(folders))
        info = replace(info, remarks=(*filter(None, (said,)), *info.remarks))
    if info.fingerprint is not None:
        spec = spec.model_copy(update={"data": spec.data.model_copy(update={"fingerprint": info.fingerprint})})
    check(spec, info)
    spec = initial.looked_at(spec)
    spec = _look_up(spec, info, tuple(folders), missing)
    if missing and not as_published:
        raise _not_here(missing)
    info = replace(info, remarks=(*info.remarks, *_seen(spec, looked)))
    made = plan(spec, info, machines=machines, gpu=gpu, done=done)
    return Prepared(spec, info, sizes(spec, info), made, tuple(missing))


def _imported(ensemble: ImportedSpec) -> DataInfo:
    """What is known of the examples that an ensemble made elsewhere was evaluated on."""
    return DataInfo(
        channels=0, height=0, width=0, classes=ensemble.classes, train_total=0, test_total=ensemble.images,
        validation_default=ensemble.validation, validation_total=ensemble.validation,
    )  # fmt: skip


def _seen(spec: ExperimentSpec, looked: Looked) -> list[str]:
    """How the user's own pictures are read. Raises InvalidInput naming those known to be unreadable."""
    remarks = _seen_in("data", spec.data, looked)
    for field, study in studies(spec):
        remarks += study.remarks()
        for part, own in study.own_images():
            at = ".".join(filter(None, (field, part)))
            said = _seen_in(at, own, looked)
            remarks += [f"{place_name(str(own.path), own.dataset)}: {sentence}" for sentence in said]
    return remarks


def _seen_in(field: str, part: DataSpec, looked: Looked) -> list[str]:
    found = looked(part.fingerprint, part.white) if part.dataset == "folder" and part.fingerprint is not None else None
    if found is not None and found.problem:
        raise InvalidInput(found.problem, field=f"{field}.path", allowed="pictures that can be decoded")
    return list(found.remarks) if found else []


def _missing(dataset: str, field: str, error: DataMissing) -> Missing:
    entry = datasets[dataset]
    return Missing(dataset, entry.title, field, str(error), entry.download_bytes)


def _corrupt(field: str, asked: Any, error: DataCorrupt) -> DataCorrupt:
    problem = Problem(str(error), f"{field}.{'path' if asked.path else 'dataset'}")
    return DataCorrupt(str(error), problems=[problem])


def _not_here(missing: Sequence[Missing]) -> DataMissing:
    problems = [Problem(one.how, one.field) for one in missing]
    return DataMissing("; ".join(dict.fromkeys(p.message for p in problems)), problems=problems)


def _look_up(spec: ExperimentSpec, info: DataInfo, folders: tuple[Path, ...], missing: list[Missing]) -> ExperimentSpec:
    """The spec once the files its studies need were looked at; public sets that are not here are added to `missing`.

    Raises InvalidInput, DataCorrupt.
    """
    changed: dict[str, StudySpec] = {}
    for field, study in studies(spec):
        reads: Any = study if hasattr(study, "dataset") else spec.data
        at = field if reads is study else "data"
        try:
            changed[field] = study.looked_up(spec.data, info, folders)
        except InvalidInput as error:
            problems = [Problem(p.message, f"{field}.{p.field}".rstrip("."), p.allowed) for p in error.problems]
            raise InvalidInput("; ".join(map(str, problems)), problems=problems) from None
        except DataMissing as error:
            named = f"{field}.{error.problems[0].field}" if error.problems else f"{at}.dataset"
            missing.append(_missing(error.dataset or reads.dataset, named, error))
        except DataCorrupt as error:
            if error.problems:
                problems = [replace(one, field=f"{field}.{one.field}") for one in error.problems]
                raise DataCorrupt(str(error), problems=problems) from None
            raise _corrupt(at, reads, error) from None
    return with_studies(spec, changed)


# A plan of thousands of stages holds the interpreter for a second: those who only read are served between two of them.
_AT_ONCE = threading.BoundedSemaphore(2)
PLANNING_SECONDS = 20.0  # that a plan waits for its turn


def plan(
    spec: ExperimentSpec,
    info: DataInfo,
    *,
    machines: Machines = NOBODY,
    gpu: Machines | None = None,
    done: Done | None = None,
    given: Given = MappingProxyType({}),
) -> Plan:
    """Stages in the order they should be claimed, with their needs, number blocks and costs.

    machines: who will do it; gpu: one with a GPU, where something is known of any; done: which stage keys have
    succeeded here, None where nothing may be taken over; given: as `Draft` has it. Raises InvalidInput where they are
    too many, Busy where too many plans are made in this process.
    """
    if not _AT_ONCE.acquire(timeout=PLANNING_SECONDS):
        raise Busy("many plans are being made; try again in a moment")
    try:
        return _planned(spec, info, machines, gpu, done, given)
    finally:
        _AT_ONCE.release()


def _planned(
    spec: ExperimentSpec, info: DataInfo, machines: Machines, gpu: Machines | None, done: Done | None, given: Given
) -> Plan:
    draft = drafted(spec, info, given)
    here = _here_already(draft, machines.numerics, done)
    costs = _costs(draft, prices_of(spec, info, machines), here)
    warnings = [*info.remarks, *draft.warnings]
    if not all(cost.spread <= INFERRED for need, cost in costs.items() if need not in here):
        warnings.append("not all of these stages have been done here on data of this shape; the time is a first guess")
    if not draft.parameters and spec.imported is None:
        warnings.append(
            f"how large {architectures[spec.network.architecture].title} is with these options on images of this shape "
            "is not known here, for only workers can count it: time and size are guesses"
        )
    if shared := initial.shared_start(spec):
        warnings.append(f"{shared}; claims (a) and (b) are about these, and say so")
    if spec.training.by_epochs:
        warnings.append(
            f"the runs are trained by {RECIPE['trainer'].title(spec.training.trainer)}: what of optimiser, schedule, "
            "loss and augmentation it takes is its own affair, and the time is that of our own loop"
        )
    if spec.ensemble.runs < 3:
        warnings.append("fewer than 3 runs give no measure of how runs vary; no claim about them can be judged")
    if 0 < draft.n.test < 1000:
        warnings.append(
            f"{draft.n.test} test images: the standard error of a disagreement of .3 is "
            f"{(0.21 / draft.n.test) ** 0.5:.3f}"
        )
    price = _price(draft, costs, machines)
    kinds = _kinds(draft, costs, here)
    return Plan(
        stages=tuple(replace(one, estimate=costs[one.kind, one.key].seconds) for one in draft.stages),
        kinds=tuple(kinds),
        seconds=price.seconds,
        low=price.low,
        high=price.high,
        bytes=_bytes(draft),
        workers=max(1, machines.workers),
        basis=price.basis,
        here=len(here),
        gpu=_price(draft, _costs(draft, prices_of(spec, info, gpu), set()), gpu) if gpu is not None else None,
        parameters=draft.parameters,
        solutions=draft.next_number,
        predictions=draft.next_number * draft.images + draft.predictions,
        path=_critical_path(draft.stages, costs),
        answers=tuple(name for name, figure in figures.items() if set(figure.needs) <= {kind.kind for kind in kinds}),
        warnings=tuple(warnings),
    )


def drafted(spec: ExperimentSpec, info: DataInfo, given: Given = MappingProxyType({})) -> Draft:
    """All stages with what there is to do, not priced."""
    from modescape.stages import planners  # a tenth of a second that a web process spends at its first estimate

    draft = Draft(spec, info, sizes(spec, info), _parameters(spec, info), shape_of(spec, info), given)
    for planner in planners(functions=spec.imported is None or spec.imported.images > 0):
        planner(draft)
    _predict_at_once(draft)
    return draft


def _predict_at_once(draft: Draft) -> None:
    """A run predicts before the next is trained, which costs little: what two runs say of each other is seen early."""
    place = {(one.kind, one.key): i for i, one in enumerate(draft.stages)}
    after = {
        (one.kind, one.key): place["train", one.key]
        for one in draft.stages
        if one.kind == "predict" and ("train", one.key) in place
    }
    draft.stages.sort(key=lambda one: after.get((one.kind, one.key), place[one.kind, one.key]))


def _parameters(spec: ExperimentSpec, info: DataInfo) -> int:
    """Weights of the network; 0 where they are not known here."""
    if spec.imported is not None:
        return 0
    architecture = architectures[spec.network.architecture]
    return architecture.parameters(*_shape(info), architecture.options.model_validate(spec.network.options))


def _shape(info: DataInfo) -> tuple[int, int, int, int]:
    return info.channels, info.height, info.width, len(info.classes)


def shape_of(spec: ExperimentSpec, info: DataInfo) -> str:
    """What stages must have in common for one's speed to be another's: images, classes, network, arithmetic asked for.
    At most 200 characters."""
    channels, height, width, classes = _shape(info)
    if spec.imported is not None:
        return f"imported/{classes}"
    usual = keyed(architectures[spec.network.architecture].options())
    chosen = sorted(spec.network.options.items())
    options = ",".join(f"{key}={value}" for key, value in chosen if value != usual.get(key))
    precision = "" if spec.training.precision == "auto" else spec.training.precision
    words = (f"{channels}x{height}x{width}/{classes}", spec.network.architecture, options, precision)
    return " ".join(filter(None, words))[:200]


def prices_of(spec: ExperimentSpec, info: DataInfo, machines: Machines) -> Prices:
    """What work costs there on this spec's network and data."""
    if spec.imported is not None:  # nothing is trained or predicted
        return Prices(shape_of(spec, info), 1, 1, False, machines.finished, machines.calibration)
    architecture = architectures[spec.network.architecture]
    options = architecture.options.model_validate(spec.network.options)
    return Prices(
        shape_of(spec, info),
        spec.training.batch_size,
        max(1, architecture.multiply_adds(*_shape(info), options)),
        architecture.has_batch_norm(spec.network.options),
        machines.finished,
        machines.calibration,
    )


def _here_already(draft: Draft, numerics: str, done: Done | None) -> set[Need]:
    if done is None or not numerics:
        return set()
    from modescape.stages.keys import here_already

    return here_already(draft.spec, draft.stages, numerics, done)


def _costs(draft: Draft, prices: Prices, here: Collection[Need]) -> dict[Need, Cost]:
    names = [(one.kind, one.key) for one in draft.stages]
    return {
        name: TAKEN_OVER if name in here else prices.cost(one.kind, one.work)
        for name, one in zip(names, draft.stages, strict=True)
    }


def _kinds(draft: Draft, costs: Mapping[Need, Cost], here: Collection[Need]) -> list[KindCost]:
    found: dict[str, list[Need]] = {}
    for stage in draft.stages:
        found.setdefault(stage.kind, []).append((stage.kind, stage.key))
    return [
        KindCost(kind, len(names), sum(costs[name].seconds for name in names), sum(name in here for name in names))
        for kind, names in found.items()
    ]


def _price(draft: Draft, costs: Mapping[Need, Cost], machines: Machines) -> Price:
    """The whole: no worker idles while a stage could be claimed, in the order of the plan."""
    seconds = _wall_clock(draft.stages, costs, max(1, machines.workers))
    each = sum(cost.seconds for cost in costs.values()) or 1.0
    low, high = (seconds * sum(getattr(cost, end) for cost in costs.values()) / each for end in ("low", "high"))
    if high <= seconds * INFERRED:
        basis = "from finished stages here"
    elif machines.is_known:
        basis = "from a first measurement of the workers"
    else:
        basis = "guessed from the network's multiply-adds"
    return Price(seconds, low, high, basis)


def _wall_clock(stages: Sequence[PlannedStage], costs: Mapping[Need, Cost], workers: int) -> float:
    """Seconds until the last stage is done, claimed as the store does: the first in the plan whose needs are done."""
    open_needs = {(one.kind, one.key): len({*one.needs, *one.wants}) for one in stages}
    after: dict[Need, list[int]] = {}
    for i, one in enumerate(stages):
        for need in {*one.needs, *one.wants}:
            after.setdefault(need, []).append(i)
    ready = [i for i, one in enumerate(stages) if not one.needs and not one.wants]
    running: list[tuple[float, int]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < workers:
            one = stages[i := heapq.heappop(ready)]
            heapq.heappush(running, (now + costs[one.kind, one.key].seconds, i))
        now, i = heapq.heappop(running)
        for follower in after.get((stages[i].kind, stages[i].key), ()):
            name = (stages[follower].kind, stages[follower].key)
            open_needs[name] -= 1
            if not open_needs[name]:
                heapq.heappush(ready, follower)
    return now


def _critical_path(stages: Sequence[PlannedStage], costs: Mapping[Need, Cost]) -> tuple[Link, ...]:
    """The chain of stages that takes longest, its first stage first."""
    waited = {(one.kind, one.key): (*one.needs, *one.wants) for one in stages}
    ends: dict[Need, float] = {}
    while len(ends) < len(waited):  # once: plans name what is waited for before what waits
        before = len(ends)
        for name, needs in waited.items():
            if name not in ends and all(need in ends for need in needs):
                ends[name] = costs[name].seconds + max((ends[need] for need in needs), default=0.0)
        if len(ends) == before:
            raise ValueError("stages of this plan wait for each other")
    last, chain = max(ends, key=ends.__getitem__, default=None), []
    while last is not None:
        chain.append(Link(*last, costs[last].seconds))
        last = max(waited[last], key=ends.__getitem__, default=None)
    return tuple(reversed(chain))


def _bytes(draft: Draft) -> int:
    kept = len(draft.epochs) + draft.spec.snapshots
    size = 4 * (kept * draft.parameters * draft.spec.ensemble.runs + draft.next_number * draft.images * draft.classes)
    return size + 8 * draft.next_number**2 * len(draft.spec.evaluation.splits) + int(draft.bytes)


_TRIED_FIRST = ("ensemble.runs", "training.epochs", "training.snapshots", "data.train_images", "data.test_images")
_TRY_SECONDS = 2.0


def too_much(prepared: Prepared, machines: Machines, limits: Limits) -> list[Problem]:
    """Why a launch costs too much: a problem for each field of which a smaller number alone is enough, with one that
    is."""
    plan_, spec = prepared.plan, prepared.spec
    reasons = "; ".join(limits.exceeded(plan_.new_bytes, plan_.machine_seconds))
    document = spec.model_dump(mode="json")
    numbers = {path: value for path, value in flat(document).items() if _is_count(path, value)}
    first = [path for path in _TRIED_FIRST if path in numbers]
    over, until = _share(limits, plan_), time.monotonic() + _TRY_SECONDS
    found: list[Problem] = []
    for path in [*first, *(one for one in numbers if one not in first)] if spec.imported is None else ():
        if time.monotonic() > until:
            break

        def shared(number: int, path: str = path) -> float:
            other = _with_number(document, path, number)
            return over if other is None else _share(limits, plan(other, prepared.info, machines=machines))

        most = _most(shared, numbers[path], over)
        if most is not None and _is_fit(_with_number(document, path, most), prepared.info):
            found.append(Problem(f"{numbers[path]:,} are too many: {reasons}", path, f"at most {most:,}"))
    allowed = "less of what it is made of: fewer runs, epochs or samples, a smaller network, less data"
    return found or [Problem(reasons, "", allowed)]


def _most(shared: Callable[[int], float], number: int, over: float) -> int | None:
    """About the largest number that has no more than a share of 1, None where there is none: along straight lines, for
    costs grow about in proportion."""
    least = shared(1)
    while least <= 1:
        number = 1 + int((1 - least) / (over - least) * (number - 1))
        over = shared(number)
        if over <= 1:
            return number
    return None


def _is_fit(spec: ExperimentSpec | None, info: DataInfo) -> bool:
    if spec is None:
        return False
    try:
        check(spec, info)
    except InvalidInput:
        return False
    return True


def _share(limits: Limits, plan_: Plan) -> float:
    """How much of what is allowed a plan costs."""
    shares = [
        cost / limit if limit else math.inf
        for cost, limit in ((plan_.new_bytes, limits.bytes), (plan_.machine_seconds, limits.machine_seconds))
        if limit is not None
    ]
    return max(shares, default=0.0)


def _is_count(path: str, value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 1 and "seed" not in path


def _with_number(document: Any, path: str, number: int) -> ExperimentSpec | None:
    """The spec with another number there; None where that is none."""
    changed = json.loads(json.dumps(document))
    *steps, last = path.split(".")
    place: Any = changed
    for step in steps:
        place = place[int(step) if isinstance(place, list) else step]
    place[int(last) if isinstance(place, list) else last] = number
    try:
        return parse(changed)
    except InvalidInput:
        return None


@dataclass(frozen=True)
class Difference:
    """One value of a spec that is not its preset's."""

    field: str
    was: Any
    now: Any


def differences(spec: ExperimentSpec, preset: str) -> list[Difference]:
    """What was changed from preset `preset`, field by field; shown in the form and with the results."""
    return _between(parse(presets[preset].call()), spec)


def departures(spec: ExperimentSpec) -> list[Difference]:
    """Where the training departs from the protocol it names (how long it trains is not part of a protocol); [] of
    weights made elsewhere, and of a network or data set that this process does not know, and so neither what the
    protocol means for it."""
    if spec.network.architecture not in architectures or spec.data.dataset not in datasets or spec.weights is not None:
        return []
    own = {
        "data": {"dataset": spec.data.dataset, "path": spec.data.path},
        "training": {"protocol": spec.training.protocol},
    }
    plain = parse({**own, "network": {"architecture": spec.network.architecture}})
    found = [d for d in _between(plain, spec) if d.field.startswith(("training.", "network.", "data.input_scale"))]
    return [d for d in found if d.field not in ("training.epochs", "training.checkpoint_every")]


def _between(base: ExperimentSpec, spec: ExperimentSpec) -> list[Difference]:
    was, now = flat(base.model_dump(mode="json")), flat(spec.model_dump(mode="json"))
    keys = [key for key in dict.fromkeys((*was, *now)) if not key.endswith("fingerprint")]
    return [Difference(key, was.get(key), now.get(key)) for key in keys if was.get(key) != now.get(key)]


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """A document's leaves by their dotted paths; empty lists and objects are leaves."""
    if isinstance(value, dict) and value:
        items = value.items()
    elif isinstance(value, list) and value:
        items = enumerate(value)  # type: ignore[assignment]
    else:
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, inner in items:
        found.update(flat(inner, f"{prefix}.{key}" if prefix else f"{key}"))
    return found
