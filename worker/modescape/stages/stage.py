"""What a stage is: a kind with a version, what its bytes depend on, and a function of a Context.

    @stage("embed", version=1)
    def embed(context: Context) -> None: ...

A stage is pure: its inputs are named by the memo (kind, version, options, seeds, inputs, numerics), and equal memos
give equal bytes. It may be killed at any moment; long ones go on from what they saved with `control.save_partial`.
Nothing here decides when a stage runs (store, celery_queue) or what it costs (each module's `plan`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modescape import initial
from modescape.artifacts import Artifacts
from modescape.claims import CLAIMS, Claim
from modescape.claims.evidence import Units
from modescape.datasets import loading
from modescape.draft import Draft
from modescape.errors import StageError
from modescape.records import Absent, NewMatrix, NewMeasurement, NewSolution, PlannedStage, StageOutput, StageState
from modescape.registry import RECIPE, Entry, architectures, corruptions, methods
from modescape.registry import datasets as sets
from modescape.results import Results
from modescape.science import data as datasets
from modescape.science.blocks import give_back
from modescape.science.health import finite
from modescape.science.predictions import T, scores
from modescape.science.predictions import accuracy as accuracy_of
from modescape.science.similarity import diversity
from modescape.settings import Settings
from modescape.sources import source_of
from modescape.spec import ExperimentSpec
from modescape.spec_parts import keyed
from modescape.store import Store
from modescape.store.leases import Lease
from modescape.tables import Solution, Stage

if TYPE_CHECKING:
    import torch

    from modescape.science.predictions import ActivationMask, Placed
    from modescape.stages.control import StageControl

Json = dict[str, Any]


@dataclass
class Context:
    """What a stage function gets: its spec and parameters, its inputs, and the ways out."""

    lease: Lease
    store: Store
    artifacts: Artifacts
    settings: Settings
    control: StageControl
    device: str
    through: tuple[int, ...] = ()  # the runs it goes through, for kinds that choose them
    output: StageOutput = field(default_factory=StageOutput)

    @cached_property
    def spec(self) -> ExperimentSpec:
        return ExperimentSpec.model_validate(self.lease.experiment.spec)

    @property
    def params(self) -> Json:
        return self.lease.stage.params

    @property
    def is_held_out(self) -> bool:
        """Whether something may be chosen on the validation images, as `Draft.seen` has it."""
        return bool(self.params.get("held_out", True))

    @cached_property
    def splits(self) -> datasets.Splits:
        """The data on the device; loaded once per process and data spec."""
        return loading.load(self.spec.data, self.settings.data_folders).to(self.device)

    @property
    def needs(self) -> list[Stage]:
        return self.lease.standing.needs

    def need(self, kind: str, key: str) -> Json:
        """What a needed stage left for its dependants."""
        for stage in self.needs:
            if (stage.kind, stage.key) == (kind, key):
                extra: Json = stage.result["extra"]
                return extra
        raise StageError(f"stage {self.lease.stage.kind}/{self.lease.stage.key} does not need {kind}/{key}")

    def wanted(self, kind: str, key: str) -> Json | None:
        """What a stage left that this one can do without; None when there is nothing to use (see `lacking`)."""
        return None if self.lacking(kind, key) else self.need(kind, key)

    def lacking(self, kind: str, key: str) -> str:
        """Why a stage has left nothing to use: it failed, was skipped, or what it made has failed; "" when it has."""
        stage = next((s for s in self.needs if (s.kind, s.key) == (kind, key)), None)
        if stage is None or stage.state != StageState.SUCCEEDED:
            return f"{kind}/{key} stopped with an error"
        extra: Json = stage.result["extra"]
        return str(extra.get("failed") or extra.get("skipped") or "")

    def keep(self, array: NDArray[Any], kind: str) -> str:
        """Store an array as an artifact of this stage; its digest."""
        info = self.artifacts.put_array(array, kind)
        self.output.artifacts.append(info)
        return info.digest

    def keep_blocks(self, blocks: Iterable[NDArray[Any]], shape: tuple[int, ...], dtype: Any, kind: str) -> str:
        """The same of an array that is never in memory as a whole: blocks of it, in C order."""
        info = self.artifacts.put_blocks(blocks, shape, dtype, kind)
        self.output.artifacts.append(info)
        return info.digest

    def network(self) -> torch.nn.Module:
        """The spec's network with fresh weights of run 0, to be overwritten."""
        from modescape.architectures.building import build

        return build(self.spec.network, self.splits.shape, seed=0).to(self.device)

    def start(self, seed: int) -> torch.nn.Module:
        """The spec's network as a run begins: with random weights of that seed, or those that are given.

        Raises InvalidInput where the given ones are gone or another network's.
        """
        from modescape.architectures.building import build

        network = build(self.spec.network, self.splits.shape, seed=seed)
        if self.spec.training.initial_weights is not None:
            given = initial.read(self.spec.training, self.artifacts)
            initial.put(network, given, fresh_head=self.spec.ensemble.vary == "head")
        return network.to(self.device)

    def split(self, name: str) -> datasets.Split:
        chosen: datasets.Split = getattr(self.splits, name)
        return chosen

    def results(self) -> Results:
        """What the experiment has found so far; rows and arrays of stages this one needs are all there."""
        return Results(self.store, self.artifacts, self.lease.experiment.id)

    def logits(
        self,
        network: torch.nn.Module,
        split: str,
        *,
        mask: ActivationMask | None = None,
        limit: int | None = None,
    ) -> NDArray[np.float32]:
        """float32 logits of a split, or of its first `limit` images."""
        from modescape.science.predictions import predict

        images = self.split(split) if limit is None else self.split(split).take(limit)
        return predict(network, images, self.splits.transform, device=self.device, mask=mask, check=self.control.check)

    def logits_of(
        self, placed: Iterable[Placed[T]], splits: Mapping[str, datasets.Split]
    ) -> Iterator[list[tuple[T, dict[str, NDArray[np.float32]]]]]:
        """The same of many functions on several sets of images, group by group (`predict_in_groups`)."""
        from modescape.science.predictions import predict_in_groups

        return predict_in_groups(placed, splits, self.splits.transform, device=self.device, check=self.control.check)

    def add_solution(
        self,
        number: int,
        *,
        blocks: dict[str, NDArray[np.float32]],
        labels: dict[str, NDArray[np.int64]],
        base: NDArray[np.int64] | None,
        is_finite: bool = True,
        **fields: Any,
    ) -> None:
        """A solution row with its scores; the first evaluation split gives the numbers lists show.

        blocks: split -> logits [N, K]; base: what its run's optimum answers on the first split [N]; None: it has none.
        What is not finite, here or (is_finite) on other images, gets a row without any score.
        """
        main = self.spec.evaluation.splits[0]
        if not (is_finite and all(map(finite, blocks.values()))):
            self.output.solutions.append(NewSolution(number=number, **fields))
            return
        accuracy = accuracy_of(blocks[main], labels[main])
        disagreement = None if base is None else float((blocks[main].argmax(-1) != base).mean())
        give_back(list(blocks.values()))
        self.output.solutions.append(
            NewSolution(
                number=number,
                accuracy=accuracy,
                disagreement=disagreement,
                diversity=None if disagreement is None else diversity(disagreement, accuracy),
                **fields,
            )
        )
        for split, logits in blocks.items():
            for metric, value in self.scores(logits, labels[split]).items():
                self.output.measurements.append(
                    NewMeasurement(metric=metric, value=value, split=split, solution=number, n=len(labels[split]))
                )

    def scores(self, logits: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, float]:
        """accuracy, nll, brier, ece, entropy; accuracy alone where only labels are known."""
        found = scores(logits, labels)
        return found if self.spec.has_probabilities else {"accuracy": found["accuracy"]}

    def add_matrix(
        self,
        name: str,
        split: str,
        values: NDArray[np.float64],
        rows: list[Solution],
        columns: list[Any],
        **details: Any,
    ) -> None:
        """A matrix over solutions; columns are solutions or names of coordinates."""
        named = [column.number if isinstance(column, Solution) else column for column in columns]
        digest = self.keep(np.ascontiguousarray(values, dtype=np.float64), "matrix")
        self.output.matrices.append(
            NewMatrix(
                name=name, split=split, rows=[s.number for s in rows], columns=named, artifact=digest, details=details
            )
        )

    def add_group(
        self,
        subject: str,
        metric: str,
        value: float | None,
        n: int,
        split: str | None,
        *,
        corruption: str | None = None,
        intensity: int | None = None,
        **details: Any,
    ) -> None:
        """One number about a group of solutions."""
        self.output.measurements.append(
            NewMeasurement(
                metric=metric, value=value, subject=subject, split=split, n=n, corruption=corruption,
                intensity=intensity, details=details,
            )
        )  # fmt: skip


