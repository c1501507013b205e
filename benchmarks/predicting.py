"""How fast do we predict with several functions of one architecture, beside the loop one would write by hand?

    python benchmarks/predicting.py --images 2000 --functions 5 --rounds 9

By hand: the same SmallCNN of plain torch layers, float32, no_grad, batches of 500, one network after another. Ours, one
after another (`predict`) and all together (`predict_each`). One thread, as a worker has; all three in turn in every
round, on the same random images and the same weights, and their logits must agree.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from modescape.architectures.building import build
from modescape.science.data import InputTransform, Shape, Split
from modescape.science.predictions import predict, predict_each
from modescape.spec_parts import NetworkSpec

BY_HAND, ALONE, TOGETHER = "by hand", "ours, one by one", "ours, together"


def plain_twin(network: nn.Module) -> nn.Sequential:
    """The same function of torch's own layers."""
    twin = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.MaxPool2d(2, ceil_mode=True), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1), nn.MaxPool2d(2, ceil_mode=True), nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1), nn.MaxPool2d(2, ceil_mode=True), nn.Flatten(), nn.Linear(512, 10),
    )  # fmt: skip
    with torch.no_grad():
        for mine, theirs in zip(twin.parameters(), network.parameters(), strict=True):
            mine.copy_(theirs)
    return twin.eval()


def by_hand(twins: list[nn.Sequential], images: torch.Tensor) -> NDArray[np.float32]:
    with torch.no_grad():
        return np.stack([torch.cat([twin(part / 255) for part in images.float().split(500)]).numpy() for twin in twins])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--functions", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=9)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (asked.images, 1, 28, 28), dtype=torch.uint8, generator=generator)
    split = Split(images, torch.zeros(asked.images, dtype=torch.int64))
    unit = InputTransform("unit", np.zeros(1, np.float32), np.full(1, 1 / 255, np.float32))
    shape = Shape(1, 28, 28, 10)
    small = NetworkSpec.model_validate({"architecture": "small-cnn"})
    networks = [build(small, shape, seed=seed) for seed in range(asked.functions)]
    twins = [plain_twin(network) for network in networks]
    ways: dict[str, Callable[[], NDArray[np.float32]]] = {
        BY_HAND: lambda: by_hand(twins, images),
        ALONE: lambda: np.stack([predict(network, split, unit) for network in networks]),
        TOGETHER: lambda: predict_each(networks, split, unit),
    }
    found = {name: way() for name, way in ways.items()}  # warm, and equal
    assert np.array_equal(found[ALONE], found[TOGETHER])
    assert np.allclose(found[BY_HAND], found[TOGETHER], rtol=1e-4, atol=1e-4)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(asked.rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            rates[name].append(asked.functions * asked.images / (time.perf_counter() - start))
    for name, values in rates.items():
        ratios = [value / plain for value, plain in zip(values, rates[BY_HAND], strict=True)]
        print(
            f"{name:17} {statistics.median(values):8,.0f} predictions/s, {statistics.median(ratios):.2f} times by hand "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )
    print(f"n = {asked.rounds} rounds of {asked.functions} functions on {platform.machine()}, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
