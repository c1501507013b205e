"""What the benchmarks share: two ways timed in turn, and where their numbers are kept."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modescape.executor import Machine
from modescape.settings import read_settings

RESULTS = Path(__file__).parent / "results"


def timed(call: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> tuple[float, Any]:
    start = clock()
    found = call()
    return clock() - start, found


def beside(
    rounds: int,
    ours: Callable[[], Any],
    other: Callable[[], Any],
    same: Callable[[Any, Any], None],
    clock: Callable[[], float] = time.perf_counter,
) -> Any:
    """Both in turn, `rounds` times after one that is not counted; medians in seconds, ratios other / ours, range."""
    pairs = []
    for number in range(rounds + 1):
        (mine, found), (theirs, expected) = timed(ours, clock), timed(other, clock)
        if number == 0:
            same(found, expected)
        else:
            pairs.append((mine, theirs))
    ratios = [theirs / mine for mine, theirs in pairs]
    return {
        "n": rounds, "ours": round(statistics.median(mine for mine, _ in pairs), 4),
        "other": round(statistics.median(theirs for _, theirs in pairs), 4),
        "ratio": round(statistics.median(ratios), 2), "range": [round(min(ratios), 2), round(max(ratios), 2)],
    }  # fmt: skip


def keep(name: str, rows: dict[str, Any], **about: Any) -> None:
    """results/`name`.json: the rows with the day, the machine and what else is to be known."""
    RESULTS.mkdir(exist_ok=True)
    kept = {"date": time.strftime("%Y-%m-%d"), "machine": Machine.here(read_settings()).title, **about, "rows": rows}
    (RESULTS / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n")
