"""Reports: the list of them, one to be read and printed, and the same to be written; forms work without script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from modescape import asking
from modescape.acting import UserRole, actor
from modescape.drawing.figure import Legend
from modescape.errors import Conflict, InvalidInput, Problem
from modescape.listing import ListQuery
from modescape.records import Json
from modescape.registry import figures
from modescape.reports import blocks, notes, taken, writing
from modescape.reports.telling import Part, Teller, Told, claim_cells
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
def report_page(
    request: Request, here: Here, report: str, edit: str = "",
    revision: Annotated[int | None, Query(description="As it was then.")] = None,
) -> Response:  # fmt: skip
    row = here.store.reports.get(report)
    owned = actor().owns(row.created_by)
    if edit and owned:
        return _editor(request, here, row, row.name, row.blocks)
    before = None if revision in (None, row.revision) else here.store.reports.revision(report, revision)
    if before is not None:
        row = Report(
            id=row.id, slug=row.slug, name=before.name, blocks=before.blocks, revision=before.revision,
            created_by=row.created_by, created_at=row.created_at, changed_at=before.at,
        )  # fmt: skip
    told = Teller(here.store, here.artifacts, draws=False, read=here.notes.read).told(row)
    shown = _shown(here, told)
    live = told.experiments
    return render(
        request, here, "report.html", section="/reports", report=row, shown=shown, live=live, before=before,
        owned=owned, cells=claim_cells, forms=[(form, form.missing()) for form in taken.FORMS.values()],
        last_event=here.store.events.last_id(),
        address=str(request.base_url).rstrip("/") + at(f"/reports/{row.slug}"),
    )  # fmt: skip


def _shown(here: Site, told: Told) -> list[Shown]:
    base = f"/api/reports/{told.report.slug}/images"
    images = {image.digest for image in here.store.reports.images(told.report.id)}
    legends: dict[str, tuple[Legend, ...]] = {}  # by experiment

    def image(digest: str, words: str) -> str | None:
        return notes.picture(f"{base}/{digest}", words) if digest in images else None

    def of(part: Part) -> Shown:
        if part.note is not None:
            return Shown(part, part.note.html(told.say, image))
        if not isinstance(part.block, blocks.FigureOf) or part.figure is None:
            return Shown(part)
        assert part.experiment is not None
        row = part.experiment
        if row.id not in legends:
            legends[row.id] = tuple(legend_of(stored(row.spec), voice_of(row.provenance, row.spec)))
        return Shown(part, "", tuple(options_of(part.figure)), _query(part.block.options), legends[row.id])

    return list(map(of, told.parts))


# -- writing ----------------------------------------------------------------------------------------------------------


def _editor(
    request: Request, here: Site, row: Report, name: str, documents: Sequence[Json], *,
    revision: str = "", is_draft: bool = False, problems: Sequence[Problem] = (), status: int = 200,
) -> Response:  # fmt: skip
    """revision: of which the draft was made, as the form says it; is_draft: whether it differs from what is kept."""
    ids = {one["id"] for one in documents}
    images = [reports.as_image(row, one) for one in here.store.reports.images(row.id)]
    return render(
        request, here, "report-edit.html", status=status, section="/reports", report=row, name=name, kinds=KINDS,
        blocks=[_fields(one) for one in documents], problems=problems, images=images, experiments=_experiments(here),
        figures=list(figures.values()), revisions=here.store.reports.revisions(row.id), is_draft=is_draft,
        revision=revision or str(row.revision), headers={"cache-control": "no-store"},
        next_id=next(one for one in map("new-{}".format, count(1)) if one not in ids),
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
    return dict(asking.pairs(text.strip()))


def _acted(documents: list[Json], do: str, experiments: Sequence[Experiment]) -> list[Json]:
    """The blocks once a button was pressed: up:3, down:3, remove:3, add:figure:new-1."""
    verb, _, what = do.partition(":")
    what, _, id_ = what.partition(":") if verb == "add" else (what, "", "")
    if verb == "add" and what in KINDS:
        first = experiments[0].slug if experiments else ""
        new: Json = {"kind": what, "id": id_}
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


@dataclass(frozen=True)
class _Draft:
    """What the form says: nothing of it is kept before it is saved."""

    name: str
    documents: list[Json]
    revision: str

    @classmethod
    def of(cls, form: FormData) -> _Draft:
        ids = [str(one)[:36] for one in form.getlist("block")]
        return cls(str(form.get("name", "")), [_block(form, id_) for id_ in ids], str(form.get("revision", ""))[:9])

    @property
    def base(self) -> int | None:
        return int(self.revision) if self.revision.isdecimal() else None


@router.post("/reports/{report}")
def save(request: Request, here: Here, report: str, form: Posted) -> Response:
    """Saves, or, where another button was pressed, comes back with the draft as that button makes it."""
    row = here.store.reports.get(report)
    actor().check_owner(row.created_by, f"the report {row.slug}")
    draft, do = _Draft.of(form), str(form.get("do", "save"))
    if do != "save":
        documents = _acted(draft.documents, do, _experiments(here) if do.startswith("add") else ())
        return _editor(request, here, row, draft.name, documents, revision=draft.revision, is_draft=True)
    again = partial(_editor, request, here, row, draft.name, draft.documents, is_draft=True)
    try:
        asked = bodies.validate(ReportChange, {"name": draft.name, "blocks": draft.documents, "revision": draft.base})
        row = writing.change(here.laboratory, row.id, name=asked.name, documents=asked.blocks, revision=asked.revision)
    except InvalidInput as error:
        return again(revision=draft.revision, problems=error.problems, status=422)
    except Conflict as error:
        return again(revision=draft.revision, problems=[Problem(str(error))], status=409)
    return RedirectResponse(f"/reports/{row.slug}", status_code=303)


@router.post("/reports/{report}/images")
async def put_image(request: Request, here: Here, report: str, form: Posted) -> Response:
    """Kept with the report at once, which shows it nowhere before a note that names it is saved."""
    image = form.get("image")
    name = str(form.get("image-name", "")).strip()
    content = await image.read() if isinstance(image, UploadFile) else b""

    def answer() -> Response:
        row, draft = here.store.reports.get(report), _Draft.of(form)
        problems: Sequence[Problem] = ()
        try:
            if not name:
                raise InvalidInput("is empty", field="what it shows", allowed="words for who cannot see it")
            reports.add_image(here, report, name, content)
        except InvalidInput as error:
            problems = error.problems
        return _editor(
            request, here, row, draft.name, draft.documents, revision=draft.revision, is_draft=True,
            problems=problems, status=422 if problems else 200,
        )  # fmt: skip

    return await run_in_threadpool(answer)


@router.post("/reports/{report}/restore")
def restore(here: Here, report: str, revision: Annotated[int, Form()]) -> Response:
    return RedirectResponse(f"/reports/{here.store.reports.restore(report, revision).slug}", status_code=303)


@router.post("/reports/{report}/remove")
def remove(here: Here, report: str) -> Response:
    here.store.reports.remove(report)
    return RedirectResponse("/reports", status_code=303)
