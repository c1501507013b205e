"""What differs between experiments, over HTTP (`modescape.comparing`), and their figures laid over each other."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from modescape.comparing import MOST, compare, told_apart
from modescape.drawing import forms
from modescape.drawing.overlay import Member, over, overlaid
from modescape.drawing.progress import Progress, progress
from modescape.drawing.reading import FigureNotReady
from modescape.errors import InvalidInput
from modescape.results import Results
from modescape_api.http import problems, replies
from modescape_api.http.site import Here, Site
from modescape_api.resources.examples import Example
from modescape_api.resources.figures import HTML_POLICY, OWN, Ask, build, named, read_ask

router = APIRouter(tags=["results"])


def chosen(here: Site, references: Sequence[str]) -> list[Results]:
    """The experiments named, each once. Raises NotFound, or InvalidInput where they are too many."""
    names = list(dict.fromkeys(filter(None, references)))
    if len(names) > MOST:
        raise InvalidInput(f"{len(names)} experiments were named", field="e", allowed=f"up to {MOST} of them")
    return list({one.experiment.id: one for one in map(here.laboratory.results, names)}.values())


Reference = Annotated[str, Query(alias="from", max_length=80, description="Of which differences are; the first one.")]


@router.get(
    "/api/compare",
    summary="What differs between several experiments",
    description="Fields of their specs that are not equal, their numbers with 95 % intervals over runs, differences "
    "from one of them (without an interval where both hold the same networks), and their claims; as CSV the numbers "
    "and differences.",
    responses={
        200: {
            "description": "Side by side",
            "content": {"application/json": {"example": Example("comparison")}, "text/csv": {}},
        },
        **problems.documented("not-found", "not-acceptable", "invalid-input"),
    },
)
def read(
    request: Request,
    here: Here,
    e: Annotated[list[str], Query(description="Slugs or ids: `?e=a&e=b`.", examples=[["fig-6-short"]])],
    reference: Reference = "",
) -> Response:
    form = replies.wanted(request, ("json", "csv"))
    asked = chosen(here, e)
    if len(asked) < 2:
        raise InvalidInput("one experiment alone has nothing to be compared with", field="e", allowed=f"two to {MOST}")
    found = compare(*asked, reference=reference or None)
    if form == "json":
        return replies.json(found.document())
    table = found.table()
    headers = {"content-disposition": 'inline; filename="compared.csv"', "vary": "accept"}
    content = b"".join(replies.csv_lines(table.columns, table.rows))
    return Response(content, headers=headers, media_type=replies.CSV)


@router.get(
    "/api/compare/figures/{name}",
    summary="One figure of several experiments on the same axes",
    description="`plane.json`, `plane.csv`, `plane.html`. Colour means experiment, up to eight; of more all are "
    "grey. The figure's own options are further parameters, asked of every experiment.",
    responses={
        200: {
            "description": "The figure",
            "content": {
                "application/json": {"example": Example("figure")},
                "text/csv": {"example": "experiment,panel,method,x,y\r\na,plane,dropout,88,.3\r\n"},
                "text/html": {},
            },
        },
        304: {"description": "Unchanged since the answer with that ETag"},
        **problems.documented("not-found", "not-acceptable", "invalid-input"),
    },
)
def read_over(
    request: Request,
    here: Here,
    name: str,
    e: Annotated[list[str], Query(description="Slugs or ids: `?e=a&e=b`.", examples=[["fig-6-short"]])],
    theme: Annotated[str, Query(description="light, dark or print.")] = "light",
    arrays: Annotated[str, Query(description="typed: base64 float32, small and fast; list: plain numbers.")] = "typed",
    frame: Annotated[int, Query(ge=0, le=4000, description="JSON only: px of a picture with its words around it.")] = 0,
) -> Response:
    bare, dot, suffix = name.partition(".")
    if named(bare).lay is None:
        raise InvalidInput(f"{bare} of several experiments cannot be laid over each other", field="name")
    form = replies.wanted(request, ("json", "csv", "html"), suffix=suffix if dot else None)
    ask = read_ask(request, bare, form, theme, arrays, frame, forms.Asked(form), own=(*OWN, "e"))
    asked = chosen(here, e)
    if not asked:
        raise InvalidInput("names no experiment", field="e", allowed=f"one to {MOST}")
    about = [progress(ask.figure, here.store.stages.without_results(one.experiment.id), one) for one in asked]
    names = told_apart([one.experiment for one in asked])
    etag = replies.tag(*(one.version for one in about), *(one.experiment.id for one in asked), *names, form, theme,
                       arrays, frame, ask.options.model_dump_json())  # fmt: skip
    headers = {"etag": etag, "cache-control": replies.REVALIDATE, "vary": "accept, accept-encoding"}
    if replies.unchanged(request, etag):
        return Response(status_code=304, headers=headers)
    members = [_member(ask, results, name) for results, name in zip(asked, names, strict=True)]
    data = overlaid(ask.figure, ask.options, members)
    if form == "html":
        headers["content-security-policy"] = HTML_POLICY
    if form != "json":
        headers["content-disposition"] = f'inline; filename="compared-{bare}.{form}"'
    answer = build(", ".join(names), replace(ask, figure=over(ask.figure)), data, _of_all(about))
    if replies.accepts_gzip(request):
        answer, headers["content-encoding"] = gzip.compress(answer, 5), "gzip"
    return Response(answer, headers=headers, media_type=forms.FORMS[form].media)


def _member(ask: Ask, results: Results, name: str) -> Member:
    slug = results.experiment.slug
    try:
        data = ask.figure.call(results, ask.options.of(results))
    except FigureNotReady as waiting:
        return Member(slug, name, why=waiting.reason)
    assert ask.figure.lay is not None  # asked before
    return Member(slug, name, ask.figure.lay(data))


def _of_all(about: Sequence[Progress]) -> Progress:
    """How far the figure of all of them is."""
    return Progress(
        needs=tuple(need for one in about for need in one.needs),
        version="-".join(one.version for one in about),
        alive=frozenset().union(*(one.alive for one in about)),
        planned=frozenset().union(*(one.planned for one in about)),
        broke=any(one.broke for one in about),
    )
