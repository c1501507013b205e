"""What the cells of a sweep say of each claim, and the two sentences about all of them (science r).

    for claim in told(cells):
        print(claim.title, claim.in_every, claim.in_some)

"In every cell" is said where every cell says it at 2.5 % one-sided, which needs no correction (the intersection-union
test: Berger 1982; science r.1). "In some" is said of the cells whose word stands once Holm's correction for all cells
tested is made (science r.2).
"""

from __future__ import annotations

import csv as csv_module
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from modescape.claims.combining import holm
from modescape.claims.repeated_looks import Look
from modescape.claims.telling import Told
from modescape.finding import Finding
from modescape.names import as_cell
from modescape.records import Status
from modescape.science.confidence import Word
from modescape.store.sweeps import KeptCell, KeptSweep
from modescape.sweeps.asked import exact, label
from modescape.tables import Experiment
from modescape.voice import Voice, voice_of


class Verdict(StrEnum):
    """What can be said of all cells together."""

    EVERY = "holds in every cell"
    NONE = "does not hold in any cell"
    MIXED = "holds in some cells and not in others"
    SOME = "holds in some cells"
    NOT_EVERY = "does not hold in some cells"
    CANNOT_TELL = "cannot tell"
    WAITS = "waits for all cells"


@dataclass(frozen=True)
class CellAnswer:
    """What one cell says of one claim. word: None where it was not judged; mark: how the cell stands, then, in a word
    or two; because: why it was not judged, or cannot be told; stands: whether the word stands with Holm's correction
    over the cells tested; p: of the word's own test; read: (low, value, high) with ratios as ratios; look: which
    at its trainings the cell is; at_look: of a later one, the word at its level."""

    label: str
    word: Word | None
    because: str = ""
    stands: bool = False
    p: float | None = None
    tested: bool = False
    value: float | None = None
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    effect: str = "–"
    interval: str = ""
    mark: str = "not judged"
    read: tuple[float | None, float | None, float | None] = (None, None, None)
    look: int = 1
    at_look: str = ""

    @property
    def glyph(self) -> str:
        return self.word.glyph if self.word is not None else "–"


@dataclass(frozen=True)
class ClaimTold:
    """One claim over all cells."""

    letter: str
    title: str
    cells: tuple[CellAnswer, ...]
    verdict: Verdict
    in_every: str
    in_some: str


def told(sweep: KeptSweep, looks: Callable[[Sequence[Experiment]], Mapping[str, Look]]) -> list[ClaimTold]:
    """Every claim that some cell was asked, in the paper's order; [] before any is judged."""
    of_rows, voice = looks(sweep.experiments), voice_of_cells(sweep)
    answers = [_answers(cell, of_rows) for cell in sweep.cells]
    titles = {letter: voice(one.claim.title) for cell in answers for letter, one in cell.items()}
    order = {letter: place for place, letter in enumerate(sorted(titles))}
    waits = sum(cell.experiment is not None and not cell.experiment.status.has_ended for cell in sweep.cells)
    return [
        _over_cells(
            letter,
            titles[letter],
            [_answer(kept, cell.get(letter)) for kept, cell in zip(sweep.cells, answers, strict=True)],
            waits,
        )
        for letter in sorted(titles, key=order.__getitem__)
    ]


def voice_of_cells(sweep: KeptSweep) -> Voice:
    """How the cells are spoken of: their networks may have come with the base."""
    base = sweep.row.document["base"]
    return voice_of(None, base if isinstance(base, dict) else {})


def _answers(cell: KeptCell, looks: Mapping[str, Look]) -> dict[str, Told]:
    row = cell.experiment
    if row is None or not row.finding:
        return {}
    return {one.record.id: one for one in Finding.of(row).told(looks[row.id])}


def _answer(kept: KeptCell, one: Told | None) -> CellAnswer:
    name = label(kept.varied)
    if one is None:
        mark, because = _why_not(kept.experiment)
        return CellAnswer(name, None, because, mark=mark)
    record = one.record
    return CellAnswer(
        name, record.word, mark="", because=record.because if record.word is Word.CANNOT_TELL else "", p=record.p,
        tested=record.p is not None, value=one.bar.value, low=one.bar.low, high=one.bar.high,
        confidence=one.bar.confidence, effect=one.effect, interval=one.interval, read=one.bar.read(one.claim),
        look=one.at_look.look, at_look=one.later,
    )  # fmt: skip


