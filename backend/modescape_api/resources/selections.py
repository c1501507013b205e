"""Selections of solutions too long for a URL, kept under a short key."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response

from modescape import asking
from modescape.acting import UserRole
from modescape.errors import InvalidInput, NotFound
from modescape_api.http import problems, replies
from modescape_api.http.bodies import Body, body, documented
from modescape_api.http.identity import needs
from modescape_api.http.site import Here
from modescape_api.resources.examples import Example, answer, answers

router = APIRouter(tags=["results"])


class Chosen(Body):
    """A selection of solutions too long for a URL."""

    numbers: str

    def parsed(self) -> tuple[int, ...]:
        try:
            return asking.ranges(self.numbers)
        except InvalidInput as error:
            raise InvalidInput(error.message, field="numbers", allowed=error.allowed) from None


@router.post(
    "/api/experiments/{experiment}/selections",
    status_code=201,
    summary="Keep a selection under a short key",
    openapi_extra=documented(Chosen, Example("ask-selection")),
    responses={
        201: answer("Kept", "selection"),
        **problems.documented("malformed", "not-found", "too-large", "wrong-media-type", "invalid-input"),
    },
)
@needs(UserRole.VIEWER)
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
    responses=answers("The selection", "selection", "not-found"),
)
def selection(here: Here, experiment: str, key: str) -> Response:
    row = here.store.experiments.get(experiment)
    kept = here.store.results.selection(key)
    if kept.experiment_id != row.id:
        raise NotFound(f"{row.slug} has no selection {key[:16]!r}")
    return replies.json({"key": key, "numbers": kept.numbers})
