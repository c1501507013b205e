"""Outputs of many functions on many examples, a block of examples at a time: memory grows with neither, nor with files.

    for part in blocks(functions, rows=4096):              # [N, K] each, memory-mapped
        average(function[part] for function in functions)

Pages of a mapped file count as the process's own memory once they are read. They are given back on the way, so a worker
that goes through files of many gigabytes stays small; what is read again comes from the system's cache.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_MAPPED = 128 << 20  # bytes of mapped files that are read before they are given back


def blocks(functions: Sequence[Array], rows: int) -> Iterator[slice]:
    """Slices of at most `rows` of the N examples of functions [N, ...] that are read together.

    What a memory-mapped one of them takes is given back whenever `_MAPPED` bytes have been read, and at the end.
    """
    count = len(functions[0])
    step = max(1, min(rows, count))
    read, each = 0, sum(function.nbytes for function in functions) // max(1, count)
    for start in range(0, count, step):
        yield slice(start, start + step)
        read += step * each
        if read >= _MAPPED:
            give_back(functions)
            read = 0
    give_back(functions)


def give_back(arrays: Sequence[Array]) -> None:
    """Tell the system that pages read of memory-mapped files are not needed any more. The arrays stay what they are;
    those in memory, and those that can be written to, are left alone."""
    for array in arrays:
        found = _mapping(array)
        if found is not None:
            found.madvise(mmap.MADV_DONTNEED)


def _mapping(array: Array) -> mmap.mmap | None:
    """The mapping that an array is a view of, if it is one of a file, for reading only."""
    if not hasattr(mmap, "MADV_DONTNEED"):  # a system that does not know it
        return None
    base: Any = array
    while isinstance(base, np.ndarray):
        if base.flags.writeable:  # what was written to a private copy of a page would be lost
            return None
        base = base.base
    return base if isinstance(base, mmap.mmap) else None
