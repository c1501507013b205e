"""Matrices over solutions, raw: as JSON, CSV and .npy."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from modescape.errors import NotFound
from modescape.records import Json
from modescape.tables import Experiment, Matrix
from modescape_api.http import problems, replies
from modescape_api.http.site import Here, Site
from modescape_api.resources.examples import listing

router = APIRouter(tags=["results"])


def as_matrix(row: Matrix) -> Json:
    return {
        **replies.picked(row, "name", "split"),
        "shape": [len(row.rows), len(row.columns)],
        **replies.picked(row, "rows", "columns", "details", "artifact"),
    }


@router.get(
    "/api/experiments/{experiment}/matrices",
    summary="Similarity matrices and embeddings that are there",
    responses=listing("matrices", "not-found"),
)
def matrices(request: Request, here: Here, experiment: str) -> Response:
    row = here.store.experiments.get(experiment)
    items = [as_matrix(one) for one in here.store.results.matrices(row.id)]
    columns = ("name", "split", "shape", "rows", "columns", "details", "artifact")
    return replies.whole(request, items, f"Matrices of {row.slug}", columns=columns, name="matrices")


@router.get(
    "/api/experiments/{experiment}/matrices/{name}",
    summary="One matrix as .npy or CSV",
    description="`cosine.npy`, `disagreement.csv`, …, or a bare name with an Accept header. float64; `X-Rows` and "
    "`X-Columns` of the .npy name the solutions when there are at most 500 of them, `/matrices` always does.",
    responses={
        200: {
            "description": "The matrix",
            "content": {replies.NPY: replies.BINARY, "text/csv": {}, "application/json": {}},
        },
        **problems.documented("not-found", "not-acceptable", "gone"),
    },
)
def matrix(
    request: Request,
    here: Here,
    experiment: str,
    name: str,
    split: Annotated[str | None, Query(max_length=16, description="Which images; weight space has none.")] = None,
) -> Response:
    row = here.store.experiments.get(experiment)
    bare, dot, suffix = name.partition(".")
    form = replies.wanted(request, ("json", "npy", "csv"), suffix=suffix if dot else None)
    found = _matrix(here, row, bare, split)
    etag = replies.tag(found.artifact, form, found.rows, found.columns)
    headers = {"etag": etag, "cache-control": replies.REVALIDATE}
    if replies.unchanged(request, etag):
        return Response(status_code=304, headers=headers)
    values = here.artifacts.sound_array(found.artifact)
    title = "-".join(part for part in (row.slug, found.name, found.split) if part)
    if form == "npy":
        if max(len(found.rows), len(found.columns)) <= 500:
            headers["x-rows"] = ",".join(str(r) for r in found.rows)
            headers["x-columns"] = ",".join(str(c) for c in found.columns)
        return replies.npy(values, name=f"{title}.npy", headers=headers)
    if form == "csv":
        return replies.matrix_csv(values, found.rows, found.columns, name=f"{title}.csv")
    return replies.matrix_json(as_matrix(found), values, headers=headers)


def _matrix(here: Site, row: Experiment, name: str, split: str | None) -> Matrix:
    """By name and split; without a split the weight-space one, else that of the first evaluation split."""
    have = here.store.results.matrices(row.id)
    named = [one for one in have if one.name == name]
    if not named:
        names = ", ".join(sorted({one.name for one in have})) or "none yet"
        raise NotFound(f"{row.slug} has no matrix {name[:80]!r}; it has {names}")
    wanted = [split] if split is not None else ["", *row.spec["evaluation"]["splits"]]
    for one in sorted(named, key=lambda m: wanted.index(m.split) if m.split in wanted else len(wanted)):
        if split is None or one.split in (split, ""):
            return one
    raise NotFound(f"{name} of {row.slug} has no split {split!r}; it has {', '.join(repr(m.split) for m in named)}")
