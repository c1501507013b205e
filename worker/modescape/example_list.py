"""Asking for single examples: conditions, sorting and pages by keyset, over what the stage `examples` left.

    kept = ExampleSet.of(results, "test")
    page = kept.page(ListQuery((Condition("wrong", "eq", True),), sort="-disagreement"))
    page.items[0].index, page.items[0].votes

The arrays are mapped from disk, so a page reads the columns that it sorts and filters by (50,000 examples: 0.4 MB each)
and the rows that it shows. An example without a number comes last in either direction; ties go by the example's number.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from modescape.columns import Kind
from modescape.drawing.words import thousands
from modescape.errors import InvalidInput, NotFound
from modescape.listing import MAX_LIMIT, AllOf, AnyOf, Clause, ListQuery, Not, Page
from modescape.records import Json, StageState
from modescape.results import Results
from modescape.science.examples import ExampleNumber, OfClass, OfEach, by_class

Values = NDArray[Any]

NO_IMAGES = "no images came with this ensemble"


class ExamplesNotReady(NotFound):
    """There are no numbers of single examples: what makes them is planned and has not ended, was never planned, or
    (is_closed) cannot be made."""

    def __init__(self, message: str, *, is_planned: bool, is_closed: bool) -> None:
        super().__init__(message)
        self.is_planned, self.is_closed = is_planned, is_closed


@dataclass(frozen=True)
class ExampleField:
    """A column of examples, as `columns.Field` is one of rows: name in a query and in documents; words in a sentence;
    heading on the page."""

    name: str
    kind: Kind
    words: str
    heading: str = ""
    choices: tuple[str, ...] = ()
    prose: bool = False
    most: float | None = None
    sortable: bool = True
    description: str = ""

    @staticmethod
    def now(text: str) -> str:
        return text


INDEX = ExampleField("index", Kind.WHOLE, "number", "Image", description="Its row in every array of predictions.")
LABEL = ExampleField("label", Kind.WHOLE, "true class", "True", description="Index of the true class.")
ANSWER = ExampleField("answer", Kind.WHOLE, "the ensemble's answer", "Ensemble", description="Index of a class.")
WRONG = ExampleField(
    "wrong", Kind.FLAG, "ensemble wrong", sortable=False, description="Whether the ensemble's answer is wrong."
)
SPLIT = ExampleField(
    "split", Kind.FLAG, "members disagree", sortable=False, description="Whether any two members answer differently."
)

_NUMBERS = {
    ExampleNumber.DISAGREEMENT: ("disagreement of members", "Disagree", "Share of pairs of members that differ."),
    ExampleNumber.MUTUAL_INFORMATION: ("mutual information", "Mutual inf.", "Epistemic part of the entropy, nats."),
    ExampleNumber.ENTROPY: ("predictive entropy", "Entropy", "Of the ensemble's probabilities, nats."),
    ExampleNumber.VOTE_ENTROPY: ("entropy of the votes", "Vote entropy", "Of the members' labels, nats."),
    ExampleNumber.LOSS: ("the ensemble's loss", "Loss", "Negative log-likelihood of the true class, nats."),
    ExampleNumber.CONFIDENCE: ("the ensemble's confidence", "Confidence", "Probability of its answer."),
    ExampleNumber.WRONG_AND_SURE: ("confidence where wrong", "Sure, though wrong", "Its confidence where it is wrong."),
    ExampleNumber.MEMBERS_WRONG: ("number of members that are wrong", "Wrong", "How many members are wrong."),
}


def named(number: ExampleNumber) -> str:
    """As queries and documents have it."""
    return number.replace("-", "_")


_FIELDS = {
    number: ExampleField(named(number), Kind.NUMBER, words, heading, description=about)
    for number, (words, heading, about) in _NUMBERS.items()
}


@dataclass(frozen=True)
class ExampleFields:
    """What can be asked of the examples of one set; the same questions as of other lists (`columns.Fields`)."""

    all: tuple[ExampleField, ...]
    sort: str
    noun: str = "Images"
    searchable: str = ""
    selectable: bool = True

    @property
    def sort_words(self) -> Mapping[str, str]:
        return {"index": "by number"}

    @cached_property
    def asked(self) -> dict[str, ExampleField]:
        return {field.name: field for field in self.all}

    def find(self, name: str) -> ExampleField | None:
        return self.asked.get(name)

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """Of documents and tables."""
        return (*(field.name for field in self.all), "votes", "name")


ALL_FIELDS = ExampleFields((INDEX, LABEL, ANSWER, WRONG, SPLIT, *_FIELDS.values()), "-disagreement")


@dataclass(frozen=True)
class Example:
    """One example: numbers by name (None where there is none); votes: every member's label, in the order of `runs`."""

    index: int
    label: int | None
    answer: int
    votes: tuple[int, ...]
    numbers: Mapping[str, float | None]
    name: str = ""

    @property
    def wrong(self) -> bool | None:
        return None if self.label is None else self.label != self.answer

    @property
    def split(self) -> bool:
        return len(set(self.votes)) > 1

    def document(self) -> Json:
        about = {"index": self.index, "label": self.label, "answer": self.answer, "wrong": self.wrong,
                 "split": self.split}  # fmt: skip
        return about | dict(self.numbers) | {"votes": list(self.votes), "name": self.name}


