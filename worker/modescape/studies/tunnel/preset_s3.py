"""Stitched triangles: Fig S3."""

from __future__ import annotations

from modescape.presets import base
from modescape.presets.base import Json, experiment, preset, short
from modescape.presets.thumbnails import TUNNEL


@preset(
    "s3",
    title="Stitched triangles",
    summary="Where along a tunnel between two MediumCNNs the function changes.",
    question="What lies between two solutions?",
    paper="Fig S3",
    place=310,
    thumbnail=TUNNEL,
)
def figure_s3() -> Json:
    return experiment(base.CIFAR, "medium-cnn", base.ADAM_40, runs=2, studies={"tunnels": [{"triangle_images": 2000}]})


@short(
    "s3-short",
    of="s3",
    summary="A tunnel between two SmallCNNs on Fashion-MNIST, with the planes along it.",
    place=320,
    substitutions=(
        base.FASHION,
        "SmallCNN instead of MediumCNN",
        base.SMALL_RUNS,
        "7 knots instead of 9, and 300 test images on the triangles instead of 2,000",
    ),
)
def figure_s3_short() -> Json:
    studies = {"tunnels": [{"knots": 7, "triangle_images": 300}]}
    return experiment(base.FASHION_MNIST, "small-cnn", base.SHORT_ADAM, runs=2, studies=studies)
