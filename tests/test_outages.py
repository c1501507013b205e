"""Services that go away, hang and come back: what is asked of them meanwhile, and what the log says."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from serving import SPEC, finished, served
from sqlalchemy import make_url, text
from sqlalchemy.exc import OperationalError
from test_celery_queue import LEASE_SECONDS, chains, expected, frozen, house

from modescape import celery_queue, outage, supervisor
from modescape.database import is_away, open_database
from modescape.errors import ConfigurationError
from modescape.outage import OnceAMinute, Outage
from modescape.store import Store


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
