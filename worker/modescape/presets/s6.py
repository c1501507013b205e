"""Family of curves: Fig S6."""

from __future__ import annotations

from modescape.presets import base
from modescape.presets.base import Json, experiment, preset, short


@preset(
    "s6",
    title="Family of curves",
    summary="The exponent e fitted to samples of ResNet20v1 on CIFAR-100 in the diversity-accuracy plane.",
    question="What does diversity cost?",
    paper="Fig S6",
    place=430,
)
def figure_s6() -> Json:
    data = {**base.CIFAR_RESNET, "dataset": "cifar100"}
    return experiment(data, "resnet20v1", base.KERAS_RESNET20_CIFAR100, runs=3, methods=base.PAPER_METHODS)


@short(
    "s6-short",
    of="s6",
    summary="The exponent fitted to samples around SmallCNNs on Fashion-MNIST.",
    place=440,
    substitutions=(
        "Fashion-MNIST instead of CIFAR-100 (28x28 gray images of 10 classes)",
        "SmallCNN instead of ResNet20v1",
        "5 epochs of 55,000 images instead of 200",
        "10 samples a method instead of 50",
        base.DENSE,
    ),
)
def figure_s6_short() -> Json:
    return experiment(base.FASHION_MNIST, "small-cnn", base.SHORT_ADAM, runs=3, methods=base.SHORT_METHODS)
