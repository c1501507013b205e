"""A Python in which packages are not installed although they are: `python -c` code begins with `install(...)`.

Every finder is asked as before, but for these packages finds nothing, as where they are not on the disk.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from typing import Any

TRAINING = ("torch", "torchvision", "timm", "celery", "kombu", "redis")
SERVING = ("fastapi", "starlette", "uvicorn", "jinja2", "itsdangerous", "multipart", "python_multipart")


class _Without:
    def __init__(self, finder: Any, absent: frozenset[str]) -> None:
        self._finder = finder
        self._absent = absent

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name.partition(".")[0] in self._absent:
            return None
        found: ModuleSpec | None = self._finder.find_spec(name, path, target)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)


def install(*absent: str) -> None:
    """From here on these packages are not there."""
    names = frozenset(absent)
    assert not names & {module.partition(".")[0] for module in sys.modules}, "one of them is loaded already"
    sys.meta_path[:] = [_Without(finder, names) for finder in sys.meta_path]
