"""What a stage stands on once failures are known: the results it takes, the runs it goes through, or why it is skipped.

A stage that stands on a failed run or chain makes nothing and succeeds: its result says `skipped` and why, and what
stands on it is skipped in turn. So no state, number or arrow is different from those of an experiment without failures.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from modescape.draft import Draft
from modescape.records import PlannedStage, StageKind, StageState
from modescape.stages.stage import Kind, Runs, Task
from modescape.store.leases import Lease
from modescape.study import is_open
from modescape.tables import Stage


@dataclass(frozen=True)
class Inputs:
    """needs: the stages whose results decide the bytes; through: the runs it goes through, for kinds that choose."""

    needs: Sequence[Stage]
    skipped: str = ""
    through: tuple[int, ...] = ()


def inputs_of(kind: Kind, lease: Lease, task: Task) -> Inputs:
    """Of what was there when the stage was claimed, so that its key and its work see the same."""
    standing = lease.standing
    needs, failed = standing.needs, standing.failed
    named = kind.through(task) if kind.through is not None else Runs()
    if not named.numbers and kind.gathers:
        return Inputs(needs)
    if not named.numbers:
        reasons = (_unusable(need, failed) for need in needs if need.id in standing.firm)
        return Inputs(needs, next(filter(None, reasons), ""))
    lost = {need.params["run"]: _broken(need) for need in needs if need.kind in StageKind.of_runs() and _broken(need)}
    known = sorted({need.params["run"] for need in needs if need.kind in StageKind.of_runs()})
    chosen, why = choose(named.numbers, known, {**lost, **failed}, named=named.named)
    return Inputs([need for need in needs if _is_used(need, kind.uses, chosen)], why, chosen)


def healthy_needs(kind: Kind, task: Task, needs: Sequence[PlannedStage]) -> list[PlannedStage]:
    """Of planned stages those whose results decide the bytes where nothing fails."""
    named = kind.through(task).numbers if kind.through is not None else ()
    return [need for need in needs if not named or _is_used(need, kind.uses, named)]


def choose(
    runs: Sequence[int], known: Sequence[int], failed: Mapping[int, str], *, named: bool = False
) -> tuple[tuple[int, ...], str]:
    """The runs a picture goes through, and why there is none.

    The first n, which is what is asked when nothing else is, are the first n healthy ones. Others were named, and so
    were the first where that is said: with one that has failed there is nothing to show.
    """
    if is_open(runs, named):
        healthy = tuple(run for run in known if run not in failed)[: len(runs)]
        if len(healthy) < len(runs):
            return healthy, f"it needs {len(runs)} healthy runs, of {len(known)} there are {len(healthy)}"
        return healthy, ""
    why = [f"run {run} was named for it, and failed: {failed[run]}" for run in runs if run in failed]
    return tuple(runs), "; ".join(why)


def waited_for(draft: Draft, runs: Sequence[int], *, named: bool) -> list[int]:
    """The runs of which must be known whether they are healthy, before it is known which ones are taken."""
    return list(draft.runs) if is_open(runs, named) else list(runs)


def _is_used(need: Stage | PlannedStage, uses: Collection[str], chosen: Sequence[int]) -> bool:
    run = need.params.get("run")
    if need.kind == StageKind.SAMPLE:  # those around the first
        return need.kind in uses and run in chosen[:1]
    return need.kind in uses and (run is None or run in chosen)


def _broken(need: Stage) -> str:
    """Why a stage of a run has left nothing to use, apart from what its predictions say."""
    if need.state == StageState.FAILED:
        return f"{need.kind}/{need.key} stopped with an error"
    extra = need.result.get("extra", {})
    return str(extra.get("failed") or extra.get("skipped") or "")


def _unusable(need: Stage, failed: Mapping[int, str]) -> str:
    """Why what a stage made must not be used."""
    extra = need.result.get("extra", {})
    if extra.get("skipped"):
        return str(extra["skipped"])
    if need.kind in StageKind.of_runs():
        run: int = need.params["run"]
        why = extra.get("failed") or failed.get(run)
        return f"run {run} failed: {why}" if why else ""
    if extra.get("failed"):
        return f"{need.kind} {need.key} failed: {extra['failed']}"
    return ""
