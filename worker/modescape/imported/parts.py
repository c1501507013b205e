"""Each array of an ensemble on its own: is it of the shape and the numbers that its place asks for?

    outputs(array, OutputKind.LOGITS)          # [M, N, K] of floats, none of them 0; else InvalidInput
    true_labels(array)                         # int64 [N]

Whether arrays fit each other is asked at the door.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modescape.imported.arrays import Array, Refused, refuse
from modescape.imported.containers import values
from modescape.imported.ensemble import (
    TEST,
    VALIDATION,
    Curve,
    ExampleSet,
    Labels,
    Member,
    OutputKind,
    SetRole,
    Shift,
)
from modescape.imported.kinds import of_one_number

_AXES = {1: "members, ", 2: "members, samples or checkpoints, "}


def outputs(array: Array, kind: OutputKind, *, lead: int = 1) -> Array:
    """The array itself if it is [.., N, K] ([.., N] of labels) after `lead` axes (1: members; 2: and samples or
    checkpoints). Raises InvalidInput."""
    of_labels = kind is OutputKind.LABELS
    if len(array.shape) != lead + (1 if of_labels else 2):
        raise misshapen(array, kind, _AXES[lead], one=len(array.shape) == lead + (0 if of_labels else 1))
    if 0 in array.shape:
        wanted = f"[{_AXES[lead]}examples{'' if of_labels else ', classes'}]"
        raise refuse(array.name, f"it is empty, {list(array.shape)}", f"{wanted}, none of them 0")
    if of_labels and array.dtype.kind not in "iu":
        raise refuse(
            array.name, f"it holds {array.dtype} for predicted labels", "whole numbers, such as outputs.astype(int)"
        )
    if not of_labels and array.dtype.kind != "f":
        raise refuse(array.name, f"it holds {array.dtype} for {kind.value}", "float16, float32 or float64")
    if not of_labels and array.shape[-1] < 2:
        raise refuse(array.name, "it has 1 class", "at least 2: of a binary classifier, a column for each class")
    return array


def misshapen(array: Array, kind: OutputKind, axes: str, *, one: bool = False) -> Refused:
    """The refusal of outputs of another number of axes. axes: those before the examples, as words; one: whether they
    may be a single member's."""
    of_labels = kind is OutputKind.LABELS
    wanted = f"[{axes}examples{'' if of_labels else ', classes'}]"
    said, hint = f"it is {list(array.shape)} for {kind.value}", ", one member too: save outputs[None]" if one else ""
    if of_labels and len(array.shape) == axes.count(",") + 2:
        said = f"whole numbers are read as predicted labels, and it is {array.dtype} {list(array.shape)}"
        hint = "; of rows of a column a class (one-hot), outputs.argmax(-1); logits as outputs.astype('float32')"
    elif len(array.shape) == 1 and array.dtype.kind == "f":
        hint = f"; {of_one_number(np.asarray(values(array)))}"
    return refuse(array.name, said, f"{wanted}{hint}")


def true_labels(array: Array) -> Labels:
    """int64 [N]; [N, 1] and floats that are whole numbers are taken too. Raises InvalidInput."""
    shape = array.shape[:1] if array.shape[1:] == (1,) else array.shape
    if len(shape) != 1 or array.dtype.kind not in "iufb":
        hint = "; of one row a class, labels.argmax(-1)" if len(shape) == 2 else ""
        raise refuse(
            array.name, f"true labels are {array.dtype} {list(array.shape)}", f"whole numbers [examples]{hint}"
        )
    found = np.asarray(values(array)).reshape(-1)
    if not len(found):
        raise refuse(array.name, "it holds no labels", "one label an example")
    if found.dtype.kind == "f" and not (np.isfinite(found).all() and (found == np.rint(found)).all()):
        raise refuse(array.name, "true labels hold fractions, infinities or NaN", "whole numbers")
    if float(found.max()) >= 2**31 or float(found.min()) < -(2**31):
        raise refuse(array.name, f"true labels run from {found.min()} to {found.max()}", "class numbers from 0")
    return found.astype(np.int64)


def ids(array: Array) -> NDArray[Any]:
    """int64 or texts [N]. Raises InvalidInput."""
    if len(array.shape) != 1 or array.dtype.kind not in "iuU":
        raise refuse(array.name, f"ids are {array.dtype} {list(array.shape)}", "whole numbers or texts [examples]")
    found = np.asarray(values(array))
    return found if found.dtype.kind == "U" else found.astype(np.int64)


