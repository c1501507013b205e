"""What is left to chance: initial weights against batch order (Fig S4), and how early a training is settled."""

from __future__ import annotations

from modescape.presets.base import ADAM_40, ADAM_HALVED, CIFAR, PAPER, Json, experiment, preset

DIGITS = "scikit-learn's 8x8 digits (400 to train, 1,200 to test) instead of CIFAR-10"
SHORT: Json = {**ADAM_HALVED, "epochs": 30, "batch_size": 32}
FEW_DIGITS: Json = {"dataset": "digits", "train_images": 400, "validation_images": 197}


@preset(
    "s4",
    title="Initial weights and batch order",
    summary="Which makes the difference? SmallCNN trained with other initial weights, another batch order, both or "
    "neither, at five constant learning rates.",
    paper="Fig S4",
)
def s4() -> Json:
    return experiment(CIFAR, "small-cnn", ADAM_40, runs=3, studies={"seeds": {}})


@preset(
    "s4-medium",
    title="Initial weights and batch order, MediumCNN",
    summary="The same question for MediumCNN.",
    paper="Fig S4",
)
def s4_medium() -> Json:
    return experiment(CIFAR, "medium-cnn", ADAM_40, runs=3, studies={"seeds": {}})


@preset(
    "s4-short",
    title="Initial weights and batch order, short",
    summary="What makes two networks differ? Seventy-five small ones on handwritten digits.",
    paper="Fig S4",
    twin_of="s4",
    substitutions=(DIGITS, "30 epochs in batches of 32 instead of 40 in batches of 128"),
)
def s4_short() -> Json:
    return experiment(FEW_DIGITS, "small-cnn", SHORT, runs=3, studies={"seeds": {}})


@preset(
    "instability",
    title="Instability",
    summary="How early is it settled where a training ends? Two branches of one SmallCNN, from eight epochs.",
    paper="",
    source="Frankle, Dziugaite, Roy & Carbin 2020, arXiv 1912.05671; network and training of " + PAPER,
)
def instability() -> Json:
    studies = {"instability": {"epochs": [0, 1, 2, 3, 5, 10, 20, 30]}}
    return experiment(CIFAR, "small-cnn", ADAM_40, runs=3, studies=studies)


@preset(
    "instability-short",
    title="Instability, short",
    summary="Branches of one small network on handwritten digits, from seven epochs.",
    paper="",
    source="Frankle, Dziugaite, Roy & Carbin 2020, arXiv 1912.05671; network and training of " + PAPER,
    twin_of="instability",
    substitutions=(DIGITS, "30 epochs in batches of 32 instead of 40 in batches of 128", "7 epochs instead of 8"),
)
def instability_short() -> Json:
    studies = {"instability": {"epochs": [0, 1, 2, 4, 8, 16, 24]}}
    return experiment(FEW_DIGITS, "small-cnn", SHORT, runs=3, studies=studies)
