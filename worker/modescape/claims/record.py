"""What judging a claim gives: records that are stored as they are, and read back once, at the border.

record.word                         # Word.HOLDS
ClaimRecord.from_json(stored)       # what an experiment's finding keeps under `claims`
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from modescape.records import Json
from modescape.science.confidence import Estimate, Word

HOLDS_FOR_OTHERS = "holds for the others"  # qualifier of what is open only for methods that could not be judged


@dataclass(frozen=True)
class MethodRecord:
    """One method's part in a claim over methods. gate: why it cannot be told, "" while its gates are open; n: runs it
    stands on, where those are not all of the claim's."""

    method: str
    title: str
    word: Word
    because: str
    estimate: Estimate | None
    gate: str = ""
    parts: Mapping[str, float] = field(default_factory=dict)
    n: int | None = None

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        known, found = fields_of(cls, stored), stored.get("estimate")
        estimate = None if found is None else Estimate.from_json(found)
        return cls(**{**known, "word": Word(stored["word"]), "estimate": estimate})

    @property
    def told(self) -> Estimate | None:
        """The estimate while its gates are open."""
        return None if self.gate else self.estimate

    @property
    def tested(self) -> Estimate | None:
        """The estimate where its interval could have given a word: gates open, or "does not hold" alone to be told."""
        return self.estimate if self.estimate is not None and self.estimate.exists else None


@dataclass(frozen=True)
class ClaimRecord:
    """One claim of the paper, answered.

    estimate, low, high, margin: in the estimand's own unit (for a claim over methods, of the one on which it stands
    or falls), None when there is none; n units, N examples; parts: the numbers behind the estimate; p: the smaller of
    those for `holds` and for `does not hold`, None of a claim of which no interval could have given a word; qualifier:
    a shade the word leaves out; rests_on: units without which the word would be another; closed: no word can be given
    whatever the numbers are, nothing is tested, and the interval is over examples alone (science p.3).
    """

    id: str
    title: str
    estimand: str
    word: Word
    because: str
    margin: float
    n: int
    N: int
    unit: str = "run"
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    qualifier: str = ""
    parts: Mapping[str, float] = field(default_factory=dict)
    methods: tuple[MethodRecord, ...] = ()
    rests_on: tuple[int, ...] = ()
    closed: bool = False

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """What an older version did not keep has its default."""
        known = fields_of(cls, stored)
        methods = tuple(MethodRecord.from_json(one) for one in stored.get("methods", ()))
        rests_on = tuple(stored.get("rests_on", ()))
        return cls(**{**known, "word": Word(stored["word"]), "methods": methods, "rests_on": rests_on})

    def to_json(self) -> Json:
        return {name: value for name, value in asdict(self).items() if name != "closed" or value}


def fields_of(record: type[Any], stored: Mapping[str, Any]) -> Json:
    """Of a stored document, what the record has a field for: older and later versions keep more."""
    return {name: value for name, value in stored.items() if name in record.__dataclass_fields__}


def number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def finite(parts: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in parts.items() if math.isfinite(value)}
