"""Services that are away for a while: one line a minute says so, one line that they are back.

BROKER.away(error)      # a warning, at most once a minute
BROKER.back()           # one line if it was away
"""

from __future__ import annotations

import logging
import threading
import time

EVERY_SECONDS = 60.0


class Outage:
    """What this process knows of one service. Of an error only the driver's first line is said: no SQL, no values."""

    def __init__(self, service: str, *, every_seconds: float = EVERY_SECONDS) -> None:
        self._service = service
        self._every = every_seconds
        self._log = logging.getLogger("modescape.outage")
        self._lock = threading.Lock()
        self._said_at: float | None = None  # None: it answers

    def away(self, error: BaseException) -> None:
        now = time.monotonic()
        with self._lock:
            if self._said_at is not None and now - self._said_at < self._every:
                return
            self._said_at = now
        self._log.warning("the %s does not answer (%s); trying again", self._service, first_line(error))

    def back(self) -> None:
        with self._lock:
            was_away, self._said_at = self._said_at is not None, None
        if was_away:
            self._log.warning("the %s answers again", self._service)


class OnceAMinute(logging.Filter):
    """For a library that reports every attempt to reconnect."""

    def __init__(self) -> None:
        super().__init__()
        self._passed_at: float | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        if self._passed_at is not None and record.created - self._passed_at < EVERY_SECONDS:
            return False
        self._passed_at = record.created
        return True


def first_line(error: BaseException) -> str:
    """What a driver says, without the statement, its values and the links SQLAlchemy adds."""
    said = str(getattr(error, "orig", None) or error).strip()
    return said.splitlines()[0][:300] if said else type(error).__name__


BROKER = Outage("broker")
DATABASE = Outage("database")
