"""Quickstart, and the figures of independent runs and subspaces: Fig 2, 3, 4, 6 and 7."""

from __future__ import annotations

from modescape.presets.base import (
    ADAM_40,
    ADAM_HALVED,
    CIFAR,
    CIFAR_RESNET,
    DENSE,
    FASHION,
    FASHION_MNIST,
    IMAGENET,
    KERAS_RESNET20,
    KERAS_RESNET20_CIFAR100,
    MEDIUM_METHODS,
    PAPER,
    PAPER_METHODS,
    SGD_IMAGENET,
    SHORT_ADAM,
    SHORT_METHODS,
    SMALL_RUNS,
    Json,
    experiment,
    preset,
)


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
    return experiment(data, "small-cnn", training, runs=5, methods=methods, averaged="fair")


@preset(
    "fig-2",
    title="Trajectories",
    summary="Are checkpoints of one training alike, and do three trainings go to three places? SmallCNN.",
    paper="Fig 2",
)
def figure_2() -> Json:
    return experiment(CIFAR, "small-cnn", ADAM_40, runs=3, splits=["validation", "test"])


@preset(
    "fig-2-short",
    title="Trajectories, short",
    summary="Three trajectories of SmallCNN on Fashion-MNIST.",
    paper="Fig 2",
    twin_of="fig-2",
    substitutions=(FASHION, SMALL_RUNS, "the first 500 test images for t-SNE instead of 500 validation images"),
)
def figure_2_short() -> Json:
    return experiment(FASHION_MNIST, "small-cnn", SHORT_ADAM, runs=3)


@preset(
    "fig-3",
    title="Similarity of runs",
    summary="Are independently trained networks alike in weight space, and in function space? SmallCNN.",
    paper="Fig 3",
)
def figure_3() -> Json:
    return experiment(CIFAR, "small-cnn", ADAM_40, runs=10, splits=["validation", "test"])


@preset(
    "fig-3-medium",
    title="Similarity of runs, MediumCNN",
    summary="The same question for MediumCNN.",
    paper="Fig 3",
)
def figure_3_medium() -> Json:
    return experiment(CIFAR, "medium-cnn", ADAM_40, runs=10, splits=["validation", "test"])


@preset(
    "fig-3-resnet20",
    title="Similarity of runs, ResNet20v1",
    summary="The same question for ResNet20v1, 200 epochs with augmentation.",
    paper="Fig 3",
)
def figure_3_resnet20() -> Json:
    return experiment(CIFAR_RESNET, "resnet20v1", KERAS_RESNET20, runs=10, splits=["validation", "test"])


@preset(
    "fig-3-short",
    title="Similarity of runs, short",
    summary="Five SmallCNNs on Fashion-MNIST, compared by cosine and by disagreement.",
    paper="Fig 3",
    twin_of="fig-3",
    substitutions=(FASHION, SMALL_RUNS, "5 runs instead of 10"),
)
def figure_3_short() -> Json:
    return experiment(FASHION_MNIST, "small-cnn", SHORT_ADAM, runs=5)


@preset(
    "fig-4",
    title="Subspaces in function space",
    summary="Do samples around one solution stay with their own trajectory in t-SNE? SmallCNN.",
    paper="Fig 4",
)
def figure_4() -> Json:
    methods = [{**method, "spread": 0, "typical": 30} for method in PAPER_METHODS]
    return experiment(CIFAR, "small-cnn", ADAM_40, runs=3, methods=methods, splits=["validation", "test"])


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
    return experiment(FASHION_MNIST, "small-cnn", SHORT_ADAM, runs=3, methods=methods)


@preset(
    "fig-6",
    title="Diversity and accuracy",
    summary="What does diversity cost? Independent runs and four subspaces of SmallCNN against accuracy.",
    paper="Fig 6",
)
def figure_6() -> Json:
    return experiment(CIFAR, "small-cnn", {**ADAM_HALVED, "epochs": 10}, runs=10, methods=PAPER_METHODS)


@preset(
    "fig-6-medium",
    title="Diversity and accuracy, MediumCNN",
    summary="The same plane for MediumCNN.",
    paper="Fig 6",
)
def figure_6_medium() -> Json:
    return experiment(CIFAR, "medium-cnn", ADAM_40, runs=10, methods=MEDIUM_METHODS)


@preset(
    "fig-6-resnet20",
    title="Diversity and accuracy, ResNet20v1",
    summary="The same plane for ResNet20v1.",
    paper="Fig 6",
)
def figure_6_resnet20() -> Json:
    return experiment(CIFAR_RESNET, "resnet20v1", KERAS_RESNET20, runs=10, methods=PAPER_METHODS)


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
    return experiment(FASHION_MNIST, "small-cnn", SHORT_ADAM, runs=3, methods=SHORT_METHODS)


@preset(
    "fig-7-cifar100",
    title="Diversity and accuracy, CIFAR-100",
    summary="The plane for a harder task and a stronger network: ResNet20v1 on CIFAR-100.",
    paper="Fig 7a",
)
def figure_7_cifar100() -> Json:
    data = {**CIFAR_RESNET, "dataset": "cifar100"}
    return experiment(data, "resnet20v1", KERAS_RESNET20_CIFAR100, runs=5, methods=PAPER_METHODS)


@preset(
    "fig-7-imagenet",
    title="Diversity and accuracy, ImageNet",
    summary="The plane for ResNet50v2 on ImageNet, streamed from disk; without principal components, as in the paper.",
    paper="Fig 7b",
)
def figure_7_imagenet() -> Json:
    methods = [method for method in PAPER_METHODS if method["method"] != "low-rank"]
    return experiment(IMAGENET, "resnet50v2", SGD_IMAGENET, runs=5, methods=methods)


@preset(
    "fig-7-short",
    title="Diversity and accuracy, ResNet, short",
    summary="The plane for three ResNet20v1, trained briefly on a part of Fashion-MNIST.",
    paper="Fig 7",
    twin_of="fig-7-cifar100",
    substitutions=(
        "2,000 images of Fashion-MNIST (10 classes) instead of CIFAR-100 (100 classes), 1,000 test images",
        "4 epochs in batches of 32 instead of 200 in batches of 128, a tenth of the learning rate in the last, and no "
        "augmentation",
        "PyTorch's batch norm instead of Keras's, whose running statistics would lag behind so short a training",
        "3 runs instead of 5, two methods with 8 samples each instead of four with 50",
        DENSE,
    ),
)
def figure_7_short() -> Json:
    data = {**FASHION_MNIST, "input_scale": "pixel-mean", "train_images": 2000, "validation_images": 500,
            "test_images": 1000}  # fmt: skip
    training = {**KERAS_RESNET20, "milestones": [{"epoch": 3, "learning_rate": 1e-4}], "epochs": 4, "batch_size": 32,
                "augmentation": "none", "snapshots": 10, "snapshot_window": 0.4}  # fmt: skip
    methods: list[Json] = [{"method": method, "spread": 8, "typical": 0} for method in ("random", "diagonal")]
    made = experiment(data, "resnet20v1", training, runs=3, methods=methods)
    return {**made, "network": {"architecture": "resnet20v1", "options": {"keras_norm": False}}}
