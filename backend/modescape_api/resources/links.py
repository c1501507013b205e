"""Links over HTTP by which one experiment, report or view can be read."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field

from modescape import users
from modescape.acting import UserRole
from modescape.errors import InvalidInput
from modescape.records import Json
from modescape.tables import SharedLink
from modescape_api.http import problems, replies, sharing
from modescape_api.http.bodies import Body, Name, body, documented
from modescape_api.http.identity import needs
from modescape_api.http.proxies import at
from modescape_api.http.site import Here, Site
from modescape_api.resources.examples import Example, answer, listing

router = APIRouter(tags=["links"])

COLUMNS = ("id", "kind", "target", "name", "created_by", "created_at", "expires_at", "used_at",
           "without_sign_in")  # fmt: skip
DAYS, MOST_DAYS = 30, 366


class NewLink(Body):
    """A link by which one thing can be read."""

    to: str = Field(
        max_length=2000, description="The address of an experiment, a report, a sweep, or of a list, plot or "
        "comparison with its query: /compare?e=a&e=b.",
    )  # fmt: skip
    name: Name = Field(description="For whom or what it is, by which it is found again.")
    days: int = Field(DAYS, ge=1, le=MOST_DAYS, description="Until it ends.")
    without_sign_in: bool = Field(
        False, description="Whoever has it reads without signing in; only where MODESCAPE_OPEN_LINKS allows that."
    )


def as_link(row: SharedLink) -> Json:
    return replies.picked(row, *COLUMNS)


def add_link(here: Site, asked: NewLink) -> tuple[SharedLink, str]:
    """The link, and its path, told once. Raises InvalidInput, NotFound, Forbidden."""
    if asked.without_sign_in and not here.settings.open_links:
        said = "whoever runs this server does not let links be read without signing in"
        raise InvalidInput(said, field="without_sign_in", allowed="false")
    led, secret = sharing.led(here.store, asked.to), users.new_secret()
    row = here.store.links.add(
        led.kind, led.address, asked.name, users.digest(secret), timedelta(days=asked.days), led.things,
        without_sign_in=asked.without_sign_in,
    )  # fmt: skip
    return row, f"/s/{secret}"


@router.get("/api/links", summary="Links that you shared; for an admin, all", responses=listing("links"))
def every(request: Request, here: Here) -> Response:
    rows = [as_link(row) for row in here.store.links.all()]
    return replies.whole(request, rows, "Links", columns=COLUMNS, name="links")


@router.post(
    "/api/links",
    status_code=201,
    summary="Share one experiment, report or view",
    description="`url` is told here and never again. Whoever opens it reads that one thing and changes nothing: after "
    "signing in, or without, where `without_sign_in` is true. It ends with what it leads to, and holds while you may "
    "share; a list that asks for nothing is for admins to share.",
    openapi_extra=documented(NewLink, Example("ask-link")),
    responses={
        201: answer("Shared", "link"),
        **problems.documented("malformed", "forbidden", "not-found", "too-large", "wrong-media-type", "invalid-input"),
    },
)
def add(request: Request, here: Here, asked: Annotated[NewLink, body(NewLink)]) -> Response:
    row, path = add_link(here, asked)
    url = str(request.base_url).rstrip("/") + at(path)
    return replies.json({**as_link(row), "url": url}, status=201, headers={"cache-control": "no-store"})


@router.delete(
    "/api/links/{link}",
    status_code=204,
    summary="Revoke a link",
    responses={204: {"description": "Nobody reads anything by it"}, **problems.documented("not-found")},
)
@needs(UserRole.VIEWER)
def revoke(here: Here, link: str) -> Response:
    here.store.links.revoke(link)
    return Response(status_code=204)
