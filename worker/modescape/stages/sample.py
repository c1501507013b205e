"""Samples around a run's optimum, their predictions, and their weights made again when asked for."""

from __future__ import annotations

import time
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from modescape.draft import Draft, sample_sets
from modescape.errors import StageError
from modescape.registry import methods
from modescape.science.seeds import stream_seed
from modescape.science.subspace import Draw, Reach, calibrate, needs_reach
from modescape.science.subspace import sample as draw_samples
from modescape.spec import ExperimentSpec
from modescape.stages.around import Around
from modescape.stages.predict import geometry
from modescape.stages.stage import Context, Json, stage
from modescape.store import Lease


def plan(draft: Draft) -> None:
    for chosen in draft.spec.methods:
        for sample_set, count in sample_sets(chosen):
            for r in draft.runs:
                tries = 1.3 * draft.n.validation if sample_set == "typical" else 0.0
                seconds = count * (draft.images + tries) / draft.predict_rate
                params = {"run": r, "method": chosen.method, "sample_set": sample_set, "count": count}
                needs = [("train", f"{r}"), ("predict", f"{r}")]
                key = f"{r}/{chosen.method}/{sample_set}"
                draft.add("sample", key, params, seconds, needs=needs, solutions=count)


def _parts(lease: Lease) -> Json:
    spec = ExperimentSpec.model_validate(lease.spec)
    part = spec.model_dump(mode="json")
    chosen = next(m for m in part["methods"] if m["method"] == lease.params["method"])
    return {
        "data": part["data"],
        "splits": part["evaluation"]["splits"],
        "method": chosen["method"],
        "options": chosen["options"],
        "set": lease.params["sample_set"],
        "count": lease.params["count"],
        "seed": stream_seed(spec.ensemble.seed, "sampling", lease.params["run"]),
    }


CALIBRATION_IMAGES = 1000
SAVE_EVERY_SECONDS = 20.0


@stage("sample", parts=_parts)
def sample(context: Context) -> None:
    """One sample set of one method around one run: predictions are kept, weights are made again when asked for."""
    spec, params = context.spec, context.params
    run, first, count = params["run"], params["first_number"], params["count"]
    entry = methods[params["method"]]
    chosen = next(m for m in spec.methods if m.method == entry.name)
    options = entry.options.model_validate(chosen.options)
    seed = stream_seed(spec.ensemble.seed, "sampling", run)
    around = Around(context, run)
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
    for found in draw_samples(
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
            | geometry(found.draw.theta, theta0)
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
        context.add_solution(
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
def materialise(context: Context) -> None:
    """The weights of one sample, made again from its seed, index and attempt."""
    number = context.params["number"]
    solution = context.store.solution(context.lease.experiment_id, number)
    around = Around(context, solution.run)
    if around.place_solution(solution) is not None:
        raise StageError(
            f"solution {number} is the optimum's weights under a dropout mask; ask for solution weights of the optimum"
        )
    info = context.artifacts.put_tensors(around.weights.tensors(around.network), "weights", {"solution": str(number)})
    context.output.artifacts.append(info)
    context.output.weights = {number: info.digest}
