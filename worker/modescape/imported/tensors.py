"""What a .safetensors file holds, by its header alone (format: https://huggingface.co/docs/safetensors).

    header = header_of(tensors)
    [(one.name, one.dtype, one.shape) for one in header.entries]

The library maps whole files and cannot read a stream, so the header is read here, under limits. Its numpy has no
bfloat16 and no floats of 8 bits, so numbers are read here too, where no torch is.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from modescape.imported.arrays import LARGEST, Refused, beside, converting, is_archive, is_pickle, readable, refuse
from modescape.imported.ensemble import Tensors
from modescape.imported.two_arrays import natural

_HEADER = 16 << 20  # bytes; the library allows 100 MB, networks need some hundred kB
_BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "BOOL": 8,
    "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16, "U8": 8,
}  # fmt: skip
_FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
_WHOLE = "a whole .safetensors file"


class _Entry(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)

    dtype: str
    shape: list[int]
    data_offsets: list[int]


_DOCUMENT = TypeAdapter(dict[str, _Entry | dict[str, str]])


@dataclass(frozen=True)
class TensorEntry:
    """One tensor: dtype as the format names it; start: where its bytes begin in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    start: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def is_float(self) -> bool:
        return self.dtype in _FLOATS


@dataclass(frozen=True)
class TensorHeader:
    """The tensors of a file in the order of their bytes. offset: bytes before the first."""

    file: str
    entries: tuple[TensorEntry, ...]
    offset: int

    def cut_off(self) -> Refused:
        return refuse(self.file, "it ends before its tensors do", _WHOLE)


def header_of(tensors: Tensors, at: str = "") -> TensorHeader:
    """at: its path as whoever reads a refusal would open it. Raises InvalidInput where it is no such file, or holds
    another amount than it says."""
    name = tensors.name
    with readable(name), tensors.open() as file:
        beginning = file.read(8)
        size = int.from_bytes(beginning, "little")
        if is_archive(beginning) or is_pickle(beginning):
            raise _other(name, at or name)
        if len(beginning) < 8 or size > _HEADER or size + 8 > tensors.nbytes:
            raise refuse(name, "it does not begin as .safetensors", _WHOLE)
        text = file.read(size)
    try:
        document = _DOCUMENT.validate_json(text)
    except ValidationError as error:
        raise refuse(name, f"its header cannot be read ({error.errors()[0]['msg'][:200]})", _WHOLE) from error
    entries = {key: one for key, one in document.items() if isinstance(one, _Entry) and key != "__metadata__"}
    return TensorHeader(name, _in_order(name, entries, 8 + size, tensors.nbytes), 8 + size)


def _other(name: str, at: str) -> Refused:
    """The refusal of an archive or a pickle under a name that promises neither, with the lines that convert it."""
    if name.endswith(".npz"):
        lines = (
            "    import numpy as np; from safetensors.numpy import save_file\n"
            f"    save_file(dict(np.load({json.dumps(at)})), {beside(at, '.safetensors')})"
        )
        return refuse(name, f"it is an archive of NumPy. Convert it:\n{lines}", _WHOLE)
    # opened, for torch takes a name that ends so at its word
    load = f'torch.load(open({json.dumps(at)}, "rb"), map_location="cpu", weights_only=True)'
    target = Path(at).with_name(f"{Path(at).stem}-converted.safetensors").as_posix()
    lines = converting(at, load, 'found.get("state_dict", found)', target=target)
    message = "it is a pickle or an archive, as a file of torch is: call it .pt where it is one. Convert it:"
    return refuse(name, f"{message}\n{lines}", _WHOLE)


