"""axe-core's own rules, asked of an opened page: WCAG 2.2 A and AA, and what its authors hold for good practice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import axe_playwright_python

SCRIPT = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa", "best-practice")
_RUN = """async tags => (await axe.run(document, { runOnly: tags, resultTypes: ["violations"] })).violations.flatMap(
    rule => rule.nodes.map(node => `${rule.id}: ${node.target.join(" ")}: ${node.html.slice(0, 160)}`))"""


def findings(evaluate: Callable[..., Any]) -> list[str]:
    """evaluate: of the page, JavaScript and one argument; past its policy of scripts, which axe is none of."""
    evaluate(SCRIPT)
    found: list[str] = evaluate(_RUN, list(TAGS))
    return found
