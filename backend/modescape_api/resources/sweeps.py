"""Sweeps over HTTP: launch, price, read, act on all cells at once; tables and pictures of what they say together."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic import Field

from modescape import own_sets
from modescape.columns import EXPERIMENTS
from modescape.drawing.figure import encode
from modescape.records import Json
from modescape.store.sweeps import KeptSweep
from modescape.sweeps import launching, telling
from modescape.sweeps.asked import label, short
from modescape.sweeps.launching import PreparedSweep, Verb
from modescape.sweeps.numbers import Numbers, draw
from modescape.tables import Sweep
from modescape_api.http import bodies, problems, replies
from modescape_api.http.bodies import Body, Name, Notes, Priority, Tag, body
from modescape_api.http.proxies import at
from modescape_api.http.site import Here, Site
from modescape_api.resources import data
from modescape_api.resources.examples import Example, answer, answers

router = APIRouter(tags=["sweeps"])


class SweepDraft(Body):
    """A sweep to be: one experiment for every combination of the values of the varied fields."""

    name: Name | None = Field(None, description="How people call it; empty takes the varied fields' names.")
    base: str | dict[str, Any] = Field(
        default_factory=dict, description="An ExperimentSpec, of which every field may be left out, or a preset's name."
    )
    over: dict[str, list[Any]] = Field(
        description="Dotted path of a field of the spec -> the values it takes, such as "
        '`{"training.learning_rate": [0.001, 0.003]}`.'
    )
    runs: int | None = Field(None, ge=1, description="Runs of each cell; empty takes the base's.")
    paired: bool = Field(
        False,
        description="All cells have the base's root seed, and differences are told run by run; else each has its own.",
    )
    notes: Notes = Field("", description="Kept with each experiment.")
    tags: tuple[Tag, ...] = Field((), max_length=20, description="Words to find the experiments by.")
    fresh: bool = Field(False, description="Compute everything, even what an earlier experiment has already.")
    priority: Priority = Field(0, description="Stages of higher ones are claimed first: -1 is low, 0 normal, 1 high.")


def prepare(here: Site, draft: SweepDraft, *, as_published: bool = False) -> PreparedSweep:
    """Every cell checked, and the price of the whole. Raises InvalidInput, DataMissing, DataCorrupt."""
    document = draft.model_dump(mode="json", include={"base", "over", "runs", "paired"})
    known = here.store.own_sets.all()

    def inside(spec: Json) -> Json:
        """A cell's spec, a user's own data found by their registered name, in the folders that are allowed."""
        return data.resolved(here.settings, own_sets.named(spec, known))

    return launching.prepare(here.laboratory, document, as_published=as_published, fresh=draft.fresh, resolve=inside)


def launch(here: Site, draft: SweepDraft, *, key: str | None = None) -> Sweep:
    """Check everything, store all cells in one transaction, wake workers. Raises as `prepare`, and Conflict."""
    prepared = prepare(here, draft)
    sweep = launching.create(
        here.laboratory, prepared, name=draft.name or named(draft), notes=draft.notes, tags=draft.tags,
        fresh=draft.fresh, priority=draft.priority, idempotency=None if key is None else (key, digest(draft)),
    )  # fmt: skip
    for row in here.store.sweeps.get(sweep.id).experiments:
        here.notify_workers(row.id)
    return sweep


def digest(draft: SweepDraft) -> str:
    later = {"priority"} if draft.priority == 0 else None  # as of experiments
    return hashlib.sha256(replies.encode(draft.model_dump(mode="json", exclude=later))).hexdigest()


def named(draft: SweepDraft) -> str:
    """What a sweep is called that nobody has named."""
    return f"Sweep over {label(dict.fromkeys(draft.over, ''))}"[:200].strip() if draft.over else "Sweep"


def as_document(here: Site, sweep: KeptSweep) -> Json:
    """A sweep, its cells as they stand, and what they say of each claim."""
    base = at(f"/api/sweeps/{sweep.row.slug}")
    return {
        "slug": sweep.row.slug,
        "name": sweep.row.name,
        "created_at": sweep.row.created_at,
        "archived_at": sweep.row.archived_at,
        **sweep.row.document,
        "cells": [
            {"number": cell.number + 1, "varied": cell.varied,
             "experiment": None if cell.experiment is None else EXPERIMENTS.document(cell.experiment)}
            for cell in sweep.cells
        ],
        "claims": [asdict(claim) for claim in telling.told(sweep, here.store.experiments.looks)],
        "links": {
            "self": base, "page": at(f"/sweeps/{sweep.row.slug}"),
            **{name: f"{base}/{name}" for name in ("claims.csv", "claims.tex", "numbers", "figure.json")},
        },
    }  # fmt: skip


def as_line(sweep: KeptSweep) -> Json:
    """One line of the list."""
    ended = sum(row.status.has_ended for row in sweep.experiments)
    return {
        **replies.picked(sweep.row, "slug", "name", "created_at"),
        "fields": list(sweep.row.document["over"]), "cells": len(sweep.cells), "ended": ended,
    }  # fmt: skip


_UNFIT = problems.documented("malformed", "too-large", "wrong-media-type", "invalid-input", "data-corrupt")
_ONE: problems.Responses = {200: answer("The sweep", "sweep")}


@router.get("/api/sweeps", summary="List sweeps, newest first", responses=answers("All of them", "sweeps"))
def list_sweeps(
    request: Request, here: Here, archived: Annotated[bool, Query(description="Archived ones instead.")] = False
) -> Response:
    lines = [as_line(sweep) for sweep in here.store.sweeps.all(archived=archived)]
    columns = ("slug", "name", "created_at", "fields", "cells", "ended")
    return replies.whole(request, lines, "Sweeps, newest first", columns=columns, name="sweeps")


@router.post(
    "/api/sweeps",
    status_code=201,
    summary="Launch a sweep: an experiment for every combination of values",
    description="All cells are checked before anything is stored; what is wrong is named by its field and value, as "
    "`over.<field>` or `base.<field>`. All cells are stored in one transaction. With an `Idempotency-Key` the request "
    "may be repeated safely.",
    openapi_extra=bodies.documented(SweepDraft, Example("ask-sweep")),
    responses={
        201: answer("Stored; `Location` names it", "sweep"),
        **_UNFIT,
        **problems.documented("conflict", "data-missing"),
    },
)
def create(
    here: Here,
    draft: Annotated[SweepDraft, body(SweepDraft)],
    idempotency_key: Annotated[
        str | None,
        Header(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$", description="Any text of your own."),
    ] = None,
) -> Response:
    sweep = here.store.sweeps.get(launch(here, draft, key=idempotency_key).id)
    headers = {"location": f"/api/sweeps/{sweep.row.slug}"}
    return replies.json(as_document(here, sweep), status=201, headers=headers)


@router.post(
    "/api/sweeps/estimate",
    summary="What a sweep would do and cost",
    description="Takes the body of a launch and makes every check a launch makes, but stores nothing. `shared`: stages "
    "that a later cell takes over from an earlier one.",
    openapi_extra=bodies.documented(SweepDraft, Example("ask-sweep")),
    responses={200: answer("The price of the whole", "sweep-estimate"), **_UNFIT,
               **problems.documented("data-missing")},
)  # fmt: skip
def estimate(here: Here, draft: Annotated[SweepDraft, body(SweepDraft)]) -> Response:
    prepared = prepare(here, draft, as_published=True)
    refused = [asdict(one) for one in launching.too_much(here.laboratory, prepared)]
    return replies.json({**as_estimate(prepared), "free_bytes": here.artifacts.free, "refused": refused})


def as_estimate(prepared: PreparedSweep) -> Json:
    return {
        **asdict(prepared.price),
        "each": [
            {"number": one.cell.number + 1, "varied": one.cell.varied, "seconds": one.prepared.plan.seconds,
             "stages": len(one.prepared.plan.stages), "here": one.prepared.plan.here,
             "digest": one.prepared.spec.digest()}
            for one in prepared.cells
        ],
        "missing": [asdict(one) for one in prepared.missing],
        "warnings": list(dict.fromkeys(text for one in prepared.cells for text in one.prepared.plan.warnings)),
    }  # fmt: skip


@router.get(
    "/api/sweeps/{sweep}", summary="One sweep: cells and claims", responses={**_ONE, **problems.documented("not-found")}
)
def read_one(here: Here, sweep: str) -> Response:
    return replies.json(as_document(here, here.store.sweeps.get(sweep)))


@router.delete(
    "/api/sweeps/{sweep}",
    summary="Archive a sweep and its experiments",
    responses={**_ONE, **problems.documented("not-found")},
)
def archive(here: Here, sweep: str) -> Response:
    return _acted(here, sweep, Verb.ARCHIVE)


@router.post(
    "/api/sweeps/{sweep}/purge",
    summary="Delete an archived sweep, its archived experiments and the files only they use",
    responses=answers("Gone", "purged", "not-found", "conflict"),
)
def purge(here: Here, sweep: str) -> Response:
    slug = here.store.sweeps.get(sweep).row.slug
    return replies.json({"slug": slug, "freed_bytes": launching.delete(here.laboratory, sweep)})


_OVER = dict.fromkeys((Verb.RETRY, Verb.RESTORE), ("invalid-input",))  # it may be more than one user may have


def _acting(verb: Verb) -> None:
    @router.post(  # an address each: one for all would answer for `numbers`, too, which is no verb
        f"/api/sweeps/{{sweep}}/{verb}",
        summary=f"{verb.capitalize()} all cells it makes sense for",
        responses={**_ONE, **problems.documented("not-found", *_OVER.get(verb, ()))},
        name=f"{verb}_cells",
    )
    def act(here: Here, sweep: str) -> Response:
        return _acted(here, sweep, verb)


for _verb in Verb:
    _acting(_verb)


def _acted(here: Site, sweep: str, verb: Verb) -> Response:
    act_on(here, sweep, verb)
    return replies.json(as_document(here, here.store.sweeps.get(sweep)))


def act_on(here: Site, sweep: str, verb: Verb) -> None:
    """Raises NotFound."""
    for row in launching.act(here.laboratory, sweep, verb):
        if verb in (Verb.RESUME, Verb.RETRY):
            here.notify_workers(row.id)


@router.get(
    "/api/sweeps/{sweep}/claims.{form}",
    summary="Claims and cells as a table: CSV or LaTeX",
    responses={200: {"description": "The table", "content": {"text/csv": {"example": "claim,title,cell\n"},
                                                             "application/x-tex": {}}},
               **problems.documented("not-found", "invalid-input")},
)  # fmt: skip
def table(here: Here, sweep: str, form: Annotated[Literal["csv", "tex"], Path()]) -> Response:
    kept = here.store.sweeps.get(sweep)
    claims = telling.told(kept, here.store.experiments.looks)
    text, media = (telling.csv, "text/csv") if form == "csv" else (telling.latex, "application/x-tex")
    disposition = {"content-disposition": f'attachment; filename="{kept.row.slug}-claims.{form}"'}
    return Response(text(kept, claims), media_type=f"{media}; charset=utf-8", headers=disposition)


@router.get(
    "/api/sweeps/{sweep}/numbers",
    summary="Every number of every cell, with its interval and its difference from the first cell's",
    responses=answers("A row for each number of each cell", "sweep-numbers", "not-found"),
)
def numbers(request: Request, here: Here, sweep: str) -> Response:
    found = Numbers(here.laboratory, here.store.sweeps.get(sweep))
    rows = list(_rows(found))
    columns = ("number", "title", "cell", "value", "low", "high", "difference", "difference_low", "difference_high",
               "difference_runs")  # fmt: skip
    return replies.whole(request, rows, "Numbers of its cells", columns=(*columns, *found.fields), name="numbers")


def _rows(found: Numbers) -> list[Json]:
    rows = []
    for quantity in found.quantities.values():
        for place, cell in enumerate(found.sweep.cells):
            value, less = found.value(place, quantity.name), found.difference(place, quantity.name)
            if value is not None:
                rows.append({
                    "number": quantity.name, "title": quantity.title, "cell": cell.number + 1, "value": value.value,
                    "low": value.low, "high": value.high,
                    "difference": None if less is None else less.value,
                    "difference_low": None if less is None else less.low,
                    "difference_high": None if less is None else less.high,
                    "difference_runs": (less.runs or None) if less is not None else None,
                    **cell.varied,
                })  # fmt: skip
    return rows


@router.get(
    "/api/sweeps/{sweep}/figure.json",
    summary="One number against a varied field, as a Plotly figure",
    responses=answers("The figure", "sweep-figure", "not-found", "invalid-input"),
)
def figure(
    here: Here,
    sweep: str,
    y: Annotated[str, Query(max_length=64, description="A number of `/numbers`.")] = "accuracy",
    x: Annotated[str, Query(max_length=200, description="A varied field; empty takes the first.")] = "",
    by: Annotated[str, Query(max_length=200, description="A varied field whose values are joined; empty: all.")] = "",
    difference: Annotated[bool, Query(description="Differences from the first cell instead of values.")] = False,
    theme: Literal["light", "dark", "print"] = "light",
) -> Response:
    found = Numbers(here.laboratory, here.store.sweeps.get(sweep))
    x = x or found.fields[0]
    drawn = draw(found, theme, y=y, x=x, by=by, from_first=difference)
    return replies.json({**orjson.loads(encode(drawn)), "words": {"summary": summary(found, y, x, by, difference)}})


def summary(found: Numbers, y: str, x: str, by: str, difference: bool) -> str:
    """The picture in words."""
    points = found.points(y, x, by, from_first=difference)
    quantity = found.quantities[y]
    told = "; ".join(
        f"{label(point.cell.varied)}: {quantity.told(point.value, difference=difference)}"
        + (f" {common}" if difference and (common := found.common(point.cell.number, y)) else "")
        for point in points
    )
    missing = len(found.sweep.cells) - len(points)
    rest = f" {missing} of {len(found.sweep.cells)} cells have no such number yet." if missing else ""
    less = ", minus the first cell" if difference else ""
    return f"{quantity.title} by {short(x)}{less}. {told or 'Nothing yet'}.{rest}"
