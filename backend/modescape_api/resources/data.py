"""Data sets over HTTP: which are here, fetching one on request, registering one's own from inside the allowed folders.

Nothing is uploaded and nothing is downloaded silently. Paths are followed to their real place before they are compared
with the allowed roots, and it is the real place that the experiment keeps.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi import Path as PathParameter
from pydantic import Field, ValidationError

from modescape import own_sets, pydantic_errors
from modescape.errors import InvalidInput
from modescape.initial import is_digest
from modescape.records import Json
from modescape.registry import datasets
from modescape.settings import Settings
from modescape.spec_parts import NUMBERS, DataSpec
from modescape_api.http import bodies, problems, replies
from modescape_api.http.bodies import Body, Name, body
from modescape_api.http.site import WAITS, Here, Site
from modescape_api.resources.examples import Example, answer, answers

log = logging.getLogger("modescape.api")
router = APIRouter(tags=["data"])


# -- paths ------------------------------------------------------------------------------------------------------------


def resolved(settings: Settings, document: Json) -> Json:
    """A spec document whose paths (of data, published corruptions, other images, initial weights) are real places.

    Raises InvalidInput naming the field (`spec.data.path`).
    """
    found = deepcopy(document)
    for place, path in _paths_in(document):
        field = ".".join(map(str, place))
        inner: Any = found
        for step in place[:-1]:
            inner = inner[step]
        inner[place[-1]] = str(inside(path, settings.registration_roots, field=f"spec.{field}"))
    return found


def _paths_in(document: Json) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """(place, path) of everything in a spec document that is called a path, at any depth, and of initial weights; the
    spec's own rules judge documents of another shape."""
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((), document)]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, Mapping):
            waiting += [((*place, name), inner) for name, inner in value.items()]
        elif isinstance(value, list | tuple):
            waiting += [((*place, i), inner) for i, inner in enumerate(value)]
        elif isinstance(value, str) and place:
            is_weights = place == ("training", "initial_weights") and not is_digest(value)
            if is_weights or place[-1] == "path":
                yield place, value


def inside(path: str, roots: Sequence[Path], *, field: str) -> Path:
    """The real place of `path`, which must exist within one of `roots`. Raises InvalidInput naming the roots.

    Whether a path outside exists is not told. Links inside a data set that lead out are left aside where it is read.
    """
    allowed = "a path inside " + " or ".join(str(root) for root in roots)
    refusal = InvalidInput(f"{path[:200]!r} is not inside the folders data may come from", field=field, allowed=allowed)
    if not path or len(path) > 1024 or any(ord(letter) < 32 for letter in path):
        raise InvalidInput(f"{path[:80]!r} is not a path", field=field, allowed=allowed)
    try:
        real = Path(path).expanduser().resolve()
        homes = [root.expanduser().resolve() for root in roots]
        if not any(real.is_relative_to(home) for home in homes):
            raise refusal
        if not real.exists():
            raise InvalidInput(f"there is nothing at {path[:200]!r}", field=field, allowed=allowed)
    except (OSError, RuntimeError) as error:  # too long a name, a loop of links, an unknown ~user
        raise InvalidInput(f"{path[:200]!r} cannot be looked at ({error})", field=field, allowed=allowed) from None
    return real


# -- endpoints --------------------------------------------------------------------------------------------------------


class Wanted(Body):
    """Either a data set to fetch, or the path of one's own to register."""

    path: str | None = Field(
        None, max_length=1024, description="Folder of class folders, .npz, .csv or .parquet file, on this machine."
    )
    name: Name | None = Field(
        None,
        max_length=own_sets.LONGEST,
        description="What to call it, in specs as `data.dataset`; empty takes the name of the folder or file.",
    )
    replace: bool = Field(False, description="Whether another place that has the name is to lose it.")
    white: float | None = Field(
        None, gt=0, le=2**32, description="The value that is white in it (`data.white` of a spec); empty: it is found."
    )
    numbers: bool = Field(
        False, description="Whether the arrays of an .npz file are no pictures and are kept as they are; rows of "
        "features are anyway."
    )  # fmt: skip
    label: str | None = Field(None, max_length=200, description="Of a table, its column of labels (`data.label`).")
    fetch: str | None = Field(None, max_length=64, description="A public set to download into the data folder.")


COLUMNS = (
    "name",
    "title",
    "own",
    "dataset",
    "present",
    "state",
    "where",
    "bytes",
    "how",
    "fetchable",
    "fetching",
    "channels",
    "height",
    "width",
    "classes",
    "train",
    "test",
    "white",
    "reading",
    "looking",
    "validation",
    "layout",
    "ignored",
)


def known(here: Site) -> list[Json]:
    """Every public set and every registered one, with sizes and how to get what is missing."""
    from modescape.datasets.here import availability

    rows: list[Json] = []
    for found in availability(here.settings.data_folders):
        entry = datasets[found.name]
        fetching = here.fetches.state(found.name)
        rows.append(
            {
                **replies.picked(found, "name", "title"),
                "own": False,
                "dataset": found.name,
                **replies.picked(found, "present", "state"),
                "where": str(found.where) if found.where else None,
                **replies.picked(found, "bytes", "how", "fetchable"),
                "fetching": asdict(fetching) if fetching else None,
                **replies.picked(entry, "channels", "height", "width"),
                "classes": list(entry.classes),
                "train": entry.train_total,
                "test": entry.test_total,
                "validation": 0,
                "layout": "",
                "ignored": [],
            }
        )
    looked_at = here.lookings.rows()  # asked first: a set registered between the two questions is missing from neither
    for name, details in here.store.own_sets.all().items():
        place = Path(details["where"])
        rows.append(
            {
                "name": name,
                "own": True,
                "fetchable": False,
                "fetching": None,
                "present": place.exists(),
                "state": "here" if place.exists() else "missing",
                "how": f"register {place} again" if not place.exists() else "",
                **details,
            }
        )
    here_already = {row["name"] for row in rows}
    return rows + [row for row in looked_at if row["name"] not in here_already]


