"""Shift: Fig 9."""

from __future__ import annotations

from modescape.presets import base
from modescape.presets.base import Json, experiment, preset, short
from modescape.presets.thumbnails import SHIFT


@preset(
    "fig-9",
    title="Shift",
    summary="Do ensembles and subspace samples help when test images are corrupted? MediumCNN, 19 types made here; "
    "choose `published` and a folder for CIFAR-10-C itself.",
    question="What is diversity worth under shift?",
    paper="Fig 9",
    place=230,
    thumbnail=SHIFT,
)
def figure_9() -> Json:
    sampled = [{**method, "spread": 0} for method in base.MEDIUM_METHODS if method["method"] != "dropout"]
    like = next(method for method in sampled if method["method"] == "low-rank")
    methods = [*sampled, {**like, "method": "pca-random"}, {"method": "averaging"}]
    studies = {"shift": {"images": 10_000, "members": 5}}
    return experiment(base.CIFAR, "medium-cnn", base.ADAM_40, runs=5, methods=methods, studies=studies)


@short(
    "fig-9-short",
    of="fig-9",
    summary="Five SmallCNNs on Fashion-MNIST under the 18 types of corruption that gray images can have.",
    place=240,
    substitutions=(
        base.FASHION,
        "SmallCNN instead of MediumCNN",
        base.SMALL_RUNS,
        "18 types made here with the CIFAR constants (gray images have no saturation) instead of CIFAR-10-C",
        "1,000 test images instead of 10,000",
        "samples may cost six points of validation accuracy instead of having to reach 65 %",
        base.BEST_STRENGTH,
        base.DENSE,
    ),
)
def figure_9_short() -> Json:
    methods: list[Json] = [{"method": method, "spread": 0, "typical": 5}
               for method in ("random", "diagonal", "low-rank", "pca-random")]  # fmt: skip
    studies = {"shift": {"images": 1000, "members": 5}}
    return experiment(
        base.FASHION_MNIST, "small-cnn", base.SHORT_ADAM, runs=5, methods=[*methods, {"method": "averaging"}],
        studies=studies, averaged="fair",
    )  # fmt: skip
