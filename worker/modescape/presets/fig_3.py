"""Similarity of runs: Fig 3."""

from __future__ import annotations

from modescape.presets import base
from modescape.presets.base import Json, experiment, preset, short
from modescape.presets.thumbnails import SIMILARITY


@preset(
    "fig-3",
    title="Similarity of runs",
    summary="Are independently trained networks alike in weight space, and in function space? SmallCNN.",
    question="Are runs different functions?",
    paper="Fig 3",
    place=40,
    thumbnail=SIMILARITY,
)
def figure_3() -> Json:
    return experiment(base.CIFAR_SMALL, "small-cnn", base.SMALL_40, runs=10, splits=["validation", "test"])


@short(
    "fig-3-short",
    of="fig-3",
    summary="Five SmallCNNs on Fashion-MNIST, compared by cosine and by disagreement.",
    place=70,
    substitutions=(base.FASHION, base.SMALL_RUNS, "5 runs instead of 10"),
)
def figure_3_short() -> Json:
    return experiment(base.FASHION_MNIST, "small-cnn", base.SHORT_ADAM, runs=5)
