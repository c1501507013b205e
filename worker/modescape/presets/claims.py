"""All claims: Fig 2 to 9."""

from __future__ import annotations

from modescape.presets import base
from modescape.presets.base import Json, experiment, preset, short

_SOURCE = "Modescape; after " + base.PAPER


@preset(
    "claims",
    title="All claims",
    summary="Do the paper's claims (a) to (f) hold? Five MediumCNNs, every subspace, corruptions and house numbers.",
    question="Do all of the paper's claims hold?",
    paper="Fig 2 to 9",
    place=450,
    source=_SOURCE,
)
def claims() -> Json:
    low_rank = next(method for method in base.MEDIUM_METHODS if method["method"] == "low-rank")
    methods = [*base.MEDIUM_METHODS, {**low_rank, "method": "pca-random"}, {"method": "averaging"}]
    studies = {"shift": {"images": 10_000, "members": 5}, "ood": [{"dataset": "svhn", "members": 5}]}
    return experiment(base.CIFAR, "medium-cnn", base.ADAM_40, runs=5, methods=methods, studies=studies, averaged="fair")


@short(
    "claims-short",
    of="claims",
    summary="Do the paper's claims (a) to (f) hold? Five SmallCNNs on all of Fashion-MNIST.",
    place=460,
    substitutions=(
        base.FASHION,
        "SmallCNN instead of MediumCNN",
        base.SMALL_RUNS,
        "10 samples a method and set instead of 50 and 10",
        "18 types made here with the CIFAR constants (gray images have no saturation), 2,000 images evaluated",
        "handwritten digits instead of house numbers",
        base.DENSE,
    ),
)
def claims_short() -> Json:
    methods = [*base.SHORT_METHODS, {"method": "pca-random", "spread": 10, "typical": 10}, {"method": "averaging"}]
    studies = {
        "shift": {"images": 2000, "members": 5, "trajectory": False},
        "ood": [{"dataset": "digits", "members": 5}],
    }
    return experiment(
        base.FASHION_MNIST, "small-cnn", base.SHORT_ADAM, runs=5, methods=methods, studies=studies, averaged="fair"
    )
