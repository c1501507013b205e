"""What a store keeps to, whatever its database: stages start when they may, writes are fenced, nothing is lost."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from modescape.acting import Actor, UserRole, acting, actor
from modescape.database import upgrade
from modescape.errors import Conflict, LeaseLost, NotFound
from modescape.prices import Work
from modescape.records import (
    LONG_SECONDS,
    ArtifactInfo,
    ListColumns,
    NewMeasurement,
    NewSolution,
    PlannedStage,
    PredictedRun,
    Progress,
    Role,
    StageOutput,
)
from modescape.spec import parse
from modescape.store import Store
from modescape.store.attempts import MAX_LOSSES
from modescape.store.leases import Lease
from modescape.tables import Experiment
from modescape.testing.contract import Checked, Contract, Rule, equal, expect, refused

SPEC = parse({"ensemble": {"runs": 2}})
# train/0 -> predict/0 --> compare/all;  train/1 -> predict/1 -->
GRAPH = (
    PlannedStage("train", "0", params={"run": 0, "seeds": {"weights": 11}}),
    PlannedStage("train", "1", params={"run": 1}),
    PlannedStage("predict", "0", (("train", "0"),), {"run": 0, "first_number": 0}),
    PlannedStage("predict", "1", (("train", "1"),), {"run": 1, "first_number": 3}),
    PlannedStage("compare", "all", (("predict", "0"), ("predict", "1"))),
)
_NAMES = tuple(f"{stage.kind}/{stage.key}" for stage in GRAPH)
_ERROR = {"type": "StageError", "message": "no luck", "traceback": "Traceback…"}

# ---- what rules and tests do with a store ----


def create(store: Store, name: str = "Toy", **values: Any) -> Experiment:
    by = values.pop("created_by", None)
    with acting(actor() if by is None else Actor(by, UserRole.RESEARCHER)):
        return store.experiments.create(**{"name": name, "spec": SPEC, "stages": GRAPH, **values})


def states(store: Store, experiment: Experiment) -> dict[str, str]:
    """kind/key -> state."""
    return {f"{stage.kind}/{stage.key}": str(stage.state) for stage in store.stages.of(experiment.id)}


def stage_id(store: Store, experiment: Experiment, name: str) -> str:
    return next(stage.id for stage in store.stages.of(experiment.id) if f"{stage.kind}/{stage.key}" == name)


def claim(store: Store, name: str | None = None, experiment: Experiment | None = None, owner: str = "w") -> Lease:
    """A lease on any stage that is ready, or on the one named kind/key."""
    wanted = stage_id(store, experiment, name) if name and experiment else None
    lease = store.leases.claim(owner, stage_id=wanted, lease_seconds=30)
    assert lease is not None, "no stage is ready"
    assert name is None or f"{lease.stage.kind}/{lease.stage.key}" == name, f"{lease.name} came instead of {name}"
    return lease


def finish(store: Store, lease: Lease, output: StageOutput | None = None) -> None:
    store.leases.finish(lease, output or StageOutput(), f"memo {lease.stage.kind}/{lease.stage.key}")


def finish_all(store: Store) -> None:
    while lease := store.leases.claim("w"):
        finish(store, lease)


def in_an_hour() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)


def info(text: str, size: int = 100, kind: str = "weights") -> ArtifactInfo:
    """A file of that size that is named and does not exist."""
    return ArtifactInfo(hashlib.sha256(text.encode()).hexdigest(), kind, "float32", (5, 5), size)


def predicted(first: int, run: int) -> StageOutput:
    """Three solutions of a run, with numbers of many types."""
    logits = info(f"logits {run}", 400, "predictions")
    return StageOutput(
        solutions=[
            NewSolution(
                number=first + i, run=run, role=Role.OPTIMUM if i == 2 else Role.CHECKPOINT, index=i, epoch=float(i),
                accuracy=np.float64(0.5) + i / 10, diversity=float("nan") if i else 0.25,
                predictions={"test": {"artifact": logits.digest, "index": i}},
            )
            for i in range(3)
        ],
        measurements=[
            NewMeasurement(metric="nll", value=np.float32(0.5), solution=first, split="test", n=np.int64(1200)),  # type: ignore[arg-type]
            NewMeasurement(metric="accuracy", value=float("inf"), subject="ensemble", split="test"),
        ],
        artifacts=[logits],
        runs={run: PredictedRun(0.7, 0.8)},
        extra={"norm": np.float32(2.0), "classes": ("a", "b")},
    )  # fmt: skip


def _are(store: Store, experiment: Experiment, *expected: str) -> None:
    """States of the five stages in their order."""
    equal("stages", states(store, experiment), dict(zip(_NAMES, expected, strict=True)))


def _status(store: Store, experiment: Experiment, expected: str) -> None:
    equal("experiment's status", str(store.experiments.get(experiment.id).status), expected)


STORE: Contract[Store] = Contract("store")


@STORE.rule
def starts_queued(store: Store) -> None:
    """An experiment starts queued with its first stages ready, and is found again by its slug as it was made."""
    experiment = create(store, name="  My   first ", tags=["b", "a", "b"], notes="why", created_by="ada")
    equal("experiment", (experiment.name, experiment.slug, str(experiment.status)), ("My first", "my-first", "queued"))
    _are(store, experiment, "ready", "ready", "blocked", "blocked", "blocked")
    again = store.experiments.get("my-first")
    kept = (again.id, again.tags, again.notes, again.created_by, again.digest, again.stages_total)
    equal("experiment, found again,", kept, (experiment.id, ["b", "a"], "why", "ada", SPEC.digest(), 5))
    runs = [(run.number, run.seeds) for run in store.results.runs(again.id)]
    kept_at = (parse(again.spec) == SPEC, again.dataset, again.runs, again.created_at.tzinfo is not None)
    equal("spec, data set, runs, and whether its time has a zone", kept_at, (True, "digits", 2, True))
    equal("runs", runs, [(0, {"weights": 11}), (1, {})])
    equal("events", [str(event.kind) for event in store.events.after()], ["created"])
    refused("An unknown slug", lambda: store.experiments.get("another"), NotFound)


@STORE.rule
def follows_needs(store: Store) -> None:
    """A stage becomes ready when all that it needs has succeeded, and the experiment succeeds with its last stage."""
    experiment = create(store)
    finish(store, claim(store, "train/0"))
    equal("stage whose need is done", states(store, experiment)["predict/0"], "ready")
    finish(store, claim(store, "predict/0", experiment))
    equal("stage with another need", states(store, experiment)["compare/all"], "blocked")
    for name in ("train/1", "predict/1", "compare/all"):
        finish(store, claim(store, name))
    done = store.experiments.get(experiment.id)
    equal("experiment", (str(done.status), done.stages_done), ("succeeded", 5))
    in_order = done.started_at is not None and done.finished_at is not None and done.started_at <= done.finished_at
    expect(in_order, f"It started at {done.started_at} and ended at {done.finished_at}.")
    expect(store.leases.claim("w") is None, "A stage can be claimed after all have ended.")
    needs = [need.key for need in store.stages.needs(stage_id(store, experiment, "compare/all"))]
    equal("keys of what the last stage needs", needs, ["0", "1"])


@STORE.rule
def claims_once(store: Store) -> None:
    """A stage is claimed by one worker alone, of the queues that worker serves."""
    experiment = create(store)
    first = claim(store, "train/0")
    equal("stage for the next worker", claim(store, owner="other").stage.key, "1")
    expect(store.leases.claim("third") is None, "A third worker gets a stage that another one has.")
    stage = store.stages.get(first.stage.id)
    told = (str(stage.state), stage.lease_owner, stage.attempt, stage.worker)
    equal("claimed stage", told, ("running", "w", 1, "w"))
    _status(store, experiment, "running")
    trained = PlannedStage("train", "0", work=Work(trained=1.0))
    create(store, stages=[trained, replace(trained, key="1", estimate=LONG_SECONDS + 1)])
    expect(store.leases.claim("w", queues=("cpu",)) is None, "A worker gets a stage of a queue it does not serve.")
    for queues, key in ((("long", "cpu"), "1"), (("gpu", "cpu"), "0")):
        lease = store.leases.claim("w", queues=queues)
        equal(f"stage of the queues {queues}", None if lease is None else lease.stage.key, key)


@STORE.rule
def fences_writes(store: Store) -> None:
    """A worker whose lease is lost can write nothing: every write is fenced by the lease's token."""
    experiment = create(store)
    old = claim(store, "train/0")
    equal("stages freed", store.leases.reap(in_an_hour()), [old.stage.id])
    new = claim(store, "train/0", experiment)
    before, last = store.stages.get(new.stage.id), store.events.last_id()
    attempts: dict[str, Callable[[], object]] = {
        "beat": lambda: store.leases.beat(old, Progress(99, 100)),
        "save_partial": lambda: store.leases.save_partial(old, {"stale": True}, step=99),
        "begin": lambda: store.leases.begin(old, "memo"),
        "finish": lambda: store.leases.finish(old, StageOutput(), "memo"),
        "fail": lambda: store.leases.fail(old, {"type": "X", "message": "x"}),
        "give_back": lambda: store.leases.give_back(old),
        "wish": lambda: store.leases.reuse(old, "no such memo") or store.leases.wish(old),
        "note": lambda: store.leases.note(old, "kind", {}),
    }
    for name, attempt in attempts.items():
        refused(f"`{name}` with a lost lease", attempt, LeaseLost)
    after = store.stages.get(new.stage.id)
    kept = (str(after.state), after.step, after.partial, after.lease_token, after.lease_expires)
    equal("stage afterwards", kept, ("running", 0, {}, new.token, before.lease_expires))
    equal("last event", store.events.last_id(), last)
    finish(store, new)


