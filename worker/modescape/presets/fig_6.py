"""Diversity and accuracy: Fig 6."""

from __future__ import annotations

from modescape.presets import base
from modescape.presets.base import Json, experiment, preset, short


@preset(
    "fig-6",
    title="Diversity and accuracy",
    summary="What does diversity cost? Independent runs and four subspaces of SmallCNN against accuracy.",
    question="What does diversity cost?",
    paper="Fig 6",
    place=100,
)
def figure_6() -> Json:
    return experiment(base.CIFAR_SMALL, "small-cnn", base.SMALL_10, runs=10, methods=base.PAPER_METHODS)


@short(
    "fig-6-short",
    of="fig-6",
    summary="Three SmallCNNs on Fashion-MNIST, four subspaces with ten wide and ten narrow samples each.",
    place=130,
    substitutions=(base.FASHION, "5 epochs of 55,000 images, the learning rate halved every 2, instead of 10 epochs",
                   "3 runs instead of 10", "10 samples a method instead of 50", base.DENSE),
)  # fmt: skip
def figure_6_short() -> Json:
    return experiment(base.FASHION_MNIST, "small-cnn", base.SHORT_ADAM, runs=3, methods=base.SHORT_METHODS)
