"""One table of all that is kept in results/: ours beside the strongest opponent known, with n, spread, day and machine.

    python benchmarks/table.py          # what `make bench` prints when every benchmark has run

Ratios are other / ours: above 1 ours is faster. What has no opponent stands as it was measured.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from _beside import RESULTS

Json = dict[str, Any]


def lines() -> Iterator[tuple[str, ...]]:
    for path in sorted(RESULTS.glob("*.json")):
        kept = json.loads(path.read_text(encoding="utf-8"))
        for name, row in measured(kept["rows"]):
            yield (path.stem, name, *said(row), kept["date"], kept["machine"])


def measured(rows: Json, above: str = "") -> Iterator[tuple[str, Json]]:
    """Whatever has a ratio or percentiles, by its names from the outside in."""
    for name, row in rows.items():
        whole = ", ".join(filter(None, (above, name)))
        if isinstance(row, dict) and {"ratio", "p50"} & row.keys():
            yield whole, row
        if isinstance(row, dict):
            yield from measured(row, whole)


def said(row: Json) -> tuple[str, str, str]:
    """What came out, its spread, and how often it was measured."""
    if "ratio" in row:
        low, high = row["range"]
        return f"{row['ratio']:.2f} times", f"{low:.2f} to {high:.2f}", f"{row['n']}" if "n" in row else ""
    return f"{row['p50']:g} ms", f"p95 {row['p95']:g}", f"{row['n']}"


def main() -> None:
    head = ("Benchmark", "What", "Ours", "Spread", "n", "Day", "Machine")
    table = [head, *lines()]
    widths = [max(len(line[i]) for line in table) for i in range(len(head))]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