def images(array: Array) -> Array:
    """uint8 [N, C, H, W]. Raises InvalidInput."""
    if len(array.shape) != 4 or array.dtype != np.uint8 or array.shape[1] not in (1, 3) or 0 in array.shape:
        raise refuse(array.name, f"images are {array.dtype} {list(array.shape)}", "uint8 [N, 1 or 3, height, width]")
    return array


def strength(array: Array) -> NDArray[np.float64]:
    """float64 [M, S], finite. Raises InvalidInput."""
    if len(array.shape) != 2 or array.dtype.kind not in "iuf":
        raise refuse(array.name, f"strengths are {array.dtype} {list(array.shape)}", "numbers [members, samples]")
    found = np.asarray(values(array), np.float64)
    if not np.isfinite(found).all():
        raise refuse(array.name, "strengths hold infinities or NaN", "finite numbers")
    return found


def better(array: Array) -> NDArray[np.bool_]:
    """bool [M], whether each last iterate is better than its member. Raises InvalidInput."""
    if len(array.shape) != 1 or array.dtype.kind not in "biu":
        raise refuse(array.name, f"it is {array.dtype} {list(array.shape)}", "true or false [members]")
    found = np.asarray(values(array))
    if not np.isin(found, (0, 1)).all():
        raise refuse(array.name, "it holds more than 0 and 1", "true or false [members]")
    return found.astype(np.bool_)


def epochs(array: Array) -> NDArray[np.float64]:
    """float64 [T], increasing. Raises InvalidInput."""
    if len(array.shape) != 1 or array.dtype.kind not in "iuf" or not array.shape[0]:
        raise refuse(array.name, f"epochs are {array.dtype} {list(array.shape)}", "numbers [checkpoints]")
    found = np.asarray(values(array), np.float64)
    if not np.isfinite(found).all() or (np.diff(found) <= 0).any():
        raise refuse(array.name, "epochs do not increase", "finite numbers, each larger than the one before")
    return found


def curve(array: Array) -> Curve:
    """float64 [P, 3]: steps that increase, values, Unix times; [P, 2] without times. Raises InvalidInput."""
    if len(array.shape) != 2 or array.shape[1] not in (2, 3) or array.dtype.kind not in "iuf":
        raise refuse(array.name, f"a curve is {array.dtype} {list(array.shape)}", "numbers [points, step and value]")
    found = np.asarray(values(array), np.float64)
    if not np.isfinite(found[:, 0]).all() or (np.diff(found[:, 0]) <= 0).any():
        raise refuse(array.name, "its steps do not increase", "finite numbers, each larger than the one before")
    return found if found.shape[1] == 3 else np.column_stack([found, np.full(len(found), np.nan)])


def check_members(members: Sequence[Member], name: str) -> None:
    """Raises InvalidInput where two have one id."""
    seen: set[str] = set()
    for member in members:
        if member.id in seen:
            raise refuse(name, f"two members are called {member.id!r}", "ids that differ")
        seen.add(member.id)


def set_of(
    place: str,
    found: Array,
    *,
    labels: Labels | None = None,
    ids: NDArray[Any] | None = None,
    images: Array | None = None,
    data: str = "",
    examples: int,
    own_images: bool | None = None,
) -> ExampleSet:
    """The set that lies at a place; examples: N of the test set.

    A shifted set is the test set changed, image by image, unless own_images says otherwise, or it has labels of its own
    or another number of examples. Raises InvalidInput for an intensity outside 1 to 5.
    """
    role, shift = _role(place), None
    if role is SetRole.SHIFT:
        _, kind, step = place.split("/")
        shift = Shift(kind, int(step))
    own = role is not SetRole.SHIFT or labels is not None or found.shape[1] != examples
    if role is SetRole.SHIFT and own_images is not None:
        own = own_images
    return ExampleSet(place, role, found, labels, ids, images, shift, own, data)


def _role(place: str) -> SetRole:
    if place in (TEST, VALIDATION):
        return SetRole.TEST if place == TEST else SetRole.VALIDATION
    return SetRole.OOD if place.startswith("ood/") else SetRole.SHIFT
