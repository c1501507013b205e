"""Out of distribution: SVHN row."""

from __future__ import annotations

from modescape.presets import base
from modescape.presets.base import Json, experiment, preset, short
from modescape.presets.thumbnails import OUTSIDE

_SHOWN = ("random", "diagonal", "low-rank")  # the subspaces the paper gives a number for


@preset(
    "svhn-row",
    title="Out of distribution",
    summary="How much do functions differ on house numbers, which none of them was trained on? MediumCNN.",
    question="What is diversity worth under shift?",
    paper="SVHN row",
    place=270,
    thumbnail=OUTSIDE,
)
def svhn_row() -> Json:
    methods = [{**method, "spread": 0, "typical": 5} for method in base.MEDIUM_METHODS if method["method"] in _SHOWN]
    studies = {"ood": [{"dataset": "svhn", "images": 10_000, "members": 5}]}
    return experiment(base.CIFAR, "medium-cnn", base.ADAM_40, runs=5, methods=methods, studies=studies)


@short(
    "svhn-row-short",
    of="svhn-row",
    summary="Five SmallCNNs trained on clothing look at handwritten digits and at noise.",
    place=280,
    substitutions=(
        base.FASHION,
        "SmallCNN instead of MediumCNN",
        base.SMALL_RUNS,
        "1,797 handwritten digits, and 2,000 images of uniform noise, instead of 10,000 house numbers",
        base.DENSE,
    ),
)
def svhn_row_short() -> Json:
    methods = [{**method, "spread": 0, "typical": 5} for method in base.SHORT_METHODS if method["method"] in _SHOWN]
    studies = {"ood": [{"dataset": "digits", "members": 5}, {"dataset": "uniform-noise", "images": 2000, "members": 5}]}
    return experiment(base.FASHION_MNIST, "small-cnn", base.SHORT_ADAM, runs=5, methods=methods, studies=studies)
