"""Who asks, and what that one may: by a token, a browser's sign-in, or the account at the other end of the connection.

    @router.post("/api/users")
    @needs(UserRole.ADMIN)
    def add(...): ...

What is not marked needs a viewer to be read and a researcher to be changed; whose something is, the store asks itself
(`modescape.acting`).
"""

from __future__ import annotations

import ipaddress
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, TypeVar

import anyio
import anyio.to_thread
from fastapi import Depends, Request, Response

from modescape import neighbours, users
from modescape.acting import Actor, UserRole, account
from modescape.logs import Seldom
from modescape.settings import Settings
from modescape.store import Store
from modescape.tables import ApiToken, User
from modescape_api.http import sharing
from modescape_api.http.proxies import ADDRESS, split_host
from modescape_api.http.refusal import Refusal

log = logging.getLogger("modescape.access")

COOKIE = "modescape_session"
BROWSER_COOKIE = "modescape_browser"  # by which a browser is known in which a password was right
THEME_COOKIE = "theme"
TOUR_COOKIE = "tour"
TOLD_COOKIE = "modescape_told"  # what was done to many, until the next page
SAFE = ("GET", "HEAD", "OPTIONS")
SERVER_TOKEN, HOME_KEY, API_TOKEN, PASSWORD = "server-token", "home-key", "token", "password"
MOST_WAITING = 8  # passwords that are to be checked, one after another
_BY_PROXIES = (
    "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port", "x-forwarded-server",
    "x-forwarded-prefix", "x-real-ip", "forwarded", "via", "cf-connecting-ip", "true-client-ip",
)  # fmt: skip

E = TypeVar("E", bound=Callable[..., object])


@dataclass(frozen=True)
class Who:
    """actor: in whose name it is done; sign_in: the digest of the browser's, where that is how it came in; link: the
    name of the link that was followed, of somebody who reads by that alone."""

    actor: Actor
    sign_in: str | None = None
    link: str | None = None


# -- what an address needs --------------------------------------------------------------------------------------------


def needs(role: UserRole) -> Callable[[E], E]:
    """Marks an endpoint with the role it asks for."""

    def mark(endpoint: E) -> E:
        endpoint.role_needed = role  # type: ignore[attr-defined]
        return endpoint

    return mark


def needed(endpoint: Callable[..., object], method: str) -> UserRole:
    """The role that an endpoint asks for."""
    usual = UserRole.VIEWER if method in SAFE else UserRole.RESEARCHER
    role: UserRole = getattr(endpoint, "role_needed", usual)
    return role


async def check_role(request: Request) -> None:
    """A dependency of every address. Raises Forbidden."""
    who = asking(request)
    if who is not None:  # what strangers may see was decided at the door
        role = needed(request.scope["endpoint"], request.method)
        who.actor.check(role, f"{request.method} {request.scope['path'][:200]}")


def asking(request: Request) -> Who | None:
    """Who asks; None of a stranger."""
    found: Who | None = request.scope.get("modescape.who")
    return found


def _present(request: Request) -> Who:
    who = asking(request)
    if who is None:
        raise unauthorised()
    return who


Present = Annotated[Who, Depends(_present)]


def unauthorised(said: str = "sign in first, or send a token") -> Refusal:
    return Refusal("unauthorised", said, headers={"www-authenticate": 'Bearer realm="modescape"'})


# -- who it is --------------------------------------------------------------------------------------------------------


