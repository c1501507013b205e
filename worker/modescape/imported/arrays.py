"""An array that lies somewhere: shape and dtype are known before anything of it is read.

    outputs = mapped(Path("test.logits.npy"))
    outputs.shape                               # (20, 50000, 1000)
    for member in outputs.rows(): ...           # [50000, 1000] each, one in memory at a time

A file is believed only as far as its header and its size agree. What is refused is refused before memory is spent on
it, in words that name the file. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import math
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol
from zipfile import BadZipFile

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from modescape.errors import InvalidInput
from modescape.science.blocks import give_back

Values = NDArray[Any]

LARGEST = 64 << 30  # bytes of one array, 30 times ImageNet's of 20 members in float16
_PIECE = 256 << 20  # bytes: a member's outputs on ImageNet in float32 are 200 MB
_DIMENSIONS = 5
_TEXT = 4 << 10  # bytes of one text, in arrays of ids
_TURNED = 256 << 20  # bytes of an array in Fortran order inside an archive, which must be held to be turned
_HEADER = 10_000  # bytes, as NumPy itself allows
NUMBERS = "whole numbers, float16, float32 or float64"
_PLAIN = "np.save of an array of numbers"


def printable(name: str) -> str:
    """A file's name as text that can be stored and shown, whatever bytes it has."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


class Refused(InvalidInput):
    """A file or an array that is not read: as a text it says what is allowed, too."""

    def __str__(self) -> str:
        return f"{self.problems[0].message} (allowed: {self.allowed})"


def refuse(name: str, message: str, allowed: str) -> Refused:
    """The error for a file or an array of that name."""
    return Refused(f"{printable(name)}: {message}", field="files", allowed=allowed)


def is_pickle(beginning: bytes) -> bool:
    """Of the first eight bytes of a file. One of safetensors, which begins with a length as eight bytes, may begin with
    the two of a pickle too, but no pickle goes on with five zeros."""
    return len(beginning) > 1 and beginning[0] == 0x80 and 2 <= beginning[1] <= 5 and beginning[3:8] != bytes(5)


