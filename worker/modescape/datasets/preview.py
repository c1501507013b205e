"""The first test images of a data set, for a process that must load neither torch nor scikit-learn.

    images = preview(spec.data, folders, Path("…/digits.npy"))        # uint8 [at most 100, C, H, W]

Readers of some sets need those libraries, so a process of its own reads them once (seconds) and leaves a file.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from modescape.datasets.dataset import DataLocation
from modescape.errors import DataCorrupt, ModescapeError
from modescape.registry import datasets
from modescape.science.data import ImageFiles, Images, bounds
from modescape.spec_parts import DataSpec

COUNT = 100
_SECONDS = 120  # the largest set that is read whole takes 5
_TOLD = 3  # exit status of the reading process when it said what is wrong


def preview(spec: DataSpec, folders: Sequence[Path], file: Path) -> Images:
    """The first test images, uint8 [n, C, H, W], kept in `file` from then on.

    Raises DataCorrupt in the reader's words when the set cannot be read. Whether it is there is for
    `here.describe` to say first.
    """
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        reader = datasets[spec.dataset]
        declared = reader.call.__module__ if reader.brought else __name__  # a plug-in's is imported there too
        command = [
            sys.executable,
            "-P",
            "-m",
            __name__,
            spec.model_dump_json(),
            str(file),
            declared,
            json.dumps(bounds.bounds()),
            *map(str, folders),
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise DataCorrupt(f"{spec.dataset} could not be read within {_SECONDS} seconds") from None
        if done.returncode == _TOLD:
            raise DataCorrupt(done.stdout.strip())
        if done.returncode != 0:
            said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise DataCorrupt(f"{spec.dataset} could not be read, its reader ended with {done.returncode}: {said}")
    images: Images = np.load(file, allow_pickle=False)
    return images


def _read(spec: DataSpec, folders: Sequence[Path], file: Path) -> None:
    """Write the file whole or not at all."""
    images = datasets[spec.dataset].call(DataLocation(tuple(folders)), spec).test_images
    count = min(COUNT, len(images))
    first = images.read(range(count)) if isinstance(images, ImageFiles) else images[:count]
    with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".npy", delete=False) as temporary:
        np.save(temporary, np.ascontiguousarray(first), allow_pickle=False)
    Path(temporary.name).replace(file)


if __name__ == "__main__":
    try:
        importlib.import_module(sys.argv[3])
        bounds.confine(json.loads(sys.argv[4]))
        _read(DataSpec.model_validate_json(sys.argv[1]), [Path(name) for name in sys.argv[5:]], Path(sys.argv[2]))
    except ModescapeError as error:
        print(error)
        sys.exit(_TOLD)
