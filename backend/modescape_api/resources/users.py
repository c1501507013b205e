"""Users over HTTP: who one is, who may come in, tokens of programs, and what everybody did."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response
from pydantic import Field, StringConstraints

from modescape import users
from modescape.acting import UserRole
from modescape.errors import InvalidInput
from modescape.records import Json
from modescape.tables import ApiToken, Deed, SignIn, User
from modescape_api.http import problems, replies
from modescape_api.http.bodies import Body, Name, body, documented
from modescape_api.http.identity import Present, Who, needs
from modescape_api.http.site import Here, Site
from modescape_api.resources.examples import Example, answer, answers, listing

router = APIRouter(tags=["users"])

Password = Annotated[str, StringConstraints(max_length=users.LONGEST_PASSWORD)]
DAYS = 90  # of a token for which nothing else is asked
COLUMNS = ("name", "role", "disabled", "has_password", "created_at", "created_by")
TOKENS = ("id", "user", "name", "created_at", "expires_at", "used_at")
DEEDS = ("id", "at", "who", "role", "address", "verb", "kind", "thing", "name", "details")


class NewUser(Body):
    """Somebody who may come in from now on."""

    name: str = Field(description="Letters, digits and . _ - @ +, without spaces; `Ada` and `ada` are one.")
    role: UserRole = Field(
        UserRole.RESEARCHER, description="viewer: reads everything; researcher: launches, and changes what is their "
        "own; admin: everything.",
    )  # fmt: skip
    password: Password | None = Field(
        None, description=f"At least {users.SHORTEST_PASSWORD} characters; without one, programs alone come in, by "
        "tokens.",
    )  # fmt: skip


class UserChanges(Body):
    """What is to be another of a user; fields left out stay. Its browsers have to sign in again."""

    role: UserRole | None = Field(None, description="viewer, researcher or admin.")
    password: Password | None = Field(None, description=f"At least {users.SHORTEST_PASSWORD} characters.")
    present_password: Password | None = Field(None, description="The one so far; asked of those who change their own.")
    disabled: bool | None = Field(None, description="Whether it is kept out, with all its tokens.")


class NewToken(Body):
    """A secret by which a program comes in as this user."""

    name: Name = Field(description="What it is for, such as `cluster`.")
    days: float | None = Field(
        DAYS, gt=0, le=users.LONGEST_DAYS, description="How long it holds; null: until it is revoked."
    )
    user: str | None = Field(None, description="Whose; empty: one's own. That of others is for admins.")


# -- rows as documents ------------------------------------------------------------------------------------------------


def as_user(row: User) -> Json:
    return {**replies.picked(row, *(name for name in COLUMNS if name != "has_password")),
            "has_password": row.password is not None}  # fmt: skip


def as_token(token: ApiToken, row: User) -> Json:
    return {**replies.picked(token, *(name for name in TOKENS if name != "user")), "user": row.name}


def as_sign_in(row: SignIn, who: Who) -> Json:
    return {**replies.picked(row, "address", "created_at", "expires_at", "seen_at"), "this": row.digest == who.sign_in}


def as_deed(row: Deed) -> Json:
    return replies.picked(row, *DEEDS)


# -- oneself ----------------------------------------------------------------------------------------------------------


@router.get("/api/me", summary="Who asks, and what that one may", responses=answers("Whoever asks", "me"))
def me(who: Present) -> Response:
    return replies.json({**replies.picked(who.actor, "name", "role", "address"), "signed_in": who.sign_in is not None})


# -- users ---------------------------------------------------------------------------------------------------------


@router.get("/api/users", summary="Who may come in", responses=listing("users", "forbidden"))
@needs(UserRole.ADMIN)
def every(request: Request, here: Here) -> Response:
    rows = [as_user(row) for row in here.store.users.all()]
    return replies.whole(request, rows, "Users", columns=COLUMNS, name="users")


@router.post(
    "/api/users",
    status_code=201,
    summary="Let somebody in",
    openapi_extra=documented(NewUser, Example("ask-user")),
    responses={
        201: answer("Added", "user"),
        **problems.documented("malformed", "forbidden", "conflict", "too-large", "wrong-media-type", "invalid-input"),
    },
)
@needs(UserRole.ADMIN)
async def add(here: Here, asked: Annotated[NewUser, body(NewUser)]) -> Response:
    row = await add_user(here, asked)
    return replies.json(as_user(row), status=201, headers={"location": f"/api/users/{row.name}"})


async def add_user(here: Site, asked: NewUser) -> User:
    """Raises InvalidInput, Conflict, Forbidden."""
    name = users.checked_name(asked.name)
    kept = None if asked.password is None else await here.door.hashed(asked.password, name)
    return await to_thread.run_sync(here.store.users.add, name, asked.role, kept)


@router.get("/api/users/{user}", summary="One user", responses=answers("It", "user", "forbidden", "not-found"))
@needs(UserRole.ADMIN)
def one(here: Here, user: str) -> Response:
    return replies.json(as_user(here.store.users.get(user)))


@router.patch(
    "/api/users/{user}",
    summary="Change a user",
    description="Roles, passwords of others, and who is kept out are for admins; one's own password for everybody, who "
    "give the present one as well. The user's browsers have to sign in again.",
    openapi_extra=documented(UserChanges, Example("ask-user-change")),
    responses={
        200: answer("It is as asked", "user"),
        **problems.documented(
            "malformed", "forbidden", "not-found", "conflict", "too-large", "too-many-attempts", "wrong-media-type",
            "invalid-input",
        ),
    },
)  # fmt: skip
@needs(UserRole.VIEWER)
async def change(
    request: Request, here: Here, who: Present, user: str, asked: Annotated[UserChanges, body(UserChanges)]
) -> Response:
    return replies.json(as_user(await change_user(request, here, who, user, asked)))


async def change_user(
    request: Request, here: Site, who: Who, user: str, asked: UserChanges, *, shown: bool = False
) -> User:
    """shown: the present password was given. Raises InvalidInput, NotFound, Conflict, Forbidden, and Refusal after too
    many wrong passwords."""
    kept = None
    if asked.password is not None:
        own = users.key_of(user) == users.key_of(who.actor.name)
        given = asked.present_password or ""
        if own and not shown and await here.door.by_password(request, user, given) is None:
            raise InvalidInput(
                "is not the present one", field="present_password", allowed="the password there is so far"
            )
        kept = await here.door.hashed(asked.password, user)
    return await to_thread.run_sync(
        lambda: here.store.users.change(user, role=asked.role, password=kept, disabled=asked.disabled)
    )


@router.delete(
    "/api/users/{user}",
    status_code=204,
    summary="Remove a user",
    description="With its tokens and sign-ins. What it made stays, under its name.",
    responses={204: {"description": "Removed"}, **problems.documented("forbidden", "not-found", "conflict")},
)
@needs(UserRole.ADMIN)
def remove(here: Here, user: str) -> Response:
    here.store.users.remove(user)
    return Response(status_code=204)


# -- tokens -----------------------------------------------------------------------------------------------------------


@router.get(
    "/api/tokens",
    summary="Tokens of one's own programs",
    description="`of`: a user, or `*` for all, which is for admins.",
    responses=listing("tokens", "forbidden", "not-found"),
)
def tokens(
    request: Request,
    here: Here,
    who: Present,
    of: Annotated[str | None, Query(max_length=users.LONGEST_NAME, description="Whose; empty: one's own.")] = None,
) -> Response:
    whose = who.actor.name if of is None else of
    if whose != who.actor.name:
        who.actor.check(UserRole.ADMIN, "tokens of somebody else")
    rows = [as_token(token, row) for token, row in tokens_of(here, None if whose == "*" else whose)]
    return replies.whole(request, rows, "Tokens", columns=TOKENS, name="tokens")


def tokens_of(here: Site, name: str | None) -> list[tuple[ApiToken, User]]:
    """Of a user, or of all; none of one without a user, such as that of this machine."""
    known = [row.name for row in here.store.users.all()]
    return here.store.users.tokens(name) if name is None or name in known else []


@router.post(
    "/api/tokens",
    status_code=201,
    summary="Make a token",
    description="`token` is told here and never again: only its digest is kept. One that is made by another token ends "
    "with that one, at the latest.",
    openapi_extra=documented(NewToken, Example("ask-token")),
    responses={
        201: answer("Made", "token"),
        **problems.documented("malformed", "forbidden", "not-found", "too-large", "wrong-media-type", "invalid-input"),
    },
)
@needs(UserRole.VIEWER)
def add_token(here: Here, who: Present, asked: Annotated[NewToken, body(NewToken)]) -> Response:
    secret, token, row = make_token(here, who, asked)
    return replies.json({**as_token(token, row), "token": secret}, status=201, headers={"cache-control": "no-store"})


def make_token(here: Site, who: Who, asked: NewToken) -> tuple[str, ApiToken, User]:
    """The secret, which is told once, and its row. Raises NotFound, Forbidden."""
    name, secret = asked.user or who.actor.name, users.new_secret(users.TOKEN_PREFIX)
    lifetime = None if asked.days is None else timedelta(days=asked.days)
    token = here.store.users.add_token(name, asked.name, users.digest(secret), lifetime)
    return secret, token, here.store.users.get(name)


@router.delete(
    "/api/tokens/{token}",
    status_code=204,
    summary="Revoke a token",
    description="With the tokens that were made by it. Somebody else's, which are for admins, are not found.",
    responses={204: {"description": "It holds no longer"}, **problems.documented("not-found", "conflict")},
)
@needs(UserRole.VIEWER)
def revoke(here: Here, token: str) -> Response:
    here.store.users.revoke(token)
    return Response(status_code=204)


# -- what everybody did -----------------------------------------------------------------------------------------------


@router.get(
    "/api/deeds",
    summary="Who did what",
    description="The newest first; the next page is `before` the last `id`.",
    responses=listing("deeds", "forbidden", "invalid-input"),
)
@needs(UserRole.ADMIN)
def deeds(
    request: Request,
    here: Here,
    who: Annotated[str | None, Query(max_length=200, description="Only those of this one.")] = None,
    thing: Annotated[str | None, Query(max_length=200, description="Only those done to the thing of this id.")] = None,
    before: Annotated[int | None, Query(ge=1, le=2**63 - 1, description="Only those before this one.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many at most.")] = 100,
) -> Response:
    rows = here.store.deeds.page(who=who, thing=thing, before=before, limit=limit)
    return replies.whole(request, [as_deed(row) for row in rows], "Deeds, newest first", columns=DEEDS, name="deeds")
