"""Data sets of the Hugging Face library `datasets`, as `save_to_disk` leaves them: pictures, or columns of numbers.

found = read_saved(Path("beans"), seed=0)

# what a hub has becomes such a folder by
#     from datasets import load_dataset
#     load_dataset("beans").save_to_disk("beans")
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from modescape.errors import InvalidInput
from modescape.science.data import bounds
from modescape.science.data.files import Version, version_of
from modescape.science.data.layouts import ArrayLayout, Place, readable, refuse_arrays, role_of
from modescape.science.data.own_npz import FoundArrays, as_classes, check_pairs, in_order
from modescape.science.data.pictures import printable
from modescape.science.data.raw import Images, Labels, as_read, file_digest

MARKS = ("dataset_dict.json", "dataset_info.json")
_HELD = 4 << 30  # bytes of decoded pictures


class FoundSaved(FoundArrays):
    """As arrays are; the fingerprint is over the files of the folder."""

    def fingerprint(self, digest: str, seed: int) -> str:
        return as_read(digest, {"order": str(seed), "pixels": ""})


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` made it."""
    return any((folder / mark).is_file() for mark in MARKS)


def digest_of(folder: Path) -> str:
    """SHA-256 over the arrow files' own, by their paths."""
    import hashlib

    files = sorted(folder.rglob("*.arrow"))
    lines = "".join(f"{file.relative_to(folder).as_posix()}\0{file_digest(file, 'sha256')}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def read_saved(folder: Path, seed: int = 0) -> FoundSaved:
    """Pictures and their labels, of every split. Raises InvalidInput in words a person can act on."""
    with readable(folder):
        newest = max((version_of(file.stat()) for file in folder.rglob("*.arrow")), default=version_of(folder.stat()))
        return _read(folder, newest, seed)


@lru_cache(maxsize=2)
def _read(folder: Path, version: Version, seed: int) -> FoundSaved:
    splits = _splits(folder)
    first = next(iter(splits.values()))
    picture, label = _columns(first.features)
    for place, one in splits.items():
        _check_held(place, one, picture)
    height, width, channels = _size(first.select_columns([picture])[0][picture])
    most = min(_HELD, bounds.most_unpacked())
    if sum(len(one) for one in splits.values()) * height * width * channels > most:
        raise refuse_arrays(
            f"its pictures of {width}x{height} take more than {most / 2**30:g} GiB",
            allowed="class folders, which are streamed",
        )
    images: dict[Place, Images] = {}
    labels: dict[Place, Labels] = {}
    for place, one in splits.items():
        images[place] = _pictures(one, picture, (height, width, channels))
        labels[place] = np.asarray(one[label], np.int64)
        if (labels[place] < 0).any():
            raise refuse_arrays(f"{place}: labels are hidden (-1)", allowed="splits whose labels are known")
    layout = ArrayLayout({place: (f"{place}/{picture}", f"{place}/{label}") for place in images}, None, ())
    check_pairs(layout, images, labels)
    names = np.array(first.features[label].names) if hasattr(first.features[label], "names") else None
    classes, numbered = as_classes(labels, names, label)
    raw = in_order(layout, images, numbered, classes, seed)
    return FoundSaved(raw, layout, True, {place: len(one) for place, one in labels.items()})


def _splits(folder: Path) -> dict[Place, Any]:
    """Its splits by what they are for; a set without splits is all of it. Raises InvalidInput."""
    try:
        from datasets import Dataset, load_from_disk
    except ImportError as missing:
        raise InvalidInput(
            "sets of Hugging Face are read by their library, which is not installed", field="data.path",
            allowed="after pip install 'modescape[huggingface]'",
        ) from missing  # fmt: skip
    _look_inside(folder)
    if "::" in str(folder):  # their library takes what stands behind it for another place
        raise refuse_arrays(f"{printable(folder)} has :: in its path", allowed="a path without")
    try:
        found = load_from_disk(str(folder))
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        raise refuse_arrays(f"{folder.name} cannot be read ({error})", allowed="what save_to_disk wrote") from error
    if isinstance(found, Dataset):
        return {"all": found.with_format(None)}
    places = {name: role_of(name) for name in found}
    splits = {cast(Place, role): found[name].with_format(None) for name, role in places.items() if role is not None}
    if "train" not in splits:
        raise refuse_arrays(f"its splits are {', '.join(found)}", allowed="train, and test or validation")
    if set(splits) == {"train", "validation"}:
        splits["test"] = splits.pop("validation")
    return {"all": splits["train"]} if set(splits) == {"train"} else splits


def _look_inside(folder: Path) -> None:
    """What it says of itself names files, and those are opened. Raises InvalidInput unless all lie in the folder."""
    try:
        named = _named(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        said = f"{folder.name} cannot be read ({type(error).__name__}: {error})"
        raise refuse_arrays(said, allowed="what save_to_disk wrote") from error
    inside = folder.resolve()
    for path in named:
        if not (folder / path).resolve().is_relative_to(inside):
            raise refuse_arrays(f"{printable(path)} leads out of it", allowed="files that lie in its folder")


def _named(folder: Path) -> list[Path]:
    """The files that its library opens, as paths from it. Raises what reading broken files raises."""
    whole = folder / MARKS[0]
    parts = json.loads(whole.read_text(encoding="utf-8"))["splits"] if whole.is_file() else ["."]
    found = []
    for part in parts:
        state = Path(part, "state.json")
        found += [state, Path(part, MARKS[1])]
        if (folder / state).is_file():
            about = json.loads((folder / state).read_text(encoding="utf-8"))
            found += [Path(part, one["filename"]) for one in about["_data_files"]]
    return found


def _columns(features: Mapping[str, Any]) -> tuple[str, str]:
    """The column of pictures and that of labels. Raises InvalidInput."""
    pictures = [name for name, kind in features.items() if type(kind).__name__ == "Image"]
    labels = [name for name, kind in features.items() if type(kind).__name__ == "ClassLabel"]
    usual = [name for name in labels if name in ("label", "labels", "fine_label")] or labels
    if len(pictures) != 1 or len(usual) != 1:
        said = ", ".join(f"{name} ({type(kind).__name__})" for name, kind in features.items())
        raise refuse_arrays(
            f"its columns are {said}", allowed="one column of Image, and one of ClassLabel called label"
        )
    return pictures[0], usual[0]


def _check_held(place: Place, split: Any, column: str) -> None:
    """A picture that is named by its place instead is fetched from there, be it a file elsewhere or an address."""
    from datasets import Image

    named = [
        row for row, one in enumerate(split.select_columns([column]).cast_column(column, Image(decode=False))[column])
        if one is None or one["bytes"] is None
    ]  # fmt: skip
    if named:
        raise refuse_arrays(
            f"{place}: picture {named[0]} is not in it" + (f", nor are {len(named) - 1} others" if named[1:] else ""),
            allowed="pictures that the set holds itself, as save_to_disk writes those it has read",
        )


def _size(picture: Any) -> tuple[int, int, int]:
    return picture.height, picture.width, 1 if picture.mode in ("L", "1") else 3


def _pictures(split: Any, column: str, size: tuple[int, int, int]) -> Images:
    """uint8 [N, C, H, W]; pictures of other sizes are scaled to the first one's."""
    from PIL import Image

    height, width, channels = size
    made = np.empty((len(split), height, width, channels), np.uint8)
    for row, example in enumerate(split.select_columns([column])):
        picture = example[column].convert("L" if channels == 1 else "RGB")
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        made[row] = np.asarray(picture, np.uint8).reshape(height, width, channels)
    found: NDArray[np.uint8] = np.ascontiguousarray(made.transpose(0, 3, 1, 2))
    return found