@STORE.rule
def beats(store: Store) -> None:
    """A beat keeps the lease and tells progress once; numbers that are not finite are kept as none."""
    create(store)
    lease = claim(store)
    before = store.stages.get(lease.stage.id).lease_expires
    equal("wish", store.leases.beat(lease, Progress(3, 10, {"loss": float("nan"), "epoch": 1})), None)
    stage = store.stages.get(lease.stage.id)
    equal("progress", (stage.step, stage.steps, stage.progress), (3, 10, {"loss": None, "epoch": 1}))
    longer = before is not None and stage.lease_expires is not None and stage.lease_expires > before
    expect(longer, f"The lease, which ended at {before}, ends at {stage.lease_expires}.")
    event = store.events.after()[-1]
    told = {"kind": "train", "key": "0", "step": 3, "steps": 10, "loss": None, "epoch": 1}
    equal("event", (str(event.kind), event.stage_id, event.payload), ("progress", stage.id, told))
    store.leases.beat(lease)
    equal("last event after a beat without news", store.events.last_id(), event.id)


@STORE.rule
def fails_what_needs(store: Store) -> None:
    """A failed stage takes along only what needs it, and says so; the rest is done."""
    experiment = create(store)
    store.leases.fail(claim(store, "train/0"), _ERROR)
    _are(store, experiment, "failed", "ready", "failed", "blocked", "failed")
    row = store.experiments.get(experiment.id)
    equal("experiment", (str(row.status), row.error), ("running", "train/0: no luck"))
    own = store.stages.get(stage_id(store, experiment, "train/0")).error
    equal("stage's error", own, {**_ERROR, "attempt": 1})
    last = store.stages.get(stage_id(store, experiment, "compare/all")).error["message"]
    equal("reason of a stage that needs it", last, "needs train/0, which failed")
    finish_all(store)
    equal("stage that does not need it", states(store, experiment)["predict/1"], "succeeded")
    _status(store, experiment, "failed")


