"""What a training loop has logged, on this machine's disk, until it is where it goes.

    spool = Spool.begin(folder, About(name="wrn", ...), truth)
    member = spool.member("7", seed=7, config={})
    member.log(step, {"loss": .3})          # on the disk's way before this returns
    member.keep("test.logits.npy", write)   # whole, or not there
    member.end()                            # from here on it may be added to the ensemble
    spool.end()                             # and from here on nothing more comes

A point is one write to a file that is only appended to: a process that is killed has lost none that it logged. A file
is there under its name once it is whole. Who holds the lock is the process that logs; left behind by a process that is
gone, a spool may be sent by any other.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Literal, Self

import numpy as np
import orjson
from numpy.typing import NDArray

from modescape.errors import Conflict, InvalidInput, NotFound
from modescape.records import Json

ABOUT, LOCK, ENDED, OPENED = "ensemble.json", "lock", "ended", "opened.json"
DONE, ADDED, POINTS, SENT = "done", "added", "points.jsonl", "sent.json"


@dataclass(frozen=True)
class About:
    """What is said of all members. server: where it goes, None for a home here; home: its folder; key: the same of all
    processes that log one ensemble; planned: members promised, None where nobody has."""

    name: str
    server: str | None
    home: str | None
    key: str
    planned: int | None
    kind: str
    recipe: str
    permutation: Literal["apply", "keep"] | None = None
    classes: tuple[str, ...] = ()
    notes: str = ""
    tags: tuple[str, ...] = ()
    by: str = ""

    @classmethod
    def from_json(cls, found: Json) -> Self:
        return cls(**{**found, "classes": tuple(found["classes"]), "tags": tuple(found["tags"])})


@dataclass(frozen=True)
class Waiting:
    """Points that are to be sent next. begin, end: bytes of the file of points; lines: step, Unix time and values of
    each."""

    begin: int
    end: int
    lines: tuple[tuple[int, float, Mapping[str, float | None]], ...]


class SpooledMember:
    """A member's folder. id: its own; folder: one a logging of it, so that it may be logged again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        found = json.loads((folder / "member.json").read_text(encoding="utf-8"))
        self.id: str = found["id"]
        self.seed: int | None = found["seed"]
        self.config: Json = found["config"]
        self._points: int | None = None

    # --- who logs ---

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line. Values that are not finite are kept as null."""
        if self._points is None:
            self._points = os.open(self.folder / POINTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        line = orjson.dumps((step, time.time(), values)) + b"\n"
        if (written := os.write(self._points, line)) != len(line):
            raise OSError(f"only {written} of {len(line)} bytes were written to {self.folder / POINTS}")

    def keep(self, name: str, write: Callable[[IO[bytes]], None], *, beside: bool = False) -> None:
        """A file, by the names of the format; one of that name is replaced. beside: not among what is sent."""
        _whole(self.folder / ("" if beside else "files") / name, write)

    def end(self, *, whole: bool) -> None:
        """Nothing more of it comes. whole: it may be added."""
        if self._points is not None:
            os.close(self._points)
            self._points = None
        if whole:
            _whole(self.folder / DONE, lambda file: None)

    # --- who sends ---

    @property
    def is_done(self) -> bool:
        return (self.folder / DONE).exists()

    @property
    def is_added(self) -> bool:
        return (self.folder / ADDED).exists()

    def added(self) -> None:
        _whole(self.folder / ADDED, lambda file: None)
        shutil.rmtree(self.folder / "files", ignore_errors=True)

    @property
    def files(self) -> dict[str, Path]:
        root = self.folder / "files"
        return {
            one.relative_to(root).as_posix(): one
            for one in sorted(root.rglob("*"))
            if one.is_file() and one.name[0] != "."
        }

    def waiting(self, most: int) -> Waiting | None:
        """The next points, of about `most` values; None where all were sent. What was begun to be sent comes with the
        same bounds again, so that the other side knows it."""
        bounds = self._sent()
        path = self.folder / POINTS
        if not path.exists():
            return None
        with path.open("rb") as file:
            file.seek(bounds["upto"])
            lines, count, end, known = [], 0, bounds["upto"], set()
            for line in file:
                if not line.endswith(b"\n") or (bounds["sending"] and end >= bounds["sending"]):
                    break  # the end of a line is still being written, or belongs to the next batch
                lines.append(tuple(orjson.loads(line)))
                count, end = count + len(lines[-1][2]), end + len(line)
                if (names := tuple(lines[-1][2])) not in known:  # which costs the room of its names
                    known.add(names)
                    count += 10 + sum(map(len, names)) // 10
                if count >= most and not bounds["sending"]:
                    break
        if not lines:
            return None
        return Waiting(bounds["upto"], end, tuple(lines))

    def sending(self, points: Waiting) -> None:
        """They are about to be sent."""
        self._note(points.begin, points.end)

    def sent(self, points: Waiting) -> None:
        self._note(points.end, 0)

    def skip(self) -> None:
        """Points that are not wanted any more count as sent."""
        with suppress(FileNotFoundError):
            self._note((self.folder / POINTS).stat().st_size, 0)

    def curves(self) -> dict[str, NDArray[np.float64]]:
        """All curves by name, float64 [P, 3]: steps that increase, values, Unix times. Of two points at one step the
        later one."""
        path = self.folder / POINTS
        found: dict[str, dict[int, tuple[int, float, float]]] = {}
        if path.exists():
            with path.open("rb") as file:
                for line in file:
                    if line.endswith(b"\n"):
                        step, at, values = orjson.loads(line)
                        for name, value in values.items():
                            found.setdefault(name, {})[step] = (step, np.nan if value is None else value, at)
        return {name: np.array([by_step[step] for step in sorted(by_step)]) for name, by_step in found.items()}

    def _sent(self) -> dict[str, int]:
        try:
            found: dict[str, int] = json.loads((self.folder / SENT).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {"upto": 0, "sending": 0}
        return found

    def _note(self, upto: int, sending: int) -> None:
        text = json.dumps({"upto": upto, "sending": sending}).encode()
        _whole(self.folder / SENT, lambda file: _write(file, text), lasting=False)


class Spool:
    """One ensemble's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.about = About.from_json(json.loads((folder / ABOUT).read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise NotFound(f"there is no spool at {folder}") from None
        self._lock: int | None = None

    @classmethod
    def begin(cls, root: Path, about: About, truth: Mapping[str, NDArray[np.int64]]) -> Spool:
        """A new one, held by this process. truth: place -> true labels there."""
        folder = root / uuid.uuid4().hex[:12]
        (folder / "members").mkdir(parents=True, mode=0o700)
        for place, labels in truth.items():
            _whole(folder / "truth" / f"{place}.npy", lambda file, labels=labels: np.save(file, labels))  # type: ignore[misc]
        text = json.dumps(asdict(about)).encode()
        _whole(folder / ABOUT, lambda file: _write(file, text))
        spool = cls(folder)
        spool.hold()
        return spool

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def truth(self) -> dict[str, Path]:
        return {one.stem: one for one in sorted((self.folder / "truth").iterdir())}

    @property
    def members(self) -> list[SpooledMember]:
        """In the order in which they were begun."""
        folders = sorted((self.folder / "members").iterdir(), key=lambda one: int(one.name))
        return [SpooledMember(one) for one in folders if (one / "member.json").exists()]

    def member(self, id_: str, seed: int | None, config: Json) -> SpooledMember:
        """Begin a member. Raises InvalidInput for a configuration that is no JSON."""
        try:
            text = orjson.dumps({"id": id_, "seed": seed, "config": config}, option=orjson.OPT_SERIALIZE_NUMPY)
        except TypeError as error:
            raise InvalidInput(
                f"cannot be kept: {error}", field="config", allowed="numbers, texts, lists and objects of those"
            ) from None
        folder = _next(self.folder / "members")
        _whole(folder / "member.json", lambda file: _write(file, text))
        return SpooledMember(folder)

    # --- who holds it, and how far it is ---

    def hold(self) -> None:
        """For this process alone, until it ends. Raises Conflict where another one holds it."""
        descriptor = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise Conflict(
                f"{self.about.name} ({self.id}) is being logged, or sent, by a process that is running"
            ) from None
        self._lock = descriptor

    def release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @contextmanager
    def held(self) -> Iterator[Spool]:
        """Raises Conflict."""
        self.hold()
        try:
            yield self
        finally:
            self.release()

    def end(self) -> None:
        """Nothing more comes, and all went well."""
        _whole(self.folder / ENDED, lambda file: None)

    @property
    def has_ended(self) -> bool:
        return (self.folder / ENDED).exists()

    @property
    def opened(self) -> str | None:
        """The id of the import there, once it was opened."""
        try:
            return str(json.loads((self.folder / OPENED).read_text(encoding="utf-8"))["id"])
        except FileNotFoundError:
            return None

    def open_as(self, id_: str) -> None:
        text = json.dumps({"id": id_}).encode()
        _whole(self.folder / OPENED, lambda file: _write(file, text))

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(one.stat().st_size for one in self.folder.rglob("*") if one.is_file())

    def forget(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def spools(root: Path) -> list[Spool]:
    """Those that are here, the oldest first."""
    found = [one for one in (root.iterdir() if root.is_dir() else ()) if (one / ABOUT).exists()]
    return [Spool(one) for one in sorted(found, key=lambda one: (one / ABOUT).stat().st_mtime)]


def _next(root: Path) -> Path:
    """A new folder, numbered; several threads may ask."""
    for number in itertools.count(len(list(root.iterdir()))):
        with suppress(FileExistsError):
            (root / f"{number}").mkdir()
            return root / f"{number}"
    raise AssertionError("unreachable")


def _whole(path: Path, write: Callable[[IO[bytes]], None], *, lasting: bool = True) -> None:
    """A file that is there once it is whole. lasting: also when the power goes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with partial.open("wb") as file:
            write(file)
            file.flush()
            if lasting:
                os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _write(file: IO[bytes], content: bytes) -> None:
    file.write(content)
