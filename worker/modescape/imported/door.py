"""What is odd about an ensemble that comes in: looked at once, said in words, on one of five levels.

    findings = examine(ensemble)
    findings.refused            # it cannot come in: arrays that do not fit each other
    findings.failed             # {"7": "its logits are not all finite numbers"}: counted as failed, in no estimate
    findings.asked              # each with its choices: only the user knows
    findings.left_out           # copies, equal to the bit: in no claim
    findings.told               # good to know; nothing waits for it

Every threshold stands where it is used, with its reason. Outputs are read once, a member at a time; what is kept of
them are labels [M, N] and digests.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modescape.errors import InvalidInput
from modescape.imported.arrays import Array
from modescape.imported.ensemble import TEST, VALIDATION, Choice, Ensemble, ExampleSet, OutputKind, Recipe, SetRole
from modescape.imported.kinds import (
    clipped,
    logits_of,
    looks_like,
    of_nothing,
    of_one_number,
    predicted,
    telling,
    whole_of_rounded,
)
from modescape.imported.tensors import TensorHeader, header_of, matched, unmatched
from modescape.names import checked, some
from modescape.science.ensembles import fit_temperature
from modescape.science.health import NOT_FINITE, at_chance

Labels = NDArray[np.int64]
Values = NDArray[Any]

# Most networks trained with cross entropy, whose outputs are logits, fit best at a temperature between these, a little
# above 1 where they are too sure (Guo et al. 2017, table 1). Probabilities taken for logits fit best far below.
COLDEST, HOTTEST = 0.5, 2.0
_BLOCK = 1 << 20  # values at a time, 8 MB in float64
_FITTED_ON = 1 << 19  # values that a temperature is fitted on
_LEAST = 20  # examples; with fewer a temperature is no finding
_MOST_CLASSES = 4096
_OOD = (10, 1_000_000)  # images of another kind, as a spec has them: of fewer no rate of detection is one
_LONGEST_CLASS = 1000  # characters; ImageNet lists the synonyms of a class as its name
# Dividing a row by its sum s adds log s to its loss and divides its confidence by s: where rounding went up as often
# as down that is next to nothing on average; where the mean of s is off by more than this, losses and confidences are.
_TAKEN = 0.03
_PAIRS = 200  # of members whose agreement is looked at


class Level(StrEnum):
    """What becomes of it."""

    REFUSED = "refused"
    FAILED = "failed"
    ASKED = "asked"
    LEFT_OUT = "left-out"
    TOLD = "told"


class Odd(StrEnum):
    """What can be odd; answers are given under this word."""

    SHAPES = "shapes"
    NAMES = "names"
    LABELS = "labels"
    IDS = "ids"
    NOT_FINITE = "not-finite"
    CHANCE = "chance"
    KIND = "kind"
    MIXED = "mixed"
    PERMUTED = "permutation"
    RECIPE = "recipe"
    COPY = "copy"
    ORDER = "order"
    TEMPERATURE = "temperature"
    CLIPPED = "clipped"
    ZEROS = "zeros"
    SHIFT_LABELS = "shift-labels"
    UNREAD = "unread"
    REMARK = "remark"
    ASIDE = "aside"
    WRITTEN_WITHOUT = "written-without"
    WEIGHTS = "weights"
    ALONE = "alone"


@dataclass(frozen=True)
class Oddity:
    """One thing that is odd. members: whom it is about (none: all); place: of the set; choices: of questions;
    permutation: what each class of the outputs is among the labels, [K]; values: of temperatures, one a member."""

    level: Level
    what: Odd
    sentence: str
    members: tuple[str, ...] = ()
    place: str = ""
    choices: tuple[Choice, ...] = ()
    permutation: tuple[int, ...] = ()
    values: tuple[float, ...] = ()


@dataclass(frozen=True)
class Findings:
    """All that is odd, the gravest first."""

    oddities: tuple[Oddity, ...]

    @classmethod
    def of(cls, found: Iterable[Oddity]) -> Findings:
        """Put in order."""
        levels = list(Level)
        return cls(tuple(sorted(found, key=lambda one: levels.index(one.level))))

    def on(self, level: Level) -> tuple[Oddity, ...]:
        return tuple(one for one in self.oddities if one.level is level)

    @property
    def refused(self) -> tuple[Oddity, ...]:
        return self.on(Level.REFUSED)

    @property
    def failed(self) -> Mapping[str, str]:
        """member -> why it counts as failed."""
        return {member: one.sentence for one in self.on(Level.FAILED) for member in one.members}

    @property
    def asked(self) -> tuple[Oddity, ...]:
        return self.on(Level.ASKED)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Members that are copies of an earlier one."""
        return tuple(member for one in self.on(Level.LEFT_OUT) for member in one.members)

    @property
    def told(self) -> tuple[Oddity, ...]:
        return self.on(Level.TOLD)


def examine(ensemble: Ensemble, *, is_one_of_more: bool = False, keeps_order: bool = False) -> Findings:
    """Everything odd about an ensemble. Where its arrays do not fit each other nothing else is looked at.

    is_one_of_more: it is one member, and what its numbers are was said of all members before it came; keeps_order: the
    answer to the question about classes in another order was no. Raises InvalidInput for damaged files, which show when
    they are read.
    """
    if not ensemble.has_outputs:
        return Findings((*_beside(ensemble),))
    refused = list(_refused(ensemble))
    if not refused:
        looked = _look(ensemble)
        looked.is_one_of_more = is_one_of_more
        refused = [*_refused_predictions(ensemble, looked), *_refused_kinds(ensemble, looked)]
    if refused:
        return Findings(tuple(refused))
    found = [*_not_finite(ensemble, looked), *_kind(ensemble, looked)]
    broken = {member for one in found if one.level is Level.FAILED for member in one.members}
    found += _against_labels(ensemble, looked, broken)
    # Classes in another order leave no temperature that fits; the question about them says all that is known.
    explained = {who for one in found if one.what is Odd.PERMUTED and not keeps_order for who in one.members}
    found += [
        *_alone(ensemble, is_one_of_more=is_one_of_more),
        *_recipe(ensemble),
        *_copies(ensemble, looked),
        *_numbers(ensemble, looked, explained),
    ]
    return Findings.of([*found, *_beside(ensemble)])


