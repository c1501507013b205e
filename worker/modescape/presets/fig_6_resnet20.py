"""Diversity and accuracy, ResNet20v1: Fig 6."""

from __future__ import annotations

from modescape.presets.base import CIFAR_RESNET, KERAS_RESNET20, PAPER_METHODS, Json, experiment, preset


@preset(
    "fig-6-resnet20",
    title="Diversity and accuracy, ResNet20v1",
    summary="The same plane for ResNet20v1.",
    question="What does diversity cost?",
    paper="Fig 6",
    place=120,
)
def figure_6_resnet20() -> Json:
    return experiment(CIFAR_RESNET, "resnet20v1", KERAS_RESNET20, runs=10, methods=PAPER_METHODS)
