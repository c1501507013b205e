"""What an ensemble made elsewhere is, once it is read: typed records over arrays that may still lie on disk.

    ensemble = read(Path("wide-resnets"))
    ensemble.test.outputs.shape                 # (20, 10000, 10)
    ensemble.sets["ood/svhn"].role              # SetRole.OOD
    ensemble.truth(ensemble.sets["shift/fog/3"])   # the test set's labels: its images are those of the test set

Letters: M members, N examples, K classes, S samples around a member, T checkpoints. Outputs are [M, N, K], or [M, N]
where only predicted labels are known. A set goes by its place in the format on disk: test, validation, ood/<name>,
shift/<type>/<intensity>.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from modescape.errors import InvalidInput
from modescape.imported.arrays import Array
from modescape.records import SampleSet

Labels = NDArray[np.int64]
Curve: TypeAlias = NDArray[np.float64]  # [P, 3]: step (increasing), value, Unix time (NaN: nobody noted it)
TEST, VALIDATION = "test", "validation"
INTENSITIES = range(1, 6)


class OutputKind(StrEnum):
    """What the numbers of a member say."""

    LOGITS = "logits"  # up to a constant a row
    PROBS = "probs"  # rows that sum to 1
    LOG_PROBS = "log-probs"  # natural logarithms of those
    LABELS = "labels"  # the predicted class alone


class Recipe(StrEnum):
    """Whether members differ by their seeds alone, which the claims' tests stand on."""

    SAME = "same"
    DIFFERENT = "different"
    UNKNOWN = "unknown"  # nobody said; every word stays closed


class SetRole(StrEnum):
    """What a set of examples is for."""

    TEST = "id"
    VALIDATION = "validation"
    OOD = "ood"  # nothing the members were taught; no labels
    SHIFT = "shift"  # the test set changed, or another draw of the same classes


@dataclass(frozen=True)
class Choice:
    """One answer to a question: what to answer, and what it means."""

    value: str
    words: str


class Unclear(InvalidInput):
    """What lies here can be read in several ways, and the user has to say which.

    field: the argument that answers; question: as a sentence; choices: the answers.
    """

    def __init__(self, question: str, choices: Sequence[Choice], *, field: str) -> None:
        self.question = question
        self.choices = tuple(choices)
        super().__init__(question, field=field, allowed=" or ".join(choice.value for choice in choices))

    def __str__(self) -> str:
        answers = "; ".join(f"{self.field}={choice.value!r}: {choice.words}" for choice in self.choices)
        return f"{self.question} {answers}"


@dataclass(frozen=True)
class Member:
    """A function of the ensemble. id: unique, in the order of the outputs' first axis."""

    id: str
    seed: int | None = None
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises InvalidInput for a seed that no database keeps."""
        if self.seed is not None and not -(2**63) <= self.seed < 2**63:
            raise InvalidInput(
                f"member {self.id!r} has the seed {self.seed}", field="seed", allowed="whole numbers of 64 bits"
            )
        object.__setattr__(self, "seed", None if self.seed is None else int(self.seed))  # NumPy's, too
        object.__setattr__(self, "config", _plain(self.config))


def _plain(value: Any) -> Any:
    """As JSON can have it: what that has no word for, such as NaN, a date or an integer beyond 64 bits, as its text."""
    if isinstance(value, Mapping):
        return {_plain_text(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if value is None or isinstance(value, bool):
        return value
    fits = isinstance(value, float) and math.isfinite(value)
    fits |= isinstance(value, int) and -(2**63) <= value < 2**63
    return value if fits else _plain_text(value)


def _plain_text(value: Any) -> str:
    return str(value).encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True)
class Shift:
    """How the test set was changed, and how much: 1 to 5."""

    type: str
    intensity: int

    def __post_init__(self) -> None:
        if self.intensity not in INTENSITIES:
            raise InvalidInput(
                f"shift {self.type!r} has intensity {self.intensity}", field="shift", allowed="1, 2, 3, 4, 5"
            )


@dataclass(frozen=True, eq=False)
class ExampleSet:
    """Examples that every member was asked about.

    place: see above; outputs: [M, N, K] ([M, N] of labels); labels: int64 [N]; ids: integers or texts [N], the same for
    the same image in every set; images: uint8 [N, C, H, W]; shift: of sets with that role; has_own_images: False where
    a shifted set is the test set changed, image by image; data: what it is, such as cifar10/test.
    """

    place: str
    role: SetRole
    outputs: Array
    labels: Labels | None = None
    ids: NDArray[Any] | None = None
    images: Array | None = None
    shift: Shift | None = None
    has_own_images: bool = True
    data: str = ""

    @property
    def name(self) -> str:
        """As people say it: svhn, fog/3, test."""
        return self.place.split("/", 1)[1] if self.role in (SetRole.OOD, SetRole.SHIFT) else self.place

    @property
    def count(self) -> int:
        """N."""
        return self.outputs.shape[1]


@dataclass(frozen=True, eq=False)
class MethodSamples:
    """Functions drawn around each member by one method.

    outputs: place -> [M, S, N, K], on shifted and other images perhaps of the first few alone; strength: [M, S], how
    far from the member, taken as given; centre: place -> [M, N, K], what the samples were drawn around where that is
    not the member; better: bool [M], of last iterates whether each predicts held-out images better than its member;
    is_rate: whether strengths are rates, of which pairs lie at the mean and not at the quadratic mean (science o.5);
    None: nobody has said, and the method's name decides.
    """

    method: str
    outputs: Mapping[str, Array]
    strength: NDArray[np.float64] | None = None
    centre: Mapping[str, Array] = field(default_factory=dict)
    better: NDArray[np.bool_] | None = None
    is_rate: bool | None = None


_SETS = (SampleSet.SPREAD, SampleSet.TYPICAL, SampleSet.FAIR)  # each is enough to know a method's sets by


def sets_of(names: Collection[str]) -> dict[str, dict[SampleSet, str]]:
    """Which of the samples of these names are one method's: method -> set -> name, in the order of the names.

    swag-spread, swag-typical and swag-fair are sets of one method, swag-last where a method of one of those trained on
    to; any other name is a method whose samples are all typical.
    """
    found: dict[str, dict[SampleSet, str]] = {}
    for name in names:
        method, _, ending = name.rpartition("-")
        is_set = bool(method) and ending in list(SampleSet) and method not in names
        if is_set and any(f"{method}-{one}" in names for one in _SETS):
            found.setdefault(method, {})[SampleSet(ending)] = name
        else:
            found[name] = {SampleSet.TYPICAL: name}
    return found


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The members while they were trained. epochs: [T], increasing; outputs: place -> [M, T, N, K]; last: the epoch of
    the members themselves, None where nobody said it."""

    epochs: NDArray[np.float64]
    outputs: Mapping[str, Array]
    last: float | None = None

    @classmethod
    def of(cls, epochs: NDArray[np.float64], outputs: Mapping[str, Array]) -> Trajectory:
        """Of epochs [T], or [T + 1] with the members' own behind them."""
        checkpoints = min(one.shape[1] for one in outputs.values())
        if len(epochs) != checkpoints + 1:
            return cls(epochs, outputs)
        return cls(epochs[:-1], outputs, float(epochs[-1]))

    @property
    def named(self) -> NDArray[np.float64]:
        """Every epoch that is known, as `of` takes them."""
        return self.epochs if self.last is None else np.append(self.epochs, self.last)


