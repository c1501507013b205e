"""The list of experiments: filters, facets, columns, what runs now, and acting on several at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from modescape.drawing.groups import method_title
from modescape.drawing.words import duration
from modescape.finding import Finding
from modescape.listing import Condition, ListQuery
from modescape.records import Status
from modescape.registry import architectures
from modescape.tables import Experiment
from modescape_api.http.query import EXPERIMENTS, Asked
from modescape_api.http.site import Here, Site
from modescape_api.pages.display import by_kind, counted, look_of, seconds_left
from modescape_api.pages.experiment import actions_of, title_of, trainings_of
from modescape_api.pages.rendering import ALIVE, address, alive_workers, back, render

router = APIRouter()

_FACETS = (
    ("dataset", "dataset", "Dataset"),
    ("architecture", "architecture", "Architecture"),
    ("method", "method", "Methods"),
    ("status", "status", "Status"),
    ("input_scale", "input_scale", "Input scale"),
)
# Field, heading, class, and whether the column is there unless asked for. `columns=` in the address chooses.
_HEADS = (
    ("name", "Name and newest finding", "name", True),
    ("dataset", "Data and network", "opt", True),
    ("runs", "Runs", "num opt", True),
    ("accuracy", "Accuracy, % single → ensemble", "num", True),
    ("disagreement", "Disagreement independent, best subspace", "", True),
    ("seconds", "Cost", "num opt", True),
    ("created", "When", "num opt", True),
    ("methods", "Methods", "opt", False),
    ("tags", "Tags", "opt", False),
    ("created_by", "By", "opt", False),
)
_SORTABLE = ("name", "dataset", "runs", "accuracy", "disagreement", "seconds", "created")


@router.get("/")
def experiments_page(request: Request, here: Here) -> Response:
    asked = EXPERIMENTS.read(request.query_params, lenient=True)
    columns = _columns(request)
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
            "rows": [_row(row, widest) for row in rows],
            "total": page.total,
            "next": page.next,
            "next_url": address(request, cursor=page.next),
            "is_later": "cursor" in request.query_params,
            "first_url": address(request, cursor=None),
        },
        sentence=asked.words,
        chips=[{"words": chip.text, "without": f"/?{chip.without}" if chip.without else "/"} for chip in asked.chips],
        facets=_facets(request, asked, counts),
        heads=[_head(request, field, label, css) for field, label, css, _ in _HEADS if field in columns],
        columns=columns,
        column_choices=[(field, label) for field, label, _, _ in _HEADS[1:]],
        kept=[(key, value) for key, value in request.query_params.multi_items() if key not in ("columns", "cursor")],
        csv_url=address(request, path="/api/experiments", format="csv", cursor=None),
        json_url=address(request, path="/api/experiments", cursor=None),
        archived=bool(asked.query.archived),
        search=asked.search,
        notice=" · ".join(asked.notices) or None,
    )


def _row(row: Experiment, widest: float) -> dict[str, Any]:
    best = Finding.from_json(row.finding).best_method
    return {
        "experiment": row,
        "line": _line(row),
        "architecture": architectures[row.architecture].title
        if row.architecture in architectures
        else row.architecture,
        "width": 100 * (row.disagreement or 0.0) / widest,
        "best": best
        and {
            "disagreement": best.disagreement,
            "look": look_of(best.method).key,
            "width": 100 * best.disagreement / widest,
        },
    }


def _line(row: Experiment) -> str:
    """What came of it; an error last, where the experiment has succeeded without what failed."""
    found = Finding.from_json(row.finding).line
    if row.status == Status.FAILED:
        return row.error or found
    return "; ".join(filter(None, (found or _waiting_line(row), row.error)))


def _waiting_line(row: Experiment) -> str:
    if not row.status.has_ended:
        return f"{row.stages_done} of {row.stages_total} stages done"
    return "cancelled; what is there is kept" if row.status == Status.CANCELLED else ""


def _columns(request: Request) -> list[str]:
    """Columns shown: those of `columns=` that exist (a name is always there), or the usual ones."""
    asked = {part.strip() for value in request.query_params.getlist("columns") for part in value.split(",")}
    if not asked & {field for field, *_ in _HEADS}:
        return [field for field, _, _, usual in _HEADS if usual]
    return [field for field, *_ in _HEADS if field in asked or field == "name"]


def _head(request: Request, field: str, label: str, css: str) -> dict[str, Any]:
    if field not in _SORTABLE:
        return {"label": label, "css": css, "sort": None, "url": None}
    given = request.query_params.get("sort", EXPERIMENTS.default_sort)
    current = given if given.removeprefix("-") == field else ""
    up = "-" + field if field not in ("name", "dataset") else field
    turned = field if current.startswith("-") else "-" + field
    sort = {"": None, "-": "descending"}.get(current[:1], "ascending")
    return {
        "label": label,
        "css": css,
        "sort": sort,
        "url": address(request, sort=turned if current else up, cursor=None),
    }


def _facets(request: Request, asked: Asked, counts: Mapping[str, Sequence[tuple[str, int]]]) -> list[dict[str, Any]]:
    """Values among what the query finds, as links that add or take away one condition."""
    found = []
    for column, parameter, title in _FACETS:
        chosen = asked.values(column)
        values = counts.get(column, [])
        most = max([count for _, count in values], default=1)
        entries = []
        for value, count in values[:6]:
            on = value in chosen
            url = address(request, changes={parameter: None if on else value, "cursor": None})
            label = method_title(value) if column == "method" else title_of(column, value)
            entries.append(
                {
                    "value": value,
                    "label": label,
                    "count": count,
                    "on": on,
                    "url": url,
                    "width": max(2, 56 * count // most),
                    "look": value,
                }
            )
        if entries:
            found.append({"name": column, "title": title, "entries": entries})
    return found


def _running(here: Site, row: Experiment) -> dict[str, Any]:
    stages = here.store.stages.without_results(row.id)
    left = seconds_left(stages, alive_workers(here))
    names = f"{title_of('architecture', row.architecture)} on {row.dataset}"
    return {
        "experiment": row,
        "subject": " · ".join(
            [names, counted(row.runs, "run"), *([counted(len(row.methods), "method")] if row.methods else [])]
        ),
        "stages": by_kind(stages),
        "left": duration(left) if left is not None and row.status == Status.RUNNING else None,
        "trainings": trainings_of(here, row, stages),
        "actions": actions_of(row.status),
    }


@router.post("/archive")
async def archive_many(request: Request, here: Here) -> Response:
    return await _many(request, here, here.store.experiments.archive)


@router.post("/restore")
async def restore_many(request: Request, here: Here) -> Response:
    return await _many(request, here, here.store.experiments.restore)


@router.post("/compare")
async def compare_chosen(request: Request, here: Here) -> Response:
    """The rows chosen in the list, as an address that can be kept."""
    form = await request.form(max_fields=2000)
    asked = urlencode([("e", str(reference)) for reference in form.getlist("ref")[:100]])
    return RedirectResponse(f"/compare?{asked}", status_code=303)


async def _many(request: Request, here: Site, act: Callable[[str], Experiment]) -> Response:
    form = await request.form(max_fields=2000)
    for reference in form.getlist("ref")[:1000]:
        await run_in_threadpool(act, str(reference))
    return back(str(form.get("next", "/")))
