"""What is not in every installation, and the line that installs it.

The base package reads, judges and draws what was made elsewhere, and speaks to a server; `[worker]` trains and computes
with networks, `[server]` serves pages and API.

    require("worker", "training", "torch")    # ... needs torch, which is not installed: pip install 'modescape[worker]'
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from modescape.errors import ExtraMissing

# What is imported of each, by the name that people know.
EXTRAS = {
    "worker": {"torch": "torch", "torchvision": "torchvision", "celery": "celery"},
    "server": {"fastapi": "fastapi", "starlette": "fastapi", "uvicorn": "uvicorn", "jinja2": "jinja2",
               "argon2": "argon2-cffi", "prometheus_client": "prometheus-client", "multipart": "python-multipart",
               "celery": "celery"},
    "reports": {"latex2mathml": "latex2mathml", "markdown_it": "markdown-it-py", "mdit_py_plugins": "mdit-py-plugins",
                "nbformat": "nbformat", "nh3": "nh3", "pylatexenc": "pylatexenc"},
    "pictures": {"kaleido": "kaleido"},
    "tables": {"pyarrow": "pyarrow"},
    "tensorboard": {"tensorboard": "tensorboard"},
    "huggingface": {"datasets": "datasets"},
    "timm": {"timm": "timm"},
    "postgres": {"psycopg": "psycopg"},
    "s3": {"s3fs": "s3fs"},
}  # fmt: skip


def has(module: str) -> bool:
    """Whether a package is installed; it is looked for, and not loaded."""
    return module in sys.modules or find_spec(module) is not None


def line(extra: str) -> str:
    """What to type to install it."""
    return f"pip install 'modescape[{extra}]'"


def require(extra: str, what: str, *modules: str) -> None:
    """Raises ExtraMissing where packages of `extra`, which `what` needs, are not installed. modules: which; all of it
    where none is named."""
    known = EXTRAS[extra]
    absent = list(dict.fromkeys(known[module] for module in modules or known if not has(module)))
    if absent:
        raise _missing(what, absent, extra)


@contextmanager
def said() -> Iterator[None]:
    """Says of a package that turns out to be missing inside which line installs it. Raises ExtraMissing."""
    try:
        yield
    except ModuleNotFoundError as error:
        for extra, modules in EXTRAS.items():
            if name := modules.get((error.name or "").partition(".")[0]):
                raise _missing("this", [name], extra) from error
        raise


def _missing(what: str, names: list[str], extra: str) -> ExtraMissing:
    are = "is" if len(names) == 1 else "are"
    return ExtraMissing(f"{what} needs {', '.join(names)}, which {are} not installed: {line(extra)}")