@dataclass(frozen=True)
class Listed:
    """One set there is, for choosing: how it is asked for, its title, how many examples."""

    name: str
    title: str
    examples: int


@dataclass(frozen=True)
class Found:
    """Examples in order: rows of all that meet the conditions, before a cursor or a limit is looked at."""

    rows: NDArray[np.int64]
    keys: NDArray[np.float64]  # ascending; NaN last


def sets_of(results: Results) -> list[Listed]:
    """Every set whose examples have numbers. Raises ExamplesNotReady."""
    return [Listed(name, kept["title"], kept["examples"]) for name, kept in _left(results)["sets"].items()]


def _left(results: Results) -> Json:
    """What the stage left. Raises ExamplesNotReady."""
    left = results.extra("examples", "all")
    if left is not None and "sets" in left:
        return left
    mine = [stage for stage in results.planned if stage.kind == "examples"]
    ended = "" if not mine or any(not stage.state.has_ended for stage in mine) else (
        "what makes them was cancelled; take the experiment up again" if mine[0].state is StageState.CANCELLED
        else "what makes them has failed; retry it"
    )  # fmt: skip
    skipped = results.skipped("examples", "all")
    alone = "" if results.spec.ensemble.runs > 1 else "one run alone makes no ensemble"
    coming = "they are being worked out" if mine else "they have not been worked out"
    reason = skipped or alone or ended or coming
    raise ExamplesNotReady(
        f"there are no numbers of single images of {results.experiment.slug}: {reason}",
        is_planned=bool(mine), is_closed=bool(skipped or alone or ended),
    )  # fmt: skip


