"""The life of an experiment over HTTP: launch, list, read, change, stop, go on, try again, put away, throw away.

Pages call the same functions; what differs is only the form of the answer.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic import Field

from modescape import names, own_sets
from modescape.columns import EXPERIMENTS, STAGES
from modescape.errors import DataMissing, InvalidInput, NotFound
from modescape.finding import Finding
from modescape.laboratory import purge as purge_experiment
from modescape.plan import departures, differences
from modescape.pydantic_errors import MOST_VALUES
from modescape.records import Json
from modescape.registry import presets
from modescape.spec import MOST_OF_IMPORTED, stored, unknown
from modescape.store.groups import GROUP_NUMBERS
from modescape.tables import Experiment, Stage
from modescape_api.http import bodies, problems, query, replies
from modescape_api.http.bodies import Body, Name, Notes, Priority, Project, Tag, body
from modescape_api.http.proxies import at
from modescape_api.http.site import Here, Site
from modescape_api.resources import data
from modescape_api.resources.examples import Example, answer, answers, listing

router = APIRouter(tags=["experiments"])


class Draft(Body):
    """An experiment to be: a spec, or the name of a preset, or both (the spec decides, the preset is its origin)."""

    most_values: ClassVar[int] = MOST_VALUES + MOST_OF_IMPORTED  # the spec looks at its parts itself

    name: Name | None = Field(
        None, description="How people call it; empty takes the preset's title or the spec's words."
    )
    spec: dict[str, Any] | None = Field(None, description="An ExperimentSpec; every field may be left out.")
    preset: str | None = Field(None, max_length=64, description="A preset of the catalogue.")
    notes: Notes = Field("", description="Anything worth remembering.")
    tags: tuple[Tag, ...] = Field((), max_length=20, fail_fast=True, description="Words to find it by.")
    project: Project = Field("", description="A name that several experiments are given; empty is none.")
    parent: str | None = Field(
        None, max_length=200, description="Slug or id of the experiment that this is a clone of."
    )
    fresh: bool = Field(False, description="Compute everything, even what an earlier experiment has already.")
    priority: Priority = Field(0, description="Stages of higher ones are claimed first: -1 is low, 0 normal, 1 high.")


class Changes(Body):
    """What may be changed of an experiment that exists. Fields left out stay."""

    name: Name | None = Field(None, description="A new name; the slug stays.")
    notes: Notes | None = Field(None, description="New notes.")
    tags: tuple[Tag, ...] | None = Field(None, max_length=20, description="New tags, all of them.")
    priority: Priority | None = Field(None, description="-1 is low, 0 normal, 1 high.")
    project: Project | None = Field(None, description="Another project; empty takes it out of its own.")


class Copy(Body):
    """A new experiment like an old one."""

    name: Name | None = Field(None, description="Empty takes the old name and `copy`.")
    changes: dict[str, Any] = Field(
        default_factory=dict, description="Merge patch (RFC 7396) of the spec: what differs."
    )
    notes: Notes = Field("", description="Anything worth remembering.")
    tags: tuple[Tag, ...] | None = Field(None, max_length=20, description="Empty takes the old ones.")
    project: Project | None = Field(None, description="Null takes the old one.")
    priority: Priority = Field(0, description="-1 is low, 0 normal, 1 high.")
    fresh: bool = Field(False, description="Compute everything, even what an earlier experiment has already.")


# -- rows as documents ------------------------------------------------------------------------------------------------


def as_document(here: Site, row: Experiment) -> Json:
    """Everything about one experiment but its results, which have addresses of their own."""
    base = at(f"/api/experiments/{row.slug}")
    look, stages = here.laboratory.look(row), here.store.stages.without_results(row.id)
    return {
        **EXPERIMENTS.document(row),
        "notes": row.notes,
        "spec": row.spec,
        "fresh": row.fresh,
        "verdict": Finding.of(row).sentence_at(look) if row.finding else None,
        "findings": Finding.of(row).document(look),
        "odd": (row.provenance or {}).get("odd", []),
        "unanswered": [asdict(one) for one in Finding.of(row).unanswered(stored(row.spec), stages)],
        "look": {**asdict(look), "level_of_a_word": look.level, "level_spent_at_most": look.spent},
        "changed": _changed(row),
        "unknown": not_known(row),
        "departures": [asdict(change) for change in departures(stored(row.spec))],
        "stages": stages_of(here, row),
        "waits": here.laboratory.waits(stages),
        "links": {
            "self": base,
            "page": at(f"/experiments/{row.slug}"),
            **{
                name: f"{base}/{name}"
                for name in ("events", "runs", "solutions", "measurements", "matrices", "series", "figures")
            },
        },
    }


def not_known(row: Experiment) -> list[str]:
    """What of an experiment's promise this process does not know: "the method 'x'", ..."""
    is_known = row.preset is None or row.preset in presets
    return unknown(row.spec) + ([] if is_known else [f"the preset {row.preset!r}"])


