"""How fast do we predict in float32, beside the fastest other way known? One thread, as a worker has.

    python benchmarks/predicting.py --rounds 7          # prints a line each and keeps results/predicting.json

The opponent: the same network of torch's own layers, traced, frozen and fused by `torch.jit.optimize_for_inference`
(oneDNN kernels, normalisation folded in), one network after another in batches of 100; tracing is not counted, which a
user would wait for once a network. Plain layers in eager mode stand beside it, in both memory orders, the faster
counted. Ours: `predict` of one function, `predict_each` of several, weights as they come. All in turn in every round,
on the same images and weights; their logits must agree. Ratios are other / ours: above 1 ours is faster.

What a sample costs besides being predicted: a whole `sample` stage of each method (drawing, placing, predicting,
scoring, storing), core seconds, beside all the predictions that it makes, made again alone: of its samples, and of what
measures their strengths and holds their floors. A ratio of 0.91 is a sample within 1.1 of its predictions. On made-up
images that a SmallCNN learns.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _beside import beside, keep
from torch import nn

from modescape.architectures.building import build
from modescape.database import upgrade
from modescape.executor import Executor
from modescape.laboratory import Laboratory
from modescape.records import StageOutput
from modescape.science import predictions
from modescape.science.data import InputTransform, Shape, Split
from modescape.science.networks import Cnn
from modescape.science.predictions import predict, predict_each
from modescape.settings import Settings
from modescape.spec_parts import NetworkSpec
from modescape.stages import runner

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


class Sampling:
    """The real runner, which does every `sample` stage several times, beside its predictions alone."""

    def __init__(self, rounds: int) -> None:
        self.rounds, self.rows = rounds, dict[str, Any]()
        self.renewed, self.stage_key, self.group_of = runner.renewed, runner.stage_key, runner.group_of

    def run_stage(self, lease: Any, *rest: Any, device: str) -> StageOutput:
        whole = partial(runner.run_stage, lease, *rest, device=device)
        if lease.stage.kind != "sample":
            return whole()
        found, calls = predictions.predict_each, list[Callable[[], Any]]()

        def noted(*given: Any, **more: Any) -> Any:
            calls.append(partial(found, *given, **more))
            return calls[-1]()

        predictions.predict_each = noted
        output = whole()
        predictions.predict_each = found

        def alone() -> None:
            for call in calls:
                call()

        method, sample_set = lease.stage.params["method"], lease.stage.params["sample_set"]
        name = f"SmallCNN, 3x32x32, samples of {method} ({sample_set}) beside their predictions"
        self.rows[name] = beside(self.rounds, whole, alone, lambda mine, other: None, time.process_time)
        print(f"{name}: {self.rows[name]}", flush=True)
        return output


METHODS = ("random", "dropout", "diagonal", "low-rank", "averaging")


def sampling(rounds: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    means = rng.uniform(90, 160, (10, 3, 32, 32))
    arrays: dict[str, Any] = {}
    for name, count in (("train", 4000), ("validation", 2000), ("test", 5000)):
        labels = np.arange(count) % 10
        noisy = means[labels] + rng.normal(0, 90, (count, 3, 32, 32))
        arrays |= {f"{name}_images": noisy.clip(0, 255).astype(np.uint8), f"{name}_labels": labels}
    sampled = Sampling(rounds)
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "made.npz", **arrays)
        settings = Settings(home=Path(folder), device="cpu")
        upgrade(settings.database)
        laboratory = Laboratory(settings)
        row = laboratory.create({
            "data": {"dataset": "npz", "path": str(Path(folder) / "made.npz"), "input_scale": "unit"},
            "network": {"architecture": "small-cnn"}, "ensemble": {"runs": 1}, "evaluation": {"averaged": "typical"},
            "training": {"epochs": 3, "snapshots": 6, "snapshot_window": 0.5},
            "methods": [
                {"method": name, "options": {"rank": 3} if name == "low-rank" else {}}
                | ({} if name == "averaging" else {"spread": 8, "typical": 8})
                for name in METHODS
            ],
        }, name="sampling")  # fmt: skip
        Executor(laboratory.store, laboratory.artifacts, settings, runner=sampled).run_experiment(row.id)
        laboratory.store.close()
    return sampled.rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="part of a line's name, or: sampling")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = {}
    for name, case in CASES.items():
        if asked.only in name:
            rows[name] = row(*case, asked.rounds)
            print(f"{name}: {rows[name]}", flush=True)
    if asked.only in "sampling":
        rows |= sampling(asked.rounds)
    if not asked.only:
        keep("predicting", rows, torch=torch.__version__, threads=1)


if __name__ == "__main__":
    main()