class ExampleSet:
    """The examples of one set, on the disk."""

    def __init__(self, results: Results, name: str, left: Json) -> None:
        self.results, self.name = results, name
        self.runs: list[int] = left["runs"]
        self.classes = results.class_names if results.spec.imported is not None else list(left["classes"])
        kept = left["sets"][name]
        self.title: str = kept["title"]
        self.count: int = kept["examples"]
        self._kept = kept
        self._values = results.array(kept["values"])
        self.answers = results.array(kept["answers"])
        self.votes = results.array(kept["votes"])
        self.labels = None if kept["labels"] is None else results.array(kept["labels"])[: self.count]
        self.numbers = [ExampleNumber(one) for one in kept["numbers"]]

    @classmethod
    def of(cls, results: Results, name: str | None = None) -> ExampleSet:
        """name None: the first set. Raises ExamplesNotReady, and InvalidInput (`set`) for one there is not."""
        left = _left(results)
        chosen = next(iter(left["sets"])) if name is None else name
        if chosen not in left["sets"]:
            raise InvalidInput(
                f"there are no numbers of images of {chosen[:80]!r}", field="set", allowed=", ".join(left["sets"])
            )
        return cls(results, chosen, left)

    @cached_property
    def fields(self) -> ExampleFields:
        """What can be asked here: numbers that were told, and what stands on labels where there are any."""
        told = [_FIELDS[number] for number in _FIELDS if number in self.numbers]
        about = [INDEX, *([LABEL] if self.labels is not None else []), ANSWER]
        flags = [*([WRONG] if self.labels is not None else []), SPLIT]
        return ExampleFields((*about, *flags, *told), "-disagreement")

    @property
    def untold(self) -> str:
        """Which numbers there are not, and what they would need; "" where all are there."""
        lacking: dict[str, list[str]] = {}
        for number in _FIELDS:
            if number not in self.numbers:
                no_labels = self.labels is None and number.needs_labels
                what = "true labels" if no_labels else "probabilities, and only labels are known"
                lacking.setdefault(what, []).append(_FIELDS[number].words)
        return "; ".join(f"{', '.join(of)}: needs {what}" for what, of in lacking.items())

    def column(self, name: str) -> Values:
        """[N] of a field; raises InvalidInput for one there is not."""
        if name in ("index", "number"):
            return np.arange(self.count)
        if name == "answer":
            return np.asarray(self.answers)
        if name == "label" and self.labels is not None:
            return np.asarray(self.labels)
        if name == "wrong" and self.labels is not None:
            return np.asarray(self.answers != self.labels)
        if name == "split":
            return np.asarray(self.column("disagreement") > 0)
        for place, number in enumerate(self.numbers):
            if named(number) == name:
                return np.asarray(self._values[place])
        raise InvalidInput(f"there is no field {name[:80]!r}", field=name, allowed=", ".join(self.fields.asked))

    # -- asking

    def page(self, query: ListQuery) -> Page[Example]:
        """One page. Raises InvalidInput naming the field."""
        limit = self.count if query.limit is None else query.limit
        if not 1 <= limit <= max(MAX_LIMIT, self.count):
            raise InvalidInput(f"a page of {limit} rows was asked for", field="limit", allowed=f"1 to {MAX_LIMIT}")
        sort = query.sort or self.fields.sort
        found = self.found(query.conditions, sort)
        start = 0 if query.cursor is None else _place(found, _mark(query.cursor, sort))
        rows = found.rows[start : start + limit]
        more = start + limit < len(found.rows)
        following = _cursor(sort, found.keys[start + limit - 1], int(rows[-1])) if more else None
        return Page(self.examples(rows), following, len(found.rows))

    def found(self, conditions: Sequence[Clause], sort: str) -> Found:
        """All that meet the conditions, in order."""
        chosen = np.flatnonzero(self._meets(conditions))
        values = self.column(sort.removeprefix("-"))[chosen].astype(np.float64)
        keys = -values if sort.startswith("-") else values
        order = np.lexsort((chosen, keys))  # NaN sorts last
        return Found(chosen[order], keys[order])

    def _meets(self, conditions: Sequence[Clause]) -> NDArray[np.bool_]:
        met = np.ones(self.count, bool)
        for condition in conditions:
            met &= self._one(condition)
        return met

    def _one(self, condition: Clause) -> NDArray[np.bool_]:
        if isinstance(condition, AnyOf | AllOf):
            joined = np.any if isinstance(condition, AnyOf) else np.all
            return np.asarray(joined([self._one(part) for part in condition.conditions], axis=0), bool)
        if isinstance(condition, Not):
            return ~self._one(condition.condition)
        values = self.column(condition.field)
        if condition.operator not in _COMPARISONS:
            allowed = ", ".join(_COMPARISONS)
            raise InvalidInput(f"there is no operator {condition.operator!r}", field=condition.field, allowed=allowed)
        return np.asarray(_COMPARISONS[condition.operator](values, condition.value), bool)

    # -- rows

    def examples(self, rows: Sequence[int] | NDArray[np.int64]) -> list[Example]:
        """Those examples, in the order asked for."""
        places = np.asarray(rows, np.int64)
        values = np.asarray(self._values[:, places])
        votes, answers = np.asarray(self.votes[places]), np.asarray(self.answers[places])
        names = self._names
        return [
            Example(
                index=int(i),
                label=None if self.labels is None else int(self.labels[i]),
                answer=int(answers[at]),
                votes=tuple(votes[at].tolist()),
                numbers={named(number): _finite(values[place, at]) for place, number in enumerate(self.numbers)},
                name=names[i] if names else "",
            )
            for at, i in enumerate(places)
        ]

    @cached_property
    def _names(self) -> list[str]:
        """Files, rows or ids of the examples, where they have any."""
        known = self.results.image_names(self.name) if self.name in self.results.spec.evaluation.splits else None
        return known if known is not None and len(known) >= self.count else []

    def by_class(self) -> list[OfClass]:
        """Class by class; [] where nobody knows the classes."""
        if self.labels is None:
            return []
        numbers = {ExampleNumber.DISAGREEMENT: self.column("disagreement")}
        found = OfEach(numbers, np.asarray(self.votes).T.astype(np.int64), np.asarray(self.answers, np.int64))
        return by_class(found, self.labels, len(self.classes))

    # -- pictures

    @cached_property
    def _pictures(self) -> tuple[Values | None, str]:
        """uint8 [n, C, h, w] and "", or None and why there are none."""
        role, _, place = self.name.partition("/")
        known = {"ood": ("ood-thumbnails", place), "shift": ("shift-thumbnails", place)}
        kind, key = known.get(role, ("thumbnails", self.name))
        if role == "shift" and not any((one.kind, one.key) == (kind, key) for one in self.results.planned):
            return self._corrupted(*place.split("/"))
        left = self.results.extra(kind, key)
        if left is not None:
            return self.results.array(left["pictures"]), ""
        planned = any((stage.kind, stage.key) == (kind, key) for stage in self.results.planned)
        why = self.results.skipped(kind, key)
        return None, why or ("pictures are being prepared" if planned else NO_IMAGES)

    def _corrupted(self, corruption: str, intensity: str) -> tuple[Values | None, str]:
        if self.results.spec.imported is not None:
            return None, NO_IMAGES
        left = self.results.extra("corrupt", corruption)
        if left is None or "images" not in left:
            return None, "corrupted images are kept of small generated sets only"
        return self.results.array(left["images"])[left["intensities"].index(int(intensity))], ""

    @property
    def pictures(self) -> int:
        """How many of the first examples have a picture."""
        return 0 if self._pictures[0] is None else min(len(self._pictures[0]), self.count)

    @property
    def unpictured(self) -> str:
        """Why some or all have none; "" where all have one."""
        pictures, why = self._pictures
        if pictures is not None and len(pictures) < self.count:
            return f"pictures are kept of the first {thousands(len(pictures))}"
        return why

    def picture(self, index: int) -> NDArray[np.uint8]:
        """uint8 [C, h, w]. Raises NotFound."""
        if not 0 <= index < self.pictures:
            raise NotFound(f"there is no picture of image {index} of {self.name}")
        pictures = self._pictures[0]
        assert pictures is not None
        return np.asarray(pictures[index])


