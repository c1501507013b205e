"""What an experiment says about its question, in numbers and in one or two sentences; without torch.

    found = Finding.of(row)                    # the column as stored, read once, said as the experiment speaks
    found.headline                             # 'Runs are different functions (b); at equal accuracy no samples ...'
    found.sentence                             # the same, with the numbers behind it
    found.told(look)                           # the claims that were asked, with the correction for all of them

The numbers are made by the stages that compare and kept in `experiment.finding`; the words are made here, for list,
page, command line and notebook alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from modescape.claims import CLAIMS
from modescape.claims.answering import HALVES, answer, behind
from modescape.claims.claim import MIN_UNITS
from modescape.claims.evidence import BY_SHAPE, OfRuns
from modescape.claims.record import ClaimRecord, fields_of
from modescape.claims.repeated_looks import FIRST, Look
from modescape.claims.telling import AtEqualAccuracy, Told, equal_accuracy, told
from modescape.records import StageState
from modescape.registry import methods
from modescape.tables import Experiment, Stage
from modescape.voice import HERE, Voice, voice_of

if TYPE_CHECKING:
    from modescape.spec_parts import BaseSpec

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A part of a finding: its fields are what is stored, and those that an older version did not keep their
    defaults."""

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        return cls(**fields_of(cls, stored))

    def to_json(self) -> Json:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Independent(Stored):
    """Pairs of healthy runs: disagreement of labels with its standard deviation, mean cosines of weights (without what
    they share for free, all as they are, what that was, the largest in absolute value)."""

    disagreement: float
    disagreement_sd: float | None = None
    cosine: float | None = None
    cosine_plain: float | None = None
    cosine_about: str = ""
    cosine_largest: float | None = None
    pairs: int


@dataclass(frozen=True, kw_only=True)
class Together(Stored):
    """Accuracy of all runs averaged, and the mean of single ones."""

    accuracy: float
    single: float
    members: int


@dataclass(frozen=True, kw_only=True)
class Along(Stored):
    """Mean disagreement of two recent checkpoints of one run."""

    disagreement: float
    runs: int


@dataclass(frozen=True, kw_only=True)
class FailedChains(Stored):
    """Of the chains of one method: how many there were, and why which failed, by run."""

    of: int
    runs: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Failed(Stored):
    """Runs and chains that have failed, by their numbers, with why, and how many there were of each."""

    of: int
    runs: Mapping[str, str] = field(default_factory=dict)
    chains: Mapping[str, FailedChains] = field(default_factory=dict)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        chains = {name: FailedChains.from_json(one) for name, one in stored.get("chains", {}).items()}
        return cls(**{**fields_of(cls, stored), "chains": chains})

    @property
    def words(self) -> str:
        """How many, such as "1 of 6 runs failed"; empty when none has."""
        counts = [(len(self.runs), self.of, "runs")]
        counts += [(len(one.runs), one.of, f"{_title(name)} chains") for name, one in self.chains.items()]
        return ", ".join(f"{count} of {of} {what} failed" for count, of, what in counts if count)


@dataclass(frozen=True, kw_only=True)
class Family(Stored):
    """The exponent of the one-parameter family (science i.5), fitted to wide samples of one run."""

    exponent: float | None
    low: float | None = None
    high: float | None = None
    samples: int = 0
    border: str = ""
    run: int = 0


@dataclass(frozen=True, kw_only=True)
class ReadOff(Stored):
    """Disagreement of a method's samples with their own solution, and among them, at the strength where they cost one
    point of accuracy (science o.5), and what that reading stands on (`science.isotonic`)."""

    method: str
    disagreement: float | None
    among: float | None
    strength: float | None
    below: int
    support: str


