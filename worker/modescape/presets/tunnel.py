"""What lies between two runs: tunnels (Fig S2, S3), and straight lines before and after alignment."""

from __future__ import annotations

from modescape.presets.base import (
    ADAM_40,
    CIFAR,
    FASHION,
    FASHION_MNIST,
    SHORT_ADAM,
    SMALL_RUNS,
    Json,
    experiment,
    preset,
)

_ALIGNMENT = "Ainsworth, Hayase, Srinivasa 2022; Jordan et al. 2022"


@preset(
    "s2",
    title="Tunnels",
    summary="Is there a way between two MediumCNNs that never leaves low loss? By knots, and by one bend.",
    paper="Fig S2",
)
def figure_s2() -> Json:
    tunnels = [{"triangles": False}, {"method": "bezier", "epochs": 30, "triangles": False}]
    return experiment(CIFAR, "medium-cnn", ADAM_40, runs=2, studies={"tunnels": tunnels})


@preset(
    "s2-short",
    title="Tunnels, short",
    summary="Two SmallCNNs on Fashion-MNIST, connected by knots and by one bend.",
    paper="Fig S2",
    twin_of="s2",
    substitutions=(FASHION, "SmallCNN instead of MediumCNN", SMALL_RUNS, "3 epochs for the bend instead of 30"),
)
def figure_s2_short() -> Json:
    tunnels = [{"triangles": False}, {"method": "bezier", "triangles": False}]
    return experiment(FASHION_MNIST, "small-cnn", SHORT_ADAM, runs=2, studies={"tunnels": tunnels})


@preset(
    "s3",
    title="Stitched triangles",
    summary="Where along a tunnel between two MediumCNNs the function changes.",
    paper="Fig S3",
)
def figure_s3() -> Json:
    return experiment(CIFAR, "medium-cnn", ADAM_40, runs=2, studies={"tunnels": [{"triangle_images": 2000}]})


@preset(
    "s3-short",
    title="Stitched triangles, short",
    summary="A tunnel between two SmallCNNs on Fashion-MNIST, with the planes along it.",
    paper="Fig S3",
    twin_of="s3",
    substitutions=(
        FASHION,
        "SmallCNN instead of MediumCNN",
        SMALL_RUNS,
        "7 knots instead of 9, and 300 test images on the triangles instead of 2,000",
    ),
)
def figure_s3_short() -> Json:
    studies = {"tunnels": [{"knots": 7, "triangle_images": 300}]}
    return experiment(FASHION_MNIST, "small-cnn", SHORT_ADAM, runs=2, studies=studies)


@preset(
    "connectivity",
    title="Straight lines and alignment",
    summary="Barriers between five MediumCNNs before and after alignment.",
    paper="",
    source=_ALIGNMENT,
)
def connectivity() -> Json:
    return experiment(CIFAR, "medium-cnn", ADAM_40, runs=5, studies={"connectivity": {}})


@preset(
    "connectivity-short",
    title="Straight lines and alignment, short",
    summary="Barriers between five SmallCNNs on Fashion-MNIST before and after alignment.",
    paper="",
    source=_ALIGNMENT,
    twin_of="connectivity",
    substitutions=(FASHION, "SmallCNN instead of MediumCNN", SMALL_RUNS, "1,000 images of each split instead of 2,000"),
)
def connectivity_short() -> Json:
    studies = {"connectivity": {"images": 1000}}
    return experiment(FASHION_MNIST, "small-cnn", SHORT_ADAM, runs=5, studies=studies)
