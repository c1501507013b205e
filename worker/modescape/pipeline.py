"""The one door between the science and the store: a stage's key, and doing a stage. Each kind is in `stages`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from modescape.artifacts import Artifacts
from modescape.results import kept_failure
from modescape.settings import Settings
from modescape.stages import KINDS
from modescape.stages.footing import footing
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
    standing = footing(kind, lease, store)
    needs = [need for need in standing.needs if need.kind != LOOK and (need.kind, need.key) != CHECK]
    parts["needs"] = [[need.kind, need.memo if need.state == "succeeded" else None] for need in needs]
    if standing.skipped:
        parts["skipped"] = standing.skipped
    text = json.dumps(parts | kind.parts(lease), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def run_stage(
    lease: Lease, store: Store, artifacts: Artifacts, settings: Settings, control: StageControl, *, device: str = "cpu"
) -> StageOutput:
    """Do the stage's work, or say why there is none. Raises StageInterrupted when told to stop, StageError and others
    when it cannot."""
    kind = KINDS[lease.kind]
    standing = footing(kind, lease, store)
    if standing.skipped:
        return StageOutput(extra={"skipped": standing.skipped})
    context = Context(lease, store, artifacts, settings, control, device, standing.through)
    kind.call(context)
    return context.output


def renewed(lease: Lease, output: StageOutput, artifacts: Artifacts) -> StageOutput:
    """An earlier stage's output with what the code of its time did not tell: whether the run has failed."""
    told = output.runs.get(lease.params["run"], {}) if lease.kind == "predict" else {"failed": ""}
    if "failed" in told or "skipped" in output.extra:
        return output
    main = lease.spec["evaluation"]["splits"][0]
    return replace(output, runs={lease.params["run"]: {**told, "failed": kept_failure(output.extra, main, artifacts)}})


__all__ = ["memo", "renewed", "run_stage"]
