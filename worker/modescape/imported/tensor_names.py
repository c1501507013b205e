"""Which tensor of a file is which of a network: by their names, or by their order and shapes.

    fit = by_name(wanted, found)            # both as (name, shape), in their own order
    fit.pairs                               # (("stem.weight", "module.stem.weight"), ...)

Names may have a prefix that wrappers put before them, or that all names of the file share. Counters of batches, which
decide nothing, may be missing or left over; everything else must be there once and have its shape, or nothing is taken.
"""

from __future__ import annotations

import difflib
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import takewhile

from modescape.errors import InvalidInput, Problem
from modescape.imported.two_arrays import natural

PREFIXES = ("module", "model", "net", "network", "_orig_mod", "encoder", "backbone", "classifier_model", "student")
COUNTER = "num_batches_tracked"
_SHOWN = 5  # of what is wrong, of each kind
_SEARCHED = 2000  # names among which the nearest are looked for; a file may have hundreds of thousands


class Keys(StrEnum):
    """How tensors find their place."""

    BY_NAME = "by-name"
    BY_ORDER = "by-order"


@dataclass(frozen=True)
class Slot:
    """A tensor's name and shape, without its numbers."""

    name: str
    shape: tuple[int, ...]

    @property
    def is_counter(self) -> bool:
        return self.name.rpartition(".")[2] == COUNTER

    @property
    def layer(self) -> str:
        return self.name.rpartition(".")[0]

    def holds(self, other: Slot) -> bool:
        """Whether the numbers of another fit here: the same shape, or one number each."""
        return self.shape == other.shape or math.prod(self.shape) == math.prod(other.shape) == 1

    def __str__(self) -> str:
        return f"{self.name} {list(self.shape)}"


