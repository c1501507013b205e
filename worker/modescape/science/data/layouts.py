"""What lies where in a user's own set: which folders or arrays are training, validation and test, and in which order
(science k.2).

    survey = survey_of(Path("/data/pets"))         # a folder: survey.layout.parts["train"].classes, ...
    keys = arrays_of(["x_train", "y_train", ...])   # an .npz: {"train": ("x_train", "y_train"), ...}
    order = ordered({"train": labels, "test": ...}, seed)     # what becomes train, validation and test, by index

Understood: one set, of which a fifth of every class is cut off for testing; train and test; train, validation and test;
train and validation, where validation is the test set (as in ImageNet). Anything else is refused with what was seen.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from modescape.errors import InvalidInput
from modescape.names import some
from modescape.science.data.files import (
    EMPTY,
    LOST,
    PICTURES,
    UNREAD,
    Aside,
    ClassFolders,
    Entry,
    by_parts,
    class_folders,
    folders_of,
    pictures,
)
from modescape.science.data.pictures import printable
from modescape.science.data.raw import Labels, stratified_split

Role = Literal["train", "validation", "test"]
Place = Literal["all", "train", "validation", "test"]  # where images lie; "all": nothing says which are for testing

_WORDS: Mapping[str, Role] = {
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "validation": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
_PATH = "data.path"
_TEST_SHARE = 5  # a fifth is for testing where nothing says what is
UNDERSTOOD = "train/ and test/, train/ val/ and test/, or train/ and val/ (val, valid and validation mean the same)"


def role_of(name: str) -> Role | None:
    """What a folder's name says about its pictures, in any letter case."""
    return _WORDS.get(name.strip().casefold())


def refuse(message: str) -> InvalidInput:
    kinds = ", ".join(sorted(suffix[1:] for suffix in PICTURES))
    return InvalidInput(
        message,
        field=_PATH,
        allowed=f"a folder with one folder of pictures ({kinds}) per class, or {UNDERSTOOD} of such",
    )


# --- folders ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Survey:
    """A folder looked through: its parts, each with the same classes, and what was left aside, in words.

    named: the folders' own names by their place; validation without test lies at "test". Equal surveys mean that no
    name or version has changed.
    """

    root: Path
    parts: tuple[tuple[Place, ClassFolders], ...]
    named: tuple[tuple[Place, str], ...]
    aside: tuple[str, ...]

    @cached_property
    def classes(self) -> tuple[str, ...]:
        return self.parts[0][1].names

    @property
    def is_as_before(self) -> bool:
        """Whether the first rule read this layout alike: class folders alone, or train/ and test/ so spelled."""
        return dict(self.named) in ({"all": ""}, {"train": "train", "test": "test"})


def survey_of(root: Path) -> Survey:
    """Raises InvalidInput with what was seen and what is understood."""
    aside = Aside(root)
    with readable(root):
        named = _places(root, aside)
        parts = {place: class_folders(root / name, aside) for place, name in named.items()}
    for why, words in ((UNREAD, "is no picture of a kind that is read"), (LOST, "is a link to nothing")):
        if odd := aside.of(why):
            raise refuse(f"{odd[0]} {words}" + (f" (as {len(odd) - 1:,} more)" if odd[1:] else ""))
    for part in parts.values():
        _check_part(root, part, sole="all" in parts)
        for entry in part.entries:
            _check_name(entry, root)
    _check_same_classes(parts, named)
    return Survey(root, tuple(parts.items()), tuple(named.items()), aside.words())


@contextmanager
def readable(place: Path) -> Iterator[None]:
    """What the system says of a folder or file that cannot be read, or is no longer there, in words."""
    try:
        yield
    except OSError as error:
        name = place if error.filename is None else error.filename
        raise refuse(f"{printable(name)} cannot be read: {error.strerror or error}") from error


def _check_name(entry: Entry, root: Path) -> None:
    """Raises InvalidInput for names that cannot be stored or shown."""
    if printable(entry.path) != entry.path:
        raise refuse(f"the name {printable(os.path.relpath(entry.path, root))} is not UTF-8; rename it")


