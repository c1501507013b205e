"""The one door between the science and the store: a stage's key, and doing a stage. Each kind is in `stages`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from modescape.artifacts import Artifacts
from modescape.settings import Settings
from modescape.spec import ExperimentSpec
from modescape.stages import KINDS
from modescape.stages.shift import CHECK
from modescape.stages.stage import Context
from modescape.store import Lease, Need, PlannedStage, StageOutput, Store
from modescape.tables import Experiment, Stage

if TYPE_CHECKING:
    from modescape.executor import StageControl


def memo(lease: Lease, store: Store, numerics: str) -> str:
    """The stage key: sha256 of all that decides the stage's bytes. numerics names the arithmetic of the worker."""
    needs = [(need.kind, need.memo) for need in store.needs(lease.stage_id) if (need.kind, need.key) != CHECK]
    return _memo(lease, needs, numerics)


def _memo(lease: Lease, needs: Iterable[tuple[str, str | None]], numerics: str) -> str:
    kind = KINDS[lease.kind]
    parts: dict[str, Any] = {"kind": kind.name, "version": kind.version, "numerics": numerics}
    parts["needs"] = [list(need) for need in needs]
    text = json.dumps(parts | kind.parts(lease), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


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
    place = {(one.kind, one.key): i for i, one in enumerate(stages)}
    found: dict[Need, str] = {CHECK: ""}  # which is in no key
    waiting = list(stages)
    while waiting:
        able = {(one.kind, one.key): one for one in waiting if all(need in found for need in one.needs)}
        memos = {}
        for name, one in able.items():
            needs = [(need[0], found[need]) for need in sorted(one.needs, key=place.__getitem__)]
            memos[name] = _planned_memo(spec, one, needs, numerics)
        known = done(set(memos.values())) if memos else set()
        new = {name: memo for name, memo in memos.items() if memo in known}
        if not new:
            break
        found |= new
        waiting = [one for one in waiting if (one.kind, one.key) not in able]
    return {need for need, memo in found.items() if memo}


def _planned_memo(spec: ExperimentSpec, one: PlannedStage, needs: Iterable[tuple[str, str]], numerics: str) -> str:
    """As `memo`, of a stage that is not stored: of a lease that nobody holds."""
    stage = Stage(kind=one.kind, key=one.key, params=one.params)
    lease = Lease("", "", 0.0, stage, Experiment(spec=spec))
    return _memo(lease, [need for need in needs if need[1]], numerics)


def run_stage(
    lease: Lease, store: Store, artifacts: Artifacts, settings: Settings, control: StageControl, *, device: str = "cpu"
) -> StageOutput:
    """Do the stage's work. Raises StageInterrupted when told to stop, StageError and others when it cannot."""
    context = Context(lease, store, artifacts, settings, control, device)
    KINDS[lease.kind].call(context)
    return context.output


__all__ = ["here_already", "memo", "run_stage"]
