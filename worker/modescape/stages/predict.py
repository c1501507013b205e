"""Predictions of every checkpoint of a run on the evaluation splits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from modescape.draft import Draft
from modescape.part import keyed
from modescape.prices import Work
from modescape.spec import ExperimentSpec
from modescape.stages.stage import Context, Json, stage
from modescape.store import Lease


def plan(draft: Draft) -> None:
    for r in draft.runs:
        count = len(draft.epochs)
        work = Work(predicted=count * draft.images)
        draft.add("predict", f"{r}", {"run": r}, work, needs=[("train", f"{r}")], solutions=count)


def _parts(lease: Lease) -> Json:
    part = keyed(ExperimentSpec.model_validate(lease.spec))
    return {"data": part["data"], "splits": part["evaluation"]["splits"]}


@stage("predict", parts=_parts)
def predict(context: Context) -> None:
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
            block.append(context.logits(network, split))
        context.control.progress(i + 1, len(checkpoints), {})
    kept, labels = keep_logits(context, blocks)
    optimum = thetas[-1]
    for i, checkpoint in enumerate(checkpoints):
        context.add_solution(
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
            **geometry(thetas[i], optimum),
        )
    accuracies = [solution.accuracy for solution in context.output.solutions if solution.accuracy is not None]
    context.output.runs = {run: {"accuracy": accuracies[-1], "best_accuracy": max(accuracies)}}
    context.output.extra = {
        "labels": {split: context.keep(values, "labels") for split, values in labels.items()},
        "classes": list(context.splits.classes),
        "logits": kept,
        "norm": float(np.linalg.norm(optimum)),
    }


def keep_logits(
    context: Context, blocks: dict[str, list[NDArray[np.float32]]]
) -> tuple[dict[str, str], dict[str, NDArray[np.int64]]]:
    kept = {split: context.keep(np.stack(block), "predictions") for split, block in blocks.items()}
    return kept, {split: context.split(split).numpy_labels() for split in blocks}


def geometry(theta: NDArray[Any], optimum: NDArray[np.float64]) -> Json:
    theta = theta.astype(np.float64)
    norm, reference = float(np.linalg.norm(theta)), float(np.linalg.norm(optimum))
    cosine = float(theta @ optimum) / (norm * reference) if norm * reference > 0 else None
    return {"norm": norm, "cosine": cosine, "distance": float(np.linalg.norm(theta - optimum))}
