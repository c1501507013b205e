"""Experiments as one .zip over HTTP: what each part takes, one that is made, and its file."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse
from pydantic import Field

from modescape import parcels
from modescape.acting import UserRole
from modescape.errors import Conflict, NotFound
from modescape.records import Json
from modescape.store.parcels import ParcelState
from modescape.tables import Parcel
from modescape_api.http import problems, replies
from modescape_api.http.bodies import Body, body, documented
from modescape_api.http.identity import needs
from modescape_api.http.proxies import at
from modescape_api.http.site import Here, Site
from modescape_api.resources.examples import Example, answer, answers

router = APIRouter(tags=["experiments"])

COLUMNS = (
    "id",
    "parts",
    "state",
    "done_bytes",
    "total_bytes",
    "files",
    "error",
    "created_by",
    "created_at",
    "finished_at",
)
_PARTS = "; ".join(f"{one}: {one.words}" for one in parcels.Part)


class NewParcel(Body):
    """An experiment as one .zip."""

    parts: tuple[str, ...] = Field(parcels.USUAL, max_length=len(parcels.Part), description=_PARTS)


def as_parcel(slug: str, row: Parcel) -> Json:
    base = at(f"/api/experiments/{slug}/parcels/{row.id}")
    file = f"{base}/{slug}.zip" if row.state == ParcelState.READY else None
    return {**replies.picked(row, *COLUMNS), "links": {"self": base, "file": file}}


def start(here: Site, experiment: str, parts: tuple[str, ...]) -> Parcel:
    """Raises NotFound, InvalidInput, Busy, and Conflict for one that is too large."""
    row, asked = here.store.experiments.get(experiment), parcels.checked(parts)
    total = sum(size for part, size in parcels.sizes(here.laboratory, row.id).items() if part in asked)
    return here.packing.start(row.id, [str(one) for one in asked], total)


@router.get(
    "/api/experiments/{experiment}/parcels",
    summary="What an experiment takes as one .zip, and those that are made",
    responses=answers("Bytes of each part, and the archives that are here or on their way", "parcels", "not-found"),
)
def every(here: Here, experiment: str) -> Response:
    row = here.store.experiments.get(experiment)
    sizes = {str(part): size for part, size in parcels.sizes(here.laboratory, row.id).items()}
    items = [as_parcel(row.slug, one) for one in here.store.parcels.of(row.id)]
    return replies.json({"sizes": sizes, "items": items})


@router.post(
    "/api/experiments/{experiment}/parcels",
    status_code=202,
    summary="Make an experiment one .zip",
    description="Another process makes it; `parcel` events, and the address of it, say how far it is. The server "
    "that made it keeps it for an hour after it was last asked for, or until others need the room; the same once more "
    "is the one that is here, while nothing has changed. Four are made at once for one person, sixteen for all.",
    openapi_extra=documented(NewParcel, Example("ask-parcel"), required=False),
    responses={
        202: answer("It is being made", "parcel"),
        **problems.documented("malformed", "not-found", "conflict", "too-large", "wrong-media-type", "invalid-input"),
    },
)
@needs(UserRole.VIEWER)
def add(here: Here, experiment: str, asked: Annotated[NewParcel, body(NewParcel)]) -> Response:
    row = start(here, experiment, asked.parts)
    slug = here.store.experiments.get(experiment).slug
    location = f"/api/experiments/{slug}/parcels/{row.id}"  # the root comes before it on its way out
    return replies.json(as_parcel(slug, row), status=202, headers={"location": location})


@router.get(
    "/api/experiments/{experiment}/parcels/{parcel}",
    summary="How far an archive is",
    responses=answers("The archive", "parcel", "not-found"),
)
def one(here: Here, experiment: str, parcel: str) -> Response:
    row = here.store.parcels.get(experiment, parcel)
    return replies.json(as_parcel(here.store.experiments.get(experiment).slug, row))


@router.get(
    "/api/experiments/{experiment}/parcels/{parcel}/{name}",
    summary="The .zip, in ranges if asked",
    responses={
        200: {"description": "The archive", "content": {"application/zip": replies.BINARY}},
        **problems.documented("not-found", "conflict"),
    },
)
def file(request: Request, here: Here, experiment: str, parcel: str, name: str) -> Response:
    row, slug = here.store.parcels.get(experiment, parcel), here.store.experiments.get(experiment).slug
    if name != f"{slug}.zip":
        raise NotFound(f"there is no file {name[:80]!r} here; there is {slug}.zip")
    if row.state != ParcelState.READY:
        raise Conflict(f"the archive is not ready: {row.error or 'it is being made'}")
    path = here.packing.used(row)
    if path is None:
        raise NotFound("the archive is not on this server any more; make it again")
    return FileResponse(path, media_type="application/zip", filename=name)
