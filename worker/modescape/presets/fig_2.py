"""Trajectories: Fig 2."""

from __future__ import annotations

from modescape.presets import base
from modescape.presets.base import Json, experiment, preset, short
from modescape.presets.thumbnails import TRAJECTORIES


@preset(
    "fig-2",
    title="Trajectories",
    summary="Are checkpoints of one training alike, and do three trainings go to three places? SmallCNN.",
    question="Are runs different functions?",
    paper="Fig 2",
    place=20,
    thumbnail=TRAJECTORIES,
)
def figure_2() -> Json:
    return experiment(base.CIFAR_SMALL, "small-cnn", base.SMALL_40, runs=3, splits=["validation", "test"])


@short(
    "fig-2-short",
    of="fig-2",
    summary="Three trajectories of SmallCNN on Fashion-MNIST.",
    place=30,
    substitutions=(
        base.FASHION,
        base.SMALL_RUNS,
        "the first 500 test images for t-SNE instead of 500 validation images",
    ),
)
def figure_2_short() -> Json:
    return experiment(base.FASHION_MNIST, "small-cnn", base.SHORT_ADAM, runs=3)
