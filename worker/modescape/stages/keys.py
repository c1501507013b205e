"""The key of a stage: a digest of all that decides its bytes, so that what is here already is not done again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from pydantic import ValidationError

from modescape.errors import StageError
from modescape.pydantic_errors import invalid
from modescape.records import Need, PlannedStage, StageState
from modescape.registry import architectures
from modescape.spec import ExperimentSpec, unknown
from modescape.stages import KINDS
from modescape.stages.inputs import healthy_needs, inputs_of
from modescape.stages.stage import Task, the_recipe
from modescape.store.leases import Lease


def stage_key(lease: Lease, numerics: str) -> str:
    """The stage key: sha256 of all that decides the stage's bytes. numerics names the arithmetic of the worker."""
    task = task_of(lease)
    standing = inputs_of(KINDS[task.kind], lease, task)
    needs = [
        (need.kind, need.memo if need.state == StageState.SUCCEEDED else None)
        for need in standing.needs
        if not KINDS[need.kind].only_looks(need.key)
    ]
    return _digest(task, needs, numerics, skipped=standing.skipped)


def _digest(task: Task, needs: Iterable[tuple[str, str | None]], numerics: str, *, skipped: str = "") -> str:
    kind = KINDS[task.kind]
    parts: dict[str, Any] = {"kind": kind.name, "version": kind.version, "numerics": numerics}
    parts["needs"] = [list(need) for need in needs]
    if skipped:
        parts["skipped"] = skipped
    entry = architectures.get(task.spec.network.architecture)
    if entry is not None and (entry.counted or entry.brought) and task.spec.training.precision == "auto":
        parts["precision"] = "float32"  # once bfloat16, whose numbers were not the same at every call
    if entry is not None and entry.engine > 1 and the_recipe in kind.brought and _in_float32(task.spec, numerics):
        parts["engine"] = entry.engine
    if sources := kind.sources(task):
        parts["sources"] = sources
    if margins := kind.margins(task):
        parts["margins"] = margins
    text = json.dumps(parts | kind.parts(task), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _in_float32(spec: ExperimentSpec, numerics: str) -> bool:
    """Whether a processor of that arithmetic trains the networks of this spec in float32."""
    asked = spec.training.precision
    return numerics.startswith("cpu/") and (asked == "float32" or (asked == "auto" and "/float32/" in numerics))


def here_already(
    spec: ExperimentSpec,
    stages: Sequence[PlannedStage],
    numerics: str,
    done: Callable[[Collection[str]], set[str]],
) -> set[Need]:
    """Planned stages that a worker of that arithmetic will take over instead of doing them, by (kind, key).

    done: which of some stage keys have succeeded. A stage can only be here when all that it needs is, so a plan of
    which nothing is here costs as many keys as it has stages without needs. Whether every file is still on the disk is
    looked at when the stage is claimed.
    """
    planned = {(one.kind, one.key): (place, one) for place, one in enumerate(stages)}
    found: dict[Need, str] = {}
    waiting = [one for one in stages if not KINDS[one.kind].only_looks(one.key)]
    taken = {(one.kind, one.key): _taken(spec, one, planned) for one in waiting}
    while waiting:
        able = {(one.kind, one.key): one for one in waiting if all(need in found for need in taken[one.kind, one.key])}
        memos = {}
        for name, one in able.items():
            needs = [(need[0], found[need]) for need in taken[name]]
            memos[name] = _digest(Task.of(one, spec), needs, numerics)
        known = done(set(memos.values())) if memos else set()
        new = {name: memo for name, memo in memos.items() if memo in known}
        if not new:
            break
        found |= new
        waiting = [one for one in waiting if (one.kind, one.key) not in able]
    return set(found)


def _taken(spec: ExperimentSpec, one: PlannedStage, planned: Mapping[Need, tuple[int, PlannedStage]]) -> list[Need]:
    """Whose results a stage takes if nothing fails, in the order of the plan. planned: with their places in it."""
    waited = {*one.needs, *one.wants} & planned.keys()
    found = sorted((planned[name] for name in waited if not KINDS[name[0]].only_looks(name[1])), key=itemgetter(0))
    stages = [stage for _, stage in found]
    return [(stage.kind, stage.key) for stage in healthy_needs(KINDS[one.kind], Task.of(one, spec), stages)]


def task_of(lease: Lease) -> Task:
    """What a claimed stage has to do. Raises StageError where its spec names what this worker does not know."""
    document = lease.experiment.spec
    try:
        return Task.of(lease.stage, ExperimentSpec.model_validate(document))
    except ValidationError as error:
        lacking = ", ".join(unknown(document)) or str(invalid(error))
        raise StageError(
            f"this worker does not know {lacking}: install the plug-in that brings it, or name it in "
            "MODESCAPE_PLUGINS, start the worker again and retry"
        ) from None
