"""What is asked of files that users name by a path: a server has it answered by another process, under limits.

    @read_apart(lambda spec: [spec.path], field="data.path")
    def described(spec: DataSpec) -> DataInfo: ...          # reads the files; its arguments and its answer are small

    with reading_apart(Limits()):       # a server, for as long as it answers
        described(spec)                 # a fork of a process that reads answers, or has once: nothing is read here

Everywhere else (a notebook, the command line, a worker) the function reads by itself. What it raises comes back as what
it was. An answer is kept, without what was read, for as long as the files are the same versions of the same files
(`version_of`), and those who ask for one at once wait for one process. Few may wait at a time, and nobody for all of
them: others are told at once to ask again. An answer is data: arguments and answers go as JSON, by what the function
says of their types.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, get_type_hints

from cachetools import LRUCache
from pydantic import TypeAdapter

from modescape.errors import Busy, DataCorrupt, DataMissing, InvalidInput, Problem
from modescape.forks import Ended, Readers, limit
from modescape.science.data import bounds
from modescape.science.data.files import keep_to, kept_to, version_of, version_of_tree
from modescape.waiting import Aside, Places

Json = dict[str, Any]
P = ParamSpec("P")
T = TypeVar("T")
Place = str | Path | None

_KEPT = 16 << 20  # bytes of answers
_AT_ONCE = 2  # processes that read for one server, so that their memory is bounded together
_WAITING = 12  # threads of a server that wait for what is read, those for whom it is read among them
_WAITING_OF_ONE = 8  # of one user
_PATIENCE = 60.0  # seconds until a process is free, or has told somebody else what is asked
_WRITTEN = 0  # bytes of a file that reading may write


@dataclass(frozen=True)
class Limits:
    """memory: bytes that a process may take for what it reads; seconds: of wall clock and of a processor; pixels: of a
    picture; unpacked: bytes of a file of arrays once they are unpacked."""

    memory: int = 4 << 30
    seconds: float = 600.0
    pixels: int = bounds.PIXELS
    unpacked: int = bounds.UNPACKED

    @property
    def words(self) -> str:
        return (
            f"what can be read within {self.memory / 2**30:g} GiB of memory (MODESCAPE_READ_MEMORY) and "
            f"{self.seconds:g} seconds (MODESCAPE_READ_SECONDS), which whoever runs this server can raise"
        )


def read_apart(places: Callable[P, Iterable[Place]], *, field: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A question: a function of a module, with types for all that goes in and comes out. places: the files and folders
    that its answer depends on; field: where problems with them are told."""

    def register(function: Callable[P, T]) -> Callable[P, T]:
        question = _Question(function, places, field)
        _QUESTIONS[question.name] = question

        @wraps(function)
        def asked(*args: P.args, **kwargs: P.kwargs) -> T:
            if not _READING:
                return function(*args, **kwargs)
            found: T = _READING[-1].answer(question, *args, **kwargs)
            return found

        return asked

    return register


@contextmanager
def reading_apart(limits: Limits, aside: Aside = nullcontext) -> Iterator[ReadingApart]:
    """From now on this process has other processes read; they end with the block. aside: is entered by a thread for as
    long as it waits."""
    found = ReadingApart(limits, aside)
    _READING.append(found)
    bounds.keep_within(pixels=limits.pixels, unpacked=limits.unpacked, memory=limits.memory)
    try:
        yield found
    finally:
        _READING.remove(found)
        if not _READING:
            bounds.keep_within()
        found.end()


def warm() -> None:
    """Somebody is about to ask: begin what the first question would wait for."""
    if _READING:
        _READING[-1].readers.warm()


class _Question:
    def __init__(self, function: Callable[..., Any], places: Callable[..., Iterable[Place]], field: str) -> None:
        self.name = f"{function.__module__}:{function.__qualname__}"
        self.field = field
        self._function, self._places = function, places

    @cached_property
    def types(self) -> dict[str, TypeAdapter[Any]]:
        return {name: TypeAdapter(hint) for name, hint in get_type_hints(self._function, include_extras=True).items()}

    def asked(self, *args: Any, **kwargs: Any) -> Json:
        """The arguments by their names, as JSON."""
        bound = inspect.signature(self._function).bind(*args, **kwargs)
        return {name: self.types[name].dump_python(one, mode="json") for name, one in bound.arguments.items()}

    def places(self, *args: Any, **kwargs: Any) -> list[Path]:
        return [Path(place).expanduser() for place in self._places(*args, **kwargs) if place is not None]

    def answered(self, arguments: Json) -> Any:
        """In the process that reads. Raises what the function raises."""
        given = {name: self.types[name].validate_python(one) for name, one in arguments.items()}
        return self.types["return"].dump_python(self._function(**given), mode="json")

    def understood(self, answer: Any) -> Any:
        return self.types["return"].validate_python(answer)


_QUESTIONS: dict[str, _Question] = {}
_READING: list[ReadingApart] = []  # of the servers in this process: one, but in tests


# --- whoever asks -----------------------------------------------------------------------------------------------------


