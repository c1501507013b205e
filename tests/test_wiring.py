"""Any network's hidden units change places without changing what it computes, or are left where they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from modescape.architectures.building import build
from modescape.registry import architectures
from modescape.science import alignment, weights
from modescape.science.data import Shape
from modescape.science.symmetry import Axis, Symmetry
from modescape.science.wiring import traced
from modescape.spec_parts import NetworkSpec

tv = torchvision.models
TINY = {"patch_size": 8, "depth": 2, "embed_dim": 24, "num_heads": 3, "num_classes": 5, "img_size": 32}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def group_normed() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1), nn.GroupNorm(4, 12), nn.ReLU(),
        nn.Conv2d(12, 16, 3, padding=1, groups=4), nn.ReLU(), nn.Conv2d(16, 16, 3, groups=16), nn.GELU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(16), nn.Linear(16, 5),
    )  # fmt: skip


FAST: dict[str, Callable[[], nn.Module]] = {
    "grouped": group_normed,
    "timm-vit": lambda: timm.create_model("vit_tiny_patch16_224", **TINY),
    "timm-vit-qk-norm": lambda: timm.create_model("vit_tiny_patch16_224", qk_norm=True, **TINY),
    "timm-beit": lambda: timm.create_model("beit_base_patch16_224", **TINY),
    "torchvision-vit": lambda: tv.VisionTransformer(32, 8, 2, 3, 24, 48, num_classes=5),
    "torchvision-swin": lambda: tv.SwinTransformer([2, 2], 12, [2, 2], [2, 4], [4, 4], num_classes=5),
    "densenet": lambda: tv.DenseNet(6, (2, 2), 8, num_classes=5),
}
FULL: dict[str, Callable[[], nn.Module]] = {
    "torchvision-resnet18": lambda: tv.resnet18(num_classes=5),
    "torchvision-mobilenet-v2": lambda: tv.mobilenet_v2(num_classes=5),
    "timm-convnext-atto": lambda: timm.create_model("convnext_atto", num_classes=5),
}
SLOW: dict[str, Callable[[], nn.Module]] = {
    "resnext": lambda: tv.ResNet(tv.resnet.Bottleneck, [1, 1, 1, 1], num_classes=5, groups=2, width_per_group=2),
    "torchvision-mobilenet-v2-narrow": lambda: tv.MobileNetV2(5, 0.25, [[1, 16, 1, 1], [6, 24, 2, 2], [6, 64, 2, 2]]),
    "torchvision-mobilenet-v3": lambda: tv.mobilenet_v3_small(num_classes=5, width_mult=0.25),
    "torchvision-shufflenet": lambda: tv.shufflenet_v2_x0_5(num_classes=5),
    "torchvision-squeezenet": lambda: tv.squeezenet1_1(num_classes=5),
    "torchvision-convnext": lambda: tv.ConvNeXt(_convnext_blocks(), num_classes=5),
    "timm-convnext": lambda: timm.create_model(
        "convnext_atto", num_classes=5, dims=(16, 24, 32, 40), depths=(1, 1, 2, 1)
    ),
    "timm-eva": lambda: timm.create_model("eva02_tiny_patch14_224", num_classes=5, img_size=28, patch_size=7, depth=2),
}


def _convnext_blocks() -> list[Any]:
    block = tv.convnext.CNBlockConfig
    return [block(24, 48, 2), block(48, 96, 2), block(96, None, 2)]


def images(name: str) -> torch.Tensor:
    side = 28 if "eva" in name else 64 if name in SLOW | FULL else 32
    return torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(1))


def made(make: Callable[[], nn.Module]) -> nn.Module:
    """No two units of it are alike, and its statistics are unlike fresh ones."""
    torch.manual_seed(3)
    module = make().eval()
    random = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, values in (*module.named_parameters(), *module.named_buffers()):
            if values.is_floating_point():
                step = 0.3 * torch.rand(values.shape, generator=random)
                values.copy_(values.abs() + step if "running_var" in name else values + step - 0.15)
    return module


@pytest.mark.parametrize(
    "name",
    [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW),
     *(pytest.param(name, marks=pytest.mark.check) for name in FULL)],
)  # fmt: skip
def test_a_permuted_network_is_the_same_function_and_its_order_is_found_again(name: str) -> None:
    module, shown = made((FAST | SLOW | FULL)[name]), images(name)
    symmetry = alignment.symmetry_of(replace(architectures["small-cnn"], wiring=None), module, shown)
    assert set(symmetry.sizes) == set(traced(module, tuple(shown.shape[1:])).sizes), "none is refused"
    own = weights.tensors(module)
    moved = symmetry.permuted(own, symmetry.shuffled(np.random.default_rng(0)))
    changed = sum(not np.array_equal(moved[key], own[key]) for key in symmetry.axes)
    assert changed > 0.6 * len(symmetry.axes), "most are in another order, as far as groups of two units can be"

    with torch.no_grad():
        before = module.double()(shown.double())
        weights_of(module, moved)
        after = module(shown.double())
    assert float((after - before).abs().max()) <= 1e-9 * float(before.abs().max())

    names = [key for key, _ in module.named_parameters()]
    order = alignment.match(symmetry, {key: own[key] for key in names}, {key: moved[key] for key in names})
    back = symmetry.permuted(moved, order)
    assert all(np.array_equal(back[key], own[key]) for key in own), "the line to its own copy has no barrier"


def weights_of(module: nn.Module, tensors: dict[str, np.ndarray[Any, Any]]) -> None:
    for name, values in (*module.named_parameters(), *module.named_buffers()):
        values.copy_(torch.from_numpy(np.array(tensors[name])))


@pytest.mark.parametrize("name", ["mlp", "small-cnn", pytest.param("resnet20v1", marks=pytest.mark.slow)])
def test_what_is_traced_of_our_networks_is_what_they_say(name: str) -> None:
    shape = Shape(3, 16, 16, 4)
    module = build(NetworkSpec(architecture=name), shape, seed=0)
    shown = torch.zeros(1, *shape[:3])
    said = alignment.symmetry_of(architectures[name], module, shown)
    found = traced(module, shape[:3])

    def touched(symmetry: Symmetry) -> set[tuple[tuple[str, int, int, int], ...]]:
        places: dict[str, list[tuple[str, int, int, int]]] = {}
        for tensor, axes in symmetry.axes.items():
            for axis in axes:
                places.setdefault(axis.group, []).append((tensor, axis.number, axis.width, axis.start))
        return {tuple(sorted(found)) for found in places.values()}

    assert touched(found) == touched(said)


def test_heads_move_as_blocks_and_queries_and_keys_in_an_order_of_their_own_in_each() -> None:
    module = made(FAST["timm-vit"])
    found = traced(module, (3, 32, 32))
    axes = found.axes["blocks.0.attn.qkv.weight"]
    rows = [(axis.group, axis.start) for axis in axes if axis.number == 0]
    (query, _), (key, _), (value, _) = rows
    assert [start for _, start in rows] == [0, 24, 48]
    assert query == key != value
    assert found.families[query] == found.families[value] == (query, 3)
    assert found.sizes[query] == found.sizes[value] == 24
    output = found.axes["blocks.0.attn.proj.weight"]
    assert [axis.group for axis in output if axis.number == 1] == [value]
    normed = traced(made(FAST["timm-vit-qk-norm"]), (3, 32, 32))
    qk = next(axis for axis in normed.axes["blocks.0.attn.qkv.weight"] if axis.number == 0)
    assert (normed.sizes[qk.group], qk.width) == (3, 8), "a norm that all heads share keeps the order inside them"


def test_blocks_of_a_family_stay_blocks() -> None:
    symmetry = traced(made(FAST["timm-vit"]), (3, 32, 32))
    order = symmetry.shuffled(np.random.default_rng(7))
    where = {}
    for group, (family, blocks) in symmetry.families.items():
        units = order[group].reshape(blocks, -1)
        assert sorted(order[group]) == list(range(symmetry.sizes[group]))
        block = units // units.shape[1]
        assert (block == block[:, :1]).all()
        where.setdefault(family, block[:, 0])
        assert np.array_equal(where[family], block[:, 0]), "the blocks of all groups of a family move together"


class Weighted(nn.Module):
    """Its hidden units are weighted by their number: no order but its own is right."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(12, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = F.relu(self.first(x.flatten(1)))
        return self.last(torch.cumsum(hidden, 1) * torch.arange(6))  # type: ignore[no-any-return]


