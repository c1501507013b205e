"""The launch form: presets and their prices, the spec with what is wrong in it, the plan, and Launch."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse
from starlette.datastructures import FormData

from modescape import names, own_files
from modescape.acting import UserRole
from modescape.architectures import counting
from modescape.claims import CLAIMS
from modescape.drawing.words import price
from modescape.errors import DataCorrupt, DataMissing, InvalidInput, ModescapeError, NotFound, Problem
from modescape.plan import Prepared
from modescape.records import PRIORITIES, Json
from modescape.registry import Preset, datasets, figures, presets, while_known
from modescape.spec import PROTOCOLS, under_protocol
from modescape.spec import parse as spec_of
from modescape.sweeps import launching
from modescape.sweeps.launching import Price
from modescape.tables import Experiment
from modescape_api.http import bodies, identity
from modescape_api.http.identity import needs
from modescape_api.http.proxies import at
from modescape_api.http.site import Here, Site
from modescape_api.pages import forms, programs
from modescape_api.pages.display import crumbs
from modescape_api.pages.rendering import Posted, render
from modescape_api.resources import catalogue, data, experiments, sweeps
from modescape_api.resources.experiments import Draft, not_known
from modescape_api.resources.sweeps import SweepDraft

router = APIRouter()

_OTHER = "A question of your own"
# What stands beside an empty spec.
_BLANK = '<path fill="none" stroke="currentColor" stroke-width="2" d="M36 12v20M26 22h20"/>'


@router.get("/launch")
def launch_page(
    request: Request,
    here: Here,
    preset: str = "quickstart",
    protocol: str = "",
    add: Annotated[str, Query(alias="with", description="What to add: see forms.with_more.")] = "",
) -> Response:
    if here.store.own_sets.all():  # one of which may be named in the form
        own_files.warm()
    source = here.store.experiments.get(request.query_params["from"]) if request.query_params.get("from") else None
    chosen = presets[preset] if source is None and preset in presets else None
    document = source.spec if source else chosen.call() if chosen else forms.blank()
    if protocol in PROTOCOLS:
        document = under_protocol(document, protocol)
    document = forms.with_more(document, add)
    cloned = {"parent": source.slug} if source else {}
    draft = bodies.validate(Draft, {"spec": document, "preset": chosen.name if chosen else None, **cloned})
    plan, problems = _planned(here, draft)
    return _launch_form(
        request,
        here,
        values=forms.to_values(document),
        plan=plan,
        problems=problems,
        preset=chosen,
        source=source,
        name=f"{source.name[: names.LONGEST - 5]} copy" if source else "",
        tags=", ".join(source.tags) if source else "",
        project=source.project if source else "",
        notice=_missing(source) if source else None,
        document=document,
    )


@router.post("/launch")
def launch(request: Request, here: Here, form: Posted) -> Response:
    pairs, undone = _with_undone(_texts(form)), form.get("undo") is not None or form.get("runs") is not None
    given = dict(pairs)
    document = forms.to_document(pairs)
    is_asked = given.get("do") != "plan" and not undone
    looked = _looked_at(here, pairs, document)
    problems = list(looked.problems)
    try:
        if is_asked and looked.sweep is not None and not problems:
            same = sweeps.digest(looked.sweep)[:16]
            made = sweeps.launch(here, looked.sweep, key=f"form-{given.get('key', '')[:60]}-{same}")
            return RedirectResponse(f"/sweeps/{made.slug}", status_code=303)
        if is_asked and looked.draft is not None and not problems:
            # Pressing twice sends the same key with the same body: one experiment. A changed form is another one.
            same = experiments.digest(looked.draft)[:16]
            row = experiments.launch(here, looked.draft, key=f"form-{given.get('key', '')[:60]}-{same}")
            return RedirectResponse(f"/experiments/{row.slug}", status_code=303)
    except (InvalidInput, DataMissing, DataCorrupt) as error:  # what only a launch finds out
        problems = _problems(error)
    return _launch_form(
        request,
        here,
        values=forms.from_posted(pairs),
        plan=looked.plan,
        problems=problems,
        preset=_preset(given),
        source=_parent(here, given),
        name=given.get("name", "").strip(),
        notes=given.get("notes", ""),
        tags=given.get("tags", ""),
        project=given.get("project", ""),
        priority=given.get("priority", "normal"),
        status=422 if problems else 200,
        document=document,
        body=looked.body,
        varied=_varied(pairs),
        paired=given.get("sweep.paired") == "true",
    )


@router.post("/launch/plan")
@needs(UserRole.VIEWER)
def answer(request: Request, here: Here, form: Posted) -> Response:
    """The plan of the form as it is filled in, which its page takes over."""
    pairs = _texts(form)
    given = dict(pairs)
    document = forms.to_document(pairs)
    looked = _looked_at(here, pairs, document)
    plan, problems = looked.plan, looked.problems
    beside = [*(Problem(one["how"], one["field"]) for one in plan["missing"]), *problems] if plan else problems
    values = forms.from_posted(pairs)
    was = _was(_preset(given), _parent(here, given))
    sections = forms.sections(values, was=was)
    return render(
        request,
        here,
        "_answer.html",
        status=200 if plan and not problems else 422,
        plan=plan,
        problems=(placed := [forms.place(problem, document, values) for problem in beside]),
        note=_to_change(placed) if problems else "",
        programs=_programs(request, looked.body),
        automatic=plan["automatic"] if plan else {},
        sections=sections,
        changes=forms.changes(sections, values),
        began=_began(_preset(given), _parent(here, given)),
        figures=figures.values(),
        claims=CLAIMS,
    )


def _with_undone(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The form with one field, or all ("*"), as the preset has it, and with as many runs as a claim needs, where a
    button asks for that."""
    given = dict(pairs)
    if (runs := given.get("runs", "")).isdecimal():
        pairs = [(name, runs if name == "ensemble.runs" else value) for name, value in pairs]
    if not (undone := given.get("undo", "")):
        return [(name, value) for name, value in pairs if name != "runs"]
    was = forms.to_values(presets[given["preset"]].call()) if given.get("preset") in presets else forms.defaults()
    own = (
        "name",
        "notes",
        "tags",
        "project",
        "priority",
        "key",
        "preset",
        "parent",
        "sweep.field",
        "sweep.values",
        "sweep.paired",
    )
    pairs = [(name, value) for name, value in pairs if name not in ("undo", "runs", "do")]
    if undone == "*":
        return [*((name, value) for name, value in pairs if name in own), *was.items()]
    kept = [(name, value) for name, value in pairs if name != undone]
    return [*kept, (undone, was[undone])] if undone in was else kept


