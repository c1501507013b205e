"""Services that go away, hang and come back: what is asked of them meanwhile, and what the log says."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import resource
import select
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import postgres
import pytest
from serving import SPEC, finished, served
from sqlalchemy import event as listening
from sqlalchemy import make_url, text, update
from sqlalchemy.exc import OperationalError
from test_celery_queue import LEASE_SECONDS, House, chains, expected, frozen, house
from toy_worker import MACHINE, ToyRunner

from modescape import celery_queue, kept_counts, outage, supervisor
from modescape.architectures import counting
from modescape.artifacts import Artifacts
from modescape.client.here import Here
from modescape.database import is_away, open_database, upgrade
from modescape.errors import ConfigurationError
from modescape.executor import Executor
from modescape.laboratory import Laboratory
from modescape.outage import OnceAMinute, Outage
from modescape.records import StageOutput
from modescape.store import Store, leases
from modescape.store.leases import Lease
from modescape.tables import ApiToken, SharedLink, SignIn
from modescape.testing.stores import claim, create
from modescape_api.background import noting


class Wire:
    """A PostgreSQL at a TCP port that can be cut: connections break and new ones are refused, as when it restarts."""

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        self._target = f"{parsed.query['host']}/.s.PGSQL.5432"
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"postgresql://tests@127.0.0.1:{self.port}/{parsed.database}"
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    def _serve(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(self._target)
                self._pairs.append((near, far))
                threading.Thread(target=self._pass_on, args=(near, far), daemon=True).start()

    def _pass_on(self, near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            while True:
                for source in select.select([near, far], [], [])[0]:
                    data = source.recv(65536)
                    (far if source is near else near).sendall(data)
                    if not data:
                        return

    def cut(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for pair in self._pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
        self._pairs.clear()

    def mend(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()


@pytest.fixture
def wire(postgres_url: str) -> Iterator[Wire]:
    made = Wire(postgres_url)
    yield made
    with contextlib.suppress(OSError):
        made.cut()


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """Each test begins with services that answer, as a process does."""
    yield
    outage.DATABASE.back()
    outage.BROKER.back()
    outage.DISK.back()


# -- the database -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_database_that_is_away_is_503_everywhere_and_one_line_in_the_log(
    wire: Wire, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with served(tmp_path, database_url=wire.url) as site, site.client() as client:
        row = finished(site.laboratory)
        with client.stream("GET", "/api/events") as stream:
            lines = stream.iter_lines()
            assert next(lines) == ": modescape"
            caplog.clear()  # before the cut: the event watch may notice it at once
            wire.cut()
            for _ in range(3):
                base = f"/api/experiments/{row.slug}"
                for path in ("/api/experiments", base, "/api/events", "/readyz", f"{base}/events",
                             f"{base}/figures/plane.json"):  # fmt: skip
                    answer = client.get(path)
                    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5"), path
                for path in ("/", f"/experiments/{row.slug}", "/launch", "/workers", "/data", "/signin"):
                    page = client.get(path, headers={"Accept": "text/html"})
                    assert (page.status_code, page.headers["retry-after"]) == (503, "5"), path
                    assert "The database does not answer" in page.text
                posted = client.post("/api/experiments", json={"spec": SPEC})
                assert (posted.status_code, posted.json()["type"]) == (503, "/api/docs#unavailable")
            assert client.get("/healthz").status_code == 200
            assert client.get("/static/app.js").status_code == 200
            said = [record for record in caplog.records if record.levelno >= logging.WARNING]
            assert [record.name for record in said] == ["modescape.outage"], [record.message for record in said]
            assert "the database does not answer" in said[0].message
            assert not any(record.exc_info for record in caplog.records)
            wire.mend()
            assert client.get("/api/experiments").json()["total"] == 1
            assert client.get("/", headers={"Accept": "text/html"}).status_code == 200
            assert "the database answers again" in caplog.text
            site.laboratory.store.experiments.patch(row.id, notes="the stream that was open all the time hears of it")
            assert any(line == "event: changed" for line in lines)


@pytest.mark.slow
def test_workers_outlive_a_database_that_was_away(wire: Wire, tmp_path: Path, postgres_url: str, wait_until) -> None:
    made = house(tmp_path, wire.url, None)
    direct = Store(postgres_url)
    try:
        made.start("a")
        experiment = made.launch(chains(2, steps=60, seconds=0.02))
        wait_until(lambda: any(stage.step for stage in direct.stages.of(experiment.id)), 30, "progress")
        wire.cut()
        log = tmp_path / "a.log"
        wait_until(lambda: "does not answer" in log.read_text(), 20, "a word about it")
        threading.Event().wait(2 * LEASE_SECONDS)  # leases run out; hearts and reapers ask again and again
        assert log.read_text().count("the database does not answer") == 1, log.read_text()
        assert "Traceback" not in log.read_text()
        wire.mend()
        wait_until(lambda: made.has_ended(experiment), 90, "the end of the experiment")
        assert made.values(experiment) == expected(2, 60)
        assert made.workers["a"].poll() is None
    finally:
        made.close()
        direct.close()


@contextlib.contextmanager
def read_only(server: str, *, cut: bool) -> Iterator[None]:
    """A PostgreSQL that answers and takes no writes, as in a fail-over; cut: connections break at both ends of it."""

    def told(setting: str) -> None:
        postgres.command(server, f"ALTER SYSTEM {setting}")
        postgres.command(server, "SELECT pg_reload_conf()")
        if cut:
            postgres.command(
                server, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' "
                "AND pid <> pg_backend_pid()")  # fmt: skip

    told("SET default_transaction_read_only = on")
    try:
        yield
    finally:
        told("RESET default_transaction_read_only")


@pytest.fixture
def own_postgres() -> Iterator[str]:
    """A server of this test alone: what is set in it is set for all its databases."""
    with postgres.running("fsync=off") as url:
        postgres.command(url, "CREATE DATABASE house")
        upgrade(url.format(database="house"))
        yield url


@pytest.mark.slow
@pytest.mark.parametrize("cut", [pytest.param(False, marks=pytest.mark.check), True])
def test_work_waits_for_a_database_that_takes_no_writes_and_goes_on(
    own_postgres: str, cut: bool, tmp_path: Path, wait_until
) -> None:
    url = own_postgres.format(database="house")
    made = house(tmp_path, url, None)
    try:
        for name in ("a", "b"):
            made.start(name)
        experiment = made.launch(chains(3, steps=60, seconds=0.03))
        wait_until(lambda: any(stage.step for stage in made.store.stages.of(experiment.id)), 60, "progress")
        with read_only(own_postgres, cut=cut):
            threading.Event().wait(4 * LEASE_SECONDS)
        wait_until(lambda: made.has_ended(experiment), 120, "the end of the experiment")
        assert made.values(experiment) == expected(3, 60)
        stages = made.store.stages.of(experiment.id)
        assert [stage.losses for stage in stages] == [0] * 7
        assert {entry["how"] for stage in stages for entry in stage.history} == {"succeeded"}
        assert [worker.poll() for worker in made.workers.values()] == [None, None]
        for name in made.workers:
            said = (tmp_path / f"{name}.log").read_text()
            assert "read-only transaction); trying again" in said or cut, said
            assert "the database answers again" in said
            assert "Traceback" not in said, said
    finally:
        made.close()


@pytest.mark.slow
def test_work_goes_on_at_the_standby_when_the_database_is_gone_for_good(tmp_path: Path, wait_until) -> None:
    """Two servers of which one copies the other, both named in the URL; the first dies, the second is promoted."""
    with postgres.running() as first:
        postgres.command(first, "CREATE DATABASE house")
        with postgres.running(copy_of=first) as second:
            postgres.command(first, "ALTER SYSTEM SET synchronous_standby_names = '*'")
            postgres.command(first, "SELECT pg_reload_conf()")
            hosts = ",".join(make_url(url).query["host"] for url in (first, second))
            url = f"postgresql://tests@/house?host={hosts}&target_session_attrs=read-write"
            upgrade(url)
            made = house(tmp_path, url, None)
            try:
                for name in ("a", "b"):
                    made.start(name)
                experiment = made.launch(chains(3, steps=60, seconds=0.03))
                wait_until(lambda: any(stage.step for stage in made.store.stages.of(experiment.id)), 60, "progress")
                postgres.crash(first)
                threading.Event().wait(3 * LEASE_SECONDS)
                assert [worker.poll() for worker in made.workers.values()] == [None, None]
                postgres.command(second, "ALTER SYSTEM RESET synchronous_standby_names")
                postgres.command(second, "SELECT pg_promote()")
                wait_until(lambda: made.has_ended(experiment), 120, "the end of the experiment")
                assert made.values(experiment) == expected(3, 60)
                wait_until(  # on a busy machine one hears too late that it has its stage again, and says that it lives
                    lambda: not any(stage.losses for stage in made.store.stages.of(experiment.id)), 20, "no loss"
                )
                assert [worker.poll() for worker in made.workers.values()] == [None, None]
                for name in made.workers:
                    said = (tmp_path / f"{name}.log").read_text()
                    assert "the database answers again" in said
                    assert "Traceback" not in said, said
            finally:
                made.close()


@pytest.mark.slow
def test_the_web_reads_on_and_says_that_it_cannot_write(own_postgres: str, tmp_path: Path) -> None:
    with served(tmp_path, database_url=own_postgres.format(database="house")) as site, site.client() as client:
        row = finished(site.laboratory)
        assert client.get("/readyz").status_code == 200
        with read_only(own_postgres, cut=False):
            assert client.get("/api/experiments").json()["total"] == 1
            pages = ("/", f"/experiments/{row.slug}", "/launch", "/import", "/compare", "/sweeps", "/data", "/workers",
                     "/catalogue", "/paper", f"/experiments/{row.slug}/figures/plane")  # fmt: skip
            found = {page: client.get(page, headers={"Accept": "text/html"}).status_code for page in pages}
            assert found == dict.fromkeys(pages, 200)
            posted = client.post("/api/experiments", json={"spec": SPEC})
            assert (posted.status_code, posted.json()["type"]) == (503, "/api/docs#unavailable")
            assert posted.headers["retry-after"] == "5"
            ready = client.get("/readyz")
            assert (ready.status_code, ready.json()["database"]) == (503, "takes no writes")
        assert client.post("/api/experiments", json={"spec": SPEC}).status_code in (201, 409, 422)
        assert client.get("/readyz").json() == {"status": "ok", "database": "ok", "artifacts": "ok"}


SERVER_TOKEN = "a token of few letters"  # one that could be guessed, whose failures are counted


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_who_has_signed_in_reads_on_while_nothing_can_be_written(
    request: pytest.FixtureRequest, database: str, tmp_path: Path, wait_until
) -> None:
    """By a token, a browser, a link and the server's own token, of which all were last shown long ago."""
    own = request.getfixturevalue("own_postgres") if database == "postgres" else ""
    changes = {"database_url": own.format(database="house")} if own else {}
    with served(tmp_path, token=SERVER_TOKEN, open_links=True, **changes) as site, contextlib.ExitStack() as clients:
        row, store = finished(site.laboratory), site.app.state.site.store

        def client(token: str | None) -> httpx.Client:
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            return clients.enter_context(site.client(headers=headers))

        admin = client(SERVER_TOKEN)
        password = "a password of some length"
        admin.post("/api/users", json={"name": "ada", "role": "researcher", "password": password})
        program = client(admin.post("/api/tokens", json={"name": "t", "user": "ada"}).json()["token"])
        browser, follower = (clients.enter_context(site.visitor()) for _ in range(2))
        browser.post("/signin", data={"name": "ada", "password": password})
        link = {"to": f"/experiments/{row.slug}", "name": "l", "without_sign_in": True}
        shared = program.post("/api/links", json=link).json()["url"]
        assert follower.get(shared).status_code == 303
        readers = {"server": admin, "token": program, "browser": browser, "link": follower}
        page = f"/experiments/{row.slug}"
        assert {who: one.get(page).status_code for who, one in readers.items()} == dict.fromkeys(readers, 200)
        noting.write(store)
        long_ago = datetime(2026, 1, 1, tzinfo=UTC)
        with store.users.database.writing() as change:
            for column in (ApiToken.used_at, SignIn.seen_at, SharedLink.used_at):
                change.session.execute(update(column.class_).values({column: long_ago}))
        with read_only(own, cut=False) if own else taking_nothing(store, "readonly"):
            found = {who: [one.get(page).status_code for _ in range(2)] for who, one in readers.items()}
            assert found == {who: [200, 200] for who in readers}
            noting.write(store)  # in vain
            told = program.get("/api/tokens").json()["items"][0]["used_at"]
            assert told > "2026-01-02", "what is not written yet is known"

        def written() -> bool:
            noting.write(store)
            with store.users.database.reading() as session:
                at = [session.query(column).one()[0] for column in (ApiToken.used_at, SignIn.seen_at)]
            return min(at) > datetime(2026, 1, 2, tzinfo=UTC)

        wait_until(written, what="that they are written")  # PostgreSQL's sessions hear of a setting a little later


