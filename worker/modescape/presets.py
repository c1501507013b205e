"""Whole experiments by name: the paper's figures, and short versions of them that run on data present here.

    from modescape.registry import presets
    presets["fig-6"].call()            # the spec as plain JSON

A short version ("twin") lists every substitution it makes, so nobody mistakes it for the paper's setting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

from modescape.registry import Preset, presets
from modescape.spec import PROTOCOLS

Json = dict[str, Any]

PAPER = "Fort, Hu & Lakshminarayanan 2019, arXiv 1912.02757"
FASHION = "Fashion-MNIST instead of CIFAR-10 (28x28 gray images; present as a Debian package, or fetched on request)"
DENSE = "sample strengths measured on the network and denser near the optimum instead of uniform in fixed ranges"
SMALL_RUNS = "5 epochs of 55,000 images, the learning rate halved every 2, instead of 40 epochs halved every 10"


def preset(
    name: str,
    *,
    title: str,
    summary: str,
    paper: str,
    source: str = PAPER,
    twin_of: str | None = None,
    substitutions: tuple[str, ...] = (),
) -> Callable[[Callable[[], Json]], Callable[[], Json]]:
    """Register a function that returns a spec as plain JSON."""

    def register(call: Callable[[], Json]) -> Callable[[], Json]:
        presets.add(
            Preset(
                name=name,
                title=title,
                summary=summary,
                source=source,
                call=lambda: deepcopy(call()),
                paper=paper,
                twin_of=twin_of,
                substitutions=substitutions,
            )
        )
        return call

    return register


# The training protocols of the paper and its code (science c), each as a partial TrainingSpec.
ADAM_HALVED: Json = {
    "protocol": "paper", "optimiser": "adam", "learning_rate": 1.6e-3, "schedule": "halve", "halve_every": 10,
    "batch_size": 128, "epochs": 40, "sampling": "replacement",
}  # fmt: skip
KERAS_RESNET20: Json = {**PROTOCOLS["keras"]["training"], "protocol": "paper", "optimiser": "adam", "batch_size": 128}
SHORT_ADAM: Json = {**ADAM_HALVED, "epochs": 5, "halve_every": 2}

CIFAR: Json = {"dataset": "cifar10", "input_scale": "raw255", "validation_images": 500}
CIFAR_RESNET: Json = {**CIFAR, "input_scale": "pixel-mean"}
FASHION_MNIST: Json = {"dataset": "fashion-mnist", "input_scale": "raw255", "validation_images": 5000}

# The authors' code draws strengths uniformly from fixed ranges (science d.1 to d.4); our defaults are denser near the
# optimum. Their step lengths are absolute and belong to MediumCNN; other networks get theirs measured.
UNIFORM: Json = {"strengths": "uniform"}
PAPER_METHODS: list[Json] = [
    {"method": "random", "spread": 50, "typical": 10, "options": UNIFORM},
    {"method": "dropout", "spread": 50, "typical": 10, "options": UNIFORM | {"spread_max": 0.1, "typical_max": 0.1}},
    {"method": "diagonal", "spread": 50, "typical": 10, "options": UNIFORM | {"spread_max": 10.0}},
    {"method": "low-rank", "spread": 50, "typical": 10, "options": UNIFORM | {"spread_max": 6.0, "scaling": "unit"}},
]
STEPS_OF_MEDIUM_CNN: Json = {
    "unit": "absolute", "spread_max": 70.0, "typical_max": 10.0, "floor": "absolute", "floor_value": 0.65,
}  # fmt: skip
MEDIUM_METHODS: list[Json] = [
    {**PAPER_METHODS[0], "options": UNIFORM | STEPS_OF_MEDIUM_CNN},
    *({**m, "options": {**m["options"], "floor": "absolute", "floor_value": 0.65}} for m in PAPER_METHODS[1:]),
]
SHORT_METHODS: list[Json] = [
    {"method": method, "spread": 10, "typical": 10} for method in ("random", "dropout", "diagonal", "low-rank")
]


def _spec(
    data: Json, architecture: str, training: Json, *, runs: int, methods: Sequence[Json] = (), **evaluation: Any
) -> Json:
    return {
        "data": data,
        "network": {"architecture": architecture},
        "training": training,
        "ensemble": {"runs": runs},
        "methods": list(methods),
        "evaluation": evaluation,
    }


@preset(
    "quickstart",
    title="Quickstart",
    summary="Every figure in about a minute, on 400 handwritten digits that come with scikit-learn.",
    paper="",
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
    return _spec(data, "small-cnn", training, runs=5, methods=methods)


@preset(
    "fig-2",
    title="Trajectories",
    summary="Are checkpoints of one training alike, and do three trainings go to three places? SmallCNN.",
    paper="Fig 2",
)
def figure_2() -> Json:
    return _spec(CIFAR, "small-cnn", ADAM_HALVED, runs=3, splits=["validation", "test"])


@preset(
    "fig-2-short",
    title="Trajectories, short",
    summary="Three trajectories of SmallCNN on Fashion-MNIST.",
    paper="Fig 2",
    twin_of="fig-2",
    substitutions=(FASHION, SMALL_RUNS, "the first 500 test images for t-SNE instead of 500 validation images"),
)
def figure_2_short() -> Json:
    return _spec(FASHION_MNIST, "small-cnn", SHORT_ADAM, runs=3)


@preset(
    "fig-3",
    title="Similarity of runs",
    summary="Are independently trained networks alike in weight space, and in function space? SmallCNN.",
    paper="Fig 3",
)
def figure_3() -> Json:
    return _spec(CIFAR, "small-cnn", ADAM_HALVED, runs=10, splits=["validation", "test"])


@preset(
    "fig-3-medium",
    title="Similarity of runs, MediumCNN",
    summary="The same question for MediumCNN.",
    paper="Fig 3",
)
def figure_3_medium() -> Json:
    return _spec(CIFAR, "medium-cnn", ADAM_HALVED, runs=10, splits=["validation", "test"])


@preset(
    "fig-3-resnet20",
    title="Similarity of runs, ResNet20v1",
    summary="The same question for ResNet20v1, 200 epochs with augmentation.",
    paper="Fig 3",
)
def figure_3_resnet20() -> Json:
    return _spec(CIFAR_RESNET, "resnet20v1", KERAS_RESNET20, runs=10, splits=["validation", "test"])


@preset(
    "fig-3-short",
    title="Similarity of runs, short",
    summary="Five SmallCNNs on Fashion-MNIST, compared by cosine and by disagreement.",
    paper="Fig 3",
    twin_of="fig-3",
    substitutions=(FASHION, SMALL_RUNS, "5 runs instead of 10"),
)
def figure_3_short() -> Json:
    return _spec(FASHION_MNIST, "small-cnn", SHORT_ADAM, runs=5)


@preset(
    "fig-4",
    title="Subspaces in function space",
    summary="Do samples around one solution stay with their own trajectory in t-SNE? SmallCNN.",
    paper="Fig 4",
)
def figure_4() -> Json:
    methods = [{**method, "spread": 0, "typical": 30} for method in PAPER_METHODS]
    return _spec(CIFAR, "small-cnn", ADAM_HALVED, runs=3, methods=methods, splits=["validation", "test"])


@preset(
    "fig-4-short",
    title="Subspaces in function space, short",
    summary="Three trajectories on Fashion-MNIST with ten samples a method around each end.",
    paper="Fig 4",
    twin_of="fig-4",
    substitutions=(FASHION, SMALL_RUNS, "10 samples a method instead of 30", DENSE),
)
def figure_4_short() -> Json:
    methods = [{**method, "spread": 0} for method in SHORT_METHODS]
    return _spec(FASHION_MNIST, "small-cnn", SHORT_ADAM, runs=3, methods=methods)


@preset(
    "fig-6",
    title="Diversity and accuracy",
    summary="What does diversity cost? Independent runs and four subspaces of SmallCNN against accuracy.",
    paper="Fig 6",
)
def figure_6() -> Json:
    return _spec(CIFAR, "small-cnn", {**ADAM_HALVED, "epochs": 10}, runs=10, methods=PAPER_METHODS)


@preset(
    "fig-6-medium",
    title="Diversity and accuracy, MediumCNN",
    summary="The same plane for MediumCNN.",
    paper="Fig 6",
)
def figure_6_medium() -> Json:
    return _spec(CIFAR, "medium-cnn", ADAM_HALVED, runs=10, methods=MEDIUM_METHODS)


@preset(
    "fig-6-resnet20",
    title="Diversity and accuracy, ResNet20v1",
    summary="The same plane for ResNet20v1.",
    paper="Fig 6",
)
def figure_6_resnet20() -> Json:
    return _spec(CIFAR_RESNET, "resnet20v1", KERAS_RESNET20, runs=10, methods=PAPER_METHODS)


@preset(
    "fig-6-short",
    title="Diversity and accuracy, short",
    summary="Three SmallCNNs on Fashion-MNIST, four subspaces with ten wide and ten narrow samples each.",
    paper="Fig 6",
    twin_of="fig-6",
    substitutions=(FASHION, "5 epochs of 55,000 images, the learning rate halved every 2, instead of 10 epochs",
                   "3 runs instead of 10", "10 samples a method instead of 50", DENSE),
)  # fmt: skip
def figure_6_short() -> Json:
    return _spec(FASHION_MNIST, "small-cnn", SHORT_ADAM, runs=3, methods=SHORT_METHODS)
