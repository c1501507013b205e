"""One figure on a page of its own: its options, the picture, the numbers, the definition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from modescape.drawing.figure import Cell, FigureData, Legend, of_experiment
from modescape.drawing.options import FigureOptions
from modescape.drawing.reading import FigureNotReady
from modescape.errors import InvalidInput, NotFound
from modescape.registry import Figure, figures
from modescape.results import Results
from modescape.spec import ExperimentSpec, stored
from modescape.tables import Experiment
from modescape.voice import Voice, voice_of
from modescape_api.http.site import Here
from modescape_api.pages import forms
from modescape_api.pages.display import by_kind, dotted, said_not_known
from modescape_api.pages.experiment import legend_of, options_of
from modescape_api.pages.rendering import address, render
from modescape_api.resources import figures as figures_api

router = APIRouter()

TABLE_ROWS = 500
_UNASKED = (".size", ".method", ".points", ".surface")  # options that the page sets by itself


@router.get("/experiments/{experiment}/figures/{name}")
def figure_page(request: Request, here: Here, experiment: str, name: str, tab: str = "plot") -> Response:
    row = here.store.experiments.get(experiment)
    voice = voice_of(row.provenance, row.spec)
    figure = of_experiment(figures_api.named(name), voice)
    spec = stored(row.spec)
    tab = tab if tab in ("plot", "data", "definition") else "plot"
    options, notice = _options(figure, request)
    results = Results(here.store, here.artifacts, row.id)
    options = options.of(results)
    collected, reason = _collected(results, figure, options)
    order = [of_experiment(one, voice) for one in figures.values()]
    place = list(figures).index(figure.name)
    controls = [
        replace(
            control,
            label=voice(control.label),
            help=voice(control.help),
            choices=tuple(replace(choice, label=voice(choice.label)) for choice in control.choices),
        )
        for control in forms.option_controls(figure, "x")
    ]
    given = options.model_dump(mode="json")
    choices = options.choices(results)
    values = {key: _with_value(c, given).value for c in controls if (key := c.name.removeprefix("x.")) in choices}
    unknown = [f"{key} {v[:40]!r}" for key, v in values.items() if not set(v.split(", ")) <= {"", *choices[key]}]
    if unknown:
        notice = f"Ignored in the address: {', '.join(unknown)}"
    kinds = by_kind(here.store.stages.without_results(row.id))
    table = collected.table() if collected is not None and tab == "data" else None
    legend = _figure_legend(results, figure, options, spec)
    query = urlencode([(k, v) for k, v in request.query_params.multi_items() if k in figure.options.model_fields])
    return render(
        request,
        here,
        "figure.html",
        section="/",
        e=row,
        f=figure,
        number=place + 1,
        tab=tab,
        tab_urls={t: address(request, tab=None if t == "plot" else t) for t in ("plot", "data", "definition")},
        previous=_sibling(request, row, order, place - 1),
        following=_sibling(request, row, order, place + 1),
        voice=voice,
        has_networks=spec.imported is None,
        controls=[
            _with_choices(control, choices[control.name]) if control.name in choices else control
            for control in (_with_value(c, given) for c in controls if not c.name.endswith(_UNASKED))
            if choices.get(control.name, True)
        ],
        all_controls=[_with_value(c, given) for c in controls],
        options=options_of(figure),
        zoom={axis: request.query_params.get(f"{figure.name}.{axis}", "") for axis in ("x", "y")},
        surface=collected is not None and given.get("surface") == "flat",
        data=collected,
        told=figure.tell(collected) if collected is not None else None,
        reason=reason,
        rows_total=len(collected.rows()) if collected is not None else None,
        table=table
        and {
            "columns": list(map(voice, table.columns)),
            "rows": [_spoken(line, voice) for line in table.rows[:TABLE_ROWS]],
        },
        numeric={
            voice(c)
            for i, c in enumerate(table.columns)
            if any(isinstance(r[i], (int, float)) for r in table.rows[:20])
        }
        if table
        else set(),
        legend=legend,
        gallery=_gallery(figure, spec),
        stages=[kind for kind in kinds if kind.kind in figure.needs],
        query=query,
        last_event=here.store.events.last_id(),
        notice=dotted(notice or "", said_not_known(row)) or None,
    )


def _spoken(line: Sequence[Cell], voice: Voice) -> tuple[Cell, ...]:
    return tuple(voice(cell) if isinstance(cell, str) else cell for cell in line)


def _gallery(figure: Figure, spec: ExperimentSpec) -> str:
    """Where corruptions can be seen, for a figure of them: on this data set, unless it is somebody's own."""
    if "shift" not in figure.needs:
        return ""
    return "/gallery" if spec.data.path else f"/gallery?{urlencode({'dataset': spec.data.dataset})}"


def _options(figure: Figure, request: Request) -> tuple[FigureOptions, str | None]:
    """The figure's options as the address asks; a link with unknown values shows the default and says so."""
    known = {key: value for key, value in request.query_params.items() if key in figure.options.model_fields}
    try:
        return figures_api.options(figure, {**known, "size": "page"}), None
    except InvalidInput as error:
        return figures_api.options(figure, {"size": "page"}), f"Ignored in the address: {error}"


def _collected(results: Results, figure: Figure, options: FigureOptions) -> tuple[FigureData | None, str]:
    try:
        found: FigureData = figure.call(results, options)
    except FigureNotReady as missing:
        return None, missing.reason[:1].upper() + missing.reason[1:]
    except (NotFound, InvalidInput) as missing:
        return None, str(missing)
    return found, ""


def _with_value(control: forms.Control, given: Mapping[str, object]) -> forms.Control:
    name = control.name.removeprefix("x.")
    return forms.filled(control, name=name, value=given.get(name))


def _with_choices(control: forms.Control, words: Mapping[str, str]) -> forms.Control:
    """A choice among these values; several at once, which only an address can ask for, are one choice more."""
    several = control.value.replace(", ", ",")
    if "," in several:
        words = {**words, several: f"{several.count(',') + 1} chosen"}
    return forms.with_choices(replace(control, value=several), words)


def _sibling(request: Request, row: Experiment, order: Sequence[Figure], place: int) -> dict[str, str] | None:
    if not 0 <= place < len(order):
        return None
    kept = {key: value for key in ("sel", "split", "color", "method") if (value := request.query_params.get(key))}
    query = f"?{urlencode(kept)}" if kept else ""
    return {"title": order[place].title, "url": f"/experiments/{row.slug}/figures/{order[place].name}{query}"}


def _figure_legend(results: Results, figure: Figure, options: FigureOptions, spec: ExperimentSpec) -> list[Legend]:
    """Every group the figure can show; those that `method` leaves out, or the figure by itself, are off."""
    asked = getattr(options, "method", ())
    collected, _ = _collected(results, figure, options.model_copy(update={"method": ()}) if asked else options)
    if collected is None:
        return legend_of(spec, results.voice)
    return [replace(one, on=one.group in asked) if asked else one for one in collected.legend]
