"""Writes what requests that only read have left to be written: now and then, and when the server ends."""

from __future__ import annotations

import asyncio

from modescape.database import UNAVAILABLE
from modescape.outage import DATABASE, LOOPS
from modescape.store import Store

EVERY_SECONDS = 60.0


async def noting(store: Store) -> None:
    """Until cancelled; what cannot be written now waits for the next time."""
    while True:
        await asyncio.sleep(EVERY_SECONDS)
        try:
            await asyncio.to_thread(write, store)
        except RuntimeError:  # no thread can be begun now
            LOOPS.exception("when secrets were last shown could not be written; tried again in a minute")


def write(store: Store) -> None:
    for what in (store.users.write_shown, store.links.write_followed):
        try:
            what()
        except UNAVAILABLE as error:
            DATABASE.away(error)
        except Exception:  # whatever it was: the loop goes on
            LOOPS.exception("when secrets were last shown could not be written; tried again in a minute")
