"""What the planned number of runs, test images and samples leaves open, before anything is
computed (science o.11); without torch.

    left_open(spec, sizes)          # (Open(claim="d1", words="effects below 2.3 times stay open"), ...)

Half-widths are simulated: `benchmarks/power.py` has the verdict itself judge problems made to order, and writes the
table read here. An effect nearer to its margin than the half-width gets no word more often than not: for a ratio, one
below margin x exp(half-width). Read is the row of the largest simulated size that the plan has in everything.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from modescape.registry import methods
from modescape.science.verdict import MIN_EXAMPLES, MIN_EXAMPLES_ACCURACY, MIN_SAMPLES, MIN_UNITS, QUESTIONS
from modescape.spec import ExperimentSpec, MethodSpec, Sizes

TABLE = Path(__file__).parent / "power.json"
OFTEN = 0.5  # share of simulations in which a gate must be open for its half-widths to be told
SHIFTED = 1.1  # (f2): the lead between runs under shift is compared with this times that on clean images


@dataclass(frozen=True)
class Open:
    """What stays open of one claim. words: in a clause; runs, images, samples: of the simulation, 0 where they do not
    matter; half_width: None where a gate stays closed."""

    claim: str
    words: str
    runs: int = 0
    images: int = 0
    samples: int = 0
    half_width: float | None = None


def left_open(spec: ExperimentSpec, sizes: Sizes) -> tuple[Open, ...]:
    """One line a claim that this spec can be asked, in the paper's order."""
    return tuple(_line(claim, spec, sizes) for claim in QUESTIONS if _is_asked(claim, spec))


@cache
def _rows() -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in json.loads(TABLE.read_text(encoding="utf-8"))["rows"]:
        found.setdefault(row["claim"], []).append(row)
    return found


def _sampled(spec: ExperimentSpec) -> list[MethodSpec]:
    return [chosen for chosen in spec.methods if chosen.method in methods and methods[chosen.method].sampled]


def _is_asked(claim: str, spec: ExperimentSpec) -> bool:
    if claim == "g":
        return spec.seeds is not None
    if claim == "h":
        return any(one.method in methods and methods[one.method].trained == "fresh" for one in spec.methods)
    if claim == "f2":
        return spec.shift is not None and bool(_sampled(spec))
    return claim[0] in "ab" or bool(_sampled(spec))


def _line(claim: str, spec: ExperimentSpec, sizes: Sizes) -> Open:
    runs = spec.seeds.repetitions if claim == "g" and spec.seeds else spec.ensemble.runs
    images = sizes.test if spec.evaluation.splits[0] == "test" else sizes.validation
    if claim == "f2" and spec.shift:
        images = min(images, spec.shift.images or 2000)
    samples = _samples(claim, spec)
    units = {"g": "repetitions", "h": "chains"}.get(claim, "runs")
    if runs < MIN_UNITS:
        return Open(claim, f"stays open: {MIN_UNITS} {units} are needed")
    needed = MIN_EXAMPLES if claim[0] in "bcgh" else MIN_EXAMPLES_ACCURACY
    if claim != "a" and images < needed:
        return Open(claim, f"stays open: {needed} test images are needed")
    if samples is not None and samples < MIN_SAMPLES:
        return Open(claim, f"stays open: {MIN_SAMPLES} samples of a method are needed in every run")
    row = _row(_named(claim, spec), runs, images, samples)
    if row is None:
        return Open(claim, "not simulated")
    size = {name: int(row[name]) for name in ("runs", "images", "samples")}
    if row["half_width"] is None or row["told"] < OFTEN:
        return Open(claim, "mostly stays open: too few samples lie near one point of accuracy", **size)
    half, margin = float(row["half_width"]), float(getattr(spec.margins, "d1" if claim == "d2" else claim))
    return Open(claim, _WORDS.get(claim, _ratio)(margin, half), **size, half_width=half)


def _samples(claim: str, spec: ExperimentSpec) -> int | None:
    """Samples a run of the method that has the fewest; None where they do not matter."""
    if claim[0] not in "cdef":
        return None
    if claim[0] == "d":  # wide ones, for which typical ones stand in
        return min(chosen.spread or chosen.typical for chosen in _sampled(spec))
    return min(chosen.typical for chosen in _sampled(spec))


def _named(claim: str, spec: ExperimentSpec) -> str:
    """The table's name of a claim: (d1) and (d2) depend on where the strengths lie."""
    if claim[0] != "d":
        return claim
    graded = all(chosen.options.get("strengths", "graded") == "graded" for chosen in _sampled(spec))
    return f"{claim}/{'graded' if graded else 'uniform'}"


def _row(name: str, runs: int, images: int, samples: int | None) -> dict[str, Any] | None:
    """The largest simulated size within the planned one; the smallest where even that is larger."""
    rows = _rows().get(name, [])
    for field, asked in (("runs", runs), ("images", images), ("samples", samples or 0)):
        sizes = sorted({row[field] for row in rows})
        within = [size for size in sizes if size <= asked] or sizes[:1]
        rows = [row for row in rows if row[field] == within[-1]]
    return rows[0] if rows else None


def _ratio(margin: float, half: float) -> str:
    return f"effects below {_short(margin * math.exp(half))} times stay open"


def _orthogonal(margin: float, half: float) -> str:
    if half >= margin:
        return f"stays open: the interval is wider than ±{_short(margin)}"
    return f"mean cosines beyond ±{_short(margin - half)} stay open"


def _share(margin: float, half: float) -> str:
    return f"shares above {_short(max(margin - half, 0.0))} stay open"


def _more(margin: float, half: float) -> str:
    return f"gains of less than {_short(100 * (margin + half))} % more stay open"


def _lead(margin: float, half: float) -> str:
    beyond = f", and by {_short(margin)} nats" if margin else ""
    return f"a lead that shift makes less than {_short(SHIFTED + half)} times as large{beyond} stays open"


_WORDS: dict[str, Callable[[float, float], str]] = {"a": _orthogonal, "e1": _share, "e2": _more, "f2": _lead}


def _short(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


def simulated(lines: Sequence[Open]) -> str:
    """Where the lines come from, in a sentence."""
    known = [line for line in lines if line.half_width is not None]
    if not known:
        return ""
    runs = max(line.runs for line in known)
    images = f"{max(line.images for line in known):,}".replace(",", "\u202f")
    return (
        f"Simulated for {runs} runs that differ little and {images} images (benchmarks/power.py): of effects that "
        "size, half get a word. Runs that differ more leave more open."
    )


__all__ = ["TABLE", "Open", "left_open", "simulated"]
