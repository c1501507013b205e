"""Several experiments side by side: what differs between their specs, and whether their numbers do.

    found = compare("one", "other", folder="here")
    found                                 # numbers with intervals and differences, as a table
    found.differs                         # fields of the specs with a value for every experiment
    found.figure("disagreement").show()   # each with its interval

Intervals are over runs, the unit of replication (a delete-one jackknife, Student's t), the test images being given.
Differences of independent experiments have Welch's degrees of freedom; where runs began from the same seeds they are
paired; networks that both hold are named, and differ in nothing. Of more than one difference of a number, `stands` is
with Holm's correction (`ensembles`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from modescape.claims.combining import holm
from modescape.claims.evidence import BY_SHAPE
from modescape.claims.telling import Told
from modescape.comparing import ensembles
from modescape.comparing.ensembles import MOST_LOGITS, TITLES, Ensemble, Pairing, Value, difference, pairing
from modescape.drawing import intervals
from modescape.drawing.figure import Table
from modescape.drawing.style import Theme
from modescape.drawing.words import listed
from modescape.errors import InvalidInput
from modescape.finding import Finding, SoFar
from modescape.laboratory import opened
from modescape.plan import flat
from modescape.records import Json
from modescape.results import Results
from modescape.spec import stored
from modescape.tables import Experiment
from modescape.voice import HERE, Voice, together, voice_of

if TYPE_CHECKING:
    import plotly.graph_objects as go

MOST = 50
FEW = 8  # experiments of which each may average as many outputs as one alone


@dataclass(frozen=True, kw_only=True)
class Number:
    """One number of every experiment; None where an experiment does not have it (yet)."""

    name: str
    title: str
    unit: str  # of `ensembles.Unit`
    values: tuple[Value | None, ...]
    differences: tuple[Value | None, ...]

    def told(self, value: Value | None, *, difference: bool = False) -> str:
        """As people read it: "93.1 % (92.0 to 94.2)", accuracies in percent, their differences in points."""
        return ensembles.told(value, self.unit, difference=difference)


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
    """Two experiments, by their places, how many networks both have, and which runs these are in each."""

    first: int
    second: int
    networks: int
    runs: tuple[tuple[int, int], ...] = ()


class Compared(NamedTuple):
    """One of the experiments that are compared."""

    slug: str
    name: str


@dataclass(frozen=True, kw_only=True, repr=False)
class Comparison:
    """rows: the experiments, in the order asked; reference: of which differences are. cautions: what
    makes their numbers incomparable, a sentence each."""

    rows: tuple[Compared, ...]
    differs: tuple[Difference, ...]
    numbers: tuple[Number, ...]
    claims: tuple[Answers, ...]
    cautions: tuple[str, ...]
    shared: tuple[Shared, ...]
    voice: Voice = HERE
    reference: int = 0

    @property
    def judged(self) -> list[str]:
        """How differences from the reference were judged, and which networks several hold, in sentences."""
        if not self.numbers:  # nothing is known of any (yet)
            return []
        first, how = self.rows[self.reference].name, self._how
        names = {one: [row.name for row, own in zip(self.rows, how, strict=True) if own == one] for one in set(how)}
        found = []
        if "paired" in names:
            why = "for their runs began from the same seeds"
            found.append(f"{listed(names['paired'])}: paired with {first} run by run, {why}.")
        if "welch" in names and len(names) > 2:
            found.append(f"{listed(names['welch'])}: independent of {first}.")
        for one in self.shared:
            a, b = self.rows[one.first].name, self.rows[one.second].name
            own = [place for place in (one.second, one.first) if self.reference in (one.first, one.second)]
            if any(how[place] == "identical" for place in own):
                found.append(f"{b} holds the same networks as {a}, so nothing differs between them.")
                continue
            here, there = (_ranges([run[k] for run in one.runs]) for k in (0, 1))
            runs = self.voice("runs")
            which = f"{runs} {here}" if here == there else f"{runs} {here} of {a}, {there} of {b}"
            more = ": their difference has no interval" if any(how[place] == "shared" for place in own) else ""
            many = f"{one.networks} network{'s' * (one.networks > 1)}"
            found.append(f"{a} and {b} have {many} in common ({which}){more}.")
        pairs = max(sum(one is not None and one.p is not None for one in n.differences) for n in self.numbers)
        if pairs > 1:
            found.append(
                f"≠ stands at a difference that is other than zero at 5 % with Holm’s correction over the {pairs} "
                "differences of its number; intervals are 95 % each."
            )
        elif pairs:
            found.append("≠ stands at a difference that is other than zero at 5 %.")
        return found

    @property
    def _how(self) -> list[str]:
        """Of each experiment, against the reference; "" of the reference."""
        of_each = zip(*(number.differences for number in self.numbers), strict=True)
        return [next((one.how for one in own if one is not None and one.how), "") for own in of_each]

    def document(self) -> Json:
        """As the API gives it."""
        slugs = [row.slug for row in self.rows]
        return {
            "experiments": slugs,
            "names": [row.name for row in self.rows],
            "reference": slugs[self.reference],
            "differs": [each._asdict() for each in self.differs],
            "numbers": [asdict(number) for number in self.numbers],
            "claims": [
                {"id": letter, "title": title, "answers": [None if a is None else asdict(a) for a in answers]}
                for letter, title, answers in self.claims
            ],
            "cautions": self.cautions,
            "judged": self.judged,
            "shared_networks": [
                {"experiments": [slugs[one.first], slugs[one.second]], "networks": one.networks, "runs": one.runs}
                for one in self.shared
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
                Shared(
                    slugs.index(one["experiments"][0]), slugs.index(one["experiments"][1]), one["networks"],
                    tuple((first, second) for first, second in one.get("runs", ())),
                )
                for one in told["shared_networks"]
            ),
            reference=slugs.index(told.get("reference", slugs[0])),
        )  # fmt: skip

    def number(self, name: str) -> Number:
        """Raises InvalidInput."""
        known = {number.name: number for number in self.numbers}
        if name not in known:
            raise InvalidInput(f"there is no number {name!r}", field="name", allowed=", ".join(known))
        return known[name]

    def table(self) -> Table:
        """A row for each number of each experiment that has it; differences are from the reference."""
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
        return intervals.draw(number.title, bars, theme, in_percent=number.unit in ("accuracy", "points"))

    def __repr__(self) -> str:
        others = [place for place in range(len(self.rows)) if place != self.reference]
        later = [f"{self.rows[place].name} − {self.rows[self.reference].name}" for place in others]
        lines = [("", *(row.name for row in self.rows), *later)]
        lines += [
            (
                n.title,
                *map(n.told, n.values),
                *(
                    f"{n.told(one, difference=True)}{' ≠' if one and one.stands else ''}"
                    for one in (n.differences[place] for place in others)
                ),
            )
            for n in self.numbers
        ]
        lines += [
            (f"({letter}) {title}", *(_in_a_cell(a) if a else "not asked" for a in answers))
            for letter, title, answers in self.claims
        ]
        differs = [f"{field}: {' / '.join(values)}" for field, values in self.differs]
        said = [*self.judged, *self.cautions]
        return "\n".join(
            [*_aligned(lines), "", "Differs in", *(differs or ["nothing"]), *([""] if said else []), *said]
        )


def _ranges(numbers: Sequence[int]) -> str:
    """ "0 to 4, 7"."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][-1] + 1:
            found[-1].append(number)
        else:
            found.append([number])
    return ", ".join(f"{one[0]}" if len(one) == 1 else f"{one[0]} to {one[-1]}" for one in found)


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


