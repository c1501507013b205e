"""Downloads of public data sets that this server has begun, one thread each."""

from __future__ import annotations

import logging
import threading
from contextvars import copy_context
from dataclasses import dataclass, replace
from pathlib import Path

from modescape.errors import Conflict, ModescapeError

log = logging.getLogger("modescape.api")


@dataclass(frozen=True)
class Fetching:
    """A download under way or ended. error: why it ended without the set; None otherwise."""

    name: str
    done: int = 0
    total: int = 0
    finished: bool = False
    error: str | None = None


class Fetches:
    """Downloads this process does, one thread each; a set is fetched once at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._known: dict[str, Fetching] = {}

    def start(self, name: str) -> Fetching:
        """Raises Conflict while that set is on its way."""
        with self._lock:
            known = self._known.get(name)
            if known is not None and not known.finished:
                raise Conflict(f"{name} is being fetched: {known.done} of {known.total} bytes")
            self._known[name] = Fetching(name)
        in_their_name = copy_context().run
        try:
            threading.Thread(target=in_their_name, args=(self._fetch, name), name=f"fetch-{name}", daemon=True).start()
        except BaseException:
            self._known[name] = Fetching(name, finished=True, error="it could not be begun; ask again in a minute")
            raise
        return self._known[name]

    def state(self, name: str) -> Fetching | None:
        return self._known.get(name)

    def _fetch(self, name: str) -> None:
        from modescape.datasets.here import fetch

        def progress(done: int, total: int) -> None:
            self._known[name] = replace(self._known[name], done=done, total=total)

        try:
            fetch(name, self._folder, progress)
        except (ModescapeError, OSError) as error:
            log.warning("fetching %s failed: %s", name, error)
            self._known[name] = replace(self._known[name], finished=True, error=str(error))
        except Exception:  # else it would be fetched for ever, as far as anybody can tell
            log.exception("fetching %s failed", name)
            said = "it could not be fetched; the server's log has the details"
            self._known[name] = replace(self._known[name], finished=True, error=said)
        else:
            self._known[name] = replace(self._known[name], finished=True)
