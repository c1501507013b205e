"""Planes through the loss landscape: Fig 5, with trajectories and Gaussian samples, and its losses in S1."""

from __future__ import annotations

from modescape.presets.base import (
    ADAM_40,
    CIFAR,
    DENSE,
    FASHION,
    FASHION_MNIST,
    MEDIUM_METHODS,
    SHORT_ADAM,
    SHORT_METHODS,
    SMALL_RUNS,
    Json,
    experiment,
    preset,
)

GAUSSIANS = ("diagonal", "low-rank")
LOOK = "33 x 33 points, 1,000 training and 1,000 other images, instead of 65 x 65 points and 2,000 of each"


@preset(
    "fig-5",
    title="The plane through two optima",
    summary="What lies between two optima of MediumCNN? Accuracy and agreement on the plane through the origin and "
    "both, with trajectories and Gaussian samples.",
    paper="Fig 5",
)
def figure_5() -> Json:
    methods = [{**method, "spread": 0, "typical": 30} for method in MEDIUM_METHODS if method["method"] in GAUSSIANS]
    images = {"resolution": 65, "train_images": 2000, "test_images": 2000}
    planes = [images, {**images, "kind": "line"}]
    return experiment(CIFAR, "medium-cnn", ADAM_40, runs=3, methods=methods, studies={"planes": planes})


@preset(
    "fig-5-short",
    title="The plane through two optima, short",
    summary="The same plane for two SmallCNNs on Fashion-MNIST, and the straight line between them.",
    paper="Fig 5",
    twin_of="fig-5",
    substitutions=(FASHION, "SmallCNN instead of MediumCNN", SMALL_RUNS, "2 runs instead of 3", LOOK,
                   "10 samples a method instead of 30", DENSE),
)  # fmt: skip
def figure_5_short() -> Json:
    methods = [{**method, "spread": 0} for method in SHORT_METHODS if method["method"] in GAUSSIANS]
    planes: list[Json] = [{}, {"kind": "line"}]
    return experiment(FASHION_MNIST, "small-cnn", SHORT_ADAM, runs=2, methods=methods, studies={"planes": planes})


@preset(
    "s1",
    title="Losses between optima",
    summary="Training and validation loss, and changed labels over errors, between optima of MediumCNN: on the plane "
    "with the origin, on the plane through three, along lines, and around one in random directions.",
    paper="Fig S1",
)
def figure_s1() -> Json:
    images = {"resolution": 65, "split": "validation", "train_images": 2000, "test_images": 500}
    cuts: list[Json] = [{}, {"kind": "affine"}, {"kind": "line"}, {"kind": "random"}]
    planes = [{**images, **cut} for cut in cuts]
    splits = ["validation", "test"]
    return experiment(CIFAR, "medium-cnn", ADAM_40, runs=3, studies={"planes": planes}, splits=splits)


@preset(
    "s1-short",
    title="Losses between optima, short",
    summary="The same planes and lines for three SmallCNNs on Fashion-MNIST.",
    paper="Fig S1",
    twin_of="s1",
    substitutions=(FASHION, "SmallCNN instead of MediumCNN", SMALL_RUNS,
                   "33 x 33 points and 1,000 training images instead of 65 x 65 points and 2,000",
                   "the first 1,000 of 5,000 validation images instead of all 500"),
)  # fmt: skip
def figure_s1_short() -> Json:
    cuts: list[Json] = [{}, {"kind": "affine"}, {"kind": "line"}, {"kind": "random"}]
    planes = [{"split": "validation", **cut} for cut in cuts]
    splits = ["validation", "test"]
    return experiment(FASHION_MNIST, "small-cnn", SHORT_ADAM, runs=3, studies={"planes": planes}, splits=splits)
