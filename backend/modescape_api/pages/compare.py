"""Several experiments side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response

from modescape.comparing import MOST, compare, told_apart, voice_of_all
from modescape.comparing.ensembles import plain
from modescape.drawing.figure import Legend, of_experiment
from modescape.drawing.overlay import MARK, MOST_COLOURS
from modescape.listing import ListQuery
from modescape.registry import Figure, architectures, figures, methods, studies
from modescape.spec import stored
from modescape.tables import Experiment
from modescape_api.http.site import Here
from modescape_api.pages.display import by_kind, crumbs, said_not_known
from modescape_api.pages.experiment import Card, card_of, legend_of
from modescape_api.pages.rendering import render, visits
from modescape_api.resources.compare import Reference, chosen

router = APIRouter()


@router.get("/compare")
def compare_page(
    request: Request, here: Here, e: Annotated[tuple[str, ...], Query()] = (), pictures: str = "one",
    reference: Reference = "",
) -> Response:  # fmt: skip
    """Two and more experiments on one picture or side by side; with fewer, a form that asks for them."""
    asked = chosen(here, e)
    rows = [one.experiment for one in asked]
    slugs = [row.slug for row in rows]

    def beside(names: Sequence[str]) -> str:
        kept = [("pictures", "beside")] if pictures == "beside" else []
        kept += [("from", reference)] if reference in names else []
        return f"/compare?{urlencode([*(('e', name) for name in names), *kept])}"

    found = compare(*asked, reference=reference or None) if len(asked) > 1 else None
    of_all = [("e", slug) for slug in slugs]
    voice = voice_of_all(rows)
    groups: list[tuple[int, Figure, list[tuple[Experiment, Card]]]] = []
    legend: dict[str, Legend] = {}
    if found:
        kinds = [by_kind(here.store.stages.without_results(row.id)) for row in rows]
        for number, figure in enumerate(figures.values(), 1):
            figure = of_experiment(figure, voice)
            cards = [card_of(number, figure, own) for own in kinds]
            if sum(card.planned for card in cards) > 1:
                groups.append((number, figure, list(zip(rows, cards, strict=True))))
        for row in rows:
            legend |= {entry.group: entry for entry in legend_of(stored(row.spec), voice)}
    may_add = len(rows) < MOST and not visits(request)
    newest = here.store.experiments.page(ListQuery(limit=100)).items if may_add else []
    others = [row for row in newest if row.slug not in slugs]
    listed = [*rows, *others]
    return render(
        request,
        here,
        "compare.html",
        section="/compare",
        rows=rows,
        named=dict(zip([row.slug for row in listed], told_apart(listed), strict=True)),
        found=found,
        voice=voice,
        groups=groups,
        legend=list(legend.values()),
        without=[beside([name for name in slugs if name != slug]) for slug in slugs],
        others=others,
        last_event=here.store.events.last_id(),
        query=urlencode(of_all),
        numbers_query=urlencode([*of_all, *([("from", reference)] if reference else [])]),
        is_beside=pictures == "beside",
        is_coloured=len(rows) <= MOST_COLOURS,
        is_inked=pictures != "beside" and len(rows) <= MOST_COLOURS,
        mark=MARK,
        notice=said_not_known(*rows) or None,
        plain=plain,
        gap=lambda value, unit: f"{'+' if value > 0 else ''}{plain(value, unit)}",
        title_of=lambda field: _title(field, [row.spec for row in rows]),
    )


def _title(field: str, specs: Sequence[Mapping[str, Any]]) -> str:
    """A field of a spec in words; an option of a network or a method as its own description says it."""
    if field in studies:
        return studies[field].title
    *path, name = field.split(".")
    entries: list[Any] = []
    if path == ["network", "options"]:
        asked = [spec.get("network") or {} for spec in specs]
        entries = [architectures[one["architecture"]] for one in asked if one.get("architecture") in architectures]
    elif path[:1] == ["methods"] and path[2:] == ["options"] and path[1] in methods:
        entries = [methods[path[1]]]
    for entry in entries:
        found = entry.options.model_fields.get(name)
        if found is not None and found.description:
            said = found.description.split(";")[0].split(". ")[0].rstrip(".")
            return f"{crumbs('.'.join(path))} › {said[:1].lower()}{said[1:]}"
    return crumbs(field)
