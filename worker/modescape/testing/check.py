"""Does all that a module declares keep to its contracts? One line an entry.

main(["own.py", "their_package"])       # files, folders or names, a package whole; 0, or 1 if a rule is broken
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import modescape.registry as registry
from modescape.claims import CLAIMS
from modescape.registry import figures
from modescape.settings import Settings
from modescape.testing import CHECKS, Checked, ContractBroken
from modescape.testing.made import experiments

Declared = dict[str, list[str]]  # name of a registry -> names of entries


def main(modules: Sequence[str]) -> int:
    before = _known()
    imported = [_imported(name_of(module), given=module) for module in modules]
    after = _known()
    declared = {kind: [name for name in after[kind] if name not in before[kind]] for kind in after}
    if all(imported) and not any(declared.values()):
        print(f"{', '.join(modules)}: nothing is declared there")
        return 1
    with ExitStack() as stack:
        sound = [_told(check) for check in checks(declared, stack)]
    return 0 if all(imported) and all(sound) else 1


def _imported(module: str, *, given: str = "") -> bool:
    """A module and, of a package, those in it: whether each could be imported; what one raised is printed. given: what
    the user calls it."""
    try:
        inside = registry.modules_of(module)
    except Exception as error:  # whatever a user's module raises
        traceback.print_exc()
        print(f"{given or module} cannot be imported: {type(error).__name__}: {error}")
        return False
    sound = [_imported(name) for name in inside if not name.endswith(".__main__")]
    return all(sound)


def name_of(module: str) -> str:
    """The name under which a file or a folder is imported, its place made known to Python; a name as it is."""
    path = Path(module)
    if not path.exists():
        return module
    if str(path.parent.resolve()) not in sys.path:
        sys.path.insert(0, str(path.parent.resolve()))
    return path.stem


def checks(declared: Declared, stack: ExitStack) -> Iterator[Callable[[], Checked]]:
    """What is asked of each entry, figures last: they share the experiments that are done for them."""
    for kind, names in declared.items():
        for name in names if kind != "figures" else ():
            more = {"folders": Settings().data_folders} if kind == "datasets" else {}
            yield partial(CHECKS[kind], name, **more)
    if declared["figures"]:
        needs = [need for name in declared["figures"] for need in figures[name].needs]
        made = stack.enter_context(experiments(needs))
        given = {"results": (made.finished, made.with_failure), "begun": (made.begun,)}
        for name in declared["figures"]:
            yield partial(CHECKS["figures"], name, **given)


def _told(check: Callable[[], Checked]) -> bool:
    try:
        print(check(), flush=True)
    except ContractBroken as broken:
        print(broken, flush=True)
        return False
    return True


def _known() -> Declared:
    return {kind: list(CLAIMS if kind == "claims" else getattr(registry, kind)) for kind in CHECKS}
