"""Memory and time of judging an ensemble of ImageNet's size: what one process holds while it imports and judges it.

    python benchmarks/importing.py --members 20 --examples 50000 --classes 1000 --folder /somewhere/large

Makes the files with NumPy (float16, one a member), then reads, examines, digests and keeps them, and runs every stage
in this process, as a worker would. `anonymous` is memory that is the process's own; `resident` counts pages of mapped
files too, which the system takes back when it needs them. Results are appended to benchmarks/importing.jsonl.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from modescape.imported.ensemble import Recipe
from modescape.imported.globs import read_glob
from modescape.importing import bring_in
from modescape.laboratory import started

KEPT = Path(__file__).with_suffix(".jsonl")


class Watch:
    """Peaks of this process's memory, in MB, looked at every 10 ms."""

    def __init__(self) -> None:
        self.anonymous = self.resident = 0.0
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while True:
            status = Path("/proc/self/status").read_text()
            found = {name: int(kb) / 1e3 * 1.024 for name, kb in re.findall(r"(RssAnon|VmRSS):\s+(\d+) kB", status)}
            self.anonymous = max(self.anonymous, found["RssAnon"])
            self.resident = max(self.resident, found["VmRSS"])
            time.sleep(0.01)

    @contextmanager
    def during(self, what: str, into: dict[str, dict[str, float]]) -> Iterator[None]:
        self.anonymous = self.resident = 0.0
        began = time.monotonic()
        try:
            yield
        finally:
            time.sleep(0.03)
            into[what] = {
                "seconds": round(time.monotonic() - began, 1),
                "anonymous_mb": round(self.anonymous),
                "resident_mb": round(self.resident),
            }
            print(what, into[what], flush=True)


def make(folder: Path, members: int, examples: int, classes: int) -> None:
    """Members that know most classes and err apart."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, classes, examples)
    np.save(folder / "labels.npy", truth)
    shared = rng.standard_normal((examples, classes), np.float32)
    for member in range(members):
        logits = shared + rng.standard_normal((examples, classes), np.float32)
        logits[np.arange(examples), truth] += 5
        np.save(folder / f"member-{member}.npy", logits.astype(np.float16))


def measure(members: int, examples: int, classes: int, folder: Path) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    watch = Watch()
    with tempfile.TemporaryDirectory(dir=folder) as made:
        here = Path(made)
        make(here, members, examples, classes)
        began = started(here / "home", None)
        with watch.during("import", found):
            ensemble = read_glob(
                str(here / "member-*.npy"), labels=str(here / "labels.npy"), member=r"member-(\d+)", recipe=Recipe.SAME
            )
            row = bring_in(began.laboratory, ensemble, name="large")
        with watch.during("judge", found):
            began.finish(row, progress=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=20)
    parser.add_argument("--examples", type=int, default=50_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    asked = parser.parse_args()
    found = measure(asked.members, asked.examples, asked.classes, asked.folder)
    sizes = {"members": asked.members, "examples": asked.examples, "classes": asked.classes}
    with KEPT.open("a") as file:
        file.write(json.dumps({**sizes, **found}) + "\n")


if __name__ == "__main__":
    main()
