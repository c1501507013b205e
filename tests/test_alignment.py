"""Permuting hidden units leaves the function; weight matching finds the permutation again; REPAIR restores activity."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from modescape.architectures.building import build
from modescape.errors import StageError
from modescape.registry import architectures
from modescape.science import alignment, weights
from modescape.science.data import InputTransform, Shape, Split
from modescape.science.symmetry import Axis
from modescape.spec_parts import NetworkSpec

SHAPES = {
    "mlp": Shape(1, 8, 8, 10), "small-cnn": Shape(1, 9, 9, 5), "medium-cnn": Shape(1, 9, 9, 5),
    "resnet20v1": Shape(3, 32, 32, 4), "resnet18": Shape(3, 32, 32, 3), "resnet50v2": Shape(3, 64, 64, 3),
}  # fmt: skip
FAST = ("mlp", "small-cnn")


def network(name: str, seed: int) -> torch.nn.Module:
    """A network whose batch-norm statistics and weights are unlike those of a fresh one."""
    module = build(NetworkSpec(architecture=name), SHAPES[name], seed=seed)
    rng = np.random.default_rng(seed)
    state = module.state_dict()
    for key, values in state.items():
        if "norm" in key or "shortcut.1" in key:
            if key.endswith(("weight", "running_var")):
                values.copy_(torch.from_numpy(rng.uniform(0.5, 1.5, tuple(values.shape)).astype(np.float32)))
            elif key.endswith(("bias", "running_mean")):
                values.copy_(torch.from_numpy(rng.normal(0, 0.2, tuple(values.shape)).astype(np.float32)))
    return module.eval()


def tensors_of(module: torch.nn.Module) -> dict[str, np.ndarray[Any, Any]]:
    return weights.tensors(module)


def logits(module: torch.nn.Module, name: str) -> torch.Tensor:
    shape = SHAPES[name]
    images = torch.randn(4, shape.channels, shape.height, shape.width, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return module(images)


def slow_unless_fast(name: str) -> Any:
    return pytest.param(name, marks=() if name in FAST else pytest.mark.slow)


@pytest.mark.parametrize(
    "name", [slow_unless_fast(name) for name in SHAPES if name != "resnet50v2"]
)  # its 2,048 units take minutes
def test_permuted_units_are_found_again(name: str) -> None:
    """(Those of ResNet-50 take minutes: assignments of 2,048 units, by the same code.)"""
    module = network(name, 3)
    own = tensors_of(module)
    symmetry = alignment.symmetry_of(architectures[name], module, torch.zeros(1))
    rng = np.random.default_rng(0)
    hidden = symmetry.shuffled(rng)
    moved = symmetry.permuted(own, hidden)
    trainable = {key for key, _ in module.named_parameters()}
    order = alignment.match(symmetry, {k: own[k] for k in trainable}, {k: moved[k] for k in trainable}, seed=5)
    for group, was in hidden.items():
        np.testing.assert_array_equal(was[order[group]], np.arange(len(was)), err_msg=group)
    back = symmetry.permuted(moved, order)
    assert all(np.array_equal(back[key], own[key]) for key in own)


def test_every_hidden_unit_belongs_to_a_group() -> None:
    """Classes and pixels are fixed; everything else in SmallCNN runs along exactly one group an axis."""
    module = build(NetworkSpec(architecture="small-cnn"), SHAPES["small-cnn"], seed=0)
    symmetry = alignment.symmetry_of(architectures["small-cnn"], module, torch.zeros(1))
    assert symmetry.sizes == {"block 0": 16, "block 1": 32, "block 2": 32}
    assert symmetry.axes["head.weight"] == [Axis(1, "block 2", 4)]  # 9 -> 5 -> 3 -> 2 pixels a side
    assert "head.bias" not in symmetry.axes


def test_a_network_that_says_its_units_must_stay_is_not_aligned() -> None:
    ordered = replace(architectures["small-cnn"], name="my-net", wiring=None, unaligned="its units are ordered")
    with pytest.raises(StageError, match="its units are ordered"):
        alignment.symmetry_of(ordered, torch.nn.Linear(2, 2), torch.zeros(1, 2))


def test_a_network_without_hidden_units_is_refused() -> None:
    silent = replace(architectures["small-cnn"], wiring=None)
    with pytest.raises(StageError, match="no units of it can change places"):
        alignment.symmetry_of(
            silent, torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3)), torch.zeros(1, 1, 2, 2)
        )


def test_every_architecture_of_ours_says_how_it_is_wired() -> None:
    assert {name for name, entry in architectures.items() if entry.wiring is not None} == set(SHAPES)


def test_matching_never_makes_two_networks_less_alike() -> None:
    one, other = (network("small-cnn", seed) for seed in (1, 2))
    symmetry = alignment.symmetry_of(architectures["small-cnn"], one, torch.zeros(1))
    a, b = tensors_of(one), tensors_of(other)
    moved = symmetry.permuted(b, alignment.match(symmetry, a, b, seed=0))

    def product(x: dict[str, Any], y: dict[str, Any]) -> float:
        return float(sum((np.float64(x[key]) * y[key]).sum() for key in x))

    assert product(a, moved) > product(a, b)


def images(n: int = 200) -> Split:
    rng = np.random.default_rng(7)
    return Split(
        torch.from_numpy(rng.integers(0, 256, (n, 1, 9, 9), dtype=np.uint8)), torch.zeros(n, dtype=torch.int64)
    )


def transform() -> InputTransform:
    from modescape.science.data import make_transform

    return make_transform("unit", images())


def test_activity_is_the_mean_and_deviation_of_the_first_convolution() -> None:
    module = network("small-cnn", 4)
    found = alignment.activity(module, images(), transform())
    conv: Any = module.get_submodule("blocks.0.conv")
    with torch.no_grad():
        values = conv(images().images.float() / 255).double()
    np.testing.assert_allclose(found.mean["blocks.0.conv"], values.mean((0, 2, 3)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        found.deviation["blocks.0.conv"], values.std((0, 2, 3), unbiased=False), rtol=1e-4, atol=1e-6
    )
    assert list(found.mean) == ["blocks.0.conv", "blocks.1.conv", "blocks.2.conv"]


def test_repair_gives_every_unit_the_interpolated_mean_and_deviation() -> None:
    one, other, between = (network("small-cnn", seed) for seed in (1, 2, 1))
    ends = [alignment.activity(module, images(), transform()) for module in (one, other)]
    middle = (weights.flatten(one) + weights.flatten(other)) / 2
    weights.assign(between, middle)
    alignment.repair(between, *ends, 0.5, images(), transform())
    after = alignment.activity(between, images(), transform())
    for name in after.mean:
        for quantity in ("mean", "deviation"):
            wanted = (getattr(ends[0], quantity)[name] + getattr(ends[1], quantity)[name]) / 2
            np.testing.assert_allclose(getattr(after, quantity)[name], wanted, rtol=1e-3, atol=1e-4)


def test_repair_equals_a_forward_pass_that_sets_the_statistics_on_the_way() -> None:
    """The twin, as Jordan et al. do it: every convolution's output is normalised by what it is on these images after
    all earlier corrections, then given the interpolated deviation and mean."""
    import torch.nn.functional as F

    one, other, between = (network("small-cnn", seed) for seed in (1, 2, 1))
    t, some, blocks = 0.25, images(), [f"blocks.{i}" for i in range(3)]
    ends = [alignment.activity(module, some, transform()) for module in (one, other)]
    weights.assign(between, (1 - t) * weights.flatten(one) + t * weights.flatten(other))
    features = transform()(some.images)
    with torch.no_grad():
        for name in blocks:
            block: Any = between.get_submodule(name)
            found = block.conv(features)
            own = found.std((0, 2, 3), unbiased=False), found.mean((0, 2, 3))
            deviation, mean = (
                torch.from_numpy((1 - t) * first[f"{name}.conv"] + t * last[f"{name}.conv"]).float()
                for first, last in ((ends[0].deviation, ends[1].deviation), (ends[0].mean, ends[1].mean))
            )
            found = (found - own[1].view(-1, 1, 1)) / own[0].view(-1, 1, 1) * deviation.view(-1, 1, 1)
            features = F.max_pool2d(found + mean.view(-1, 1, 1), 2, ceil_mode=True)
            features = F.relu(features) if block.relu else features
        expected = between.get_submodule("head")(features.flatten(1))
        alignment.repair(between, *ends, t, some, transform())
        torch.testing.assert_close(between(transform()(some.images)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_alignment_and_then_repair_lower_the_barrier_of_wide_networks() -> None:
    """Jordan et al. 2022: training barriers of wide networks, standardised pixels: as trained > aligned > repaired."""
    from modescape.datasets import loading
    from modescape.science import barriers
    from modescape.science.seeds import run_seeds
    from modescape.spec import parse
    from modescape.training import train

    spec = parse({
        "data": {"dataset": "digits", "input_scale": "standardised"},
        "network": {"architecture": "mlp", "options": {"first": 256, "second": 256, "dropout": 0.0}},
        "training": {"epochs": 10, "batch_size": 32, "learning_rate": 5e-4, "snapshots": 0},
    })  # fmt: skip
    splits = loading.load(spec.data, ())
    modules = []
    for run in range(2):
        seeds = run_seeds(0, run=run)
        modules.append(build(spec.network, splits.shape, seed=seeds.weights))
        train(modules[run], splits, spec.training, seeds)
    one, other = modules
    symmetry = alignment.symmetry_of(architectures["mlp"], one, torch.zeros(1))
    moved = symmetry.permuted(tensors_of(other), alignment.match(symmetry, tensors_of(one), tensors_of(other)))
    first, last = weights.flatten(one), weights.from_tensors(one, moved)
    t, shown = barriers.fractions(9), {"train": splits.train}

    def barrier(points: Any) -> float:
        return barriers.barrier(barriers.profile(other, points, shown, splits.transform)["train"].loss, t)

    def repaired() -> Any:
        ends = []
        for theta in (first, last):
            weights.assign(other, theta)
            ends.append(alignment.activity(other, splits.train, splits.transform))
        for share, theta in zip(t, barriers.straight(first, last, t), strict=True):
            weights.assign(other, theta)
            alignment.repair(other, *ends, float(share), splits.train, splits.transform)
            yield weights.flatten(other)

    straight = barrier(barriers.straight(first, weights.flatten(other), t))
    aligned = barrier(barriers.straight(first, last, t))
    assert aligned < 0.7 * straight
    assert barrier(repaired()) < 0.7 * aligned
