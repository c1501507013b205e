"""Real brokers, real worker processes, real kills: what is promised must hold whatever dies, and when."""

from __future__ import annotations

import base64
import bz2
import contextlib
import io
import itertools
import json
import os
import pickle
import platform
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from sqlalchemy import text
from toy_worker import MACHINE, SAVE_EVERY, ToyRunner, start_of, step_of

from modescape.artifacts import Artifacts
from modescape.celery_queue import HANGING, LONGEST, TASK, _wake_up, dispatch, make_app, worker_main
from modescape.cli import main
from modescape.database import damage
from modescape.errors import ConfigurationError
from modescape.executor import Executor, Watch
from modescape.imported.ensemble import Recipe
from modescape.imported.memory import from_arrays
from modescape.importing import Answers, bring_in
from modescape.laboratory import Laboratory, purge, started, verify
from modescape.prices import Work
from modescape.records import PlannedStage, StageOutput
from modescape.settings import Settings
from modescape.spec import parse
from modescape.store import Store
from modescape.store.leases import Lease, Leases
from modescape.tables import Experiment, Stage

TESTS = Path(__file__).parent
LEASE_SECONDS = 2.0
SPEC = parse({"ensemble": {"runs": 4}})


def chains(runs: int, steps: int, seconds: float = 0.01, **more: object) -> list[PlannedStage]:
    """`runs` chains of two stages, and one that needs them all."""

    def params(run: int) -> dict[str, object]:
        return {"run": run, "steps": steps, "seconds": seconds}

    trains = [PlannedStage("train", str(r), params={**params(r), **more}) for r in range(runs)]
    predicts = [PlannedStage("predict", str(r), (("train", str(r)),), params(10 + r)) for r in range(runs)]
    needs = tuple(("predict", str(r)) for r in range(runs))
    return [*trains, *predicts, PlannedStage("compare", "all", needs, params(20))]


def expected(runs: int, steps: int) -> dict[str, str]:
    """The last hash of every stage, worked out in one go."""

    def chain(kind: str, key: str, inputs: list[str]) -> str:
        value = start_of(kind, key, inputs)
        for step in range(steps):
            value = step_of(value, step)
        return value

    values = {}
    for r in range(runs):
        values[f"train/{r}"] = chain("train", str(r), [])
        values[f"predict/{r}"] = chain("predict", str(r), [values[f"train/{r}"]])
    values["compare/all"] = chain("compare", "all", [values[f"predict/{r}"] for r in range(runs)])
    return values


@dataclass
class House:
    """Settings, store and worker processes of one test."""

    settings: Settings
    store: Store
    logs: Path
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, *program: str, queues: str = "") -> None:
        environment = {
            **os.environ,
            "MODESCAPE_HOME": str(self.settings.home),
            "MODESCAPE_LEASE_SECONDS": str(LEASE_SECONDS),
            "MODESCAPE_QUEUES": queues,
        }
        if self.settings.database_url:
            environment["MODESCAPE_DATABASE_URL"] = self.settings.database_url.get_secret_value()
        if self.settings.broker_url:
            environment["MODESCAPE_BROKER_URL"] = self.settings.broker_url.get_secret_value()
        with (self.logs / f"{name}.log").open("ab") as log:
            self.workers[name] = subprocess.Popen(
                [sys.executable, *(program or (str(TESTS / "toy_worker.py"), name))], env=environment,
                stdout=log, stderr=log,
            )  # fmt: skip

    def kill(self, name: str) -> None:
        self.workers[name].kill()
        self.workers[name].wait()

    def revive(self, *names: str) -> None:
        """Start those that an earlier test has ended."""
        for name in names:
            if self.workers[name].poll() is not None:
                self.start(name)

    def launch(self, stages: list[PlannedStage], *, fresh: bool = True) -> Experiment:
        experiment = self.store.experiments.create(name="Chains", spec=SPEC, stages=stages, fresh=fresh)
        dispatch(self.settings, self.store, experiment.id)
        return experiment

    def has_ended(self, experiment: Experiment) -> bool:
        return self.store.experiments.get(experiment.id).status.has_ended

    def values(self, experiment: Experiment) -> dict[str, str]:
        return {f"{s.kind}/{s.key}": s.result.get("extra", {}).get("value", s.state)
                for s in self.store.stages.of(experiment.id)}  # fmt: skip

    def close(self) -> None:
        for process in self.workers.values():
            process.kill()
            process.wait()
        self.store.close()


def house(tmp_path: Path, database: str | None, broker: str | None) -> House:
    settings = Settings(home=tmp_path, database_url=database, broker_url=broker, lease_seconds=LEASE_SECONDS)
    return House(settings, Store(settings.database), tmp_path)


@pytest.fixture
def embedded(tmp_path: Path, sqlite_url: str) -> Iterator[House]:
    made = house(tmp_path, sqlite_url, None)
    yield made
    made.close()


