"""One poller of the events for all who listen: asleep while nobody does."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator

from modescape import users
from modescape.database import UNAVAILABLE
from modescape.outage import DATABASE, LOOPS
from modescape.store import Store

POLL_SECONDS = 0.5


class Hub:
    """Knows the newest event id while anybody listens; asks the database twice a second, once for all listeners."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._listeners = 0
        self._of: Counter[str | None] = Counter()  # streams by address
        self._awake = asyncio.Event()
        self._news = asyncio.Event()
        self.last = 0
        self.reads = True  # whether its last look found the database

    async def run(self) -> None:
        """Poll until cancelled; asleep while nobody listens. A database that is away for a while is asked again."""
        while True:
            await self._awake.wait()
            try:
                self._tell(await asyncio.to_thread(self._store.events.last_id))
                self.reads = True
            except UNAVAILABLE as error:
                self.reads = False
                DATABASE.away(error)
            except Exception:  # whatever it was, live pages need this loop
                self.reads = False
                LOOPS.exception("the newest event could not be read; asked again in a moment")
            await asyncio.sleep(POLL_SECONDS)

    def _tell(self, newest: int) -> None:
        """Wakes who waits: of each event its own, so that nobody who leaves while waiting holds what others need."""
        if newest != self.last:
            self.last = newest
            self._news.set()
            self._news = asyncio.Event()

    def count(self, address: str | None) -> int:
        """How many streams an address has, of IPv6 its network; 0 of one that is not known."""
        return 0 if address is None else self._of[users.of_address(address)]

    @contextlib.contextmanager
    def counted(self, address: str | None) -> Iterator[None]:
        """One stream more of an address, until the block ends."""
        place = None if address is None else users.of_address(address)
        self._of[place] += 1
        try:
            yield
        finally:
            self._of[place] -= 1
            if not self._of[place]:
                del self._of[place]

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        self._listeners += 1
        try:  # from here on: a page that is left while its stream begins must not be counted for ever
            if not self._awake.is_set():
                self.last = await asyncio.to_thread(self._store.events.last_id)
                self._awake.set()
            yield
        finally:
            self._listeners -= 1
            if self._listeners == 0:
                self._awake.clear()

    async def wait_for_event(self, seen: int, *, seconds: float) -> bool:
        """Wait until there is an event after `seen`; False when `seconds` passed without one."""
        try:
            async with asyncio.timeout(seconds):
                while self.last <= seen:
                    await self._news.wait()
        except TimeoutError:
            return False
        return True