def test_a_plan_is_made_while_nobody_can_be_asked_to_count(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def entries(self, kind: str) -> list[Any]:
            return []

        def put(self, *_: Any) -> None:
            raise OperationalError("", None, Exception("attempt to write a readonly database"))

    question = counting.Question("one-of-ones-own", (1, 8, 8, 10), {})
    monkeypatch.setattr(counting, "wanted", lambda: {"key": question})
    monkeypatch.setattr(kept_counts, "_asked", set())
    assert kept_counts.ask(Closed(), patience=60) is False  # type: ignore[arg-type]
    assert kept_counts._asked == set(), "it is asked once that can be"


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Another process writes and does not end."""
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")


@pytest.mark.slow
def test_a_sqlite_that_another_process_locks_again_and_again_stops_no_work(
    tmp_path: Path, sqlite_url: str, wait_until
) -> None:
    """For longer than a statement waits (here 0.2 s), at whatever line: while workers start, work, and have ended."""
    made = house(tmp_path, f"{sqlite_url}?timeout=0.2", None)
    file = tmp_path / "modescape.db"
    try:
        experiment = made.launch(chains(3, steps=40, seconds=0.02))
        with locked(file):
            for name in ("a", "b"):
                made.start(name)
            threading.Event().wait(4)
        while not made.has_ended(experiment):
            with contextlib.suppress(sqlite3.OperationalError), locked(file):
                threading.Event().wait(1.5)
            threading.Event().wait(0.7)
        assert made.values(experiment) == expected(3, 40)
        stages = made.store.stages.of(experiment.id)
        assert [stage.losses for stage in stages] == [0] * 7
        assert [worker.poll() for worker in made.workers.values()] == [None, None]
        assert "Traceback" not in (tmp_path / "a.log").read_text() + (tmp_path / "b.log").read_text()
    finally:
        made.close()


@pytest.mark.slow
def test_a_worker_that_is_told_to_end_waits_for_no_database(tmp_path: Path, sqlite_url: str, wait_until) -> None:
    made = house(tmp_path, f"{sqlite_url}?timeout=0.2", None)
    log = tmp_path / "a.log"
    try:
        experiment = made.launch(chains(1, steps=60, seconds=0.02))
        made.start("a")
        wait_until(lambda: made.store.stages.of(experiment.id)[0].step > 0, 30, "progress")
        with locked(tmp_path / "modescape.db"):
            wait_until(lambda: "does not answer" in log.read_text(), 20, "that it waits")
            made.workers["a"].terminate()
            assert made.workers["a"].wait(20) == 0
        assert "Traceback" not in log.read_text()
        made.start("a")  # its stage goes on
        wait_until(lambda: made.has_ended(experiment), 60, "the end of the experiment")
        assert made.values(experiment) == expected(1, 60)
    finally:
        made.close()


@pytest.mark.slow
def test_no_loop_of_a_worker_dies_of_what_the_database_says(tmp_path: Path, sqlite_url: str, wait_until) -> None:
    """Of six statements one raises what nobody has thought of, in every thread of a worker."""
    odd = f"""
import itertools, sys, threading
sys.path.insert(0, {str(Path(__file__).parent)!r})
from sqlalchemy import Engine, event
from toy_worker import MACHINE, ToyRunner
from modescape.celery_queue import worker_main
from modescape.settings import Settings

counts = itertools.count()

@event.listens_for(Engine, "before_cursor_execute")
def odd(*_):
    if threading.current_thread().name in ("heart", "reaper", "counter") and next(counts) % 6 == 0:
        raise RuntimeError("what nobody has thought of")

worker_main(Settings(), "a", runner=ToyRunner(), machine=MACHINE)
"""
    made = house(tmp_path, sqlite_url, None)
    try:
        made.start("a", "-c", odd)
        experiment = made.launch(chains(3, steps=100, seconds=0.02))
        wait_until(lambda: made.has_ended(experiment), 90, "the end of the experiment")
        assert made.values(experiment) == expected(3, 100)
        assert [stage.losses for stage in made.store.stages.of(experiment.id)] == [0] * 7
        said = (tmp_path / "a.log").read_text()
        assert 1 <= said.count("what nobody has thought of") <= 3, "once a minute"
        [before] = made.store.workers.all()
        wait_until(lambda: made.store.workers.all()[0].seen_at > before.seen_at, 20, "another round of the reaper")
    finally:
        made.close()


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["reaper", "consumer"])
def test_a_worker_whose_loop_is_dead_ends_with_a_message(loop: str, tmp_path: Path, sqlite_url: str) -> None:
    patch = {
        "reaper": "celery_queue._Reaper._round = lambda *_, **__: sys.exit('ended')",
        "consumer": "celery_queue._FolderChannel._get = lambda *_, **__: {}[0]",
    }[loop]
    code = (
        f"import sys; from modescape import celery_queue, cli; {patch}; sys.exit(cli.main(['worker', '--name', 'a']))"
    )
    environment = {**os.environ, "MODESCAPE_HOME": str(tmp_path), "MODESCAPE_DEVICE": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1] == "modescape: the worker a could not go on; what is above says why"
    assert "the reaper has ended" in done.stderr or loop == "consumer"


def test_a_child_that_cannot_be_started_is_started_later(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The system has no process or no memory to give just now; the others go on, and so does the one that watches."""
    clock, failures = [1000.0], [BlockingIOError(11, "no"), OSError(12, "no"), subprocess.SubprocessError("no")]
    family = supervisor._Family.__new__(supervisor._Family)  # without its signals
    family.children, family.stopping = {}, False
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    family.children["server"] = supervisor._Child([sys.executable, "-c", ""], {}, dead, clock[0])
    spawn = supervisor.subprocess.Popen

    def scarce(*args: Any, **options: Any) -> Any:
        if failures:
            raise failures.pop(0)
        return spawn(*args, **options)

    monkeypatch.setattr(supervisor.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(supervisor.subprocess, "Popen", scarce)
    for _ in range(100):
        family.restart_dead()
        if family.children["server"].process is not dead:
            break
        clock[0] += 1
    assert (failures, family.children["server"].process is dead) == ([], False)
    assert family.children["server"].restart_at is None
    family.children["server"].process.wait()
    assert capsys.readouterr().err.count("could not be started") == 3


@pytest.mark.slow
@pytest.mark.parametrize("free", [1, 2**40])
def test_a_server_whose_disk_is_full_is_not_ready(free: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    with served(tmp_path) as site, site.client() as client:
        monkeypatch.setattr("modescape.outage.shutil.disk_usage", lambda _: usage._replace(free=free))
        ready = client.get("/readyz")
        said = "the disk is full" if free == 1 else "ok"
        assert (ready.status_code, ready.json()["artifacts"]) == (503 if free == 1 else 200, said)
        assert ready.json()["database"] == said
        monkeypatch.undo()
        with locked(tmp_path / "modescape.db"):  # somebody writes: whoever waits, writes
            assert client.get("/readyz").status_code == 200
        shutil.rmtree(site.settings.artifact_place)
        gone = client.get("/readyz")
        assert (gone.status_code, gone.json()["artifacts"]) == (503, "the folder is not there")
        before = (tmp_path / "modescape.db-wal").stat().st_size
        for _ in range(20):
            client.get("/readyz")
        assert (tmp_path / "modescape.db-wal").stat().st_size == before, "asking writes nothing"


def test_a_statement_that_is_wrong_is_not_a_database_that_is_away(postgres_url: str, sqlite_url: str) -> None:
    for url in (postgres_url, sqlite_url):
        engine = open_database(url)
        with pytest.raises(Exception, match="no_such_table") as caught, engine.connect() as connection:
            connection.execute(text("SELECT * FROM no_such_table"))
        assert not is_away(caught.value)
        engine.dispose()
    with pytest.raises(OperationalError) as caught, open_database("postgresql://tests@127.0.0.1:1/none").connect():
        pass
    assert is_away(caught.value)


@pytest.mark.slow
def test_a_server_that_starts_without_its_database_says_so_in_one_line(tmp_path: Path) -> None:
    environment = {**os.environ, "MODESCAPE_HOME": str(tmp_path),
                   "MODESCAPE_DATABASE_URL": "postgresql://tests@127.0.0.1:1/none"}  # fmt: skip
    commands = ["serve", "worker", "migrate", "up"]
    code = f"from modescape.cli import main; assert [main([command]) for command in {commands}] == [1] * 4"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("modescape:")]
    assert ["does not answer" in line for line in lines] == [True] * 4, lines


def test_one_line_a_minute_and_one_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = [100.0]
    monkeypatch.setattr(outage.time, "monotonic", lambda: clock[0])
    caplog.set_level(logging.WARNING)
    service = Outage("fountain")
    service.back()
    for _ in range(125):  # every second for a little more than two minutes
        service.away(OSError("no water\nsecond line"))
        clock[0] += 1
    service.back()
    service.back()
    assert [record.message for record in caplog.records] == [
        *["the fountain does not answer (no water); trying again"] * 3,
        "the fountain answers again",
    ]
    minute = OnceAMinute()
    made = [logging.makeLogRecord({"created": float(second)}) for second in range(0, 125, 5)]
    assert [record.created for record in made if minute.filter(record)] == [0.0, 60.0, 120.0]


# -- the broker -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_pages_answer_while_many_launches_meet_a_redis_that_hangs(tmp_path: Path, redis_server) -> None:
    spec = {**SPEC, "data": {"dataset": "blobs", "train_images": 100, "validation_images": 50, "test_images": 40}}
    with served(tmp_path, broker_url=redis_server.url) as site, site.client() as client, frozen(redis_server):
        answers: list[int] = []

        def launch() -> None:
            answers.append(httpx.post(f"{site.url}/api/experiments", json={"spec": spec}, timeout=120).status_code)

        threads = [threading.Thread(target=launch) for _ in range(45)]
        for thread in threads:
            thread.start()
        assert client.get("/api/experiments", timeout=120).status_code == 200
        for thread in threads:
            thread.join()
        assert answers == [201] * 45


class Mute:
    """A broker that accepts connections and never says a word; counts them."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self.callers: list[socket.socket] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.callers.append(self._listener.accept()[0])

    def close(self) -> None:
        for end in (self._listener, *self.callers):
            end.close()


def test_one_launch_finds_out_that_the_broker_hangs_and_the_others_believe_it(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(celery_queue, "BROKER_SECONDS", 0.3)
    mute = Mute()
    made = house(tmp_path, sqlite_url, mute.url)
    for _ in range(45):
        made.launch(chains(1, steps=1))
    assert 1 <= len(mute.callers) <= 3, "one try, with the driver's own repetitions"
    assert caplog.text.count("the broker does not answer") == 1
    bell = celery_queue.notifier_of(made.settings.broker, made.settings.home)
    assert bell.is_silent
    monkeypatch.setattr(celery_queue.time, "monotonic", lambda: 1e9)
    assert not bell.is_silent, "it is tried again after a while"
    mute.close()
    made.close()


# --- another Modescape has the home -----------------------------------------------------------------------------------

HOLDS = """
import fcntl, sys, time
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""


@contextlib.contextmanager
def holder(home: Path, seconds: float) -> Iterator[None]:
    """Another process has the home's lock for so long, as one that is stopping its workers has."""
    command = [sys.executable, "-c", HOLDS, str(home / "lock"), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


@pytest.mark.slow
def test_a_home_is_waited_for_while_another_process_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "url").write_text("http://127.0.0.1:9", encoding="utf-8")  # nobody answers there any more
    with holder(tmp_path, 1.0):
        lock = supervisor._lock_of_one_that_ends(tmp_path)
    assert lock is not None
    lock.close()
    assert "does not answer; waiting" in capsys.readouterr().out


@pytest.mark.slow
def test_a_home_whose_server_answers_is_not_waited_for(tmp_path: Path) -> None:
    with served(tmp_path / "other") as site, holder(tmp_path, 60.0):
        (tmp_path / "url").write_text(site.url, encoding="utf-8")
        assert supervisor._lock_of_one_that_ends(tmp_path) is None


@pytest.mark.slow
def test_a_home_that_neither_ends_nor_answers_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "READY_SECONDS", 0.5)
    with holder(tmp_path, 60.0), pytest.raises(ConfigurationError, match="another Modescape has"):
        supervisor._lock_of_one_that_ends(tmp_path)


# --- disks without room -----------------------------------------------------------------------------------------------

MB = 1_000_000


@dataclass
class Disk:
    """A folder whose disk can be filled, and emptied again."""

    folder: Path
    is_mounted: bool

    def fill(self, *, but: int = 0) -> None:
        """Leave so many bytes; where nothing can be mounted, let no file be larger."""
        if self.is_mounted:
            with contextlib.suppress(OSError), (self.folder / "filler").open("wb", buffering=0) as file:
                for size in (100_000, 1_000):
                    while shutil.disk_usage(self.folder).free - size >= but and file.write(bytes(size)):
                        pass
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (max(1, but), resource.RLIM_INFINITY))

    def make_room(self) -> None:
        if self.is_mounted:
            (self.folder / "filler").unlink()
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _mounted(folder: Path) -> bool:
    mount = shutil.which("mount")
    command = [mount, "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)] if mount else ["false"]
    return subprocess.run(command, capture_output=True).returncode == 0


def _may_mount() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        return _mounted(Path(folder)) and subprocess.run(["umount", folder]).returncode == 0


MAY_MOUNT = _may_mount()


@pytest.fixture(params=["files that may not grow", *(["a small disk"] if MAY_MOUNT else [])])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    """Where mounting is allowed a real disk of 8 MB, and everywhere a limit to the size of files."""
    folder = tmp_path / "small"
    folder.mkdir()
    made = Disk(folder, request.param == "a small disk" and _mounted(folder))
    assert made.is_mounted == (request.param == "a small disk")
    yield made
    if made.is_mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
    else:
        made.make_room()


class Writes(ToyRunner):
    """Its stages leave five megabytes each. begins: called before they do."""

    def __init__(self, begins: Callable[[], object] = lambda: None) -> None:
        self.begins = begins
        self.begun = 0

    def run_stage(self, lease: Lease, store: Store, artifacts: Artifacts, *rest: Any, **more: Any) -> StageOutput:
        self.begun += 1
        self.begins()
        many = np.random.default_rng(lease.stage.ordinal).random(5 * MB // 8)
        return StageOutput(artifacts=[artifacts.put_array(many, "matrix")])


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "WAIT_SECONDS", (2.0, 2.0))


def working(made: House, runner: Writes, artifacts: Path) -> Executor:
    settings = made.settings.model_copy(update={"artifacts": artifacts})
    return Executor(made.store, Artifacts(artifacts), settings, runner=runner, machine=MACHINE, name="w")


@pytest.mark.slow
@pytest.mark.usefixtures("soon")
def test_work_waits_while_the_disk_is_full_and_goes_on_by_itself(tmp_path: Path, sqlite_url: str, disk: Disk,
                                                                 wait_until) -> None:  # fmt: skip
    made, runner = house(tmp_path, sqlite_url, None), Writes()
    worker = working(made, runner, disk.folder)
    experiment = made.launch(chains(1, steps=1)[:1])
    disk.fill(but=2 * MB)
    assert worker.drain() == 1
    [stage] = made.store.stages.of(experiment.id)
    assert (stage.state, stage.losses, stage.error, stage.room) == ("ready", 0, {}, 5 * MB)
    said = "is full (2" if disk.is_mounted else "takes no file that large ("
    assert stage.waits.startswith(f"the disk of {disk.folder} {said}")
    assert stage.waits.endswith("needs 5 MB)")
    assert made.store.experiments.get(experiment.id).status == "running"
    assert [path for path in disk.folder.rglob("*") if path.is_file() and path.name != "filler"] == []
    lab = Laboratory(worker.settings)
    assert lab.waits([stage]) == stage.waits
    shown = Here(lab).detail(experiment.id)
    assert str(shown.progress).endswith(f"waits: {stage.waits}")
    assert shown.stages[0].waits == stage.waits
    assert worker.drain() == 0, "not before its time"
    if disk.is_mounted:  # elsewhere nobody can know beforehand
        wait_until(lambda: made.store.leases.unnotified(), 5, "the end of the pause")
        assert (worker.drain(), runner.begun) == (0, 1), "nor while there are fewer bytes than it needs"
    disk.make_room()
    wait_until(lambda: worker.drain() == 1, 5, "the stage to be taken up")
    [stage] = made.store.stages.of(experiment.id)
    assert (stage.state, stage.waits, stage.losses) == ("succeeded", None, 0)
    assert [one["how"] for one in stage.history] == ["no room", "succeeded"]
    made.close()


def test_pauses_grow_while_nothing_changes(store: Store) -> None:
    create(store)
    pauses = []
    for _ in range(6):
        lease = store.leases.claim("w", stage_id=store.stages.of("toy")[0].id)
        assert lease is not None
        assert store.leases.wait(lease, "the disk is full", room=10) == "ready"
        stage = store.stages.get(lease.stage.id)
        assert stage.waits_until is not None
        pauses.append(round((stage.waits_until - datetime.now(UTC)).total_seconds() / 5))
    assert pauses == [1, 2, 4, 8, 12, 12]
    assert stage.losses == 0
    later, other = store.stages.of("toy")[:2]
    assert claim(store).stage.id == other.id, "what waits is passed over"
    store.experiments.retry(store.experiments.cancel("toy").id)
    assert store.stages.get(later.id).waits is None


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EIO, errno.EFBIG])
def test_whatever_the_system_says_of_a_disk_is_no_failure(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    made = house(tmp_path, sqlite_url, None)
    experiment = made.launch(chains(1, steps=1)[:1])
    monkeypatch.setattr(os, "fsync", refuse)
    assert working(made, Writes(), tmp_path / "files").drain() == 1
    [stage] = made.store.stages.of(experiment.id)
    assert (stage.state, stage.losses) == ("ready", 0)
    assert str(tmp_path / "files") in stage.waits
    assert "needs 5 MB" in stage.waits
    assert list((tmp_path / "files" / "tmp").iterdir()) == []
    made.close()


def test_what_a_stage_may_not_read_is_a_failure(tmp_path: Path, sqlite_url: str) -> None:
    def deny() -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/data/x.npy")

    made = house(tmp_path, sqlite_url, None)
    experiment = made.launch(chains(1, steps=1)[:1])
    working(made, Writes(deny), tmp_path / "files").drain()
    assert made.store.stages.of(experiment.id)[0].state == "failed"
    made.close()


FULL = """
CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100';
END $$"""


@contextlib.contextmanager
def taking_nothing(store: Store, how: str) -> Iterator[None]:
    """A database that refuses every change: SQLite by itself, PostgreSQL by a trigger that says what a full disk is."""
    engine = store.experiments.database.engine
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.execute(text(FULL))
            for table in ("stage", "worker", "experiment"):
                of_it = f"CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW"
                connection.execute(text(f"{of_it} EXECUTE FUNCTION full_disk()"))
        yield
        with engine.begin() as connection:
            connection.execute(text("DROP FUNCTION full_disk CASCADE"))
        return

    def refuse(connection: Any, *_: object) -> None:
        connection.execute(f"PRAGMA {'query_only = 1' if how == 'readonly' else 'max_page_count = 1'}")

    listening.listen(engine, "checkout", refuse)
    yield
    listening.remove(engine, "checkout", refuse)
    engine.dispose()


@pytest.mark.parametrize(
    ("database", "how"), [("sqlite_url", "readonly"), ("postgres_url", "full")], ids=["sqlite", "postgres"]
)
def test_a_database_that_takes_nothing_makes_work_wait_and_costs_no_try(
    request: pytest.FixtureRequest, tmp_path: Path, database: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = house(tmp_path, request.getfixturevalue(database), None)
    stopping = contextlib.ExitStack()
    worker = working(made, Writes(lambda: stopping.enter_context(taking_nothing(made.store, how))), tmp_path / "files")
    experiment = made.launch(chains(1, steps=1)[:1])
    assert worker.drain() == 1, "its result can be told nobody"
    assert (worker.drain(), worker.lacks_room is None) == (0, False)
    assert made.store.stages.of(experiment.id)[0].state == "running"
    assert "the disk has no room, and work waits" in caplog.text
    stopping.close()
    worker.settle_owed()
    [stage] = made.store.stages.of(experiment.id)
    assert (stage.state, stage.losses) == ("ready", 0)
    assert "the database takes nothing more (" in stage.waits
    made.close()


@pytest.mark.slow
@pytest.mark.skipif(not MAY_MOUNT, reason="a home on a small disk: mounting needs root; the tests above do without")
def test_a_worker_whose_whole_home_is_on_a_full_disk_goes_on_once_there_is_room(
    tmp_path: Path, sqlite_url: str, wait_until
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    assert _mounted(home)
    disk = Disk(home, True)
    logs = tmp_path / "logs"
    logs.mkdir()
    try:
        shutil.copy(tmp_path / "modescape.db", home)
        made = house(home, None, None)
        made.logs = logs
        made.start("a")
        experiment = made.launch(chains(2, steps=400, seconds=0.01))
        wait_until(lambda: any(stage.step for stage in made.store.stages.of(experiment.id)), 30, "progress")
        disk.fill()
        wait_until(lambda: "has no room, and work waits" in (logs / "a.log").read_text(), 30, "a word about it")
        threading.Event().wait(3 * LEASE_SECONDS)
        assert made.store.experiments.get(experiment.id).status == "running"
        command = [sys.executable, "-m", "modescape.cli", "priority", "chains", "high"]
        environment = {**os.environ, "MODESCAPE_HOME": str(home)}
        told = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert (told.returncode, told.stderr) == (
            1, "modescape: the database takes nothing more (database or disk is full)\n"
        )  # fmt: skip
        disk.make_room()
        wait_until(lambda: made.has_ended(experiment), 120, "the end of the experiment")
        assert made.values(experiment) == expected(2, 400)
        assert max(stage.losses for stage in made.store.stages.of(experiment.id)) == 0
        made.close()
    finally:
        subprocess.run(["umount", "--lazy", str(home)], check=True)


@pytest.mark.slow
def test_a_server_whose_disk_takes_nothing_says_so(tmp_path: Path) -> None:
    with served(tmp_path) as site, site.client() as client:
        row = site.laboratory.create(SPEC, name="waits")
        store = site.laboratory.store
        lease = store.leases.claim("w")
        assert lease is not None
        store.leases.wait(lease, "the disk of /data is full (2 MB free, needs 40 MB)", room=40 * MB)
        told = client.get(f"/api/experiments/{row.slug}").json()
        assert told["waits"] == "the disk of /data is full (2 MB free, needs 40 MB)"
        assert [one["waits"] for one in told["stages"] if one["id"] == lease.stage.id] == [told["waits"]]
        page = client.get(f"/experiments/{row.slug}", headers={"Accept": "text/html"}).text
        assert "Waits: the disk of /data is full (2 MB free, needs 40 MB)." in page
        with taking_nothing(site.app.state.site.store, "readonly"):
            answer = client.post("/api/experiments", json={"spec": SPEC})
            assert (answer.status_code, answer.json()["type"]) == (507, "/api/docs#no-room")
            assert client.get(f"/api/experiments/{row.slug}").status_code == 200
        assert client.post("/api/experiments", json={"spec": SPEC}).status_code == 201
