"""Cuts through the loss landscape that somebody asks for later."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Response
from pydantic import Field

from modescape.errors import Conflict, InvalidInput
from modescape.records import StageState
from modescape.spec import stored
from modescape.studies.landscape.study import PlaneSpec
from modescape_api.http import problems, replies
from modescape_api.http.bodies import Body, body, documented
from modescape_api.http.proxies import at
from modescape_api.http.site import Here
from modescape_api.resources.examples import Example, answer

router = APIRouter(tags=["results"])


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


@router.post(
    "/api/experiments/{experiment}/planes",
    status_code=202,
    summary="Cut the loss landscape through chosen solutions",
    description="Plans the stages of a cut through checkpoints, optima or samples of this experiment, on its first "
    "1,000 training and test images. The figure at `Location` fills as they are done; asking again changes nothing.",
    openapi_extra=documented(Through, Example("ask-cut")),
    responses={
        200: answer("It is there already", "cut-is-there"),
        202: answer("It is being computed; look at `Location`", "cut"),
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
    from modescape.studies.landscape import stages as cuts  # stages are what a web process learns last

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
        here.notify_workers(row.id)
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