def _changed(row: Experiment) -> list[Json]:
    """How the spec differs from the preset it began as; [] when there is none."""
    if row.preset is None or row.preset not in presets:
        return []
    return [asdict(change) for change in differences(stored(row.spec), row.preset)]


def as_stage(stage: Stage, needs: list[str]) -> Json:
    return {**STAGES.document(stage), "needs": needs}


def stages_of(here: Site, row: Experiment) -> list[Json]:
    """Its stages in the order of the plan, each with the ids of those it waits for."""
    needs: dict[str, list[str]] = {}
    for stage_id, needed in here.store.stages.arrows(row.id):
        needs.setdefault(stage_id, []).append(needed)
    return [as_stage(stage, sorted(needs.get(stage.id, []))) for stage in here.store.stages.without_results(row.id)]


# -- launching --------------------------------------------------------------------------------------------------------


def launch(here: Site, draft: Draft, *, key: str | None = None) -> Experiment:
    """Check everything, store the experiment and its stages in one transaction, wake workers.

    key: makes the request repeatable; the same key with another draft is a Conflict.
    Raises InvalidInput (fields as in the body), NotFound (the parent), DataMissing, DataCorrupt.
    """
    document = asked_for(here, draft)
    try:
        row = here.laboratory.create(
            document,
            name=draft.name or named(draft),
            preset=draft.preset,
            notes=draft.notes,
            tags=draft.tags,
            fresh=draft.fresh,
            priority=draft.priority,
            project=draft.project,
            parent=here.store.experiments.get(draft.parent).slug if draft.parent else None,
            idempotency=(key, digest(draft)) if key is not None else None,
        )
    except (InvalidInput, DataMissing) as error:
        raise bodies.prefixed(error, "spec") from None
    here.notify_workers(row.id)
    return row


def asked_for(here: Site, draft: Draft) -> Json:
    """The spec document a draft means, its path followed to its real place inside the allowed folders."""
    preset = presets[draft.preset] if draft.preset is not None else None
    if draft.spec is not None:
        try:
            document = own_sets.named(draft.spec, here.store.own_sets.all())
        except InvalidInput as error:
            raise bodies.prefixed(error, "spec") from None
        return data.resolved(here.settings, document)
    if preset is not None:
        return dict(preset.call())
    raise InvalidInput("a spec or a preset is required", field="spec", allowed="an ExperimentSpec, or `preset`")


def named(draft: Draft) -> str:
    """What an experiment is called that nobody has named."""
    if draft.preset is not None:
        return presets[draft.preset].title
    data = (draft.spec or {}).get("data", {})
    data = data if isinstance(data, dict) else {}
    dataset, path = data.get("dataset", "digits"), data.get("path")
    return f"{own_sets.place_name(path, dataset) if isinstance(path, str) else dataset} experiment"[: names.LONGEST]


def digest(draft: Draft) -> str:
    """Of a request that may be repeated. What came later than others, and is not asked for, is no part of it."""
    later = {
        name for name, usual in (("priority", 0), ("project", ""), ("parent", None)) if getattr(draft, name) == usual
    }
    return hashlib.sha256(replies.encode(draft.model_dump(mode="json", exclude=later or None))).hexdigest()