@dataclass(frozen=True)
class Task:
    """What one stage has to do: with what it needs, all that its key is made of."""

    kind: str
    key: str
    params: Json
    spec: ExperimentSpec

    @classmethod
    def of(cls, stage: Stage | PlannedStage, spec: ExperimentSpec) -> Task:
        return cls(stage.kind, stage.key, stage.params, spec)


Parts = Callable[[Task], Json]


# -- whose code it runs -----------------------------------------------------------------------------------------------

Brought = Callable[[Task], Iterable[Entry]]


def _of(registry: Mapping[str, Entry], *names: str) -> list[Entry]:
    return [registry[name] for name in names if name in registry]


def the_data(task: Task) -> list[Entry]:
    return _of(sets, task.spec.data.dataset)


def the_network(task: Task) -> list[Entry]:
    return _of(architectures, task.spec.network.architecture)


def the_recipe(task: Task) -> list[Entry]:
    training = task.spec.training
    return [entry for part, known in RECIPE.items() for entry in _of(known, getattr(training, part))]


def the_method(task: Task) -> list[Entry]:
    return _of(methods, task.params["method"])


def every_method(task: Task) -> list[Entry]:
    return _of(methods, *(chosen.method for chosen in task.spec.methods))


def the_corruption(task: Task) -> list[Entry]:
    return _of(corruptions, task.params.get("corruption", ""))


