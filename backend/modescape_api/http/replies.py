"""Answers in the form the client asked for: JSON without NaN, CSV, newline JSON, arrays and files; 304 when unchanged.

    return replies.listing(request, page_of_rows, columns=COLUMNS)   # {items, next, total, query}, CSV or NDJSON

Forms are chosen by `?format=` (for links, which cannot set headers) and else by the Accept header.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import anyio.to_thread
import numpy as np
import orjson
from fastapi import Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modescape.errors import InvalidInput, Problem
from modescape.names import as_cell
from modescape.records import Json
from modescape_api.http.refusal import Refusal

JSON = "application/json"
CSV = "text/csv; charset=utf-8"
NDJSON = "application/x-ndjson"
NPY = "application/x-npy"
SAFETENSORS = "application/x-safetensors"
BINARY = {"schema": {"type": "string", "format": "binary"}}  # the body of a file, as OpenAPI says it
IMMUTABLE = "private, max-age=31536000, immutable"
REVALIDATE = "private, no-cache"

_IN_ONE_PIECE = 400_000  # numbers of a matrix: 8 MB as JSON, some 10 ms of the processor
_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_UTC_Z


def encode(value: object) -> bytes:
    """JSON bytes; NaN and infinities become null, times end in Z."""
    return orjson.dumps(value, option=_OPTIONS)


def json(
    value: object, *, status: int = 200, headers: Mapping[str, str] | None = None, media_type: str = JSON
) -> Response:
    return Response(
        encode(value),
        status_code=status,
        headers={"cache-control": REVALIDATE, **(headers or {})},
        media_type=media_type,
    )


def picked(record: object, *names: str) -> Json:
    """Some fields of a record, by their names."""
    return {name: getattr(record, name) for name in names}


# -- what the client wants --------------------------------------------------------------------------------------------


def accepted(request: Request) -> list[str]:
    """Media types of the Accept header, best first; ties keep their order."""
    ranked: list[tuple[float, int, str]] = []
    for place, part in enumerate(request.headers.get("accept", "*/*").split(",")):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        try:
            weight = float(quality)
        except ValueError:
            weight = 0.0
        if name and weight > 0:
            ranked.append((-weight, place, name))
    return [name for _, _, name in sorted(ranked)]


def prefers_html(request: Request) -> bool:
    """Whether a page is a better answer than JSON: true for a browser's address bar, false for fetch() and curl."""
    for name in accepted(request):
        if name in ("text/html", "application/xhtml+xml"):
            return True
        if name in ("application/json", "application/problem+json", "*/*", "application/*"):
            return False
    return False


_ACCEPT = {
    "application/json": "json",
    "text/csv": "csv",
    "application/x-ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "application/x-npy": "npy",
    "text/html": "html",
    "image/svg+xml": "svg",
    "image/png": "png",
    "application/pdf": "pdf",
    "application/vnd.apache.parquet": "parquet",
    "application/x-tex": "tex",
    "text/x-python": "py",
}


def wanted(request: Request, offered: Sequence[str], *, suffix: str | None = None) -> str:
    """Which of the `offered` forms to send: by the path's suffix, `?format=`, or Accept; the first one if all is fine.

    Raises Refusal (406) naming the forms on offer.
    """
    asked = suffix or request.query_params.get("format")
    if asked is not None:
        if asked not in offered:
            allowed = ", ".join(offered)
            raise Refusal(
                "not-acceptable",
                f"this answer cannot be given as {asked[:40]!r} (allowed: {allowed})",
                problems=[Problem("no such form of this answer", "format", allowed)],
            )
        return asked
    for name in accepted(request):
        if _ACCEPT.get(name) in offered:
            return _ACCEPT[name]
        if name.startswith("*"):
            return offered[0]
    return offered[0]  # an odd Accept header gets the usual form rather than nothing


# -- tables -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Listing:
    """One page of a list: its rows, the cursor of the next page, how many there are, and the question in words."""

    items: list[Json]
    next: str | None
    total: int
    query: str


def fields(request: Request, columns: Iterable[str]) -> tuple[str, ...] | None:
    """The columns `?fields=a,b` asks for, or None for all. Raises InvalidInput naming those there are."""
    asked = request.query_params.get("fields")
    if asked is None:
        return None
    names = tuple(name.strip() for name in asked.split(",") if name.strip())
    known = tuple(columns)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        shown = ", ".join(repr(name[:40]) for name in unknown) or "nothing"
        raise InvalidInput(f"there is no column {shown}", field="fields", allowed=", ".join(known))
    return names


