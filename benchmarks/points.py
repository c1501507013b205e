"""How many points a second a server takes over HTTP, beside Trackio in the same run.

    python -m venv other && other/bin/pip install trackio
    python benchmarks/points.py --trackio other/bin/python [--points 200000] [--rounds 5]

Both servers are processes of their own on this machine, over SQLite on the same disk, and are sent the same numbers in
batches of the same size over one keep-alive connection, in turns. A point is one number of one step. `requests`: what
the servers take, bodies made beforehand; `loop`: from the loop that logs to all being stored, by each one's own client.
Medians with their ranges are printed, and appended to benchmarks/points.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson

import modescape as ms
from modescape.logger.delivery import batch_of
from modescape.logger.spool import Waiting
from modescape.sending import ServerDoor
from modescape.settings import Settings

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from ports import free_port

KEPT = Path(__file__).with_suffix(".jsonl")
NAMES = ("train/loss", "train/accuracy", "learning-rate", "gradient-norm")
TOKEN = "benchmark"
LABELS = np.arange(100) % 10

# What a loop is for Trackio, in the interpreter that has it.
THEIR_LOOP = """
import json, sys, time, trackio
rows = json.load(open(sys.argv[1]))
run = trackio.init(project="loop", name=sys.argv[3], server_url=sys.argv[2], embed=False)
began = time.perf_counter()
for step, values in enumerate(rows):
    trackio.log(values, step=step)
