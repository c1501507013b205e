"""A study: what is left of a run when its weights are rounded."""

from typing import Annotated

import numpy as np
from pydantic import Field

from modescape.prices import Work
from modescape.spec_parts import keyed
from modescape.stages.stage import planner, stage
from modescape.study import StudySpec, study, twice


@study(
    "their-rounding", title="Their rounding", summary="Accuracy of every run with rounded weights.", source="their lab",
    absent="No rounding was asked for.", stages=("their-rounded",),
)  # fmt: skip
class RoundingSpec(StudySpec):
    digits: tuple[Annotated[int, Field(ge=0, le=6)], ...] = Field((2,), min_length=1, description="Digits kept.")

    def problems(self, spec, info, n):
        yield from twice("digits", self.digits)


@planner("their-rounding", after="connectivity")
def plan(draft):
    for asked in draft.spec.asked("their-rounding"):
        for run in draft.runs:
            work = Work(predicted=len(asked.digits) * draft.n.test)
            params = {"run": run, "digits": list(asked.digits)}
            draft.add("their-rounded", f"{run}", params, work, needs=[("train", f"{run}"), ("predict", f"{run}")])


def parts(task):
    return {"data": keyed(task.spec, "data"), "network": keyed(task.spec, "network"), "params": task.params}


@stage("their-rounded", parts=parts)
def rounded(context):
    from modescape.science import weights
    from modescape.science.predictions import accuracy

    run, network = context.params["run"], context.network()
    kept = context.need("train", f"{run}")["checkpoints"][-1]["weights"]
    theta = weights.from_tensors(network, context.artifacts.tensors(kept))
    truth = context.splits.test.labels.cpu().numpy()
    for digits in context.params["digits"]:
        weights.assign(network, np.round(theta, digits).astype(np.float32))
        value = accuracy(context.logits(network, "test"), truth)
        context.add_group("rounding", "accuracy", value, len(truth), "test", run=run, digits=digits)