# --- what fits together -----------------------------------------------------------------------------------------------


def _refuse(what: Odd, sentence: str, place: str = "") -> Oddity:
    return Oddity(Level.REFUSED, what, sentence, place=place)


def _refused(ensemble: Ensemble) -> Iterator[Oddity]:
    """Names that cannot be shown, K, M, N and ids that differ, and true labels outside 0 to K - 1."""
    yield from _refused_names(ensemble)
    if ensemble.classes and len(ensemble.classes) != ensemble.class_count:
        yield _refuse(
            Odd.SHAPES, f"{len(ensemble.classes)} classes have names, the outputs have {ensemble.class_count}"
        )
    if ensemble.class_count < 2:
        yield _refuse(
            Odd.LABELS, "all true labels are the same, and there are no names of classes: at least 2 are needed"
        )
    for one in ensemble.sets.values():
        yield from _refused_set(ensemble, one)
    for name, place, array, lead in _others(ensemble):
        yield from _refused_array(ensemble, name, place, array, lead)
    for method, samples in ensemble.samples.items():
        counts = {place: array.shape[1] for place, array in samples.outputs.items()}
        all_of = max(counts.values())
        if samples.strength is not None and samples.strength.shape != (len(ensemble.members), all_of):
            yield _refuse(Odd.SHAPES, f"the samples {method!r} and their strengths are of different numbers, M or S")
        if samples.better is not None and len(samples.better) != len(ensemble.members):
            said = f"of the samples {method!r} {len(samples.better)} are told to be better or not"
            yield _refuse(Odd.SHAPES, said, f"samples/{method}/better")
        for place, count in counts.items():
            if count < all_of and place in (TEST, VALIDATION):  # of other sets the first few will do
                said = f"the samples {method!r} are {all_of} a member, and on {place} {count}"
                yield _refuse(Odd.SHAPES, said, f"samples/{method}/{place}")
    if ensemble.trajectory is not None:
        yield from _refused_epochs(len(ensemble.trajectory.epochs), ensemble.trajectory.outputs)


def _refused_names(ensemble: Ensemble) -> Iterator[Oddity]:
    """Names with characters that cannot be stored, sent or shown."""
    named = [("a member", member.id) for member in ensemble.members]
    named += [("a class", name) for name in ensemble.classes]
    named += [("a method", method) for method in ensemble.samples]
    named += [("a set", one.shift.type if one.shift else one.name) for one in ensemble.sets.values()]
    for what, name in named:
        try:
            checked(name, longest=_LONGEST_CLASS)
        except InvalidInput as error:
            problem = error.problems[0]
            shown = name.encode("unicode_escape").decode()[:60]
            yield _refuse(Odd.NAMES, f"the name of {what}, '{shown}', {problem.message} (allowed: {problem.allowed})")


def _refused_epochs(epochs: int, outputs: Mapping[str, Array]) -> Iterator[Oddity]:
    for place, array in outputs.items():
        if array.shape[1] != epochs:
            yield _refuse(
                Odd.SHAPES, f"{array.name} has {array.shape[1]} checkpoints, {epochs} epochs are named", place
            )


def _others(ensemble: Ensemble) -> Iterator[tuple[str, str, Array, int]]:
    """(what, place, array, axes before the examples) of all outputs that are not a set's own."""
    for method, samples in ensemble.samples.items():
        for place, array in samples.outputs.items():
            yield f"the samples {method!r}", place, array, 2
        for place, array in samples.centre.items():
            yield f"the centres of {method!r}", place, array, 1
    if ensemble.trajectory is not None:
        for place, array in ensemble.trajectory.outputs.items():
            yield "the trajectory", place, array, 2


def _refused_set(ensemble: Ensemble, one: ExampleSet) -> Iterator[Oddity]:
    yield from _refused_axes(ensemble, one.outputs, one.place)
    truth = one.labels
    if truth is None and one.role in (SetRole.TEST, SetRole.VALIDATION):
        way = "name a file of them (labels)" if one.role is SetRole.TEST else "leave its outputs out"
        sentence = f"the set {one.place} has no true labels: put them beside as {one.place}.labels.npy, or {way}"
        yield _refuse(Odd.LABELS, sentence, one.place)
    if truth is not None:
        yield from _refused_labels(ensemble, one, truth)
    if one.ids is not None and len(one.ids) != one.count:
        yield _refuse(Odd.IDS, f"{one.place} has {one.count} examples and {len(one.ids)} ids", one.place)
    elif one.ids is not None and len(np.unique(one.ids)) != one.count:
        yield _refuse(Odd.IDS, f"two examples of {one.place} have one id", one.place)
    if one.role is SetRole.OOD and not _OOD[0] <= one.count <= _OOD[1]:
        yield _refuse(
            Odd.SHAPES, f"{one.place} has {one.count:,} images; {_OOD[0]} to {_OOD[1]:,} are allowed", one.place
        )
    if one.images is not None and one.images.shape[0] != one.count:
        yield _refuse(Odd.SHAPES, f"{one.place} has {one.count} examples and {one.images.shape[0]} images", one.place)
    if one.role is SetRole.SHIFT and not one.has_own_images:
        yield from _refused_change(ensemble.test, one)


