"""What people take home is made by a process of its own: figures in forms that take a browser, archives, reports.

    maker = Maker(settings)
    pdf = maker.make({"what": "figure", "experiment": "quickstart", "figure": "plane", "form": "pdf", ...})

The web process neither loads nor runs what makes them. A fork (`forks`) opens the home by itself, collects, draws and
writes one file, of which the bytes come back, or where it lies. What it raises comes back as what it was.
"""

from __future__ import annotations

import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

from modescape import errors
from modescape.drawing.reading import FigureNotReady
from modescape.errors import Busy, InvalidInput, ModescapeError, Problem
from modescape.forks import Ended, Readers
from modescape.records import Json
from modescape.settings import Settings
from modescape.waiting import Aside, Places

_AT_ONCE = 2  # processes that make something for one server: each may have a browser
_WAITING, _WAITING_OF_ONE = 12, 8  # threads that wait for what is made, of all and of one who asks
_PATIENCE = 60.0  # seconds until one is free
_LOOK = 1.0  # seconds between two looks whether whoever asked is still there
_SECONDS = 180.0  # for one thing that is waited for
LONG = 3 * 3600.0  # seconds for an archive


class Maker:
    """Asks for what is made. aside: is entered by a thread for as long as it waits."""

    def __init__(self, settings: Settings, aside: Aside = nullcontext) -> None:
        self._settings = settings
        self._places = Places(
            _WAITING, _WAITING_OF_ONE, "many pictures and files are being made now; try again in a minute", aside
        )
        self._readers = Readers("modescape.making_process")
        self._at_once = threading.BoundedSemaphore(_AT_ONCE)

    def make(self, asked: Json, *, is_gone: Callable[[], bool] = lambda: False) -> bytes:
        """The file that is asked for. is_gone: whether whoever asked has left, who waits no longer then. Raises what
        making it raises, and Busy where many wait, or others are made for too long."""
        with self.made(asked, is_gone=is_gone) as file:
            return file.read()

    def made(self, asked: Json, *, is_gone: Callable[[], bool] = lambda: False) -> BinaryIO:
        """The same as a file that is gone once it is closed: what is large need not be in memory. Raises likewise."""
        with self._places.taken(), self._turn(is_gone), self.folder() as folder:
            self.write(asked, folder / "made", seconds=_SECONDS)
            return (folder / "made").open("rb")

    @contextmanager
    def _turn(self, is_gone: Callable[[], bool]) -> Iterator[None]:
        """Raises Busy where it does not come in time."""
        until = time.monotonic() + _PATIENCE
        while not self._at_once.acquire(timeout=_LOOK):
            if is_gone() or time.monotonic() > until:
                raise Busy("other pictures and files are being made now; try again in a minute")
        try:
            yield
        finally:
            self._at_once.release()

    def write(self, asked: Json, to: Path, *, seconds: float = LONG) -> None:
        """The same into a file. Raises likewise."""
        question = {**asked, "settings": self._settings.told(), "to": str(to.absolute()), "seconds": seconds}
        try:
            said = self._readers.ask(question, seconds=seconds)
        except Ended as error:
            raise InvalidInput(f"it could not be made: {error}") from None
        if "raised" in said:
            raise _as_raised(said)

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A new folder in the home, for as long as the block runs."""
        found = self._settings.made_folder / uuid.uuid4().hex
        found.mkdir(mode=0o700, parents=True)
        try:
            yield found
        finally:
            shutil.rmtree(found, ignore_errors=True)

    def end(self) -> None:
        self._readers.end()


# --- errors on their way ----------------------------------------------------------------------------------------------


def raised(error: ModescapeError) -> Json:
    """An error as it travels."""
    said: Json = {"raised": type(error).__name__, "message": str(error)}
    if isinstance(error, InvalidInput):
        told = [{"message": one.message, "field": one.field, "allowed": one.allowed} for one in error.problems]
        said |= {"message": error.message, "problems": told}
    if isinstance(error, FigureNotReady):
        said |= {"waits_for": list(error.waits_for), "closed": error.closed}
    return said


def _as_raised(said: Json) -> ModescapeError:
    """What was raised over there; of a kind that takes more than words, what it is a kind of."""
    kind, message = said["raised"], said["message"]
    if kind == "FigureNotReady":
        return FigureNotReady(message, waits_for=said["waits_for"], closed=said["closed"])
    if "problems" in said:
        problems = [Problem(**one) for one in said["problems"]]
        if len(problems) == 1 and problems[0].message == message:
            return InvalidInput(message, field=problems[0].field, allowed=problems[0].allowed)
        return InvalidInput(message, problems=problems)
    found: Any = getattr(errors, kind, None)
    plain = (errors.NotFound, errors.Conflict, errors.ConfigurationError, errors.ExtraMissing, errors.ArtifactMissing)
    return found(message) if found in plain else errors.Conflict(message)
