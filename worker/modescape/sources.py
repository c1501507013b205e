"""Whose code declares something: the package, its version, and a digest of its source, for keys of what it computed.

    source_of("their_package.methods")     # Source(package='their_package', version='1.2', digest='9f86...')
    source_of("modescape.methods.random")  # None: our own stages have versions that are raised by hand

The digest is of every .py file of the package, or of the one module that is no package, as they lie on the disk when
the package first declares something; but for files that only draw figures and that no other file names, for no result
depends on them. What is typed into a notebook has no file: it is a source of its own in every
process, so that no result of it is ever taken for one of other lines.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import re
import secrets
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from types import FrameType

GROUP = "modescape"  # of entry points that name modules with declarations
_OURS = ("modescape", "modescape_api")


@dataclass(frozen=True)
class Source:
    """package: its import name; version: of its distribution, "" where it is none."""

    package: str
    version: str
    digest: str

    @property
    def title(self) -> str:
        return f"{self.package} {self.version}".rstrip()


def is_ours(module: str) -> bool:
    return module.partition(".")[0] in _OURS


def source_of(module: str) -> Source | None:
    """The source of a module that is being, or was, imported; None for our own."""
    return None if is_ours(module) else _source(package_of(module))


def package_of(module: str) -> str:
    """The package at the top that a module belongs to: the first that is no namespace shared with others."""
    parts = module.split(".")
    names = [".".join(parts[: i + 1]) for i in range(len(parts))]
    return next((name for name in names if getattr(sys.modules.get(name), "__file__", None)), parts[0])


def declaring_module(frame: FrameType | None) -> str:
    """The module whose code called into ours, from the frame of that call; or our own that is being imported."""
    name = "__main__"
    while frame is not None:
        name = frame.f_globals.get("__name__", "__main__")
        if frame.f_code.co_name == "<module>" or not is_ours(name):
            break
        frame = frame.f_back
    return name


@cache
def _source(package: str) -> Source:
    found = hashlib.sha256()
    files = list(_files(package))
    for name, content in files:
        found.update(f"{name} {len(content)}\n".encode() + content)
    digest = found.hexdigest() if files else secrets.token_hex(32)
    return Source(package, _version(package), digest)


def _files(package: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file of a package's source, in the order of the names."""
    module = sys.modules.get(package)
    file = getattr(module, "__file__", None)
    if file is None:
        return
    if module is None or not hasattr(module, "__path__"):
        if Path(file).is_file():
            yield package, Path(file).read_bytes()
        return
    for folder in map(Path, module.__path__):
        paths = sorted(folder.rglob("*.py"))
        texts = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
        yield from ((name, text) for name, text in texts.items() if not _only_draws(name, texts))


_DRAWS = re.compile(rb"^\s*from modescape\.drawing\.figure import\b", re.MULTILINE)
# Rooms of what stages run, and what can only be found out by running it.
_COMPUTES = re.compile(
    rb"\bmodescape\.(methods|architectures|datasets|corruptions|studies|stages|claims|presets|science|registry)\b"
    rb"|\bfrom modescape import|\bimport modescape\b|__import__|import_module|\bexec\b|\beval\b"
)


def _only_draws(name: str, texts: Mapping[str, bytes]) -> bool:
    """Whether a file declares figures and nothing that a stage runs, and no other file of the package speaks of it."""
    if name.endswith("__init__.py") or not _DRAWS.search(texts[name]) or _COMPUTES.search(texts[name]):
        return False
    return not any(_speaks_of(Path(name).stem, other) for one, other in texts.items() if one != name)


def _speaks_of(module: str, text: bytes) -> bool:
    """Whether source imports a module of that name, or has it as an attribute or in a text that may be an address."""
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError):
        return True
    named = [alias.name for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names]
    named += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    named += [node.attr for node in nodes if isinstance(node, ast.Attribute)]
    named += [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return any(module in name.split(".") for name in named)


def entry_points() -> tuple[importlib.metadata.EntryPoint, ...]:
    """Those of our group. To ask every distribution takes a fifth of a second: once, until a folder of them changes."""
    return _entry_points_in(tuple((folder, _changed_at(folder)) for folder in sys.path))


@lru_cache(maxsize=1)
def _entry_points_in(folders: tuple[tuple[str, int], ...]) -> tuple[importlib.metadata.EntryPoint, ...]:
    return tuple(importlib.metadata.entry_points(group=GROUP))


def _changed_at(folder: str) -> int:
    try:
        return Path(folder).stat().st_mtime_ns
    except OSError:
        return 0


def _version(package: str) -> str:
    """Of the distribution that a package was installed by; "" of a loose file."""
    for point in entry_points():
        if f"{point.module}.".startswith(f"{package}.") and point.dist is not None:
            return point.dist.version
    try:
        return importlib.metadata.version(package.replace(".", "-"))  # most are called as what they bring
    except importlib.metadata.PackageNotFoundError:
        pass
    if not _is_installed(package):
        return ""
    names = importlib.metadata.packages_distributions().get(package.partition(".")[0], ())
    return ", ".join(importlib.metadata.version(name) for name in sorted(set(names)))


def _is_installed(package: str) -> bool:
    """Whether it lies among distributions: to ask all of them takes half a second."""
    file = getattr(sys.modules.get(package), "__file__", None)
    if file is None:
        return False
    folder = Path(file).parents[len(package.split(".")) if hasattr(sys.modules[package], "__path__") else 0]
    return any(folder.glob("*.dist-info"))