def listing(
    request: Request,
    first: Listing,
    *,
    columns: Sequence[str],
    more: Callable[[str], Listing] | None = None,
    name: str = "list",
) -> Response:
    """A list in the form asked for.

    CSV and newline JSON go on past the first page while `more(cursor)` gives further ones, unless a `limit` or a
    `cursor` was asked for: a download is the whole answer.
    """
    form = wanted(request, ("json", "csv", "ndjson"))
    chosen = fields(request, columns)
    if form == "json":
        items = first.items if chosen is None else [{c: row.get(c) for c in chosen} for row in first.items]
        return json({"items": items, "next": first.next, "total": first.total, "query": first.query})
    whole = "limit" not in request.query_params and "cursor" not in request.query_params
    headers = {
        "cache-control": REVALIDATE,
        "x-total-count": str(first.total),
        "content-disposition": f'attachment; filename="{name}.{form}"',
    }
    if not whole and first.next:
        url = request.url.include_query_params(cursor=first.next)
        headers["link"] = f'<{url.path}?{url.query}>; rel="next"'

    def rows() -> Iterator[Json]:
        page = first
        while True:
            yield from page.items
            if not whole or page.next is None or more is None:
                return
            page = more(page.next)

    names = chosen or tuple(columns)
    if form == "ndjson":
        lines = (encode({c: row.get(c) for c in names}) + b"\n" for row in rows())
        return StreamingResponse(_in_blocks(lines), headers=headers, media_type=NDJSON)
    return StreamingResponse(
        _in_blocks(csv_lines(names, ([row.get(c) for c in names] for row in rows()))),
        headers=headers,
        media_type=CSV,
    )


def whole(request: Request, items: list[Json], words: str, *, columns: Sequence[str], name: str) -> Response:
    """A list that is always given whole, in the form asked for."""
    return listing(request, Listing(items, None, len(items), words), columns=columns, name=name)


def csv_lines(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[bytes]:
    """CSV as lines of bytes. Text that a spreadsheet would run as a formula gets an apostrophe before it."""
    writer = csv.writer(_Through())
    for cells in itertools.chain([header], rows):
        yield writer.writerow([_cell(value) for value in cells]).encode()


class _Through:
    """A file that hands back what is written to it, so that `writerow` gives its line."""

    def write(self, text: str) -> str:
        return text


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value) if np.isfinite(value) else ""
    if isinstance(value, int):
        return value
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, (list, tuple)) and all(isinstance(item, (str, int, float)) for item in value):
        joined = ";".join(str(item) for item in value)
        return as_cell(joined) if any(isinstance(item, str) for item in value) else joined
    if isinstance(value, (dict, list, tuple)):
        return encode(value).decode()
    if isinstance(value, np.generic):
        return _cell(value.item())
    return as_cell(str(value))


