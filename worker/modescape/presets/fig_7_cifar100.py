"""Diversity and accuracy, CIFAR-100: Fig 7a."""

from __future__ import annotations

from modescape.presets import base
from modescape.presets.base import Json, experiment, preset, short


@preset(
    "fig-7-cifar100",
    title="Diversity and accuracy, CIFAR-100",
    summary="The plane for a harder task and a stronger network: ResNet20v1 on CIFAR-100.",
    question="What does diversity cost?",
    paper="Fig 7a",
    place=140,
)
def figure_7_cifar100() -> Json:
    data = {**base.CIFAR_RESNET, "dataset": "cifar100"}
    return experiment(data, "resnet20v1", base.KERAS_RESNET20_CIFAR100, runs=5, methods=base.PAPER_METHODS)


@short(
    "fig-7-short",
    of="fig-7-cifar100",
    title="Diversity and accuracy, ResNet, short",
    summary="The plane for three ResNet20v1, trained briefly on a part of Fashion-MNIST.",
    paper="Fig 7",
    place=160,
    substitutions=(
        "2,000 images of Fashion-MNIST (10 classes) instead of CIFAR-100 (100 classes), 1,000 test images",
        "4 epochs in batches of 32 instead of 200 in batches of 128, a tenth of the learning rate in the last, and no "
        "augmentation",
        "PyTorch's batch norm instead of Keras's, whose running statistics would lag behind so short a training",
        "3 runs instead of 5, two methods with 8 samples each instead of four with 50",
        base.DENSE,
    ),
)
def figure_7_short() -> Json:
    data = {**base.FASHION_MNIST, "input_scale": "pixel-mean", "train_images": 2000, "validation_images": 500,
            "test_images": 1000}  # fmt: skip
    training = {**base.KERAS_RESNET20, "milestones": [{"epoch": 3, "learning_rate": 1e-4}], "epochs": 4,
                "batch_size": 32, "augmentation": "none", "snapshots": 10, "snapshot_window": 0.4}  # fmt: skip
    methods: list[Json] = [{"method": method, "spread": 8, "typical": 0} for method in ("random", "diagonal")]
    made = experiment(data, "resnet20v1", training, runs=3, methods=methods)
    return {**made, "network": {"architecture": "resnet20v1", "options": {"keras_norm": False}}}
