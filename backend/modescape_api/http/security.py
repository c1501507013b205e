"""The gate that every request passes: hosts, origins, who asks (`identity`), body size, response headers.

No other web site can make a visitor's browser change anything: the Host must be ours, and what changes anything must
come from our own pages or from a program.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping
from urllib.parse import urlencode, urlsplit

from fastapi import Request, Response
from fastapi.responses import RedirectResponse
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modescape import logs
from modescape.acting import NOBODY, acting
from modescape.database import UNAVAILABLE
from modescape.errors import ConfigurationError, NotFound, Problem
from modescape.settings import Settings
from modescape.store import Store
from modescape_api.http import connections, problems, replies, sharing
from modescape_api.http.asked import Asked
from modescape_api.http.identity import (
    BROWSER_COOKIE,
    COOKIE,
    SAFE,
    THEME_COOKIE,
    TOLD_COOKIE,
    TOUR_COOKIE,
    Who,
    unauthorised,
)
from modescape_api.http.proxies import split_host
from modescape_api.http.refusal import Refusal

MAX_BODY = 1_048_576
STRANGERS_BODY = 16_384  # of who is not known: what one signs in with
MOST_PARAMETERS = 500  # of an address: each that is not known is answered with what there is

_OPEN, _OPEN_BELOW = ("/healthz", "/readyz", "/signin"), ("/static/", "/s/")  # to people who have not signed in

_COOKIE = re.compile(
    rb"(?:^|(?<=;))[ \t]*((?:%s)=[\w.-]{1,3500})[ \t]*(?=;|$)"
    % "|".join((COOKIE, BROWSER_COOKIE, THEME_COOKIE, TOUR_COOKIE, TOLD_COOKIE, sharing.COOKIE)).encode()
)

HEADERS = {
    # 'unsafe-inline' styles only: Plotly writes style attributes (checked with plotly.js 4.1.1 under this policy)
    "content-security-policy": "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


def check_settings(settings: Settings) -> None:
    """Raises ConfigurationError when the server would be open to the network without a secret."""
    if settings.token is not None and len(settings.token.get_secret_value()) < 16:
        raise ConfigurationError(
            "MODESCAPE_TOKEN has fewer than 16 characters; make one with: python -c "
            "'import secrets; print(secrets.token_urlsafe(32))'"
        )
    if not settings.is_loopback and settings.token is None and not _has_admin(settings):
        raise ConfigurationError(
            f"MODESCAPE_HOST is {settings.host}, which other machines can reach, and nobody could sign in: "
            "MODESCAPE_TOKEN is not set and no user is an admin. Set a token, add one with `modescape "
            "users add NAME --admin`, or listen on 127.0.0.1"
        )
    if settings.open and not settings.is_loopback:
        raise ConfigurationError(
            f"MODESCAPE_OPEN lets in everybody at this machine, and MODESCAPE_HOST is {settings.host}, which other "
            "machines can reach; listen on 127.0.0.1"
        )


def _has_admin(settings: Settings) -> bool:
    """Whether the database has a user who may let others in; one that is not there yet has none."""
    store = Store(settings.database)
    try:
        return store.users.has_admin()
    except UNAVAILABLE:
        return False
    finally:
        store.close()


# -- hosts and origins ------------------------------------------------------------------------------------------------


class Hosts:
    """The names this server answers to.

    Numeric addresses are always fine: rebinding attacks need a name. `*` in MODESCAPE_ALLOWED_HOSTS accepts all.
    """

    def __init__(self, settings: Settings) -> None:
        more = {name.strip().lower() for name in settings.allowed_hosts.split(",") if name.strip()}
        self.everything = "*" in more
        self.added = more - {"*"}
        self.names = {"localhost", settings.host.lower(), *more}

    def knows(self, host: str) -> bool:
        name, _ = split_host(host)
        return bool(name) and (self.everything or name in self.names or _is_address(name))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def check_origin(headers: Mapping[str, str], names: Collection[str] = (), *, must_say: bool = False) -> None:
    """Unsafe methods must come from our own pages or from no page at all. Raises Refusal (403) naming the origin.

    Browsers send Origin with every POST and, over TLS and to loopback, Sec-Fetch-Site with every request; those from
    before 2020 send no Origin with a form, but Referer, unless its page forbids that. Programs send none of the three.
    A proxy may have rewritten Host; what the browser itself compared stands. names: hosts an origin without a port may
    have where Host is another. must_say: what says nothing of where it comes from is refused, too.
    """
    site = headers.get("sec-fetch-site")
    if site == "same-origin":
        return
    host = headers.get("host", "").lower()
    name, origin = _origin(headers)
    if origin is not None and _same_site(origin.lower(), host, names):
        return
    if origin is not None:
        raise _elsewhere(f"the request comes from {origin[:100]!r}, this is {host[:100]!r}", name, host[:100])
    if site not in (None, "none"):
        raise _elsewhere("the request comes from another site", "Sec-Fetch-Site", "same-origin")
    if site is None and must_say:
        raise _elsewhere("nothing says which page the request comes from", "Origin", host[:100])


def _origin(headers: Mapping[str, str]) -> tuple[str, str | None]:
    """The header that names the origin, and what it says; Referer's beginning from browsers that send nothing else."""
    if "origin" in headers or "sec-fetch-site" in headers or "referer" not in headers:
        return "Origin", headers.get("origin")
    return "Referer", "/".join(headers["referer"].split("/", 3)[:3])