def _why_not(row: Experiment | None) -> tuple[str, str]:
    """In a word or two, and in full."""
    if row is None:
        return "deleted", "was deleted"
    if not row.status.has_ended:
        return "not finished", "is not finished"
    if row.status is Status.SUCCEEDED:
        return "not asked", "did not ask it"
    return str(row.status), row.error or f"was {row.status}"


def _over_cells(letter: str, title: str, cells: Sequence[CellAnswer], waits: int) -> ClaimTold:
    tested = [i for i, cell in enumerate(cells) if cell.tested]
    standing: set[int] = set()
    for word in (Word.HOLDS, Word.DOES_NOT_HOLD):
        p_values = {str(i): _p(cells[i], word) for i in tested}
        standing |= {int(i) for i in holm(p_values)}
    kept = tuple(  # the correction is over all cells, so that no mark is given before all have ended
        CellAnswer(**{**cell.__dict__, "stands": not waits and i in standing and cell.word is not Word.CANNOT_TELL})
        for i, cell in enumerate(cells)
    )
    if waits:
        so_far = f"{waits} of {len(cells)} cells have not ended; this is said once all have."
        return ClaimTold(letter, title, kept, Verdict.WAITS, so_far, "")
    verdict = verdict_of(kept)
    in_every = _in_every(verdict, kept) + _later(kept)
    return ClaimTold(letter, title, kept, verdict, in_every, _in_some(verdict, kept, len(tested)))


def _p(cell: CellAnswer, word: Word) -> float:
    """Of the test for that word. Where it is not the word given, p is above 2.5 %, and how far is of no importance."""
    return cell.p if cell.word is word and cell.p is not None else 1.0


def verdict_of(cells: Sequence[CellAnswer]) -> Verdict:
    words = {cell.word for cell in cells}
    if words == {Word.HOLDS}:
        return Verdict.EVERY
    if words == {Word.DOES_NOT_HOLD}:
        return Verdict.NONE
    yes, no = (any(cell.stands and cell.word is word for cell in cells) for word in (Word.HOLDS, Word.DOES_NOT_HOLD))
    if yes and no:
        return Verdict.MIXED
    return Verdict.SOME if yes else Verdict.NOT_EVERY if no else Verdict.CANNOT_TELL


def _in_every(verdict: Verdict, cells: Sequence[CellAnswer]) -> str:
    n = len(cells)
    if verdict is Verdict.EVERY:
        return f"Holds in every cell: in each of {n} at 2.5 % one-sided, which needs no correction."
    if verdict is Verdict.NONE:
        return f"Does not hold in any cell: in none of {n}, each at 2.5 % one-sided, which needs no correction."
    if verdict in (Verdict.MIXED, Verdict.NOT_EVERY):
        no = _named(cells, lambda cell: cell.stands and cell.word is Word.DOES_NOT_HOLD)
        return f"Does not hold in every cell: not in {no}, with Holm's correction over the cells tested.{_open(cells)}"
    return f"Whether it holds in every cell cannot be told.{_open(cells)}"


def _later(cells: Sequence[CellAnswer]) -> str:
    """Which cells look at trainings that were looked at before, and where that takes their word away."""
    later = [cell for cell in cells if cell.at_look]
    if not later:
        return ""
    each = "; ".join(f"{cell.label}: look {cell.look}, {cell.at_look}" for cell in later)
    return f" Words are those of first looks, and here are later ones at the same trainings (science o.11): {each}."


def _open(cells: Sequence[CellAnswer]) -> str:
    """What keeps it open, cell by cell."""
    unsure = _named(cells, lambda cell: cell.word is Word.CANNOT_TELL)
    alone = _named(cells, lambda cell: cell.word is Word.DOES_NOT_HOLD and not cell.stands)
    absent = dict.fromkeys(cell.mark for cell in cells if cell.word is None)
    parts = [
        f" Cannot tell: {unsure}." if unsure else "",
        f" At 2.5 % it does not hold in {alone}, which Holm's correction does not leave standing." if alone else "",
        *(f" {mark.capitalize()}: {_marked(cells, mark)}." for mark in absent),
    ]
    return "".join(parts)


