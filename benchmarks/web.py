"""How fast the web process answers: start, memory, lists of many experiments, many clients at once.

    python benchmarks/web.py [--experiments 10000] [--databases sqlite,postgres] [--requests 100] [--home FOLDER]

Starts the server as users do (`modescape serve`) over a database filled through the store, SQLite's and PostgreSQL's,
and asks it over keep-alive connections, warm. Prints p50 and p95 in milliseconds with n, and keeps them in
results/web.json, beside what is kept there of other numbers of experiments. Of groups such as "sorts, page" (every
column, both ways) the slowest is kept with its question, and how many were asked. What takes long is asked fewer times,
until `--patience` seconds have passed. A home (of SQLite) that is named is filled if it is new, and stays.

"Asked for the first time" is one question each of columns that nobody has asked for since the server started, "never
asked before" a filter by another number every time, "after a change" a list right after a row of it was changed. Fifty
clients ask from this process for the newest, a page, one experiment and one data set, on the cores that serve them.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
from _beside import RESULTS, keep
from pydantic import SecretStr
from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from modescape.asking import operators_of
from modescape.columns import EXPERIMENTS
from modescape.database import open_database, upgrade
from modescape.laboratory import Laboratory
from modescape.settings import Settings
from modescape.tables import Experiment, Matrix, Stage, utcnow

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import postgres
from ports import free_port
from serving import SPEC, finished

Json = dict[str, Any]
WIDE = 960  # rows and columns of the matrix that is read while lists are
MIXED = ("/api/experiments?limit=50", "/", "/api/experiments/finished", "/api/experiments?dataset=cifar10&limit=50")

LINE = "accuracy%3E0.6+(tag:paper+or+arch:resnet20v1)+-status:failed"
QUESTIONS = {
    "list, JSON": "/api/experiments?limit=50",
    "list, page": "/",
    "filter and sort, JSON": "/api/experiments?dataset=cifar10&accuracy__gte=0.6&method=random&sort=-accuracy&limit=50",
    "filter and sort, page": "/?dataset=cifar10&accuracy__gte=0.6&method=random&sort=-accuracy",
    "any field of spec and result, JSON": "/api/experiments?spec.training.epochs__gte=1&sort=-result.gain&limit=50",
    "any field of spec and result, page": "/?spec.training.epochs__gte=1&sort=-result.gain",
    "launch page": "/launch",
    "paper page": "/paper",
    "search, JSON": "/api/experiments?q=ment+77&limit=50",
    "search, page": "/?q=ment+77",
    "search of two letters, JSON": "/api/experiments?q=77&limit=50",
    "search of two letters, page": "/?q=77",
    "search that finds nothing, JSON": "/api/experiments?q=nowhere&limit=50",
    "search and filter, page": "/?q=ment+77&dataset=digits&sort=-accuracy",
    "search by fields, JSON": f"/api/experiments?q={LINE}&limit=50",
    "search by fields, page": f"/?q={LINE}",
    "search as one types": "/api/search?q=accuracy%3E0.6+tag:pa",
    "groups, JSON": "/api/groups?by=dataset",
    "groups, page": "/?group=dataset",
    "axes, JSON": "/api/axes",
    "plot of 2,000, page": "/plots?colour=architecture",
    "plot, what is picked": "/plots?from.accuracy=0.6&part=picked",
    "one experiment": "/api/experiments/finished",
    "estimate's catalogue": "/api/catalogue",
    "figure, unchanged on the server": "/api/experiments/finished/figures/similarity-runs.json",
}
FIRST = tuple(
    f"/api/experiments?sort=-{name}&limit=50"
    for name in ("accuracy", "seconds", "name", "result.cosine", "spec.training.epochs")
)
NEVER = "accuracy__gte=0.6{number:05d}&sort=-seconds"
# A value of every field that lists are filtered by.
VALUES = {
    "status": "failed", "dataset": "digits", "input_scale": "raw255", "architecture": "resnet20v1",
    "method": "low-rank", "tag": "week-7", "runs": "3", "preset": "quickstart", "created": "2026-06-01",
    "started": "2026-06-01", "finished": "2026-06-01", "seconds": "990", "accuracy": "0.89",
    "ensemble_accuracy": "0.94", "disagreement": "0.49", "name": "experiment 7777", "digest": "0" * 64,
    "project": "widths", "created_by": "ada", "parent": "experiment-7", "slug": "experiment-7777", "priority": "0",
    "archived": "true", "spec.training.batch_size": "64", "spec.data.dataset": "digits", "result.gain": "0.25",
}  # fmt: skip
COMPUTED = ("spec.training.batch_size", "spec.data.dataset", "result.gain")


def sorts() -> Iterator[str]:
    named = [field.name for field in EXPERIMENTS.asked.values() if field.sortable]
    for name in (*named, *COMPUTED):
        yield from (f"sort={name}", f"sort=-{name}")


def filters() -> Iterator[str]:
    """Every field with every operator."""
    fields = [field for name in (*EXPERIMENTS.asked, *COMPUTED) if (field := EXPERIMENTS.find(name)) is not None]
    for field in fields:
        for operator in operators_of(field):
            value = "false" if operator == "null" else VALUES[field.name]
            yield urlencode({f"{field.name}__{operator}": value})


def groups(deep: str) -> dict[str, list[str]]:
    """deep: the cursor of a page in the middle of the list."""
    both = {"JSON": "/api/experiments?limit=50&", "page": "/?"}
    asked = {"sorts": list(sorts()), "filters": list(filters()), "deep": [f"cursor={deep}"]}
    asked["filters and sorts"] = [
        f"{one}&sort={by}" for one in ("method=random", "status__ne=failed", "tag=paper", "name__contains=77")
        for by in ("-accuracy", "seconds", "-result.gain")
    ]  # fmt: skip
    return {
        f"{name}, {form}": [at + one for one in found] for name, found in asked.items() for form, at in both.items()
    }


def fill(settings: Settings, count: int) -> None:
    """Experiments as busy years leave them: every list column set, a full spec in each row; one with a wide matrix."""
    laboratory = Laboratory(settings)
    first = finished(laboratory, name="finished")
    laboratory.store.workers.register("worker", device="cpu", numerics="cpu/1", queue="cpu", pid=1)
    prepared = laboratory.prepare(SPEC)
    specs = [
        prepared.spec.model_copy(update={"training": prepared.spec.training.model_copy(update={"batch_size": size})})
        for size in (16, 32, 64, 128)
    ]
    documents = [(one.model_dump(mode="json"), one.digest()) for one in specs]
    draw, sizes = random.Random(0), random.Random(1)
    start = utcnow()
    matrix = laboratory.artifacts.put_array(np.random.default_rng(0).random((WIDE, WIDE)), "matrix").digest
    numbers = list(range(WIDE))

    def row(i: int) -> Json:
        spec, digest = sizes.choice(documents)
        return {
            "id": f"{i:08x}-0000-4000-8000-000000000000",
            "slug": f"experiment-{i}",
            "name": f"experiment {i}",
            "notes": "",
            "tags": draw.choice([[], [], ["paper"], ["try"], ["keep", "paper"], [f"week-{i // 500}"]]),
            "spec": spec,
            "digest": digest,
            "fresh": False,
            "created_by": "",
            "created_at": start - timedelta(minutes=i),
            "status": draw.choice(["succeeded", "succeeded", "succeeded", "failed", "cancelled"]),
            "dataset": draw.choice(["cifar10", "fashion-mnist", "digits", "cifar100"]),
            "input_scale": "raw255",
            "architecture": draw.choice(["small-cnn", "medium-cnn", "resnet20v1"]),
            "methods": ["random", "dropout", "diagonal", "low-rank", "averaging"][: draw.randint(0, 5)],
            "runs": 3,
            "stages_total": 18,
            "stages_done": 18,
            "seconds": draw.uniform(10, 1000),
            "accuracy": draw.uniform(0.3, 0.9),
            "ensemble_accuracy": draw.uniform(0.4, 0.95),
            "disagreement": draw.uniform(0.05, 0.5),
            "finding": {"ensemble": {"accuracy": draw.uniform(0.6, 0.9), "single": 0.6, "members": 3}},
        }

    engine = open_database(settings.database)
    for done in range(0, count, 10_000):
        with Session(engine) as session, session.begin():
            session.execute(insert(Experiment), [row(i) for i in range(done, min(count, done + 10_000))])
    with Session(engine) as session, session.begin():
        stage = session.query(Stage.id).filter(Stage.experiment_id == first.id).first()
        assert stage is not None
        session.add(Matrix(id="wide", experiment_id=first.id, stage_id=stage[0], name="wide", split="", rows=numbers,
                           columns=numbers, artifact=matrix, details={}))  # fmt: skip
    if settings.database.get_backend_name() == "postgresql":  # as its autovacuum does in time
        with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text("VACUUM ANALYZE"))
    engine.dispose()
    laboratory.store.close()


def start(settings: Settings) -> tuple[subprocess.Popen[bytes], float]:
    """The server and the seconds until its first answer."""
    environment = {
        **os.environ, "MODESCAPE_HOME": str(settings.home), "MODESCAPE_PORT": str(settings.port),
        "MODESCAPE_DATABASE_URL": settings.database_url.get_secret_value() if settings.database_url else "",
    }  # fmt: skip
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "modescape.cli", "serve"], env=environment, stderr=subprocess.DEVNULL
    )
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{settings.port}/healthz", timeout=1):
                return process, time.perf_counter() - began
        except OSError:
            if process.poll() is not None:
                raise SystemExit("the server ended") from None
            time.sleep(0.005)


def resident_megabytes(process: subprocess.Popen[bytes]) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


class Client:
    """One keep-alive connection."""

    def __init__(self, settings: Settings, *, compressed: bool = True) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", settings.port)
        self._compressed = compressed

    def get(self, path: str) -> bytes:
        """The whole body."""
        headers = {"Accept": "application/json" if path.startswith("/api") else "text/html"}
        headers |= {"Accept-Encoding": "gzip"} if self._compressed else {}
        self._connection.request("GET", path, headers=headers)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status} {body[:300]!r}")
        return body

    def change(self, number: int) -> None:
        """Something about one experiment."""
        headers = {"Content-Type": "application/json"}
        self._connection.request("PATCH", "/api/experiments/finished", json.dumps({"notes": f"{number}"}), headers)
        answer = self._connection.getresponse()
        if (body := answer.read()) and answer.status != 200:
            raise SystemExit(f"PATCH: {answer.status} {body[:300]!r}")

    def timed(self, path: str) -> float:
        """Milliseconds of an answer."""
        began = time.perf_counter()
        self.get(path)
        return 1000 * (time.perf_counter() - began)


def ask(settings: Settings, path: str, count: int, patience: float, *, changing: bool = False) -> list[float]:
    """Milliseconds of each of up to `count` answers, after some that are not counted. changing: before each, and not
    counted, an experiment is changed."""
    client, ends = Client(settings), time.monotonic() + patience
    for number in range(3):
        client.get(path.format(number=number))
    taken: list[float] = []
    while len(taken) < count and (len(taken) < 5 or time.monotonic() < ends):
        if changing:
            client.change(len(taken))
        taken.append(client.timed(path.format(number=len(taken) + 3)))
    return taken


def told(taken: Sequence[float], **more: Any) -> Json:
    quantiles = statistics.quantiles([*taken, *taken], n=100, method="inclusive")
    return {"n": len(taken), "p50": round(statistics.median(taken), 1), "p95": round(quantiles[94], 1), **more}


@contextmanager
def busy(settings: Settings, path: str) -> Iterator[list[float]]:
    """Somebody else reads `path` again and again, from a process of its own, until the block ends."""
    command = [sys.executable, __file__, "--read", f"{settings.port} {path}"]
    reader = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert reader.stdout is not None
    taken: list[float] = []
    try:
        reader.stdout.readline()
        yield taken
    finally:
        reader.terminate()
        taken += [float(line) for line in reader.communicate()[0].split()]


def read_for_ever(port: int, path: str) -> None:
    client = Client(Settings(port=port), compressed=False)
    while True:
        print(client.timed(path), flush=True)


def at_once(settings: Settings, clients: int, seconds: float, paths: Sequence[str] = MIXED) -> Json:
    """So many clients, each of which asks for one path after another as soon as it has an answer."""
    taken: list[float] = []
    ends = time.perf_counter() + seconds

    def one(number: int) -> None:
        client, own = Client(settings), []
        asked = number
        while time.perf_counter() < ends:
            own.append(client.timed(paths[asked % len(paths)]))
            asked += 1
        taken.extend(own)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    p99 = round(statistics.quantiles(taken, n=100)[98], 1)
    return told(taken, p99=p99, requests_per_second=round(len(taken) / seconds, 1))


def measure(settings: Settings, requests: int, starts: int, patience: float, *, verbose: bool = False) -> Json:
    """Everything, of a home that is filled."""
    first: list[float] = []
    for _ in range(starts):
        process, taken = start(settings)
        first.append(taken)
        idle = resident_megabytes(process)
        if len(first) < starts:
            process.terminate()
            process.wait()
    try:
        client = Client(settings)
        client.get("/")
        client.get("/")  # took long among many, so that lists are held from now on
        rows: Json = {"columns asked for the first time, JSON": told([client.timed(path) for path in FIRST])}
        say(*next(iter(rows.items())))
        for name, path in QUESTIONS.items():
            rows[name] = told(ask(settings, path, requests, patience))
            say(name, rows[name])
        for form, at in {"JSON": "/api/experiments?limit=50&", "page": "/?"}.items():
            rows[f"filter never asked before, {form}"] = told(ask(settings, at + NEVER, requests, patience))
            say(f"filter never asked before, {form}", rows[f"filter never asked before, {form}"])
        rows["filter and sort after a change, page"] = told(
            ask(settings, QUESTIONS["filter and sort, page"], requests, patience, changing=True)
        )
        say("filter and sort after a change, page", rows["filter and sort after a change, page"])
        for name, paths in groups(_cursor_of_the_middle(settings)).items():
            rows[name] = _slowest(settings, paths, requests, patience, verbose=verbose)
            say(name, rows[name])
        rows["50 clients at once"] = at_once(settings, 50, 2 * patience)
        say("50 clients at once", rows["50 clients at once"])
        for form in ("csv", "json"):
            path = f"/api/experiments/finished/matrices/wide.{form}"
            with busy(settings, path) as reading:
                beside = told(ask(settings, QUESTIONS["list, JSON"], 10 * requests, patience))
            rows[f"list beside {WIDE} x {WIDE} numbers as {form}"] = beside
            rows[f"{WIDE} x {WIDE} numbers as {form}"] = told(reading)
            for name in list(rows)[-2:]:
                say(name, rows[name])
        used = resident_megabytes(process)
    finally:
        process.terminate()
        process.wait()
    begun = {"n": len(first), "median": round(statistics.median(first), 2), "worst": round(max(first), 2)}
    resident = {"idle": round(idle), "after": round(used)}
    print(f"  first answer after start, s: {begun}; resident memory, MB: {resident}")
    return {"date": time.strftime("%Y-%m-%d"), "start_s": begun, "resident_mb": resident, "ms": rows}


def _cursor_of_the_middle(settings: Settings) -> str:
    client, cursor = Client(settings), ""
    for _ in range(20):
        cursor = json.loads(_plain(client.get(f"/api/experiments?limit=1000&cursor={cursor}")))["next"] or cursor
    return cursor


def _plain(body: bytes) -> bytes:
    import gzip

    return gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body


def _slowest(settings: Settings, paths: Sequence[str], requests: int, patience: float, *, verbose: bool) -> Json:
    """Of the question with the largest p95: all are asked a few times, the slowest three as often as all others."""
    few = {path: statistics.median(ask(settings, path, 5, patience)) for path in paths}
    if verbose:
        for path, p50 in sorted(few.items(), key=lambda item: -item[1]):
            print(f"      {p50:8.1f} {path}")
    last = sorted(few, key=lambda path: few[path])[-3:]
    found = {path: told(ask(settings, path, requests, patience)) for path in last}
    worst = max(found, key=lambda path: float(found[path]["p95"]))
    return {**found[worst], "slowest": worst, "of": len(paths)}


def say(name: str, row: Mapping[str, Any]) -> None:
    more = ", ".join(f"{key} {value}" for key, value in row.items() if key not in ("n", "p50", "p95"))
    print(f"  {name:40} p50 {row['p50']:8.1f}   p95 {row['p95']:8.1f}   n {row['n']}   {more}", flush=True)


@contextmanager
def filled(database: str, count: int, home: Path | None = None) -> Iterator[Settings]:
    """A home with so many experiments, gone at the end; one that is named stays, and is filled if it is new."""
    if home is not None and database == "sqlite":
        settings, is_new = Settings(home=home, port=free_port()), not (home / "modescape.db").exists()
        home.mkdir(parents=True, exist_ok=True)
        upgrade(settings.database)
        if is_new:
            fill(settings, count)
        yield settings
        return
    with tempfile.TemporaryDirectory() as folder:
        if database == "sqlite":
            settings = Settings(home=Path(folder), port=free_port())
            upgrade(settings.database)
            fill(settings, count)
            yield settings
            return
        with postgres.running() as url:
            postgres.command(url, "CREATE DATABASE modescape")
            settings = Settings(
                home=Path(folder), port=free_port(), database_url=SecretStr(url.format(database="modescape"))
            )
            upgrade(settings.database)
            fill(settings, count)
            yield settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", type=int, default=10_000)
    parser.add_argument("--databases", default="sqlite,postgres")
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--patience", type=float, default=1.5)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--verbose", action="store_true", help="print every question of a group")
    parser.add_argument("--read", help=argparse.SUPPRESS)  # what `busy` starts
    chosen = parser.parse_args()
    if chosen.read:
        port, _, path = chosen.read.partition(" ")
        return read_for_ever(int(port), path)
    path = RESULTS / "web.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else {}
    for database in chosen.databases.split(","):
        name = f"{chosen.experiments:,} experiments, {database}"
        print(name)
        with filled(database, chosen.experiments, chosen.home) as settings:
            rows[name] = measure(settings, chosen.requests, chosen.starts, chosen.patience, verbose=chosen.verbose)
        rows[name]["load"] = ", ".join(f"{value:.1f}" for value in os.getloadavg())
        keep("web", rows, unit="ms, of one connection where no other number is said")
    return None


if __name__ == "__main__":
    main()
