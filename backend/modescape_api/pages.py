"""The pages people see: the same functions as the JSON API, answered as HTML; forms post here and work without script.

A page and its data are one address: `/` answers the query string of `/api/experiments`, `/experiments/x` shows what
`/api/experiments/x` says. Templates and static files lie in `frontend`; everything people typed is escaped by Jinja.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, lru_cache
from typing import Annotated, Any
from urllib.parse import urlencode

import jinja2
import numpy as np
from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool

from modescape import finding
from modescape.errors import DataCorrupt, DataMissing, Forbidden, InvalidInput, ModescapeError, NotFound, Problem
from modescape.figures.figure import FigureData, FigureNotReady, method_title, thousands
from modescape.listing import Condition, ListQuery
from modescape.plan import departures, differences
from modescape.registry import Entry, Figure, Preset, architectures, datasets, figures, methods, presets
from modescape.results import Results
from modescape.science.corruptions import TYPES
from modescape.spec import PROTOCOLS, ExperimentSpec, parse, under_protocol
from modescape.tables import Experiment, Stage
from modescape_api import (
    assets,
    bodies,
    catalogue,
    claims,
    compare,
    data,
    documentation,
    experiments,
    forms,
    paper,
    replies,
    security,
    workers,
)
from modescape_api import figures as figures_api
from modescape_api.display import FILTERS, by_kind, crumbs, duration, look_of, seconds_left, training
from modescape_api.experiments import Changes, Draft
from modescape_api.query import EXPERIMENTS, Asked
from modescape_api.site import Here, Site

router = APIRouter(include_in_schema=False)

ALIVE = ("queued", "running", "paused")
EVENT_KINDS = (
    "created changed cancelled paused resumed retried archived restored purged status points progress stage-ready "
    "stage-running stage-succeeded stage-failed stage-paused stage-cancelled stage-lost worker"
)
LOG_ROWS, TABLE_ROWS = 200, 500


# -- rendering --------------------------------------------------------------------------------------------------------


@lru_cache
def _templates() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(assets.frontend() / "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters.update(FILTERS)
    environment.globals.update(asset=assets.url, look_of=look_of, plotly=assets.plotly_url(), event_kinds=EVENT_KINDS)
    return environment


def render(
    request: Request,
    here: Site | None,
    template: str,
    /,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> Response:
    """A page in the visitor's theme (a cookie, so nothing flashes). here is None only before the start has finished."""
    theme = request.cookies.get("theme")
    signed_in = here is not None and security.is_signed_in(request, here.token)
    shared = {
        "theme": theme if theme in ("light", "dark") else None,
        "signed_in": signed_in,
        "needs_token": here is not None and here.token is not None,
        "csrf": security.form_token(request, here) if here is not None else "",
        "here_path": request.url.path + (f"?{request.url.query}" if request.url.query else ""),
        "section": request.url.path,
        "workers_alive": alive_workers(here) if here is not None and signed_in else None,
        "version": documentation.VERSION,
        "notice": None,
        "notice_is_bad": False,
        "search": "",
    }
    text = _templates().get_template(template).render({**shared, **values})
    return HTMLResponse(
        text, status_code=status, headers={"cache-control": replies.REVALIDATE, "vary": "cookie", **(headers or {})}
    )


def error_page(request: Request, document: Mapping[str, Any], *, headers: Mapping[str, str]) -> Response:
    """A problem document as a page."""
    here = getattr(request.app.state, "site", None) if "app" in request.scope else None
    return render(
        request, here, "error.html", status=int(document["status"]), headers=headers, problem=document, section=""
    )


def signin_page(request: Request, here: Site, *, next: str, error: str, status: int = 200) -> Response:
    return render(request, here, "signin.html", status=status, next=next, error=error)


def alive_workers(here: Site) -> int:
    """How many workers were heard of lately and have not said goodbye."""
    return sum(workers.state(here, row) in ("working", "idle") for row in here.store.workers())


def _back(path: str) -> Response:
    return RedirectResponse(security.own_path(path), status_code=303)


Csrf = Annotated[str, Form(max_length=200)]
Next = Annotated[str, Form(max_length=2000)]


@router.post("/theme")
def set_theme(
    request: Request, here: Here, csrf: Csrf = "", theme: Annotated[str, Form()] = "", next: Next = "/"
) -> Response:
    security.check_form(request, here, csrf)
    if theme not in ("light", "dark"):
        raise InvalidInput(f"there is no theme {theme[:40]!r}", field="theme", allowed="light, dark")
    answer = _back(next)
    answer.set_cookie("theme", theme, max_age=31536000, samesite="lax")
    return answer


# -- the list ---------------------------------------------------------------------------------------------------------

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
    page = here.store.experiments(asked.query)
    rows = list(page.items)
    widest = max([e.disagreement or 0.0 for e in rows], default=0.0) or 1.0
    counts = here.store.facets(asked.query)
    statuses = dict(counts["status"] if not asked.chips else here.store.facets()["status"])
    # By status, so that the index on it is used: 2 ms among 10,000 ended experiments, 25 in order of time.
    unfinished = ListQuery((Condition("status", "in", ALIVE),), sort="-status", limit=3)
    running = here.store.experiments(unfinished).items
    return render(
        request,
        here,
        "experiments.html",
        total=sum(statuses.values()),
        running=[_running(here, row) for row in running if row.status != "queued" or len(running) == 1],
        last_event=here.store.last_event_id(),
        has_plots=bool(rows),
        page={
            "rows": [_row(row, widest) for row in rows],
            "total": page.total,
            "next": page.next,
            "next_url": _url(request, cursor=page.next),
            "is_later": "cursor" in request.query_params,
            "first_url": _url(request, cursor=None),
        },
        sentence=asked.words,
        chips=[{"words": chip.text, "without": f"/?{chip.without}" if chip.without else "/"} for chip in asked.chips],
        facets=_facets(request, asked, counts),
        heads=[_head(request, field, label, css) for field, label, css, _ in _HEADS if field in columns],
        columns=columns,
        column_choices=[(field, label) for field, label, _, _ in _HEADS[1:]],
        kept=[(key, value) for key, value in request.query_params.multi_items() if key not in ("columns", "cursor")],
        csv_url=_url(request, path="/api/experiments", format="csv", cursor=None),
        json_url=_url(request, path="/api/experiments", cursor=None),
        archived=bool(asked.query.archived),
        search=asked.search,
        notice=" · ".join(asked.notices) or None,
    )