@dataclass(frozen=True, kw_only=True)
class Gain(Stored):
    """What averaging gains, in Brier score, and what it costs relative to one run (science o.9).

    method: None of an ensemble of `members` runs; training: None of imported samples.
    over_finals, over_last: against the runs, and against where a method
    that trains on ended up, which is the reference of `last_is_reference` runs; samples: averaged in each run; runs,
    of: where it stands on fewer than all; strength, grid, end: the best strength, and the end of its grid it lies at.
    """

    method: str | None
    members: int = 0
    brier: float
    over_finals: float = 0.0
    over_last: float | None = None
    last_is_reference: int = 0
    training: float | None
    passes: int
    samples: int = 0
    runs: int | None = None
    of: int | None = None
    strength: float | None = None
    grid: str | None = None
    end: str | None = None

    def to_json(self) -> Json:
        whole = asdict(self)
        if self.method is None:
            return {name: whole[name] for name in ("method", "members", "brier", "training", "passes")}
        left_out = {"members"} if self.runs is not None else {"members", "runs", "of"}
        return {name: value for name, value in whole.items() if name not in left_out}


@dataclass(frozen=True, kw_only=True)
class SoFar(Stored):
    """Of an ensemble that waits for members: how many are here, of how many promised."""

    members: int
    planned: int

    @property
    def words(self) -> str:
        return f"so far, {self.members} of {self.planned} members"


_OF_OUTPUTS = {"compare", "shift-compare"}  # stages that judge what was brought


@dataclass(frozen=True)
class Unanswered:
    """A claim that was not judged, by its letter and title, and what it needs."""

    letter: str
    title: str
    needs: str

    def __str__(self) -> str:
        return f"({self.letter}) {self.title}: – {self.needs}"


