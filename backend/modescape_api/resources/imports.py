"""Ensembles made elsewhere come in: looked at, imported at once, or added to member by member until they are sealed.

Files are sent before (`uploads`) and named here by their digests. They are read in a process of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from fastapi import APIRouter, Header, Path, Query, Response
from pydantic import Field

from modescape import own_sets
from modescape.apart import Asked
from modescape.errors import InvalidInput, NotFound
from modescape.gathering import MOST_MEMBERS, About, SentFile
from modescape.imported.ensemble import Recipe
from modescape.imported.tensor_names import Keys
from modescape.importing_weights import Choices, data_of, refuse_said_twice
from modescape.pydantic_errors import MOST_VALUES
from modescape.records import Json
from modescape.store.curves import SeriesPoints, joined
from modescape.tables import Experiment, Gathered, Gathering
from modescape_api.http import bodies, problems, replies
from modescape_api.http.bodies import Body, Name, Notes, Tag, body
from modescape_api.http.proxies import at
from modescape_api.http.site import WAITS, Here, Site
from modescape_api.resources import data
from modescape_api.resources.examples import Example, answer, answers
from modescape_api.resources.experiments import as_document

router = APIRouter(tags=["imports"])

MOST_LOGGED = 50_000  # steps of a request, which may have 1 MB

Kind = Literal["logits", "probs", "log-probs", "labels"]
RecipeWord = Literal["same", "different", "unknown"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Id = Annotated[str, Path(max_length=36, description="The import's id.")]
MemberId = Annotated[str, Path(min_length=1, max_length=100, description="The member's id.")]
Planned = Annotated[int, Field(ge=1, le=MOST_MEMBERS)]
Training = Annotated[str, Field(max_length=100, pattern=r"^[\x21-\x7e]*$")]
By = Annotated[str, Field(max_length=200, description="Who sends it, in words of their own; kept with the files.")]


class FileSent(Body):
    """A file that was sent to /api/uploads."""

    name: str = Field(
        min_length=1, max_length=1000, description="Its path inside what is sent, such as ood/svhn.logits.npy."
    )
    sha256: Sha256 = Field(description="Its digest.")

    def sent(self) -> SentFile:
        return SentFile(self.name, self.sha256)


Files = Annotated[tuple[FileSent, ...], Field(max_length=5000, fail_fast=True)]
_VALUES_OF_FILES = 3 * 5000  # each is one, and has a name and a digest


class Answered(Body):
    """Files, and what only the user knows of them."""

    most_values: ClassVar[int] = _VALUES_OF_FILES + 110_000

    files: Files = Field((), description="A folder's files, or one: .npz, .zip, .npy, .csv, .parquet, .arrow.")
    kind: Kind | None = Field(None, description="What the numbers are; empty: as they look.")
    recipe: RecipeWord | None = Field(None, description="same: members differ by their seeds alone.")
    permutation: Literal["apply", "keep"] | None = Field(
        None, description="Whether classes are put in the labels' order, where another order fits far better."
    )
    mixed: Literal["keep"] | None = Field(
        None, description="That members or sets whose rows look like probabilities are logits, among others that are."
    )
    outputs: str | None = Field(None, max_length=1000, description="Which array holds the outputs.")
    labels: str | None = Field(None, max_length=1000, description="Which array, or file, holds the true labels.")
    classes: tuple[Annotated[str, Field(max_length=200)], ...] = Field(
        (), max_length=100_000, fail_fast=True, description="Names of the classes, in the order of the arrays."
    )

    def asked(self, name: str | None = None) -> Asked:
        return Asked(
            self.kind, self.recipe, self.permutation, self.outputs, self.labels, name, self.classes, self.mixed
        )

    def sent(self) -> list[SentFile]:
        return [one.sent() for one in self.files]


class LookAt(Answered):
    """Files to be looked at."""

    name: Name | None = Field(None, description="What the ensemble is called; empty: as the files say.")


class Import(Answered):
    """An ensemble to be: of files, all of it or its first members; or, without files, one that waits for members."""

    name: Name = Field(description="How people call it.")
    planned: Planned | None = Field(
        None, description="Members there will be. It then waits for the rest, and is sealed by a request of its own; "
        "empty: the files are all of it."
    )  # fmt: skip
    truth: dict[Literal["test", "validation"], Sha256] = Field(
        default_factory=dict,
        description="Without files: the .npy files of the true labels, by the set they are of.",
    )
    notes: Notes = Field("", description="Anything worth remembering.")
    tags: tuple[Tag, ...] = Field((), max_length=20, fail_fast=True, description="Words to find it by.")
    by: By = ""


class Weights(Body):
    """Networks trained elsewhere, of which the weights were sent."""

    most_values: ClassVar[int] = _VALUES_OF_FILES + MOST_VALUES

    name: Name = Field(description="How people call it.")
    files: Files = Field(
        min_length=1,
        description="A file a member, .safetensors or of torch, in natural order of their names; "
        "snapshots/<member>/<epoch>.* are of a member along its training, curve/* is the bend of a Bezier curve "
        "between the first two.",
    )
    architecture: str = Field(max_length=200, description="The network, as the catalogue names it.")
    options: dict[str, Any] = Field(default_factory=dict, max_length=100, description="The network's options.")
    data: str | dict[str, Any] = Field(description="The data set they were trained on: its name, or `data` of a spec.")
    inputs: str | None = Field(
        None, max_length=400, description="How pixels were scaled: unit, imagenet, mean=...;std=..., +bgr behind it."
    )
    keys: Literal["by-name", "by-order"] = Field("by-name", description="How tensors find their place.")
    recipe: RecipeWord = Field("unknown", description="same: members differ by their seeds alone.")
    held_out: bool = Field(
        False, description="Whether the validation images, the last of the training files, were not trained on."
    )
    expect_accuracy: tuple[Annotated[str, Field(max_length=40)], ...] = Field(
        (),
        max_length=MOST_MEMBERS,
        fail_fast=True,
        description="As they were printed (.9173, 91.73 %), one for each member, or none.",
    )
    more: dict[str, Any] = Field(
        default_factory=dict, max_length=100, description="Further parts of the spec: methods, planes, tunnels, ..."
    )
    notes: Notes = Field("", description="Anything worth remembering.")
    tags: tuple[Tag, ...] = Field((), max_length=20, fail_fast=True, description="Words to find it by.")
    by: By = ""

    def sent(self) -> list[SentFile]:
        return [one.sent() for one in self.files]


class NewMember(Body):
    """One member of an import that waits for members."""

    most_values: ClassVar[int] = _VALUES_OF_FILES + MOST_VALUES

    files: Files = Field(
        min_length=1,
        description="One .npy of its outputs on the test set, [examples, classes]; or files by the names of the "
        "format, each of this member.",
    )
    seed: int | None = Field(None, ge=-(2**63), lt=2**63, description="The seed it was trained from.")
    config: dict[str, Any] = Field(default_factory=dict, max_length=200, description="Anything that is known of it.")
    permutation: Literal["apply", "keep"] | None = Field(None, description="As when an ensemble is imported at once.")
    kind: Kind | None = Field(
        None, description="What its numbers are: as was declared of all, or, where nobody did, of this one."
    )
    mixed: Literal["keep"] | None = Field(
        None, description="That its rows, which look like another kind than was declared, are of that kind."
    )
    by: By = ""
    training: Training = Field("", description="Whose points are its curves; empty: those that came last.")


class LoggedTogether(Body):
    """Numbers that were logged at the same steps."""

    steps: list[Annotated[int, Field(ge=-(2**63), lt=2**63)]] = Field(
        max_length=MOST_LOGGED,
        fail_fast=True,
        description="Where they were logged, in any order; of two points at one step the later is kept.",
    )
    times: list[float] | None = Field(
        None, max_length=MOST_LOGGED, fail_fast=True, description="When: Unix times, one a step."
    )
    values: dict[str, Annotated[list[float | None], Field(max_length=MOST_LOGGED, fail_fast=True)]] = Field(
        max_length=500, description="By the name of the curve, one a step; null: no finite number."
    )

    def curves(self, field: str) -> dict[str, SeriesPoints]:
        """Raises InvalidInput where there are more or fewer of them than steps."""
        lengths = {f"values.{name[:80]}": len(values) for name, values in self.values.items()}
        lengths |= {} if self.times is None else {"times": len(self.times)}
        steps = np.array(self.steps, np.int64)
        for at_, length in lengths.items():
            if length != len(steps):
                raise InvalidInput(f"has {length:,}", field=f"{field}.{at_}", allowed=f"one a step: {len(steps):,}")
        times = np.full(len(steps), np.nan) if self.times is None else np.array(self.times, np.float64)
        return {name: SeriesPoints(steps, np.array(some, np.float64), times) for name, some in self.values.items()}


class NewPoints(Body):
    """Points of curves of a member that is being trained."""

    most_values: ClassVar[int] = 500_000  # as many as there can be in 1 MB

    batch: str = Field(
        min_length=1, max_length=100, pattern=r"^[\x21-\x7e]+$",
        description="Your own name for these points: sent again, under the same name, they change nothing.",
    )  # fmt: skip
    training: Training = Field(
        "", description="Your own name for this training of the member: points of an earlier one, that was killed and "
        "is done again, are left aside.",
    )  # fmt: skip
    logged: tuple[LoggedTogether, ...] = Field(
        min_length=1,
        max_length=1000,
        fail_fast=True,
        description="Numbers that were logged together, in the order in which they were.",
    )

    def curves(self) -> dict[str, SeriesPoints]:
        """By name. Raises InvalidInput for what is not one a step, and for more than are taken at once."""
        found: dict[str, list[SeriesPoints]] = {}
        for number, together in enumerate(self.logged):
            for name, points in together.curves(f"logged.{number}").items():
                found.setdefault(name, []).append(points)
        return {name: joined(parts) for name, parts in found.items()}


class Sealing(Body):
    """What is sealed, as it was seen."""

    here: int | None = Field(
        None, ge=0, le=MOST_MEMBERS, description="Members that are here, as you saw it: where there are others by now, "
        "it is refused and nothing is sealed. Empty: however many there are.",
    )  # fmt: skip


class Reopening(Body):
    """More members than before."""

    planned: Planned = Field(description="Members there will be, with those that are here.")


# -- as documents -----------------------------------------------------------------------------------------------------


def as_import(here: Site, row: Gathering) -> Json:
    """Everything about one import. members: those that are here, with the files they came in."""
    pieces = here.store.gatherings.pieces(row.id)
    base, declared = at(f"/api/imports/{row.id}"), row.declared
    slugs = _slugs(here, [*row.looks, *([row.experiment_id] if row.experiment_id else [])])
    experiment = slugs.get(row.experiment_id or "")
    return {
        "id": row.id,
        "name": row.name,
        "state": "sealed" if row.sealed else "open",
        "here": sum(len(one.members) for one in pieces),
        "planned": row.planned,
        "kind": declared.get("kind"),
        "recipe": declared.get("recipe"),
        "members": [member for one in pieces for member in _members(one)],
        "odd": _odd(here, row, pieces),
        "experiment": experiment,
        "looks": [slugs[id_] for id_ in row.looks if id_ in slugs],
        "created_at": row.created_at,
        "changed_at": row.changed_at,
        "links": {
            "self": base,
            "page": at(f"/experiments/{experiment}") if experiment else None,
        },
    }


def _odd(here: Site, row: Gathering, pieces: Sequence[Gathered]) -> list[Json]:
    """What was odd of all that came: as the experiment tells it, which knows of copies and of who is missing."""
    try:
        told = here.store.experiments.get(row.experiment_id).provenance if row.experiment_id else None
    except NotFound:  # purged since
        told = None
    found: list[Json] | None = (told or {}).get("odd")
    return [odd for one in pieces for odd in one.piece["odd"]] if found is None else found


def _members(piece: Gathered) -> list[Json]:
    about = {one["id"]: one for one in piece.piece["members"]}
    return [
        {"id": id_, "seed": about[id_]["seed"], "config": about[id_]["config"], "at": piece.at, "files": piece.files}
        for id_ in piece.members
    ]


def _slugs(here: Site, ids: Sequence[str]) -> dict[str, str]:
    return {id_: row.slug for id_, row in here.store.experiments.named(ids).items()}


def changed(here: Site, row: Gathering) -> Gathering:
    """Wake workers for what there is to do now."""
    if row.experiment_id is not None:
        here.notify_workers(row.experiment_id)
    return row


# -- endpoints --------------------------------------------------------------------------------------------------------

_UNFIT = problems.documented("malformed", "not-found", "too-large", "wrong-media-type", "invalid-input")
Key = Annotated[
    str | None, Header(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$", description="Any text of your own.")
]


@router.post(
    "/api/imports/look",
    dependencies=WAITS,
    summary="Look at files that were sent",
    description="What is understood of them, what is odd, and what is asked; nothing is kept. Files that cannot be "
    "read, however they are answered, are refused by name.",
    openapi_extra=bodies.documented(LookAt, Example("ask-look")),
    responses={200: answer("What was understood", "look"), **_UNFIT},
)
def look(here: Here, asked: Annotated[LookAt, body(LookAt)]) -> Response:
    found = here.intake.look(asked.sent(), asked.asked(asked.name))
    return replies.json(asdict(found), headers={"cache-control": "no-store"})


@router.post(
    "/api/imports",
    status_code=201,
    dependencies=WAITS,
    summary="Import an ensemble, or open one that waits for members",
    description="With files and without `planned`: the experiment of all of them, at once. With `planned`: its page "
    "shows estimates and intervals so far, and no word is given until it is sealed. Open questions are refused, with "
    "the field that answers them. With an `Idempotency-Key` the request may be repeated safely.",
    openapi_extra=bodies.documented(Import, Example("ask-import")),
    responses={201: answer("Stored; `Location` names it", "import"), **_UNFIT, **problems.documented("conflict")},
)
def create(here: Here, asked: Annotated[Import, body(Import)], idempotency_key: Key = None) -> Response:
    about = About(asked.notes, asked.tags, asked.by, idempotency_key)
    if asked.files:
        row = here.intake.archive(asked.name, asked.sent(), asked.asked(asked.name), planned=asked.planned, about=about)
    elif asked.planned is None:
        raise InvalidInput(
            "are none", field="files", allowed="files that were sent; or `planned`, to add members later"
        )
    else:
        truth = {str(place): digest for place, digest in asked.truth.items()}
        row = here.intake.open(
            asked.name, asked.planned, labels=truth, kind=asked.kind, recipe=asked.recipe,
            classes=asked.classes, about=about,
        )  # fmt: skip
    return _answered(here, changed(here, row), status=201)


def bring_in(here: Site, asked: Weights, *, key: str | None = None) -> Experiment:
    """The experiment of weights that were sent, and workers woken for it. Raises InvalidInput, DataMissing, NotFound,
    Conflict."""
    choices = Choices(
        asked.architecture, data_of(asked.data, asked.inputs), asked.options, Keys(asked.keys), Recipe(asked.recipe),
        asked.held_out, more=asked.more,
    )  # fmt: skip
    refuse_said_twice(choices)
    told = {**asked.more.get("data", {}), **choices.data}
    document = own_sets.named({**asked.more, "data": told}, here.store.own_sets.all())
    resolved = data.resolved(here.settings, document)
    choices = replace(choices, data=resolved["data"], more={k: v for k, v in resolved.items() if k != "data"})
    about = About(asked.notes, asked.tags, asked.by, key)
    row = here.intake.weights(asked.name, asked.sent(), choices, expect=asked.expect_accuracy, about=about)
    here.notify_workers(row.id)
    return row


@router.post(
    "/api/imports/weights",
    status_code=201,
    dependencies=WAITS,
    summary="Import networks by their weights",
    description="The experiment that evaluates them. A worker puts every tensor into its place, checks the accuracies "
    "that were stated, and says on the experiment's page which went where, or in words what does not fit. With an "
    "`Idempotency-Key` the request may be repeated safely.",
    openapi_extra=bodies.documented(Weights, Example("ask-weights")),
    responses={
        201: answer("Stored; `Location` names it", "experiment"),
        **_UNFIT,
        **problems.documented("conflict", "data-missing", "data-corrupt"),
    },
)
def create_of_weights(here: Here, asked: Annotated[Weights, body(Weights)], idempotency_key: Key = None) -> Response:
    row = bring_in(here, asked, key=idempotency_key)
    headers = {"location": at(f"/api/experiments/{row.slug}"), "cache-control": "no-store"}
    return replies.json(as_document(here, row), status=201, headers=headers)


@router.get(
    "/api/imports",
    summary="Imports, the newest first",
    description="At most 200. `experiment` narrows to the one of an experiment, by its slug or id.",
    responses={200: answer("Those there are", "imports"), **problems.documented("not-found")},
)
def imports(here: Here, experiment: Annotated[str | None, Query(max_length=200)] = None) -> Response:
    if experiment is None:
        rows = here.store.gatherings.all()
    else:
        found = here.store.gatherings.of_experiment(here.store.experiments.get(experiment).id)
        rows = [] if found is None else [found]
    return replies.json({"items": [as_import(here, row) for row in rows]}, headers={"cache-control": "no-store"})


@router.get("/api/imports/{id}", summary="One import", responses=answers("The import", "import", "not-found"))
def one_import(here: Here, id: Id) -> Response:
    return _answered(here, here.store.gatherings.get(id))


@router.put(
    "/api/imports/{id}/members/{member}",
    status_code=201,
    dependencies=WAITS,
    summary="Add a member",
    description="The same content again changes nothing and answers 200; other content under the same id is refused.",
    openapi_extra=bodies.documented(NewMember, Example("ask-member")),
    responses={
        200: answer("It was here", "import"),
        201: answer("Added", "import"),
        **_UNFIT,
        **problems.documented("conflict"),
    },
)
def add_member(
    here: Here,
    id: Id,
    member: MemberId,
    asked: Annotated[NewMember, body(NewMember)],
) -> Response:
    sent = [one.sent() for one in asked.files]
    row, is_new = here.intake.add(
        id, member, sent, seed=asked.seed, config=asked.config, permutation=asked.permutation, kind=asked.kind,
        mixed=asked.mixed, by=asked.by, training=asked.training or None,
    )  # fmt: skip
    return _answered(here, changed(here, row) if is_new else row, status=201 if is_new else 200)


@router.post(
    "/api/imports/{id}/members/{member}/points",
    status_code=201,
    summary="Log points of a member that is being trained",
    description="They are shown as they come, and are the member's curves once it is added; then no more are taken. "
    "The same batch again changes nothing and answers 200. With the first points of an import it is an experiment.",
    openapi_extra=bodies.documented(NewPoints, Example("ask-points")),
    responses={
        200: answer("They were here", "points-taken"),
        201: answer("Kept", "points-taken"),
        **_UNFIT,
        **problems.documented("conflict"),
    },
)
def log_points(here: Here, id: Id, member: MemberId, asked: Annotated[NewPoints, body(NewPoints)]) -> Response:
    taken = here.intake.points(id, member, asked.batch, asked.curves(), asked.training)
    if taken.has_begun and taken.experiment_id is not None:
        here.notify_workers(taken.experiment_id)
    headers = {"cache-control": "no-store"}
    said = {"batch": asked.batch, "experiment": taken.experiment_id}
    return replies.json(said, status=201 if taken.is_new else 200, headers=headers)


@router.post(
    "/api/imports/{id}/seal",
    summary="Seal it: nothing more is awaited",
    description="From now on claims have words: this is a look at these members, which cannot be taken back. Sealed "
    "again it stays. With `here`, only if so many members are here.",
    openapi_extra=bodies.documented(Sealing, Example("ask-sealing"), required=False),
    responses={200: answer("Sealed", "import"), **_UNFIT, **problems.documented("conflict")},
)
def seal(here: Here, id: Id, asked: Annotated[Sealing, body(Sealing)]) -> Response:
    return _answered(here, changed(here, here.intake.seal(id, asked.here)))


@router.post(
    "/api/imports/{id}/reopen",
    summary="Wait for more members",
    description="The sealed experiment stays as it is. The next member begins another with all that are here, which is "
    "the next look at them once it is sealed.",
    openapi_extra=bodies.documented(Reopening, Example("ask-reopening")),
    responses={200: answer("Open again", "import"), **_UNFIT, **problems.documented("conflict")},
)
def reopen(here: Here, id: Id, asked: Annotated[Reopening, body(Reopening)]) -> Response:
    return _answered(here, here.intake.reopen(id, asked.planned))


@router.delete(
    "/api/imports/{id}",
    status_code=204,
    summary="Forget an import of which no member came",
    description="One that is an experiment goes with that.",
    responses={204: {"description": "Forgotten"}, **problems.documented("not-found", "conflict")},
)
def forget(here: Here, id: Id) -> Response:
    here.intake.forget(id)
    return Response(status_code=204)


def _answered(here: Site, row: Gathering, *, status: int = 200) -> Response:
    headers = {"location": at(f"/api/imports/{row.id}"), "cache-control": "no-store"}
    return replies.json(as_import(here, row), status=status, headers=headers)