def _url(
    request: Request, *, path: str = "", changes: Mapping[str, str | None] | None = None, **named: str | None
) -> str:
    """This address with parameters changed (None: taken away)."""
    changes = {**(changes or {}), **named}
    pairs = [(key, value) for key, value in request.query_params.multi_items() if key not in changes and value]
    pairs += [(key, value) for key, value in changes.items() if value is not None]
    return (path or request.url.path) + (f"?{urlencode(pairs)}" if pairs else "")


def _row(row: Experiment, widest: float) -> dict[str, Any]:
    best = finding.best_method(row.finding)
    return {
        "experiment": row,
        "line": row.error or finding.line(row.finding) or _waiting_line(row),
        "architecture": architectures[row.architecture].title
        if row.architecture in architectures
        else row.architecture,
        "width": 100 * (row.disagreement or 0.0) / widest,
        "best": best
        and {
            "disagreement": best["disagreement"],
            "look": look_of(best["method"]).key,
            "width": 100 * best["disagreement"] / widest,
        },
    }


def _waiting_line(row: Experiment) -> str:
    if row.status in ("queued", "running", "paused"):
        return f"{row.stages_done} of {row.stages_total} stages done"
    return "cancelled; what is there is kept" if row.status == "cancelled" else ""


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
    return {"label": label, "css": css, "sort": sort, "url": _url(request, sort=turned if current else up, cursor=None)}


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
            url = _url(request, changes={parameter: None if on else value, "cursor": None})
            label = method_title(value) if column == "method" else _title(column, value)
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


def _title(column: str, value: str) -> str:
    registry: Mapping[str, Entry] = {"architecture": architectures, "dataset": datasets}.get(column, {})  # type: ignore[assignment]
    return registry[value].title if value in registry else forms.words(column, value)


def _running(here: Site, row: Experiment) -> dict[str, Any]:
    stages = here.store.stage_rows(row.id)
    left = seconds_left(stages, alive_workers(here))
    names = f"{_title('architecture', row.architecture)} on {row.dataset}"
    return {
        "experiment": row,
        "subject": f"{names} · {row.runs} runs" + (f" · {len(row.methods)} methods" if row.methods else ""),
        "stages": by_kind(stages),
        "left": duration(left) if left is not None and row.status == "running" else None,
        "trainings": _trainings(here, row, stages),
        "actions": _actions(row.status),
    }


def _trainings(here: Site, row: Experiment, stages: Sequence[Stage]) -> list[Any]:
    running = [stage for stage in stages if stage.kind == "train" and stage.state == "running"][:4]
    found = []
    for stage in running:
        _, losses, _ = here.store.points(row.id, int(stage.params.get("run", 0)), "train/loss")
        found.append(training(stage, [float(v) for v in losses[-600:]]))
    return found


def _actions(status: str) -> list[tuple[str, str]]:
    return {
        "queued": [("pause", "Pause"), ("cancel", "Cancel")],
        "running": [("pause", "Pause"), ("cancel", "Cancel")],
        "paused": [("resume", "Resume"), ("cancel", "Cancel")],
        "failed": [("retry", "Retry")],
        "cancelled": [("retry", "Take up again")],
    }.get(status, [])


@router.post("/archive")
async def archive_many(request: Request, here: Here) -> Response:
    return await _many(request, here, here.store.archive)


@router.post("/restore")
async def restore_many(request: Request, here: Here) -> Response:
    return await _many(request, here, here.store.restore)


@router.post("/compare")
async def compare_chosen(request: Request, here: Here) -> Response:
    """The rows chosen in the list, as an address that can be kept."""
    form = await request.form(max_fields=2000)
    security.check_form(request, here, str(form.get("csrf", "")))
    asked = urlencode([("e", str(reference)) for reference in form.getlist("ref")[:100]])
    return RedirectResponse(f"/compare?{asked}", status_code=303)


async def _many(request: Request, here: Site, act: Callable[[str], Experiment]) -> Response:
    form = await request.form(max_fields=2000)
    security.check_form(request, here, str(form.get("csrf", "")))
    for reference in form.getlist("ref")[:1000]:
        await run_in_threadpool(act, str(reference))
    return _back(str(form.get("next", "/")))


# -- launching --------------------------------------------------------------------------------------------------------

# What a preset's card shows, by the figure of the paper it makes, or by its name.
_PICTURES = {
    "Fig 2": "trajectories", "Fig 3": "similarity", "Fig 4": "islands", "Fig 5": "landscape", "Fig 6": "plane",
    "Fig 8": "curves", "Fig 9": "shift", "Fig 10": "shift", "SVHN row": "outside", "Fig S1": "landscape",
    "Fig S2": "tunnel", "Fig S3": "tunnel", "Fig S4": "seeds", "Fig S5": "cycles", "instability-short": "seeds",
    "instability": "seeds", "connectivity-short": "tunnel", "connectivity": "tunnel",
}  # fmt: skip


