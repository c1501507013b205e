"""Threads that cannot be begun, or meet what nobody thought of: what they held is given back, and others go on."""

from __future__ import annotations

import asyncio
import socket
import tarfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from serving import finished, served
from sqlalchemy.exc import OperationalError
from test_celery_queue import house
from toy_worker import MACHINE, ToyRunner

from modescape import making, sending
from modescape.acting import Actor, UserRole, acting
from modescape.artifacts import Artifacts
from modescape.datasets import here
from modescape.errors import Busy, DataCorrupt, DataMissing, StageInterrupted
from modescape.executor import Executor
from modescape.making import Maker
from modescape.science.data.raw import Published, file_digest
from modescape.settings import Settings
from modescape.spec_parts import DataSpec
from modescape.stages.together import Together
from modescape.store import Store
from modescape.store.parcels import ParcelState
from modescape.testing.stores import claim, create
from modescape.waiting import Places
from modescape_api.app import THREADS
from modescape_api.background import messenger, noting, packing, picture_checks
from modescape_api.background.fetching import Fetches
from modescape_api.background.messenger import AT_ONCE, Messenger
from modescape_api.background.packing import Packing
from modescape_api.background.picture_checks import Lookings

Wait = Callable[..., None]
NO_THREAD = "can't start new thread"  # what CPython says where the system allows no more


@contextmanager
def no_thread(monkeypatch: pytest.MonkeyPatch, *names: str) -> Iterator[None]:
    """The system allows no more threads, for those whose names begin so."""
    start = threading.Thread.start

    def refused(thread: threading.Thread) -> None:
        if thread.name.startswith(names):
            raise RuntimeError(NO_THREAD)
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        yield


# -- messages ---------------------------------------------------------------------------------------------------------


class _Notices:
    """As many messages that are due as are put here."""

    def __init__(self) -> None:
        self.due = 0

    def claim(self) -> object:
        self.due -= 1
        return object() if self.due >= 0 else None


def test_messages_are_sent_again_once_threads_can_be_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait_until: Wait
) -> None:
    notices, sent = _Notices(), []
    monkeypatch.setattr(messenger, "EVERY_SECONDS", 0.05)
    teller = Messenger(Settings(home=tmp_path), SimpleNamespace(notices=notices))  # type: ignore[arg-type]
    monkeypatch.setattr(teller, "send", sent.append)
    with no_thread(monkeypatch, "message"):
        for _ in range(AT_ONCE + 1):
            notices.due = 1
            with pytest.raises(RuntimeError, match=NO_THREAD):
                teller._send_all()
    notices.due = AT_ONCE + 1
    teller.start()
    wait_until(lambda: len(sent) == AT_ONCE + 1, what="messages")
    teller.stop()


def test_a_message_of_which_nothing_can_be_kept_holds_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notices, ends = _Notices(), []
    teller = Messenger(Settings(home=tmp_path), SimpleNamespace(notices=notices))  # type: ignore[arg-type]
    monkeypatch.setattr(threading, "excepthook", ends.append)

    def send(due: object) -> None:
        raise LookupError("the row is gone")

    monkeypatch.setattr(teller, "send", send)
    notices.due = 3
    teller._send_all()
    for _ in range(AT_ONCE):
        assert teller._free.acquire(timeout=10)
    assert ends == []


# -- downloads and looks ----------------------------------------------------------------------------------------------


