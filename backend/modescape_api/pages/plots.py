"""Many experiments on one picture: parallel axes and a scatter of any two fields, over a search or a comparison.

    /plots?q=tag:paper&x=accuracy&y=disagreement&axes=architecture,seconds,accuracy&from.accuracy=0.9

Drawn here as SVG, so that every mark is a link without script too. What is picked along axes is in the address
(`from.<field>`, `to.<field>`, `is.<field>`, `none.<field>`), as the form below the picture sends it; plots.js fills it
in by dragging, and takes over its answer (`part=picked`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response

from modescape import asking, stored_values
from modescape.axes import (
    MOST_WORDS,
    Axis,
    Part,
    Scale,
    can_be_axis,
    is_log_by_nature,
    picked,
    title_of,
    told,
    words_of,
    written,
)
from modescape.bulk import MOST as MOST_AT_ONCE
from modescape.columns import EXPERIMENTS, Field, Kind
from modescape.comparing import MOST as MOST_COMPARED
from modescape.drawing import forms
from modescape.drawing.many import Line, Many
from modescape.drawing.overlay import MOST_COLOURS
from modescape.drawing.style import Theme
from modescape.drawing.words import listed
from modescape.errors import InvalidInput, Problem
from modescape.listing import ListQuery
from modescape.results import Results
from modescape_api.http import replies
from modescape_api.http.refusal import Refusal
from modescape_api.http.site import Here, Site
from modescape_api.pages.columns import shown
from modescape_api.pages.display import dotted
from modescape_api.pages.rendering import render
from modescape_api.resources.axes import MOST, MOST_AXES, OF_COMPARISON, USUAL, Laid, field_of, laid
from modescape_api.resources.compare import chosen

router = APIRouter()

ROWS = 50  # of the table
EXPERIMENT = "slug"  # the field by which every experiment has a colour of its own
_LOOK = ("x", "y", "axes", "colour", "log")  # how it is looked at
_OWN = (*_LOOK, "e", "part", "put", "limit", "cursor", "group", "open", "view", "columns", "sure")
_PICKS = ("from.", "to.", "is.", "none.")
_TOP, _HEIGHT, _NONE = 0.02, 0.86, 0.95  # of a plot: where values lie, and where those without one
_SPREAD = (0.754878, 0.569840)  # of a turn, across and up: places among equal words that fill their room evenly
SYMBOLS = ("circle", "square", "diamond", "triangle", "cross", "saltire", "pentagon", "down")


@dataclass(frozen=True)
class Ink:
    """One colour and what it means; number None: grey. n: how many experiments have it."""

    number: int | None
    label: str
    n: int
    value: str = ""
    on: bool = False


@dataclass(frozen=True)
class Mark:
    """One experiment in both pictures: x and y in percent of the scatter, line in thousandths of the parallel axes."""

    slug: str
    about: str
    ink: int | None
    x: float
    y: float
    line: str
    is_out: bool


@dataclass(frozen=True)
class Look:
    """What is looked at. fields: all that must be read, those of parts too."""

    x: Field
    y: Field
    axes: tuple[Field, ...]
    colour: Field | None
    log: tuple[str, ...]
    parts: dict[str, Part]
    problems: tuple[Problem, ...]

    @property
    def fields(self) -> tuple[Field, ...]:
        own = (*self.axes, self.x, self.y, *((self.colour,) if self.colour else ()))
        return tuple({one.name: one for one in (*own, *(part.field for part in self.parts.values()))}.values())


@dataclass(frozen=True)
class Seen:
    """What an address of the page shows. kept: its questions to the list; of_ink, is_in: of every experiment drawn."""

    compared: Sequence[Results]
    kept: list[tuple[str, str]]
    asked: asking.Asked
    look: Look
    found: Laid
    inks: list[Ink]
    note: str
    of_ink: list[int | None]
    is_in: list[bool]

    @classmethod
    def of(cls, request: Request, here: Site, e: Sequence[str]) -> Seen:
        compared = chosen(here, e)
        pairs = request.query_params.multi_items()
        kept = [(key, value) for key, value in pairs if value and key not in _OWN and not key.startswith(_PICKS)]
        asked = asking.read(EXPERIMENTS, kept, lenient=True)
        look = _look(request, len(compared))
        found = laid(here, asked.query, look.fields, compared=compared, log=look.log)
        inks, note = _inks(look, found)
        is_in = [all(one.holds(found.axes[name].values[i]) for name, one in look.parts.items())
                 for i in range(len(found.slugs))]  # fmt: skip
        return cls(compared, kept, asked, look, found, inks, note, _of_ink(look, found, inks), is_in)


@router.get("/plots")
def plots_page(request: Request, here: Here, e: Annotated[tuple[str, ...], Query()] = (), part: str = "") -> Response:
    seen, pairs = Seen.of(request, here, e), request.query_params.multi_items()
    compared, kept, asked, look, found = seen.compared, seen.kept, seen.asked, seen.look, seen.found
    inks, note, of_ink, is_in = seen.inks, seen.note, seen.of_ink, seen.is_in
    x, y = found.axes[look.x.name], found.axes[look.y.name]
    gutter = _has_gutter([found.axes[one.name] for one in look.axes])
    told_of = _picked(here, asked, compared, look, found, is_in, kept)
    values: dict[str, Any] = {
        "picked": told_of,
        "problems": {problem.field: problem for problem in look.problems},
        "state": {
            "ins": _ranges(is_in),
            "parts": {name: {"spans": _spans(found.axes[name], one), "none": one.without}
                      for name, one in look.parts.items()},
        },
        "may_compare": MOST_COMPARED,
        "shown": urlencode([(key, value) for key, value in pairs if key not in ("part", "put") and value]),
        "at_once": MOST_AT_ONCE,
    }  # fmt: skip
    if part == "picked":
        return render(request, here, "_picked.html", **values)
    query = [("e", slug) for slug in found.slugs] if compared else kept
    return render(
        request,
        here,
        "plots.html",
        section="/compare" if compared else "/",
        is_comparison=bool(compared),
        sentence="Experiments of a comparison" if compared else asked.words,
        search=asked.search,
        found=found,
        look=look,
        marks=list(_marks(look, found, of_ink, is_in)),
        inks=inks,
        ink_note=note,
        axes=[found.axes[one.name] for one in look.axes],
        x=x,
        y=y,
        has_gutter=gutter,
        in_count=sum(is_in),
        across=across,
        up=up,
        brushes=[
            _brush(one, found.axes[one.name], look.parts.get(one.name)) for one in look.fields
            if not (inks and look.colour is not None and one.name == look.colour.name and one.kind == Kind.TEXT)
        ],
        geometry={
            "axes": [one.name for one in look.axes], "x": look.x.name, "y": look.y.name,
            "fields": [_for_script(axis) for axis in found.axes.values()],
            "ends": {"": [up(0, gutter) / 100, up(1, gutter) / 100],
                     "x": [across(0, x.without > 0) / 100, across(1, x.without > 0) / 100],
                     "y": [up(0, y.without > 0) / 100, up(1, y.without > 0) / 100]},
            "none": _NONE,
        },
        spans={name: [(max(0.0, a), min(1.0, b)) for a, b in _spans(found.axes[name], one)]
               for name, one in look.parts.items()},
        names=list(_known(is_comparison=bool(compared))),
        menu=_menu(request, look, pairs),
        query=query,
        back_url=(f"/compare?{urlencode(query)}" if compared else f"/?{urlencode(query)}" if query else "/"),
        carried=[*query, *((key, value) for key, value in pairs if key in _LOOK and value)],
        picks=[(key, value) for key, value in pairs if key.startswith(_PICKS) and value],
        faults=[{"text": asked.search[one.start : one.end], "message": one.message} for one in asked.faults],
        most=MOST,
        most_axes=MOST_AXES,
        symbols=SYMBOLS,
        notice=dotted(*asked.notices) or None,
        **values,
    )  # fmt: skip


# ---- taken away ----


@router.get("/plots.{form}")
def take(
    request: Request, here: Here, form: Literal["svg", "png", "pdf"],
    e: Annotated[tuple[str, ...], Query()] = (), theme: Theme = "light",
    width: Annotated[int, Query(ge=forms.LEAST, le=forms.MOST)] = forms.PAGE,
    scale: Annotated[float, Query(ge=1, le=forms.LARGEST)] = 2.0,
) -> Response:  # fmt: skip
    """What an address of the page shows, as a picture with its words around it, made by another process."""
    size = forms.checked(forms.Asked(form, theme, width, None, scale))
    if lack := forms.FORMS[form].missing():
        said = f"{forms.FORMS[form].title} cannot be made here: {lack}"
        raise Refusal("not-acceptable", said, problems=[Problem(lack, "format", "")])
    picture = here.maker.make(
        {"what": "plot", "plot": asdict(_picture(Seen.of(request, here, e))), "asked": asdict(size)}
    )
    headers = {"content-disposition": f'attachment; filename="experiments.{form}"', "cache-control": replies.REVALIDATE}
    return Response(picture, media_type=forms.FORMS[form].media, headers=headers)


def _picture(seen: Seen) -> Many:
    look, found = seen.look, seen.found
    x, y = (found.axes[one.name] for one in (look.x, look.y))
    count = len(found.slugs)
    of = "experiments of a comparison" if seen.compared else seen.asked.words
    parts = [f"n = {count} experiments" + (f" of {found.total}, evenly from the first to the last" * found.is_thinned)]
    if look.parts:
        parts.append(f"{sum(seen.is_in)} are picked: {listed([_words(part) for part in look.parts.values()])}")
    if look.colour is not None and seen.inks:
        parts.append(f"colour means {'experiment' if look.colour.name == EXPERIMENT else words_of(look.colour)}")
    axes = list({one.name: found.axes[one.name] for one in (look.x, look.y, *look.axes)}.values())
    parts += [f"{axis.without} without {axis.words}" for axis in axes if axis.without]
    return Many(
        f"{y.title} by {x.words}", f"{of[:1].upper()}{of[1:]}", f"{'; '.join(parts)}.",
        _line(x, [_apart(x, i, 0) for i in range(count)]), _line(y, [_apart(y, i, 1) for i in range(count)]),
        [_line(found.axes[one.name]) for one in look.axes],
        [f"{ink.label} ({ink.n})" for ink in seen.inks if ink.number is not None], seen.of_ink,
        [not one for one in seen.is_in],
    )  # fmt: skip


def _line(axis: Axis, places: Sequence[float | None] | None = None) -> Line:
    title = f"{axis.title}, log" if axis.is_log else axis.title
    return Line(title, [(tick.place, tick.label) for tick in axis.ticks], axis.places if places is None else places)


# ---- what is looked at ----


def _look(request: Request, compared: int) -> Look:
    given = request.query_params
    problems: list[Problem] = []

    def field(name: str, of: str) -> Field | None:
        try:
            return field_of(name, is_comparison=compared > 0, of=of)
        except InvalidInput as error:
            problems.extend(error.problems)
            return None

    chosen_names = [one.strip() for one in given.get("axes", "").split(",") if one.strip()]
    if put := given.get("put", "").strip():
        chosen_names = [*(chosen_names or _usual(request)), put]
    axes = [one for name in dict.fromkeys(chosen_names or _usual(request)) if (one := field(name, "axes"))]
    if len(axes) > MOST_AXES:
        problems.append(Problem(f"{len(axes)} axes are too many", "axes", f"at most {MOST_AXES}"))
    ends = [field(given.get(name) or usual, name) for name, usual in (("x", "accuracy"), ("y", "disagreement"))]
    x, y = (one or EXPERIMENTS.asked[usual] for one, usual in zip(ends, ("accuracy", "disagreement"), strict=True))
    by = given.get("colour", EXPERIMENT if 0 < compared <= MOST_COLOURS else "")
    colour = field(by, "colour") if by else None
    log = tuple(one.strip() for one in given.get("log", "").split(",") if one.strip())
    parts: dict[str, Part] = {}
    names = [key.partition(".")[2] for key in given if key.startswith(_PICKS)]
    for name in dict.fromkeys(names):
        one = field(name, "axes")
        if one is None:
            continue
        try:
            found = picked(
                one, low=given.get(f"from.{name}", ""), high=given.get(f"to.{name}", ""),
                words=given.getlist(f"is.{name}"), without=bool(given.get(f"none.{name}")),
            )  # fmt: skip
        except InvalidInput as error:
            problems += error.problems
            continue
        if not found.is_empty:
            parts[name] = found
    return Look(x, y, tuple(axes[:MOST_AXES]) or (x, y), colour, log, parts, tuple(problems))


def _usual(request: Request) -> list[str]:
    """What can be an axis of the columns that the list shows."""
    asked = [column.field for column in shown(request.query_params.getlist("columns")) if column.is_asked]
    found = [one.name for one in asked if can_be_axis(one) and one.name != "name"]
    return found if request.query_params.get("columns") and len(found) > 1 else list(USUAL)


def _known(*, is_comparison: bool) -> Iterator[str]:
    yield from (field.name for field in EXPERIMENTS.asked.values() if can_be_axis(field))
    yield from OF_COMPARISON if is_comparison else ()
    yield from stored_values.known()


def _menu(request: Request, look: Look, pairs: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """What can be done with each axis, as links."""
    names = [one.name for one in look.axes]

    def link(**changes: str | None) -> str:
        kept = [(key, value) for key, value in pairs if key not in (*changes, "put", "part") and value]
        return f"/plots?{urlencode([*kept, *((key, value) for key, value in changes.items() if value)])}"

    def turned(name: str) -> str:
        return ",".join(one for one in dict.fromkeys([*look.log, name]) if one != name or name not in look.log)

    found = []
    for i, field in enumerate(look.axes):
        left, right = names[:i], names[i + 1 :]
        is_log = is_log_by_nature(field) != (field.name in look.log)
        found.append({
            "label": title_of(field),
            "up": link(axes=",".join([*left[:-1], field.name, left[-1], *right])) if left else None,
            "down": link(axes=",".join([*left, right[0], field.name, *right[1:]])) if right else None,
            "out": link(axes=",".join([*left, *right])) if len(names) > 1 else None,
            "scale": link(log=turned(field.name) or None) if field.kind in (Kind.NUMBER, Kind.WHOLE) else None,
            "scale_words": "even steps" if is_log else "log",
        })  # fmt: skip
    return found


# ---- where marks lie ----


def up(place: float | None, has_gutter: bool) -> float:
    """Percent from the top of a picture; what has no value lies in a gutter below, where one is needed."""
    if place is None:
        return 100 * _NONE
    return round(100 * (_TOP + (_HEIGHT if has_gutter else 1 - 2 * _TOP) * (1 - place)), 2)


def across(place: float | None, has_gutter: bool) -> float:
    """Percent from its left, where the gutter is."""
    return round(100 - up(place, has_gutter), 2)


def _has_gutter(axes: Sequence[Axis]) -> bool:
    return any(axis.without for axis in axes)


def _marks(look: Look, found: Laid, of_ink: Sequence[int | None], is_in: Sequence[bool]) -> Iterator[Mark]:
    axes = [found.axes[one.name] for one in look.axes]
    x, y, gutter = found.axes[look.x.name], found.axes[look.y.name], _has_gutter(axes)
    about = list({one.name: one for one in (x, y, *axes)}.values())
    wide = 1000 / len(axes)
    for i, slug in enumerate(found.slugs):
        points = [f"{wide * (k + 0.5):.0f} {10 * up(axis.places[i], gutter):.0f}" for k, axis in enumerate(axes)]
        said = ", ".join(f"{axis.words} {axis.told(i)}" for axis in about)
        yield Mark(
            slug, f"{found.names[i]}: {said}", of_ink[i], across(_apart(x, i, 0), x.without > 0),
            up(_apart(y, i, 1), y.without > 0), f"M{'L'.join(points)}", not is_in[i],
        )  # fmt: skip


def _apart(axis: Axis, i: int, side: int) -> float | None:
    """Along words marks are spread, or they would hide each other."""
    place = axis.places[i]
    if place is None or axis.kind is not Scale.WORDS or not axis.ticks:
        return place
    return place + ((i * _SPREAD[side]) % 1 - 0.5) * 0.7 / len(axis.ticks)


# ---- colours ----


def _inks(look: Look, found: Laid) -> tuple[list[Ink], str]:
    """What colours mean, and what is to be said of it: eight values at most have one, the most frequent."""
    if look.colour is None:
        return [], ""
    axis = found.axes[look.colour.name]
    counts: dict[Any, int] = {}
    for value in axis.values:
        if value is not None:
            counts[value] = counts.get(value, 0) + 1
    if axis.kind is not Scale.WORDS and len(counts) > MOST_COLOURS:
        return [], (
            f"{axis.title} has {len(counts)} different values, too many for colours: all are grey. "
            "Lay it along an axis instead."
        )
    most = sorted(counts, key=lambda one: -counts[one])[: MOST_COLOURS - (len(counts) > MOST_COLOURS)]
    kept = sorted(most, key=str if axis.kind is Scale.WORDS else float)
    if look.colour.name == EXPERIMENT:
        kept = [slug for slug in found.slugs if slug in most]
    part = look.parts.get(look.colour.name)
    inks = []
    for i, value in enumerate(kept):
        label = found.names[found.place[value]] if look.colour.name == EXPERIMENT else told(look.colour, value)
        is_on = part is not None and part.holds(value)
        inks.append(Ink(i, label, counts[value], str(value) if axis.kind is Scale.WORDS else "", is_on))
    rest = sum(count for value, count in counts.items() if value not in most)
    if rest:
        inks.append(Ink(None, f"{len(counts) - len(kept)} other values", rest))
    if axis.without:
        inks.append(Ink(None, "no value", axis.without))
    return inks, ""


def _of_ink(look: Look, found: Laid, inks: Sequence[Ink]) -> list[int | None]:
    if look.colour is None or not inks:
        return [None] * len(found.slugs)
    axis = found.axes[look.colour.name]
    known: dict[str, int | None] = {}
    for ink in inks:
        if ink.number is not None:
            known[ink.value or ink.label] = ink.number
    keys = [None if one is None else one if axis.kind is Scale.WORDS else told(look.colour, one) for one in axis.values]
    return [None if key is None else known.get(key) for key in keys]


# ---- what is picked ----


def _brush(field: Field, axis: Axis, part: Part | None) -> dict[str, Any]:
    """The fields of the form in which a part of an axis is typed."""
    part = part or Part(field)
    words = [tick for tick in axis.ticks if tick.value] if axis.kind is Scale.WORDS else []
    there = {tick.value for tick in words}
    return {
        "name": axis.name, "title": axis.title, "kind": axis.kind, "on": not part.is_empty,
        "label": partial(told, field),
        "low": written(part.low), "high": written(part.high), "is_none": part.without, "without": axis.without,
        "words": [(tick.value, tick.n, part.holds(tick.value) and bool(part.words)) for tick in words],
        "more": [one for one in part.words if one not in there],
        "left_out": axis.left_out, "most": MOST_WORDS - 1,
        "ends": f"{told(field, min(v))} to {told(field, max(v))}"
        if words == [] and (v := [one for one in axis.values if one is not None]) else "",
    }  # fmt: skip


def _for_script(axis: Axis) -> dict[str, Any]:
    """Where marks lie along the axis, and what a place on it means."""
    return {
        "name": axis.name, "kind": axis.kind, "log": axis.is_log, "low": axis.low, "high": axis.high,
        "floor": axis.floor, "whole": axis.field.kind == Kind.WHOLE,
        "words": [[tick.place, tick.value] for tick in axis.ticks] if axis.kind is Scale.WORDS else [],
        "places": [None if one is None else round(one, 5) for one in axis.places],
    }  # fmt: skip


def _spans(axis: Axis, part: Part | None) -> list[list[float]]:
    """The stretches of an axis that a part takes."""
    if part is None or not part.has_values:
        return []
    if part.words:
        half = 0.5 / max(1, len(axis.ticks))
        return [[tick.place - half, tick.place + half] for tick in axis.ticks if tick.value and part.holds(tick.value)]
    low, high = _seconds(part.low), _seconds(part.high)
    return [[-1.0 if low is None else axis.place(low), 2.0 if high is None else axis.place(high)]]


def _seconds(value: float | datetime | None) -> float | None:
    return value.timestamp() if isinstance(value, datetime) else value


def _picked(
    here: Site,
    asked: asking.Asked,
    compared: Sequence[Results],
    look: Look,
    found: Laid,
    is_in: Sequence[bool],
    kept: Sequence[tuple[str, str]],
) -> dict[str, Any]:
    """How many are picked, the first of them as a table, and where they can be taken."""
    places = [i for i, one in enumerate(is_in) if one]
    total, rows = len(places), [_row(found, i) for i in places[:ROWS]]
    if found.is_thinned:
        conditions = (*asked.query.conditions, *(part.condition for part in look.parts.values()))
        query = replace(asked.query, conditions=conditions, limit=ROWS, cursor=None)
        total, rows = _asked_for(here, query, look)
    line = " ".join(filter(None, (asked.search, *(part.line for part in look.parts.values()))))
    if compared:
        slugs = ",".join(found.slugs[i] for i in places)
        address = [("slug", slugs), ("q", "archived:any")] if places else [("q", "-has:slug")]
    else:
        address = [
            *((key, value) for key, value in kept if key not in ("q", "cursor")),
            *([("q", line)] if line else []),
        ]
    url = f"/?{urlencode(address)}" if address else "/"
    shown_fields = [one for one in look.fields if one.name != EXPERIMENT]
    names = ",".join(["name", "slug", *(one.name for one in shown_fields if one.name not in OF_COMPARISON)])
    return {
        "is_any": bool(look.parts), "n": total, "of": found.total, "rows": rows, "line": line, "url": url,
        "heads": [title_of(one) for one in shown_fields], "kinds": [one.kind for one in shown_fields],
        "words": listed([_words(part) for part in look.parts.values()]) if look.parts else "",
        "csv": f"/api/experiments?{urlencode([*address, ('fields', names), ('format', 'csv')])}",
        "json": f"/api/experiments?{urlencode([*address, ('fields', names)])}",
        "compare": f"/compare?{urlencode([('e', row['slug']) for row in rows])}" if 2 <= total <= MOST_COMPARED else "",
        "again": f"/plots?{urlencode([('e', row['slug']) for row in rows])}" if 2 <= total <= MOST_COMPARED else "",
    }  # fmt: skip


def _words(part: Part) -> str:
    name = words_of(part.field)
    if part.words:
        said = " or ".join(part.words)
    elif part.low is not None and part.high is not None:
        said = f"{told(part.field, part.low)} to {told(part.field, part.high)}"
    elif part.low is not None:
        said = f"from {told(part.field, part.low)}"
    elif part.high is not None:
        said = f"up to {told(part.field, part.high)}"
    else:
        return f"no {name}"
    return f"{name} {said}{' or none' if part.without else ''}"


def _row(found: Laid, i: int) -> dict[str, Any]:
    axes = (axis for name, axis in found.axes.items() if name != EXPERIMENT)
    cells = [axis.told(i) if axis.values[i] is not None else "–" for axis in axes]
    return {"slug": found.slugs[i], "name": found.names[i], "status": found.states[i], "cells": cells}


def _asked_for(here: Site, query: ListQuery, look: Look) -> tuple[int, list[dict[str, Any]]]:
    """Where not all are drawn: how many there are of all, and the first of them."""
    fields = [one for one in look.fields if one.name != EXPERIMENT]
    computed = tuple(one.name for one in fields if one not in EXPERIMENTS.all)
    page = here.store.experiments.page(replace(query, show=computed))
    rows = []
    for row, values in zip(page.items, page.shown or [()] * len(page.items), strict=True):
        beside = dict(zip(computed, values, strict=True))
        of_each = [beside[one.name] if one.name in beside else one.value(row) for one in fields]
        cells = ["–" if value in (None, "") else told(one, value) for one, value in zip(fields, of_each, strict=True)]
        rows.append({"slug": row.slug, "name": row.name, "status": row.status, "cells": cells})
    return page.total, rows


def _ranges(is_in: Sequence[bool]) -> str:
    """ "0-4,7": which are in."""
    found: list[list[int]] = []
    for i, one in enumerate(is_in):
        if not one:
            continue
        if found and found[-1][1] == i - 1:
            found[-1][1] = i
        else:
            found.append([i, i])
    return ",".join(f"{first}-{last}" if first != last else f"{first}" for first, last in found) or "-"
