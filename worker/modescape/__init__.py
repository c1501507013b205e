"""Modescape: are independently trained networks really different functions, and what is that difference worth?

    import modescape as ms
    lab = ms.run("quickstart")
    print(lab.sentence())
    lab.figure("plane").show()

Names load on first use, so importing this costs milliseconds and no torch. Plug-ins are loaded with the first of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modescape import registry
    from modescape.client.workspace import Workspace, connect, open
    from modescape.comparing import compare
    from modescape.imported.memory import Samples
    from modescape.importing import analyse
    from modescape.importing_weights import import_weights
    from modescape.laboratory import Lab, Laboratory, run
    from modescape.logger.ensemble import ensemble
    from modescape.paper_numbers import paper
    from modescape.results import Results
    from modescape.settings import Settings
    from modescape.spec import ExperimentSpec, parse
    from modescape.sweeps.running import open_sweep, sweep

__version__ = "0.1.0"

_HOME = {
    "analyse": "importing", "Samples": "imported.memory",
    "import_weights": "importing_weights",
    "ensemble": "logger.ensemble",
    "Workspace": "client.workspace", "open": "client.workspace", "connect": "client.workspace",
    "compare": "comparing", "paper": "paper_numbers",
    "Lab": "laboratory", "Laboratory": "laboratory", "run": "laboratory",
    "sweep": "sweeps.running", "open_sweep": "sweeps.running",
    "Results": "results", "Settings": "settings", "ExperimentSpec": "spec", "parse": "spec",
}  # fmt: skip

__all__ = [
    "ExperimentSpec", "Lab", "Laboratory", "Results", "Samples", "Settings", "Workspace",
    "analyse", "compare", "connect", "ensemble", "import_weights", "open", "open_sweep", "paper", "parse", "registry",
    "run", "sweep",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in (*_HOME, "registry"):
        from difflib import get_close_matches

        near = get_close_matches(name, __all__, 1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise AttributeError(f"module 'modescape' has no attribute {name!r}{meant}")
    if name != "Settings":  # which say what else is to be loaded
        from modescape import plugins, settings

        plugins.load(settings.read_settings().plugin_modules)
    if name == "registry":  # what can be chosen: `ms.registry.methods`; `ms.methods` is the package of that name
        return importlib.import_module("modescape.registry")
    return getattr(importlib.import_module(home_of(name)), name)


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})


def home_of(name: str) -> str:
    """The module in which a public name is defined."""
    return f"modescape.{_HOME[name]}"