def test_a_set_can_be_fetched_again_however_its_download_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait_until: Wait
) -> None:
    fetches = Fetches(tmp_path)
    with no_thread(monkeypatch, "fetch"), pytest.raises(RuntimeError, match=NO_THREAD):
        fetches.start("svhn")
    state = fetches.state("svhn")
    assert state is not None
    assert (state.finished, state.error is None) == (True, False)
    for error in (tarfile.ReadError("not a gzip file"), ValueError("what nobody thought of"), KeyError("x")):

        def fetch(*_: Any, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(here, "fetch", fetch)
        fetches.start("svhn")  # Conflict while it is on its way
        wait_until(lambda: fetches.state("svhn").finished, what="an end")  # type: ignore[union-attr]
        assert fetches.state("svhn").error  # type: ignore[union-attr]


def test_what_arrives_and_is_no_archive_is_told_in_words(tmp_path: Path) -> None:
    file = tmp_path / "odd.tar.gz"
    file.write_bytes(b"as published, and no archive")
    downloads = {"svhn": [Published(file.as_uri(), file_digest(file, "md5"), file.stat().st_size)]}
    with pytest.raises(DataCorrupt, match="cannot be unpacked"):
        here.fetch("svhn", tmp_path / "home", lambda *_: None, downloads=downloads)


def test_a_server_that_breaks_off_is_one_that_did_not_answer(tmp_path: Path) -> None:
    import http.server

    class Breaks(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Breaks) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/x.mat"
        with pytest.raises(DataMissing, match="could not be fetched"):
            here.fetch("svhn", tmp_path, lambda *_: None, downloads={"svhn": [Published(url, "0" * 32, 5)]})
        server.shutdown()


def test_pictures_can_be_looked_through_once_threads_can_be_begun(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookings = Lookings(Store(sqlite_url))
    monkeypatch.setattr(picture_checks, "check_once", lambda *_, **__: SimpleNamespace(problem=""))
    spec = DataSpec(dataset="folder", path=str(tmp_path))
    with no_thread(monkeypatch, "look"), pytest.raises(RuntimeError, match=NO_THREAD):
        lookings.look("mine", spec, lambda found: {})
    assert lookings.rows() == []
    assert lookings.look("mine", spec, lambda found: {"name": "mine"}) == {"name": "mine"}


# -- archives ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def packer(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Packing]:
    monkeypatch.setattr(packing, "_BEAT", 0.02)
    monkeypatch.setattr(Maker, "write", lambda maker, asked, to, **_: store.parcels.ready(asked["parcel"], 1, 1))
    found = Packing(Settings(home=tmp_path), store)
    yield found
    found.end()


def test_an_archive_outlives_a_database_that_is_away_while_it_waits_for_its_turn(
    packer: Packing, store: Store, monkeypatch: pytest.MonkeyPatch, wait_until: Wait
) -> None:
    row, heard = create(store), store.parcels.heard
    errors: list[Exception] = [OperationalError("", None, Exception("away")), LookupError("odd")]

    def away(*_: Any) -> None:
        raise errors.pop(0)

    packer._turn.acquire()
    monkeypatch.setattr(store.parcels, "heard", away)
    parcel = packer.start(row.id, ["figures"], 1)
    wait_until(lambda: not errors, what="two words that could not be kept")
    monkeypatch.setattr(store.parcels, "heard", heard)
    packer._turn.release()
    wait_until(lambda: store.parcels.get(row.id, parcel.id).state == ParcelState.READY, what="an archive")


def test_an_archive_that_cannot_be_begun_or_made_has_failed_and_others_are_made(
    packer: Packing, store: Store, monkeypatch: pytest.MonkeyPatch, wait_until: Wait
) -> None:
    row = create(store)

    def states() -> list[str]:
        return sorted(one.state for one in store.parcels.of(row.id))

    with no_thread(monkeypatch, "pack"), pytest.raises(RuntimeError, match=NO_THREAD):
        packer.start(row.id, ["figures"], 1)
    assert states() == [ParcelState.FAILED]
    with monkeypatch.context() as patch:
        patch.setattr(Maker, "write", lambda *_, **__: {}["odd"])
        packer.start(row.id, ["figures"], 1)
        wait_until(lambda: states() == [ParcelState.FAILED] * 2, what="a failure")
    packer.start(row.id, ["figures"], 1)
    wait_until(lambda: states() == [ParcelState.FAILED] * 2 + [ParcelState.READY], what="an archive")


# -- workers ----------------------------------------------------------------------------------------------------------


def test_a_group_whose_threads_cannot_be_begun_leaves_none_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    start, begun, together = threading.Thread.start, [], Together("branches")

    def refused(thread: threading.Thread) -> None:
        if thread.name == "member":
            if begun:
                raise RuntimeError(NO_THREAD)
            begun.append(thread)
        start(thread)

    def stage() -> None:
        with suppress(StageInterrupted):
            together.train(None, None, None, None, device="cpu", resume=None, listener=None)  # type: ignore[arg-type]

    monkeypatch.setattr(threading.Thread, "start", refused)
    with pytest.raises(RuntimeError, match=NO_THREAD):
        together.run([stage] * 3)
    begun[0].join(10)
    assert not begun[0].is_alive()


def test_a_worker_whose_heart_cannot_be_begun_works_on_nothing(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = house(tmp_path, sqlite_url, None)
    artifacts = Artifacts(tmp_path / "artifacts")
    executor = Executor(made.store, artifacts, made.settings, runner=ToyRunner(), machine=MACHINE)
    create(made.store)
    lease = claim(made.store)
    with no_thread(monkeypatch, "heart"), pytest.raises(RuntimeError, match=NO_THREAD), executor._heart([lease]):
        pytest.fail("nothing is worked on without a heart")
    assert executor.current == ()
    made.close()


def test_what_readers_left_is_written_once_threads_can_be_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    written, rounds = [], 0
    users, links = SimpleNamespace(write_shown=lambda: written.append(rounds)), SimpleNamespace(write_followed=list)

    async def go() -> None:
        nonlocal rounds
        loop = asyncio.create_task(noting.noting(SimpleNamespace(users=users, links=links)))  # type: ignore[arg-type]
        with no_thread(monkeypatch, "asyncio"):
            await asyncio.sleep(0.1)
        assert written == []
        rounds = 1
        while not written:
            assert not loop.done()
            await asyncio.sleep(0.01)
        loop.cancel()

    monkeypatch.setattr(noting, "EVERY_SECONDS", 0.01)
    asyncio.run(asyncio.wait_for(go(), 30))
    assert set(written) == {1}


# -- crowds -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Nothing is made before it is set; then whatever is asked for is."""
    go_on = threading.Event()

    def write(maker: Maker, asked: Any, to: Path, **_: Any) -> None:
        assert go_on.wait(60)
        to.write_bytes(b"made")

    monkeypatch.setattr(Maker, "write", write)
    yield go_on
    go_on.set()


@pytest.mark.slow
def test_a_crowd_that_asks_for_pictures_waits_in_few_threads_and_others_are_answered(
    tmp_path: Path, held: threading.Event, wait_until: Wait
) -> None:
    with served(tmp_path) as site, site.client() as client, ThreadPoolExecutor(60) as crowd:
        row = finished(site.laboratory)

        def ask(number: int) -> httpx.Response:
            return client.get(f"/api/experiments/{row.slug}/figures/plane.parquet", params={"width": 600 + number})

        answers = [crowd.submit(ask, number) for number in range(60)]
        most = making._WAITING_OF_ONE
        wait_until(lambda: sum(one.done() for one in answers) == 60 - most, what="refusals")
        workers = [one for one in threading.enumerate() if one.name == "AnyIO worker thread"]
        assert len(workers) <= THREADS + most
        assert client.get(f"/experiments/{row.slug}").status_code == 200
        held.set()
        told = Counter((one.result().status_code, one.result().headers.get("retry-after")) for one in answers)
        assert told == {(200, None): most, (409, "5"): 60 - most}


@pytest.mark.slow
def test_who_has_left_waits_no_longer(
    tmp_path: Path, held: threading.Event, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "_LOOK", 0.05)
    with served(tmp_path) as site:
        row, maker = finished(site.laboratory), site.app.state.site.maker
        for number in range(making._WAITING_OF_ONE):
            connection = socket.create_connection(("127.0.0.1", site.settings.port))
            path = f"/api/experiments/{row.slug}/figures/plane.parquet?width={600 + number}"
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            wait_until(lambda: maker._places._taken.total() == number + 1, what="a place")  # noqa: B023
            if number >= making._AT_ONCE:
                connection.close()
                wait_until(lambda: maker._places._taken.total() == making._AT_ONCE, what="an empty place")
                break
        held.set()
        wait_until(lambda: maker._places._taken.total() == 0, what="all places empty")


@pytest.mark.parametrize("places", [Places(12, 8, "later")])
def test_one_who_asks_leaves_places_for_others(places: Places) -> None:
    with ExitStack() as stack:
        for who, count in (("ann", 8), ("bob", 4)):
            with acting(Actor(who, UserRole.VIEWER)):
                for _ in range(count):
                    stack.enter_context(places.taken())
        for who in ("ann", "cleo"):
            with acting(Actor(who, UserRole.VIEWER)), pytest.raises(Busy, match="later"), places.taken():
                pass
    assert not places._taken.total()


def test_few_requests_that_read_files_are_worked_on_at_once(tmp_path: Path) -> None:
    with served(tmp_path) as site, site.client() as client:
        waiting = site.app.state.site.waiting
        with ExitStack() as stack:
            while True:
                try:
                    stack.enter_context(waiting.taken())
                except Busy:
                    break
            answer = client.post("/api/imports", json={})
            assert (answer.status_code, answer.headers["retry-after"]) == (409, "5")
        assert client.post("/api/imports", json={}).status_code == 422


def test_few_folders_are_looked_through_at_once(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, lookings = threading.Event(), Lookings(Store(sqlite_url))
    monkeypatch.setattr(picture_checks, "PATIENCE_SECONDS", 0.01)

    def slowly(*_: Any, **__: Any) -> SimpleNamespace:
        assert go_on.wait(60)
        return SimpleNamespace(problem="")

    monkeypatch.setattr(picture_checks, "check_once", slowly)
    spec, begun = DataSpec(dataset="folder", path=str(tmp_path)), []
    for who in ("ann", "bob", "cleo"):
        with acting(Actor(who, UserRole.RESEARCHER)):
            for number in range(10):
                with suppress(Busy):
                    lookings.look(f"{who} {number}", spec, lambda found: {})
                    begun.append(who)
    go_on.set()
    assert begun == ["ann"] * picture_checks.MOST_OF_ONE + ["bob"] * picture_checks.MOST_OF_ONE


def test_where_no_thread_can_be_begun_one_is_asked_to_come_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with served(tmp_path) as site, site.client() as client:
        with no_thread(monkeypatch, "AnyIO"):
            for _ in range(3):
                answer = client.get("/api/experiments")
                told = (answer.status_code, answer.json()["type"], answer.headers["retry-after"])
                assert told == (503, "/api/docs#overloaded", "5")
        assert client.get("/api/experiments").status_code == 200
    assert len([one for one in caplog.records if one.name == "modescape.api"]) == 1


def test_a_program_asks_again_where_many_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "_WAITS", (0.01,))
    answers, told = [httpx.Response(409, headers={"Retry-After": "5"}), httpx.Response(200, json={"a": 1})], []
    server = sending.Server("http://lab", tell=told.append)
    server._client = httpx.Client(transport=httpx.MockTransport(lambda _: answers.pop(0)))
    assert server.json("GET", "/x") == {"a": 1}
    assert len(told) == 1
    answers.append(httpx.Response(409, json={"detail": "it is there"}))
    assert server.ask("GET", "/x").status_code == 409, "what will not pass is told at once"