_COMPARISONS: dict[str, Callable[[Values, Any], Any]] = {
    "eq": np.equal, "ne": np.not_equal, "gt": np.greater, "gte": np.greater_equal, "lt": np.less,
    "lte": np.less_equal, "in": lambda values, some: np.isin(values, list(some)),
    "notin": lambda values, some: ~np.isin(values, list(some)),
    "null": lambda values, empty: np.isnan(values.astype(np.float64)) == empty,
}  # fmt: skip


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _cursor(sort: str, key: float, index: int) -> str:
    """Where a page ended: the value it is sorted by, and the example's number, which breaks ties."""
    mark = [sort, None if np.isnan(key) else float(key).hex(), index]
    return base64.urlsafe_b64encode(orjson.dumps(mark)).decode().rstrip("=")


def _mark(cursor: str, sort: str) -> tuple[float, int]:
    try:
        made_for, key, index = orjson.loads(base64.urlsafe_b64decode(cursor.encode() + b"=="))
        value = np.nan if key is None else float.fromhex(key)
        place = int(index)
    except (
        ValueError,
        TypeError,
        OverflowError,
        AttributeError,
    ):  # not ours; what a stranger put there is not looked at
        made_for, value, place = None, 0.0, 0
    if made_for != sort:
        raise InvalidInput("this cursor belongs to another list", field="cursor", allowed="its own `next`")
    return value, place


def _place(found: Found, mark: tuple[float, int]) -> int:
    """How many rows come up to and with the one that a page ended with."""
    key, index = mark
    known = int(np.count_nonzero(~np.isnan(found.keys)))
    if np.isnan(key):
        low, high = known, len(found.keys)
    else:
        low = int(np.searchsorted(found.keys[:known], key, side="left"))
        high = int(np.searchsorted(found.keys[:known], key, side="right"))
    return low + int(np.searchsorted(found.rows[low:high], index, side="right"))
