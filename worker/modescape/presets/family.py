"""The one-parameter family of the appendix: how much more easily do wrong labels flip than right ones?"""

from __future__ import annotations

from modescape.presets.base import (
    CIFAR_RESNET,
    DENSE,
    FASHION_MNIST,
    KERAS_RESNET20_CIFAR100,
    PAPER_METHODS,
    SHORT_ADAM,
    SHORT_METHODS,
    Json,
    experiment,
    preset,
)


@preset(
    "s6",
    title="Family of curves",
    summary="The exponent e fitted to samples of ResNet20v1 on CIFAR-100 in the diversity-accuracy plane.",
    paper="Fig S6",
)
def figure_s6() -> Json:
    data = {**CIFAR_RESNET, "dataset": "cifar100"}
    return experiment(data, "resnet20v1", KERAS_RESNET20_CIFAR100, runs=3, methods=PAPER_METHODS)


@preset(
    "s6-short",
    title="Family of curves, short",
    summary="The exponent fitted to samples around SmallCNNs on Fashion-MNIST.",
    paper="Fig S6",
    twin_of="s6",
    substitutions=(
        "Fashion-MNIST instead of CIFAR-100 (28x28 gray images of 10 classes)",
        "SmallCNN instead of ResNet20v1",
        "5 epochs of 55,000 images instead of 200",
        "10 samples a method instead of 50",
        DENSE,
    ),
)
def figure_s6_short() -> Json:
    return experiment(FASHION_MNIST, "small-cnn", SHORT_ADAM, runs=3, methods=SHORT_METHODS)
