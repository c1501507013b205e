"""How fast does one core train, beside the fastest loop written by hand? The same network, images, batches, optimiser
and arithmetic, one thread each, in turn in every round.

    python benchmarks/stepping.py --rounds 5        # prints a line each and keeps results/stepping.json

The opponent has its images in memory, ready scaled and channels-last, permutes them once an epoch, has layers of torch
alone in channels-last order, fused Adam, and autocast where the arithmetic is bfloat16; where a C++ compiler is, a
second one is the same loop under `torch.compile`, whose compiling is not counted. Ours is `training.train` as workers
call it, from uint8. Freed memory is kept for the next step, as workers keep it, and so it is for the loops by hand.
Processor time: ratios are other / ours, above 1 ours is faster.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from _beside import beside, keep
from torch import nn

from modescape import heap
from modescape.architectures.building import build
from modescape.science.arithmetic import has_cpu_bfloat16
from modescape.science.data import InputTransform, Shape, Split, Splits
from modescape.science.networks import Cnn
from modescape.science.seeds import run_seeds
from modescape.spec import parse
from modescape.training import train

BATCH, RATE = 128, 1.6e-3
SHAPE = Shape(3, 32, 32, 10)
UNIT = InputTransform("unit", np.zeros(1, np.float32), np.full(1, 1 / 255, np.float32))


def plain(architecture: str) -> nn.Module:
    """The network of torch's own layers, channels-last."""
    network = build(parse({"network": {"architecture": architecture}}).network, SHAPE, seed=0)
    if isinstance(network, Cnn):
        layers: list[nn.Module] = []
        for block in network.blocks:
            conv = block.conv
            assert isinstance(conv, nn.Conv2d)
            inputs, outputs = conv.in_channels, conv.out_channels
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.Dropout(0.1), nn.MaxPool2d(2, ceil_mode=True)]
            layers += [nn.ReLU()] if block.relu else []
        network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(network.head.in_features, 10))
    return network.to(memory_format=torch.channels_last).train()


def by_hand(network: nn.Module, images: torch.Tensor, labels: torch.Tensor, precision: str) -> None:
    """One epoch."""
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE, fused=True)
    order = torch.randperm(len(images))
    lower: AbstractContextManager[Any] = nullcontext()
    if precision == "bfloat16":
        lower = torch.autocast("cpu", torch.bfloat16)
    for start in range(0, len(images) - BATCH + 1, BATCH):
        chosen = order[start : start + BATCH]
        optimiser.zero_grad()
        with lower:
            loss = nn.functional.cross_entropy(network(images[chosen]), labels[chosen])
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def ways(architecture: str, count: int, precision: str) -> tuple[Callable[[], Any], dict[str, Callable[[], Any]]]:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, *SHAPE[:3]), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (count,), generator=generator)
    spec = parse(
        {
            "data": {"dataset": "cifar10", "input_scale": "unit", "validation_images": 0},
            "network": {"architecture": architecture},
            "training": {
                "optimiser": "adam", "learning_rate": RATE, "epochs": 1, "batch_size": BATCH, "snapshots": 0,
                "precision": precision, "sampling": "epoch",
            },
        }
    )  # fmt: skip
    none = Split(pixels[:0], labels[:0])
    splits = Splits(Split(pixels, labels), none, none, tuple(map(str, range(10))), UNIT, SHAPE)
    network = build(spec.network, SHAPE, seed=0)
    scaled = (pixels.float() / 255).contiguous(memory_format=torch.channels_last)
    torch.manual_seed(0)
    others = {"by hand": plain(architecture)}
    if shutil.which("g++"):
        compiled: Any = torch.compile(plain(architecture))
        others["by hand, compiled"] = compiled

    def loop(one: nn.Module) -> Callable[[], Any]:
        return lambda: by_hand(one, scaled, labels, precision)

    return (
        lambda: train(network, splits, spec.training, run_seeds(0, run=0)),
        {name: loop(one) for name, one in others.items()},
    )


COUNTS = {"small-cnn": 128 * 40, "medium-cnn": 128 * 6, "resnet20v1": 128 * 8}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="part of a line's name")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    heap.keep()
    rows: dict[str, Any] = {}
    for architecture, count in COUNTS.items():
        for precision in ("float32", "bfloat16") if has_cpu_bfloat16() else ("float32",):
            name = f"{architecture}, {precision}"
            if asked.only not in name:
                continue
            ours, others = ways(architecture, count, precision)
            rows[name] = {
                other: beside(asked.rounds, ours, call, lambda *_: None, clock=time.process_time)
                for other, call in others.items()
            }
            print(f"{name}: {rows[name]}", flush=True)
    if not asked.only:
        keep("stepping", rows, torch=torch.__version__, threads=1, images=COUNTS, clock="processor time")


if __name__ == "__main__":
    main()