@STORE.rule
def retries(store: Store) -> None:
    """A retry goes on where a stage failed, with what it had saved, and leaves what has succeeded alone."""
    experiment = create(store)
    lease = claim(store, "train/0")
    store.leases.save_partial(lease, {"at": 7}, step=7)
    store.leases.fail(lease, _ERROR)
    finish_all(store)
    for _ in range(2):  # asking twice changes nothing
        row = store.experiments.retry(experiment.id)
        equal("experiment", (str(row.status), row.error, row.finished_at), ("running", None, None))
    _are(store, experiment, "ready", "succeeded", "blocked", "succeeded", "blocked")
    again = claim(store, "train/0")
    equal("what was saved, and attempt", (again.stage.partial, again.stage.attempt), ({"at": 7}, 2))
    finish(store, again)
    finish_all(store)
    _status(store, experiment, "succeeded")
    error = refused("A retry of nothing", lambda: store.experiments.retry(experiment.id), Conflict)
    expect("nothing to retry" in str(error), f"A retry of nothing is refused with the words {error}.")


@STORE.rule
def cancels(store: Store) -> None:
    """Cancelling stops what waits at once and asks what runs; it can be tried again."""
    experiment = create(store)
    lease = claim(store, "train/0")
    store.experiments.cancel(experiment.id)
    _are(store, experiment, "running", *["cancelled"] * 4)
    equal("wish", (store.leases.wish(lease), store.leases.beat(lease)), ("cancel", "cancel"))
    equal("state of what is given back", str(store.leases.give_back(lease)), "cancelled")
    for _ in range(2):
        _status(store, experiment, "cancelled")
        store.experiments.cancel(experiment.id)
    store.experiments.retry(experiment.id)
    finish_all(store)
    _status(store, experiment, "succeeded")
    error = refused("Cancelling what has succeeded", lambda: store.experiments.cancel(experiment.id), Conflict)
    expect("has succeeded; it cannot be cancelled" in str(error), f"It is refused with the words {error}.")


