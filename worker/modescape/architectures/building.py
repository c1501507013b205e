"""Networks by name, with initial weights that a seed decides.

    network = build(spec.network, splits.shape, seed=7)

Initial weights are drawn by numpy's Philox from the seed alone, so that the same seed gives identical bits on every
machine, whatever else was drawn before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from modescape.architectures import counting
from modescape.records import DataInfo
from modescape.registry import architectures
from modescape.science.data import Shape
from modescape.spec_parts import NetworkSpec

if TYPE_CHECKING:
    from torch import nn


def build(network: NetworkSpec, shape: Shape, *, seed: int) -> nn.Module:
    """The network `network` asks for, with the initial weights of `seed`; equal seeds give identical bits."""
    import torch

    from modescape.science.networks import SeededNetwork

    entry = architectures[network.architecture]
    options = entry.options.model_validate(network.options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = cast("nn.Module", entry.call(*shape, options))
    if isinstance(module, SeededNetwork):
        with torch.no_grad():
            module.initialise(np.random.Generator(np.random.Philox(seed)))
    return module


def has_dropout(network: NetworkSpec, info: DataInfo) -> bool:
    """Whether a network has dropout layers. One that does not say so is built and looked at, which loads torch; where
    that cannot be, in the server, it passes for one that has, and workers see."""
    entry = architectures[network.architecture]
    if entry.dropout is not None:
        return entry.dropout
    if entry.counted:
        found = _count(network, info)
        return found is None or found.dropout  # where nobody has counted, workers see
    if not entry.loaded:
        return True  # the workers that have it will see
    try:
        from modescape.science.networks import dropout_layers
    except ImportError:  # refused in a server
        return True
    shape = Shape(info.channels, info.height, info.width, len(info.classes))
    return bool(dropout_layers(build(network, shape, seed=0)))


def refusal(network: NetworkSpec, info: DataInfo) -> str:
    """Why a network whose declaration tells no sizes cannot be built for such images; "" where it can, or where that is
    not known here."""
    found = _count(network, info) if architectures[network.architecture].counted else None
    return found.refused if found is not None else ""


def _count(network: NetworkSpec, info: DataInfo) -> counting.Count | None:
    entry = architectures[network.architecture]
    shape = info.channels, info.height, info.width, len(info.classes)
    return counting.count(entry.name, shape, entry.options.model_validate(network.options))
