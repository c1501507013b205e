"""A worker trains several runs of an experiment at once: each stays a stage with its own bytes, on both databases."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modescape import presets
from modescape.architectures.building import build
from modescape.datasets import loading
from modescape.errors import InvalidInput, LeaseLost
from modescape.executor import Executor
from modescape.laboratory import Laboratory
from modescape.records import DataInfo, EventKind, Progress, StageKind, StageState
from modescape.science import weights
from modescape.settings import Settings
from modescape.spec import check, parse
from modescape.stages import grouping, runner
from modescape.stages.control import StageControl
from modescape.stages.together import Together
from modescape.store import Store
from modescape.store.leases import Lease
from modescape.tables import Experiment, Stage
from modescape.training_groups import Memory, measure, members_that_fit, memory_of, sizes

assert presets

BLOBS = DataInfo(1, 8, 8, ("a", "b", "c", "d"), 400, 200, 0)
SPEC: dict[str, Any] = {
    "data": {"dataset": "blobs"},
    "network": {"architecture": "mlp"},
    "training": {"epochs": 3, "batch_size": 20, "snapshots": 2, "precision": "float32"},
    "evaluation": {"splits": ["test"], "embed_images": 20},
}


def laboratory(store_url: str, home: Path) -> Laboratory:
    return Laboratory(Settings(home=home, device="cpu", database_url=store_url))  # type: ignore[arg-type]


def launched(made: Laboratory, grouping: str, *, runs: int = 3, **changes: Any) -> Experiment:
    return made.create({**SPEC, **changes, "ensemble": {"runs": runs, "grouping": grouping}}, name=grouping, fresh=True)


def executor(made: Laboratory, name: str = "one", **doubles: Any) -> Executor:
    return Executor(made.store, made.artifacts, made.settings, name=name, **doubles)


def trainings(made: Laboratory, experiment: Experiment) -> list[Stage]:
    return [stage for stage in made.store.stages.of(experiment.id) if stage.kind == StageKind.TRAIN]


def beside(store_url: str, home: Path, grouping: str) -> tuple[Laboratory, Experiment, list[Stage], list[Stage]]:
    """Runs alone and the same grouped, the grouped one's experiment, and the trainings of both."""
    made = laboratory(store_url, home)
    alone, other = launched(made, "alone"), launched(made, grouping)
    executor(made).run_experiment(alone.id)
    executor(made).run_experiment(other.id)
    return made, made.store.experiments.get(other.id), trainings(made, alone), trainings(made, other)


def ends(stages: list[Stage]) -> list[Any]:
    """What trainings leave: digests of all weights they kept."""
    return [(stage.result["extra"]["checkpoints"], stage.result["extra"]["snapshots"]) for stage in stages]


@pytest.mark.slow
def test_runs_in_turn_leave_what_runs_alone_leave(store_url: str, tmp_path: Path) -> None:
    made, together, one, other = beside(store_url, tmp_path, "branches")
    assert together.status == "succeeded"
    assert ends(one) == ends(other)
    assert [stage.memo for stage in one] == [stage.memo for stage in other]
    assert all(stage.attempt == 1 and stage.step == stage.steps for stage in other)
    # together: the last was claimed before the first had ended, by the same worker; alone never
    assert max(stage.claimed_at for stage in other) < min(stage.finished_at for stage in other)
    assert not max(stage.claimed_at for stage in one) < min(stage.finished_at for stage in one)
    assert {stage.worker for stage in other} == {"one"}
    made.store.close()


@pytest.mark.slow
def test_a_stack_is_another_arithmetic_and_says_so(store_url: str, tmp_path: Path) -> None:
    made, stacked, one, other = beside(store_url, tmp_path, "stacked")
    assert stacked.status == "succeeded"
    assert not {stage.memo for stage in one} & {stage.memo for stage in other}
    for mine, theirs in zip(one, other, strict=True):
        a, b = (made.artifacts.tensors(s.result["extra"]["checkpoints"][-1]["weights"]) for s in (mine, theirs))
        for name in a:
            assert np.linalg.norm(a[name] - b[name]) < 1e-3 * max(np.linalg.norm(a[name]), 1e-6), name
    told = [stage.result["runs"] for stage in other]
    assert all("stacked" in str(one) for one in told)
    assert not any("stacked" in str(stage.result["runs"]) for stage in one)
    made.store.close()


