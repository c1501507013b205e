"""What a worker reads of its own process and card, for its page and for monitoring.

reader = Reader()
reader.read()       # {"cpu": 0.97, "memory_bytes": 412000000}, of a worker with a GPU its card's too
"""

from __future__ import annotations

import os
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path

from modescape.records import Json


class Reader:
    def __init__(self) -> None:
        self._at, self._used = time.monotonic(), _processor_seconds()

    def read(self) -> Json:
        """cpu: processor seconds a second since the last reading, children counted; memory_bytes: resident.

        Of a card gpu_memory_bytes (of this process), gpu_memory_used_bytes and gpu_memory_total_bytes (of all), and
        gpu_busy (share of the last moment, where the driver tells).
        """
        at, used = time.monotonic(), _processor_seconds()
        share = (used - self._used) / max(at - self._at, 1e-9)
        self._at, self._used = at, used
        return {"cpu": round(share, 3), "memory_bytes": _resident(), **_card()}


def _processor_seconds() -> float:
    told = os.times()
    return told.user + told.system + told.children_user + told.children_system


def _resident() -> int:
    """Bytes of this process in memory; where the system does not tell what is, the most there ever were."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _card() -> Json:
    """Of the card that torch computes on, once it does; torch is not loaded for it."""
    torch = sys.modules.get("torch")
    if torch is None or getattr(torch.__spec__, "_initializing", False):  # another thread loads it just now
        return {}
    if not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return {}
    free, total = torch.cuda.mem_get_info()
    found: Json = {
        "gpu_memory_bytes": torch.cuda.memory_reserved(),
        "gpu_memory_used_bytes": total - free,
        "gpu_memory_total_bytes": total,
    }
    with suppress(Exception):  # the driver's library for Python may be missing
        found["gpu_busy"] = torch.cuda.utilization() / 100
    return found