@dataclass(frozen=True)
class Fit:
    """What goes where. pairs: (the network's name, the file's); left_out: counters of the file that have no place;
    untouched: counters of the network that the file does not have."""

    keys: Keys
    pairs: tuple[tuple[str, str], ...]
    left_out: tuple[str, ...] = ()
    untouched: tuple[str, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether every name is the same."""
        return all(wanted == found for wanted, found in self.pairs) and not self.left_out

    def table(self) -> list[list[str]]:
        """[the network's name, the file's] of every tensor, in the network's order."""
        return [list(pair) for pair in self.pairs]


def fit(keys: Keys, wanted: Sequence[Slot], found: Sequence[Slot]) -> Fit:
    """wanted: the network's tensors in its order; found: those of a file in theirs. Raises InvalidInput (field `keys`),
    with every tensor that is missing, left over or of another shape, and the nearest names."""
    return by_order(wanted, found) if keys is Keys.BY_ORDER else by_name(wanted, found)


def without_prefixes(found: Sequence[Slot]) -> dict[str, Slot]:
    """Tensors by their names without what wrappers put before them, or all of them share; counters left out."""
    shared = _shared(found)
    return {_bare(one.name.removeprefix(shared)): one for one in found if not one.is_counter}


# --- by name ----------------------------------------------------------------------------------------------------------


def by_name(wanted: Sequence[Slot], found: Sequence[Slot]) -> Fit:
    """By equal names, apart from prefixes on either side."""
    exact = {one.name: one for one in found}
    shared = _shared(found)
    if any(slot.name.startswith(shared) for slot in wanted):
        shared = ""
    bare = _by(found, lambda one: _bare(one.name.removeprefix(shared)))
    problems: list[Problem] = []
    chosen: dict[str, Slot] = {}
    for slot in wanted:
        alike = [exact[slot.name]] if slot.name in exact else bare.get(_bare(slot.name), [])
        if len(alike) > 1:
            names = " and ".join(one.name for one in alike)
            problems.append(_wrong(f"{slot.name} could be {names}", "one tensor of each name"))
        elif alike:
            chosen[slot.name] = alike[0]
    lacking = [slot for slot in wanted if slot.name not in chosen and not slot.is_counter]
    used = {one.name for one in chosen.values()}
    over = [one for one in found if one.name not in used]
    problems += _missing(lacking, over)
    problems += _left_over([one for one in over if not one.is_counter], [slot.name for slot in wanted])
    problems += _misshapen((slot, chosen[slot.name]) for slot in wanted if slot.name in chosen)
    if problems:
        raise _refused(problems, hint=_fits_in_order(wanted, found))
    return Fit(
        Keys.BY_NAME, tuple((slot.name, chosen[slot.name].name) for slot in wanted if slot.name in chosen),
        tuple(one.name for one in over), tuple(slot.name for slot in wanted if slot.name not in chosen),
    )  # fmt: skip


def _bare(name: str) -> str:
    """Without the prefixes that wrappers put before names."""
    first, dot, rest = name.partition(".")
    return _bare(rest) if dot and first in PREFIXES else name


def _shared(found: Sequence[Slot]) -> str:
    """What all names begin with, whole parts of them: "cnn." where somebody's module holds the network as `cnn`."""
    layers = [one.layer.split(".") for one in found]
    same = takewhile(lambda parts: len(set(parts)) == 1, zip(*layers, strict=False))
    return "".join(f"{parts[0]}." for parts in same)


def _fits_in_order(wanted: Sequence[Slot], found: Sequence[Slot]) -> str:
    try:
        by_order(wanted, found)
    except InvalidInput:
        return ""
    return "; in their order the tensors do fit: say keys: by-order, and state an accuracy that tells whether it is so"


def _missing(lacking: Sequence[Slot], over: Sequence[Slot]) -> Iterator[Problem]:
    for slot in lacking[:_SHOWN]:
        near = _nearest(slot, [one.name for one in over])
        nearest = f"; nearest in the file: {', '.join(near)}" if near else ""
        yield _wrong(f"the file has no {slot}{nearest}", "every tensor of the network")
    if len(lacking) > _SHOWN:
        yield _wrong(f"and {len(lacking) - _SHOWN} more are missing", "every tensor of the network")


def _left_over(over: Sequence[Slot], names: Sequence[str]) -> Iterator[Problem]:
    for one in over[:_SHOWN]:
        near = _nearest(one, names)
        nearest = f"; nearest in the network: {', '.join(near)}" if near else ""
        yield _wrong(f"the network has no place for {one}{nearest}", "the tensors of the network alone")
    if len(over) > _SHOWN:
        yield _wrong(f"and {len(over) - _SHOWN} more have no place", "the tensors of the network alone")


def _nearest(slot: Slot, names: Sequence[str]) -> list[str]:
    return difflib.get_close_matches(_bare(slot.name), names[:_SEARCHED], 3, 0.4)


def _misshapen(pairs: Iterable[tuple[Slot, Slot]]) -> Iterator[Problem]:
    wrong = [(slot, one) for slot, one in pairs if not slot.holds(one)]
    for slot, one in wrong[:_SHOWN]:
        turned = " (turned round: another framework's?)" * (slot.shape == one.shape[::-1])
        yield _wrong(f"{one.name} is {list(one.shape)}{turned}", f"{list(slot.shape)}, as {slot.name} is")
    if len(wrong) > _SHOWN:
        yield _wrong(f"and {len(wrong) - _SHOWN} more are of other shapes", "the network's own")


# --- by order ---------------------------------------------------------------------------------------------------------


def by_order(wanted: Sequence[Slot], found: Sequence[Slot]) -> Fit:
    """Layer by layer: the first of the file with the same tensors of the same shapes is the network's first, and so
    on. Files that list names by the alphabet are read in natural order, where layer 10 comes after layer 2."""
    ours, theirs = _layers(wanted), _layers(in_order(found))
    problems = []
    pairs: dict[str, str] = {}
    for kind in dict.fromkeys((*ours, *theirs)):
        mine, other = ours.get(kind, []), theirs.get(kind, [])
        if len(mine) != len(other):
            what = ", ".join(f"{leaf} {list(shape)}" for leaf, shape in sorted(kind))
            named = ", ".join((other or mine)[:3])
            problems.append(
                _wrong(f"{len(other)} layers of the file have {what} ({named}, ...)", f"{len(mine)}, as the network")
            )
        for layer, from_layer in zip(mine, other, strict=False):
            pairs |= {_joined(layer, leaf): _joined(from_layer, leaf) for leaf, _ in kind}
    if problems:
        raise _refused(problems)
    counters = {_joined(_layer_of(found_name), COUNTER): _joined(_layer_of(name), COUNTER)
                for name, found_name in pairs.items()}  # fmt: skip
    there, places = {one.name for one in found}, {slot.name for slot in wanted}
    pairs |= {place: name for name, place in counters.items() if name in there and place in places}
    ordered = tuple((slot.name, pairs[slot.name]) for slot in wanted if slot.name in pairs)
    used = {name for _, name in ordered}
    return Fit(
        Keys.BY_ORDER, ordered, tuple(one.name for one in found if one.name not in used),
        tuple(slot.name for slot in wanted if slot.name not in pairs),
    )  # fmt: skip


def in_order(found: Sequence[Slot]) -> list[Slot]:
    """As they came, or in natural order where they came by the alphabet, which is how most files are written."""
    names = [one.name for one in found if not one.is_counter]
    return sorted(found, key=lambda one: natural(one.name)) if names == sorted(names) else list(found)


Leaves = frozenset[tuple[str, tuple[int, ...]]]


def _layers(slots: Sequence[Slot]) -> Mapping[Leaves, list[str]]:
    """What a layer has of tensors -> the layers that have it, in order."""
    of_layer: dict[str, set[tuple[str, tuple[int, ...]]]] = {}
    for slot in slots:
        if not slot.is_counter:
            of_layer.setdefault(slot.layer, set()).add((slot.name.rpartition(".")[2], slot.shape))
    found: dict[Leaves, list[str]] = defaultdict(list)
    for layer, leaves in of_layer.items():
        found[frozenset(leaves)].append(layer)
    return found


def _layer_of(name: str) -> str:
    return name.rpartition(".")[0]


def _joined(layer: str, leaf: str) -> str:
    return f"{layer}.{leaf}" if layer else leaf


def _by(slots: Sequence[Slot], key: Callable[[Slot], str]) -> dict[str, list[Slot]]:
    found: dict[str, list[Slot]] = {}
    for slot in slots:
        found.setdefault(key(slot), []).append(slot)
    return found


def _wrong(message: str, allowed: str) -> Problem:
    return Problem(message, "keys", allowed)


def _refused(problems: Sequence[Problem], *, hint: str = "") -> InvalidInput:
    return InvalidInput("; ".join(problem.message for problem in problems) + hint, problems=list(problems))
