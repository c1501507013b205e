"""What each kind of stage does: the one door between the science and the store.

A stage is pure: its inputs are named by the memo (kind, version, options, seeds, inputs, numerics), and equal memos give
equal bytes. It may be killed at any moment; `train` resumes from its last saved state, the others are short or go on
from their last saved block. Nothing here decides when a stage runs (store, jobs) or what it costs (plan).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modescape.artifacts import Artifacts
from modescape.errors import ArtifactMissing, StageError
from modescape.plan import kept_epochs
from modescape.registry import methods
from modescape.science import data as datasets
from modescape.science import similarity, verdict
from modescape.science.predictions import accuracy as accuracy_of
from modescape.science.predictions import scores
from modescape.science.seeds import run_seeds, stream_seed
from modescape.settings import Settings
from modescape.spec import ExperimentSpec
from modescape.store import Lease, NewMatrix, NewMeasurement, NewSolution, StageOutput, Store
from modescape.tables import Stage

if TYPE_CHECKING:
    import torch

    from modescape.jobs import StageControl
    from modescape.science.training import ProgressReport, TrainState

Json = dict[str, Any]

# Raised by hand when a kind's result changes, so that old results are not taken for new ones.
VERSIONS = {"train": 1, "predict": 1, "sample": 1, "compare": 1, "embed": 1, "materialise": 1}


@dataclass
class Context:
    """What a stage function gets: its spec and parameters, its inputs, and the ways out."""

    lease: Lease
    store: Store
    artifacts: Artifacts
    settings: Settings
    control: StageControl
    device: str
    output: StageOutput = field(default_factory=StageOutput)

    @cached_property
    def spec(self) -> ExperimentSpec:
        return ExperimentSpec.model_validate(self.lease.spec)

    @property
    def params(self) -> Json:
        return self.lease.params

    @cached_property
    def splits(self) -> datasets.Splits:
        """The data on the device; loaded once per process and data spec."""
        return datasets.load(self.spec.data, self.settings.data_folders).to(self.device)

    @cached_property
    def needs(self) -> list[Stage]:
        return self.store.needs(self.lease.stage_id)

    def need(self, kind: str, key: str) -> Json:
        """What a needed stage left for its dependants."""
        for stage in self.needs:
            if (stage.kind, stage.key) == (kind, key):
                extra: Json = stage.result["extra"]
                return extra
        raise StageError(f"stage {self.lease.kind}/{self.lease.key} does not need {kind}/{key}")

    def keep(self, array: NDArray[Any], kind: str) -> str:
        """Store an array as an artifact of this stage; its digest."""
        info = self.artifacts.put_array(array, kind)
        self.output.artifacts.append(info)
        return info.digest

    def network(self) -> torch.nn.Module:
        """The spec's network with fresh weights of run 0, to be overwritten."""
        from modescape.science.networks import build

        return build(self.spec.network, self.splits.shape, seed=0).to(self.device)

    def split(self, name: str) -> datasets.Split:
        chosen: datasets.Split = getattr(self.splits, name)
        return chosen


STAGES: dict[str, Callable[[Context], None]] = {}


def stage(kind: str) -> Callable[[Callable[[Context], None]], Callable[[Context], None]]:
    def register(call: Callable[[Context], None]) -> Callable[[Context], None]:
        STAGES[kind] = call
        return call

    return register


def memo(lease: Lease, store: Store, numerics: str) -> str:
    """The stage key: sha256 of everything that decides the stage's bytes. numerics names the arithmetic of the worker."""
    spec = ExperimentSpec.model_validate(lease.spec)
    parts: Json = {"kind": lease.kind, "version": VERSIONS[lease.kind], "numerics": numerics}
    parts["needs"] = [[need.kind, need.memo] for need in store.needs(lease.stage_id)]
    part = spec.model_dump(mode="json")
    run = lease.params.get("run", 0)
    if lease.kind == "train":
        seeds = run_seeds(spec.ensemble.seed, run, spec.ensemble.vary)
        parts |= {"data": part["data"], "network": part["network"], "training": part["training"], "seeds": seeds.as_dict()}
    elif lease.kind == "predict":
        parts |= {"data": part["data"], "splits": part["evaluation"]["splits"]}
    elif lease.kind == "sample":
        chosen = next(m for m in part["methods"] if m["method"] == lease.params["method"])
        parts |= {"options": chosen["options"], "set": lease.params["sample_set"], "count": lease.params["count"]}
        parts |= {"method": chosen["method"], "seed": stream_seed(spec.ensemble.seed, "sampling", run)}
    else:  # these name other stages' solutions by number, so they are only equal when the whole layout is
        parts |= {"spec": part, "params": lease.params}
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def run_stage(
    lease: Lease, store: Store, artifacts: Artifacts, settings: Settings, control: StageControl, *, device: str = "cpu"
) -> StageOutput:
    """Do the stage's work. Raises StageInterrupted when told to stop, StageError and others when it cannot."""
    context = Context(lease, store, artifacts, settings, control, device)
    STAGES[lease.kind](context)
    return context.output


