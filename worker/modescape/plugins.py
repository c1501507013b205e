"""Plug-ins: modules of others that declare entries. Who finds them, who loads which, and what became of each.

    load(settings.plugin_modules)                  # workers, command line, notebooks: all of them
    load(settings.plugin_modules, light=True)      # the server: those that load nothing heavy
    found()                                        # what there is, with errors

They are named by entry points of the group `modescape` and by MODESCAPE_PLUGINS. A module is loaded whole or not at
all: of one that fails nothing stays registered, and every process goes on without it. In the server the import of
torch, scikit-learn and scipy is refused; a module that needs one is left to the workers, which publish what it declares
(see `published_entries`).
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import modescape.registry as registry  # `from modescape import` it is for people, and loads plug-ins
from modescape import sources
from modescape.registry import Entry, Registry
from modescape.sources import Source

log = logging.getLogger(__name__)

HEAVY = ("torch", "sklearn", "scipy")  # what the server never loads: a second and hundreds of megabytes


class State(StrEnum):
    """What became of a plug-in in a process."""

    LOADED = "loaded"  # its entries are registered
    ELSEWHERE = "elsewhere"  # it needs what this process does not load; workers have it
    FAILED = "failed"  # its import raised an error


@dataclass(frozen=True)
class Plugin:
    """A module, who named it, and what became of it here. entries: "method 'jitter'", ...; why: the error."""

    module: str
    named_by: str
    state: State
    why: str = ""
    source: Source | None = None
    entries: tuple[str, ...] = ()


_FOUND: dict[str, Plugin] = {}


def found() -> tuple[Plugin, ...]:
    """Every plug-in that was named in this process so far."""
    return tuple(_FOUND.values())


def load(modules: Sequence[str] = (), *, light: bool = False) -> None:
    """Load what entry points name, and these modules, each once. light: refuse modules that need what is heavy."""
    named, here = _named(modules), str(Path.cwd())
    if modules and here not in sys.path:
        sys.path.append(here)  # behind everything that is installed: no file that happens to lie here hides a library
    if named:
        registry.load()  # a plug-in's names come behind ours
    for module, by in named.items():
        known = _FOUND.get(module)
        if known is None or (known.state == State.ELSEWHERE and not light):
            _FOUND[module] = Plugin(module, by, State.FAILED, "it is being imported")
            _FOUND[module] = _load(module, by, light)


def _named(modules: Sequence[str]) -> dict[str, str]:
    """Modules and who names each: in words."""
    points = {}
    for point in sources.entry_points():
        distribution = f" of {point.dist.name} {point.dist.version}" if point.dist else ""
        points[point.module] = f"entry point {point.name}{distribution}"
    return points | {module: "MODESCAPE_PLUGINS" for module in modules if module not in points}


def _load(module: str, named_by: str, light: bool) -> Plugin:
    _REFUSAL.refused = ""
    before = declared()
    try:
        with _whole_or_not(module), without_heavy() if light else nullcontext():
            importlib.import_module(module)
    except (Exception, SystemExit) as error:
        if _REFUSAL.refused:
            log.info("plug-in %s is left to workers: it loads %s", module, _REFUSAL.refused)
            return Plugin(module, named_by, State.ELSEWHERE, f"it loads {_REFUSAL.refused}")
        log.error("plug-in %s (%s) was not loaded: %s", module, named_by, _said(error), exc_info=error)
        return Plugin(module, named_by, State.FAILED, _said(error))
    source = sources.source_of(module)
    after = {title: by for title, by in declared().items() if by is not None}
    new = [title for title in after if title not in before]
    brought = new or [title for title, by in after.items() if by == source]  # imported by somebody else before
    return Plugin(module, named_by, State.LOADED, "", source, tuple(brought))


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def declared() -> dict[str, Source | None]:
    """Every entry and claim that is loaded here, and the code of others that declares it; None: ours."""
    entries = {title_of(entry): entry.brought for known in Registry.all for entry in known.here.values()}
    claims = getattr(sys.modules.get("modescape.claims.claim"), "CLAIMS", {})
    return entries | {f"claim ({letter})": claim.brought for letter, claim in claims.items()}


def title_of(entry: Entry) -> str:
    noun = next(known.noun for known in Registry.all if entry in known.here.values())
    return f"{noun} {entry.name!r}"


# -- all of a module or nothing ---------------------------------------------------------------------------------------

# What modules may add to beside the registries, where that was imported: (module, table, function of a value).
_TABLES: tuple[tuple[str, str, Callable[[Any], Any]], ...] = (
    ("modescape.stages.stage", "KINDS", lambda kind: kind.call),
    ("modescape.stages.stage", "_planners", lambda planner: planner[1]),
    ("modescape.claims.claim", "CLAIMS", lambda claim: claim.judge),
)


@contextmanager
def _whole_or_not(module: str) -> Iterator[None]:
    """Takes back what the import of a module registered when it fails, and its package's modules with it.

    Modules of third packages stay: they are whole, and some can be imported only once in a process.
    """
    known, modules = [(one, dict(one.here)) for one in Registry.all], set(sys.modules)
    try:
        yield
    except BaseException:
        packages = {sources.package_of(module), module.partition(".")[0]}
        for one, before in known:
            packages |= {e.brought.package for e in one.here.values() if e.brought and e.name not in before}
            one.keep(before)
        for owner, table, function_of in _TABLES:
            _forget(getattr(sys.modules.get(owner), table, {}), function_of, packages)
        for name in [name for name in sys.modules.keys() - modules if _is_in(name, packages)]:
            del sys.modules[name]
        raise


def _is_in(module: str, packages: set[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _forget(table: dict[str, Any], function_of: Callable[[Any], Any], packages: set[str]) -> None:
    for name in [name for name, value in table.items() if _is_in(function_of(value).__module__, packages)]:
        del table[name]


# -- without what is heavy --------------------------------------------------------------------------------------------


class HeavyRefused(ImportError):
    """Something would have loaded torch, scikit-learn or scipy into the server."""


class _Refusal(MetaPathFinder, Loader):
    """Finds the heavy libraries, so that whoever only asks whether they are there is answered, and loads none.

    refused: the last that was asked for.
    """

    refused = ""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name.partition(".")[0] in HEAVY else None

    def create_module(self, spec: ModuleSpec) -> None:
        self.refused = spec.name
        raise HeavyRefused(f"the server does not load {spec.name}; workers do", name=spec.name)

    def exec_module(self, module: ModuleType) -> None:
        raise AssertionError("it was refused before")


_REFUSAL = _Refusal()


def refuse_heavy() -> None:
    """From here on this process loads nothing heavy, whatever a plug-in's function does when it is called."""
    if _REFUSAL not in sys.meta_path:
        sys.meta_path.insert(0, _REFUSAL)


@contextmanager
def without_heavy() -> Iterator[None]:
    """Refuse it for a while; what is loaded already stays."""
    before = list(sys.meta_path)
    refuse_heavy()
    try:
        yield
    finally:
        sys.meta_path[:] = before
