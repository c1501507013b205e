"""Examples of bodies and answers, a file each, as the OpenAPI document shows them; tests hold them against real ones.

    responses={200: answer("The solution", "solution")}   # solution.json

A declaration names its example only; the file is read when the document is made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

FOLDER = Path(__file__).parent


class Example(str):
    """The name of a file here, without `.json`."""

    def read(self) -> Any:
        return orjson.loads((FOLDER / f"{self}.json").read_bytes())


def answer(description: str, example: str) -> dict[str, Any]:
    """An answer in JSON, as OpenAPI says it."""
    return {"description": description, "content": {"application/json": {"example": Example(example)}}}


def listing(example: str) -> dict[int | str, dict[str, Any]]:
    """A list, as `replies.listing` answers it."""
    content = {"application/json": {"example": Example(example)}, "text/csv": {}, "application/x-ndjson": {}}
    return {200: {"description": "One page", "content": content}}
