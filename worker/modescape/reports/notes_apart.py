"""Notes read by another process, under limits: some take the square of their length, and a server answers others
meanwhile.

    reader = NoteReader()
    reader.read(["# A *note*", ...])        # as `notes.read` reads each, or as it was typed where that takes too long

What was read is kept by what was typed, for as long as there is room.
"""

from __future__ import annotations

import hashlib
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict

from cachetools import LRUCache

from modescape.errors import Busy
from modescape.forks import Ended, Json, Readers, answer_in_forks, limit
from modescape.reports import notes
from modescape.reports.notes import Note
from modescape.waiting import Aside, Places

OF_ONE = 2.0  # seconds of a processor
OF_ALL = 10.0  # that are read together
_WALL = 30.0  # seconds, on a machine that does other things too
_MEMORY = 512 << 20  # bytes
_AT_ONCE = 2  # processes that read for one server
_WAITING = 2  # threads that wait for one of them
_PATIENCE = 10.0  # seconds
_KEPT = 8 << 20  # characters of what was read

_SLOW = f"This note takes more than {OF_ONE:g} seconds to set, so it stands here as it was typed."
_LATE = "The notes of this report take long to set, and this one is set when the page is opened again."
_ODD = "This note could not be set, and stands here as it was typed."


# -- whoever asks -----------------------------------------------------------------------------------------------------


class NoteReader:
    """aside: is entered by a thread for as long as it waits. started: forks that have read so far."""

    def __init__(self, aside: Aside = nullcontext) -> None:
        self._readers, self.started = Readers("modescape.reports.notes_process"), 0
        self._at_once = threading.BoundedSemaphore(_AT_ONCE)
        places = _AT_ONCE + _WAITING  # for each at most all: who reads by a link has no name
        self._places = Places(places, places, "many reports are being read now; try again in a moment", aside)
        self._lock = threading.Lock()
        self._kept: LRUCache[str, Note] = LRUCache(_KEPT, getsizeof=_size)

    def read(self, texts: Sequence[str]) -> list[Note]:
        """In their order. Raises Busy where others are read for too long, or many wait already."""
        keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in texts]
        with self._lock:
            known = {key: found for key in keys if (found := self._kept.get(key)) is not None}
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if missing:
            known |= dict(zip(missing, self._apart(list(missing.values()), list(missing)), strict=True))
        return [known[key] for key in keys]

    def end(self) -> None:
        self._readers.end()

    def _apart(self, texts: Sequence[str], keys: Sequence[str]) -> list[Note]:
        with self._places.taken():
            if not self._at_once.acquire(timeout=_PATIENCE):
                raise Busy("other reports are being read now; try again in a moment")
            try:
                said = self._asked(texts)
            finally:
                self._at_once.release()
        found = [_note(one) for one in said]
        with self._lock:
            for key, one, note in zip(keys, said, found, strict=True):
                if one["last"] and _size(note) <= _KEPT:
                    self._kept[key] = note
        return found

    def _asked(self, texts: Sequence[str]) -> list[Json]:
        self.started += 1
        try:
            said: list[Json] = self._readers.ask({"notes": list(texts)}, seconds=_WALL)["notes"]
        except Ended:
            return [{**asdict(notes.as_typed(text, _ODD)), "last": False} for text in texts]
        return said


def _size(note: Note) -> int:
    return sum(map(len, note.parts)) + 200 * (len(note.between) + 1)


def _note(said: Json) -> Note:
    return Note(
        tuple(said["parts"]), tuple(said["between"]), tuple(map(tuple, said["references"])),
        tuple(map(tuple, said["images"])),
    )  # fmt: skip


# -- the process that reads -------------------------------------------------------------------------------------------


class _TooLong(BaseException):
    """What reads formulas takes any exception for a formula that it does not understand."""


def serve() -> None:
    notes.read("Loaded **before** anybody asks: $x$ and | a | [[table: of]] it.")
    answer_in_forks(answer)


def answer(asked: Json) -> Json:
    """Read what is asked for, in a fork that limits itself first. last: whether it would be read no otherwise again."""
    limit(seconds=OF_ALL + OF_ONE, memory=_MEMORY, files=0)
    return {"notes": answer_all(asked["notes"])}


def answer_all(texts: Sequence[str]) -> list[Json]:
    return list(map(_read, texts))


def _read(text: str) -> Json:
    left = OF_ALL - time.process_time()
    try:
        with _within(min(OF_ONE, max(left, 0.001))):
            return {**asdict(notes.read(text)), "last": True}
    except _TooLong:
        is_last = left >= OF_ONE
        return {**asdict(notes.as_typed(text, _SLOW if is_last else _LATE)), "last": is_last}
    except (MemoryError, RecursionError):
        return {**asdict(notes.as_typed(text, _ODD)), "last": True}


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """So many seconds of a processor. Raises _TooLong."""

    def over(*_: object) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGPROF, over)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, before)
