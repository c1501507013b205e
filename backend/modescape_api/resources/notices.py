"""Where it is told that experiments have ended: addresses of programs and people, by admins."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field

from modescape import notices
from modescape.acting import UserRole
from modescape.errors import InvalidInput
from modescape.records import Json
from modescape.store.notices import ENDINGS
from modescape.tables import Notice, Recipient
from modescape_api.http import problems, replies
from modescape_api.http.bodies import Body, body, documented
from modescape_api.http.identity import needs
from modescape_api.http.site import Here, Site
from modescape_api.resources.examples import Example, answer, listing

router = APIRouter(tags=["notices"])

COLUMNS = ("id", "address", "endings", "created_by", "created_at")


class NewRecipient(Body):
    """An address that is told when experiments end."""

    address: str = Field(
        max_length=2000, description="The address of a webhook (https), or a mail address where MODESCAPE_SMTP_URL is "
        "set. Hosts that are not public must be in MODESCAPE_NOTIFY_HOSTS.",
    )  # fmt: skip
    endings: tuple[str, ...] = Field(
        ENDINGS, min_length=1, max_length=len(ENDINGS), description=f"Of which endings: {', '.join(ENDINGS)}."
    )


def as_recipient(row: Recipient) -> Json:
    return replies.picked(row, *COLUMNS)


def as_notice(row: Notice) -> Json:
    """state: told, waiting or given-up."""
    state = "told" if row.told_at else "waiting" if row.next_at else "given-up"
    fields = ("id", "attempts", "created_at", "next_at", "told_at", "error", "payload")
    return {**replies.picked(row, *fields), "state": state}


def add_recipient(here: Site, asked: NewRecipient) -> Recipient:
    """Raises InvalidInput, Forbidden."""
    if wrong := [one for one in asked.endings if one not in ENDINGS]:
        raise InvalidInput(f"is {wrong[0]!r}", field="endings", allowed=", ".join(ENDINGS))
    settings = here.settings
    address = notices.checked_address(
        asked.address, notices.hosts_of(settings.notify_hosts), mails=settings.smtp_url is not None
    )
    return here.store.notices.add(address, list(dict.fromkeys(asked.endings)), notices.new_secret())


@router.get(
    "/api/recipients", summary="Where it is told that experiments end", responses=listing("recipients", "forbidden")
)
@needs(UserRole.ADMIN)
def every(request: Request, here: Here) -> Response:
    rows = [as_recipient(row) for row in here.store.notices.recipients()]
    return replies.whole(request, rows, "Addresses", columns=COLUMNS, name="recipients")


@router.post(
    "/api/recipients",
    status_code=201,
    summary="Tell an address when experiments end",
    description="`secret` is told here and never again: messages are signed with it (Standard Webhooks 1.0: "
    "`webhook-id`, `webhook-timestamp`, `webhook-signature`). What does not arrive is sent again for a day.",
    openapi_extra=documented(NewRecipient, Example("ask-recipient")),
    responses={
        201: answer("Added", "recipient"),
        **problems.documented("malformed", "forbidden", "too-large", "wrong-media-type", "invalid-input"),
    },
)
@needs(UserRole.ADMIN)
def add(here: Here, asked: Annotated[NewRecipient, body(NewRecipient)]) -> Response:
    row = add_recipient(here, asked)
    return replies.json({**as_recipient(row), "secret": row.secret}, status=201, headers={"cache-control": "no-store"})


@router.delete(
    "/api/recipients/{recipient}",
    status_code=204,
    summary="Tell an address no more",
    responses={204: {"description": "It hears no more"}, **problems.documented("forbidden", "not-found")},
)
@needs(UserRole.ADMIN)
def remove(here: Here, recipient: str) -> Response:
    here.store.notices.remove(recipient)
    return Response(status_code=204)


@router.post(
    "/api/recipients/{recipient}/test",
    status_code=202,
    summary="Send an address a message to try it",
    responses={202: answer("It is on its way", "notice"), **problems.documented("forbidden", "not-found")},
)
@needs(UserRole.ADMIN)
def test(here: Here, recipient: str) -> Response:
    return replies.json(as_notice(here.store.notices.test(recipient)), status=202)


@router.get(
    "/api/recipients/{recipient}/notices",
    summary="What an address was told lately, or is to be",
    responses=listing("notices", "forbidden", "not-found"),
)
@needs(UserRole.ADMIN)
def told(request: Request, here: Here, recipient: str) -> Response:
    rows = [as_notice(row) for row in here.store.notices.of(recipient)]
    columns = ("id", "state", "attempts", "created_at", "next_at", "told_at", "error", "payload")
    return replies.whole(request, rows, "Messages, newest first", columns=columns, name="notices")
