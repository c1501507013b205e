"""Several experiments side by side: what differs between their specs, and whether their numbers do.

    found = compare(here, [row_a, row_b])
    found.differs                   # fields of the specs with a value for every experiment
    found.numbers[0].differences    # of each experiment from the first, with 95 % intervals

Intervals are over runs, the unit of replication (a delete-one jackknife, Student's t; Welch's degrees of freedom for
differences), the test images being given. Experiments that share networks are no independent samples of anything, so
their differences get no interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Response
from numpy.typing import NDArray

from modescape.errors import InvalidInput
from modescape.plan import flat
from modescape.records import Role
from modescape.results import Results
from modescape.science.inference import LEVEL, estimate, pairs, t_quantile
from modescape.spec import stored
from modescape.tables import Experiment, Solution
from modescape_api import claims, replies
from modescape_api.display import cell
from modescape_api.site import Here, Site

router = APIRouter(tags=["results"])

Json = dict[str, Any]
Runs = NDArray[np.intp]
MOST = 4


@dataclass(frozen=True, kw_only=True)
class Value:
    """A number of one experiment, or a difference from the first one's; low and high are None without an interval."""

    value: float
    low: float | None = None
    high: float | None = None
    runs: int = 0


@dataclass(frozen=True, kw_only=True)
class Number:
    """One number of every experiment; None where an experiment does not have it (yet)."""

    name: str
    title: str
    unit: str  # "accuracy", "rate" or ""
    values: tuple[Value | None, ...]
    differences: tuple[Value | None, ...]


@dataclass(frozen=True, kw_only=True)
class Word:
    """What one experiment says of a claim: the word, the effect and its interval, as text, of the method that decides
    as on the experiment's own page; level: of the interval."""

    word: str
    glyph: str
    effect: str
    interval: str
    level: str
    decides: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """differs: (field, a text for every experiment). cautions: what makes their numbers incomparable, a sentence each.
    shared: pairs of positions, and how many networks both have."""

    rows: tuple[Experiment, ...]
    differs: tuple[tuple[str, tuple[str, ...]], ...]
    numbers: tuple[Number, ...]
    claims: tuple[tuple[str, str, tuple[Word | None, ...]], ...]
    cautions: tuple[str, ...]
    shared: tuple[tuple[int, int, int], ...]


def chosen(here: Site, references: Sequence[str]) -> list[Experiment]:
    """The experiments named, each once. Raises NotFound, or InvalidInput where they are too many."""
    names = list(dict.fromkeys(filter(None, references)))
    if len(names) > MOST:
        raise InvalidInput(f"{len(names)} experiments were named", field="e", allowed=f"up to {MOST} of them")
    return list({row.id: row for row in map(here.store.experiments.get, names)}.values())


def compare(here: Site, rows: Sequence[Experiment]) -> Comparison:
    """Two to four experiments."""
    ensembles = [_Ensemble(here, row) for row in rows]
    if any(one.cosines["cosine"].size and not one.cosine.size for one in ensembles):  # one of an older version
        for one in ensembles:
            one.cosine = one.cosines["cosine"]
    both = [(i, j, len(ensembles[i].networks & ensembles[j].networks)) for i, j in combinations(range(len(rows)), 2)]
    shared = tuple(found for found in both if found[2])
    with_first = {j for i, j, _ in shared if i == 0}
    return Comparison(
        rows=tuple(rows),
        differs=tuple(differing([stored(row.spec).model_dump(mode="json") for row in rows])),
        numbers=tuple(_numbers(ensembles, [k not in with_first for k in range(len(rows))])),
        claims=tuple(_claims(rows)),
        cautions=tuple(_cautions(rows)),
        shared=shared,
    )


# SmallCNN on Fashion-MNIST, 3 seeds each: divergence of runs .066 on raw pixels, .025 standardised, .015 as x / 255;
# disagreement .157, .100 and .091.
_OF_SCALE = (  # science n.2
    "Their input scales differ, which changes diversity itself: in our measurements runs on raw pixels diverged two to "
    "four times as much as on scaled ones, and disagreed 1.6 times as often. What else differs cannot be told from "
    "that."
)


def _cautions(rows: Sequence[Experiment]) -> list[str]:
    return [_OF_SCALE] if len({row.input_scale for row in rows}) > 1 else []


# ---- specs ----


