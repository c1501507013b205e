"""Pieces of an ensemble made elsewhere: what reading some of its members left, and what several pieces are together.

    whole = together([piece, another])        # one ensemble, if they fit; InvalidInput says where not
    whole.spec, whole.given                   # what `plan.prepare` takes

A piece is of one member or of many; the arrays are kept already, here are only their digests. No array is read, so a
web process may put pieces together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from modescape.errors import InvalidInput, Problem
from modescape.records import ArtifactInfo, Json

MOST_COMPARED = 5  # functions of each group that are compared on other images, where there are more
MOST_EMBEDDED = 10  # members shown together in maps, as many as a spec may ask for
KEPT = "kept"  # in the provenance of an imported ensemble: the digest of what its files are, or one of each piece
_OUTPUTS = ("test", "validation", "ood", "shift")
_ALONG = "trajectory/"


@dataclass(frozen=True)
class PieceMember:
    """A member as it came. given: place -> digest of the array there, as `stages.given` names places."""

    id: str
    seed: int | None
    config: Json
    given: Mapping[str, str]

    @property
    def outputs(self) -> tuple[tuple[str, str], ...]:
        """What it says of every set: equal ones are copies."""
        return tuple(sorted((at, digest) for at, digest in self.given.items() if _is_output(at)))


@dataclass(frozen=True)
class Strange:
    """What was odd, as the door said it (`imported.door.Oddity`). values: (member, number) of what is said of each
    member alone, so that it can be said of several in one sentence."""

    level: str
    what: str
    sentence: str
    values: tuple[tuple[str, float], ...] = ()

    def document(self) -> Json:
        return {"level": self.level, "what": self.what, "sentence": self.sentence}

    @classmethod
    def from_json(cls, found: Json) -> Self:
        """Of before, without values."""
        return cls(**{**found, "values": tuple((who, value) for who, value in found.get("values", ()))})


@dataclass(frozen=True)
class Piece:
    """Some members of an ensemble. spec: what it would promise by itself; files: of all arrays; where: digests of what
    it was made of, by path, and under KEPT that of the list by which it goes out as it came in (`exporting`)."""

    name: str
    spec: Json
    members: tuple[PieceMember, ...]
    files: tuple[ArtifactInfo, ...]
    odd: tuple[Strange, ...] = ()
    where: Json = field(default_factory=dict)

    @property
    def given(self) -> dict[int, Mapping[str, str]]:
        return {number: member.given for number, member in enumerate(self.members)}

    @property
    def provenance(self) -> Json:
        """Whose members these are, and what was odd."""
        members = [{"id": one.id, "seed": one.seed, "config": one.config} for one in self.members]
        return {"name": self.name, "members": members, "odd": [one.document() for one in self.odd], **self.where}

    def to_json(self) -> Json:
        return asdict(self)

    @classmethod
    def from_json(cls, found: Json) -> Self:
        return cls(
            name=found["name"],
            spec=found["spec"],
            members=tuple(PieceMember(**one) for one in found["members"]),
            files=tuple(ArtifactInfo(**{**one, "shape": tuple(one["shape"])}) for one in found["files"]),
            odd=tuple(Strange.from_json(one) for one in found["odd"]),
            where=found.get("where", {}),
        )


_OF_ONE = ("recipe", "alone")  # what was odd of a piece while it was all there was


def _is_output(at: str) -> bool:
    return at.partition("/")[0] in _OUTPUTS and not at.endswith(("/labels", "/names"))


def together(pieces: Sequence[Piece], *, planned: int, is_whole: bool) -> Piece:
    """All of them as one, members in the order in which they came. planned: members that were promised; is_whole: no
    more are awaited, and fewer than that is odd.

    Raises InvalidInput naming what of a piece is other than in the first.
    """
    pieces, without = _of_one_course(pieces)
    first = pieces[0]
    for other in pieces[1:]:
        _check_fit(first, other)
    members = tuple(member for piece in pieces for member in piece.members)
    awaited = {"planned": planned} if planned and not is_whole else {}
    missing = _missing(len(members), planned) if is_whole else ()
    if len(pieces) == 1:
        spec = _changed(first.spec, lambda imported: {**imported, **awaited})
        told = [one for one in first.odd if is_whole or one.what != "alone"]  # others are to come
        return replace(first, spec=spec, odd=(*told, *missing))
    copies = _copies(members) if first.spec["imported"]["kind"] != "labels" else []
    ends = {piece.spec["imported"].get("last_epoch") for piece in pieces}
    last = ends.pop() if len(ends) == 1 else None
    imported = {"digest": _digest(members), "copies": copies, "last_epoch": last, **awaited}
    spec = _of_many(_changed(first.spec, lambda was: {**was, **imported}), len(members))
    files = {info.digest: info for piece in pieces for info in piece.files}
    odd = list(dict.fromkeys(one for piece in pieces for one in piece.odd if one.what not in _OF_ONE))
    odd += [*without, *missing]
    for number in copies:
        original = next(i for i, one in enumerate(members) if one.outputs == members[number].outputs)
        said = f"{members[number].id} is equal to member {members[original].id} to the last bit, on every set"
        odd.append(Strange("left-out", "copy", said))
    lists = [piece.where.get(KEPT) for piece in pieces]
    where = {KEPT: lists} if all(lists) else {}  # a piece of before has none
    return Piece(first.name, spec, members, tuple(files.values()), tuple(odd), where)


def _of_one_course(pieces: Sequence[Piece]) -> tuple[Sequence[Piece], Sequence[Strange]]:
    """The same where all have checkpoints of the same epochs; else without any, and what is to be said of it.

    One that stopped early has fewer. The epochs that all have would be no end of a training for the others, at which
    claims look, so nothing is made of them.
    """
    courses: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for piece in pieces:
        epochs, along = piece.spec["imported"]["epochs"], _along(piece.members[0])
        at = f"at {_said([f'{epoch:g}' for epoch in epochs])}" if along else "none"
        courses.setdefault((at, along), []).extend(one.id for one in piece.members)
    if len(courses) < 2:
        return pieces, ()
    told = "; ".join(f"{at} of {_said(ids)}" for (at, _), ids in courses.items())
    said = f"Checkpoints of training are left out, for they are not of the same epochs and sets: {told}"
    splits = [piece.spec["evaluation"]["splits"] for piece in pieces]
    common = [split for split in splits[0] if all(split in some for some in splits)]
    return [_without_course(piece, common) for piece in pieces], (Strange("left-out", "trajectory", said),)


def _along(member: PieceMember) -> tuple[str, ...]:
    return tuple(sorted(at for at in member.given if at.startswith(_ALONG)))


def _without_course(piece: Piece, splits: Sequence[str]) -> Piece:
    """splits: of which every function of every member was asked, checkpoints among them."""
    members = tuple(
        replace(one, given={at: digest for at, digest in one.given.items() if not at.startswith(_ALONG)})
        for one in piece.members
    )
    gone: Json = {"epochs": [], "last_epoch": None, **({} if "validation" in splits else {"validation": 0})}
    spec = _changed(piece.spec, lambda imported: {**imported, **gone})
    spec["evaluation"] = {**spec["evaluation"], "splits": list(splits)}
    return replace(piece, members=members, spec=spec)


def compared(members: int, samples: Sequence[int]) -> int:
    """Functions of every group that are compared on other images: as many as the smallest has, where it has two.
    samples: of each method, around each member."""
    counts = [members, *samples]
    return max(2, min([MOST_COMPARED, *(count for count in counts if count > 1)]))


def _missing(here: int, planned: int) -> tuple[Strange, ...]:
    if here >= planned:
        return ()
    return (Strange("told", "members", missing_members(here, planned)),)


def missing_members(here: int, planned: int) -> str:
    """What it means that fewer members came than were promised, in a sentence without its full stop."""
    return f"{planned} members were planned and {here} came, so which are missing may depend on what was seen of these"


def _changed(spec: Json, change: Callable[[Json], Json]) -> Json:
    return {**spec, "imported": change(spec["imported"])}


def _of_many(spec: Json, members: int) -> Json:
    """The spec of one member, or of some, as that of so many."""
    samples = [method["typical"] for method in spec["methods"]]

    def study(one: Json) -> Json:  # what was found of the first: fewer where fewer samples were evaluated
        return {**one, "members": compared(members, [*samples, one["members"]])}

    return {
        **spec,
        "ensemble": {**spec["ensemble"], "runs": members},
        "evaluation": {**spec["evaluation"], "embed_runs": min(MOST_EMBEDDED, members)},
        "ood": [study(one) for one in spec["ood"]],
        "shift": spec["shift"] and study(spec["shift"]),
    }


def _digest(members: Sequence[PieceMember]) -> str:
    """Of what every member is, in their order."""
    text = json.dumps([[one.id, sorted(one.given.items())] for one in members], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _copies(members: Sequence[PieceMember]) -> list[int]:
    """Members whose outputs are an earlier one's, to the bit."""
    seen: set[tuple[tuple[str, str], ...]] = set()
    found = []
    for number, member in enumerate(members):
        if member.outputs in seen:
            found.append(number)
        seen.add(member.outputs)
    return found


