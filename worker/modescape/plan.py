"""From a spec to its stages, their order and their price; imports no torch, so the form can ask at every key press.

    prepared = prepare({"data": {"dataset": "digits"}}, folders)
    prepared.plan.seconds, prepared.plan.bytes, [stage.key for stage in prepared.plan.stages]

The graph; each kind is planned by its own module in `stages`:

    train[r] --> predict[r] --> compare[trajectories] --> embed[trajectories]
        |            |                   |
        +------------+--> sample[r/m/s] -+--> compare[all] --> embed[samples]

Every stage that makes solutions owns a block of solution numbers, so numbers are known before anything runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modescape.draft import Draft, kept_epochs, sample_sets
from modescape.errors import DataCorrupt, DataMissing, InvalidInput, Problem
from modescape.registry import architectures, datasets, figures, presets
from modescape.science import data as datasets_module
from modescape.spec import DataInfo, DataSpec, ExperimentSpec, Sizes, check, parse, sizes, studies
from modescape.store import PlannedStage
from modescape.studies import OodSpec

if TYPE_CHECKING:
    from modescape.science.look import Look

# Prediction runs without gradients and without dropout: measured 3.5 times the training rate on CPU.
PREDICT_PER_TRAIN = 3.5
# One core's multiply-adds a second in training (measured 1.5e10 to 4e10), used until a finished stage says better.
GUESSED_TRAINING_RATE = 2e10
# The same of one modern GPU, for who has none. An A100 trains a ResNet-50 (4.1e9 multiply-adds an image forward, three
# times that in training) at 938 images a second in TF32 and 2,470 in mixed precision as NVIDIA publish them: 1.2e13 and
# 3.0e13; a V100 at 1,200: 1.5e13. Ours is the lower end, for the kernels here are deterministic ones.
GPU_TRAINING_RATE = 1e13
# What a step takes a GPU at least, in seconds: small networks wait for their kernels to be launched, not computed. The
# published forward pass of a ResNet-50 with one image takes 13 ms for some 160 operations, 80 us each; a training step
# is three forward passes: the 12 operations of a SmallCNN make 3 ms, the 70 of a ResNet-20 make 17. Between the two.
GPU_STEP_SECONDS = 0.01
PREDICTED_TOGETHER = 500  # images; a prediction is one forward pass of these, a third of a step

TRAININGS = ("train", "chain", "arm", "branch")  # kinds of stages as long as a training, nearly all alike

Looked = Callable[[str, float | None], "Look | None"]  # fingerprint, what is said to be white -> what was found there
Speed = Callable[[str, str], float | None]  # architecture, data set -> measured training images a second, or None


@dataclass(frozen=True)
class KindCost:
    """One line of the plan the form shows: how many stages of a kind, and what they cost together on one worker."""

    kind: str
    count: int
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
    """What will be done and what it will cost. seconds is wall-clock on `workers` workers, between low and high; gpu is
    the price on a machine with one GPU."""

    stages: tuple[PlannedStage, ...]
    kinds: tuple[KindCost, ...]
    seconds: float
    low: float
    high: float
    bytes: int
    workers: int
    basis: str
    gpu: Price
    parameters: int
    solutions: int
    predictions: int
    answers: tuple[str, ...]  # names of the figures it feeds
    warnings: tuple[str, ...] = ()


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


def _unknown(architecture: str, dataset: str) -> float | None:
    return None


def prepare(
    document: Any,
    folders: Sequence[Path],
    *,
    speed: Speed = _unknown,
    gpu_speed: Speed = _unknown,
    workers: int = 1,
    as_published: bool = False,
    looked: Looked = lambda fingerprint, white: None,
) -> Prepared:
    """Parse, look at the data, check across fields, plan. The one door for form, API, command line and notebook.

    as_published: public sets that are not here are planned in their published sizes, and named in `missing`.
    looked: what is known of a user's own pictures that were decoded before.
    Raises InvalidInput (every problem with its field), DataMissing (every set with its field), DataCorrupt
    (with its field).
    """
    spec = document if isinstance(document, ExperimentSpec) else parse(document)
    missing: list[Missing] = []
    try:
        info = datasets_module.describe(spec.data, tuple(folders))
    except DataMissing as error:
        missing.append(_missing(spec.data.dataset, "data.dataset", error))
        if not datasets[spec.data.dataset].train_total:  # a plug-in's set says its sizes by being read
            raise _not_here(missing) from None
        info = datasets_module.published(spec.data.dataset)
    except DataCorrupt as error:
        raise _corrupt("data", spec.data, error) from None
    if spec.data.path is not None and spec.data.fingerprint not in (None, info.fingerprint):
        said = datasets_module.since_created(spec.data, tuple(folders))
        info = replace(info, remarks=(*filter(None, (said,)), *info.remarks))
    if info.fingerprint is not None:
        spec = spec.model_copy(update={"data": spec.data.model_copy(update={"fingerprint": info.fingerprint})})
    check(spec, info)
    spec = _look_up(spec, info, tuple(folders), missing)
    if missing and not as_published:
        raise _not_here(missing)
    info = replace(info, remarks=(*info.remarks, *_seen(spec, looked)))
    made = plan(spec, info, speed=speed, gpu_speed=gpu_speed, workers=workers)
    return Prepared(spec, info, sizes(spec, info), made, tuple(missing))


def _seen(spec: ExperimentSpec, looked: Looked) -> list[str]:
    """How the user's own pictures are read. Raises InvalidInput naming those known to be unreadable."""
    remarks: list[str] = []
    parts: list[tuple[str, DataSpec | OodSpec]] = [("data", spec.data)]
    parts += [(f"ood.{i}", study) for i, study in enumerate(spec.ood)]
    for field, part in parts:
        if part.dataset != "folder" or part.fingerprint is None:
            continue
        found = looked(part.fingerprint, part.white)
        if found is not None and found.problem:
            raise InvalidInput(found.problem, field=f"{field}.path", allowed="pictures that can be decoded")
        remarks += found.remarks if found else ()
    return remarks


