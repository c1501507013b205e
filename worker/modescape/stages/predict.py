"""Predictions of every checkpoint of a run on the evaluation splits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modescape.draft import Draft
from modescape.prices import Work
from modescape.records import NewMeasurement, PredictedRun, Role
from modescape.registry import architectures
from modescape.science.barriers import BATCH_NORM_IMAGES
from modescape.science.health import finite, run_failure
from modescape.science.predictions import Placed, accuracy
from modescape.spec_parts import keyed
from modescape.stages import given
from modescape.stages.given import GIVEN, elsewhere, given_parts, given_to
from modescape.stages.stage import Context, Json, Task, planner, stage

if TYPE_CHECKING:
    import torch

    from modescape.science.data import Split

REESTIMATED = "accuracy-reestimated"  # of an optimum, its batch-norm statistics estimated anew, as samples have them


@planner("predict", after="train")
def plan(draft: Draft) -> None:
    for r in draft.runs:
        count = len(draft.epochs)
        read = given_to(draft, r, *draft.spec.evaluation.splits, "trajectory", "weights") | elsewhere(draft, r)
        work = Work(predicted=0 if read else count * draft.images)
        needs = [] if read else [("train", f"{r}")]
        draft.add("predict", f"{r}", {"run": r, **read}, work, needs=needs, solutions=count)


def _parts(task: Task) -> Json:
    if GIVEN in task.params:
        return given_parts(task)
    spec = task.spec
    part = keyed(spec)
    parts = {"data": part["data"], "splits": part["evaluation"]["splits"]}
    network = spec.network  # those without batch norm are predicted as they always were
    if architectures[network.architecture].has_batch_norm(network.options):
        parts["reestimated"] = BATCH_NORM_IMAGES
    return parts


@stage("predict", version=2, parts=_parts)
def predict(context: Context) -> None:
    """Logits of every checkpoint on the evaluation splits: one solution each, the last one the run's optimum."""
    if GIVEN in context.params:
        given.predict(context)
        return
    from modescape.science import weights

    spec, run, first = context.spec, context.params["run"], context.params["first_number"]
    checkpoints = context.need("train", f"{run}")["checkpoints"]
    network = context.network()
    splits: dict[str, Split] = {split: context.split(split) for split in spec.evaluation.splits}
    blocks: dict[str, list[NDArray[np.float32]]] = {split: [] for split in splits}

    def placed() -> Iterator[Placed[NDArray[np.float64]]]:
        for checkpoint in checkpoints:
            weights.load_tensors(network, context.artifacts.tensors(checkpoint["weights"]))
            yield Placed(weights.flatten(network).astype(np.float64), network)

    thetas = []
    for theta, logits in chain.from_iterable(context.logits_of(placed(), splits)):
        thetas.append(theta)
        for split, block in blocks.items():
            block.append(logits[split])
        context.control.progress(len(thetas), len(checkpoints))
    kept = {split: context.keep(np.stack(block), "predictions") for split, block in blocks.items()}
    labels = {split: context.split(split).numpy_labels() for split in blocks}
    optimum = thetas[-1]
    main = spec.evaluation.splits[0]
    finals = {split: block[-1] for split, block in blocks.items()}
    failed = run_failure(finals, labels[main], main, len(context.splits.classes))
    before = 0 if checkpoints[0]["epoch"] == 0 else 1  # checkpoint 0 is the initial weights, whoever trained
    for i, checkpoint in enumerate(checkpoints):
        context.add_solution(
            first + i,
            blocks={split: block[i] for split, block in blocks.items()},
            labels=labels,
            base=finals[main].argmax(-1),
            run=run,
            role=Role.OPTIMUM if i == len(checkpoints) - 1 else Role.CHECKPOINT,
            index=before + i,
            epoch=None if checkpoint["epoch"] is None else float(checkpoint["epoch"]),
            weights=checkpoint["weights"],
            predictions={split: {"artifact": digest, "index": i} for split, digest in kept.items()},
            **geometry(thetas[i], optimum),
        )
    if weights.has_batch_norm(network):
        _reestimate(context, network, first + len(checkpoints) - 1, labels)
    accuracies = [solution.accuracy for solution in context.output.solutions if solution.accuracy is not None]
    context.output.runs = {
        run: PredictedRun(context.output.solutions[-1].accuracy, max(accuracies, default=None), failed)
    }
    context.output.extra = {
        "labels": {split: context.keep(values, "labels") for split, values in labels.items()},
        "classes": list(context.splits.classes),
        "logits": kept,
        "norm": float(np.linalg.norm(optimum)),
    }
    if origins := _keep_origins(context):
        context.output.extra["origins"] = origins


def _keep_origins(context: Context) -> dict[str, str]:
    """The file or row of every image of a user's own set, by split: a JSON list as bytes. Every run keeps the same."""
    found = {split: context.split(split).origin for split in context.spec.evaluation.splits}
    return {
        split: context.keep(np.frombuffer(json.dumps(origin.names()).encode(), np.uint8), "origins")
        for split, origin in found.items()
        if origin is not None
    }


def _reestimate(context: Context, network: torch.nn.Module, number: int, labels: dict[str, NDArray[np.int64]]) -> None:
    """What estimating its statistics anew does to the accuracy of the optimum, which is in the network now.

    An optimum is predicted with the statistics of its training, samples around it with estimated ones (science d.7):
    where the two differ, so do a sample and its optimum that have the same weights.
    """
    from modescape.science import weights

    splits, split = context.splits, context.spec.evaluation.splits[0]
    weights.refresh_batch_norm(network, splits.train, splits.transform, BATCH_NORM_IMAGES)
    value = accuracy(context.logits(network, split), labels[split])
    context.output.measurements.append(
        NewMeasurement(metric=REESTIMATED, value=value, split=split, solution=number, n=len(labels[split]))
    )


def geometry(theta: NDArray[Any], optimum: NDArray[np.float64]) -> Json:
    theta = theta.astype(np.float64)
    if not finite(theta):
        return {}
    norm, reference = float(np.linalg.norm(theta)), float(np.linalg.norm(optimum))
    if not finite(optimum):
        return {"norm": norm}
    cosine = float(theta @ optimum) / (norm * reference) if norm * reference > 0 else None
    return {"norm": norm, "cosine": cosine, "distance": float(np.linalg.norm(theta - optimum))}
