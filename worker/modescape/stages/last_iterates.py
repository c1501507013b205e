"""Where methods that train on ended up: their last iterates, beside the runs' finals, on validation images.

    chain[r/m] -> last[r/m]

A method that trains longer than a run may gain by that alone. So what its averages gain is measured against the better
of the run's final and the method's last iterate, by their NLL on the validation images (science o.9); both are kept and
shown. Of a method that trains on from a run's optimum the last iterate is a solution of its own (set `last`); of one
that starts afresh it is its last sample.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modescape.draft import Draft
from modescape.prices import Work
from modescape.records import Role, SampleSet
from modescape.registry import methods
from modescape.science.predictions import nll
from modescape.spec_parts import keyed
from modescape.stages import given
from modescape.stages.around import Around
from modescape.stages.given import GIVEN, LAST_IMAGES, given_parts
from modescape.stages.predict import geometry
from modescape.stages.stage import Context, Json, Task, planner, stage, the_method


@planner("last", after="sample-fair")
def plan(draft: Draft) -> None:
    images = min(draft.n.held_out, LAST_IMAGES)
    if draft.spec.imported is not None:
        _plan_given(draft)
        return
    for chosen in draft.spec.methods:
        entry = draft.spec.method(chosen.method)
        if entry.trained is None:
            continue
        own = 1 if entry.trained == "continued" else 0
        if not own and not images:
            continue  # its last sample is there, and nothing to compare it on
        for r in draft.runs:
            work = Work(predicted=2 * images + own * draft.images)
            needs = [("train", f"{r}"), ("predict", f"{r}"), ("chain", f"{r}/{entry.name}")]
            params = {"run": r, "method": entry.name, **draft.seen}
            draft.add("last", f"{r}/{entry.name}", params, work, needs=needs, solutions=own)


def _plan_given(draft: Draft) -> None:
    for chosen in draft.spec.methods:
        for run in draft.runs if SampleSet.LAST in draft.spec.carried(chosen.method).sets else ():
            params = {"run": run, "method": chosen.method, "sample_set": SampleSet.LAST, "count": 1}
            params |= given.samples_to(draft, run, chosen.method, SampleSet.LAST)
            draft.add("last", f"{run}/{chosen.method}", params, Work(), needs=[("predict", f"{run}")], solutions=1)


def _parts(task: Task) -> Json:
    if GIVEN in task.params:
        return given_parts(task)
    part = keyed(task.spec)
    own: Json = {name: task.params[name] for name in ("method", "held_out") if name in task.params}
    return {"data": part["data"], "splits": part["evaluation"]["splits"], **own}


@stage("last", parts=_parts, brought=(the_method,))
def last(context: Context) -> None:
    """NLL of a run's final and of the method's last iterate on the validation images; None without any."""
    if GIVEN in context.params:
        given.last(context)
        return
    run, entry = context.params["run"], methods[context.params["method"]]
    around = Around(context, run)
    final = _on_validation(context, around)
    kept = context.need("chain", f"{run}/{entry.name}")["kept"][-1]
    around.place_stored(kept["weights"])
    iterate = _on_validation(context, around)
    if entry.trained == "continued":
        _add_solution(context, around, run, entry.name, kept)
    context.output.extra = {"images": 0, "nll": None, "better": False}
    if final is not None and iterate is not None:
        labels = context.split("validation").numpy_labels()[:LAST_IMAGES]
        found = {"final": nll(final, labels), "last": nll(iterate, labels)}
        context.output.extra = {
            "images": len(labels),
            "nll": found,
            "better": found["last"] < found["final"],
            "logits": {"final": context.keep(final, "predictions"), "last": context.keep(iterate, "predictions")},
            "labels": context.keep(labels, "labels"),
        }


def _on_validation(context: Context, around: Around) -> NDArray[np.float32] | None:
    """Logits of the network as it is."""
    if not len(context.splits.validation) or not context.is_held_out:
        return None
    return context.logits(around.network, "validation", limit=LAST_IMAGES)


def _add_solution(context: Context, around: Around, run: int, method: str, kept: Json) -> None:
    splits: tuple[str, ...] = context.spec.evaluation.splits
    blocks = {split: context.logits(around.network, split) for split in splits}
    theta = around.weights.flatten(around.network)
    predicted = context.need("predict", f"{run}")["logits"]
    context.add_solution(
        context.params["first_number"],
        blocks=blocks,
        labels={split: context.split(split).numpy_labels() for split in splits},
        base=context.artifacts.array(predicted[splits[0]])[-1].argmax(-1),
        run=run,
        role=Role.SAMPLE,
        method=method,
        sample_set=SampleSet.LAST,
        index=0,
        epoch=kept["epoch"],
        weights=kept["weights"],
        predictions={
            split: {"artifact": context.keep(block[None], "predictions"), "index": 0} for split, block in blocks.items()
        },
        **geometry(theta, around.neighbourhood.theta.astype(np.float64)),
    )
