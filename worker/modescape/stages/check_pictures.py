"""The check of a user's own pictures: every file is decoded before anything is trained on, or for, them.

One stage for each folder of the spec. It leaves nothing that others compute with, so it is in no other stage's key.
"""

from __future__ import annotations

from dataclasses import replace

from modescape.draft import Draft
from modescape.errors import DataCorrupt
from modescape.kept_picture_checks import PICTURE_CHECK, check_once, own_folders
from modescape.prices import Work
from modescape.records import PlannedStage
from modescape.science.data.picture_check import check_key
from modescape.stages.stage import Context, Json, Task, planner, stage

SECONDS_PER_PICTURE = 0.002  # a photograph of 0.2 megapixels on one core


@planner("look", after="shift-check")
def plan(draft: Draft) -> None:
    """Planned last, done first: everything waits for the check of what is trained on, a study of other images for that
    of its own, so that a picture of those costs the study only."""
    planned = len(draft.stages)
    for field in own_folders(draft.spec):
        pictures = draft.info.train_total + draft.info.test_total if field == "data" else 0
        draft.add(PICTURE_CHECK, field, {}, Work(other=pictures * SECONDS_PER_PICTURE))
    checks, others = draft.stages[planned:], draft.stages[:planned]
    if any(check.key == "data" for check in checks):
        others = [_after(stage) for stage in others]
    draft.stages = [*checks, *others]


def _after(stage: PlannedStage) -> PlannedStage:
    """The stage with its arrow to the check of the training pictures. Studies ask for the checks of their own."""
    return stage if stage.needs or stage.wants else replace(stage, needs=((PICTURE_CHECK, "data"),))


def _parts(task: Task) -> Json:
    own = own_folders(task.spec)[task.key].data
    return {"look": check_key(own.fingerprint or "", own.white)}


@stage(PICTURE_CHECK, parts=_parts, only_looks=lambda key: True)
def check(context: Context) -> None:
    """Decode every picture of one folder. Raises DataCorrupt naming those that cannot be."""
    own = own_folders(context.spec)[context.lease.stage.key]
    found = check_once(
        context.store,
        own.data,
        classless=not own.has_classes,
        progress=lambda done, of: context.control.progress(done, of),
        check=context.control.check,
    )
    if found.problem:
        raise DataCorrupt(found.problem)
    context.output.extra = {"white": found.white, "sentences": list(found.sentences)}