@router.get("/launch")
def launch_page(
    request: Request,
    here: Here,
    preset: str = "quickstart",
    version: str = "",
    protocol: str = "",
    add: Annotated[str, Query(alias="with", description="What to add: see claims.with_more.")] = "",
) -> Response:
    source = here.store.experiment(request.query_params["from"]) if request.query_params.get("from") else None
    chosen = presets[preset] if source is None and preset in presets else None
    document = source.spec if source else chosen.call() if chosen else parse({}).model_dump(mode="json")
    if protocol in PROTOCOLS:
        document = under_protocol(document, protocol)
    document = claims.with_more(document, add)
    draft = bodies.validate(Draft, {"spec": document, "preset": chosen.name if chosen else None})
    plan, problems = _planned(here, draft)
    full = version == "paper" or (
        version == "" and chosen is not None and _twin(chosen) is not None and chosen.twin_of is None
    )
    return _launch_form(
        request,
        here,
        values=forms.to_values(document),
        plan=plan,
        problems=problems,
        preset=chosen,
        source=source,
        full=full,
        name=f"{source.name[:110]} copy" if source else "",
        document=document,
    )


@router.post("/launch")
async def launch(request: Request, here: Here) -> Response:
    form = await request.form(max_fields=1000)
    pairs = [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
    return await run_in_threadpool(_launch, request, here, pairs)


def _launch(request: Request, here: Site, pairs: list[tuple[str, str]]) -> Response:
    given = dict(pairs)
    security.check_form(request, here, given.get("csrf", ""))
    document = forms.to_document(pairs)
    chosen = presets[given["preset"]] if given.get("preset") in presets else None
    body = {"spec": document, "preset": chosen.name if chosen else None, "notes": given.get("notes", "")}
    name = given.get("name", "").strip()
    try:
        draft = bodies.validate(Draft, {**body, "name": name} if name else body)
        if given.get("do") != "plan":
            # Pressing twice sends the same key with the same body: one experiment. A changed form is another one.
            same = hashlib.sha256(replies.encode(draft.model_dump(mode="json"))).hexdigest()[:16]
            row = experiments.launch(here, draft, key=f"form-{given.get('key', '')[:60]}-{same}")
            return RedirectResponse(f"/experiments/{row.slug}", status_code=303)
        plan, problems = _planned(here, draft)
    except DataMissing as error:
        plan, problems = _planned(here, draft)[0], _problems(error)
    except (InvalidInput, DataCorrupt, Forbidden) as error:
        plan, problems = None, _problems(error)
    values = forms.from_posted(pairs)
    return _launch_form(
        request,
        here,
        values=values,
        plan=plan,
        problems=problems,
        preset=chosen,
        name=name,
        notes=given.get("notes", ""),
        status=422 if problems else 200,
        document=document,
    )


def _planned(here: Site, draft: Draft) -> tuple[dict[str, Any] | None, list[Problem]]:
    try:
        return _with_shades(catalogue.as_estimate(here, catalogue.estimate(here, draft), draft.preset)), []
    except (InvalidInput, DataMissing, DataCorrupt, Forbidden) as error:
        return None, _problems(error)


def _problems(error: ModescapeError) -> list[Problem]:
    if isinstance(error, InvalidInput | DataMissing):
        return list(error.problems)
    return [Problem(str(error), "data.path")]


def _with_shades(plan: dict[str, Any]) -> dict[str, Any]:
    total = sum(kind["seconds"] for kind in plan["kinds"]) or 1.0
    kinds = [
        {**kind, "share": kind["seconds"] / total, "shade": max(0.2, 0.85 - 0.17 * i)}
        for i, kind in enumerate(plan["kinds"])
    ]
    return {**plan, "kinds": kinds}


def _launch_form(
    request: Request,
    here: Site,
    *,
    values: forms.Values,
    plan: dict[str, Any] | None,
    problems: Sequence[Problem],
    preset: Preset | None,
    document: Mapping[str, Any],
    source: Experiment | None = None,
    name: str = "",
    notes: str = "",
    full: bool = False,
    status: int = 200,
) -> Response:
    placed = [forms.place(problem, document, values) for problem in problems]
    was = forms.to_values(preset.call()) if preset else forms.to_values(source.spec) if source else forms.defaults()
    twin, price = _twin(preset) if preset else None, _prices(here)
    missing = {row["name"]: row["how"] for row in data.known(here) if not row["own"] and not row["present"]}
    return render(
        request,
        here,
        "launch.html",
        status=status,
        section="/launch",
        source=source,
        full=full,
        short_url=f"/launch?preset={_other(preset, full=False)}&version=short",
        full_url=f"/launch?preset={_other(preset, full=True)}&version=paper",
        protocols=[
            {
                "name": name,
                "url": f"/launch?preset={preset.name}&protocol={name}",
                "chosen": name == _protocol(document),
            }
            for name in ("paper", "modern")
        ]
        if preset
        else [],
        presets=_preset_cards(preset, price, full=full),
        preset=preset,
        twin={"url": f"/launch?preset={twin.name}", "size": _size(twin), "price": price(twin.name)} if twin else None,
        sections=forms.sections(values, was=was, problems=placed, missing=dict.fromkeys(missing, "not here")),
        was=was,
        missing=missing,
        missing_titles=", ".join(datasets[name].title for name in missing),
        problems=placed,
        name_problem=next((problem.message for problem in placed if problem.field == "name"), None),
        name=name,
        notes=notes,
        key=secrets.token_urlsafe(16),
        plan=plan,
        figures=figures_api.ordered(),
    )


def _protocol(document: Mapping[str, Any]) -> str:
    training = document.get("training")
    return str(training.get("protocol", "paper")) if isinstance(training, Mapping) else "paper"


def _twin(preset: Preset) -> Preset | None:
    """The other size of the same preset."""
    if preset.twin_of:
        return presets[preset.twin_of]
    return next((other for other in presets.values() if other.twin_of == preset.name), None)


def _other(preset: Preset | None, *, full: bool) -> str:
    if preset is None:
        return "blank"
    twin = _twin(preset)
    is_full = preset.twin_of is None and twin is not None
    if twin is None or is_full == full:
        return preset.name
    return twin.name


def _preset_cards(chosen: Preset | None, price: Callable[[str], str], *, full: bool) -> list[dict[str, Any]]:
    """Short: what runs on data present here. As in the paper: the originals. Blank: always."""
    cards = []
    for preset in presets.values():
        is_short = preset.twin_of is not None or (_twin(preset) is None and preset.paper == "")
        if is_short == full:
            continue
        title = preset.title.removesuffix(", short")
        cards.append(
            {
                "title": title,
                "paper": preset.paper,
                "picture": _PICTURES.get(preset.paper) or _PICTURES.get(preset.name, "plane"),
                "url": f"/launch?preset={preset.name}",
                "chosen": chosen is preset,
                "words": f"{preset.call().get('ensemble', {}).get('runs', 3)} runs · {price(preset.name)}",
                "twin": f"{_size(twin)}: {price(twin.name)}" if (twin := _twin(preset)) else "",
            }
        )
    cards.append(
        {
            "title": "Blank",
            "paper": "",
            "picture": "blank",
            "url": "/launch?preset=blank" + ("&version=paper" if full else ""),
            "chosen": chosen is None,
            "words": "every default",
            "twin": "",
        }
    )
    return cards


def _size(preset: Preset) -> str:
    return "Short version" if preset.twin_of else "As in the paper"


def _prices(here: Site) -> Callable[[str], str]:
    """What a preset costs here and on a GPU, and what must be got first; reckoned once for a page, by name."""
    prepare = here.laboratory.preparing()

    @cache
    def price(name: str) -> str:
        try:
            prepared = prepare(presets[name].call(), as_published=True)
        except ModescapeError:  # the form says why once the preset is chosen
            return "does not fit the data here"
        seconds = (prepared.plan.seconds, prepared.plan.gpu.seconds)
        by_workers, by_gpu = (duration(number).replace(" ", "\u00a0") for number in seconds)
        words = f"≈\u00a0{by_workers}, {by_gpu} on a GPU"
        needed = " and ".join(dict.fromkeys(one.title for one in prepared.missing))
        return f"{words} · needs {needed}" if needed else words

    return price


# -- one experiment ---------------------------------------------------------------------------------------------------

# Where a card stands on the page: its height before it is drawn, and whether it takes the whole width.
_CARDS = {
    "trajectories": (292, True),
    "similarity-trajectory": (552, True),
    "similarity-runs": (552, True),
    "plane": (440, True),
    "ensembles": (432, True),
    "landscape": (400, True),
    "cuts": (504, True),
    "seeds": (340, True),
    "instability": (300, True),
    "tunnel": (300, True),
    "triangles": (400, True),
    "connectivity": (340, True),
    "shift": (432, True),
    "shift-types": (548, True),
}
_FIXED_LEGEND = (("independent", "Independent runs", "independent"), ("trajectory", "Checkpoints", "trajectory"))


@dataclass(frozen=True)
class View:
    """What the query string asks of every figure of a page; unknown values are ignored with a notice."""

    split: str
    color: str
    notice: str | None

    @classmethod
    def of(cls, request: Request, splits: Sequence[str]) -> View:
        split, color = request.query_params.get("split", splits[0]), request.query_params.get("color", "method")
        ignored = []
        if split not in splits:
            ignored.append(f"split {split[:40]!r}")
        if color not in ("method", "run"):
            ignored.append(f"color {color[:40]!r}")
        return cls(
            split if split in splits else splits[0],
            color if color in ("method", "run") else "method",
            f"Ignored in the address: {', '.join(ignored)}" if ignored else None,
        )


@router.get("/experiments/{experiment}")
def experiment_page(request: Request, here: Here, experiment: str) -> Response:
    row = here.store.experiment(experiment)
    stages = here.store.stage_rows(row.id)
    spec = ExperimentSpec.model_validate(row.spec)
    left = seconds_left(stages, alive_workers(here))
    view = View.of(request, spec.evaluation.splits)
    preset = presets[row.preset] if row.preset is not None and row.preset in presets else None
    kinds = by_kind(stages)
    size = here.store.bytes_of(row.id)
    cards = [_card(number, figure, kinds) for number, figure in enumerate(figures_api.ordered(), 1)]
    shown = [card["entry"].name if card["planned"] else "" for card in cards]
    ordered = sorted(stages, key=lambda s: (s.finished_at is None, s.finished_at or row.created_at), reverse=False)
    return render(
        request,
        here,
        "experiment.html",
        section="/",
        e=row,
        facts=" · ".join(
            filter(
                None,
                (
                    duration(row.seconds) if row.seconds else "",
                    FILTERS["size"](size) if size else "",
                    FILTERS["ago"](row.created_at),
                ),
            )
        ),
        subject=_subject(spec),
        is_alive=row.status in ALIVE,
        last_event=here.store.last_event_id(),
        actions=_actions(row.status),
        bytes=size,
        cite=f"Modescape {documentation.VERSION}, {row.slug}, spec {row.digest[:16]}, {row.created_at:%Y-%m-%d}",
        left=duration(left) if left is not None and row.status == "running" else None,
        stages=kinds,
        trainings=_trainings(here, row, stages),
        incidents=[
            f"{s.kind} {s.key} lost its worker and goes on from where it was saved"
            for s in stages
            if s.losses and s.state == "running"
        ],
        failures=[{"stage": stage} for stage in stages if stage.state == "failed" and stage.error.get("type")],
        headline=_headline(row),
        claims=(rows := claims.answered(row.finding, shown)),
        claims_headline=claims.headline(rows),
        claims_open=claims.undecided(spec, row.finding, kinds, is_alive=row.status in ALIVE),
        sentence=finding.sentence(row.finding),
        strip=_strip(here, row, spec) if row.finding else None,
        cards=cards,
        missing=[card for card in cards if not card["planned"]],
        legend=_legend(spec),
        splits=spec.evaluation.splits,
        view=view,
        notice=view.notice,
        differences=differences(spec, preset.name) if preset else [],
        departures=departures(spec),
        protocol=spec.training.protocol,
        substitutions=preset.substitutions if preset else (),
        spec_json=forms.as_json(row.spec),
        tables=[
            (label, f"/api/experiments/{row.slug}/{name}?format=csv")
            for label, name in (
                ("Solutions, CSV", "solutions"),
                ("Measurements, CSV", "measurements"),
                ("Runs, CSV", "runs"),
                ("Stages, CSV", "stages"),
            )
        ],
        files=_files(here, row, spec),
        log=ordered[-LOG_ROWS:][::-1],
        log_more=max(0, len(stages) - LOG_ROWS),
    )


def _headline(row: Experiment) -> str:
    words = finding.headline(row.finding)
    return f"So far {words[:1].lower()}{words[1:]}" if words and row.status in ALIVE else words


def _subject(spec: ExperimentSpec) -> str:
    parts = [
        f"{_title('dataset', spec.data.dataset)}, {forms.words('input_scale', spec.data.input_scale)}",
        _title("architecture", spec.network.architecture),
        f"{spec.ensemble.runs} runs × {spec.training.epochs} epochs",
        f"{len(spec.methods)} subspace methods" if spec.methods else "",
        f"seed {spec.ensemble.seed}",
    ]
    return " · ".join(filter(None, parts))


# What an experiment may not have and a figure needs: in words, what /launch?with= adds, where the form asks for it.
_LACKS = {
    "sample": ("No subspace methods were chosen.", "methods", "methods.random"),
    "ensemble": ("One run alone makes no ensemble.", "runs", ""),
    "shift": ("No corruptions were asked for.", "shift", "shift"),
    "ood": ("No images of another data set were asked for.", "", "ood.0"),
    "arm": ("No study of seeds was asked for.", "seeds", "seeds"),
    "chain": ("Cyclical SG-MCMC was not chosen.", "sgmcmc", "methods.sgmcmc"),
    "branch": ("No study of instability was asked for.", "instability", "instability"),
    "plane": ("No cut was asked for. Select two or three solutions here to have one made.", "planes", "planes.0"),
    "tunnel": ("No tunnel was asked for.", "tunnels", "tunnels.0"),
    "triangles": ("No tunnel was asked for.", "tunnels", "tunnels.0"),
    "connectivity": ("No straight lines between runs were asked for.", "connectivity", "connectivity"),
}


def _card(number: int, figure: Figure, kinds: Sequence[Any]) -> dict[str, Any]:
    planned = {kind.kind for kind in kinds}
    absent = [need for need in figure.needs if need not in planned]
    unknown = (f"It has no {' and no '.join(absent)} stages.", "", "")
    lacks, add, anchor = next((_LACKS[need] for need in absent if need in _LACKS), unknown)
    mine = [kind for kind in kinds if kind.kind in figure.needs]
    waiting = [kind for kind in mine if kind.done < kind.total]
    height, full = _CARDS.get(figure.name, (432, False))
    return {
        "entry": figure,
        "title": figure.title,
        "number": number,
        "planned": not absent,
        "lacks": lacks,
        "add": add,
        "anchor": anchor,
        "waits": f"{waiting[0].kind}: {waiting[0].words}" if waiting and waiting[0].done == 0 else "",
        "stages": mine,
        "options": _asked_of(figure),
        "height": height,
        "full": full,
    }


def _asked_of(figure: Figure) -> list[str]:
    """Options a browser sends when it asks for the picture: `method` only where it makes another one."""
    options: Any = figure.options  # a FigureOptions, which the registry need not know
    return [name for name in options.model_fields if name != "method" or options.redraws]


def _legend(spec: ExperimentSpec) -> list[dict[str, Any]]:
    entries = [*_FIXED_LEGEND, *((m.method, method_title(m.method), m.method) for m in spec.methods)]
    if spec.methods:
        entries += [("baseline", "Reference run", "baseline"), ("theory", "Limits", "theory")]
    return [{"group": group, "title": title, "look": look, "on": True, "count": None} for group, title, look in entries]


def _strip(here: Site, row: Experiment, spec: ExperimentSpec) -> dict[str, Any] | None:
    """Disagreement with one run, every value by method, of solutions within one point of that run's accuracy."""
    results = Results(here.store, here.artifacts, row.id)
    optima = {solution.run: solution for solution in results.solutions(role="optimum")}
    matrix = results.matrix("disagreement", spec.evaluation.splits[0])
    if len(optima) < 2 or matrix is None:
        return None
    values: dict[str, list[float]] = {name: [] for name in ("trajectory", *(chosen.method for chosen in spec.methods))}
    for solution in results.solutions():
        own = optima.get(solution.run)
        if own is None or solution.role == "optimum" or solution.disagreement is None or solution.accuracy is None:
            continue
        if abs(solution.accuracy - (own.accuracy or 0.0)) <= 0.01:
            values.setdefault(solution.method or "trajectory", []).append(solution.disagreement)
    places = [matrix.rows.index(o.number) for o in optima.values() if o.number in matrix.rows]
    between = matrix.values[np.ix_(places, places)][np.triu_indices(len(places), 1)]
    known = sorted(
        ((name, found) for name, found in values.items() if found), key=lambda pair: sum(pair[1]) / len(pair[1])
    )
    known.append(("independent", [float(v) for v in between]))
    top = max(max(found) for _, found in known) or 1.0
    step = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if top / s <= 5)
    high = step * (int(top / step - 1e-9) + 1)
    rows = []
    for name, found in known:
        shown = sorted(found)[:: max(1, len(found) // 40)]
        label = {"trajectory": "late checkpoints", "independent": "independent runs"}.get(name) or method_title(name)
        rows.append(
            {
                "label": label,
                "look": look_of(name),
                "xs": [round(100 * v / high, 2) for v in shown],
                "mean": FILTERS["percent"](sum(found) / len(found)),
            }
        )
    ticks = [
        {"x": round(100 * i * step / high, 2), "text": f"{100 * i * step:g}"} for i in range(round(high / step) + 1)
    ]
    summary = "Mean percent of labels changed at equal accuracy: " + ", ".join(
        f"{r['label']} {r['mean']}" for r in rows
    )
    return {"rows": rows, "ticks": ticks, "summary": summary}


def _files(here: Site, row: Experiment, spec: ExperimentSpec) -> list[dict[str, Any]]:
    base = f"/api/experiments/{row.slug}"
    found = []
    for matrix in here.store.matrices(row.id):
        shape = f"{len(matrix.rows)} × {len(matrix.columns)}"
        query = f"?split={matrix.split}" if matrix.split else ""
        links = [(form, f"{base}/matrices/{matrix.name}.{form}{query}") for form in ("npy", "csv")]
        found.append(
            {
                "what": f"matrix {matrix.name}{', ' + matrix.split if matrix.split else ''}",
                "shape": shape,
                "links": links,
            }
        )
    for optimum in here.store.solutions(row.id, role="optimum", limit=1000).items:
        links = [("weights", f"{base}/solutions/{optimum.number}/weights")]
        links += [
            (f"predictions, {split}", f"{base}/solutions/{optimum.number}/predictions?split={split}")
            for split in spec.evaluation.splits
        ]
        links.append(("checkpoints", f"{base}/runs/{optimum.run}/checkpoints"))
        found.append(
            {
                "what": f"run {optimum.run}, its optimum (solution {optimum.number})",
                "shape": "safetensors, npy",
                "links": links,
            }
        )
    for stage in here.store.stages(row.id) if spec.shift is not None else ():
        left = stage.result.get("extra", {})
        if stage.kind in ("corrupt", "shift") and left:
            files = {info["digest"]: "×".join(map(str, info["shape"])) for info in stage.result["artifacts"]}
            named = [(name, value) for name, value in left.items() if isinstance(value, str) and value in files]
            what = f"test images, {stage.key}" if stage.kind == "corrupt" else f"under shift, run {stage.key}"
            links = [(name, f"/api/artifacts/{digest}") for name, digest in named]
            links.append(("about", f"{base}/stages/{stage.id}"))
            found.append({"what": what, "shape": ", ".join(files[digest] for _, digest in named), "links": links})
    return found


_DO: dict[str, Callable[[Site, str], Any]] = {
    "cancel": experiments.cancel,
    "pause": experiments.pause,
    "resume": experiments.resume,
    "archive": experiments.archive,
    "restore": experiments.restore,
    "purge": experiments.purge,
}


@router.post("/experiments/{experiment}/edit")
def edit(
    request: Request,
    here: Here,
    experiment: str,
    csrf: Csrf = "",
    name: Annotated[str, Form()] = "",
    tags: Annotated[str, Form()] = "",
    notes: Annotated[str, Form()] = "",
) -> Response:
    security.check_form(request, here, csrf)
    wanted = [tag.strip() for tag in tags.split(",") if tag.strip()]
    experiments.change(
        here, experiment, bodies.validate(Changes, {"name": name, "tags": wanted, "notes": notes.replace("\r\n", "\n")})
    )
    return RedirectResponse(f"/experiments/{here.store.experiment(experiment).slug}", status_code=303)


@router.post("/experiments/{experiment}/{action}")
def act(
    request: Request,
    here: Here,
    experiment: str,
    action: str,
    csrf: Csrf = "",
    stage: Annotated[str, Form(max_length=36)] = "",
    next: Next = "",
) -> Response:
    security.check_form(request, here, csrf)
    if action == "retry":
        experiments.retry(here, experiment, stage or None)
    elif action in _DO:
        _DO[action](here, experiment)
    else:
        raise NotFound(f"there is nothing at {request.url.path[:200]}")
    return _back(next or ("/" if action in ("purge", "archive") else f"/experiments/{experiment}"))


# -- one figure -------------------------------------------------------------------------------------------------------


@router.get("/experiments/{experiment}/figures/{name}")
def figure_page(request: Request, here: Here, experiment: str, name: str, tab: str = "plot") -> Response:
    row = here.store.experiment(experiment)
    if name not in figures:
        raise NotFound(f"there is no figure {name[:80]!r}; there are {', '.join(figures)}")
    figure = figures[name]
    spec = ExperimentSpec.model_validate(row.spec)
    tab = tab if tab in ("plot", "data", "definition") else "plot"
    options, notice = _options(figure, request)
    results = Results(here.store, here.artifacts, row.id)
    options = options.of(results)
    collected, reason = _collected(results, figure, options)
    order = figures_api.ordered()
    place = order.index(figure)
    controls = forms.option_controls(figure, "x")
    given = options.model_dump(mode="json")
    choices = options.choices(results)
    values = {key: _with_value(c, given).value for c in controls if (key := c.name.removeprefix("x.")) in choices}
    unknown = [f"{key} {v[:40]!r}" for key, v in values.items() if not set(v.split(", ")) <= {"", *choices[key]}]
    if unknown:
        notice = f"Ignored in the address: {', '.join(unknown)}"
    kinds = by_kind(here.store.stage_rows(row.id))
    table = collected.table() if collected is not None and tab == "data" else None
    legend = _figure_legend(results, figure, options, spec)
    query = urlencode([(k, v) for k, v in request.query_params.multi_items() if k in figure.options.model_fields])
    return render(
        request,
        here,
        "figure.html",
        section="/",
        e=row,
        f=figure,
        number=place + 1,
        tab=tab,
        tab_urls={t: _url(request, tab=None if t == "plot" else t) for t in ("plot", "data", "definition")},
        previous=_sibling(request, row, order, place - 1),
        following=_sibling(request, row, order, place + 1),
        controls=[
            _offering(control, choices[control.name]) if control.name in choices else control
            for control in (_with_value(c, given) for c in controls if not c.name.endswith((".size", ".method")))
            if choices.get(control.name, True)
        ],
        all_controls=[_with_value(c, given) for c in controls],
        options=_asked_of(figure),
        data=collected,
        reason=reason,
        rows_total=len(collected.rows()) if collected is not None else None,
        table=table and {"columns": table.columns, "rows": table.rows[:TABLE_ROWS]},
        numeric={c for i, c in enumerate(table.columns) if any(isinstance(r[i], (int, float)) for r in table.rows[:20])}
        if table
        else set(),
        legend=legend,
        gallery=_gallery(figure, spec),
        stages=[kind for kind in kinds if kind.kind in figure.needs],
        query=query,
        last_event=here.store.last_event_id(),
        notice=notice,
    )


def _gallery(figure: Figure, spec: ExperimentSpec) -> str:
    """Where corruptions can be seen, for a figure of them: on this data set, unless it is somebody's own."""
    if "shift" not in figure.needs:
        return ""
    return "/gallery" if spec.data.path else f"/gallery?{urlencode({'dataset': spec.data.dataset})}"


def _options(figure: Figure, request: Request) -> tuple[Any, str | None]:
    """The figure's options as the address asks; a link with unknown values shows the default and says so."""
    known = {key: value for key, value in request.query_params.items() if key in figure.options.model_fields}
    try:
        return figures_api.options(figure, {**known, "size": "page"}), None
    except InvalidInput as error:
        return figures_api.options(figure, {"size": "page"}), f"Ignored in the address: {error}"


def _collected(results: Results, figure: Figure, options: Any) -> tuple[FigureData | None, str]:
    try:
        found: FigureData = figure.call(results, options)
    except FigureNotReady as missing:
        return None, missing.reason[:1].upper() + missing.reason[1:]
    except (NotFound, InvalidInput) as missing:
        return None, str(missing)
    return found, ""


def _with_value(control: forms.Control, given: Mapping[str, Any]) -> forms.Control:
    name = control.name.removeprefix("x.")
    return forms.filled(control, name=name, value=given.get(name))


def _offering(control: forms.Control, words: Mapping[str, str]) -> forms.Control:
    """A choice among these values; several at once, which only an address can ask for, are one choice more."""
    several = control.value.replace(", ", ",")
    if "," in several:
        words = {**words, several: f"{several.count(',') + 1} chosen"}
    return forms.offering(replace(control, value=several), words)


def _sibling(request: Request, row: Experiment, order: Sequence[Figure], place: int) -> dict[str, str] | None:
    if not 0 <= place < len(order):
        return None
    kept = {key: value for key in ("sel", "split", "color", "method") if (value := request.query_params.get(key))}
    query = f"?{urlencode(kept)}" if kept else ""
    return {"title": order[place].title, "url": f"/experiments/{row.slug}/figures/{order[place].name}{query}"}


def _figure_legend(results: Results, figure: Figure, options: Any, spec: ExperimentSpec) -> list[dict[str, Any]]:
    """Every group the figure can show; those that `method` leaves out, or the figure by itself, are off."""
    asked = getattr(options, "method", ())
    collected, _ = _collected(results, figure, options.model_copy(update={"method": ()}) if asked else options)
    if collected is None:
        return _legend(spec)
    return [{**asdict(one), "on": one.group in asked if asked else one.on} for one in collected.legend]


# -- workers, catalogue, data -----------------------------------------------------------------------------------------


@router.get("/workers")
def workers_page(request: Request, here: Here) -> Response:
    looks = {
        "working": ("running", "◐"),
        "idle": ("succeeded", "✓"),
        "stopped": ("queued", "○"),
        "silent": ("failed", "✗"),
    }
    rows = [workers.as_worker(here, row) for row in here.store.workers()]
    rows.sort(key=lambda row: (list(looks).index(row["state"]), row["name"]))
    failed = here.store.experiments(ListQuery((Condition("status", "eq", "failed"),), limit=20)).items
    return render(
        request,
        here,
        "workers.html",
        workers=rows,
        looks=looks,
        failed=failed,
        waiting=here.store.experiments(ListQuery((Condition("status", "eq", "queued"),), limit=1)).total,
        last_event=here.store.last_event_id(),
    )


_GROUPS = (
    (
        "datasets",
        "Data sets",
        datasets,
        "Add one: a function marked @dataset, or a folder or .npz of your own on the Data page.",
    ),
    ("architectures", "Architectures", architectures, "Add one: a function marked @architecture."),
    ("methods", "Methods", methods, "Add one: a function marked @method; form, plan, plots and tests follow from it."),
    (
        "figures",
        "Figures",
        figures,
        "Add one: a function marked @figure that collects numbers, and one that draws them.",
    ),
    ("presets", "Presets", presets, "Add one: a function marked @preset that returns a spec."),
)


@router.get("/compare")
def compare_page(request: Request, here: Here, e: Annotated[tuple[str, ...], Query()] = ()) -> Response:
    """Two to four experiments side by side; with fewer, a form that asks for them."""
    rows = compare.chosen(here, e)
    slugs = [row.slug for row in rows]

    def address(names: Sequence[str]) -> str:
        return f"/compare?{urlencode([('e', name) for name in names])}"

    found = compare.compare(here, rows) if len(rows) > 1 else None
    groups: list[dict[str, Any]] = []
    legend: dict[str, dict[str, Any]] = {}
    if found:
        kinds = [by_kind(here.store.stage_rows(row.id)) for row in rows]
        for number, figure in enumerate(figures_api.ordered(), 1):
            cards = [_card(number, figure, own) for own in kinds]
            if sum(card["planned"] for card in cards) > 1:
                groups.append({"number": number, "entry": figure, "cards": list(zip(rows, cards, strict=True))})
        for row in rows:
            legend |= {entry["group"]: entry for entry in _legend(ExperimentSpec.model_validate(row.spec))}
    newest = here.store.experiments(ListQuery(limit=100)).items if len(rows) < compare.MOST else []
    return render(
        request,
        here,
        "compare.html",
        section="/compare",
        rows=rows,
        found=found,
        groups=groups,
        legend=list(legend.values()),
        without=[address([name for name in slugs if name != slug]) for slug in slugs],
        others=[row for row in newest if row.slug not in slugs],
        is_alive=any(row.status in ALIVE for row in rows),
        query=urlencode([("e", slug) for slug in slugs]),
        title_of=lambda field: forms.STUDIES[field] if field in forms.STUDIES else crumbs(field),
    )


@router.get("/paper")
def paper_page(request: Request, here: Here) -> Response:
    return render(request, here, "paper.html", numbers=paper.table(here))


@router.get("/catalogue")
def catalogue_page(request: Request, here: Here) -> Response:
    groups = []
    for name, title, registry, add in _GROUPS:
        entries = [
            {
                "entry": e,
                "look": e.name if name == "methods" else None,
                "options": forms.option_controls(e, name),
                "facts": _facts(e),
            }
            for e in registry.values()
        ]
        groups.append({"name": name, "title": title, "add": add, "entries": entries})
    return render(request, here, "catalogue.html", groups=groups, corruptions=list(TYPES.values()))


def _facts(entry: Any) -> list[str]:
    if entry.name in datasets and entry is datasets[entry.name] and entry.train_total:
        shape = f"{entry.channels} × {entry.height} × {entry.width}"
        return [f"{thousands(entry.train_total)} + {thousands(entry.test_total)} images, {shape}"]
    if isinstance(entry, Figure):
        return [entry.question, *([entry.paper] if entry.paper else [])]
    if isinstance(entry, Preset):
        return [entry.paper] if entry.paper else []
    return []


@router.get("/data")
def data_page(request: Request, here: Here) -> Response:
    return _data(request, here)


def _data(
    request: Request, here: Site, *, problem: str = "", path: str = "", name: str = "", status: int = 200
) -> Response:
    rows = data.known(here)
    registered = [
        {
            "name": row["name"],
            "path": row["where"],
            "words": f"{row['train']} + {row['test']} images, {len(row['classes'])} classes",
        }
        for row in rows
        if row["own"]
    ]
    return render(
        request,
        here,
        "data.html",
        status=status,
        section="/data",
        sets=[row for row in rows if not row["own"]],
        registered=registered,
        folders=here.settings.data_folders,
        roots=here.settings.registration_roots,
        problem=problem,
        path=path,
        name=name,
    )


@router.post("/data")
def register_data(
    request: Request, here: Here, csrf: Csrf = "", path: Annotated[str, Form()] = "", name: Annotated[str, Form()] = ""
) -> Response:
    security.check_form(request, here, csrf)
    try:
        wanted = bodies.validate(data.Wanted, {"path": path.strip(), **({"name": name} if name.strip() else {})})
        data.add_data(here, wanted)
    except (InvalidInput, DataCorrupt) as error:
        return _data(request, here, problem=str(error), path=path, name=name, status=422)
    return RedirectResponse("/data", status_code=303)


@router.post("/data/fetch")
def fetch_data(
    request: Request, here: Here, csrf: Csrf = "", name: Annotated[str, Form(max_length=64)] = ""
) -> Response:
    security.check_form(request, here, csrf)
    data.add_data(here, bodies.validate(data.Wanted, {"fetch": name}))
    return RedirectResponse("/data", status_code=303)
