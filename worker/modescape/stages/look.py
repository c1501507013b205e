"""The first look at a user's own pictures: every file is decoded before anything is trained on, or for, them.

One stage for each folder of the spec. It leaves nothing that others compute with, so it is in no other stage's key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from modescape.draft import Draft
from modescape.errors import DataCorrupt
from modescape.picture_looks import LOOK, look_at, own_folders
from modescape.prices import Work
from modescape.records import Need, PlannedStage
from modescape.science.data.look import look_key
from modescape.stages.stage import Context, Json, Task, planner, stage

SECONDS_PER_PICTURE = 0.002  # a photograph of 0.2 megapixels on one core


@planner("look", after="shift-check")
def plan(draft: Draft) -> None:
    """Planned last, done first: everything waits for the look at what is trained on, a study of other images for that
    at its own, so that a picture of those costs the study only."""
    folders = [field for field, _ in own_folders(draft.spec)]
    planned = len(draft.stages)
    for field in folders:
        pictures = draft.info.train_total + draft.info.test_total if field == "data" else 0
        draft.add(LOOK, field, {}, Work(other=pictures * SECONDS_PER_PICTURE))
    looks = draft.stages[planned:]
    draft.stages = [*looks, *(_after(stage, draft.keys(LOOK)) for stage in draft.stages[:planned])]


def _after(stage: PlannedStage, looks: Sequence[Need]) -> PlannedStage:
    """The stage with its arrow to the look at the training pictures. Studies ask for the looks at their own."""
    if stage.needs or stage.wants or (LOOK, "data") not in looks:
        return stage
    return replace(stage, needs=((LOOK, "data"),))


def _parts(task: Task) -> Json:
    own = dict(own_folders(task.spec))[task.key]
    return {"look": look_key(own.fingerprint or "", own.white)}


@stage(LOOK, parts=_parts, only_looks=lambda key: True)
def look(context: Context) -> None:
    """Decode every picture of one folder. Raises DataCorrupt naming those that cannot be."""
    field = context.lease.stage.key
    found = look_at(
        context.store,
        dict(own_folders(context.spec))[field],
        classless=field != "data",
        progress=lambda done, of: context.control.progress(done, of),
        check=context.control.check,
    )
    if found.problem:
        raise DataCorrupt(found.problem)
    context.output.extra = {"white": found.white, "sentences": list(found.sentences)}