class Watching:
    """The real runner; `at` is called at every check of a training that is not over, with its run and control."""

    def __init__(self, at: Any) -> None:
        self.at = at
        self.resumed: list[int] = []
        self.stage_key, self.renewed = runner.stage_key, runner.renewed

    def run_stage(self, lease: Lease, *rest: Any, device: str) -> Any:
        control = rest[-1]
        if lease.stage.kind == StageKind.TRAIN:
            run, check = lease.stage.params["run"], control.check
            if "resume" in lease.stage.partial:
                self.resumed.append(run)

            def watched() -> None:
                self.at(run, control)
                check()

            control.check = watched
        return runner.run_stage(lease, *rest, device=device)


@pytest.fixture
def undisturbed(sqlite_url: str, tmp_path: Path) -> list[Any]:
    made = laboratory(sqlite_url, tmp_path / "undisturbed")
    experiment = launched(made, "alone")
    executor(made).run_experiment(experiment.id)
    found = ends(trainings(made, experiment))
    made.store.close()
    return found


@pytest.mark.slow
def test_a_stopped_group_goes_on_in_groups_of_other_sizes(
    store_url: str, tmp_path: Path, undisturbed: list[Any]
) -> None:
    made = laboratory(store_url, tmp_path)
    experiment = launched(made, "branches")
    checks: list[int] = []

    def stop_all(run: int, control: StageControl) -> None:
        checks.append(run)
        if len(checks) == 60:
            first.stop()

    first = executor(made, runner=Watching(stop_all), group_of=runner.group_of)
    first.run_experiment(experiment.id)
    assert {stage.state for stage in trainings(made, experiment)} == {StageState.READY}
    assert all(0 < stage.step < 45 for stage in trainings(made, experiment))
    # one alone, then the other two together
    lease = made.store.leases.claim("two", experiment_id=experiment.id)
    assert lease is not None
    alone = Watching(lambda run, control: None)
    assert executor(made, "two", runner=alone).work(lease) == "succeeded"
    rest = Watching(lambda run, control: None)
    executor(made, "two", runner=rest, group_of=runner.group_of).run_experiment(experiment.id)
    assert (alone.resumed, sorted(rest.resumed)) == ([0], [1, 2])
    assert ends(trainings(made, experiment)) == undisturbed
    made.store.close()


@pytest.mark.slow
def test_a_lost_lease_and_a_fault_drop_their_member_alone(
    store_url: str, tmp_path: Path, undisturbed: list[Any]
) -> None:
    made = laboratory(store_url, tmp_path)
    experiment = launched(made, "branches")
    seen: dict[int, int] = {}

    def disturb(run: int, control: StageControl) -> None:
        seen[run] = seen.get(run, 0) + 1
        if (run, seen[run]) == (1, 20):
            control.stop(LeaseLost("another worker has it"))
        if (run, seen[run]) == (2, 25):
            raise RuntimeError("told to fail")

    first = executor(made, runner=Watching(disturb), group_of=runner.group_of)
    assert first._take(first._claim(("gpu",), experiment.id)) == 3  # type: ignore[arg-type]
    zero, one, two = trainings(made, experiment)
    assert (zero.state, one.state, two.state) == (StageState.SUCCEEDED, StageState.RUNNING, StageState.FAILED)
    assert two.error["message"] == "told to fail"
    assert zero.finished_at > two.finished_at
    made.store.leases.release_owner("one")
    made.store.experiments.retry(experiment.id)
    executor(made, "two").run_experiment(experiment.id)
    assert made.store.experiments.get(experiment.id).status == "succeeded"
    assert ends(trainings(made, experiment)) == undisturbed
    made.store.close()


def _work(settings: Settings, experiment_id: str) -> None:
    made = Laboratory(settings)
    executor(made, "killed").run_experiment(experiment_id)


@pytest.mark.slow
def test_a_group_whose_worker_is_killed_ends_in_the_same_bytes(
    store_url: str, tmp_path: Path, undisturbed: list[Any], wait_until: Any
) -> None:
    made = laboratory(store_url, tmp_path)
    experiment = launched(made, "branches")
    process = multiprocessing.get_context("spawn").Process(target=_work, args=(made.settings, experiment.id))
    process.start()
    wait_until(lambda: all(stage.partial for stage in trainings(made, experiment)), 60, "an epoch of each")
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert len(made.store.leases.release_owner("killed")) == 3
    executor(made, "two").run_experiment(experiment.id)
    assert ends(trainings(made, experiment)) == undisturbed
    made.store.close()


