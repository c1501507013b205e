"""What a link that was shared leads to, and what may be read by it: one experiment, one report, or one view.

A browser that has followed links keeps their secrets in a cookie; an address that one of them covers is read by it, and
every other one asks to sign in. Nothing is changed by a link: safe methods only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import parse_qsl, urlencode, urlsplit

from modescape import asking, users
from modescape.acting import UserRole, actor
from modescape.columns import EXPERIMENTS
from modescape.errors import InvalidInput, NotFound
from modescape.store import Store
from modescape.tables import SharedLink

COOKIE = "modescape_links"
MOST = 8  # links of one browser: older ones are to be followed again
_LONGEST = 2000  # characters of an address
PLOT = "/plots"
_PLOTS = (PLOT, f"{PLOT}.svg", f"{PLOT}.png", f"{PLOT}.pdf")
_EXPERIMENT = re.compile(r"/experiments/([^/]+)")
_REPORT = re.compile(r"/reports/([^/]+)")
_SWEEP = re.compile(r"/sweeps/([^/]+)")
_FIGURE = re.compile(r"/api/experiments/([^/]+)/figures/([^/.]+)(?:\.[a-z]+)?")
_COMPARED = re.compile(r"/api/compare/figures/[^/]+")

# How a page is looked at: what only puts otherwise what it shows without. All else of an address must be as shared,
# of a plot its fields too, but not what is picked of it, nor in what form.
_LOOKS = {
    "/": re.compile("|".join(asking.CONTROLS)),
    "/compare": re.compile("pictures|theme|from"),
    PLOT: re.compile(r"(from|to|is|none)\..+|part|width|scale|theme"),
}
_FIELDS_OF_PLOT = re.compile("x|y|axes|colour|log")


class LinkKind(StrEnum):
    EXPERIMENT = "experiment"
    REPORT = "report"
    VIEW = "view"  # a list, a plot, a comparison or a sweep, as its address says


@dataclass(frozen=True)
class Led:
    """Where a link leads. address: of ours, by slugs; things: ids of what it is of, with which it ends."""

    kind: LinkKind
    address: str
    things: tuple[str, ...] = ()


def led(store: Store, target: str) -> Led:
    """What an address leads to now. Raises InvalidInput for one that cannot be shared, NotFound for what is not there,
    and Forbidden for the list of everything, which admins share."""
    allowed = "an experiment, a report, a sweep, or a list, plot or comparison with its query"
    parts = urlsplit(target) if target.isprintable() and len(target) <= _LONGEST else urlsplit("")
    if not target.startswith("/") or target.startswith(("//", "/\\")) or parts.netloc or parts.fragment:
        raise InvalidInput(f"{target[:80]!r} is no page of this server", field="to", allowed=allowed)
    query = f"?{parts.query}" if parts.query else ""
    if found := _EXPERIMENT.fullmatch(parts.path):
        experiment = store.experiments.get(found[1])
        return Led(LinkKind.EXPERIMENT, f"/experiments/{experiment.slug}{query}", (experiment.id,))
    if found := _REPORT.fullmatch(parts.path):
        report = store.reports.get(found[1])
        return Led(LinkKind.REPORT, f"/reports/{report.slug}", (report.id,))
    if found := _SWEEP.fullmatch(parts.path):
        sweep = store.sweeps.get(found[1]).row
        return Led(LinkKind.VIEW, f"/sweeps/{sweep.slug}{query}", (sweep.id,))
    if parts.path == "/compare":
        return _compared(store, asking.pairs(parts.query))
    if parts.path == PLOT:
        return _plotted(store, asking.pairs(parts.query))
    if parts.path == "/":
        return _listed(store, asking.pairs(parts.query))
    raise InvalidInput(f"{parts.path[:80]!r} cannot be shared", field="to", allowed=allowed)


def _compared(store: Store, pairs: Sequence[tuple[str, str]], path: str = "/compare") -> Led:
    rows = [store.experiments.get(name) for name in dict.fromkeys(value for key, value in pairs if key == "e")]
    if not rows:
        raise InvalidInput("compares nothing", field="to", allowed="/compare?e=… with the experiments it compares")
    named = [("e", row.slug) for row in rows] + [(key, value) for key, value in pairs if key != "e"]
    return Led(LinkKind.VIEW, f"{path}?{urlencode(named)}", tuple(row.id for row in rows))


def _plotted(store: Store, pairs: Sequence[tuple[str, str]]) -> Led:
    if any(key == "e" for key, _ in pairs):
        return _compared(store, pairs, PLOT)
    _check_asks([one for one in pairs if not (_LOOKS[PLOT].fullmatch(one[0]) or _FIELDS_OF_PLOT.fullmatch(one[0]))])
    return Led(LinkKind.VIEW, f"{PLOT}?{urlencode(pairs)}" if pairs else PLOT)


def _listed(store: Store, pairs: Sequence[tuple[str, str]]) -> Led:
    """A view that is named alone is what it asks for now: it may be changed to ask for more."""
    if {key for key, _ in pairs} == {"view"}:
        view = store.views.get(dict(pairs)["view"])
        pairs = [*asking.pairs(view.query), ("view", view.slug)]
    _check_asks(pairs)
    return Led(LinkKind.VIEW, f"/?{urlencode(pairs)}" if pairs else "/")


def _check_asks(pairs: Sequence[tuple[str, str]]) -> None:
    if not asking.read(EXPERIMENTS, pairs).query.conditions:
        actor().check(UserRole.ADMIN, "sharing the list of everything, which asks for nothing")


# -- what may be read by one ------------------------------------------------------------------------------------------


def followed(store: Store, kept: str, path: str, query: str) -> SharedLink | None:
    """The link by which an address may be read without signing in, of those whose secrets a browser keeps. Database
    calls."""
    rows = store.links.by_secrets([users.digest(secret) for secret in kept.split(".")[-MOST:]])
    return next((row for row in rows if row.without_sign_in and covers(store, row, path, query)), None)


def covers(store: Store, row: SharedLink, path: str, query: str) -> bool:
    """Whether an address is part of what a link leads to."""
    target = urlsplit(row.target)
    figure = _FIGURE.fullmatch(path)
    if row.kind == LinkKind.EXPERIMENT:
        return _is_below(path, target.path) or _is_below(path, f"/api{target.path}")
    if row.kind == LinkKind.REPORT:
        data = f"/api{target.path}"
        if path == target.path:
            return not query
        read = path in (data, f"{data}/export") or path.startswith(f"{data}/images/")
        return read or (figure is not None and _is_in_report(store, row.things[0], figure[1], figure[2]))
    if target.path.startswith("/sweeps/"):
        if path == target.path or _is_below(path, f"/api{target.path}"):
            return True
        return figure is not None and figure[1] in _cells(store, row.things[0])
    named = {value for key, value in parse_qsl(target.query) if key == "e"}
    if target.path == "/compare" and figure is not None:
        return figure[1] in named
    if target.path == "/compare" and _COMPARED.fullmatch(path):
        return {value for key, value in parse_qsl(query) if key == "e"} <= named
    if target.path == PLOT and path in _PLOTS:
        return _asked(PLOT, query) == _asked(PLOT, target.query)
    is_it = path in (target.path, "/api/experiments" if target.path == "/" else f"/api{target.path}")
    return is_it and _asked(target.path, query) == _asked(target.path, target.query)


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(f"{root}/")


def _asked(page: str, query: str) -> list[tuple[str, list[str]]]:
    """What is asked of a page, without how it is looked at: of each parameter its values in their order, for of some
    the last one counts. Experiments are compared in any order."""
    found: dict[str, list[str]] = {}
    for key, value in parse_qsl(query):
        if not _LOOKS[page].fullmatch(key):
            found.setdefault(key, []).append(value)
    if "e" in found:
        found["e"].sort()
    return sorted(found.items())


def _is_in_report(store: Store, report: str, experiment: str, figure: str) -> bool:
    """Whether it is a figure that the report has now, of an experiment that was there when it was last changed: what
    was launched later under the name of one that is gone was not meant."""
    try:
        kept, row = store.reports.get(report), store.experiments.get(experiment)
    except NotFound:
        return False
    return row.created_at <= kept.changed_at and any(
        block.get("kind") == "figure" and block["figure"] == figure and block["experiment"] in (row.id, row.slug)
        for block in kept.blocks
    )


def _cells(store: Store, sweep: str) -> set[str]:
    """Slugs and ids of what a sweep holds together."""
    try:
        rows = store.sweeps.get(sweep).experiments
    except NotFound:
        return set()
    return {name for row in rows for name in (row.slug, row.id)}
