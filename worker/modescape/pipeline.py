"""What each kind of stage does: the one door between the science and the store.

A stage is pure: its inputs are named by the memo (kind, version, options, seeds, inputs, numerics), and equal memos
give equal bytes. It may be killed at any moment; `train` resumes from its last saved state, the others are short or
go on from their last saved block. Nothing here decides when a stage runs (store, jobs) or what it costs (plan).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from modescape.artifacts import Artifacts
from modescape.errors import ArtifactMissing, StageError
from modescape.plan import kept_epochs, sample_sets
from modescape.registry import architectures, methods
from modescape.results import Results
from modescape.science import data as datasets
from modescape.science import similarity, verdict
from modescape.science.predictions import accuracy as accuracy_of
from modescape.science.predictions import average, scores, softmax
from modescape.science.seeds import run_seeds, stream_seed
from modescape.science.subspace import (
    ActivationMask,
    Draw,
    Neighbourhood,
    Reach,
    calibrate,
    needs_reach,
    remake,
    sample,
)
from modescape.settings import Settings
from modescape.spec import ExperimentSpec
from modescape.store import Lease, NewMatrix, NewMeasurement, NewSolution, StageOutput, Store
from modescape.tables import Solution, Stage

if TYPE_CHECKING:
    import torch

    from modescape.executor import StageControl
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
    """The stage key: sha256 of all that decides the stage's bytes. numerics names the arithmetic of the worker."""
    spec = ExperimentSpec.model_validate(lease.spec)
    parts: Json = {"kind": lease.kind, "version": VERSIONS[lease.kind], "numerics": numerics}
    parts["needs"] = [[need.kind, need.memo] for need in store.needs(lease.stage_id)]
    part = spec.model_dump(mode="json")
    run = lease.params.get("run", 0)
    if lease.kind == "train":
        seeds = run_seeds(spec.ensemble.seed, run, spec.ensemble.vary)
        parts |= {
            "data": part["data"],
            "network": part["network"],
            "training": part["training"],
            "seeds": seeds.as_dict(),
        }
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
        numbers = report.as_dict()
        self.context.control.progress(numbers.pop("step"), numbers.pop("steps"), numbers)

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
    """The last saved state of an earlier attempt, or None. A lost file costs time, not results."""
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
    """Logits of every checkpoint on the evaluation splits: one solution each, the last one the run's optimum."""
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
            run=run,
            role="optimum" if i == len(checkpoints) - 1 else "checkpoint",
            index=i,
            epoch=float(checkpoint["epoch"]),
            weights=checkpoint["weights"],
            predictions={split: {"artifact": digest, "index": i} for split, digest in kept.items()},
            **_geometry(thetas[i], optimum),
        )
    accuracies = [solution.accuracy for solution in context.output.solutions if solution.accuracy is not None]
    context.output.runs = {run: {"accuracy": accuracies[-1], "best_accuracy": max(accuracies)}}
    context.output.extra = {
        "labels": {split: context.keep(values, "labels") for split, values in labels.items()},
        "classes": list(context.splits.classes),
        "logits": kept,
        "norm": float(np.linalg.norm(optimum)),
    }