@STORE.rule
def pauses(store: Store) -> None:
    """Pausing holds everything until it is resumed, with what was saved; what has ended cannot be paused."""
    experiment = create(store)
    lease = claim(store, "train/0")
    store.leases.save_partial(lease, {"at": 5}, step=5)
    equal("status while a stage runs on", str(store.experiments.pause(experiment.id).status), "running")
    equal("wish", store.leases.save_partial(lease, {"at": 6}, step=6), "pause")
    equal("state of what is given back", str(store.leases.give_back(lease)), "paused")
    _status(store, experiment, "paused")
    expect(store.leases.claim("w") is None, "A stage can be claimed while everything is held.")
    equal("status when paused twice", str(store.experiments.pause(experiment.id).status), "paused")
    for _ in range(2):
        equal("status after resuming", str(store.experiments.resume(experiment.id).status), "running")
    equal("what was saved", claim(store, "train/0").stage.partial, {"at": 6})
    other = create(store, stages=GRAPH[:1])
    finish(store, claim(store, "train/0", other))
    for verb in (store.experiments.pause, store.experiments.resume):
        refused(f"`{verb.__name__}` of what has ended", lambda verb=verb: verb(other.id), Conflict)  # type: ignore[misc]


@STORE.rule
def frees_lost_stages(store: Store) -> None:
    """A lease that has run out frees its stage, a live one does not; so does a worker that starts again."""
    experiment = create(store)
    lease = claim(store, "train/0", owner="gpu0")
    equal("stages freed of live leases", store.leases.reap(), [])
    equal("stages freed", store.leases.reap(in_an_hour()), [lease.stage.id])
    stage = store.stages.get(lease.stage.id)
    equal("freed stage", (str(stage.state), stage.lease_token, stage.lease_owner), ("ready", None, None))
    equal("how the attempt ended", stage.history[-1]["how"], "lost")
    mine, other = claim(store, "train/0", experiment, "gpu0"), claim(store, owner="gpu1")
    equal("stages freed of one worker", store.leases.release_owner("gpu0"), [mine.stage.id])
    equal("stage of the other", str(store.stages.get(other.stage.id).state), "running")


@STORE.rule
def gives_up(store: Store) -> None:
    """A stage that loses its worker three times at the same step fails with its history; progress between counts."""
    experiment = create(store)
    for step in range(1, 3 * MAX_LOSSES):
        store.leases.beat(claim(store, "train/0", experiment), Progress(10 * step, 0))
        store.leases.release_owner("w")
    for step in range(2 * MAX_LOSSES):  # killed while it repeats what it had done before
        store.leases.beat(claim(store, "train/0", experiment), Progress(7 * step, 0))
        store.leases.release_owner("w")
    equal("stage lost at other steps", states(store, experiment)["train/0"], "ready")
    other = create(store)
    for step in (50, 48, 50):  # dies at 51; the last beat before it came a little earlier or later
        lease = claim(store, "train/0", other)
        store.leases.save_partial(lease, {"at": 40}, step=40)
        store.leases.beat(lease, Progress(step, 0))
        store.leases.reap(in_an_hour())
    stage = store.stages.get(stage_id(store, other, "train/0"))
    equal("stage lost at one step", (str(stage.state), stage.error["type"]), ("failed", "WorkerLost"))
    equal("history", [entry["how"] for entry in stage.error["history"][:2]], ["lost", "lost"])
    store.experiments.retry(other.id)
    equal("what was saved", claim(store, "train/0", other).stage.partial, {"at": 40})


