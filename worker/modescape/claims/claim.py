"""What a claim of the paper says of itself, before any data.

    @Claim(
        letter="a",
        title="Independent optima are orthogonal",
        estimand="mean cosine over pairs of runs",
        margin=Margin(default=0.1, gt=0, le=1, says="Optima are orthogonal: ..."),
        side=Side.WITHIN,
        evidence=Evidence,
        ...
    )
    def orthogonal(asked: Asked, evidence: Evidence) -> ClaimRecord | None: ...

The function decorated judges it: it gets the claim with the margin that was asked, and evidence without failed units,
and gives None where this evidence says nothing of it. Margins in the spec, the launch form, the page of an experiment,
the power table and the comparison of experiments are made of these declarations.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from modescape.claims.evidence import Promised, Units, is_whole_shift
from modescape.claims.record import ClaimRecord
from modescape.records import Json
from modescape.science.confidence import Word
from modescape.sources import Source, declaring_module, source_of

if TYPE_CHECKING:
    from modescape.spec_parts import BaseSpec

MIN_UNITS = 3
MIN_CHECKPOINTS = 3
MIN_EXAMPLES = 500
MIN_EXAMPLES_ACCURACY = 1000  # where accuracy, Brier score or divergence is compared
MIN_DISAGREEING = 20  # examples a pair of units must disagree on, in the mean
MIN_SAMPLES = 3

U = TypeVar("U", bound=Units)


class Side(StrEnum):
    """Where the whole interval must lie for a claim to hold."""

    ABOVE = "above"  # the margin
    BELOW = "below"  # the margin
    WITHIN = "within"  # plus and minus the margin


class Joins(StrEnum):
    """Of how many methods a claim must hold."""

    ONE = "one"  # it is not about methods
    EVERY = "every"
    SOME = "some"


class Reads(StrEnum):
    """Which samples of a method are read."""

    NARROW = "narrow"  # the typical ones, or those drawn at the best strength
    WIDE = "wide"  # of all strengths; narrow ones stand in where no others were asked for


@dataclass(frozen=True, kw_only=True)
class Margin:
    """A margin as it stands in a spec, under `margins`: a ratio as a ratio.

    field: its name there, which claims may share, else the claim's letter; says: its description; gt, ge, le: its
    bounds; was: the name it has in older specs.
    """

    field: str = ""
    default: float
    says: str
    gt: float | None = None
    ge: float | None = None
    le: float | None = None
    was: str = ""


@dataclass(frozen=True, kw_only=True)
class DecidedBy:
    """What an experiment needs for a word: in words; add: as a value of /launch?with=; stages: those that judge;
    runs: how many a clone gets at least, 0 where what is added does not hang on their number; brought: what an ensemble
    that was made elsewhere must bring for it, where that is something else."""

    words: str
    add: str
    stages: tuple[str, ...]
    runs: int = 0
    brought: str = ""

    def is_promised(self, spec: BaseSpec) -> bool:
        """Whether stages of these kinds, where a spec has them, will judge it."""
        if self.add == "checkpoints":
            training, along = spec.training, spec.imported or spec.weights
            kept = math.ceil(training.epochs / training.checkpoint_every) if along is None else len(along.epochs) + 1
            return kept >= MIN_CHECKPOINTS
        shift = getattr(spec, "shift", None)  # the spec with its studies stands above claims
        if shift is not None and self.add == "shift" and not is_whole_shift(cast(Promised, spec)):
            return False
        samples = self.add not in ("methods", "shift") or any(chosen.typical for chosen in spec.methods)
        return samples and spec.ensemble.runs >= self.runs


SAMPLES = DecidedBy(words="subspace samples around every run", add="methods", stages=("compare",), runs=MIN_UNITS)


def beyond_ratio(margin: float, half_width: float) -> str:
    """What a half-width leaves open of a ratio that must lie above its margin."""
    return f"effects below {short(margin * math.exp(half_width))} times stay open"


def short(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


def _undeclared(asked: Asked, evidence: Any) -> ClaimRecord | None:
    raise NotImplementedError(f"claim ({asked.claim.letter}) has no function that judges it")


@dataclass(frozen=True, kw_only=True)
class Claim(Generic[U]):
    """A claim of the paper before any data; calling it with the function that judges it declares it.

    letter: its name everywhere; estimand: what is estimated, in words; ratio: what is estimated is ln of a ratio; unit:
    what an effect is counted in where it is none; side: where the interval must lie; section: of the science document;
    paper: where the claim is in the paper.

    evidence: the record it is judged on; joins: over how many methods; reads: which samples of them; examples: how many
    it needs (science o.3); prepare: what is made of the evidence once, before any unit is left out; left_open: what a
    half-width leaves open, in words, from the margin as it stands in the spec.

    shares: parts of its records that are shares of images, or of samples; figures: those that show it, the best first;
    shown_by: figure -> what its address asks for to show it, where that is not what it shows unasked; decided_by: what
    an experiment needs to decide it; brought: the code of others that declares it, None: ours, filled in when it is
    declared.
    """

    letter: str
    title: str
    estimand: str
    section: str = "o.4"
    paper: str
    margin: Margin
    ratio: bool = False
    unit: str = ""
    side: Side = Side.ABOVE
    evidence: type[U]
    joins: Joins = Joins.ONE
    reads: Reads | None = None
    examples: int = MIN_EXAMPLES
    prepare: Callable[[U, Callable[[], None]], U] | None = field(default=None, repr=False)
    left_open: Callable[[float, float], str] = field(default=beyond_ratio, repr=False)
    shares: tuple[str, ...] = ()
    figures: tuple[str, ...]
    shown_by: Mapping[str, str] = field(default_factory=dict)
    decided_by: DecidedBy
    judge: Callable[[Asked, U], ClaimRecord | None] = field(default=_undeclared, repr=False)
    brought: Source | None = None

    def __post_init__(self) -> None:
        if not self.margin.field:
            object.__setattr__(self, "margin", replace(self.margin, field=self.letter))

    def __call__(self, judge: Callable[[Asked, U], ClaimRecord | None]) -> Callable[[Asked, U], ClaimRecord | None]:
        """Declares the claim. Raises ValueError where its letter is taken (a programming error)."""
        if self.letter in CLAIMS:
            raise ValueError(f"claim ({self.letter}) is declared twice")
        CLAIMS[self.letter] = replace(self, judge=judge, brought=source_of(declaring_module(sys._getframe(1))))
        for letter in sorted(CLAIMS):  # the paper's order, whichever file was read first
            CLAIMS[letter] = CLAIMS.pop(letter)
        return judge

    def said(self) -> Json:
        """What it says of itself, as data."""
        margin = {"field": self.margin.field, "default": self.margin.default, "summary": self.margin.says}
        return {
            "name": self.letter, "title": self.title, "estimand": self.estimand, "paper": self.paper,
            "section": self.section, "side": self.side, "ratio": self.ratio, "unit": self.unit, "margin": margin,
            "examples": self.examples, "figures": self.figures, "decided_by": self.decided_by.words,
        }  # fmt: skip

    @property
    def default_margin(self) -> float:
        return self.in_unit(self.margin.default)

    def margin_in(self, spec: Promised) -> float:
        """As it stands in a spec; the default where that has no such field, as of a claim declared elsewhere."""
        asked: float = getattr(spec.margins, self.margin.field, self.margin.default)
        return asked

    def in_unit(self, margin: float) -> float:
        """A margin of a spec in the estimand's own unit."""
        return math.log(margin) if self.ratio else margin

    def say(self, value: float, *, bare: bool = False) -> str:
        """A value of the estimand as people read it; bare: without "times"."""
        if self.ratio:
            return f"{math.exp(min(value, 700.0)):.3g}{'' if bare else ' times'}"
        return f"{value:.3g}".replace("-", "−")

    def part(self, name: str, value: float) -> str:
        """A number behind the estimate, as sentences and figures have it: shares in percent, gains in points."""
        if name in self.shares:
            return f"{100 * value:.1f} %"
        if name.startswith("accuracy gain"):
            return f"{100 * value:+.1f} points".replace("-", "−")
        if float(value).is_integer() and abs(value) < 1e6:
            return f"{int(value):,}".replace(",", "\u202f")
        return f"{value:.3g}".replace("-", "−")

    def counted(self, value: float) -> str:
        """The same with its unit."""
        return f"{self.say(value)} {self.unit}".rstrip()


@dataclass(frozen=True)
class Asked:
    """A claim at the margin at which it is asked; margins: of every claim. All in the estimands' own units."""

    claim: Claim[Any]
    margin: float
    margins: Mapping[str, float]

    def record(self, evidence: Units) -> ClaimRecord:
        """Without a word yet."""
        about = self.claim
        return ClaimRecord(
            about.letter, about.title, about.estimand, Word.CANNOT_TELL, "", self.margin, evidence.units,
            evidence.examples, evidence.unit,
        )  # fmt: skip


CLAIMS: dict[str, Claim[Any]] = {}


def margins(spec: Promised) -> dict[str, float]:
    """The margins of a spec by claim, in the estimands' own units."""
    return {letter: claim.in_unit(claim.margin_in(spec)) for letter, claim in CLAIMS.items()}
