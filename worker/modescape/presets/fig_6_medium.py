"""Diversity and accuracy, MediumCNN: Fig 6."""

from __future__ import annotations

from modescape.presets.base import ADAM_40, CIFAR, MEDIUM_METHODS, Json, experiment, preset


@preset(
    "fig-6-medium",
    title="Diversity and accuracy, MediumCNN",
    summary="The same plane for MediumCNN.",
    question="What does diversity cost?",
    paper="Fig 6",
    place=110,
)
def figure_6_medium() -> Json:
    return experiment(CIFAR, "medium-cnn", ADAM_40, runs=10, methods=MEDIUM_METHODS)
