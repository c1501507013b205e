"""What every request shares: settings, store, artifacts, the event hub and who keeps the door, in one record.

def endpoint(here: Here) -> Response: ...   # FastAPI hands the record in
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

from anyio import from_thread, to_thread
from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from modescape.artifacts import Artifacts
from modescape.gathering import Intake
from modescape.laboratory import Laboratory
from modescape.making import Maker
from modescape.reports.notes_apart import NoteReader
from modescape.settings import Settings
from modescape.store import Store
from modescape.waiting import Places
from modescape_api.background.fetching import Fetches
from modescape_api.background.hub import Hub
from modescape_api.background.packing import Packing
from modescape_api.background.picture_checks import Lookings
from modescape_api.background.plugins import Plugins
from modescape_api.http.identity import Doorkeeper


@dataclass(frozen=True)
class Site:
    laboratory: Laboratory
    hub: Hub
    fetches: Fetches
    lookings: Lookings
    plugins: Plugins
    door: Doorkeeper
    maker: Maker
    packing: Packing
    notes: NoteReader

    @property
    def settings(self) -> Settings:
        return self.laboratory.settings

    @property
    def store(self) -> Store:
        return self.laboratory.store

    @property
    def artifacts(self) -> Artifacts:
        return self.laboratory.artifacts

    @cached_property
    def waiting(self) -> Places:
        """For requests that read files, look through folders and take ensembles in."""
        return Places(32, 16, "many files are being taken in now; try again in a minute")

    @cached_property
    def forms(self) -> Places:
        """For forms with files, each of which is on the disk until it is taken in."""
        return Places(4, 2, "other files are being sent by forms now; try again when they are here")

    @cached_property
    def intake(self) -> Intake:
        """Where ensembles made elsewhere come in."""
        return Intake(self.laboratory)

    @cached_property
    def prices(self) -> dict[str, Any]:
        """What presets cost here, as the launch form remembers it."""
        return {}

    def notify_workers(self, experiment_id: str) -> None:
        """Tell workers that stages may be ready. A lost message costs seconds, not work: the reaper sends it again."""
        from modescape import celery_queue  # Celery is loaded by the first launch, not by the first page

        celery_queue.dispatch(self.settings, self.store, experiment_id)


async def _site(request: Request) -> Site:  # async: a sync dependency would cost a trip to the thread pool
    here: Site = request.app.state.site
    if here.plugins.is_due:
        await run_in_threadpool(here.plugins.look)
    return here


Here = Annotated[Site, Depends(_site)]


async def _with_a_thread_of_its_own(here: Here) -> AsyncIterator[None]:
    with here.waiting.taken():
        limiter = to_thread.current_default_thread_limiter()
        limiter.total_tokens += 1
        try:
            yield
        finally:
            limiter.total_tokens -= 1


# Of requests that may wait for another process, or a look through a folder: a few of them would hold up all others.
WAITS = [Depends(_with_a_thread_of_its_own)]


def gone(request: Request) -> Callable[[], bool]:
    """To be asked by a thread that works on a request: whether whoever has made it is there no more."""
    return lambda: from_thread.run(request.is_disconnected)
