"""Straight lines and alignment."""

from __future__ import annotations

from modescape.presets import base
from modescape.presets.base import Json, experiment, preset, short
from modescape.presets.thumbnails import TUNNEL

_ALIGNMENT = "Ainsworth, Hayase, Srinivasa 2022; Jordan et al. 2022"


@preset(
    "connectivity",
    title="Straight lines and alignment",
    summary="Barriers between five MediumCNNs before and after alignment.",
    question="What lies between two solutions?",
    paper="",
    place=330,
    thumbnail=TUNNEL,
    source=_ALIGNMENT,
)
def connectivity() -> Json:
    return experiment(base.CIFAR, "medium-cnn", base.ADAM_40, runs=5, studies={"connectivity": {}})


@short(
    "connectivity-short",
    of="connectivity",
    summary="Barriers between five SmallCNNs on Fashion-MNIST before and after alignment.",
    place=340,
    substitutions=(
        base.FASHION,
        "SmallCNN instead of MediumCNN",
        base.SMALL_RUNS,
        "1,000 images of each split instead of 2,000",
    ),
)
def connectivity_short() -> Json:
    studies = {"connectivity": {"images": 1000}}
    return experiment(base.FASHION_MNIST, "small-cnn", base.SHORT_ADAM, runs=5, studies=studies)
