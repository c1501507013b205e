"""Signing in with the server's token, for people: the page, and the cookie it leaves."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from modescape_api.http.security import SESSION, SESSION_SECONDS, new_session, own_path, same
from modescape_api.http.site import Here
from modescape_api.pages.rendering import render

router = APIRouter()


@router.get("/signin")
def signin_page(request: Request, here: Here, next: str = "/") -> Response:
    return render(request, here, "signin.html", next=own_path(next), error="")


@router.post("/signin")
def signin(
    request: Request,
    here: Here,
    token: Annotated[str, Form(max_length=1000)] = "",
    next: Annotated[str, Form(max_length=2000)] = "/",
) -> Response:
    if here.token is None:
        return RedirectResponse("/", status_code=303)
    if not same(token, here.token):
        return render(
            request, here, "signin.html", next=own_path(next), error="That is not this server's token.", status=403
        )
    answer = RedirectResponse(own_path(next), status_code=303)
    secure = request.url.scheme == "https"
    answer.set_cookie(
        SESSION, new_session(here.token), SESSION_SECONDS, httponly=True, samesite="strict", secure=secure
    )
    return answer


@router.post("/signout")
def signout() -> Response:
    answer = RedirectResponse("/signin", status_code=303)
    answer.delete_cookie(SESSION, path="/", httponly=True, samesite="strict")
    return answer
