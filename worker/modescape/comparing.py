"""Several experiments side by side: what differs between their specs, and whether their numbers do.

    found = compare("one", "other", folder="here")
    found                                 # numbers with intervals and differences, as a table
    found.differs                         # fields of the specs with a value for every experiment
    found.figure("disagreement").show()   # each with its interval

Intervals are over runs, the unit of replication (a delete-one jackknife, Student's t; Welch's degrees of freedom for
differences), the test images being given. Experiments that share networks are no independent samples of anything, so
their differences get no interval.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from modescape.claims.evidence import BY_SHAPE
from modescape.claims.telling import Told
from modescape.drawing import intervals
from modescape.drawing.figure import Table
from modescape.drawing.style import Theme
from modescape.drawing.words import percent, rate
from modescape.errors import InvalidInput
from modescape.finding import Finding, SoFar
from modescape.laboratory import opened
from modescape.plan import flat
from modescape.records import Json, Role
from modescape.results import Results
from modescape.science.confidence import LEVEL, estimate, pairs, t_quantile, welch_degrees
from modescape.science.predictions import softmax
from modescape.spec import stored
from modescape.tables import Experiment, Solution
from modescape.voice import Voice, together, voice_of

if TYPE_CHECKING:
    import plotly.graph_objects as go

Runs = NDArray[np.intp]
Floats = NDArray[np.float64]
MOST = 24


@dataclass(frozen=True, kw_only=True)
class Value:
    """A number of one experiment, or a difference from the first one's; low and high are None without an interval."""

    value: float
    low: float | None = None
    high: float | None = None
    runs: int = 0

    def within(self, least: float, most: float) -> Value:
        """Its interval ends where such a number can be."""
        if self.low is None or self.high is None:
            return self
        return replace(self, low=max(self.low, least), high=min(self.high, most))


@dataclass(frozen=True, kw_only=True)
class Number:
    """One number of every experiment; None where an experiment does not have it (yet)."""

    name: str
    title: str
    unit: str  # "accuracy", "rate" or ""
    values: tuple[Value | None, ...]
    differences: tuple[Value | None, ...]

    def told(self, value: Value | None, *, difference: bool = False) -> str:
        """As people read it: "93.1 % (92.0 to 94.2)", accuracies in percent, their differences in points."""
        if value is None:
            return "–"
        say, unit = (percent, " points" if difference else " %") if self.unit == "accuracy" else (rate, "")
        around = "" if value.low is None or value.high is None else f" ({say(value.low)} to {say(value.high)})"
        return f"{say(value.value)}{unit}{around}"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one experiment says of a claim: the word, the effect and its interval, as text, of the method that decides
    as on the experiment's own page; level: of the interval."""

    word: str
    glyph: str
    effect: str
    interval: str
    level: str
    decides: str
    at_look: str = ""


class Difference(NamedTuple):
    """A field in which specs differ, with a text for every experiment."""

    field: str
    values: tuple[str, ...]


class Answers(NamedTuple):
    """A claim, and what every experiment says of it; None of one that does not ask it."""

    letter: str
    title: str
    answers: tuple[Answer | None, ...]


class Shared(NamedTuple):
    """Two experiments, by their places, and how many networks both have."""

    first: int
    second: int
    networks: int


class Compared(NamedTuple):
    """One of the experiments that are compared."""

    slug: str
    name: str


