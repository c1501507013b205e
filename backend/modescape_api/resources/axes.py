"""Values of many experiments along axes, as plots show them: of what a search finds, or of those compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from modescape import asking
from modescape.axes import Axis, axis_field, lay
from modescape.columns import EXPERIMENTS, Field, Kind
from modescape.comparing import compare, told_apart
from modescape.comparing.ensembles import TITLES
from modescape.errors import InvalidInput
from modescape.listing import Condition, ListQuery
from modescape.records import Json, Status
from modescape.results import Results
from modescape_api.http import problems, query, replies
from modescape_api.http.site import Here, Site
from modescape_api.resources.compare import chosen
from modescape_api.resources.examples import Example

router = APIRouter(tags=["experiments"])

MOST = 2_000  # experiments of one answer, and of one plot
MOST_AXES = 12
USUAL = ("architecture", "runs", "seconds", "accuracy", "ensemble_accuracy", "disagreement")
OWN = ("axes", "log", "e", "format")  # parameters that are no questions to the list
COMPARED = "compare."
# Numbers of a comparison that no column of the list has: they are read off predictions.
OF_COMPARISON = {
    f"{COMPARED}{name}": Field(f"{COMPARED}{name}", Kind.NUMBER, None, TITLES[name][0])
    for name in ("diversity", "brier", "ensemble-brier", "nll", "ensemble-nll", "ece", "ensemble-ece")
}


@dataclass(frozen=True)
class Laid:
    """total: how many were found, of which these are as many as are drawn; axes: by name."""

    total: int
    slugs: tuple[str, ...]
    names: tuple[str, ...]
    states: tuple[Status, ...]
    axes: dict[str, Axis]

    @property
    def is_thinned(self) -> bool:
        return len(self.slugs) < self.total

    @cached_property
    def place(self) -> dict[str, int]:
        return {slug: i for i, slug in enumerate(self.slugs)}


def field_of(name: str, *, is_comparison: bool, of: str = "axes") -> Field:
    """Raises InvalidInput."""
    if name in OF_COMPARISON and is_comparison:
        return OF_COMPARISON[name]
    if name in OF_COMPARISON:
        raise InvalidInput(f"{name} is a number of a comparison", field=of, allowed="it needs e=<slug> of two or more")
    return axis_field(name, of=of)


def laid(
    here: Site, found: ListQuery, fields: Sequence[Field], *, compared: Sequence[Results] = (), log: Sequence[str] = ()
) -> Laid:
    """compared: experiments instead of a query. log: names of fields whose axes are otherwise than by nature."""
    computed = [field for field in fields if field.name in OF_COMPARISON]
    stored = [field.name for field in fields if field.name not in OF_COMPARISON]
    slugs = [one.experiment.slug for one in compared]
    if compared:
        found = ListQuery((Condition("slug", "in", tuple(slugs)),), archived=None)
    along = here.store.experiments.along(found, stored, MOST)
    order = range(len(along.slugs))
    if compared:
        order = sorted(order, key=lambda i: slugs.index(along.slugs[i]))  # type: ignore[assignment]
    values: dict[str, list[Any]] = {name: [of_each[i] for i in order] for name, of_each in along.values.items()}
    if computed:
        known = {f"{COMPARED}{one.name}": one for one in compare(*compared).numbers} if len(compared) > 1 else {}
        for field in computed:
            of_each = known[field.name].values if field.name in known else (None,) * len(slugs)
            values[field.name] = [None if one is None else one.value for one in of_each]
    names = [along.names[i] for i in order]
    if compared:
        names = told_apart([one.experiment for one in compared])
    axes = {one.name: _axis(one, values[one.name], log) for one in fields}
    return Laid(
        along.total, tuple(along.slugs[i] for i in order), tuple(names), tuple(along.states[i] for i in order), axes
    )  # fmt: skip


def _axis(field: Field, values: Sequence[Any], log: Sequence[str]) -> Axis:
    axis = lay(field, values)
    return lay(field, values, log=not axis.is_log) if field.name in log else axis


def named(text: str) -> list[str]:
    """Names with commas between, each once. Raises InvalidInput for more than MOST_AXES."""
    found = list(dict.fromkeys(one.strip() for one in text.split(",") if one.strip()))
    if len(found) > MOST_AXES:
        raise InvalidInput(f"names {len(found)} axes", field="axes", allowed=f"at most {MOST_AXES}")
    return found


@router.get(
    "/api/axes",
    summary="Values of many experiments along axes",
    description="Any fields of the experiments that the filters find, also `spec.<path>` and `result.<path>`; or with "
    "`e`, of those named, and numbers of their comparison (`compare.brier`). Of each axis how it is laid (`log` where "
    "values are chosen by factors), its ends, its words, and how many experiments are `without` a value. "
    f"Of more than {MOST:,} experiments as many are given, evenly from the first of the list to its last; `total` says "
    "how many there are. As CSV a row an experiment.",
    openapi_extra={"parameters": list(query.parameters(EXPERIMENTS, paged=False))},
    responses={
        200: {
            "description": "Columns of values, null where there is none",
            "content": {"application/json": {"example": Example("axes")}, "text/csv": {}, "application/x-ndjson": {}},
        },
        **problems.documented("not-found", "not-acceptable", "invalid-input"),
    },
)
def read(
    request: Request,
    here: Here,
    axes: Annotated[
        str, Query(max_length=1000, description=f"Names of fields, separated by commas, at most {MOST_AXES}.")
    ] = ",".join(USUAL),
    log: Annotated[str, Query(max_length=1000, description="Those that are not to be laid as by nature.")] = "",
    e: Annotated[tuple[str, ...], Query(description="Slugs or ids instead of filters: `?e=a&e=b`.")] = (),
) -> Response:
    compared = chosen(here, e)
    fields = [field_of(name, is_comparison=bool(compared)) for name in named(axes)]
    asked = query.read(EXPERIMENTS, request.query_params, but=OWN)
    if compared:
        asked = replace(asked, words="Experiments of a comparison")
    found = laid(here, asked.query, fields, compared=compared, log=named(log))
    form = replies.wanted(request, ("json", "csv", "ndjson"))
    if form == "json":
        return replies.json(document(found, asked))
    rows = [
        {"slug": slug, "name": found.names[i], **{name: axis.values[i] for name, axis in found.axes.items()}}
        for i, slug in enumerate(found.slugs)
    ]
    return replies.whole(request, rows, asked.words, columns=("slug", "name", *found.axes), name="axes")


def document(found: Laid, asked: asking.Asked) -> Json:
    return {
        "words": asked.words,
        "total": found.total,
        "experiments": found.slugs,
        "names": found.names,
        "axes": [
            {
                "name": axis.name, "title": axis.title, "kind": axis.kind, "log": axis.is_log,
                "low": axis.low, "high": axis.high, "without": axis.without,
                "words": [tick.value for tick in axis.ticks if tick.value] if axis.kind == "words" else [],
                "values": axis.values,
            }
            for axis in found.axes.values()
        ],
    }  # fmt: skip
