"""Files by their digests."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from modescape_api.http import problems, replies
from modescape_api.http.site import Here

router = APIRouter(tags=["results"])


@router.get(
    "/api/artifacts/{sha256}",
    summary="A file by its digest",
    description="Never changes: cached for ever, in ranges if asked.",
    responses={
        200: {"description": "The file", "content": {"application/octet-stream": replies.BINARY}},
        206: {"description": "A range of it"},
        304: {"description": "You have it"},
        **problems.documented("gone", "invalid-input"),
    },
)
@router.head("/api/artifacts/{sha256}", include_in_schema=False)
def artifact(
    request: Request,
    here: Here,
    sha256: Annotated[str, Path(pattern=r"^[0-9a-f]{64}$", description="64 hexadecimal digits.")],
) -> Response:
    path = here.artifacts.path(sha256)
    kind = replies.NPY if path.suffix == ".npy" else replies.SAFETENSORS
    return replies.content(request, path, sha256, media_type=kind, name=path.name)
