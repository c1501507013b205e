"""What the user answers to what was asked at the door, put into the ensemble.

answered(ensemble, kind=OutputKind.PROBS, recipe=Recipe.SAME)
renamed(ensemble, oddity.permutation, oddity.members)     # classes in the labels' order
examined(ensemble, "apply")                               # so renamed, where that is asked, and what is odd of it then
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from modescape.errors import InvalidInput
from modescape.imported.arrays import Array, Values
from modescape.imported.door import Findings, Odd, examine
from modescape.imported.ensemble import Ensemble, MethodSamples, OutputKind, Recipe


def answered(ensemble: Ensemble, *, kind: OutputKind | None = None, recipe: Recipe | None = None) -> Ensemble:
    """The same arrays, of that kind and recipe. Raises InvalidInput where labels would become numbers or numbers
    labels."""
    if kind is not None and (kind is OutputKind.LABELS) != (ensemble.kind is OutputKind.LABELS):
        raise InvalidInput(f"{ensemble.kind.value} cannot be {kind.value}", field="kind", allowed=ensemble.kind.value)
    return replace(ensemble, kind=kind or ensemble.kind, recipe=recipe or ensemble.recipe)


def renamed(ensemble: Ensemble, permutation: Sequence[int], members: Sequence[str] = ()) -> Ensemble:
    """With the classes of these members' outputs (none named: all members') in the labels' order, everywhere.

    permutation: [K], what each class of the outputs is among the labels. Files are read as before, and each array is
    put in order when it is. Raises InvalidInput for what is no permutation of the classes, or no member.
    """
    if sorted(permutation) != list(range(ensemble.class_count)):
        raise InvalidInput(
            "it is no permutation of the classes",
            field="permutation",
            allowed=f"each of 0 to {ensemble.class_count - 1}",
        )
    ids = [member.id for member in ensemble.members]
    if unknown := [one for one in members if one not in ids]:
        raise InvalidInput(f"no member is called {unknown[0]!r}", field="members", allowed=", ".join(ids))
    rows = frozenset(number for number, one in enumerate(ids) if not members or one in members)
    order = _Order(np.asarray(permutation), rows, ensemble.kind is OutputKind.LABELS)
    trajectory = ensemble.trajectory
    return replace(
        ensemble,
        sets={place: replace(one, outputs=order.of(one.outputs)) for place, one in ensemble.sets.items()},
        samples={method: order.of_samples(one) for method, one in ensemble.samples.items()},
        trajectory=trajectory and replace(trajectory, outputs=order.of_all(trajectory.outputs)),
    )


def examined(ensemble: Ensemble, permutation: str | None, *, is_one_of_more: bool = False) -> tuple[Ensemble, Findings]:
    """The ensemble with the answer about the order of its classes ("apply", "keep"; None: not answered), and what is
    odd of it then: the question stays, what it explained goes. Raises InvalidInput as `examine` does."""
    found = examine(ensemble, is_one_of_more=is_one_of_more, keeps_order=permutation == "keep")
    asked = [one for one in found.asked if one.what is Odd.PERMUTED]
    if permutation != "apply" or not asked:
        return ensemble, found
    for one in asked:
        ensemble = renamed(ensemble, one.permutation, one.members)
    again = examine(ensemble, is_one_of_more=is_one_of_more).oddities
    return ensemble, Findings.of([*asked, *(one for one in again if one.what is not Odd.PERMUTED)])


@dataclass(frozen=True, eq=False)
class _Order:
    """Puts classes in order. permutation: [K]; rows: of which members."""

    permutation: NDArray[np.int64]
    rows: frozenset[int]
    of_labels: bool

    def of(self, array: Array) -> Array:
        return replace(array, source=_Ordered(array, self))

    def of_all(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        return {place: self.of(array) for place, array in arrays.items()}

    def of_samples(self, samples: MethodSamples) -> MethodSamples:
        return replace(samples, outputs=self.of_all(samples.outputs), centre=self.of_all(samples.centre))

    def put(self, block: Values) -> Values:
        """[..., K], or predicted labels [...]."""
        if self.of_labels:
            return self.permutation[block].astype(block.dtype)
        ordered = np.empty_like(block)
        ordered[..., self.permutation] = block
        return ordered


@dataclass(frozen=True, eq=False)
class _Ordered:
    array: Array
    order: _Order

    def whole(self) -> Values:
        return np.stack(list(self.blocks(1)))

    def blocks(self, depth: int) -> Iterator[Values]:
        if depth == 0:
            yield self.whole()
            return
        if depth >= len(self.array.shape) and not self.order.of_labels:
            raise AssertionError("a class alone has no order")
        each = int(np.prod(self.array.shape[1:depth]))
        for number, block in enumerate(self.array.blocks(depth)):
            yield self.order.put(block) if number // each in self.order.rows else block