def is_archive(beginning: bytes) -> bool:
    """Of the first eight bytes of a file: a .zip, empty ones and parts of one too."""
    return beginning[:4] in (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")


# Of the refusals below `at` is the file's path as whoever reads their lines would open it, where that is not its name.


def converting(at: str, *found: str, target: str = "") -> str:
    """The lines that make a .safetensors file of one of torch, for a refusal; found: what the tensors by name are, each
    from what was found before; target: where to, else beside it."""
    lines = [
        "import torch; from safetensors.torch import save_file",
        *(f"found = {one}" for one in found),
        "tensors = {k: v.contiguous().clone() for k, v in found.items() if torch.is_tensor(v)}",
        f"save_file(tensors, {json.dumps(target) if target else beside(at, '.safetensors')})",
    ]
    return _lines(*lines)


def beside(at: str, ending: str) -> str:
    """What lines call the file that they make of another, of this ending."""
    return json.dumps(Path(at).with_suffix(ending).as_posix())


def _lines(*lines: str) -> str:
    return "\n".join(f"    {line}" for line in lines)


def _saving(at: str, entries: str, alone: str) -> str:
    """The line that saves what was found in a file of which nobody knows whether it holds one array or several."""
    return (
        f"np.savez({beside(at, '.npz')}, **{{{entries}}}) if isinstance(found, dict) "
        f"else np.save({beside(at, '.npy')}, {alone})"
    )


def pickled(name: str, how: str = "it is a pickle", at: str = "") -> Refused:
    """The refusal of a pickle, with the lines that convert it."""
    at = at or name
    module, load = "pickle", f'pickle.load(open({json.dumps(at)}, "rb"))'
    if name.lower().endswith(".joblib"):
        module, load = "joblib", f"joblib.load({json.dumps(at)})"
    saving = _saving(at, "str(k): np.asarray(v) for k, v in found.items()", "np.asarray(found)")
    lines = _lines(f"import numpy as np, {module}", f"found = {load}", saving)
    message = (
        f"{how}: loading one can run any program, so it is never read here. Where you trust it, convert it, an array "
        f"or a dict of which each entry becomes one:\n{lines}"
    )
    return refuse(name, message, "numbers as .npy, .npz, .csv, .parquet or .arrow")


def torch_pickled(name: str, at: str = "") -> Refused:
    """The refusal of a file of torch, with the lines that convert it."""
    at = at or name
    entries = "k: v.detach().float().numpy() for k, v in found.items() if torch.is_tensor(v)"
    lines = _lines(
        "import numpy as np, torch",
        f'found = torch.load({json.dumps(at)}, map_location="cpu", weights_only=True)',
        _saving(at, entries, "found.detach().float().numpy()"),
    )
    message = (
        f"it is a file of torch, which holds a pickle, and is not read here. Networks and their weights come in as "
        f"such, by --weights with --architecture and --data. Outputs, a tensor or a dict of tensors, convert:\n{lines}"
    )
    return refuse(name, message, "numbers as .npy, .npz, .csv, .parquet or .arrow; weights with their architecture")


# By the bytes a file begins with: what it is, and the two lines that make of it what is read here.
_FOREIGN: dict[bytes, tuple[str, str, str]] = {
    b"\x89HDF": ("a file of HDF5", "import h5py, numpy as np", 'np.save({1}, h5py.File({0})["outputs"][:])'),
    b"MATLAB 5": ("a file of MATLAB", "import numpy as np, scipy.io", 'np.save({1}, scipy.io.loadmat({0})["outputs"])'),
    b"\x1f\x8b": (
        "compressed by gzip", "import gzip, shutil", 'shutil.copyfileobj(gzip.open({0}), open("unpacked.csv", "wb"))',
    ),
}  # fmt: skip


def foreign(name: str, beginning: bytes, at: str = "") -> Refused | None:
    """The refusal of a file of another tool, with the two lines that convert it; None where it is of none we know."""
    known = next((known for magic, known in _FOREIGN.items() if beginning.startswith(magic)), None)
    if known is None:
        return None
    at = at or name
    what, first, second = known
    lines = _lines(first, second.format(json.dumps(at), beside(at, ".npy")))
    message = f"it is {what}, which is not read here. Convert it:\n{lines}"
    return refuse(name, message, "numbers as .npy, .npz, .csv, .parquet or .arrow")


def objects(name: str, at: str = "") -> Refused:
    """The refusal of an array of Python objects, which is a pickle inside."""
    at = at or name
    target = json.dumps(Path(at).with_name(f"{Path(at).stem}-converted.npy").as_posix())
    load = f"np.load({json.dumps(at)}, allow_pickle=True)"
    lines = _lines("import numpy as np", f'np.save({target}, np.stack(list({load})).astype("float32"))')
    message = f"it holds Python objects, which are a pickle inside. Where you trust it, convert it:\n{lines}"
    return refuse(name, message, NUMBERS)


# --- what a header says -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Header:
    """Of an .npy file. fortran: whether the first axis runs fastest; offset: bytes before the numbers."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    offset: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(file: IO[bytes], name: str, size: int, at: str = "") -> Header:
    """The header of an .npy file of `size` bytes, `file` standing at its start and afterwards at its first number.

    at: as in the refusals above.

    Raises InvalidInput where it is no such file, holds what is not allowed, or another amount than it says.
    """
    beginning = file.read(8)
    if beginning[:6] != npy.MAGIC_PREFIX:
        raise _no_npy(name, beginning, at)
    shape, fortran, dtype = _parsed(file, name, beginning)
    header = Header(shape, dtype, fortran and len(shape) > 1, file.tell())
    _check_dtype(name, dtype, at)
    _check_shape(name, header)
    if size != header.offset + header.nbytes:
        raise refuse(
            name,
            f"its header promises {header.nbytes:,} bytes of numbers ({dtype.name} {list(shape)}), "
            f"{max(size - header.offset, 0):,} are there; it was cut off or changed",
            "a whole file as np.save wrote it",
        )
    return header


def _no_npy(name: str, beginning: bytes, at: str) -> Refused:
    if not beginning:
        return refuse(name, "it is empty, 0 bytes", _PLAIN)
    if is_pickle(beginning):
        return pickled(name, at=at)
    if is_archive(beginning):
        return refuse(name, "it is an archive and not a single array", "an .npy file, or the name .npz or .zip")
    if beginning[:4] == b"\x89HDF":
        return refuse(name, "it is an HDF5 file", _PLAIN)
    return refuse(name, "it is no .npy file: it does not begin as one", _PLAIN)


def _parsed(file: IO[bytes], name: str, beginning: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = tuple(beginning[6:8])
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise refuse(
            name, f"its version of .npy is {version}", "versions 1.0 and 2.0, which np.save writes for numbers"
        )
    try:
        shape, fortran, dtype = readers[version](file, max_header_size=_HEADER)
    except Exception as error:  # the reader raises what it pleases on damaged headers
        raise refuse(name, f"its header cannot be read ({_reason(error)})", _PLAIN) from error
    return tuple(int(length) for length in shape), bool(fortran), dtype


def _reason(error: Exception) -> str:
    why = error.strerror if isinstance(error, OSError) else ""  # and not where it is, which may be a server's own place
    said = (why or str(error) or type(error).__name__).splitlines()[0]
    return re.sub(r":? *<[^<>]* object at 0x[0-9a-f]+>", "", said)[:200]  # of the parser: where something lay in memory


def _check_dtype(name: str, dtype: np.dtype[Any], at: str = "") -> None:
    if dtype.hasobject:
        raise objects(name, at)
    if dtype.names is not None or dtype.subdtype is not None:
        raise refuse(name, "its numbers have fields (a structured dtype)", f"{NUMBERS}, one file a field")
    if dtype.kind == "V":
        raise refuse(
            name,
            f"it holds {dtype.itemsize} bytes without a meaning a number (bfloat16 loses its name in .npy)",
            f'{NUMBERS}: save .astype("float32")',
        )
    if dtype.kind in "US":
        if not 0 < dtype.itemsize <= _TEXT:
            raise refuse(name, f"its texts have {dtype.itemsize} bytes each", f"texts of 1 to {_TEXT} bytes")
    elif dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise refuse(name, f"it holds {dtype.name}", f'{NUMBERS}: save .astype("float32")')


def _check_shape(name: str, header: Header) -> None:
    if len(header.shape) > _DIMENSIONS:
        raise refuse(name, f"it has {len(header.shape)} dimensions", f"at most {_DIMENSIONS}")
    if any(length < 0 for length in header.shape):
        raise refuse(name, f"its header says {list(header.shape)}, a length below 0", _PLAIN)
    if header.nbytes > LARGEST:
        raise refuse(
            name,
            f"it is {header.dtype.name} {list(header.shape)}, {header.nbytes / 2**30:,.0f} GiB",
            f"at most {LARGEST >> 30} GiB an array",
        )


# --- where an array lies ----------------------------------------------------------------------------------------------


class Source(Protocol):
    """Where the numbers of an array are."""

    def whole(self) -> Values: ...

    def blocks(self, depth: int) -> Iterator[Values]: ...


@dataclass(frozen=True, eq=False)
class Array:
    """An array that may not be in memory. name: of its file or argument, for messages."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    source: Source

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self) -> Values:
        """All of it: memory-mapped where it is a plain .npy file, else in memory. Raises InvalidInput (damaged)."""
        return self.source.whole()

    def rows(self) -> Iterator[Values]:
        """One by one along the first axis, C-contiguous; no two need memory at once. Raises InvalidInput (damaged)."""
        return self.source.blocks(1)

    def blocks(self, depth: int) -> Iterator[Values]:
        """Arrays of shape[depth:] in C order; depth 0 is the whole. Raises InvalidInput (damaged)."""
        return self.source.blocks(depth)

    def pieces(self) -> Iterator[Values]:
        """In C order, as large as 256 MiB allow. Raises InvalidInput (damaged)."""
        depth, size = 0, self.nbytes
        while size > _PIECE and depth < len(self.shape):
            size //= max(1, self.shape[depth])
            depth += 1
        return self.source.blocks(depth)


