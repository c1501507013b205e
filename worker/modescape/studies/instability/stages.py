"""How early is it settled where a training ends? (Frankle, Dziugaite, Roy and Carbin 2020, "instability analysis").

From epoch k of run 0, or of the first healthy one, two copies go on with orders of examples of their own, to the end.
Where the straight line between their ends has no barrier, what is left to chance after epoch k no longer decides the
mode. Frankle's pairs keep the optimiser's moments at k; checkpoints hold weights only, so both branches start theirs
anew. The learning rate goes on as the schedule has it at k.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from modescape.draft import Draft
from modescape.prices import Work
from modescape.registry import architectures
from modescape.science.barriers import BATCH_NORM_IMAGES
from modescape.science.seeds import branch_seeds
from modescape.spec_parts import keyed
from modescape.stages.stage import Context, Json, Runs, Task, planner, stage, the_recipe
from modescape.stages.train import only_last, run_training
from modescape.studies.instability.study import InstabilitySpec
from modescape.study import needed

_SPLITS = ("train", "test")
_SIDES = (0, 1)


@planner("instability", after="seeds")
def plan(draft: Draft) -> None:
    study = draft.spec.instability
    if study is None:
        return
    pairs = list(_pairs(study))
    epochs = draft.spec.training.epochs
    for k, repetition in pairs:
        work = Work(trained=(epochs - k) * draft.images_per_epoch)
        for side in _SIDES:
            params = {"epoch": k, "repetition": repetition, "side": side}
            wants = draft.keys("train", "predict")
            draft.add("branch", f"{k}/{repetition}/{side}", params, work, wants=wants)
    images = min(study.images, draft.n.train) + min(study.images, draft.n.test)
    if architectures[draft.spec.network.architecture].has_batch_norm(draft.spec.network.options):
        images += min(BATCH_NORM_IMAGES, draft.n.train)
    for k, repetition in pairs:
        needs = [("branch", f"{k}/{repetition}/{side}") for side in _SIDES]
        params = {"epoch": k, "repetition": repetition}
        work = Work(predicted=study.points * images)
        draft.add("instability", f"{k}/{repetition}", params, work, needs=needs)
    draft.bytes += 4 * len(_SIDES) * len(pairs) * draft.parameters + 32 * len(pairs) * study.points
    draft.predictions += len(pairs) * study.points * images


def _pairs(study: InstabilitySpec) -> Iterator[tuple[int, int]]:
    """(epoch, repetition) of every pair of branches, whole repetitions first."""
    for repetition in range(study.repetitions):
        for k in study.epochs:
            yield k, repetition


def _branch_parts(task: Task) -> Json:
    spec, params = task.spec, task.params
    part = keyed(spec, "data", "network")
    return {
        "data": part["data"],
        "network": part["network"],
        "training": keyed(only_last(spec.training)),
        "epoch": params["epoch"],
        "seeds": branch_seeds(spec.ensemble.seed, params["repetition"], params["side"]).as_dict(),
    }


@stage("branch", parts=_branch_parts, through=lambda lease: Runs((0,)), uses=("train",), brought=(the_recipe,))
def branch(context: Context) -> None:
    from modescape.science.weights import load_tensors

    spec, params = context.spec, context.params
    (run,) = context.through
    kept = context.need("train", f"{run}")["checkpoints"]
    start = next(checkpoint["weights"] for checkpoint in kept if checkpoint["epoch"] == params["epoch"])
    network = context.network()
    load_tensors(network, context.artifacts.tensors(start))
    seeds = branch_seeds(spec.ensemble.seed, params["repetition"], params["side"])
    recorder = run_training(
        context, network, only_last(spec.training), seeds, run=None, first_epoch=params["epoch"]
    )  # fmt: skip
    recorder.close()
    if recorder.failed:
        context.output.extra = {"failed": recorder.failed}
        return
    context.output.extra = {"weights": recorder.checkpoints[-1]["weights"], **({"run": run} if run else {})}


def _instability_parts(task: Task) -> Json:
    spec = task.spec
    part = keyed(spec, "data", "network")
    study = needed(spec.instability)
    return {**part, "points": study.points, "images": study.images, **task.params}


@stage("instability", version=3, parts=_instability_parts)
def instability(context: Context) -> None:
    """Loss and accuracy along the straight line between the ends of one pair."""
    k, repetition = context.params["epoch"], context.params["repetition"]
    found = _profile(context, k, repetition)
    _measure(context, k, repetition, found)
    context.output.extra = found


def _profile(context: Context, k: int, repetition: int) -> Json:
    """What lies between the two branches of a pair: an artifact [split, (loss, accuracy), point], and whether their
    ends are the same function."""
    from modescape.science.barriers import fractions, profile, straight
    from modescape.science.weights import from_tensors

    study, network = needed(context.spec.instability), context.network()
    ends = [context.need("branch", f"{k}/{repetition}/{side}") for side in _SIDES]
    first, last = (from_tensors(network, context.artifacts.tensors(end["weights"])) for end in ends)
    images = {split: context.split(split).take(study.images) for split in _SPLITS}
    found = profile(
        network, straight(first, last, fractions(study.points)), images, context.splits.transform,
        statistics=context.splits.train, device=context.device, check=context.control.check,
        told=lambda points: context.control.progress(points, study.points),
    )  # fmt: skip
    values = np.stack([[found[split].loss, found[split].accuracy] for split in _SPLITS])
    return {
        "profile": context.keep(values, "profile"),
        "images": {split: found[split].labels.shape[1] for split in _SPLITS},
        "disagreement": {split: float((found[split].labels[0] != found[split].labels[-1]).mean()) for split in _SPLITS},
        **({"run": run} if (run := ends[0].get("run")) else {}),
    }


def _measure(context: Context, k: int, repetition: int, kept: Json) -> None:
    from modescape.science.barriers import barrier, fractions

    t = fractions(needed(context.spec.instability).points)
    for split, (loss, accuracy) in zip(_SPLITS, context.artifacts.array(kept["profile"]), strict=True):
        values = {
            "barrier/loss": barrier(loss, t),
            "barrier/error": barrier(1 - accuracy, t),
            "disagreement": kept["disagreement"][split],
            "accuracy": float((accuracy[0] + accuracy[-1]) / 2),
        }
        for metric, value in values.items():
            context.add_group(
                "instability", metric, value, kept["images"][split], split, epoch=k, repetition=repetition,
                **({"run": kept["run"]} if "run" in kept else {}),
            )  # fmt: skip
