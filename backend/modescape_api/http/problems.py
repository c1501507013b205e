"""Errors as the outside sees them: problem documents (RFC 9457), or an error page for whoever prefers HTML.

    {"type": "/api/docs#invalid-input", "title": "A value is not allowed", "status": 422,
     "detail": "ensemble.runs: 0 is too small (allowed: 1 to 1 000)",
     "errors": [{"field": "ensemble.runs", "message": "0 is too small", "allowed": "1 to 1 000"}]}

`KINDS` is the whole vocabulary; the documentation page and the OpenAPI document are written from it.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Route

from modescape import errors
from modescape.database import UNAVAILABLE, is_away, is_busy, is_unfit, no_room
from modescape.errors import DataCorrupt, DataMissing, InvalidInput, ModescapeError, Problem
from modescape.logs import Seldom, told
from modescape.outage import DATABASE, OnceAMinute, first_line, lacks
from modescape.pydantic_errors import MOST_SAID, describe_finding
from modescape.records import Json
from modescape.uploads import QuotaReached
from modescape_api.http import replies
from modescape_api.http.asked import path_told
from modescape_api.http.proxies import at
from modescape_api.http.refusal import Refusal

log = logging.getLogger("modescape.api")
_PAGES = logging.getLogger("modescape.api.pages")  # strangers ask for pages as often as they like
_PAGES.addFilter(OnceAMinute())
_CROWDED = Seldom(log)

MEDIA_TYPE = "application/problem+json"
RETRY = {"retry-after": "5"}
_LONGEST = 6_000  # characters of a detail

ErrorPage = Callable[[Request, Mapping[str, Any], Mapping[str, str]], Response]  # of a document, with headers


@dataclass(frozen=True)
class Kind:
    """One way a request can fail. `name` is the anchor in the documentation that `type` points to."""

    name: str
    status: int
    title: str
    meaning: str


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "malformed", 400, "The request cannot be read", "The body is not JSON, or a header is not what HTTP allows."
        ),
        Kind(
            "wrong-host",
            400,
            "This server does not answer to that name",
            "The Host header names no address of this server; MODESCAPE_ALLOWED_HOSTS adds names.",
        ),
        Kind("unauthorised", 401, "Sign in first", "Send `Authorization: Bearer <token>`, or sign in at /signin."),
        Kind(
            "too-many-attempts",
            429,
            "Too many attempts failed",
            "From this address, or for this account, too many attempts to sign in failed; Retry-After says when the "
            "next one is heard.",
        ),
        Kind(
            "forbidden",
            403,
            "Not allowed",
            "The request comes from another site, asks for something outside the allowed folders, or changes what is "
            "not yours: a viewer reads, a researcher changes what is their own, an admin everything.",
        ),
        Kind("not-found", 404, "Not found", "Nothing of that name is here; `detail` says what was looked for."),
        Kind(
            "method-not-allowed",
            405,
            "The address does not answer that method",
            "The Allow header lists those it answers.",
        ),
        Kind("not-acceptable", 406, "No such form of this answer", "`allowed` lists the forms this address can give."),
        Kind(
            "conflict",
            409,
            "Not in the present state",
            "The request does not fit what the experiment is doing now, or the Idempotency-Key was used with another "
            "body. With a Retry-After, much is being read or made for others: ask again then.",
        ),
        Kind(
            "data-missing",
            409,
            "The data set is not on this machine",
            "`detail` says how to get what is missing, `errors` which fields ask for it.",
        ),
        Kind(
            "gone",
            410,
            "The file is gone",
            "A row names a file that is no longer in the artifact folder, or damaged; `modescape verify` has it made "
            "again.",
        ),
        Kind(
            "too-large",
            413,
            "The body is too large",
            "Bodies are limited to 1 MB; data are registered by path, and predictions are sent to /api/uploads.",
        ),
        Kind(
            "quota",
            413,
            "There is no room for more files",
            "Files that were sent, or are announced, may take MODESCAPE_UPLOAD_QUOTA gigabytes until something is made "
            "of them, those of one user half of it.",
        ),
        Kind("wrong-media-type", 415, "The body is of another type", "Send `Content-Type: application/json`."),
        Kind(
            "invalid-input",
            422,
            "A value is not allowed",
            "`errors` names every field, what is wrong with it and what is allowed.",
        ),
        Kind(
            "too-many",
            429,
            "Too many at once",
            "64 streams of events may be open to one address; one that is closed makes room.",
        ),
        Kind("data-corrupt", 422, "The data cannot be used", "A file is not what its checksum or its layout promises."),
        Kind("internal", 500, "Something failed here", "Not your fault; the server's log has the details."),
        Kind("busy", 503, "The database is busy", "Try again in a second."),
        Kind(
            "overloaded",
            503,
            "Too much is going on here",
            "The system allows this server no more threads, processes or open files for the moment.",
        ),
        Kind(
            "unavailable",
            503,
            "The database does not answer",
            "Nothing is lost: workers go on when it is back. Retry-After says when to ask again.",
        ),
        Kind(
            "storage-away",
            503,
            "The bucket of artifacts cannot be used",
            "It does not answer, or refuses what is asked; `detail` says which. Work that was begun waits, and goes on "
            "once it can be used.",
        ),
        Kind(
            "no-room",
            507,
            "The disk is full",
            "Or it may not be written; `detail` says which. Work that was begun waits, and goes on once there is room.",
        ),
    )
}

# Of kinds with one status the first is the general one.
_BY_STATUS = {kind.status: kind.name for kind in reversed(KINDS.values()) if kind.status < 500}

_BY_ERROR: tuple[tuple[type[ModescapeError], str], ...] = (
    (errors.InvalidInput, "invalid-input"),
    (errors.NotFound, "not-found"),
    (errors.Conflict, "conflict"),
    (errors.Forbidden, "forbidden"),
    (errors.DataMissing, "data-missing"),
    (errors.DataCorrupt, "data-corrupt"),
    (errors.ArtifactMissing, "gone"),
    (QuotaReached, "quota"),
)


def respond(
    request: Request,
    kind: str,
    detail: str,
    *,
    problems: Sequence[Problem] = (),
    headers: Mapping[str, str] | None = None,
    more: Mapping[str, object] | None = None,
) -> Response:
    """The answer that says what went wrong: a page when the client prefers HTML, else a problem document.

    more: further members of the document, for programs.
    """
    about = KINDS[kind]
    document = {**_document(about, detail, problems), **(more or {})}
    headers = {"cache-control": "no-store", **(headers or {})}
    if replies.prefers_html(request):
        page: ErrorPage = request.app.state.error_page
        try:
            return page(request, document, headers)
        except Exception:  # the page needs the database, which may be what failed: the document needs nothing
            _PAGES.exception("the error page of %s could not be made", path_told(request.url.path))
    return replies.json(document, status=about.status, headers=headers, media_type=MEDIA_TYPE)


def _document(about: Kind, detail: str, problems: Sequence[Problem]) -> Json:
    return {
        "type": at(f"/api/docs#{about.name}"),
        "title": about.title,
        "status": about.status,
        "detail": detail if len(detail) <= _LONGEST else f"{detail[:_LONGEST]}…",
        "errors": [_error(problem) for problem in problems[:MOST_SAID]],
    }


def _error(problem: Problem) -> Json:
    told = replies.picked(problem, "field", "message", "allowed")
    return told if problem.at is None else {**told, "at": problem.at}


def answer(request: Request, error: Exception) -> Response:
    """The answer to any exception an endpoint raised."""
    if isinstance(error, Refusal):
        return respond(request, error.kind, str(error), problems=error.problems, headers=error.headers)
    if isinstance(error, RequestValidationError):
        found = from_validation(error)
        return respond(request, "invalid-input", str(found), problems=found.problems)
    if isinstance(error, HTTPException):
        return _from_http(request, error)
    for kind_of_error, kind in _BY_ERROR:
        if isinstance(error, kind_of_error):
            problems = error.problems if isinstance(error, InvalidInput | DataMissing | DataCorrupt) else ()
            headers = RETRY if isinstance(error, errors.Busy) else None
            return respond(request, kind, str(error), problems=problems, headers=headers)
    if (lack := no_room(error)) is not None:
        lacks(lack)
        kind = "storage-away" if isinstance(lack, errors.StorageAway) else "no-room"
        return respond(request, kind, str(lack), headers=RETRY)
    if is_busy(error):
        return respond(request, "busy", "another process is writing", headers={"retry-after": "1"})
    if is_away(error):
        DATABASE.away(error)
        return respond(request, "unavailable", "it is asked again with every request", headers=RETRY)
    if is_unfit(error):
        return respond(request, "invalid-input", f"a value cannot be stored or compared: {first_line(error)}")
    if _is_crowded(error):
        _CROWDED.warning("", "no thread, process or file can be opened (%s)", first_line(error))
        return respond(request, "overloaded", "too much is going on at once; try again in a moment", headers=RETRY)
    log.error("%s %s failed", request.method, path_told(request.url.path), exc_info=error)
    return respond(request, "internal", f"the server's log has the details, under {told().get('request', 'no name')}")


def _is_crowded(error: Exception) -> bool:
    """Whether the system gives no more of what it gives to each only so much."""
    if isinstance(error, OSError):
        return error.errno in (errno.EAGAIN, errno.EMFILE, errno.ENFILE)
    return isinstance(error, RuntimeError) and "can't start new thread" in str(error)


def from_validation(error: RequestValidationError) -> InvalidInput:
    """FastAPI's findings about path and query parameters, in the words `modescape.spec` uses."""
    problems = []
    for item in error.errors()[:MOST_SAID]:
        place = [str(part) for part in item["loc"]]
        if place and place[0] in ("path", "query", "header", "cookie", "body"):
            place = place[1:]
        problems.append(describe_finding(item, ".".join(place)))
    return InvalidInput("; ".join(str(problem) for problem in problems), problems=problems)


