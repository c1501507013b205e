"""Views of the list of experiments under a name: everybody's to open, their maker's to change."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field

from modescape.records import Json
from modescape.store.views import LONGEST
from modescape.tables import SavedView
from modescape_api.http import problems, replies
from modescape_api.http.bodies import Body, Name, body, documented
from modescape_api.http.proxies import at
from modescape_api.http.site import Here
from modescape_api.resources.examples import Example, answer, listing

router = APIRouter(tags=["experiments"])

COLUMNS = ("slug", "name", "query", "created_by", "created_at")


class NewView(Body):
    """A way to look at the list of experiments."""

    name: Name = Field(description="How people call it.")
    query: str = Field(
        max_length=LONGEST, description="What stands behind the question mark of the list's address: filters, `q`, "
        "`sort`, `columns`, `group`.",
    )  # fmt: skip


class ViewChanges(Body):
    """What may be changed of a view. Fields left out stay."""

    name: Name | None = Field(None, description="A new name; the slug stays.")
    query: str | None = Field(None, max_length=LONGEST, description="Another way to look at the list.")


def as_view(row: SavedView) -> Json:
    return {**replies.picked(row, *COLUMNS), "page": at(f"/?{row.query}{'&' * bool(row.query)}view={row.slug}")}


_UNFIT = problems.documented("malformed", "forbidden", "too-large", "wrong-media-type", "invalid-input")


@router.get("/api/views", summary="Named views of the list of experiments", responses=listing("views"))
def every(request: Request, here: Here) -> Response:
    rows = [as_view(row) for row in here.store.views.all()]
    return replies.whole(request, rows, "Views", columns=(*COLUMNS, "page"), name="views")


@router.post(
    "/api/views",
    status_code=201,
    summary="Give a view a name",
    openapi_extra=documented(NewView, Example("ask-view")),
    responses={201: answer("Kept", "view"), **_UNFIT},
)
def add(here: Here, asked: Annotated[NewView, body(NewView)]) -> Response:
    return replies.json(as_view(here.store.views.add(asked.name, asked.query)), status=201)


@router.get(
    "/api/views/{view}",
    summary="One view",
    description="`GET /api/experiments?view=` with its slug gives the experiments that it shows.",
    responses={200: answer("The view", "view"), **problems.documented("not-found")},
)
def read(here: Here, view: str) -> Response:
    return replies.json(as_view(here.store.views.get(view)))


@router.patch(
    "/api/views/{view}",
    summary="Change a view",
    openapi_extra=documented(ViewChanges, Example("ask-view-change")),
    responses={200: answer("The view", "view"), **_UNFIT, **problems.documented("not-found")},
)
def change(here: Here, view: str, asked: Annotated[ViewChanges, body(ViewChanges)]) -> Response:
    return replies.json(as_view(here.store.views.change(view, name=asked.name, query=asked.query)))


@router.delete(
    "/api/views/{view}",
    status_code=204,
    summary="Remove a view",
    responses={204: {"description": "Gone; the experiments stay"}, **problems.documented("forbidden", "not-found")},
)
def remove(here: Here, view: str) -> Response:
    here.store.views.remove(view)
    return Response(status_code=204)
