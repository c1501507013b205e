"""What every study keeps to: what is asked of it becomes the stages it names, and leaves other experiments alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from modescape.errors import InvalidInput
from modescape.plan import prepare
from modescape.records import StageState
from modescape.registry import Study, figures, studies
from modescape.results import Results
from modescape.spec import is_ours, parse
from modescape.stages import KINDS
from modescape.study import BROUGHT, StudySpec
from modescape.testing.contract import (
    Checked,
    Contract,
    NotAsked,
    at_bounds,
    describes_itself,
    equal,
    expect,
    is_declared_lightly,
    module_of,
    refused,
)
from modescape.testing.made import DIGITS, done


@dataclass(frozen=True)
class Trial:
    """given: what is asked of it, where some of its fields have no default; results: of experiments that have it."""

    entry: Study
    given: Mapping[str, Any] | None = None
    results: Sequence[Results] | None = None

    @property
    def module(self) -> str:
        return module_of(self.entry.options)

    @cached_property
    def asked(self) -> dict[str, Any]:
        if self.given is None and not self.entry.is_ready:
            raise NotAsked("Some of its fields have no default, and no value was given.")
        return dict(self.given or {})

    def spec(self, asked: Any = None, times: int = 1) -> dict[str, Any]:
        """A small experiment that asks for it."""
        one = self.asked if asked is None else asked
        value = [one] * times if self.entry.is_many or times > 1 else one
        name = self.entry.name
        return {**DIGITS, name: value} if is_ours(name) else {**DIGITS, BROUGHT: {name: value}}


STUDY: Contract[Trial] = Contract("study", describes_itself, is_declared_lightly)


@STUDY.rule
def _absent(trial: Trial) -> None:
    """It says what an experiment lacks without it, as a sentence."""
    expect(re.fullmatch(r"[A-Z].*\.", trial.entry.absent), f"It says {trial.entry.absent!r}.")


@STUDY.rule
def _fields(trial: Trial) -> None:
    """What is asked of it extends StudySpec, and each of its fields is described."""
    model = trial.entry.options
    expect(issubclass(model, StudySpec), f"{model.__name__} does not extend StudySpec.")
    bare = [name for name, field in model.model_fields.items() if not field.description]
    expect(not bare, f"Its fields {', '.join(bare)} have no description.")


@STUDY.rule
def _stages(trial: Trial) -> None:
    """Asked for, it plans stages of the kinds it names, all of which exist, and no others beyond an experiment
    without it."""
    named = set(trial.entry.stages)
    expect(named, "It names no stages.")
    expect(named <= set(KINDS), f"It names {sorted(named - set(KINDS))}; there are {', '.join(KINDS)}.")
    bare, more = ({one.kind for one in prepare(spec, ()).plan.kinds} for spec in (DIGITS, trial.spec()))
    expect(more - bare <= named, f"It plans {sorted(more - bare - named)} without naming them.")
    # small images are corrupted as they are predicted, and sets with images of their own are asked for beside it
    lacking = named - (more - bare) - {"corrupt", "shift-thumbnails"}
    expect(not lacking, f"It names {sorted(lacking)} without planning them.")


@STUDY.rule
def _promised(trial: Trial) -> None:
    """It is a part of what was promised: an experiment that asks for it has another digest, and its spec comes back
    from JSON as it was."""
    spec = parse(trial.spec())
    expect(spec.digest() != parse(DIGITS).digest(), "The digest of a spec does not change with it.")
    equal("spec, read again,", parse(spec.model_dump(mode="json")).digest(), spec.digest())
    expect(spec.asked(trial.entry.name), "The spec that asks for it does not know that it does.")


@STUDY.rule
def _most(trial: Trial) -> None:
    """Asked for more often than it can be, it is refused."""
    refused("One too many", lambda: parse(trial.spec(times=trial.entry.most + 1)), InvalidInput)


@STUDY.rule
def _bounds(trial: Trial) -> None:
    """With each field at its bounds, and at each of its choices, it is planned or says in words (as InvalidInput, with
    the field) what is not allowed."""
    for words, asked in at_bounds(trial.entry.options, trial.asked):
        try:
            prepare(trial.spec(asked.model_dump(mode="json")), ())
        except InvalidInput as error:
            expect(error.field, f"With {words} it refuses without naming a field: {error}")


@STUDY.rule
def _shown(trial: Trial) -> None:
    """Some figure shows what its stages find."""
    shown = [name for name, one in figures.items() if set(one.needs) & set(trial.entry.stages)]
    expect(shown, f"No figure needs any of the stages {', '.join(trial.entry.stages)}.")


@STUDY.rule
def _done(trial: Trial) -> None:
    """Its stages are done: on a small experiment each of them succeeds."""
    if trial.results is not None:
        _succeeded(trial.entry, trial.results)
        return
    with done(trial.spec()) as results:
        _succeeded(trial.entry, [results])


def _succeeded(entry: Study, experiments: Sequence[Results]) -> None:
    own = [stage for results in experiments for stage in results.stages if stage.kind in entry.stages]
    expect(own, "None of the experiments has its stages.")
    for stage in own:
        said = stage.error.get("message", "")
        expect(stage.state == StageState.SUCCEEDED, f"{stage.kind}/{stage.key} is {stage.state}: {said}.")


@STUDY.lists
def check_study(
    entry: Study | str, *, asked: Mapping[str, Any] | None = None, results: Sequence[Results] | None = None
) -> Checked:
    """Is this a study as `modescape.study` asks? Planned for a small experiment on digits, which is then done.

    asked: what is asked of it, where some of its fields have no default. results: of experiments that have it, which
    are looked at instead. Raises ContractBroken with the first rule that does not hold.
    """
    entry = studies[entry] if isinstance(entry, str) else entry
    return STUDY.check(entry.name, Trial(entry, asked, results))
