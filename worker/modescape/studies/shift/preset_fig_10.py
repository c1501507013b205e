"""Shift, ImageNet: Fig 10."""

from __future__ import annotations

from modescape.corruptions.corruption import EXTRA
from modescape.presets import base
from modescape.presets.base import Json, experiment, preset, short
from modescape.presets.thumbnails import SHIFT
from modescape.registry import corruptions

# The fifteen types of ImageNet-C; CIFAR-10-C has four more.
MAIN_TYPES = [name for name, kind in corruptions.items() if kind.family != EXTRA]


@preset(
    "fig-10",
    title="Shift, ImageNet",
    summary="The same question for ResNet50v2 on ImageNet under 15 types, on the first 2,000 validation images (in a "
    "fixed shuffled order); choose `published` and a folder for ImageNet-C itself.",
    question="What is diversity worth under shift?",
    paper="Fig 10",
    place=250,
    thumbnail=SHIFT,
)
def figure_10() -> Json:
    methods: list[Json] = [
        {"method": "random", "spread": 0, "typical": 5, "options": base.UNIFORM},
        {"method": "diagonal", "spread": 0, "typical": 5, "options": base.UNIFORM},
        {"method": "averaging"},
    ]
    studies = {"shift": {"images": 2000, "corruptions": MAIN_TYPES, "members": 5}}
    return experiment(base.IMAGENET, "resnet50v2", base.SGD_IMAGENET, runs=5, methods=methods, studies=studies)


@short(
    "fig-10-short",
    of="fig-10",
    summary="Three SmallCNNs on Fashion-MNIST under the fifteen types of ImageNet-C, without principal components.",
    place=260,
    substitutions=(
        "Fashion-MNIST instead of ImageNet (28x28 gray images of 10 classes), corrupted with the CIFAR constants",
        "SmallCNN instead of ResNet50v2",
        "Adam, 5 epochs of 55,000 images, instead of SGD with momentum, 160 epochs",
        "3 runs, and 3 samples a method, instead of 5",
        "1,000 test images instead of 2,000",
        base.BEST_STRENGTH,
        base.DENSE,
    ),
)
def figure_10_short() -> Json:
    methods: list[Json] = [{"method": method, "spread": 0, "typical": 3} for method in ("random", "diagonal")]
    studies = {"shift": {"images": 1000, "corruptions": MAIN_TYPES, "members": 3}}
    return experiment(
        base.FASHION_MNIST, "small-cnn", base.SHORT_ADAM, runs=3, methods=[*methods, {"method": "averaging"}],
        studies=studies, averaged="fair",
    )  # fmt: skip
