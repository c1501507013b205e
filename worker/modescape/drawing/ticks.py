"""Where an axis that is drawn here, and not by Plotly, has its numbers."""

from __future__ import annotations

import math


def even(low: float, high: float, most: int, *, whole: bool = False) -> list[float]:
    """Round numbers from low to a higher high, about `most` of them: steps of 1, 2 or 5 times a power of ten. whole:
    none between whole numbers."""
    raw = (high - low) / most
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * n for n in (1, 2, 5, 10) if unit * n >= raw * 0.999)
    step = max(1.0, step) if whole else step
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]
