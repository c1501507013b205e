"""LaTeX of texts, tables and figures, to be put into a paper: needs the packages of PACKAGES.

escaped("50 % of α")                       # 50 {\\%} of \\ensuremath{\\alpha}
table(("run", "accuracy"), [(0, 0.93)], caption="Accuracy", label="tab:accuracy")
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from modescape import extras

if TYPE_CHECKING:
    from pylatexenc.latexencode import UnicodeToLatexEncoder

PACKAGES = ("booktabs", "graphicx", "longtable", "pdflscape")
_FITS = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}"  # as it is, or as wide as the text
_WIDTH, _HEIGHT = 345.0, 550.0  # pt of the text of an article, and of one that lies on its side
_LETTER, _BETWEEN = 5.0, 12.0  # pt of a letter of 10 pt text, about; between two columns
# How wide a letter of each size is, of that of 10 pt text: smaller ones are cut wider.
_SIZES = ((1.0, ""), (0.93, r"\small"), (0.86, r"\footnotesize"), (0.81, r"\scriptsize"), (0.69, r"\tiny"))
_LONG = 40  # rows of a table that fits on a page; longer ones break
Cell = str | int | float | None


@lru_cache(maxsize=1)
def _encoder() -> UnicodeToLatexEncoder:
    extras.require("reports", "LaTeX", "pylatexenc")
    from pylatexenc.latexencode import (
        RULE_DICT,
        UnicodeToLatexConversionRule,
        UnicodeToLatexEncoder,
    )

    own = {0x202F: r"\,", 0x2212: r"\ensuremath{-}", 0x200B: "", 0x2060: ""}  # thin spaces in numbers; minus
    return UnicodeToLatexEncoder(
        conversion_rules=[UnicodeToLatexConversionRule(RULE_DICT, own), "defaults"],
        unknown_char_policy="keep",  # letters of other scripts are the document's fonts' affair
        unknown_char_warning=False,
    )


def escaped(text: str) -> str:
    """Text that LaTeX sets as it stands. Raises ExtraMissing."""
    found: str = _encoder().unicode_to_latex(" ".join(text.split("\n")))
    return found


def cell(value: Cell, digits: int = 6) -> str:
    """A number to that many digits; a dash where there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "--"
    if isinstance(value, (bool, str)):
        return escaped(str(value))
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def table(
    columns: Sequence[str], rows: Sequence[Sequence[Cell]], *, caption: str, label: str, wide: int | None = None
) -> str:
    """A table with booktabs' rules, numbers to the right, no wider than the text; one that is longer than a page breaks
    (longtable). wide: the column whose texts break into lines."""
    is_number = [all(row[i] is None or isinstance(row[i], (int, float)) for row in rows) for i in range(len(columns))]
    kinds = [r"p{.4\linewidth}" if i == wide else "r" if right else "l" for i, right in enumerate(is_number)]
    shape = "".join(kinds)
    head = " & ".join(map(escaped, columns)) + r" \\"
    cells = [[*map(cell, row)] for row in rows]
    said = rf"\caption{{{escaped(caption)}}}"
    if len(rows) > _LONG:
        for digits, is_stacked in ((6, False), (6, True), (4, True), (3, True)):
            cells = [[cell(value, digits) for value in row] for row in rows]
            parts = [name.split("_") if is_stacked else [name] for name in columns]
            fits, before, after = _made_to_fit([[max(one, key=len) for one in parts], *cells])
            if fits:
                break
        head = " & ".join(_stacked(one) for one in parts) + r" \\"
        return "\n".join([
            *before, rf"\begin{{longtable}}{{{shape}}}", rf"{said}\label{{{label}}}\\", r"\toprule", head, r"\midrule",
            r"\endfirsthead", r"\toprule", head, r"\midrule", r"\endhead", r"\bottomrule", r"\endfoot",
            *_lines(cells),
            r"\end{longtable}", *after, "",
        ])  # fmt: skip
    return "\n".join([
        r"\begin{table}[htbp]", r"\centering", said, rf"\label{{{label}}}",
        rf"{_FITS}{{\begin{{tabular}}{{{shape}}}", r"\toprule", head, r"\midrule", *_lines(cells), r"\bottomrule",
        r"\end{tabular}}", r"\end{table}", "",
    ])  # fmt: skip


def _stacked(parts: Sequence[str]) -> str:
    """A head, a word a line."""
    words = r" \\ ".join(map(escaped, parts))
    return words if len(parts) == 1 else rf"\shortstack{{{words}}}"


def _lines(cells: Sequence[Sequence[str]]) -> list[str]:
    return [" & ".join(row) + r" \\" for row in cells]


def _made_to_fit(lines: Sequence[Sequence[str]]) -> tuple[bool, list[str], list[str]]:
    """Whether a table that breaks, which cannot be scaled, is made to fit, and what stands before and after it then:
    smaller letters, and where those are not enough a page that lies on its side."""
    count = len(lines[0])
    letters = sum(max(len(line[i].replace("\\", "")) for line in lines) for i in range(count))

    def is_narrow(size: float, command: str, room: float) -> bool:
        return letters * _LETTER * size + count * _BETWEEN / (2 if command else 1) <= room

    ways = [(is_turned, size, command) for is_turned in (False, True) for size, command in _SIZES]
    fitting = [way for way in ways if is_narrow(*way[1:], _HEIGHT if way[0] else _WIDTH)]
    is_turned, _, command = [*fitting, ways[-1]][0]
    opened, closed = ([f"{{{command}\\setlength{{\\tabcolsep}}{{3pt}}"], ["}"]) if command else ([], [])
    if is_turned:
        opened, closed = [r"\begin{landscape}", *opened], [*closed, r"\end{landscape}"]
    return bool(fitting), opened, closed


def figure(file: str, *, caption: str, label: str) -> str:
    """A picture with its caption. file: as it lies beside the document."""
    return "\n".join([
        r"\begin{figure}[htbp]", r"\centering", rf"\includegraphics[width=\linewidth]{{{file}}}",
        rf"\caption{{{escaped(caption)}}}", rf"\label{{{label}}}", r"\end{figure}", "",
    ])  # fmt: skip