def _places(root: Path, aside: Aside) -> dict[Place, str]:
    """The folders' names by what they hold, or {"all": ""} for class folders alone."""
    folders, loose = folders_of(root, aside)
    roles: dict[Role, str] = {}
    for name in folders:
        role = role_of(name)
        if role in roles:
            raise refuse(f"{roles[role]}/ and {name}/ both look like the {role} set")
        if role is not None:
            roles[role] = name
    if not roles or _are_classes(root, folders, roles):
        aside.found.clear()  # the root is looked through again, as the place of the class folders
        return {"all": ""}
    if loose:
        raise refuse(
            f"{printable(Path(loose[0].path).name)} lies beside {' and '.join(roles.values())}, in no class folder"
        )
    others = [name for name in folders if name not in roles.values() and not _is_without_pictures(folders[name], aside)]
    seen = ", ".join(f"{printable(name)}/" for name in folders)
    if others or "train" not in roles or len(roles) < 2:
        raise refuse(f"it holds {seen}, which is no layout that is understood")
    if "test" not in roles:
        return {"train": roles["train"], "test": roles["validation"]}
    places: tuple[Role, ...] = ("train", "validation", "test")
    return {place: roles[place] for place in places if place in roles}


def _is_without_pictures(folder: str, aside: Aside) -> bool:
    """Whether a folder beside the splits is none: empty, or with annotations only. It is left aside then."""
    within = Aside(aside.root)
    if pictures(folder, within) or within.of(UNREAD):
        return False
    aside.found += within.found
    aside.add(folder, EMPTY)
    return True


def _are_classes(root: Path, folders: Mapping[str, str], roles: Mapping[Role, str]) -> bool:
    """Whether a folder called like a split is a class (train, beside bus and car): pictures lie right in it."""
    if len(roles) > 1 or len(folders) == 1:
        return False
    return all(folders_of(root / name, Aside(root))[1] for name in roles.values())


def _check_part(root: Path, part: ClassFolders, *, sole: bool) -> None:
    if part.loose:
        name = printable(Path(part.loose[0].path).name)
        if re.match(r"ILSVRC2012_val_\d+\.", name):
            raise refuse(
                f"{part.place} holds ImageNet's validation pictures unsorted ({name}); sort them into class folders "
                "(valprep.sh does), or choose the set `imagenet`, which reads them with the development kit's labels"
            )
        raise refuse(f"{name} lies beside the class folders of {printable(part.place)}, not in one of them")
    if sole and len(part.classes) < 2:
        if part.empty and len(part.classes) + len(part.empty) >= 2:
            raise refuse(f"of its class folders only {len(part.classes)} hold pictures; a classifier needs at least 2")
        raise refuse(
            f"{printable(root)} holds {len(part.classes)} class folder(s), a classifier needs at least 2{_inner(part)}"
        )
    for name in (*part.names, *part.empty):
        if not can_be_kept(name):
            raise refuse(f"the name {printable(name)} is not UTF-8, or holds control characters; rename it")


def can_be_kept(name: str) -> bool:
    """Whether a class's name can be stored and shown: no control characters and no halves of characters (which is what
    bytes that are not UTF-8 become)."""
    return not any(ord(letter) < 32 or ord(letter) == 127 or "\ud800" <= letter <= "\udfff" for letter in name)


def _inner(part: ClassFolders) -> str:
    """A step for folders that were packed with a folder around them."""
    if len(part.classes) != 1:
        return ""
    place = part.place / part.names[0]
    inner = list(folders_of(place, Aside(place))[0])
    return f"; {part.names[0]}/ in it holds {some([f'{name}/' for name in inner])}: give that" if inner else ""


def _check_same_classes(parts: Mapping[Place, ClassFolders], named: Mapping[Place, str]) -> None:
    """Every part has the same class folders; training has pictures of all that occur anywhere."""
    if "all" in parts:
        return
    train, name = parts["train"], named["train"]
    if len(train.classes) < 2:
        raise refuse(f"{name}/ holds {len(train.classes)} class folder(s) with pictures, a classifier needs at least 2")
    for place, part in parts.items():
        if not part.classes:
            raise refuse(f"{named[place]}/ holds no pictures")
        odd = sorted({*train.names, *train.empty} ^ {*part.names, *part.empty})
        if odd and {*odd} & {*train.names, *part.names}:
            raise refuse(f"{name}/ and {named[place]}/ do not hold the same classes: {some(odd)}")
        if lacking := [one for one in part.names if one not in train.names]:
            raise refuse(f"{name}/ holds no pictures of {some(lacking)}, which {named[place]}/ has")


def folder_words(survey: Survey) -> str:
    """What each folder is used for."""
    named = dict(survey.named)
    counts = {place: sum(len(entries) for _, entries in part.classes) for place, part in survey.parts}
    return _words({place: (f"{name}/", counts[place]) for place, name in named.items()})


