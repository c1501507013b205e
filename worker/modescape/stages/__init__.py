"""Every kind of stage: each module says what it does, when it is part of a plan, and what it costs. Imports no torch.

Kinds and planners are found by looking through this folder and through those of the studies. The order in which stages
are planned, and so claimed, comes from what each planner says it is after.
"""

from __future__ import annotations

import importlib

from modescape.registry import modules_of
from modescape.stages.stage import KINDS, planners

for _folder in (__name__, *modules_of("modescape.studies")):
    for _module in modules_of(_folder):
        if _folder == __name__ or _module.endswith(".stages"):
            importlib.import_module(_module)

__all__ = ["KINDS", "planners"]
