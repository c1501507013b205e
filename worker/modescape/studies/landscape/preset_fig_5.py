"""The plane through two optima: Fig 5."""

from __future__ import annotations

from modescape.presets import base
from modescape.presets.base import Json, experiment, preset, short
from modescape.presets.thumbnails import LANDSCAPE

GAUSSIANS = ("diagonal", "low-rank")
LOOK = "33 x 33 points, 1,000 training and 1,000 other images, instead of 65 x 65 points and 2,000 of each"


@preset(
    "fig-5",
    title="The plane through two optima",
    summary="What lies between two optima of MediumCNN? Accuracy and agreement on the plane through the origin and "
    "both, with trajectories and Gaussian samples.",
    question="What lies between two solutions?",
    paper="Fig 5",
    place=170,
    thumbnail=LANDSCAPE,
)
def figure_5() -> Json:
    methods = [
        {**method, "spread": 0, "typical": 30} for method in base.MEDIUM_METHODS if method["method"] in GAUSSIANS
    ]
    images = {"resolution": 65, "train_images": 2000, "test_images": 2000}
    planes = [images, {**images, "kind": "line"}]
    return experiment(base.CIFAR, "medium-cnn", base.ADAM_40, runs=3, methods=methods, studies={"planes": planes})


@short(
    "fig-5-short",
    of="fig-5",
    summary="The same plane for two SmallCNNs on Fashion-MNIST, and the straight line between them.",
    place=180,
    substitutions=(base.FASHION, "SmallCNN instead of MediumCNN", base.SMALL_RUNS, "2 runs instead of 3", LOOK,
                   "10 samples a method instead of 30", base.DENSE),
)  # fmt: skip
def figure_5_short() -> Json:
    methods = [{**method, "spread": 0} for method in base.SHORT_METHODS if method["method"] in GAUSSIANS]
    planes: list[Json] = [{}, {"kind": "line"}]
    return experiment(
        base.FASHION_MNIST, "small-cnn", base.SHORT_ADAM, runs=2, methods=methods, studies={"planes": planes}
    )
