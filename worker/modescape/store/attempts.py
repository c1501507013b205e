"""How attempts at stages end: inside a transaction that holds the experiment and the running stage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from modescape.records import EventKind, Json, Progress, StageOutput, StageState, Wish
from modescape.store.outputs import files_of, name_files, write_rows
from modescape.store.transaction import Change
from modescape.store.transitions import make_again, move, settle
from modescape.tables import Experiment, Stage, Worker

MAX_LOSSES = 3  # lost leases without progress before a stage counts as poisonous
HUNG = "hung"  # how an attempt ended that made no step any more
TOLD = ("failed", "skipped")  # of a result's extra, and with the progress, so that pages need not read results


@dataclass(frozen=True)
class Attempt:
    """A running stage, locked, under the token of its lease."""

    change: Change
    experiment: Experiment
    stage: Stage
    token: str

    def tell(self, progress: Progress) -> None:
        """How far it is, with an event."""
        step, stage = {"step": progress.step, "steps": progress.steps}, self.stage
        stage.step, stage.steps, stage.progress = progress.step, progress.steps, progress.numbers
        self.change.event(EventKind.PROGRESS, stage.experiment_id, stage, **progress.numbers, **step)

    def succeed(self, output: StageOutput, memo: str, *, reused_from: str | None = None) -> None:
        """running -> succeeded, with the output's rows and the list columns it sets."""
        session, stage = self.change.session, self.stage
        pausing = stage.wish is Wish.PAUSE
        name_files(self.change, stage.id, output.artifacts)
        output = replace(output, artifacts=files_of(session, stage.id))
        result = output.to_json()
        output = StageOutput.from_json(result)  # plain numbers only, also in the columns
        write_rows(session, stage, output)
        for name, value in output.experiment.told().items():
            found = _found_together(self.experiment.finding, value) if name == "finding" else value
            setattr(self.experiment, name, found)
        steps = stage.steps or stage.step
        told = {name: value for name in TOLD if (value := output.extra.get(name))}
        progress = {**{name: value for name, value in stage.progress.items() if name not in TOLD}, **told}
        self._leave(
            StageState.SUCCEEDED, "reused" if reused_from else "succeeded", memo=memo, reused_from=reused_from,
            result=result, partial={}, error={}, step=steps, steps=steps, progress=progress,
            finished_at=self.change.now,
        )  # fmt: skip
        make_again(self.change, stage)
        settle(self.change, self.experiment, pausing=pausing)

    def fail(self, error: Json, how: str = "failed") -> None:
        """running -> failed, and so do the stages that cannot do without it."""
        stage = self.stage
        error = {"attempt": stage.attempt, **error}
        self._leave(StageState.FAILED, how, error=error, finished_at=self.change.now)
        if self.experiment.error is None:
            self.experiment.error = f"{stage.kind}/{stage.key}: {error.get('message', 'failed')}"
        settle(self.change, self.experiment)

    def give_back(self, how: str, **values: Any) -> StageState:
        """running -> paused or cancelled as the user wishes, else ready, with those values; which."""
        state = {Wish.PAUSE: StageState.PAUSED, Wish.CANCEL: StageState.CANCELLED, None: StageState.READY}[
            self.stage.wish
        ]
        values = {StageState.READY: values, StageState.CANCELLED: {"finished_at": self.change.now}}.get(state, {})
        self._leave(state, how, **values)
        settle(self.change, self.experiment)
        return state

    def lose(self) -> None:
        """Three lost leases at the same step fail the stage; those after progress, or on the way there, do not count.

        A poisonous stage dies at one step and was last heard of a little before it (within two steps, or 1 % of all).
        A worker killed while it still repeats what an earlier attempt had done says nothing about the stage.
        """
        stage, furthest = self.stage, self.stage.lost_at_step
        if furthest is not None and abs(stage.step - furthest) <= max(2, stage.steps // 100):
            stage.losses += 1
            stage.lost_at_step = max(furthest, stage.step)
        elif furthest is None or stage.step > furthest:
            stage.losses, stage.lost_at_step = 1, stage.step
        if stage.losses < MAX_LOSSES or stage.wish is not None:
            self.give_back("lost")
            return
        tries = ", ".join(f"{h['worker']} at {h['at']}" for h in stage.history[-MAX_LOSSES:])
        message = f"{stage.losses} workers in a row stopped answering at step {stage.step} ({tries})"
        self.fail({"type": "WorkerLost", "message": message, "traceback": "", "history": stage.history}, how="lost")

    def hang(self, message: str) -> StageState:
        """It was ended because it made no step any more: ready again the first time, failed the second; which.

        message: how that was. Somebody else's load, or a card that was stuck, happens once.
        """
        tries = reversed(self.stage.history[:-1])
        if HUNG not in [one.get("how") for one in takewhile(lambda one: one.get("how") != "failed", tries)]:
            return self.give_back(HUNG)
        self.fail({"type": "WorkerHung", "message": f"for the second time {message}", "traceback": ""})
        return StageState.FAILED

    def _leave(self, state: StageState, how: str, **values: Any) -> None:
        """running -> `state`, fenced by the token; ends the attempt in the history and adds its time."""
        change, stage, owner = self.change, self.stage, self.stage.lease_owner
        ended = min(change.now, stage.lease_expires) if how == "lost" and stage.lease_expires else change.now
        worked = max(0.0, (ended - (stage.claimed_at or ended)).total_seconds())
        last = {**stage.history[-1], "step": stage.step, "ended": ended.isoformat(), "how": how}
        moved = move(
            change, *running_under(stage.id, self.token), state=state, wish=None, lease_token=None, lease_owner=None,
            lease_expires=None, rung_at=None, seconds=stage.seconds + worked, history=[*stage.history[:-1], last],
            **values,
        )  # fmt: skip
        assert moved == 1, "the row is locked, and was ours a moment ago"
        _count(change, owner, stage.kind, how, worked)
        change.session.refresh(stage)
        change.event(
            EventKind.of(state), stage.experiment_id, stage, how=how, step=stage.step, steps=stage.steps,
            seconds=stage.seconds, attempt=stage.attempt,
            **({"error": stage.error.get("message", "")} if state is StageState.FAILED else {}),
            **({"waits": stage.waits} if state is StageState.READY and stage.waits else {}),
        )  # fmt: skip


def _count(change: Change, worker: str | None, kind: str, how: str, seconds: float) -> None:
    """For a worker that has told of itself, which a notebook has not."""
    row = change.session.get(Worker, worker or "", with_for_update={"key_share": True})
    if row is None:
        return
    done = row.tally.get(kind, {"how": {}, "seconds": 0.0})
    counts = {**done["how"], how: done["how"].get(how, 0) + 1}
    row.tally = {**row.tally, kind: {"how": counts, "seconds": round(done["seconds"] + seconds, 3)}}


def running_under(stage_id: str, token: str) -> tuple[Any, ...]:
    """Whether a stage is running under this token: the condition of every write of a worker."""
    return Stage.id == stage_id, Stage.lease_token == token, Stage.state == StageState.RUNNING


def _found_together(known: Json, new: Json) -> Json:
    """What all stages have found. The experiment's row is locked and was read in this transaction: none is lost."""
    claims = known.get("claims", {})
    if isinstance(claims, list):  # from a version in which one stage judged them all
        claims = {claim["id"]: claim for claim in claims}
    together = {**claims, **new.get("claims", {})}
    return {**known, **new, **({"claims": together} if together else {})}