def _missing(dataset: str, field: str, error: DataMissing) -> Missing:
    entry = datasets[dataset]
    return Missing(dataset, entry.title, field, str(error), entry.download_bytes)


def _corrupt(field: str, asked: DataSpec | OodSpec, error: DataCorrupt) -> DataCorrupt:
    problem = Problem(str(error), f"{field}.{'path' if asked.path else 'dataset'}")
    return DataCorrupt(str(error), problems=[problem])


def _not_here(missing: Sequence[Missing]) -> DataMissing:
    problems = [Problem(one.how, one.field) for one in missing]
    return DataMissing("; ".join(dict.fromkeys(p.message for p in problems)), problems=problems)


def _look_up(spec: ExperimentSpec, info: DataInfo, folders: tuple[Path, ...], missing: list[Missing]) -> ExperimentSpec:
    """The spec once the files its studies need were looked at; public sets that are not here are added to `missing`.

    Raises InvalidInput, DataCorrupt.
    """
    changed: dict[str, Any] = {}
    for field, study in studies(spec):
        try:
            found = study.looked_up(spec.data, info, folders)
        except InvalidInput as error:
            problems = [Problem(p.message, f"{field}.{p.field}".rstrip("."), p.allowed) for p in error.problems]
            raise InvalidInput("; ".join(map(str, problems)), problems=problems) from None
        except DataMissing as error:
            place = (study.dataset, field) if isinstance(study, OodSpec) else (spec.data.dataset, "data")
            missing.append(_missing(place[0], f"{place[1]}.dataset", error))
            continue
        except DataCorrupt as error:
            if isinstance(study, OodSpec):
                raise _corrupt(field, study, error) from None
            raise _corrupt("data", spec.data, error) from None
        name, _, number = field.partition(".")
        if number:
            items = list(changed.get(name, getattr(spec, name)))
            items[int(number)] = found
            changed[name] = tuple(items)
        else:
            changed[name] = found
    return spec.model_copy(update=changed)


def plan(
    spec: ExperimentSpec, info: DataInfo, *, speed: Speed = _unknown, gpu_speed: Speed = _unknown, workers: int = 1
) -> Plan:
    """Stages in the order they should be claimed, with their needs, number blocks and costs."""
    architecture = architectures[spec.network.architecture]
    shape = (info.channels, info.height, info.width, len(info.classes))
    options = architecture.options.model_validate(spec.network.options)
    parameters = architecture.parameters(*shape, options)
    work = max(1, 3 * architecture.multiply_adds(*shape, options))  # of one image in training
    measured, on_gpu = (found(architecture.name, spec.data.dataset) for found in (speed, gpu_speed))
    rate = measured or GUESSED_TRAINING_RATE / work
    draft = _drafted(spec, info, parameters, rate, rate * PREDICT_PER_TRAIN)
    return _price(draft, measured, workers, _gpu_price(spec, info, parameters, work, on_gpu))


