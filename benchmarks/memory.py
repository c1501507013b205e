"""How much memory the web process takes: idle, with many clients over a full database, and a minute after they left.

    python benchmarks/memory.py [--megabytes 100] [--clients 200] [--minutes 3] [--databases sqlite,postgres]
    python benchmarks/memory.py --minutes 60 --think 5 --streams 100 --writers 4

Starts the server as users do (`modescape serve`) over a home whose database takes so many megabytes, and lets clients
read lists by any field, pages, figures, matrices and events, each the next as soon as it has an answer; some listen to
the stream of events meanwhile, and some write. With `--think` each waits so many seconds on average between an answer
and its next question, as people do; without, the server is as busy as it can be. Every second its proportional and
resident memory are read from the kernel (PSS counts pages that processes share in equal parts), those of the processes
it started beside. Keeps them in results/memory.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import time
from pathlib import Path
from typing import Any

import web
from _beside import RESULTS, keep

from modescape.settings import Settings

Json = dict[str, Any]
BYTES_A_ROW = 3150  # of the database, of each experiment that `web.fill` writes
READ = (
    *web.QUESTIONS.values(), *web.FIRST, "/experiments/finished", "/experiments/finished?tab=functions", "/data",
    "/api/experiments/finished/solutions", "/api/experiments/finished/matrices/disagreement.csv",
    "/api/experiments/finished/figures/plane.json", "/api/experiments/finished/figures/similarity-runs.csv",
    "/api/events?after=0", "/api/experiments?limit=200",
)  # fmt: skip
LARGE = (  # of 5 to 18 MB: one answer in a hundred
    "/api/experiments/finished/matrices/wide.csv", "/api/experiments/finished/matrices/wide.npy",
    "/api/experiments/finished/matrices/wide.json", "/api/experiments/finished/figures/similarity-runs.html",
)  # fmt: skip


def memory_of(process: int) -> Json:
    """MB: proportional, resident and their largest, of one process."""
    status = Path(f"/proc/{process}/status").read_text()
    found = {
        "rss": int(status.split("VmRSS:")[1].split()[0]) / 1000,
        "peak": int(status.split("VmHWM:")[1].split()[0]) / 1000,
    }
    try:
        rolled = Path(f"/proc/{process}/smaps_rollup").read_text()
        found["pss"] = int(rolled.split("Pss:")[1].split()[0]) / 1000
    except (FileNotFoundError, PermissionError, IndexError):  # a kernel that does not count it
        found["pss"] = found["rss"]
    return found


def children_of(process: int) -> list[int]:
    """All of them, and theirs."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    found, waiting = [], [process]
    while waiting:
        own = [child for child, parent in parents.items() if parent == waiting[0]]
        found += own
        waiting = [*waiting[1:], *own]
    return found


class Crowd:
    """Clients of one server. think: seconds between an answer and the next question, on average. answers: by status.
    heard: numbers of events, by listener. seconds: of answers, and apart of the large ones and of what is written."""

    def __init__(self, port: int, think: float) -> None:
        self.port = port
        self.think = think
        self.answers: dict[int, int] = {}
        self.odd: dict[str, int] = {}
        self.seconds: dict[str, list[float]] = {"all": [], "large": [], "writes": []}
        self.heard: dict[int, list[int]] = {}

    async def read(self, number: int, until: float) -> None:
        draw = random.Random(number)
        while time.monotonic() < until:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(0.2)
                continue
            for _ in range(50):
                if self.think:
                    await asyncio.sleep(min(draw.expovariate(1 / self.think), max(0.0, until - time.monotonic())))
                path = draw.choice(LARGE if draw.random() < 0.01 else READ)
                if time.monotonic() > until or not await self._one(reader, writer, path):
                    break
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> bool:
        accept = "application/json" if path.startswith("/api") else "text/html"
        began = time.monotonic()
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nAccept: {accept}\r\n\r\n".encode())
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            if "content-length:" in head:
                await reader.readexactly(int(head.split("content-length:")[1].split()[0]))
            elif "chunked" in head:
                while size := int((await reader.readline()).strip() or b"0", 16):
                    await reader.readexactly(size + 2)
                await reader.readline()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.odd[f"cut {path}"] = self.odd.get(f"cut {path}", 0) + 1
            return False
        status = int(head.split()[1])
        self.answers[status] = self.answers.get(status, 0) + 1
        if status >= 400:
            self.odd[f"{status} {path}"] = self.odd.get(f"{status} {path}", 0) + 1
        self.seconds["large" if path in LARGE else "all"].append(time.monotonic() - began)
        return "connection: close" not in head

    async def listen(self, number: int, until: float) -> None:
        """To the events, anew whenever the stream ends, and from the last that was heard."""
        heard = self.heard.setdefault(number, [])
        while time.monotonic() < until:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
                             f"Accept: text/event-stream\r\nLast-Event-ID: {heard[-1] if heard else ''}\r\n\r\n"
                             .encode())  # fmt: skip
                async with asyncio.timeout(max(0.1, until - time.monotonic())):
                    while line := await reader.readline():
                        if line.startswith(b"id:"):
                            heard.append(int(line[3:]))
                writer.close()
            except (OSError, TimeoutError):
                await asyncio.sleep(0.2)

    async def write(self, until: float) -> None:
        number = 0
        while time.monotonic() < until:
            number, began = number + 1, time.monotonic()
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            body = json.dumps({"notes": f"{number}"}).encode()
            writer.write(
                b"PATCH /api/experiments/finished HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n"
                b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (self.port, len(body), body)
            )
            said = int((await reader.read()).split(maxsplit=2)[1])
            self.seconds["writes"].append(time.monotonic() - began)
            self.answers[said] = self.answers.get(said, 0) + 1
            writer.close()
            await asyncio.sleep(1)

    def lost(self) -> int:
        """Events that some listener did not get, between the first and the last that it got: those that others got."""
        everything = set().union(*self.heard.values())
        return sum(
            len({one for one in everything if heard[0] <= one <= heard[-1]} - set(heard))
            for heard in self.heard.values()
            if heard
        )


