"""Files that strangers sent are read in a process of their own, under limits; whoever asked gets typed records.

    reader = Apart(uploads_folder, artifacts, Limits())
    reader.look([Sent("test.npz", path)], Asked())            # Look: what is understood, odd and asked; nothing is kept
    reader.keep([Sent("test.npz", path)], Asked(kind=...))    # Piece: its arrays are kept as artifacts

The process that asks reads nothing: what is in a file is seen by a fork of one that has read nothing either. The
kernel ends it when it takes too much memory or time; its answer is JSON, and what it refuses comes back as the
InvalidInput it was there. Nothing is unpickled on either side.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath

from modescape.artifacts import Artifacts
from modescape.errors import Busy, InvalidInput, Problem
from modescape.forks import Ended, Readers
from modescape.imported.containers import check_name
from modescape.pieces import Piece
from modescape.records import Json

LONGEST_NAME = 1000  # characters of a path inside what was sent
_LONGEST_PART = 200
_AT_ONCE = threading.BoundedSemaphore(2)  # processes that read for this one, so that their memory is bounded together
_LEFT_BEHIND = 24 * 3600.0  # seconds after which a folder that a killed process left is removed


@dataclass(frozen=True)
class Limits:
    """memory: bytes of address space beyond the files, which are mapped; seconds: of wall clock and of a processor."""

    memory: int = 2 << 30
    seconds: float = 600.0


@dataclass(frozen=True)
class Sent:
    """A file that was sent. name: as it goes inside the folder that was sent, with /; path: where its bytes are."""

    name: str
    path: Path


@dataclass(frozen=True)
class Asked:
    """What the user answered, as `importing.Answers`, and which array is what; None of what was not asked. name: of the
    ensemble; classes: their names."""

    kind: str | None = None
    recipe: str | None = None
    permutation: str | None = None
    outputs: str | None = None
    labels: str | None = None
    name: str | None = None
    classes: tuple[str, ...] = ()
    mixed: str | None = None


@dataclass(frozen=True)
class OneMember:
    """A member that comes alone, as whoever sends it calls it. labels: place -> file of the true labels that were
    declared for all; is_kind_of_all: what its numbers are was said of all members, and not of this one."""

    id: str
    seed: int | None = None
    config: Json = field(default_factory=dict)
    labels: Mapping[str, Path] = field(default_factory=dict)
    is_kind_of_all: bool = False


@dataclass(frozen=True)
class SeenSet:
    """A set of examples. shape: of the outputs, [M, N, K]."""

    place: str
    role: str
    shape: tuple[int, ...]
    dtype: str
    labelled: bool


@dataclass(frozen=True)
class SeenMember:
    """accuracy: on the test set, None where it cannot be told."""

    id: str
    accuracy: float | None
    seed: int | None = None


@dataclass(frozen=True)
class Answerable:
    """One answer to a question, and what it means."""

    value: str
    words: str


@dataclass(frozen=True)
class SeenOddity:
    """As `imported.door.Oddity`. what: the word under which it is answered, where there are choices."""

    level: str
    what: str
    sentence: str
    members: tuple[str, ...] = ()
    place: str = ""
    choices: tuple[Answerable, ...] = ()


@dataclass(frozen=True)
class Look:
    """What is understood of files that were sent, what is odd, and what is asked. Where it could not be told which
    array is what, that is the one question, and nothing else is known yet. may: whether it can be imported so."""

    name: str
    kind: str = ""
    recipe: str = ""
    classes: int = 0
    sets: tuple[SeenSet, ...] = ()
    members: tuple[SeenMember, ...] = ()
    samples: Mapping[str, int] = field(default_factory=dict)
    checkpoints: int = 0
    weights: int = 0
    odd: tuple[SeenOddity, ...] = ()
    may: bool = False

    @property
    def asked(self) -> tuple[SeenOddity, ...]:
        return tuple(one for one in self.odd if one.choices)

    @classmethod
    def from_json(cls, found: Json) -> Look:
        odd = (
            SeenOddity(
                **{**one, "members": tuple(one["members"]), "choices": tuple(Answerable(**c) for c in one["choices"])}
            )
            for one in found["odd"]
        )
        sets = (SeenSet(**{**one, "shape": tuple(one["shape"])}) for one in found["sets"])
        members = (SeenMember(**one) for one in found["members"])
        return cls(**{**found, "odd": tuple(odd), "sets": tuple(sets), "members": tuple(members)})


class Apart:
    """Asks reading processes. folder: on the disk of the files that are sent; artifacts: where arrays are kept; those
    processes are shown a folder alone."""

    def __init__(
        self, folder: Path, artifacts: Artifacts, limits: Limits = Limits(), readers: Readers | None = None
    ) -> None:
        self.folder, self.artifacts = (folder / "reading").absolute(), artifacts
        self.limits, self._readers = limits, readers or _READERS

    def look(self, files: Sequence[Sent], asked: Asked) -> Look:
        """Raises InvalidInput for what cannot be read, however it is answered."""
        return Look.from_json(self._answer("look", files, asked)["look"])

    def keep(self, files: Sequence[Sent], asked: Asked, member: OneMember | None = None) -> Piece:
        """Its arrays as artifacts. member: of one that comes alone. Raises InvalidInput, for open questions too."""
        return Piece.from_json(self._answer("keep", files, asked, member)["piece"])

    def labels(self, files: Mapping[str, Path]) -> list[Json]:
        """Keep true labels, by place: of each `place`, `digest`, `count` and what `ArtifactInfo` has, as `file`."""
        sent = [Sent(f"{place}.labels.npy", path) for place, path in files.items()]
        found: list[Json] = self._answer("labels", sent, Asked())["labels"]
        return found

    @contextmanager
    def weights(self, files: Sequence[Sent]) -> Iterator[Path]:
        """A folder of files of weights by their names, each with a whole header; those of torch are read by a process
        of their own (`imported.torch_files`). Raises InvalidInput naming the file."""
        self._answer("weights", files, Asked())
        with self._folder(files) as root:
            yield root

    def _answer(self, action: str, files: Sequence[Sent], asked: Asked, member: OneMember | None = None) -> Json:
        if not _AT_ONCE.acquire(timeout=min(60.0, self.limits.seconds)):
            raise Busy("other files are being read now; try again in a minute")
        try:
            with self._folder(files, asked.name) as root, self.artifacts.landing() as landing:
                size = sum(one.path.stat().st_size for one in files)
                question: Json = {
                    "action": action,
                    "root": os.fspath(root),
                    "artifacts": os.fspath(landing),
                    "asked": asdict(asked),
                    "member": member and {**asdict(member), "labels": _beside(root, member.labels)},
                    "memory": self.limits.memory + size,
                    "seconds": self.limits.seconds,
                }
                return _checked(_asked(question, self.limits, self._readers))
        finally:
            _AT_ONCE.release()

    @contextmanager
    def _folder(self, files: Sequence[Sent], called: str | None = None) -> Iterator[Path]:
        """A folder in which the files go by their names, for as long as they are read. called: as all that is said of
        it calls it."""
        placed = _placed(files)
        self._remove_left_behind()
        own = self.folder / uuid.uuid4().hex
        root = own / _folder_name(called or "")
        try:
            for name, path in placed.items():
                target = root / name
                try:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    _link(path, target)
                except (FileExistsError, NotADirectoryError):
                    raise InvalidInput(
                        f"{name!r} is a file and a folder at once", field="files", allowed="names that differ"
                    ) from None
            yield root
        finally:
            shutil.rmtree(own, ignore_errors=True)

    def _remove_left_behind(self) -> None:
        for old in self.folder.iterdir() if self.folder.is_dir() else ():
            try:
                if time.time() - old.stat().st_mtime > _LEFT_BEHIND:
                    shutil.rmtree(old, ignore_errors=True)
            except FileNotFoundError:
                continue


def _placed(files: Sequence[Sent]) -> dict[str, Path]:
    """By name below the folder that all of them lie in. Raises InvalidInput for names that lead out, or come twice."""
    if not files:
        raise InvalidInput("are none", field="files", allowed="one file or more")
    for number, one in enumerate(files):
        _check_name(one.name, f"files.{number}.name")
    parts = [PurePosixPath(one.name).parts for one in files]
    while all(len(some) > 1 and some[0] == parts[0][0] for some in parts):
        parts = [some[1:] for some in parts]
    found: dict[str, Path] = {}
    for some, one in zip(parts, files, strict=True):
        name = "/".join(some)
        if name in found:
            raise InvalidInput(f"{name!r} comes twice", field="files", allowed="names that differ")
        found[name] = one.path
    return found


def _folder_name(name: str) -> str:
    plain = "".join(letter if letter.isprintable() and letter not in "/\\" else "-" for letter in name)
    short = plain.encode(errors="replace")[:_LONGEST_PART].decode(errors="ignore")
    return "the files" if short.strip(". ") == "" else short


def _check_name(name: str, at: str) -> None:
    try:
        check_name(name, at)
    except InvalidInput as error:
        raise InvalidInput(error.problems[0].message, field=at, allowed=error.problems[0].allowed) from None
    longest = max(len(part.encode()) for part in PurePosixPath(name).parts)
    if len(name) > LONGEST_NAME or longest > _LONGEST_PART:
        raise InvalidInput(
            f"{name[:80]!r}… is too long", field=at, allowed=f"{LONGEST_NAME} characters, {_LONGEST_PART} bytes a part"
        )


def _beside(root: Path, labels: Mapping[str, Path]) -> dict[str, str]:
    """Labels by their places, linked for as long as the files are there: a copy may go before it is read."""
    found = {}
    for number, (place, path) in enumerate(labels.items()):
        found[place] = os.fspath(root.parent / f"labels-{number}{path.suffix}")
        _link(path, Path(found[place]))
    return found


def _link(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except FileExistsError:
        raise
    except OSError:  # another disk, or one without links
        shutil.copyfile(path, target)


_READERS = Readers("modescape.reading_process")


def _asked(question: Json, limits: Limits, readers: Readers) -> Json:
    """What a reading process answers. Raises InvalidInput where it came to its end before."""
    try:
        return readers.ask(question, seconds=limits.seconds)
    except Ended as error:
        raise InvalidInput(
            f"it could not be read: {error}", field="files",
            allowed="files that can be read within MODESCAPE_IMPORT_MEMORY and MODESCAPE_IMPORT_SECONDS",
        ) from None  # fmt: skip


def _checked(answer: Json) -> Json:
    """Raises InvalidInput as it was raised over there."""
    if "refused" in answer:
        problems = [Problem(**one) for one in answer["refused"]]
        raise InvalidInput("; ".join(map(str, problems)), problems=problems)
    return answer
