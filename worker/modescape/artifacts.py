"""Arrays and weights as files named by their content: equal bytes are one file, whoever wrote them.

    files = Artifacts(folder)
    info = files.put_array(logits, "predictions")      # <folder>/<first two digits>/<sha-256>.npy
    files.array(info.digest)                           # memory-mapped, read-only

A file appears under its name only when it is whole: it is written under a temporary name, flushed to the
disk, renamed, and the folder is flushed too. Nothing is pickled. Equal inputs give equal bytes: arrays are
stored little-endian and row-major, tensors in one fixed order.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from threading import Lock
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from cachetools import LRUCache

from modescape.errors import ArtifactMissing, DataCorrupt, NoRoom
from modescape.outage import free_bytes, room_in
from modescape.records import ArtifactInfo

Array = npt.NDArray[Any]

_SUFFIXES = (".npy", ".safetensors")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SCRATCH = "scratch"
DAMAGED = "damaged"
# Versions of files whose bytes were found to be what their names say.
_SOUND: LRUCache[tuple[str, int, int, int], bool] = LRUCache(maxsize=100_000)
_SOUND_LOCK = Lock()
_BLOCK = 1 << 20
_PROBE = 1 << 16  # bytes
_DTYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bool": "BOOL",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8",
}  # fmt: skip


class _Hashing:
    """A file that hashes what is written to it. room: what NoRoom is told by."""

    def __init__(self, file: IO[bytes], room: Callable[[], AbstractContextManager[None]]) -> None:
        self._file = file
        self.room = room
        self.hash = hashlib.sha256()
        self.bytes = 0

    def write(self, data: bytes | memoryview) -> int:
        self.hash.update(data)
        self.bytes += memoryview(data).nbytes
        with self.room():
            return self._file.write(data)


class Artifacts:
    """A folder of content-addressed files, for many processes: two that write the same bytes do no harm."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    def put_array(self, array: Array, kind: str) -> ArtifactInfo:
        """Store one array as .npy. Raises ValueError for arrays of objects."""
        plain = _plain(array)

        def write(file: _Hashing) -> None:
            np.lib.format.write_array(file, plain, (1, 0), allow_pickle=False)

        digest, size = self._write(".npy", write, plain.nbytes)
        return ArtifactInfo(digest, kind, plain.dtype.name, plain.shape, size)

    def put_blocks(self, blocks: Iterable[Array], shape: tuple[int, ...], dtype: Any, kind: str) -> ArtifactInfo:
        """Store one array as .npy that is never in memory as a whole: blocks of it, in C order. The file is the one
        that `put_array` writes. Raises ValueError where they are more or fewer than the shape says."""
        plain = np.dtype(dtype).newbyteorder("<")
        header = {"descr": np.lib.format.dtype_to_descr(plain), "fortran_order": False, "shape": shape}
        expected = math.prod(shape) * plain.itemsize

        def write(file: _Hashing) -> None:
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

        def write(target: _Hashing) -> None:
            while block := file.read(_BLOCK):
                target.write(block)

        digest, size = self._write(".safetensors", write, None)
        return ArtifactInfo(digest, kind, "mixed", (elements,), size)

    def adopt(self, file: Path) -> None:
        """Take in a whole file of another such folder, by its name. Raises DataCorrupt where that is not its digest."""
        if not _DIGEST.fullmatch(file.stem) or file.suffix not in _SUFFIXES:
            raise DataCorrupt(f"{file} has no name of an artifact")
        with file.open("rb") as read, self._whole_file(file.stat().st_size) as (temporary, hashing):
            while block := read.read(_BLOCK):
                hashing.write(block)
            if hashing.hash.hexdigest() != file.stem:
                raise DataCorrupt(f"{file} is not what its name says")
            _publish(temporary, self.folder / file.stem[:2] / file.name)

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
        """Where the file is. Raises ArtifactMissing."""
        found = self._find(digest)
        if found is None:
            raise ArtifactMissing(f"no file {digest[:64]!r} in {self.folder}; `modescape verify` lists what is missing")
        return found

    def exists(self, digest: str) -> bool:
        return self._find(digest) is not None

    def verify(self, digest: str) -> bool:
        """Whether the file's bytes still are what its name says. Raises ArtifactMissing."""
        found = hashlib.sha256()
        with self.path(digest).open("rb") as file:
            while block := file.read(_BLOCK):
                found.update(block)
        return found.hexdigest() == digest

    def sound(self, digest: str) -> Path:
        """Where the file is, once its bytes were found to be what its name says; they are read again when it has
        changed since. Raises ArtifactMissing."""
        path = self.path(digest)
        state = path.stat()
        version = (str(path), state.st_size, state.st_mtime_ns, state.st_ino)
        with _SOUND_LOCK:
            if version in _SOUND:
                return path
        if not self.verify(digest):
            raise ArtifactMissing(
                f"the file {digest} in {self.folder} is damaged: its bytes are not those it was named by; `modescape "
                "verify` sets it aside and has it made again"
            )
        with _SOUND_LOCK:
            _SOUND[version] = True
        return path

    def set_aside(self, digest: str) -> Path:
        """Move a damaged file to where nobody takes it for the one of that name; where that is. Raises
        ArtifactMissing."""
        path = self.path(digest)
        aside = self.folder / DAMAGED / path.name
        aside.parent.mkdir(exist_ok=True)
        return path.replace(aside)

    def delete(self, digest: str, *, keep_since: datetime | None = None) -> int:
        """Delete a file if it is there; bytes freed. One written (or written again) at `keep_since` or later stays.

        A stage that is still running may have made the same bytes and will name them when it finishes; what it may
        need is left for a later sweep.
        """
        path = self._find(digest)
        if path is None:
            return 0
        state = path.stat()
        if keep_since is not None and state.st_mtime >= keep_since.timestamp():
            return 0
        path.unlink(missing_ok=True)
        return state.st_size

    def sweep(self, known: Set[str], *, stages: Set[str] | None = None, grace_seconds: float = 3600.0) -> int:
        """Delete files that no row names and temporary left-overs, if untouched for `grace_seconds`; bytes freed.

        stages: ids of those that may go on; scratch of any other goes too (None leaves all scratch alone).
        """
        oldest, freed = time.time() - grace_seconds, 0
        for path in self._files():
            if path.parent.name == _SCRATCH:
                wanted = stages is None or path.name[:36] in stages
            else:
                wanted = path.suffix in _SUFFIXES and path.stem in known and path.parent.name != DAMAGED
            state = path.stat()
            if not wanted and state.st_mtime <= oldest:
                path.unlink(missing_ok=True)
                freed += state.st_size
        return freed

    def put_scratch(self, name: str, tensors: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> None:
        """Keep tensors that only the stage itself needs, to resume from; `name` starts with the stage's id.

        Put the attempt and the step into the name: a worker that lost its stage must not overwrite the file
        of the one that has it now.
        """
        _, _, write = _safetensors(tensors, metadata or {})
        with self._whole_file(sum(array.nbytes for array in tensors.values())) as (temporary, hashing):
            write(hashing)
            final = self.folder / _SCRATCH / f"{name}.safetensors"
            with hashing.room():
                _publish(temporary, final)

    def scratch(self, name: str) -> tuple[dict[str, Array], dict[str, str]]:
        """Tensors and metadata kept under `name`. Raises ArtifactMissing."""
        from safetensors import safe_open
        from safetensors.numpy import load_file

        path = self.folder / _SCRATCH / f"{name}.safetensors"
        if not path.exists():
            raise ArtifactMissing(f"the resume file {path} is gone")
        with safe_open(path, framework="np") as file:
            return load_file(path), file.metadata() or {}

    def drop_scratch(self, stage_id: str, *, keep: str | None = None) -> None:
        """Delete what a stage kept, except the file named `keep`."""
        for path in (self.folder / _SCRATCH).glob(f"{stage_id}*.safetensors"):
            if path.stem != keep:
                path.unlink(missing_ok=True)

    def _files(self) -> Iterator[Path]:
        if self.folder.is_dir():
            yield from (path for path in self.folder.glob("*/*") if path.is_file())

    def _find(self, digest: str) -> Path | None:
        if not _DIGEST.fullmatch(digest):  # also keeps names from outside inside the folder
            return None
        for suffix in _SUFFIXES:
            path = self.folder / digest[:2] / (digest + suffix)
            if path.exists():
                return path
        return None

    def check_room(self) -> None:
        """Write a little, and take it away again. Raises NoRoom."""
        with self._whole_file(_PROBE) as (file, hashing), hashing.room():
            hashing.write(bytes(_PROBE))
            file.flush()

    def lack(self) -> str | None:
        """Why nothing more can be kept, as far as that is seen without writing; None where nothing is wrong."""
        try:
            with room_in(self.folder):
                folder = next(one for one in (self.folder, *self.folder.parents) if one.exists())
                found = os.statvfs(folder)
                if found.f_flag & os.ST_RDONLY:
                    raise OSError(errno.EROFS, "read-only")
                if found.f_bavail * found.f_frsize < _PROBE:
                    raise OSError(errno.ENOSPC, "full")
        except NoRoom as error:
            return str(error)
        return None

    @property
    def free(self) -> int | None:
        """Bytes that are free on its disk; None where the system does not say."""
        return free_bytes(self.folder)

    def _write(self, suffix: str, write: Callable[[_Hashing], object], expected: int | None) -> tuple[str, int]:
        with self._whole_file(expected) as (temporary, hashing):
            write(hashing)
            digest = hashing.hash.hexdigest()
            final = self.folder / digest[:2] / (digest + suffix)
            with hashing.room():
                if _same_size(final, hashing.bytes):
                    os.utime(final)  # tells a purge going on elsewhere that these bytes are wanted again
                else:
                    _publish(temporary, final)
            return digest, hashing.bytes

    @contextmanager
    def _whole_file(self, expected: int | None) -> Iterator[tuple[IO[bytes], _Hashing]]:
        """A temporary file on the same disk, gone afterwards unless `_publish` gave it its name. expected: its bytes,
        roughly, None where nobody knows. Raises NoRoom."""
        waiting = self.folder / "tmp"
        path = waiting / uuid.uuid4().hex
        room = partial(room_in, self.folder, expected, path)
        with room():
            waiting.mkdir(parents=True, exist_ok=True)
            file = path.open("xb")
        try:
            try:
                yield file, _Hashing(file, room)
            finally:
                with room():  # what could not be written is tried once more
                    file.close()
        finally:
            path.unlink(missing_ok=True)


def _publish(file: IO[bytes], final: Path) -> None:
    """Make a whole, flushed file appear under its name, and keep it there through a power cut."""
    file.flush()
    os.fsync(file.fileno())
    final.parent.mkdir(parents=True, exist_ok=True)
    Path(file.name).replace(final)
    descriptor = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _safetensors(
    tensors: Mapping[str, Array], metadata: Mapping[str, str]
) -> tuple[str, int, Callable[[_Hashing], None]]:
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

    def write(file: _Hashing) -> None:
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


def _same_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False