# --- train ------------------------------------------------------------------------------------------------------------


class _Recorder:
    """Turns what the training loop tells into artifacts, curve points and resumable state."""

    def __init__(self, context: Context, partial: Json) -> None:
        self.context = context
        self.checkpoints: list[Json] = list(partial.get("checkpoints", []))
        self.snapshots: list[Json] = list(partial.get("snapshots", []))
        self.points: dict[str, list[tuple[int, float, float]]] = {}
        self.last = ProgressNumbers()

    def checkpoint(self, epoch: int, step: int, tensors: dict[str, NDArray[Any]]) -> None:
        info = self.context.artifacts.put_tensors(tensors, "weights", {"epoch": str(epoch), "step": str(step)})
        self.context.output.artifacts.append(info)
        self.checkpoints.append({"epoch": epoch, "step": step, "weights": info.digest})

    def snapshot(self, index: int, step: int, tensors: dict[str, NDArray[Any]]) -> None:
        info = self.context.artifacts.put_tensors(tensors, "weights", {"snapshot": str(index), "step": str(step)})
        self.context.output.artifacts.append(info)
        self.snapshots.append({"step": step, "weights": info.digest})

    def point(self, step: int, values: dict[str, float]) -> None:
        now = time.time()
        for name, value in values.items():
            self.points.setdefault(name, []).append((step, value, now))

    def progress(self, report: ProgressReport) -> None:
        self.last = ProgressNumbers(report.epoch, report.loss, report.accuracy, report.images_per_second)
        self.context.control.progress(report.step, report.steps, report.as_dict())

    def save(self, state: TrainState) -> None:
        """Files first, then the row that names them: the row may lag, never lead."""
        context, step = self.context, int(state.meta["step"])
        name = f"{context.lease.stage_id}-{context.lease.attempt}-{step}"
        context.artifacts.put_scratch(name, state.tensors, {"state": json.dumps(state.meta)})
        partial = {"resume": name, "step": step, "checkpoints": self.checkpoints, "snapshots": self.snapshots}
        context.control.save_partial(
            partial, points=self.points, run=context.params["run"], artifacts=context.output.artifacts, step=step
        )
        self.points = {}
        context.artifacts.drop_scratch(context.lease.stage_id, keep=name)

    def check(self) -> None:
        self.context.control.check()


@dataclass(frozen=True)
class ProgressNumbers:
    epoch: float = 0.0
    loss: float | None = None
    accuracy: float | None = None
    images_per_second: float = 0.0


def _resume_state(context: Context) -> TrainState | None:
    """The last saved state of an earlier attempt, or None. A lost file costs time, not results: training starts again."""
    from modescape.science.training import TrainState

    name = context.lease.partial.get("resume")
    if name is None:
        return None
    try:
        tensors, metadata = context.artifacts.scratch(name)
    except ArtifactMissing as missing:
        context.control.note("restarted", {"reason": str(missing)})
        return None
    return TrainState(tensors=tensors, meta=json.loads(metadata["state"]))


@stage("train")
def _train(context: Context) -> None:
    from modescape.science.networks import build
    from modescape.science.training import choose_precision, train

    spec, run = context.spec, context.params["run"]
    seeds = run_seeds(spec.ensemble.seed, run, spec.ensemble.vary)
    resume = _resume_state(context)
    recorder = _Recorder(context, context.lease.partial if resume else {})
    if resume is None:
        context.control.forget_points(run)
    network = build(spec.network, context.splits.shape, seed=seeds.weights).to(context.device)
    train(network, context.splits, spec.training, seeds, device=context.device, resume=resume, listener=recorder)
    expected = len(kept_epochs(spec.training.epochs, spec.training.checkpoint_every))
    if len(recorder.checkpoints) != expected:
        raise StageError(f"training left {len(recorder.checkpoints)} checkpoints, {expected} were planned")
    context.control.save_partial(
        {"checkpoints": recorder.checkpoints, "snapshots": recorder.snapshots},
        points=recorder.points, run=run, artifacts=context.output.artifacts, step=recorder.checkpoints[-1]["step"],
    )  # fmt: skip
    context.artifacts.drop_scratch(context.lease.stage_id)
    context.output.extra = {
        "checkpoints": recorder.checkpoints,
        "snapshots": recorder.snapshots,
        "precision": choose_precision(spec.training.precision, context.device),
        "images_per_second": recorder.last.images_per_second,
        "architecture": spec.network.architecture,
    }


