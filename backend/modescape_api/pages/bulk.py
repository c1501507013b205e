"""What the list does with several experiments at once: those that are ticked, or all that it finds."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from starlette.datastructures import FormData

from modescape import asking
from modescape.acting import UserRole
from modescape.bulk import MOST, act, matching
from modescape.errors import InvalidInput
from modescape.records import BulkAction, BulkDeed
from modescape_api.http import bodies
from modescape_api.http.identity import needs
from modescape_api.http.site import Here, Site
from modescape_api.pages import forms, told
from modescape_api.pages.rendering import Posted, back, render
from modescape_api.resources.bulk import Bulk

router = APIRouter()

_COMPARED, _EXPORTED = 100, 200  # whose addresses fit one


def _chosen(here: Site, form: FormData) -> list[str]:
    """Slugs of what is ticked; of all that the list finds where that is asked for. Raises InvalidInput."""
    if form.get("all"):
        return matching(here.store, _asked(form))
    return list(dict.fromkeys(str(reference) for reference in form.getlist("ref")[:MOST]))


def _asked(form: FormData) -> list[tuple[str, str]]:
    """What the list was asked for, on which a form stood. Raises InvalidInput."""
    return asking.pairs(str(form.get("next", "/")).partition("?")[2])


def _told(request: Request, here: Site, form: FormData, asked: BulkDeed, slugs: list[str]) -> Response:
    """Back to the list, which says what was done, or what could not be done."""
    is_told = asked.action is not BulkAction.PURGE and len(slugs) <= told.MOST_UNDONE
    before = {row.slug: row for row in here.store.experiments.several(slugs)} if is_told else {}
    done = act(here.laboratory, asked, slugs)
    way_back = str(form.get("next", "/"))
    if not done.failed and asked.action is not BulkAction.PURGE:
        answer = back(way_back)
        if done.done:
            told.tell(request, answer, told.of(asked, done.done, before))
        return answer
    status = 200 if not done.failed else 403 if done.forbidden == len(done.failed) else 409
    return render(
        request, here, "bulk.html", status=status, section="/", action=asked.action.value, done=done,
        way_back=way_back, sure=True,
    )  # fmt: skip


def _change(form: FormData) -> BulkDeed:
    """Raises InvalidInput."""
    asked: dict[str, Any] = {"action": BulkAction.CHANGE.value}
    for name in ("tag", "untag"):
        asked[name] = forms.parts(str(form.get(name, "")))
    project = str(form.get("project", "")).strip()
    if project or form.get("no-project"):
        asked["project"] = "" if form.get("no-project") else project
    return bodies.validate(Bulk, asked).deed


@router.post("/archive")
def archive_many(request: Request, here: Here, form: Posted) -> Response:
    return _told(request, here, form, BulkDeed(BulkAction.ARCHIVE), _chosen(here, form))


@router.post("/restore")
def restore_many(request: Request, here: Here, form: Posted) -> Response:
    return _told(request, here, form, BulkDeed(BulkAction.RESTORE), _chosen(here, form))


@router.post("/change")
def change_many(request: Request, here: Here, form: Posted) -> Response:
    """Tags and project."""
    asked, slugs = _change(form), _chosen(here, form)
    return _told(request, here, form, asked, slugs) if slugs else back(str(form.get("next", "/")))


@router.post("/purge")
def purge_many(request: Request, here: Here, form: Posted) -> Response:
    """First how many, and what it frees; then, once that is confirmed, for good."""
    slugs, way_back = _chosen(here, form), str(form.get("next", "/"))
    if not slugs:
        return back(way_back)
    if form.get("sure"):
        return _told(request, here, form, BulkDeed(BulkAction.PURGE), slugs)
    known = here.store.experiments.named(slugs)
    rows = [known.get(slug) or here.store.experiments.get(slug) for slug in slugs]
    return render(
        request, here, "bulk.html", section="/", action="purge", rows=rows, way_back=way_back, sure=False,
        freed=here.store.experiments.bytes_of(*slugs),
    )  # fmt: skip


@router.post("/compare")
@needs(UserRole.VIEWER)
def compare_chosen(here: Here, form: Posted) -> Response:
    """As an address that can be kept."""
    asked = urlencode([("e", slug) for slug in _chosen(here, form)[:_COMPARED]])
    return RedirectResponse(f"/compare?{asked}", status_code=303)


@router.post("/export")
@needs(UserRole.VIEWER)
def export_chosen(here: Here, form: Posted) -> Response:
    """The rows as a table, at an address that programs take too. Raises InvalidInput."""
    form_of = str(form.get("format", "csv"))
    if form_of not in ("csv", "json", "ndjson"):
        raise InvalidInput(f"there is no form {form_of[:20]!r}", field="format", allowed="csv, json, ndjson")
    if form.get("all"):
        pairs = [(key, value) for key, value in _asked(form) if key != "cursor"]
        return RedirectResponse(f"/api/experiments?{urlencode([*pairs, ('format', form_of)])}", status_code=303)
    slugs = _chosen(here, form)
    if len(slugs) > _EXPORTED:
        raise InvalidInput(f"has {len(slugs)}", field="ref", allowed=f"at most {_EXPORTED} rows, or all that are found")
    pairs = [("slug", ",".join(slugs)), ("format", form_of)]
    pairs += [("archived", "true")] if form.get("archived") else []
    return RedirectResponse(f"/api/experiments?{urlencode(pairs)}", status_code=303)
