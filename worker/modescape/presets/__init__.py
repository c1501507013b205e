"""Whole experiments by name: the paper's figures, and short versions of them that run on data present here.

    from modescape.registry import presets
    presets["fig-6"].call()            # the spec as plain JSON

A short version ("twin") lists every substitution it makes, so nobody mistakes it for the paper's setting
(science e.1).
The order of the modules here is the order in which presets are offered.
"""

from modescape.presets import similarity  # isort: skip
from modescape.presets import landscape, ensembles, shift, ood, tunnel, seeds, cycles, family, claims  # isort: skip

__all__ = ["claims", "cycles", "ensembles", "family", "landscape", "ood", "seeds", "shift", "similarity", "tunnel"]