@STORE.rule
def keeps_rows(store: Store) -> None:
    """A finished stage leaves its rows, all or none; numbers that are not finite are kept as none."""
    experiment = create(store)
    finish(store, claim(store, "train/0"))
    lease, last = claim(store, "predict/0", experiment), store.events.last_id()
    twice = [NewSolution(number=0, run=0, role=Role.OPTIMUM, index=0)] * 2
    try:
        finish(store, lease, StageOutput(solutions=twice, experiment=ListColumns(accuracy=0.5)))
    except Exception:  # as its database has it
        left = (str(store.stages.get(lease.stage.id).state), store.experiments.get(experiment.id).accuracy)
        equal("stage and accuracy after a write that failed", left, ("running", None))
        equal("last event", store.events.last_id(), last)
    else:
        expect(False, "Two solutions of one number are let through.")
    finish(store, lease, predicted(0, 0))
    found = [(one.number, one.accuracy, one.diversity) for one in store.results.solutions(experiment.id, run=0)]
    equal("solutions", found, [(0, 0.5, 0.25), (1, 0.6, None), (2, 0.7, None)])
    equal("role of the last", str(store.results.solution(experiment.id, 2).role), "optimum")
    [nll] = store.results.measurements(experiment.id, metric="nll")
    equal("measurement", (nll.value, nll.solution, nll.n), (0.5, 0, 1200))
    [group] = store.results.group_measurements(experiment.id)
    equal("measurement of a group", (group.subject, group.value), ("ensemble", None))
    run = store.results.runs(experiment.id)[0]
    equal("run's accuracies", (run.accuracy, run.best_accuracy), (0.7, 0.8))
    result = store.stages.get(lease.stage.id).result
    equal("what is left for others", result["extra"], {"norm": 2.0, "classes": ["a", "b"]})
    equal("output, read again,", StageOutput.from_json(result).to_json(), result)
    equal("file's shape", store.outputs.artifact(info("logits 0").digest).shape, [5, 5])
    equal("files named", store.outputs.digests(), [info("logits 0").digest])


@STORE.rule
def keeps_curves(store: Store) -> None:
    """Curves keep every point once, also those that are sent again, and know their extremes."""
    experiment = create(store)
    lease, values = claim(store), np.random.default_rng(0).normal(size=2600)
    values[77] = np.nan
    sent = [(step, float(value), 1000.0 + step) for step, value in enumerate(values)]
    for start, end in pairwise([0, 1, 700, 1300, 1301, 2600]):
        batch = sent[max(0, start - 5) : end]  # five are sent again, as after a lost answer
        store.leases.save_partial(lease, {}, points={"train/loss": batch, "rate": batch[-1:]}, run=0)
    steps, kept, times = store.curves.points(experiment.id, 0, "train/loss")
    same = np.array_equal(steps, np.arange(2600)) and np.array_equal(kept, values, equal_nan=True)
    expect(same and np.array_equal(times, 1000.0 + np.arange(2600)), "Points of a curve are lost or doubled.")
    series = {one.name: one for one in store.curves.of(experiment.id, run=0)}["train/loss"]
    equal("curve's length, last value and step", (series.n, series.last, series.last_step), (2600, values[-1], 2599))
    ends = ((series.smallest, series.smallest_step), (series.largest, series.largest_step))
    expected = ((np.nanmin(values), np.nanargmin(values)), (np.nanmax(values), np.nanargmax(values)))
    equal("curve's extremes and their steps", ends, expected)
    equal("points of another run", len(store.curves.points(experiment.id, 1, "train/loss").steps), 0)


@STORE.rule
def tells_events(store: Store) -> None:
    """Events are read in their order from any point, of all experiments or of one; no id is given twice."""
    first, second = create(store), create(store)
    finish_all(store)
    events = store.events.after(0, limit=10_000)
    ids = [event.id for event in events]
    equal("ids of events", ids, sorted(set(ids)))
    equal("events after one", [event.id for event in store.events.after(ids[3], limit=2)], ids[4:6])
    mine = store.events.after(experiment_id=first.id, limit=10_000)
    equal("experiments of one's events", {event.experiment_id for event in mine}, {first.id})
    told = [event.payload["status"] for event in mine if event.kind == "status"]
    equal("statuses told", told, ["running", "succeeded"])
    expect(second.id in {event.experiment_id for event in events}, "Events of the second experiment are not told.")
    last = store.events.last_id()
    equal("events pruned", store.events.prune(3), last - 3)
    create(store)
    expect(store.events.last_id() > last, "An id that was pruned is given again.")


@STORE.lists
def check_store(database: Callable[[], str] | None = None) -> Checked:
    """Does a store on this database keep what it promises?

    database: gives the URL of another empty database each time; None: SQLite files in a temporary folder. Raises
    ContractBroken with the first rule that does not hold.
    """
    with tempfile.TemporaryDirectory(prefix="modescape-") as folder:
        made: list[str] = []

        def ask(rule: Rule[Store]) -> None:
            made.append(database() if database else f"sqlite:///{Path(folder) / f'{len(made)}.db'}")
            upgrade(made[-1])
            store = Store(made[-1])
            try:
                rule(store)
            finally:
                store.close()

        return STORE.ask("SQLite" if database is None else "of that database", ask)