def the_other_images(task: Task) -> list[Entry]:
    return _of(sets, task.spec.ood[task.params["set"]].dataset)


@dataclass(frozen=True)
class Runs:
    """The runs that a stage's task asks for; named: the first ones, too, are meant by their numbers."""

    numbers: tuple[int, ...] = ()
    named: bool = False


Through = Callable[[Task], Runs]


def _never(key: str) -> bool:
    return False


@dataclass(frozen=True)
class Kind:
    """A registered stage. version is raised by hand when the kind's result changes, so that old results are not taken
    for new ones; parts says what, besides the stages it needs, decides its bytes.

    through: the runs that its task names, for kinds that go through some runs only: the first n mean the first n
    healthy ones (see `inputs_of`). uses: the kinds of stages whose results it then takes of those runs; it waits for
    others only to know which runs are healthy. brought: the entries whose code it runs itself; judges: the evidence on
    which it judges claims; where entries, claims or the stage are a plug-in's, digests of their sources are in its key
    (what needed stages ran is in theirs). gathers: it takes what is there, whatever failed of what it waits for (also
    in experiments whose arrows are from before there were any that could be done without). only_looks: whether one with
    that key only looks at files before anything is trained; such stages are in no other's key. absent: what an
    experiment has not that plans none of these.
    """

    name: str
    version: int
    call: Callable[[Context], None]
    parts: Parts
    through: Through | None = None
    uses: tuple[str, ...] = ()
    brought: tuple[Brought, ...] = ()
    judges: tuple[type[Units], ...] = ()
    gathers: bool = False
    only_looks: Callable[[str], bool] = _never
    absent: Absent | None = None

    def sources(self, task: Task) -> dict[str, str]:
        """Package -> digest of the source of every plug-in whose code it runs; {} where all of it is ours."""
        entries = (entry for named in self.brought for entry in named(task))
        judged = (claim.brought for claim in self._judged())
        found = {source_of(self.call.__module__), *(entry.brought for entry in entries), *judged}
        return {one.title: one.digest for one in found if one is not None}

    def margins(self, task: Task) -> dict[str, float]:
        """Of the claims of others that it judges, for `parts` know of ours only."""
        return {claim.letter: claim.margin_in(task.spec) for claim in self._judged()}

    def _judged(self) -> Iterator[Claim[Any]]:
        """The claims of others that stages of this kind judge."""
        return (claim for claim in CLAIMS.values() if claim.brought and claim.evidence in self.judges)


KINDS: dict[str, Kind] = {}


def whole(task: Task) -> Json:
    """Stages that name other stages' solutions by number are only equal when the whole layout is."""
    return {"spec": keyed(task.spec), "params": task.params}


def stage(
    kind: str,
    *,
    version: int = 1,
    parts: Parts = whole,
    through: Through | None = None,
    uses: tuple[str, ...] = (),
    brought: tuple[Brought, ...] = (),
    judges: tuple[type[Units], ...] = (),
    gathers: bool = False,
    only_looks: Callable[[str], bool] = _never,
    absent: Absent | None = None,
) -> Callable[[Callable[[Context], None]], Callable[[Context], None]]:
    """Register the function that does stages of this kind; the arguments are `Kind`'s."""

    def register(call: Callable[[Context], None]) -> Callable[[Context], None]:
        KINDS[kind] = Kind(kind, version, call, parts, through, uses, brought, judges, gathers, only_looks, absent)
        return call

    return register


Plans = Callable[[Draft], None]
_planners: dict[str, tuple[str, Plans]] = {}
_without_functions: set[str] = set()


def planner(name: str, *, after: str = "", of_functions: bool = True) -> Callable[[Plans], Plans]:
    """Register a function that adds stages to a plan. after: the planner whose stages must be there before; "": none;
    of_functions: whether they need what the members say of images, which is not known of every imported ensemble.

    Stages are claimed, and solutions numbered, in the order in which they are planned.
    """

    def register(plan: Plans) -> Plans:
        _planners[name] = (after, plan)
        if not of_functions:
            _without_functions.add(name)
        return plan

    return register


def planners(*, functions: bool = True) -> tuple[Plans, ...]:
    """All planners, each after the one it names; those after the same one in the order in which they were registered.
    functions: False for those alone that need none.

    Raises ValueError for one that names none (a programming error).
    """
    if not functions:
        return tuple(plan for name, (_, plan) in _planners.items() if name in _without_functions)
    return _in_order(tuple((name, after, plan) for name, (after, plan) in _planners.items()))


@lru_cache(maxsize=8)  # asked for with every plan
def _in_order(registered: tuple[tuple[str, str, Plans], ...]) -> tuple[Plans, ...]:
    found: list[Plans] = []

    def add(last: str) -> None:
        for name, after, plan in registered:
            if after == last:
                found.append(plan)
                add(name)

    add("")
    if lost := [name for name, _, plan in registered if plan not in found]:
        raise ValueError(f"planners that come after none there is: {', '.join(lost)}")
    return tuple(found)
