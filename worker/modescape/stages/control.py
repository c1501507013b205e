"""What a running stage is given to stop when told, to say how far it is, and to do something with others."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from modescape.database import patiently
from modescape.errors import CancelRequested, LeaseLost, PauseRequested, StageInterrupted
from modescape.records import ArtifactInfo, Json, Point, Progress, Wish
from modescape.stages.together import Together
from modescape.store import Store
from modescape.store.leases import Lease


class StageControl:
    """A running stage's way out: stop when told, tell how far it is, save what a later attempt resumes from.

    together: with whom its member is trained; None where it is trained alone; stopping: set once the worker is to end,
    which then waits for no database.
    """

    def __init__(
        self, store: Store, lease: Lease, together: Together | None = None, stopping: threading.Event | None = None
    ) -> None:
        self._store = store
        self._stopping = stopping or threading.Event()
        self.lease = lease
        self.together = together
        self._stop: StageInterrupted | None = None
        self._told: Progress | None = None  # progress that the store does not know yet
        self._memo: str | None = None
        self.signs = 0  # of life that its work has given
        self.has_saved = False  # something to go on from
        self._lock = threading.Lock()

    def begin(self, memo: str) -> None:
        """Work under this stage key. What an earlier attempt saved under another one (an older version of the code,
        other arithmetic) is not gone on from: its bytes would be neither the one's nor the other's."""
        self._memo = memo
        self.signs += 1
        if self.lease.stage.partial.get("memo") != memo:
            self.lease.stage.partial = {}

    def check(self) -> None:
        """Raise StageInterrupted if the stage must stop now. Costs nothing: call it at every step, by which it is known
        that there are any."""
        self.signs += 1
        if self._stop is not None:
            raise self._stop

    def stop(self, reason: StageInterrupted) -> None:
        """Make the next `check` raise `reason`; the first reason stands."""
        with self._lock:
            self._stop = self._stop or reason

    def progress(self, step: int, steps: int, **numbers: Any) -> None:
        """How far the stage is; written soon, by the other thread."""
        self.signs += 1
        with self._lock:
            self._told = Progress(step, steps, numbers)

    def save_partial(
        self,
        partial: Json,
        *,
        points: Mapping[str, Sequence[Point]] | None = None,
        run: int | None = None,
        drop_after_step: int | None = None,
        artifacts: Iterable[ArtifactInfo] = (),
        step: int | None = None,
    ) -> None:
        """`Store.leases.save_partial` with this stage's lease, once the database answers. Raises LeaseLost."""
        self.signs += 1
        self.has_saved = True
        kept = list(artifacts)

        def save() -> Wish | None:
            return self._store.leases.save_partial(
                self.lease, {**partial, "memo": self._memo}, points=points, run=run, drop_after_step=drop_after_step,
                artifacts=kept, step=step,
            )  # fmt: skip

        self.stop_if_asked(patiently(save, until=self._stopping))

    def note(self, kind: str, payload: Json) -> None:
        """An event of the stage's own, once the database answers. Raises LeaseLost."""
        self.signs += 1
        patiently(lambda: self._store.leases.note(self.lease, kind, payload), until=self._stopping)

    def look(self) -> None:
        """Stop if that is wished, or the stage is another worker's now. Only reads."""
        try:
            self.stop_if_asked(self._store.leases.wish(self.lease))
        except LeaseLost as lost:
            self.stop(lost)

    def stop_if_asked(self, wish: Wish | LeaseLost | None) -> None:
        if isinstance(wish, LeaseLost):
            self.stop(wish)
        elif wish is Wish.CANCEL:
            self.stop(CancelRequested("the experiment was cancelled"))
        elif wish is Wish.PAUSE:
            self.stop(PauseRequested("the experiment was paused"))

    def untold(self) -> Progress | None:
        """The latest progress, if it is not written yet; whoever asks writes it."""
        with self._lock:
            told, self._told = self._told, None
        return told

    @property
    def is_lost(self) -> bool:
        """Whether there is nothing to keep any more."""
        return isinstance(self._stop, LeaseLost)

    @property
    def has_progress(self) -> bool:
        return self._told is not None
