"""Looks through users' own pictures that this server has begun: one thread each, which waits for a reading process.

A small folder has been looked through when the request is answered; a large one goes on, and `GET /api/data` tells how
far it is.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextvars import copy_context
from dataclasses import dataclass, field

from modescape.acting import actor
from modescape.errors import Busy, DataCorrupt, InvalidInput, ModescapeError
from modescape.kept_picture_checks import check_once
from modescape.records import Json
from modescape.science.data.picture_check import PictureCheck
from modescape.spec_parts import DataSpec
from modescape.store import Store

log = logging.getLogger("modescape.api")

MOST, MOST_OF_ONE = 8, 4  # that go on at once, each a thread and a process: of all, and of one who asks
PATIENCE_SECONDS = 20.0  # how long a request waits before it is answered with how far the look is

Row = Json  # a data set, as the API says it


@dataclass
class Looking:
    """A look under way or ended. who: has asked; found: what came of it, or why nothing did."""

    name: str
    where: str
    who: str
    done: int = 0
    of: int = 0
    found: Future[Row] = field(default_factory=Future)

    @property
    def error(self) -> BaseException | None:
        return self.found.exception() if self.found.done() else None

    @property
    def registered(self) -> bool:
        return self.found.done() and self.found.exception() is None

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

    def look(self, name: str, spec: DataSpec, then: Callable[[PictureCheck], Row]) -> Row:
        """Look through a folder and do `then` with what was found: the row, or how far it is when patience ended.

        Asked for a name that is being looked through, waits for that one. Raises what `then` and the look raise, and
        Busy where many others go on.
        """
        with self._lock:
            looking = self._known.get(name)
            if looking is None or looking.found.done() or looking.where != str(spec.path):
                self._check_few(who := actor().name)
                looking = self._known[name] = Looking(name, str(spec.path), who)
                in_their_name = copy_context().run
                try:
                    threading.Thread(
                        target=in_their_name, args=(self._look, looking, spec, then), name=f"look-{name[:32]}",
                        daemon=True,
                    ).start()  # fmt: skip
                except BaseException:
                    del self._known[name]  # nobody looks
                    raise
        wait_for([looking.found], PATIENCE_SECONDS)
        if not looking.found.done():
            return looking.as_row
        with self._lock:
            if self._known.get(name) is looking:
                del self._known[name]  # what was found is told now
        return looking.found.result()

    def _check_few(self, who: str) -> None:
        under_way = [one.who for one in self._known.values() if not one.found.done()]
        if len(under_way) >= MOST or under_way.count(who) >= MOST_OF_ONE:
            raise Busy("other folders are being looked through now; try again when one is done")

    def rows(self) -> list[Row]:
        """Those that go on, and those that failed after their request was answered."""
        return [looking.as_row for looking in list(self._known.values()) if not looking.registered]

    def _look(self, looking: Looking, spec: DataSpec, then: Callable[[PictureCheck], Row]) -> None:
        def progress(done: int, of: int) -> None:
            looking.done, looking.of = done, of

        try:
            found = check_once(self._store, spec, progress=progress)
            if found.problem:
                raise InvalidInput(found.problem, field="path", allowed="pictures that can be decoded")
            looking.found.set_result(then(found))
        except ModescapeError as error:
            looking.found.set_exception(error)
        except Exception:
            log.exception("looking through %s failed", looking.where)
            looking.found.set_exception(DataCorrupt(f"{looking.where} could not be looked through; the log says why"))