def _in_some(verdict: Verdict, cells: Sequence[CellAnswer], tested: int) -> str:
    yes = _named(cells, lambda cell: cell.stands and cell.word is Word.HOLDS)
    over = f"with Holm's correction over {tested} cell{'' if tested == 1 else 's'} tested"
    if verdict is Verdict.EVERY:
        by_name = f"; named one by one, {over}: {yes}" if yes else f"; none can be named alone {over}"
        return f"Holds in some, as in every one{by_name}."
    if verdict is Verdict.NONE:
        return "Hence it holds in none."
    if yes:
        return f"Holds in some: in {yes}, {over}."
    alone = _named(cells, lambda cell: cell.word is Word.HOLDS)
    weak = f" At 2.5 % it holds in {alone}, which that correction does not leave standing." if alone else ""
    return f"Whether it holds in some cannot be told {over}.{weak}"


def _named(cells: Sequence[CellAnswer], which: Callable[[CellAnswer], bool]) -> str:
    """The cells by their labels, "" of none, all of them in a word."""
    found = [cell.label for cell in cells if which(cell)]
    if len(found) == len(cells):
        return f"all {len(found)}" if len(found) > 1 else found[0]
    return "; ".join(found)


def _marked(cells: Sequence[CellAnswer], mark: str) -> str:
    return _named(cells, lambda cell: cell.word is None and cell.mark == mark)


# ---- tables ----


def csv(sweep: KeptSweep, claims: Sequence[ClaimTold]) -> str:
    """A row for each claim of each cell, floats in full precision, ratios as ratios."""
    fields = list(sweep.cells[0].varied) if sweep.cells else []
    text = io.StringIO()
    table = csv_module.writer(text, lineterminator="\n")
    table.writerow(("claim", "title", "cell", *fields, "experiment", "word", "stands_with_holm", "estimate", "low",
                    "high", "confidence", "p", "look", "word_at_look"))  # fmt: skip
    for claim in claims:
        for kept, one in zip(sweep.cells, claim.cells, strict=True):
            slug = kept.experiment.slug if kept.experiment is not None else ""
            low, value, high = one.read
            row = (claim.letter, claim.title, kept.number + 1, *map(exact, kept.varied.values()), slug,
                   one.word or one.mark, one.stands, value, low, high, one.confidence, one.p,
                   one.look, one.at_look)  # fmt: skip
            table.writerow(map(as_cell, row))
    return text.getvalue()


_ESCAPED = {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
            "~": r"\textasciitilde{}",
            "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "−": "$-$", "×": r"$\times$", "≥": r"$\geq$",
            "≤": r"$\leq$", "\u2009": r"\,", "\u202f": r"\,", "\u00a0": "~", "–": "--", "’": "'"}  # fmt: skip
_MARKS = {Word.HOLDS: r"$\checkmark$", Word.DOES_NOT_HOLD: r"$\times$", Word.CANNOT_TELL: "?"}


def tex(text: str) -> str:
    """A text as LaTeX sets it."""
    return "".join(_ESCAPED.get(letter, letter) for letter in text)


def latex(sweep: KeptSweep, claims: Sequence[ClaimTold]) -> str:
    """A table of the words and intervals, a row a cell and a column a claim; needs booktabs and amssymb."""
    head = " & ".join(["Cell", *(f"({tex(claim.letter)})" for claim in claims)])
    lines = [
        "% needs \\usepackage{booktabs,amssymb}; * stands with Holm's correction over the cells that were tested",
        f"% {sweep.row.name}".replace("\n", " "),
        rf"\begin{{tabular}}{{l{'l' * len(claims)}}}",
        r"\toprule",
        rf"{head} \\",
        r"\midrule",
    ]
    for place, kept in enumerate(sweep.cells):
        row = [tex(label(kept.varied)), *(_tex_cell(claim.cells[place]) for claim in claims)]
        lines.append(" & ".join(row) + r" \\")
    is_later = any(cell.at_look for claim in claims for cell in claim.cells)
    every = "all cells, as at first looks" if is_later else "all cells"
    lines += [r"\midrule", " & ".join([every, *(tex(claim.verdict) for claim in claims)]) + r" \\"]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _tex_cell(one: CellAnswer) -> str:
    if one.word is None:
        return one.mark
    mark = _MARKS[one.word] + ("$^{*}$" if one.stands else "")
    later = f" (look {one.look}, {tex(one.at_look)})" if one.at_look else ""
    return f"{mark} {tex(one.effect)}" + (f" [{tex(one.interval)}]" if one.interval else "") + later
