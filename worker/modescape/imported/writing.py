"""Writes an ensemble in the format on disk, so that reading it gives the same set digest.

    write(ensemble, Path("copy"))          # a folder
    write(ensemble, Path("copy.npz"))      # one file, which numpy.load opens too; .zip likewise

Nothing appears under its name before it is whole. Arrays are written row by row, tensors as their bytes.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import IO

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
    for path, content in found.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        with (folder / path).open("xb") as file:
            _put(file, content)
    return folder


def _archive(path: Path, found: dict[str, Content]) -> Path:
    """Stored and not deflated: outputs are nearly noise, and a stream of them is read at the disk's speed."""
    with zipfile.ZipFile(path, "x") as archive:
        for name, content in found.items():
            with archive.open(zipfile.ZipInfo(name, _OLD), "w", force_zip64=True) as file:
                _put(file, content)
    return path


def _put(file: IO[bytes], content: Content) -> None:
    if isinstance(content, str):
        file.write(content.encode())
    elif isinstance(content, Array):
        _put_array(file, content)
    else:
        header_of(content)  # what is no .safetensors is not copied
        with content.open() as source:
            shutil.copyfileobj(source, file, _BLOCK)


def _put_array(file: IO[bytes], array: Array) -> None:
    dtype = array.dtype.newbyteorder("<")
    header = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": array.shape}
    npy.write_array_header_1_0(file, header)
    for block in array.pieces():
        file.write(np.asarray(block, dtype, order="C").reshape(-1).view(np.uint8).data)
