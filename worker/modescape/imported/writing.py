"""Writes an ensemble in the format on disk, so that reading it gives the same set digest.

    write(ensemble, Path("copy"))          # a folder
    write(ensemble, Path("copy.npz"))      # one file, which numpy.load opens too; .zip likewise

Nothing appears under its name before it is whole. Arrays are written row by row, tensors as their bytes.
"""

from __future__ import annotations

import io
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from modescape.errors import Conflict
from modescape.imported.arrays import Array
from modescape.imported.containers import check_name
from modescape.imported.digest import Content, contents
from modescape.imported.ensemble import Ensemble
from modescape.imported.tensors import header_of

_OLD = (1980, 1, 1, 0, 0, 0)  # the first moment a zip knows: equal contents are equal bytes
_BLOCK = 1 << 22


def write(ensemble: Ensemble, target: Path | str) -> None:
    """Write to a new folder, or to a new archive where the name ends in .npz or .zip.

    Raises Conflict where something is there already, InvalidInput for names that no file can have.
    """
    target = Path(target)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise Conflict(f"{target} is there already; name a new folder or file")
    found = contents(ensemble)
    for path in found:
        check_name(path, ensemble.name or "the ensemble")
    target.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        is_archive = target.suffix.lower() in (".npz", ".zip")
        whole = _archive(made / target.name, found) if is_archive else _folder(made / target.name, found)
        whole.replace(target)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _folder(folder: Path, found: dict[str, Content]) -> Path:
    folder.mkdir()
    _files(folder, found)
    return folder


def _files(folder: Path, found: dict[str, Content]) -> None:
    for path, content in found.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        with (folder / path).open("xb") as file:
            _put(file, content)


def _archive(path: Path, found: dict[str, Content]) -> Path:
    """Stored and not deflated: outputs are nearly noise, and a stream of them is read at the disk's speed."""
    with zipfile.ZipFile(path, "x") as archive:
        for name, content in found.items():
            with archive.open(zipfile.ZipInfo(name, _OLD), "w", force_zip64=True) as file:
                _put(file, content)
    return path


def put_into(ensemble: Ensemble, folder: Path) -> list[str]:
    """Write into a folder that may hold other files already; the names written. Raises InvalidInput for names that no
    file can have, FileExistsError for one that is taken."""
    found = contents(ensemble)
    for path in found:
        check_name(path, ensemble.name or "the ensemble")
    _files(folder, found)
    return list(found)


def stream(ensemble: Ensemble) -> Iterator[bytes]:
    """A .zip of it piece by piece, for a connection: no more than some MiB of it is ever in memory, none on disk.

    Raises InvalidInput for names that no file can have, before the first piece.
    """
    found = contents(ensemble)
    for path in found:
        check_name(path, ensemble.name or "the ensemble")
    return _pieces(found)


def _pieces(found: dict[str, Content]) -> Iterator[bytes]:
    sink = _Sink()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, content in found.items():
            with archive.open(zipfile.ZipInfo(name, _OLD), "w", force_zip64=True) as file:
                for block in _blocks(content):
                    file.write(block)
                    yield sink.taken()
    yield sink.taken()


class _Sink(io.RawIOBase):
    """Where an archive is written to that is handed on as it grows, and can never be gone back in."""

    def __init__(self) -> None:
        self._written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._written += data
        return len(data)

    def taken(self) -> bytes:
        """What was written since the last time."""
        taken, self._written = bytes(self._written), bytearray()
        return taken


def _put(file: IO[bytes], content: Content) -> None:
    for block in _blocks(content):
        file.write(block)


def _blocks(content: Content) -> Iterator[bytes | memoryview]:
    """The bytes of a file, at most 4 MiB at a time."""
    if isinstance(content, str):
        yield content.encode()
    elif isinstance(content, Array):
        yield from _of_array(content)
    else:
        header_of(content)  # what is no .safetensors is not copied
        with content.open() as source:
            while block := source.read(_BLOCK):
                yield block


def _of_array(array: Array) -> Iterator[bytes | memoryview]:
    dtype, header = array.dtype.newbyteorder("<"), io.BytesIO()
    npy.write_array_header_1_0(
        header, {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": array.shape}
    )
    yield header.getvalue()
    for piece in array.pieces():
        plain = np.asarray(piece, dtype, order="C").reshape(-1).view(np.uint8).data
        for start in range(0, len(plain), _BLOCK):
            yield plain[start : start + _BLOCK]
