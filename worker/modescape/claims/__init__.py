"""The paper's claims, one a file: what each says, where it is decided, what it needs, and how it is judged.

    from modescape.claims import CLAIMS
    CLAIMS["a"].title                            # 'Independent optima are orthogonal'
    for record in judge(evidence):               # `judging`: every claim this evidence can be asked about
        print(record.title, record.word, record.because)

The question answered is "would this still be true for fresh runs of the same recipe, and fresh test images of the same
kind?" (science o). Importing this declares every claim: each module of this package is imported, so a new claim is a
new file. Declaring needs numpy only. What the claims share is `evidence` (what they are judged on), `combining` (gates,
and many methods under one word) and `record` (what comes out); `telling` and `look` are how it is told.
"""

import importlib
import pkgutil

from modescape.claims.claim import CLAIMS, Claim

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["CLAIMS", "Claim"]
