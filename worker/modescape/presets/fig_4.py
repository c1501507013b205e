"""Subspaces in function space: Fig 4."""

from __future__ import annotations

from modescape.presets import base
from modescape.presets.base import Json, experiment, preset, short
from modescape.presets.thumbnails import ISLANDS


@preset(
    "fig-4",
    title="Subspaces in function space",
    summary="Do samples around one solution stay with their own trajectory in t-SNE? SmallCNN.",
    question="Are runs different functions?",
    paper="Fig 4",
    place=80,
    thumbnail=ISLANDS,
)
def figure_4() -> Json:
    methods = [{**method, "spread": 0, "typical": 30} for method in base.PAPER_METHODS]
    return experiment(
        base.CIFAR_SMALL, "small-cnn", base.SMALL_40, runs=3, methods=methods, splits=["validation", "test"]
    )


@short(
    "fig-4-short",
    of="fig-4",
    summary="Three trajectories on Fashion-MNIST with ten samples a method around each end.",
    place=90,
    substitutions=(base.FASHION, base.SMALL_RUNS, "10 samples a method instead of 30", base.DENSE),
)
def figure_4_short() -> Json:
    methods = [{**method, "spread": 0} for method in base.SHORT_METHODS]
    return experiment(base.FASHION_MNIST, "small-cnn", base.SHORT_ADAM, runs=3, methods=methods)
