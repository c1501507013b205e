"""Solutions, raw: their rows and measurements, and their predictions, labels, images and weights as files.

Anyone can recompute every number of every figure from what these addresses, and those of curves and matrices, give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from modescape.columns import MEASUREMENTS, SOLUTIONS, Fields
from modescape.errors import Conflict, NotFound
from modescape.laboratory import image_table
from modescape.listing import ListQuery, Page
from modescape.records import PlannedStage, StageKind, StageState
from modescape.results import Results
from modescape.tables import Experiment
from modescape_api.http import problems, query, replies, security
from modescape_api.http.site import Here
from modescape_api.resources.examples import answer, answers, listing

router = APIRouter(tags=["results"])

Number = Annotated[int, Path(ge=0, le=2**31 - 1, description="Number within the experiment.")]
SplitName = Annotated[str, Query(max_length=16, description="Which images: test or validation.")]


def _rows(request: Request, row: Experiment, fields: Fields[Any], find: Callable[..., Page[Any]]) -> Response:
    """Those of an experiment that the query string asks for. find: as `store.results` finds them."""

    def page(asked: ListQuery) -> Page[Any]:
        return find(row.id, asked.conditions, sort=asked.sort, cursor=asked.cursor, limit=asked.limit)

    return query.answer(request, fields, page, f"{row.slug}-{fields.noun.lower()}")


@router.get(
    "/api/experiments/{experiment}/solutions",
    summary="Solutions: checkpoints, optima and samples",
    openapi_extra={"parameters": list(query.parameters(SOLUTIONS))},
    responses=listing("solutions", "not-found", "not-acceptable", "invalid-input"),
)
def solutions(request: Request, here: Here, experiment: str) -> Response:
    return _rows(request, here.store.experiments.get(experiment), SOLUTIONS, here.store.results.solutions)


@router.get(
    "/api/experiments/{experiment}/solutions/{number}",
    summary="One solution",
    responses=answers("The solution", "solution", "not-found"),
)
def solution(here: Here, experiment: str, number: Number) -> Response:
    row = here.store.experiments.get(experiment)
    return replies.json(SOLUTIONS.document(here.store.results.solution(row.id, number)))


@router.get(
    "/api/experiments/{experiment}/solutions/{number}/predictions",
    summary="Its predictions as a .npy file",
    description="float32 logits [N, K] on a split, row i for image i; labels are at `labels.npy`.",
    responses={
        200: {"description": "A .npy file", "content": {replies.NPY: replies.BINARY}},
        **problems.documented("not-found", "gone"),
    },
)
def predictions(request: Request, here: Here, experiment: str, number: Number, split: SplitName = "test") -> Response:
    row = here.store.experiments.get(experiment)
    found = here.store.results.solution(row.id, number)
    kept = found.predictions.get(split)
    if kept is None:
        have = ", ".join(sorted(found.predictions)) or "none"
        raise NotFound(f"solution {number} has no predictions on {split[:40]!r}; splits kept: {have}")
    etag = f'"{kept["artifact"]}-{kept["index"]}"'
    headers = {"etag": etag, "cache-control": replies.IMMUTABLE}
    if replies.unchanged(request, etag):
        return Response(status_code=304, headers=headers)
    logits = here.artifacts.sound_array(kept["artifact"])[kept["index"]]
    return replies.npy(logits, name=f"{row.slug}-{number}-{split}.npy", headers=headers)


@contextmanager
def _labels_kept(results: Results, split: str) -> Iterator[None]:
    """Raises NotFound, with the splits there are, for one that was not kept."""
    try:
        yield
    except KeyError:
        have = ", ".join(results.spec.evaluation.splits)
        raise NotFound(f"no labels were kept for {split[:40]!r}; splits kept: {have}") from None


@router.get(
    "/api/experiments/{experiment}/labels",
    summary="True labels of a split as a .npy file",
    description="int64 [N], in the order of the rows of every solution's predictions.",
    responses={
        200: {"description": "A .npy file", "content": {replies.NPY: replies.BINARY}},
        **problems.documented("not-found", "gone"),
    },
)
def labels(here: Here, experiment: str, split: SplitName = "test") -> Response:
    results = here.laboratory.results(experiment)
    with _labels_kept(results, split):
        found = results.true_labels(split)
    return replies.npy(
        found,
        name=f"{results.experiment.slug}-labels-{split}.npy",
        headers={"cache-control": replies.REVALIDATE},
    )


@router.get(
    "/api/experiments/{experiment}/images",
    summary="Which image each row of predictions is of, as CSV",
    description="`image` (the row of every solution's predictions), `label`, `class`, and `name`: the file, or array "
    "and row (`test_images[17]`), of one's own data; empty for public sets, which keep the order of their files.",
    responses={
        200: {
            "description": "A CSV file",
            "content": {"text/csv": {"example": "image,label,class,name\n0,1,dogs,dogs/017.png\n"}},
        },
        **problems.documented("not-found", "gone"),
    },
)
def images(here: Here, experiment: str, split: SplitName = "test") -> Response:
    results = here.laboratory.results(experiment)
    with _labels_kept(results, split):
        columns, rows = image_table(results, split)
    name = f"{results.experiment.slug}-images-{split}.csv"
    headers = {"cache-control": replies.REVALIDATE, "content-disposition": f'attachment; filename="{name}"'}
    return Response(b"".join(replies.csv_lines(columns, rows)), media_type=replies.CSV, headers=headers)


@router.get(
    "/api/experiments/{experiment}/solutions/{number}/weights",
    summary="Its weights as a .safetensors file",
    description="A sample's weights are made again from its seed when first asked for: 202 with a Location until "
    "they are there.",
    responses={
        200: {"description": "A .safetensors file", "content": {replies.SAFETENSORS: replies.BINARY}},
        202: answer("They are being made; ask again at `Location` after `Retry-After` seconds", "weights"),
        **problems.documented("not-found", "conflict", "gone", "invalid-input"),
    },
)
def weights(request: Request, here: Here, experiment: str, number: Number) -> Response:
    row = here.store.experiments.get(experiment)
    found = here.store.results.solution(row.id, number)
    if found.weights is not None:
        path = here.artifacts.sound(found.weights)
        return replies.content(
            request,
            path,
            found.weights,
            media_type=replies.SAFETENSORS,
            name=f"{row.slug}-{number}.safetensors",
        )
    # The one GET that starts something: a picture on a page of another site may not.
    security.check_origin(request.headers, security.Hosts(here.settings).added)
    stage = here.store.stages.add(
        row.id,
        PlannedStage(
            kind="materialise",
            key=str(number),
            needs=((StageKind.TRAIN, str(found.run)),),
            params={"number": number},
            estimate=2.0,
        ),
    )
    if stage.state in (StageState.FAILED, StageState.CANCELLED):
        why = stage.error.get("message") or f"it was {stage.state}"
        raise Conflict(f"the weights of solution {number} could not be made: {why}; retry stage {stage.id}")
    here.notify_workers(row.id)
    address = f"/api/experiments/{row.slug}/solutions/{number}/weights"
    document = {"state": stage.state, "stage": stage.id, "solution": number}
    return replies.json(
        document, status=202, headers={"location": address, "retry-after": "2", "cache-control": "no-store"}
    )


@router.get(
    "/api/experiments/{experiment}/measurements",
    summary="Measurements of solutions and of groups",
    openapi_extra={"parameters": list(query.parameters(MEASUREMENTS))},
    responses=listing("measurements", "not-found", "not-acceptable", "invalid-input"),
)
def measurements(request: Request, here: Here, experiment: str) -> Response:
    return _rows(request, here.store.experiments.get(experiment), MEASUREMENTS, here.store.results.measurements)
