"""The page on which an ensemble made elsewhere comes in: its files, what was understood, what is odd, what is asked.

A script sends files in parts to /api/uploads and posts their digests here; without it the form posts one file itself.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from modescape import documents, names
from modescape.apart import Look, SeenOddity
from modescape.errors import Conflict, DataMissing, InvalidInput, NoRoom, NotFound, Problem
from modescape.gathering import About
from modescape.imported import inputs
from modescape.outage import megabytes
from modescape.records import Json
from modescape.registry import architectures, datasets
from modescape.tables import Experiment, Gathering
from modescape.uploads import QuotaReached, Uploads
from modescape_api.http import bodies
from modescape_api.http.site import WAITS, Here, Site
from modescape_api.pages.display import counted
from modescape_api.pages.rendering import back, render
from modescape_api.resources import imports
from modescape_api.resources.imports import Answered, FileSent, Import, LookAt, Weights

router = APIRouter()

_BLOCK = 1 << 20
_LEFT = 0.05  # of the disk, for those who work
ANSWERS = ("kind", "recipe", "permutation", "mixed", "outputs", "labels")
KINDS = {
    "logits": "logits",
    "probs": "probabilities",
    "log-probs": "logarithms of probabilities",
    "labels": "predicted labels alone",
}
RECIPES = {
    "unknown": "not known: no claim has a word",
    "same": "yes: same recipe, different seeds",
    "different": "no: they differ in more",
}
ROLES = {"id": "test images", "validation": "validation images", "ood": "images of another kind", "shift": "shifted"}
LEVELS = {
    "refused": "Refused",
    "failed": "Counts as failed",
    "asked": "Asked",
    "left-out": "Left out of claims",
    "told": "Good to know",
}


@dataclass(frozen=True)
class Question:
    """A question of the door as a field. chosen: what was answered."""

    field: str
    sentence: str
    choices: tuple[tuple[str, str], ...]
    chosen: str


@router.post("/import/weights", dependencies=WAITS)
async def weights_post(request: Request, here: Here) -> Response:
    """Import networks by their weights."""
    async with _form(request, here) as form:
        return await run_in_threadpool(_weights_posted, request, here, form)


def _weights_posted(request: Request, here: Site, form: FormData) -> Response:
    given = {name: value for name, value in form.multi_items() if isinstance(value, str)}
    files: list[FileSent] = []
    problems: Sequence[Problem]
    try:
        files = _files(here, form, given)
        asked = bodies.validate(Weights, _of_weights(given, files))
        row = imports.bring_in(here, asked, key=given.get("key") or None)
        return back(f"/experiments/{row.slug}")
    except (InvalidInput, DataMissing) as error:
        problems = error.problems
    except (NotFound, Conflict) as error:
        problems = [Problem(str(error), "files")]
    return _page(request, here, files=files, given=given, problems=problems, of_weights=True, status=422)


def _of_weights(given: Mapping[str, str], files: Sequence[FileSent]) -> Json:
    """What was typed, as the API is asked for it. Raises InvalidInput for JSON that is none."""
    plain = {name: given[name] for name in ("architecture", "inputs", "keys", "recipe") if given.get(name)}
    typed = given.get("data", "").strip()
    stated = (part.strip() for part in given.get("expect_accuracy", "").split(","))
    return {
        **plain,
        "held_out": bool(given.get("held_out")),
        "name": given.get("name", "").strip() or _named(files),
        "files": [file.model_dump() for file in files],
        "data": _object("data", typed) if typed.startswith("{") else typed,
        "options": _object("options", given.get("options", "")),
        "more": _object("more", given.get("more", "")),
        "expect_accuracy": [part for part in stated if part],
        "by": "the page Import",
    }


def _object(field: str, typed: str) -> Json:
    """An object that was typed as JSON; {} where nothing was. Raises InvalidInput."""
    found = documents.from_json(typed.strip() or "{}", field)
    if not isinstance(found, dict):
        raise InvalidInput("is no object", field=field, allowed="a JSON object, { ... }")
    return found


@router.get("/import")
def import_page(request: Request, here: Here) -> Response:
    return _page(request, here)


@router.post("/import", dependencies=WAITS)
async def import_post(request: Request, here: Here) -> Response:
    """Look at files again with the answers given, or import them."""
    async with _form(request, here) as form:
        return await run_in_threadpool(_posted, request, here, form)


@asynccontextmanager
async def _form(request: Request, here: Site) -> AsyncIterator[FormData]:
    """What was filled in, with a file, for which there is room before any of it is written to the disk. Raises
    QuotaReached, NoRoom, and Busy where many are sent."""
    length, uploads = request.headers.get("content-length", ""), here.intake.uploads
    if not length.isdecimal() or int(length) > uploads.quota:
        raise QuotaReached(f"the form has {length or 'an unknown number of'} bytes; {uploads.quota:,} may be sent")
    with here.forms.taken():
        async with AsyncExitStack() as opened:
            with ExitStack() as kept:
                await run_in_threadpool(_keep_room, uploads, int(length), kept)
                sent = request.form(max_files=1, max_fields=100, max_part_size=1 << 20)
                form = await opened.enter_async_context(sent)
            yield form


def _keep_room(uploads: Uploads, size: int, kept: ExitStack) -> None:
    """Until `kept` ends. Raises QuotaReached, NoRoom."""
    disk = shutil.disk_usage(tempfile.gettempdir())  # where it lies until it is taken in
    if disk.free - size < _LEFT * disk.total:
        raise NoRoom(
            f"the form has {megabytes(size)}, and {megabytes(disk.free)} are free for it, of which 5 % of the disk are "
            "left alone"
        )
    kept.enter_context(uploads.room_for(size))


def _posted(request: Request, here: Site, form: FormData) -> Response:
    given = {name: value for name, value in form.multi_items() if isinstance(value, str)}
    files: list[FileSent] = []
    problems: Sequence[Problem] = ()
    look = None
    try:
        files = _files(here, form, given)
        asked = {name: given[name] for name in ANSWERS if given.get(name)} | {"files": [f.model_dump() for f in files]}
        name = given.get("name", "").strip()
        if given.get("do") == "import":
            document = bodies.validate(Import, {**asked, "name": name or _named(files), "by": "the page Import"})
            about = About(by=document.by, key=given.get("key") or None)
            row = here.intake.archive(document.name, document.sent(), document.asked(document.name), about=about)
            imports.changed(here, row)
            return back(_place(here, row))
        wanted = bodies.validate(LookAt, {**asked, **({"name": name} if name else {})})
        look = here.intake.look(wanted.sent(), wanted.asked(wanted.name))
    except InvalidInput as error:
        problems = error.problems
    except (NotFound, Conflict) as error:
        problems = [Problem(str(error), "files")]
    if problems and files and given.get("do") == "import":
        look, _ = _again(here, files, given)
    return _page(request, here, files=files, given=given, look=look, problems=problems, status=422 if problems else 200)


def _again(here: Site, files: Sequence[FileSent], given: Mapping[str, str]) -> tuple[Look | None, Sequence[Problem]]:
    """What is understood, for a page that says what was wrong with an answer."""
    asked = {name: given[name] for name in ANSWERS if given.get(name)}
    try:
        answered = bodies.validate(Answered, {**asked, "files": [file.model_dump() for file in files]})
        return here.intake.look(answered.sent(), answered.asked()), ()
    except InvalidInput as error:
        return None, error.problems
    except NotFound:
        return None, ()


def _files(here: Site, form: FormData, given: Mapping[str, str]) -> list[FileSent]:
    """Those that were sent before, and the one that came with the form. Raises InvalidInput."""
    listed = documents.from_json(given.get("files") or "[]", "files", allowed="a list of name and sha256")
    sent, new = form.get("file"), []
    if isinstance(sent, UploadFile) and sent.filename:
        name = sent.filename.replace("\\", "/").rpartition("/")[2]
        new = [bodies.validate_part(FileSent, {"name": name, "sha256": _stored(here.intake.uploads, sent)})]
    if not isinstance(listed, list) or not (listed or new):
        raise InvalidInput("are none", field="files", allowed="choose a file, or several")
    kept = [bodies.validate_part(FileSent, one) for one in listed]
    return [one for one in kept if one.name not in {file.name for file in new}] + new


def _stored(uploads: Uploads, sent: UploadFile) -> str:
    """Keep a file that came with a form, as if it had been sent by itself."""
    digest, size = hashlib.sha256(), 0
    while block := sent.file.read(_BLOCK):
        digest.update(block)
        size += len(block)
    name = digest.hexdigest()
    state = uploads.state(name)
    if not state.complete:
        sent.file.seek(state.received)
        with uploads.receiving(name, offset=state.received, total=size) as target:
            while block := sent.file.read(_BLOCK):
                target.write(block)
        uploads.finish(name, size)
    return name


def _named(files: Sequence[FileSent]) -> str:
    """After the folder, or the one file, that was sent."""
    tops = {file.name.partition("/")[0] for file in files}
    only = tops.pop() if len(tops) == 1 else ""
    return (only if "/" in files[0].name else only.partition(".")[0])[: names.LONGEST] if only else "ensemble"


def _place(here: Site, row: Gathering) -> str:
    experiment = here.intake.experiment(row)
    return "/import" if experiment is None else f"/experiments/{experiment.slug}"


def _page(
    request: Request,
    here: Site,
    *,
    files: Sequence[FileSent] = (),
    given: Mapping[str, str] | None = None,
    look: Look | None = None,
    problems: Sequence[Problem] = (),
    of_weights: bool = False,
    status: int = 200,
) -> Response:
    given = given or {}
    questions = [_question(one, given) for one in look.asked] if look else []
    return render(
        request,
        here,
        "import.html",
        status=status,
        section="/import",
        files=[file.model_dump() for file in files],
        files_json=json.dumps([file.model_dump() for file in files]),
        look=look,
        problems=problems,
        is_missing_labels=not of_weights and any(problem.field == "labels" for problem in problems),
        questions=questions,
        chosen={name: given.get(name, "") for name in ANSWERS},
        asked={question.field for question in questions},
        odd=[(LEVELS.get(one.level, one.level), one) for one in (look.odd if look else ()) if not one.choices],
        name=given.get("name") or (_named(files) if files else ""),
        key=given.get("key") or uuid.uuid4().hex,
        of_weights=of_weights,
        given=given,
        architectures=[(name, entry.title) for name, entry in architectures.items()],
        datasets=sorted({*datasets, *here.store.own_sets.all()}),
        scales=list(inputs.names()),
        kinds=KINDS,
        recipes=RECIPES,
        roles=ROLES,
        request_url=here.settings.url,
        waiting=[_row(here, row) for row in here.store.gatherings.all(50) if not row.sealed],
    )


def _question(one: SeenOddity, given: Mapping[str, str]) -> Question:
    choices = tuple((choice.value, choice.words) for choice in one.choices)
    default = "unknown" if one.what == "recipe" else ""
    return Question(one.what, one.sentence, choices, given.get(one.what) or default)


@dataclass(frozen=True)
class Waiting:
    """An import that waits for members. slug: of its experiment, "" before the first came."""

    id: str
    name: str
    here: int
    planned: int
    slug: str


def _row(here: Site, row: Gathering) -> Waiting:
    experiment = here.intake.experiment(row)
    return Waiting(row.id, row.name, _count(here, row), row.planned, experiment.slug if experiment else "")


def _count(here: Site, row: Gathering) -> int:
    """Members that are here."""
    return sum(len(one.members) for one in here.store.gatherings.pieces(row.id))


# -- on the page of an experiment -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Growing:
    """How an experiment whose members came one by one stands, by what it came from, which knows it before anything is
    judged. is_look: it was sealed, and stays as it is; is_open: more members are awaited, of it or of what followed it;
    here, planned: members, as they are by now; present: slug of the experiment that the next member goes to or follows;
    training: ids of those that are still being trained."""

    id: str
    is_look: bool
    is_open: bool
    is_present: bool
    here: int
    planned: int
    looks: tuple[str, ...]
    present: str
    training: tuple[str, ...] = ()

    @property
    def awaits_first(self) -> bool:
        """Whether no member has come yet, and all that is here are curves of those that are being trained."""
        return self.is_open and self.is_present and self.here == 0

    @property
    def count(self) -> str:
        return f"{self.here} of {counted(self.planned, 'member')}"


def growing(here: Site, row: Experiment) -> Growing | None:
    """None of an experiment that was trained here."""
    found = here.store.gatherings.of_experiment(row.id) if row.provenance else None
    if found is None:
        return None
    told = imports.as_import(here, found)
    training = tuple(one.member for one in here.store.logged.of_experiment(row.id))
    return Growing(
        found.id, row.id in found.looks, not found.sealed, found.experiment_id == row.id, told["here"], found.planned,
        tuple(told["looks"]), told["experiment"] or "", training,
    )  # fmt: skip


@router.post("/imports/{id}/seal")
def seal(here: Here, id: str, shown: Annotated[int | None, Form(alias="here")] = None) -> Response:
    return back(_place(here, imports.changed(here, here.intake.seal(id, shown))))


@router.post("/imports/{id}/reopen")
def reopen(here: Here, id: str, planned: Annotated[int, Form()]) -> Response:
    return back(_place(here, here.intake.reopen(id, planned)))
