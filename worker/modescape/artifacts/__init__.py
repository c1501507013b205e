"""Arrays and weights as files named by their content: equal bytes are one file, whoever wrote them.

    files = Artifacts(folder)                          # or the Address of a bucket: nobody else knows which it is
    info = files.put_array(logits, "predictions")      # <folder>/<first two digits>/<sha-256>.npy
    files.array(info.digest)                           # memory-mapped, read-only

A file appears under its name only when it is whole (`folder`, `bucket`). Nothing is pickled. Equal inputs give equal
bytes: arrays are stored little-endian and row-major, tensors in one fixed order.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Set
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt
from cachetools import LRUCache

from modescape.artifacts.bucket import Bucket
from modescape.artifacts.folder import BLOCK, DAMAGED, SUFFIXES, Content, Folder, Wanted, Writing
from modescape.artifacts.objects import Address
from modescape.errors import ArtifactMissing, DataCorrupt
from modescape.records import ArtifactInfo

Array = npt.NDArray[Any]

_SCRATCH = "scratch"
# Versions of files whose bytes were found to be what their names say.
_SOUND: LRUCache[tuple[str, int, int, int], bool] = LRUCache(maxsize=20_000)  # 10 MB
_SOUND_LOCK = Lock()
_DTYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bool": "BOOL",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8",
}  # fmt: skip


class Place(Protocol):
    """Where files are kept, by names such as 3f/3f2a….npy: a `Folder` or a `Bucket`."""

    @property
    def where(self) -> str: ...
    @property
    def free(self) -> int | None: ...
    def prepare(self) -> None: ...
    def writing(self, expected: int | None) -> AbstractContextManager[Writing]: ...
    def landing(self) -> AbstractContextManager[Path]: ...
    def keep(self, written: Writing, name: str) -> None: ...
    def replace(self, written: Writing, name: str) -> None: ...
    def path(self, digest: str) -> Path | None: ...
    def exists(self, digest: str) -> bool: ...
    def content(self, digest: str) -> Content | None: ...
    def again(self, digest: str) -> bool: ...
    def set_aside(self, digest: str) -> str | None: ...
    def delete(self, digest: str, keep_since: datetime | None) -> int: ...
    def sweep(self, wanted: Wanted, oldest: float) -> int: ...
    def reading(self, name: str) -> AbstractContextManager[Path | None]: ...
    def drop(self, beginning: str, keep: str | None) -> None: ...
    def reach(self) -> None: ...
    def check_room(self) -> None: ...
    def lack(self) -> str | None: ...
    def why_not_written(self) -> str | None: ...


class Artifacts:
    """Content-addressed files, for many processes: two that write the same bytes do no harm. In a bucket they are whole
    before whoever put them goes on, and read from copies on this machine.

    Where nothing can be written, or a bucket does not answer, everything raises NoRoom.
    """

    def __init__(self, place: Path | str | Address) -> None:
        self._place: Place = Bucket(place) if isinstance(place, Address) else Folder(Path(place))

    @property
    def where(self) -> str:
        """As people read it: a folder, or a bucket."""
        return self._place.where

    @property
    def aside(self) -> str:
        """Where damaged files are moved."""
        return f"{self.where}/{DAMAGED}"

    def prepare(self) -> None:
        """Make the folder, where it is one."""
        self._place.prepare()

    def put_array(self, array: Array, kind: str) -> ArtifactInfo:
        """Store one array as .npy. Raises ValueError for arrays of objects."""
        plain = _plain(array)

        def write(file: Writing) -> None:
            np.lib.format.write_array(file, plain, (1, 0), allow_pickle=False)

        digest, size = self._write(".npy", write, plain.nbytes)
        return ArtifactInfo(digest, kind, plain.dtype.name, plain.shape, size)

    def put_blocks(self, blocks: Iterable[Array], shape: tuple[int, ...], dtype: Any, kind: str) -> ArtifactInfo:
        """Store one array as .npy that is never in memory as a whole: blocks of it, in C order. The file is the one
        that `put_array` writes. Raises ValueError where they are more or fewer than the shape says."""
        plain = np.dtype(dtype).newbyteorder("<")
        header = {"descr": np.lib.format.dtype_to_descr(plain), "fortran_order": False, "shape": shape}
        expected = math.prod(shape) * plain.itemsize

        def write(file: Writing) -> None:
            np.lib.format.write_array_header_1_0(file, header)
            before = file.bytes
            for block in blocks:
                file.write(np.ascontiguousarray(block, plain).data.cast("B"))
            if file.bytes - before != expected:
                raise ValueError(f"{file.bytes - before} bytes of an array of {expected}")

        digest, size = self._write(".npy", write, expected)
        return ArtifactInfo(digest, kind, plain.name, shape, size)

    def put_tensors(
        self, tensors: Mapping[str, Array], kind: str, metadata: Mapping[str, str] | None = None
    ) -> ArtifactInfo:
        """Store named arrays as .safetensors. Equal tensors and metadata give equal bytes.

        The library's own writer orders metadata by a random hash, so the header is written here (format:
        https://huggingface.co/docs/safetensors, read back by the library).
        """
        dtype, elements, write = _safetensors(tensors, metadata or {})
        digest, size = self._write(".safetensors", write, sum(array.nbytes for array in tensors.values()))
        return ArtifactInfo(digest, kind, dtype, (elements,), size)

    def put_tensor_file(self, file: IO[bytes], kind: str, elements: int) -> ArtifactInfo:
        """Store a .safetensors file as it is, byte for byte. elements: numbers in it."""

        def write(target: Writing) -> None:
            while block := file.read(BLOCK):
                target.write(block)

        digest, size = self._write(".safetensors", write, None)
        return ArtifactInfo(digest, kind, "mixed", (elements,), size)

    def adopt(self, file: Path) -> None:
        """Take in a whole file of another such folder, by its name. Raises DataCorrupt where that is not its digest."""
        digest, suffix = file.stem, file.suffix
        with file.open("rb") as read, self._place.writing(file.stat().st_size) as written:
            while block := read.read(BLOCK):
                written.write(block)
            if written.hash.hexdigest() != digest or suffix not in SUFFIXES:
                raise DataCorrupt(f"{file} is not what its name says")
            self._place.keep(written, _name(digest, suffix))

    def landing(self) -> AbstractContextManager[Path]:
        """A folder in which another process leaves artifacts as in one of its own: they are kept when it is done."""
        return self._place.landing()

    def array(self, digest: str, *, mmap: bool = True) -> Array:
        """The stored array; memory-mapped and read-only unless mmap is False. Raises ArtifactMissing."""
        loaded: Array = np.load(self.path(digest), mmap_mode="r" if mmap else None, allow_pickle=False)
        return loaded

    def sound_array(self, digest: str) -> Array:
        """`array` of a file that was found to hold what it is named by. Raises ArtifactMissing."""
        self.sound(digest)
        return self.array(digest)

    def tensors(self, digest: str) -> dict[str, Array]:
        """The stored tensors by name. Raises ArtifactMissing."""
        from safetensors.numpy import load_file

        loaded: dict[str, Array] = load_file(self.path(digest))
        return loaded

    def path(self, digest: str) -> Path:
        """Where the file can be opened, within the next minute. Raises ArtifactMissing."""
        found = self._place.path(digest)
        if found is None:
            raise self._missing(digest)
        return found

    def exists(self, digest: str) -> bool:
        return self._place.exists(digest)

    def content(self, digest: str) -> Content:
        """The file, once through and from where it is kept. Raises ArtifactMissing."""
        found = self._place.content(digest)
        if found is None:
            raise self._missing(digest)
        return found

    def verify(self, digest: str) -> bool:
        """Whether the file's bytes still are what its name says. Raises ArtifactMissing."""
        return _digest(self.content(digest).blocks) == digest

    def sound(self, digest: str) -> Path:
        """Where the file is, once its bytes were found to be what its name says; they are read again when it has
        changed since. Raises ArtifactMissing."""
        path = self.path(digest)
        if _is_sound(path, digest):
            return path
        if self._place.again(digest) and _is_sound(path := self.path(digest), digest):
            return path
        raise ArtifactMissing(
            f"the file {digest} in {self.where} is damaged: its bytes are not those it was named by; `modescape "
            "verify` sets it aside and has it made again"
        )

    def _missing(self, digest: str) -> ArtifactMissing:
        return ArtifactMissing(f"no file {digest[:64]!r} in {self.where}; `modescape verify` lists what is missing")

    def set_aside(self, digest: str) -> str:
        """Move a damaged file to where nobody takes it for the one of that name; where that is. Raises
        ArtifactMissing."""
        aside = self._place.set_aside(digest)
        if aside is None:
            raise self._missing(digest)
        return aside

    def delete(self, digest: str, *, keep_since: datetime | None = None) -> int:
        """Delete a file if it is there; bytes freed. One written (or written again) at `keep_since` or later stays.

        A stage that is still running may have made the same bytes and will name them when it finishes; what it may
        need is left for a later sweep.
        """
        return self._place.delete(digest, keep_since)

    def sweep(self, known: Set[str], *, stages: Set[str] | None = None, grace_seconds: float = 3600.0) -> int:
        """Delete files that no row names and temporary left-overs, if untouched for `grace_seconds`; bytes freed.

        stages: ids of those that may go on; scratch of any other goes too (None leaves all scratch alone).
        """

        def is_wanted(name: str) -> bool:
            folder, _, file = name.rpartition("/")
            if folder == _SCRATCH:
                return stages is None or file[:36] in stages
            return file.endswith(SUFFIXES) and file.partition(".")[0] in known and folder != DAMAGED

        return self._place.sweep(is_wanted, time.time() - grace_seconds)

    def put_scratch(self, name: str, tensors: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> None:
        """Keep tensors that only the stage itself needs, to resume from; `name` starts with the stage's id.

        Put the attempt and the step into the name: a worker that lost its stage must not overwrite the file
        of the one that has it now.
        """
        _, _, write = _safetensors(tensors, metadata or {})
        with self._place.writing(sum(array.nbytes for array in tensors.values())) as written:
            write(written)
            self._place.replace(written, _scratch(name))

    def scratch(self, name: str) -> tuple[dict[str, Array], dict[str, str]]:
        """Tensors and metadata kept under `name`. Raises ArtifactMissing."""
        from safetensors import safe_open
        from safetensors.numpy import load_file

        with self._place.reading(_scratch(name)) as path:
            if path is None:
                raise ArtifactMissing(f"the resume file {_scratch(name)} in {self.where} is gone")
            with safe_open(path, framework="np") as file:
                return load_file(path), file.metadata() or {}

    def drop_scratch(self, stage_id: str, *, keep: str | None = None) -> None:
        """Delete what a stage kept, except the file named `keep`."""
        self._place.drop(f"{_SCRATCH}/{stage_id}", None if keep is None else _scratch(keep))

    def reach(self) -> None:
        """Raises StorageAway for a bucket that cannot be used."""
        self._place.reach()

    def check_room(self) -> None:
        """Write a little, and take it away again. Raises NoRoom."""
        self._place.check_room()

    def lack(self) -> str | None:
        """Why nothing more can be kept, as far as that is seen without writing an artifact; None where nothing is
        wrong."""
        return self._place.lack()

    def why_not_written(self) -> str | None:
        """What keeps artifacts from being written by whoever asks, in words; None when nothing does."""
        return self._place.why_not_written()

    @property
    def free(self) -> int | None:
        """Bytes that are free on its disk; None of a bucket, and where the system does not say."""
        return self._place.free

    def _write(self, suffix: str, write: Callable[[Writing], object], expected: int | None) -> tuple[str, int]:
        with self._place.writing(expected) as written:
            write(written)
            digest = written.hash.hexdigest()
            self._place.keep(written, _name(digest, suffix))
            return digest, written.bytes


def _name(digest: str, suffix: str) -> str:
    return f"{digest[:2]}/{digest}{suffix}"


def _scratch(name: str) -> str:
    return f"{_SCRATCH}/{name}.safetensors"


def _digest(blocks: Iterable[bytes]) -> str:
    found = hashlib.sha256()
    for block in blocks:
        found.update(block)
    return found.hexdigest()


def _is_sound(path: Path, digest: str) -> bool:
    """Whether a file's bytes are those; that is looked up once of every version of it."""
    state = path.stat()
    version = (str(path), state.st_size, state.st_mtime_ns, state.st_ino)
    with _SOUND_LOCK:
        if version in _SOUND:
            return True
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != digest:
            return False
    with _SOUND_LOCK:
        _SOUND[version] = True
    return True


def _safetensors(
    tensors: Mapping[str, Array], metadata: Mapping[str, str]
) -> tuple[str, int, Callable[[Writing], None]]:
    """Common dtype, number of elements, and what writes the file."""
    arrays = {name: _plain(array) for name, array in tensors.items()}
    order = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))  # keeps all aligned
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    start = 0
    for name in order:
        dtype, shape, end = arrays[name].dtype.name, list(arrays[name].shape), start + arrays[name].nbytes
        header[name] = {"dtype": _DTYPES[dtype], "shape": shape, "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)

    def write(file: Writing) -> None:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            if arrays[name].nbytes:
                file.write(arrays[name].reshape(-1).data.cast("B"))

    dtypes = {array.dtype.name for array in arrays.values()}
    common = dtypes.pop() if len(dtypes) == 1 else "mixed"
    return common, sum(array.size for array in arrays.values()), write


def _plain(array: Array) -> Array:
    """The same numbers, row-major and little-endian."""
    plain: Array = np.asarray(array, order="C")
    if plain.dtype.hasobject:
        raise ValueError("arrays of objects are not stored: they would need pickle")
    if plain.dtype.byteorder == ">":
        plain = plain.astype(plain.dtype.newbyteorder("<"))
    return plain
