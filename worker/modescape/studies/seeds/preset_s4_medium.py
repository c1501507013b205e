"""Initial weights and batch order, MediumCNN: Fig S4."""

from __future__ import annotations

from modescape.presets.base import ADAM_40, CIFAR, Json, experiment, preset
from modescape.presets.thumbnails import SEEDS


@preset(
    "s4-medium",
    title="Initial weights and batch order, MediumCNN",
    summary="The same question for MediumCNN.",
    question="Where does difference come from?",
    paper="Fig S4",
    place=360,
    thumbnail=SEEDS,
)
def s4_medium() -> Json:
    return experiment(CIFAR, "medium-cnn", ADAM_40, runs=3, studies={"seeds": {}})