def _check_fit(first: Piece, other: Piece) -> None:
    id_, facts = other.members[0].id, (_facts(first), _facts(other))
    here, there = (dict.fromkeys(one["arrays"]) for one in facts)
    lacks, has = [one for one in here if one not in there], [one for one in there if one not in here]
    said = [f"it has no {_said(lacks)}, which the members before it have"] if lacks else []
    said += [f"it has {_said(has)}, which the members before it have not"] if has else []
    problems = [Problem("; ".join(said), f"{id_}: files", "the same sets and samples of every member")] if said else [
        _of_kind(id_, ours, theirs) if at == "imported.kind" else
        Problem(f"{_said(theirs)}, and of the members before it {_said(ours)}", f"{id_}: {at}", _said(ours))
        for at, ours, theirs in _differences(*facts)
    ]  # fmt: skip
    if problems:
        raise InvalidInput("; ".join(map(str, problems)), problems=problems)


_KINDS = {"logits": "logits", "probs": "probabilities", "log-probs": "logarithms of probabilities",
          "labels": "predicted labels"}  # fmt: skip
# How numbers z of one kind become those of another.
_MADE = {
    ("logits", "probs"): "scipy.special.softmax(z, -1)",
    ("logits", "log-probs"): "scipy.special.log_softmax(z, -1)",
    ("probs", "logits"): "np.log(z)",  # which are logits, too
    ("probs", "log-probs"): "np.log(z)",
    ("log-probs", "probs"): "np.exp(z)",
}  # fmt: skip