@dataclass(frozen=True)
class Finding:
    """What is stored, and its parts as records; None of what is not known (yet)."""

    stored: Json = field(repr=False)
    voice: Voice = HERE
    promised: int = 0  # members of an ensemble that came in pieces, and how many are here
    came: int = 0
    alone: str = ""  # what is known of the only run

    @classmethod
    def of(cls, row: Experiment) -> Self:
        """Of an experiment, in its voice."""
        spec = row.__dict__.get("spec", {})  # lists leave it in the database, and have the keys of methods for titles
        origin = row.provenance or {}
        voice = voice_of(row.provenance, spec)
        promised, came = origin.get("planned", 0), len(origin.get("members", ()))
        return cls(row.finding or {}, voice, promised, came, _alone(row, spec))

    @classmethod
    def from_json(cls, stored: Json | None) -> Self:
        """In the voice of what was trained here."""
        return cls(stored or {})

    @property
    def independent(self) -> Independent | None:
        return Independent.from_json(found) if (found := self.stored.get("independent")) else None

    @property
    def together(self) -> Together | None:
        return Together.from_json(found) if (found := self.stored.get("ensemble")) else None

    @property
    def along(self) -> Along | None:
        return Along.from_json(found) if (found := self.stored.get("trajectory")) else None

    @property
    def failed(self) -> Failed | None:
        return Failed.from_json(found) if (found := self.stored.get("failed")) else None

    @property
    def family(self) -> Family | None:
        return Family.from_json(found) if (found := self.stored.get("family")) else None

    @property
    def gains(self) -> list[Gain]:
        """An ensemble first, then the methods; [] before all is compared, and where costs were not judged yet."""
        return [Gain.from_json(one) for one in self.stored.get("gains", [])]

    @property
    def so_far(self) -> SoFar | None:
        """None of what is whole."""
        return SoFar.from_json(found) if (found := self.stored.get("so_far")) else None

    @property
    def standing(self) -> str:
        """Of an ensemble that came in pieces and not whole: that it waits, or was sealed early; "" of others."""
        if self.so_far:
            return self.so_far.words
        if self.came < self.promised and self.stored:
            return f"sealed early, with {self.came} of {self.promised} members"
        return ""

    @property
    def runs(self) -> int | None:
        """How many runs are healthy."""
        return self.stored.get("runs")

    # ---- claims ----

    @cached_property
    def claims(self) -> dict[str, ClaimRecord]:
        """Letter -> claim as it was judged."""
        return {letter: ClaimRecord.from_json(one) for letter, one in self._claims.items()}

    def claim(self, letter: str) -> ClaimRecord | None:
        """One of them, without reading the others."""
        found = self._claims.get(letter)
        return None if found is None else ClaimRecord.from_json(found)

    @property
    def _claims(self) -> dict[str, Json]:
        """Of an older version: a list, in which (d) is what (d1) is now."""
        kept = self.stored.get("claims", {})
        known = {claim["id"]: claim for claim in kept} if isinstance(kept, list) else dict(kept)
        if "d" in known:
            known.setdefault("d1", known["d"] | {"id": "d1"})
            del known["d"]
        return known

    def told(self, look: Look = FIRST) -> list[Told]:
        """The claims that were asked, in the paper's order; [] while nothing is compared."""
        waits = self.so_far is not None
        return [replace(one, record=_in_voice(one.record, self.voice), waits=waits) for one in told(self.claims, look)]

    @property
    def best_method(self) -> AtEqualAccuracy | None:
        """The method whose samples lie farthest from their solution at equal accuracy, among those with open gates: the
        one number that sentence, list, pictures and claim (d1) give. None where nothing could be read."""
        return max(equal_accuracy(self.claim("d1")), key=lambda one: one.disagreement, default=None)

    def unanswered(self, spec: BaseSpec, stages: Sequence[Stage] = ()) -> list[Unanswered]:
        """The claims that were not judged, and what each would need, or of which of its stages it is to come, in the
        paper's order."""
        found, left = [], {one.kind for one in stages if one.state != StageState.SUCCEEDED}
        is_alive = any(not one.state.has_ended for one in stages)
        stopped = {stage.kind for stage in stages if stage.state is StageState.CANCELLED}
        is_lost = any(NO_RUN in (one.error or {}).get("message", "") for one in stages)
        awaits_all = spec.imported is not None and spec.imported.planned and not spec.imported.images
        for letter, claim in CLAIMS.items():
            needed = claim.decided_by
            needs = f"needs {needed.words}"
            if spec.imported is not None:
                needs = f"needs {needed.brought or needed.words}, which it does not have"
            elif spec.weights is not None:  # the form launches trainings, and none of weights that were given
                needs += ", which these weights were not brought in with"
            if spec.imported is not None and spec.ensemble.runs == 1 and issubclass(claim.evidence, OfRuns):
                needs = f"needs {MIN_UNITS} or more members, for one alone is compared with nothing"
                if needed.add == "runs" or not replace(needed, runs=0).is_promised(spec):
                    needs += f"; and {needed.brought or needed.words}"
            if awaits_all and _OF_OUTPUTS & set(needed.stages):
                needs = f"needs {needed.brought or needed.words}, which may come with the members"
            elif left & set(needed.stages) and needed.is_promised(spec):
                stage = " or ".join(needed.stages)
                needs = (
                    f"comes with the stage {stage}" if is_alive
                    else "needs runs that learn: every one has failed, which a retry does not change" if is_lost
                    else f"the stage {stage} was cancelled; take the experiment up again"
                    if stopped & set(needed.stages)
                    else f"the stage {stage} has not succeeded; retry it"
                )  # fmt: skip
            if letter not in self.claims:
                found.append(Unanswered(letter, self.voice(claim.title), self.voice(needs)))
        return found

    def document(self, look: Look = FIRST) -> Json:
        """All that was found, as the API gives it: the claims as a list, with what survives Holm's correction. Of what
        waits for members no claim has a word."""
        if "claims" not in self.stored:
            return self.stored
        claims = [one.to_json() for one in self.told(look)]
        return {**self.stored, "claims": [_wordless(one) for one in claims] if self.so_far else claims}

    # ---- words ----

    @property
    def failures(self) -> str:
        return self.voice(self.failed.words) if self.failed else ""

    @property
    def headline(self) -> str:
        """The answer in a few words, each half of the question by the claim that answers it, with its letter; empty
        while nothing is known."""
        return self.headline_at(FIRST)

    def headline_at(self, look: Look) -> str:
        """The same by the words that the claims have at the level of this look."""
        return self.voice(self._headline(look))

    def _headline(self, look: Look) -> str:
        if self.independent is None:
            if self.failures:
                return "One run is left, which nothing can be compared with."
            return f"One run, {self.alone}." if self.alone else ""
        halves = [answer(one) for one in self._halves(look).values()]
        if not halves or self.so_far is not None:
            return f"{_disagree(self.independent)}."  # nothing is tested of them, or not yet
        text = "; ".join(halves)
        return f"{text[:1].upper()}{text[1:]}."

    def _halves(self, look: Look) -> dict[str, Told]:
        """The claims that answer the question of an experiment, as far as they were judged."""
        return {one.record.id: one for one in self.told(look) if one.record.id in HALVES}

    @property
    def measured(self) -> str:
        return self.measured_at(FIRST)

    def measured_at(self, look: Look) -> str:
        """The numbers behind the headline, for who says both: without what has failed and what the headline says."""
        said, standing = self.voice(self._measured(look)), self.standing
        if self.independent is not None and said.startswith(first := self.headline_at(look).removesuffix(".")):
            said = said.removeprefix(first).lstrip(".,; ")  # the headline has it
            said = f"{said[:1].upper()}{said[1:]}"
        return f"{standing.capitalize()}: {said[:1].lower()}{said[1:]}" if standing and said else said

    @property
    def sentence(self) -> str:
        return self.sentence_at(FIRST)

    def sentence_at(self, look: Look) -> str:
        """The headline, numbers with spread, interval and n, and what has failed; empty while nothing is known."""
        said, standing = self.voice(self._sentence(look)), self.standing
        return f"{standing.capitalize()}: {said[:1].lower()}{said[1:]}" if standing and said else said

    def _sentence(self, look: Look) -> str:
        lost = self.failures
        if self.independent is None:
            if lost or not self.alone:
                return f"{lost}." if lost else ""
            return f"One run alone is compared with nothing; it is {self.alone}."
        headline, measured = self._headline(look), self._measured(look)
        text = measured if measured.startswith(headline.removesuffix(".")) else f"{headline} {measured}"
        return f"{text} {lost}; what failed counts nowhere." if lost else text

    def _measured(self, look: Look) -> str:
        independent = self.independent
        if independent is None:
            return "" if self.failures or not self.alone else "One run alone is compared with nothing."
        halves = {} if self.so_far is not None else self._halves(look)
        times = {letter: said for letter, one in halves.items() if (said := behind(one))}
        text = f"{_disagree(independent)}{', ' * ('b' in times)}{times.get('b', '')}{_cosine(independent)}."
        if best := self.best_method:
            text += (
                f" Where they cost one point of accuracy, the samples of {_title(best.method)}, the farthest of the "
                f"subspace methods, change {percent(best.disagreement)}{_ends(best)}"
            )
            text += f"; runs are {times['d1']}." if "d1" in times else "."
        elif "d1" in times:
            text += f" At equal accuracy runs are {times['d1']}."
        if together := self.together:
            gain = 100 * (together.accuracy - together.single)
            does = "changes their accuracy by" if abs(gain) < 0.05 else "gains" if gain > 0 else "loses"
            text += f" Averaging {together.members} runs {does} {abs(gain):.1f} points."
        return text

    @property
    def line(self) -> str:
        """The newest finding in one short line, for lists."""
        found = self.voice(self._found)
        return "; ".join(filter(None, (self.standing if found else "", found, self.failures)))

    @property
    def _found(self) -> str:
        if self.independent is None:
            return ""
        text, best = f"runs disagree on {percent(self.independent.disagreement)}", self.best_method
        if best:
            return f"{text}, at equal accuracy {_title(best.method)} changes {percent(best.disagreement)}"
        return f"independent {text}"


