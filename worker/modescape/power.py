"""What the planned number of runs, test images and samples leaves open, before anything is
computed (science o.11); without torch.

    left_open(spec, sizes)          # (Open(claim="d1", words="effects below 2.3 times stay open"), ...)
    left_open(spec, sizes, own)     # of a clone, from the spread that the experiment it is a clone of has

What an experiment has found says more of its clone than any simulation: its intervals, as much narrower as more runs
make them, stand in place of the simulated ones. That part of an interval that is over images, which more runs do not
narrow, is in both, so a clone's may be somewhat wider than told.

Half-widths are simulated: `benchmarks/power.py` has the verdict itself judge problems made to order, and writes the
table read here. An effect nearer to its margin than the half-width gets no word more often than not: for a ratio, one
below margin x exp(half-width). Read is the row of the largest simulated size that the plan has in everything.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from modescape.claims.claim import CLAIMS, MIN_SAMPLES, MIN_UNITS, Claim, Reads
from modescape.claims.telling import Told
from modescape.drawing.words import listed
from modescape.records import Sizes
from modescape.registry import methods
from modescape.science.confidence import t_quantile
from modescape.spec import ExperimentSpec
from modescape.spec_parts import MethodSpec

TABLE = Path(__file__).parent / "power.json"
OFTEN = 0.5  # share of simulations in which a gate must be open for its half-widths to be told


@dataclass(frozen=True)
class Open:
    """What stays open of one claim. words: in a clause; runs, images, samples: of the simulation, 0 where they do not
    matter; half_width: None where a gate stays closed; needs: the fewest simulated runs that get a word for an effect
    which is clear (`runs_needed`), None where none is enough or runs do not decide; own: of how many units of the
    experiment that is cloned the spread is, 0 of what was simulated."""

    claim: str
    words: str
    runs: int = 0
    images: int = 0
    samples: int = 0
    half_width: float | None = None
    needs: int | None = None
    own: int = 0


@dataclass(frozen=True)
class Spread:
    """Of a claim that was judged: half its interval at the level its word needs, and of how many units it is. level: on
    either side."""

    half: float
    units: int
    level: float

    def half_width(self, units: int) -> float:
        """With another number of units of the same spread, at the same level."""
        quantiles = t_quantile(1 - self.level, units - 1) / t_quantile(1 - self.level, self.units - 1)
        return self.half * quantiles * math.sqrt(self.units / units)


@dataclass(frozen=True)
class Own:
    """What the experiment that is cloned has found: its name, and the spread of every claim that has an interval."""

    name: str = ""
    spreads: Mapping[str, Spread] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, told: Sequence[Told]) -> Own:
        spreads = {
            one.record.id: Spread((one.bar.high - one.bar.low) / 2, one.record.n, (1 - one.bar.confidence) / 2)
            for one in told
            if one.bar.low is not None and one.bar.high is not None and one.record.n >= MIN_UNITS and not one.waits
        }
        return cls(name, spreads)


NOTHING = Own()
MOST_RUNS = 100  # that are proposed from an experiment's own spread

CLEAR = 2  # times its margin is an effect that a plan should get a word for


def left_open(spec: ExperimentSpec, sizes: Sizes, own: Own = NOTHING) -> tuple[Open, ...]:
    """One line a claim that this spec can be asked, in the paper's order."""
    return tuple(
        replace(_line(claim, spec, sizes, own), needs=runs_needed(claim, spec, sizes, own))
        for claim in CLAIMS.values() if _is_asked(claim, spec)
    )  # fmt: skip


def half_width(claim: Claim[Any], half: float) -> str:
    """As people read it: ÷ or × 1.65 of a ratio, ± 0.048 of what is none."""
    return f"÷ or × {claim.say(half, bare=True)}" if claim.ratio else f"± {half:.2g}"


def runs_needed(claim: Claim[Any], spec: ExperimentSpec, sizes: Sizes, own: Own = NOTHING) -> int | None:
    """The fewest simulated runs with which an effect of CLEAR times the margin gets a word more often than not, images
    and samples being as planned: a half-width of ln CLEAR of a ratio, else of the margin (of what must lie within it:
    an effect of nothing); of an own spread any number up to MOST_RUNS. None where none is enough, or the claim is not
    about runs."""
    enough = math.log(CLEAR) if claim.ratio else abs(claim.margin_in(spec))
    if (spread := own.spreads.get(claim.letter)) is not None:
        if claim.evidence.planned_units(spec) != spec.ensemble.runs:
            return None
        return next((n for n in range(MIN_UNITS, MOST_RUNS + 1) if spread.half_width(n) <= enough), None)
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


def _line(claim: Claim[Any], spec: ExperimentSpec, sizes: Sizes, own: Own = NOTHING) -> Open:
    letter, evidence = claim.letter, claim.evidence
    runs, images, samples = evidence.planned_units(spec), evidence.planned_examples(spec, sizes), _samples(claim, spec)
    if runs < MIN_UNITS:
        return Open(letter, f"stays open: {MIN_UNITS} {evidence.unit}s are needed")
    if images < claim.examples:
        return Open(letter, f"stays open: {claim.examples} test images are needed")
    if samples is not None and samples < MIN_SAMPLES:
        return Open(letter, f"stays open: {MIN_SAMPLES} samples of a method are needed in every run")
    if (spread := own.spreads.get(letter)) is not None:
        half = spread.half_width(runs)
        words = claim.left_open(claim.margin_in(spec), half)
        return Open(letter, words, runs=runs, half_width=half, own=spread.units)
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
    for size_of, asked in (("runs", runs), ("images", images), ("samples", samples or 0)):
        sizes = sorted({row[size_of] for row in rows})
        within = [size for size in sizes if size <= asked] or sizes[:1]
        rows = [row for row in rows if row[size_of] == within[-1]]
    return rows[0] if rows else None


def basis(lines: Sequence[Open], own: Own = NOTHING) -> str:
    """Where the lines come from, in a sentence or two."""
    said = []
    if cloned := [line for line in lines if line.own]:
        letters = listed([f"({line.claim})" for line in cloned])
        said.append(
            f"{letters}: from the spread of the {max(line.own for line in cloned)} runs of {own.name}, at the level "
            "that each word needs. The same number of runs has its intervals; of more, these are about as wide."
        )
    if known := [line for line in lines if line.half_width is not None and not line.own]:
        runs = max(line.runs for line in known)
        images = f"{max(line.images for line in known):,}".replace(",", "\u202f")
        said.append(
            f"{'The others are simulated' if cloned else 'Simulated'} for {runs} runs that differ little and {images} "
            "images of 5 classes (accuracy .82, runs disagree on .16; benchmarks/power.py), at 95 %. Your own data may "
            "give wider intervals: where runs differ more, where a claim is over several methods, or where samples "
            "are far from the strength that costs one point of accuracy."
        )
    return " ".join(said)