def _was(preset: Preset | None, source: Experiment | None) -> forms.Values:
    """The form as it was before anything was changed."""
    return forms.to_values(preset.call()) if preset else forms.to_values(source.spec) if source else forms.defaults()


def _began(preset: Preset | None, source: Experiment | None) -> str:
    """What the form began as."""
    return source.name if source else preset.title if preset else "Blank"


@dataclass(frozen=True)
class Looked:
    """What a posted form asks for, and all that is wrong with it: of draft and sweep what can be told; body: what a
    program would post instead; plan: None while the spec is wrong."""

    draft: Draft | None
    sweep: SweepDraft | None
    plan: Json | None
    problems: tuple[Problem, ...]
    body: programs.Asked


def _looked_at(here: Site, pairs: Sequence[tuple[str, str]], document: Mapping[str, Any]) -> Looked:
    """Names, the sweep, the spec and the sizes of the data are all looked at, whatever is wrong with the others."""
    given, problems = dict(pairs), list[Problem]()
    asked: Json = _about(here, given)
    draft: Draft | None = None
    sweep: SweepDraft | None = None
    try:
        draft = bodies.validate(Draft, {**asked, "spec": document})
    except InvalidInput as error:
        problems += error.problems
    try:
        sweep = _sweep(pairs, document)
    except InvalidInput as error:
        there = {one.field for one in problems}
        problems += [one for one in _problems(error) if one.field not in there]
    bare = Draft(spec=dict(document), preset=asked.get("preset"), parent=asked.get("parent"))
    plan, wrong = _planned(here, draft or bare, sweep)
    if plan is None:
        wrong = [*wrong, *_further(here, bare, wrong)]
    return Looked(draft, sweep, plan, (*problems, *wrong), _asked(pairs, asked, document, draft or bare))


