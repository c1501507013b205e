"""Pages about what there is: workers, the paper's numbers, the catalogue, data sets."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from modescape import own_files
from modescape.claims import CLAIMS
from modescape.drawing.words import thousands
from modescape.errors import Busy, Conflict, DataCorrupt, InvalidInput
from modescape.listing import Condition, ListQuery
from modescape.paper_numbers import beside
from modescape.records import Json, Status
from modescape.registry import (
    RECIPE,
    Dataset,
    Entry,
    Figure,
    Preset,
    architectures,
    corruptions,
    datasets,
    figures,
    methods,
    presets,
    studies,
)
from modescape_api.http import bodies
from modescape_api.http.site import WAITS, Here, Site
from modescape_api.pages import forms
from modescape_api.pages.rendering import render
from modescape_api.resources import data, workers
from modescape_api.resources.catalogue import brought

router = APIRouter()


@router.get("/workers")
def workers_page(request: Request, here: Here) -> Response:
    looks = {
        "working": Status.RUNNING,
        "idle": Status.SUCCEEDED,
        "stopped": Status.QUEUED,
        "silent": Status.FAILED,
    }
    rows = [workers.as_worker(here, row) for row in here.store.workers.all()]
    rows.sort(key=lambda row: (list(looks).index(row["state"]), row["name"]))
    served = {queue for row in rows if row["state"] in ("working", "idle") for queue in row["queue"].split(",")}
    failed = here.store.experiments.page(ListQuery((Condition("status", "eq", Status.FAILED),), limit=20)).items
    return render(
        request,
        here,
        "workers.html",
        workers=rows,
        looks=looks,
        failed=failed,
        waiting=here.store.experiments.page(ListQuery((Condition("status", "eq", Status.QUEUED),), limit=1)).total,
        unserved=[queue for queue in here.store.monitoring.waiting() if queue.queue not in served],
        last_event=here.store.events.last_id(),
    )


_GROUPS = (
    (
        "datasets",
        "Data sets",
        datasets,
        "Add one: a function marked @dataset, or a folder or .npz of your own on the Data page.",
    ),
    ("architectures", "Architectures", architectures, "Add one: a function marked @architecture."),
    ("methods", "Methods", methods, "Add one: a function marked @method; form, plan, plots and tests follow from it."),
    (
        "optimisers",
        "Optimisers",
        RECIPE["optimiser"],
        "Add one: a function marked @optimiser, often one line of torch.optim.",
    ),
    ("schedules", "Schedules", RECIPE["schedule"], "Add one: a function of the step, marked @schedule."),
    ("losses", "Losses", RECIPE["loss"], "Add one: a function of logits and targets, marked @loss."),
    (
        "augmentations",
        "Augmentations",
        RECIPE["augmentation"],
        "Add one: a function of a batch and random numbers, marked @augmentation.",
    ),
    (
        "trainers",
        "Trainers",
        RECIPE["trainer"],
        "Add one: a function marked @trainer that trains a member by any means and hands over its epochs.",
    ),
    ("studies", "Studies", studies, "Add one: a model marked @study, what it does and its figures, in one folder."),
    (
        "figures",
        "Figures",
        figures,
        "Add one: a function marked @figure that collects numbers, and one that draws them.",
    ),
    ("presets", "Presets", presets, "Add one: a function marked @preset that returns a spec."),
)


@router.get("/paper")
def paper_page(request: Request, here: Here) -> Response:
    return render(request, here, "paper.html", numbers=beside(here.store).numbers)


@router.get("/catalogue")
def catalogue_page(request: Request, here: Here) -> Response:
    groups = []
    for name, title, registry, add in _GROUPS:
        entries = [
            {
                "entry": e,
                "look": e.name if name == "methods" else None,
                "options": forms.option_controls(e, name),
                "facts": _facts(e),
            }
            for e in registry.values()
        ]
        groups.append({"name": name, "title": title, "add": add, "entries": entries})
    known, changing = list(CLAIMS.values()), list(corruptions.values())
    return render(
        request, here, "catalogue.html", groups=groups, claims=known, corruptions=changing, plugins=brought(here)
    )


def _facts(entry: Entry) -> list[str]:
    facts = []
    if isinstance(entry, Dataset) and entry.train_total:
        shape = f"{entry.channels} × {entry.height} × {entry.width}"
        facts.append(f"{thousands(entry.train_total)} + {thousands(entry.test_total)} images, {shape}")
    if isinstance(entry, Figure):
        facts.append(entry.question)
    if isinstance(entry, Figure | Preset) and entry.paper:
        facts.append(entry.paper)
    if entry.brought is not None:
        where = "" if entry.loaded else "; not loaded here, workers have it"
        facts.append(f"of the plug-in {entry.brought.title}{where}")
    return facts


_PARTS = ("train", "validation", "test")  # validation: where a set has images of its own for it


@router.get("/data")
def data_page(request: Request, here: Here) -> Response:
    own_files.warm()
    return _data(request, here)


def _words_of(row: Json) -> str:
    """Of a registered set, or of one that is not yet."""
    if "train" not in row:
        return str(row["how"])
    return f"{' + '.join(str(row[part]) for part in _PARTS if row.get(part))} images, {len(row['classes'])} classes"


def _data(
    request: Request,
    here: Site,
    *,
    problem: str = "",
    typed: Json | None = None,
    is_taken: bool = False,
    status: int = 200,
) -> Response:
    """typed: what the form had; is_taken: the name is another place's, and the form offers to replace it."""
    from modescape.science.data import shown_order

    rows = data.known(here)
    own = [
        {**row, "said": _words_of(row), "shown": [(row["classes"][i], i) for i in shown_order(row.get("classes", ()))]}
        for row in rows
        if row["own"]
    ]
    return render(
        request,
        here,
        "data.html",
        status=status,
        section="/data",
        sets=[row for row in rows if not row["own"]],
        own=own,
        folders=here.settings.data_folders,
        roots=here.settings.registration_roots,
        problem=problem,
        is_taken=is_taken,
        **{"path": "", "name": "", "white": "", "label": "", "numbers": False, **(typed or {})},
    )