def _words(parts: Mapping[Place, tuple[str, int]]) -> str:
    """parts: what holds the images and how many there are, by place."""
    if "all" in parts:
        return f"{parts['all'][1]:,} images; a fifth of every class is the test set, validation is cut from the rest"
    (train, n), (test, m) = parts["train"], parts["test"]
    if "validation" in parts:
        validation, k = parts["validation"]
        return f"{train} ({n:,}) trains, {validation} ({k:,}) validates, {test} ({m:,}) tests"
    said = f"{train} ({n:,}) trains, with validation cut from it; {test} ({m:,}) is the test set"
    role = next((_WORDS[word] for word in _tokens(test) if word in _WORDS), None)
    return f"{said}, as in ImageNet, for there is no other" if role == "validation" else said


# --- arrays -----------------------------------------------------------------------------------------------------------

_IMAGES = {"images", "image", "x", "data", "imgs", "img"}
_LABELS = {"labels", "label", "y", "target", "targets"}
_CLASSES = ("classes", "class_names", "label_names", "target_names")
ARRAYS = (
    "images and labels (or X and y), or train_images, train_labels, test_images and test_labels (or x_train, y_train, "
    "x_test and y_test), with val_images and val_labels beside them or in the place of test"
)


def refuse_arrays(message: str, *, allowed: str = f"an .npz file with {ARRAYS}") -> InvalidInput:
    return InvalidInput(message, field=_PATH, allowed=allowed)


@dataclass(frozen=True)
class ArrayLayout:
    """Which arrays of an .npz file are what. pairs: (images key, labels key) by place; classes: the key of the class
    names; aside: arrays that are not read."""

    pairs: Mapping[Place, tuple[str, str]]
    classes: str | None
    aside: tuple[str, ...]

    @property
    def is_as_before(self) -> bool:
        """Whether the first rule read these arrays in this order: one pair, which it cut by the same seed."""
        return dict(self.pairs) == {"all": ("images", "labels")}

    @property
    def was_known(self) -> bool:
        """Whether the first rule of reading knew these arrays at all, and used them for the same."""
        four = {"train": ("train_images", "train_labels"), "test": ("test_images", "test_labels")}
        return self.is_as_before or dict(self.pairs) == four

    def words(self, counts: Mapping[Place, int]) -> str:
        return _words({place: (keys[0], counts[place]) for place, keys in self.pairs.items()})


def arrays_of(keys: Iterable[str]) -> ArrayLayout:
    """What the names of arrays say, in any letter case: MedMNIST's, Keras's and scikit-learn's are known.

    Raises InvalidInput with what was seen and what is understood.
    """
    held = sorted(keys)
    names = next((key for key in _CLASSES if key in held), None)
    found = _roles(key for key in held if key != names)
    aside = tuple(key for key in held if key not in found.values() and key != names)
    _check_no_other_split(aside)
    return ArrayLayout(_pairs(found, held), names, aside)


def images_of(keys: Iterable[str]) -> str | None:
    """The array of images that are looked at as they are: those to test on where there are several.

    Raises InvalidInput where two arrays could be meant.
    """
    found = _roles(key for key in keys if (role := _array_role(key)) is not None and role[1] == "images")
    places: tuple[Place, ...] = ("test", "all", "validation")
    return next((found[place, "images"] for place in places if (place, "images") in found), None)


def _roles(keys: Iterable[str]) -> dict[tuple[Place, str], str]:
    """The array of each role; names that mean themselves come first. Raises InvalidInput where two could be meant."""
    found: dict[tuple[Place, str], str] = {}
    for key in sorted(keys, key=lambda key: (not _is_plain(key), key)):
        role = _array_role(key)
        if role is None or _is_plain(found.get(role, "")):
            continue
        if role in found:
            raise refuse_arrays(f"{found[role]} and {key} both look like the {_said(*role)}")
        found[role] = key
    return found


def _is_plain(key: str) -> bool:
    """images, labels, test_images, ...: the names that mean themselves when another array could be meant, too."""
    return re.fullmatch(r"((train|val|test)_)?(images|labels)", key) is not None


def _said(place: str, kind: str) -> str:
    return kind if place == "all" else f"{place} {kind}"


