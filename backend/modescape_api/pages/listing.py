"""The list of experiments: filters, facets, columns, what runs now, and acting on several at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from starlette.datastructures import FormData

from modescape import stored_values
from modescape.acting import UserRole
from modescape.asking import OPERATORS, Asked
from modescape.columns import EXPERIMENTS, Cell, Field, Kind, Shows
from modescape.drawing.style import look
from modescape.drawing.words import duration
from modescape.finding import Finding
from modescape.listing import Condition, ListQuery
from modescape.records import Status
from modescape.tables import Experiment
from modescape_api.http.identity import needs
from modescape_api.http.query import MOST_COMPUTED, read
from modescape_api.http.site import Here, Site
from modescape_api.pages.display import by_kind, counted, dotted, seconds_left
from modescape_api.pages.experiment import actions_of, architecture_title, trainings_of
from modescape_api.pages.rendering import ALIVE, Posted, address, alive_workers, back, render

router = APIRouter()


@router.get("/")
def experiments_page(request: Request, here: Here) -> Response:
    asked = read(EXPERIMENTS, request.query_params, lenient=True)
    columns = _columns(request, asked.query.sort or "")
    computed = tuple(field.name for field, _ in columns if field not in EXPERIMENTS.all)
    asked = replace(asked, query=replace(asked.query, show=computed))
    page = here.store.experiments.page(asked.query)
    rows = list(page.items)
    widest = max([e.disagreement or 0.0 for e in rows], default=0.0) or 1.0
    counts = here.store.experiments.facets(asked.query)
    statuses = dict(counts["status"] if not asked.chips else here.store.experiments.facets()["status"])
    # By status, so that the index on it is used: 2 ms among 10,000 ended experiments, 25 in order of time.
    unfinished = ListQuery((Condition("status", "in", ALIVE),), sort="-status", limit=3)
    running = here.store.experiments.page(unfinished).items
    return render(
        request,
        here,
        "experiments.html",
        total=sum(statuses.values()),
        running=[_running(here, row) for row in running if row.status != Status.QUEUED or len(running) == 1],
        last_event=here.store.events.last_id(),
        has_plots=bool(rows),
        page={
            "rows": [
                {**_row(row, widest), "computed": dict(zip(computed, values, strict=True))}
                for row, values in zip(rows, page.shown or [()] * len(rows), strict=True)
            ],
            "total": page.total,
            "next": page.next,
            "next_url": address(request, cursor=page.next),
            "is_later": "cursor" in request.query_params,
            "first_url": address(request, cursor=None),
        },
        sentence=asked.words,
        chips=[{"words": chip.text, "without": f"/?{chip.without}" if chip.without else "/"} for chip in asked.chips],
        facets=_facets(request, asked, counts),
        heads=[_head(request, field, cell) for field, cell in columns],
        columns=columns,
        fields=[*(field.name for field in EXPERIMENTS.asked.values()), *stored_values.known()],
        operators=[(name, operator.says) for name, operator in OPERATORS.items() if name not in ("null", "after")],
        column_choices=[column for column in EXPERIMENTS.cells if column[1].shows != Shows.TITLE],
        kept=[(key, value) for key, value in request.query_params.multi_items() if key not in ("columns", "cursor")],
        filters=[(key, value) for key, value in request.query_params.multi_items() if key != "cursor"],
        csv_url=address(request, path="/api/experiments", format="csv", cursor=None),
        json_url=address(request, path="/api/experiments", cursor=None),
        archived=bool(asked.query.archived),
        search=asked.search,
        notice=dotted(*asked.notices) or None,
    )


def _row(row: Experiment, widest: float) -> dict[str, Any]:
    best = Finding.of(row).best_method
    return {
        "experiment": row,
        "line": _line(row),
        "architecture": architecture_title(row.architecture),
        "width": 100 * (row.disagreement or 0.0) / widest,
        "best": best
        and {
            "disagreement": best.disagreement,
            "look": look(best.method).key,
            "width": 100 * best.disagreement / widest,
        },
    }


def _line(row: Experiment) -> str:
    """What came of it; an error last, where the experiment has succeeded without what failed."""
    found = Finding.of(row).line
    if row.status == Status.FAILED:
        return row.error or found
    return "; ".join(filter(None, (found or _waiting_line(row), row.error)))


def _waiting_line(row: Experiment) -> str:
    if not row.status.has_ended:
        return f"{row.stages_done} of {row.stages_total} stages done"
    return "cancelled; what is there is kept" if row.status == Status.CANCELLED else ""


def _columns(request: Request, sort: str) -> list[tuple[Field, Cell]]:
    """Columns shown: those of `columns=` that exist (a name is always there), or the usual ones; then computed ones
    that are asked for, sorted by or filtered by."""
    asked = [part.strip() for value in request.query_params.getlist("columns") for part in value.split(",")]
    named = [*asked, sort.removeprefix("-"), *(key.partition("__")[0] for key in request.query_params)]
    computed = [field for name in dict.fromkeys(named) if (field := EXPERIMENTS.beside(name)) is not None]
    return [*_stored_columns(request), *((field, field.cell) for field in computed[:MOST_COMPUTED] if field.cell)]


def _stored_columns(request: Request) -> list[tuple[Field, Cell]]:
    asked = {part.strip() for value in request.query_params.getlist("columns") for part in value.split(",")}
    chosen = [(field, cell) for field, cell in EXPERIMENTS.cells if asked & {field.name, field.key or field.name}]
    if not chosen:
        return [(field, cell) for field, cell in EXPERIMENTS.cells if cell.usual]
    return [column for column in EXPERIMENTS.cells if column in chosen or column[1].shows == Shows.TITLE]


def _head(request: Request, field: Field, cell: Cell) -> dict[str, Any]:
    if not (field.words and field.sortable):
        return {"label": cell.heading, "css": cell.css, "sort": None, "url": None}
    given = request.query_params.get("sort", EXPERIMENTS.sort)
    current = given if given.removeprefix("-") == field.name else ""
    first = field.name if field.kind == Kind.TEXT else "-" + field.name
    turned = field.name if current.startswith("-") else "-" + field.name
    sort = {"": None, "-": "descending"}.get(current[:1], "ascending")
    return {
        "label": cell.heading,
        "css": cell.css,
        "sort": sort,
        "url": address(request, sort=turned if current else first, cursor=None),
    }


def _facets(request: Request, asked: Asked, counts: Mapping[str, Sequence[tuple[str, int]]]) -> list[dict[str, Any]]:
    """Values among what the query finds, as links that add or take away one condition."""
    found = []
    for field, facet in sorted(EXPERIMENTS.facets, key=lambda pair: pair[1].place):
        name, chosen = field.name, asked.values(field.name)
        values = counts.get(name, []) if facet.heading else []
        most = max([count for _, count in values], default=1)
        entries = []
        for value, count in values[:6]:
            on = value in chosen
            url = address(request, changes={name: None if on else value, "cursor": None})
            width = max(2, 56 * count // most)
            entries.append(
                {"value": value, "label": facet.label(value), "count": count, "on": on, "url": url, "width": width}
            )
        if entries:
            found.append({"title": facet.heading, "mark": facet.mark, "entries": entries})
    return found


def _running(here: Site, row: Experiment) -> dict[str, Any]:
    stages = here.store.stages.without_results(row.id)
    left = seconds_left(stages, alive_workers(here))
    return {
        "experiment": row,
        "subject": dotted(
            f"{architecture_title(row.architecture)} on {row.dataset}".removeprefix(" on "),
            counted(row.runs, Finding.of(row).voice("run")),
            counted(len(row.methods), "method") if row.methods else "",
        ),
        "stages": by_kind(stages),
        "left": duration(left) if left is not None and row.status == Status.RUNNING else None,
        "trainings": trainings_of(here, row, stages),
        "actions": actions_of(row),
    }


@router.get("/filter")
def add_filter(request: Request) -> Response:
    """The list with one more condition or another order, as an address that can be kept: field, op, value, or by."""
    given = request.query_params
    kept = [(key, value) for key, value in given.multi_items() if key not in ("field", "op", "value", "by", "cursor")]
    field, op, value = (given.get(name, "").strip() for name in ("field", "op", "value"))
    if field and value:
        kept.append((field if op in ("", "eq") else f"{field}__{op}", value))
    if by := given.get("by", "").strip():
        kept = [*((key, text) for key, text in kept if key != "sort"), ("sort", by)]
    return back(f"/?{urlencode(kept)}" if kept else "/")


@router.post("/archive")
def archive_many(here: Here, form: Posted) -> Response:
    return _many(form, here.store.experiments.archive)


@router.post("/restore")
def restore_many(here: Here, form: Posted) -> Response:
    return _many(form, here.store.experiments.restore)


@router.post("/compare")
@needs(UserRole.VIEWER)
def compare_chosen(form: Posted) -> Response:
    """The rows chosen in the list, as an address that can be kept."""
    asked = urlencode([("e", str(reference)) for reference in form.getlist("ref")[:100]])
    return RedirectResponse(f"/compare?{asked}", status_code=303)


def _many(form: FormData, act: Callable[[str], Experiment]) -> Response:
    for reference in form.getlist("ref")[:1000]:
        act(str(reference))
    return back(str(form.get("next", "/")))
