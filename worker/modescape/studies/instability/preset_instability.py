"""Instability."""

from __future__ import annotations

from modescape.presets.base import (
    CIFAR_SMALL,
    DIGITS,
    FEW_DIGITS,
    PAPER,
    SHORT_DIGITS,
    SMALL_40,
    Json,
    experiment,
    preset,
    short,
)
from modescape.presets.thumbnails import SEEDS


@preset(
    "instability",
    title="Instability",
    summary="How early is it settled where a training ends? Two branches of one SmallCNN, from eight epochs.",
    question="Where does difference come from?",
    paper="",
    place=380,
    thumbnail=SEEDS,
    source="Frankle, Dziugaite, Roy & Carbin 2020, arXiv 1912.05671; network and training of " + PAPER,
)
def instability() -> Json:
    studies = {"instability": {"epochs": [0, 1, 2, 3, 5, 10, 20, 30]}}
    return experiment(CIFAR_SMALL, "small-cnn", SMALL_40, runs=3, studies=studies)


@short(
    "instability-short",
    of="instability",
    summary="Branches of one small network on handwritten digits, from seven epochs.",
    place=390,
    substitutions=(DIGITS, "30 epochs in batches of 32 instead of 40 in batches of 128", "7 epochs instead of 8"),
)
def instability_short() -> Json:
    studies = {"instability": {"epochs": [0, 1, 2, 4, 8, 16, 24]}}
    return experiment(FEW_DIGITS, "small-cnn", SHORT_DIGITS, runs=3, studies=studies)
