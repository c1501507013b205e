"""`make soak`: for MODESCAPE_SOAK_SECONDS workers, server, database and broker are killed while clients ask and
experiments run; every experiment ends with the results of an undisturbed run, and no answer is a failure of ours.

What the last run counted is kept in benchmarks/results/soak.json.
"""

from __future__ import annotations

import collections
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psycopg
import pytest
from keeping import keep
from ports import free_port
from test_celery_queue import House, chains, either, expected

from modescape.artifacts import Artifacts
from modescape.database import UNAVAILABLE

__all__ = ["either"]  # a fixture of that file

pytestmark = [pytest.mark.soak, pytest.mark.timeout(24 * 3600)]
SECONDS = float(os.environ.get("MODESCAPE_SOAK_SECONDS", "600"))
ASKED = ("/api/experiments", "/", "/api/workers", "/healthz", "/api/experiments?format=csv", "/workers",
         "/api/events?after=0", "/api/experiments?status=running&sort=-accuracy")  # fmt: skip


class Server:
    """`modescape serve` of a house, in a process of its own."""

    def __init__(self, house: House) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._house = house
        self.start()

    def start(self) -> None:
        settings = self._house.settings
        environment = {**os.environ, "MODESCAPE_HOME": str(settings.home), "MODESCAPE_PORT": str(self.port)}
        for name in ("database_url", "broker_url"):
            if (given := getattr(settings, name)) is not None:
                environment[f"MODESCAPE_{name.upper()}"] = given.get_secret_value()
        with (self._house.logs / "server.log").open("ab") as log:
            command = [sys.executable, "-m", "modescape.cli", "serve"]
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Crowd:
    """Clients that ask all the time; what they were answered, by status; "away" where nobody was there."""

    def __init__(self, url: str, clients: int = 4) -> None:
        self.answers: collections.Counter[str] = collections.Counter()
        self.failed: list[str] = []
        self._url, self._stopped = url, threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(i,)) for i in range(clients)]
        for thread in self._threads:
            thread.start()

    def _ask(self, number: int) -> None:
        rng = random.Random(number)
        with httpx.Client(base_url=self._url, timeout=30) as client:
            while not self._stopped.is_set():
                address = rng.choice(ASKED)
                try:
                    answer = client.get(address, headers={"Accept": rng.choice(["text/html", "*/*"])})
                except httpx.HTTPError:
                    self.answers["away"] += 1
                    time.sleep(0.1)
                    continue
                self.answers[str(answer.status_code)] += 1
                if answer.status_code not in (200, 503):
                    self.failed.append(f"{answer.status_code} {address} {answer.text[:300]}")
                time.sleep(0.02)

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(60)


def _crash_database(house: House) -> bool:
    """Kill one of PostgreSQL's processes, after which it ends all others and recovers. False of SQLite."""
    if house.settings.database.get_backend_name() == "sqlite":
        return False
    url = house.settings.database.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        os.kill(connection.info.backend_pid, signal.SIGKILL)
    house.store._database.engine.dispose()
    return True


def _answers(house: House) -> bool:
    """Whether the database has recovered."""
    try:
        house.store.events.last_id()
    except UNAVAILABLE:
        house.store._database.engine.dispose()
        return False
    return True


@pytest.fixture
def server(either: House) -> Iterator[Server]:
    made = Server(either)
    yield made
    made.kill()


def test_whatever_is_killed_experiments_end_as_undisturbed(
    either: House, server: Server, wait_until: Callable[..., None], module_redis_server: Any
) -> None:
    rng = random.Random(int(os.environ.get("MODESCAPE_SOAK_SEED", "1")))
    crowd = Crowd(server.url)
    kills: collections.Counter[str] = collections.Counter()
    ended, started = 0, time.monotonic()

    def kill(what: str) -> None:
        if what == "worker":
            name = rng.choice([*either.workers])
            either.kill(name)
            either.start(name)
        elif what == "server":
            server.kill()
            server.start()
        elif what == "broker" and either.settings.broker_url:
            module_redis_server.kill()
            module_redis_server.start()
        elif what != "database" or not _crash_database(either):
            return
        kills[what] += 1

    try:
        while time.monotonic() - started < SECONDS:
            wait_until(lambda: _answers(either), 60, "the database")
            experiment = either.launch(chains(3, steps=40, seconds=0.02))

            def over(experiment: Any = experiment) -> bool:
                return _answers(either) and either.has_ended(experiment)

            # a stage that is lost three times in one place counts as poison: workers are left alone at times
            for what in rng.sample(["worker", "server", "broker", "database"], rng.choice([1, 2])):
                time.sleep(rng.uniform(0.2, 2.0))
                kill(what)
            wait_until(over, 180, "the end of an experiment")
            assert either.values(experiment) == expected(3, 40)
            ended += 1
    finally:
        crowd.stop()
    files = Artifacts(either.settings.artifact_place)
    assert all(files.verify(digest) for digest in either.store.outputs.digests())
    assert crowd.failed == []
    counted = {"seconds": SECONDS, "experiments": ended, "kills": dict(kills), "answers": dict(crowd.answers)}
    keep("soak", either.settings.database.get_backend_name(), counted)
