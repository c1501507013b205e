"""Half-open requests, slow bodies, crowds: real sockets on a real server, whose limits are parts of a second."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from serving import Served, served

from modescape.store.events import Events
from modescape_api.http.connections import Limits, Protocol, saying_little
from modescape_api.resources import events

TOKEN = "a-secret-of-many-characters"


class Hasty(Protocol):
    limits = Limits(head_seconds=0.4, body_seconds=0.8, progress=1000, small_body=10_000)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("home"), http=Hasty) as running:
        yield running


@contextlib.contextmanager
def connected(site: Served) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", site.settings.port), timeout=20) as connection:
        yield connection


def rest(connection: socket.socket) -> tuple[bytes, float]:
    """All that still comes until the server ends the connection, and how long that took."""
    started, found = time.monotonic(), b""
    with contextlib.suppress(ConnectionResetError):
        while block := connection.recv(65536):
            found += block
    return found, time.monotonic() - started


HEAD = b"POST /api/estimate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "begun", [b"", b"GET", b"GET / HTTP/1.1\r\nHost: local", b"GET / HTTP/1.1\r\nHost: localhost\r\n"]
)
def test_a_head_that_does_not_come_ends_the_connection(site: Served, begun: bytes) -> None:
    with connected(site) as connection:
        connection.sendall(begun)
        said, took = rest(connection)
    assert said.startswith(b"HTTP/1.1 408")
    assert 0.2 < took < 5


def test_a_head_that_comes_letter_by_letter_is_no_longer_waited_for(site: Served) -> None:
    with connected(site) as connection:
        started = time.monotonic()
        with contextlib.suppress(OSError):
            for letter in b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: " + b"x" * 400:
                connection.sendall(bytes([letter]))
                time.sleep(0.05)
        assert time.monotonic() - started < 5


def test_a_kept_connection_gets_the_same_time_for_its_next_head(site: Served) -> None:
    with connected(site) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        time.sleep(0.6)  # longer than a head may take: nothing has begun
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /healthz HT")
        said, took = rest(connection)
    assert said.startswith(b"HTTP/1.1 408")
    assert took < 5


@pytest.mark.parametrize(
    "head",
    [b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 200,
     b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000 + b"\r\n",
     b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 20_000, b"GET / HTTP/1.1\r\nX: " + b"a" * 3_000_000],
)  # fmt: skip
def test_a_head_has_at_most_64_kilobytes(site: Served, head: bytes) -> None:
    with connected(site) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(head + b"Host: localhost\r\n\r\n")
        said, _ = rest(connection)
    assert not said or said.startswith((b"HTTP/1.1 431", b"HTTP/1.1 400")), said[:60]
    with site.client() as client:  # and a usual one of some size is fine
        assert client.get("/healthz", headers={"X": "a" * 20_000}).status_code == 200


@pytest.mark.parametrize("more", [b"0\r\n" + b"X: a\r\n" * 200, b"0\r\nX: " + b"a" * 400_000, b"1;" + b"a" * 400_000])
def test_what_comes_around_a_body_is_limited_as_a_head_is(site: Served, more: bytes) -> None:
    """Trailers are kept with the head, and an endless one would be kept without end."""
    with connected(site) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n" + more)
        said, took = rest(connection)
    assert not said or said.startswith(b"HTTP/1.1 431"), said[:60]
    assert took < Hasty.limits.body_seconds / 2, "not for being late"


ASKED = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize("asked", [ASKED, HEAD + b"Content-Length: 2\r\n\r\n{}"])
def test_who_asks_on_without_waiting_is_answered_a_few_times(site: Served, asked: bytes) -> None:
    most = 1 + Hasty.limits.pipelined
    with connected(site) as connection:
        connection.sendall(most * asked)
        found = b""
        while found.count(b"HTTP/1.1 ") < most:
            found += connection.recv(65536)
        assert b"connection: close" not in found, "as many as may wait"
    with connected(site) as connection:
        with contextlib.suppress(OSError):
            for _ in range(100):
                connection.sendall(200 * asked)
        said, took = rest(connection)
    assert said.count(b"HTTP/1.1 ") <= most
    assert said.count(b"connection: close") <= 1
    assert took < 5


def test_strangers_write_a_line_a_minute_into_the_log(site: Served, caplog: pytest.LogCaptureFixture) -> None:
    with saying_little():
        for sent in [b"no request\r\n\r\n", 200 * ASKED] * 10:
            with connected(site) as connection, contextlib.suppress(OSError):
                connection.sendall(sent)
                rest(connection)
        logging.getLogger("uvicorn.error").error("what fails here")
    assert [one.getMessage() for one in caplog.records if one.name == "uvicorn.error"] == [
        "Invalid HTTP request received.", "what fails here"
    ]  # fmt: skip


def test_as_many_requests_wait_as_may_however_long_one_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answer takes one off those that wait, and reading on after it puts hundreds in its place."""
    waiting: list[int] = []
    reading_on: list[bool] = []
    complete = Hasty.on_response_complete

    def counted(protocol: Hasty) -> None:
        waiting.append(len(protocol.pipeline))
        complete(protocol)
        reading_on.append(bool(protocol.pipeline) and not protocol.flow.read_paused)

    monkeypatch.setattr(Hasty, "on_response_complete", counted)
    with served(tmp_path, http=Hasty) as site, connected(site) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):
            for _ in range(2000):
                connection.sendall(ASKED)
        rest(connection)
    assert 0 < max(waiting) <= Hasty.limits.pipelined
    assert not any(reading_on)