class Doorkeeper:
    """Knows people and programs by what they show."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._one_password = anyio.Semaphore(1)  # 19 MiB each
        self._log = Seldom(log)  # of what no limit keeps from coming again and again

    @cached_property
    def server_token(self) -> str | None:
        return self._settings.token.get_secret_value() if self._settings.token else None

    @cached_property
    def home_key(self) -> str | None:
        """What is shown where the account at the other end cannot be told; None of a server that has a token for it."""
        if self.server_token is not None or not self._settings.is_loopback:
            return None
        return users.home_key(self._settings.home, make=True)

    @property
    def lets_its_account_in(self) -> bool:
        """Whether who runs this server needs to show nothing on its own machine."""
        return self._settings.is_loopback and self.server_token is None

    def prepare(self) -> None:
        """To be called when the server starts: makes the home's key, and ends what browsers began by a secret of the
        server that it has no longer."""
        key = "" if self.home_key is None else users.digest(self.home_key)
        if self._store.catalogue.fact("home key") != key:
            self._store.users.sign_out_by(HOME_KEY)
            self._store.catalogue.set_fact("home key", key)
        kept = self._store.catalogue.fact("server token")
        if self.server_token is None or not users.password_holds(self.server_token, kept):
            self._store.users.sign_out_by(SERVER_TOKEN)
            told = "" if self.server_token is None else users.hash_password(self.server_token)
            self._store.catalogue.set_fact("server token", told)

    async def who(self, request: Request) -> Who | None:
        """Who asks; None of a stranger. Raises Refusal (429) for an address from which too many wrong tokens came."""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and given.strip():
            shown = await self.by_token(given.strip(), address_of(request))
            if shown is not None:
                return Who(shown.actor)
        if (cookie := request.cookies.get(COOKIE)) and (found := await self._by_cookie(request, cookie)):
            return found
        if self._is_our_account(request):
            return Who(Actor(account(), UserRole.ADMIN))
        return await self._by_link(request)

    async def _by_link(self, request: Request) -> Who | None:
        """Somebody who may read this address, and nothing else, by a link that was followed before."""
        kept = request.cookies.get(sharing.COOKIE, "")
        if not kept or not self._settings.open_links or request.method not in SAFE:
            return None
        path, query = request.scope["path"], request.scope["query_string"].decode("latin-1")
        row = await anyio.to_thread.run_sync(sharing.followed, self._store, kept, path, query)
        return None if row is None else Who(Actor("a link", UserRole.VIEWER, address_of(request)), link=row.name)

    async def _by_cookie(self, request: Request, cookie: str) -> Who | None:
        key = users.digest(cookie)
        shown = await anyio.to_thread.run_sync(self._store.users.by_sign_in, key)
        if shown is None:
            return None
        token = None if shown.sign_in is None else shown.sign_in.token_id
        return Who(actor_of(shown.user, address_of(request), token), key)

    async def by_token(self, given: str, address: str) -> Shown | None:
        """Whose token it is: a user's, or the server's own. Raises Refusal (429) where that could be guessed."""
        try:
            shown = await self._by_token(given, address)
        except Refusal as refusal:
            self._log.warning(
                users.of_address(address), "a token from %s was not looked at: %s", address or "this machine", refusal
            )
            raise
        if shown is None:
            self._log.warning(users.of_address(address), "a wrong token from %s", address or "this machine")
        return shown

    async def _by_token(self, given: str, address: str) -> Shown | None:
        if given.startswith(users.TOKEN_PREFIX):  # nobody guesses 256 bits: these need no limit
            found = await anyio.to_thread.run_sync(self._store.users.by_token, users.digest(given))
            if found is None:
                return None
            token, user = found
            return Shown(actor_of(user, address, token.id), API_TOKEN, user, token)
        if self.home_key is not None and users.same(given, self.home_key):  # whoever can read the home's files
            return Shown(actor_of(None, address), HOME_KEY)
        if self.server_token is None:
            return None
        if len(self.server_token) >= users.GUESSABLE:
            return Shown(actor_of(None, address), SERVER_TOKEN) if users.same(given, self.server_token) else None
        where = users.of_address(address)
        if (left := await anyio.to_thread.run_sync(self._store.users.wait, [where])) > 0:
            raise _later(left)
        if users.same(given, self.server_token):  # who reads by it writes nothing
            return Shown(actor_of(None, address), SERVER_TOKEN)
        await self._attempt([where])
        return None

    async def by_code(self, given: str, address: str) -> Shown | None:
        """Whoever opens an address that was made to sign in once (`modescape users link`); 256 bits, too."""
        held = await anyio.to_thread.run_sync(self._store.users.take_code, users.digest(given))
        if not held:
            self._log.warning(users.of_address(address), "a wrong code from %s", address or "this machine")
        return Shown(actor_of(None, address), HOME_KEY) if held else None

    async def by_password(self, request: Request, name: str, password: str) -> Shown | None:
        """The user who has it. Raises Refusal (429) while that user or address must wait, or too many are checked; in a
        browser in which that user has signed in before, what others do counts for nothing."""
        address, keys = address_of(request), await self._counted(request, name)
        is_known = len(keys) == 1
        try:
            if self._one_password.statistics().tasks_waiting >= MOST_WAITING and not is_known:
                raise _later(2)
            await self._attempt(keys)
        except Refusal as refusal:
            row = await anyio.to_thread.run_sync(self._store.users.with_password, name)
            where = address or "this machine"
            told = "a password for %s from %s was not looked at: %s"
            self._log.warning(users.of_address(address), told, _called(row), where, refusal)
            raise
        row = await anyio.to_thread.run_sync(self._store.users.with_password, name)
        async with self._one_password:
            kept = None if row is None else row.password
            holds = await anyio.to_thread.run_sync(users.password_holds, password, kept)
        if row is None or not holds:
            log.warning("a wrong password for %s from %s", _called(row), address or "this machine")
            return None
        await anyio.to_thread.run_sync(self._store.users.succeeded, keys)
        return Shown(actor_of(row, address), PASSWORD, row)

    async def _counted(self, request: Request, name: str) -> list[str]:
        """Under what an attempt with a user's password counts (OWASP's device cookies)."""
        if cookie := request.cookies.get(BROWSER_COOKIE):
            key = users.digest(cookie)
            if await anyio.to_thread.run_sync(self._store.users.knows_browser, key, name):
                return [users.of_browser(key, name)]
        return [users.of_user(name), users.of_address(address_of(request))]

    async def hashed(self, password: str, name: str) -> str:
        """As a password of that user is kept. Raises InvalidInput for one that is none."""
        users.checked_password(password, name)
        async with self._one_password:
            return await anyio.to_thread.run_sync(users.hash_password, password)

    async def _attempt(self, keys: list[str]) -> None:
        if (left := await anyio.to_thread.run_sync(self._store.users.attempt, keys)) > 0:
            raise _later(left)

    def _is_our_account(self, request: Request) -> bool:
        """Whether the request comes from this machine, and there from the account that runs this server."""
        if not self.lets_its_account_in or any(name in request.headers for name in _BY_PROXIES):
            return False
        if request.scope.get(ADDRESS) is None:  # it comes through a proxy of ours, which told nothing of the visitor
            return False
        host, _ = split_host(request.headers.get("host", ""))
        if not _is_loopback(host):
            return False
        client, server = request.scope.get("client"), request.scope.get("server")
        if self._settings.open:
            return client is not None and _is_loopback(client[0])
        return neighbours.owner(_pair(client), _pair(server)) == os.getuid()


def _called(row: User | None) -> str:
    """As the log tells whose password was tried: what was typed as a name may be one."""
    return "a name that nobody has" if row is None else repr(row.name)


def _later(seconds: float) -> Refusal:
    told = str(int(seconds) + 1)
    said = f"too many attempts failed; try again in {told} s"
    return Refusal("too-many-attempts", said, headers={"retry-after": told})


@dataclass(frozen=True)
class Shown:
    """What somebody has shown. secret: server-token, home-key, token or password; user: None of the server's own
    secrets."""

    actor: Actor
    secret: str
    user: User | None = None
    token: ApiToken | None = None


def actor_of(row: User | None, address: str, token: str | None = None) -> Actor:
    if row is None:
        return Actor(users.OPERATOR, UserRole.ADMIN, address)
    return Actor(row.name, row.role, address, token)


def address_of(request: Request) -> str:
    return request.client.host if request.client else ""


def _pair(address: object) -> neighbours.Address | None:
    return (str(address[0]), int(address[1])) if isinstance(address, (tuple, list)) and address[1] else None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


# -- a browser's sign-in ----------------------------------------------------------------------------------------------


def begin(request: Request, answer: Response, store: Store, shown: Shown) -> None:
    """From now on the browser that gets this answer is signed in, and no longer as it was. Database calls: not on the
    event loop."""
    secret, before = users.new_secret(), request.cookies.get(COOKIE)
    store.users.sign_in(
        users.digest(secret), shown.user, shown.secret, address_of(request), token=shown.token,
        before=None if before is None else users.digest(before),
    )  # fmt: skip
    log.info("%r signed in from %s by %s", shown.actor.name, address_of(request) or "this machine", shown.secret)
    secure = request.url.scheme == "https"
    answer.set_cookie(
        COOKIE, secret, int(users.SESSION.total_seconds()), httponly=True, samesite="lax", secure=secure
    )  # fmt: skip
    if shown.secret == PASSWORD and shown.user is not None:
        known = request.cookies.get(BROWSER_COOKIE, "")
        # What is not ours is not taken for one; and what another user has, who may have copied it, is not shared.
        if not store.users.knows_browser(users.digest(known), shown.user.name):
            known = users.new_secret()
        store.users.know_browser(users.digest(known), shown.user)
        answer.set_cookie(
            BROWSER_COOKIE, known, int(users.KNOWN.total_seconds()), httponly=True, samesite="strict", secure=secure
        )  # fmt: skip


def end(answer: Response) -> None:
    answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="lax")
