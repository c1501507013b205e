"""Figures over HTTP: the same numbers as Plotly JSON, CSV and a page of their own; 304 while nothing has changed.

A figure's ETag is made of the drawing code's version, the state of the stages it shows and the parameters, so asking
again is cheap: a handful of rows is read, nothing is computed. Answers are kept compressed, newest first.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from threading import Lock
from typing import Annotated, Literal, get_args

from cachetools import LRUCache, cached
from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError

from modescape.drawing import forms
from modescape.drawing.figure import FigureData, csv, encode, of_experiment
from modescape.drawing.frame import Frame, framed, html
from modescape.drawing.options import FigureOptions
from modescape.drawing.overlay import MOST_COLOURS, in_one_ink
from modescape.drawing.progress import Progress, progress, state
from modescape.drawing.reading import FigureNotReady
from modescape.drawing.style import Theme
from modescape.errors import InvalidInput, NotFound, Problem
from modescape.pydantic_errors import invalid
from modescape.records import Json
from modescape.registry import Figure, figures
from modescape.results import Results
from modescape.tables import Stage
from modescape.voice import Voice
from modescape_api.http import problems, replies
from modescape_api.http.proxies import at
from modescape_api.http.refusal import Refusal
from modescape_api.http.site import Here, Site, gone
from modescape_api.resources.examples import Example, answers

router = APIRouter(tags=["figures"])

FORMS = tuple(forms.FORMS)
# parameters of the answer; the others are the figure's options
OWN = ("theme", "arrays", "format", "frame", "width", "height", "scale", "ink")


# -- states -----------------------------------------------------------------------------------------------------------


@cached(
    LRUCache(8192),
    key=lambda results, figure, about: (results.experiment.id, about.version, about.alive),
    lock=Lock(),
)
def state_by_default(results: Results, figure: Figure, about: Progress) -> str:
    """Of the figure with nothing chosen. It is asked once while nothing changes: a list of many would be slow."""
    return state(about, asked(results, figure, options(figure, {})))


@cached(
    LRUCache(2048),
    key=lambda results, figure, stages: (results.experiment.id, progress(figure, stages, results).version),
    lock=Lock(),
)
def refused_by_default(results: Results, figure: Figure, stages: list[Stage]) -> str:
    """Why the figure with nothing chosen has nothing to show; "" where it has."""
    found = asked(results, figure, options(figure, {}))
    return found.reason if isinstance(found, FigureNotReady) else ""


def asked(results: Results, figure: Figure, options: FigureOptions) -> FigureData | FigureNotReady:
    """The numbers of a figure, or why there are none."""
    try:
        found: FigureData = figure.call(results, options)
    except FigureNotReady as refused:
        return refused
    return found


def as_state(slug: str, results: Results, figure: Figure, stages: list[Stage]) -> Json:
    about = progress(figure, stages, results)
    base = at(f"/api/experiments/{slug}/figures/{figure.name}")
    return {
        **replies.picked(
            of_experiment(figure, results.voice), "name", "title", "question", "order", "paper", "summary", "source"
        ),
        "state": state_by_default(results, figure, about),
        "version": about.version,
        "needs": list(about.needs),
        "options": _described(figure.options.model_json_schema(), results.voice),
        "links": {form: f"{base}.{form}" for form in FORMS},
    }


def _described(schema: Json, voice: Voice) -> Json:
    """A schema of options whose descriptions are as the experiment says them."""
    told: Json = {
        name: {**about, "description": voice(about["description"])} if "description" in about else about
        for name, about in schema.get("properties", {}).items()
    }
    return {**schema, "properties": told}


@router.get(
    "/api/experiments/{experiment}/figures",
    summary="The figures of an experiment and how far each is",
    responses=answers("In the order of the argument", "figures", "not-found"),
)
def list_figures(request: Request, here: Here, experiment: str) -> Response:
    results = here.laboratory.results(experiment)
    row = results.experiment
    stages = here.store.stages.without_results(row.id)
    items = [as_state(row.slug, results, figure, stages) for figure in figures.values()]
    return replies.whole(request, items, f"Figures of {row.slug}", columns=tuple(items[0]), name="figures")


@router.get(
    "/api/figure-forms",
    summary="The forms in which figures are given, and what is missing for some",
    responses=answers("In the order of the buttons", "figure-forms"),
)
def list_forms(request: Request) -> Response:
    items = [
        {**replies.picked(form, "name", "title", "media", "summary"), "missing": form.missing()}
        for form in forms.FORMS.values()
    ]
    return replies.whole(request, items, "Forms of figures", columns=tuple(items[0]), name="figure-forms")


# -- one figure -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ask:
    """One figure as asked for. options: of the figure itself, checked; frame: px of a picture with all its words around
    it, 0 without; size: of a picture that another process draws; given: options as they were asked for; ink: the place
    of its experiment among several, whose colour it has then."""

    figure: Figure
    form: str
    theme: Theme
    arrays: Literal["typed", "list"]
    options: FigureOptions
    frame: int
    size: forms.Asked
    given: Json
    ink: int | None = None


def named(name: str) -> Figure:
    """Raises NotFound."""
    if name not in figures:
        raise NotFound(f"there is no figure {name[:80]!r}; there are {', '.join(figures)}")
    return figures[name]


def read_ask(
    request: Request, name: str, form: str, theme: str, arrays: str, frame: int, size: forms.Asked,
    own: Sequence[str] = OWN,
) -> Ask:  # fmt: skip
    """own: parameters of the answer, not of the figure. Raises NotFound for an unknown figure, InvalidInput for a
    parameter that is not allowed."""
    figure = named(name)
    given = {key: value for key, value in request.query_params.items() if key not in own and value != ""}
    found: list[Problem] = []
    chosen = None
    try:
        chosen = options(figure, given)
    except InvalidInput as error:
        found += error.problems
    for key, value, allowed in (("theme", theme, get_args(Theme)), ("arrays", arrays, ("typed", "list"))):
        if value not in allowed:
            found.append(Problem(f"is {value[:40]!r}", key, ", ".join(allowed)))
    if 0 < frame < forms.LEAST:
        found.append(Problem(f"is {frame}", "frame", f"0, or {forms.LEAST} to {forms.MOST} px"))
    if found:
        raise InvalidInput("; ".join(str(problem) for problem in found), problems=found)
    listed = {key: _listed(figure, key, value) for key, value in given.items()}
    return Ask(figure, form, theme, arrays, chosen, frame, size, listed)  # type: ignore[arg-type]  # checked above


def options(figure: Figure, given: Mapping[str, str]) -> FigureOptions:
    """The figure's options as the texts of a query string say. Raises InvalidInput naming each that is not allowed."""
    try:
        found = figure.options.model_validate({key: _listed(figure, key, value) for key, value in given.items()})
    except ValidationError as error:
        raise invalid(error, figure.options) from None
    assert isinstance(found, FigureOptions)  # which the registry need not know
    return found