@pytest.mark.slow
def test_a_small_body_is_there_in_time_or_not_at_all(site: Served, caplog: pytest.LogCaptureFixture) -> None:
    with connected(site) as connection:
        connection.sendall(HEAD + b"Content-Length: 2000\r\n\r\n{")
        started = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - started < 4:  # some of it all the time
                connection.sendall(b" ")
                time.sleep(0.05)
        assert time.monotonic() - started < 3
    with connected(site) as connection:
        connection.sendall(HEAD + b"Content-Length: 2000\r\n\r\n{")
        said, took = rest(connection)
    assert said.startswith(b"HTTP/1.1 408")
    assert took < 5
    assert [one.getMessage() for one in caplog.records if one.levelname == "ERROR"] == []


@pytest.mark.slow
def test_a_file_may_take_its_time_as_long_as_it_comes(site: Served) -> None:
    body = b"x" * 12_000
    head = b"PUT /api/uploads/" + b"0" * 64 + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    with connected(site) as connection:
        connection.sendall(head + b"Content-Length: 12000\r\n\r\n")
        for start in range(0, len(body), 1000):
            connection.sendall(body[start : start + 1000])
            time.sleep(0.15)
        said, _ = rest(connection)
    assert said.startswith(b"HTTP/1.1 422"), "read to its end: its digest is another"
    with connected(site) as connection:
        connection.sendall(head + b"Content-Length: 12000\r\n\r\n" + body[:2000])
        _, took = rest(connection)
    assert took < 5, "it stopped coming"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "status"),
    [("PUT /api/uploads/" + "0" * 64, 401), ("PUT /api/nowhere", 401), ("POST /import", 401),
     ("GET /healthz", 200), ("POST /healthz", 413)],
)  # fmt: skip
def test_a_file_of_somebody_who_is_not_known_may_not(tmp_path: Path, asked: str, status: int) -> None:
    head = f"{asked} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 12000000\r\nSec-Fetch-Site: same-origin\r\n\r\n"
    with served(tmp_path, http=Hasty, token=TOKEN) as site, connected(site) as connection:
        connection.sendall(head.encode())
        assert connection.recv(65536).startswith(f"HTTP/1.1 {status}".encode())
        started = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - started < 5:
                connection.sendall(b"x" * 500)
                time.sleep(0.1)
        assert time.monotonic() - started < 3


def test_who_is_answered_before_a_file_is_there_is_not_waited_for(site: Served) -> None:
    """The gate lets the account in; the answer is out before a byte of the body is."""
    with connected(site) as connection:
        connection.sendall(b"PUT /api/nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 12000000\r\n\r\n")
        assert connection.recv(65536).startswith((b"HTTP/1.1 404", b"HTTP/1.1 413"))
        started = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - started < 5:
                connection.sendall(b"x" * 500)
                time.sleep(0.1)
        assert time.monotonic() - started < 3