async def watched(settings: Settings, server: int, chosen: argparse.Namespace) -> tuple[Json, list[Json]]:
    seconds = 60 * chosen.minutes
    crowd, until = Crowd(settings.port, chosen.think), time.monotonic() + seconds
    everybody = [crowd.read(number, until) for number in range(chosen.clients)]
    everybody += [crowd.listen(number, until) for number in range(chosen.streams)]
    everybody += [crowd.write(until) for _ in range(chosen.writers)]
    busy = asyncio.gather(*everybody)
    read: list[Json] = []
    while not busy.done():
        read.append({"at": round(seconds - (until - time.monotonic())), **memory_of(server)})
        await asyncio.wait([busy], timeout=1)
    await busy
    heard = sorted(len(one) for one in crowd.heard.values())
    return {
        "answers": crowd.answers, "odd": crowd.odd,
        **{f"{name}_s": answered(of) for name, of in crowd.seconds.items() if len(of) > 1},
        "events": {"a_listener": [heard[0], heard[-1]], "lost": crowd.lost()},
    }, read  # fmt: skip


def answered(seconds: list[float]) -> Json:
    cuts = statistics.quantiles(seconds, n=100)
    return {"n": len(seconds), "median": round(cuts[49], 3), "p99": round(cuts[98], 3), "worst": round(max(seconds), 2)}


def measure(settings: Settings, chosen: argparse.Namespace) -> Json:
    process, _ = web.start(settings)
    try:
        time.sleep(5)
        idle = memory_of(process.pid)
        print(f"  idle {told(idle)}", flush=True)
        asked, read = asyncio.run(watched(settings, process.pid, chosen))
        children = [memory_of(child) for child in children_of(process.pid)]
        half = [one["pss"] for one in read[len(read) // 2 :]]
        mid = max(1, len(half) // 5)
        time.sleep(60)
        after = memory_of(process.pid)
    finally:
        process.terminate()
        process.wait()
    found = {
        "idle": told(idle), "most": round(max(one["pss"] for one in read)), "peak_rss": told(read[-1])["peak"],
        "first_half": round(statistics.median(one["pss"] for one in read[: len(read) // 2])),
        "second_half": round(statistics.median(half)),
        "rise_in_second_half": round(statistics.median(half[-mid:]) - statistics.median(half[:mid]), 1),
        "a_minute_after": told(after), "children": [told(one) for one in children],
        "every_30_s": [round(one["pss"]) for one in read[::30]], **asked,
    }  # fmt: skip
    print(json.dumps(found, indent=1), flush=True)
    return found


def told(found: Json) -> Json:
    return {name: round(value) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--think", type=float, default=0.0)
    parser.add_argument("--streams", type=int, default=20)
    parser.add_argument("--writers", type=int, default=1)
    parser.add_argument("--databases", default="sqlite,postgres")
    parser.add_argument("--home", type=Path)
    chosen = parser.parse_args()
    path = RESULTS / "memory.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else {}
    for database in chosen.databases.split(","):
        name = f"{chosen.megabytes:g} MB, {database}, {chosen.clients} clients"
        if chosen.think:
            name += f" who think {chosen.think:g} s, {chosen.streams} streams, {chosen.writers} writers"
        print(name, flush=True)
        with web.filled(database, int(1e6 * chosen.megabytes / BYTES_A_ROW), chosen.home) as settings:
            rows[name] = {**measure(settings, chosen), "minutes": chosen.minutes}
        rows[name]["load"] = ", ".join(f"{value:.1f}" for value in os.getloadavg())
        keep("memory", rows, unit="MB of 1,000,000 bytes; PSS where nothing else is said")


if __name__ == "__main__":
    main()