def compare(*experiments: Results | str, folder: Path | str | None = None, reference: str | None = None) -> Comparison:
    """Two to fifty experiments: what `run` gave, or slugs of those kept in `folder` (None: the folder of the
    settings). reference: the slug or id of that from which differences are; None is the first.

    Raises InvalidInput for fewer or more, and for a reference that is none of them, NotFound.
    """
    if not 2 <= len(experiments) <= MOST:
        raise InvalidInput(f"{len(experiments)} were named", field="experiments", allowed=f"two to {MOST} of them")
    read = [opened(folder).results(one) if isinstance(one, str) else one for one in experiments]
    return _compared(read, _place(reference, [one.experiment for one in read]))


def _place(reference: str | None, rows: Sequence[Experiment]) -> int:
    """Raises InvalidInput."""
    if reference is None:
        return 0
    found = next((place for place, row in enumerate(rows) if reference in (row.slug, row.id)), None)
    if found is None:
        allowed = ", ".join(row.slug for row in rows)
        raise InvalidInput(f"{reference[:80]!r} is none of those compared", field="from", allowed=allowed)
    return found


def _compared(experiments: Sequence[Results], reference: int) -> Comparison:
    rows = tuple(one.experiment for one in experiments)
    most = MOST_LOGITS if len(experiments) <= FEW else MOST_LOGITS * FEW // len(experiments)
    read = [Ensemble(one, most=most) for one in experiments]
    if any(one.cosines["cosine"].size and not one.cosine.size for one in read):  # one of an older version
        for one in read:
            one.cosine = one.cosines["cosine"]
    both = {(i, j): pairing(read[i], read[j]) for i, j in combinations(range(len(rows)), 2)}
    shared = tuple(Shared(i, j, len(found.identical), found.identical) for (i, j), found in both.items()
                   if found.identical)  # fmt: skip
    voice = voice_of_all(rows)
    return Comparison(
        rows=tuple(Compared(row.slug, name) for row, name in zip(rows, told_apart(rows), strict=True)),
        differs=tuple(differing([_promised(row, said=all(map(_is_imported, rows))) for row in rows])),
        numbers=tuple(_numbers(read, reference, both, voice)),
        claims=tuple(_claims(experiments, voice)),
        cautions=tuple(_cautions(read)),
        shared=shared,
        voice=voice,
        reference=reference,
    )


