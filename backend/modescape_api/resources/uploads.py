"""Files sent to this server, by their digests: in as many parts as it takes, going on where the bytes end.

A file is of any kind and is not read here but to hash it. What is made of it says so: an import (`imports`) names it.
It is of whoever has sent it; nobody else sees, uses or forgets it, but for admins.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.requests import ClientDisconnect

from modescape.acting import UserRole
from modescape.errors import InvalidInput, Problem
from modescape.records import Json
from modescape.uploads import Upload, Uploads
from modescape_api.http import problems, replies
from modescape_api.http.identity import needs
from modescape_api.http.refusal import Refusal
from modescape_api.http.site import Here
from modescape_api.resources.examples import answer, answers

router = APIRouter(tags=["imports"])

Digest = Annotated[
    str, Path(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the whole file, 64 hexadecimal digits.")
]
_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")
_BODY: Json = {"requestBody": {"required": True, "content": {"application/octet-stream": replies.BINARY}}}
_HEADER: Json = {
    "parameters": [
        {
            "name": "Content-Range", "in": "header", "required": False,
            "schema": {"type": "string", "pattern": f"^{_RANGE.pattern}$"},
            "description": "Which bytes of the file these are; without it they are all of it.",
            "example": "bytes 0-8388607/104857728",
        }
    ]
}  # fmt: skip


def as_upload(upload: Upload) -> Json:
    return {"sha256": upload.digest, "received": upload.received, "complete": upload.complete}


def _said(upload: Upload, status: int = 200) -> Response:
    headers = {
        "upload-offset": str(upload.received), "upload-complete": "?1" if upload.complete else "?0",
        "cache-control": "no-store",
    }  # fmt: skip
    return replies.json(as_upload(upload), status=status, headers=headers)


@router.get(
    "/api/uploads",
    summary="Files that were sent, of everybody",
    description="For admins. Those of which nothing came for longest are first. `bytes` are here, and `awaited` are "
    "announced beyond them; both take room. `sender` is null of files that are older than this list.",
    responses=answers("Those there are", "uploads"),
)
@needs(UserRole.ADMIN)
def uploads(here: Here) -> Response:
    items = [
        {
            "sender": one.sender, "sha256": one.digest, "bytes": one.bytes, "awaited": one.awaited,
            "complete": one.complete, "age_seconds": round(one.age, 1),
        }
        for one in here.intake.uploads.all()
    ]  # fmt: skip
    return replies.json({"items": items}, headers={"cache-control": "no-store"})


@router.delete(
    "/api/uploads",
    status_code=204,
    summary="Forget all files that one user has sent",
    description="For admins.",
    responses={204: {"description": "Forgotten"}, **problems.documented("invalid-input")},
)
@needs(UserRole.ADMIN)
def forget_all(here: Here, sender: Annotated[str, Query(max_length=200, description="The user's name.")]) -> Response:
    here.store.deeds.keep("forget", "sent files", sender, sender)
    here.intake.uploads.forget_all(sender)
    return Response(status_code=204)


@router.get(
    "/api/uploads/{sha256}",
    summary="How much of a file is here",
    description="`received` bytes; of a file that you have never sent, 0. HEAD says the same in `Upload-Offset` and "
    "`Upload-Complete`.",
    responses=answers("What is here of it", "upload", "invalid-input"),
)
@router.head("/api/uploads/{sha256}", include_in_schema=False)
def upload(here: Here, sha256: Digest) -> Response:
    return _said(here.intake.uploads.state(sha256))


@router.put(
    "/api/uploads/{sha256}",
    status_code=201,
    summary="Send a file, or the next part of it",
    description="Bytes go behind those that you have sent before; what was received stays when the connection "
    "breaks. Ask how much is here, and go on there. The digest is checked when all are here: 201. A file that is here "
    "already is not sent again: 200. What nobody goes on sending for a day is forgotten.",
    openapi_extra={**_BODY, **_HEADER},
    responses={
        200: answer("A part came, or all of it was here", "upload"),
        201: answer("It is whole", "upload"),
        **problems.documented("malformed", "conflict", "quota", "invalid-input", "data-corrupt"),
    },
)
async def send(request: Request, here: Here, sha256: Digest) -> Response:
    uploads, (offset, length, total) = here.intake.uploads, _range_of(request)
    state = await asyncio.to_thread(uploads.state, sha256)
    if state.complete:
        async for _ in _blocks(request):
            continue
        return _said(state)
    await _receive(request, uploads, sha256, offset, length, total)
    state = await asyncio.to_thread(uploads.finish, sha256, total)
    return _said(state, 201 if state.complete else 200)


async def _receive(request: Request, uploads: Uploads, sha256: str, offset: int, length: int, total: int) -> None:
    with uploads.receiving(sha256, offset=offset, total=total) as file:
        async for block in _blocks(request):
            length -= len(block)
            if length < 0:
                raise InvalidInput("has more bytes than it announces", field="body", allowed="those of Content-Range")
            file.write(block)


async def _blocks(request: Request) -> AsyncIterator[bytes]:
    """What comes, until it ends or the connection does: what was received stays."""
    try:
        async for block in request.stream():
            yield block
    except ClientDisconnect:
        return


def _range_of(request: Request) -> tuple[int, int, int]:
    """First byte, count, and bytes of the whole file. Raises Refusal."""
    said, length = request.headers.get("content-range"), request.headers.get("content-length", "")
    if said is None:
        if not length.isdecimal():
            raise _unsaid("Content-Length", "the bytes of the file")
        return 0, int(length), int(length)
    found = _RANGE.fullmatch(said.strip())
    if found is None:
        raise InvalidInput("is not understood", field="Content-Range", allowed="bytes first-last/total")
    first, last, total = map(int, found.groups())
    if not first <= last < total:
        allowed = "bytes first-last/total, with first <= last < total"
        raise InvalidInput("says what cannot be", field="Content-Range", allowed=allowed)
    return first, last - first + 1, total


def _unsaid(header: str, allowed: str) -> Refusal:
    return Refusal(
        "malformed",
        f"{header} does not say which bytes these are",
        problems=[Problem("is not understood", header, allowed)],
    )


@router.delete(
    "/api/uploads/{sha256}",
    status_code=204,
    summary="Forget a file that was sent",
    description="What was made of it stays.",
    responses={204: {"description": "Forgotten, or never here"}, **problems.documented("invalid-input")},
)
def forget(here: Here, sha256: Digest) -> Response:
    if senders := here.intake.uploads.others(sha256):
        here.store.deeds.keep("forget", "sent file", sha256, sha256[:12], of=senders)
    here.intake.uploads.forget(sha256)
    return Response(status_code=204)