def _tokens(key: str) -> list[str]:
    return re.findall(r"[a-z]+|\d+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).lower())


def _array_role(key: str) -> tuple[Place, str] | None:
    """(place, "images" or "labels"); None for an array of another kind."""
    kind, rest = _kind_of(key)
    if kind is None or len(rest) > 1:
        return None
    if not rest:
        return "all", kind
    role = _WORDS.get(rest[0])
    return (role, kind) if role is not None else None


def _kind_of(key: str) -> tuple[str | None, tuple[str, ...]]:
    """Whether a name speaks of images or of labels, and what else it says."""
    words = _tokens(key)
    for kind, known, others in (("images", _IMAGES, _LABELS), ("labels", _LABELS, _IMAGES)):
        if any(word in known for word in words) and not any(word in others for word in words):
            return kind, tuple(word for word in words if word not in known)
    return None, ()


def _check_no_other_split(keys: Sequence[str]) -> None:
    """Images with labels of a split that is not known must not be left out without a word."""
    others: dict[tuple[str, ...], dict[str, str]] = {}
    for key in keys:
        kind, rest = _kind_of(key)
        if kind is not None:
            others.setdefault(rest, {})[kind] = key
    for pair in others.values():
        if len(pair) == 2:
            raise refuse_arrays(f"it holds {pair['images']} and {pair['labels']}, a split that is not known")


def _pairs(found: Mapping[tuple[Place, str], str], held: Sequence[str]) -> dict[Place, tuple[str, str]]:
    seen = f"it holds {', '.join(map(printable, held)) or 'nothing'}"
    places: list[Place] = [p for p in ("all", "train", "validation", "test") if any(place == p for place, _ in found)]
    for place in places:
        for kind, other in (("images", "labels"), ("labels", "images")):
            if (place, kind) in found and (place, other) not in found:
                raise refuse_arrays(f"{seen}: no {other} go with {found[place, kind]}")
    pairs = {place: (found[place, "images"], found[place, "labels"]) for place in places}
    if places == ["train", "validation"]:
        return {"train": pairs["train"], "test": pairs["validation"]}
    if places not in (["all"], ["train", "test"], ["train", "validation", "test"]):
        raise refuse_arrays(seen)
    return pairs


# --- order ------------------------------------------------------------------------------------------------------------


def ordered(labels: Mapping[Place, Labels], seed: int) -> dict[Role, tuple[Place, NDArray[np.intp]]]:
    """For each split where its images lie and their indices there, in an order drawn from `seed`.

    The order comes before anything is cut, for own files and rows are often sorted by class. A fifth of every class
    is for testing where nothing says what is; validation is absent where it is to be cut from training.
    """
    if "all" in labels:
        train, test = stratified_split(labels["all"], test=len(labels["all"]) // _TEST_SHARE, seed=seed)
        return {"train": ("all", train), "test": ("all", test)}
    rng = np.random.Generator(np.random.Philox(seed))
    places: tuple[Role, ...] = ("train", "test", "validation")
    return {place: (place, rng.permutation(len(labels[place]))) for place in places if place in labels}


def entries_of(survey: Survey) -> tuple[dict[Place, tuple[tuple[Path, ...], Labels]], list[Entry]]:
    """Files and labels of every part, class by class; and all entries in the order of their paths under the root."""
    number = {name: i for i, name in enumerate(survey.classes)}
    parts: dict[Place, tuple[tuple[Path, ...], Labels]] = {}
    everything: list[Entry] = []
    for place, part in survey.parts:
        labels = [number[name] for name, entries in part.classes for _ in entries]
        parts[place] = (tuple(Path(entry.path) for entry in part.entries), np.array(labels, np.int64))
        everything += part.entries
    return parts, sorted(everything, key=by_parts)


def outside_pictures(root: Path) -> tuple[Path, list[Entry], tuple[str, ...]]:
    """Where pictures without classes lie (the test set's folder, where there are splits), all of them in the order of
    their paths, and what was left aside. Raises InvalidInput."""
    aside = Aside(root)
    with readable(root):
        roles = {role: name for name in folders_of(root, Aside(root))[0] if (role := role_of(name)) is not None}
        tested = roles.get("test") or roles.get("validation")
        place = root / tested if "train" in roles and tested else root
        found = sorted(pictures(place, aside), key=by_parts)
    for entry in found:
        _check_name(entry, root)
    for why in (UNREAD, LOST):
        if odd := aside.of(why):
            raise InvalidInput(f"{odd[0]}: {why}", field=_PATH, allowed="pictures that can be read")
    return place, found, aside.words()
