"""Cycles of SG-MCMC, CIFAR-100: Fig S5."""

from __future__ import annotations

from modescape.presets.base import Json, experiment, preset
from modescape.presets.s5 import CHAIN, PLAIN, SOURCE, of_data
from modescape.presets.thumbnails import CYCLES


@preset(
    "s5-cifar100",
    title="Cycles of SG-MCMC, CIFAR-100",
    summary="The same on CIFAR-100, with noise in the last 3 epochs of each cycle.",
    question="Where does difference come from?",
    paper="Fig S5",
    place=410,
    thumbnail=CYCLES,
    source=SOURCE,
)
def s5_cifar100() -> Json:
    chain = {"method": "sgmcmc", "options": {**CHAIN, "noise_epochs": 3}}
    return experiment(of_data("cifar100"), "resnet18", PLAIN, runs=3, methods=[chain])
