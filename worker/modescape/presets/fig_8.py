"""Ensembles against subspaces: Fig 8."""

from __future__ import annotations

from modescape.presets import base
from modescape.presets.base import Json, experiment, preset, short
from modescape.presets.thumbnails import CURVES


def _rank_4(method: Json) -> Json:
    """The caption's rank instead of the authors' code's 5 (science d.4)."""
    return {**method, "options": {**method["options"], "rank": 4}} if method["method"] == "low-rank" else method


@preset(
    "fig-8",
    title="Ensembles against subspaces",
    summary="What do five runs gain together, what do subspace samples add, and does the one replace the other? "
    "MediumCNN.",
    question="What is an ensemble worth?",
    paper="Fig 8",
    place=210,
    thumbnail=CURVES,
)
def figure_8() -> Json:
    sampled = [_rank_4({**method, "spread": 0}) for method in base.MEDIUM_METHODS]
    # the authors' code draws the PCA of random samples exactly as it draws the low-rank Gaussian
    like = next(method for method in sampled if method["method"] == "low-rank")
    methods = [*sampled, {**like, "method": "pca-random"}, {"method": "averaging"}]
    # validation images too: temperatures are fitted on them
    return experiment(base.CIFAR, "medium-cnn", base.ADAM_40, runs=5, methods=methods, splits=["test", "validation"])


@short(
    "fig-8-short",
    of="fig-8",
    summary="Five SmallCNNs on Fashion-MNIST, alone and together, with ten samples a method around each.",
    place=220,
    substitutions=(base.FASHION, "SmallCNN instead of MediumCNN", base.SMALL_RUNS, base.BEST_STRENGTH, base.DENSE,
                   "samples may cost six points of validation accuracy instead of having to reach 65 %",
                   "rank 5 instead of 4 for the low-rank Gaussian", "no predictions on validation images"),
)  # fmt: skip
def figure_8_short() -> Json:
    methods = [{**method, "spread": 0} for method in base.SHORT_METHODS]
    methods += [{"method": "pca-random", "spread": 0, "typical": 10}, {"method": "averaging"}]
    return experiment(base.FASHION_MNIST, "small-cnn", base.SHORT_ADAM, runs=5, methods=methods, averaged="fair")