def _elsewhere(said: str, header: str, allowed: str) -> Refusal:
    return Refusal("forbidden", said, problems=[Problem("another site may not change anything here", header, allowed)])


def may_be_a_form(request: Request) -> bool:
    """Whether an older browser can have sent this for a page of another site that hides where it is.

    To set Authorization or send JSON, such a page has to ask first, which every browser does with Origin. Pages of ours
    get forms only; of addresses for programs those are left that a browser, by its own word, asks without a body.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if "authorization" in request.headers or kind.endswith("json"):
        return False
    is_browser = request.headers.get("user-agent", "").startswith("Mozilla/")
    return is_browser or not request.scope["path"].startswith("/api/")


def _same_site(origin: str, host: str, names: Collection[str]) -> bool:
    scheme, _, place = origin.partition("://")
    usual = {"http": 80, "https": 443}.get(scheme)
    (theirs, port), (ours, our_port) = split_host(place), split_host(host)
    if not theirs or usual is None:
        return False
    if theirs == ours:
        return (port or usual) == (our_port or usual)
    return port is None and theirs in names


# -- the gate every request passes ------------------------------------------------------------------------------------


class Guard:
    """Outermost layer: host, origin, body size and sign-in before anything is parsed; security headers after.

    Bodies are read here, at most a megabyte, and 16 kB of who has not signed in, so that no parser ever sees more and
    a refusal is a proper answer; files that are sent (`takes_files`) pass through as they come.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.hosts = Hosts(settings)
        self.logs_requests = settings.request_log or settings.log_level.upper() == "DEBUG"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope = {**scope, "headers": [_of_ours(name, value) for name, value in scope["headers"]]}
        asked = Asked(scope)
        with logs.about(request=asked.id):
            try:
                await self._answer(scope, receive, asked.counted(send))
            finally:
                asked.count(scope)
                if self.logs_requests:
                    asked.tell(scope)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        started = False

        async def with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(raw=message["headers"])
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                message["headers"] = headers.raw
            await send(message)

        try:
            self._check(request)
            who = scope["modescape.who"] = await _who(request)
            if who is not None:
                connections.is_known(scope)
            if who is None and not _is_open(scope["path"]):
                await _to_sign_in(request)(scope, receive, with_headers)
                return
            with acting(NOBODY if who is None else who.actor):
                if who is None or not takes_files(request):
                    most = MAX_BODY if who is not None else STRANGERS_BODY
                    receive = _replay(b"" if request.method in SAFE else await _read(request, most), receive)
                await self.app(scope, receive, with_headers)
        except ClientDisconnect:
            if started:
                raise
            return  # nobody is there who could be answered
        except Exception as error:
            if started:
                raise  # half an answer is out: the connection must break
            await problems.answer(request, error)(scope, receive, with_headers)

    def _check(self, request: Request) -> None:
        """Raises Refusal for what comes from elsewhere or asks for another server."""
        if "\0" in request.scope["path"]:
            raise NotFound("there is nothing at an address with a NUL in it")
        if request.scope["query_string"].count(b"&") >= MOST_PARAMETERS:
            raise Refusal(
                "malformed",
                f"the address has more than {MOST_PARAMETERS} parameters",
                problems=[Problem("are too many", "parameters", f"at most {MOST_PARAMETERS}")],
            )
        hosts = request.headers.getlist("host")
        if len(hosts) > 1:
            raise Refusal(
                "wrong-host",
                f"the request names {len(hosts)} hosts",
                problems=[Problem("is there more than once", "Host", "one host")],
            )
        for host in (*(hosts or [""]), request.scope.get("modescape.host")):
            if host is not None and not self.hosts.knows(host):
                raise Refusal(
                    "wrong-host",
                    f"this server does not answer to {host[:100]!r}",
                    problems=[Problem("unknown host", "Host", ", ".join(sorted(self.hosts.names)))],
                )
        if request.method not in SAFE:
            check_origin(request.headers, self.hosts.added, must_say=may_be_a_form(request))


