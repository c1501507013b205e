"""One place per idea: each data set, network, method, corruption, study, figure and preset is one decorated definition.

Form, API, plots, tests and the catalogue are read from here. Declaring costs no heavy import: modules that declare
entries import neither torch nor scikit-learn at their top, so the web process can know everything a worker can do.

    from modescape.registry import methods
    methods["random"].title            # 'Random subspace'

Entries are found by looking through the packages that are named after them (`datasets`, `methods`, ...): a file put
there is known. Files come in the order of their names; where people see another order, entries have a `place`.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
import threading
from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, ParamSpec, TypeVar, get_args

from pydantic import BaseModel

from modescape.errors import InvalidInput, Problem
from modescape.names import meant
from modescape.sources import Source, declaring_module, source_of
from modescape.versions import Versioned

if TYPE_CHECKING:
    from pathlib import Path

    from modescape.records import DataInfo, Sizes
    from modescape.science.alignment import Wiring
    from modescape.science.data import OwnTest, Published


class Options(Versioned):
    """Base of every options model: frozen, no unknown keys, no NaN. Each field has a description and bounds.

    Fields may be marked `Added` and `Renamed` (see `spec_parts`), so that older specs are read, and keep their digests.
    """

    def problems(self, spec: Any, n: Sizes) -> Iterator[Problem]:
        """What does not fit the rest of a spec (`ExperimentSpec`), each with its option as the field."""
        yield from ()


class NoOptions(Options):
    """For entries that have nothing to choose."""


PixelAugmentation = Literal["none", "shift-flip", "crop-flip", "resized-crop-flip"]
_INTERNAL = {"shown": False}  # fields that are no part of what the catalogue says of an entry
LAST = 1_000_000  # place of entries that name none: after ours, in the order in which they were registered


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What every registered thing says about itself.

    name: the key in specs and URLs (lower case, digits, hyphens); title: as people read it; summary: one sentence;
    source: author, year, section or equation; options: the pydantic model of what can be chosen; place: among others
    of its kind in lists, lowest first; brought: the code of others that declares it, None: ours, filled in when it is
    registered; loaded: False of one that only workers have and this process knows from them (see `published_entries`).
    """

    name: str
    title: str
    summary: str
    source: str
    options: type[BaseModel] = field(default=NoOptions, metadata=_INTERNAL)
    call: Callable[..., Any] = field(repr=False, metadata=_INTERNAL)
    place: int = field(default=LAST, metadata=_INTERNAL)
    brought: Source | None = field(default=None, metadata=_INTERNAL)
    loaded: bool = field(default=True, metadata=_INTERNAL)

    def said(self) -> dict[str, Any]:
        """What it says of itself, but for its options, by the names of its fields."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.metadata.get("shown", True)}


E = TypeVar("E", bound=Entry)
P = ParamSpec("P")
T = TypeVar("T")

_REMEMBERED: list[Callable[[], None]] = []


def while_known(call: Callable[P, T]) -> Callable[P, T]:
    """Remember what a function answers until an entry is registered, for it is made of what is registered."""
    remembering = cache(call)
    _REMEMBERED.append(remembering.cache_clear)
    return remembering  # type: ignore[return-value]  # hashable arguments only


_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")  # a list of sixteen must fit PostgreSQL's indexes
_SNAKE = re.compile(r"[a-z0-9][a-z0-9_]{0,63}")  # of corruptions, whose names are those of the published files


class Registry(Mapping[str, E], Generic[E]):
    """A mapping from name to entry, in the order of their places, that refuses incomplete or doubled ones.

    What this process cannot load and knows from workers stands in it too, behind what is declared here.
    """

    all: ClassVar[list[Registry[Any]]] = []

    def __init__(self, noun: str, *, names: re.Pattern[str] = _NAME) -> None:
        self.noun = noun
        self._names = names
        self._declared: dict[str, E] = {}
        self._standing_in: dict[str, E] = {}
        self._entries: dict[str, E] = {}  # both, as they are looked up
        Registry.all.append(self)

    @property
    def here(self) -> Mapping[str, E]:
        """What is loaded in this process."""
        return self._declared

    def keep(self, declared: Mapping[str, E]) -> None:
        """Forget every declaration but these: of a module whose import failed half way."""
        self._declared = dict(declared)
        self._settle()

    def stand_in(self, entries: Iterable[E]) -> None:
        """Let these, and no others, stand for what is declared elsewhere only."""
        self._standing_in = {entry.name: entry for entry in entries}
        self._settle()

    def _settle(self) -> None:
        known = self._standing_in | self._declared
        self._entries = dict(sorted(known.items(), key=lambda item: (item[1].place, not item[1].loaded)))
        for forget in _REMEMBERED:
            forget()

    def add(self, entry: E) -> E:
        """Register `entry`. Raises ValueError when it is doubled or does not describe itself (a programming error)."""
        if not self._names.fullmatch(entry.name):
            between = "hyphens" if self._names is _NAME else "underscores"
            raise ValueError(
                f"{self.noun} name {entry.name!r}: use at most 64 lower case letters, digits and {between}"
            )
        if entry.name in self._declared:
            raise ValueError(f"{self.noun} {entry.name!r} is registered twice")
        if missing := [word for word in ("title", "summary", "source") if not getattr(entry, word)]:
            raise ValueError(f"{self.noun} {entry.name!r} needs a {' and a '.join(missing)}")
        for name, option in entry.options.model_fields.items():
            if not option.description:
                raise ValueError(f"option {name!r} of {self.noun} {entry.name!r} needs a description")
        entry = replace(entry, brought=source_of(declaring_module(sys._getframe(1))))
        self._declared[entry.name] = entry
        self._settle()
        return entry

    def declared(self, name: str) -> E:
        """An entry that is declared already, without looking for others."""
        return self._declared[name]

    def title(self, name: str) -> str:
        """Of an entry; what is not known here (a worker's plug-in) goes by its name."""
        return self[name].title if name in self else name

    def __getitem__(self, name: str) -> E:
        load()
        try:
            return self._entries[name]
        except KeyError:
            raise InvalidInput(
                f"there is no {self.noun} {name!r}{meant(name, self._entries)}",
                field=self.noun,
                allowed="one of " + ", ".join(self._entries),
            ) from None

    def get(self, name: str, default: Any = None) -> Any:
        """An entry, or the default where the name is not known (`Mapping.get` expects a KeyError)."""
        load()
        return self._entries.get(name, default)

    def __contains__(self, name: object) -> bool:
        load()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        load()
        return iter(self._entries)

    def items(self) -> ItemsView[str, E]:
        """As `Mapping.items`, which would ask for each entry by name."""
        load()
        return self._entries.items()

    def __len__(self) -> int:
        load()
        return len(self._entries)


def needs_none(*_: object) -> Sequence[Path] | None:
    """Files of a set that needs none."""
    return ()


def unknown(*_: object) -> OwnTest | None:
    """Test images of a set whose reader may need anything."""
    return None


@dataclass(frozen=True)
class Outside:
    """A set's images as ones of another kind, where those are not its test images.

    noun: what they show; total: how many; read: `() -> values` [N, C, H, W], 0 to 255, not rounded; inside: side of
    images -> the side its own are scaled to in their middle.
    """

    noun: str
    total: int
    read: Callable[[], Any]
    inside: Mapping[int, int]


@dataclass(frozen=True, kw_only=True)
class Dataset(Entry):
    """`call(location: DataLocation, spec: DataSpec) -> RawData` reads it from disk; sizes are the published ones.

    channels, height, width, classes, train_total and test_total are 0 or () for a user's own data, whose figures
    are read from the files (`datasets.here.describe`). download_bytes is None when there is nothing to fetch.

    What is known without loading torch or scikit-learn: files: where they lie, () where none are needed, None where
    they are missing; checksums: MD5 of what they must hold, by file name (unpacked, without .gz); downloads: what
    `fetch` gets; how_to_get: the next step where nothing can be fetched, in words; describe: sizes and classes of what
    is there, where those are not the published ones; own_test: of the test images, None where that is not known;
    outside: its images as ones of another kind.
    """

    channels: int
    height: int
    width: int
    classes: tuple[str, ...]
    train_total: int
    test_total: int
    validation_default: int
    download_bytes: int | None = None
    files: Callable[..., Sequence[Path] | None] = field(default=needs_none, repr=False, metadata=_INTERNAL)
    checksums: Mapping[str, str] = field(default_factory=dict, repr=False, metadata=_INTERNAL)
    downloads: tuple[Published, ...] = field(default=(), repr=False, metadata=_INTERNAL)
    how_to_get: str = field(default="", repr=False, metadata=_INTERNAL)
    describe: Callable[..., DataInfo] | None = field(default=None, repr=False, metadata=_INTERNAL)
    own_test: Callable[..., OwnTest | None] = field(default=unknown, repr=False, metadata=_INTERNAL)
    outside: Outside | None = field(default=None, repr=False, metadata=_INTERNAL)


@dataclass(frozen=True, kw_only=True)
class Architecture(Entry):
    """`call(channels, height, width, classes, options) -> torch.nn.Module`; classes is their number.

    `parameters` and `multiply_adds` (of one image's forward pass) take the same arguments: closed forms, or counts by
    `architectures.counting`, 0 where this process cannot count and no worker has.
    decay_on: the tensors weight decay acts on unless a spec says otherwise (`training.decay_on`).
    dropout: whether it has dropout layers, whatever their rate; None: its declaration does not say.
    initial: how its first weights are drawn, in words, for presets. wiring: `(network, wiring)` notes which of its
    units can be permuted together, so that two of it can be aligned (science l.2); without it that is traced in its
    forward pass; unaligned: why its networks are not to be aligned.

    engine: raised whenever its training in float32 on a processor came to other bits; keys of stages name it.
    counted: neither its layers nor its norms are declared; norms: `options -> bool`, where they say whether there is
    batch norm.
    """

    parameters: Callable[..., int] = field(repr=False, metadata=_INTERNAL)
    multiply_adds: Callable[..., int] = field(repr=False, metadata=_INTERNAL)
    batch_norm: bool
    min_side: int = 1
    decay_on: Literal["kernels", "weights"] = "weights"
    dropout: bool | None = None
    initial: str = field(default="", metadata=_INTERNAL)
    wiring: Callable[[Any, Wiring], None] | None = field(default=None, repr=False, metadata=_INTERNAL)
    unaligned: str = field(default="", metadata=_INTERNAL)
    engine: int = field(default=1, metadata=_INTERNAL)
    counted: bool = field(default=False, metadata=_INTERNAL)
    norms: Callable[[Any], bool] | None = field(default=None, repr=False, metadata=_INTERNAL)

    def has_batch_norm(self, options: Mapping[str, Any]) -> bool:
        """With these options, as a spec has them."""
        return self.batch_norm if self.norms is None else self.norms(self.options.model_validate(options))

    @property
    def why_not_aligned(self) -> str:
        """Why two of its networks cannot be aligned, as half a sentence; "" where they can."""
        return "" if self.wiring is not None else self.unaligned


@dataclass(frozen=True, kw_only=True)
class OptimiserEntry(Entry):
    """`call(weights, options, training) -> modescape.science.optimisers.Optimiser` moves weights along gradients
    (recipes/recipe.py).

    decouples: it shrinks weights itself, by its option `weight_decay`, instead of adding to the gradient.
    """

    decouples: bool = False


@dataclass(frozen=True, kw_only=True)
class Schedule(Entry):
    """`call(moment, options, training) -> float` is the learning rate of one update: a function of the step alone."""


@dataclass(frozen=True, kw_only=True)
class Loss(Entry):
    """`call(logits, targets, options) -> Tensor`, the mean over a batch. logits: float32 [n, K]; targets: classes
    int64 [n], or shares of classes float32 [n, K] where examples are mixed."""


def reads_plainly(options: Any) -> PixelAugmentation:
    """How pictures are changed while they are read: not at all."""
    return "none"


@dataclass(frozen=True, kw_only=True)
class AugmentationEntry(Entry):
    """`call(examples, options, rng) -> Examples` changes a batch of training examples (recipes/recipe.py).

    reading: options -> which of our changes each picture gets before, while it is read; draws: whose random numbers it
    takes: those of `rng`, or of torch's global generator, which is seeded for every step; package: what it needs beyond
    our own dependencies, "" where nothing.
    """

    reading: Callable[[Any], PixelAugmentation] = field(default=reads_plainly, repr=False, metadata=_INTERNAL)
    draws: Literal["numpy", "torch"] = "numpy"
    package: str = ""


@dataclass(frozen=True, kw_only=True)
class Trainer(Entry):
    """`call(member, options)` trains one member by any means, and hands its weights over after every epoch
    (`modescape.training.Member`)."""


Symbol = Literal[
    "star", "circle", "circle-open", "square", "diamond", "triangle-up", "cross", "x", "star-diamond", "line-ew",
    "hexagon", "pentagon", "bowtie", "hourglass", "triangle-down",
]  # fmt: skip
Dash = Literal["solid", "dash", "longdash"]


@dataclass(frozen=True)
class Look:
    """How solutions of one kind are drawn: Plotly's symbol and dash, a colour on light and one on dark ground.

    key: of its CSS variable and in figures; empty: the method's name. size: of the marker in px. `hollow`: only the
    outline is coloured. Raises ValueError for a symbol that pages cannot draw.
    """

    symbol: Symbol
    dash: Dash
    light: str
    dark: str
    size: int = 7
    key: str = ""

    def __post_init__(self) -> None:
        if self.symbol not in get_args(Symbol):
            raise ValueError(f"symbol {self.symbol!r} is not one of {', '.join(get_args(Symbol))}")

    @property
    def hollow(self) -> bool:
        return self.symbol.endswith("-open")

    def colour(self, theme: Literal["light", "dark", "print"]) -> str:
        """Hex colour; print uses the light palette."""
        return self.dark if theme == "dark" else self.light


def one_a_run(options: Any) -> int:
    """How many solutions weight averaging gives."""
    return 1


@dataclass(frozen=True, kw_only=True)
class Method(Entry):
    """A subspace method, or another way to functions. `call` is described in methods/method.py.

    look: how its solutions are drawn, None: as one of the spare looks; centre: "optimum" (theta_0) or "mean" (of the
    snapshots); strength: what the sampled strength s is ("step", "rate", "scale") or None for a method that has no
    strength; sampled: False where not the user but the method says how many solutions a run gives: `count(options)`,
    one for weight averaging.

    Where snapshots come from: needs_snapshots: from the end of the run's own training; trained "continued": from
    training on after it; of: they are that method's typical samples. trained "fresh": the method trains networks of
    its own, and what it keeps of them are its samples; they lie around no optimum. (Both trainings: stage `chain`.)
    needs_dropout: works on networks with dropout layers only.
    """

    options: type[Options] = field(default=NoOptions, metadata=_INTERNAL)
    look: Look | None
    centre: str
    strength: str | None
    needs_snapshots: bool = False
    sampled: bool = True
    trained: Literal["fresh", "continued"] | None = None
    of: str | None = None
    needs_dropout: bool = False
    count: Callable[[Any], int] = field(default=one_a_run, repr=False, metadata=_INTERNAL)


Table = Literal["cifar", "imagenet"]


@dataclass(frozen=True)
class Family:
    """Corruptions that go together. key: in the catalogue; title: as people read it."""

    key: str
    title: str


@dataclass(frozen=True, kw_only=True)
class Corruption(Entry):
    """`call(batch, *constants) -> values` changes a batch of images (corruptions/corruption.py).

    constants: the five tuples of each table; needs_colour: whether gray images cannot have it; small: whether it makes
    sense below 16 pixels a side.
    """

    family: Family
    constants: Mapping[Table, tuple[tuple[float, ...], ...]]
    needs_colour: bool = False
    is_random: bool = True
    small: bool = False


class StudyOptions(BaseModel):
    """What the model of a study (`study.StudySpec`) says of it besides its fields."""

    takes_samples: ClassVar[bool] = False  # samples of the methods are evaluated, too

    @classmethod
    def choices(cls, field: str) -> Mapping[str, str] | None:
        """Value -> title of what a field offers, where its type does not say so."""
        return None


@dataclass(frozen=True, kw_only=True)
class Study(Entry):
    """What an experiment does with its runs beyond comparing them (study.py).

    options, call: the model of what is asked of it.

    stages: the kinds it plans; absent: what stands where its figures would, as a sentence; most: how often it can be
    asked for, and rows: how often the form offers it at least; runs: how many a clone that gets it has at least.
    """

    options: type[StudyOptions] = field(metadata=_INTERNAL)
    stages: tuple[str, ...]
    absent: str = field(metadata=_INTERNAL)
    most: int = 1
    rows: int = field(default=1, metadata=_INTERNAL)
    runs: int = field(default=0, metadata=_INTERNAL)

    @property
    def is_many(self) -> bool:
        return self.most > 1

    @property
    def is_ready(self) -> bool:
        """Whether nothing has to be chosen of it."""
        return not any(option.is_required() for option in self.options.model_fields.values())


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
    card: int = field(metadata=_INTERNAL)
    full: bool = field(metadata=_INTERNAL)
    tell: Callable[..., Any] = field(repr=False, metadata=_INTERNAL)
    draw: Callable[..., Any] = field(repr=False, metadata=_INTERNAL)
    lay: Callable[..., Any] | None = field(default=None, repr=False, metadata=_INTERNAL)


@dataclass(frozen=True, kw_only=True)
class Preset(Entry):
    """`call() -> dict` gives a whole ExperimentSpec as plain JSON; `twin_of` names the full preset of a short one.

    substitutions: each difference of a short version from the paper's setting, one sentence each; deviations: what is
    not the paper's in a preset that follows it; thumbnail: SVG in a box of 72 x 44 that stands beside it; question:
    what it and others are launched to find out, under which they are listed ("": under no question).
    """

    paper: str
    question: str = ""
    twin_of: str | None = None
    substitutions: tuple[str, ...] = ()
    deviations: tuple[str, ...] = ()
    thumbnail: str = field(default="", repr=False, metadata=_INTERNAL)


datasets: Registry[Dataset] = Registry("dataset")
architectures: Registry[Architecture] = Registry("architecture")
methods: Registry[Method] = Registry("method")
corruptions: Registry[Corruption] = Registry("corruption", names=_SNAKE)
studies: Registry[Study] = Registry("study")
figures: Registry[Figure] = Registry("figure")
presets: Registry[Preset] = Registry("preset")
optimisers: Registry[OptimiserEntry] = Registry("optimiser")
schedules: Registry[Schedule] = Registry("schedule")
losses: Registry[Loss] = Registry("loss")
augmentations: Registry[AugmentationEntry] = Registry("augmentation")
trainers: Registry[Trainer] = Registry("trainer")

# What a training is made of: the field of a spec -> what can stand in it. Options stand in the field of that name with
# `_options` behind.
RECIPE: Mapping[str, Registry[Any]] = {
    "optimiser": optimisers, "schedule": schedules, "loss": losses, "augmentation": augmentations, "trainer": trainers,
}  # fmt: skip


def method_title(name: str) -> str:
    """As read inside a sentence."""
    title = methods.title(name)
    return title if name not in methods or title[:2].isupper() else title[:1].lower() + title[1:]


_DECLARING = ("datasets", "architectures", "methods", "corruptions", "recipes", "figures", "presets")
_OF_STUDIES = ("study", "figure", "preset")  # what the modules of a study's folder that declare begin with
_PATIENCE = 5.0  # seconds for another thread that loads, which may itself wait for what this one is importing
_turn = threading.Lock()
_loader: int | None = None  # the thread that loads: modules that declare may look at other registries meanwhile
_loaded = threading.Event()


def load() -> None:
    """Import our own modules that declare entries, once. Those of others are loaded by `plugins`."""
    global _loader
    if _loaded.is_set() or _loader == threading.get_ident():
        return
    with _turn:
        is_first = _loader is None
        _loader = threading.get_ident() if is_first else _loader
    if not is_first:
        _loaded.wait(_PATIENCE)
        return
    try:
        _import_all()
    finally:
        _loaded.set()


def _import_all() -> None:
    for package in _DECLARING:
        for module in modules_of(f"modescape.{package}"):
            importlib.import_module(module)
    for folder in modules_of("modescape.studies"):
        for module in modules_of(folder):
            if module.rpartition(".")[2].startswith(_OF_STUDIES):
                importlib.import_module(module)


def modules_of(package: str) -> list[str]:
    """The modules and packages right inside a package, in the order of their names; none of a single module, which has
    been imported then."""
    path = getattr(importlib.import_module(package), "__path__", ())
    return [f"{package}.{module.name}" for module in pkgutil.iter_modules(path)]
