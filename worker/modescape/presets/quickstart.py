"""Quickstart."""

from __future__ import annotations

from modescape.presets.base import ADAM_HALVED, DENSE, PAPER, SHORT_METHODS, Json, experiment, preset


@preset(
    "quickstart",
    title="Quickstart",
    summary="Every figure in about a minute, on 400 handwritten digits that come with scikit-learn.",
    question="Does it work here?",
    paper="",
    place=10,
    source="Modescape; after " + PAPER,
    substitutions=(
        "scikit-learn's 8x8 digits (400 to train, 1,200 to test) instead of CIFAR-10",
        "30 epochs in batches of 32 instead of 40 in batches of 128",
        DENSE,
    ),
)
def quickstart() -> Json:
    training = {**ADAM_HALVED, "epochs": 30, "batch_size": 32}
    data = {"dataset": "digits", "train_images": 400, "validation_images": 197}
    methods = [{**method, "spread": 30} for method in SHORT_METHODS] + [{"method": "averaging"}]
    return experiment(data, "small-cnn", training, runs=5, methods=methods, averaged="fair")