@dataclass(frozen=True, eq=False)
class Tensors:
    """A file of safetensors. nbytes: its size; path: where it is one by itself, and not inside an archive or memory."""

    name: str
    nbytes: int
    open: Callable[[], IO[bytes]]
    path: Path | None = None

    @classmethod
    def of(cls, path: Path, name: str = "") -> Tensors:
        """A file by itself. name: what messages call it."""
        return cls(name or path.name, path.stat().st_size, lambda: path.open("rb"), path)


@dataclass(frozen=True, eq=False)
class Ensemble:
    """An ensemble made elsewhere.

    sets: by place, those of one role in the order in which they are shown, "test" wherever anything was predicted;
    samples: by method; weights: by member's id; curves: of the members' trainings, member's id -> name -> points; rest:
    what else has a place (snapshots, chains, arms, matrices), by path; left_out: what whoever wrote this could not
    keep; unread: what lay beside it and was not read; remarks: sentences about the rest.
    """

    name: str
    kind: OutputKind
    members: tuple[Member, ...]
    sets: Mapping[str, ExampleSet]
    recipe: Recipe = Recipe.UNKNOWN
    classes: tuple[str, ...] = ()
    samples: Mapping[str, MethodSamples] = field(default_factory=dict)
    trajectory: Trajectory | None = None
    weights: Mapping[str, Tensors] = field(default_factory=dict)
    curves: Mapping[str, Mapping[str, Curve]] = field(default_factory=dict)
    rest: Mapping[str, Array | Tensors] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def has_outputs(self) -> bool:
        """Whether anything is known of what the members say, and not of their trainings alone."""
        return TEST in self.sets

    @property
    def test(self) -> ExampleSet:
        return self.sets[TEST]

    @property
    def class_count(self) -> int:
        """K. Of labels alone: the names given, else the highest true label and one."""
        if not self.has_outputs:
            return len(self.classes)
        if self.kind is not OutputKind.LABELS:
            return self.test.outputs.shape[-1]
        if self.classes or self.test.labels is None or not len(self.test.labels):
            return len(self.classes)
        return int(self.test.labels.max()) + 1

    def lacking(self, place: str) -> list[str]:
        """What was given on the test set and not on this one: methods of samples, and "trajectory"."""
        given = {f"samples {method!r}": samples.outputs for method, samples in self.samples.items()}
        if self.trajectory is not None:
            given["trajectory"] = self.trajectory.outputs
        return [what for what, outputs in given.items() if TEST in outputs and place not in outputs]

    def truth(self, of: ExampleSet) -> Labels | None:
        """The true labels [N] of a set: its own, or the test set's where it is the test set changed, or its first."""
        if of.labels is None and of.role is SetRole.SHIFT and not of.has_own_images:
            return None if self.test.labels is None else self.test.labels[: of.count]
        return of.labels


def by_role(places: Iterable[str]) -> list[str]:
    """Places of one role together, in the order in which they were given: the first is what figures open on."""
    return sorted(places, key=lambda place: place.partition("/")[0])


def place_of(role: SetRole, name: str = "", intensity: int = 1) -> str:
    """Where a set of that role lies in the format on disk."""
    if role is SetRole.OOD:
        return f"ood/{name}"
    return f"shift/{name}/{intensity}" if role is SetRole.SHIFT else TEST if role is SetRole.TEST else VALIDATION