@pytest.mark.slow
def test_a_group_is_paused_and_resumed_as_one(store_url: str, tmp_path: Path, undisturbed: list[Any]) -> None:
    made = laboratory(store_url, tmp_path)
    experiment = launched(made, "branches")
    asked = threading.Event()

    def pause(run: int, control: StageControl) -> None:
        if not asked.is_set() and made.store.stages.get(control.lease.stage.id).step > 10:
            asked.set()
            made.store.experiments.pause(experiment.id)
        control.look()

    executor(made, runner=Watching(pause), group_of=runner.group_of).run_experiment(experiment.id)
    assert {stage.state for stage in trainings(made, experiment)} == {StageState.PAUSED}
    made.store.experiments.resume(experiment.id)
    executor(made).run_experiment(experiment.id)
    assert ends(trainings(made, experiment)) == undisturbed
    made.store.close()


@pytest.mark.slow
def test_an_interrupt_leaves_every_stage_of_a_group_ready(sqlite_url: str, tmp_path: Path) -> None:
    made = laboratory(sqlite_url, tmp_path)
    experiment = launched(made, "branches")

    def interrupt(run: int, control: StageControl) -> None:
        if run == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        executor(made, runner=Watching(interrupt), group_of=runner.group_of).run_experiment(experiment.id)
    assert {stage.state for stage in trainings(made, experiment)} == {StageState.READY}
    made.store.close()


@pytest.mark.slow
def test_workers_share_what_is_ready(sqlite_url: str, tmp_path: Path) -> None:
    made = laboratory(sqlite_url, tmp_path)
    first = executor(made)
    here = first.machine.title
    for name in ("one", "two", "far"):
        device = "another device" if name == "far" else here
        made.store.workers.register(name, device=device, numerics="n", queue="gpu,long", pid=1)
    made.store.workers.register("small", device=here, numerics="n", queue="cpu", pid=1)
    experiment = launched(made, "branches", runs=5)
    took = [first._take(first._claim(("gpu",), experiment.id)) for _ in range(5)]  # type: ignore[arg-type]
    assert took == [3, 1, 1, 1, 1], "three trainings, their predictions, and of two trainings one"
    made.store.workers.stopped("two")
    assert [stage.state for stage in trainings(made, experiment)].count(StageState.SUCCEEDED) == 4
    made.store.close()


# --- leases -----------------------------------------------------------------------------------------------------------


def test_one_beat_keeps_all_leases_and_names_the_lost(store_url: str, tmp_path: Path) -> None:
    made = laboratory(store_url, tmp_path)
    store = made.store
    experiment = launched(made, "alone")
    leases = [store.leases.claim("one", experiment_id=experiment.id, kind="train") for _ in range(3)]
    assert store.leases.claim("one", experiment_id=experiment.id, kind="train") is None
    assert [lease.stage.key for lease in leases if lease] == ["0", "1", "2"]
    held = [lease for lease in leases if lease is not None]
    store.leases.give_back(held[1])
    answers = store.leases.beat_all([(held[0], Progress(3, 9, {"epoch": 1.0})), (held[1], None), (held[2], None)])
    assert (answers[0], answers[2]) == (None, None)
    assert isinstance(answers[1], LeaseLost)
    rows = trainings(made, experiment)
    assert (rows[0].step, rows[0].steps) == (3, 9)
    assert rows[2].lease_expires > held[2].stage.lease_expires
    events = [e for e in store.events.after(0) if e.kind == EventKind.PROGRESS]
    assert [event.stage_id for event in events] == [held[0].stage.id]
    made.store.close()


