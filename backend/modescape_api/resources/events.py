"""What happened, as it happens: one poller for all listeners, server-sent events resumed by id, the same as JSON.

A listener that was away sends the last id it saw (`Last-Event-ID`, which browsers do by themselves) and gets
everything since. An id newer than anything here means another database, one older than anything kept means too long
an absence: the answer is a `reset` event, and the page reloads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from starlette.types import Receive, Scope, Send

from modescape.database import UNAVAILABLE
from modescape.outage import DATABASE
from modescape.records import Json
from modescape.tables import Event
from modescape_api.background.hub import POLL_SECONDS
from modescape_api.http import problems, replies
from modescape_api.http.proxies import ADDRESS
from modescape_api.http.refusal import Refusal
from modescape_api.http.site import Here, Site
from modescape_api.resources.examples import Example

PING_SECONDS = 15.0
BATCH = 500
MAX_ID = 2**63 - 1
MOST_STREAMS = 64  # to one address: each holds a connection until its page is left

router = APIRouter(tags=["events"])


_STREAM = {
    200: {
        "description": "A stream of events, or with `after` and without `Accept: text/event-stream` the same as JSON.",
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"},
                "example": 'event: stage-succeeded\nid: 42\ndata: {"kind":"train","key":"0"}\n\n',
            },
            "application/json": {
                "schema": {"type": "object"},
                "example": Example("events"),
            },
        },
    },
    **problems.documented("not-found", "invalid-input", "too-many"),
}

After = Annotated[int | None, Query(ge=0, le=MAX_ID, description="Answer with the events after this id.")]
Pings = Annotated[bool, Query(description="Send an event `ping`, too, while the stream has nothing else to tell.")]
LastEventId = Annotated[str | None, Header(description="Where a stream was broken off; browsers send it themselves.")]


@router.get("/api/events", summary="Events of all experiments", responses=_STREAM)
async def events(
    request: Request, here: Here, after: After = None, pings: Pings = False, last_event_id: LastEventId = None
) -> Response:
    return await _answer(request, here, None, after, last_event_id, pings)


@router.get("/api/experiments/{experiment}/events", summary="Events of one experiment", responses=_STREAM)
async def experiment_events(
    request: Request,
    here: Here,
    experiment: str,
    after: After = None,
    pings: Pings = False,
    last_event_id: LastEventId = None,
) -> Response:
    found = await asyncio.to_thread(here.store.experiments.get, experiment)
    return await _answer(request, here, found.id, after, last_event_id, pings)


async def _answer(
    request: Request, here: Site, experiment_id: str | None, after: int | None, last_event_id: str | None, pings: bool
) -> Response:
    if after is not None and "text/event-stream" not in replies.accepted(request):
        rows = await asyncio.to_thread(here.store.events.after, after, experiment_id=experiment_id, limit=BATCH)
        newest = str(rows[-1].id) if rows else str(after)
        return replies.json(
            {
                "items": [as_dict(row) for row in rows],
                "next": newest,
                "total": len(rows),
                "query": f"Events after {after}",
            }
        )
    if last_event_id is not None and (seen := _id_of(last_event_id)) is not None:
        after = seen
    oldest = await asyncio.to_thread(here.store.events.first_id)  # before the answer begins: it may be a 503
    return _Counted(here, _stream(request, here, experiment_id, after, oldest, pings))


class _Counted(EventSourceResponse):
    """Asks whether its address may have one more, and counts it, without a wait between: many begin at once."""

    def __init__(self, here: Site, stream: AsyncIterator[bytes]) -> None:
        super().__init__(stream, headers={"cache-control": "no-cache, no-transform", "x-accel-buffering": "no"})
        self._here = here

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        address = scope.get(ADDRESS)
        if self._here.hub.count(address) >= MOST_STREAMS:
            said = f"{MOST_STREAMS} streams of events are open to {address} already"
            raise Refusal("too-many", said, headers={"retry-after": "5"})
        with self._here.hub.counted(address):
            await super().__call__(scope, receive, send)


def _id_of(text: str) -> int | None:
    """The id that a listener says it saw; None of anything else, which starts a stream anew."""
    is_one = text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_ID))
    return int(text) if is_one and int(text) <= MAX_ID else None


async def _holds(request: Request, here: Site) -> bool:
    """Whether who has opened a stream may still come in: they may have signed out, or be kept out."""
    try:
        return await here.door.who(request) is not None
    except Refusal:
        return False
    except UNAVAILABLE:  # it cannot be told now
        return True


async def _stream(
    request: Request, here: Site, experiment_id: str | None, after: int | None, oldest: int, pings: bool
) -> AsyncIterator[bytes]:
    """Ends once who has opened it may not come in any more.

    pings: as events, with the seconds between two, by which a page notices that none comes any more. While the hub
    cannot read there are none: the line is there, and nothing would be heard over it.
    """
    asked = time.monotonic()
    ping = format_sse_event(event="ping", data_str=f'{{"seconds":{PING_SECONDS}}}') if pings else KEEPALIVE_COMMENT
    async with here.hub.listening():
        newest = here.hub.last
        if after is not None and after > newest:  # the page was made between two looks of the poller
            newest = await asyncio.to_thread(here.store.events.last_id)
        seen = newest if after is None else after
        yield format_sse_event(comment="modescape", retry=2000)
        if seen > newest or seen < oldest - 1:
            yield format_sse_event(event="reset", data_str="{}", id=str(newest))
            seen = newest
        if pings:
            yield ping
        while True:
            if time.monotonic() - asked >= PING_SECONDS:
                if not await _holds(request, here):
                    return
                asked = time.monotonic()
            upto = here.hub.last
            rows: Sequence[Event] = []
            if upto > seen:
                try:
                    rows = await asyncio.to_thread(
                        here.store.events.after, seen, experiment_id=experiment_id, limit=BATCH
                    )
                except UNAVAILABLE as error:  # an open stream waits for the database to come back
                    DATABASE.away(error)
                    yield KEEPALIVE_COMMENT
                    await asyncio.sleep(4 * POLL_SECONDS)
                    continue
            for row in rows:
                seen = row.id
                yield format_sse_event(event=row.kind, data_str=replies.encode(as_dict(row)).decode(), id=str(row.id))
            if len(rows) < BATCH:
                seen = max(seen, upto)  # the rest up to here belongs to other experiments
                if not await here.hub.wait_for_event(seen, seconds=PING_SECONDS):
                    yield ping if here.hub.reads else KEEPALIVE_COMMENT


def as_dict(row: Event) -> Json:
    of = {"experiment": row.experiment_id, "stage": row.stage_id}
    return {**replies.picked(row, "id", "kind"), **of, **replies.picked(row, "payload", "at")}
