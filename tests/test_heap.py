"""Memory is kept between the steps of a training and given back when nothing is left to do: read off a process that
does nothing else."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest

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


def test_arrays_of_every_step_are_the_same_pages_and_go_back_in_the_end() -> None:
    kept, pages, before, after = told("keep")
    _, anew, *_ = told("not")
    assert kept
    assert anew > 20 * 5_000, "48 MB are 12,288 pages, asked for again in each of 20 steps"
    assert pages < 1_000
    assert before - after > 40 << 20
