"""What long runs counted, a row each, with the day and the machine: benchmarks/results/soak.json and fuzz.json."""

from __future__ import annotations

import datetime
import fcntl
import json
import os
import platform
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"


def keep(name: str, row: str, counted: dict[str, Any]) -> None:
    """In place of what the row held; several processes may keep rows of one file."""
    about = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
    }
    with (RESULTS / f"{name}.json").open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        text = file.read()
        kept = (json.loads(text) if text else {}) | {row: about | counted}
        file.truncate(0)
        file.write(json.dumps(kept, indent=1) + "\n")