def _of_ours(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """A header as it came, of Cookie only what this server may have set, which needs no quotes. Whoever reads cookies
    in Python takes backslashes out of quoted ones, and before 3.11.10 and 3.12.6 the time for that grows with the
    square of how many there are (CVE-2024-7592)."""
    return (name, b"; ".join(_COOKIE.findall(value))) if name == b"cookie" else (name, value)


def _is_open(path: str) -> bool:
    return path in _OPEN or path.startswith(_OPEN_BELOW)


async def _who(request: Request) -> Who | None:
    """Who asks; nobody is looked up for what answers without a database."""
    site = getattr(request.app.state, "site", None)  # there once the start has finished
    path = request.scope["path"]
    if site is None or (_is_open(path) and path != "/signin" and not path.startswith("/s/")):
        return None
    found: Who | None = await site.door.who(request)
    return found


def _to_sign_in(request: Request) -> Response:
    """A person to the page where one signs in; raises Refusal for a program."""
    if request.method == "GET" and replies.prefers_html(request):
        asked = request.scope["query_string"].decode("latin-1")
        here = request.scope["path"] + (f"?{asked}" if asked else "")
        return RedirectResponse(f"/signin?{urlencode({'next': here})}", status_code=303)
    raise unauthorised()


def takes_files(request: Request) -> bool:
    """Whether the body is a file of any size, which its endpoint writes to the disk as it comes."""
    if request.method == "PUT":
        return str(request.scope["path"]).startswith("/api/uploads/")
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    return request.method == "POST" and request.scope["path"] == "/import" and kind == "multipart/form-data"


async def _read(request: Request, most: int) -> bytes:
    refusal = Refusal(
        "too-large",
        f"the body has more than {most} bytes",
        problems=[Problem("too large", "body", f"at most {most} bytes")],
    )
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > most:
        raise refusal
    parts: list[bytes] = []
    total = 0
    async for part in request.stream():
        total += len(part)
        if total > most:
            raise refusal
        parts.append(part)
    return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A receive that gives the body that was read, once, and then whatever the connection says."""
    given = False

    async def again() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return again


def own_path(path: str) -> str:
    """`path` if it leads to this server, else the front page: a sign-in link must not send people elsewhere."""
    try:
        parts = urlsplit(path[:2000])
    except ValueError:
        return "/"
    fine = path.startswith("/") and not path.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc
    return path if fine and "\\" not in path and path.isprintable() else "/"