def install(app: FastAPI, error_page: ErrorPage) -> None:
    """Let every exception of every endpoint end as a problem document, or as the page of one."""
    app.state.error_page = error_page

    async def handler(request: Request, error: Exception) -> Response:
        return answer(request, error)

    for kind_of_error in (HTTPException, RequestValidationError, ModescapeError, OSError, *UNAVAILABLE):
        app.add_exception_handler(kind_of_error, handler)


def _methods(request: Request) -> list[str]:
    """What an address answers: of all its routes, for one that matches knows of itself alone. Where `look` is an
    address of its own, it is not meant as the name of something."""

    def of(routes: Iterable[BaseRoute]) -> Iterator[Route]:
        for route in routes:
            if isinstance(route, Route):
                yield from [route] if route.matches(request.scope)[0] != Match.NONE else []
            else:  # a router that was included
                yield from of(getattr(getattr(route, "original_router", None), "routes", ()))

    matching = list(of(request.app.routes))
    least = min((len(route.param_convertors) for route in matching), default=0)
    meant = [route for route in matching if len(route.param_convertors) == least]
    found = {method for route in meant for method in route.methods or ()}
    return sorted(found | {"HEAD"} if "GET" in found else found)  # every GET answers HEAD


def _from_http(request: Request, error: HTTPException) -> Response:
    headers = dict(error.headers or {})
    kind = _BY_STATUS.get(error.status_code, "internal" if error.status_code >= 500 else "malformed")
    detail = str(error.detail)
    if error.status_code == 404 and detail == "Not Found":
        detail = f"there is nothing at {request.url.path[:200]}"
    elif error.status_code == 405:
        detail = f"{request.url.path[:200]} does not answer {request.method}"
    problems: tuple[Problem, ...] = ()
    if error.status_code == 405 and (allow := ", ".join(_methods(request))):
        headers.pop("allow", None)
        headers["Allow"] = allow
        problems = (Problem(f"{request.method} is not answered here", "method", allow),)
    return respond(request, kind, detail, problems=problems, headers=headers)


