"""How fast the web process answers: start, memory, lists over 10,000 experiments, a figure fresh and unchanged.

    python benchmarks/web.py [--experiments 10000] [--requests 200]

Starts the server as users do (`modescape serve`) over a SQLite database filled through the store, and asks it over one
keep-alive connection. Prints p50 and p95 in milliseconds with n, and keeps results/web.json.
"""

from __future__ import annotations

import argparse
import http.client
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from datetime import timedelta
from pathlib import Path
from typing import Any

from _beside import keep
from sqlalchemy import insert
from sqlalchemy.orm import Session

from modescape.database import open_database, upgrade
from modescape.laboratory import Laboratory
from modescape.settings import Settings
from modescape.tables import Experiment, utcnow

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from serving import SPEC, finished, free_port

QUESTIONS = {
    "list, JSON": "/api/experiments?limit=50",
    "list, page": "/",
    "filter and sort, JSON": "/api/experiments?dataset=cifar10&accuracy__gte=0.6&method=random&sort=-accuracy&limit=50",
    "filter and sort, page": "/?dataset=cifar10&accuracy__gte=0.6&method=random&sort=-accuracy",
    "any field of spec and result, JSON": "/api/experiments?spec.training.epochs__gte=1&sort=-result.gain&limit=50",
    "any field of spec and result, page": "/?spec.training.epochs__gte=1&sort=-result.gain",
    "sort by name, JSON": "/api/experiments?sort=name&limit=50",
    "launch page": "/launch",
    "paper page": "/paper",
    "search, JSON": "/api/experiments?q=77&limit=50",
    "search, page": "/?q=77",
    "one experiment": "/api/experiments/finished",
    "estimate's catalogue": "/api/catalogue",
    "figure, unchanged on the server": "/api/experiments/finished/figures/similarity-runs.json",
}


def fill(settings: Settings, count: int) -> None:
    """Experiments as a busy year leaves them: every list column set, a full spec in each row."""
    laboratory = Laboratory(settings)
    finished(laboratory, name="finished")
    prepared = laboratory.prepare(SPEC)
    spec, digest = prepared.spec.model_dump(mode="json"), prepared.spec.digest()
    draw, sizes = random.Random(0), random.Random(1)
    start = utcnow()
    rows = [
        {
            "id": f"{i:08x}-0000-4000-8000-000000000000",
            "slug": f"experiment-{i}",
            "name": f"experiment {i}",
            "notes": "",
            "tags": draw.choice([[], [], ["paper"], ["try"], ["keep", "paper"], [f"week-{i // 500}"]]),
            "spec": {**spec, "training": {**spec["training"], "batch_size": sizes.choice([16, 32, 64, 128])}},
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
        for i in range(count)
    ]
    engine = open_database(settings.database)
    with Session(engine) as session, session.begin():
        session.execute(insert(Experiment), rows)
    engine.dispose()
    laboratory.store.close()


def start(settings: Settings) -> tuple[subprocess.Popen[bytes], float]:
    """The server and the seconds until its first answer."""
    environment = {**os.environ, "MODESCAPE_HOME": str(settings.home), "MODESCAPE_PORT": str(settings.port)}
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


def ask(settings: Settings, path: str, count: int) -> list[float]:
    """Milliseconds of each of `count` answers, whole body read, after five that are not counted."""
    connection = http.client.HTTPConnection("127.0.0.1", settings.port)
    headers = {"Accept-Encoding": "gzip", "Accept": "application/json" if path.startswith("/api") else "text/html"}
    taken = []
    for i in range(count + 5):
        began = time.perf_counter()
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status} {body[:300]!r}")
        if i >= 5:
            taken.append(1000 * (time.perf_counter() - began))
    connection.close()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", type=int, default=10_000)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--starts", type=int, default=5)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home), port=free_port())
        upgrade(settings.database)
        fill(settings, chosen.experiments)
        first: list[float] = []
        for _ in range(chosen.starts):
            process, taken = start(settings)
            first.append(taken)
            idle = resident_megabytes(process)
            if len(first) < chosen.starts:
                process.terminate()
                process.wait()
        results = {name: ask(settings, path, chosen.requests) for name, path in QUESTIONS.items()}
        used = resident_megabytes(process)
        process.terminate()
        process.wait()
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    start_seconds = {"n": len(first), "median": round(statistics.median(first), 2), "worst": round(max(first), 2)}
    print(f"load {load}; first answer after start, s: {start_seconds}")
    print(f"resident memory, MB: idle {idle:.0f}, after all requests {used:.0f}")
    print(f"{chosen.experiments} experiments, milliseconds a request, n = {chosen.requests}, one connection")
    rows: dict[str, Any] = {}
    for name, each in results.items():
        p95 = statistics.quantiles(each, n=20)[-1]
        rows[name] = {"n": len(each), "p50": round(statistics.median(each), 1), "p95": round(p95, 1)}
        print(f"  {name:34} p50 {rows[name]['p50']:7.1f}   p95 {rows[name]['p95']:7.1f}")
    resident = {"idle": round(idle), "after": round(used)}
    keep("web", rows, unit="ms", experiments=chosen.experiments, load=load, start_s=start_seconds, resident_mb=resident)


if __name__ == "__main__":
    main()
