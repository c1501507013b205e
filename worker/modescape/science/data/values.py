"""Numbers of any type as the bytes that networks are trained on: which value is white, and what rounding loses.

    extent = extent_of(train, "train_images") | extent_of(test, "test_images")      # what numbers a set has
    white = white_of(extent, "the images", given=spec.white)                         # what becomes 255
    pixels, loses = to_bytes(train, white)

    arrays, reading = in_bytes({"images": images}, white=spec.white)                 # all of this for arrays

One white level serves a whole set, so its images stay comparable (science k.3). Where numbers could mean several things
they are refused, and the user says what is white (`data.white`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from modescape.errors import InvalidInput

Kind = Literal["bytes", "declared", "integers", "floats"]

OVERSHOOT = 0.1  # of white: how far resizing and filtering may reach beyond black and white; it is cut off
NARROW = 16  # 16-bit numbers that stay below this part of their range are numbers of fewer bits in a wide box
_BLOCK = 1 << 22  # values looked at together, so that memory does not grow with the set
_FIELD = "data.path"
_BYTES = 255.0


@dataclass(frozen=True)
class Extent:
    """What numbers a set has. kind: "bytes" (8 bits), "declared" (a white level of more), "integers" (without one) or
    "floats"; whites: the levels declared; denormals: how many, and where the first is."""

    kind: Kind
    low: float
    high: float
    whole: bool
    whites: frozenset[float] = frozenset()
    denormals: int = 0
    where: str = ""

    def __or__(self, other: Extent) -> Extent:
        """Of both together; they must be of one kind."""
        return replace(
            self,
            low=min(self.low, other.low),
            high=max(self.high, other.high),
            whole=self.whole and other.whole,
            whites=self.whites | other.whites,
            denormals=self.denormals + other.denormals,
            where=self.where or other.where,
        )


def kind_of(dtype: np.dtype[Any]) -> Kind:
    """What an array's numbers are by their type, in either byte order."""
    if dtype.kind == "f":
        return "floats"
    if dtype == np.uint8:
        return "bytes"
    return "declared" if dtype.newbyteorder("=") == np.uint16 else "integers"


def extent_of(values: NDArray[Any], name: str, *, declared: float | None = None) -> Extent:
    """Of one array or picture. declared: its white level, where it says one. Raises InvalidInput naming the first value
    that is no number and its place."""
    kind = kind_of(values.dtype) if declared is None else "declared"
    white = {"bytes": _BYTES, "declared": declared or 65535.0}.get(kind)
    found = Extent(kind, np.inf, -np.inf, True, frozenset() if white is None else frozenset({white}))
    for start, block in _blocks(values):
        if kind == "floats":
            _check_finite(block, start, name)
        found |= _extent_of_block(block, start, name, kind)
    return found


def _extent_of_block(block: NDArray[Any], start: int, name: str, kind: Kind) -> Extent:
    low, high = float(block.min()), float(block.max())
    if kind != "floats":
        return Extent(kind, low, high, True)
    tiny = (block != 0) & (np.abs(block) < np.finfo(block.dtype).tiny)
    where = f"{name}{_place(tiny, start)}" if tiny.any() else ""
    whole = bool((np.rint(block) == block).all())
    return Extent(kind, low, high, whole, denormals=int(np.count_nonzero(tiny)), where=where)


def _check_finite(block: NDArray[Any], start: int, name: str) -> None:
    odd = ~np.isfinite(block)
    if odd.any():
        value = block[tuple(np.argwhere(odd)[0])]
        raise InvalidInput(
            f"{name} holds {value:g} at {_place(odd, start)}, which is not a number a pixel can be",
            field=_FIELD,
            allowed="finite numbers, none missing (NaN) and none infinite",
        )


def _place(chosen: NDArray[np.bool_], start: int) -> str:
    """The index of the first chosen value, of a block whose first row is `start`."""
    first, *rest = (int(i) for i in np.argwhere(chosen)[0])
    return f"[{', '.join(map(str, (first + start, *rest)))}]"