def _drafted(spec: ExperimentSpec, info: DataInfo, parameters: int, train_rate: float, predict_rate: float) -> Draft:
    from modescape.stages import PLANNERS  # a tenth of a second that a web process spends at its first estimate

    draft = Draft(spec, info, sizes(spec, info), parameters, train_rate=train_rate, predict_rate=predict_rate)
    for planner in PLANNERS:
        planner(draft)
    return draft


def _gpu_price(spec: ExperimentSpec, info: DataInfo, parameters: int, work: int, measured: float | None) -> Price:
    """What all of it costs on one worker with a GPU; comparisons and corruptions cost there what they cost here."""
    if measured:
        train, predict = measured, measured * PREDICT_PER_TRAIN
        basis = "from finished trainings on a GPU here"
    else:
        launched, computed = spec.training.batch_size / GPU_STEP_SECONDS, GPU_TRAINING_RATE / work
        train = min(launched, computed)
        predict = min(3 * PREDICTED_TOGETHER / GPU_STEP_SECONDS, computed * PREDICT_PER_TRAIN)
        bound = f", bound by launches ({GPU_STEP_SECONDS * 1000:.0f} ms a step)"
        why = bound if launched < computed else " from the network's multiply-adds"
        basis = f"guessed: {_rounded(train)} images a second{why}"
    seconds = _seconds(_kinds(_drafted(spec, info, parameters, train, predict)), 1)
    return Price(seconds, *_bounds(seconds, measured), basis)


def _rounded(rate: float) -> str:
    """Two digits of a guess, its thousands apart."""
    return f"{float(f'{rate:.1e}'):,.0f}".replace(",", "\u2009")


def _kinds(draft: Draft) -> list[KindCost]:
    costs: dict[str, list[float]] = {}
    for stage in draft.stages:
        costs.setdefault(stage.kind, []).append(stage.estimate)
    return [KindCost(kind, len(found), sum(found)) for kind, found in costs.items()]


def _seconds(kinds: Sequence[KindCost], workers: int) -> float:
    """Trainings come in whole rounds (3 runs on 2 workers take two rounds); the many small stages fill the workers."""
    rounds = sum(-(-cost.count // workers) * cost.seconds / cost.count for cost in kinds if cost.kind in TRAININGS)
    return rounds + sum(cost.seconds for cost in kinds if cost.kind not in TRAININGS) / workers


def _bounds(seconds: float, measured: float | None) -> tuple[float, float]:
    spread = 0.25 if measured else 0.6
    return seconds * (1 - spread), seconds * (1 + spread)


def _price(draft: Draft, measured: float | None, workers: int, gpu: Price) -> Plan:
    spec, kinds, workers = draft.spec, _kinds(draft), max(1, workers)
    seconds = _seconds(kinds, workers)
    low, high = _bounds(seconds, measured)
    kept = len(draft.epochs) + spec.training.snapshots
    solutions = draft.next_number
    size = 4 * (kept * draft.parameters * spec.ensemble.runs + solutions * draft.images * draft.classes)
    size += 8 * solutions**2 * len(spec.evaluation.splits) + int(draft.bytes)
    present = {cost.kind for cost in kinds}
    warnings = [*draft.info.remarks, *draft.warnings]
    if measured is None:
        warnings.append("no training of this network on this data has finished here yet; the time is a first guess")
    if spec.ensemble.runs < 3:
        warnings.append("fewer than 3 runs give no measure of how runs vary; no claim about them can be judged")
    if draft.n.test < 1000:
        warnings.append(
            f"{draft.n.test} test images: the standard error of a disagreement of .3 is "
            f"{(0.21 / draft.n.test) ** 0.5:.3f}"
        )
    return Plan(
        stages=tuple(draft.stages),
        kinds=tuple(kinds),
        seconds=seconds,
        low=low,
        high=high,
        bytes=size,
        workers=workers,
        basis="from finished trainings here" if measured else "guessed from the network's multiply-adds",
        gpu=gpu,
        parameters=draft.parameters,
        solutions=solutions,
        predictions=solutions * draft.images + draft.predictions,
        answers=tuple(name for name, figure in figures.items() if set(figure.needs) <= present),
        warnings=tuple(warnings),
    )


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
    """Where the training departs from the protocol it names (how long it trains is not part of a protocol)."""
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


__all__ = [
    "Difference",
    "KindCost",
    "Missing",
    "Plan",
    "Prepared",
    "Price",
    "departures",
    "differences",
    "flat",
    "kept_epochs",
    "plan",
    "prepare",
    "sample_sets",
]
