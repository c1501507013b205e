"""What a connection may cost before anybody is known: time for a request's head and body, bytes of a head, and how
many connections there may be, of all and of one address.

Uvicorn waits for ever for a request that has begun. This protocol, a small subclass of its own, does not: who is slower
than `Limits` says is told so (408, 431, 503) and the connection ends. Bodies are counted by whoever reads them. Where
there are too many connections, the one that a stranger has left waiting longest gives way.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import ipaddress
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from modescape import users
from modescape.outage import OnceAMinute

_ASKER = "modescape.asker"


@dataclass(frozen=True)
class Limits:
    """head_seconds: until a request's head is there, from the connection or its first byte on; body_seconds: for a body
    in whole, and of one that is sent in a long row of blocks (`PUT`, or announced as longer than `small_body`) by
    somebody who is known, until that one is answered, for each `progress` bytes; the same for a client to take what is
    sent to it; head_bytes: of a head, and of what is neither head nor body: lengths of chunks, trailers; pipelined:
    requests that wait behind one that is being answered; strangers: connections of an address that wait for its next
    word, before the one that has waited longest gives way, if it has for `patience` seconds; connections: of all,
    before the address that has most such ones gives one up; spare: beyond those, for this machine itself."""

    head_seconds: float = 10.0
    body_seconds: float = 60.0
    progress: int = 4096
    small_body: int = 1_048_576
    head_bytes: int = 65_536
    headers: int = 128
    pipelined: int = 4
    strangers: int = 128
    patience: float = 1.0
    connections: int = 512
    spare: int = 8


@dataclass
class _Asker:
    """What the application tells a connection of who has made a request. place: the address, as it is counted;
    was_known: who has made one before it over the same connection."""

    place: str
    is_known: bool = False
    was_known: bool = False


def is_known(scope: Scope) -> None:
    """Who has made this request may come in: a long body of theirs may take its time, and nobody takes their place."""
    if _ASKER in scope:  # not where another server calls the application
        scope[_ASKER].is_known = True


def comes_from(scope: Scope, address: str) -> None:
    """The address of the visitor for whom a proxy has made this request."""
    if _ASKER in scope:
        scope[_ASKER].place = users.of_address(address)


class _OfStrangers(OnceAMinute):
    """Uvicorn warns of each request that is none; what fails here it calls an error."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno != logging.WARNING or super().filter(record)


@contextlib.contextmanager
def saying_little() -> Iterator[None]:
    """Until the block ends strangers write a line a minute into the log, not one for each of their requests."""
    log, seldom = logging.getLogger("uvicorn.error"), _OfStrangers()
    log.addFilter(seldom)
    try:
        yield
    finally:
        log.removeFilter(seldom)