def _about(here: Site, given: Mapping[str, str]) -> Json:
    """What a posted form says of the experiment beside its spec; nothing of what was left as it is."""
    preset, parent = _preset(given), _parent(here, given)
    said: Json = {"name": given.get("name", "").strip(), "preset": preset.name if preset else None}
    said |= {"notes": given.get("notes", ""), "project": given.get("project", "").strip()}
    said |= {"parent": parent.slug if parent else None, "tags": forms.parts(given.get("tags", ""))}
    return {name: value for name, value in said.items() if value} | _asked_priority(given)


def _asked(pairs: Sequence[tuple[str, str]], asked: Json, document: Mapping[str, Any], draft: Draft) -> programs.Asked:
    """The same as a program would post it."""
    rows, given = _varied(pairs), dict(pairs)
    if not rows:
        body = {**asked, "spec": document}
        return programs.Asked("experiments", body, dict(document), asked.get("name") or experiments.named(draft))
    swept: Json = {
        "base": dict(document), "over": {field or "?": forms.listed(text) for field, text in rows},
        **({"paired": True} if given.get("sweep.paired") == "true" else {}),
    }  # fmt: skip
    body = {name: value for name, value in asked.items() if name in ("name", "notes", "tags", "priority")} | swept
    named = sweeps.named(SweepDraft(over={field or "?": [] for field, _ in rows}))
    return programs.Asked("sweeps", body, swept, asked.get("name") or named)


_ROUNDS = 4  # of mending and looking again


def _further(here: Site, draft: Draft, known: Sequence[Problem]) -> list[Problem]:
    """What a field that cannot be read hides, sizes above all: it is taken to be as it was before, and all that is
    looked at again. A problem that may hang on it says so."""
    try:
        spec_of(draft.spec)
        return []
    except InvalidInput:
        pass
    preset = presets[draft.preset] if draft.preset is not None else None
    was, base = _was(preset, None), preset.call() if preset is not None else forms.blank()
    spec, mended, found = deepcopy(draft.spec or {}), dict[str, str](), list[Problem]()
    told = {one.field for one in known}
    wrong: Sequence[Problem] = known
    for _ in range(_ROUNDS):
        for one in wrong:
            path = one.field.removeprefix("spec.")
            if _as_before(spec, base, path):
                mended[path] = was.get(path, "")
        plan, wrong = _planned(here, Draft(spec=spec, preset=draft.preset))
        said = " and ".join(f"{crumbs(path)} {value or 'as it was'}" for path, value in mended.items())
        new = [one for one in wrong if not any(_same_place(one.field, other) for other in told)]
        found += [replace(one, message=f"{one.message} (with {said})") for one in new]
        told |= {one.field for one in wrong}
        if plan is not None or not new:
            break
    return found


def _same_place(field: str, other: str) -> bool:
    """Whether one is inside of the other."""
    return f"{field}.".startswith(f"{other}.") or f"{other}.".startswith(f"{field}.")


def _as_before(spec: Json, base: Mapping[str, Any], path: str) -> bool:
    """Put what stands at a path back to what the base has there, or leave it out; False where nothing is there."""
    at: Any = spec
    before: Any = base
    *steps, last = path.split(".")
    for step in steps:
        at = at[int(step)] if isinstance(at, list) and step.isdecimal() and int(step) < len(at) else (
            at.get(step) if isinstance(at, dict) else None
        )  # fmt: skip
        before = before.get(step) if isinstance(before, Mapping) else None
        if at is None:
            return False
    if isinstance(at, dict) and last in at:
        if isinstance(before, Mapping) and last in before and at[last] != before[last]:
            at[last] = deepcopy(before[last])
        else:
            del at[last]
        return True
    if isinstance(at, list) and last.isdecimal() and int(last) < len(at):
        del at[int(last)]
        return True
    return False


def _texts(form: FormData) -> list[tuple[str, str]]:
    return [(name, value) for name, value in form.multi_items() if isinstance(value, str)]


def _preset(given: Mapping[str, str]) -> Preset | None:
    return presets[given["preset"]] if given.get("preset") in presets else None


