"""How fast do we predict in float32, beside the fastest other way known? One thread, as a worker has.

    python benchmarks/predicting.py --rounds 7          # prints a line each and keeps results/predicting.json

The opponent: the same network of torch's own layers, traced, frozen and fused by `torch.jit.optimize_for_inference`
(oneDNN kernels, normalisation folded in), one network after another in batches of 100; tracing is not counted, which a
user would wait for once a network. Plain layers in eager mode stand beside it, in both memory orders, the faster
counted. Ours: `predict` of one function, `predict_each` of several, weights as they come. All in turn in every round,
on the same images and weights; their logits must agree. Ratios are other / ours: above 1 ours is faster.
"""

from __future__ import annotations

import argparse
import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from _beside import beside, keep
from torch import nn

from modescape.architectures.building import build
from modescape.science.data import InputTransform, Shape, Split
from modescape.science.networks import Cnn
from modescape.science.predictions import predict, predict_each
from modescape.spec_parts import NetworkSpec

UNIT = InputTransform("unit", np.zeros(1, np.float32), np.full(1, 1 / 255, np.float32))
BATCH = 100


def twin(network: nn.Module) -> nn.Module:
    """The same function of torch's own layers alone."""
    if not isinstance(network, Cnn):
        return copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    layers: list[nn.Module] = []
    for block in network.blocks:
        conv = copy.deepcopy(block.conv)
        assert isinstance(conv, nn.Conv2d)
        layers += [conv.to(memory_format=torch.contiguous_format), nn.MaxPool2d(2, ceil_mode=True)]
        layers += [nn.ReLU()] if block.relu else []
    return nn.Sequential(*layers, nn.Flatten(), copy.deepcopy(network.head)).eval()


def in_batches(functions: Sequence[Callable[[torch.Tensor], torch.Tensor]], images: torch.Tensor) -> Any:
    with torch.no_grad():
        return np.stack(
            [torch.cat([f(part.float() / 255) for part in torch.split(images, BATCH)]).numpy() for f in functions]
        )


def row(architecture: str, count: int, functions: int, shape: Shape, rounds: int) -> dict[str, Any]:
    spec = NetworkSpec.model_validate({"architecture": architecture})
    networks = [build(spec, shape, seed=seed).eval() for seed in range(functions)]
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, *shape[:3]), dtype=torch.uint8, generator=generator)
    split = Split(images, torch.zeros(count, dtype=torch.int64))
    twins, example = [twin(network) for network in networks], images[:BATCH].float() / 255
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = [torch.jit.optimize_for_inference(torch.jit.trace(one, example)) for one in twins]  # type: ignore[no-untyped-call]
    last = [copy.deepcopy(one).to(memory_format=torch.channels_last) for one in twins]

    def ours() -> Any:
        return predict_each(networks, split, UNIT) if functions > 1 else predict(networks[0], split, UNIT)[None]

    def in_turn(functions: Sequence[Callable[[torch.Tensor], torch.Tensor]]) -> Callable[[], Any]:
        return lambda: in_batches(functions, images)

    def same(mine: Any, other: Any) -> None:
        np.testing.assert_allclose(mine, other, atol=1e-4 * abs(other).max())

    frozen = beside(rounds, ours, in_turn(traced), same)
    plain = [beside(rounds, ours, in_turn(ways), same) for ways in (twins, last)]
    eager = min(plain, key=lambda found: found["ratio"])
    rates = {name: round(functions * count / frozen[name]) for name in ("ours", "other")}
    return {"images a second": rates, **frozen, "eager": {name: eager[name] for name in ("ratio", "range")}}


PAPER, GREY, WIDE = Shape(3, 32, 32, 10), Shape(1, 28, 28, 10), Shape(3, 64, 64, 100)
CASES: dict[str, tuple[str, int, int, Shape]] = {
    "SmallCNN, 3x32x32, one function": ("small-cnn", 5000, 1, PAPER),
    "SmallCNN, 3x32x32, ten functions": ("small-cnn", 2000, 10, PAPER),
    "SmallCNN, 1x28x28, ten functions": ("small-cnn", 2000, 10, GREY),
    "SmallCNN, 3x64x64, 100 classes, one function": ("small-cnn", 2000, 1, WIDE),
    "MediumCNN, 3x32x32, one function": ("medium-cnn", 1000, 1, PAPER),
    "MediumCNN, 3x32x32, five functions": ("medium-cnn", 1000, 5, PAPER),
    "ResNet20v1, 3x32x32, one function": ("resnet20v1", 1000, 1, PAPER),
    "ResNet20v1, 3x32x32, five functions": ("resnet20v1", 1000, 5, PAPER),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="part of a line's name")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = {}
    for name, case in CASES.items():
        if asked.only in name:
            rows[name] = row(*case, asked.rounds)
            print(f"{name}: {rows[name]}", flush=True)
    if not asked.only:
        keep("predicting", rows, torch=torch.__version__, threads=1)


if __name__ == "__main__":
    main()
