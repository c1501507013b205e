"""What services write to standard error, a line each: for people, or for programs (MODESCAPE_LOG_FORMAT=json).

    with about(experiment="fig-3", stage="train/0"):
        log.info("began")       # {"at": "…", "level": "info", …, "experiment": "fig-3", "stage": "train/0"}

What a line is about goes with the thread or the request that writes it; lines for people say it in their words.
"""

from __future__ import annotations

import json
import logging
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
