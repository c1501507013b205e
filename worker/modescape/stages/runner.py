"""The one door between the science and the store: doing a stage. Each kind is in `stages`, its key in `stages.keys`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from modescape.artifacts import Artifacts
from modescape.records import PredictedRun, StageKind, StageOutput
from modescape.results import kept_failure
from modescape.settings import Settings
from modescape.stages import KINDS, grouping
from modescape.stages.grouping import Group
from modescape.stages.inputs import inputs_of
from modescape.stages.keys import stage_key, task_of
from modescape.stages.stage import Context
from modescape.store import Store
from modescape.store.leases import Lease

if TYPE_CHECKING:
    from modescape.stages.control import StageControl


def run_stage(
    lease: Lease, store: Store, artifacts: Artifacts, settings: Settings, control: StageControl, *, device: str = "cpu"
) -> StageOutput:
    """Do the stage's work, or say why there is none. Raises StageInterrupted when told to stop, StageError and others
    when it cannot."""
    kind = KINDS[lease.stage.kind]
    standing = inputs_of(kind, lease, task_of(lease))
    if standing.skipped:
        return StageOutput(extra={"skipped": standing.skipped})
    context = Context(lease, store, artifacts, settings, control, device, standing.through)
    kind.call(context)
    return context.output


def group_of(
    lease: Lease,
    store: Store,
    artifacts: Artifacts,
    settings: Settings,
    control: StageControl,
    *,
    device: str = "cpu",
    title: str = "",
) -> Group | None:
    """How the experiment of a claimed stage trains its members on this device, a machine of that title."""
    return grouping.group_of(Context(lease, store, artifacts, settings, control, device), title=title)


def renewed(lease: Lease, output: StageOutput, artifacts: Artifacts) -> StageOutput:
    """An earlier stage's output with what the code of its time did not tell: whether the run has failed."""
    if lease.stage.kind != StageKind.PREDICT or "skipped" in output.extra:
        return output
    run, main = lease.stage.params["run"], lease.experiment.spec["evaluation"]["splits"][0]
    told = output.runs.get(run) or PredictedRun(None, None)
    if told.failed is not None:
        return output
    return replace(output, runs={run: replace(told, failed=kept_failure(output.extra, main, artifacts))})


__all__ = ["group_of", "renewed", "run_stage", "stage_key"]
