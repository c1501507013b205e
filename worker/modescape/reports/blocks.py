"""What stands in a report: notes, figures, claims, numbers, and two parts that write themselves.

blocks = read([{"kind": "text", "markdown": "# A *report*"}, {"kind": "figure", "experiment": "a", "figure": "plane"}])
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from modescape.claims import CLAIMS
from modescape.columns import EXPERIMENTS
from modescape.errors import InvalidInput, Problem
from modescape.names import meant
from modescape.pydantic_errors import invalid
from modescape.records import Json
from modescape.registry import figures
from modescape.reports import notes

MOST = 200  # blocks of a report
LONGEST = 50_000  # characters of a note
# Of all blocks together: whoever opens a report has all of it worked out.
MOST_CHARACTERS = 200_000  # of its notes
MOST_CELLS = 5_000  # of its tables
MOST_COLUMNS = 100  # different ones, of tables and references in notes
MOST_EXPERIMENTS = 200  # that it names
MOST_REFERENCES = 2_000  # in its notes
_NUMBERS = ("runs", "accuracy", "ensemble_accuracy", "disagreement", "seconds")

Reference = Annotated[str, StringConstraints(min_length=1, max_length=80)]  # slug or id of an experiment
Caption = Annotated[str, StringConstraints(max_length=2000)]


class Block(BaseModel):
    """id: by which it is found again when blocks are moved."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(default_factory=lambda: uuid.uuid4().hex[:8], pattern=r"^[0-9a-z-]{1,36}$")


class Text(Block):
    """A note in Markdown, with $formulas$ and [[references]]."""

    kind: Literal["text"] = "text"
    markdown: str = Field("", max_length=LONGEST)


class FigureOf(Block):
    """A figure of an experiment. options: as on its page; caption: stands before its own."""

    kind: Literal["figure"] = "figure"
    experiment: Reference
    figure: str
    options: dict[str, Any] = Field(default_factory=dict, max_length=40)
    caption: Caption = ""


class ClaimsOf(Block):
    """What an experiment answers. claims: their letters; none for all."""

    kind: Literal["claims"] = "claims"
    experiment: Reference
    claims: tuple[str, ...] = Field((), max_length=40)


class NumbersOf(Block):
    """A table, a row for each experiment. columns: of the list, `spec.<path>` and `result.<path>` too."""

    kind: Literal["numbers"] = "numbers"
    experiments: tuple[Reference, ...] = Field(min_length=1, max_length=50)
    columns: tuple[str, ...] = Field(_NUMBERS, min_length=1, max_length=20)
    caption: Caption = ""


class Methods(Block):
    """How the experiments of this report were made: settings, seeds, software and machines."""

    kind: Literal["methods"] = "methods"


class References(Block):
    """What the figures, methods and data of this report are after."""

    kind: Literal["references"] = "references"


AnyBlock = Annotated[Text | FigureOf | ClaimsOf | NumbersOf | Methods | References, Field(discriminator="kind")]
_BLOCKS: TypeAdapter[list[AnyBlock]] = TypeAdapter(Annotated[list[AnyBlock], Field(max_length=MOST)])


def read(documents: Sequence[Json]) -> list[AnyBlock]:
    """Blocks of their documents, checked as far as that goes without looking any experiment up; two of one id get ids
    of their own. Raises InvalidInput naming each field that is wrong."""
    try:
        found = _BLOCKS.validate_python(documents)
    except ValidationError as error:
        wrong = [
            Problem(one.message, f"blocks.{_without_kind(one.field)}", one.allowed) for one in invalid(error).problems
        ]
        raise InvalidInput("; ".join(map(str, wrong)), problems=wrong) from None
    problems = [one for place, block in enumerate(found) for one in _problems(block, f"blocks.{place}")]
    if problems:
        raise InvalidInput("; ".join(map(str, problems)), problems=problems)
    seen: set[str] = set()
    for place, block in enumerate(found):
        if block.id in seen:
            found[place] = block.model_copy(update={"id": uuid.uuid4().hex[:8]})
        seen.add(found[place].id)
    return found


def check_size(found: Sequence[AnyBlock]) -> None:
    """Raises InvalidInput for more than a report may ask of who opens it."""
    typed = [one for block in found if isinstance(block, Text) for one in notes.REFERENCE.finditer(block.markdown)]
    referred = list(map(notes.referred, typed))
    counts = (
        ("characters in notes", sum(len(one.markdown) for one in found if isinstance(one, Text)), MOST_CHARACTERS),
        ("references in notes", len(referred), MOST_REFERENCES),
        ("cells in tables", sum(len(one.experiments) * len(one.columns) for one in found if isinstance(one, NumbersOf)),
         MOST_CELLS),
        ("different columns and kinds of references", len({*columns(found), *(what for _, what in referred)}),
         MOST_COLUMNS),
        ("experiments", len({*experiments(found), *(name for name, _ in referred)}), MOST_EXPERIMENTS),
    )  # fmt: skip
    wrong = [
        Problem(f"have {count:,} {what} together", "blocks", f"at most {most:,}")
        for what, count, most in counts
        if count > most
    ]
    if wrong:
        raise InvalidInput("; ".join(map(str, wrong)), problems=wrong)


def columns(blocks: Iterable[AnyBlock]) -> list[str]:
    """Of the tables, each once."""
    return list(dict.fromkeys(name for one in blocks if isinstance(one, NumbersOf) for name in one.columns))


def _without_kind(field: str) -> str:
    """Pydantic names the member of a union in the path of what is wrong inside: 3.figure.experiment."""
    place, _, rest = field.partition(".")
    kind, _, inner = rest.partition(".")
    kinds = {"text", "figure", "claims", "numbers", "methods", "references"}
    return ".".join(filter(None, (place, inner if kind in kinds else rest)))


def _problems(block: AnyBlock, at: str) -> Iterable[Problem]:
    if isinstance(block, FigureOf):
        if block.figure not in figures:
            yield _unknown("figure", block.figure, list(figures), f"{at}.figure")
        else:
            yield from _options(block, at)
    if isinstance(block, ClaimsOf):
        yield from (_unknown("claim", one, list(CLAIMS), f"{at}.claims") for one in block.claims if one not in CLAIMS)
    if isinstance(block, NumbersOf):
        shown = [name for name in EXPERIMENTS.keys if name not in ("finding", "error")]
        for name in block.columns:
            if name not in shown and EXPERIMENTS.beside(name) is None:
                yield _unknown("column", name, shown, f"{at}.columns")


def _options(block: FigureOf, at: str) -> Iterable[Problem]:
    model = figures[block.figure].options
    try:
        model.model_validate(block.options)
    except ValidationError as error:
        for one in invalid(error, model).problems:
            yield Problem(one.message, f"{at}.options.{one.field}", one.allowed)


def _unknown(noun: str, name: str, known: Sequence[str], at: str) -> Problem:
    return Problem(f"there is no {noun} {name[:40]!r}{meant(name, known)}", at, ", ".join(known))


def documents(blocks: Iterable[AnyBlock]) -> list[Json]:
    """As they are kept."""
    return [block.model_dump(mode="json") for block in blocks]


def experiments(blocks: Iterable[AnyBlock]) -> list[str]:
    """References of the experiments that blocks name by themselves, in the order in which they first stand there."""
    found: dict[str, None] = {}
    for block in blocks:
        if isinstance(block, FigureOf | ClaimsOf):
            found[block.experiment] = None
        if isinstance(block, NumbersOf):
            found |= dict.fromkeys(block.experiments)
    return list(found)