@pytest.fixture(scope="module", params=["embedded", "servers"])
def either(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """SQLite and a folder as queue, or PostgreSQL and Redis; two workers, who go on from test to test."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "embedded":
        shutil.copy(request.getfixturevalue("_sqlite_template"), folder / "modescape.db")
        made = house(folder, None, None)
    else:
        broker = request.getfixturevalue("module_redis_server").url
        made = house(folder, request.getfixturevalue("module_postgres_url"), broker)
    for name in ("a", "b"):
        made.start(name)
    yield made
    made.close()


@contextlib.contextmanager
def frozen(redis_server) -> Iterator[None]:
    """It takes connections and answers nothing: its kernel is alive, the process is not."""
    process = redis_server._process
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


# --- with worker processes -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_wake_up_delivered_many_times_starts_a_stage_once(either: House, wait_until) -> None:
    experiment = either.launch(chains(3, steps=5))
    app = make_app(either.settings.broker, either.settings.home)
    for stage in either.store.stages.of(experiment.id):
        for _ in range(10):  # also for stages that are not ready, or done, by then
            app.send_task(TASK, args=[stage.id], queue="cpu")
    app.send_task(TASK, args=["no such stage"], queue="cpu")
    wait_until(lambda: either.has_ended(experiment), 40, "the end of the experiment")
    assert either.values(experiment) == expected(3, 5)
    assert {stage.attempt for stage in either.store.stages.of(experiment.id)} == {1}
    by_worker = {stage.worker for stage in either.store.stages.of(experiment.id)}
    assert by_worker <= {"a", "b"}


@pytest.mark.slow
def test_cancel_and_pause_reach_the_loop_and_resume_goes_on_from_there(either: House, wait_until) -> None:
    experiment = either.launch([PlannedStage("train", "0", params={"run": 0, "steps": 400, "seconds": 0.02})])
    stage_id = either.store.stages.of(experiment.id)[0].id
    wait_until(lambda: either.store.stages.get(stage_id).step >= 2 * SAVE_EVERY, 30, "progress")
    either.store.experiments.pause(experiment.id)
    asked = time.monotonic()
    wait_until(lambda: either.store.stages.get(stage_id).state == "paused", 10, "the pause")
    assert time.monotonic() - asked < 3, "the wish is read twice a second"
    saved = either.store.stages.get(stage_id).step
    either.store.experiments.resume(experiment.id)
    dispatch(either.settings, either.store, experiment.id)
    wait_until(lambda: either.store.stages.get(stage_id).step > saved + SAVE_EVERY, 20, "progress after the resume")
    assert either.store.stages.get(stage_id).history[-1]["from_step"] >= SAVE_EVERY
    either.store.experiments.cancel(experiment.id)
    wait_until(lambda: either.store.experiments.get(experiment.id).status == "cancelled", 10, "the cancel")
    assert either.store.stages.get(stage_id).state == "cancelled"
    again = either.launch(chains(1, steps=3))
    wait_until(lambda: either.has_ended(again), 20, "another experiment on the same worker")
    assert either.values(again) == expected(1, 3)


@pytest.mark.slow
@pytest.mark.parametrize("either", ["servers"], indirect=True)
def test_redis_that_forgets_everything_is_only_a_doorbell(either: House, module_redis_server, wait_until) -> None:
    experiment = either.launch(chains(3, steps=40, seconds=0.02))
    wait_until(lambda: either.store.experiments.get(experiment.id).status == "running", 30, "the start")
    module_redis_server.kill()
    started = time.monotonic()
    second = either.launch(chains(1, steps=5))
    assert time.monotonic() - started < 5, "a launch must not hang because the broker is away"
    assert either.store.stages.of(second.id)[0].rung_at is None
    module_redis_server.start()
    wait_until(lambda: either.has_ended(experiment), 60, "the end of the first experiment")
    wait_until(lambda: either.has_ended(second), 60, "the end of the second experiment")
    assert either.values(experiment) == expected(3, 40)
    assert either.values(second) == expected(1, 5)
    module_redis_server.kill()  # now both workers are idle
    third = either.launch(chains(2, steps=5))
    module_redis_server.start()
    wait_until(lambda: either.has_ended(third), 60, "work after Redis came back to idle workers")
    assert either.values(third) == expected(2, 5)


@pytest.mark.slow
@pytest.mark.parametrize("kills", [2, pytest.param(8, marks=pytest.mark.check)])
def test_workers_killed_again_and_again_leave_the_results_of_an_undisturbed_run(
    kills: int, either: House, wait_until
) -> None:
    rng = random.Random(3)
    experiment = either.launch(chains(3, steps=40, seconds=0.05))
    killed: set[str | None] = set()  # tokens of the leases that died

    def victims() -> list[Stage]:
        """Stages that are further than when they were last lost: three losses in place would count as poison."""
        running = [s for s in either.store.stages.of(experiment.id) if s.state == "running"]
        return [s for s in running if s.lease_token not in killed and s.step > max(SAVE_EVERY, s.lost_at_step or 0)]

    while len(killed) < kills:
        wait_until(lambda: victims() or either.has_ended(experiment), 120, "progress after a kill")
        victim = rng.choice(victims())
        assert victim.lease_owner is not None
        either.kill(victim.lease_owner)
        killed.add(victim.lease_token)
        either.start(victim.lease_owner)
    wait_until(lambda: either.has_ended(experiment), 120, "the end of the experiment")
    assert either.values(experiment) == expected(3, 40)
    stages = either.store.stages.of(experiment.id)
    lost = [entry for stage in stages for entry in stage.history if entry["how"] == "lost"]
    assert len(lost) >= len(killed) - 1, "one may have finished between being chosen and being killed"
    assert any(entry["from_step"] >= SAVE_EVERY for stage in stages for entry in stage.history[1:]), "some resumed"
    for run in range(3):
        curve = either.store.curves.points(experiment.id, run, "chain")
        assert curve.steps.tolist() == list(range(40)), "no point is doubled or missing"
    files = Artifacts(either.settings.artifact_place)
    assert all(files.verify(digest) for digest in either.store.outputs.digests())
    scratch = either.settings.artifact_place / "scratch"
    assert not [left for stage in stages for left in scratch.glob(f"{stage.id}*")]


@pytest.mark.slow
@pytest.mark.parametrize("either", ["servers"], indirect=True)
def test_a_redis_that_hangs_stops_neither_launches_nor_workers(either: House, module_redis_server, wait_until) -> None:
    log = either.logs / "a.log"
    before = len(log.read_text())
    first = either.launch(chains(3, steps=40, seconds=0.02))
    wait_until(lambda: either.store.experiments.get(first.id).status == "running", 30, "the start")
    with frozen(module_redis_server):
        during = [either.launch(chains(1, steps=5)) for _ in range(3)]
        for experiment in (first, *during):
            wait_until(lambda: either.has_ended(experiment), 90, "an end without the bell")  # noqa: B023
        idle = either.launch(chains(1, steps=5))  # both workers wait for a ring that cannot come
        wait_until(lambda: either.has_ended(idle), 90, "a look without the bell")
        either.start("c")
        wait_until(lambda: any(worker.name == "c" for worker in either.store.workers.all()), 30, "a worker that starts")
    assert either.values(first) == expected(3, 40)
    after = either.launch(chains(2, steps=5))
    wait_until(lambda: either.has_ended(after), 90, "work after Redis came back")
    said = log.read_text()[before:]
    assert said.count("the broker does not answer") <= 2, said
    for worker in either.workers.values():
        worker.send_signal(signal.SIGTERM)
    assert [worker.wait(40) for worker in either.workers.values()] == [0, 0, 0]


def real_message(folder: Path, stage_id: str) -> dict[str, Any]:
    """What Celery itself puts into a queue."""
    make_app("filesystem://", folder).send_task(TASK, args=[stage_id], queue="cpu")
    [file] = (folder / "queue").iterdir()
    found: dict[str, Any] = json.loads(file.read_bytes())
    file.unlink()
    return found


def foreign_messages(folder: Path) -> dict[str, bytes]:
    """All that may lie in a queue and is no wake-up: malformed, cut off, packed, of others, of other times."""
    real = real_message(folder, "a stage")
    whole = json.dumps(real).encode()

    def packed(kind: str, body: bytes, **headers: object) -> bytes:
        told = {**real, "content-type": kind, "body": base64.b64encode(body).decode()}
        return json.dumps({**told, "headers": {**real["headers"], **headers}}).encode()

    def called(body: object) -> bytes:
        return packed("application/json", json.dumps(body).encode())

    arguments = base64.b64decode(real["body"])
    first_protocol = {"task": TASK, "id": "1", "args": ["a stage"], "kwargs": {}}
    return {
        "empty": b"", "half of one": whole[: len(whole) // 2], "one letter less": whole[:-1],
        "not text": b"\xff\xfe\x00", "null": b"null", "a list": b"[]", "a number": b"1", "an empty object": b"{}",
        "deep": b"[" * 30_000, "a type of kombu's": b'{"__type__": "decimal", "__value__": "x"}',
        "no headers": json.dumps({**real, "headers": None}).encode(),
        "no properties": json.dumps({**real, "properties": None}).encode(),
        "no body": json.dumps({**real, "body": None}).encode(),
        "a body that is not base64": json.dumps({**real, "body": "*"}).encode(),
        "zlib": packed("application/json", zlib.compress(arguments), compression="application/x-gzip"),
        "bzip2": packed("application/json", bz2.compress(arguments), compression="application/x-bz2"),
        "broken zlib": packed("application/json", b"x", compression="application/x-gzip"),
        "an unknown compression": packed("application/json", arguments, compression="application/x-none"),
        "a bomb": packed("application/json", zlib.compress(b"0" * 20_000_000), compression="zlib"),
        "pickle": packed("application/x-python-serialize", pickle.dumps((["a stage"], {}, {}))),
        "yaml": packed("application/x-yaml", b"[[a stage], {}, {}]"),
        "another task": packed("application/json", arguments, task="celery.backend_cleanup"),
        "no task": packed("application/json", arguments, task=None),
        "the first protocol": json.dumps({**real, "headers": {}, "body": base64.b64encode(
            json.dumps(first_protocol).encode()).decode()}).encode(),
        "no arguments": called([[], {}, {}]), "too many arguments": called([["a", "b"], {}, {}]),
        "a number as stage": called([[1], {}, {}]), "arguments by name": called([{"stage_id": "a"}, {}, {}, {}]),
        "a NUL": called([["a\0b"], {}, {}]), "not ASCII": called([["\ud800"], {}, {}]),
        "long": json.dumps({**real, "more": "0" * LONGEST}).encode(),
    }  # fmt: skip


def put(made: House, raw: list[bytes]) -> None:
    """Put something into the queue as it is, before what is there."""
    if made.settings.broker.startswith("redis"):
        with redis.Redis.from_url(made.settings.broker) as client:
            client.rpush("cpu", *raw)
            client.sadd("_kombu.binding.cpu", "no binding")
        return
    queue = made.settings.home / "queue"
    for folder in (queue / "0_folder.cpu.msg", made.settings.home / "control"):
        folder.mkdir(parents=True, exist_ok=True)
    for number, one in enumerate(raw):
        (queue / "new").write_bytes(one)
        (queue / "new").rename(queue / f"0_{number}.cpu.msg")
    (made.settings.home / "control" / "cpu.exchange").touch()


@pytest.mark.slow
def test_no_message_stops_a_worker(either: House, tmp_path: Path, wait_until) -> None:
    foreign = foreign_messages(tmp_path)
    either.revive("a", "b")
    before = {name: len((either.logs / f"{name}.log").read_text()) for name in ("a", "b")}
    put(either, list(foreign.values()))

    def said() -> str:
        return "".join((either.logs / f"{name}.log").read_text()[begin:] for name, begin in before.items())

    wait_until(lambda: said().count("dropped a message") == len(foreign), 60, "a line for each")
    experiment = either.launch(chains(2, steps=5))
    wait_until(lambda: either.has_ended(experiment), 60, "work after them")
    assert either.values(experiment) == expected(2, 5)
    assert [either.workers[name].poll() for name in before] == [None, None]
    assert "Traceback" not in said()
    assert said().count("dropped a message") == len(foreign), "each once"


UNREAD = {"garbage": b"garbage", "null": b"null", "list": b"[]", "UTF-16": b"\xff\xfe", "number": b"1",
          "no message": b'[1, 2, 3]', "no text": b'[{"body": 1}, "cpu", "cpu"]'}  # fmt: skip


@pytest.mark.slow
def test_no_key_that_kombu_may_have_left_in_redis_stops_a_worker(
    tmp_path: Path, sqlite_url: str, redis_server, wait_until
) -> None:
    """It keeps there what was taken and not done, and reads it again at every start."""
    made = house(tmp_path, sqlite_url, redis_server.url)
    kept = ("unacked", "unacked_index", "unacked_mutex")
    with redis.Redis.from_url(redis_server.url) as client:
        try:
            for number, name in enumerate(("content", "no hash", "kind")):
                client.delete(*kept)
                if name == "content":
                    client.hset("unacked", mapping=UNREAD)
                    client.zadd("unacked_index", dict.fromkeys(UNREAD, 1))
                elif name == "no hash":
                    client.zadd("unacked_index", dict.fromkeys(UNREAD, 1))
                    client.set("unacked", "x")
                else:
                    client.set("unacked_index", "x")
                    client.rpush("unacked_mutex", "x")
                made.start(name)
                experiment = made.launch(chains(1, steps=5 + number))
                wait_until(lambda: made.has_ended(experiment), 60, f"work beside {name}")  # noqa: B023
                said = (made.logs / f"{name}.log").read_text()
                assert made.workers[name].poll() is None, said
                assert "Traceback" not in said
                assert "econnect" not in said
                made.kill(name)
        finally:
            client.delete(*kept)
            made.close()


@pytest.mark.slow
def test_a_worker_that_only_cannot_hear_looks_by_itself(
    tmp_path: Path, sqlite_url: str, redis_server, wait_until
) -> None:
    """Whoever launches rings, and all is well there: it is not taken for a broker that is away."""
    made = house(tmp_path, sqlite_url, redis_server.url)
    with redis.Redis.from_url(redis_server.url) as client:
        try:
            made.start("a")
            first = made.launch(chains(1, steps=5))
            wait_until(lambda: made.has_ended(first), 60, "work with the bell")
            client.execute_command("ACL", "SETUSER", "default", "-brpop")
            client.client_kill_filter(_type="normal", skipme=True)
            second = made.launch(chains(2, steps=5))
            wait_until(lambda: made.has_ended(second), 90, "work that nobody hears of")

            def said() -> str:
                return made.store.workers.heard_of("a", lease_seconds=LEASE_SECONDS)[1]

            wait_until(lambda: "does not hear its queue" in said(), 30, "its word of it")
            client.execute_command("ACL", "SETUSER", "default", "+brpop")
            third = made.launch(chains(1, steps=6))
            wait_until(lambda: made.has_ended(third), 60, "work with the bell again")
            wait_until(lambda: said() == "a waits for work", 30, "its word of that")
            assert made.workers["a"].poll() is None
        finally:
            client.execute_command("ACL", "SETUSER", "default", "+brpop")
            made.close()


@pytest.mark.slow
def test_a_redis_that_refuses_stops_no_worker(tmp_path: Path, sqlite_url: str, redis_server, wait_until) -> None:
    """A replica after a fail-over, and a key that somebody has written as no list."""
    made = house(tmp_path, sqlite_url, redis_server.url)
    said = tmp_path / "a.log"
    try:
        made.start("a")
        first = made.launch(chains(1, steps=5))
        wait_until(lambda: made.has_ended(first), 60, "work with a Redis that takes wake-ups")
        with redis.Redis.from_url(redis_server.url) as client:
            client.delete("cpu")
            client.set("cpu", "no list")
            client.replicaof("127.0.0.1", "1")
            second = made.launch(chains(1, steps=5))
            wait_until(lambda: made.has_ended(second), 90, "work without the bell")
            client.replicaof("NO", "ONE")
            third = made.launch(chains(1, steps=5))
            wait_until(lambda: made.has_ended(third), 90, "work beside a key that is no list")
            client.delete("cpu")
        fourth = made.launch(chains(1, steps=5))
        wait_until(lambda: made.has_ended(fourth), 90, "work with the bell again")
        assert made.workers["a"].poll() is None, said.read_text()
        assert "Unrecoverable" not in said.read_text()
    finally:
        made.close()


def test_a_wake_up_is_made_anew_of_its_stage_alone(tmp_path: Path) -> None:
    real = real_message(tmp_path, "a stage")
    held = {"eta": "9999-01-01T00:00:00", "expires": "never", "timelimit": ["x", -1], "retries": "many"}
    linked = base64.b64encode(json.dumps([["a stage"], {"more": 1}, {"callbacks": [{"task": TASK}]}]).encode()).decode()
    for told in (real, {**real, "headers": {**real["headers"], **held}}, {**real, "body": linked}):
        made = _wake_up(json.dumps(told).encode(), "cpu")
        assert made is not None
        assert json.loads(base64.b64decode(made["body"])) == [["a stage"], {}, {}]
        assert not held.items() & made["headers"].items()
        assert "eta" not in made["headers"]
    whole = json.dumps(real).encode()
    assert [cut for cut in range(len(whole)) if _wake_up(whole[:cut], "cpu") is not None] == []
    assert [name for name, raw in foreign_messages(tmp_path).items() if _wake_up(raw, "cpu") is not None] == []


@pytest.mark.slow
@pytest.mark.parametrize("either", ["servers"], indirect=True)
def test_a_family_that_sleeps_longer_than_its_leases_goes_on_where_it_was(either: House, wait_until) -> None:
    """A laptop's lid, three times, at one step; the one who has nothing to do wakes first, and judges nobody. All that
    `modescape up` runs is stopped in test_journey.py."""
    either.revive("a", "b")
    either.start("idle")
    family = {"a", "b", "idle"}
    wait_until(lambda: family <= {one.name for one in either.store.workers.living()}, 60, "a third worker")
    experiment = either.launch([
        PlannedStage("train", str(run), params={"run": run, "steps": 2, "seconds": 4 * LEASE_SECONDS}) for run in (0, 1)
    ])  # fmt: skip

    def running() -> set[str | None]:
        return {stage.lease_owner for stage in either.store.stages.of(experiment.id) if stage.state == "running"}

    wait_until(lambda: len(running()) == 2, 30, "both begun")
    busy = running()
    first = sorted(family, key=lambda name: name in busy)
    for _ in range(3):
        time.sleep(0.75 * LEASE_SECONDS)  # rounds, as when nobody sleeps
        for name in family:
            either.workers[name].send_signal(signal.SIGSTOP)
        time.sleep(1.5 * LEASE_SECONDS)
        for name in first:
            either.workers[name].send_signal(signal.SIGCONT)
            time.sleep(0.3)
    wait_until(lambda: either.has_ended(experiment), 60, "the end of the experiment")
    for stage in either.store.stages.of(experiment.id):
        assert (stage.state, stage.losses, stage.attempt) == ("succeeded", 0, 1), stage.history
    either.workers["idle"].send_signal(signal.SIGTERM)
    assert either.workers.pop("idle").wait(20) == 0


@pytest.mark.slow
def test_who_is_only_asleep_is_charged_with_nothing(embedded: House, wait_until) -> None:
    """On another machine, where others are awake and take what its worker had."""
    embedded.start("a")
    experiment = embedded.launch([PlannedStage("train", "0", params={"run": 0, "steps": 2, "seconds": 2.0})])
    stage_id = embedded.store.stages.of(experiment.id)[0].id
    for round_ in range(3):
        wait_until(lambda: embedded.store.stages.get(stage_id).state == "running", 30, "a begin")
        embedded.workers["a"].send_signal(signal.SIGSTOP)
        assert embedded.store.leases.reap(datetime.now(UTC) + timedelta(hours=1)) == [stage_id]
        assert embedded.store.stages.get(stage_id).losses == 1
        embedded.workers["a"].send_signal(signal.SIGCONT)
        wait_until(lambda: embedded.store.stages.get(stage_id).losses == 0, 30, "that it is taken back")
        history = embedded.store.stages.get(stage_id).history
        assert [entry["how"] for entry in history if "how" in entry][: round_ + 1] == ["outlived"] * (round_ + 1)
    wait_until(lambda: embedded.has_ended(experiment), 30, "the end of the experiment")
    assert embedded.store.stages.get(stage_id).state == "succeeded"


def test_who_has_slept_or_sees_the_clock_jump_waits_a_lease_before_it_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, at = [100.0], datetime(2026, 1, 1, tzinfo=UTC)
    monkeypatch.setattr("modescape.executor.time.monotonic", lambda: clock[0])
    watch = Watch(30.0)

    def later(seconds: float, told: float | None = None) -> bool:
        nonlocal at
        clock[0] += seconds
        at += timedelta(seconds=seconds if told is None else told)
        return watch.is_fit(at)

    assert [later(10) for _ in range(5)] == [True] * 5
    for seconds, told in ((100, 100), (10, 100), (10, -3600), (100, 10)):  # stopped; in a sleep; a clock put right
        assert not later(seconds, told)
        assert [later(10) for _ in range(4)] == [False, False, True, True]
    watch.begin()
    assert [later(10) for _ in range(4)] == [False, False, True, True]


@pytest.mark.slow
def test_a_command_says_whether_a_worker_answers(embedded: House, wait_until) -> None:
    environment = {**os.environ, "MODESCAPE_HOME": str(embedded.settings.home),
                   "MODESCAPE_LEASE_SECONDS": str(LEASE_SECONDS)}  # fmt: skip
    name = f"{platform.node()}-1"

    def check(*which: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "modescape.cli", "worker", "--check", *which]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        return done.returncode, (done.stdout or done.stderr).removeprefix("modescape: ").strip()

    assert check() == (1, f"no worker runs on {platform.node()}")
    assert check("none") == (1, "there is no worker none")
    embedded.start(name)
    wait_until(lambda: embedded.store.workers.all(), 30, "a worker")
    assert check() == check(name) == (0, f"{name} waits for work")
    embedded.workers[name].send_signal(signal.SIGSTOP)
    time.sleep(2 * LEASE_SECONDS + 1)
    status, words = check(name)
    assert (status, words.startswith(f"{name} has not been heard of for ")) == (1, True), words
    embedded.workers[name].send_signal(signal.SIGCONT)
    wait_until(lambda: check()[0] == 0, 20, "its next round")
    embedded.workers[name].send_signal(signal.SIGTERM)
    assert embedded.workers[name].wait(20) == 0
    assert check(name) == (1, f"{name} has stopped")


@pytest.mark.slow
def test_sigterm_gives_the_stage_back_at_once(embedded: House, wait_until) -> None:
    embedded.start("a")
    experiment = embedded.launch([PlannedStage("train", "0", params={"run": 0, "steps": 60, "seconds": 0.02})])
    stage_id = embedded.store.stages.of(experiment.id)[0].id
    wait_until(lambda: embedded.store.stages.get(stage_id).step >= SAVE_EVERY, 30, "progress")
    process = embedded.workers["a"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0
    stage = embedded.store.stages.get(stage_id)
    assert (stage.state, stage.history[-1]["how"], stage.losses) == ("ready", "given back", 0)
    [worker] = embedded.store.workers.all()
    assert worker.stopped_at is not None
    embedded.start("b")  # nobody rings: the new worker looks by itself
    wait_until(lambda: embedded.has_ended(experiment), 30, "the end of the experiment")
    assert embedded.store.stages.get(stage_id).history[-1]["from_step"] >= SAVE_EVERY


@pytest.mark.slow
def test_a_stage_that_kills_its_worker_fails_after_three_times(embedded: House, wait_until) -> None:
    experiment = embedded.launch(chains(1, steps=10, die_at=7))
    for _ in range(3):
        embedded.start("a")
        assert embedded.workers["a"].wait(40) == 9
    embedded.start("a")
    wait_until(lambda: embedded.has_ended(experiment), 30, "the verdict")
    stage = embedded.store.stages.of(experiment.id)[0]
    assert (stage.state, stage.error["type"]) == ("failed", "WorkerLost")
    assert len(stage.error["history"]) == 3
    assert embedded.workers["a"].poll() is None, "the worker goes on with other work"


@pytest.mark.slow
def test_what_is_lost_between_its_end_and_its_storing_goes_on_from_its_last_steps(embedded: House, wait_until) -> None:
    experiment = embedded.launch([PlannedStage("train", "0", params={
        "run": 0, "steps": 40, "seconds": 0.01, "die_after_until": 2,
    })])  # fmt: skip
    embedded.start("a")
    assert embedded.workers["a"].wait(40) == 9
    embedded.start("a")
    wait_until(lambda: embedded.has_ended(experiment), 30, "the end of the experiment")
    stage = embedded.store.stages.of(experiment.id)[0]
    assert (stage.state, stage.attempt, stage.history[-1]["from_step"]) == ("succeeded", 2, 40)
    assert embedded.values(experiment)["train/0"] == expected(1, 40)["train/0"]
    wait_until(lambda: not [*(embedded.settings.home / "artifacts" / "scratch").iterdir()], 5, "that nothing is left")


@pytest.mark.slow
@pytest.mark.parametrize("either", ["embedded", "servers"], indirect=True)
def test_workers_take_stages_of_the_queues_they_are_kept_to(either: House, wait_until) -> None:
    for name in [*either.workers]:
        either.kill(name)
        del either.workers[name]
    either.start("small", queues="cpu")
    either.start("large", queues="long, gpu")
    wait_until(lambda: {one.name for one in either.store.workers.living()} >= {"small", "large"}, 60, "both workers")
    told = {one.name: one.queue for one in either.store.workers.living()}
    assert (told["small"], told["large"]) == ("cpu", "long,gpu")

    def planned(kind: str, run: int, **more: Any) -> PlannedStage:
        return PlannedStage(kind, str(run), params={"run": run, "steps": 4, "seconds": 0.01}, **more)

    lab = Laboratory(either.settings)
    ready = PlannedStage("train", "0", params={"run": 0, "steps": 1, "seconds": 0.0}, estimate=1e6)
    either.kill("large")
    for name in ("a", "b", "large"):  # which are taken to live for a while
        either.store.workers.stopped(name)
    left = either.launch([ready])
    assert lab.waits(either.store.stages.of(left.id)) == "no worker takes stages of the queue long now"
    lab.store.close()
    either.start("large", queues="long, gpu")
    wait_until(lambda: either.has_ended(left), 40, "the end of what was left")
    experiment = either.launch([
        planned("train", 0, work=Work(trained=1e4)), planned("predict", 1, work=Work(predicted=1e4)),
        planned("compare", 2, work=Work(other=60.0)), planned("compare", 3, work=Work(other=6e4), estimate=6e4),
        planned("compare", 4, needs=(("train", "0"),)),
    ])  # fmt: skip
    wait_until(lambda: either.has_ended(experiment), 40, "the end of the experiment")
    done = {(stage.key, str(stage.queue), stage.worker) for stage in either.store.stages.of(experiment.id)}
    assert done == {("0", "gpu", "large"), ("1", "gpu", "large"), ("2", "cpu", "small"), ("3", "long", "large"),
                    ("4", "cpu", "small")}  # fmt: skip
    for name in [*either.workers]:
        either.kill(name)
        del either.workers[name]
    for name in ("a", "b"):
        either.start(name)


@pytest.mark.slow
def test_a_worker_refuses_a_database_that_is_not_migrated(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with pytest.raises(ConfigurationError, match="modescape migrate"):
        worker_main(settings, "a", runner=ToyRunner(), machine=MACHINE)


# --- without a queue -------------------------------------------------------------------------------------------------


def executor(made: House, runner: ToyRunner | None = None) -> Executor:
    files = Artifacts(made.settings.artifact_place)
    return Executor(made.store, files, made.settings, name="inline", runner=runner or ToyRunner(), machine=MACHINE)


@pytest.mark.slow
def test_progress_of_many_leaves_a_slow_database_time_for_other_things(
    embedded: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, beat_all = [], Leases.beat_all

    def slowly(self: Leases, progress: Any) -> Any:
        told.append(time.monotonic())
        time.sleep(0.02)  # stands for a thousand workers that wait for each other
        return beat_all(self, progress)

    monkeypatch.setattr(Leases, "beat_all", slowly)
    monkeypatch.setattr("modescape.executor.TICK_SECONDS", 0.01)
    monkeypatch.setattr("modescape.executor.TELL_SECONDS", 0.05)
    experiment = embedded.launch(chains(1, steps=150, seconds=0.01)[:1])
    executor(embedded).drain()
    assert embedded.store.stages.of(experiment.id)[0].state == "succeeded"
    assert len(told) >= 3
    assert min(b - a for a, b in itertools.pairwise(told)) >= 20 * 0.02


def test_an_experiment_runs_without_any_worker(embedded: House, capsys: pytest.CaptureFixture[str]) -> None:
    train, *others = chains(2, steps=6, seconds=0)
    experiment = embedded.launch([replace(train, estimate=1e6, work=Work(trained=1.0)), *others])
    assert {stage.queue for stage in embedded.store.stages.of(experiment.id)} == {"long", "cpu"}
    executor(embedded).run_experiment(experiment.id, progress=True)
    assert embedded.store.experiments.get(experiment.id).status == "succeeded"
    assert embedded.values(experiment) == expected(2, 6)
    [first, *_, last] = capsys.readouterr().err.splitlines()
    assert (first, last) == ("stage 1/5: train 0", "stage 5/5: compare all")


@pytest.mark.slow
def test_a_terminal_sees_a_bar(embedded: House, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    experiment = embedded.launch(chains(2, steps=6, seconds=0))
    executor(embedded).run_experiment(experiment.id, progress=True)
    assert "\r" in terminal.getvalue()
    assert "5/5" in terminal.getvalue()
    assert "stage 1/5" not in terminal.getvalue()


def test_a_notebook_computes_with_one_thread_and_has_its_own_back_afterwards(embedded: House) -> None:
    from threadpoolctl import threadpool_info, threadpool_limits

    seen: list[int] = []

    def threads() -> list[int]:
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    class Counting(ToyRunner):
        def run_stage(self, *args: Any, **kwargs: Any) -> StageOutput:
            seen.extend(threads())
            return super().run_stage(*args, **kwargs)

    with threadpool_limits(limits=2):
        before = threads()
        experiment = embedded.launch(chains(1, steps=2, seconds=0))
        executor(embedded, Counting()).run_experiment(experiment.id)
        assert threads() == before
    assert set(seen) == {1}
    assert 2 in before


@pytest.mark.slow
def test_an_equal_experiment_costs_nothing_unless_it_must_be_fresh(embedded: House) -> None:
    stages = chains(2, steps=6, seconds=0)
    first = embedded.launch(stages, fresh=False)
    assert executor(embedded).drain() == 5
    second, third = embedded.launch(stages, fresh=False), embedded.launch(stages, fresh=True)
    executor(embedded).drain()
    assert embedded.values(first) == embedded.values(second) == embedded.values(third) == expected(2, 6)
    assert all(stage.reused_from for stage in embedded.store.stages.of(second.id))
    assert not any(stage.reused_from for stage in embedded.store.stages.of(third.id))


@pytest.mark.slow
def test_what_was_purged_is_computed_again(embedded: House) -> None:
    stages = chains(1, steps=6, seconds=0)
    embedded.launch(stages, fresh=False)
    executor(embedded).drain()
    files = Artifacts(embedded.settings.artifact_place)
    for digest in embedded.store.outputs.digests():
        files.delete(digest)
    second = embedded.launch(stages, fresh=False)
    executor(embedded).drain()
    assert not any(stage.reused_from for stage in embedded.store.stages.of(second.id))
    assert all(files.exists(digest) for digest in embedded.store.outputs.digests())


def test_a_failure_is_recorded_with_its_reason_and_a_retry_goes_on(embedded: House) -> None:
    experiment = embedded.launch(chains(1, steps=20, seconds=0, fail_until=2))
    executor(embedded).drain()
    stage = embedded.store.stages.of(experiment.id)[0]
    assert (stage.state, stage.error["type"], stage.error["message"]) == (
        "failed", "StageError", "attempt 1 was told to fail")  # fmt: skip
    assert "run_stage" in stage.error["traceback"]
    assert stage.error["params"] == stage.params
    assert embedded.store.experiments.get(experiment.id).error == "train/0: attempt 1 was told to fail"
    embedded.store.experiments.retry(experiment.id)
    executor(embedded).drain()
    assert embedded.values(experiment) == expected(1, 20)
    assert embedded.store.stages.of(experiment.id)[0].history[1]["from_step"] == 10


@pytest.mark.parametrize("changed", [False, True])
def test_a_retry_goes_on_from_what_was_saved_under_the_same_key_only(embedded: House, changed: bool) -> None:
    class Upgraded(ToyRunner):
        def stage_key(self, lease: Lease, numerics: str) -> str:
            return super().stage_key(lease, f"{numerics} {changed}")

        def run_stage(self, lease: Lease, *args: object, **kwargs: object) -> StageOutput:
            taken_up.append("resume" in lease.stage.partial)
            return super().run_stage(lease, *args, **kwargs)  # type: ignore[arg-type]

    class Before(ToyRunner):
        def stage_key(self, lease: Lease, numerics: str) -> str:
            return super().stage_key(lease, f"{numerics} False")

    taken_up: list[bool] = []
    experiment = embedded.launch(chains(1, steps=20, seconds=0, fail_until=2)[:1])
    executor(embedded, Before()).drain()
    embedded.store.experiments.retry(experiment.id)
    executor(embedded, Upgraded()).drain()
    assert taken_up == [not changed]
    assert embedded.store.experiments.get(experiment.id).status == "succeeded"


def test_stop_gives_the_stage_back_and_takes_no_other(embedded: House, wait_until) -> None:
    experiment = embedded.launch(chains(2, steps=1000, seconds=0.005))
    working = executor(embedded)
    thread = threading.Thread(target=working.drain)
    thread.start()
    wait_until(lambda: embedded.store.stages.of(experiment.id)[0].step > 0, 10, "progress")
    working.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert [s.state for s in embedded.store.stages.of(experiment.id)][:2] == ["ready", "ready"]
    assert working.drain() == 0


def test_ctrl_c_leaves_the_stage_ready(embedded: House) -> None:
    class Interrupted(ToyRunner):
        def run_stage(self, *args: object, **kwargs: object) -> StageOutput:
            raise KeyboardInterrupt

    experiment = embedded.launch(chains(1, steps=5))
    with pytest.raises(KeyboardInterrupt):
        executor(embedded, Interrupted()).drain()
    assert embedded.store.stages.of(experiment.id)[0].state == "ready"


def test_a_worker_that_lost_its_stage_stops_quietly(embedded: House, wait_until) -> None:
    experiment = embedded.launch(chains(1, steps=1000, seconds=0.005)[:1])
    working = executor(embedded)
    lease = embedded.store.leases.claim("inline", lease_seconds=LEASE_SECONDS)
    assert lease is not None
    outcomes: list[str] = []
    thread = threading.Thread(target=lambda: outcomes.append(working.work(lease)))
    thread.start()
    wait_until(lambda: embedded.store.stages.get(lease.stage.id).step > 0, 10, "progress")
    embedded.store.leases.release_owner("inline")
    other = embedded.store.leases.claim("other")
    assert other is not None
    thread.join(10)
    assert outcomes == ["lost"]
    stage = embedded.store.stages.of(experiment.id)[0]
    assert (stage.state, stage.lease_owner, stage.lease_token) == ("running", "other", other.token)


@pytest.mark.slow
def test_an_unreachable_broker_costs_a_warning(
    tmp_path: Path, sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = house(tmp_path, sqlite_url, "redis://127.0.0.1:1/0")
    started = time.monotonic()
    experiment = made.launch(chains(8, steps=1))
    assert time.monotonic() - started < 5
    assert "broker does not answer" in caplog.text
    assert [stage.rung_at for stage in made.store.stages.of(experiment.id)] == [None] * 17
    made.close()


@pytest.mark.parametrize("either", ["embedded", "servers"], indirect=True)
def test_who_sends_and_who_takes_have_our_channel_and_write_nothing_elsewhere(
    either: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who send take connections from a pool."""
    monkeypatch.chdir(tmp_path)
    app = make_app(either.settings.broker, either.settings.home)
    with app.connection_for_read() as takes, app.producer_or_acquire() as sends:
        for connection in (takes, sends.connection):
            assert type(connection.default_channel).__module__ == "modescape.celery_queue", connection
        app.send_task(TASK, args=["no such stage"], queue="gpu")
    assert list(tmp_path.iterdir()) == []


def test_the_queue_needs_a_folder_that_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="MODESCAPE_HOME"):
        make_app("filesystem://", tmp_path / "file")