def held(name: str, values: Values) -> Array:
    """An array in memory. Raises InvalidInput for dtypes that no file may have either."""
    _check_dtype(name, values.dtype)
    return Array(name, values.shape, _native(values.dtype), _Held(values))


def mapped(path: Path, name: str = "", at: str = "") -> Array:
    """A plain .npy file, memory-mapped. at: as in the refusals above. Raises InvalidInput."""
    called = name or path.name
    with readable(called), path.open("rb") as file:
        header = read_header(file, called, path.stat().st_size, at)
    return Array(called, header.shape, _native(header.dtype), _Mapped(path, header))


def streamed(name: str, size: int, opened: Callable[[], IO[bytes]]) -> Array:
    """An .npy file of `size` bytes that can only be read from its start, such as one in an archive.

    Raises InvalidInput.
    """
    with readable(name), opened() as file:
        header = read_header(file, name, size)
    if header.fortran and header.nbytes > _TURNED:
        raise refuse(
            name, "it is in Fortran order, and too large to be turned", "np.save(path, np.ascontiguousarray(array))"
        )
    return Array(name, header.shape, _native(header.dtype), _Streamed(name, header, opened))


def stacked(name: str, parts: Sequence[Array]) -> Array:
    """Arrays of one shape along a new first axis, such as one file a member. Raises InvalidInput naming the odd one."""
    if not parts:
        raise refuse(name, "it has no members", "at least one")
    first = parts[0]
    for part in parts:
        if part.shape != first.shape:
            raise refuse(
                part.name, f"it is {list(part.shape)}, {first.name} is {list(first.shape)}", "one shape for all"
            )
        if part.dtype.kind != first.dtype.kind:
            raise refuse(part.name, f"it holds {part.dtype}, {first.name} {first.dtype}", "one kind of numbers for all")
    dtype = np.result_type(*(part.dtype for part in parts))
    return Array(name, (len(parts), *first.shape), dtype, _Stacked(tuple(parts), dtype))


