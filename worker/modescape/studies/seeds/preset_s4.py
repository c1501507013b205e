"""Initial weights and batch order: Fig S4."""

from __future__ import annotations

from modescape.presets.base import ADAM_40, CIFAR, DIGITS, FEW_DIGITS, SHORT_DIGITS, Json, experiment, preset
from modescape.presets.thumbnails import SEEDS


@preset(
    "s4",
    title="Initial weights and batch order",
    summary="Which makes the difference? SmallCNN trained with other initial weights, another batch order, both or "
    "neither, at five constant learning rates.",
    paper="Fig S4",
    place=350,
    thumbnail=SEEDS,
)
def s4() -> Json:
    return experiment(CIFAR, "small-cnn", ADAM_40, runs=3, studies={"seeds": {}})


@preset(
    "s4-short",
    title="Initial weights and batch order, short",
    summary="What makes two networks differ? Seventy-five small ones on handwritten digits.",
    paper="Fig S4",
    place=370,
    thumbnail=SEEDS,
    twin_of="s4",
    substitutions=(DIGITS, "30 epochs in batches of 32 instead of 40 in batches of 128"),
)
def s4_short() -> Json:
    return experiment(FEW_DIGITS, "small-cnn", SHORT_DIGITS, runs=3, studies={"seeds": {}})
