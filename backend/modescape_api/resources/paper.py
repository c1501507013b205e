"""The paper's numbers beside the nearest experiments, over HTTP (`modescape.paper_numbers`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Response

from modescape.paper_numbers import PRINTED, Number, beside
from modescape_api.http import replies
from modescape_api.http.site import Here

router = APIRouter(tags=["catalogue"])


def as_rows(numbers: Iterable[Number]) -> list[dict[str, Any]]:
    return [
        {
            **{
                name: getattr(number.printed, name)
                for name in ("key", "title", "value", "unit", "where", "preset", "short")
            },
            "nearest": [asdict(near) for near in number.near],
        }
        for number in numbers
    ]


_EXAMPLE = {
    "items": [
        {
            "key": "js-independent",
            "title": PRINTED[3].title,
            "value": 0.384,
            "unit": "nats",
            "where": "SVHN row",
            "preset": "svhn-row",
            "short": "svhn-row-short",
            "nearest": [
                {
                    "slug": "svhn-row-short",
                    "name": "svhn-row-short",
                    "value": 0.41,
                    "of": "mean of 5 runs",
                    "same_data": False,
                    "same_architecture": False,
                    "differences": ["on Digits instead of SVHN", "data Fashion-MNIST instead of CIFAR-10"],
                }
            ],
        }
    ]
}


@router.get(
    "/api/paper",
    summary="Every number the paper prints, and the nearest experiments here",
    responses={200: {"description": "All of them", "content": {"application/json": {"example": _EXAMPLE}}}},
)
def paper(here: Here) -> Response:
    return replies.json({"items": as_rows(beside(here.store).numbers)})
