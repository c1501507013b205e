"""What a contract is: rules with a sentence each, asked one after another; the first that is broken is told.

    METHOD.check("method gn-noise", trial)       # Checked(...): which rules hold; raises ContractBroken

A rule is a function of a trial (an entry with what it is tried on); its docstring is its sentence. What it finds wrong
it says with `expect`, `equal` or `refused`; where it cannot be asked here it raises NotAsked.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Generic, Protocol, TypeVar

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ValidationError

from modescape.errors import ModescapeError
from modescape.registry import Entry

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)
F = TypeVar("F", bound=Callable[..., Any])
Rule = Callable[[T], None]

HEAVY = ("torch", "torchvision", "sklearn", "scipy", "plotly", "celery", "kombu")


class ContractBroken(AssertionError):
    """An entry breaks a rule. entry: its kind and name; rule: the sentence; found: what is not as it says."""

    def __init__(self, entry: str, rule: str, found: str) -> None:
        self.entry, self.rule, self.found = entry, rule, found
        super().__init__(f"{entry} breaks the rule “{rule}” {found}")


class NotAsked(Exception):
    """A rule that cannot be asked here, and why."""


@dataclass(frozen=True)
class Checked:
    """What was found of one entry. held: sentences of the rules that hold; not_asked: rule -> why it was not asked."""

    entry: str
    held: tuple[str, ...]
    not_asked: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        others = "".join(f"\n    not asked: “{rule}” {why}" for rule, why in self.not_asked.items())
        return f"{self.entry}: {len(self.held)} rules hold{others}"


class Contract(Generic[T]):
    """Rules that every entry of one kind keeps, in the order in which they are asked."""

    def __init__(self, noun: str, *rules: Rule[Any]) -> None:
        self.noun = noun
        self.rules: dict[str, Rule[T]] = {sentence(rule): rule for rule in rules}

    def rule(self, function: Rule[T]) -> Rule[T]:
        """Decorator: one rule more."""
        self.rules[sentence(function)] = function
        return function

    def lists(self, check: F) -> F:
        """Decorator of the function that checks: its documentation ends with the rules."""
        rules = "".join(f"\n    * {rule}" for rule in self.rules)
        check.__doc__ = f"{check.__doc__}\n\n    Rules:\n{rules}\n    "
        _RULES[check.__name__] = tuple(self.rules)
        return check

    def check(self, name: str, trial: T) -> Checked:
        """Raises ContractBroken with the first rule that does not hold, whatever the entry raised."""
        return self.ask(name, lambda rule: rule(trial))

    def ask(self, name: str, ask: Callable[[Rule[T]], None]) -> Checked:
        """The same with another trial for every rule."""
        about, held, not_asked = f"{self.noun} {name}", [], {}
        for rule, function in self.rules.items():
            try:
                ask(function)
            except _Elsewhere:
                continue
            except NotAsked as why:
                not_asked[rule] = str(why)
            except _Found as found:
                raise ContractBroken(about, rule, str(found)) from None
            except Exception as error:
                raise ContractBroken(about, rule, f"It raised {type(error).__name__}: {error}") from error
            else:
                held.append(rule)
        return Checked(about, tuple(held), not_asked)


_RULES: dict[str, tuple[str, ...]] = {}


def rules_of(check: Callable[..., Any]) -> tuple[str, ...]:
    """The sentences of the rules that a function checks."""
    return _RULES[check.__name__]


def sentence(rule: Callable[..., Any]) -> str:
    return " ".join((rule.__doc__ or "").split())


# ---- what rules say ----


class _Found(Exception):
    """What is not as a rule says."""


class _Elsewhere(Exception):
    """A rule that is about other entries than this one."""


def concerns(entry: object) -> None:
    """The rule is only about entries of which this is true; of others it is not counted."""
    if not entry:
        raise _Elsewhere


def expect(holds: object, found: str) -> None:
    """found: a sentence that says what is there instead, and what is expected."""
    if not holds:
        raise _Found(found)


def equal(what: str, found: object, expected: object) -> None:
    expect(found == expected, f"Its {what} is {found!r}, expected is {expected!r}.")


def refused(what: str, call: Callable[[], object], kind: type[ModescapeError]) -> ModescapeError:
    """The error of ours that is raised."""
    try:
        call()
    except kind as error:
        return error
    raise _Found(f"{what} is let through, expected is {kind.__name__}.")


# ---- what every entry of a registry keeps ----


class Tried(Protocol):
    @property
    def entry(self) -> Entry: ...

    @property
    def module(self) -> str:
        """Where it is declared."""
        ...


def describes_itself(trial: Tried) -> None:
    """It says what it is: a title without a full stop, a summary that ends in one, and a source."""
    entry = trial.entry
    expect(entry.title and not entry.title.endswith("."), f"Its title is {entry.title!r}.")
    expect(entry.summary.endswith((".", "?")), f"Its summary is {entry.summary!r}.")
    expect(entry.source, "It names no source.")


def has_options(trial: Tried) -> None:
    """Its options are described, have defaults within their bounds, refuse unknown names and NaN, and come back from
    JSON as they were."""
    options = trial.entry.options
    for name, field_ in options.model_fields.items():
        expect(field_.description, f"Option {name!r} has no description.")
        expect(not field_.is_required(), f"Option {name!r} has no default.")
    for key, wanted in (("frozen", True), ("extra", "forbid"), ("allow_inf_nan", False)):
        equal(f"options' `{key}`", options.model_config.get(key), wanted)
    default = options()
    try:
        again = options.model_validate_json(default.model_dump_json())
    except ValidationError as error:
        raise _Found(f"Its defaults are not allowed by itself: {_first(error)}") from None
    equal("options, read again,", again, default)


def is_declared_lightly(trial: Tried) -> None:
    """Declaring it takes none of torch, torchvision, scikit-learn, SciPy, Plotly and Celery: the server lists it
    without them."""
    ours = trial.module.startswith("modescape.")
    loaded = loaded_by("modescape.claims" if ours else trial.module)
    expect(not loaded, f"{trial.module} loads {loaded}: import it inside the function that needs it.")


SHARED: tuple[Rule[Any], ...] = (describes_itself, has_options, is_declared_lightly)


def loaded_by(module: str) -> str:
    """The heavy libraries that another process loads with all our declarations and this module of them."""
    done = _loaded(module)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        raise _Found(f"No other process can import {module} ({last}): put it into a module on Python's path.")
    return done.stdout.strip()


@cache
def _loaded(module: str) -> subprocess.CompletedProcess[str]:
    code = (
        f"import importlib, sys; import modescape.registry as registry; registry.load();"
        f"importlib.import_module({module!r});"
        f"print(*(name for name in {HEAVY} if name in sys.modules))"
    )
    places = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=places, check=False)


def at_bounds(options: type[M], base: Mapping[str, Any] | None = None) -> Iterator[tuple[str, M]]:
    """Each choice of each option and each value at a bound, by itself: in words, and the options.

    Those that other options of the same model rule out are left out. base: what the others are.
    """
    for name, info in options.model_fields.items():
        for value in (*_bounds(info.metadata), *choices(info.annotation)):
            try:
                yield f"{name} = {value}", options.model_validate({**(base or {}), name: value})
            except ValidationError as error:
                if any(one["type"] not in ("value_error", "assertion_error") for one in error.errors()):
                    raise _Found(f"Option {name} refuses {value}, one of its own bounds: {_first(error)}") from None


def choices(annotation: Any) -> tuple[Any, ...]:
    """Of a flag or a literal."""
    from typing import get_args

    values = (True, False) if annotation is bool else get_args(annotation)
    return tuple(value for value in values if isinstance(value, str | int))


def _bounds(metadata: list[Any]) -> Iterator[Any]:
    for bound in metadata:
        if isinstance(bound, Ge):
            yield bound.ge
        elif isinstance(bound, Le):
            yield bound.le
        elif isinstance(bound, Gt):
            yield _beyond(bound.gt, 1)
        elif isinstance(bound, Lt):
            yield _beyond(bound.lt, -1)


def _beyond(bound: Any, step: int) -> Any:
    return bound + step if isinstance(bound, int) and bound else bound + step * 1e-6


def _first(error: ValidationError) -> str:
    one = error.errors()[0]
    return f"{'.'.join(map(str, one['loc']))}: {one['msg']}"


def module_of(function: Any) -> str:
    return str(getattr(function, "__module__", ""))
