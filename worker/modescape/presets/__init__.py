"""Whole experiments by name: the paper's figures, and short versions of them that run on data present here.

    from modescape.registry import presets
    presets["fig-6"].call()            # the spec as plain JSON

One file a preset, its short version ("twin") beside it, found by looking through this folder. A short version lists
every substitution it makes, so nobody mistakes it for the paper's setting (science e.1). `base` holds what they share.
"""