def _in_blocks(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Lines joined to blocks: one chunk on the wire for hundreds of rows."""
    block: list[bytes] = []
    length = 0
    for line in lines:
        block.append(line)
        length += len(line)
        if length >= 64 * 1024:
            yield b"".join(block)
            block, length = [], 0
    if block:
        yield b"".join(block)


# -- arrays and files -------------------------------------------------------------------------------------------------


def npy(array: np.ndarray[Any, Any], *, name: str, headers: Mapping[str, str] | None = None) -> Response:
    """An array as a .npy file, streamed: a memory-mapped row of any size never is in memory as a whole."""
    ordered = np.ascontiguousarray(array) if not isinstance(array, np.memmap) else array
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(ordered))
    flat = ordered.reshape(-1)
    step = max(1, 2**20 // max(1, flat.itemsize))

    def blocks() -> Iterator[bytes]:
        yield head.getvalue()
        for start in range(0, flat.size, step):
            yield np.ascontiguousarray(flat[start : start + step]).tobytes()

    return StreamingResponse(
        blocks(),
        media_type=NPY,
        headers={
            "content-length": str(len(head.getvalue()) + flat.size * flat.itemsize),
            "content-disposition": f'attachment; filename="{name}"',
            **(headers or {}),
        },
    )


def matrix_csv(
    values: np.ndarray[Any, Any],
    rows: Sequence[object],
    columns: Sequence[object],
    *,
    name: str,
    corner: str = "solution",
) -> Response:
    """A matrix as CSV: first line the columns, first cell of each line the row; numbers as their shortest exact
    text."""
    header, *labels = csv_lines((corner, *map(str, columns)), ([row] for row in rows))
    end = b"\r\n"
    lines = (
        label.removesuffix(end) + b"," + numbers.replace(b"null", b"") + end
        for label, numbers in zip(labels, _lines_of_numbers(values), strict=True)
    )
    return StreamingResponse(
        _in_blocks(itertools.chain([header], lines)),
        media_type=CSV,
        headers={"content-disposition": f'attachment; filename="{name}"', "cache-control": REVALIDATE},
    )


def matrix_json(about: Mapping[str, Any], values: np.ndarray[Any, Any], *, headers: Mapping[str, str]) -> Response:
    """An object with `values` as its last field. A large one is streamed, a block at a time, and other requests go on
    between two; a small one is sent, and compressed, in one piece."""
    if values.size <= _IN_ONE_PIECE:
        return json({**about, "values": np.asarray(values, dtype=np.float64)}, headers=headers)
    lines = (b"%s[%s]" % (b"," if i else b"", numbers) for i, numbers in enumerate(_lines_of_numbers(values)))
    pieces = itertools.chain([encode(about)[:-1], b',"values":['], lines, [b"]}"])
    return StreamingResponse(_in_blocks(pieces), media_type=JSON, headers={"cache-control": REVALIDATE, **headers})


def _lines_of_numbers(values: np.ndarray[Any, Any]) -> Iterator[bytes]:
    """Each row's numbers with commas between, as their shortest exact text; null for what is none."""
    for line in values:
        yield encode(np.ascontiguousarray(line, dtype=np.float64))[1:-1]


def sent(file: BinaryIO, *, headers: Mapping[str, str], media_type: str) -> Response:
    """A file from its beginning, a block at a time; it is closed at the end."""
    size = os.fstat(file.fileno()).st_size

    def blocks() -> Iterator[bytes]:
        with file:
            yield from iter(lambda: file.read(2**20), b"")

    return StreamingResponse(blocks(), headers={"content-length": str(size), **headers}, media_type=media_type)


def content(request: Request, path: Path, digest: str, *, media_type: str, name: str) -> Response:
    """A content-addressed file: cached for ever, in ranges if asked."""
    tag = f'"{digest}"'
    headers = {"etag": tag, "cache-control": IMMUTABLE}
    if unchanged(request, tag):
        return Response(status_code=304, headers=headers)
    return FileResponse(path, media_type=media_type, filename=name, headers=headers)


# -- caching and compression ------------------------------------------------------------------------------------------


def tag(*parts: object) -> str:
    """A weak ETag of whatever decides the answer."""
    return f'W/"{hashlib.sha256(encode([str(part) for part in parts])).hexdigest()[:32]}"'


def unchanged(request: Request, etag: str) -> bool:
    """Whether If-None-Match names `etag` (compared weakly, RFC 9110 13.1.2)."""
    given = request.headers.get("if-none-match")
    if given is None:
        return False
    bare = etag.removeprefix("W/")
    return given.strip() == "*" or any(one.strip().removeprefix("W/") == bare for one in given.split(","))


def tagged_json(request: Request, value: object) -> Response:
    """A value as JSON under the ETag of its bytes; 304 where the client has it."""
    encoded = encode(value)
    headers = {"etag": tag(encoded), "cache-control": REVALIDATE}
    if unchanged(request, headers["etag"]):
        return Response(status_code=304, headers=headers)
    return Response(encoded, media_type=JSON, headers=headers)


_COMPRESSIBLE = (
    "text/html",
    "text/css",
    "text/csv",
    "text/javascript",
    "text/plain",
    "application/json",
    "application/problem+json",
    "application/x-ndjson",
    "application/javascript",
    "image/svg+xml",
)


def accepts_gzip(request: Request) -> bool:
    return "gzip" in request.headers.get("accept-encoding", "").lower()


class Gzip:
    """Compresses text answers above 1 kB whose body is sent in one piece; streams and binary arrays pass untouched.

    Level 5: on a 300 kB figure it takes two thirds of the time of level 6 for 2 % more bytes. Bodies above 64 kB are
    compressed on a thread so that the event loop stays free.
    """

    minimum = 1000

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not accepts_gzip(Request(scope)):
            await self.app(scope, receive, send)
            return
        start: Message | None = None

        async def compress(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                kind = headers.get("content-type", "").split(";")[0]
                if (
                    kind in _COMPRESSIBLE
                    and "content-encoding" not in headers
                    and message["status"] not in (204, 206, 304)
                ):
                    start = message
                    return
            elif start is not None:
                begin, start = start, None
                headers = MutableHeaders(raw=begin["headers"])
                headers.add_vary_header("accept-encoding")
                body = message.get("body", b"")
                if not message.get("more_body", False) and len(body) >= self.minimum:
                    if len(body) > 65536:
                        body = await anyio.to_thread.run_sync(gzip.compress, body, 5)
                    else:
                        body = gzip.compress(body, 5)
                    headers["content-encoding"] = "gzip"
                    headers["content-length"] = str(len(body))
                    message = {**message, "body": body}
                begin["headers"] = headers.raw
                await send(begin)
            await send(message)

        await self.app(scope, receive, compress)
