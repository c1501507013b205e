"""LaTeX of texts, tables and figures, to be put into a paper: needs the packages booktabs, graphicx and longtable.

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

PACKAGES = ("booktabs", "graphicx", "longtable")
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


def cell(value: Cell) -> str:
    """A number to six digits; a dash where there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "--"
    if isinstance(value, (bool, str)):
        return escaped(str(value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def table(
    columns: Sequence[str], rows: Sequence[Sequence[Cell]], *, caption: str, label: str, wide: int | None = None
) -> str:
    """A table with booktabs' rules, numbers to the right; one that is longer than a page breaks (longtable). wide: the
    column whose texts break into lines."""
    is_number = [all(row[i] is None or isinstance(row[i], (int, float)) for row in rows) for i in range(len(columns))]
    kinds = [r"p{.4\linewidth}" if i == wide else "r" if right else "l" for i, right in enumerate(is_number)]
    shape = "".join(kinds)
    head = " & ".join(map(escaped, columns)) + r" \\"
    lines = [" & ".join(map(cell, row)) + r" \\" for row in rows]
    said = rf"\caption{{{escaped(caption)}}}"
    if len(rows) > _LONG:
        return "\n".join([
            rf"\begin{{longtable}}{{{shape}}}", rf"{said}\label{{{label}}}\\", r"\toprule", head, r"\midrule",
            r"\endfirsthead", r"\toprule", head, r"\midrule", r"\endhead", r"\bottomrule", r"\endfoot", *lines,
            r"\end{longtable}", "",
        ])  # fmt: skip
    return "\n".join([
        r"\begin{table}[htbp]", r"\centering", said, rf"\label{{{label}}}", rf"\begin{{tabular}}{{{shape}}}",
        r"\toprule", head, r"\midrule", *lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", "",
    ])  # fmt: skip


def figure(file: str, *, caption: str, label: str) -> str:
    """A picture with its caption. file: as it lies beside the document."""
    return "\n".join([
        r"\begin{figure}[htbp]", r"\centering", rf"\includegraphics[width=\linewidth]{{{file}}}",
        rf"\caption{{{escaped(caption)}}}", rf"\label{{{label}}}", r"\end{figure}", "",
    ])  # fmt: skip
