"""A user's own data sets by name: registered in a database, named in specs, shown in lists.

    document = named(document, registered(store))      # "My scans" -> its folder or file
    shown_as(spec.data, registered(store))             # and back: what lists, facets and headers call it

A spec keeps the place, for that is what an experiment reads; the name belongs to the experiment's row.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from modescape.errors import InvalidInput, Problem
from modescape.names import meant
from modescape.registry import datasets, studies
from modescape.study import names_a_set, names_others, with_changed

if TYPE_CHECKING:
    from modescape.spec_parts import DataSpec

Json = dict[str, Any]
Sets = Mapping[str, Json]  # registered name -> what is known of the set; `dataset` and `where` are what a spec needs

LONGEST = 64
_SHOWN = 20  # names in an error


def checked_name(name: str) -> str:
    """A name a set can be registered under. Raises InvalidInput (`name`)."""
    clean = unicodedata.normalize("NFC", name.strip())
    if not 1 <= len(clean) <= LONGEST:
        raise InvalidInput(f"has {len(clean)} characters", field="name", allowed=f"1 to {LONGEST} characters")
    if clean in (".", ".."):
        raise InvalidInput(f"{clean} means a place in an address", field="name", allowed="any other name")
    if clean in datasets:
        raise InvalidInput(f"{clean} is a data set already", field="name", allowed="any other name")
    return clean


def named(document: Json, sets: Sets) -> Json:
    """The document with registered names, of its data and of other images, replaced by the places they stand for.

    Raises InvalidInput for a name beside another path, and for one that nothing has while others are registered.
    """
    found = with_changed(document, names_a_set, lambda field, asked: _called(_placed(asked, sets, field), asked, field))
    found = with_changed(found, names_others, lambda field, asked: _others(asked, sets, f"{field}.others"))
    if isinstance(document.get("data"), dict):
        found["data"] = _placed(document["data"], sets, "data")
    return found


def _placed(part: Json, sets: Sets, field: str) -> Json:
    name = part.get("dataset")
    name = unicodedata.normalize("NFC", name) if isinstance(name, str) else None
    if name is None or not sets or name in datasets or name in _offered():
        return part
    if name not in sets:
        problem = Problem(
            f"no data set is called {name!r}{meant(name, [*datasets, *sets])}", f"{field}.dataset", _names(sets)
        )
        raise InvalidInput(str(problem), problems=[problem])
    where = sets[name]["where"]
    if part.get("path") not in (None, where):
        problem = Problem(f"{name!r} is registered for {where}", f"{field}.path", "no path beside a registered name")
        raise InvalidInput(str(problem), problems=[problem])
    said = {field: sets[name].get(f"{field}_said") for field in ("white", "label")}  # when it was registered
    more = {field: value for field, value in said.items() if value is not None and part.get(field) is None}
    return {**part, "dataset": sets[name]["dataset"], "path": where, **more}


def _called(placed: Json, asked: Json, field: str) -> Json:
    """A study's set that was registered keeps what it is called, where it has no other name."""
    study = studies[field.partition(".")[0]]
    if placed is asked or asked.get("name") or "name" not in study.options.model_fields:
        return placed
    return {**placed, "name": unicodedata.normalize("NFC", asked["dataset"])}


def _others(asked: Json, sets: Sets, field: str) -> Json:
    """A study with the registered names among its other sets replaced, each keeping what it is called."""
    if not isinstance(others := asked.get("others"), list | tuple):
        return asked
    return {**asked, "others": [_other(one, sets, field) for one in _rejoined(others, sets)]}


def _rejoined(others: Sequence[Any], sets: Sets) -> list[Any]:
    """A name with commas is one again, which a form has taken for several."""
    spaced = {", ".join(part.strip() for part in name.split(",")): name for name in sets}
    found, at = [], 0
    while at < len(others):
        ends = range(len(others), at + 1, -1)
        runs = ((end, others[at:end]) for end in ends if all(isinstance(one, str) for one in others[at:end]))
        end = next((end for end, some in runs if others[at] not in sets and ", ".join(some) in spaced), at + 1)
        found.append(others[at] if end == at + 1 else spaced[", ".join(others[at:end])])
        at = end
    return found


def _other(one: Any, sets: Sets, field: str) -> Any:
    if not isinstance(one, str):
        return one
    placed = _placed({"dataset": one}, sets, field)
    return {**placed, "name": one} if "path" in placed else one


def _offered() -> set[str]:
    """What studies offer in place of a data set."""
    named = (entry.options.choices("dataset") for entry in studies.values() if names_a_set(entry))
    return {name for offered in named for name in offered or ()}


def _names(sets: Sets) -> str:
    registered = f"{', '.join(list(sets)[:_SHOWN])}{', ...' if len(sets) > _SHOWN else ''}"
    return f"one of {', '.join(datasets)}, or registered here: {registered}"


def shown_as(data: DataSpec, sets: Sets) -> str:
    """What lists call a spec's data: a public set's key, the name one's own is registered under, or its place's."""
    if data.path is None:
        return data.dataset
    known = (name for name, details in sets.items() if details["where"] == data.path)
    return next(known, None) or place_name(data.path, data.dataset)


def place_name(path: str, kind: str) -> str:
    """The last part of a path, without what says its kind of file; never a public set's."""
    place = PurePath(path)
    name = (place.name if kind in ("folder", "huggingface") else place.stem) or kind
    taken = name in datasets
    return f"{name[: LONGEST - 9]} ({kind})" if taken else name[:LONGEST]
