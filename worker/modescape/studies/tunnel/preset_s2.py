"""Tunnels: Fig S2."""

from __future__ import annotations

from modescape.presets import base
from modescape.presets.base import Json, experiment, preset, short
from modescape.presets.thumbnails import TUNNEL


@preset(
    "s2",
    title="Tunnels",
    summary="Is there a way between two MediumCNNs that never leaves low loss? By knots, and by one bend.",
    question="What lies between two solutions?",
    paper="Fig S2",
    place=290,
    thumbnail=TUNNEL,
)
def figure_s2() -> Json:
    tunnels = [{"triangles": False}, {"method": "bezier", "epochs": 30, "triangles": False}]
    return experiment(base.CIFAR, "medium-cnn", base.ADAM_40, runs=2, studies={"tunnels": tunnels})


@short(
    "s2-short",
    of="s2",
    summary="Two SmallCNNs on Fashion-MNIST, connected by knots and by one bend.",
    place=300,
    substitutions=(
        base.FASHION,
        "SmallCNN instead of MediumCNN",
        base.SMALL_RUNS,
        "3 epochs for the bend instead of 30",
    ),
)
def figure_s2_short() -> Json:
    tunnels = [{"triangles": False}, {"method": "bezier", "triangles": False}]
    return experiment(base.FASHION_MNIST, "small-cnn", base.SHORT_ADAM, runs=2, studies={"tunnels": tunnels})