trackio.finish()
print("SECONDS", time.perf_counter() - began)
"""


@contextmanager
def ours(folder: Path) -> Iterator[str]:
    port = free_port()
    env = {**os.environ, "MODESCAPE_HOME": str(folder / "ours"), "MODESCAPE_PORT": str(port)}
    with subprocess.Popen(
        [sys.executable, "-m", "modescape.cli", "serve"], env=env, stderr=subprocess.DEVNULL
    ) as server:
        try:
            yield _answering(f"http://127.0.0.1:{port}", "/healthz")
        finally:
            server.terminate()


@contextmanager
def trackio(python: str, folder: Path) -> Iterator[str]:
    port = free_port()
    env = {
        **os.environ, "TRACKIO_DIR": str(folder / "trackio"), "TRACKIO_WRITE_TOKEN": TOKEN,
        "GRADIO_SERVER_PORT": str(port), "HF_HUB_OFFLINE": "1", "GRADIO_ANALYTICS_ENABLED": "False",
    }  # fmt: skip
    code = "import trackio; trackio.show(open_browser=False, block_thread=True)"
    with subprocess.Popen(
        [python, "-c", code], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            yield _answering(f"http://127.0.0.1:{port}", "/version")
        finally:
            server.terminate()


def _answering(url: str, path: str) -> str:
    ends = time.monotonic() + 120
    while True:
        try:
            httpx.get(url + path, timeout=5).raise_for_status()
            return url
        except httpx.HTTPError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.2)


def rows(steps: int, width: int) -> list[dict[str, float]]:
    rng = random.Random(0)
    return [{name: rng.random() for name in NAMES[:width]} for _ in range(steps)]


def our_bodies(values: list[dict[str, float]], size: int, name: str) -> list[bytes]:
    lines = [(step, 1.8e9 + step, one) for step, one in enumerate(values)]
    return [batch_of(f"{name}-{i}", Waiting(i, i, tuple(lines[i : i + size])), "") for i in range(0, len(lines), size)]


def their_bodies(values: list[dict[str, float]], size: int, name: str) -> list[bytes]:
    logs = [
        {"project": "requests", "run": name, "metrics": one, "step": step, "config": None, "log_id": f"{name}-{step}"}
        for step, one in enumerate(values)
    ]
    some = (logs[i : i + size] for i in range(0, len(logs), size))
    return [orjson.dumps({"logs": one, "hf_token": None}) for one in some]


def sent(url: str, path: str, bodies: list[bytes], **headers: str) -> float:
    """Seconds until the last was answered."""
    with httpx.Client(base_url=url, timeout=120, headers={"Content-Type": "application/json", **headers}) as client:
        client.get("/")
        began = time.perf_counter()
        for body in bodies:
            answer = client.post(path, content=body)
            answer.raise_for_status()
        return time.perf_counter() - began


def opened(url: str, folder: Path) -> str:
    np.save(folder / "labels.npy", LABELS)
    door = ServerDoor(url)
    (labels,) = door.send({"labels.npy": folder / "labels.npy"})
    return str(door.open("points", 1000, {"test": labels["sha256"]}, key=f"points-{time.time_ns()}")["id"])


def our_loop(url: str, folder: Path, values: list[dict[str, float]], name: str) -> float:
    """Until every point is on the server."""
    logged = ms.ensemble(name, LABELS, planned=1000, server=url, settings=Settings(home=folder / "client"))
    began = time.perf_counter()
    with logged as e:
        m = e.member(name)
        for step, one in enumerate(values):
            m.log(step, one)
    return time.perf_counter() - began


def their_loop(python: str, url: str, folder: Path, values: list[dict[str, float]], name: str) -> float:
    (folder / "rows.json").write_text(json.dumps(values))
    env = {**os.environ, "TRACKIO_DIR": str(folder / "their-client"), "HF_HUB_OFFLINE": "1"}
    asked = [python, "-c", THEIR_LOOP, str(folder / "rows.json"), f"{url}/?write_token={TOKEN}", name]
    done = subprocess.run(asked, env=env, capture_output=True, text=True, check=True)
    return float(done.stdout.split("SECONDS")[1].split()[0])


@dataclass(frozen=True)
class Match:
    """Both servers. id: of the import that takes points; python: of Trackio."""

    ours: str
    theirs: str
    id: str
    python: str
    folder: Path

    def seconds(self, who: str, way: str, values: list[dict[str, float]], size: int, name: str) -> float:
        if who == "modescape":
            if way == "loop":
                return our_loop(self.ours, self.folder, values, name)
            return sent(self.ours, f"/api/imports/{self.id}/members/{name}/points", our_bodies(values, size, name))
        if way == "loop":
            return their_loop(self.python, self.theirs, self.folder, values, name)
        token = {"X-Trackio-Write-Token": TOKEN}
        return sent(self.theirs, "/api/bulk_log", their_bodies(values, size, name), **token)


def measure(match: Match, points: int, rounds: int) -> Iterator[dict[str, Any]]:
    cases = [("requests", width, size) for width in (1, 4) for size in (500, 2500)]
    for way, width, size in [*cases, ("loop", 4, 0)]:
        values, taken = rows(points // width, width), defaultdict(list)
        for number in range(rounds):
            for who in sorted(("modescape", "trackio"), reverse=bool(number % 2)):
                taken[who].append(match.seconds(who, way, values, size, f"{way}-{width}-{size}-{number}"))
        yield {
            "way": way, "values_a_step": width, "steps_a_batch": size, "points": points, "rounds": rounds,
            **{who: _a_second(points, some) for who, some in taken.items()},
            "ratio": round(statistics.median(taken["trackio"]) / statistics.median(taken["modescape"]), 2),
        }  # fmt: skip


def _a_second(points: int, seconds: list[float]) -> dict[str, int]:
    found = sorted(points / one for one in seconds)
    return {"median": round(statistics.median(found)), "least": round(found[0]), "most": round(found[-1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trackio", required=True, help="a Python that has it")
    parser.add_argument("--points", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", default=None, help="on the disk that is to be measured")
    asked = parser.parse_args()
    version = subprocess.run(
        [asked.trackio, "-c", "import trackio; print(trackio.__version__)"], capture_output=True, text=True, check=True
    ).stdout.split()[-1]
    about = {"date": f"{date.today()}", "machine": f"{platform.machine()}, {os.cpu_count()} cores", "trackio": version}
    with (
        tempfile.TemporaryDirectory(dir=asked.folder) as made, KEPT.open("a", encoding="utf-8") as kept,
        ours(folder := Path(made)) as mine, trackio(asked.trackio, folder) as theirs,
    ):  # fmt: skip
        match = Match(mine, theirs, opened(mine, folder), asked.trackio, folder)
        for who in ("modescape", "trackio"):  # what a server does once
            match.seconds(who, "requests", rows(1000, 4), 100, "first")
        for found in measure(match, asked.points, asked.rounds):
            print(json.dumps(found), flush=True)
            kept.write(json.dumps({"about": about, **found}) + "\n")


if __name__ == "__main__":
    main()
