"""Every picture of a user's own set, decoded once in a process of its own: what is wrong, and how they are read.

    found = check_pictures(files, root, progress=lambda done, of: ...)
    found.problem                             # "" or "cat/37.jpg cannot be read as a picture: ... is truncated"
    found.sentences                           # what was done to the pictures, for people

A process of its own, because a damaged file may take its reader with it, and because the web process decodes nothing it
was not asked to show. It is told the files on its standard input and answers in lines of JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import PIL

from modescape.errors import DataCorrupt, InvalidInput
from modescape.science.data import bounds
from modescape.science.data.pictures import (
    READING,
    Levels,
    Picture,
    UnreadablePicture,
    decode,
    extent_of_picture,
    header_of,
    levels_among,
    printable,
)
from modescape.science.data.values import DIM, LOSES, Extent, dim

Json = dict[str, Any]
Progress = Callable[[int, int], None]

NAMED = 20  # of the files that cannot be read


@dataclass(frozen=True)
class PictureCheck:
    """What a set of pictures holds. bad: files that cannot be read, the first 20, and why; bad_count: all of them;
    refused: why the numbers of all together cannot be read ("" if they can); white: what is, None where files declare
    several levels; sentences: how they are read, for people."""

    files: int
    bad: tuple[tuple[str, str], ...] = ()
    bad_count: int = 0
    refused: str = ""
    white: float | None = None
    sentences: tuple[str, ...] = ()

    @property
    def problem(self) -> str:
        """What stands in the way of using them, in one sentence naming the files; "" when nothing does."""
        if not self.bad:
            return self.refused
        named = "; ".join(f"{name} cannot be read as a picture: {reason}" for name, reason in self.bad[:5])
        return named + (f" ({self.bad_count} of {self.files} pictures cannot)" if self.bad_count > 1 else "")

    @property
    def remarks(self) -> tuple[str, ...]:
        """The sentences that say more than that bytes are bytes."""
        return tuple(sentence for sentence in self.sentences if sentence != _PLAIN)

    def as_json(self) -> Json:
        return asdict(self)

    @classmethod
    def from_json(cls, found: Json) -> PictureCheck:
        bad = tuple((name, reason) for name, reason in found["bad"])
        return cls(**{**found, "bad": bad, "sentences": tuple(found["sentences"])})


def check_key(fingerprint: str, white: float | None) -> str:
    """What a check depends on: the files, what the user says is white, and who reads them."""
    text = f"{fingerprint}|{white}|{READING}|{PIL.__version__}"
    return hashlib.sha256(text.encode()).hexdigest()


def check_pictures(
    files: Sequence[Path],
    root: Path,
    *,
    white: float | None = None,
    progress: Progress = lambda done, of: None,
    check: Callable[[], None] = lambda: None,
) -> PictureCheck:
    """Decode `files`, which are named relative to `root`. check: called often; what it raises ends the reading.

    Raises DataCorrupt naming the files that were being read when the reading process died.
    """
    asked = {"files": [os.fspath(path) for path in files], "root": os.fspath(root), "white": white}
    begun: dict[int, None] = {}
    with (
        tempfile.TemporaryFile("w+") as complaints,
        _asking(asked | {"bounds": bounds.bounds()}, complaints) as answers,
    ):
        for answer in answers:
            check()
            if "look" in answer:
                return PictureCheck.from_json(answer["look"])
            if "begun" in answer:
                begun[answer["begun"]] = None
            else:
                begun.pop(answer["ended"], None)
                progress(answer["done"], answer["of"])
        complaints.seek(0)
        last = (complaints.read().strip().splitlines() or ["it said nothing"])[-1]
    names = ", ".join(_name(files[i], root) for i in begun) or "no picture"
    raise DataCorrupt(f"the process that looks through {root} died while it was reading {names}: {last}")


@contextmanager
def _asking(asked: Json, complaints: Any) -> Iterator[Iterator[Json]]:
    """The answers of a reading process, which is ended when nobody listens any more."""
    command = [sys.executable, "-P", "-m", __name__]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, encoding="ascii"
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with process.stdin:
                json.dump(asked, process.stdin)
            yield (json.loads(line) for line in process.stdout)
        except BrokenPipeError:
            yield iter(())
        finally:
            process.kill()


def _name(path: Path, root: Path) -> str:
    return printable(path.relative_to(root) if path.is_relative_to(root) else path)


# --- in the reading process -------------------------------------------------------------------------------------------


class _Reader:
    """Decodes in threads, tells what it does, and collects what it finds."""

    def __init__(self, asked: Json) -> None:
        self.files = [Path(name) for name in asked["files"]]
        self.root, self.white = Path(asked["root"]), asked["white"]
        self.bad: dict[int, str] = {}
        self.refused = ""
        self._lock = threading.Lock()
        self._done, self._of = 0, len(self.files)

    def read(self) -> PictureCheck:
        headers = dict(self._each(range(len(self.files)), header_of, counted=False))
        deep = [i for i, header in headers.items() if header.kind != "bytes"]
        levels, extents = self._levels(deep)
        whole = [i for i in headers if i not in self.bad]
        read = dict(self._each(whole, partial(decode, levels=levels, frames=True), then=_without_pixels))
        names = sorted((_name(self.files[i], self.root), reason) for i, reason in self.bad.items())
        sentences = tuple(_sentences(read, len(extents), levels, extents))
        white = _single_white(levels, len(deep), len(headers))
        return PictureCheck(len(self.files), tuple(names[:NAMED]), len(names), self.refused, white, sentences)

    def _levels(self, deep: Sequence[int]) -> tuple[Levels, list[Extent]]:
        if not deep:
            return Levels(given=self.white), []
        self._of += len(deep)
        found = dict(self._each(deep, extent_of_picture))
        if self.white is not None:
            return Levels(given=self.white), list(found.values())
        try:
            levels = levels_among([(self.files[i], extent) for i, extent in found.items()])
        except InvalidInput as error:
            self.refused = str(error.problems[0])
            levels = Levels()
        return levels, list(found.values())

    def _each(
        self,
        indices: Iterable[int],
        work: Callable[[Path], Any],
        *,
        then: Callable[[Any], Any] = lambda found: found,
        counted: bool = True,
    ) -> Iterator[tuple[int, Any]]:
        """(i, what work found) of every file that could be read, in order; the others go to `bad`."""

        def one(i: int) -> Any:
            self._tell({"begun": i})
            try:
                return then(work(self.files[i]))
            except UnreadablePicture as error:
                self.bad[i] = error.reason
            except InvalidInput as error:
                self.bad[i] = error.message
            finally:
                self._ended(i, counted)
            return None

        with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
            chosen = list(indices)
            for i, found in zip(chosen, threads.map(one, chosen), strict=True):
                if found is not None:
                    yield i, found

    def _ended(self, i: int, counted: bool) -> None:
        with self._lock:
            self._done += counted
        self._tell({"ended": i, "done": self._done, "of": self._of})

    def _tell(self, answer: Json) -> None:
        with self._lock:
            print(json.dumps(answer), flush=True)


@dataclass(frozen=True)
class _Seen:
    """What is kept of a decoded picture."""

    remarks: frozenset[str]
    brightest: float


def _without_pixels(picture: Picture) -> _Seen:
    return _Seen(picture.remarks, picture.brightest)


_REMARKS = {
    "turned": "turned upright, as EXIF says",
    "several": "of several frames or pages, the first of which is read",
    "composed": "with transparent parts, which are laid on white",
    "deep": "with more than 8 bits a colour, rounded to 8 by the maximum that each declares",
    "cmyk": "in CMYK, made RGB without a colour profile",
}


_PLAIN = "8 bits a pixel: 255 is white."


def _sentences(read: Mapping[int, _Seen], deep: int, levels: Levels, extents: Sequence[Extent]) -> Iterator[str]:
    total = len(read)
    if levels.given is not None:
        yield f"{levels.given:.9g} is white, as was said."
    elif deep:
        yield f"{deep} of {total} pictures have more than 8 bits a pixel: {_whites(levels, extents)}."
        if deep < total:
            yield "The others have 8 bits, of which 255 is white: make sure that both mean the same light."
    else:
        yield _PLAIN
    counts = Counter(remark for seen in read.values() for remark in seen.remarks)
    if counts["rounded"]:
        yield LOSES
    yield from (
        f"{counts[remark]} of {total} pictures: {words}." for remark, words in _REMARKS.items() if counts[remark]
    )
    brightest, white = (
        max((seen.brightest for seen in read.values()), default=255.0),
        _single_white(levels, deep, total),
    )
    if levels.given is None and white is not None and brightest * DIM < white:
        yield dim(brightest, white)
    tiny = sum(extent.denormals for extent in extents)
    if tiny:
        first = next(extent.where for extent in extents if extent.denormals)
        yield f"{tiny} values are denormal and read as 0, the first at {first}."


def _whites(levels: Levels, extents: Sequence[Extent]) -> str:
    found = [level for level in (levels.declared, levels.integers, levels.floats) if level is not None]
    declared = sorted({white for extent in extents for white in extent.whites}) if levels.declared is None else []
    named = " and ".join(f"{level:.9g}" for level in found)
    listed = ", ".join(f"{level:.9g}" for level in declared[:4])
    each = f"what each declares ({listed}{', ...' if declared[4:] else ''})" if declared else ""
    return f"{' and '.join(filter(None, (named, each)))} is white"


def _single_white(levels: Levels, deep: int, total: int) -> float | None:
    """The one value that is white in all of them, or None."""
    if levels.given is not None:
        return levels.given
    found = [level for level in (levels.declared, levels.integers, levels.floats) if level is not None]
    if not deep:
        return 255.0
    return found[0] if len(found) == 1 and deep == total else None


def _main() -> None:
    asked = json.load(sys.stdin)
    bounds.confine(asked["bounds"])
    reader = _Reader(asked)
    print(json.dumps({"look": reader.read().as_json()}), flush=True)


if __name__ == "__main__":
    _main()
