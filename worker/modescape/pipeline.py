"""The one door between the science and the store: a stage's key, and doing a stage. Each kind is in `stages`."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from modescape.artifacts import Artifacts
from modescape.settings import Settings
from modescape.stages import KINDS
from modescape.stages.look import LOOK
from modescape.stages.shift import CHECK
from modescape.stages.stage import Context
from modescape.store import Lease, StageOutput, Store

if TYPE_CHECKING:
    from modescape.executor import StageControl


def memo(lease: Lease, store: Store, numerics: str) -> str:
    """The stage key: sha256 of all that decides the stage's bytes. numerics names the arithmetic of the worker."""
    kind = KINDS[lease.kind]
    parts: dict[str, Any] = {"kind": kind.name, "version": kind.version, "numerics": numerics}
    needs = [need for need in store.needs(lease.stage_id) if need.kind != LOOK and (need.kind, need.key) != CHECK]
    parts["needs"] = [[need.kind, need.memo] for need in needs]
    text = json.dumps(parts | kind.parts(lease), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def run_stage(
    lease: Lease, store: Store, artifacts: Artifacts, settings: Settings, control: StageControl, *, device: str = "cpu"
) -> StageOutput:
    """Do the stage's work. Raises StageInterrupted when told to stop, StageError and others when it cannot."""
    context = Context(lease, store, artifacts, settings, control, device)
    KINDS[lease.kind].call(context)
    return context.output


__all__ = ["memo", "run_stage"]