class ReadingApart:
    """Has questions answered, and keeps the answers. started: forks that have read so far."""

    def __init__(self, limits: Limits, aside: Aside = nullcontext) -> None:
        self.limits, self.readers, self.started = limits, Readers("modescape.own_files_process"), 0
        self._places = Places(
            _WAITING, _WAITING_OF_ONE, "many files are being read now, and others wait for it; try again in a minute",
            aside,
        )  # fmt: skip
        self._at_once = threading.BoundedSemaphore(_AT_ONCE)
        self._lock = threading.Lock()
        self._kept: LRUCache[str, str] = LRUCache(_KEPT, getsizeof=len)
        self._asked: dict[str, Future[str]] = {}

    def answer(self, question: _Question, *args: Any, **kwargs: Any) -> Any:
        """Raises what the function raises, InvalidInput where a limit is reached, and Busy where others are read for
        too long, or many wait already."""
        arguments = question.asked(*args, **kwargs)
        versions = [self._version(question, place) for place in question.places(*args, **kwargs)]
        asked = json.dumps([question.name, arguments, versions], sort_keys=True)
        said = json.loads(self._once(hashlib.sha256(asked.encode()).hexdigest(), question, arguments))
        if "raised" in said:
            raise _as_raised(said)
        return question.understood(said["answer"])

    def end(self) -> None:
        self.readers.end()

    def _version(self, question: _Question, place: Path) -> Any:
        """What changes with what lies there. Folders are looked through by the process that reads, for they may be
        large."""
        try:
            stat = place.stat()
        except (OSError, ValueError) as error:  # what is wrong with it is said by whoever reads it
            return type(error).__name__
        if not place.is_dir():
            return version_of(stat)
        said = json.loads(self._asked_now(question, {"tree": os.fspath(place)}))
        return said.get("answer", said)

    def _once(self, key: str, question: _Question, arguments: Json) -> str:
        """The answer that is kept, or that somebody else waits for already, or a new one."""
        with self._lock:
            if (known := self._kept.get(key)) is not None:
                return known
            waiting = self._asked.get(key)
            if waiting is None:
                mine = self._asked[key] = Future()
        if waiting is not None:
            with self._places.taken():
                try:
                    return waiting.result(_PATIENCE)
                except TimeoutError:
                    raise Busy("it is still being read for somebody who asked before; try again in a minute") from None
        try:
            said = self._asked_now(question, {"function": question.name, "arguments": arguments})
        except BaseException as error:
            mine.set_exception(error)
            raise
        else:
            mine.set_result(said)
            with self._lock:
                if len(said) <= _KEPT:
                    self._kept[key] = said
            return said
        finally:
            with self._lock:
                del self._asked[key]

    def _asked_now(self, question: _Question, asked: Json) -> str:
        """What a fork says, as it says it. Raises InvalidInput where it said nothing, Busy."""
        with self._places.taken():
            return self._read(question, asked)

    def _read(self, question: _Question, asked: Json) -> str:
        limits = self.limits
        if not self._at_once.acquire(timeout=_PATIENCE):
            raise Busy("other files are being read now; try again in a minute")
        try:
            self.started += 1
            said = self.readers.ask(
                {**asked, "kept_to": kept_to(), "memory": limits.memory, "seconds": limits.seconds,
                 "pixels": limits.pixels, "unpacked": limits.unpacked},
                seconds=limits.seconds,
            )  # fmt: skip
        except Ended as error:
            raise InvalidInput(f"it could not be read: {error}", field=question.field, allowed=limits.words) from None
        finally:
            self._at_once.release()
        if "too much" in said:
            refused = Problem("reading it takes more memory than is allowed", question.field, limits.words)
            said = _raised(InvalidInput(str(refused), problems=[refused]))
        return json.dumps(said)


# --- the process that reads -------------------------------------------------------------------------------------------


def prepare() -> None:
    """What every fork would make anew: how the types of all questions that are loaded are read and written."""
    for question in _QUESTIONS.values():
        question.types  # noqa: B018


def answer(asked: Json) -> Json:
    """To a question, in a fork that limits itself first."""
    limit(seconds=asked["seconds"], memory=asked["memory"], files=_WRITTEN)
    bounds.keep_within(pixels=asked["pixels"], unpacked=asked["unpacked"])
    keep_to(None if asked["kept_to"] is None else [Path(one) for one in asked["kept_to"]])
    try:
        if "tree" in asked:
            return {"answer": _version_of_tree(Path(asked["tree"]))}
        importlib.import_module(asked["function"].partition(":")[0])
        return {"answer": _QUESTIONS[asked["function"]].answered(asked["arguments"])}
    except (InvalidInput, DataMissing, DataCorrupt) as error:
        return {"too much": True} if _lacked_memory(error) else _raised(error)
    except MemoryError:
        return {"too much": True}


def _version_of_tree(root: Path) -> str:
    try:
        return version_of_tree(root)
    except OSError as error:  # what is wrong with it is said by whoever reads it
        return type(error).__name__


def _lacked_memory(error: BaseException | None) -> bool:
    """Whether it was raised because of that; readers take it for damage."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, MemoryError):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def _raised(error: InvalidInput | DataMissing | DataCorrupt) -> Json:
    kind = next(one for one in (InvalidInput, DataMissing, DataCorrupt) if isinstance(error, one))
    message = error.message if isinstance(error, InvalidInput) else str(error)
    problems = [{"message": one.message, "field": one.field, "allowed": one.allowed} for one in error.problems]
    said = {"raised": kind.__name__, "message": message, "problems": problems}
    return said | ({"dataset": error.dataset} if isinstance(error, DataMissing) else {})


def _as_raised(said: Json) -> InvalidInput | DataMissing | DataCorrupt:
    problems = [Problem(**one) for one in said["problems"]]
    if said["raised"] == "DataMissing":
        return DataMissing(said["message"], problems=problems, dataset=said["dataset"])
    if said["raised"] == "DataCorrupt":
        return DataCorrupt(said["message"], problems=problems)
    if len(problems) == 1 and problems[0].message == said["message"]:
        return InvalidInput(problems[0].message, field=problems[0].field, allowed=problems[0].allowed)
    return InvalidInput(said["message"], problems=problems)
