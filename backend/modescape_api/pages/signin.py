"""Signing in, for people: the page, and the cookie it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from modescape.acting import UserRole
from modescape_api.http import identity
from modescape_api.http.identity import Shown, address_of, asking, needs
from modescape_api.http.refusal import Refusal
from modescape_api.http.security import own_path
from modescape_api.http.site import Here, Site
from modescape_api.pages.rendering import render

router = APIRouter()

Text = Annotated[str, Form(max_length=1000)]


@router.get("/signin")
async def signin_page(request: Request, here: Here, next: str = "/", code: str | None = None) -> Response:
    """code: of the address that `modescape up` or `modescape users link` printed, which signs in once."""
    if code is None:
        return await run_sync(_page, request, here, next, "")
    typed = request.headers.get("sec-fetch-site", "none") == "none"  # and not a link of some page's
    shown = await here.door.by_code(code, address_of(request)) if typed else None
    if shown is None:
        said = "That address was opened before, or is too old; `modescape users link` prints another."
        return await run_sync(_page, request, here, next, said, 403)
    return await _entered(request, here, shown, next)


@router.post("/signin")
@needs(UserRole.VIEWER)
async def signin(
    request: Request,
    here: Here,
    name: Text = "",
    password: Text = "",
    token: Text = "",
    next: Annotated[str, Form(max_length=2000)] = "/",
) -> Response:
    try:
        if token:
            shown = await here.door.by_token(token.strip(), address_of(request))
            wrong = "That token is not known here."
        else:
            shown = await here.door.by_password(request, name.strip(), password)
            wrong = "Name or password is wrong."
    except Refusal as refusal:
        return await run_sync(_page, request, here, next, str(refusal), 429, name, refusal.headers)
    if shown is None:
        return await run_sync(_page, request, here, next, wrong, 403, name)
    return await _entered(request, here, shown, next)


@router.post("/signout")
@needs(UserRole.VIEWER)
def signout(request: Request, here: Here) -> Response:
    who = asking(request)
    if who is not None and who.sign_in is not None:
        here.store.users.sign_out([who.sign_in])
    answer = RedirectResponse("/signin", status_code=303)
    identity.end(answer)
    return answer


async def _entered(request: Request, here: Site, shown: Shown, next: str) -> Response:
    answer = RedirectResponse(own_path(next), status_code=303, headers={"cache-control": "no-store"})
    await run_sync(identity.begin, request, answer, here.store, shown)
    return answer


def _page(
    request: Request,
    here: Site,
    next: str,
    error: str,
    status: int = 200,
    name: str = "",
    headers: Mapping[str, str] | None = None,
) -> Response:
    return render(
        request, here, "signin.html", next=own_path(next), error=error, status=status, headers=headers, name=name,
        has_users=bool(here.store.users.all()), has_token=here.door.server_token is not None,
    )  # fmt: skip