class Protocol(HttpToolsProtocol):
    """Uvicorn's, with limits."""

    limits = Limits()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]  # uvicorn's own says Transport
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._reads_head = True
        self._bare = self._came = 0  # bytes since a head was complete or some of a body came; bytes of the body
        self._wrong: int | None = None
        self._asker = _Asker(users.of_address(self.client[0] if self.client else ""))
        self._since = self.loop.time()  # it waits for the client
        self._is_deaf = False
        if not self._finds_room():
            self._refuse(503)
            return
        self._wait(self.limits.head_seconds, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait(None)
        self.resume_writing()
        super().connection_lost(exc)

    # -- crowds --

    def _finds_room(self) -> bool:
        """Whether there is room for this connection, or has been made."""
        if len(self.connections) <= min(self.limits.strangers, self.limits.connections):
            return True
        living = [one for one in self.connections if isinstance(one, Protocol) and not one.transport.is_closing()]
        waiting = sorted((one for one in living if one is not self and one._waits), key=lambda one: one._since)
        of_place = Counter(one._asker.place for one in waiting)
        here = self._asker.place
        if of_place[here] >= self.limits.strangers:
            longest = next(one for one in waiting if one._asker.place == here)
            if self.loop.time() - longest._since >= self.limits.patience:
                longest._give_way()
                return True
        is_here = self.client is not None and ipaddress.ip_address(self.client[0]).is_loopback
        if len(living) <= self.limits.connections + (self.limits.spare if is_here else 0):
            return True
        if not waiting:
            return False
        of_place[here] += 1 if of_place[here] else 0  # this one
        most = max(of_place.values())
        next(one for one in waiting if of_place[one._asker.place] == most)._give_way()
        return True

    @property
    def _waits(self) -> bool:
        """Whether it is a stranger's, whose turn it is."""
        if self._asker.is_known or self._asker.was_known:
            return False
        cycle = self.cycle
        return cycle is None or cycle.response_complete or cycle.more_body or self.flow.write_paused

    def _give_way(self) -> None:
        if self.flow.write_paused:
            self.transport.abort()
        else:
            self._end(503)

    # -- the head --

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        if self._reads_head and self._timer is None:  # a further request of a connection that was kept
            self._wait(self.limits.head_seconds, self._head_is_late)
        self._bare += len(data)
        super().data_received(data)
        if self._bare > self.limits.head_bytes and not (self._is_deaf or self.transport.is_closing()):
            self._end(431)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        before = self._asker
        self._asker = _Asker(before.place, was_known=before.was_known or before.is_known)
        self.scope[_ASKER] = self._asker  # type: ignore[literal-required]

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(self.url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)  # of trailers, too
        self._count(len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers[-1:]))

    def on_headers_complete(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        self._count(size)
        if len(self.pipeline) >= self.limits.pipelined:
            self._hear_no_more()
        self._reads_head, self._bare, self._came = False, 0, 0
        super().on_headers_complete()
        headers = dict(self.headers)
        length = headers.get(b"content-length", b"0")
        is_long = self.scope["method"] == "PUT" or (length.isdigit() and int(length[:18]) > self.limits.small_body)
        self._wait(self.limits.body_seconds, self._body_is_late, is_long)

    def _count(self, size: int) -> None:
        """The parser asks for nothing more once this has raised, and `send_400_response` says why."""
        if size > self.limits.head_bytes or len(self.headers) > self.limits.headers:
            self._wrong = 431
            raise ValueError("a head that is too large")

    def _hear_no_more(self) -> None:
        """Whoever asks on without waiting for answers gets those to what has been taken in, and the last one closes.
        Each request is some kilobytes here, and hundreds are in one block."""
        self._is_deaf = True
        self.cycle.keep_alive = False
        self._wait(None)
        raise ValueError("too many requests that wait for an answer")

    def send_400_response(self, msg: str) -> None:
        if self._is_deaf:
            return
        if self._wrong is None:
            super().send_400_response(msg)
        else:
            self._end(self._wrong)

    def on_response_complete(self) -> None:
        if self.cycle.response_complete:
            self.cycle.body = bytearray()  # nobody reads it any more, and the connection may last
        self._since = self.loop.time()
        super().on_response_complete()
        if self.pipeline:  # uvicorn reads on after each answer, however many requests wait
            self.flow.pause_reading()

    def _head_is_late(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self._refuse(408)

    # -- the body --

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._bare = 0
        self._came += len(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._reads_head, self._bare = True, 0
        self._wait(None)

    def _body_is_late(self, is_long: bool) -> None:
        is_wanted = is_long and self._asker.is_known and not self.cycle.response_complete
        if self.flow.read_paused or (is_wanted and self._came >= self.limits.progress):
            self._came = 0  # it is we who are slow, or it comes
            self._wait(self.limits.body_seconds, self._body_is_late, is_long)
        else:
            self._end(408)

    # -- who does not take what is sent --

    def pause_writing(self) -> None:
        super().pause_writing()
        self._writing = self.loop.call_later(self.limits.body_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    # -- --

    def _wait(self, seconds: float | None, late: Any = None, *arguments: Any) -> None:
        """The one timer of a connection: another takes the place of the one before, None ends it."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, late, *arguments)

    def _end(self, status: int) -> None:
        """The connection, in the middle of a request: who is at work on it learns that no more of it comes."""
        if self.cycle is None or self.cycle.response_complete:
            self._refuse(status)
        elif self.cycle.response_started:
            self.transport.close()
        else:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._refuse(status)

    def _refuse(self, status: int) -> None:
        phrase = http.HTTPStatus(status).phrase
        said = f"{phrase}\n"
        head = (f"HTTP/1.1 {status} {phrase}", "content-type: text/plain; charset=utf-8",
                f"content-length: {len(said)}", "retry-after: 5", "connection: close")  # fmt: skip
        self.transport.write("\r\n".join([*head, "", said]).encode())
        self.transport.close()
