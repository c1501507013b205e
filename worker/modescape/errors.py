"""What can go wrong, as one tree. A message names the thing, the value given, what is allowed and the next step.

ModescapeError
├── InvalidInput        a value from outside is not allowed; carries the field (the API answers 422)
├── NotFound            nothing of that name exists (404)
├── Conflict            the request does not fit the present state (409)
│   └── Busy            too many ask for the same at once (409, with Retry-After)
├── Forbidden           whoever asks may not do this (403)
├── DataMissing         data sets are not on this machine (409); says how to get them, carries the fields that name them
├── DataCorrupt         a file is not what its checksum or its layout promises (422); carries fields likewise
├── ArtifactMissing     a row names a file that is not there, or is damaged
├── NoRoom              a disk is full, or may not be written (507); what does it waits, and goes on by itself
│   └── StorageAway     the bucket of artifacts does not answer, or refuses what is asked (503); likewise
├── ConfigurationError  a setting, a port or a folder cannot be used; `modescape` prints it as one sentence
│   └── ExtraMissing    what is asked for needs packages that are not installed; says the line that installs them
├── StageError          a stage could not do its work; recorded with the stage
│   ├── NothingLearned  every run of an experiment has failed
│   └── Diverged        a training's loss is no longer a finite number
└── StageInterrupted    not a failure: the stage must stop now
    ├── LeaseLost       another worker owns the stage
    ├── PauseRequested  the user paused the experiment
    └── CancelRequested the user cancelled the experiment
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace


class ModescapeError(Exception):
    """Root of every error this project raises on purpose."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with an input: `field` is a path such as ``methods.2.options.rank`` ("" for the whole); at: first
    character and the one behind the last, of a text of which a part is wrong."""

    message: str
    field: str = ""
    allowed: str = ""
    at: tuple[int, int] | None = None

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        return f"{where}{self.message}" + (f" (allowed: {self.allowed})" if self.allowed else "")


class InvalidInput(ModescapeError, ValueError):
    """One or several values from outside are not allowed.

    `problems` holds them all; `field` and `allowed` are those of the first. (A ValueError too, so that pydantic
    carries it through with the place it happened.)
    """

    def __init__(self, message: str, *, field: str = "", allowed: str = "", problems: Sequence[Problem] = ()) -> None:
        self.problems = tuple(problems) or (Problem(message, field, allowed),)
        self._lists = bool(problems)  # and the message is made of them
        super().__init__(message)

    def __str__(self) -> str:
        """The message, with what is allowed: a notebook shows nothing else."""
        said, one = self.message, self.problems[0]
        if self._lists:
            return said
        return str(one) if one.field and one.field not in said else str(replace(one, field=""))

    @property
    def message(self) -> str:
        """The message alone, for sentences that quote it and name the field themselves."""
        return super().__str__()

    @property
    def field(self) -> str:
        return self.problems[0].field

    @property
    def allowed(self) -> str:
        return self.problems[0].allowed


class NotFound(ModescapeError):
    """Nothing of that name exists."""


class Conflict(ModescapeError):
    """The request does not fit the present state."""


class Busy(Conflict):
    """Too many ask at once for what takes long. The same request is answered later."""


class Forbidden(ModescapeError):
    """Whoever asks may not do this."""


class _DataError(ModescapeError):
    """`problems` names the fields of a spec that asked for the data; empty where it was a file that was looked for."""

    def __init__(self, message: str, *, problems: Sequence[Problem] = ()) -> None:
        self.problems = tuple(problems)
        super().__init__(message)


class DataMissing(_DataError):
    """Data sets are not on this machine. The message says how to get them; dataset: which, of one that has a name."""

    def __init__(self, message: str, *, problems: Sequence[Problem] = (), dataset: str = "") -> None:
        self.dataset = dataset
        super().__init__(message, problems=problems)


class DataCorrupt(_DataError):
    """A file is not what its checksum or its layout promises."""


class ArtifactMissing(ModescapeError):
    """A row names a file that is not there, or is damaged."""


class NoRoom(ModescapeError):
    """A disk is full, or may not be written. bytes: what was to be written, None where nobody knows."""

    def __init__(self, message: str, *, bytes: int | None = None) -> None:
        self.bytes = bytes
        super().__init__(message)


class StorageAway(NoRoom):
    """The bucket of artifacts does not answer, or refuses what is asked of it."""


class ConfigurationError(ModescapeError):
    """A setting, a port or a folder cannot be used."""


class ExtraMissing(ConfigurationError):
    """What is asked for needs packages that are not installed."""


class StageError(ModescapeError):
    """A stage could not do its work."""


class NothingLearned(StageError):
    """Every run of an experiment has failed."""


class Diverged(StageError):
    """A training's loss is no longer a finite number."""


class NotLoaded(ModescapeError):
    """An entry was called in a process that knows it from workers only."""


class StageInterrupted(ModescapeError):
    """Not a failure: the stage must stop now."""


class LeaseLost(StageInterrupted):
    """Another worker owns the stage; whatever this one still computes is thrown away."""


class PauseRequested(StageInterrupted):
    """The user paused the experiment; the stage keeps its checkpoint."""


class CancelRequested(StageInterrupted):
    """The user cancelled the experiment."""