@pytest.mark.slow
def test_beats_of_a_group_and_what_its_members_save_do_not_wait_for_each_other(store_url: str, tmp_path: Path) -> None:
    """On PostgreSQL rows that refer to an experiment lock its key: a beat that held it waited for who waited for it."""
    made = laboratory(store_url, tmp_path)
    experiment = launched(made, "alone")
    claimed = [made.store.leases.claim("one", experiment_id=experiment.id, kind="train") for _ in range(3)]
    held = [lease for lease in claimed if lease is not None]
    over, faults = threading.Event(), []

    def beat() -> None:
        step = 0
        while not over.is_set():
            step += 1
            try:
                made.store.leases.beat_all([(lease, Progress(step, 10**6, {})) for lease in held])
            except Exception as error:
                faults.append(error)

    thread = threading.Thread(target=beat)
    thread.start()
    for step in range(1, 120):
        for run, lease in enumerate(held):
            made.store.leases.save_partial(lease, {"step": step}, points={"loss": [(step, 1.0, 0.0)]}, run=run)
    over.set()
    thread.join()
    assert faults == []
    made.store.close()


# --- meeting ----------------------------------------------------------------------------------------------------------


def test_what_stages_raise_is_their_own_and_one_runs_at_a_time() -> None:
    at_once, most, done = 0, 0, []

    def stage(number: int) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        threading.Event().wait(0.01)
        at_once -= 1
        done.append(number)

    Together("branches").run([lambda i=i: stage(i) for i in range(4)])  # type: ignore[misc]
    assert most == 1
    assert sorted(done) == [0, 1, 2, 3]


# --- how many, and which way ------------------------------------------------------------------------------------------


def test_memory_is_what_weights_gradients_and_moments_take() -> None:
    spec = parse(SPEC)
    splits = loading.load(spec.data, ())
    network = build(spec.network, splits.shape, seed=0)
    needed = memory_of(network, splits, spec.training, "cpu")
    parameters = sum(p.numel() for p in network.parameters())
    assert needed.own == 5 * 4 * parameters  # weights, gradient, two moments, scratch
    wider = parse({**SPEC, "training": {**SPEC["training"], "batch_size": 40}})
    twice = memory_of(network, splits, wider.training, "cpu")
    assert needed.step < twice.step <= 2 * needed.step  # the weights are kept once
    assert twice.own == needed.own


def test_as_many_members_fit_as_memory_allows() -> None:
    needed = Memory(own=100, step=900)
    assert members_that_fit(1000, needed, "stacked") == 1
    assert members_that_fit(1999, needed, "stacked") == 1
    assert members_that_fit(1000, needed, "branches") == 1  # one makes its step at a time
    assert members_that_fit(2000, needed, "branches") == 11
    assert members_that_fit(500, needed, "branches") == members_that_fit(500, needed, "stacked") == 0


def test_a_stack_is_taken_where_it_is_worth_other_bits() -> None:
    assert grouping.faster({"branches": 100.0, "stacked": 129.0}) == "branches"
    assert grouping.faster({"branches": 100.0, "stacked": 130.0}) == "stacked"


def test_both_ways_are_measured_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "SECONDS", 0.01)
    spec = parse(SPEC)
    splits = loading.load(spec.data, ())
    network = build(spec.network, splits.shape, seed=0)
    before, state = weights.flatten(network), torch.random.get_rng_state()
    found = measure(network, splits, spec.training, "cpu", members=2)
    assert found.keys() == {"branches", "stacked"}
    assert min(found.values()) > 0
    np.testing.assert_array_equal(weights.flatten(network), before)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_first_measurement_stands_for_all_workers(store: Store) -> None:
    assert store.catalogue.put_first("grouping", "card", {"stacked": 1.0}).details == {"stacked": 1.0}
    assert store.catalogue.put_first("grouping", "card", {"stacked": 2.0}).details == {"stacked": 1.0}
    assert store.catalogue.published() == []


def test_what_cannot_be_grouped_is_told_before_it_is_launched() -> None:
    adamw = {**SPEC["training"], "optimiser": "adamw"}
    check(parse({**SPEC, "ensemble": {"grouping": "stacked"}}), BLOBS)
    check(parse({**SPEC, "ensemble": {"grouping": "branches"}, "training": adamw}), BLOBS)
    with pytest.raises(InvalidInput, match=r"AdamW moves the tensors of one network.*auto, alone, branches") as refused:
        check(parse({**SPEC, "ensemble": {"grouping": "stacked"}, "training": adamw}), BLOBS)
    assert refused.value.field == "ensemble.grouping"
    with pytest.raises(InvalidInput, match=r"alone.*branches.*stacked") as refused:
        parse({**SPEC, "ensemble": {"grouping": "all"}})
    assert refused.value.field == "ensemble.grouping"