def _blocks(values: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """(first row, rows) along the first axis."""
    rows = max(1, _BLOCK // max(1, values[0].size))
    for start in range(0, len(values), rows):
        yield start, values[start : start + rows]


# --- what is white ----------------------------------------------------------------------------------------------------


def white_of(extent: Extent, name: str, *, given: float | None = None) -> float | None:
    """The value that becomes 255; None: each picture's own declared level, of which there are several.

    given: what the user says is white; values up to a tenth beyond black and white are cut off. Raises InvalidInput
    where the numbers could mean several things, or reach farther.
    """
    if given is not None:
        return _checked(extent, name, given)
    if extent.low < 0 and extent.kind != "floats":
        raise _refuse(extent, name)
    if extent.kind == "floats":
        return _white_of_floats(extent, name)
    if extent.kind == "bytes":
        return max(extent.whites)
    if extent.kind == "integers":
        return level_above(extent.high)
    if len(extent.whites) > 1:
        return None
    (declared,) = extent.whites
    return declared if extent.high * NARROW >= declared else level_above(extent.high)


def level_above(value: float) -> float:
    """The smallest 2^b - 1 that holds `value`: 4095 for 4000."""
    return float((1 << max(1, int(value).bit_length())) - 1)


def _white_of_floats(extent: Extent, name: str) -> float:
    if extent.denormals and extent.high < np.finfo(np.float32).tiny:
        raise InvalidInput(
            f"{name} holds no value above {extent.high:.3g}, and {extent.denormals} so small that they are denormal "
            f"(the first is {extent.where}), as the bytes of whole numbers are when they are read as floats",
            field=_FIELD,
            allowed=_ALLOWED,
        )
    if extent.low >= -OVERSHOOT and extent.high <= 1 + OVERSHOOT:
        return 1.0
    if extent.whole:
        if extent.low >= 0 and 2 <= extent.high <= _BYTES:
            return _BYTES
    elif extent.low >= -25 and 128 < extent.high <= 280:
        return _BYTES
    raise _refuse(extent, name)


_ALLOWED = (
    "floats of 0 to 1 (a tenth more on either side is cut off), whole numbers of 0 to 255, fractions of 0 to 255 with "
    "a maximum above 128 (25 more on either side are cut off), integers from 0; or data.white, which says what is white"
)


def _refuse(extent: Extent, name: str) -> InvalidInput:
    what = "floats, " + ("all whole" if extent.whole else "fractions") if extent.kind == "floats" else "integers"
    return InvalidInput(
        f"{name} goes from {extent.low:.9g} to {extent.high:.9g} ({what}), which could mean several things",
        field=_FIELD,
        allowed=_ALLOWED,
    )


_LEAST = 1e-30  # of a white that is given: 255 over less overflows in float32


def _checked(extent: Extent, name: str, given: float) -> float:
    if given < _LEAST:
        raise InvalidInput(f"{given:.9g} is too small to be white", field="data.white", allowed=f"{_LEAST:g} or more")
    if extent.low < -OVERSHOOT * given or extent.high > (1 + OVERSHOOT) * given:
        raise InvalidInput(
            f"{name} goes from {extent.low:.9g} to {extent.high:.9g}, and {given:.9g} was said to be white",
            field="data.white",
            allowed="a level that the values stay below (a tenth more on either side is cut off), or empty",
        )
    return given


# --- to bytes ---------------------------------------------------------------------------------------------------------


def to_bytes(values: NDArray[Any], white: float) -> tuple[NDArray[np.uint8], bool]:
    """uint8 of the same shape, `white` being 255, rounded and cut off; and whether that lost something: a value that
    was cut off, or whole numbers of more than 256 levels or fractions that were rounded."""
    if values.dtype == np.uint8 and white == _BYTES:
        return values, False
    pixels = np.empty(values.shape, np.uint8)
    loses = False
    for start, block in _blocks(values):
        scaled = _scaled(block, white)
        rounded = np.rint(scaled).clip(0, 255)
        pixels[start : start + len(block)] = rounded
        loses = loses or _loses(block, scaled, rounded, white)
    return pixels, loses


def _scaled(block: NDArray[Any], white: float) -> NDArray[Any]:
    """In the floats' own type, as these were always scaled; integers in double."""
    factor = _BYTES / white
    return block * (factor if block.dtype.kind == "f" else np.float64(factor))


_HAIR = 1e-3  # of a level: what rounding errors of float32 may add; half precision has coarser ones


def _loses(block: NDArray[Any], scaled: NDArray[Any], rounded: NDArray[Any], white: float) -> bool:
    if block.dtype.kind != "f" and white <= _BYTES and block.max() <= white:
        return False  # every level keeps a byte of its own
    hair = max(_HAIR, 255 * float(np.finfo(scaled.dtype).eps))
    return bool((np.abs(scaled - rounded) > hair).any())


# --- arrays -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reading:
    """How a set's numbers were read. white: the value that became 255, None where there are several; sentences: that
    and what was lost, for people; is_plain: as by the rules before, so that what was computed stays true."""

    white: float | None
    sentences: tuple[str, ...]
    is_plain: bool

    @property
    def remarks(self) -> tuple[str, ...]:
        """The sentences, where they say more than that 1 or 255 is white and nothing is lost."""
        return self.sentences if len(self.sentences) > 1 or self.white not in (1.0, _BYTES) else ()


def in_bytes(
    arrays: Mapping[str, NDArray[Any]], *, white: float | None = None
) -> tuple[dict[str, NDArray[np.uint8]], Reading]:
    """The arrays of one set as uint8, those of one kind (bytes, other integers, floats) by one white level.

    white: what the user says is white. Raises InvalidInput naming array and value. A type says less of an array than of
    a picture: whole numbers up to 255 are bytes, of whatever type, and up to 1 they are black and white.
    """
    pixels: dict[str, NDArray[np.uint8]] = {}
    readings = []
    for names in _alike(arrays):
        held = {name: arrays[name] for name in names}
        found, reading = _group_in_bytes(held, white)
        pixels |= found
        readings.append(reading)
    whites = {reading.white for reading in readings}
    return pixels, Reading(
        whites.pop() if len(whites) == 1 else None,
        tuple(sentence for reading in readings for sentence in reading.sentences),
        all(reading.is_plain for reading in readings),
    )


def _alike(arrays: Mapping[str, NDArray[Any]]) -> list[list[str]]:
    """The names of arrays whose numbers mean the same: truth values, bytes, other integers, floats."""
    groups: dict[str, list[str]] = {}
    for name, values in arrays.items():
        kind = "integers" if values.dtype.kind in "iu" and values.dtype != np.uint8 else values.dtype.str[1:]
        groups.setdefault("floats" if values.dtype.kind == "f" else kind, []).append(name)
    return list(groups.values())


def _group_in_bytes(
    arrays: Mapping[str, NDArray[Any]], given: float | None
) -> tuple[dict[str, NDArray[np.uint8]], Reading]:
    name = " and ".join(arrays)
    if next(iter(arrays.values())).dtype.kind == "b":
        truth = {key: values.astype(np.uint8) * np.uint8(255) for key, values in arrays.items()}
        return truth, Reading(1.0, (f"{name}: false is black, true is white.",), False)
    extents = _extents(arrays)
    extent = union(extents)
    white = _white_of_arrays(extent, name, given)
    pixels, loses = {}, False
    for key, values in arrays.items():
        pixels[key], lost = to_bytes(values, white)
        loses = loses or lost
    sentences = *_sentences(extent, name, white, loses), *_apart(dict(zip(arrays, extents, strict=True)), white)
    return pixels, Reading(white, sentences, _is_plain(extents, white))


def _extents(arrays: Mapping[str, NDArray[Any]]) -> list[Extent]:
    """Of each array, all of one kind."""
    found = [extent_of(values, name) for name, values in arrays.items()]
    if len({extent.kind for extent in found}) > 1:  # 16 bits and more
        found = [replace(extent, kind="integers", whites=frozenset()) for extent in found]
    return found


def union(extents: Sequence[Extent]) -> Extent:
    """Of at least one, all of one kind."""
    return reduce(or_, extents)


def _white_of_arrays(extent: Extent, name: str, given: float | None) -> float:
    if given is None and extent.kind in ("declared", "integers") and extent.low >= 0 and extent.high <= _BYTES:
        return 1.0 if extent.high <= 1 else _BYTES
    white = white_of(extent, name, given=given)
    assert white is not None  # arrays of one type declare one level
    return white


def _is_plain(extents: Sequence[Extent], white: float) -> bool:
    """Whether the same bytes came out by the rules before: each array by itself, floats up to 1 by 255, all else as it
    was, and nothing beyond 0 to 255."""
    before = (1.0 if extent.kind == "floats" and extent.high <= 1 else _BYTES for extent in extents)
    return all(e.low >= 0 and e.high <= _BYTES for e in extents) and all(level == white for level in before)


DIM = 16  # numbers that stay below this part of white may have another white


def _sentences(extent: Extent, name: str, white: float, loses: bool) -> tuple[str, ...]:
    """What became of the numbers, for people."""
    said = [f"{name}: {extent.low:.6g} to {extent.high:.6g}, of which {white:.9g} is white."]
    if extent.low < 0 or extent.high > white:
        said.append(f"Values below 0 and above {white:.9g} are cut off.")
    if loses:
        said.append(LOSES)
    if extent.denormals:
        said.append(f"{extent.denormals} values are denormal and read as 0, the first at {extent.where}.")
    if extent.high * DIM < white:
        said.append(dim(extent.high, white))
    return tuple(said)


def _apart(extents: Mapping[str, Extent], white: float) -> Iterator[str]:
    """A hint for who has scaled one array and not the other: beside it the first is black."""
    brightest = max(extent.high for extent in extents.values())
    for name, extent in extents.items():
        if extent.high * DIM < min(white, brightest):
            yield (
                f"{name} goes up to {extent.high:.6g} and others beside it to {brightest:.6g}; all are read with "
                f"{white:.9g} as white, so make sure that they are of one scale."
            )


LOSES = "They are rounded to 256 levels, and differences finer than that are lost."


def dim(brightest: float, white: float = _BYTES) -> str:
    """A hint for who has numbers that hardly leave black."""
    return f"Nothing is brighter than {brightest:.6g} of {white:.9g}; if that is white, say so in data.white."
