"""Everything a figure shows, raw: solutions and measurements as rows, predictions, weights and matrices as files.

Anyone can recompute every number of every figure from what these addresses give.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field

from modescape.errors import Conflict, InvalidInput, NotFound
from modescape.laboratory import image_table
from modescape.records import PlannedStage, Role, StageState
from modescape.spec import stored
from modescape.studies import PlaneSpec
from modescape.tables import Experiment, Matrix, Measurement, Run, Series, Solution
from modescape_api import problems, query, replies
from modescape_api.bodies import Body, body, documented
from modescape_api.proxies import at
from modescape_api.query import MEASUREMENTS, SOLUTIONS
from modescape_api.replies import Listing
from modescape_api.site import Here, Site

router = APIRouter(tags=["results"])

Number = Annotated[int, Path(ge=0, le=2**31 - 1, description="Number within the experiment.")]
SplitName = Annotated[str, Query(max_length=16, description="Which images: test or validation.")]

_BINARY = {"schema": {"type": "string", "format": "binary"}}


def _listing_example(example: dict[str, Any], words: str) -> problems.Responses:
    page = {"items": [example], "next": None, "total": 1, "query": words}
    return {
        200: {
            "description": "One page",
            "content": {"application/json": {"example": page}, "text/csv": {}, "application/x-ndjson": {}},
        }
    }


# -- solutions --------------------------------------------------------------------------------------------------------

SOLUTION_COLUMNS = (
    "number",
    "run",
    "role",
    "method",
    "set",
    "index",
    "epoch",
    "seed",
    "attempt",
    "strength",
    "relative",
    "norm",
    "cosine",
    "distance",
    "accuracy",
    "diversity",
    "disagreement",
    "weights",
    "predictions",
    "id",
)


def as_solution(row: Solution) -> dict[str, Any]:
    """One solution; `weights` is the digest of its file or null until it is asked for, `predictions` the splits
    kept."""
    found = {name: getattr(row, "sample_set" if name == "set" else name) for name in SOLUTION_COLUMNS}
    return {**found, "predictions": sorted(row.predictions)}


SOLUTION_EXAMPLE = {
    "number": 12,
    "run": 1,
    "role": "sample",
    "method": "dropout",
    "set": "typical",
    "index": 2,
    "epoch": None,
    "seed": 4711,
    "attempt": 0,
    "strength": 0.012,
    "relative": 0.11,
    "norm": 24.7,
    "cosine": 0.994,
    "distance": 2.7,
    "accuracy": 0.881,
    "diversity": 0.31,
    "disagreement": 0.037,
    "weights": None,
    "predictions": ["test"],
    "id": "1f0c…",
}


@router.get(
    "/api/experiments/{experiment}/solutions",
    summary="Solutions: checkpoints, optima and samples",
    openapi_extra={"parameters": SOLUTIONS.parameters()},
    responses={
        **_listing_example(SOLUTION_EXAMPLE, "Solutions where method is dropout, by number"),
        **problems.documented("not-found", "not-acceptable", "invalid-input"),
    },
)
def solutions(request: Request, here: Here, experiment: str) -> Response:
    row = here.store.experiments.get(experiment)
    asked = SOLUTIONS.read(request.query_params)

    def page(cursor: str | None) -> Listing:
        found = here.store.results.solutions(row.id, asked.query.conditions, **asked.page(cursor))
        return Listing([as_solution(one) for one in found.items], found.next, found.total, asked.words)

    return replies.listing(request, page(None), columns=SOLUTION_COLUMNS, more=page, name=f"{row.slug}-solutions")


@router.get(
    "/api/experiments/{experiment}/solutions/{number}",
    summary="One solution",
    responses={
        200: {"description": "The solution", "content": {"application/json": {"example": SOLUTION_EXAMPLE}}},
        **problems.documented("not-found"),
    },
)
def solution(here: Here, experiment: str, number: Number) -> Response:
    row = here.store.experiments.get(experiment)
    return replies.json(as_solution(here.store.results.solution(row.id, number)))


@router.get(
    "/api/experiments/{experiment}/solutions/{number}/predictions",
    summary="Its predictions as a .npy file",
    description="float32 logits [N, K] on a split, row i for image i; labels are at `labels.npy`.",
    responses={
        200: {"description": "A .npy file", "content": {replies.NPY: _BINARY}},
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
    logits = here.artifacts.array(kept["artifact"])[kept["index"]]
    return replies.npy(logits, name=f"{row.slug}-{number}-{split}.npy", headers=headers)


@router.get(
    "/api/experiments/{experiment}/labels",
    summary="True labels of a split as a .npy file",
    description="int64 [N], in the order of the rows of every solution's predictions.",
    responses={
        200: {"description": "A .npy file", "content": {replies.NPY: _BINARY}},
        **problems.documented("not-found", "gone"),
    },
)
def labels(here: Here, experiment: str, split: SplitName = "test") -> Response:
    results = here.laboratory.results(experiment)
    try:
        found = results.true_labels(split)
    except KeyError:
        raise NotFound(
            f"no labels were kept for {split[:40]!r}; splits kept: {', '.join(results.spec.evaluation.splits)}"
        ) from None
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
    try:
        columns, rows = image_table(results, split)
    except KeyError:
        raise NotFound(
            f"no labels were kept for {split[:40]!r}; splits kept: {', '.join(results.spec.evaluation.splits)}"
        ) from None
    name = f"{results.experiment.slug}-images-{split}.csv"
    headers = {"cache-control": replies.REVALIDATE, "content-disposition": f'attachment; filename="{name}"'}
    return Response(b"".join(replies.csv_lines(columns, rows)), media_type=replies.CSV, headers=headers)


@router.get(
    "/api/experiments/{experiment}/solutions/{number}/weights",
    summary="Its weights as a .safetensors file",
    description="A sample's weights are made again from its seed when first asked for: 202 with a Location until "
    "they are there.",
    responses={
        200: {"description": "A .safetensors file", "content": {replies.SAFETENSORS: _BINARY}},
        202: {
            "description": "They are being made; ask again at `Location` after `Retry-After` seconds",
            "content": {"application/json": {"example": {"state": "ready", "stage": "77ab…", "solution": 12}}},
        },
        **problems.documented("not-found", "conflict", "gone"),
    },
)
def weights(request: Request, here: Here, experiment: str, number: Number) -> Response:
    row = here.store.experiments.get(experiment)
    found = here.store.results.solution(row.id, number)
    if found.weights is not None:
        path = here.artifacts.path(found.weights)
        return replies.content(
            request,
            path,
            found.weights,
            media_type=replies.SAFETENSORS,
            name=f"{row.slug}-{number}.safetensors",
        )
    stage = here.store.stages.add(
        row.id,
        PlannedStage(
            kind="materialise",
            key=str(number),
            needs=(("train", str(found.run)),),
            params={"number": number},
            estimate=2.0,
        ),
    )
    if stage.state in (StageState.FAILED, StageState.CANCELLED):
        why = stage.error.get("message") or f"it was {stage.state}"
        raise Conflict(f"the weights of solution {number} could not be made: {why}; retry stage {stage.id}")
    here.ring(row.id)
    address = f"/api/experiments/{row.slug}/solutions/{number}/weights"
    document = {"state": stage.state, "stage": stage.id, "solution": number}
    return replies.json(
        document, status=202, headers={"location": address, "retry-after": "2", "cache-control": "no-store"}
    )


# -- measurements -----------------------------------------------------------------------------------------------------

MEASUREMENT_COLUMNS = (
    "metric",
    "subject",
    "solution",
    "split",
    "corruption",
    "intensity",
    "value",
    "n",
    "details",
    "id",
)


def as_measurement(row: Measurement) -> dict[str, Any]:
    return {name: getattr(row, name) for name in MEASUREMENT_COLUMNS}


@router.get(
    "/api/experiments/{experiment}/measurements",
    summary="Measurements of solutions and of groups",
    openapi_extra={"parameters": MEASUREMENTS.parameters()},
    responses={
        **_listing_example(
            {
                "metric": "disagreement",
                "subject": "independent",
                "solution": None,
                "split": "test",
                "corruption": None,
                "intensity": None,
                "value": 0.112,
                "n": 3,
                "details": {},
                "id": "aa10…",
            },
            "Measurements where metric is disagreement, by metric",
        ),
        **problems.documented("not-found", "not-acceptable", "invalid-input"),
    },
)
def measurements(request: Request, here: Here, experiment: str) -> Response:
    row = here.store.experiments.get(experiment)
    asked = MEASUREMENTS.read(request.query_params)

    def page(cursor: str | None) -> Listing:
        found = here.store.results.measurements(row.id, asked.query.conditions, **asked.page(cursor))
        return Listing([as_measurement(one) for one in found.items], found.next, found.total, asked.words)

    return replies.listing(request, page(None), columns=MEASUREMENT_COLUMNS, more=page, name=f"{row.slug}-measurements")


# -- runs and curves --------------------------------------------------------------------------------------------------

RUN_COLUMNS = ("number", "seeds", "arithmetic", "accuracy", "best_accuracy", "failed", "id")
SERIES_COLUMNS = (
    "run",
    "name",
    "n",
    "last",
    "last_step",
    "smallest",
    "smallest_step",
    "largest",
    "largest_step",
)


def as_run(row: Run, failed: Mapping[int, str]) -> dict[str, Any]:
    """failed: why the run counts nowhere, or null."""
    return {name: getattr(row, name) for name in RUN_COLUMNS} | {"failed": failed.get(row.number)}


def as_series(row: Series) -> dict[str, Any]:
    return {name: getattr(row, name) for name in SERIES_COLUMNS}


@router.get(
    "/api/experiments/{experiment}/runs",
    summary="Independent runs",
    description="`seeds`: of initial weights, batches, noise, augmentation and of the samples around the optimum. "
    "`arithmetic`: of the training (predictions are always float32); empty until it has finished.",
    responses={
        **_listing_example(
            {
                "number": 0,
                "seeds": {"weights": 1, "batches": 2, "noise": 3, "augmentation": 4, "sampling": 5},
                "arithmetic": {"precision": "float32", "device": "cpu", "hardware": "AVX2", "torch": "2.9.1+cpu"},
                "accuracy": 0.887,
                "best_accuracy": 0.889,
                "failed": None,
                "id": "c2d1…",
            },
            "Runs of fig3-smallcnn",
        ),
        **problems.documented("not-found"),
    },
)
def runs(request: Request, here: Here, experiment: str) -> Response:
    row = here.store.experiments.get(experiment)
    results = here.laboratory.results(row.id)
    items = [as_run(run, results.failed) for run in results.runs]
    return replies.listing(
        request, Listing(items, None, len(items), f"Runs of {row.slug}"), columns=RUN_COLUMNS, name="runs"
    )


@router.get(
    "/api/experiments/{experiment}/runs/{number}/checkpoints",
    summary="The trajectory of one run: its checkpoints and its optimum",
    responses={
        **_listing_example({**SOLUTION_EXAMPLE, "role": "checkpoint"}, "Checkpoints of run 0"),
        **problems.documented("not-found"),
    },
)
def checkpoints(request: Request, here: Here, experiment: str, number: Number) -> Response:
    row = here.store.experiments.get(experiment)
    known = [run.number for run in here.store.results.runs(row.id)]
    if number not in known:
        raise NotFound(f"{row.slug} has no run {number}; its runs are 0 to {len(known) - 1}")
    found = [
        s for s in here.store.results.solutions(row.id, run=number).items if s.role in (Role.CHECKPOINT, Role.OPTIMUM)
    ]
    items = [as_solution(one) for one in found]
    listing = Listing(items, None, len(items), f"Checkpoints of run {number} of {row.slug}")
    return replies.listing(request, listing, columns=SOLUTION_COLUMNS, name=f"{row.slug}-run-{number}")


@router.get(
    "/api/experiments/{experiment}/series",
    summary="Curves: their last, smallest and largest values",
    responses={
        **_listing_example(
            {
                "run": 0,
                "name": "train/loss",
                "n": 430,
                "last": 0.21,
                "last_step": 2145,
                "smallest": 0.19,
                "smallest_step": 2090,
                "largest": 2.31,
                "largest_step": 0,
            },
            "Curves of fig3-smallcnn",
        ),
        **problems.documented("not-found"),
    },
)
def series(request: Request, here: Here, experiment: str) -> Response:
    row = here.store.experiments.get(experiment)
    items = [as_series(one) for one in here.store.curves.of(row.id)]
    return replies.listing(
        request,
        Listing(items, None, len(items), f"Curves of {row.slug}"),
        columns=SERIES_COLUMNS,
        name="series",
    )


@router.get(
    "/api/experiments/{experiment}/runs/{number}/series/{name:path}",
    summary="The points of one curve",
    responses={
        200: {
            "description": "Steps, values and Unix times",
            "content": {
                "application/json": {
                    "example": {
                        "run": 0,
                        "name": "train/loss",
                        "steps": [0, 5],
                        "values": [2.31, 2.2],
                        "times": [1.8e9, 1.8e9],
                    }
                },
                "text/csv": {},
            },
        },
        **problems.documented("not-found", "not-acceptable"),
    },
)
def points(request: Request, here: Here, experiment: str, number: Number, name: str) -> Response:
    row = here.store.experiments.get(experiment)
    known = [one.name for one in here.store.curves.of(row.id) if one.run == number]
    if name not in known:
        raise NotFound(
            f"run {number} of {row.slug} has no curve {name[:80]!r}; it has {', '.join(known) or 'none yet'}"
        )
    steps, values, times = here.store.curves.points(row.id, number, name)
    if replies.wanted(request, ("json", "csv")) == "csv":
        table = np.stack([values, times], axis=1)
        return replies.matrix_csv(
            table, [int(s) for s in steps], ("value", "time"), name=f"{row.slug}-{number}.csv", corner="step"
        )
    return replies.json({"run": number, "name": name, "steps": steps, "values": values, "times": times})


# -- matrices ---------------------------------------------------------------------------------------------------------


def as_matrix(row: Matrix) -> dict[str, Any]:
    return {
        "name": row.name,
        "split": row.split,
        "shape": [len(row.rows), len(row.columns)],
        "rows": row.rows,
        "columns": row.columns,
        "details": row.details,
        "artifact": row.artifact,
    }


@router.get(
    "/api/experiments/{experiment}/matrices",
    summary="Similarity matrices and embeddings that are there",
    responses={
        **_listing_example(
            {
                "name": "cosine",
                "split": "",
                "shape": [33, 33],
                "rows": [0, 1],
                "columns": [0, 1],
                "details": {},
                "artifact": "3f2a…",
            },
            "Matrices of fig3-smallcnn",
        ),
        **problems.documented("not-found"),
    },
)
def matrices(request: Request, here: Here, experiment: str) -> Response:
    row = here.store.experiments.get(experiment)
    items = [as_matrix(one) for one in here.store.results.matrices(row.id)]
    columns = ("name", "split", "shape", "rows", "columns", "details", "artifact")
    return replies.listing(
        request, Listing(items, None, len(items), f"Matrices of {row.slug}"), columns=columns, name="matrices"
    )


@router.get(
    "/api/experiments/{experiment}/matrices/{name}",
    summary="One matrix as .npy or CSV",
    description="`cosine.npy`, `disagreement.csv`, …, or a bare name with an Accept header. float64; `X-Rows` and "
    "`X-Columns` "
    "of the .npy name the solutions when there are at most 500 of them, `/matrices` always does.",
    responses={
        200: {
            "description": "The matrix",
            "content": {replies.NPY: _BINARY, "text/csv": {}, "application/json": {}},
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
    values = here.artifacts.array(found.artifact)
    title = "-".join(part for part in (row.slug, found.name, found.split) if part)
    if form == "npy":
        if max(len(found.rows), len(found.columns)) <= 500:
            headers["x-rows"] = ",".join(str(r) for r in found.rows)
            headers["x-columns"] = ",".join(str(c) for c in found.columns)
        return replies.npy(values, name=f"{title}.npy", headers=headers)
    if form == "csv":
        return replies.matrix_csv(values, found.rows, found.columns, name=f"{title}.csv")
    return replies.json({**as_matrix(found), "values": np.asarray(values, dtype=np.float64)}, headers=headers)


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


# -- cuts through the landscape ---------------------------------------------------------------------------------------


class Through(Body):
    """A cut through the loss landscape that goes through any solutions of the experiment."""

    kind: Literal["radial", "affine", "random", "line"] = Field(
        "affine",
        description="affine: the plane through three solutions; radial: through the origin and two; random: around one "
        "along two filter-normalised random directions; line: straight through two.",
    )
    solutions: tuple[Annotated[int, Field(ge=0, le=2**31 - 1)], ...] = Field(
        min_length=1, max_length=3, description="Numbers of the solutions it goes through."
    )
    resolution: Literal[33, 65] = Field(33, description="Points along each axis: 33 for a look, 65 for print.")
    seed: int = Field(0, ge=0, le=2**53 - 1, description="Seed of random directions.")


_THROUGH_EXAMPLE = {
    "plane": "affine-10-21-32-33",
    "state": "ready",
    "stages": [{"id": "77ab…", "key": "affine-10-21-32-33/0", "state": "ready"}],
    "seconds": 61.0,
    "figure": "/api/experiments/fig5/figures/landscape.json?plane=affine-10-21-32-33",
    "page": "/experiments/fig5/figures/landscape?plane=affine-10-21-32-33",
}


@router.post(
    "/api/experiments/{experiment}/planes",
    status_code=202,
    summary="Cut the loss landscape through chosen solutions",
    description="Plans the stages of a cut through checkpoints, optima or samples of this experiment, on its first "
    "1,000 training and test images. The figure at `Location` fills as they are done; asking again changes nothing.",
    openapi_extra=documented(Through, {"kind": "affine", "solutions": [10, 21, 32], "resolution": 33}),
    responses={
        200: {
            "description": "It is there already",
            "content": {"application/json": {"example": {**_THROUGH_EXAMPLE, "state": "succeeded"}}},
        },
        202: {
            "description": "It is being computed; look at `Location`",
            "content": {"application/json": {"example": _THROUGH_EXAMPLE}},
        },
        **problems.documented("malformed", "not-found", "conflict", "too-large", "wrong-media-type", "invalid-input"),
    },
)
def cut(here: Here, experiment: str, asked: Annotated[Through, body(Through)]) -> Response:
    row = here.store.experiments.get(experiment)
    if row.archived_at is not None:
        raise Conflict(f"{row.slug} is archived; restore it first")
    kept = {one.number: one for one in here.store.results.all_solutions(row.id)}
    if not kept:
        raise Conflict(f"{row.slug} has no solutions yet; wait until a run has made predictions")
    unknown = [number for number in asked.solutions if number not in kept]
    if unknown:
        raise InvalidInput(
            f"{row.slug} has no solution {unknown[0]}", field="solutions", allowed=f"numbers up to {max(kept)}"
        )
    counted = {one.number for one in here.laboratory.results(row.id).solutions()}
    failed = [number for number in asked.solutions if number not in counted]
    if failed:
        raise InvalidInput(
            f"solution {failed[0]} failed, or its run {kept[failed[0]].run} did", field="solutions",
            allowed="solutions of healthy runs whose predictions are finite",
        )  # fmt: skip
    stages = {stage.id: (stage.kind, stage.key) for stage in here.store.stages.without_results(row.id)}
    chosen = [kept[number] for number in asked.solutions]
    from modescape.stages import plane as cuts  # stages are what a web process learns last

    spec = stored(row.spec)
    planned = cuts.asked(
        spec,
        PlaneSpec(kind=asked.kind, resolution=asked.resolution, seed=asked.seed),
        chosen,
        {one.number: stages[one.stage_id] for one in chosen},
    )
    priced = here.laboratory.priced(spec, planned.stages)
    added = [here.store.stages.add(row.id, stage) for stage in priced or planned.stages]
    done = all(stage.state == StageState.SUCCEEDED for stage in added)
    if not done:
        here.ring(row.id)
    address = f"/api/experiments/{row.slug}/figures/{planned.figure}.json?plane={planned.name}"
    states = [stage.state for stage in added if stage.state != StageState.SUCCEEDED]
    document = {
        "plane": planned.name,
        "state": states[0] if states else StageState.SUCCEEDED,
        "stages": [{"id": stage.id, "key": stage.key, "state": stage.state} for stage in added],
        "seconds": sum(stage.estimate for stage in priced) if priced else None,
        "figure": at(address),
        "page": at(f"/experiments/{row.slug}/figures/{planned.figure}?plane={planned.name}"),
    }
    return replies.json(
        document, status=200 if done else 202, headers={"location": address, "cache-control": "no-store"}
    )


# -- files and selections ---------------------------------------------------------------------------------------------


@router.get(
    "/api/artifacts/{sha256}",
    summary="A file by its digest",
    description="Never changes: cached for ever, in ranges if asked.",
    responses={
        200: {"description": "The file", "content": {"application/octet-stream": _BINARY}},
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


class Chosen(Body):
    """A selection of solutions too long for a URL."""

    numbers: str

    def parsed(self) -> tuple[int, ...]:
        try:
            return query.ranges(self.numbers)
        except InvalidInput as error:
            raise InvalidInput(str(error), field="numbers", allowed=error.allowed) from None


@router.post(
    "/api/experiments/{experiment}/selections",
    status_code=201,
    summary="Keep a selection under a short key",
    openapi_extra=documented(Chosen, {"numbers": "12-40,77"}),
    responses={
        201: {
            "description": "Kept",
            "content": {"application/json": {"example": {"key": "k3f9a1", "numbers": [12, 13]}}},
        },
        **problems.documented("malformed", "not-found", "too-large", "wrong-media-type", "invalid-input"),
    },
)
def keep_selection(here: Here, experiment: str, chosen: Annotated[Chosen, body(Chosen)]) -> Response:
    row = here.store.experiments.get(experiment)
    numbers = chosen.parsed()
    key = here.store.results.put_selection(row.id, numbers)
    return replies.json(
        {"key": key, "numbers": numbers},
        status=201,
        headers={"location": f"/api/experiments/{row.slug}/selections/{key}"},
    )


@router.get(
    "/api/experiments/{experiment}/selections/{key}",
    summary="A kept selection",
    responses={
        200: {
            "description": "The selection",
            "content": {"application/json": {"example": {"key": "k3f9a1", "numbers": [12, 13]}}},
        },
        **problems.documented("not-found"),
    },
)
def selection(here: Here, experiment: str, key: str) -> Response:
    row = here.store.experiments.get(experiment)
    kept = here.store.results.selection(key)
    if kept.experiment_id != row.id:
        raise NotFound(f"{row.slug} has no selection {key[:16]!r}")
    return replies.json({"key": key, "numbers": kept.numbers})
