"""Reports over HTTP: their blocks, their images, and the forms in which they are taken home."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from modescape.errors import InvalidInput, Problem
from modescape.records import Json
from modescape.reports import blocks, images, taken, writing
from modescape.tables import Report, ReportImage, ReportRevision
from modescape_api.http import problems, replies
from modescape_api.http.bodies import Body, Name, body, documented
from modescape_api.http.proxies import at
from modescape_api.http.refusal import Refusal
from modescape_api.http.site import Here, Site
from modescape_api.resources.examples import Example, answer, answers, listing

router = APIRouter(tags=["reports"])

COLUMNS = ("id", "slug", "name", "revision", "created_by", "created_at", "changed_at")
REVISION_COLUMNS = ("revision", "name", "by", "at")
_IMAGES = ("image/png", "image/jpeg", "image/webp", "image/gif")
Blocks = Annotated[list[dict[str, Any]], Field(max_length=blocks.MOST)]


class NewReport(Body):
    """A report: its blocks, or those that one of an experiment begins with."""

    name: Name
    blocks: Blocks | None = Field(None, description="In their order; see the page for what each kind has.")
    experiment: str | None = Field(None, max_length=80, description="Begin with what there is of this experiment.")


class ReportChange(Body):
    """What is left out stays as it is."""

    name: Name | None = None
    blocks: Blocks | None = None
    revision: int | None = Field(None, ge=1, description="That this changes; another one is there: 409.")


def as_row(row: Report) -> Json:
    return replies.picked(row, *COLUMNS)


def as_report(here: Site, row: Report) -> Json:
    base = at(f"/api/reports/{row.slug}")
    return {
        **as_row(row),
        "blocks": row.blocks,
        "images": [as_image(row, image) for image in here.store.reports.images(row.id)],
        "links": {form: f"{base}/export?form={form}" for form in taken.FORMS},
    }


def as_revision(row: ReportRevision) -> Json:
    return replies.picked(row, *REVISION_COLUMNS)


def as_image(report: Report, image: ReportImage) -> Json:
    """markdown: what puts it into a note."""
    return {
        **replies.picked(image, "digest", "name", "media", "width", "height"),
        "markdown": f"![{image.name}](image:{image.digest})",
        "url": at(f"/api/reports/{report.slug}/images/{image.digest}"),
    }


def add_image(here: Site, reference: str, name: str, content: bytes) -> ReportImage:
    """Another process reads it. Raises NotFound, InvalidInput, Forbidden, Busy."""
    if not content:
        raise InvalidInput("is empty", field="image", allowed="a PNG, JPEG, WebP or GIF")
    row = here.store.reports.get(reference)
    with here.maker.folder() as folder:
        (folder / "sent").write_bytes(content)
        made = here.maker.make({"what": "image", "from": str((folder / "sent").absolute())})
    return here.store.reports.add_image(row.id, name[:100], made, images.media_of(made), images.size_of(made))


@router.get("/api/reports", summary="All reports, those changed last first", responses=listing("reports"))
def list_reports(request: Request, here: Here) -> Response:
    rows = [as_row(row) for row in here.store.reports.all()]
    return replies.whole(request, rows, "Reports", columns=COLUMNS, name="reports")


@router.post(
    "/api/reports",
    status_code=201,
    summary="Write a report",
    description="Blocks are `{kind: text, markdown}`, `{kind: figure, experiment, figure, options, caption}`, `{kind: "
    "claims, experiment, claims}`, `{kind: numbers, experiments, columns, caption}`, `{kind: methods}` and `{kind: "
    "references}`. In Markdown `[[quickstart: accuracy]]`, `[[quickstart: claim d1]]`, `[[quickstart: figure plane]]` "
    "and `[[quickstart: sentence]]` say what is so when they are read.",
    openapi_extra=documented(NewReport, Example("ask-report")),
    responses={
        201: answer("Written", "report"),
        **problems.documented("malformed", "forbidden", "not-found", "too-large", "wrong-media-type", "invalid-input"),
    },
)
def add(here: Here, asked: Annotated[NewReport, body(NewReport)]) -> Response:
    row = writing.create(here.laboratory, asked.name, asked.blocks, asked.experiment)
    headers = {"location": f"/api/reports/{row.slug}"}
    return replies.json(as_report(here, row), status=201, headers=headers)


@router.get("/api/reports/{report}", summary="One report", responses=answers("Its blocks", "report", "not-found"))
def read(request: Request, here: Here, report: str) -> Response:
    return replies.tagged_json(request, as_report(here, here.store.reports.get(report)))


@router.patch(
    "/api/reports/{report}",
    summary="Change a report",
    openapi_extra=documented(ReportChange, Example("ask-report-change")),
    responses={
        200: answer("Changed", "report"),
        **problems.documented(
            "malformed", "forbidden", "not-found", "conflict", "too-large", "wrong-media-type", "invalid-input"
        ),
    },
)
def edit(here: Here, report: str, asked: Annotated[ReportChange, body(ReportChange)]) -> Response:
    row = writing.change(here.laboratory, report, name=asked.name, documents=asked.blocks, revision=asked.revision)
    return replies.json(as_report(here, row))


@router.delete(
    "/api/reports/{report}",
    status_code=204,
    summary="Remove a report and its images",
    responses={204: {"description": "It is gone"}, **problems.documented("forbidden", "not-found")},
)
def remove(here: Here, report: str) -> Response:
    here.store.reports.remove(report)
    return Response(status_code=204)


@router.get(
    "/api/reports/{report}/revisions",
    summary="What a report said before, the newest first",
    description="The last 20, the present one among them; told to who may change the report.",
    responses=listing("report-revisions", "forbidden", "not-found"),
)
def list_revisions(request: Request, here: Here, report: str) -> Response:
    rows = [as_revision(row) for row in here.store.reports.revisions(report)]
    return replies.whole(request, rows, "Revisions", columns=REVISION_COLUMNS, name="revisions")


@router.get(
    "/api/reports/{report}/revisions/{revision}",
    summary="A report as it was",
    responses=answers("Its blocks then", "report-revision", "forbidden", "not-found", "invalid-input"),
)
def read_revision(here: Here, report: str, revision: int) -> Response:
    row = here.store.reports.revision(report, revision)
    return replies.json({**as_revision(row), "blocks": row.blocks})


@router.post(
    "/api/reports/{report}/revisions/{revision}/restore",
    summary="Make a report say again what it said",
    description="That becomes its next revision, so nothing that was written since is lost.",
    responses=answers("As it is now", "report", "forbidden", "not-found", "invalid-input"),
)
def restore(here: Here, report: str, revision: int) -> Response:
    return replies.json(as_report(here, here.store.reports.restore(report, revision)))


@router.post(
    "/api/reports/{report}/images",
    status_code=201,
    summary="Put an image into a report",
    description="The body is the image (PNG, JPEG, WebP or GIF, a megabyte at most). It is written anew; `markdown` is "
    "what shows it in a note. Images from elsewhere are never fetched.",
    openapi_extra={"requestBody": {"required": True, "content": dict.fromkeys(_IMAGES, replies.BINARY)}},
    responses={
        201: answer("Kept", "report-image"),
        **problems.documented("forbidden", "not-found", "too-large", "wrong-media-type", "invalid-input"),
    },
)
async def put_image(
    request: Request,
    here: Here,
    report: str,
    name: Annotated[str, Query(max_length=100, description="Said where it cannot be seen.")] = "image",
) -> Response:
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind not in _IMAGES:
        wrong = Problem("is of another type", "Content-Type", ", ".join(_IMAGES))
        raise Refusal("wrong-media-type", f"the body is {kind[:80] or 'of no declared type'}", problems=[wrong])
    content = await request.body()
    row, image = await run_in_threadpool(_kept_image, here, report, name, content)
    return replies.json(as_image(row, image), status=201)


def _kept_image(here: Site, report: str, name: str, content: bytes) -> tuple[Report, ReportImage]:
    image = add_image(here, report, name, content)
    return here.store.reports.get(report), image


@router.get(
    "/api/reports/{report}/images/{digest}",
    summary="An image of a report",
    responses={
        200: {"description": "The image", "content": {"image/png": {}, "image/jpeg": {}}},
        **problems.documented("not-found"),
    },
)
def image(here: Here, report: str, digest: str) -> Response:
    found = here.store.reports.image(report, digest)
    headers = {"cache-control": replies.IMMUTABLE, "content-security-policy": "default-src 'none'"}
    return Response(found.content, headers=headers, media_type=found.media)


@router.get(
    "/api/reports/{report}/export",
    summary="A report as one HTML file, as Markdown with SVG, as LaTeX with PDF figures, or as a notebook",
    description="Made by another process; figures are drawn as they are now.",
    responses={
        200: {
            "description": "The file",
            "content": {form.media.partition(";")[0]: {} for form in taken.FORMS.values()},
        },
        **problems.documented("not-found", "conflict", "not-acceptable", "invalid-input"),
    },
)
def export(
    request: Request, here: Here, report: str, form: Annotated[str, Query(description=", ".join(taken.FORMS))] = "html"
) -> Response:
    row = here.store.reports.get(report)
    if form not in taken.FORMS:
        raise InvalidInput(f"is {form[:40]!r}", field="form", allowed=", ".join(taken.FORMS))
    wanted = taken.FORMS[form]
    if lack := wanted.missing():
        there = [one.name for one in taken.FORMS.values() if not one.missing()]
        said = f"{wanted.title} cannot be made here: {lack}"
        raise Refusal("not-acceptable", said, problems=[Problem(lack, "form", ", ".join(there))])
    link = str(request.base_url).rstrip("/") + at("")
    file = here.maker.made({"what": "report", "report": row.id, "form": form, "link": link})
    headers = {
        "content-disposition": f'attachment; filename="{row.slug}.{wanted.suffix}"',
        "cache-control": replies.REVALIDATE,
        "content-security-policy": "sandbox",
    }
    return replies.sent(file, headers=headers, media_type=wanted.media)
