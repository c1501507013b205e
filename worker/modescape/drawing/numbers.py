"""Numbers on their way into pictures and tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modescape.drawing.reading import Floats, Ints

MAX_POINTS = 2000  # SVG marks in one plot that a browser still brushes within 150 ms
MOST_POINTS = 20_000  # of one that a browser draws with WebGL
MAX_ROWS = 128  # rows of a heat map; the whole matrix is a download


def known(value: float) -> float | None:
    """A table's cell: None where the number is undefined."""
    return float(value) if math.isfinite(value) else None


def float32(values: ArrayLike) -> NDArray[np.float32]:
    """What travels to the browser: half the bytes, seven digits."""
    return np.asarray(values, dtype=np.float32)


def lines(*columns: Any) -> list[tuple[Any, ...]]:
    """Cells of a table from its columns: what each of its rows has [n], or one value for all of them."""
    counts = {len(column) for column in columns if _is_column(column)}
    if len(counts) != 1:
        raise ValueError(f"columns of one table are equally long, not {sorted(counts)}")
    (count,) = counts
    filled = [column if _is_column(column) else [column] * count for column in columns]
    return [tuple(map(_cell, row)) for row in zip(*filled, strict=True)]


def stacked(tables: Iterable[list[tuple[Any, ...]]]) -> list[tuple[Any, ...]]:
    """Tables of the same columns, one under the other."""
    return [*chain.from_iterable(tables)]


def _is_column(values: Any) -> bool:
    return isinstance(values, np.ndarray | tuple | list)


def _cell(value: Any) -> Any:
    plain = value.item() if isinstance(value, np.generic) else value
    return known(plain) if isinstance(plain, float) else plain


def thin(count: int, limit: int) -> Ints:
    """Indices that keep at most `limit` of `count` things, evenly, first and last included."""
    if count <= limit:
        return np.arange(count)
    return np.unique(np.round(np.linspace(0, count - 1, limit)).astype(np.int64))


def share_points(counts: Mapping[str, int], limit: int = MAX_POINTS) -> dict[str, int]:
    """How many points each group may show so that all together stay within `limit`, evenly per group."""
    total = sum(counts.values())
    if total <= limit:
        return dict(counts)
    return {group: max(1, count * limit // total) for group, count in counts.items()}


def finite(values: Floats) -> Floats:
    """Those that are numbers, of an array of any shape."""
    return np.asarray(values[np.isfinite(values)])


def spread(values: Floats) -> float:
    """Sample standard deviation (ddof 1); NaN for fewer than two."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def number(value: float | None) -> float:
    return math.nan if value is None else float(value)
