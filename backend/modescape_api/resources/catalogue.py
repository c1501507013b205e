"""What can be chosen, and what a choice would cost: the registries with their options' schemas, and the estimate.

The form, the documentation page and programs read the same answer; entries a worker's plug-ins published appear in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response

from modescape import kept_counts, plugins, power
from modescape.acting import UserRole
from modescape.architectures import counting
from modescape.claims import CLAIMS, Claim
from modescape.claims.repeated_looks import Look, looking_ahead
from modescape.drawing.style import look
from modescape.drawing.words import between, duration, price
from modescape.errors import DataMissing, InvalidInput
from modescape.finding import Finding
from modescape.listing import Condition, ListQuery
from modescape.plan import Plan, Prepared, differences
from modescape.records import Json, Status
from modescape.registry import (
    RECIPE,
    Entry,
    Method,
    architectures,
    corruptions,
    datasets,
    figures,
    methods,
    presets,
    studies,
    while_known,
)
from modescape.schemas import spec_schema, sweep_schema
from modescape.spec import ExperimentSpec, place_of
from modescape.tables import Experiment
from modescape_api.http import bodies, replies
from modescape_api.http.bodies import body
from modescape_api.http.identity import needs
from modescape_api.http.site import Here, Site
from modescape_api.resources.examples import Example, answers
from modescape_api.resources.experiments import Draft, asked_for

router = APIRouter(tags=["catalogue"])


def as_entry(entry: Entry) -> Json:
    """What an entry says of itself, with the JSON Schema of its options; looks go by their keys."""
    about = entry.said()
    if isinstance(entry, Method):
        about["look"] = look(entry.name).key
    if entry.brought is not None:
        about |= {"plugin": True, "package": entry.brought.title, "loaded": entry.loaded}
    return {**about, "options": entry.options.model_json_schema()}


def _as_claim(claim: Claim[Any]) -> Json:
    brought = {"plugin": True, "package": claim.brought.title, "loaded": True} if claim.brought else {}
    return claim.said() | brought


def _plural(noun: str) -> str:
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"


@while_known
def _known_here() -> Json:
    """All registries, the presets with their specs and the schema of a spec, made once for what is known."""
    registries: dict[str, Mapping[str, Entry]] = {
        "datasets": datasets,
        "architectures": architectures,
        "methods": methods,
        "figures": figures,
        **{_plural(noun): known for noun, known in RECIPE.items()},
    }
    found: Json = {noun: [as_entry(entry) for entry in known.values()] for noun, known in registries.items()}
    found["presets"] = [{**as_entry(preset), "spec": preset.call()} for preset in presets.values()]
    found["corruptions"] = [
        {"name": c.name, "title": c.title, "family": c.family.key, "summary": c.summary, "needs_colour": c.needs_colour,
         "constants": dict(c.constants)}
        for c in corruptions.values()
    ]  # fmt: skip
    found["studies"] = [{**as_entry(study), "field": place_of(study.name)} for study in studies.values()]
    found["claims"] = [_as_claim(claim) for claim in CLAIMS.values()]
    found["spec"] = ExperimentSpec.model_json_schema()
    return found


def brought(here: Site) -> list[Json]:
    """Every plug-in: what became of it in this server, and in each worker."""
    names = ("module", "named_by", "state", "why", "entries")
    found = [{"where": "server", **replies.picked(one, *names)} for one in plugins.found()]
    there = here.plugins.elsewhere
    return found + [{"where": f"worker {one.worker}", **replies.picked(one, *names)} for one in there]


@router.get(
    "/api/catalogue",
    summary="Data sets, architectures, methods, studies, figures, claims, presets, and the schema of a spec",
    responses=answers("Everything that can be chosen", "catalogue"),
)
def catalogue(request: Request, here: Here) -> Response:
    known = brought(here)
    return replies.tagged_json(request, _known_here() | ({"plugins": known} if known else {}))


@while_known
def _spec_schema() -> Json:
    return spec_schema()


@while_known
def _sweep_schema() -> Json:
    return sweep_schema()


@router.get(
    "/api/schema/spec.json",
    summary="The JSON Schema of a spec",
    description="Draft 2020-12, with the names of everything that can be chosen here and the options of each, by which "
    "editors complete and check files of JSON and YAML: their first line says "
    "`# yaml-language-server: $schema=` and this address. `modescape schema` writes the same into a file.",
    responses=answers("The schema", "schema"),
)
def schema_of_a_spec(request: Request) -> Response:
    return replies.tagged_json(request, _spec_schema())


@router.get(
    "/api/schema/sweep.json",
    summary="The JSON Schema of a sweep",
    description="As that of a spec: a base, and what is varied over it.",
    responses=answers("The schema", "schema"),
)
def schema_of_a_sweep(request: Request) -> Response:
    return replies.tagged_json(request, _sweep_schema())


def estimate(here: Site, draft: Draft) -> Prepared:
    """Every check a launch makes, and the plan; stores nothing. Raises what `launch` raises, but plans public sets that
    are not here as published."""
    document = asked_for(here, draft)
    try:
        return _counted(here, lambda: here.laboratory.prepare(document, as_published=True, fresh=draft.fresh))
    except (InvalidInput, DataMissing) as error:
        raise bodies.prefixed(error, "spec") from None


def words(plan: Plan) -> dict[str, str]:
    """The price as pages say it: total; range; gpu; here, how much of it is done already. "" where there is nothing."""
    workers = f"{plan.workers} worker{'' if plan.workers == 1 else 's'}"
    gpu = plan.gpu
    return {
        "total": price(plan.seconds, plan.low, plan.high),
        "range": f"{between(plan.low, plan.high)} on {workers}" if plan.high < 2.5 * plan.low else f"on {workers}",
        "gpu": f"{price(gpu.seconds, gpu.low, gpu.high)} on a GPU" if gpu is not None else "",
        "gpu_basis": gpu.basis if gpu is not None else "",
        "here": f"{plan.here} of {len(plan.stages)} stages are here already" if plan.here else "",
        "path": _path(plan) if plan.here < len(plan.stages) else "",
    }


def _path(plan: Plan) -> str:
    """The critical path by kind: `Longest chain 40 s: train 30 s, predict 4 s, compare 6 s`."""
    seconds: dict[str, float] = {}
    for link in plan.path:
        seconds[link.kind] = seconds.get(link.kind, 0.0) + link.seconds
    long = {kind: own for kind, own in seconds.items() if own >= 0.5} or seconds  # not what is here already
    parts = ", ".join(f"{kind} {duration(own)}" for kind, own in long.items())
    return f"Longest chain {duration(sum(seconds.values()))}, whatever the number of workers: {parts}"


PATIENCE_SECONDS = 8.0  # that a plan waits for a worker to count a network whose declaration tells no sizes


def _counted(here: Site, prepare: Callable[[], Prepared]) -> Prepared:
    """A plan, made again once a worker has counted what it lacks."""
    prepared = prepare()
    works = bool(counting.wanted()) and any(worker.stopped_at is None for worker in here.store.workers.all())
    return prepare() if kept_counts.ask(here.store.catalogue, patience=PATIENCE_SECONDS * works) else prepared


def as_estimate(here: Site, prepared: Prepared, preset: str | None = None, parent: str | None = None) -> Json:
    """The plan as the form shows it, with an earlier experiment of the same spec and who is ahead in the queue. parent:
    the experiment it is a clone of, whose spread tells of its intervals."""
    plan, spec = prepared.plan, prepared.spec
    same = here.store.experiments.page(ListQuery((Condition("digest", "eq", spec.digest()),), limit=1)).items
    ahead = here.store.experiments.page(
        ListQuery((Condition("status", "in", (Status.QUEUED, Status.RUNNING)),), limit=1)
    ).total
    return {
        **replies.picked(plan, "seconds", "low", "high", "bytes", "basis"),
        "free_bytes": here.artifacts.free,
        "refused": [
            {**asdict(one), "field": f"spec.{one.field}".rstrip(".")} for one in here.laboratory.too_much(prepared)
        ],
        "gpu": asdict(plan.gpu) if plan.gpu is not None else None,
        "here": plan.here,
        "words": words(plan),
        "missing": [{**asdict(one), "field": f"spec.{one.field}"} for one in prepared.missing],
        **replies.picked(plan, "workers", "parameters", "solutions"),
        "kinds": [asdict(kind) for kind in plan.kinds],
        "path": [asdict(link) for link in plan.path],
        "stages": [replies.picked(stage, "kind", "key", "needs", "wants", "estimate") for stage in plan.stages],
        "figures": list(plan.answers),
        "warnings": list(plan.warnings),
        "sizes": {split: getattr(prepared.sizes, split) for split in ("train", "validation", "test")},
        "data": asdict(prepared.info),
        "spec": spec.model_dump(mode="json"),
        "digest": spec.digest(),
        "changed": [asdict(change) for change in differences(spec, preset)] if preset else [],
        "look": _look(here, spec),
        "open": _open(here, prepared, parent),
        "same": replies.picked(same[0], "slug", "name", "status") if same else None,
        "ahead": ahead,
    }


def _open(here: Site, prepared: Prepared, parent: str | None) -> Json:
    """What the planned numbers leave open of each claim, and where that is from."""
    own = own_spread(here, here.store.experiments.get(parent)) if parent else power.NOTHING
    lines = power.left_open(prepared.spec, prepared.sizes, own)
    return {"claims": [asdict(line) for line in lines], "basis": power.basis(lines, own)}


def own_spread(here: Site, row: Experiment) -> power.Own:
    """What an experiment says of the intervals of its clones; nothing of what is not judged."""
    return power.Own.of(row.name, Finding.of(row).told(here.laboratory.look(row)))


def _look(here: Site, spec: ExperimentSpec) -> Json:
    """Which look at these trainings it would be, and what that costs, in words; "" at the first."""
    ahead = Look.ahead(spec, here.store.experiments.having_trainings(spec))
    return {**asdict(ahead), "level_of_a_word": ahead.level, "words": looking_ahead(ahead)}


@router.post(
    "/api/estimate",
    summary="What an experiment would do and cost",
    description="Takes the body of a launch and makes every check a launch makes, but stores nothing. Seconds lie "
    "between `low` and `high`; `here`: stages that will be taken over from earlier experiments; `gpu`: the price on "
    "one worker with a GPU, null where nothing was measured on any; `words`: all that as pages say it. A public set "
    "that is not on this machine is planned in its published size and named in `missing`; a launch refuses it (409). "
    "`refused`: what a launch would be refused for (422), because it costs more than one may; `free_bytes`: what is "
    "free where artifacts are kept, null of a bucket, which has no end to ask for.",
    openapi_extra=bodies.documented(Draft, Example("ask-estimate")),
    responses=answers(
        "The plan",
        "estimate",
        "malformed",
        "data-missing",
        "too-large",
        "wrong-media-type",
        "invalid-input",
        "data-corrupt",
    ),
)
@needs(UserRole.VIEWER)
def estimate_cost(here: Here, draft: Annotated[Draft, body(Draft)]) -> Response:
    return replies.json(as_estimate(here, estimate(here, draft), draft.preset, draft.parent))
