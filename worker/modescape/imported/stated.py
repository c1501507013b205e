"""An accuracy as its author printed it, and whether a number of right images is that one."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal


def is_met(stated: str, right: int, images: int) -> bool:
    """Whether `right` of so many images, or one more or fewer, is the stated accuracy once it is rounded to as many
    digits. stated: such as ".9173" or "91.73 %"."""
    text = stated.strip()
    is_percent = text.endswith("%")
    value = Decimal(text.rstrip("% "))
    step = Decimal(1).scaleb(-max(0, -int(value.as_tuple().exponent)))
    factor = 100 if is_percent else 1
    near = (max(0, right - 1), right, min(images, right + 1))
    return any((Decimal(factor * one) / images).quantize(step, ROUND_HALF_UP) == value for one in near)


def share(stated: str) -> float:
    """The stated accuracy from 0 to 1."""
    text = stated.strip()
    return float(text.rstrip("% ")) / (100 if text.endswith("%") else 1)
