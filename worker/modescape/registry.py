"""One place per idea: each dataset, architecture, method, figure and preset is one decorated definition.

Form, API, plots, tests and the catalogue are read from here. Declaring costs no heavy import: modules that declare
entries import neither torch nor scikit-learn at their top, so the web process can know everything a worker can do.

    from modescape.registry import methods
    methods["random"].title            # 'Random subspace'
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from modescape.errors import InvalidInput, Problem

if TYPE_CHECKING:
    from modescape.spec import ExperimentSpec, Sizes


class Options(BaseModel):
    """Base of every options model: frozen, no unknown keys, no NaN. Each field has a description and bounds."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    def problems(self, spec: ExperimentSpec, n: Sizes) -> Iterator[Problem]:
        """What does not fit the rest of a spec, each with its option as the field."""
        yield from ()


class NoOptions(Options):
    """For entries that have nothing to choose."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What every registered thing says about itself.

    name: the key in specs and URLs (lower case, digits, hyphens); title: as people read it; summary: one sentence;
    source: author, year, section or equation; options: the pydantic model of what can be chosen.
    """

    name: str
    title: str
    summary: str
    source: str
    options: type[Options] = NoOptions
    call: Callable[..., Any] = field(repr=False)


E = TypeVar("E", bound=Entry)

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")  # a list of sixteen must fit PostgreSQL's indexes


class Registry(Mapping[str, E], Generic[E]):
    """An ordered mapping from name to entry that refuses incomplete or doubled ones; as declared, or by `order`."""

    def __init__(self, noun: str, order: Callable[[E], int] | None = None) -> None:
        self.noun = noun
        self._order = order
        self._entries: dict[str, E] = {}

    def add(self, entry: E) -> E:
        """Register `entry`. Raises ValueError when it is doubled or does not describe itself (a programming error)."""
        if not _NAME.fullmatch(entry.name):
            raise ValueError(f"{self.noun} name {entry.name!r}: use at most 64 lower case letters, digits and hyphens")
        if entry.name in self._entries:
            raise ValueError(f"{self.noun} {entry.name!r} is registered twice")
        if not (entry.title and entry.summary and entry.source):
            raise ValueError(f"{self.noun} {entry.name!r} needs a title, a summary and a source")
        for name, option in entry.options.model_fields.items():
            if not option.description:
                raise ValueError(f"option {name!r} of {self.noun} {entry.name!r} needs a description")
        self._entries[entry.name] = entry
        if self._order is not None:
            self._entries = {one.name: one for one in sorted(self._entries.values(), key=self._order)}
        return entry

    def __getitem__(self, name: str) -> E:
        load()
        try:
            return self._entries[name]
        except KeyError:
            raise InvalidInput(
                f"there is no {self.noun} {name!r}", field=self.noun, allowed="one of " + ", ".join(self._entries)
            ) from None

    def __contains__(self, name: object) -> bool:
        load()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        load()
        return iter(self._entries)

    def __len__(self) -> int:
        load()
        return len(self._entries)


@dataclass(frozen=True, kw_only=True)
class Dataset(Entry):
    """`call(location: DataLocation, options) -> RawData` reads it from disk; sizes are the published ones.

    channels, height, width, classes, train_total and test_total are 0 or () for a user's own data, whose figures
    are read from the files (`science.data.describe`). download_bytes is None when there is nothing to fetch.
    """

    channels: int
    height: int
    width: int
    classes: tuple[str, ...]
    train_total: int
    test_total: int
    validation_default: int
    download_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Architecture(Entry):
    """`call(channels, height, width, classes, options) -> torch.nn.Module`; classes is their number.

    `parameters` and `multiply_adds` (of one image's forward pass) take the same arguments and are closed forms.
    decay_on: the tensors weight decay acts on unless a spec says otherwise (`training.decay_on`).
    dropout: whether it has dropout layers, whatever their rate; None: its declaration does not say.
    """

    parameters: Callable[..., int]
    multiply_adds: Callable[..., int]
    batch_norm: bool
    min_side: int = 1
    decay_on: Literal["kernels", "weights"] = "weights"
    dropout: bool | None = None


def _one(options: Any) -> int:
    return 1


@dataclass(frozen=True, kw_only=True)
class Method(Entry):
    """A subspace method, or another way to functions. `call` is described in science/subspace.py.

    look: key of drawing/style.py; centre: "optimum" (theta_0) or "mean" (of the snapshots); strength: what the
    sampled strength s is ("step", "rate", "scale") or None for a method that has no strength; sampled: False where not
    the user but the method says how many solutions a run gives: `count(options)`, one for weight averaging.

    Where snapshots come from: needs_snapshots: from the end of the run's own training; trained "continued": from
    training on after it; of: they are that method's typical samples. trained "fresh": the method trains networks of
    its own, and what it keeps of them are its samples; they lie around no optimum. (Both trainings: stage `chain`.)
    needs_dropout: works on networks with dropout layers only.
    """

    look: str
    centre: str
    strength: str | None
    needs_snapshots: bool = False
    sampled: bool = True
    trained: Literal["fresh", "continued"] | None = None
    of: str | None = None
    needs_dropout: bool = False
    count: Callable[[Any], int] = field(default=_one, repr=False)


@dataclass(frozen=True, kw_only=True)
class Figure(Entry):
    """One question, one picture: `call` collects numbers, `tell` makes words of them and `draw` Plotly
    (drawing/figure.py).

    order: place in the argument; question: the heading; paper: number in the paper or ""; needs: stage kinds whose
    results it shows; options: the model of its query parameters; card: height in px of its card; full: as wide as the
    page.
    """

    order: int
    question: str
    paper: str
    needs: tuple[str, ...]
    card: int
    full: bool
    tell: Callable[..., Any] = field(repr=False)
    draw: Callable[..., Any] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Preset(Entry):
    """`call() -> dict` gives a whole ExperimentSpec as plain JSON; `twin_of` names the full preset of a short one.

    substitutions: each difference of a short version from the paper's setting, one sentence each; deviations: what is
    not the paper's in a preset that follows it.
    """

    paper: str
    twin_of: str | None = None
    substitutions: tuple[str, ...] = ()
    deviations: tuple[str, ...] = ()


datasets: Registry[Dataset] = Registry("dataset")
architectures: Registry[Architecture] = Registry("architecture")
methods: Registry[Method] = Registry("method")
figures: Registry[Figure] = Registry("figure", order=lambda figure: figure.order)  # that of the argument
presets: Registry[Preset] = Registry("preset")

_DECLARING = (
    "modescape.science.data",
    "modescape.science.architectures",
    "modescape.science.subspace",
    "modescape.science.chains",
    "modescape.figures",
    "modescape.presets",
)
_loaded = False


def load() -> None:
    """Import the modules that declare entries, once. Plugins (MODESCAPE_PLUGINS) are loaded by workers only."""
    global _loaded
    if _loaded:
        return
    _loaded = True  # before the imports: declaring modules may look at other registries
    for module in _DECLARING:
        importlib.import_module(module)


def load_plugins(modules: tuple[str, ...]) -> None:
    """Import the user's own declaring modules, named in MODESCAPE_PLUGINS."""
    load()
    for module in modules:
        importlib.import_module(module)