def voice_of_all(rows: Sequence[Experiment]) -> Voice:
    """How these experiments are spoken of together."""
    return together(voice_of(row.provenance, row.spec) for row in rows)


def _cautions(read: Sequence[Ensemble]) -> Iterator[str]:
    rows = [one.row for one in read]
    if len({row.input_scale for row in rows if not _is_imported(row)}) > 1:
        yield _OF_SCALE
    if len({_is_imported(one.row) for one in read if one.cosines["cosine-reduced"].size}) > 1:
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


def _numbers(
    read: Sequence[Ensemble], reference: int, both: Mapping[tuple[int, int], Pairing], voice: Voice
) -> list[Number]:
    """Those that some experiment has. both: how the runs of two of them belong together, by their places."""
    others = [place for place in range(len(read)) if place != reference]
    with_it = [both[reference, k] if reference < k else both[k, reference].turned for k in others]
    numbers = []
    for name, (title, unit) in TITLES.items():
        values = tuple(None if (own := one.readings[name]) is None else own.shown(name) for one in read)
        if not any(values):
            continue
        found = _together([
            difference(read[reference], read[k], name, pairs) for k, pairs in zip(others, with_it, strict=True)
        ])  # fmt: skip
        differences = (*found[:reference], None, *found[reference:])
        numbers.append(Number(name=name, title=voice(title), unit=unit, values=values, differences=differences))
    return numbers


def _together(differences: Sequence[Value | None]) -> list[Value | None]:
    """Which stand when all are looked at (Holm 1979)."""
    standing = holm({f"{k}": one.p / 2 for k, one in enumerate(differences) if one is not None and one.p is not None})
    return [None if one is None else replace(one, stands=f"{k}" in standing) for k, one in enumerate(differences)]


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
