"""Pages about people and programs: one's own account, who may come in, who did what."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from modescape import users as rules
from modescape.acting import UserRole
from modescape.errors import Conflict, InvalidInput, NotFound
from modescape.tables import SignIn, User
from modescape_api.http import bodies, identity
from modescape_api.http.identity import Present, Shown, Who, actor_of, address_of, needs
from modescape_api.http.site import Here, Site
from modescape_api.pages.rendering import render
from modescape_api.resources import users
from modescape_api.resources.users import NewToken, NewUser, UserChanges

router = APIRouter()

ROLES = {
    UserRole.VIEWER: "reads everything",
    UserRole.RESEARCHER: "launches, and changes what is their own",
    UserRole.ADMIN: "everything",
}
MAY = {
    UserRole.VIEWER: "You may read everything.",
    UserRole.RESEARCHER: "You may launch, and change what is your own; what others made you may read and clone.",
    UserRole.ADMIN: "You may do everything.",
}
PER_PAGE = 100

Text = Annotated[str, Form(max_length=rules.LONGEST_PASSWORD)]
Next = Annotated[str, Form(max_length=200)]


# -- one's own --------------------------------------------------------------------------------------------------------


@router.get("/account")
def account(request: Request, here: Here, who: Present) -> Response:
    return _account(request, here, who)


def _account(
    request: Request, here: Site, who: Who, *, problem: InvalidInput | None = None, secret: str = "", status: int = 200
) -> Response:
    """secret: a token that was made in this moment, told once."""
    row = _own(here, who)
    return render(
        request,
        here,
        "account.html",
        status=status,
        headers={"cache-control": "no-store"},
        user=row,
        may=MAY[who.actor.role],
        tokens=[users.as_token(token, owner) for token, owner in users.tokens_of(here, who.actor.name)],
        browsers=[users.as_sign_in(one, who) for one in _browsers(here, who)],
        shortest=rules.SHORTEST_PASSWORD,
        days=users.DAYS,
        problem=None if problem is None else problem.problems[0],
        secret=secret,
    )


def _own(here: Site, who: Who) -> User | None:
    """The user of that name; None of who comes in by a secret of the server, or from its machine."""
    try:
        return here.store.users.get(who.actor.name)
    except NotFound:
        return None


def _browsers(here: Site, who: Who) -> list[SignIn]:
    """Those of the same user; of who has none and may do everything, those that have shown a secret of the server."""
    row = _own(here, who)
    if row is None and not who.actor.may(UserRole.ADMIN):
        return []
    return here.store.users.sign_ins(None if row is None else row.name)


@router.post("/account/password")
@needs(UserRole.VIEWER)
async def own_password(
    request: Request, here: Here, who: Present, present: Text = "", password: Text = "", again: Text = ""
) -> Response:
    try:
        if password != again:
            raise InvalidInput("is not the same twice", field="again", allowed="the new password once more")
        if await here.door.by_password(request, who.actor.name, present) is None:
            raise InvalidInput("is not your password so far", field="present", allowed="the password there is")
        asked = UserChanges(password=password)
        row = await users.change_user(request, here, who, who.actor.name, asked, shown=True)
    except InvalidInput as error:
        return await run_sync(partial(_account, request, here, who, problem=error, status=422))
    answer = RedirectResponse("/account", status_code=303)
    shown = Shown(actor_of(row, address_of(request)), identity.PASSWORD, row)
    await run_sync(identity.begin, request, answer, here.store, shown)  # all browsers were signed out, this one too
    return answer


@router.post("/account/tokens")
@needs(UserRole.VIEWER)
def own_token(
    request: Request, here: Here, who: Present, name: Text = "", days: Annotated[str, Form(max_length=20)] = ""
) -> Response:
    try:
        asked = bodies.validate(NewToken, {"name": name, "days": days.strip() or None})
        secret, _, _ = users.make_token(here, who, asked)
    except InvalidInput as error:
        return _account(request, here, who, problem=error, status=422)
    return _account(request, here, who, secret=secret, status=201)


@router.post("/account/tokens/revoke")
@needs(UserRole.VIEWER)
def revoke(here: Here, id: Annotated[str, Form(max_length=36)] = "", next: Next = "/account") -> Response:
    here.store.users.revoke(id)
    return RedirectResponse("/users" if next == "/users" else "/account", status_code=303)


@router.post("/account/signout-others")
@needs(UserRole.VIEWER)
def sign_out_others(here: Here, who: Present) -> Response:
    here.store.users.sign_out([row.digest for row in _browsers(here, who) if row.digest != who.sign_in])
    return RedirectResponse("/account", status_code=303)


# -- everybody --------------------------------------------------------------------------------------------------------


@router.get("/users")
@needs(UserRole.ADMIN)
def every(request: Request, here: Here) -> Response:
    return _users(request, here)


def _users(request: Request, here: Site, *, problem: str = "", name: str = "", status: int = 200) -> Response:
    tokens: dict[str, int] = {}
    for _, row in here.store.users.tokens():
        tokens[row.name] = tokens.get(row.name, 0) + 1
    return render(
        request, here, "users.html", status=status, section="/users", problem=problem, name=name, roles=ROLES,
        rows=here.store.users.all(), tokens=tokens, shortest=rules.SHORTEST_PASSWORD,
    )  # fmt: skip


@router.post("/users")
@needs(UserRole.ADMIN)
async def add(
    request: Request, here: Here, name: Text = "", password: Text = "", role: Annotated[str, Form()] = "researcher"
) -> Response:
    try:
        document = {"name": name, "role": role, "password": password or None}
        await users.add_user(here, bodies.validate(NewUser, document))
    except (InvalidInput, Conflict) as error:
        status = 409 if isinstance(error, Conflict) else 422
        return await run_sync(partial(_users, request, here, problem=str(error), name=name, status=status))
    return RedirectResponse("/users", status_code=303)


@router.post("/users/change")
@needs(UserRole.ADMIN)
async def change(
    request: Request,
    here: Here,
    who: Present,
    name: Text = "",
    role: Annotated[str, Form(max_length=20)] = "",
    disabled: Annotated[str, Form(max_length=5)] = "",
    password: Text = "",
    remove: Annotated[bool, Form()] = False,
) -> Response:
    try:
        if remove:
            await run_sync(here.store.users.remove, name)
        else:
            document = {
                "role": role or None, "disabled": disabled == "true" if disabled else None,
                "password": password or None,
            }  # fmt: skip
            await users.change_user(request, here, who, name, bodies.validate(UserChanges, document))
    except (InvalidInput, Conflict) as error:
        status = 409 if isinstance(error, Conflict) else 422
        return await run_sync(partial(_users, request, here, problem=f"{name}: {error}", status=status))
    return RedirectResponse("/users", status_code=303)


@router.get("/deeds")
@needs(UserRole.ADMIN)
def deeds(
    request: Request,
    here: Here,
    who: Annotated[str | None, Query(max_length=200)] = None,
    thing: Annotated[str | None, Query(max_length=200)] = None,
    before: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None,
) -> Response:
    rows = here.store.deeds.page(who=who or None, thing=thing or None, before=before, limit=PER_PAGE + 1)
    return render(
        request, here, "deeds.html", section="/deeds", rows=rows[:PER_PAGE], more=len(rows) > PER_PAGE, who_asked=who,
        thing=thing, is_first=before is None,
    )  # fmt: skip
