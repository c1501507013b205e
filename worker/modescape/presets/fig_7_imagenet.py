"""Diversity and accuracy, ImageNet: Fig 7b."""

from __future__ import annotations

from modescape.presets.base import IMAGENET, PAPER_METHODS, SGD_IMAGENET, Json, experiment, preset


@preset(
    "fig-7-imagenet",
    title="Diversity and accuracy, ImageNet",
    summary="The plane for ResNet50v2 on ImageNet, streamed from disk; without principal components, as in the paper.",
    question="What does diversity cost?",
    paper="Fig 7b",
    place=150,
)
def figure_7_imagenet() -> Json:
    methods = [method for method in PAPER_METHODS if method["method"] != "low-rank"]
    return experiment(IMAGENET, "resnet50v2", SGD_IMAGENET, runs=5, methods=methods)
