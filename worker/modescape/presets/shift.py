"""Corrupted test images: Fig 9 on CIFAR-10 and Fig 10 on ImageNet."""

from __future__ import annotations

from modescape.presets.base import (
    ADAM_40,
    BEST_STRENGTH,
    CIFAR,
    DENSE,
    FASHION,
    FASHION_MNIST,
    IMAGENET,
    MEDIUM_METHODS,
    SGD_IMAGENET,
    SHORT_ADAM,
    SMALL_RUNS,
    UNIFORM,
    Json,
    experiment,
    preset,
)

# The fifteen types of ImageNet-C; CIFAR-10-C has four more.
MAIN_TYPES = [
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow",
    "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
]  # fmt: skip


@preset(
    "fig-9",
    title="Shift",
    summary="Do ensembles and subspace samples help when test images are corrupted? MediumCNN, 19 types made here; "
    "choose `published` and a folder for CIFAR-10-C itself.",
    paper="Fig 9",
)
def figure_9() -> Json:
    sampled = [{**method, "spread": 0} for method in MEDIUM_METHODS if method["method"] != "dropout"]
    like = next(method for method in sampled if method["method"] == "low-rank")
    methods = [*sampled, {**like, "method": "pca-random"}, {"method": "averaging"}]
    studies = {"shift": {"images": 10_000, "members": 5}}
    return experiment(CIFAR, "medium-cnn", ADAM_40, runs=5, methods=methods, studies=studies)


@preset(
    "fig-9-short",
    title="Shift, short",
    summary="Five SmallCNNs on Fashion-MNIST under the 18 types of corruption that gray images can have.",
    paper="Fig 9",
    twin_of="fig-9",
    substitutions=(
        FASHION,
        "SmallCNN instead of MediumCNN",
        SMALL_RUNS,
        "18 types made here with the CIFAR constants (gray images have no saturation) instead of CIFAR-10-C",
        "1,000 test images instead of 10,000",
        "samples may cost six points of validation accuracy instead of having to reach 65 %",
        BEST_STRENGTH,
        DENSE,
    ),
)
def figure_9_short() -> Json:
    methods: list[Json] = [{"method": method, "spread": 0, "typical": 5}
               for method in ("random", "diagonal", "low-rank", "pca-random")]  # fmt: skip
    studies = {"shift": {"images": 1000, "members": 5}}
    return experiment(
        FASHION_MNIST, "small-cnn", SHORT_ADAM, runs=5, methods=[*methods, {"method": "averaging"}], studies=studies,
        averaged="fair",
    )  # fmt: skip


@preset(
    "fig-10",
    title="Shift, ImageNet",
    summary="The same question for ResNet50v2 on ImageNet under 15 types, on the first 2,000 validation images (in a "
    "fixed shuffled order); choose `published` and a folder for ImageNet-C itself.",
    paper="Fig 10",
)
def figure_10() -> Json:
    methods: list[Json] = [
        {"method": "random", "spread": 0, "typical": 5, "options": UNIFORM},
        {"method": "diagonal", "spread": 0, "typical": 5, "options": UNIFORM},
        {"method": "averaging"},
    ]
    studies = {"shift": {"images": 2000, "corruptions": MAIN_TYPES, "members": 5}}
    return experiment(IMAGENET, "resnet50v2", SGD_IMAGENET, runs=5, methods=methods, studies=studies)


@preset(
    "fig-10-short",
    title="Shift, ImageNet, short",
    summary="Three SmallCNNs on Fashion-MNIST under the fifteen types of ImageNet-C, without principal components.",
    paper="Fig 10",
    twin_of="fig-10",
    substitutions=(
        "Fashion-MNIST instead of ImageNet (28x28 gray images of 10 classes), corrupted with the CIFAR constants",
        "SmallCNN instead of ResNet50v2",
        "Adam, 5 epochs of 55,000 images, instead of SGD with momentum, 160 epochs",
        "3 runs, and 3 samples a method, instead of 5",
        "1,000 test images instead of 2,000",
        BEST_STRENGTH,
        DENSE,
    ),
)
def figure_10_short() -> Json:
    methods: list[Json] = [{"method": method, "spread": 0, "typical": 3} for method in ("random", "diagonal")]
    studies = {"shift": {"images": 1000, "corruptions": MAIN_TYPES, "members": 3}}
    return experiment(
        FASHION_MNIST, "small-cnn", SHORT_ADAM, runs=3, methods=[*methods, {"method": "averaging"}], studies=studies,
        averaged="fair",
    )  # fmt: skip
