"""Ensembles made elsewhere come in by a running server: files become an experiment, at once or in pieces.

    intake = Intake(laboratory)
    intake.look(files, asked)                               # what is understood; nothing is kept
    row, _ = intake.archive("WRN-16-4", files, asked)       # all of it at once: opened, filled, sealed
    row = intake.open("WRN-16-4", planned=20, ...)          # members one by one ...
    intake.add(row.id, "7", files)                          # ... the same again changes nothing
    intake.points(row.id, "8", "batch-0", curves)           # of one that is still being trained
    intake.seal(row.id)                                     # now words are given: the first look
    intake.reopen(row.id, planned=30)                       # the next member begins the second

Files are read in processes of their own (`apart`). Every step is one transaction, and may be asked for again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Self

import numpy as np

from modescape.apart import Apart, Asked, Limits, Look, OneMember, Sent
from modescape.errors import Conflict, InvalidInput, NotFound, Problem
from modescape.imported.containers import check_name
from modescape.imported.ensemble import Ensemble, Member, OutputKind, Recipe
from modescape.importing import put_together, spec_of
from modescape.importing_weights import Choices, bring_in_weights, members_below
from modescape.laboratory import Laboratory
from modescape.pieces import Piece, PieceMember
from modescape.records import ArtifactInfo, Json, Need, PlannedStage
from modescape.store.curves import SeriesPoints
from modescape.store.gatherings import NewPiece, Outrun, Whole
from modescape.store.logged import Taken
from modescape.tables import Experiment, Gathered, Gathering
from modescape.uploads import Uploads

MOST_MEMBERS = 1000
_LONGEST_NAME = 100  # characters of a member's id and of a curve's name
_TRIES = 50  # of several that add at the same moment


@dataclass(frozen=True)
class SentFile:
    """A file among those that were sent. name: its path inside what was sent."""

    name: str
    sha256: str


@dataclass(frozen=True)
class KeptLabels:
    """True labels that were declared for all members. count: of examples."""

    place: str
    count: int
    file: ArtifactInfo

    @classmethod
    def from_json(cls, found: Json) -> Self:
        return cls(
            found["place"], found["count"], ArtifactInfo(**{**found["file"], "shape": tuple(found["file"]["shape"])})
        )


@dataclass(frozen=True)
class Declared:
    """What is said of all members before any comes."""

    kind: str | None = None
    recipe: str | None = None
    classes: tuple[str, ...] = ()
    labels: tuple[KeptLabels, ...] = ()
    notes: str = ""
    tags: tuple[str, ...] = ()
    by: str = ""

    @classmethod
    def from_json(cls, found: Json) -> Self:
        labels = tuple(KeptLabels.from_json(one) for one in found["labels"])
        return cls(**{**found, "labels": labels, "classes": tuple(found["classes"]), "tags": tuple(found["tags"])})


@dataclass(frozen=True)
class About:
    """What is said of an import beside its files. by: who sends it, in words of their own; key: makes the request
    repeatable."""

    notes: str = ""
    tags: tuple[str, ...] = ()
    by: str = ""
    key: str | None = None


class Intake:
    """The doors of a laboratory that serves."""

    def __init__(self, laboratory: Laboratory) -> None:
        settings = laboratory.settings
        self.laboratory, self.store = laboratory, laboratory.store.gatherings
        self.uploads = Uploads(settings.upload_folder, int(settings.upload_quota * 1e9))
        limits = Limits(int(settings.import_memory * (1 << 30)), settings.import_seconds)
        self.apart = Apart(self.uploads.folder, laboratory.artifacts, limits)

    # --- at once ---

    def look(self, files: Sequence[SentFile], asked: Asked) -> Look:
        """What is understood of files, what is odd and what is asked. Raises InvalidInput, NotFound."""
        return self.apart.look(self._sent(files), asked)

    def archive(
        self, name: str, files: Sequence[SentFile], asked: Asked, *, planned: int | None = None, about: About = About()
    ) -> Gathering:
        """The experiment of all members at once. planned: how many there will be, where these are the first of them;
        None seals it. Raises InvalidInput for open questions, too."""
        said = {at: value for at, value in asdict(asked).items() if at != "mixed" or value is not None}
        request = _digest({"name": name, "files": _listed(files), "asked": said, "planned": planned})
        if (known := self._known(about.key, request)) is not None and known.experiment_id is not None:
            return known
        self._afford(files)
        piece = self.apart.keep(self._sent(files), asked)
        members = len(piece.members)
        if planned is not None and planned < members:
            raise InvalidInput(f"is {planned}, and {members} are here", field="planned", allowed=f"{members} or more")
        declared = Declared(asked.kind, asked.recipe, asked.classes, (), about.notes, about.tags, about.by)
        row = self.store.open(
            name=name, planned=planned or members, declared=_plain(declared), request=request, key=about.key, kept=()
        )
        new = _new(request, piece, self._files(files))

        def added(row: Gathering, pieces: Sequence[Gathered]) -> Gathering:
            if any(one.request == request for one in pieces):  # the same request, under the same key, was faster
                return row
            return self._added(row, pieces, piece, new, seal=planned is None)

        try:
            row = self._changed(row.id, added)
        except InvalidInput:
            with suppress(Conflict, NotFound):  # the same request, under the same key, was answered otherwise
                self.forget(row.id)
            raise
        self._let_go(files)
        return row

    def weights(
        self,
        name: str,
        files: Sequence[SentFile],
        choices: Choices,
        *,
        expect: Sequence[str] = (),
        about: About = About(),
    ) -> Experiment:
        """The experiment of networks whose weights were sent, by the names of `importing_weights.members_below`. Which
        tensor goes where is worked out by a worker. expect: accuracies as they were printed, one a member or none.

        Raises InvalidInput for what is no file of weights, or does not fit its spec; DataMissing, NotFound, Conflict.
        """
        asked = {**asdict(choices), "data": dict(choices.data), "options": dict(choices.options),
                 "more": dict(choices.more)}  # fmt: skip
        request = _digest({"name": name, "files": _listed(files), "asked": asked, "expect": list(expect)})
        idempotency = None if about.key is None else (about.key, request)
        known = self.laboratory.store.experiments.of_request(idempotency)
        if known is not None:
            return known
        self._afford(files)
        with self.apart.weights(self._sent(files)) as folder:
            members, curve = members_below(folder, expect_accuracy=expect)
            sent = [{**one, "by": about.by} for one in self._files(files)]
            row = bring_in_weights(
                self.laboratory, members, replace(choices, curve=curve), name=name, notes=about.notes, tags=about.tags,
                idempotency=idempotency, provenance={"by": about.by, "files": sent},
            )  # fmt: skip
        self._let_go(files)
        return row

    # --- in pieces ---

    def open(
        self,
        name: str,
        planned: int,
        *,
        labels: Mapping[str, str],
        kind: str | None = None,
        recipe: str | None = None,
        classes: Sequence[str] = (),
        about: About = About(),
    ) -> Gathering:
        """An import that waits for its members. labels: place -> digest of the file of the true labels there.

        Raises InvalidInput, also for more than may be kept, NotFound, Conflict.
        """
        asked = {"name": name, "planned": planned, "labels": dict(labels), "kind": kind, "recipe": recipe,
                 "classes": list(classes)}  # fmt: skip
        request = _digest(asked)
        if (known := self._opened(about.key, asked)) is not None:
            return known
        self._afford(SentFile(place, digest) for place, digest in labels.items())
        kept = [KeptLabels.from_json(one) for one in self._labels(labels)]
        self._afford_bytes(sum(one.file.bytes for one in kept))  # numbers are kept in eight bytes each
        declared = Declared(kind, recipe, tuple(classes), tuple(kept), about.notes, about.tags, about.by)
        return self.store.open(
            name=name, planned=planned, declared=_plain(declared), request=request, key=about.key,
            kept=[one.file for one in kept],
        )  # fmt: skip

    def add(
        self,
        id_: str,
        member: str,
        files: Sequence[SentFile],
        *,
        seed: int | None = None,
        config: Mapping[str, Any] | None = None,
        permutation: str | None = None,
        kind: str | None = None,
        mixed: str | None = None,
        by: str = "",
        training: str | None = None,
    ) -> tuple[Gathering, bool]:
        """Add a member; whether it is new. The same content again changes nothing. kind: of its numbers, as was
        declared or where nobody did; mixed: "keep" where those look like another kind and are none. training: the one
        whose points are its curves, None for the last that was logged.

        Raises NotFound, Forbidden for somebody else's, InvalidInput for what cannot be read or does not fit, Conflict
        for other content under the same id, for one that is sealed, and for more than were planned.
        """
        row, pieces = self.store.own(id_), self.store.pieces(id_)  # nothing is read for somebody else
        answers = {"kind": kind, "mixed": mixed}
        request = _digest({"member": member, "files": _listed(files), "seed": seed, "config": dict(config or {}),
                           "permutation": permutation, **{at: one for at, one in answers.items() if one}})  # fmt: skip
        if _is_known(pieces, member, request):
            return row, False
        _check_open(row, pieces)
        declared = Declared.from_json(row.declared)
        truth = {one.place: self.laboratory.artifacts.path(one.file.digest) for one in declared.labels}
        if kind is not None and declared.kind not in (None, kind):
            raise InvalidInput(
                f"is {kind}, and all members' outputs were declared {declared.kind}", field="kind",
                allowed=f"{declared.kind}: of probabilities p np.log(p) are logits"
                if (kind, declared.kind) == ("probs", "logits") else declared.kind,
            )  # fmt: skip
        asked = Asked(
            kind or declared.kind, declared.recipe or "unknown", permutation, name=row.name, classes=declared.classes,
            mixed=mixed,
        )  # fmt: skip
        is_kind_of_all = kind is None and declared.kind is not None
        self._afford(files)
        one = OneMember(member, seed, dict(config or {}), truth, is_kind_of_all)
        piece = self.apart.keep(self._sent(files), asked, one)
        new = _new(request, piece, self._files(files), by)

        def added(row: Gathering, pieces: Sequence[Gathered]) -> Gathering:
            if _is_known(pieces, member, request):  # somebody else has sent the same meanwhile
                return row
            _check_open(row, pieces)
            return self._added(row, pieces, *self._with_curves(row, member, piece, new, training), seal=False)

        row = self._changed(id_, added)
        self._let_go(files)
        return row, True

    def points(
        self, id_: str, member: str, batch: str, curves: Mapping[str, SeriesPoints], training: str = ""
    ) -> Taken:
        """Keep points of a member that is still being trained; the same batch again changes nothing. With the first
        ones of an import it is an experiment, where they are shown as they come. Once the member is added they are its
        curves. batch: its sender's name for it; curves: by name; training: as `store.logged` has it.

        Raises NotFound, Conflict for an import that is sealed and for a member that is here, InvalidInput for what is
        no name of a member or a curve and for more than is kept.
        """
        _check_names(member, curves)
        taken = self.laboratory.store.logged.add(id_, member, batch, curves, training)
        if taken.experiment_id is not None:
            return taken

        def begun(row: Gathering, pieces: Sequence[Gathered]) -> Gathering:
            if row.experiment_id is not None and row.experiment_id not in row.looks:
                return row
            whole = self._whole(row, pieces, (), seal=False) if pieces else self._planned(row, [self._of_curves(row)])
            return self.store.plan(id_, row.revision, whole, seal=False)

        return Taken(taken.is_new, self._changed(id_, begun).experiment_id, has_begun=True)

    def seal(self, id_: str, here: int | None = None) -> Gathering:
        """Nothing more is awaited: claims get their words. Sealed again it stays. here: members that whoever asks has
        seen; with any other number nothing is sealed, because a look cannot be taken back.

        Raises NotFound, Conflict.
        """

        def sealed(row: Gathering, pieces: Sequence[Gathered]) -> Gathering:
            if here not in (None, count := _count(pieces)):
                are = f"{count} member is" if count == 1 else f"{count} members are"
                done = "it is sealed with them" if row.sealed else "nothing was sealed. Look again, then seal it"
                raise Conflict(f"{are} here by now, not {here}: {done}")
            if row.sealed:
                return row
            if not pieces:
                raise Conflict("no member is here yet; add one, then seal it")
            return self.store.plan(id_, row.revision, self._whole(row, pieces, (), seal=True), seal=True)

        return self._changed(id_, sealed)

    def reopen(self, id_: str, planned: int) -> Gathering:
        """Wait for more members, `planned` in all: sealed again, it is the next look. Raises NotFound, Conflict,
        InvalidInput."""

        def reopened(row: Gathering, pieces: Sequence[Gathered]) -> Gathering:
            if not row.sealed:
                if row.planned == planned:
                    return row
                raise Conflict(f"it is open, and {row.planned} members are planned; what was promised stays")
            if planned <= (here := _count(pieces)):
                raise InvalidInput(f"is {planned}, and {here} are here", field="planned", allowed=f"{here + 1} or more")
            return self.store.reopen(id_, row.revision, planned)

        return self._changed(id_, reopened)

    def forget(self, id_: str) -> None:
        """One of which no member came, with what was declared. Raises NotFound, Conflict, Forbidden."""
        began = datetime.now(UTC)
        self.laboratory.delete(self.store.forget(id_), began=began)

    # --- within ---

    def _changed(self, id_: str, change: Callable[[Gathering, Sequence[Gathered]], Gathering]) -> Gathering:
        """Change what is there now; again, where somebody else was faster."""
        for _ in range(_TRIES):
            row = self.store.get(id_)
            try:
                return change(row, self.store.pieces(id_))
            except Outrun:
                continue
        raise Conflict("many add to it at the same moment; send this one again")

    def _added(
        self, row: Gathering, pieces: Sequence[Gathered], piece: Piece, new: NewPiece, *, seal: bool
    ) -> Gathering:
        whole = self._whole(row, pieces, ((piece, new),), seal=seal)
        return self.store.add(row.id, row.revision, new, whole, seal=seal)

    def _whole(
        self, row: Gathering, before: Sequence[Gathered], new: Sequence[tuple[Piece, NewPiece]], *, seal: bool
    ) -> Whole:
        """The plan of all pieces together. Raises InvalidInput where they do not fit."""
        pieces = [*(Piece.from_json(one.piece) for one in before), *(piece for piece, _ in new)]
        files = [file for one in before for file in one.files] + [file for _, one in new for file in one.files]
        return self._planned(row, pieces, files, seal=seal)

    def _planned(
        self, row: Gathering, pieces: Sequence[Piece], files: Sequence[Json] = (), *, seal: bool = False
    ) -> Whole:
        piece = put_together(self.laboratory.artifacts, pieces, planned=row.planned, is_whole=seal)
        prepared = self.laboratory.preparing()(piece.spec, given=piece.given)
        origin = {"import": row.id, "planned": row.planned, "by": row.declared.get("by", ""), "files": list(files)}
        stages = prepared.plan.stages
        stays = self._stays(row, piece, stages)
        bytes = prepared.plan.new_bytes
        return Whole(prepared.spec, stages, piece.files, piece.provenance | origin, stays, bytes)

    def _of_curves(self, row: Gathering) -> Piece:
        """The members of whom nothing but points of curves is here yet, as a piece: it holds the place of the first
        that comes."""
        declared = Declared.from_json(row.declared)
        members = [Member(one.member) for one in self.laboratory.store.logged.of(row.id)]
        ensemble = Ensemble(
            row.name, OutputKind(declared.kind or "logits"), tuple(members), {},
            recipe=Recipe(declared.recipe or "unknown"), classes=declared.classes,
        )  # fmt: skip
        named = tuple(PieceMember(one.id, None, {}, {}) for one in members)
        return Piece(row.name, spec_of(ensemble, digest=_digest({"points of": row.id})), named, ())

    def _with_curves(
        self, row: Gathering, member: str, piece: Piece, new: NewPiece, training: str | None
    ) -> tuple[Piece, NewPiece]:
        """With what was logged of a member before it came."""
        logged = self.laboratory.store.logged
        count = logged.count(row.id, member)  # before they are read: more that come meanwhile are found out
        curves = logged.curves(row.id, member, training=training)
        if not curves:
            return piece, new
        kept = {name: self.laboratory.artifacts.put_array(np.stack(one, 1), "given") for name, one in curves.items()}
        (one,) = piece.members
        given = {**one.given, **{f"curves/{name}": info.digest for name, info in kept.items()}}
        piece = replace(piece, members=(replace(one, given=given),), files=(*piece.files, *kept.values()))
        return piece, replace(new, piece=piece.to_json(), logged=count)

    def _stays(self, row: Gathering, piece: Piece, stages: Sequence[PlannedStage]) -> list[Need]:
        """Members read before that are read alike now."""
        if row.experiment_id is None or row.experiment_id in row.looks:
            return []
        before = self.laboratory.store.experiments.get(row.experiment_id)
        copies = {*before.spec["imported"]["copies"]} ^ {*piece.spec["imported"].get("copies", ())}
        params = {(one.kind, one.key): one.params for one in self.laboratory.store.stages.without_results(before.id)}
        return [
            (one.kind, one.key)
            for one in stages
            if one.kind in ("predict", "curves")
            and not (one.needs or one.wants)
            and params.get((one.kind, one.key)) == one.params
            and one.params["run"] not in copies
        ]

    def _opened(self, key: str | None, asked: Json) -> Gathering | None:
        """What this request opened before, also with the number that was promised first where it is another by now:
        whoever goes on after a reopening says the present one."""
        try:
            return self._known(key, _digest(asked))
        except Conflict:
            row = self.store.by_key(str(key))
            if row is None or row.planned != asked["planned"]:
                raise
            first = (_digest({**asked, "planned": number}) for number in range(1, row.planned + 1))
            if row.request not in first:
                raise
            return row

    def _known(self, key: str | None, request: str) -> Gathering | None:
        return self.store.by_key(key, request) if key is not None else None

    def _sent(self, files: Sequence[SentFile]) -> list[Sent]:
        return [Sent(one.name, self.uploads.path(one.sha256)) for one in files]

    def _files(self, files: Sequence[SentFile]) -> list[Json]:
        return [{**asdict(one), "bytes": self.uploads.path(one.sha256).stat().st_size} for one in files]

    def _afford(self, files: Iterable[SentFile]) -> None:
        """Raises InvalidInput where their bytes are more than may be kept, before anything of them is read."""
        self._afford_bytes(sum(self.uploads.path(one.sha256).stat().st_size for one in files))

    def _afford_bytes(self, size: int) -> None:
        self.laboratory.afford([Problem(said) for said in self.laboratory.limits.exceeded(size, 0.0)])

    def _labels(self, labels: Mapping[str, str]) -> list[Json]:
        return self.apart.labels({place: self.uploads.path(digest) for place, digest in labels.items()})

    def _let_go(self, files: Sequence[SentFile]) -> None:
        """What was made of files is kept; the files themselves make room for others when it is needed."""
        for one in files:
            self.uploads.let_go(one.sha256)

    def experiment(self, row: Gathering) -> Experiment | None:
        """As it stands; None before the first piece."""
        return None if row.experiment_id is None else self.laboratory.store.experiments.get(row.experiment_id)


def _new(request: str, piece: Piece, files: Sequence[Json], by: str = "") -> NewPiece:
    said = [{**one, "by": by} for one in files] if by else list(files)
    return NewPiece(request, [one.id for one in piece.members], piece.to_json(), said)


def _is_known(pieces: Sequence[Gathered], member: str, request: str) -> bool:
    """Whether this was added before. Raises Conflict where something else goes by that id."""
    there = next((one for one in pieces if member in one.members), None)
    if there is not None and there.request != request:
        raise Conflict(f"member {member[:80]!r} is here already, of other content; what was added stays as it is")
    return there is not None


def _check_open(row: Gathering, pieces: Sequence[Gathered]) -> None:
    if row.sealed:
        raise Conflict("it is sealed: what was judged stays as it is. Reopen it to add members, which is the next look")
    if (here := _count(pieces)) >= row.planned:
        raise Conflict(
            f"{row.planned} members were planned, and {here} are here: seal it. More can be planned when it is reopened"
        )


def _check_names(member: str, curves: Mapping[str, SeriesPoints]) -> None:
    """Raises InvalidInput for what could be no file of a folder that holds the ensemble."""
    for name, field in ((member, "member"), *((one, "logged.values") for one in curves)):
        if not 1 <= len(name) <= _LONGEST_NAME:
            raise InvalidInput(
                f"{name[:80]!r} is too long or empty", field=field, allowed=f"1 to {_LONGEST_NAME} characters"
            )
        try:
            check_name(name, field)
        except InvalidInput as error:
            (found,) = error.problems
            raise InvalidInput(found.message, field=field, allowed=found.allowed) from None


def _count(pieces: Sequence[Gathered]) -> int:
    return sum(len(one.members) for one in pieces)


def _listed(files: Sequence[SentFile]) -> list[list[str]]:
    return sorted([one.name, one.sha256] for one in files)


def _plain(declared: Declared) -> Json:
    found: Json = json.loads(json.dumps(asdict(declared)))
    return found


def _digest(request: Json) -> str:
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