def _alone(row: Experiment, spec: Json) -> str:
    if row.runs != 1 or row.accuracy is None:
        return ""
    members = (spec.get("weights") or {}).get("members") or [{}]
    stated = ", as was stated" * (members[0].get("accuracy") is not None)  # else its stage would have failed
    return f"right on {100 * row.accuracy:.2f} % of the test images{stated}"


def _in_voice(record: ClaimRecord, voice: Voice) -> ClaimRecord:
    if not voice.elsewhere:
        return record
    methods = tuple(
        replace(one, title=voice.titles.get(one.method, one.title), because=voice(one.because), gate=voice(one.gate))
        for one in record.methods
    )
    return replace(
        record, title=voice(record.title), estimand=voice(record.estimand), because=voice(record.because),
        unit=voice(record.unit), qualifier=voice(record.qualifier), methods=methods,
    )  # fmt: skip


def _wordless(claim: Json) -> Json:
    """A claim of the API without its words and its tests, where none is given yet."""
    none = {"word": None, "glyph": None}
    return claim | none | {
        "methods": [one | {"word": None, "estimate": _untested(one["estimate"])} for one in claim["methods"]],
        "at_look": claim["at_look"] | none,
    }  # fmt: skip


def _untested(estimate: Json | None) -> Json | None:
    """Without the p-values of both words."""
    return estimate and {**estimate, "p_holds": None, "p_fails": None}


