"""Networks have the published sizes, equal seeds equal bits, dropout keeps its promise, weights go in and out."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modescape.architectures.building import build
from modescape.errors import InvalidInput
from modescape.registry import architectures
from modescape.science import weights
from modescape.science.data import InputTransform, Shape, Split
from modescape.science.networks import Cnn, Dropout, dropout_layers, forced_dropout
from modescape.spec_parts import NetworkSpec

RGB = Shape(3, 32, 32, 10)


def network(name: str, shape: Shape = RGB, seed: int = 1, **options: Any) -> nn.Module:
    return build(NetworkSpec.model_validate({"architecture": name, "options": options}), shape, seed=seed)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64(seed))


# Every row of science b.1 to b.4; the SmallCNN and MediumCNN numbers are those the authors' notebook prints or implies.
@pytest.mark.parametrize(
    ("name", "shape", "count"),
    [
        ("small-cnn", Shape(3, 32, 32, 10), 19_466),
        ("small-cnn", Shape(3, 32, 32, 100), 65_636),
        ("small-cnn", Shape(1, 28, 28, 10), 19_178),
        ("small-cnn", Shape(1, 8, 8, 10), 14_378),
        ("medium-cnn", Shape(3, 32, 32, 10), 971_146),
        ("medium-cnn", Shape(3, 32, 32, 100), 1_063_396),
        ("medium-cnn", Shape(1, 28, 28, 10), 969_994),
        ("medium-cnn", Shape(1, 8, 8, 10), 962_314),
        ("resnet20v1", Shape(3, 32, 32, 10), 273_066),
        ("resnet20v1", Shape(3, 32, 32, 100), 278_916),
        ("resnet20v1", Shape(1, 28, 28, 10), 272_778),
        ("resnet18", Shape(3, 32, 32, 10), 11_173_962),
        ("resnet18", Shape(3, 32, 32, 100), 11_220_132),
        ("resnet50v2", Shape(3, 64, 64, 1000), 25_568_360),
        ("resnet50v2", Shape(3, 64, 64, 10), 23_539_850),
    ],
)
def test_networks_have_exactly_the_published_number_of_weights(name: str, shape: Shape, count: int) -> None:
    built = network(name, shape)
    assert sum(p.numel() for p in built.parameters()) == count
    entry = architectures[name]
    assert entry.parameters(*shape, entry.options()) == count


@pytest.mark.parametrize(("name", "floats"), [("resnet20v1", 1_376), ("resnet18", 9_600), ("resnet50v2", 45_440)])
def test_batch_norm_buffers_have_the_published_size(name: str, floats: int) -> None:
    buffers = network(name, Shape(3, 64, 64, 10)).named_buffers()
    assert sum(b.numel() for n, b in buffers if not n.endswith("num_batches_tracked")) == floats


@pytest.mark.parametrize("name", list(architectures))
def test_our_networks_say_how_their_first_weights_are_drawn(name: str) -> None:
    assert architectures[name].initial, "presets tell it"
    assert architectures[name].decay_on in ("kernels", "weights")


def test_weights_of_a_seed_do_not_depend_on_what_was_drawn_before() -> None:
    first = weights.flatten(network("small-cnn"))
    torch.manual_seed(99)
    torch.rand(5)
    state = torch.get_rng_state()
    assert np.array_equal(first, weights.flatten(network("small-cnn")))
    assert torch.equal(state, torch.get_rng_state())  # and nobody else's numbers change


def test_initial_weights_follow_the_authors_code() -> None:
    # Glorot uniform: limit sqrt(6 / (fan_in + fan_out)); biases too, with fans 1 and C. Second layer of MediumCNN.
    built = network("medium-cnn")
    assert isinstance(built, Cnn)
    block: Any = built.blocks[1]
    limit = sqrt(6 / (9 * 64 + 9 * 128))
    kernel = block.conv.weight.detach()
    assert kernel.abs().max() <= limit
    # 73,728 uniform numbers: deviation limit/sqrt(3), its relative standard error sqrt(0.8/4/n) = 0.0016
    assert float(kernel.std()) == pytest.approx(limit / sqrt(3), rel=0.01)
    assert 0.5 * sqrt(6 / 129) < block.conv.bias.abs().max() <= sqrt(6 / 129)
    norms = [float(np.linalg.norm(weights.flatten(network("small-cnn", seed=s)))) for s in range(20)]
    assert np.mean(norms) == pytest.approx(9.25, abs=0.1)  # science b.1
    bare = [float(np.linalg.norm(weights.flatten(network("small-cnn", seed=s, zero_bias=True)))) for s in range(20)]
    assert np.mean(bare) == pytest.approx(8.83, abs=0.1)


def test_he_normal_is_cut_at_two_deviations_and_keeps_its_variance() -> None:
    built = network("resnet20v1")
    kernel = dict(built.named_parameters())["blocks.8.second.weight"].detach()  # 64 x 64 x 3 x 3: 36,864 numbers
    wanted = sqrt(2 / (9 * 64))
    assert float(kernel.std()) == pytest.approx(wanted, rel=0.02)
    assert float(kernel.abs().max()) <= 2 * wanted / 0.8796 + 1e-6


# --- dropout ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_keeps_its_rate_and_its_mean(rate: float) -> None:
    layer = Dropout(rate)
    layer.rng = rng()
    ones = torch.ones(1000, 1000)
    dropped = layer(ones)
    share = float((dropped == 0).float().mean())
    # a million coins: standard error sqrt(rate (1 - rate)) / 1000, at most 0.0005
    assert share == pytest.approx(rate, abs=4 * 0.0005)
    kept = dropped[dropped > 0]
    assert torch.all(kept == kept[0])
    assert float(kept[0]) == pytest.approx(1 / (1 - round(rate * 65536) / 65536), rel=1e-6)
    # rows and columns are coins of their own: no row strays further than 5 standard errors
    for axis in (0, 1):
        spread = (dropped == 0).float().mean(axis) - rate
        assert float(spread.abs().max()) < 5 * sqrt(rate * (1 - rate) / 1000)


def test_dropout_is_off_in_evaluation_and_at_rate_zero() -> None:
    layer, values = Dropout(0.5), torch.randn(4, 5)
    layer.rng = rng()
    assert layer.eval()(values) is values
    still = Dropout(0.0)
    assert still.train()(values) is values


def test_dropout_gradient_equals_autograd_with_the_same_mask() -> None:
    layer = Dropout(0.3)
    layer.rng = rng(5)
    values = torch.randn(64, 7, 6, 6).contiguous(memory_format=torch.channels_last).requires_grad_()
    direction = torch.randn(64, 7, 6, 6)
    (layer(values) * direction).sum().backward()
    layer.rng = rng(5)
    mask = layer.keep(values).float()
    assert values.grad is not None
    assert torch.allclose(values.grad, direction * mask * layer.scale)


def test_a_forced_fixed_mask_serves_every_example_and_every_call() -> None:
    built = network("small-cnn").eval()
    images = torch.rand(6, 3, 32, 32)
    plain = built(images)
    with forced_dropout(built, 0.3, rng(1), fixed=True):
        first = built(images)
        assert torch.equal(first, built(images))
        assert torch.allclose(first[2:3], built(images[2:3]), atol=1e-5)
    assert not torch.allclose(first, plain)
    assert torch.equal(plain, built(images))  # released
    with forced_dropout(built, 0.3, rng(1), fixed=False):
        assert not torch.equal(built(images), built(images))


def _plain_twin(built: Cnn, images: Tensor, masks: list[Tensor]) -> Tensor:
    """The network as the paper's notebook writes it, operation by operation, with given masks."""
    features = images
    for block, mask in zip(built.blocks, masks, strict=True):
        features = F.conv2d(features, block.conv.weight, block.conv.bias, padding=1)  # type: ignore[union-attr,arg-type]
        features = F.max_pool2d(features * mask, 2, ceil_mode=True)
        if block.relu:  # type: ignore[union-attr]
            features = F.relu(features)
    return built.head(features.flatten(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize("shape", [Shape(1, 28, 28, 10), Shape(3, 32, 32, 10), Shape(4, 6, 10, 10), Shape(2, 9, 8, 10)])
@pytest.mark.parametrize("order", ["conv-drop-pool-relu", "conv-relu-pool-drop"])
def test_prediction_equals_plain_operations(shape: Shape, order: str) -> None:
    """Without gradients the first convolution and its pooling are one step; odd sizes cannot be, and are not."""
    built = network("small-cnn", shape, order=order).eval()
    assert isinstance(built, Cnn)
    images = (torch.randn(17, *shape[:3]) * 100).contiguous(memory_format=torch.channels_last)
    ones = [torch.ones(1)] * 3
    with torch.no_grad():
        found, expected = built(images), _plain_twin(built, images, ones)
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
        assert torch.equal(built(built.look(images)), found)
    assert torch.allclose(built(images), found, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))  # with gradients


@pytest.mark.parametrize("shape", [Shape(1, 28, 28, 10), Shape(3, 32, 32, 10), Shape(1, 8, 8, 10)])
@pytest.mark.parametrize("options", [{}, {"zero_bias": True}, {"last_relu": True}])
def test_fast_blocks_equal_plain_operations(shape: Shape, options: dict[str, Any]) -> None:
    """Loss and every gradient, against autograd over plain torch operations with the same dropout masks."""
    built = network("small-cnn", shape, **options)
    assert isinstance(built, Cnn)
    # raw pixels with large constant areas: ties in pooling and exact zeros, as in Fashion-MNIST
    images = (torch.rand(16, *shape[:3]) * 255).round() * (torch.rand(16, 1, shape.height, shape.width) < 0.3)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(16) % 10
    noise = rng(3)
    for layer in dropout_layers(built):
        layer.rng = noise
    built.train()
    loss = F.cross_entropy(built(images), labels)
    loss.backward()  # type: ignore[no-untyped-call]
    fast = [p.grad.clone() for p in built.parameters() if p.grad is not None]

    masks, noise, height, width = [], rng(3), shape.height, shape.width
    for layer, channels in zip(dropout_layers(built), (16, 32, 32), strict=True):
        layer.rng = noise
        like = torch.empty(16, channels, height, width).contiguous(memory_format=torch.channels_last)
        masks.append(layer.keep(like).float() * layer.scale)
        height, width = -(-height // 2), -(-width // 2)
    built.zero_grad()
    twin = F.cross_entropy(_plain_twin(built, images, masks), labels)
    twin.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(twin.item(), rel=1e-4)
    for mine, parameter in zip(fast, built.parameters(), strict=True):
        assert parameter.grad is not None
        scale = float(parameter.grad.abs().max())
        assert torch.allclose(mine, parameter.grad, atol=2e-4 * scale), (mine - parameter.grad).abs().max() / scale


def test_other_order_pools_first_and_drops_last() -> None:
    built = network("small-cnn", order="conv-relu-pool-drop").train()
    for layer in dropout_layers(built):
        layer.rng = rng(0)
    assert built(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    shapes = []
    hook = dropout_layers(built)[0].register_forward_hook(lambda layer, args, out: shapes.append(tuple(out.shape)))
    built(torch.rand(2, 3, 32, 32))
    hook.remove()
    assert shapes == [(2, 16, 16, 16)]  # after pooling; in the authors' order it would be 32 x 32


def test_keras_stem_pads_its_pool_with_zeros() -> None:
    """science b.3: no ReLU before that pool, so a border of negative values gives 0, not a negative number."""
    built = network("resnet50v2", Shape(3, 64, 64, 10)).eval()
    stem: Any = built.stem
    with torch.no_grad():
        stem.weight.zero_()
        stem.bias.fill_(-1.0)
    seen: list[Tensor] = []
    hook = built.blocks.register_forward_pre_hook(lambda layer, args: seen.append(args[0]))  # type: ignore[union-attr]
    built(torch.zeros(1, 3, 64, 64))
    hook.remove()
    assert seen[0].shape[2:] == (16, 16)
    assert float(seen[0].detach()[0, 0, 0, 0]) == 0.0
    assert float(seen[0].detach()[0, 0, 5, 5]) == -1.0


# --- weights in and out -----------------------------------------------------------------------------------------------


def test_theta_follows_named_parameters_row_by_row() -> None:
    built = network("mlp", Shape(1, 2, 2, 3), first=2, second=2)
    theta = weights.flatten(built)
    expected = np.concatenate([p.detach().numpy().ravel() for _, p in built.named_parameters()])
    assert theta.dtype == np.float32
    assert np.array_equal(theta, expected)
    moved = theta + 1
    weights.assign(built, moved)
    assert np.array_equal(weights.flatten(built), moved)
    with pytest.raises(InvalidInput, match="do not fit"):
        weights.assign(built, moved[:-1])


def test_named_tensors_and_theta_are_two_forms_of_one_thing() -> None:
    built = network("resnet20v1")
    theta = weights.flatten(built)
    named = weights.tensors(built)
    assert np.array_equal(weights.from_tensors(built, named), theta)
    del named["head.bias"]
    with pytest.raises(InvalidInput, match=r"head\.bias"):
        weights.from_tensors(built, named)
    other = network("resnet20v1", seed=9)
    weights.load_tensors(other, weights.tensors(built))
    assert np.array_equal(weights.flatten(other), theta)


def test_refreshed_batch_norm_equals_a_two_pass_computation() -> None:
    """science d.7, against the plain definition: mean and variance over all images of what reaches the layer."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4, momentum=0.3), Dropout(0.5))
    images = torch.randint(0, 256, (700, 2, 6, 6), dtype=torch.uint8)
    split = Split(images, torch.zeros(700, dtype=torch.int64))
    transform = InputTransform("raw255", np.zeros((1, 1, 1, 1), np.float32), np.ones((1, 1, 1, 1), np.float32))
    module.train()
    weights.refresh_batch_norm(module, split, transform, 600)
    norm: Any = module[1]
    with torch.no_grad():
        reached = F.conv2d(images[:600].double(), module[0].weight.double())  # type: ignore[operator]
    assert torch.allclose(norm.running_mean.double(), reached.mean((0, 2, 3)), rtol=1e-5, atol=1e-5)
    # the batches' unbiased variances are averaged; with 600 images in 3 batches of 200 they differ from the whole by
    # the variance between batch means, here under 1 %
    parts = torch.stack([p.var((0, 2, 3)) for p in reached.split(200)]).mean(0)
    assert torch.allclose(norm.running_var.double(), parts, rtol=1e-5)
    assert torch.allclose(norm.running_var.double(), reached.var((0, 2, 3)), rtol=0.01)
    assert norm.momentum == 0.3
    assert norm.training
    before = norm.running_mean.clone()
    weights.refresh_batch_norm(module, split, transform, 600)
    assert torch.equal(before, norm.running_mean)  # starts afresh each time
