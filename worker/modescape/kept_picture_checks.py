"""Checks of users' own pictures, kept in the database by what the files hold, so that each set is decoded once.

found = known(store, fingerprint, spec.white)              # None: nobody has checked them yet
found = check_once(store, spec, progress=..., check=...)      # decodes what nobody has decoded
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from modescape.datasets.dataset import own_path
from modescape.own_files import read_apart
from modescape.science.data import scan_folder, scan_pictures
from modescape.science.data.picture_check import PictureCheck, Progress, check_key, check_pictures
from modescape.spec import ExperimentSpec, studies
from modescape.spec_parts import DataSpec
from modescape.store import Store

PICTURE_CHECK = "look"  # the kind of the stage that checks, and of what the database keeps of it


def known(store: Store, fingerprint: str, white: float | None) -> PictureCheck | None:
    row = store.catalogue.entry(PICTURE_CHECK, check_key(fingerprint, white))
    return None if row is None else PictureCheck.from_json(row.details)


class OwnFolder(NamedTuple):
    """A folder of a user's own pictures, with its fingerprint; has_classes: whether they lie in folders of classes."""

    data: DataSpec
    has_classes: bool


def own_folders(spec: ExperimentSpec) -> dict[str, OwnFolder]:
    """Every such folder, by the part of the spec that names it."""
    found = {"data": OwnFolder(spec.data, has_classes=True)}
    for field, study in studies(spec):
        for part, own in study.own_images():
            found[".".join(filter(None, (field, part)))] = OwnFolder(own, study.reads_labels)
    return {field: own for field, own in found.items() if own.data.dataset == "folder"}


def check_once(
    store: Store,
    spec: DataSpec,
    *,
    classless: bool = False,
    progress: Progress = lambda done, of: None,
    check: Callable[[], None] = lambda: None,
) -> PictureCheck:
    """Decode every picture of a folder, unless that was done before. classless: a folder whose classes do not matter.

    Raises InvalidInput, DataCorrupt where the folder itself will not do; of pictures, the check tells.
    """
    root = own_path(spec)
    names, fingerprint = _files(str(root), spec.split_seed, classless)
    files = [Path(name) for name in names]
    found = known(store, fingerprint, spec.white)
    if found is None:
        found = check_pictures(files, root, white=spec.white, progress=progress, check=check)
        store.catalogue.put(PICTURE_CHECK, check_key(fingerprint, spec.white), found.as_json())
    return found


@read_apart(lambda root, seed, classless: [root], field="data.path")
def _files(root: str, seed: int, classless: bool) -> tuple[list[str], str]:
    """Every picture, sorted, and the fingerprint of all."""
    if classless:
        pictures = scan_pictures(Path(root))
        return [str(path) for path in sorted(pictures.paths)], pictures.fingerprint
    found = scan_folder(Path(root))
    return [str(path) for path in found.paths], found.fingerprint(seed)
