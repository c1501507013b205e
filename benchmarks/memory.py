"""How much memory the web process takes: idle, with many clients over a full database, and a minute after they left.

    python benchmarks/memory.py [--megabytes 100] [--clients 200] [--minutes 3] [--databases sqlite,postgres]

Starts the server as users do (`modescape serve`) over a home whose database takes so many megabytes, and lets clients
read lists by any field, pages, figures, matrices and events, each the next as soon as it has an answer; some listen to
the stream of events meanwhile, and one writes. Every second its proportional and resident memory are read from the
kernel (PSS counts pages that processes share in equal parts), those of the processes it started beside. Keeps them in
results/memory.json.
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
STREAMS = 20
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
    """Clients of one server. answers: by status."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answers: dict[int, int] = {}
        self.odd: dict[str, int] = {}
        self.seconds: list[float] = []

    async def read(self, number: int, until: float) -> None:
        draw = random.Random(number)
        while time.monotonic() < until:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(0.2)
                continue
            for _ in range(50):
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
        self.seconds.append(time.monotonic() - began)
        return "connection: close" not in head

    async def listen(self, until: float) -> None:
        """To the events, anew whenever the stream ends."""
        while time.monotonic() < until:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
                             "Accept: text/event-stream\r\n\r\n".encode())  # fmt: skip
                async with asyncio.timeout(max(0.1, until - time.monotonic())):
                    while await reader.read(1 << 16):
                        pass
                writer.close()
            except (OSError, TimeoutError):
                await asyncio.sleep(0.2)

    async def write(self, until: float) -> None:
        number = 0
        while time.monotonic() < until:
            number += 1
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            body = json.dumps({"notes": f"{number}"}).encode()
            writer.write(
                b"PATCH /api/experiments/finished HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n"
                b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (self.port, len(body), body)
            )
            await reader.read()
            writer.close()
            await asyncio.sleep(1)


async def watched(settings: Settings, server: int, clients: int, seconds: float) -> tuple[Json, list[Json]]:
    crowd, until = Crowd(settings.port), time.monotonic() + seconds
    everybody = [crowd.read(number, until) for number in range(clients)]
    everybody += [crowd.listen(until) for _ in range(STREAMS)] + [crowd.write(until)]
    busy = asyncio.gather(*everybody)
    read: list[Json] = []
    while not busy.done():
        read.append({"at": round(seconds - (until - time.monotonic())), **memory_of(server)})
        await asyncio.wait([busy], timeout=1)
    await busy
    p99 = statistics.quantiles(crowd.seconds, n=100)[98]
    return {"answers": crowd.answers, "odd": crowd.odd, "p50_s": round(statistics.median(crowd.seconds), 2),
            "p99_s": round(p99, 2)}, read  # fmt: skip


def measure(settings: Settings, clients: int, minutes: float) -> Json:
    process, _ = web.start(settings)
    try:
        time.sleep(5)
        idle = memory_of(process.pid)
        print(f"  idle {told(idle)}", flush=True)
        asked, read = asyncio.run(watched(settings, process.pid, clients, 60 * minutes))
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
    parser.add_argument("--databases", default="sqlite,postgres")
    parser.add_argument("--home", type=Path)
    chosen = parser.parse_args()
    path = RESULTS / "memory.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else {}
    for database in chosen.databases.split(","):
        name = f"{chosen.megabytes:g} MB, {database}, {chosen.clients} clients"
        print(name, flush=True)
        with web.filled(database, int(1e6 * chosen.megabytes / BYTES_A_ROW), chosen.home) as settings:
            rows[name] = {**measure(settings, chosen.clients, chosen.minutes), "minutes": chosen.minutes}
        rows[name]["load"] = ", ".join(f"{value:.1f}" for value in os.getloadavg())
        keep("memory", rows, unit="MB of 1,000,000 bytes; PSS where nothing else is said")


if __name__ == "__main__":
    main()
