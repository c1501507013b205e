"""The page of links that were shared, and where one leads."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from modescape import users
from modescape.acting import UserRole, actor
from modescape.errors import Forbidden, InvalidInput, NotFound
from modescape_api.http import bodies, identity, sharing
from modescape_api.http.identity import needs
from modescape_api.http.proxies import at
from modescape_api.http.site import Here, Site
from modescape_api.pages.rendering import back, render
from modescape_api.resources import links
from modescape_api.resources.links import NewLink

router = APIRouter()


@router.get("/links")
def every(request: Request, here: Here, to: str = "") -> Response:
    return _page(request, here, to=to)


def _page(
    request: Request, here: Site, *, to: str = "", name: str = "", is_open: bool = False, problem: str = "",
    url: str = "", status: int = 200,
) -> Response:  # fmt: skip
    """url: of a link that was made in this moment, told once."""
    return render(
        request, here, "links.html", status=status, section="/links", headers={"cache-control": "no-store"},
        rows=here.store.links.all(), to=to, name=name, problem=problem, url=url, days=links.DAYS,
        most_days=links.MOST_DAYS, is_open=is_open, may_be_open=here.settings.open_links,
        is_admin=actor().may(UserRole.ADMIN), thing=_thing(here, to),
    )  # fmt: skip


def _thing(here: Site, to: str) -> tuple[str, str]:
    """What an address is of, and its slug; ("", "") of what cannot be shared."""
    try:
        led = sharing.led(here.store, to)
    except (Forbidden, InvalidInput, NotFound):
        return "", ""
    return led.kind.value, led.address.partition("?")[0].rpartition("/")[2]


@router.post("/links")
def add(
    request: Request, here: Here, to: Annotated[str, Form()] = "", name: Annotated[str, Form()] = "",
    days: Annotated[str, Form()] = "", without_sign_in: Annotated[str, Form()] = "",
) -> Response:  # fmt: skip
    asked = {"to": to, "name": name, "days": int(days) if days.isdecimal() and len(days) < 6 else days or links.DAYS}
    asked["without_sign_in"] = bool(without_sign_in)
    try:
        _, path = links.add_link(here, bodies.validate(NewLink, asked))
    except (Forbidden, InvalidInput, NotFound) as error:
        is_open, status = bool(without_sign_in), 403 if isinstance(error, Forbidden) else 422
        return _page(request, here, to=to, name=name, is_open=is_open, problem=str(error), status=status)
    return _page(request, here, url=str(request.base_url).rstrip("/") + at(path), status=201)


@router.post("/links/{link}/revoke")
@needs(UserRole.VIEWER)
def revoke(here: Here, link: str) -> Response:
    here.store.links.revoke(link)
    return back("/links")


@router.get("/s/{secret}")
@needs(UserRole.VIEWER)
def follow(request: Request, here: Here, secret: str) -> Response:
    """To what it leads to: as who has signed in, or, where that is allowed, as somebody who may read that alone."""
    row = here.store.links.by_secret(users.digest(secret))
    if row is None:
        raise NotFound("there is no such link: it has ended, or was revoked")
    answer = RedirectResponse(row.target, status_code=303, headers={"referrer-policy": "no-referrer"})
    if identity.asking(request) is None and here.settings.open_links and row.without_sign_in:
        kept = [one for one in request.cookies.get(sharing.COOKIE, "").split(".") if one and one != secret]
        answer.set_cookie(
            sharing.COOKIE, ".".join([*kept[1 - sharing.MOST :], secret]), httponly=True, samesite="lax",
            secure=request.url.scheme == "https",
        )  # fmt: skip
    return answer
