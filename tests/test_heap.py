"""Memory is kept between the steps of a training and given back when nothing is left to do: read off a process that
does nothing else."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from test_doors import Process

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="ANOTHER C LIBRARY, NOT CHECKED")

PROGRAM = """
import json, resource, sys
from modescape import heap

def pages():  # mapped anew
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

def steps(count):
    before = pages()
    for _ in range(count):
        bytearray(b"1") * (48 << 20)
    return pages() - before

kept = heap.keep() if sys.argv[1] == "keep" else None
steps(2)
found = steps(20)
before = resident()
heap.give_back()
print(json.dumps([kept, found, before, resident()]))
"""


def told(how: str) -> list[int]:
    ran = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    found: list[int] = json.loads(ran.stdout)
    return found


@pytest.mark.slow
def test_arrays_of_every_step_are_the_same_pages_and_go_back_in_the_end() -> None:
    kept, pages, before, after = told("keep")
    _, anew, *_ = told("not")
    assert kept
    assert anew > 20 * 5_000, "48 MB are 12,288 pages, asked for again in each of 20 steps"
    assert pages < 1_000
    assert before - after > 40 << 20


FLAT = """
import sys
from modescape import heap

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

if sys.argv[1] == "flat":
    assert heap.stay_flat()
bytearray(b"1") * (24 << 20)  # from now on the C library keeps pieces of this size, unless it is told not to
before = resident()
pieces = [bytearray(b"1") * (24 << 20), bytes(1000)] * 2
pins = [bytes(900) for _ in range(1000)]
pieces.clear()
print(resident() - before)
"""


def test_a_server_gives_large_pieces_back_at_once() -> None:
    def kept(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", FLAT, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert kept("flat") < 4 << 20
    assert kept("as it is by itself") > 20 << 20


@pytest.mark.slow
def test_a_server_is_small_idle_and_after_many_pages(tmp_path: Path) -> None:
    """The bounds of benchmarks/memory.py, whose database is full: what each connection and thread keeps is the same."""
    site = Process(tmp_path)
    try:
        assert proportional(site.process.pid) < 150e6
        pages = ("/", "/launch", "/paper", "/data", "/api/catalogue", "/api/experiments?sort=-accuracy", "/compare")

        def read(number: int) -> None:
            with site.client() as client:
                for page in pages:
                    client.get(page, params={"q": f"{number}"} if page == "/" else None).raise_for_status()

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(read, range(16)))
        assert proportional(site.process.pid) < 200e6
    finally:
        site.kill()


def proportional(process: int) -> float:
    """Bytes of memory; pages that processes share count in equal parts."""
    return 1024 * int(Path(f"/proc/{process}/smaps_rollup").read_text().split("Pss:")[1].split()[0])
