"""A request as the log tells it: its id, who asked for what, how it ended, how long it took."""

from __future__ import annotations

import logging
import re
import time
import uuid

from prometheus_client import CollectorRegistry, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Scope, Send

from modescape.logs import FIELDS

log = logging.getLogger("modescape.requests")

HEADER = "x-request-id"
REGISTRY = CollectorRegistry()
SECONDS = Histogram(
    "modescape_request_seconds", "How long requests took, until the last byte.", ("method", "route", "status"),
    buckets=(0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0), registry=REGISTRY,
)  # fmt: skip
_SECRET = re.compile(r"(?<=/s/)[^/]+")  # of a shared link: whoever has it reads what it leads to
_QUIET = ("/healthz", "/readyz", "/static/")  # told of only where they fail


class Asked:
    """id: what the visitor's proxy called it, or one of our own; the answer and every line of the log have it."""

    def __init__(self, scope: Scope) -> None:
        given = Headers(scope=scope).get(HEADER, "")
        self.id = given if re.fullmatch(r"[\w.-]{8,64}", given, re.ASCII) else uuid.uuid4().hex[:16]
        self._began = time.perf_counter()
        self._status = 0  # the connection broke before an answer
        self._bytes = 0

    def counted(self, send: Send) -> Send:
        """`send`, with the id in the answer's head, and an eye on what goes out."""

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._status = message["status"]
                headers = MutableHeaders(raw=list(message["headers"]))
                headers.setdefault(HEADER, self.id)
                message = {**message, "headers": headers.raw}
            elif message["type"] == "http.response.body":
                self._bytes += len(message.get("body", b""))
            await send(message)

        return sent

    def count(self, scope: Scope) -> None:
        """For monitoring: by the address as routes have it, so that there are as many as there are addresses."""
        route = getattr(scope.get("modescape.route") or scope.get("route"), "path", "none")
        status = f"{self._status // 100}xx" if self._status else "none"
        SECONDS.labels(scope["method"], route, status).observe(time.perf_counter() - self._began)

    def tell(self, scope: Scope) -> None:
        """One line. Of the address its query is left out: it may hold what people search for, or a secret."""
        path = scope["path"]
        if path.startswith(_QUIET) and 200 <= self._status < 400:
            return
        who = scope.get("modescape.who")
        fields = {
            "method": scope["method"], "path": path_told(path), "status": self._status,
            "ms": round(1000 * (time.perf_counter() - self._began), 2), "bytes": self._bytes,
            "user": who.actor.name if who else None, "address": scope["client"][0] if scope.get("client") else None,
        }  # fmt: skip
        log.info(
            "%s %r %s in %s ms, %s bytes, %s at %s", *fields.values(), extra={FIELDS: fields}
        )  # %r: an address may hold what would begin another line


def path_told(path: str) -> str:
    """As a log tells it: without the secret of a link."""
    return _SECRET.sub("…", path[:500])
