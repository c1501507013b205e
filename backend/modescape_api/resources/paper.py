"""The paper's numbers beside the nearest experiments, over HTTP (`modescape.paper_numbers`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from fastapi import APIRouter, Response

from modescape.paper_numbers import Number, beside
from modescape.records import Json
from modescape_api.http import replies
from modescape_api.http.site import Here
from modescape_api.resources.examples import answers

router = APIRouter(tags=["catalogue"])


def as_rows(numbers: Iterable[Number]) -> list[Json]:
    return [
        {
            **replies.picked(number.printed, "key", "title", "value", "unit", "where", "preset", "short"),
            "nearest": [asdict(near) for near in number.near],
            "kept": asdict(number.kept) if number.kept is not None else None,
        }
        for number in numbers
    ]


@router.get(
    "/api/paper",
    summary="Every number the paper prints, and the nearest experiments here",
    responses=answers("All of them", "paper"),
)
def paper(here: Here) -> Response:
    return replies.json({"items": as_rows(beside(here.store).numbers)})