@dataclass(frozen=True, kw_only=True, repr=False)
class Comparison:
    """rows: the experiments, in the order asked. cautions: what makes their numbers incomparable, a sentence each."""

    rows: tuple[Compared, ...]
    differs: tuple[Difference, ...]
    numbers: tuple[Number, ...]
    claims: tuple[Answers, ...]
    cautions: tuple[str, ...]
    shared: tuple[Shared, ...]

    def document(self) -> Json:
        """As the API gives it."""
        slugs = [row.slug for row in self.rows]
        return {
            "experiments": slugs,
            "names": [row.name for row in self.rows],
            "differs": [each._asdict() for each in self.differs],
            "numbers": [asdict(number) for number in self.numbers],
            "claims": [
                {"id": letter, "title": title, "answers": [None if a is None else asdict(a) for a in answers]}
                for letter, title, answers in self.claims
            ],
            "cautions": self.cautions,
            "shared_networks": [
                {"experiments": [slugs[first], slugs[second]], "networks": count}
                for first, second, count in self.shared
            ],
        }

    @classmethod
    def from_json(cls, told: Json) -> Self:
        """Of what the API gives."""

        def values(of: Sequence[Json | None]) -> tuple[Value | None, ...]:
            return tuple(None if one is None else Value(**one) for one in of)

        slugs = told["experiments"]
        return cls(
            rows=tuple(map(Compared, slugs, told["names"])),
            differs=tuple(Difference(one["field"], tuple(one["values"])) for one in told["differs"]),
            numbers=tuple(
                Number(name=one["name"], title=one["title"], unit=one["unit"], values=values(one["values"]),
                       differences=values(one["differences"]))
                for one in told["numbers"]
            ),
            claims=tuple(
                Answers(one["id"], one["title"], tuple(None if a is None else Answer(**a) for a in one["answers"]))
                for one in told["claims"]
            ),
            cautions=tuple(told["cautions"]),
            shared=tuple(
                Shared(slugs.index(one["experiments"][0]), slugs.index(one["experiments"][1]), one["networks"])
                for one in told["shared_networks"]
            ),
        )  # fmt: skip

    def number(self, name: str) -> Number:
        """Raises InvalidInput."""
        known = {number.name: number for number in self.numbers}
        if name not in known:
            raise InvalidInput(f"there is no number {name!r}", field="name", allowed=", ".join(known))
        return known[name]

    def table(self) -> Table:
        """A row for each number of each experiment that has it; differences are from the first experiment."""
        parts = ("", "low", "high")
        head = tuple(f"{what} {part}".strip() for what in ("value", "difference") for part in parts)
        return Table(("number", "experiment", "runs", *head), tuple(
            (number.name, row.name, value.runs, value.value, value.low, value.high,
             *((None,) * 3 if less is None else (less.value, less.low, less.high)))
            for number in self.numbers
            for row, value, less in zip(self.rows, number.values, number.differences, strict=True)
            if value is not None
        ))  # fmt: skip

    def figure(self, name: str, *, theme: Theme = "light") -> go.Figure:
        """One number of every experiment that has it, with its 95 % interval. Raises InvalidInput."""
        number = self.number(name)
        known = [(row.name, value) for row, value in zip(self.rows, number.values, strict=True) if value is not None]
        bars = [intervals.Bar(name, v.value, v.low, v.high, number.told(v)) for name, v in known]
        return intervals.draw(number.title, bars, theme, in_percent=number.unit == "accuracy")

    def __repr__(self) -> str:
        later = [f"{row.name} − {self.rows[0].name}" for row in self.rows[1:]]
        lines = [("", *(row.name for row in self.rows), *later)]
        lines += [
            (n.title, *map(n.told, n.values), *(n.told(one, difference=True) for one in n.differences[1:]))
            for n in self.numbers
        ]
        lines += [
            (f"({letter}) {title}", *(_in_a_cell(a) if a else "not asked" for a in answers))
            for letter, title, answers in self.claims
        ]
        differs = [f"{field}: {' / '.join(values)}" for field, values in self.differs]
        return "\n".join([*_aligned(lines), "", "Differs in", *(differs or ["nothing"]), *self.cautions])


def _in_a_cell(answer: Answer) -> str:
    return f"{answer.glyph} {answer.word}{f'; {answer.at_look}' if answer.at_look else ''}"


