"""Questions of files that go wrong in every way, for `test_own_files`: what reads them imports this module."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np

from modescape.own_files import read_apart


@read_apart(lambda path: [path], field="data.path")
def first_line(path: str) -> tuple[str, int]:
    """And which process has read it."""
    return Path(path).read_text().splitlines()[0], os.getpid()


@read_apart(lambda path: [path], field="data.path")
def slowly(path: str) -> int:
    """Which process has read it."""
    time.sleep(0.5)
    return os.getpid()


@read_apart(lambda path: [path], field="data.path")
def hangs(path: str) -> int:
    time.sleep(600)
    return 0


@read_apart(lambda path: [path], field="data.path")
def computes(path: str) -> int:
    while True:
        pass


@read_apart(lambda path: [path], field="data.path")
def is_killed(path: str) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


@read_apart(lambda path, bytes: [path], field="data.path")
def takes(path: str, bytes: int) -> int:
    return int(np.ones(bytes, np.uint8)[-1])


@read_apart(lambda path: [path], field="data.path")
def writes(path: str) -> int:
    return Path(f"{path}.written").write_bytes(b"0")