class Crowded(Protocol):
    """Time enough, and little room."""

    limits = Limits(strangers=3, patience=0.5, connections=6, spare=2)


def is_over(connection: socket.socket) -> bool:
    """Whether the server has ended it, having said so; what it is sent meanwhile is left there."""
    connection.settimeout(0.1)
    try:
        return connection.recv(65536, socket.MSG_PEEK).startswith(b"HTTP/1.1 503")
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True


def told(connection: socket.socket, headers: bytes = b"") -> bytes:
    """The first line of the answer to a question."""
    with contextlib.suppress(OSError):
        connection.settimeout(20)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + headers + b"\r\n")
        return connection.recv(65536).split(b"\r\n")[0]
    return b""


@contextlib.contextmanager
def crowd(site: Served, count: int, *, begun: bytes = b"G", of: str = "127.0.0.1") -> Iterator[list[socket.socket]]:
    """Connections from one address that say the beginning of something, one after another."""
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", site.settings.port), 20, source_address=(of, 0))
            found.append(stack.enter_context(connection))
            connection.sendall(begun)
            time.sleep(0.01)
        yield found


@pytest.mark.slow
def test_one_stranger_keeps_nobody_out(tmp_path: Path) -> None:
    """Not even in a moment: of a crowd the one goes that has waited longest, and another's stays."""
    with (
        served(tmp_path, http=Crowded, token=TOKEN) as site,
        crowd(site, 1, of="127.0.0.3") as first,
        crowd(site, 40, of="127.0.0.2") as many,
        crowd(site, 1, begun=b"", of="127.0.0.4") as late,
        crowd(site, 1, begun=b"", of="127.0.0.2") as same,
    ):
        assert told(late[0]).endswith(b"200 OK")
        assert told(same[0]).endswith(b"200 OK")
        assert not is_over(first[0])
        assert sum(not is_over(one) for one in many) <= Crowded.limits.connections + Crowded.limits.spare


@pytest.mark.slow
@pytest.mark.parametrize("begun", [b"", b"GET / HT", HEAD + b"Content-Length: 5\r\nOrigin: http://localhost\r\n\r\n"])
def test_a_stranger_has_a_few_connections_that_wait(tmp_path: Path, begun: bytes) -> None:
    begun = begun.replace(b"/api/estimate", b"/signin")
    with served(tmp_path, http=Crowded, token=TOKEN) as site, crowd(site, 4, begun=begun) as first:
        assert not any(is_over(one) for one in first), "in a moment some more: browsers open several at once"
        time.sleep(Crowded.limits.patience)
        with crowd(site, 2, begun=begun) as more:
            assert [is_over(one) for one in [*first, *more]] == [True, True, False, False, False, False]


@pytest.mark.slow
def test_who_is_known_keeps_a_place_and_the_machine_itself_has_some(tmp_path: Path) -> None:
    stream = b"GET /api/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\n\r\n"
    most = Crowded.limits.connections
    with served(tmp_path, http=Crowded, token=TOKEN) as site, crowd(site, most, begun=stream) as streams:
        for one in streams:
            assert one.recv(65536).startswith(b"HTTP/1.1 200")
        time.sleep(Crowded.limits.patience)
        with crowd(site, 10) as _, crowd(site, 1, begun=b"") as last:
            assert told(last[0]).endswith(b"200 OK")
        with crowd(site, Crowded.limits.spare, begun=stream) as more:
            for one in more:
                assert one.recv(65536).startswith(b"HTTP/1.1 200")
            with crowd(site, 1, begun=b"") as last:
                assert told(last[0]).endswith(b"503 Service Unavailable") or is_over(last[0])
        assert not any(is_over(one) for one in streams)