def _logits(
    context: Context,
    network: torch.nn.Module,
    split: str,
    *,
    mask: ActivationMask | None = None,
    limit: int | None = None,
) -> NDArray[np.float32]:
    """float32 logits of a split, or of its first `limit` images."""
    from modescape.science.predictions import predict

    images = context.split(split) if limit is None else context.split(split).take(limit)
    return predict(
        network, images, context.splits.transform, device=context.device, mask=mask, check=context.control.check
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
    **fields: Any,
) -> None:
    """A solution row with its scores; the first evaluation split gives the numbers lists show."""
    main = context.spec.evaluation.splits[0]
    accuracy = accuracy_of(blocks[main], labels[main])
    disagreement = float((blocks[main].argmax(-1) != base[main].argmax(-1)).mean())
    context.output.solutions.append(
        NewSolution(
            number=number,
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

CALIBRATION_IMAGES = 1000
BATCH_NORM_IMAGES = 2000
SAVE_EVERY_SECONDS = 20.0


class _Around:
    """One run's optimum with what samplers and evaluations around it need."""

    def __init__(self, context: Context, run: int) -> None:
        from modescape.science import weights

        self.context, self.weights = context, weights
        self.network = context.network()
        trained = context.need("train", f"{run}")
        optimum = context.artifacts.tensors(trained["checkpoints"][-1]["weights"])
        weights.load_tensors(self.network, optimum)
        self.buffers = weights.buffers(self.network)
        layout = [(piece.name, piece.shape) for piece in weights.names_and_shapes(self.network)]
        snapshots = [
            weights.from_tensors(self.network, context.artifacts.tensors(snapshot["weights"]))
            for snapshot in trained["snapshots"]
        ]
        self.neighbourhood = Neighbourhood(
            weights.flatten(self.network), np.stack(snapshots) if len(snapshots) >= 2 else None, layout
        )

    def place(self, draw: Draw) -> None:
        """Put a draw's weights into the network; batch-norm statistics are estimated again for moved weights."""
        weights, splits = self.weights, self.context.splits
        weights.assign(self.network, draw.theta)
        if weights.has_batch_norm(self.network):
            if np.array_equal(draw.theta, self.neighbourhood.theta):
                weights.assign_buffers(self.network, self.buffers)
            else:
                weights.refresh_batch_norm(self.network, splits.train, splits.transform, BATCH_NORM_IMAGES)

    def logits(self, draw: Draw, split: str, *, limit: int | None = None) -> NDArray[np.float32]:
        return _logits(self.context, self.network, split, mask=draw.mask, limit=limit)

    def accuracy(self, draw: Draw, split: str, limit: int | None = None) -> float:
        self.place(draw)
        labels = self.context.split(split).numpy_labels()
        return accuracy_of(self.logits(draw, split, limit=limit), labels[:limit])


@stage("sample")
def _sample(context: Context) -> None:
    """One sample set of one method around one run: predictions are kept, weights are made again when asked for."""
    spec, params = context.spec, context.params
    run, first, count = params["run"], params["first_number"], params["count"]
    entry = methods[params["method"]]
    chosen = next(m for m in spec.methods if m.method == entry.name)
    options = entry.options.model_validate(chosen.options)
    seed = stream_seed(spec.ensemble.seed, "sampling", run)
    around = _Around(context, run)
    predicted = context.need("predict", f"{run}")
    labels: dict[str, NDArray[np.int64]] = {s: context.split(s).numpy_labels() for s in spec.evaluation.splits}
    base: dict[str, NDArray[np.float32]] = {
        split: context.artifacts.array(predicted["logits"][split])[-1] for split in spec.evaluation.splits
    }
    # Strengths and floors are read off validation images; without any, off training images, never off the test set.
    probe = "validation" if len(context.splits.validation) else "train"

    state = context.lease.partial
    blocks: dict[str, list[NDArray[np.float32]]] = {split: [] for split in spec.evaluation.splits}
    rows: list[Json] = list(state.get("rows", []))
    reach = Reach(**state["reach"]) if state.get("reach") else None
    for split, digest in state.get("logits", {}).items():
        blocks[split] = list(context.artifacts.array(digest))
    if reach is None and needs_reach(entry, options, params["sample_set"]):
        reach = calibrate(
            entry,
            around.neighbourhood,
            options,
            accuracy=lambda draw: around.accuracy(draw, probe, CALIBRATION_IMAGES),
            chance=1 / len(context.splits.classes),
            seed=seed,
        )
    optimum = Draw(around.neighbourhood.theta, 0.0, 0.0)
    floored = params["sample_set"] == "typical" and getattr(options, "floor", "none") == "drop"
    reference = around.accuracy(optimum, probe) if floored else None
    theta0 = around.neighbourhood.theta.astype(np.float64)
    saved = time.monotonic()
    for found in sample(
        entry,
        around.neighbourhood,
        options,
        sample_set=params["sample_set"],
        count=count,
        seed=seed,
        reach=reach,
        accuracy=lambda draw: around.accuracy(draw, probe),
        reference=reference,
        start=rows[-1]["index"] + 1 if rows else 0,
    ):
        around.place(found.draw)
        for split, block in blocks.items():
            block.append(around.logits(found.draw, split))
        rows.append(
            {
                "index": found.index,
                "attempt": found.attempt,
                "strength": found.draw.strength,
                "relative": found.draw.relative,
            }
            | _geometry(found.draw.theta, theta0)
        )
        context.control.progress(found.index + 1, count, {})
        if time.monotonic() - saved > SAVE_EVERY_SECONDS:
            arrays = [
                (split, context.artifacts.put_array(np.stack(block), "predictions")) for split, block in blocks.items()
            ]
            partial = {"rows": rows, "logits": {split: info.digest for split, info in arrays}}
            context.control.save_partial(
                partial | {"reach": asdict(reach) if reach else None}, artifacts=[info for _, info in arrays]
            )
            saved = time.monotonic()
    kept = {split: context.keep(np.stack(block), "predictions") for split, block in blocks.items() if block}
    for i, row in enumerate(rows):
        _add_solution(
            context,
            first + row["index"],
            blocks={split: block[i] for split, block in blocks.items()},
            labels=labels,
            base=base,
            run=run,
            role="sample",
            method=entry.name,
            sample_set=params["sample_set"],
            seed=seed,
            predictions={split: {"artifact": digest, "index": i} for split, digest in kept.items()},
            **row,
        )
    centre = {}
    if entry.centre == "mean" and entry.sampled:  # where the method starts from, for reading it at equal accuracy
        around.place(Draw(around.neighbourhood.mean.astype(np.float32), 0.0, 0.0))
        centre = {split: context.keep(around.logits(optimum, split), "predictions") for split in spec.evaluation.splits}
    context.output.extra = {
        "centre": centre,
        "asked": count,
        "accepted": len(rows),
        "reach": asdict(reach) if reach else None,
        "floor": None if reference is None else reference - getattr(options, "floor_value", 0.0),
        "floor_split": probe,
    }


@stage("materialise")
def _materialise(context: Context) -> None:
    """The weights of one sample, made again from its seed, index and attempt."""
    number = context.params["number"]
    solution = context.store.solution(context.lease.experiment_id, number)
    assert solution.method is not None
    assert solution.seed is not None
    assert solution.attempt is not None
    assert solution.strength is not None
    entry = methods[solution.method]
    chosen = next(m for m in context.spec.methods if m.method == entry.name)
    around = _Around(context, solution.run)
    draw = remake(
        entry,
        around.neighbourhood,
        entry.options.model_validate(chosen.options),
        sample_set="spread" if solution.sample_set == "spread" else "typical",
        index=solution.index,
        attempt=solution.attempt,
        strength=solution.strength,
        seed=solution.seed,
    )
    if draw.mask is not None:
        raise StageError(
            f"solution {number} is the optimum's weights under a dropout mask; ask for solution weights of the optimum"
        )
    around.place(draw)
    info = context.artifacts.put_tensors(around.weights.tensors(around.network), "weights", {"solution": str(number)})
    context.output.artifacts.append(info)
    context.output.weights = {number: info.digest}


def _geometry(theta: NDArray[Any], optimum: NDArray[np.float64]) -> Json:
    theta = theta.astype(np.float64)
    norm, reference = float(np.linalg.norm(theta)), float(np.linalg.norm(optimum))
    cosine = float(theta @ optimum) / (norm * reference) if norm * reference > 0 else None
    return {"norm": norm, "cosine": cosine, "distance": float(np.linalg.norm(theta - optimum))}


# --- compare ----------------------------------------------------------------------------------------------------------


def _checkpoints(context: Context) -> list[Solution]:
    """Checkpoints and optima of every run, by number."""
    solutions = context.store.all_solutions(context.lease.experiment_id)
    return [solution for solution in solutions if solution.role != "sample"]


def _results(context: Context) -> Results:
    return Results(context.store, context.artifacts, context.lease.experiment_id)


def _add_matrix(
    context: Context,
    name: str,
    split: str,
    values: NDArray[np.float64],
    rows: list[Solution],
    columns: list[Any],
    **details: Any,
) -> None:
    named = [column.number if isinstance(column, Solution) else column for column in columns]
    digest = context.keep(np.ascontiguousarray(values, dtype=np.float64), "matrix")
    context.output.matrices.append(
        NewMatrix(
            name=name, split=split, rows=[s.number for s in rows], columns=named, artifact=digest, details=details
        )
    )


def _add_group(
    context: Context, subject: str, metric: str, value: float | None, n: int, split: str | None, **details: Any
) -> None:
    context.output.measurements.append(
        NewMeasurement(metric=metric, value=value, subject=subject, split=split, n=n, details=details)
    )


@stage("compare")
def _compare(context: Context) -> None:
    if context.lease.key == "trajectories":
        _compare_trajectories(context)
    else:
        _compare_all(context)


def _compare_trajectories(context: Context) -> None:
    """Cosine of weights and disagreement of labels between checkpoints; what independent runs are worth together."""
    results, solutions = _results(context), _checkpoints(context)
    _cosines(context, solutions)
    optima = [solution for solution in solutions if solution.role == "optimum"]
    for split in context.spec.evaluation.splits:
        context.control.check()
        _add_matrix(
            context,
            "disagreement",
            split,
            similarity.disagreement(results.labels_of(solutions, split)),
            solutions,
            solutions,
        )
        _ensemble(context, results, optima, split)
    _finding(context, results)


def _cosines(context: Context, solutions: list[Solution]) -> None:
    """Gram matrices of the weights, tensor by tensor, so that memory holds one tensor of every solution at a time."""
    files = [safe_open(context.artifacts.path(str(solution.weights)), framework="np") for solution in solutions]
    network = context.network()
    gram = np.zeros((2, len(files), len(files)))
    kernels = context.spec.network.architecture
    pieces = list(network.named_parameters())
    for i, (name, parameter) in enumerate(pieces):
        context.control.check()
        context.control.progress(i, len(pieces), {})
        block = np.stack([file.get_tensor(name).reshape(-1).astype(np.float64) for file in files])  # type: ignore[no-untyped-call]
        product = block @ block.T
        gram[0] += product
        if parameter.dim() >= 2:
            gram[1] += product
    _add_matrix(context, "cosine", "", _cosine_of_gram(gram[0]), solutions, solutions, weights="all")
    if architectures[kernels].batch_norm:
        # gamma starts at one in every network: a cosine that says nothing. Kernels alone are the honest measure.
        _add_matrix(context, "cosine-kernels", "", _cosine_of_gram(gram[1]), solutions, solutions, weights="kernels")


def _cosine_of_gram(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosines from inner products; NaN for a zero vector, whose direction is undefined."""
    norms = np.sqrt(np.diag(gram))
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine: NDArray[np.float64] = np.clip(gram / np.outer(norms, norms), -1.0, 1.0)
    np.fill_diagonal(cosine, np.where(norms > 0, 1.0, np.nan))
    return cosine


def _ensemble(context: Context, results: Results, optima: list[Solution], split: str) -> None:
    """Scores of averaging all runs' probabilities, and the runs' Jensen-Shannon divergence."""
    logits = [results.logits(solution, split) for solution in optima]
    labels = results.true_labels(split)
    for metric, value in scores(average(logits), labels).items():
        _add_group(context, "ensemble", metric, value, len(optima), split)
    if len(optima) > 1:
        divergence = similarity.js_mean(softmax(np.stack(logits)))
        _add_group(context, "independent", "js_mean", divergence, len(optima), split, members=len(optima))
        _add_group(context, "independent", "js_sum", divergence * len(optima), len(optima), split, members=len(optima))


def _compare_all(context: Context) -> None:
    """Disagreement between all solutions, and every other distance between the optima and all solutions."""
    results = _results(context)
    solutions = results.solutions()
    optima = results.solutions(role="optimum")
    rounds = len(context.spec.evaluation.splits) * len(solutions)
    for passed, split in enumerate(context.spec.evaluation.splits):
        labels = results.labels_of(solutions, split)
        _add_matrix(context, "disagreement", split, similarity.disagreement(labels), solutions, solutions)
        found = similarity.divergences(
            np.stack([results.logits(optimum, split) for optimum in optima]),
            _told(
                context, (results.logits(solution, split) for solution in solutions), passed * len(solutions), rounds
            ),
            check=context.control.check,
        )
        for name, values in found.items():
            _add_matrix(context, name, split, values, optima, solutions)
        _method_divergences(context, results, split)
    _finding(context, results)


def _told(context: Context, arrays: Iterator[NDArray[np.float32]], done: int, of: int) -> Iterator[NDArray[np.float32]]:
    """The same arrays, telling how many have been taken."""
    for i, array in enumerate(arrays, done):
        context.control.progress(i, of, {})
        yield array


def _method_divergences(context: Context, results: Results, split: str) -> None:
    """Jensen-Shannon divergence within each method's typical set, run by run, then the mean over runs."""
    for chosen in context.spec.methods:
        per_run = []
        for run in range(context.spec.ensemble.runs):
            samples = results.solutions(run=run, method=chosen.method, sample_set="typical")
            if len(samples) > 1:
                logits = np.stack([results.logits(s, split) for s in samples])
                per_run.append((similarity.js_mean(softmax(logits)), len(samples)))
        if per_run:
            value = float(np.mean([js for js, _ in per_run]))
            members = [count for _, count in per_run]
            _add_group(context, f"{chosen.method}/typical", "js_mean", value, len(per_run), split, members=members)


def _finding(context: Context, results: Results) -> None:
    """The numbers of the list and of the verdict sentence, on the first evaluation split."""
    split = context.spec.evaluation.splits[0]
    optima = results.solutions(role="optimum")
    labels = results.labels_of(optima, split)
    pairs = np.triu_indices(len(optima), 1)
    finding: Json = {"split": split, "images": int(labels.shape[1]), "runs": len(optima)}
    accuracies = [float(optimum.accuracy or 0.0) for optimum in optima]
    single = float(np.mean(accuracies))
    columns: Json = {"accuracy": single, "finding": finding}
    if len(optima) > 1:
        between = similarity.disagreement(labels)[pairs]
        cosine = _own_cosine(context, results, optima)[pairs]
        finding["independent"] = {
            "disagreement": float(between.mean()),
            "disagreement_sd": float(between.std(ddof=1)) if len(between) > 1 else None,
            "cosine": float(cosine.mean()),
            "cosine_largest": float(np.abs(cosine).max()),
            "pairs": len(between),
        }
        together = scores(average([results.logits(optimum, split) for optimum in optima]), results.true_labels(split))
        finding["ensemble"] = {"accuracy": together["accuracy"], "single": single, "members": len(optima)}
        columns |= {"ensemble_accuracy": together["accuracy"], "disagreement": float(between.mean())}
    within = _late_disagreement(context, results, split)
    if within is not None:
        finding["trajectory"] = within
    if context.lease.key == "all":
        evidence = _evidence(context, results, labels, split)
        finding["methods"] = [_at_equal_accuracy(method, evidence) for method in evidence.methods]
        finding["claims"] = [asdict(claim) for claim in verdict.judge(evidence)]
    context.output.experiment = columns


def _own_cosine(context: Context, results: Results, optima: list[Solution]) -> NDArray[np.float64]:
    """Cosines [R, R] between optima: from the matrix this stage has just made, or the one an earlier stage made."""
    name = "cosine-kernels" if architectures[context.spec.network.architecture].batch_norm else "cosine"
    for made in context.output.matrices:
        if made.name == name:
            rows, values = made.rows, np.asarray(context.artifacts.array(made.artifact))
            break
    else:
        stored = results.matrix(name, "")
        if stored is None:
            raise StageError(f"the matrix {name} is missing; retry compare/trajectories")
        rows, values = stored.rows, stored.values
    places = [rows.index(optimum.number) for optimum in optima]
    return np.asarray(values[np.ix_(places, places)], dtype=np.float64)


def recent(checkpoints: list[Solution]) -> list[Solution]:
    """The last 40 % of a run's checkpoints, at least three, never the initial weights; [] when there are too few."""
    trained = [checkpoint for checkpoint in checkpoints if checkpoint.index > 0]
    count = max(3, round(0.4 * len(trained)))
    return trained[-count:] if len(trained) >= 3 else []


def _late_disagreement(context: Context, results: Results, split: str) -> Json | None:
    """Mean disagreement between late checkpoints of one run, over the runs."""
    per_run = []
    for run in range(context.spec.ensemble.runs):
        late = recent([s for s in results.solutions(run=run) if s.role != "sample"])
        if late:
            between = similarity.disagreement(results.labels_of(late, split))
            per_run.append(float(between[np.triu_indices(len(late), 1)].mean()))
    if not per_run:
        return None
    return {"disagreement": float(np.mean(per_run)), "runs": len(per_run)}


def _evidence(context: Context, results: Results, finals: NDArray[np.int64], split: str) -> verdict.Evidence:
    """The labels the verdict is read from: the runs' optima, their late checkpoints, and each method's samples."""
    optima, runs = results.solutions(role="optimum"), range(context.spec.ensemble.runs)
    windows = [recent([s for s in results.solutions(run=run) if s.role != "sample"]) for run in runs]
    return verdict.Evidence(
        classes=len(results.class_names),
        truth=results.true_labels(split),
        finals=finals,
        cosine=_own_cosine(context, results, optima),
        windows=[results.labels_of(window, split) for window in windows] if all(windows) else (),
        methods=tuple(
            _method_evidence(context, results, chosen.method, split)
            for chosen in context.spec.methods
            if methods[chosen.method].sampled  # one average a run is no sample of anything
        ),
    )


def _method_evidence(context: Context, results: Results, name: str, split: str) -> verdict.MethodEvidence:
    entry, runs = methods[name], range(context.spec.ensemble.runs)
    sets = {s: [results.solutions(run=r, method=name, sample_set=s) for r in runs] for s in ("spread", "typical")}
    # Typical samples were selected by their accuracy; they stand in only where no others were asked for.
    wide = sets["spread"] if any(sets["spread"]) else sets["typical"]
    centre = None
    if entry.centre == "mean":
        kept = [context.need("sample", stage_key(r, name, results)) for r in runs]
        centre = np.stack([context.artifacts.array(extra["centre"][split]).argmax(-1) for extra in kept])
    images = len(results.true_labels(split))

    def labels(solutions: list[Solution]) -> NDArray[np.int64]:
        return results.labels_of(solutions, split) if solutions else np.empty((0, images), np.int64)

    return verdict.MethodEvidence(
        name=name,
        title=entry.title,
        near=[labels(typical) for typical in sets["typical"]],
        wide=[labels(all_of_run) for all_of_run in wide],
        strengths=None
        if entry.strength is None
        else [[float(s.strength or 0.0) for s in all_of_run] for all_of_run in wide],
        centre=centre,
    )


def stage_key(run: int, method: str, results: Results) -> str:
    """Key of a sample stage of this run and method that was planned (spread if there is one)."""
    chosen = next(m for m in results.spec.methods if m.method == method)
    return f"{run}/{method}/{sample_sets(chosen)[0][0]}"


def _at_equal_accuracy(method: verdict.MethodEvidence, evidence: verdict.Evidence) -> Json:
    """Disagreement with its own optimum at the strength where the method costs one point of accuracy (science o.5)."""
    read = verdict.at_equal_accuracy(evidence, method)
    value = read.disagreement if np.isfinite(read.disagreement) else None
    strength = read.strength if np.isfinite(read.strength) else None
    return {
        "method": method.name,
        "disagreement": value,
        "strength": strength,
        "below": read.below,
        "support": read.support,
    }


# --- embed ------------------------------------------------------------------------------------------------------------


@stage("embed")
def _embed(context: Context) -> None:
    """One joint map of functions: trajectories of the first runs, and with them their typical samples."""
    results, evaluation = _results(context), context.spec.evaluation
    split = evaluation.splits[0]
    what = context.lease.key
    shown = [
        solution
        for solution in results.solutions()
        if solution.run < evaluation.embed_runs
        and (solution.role != "sample" or (what == "samples" and solution.sample_set == "typical"))
    ]
    images = min(evaluation.embed_images, len(results.true_labels(split)))
    logits = []
    for i, solution in enumerate(shown):
        context.control.check()
        context.control.progress(i, len(shown), {})
        logits.append(np.asarray(results.logits(solution, split)[:images]))
    maps = similarity.embed(similarity.gram(logits), seed=evaluation.embed_seed, perplexity=evaluation.perplexity)
    details: Json = {"images": images, "functions": len(shown), "seed": maps.seed}
    layouts = {"tsne": maps.tsne, "pca": maps.pca, "mds": maps.mds}
    said: dict[str, Json] = {
        "tsne": {"perplexity": maps.perplexity},
        "pca": {"share": maps.share},
        "mds": {"stress": maps.stress},
    }
    for layout, points in layouts.items():
        if points is not None:
            _add_matrix(context, f"{layout}-{what}", split, points, shown, ["x", "y"], **details, **said[layout])