def _disagree(found: Independent) -> str:
    return f"Independent runs disagree on {_apart(found)}"


def _apart(found: Independent) -> str:
    pairs = f"{found.pairs} {'pair' if found.pairs == 1 else 'pairs'}"
    spread = "" if found.disagreement_sd is None else f"standard deviation {100 * found.disagreement_sd:.1f}, "
    return f"{percent(found.disagreement)} of test labels ({spread}n = {pairs})"


def _cosine(found: Independent) -> str:
    if found.cosine is None:
        return ""
    plain = found.cosine if found.cosine_plain is None else found.cosine_plain
    reduced, whole = (f"{round(value, 3) + 0.0:.3f}".replace("-", "−") for value in (found.cosine, plain))
    text = f"; the cosine of their weights is {reduced}"
    if found.cosine_about.startswith(BY_SHAPE):
        return f"{text} {BY_SHAPE} ({whole} of all weights)" if whole != reduced else text
    return f"{text} ({whole} with what they share for free)" if whole != reduced else text


def _ends(read: AtEqualAccuracy) -> str:
    if read.low is None or read.high is None:  # from a version without them
        return ""
    return f" (95 % interval {100 * read.low:.1f} to {percent(read.high)})"


def _title(method: str) -> str:
    if method not in methods:  # a worker's plug-in, which the web process does not know
        return method
    title = methods[method].title
    return title if title[:2].isupper() else title[:1].lower() + title[1:]  # SWAG stays SWAG


def percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f} %"


NO_RUN = "every run failed"


def no_run_learned(failed: Mapping[int, str]) -> str:
    """Why there is nothing to compare: run -> why it has failed."""
    reasons = [f"run {run}: {why}" for run, why in sorted(failed.items())]
    more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    return f"{NO_RUN} ({'; '.join(reasons[:3])}{more})"


def reduction(head: Sequence[str], left_out: Sequence[str], *, of_files: bool = False) -> str:
    """What was taken out of the weights before their cosine; head, left_out: names of tensors; of_files: they came
    without their network (science p.4)."""
    if of_files:
        count = len(left_out)
        without = f", without {count} other{'s' * (count > 1)}" if count else ""
        return f"{BY_SHAPE}{without}, with the class mean of a head, for nobody said which it is"
    mean = (
        f"without the class mean of {' and '.join(head)}"
        if head
        else "with the class mean of a head, as none was found"
    )
    return mean + (f", without {len(left_out)} scales and offsets of norms" if left_out else "")