# --- predict ----------------------------------------------------------------------------------------------------------


@stage("predict")
def _predict(context: Context) -> None:
    """Logits of every checkpoint on the evaluation splits; one solution a checkpoint, the last one the run's optimum."""
    from modescape.science import weights

    spec, run, first = context.spec, context.params["run"], context.params["first_number"]
    checkpoints = context.need("train", f"{run}")["checkpoints"]
    network = context.network()
    blocks: dict[str, list[NDArray[np.float32]]] = {split: [] for split in spec.evaluation.splits}
    thetas = []
    for i, checkpoint in enumerate(checkpoints):
        weights.load_tensors(network, context.artifacts.tensors(checkpoint["weights"]))
        thetas.append(weights.flatten(network).astype(np.float64))
        for split, block in blocks.items():
            block.append(_logits(context, network, split))
        context.control.progress(i + 1, len(checkpoints), {})
    kept, labels = _keep_logits(context, blocks)
    optimum = thetas[-1]
    for i, checkpoint in enumerate(checkpoints):
        _add_solution(
            context,
            first + i,
            blocks={split: block[i] for split, block in blocks.items()},
            labels=labels,
            base={split: block[-1] for split, block in blocks.items()},
            theta=thetas[i],
            optimum=optimum,
            run=run,
            role="optimum" if i == len(checkpoints) - 1 else "checkpoint",
            index=i,
            epoch=float(checkpoint["epoch"]),
            weights=checkpoint["weights"],
            predictions={split: {"artifact": digest, "index": i} for split, digest in kept.items()},
        )
    accuracies = [solution.accuracy for solution in context.output.solutions if solution.accuracy is not None]
    context.output.runs = {run: {"accuracy": accuracies[-1], "best_accuracy": max(accuracies)}}
    context.output.extra = {
        "labels": {split: context.keep(values, "labels") for split, values in labels.items()},
        "classes": list(context.splits.classes),
        "logits": kept,
        "norm": float(np.linalg.norm(optimum)),
    }


def _logits(context: Context, network: torch.nn.Module, split: str, **options: Any) -> NDArray[np.float32]:
    from modescape.science.predictions import predict

    return predict(
        network, context.split(split), context.splits.transform, device=context.device, check=context.control.check, **options
    )


def _keep_logits(
    context: Context, blocks: dict[str, list[NDArray[np.float32]]]
) -> tuple[dict[str, str], dict[str, NDArray[np.int64]]]:
    kept = {split: context.keep(np.stack(block), "predictions") for split, block in blocks.items()}
    return kept, {split: context.split(split).numpy_labels() for split in blocks}


def _add_solution(
    context: Context,
    number: int,
    *,
    blocks: dict[str, NDArray[np.float32]],
    labels: dict[str, NDArray[np.int64]],
    base: dict[str, NDArray[np.float32]],
    theta: NDArray[np.float64],
    optimum: NDArray[np.float64],
    **fields: Any,
) -> None:
    """A solution row with its geometry and its scores; the first evaluation split gives the numbers lists show."""
    main = context.spec.evaluation.splits[0]
    norm, reference = float(np.linalg.norm(theta)), float(np.linalg.norm(optimum))
    accuracy = accuracy_of(blocks[main], labels[main])
    disagreement = float((blocks[main].argmax(-1) != base[main].argmax(-1)).mean())
    context.output.solutions.append(
        NewSolution(
            number=number,
            norm=norm,
            cosine=float(theta @ optimum) / (norm * reference) if norm * reference > 0 else None,
            distance=float(np.linalg.norm(theta - optimum)),
            accuracy=accuracy,
            disagreement=disagreement,
            diversity=disagreement / (1 - accuracy) if accuracy < 1 else None,
            **fields,
        )
    )
    for split, logits in blocks.items():
        for metric, value in scores(logits, labels[split]).items():
            context.output.measurements.append(
                NewMeasurement(metric=metric, value=value, split=split, solution=number, n=len(labels[split]))
            )


# --- sample -----------------------------------------------------------------------------------------------------------
