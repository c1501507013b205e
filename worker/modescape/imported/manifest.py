"""`ensemble.json`: what the arrays of an ensemble cannot say of themselves.

    manifest = parsed(text)
    manifest.members[0].seed
    document(ensemble)                    # the same as a dictionary, to be written

Everything in it is optional: arrays alone are an ensemble too, of logits, by a recipe nobody stated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from modescape.errors import InvalidInput
from modescape.imported.ensemble import Ensemble, ExampleSet, Member, OutputKind, Recipe, SetRole, by_role
from modescape.pydantic_errors import invalid

SCHEMA = 1
NAME = "ensemble.json"


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class MemberPart(_Part):
    id: str | int
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    config: dict[str, Any] = Field(default_factory=dict)


class SetPart(_Part):
    """own_images: of a shifted set, whether it is another draw (None: it is where it has labels of its own, or another
    number of examples)."""

    role: SetRole | None = None
    data: str = ""
    type: str | None = None
    intensity: int | None = Field(None, ge=1, le=5)
    own_images: bool | None = None


class Manifest(_Part):
    """kind None: as the names of the arrays say. order: places of the sets, where they are not shown by the alphabet;
    left_out: what whoever wrote this could not keep; rates: the samples whose strengths are rates."""

    version: Literal[1] = Field(1, alias="schema")
    name: str = Field("", max_length=200)
    kind: OutputKind | None = None
    classes: list[str | int] = Field(default_factory=list)
    members: list[MemberPart] = Field(default_factory=list)
    recipe: Recipe = Recipe.UNKNOWN
    sets: dict[str, SetPart] = Field(default_factory=dict)
    order: list[str] = Field(default_factory=list)
    left_out: list[str] = Field(default_factory=list)
    rates: list[str] = Field(default_factory=list)

    def of(self, place: str) -> SetPart:
        """What it says of the set that lies there, by its place or its name."""
        short = place.split("/", 1)[-1]
        return self.sets.get(place) or self.sets.get(short) or SetPart()

    def ordered(self, places: Iterable[str]) -> list[str]:
        """Places that are there, in its order; what it does not name comes last, by the alphabet."""
        at = {place: number for number, place in enumerate(self.order)}
        return by_role(sorted(places, key=lambda place: (at.get(place, len(at)), place)))


def parsed(text: str | None) -> Manifest:
    """Raises InvalidInput with every problem, each at its path in the document."""
    if text is None:
        return Manifest(schema=1)
    try:
        found = Manifest.model_validate_json(text)
    except ValidationError as error:
        problems = [replace(one, field=one.field or NAME) for one in invalid(error, Manifest).problems]
        raise InvalidInput(f"{NAME}: {problems[0]}", problems=problems) from None
    twice = [name for name, count in Counter(str(member.id) for member in found.members).items() if count > 1]
    if twice:
        raise InvalidInput(f"{NAME}: two members are called {twice[0]!r}", field="members", allowed="ids that differ")
    return found


def members_of(manifest: Manifest, count: int) -> tuple[Member, ...]:
    """The members, numbered from 0 where nobody named them. Raises InvalidInput where their number is another."""
    if not manifest.members:
        return tuple(Member(str(number)) for number in range(count))
    if len(manifest.members) != count:
        raise InvalidInput(
            f"{NAME} names {len(manifest.members)} members, the outputs have {count}",
            field="members",
            allowed="one entry a member, in the order of the outputs' first axis",
        )
    return tuple(Member(str(one.id), one.seed, one.config) for one in manifest.members)


def document(ensemble: Ensemble, *, with_name: bool = True) -> dict[str, Any]:
    """What `parsed` reads, as plain JSON values; with_name: False for digests, which neither a name nor the order of
    sets changes."""
    order = by_role(ensemble.sets)
    names = Counter(one.name for one in ensemble.sets.values())
    return {
        "schema": SCHEMA,
        **({"name": ensemble.name} if with_name else {}),
        "kind": ensemble.kind.value,
        "classes": list(ensemble.classes),
        "members": [{"id": one.id, "seed": one.seed, "config": dict(one.config)} for one in ensemble.members],
        "recipe": ensemble.recipe.value,
        "sets": {
            (one.name if names[one.name] == 1 else place): _set(one) for place, one in sorted(ensemble.sets.items())
        },
        **({"order": order} if with_name and order != sorted(order) else {}),
        "left_out": list(ensemble.left_out),
        **({"rates": rates} if (rates := [name for name, one in ensemble.samples.items() if one.is_rate]) else {}),
    }


def _set(one: ExampleSet) -> Mapping[str, Any]:

    return {"role": one.role.value, **({"data": one.data} if one.data else {}), **_shift(one)}


def _shift(one: ExampleSet) -> Mapping[str, Any]:
    if one.shift is None:
        return {}
    return {"type": one.shift.type, "intensity": one.shift.intensity, "own_images": one.has_own_images}
