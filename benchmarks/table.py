"""One table of all that is kept in results/: ours beside the strongest opponent known, with n, spread, day and machine.

    python benchmarks/table.py          # what `make bench` prints when every benchmark has run

Ratios are other / ours: above 1 ours is faster, or smaller. What has no opponent stands as it was measured; what an
opponent cannot do stands in words.
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
    """Whatever has a ratio, percentiles, a size or words instead, by its names from the outside in."""
    for name, row in rows.items():
        whole = ", ".join(filter(None, (above, name)))
        if isinstance(row, dict) and {"ratio", "p50", "mb", "said"} & row.keys():
            yield whole, row
        if isinstance(row, dict):
            yield from measured(row, whole)


def said(row: Json) -> tuple[str, str, str]:
    """What came out, its spread, and how often it was measured."""
    if "said" in row:
        return row["said"], "", ""
    if "mb" in row or "p50" in row:
        value, spread = _plain(row)
        n = f"{row['n']}" if "n" in row else ""
        return (f"{row['ratio']:.2f} times", f"{value} {spread}".rstrip(), n) if "ratio" in row else (value, spread, n)
    low, high = row["range"]
    return f"{row['ratio']:.2f} times", f"{low:.2f} to {high:.2f}", f"{row['n']}" if "n" in row else ""


def _plain(row: Json) -> tuple[str, str]:
    """A size or a time as it was measured, and its spread."""
    if "mb" in row:
        return f"{row['mb']:g} MB", ""
    return f"{row['p50']:g} ms", f"p95 {row['p95']:g}" if "p95" in row else "{:g} to {:g}".format(*row["range"])


def main() -> None:
    head = ("Benchmark", "What", "Ours", "Spread", "n", "Day", "Machine")
    table = [head, *lines()]
    widths = [max(len(line[i]) for line in table) for i in range(len(head))]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
