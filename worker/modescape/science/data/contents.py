"""Whether the files of a public set hold what was published under their names.

    wrong_in(files, patience=1.0)        # "" they do; a sentence: why not; None: they are still being read

A file is read once as long as it stays the same version of the same file, in a thread of its own, so that pages wait
for the first reading only, and not for long.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import BinaryIO, cast

from modescape.science.data.files import Version, version_of

_PIECE = 1 << 20  # bytes read at a time


@dataclass(frozen=True)
class Promised:
    """A file and the MD5 of what it holds, unpacked if it ends in .gz."""

    path: Path
    md5: str


_read: dict[tuple[Path, Version], Future[str]] = {}
_lock = Lock()


def wrong_in(files: Sequence[Promised], *, patience: float | None = None) -> str | None:
    """Why the first file that is not what was promised is not; "" when all are. None: not known after `patience`
    seconds; without patience, waits as long as it takes."""
    try:
        found = [_digest(file.path) for file in files]
    except OSError as error:
        return f"{error.filename} cannot be read: {error.strerror}"
    done, _ = wait(found, timeout=patience)
    for file, future in zip(files, found, strict=True):
        if future in done and future.result() != file.md5:
            return f"{file.path} {_said(future.result(), file.md5)}"
    return "" if len(done) == len(set(found)) else None


def _digest(path: Path) -> Future[str]:
    """The MD5 of what the file holds now, or in words why it cannot be read."""
    version = path, version_of(path.stat())
    with _lock:
        if version not in _read:
            for old in [known for known in _read if known[0] == path]:
                del _read[old]
            _read[version] = _reading().submit(_md5, path)
        return _read[version]


@cache
def _reading() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(2, thread_name_prefix="contents")


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with cast(BinaryIO, gzip.open(path) if path.suffix == ".gz" else path.open("rb")) as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
    except (OSError, EOFError, zlib.error) as error:
        return f"cannot be read ({error})"
    return digest.hexdigest()


def _said(found: str, expected: str) -> str:
    if " " in found:
        return found
    return f"holds another set than its name says, or a changed one (MD5 {found}, expected {expected})"
