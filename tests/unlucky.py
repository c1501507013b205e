"""What makes trainings and samples fail in the tests, here or (as a plug-in) in worker processes: `curse(SEEDS…)`.

Far too large initial weights diverge at the first step; zeros leave a network without gradients but for its last
biases, which then say one thing of every image. Samples of weight dropout raise.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch

from modescape.architectures import building
from modescape.science.seeds import chain_seeds, run_seeds
from modescape.stages import sample

DIVERGED, SILENT, HEALTHY = 0, 4, [1, 2, 3, 5]
BROKEN_CHAIN = 5

Set = Callable[[object, str, Any], None]


def curse(set_: Set = setattr) -> None:
    """Run 0 diverges, run 4 learns nothing, chain 5 of sgmcmc diverges, and no weight dropout is drawn."""
    large = {run_seeds(0, DIVERGED, "both").weights, chain_seeds(0, BROKEN_CHAIN, "sgmcmc").weights}
    weigh(dict.fromkeys(large, 1e18) | {run_seeds(0, SILENT, "both").weights: 0.0}, set_)
    draw = sample.draw_samples

    def drawing(entry: Any, *args: Any, **more: Any) -> Any:
        if entry.name == "dropout":
            raise RuntimeError("nothing drops here")
        return draw(entry, *args, **more)

    set_(sample, "draw_samples", drawing)


def weigh(factors: dict[int, float], set_: Set = setattr) -> None:
    """Multiply the initial weights of networks with these seeds."""
    build = building.build

    def unlucky(*args: Any, seed: int) -> torch.nn.Module:
        network = build(*args, seed=seed)
        with torch.no_grad():
            for parameter in network.parameters() if seed in factors else ():
                parameter.mul_(factors[seed])
        return network

    set_(building, "build", unlucky)


if os.environ.get("MODESCAPE_PLUGINS") == "unlucky":
    curse()