def _refused_axes(ensemble: Ensemble, array: Array, place: str) -> Iterator[Oddity]:
    members, classes = len(ensemble.members), ensemble.class_count
    if array.shape[0] != members:
        yield _refuse(Odd.SHAPES, f"{array.name} has {array.shape[0]} members, there are {members}", place)
    if ensemble.kind is not OutputKind.LABELS and array.shape[-1] != classes:
        yield _refuse(Odd.SHAPES, f"{array.name} has {array.shape[-1]} classes, the test outputs {classes}", place)


def _refused_labels(ensemble: Ensemble, one: ExampleSet, truth: Labels) -> Iterator[Oddity]:
    if len(truth) != one.count:
        yield _refuse(Odd.SHAPES, _other_count(ensemble.kind, one, len(truth)), one.place)
    low, high, classes = int(truth.min()), int(truth.max()), ensemble.class_count
    if low < 0 or high >= classes:
        counted = "; they seem to count from 1: subtract 1" if low == 1 and high == classes else ""
        yield _refuse(
            Odd.LABELS, f"the labels of {one.place} run from {low} to {high}, and the outputs have {classes} classes, "
            f"0 to {classes - 1}{counted}", one.place,
        )  # fmt: skip


def _other_count(kind: OutputKind, one: ExampleSet, labels: int) -> str:
    """Why a set has another number of examples than of labels, where that shows."""
    shape = one.outputs.shape
    if kind is not OutputKind.LABELS and shape[0] == 1 and shape[-1] == labels:
        hint = of_one_number(np.asarray(next(one.outputs.rows())))
        return f"the outputs on {one.place} are [{shape[1]}, {shape[2]}], and there are {labels} labels; {hint}"
    said = f"{one.place} has outputs of {one.count} examples and {labels} labels"
    if kind is OutputKind.LABELS and shape[0] == labels:
        return (
            f"{said}; predicted labels are [members, examples]: where these are [examples, classes] of one member, "
            "give outputs.argmax(-1)[None], or logits as outputs.astype('float32')"
        )
    return said


def _refused_change(test: ExampleSet, one: ExampleSet) -> Iterator[Oddity]:
    """A set said to be the test set changed, image by image, has its images, or the first of them, in its order."""
    if one.count > test.count:
        yield _refuse(
            Odd.SHAPES, f"{one.place} has {one.count} examples, the test set it is made of {test.count}", one.place
        )
    elif one.ids is not None and test.ids is not None and not np.array_equal(one.ids, test.ids[: one.count]):
        yield _refuse(Odd.IDS, f"the ids of {one.place} are not those of the test set, in its order", one.place)


def _refused_array(ensemble: Ensemble, name: str, place: str, array: Array, lead: int) -> Iterator[Oddity]:
    if place not in ensemble.sets:
        yield _refuse(Odd.SHAPES, f"{name} have outputs of {place}, the members have none", place)
        return
    yield from _refused_axes(ensemble, array, place)
    if array.shape[lead] != ensemble.sets[place].count:
        yield _refuse(
            Odd.SHAPES,
            f"{name} have {array.shape[lead]} examples of {place}, members {ensemble.sets[place].count}",
            place,
        )


# --- one look at the numbers ------------------------------------------------------------------------------------------


@dataclass
class _Seen:
    """What rows can only be, put together piece by piece. kind: None before the first; rounded: what probabilities sum
    to, 1 or 100, that do so only as far as their rounding lets them."""

    kind: OutputKind | None = None
    rounded: int | None = None

    def add(self, rows: Values) -> None:
        """rows [n, K], finite. One row that is nothing else decides."""
        rows = telling(rows)
        if self.kind is OutputKind.LOGITS or not len(rows):
            return
        like = looks_like(rows)
        if like is OutputKind.LOGITS and (whole := whole_of_rounded(rows)):
            like, self.rounded = OutputKind.PROBS, max(whole, self.rounded or 0)
        self.kind = like if self.kind in (None, like) else OutputKind.LOGITS


@dataclass
class _Look:
    """What one member says of one set. labels: [N]; clipped, zeros, zero_truths: how many numbers; seen: what its rows
    can only be; sums: of rows that are taken for probabilities [N], else empty; digest: of its bytes."""

    labels: Labels
    is_finite: bool = True
    clipped: int = 0
    zeros: int = 0
    zero_truths: int = 0
    seen: _Seen = field(default_factory=_Seen)
    sums: list[NDArray[np.float32]] = field(default_factory=list)
    digest: str = ""


@dataclass
class _Looks:
    """sets: place -> a look for each member; others: (what, place) -> members some of whose functions are not finite;
    seen: (what, place) -> each member, and what one of those functions can only be; temperatures: member -> fitted;
    is_one_of_more: as `examine` has it."""

    sets: dict[str, list[_Look]] = field(default_factory=dict)
    others: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    seen: dict[tuple[str, str], list[tuple[int, _Seen]]] = field(default_factory=dict)
    temperatures: dict[int, float] = field(default_factory=dict)
    is_one_of_more: bool = False

    def kinds(self) -> Iterator[tuple[str, str, int, _Seen]]:
        """(what, "" of the members themselves; place; member; what it can only be) of every function that is finite."""
        for place, looks in self.sets.items():
            yield from (("", place, number, look.seen) for number, look in enumerate(looks) if look.is_finite)
        for (what, place), found in self.seen.items():
            yield from ((what, place, number, seen) for number, seen in found)

    def of_kind(self, *kinds: OutputKind) -> dict[tuple[str, str], list[int]]:
        """(what, place) -> members of whose functions some can only be of one of these kinds."""
        found: dict[tuple[str, str], list[int]] = {}
        for what, place, number, seen in self.kinds():
            if seen.kind in kinds and number not in (numbers := found.setdefault((what, place), [])):
                numbers.append(number)
        return found


