"""What grows while small experiments run for hours: memory, files, rows, logs, and what follows for a year.

    python benchmarks/endurance.py [--hours 2] [--every 0] [--databases sqlite,postgres] [--home FOLDER]

Starts the product as users do (`modescape up`: supervisor, server, workers), launches one experiment after the other
by REST, each with a seed of its own and begun so many seconds after the last at least, reads its pages and figures,
archives it, and purges it when twenty others have ended, so that what is kept on purpose stays about the same. Twice a
minute all of these are read: proportional memory (PSS), open files and threads of every process, files and bytes of the
home, of its logs, rows of every table.

A slope is that of Theil and Sen over the last three quarters of the time, when all caches are as full as they get; a
year is what it comes to if experiments go on at this pace, and per experiment is what it comes to for one. Two ends of
the interval of 95 % (of the slopes of all pairs, Sen 1968) say whether a slope is told from nothing. What no interval
tells from nothing is named only. Keeps them in results/endurance.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from _beside import RESULTS, keep
from memory import children_of, memory_of
from scipy import stats
from sqlalchemy import inspect, text

from modescape.database import open_database
from modescape.settings import Settings

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import postgres
from ports import free_port

Json = dict[str, Any]
EVERY_SECONDS = 30
KEPT = 20  # ended experiments that are there at any time
DAY, YEAR = 86_400.0, 365.25 * 86_400.0
READ = (
    "/", "/experiments/{}", "/experiments/{}?tab=functions", "/workers", "/api/experiments/{}",
    "/api/experiments/{}/figures/plane.json", "/api/experiments/{}/figures/similarity-runs.csv",
    "/api/experiments/{}/runs", "/api/events?after=0", "/api/experiments?limit=50&sort=-accuracy",
)  # fmt: skip


@contextmanager
def product(database: str, home: Path) -> Iterator[tuple[Settings, subprocess.Popen[bytes]]]:
    with postgres.running() as url:
        given: Json = {}
        if database == "postgres":
            postgres.command(url, "CREATE DATABASE modescape")
            given["database_url"] = url.format(database="modescape")
        settings = Settings(home=home, port=free_port(), **given)
        about = {f"MODESCAPE_{name.upper()}": value for name, value in given.items()}
        environment = {**os.environ, "MODESCAPE_HOME": str(home), "MODESCAPE_PORT": str(settings.port), **about}
        with (home.parent / "up.log").open("wb") as log:
            command = [sys.executable, "-m", "modescape.cli", "up"]
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            yield settings, process
        finally:
            process.terminate()
            process.wait(60)


class Gauge:
    """Everything that might grow, read at moments of seconds since the start."""

    def __init__(self, settings: Settings, supervisor: int) -> None:
        self._engine = open_database(settings.database)
        self._home, self._supervisor = settings.home, supervisor
        self.read: list[Json] = []

    def look(self, at: float, ended: int) -> None:
        found: Json = {"at": at, "experiments ended": ended}
        for process in [self._supervisor, *children_of(self._supervisor)]:
            name = self._named(process)
            try:
                found[f"{name}, MB"] = found.get(f"{name}, MB", 0.0) + memory_of(process)["pss"]
                for what, folder in (("open files", "fd"), ("threads", "task")):
                    count = len(list(Path(f"/proc/{process}/{folder}").iterdir()))
                    found[f"{name}, {what}"] = found.get(f"{name}, {what}", 0) + count
            except (FileNotFoundError, ProcessLookupError, IndexError):  # it has just ended
                continue
        for name, files in (("home", self._home), ("logs", self._home / "logs")):
            sizes = list(_sizes(files))
            found |= {f"{name}, files": len(sizes), f"{name}, MB": sum(sizes) / 1e6}
        with self._engine.connect() as connection:
            for table in inspect(connection).get_table_names():
                found[f"rows of {table}"] = connection.execute(text(f'SELECT count(*) FROM "{table}"')).scalar_one()
        self.read.append(found)

    def _named(self, process: int) -> str:
        if process == self._supervisor:
            return "supervisor"
        try:
            words = Path(f"/proc/{process}/cmdline").read_bytes().decode().split("\0")
        except (FileNotFoundError, ProcessLookupError):
            return "other"
        return next((name for name in ("serve", "worker") if name in words), "other")

    def close(self) -> None:
        self._engine.dispose()


def _sizes(folder: Path) -> Iterator[int]:
    for root, _, files in os.walk(folder):
        for file in files:
            try:
                yield (Path(root) / file).stat().st_size
            except FileNotFoundError:
                continue


class Laboratory:
    """A user that launches, reads, archives and purges by REST. odd: answers that are no success, counted."""

    def __init__(self, settings: Settings) -> None:
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{settings.port}", timeout=60)
        self.odd: dict[str, int] = {}
        self.ended: list[str] = []

    def ask(self, method: str, path: str, **more: Any) -> Any:
        answer = self._client.request(method, path, **more)
        if answer.status_code >= 400:
            where = re.sub(r"small-\d+", "{}", path)
            said = f"{answer.status_code} {method} {where}"
            self.odd[said] = self.odd.get(said, 0) + 1
        return answer.json() if "json" in answer.headers.get("content-type", "") else answer.text

    def experiment(self, seed: int) -> None:
        document = {
            "data": {"dataset": "digits"}, "network": {"architecture": "mlp"},
            "training": {"epochs": 4, "checkpoint_every": 2, "snapshots": 2},
            "ensemble": {"runs": 3, "seed": seed}, "methods": [{"method": "random"}, {"method": "dropout"}],
        }  # fmt: skip
        made = self.ask("POST", "/api/experiments", json={"spec": document, "name": f"small {seed}"})
        if "slug" not in made:
            sys.exit(f"an experiment could not be launched: {json.dumps(made)[:2000]}")
        slug = made["slug"]
        while (row := self.ask("GET", f"/api/experiments/{slug}"))["status"] not in ("succeeded", "failed"):
            time.sleep(0.5)
        if row["status"] != "succeeded":
            sys.exit(f"{slug} failed: {json.dumps(row)[:2000]}")
        for path in READ:
            self.ask("GET", path.format(slug))
        self.ask("DELETE", f"/api/experiments/{slug}")
        self.ended.append(slug)
        if len(self.ended) > KEPT:
            self.ask("POST", f"/api/experiments/{self.ended.pop(0)}/purge")


def slopes(read: list[Json], seconds: float, ended: int) -> Json:
    """Of everything that grew or shrank: its value at the end, and what its slope comes to in a year and for each
    experiment."""
    late = [one for one in read if one["at"] > seconds / 4]
    found = {}
    for name in late[-1]:
        if name in ("at", "experiments ended"):
            continue
        # the kernel of a process that ended between two looks counts it in none of them
        pairs = [(one["at"], one[name]) for one in late if name in one]
        if len(pairs) < 8 or len({value for _, value in pairs}) == 1:
            found[name] = {"last": late[-1][name], "a_year": 0}
            continue
        slope, _, low, high = stats.theilslopes([value for _, value in pairs], [at for at, _ in pairs])
        found[name] = {
            "first": round(pairs[0][1], 2), "last": round(pairs[-1][1], 2),
            "most": round(max(value for _, value in pairs), 2), "a_year": _short(slope * YEAR),
            "interval": [_short(low * YEAR), _short(high * YEAR)],
            "an_experiment": _short(slope * seconds / max(1, ended)),
        }  # fmt: skip
    return found


def _short(value: float) -> float:
    return float(f"{value:.3g}")


def measure(database: str, hours: float, every: float, folder: Path) -> Json:
    home = folder / "home"
    home.mkdir(mode=0o700)
    with product(database, home) as (settings, process):
        deadline = time.monotonic() + 120
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{settings.port}/readyz", timeout=5).raise_for_status()
                break
            except httpx.HTTPError:
                if time.monotonic() > deadline:
                    sys.exit((folder / "up.log").read_text()[-3000:])
                time.sleep(0.5)
        user, gauge = Laboratory(settings), Gauge(settings, process.pid)
        start, looked, ended = time.monotonic(), -float(EVERY_SECONDS), 0
        while (at := time.monotonic() - start) < 3600 * hours:
            if at - looked >= EVERY_SECONDS:
                gauge.look(at, ended)
                looked = at
                if len(gauge.read) % 20 == 1:
                    print(f"  {at / 60:.0f} min, {ended} experiments, {_main(gauge.read[-1])}", flush=True)
            user.experiment(ended)
            ended += 1
            time.sleep(max(0.0, start + at + every - time.monotonic()))
        gauge.look(time.monotonic() - start, ended)
        gauge.close()
    found = slopes(gauge.read, 3600 * hours, ended)
    return {
        "hours": hours, "every_s": every, "experiments": ended, "odd": user.odd,
        "restarts": (folder / "up.log").read_text().count("starting it again"),
        "grew": {name: row for name, row in found.items() if _is_told(row)},
        "did not": sorted(name for name, row in found.items() if not _is_told(row)),
    }  # fmt: skip


def _is_told(row: Json) -> bool:
    low, high = row.get("interval", (0, 0))
    return bool(row["a_year"]) and (low > 0 or high < 0)


def _main(read: Json) -> str:
    return ", ".join(f"{name} {read[name]:.0f}" for name in ("serve, MB", "worker, MB", "home, files", "home, MB"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--every", type=float, default=0.0)
    parser.add_argument("--databases", default="sqlite,postgres")
    parser.add_argument("--home", type=Path, help="where to leave the homes; gone at the end where none is named")
    chosen = parser.parse_args()
    path = RESULTS / "endurance.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else {}
    for database in chosen.databases.split(","):
        print(database, flush=True)
        folder = chosen.home / database if chosen.home else Path(tempfile.mkdtemp(prefix="modescape-endurance-"))
        folder.mkdir(parents=True, exist_ok=True)
        rows[database] = measure(database, chosen.hours, chosen.every, folder)
        print(json.dumps(rows[database], indent=1), flush=True)
        if chosen.home is None:
            shutil.rmtree(folder)
        keep("endurance", rows, unit="a year: at the pace of the measurement, day and night")


if __name__ == "__main__":
    main()
