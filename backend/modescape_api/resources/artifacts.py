"""Files by their digests, and the ensemble of an experiment as one file."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import StreamingResponse

from modescape.errors import NotFound
from modescape.exporting import ensemble_of
from modescape.imported.writing import stream
from modescape.pieces import KEPT
from modescape.results import Results
from modescape_api.http import problems, replies
from modescape_api.http.site import Here
from modescape_api.resources.examples import answers

router = APIRouter(tags=["results"])

ZIP = "application/zip"


@router.get(
    "/api/artifacts/{sha256}",
    summary="A file by its digest",
    description="Never changes: cached for ever, in ranges if asked. One whose bytes are no longer what it is named by "
    "is refused (410).",
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
    path = here.artifacts.sound(sha256)
    kind = replies.NPY if path.suffix == ".npy" else replies.SAFETENSORS
    return replies.content(request, path, sha256, media_type=kind, name=path.name)


@router.get(
    "/api/experiments/{experiment}/ensemble.zip",
    summary="Its ensemble as one .zip",
    description="Predictions, samples, other images, weights and matrices in the format that `modescape import` reads, "
    "made while it is sent. 404 before the first run has predictions.",
    responses={
        200: {"description": "A .zip file", "content": {ZIP: replies.BINARY}},
        **problems.documented("not-found", "gone"),
    },
)
def ensemble(here: Here, experiment: str) -> Response:
    row = here.store.experiments.get(experiment)
    pieces = stream(ensemble_of(Results(here.store, here.artifacts, row.id)))
    named = {"Content-Disposition": f'attachment; filename="{row.slug}.zip"'}
    return StreamingResponse(pieces, media_type=ZIP, headers=named)


@router.get(
    "/api/experiments/{experiment}/provenance",
    summary="Where an imported ensemble came from",
    description="Who brought it and when, its members, what was odd about it, its set digest and the digest of every "
    "file's content. 404 for experiments that were trained here.",
    responses=answers("Where it came from", "provenance", "not-found"),
)
def provenance(here: Here, experiment: str) -> Response:
    row = here.store.experiments.get(experiment)
    if row.provenance is None:
        raise NotFound(f"{row.slug} was trained here; its spec says how")
    said = {name: value for name, value in row.provenance.items() if name != KEPT}
    digest = (row.spec.get("imported") or {}).get("digest")  # None of weights: each has its own
    about = {"created_by": row.created_by, "created_at": row.created_at, "set_digest": digest}
    return replies.json(said | about)
