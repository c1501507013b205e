"""Curves that were drawn elsewhere, of the trainings of imported members: read where they were given."""

from __future__ import annotations

import numpy as np

from modescape.draft import Draft
from modescape.prices import Work
from modescape.records import Absent
from modescape.spec_parts import ImportedSpec
from modescape.stages.given import GIVEN, given_to
from modescape.stages.stage import Context, Json, Task, planner, stage

CURVES = "curves"


@planner("curves", of_functions=False)
def plan(draft: Draft) -> None:
    imported = draft.spec.imported
    for run in draft.runs if imported is not None else ():
        read = given_to(draft, run, CURVES)
        if read[GIVEN] or _is_only_logged(imported):
            draft.add("curves", f"{run}", {"run": run, **read}, Work())


def _is_only_logged(imported: ImportedSpec | None) -> bool:
    """Whether no member has come yet, and points of their curves do."""
    return imported is not None and imported.planned > 0 and not imported.images


def _parts(task: Task) -> Json:
    return {GIVEN: task.params[GIVEN]}


@stage("curves", parts=_parts, absent=Absent("", add=""))
def curves(context: Context) -> None:
    """Of each curve [P, 3]: steps, values and Unix times, into the database, where every curve is."""
    run = context.params["run"]
    points = {}
    for place, digest in context.params[GIVEN].items():
        found = context.artifacts.array(digest)
        points[place.removeprefix(f"{CURVES}/")] = [(int(step), float(value), float(at)) for step, value, at in found]
    context.control.save_partial({}, points=points, run=run, drop_after_step=-1)
    context.output.extra = {"points": int(np.sum([len(one) for one in points.values()]))}