@router.post("/data", dependencies=WAITS)
def register_data(
    request: Request,
    here: Here,
    path: Annotated[str, Form()] = "",
    name: Annotated[str, Form()] = "",
    replace: Annotated[bool, Form()] = False,
    white: Annotated[str, Form()] = "",
    label: Annotated[str, Form()] = "",
    numbers: Annotated[bool, Form()] = False,
) -> Response:
    typed: Json = {"path": path, "name": name, "white": white, "label": label, "numbers": numbers}
    try:
        asked = {
            "path": path.strip(), "name": name if name.strip() else None, "white": white.strip() or None,
            "label": label or None, "numbers": numbers, "replace": replace,
        }  # fmt: skip
        data.add_data(here, bodies.validate(data.Wanted, asked))
    except Conflict as error:
        is_taken = not isinstance(error, Busy)
        return _data(request, here, problem=str(error), typed=typed, is_taken=is_taken, status=409)
    except (InvalidInput, DataCorrupt) as error:
        return _data(request, here, problem=str(error), typed=typed, status=422)
    return RedirectResponse("/data", status_code=303)


@router.post("/data/unregister")
def unregister_data(request: Request, here: Here, name: Annotated[str, Form(max_length=200)] = "") -> Response:
    data.remove_data(here, name)
    return RedirectResponse("/data", status_code=303)


@router.post("/data/fetch")
def fetch_data(request: Request, here: Here, name: Annotated[str, Form(max_length=64)] = "") -> Response:
    data.add_data(here, bodies.validate(data.Wanted, {"fetch": name}))
    return RedirectResponse("/data", status_code=303)