def floats(file: IO[bytes], entry: TensorEntry) -> NDArray[np.float64]:
    """The numbers of a tensor of floats, [elements], exactly."""
    file.seek(entry.start)
    raw = file.read(entry.nbytes)
    if entry.dtype == "F8_E4M3":
        return _e4m3()[np.frombuffer(raw, np.uint8)]
    if entry.dtype == "BF16":  # the upper half of a float32
        found = (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
    elif entry.dtype == "F8_E5M2":  # the upper half of a float16
        found = (np.frombuffer(raw, np.uint8).astype("<u2") << 8).view("<f2")
    else:
        found = np.frombuffer(raw, f"<f{_BITS[entry.dtype] // 8}")
    with np.errstate(invalid="ignore"):  # of a NaN that signals
        return np.asarray(found, np.float64)


def _e4m3() -> NDArray[np.float64]:
    """The value of each byte: a sign, four bits of an exponent with bias 7, three of a mantissa; no infinities
    (Micikevicius et al. 2022, table 1)."""
    code = np.arange(256)
    exponent, mantissa = (code >> 3) & 15, code & 7
    size = np.where(exponent == 0, mantissa / 8 * 2.0**-6, (1 + mantissa / 8) * 2.0 ** (exponent - 7))
    return np.where(code & 127 == 127, np.nan, np.where(code < 128, size, -size))


def _in_order(name: str, entries: dict[str, _Entry], offset: int, end: int) -> tuple[TensorEntry, ...]:
    """Their bytes must follow each other without gaps to the end of the file."""
    found, at, size = [], 0, end - offset
    for key, one in sorted(entries.items(), key=lambda item: (item[1].data_offsets, item[0])):
        nbytes = _nbytes(name, key, one)
        if one.data_offsets != [at, at + nbytes]:
            raise refuse(name, f"its header misplaces the tensor {key!r}", _WHOLE)
        found.append(TensorEntry(key, one.dtype, tuple(one.shape), nbytes, offset + at))
        at += nbytes
    if at != size:
        raise refuse(name, f"its header promises {at:,} bytes of tensors, {size:,} are there", _WHOLE)
    return tuple(found)


def _nbytes(name: str, key: str, one: _Entry) -> int:
    if one.dtype not in _BITS:
        raise refuse(name, f"the tensor {key!r} holds {one.dtype[:20]!r}", ", ".join(_BITS))
    if any(not 0 <= length < LARGEST for length in one.shape) or len(one.shape) > 16:
        raise refuse(name, f"the tensor {key!r} is {one.shape[:8]}", "lengths that a file can hold")
    return math.prod(one.shape) * _BITS[one.dtype] // 8


# --- the same parameter in several files -----------------------------------------------------------------------------

_RUNNING = re.compile(r"running_(mean|var)|num_batches_tracked|moving_(mean|variance)|batch_stats")


def matched(headers: Sequence[TensorHeader]) -> list[tuple[TensorEntry, ...]]:
    """Of every parameter that all files have its tensor in each (science p.4): floats of one name and shape, without
    running statistics. Where no name is in every file (Keras numbers its layers anew for every model) they are matched
    by their natural order, if their shapes allow."""
    found = [{entry.name: entry for entry in header.entries} for header in headers]
    shared = _in_all(found)
    if not shared:
        found = [dict(_by_place(own)) for own in found]
        shared = _in_all(found)
    every = (tuple(own[name] for own in found) for name in sorted(shared))
    return [some for some in every if not _RUNNING.search(some[0].name) and all(entry.is_float for entry in some)]


def unmatched(headers: Mapping[str, TensorHeader]) -> list[tuple[str, str]]:
    """Each other parameter of these files, by whose they are, and why it is not compared, in words."""
    there = {who: {entry.name: entry for entry in header.entries} for who, header in headers.items()}
    used = [{some[number].name for some in matched(list(headers.values()))} for number in range(len(headers))]
    names = [name for own, taken in zip(there.values(), used, strict=True) for name in own if name not in taken]
    return [
        (name, _why_not({who: own.get(name) for who, own in there.items()}))
        for name in dict.fromkeys(names)
        if not _RUNNING.search(name) and any(name in own and own[name].is_float for own in there.values())
    ]


def _why_not(of: Mapping[str, TensorEntry | None]) -> str:
    lacking = [who for who, entry in of.items() if entry is None]
    if lacking:
        return f"which member {lacking[0]}{' and others have' if len(lacking) > 1 else ' has'} not"
    shapes: dict[tuple[int, ...], str] = {}
    for who, entry in of.items():
        if entry is not None:
            shapes.setdefault(entry.shape, who)
    if len(shapes) > 1:
        return " and ".join(f"{list(shape)} of member {who}" for shape, who in list(shapes.items())[:2])
    return "which is not of floats everywhere"


def _in_all(found: Sequence[Mapping[str, TensorEntry]]) -> list[str]:
    """Names that every file has, of tensors of one shape."""
    return [
        name for name, entry in found[0].items()
        if all(name in own and own[name].shape == entry.shape for own in found)
    ]  # fmt: skip


def _by_place(found: Mapping[str, TensorEntry]) -> Iterator[tuple[str, TensorEntry]]:
    """By the last part of the name and the place in natural order: what two files have there is the same parameter,
    where all shapes are alike."""
    for place, name in enumerate(sorted(found, key=natural)):
        yield f"{place:06d}/{re.split(r'[/.]', name)[-1]}", found[name]
