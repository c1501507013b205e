"""Every claim of the verdict that one ensemble can decide, in one experiment."""

from __future__ import annotations

from modescape.presets.base import (
    ADAM_40,
    CIFAR,
    DENSE,
    FASHION,
    FASHION_MNIST,
    MEDIUM_METHODS,
    PAPER,
    SHORT_ADAM,
    SHORT_METHODS,
    SMALL_RUNS,
    Json,
    experiment,
    preset,
)

_SOURCE = "Modescape; after " + PAPER


@preset(
    "claims",
    title="All claims",
    summary="Do the paper's claims (a) to (f) hold? Five MediumCNNs, every subspace, corruptions and house numbers.",
    paper="Fig 2 to 9",
    source=_SOURCE,
)
def claims() -> Json:
    low_rank = next(method for method in MEDIUM_METHODS if method["method"] == "low-rank")
    methods = [*MEDIUM_METHODS, {**low_rank, "method": "pca-random"}, {"method": "averaging"}]
    studies = {"shift": {"images": 10_000, "members": 5}, "ood": [{"dataset": "svhn", "members": 5}]}
    return experiment(CIFAR, "medium-cnn", ADAM_40, runs=5, methods=methods, studies=studies, averaged="fair")


@preset(
    "claims-short",
    title="All claims, short",
    summary="Do the paper's claims (a) to (f) hold? Five SmallCNNs on all of Fashion-MNIST.",
    paper="Fig 2 to 9",
    source=_SOURCE,
    twin_of="claims",
    substitutions=(
        FASHION,
        "SmallCNN instead of MediumCNN",
        SMALL_RUNS,
        "10 samples a method and set instead of 50 and 10",
        "18 types made here with the CIFAR constants (gray images have no saturation), 2,000 images evaluated",
        "handwritten digits instead of house numbers",
        DENSE,
    ),
)
def claims_short() -> Json:
    methods = [*SHORT_METHODS, {"method": "pca-random", "spread": 10, "typical": 10}, {"method": "averaging"}]
    studies = {
        "shift": {"images": 2000, "members": 5, "trajectory": False},
        "ood": [{"dataset": "digits", "members": 5}],
    }
    return experiment(FASHION_MNIST, "small-cnn", SHORT_ADAM, runs=5, methods=methods, studies=studies, averaged="fair")
