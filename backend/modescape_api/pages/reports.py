"""Reports: the list of them, one to be read and printed, and the same to be written; forms work without script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, File, Form, Request, Response, UploadFile
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData

from modescape.acting import UserRole, actor
from modescape.drawing.figure import Legend
from modescape.errors import Conflict, InvalidInput, Problem
from modescape.listing import ListQuery
from modescape.records import Json
from modescape.registry import figures
from modescape.reports import blocks, notes, taken, writing
from modescape.reports.telling import Part, Teller, Told
from modescape.spec import stored
from modescape.tables import Experiment, Report
from modescape.voice import voice_of
from modescape_api.http import bodies
from modescape_api.http.proxies import at
from modescape_api.http.site import Here, Site
from modescape_api.pages.experiment import legend_of, options_of
from modescape_api.pages.rendering import Posted, render
from modescape_api.resources import reports
from modescape_api.resources.reports import NewReport, ReportChange

router = APIRouter()

KINDS = {
    "text": "Note", "figure": "Figure", "claims": "Claims", "numbers": "Numbers", "methods": "Methods",
    "references": "References",
}  # fmt: skip
_OFFERED = 200  # experiments in the lists of the form


@dataclass(frozen=True)
class Shown:
    """A part on the page. html: of a note; options: that a browser sends along; query: those of its block; legend: of
    all that its experiment has, of which the page shows what the figure does."""

    part: Part
    html: str = ""
    options: tuple[str, ...] = ()
    query: str = ""
    legend: tuple[Legend, ...] = ()


def _said(value: Any) -> str:
    return (
        ",".join(map(str, value))
        if isinstance(value, (list, tuple))
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )


def _query(options: Json) -> str:
    return urlencode({key: _said(value) for key, value in options.items() if value is not None})


@router.get("/reports")
def reports_page(request: Request, here: Here) -> Response:
    return _list(request, here)


def _list(request: Request, here: Site, *, problem: str = "", name: str = "", status: int = 200) -> Response:
    return render(
        request, here, "reports.html", status=status, section="/reports", rows=here.store.reports.all(),
        experiments=_experiments(here), problem=problem, name=name, chosen=request.query_params.get("experiment", ""),
        may_write=actor().may(UserRole.RESEARCHER),
    )  # fmt: skip


def _experiments(here: Site) -> list[Experiment]:
    return list(here.store.experiments.page(ListQuery(limit=_OFFERED)).items)


@router.post("/reports")
def add(
    request: Request, here: Here, name: Annotated[str, Form()] = "", experiment: Annotated[str, Form()] = ""
) -> Response:
    try:
        asked = bodies.validate(NewReport, {"name": name, "experiment": experiment or None})
        row = writing.create(here.laboratory, asked.name, asked.blocks, asked.experiment)
    except InvalidInput as error:
        return _list(request, here, problem=str(error), name=name, status=422)
    return RedirectResponse(f"/reports/{row.slug}?edit=1", status_code=303)


@router.get("/reports/{report}")
def report_page(request: Request, here: Here, report: str, edit: str = "") -> Response:
    row = here.store.reports.get(report)
    if edit and actor().owns(row.created_by):
        return _editor(request, here, row, row.name, row.blocks)
    teller = Teller(here.store, here.artifacts, here.laboratory.look, draws=False)
    told = teller.told(row)
    shown = [_shown(here, told, part) for part in told.parts]
    live = told.experiments
    return render(
        request, here, "report.html", section="/reports", report=row, shown=shown, live=live,
        owned=actor().owns(row.created_by), forms=[(form, form.missing()) for form in taken.FORMS.values()],
        last_event=here.store.events.last_id(),
        address=str(request.base_url).rstrip("/") + at(f"/reports/{row.slug}"),
    )  # fmt: skip


def _shown(here: Site, told: Told, part: Part) -> Shown:
    if isinstance(part.block, blocks.Text):
        found = {image.digest for image in here.store.reports.images(told.report.id)}

        def image(digest: str) -> str | None:
            return f"/api/reports/{told.report.slug}/images/{digest}" if digest in found else None

        return Shown(part, notes.html(part.block.markdown, told.say, image))
    if isinstance(part.block, blocks.FigureOf) and part.figure is not None:
        assert part.experiment is not None
        row = part.experiment
        legend = legend_of(stored(row.spec), voice_of(row.provenance, row.spec))
        return Shown(part, "", tuple(options_of(part.figure)), _query(part.block.options), tuple(legend))
    return Shown(part)


# -- writing ----------------------------------------------------------------------------------------------------------


def _editor(
    request: Request, here: Site, row: Report, name: str, documents: Sequence[Json], *,
    problems: Sequence[Problem] = (), status: int = 200,
) -> Response:  # fmt: skip
    images = [reports.as_image(row, one) for one in here.store.reports.images(row.id)]
    return render(
        request, here, "report-edit.html", status=status, section="/reports", report=row, name=name, kinds=KINDS,
        blocks=[_fields(one) for one in documents], problems=problems, images=images, experiments=_experiments(here),
        figures=list(figures.values()), headers={"cache-control": "no-store"},
    )  # fmt: skip


def _fields(block: Json) -> Json:
    """A block as its fields say it."""
    lists = {
        key: ", ".join(block[key])
        for key in ("claims", "experiments", "columns")
        if isinstance(block.get(key), (list, tuple))
    }
    options = block.get("options", {})
    return {**block, **lists, "options": options if isinstance(options, str) else _query(options)}


def _block(form: FormData, id_: str) -> Json:
    """What the fields of a block say."""

    def field(name: str) -> str:
        return str(form.get(f"{id_}.{name}", "")).replace("\r\n", "\n")

    kind = field("kind")
    found: Json = {"id": id_, "kind": kind}
    if kind == "text":
        found["markdown"] = field("markdown")
    if kind in ("figure", "claims"):
        found["experiment"] = field("experiment").strip()
    if kind == "figure":
        found |= {"figure": field("figure"), "caption": field("caption").strip(), "options": _options(field("options"))}
    if kind in ("claims", "numbers"):
        for name in ("claims",) if kind == "claims" else ("experiments", "columns"):
            found[name] = [one.strip() for one in field(name).split(",") if one.strip()]
    if kind == "numbers":
        found["caption"] = field("caption").strip()
        if not found["columns"]:
            del found["columns"]
    return found


def _options(text: str) -> Json:
    return dict(parse_qsl(text.strip().removeprefix("?")))


def _acted(documents: list[Json], do: str, experiments: Sequence[Experiment]) -> list[Json]:
    """The blocks once a button was pressed: up:3, down:3, remove:3, add:figure."""
    verb, _, what = do.partition(":")
    if verb == "add" and what in KINDS:
        first = experiments[0].slug if experiments else ""
        new: Json = {"kind": what, "id": f"new-{len(documents)}"}
        more: dict[str, Json] = {
            "text": {"markdown": ""}, "figure": {"experiment": first, "figure": next(iter(figures)), "options": {}},
            "claims": {"experiment": first, "claims": []}, "numbers": {"experiments": [first]},
        }  # fmt: skip
        return [*documents, new | more.get(what, {})]
    place = next((i for i, one in enumerate(documents) if one["id"] == what), None)
    if place is None:
        return documents
    rest = [one for i, one in enumerate(documents) if i != place]
    if verb == "remove":
        return rest
    to = max(0, place - 1) if verb == "up" else place + 1 if verb == "down" else place
    return [*rest[:to], documents[place], *rest[to:]]


@router.post("/reports/{report}")
def save(request: Request, here: Here, report: str, form: Posted) -> Response:
    row = here.store.reports.get(report)
    actor().check_owner(row.created_by, f"the report {row.slug}")
    name, do = str(form.get("name", "")), str(form.get("do", "save"))
    ids = [str(one)[:36] for one in form.getlist("block")]
    documents = _acted([_block(form, id_) for id_ in ids], do, _experiments(here) if do.startswith("add") else ())
    given = str(form.get("revision", ""))
    revision = int(given) if given.isdecimal() else None
    try:
        asked = bodies.validate(ReportChange, {"name": name, "blocks": documents, "revision": revision})
        row = writing.change(here.laboratory, row.id, name=asked.name, documents=asked.blocks, revision=asked.revision)
    except InvalidInput as error:
        return _editor(request, here, row, name, documents, problems=error.problems, status=422)
    except Conflict as error:
        return _editor(request, here, row, name, documents, problems=[Problem(str(error))], status=409)
    if do == "save":
        return RedirectResponse(f"/reports/{row.slug}", status_code=303)
    place = (
        do.partition(":")[2] if do.startswith(("up", "down")) else row.blocks[-1]["id"] if do.startswith("add") else ""
    )
    return RedirectResponse(f"/reports/{row.slug}?edit=1" + (f"#b-{place}" if place else ""), status_code=303)


@router.post("/reports/{report}/images")
async def put_image(
    here: Here, report: str, image: Annotated[UploadFile, File()], name: Annotated[str, Form()] = ""
) -> Response:
    content = await image.read()
    said = name.strip() or (image.filename or "image")
    await run_in_threadpool(reports.add_image, here, report, said, content)
    return RedirectResponse(f"/reports/{report}?edit=1#images", status_code=303)


@router.post("/reports/{report}/remove")
def remove(here: Here, report: str) -> Response:
    here.store.reports.remove(report)
    return RedirectResponse("/reports", status_code=303)
