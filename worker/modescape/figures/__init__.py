"""The argument in pictures: each module here is one figure, which answers one question, as numbers and then as Plotly.

    from modescape.drawing.figure import picture
    picture("plane", results).show()

Importing this registers every figure (registry.figures): a new one is a new module, named after it. No torch, no
scikit-learn, no scipy; Plotly only to draw.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    if not _module.ispkg:  # `shared`: what several figures have in common
        importlib.import_module(f"{__name__}.{_module.name}")
