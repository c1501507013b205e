"""Similarity of runs, ResNet20v1: Fig 3."""

from __future__ import annotations

from modescape.presets.base import CIFAR_RESNET, KERAS_RESNET20, Json, experiment, preset
from modescape.presets.thumbnails import SIMILARITY


@preset(
    "fig-3-resnet20",
    title="Similarity of runs, ResNet20v1",
    summary="The same question for ResNet20v1, 200 epochs with augmentation.",
    question="Are runs different functions?",
    paper="Fig 3",
    place=60,
    thumbnail=SIMILARITY,
)
def figure_3_resnet20() -> Json:
    return experiment(CIFAR_RESNET, "resnet20v1", KERAS_RESNET20, runs=10, splits=["validation", "test"])