def padded(name: str, rows: Sequence[Sequence[Array]]) -> Array:
    """Rows of arrays of one shape, [rows, longest row, ...]; a shorter row ends in NaN, of integers in 0."""
    longest = max(len(row) for row in rows)
    first = next(one for row in rows for one in row)
    empty = np.nan if first.dtype.kind == "f" else 0
    nothing = held(f"nothing in {name}", np.broadcast_to(np.asarray(empty, first.dtype), first.shape))
    whole = ([*row, *[nothing] * (longest - len(row))] for row in rows)
    return stacked(name, [stacked(f"{name}[{i}]", row) for i, row in enumerate(whole)])


def picked(array: Array, index: int) -> Array:
    """One row of an array along its first axis, which must have that many."""
    if not 0 <= index < array.shape[0]:
        raise refuse(array.name, f"it has {array.shape[0]} rows, row {index} is asked for", "rows that are there")
    return Array(f"{array.name}[{index}]", array.shape[1:], array.dtype, _Picked(array, index))


def _native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype.newbyteorder("=")


def _in_order(values: Values) -> Values:
    """The same numbers, row-major and in this machine's byte order."""
    return np.asarray(values, dtype=_native(values.dtype), order="C")


@contextmanager
def readable(name: str) -> Iterator[None]:
    """What reading a damaged file raises, as an InvalidInput that names it."""
    try:
        yield
    except (OSError, BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise refuse(name, f"it cannot be read ({_reason(error)})", "a whole, undamaged file") from error


def _each(values: Values, depth: int) -> Iterator[Values]:
    for place in np.ndindex(*values.shape[:depth]):
        yield _in_order(values[place])
        give_back([values])


@dataclass(frozen=True, eq=False)
class _Held:
    values: Values

    def whole(self) -> Values:
        return _in_order(self.values)

    def blocks(self, depth: int) -> Iterator[Values]:
        return _each(self.values, depth)


@dataclass(frozen=True)
class _Mapped:
    path: Path
    header: Header

    def whole(self) -> Values:
        values = self._opened()
        return values if values.dtype.isnative else _in_order(values)

    def blocks(self, depth: int) -> Iterator[Values]:
        return _each(self._opened(), depth)

    def _opened(self) -> Values:
        """Looked at again: a file that has become shorter would end the process when its pages are touched."""
        header = self.header
        with readable(self.path.name):
            size = self.path.stat().st_size
            if size != header.offset + header.nbytes:
                raise refuse(self.path.name, "it has changed since it was looked at", "a file that stays as it is")
            if not header.nbytes:
                return np.empty(header.shape, header.dtype)
            order = "F" if header.fortran else "C"
            return np.asarray(np.memmap(self.path, header.dtype, "r", header.offset, header.shape, order))  # type: ignore[call-overload]


@dataclass(frozen=True)
class _Streamed:
    name: str
    header: Header
    opened: Callable[[], IO[bytes]]

    def whole(self) -> Values:
        return next(self.blocks(0))

    def blocks(self, depth: int) -> Iterator[Values]:
        if self.header.fortran:
            yield from _each(self._turned(), depth)
            return
        shape = self.header.shape[depth:]
        with readable(self.name), self.opened() as file:
            file.read(self.header.offset)
            for _ in range(math.prod(self.header.shape[:depth])):
                yield _in_order(self._next(file, math.prod(shape)).reshape(shape))
            file.read(1)  # the end: where an archive checks its sum

    def _turned(self) -> Values:
        with readable(self.name), self.opened() as file:
            file.read(self.header.offset)
            return self._next(file, math.prod(self.header.shape)).reshape(self.header.shape, order="F")

    def _next(self, file: IO[bytes], count: int) -> Values:
        values = np.empty(count, self.header.dtype)
        room, at = values.view(np.uint8).data, 0
        while at < len(room):
            got = file.read(min(len(room) - at, 1 << 22))
            if not got:
                raise refuse(self.name, "it ends before its numbers do", "a whole, undamaged file")
            room[at : at + len(got)] = got
            at += len(got)
        return values


@dataclass(frozen=True, eq=False)
class _Stacked:
    parts: tuple[Array, ...]
    dtype: np.dtype[Any]

    def whole(self) -> Values:
        values = np.empty((len(self.parts), *self.parts[0].shape), self.dtype)
        for row, part in zip(values, self.parts, strict=True):
            row[...] = part.read()
        return values

    def blocks(self, depth: int) -> Iterator[Values]:
        if depth == 0:
            yield self.whole()
            return
        for part in self.parts:
            for block in part.blocks(depth - 1):
                yield np.asarray(block, self.dtype)


@dataclass(frozen=True, eq=False)
class _Picked:
    array: Array
    index: int

    def whole(self) -> Values:
        return _in_order(self.array.read()[self.index])

    def blocks(self, depth: int) -> Iterator[Values]:
        return _each(self.array.read()[self.index], depth)
