"""Which tensors of a network its groups of interchangeable hidden units run along, and orders of them (science l.2)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tensors = Mapping[str, NDArray[Any]]
Order = dict[str, NDArray[np.intp]]  # group -> for each place, the unit that goes there


@dataclass(frozen=True)
class Axis:
    """An axis of a tensor along which a group of units runs, from entry `start` on; each unit has `width` neighbouring
    entries there (the pixels of a channel that was flattened)."""

    number: int
    group: str
    width: int = 1
    start: int = 0


@dataclass
class Symmetry:
    """Which tensors of a network each group of interchangeable units touches. sizes: units of a group.

    families: of a group whose units keep together in blocks, which family it is of and how many blocks there are. The
    blocks of all groups of a family move together (the queries, keys and values of a head); still: families whose
    blocks stay where they are. by_looks: matching is begun a second time where units are alike whatever the order of
    all others is.
    """

    axes: dict[str, list[Axis]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    families: dict[str, tuple[str, int]] = field(default_factory=dict)
    still: set[str] = field(default_factory=set)
    by_looks: bool = False

    @property
    def steps(self) -> list[list[str]]:
        """Groups that are permuted at once: each alone, but families together."""
        found: dict[str, list[str]] = {}
        for group in self.sizes:
            found.setdefault(f"family {self.families[group][0]}" if group in self.families else group, []).append(group)
        return list(found.values())

    def identity(self) -> Order:
        return {group: np.arange(size) for group, size in self.sizes.items()}

    def shuffled(self, rng: np.random.Generator) -> Order:
        """A random order of all units, within what is allowed."""
        order: Order = {}
        for groups in self.steps:
            family, blocks = self.families.get(groups[0], ("", 0))
            if not blocks:
                order[groups[0]] = rng.permutation(self.sizes[groups[0]])
                continue
            where = np.arange(blocks) if family in self.still else rng.permutation(blocks)
            for group in groups:
                inside = self.sizes[group] // blocks
                order[group] = in_blocks(where, [rng.permutation(inside) for _ in range(blocks)])
        return order

    def only(self, groups: Collection[str]) -> Symmetry:
        """With these groups alone; the units of others stay where they are."""
        axes = {name: [axis for axis in found if axis.group in groups] for name, found in self.axes.items()}
        return Symmetry(
            {name: found for name, found in axes.items() if found},
            {group: size for group, size in self.sizes.items() if group in groups},
            {group: family for group, family in self.families.items() if group in groups},
            set(self.still),
            self.by_looks,
        )  # fmt: skip

    def touch(self, name: str, shape: Sequence[int], **groups: str | None) -> None:
        """Note that axis `out` (0) or `into` (1) of a tensor runs along a group; None leaves an axis alone."""
        for number, key in enumerate(("out", "into")):
            group = groups.get(key)
            if group is not None:
                size = self.sizes.setdefault(group, shape[number])
                self.axes.setdefault(name, []).append(Axis(number, group, shape[number] // size))

    def permuted(self, tensors: Tensors, order: Order, *, without: Collection[str] = ()) -> dict[str, NDArray[Any]]:
        """The tensors with every group (but those `without`) in the given order; weights and batch-norm statistics
        alike."""
        moved = {}
        for name, values in tensors.items():
            for axis in self.axes.get(name, ()):
                if axis.group not in without:
                    values = np.take(values, _entries(axis, order, values.shape[axis.number]), axis=axis.number)
            moved[name] = values
        return moved


def _spread(order: NDArray[np.intp], width: int) -> NDArray[np.intp]:
    """The order of units as an order of entries, `width` of them a unit."""
    return np.asarray((order[:, None] * width + np.arange(width)).reshape(-1))


def _entries(axis: Axis, order: Order, length: int) -> NDArray[np.intp]:
    """For each entry of an axis of that length, the one that goes there."""
    moved = _spread(order[axis.group], axis.width)
    entries = np.arange(length)
    entries[axis.start : axis.start + len(moved)] = axis.start + moved
    return entries


def in_blocks(where: NDArray[np.intp], inside: Sequence[NDArray[np.intp]]) -> NDArray[np.intp]:
    """The order of units of which place p takes the block where[p], in the order inside[p]."""
    size = len(inside[0])
    return np.concatenate([block * size + units for block, units in zip(where, inside, strict=True)])