# --- a rest ----------------------------------------------------------------------------------------------------------


def megabytes(pid: int) -> float:
    """Proportional set size."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


@pytest.mark.slow
@pytest.mark.parametrize("kind", [pytest.param("embedded", marks=pytest.mark.check), "servers"])
def test_a_worker_without_work_gives_its_memory_back_and_goes_on(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, wait_until
) -> None:
    servers = (request.getfixturevalue("postgres_url"), request.getfixturevalue("redis_server").url)
    made = house(tmp_path, *(servers if kind == "servers" else (request.getfixturevalue("sqlite_url"), None)))
    settings, store = made.settings, made.store
    environment = {
        **os.environ, "MODESCAPE_HOME": str(tmp_path), "MODESCAPE_LEASE_SECONDS": str(LEASE_SECONDS),
        "MODESCAPE_REST_SECONDS": "2", "MODESCAPE_DEVICE": "cpu", "MODESCAPE_DATABASE_URL": servers[0],
        "MODESCAPE_BROKER_URL": servers[1],
    }  # fmt: skip
    if kind == "embedded":
        environment |= {"MODESCAPE_DATABASE_URL": request.getfixturevalue("sqlite_url"), "MODESCAPE_BROKER_URL": ""}
    spec = {
        "data": {"dataset": "blobs"}, "network": {"architecture": "mlp"}, "ensemble": {"runs": 1},
        "training": {"epochs": 1, "batch_size": 20, "snapshots": 0}, "evaluation": {"embed_images": 20},
    }  # fmt: skip
    laboratory = Laboratory(settings)
    with (tmp_path / "worker.log").open("wb") as log:
        command = [sys.executable, "-P", "-m", "modescape.cli", "worker", "--name", "w"]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        found = []
        for again in range(2):
            experiment = laboratory.create(spec, name="small", fresh=True)
            dispatch(settings, store, experiment.id)
            wait_until(lambda e=experiment: made.has_ended(e), 60, "its end")
            assert store.experiments.get(experiment.id).status == "succeeded"
            found.append([stage.result["artifacts"] for stage in store.stages.of(experiment.id)])
            wait_until(lambda n=again: rests(tmp_path) == n + 1, 30, "a rest")
            wait_until(lambda: 60 < megabytes(process.pid) < 150, 20, "what comes after it")
            time.sleep(1.0)
            assert megabytes(process.pid) < 150
            [worker] = store.workers.all()
            assert (worker.pid, worker.stopped_at) == (process.pid, None)
        assert found[0] == found[1]
        wait_until(lambda: catches(process.pid, signal.SIGTERM), 20, "the worker's own end")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert store.workers.all()[0].stopped_at is not None
    finally:
        process.kill()
        made.close()


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt"))
    return bool(caught >> (number - 1) & 1)


def rests(folder: Path) -> int:
    return (folder / "worker.log").read_text().count("gives its memory back")


# --- what hangs -------------------------------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modescape.executor.HANGS_SECONDS", 1.5)


class Stuck(ToyRunner):
    """Makes no step until it may."""

    def __init__(self) -> None:
        self.goes_on = threading.Event()

    def run_stage(self, *args: Any, **kwargs: Any) -> StageOutput:
        self.goes_on.wait(30)
        return super().run_stage(*args, **kwargs)


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_a_stage_that_makes_no_step_is_ended_and_is_a_failure_the_second_time(embedded: House) -> None:
    runner, told = Stuck(), []
    hanging = Executor(
        embedded.store, Artifacts(embedded.settings.artifact_place), embedded.settings, name="w", runner=runner,
        machine=MACHINE, hangs=lambda: (told.append(1), runner.goes_on.set()),
    )  # fmt: skip
    priced = [replace(one, estimate=0.01) for one in chains(1, steps=5)[:1]]
    experiment = embedded.launch(priced)
    lease = hanging._claim(MACHINE.queues, experiment.id)
    assert lease is not None
    assert hanging.work(lease) == "lost"
    [stage] = embedded.store.stages.of(experiment.id)
    assert (stage.state, stage.losses, told) == ("ready", 0, [1])
    assert [one["how"] for one in stage.history] == ["hung"]
    runner.goes_on.clear()
    assert hanging.drain() == 1
    [stage] = embedded.store.stages.of(experiment.id)
    assert (stage.state, stage.error["type"]) == ("failed", "WorkerHung")
    assert stage.error["message"] == "for the second time it made no step for 2 s on w, where all of it should take 1 s"
    assert embedded.store.experiments.get(experiment.id).status == "failed"
    embedded.store.experiments.retry(experiment.id)
    assert hanging.drain() == 1, "a retry begins anew"
    assert embedded.values(experiment) == {"train/0": expected(1, 5)["train/0"]}


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_steps_however_slow_and_expected_times_however_long_are_no_hanging(embedded: House) -> None:
    slow = [replace(one, estimate=0.01) for one in chains(1, steps=3, seconds=1.0)[:1]]
    long = [replace(one, estimate=0.4) for one in chains(1, steps=1, seconds=2.5)[:1]]  # one step within ten times that
    for stages in (slow, long, chains(1, steps=1, seconds=2.5)[:1]):
        experiment = embedded.launch(stages)
        executor(embedded).drain()
        assert embedded.store.stages.of(experiment.id)[0].history[-1]["how"] == "succeeded"


@pytest.mark.slow
def test_a_worker_whose_stage_hangs_ends_itself_and_the_next_one_goes_on(
    embedded: House, monkeypatch: pytest.MonkeyPatch, wait_until
) -> None:
    monkeypatch.setenv("TOY_HANGS_SECONDS", "3")
    priced = [replace(one, estimate=0.1) for one in chains(1, steps=40, hang_until=2)[:1]]
    experiment = embedded.launch(priced)
    embedded.start("a")
    assert embedded.workers["a"].wait(60) == HANGING
    assert "train/0 hangs and is ended: it made no step for" in (embedded.logs / "a.log").read_text()
    [stage] = embedded.store.stages.of(experiment.id)
    assert (stage.state, stage.losses, stage.step) == ("ready", 0, 20)
    embedded.start("a")
    wait_until(lambda: any(one.step > 20 for one in embedded.store.stages.of(experiment.id)), 40, "progress")
    embedded.workers["a"].send_signal(signal.SIGSTOP)  # a process that was stopped made no step either
    time.sleep(4)
    embedded.workers["a"].send_signal(signal.SIGCONT)
    wait_until(lambda: embedded.has_ended(experiment), 40, "the end")
    assert embedded.values(experiment) == {"train/0": expected(1, 40)["train/0"]}
    assert embedded.workers["a"].poll() is None


# --- what is damaged --------------------------------------------------------------------------------------------------


def spoil(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-1] if how == "cut off" else content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize("how", ["changed", "cut off", "gone"])
def test_damaged_files_are_set_aside_and_made_again_with_what_stood_on_them(embedded: House, how: str) -> None:
    stages = chains(2, steps=6, seconds=0)
    first, second = (embedded.launch(stages, fresh=False) for _ in range(2))
    executor(embedded).drain()
    laboratory = Laboratory(embedded.settings)
    assert verify(laboratory).sound
    files = laboratory.artifacts
    [victim] = {one.result["artifacts"][-1]["digest"] for one in embedded.store.stages.of(first.id)[:1]}
    spoil(files.path(victim), how)
    found = verify(laboratory)
    assert (found.missing, found.damaged) == (((victim,), ()) if how == "gone" else ((), (victim,)))
    assert (found.again.stages, sorted(found.again.experiments)) == (2, ["chains", "chains-2"]), "taken over, too"
    assert [path.stem for path in Path(files.aside).glob("*")] == ([] if how == "gone" else [victim])
    assert not files.exists(victim)
    assert embedded.store.experiments.get(first.id).status == "running"
    again = {one.id: one.attempt for one in embedded.store.stages.of(first.id)}
    executor(embedded).drain()
    assert embedded.values(first) == embedded.values(second) == expected(2, 6)
    assert files.verify(victim)
    assert {embedded.store.experiments.get(one.id).status for one in (first, second)} == {"succeeded"}
    told = {f"{one.kind}/{one.key}": one.attempt - again[one.id] for one in embedded.store.stages.of(first.id)}
    assert told == {"train/0": 1, "train/1": 0, "predict/0": 1, "predict/1": 0, "compare/all": 1}
    assert verify(laboratory).sound


def test_what_is_made_while_files_are_read_for_hours_is_not_swept(
    embedded: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded.launch(chains(1, steps=6, seconds=0), fresh=False)
    executor(embedded).drain()
    laboratory = Laboratory(embedded.settings)
    files, read = laboratory.artifacts, laboratory.artifacts.verify
    later: list[Experiment] = []

    def slowly(digest: str) -> bool:
        if not later:
            later.append(embedded.launch(chains(1, steps=7, seconds=0), fresh=False))
            executor(embedded).drain()
            for path in (embedded.settings.home / "artifacts").glob("??/*"):
                os.utime(path, (time.time() - 7200,) * 2)
        return read(digest)

    monkeypatch.setattr(files, "verify", slowly)
    assert verify(laboratory, sweep=True).sound
    assert all(files.exists(digest) for digest in embedded.store.outputs.digests())
    assert embedded.values(later[0]) == expected(1, 7)


@pytest.mark.slow
def test_of_archived_experiments_damaged_files_are_made_again_once_they_are_retried(embedded: House) -> None:
    row = embedded.launch(chains(1, steps=6, seconds=0), fresh=False)
    executor(embedded).drain()
    laboratory = Laboratory(embedded.settings)
    embedded.store.experiments.archive(row.id)
    spoil(laboratory.artifacts.path(embedded.store.stages.of(row.id)[0].result["artifacts"][0]["digest"]), "changed")
    assert not verify(laboratory).sound
    assert executor(embedded).drain() == 0
    assert embedded.store.stages.of(row.id)[0].state == "cancelled"
    embedded.store.experiments.retry(row.id)
    executor(embedded).drain()
    assert embedded.values(row) == expected(1, 6)
    assert verify(laboratory).sound


def test_what_was_brought_is_named_and_not_made_again(tmp_path: Path) -> None:
    home = started(tmp_path / "home", None).laboratory
    outputs = np.random.default_rng(0).normal(size=(3, 200, 10)).astype(np.float32)
    row = bring_in(home, from_arrays(outputs, np.arange(200) % 10), name="given", answers=Answers(recipe=Recipe.SAME))
    given = next(one for one in home.store.stages.of(row.id) if one.params.get("given"))
    victim = next(iter(given.params["given"].values()))
    spoil(home.artifacts.path(victim), "changed")
    found = verify(home)
    assert (found.damaged, found.again.given, found.again.stages) == ((victim,), (victim,), 0)
    assert f"brought  {victim} was made elsewhere: bring it in again" in found.text()
    bring_in(home, from_arrays(outputs, np.arange(200) % 10), name="again", answers=Answers(recipe=Recipe.SAME))
    assert verify(home).sound, "the same bytes are back"


def test_a_damaged_database_is_told_and_left_as_it_is(tmp_path: Path) -> None:
    home = started(tmp_path / "home", None).laboratory
    row = home.store.experiments.create(name="Chains", spec=SPEC, stages=chains(1, steps=1))
    assert verify(home).sound
    with sqlite3.connect(tmp_path / "home" / "modescape.db") as direct:
        direct.execute("UPDATE stage SET experiment_id = 'nobody' WHERE kind = 'train'")
        direct.execute("UPDATE experiment SET stages_total = 99")
    found = verify(home)
    assert found.database == ("1 rows of stage refer to rows of experiment that are not there",)
    assert not found.sound
    assert "nothing was changed" in found.text()
    assert home.store.experiments.get(row.id).stages_total == 99


@pytest.mark.parametrize("place", ["pages", "header"])
def test_a_database_whose_pages_are_damaged_is_told_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    home = started(tmp_path / "home", None).laboratory
    for _ in range(20):
        home.store.experiments.create(name="Chains", spec=SPEC, stages=chains(4, steps=1))
    home.store.close()
    file = tmp_path / "home" / "modescape.db"
    content = bytearray(file.read_bytes())
    assert len(content) > 200_000, "no log is left beside it"
    for start in range(len(content) * 2 // 3, len(content) - 5000, 20_000) if place == "pages" else (0,):
        content[start : start + 3000] = bytes([0xA5]) * 3000
    file.write_bytes(content)
    monkeypatch.setenv("MODESCAPE_HOME", str(tmp_path / "home"))
    assert main(["verify"]) == 1
    said = capsys.readouterr()
    if place == "header":
        assert "file is not a database" in said.err, said
    else:  # as it is read, or already as it is opened
        assert "database " in said.out or "disk image is malformed" in said.err, said
    assert file.read_bytes() == content


def test_damage_is_found_on_postgres_with_and_without_amcheck(postgres_url: str) -> None:
    store = Store(postgres_url)
    store.experiments.create(name="Chains", spec=SPEC, stages=chains(1, steps=1))
    assert damage(postgres_url) == []
    with store.experiments.database.engine.begin() as connection:
        connection.execute(text("CREATE EXTENSION IF NOT EXISTS amcheck"))
        connection.execute(text("SET session_replication_role = replica"))  # what a broken page does to references
        connection.execute(text("UPDATE stage SET experiment_id = 'nobody' WHERE kind = 'train'"))
    [line] = damage(postgres_url)
    assert line.startswith("1 rows of stage refer to rows of experiment that are not there")
    store.close()


@pytest.mark.slow
def test_a_newer_database_is_neither_verified_nor_purged(embedded: House) -> None:
    with embedded.store.experiments.database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    laboratory = Laboratory(embedded.settings)
    with pytest.raises(ConfigurationError, match="9999"):
        verify(laboratory)
    with pytest.raises(ConfigurationError, match="9999"):
        purge(laboratory, "anything")