def told_apart(rows: Sequence[Experiment]) -> list[str]:
    """Names; of those that are alike with what the experiments are found by."""
    alike = Counter(row.name for row in rows)
    return [row.name if alike[row.name] == 1 else f"{row.name} ({row.slug})" for row in rows]


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    columns = max(map(len, lines))
    padded = [(*line, *[""] * (columns - len(line))) for line in lines]
    widths = [max(map(len, column)) for column in zip(*padded, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in padded]


def compare(*experiments: Results | str, folder: Path | str | None = None) -> Comparison:
    """Two to twenty-four experiments: what `run` gave, or slugs of those kept in `folder` (None: the folder of the
    settings).

    Raises InvalidInput for fewer or more, NotFound.
    """
    if not 2 <= len(experiments) <= MOST:
        raise InvalidInput(f"{len(experiments)} were named", field="experiments", allowed=f"two to {MOST} of them")
    return _compared([opened(folder).results(one) if isinstance(one, str) else one for one in experiments])


def _compared(experiments: Sequence[Results]) -> Comparison:
    rows = tuple(one.experiment for one in experiments)
    ensembles = [Ensemble(one) for one in experiments]
    if any(one.cosines["cosine"].size and not one.cosine.size for one in ensembles):  # one of an older version
        for one in ensembles:
            one.cosine = one.cosines["cosine"]
    both = [Shared(i, j, _in_common(ensembles[i], ensembles[j])) for i, j in combinations(range(len(rows)), 2)]
    shared = tuple(found for found in both if found.networks)
    voice = voice_of_all(rows)
    with_first = {found.second for found in shared if found.first == 0}
    return Comparison(
        rows=tuple(Compared(row.slug, name) for row, name in zip(rows, told_apart(rows), strict=True)),
        differs=tuple(differing([_promised(row, said=all(map(_is_imported, rows))) for row in rows])),
        numbers=tuple(_numbers(ensembles, [k not in with_first for k in range(len(rows))], voice)),
        claims=tuple(_claims(experiments, voice)),
        cautions=tuple(_cautions(ensembles)),
        shared=shared,
    )


def voice_of_all(rows: Sequence[Experiment]) -> Voice:
    """How these experiments are spoken of together."""
    return together(voice_of(row.provenance, row.spec) for row in rows)


def _cautions(ensembles: Sequence[Ensemble]) -> Iterator[str]:
    rows = [one.row for one in ensembles]
    if len({row.input_scale for row in rows if not _is_imported(row)}) > 1:
        yield _OF_SCALE
    if len({_is_imported(one.row) for one in ensembles if one.cosines["cosine-reduced"].size}) > 1:
        yield _OF_COSINES


# SmallCNN on Fashion-MNIST, 3 seeds each: divergence of runs .066 on raw pixels, .025 standardised, .015 as x / 255;
# disagreement .157, .100 and .091.
_OF_SCALE = (  # science n.2
    "Their input scales differ, which changes diversity itself: in our measurements runs on raw pixels diverged two to "
    "four times as much as on scaled ones, and disagreed 1.6 times as often. What else differs cannot be told from "
    "that."
)
_OF_COSINES = (  # science p.4
    "Cosines of weights, and claim (a), are not of the same weights: of members that came without their network they "
    f"are {BY_SHAPE} alone, of the others without the class mean of the head and without scales and offsets of norms."
)


# ---- specs ----

NOT_KNOWN = "not known"


def _is_imported(row: Experiment) -> bool:
    return row.spec.get("source") == "imported"


def _promised(row: Experiment, *, said: bool) -> Json:
    """A spec without what it says by default of what nobody knows: the recipe of networks that were trained elsewhere,
    and of imported predictions also data and network. said: with what is said of those."""
    document = stored(row.spec).model_dump(mode="json")
    unknown = {"trained": (), "weights": ("training",), "imported": ("data", "network", "training")}
    known = {name: value for name, value in document.items() if name != "imported"}
    if said:
        known["imported"] = {name: document["imported"][name] for name in ("recipe", "kind", "images", "validation")}
    return known | dict.fromkeys(unknown[document["source"]], NOT_KNOWN)


def differing(documents: Sequence[Mapping[str, Any]]) -> list[Difference]:
    """Fields in which specs differ; what one leaves out whole is one line, not one per field."""
    found = []
    specs = [_by_method(document) for document in documents]
    for part in dict.fromkeys(name for spec in specs for name in spec):
        inner = [spec.get(part) for spec in specs]
        if NOT_KNOWN in inner:
            inner = [value if value == NOT_KNOWN else "known" for value in inner]
        elif any(not value for value in inner):
            inner = [bool(value) if isinstance(value, (dict, list)) or value is None else value for value in inner]
        fields = [flat(value, part) for value in inner]
        for field in dict.fromkeys(name for each in fields for name in each):
            values = [each.get(field) for each in fields]
            if any(value != values[0] for value in values) and not field.endswith("fingerprint"):
                found.append(Difference(field, tuple(map(_text, values))))
    return found


def _by_method(document: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a spec, methods by their names rather than by their places."""
    methods = {f"methods.{m['method']}": {k: v for k, v in m.items() if k != "method"} for m in document["methods"]}
    return {name: value for name, value in document.items() if name != "methods"} | methods


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "−")
    return "–" if value is None else str(value)


# ---- numbers ----


class Ensemble:
    """One experiment's optima: their accuracies [R], and matrices [R, R] of pairs; empty before they are compared.

    is_of_recipe: whether others could be drawn like these, without which nothing has a spread over them (science
    p.3)."""

    def __init__(self, results: Results) -> None:
        self.row, self.results = results.experiment, results
        self.optima = optima = [s for s in results.solutions(role=Role.OPTIMUM) if s.accuracy is not None]
        self.is_of_recipe = results.spec.recipe_of_runs == "same"
        self.runs = [s.run for s in optima]
        self.accuracy = np.array([s.accuracy for s in optima], np.float64)
        self.disagreement = _pairs(results, optima, "disagreement", results.spec.evaluation.splits[0])
        self.cosines = {name: _pairs(results, optima, name, "") for name in ("cosine-reduced", "cosine")}
        self.cosine = self.cosines["cosine-reduced"]

    def read(self, statistic: Callable[[Runs], float], needs: Floats) -> Reading | None:
        n = len(needs)
        if n == 0:
            return None
        if not self.is_of_recipe:
            value = statistic(np.arange(n))
            return Reading(value, n) if math.isfinite(value) else None
        found = estimate(statistic, n, margin=0.0)
        return Reading(found.value, n, found.error, found.low, found.high) if math.isfinite(found.value) else None

    @cached_property
    def statistics(self) -> dict[str, Callable[[Runs], float] | None]:
        """By name: of some of its runs, by their places; None of those it does not have (yet)."""

        def mean(runs: Runs) -> float:
            return float(self.accuracy[runs].mean())

        def apart(runs: Runs) -> float:
            return _mean_pair(self.disagreement, runs)

        def diversity(runs: Runs) -> float:
            return apart(runs) / (1 - mean(runs)) if mean(runs) < 1 else math.nan

        return {
            "accuracy": mean if self.accuracy.size else None,
            "disagreement": apart if self.disagreement.size else None,
            "diversity": diversity if self.disagreement.size else None,
            "cosine": (lambda runs: _mean_pair(self.cosine, runs)) if self.cosine.size else None,
        }

    @property
    def readings(self) -> dict[str, Reading | None]:
        found = {name: None if one is None else self.read(one, self.accuracy) for name, one in self.statistics.items()}
        return {
            **found,
            "ensemble": None
            if self.row.ensemble_accuracy is None
            else Reading(self.row.ensemble_accuracy, Finding.from_json(self.row.finding).runs or self.row.runs),
        }


def _in_common(first: Ensemble, second: Ensemble) -> int:
    """How many networks two experiments both have, however each was given: with weights or without, as logits,
    probabilities or labels."""
    left = list(second.optima)
    for one in first.optima:
        other = next((other for other in left if _is_same(one, first.results, other, second.results)), None)
        if other is not None:
            left.remove(other)
    return len(second.optima) - len(left)


_ROUNDING = 0.01  # probabilities from outputs that were rounded, to two decimals at worst
_TELLING = 5  # errors, below which two good networks may make the same by chance
_AT_ONCE = 2_000  # examples


def _is_same(one: Solution, its: Results, other: Solution, others: Results) -> bool:
    if one.weights is not None and one.weights == other.weights:
        return True
    split = its.spec.evaluation.splits[0]
    here, there = one.predictions.get(split), other.predictions.get(split)
    if here is None or there is None or one.accuracy != other.accuracy:
        return False
    if here == there:
        return True
    said, also = (of.artifacts.sound_array(at["artifact"])[at["index"]] for of, at in ((its, here), (others, there)))
    if len(said) != len(also) or (said.ndim == also.ndim and said.shape != also.shape):
        return False
    for start in range(0, len(said), _AT_ONCE):
        a, b = said[start : start + _AT_ONCE], also[start : start + _AT_ONCE]
        if not np.array_equal(*(part if part.ndim == 1 else part.argmax(-1) for part in (a, b))):
            return False
        if a.ndim == b.ndim == 2 and np.abs(softmax(a) - softmax(b)).max() > _ROUNDING:
            return False
    return said.ndim == also.ndim == 2 or (1 - (one.accuracy or 0)) * len(said) >= _TELLING


@dataclass(frozen=True)
class Reading:
    """A number, its standard error over runs and its interval; NaN where there are none."""

    value: float
    runs: int
    error: float = math.nan
    low: float = math.nan
    high: float = math.nan

    def shown(self, name: str) -> Value:
        """Of the number of that name: its interval ends where such a number can be."""
        if not math.isfinite(self.error):
            return Value(value=self.value, runs=self.runs)
        found = Value(value=self.value, low=self.low, high=self.high, runs=self.runs)
        return found.within(*BOUNDS.get(name, (-math.inf, math.inf)))

    def less(self, first: Reading, name: str, *, apart: bool) -> Value:
        """This minus the first, of the number of that name, with Welch's interval (science o.2) where both have errors
        and share no networks."""
        value, error = self.value - first.value, math.hypot(self.error, first.error)
        if not apart or not math.isfinite(error) or error == 0:
            return Value(value=value)
        half = t_quantile(1 - LEVEL, welch_degrees((self.error, first.error), (self.runs - 1, first.runs - 1))) * error
        return Value(value=value, low=value - half, high=value + half).within(*difference_bounds(name))


TITLES = {
    "accuracy": ("Accuracy of a run", "accuracy"),
    "ensemble": ("Accuracy of all runs together", "accuracy"),
    "disagreement": ("Disagreement of two runs", "rate"),
    "diversity": ("Disagreement over error rate", ""),
    "cosine": ("Cosine of two runs’ weights", ""),
}
BOUNDS = {"accuracy": (0, 1), "ensemble": (0, 1), "disagreement": (0, 1), "diversity": (0, math.inf), "cosine": (-1, 1),
          "gain": (-1, 1)}  # fmt: skip


def difference_bounds(name: str) -> tuple[float, float]:
    """Where the difference of two such numbers can be."""
    least, most = BOUNDS.get(name, (-math.inf, math.inf))
    return least - most, most - least


def _numbers(ensembles: Sequence[Ensemble], apart: Sequence[bool], voice: Voice) -> list[Number]:
    found = [ensemble.readings for ensemble in ensembles]
    numbers = []
    for name, (title, unit) in TITLES.items():
        own = [readings[name] for readings in found]
        first = own[0]
        differences = [
            None if k == 0 or first is None or one is None else one.less(first, name, apart=apart[k])
            for k, one in enumerate(own)
        ]
        values = tuple(None if one is None else one.shown(name) for one in own)
        numbers.append(Number(name=name, title=voice(title), unit=unit, values=values, differences=tuple(differences)))
    return numbers


def _pairs(results: Results, optima: Sequence[Solution], metric: str, split: str) -> Floats:
    """[R, R] of a metric between optima; [0, 0] before they are compared, and of fewer than two."""
    matrix = results.matrix(metric, split)
    numbers = [s.number for s in optima]
    if len(optima) < 2 or matrix is None or not set(numbers) <= set(matrix.rows):
        return np.empty((0, 0))
    places = [matrix.rows.index(number) for number in numbers]
    return np.asarray(matrix.values[np.ix_(places, places)], np.float64)


def _mean_pair(matrix: Floats, runs: Runs) -> float:
    """Mean over pairs of these runs; NaN of one run alone."""
    if len(runs) < 2:
        return math.nan
    return float(matrix[pairs(runs)].mean())


# ---- claims ----


def _claims(experiments: Sequence[Results], voice: Voice) -> list[Answers]:
    """Every claim that one of them answers."""
    findings = [Finding.of(one.experiment) for one in experiments]
    looks = [one.store.experiments.look(one.experiment) for one in experiments]
    told = [{one.record.id: one for one in found.told(look)} for found, look in zip(findings, looks, strict=True)]
    titles = {letter: one.record.title for answers in told for letter, one in answers.items()}
    return [
        Answers(letter, voice(titles[letter]), tuple(
            _answer(known[letter], found.so_far) if letter in known else None
            for known, found in zip(told, findings, strict=True)
        ))
        for letter in sorted(titles)
    ]  # fmt: skip


def _answer(told: Told, so_far: SoFar | None) -> Answer:
    """so_far: of an ensemble that waits for members, whose claims have no word."""
    value = told.bar.value
    return Answer(
        word=told.record.word if so_far is None else so_far.words,
        glyph=told.record.word.glyph if so_far is None else "…",
        effect="–" if value is None else told.claim.counted(value),
        interval=told.interval,
        level=f"{100 * told.bar.confidence:.3g} %",
        decides=told.bar.decides,
        at_look=told.later,
    )
