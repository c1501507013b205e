"""Single examples of an experiment: what its members say of each, class by class, and small pictures of them.

/api/experiments/x/examples?set=test&sort=-disagreement&wrong=true        rows, by keyset, also as CSV
/api/experiments/x/examples/classes?set=test                               class by class
/api/experiments/x/examples/points?x=mutual_information&y=loss             what a plot of them needs
/api/experiments/x/examples/17.png                                         a picture
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Path, Query, Request, Response
from numpy.typing import NDArray
from starlette.datastructures import ImmutableMultiDict

from modescape import asking
from modescape.errors import InvalidInput
from modescape.example_list import ALL_FIELDS, ExampleSet, sets_of
from modescape.records import Json, StageState
from modescape.science.examples import OfClass
from modescape_api.http import problems, query, replies
from modescape_api.http.proxies import at
from modescape_api.http.site import Here, Site
from modescape_api.resources.examples import answer, answers, listing
from modescape_api.resources.gallery import png

router = APIRouter(tags=["results"])

MOST_POINTS = 3000  # in a plot of single examples: more take a browser more than a moment to draw

SetName = Annotated[
    str | None,
    Query(max_length=200, description="Which examples: test, validation, ood/0, shift/fog/3; left out, the first."),
]
_AT = "/api/experiments/{experiment}/examples"
_OWN = ("set", "x", "y", "with")  # parameters that are no conditions


def found_in(here: Site, experiment: str, name: str | None) -> ExampleSet:
    """Raises NotFound, ExamplesNotReady, InvalidInput (`set`)."""
    return ExampleSet.of(here.laboratory.results(experiment), name)


def conditions(request: Request, *, without: tuple[str, ...] = ()) -> ImmutableMultiDict[str, str]:
    """What the address asks of the rows."""
    pairs = request.query_params.multi_items()
    return ImmutableMultiDict([pair for pair in pairs if pair[0] not in (*_OWN, *without)])


_SET: Json = {
    "name": "set", "in": "query", "required": False, "schema": {"type": "string"},
    "description": "Which examples: test, validation, ood/0, shift/fog/3; left out, the first.",
}  # fmt: skip


@router.get(
    _AT,
    summary="What the members say of each example",
    description="One row an example: its true class, the ensemble's answer, every member's label (`votes`, in the "
    "order of healthy runs), and numbers: disagreement, mutual information, entropies, the ensemble's loss and "
    "confidence. A number that needs probabilities or true labels, where there are none, is no field.",
    openapi_extra={"parameters": [_SET, *query.parameters(ALL_FIELDS)]},
    responses=listing("examples", "not-found", "not-acceptable", "invalid-input"),
)
def examples(request: Request, here: Here, experiment: str) -> Response:
    kept = found_in(here, experiment, request.query_params.get("set"))
    asked = query.read(kept.fields, conditions(request))

    def page(cursor: str | None) -> replies.Listing:
        found = kept.page(asked.query if cursor is None else replace(asked.query, cursor=cursor))
        return replies.Listing([row.document() for row in found.items], found.next, found.total, asked.words)

    name = f"{kept.results.experiment.slug}-{kept.name.replace('/', '-')}-examples"
    return replies.listing(request, page(None), columns=kept.fields.keys, more=page, name=name)


@router.post(
    _AT,
    status_code=202,
    summary="Work out what the members say of each example",
    description="For experiments that were launched before this was done for every one. Asking again changes nothing.",
    responses={
        200: answer("It is there already", "examples-asked"),
        202: answer("It is being computed", "examples-asked"),
        **problems.documented("not-found", "conflict", "invalid-input"),
    },
)
def work_out(here: Here, experiment: str) -> Response:
    row = here.store.experiments.get(experiment)
    stages = ask_for(here, experiment)
    done = all(state == StageState.SUCCEEDED for _, _, _, state in stages)
    document = {
        "stages": [{"id": id_, "kind": kind, "key": key, "state": state} for id_, kind, key, state in stages],
        "examples": at(f"/api/experiments/{row.slug}/examples"),
    }
    return replies.json(document, status=200 if done else 202, headers={"cache-control": "no-store"})


def ask_for(here: Site, experiment: str) -> list[tuple[str, str, str, StageState]]:
    """Id, kind, key and state of every stage that has a part in it, and workers told. Raises NotFound, Conflict."""
    added = here.laboratory.work_out_examples(experiment)
    here.notify_workers(added[0].experiment_id)
    return [(stage.id, stage.kind, stage.key, stage.state) for stage in added]


@router.get(f"{_AT}/sets", summary="The sets of examples there are", responses=listing("example-sets", "not-found"))
def sets(request: Request, here: Here, experiment: str) -> Response:
    results = here.laboratory.results(experiment)
    items = [asdict(one) for one in sets_of(results)]
    words = f"Sets of examples of {results.experiment.slug}"
    return replies.whole(request, items, words, columns=("name", "title", "examples"), name="sets")


def as_class(one: OfClass, names: list[str]) -> Json:
    taken_for = None if one.taken_for is None else names[one.taken_for]
    return {
        "label": one.label, "class": names[one.label], "examples": one.examples, "accuracy": one.accuracy,
        "members_accuracy": one.members_accuracy, "disagreement": one.disagreement, "taken_for": taken_for,
        "taken": one.taken,
    }  # fmt: skip


@router.get(
    f"{_AT}/classes",
    summary="What the members say, class by class",
    description="`members_accuracy`: mean over members; `disagreement`: mean over pairs of members; `taken_for`: the "
    "wrong class that the ensemble answers most often, `taken` times. Empty where nobody knows the true classes.",
    responses=listing("example-classes", "not-found", "invalid-input"),
)
def classes(request: Request, here: Here, experiment: str, set: SetName = None) -> Response:
    kept = found_in(here, experiment, set)
    items = [as_class(one, kept.classes) for one in kept.by_class()]
    columns = ("label", "class", "examples", "accuracy", "members_accuracy", "disagreement", "taken_for", "taken")
    return replies.whole(request, items, f"Classes of {kept.name}", columns=columns, name="classes")


@router.get(
    f"{_AT}/points",
    summary="Two numbers of many examples, for a plot",
    description=f"Of the examples that the conditions leave, at most {MOST_POINTS:,}, evenly in their order, and those "
    "named in `with`. Takes the conditions of the list.",
    responses=answers("The points", "example-points", "not-found", "invalid-input"),
)
def points(
    request: Request,
    here: Here,
    experiment: str,
    set: SetName = None,
    x: Annotated[str | None, Query(max_length=40, description="The number across.")] = None,
    y: Annotated[str | None, Query(max_length=40, description="The number upwards.")] = None,
    named: Annotated[str, Query(alias="with", max_length=4000, description="Examples that must be there.")] = "",
) -> Response:
    kept = found_in(here, experiment, set)
    across, up = axes(kept, x, y)
    met = kept.found(query.read(kept.fields, conditions(request)).query.conditions, "index").rows
    rows = _thinned(met, [row for row in asking.ranges(named) if row < kept.count])
    wrong = kept.column("wrong")[rows] if kept.labels is not None else None
    document = {
        "x": {"name": across, "words": kept.fields.asked[across].words, "values": kept.column(across)[rows]},
        "y": {"name": up, "words": kept.fields.asked[up].words, "values": kept.column(up)[rows]},
        "index": rows,
        "wrong": None if wrong is None else np.ascontiguousarray(wrong),
        "shown": len(rows),
        "total": len(met),
    }
    return replies.tagged_json(request, document)


def axes(kept: ExampleSet, x: str | None, y: str | None) -> tuple[str, str]:
    """The numbers of a plot: those asked for, else what tells most. Raises InvalidInput."""
    told = numbers_of(kept)
    for field, name in (("x", x), ("y", y)):
        if name is not None and name not in told:
            raise InvalidInput(f"there is no number {name!r}", field=field, allowed=", ".join(told))
    usual = [name for name in ("mutual_information", "loss", "entropy", "disagreement", "vote_entropy") if name in told]
    return x or usual[0], y or next(name for name in usual if name != (x or usual[0]))


def numbers_of(kept: ExampleSet) -> list[str]:
    return [name for name in kept.fields.asked if name not in ("index", "label", "answer", "wrong", "split")]


def _thinned(rows: NDArray[np.int64], always: list[int]) -> NDArray[np.int64]:
    places = np.linspace(0, len(rows) - 1, min(len(rows), MOST_POINTS)).round().astype(np.int64)
    return np.union1d(rows[places], np.asarray(always, np.int64)) if len(rows) else np.asarray(always, np.int64)


@router.get(
    f"{_AT}/{{index}}.png",
    summary="A small picture of an example",
    responses={
        200: {"description": "A PNG file", "content": {"image/png": replies.BINARY}},
        **problems.documented("not-found", "invalid-input"),
    },
)
def picture(
    request: Request,
    here: Here,
    experiment: str,
    index: Annotated[int, Path(ge=0, le=2**31 - 1, description="Number of the example in its set.")],
    set: SetName = None,
) -> Response:
    pixels = found_in(here, experiment, set).picture(index)
    etag = replies.tag(pixels.shape, pixels.tobytes().hex())
    headers = {"etag": etag, "cache-control": "private, max-age=86400"}
    if replies.unchanged(request, etag):
        return Response(status_code=304, headers=headers)
    return Response(png(pixels), media_type="image/png", headers=headers)
