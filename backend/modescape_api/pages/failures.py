"""What went wrong in an experiment, each cause once, with what depends on it and what can help."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from modescape.records import StageState
from modescape.registry import method_title, studies
from modescape.results import STOPPED, Results
from modescape.tables import Stage

NEED = "NeedFailed"  # the error of a stage that another one took along
SHOWN = 6  # reasons and names before the rest is counted


@dataclass
class Cause:
    """Stages of one kind that failed in the same way.

    title: in words; messages: what each said; dependants: what could not be done without them; stage: the one to
    retry, None for several; slower: what /launch?with= would give a lower learning rate, "" where that is no help;
    retry: whether trying again may end otherwise, and in words how.
    """

    kind: str
    type: str
    stages: list[Stage] = field(default_factory=list)
    dependants: list[Stage] = field(default_factory=list)

    @property
    def is_hopeless(self) -> bool:
        """Whether every run has failed, so that there is nothing to compare."""
        return self.type == "NothingLearned"

    @property
    def title(self) -> str:
        if self.is_hopeless:
            return "No run learned"
        if self.names:
            return f"{len(self.stages)} {self.kind} stages failed"
        many = self.stages[0].attempt if len(self.stages) == 1 else 1
        return f"{self.kind} {_listed([s.key for s in self.stages])} failed" + f" in attempt {many}" * (many > 1)

    @property
    def names(self) -> str:
        """Which stages, where they are too many for the title."""
        return _listed([f"{s.kind} {s.key}" for s in self.stages]) if len(self.stages) > 2 else ""

    @property
    def messages(self) -> list[str]:
        """Each once."""
        found = list(dict.fromkeys(s.error.get("message", "") for s in self.stages))
        return [*found[:SHOWN], *([f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else [])]

    @property
    def traceback(self) -> str:
        return str(self.stages[0].error.get("traceback") or self.stages[0].error)

    @property
    def stage(self) -> Stage | None:
        return self.stages[0] if len(self.stages) == 1 else None

    @property
    def without(self) -> str:
        """What could not be done: "2 sample stages and compare all"."""
        kinds: dict[str, list[str]] = {}
        for stage in self.dependants:
            kinds.setdefault(stage.kind, []).append(stage.key)
        return _listed([f"{k} {keys[0]}" if len(keys) == 1 else f"{len(keys)} {k} stages" for k, keys in kinds.items()])

    @property
    def slower(self) -> str:
        if self.type not in ("Diverged", "NothingLearned"):
            return ""
        own = trains_at_its_own_rate(self.kind)
        return f"slower:{own}.{self.stages[0].key}" if own else "slower"

    @property
    def retry(self) -> str:
        """What a retry may bring; "" where it would end as it did."""
        if self.is_hopeless or (self.type == "Diverged" and trains_at_its_own_rate(self.kind)):
            return ""
        if self.type == "Diverged":  # by code that took a diverged training for an error
            return "Tried again it diverges again, and then the other runs are compared without it."
        return "Tried again it goes on from where it was saved."


def trains_at_its_own_rate(kind: str) -> str:
    """The study of several whose stages of that kind train at a learning rate of its own; "" for others."""
    found = (name for name, study in studies.items() if kind in study.stages and study.is_many)
    return next((name for name in found if "learning_rate" in studies[name].options.model_fields), "")


def causes(stages: Sequence[Stage]) -> list[Cause]:
    """In the order of the plan; every failed stage is in one of them, as a cause or as what depends on it."""
    failed = [stage for stage in stages if stage.state == StageState.FAILED]
    found: dict[tuple[str, str], Cause] = {}
    of: dict[str, Cause] = {}
    for stage in failed:
        kind_of = str(stage.error.get("type"))
        if kind_of != NEED:
            cause = found.setdefault((stage.kind, kind_of), Cause(stage.kind, kind_of))
            cause.stages.append(stage)
            of[stage.id] = of[f"needs {stage.kind}/{stage.key}, which failed"] = cause
    for stage in failed:
        if stage.error.get("type") == NEED and found:
            named = of.get(stage.error.get("cause", "")) or of.get(stage.error.get("message", ""))
            (named or next(iter(found.values()))).dependants.append(stage)
    return list(found.values())


@dataclass(frozen=True)
class Lost:
    """Runs, or chains of a method, that have failed, most of them although their stages have succeeded. what: those, in
    words; slower: as for a cause."""

    title: str
    what: str
    reasons: tuple[str, ...]
    slower: str


def lost(results: Results) -> Iterator[Lost]:
    """What counts nowhere in this experiment."""
    of = results.spec.ensemble.runs
    if results.failed and len(results.failed) < of:
        members = [one["id"] for one in (results.experiment.provenance or {}).get("members", ())]
        named = {
            f"{number}" if number >= len(members) else members[number]: why
            for number, why in sorted(results.failed.items())
        }
        found = _lost(named, f"{len(named)} of {of} runs failed", "run", "the runs", "slower")
        if results.voice.elsewhere:  # and nobody here could train them otherwise
            found = Lost(results.voice(found.title), "", tuple(map(results.voice, found.reasons)), "")
        yield found
    for method, chains in results.failed_chains.items():
        title = f"{len(chains)} of {results.chains(method)} {method_title(method)} chains failed"
        named = {f"{number}": why for number, why in sorted(chains.items())}
        yield _lost(named, title, "chain", method_title(method), f"slower:{method}")


def _lost(failed: Mapping[str, str], title: str, unit: str, what: str, slower: str) -> Lost:
    """failed: why, by the name of each: of a run made elsewhere its member's own."""
    reasons = [f"{unit} {name}: {why}" for name, why in failed.items()]
    more = [f"and {len(reasons) - SHOWN} more"] if len(reasons) > SHOWN else []
    is_of_training = any(STOPPED not in why for why in failed.values())  # others stopped with an error: see `causes`
    return Lost(title, what, (*reasons[:SHOWN], *more), slower if is_of_training else "")


def _listed(names: Sequence[str]) -> str:
    if len(names) > SHOWN:
        return f"{', '.join(names[:SHOWN])} and {len(names) - SHOWN} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1] if names else "")))
