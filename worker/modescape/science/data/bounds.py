"""How large a picture, and a file of arrays once it is unpacked, may be for this process to read it, and how much
memory a process that it starts for that may take.

    keep_within(pixels=..., unpacked=...)     # servers and workers: as their settings say
    confine(bounds())                         # a process that they start, once

A few kilobytes can be a picture of ten thousand megapixels, or gigabytes of zeros.
"""

from __future__ import annotations

from typing import Any

from PIL import Image

from modescape.forks import limit

PIXELS = 178_956_970  # of a picture: what Pillow takes for a bomb by itself
UNPACKED = 8 << 30  # bytes

_unpacked = UNPACKED
_memory: int | None = None


def keep_within(*, pixels: int = PIXELS, unpacked: int = UNPACKED, memory: int | None = None) -> None:
    """From now on. pixels: Pillow, which every picture is read by, warns of half of them, and refuses more; memory:
    bytes, of processes that this one starts; None: any."""
    global _unpacked, _memory
    Image.MAX_IMAGE_PIXELS = max(1, pixels // 2)
    _unpacked, _memory = unpacked, memory


def bounds() -> dict[str, Any]:
    """As JSON, for a process that this one starts."""
    return {"pixels": most_pixels(), "unpacked": _unpacked, "memory": _memory}


def confine(given: dict[str, Any]) -> None:
    """This process, for good, to the bounds of the one that started it."""
    keep_within(**given)
    limit(memory=given["memory"])


def most_pixels() -> int:
    return 2 * (Image.MAX_IMAGE_PIXELS or PIXELS // 2)


def most_unpacked() -> int:
    return _unpacked
