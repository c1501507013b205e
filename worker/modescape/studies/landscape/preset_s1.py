"""Losses between optima: Fig S1."""

from __future__ import annotations

from modescape.presets import base
from modescape.presets.base import Json, experiment, preset, short
from modescape.presets.thumbnails import LANDSCAPE


@preset(
    "s1",
    title="Losses between optima",
    summary="Training and validation loss, and changed labels over errors, between optima of MediumCNN: on the plane "
    "with the origin, on the plane through three, along lines, and around one in random directions.",
    question="What lies between two solutions?",
    paper="Fig S1",
    place=190,
    thumbnail=LANDSCAPE,
)
def figure_s1() -> Json:
    images = {"resolution": 65, "split": "validation", "train_images": 2000, "test_images": 500}
    cuts: list[Json] = [{}, {"kind": "affine"}, {"kind": "line"}, {"kind": "random"}]
    planes = [{**images, **cut} for cut in cuts]
    splits = ["validation", "test"]
    return experiment(base.CIFAR, "medium-cnn", base.ADAM_40, runs=3, studies={"planes": planes}, splits=splits)


@short(
    "s1-short",
    of="s1",
    summary="The same planes and lines for three SmallCNNs on Fashion-MNIST.",
    place=200,
    substitutions=(base.FASHION, "SmallCNN instead of MediumCNN", base.SMALL_RUNS,
                   "33 x 33 points and 1,000 training images instead of 65 x 65 points and 2,000",
                   "the first 1,000 of 5,000 validation images instead of all 500"),
)  # fmt: skip
def figure_s1_short() -> Json:
    cuts: list[Json] = [{}, {"kind": "affine"}, {"kind": "line"}, {"kind": "random"}]
    planes = [{"split": "validation", **cut} for cut in cuts]
    splits = ["validation", "test"]
    return experiment(
        base.FASHION_MNIST, "small-cnn", base.SHORT_ADAM, runs=3, studies={"planes": planes}, splits=splits
    )
