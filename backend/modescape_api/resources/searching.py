"""What the search box understands of a line, and what may come next in it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query, Response

from modescape import asking
from modescape.columns import EXPERIMENTS
from modescape.searching import LONGEST
from modescape.suggesting import suggest
from modescape_api.http import replies
from modescape_api.http.site import Here
from modescape_api.resources.examples import answers

router = APIRouter(tags=["experiments"])


@router.get(
    "/api/search",
    summary="How a line of the search box is understood",
    description="`words` is the line as a sentence, `faults` what of it is not understood, each with its place, and "
    "`suggestions` what may take the place of what stands before the caret. Places are numbers of characters (code "
    "points). The list of experiments takes the same line as `q`.",
    responses=answers("What is understood", "search", "invalid-input"),
)
def understood(
    here: Here,
    q: Annotated[str, Query(max_length=2 * LONGEST, description="The line.")] = "",
    caret: Annotated[
        int | None, Query(ge=0, le=2 * LONGEST, description="How many characters stand before the caret; empty: all.")
    ] = None,
) -> Response:
    asked = asking.read(EXPERIMENTS, [("q", q)], lenient=True)
    offered = suggest(EXPERIMENTS, q, len(q) if caret is None else caret, here.store.experiments.values_of)
    return replies.json(
        {
            "q": q,
            "words": asked.words,
            "faults": [asdict(fault) for fault in asked.faults],
            "suggestions": [asdict(one) for one in offered],
        }
    )
