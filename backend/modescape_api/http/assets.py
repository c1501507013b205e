"""Scripts, styles and Plotly, compressed once: found beside the package if installed, else in the repository.

assets.url("style.css")      # "/static/style.css?v=1f0c…": cached for ever, because the name changes with the file
assets.plotly_url()          # "/static/plotly-7.1.0.min.js", from the wheel, never from a CDN

Scripts are the browser's own modules: each import is served with the digest of what it imports in its address, so a
module changes its own when one below it changes. Styles are one file: what style.css imports is put in its place.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import mimetypes
import posixpath
import re
import time
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from fastapi import APIRouter, Request, Response

from modescape.errors import ConfigurationError, NotFound
from modescape.registry import while_known
from modescape_api.http import replies

router = APIRouter(include_in_schema=False)

_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}


@lru_cache
def frontend() -> Path:
    """The folder of templates and static files. Raises ConfigurationError when the installation lacks it."""
    here = Path(__file__).resolve().parent.parent
    for folder in (here / "frontend", here.parent.parent / "frontend"):
        if (folder / "templates").is_dir():
            return folder
    raise ConfigurationError(f"the frontend folder is neither in {here} nor beside it; reinstall modescape")


@dataclass(frozen=True)
class Asset:
    body: bytes
    compressed: bytes
    digest: str
    media_type: str


def url(name: str) -> str:
    """The address of a static file, with the digest of its content. Raises NotFound when there is no such file."""
    return f"/static/{name}?v={_asset(name).digest[:12]}"


def imported(name: str) -> tuple[str, ...]:
    """Addresses of all modules that a script imports, theirs too: a page names them so that none is waited for."""
    return _imported(name, _changed())


@lru_cache
def _imported(name: str, changed: int) -> tuple[str, ...]:
    found: dict[str, None] = {}
    waiting = [name]
    while waiting:
        script = waiting.pop()
        text = (frontend() / "static" / script).read_text(encoding="utf-8")
        below = [_beside(script, each) for _, each in _IMPORT.findall(text)]
        waiting += [each for each in below if each not in found]
        found |= dict.fromkeys(below)
    return tuple(url(each) for each in found)


@lru_cache
def plotly_name() -> str:
    return f"plotly-{version('plotly')}.min.js"


def plotly_url() -> str:
    return f"/static/{plotly_name()}"


@router.get("/static/{name:path}")
def static(request: Request, name: str) -> Response:
    asset = _asset(name)
    etag = f'W/"{asset.digest[:32]}"'
    forever = name == plotly_name() or request.query_params.get("v") == asset.digest[:12]
    headers = {
        "etag": etag,
        "cache-control": "public, max-age=31536000, immutable" if forever else "public, no-cache",
        "vary": "accept-encoding",
    }
    if replies.unchanged(request, etag):
        return Response(status_code=304, headers=headers)
    if asset.compressed and replies.accepts_gzip(request):
        return Response(asset.compressed, media_type=asset.media_type, headers={**headers, "content-encoding": "gzip"})
    return Response(asset.body, media_type=asset.media_type, headers=headers)


def _asset(name: str) -> Asset:
    if name == plotly_name():
        return _load(_plotly_file(), 0)
    if name == "tokens.css":
        return _tokens()
    folder = frontend() / "static"
    try:
        path = (folder / name).resolve()
        is_here = path.is_file() and path.is_relative_to(folder.resolve())
    except (OSError, ValueError):  # a name that no file can have
        is_here = False
    if not is_here:
        raise NotFound(f"there is no static file {name[:200]!r}")
    if path.suffix in (".js", ".css"):
        return _joined(path.relative_to(folder.resolve()).as_posix(), _changed())
    return _load(path, path.stat().st_mtime_ns)


@while_known  # methods have colours of their own
def _tokens() -> Asset:
    """Colours as CSS variables, from the file that owns every colour, so plot and page cannot differ."""
    from modescape.drawing.style import css

    return _packed(css().encode(), ".css")


@lru_cache(maxsize=64)
def _load(path: Path, changed: int) -> Asset:
    """Read and compress a file once for every time it `changed` (Plotly: 4.8 MB to 1.5 MB in 0.2 s)."""
    return _packed(path.read_bytes(), path.suffix)


_IMPORT = re.compile(r'^(import (?:.+ from )?")(.+)(?=";$)', re.MULTILINE)  # as our scripts write it
_STYLE = re.compile(r'^@import "(.+)";$', re.MULTILINE)


@lru_cache(maxsize=64)
def _joined(name: str, changed: int) -> Asset:
    """A script or a stylesheet with what it imports, made once for every time one of them `changed`."""
    folder = frontend() / "static"
    text = (folder / name).read_text(encoding="utf-8")
    if name.endswith(".css"):
        text = _STYLE.sub(lambda found: (folder / found[1]).read_text(encoding="utf-8"), text)
    else:
        text = _IMPORT.sub(lambda found: f"{found[0]}?v={_asset(_beside(name, found[2])).digest[:12]}", text)
    return _packed(text.encode(), Path(name).suffix)


def _changed() -> int:
    """When a static file was last written, looked up at most once a second."""
    return _newest(int(time.monotonic()))


@lru_cache(maxsize=1)
def _newest(second: int) -> int:
    return max(path.stat().st_mtime_ns for path in (frontend() / "static").rglob("*"))


def _beside(script: str, named: str) -> str:
    """The file that a script imports, in the folder of static files."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(script), named))


def _packed(body: bytes, suffix: str) -> Asset:
    media_type = _TYPES.get(suffix) or mimetypes.types_map.get(suffix, "application/octet-stream")
    packed = gzip.compress(body, 6) if len(body) > 1000 else b""
    keep = packed if len(packed) < 0.9 * len(body) else b""
    return Asset(body, keep, hashlib.sha256(body).hexdigest(), media_type)


def _plotly_file() -> Path:
    found = importlib.util.find_spec("plotly")  # looks, does not import
    if found is None or not found.submodule_search_locations:
        raise ConfigurationError("plotly is not installed; reinstall modescape")
    return Path(found.submodule_search_locations[0]) / "package_data" / "plotly.min.js"
