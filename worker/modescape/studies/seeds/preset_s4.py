"""Initial weights and batch order: Fig S4."""

from __future__ import annotations

from modescape.presets.base import (
    CIFAR_SMALL,
    DIGITS,
    FEW_DIGITS,
    SHORT_DIGITS,
    SMALL_40,
    Json,
    experiment,
    preset,
    short,
)
from modescape.presets.thumbnails import SEEDS


@preset(
    "s4",
    title="Initial weights and batch order",
    summary="Which makes the difference? SmallCNN trained with other initial weights, another batch order, both or "
    "neither, at five constant learning rates.",
    question="Where does difference come from?",
    paper="Fig S4",
    place=350,
    thumbnail=SEEDS,
)
def s4() -> Json:
    return experiment(CIFAR_SMALL, "small-cnn", SMALL_40, runs=3, studies={"seeds": {}})


@short(
    "s4-short",
    of="s4",
    summary="What makes two networks differ? Seventy-five small ones on handwritten digits.",
    place=370,
    substitutions=(DIGITS, "30 epochs in batches of 32 instead of 40 in batches of 128"),
)
def s4_short() -> Json:
    return experiment(FEW_DIGITS, "small-cnn", SHORT_DIGITS, runs=3, studies={"seeds": {}})