def _of_kind(member: str, ours: str, theirs: str) -> Problem:
    """One import has one kind of numbers: those of its first member, where nobody declared another."""
    made = "z.argmax(-1)" if ours == "labels" else _MADE.get((theirs, ours))
    how = f", of these numbers z {made}" if made else ""
    keep = "" if "labels" in (ours, theirs) else f"; or say kind {ours} where they are such already"
    message = (
        f"its outputs were taken for {_KINDS[theirs]}, and those of the members before it for {_KINDS[ours]}: send its "
        f"{_KINDS[ours]}{how}{keep}"
    )
    return Problem(message, f"{member}: kind", ours)


_OWN_FACTS = ("digest", "copies", "planned", "last_epoch")  # of an import, that pieces of it may have of their own


def _facts(piece: Piece) -> Json:
    """What has to be the same of all pieces."""
    imported = {at: value for at, value in piece.spec["imported"].items() if at not in _OWN_FACTS}
    plain = _of_many({**piece.spec, "imported": imported}, 1)
    given = piece.members[0].given
    shared = {f"labels and ids {at}": given[at] for at in given if at.endswith(("/labels", "/names"))}
    return {**_flat(plain), **shared, "arrays": sorted(at for at in given if not at.startswith("curves/"))}


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        return {at: one for key, inner in value.items() for at, one in _flat(inner, f"{prefix}{key}.").items()}
    return {prefix.rstrip("."): value}


def _differences(one: Json, other: Json) -> Iterator[tuple[str, Any, Any]]:
    for at in dict.fromkeys((*one, *other)):
        if one.get(at) != other.get(at):
            yield at, one.get(at), other.get(at)


def _said(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else "nothing" if value is None else str(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