@pytest.mark.slow
def test_visitors_of_a_proxy_are_told_apart(tmp_path: Path) -> None:
    def begun(address: str) -> bytes:
        head = HEAD.replace(b"/api/estimate", b"/signin") + b"Content-Length: 5\r\nOrigin: http://localhost\r\n"
        return head + f"X-Forwarded-For: 10.1.1.1, {address}\r\n\r\n".encode()

    with (
        served(tmp_path, http=Crowded, token=TOKEN, trusted_proxies="127.0.0.1") as site,
        crowd(site, 1, begun=begun("10.0.0.1")) as first,
        crowd(site, 20, begun=begun("10.0.0.2")) as many,
        crowd(site, 1, begun=b"") as late,
    ):
        assert told(late[0], b"X-Forwarded-For: 10.0.0.3\r\n").endswith(b"200 OK")
        assert not is_over(first[0])
        assert sum(not is_over(one) for one in many) <= Crowded.limits.connections + Crowded.limits.spare


@pytest.mark.slow
def test_who_does_not_take_an_answer_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., None]
) -> None:
    held: list[bool] = []
    pause = Hasty.pause_writing
    monkeypatch.setattr(Hasty, "pause_writing", lambda protocol: (held.append(True), pause(protocol))[1])
    with served(tmp_path, http=Hasty) as site, connected(site) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        asking = time.monotonic()
        with contextlib.suppress(ConnectionResetError):  # on a busy machine it is let go while it asks on
            while not held and time.monotonic() - asking < 10:
                connection.sendall(b"GET /api/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
                time.sleep(0.1)

        def gone() -> bool:
            try:
                connection.send(b"\r\n")
            except OSError:
                return True
            return False

        assert held
        wait_until(gone, 10, "the connection's end")


def test_streams_of_one_address_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., None]
) -> None:
    monkeypatch.setattr(events, "MOST_STREAMS", 3)
    reading: list[Iterator[str]] = []
    with (
        served(tmp_path, trusted_proxies="127.0.0.1", token=TOKEN) as site,
        site.client(headers={"Authorization": f"Bearer {TOKEN}"}) as client,
        contextlib.ExitStack() as stack,
    ):

        def opened(**headers: str) -> int:
            said = {name.replace("_", "-"): value for name, value in headers.items()}
            answer = stack.enter_context(client.stream("GET", "/api/events", headers=said))
            if answer.status_code == 200:
                reading.append(lines := answer.iter_lines())  # one that is forgotten closes its stream
                next(lines)
            return answer.status_code

        # of several addresses the last counts, which the proxy wrote
        assert [opened(X_Forwarded_For=f"10.9.9.{i}, 10.0.0.1") for i in range(4)] == [200, 200, 200, 429]
        assert opened(X_Forwarded_For="10.0.0.2") == 200, "another visitor"
        assert [opened() for _ in range(5)] == [200] * 5, "a proxy that tells nobody apart"
        stack.close()
        wait_until(lambda: site.app.state.site.hub.count("10.0.0.1") == 0, 20, "no stream of that address")
        assert opened(X_Forwarded_For="10.0.0.1") == 200


@pytest.mark.slow
def test_streams_that_begin_at_once_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each asks the database before its answer begins, and none may pass while another waits for that."""
    monkeypatch.setattr(events, "MOST_STREAMS", 3)
    asked = b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with served(tmp_path) as site:
        count = 12
        together = threading.Barrier(count, timeout=5)
        first_id = Events.first_id

        def slow(events: Events) -> int:
            found = first_id(events)
            with contextlib.suppress(threading.BrokenBarrierError):
                together.wait(2)
            return found

        monkeypatch.setattr(Events, "first_id", slow)
        with crowd(site, count, begun=asked) as connections:
            said = sorted(one.recv(65536)[:12] for one in connections)
    assert said == [b"HTTP/1.1 200"] * 3 + [b"HTTP/1.1 429"] * (count - 3)


def test_of_ipv6_a_network_has_so_many_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST_STREAMS", 2)
    with served(tmp_path, trusted_proxies="127.0.0.1", token=TOKEN) as site:
        asked = f"GET /api/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        with contextlib.ExitStack() as stack:

            def opened(address: str) -> bytes:
                begun = f"{asked}X-Forwarded-For: {address}\r\n\r\n".encode()
                [one] = stack.enter_context(crowd(site, 1, begun=begun))
                return one.recv(65536)[9:12]

            assert [opened(f"2001:db8:1:2:{i}::1") for i in range(3)] == [b"200", b"200", b"429"]
            assert opened("2001:db8:1:3::1") == b"200"