@router.get(
    "/api/data",
    summary="Data sets, here and missing",
    description="`classes` in the order of their index, which is the text order of their names, as in torchvision and "
    "Keras. Of one's own sets `layout` says which folder or array is used for what, `validation` how many images a "
    "validation set of its own has, `ignored` what was left aside.",
    responses=answers("All of them", "data"),
)
def list_data(request: Request, here: Here) -> Response:
    rows = known(here)
    return replies.whole(request, rows, "Data sets", columns=COLUMNS, name="data")


@router.post(
    "/api/data",
    status_code=201,
    dependencies=WAITS,
    summary="Register a folder or .npz, or fetch a public set",
    description="201 for a set that was registered (its files are read and checked first), 202 for a download that has "
    "begun, or for pictures that take long to look through; `GET /api/data` shows how far it is.",
    openapi_extra=bodies.documented(Wanted, Example("ask-data")),
    responses={
        201: answer("Registered", "data-registered"),
        202: {"description": "The download, or the look through the pictures, has begun"},
        **problems.documented(
            "malformed", "conflict", "too-large", "wrong-media-type", "invalid-input", "data-corrupt"
        ),
    },
)
def add_data(here: Here, asked: Annotated[Wanted, body(Wanted)]) -> Response:
    if (asked.path is None) == (asked.fetch is None):
        raise InvalidInput(
            "give either a path or a set to fetch", field="path", allowed="`path` or `fetch`, one of them"
        )
    if asked.fetch is not None:
        return _fetch(here, asked.fetch)
    assert asked.path is not None
    row = register(here, asked.path, asked)
    return replies.json(row, status=202 if row.get("looking") else 201, headers={"location": "/api/data"})


@router.delete(
    "/api/data/{name:path}",
    status_code=204,
    summary="Unregister a set",
    description="Forgets the name. Its files, and the experiments made with it, stay.",
    responses={204: {"description": "Forgotten"}, **problems.documented("not-found")},
)
def remove_data(here: Here, name: Annotated[str, PathParameter(max_length=200)]) -> Response:
    here.store.own_sets.unregister(name)
    return Response(status_code=204)


def _fetch(here: Site, name: str) -> Response:
    from modescape.datasets.here import fetchable

    if name not in (known := fetchable()):
        raise InvalidInput(f"{name!r} cannot be fetched", field="fetch", allowed="one of " + ", ".join(known))
    return replies.json(asdict(here.fetches.start(name)), status=202, headers={"location": "/api/data"})


def _kind_of(real: Path, *, numbers: bool) -> str:
    """Which of one's own sets lies at a place. Raises InvalidInput."""
    from modescape.datasets.here import holds_rows
    from modescape.science.data.hugging_face import is_saved
    from modescape.science.data.own_numbers import TABLES

    if real.is_dir():
        return "huggingface" if is_saved(real) else "folder"
    if real.suffix.lower() in TABLES:
        return "table"
    if real.suffix != ".npz":
        raise InvalidInput(
            f"{real.name!r} is neither a folder nor a file of arrays or a table",
            field="path", allowed="a folder, an .npz, .csv, .tsv or .parquet file",
        )  # fmt: skip
    return "arrays" if numbers or holds_rows(str(real)) else "npz"


def register(here: Site, path: str, asked: Wanted) -> Json:
    """Read and check one's own data and remember it: every picture is decoded first, in a process of its own, which may
    take longer than this waits (the row then says how far it is).

    Raises InvalidInput (`path`, `name`, `white`), DataCorrupt, and Conflict when another place has the name.
    """
    from modescape.datasets.here import describe, how_read

    real = inside(path, here.settings.registration_roots, field="path")
    try:
        kind = _kind_of(real, numbers=asked.numbers)
        document = {"dataset": kind, "path": str(real), "white": asked.white, "label": asked.label}
        spec = DataSpec.model_validate(document)
        info = describe(spec, here.settings.data_folders)
    except ValidationError as error:
        raise pydantic_errors.invalid(error, DataSpec) from None
    except InvalidInput as error:
        told = [replace(problem, field=problem.field.removeprefix("data.")) for problem in error.problems]
        raise InvalidInput(str(error), problems=told) from None
    title = own_sets.checked_name(asked.name or own_sets.place_name(str(real), kind))
    here.store.own_sets.check_name(title, str(real), replace=asked.replace)
    details = {
        "title": title,
        "dataset": kind,
        "where": str(real),
        "bytes": None if real.is_dir() else real.stat().st_size,
        **replies.picked(info, "channels", "height", "width"),
        "classes": list(info.classes),
        "train": info.train_total,
        "test": info.test_total,
        "validation": info.validation_total,
        "layout": info.layout,
        "ignored": list(info.ignored),
        "fingerprint": info.fingerprint,
        "white_said": asked.white,
        "label_said": asked.label,
    }

    def remember(level: float | None, sentences: Sequence[str]) -> Json:
        found = {**details, "white": level, "reading": list(sentences)}
        here.store.own_sets.register(title, found, replace=asked.replace)
        return {"name": title, "own": True, "present": True, "state": "here", **found}

    if kind == "huggingface":
        return remember(255.0, ("Pictures of 8 bits a channel.",))
    if kind in NUMBERS:
        return remember(None, ("Numbers are kept as they are.",))
    if kind == "npz":
        reading = how_read(spec)
        return remember(reading.white, reading.sentences)
    return here.lookings.look(title, spec, lambda found: remember(found.white, found.sentences))
