"""Numbers and lists as people read them: percent, rate, loss, thousands, duration, price, listed."""

from __future__ import annotations

import math
from collections.abc import Sequence


def percent(value: float) -> str:
    """ "14.3": one decimal, without the sign."""
    return "–" if not math.isfinite(value) else f"{100 * value:.1f}".replace("-", "−")


def rate(value: float, digits: int = 3) -> str:
    """ ".312": no zero before the point, a true minus; an en dash where undefined."""
    if not math.isfinite(value):
        return "–"
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = f"{0:.{digits}f}"
    text = text.replace("-", "−")
    return text.replace("0.", ".", 1) if text.lstrip("−").startswith("0.") else text


def loss(value: float) -> str:
    """Three significant digits: "1.23", ".442", "12.3"."""
    if not math.isfinite(value):
        return "–"
    whole = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    return rate(value, max(0, 3 - whole))


def thousands(count: int) -> str:
    """ "10 000" with a narrow space at which no line breaks."""
    return f"{count:,}".replace(",", "\u202f")


def duration(seconds: float | None) -> str:
    """`18 s`, `4 min`, `2 h 05`, `3 days`, `3 years`: never a fifth more or less than it is, which is less than prices
    err."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if round(seconds) < 150:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 72 * 60:
        return f"{minutes // 60} h {minutes % 60:02d}"
    days = round(seconds / 86400)
    return f"{days} days" if days < 1000 else f"{round(days / 365.25):,} years"


def price(seconds: float, low: float, high: float) -> str:
    """`≈ 4 min`, or `2 to 6 min` where little is known."""
    if high < 2.5 * low:
        return f"≈ {duration(seconds)}"
    return between(low, high)


def between(low: float, high: float) -> str:
    """`2 to 6 min`, `40 s to 2 min`: of one unit where both are said in it well enough."""
    first, last = duration(low), duration(high)
    if first.endswith(" s") and last.endswith(" min") and low >= 90:  # a fifth more or less, as a duration
        first = f"{round(low / 60)} min"
    number, _, unit = first.rpartition(" ")
    return f"{number} to {last}" if last.endswith(f" {unit}") and number.isdigit() else f"{first} to {last}"


def listed(items: Sequence[str]) -> str:
    """ "a, b and c" """
    return f"{', '.join(items[:-1])} and {items[-1]}" if len(items) > 1 else items[0]
