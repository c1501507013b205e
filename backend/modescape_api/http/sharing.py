"""What a link that was shared leads to, and what may be read by it: one experiment, one report, or one view.

A browser that has followed links keeps their secrets in a cookie; an address that one of them covers is read by it, and
every other one asks to sign in. Nothing is changed by a link: safe methods only.
"""

from __future__ import annotations

import re
from enum import StrEnum
from urllib.parse import parse_qsl, urlsplit

from modescape import users
from modescape.errors import InvalidInput, NotFound
from modescape.store import Store
from modescape.tables import SharedLink

COOKIE = "modescape_links"
MOST = 8  # links of one browser: older ones are to be followed again
_LONGEST = 2000  # characters of an address
_LOOKED = re.compile("split|color|theme|arrays|sel|frame|panel|size|method|ink")  # how something is looked at
PLOT = "/plots"
_PLOTS = (PLOT, f"{PLOT}.svg", f"{PLOT}.png", f"{PLOT}.pdf")
# What is picked of a plot, and in what form: it shows all that its questions find, in the fields that were shared.
_OF_PLOT = re.compile(r"(from|to|is|none)\..+|part|width|scale|theme")
_EXPERIMENT = re.compile(r"/experiments/([^/]+)")
_REPORT = re.compile(r"/reports/([^/]+)")
_FIGURE = re.compile(r"/api/experiments/([^/]+)/figures/([^/.]+)(?:\.[a-z]+)?")


class LinkKind(StrEnum):
    EXPERIMENT = "experiment"
    REPORT = "report"
    VIEW = "view"  # a list, a plot, a comparison or a sweep, as its address says


def kind_of(target: str) -> LinkKind:
    """Of an address of ours. Raises InvalidInput for one that cannot be shared."""
    allowed = "an experiment, a report, a sweep, or a list, plot or comparison with its query"
    parts = urlsplit(target) if target.isprintable() and len(target) <= _LONGEST else urlsplit("")
    if not target.startswith("/") or target.startswith(("//", "/\\")) or parts.netloc or parts.fragment:
        raise InvalidInput(f"{target[:80]!r} is no page of this server", field="to", allowed=allowed)
    if _EXPERIMENT.fullmatch(parts.path):
        return LinkKind.EXPERIMENT
    if _REPORT.fullmatch(parts.path):
        return LinkKind.REPORT
    if parts.path in ("/", "/compare", PLOT) or re.fullmatch(r"/sweeps/[^/]+", parts.path):
        return LinkKind.VIEW
    raise InvalidInput(f"{parts.path[:80]!r} cannot be shared", field="to", allowed=allowed)


def followed(store: Store, kept: str, path: str, query: str) -> SharedLink | None:
    """The link by which an address may be read without signing in, of those whose secrets a browser keeps. Database
    calls."""
    for secret in kept.split(".")[-MOST:]:
        row = store.links.by_secret(users.digest(secret))
        if row is not None and row.without_sign_in and covers(store, row, path, query):
            return row
    return None


def covers(store: Store, row: SharedLink, path: str, query: str) -> bool:
    """Whether an address is part of what a link leads to."""
    target = urlsplit(row.target)
    if row.kind == LinkKind.EXPERIMENT:
        return _is_below(path, target.path) or _is_below(path, f"/api{target.path}")
    if row.kind == LinkKind.REPORT:
        if path == target.path:
            return "edit" not in dict(parse_qsl(query))
        return _is_below(path, f"/api{target.path}") or _is_in_report(store, target.path, path)
    if target.path == PLOT and path in _PLOTS:
        return _asked(query, _OF_PLOT) == _asked(target.query, _OF_PLOT)
    if path in (target.path, _as_data(target.path)):
        return _asked(query) == _asked(target.query)
    figure = _FIGURE.fullmatch(path)
    named = {value for key, value in parse_qsl(target.query) if key == "e"}
    if target.path == "/compare" and _is_below(path, "/api/compare/figures"):
        return {value for key, value in parse_qsl(query) if key == "e"} <= named
    return figure is not None and target.path == "/compare" and figure[1] in named


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(f"{root}/")


def _as_data(path: str) -> str:
    """Where a view is given as data."""
    return "/api/experiments" if path == "/" else f"/api{path}"


def _asked(query: str, seen: re.Pattern[str] = _LOOKED) -> list[tuple[str, str]]:
    """What is asked for, whatever its order, without how it is looked at."""
    return sorted((key, value) for key, value in parse_qsl(query) if not seen.fullmatch(key))


def _is_in_report(store: Store, report: str, path: str) -> bool:
    """Whether it is a figure that the report has now."""
    asked = _FIGURE.fullmatch(path)
    if asked is None:
        return False
    try:
        blocks = store.reports.get(report.rpartition("/")[2]).blocks
        row = store.experiments.get(asked[1])
    except NotFound:
        return False
    return any(
        block.get("kind") == "figure" and block["figure"] == asked[2] and block["experiment"] in (row.id, row.slug)
        for block in blocks
    )