def differing(documents: Sequence[Json]) -> list[tuple[str, tuple[str, ...]]]:
    """Fields in which specs differ, with a text for each; what one leaves out whole is one line, not one per field."""
    found = []
    specs = [_by_method(document) for document in documents]
    for part in dict.fromkeys(name for spec in specs for name in spec):
        inner = [spec.get(part) for spec in specs]
        if any(not value for value in inner):
            inner = [bool(value) if isinstance(value, (dict, list)) or value is None else value for value in inner]
        fields = [flat(value, part) for value in inner]
        for field in dict.fromkeys(name for each in fields for name in each):
            values = [each.get(field) for each in fields]
            if any(value != values[0] for value in values) and not field.endswith("fingerprint"):
                found.append((field, tuple(_text(value) for value in values)))
    return found


def _by_method(document: Json) -> Json:
    """The parts of a spec, methods by their names rather than by their places."""
    methods = {f"methods.{m['method']}": {k: v for k, v in m.items() if k != "method"} for m in document["methods"]}
    return {name: value for name, value in document.items() if name != "methods"} | methods


def _text(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else cell(value)


# ---- numbers ----


class _Ensemble:
    """One experiment's optima: their accuracies [R], and matrices [R, R] of pairs; empty before they are compared."""

    def __init__(self, here: Site, row: Experiment) -> None:
        self.row = row
        results = Results(here.store, here.artifacts, row.id)
        spec = stored(row.spec)
        optima = [s for s in results.solutions(role=Role.OPTIMUM) if s.accuracy is not None]
        self.networks = {s.weights for s in optima if s.weights is not None}
        self.accuracy = np.array([s.accuracy for s in optima], np.float64)
        self.disagreement = _pairs(results, optima, "disagreement", spec.evaluation.splits[0])
        self.cosines = {name: _pairs(results, optima, name, "") for name in ("cosine-reduced", "cosine")}
        self.cosine = self.cosines["cosine-reduced"]

    def read(self, statistic: Callable[[Runs], float], needs: NDArray[np.float64]) -> _Reading | None:
        n = len(needs)
        if n == 0:
            return None
        found = estimate(statistic, n, margin=0.0)
        return _Reading(found.value, n, found.error, found.low, found.high) if math.isfinite(found.value) else None

    @property
    def readings(self) -> dict[str, _Reading | None]:
        def mean(runs: Runs) -> float:
            return float(self.accuracy[runs].mean())

        def apart(runs: Runs) -> float:
            return _mean_pair(self.disagreement, runs)

        def diversity(runs: Runs) -> float:
            return apart(runs) / (1 - mean(runs)) if mean(runs) < 1 else math.nan

        return {
            "accuracy": self.read(mean, self.accuracy),
            "disagreement": self.read(apart, self.disagreement),
            "diversity": self.read(diversity, self.disagreement),
            "cosine": self.read(lambda runs: _mean_pair(self.cosine, runs), self.cosine),
            "ensemble": None
            if self.row.ensemble_accuracy is None
            else _Reading(self.row.ensemble_accuracy, self.row.finding.get("runs", self.row.runs)),
        }


@dataclass(frozen=True)
class _Reading:
    """A number, its standard error over runs and its interval; NaN where there are none."""

    value: float
    runs: int
    error: float = math.nan
    low: float = math.nan
    high: float = math.nan

    def shown(self) -> Value:
        if not math.isfinite(self.error):
            return Value(value=self.value, runs=self.runs)
        return Value(value=self.value, low=self.low, high=self.high, runs=self.runs)

    def less(self, first: _Reading, *, apart: bool) -> Value:
        """This minus the first, with Welch's interval where both have errors and share no networks."""
        value, variance = self.value - first.value, self.error**2 + first.error**2
        if not apart or not math.isfinite(variance) or variance == 0:
            return Value(value=value)
        degrees = variance**2 / (self.error**4 / (self.runs - 1) + first.error**4 / (first.runs - 1))
        half = t_quantile(1 - LEVEL, max(1, math.floor(degrees))) * math.sqrt(variance)
        return Value(value=value, low=value - half, high=value + half)


_TITLES = {
    "accuracy": ("Accuracy of a run", "accuracy"),
    "ensemble": ("Accuracy of all runs together", "accuracy"),
    "disagreement": ("Disagreement of two runs", "rate"),
    "diversity": ("Disagreement over error rate", ""),
    "cosine": ("Cosine of two runs’ weights", ""),
}


def _numbers(ensembles: Sequence[_Ensemble], apart: Sequence[bool]) -> list[Number]:
    found = [ensemble.readings for ensemble in ensembles]
    numbers = []
    for name, (title, unit) in _TITLES.items():
        own = [readings[name] for readings in found]
        first = own[0]
        differences = [
            None if k == 0 or first is None or one is None else one.less(first, apart=apart[k])
            for k, one in enumerate(own)
        ]
        values = tuple(None if one is None else one.shown() for one in own)
        numbers.append(Number(name=name, title=title, unit=unit, values=values, differences=tuple(differences)))
    return numbers


def _pairs(results: Results, optima: Sequence[Solution], metric: str, split: str) -> NDArray[np.float64]:
    """[R, R] of a metric between optima; [0, 0] before they are compared, and of fewer than two."""
    matrix = results.matrix(metric, split)
    numbers = [s.number for s in optima]
    if len(optima) < 2 or matrix is None or not set(numbers) <= set(matrix.rows):
        return np.empty((0, 0))
    places = [matrix.rows.index(number) for number in numbers]
    return np.asarray(matrix.values[np.ix_(places, places)], np.float64)


def _mean_pair(matrix: NDArray[np.float64], runs: Runs) -> float:
    """Mean over pairs of these runs; NaN of one run alone."""
    if len(runs) < 2:
        return math.nan
    return float(matrix[pairs(runs)].mean())


# ---- claims ----


def _claims(rows: Sequence[Experiment]) -> list[tuple[str, str, tuple[Word | None, ...]]]:
    """(letter, title, what each experiment says) of every claim that one of them answers."""
    told = [{claim.letter: claim for claim in claims.answered(row.finding or {}, ())} for row in rows]
    titles = {claim.letter: claim.title for answers in told for claim in answers.values()}
    return [
        (letter, titles[letter], tuple(_word(answers[letter]) if letter in answers else None for answers in told))
        for letter in sorted(titles)
    ]


def _word(claim: claims.Row) -> Word:
    return Word(
        word=claim.word, glyph=claim.glyph, effect=claim.effect, interval=claim.interval, level=claim.level,
        decides=claim.decides,
    )  # fmt: skip


# ---- over HTTP ----


_EXAMPLE = {
    "experiments": ["fig-6-short", "fig-6-medium"],
    "differs": [{"field": "network.architecture", "values": ["small-cnn", "medium-cnn"]}],
    "numbers": [
        {
            "name": "disagreement",
            "title": "Disagreement of two runs",
            "unit": "rate",
            "values": [
                {"value": 0.402, "low": 0.397, "high": 0.407, "runs": 5},
                {"value": 0.312, "low": 0.308, "high": 0.316, "runs": 5},
            ],
            "differences": [None, {"value": -0.09, "low": -0.096, "high": -0.084, "runs": 0}],
        }
    ],
    "claims": [
        {
            "id": "a",
            "title": "Independent optima are orthogonal",
            "answers": [
                {
                    "word": "holds",
                    "glyph": "✓",
                    "effect": "0.018 cosine",
                    "interval": "0.011 to 0.025",
                    "level": "95 %",
                    "decides": "",
                },
                None,
            ],
        }
    ],
    "cautions": [],
    "shared_networks": [],
}


@router.get(
    "/api/compare",
    summary="What differs between two to four experiments",
    description="Fields of their specs that are not equal, their numbers with 95 % intervals over runs, differences "
    "from the first experiment (without an interval where both hold the same networks), and their claims.",
    responses={200: {"description": "Side by side", "content": {"application/json": {"example": _EXAMPLE}}}},
)
def read(
    here: Here, e: Annotated[list[str], Query(description="Slugs or ids: `?e=a&e=b`.", examples=[["fig-6-short"]])]
) -> Response:
    rows = chosen(here, e)
    if len(rows) < 2:
        raise InvalidInput("one experiment alone has nothing to be compared with", field="e", allowed="two to four")
    found = compare(here, rows)
    return replies.json(
        {
            "experiments": [row.slug for row in rows],
            "differs": [{"field": field, "values": values} for field, values in found.differs],
            "numbers": [asdict(number) for number in found.numbers],
            "claims": [
                {"id": letter, "title": title, "answers": [None if a is None else asdict(a) for a in answers]}
                for letter, title, answers in found.claims
            ],
            "cautions": found.cautions,
            "shared_networks": [
                {"experiments": [rows[i].slug, rows[j].slug], "networks": count} for i, j, count in found.shared
            ],
        }
    )
