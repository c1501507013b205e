"""Sweeps: the list of them, and the page of one with claims by cell, numbers by field, and figures side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from modescape.acting import actor
from modescape.drawing.figure import of_experiment
from modescape.errors import NotFound
from modescape.records import Status
from modescape.registry import figures
from modescape.store.sweeps import KeptSweep
from modescape.sweeps import telling
from modescape.sweeps.asked import said, short
from modescape.sweeps.launching import Verb, is_paired
from modescape.sweeps.numbers import Numbers
from modescape_api.http.site import Here
from modescape_api.pages.display import by_kind, crumbs
from modescape_api.pages.experiment import card_of
from modescape_api.pages.rendering import back, render
from modescape_api.resources import sweeps

router = APIRouter()
MOST_BESIDE = 24  # figures drawn side by side


@router.get("/sweeps")
def sweeps_page(request: Request, here: Here) -> Response:
    archived = request.query_params.get("archived") == "true"
    found = here.store.sweeps.all(archived=archived)
    lines = [{**sweeps.as_line(one), "crumbs": [crumbs(f) for f in one.row.document["over"]]} for one in found]
    put_away = 0 if lines or archived else len(here.store.sweeps.all(archived=True))
    return render(
        request, here, "sweeps.html", lines=lines, archived=archived, put_away=put_away,
        last_event=here.store.events.last_id(),
    )  # fmt: skip


@router.get("/sweeps/{sweep}")
def sweep_page(request: Request, here: Here, sweep: str) -> Response:
    kept = here.store.sweeps.get(sweep)
    numbers = Numbers(here.laboratory, kept)
    claims = telling.told(kept, here.store.experiments.looks)
    asked = request.query_params
    shown = asked.get("show", "")
    chosen = of_experiment(figures[shown], numbers.voice) if shown in figures else None
    y = asked.get("y") if asked.get("y") in numbers.quantities else "accuracy"
    return render(
        request,
        here,
        "sweep.html",
        section="/sweeps",
        sweep=kept.row,
        paired=is_paired(kept),
        cells=kept.cells,
        fields=[{"name": field, "crumbs": crumbs(field), "short": short(field)} for field in numbers.fields],
        claims=claims,
        voice=numbers.voice,
        numbers=_rows(numbers),
        quantities=list(numbers.quantities.values()),
        chosen={"y": y, "x": asked.get("x", numbers.fields[0]), "by": asked.get("by", ""),
                "difference": asked.get("difference") == "true"},
        figures=[of_experiment(one, numbers.voice) for one in figures.values()],
        beside=[] if chosen is None else _beside(here, kept, chosen),
        figure=chosen,
        said=said,
        actions=_actions(kept),
        have_ended=all(row.status.has_ended for row in kept.experiments),
        done=sum(row.status.has_ended for row in kept.experiments),
        only=" ".join(row.id for row in kept.experiments),
        last_event=here.store.events.last_id(),
        query=request.url.query,
    )  # fmt: skip


def _rows(numbers: Numbers) -> list[dict[str, Any]]:
    """A row a number, its values in every cell as people read them."""
    rows = []
    for quantity in numbers.quantities.values():
        values = [numbers.value(place, quantity.name) for place in range(len(numbers.sweep.cells))]
        less = [numbers.difference(place, quantity.name) for place in range(len(values))]
        if any(value is not None for value in values):
            rows.append({
                "title": quantity.title,
                "values": [quantity.told(value) for value in values],
                "less": [
                    "" if one is None else
                    f"{quantity.told(one, difference=True)} {numbers.common(place, quantity.name)}".strip()
                    for place, one in enumerate(less)
                ],
            })  # fmt: skip
    return rows


def _beside(here: Here, kept: KeptSweep, figure: Any) -> list[dict[str, Any]]:
    """The chosen figure of each cell that can have it."""
    found = []
    for cell in kept.cells[:MOST_BESIDE]:
        if cell.experiment is not None:
            card = card_of(0, figure, by_kind(here.store.stages.without_results(cell.experiment.id)))
            found.append({"cell": cell, "row": cell.experiment, "card": card})
    return found


_VERBS: Mapping[Verb, tuple[str, frozenset[Status]]] = {
    Verb.PAUSE: ("Pause", frozenset({Status.QUEUED, Status.RUNNING})),
    Verb.RESUME: ("Resume", frozenset({Status.PAUSED})),
    Verb.CANCEL: ("Cancel", frozenset({Status.QUEUED, Status.RUNNING, Status.PAUSED})),
    Verb.RETRY: ("Retry", frozenset({Status.FAILED, Status.CANCELLED})),
}


def _actions(kept: KeptSweep) -> Sequence[tuple[str, str]]:
    """What would change something now, as (verb, label)."""
    if not actor().owns(kept.row.created_by):
        return []
    if kept.row.archived_at is not None:
        return [(Verb.RESTORE, "Restore"), ("purge", "Delete for good")]
    states = {row.status for row in kept.experiments}
    able = [(str(verb), label) for verb, (label, when) in _VERBS.items() if states & when]
    return [*able, (Verb.ARCHIVE, "Archive")]


@router.post("/sweeps/{sweep}/{action}")
def act(request: Request, here: Here, sweep: str, action: str) -> Response:
    if action == "purge":
        sweeps.purge(here, sweep)
        return back("/sweeps?archived=true")
    if action not in tuple(Verb):
        raise NotFound(f"there is nothing at {request.url.path[:200]}")
    sweeps.act_on(here, sweep, Verb(action))
    return back("/sweeps" if action == "archive" else f"/sweeps/{sweep}")
