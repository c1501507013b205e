"""Cycles of SG-MCMC: Fig S5."""

from __future__ import annotations

from modescape.presets.base import FASHION, FASHION_MNIST, PAPER, Json, experiment, preset, short
from modescape.presets.thumbnails import CYCLES

# The published script (ruqizhang/csgmcmc): standardised pixels, padded crops and flips, batches of 64 (science h.2).
# The separate runs beside the chains: as long as a chain, one cosine, and what else a chain has.
PLAIN: Json = {
    "protocol": "custom", "optimiser": "momentum", "momentum": 0.9, "learning_rate": 0.1, "schedule": "cosine",
    "weight_decay": 5e-4, "decay_on": "all", "batch_size": 64, "epochs": 150, "sampling": "epoch",
    "augmentation": "crop-flip", "checkpoint_every": 15, "snapshots": 0,
}  # fmt: skip
CHAIN: Json = {
    "variant": "sgld", "cycles": 3, "epochs_per_cycle": 50, "noise_epochs": 5, "samples_per_cycle": 3,
    "learning_rate": 0.5, "temperature": 1 / 50_000, "weight_decay": 5e-4, "batch_size": 64,
}  # fmt: skip
SOURCE = PAPER + "; chains: Zhang et al. 2020 (ruqizhang/csgmcmc)"


def of_data(name: str) -> Json:
    return {"dataset": name, "input_scale": "standardised", "validation_images": 0}


@preset(
    "s5",
    title="Cycles of SG-MCMC",
    summary="Are the cycles of one SG-MCMC chain as different as independent runs? ResNet-18 on CIFAR-10, 3 chains of "
    "3 cycles, 9 samples each.",
    question="Where does difference come from?",
    paper="Fig S5",
    place=400,
    thumbnail=CYCLES,
    source=SOURCE,
)
def s5() -> Json:
    return experiment(of_data("cifar10"), "resnet18", PLAIN, runs=3, methods=[{"method": "sgmcmc", "options": CHAIN}])


@short(
    "s5-short",
    of="s5",
    summary="Three chains of three short cycles of SmallCNN on Fashion-MNIST, beside three separate runs.",
    place=420,
    substitutions=(
        FASHION,
        "SmallCNN, which has no batch norm, instead of ResNet-18; so a learning rate of 0.05 instead of 0.5",
        "20,000 training images, cycles of 4 epochs instead of 50, noise in the last 2 and a sample after each of them",
        "temperature 1/20000, one over the training images as published",
        "no augmentation; separate runs of 12 epochs, as many as a chain has",
    ),
)
def s5_short() -> Json:
    plain = {**PLAIN, "learning_rate": 0.02, "epochs": 12, "checkpoint_every": 3, "augmentation": "none"}
    chain = {
        **CHAIN, "epochs_per_cycle": 4, "noise_epochs": 2, "samples_per_cycle": 2, "learning_rate": 0.05,
        "temperature": 1 / 20_000,
    }  # fmt: skip
    data = {**FASHION_MNIST, "input_scale": "standardised", "train_images": 20_000}
    return experiment(data, "small-cnn", plain, runs=3, methods=[{"method": "sgmcmc", "options": chain}])
