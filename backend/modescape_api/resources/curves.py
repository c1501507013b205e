"""Runs, their checkpoints and their curves, raw."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from fastapi import APIRouter, Request, Response

from modescape.columns import RUNS, SERIES, SOLUTIONS
from modescape.errors import NotFound
from modescape.records import Role
from modescape.store.curves import SeriesPoints, summed_up
from modescape.tables import Experiment
from modescape_api.http import problems, replies
from modescape_api.http.site import Here
from modescape_api.resources.examples import Example, listing
from modescape_api.resources.solutions import Number

router = APIRouter(tags=["results"])


@router.get(
    "/api/experiments/{experiment}/runs",
    summary="Independent runs",
    description="`seeds`: of initial weights, batches, noise, augmentation and of the samples around the optimum. "
    "`arithmetic`: of the training (predictions are always float32); empty until it has finished.",
    responses=listing("runs", "not-found"),
)
def runs(request: Request, here: Here, experiment: str) -> Response:
    row = here.store.experiments.get(experiment)
    results = here.laboratory.results(row.id)
    items = [RUNS.document(run) | {"failed": results.failed.get(run.number)} for run in results.runs]
    return replies.whole(request, items, f"Runs of {row.slug}", columns=RUNS.keys, name="runs")


@router.get(
    "/api/experiments/{experiment}/runs/{number}/checkpoints",
    summary="The trajectory of one run: its checkpoints and its optimum",
    responses=listing("checkpoints", "not-found"),
)
def checkpoints(request: Request, here: Here, experiment: str, number: Number) -> Response:
    row = here.store.experiments.get(experiment)
    known = [run.number for run in here.store.results.runs(row.id)]
    if number not in known:
        raise NotFound(f"{row.slug} has no run {number}; its runs are 0 to {len(known) - 1}")
    found = [
        s for s in here.store.results.solutions(row.id, run=number).items if s.role in (Role.CHECKPOINT, Role.OPTIMUM)
    ]
    items = [SOLUTIONS.document(one) for one in found]
    said = f"Checkpoints of run {number} of {row.slug}"
    return replies.whole(request, items, said, columns=SOLUTIONS.keys, name=f"{row.slug}-run-{number}")


def _in_training(here: Here, row: Experiment) -> Iterator[tuple[int, str, SeriesPoints]]:
    """Curves of members that are still being trained elsewhere: run, name, points."""
    for run, member in here.laboratory.results(row.id).in_training():
        for name, curve in here.store.logged.curves(member.gathering_id, member.member).items():
            yield run, name, curve


@router.get(
    "/api/experiments/{experiment}/series",
    summary="Curves: their last, smallest and largest values",
    description="Those of members that are still being trained elsewhere too, as far as they were logged.",
    responses=listing("series", "not-found"),
)
def series(request: Request, here: Here, experiment: str) -> Response:
    row = here.store.experiments.get(experiment)
    logged = [summed_up(run, name, curve) for run, name, curve in _in_training(here, row)]
    items = [SERIES.document(one) for one in (*here.store.curves.of(row.id), *logged)]
    return replies.whole(request, items, f"Curves of {row.slug}", columns=SERIES.keys, name="series")


@router.get(
    "/api/experiments/{experiment}/runs/{number}/series/{name:path}",
    summary="The points of one curve",
    responses={
        200: {
            "description": "Steps, values and Unix times",
            "content": {
                "application/json": {"example": Example("points")},
                "text/csv": {},
            },
        },
        **problems.documented("not-found", "not-acceptable"),
    },
)
def points(request: Request, here: Here, experiment: str, number: Number, name: str) -> Response:
    row = here.store.experiments.get(experiment)
    known = [one.name for one in here.store.curves.of(row.id) if one.run == number]
    logged = {one: curve for run, one, curve in _in_training(here, row) if run == number}
    known = [*known, *(one for one in logged if one not in known)]
    if name not in known:
        raise NotFound(
            f"run {number} of {row.slug} has no curve {name[:80]!r}; it has {', '.join(known) or 'none yet'}"
        )
    steps, values, times = logged.get(name) or here.store.curves.points(row.id, number, name)
    if replies.wanted(request, ("json", "csv")) == "csv":
        table = np.stack([values, times], axis=1)
        return replies.matrix_csv(
            table, [int(s) for s in steps], ("value", "time"), name=f"{row.slug}-{number}.csv", corner="step"
        )
    return replies.json({"run": number, "name": name, "steps": steps, "values": values, "times": times})