def _listed(figure: Figure, key: str, value: str) -> str | list[str]:
    """A query string has no lists: `methods=a,b` is one for options whose schema says array."""
    schema = figure.options.model_json_schema()["properties"].get(key, {})
    kinds = [schema.get("type"), *(option.get("type") for option in schema.get("anyOf", ()))]
    return [part for part in value.split(",") if part] if "array" in kinds else value


def words(data: FigureData, figure: Figure, about: Progress) -> Json:
    """What a figure says beside its picture."""
    told = figure.tell(data)
    return {
        **replies.picked(of_experiment(figure, data.voice), "name", "question", "title", "paper"),
        **replies.picked(told, "caption", "summary"),
        "notes": asdict(told.notes),
        "legend": [asdict(entry) for entry in data.legend],
        **replies.picked(data, "partial", "missing", "thinned"),
        "state": state(about, data),
        "version": about.version,
    }


def build(name: str, ask: Ask, data: FigureData, about: Progress) -> bytes:
    """The body in the form asked for, of the experiment, or the experiments, of that name."""
    if ask.form == "csv":
        return csv(data).encode()
    drawn, said = ask.figure.draw(data, ask.theme), Frame.of(ask.figure, data, name)
    if ask.ink is not None:
        drawn = in_one_ink(drawn, ask.ink, ask.theme)
        said = replace(said, plain=frozenset(entry.group for entry in said.legend))
    if ask.form == "html":
        return html(drawn, said, theme=ask.theme).encode()
    if ask.frame:
        drawn = framed(drawn, said, ask.theme, ask.frame)
    picture = encode(drawn, ask.arrays)
    return picture[:-1] + b',"words":' + replies.encode(words(data, ask.figure, about)) + b"}"


@cached(LRUCache(16 * 2**20, getsizeof=len), key=lambda etag, *_: etag, lock=Lock())
def packed(etag: str, results: Results, ask: Ask, about: Progress) -> bytes:
    """The answer, compressed, of those the most used kept in 16 MB. Raises FigureNotReady."""
    data = ask.figure.call(results, ask.options)
    return gzip.compress(build(results.experiment.name, ask, data, about), 5)


@cached(LRUCache(32 * 2**20, getsizeof=len), key=lambda etag, *_: etag, lock=Lock())
def made(etag: str, here: Site, slug: str, ask: Ask, link: str, is_gone: Callable[[], bool]) -> bytes:
    """The answer in a form that another process makes, the most used kept in 32 MB. Raises as `Maker.make`, and
    Refusal (406) where what makes it is missing."""
    if lack := forms.FORMS[ask.form].missing():
        said = f"{forms.FORMS[ask.form].title} cannot be made here: {lack}"
        raise Refusal("not-acceptable", said, problems=[Problem(lack, "format", ", ".join(there()))])
    return here.maker.make({
        "what": "figure", "experiment": slug, "figure": ask.figure.name, "options": ask.given, "link": link,
        "asked": asdict(ask.size),
    }, is_gone=is_gone)  # fmt: skip


def there() -> list[str]:
    """The forms for which nothing is missing."""
    return [name for name, form in forms.FORMS.items() if not form.missing()]


