"""Looks through users' own pictures that this server has begun: one thread each, which waits for a reading process.

A small folder has been looked through when the request is answered; a large one goes on, and `GET /api/data` tells how
far it is.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from modescape.errors import DataCorrupt, InvalidInput, ModescapeError
from modescape.looks import look_at
from modescape.science.look import Look
from modescape.spec import DataSpec
from modescape.store import Store

log = logging.getLogger("modescape.api")

PATIENCE_SECONDS = 20.0  # how long a request waits before it is answered with how far the look is

Row = dict[str, Any]


@dataclass(frozen=True)
class Looking:
    """A look under way or ended. row: what came of it; error: why nothing did; both None while it goes on."""

    name: str
    where: str
    done: int = 0
    of: int = 0
    row: Row | None = None
    error: ModescapeError | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def as_row(self) -> Row:
        """As a data set that is not here yet."""
        how = str(self.error) if self.error else f"its pictures are being looked through: {self.done} of {self.of}"
        progress = None if self.error else {"done": self.done, "of": self.of}
        state = "other" if self.error else "checking"
        return {
            "name": self.name,
            "title": self.name,
            "own": True,
            "dataset": "folder",
            "present": False,
            "state": state,
            "where": self.where,
            "how": how,
            "fetchable": False,
            "fetching": None,
            "looking": progress,
        }


class Lookings:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._known: dict[str, Looking] = {}

    def look(self, name: str, spec: DataSpec, then: Callable[[Look], Row]) -> Looking:
        """Look through a folder and do `then` with what was found; as it is when it ended, or patience did.

        Asked for a name that is being looked through, waits for that one.
        """
        with self._lock:
            known = self._known.get(name)
            if known is None or known.ended.is_set() or known.where != str(spec.path):
                known = self._known[name] = Looking(name, str(spec.path))
                threading.Thread(
                    target=self._look, args=(known, spec, then), name=f"look-{name[:32]}", daemon=True
                ).start()
        known.ended.wait(PATIENCE_SECONDS)
        return self._known.get(name, known)

    def rows(self) -> list[Row]:
        """Those that go on, and those that failed after their request was answered."""
        return [looking.as_row for looking in list(self._known.values()) if looking.row is None]

    def forget(self, name: str) -> None:
        """What was found has been told."""
        with self._lock:
            if name in self._known and self._known[name].ended.is_set():
                del self._known[name]

    def _look(self, looking: Looking, spec: DataSpec, then: Callable[[Look], Row]) -> None:
        def progress(done: int, of: int) -> None:
            self._put(looking, done=done, of=of)

        try:
            found = look_at(self._store, spec, progress=progress)
            if found.problem:
                raise InvalidInput(found.problem, field="path", allowed="pictures that can be decoded")
            self._put(looking, row=then(found))
        except ModescapeError as error:
            self._put(looking, error=error)
        except Exception:
            log.exception("looking through %s failed", looking.where)
            self._put(looking, error=DataCorrupt(f"{looking.where} could not be looked through; the log says why"))
        finally:
            looking.ended.set()

    def _put(self, looking: Looking, **changes: Any) -> None:
        with self._lock:
            now = self._known.get(looking.name)
            if now is not None and now.ended is looking.ended:
                self._known[looking.name] = replace(now, **changes)
