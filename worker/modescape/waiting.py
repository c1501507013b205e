"""Places in which threads wait for what takes long: so many of all, so many of one who asks.

    places = Places(12, 8, "many files are being read now; try again in a minute")
    with places.taken(): ...                # Busy where there is none

A thread costs memory, and a system allows only so many: without an end to them, whoever asks often enough for what is
waited for stops a server for everybody.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from modescape.acting import actor
from modescape.errors import Busy

Aside = Callable[[], AbstractContextManager[None]]


class Places:
    """of_all, of_one: how many there are; said: to whom gets none; aside: is entered by a thread for as long as it has
    one, so that another one works in its stead."""

    def __init__(self, of_all: int, of_one: int, said: str, aside: Aside = nullcontext) -> None:
        self._of_all, self._of_one, self._said, self._aside = of_all, of_one, said, aside
        self._taken: Counter[str] = Counter()  # by the name of who asks
        self._lock = threading.Lock()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """One of them, until the block ends. Raises Busy."""
        who = actor().name
        with self._lock:
            if self._taken.total() >= self._of_all or self._taken[who] >= self._of_one:
                raise Busy(self._said)
            self._taken[who] += 1
        try:
            with self._aside():
                yield
        finally:
            with self._lock:
                self._taken -= Counter([who])  # which forgets those who have none
