"""Behind another web server: what it says of the visitor, the path it serves this one under, and HEAD for every GET.

Inside, addresses begin at "/" and hosts and schemes are the visitor's. This layer, the outermost, makes them so: it
takes MODESCAPE_ROOT_PATH off what comes in, whether or not the other server did already, and puts it before the
addresses that go out (Location, cookies' paths; `at` for addresses in JSON, `in_page` for those in pages).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, MutableMapping
from contextvars import ContextVar
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modescape.errors import ConfigurationError
from modescape.settings import Settings
from modescape_api.http import connections

_ROOT: ContextVar[str] = ContextVar("root", default="")
_LINK = re.compile(r'\b((?:href|src|action|formaction|data-(?:api|src|events|plan|plotly))=")(/(?!/)[^"]*)')
ADDRESS = "modescape.address"  # of a scope: where the visitor is; None behind a proxy that does not say
_PORTS = {"http": 80, "https": 443}


def root() -> str:
    """The path this request's server is under, such as "/modescape", or ""."""
    return _ROOT.get()


def at(path: str) -> str:
    """An address of ours as the outside writes it."""
    return _ROOT.get() + path


def in_page(html: str) -> str:
    """A page whose links of ours are as the outside writes them. What people typed is escaped and looks like none."""
    before = _ROOT.get()

    def link(found: re.Match[str]) -> str:
        name, path = found.groups()
        return found[0] if path.startswith(f"{before}/") else f"{name}{before}{path}"

    return _LINK.sub(link, html) if before else html


class Front:
    """Raises ConfigurationError for a root path or a list of proxies that cannot be."""

    def __init__(self, app: ASGIApp, settings: Settings, own: Iterable[str] = ()) -> None:
        """own: first segments of the application's own paths, such as "api": a root path may not begin with one."""
        self.app = app
        self.root = _root_path(settings.root_path, frozenset(own))
        self.trusted = _networks(settings.trusted_proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope = {**scope, "path": self._inside(scope["path"]), "raw_path": None, "root_path": ""}
        scope[ADDRESS] = scope["client"][0] if scope.get("client") else None
        if self._is_trusted(scope):
            self._believe(scope)
        _ROOT.set(self.root)
        out = _Out(self.root, send, head=scope["method"] == "HEAD")
        if out.head:
            scope["method"] = "GET"
        try:
            await self.app(scope, receive, out.send)
        except (ClientDisconnect, OSError):
            if not out.is_over:  # else it is the stream that was told nobody listens any more
                raise

    def _inside(self, path: str) -> str:
        if self.root and (path == self.root or path.startswith(self.root + "/")):
            return path[len(self.root) :] or "/"
        return path

    def _is_trusted(self, scope: Scope) -> bool:
        return bool(scope.get("client")) and self._is_proxy(scope["client"][0])

    def _is_proxy(self, host: str) -> bool:
        if not self.trusted:
            return False
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address  # one socket listens to both families
        return any(address in network for network in self.trusted)

    def _believe(self, scope: MutableMapping[str, Any]) -> None:
        """Take the visitor's address, scheme, host and port from X-Forwarded-…; of several values the first, which the
        outermost proxy wrote, but of addresses the last that is no proxy's: those before it the visitor may have made
        up."""
        _believe(scope)
        came_by = [_without_port(one) for one in Headers(scope=scope).get("x-forwarded-for", "").split(",")]
        visitor = next((one for one in reversed(came_by) if not self._is_proxy(one)), "")
        scope[ADDRESS] = visitor[:64] or None
        if visitor:
            scope["client"] = (visitor[:64], 0)
            connections.comes_from(scope, visitor[:64])


class _Out:
    """Answers on their way out. Of an answer to HEAD the body is dropped, and a stream without end told to end."""

    def __init__(self, root: str, send: Send, *, head: bool) -> None:
        self._root = root
        self._send = send
        self.head = head
        self.is_over = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if self._root:
                headers = MutableHeaders(raw=list(message["headers"]))
                _prefix(headers, self._root)
                message = {**message, "headers": headers.raw}
        elif self.head and message["type"] == "http.response.body":
            if self.is_over:
                raise OSError("nobody reads the body of an answer to HEAD")
            self.is_over = True
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)


def _prefix(headers: MutableHeaders, root: str) -> None:
    location = headers.get("location", "")
    if location.startswith("/") and not location.startswith("//"):
        headers["location"] = root + location
    cookies = [re.sub(r"(?i)(;\s*path=)/(?=;|$)", rf"\1{root}/", value) for value in headers.getlist("set-cookie")]
    if cookies:
        del headers["set-cookie"]
        for value in cookies:
            headers.append("set-cookie", value)


def _without_port(address: str) -> str:
    found = re.fullmatch(r"\[([^\]]*)\](?::\d+)?|([\d.]+):\d+", address.strip())
    return (found[1] or found[2] or "") if found else address.strip()


def _believe(scope: MutableMapping[str, Any]) -> None:
    headers = Headers(scope=scope)
    if len(headers.getlist("host")) > 1:
        return  # nobody is believed about which of them was meant: `security` refuses it
    scheme, host, port = (
        headers.get(f"x-forwarded-{name}", "").split(",")[0].strip() for name in ("proto", "host", "port")
    )
    if scheme.lower() in _PORTS:
        scope["scheme"] = scheme.lower()
    given = headers.get("host", "")
    public = host or given
    is_port = re.fullmatch("[0-9]{1,5}", port) is not None
    if is_port and int(port) != _PORTS.get(scope["scheme"]) and split_host(public)[1] is None:
        public = f"{public}:{port}"
    if public != given:
        scope["modescape.host"] = given  # stays under the eyes of the host check: the visitor may have written it
        scope["headers"] = [(k, v) for k, v in scope["headers"] if k != b"host"] + [(b"host", public.encode("latin-1"))]


_HOST = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?")


def split_host(host: str) -> tuple[str, int | None]:
    """Name and port of a Host header or an Origin's netloc; ("", None) when it is anything but `name[:port]`.

    Exactly that: what stands behind a slash, a question mark or an @ would be read as a path or a user by whatever
    puts addresses together of it.
    """
    found = _HOST.fullmatch(host)
    if found is None or int(found["port"] or 0) > 65_535:
        return "", None
    name = found["name"] or found["six"]
    if found["six"]:
        try:
            ipaddress.IPv6Address(name)
        except ValueError:
            return "", None
    return name.lower().removesuffix("."), int(found["port"]) if found["port"] else None


def _root_path(given: str, own: frozenset[str]) -> str:
    path = "/" + given.strip("/") if given.strip("/") else ""
    if path and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", path):
        raise ConfigurationError(f"MODESCAPE_ROOT_PATH is {given!r}; use a path such as /modescape")
    if path and path.split("/")[1] in own:
        raise ConfigurationError(f"MODESCAPE_ROOT_PATH is {given!r}, which begins like a path of Modescape's own")
    return path


def _networks(given: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    try:
        return tuple(ipaddress.ip_network(one.strip(), strict=False) for one in given.split(",") if one.strip())
    except ValueError as error:
        raise ConfigurationError(
            f"MODESCAPE_TRUSTED_PROXIES: {error}; name addresses or networks, such as 127.0.0.1,10.0.0.0/8"
        ) from None