def test_what_an_operation_is_not_known_to_leave_alone_is_not_permuted() -> None:
    assert traced(Weighted(), (3, 2, 2)).sizes == {}


def test_a_group_that_changes_logits_is_refused_and_others_are_kept() -> None:
    module = made(FAST["grouped"])
    right = traced(module, (3, 32, 32))
    wrong = Symmetry(dict(right.axes), dict(right.sizes), dict(right.families), set(right.still))
    wrong.sizes["head"] = 5
    wrong.axes["10.weight"] = [*wrong.axes["10.weight"], Axis(0, "head")]
    kept, refused = alignment.checked(wrong, module, images("grouped"))
    assert refused == ["head"]
    assert set(kept.sizes) == set(right.sizes)
    assert all(axis.group != "head" for axis in kept.axes["10.weight"])


def test_blocks_are_matched_exactly() -> None:
    """Against every order of blocks and of units inside them."""
    from itertools import permutations, product

    rng = np.random.default_rng(2)
    alike = {"a": rng.normal(size=(6, 6)), "b": rng.normal(size=(3, 3))}
    found = alignment._match_blocks(alike, 3, still=False)

    def value(order: dict[str, Any]) -> float:
        return float(sum(alike[group][np.arange(len(units)), units].sum() for group, units in order.items()))

    every = (
        {"a": np.concatenate([2 * b + np.array(i) for b, i in zip(blocks, inside, strict=True)]), "b": np.array(blocks)}
        for blocks in permutations(range(3))
        for inside in product(permutations(range(2)), repeat=3)
    )
    assert value(found) == pytest.approx(max(map(value, every)))
