"""Examples of bodies and answers, a file each, as the OpenAPI document shows them; tests hold them against real ones.

    responses=answers("The solution", "solution", "not-found")   # solution.json

A declaration names its example only; the file is read when the document is made. Of a list's columns that its file says
nothing of, the table of fields gives the example.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from modescape.columns import EXPERIMENTS, MEASUREMENTS, RUNS, SERIES, SOLUTIONS, STAGES, Columns
from modescape_api.http.problems import Responses, documented

FOLDER = Path(__file__).parent
_COLUMNS: dict[str, Columns[Any]] = {
    "experiment": EXPERIMENTS, "experiments": EXPERIMENTS, "solution": SOLUTIONS, "solutions": SOLUTIONS,
    "checkpoints": SOLUTIONS, "measurements": MEASUREMENTS, "runs": RUNS, "series": SERIES, "stage": STAGES,
    "stages": STAGES,
}  # fmt: skip


class Example(str):
    """The name of a file here, without `.json`."""

    def read(self) -> Any:
        found = orjson.loads((FOLDER / f"{self}.json").read_bytes())
        if self not in _COLUMNS:
            return found
        rest = _COLUMNS[self].example
        return found | {"items": [rest | row for row in found["items"]]} if "items" in found else rest | found


def answer(description: str, example: str) -> dict[str, Any]:
    """An answer in JSON, as OpenAPI says it."""
    return {"description": description, "content": {"application/json": {"example": Example(example)}}}


def answers(description: str, example: str, *failures: str) -> Responses:
    """The `responses` of an operation with one answer; failures: kinds of problems it can end in."""
    return {200: answer(description, example), **documented(*failures)}


def listing(example: str, *failures: str) -> Responses:
    """Those of a list, as `replies.listing` answers it."""
    content = {"application/json": {"example": Example(example)}, "text/csv": {}, "application/x-ndjson": {}}
    return {200: {"description": "One page", "content": content}, **documented(*failures)}