# A figure's own page carries Plotly inside it, so it may run its inline script, but has no origin and reaches nothing.
HTML_POLICY = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data: blob:; frame-ancestors 'none'"
)


@router.get(
    "/api/experiments/{experiment}/figures/{name}",
    summary="One figure as Plotly JSON, CSV, HTML, SVG, PNG, PDF, Parquet, LaTeX or Python",
    description="`plane.json`, `plane.csv`, `plane.pdf`, or a bare name with an Accept header; `/api/figure-forms` "
    "lists the forms, and what keeps one from being made here. The figure's own options are further parameters; the "
    "catalogue lists them. Its words (caption, summary, notes) are beside the picture in `words` of JSON, around it in "
    "SVG, PNG and PDF.",
    responses={
        200: {
            "description": "The figure",
            "content": {
                "application/json": {"example": Example("figure")},
                "text/csv": {"example": "solution,method,accuracy,diversity\r\n12,dropout,0.881,0.31\r\n"},
                "text/html": {},
                **{form.media.partition(";")[0]: {} for form in forms.FORMS.values() if not form.is_text},
            },
        },
        304: {"description": "Unchanged since the answer with that ETag"},
        **problems.documented("not-found", "conflict", "gone", "not-acceptable", "invalid-input"),
    },
)
def read_figure(
    request: Request,
    here: Here,
    experiment: str,
    name: str,
    theme: Annotated[str, Query(description="light, dark or print.")] = "light",
    arrays: Annotated[str, Query(description="typed: base64 float32, small and fast; list: plain numbers.")] = "typed",
    frame: Annotated[
        int,
        Query(
            ge=0,
            le=4000,
            description="JSON only: a picture of that many pixels, 320 at least, title, experiment, legend and caption "
            "around it; 0 without.",
        ),
    ] = 0,
    width: Annotated[
        int, Query(ge=forms.LEAST, le=forms.MOST, description="SVG, PNG, PDF only: px of the picture.")
    ] = forms.PAGE,
    height: Annotated[
        int, Query(ge=0, le=forms.MOST, description="SVG, PNG, PDF only: px of the plot; 0 as on the page.")
    ] = 0,
    scale: Annotated[float, Query(ge=1, le=forms.LARGEST, description="PNG only: device pixels for each.")] = 2.0,
    ink: Annotated[
        int | None,
        Query(
            ge=0,
            lt=MOST_COLOURS,
            description="JSON and HTML only: the place of the experiment among several, whose colour all of its "
            "methods have beside pictures in which colour means experiment.",
        ),
    ] = None,
) -> Response:
    bare, dot, suffix = name.partition(".")
    named(bare)
    form = replies.wanted(request, FORMS, suffix=suffix if dot else None)
    size = forms.checked(forms.Asked(form, "light", width, height or None, scale))
    ask = read_ask(request, bare, form, theme, arrays, frame, size)
    ask = replace(ask, size=replace(size, theme=ask.theme), ink=ink)
    results = here.laboratory.results(experiment)
    ask = replace(ask, options=ask.options.of(results))
    slug = results.experiment.slug
    about = progress(ask.figure, here.store.stages.without_results(results.experiment.id), results)
    said = ask.options.model_dump_json()
    link = str(request.base_url).rstrip("/") + at("") if form == "py" else ""
    etag = replies.tag(
        about.version,
        results.experiment.id,
        results.experiment.name,
        form,
        theme,
        arrays,
        frame,
        said,
        ask.size,
        link,
        ink,
    )
    headers = {"etag": etag, "cache-control": replies.REVALIDATE, "vary": "accept, accept-encoding"}
    if replies.unchanged(request, etag):
        return Response(status_code=304, headers=headers)
    if form != "json":
        shown = "inline" if forms.FORMS[form].is_text else "attachment"
        headers["content-disposition"] = f'{shown}; filename="{slug}-{bare}.{form}"'
    media = forms.FORMS[form].media
    try:
        if not forms.FORMS[form].is_text:
            return Response(made(etag, here, slug, ask, link, gone(request)), headers=headers, media_type=media)
        answer = packed(etag, results, ask, about)
    except FigureNotReady as waiting:
        return not_ready(request, waiting, about)
    if form == "html":
        headers["content-security-policy"] = HTML_POLICY
    if replies.accepts_gzip(request):
        return Response(answer, headers={**headers, "content-encoding": "gzip"}, media_type=media)
    return Response(gzip.decompress(answer), headers=headers, media_type=media)


def not_ready(request: Request, waiting: FigureNotReady, about: Progress) -> Response:
    """409 with what it waits for, so that a page can say so instead of showing an empty axis; 202 to whoever waits."""
    more = {"state": state(about, waiting), "waits_for": list(waiting.waits_for), "needs": list(about.needs)}
    if "respond-async" in request.headers.get("prefer", ""):  # RFC 7240: a page that waits anyway is not in error
        return replies.json({"detail": str(waiting), **more}, status=202, headers={"cache-control": "no-store"})
    return problems.respond(request, "conflict", str(waiting), more=more)
