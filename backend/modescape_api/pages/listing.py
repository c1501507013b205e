"""The list of experiments: search, filters, facets, columns, groups, named views, and what runs now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from modescape import stored_values
from modescape.acting import actor
from modescape.asking import OPERATORS, Asked
from modescape.columns import EXPERIMENTS, Field
from modescape.drawing.style import look
from modescape.drawing.words import duration
from modescape.finding import Finding
from modescape.listing import Condition, ListQuery, asked_names
from modescape.names import folded
from modescape.records import Status
from modescape.registry import datasets
from modescape.searching import quoted
from modescape.store.experiments import GROUPED
from modescape.tables import Experiment
from modescape_api.http.query import read
from modescape_api.http.site import Here, Site
from modescape_api.pages import told, tour
from modescape_api.pages.columns import Column, head, menu, put_in, shown
from modescape_api.pages.display import by_kind, counted, dotted, seconds_left
from modescape_api.pages.experiment import actions_of, architecture_title, trainings_of
from modescape_api.pages.rendering import ALIVE, Posted, address, alive_workers, back, render, visits

router = APIRouter()

GROUPS = ("preset", "dataset", "architecture", "project", "tag", "method", "parent", "status", "created_by")  # at hand
MOST_GROUPS = 100  # of one page
OPEN_ROWS = 10  # of an open group


@router.get("/")
def experiments_page(request: Request, here: Here) -> Response:
    if (view := request.query_params.get("view")) and set(request.query_params) == {"view"}:
        return _opened(here, view)
    asked = read(EXPERIMENTS, request.query_params, lenient=True)
    sort = asked.query.sort or ""
    beside = [sort.removeprefix("-"), *asked_names(asked.query.conditions)]
    columns = shown(request.query_params.getlist("columns"), dict.fromkeys(beside))
    computed = tuple(column.field.name for column in columns if column.is_computed)
    asked = replace(asked, query=replace(asked.query, show=computed))
    groups, by = _groups(request, here, asked, columns)
    page = here.store.experiments.page(asked.query if by is None else replace(asked.query, limit=1, show=()))
    rows = list(page.items) if by is None else []
    counts = here.store.experiments.facets(asked.query)
    statuses = dict(counts["status"] if not asked.chips else here.store.experiments.facets()["status"])
    total = sum(statuses.values())
    # By status, so that the index on it is used: 2 ms among 10,000 ended experiments, 25 in order of time.
    unfinished = ListQuery((Condition("status", "in", ALIVE),), sort="-status", limit=3)
    is_shared = visits(request)  # then the page tells of what it lists, and of nothing else
    running = [] if is_shared else here.store.experiments.page(unfinished).items
    is_archive = asked.query.archived is True
    archived = 0 if total and not is_archive else here.store.experiments.page(ListQuery(archived=True, limit=1)).total
    answer = render(
        request,
        here,
        "experiments.html",
        total=page.total if is_shared else total,
        archived_total=0 if is_shared else archived,
        running=[_running(here, row) for row in running if row.status != Status.QUEUED or len(running) == 1],
        last_event=here.store.events.last_id(),
        has_plots=bool(rows),
        page={
            "rows": _rows(rows, page.shown if by is None else (), computed),
            "total": page.total,
            "next": page.next if by is None else None,
            "next_url": address(request, cursor=page.next),
            "is_later": "cursor" in request.query_params and by is None,
            "first_url": address(request, cursor=None),
        },
        groups=groups,
        by=by,
        group_choices=[(name, address(request, group=name, open=None, cursor=None)) for name in GROUPS],
        ungrouped_url=address(request, group=None, open=None, cursor=None),
        sentence=asked.words,
        chips=[{"words": chip.text, "without": f"/?{chip.without}" if chip.without else "/"} for chip in asked.chips],
        faults=[
            {"text": asked.search[fault.start : fault.end], "message": fault.message, "allowed": fault.allowed}
            for fault in asked.faults
        ],
        facets=_facets(request, asked, counts),
        heads=[head(request, column) for column in columns],
        columns=columns,
        menu=menu(request, columns),
        fields=[*(field.name for field in EXPERIMENTS.asked.values()), *stored_values.known()],
        operators=[(name, operator.says) for name, operator in OPERATORS.items() if name not in ("null", "after")],
        filters=_but(request, "cursor"),
        kept=_but(request, "cursor", "q"),
        csv_url=address(request, path="/api/experiments", format="csv", cursor=None),
        plots_url=address(request, path="/plots", cursor=None, group=None, open=None, view=None),
        json_url=address(request, path="/api/experiments", cursor=None),
        archived=is_archive,
        search=asked.search,
        views={"all": [], "current": None} if is_shared else _views(request, here),
        view_query=urlencode(_but(request, "cursor", "view", "open")),
        has_search=True,
        tour_is_offered=not asked.chips and tour.is_offered(request, here, total),
        told=told.waiting(request),
        notice=dotted(*asked.notices) or None,
    )
    told.forget(request, answer)
    return answer


def _but(request: Request, *names: str) -> list[tuple[str, str]]:
    return [(key, value) for key, value in request.query_params.multi_items() if key not in names and value]


def _opened(here: Site, slug: str) -> Response:
    """A view by its name alone leads to its address, which says all that it shows."""
    row = here.store.views.get(slug)
    return back(f"/?{row.query}{'&' * bool(row.query)}view={row.slug}")


def _views(request: Request, here: Site) -> dict[str, Any]:
    """The named views, and which of them this is: `changed` where it was another look then."""
    now = urlencode(_but(request, "cursor", "view", "open", "limit"))
    current = request.query_params.get("view", "")
    rows = here.store.views.all()
    is_known = any(row.slug == current for row in rows)
    entries = []
    for row in rows:
        is_this = row.slug == current if is_known else _asks_the_same(row.query, now)
        entries.append(
            {
                "slug": row.slug, "name": row.name, "url": f"/?{row.query}{'&' * bool(row.query)}view={row.slug}",
                "on": is_this, "changed": is_this and not _asks_the_same(row.query, now),
                "mine": actor().owns(row.created_by), "by": row.created_by,
            }
        )  # fmt: skip
    return {"all": entries, "current": next((one for one in entries if one["on"]), None)}


def _asks_the_same(query: str, other: str) -> bool:
    """Whatever the order; both as `urlencode` writes them. By their lengths first: there may be hundreds."""
    return len(query) == len(other) and sorted(query.split("&")) == sorted(other.split("&"))


def _rows(rows: Sequence[Experiment], values: Sequence[Sequence[Any]], computed: Sequence[str]) -> list[dict[str, Any]]:
    widest = max([e.disagreement or 0.0 for e in rows], default=0.0) or 1.0
    return [
        {**_row(row, widest), "computed": dict(zip(computed, of_row, strict=True))}
        for row, of_row in zip(rows, values or [()] * len(rows), strict=True)
    ]


def _row(row: Experiment, widest: float) -> dict[str, Any]:
    best = Finding.of(row).best_method
    return {
        "experiment": row,
        "line": _line(row),
        "data": datasets.title(row.dataset),
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


def _groups(
    request: Request, here: Site, asked: Asked, columns: Sequence[Column]
) -> tuple[list[dict[str, Any]], Field | None]:
    """The groups that the address asks for, and by which field: each with mean and spread of the columns that are
    numbers, and with its first rows where it is open."""
    by = EXPERIMENTS.find(request.query_params.get("group", ""))
    if by is None or by.kind not in GROUPED:
        return [], None
    numbers = [column.field.name for column in columns if column.is_number]
    found = here.store.experiments.groups(asked.query, by.name, numbers)
    opened = request.query_params.getlist("open")
    label = by.facet.label if by.facet else str
    told = []
    for one in found[:MOST_GROUPS]:
        name = "" if one.value is None else f"{one.value:g}" if isinstance(one.value, float) else str(one.value)
        key = f"={name}" if one.value is not None else "none"
        is_open = key in opened
        others = [text for text in opened if text != key]
        kept = [*_but(request, "open", "cursor"), *(("open", text) for text in (others if is_open else [*opened, key]))]
        line = f"{by.name}={quoted(name)}" if one.value is not None else f"-has:{by.name}"
        whole = " ".join(filter(None, (asked.search, line)))
        inside = Condition(by.name, "null", True) if one.value is None else Condition(by.name, "eq", one.value)
        query = replace(asked.query, conditions=(*asked.query.conditions, inside), limit=OPEN_ROWS, cursor=None)
        page = here.store.experiments.page(query) if is_open else None
        computed = [column.field.name for column in columns if column.is_computed]
        told.append(
            {
                "key": key,
                "label": label(name) if one.value is not None else f"no {by.words}",
                "n": one.n,
                "open": is_open,
                "url": f"{request.url.path}?{urlencode(kept)}",
                "all_url": address(request, q=whole, group=None, open=None, cursor=None),
                "numbers": one.numbers,
                "rows": _rows(list(page.items), page.shown, computed) if page else [],
                "more": max(0, page.total - OPEN_ROWS) if page else 0,
                "left": 0,
            }
        )
    if len(found) > MOST_GROUPS:
        told[-1]["left"] = len(found) - MOST_GROUPS
    return told, by


def _facets(request: Request, asked: Asked, counts: Mapping[str, Sequence[tuple[str, int]]]) -> list[dict[str, Any]]:
    """Values among what the query finds, as links that add or take away one condition. One that parts nothing is left
    out where it is rare."""
    found = []
    for field, facet in sorted(EXPERIMENTS.facets, key=lambda pair: pair[1].place):
        name, chosen = field.name, {folded(str(value)) for value in asked.values(field.name)}
        values = counts.get(name, []) if facet.heading else []
        if facet.rare and len(values) < 2 and not chosen:
            continue
        most = max([count for _, count in values], default=1)
        entries = []
        for value, count in values[:6]:
            on = folded(value) in chosen
            url = address(request, changes=_picked(asked, field, value, on=on))
            width = max(2, 28 * count // most)
            entries.append(
                {"value": value, "label": facet.label(value), "count": count, "on": on, "url": url, "width": width}
            )
        if entries:
            found.append({"name": name, "title": facet.heading, "mark": facet.mark, "entries": entries})
    return found


def _picked(asked: Asked, field: Field, value: str, *, on: bool) -> dict[str, str | None]:
    """What a facet's link changes of the address. A value with commas in it goes into the line of the search box: as a
    parameter it would be several."""
    if "," in value and not on:
        line = " ".join(filter(None, (asked.search, f"{field.name}={quoted(value)}")))
        return {"q": line, "cursor": None}
    return {field.name: None if on else value, "cursor": None}


def _running(here: Site, row: Experiment) -> dict[str, Any]:
    stages = here.store.stages.without_results(row.id)
    left = seconds_left(stages, alive_workers(here))
    return {
        "experiment": row,
        "subject": dotted(
            f"{architecture_title(row.architecture)} on {datasets.title(row.dataset)}".removeprefix(" on "),
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
    """The list with one more condition, another order, one more column or in groups, as an address that can be kept:
    field, op, value, or by, or column, or groups."""
    given = request.query_params
    ours = ("field", "op", "value", "by", "column", "groups", "cursor")
    kept = [(key, value) for key, value in given.multi_items() if key not in ours]
    field, op, value = (given.get(name, "").strip() for name in ("field", "op", "value"))
    if field and value:
        kept.append((field if op in ("", "eq") else f"{field}__{op}", value))
    if by := given.get("by", "").strip():
        kept = [*((key, text) for key, text in kept if key != "sort"), ("sort", by)]
    if column := given.get("column", "").strip():
        kept = [*((key, text) for key, text in kept if key != "columns"), ("columns", put_in(given, column))]
    if group := given.get("groups", "").strip():
        kept = [*((key, text) for key, text in kept if key not in ("group", "open")), ("group", group)]
    return back(f"/?{urlencode(kept)}" if kept else "/")


@router.post("/views")
def keep_view(here: Here, form: Posted) -> Response:
    """A look at the list under a name, from then on at its address."""
    row = here.store.views.add(str(form.get("name", "")), str(form.get("query", "")))
    return _opened(here, row.slug)


@router.post("/views/{view}")
def change_view(here: Here, view: str, form: Posted) -> Response:
    """What the list shows now, under that name; or another name."""
    name, query = (form.get(key) for key in ("name", "query"))
    changes = {"name": str(name) if name else None, "query": str(query) if query is not None else None}
    return _opened(here, here.store.views.change(view, **changes).slug)


@router.post("/views/{view}/remove")
def remove_view(here: Here, view: str, form: Posted) -> Response:
    here.store.views.remove(view)
    return back(str(form.get("next", "/")))
