"""Sizes of networks that a server cannot count, for it loads no torch: it asks in the database, and a worker answers.

    ask(store.catalogue, patience=8.0)      # the server: True when something new is known
    Counter(store, name).start()            # a worker: a thread that answers

A worker counts in a process of its own (`python -m modescape.kept_counts`, questions in and counts out as JSON), so
that a training beside it keeps its random numbers and its memory. An answer is kept under what its question says of
network, options, shape and code, and asked for once.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from modescape.architectures import counting
from modescape.architectures.counting import Count, Question
from modescape.database import UNAVAILABLE
from modescape.outage import DATABASE, LOOPS
from modescape.registry import architectures

if TYPE_CHECKING:
    from modescape.store import Store
    from modescape.store.catalogue import Catalogue

log = logging.getLogger(__name__)

Json = dict[str, Any]

SIZE = "size"  # the kind of the rows
LOOK_SECONDS = 1.0  # between a worker's two looks
COUNT_SECONDS = 300.0  # that counting may take
CLAIM_SECONDS = 600.0  # after which another worker may count what one has not

_asked: set[str] = set()


def ask(catalogue: Catalogue, *, patience: float = 0.0) -> bool:
    """Take over what workers have counted of what this process wanted to know, and ask for the rest; whether there was
    anything. Waits for an answer the first time something is asked."""
    until, new = time.monotonic() + patience, False
    while wanted := counting.wanted():
        rows = {row.name: row.details for row in catalogue.entries(SIZE)}
        known = {key: Count(**rows[key]["count"]) for key in wanted if key in rows and rows[key].get("count")}
        counting.know(known)
        new |= bool(known)
        left = wanted.keys() - known.keys()
        try:
            for key in left - rows.keys():
                catalogue.put(SIZE, key, {"question": asdict(wanted[key])})
        except UNAVAILABLE as error:  # nothing is written now: who asks next asks again
            DATABASE.away(error)
            break
        if not left - _asked or time.monotonic() > until:
            _asked.update(left)
            break
        time.sleep(0.2)
    return new


class Counter:
    """A thread of a worker that answers what servers ask."""

    def __init__(self, store: Store, worker: str) -> None:
        self._catalogue = store.catalogue
        self._worker = worker
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="counter", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            try:
                answer(self._catalogue, self._worker)
            except UNAVAILABLE:  # whoever needs it next says so
                continue
            except Exception:  # a question is no reason to stop answering others
                LOOPS.exception("sizes of networks could not be counted")


def answer(catalogue: Catalogue, worker: str) -> int:
    """Count what was asked and nobody counts; how many questions there were."""
    now = time.time()
    waiting = {
        row.name: row.details
        for row in catalogue.entries(SIZE)
        if not row.details.get("count") and now - row.details.get("since", 0) > CLAIM_SECONDS
    }
    for key, details in waiting.items():
        catalogue.put(SIZE, key, {**details, "by": worker, "since": now})
    if waiting:
        counts = _in_child({key: details["question"] for key, details in waiting.items()})
        for key, details in waiting.items():
            refused = Count(0, 0, False, False, "its size could not be counted")
            catalogue.put(SIZE, key, {**details, "by": worker, "count": counts.get(key) or asdict(refused)})
    return len(waiting)


def _in_child(questions: Mapping[str, Json]) -> Mapping[str, Json]:
    command = [sys.executable, "-P", "-m", "modescape.kept_counts"]
    try:
        done = subprocess.run(
            command, input=json.dumps(questions), capture_output=True, text=True, timeout=COUNT_SECONDS, check=True
        )
    except (subprocess.SubprocessError, OSError) as error:
        log.warning("sizes of networks could not be counted: %s", getattr(error, "stderr", "") or error)
        return {}
    found: Mapping[str, Json] = json.loads(done.stdout.splitlines()[-1])
    return found


def counted(questions: Mapping[str, Json]) -> dict[str, Json]:
    """The answers, by the questions' keys; one whose key is another one here, for its code is, is left out."""
    found = {}
    for key, about in questions.items():
        question = Question(about["architecture"], _shape(about["shape"]), about["options"])
        entry = architectures.get(question.architecture)
        if entry is not None and entry.loaded and question.key == key:
            options = entry.options.model_validate(question.options)
            found[key] = asdict(counting.counted(entry, question.shape, options))
    return found


def _shape(sizes: list[int]) -> counting.Shape:
    channels, height, width, classes = sizes
    return channels, height, width, classes


if __name__ == "__main__":
    from modescape import plugins
    from modescape.settings import read_settings

    asked = json.load(sys.stdin)
    plugins.load(read_settings().plugin_modules)
    print(json.dumps(counted(asked)))
