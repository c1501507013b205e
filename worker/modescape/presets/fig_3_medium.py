"""Similarity of runs, MediumCNN: Fig 3."""

from __future__ import annotations

from modescape.presets.base import ADAM_40, CIFAR, Json, experiment, preset
from modescape.presets.thumbnails import SIMILARITY


@preset(
    "fig-3-medium",
    title="Similarity of runs, MediumCNN",
    summary="The same question for MediumCNN.",
    question="Are runs different functions?",
    paper="Fig 3",
    place=50,
    thumbnail=SIMILARITY,
)
def figure_3_medium() -> Json:
    return experiment(CIFAR, "medium-cnn", ADAM_40, runs=10, splits=["validation", "test"])
