"""Single examples of an experiment: which images its members disagree on, with a plot and a table in one selection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from modescape.asking import Asked
from modescape.columns import Kind
from modescape.drawing.words import thousands
from modescape.errors import InvalidInput
from modescape.example_list import Example, ExampleField, ExampleSet, ExamplesNotReady, sets_of
from modescape.listing import Page
from modescape.records import Json
from modescape.tables import Experiment
from modescape.voice import Voice
from modescape_api.http import query
from modescape_api.http.site import Here
from modescape_api.pages.display import dotted
from modescape_api.pages.rendering import address, back, render
from modescape_api.resources.each_example import as_class, ask_for, axes, conditions, numbers_of

router = APIRouter()

SURE = 0.9  # "sure" in the page's filter: a probability that people call so
_LISTED = 8  # labels of members named in a cell

# What the page lets one choose with a click: words, and the conditions.
_CHOICES: tuple[tuple[str, Mapping[str, str]], ...] = (
    ("All", {}),
    ("Members disagree", {"split": "true"}),
    ("Wrong", {"wrong": "true"}),
    ("Wrong and sure", {"wrong_and_sure__gte": f"{SURE:g}"}),
)
_CHOSEN = sorted({key for _, asked in _CHOICES for key in asked})


@dataclass(frozen=True)
class Row:
    """One line of the table. cells: of the numbers shown, in words; votes: labels of members, most first; each: every
    member's, in words; picture: its address, or ""."""

    example: Example
    label: str
    answer: str
    cells: tuple[str, ...]
    votes: str
    each: tuple[str, ...]
    picture: str


@router.get("/experiments/{experiment}/examples")
def examples_page(request: Request, here: Here, experiment: str) -> Response:
    row = here.store.experiments.get(experiment)
    results = here.laboratory.results(row.id)
    common: dict[str, Any] = {
        "section": "/", "e": row, "last_event": here.store.events.last_id(), "voice": results.voice
    }  # fmt: skip
    try:
        sets = sets_of(results)
        kept = ExampleSet.of(results, request.query_params.get("set"))
    except ExamplesNotReady as missing:
        return render(request, here, "examples.html", **common, missing=missing, kept=None)
    asked = query.read(kept.fields, conditions(request, without=("marked",)), lenient=True)
    page, notices = _page(kept, asked)
    x, y = axes(kept, *_known_axes(kept, request))
    shown = _shown(kept)
    return render(
        request,
        here,
        "examples.html",
        **common,
        missing=None,
        kept=kept,
        sets=sets,
        axes=(x, y),
        numbers=[kept.fields.asked[name] for name in numbers_of(kept)],
        choices=_choices(request, kept),
        kept_parameters=[
            (key, value)
            for key, value in request.query_params.multi_items()
            if key not in ("set", "label", "x", "y", "cursor", "marked") and value
        ],
        label=request.query_params.get("label", ""),
        chips=[(chip.text, _with_own(request, chip.without)) for chip in asked.chips],
        heads=[_head(request, field) for field in shown],
        index_head=_head(request, kept.fields.asked["index"]),
        rows=[_row(row, kept, one, shown, results.voice) for one in page.items],
        total=page.total,
        first_url=address(request, cursor=None) if request.query_params.get("cursor") else None,
        next_url=address(request, cursor=page.next) if page.next else None,
        clear_url=_with_own(request, ""),
        classes=[as_class(one, kept.classes) for one in kept.by_class()],
        class_url=lambda label: address(request, label=f"{label}", cursor=None),
        csv_url=address(request, path=f"/api/experiments/{row.slug}/examples", format="csv", cursor=None, marked=None),
        json_url=address(request, path=f"/api/experiments/{row.slug}/examples", marked=None),
        untold=kept.untold,
        unpictured=kept.unpictured,
        sentence=asked.words,
        notice=dotted(*asked.notices, *notices) or None,
    )


def _page(kept: ExampleSet, asked: Asked) -> tuple[Page[Example], list[str]]:
    """The rows; those of the first page, with a notice, where an old link's cursor belongs to another list."""
    try:
        return kept.page(asked.query), []
    except InvalidInput as error:
        return kept.page(replace(asked.query, cursor=None)), [f"Ignored: {error}"]


def _known_axes(kept: ExampleSet, request: Request) -> tuple[str | None, str | None]:
    told = numbers_of(kept)
    asked = (request.query_params.get(name) for name in ("x", "y"))
    x, y = (name if name in told else None for name in asked)
    return x, y


def _shown(kept: ExampleSet) -> list[ExampleField]:
    """The numbers of the table; what the votes say is for ensembles of which no more is known."""
    told = [kept.fields.asked[name] for name in numbers_of(kept)]
    plain = [field for field in told if field.name not in ("vote_entropy", "members_wrong")]
    return plain if len(plain) > 1 else told


def _with_own(request: Request, asked: str) -> str:
    """This page with other conditions, and what are none as they are."""
    own = [(key, value) for key in ("set", "x", "y") if (value := request.query_params.get(key))]
    both = "&".join(filter(None, (urlencode(own), asked)))
    return request.url.path + (f"?{both}" if both else "")


def _choices(request: Request, kept: ExampleSet) -> list[Json]:
    known = {*kept.fields.asked, ""}
    found = []
    for words, asked in _CHOICES:
        if all(key.partition("__")[0] in known for key in asked):
            changes: dict[str, str | None] = {key: asked.get(key) for key in _CHOSEN}
            on = all(request.query_params.get(key) == asked.get(key) for key in _CHOSEN)
            found.append({"words": words, "url": address(request, changes=changes | {"cursor": None}), "on": on})
    return found


def _head(request: Request, field: ExampleField) -> Json:
    given = request.query_params.get("sort") or "-disagreement"
    current = given if given.removeprefix("-") == field.name else ""
    first = field.name if field.kind == Kind.WHOLE else f"-{field.name}"
    turned = field.name if current.startswith("-") else f"-{field.name}"
    sort = {"": None, "-": "descending"}.get(current[:1], "ascending")
    url = address(request, sort=turned if current else first, cursor=None)
    return {"label": field.heading, "title": field.description, "sort": sort, "url": url, "name": field.name}


def _row(row: Experiment, kept: ExampleSet, one: Example, shown: Sequence[ExampleField], voice: Voice) -> Row:
    names = kept.classes
    counted = Counter(one.votes).most_common()
    said = [f"{names[label]} × {count}" for label, count in counted[:_LISTED]]
    asked = urlencode({"set": kept.name})
    return Row(
        example=one,
        label="" if one.label is None else names[one.label],
        answer=names[one.answer],
        cells=tuple(_cell(field.name, one.numbers[field.name], len(one.votes)) for field in shown),
        votes=", ".join(said) + (" …" if len(counted) > _LISTED else ""),
        each=tuple(f"{voice('run')} {run}: {names[label]}" for run, label in zip(kept.runs, one.votes, strict=True)),
        picture=f"/api/experiments/{row.slug}/examples/{one.index}.png?{asked}" if one.index < kept.pictures else "",
    )


def _cell(name: str, value: float | None, members: int) -> str:
    if value is None:
        return "–"
    return f"{thousands(int(value))} of {members}" if name == "members_wrong" else f"{value:.3f}"


@router.post("/experiments/{experiment}/examples")
def work_out(here: Here, experiment: str) -> Response:
    ask_for(here, experiment)
    return back(f"/experiments/{here.store.experiments.get(experiment).slug}/examples")
