"""What differs between experiments, over HTTP (`modescape.comparing`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Response

from modescape.comparing import MOST, compare
from modescape.errors import InvalidInput
from modescape.results import Results
from modescape_api.http import replies
from modescape_api.http.site import Here, Site
from modescape_api.resources.examples import answers

router = APIRouter(tags=["results"])


def chosen(here: Site, references: Sequence[str]) -> list[Results]:
    """The experiments named, each once. Raises NotFound, or InvalidInput where they are too many."""
    names = list(dict.fromkeys(filter(None, references)))
    if len(names) > MOST:
        raise InvalidInput(f"{len(names)} experiments were named", field="e", allowed=f"up to {MOST} of them")
    return list({one.experiment.id: one for one in map(here.laboratory.results, names)}.values())


@router.get(
    "/api/compare",
    summary="What differs between several experiments",
    description="Fields of their specs that are not equal, their numbers with 95 % intervals over runs, differences "
    "from the first experiment (without an interval where both hold the same networks), and their claims.",
    responses=answers("Side by side", "comparison", "not-found", "invalid-input"),
)
def read(
    here: Here, e: Annotated[list[str], Query(description="Slugs or ids: `?e=a&e=b`.", examples=[["fig-6-short"]])]
) -> Response:
    asked = chosen(here, e)
    if len(asked) < 2:
        raise InvalidInput("one experiment alone has nothing to be compared with", field="e", allowed=f"two to {MOST}")
    return replies.json(compare(*asked).document())