# -- documentation ----------------------------------------------------------------------------------------------------

SCHEMA: Json = {
    "type": "object",
    "title": "Problem",
    "description": "What went wrong (RFC 9457). `errors` is empty unless single fields are to blame.",
    "required": ["type", "title", "status", "detail", "errors"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message", "allowed"],
                "properties": {
                    **{name: {"type": "string"} for name in ("field", "message", "allowed")},
                    "at": {
                        "type": "array",
                        "items": {"type": "integer"},
                        "description": "Of a text of which a part is wrong: its first character, and the one behind "
                        "its last.",
                    },
                },
            },
        },
    },
}

_EXAMPLES: dict[str, tuple[str, tuple[Problem, ...]]] = {
    "malformed": ("the body is not JSON: unexpected end of data: line 1 column 9 (char 8)", ()),
    "forbidden": ("the experiment fig3-smallcnn is not yours to change: ada made it; an admin may, …", ()),
    "too-many-attempts": ("too many attempts failed; try again in 8 s", ()),
    "not-found": ("there is no experiment 'fig3-smallcn'", ()),
    "not-acceptable": (
        "this answer cannot be given as 'xml'",
        (Problem("no such form", "format", "json, csv"),),
    ),
    "conflict": (
        "fig3-smallcnn has already ended (succeeded); only a running or queued experiment can be paused",
        (),
    ),
    "gone": ("the file of artifact 3f2a… is missing", ()),
    "quota": ("104.9 MB more do not fit: files sent here may take 20.0 GB together, and 19.9 GB are here", ()),
    "too-large": ("the body has more than 1048576 bytes", ()),
    "wrong-media-type": ("the body is text/plain; send application/json", ()),
    "invalid-input": (
        "spec.ensemble.runs: 0 is too small (allowed: 1 to 1 000)",
        (Problem("0 is too small", "spec.ensemble.runs", "1 to 1 000"),),
    ),
    "data-missing": (
        "SVHN is not on this machine: no files in /data; run `modescape data fetch svhn`",
        (Problem("SVHN is not on this machine: …", "spec.ood.0.dataset"),),
    ),
    "too-many": ("64 streams of events are open to 10.0.0.7 already", ()),
    "data-corrupt": ("labels hold NaN at rows 3, 17", ()),
}


Responses = dict[int | str, Json]


def documented(*kinds: str) -> Responses:
    """The `responses` of an operation that can fail in these ways, each with an example."""
    found: Responses = {}
    for name in kinds:
        kind = KINDS[name]
        detail, problems = _EXAMPLES[name]
        entry = found.setdefault(
            kind.status,
            {
                "description": kind.title,
                "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}},
            },
        )
        entry["content"][MEDIA_TYPE]["examples"][name] = {
            "summary": kind.title,
            "value": _document(kind, detail, problems),
        }
    return found
