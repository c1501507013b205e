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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modescape.draft import Draft, kept_epochs, sample_sets
from modescape.errors import InvalidInput, Problem
from modescape.registry import architectures, figures, presets
from modescape.science import data as datasets_module
from modescape.spec import DataInfo, ExperimentSpec, Sizes, check, parse, sizes, studies
from modescape.store import PlannedStage

# Prediction runs without gradients and without dropout: measured 3.5 times the training rate on CPU.
PREDICT_PER_TRAIN = 3.5
# One core's multiply-adds a second in training (measured 1.5e10 to 4e10), used until a finished stage says better.
GUESSED_TRAINING_RATE = 2e10

TRAININGS = ("train", "chain", "arm", "branch")  # kinds of stages as long as a training, nearly all alike

Speed = Callable[[str, str], float | None]  # architecture, data set -> measured training images a second, or None


@dataclass(frozen=True)
class KindCost:
    """One line of the plan the form shows: how many stages of a kind, and what they cost together on one worker."""

    kind: str
    count: int
    seconds: float


@dataclass(frozen=True)
class Plan:
    """What will be done and what it will cost. seconds is wall-clock on `workers` workers, between low and high."""

    stages: tuple[PlannedStage, ...]
    kinds: tuple[KindCost, ...]
    seconds: float
    low: float
    high: float
    bytes: int
    workers: int
    basis: str
    parameters: int
    solutions: int
    predictions: int
    answers: tuple[str, ...]  # names of the figures it feeds
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """A spec that has passed every check, with its data's real sizes (and its fingerprint filled in) and its plan."""

    spec: ExperimentSpec
    info: DataInfo
    sizes: Sizes
    plan: Plan


def prepare(
    document: Any, folders: Sequence[Path], *, speed: Speed = lambda architecture, dataset: None, workers: int = 1
) -> Prepared:
    """Parse, look at the data, check across fields, plan. The one door for form, API, command line and notebook.

    Raises InvalidInput (every problem with its field), DataMissing, DataCorrupt.
    """
    spec = document if isinstance(document, ExperimentSpec) else parse(document)
    info = datasets_module.describe(spec.data, tuple(folders))
    if info.fingerprint is not None:
        spec = spec.model_copy(update={"data": spec.data.model_copy(update={"fingerprint": info.fingerprint})})
    check(spec, info)
    spec = _look_up(spec, info, tuple(folders))
    return Prepared(spec, info, sizes(spec, info), plan(spec, info, speed=speed, workers=workers))


def _look_up(spec: ExperimentSpec, info: DataInfo, folders: tuple[Path, ...]) -> ExperimentSpec:
    """The spec once the files its studies need were looked at. Raises InvalidInput, DataMissing, DataCorrupt."""
    changed: dict[str, Any] = {}
    for field, study in studies(spec):
        try:
            found = study.looked_up(info, folders)
        except InvalidInput as error:
            problems = [Problem(p.message, f"{field}.{p.field}".rstrip("."), p.allowed) for p in error.problems]
            raise InvalidInput("; ".join(map(str, problems)), problems=problems) from None
        name, _, place = field.partition(".")
        if place:
            items = list(changed.get(name, getattr(spec, name)))
            items[int(place)] = found
            changed[name] = tuple(items)
        else:
            changed[name] = found
    return spec.model_copy(update=changed)


def plan(
    spec: ExperimentSpec, info: DataInfo, *, speed: Speed = lambda architecture, dataset: None, workers: int = 1
) -> Plan:
    """Stages in the order they should be claimed, with their needs, number blocks and costs."""
    from modescape.stages import PLANNERS  # a tenth of a second that a web process spends at its first estimate

    n = sizes(spec, info)
    architecture = architectures[spec.network.architecture]
    shape = (info.channels, info.height, info.width, len(info.classes))
    options = architecture.options.model_validate(spec.network.options)
    parameters = architecture.parameters(*shape, options)
    measured = speed(architecture.name, spec.data.dataset)
    rate = measured or GUESSED_TRAINING_RATE / max(1, 3 * architecture.multiply_adds(*shape, options))
    draft = Draft(spec, info, n, parameters, train_rate=rate, predict_rate=rate * PREDICT_PER_TRAIN)
    for planner in PLANNERS:
        planner(draft)
    return _price(draft, measured, workers)


def _price(draft: Draft, measured: float | None, workers: int) -> Plan:
    spec, stages = draft.spec, draft.stages
    kinds = []
    for kind in dict.fromkeys(stage.kind for stage in stages):
        costs = [stage.estimate for stage in stages if stage.kind == kind]
        kinds.append(KindCost(kind, len(costs), sum(costs)))
    # Trainings come in whole rounds (3 runs on 2 workers take two rounds); the many small stages fill the workers.
    workers = max(1, workers)
    trainings = [cost for cost in kinds if cost.kind in TRAININGS]
    seconds = sum(-(-cost.count // workers) * cost.seconds / cost.count for cost in trainings)
    seconds += sum(cost.seconds for cost in kinds if cost not in trainings) / workers
    spread = 0.25 if measured else 0.6
    kept = len(draft.epochs) + spec.training.snapshots
    solutions = draft.next_number
    size = 4 * (kept * draft.parameters * spec.ensemble.runs + solutions * draft.images * draft.classes)
    size += 8 * solutions**2 * len(spec.evaluation.splits) + int(draft.bytes)
    present = {stage.kind for stage in stages}
    warnings = list(draft.warnings)
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
        stages=tuple(stages),
        kinds=tuple(kinds),
        seconds=seconds,
        low=seconds * (1 - spread),
        high=seconds * (1 + spread),
        bytes=size,
        workers=workers,
        basis="from finished trainings here" if measured else "guessed from the network's multiply-adds",
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
    was, now = _flat(base.model_dump(mode="json")), _flat(spec.model_dump(mode="json"))
    keys = [key for key in dict.fromkeys((*was, *now)) if not key.endswith("fingerprint")]
    return [Difference(key, was.get(key), now.get(key)) for key in keys if was.get(key) != now.get(key)]


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        items = value.items()
    elif isinstance(value, list) and value:
        items = enumerate(value)  # type: ignore[assignment]
    else:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, inner in items:
        flat.update(_flat(inner, f"{prefix}.{key}" if prefix else f"{key}"))
    return flat


__all__ = [
    "Difference",
    "KindCost",
    "Plan",
    "Prepared",
    "departures",
    "differences",
    "kept_epochs",
    "plan",
    "prepare",
    "sample_sets",
]
