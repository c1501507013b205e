"""Training one run: its checkpoints and snapshots, resumable at any epoch and every minute inside long ones."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from modescape.draft import Draft, kept_epochs
from modescape.errors import ArtifactMissing, Diverged, StageError
from modescape.records import EventKind, TrainedRun
from modescape.science.health import finite
from modescape.science.seeds import RunSeeds, run_seeds, streams
from modescape.spec_parts import TrainingSpec, keyed, steps_per_epoch
from modescape.stages import given_weights
from modescape.stages.given import GIVEN
from modescape.stages.grouping import asked_way
from modescape.stages.stage import Context, Json, Task, planner, stage, the_data, the_network, the_recipe

if TYPE_CHECKING:
    import torch

    from modescape.science.data import Splits
    from modescape.training import ProgressReport, Recipe, TrainState


@planner("train")
def plan(draft: Draft) -> None:
    if draft.spec.weights is not None:
        given_weights.plan(draft)
        return
    for r in draft.runs if draft.spec.imported is None else ():
        seeds = streams(draft.spec.ensemble.seed, r, draft.spec.ensemble.vary)  # shown with the run
        draft.add("train", f"{r}", {"run": r, "seeds": seeds}, draft.training)


def _parts(task: Task) -> Json:
    if GIVEN in task.params:
        return given_weights.parts(task)
    spec = task.spec
    part = keyed(spec)
    seeds = run_seeds(spec.ensemble.seed, task.params["run"], spec.ensemble.vary)
    return {"data": part["data"], "network": part["network"], "training": part["training"], "seeds": seeds.as_dict()}


class Recorder:
    """Turns what the training loop tells into artifacts, curve points and resumable state.

    run: the run whose checkpoints, snapshots and curves these are; None for a training that is no run of the ensemble:
    of it the last weights and the snapshots asked for are kept, and no curves. failed: why it did not end in weights
    that can be used, once it is over; what was kept before stays.
    """

    def __init__(self, context: Context, partial: Json, run: int | None) -> None:
        self.context = context
        self.run = run
        self.checkpoints: list[Json] = list(partial.get("checkpoints", []))
        self.snapshots: list[Json] = list(partial.get("snapshots", []))
        self.points: dict[str, list[tuple[int, float, float]]] = {}
        self.last = ProgressNumbers()
        self.failed = ""
        self._resumable = partial

    def checkpoint(self, epoch: int, step: int, tensors: dict[str, NDArray[Any]]) -> None:
        if self.run is None and step == 0:
            return
        info = self.context.artifacts.put_tensors(tensors, "weights", {"epoch": str(epoch), "step": str(step)})
        self.context.output.artifacts.append(info)
        self.checkpoints.append({"epoch": epoch, "step": step, "weights": info.digest})

    def snapshot(self, index: int, step: int, tensors: dict[str, NDArray[Any]]) -> None:
        info = self.context.artifacts.put_tensors(tensors, "weights", {"snapshot": str(index), "step": str(step)})
        self.context.output.artifacts.append(info)
        self.snapshots.append({"step": step, "weights": info.digest})

    def point(self, step: int, values: dict[str, float]) -> None:
        now = time.time()
        for name, value in values.items() if self.run is not None else ():
            self.points.setdefault(name, []).append((step, value, now))

    def progress(self, report: ProgressReport) -> None:
        self.last = ProgressNumbers(report.epoch, report.loss, report.accuracy, report.images_per_second)
        numbers = asdict(report)
        self.context.control.progress(numbers.pop("step"), numbers.pop("steps"), **numbers)

    def save(self, state: TrainState) -> None:
        """Files first, then the row that names them: the row may lag, never lead."""
        context, step = self.context, int(state.meta["step"])
        name = f"{context.lease.stage.id}-{context.lease.stage.attempt}-{step}"
        context.artifacts.put_scratch(name, state.tensors, {"state": json.dumps(state.meta)})
        kept = {"checkpoints": [*self.checkpoints], "snapshots": [*self.snapshots]}
        self._resumable = {"resume": name, "step": step, **kept}
        self._tell(step)
        context.artifacts.drop_scratch(context.lease.stage.id, keep=name)

    def close(self) -> None:
        """The training is over. What it could go on from stays until its stage has ended: a worker killed before that
        does the last steps again, and not all of them."""
        self._tell(self.checkpoints[-1]["step"] if self.checkpoints else None)

    def check(self) -> None:
        self.context.control.check()

    def _tell(self, step: int | None) -> None:
        self.context.control.save_partial(
            self._resumable, points=self.points, run=self.run, artifacts=self.context.output.artifacts, step=step
        )
        self.points = {}


@dataclass(frozen=True)
class ProgressNumbers:
    epoch: float = 0.0
    loss: float | None = None
    accuracy: float | None = None
    images_per_second: float = 0.0


def _resume_state(context: Context) -> TrainState | None:
    """The last saved state of an earlier attempt, or None. A lost file costs time, not results."""
    from modescape.training import TrainState

    name = context.lease.stage.partial.get("resume")
    if name is None:
        return None
    try:
        tensors, metadata = context.artifacts.scratch(name)
    except ArtifactMissing as missing:
        context.control.note(EventKind.RESTARTED, {"reason": str(missing)})
        return None
    return TrainState(tensors=tensors, meta=json.loads(metadata["state"]))


def run_training(
    context: Context,
    network: torch.nn.Module,
    training: TrainingSpec,
    seeds: RunSeeds,
    *,
    run: int | None,
    first_epoch: int = 0,
    recipe: Recipe | None = None,
) -> Recorder:
    """Train `network` in place to its end, from where an earlier attempt stopped; what was kept on the way.

    first_epoch: the epoch its present weights are of, for trainings that branch off; recipe: what happens at which
    step, when it is not what `training` says. A training that diverges is over too: see `Recorder.failed`. The caller
    closes the recorder once it needs the state no more.
    """
    from modescape.science import weights

    resume = _resume_state(context)
    recorder = Recorder(context, context.lease.stage.partial if resume else {}, run)
    splits = context.splits
    if run is None:  # nobody would see its validation curve
        splits = replace(splits, validation=splits.validation.take(0))
    elif resume is None:
        context.control.save_partial({}, run=run, drop_after_step=-1)  # its curves are drawn again
    first_step = first_epoch * steps_per_epoch(training, len(splits.train))
    try:
        _learn(
            context, network, splits, training, seeds, resume=resume, listener=recorder, first_step=first_step,
            recipe=recipe,
        )  # fmt: skip
    except Diverged as error:  # a result: tried again it would do the same
        recorder.failed = str(error)
        return recorder
    if not finite(weights.flatten(network)):
        recorder.failed = "its weights are not all finite numbers after the last step"
    expected = len(kept_epochs(training.epochs, training.checkpoint_every)) if run is not None else 1
    if len(recorder.checkpoints) != expected:
        raise StageError(f"training left {len(recorder.checkpoints)} checkpoints, {expected} were planned")
    return recorder


def _learn(
    context: Context,
    network: torch.nn.Module,
    splits: Splits,
    training: TrainingSpec,
    seeds: RunSeeds,
    *,
    resume: TrainState | None,
    listener: Recorder,
    first_step: int,
    recipe: Recipe | None,
) -> None:
    """Train with the others of a group where there is one, else alone."""
    from modescape.training_groups import train_alone

    together, device = context.control.together, context.device
    if together is not None:
        together.train(network, splits, training, seeds, device=device, resume=resume, listener=listener)
        return
    train_alone(
        network, splits, training, seeds, device=device, resume=resume, listener=listener, first_step=first_step,
        recipe=recipe,
    )  # fmt: skip


def only_last(training: TrainingSpec, **changes: Any) -> TrainingSpec:
    """The same training without checkpoints and snapshots on the way."""
    changed = training.model_copy(update={"snapshots": 0, "snapshot_window": 1.0, **changes})
    return changed.model_copy(update={"checkpoint_every": changed.epochs})


@stage("train", parts=_parts, brought=(the_data, the_network, the_recipe))
def train(context: Context) -> None:
    """Train a run, or take the weights that were given of it."""
    from modescape.science.arithmetic import arithmetic_used, choose_precision
    from modescape.science.networks import SeededNetwork

    if GIVEN in context.params:
        given_weights.take(context)
        return
    spec, run = context.spec, context.params["run"]
    seeds = run_seeds(spec.ensemble.seed, run, spec.ensemble.vary)
    network = context.start(seeds.weights)
    asked_way(context, network)  # what it says of this network is told as this stage's fault
    recorder = run_training(context, network, spec.training, seeds, run=run)
    recorder.close()
    precision = choose_precision(spec.training.precision, context.device, is_ours=isinstance(network, SeededNetwork))
    failed = recorder.failed or _without_loss(context, run)
    together = context.control.together
    used = arithmetic_used(context.device, precision)
    if together is not None and together.way == "stacked":  # in turn they have the bits of runs alone
        used["grouping"] = "stacked"
    context.output.runs = {run: TrainedRun(used, failed or None)}
    context.output.extra = {
        "checkpoints": recorder.checkpoints,
        "snapshots": recorder.snapshots,
        "precision": precision,
        "images_per_second": recorder.last.images_per_second,
        "architecture": spec.network.architecture,
    }
    if failed:
        context.output.extra["failed"] = failed


def _without_loss(context: Context, run: int) -> str:
    """Why the run has failed if a loss it ends with is no finite number; "" if all are."""
    for series in context.store.curves.of(context.lease.experiment.id, run):
        if series.name.endswith("/loss") and series.n and series.last is None:
            return f"its last {series.name.replace('/', ' ')} is not a finite number"
    return ""
