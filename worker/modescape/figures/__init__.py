"""The argument in pictures: each figure answers one question, as numbers and then as Plotly.

    from modescape.figures import picture
    picture("plane", results).show()

Importing this registers every figure (registry.figures). No torch, no scikit-learn, no scipy; Plotly only to draw.
"""

from modescape.figures import (
    connectivity,
    cycles,
    ensembles,
    functions,
    instability,
    landscape,
    ood,
    seeds,
    shift,
    strengths,
    trajectories,
    tunnel,
)
from modescape.figures.figure import (
    FigureData,
    FigureNotReady,
    FigureOptions,
    Legend,
    Note,
    Notes,
    Results,
    Table,
    csv,
    encode,
    figure,
    figure_version,
    picture,
)
from modescape.figures.frame import Words, framed, html
from modescape.figures.style import THEMES, Theme, css

__all__ = [
    "THEMES",
    "FigureData",
    "FigureNotReady",
    "FigureOptions",
    "Legend",
    "Note",
    "Notes",
    "Results",
    "Table",
    "Theme",
    "Words",
    "connectivity",
    "css",
    "csv",
    "cycles",
    "encode",
    "ensembles",
    "figure",
    "figure_version",
    "framed",
    "functions",
    "html",
    "instability",
    "landscape",
    "ood",
    "picture",
    "seeds",
    "shift",
    "strengths",
    "trajectories",
    "tunnel",
]
