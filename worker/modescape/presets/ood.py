"""Images of another kind: the row of divergences on SVHN that the paper prints."""

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

_SHOWN = ("random", "diagonal", "low-rank")  # the subspaces the paper gives a number for


@preset(
    "svhn-row",
    title="Out of distribution",
    summary="How much do functions differ on house numbers, which none of them was trained on? MediumCNN.",
    paper="SVHN row",
)
def svhn_row() -> Json:
    methods = [{**method, "spread": 0, "typical": 5} for method in MEDIUM_METHODS if method["method"] in _SHOWN]
    studies = {"ood": [{"dataset": "svhn", "images": 10_000, "members": 5}]}
    return experiment(CIFAR, "medium-cnn", ADAM_40, runs=5, methods=methods, studies=studies)


@preset(
    "svhn-row-short",
    title="Out of distribution, short",
    summary="Five SmallCNNs trained on clothing look at handwritten digits and at noise.",
    paper="SVHN row",
    twin_of="svhn-row",
    substitutions=(
        FASHION,
        "SmallCNN instead of MediumCNN",
        SMALL_RUNS,
        "1,797 handwritten digits, and 2,000 images of uniform noise, instead of 10,000 house numbers",
        DENSE,
    ),
)
def svhn_row_short() -> Json:
    methods = [{**method, "spread": 0, "typical": 5} for method in SHORT_METHODS if method["method"] in _SHOWN]
    studies = {"ood": [{"dataset": "digits", "members": 5}, {"dataset": "uniform-noise", "images": 2000, "members": 5}]}
    return experiment(FASHION_MNIST, "small-cnn", SHORT_ADAM, runs=5, methods=methods, studies=studies)
