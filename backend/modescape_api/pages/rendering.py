"""What every page shares: its template, the visitor's theme, its address, the way back from a form."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from threading import Lock
from typing import Annotated, Any
from urllib.parse import urlencode

import jinja2
from cachetools import TTLCache, cached
from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2.ext import Extension
from starlette.datastructures import FormData

from modescape import __version__, power
from modescape.acting import UserRole
from modescape.drawing import forms
from modescape.drawing.style import look
from modescape.errors import InvalidInput
from modescape.records import Status
from modescape_api.http import assets, identity, proxies, replies, security
from modescape_api.http.identity import needs
from modescape_api.http.site import Here, Site
from modescape_api.pages.display import FILTERS, GLYPHS
from modescape_api.pages.terms import TERMS, explained, of_figure
from modescape_api.resources import workers

router = APIRouter()

ALIVE = tuple(status for status in Status if not status.has_ended)
EVENT_KINDS = (
    "created changed cancelled paused resumed retried archived restored purged status points progress stage-ready "
    "stage-running stage-succeeded stage-failed stage-paused stage-cancelled stage-lost worker parcel"
)


class _Unindented(Extension):
    """Templates are indented for who reads them; pages do not carry that along."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        return re.sub(r"^[ \t]+", "", source, flags=re.MULTILINE)


@cached(TTLCache(1, 30.0), lock=Lock())
def figure_forms() -> list[tuple[forms.Form, str]]:
    """Each form of a figure, and what keeps it from being made here; looked for twice a minute."""
    return [(form, form.missing()) for form in forms.FORMS.values()]


def lacking(found: Iterable[tuple[forms.Form, str]]) -> list[tuple[str, list[str]]]:
    """What is missing, each once, with the titles of the forms that take it."""
    by_lack: dict[str, list[str]] = {}
    for form, lack in found:
        if lack and form.name not in ("svg", "png"):  # which the visitor's browser draws
            by_lack.setdefault(lack, []).append(form.title)
    return list(by_lack.items())


@lru_cache
def _templates() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(assets.frontend() / "templates")
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        extensions=[_Unindented],
    )
    environment.filters.update(FILTERS, explained=explained)
    environment.globals.update(
        half_width=power.half_width,
        asset=assets.url,
        imported=assets.imported,
        look_of=look,
        terms=TERMS,
        terms_of=of_figure,
        plotly=assets.plotly_url(),
        event_kinds=EVENT_KINDS,
        figure_forms=figure_forms,
        lacking=lacking,
        glyphs=GLYPHS,
    )
    return environment


def render(
    request: Request,
    here: Site | None,
    template: str,
    /,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **values: object,
) -> Response:
    """A page in the visitor's theme (a cookie, so nothing flashes). here is None only before the start has finished."""
    theme = request.cookies.get(identity.THEME_COOKIE)
    who = identity.asking(request)
    signed_in = here is not None and who is not None
    shared = {
        "theme": theme if theme in ("light", "dark") else None,
        "signed_in": signed_in,
        "who": who,
        "visiting": who.link if who is not None else None,
        "may_launch": who is not None and who.actor.may(UserRole.RESEARCHER),
        "here_path": request.url.path + (f"?{request.url.query}" if request.url.query else ""),
        "section": request.url.path,
        "workers_alive": alive_workers(here) if here is not None and signed_in else None,
        "version": __version__,
        "notice": None,
        "notice_is_bad": False,
        "search": "",
        "has_search": False,  # whether the page shows the box itself
        "root": proxies.root(),
        "sprite": assets.url("sprite.svg"),
    }
    text = _templates().get_template(template).render({**shared, **values})
    return HTMLResponse(
        proxies.in_page(text),
        status_code=status,
        headers={"cache-control": replies.REVALIDATE, "vary": "cookie", **(headers or {})},
    )


def error_page(request: Request, document: Mapping[str, Any], headers: Mapping[str, str]) -> Response:
    """A problem document as a page; one about the database is made without it."""
    asking = "app" in request.scope and not str(document["type"]).endswith("#unavailable")
    here = getattr(request.app.state, "site", None) if asking else None
    return render(
        request, here, "error.html", status=int(document["status"]), headers=headers, problem=document, section=""
    )


def visits(request: Request) -> bool:
    """Whether somebody reads this page by a link that was shared, and may know of nothing else."""
    who = identity.asking(request)
    return who is not None and who.link is not None


def alive_workers(here: Site) -> int:
    """How many workers were heard of lately and have not said goodbye."""
    return sum(workers.state(here, row) in ("working", "idle") for row in here.store.workers.all())


def back(path: str) -> Response:
    return RedirectResponse(security.own_path(path), status_code=303)


Next = Annotated[str, Form(max_length=2000)]


async def _posted(request: Request) -> FormData:
    return await request.form(max_fields=2000)


Posted = Annotated[FormData, Depends(_posted)]  # of forms whose fields are not known beforehand


def address(
    request: Request, *, path: str = "", changes: Mapping[str, str | None] | None = None, **named: str | None
) -> str:
    """This address with parameters changed (None: taken away)."""
    changes = {**(changes or {}), **named}
    pairs = [(key, value) for key, value in request.query_params.multi_items() if key not in changes and value]
    pairs += [(key, value) for key, value in changes.items() if value is not None]
    return (path or request.url.path) + (f"?{urlencode(pairs)}" if pairs else "")


@router.post("/theme")
@needs(UserRole.VIEWER)
def set_theme(request: Request, here: Here, theme: Annotated[str, Form()] = "", next: Next = "/") -> Response:
    if theme not in ("light", "dark"):
        raise InvalidInput(f"there is no theme {theme[:40]!r}", field="theme", allowed="light, dark")
    answer = back(next)
    answer.set_cookie(identity.THEME_COOKIE, theme, max_age=31536000, samesite="lax")
    return answer
