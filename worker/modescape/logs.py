"""What services write to standard error, a line each: for people, or for programs (MODESCAPE_LOG_FORMAT=json).

    with about(experiment="fig-3", stage="train/0"):
        log.info("began")       # {"at": "…", "level": "info", …, "experiment": "fig-3", "stage": "train/0"}

What a line is about goes with the thread or the request that writes it; lines for people say it in their words.
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType

import orjson

from modescape.errors import ConfigurationError

FORMATS = ("text", "json")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
FIELDS = "fields"  # of a record: what it says besides its message

_NOTHING: Mapping[str, object] = MappingProxyType({})
_ABOUT: ContextVar[Mapping[str, object]] = ContextVar("about", default=_NOTHING)


@contextmanager
def about(**what: object) -> Iterator[None]:
    """Lines written inside say so."""
    before = _ABOUT.set({**_ABOUT.get(), **what})
    try:
        yield
    finally:
        _ABOUT.reset(before)


def told() -> Mapping[str, object]:
    """What is written here and now is about."""
    return _ABOUT.get()


class _Json(logging.Formatter):
    """One object a line; no value can begin another line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **told(),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
        except TypeError:  # half a character, which UTF-8 cannot hold
            return json.dumps(line, default=str)


def set_up(level: str, form: str) -> None:
    """For a process that is a service. Raises ConfigurationError."""
    if level.upper() not in LEVELS:
        raise ConfigurationError(f"MODESCAPE_LOG_LEVEL is {level!r}; use {', '.join(LEVELS)}")
    if form not in FORMATS:
        raise ConfigurationError(f"MODESCAPE_LOG_FORMAT is {form!r}; use {', '.join(FORMATS)}")
    handler = logging.StreamHandler()
    people = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(_Json() if form == "json" else people)
    logging.basicConfig(level=level.upper(), handlers=[handler])
    for client in ("httpx", "httpcore"):  # an address that is told of an ending may be a secret by itself
        logging.getLogger(client).setLevel(logging.WARNING)


class Seldom:
    """Lines that strangers cause without end: of each kind and place one at once, and then one a minute that says how
    many there were. Of more places than `most` all that come later are one."""

    def __init__(self, log: logging.Logger, *, every_seconds: float = 60.0, most: int = 200) -> None:
        self._log, self._every, self._most = log, every_seconds, most
        self._lock = threading.Lock()
        self._said: dict[tuple[str, str], tuple[float, int]] = {}  # when last, and how many were not said since

    def warning(self, place: str, message: str, *args: object) -> None:
        """place: what one of them has to itself; message: the kind, with the places of `args`."""
        now = time.monotonic()
        with self._lock:
            key = (message, place) if (message, place) in self._said or self._has_room(now) else (message, "")
            at, unsaid = self._said.get(key, (-math.inf, 0))
            is_due = now - at >= self._every
            self._said[key] = (now, 0) if is_due else (at, unsaid + 1)
        if is_due:
            more = f", and {unsaid} more like it" if unsaid else ""
            self._log.warning(message + "%s", *args, more)

    def _has_room(self, now: float) -> bool:
        if len(self._said) >= self._most:
            self._said = {key: (at, unsaid) for key, (at, unsaid) in self._said.items() if now - at < self._every}
        return len(self._said) < self._most
