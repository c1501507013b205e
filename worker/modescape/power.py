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
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from modescape.claims.claim import CLAIMS, MIN_SAMPLES, MIN_UNITS, Claim, Reads
from modescape.records import Sizes
from modescape.registry import methods
from modescape.spec import ExperimentSpec
from modescape.spec_parts import MethodSpec

TABLE = Path(__file__).parent / "power.json"
OFTEN = 0.5  # share of simulations in which a gate must be open for its half-widths to be told


@dataclass(frozen=True)
class Open:
    """What stays open of one claim. words: in a clause; runs, images, samples: of the simulation, 0 where they do not
    matter; half_width: None where a gate stays closed; needs: the fewest simulated runs that get a word for an effect
    which is clear (`runs_needed`), None where none is enough or runs do not decide."""

    claim: str
    words: str
    runs: int = 0
    images: int = 0
    samples: int = 0
    half_width: float | None = None
    needs: int | None = None


CLEAR = 2  # times its margin is an effect that a plan should get a word for


def left_open(spec: ExperimentSpec, sizes: Sizes) -> tuple[Open, ...]:
    """One line a claim that this spec can be asked, in the paper's order."""
    return tuple(
        replace(_line(claim, spec, sizes), needs=runs_needed(claim, spec, sizes))
        for claim in CLAIMS.values() if _is_asked(claim, spec)
    )  # fmt: skip


def runs_needed(claim: Claim[Any], spec: ExperimentSpec, sizes: Sizes) -> int | None:
    """The fewest simulated runs with which an effect of CLEAR times the margin gets a word more often than not, images
    and samples being as planned: a half-width of ln CLEAR of a ratio, else of the margin (of what must lie within it:
    an effect of nothing). None where no simulated number is enough, or the claim is not about runs."""
    enough = math.log(CLEAR) if claim.ratio else abs(claim.margin_in(spec))
    of_runs = {runs: spec.model_copy(update={"ensemble": spec.ensemble.model_copy(update={"runs": runs})})
               for runs in sorted({row["runs"] for row in _rows().get(_named(claim, spec), [])})}  # fmt: skip
    if any(claim.evidence.planned_units(planned) != runs for runs, planned in of_runs.items()):
        return None
    for runs, planned in of_runs.items():
        half = _line(claim, planned, sizes).half_width
        if half is not None and half <= enough:
            return int(runs)
    return None


@cache
def _rows() -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in json.loads(TABLE.read_text(encoding="utf-8"))["rows"]:
        found.setdefault(row["claim"], []).append(row)
    return found


def _sampled(spec: ExperimentSpec) -> list[MethodSpec]:
    return [chosen for chosen in spec.methods if chosen.method in methods and methods[chosen.method].sampled]


def _is_asked(claim: Claim[Any], spec: ExperimentSpec) -> bool:
    return claim.evidence.is_planned(spec) and (claim.reads is None or bool(_sampled(spec)))


def _line(claim: Claim[Any], spec: ExperimentSpec, sizes: Sizes) -> Open:
    letter, evidence = claim.letter, claim.evidence
    runs, images, samples = evidence.planned_units(spec), evidence.planned_examples(spec, sizes), _samples(claim, spec)
    if runs < MIN_UNITS:
        return Open(letter, f"stays open: {MIN_UNITS} {evidence.unit}s are needed")
    if images < claim.examples:
        return Open(letter, f"stays open: {claim.examples} test images are needed")
    if samples is not None and samples < MIN_SAMPLES:
        return Open(letter, f"stays open: {MIN_SAMPLES} samples of a method are needed in every run")
    row = _row(_named(claim, spec), runs, images, samples)
    if row is None:
        return Open(letter, "not simulated")
    size = {name: int(row[name]) for name in ("runs", "images", "samples")}
    if row["half_width"] is None or row["told"] < OFTEN:
        return Open(letter, "mostly stays open: too few samples lie near one point of accuracy", **size)
    half, margin = float(row["half_width"]), claim.margin_in(spec)
    return Open(letter, claim.left_open(margin, half), **size, half_width=half)


def _samples(claim: Claim[Any], spec: ExperimentSpec) -> int | None:
    """Samples a run of the method that has the fewest; None where they do not matter."""
    if claim.reads is None:
        return None
    if claim.reads is Reads.WIDE:  # for which typical ones stand in
        return min(chosen.spread or chosen.typical for chosen in _sampled(spec))
    return min(chosen.typical for chosen in _sampled(spec))


def _named(claim: Claim[Any], spec: ExperimentSpec) -> str:
    """The table's name of a claim: what wide samples say depends on where their strengths lie."""
    if claim.reads is not Reads.WIDE:
        return claim.letter
    graded = all(chosen.options.get("strengths", "graded") == "graded" for chosen in _sampled(spec))
    return f"{claim.letter}/{'graded' if graded else 'uniform'}"


def _row(name: str, runs: int, images: int, samples: int | None) -> dict[str, Any] | None:
    """The largest simulated size within the planned one; the smallest where even that is larger."""
    rows = _rows().get(name, [])
    for field, asked in (("runs", runs), ("images", images), ("samples", samples or 0)):
        sizes = sorted({row[field] for row in rows})
        within = [size for size in sizes if size <= asked] or sizes[:1]
        rows = [row for row in rows if row[field] == within[-1]]
    return rows[0] if rows else None


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