def _look(ensemble: Ensemble) -> _Looks:
    """All outputs, once."""
    found = _Looks()
    fitted_on = "validation" if "validation" in ensemble.sets else TEST
    for place, one in ensemble.sets.items():
        truth = ensemble.truth(one)
        found.sets[place] = []
        for number, block in enumerate(one.outputs.rows()):
            look = _look_at(block, ensemble.kind, truth)
            found.sets[place].append(look)
            if place == fitted_on and look.is_finite and truth is not None:
                _fit(found.temperatures, number, block, truth, ensemble.kind)
    for name, place, array, lead in _others(ensemble):
        odd = found.others.setdefault((name, place), [])
        each = math.prod(array.shape[1:lead])
        seen = found.seen.setdefault((name, place), [])
        for number, block in enumerate(array.blocks(lead)):
            if ensemble.kind is OutputKind.LABELS:
                continue
            if _is_finite(block, ensemble.kind):
                seen.append((number // each, _seen(block, ensemble.kind)))
            elif number // each not in odd:
                odd.append(number // each)
    return found


def _seen(block: Values, kind: OutputKind) -> _Seen:
    """block: [N, K], finite."""
    seen = _Seen()
    for part in _parts(block):
        if seen.kind is OutputKind.LOGITS:
            break
        seen.add(_plain(block[part], kind))
    return seen


def _plain(some: Values, kind: OutputKind) -> Values:
    """NumPy computes with float16 ten times slower, and these are the same numbers."""
    if some.dtype != np.float16:
        return some
    return (clipped(some) if kind is OutputKind.LOGITS else some).astype(np.float32)


def _parts(block: Values) -> Iterator[slice]:
    rows = max(1, _BLOCK // max(1, block[0].size))
    return (slice(start, start + rows) for start in range(0, len(block), rows))


def _look_at(block: Values, kind: OutputKind, truth: Labels | None) -> _Look:
    """block: [N, K], of labels [N]."""
    look = _Look(np.empty(len(block), np.int64), digest=hashlib.sha256(np.ascontiguousarray(block).data).hexdigest())
    for part in _parts(block):
        some = block[part]
        if some.dtype == np.float16 and kind is OutputKind.LOGITS:
            look.clipped += int(np.isinf(some).sum())
        some = _plain(some, kind)
        look.labels[part] = predicted(kind, some)
        if kind is not OutputKind.LABELS:
            _look_at_numbers(look, some, kind, None if truth is None else truth[part])
    return look


def _look_at_numbers(look: _Look, some: Values, kind: OutputKind, truth: Labels | None) -> None:
    look.is_finite &= _is_finite(some, kind)
    if not look.is_finite:
        return
    if kind is OutputKind.PROBS:
        look.sums.append(some.sum(axis=-1, dtype=np.float64).astype(np.float32))
    nothing = np.asarray(some == 0) if kind is OutputKind.PROBS else np.isneginf(some)
    look.zeros += int(nothing.sum())
    look.zero_truths += 0 if truth is None else int(nothing[np.arange(len(some)), truth].sum())
    look.seen.add(some)


def _is_finite(some: Values, kind: OutputKind) -> bool:
    """Infinities of float16 logits did not fit, a logit of a masked class and a log-probability may be minus infinity,
    though not all of a row, and no more may all probabilities be 0; all else must be finite."""
    if kind is OutputKind.LABELS:
        return True
    if kind is OutputKind.LOGITS:
        some = clipped(some)
    are_numbers = np.isfinite(some) if kind is OutputKind.PROBS else some < np.inf
    return bool(are_numbers.all()) and not of_nothing(some, kind).any()


def _fit(into: dict[int, float], number: int, block: Values, truth: Labels, kind: OutputKind) -> None:
    """On examples spread evenly over the set; a member that is right on all of those has no temperature."""
    if kind is OutputKind.LABELS or len(truth) < _LEAST:
        return
    step = -(-block.size // _FITTED_ON)
    some, labels = block[::step], truth[::step]
    if kind is OutputKind.PROBS and float(some.min()) < 0:
        return
    logits = logits_of(kind, some).astype(np.float64)
    if (logits.argmax(axis=-1) != labels).any() and len(labels) >= _LEAST:
        into[number] = fit_temperature(logits, labels)


# --- what was seen ----------------------------------------------------------------------------------------------------


def _names(ensemble: Ensemble, numbers: Sequence[int]) -> tuple[str, ...]:
    return tuple(ensemble.members[number].id for number in numbers)


def _listed(names: Sequence[str]) -> str:
    """Member 3; members 1, 2 and 3; of many the first few."""
    if len(names) == 1:
        return f"Member {names[0]}"
    if len(names) > 8:
        return f"Members {', '.join(names[:6])} and {len(names) - 6} more"
    return f"Members {', '.join(names[:-1])} and {names[-1]}"


def _refused_predictions(ensemble: Ensemble, looked: _Looks) -> Iterator[Oddity]:
    """Predicted labels outside 0 to K - 1."""
    if ensemble.kind is not OutputKind.LABELS:
        return
    for place, looks in looked.sets.items():
        low, high = min(int(look.labels.min()) for look in looks), max(int(look.labels.max()) for look in looks)
        if low < 0 or high >= ensemble.class_count:
            yield _refuse(
                Odd.LABELS,
                f"predicted labels of {place} run from {low} to {high}, of classes 0 to {ensemble.class_count - 1}; "
                "where some classes do not occur among the true labels, give the names of all",
                place,
            )


_BROKEN = {
    OutputKind.LOGITS: "NaN, infinities above 0 or rows of nothing but -inf",
    OutputKind.PROBS: "NaN, infinities or rows of nothing but 0, whose probabilities sum to 0,",
    OutputKind.LOG_PROBS: "NaN, infinities above 0 or rows of nothing but -inf, whose probabilities sum to 0,",
}


def _not_finite(ensemble: Ensemble, looked: _Looks) -> Iterator[Oddity]:
    """A run with one number that is none has failed, on whatever set (health.run_failure); a line for equal members."""
    on: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for place, looks in looked.sets.items():
        numbers = tuple(number for number, look in enumerate(looks) if not look.is_finite)
        on.setdefault(("", numbers), []).append(place)
    for (what, place), others in looked.others.items():
        on.setdefault((what, tuple(others)), []).append(place)
    for (what, numbers), places in on.items():
        if numbers:
            names = _names(ensemble, numbers)
            where = f"{f'in {what}' if what else 'among the outputs'} on {some(places, 4)}"
            then = "those functions count as failed" if what else NOT_FINITE
            sentence = f"{_listed(names)}: {_BROKEN[ensemble.kind]} {where}; {then}"
            yield Oddity(Level.TOLD if what else Level.FAILED, Odd.NOT_FINITE, sentence, names, places[0])


_ROWS = {
    OutputKind.PROBS: "are at least 0 and sum to 1, as probabilities do",
    OutputKind.LOG_PROBS: "are logarithms of rows that sum to 1",
    OutputKind.LOGITS: "do not sum to 1",
}
_ROUNDED = {
    1: "are from 0 to 1 and sum to 1 as far as their decimals let them, as rounded probabilities do",
    100: "are from 0 to 100 and sum to 100 as far as their decimals let them, as probabilities in percent do",
}


def _refused_kinds(ensemble: Ensemble, looked: _Looks) -> Iterator[Oddity]:
    """Some functions whose rows cannot be what all are called, where others' are: no one answer would be right."""
    if ensemble.kind in (OutputKind.LABELS, OutputKind.LOGITS):
        return
    if _could_be(ensemble.kind, looked) is not None and not looked.is_one_of_more:
        return
    found = {kind: looked.of_kind(kind) for kind in OutputKind if kind is not ensemble.kind}
    others = ((what, place, kind, some) for kind, of in found.items() for (what, place), some in of.items())
    for what, place, kind, numbers in others:
        functions, called = _functions(ensemble, looked, what, place, numbers), ensemble.kind.value
        sentence = (
            f"{functions} are taken for {called}, as all are, but their rows {_ROWS[kind]}: give every set of every "
            f"member as one kind of numbers{_MADE.get((kind, ensemble.kind), '')}"
        )
        yield Oddity(Level.REFUSED, Odd.KIND, sentence, _names(ensemble, numbers), place)


# How numbers of one kind become those of another.
_MADE = {
    (OutputKind.LOGITS, OutputKind.PROBS): "; of logits z scipy.special.softmax(z, -1) are probabilities",
    (OutputKind.LOG_PROBS, OutputKind.PROBS): "; of logarithms l np.exp(l) are probabilities",
    (OutputKind.PROBS, OutputKind.LOG_PROBS): "; of probabilities p np.log(p) are their logarithms",
}


def _could_be(called: OutputKind, looked: _Looks) -> OutputKind | None:
    """What all functions that are finite can be together, `called` where they can be that; None: nothing."""
    seen = {one.kind for _, _, _, one in looked.kinds()} - {None}
    if seen <= {called} or (called is OutputKind.LOGITS and OutputKind.PROBS not in seen):
        return called  # log-probabilities are logits, too
    if len(seen) == 1:
        return seen.pop()
    return None if OutputKind.PROBS in seen else OutputKind.LOGITS


def _functions(ensemble: Ensemble, looked: _Looks, what: str, place: str, numbers: Sequence[int]) -> str:
    are_all = len(numbers) == len(ensemble.members) and not looked.is_one_of_more
    who = "The outputs" if are_all else f"{_listed(_names(ensemble, numbers))}: outputs"
    return f"{who} on {place}{f', of {what},' if what else ''}"


def _those(ensemble: Ensemble, looked: _Looks, found: Mapping[tuple[str, str], Sequence[int]]) -> str:
    return "; ".join(_functions(ensemble, looked, what, place, some) for (what, place), some in found.items())


def _kind(ensemble: Ensemble, looked: _Looks) -> Iterator[Oddity]:
    """Whether the numbers are what they are called, by every function that is finite, on every set.

    Logits are defined up to a constant a row, so nothing makes every row of theirs sum to 1 with no number below 0;
    what does so on a whole set is most likely a softmax. Probabilities must do so in every row; those that do but for
    their rounding are made to.
    """
    if ensemble.kind is OutputKind.LABELS:
        return
    like, logits = _could_be(ensemble.kind, looked), OutputKind.LOGITS
    wholes = [seen.rounded or 0 for _, _, _, seen in looked.kinds() if seen.kind is OutputKind.PROBS]
    rounded = max(wholes, default=0)
    if like is ensemble.kind:
        if like is OutputKind.PROBS and rounded:
            said = (
                f"Some rows sum to {rounded} only as far as rounded probabilities do; they were divided by their sums"
            )
            taken = list(_taken(looked, rounded))
            yield from taken or [Oddity(Level.TOLD, Odd.KIND, said)]
        return
    is_rounded = like in (None, OutputKind.PROBS) and bool(rounded)
    if like is None or looked.is_one_of_more:  # and they were taken for logits, else refused
        yield _among_logits(ensemble, looked, _ROUNDED[rounded] if is_rounded else _ROWS[OutputKind.PROBS])
        return
    as_called = Choice(ensemble.kind.value, f"they are {ensemble.kind.value}")
    # What does not sum to 1 cannot be probabilities; rows that do may be logits.
    made = f"they are {like.value}{', and every row is divided by its sum' if is_rounded else ''}"
    choices = (Choice(like.value, made), *([as_called] if ensemble.kind is logits else []))
    what = _ROUNDED[rounded] if is_rounded else _ROWS[like]
    # Nobody may have called them so: it is what numbers are that nothing was said of.
    where, place = "The outputs were", TEST
    if looked.of_kind(ensemble.kind):  # of some only, and logits are all, for the logarithms of probabilities are
        found = looked.of_kind(*(kind for kind in OutputKind if kind is not ensemble.kind))
        where, place = f"{_those(ensemble, looked, found)} were, as all are,", next(iter(found))[1]
        choices = (Choice(like.value, f"all are {like.value}, which {ensemble.kind.value} are, too"),)
    sentence = f"{where} taken for {ensemble.kind.value}, but their rows {what}. What are they?"
    yield Oddity(Level.ASKED, Odd.KIND, sentence, place=place, choices=choices)


def _taken(looked: _Looks, whole: int) -> Iterator[Oddity]:
    """Sets on which rounding has taken so much of the probability, or added to it, that what is left is no measure of
    the networks'. See `_TAKEN`."""
    for place, looks in looked.sets.items():
        parts = [part for look in looks if look.is_finite for part in look.sums]
        sums = np.concatenate(parts) / whole if parts else np.ones(1)
        if abs(float(sums.mean(dtype=np.float64)) - 1) <= _TAKEN:
            continue
        mean, median = float(sums.mean(dtype=np.float64)), float(np.median(sums))
        changed = "took" if mean < 1 else "added"
        yield Oddity(
            Level.TOLD, Odd.KIND,
            f"Rounding {changed} {abs(1 - mean):.0%} of the probability on {place} (rows of the rounded numbers sum to "
            f"{median * whole:.3g} in the median and not to {whole}), and every row was divided by its sum. Losses, "
            "Brier scores and calibration are of what is left and cannot be read as the networks'; accuracy and "
            "disagreement can. Give the probabilities with all their decimals, or the logits", place=place,
        )  # fmt: skip


def _among_logits(ensemble: Ensemble, looked: _Looks, rows: str) -> Oddity:
    """Some of what is called logits looks like probabilities, and the rest does not. rows: what theirs are."""
    found = looked.of_kind(OutputKind.PROBS)
    where = _those(ensemble, looked, found)
    rest = "as all members' are, but their rows" if looked.is_one_of_more else "and the rest is, but their rows"
    sentence = (
        f"{where} were taken for logits, {rest} {rows}. What are they? Where they are probabilities p, give np.log(p), "
        "which are logits, too"
    )
    members = sorted({number for numbers in found.values() for number in numbers})
    keep = Choice("keep", "they are logits")
    return Oddity(Level.ASKED, Odd.MIXED, sentence, _names(ensemble, members), next(iter(found))[1], choices=(keep,))


def _against_labels(ensemble: Ensemble, looked: _Looks, broken: set[str]) -> list[Oddity]:
    """Members at chance, and why that may be: classes in another order, or examples."""
    truth = ensemble.test.labels
    assert truth is not None  # else refused
    found: list[Oddity] = []
    ids = [member.id for member in ensemble.members]
    whole = [number for number in range(len(ids)) if ids[number] not in broken]
    labels = {number: looked.sets[TEST][number].labels for number in whole}
    permuted: dict[tuple[int, ...], list[int]] = {}
    for number in whole:
        if fits := better_permutation(labels[number], truth, ensemble.class_count):
            permuted.setdefault(fits, []).append(number)
    for fits, numbers in permuted.items():
        found.append(_permuted(ensemble, fits, numbers, {n: labels[n] for n in numbers}, truth))
    lost = {n: why for n in whole if (why := at_chance(labels[n], truth, ensemble.class_count))}
    explained = {number for numbers in permuted.values() for number in numbers}
    for number, why in lost.items():
        if number not in explained:
            sentence = f"{_listed([ids[number]])}: {why}"
            found.append(Oddity(Level.FAILED, Odd.CHANCE, sentence, (ids[number],), TEST))
    lonely = [number for number in lost if number not in explained]
    if len(lonely) > 1 and _agree({number: labels[number] for number in lonely}, ensemble.class_count):
        names = _names(ensemble, lonely)
        sentence = (
            f"{_listed(names)} agree with each other, but not with the labels: are outputs and labels in the same "
            "order of examples?"
        )
        found.append(Oddity(Level.TOLD, Odd.ORDER, sentence, names, TEST))
    return found


def better_permutation(labels: Labels, truth: Labels, classes: int) -> tuple[int, ...] | None:
    """A renaming of the predicted classes under which labels [N] fit the truth [N] far better; None where none does.

    [k] is the true class that predicted class k is. It is told when of the true examples of the classes that it moves
    more than half are right under it (which leaves less than half to any other naming, whatever the network's
    mistakes), and the examples that it gains against those it loses are too many for chance: by the normal
    approximation of McNemar's test, over all of the at most K^m renamings of as many classes, at 1 in 1000. Not looked
    for among more than 4,096 classes, whose table of pairs would not fit.
    """
    from scipy.optimize import linear_sum_assignment

    if classes > _MOST_CLASSES:
        return None
    table = np.zeros((classes, classes), np.int64)  # [predicted, true]
    np.add.at(table, (labels, truth), 1)
    _, best = linear_sum_assignment(table + np.eye(classes) * 0.5, maximize=True)  # of equals the one that stays
    moved = np.flatnonzero(best != np.arange(classes))
    if not len(moved):
        return None
    gained, lost = int(table[moved, best[moved]].sum()), int(table[moved, moved].sum())
    needed = 2 * (len(moved) * math.log(classes) + math.log(1000))
    if 2 * gained <= int(table[:, best[moved]].sum()) or (gained - lost) ** 2 <= needed * (gained + lost):
        return None
    return tuple(best.tolist())


def _permuted(
    ensemble: Ensemble, fits: tuple[int, ...], numbers: list[int], labels: Mapping[int, Labels], truth: Labels
) -> Oddity:
    names = _names(ensemble, numbers)
    before = float(np.mean([np.mean(one == truth) for one in labels.values()]))
    renamed = np.array(fits)
    after = float(np.mean([np.mean(renamed[one] == truth) for one in labels.values()]))
    moved = [f"{_class(ensemble, k)} is {_class(ensemble, to)}" for k, to in enumerate(fits) if k != to]
    sentence = (
        f"{_listed(names)}: right on {before:.1%} of the test set, on {after:.1%} if the classes of the outputs were "
        f"named otherwise ({some(moved, 10)}). Are they in another order than the labels'?"
    )
    choices = (Choice("apply", "yes: put the classes in the labels' order"), Choice("keep", "no: leave them"))
    return Oddity(Level.ASKED, Odd.PERMUTED, sentence, names, TEST, choices, fits)


def _class(ensemble: Ensemble, number: int) -> str:
    return ensemble.classes[number] if ensemble.classes else str(number)


def _agree(labels: Mapping[int, Labels], classes: int) -> bool:
    """Whether members agree on most of what they could differ on: Cohen's kappa at least 1/2, the median over pairs.

    Functions that ignore the images agree as often as their classes' frequencies make them, kappa 0; two that are each
    right three times in four agree at least every second time.
    """
    pairs = list(combinations(labels, 2))[:_PAIRS]
    return float(np.median([_kappa(labels[one], labels[other], classes) for one, other in pairs])) >= 0.5


def _kappa(one: Labels, other: Labels, classes: int) -> float:
    first, second = np.bincount(one, minlength=classes), np.bincount(other, minlength=classes)
    by_chance = float(first @ second) / len(one) ** 2
    return 0.0 if by_chance >= 1 else (float(np.mean(one == other)) - by_chance) / (1 - by_chance)


def _alone(ensemble: Ensemble, *, is_one_of_more: bool) -> Iterator[Oddity]:
    if len(ensemble.members) == 1 and not is_one_of_more:
        sentence = (
            "There is one member, which can be compared with nothing: its own accuracy is what is told. A comparison "
            "needs 2 members, and a word on a claim 3 or more"
        )
        yield Oddity(Level.TOLD, Odd.ALONE, sentence)


def _recipe(ensemble: Ensemble) -> Iterator[Oddity]:
    """Copies and failures apart, a test of a claim needs members that are exchangeable. Only the user knows."""
    seeds = [member.seed for member in ensemble.members if member.seed is not None]
    if ensemble.recipe is Recipe.UNKNOWN and len(ensemble.members) > 1:
        known = [
            {key: value for key, value in member.config.items() if value != member.seed} for member in ensemble.members
        ]
        hint = (
            f"What was noted of them {'is the same' if all(one == known[0] for one in known) else 'differs'}. "
            * any(known)
        )
        sentence = (
            f"Are the members of one recipe, and differ by their seeds alone? {hint}Until that is said no claim has a "
            "word."
        )
        choices = (
            Choice(Recipe.SAME.value, "yes: same recipe, different seeds"),
            Choice(Recipe.DIFFERENT.value, "no: they differ in more"),
            Choice(Recipe.UNKNOWN.value, "not known"),
        )
        yield Oddity(Level.ASKED, Odd.RECIPE, sentence, choices=choices)
    if ensemble.recipe is Recipe.SAME and len(set(seeds)) < len(seeds):
        yield Oddity(
            Level.TOLD, Odd.RECIPE, "Two members of the same recipe have the same seed: were they trained apart?"
        )


def _copies(ensemble: Ensemble, looked: _Looks) -> Iterator[Oddity]:
    """Members whose outputs on every set are those of an earlier one, to the bit. Of labels alone, functions that are
    right everywhere may agree on all without being copies, so that is told and nothing is left out."""
    first: dict[tuple[str, ...], int] = {}
    copies: dict[int, list[int]] = {}
    for number in range(len(ensemble.members)):
        digests = tuple(looks[number].digest for looks in looked.sets.values())
        if digests in first:
            copies.setdefault(first[digests], []).append(number)
        first.setdefault(digests, number)
    level = Level.TOLD if ensemble.kind is OutputKind.LABELS else Level.LEFT_OUT
    for original, numbers in copies.items():
        names, of = _names(ensemble, numbers), ensemble.members[original].id
        verb = "is" if len(names) == 1 else "are"
        sentence = f"{_listed(names)} {verb} equal to member {of} to the last bit, on every set"
        yield Oddity(level, Odd.COPY, sentence, names)


def _numbers(ensemble: Ensemble, looked: _Looks, explained: set[str]) -> Iterator[Oddity]:
    """Temperatures, infinities of float16 and probabilities of 0. explained: members whose temperature something else
    makes what it is."""
    fits = {n: value for n, value in looked.temperatures.items() if ensemble.members[n].id not in explained}
    odd = {n: value for n, value in fits.items() if not COLDEST <= value <= HOTTEST}
    if odd:
        yield of_temperatures({ensemble.members[n].id: value for n, value in odd.items()})
    for place, looks in looked.sets.items():
        yield from _rounded(ensemble, place, looks)


def of_temperatures(odd: Mapping[str, float]) -> Oddity:
    """What is said of members whose best temperature is far from 1."""
    low, high = min(odd.values()), max(odd.values())
    span = " to ".join(f"{round(one)}" if one >= 10 else f"{one:.2g}" for one in sorted({low, high}))
    sentence = (
        f"{_listed(list(odd))}: the temperature that fits best is {span}, far from 1 ({COLDEST} to {HOTTEST}). Were "
        "the outputs scaled, or are they of another kind than they were taken for?"
    )
    return Oddity(Level.TOLD, Odd.TEMPERATURE, sentence, tuple(odd), values=tuple(odd.values()))


def _rounded(ensemble: Ensemble, place: str, looks: Sequence[_Look]) -> Iterator[Oddity]:
    if many := sum(look.clipped for look in looks):
        names = _names(ensemble, [number for number, look in enumerate(looks) if look.clipped])
        sentence = f"{many:,} logits on {place} did not fit float16; they count as its largest number, 65,504"
        yield Oddity(Level.TOLD, Odd.CLIPPED, sentence, names, place)
    if zeros := sum(look.zeros for look in looks):
        names = _names(ensemble, [number for number, look in enumerate(looks) if look.zeros])
        true = sum(look.zero_truths for look in looks)
        numbers = f"the smallest number that {ensemble.sets[place].outputs.dtype} has"
        of_true = f"{true:,} of them of the true class"
        if ensemble.kind is OutputKind.LOGITS:
            sentence = (
                f"{zeros:,} logits on {place} are minus infinity, as of masked classes, {of_true}; the probabilities "
                f"of those classes count as {numbers}"
            )
        else:
            sentence = f"{zeros:,} probabilities on {place} are exactly 0, {of_true}; they count as {numbers}"
        yield Oddity(Level.TOLD, Odd.ZEROS, sentence, names, place)


def _beside(ensemble: Ensemble) -> Iterator[Oddity]:
    """What was not read, what was not written, and labels that say nothing new."""
    for one in ensemble.sets.values():
        repeated = one.labels is not None and one.has_own_images and np.array_equal(one.labels, _labels_of(ensemble))
        if one.role is SetRole.SHIFT and repeated:
            sentence = (
                f"The labels of {one.place} are those of the test set, in its order. If its images are the test set's, "
                "changed, leave its labels out: the two are then compared image by image"
            )
            yield Oddity(Level.TOLD, Odd.SHIFT_LABELS, sentence, place=one.place)
    for one in ensemble.sets.values():
        if one.role is SetRole.SHIFT and ensemble.truth(one) is None:
            sentence = (
                f"{one.place} is left aside: its images are not the test images, and it has no labels. Give it labels, "
                "or call it a set of OOD images"
            )
            yield Oddity(Level.TOLD, Odd.ASIDE, sentence, place=one.place)
    if VALIDATION in ensemble.sets and (lacking := ensemble.lacking(VALIDATION)):
        sentence = (
            f"The validation set is left aside, for {' and '.join(lacking)} came without outputs on it: give them too, "
            "beside those on the test set"
        )
        yield Oddity(Level.TOLD, Odd.ASIDE, sentence, place=VALIDATION)
    yield from of_weights({member: header_of(tensors) for member, tensors in ensemble.weights.items()})
    without = [member.id for member in ensemble.members if member.id not in ensemble.weights]
    if ensemble.weights and without:
        sentence = (
            f"{_listed(without)} {'has' if len(without) == 1 else 'have'} no weights: claim (a), which is over all "
            "members, cannot be told"
        )
        yield Oddity(Level.TOLD, Odd.WEIGHTS, sentence, tuple(without))
    for remark in ensemble.remarks:
        yield Oddity(Level.TOLD, Odd.REMARK, remark)
    if ensemble.unread:
        yield not_read(ensemble.unread)
    if ensemble.left_out:
        yield Oddity(Level.TOLD, Odd.WRITTEN_WITHOUT, f"Whoever wrote this left out: {_the_first(ensemble.left_out)}")


def of_weights(headers: Mapping[str, TensorHeader]) -> Iterator[Oddity]:
    """What of the members' weights is not compared, because not every file has it. headers: by member."""
    if len(headers) < 2 or not (left_out := unmatched(headers)):
        return
    shown = "; ".join(f"{name}, {why}" for name, why in left_out[:5])
    more = f"; and {len(left_out) - 5:,} more" if len(left_out) > 5 else ""
    if matched(list(headers.values())):
        said = "Weights are compared, and claim (a) is read, on the tensors that every member has alike. Left out: "
    else:
        said = "Weights are not compared, and claim (a) cannot be told: no tensor is alike in every member's file. "
    yield Oddity(Level.TOLD, Odd.WEIGHTS, f"{said}{shown}{more}")


def not_read(names: Sequence[str]) -> Oddity:
    """What lay beside the files that were read."""
    return Oddity(Level.TOLD, Odd.UNREAD, f"Not read: {_the_first(names)}")


def _the_first(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (" and more" if len(names) > 10 else "")


def _labels_of(ensemble: Ensemble) -> Labels:
    truth = ensemble.test.labels
    return np.empty(0, np.int64) if truth is None else truth