def _parent(here: Site, given: Mapping[str, str]) -> Experiment | None:
    """What is cloned; None of what was purged meanwhile, too."""
    try:
        return here.store.experiments.get(given["parent"]) if given.get("parent") else None
    except NotFound:
        return None


def _asked_priority(given: Mapping[str, str]) -> Json:
    """Where it is not the usual one."""
    text = given.get("priority", "normal")
    return {} if text == "normal" else {"priority": PRIORITIES.get(text, text)}


def _to_change(problems: Sequence[Problem]) -> str:
    fields = len({problem.field for problem in problems})
    count = f"{fields} field{'' if fields == 1 else 's'} to change first. "
    return count + "; ".join(f"{crumbs(problem.field)}: {problem.message}" for problem in problems)


def _varied(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Of the form's rows for a sweep: field and values as they were typed, those with either."""
    fields = [value.strip() for name, value in pairs if name == "sweep.field"]
    values = [value.strip() for name, value in pairs if name == "sweep.values"]
    return [(field, text) for field, text in zip(fields, values, strict=False) if field or text]


def _sweep(pairs: Sequence[tuple[str, str]], document: Mapping[str, Any]) -> SweepDraft | None:
    """What a posted form asks to launch as a sweep; None where no field is varied. Raises InvalidInput."""
    rows, given = _varied(pairs), dict(pairs)
    if not rows:
        return None
    return bodies.validate(SweepDraft, {
        **({"name": given["name"].strip()} if given.get("name", "").strip() else {}),
        "base": document, "over": {field or "?": forms.listed(text) for field, text in rows},
        "paired": given.get("sweep.paired") == "true", "notes": given.get("notes", ""),
        "tags": forms.parts(given.get("tags", "")), **_asked_priority(given),
    })  # fmt: skip


def _planned(here: Site, draft: Draft, sweep: SweepDraft | None = None) -> tuple[Json | None, list[Problem]]:
    """The plan, None where there is none, and what is wrong: beside a plan, that it costs too much."""
    try:
        estimated = catalogue.estimate(here, draft)
        plan = _with_shades(catalogue.as_estimate(here, estimated, draft.preset, draft.parent))
        unnamed = draft.model_copy(update={"name": None})
        plan["automatic"] = forms.automatic_values(estimated.spec, estimated.sizes, estimated.info)
        plan["automatic"]["name"] = experiments.named(unnamed) if sweep is None else sweeps.named(sweep)
        if sweep is not None:
            prepared = sweeps.prepare(here, sweep, as_published=True)
            whole = prepared.price
            plan["words"] = {**plan["words"], **_price_words(whole)}
            plan["bytes"] = whole.bytes
            return plan, _of_form(launching.too_much(here.laboratory, prepared))
        return plan, [Problem(one["message"], one["field"], one["allowed"]) for one in plan["refused"]]
    except (InvalidInput, DataMissing, DataCorrupt) as error:
        return None, _problems(error)


def _price_words(whole: Price) -> dict[str, str]:
    """The price of all cells together, where the plan says that of one experiment."""
    said = [f"{whole.here} of {whole.stages} stages are here already"] if whole.here else []
    said += [f"{whole.shared} are done once for several cells"] if whole.shared else []
    return {
        "total": price(whole.seconds, whole.low, whole.high),
        "range": f"for {whole.cells} cells; below is one of them",
        "here": "; ".join(said), "gpu": "", "gpu_basis": "", "path": "",
    }  # fmt: skip


def _problems(error: InvalidInput | DataMissing | DataCorrupt) -> list[Problem]:
    return _of_form(list(error.problems) or [Problem(str(error), "data.path")])


def _of_form(problems: Sequence[Problem]) -> list[Problem]:
    """A sweep's base is what the form has of a spec."""
    return [replace(one, field=re.sub(r"^base\b", "spec", one.field)) for one in problems]


def _missing(source: Experiment) -> str | None:
    """What of the experiment that is copied cannot be launched from here, and what helps."""
    lacking = not_known(source)
    if not lacking:
        return None
    return (
        f"Not loaded here: {', '.join(lacking)}. Install the plug-in that brings it, or name it in MODESCAPE_PLUGINS, "
        "for workers and server. What has no field in this form is left out of what it launches."
    )


def _with_shades(plan: Json) -> Json:
    total = sum(kind["seconds"] for kind in plan["kinds"]) or 1.0
    kinds = [
        {**kind, "share": kind["seconds"] / total, "shade": max(0.2, 0.85 - 0.17 * i)}
        for i, kind in enumerate(plan["kinds"])
    ]
    return {**plan, "kinds": kinds}


def _launch_form(
    request: Request,
    here: Site,
    *,
    values: forms.Values,
    plan: Json | None,
    problems: Sequence[Problem],
    preset: Preset | None,
    document: Mapping[str, Any],
    body: programs.Asked | None = None,
    source: Experiment | None = None,
    name: str = "",
    notes: str = "",
    tags: str = "",
    project: str = "",
    priority: str = "normal",
    status: int = 200,
    notice: str | None = None,
    varied: Sequence[tuple[str, str]] = (),
    paired: bool = False,
) -> Response:
    placed = [forms.place(problem, document, values) for problem in problems]
    was, began = _was(preset, source), _began(preset, source)
    sets = data.known(here)
    twin, price = _twin(preset) if preset else None, _prices(here, sets)
    absent = [row for row in sets if not row["own"] and not row["present"]]
    missing = [row["name"] for row in absent if row["state"] != "checking"]
    return render(
        request,
        here,
        "launch.html",
        status=status,
        section="/launch",
        notice=notice,
        source=source,
        sizes=_sizes(preset),
        protocol=_protocol(document) if preset else "",
        questions=_questions(preset, price, is_blank=preset is None and source is None),
        is_chosen=source is not None or "preset" in request.query_params or request.method == "POST",
        preset=preset,
        twin={"url": f"/launch?preset={twin.name}", "size": _size(twin), "price": price(twin.name)} if twin else None,
        sections=(
            sections := forms.sections(
                values,
                was=was,
                problems=placed,
                missing={row["name"]: "not here" if row["name"] in missing else "being checked" for row in absent},
                own_sets=list(here.store.own_sets.all()),
                automatic=plan["automatic"] if plan else {},
            )
        ),
        programs=_programs(request, body or _of_page(sections, preset, source, name, tags, project)),
        changes=forms.changes(sections, values),
        began=began,
        was=was,
        missing_titles=", ".join(datasets[name].title for name in missing),
        problems=placed,
        name_problem=next((problem for problem in placed if problem.field == "name"), None),
        name=name,
        notes=notes,
        tags=tags,
        tags_problem=next((problem for problem in placed if problem.field == "tags"), None),
        project=project,
        priority=priority,
        priorities=tuple(PRIORITIES),
        key=secrets.token_urlsafe(16),
        varied=[*varied, *[("", "")] * max(1, 3 - len(varied))],
        paired=paired,
        varied_choices=forms.paths(document),
        plan=plan,
        figures=figures.values(),
        claims=CLAIMS,
    )


def _of_page(
    sections: Sequence[forms.Section],
    preset: Preset | None,
    source: Experiment | None,
    name: str,
    tags: str,
    project: str,
) -> programs.Asked:
    """What a program would post of a form as it opens."""
    said: Json = {"name": name, "preset": preset.name if preset else None, "project": project}
    said |= {"tags": forms.parts(tags), "parent": source.slug if source else None}
    asked = {key: value for key, value in said.items() if value}
    document = forms.to_document(forms.posted(sections))
    return _asked([], asked, document, Draft(spec=document, preset=asked.get("preset")))


def _programs(request: Request, asked: programs.Asked) -> list[programs.Program]:
    """By the address that this page was asked at. Who is known by the account at the other end needs no token."""
    who = identity.asking(request)
    is_known = who is None or (who.sign_in is None and "authorization" not in request.headers)
    return programs.programs(asked, origin=str(request.base_url).rstrip("/") + at(""), needs_token=not is_known)


def _protocol(document: Mapping[str, Any]) -> str:
    training = document.get("training")
    return str(training.get("protocol", "paper")) if isinstance(training, Mapping) else "paper"


def _twin(preset: Preset) -> Preset | None:
    """The other size of the same preset."""
    if preset.twin_of:
        return presets[preset.twin_of]
    return next((other for other in presets.values() if other.twin_of == preset.name), None)


def _sizes(preset: Preset | None) -> list[tuple[str, str, bool]]:
    """Where a preset has two: each by its name, its address and whether it is this one."""
    twin = _twin(preset) if preset is not None else None
    if preset is None or twin is None:
        return []
    both = sorted((preset, twin), key=lambda one: one.twin_of is None)
    return [(_size(one), f"/launch?preset={one.name}", one is preset) for one in both]


@dataclass(frozen=True)
class Version:
    """A size of a preset: a preset of its own. words: what it does and costs."""

    title: str
    url: str
    chosen: bool
    words: str


@dataclass(frozen=True)
class Line:
    """A preset in the list, with the sizes that it has."""

    title: str
    summary: str
    paper: str
    thumbnail: str
    chosen: bool
    versions: tuple[Version, ...]


def _questions(chosen: Preset | None, price: Callable[[str], str], *, is_blank: bool) -> list[tuple[str, list[Line]]]:
    """The presets by the question that they answer, in their own order."""
    found: dict[str, list[Line]] = {}
    for preset in presets.values():
        if preset.twin_of is not None:
            continue
        sizes = [one for one in (_twin(preset), preset) if one is not None]
        versions = tuple(
            Version(
                _size(one) if len(sizes) > 1 or one.paper else "",
                f"/launch?preset={one.name}",
                chosen is one,
                f"{one.call().get('ensemble', {}).get('runs', 3)} runs · {price(one.name)}",
            )
            for one in sizes
        )
        line = Line(preset.title, preset.summary, preset.paper, preset.thumbnail, chosen in sizes, versions)
        found.setdefault(preset.question or _OTHER, []).append(line)
    empty = Version("", "/launch?preset=blank", is_blank, "")
    blank = Line("Blank", "Every field at its default.", "", _BLANK, is_blank, (empty,))
    found.setdefault(_OTHER, []).append(blank)
    others = found.pop(_OTHER)
    return [*found.items(), (_OTHER, others)]


def _size(preset: Preset) -> str:
    return "Short version" if preset.twin_of else "As in the paper"


@dataclass(frozen=True)
class KeptPrice:
    """What a preset costs, in words; made_of: all that decides it but which of its stages are here, which are those of
    the keys `asked` that were there."""

    words: str
    made_of: tuple[Any, ...]
    asked: frozenset[str]
    there: frozenset[str]


@while_known
def _entries() -> object:
    """Another one whenever an entry is registered."""
    return object()


def _prices(here: Site, sets: Sequence[Json]) -> Callable[[str], str]:
    """What a preset costs here, and what must be got first, by name. Reckoned anew where something has changed that it
    is made of: planning all of them takes a tenth of a second and more, asking which stages are here one query."""
    prepare, done = here.laboratory.preparing(), here.store.stages.here_already
    machines, gpu = prepare.keywords["machines"], prepare.keywords["gpu"]
    made_of = (_entries(), machines, gpu, repr(sets), counting.how_many_known())
    there = done({key for kept in list(here.prices.values()) for key in kept.asked})

    def price(name: str) -> str:
        kept = here.prices.get(name)
        if kept is None or kept.made_of != made_of or kept.there != kept.asked & there:
            asked: dict[str, bool] = {}

            def noting(keys: Collection[str]) -> set[str]:
                found = done(keys)
                asked.update({key: key in found for key in keys})
                return found

            said = _price(partial(prepare, done=noting), name)
            kept = KeptPrice(
                said, made_of, frozenset(asked), frozenset(key for key, is_there in asked.items() if is_there)
            )
            here.prices[name] = kept
        return kept.words

    return price


def _price(prepare: Callable[..., Prepared], name: str) -> str:
    try:
        prepared = prepare(presets[name].call(), as_published=True)
    except ModescapeError:  # the form says why once the preset is chosen
        return "does not fit the data here"
    said = catalogue.words(prepared.plan)
    words = ", ".join(text.replace(" ", "\u00a0") for text in (said["total"], said["gpu"]) if text)
    if prepared.plan.here == len(prepared.plan.stages):
        words = "here already"
    needed = " and ".join(dict.fromkeys(one.title for one in prepared.missing))
    return f"{words} · needs {needed}" if needed else words