def merged(target: object, patch: object) -> Any:
    """JSON merge patch (RFC 7396): null removes, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


_ONE: problems.Responses = {200: answer("The experiment", "experiment")}
_CREATED: problems.Responses = {
    201: answer("Stored; `Location` names it", "experiment"),
}
_UNFIT = problems.documented("malformed", "too-large", "wrong-media-type", "invalid-input", "data-corrupt")


# -- endpoints --------------------------------------------------------------------------------------------------------


@router.get(
    "/api/experiments",
    summary="List experiments",
    description="Filters are joined by *and*. As CSV or newline JSON, without a limit, the whole list is sent.",
    openapi_extra={"parameters": [*query.parameters(EXPERIMENTS), query.view_parameter()]},
    responses=listing("experiments", "not-acceptable", "not-found", "invalid-input"),
)
def list_experiments(request: Request, here: Here) -> Response:
    parameters = query.of_a_view(here, request.query_params)
    return query.answer(request, EXPERIMENTS, here.store.experiments.page, "experiments", parameters)


@router.get(
    "/api/groups",
    summary="Experiments in groups",
    description="How many of the experiments that the filters find have each value of a field, with mean and spread "
    "(standard deviation, over n - 1) of their numbers. One without a value is in the group null, one with several "
    "(methods, tags) in the group of each. Filters are those of the list of experiments.",
    openapi_extra={"parameters": [*query.parameters(EXPERIMENTS, paged=False), query.view_parameter()]},
    responses=answers("The groups, the largest first", "groups", "not-found", "invalid-input"),
)
def groups(
    request: Request,
    here: Here,
    by: Annotated[str, Query(max_length=200, description="The field, also spec.<path> or result.<path>.")],
    numbers: Annotated[str, Query(max_length=500, description="Which numbers, separated by commas.")] = ",".join(
        GROUP_NUMBERS
    ),
) -> Response:
    asked = query.read(EXPERIMENTS, query.of_a_view(here, request.query_params, "by", "numbers"), but=("by", "numbers"))
    wanted = [name.strip() for name in numbers.split(",") if name.strip()][: query.MOST_COMPUTED]
    found = here.store.experiments.groups(asked.query, by, wanted)
    return replies.json({"by": by, "words": asked.words, "items": [asdict(one) for one in found]})


@router.post(
    "/api/experiments",
    status_code=201,
    summary="Launch an experiment",
    description="Checks the spec, stores the experiment with its stages in one transaction and rings for workers. "
    "With an `Idempotency-Key` the request may be repeated safely.",
    openapi_extra=bodies.documented(Draft, Example("ask-experiment")),
    responses={**_CREATED, **_UNFIT, **problems.documented("conflict", "data-missing", "not-found")},
)
def create(
    request: Request,
    here: Here,
    draft: Annotated[Draft, body(Draft)],
    idempotency_key: Annotated[
        str | None,
        Header(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$", description="Any text of your own."),
    ] = None,
) -> Response:
    return _launched(here, launch(here, draft, key=idempotency_key))


def _launched(here: Site, row: Experiment) -> Response:
    return replies.json(as_document(here, row), status=201, headers={"location": f"/api/experiments/{row.slug}"})


@router.get(
    "/api/experiments/{experiment}",
    summary="One experiment: spec, state, stages",
    responses={**_ONE, **problems.documented("not-found")},
)
def read(here: Here, experiment: str) -> Response:
    return replies.json(as_document(here, here.store.experiments.get(experiment)))


@router.patch(
    "/api/experiments/{experiment}",
    summary="Change name, notes, tags, project or priority",
    openapi_extra=bodies.documented(Changes, Example("ask-change")),
    responses={**_ONE, **_UNFIT, **problems.documented("not-found")},
)
def change(here: Here, experiment: str, changes: Annotated[Changes, body(Changes)]) -> Response:
    asked = changes.model_dump(exclude_none=True)
    if "tags" in asked:
        asked["tags"] = list(dict.fromkeys(asked["tags"]))
    return replies.json(as_document(here, here.store.experiments.patch(experiment, **asked)))


@router.delete(
    "/api/experiments/{experiment}",
    summary="Archive",
    description="Takes it out of the lists. Nothing is deleted until it is purged; `restore` brings it back.",
    responses={**_ONE, **problems.documented("not-found", "conflict")},
)
def archive(here: Here, experiment: str) -> Response:
    return replies.json(as_document(here, here.store.experiments.archive(experiment)))


@router.post(
    "/api/experiments/{experiment}/restore",
    summary="Bring back from the archive",
    responses={**_ONE, **problems.documented("not-found", "invalid-input")},
)
def restore(here: Here, experiment: str) -> Response:
    return replies.json(as_document(here, here.store.experiments.restore(experiment)))


@router.post(
    "/api/experiments/{experiment}/purge",
    summary="Delete an archived experiment and the files only it uses",
    responses=answers("Gone", "purged", "not-found", "conflict"),
)
def purge(here: Here, experiment: str) -> Response:
    slug = here.store.experiments.get(experiment).slug
    return replies.json({"slug": slug, "freed_bytes": purge_experiment(here.laboratory, experiment)})


@router.post(
    "/api/experiments/{experiment}/cancel",
    summary="Stop",
    description="Running stages stop at their next step, and what is done is kept. `retry` takes it up again.",
    responses={**_ONE, **problems.documented("not-found", "conflict")},
)
def cancel(here: Here, experiment: str) -> Response:
    return replies.json(as_document(here, here.store.experiments.cancel(experiment)))


@router.post(
    "/api/experiments/{experiment}/pause",
    summary="Stop for now",
    description="Running stages stop at their next step and keep their checkpoint.",
    responses={**_ONE, **problems.documented("not-found", "conflict")},
)
def pause(here: Here, experiment: str) -> Response:
    return replies.json(as_document(here, here.store.experiments.pause(experiment)))


@router.post(
    "/api/experiments/{experiment}/resume",
    summary="Go on after a pause",
    responses={**_ONE, **problems.documented("not-found", "conflict")},
)
def resume(here: Here, experiment: str) -> Response:
    row = here.store.experiments.resume(experiment)
    here.notify_workers(row.id)
    return replies.json(as_document(here, row))


@router.post(
    "/api/experiments/{experiment}/retry",
    summary="Try failed or cancelled stages again",
    responses={**_ONE, **problems.documented("not-found", "conflict", "invalid-input")},
)
def retry(
    here: Here,
    experiment: str,
    stage: Annotated[
        str | None, Query(max_length=36, description="Only this stage; empty means all that failed.")
    ] = None,
) -> Response:
    row = here.store.experiments.retry(experiment, stage)
    here.notify_workers(row.id)
    return replies.json(as_document(here, row))


@router.post(
    "/api/experiments/{experiment}/clone",
    status_code=201,
    summary="Launch a new experiment like this one, with changes",
    openapi_extra=bodies.documented(Copy, Example("ask-clone"), required=False),
    responses={**_CREATED, **_UNFIT, **problems.documented("not-found", "data-missing")},
)
def clone(here: Here, experiment: str, copy: Annotated[Copy, body(Copy)]) -> Response:
    old = here.store.experiments.get(experiment)
    draft = Draft(
        name=copy.name or f"{old.name[: names.LONGEST - 5]} copy",
        spec=merged(old.spec, copy.changes),
        preset=old.preset if old.preset in presets else None,
        notes=copy.notes,
        tags=copy.tags if copy.tags is not None else tuple(old.tags),
        project=copy.project if copy.project is not None else old.project,
        parent=old.slug,
        fresh=copy.fresh,
        priority=copy.priority,
    )
    return _launched(here, launch(here, draft))


@router.get(
    "/api/experiments/{experiment}/stages",
    summary="Its stages, in the order of the plan",
    responses=answers("All stages", "stages", "not-found"),
)
def stages(request: Request, here: Here, experiment: str) -> Response:
    row = here.store.experiments.get(experiment)
    items = stages_of(here, row)
    columns = (*STAGES.keys, "needs")
    return replies.whole(request, items, f"Stages of {row.slug}", columns=columns, name="stages")


@router.get(
    "/api/experiments/{experiment}/stages/{stage}",
    summary="One stage, and the files it left",
    description="`left` says what the stage gives to others, files by their digests: corrupted images of `corrupt`, "
    "logits of `shift` with the corruption and intensity of each cell, and so on.",
    responses=answers("The stage", "stage", "not-found"),
)
def stage(here: Here, experiment: str, stage: Annotated[str, Path(max_length=80)]) -> Response:
    row = here.store.experiments.get(experiment)
    found = here.store.stages.get(stage)
    if found.experiment_id != row.id:
        raise NotFound(f"{row.slug} has no stage {stage!r}")
    needs = sorted(need.id for need in here.store.stages.needs(found.id))
    files = [{**info, "url": at(f"/api/artifacts/{info['digest']}")} for info in found.result.get("artifacts", [])]
    document = {**as_stage(found, needs), "left": found.result.get("extra", {}), "files": files}
    return replies.json(document, headers={"cache-control": "no-store"})
