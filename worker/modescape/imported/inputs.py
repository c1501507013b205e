"""How pixels were scaled for networks made elsewhere, by the names people have for it.

inputs("imagenet")                          # {"input_scale": "mean-std", "mean": [.485, ...], ...}: fields of a spec
inputs("mean=.5;std=.25+bgr")
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from modescape.errors import InvalidInput
from modescape.science.data.tensors import InputScale

# Means and deviations of x/255 that published code subtracts and divides by, red first.
NORMALISATIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar10-means-of-deviations": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "mnist": ((0.1307,), (0.3081,)),
    "fashion-mnist": ((0.2860,), (0.3530,)),
    "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
}
_BGR = "+bgr"


def inputs(text: str) -> dict[str, Any]:
    """Fields of `data` in a spec. text: an input scale, a name of NORMALISATIONS, or mean=...;std=... with numbers of
    x/255 between commas; with +bgr behind it, blue comes first. Raises InvalidInput (field `inputs`)."""
    name, order = (text.removesuffix(_BGR), {"channel_order": "bgr"}) if text.endswith(_BGR) else (text, {})
    if name in NORMALISATIONS:
        mean, deviation = NORMALISATIONS[name]
        return {"input_scale": "mean-std", "mean": list(mean), "deviation": list(deviation), **order}
    if name in get_args(InputScale) and name != "mean-std":
        return {"input_scale": name, **order}
    if name.startswith("mean="):
        first, _, second = name.removeprefix("mean=").partition(";std=")
        return {"input_scale": "mean-std", "mean": _numbers(first), "deviation": _numbers(second), **order}
    raise InvalidInput(f"{text[:80]!r} is not known", field="inputs", allowed=", ".join((*names(), "mean=...;std=...")))


def names() -> Iterator[str]:
    """Every name, the plain scales first."""
    yield from (name for name in get_args(InputScale) if name != "mean-std")
    yield from NORMALISATIONS


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InvalidInput(
            f"{text[:80]!r} are no numbers", field="inputs", allowed="such as mean=.49,.48,.45;std=.25,.24,.26"
        ) from None
