"""Networks without a closed form are counted; those of libraries are found by name; widths and depths are options."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from modescape import kept_counts
from modescape.architectures import counting, libraries
from modescape.architectures.architecture import architecture
from modescape.architectures.building import build, has_dropout
from modescape.errors import InvalidInput
from modescape.records import DataInfo
from modescape.registry import architectures
from modescape.science import weights
from modescape.science.data import Shape
from modescape.science.networks import dropout_layers, forced_dropout
from modescape.spec import parse
from modescape.spec_parts import NetworkSpec
from modescape.store import Store

VIT = {"model": "vit_tiny_patch16_224", "arguments": ["patch_size=4", "depth=2", "embed_dim=24", "num_heads=3"]}
GREY = Shape(1, 12, 12, 7)


def network(name: str, options: dict[str, Any], shape: Shape = GREY, seed: int = 1) -> nn.Module:
    return build(NetworkSpec.model_validate({"architecture": name, "options": options}), shape, seed=seed)


def size(module: nn.Module) -> int:
    return sum(one.numel() for one in module.parameters())


def performed(module: nn.Module, shape: Shape) -> int:
    # the processor's fused attention is not among what the counter knows
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module.eval()(torch.zeros(1, *shape[:3]).requires_grad_())
    return counter.get_total_flops() // 2


# --- widths and depths of ours ----------------------------------------------------------------------------------------

SIZES = [
    ("small-cnn", {"width": 5, "depth": 5}), ("medium-cnn", {"width": 3}), ("medium-cnn", {"depth": 2}),
    ("resnet20v1", {"width": 3, "depth": 1}), ("resnet18", {"width": 4, "depth": 3}), ("resnet18", {"width": 2}),
    ("resnet50v2", {"width": 4, "blocks": [1, 2, 1, 3]}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), SIZES)
def test_closed_forms_hold_for_every_width_and_depth(name: str, options: dict[str, Any]) -> None:
    shape, entry = Shape(2, 33, 34, 7), architectures[name]
    built, asked = network(name, options, shape), entry.options.model_validate(options)
    assert entry.parameters(*shape, asked) == size(built)
    assert entry.multiply_adds(*shape, asked) == performed(built, shape)


@pytest.mark.parametrize("name", ["small-cnn", "medium-cnn", "resnet20v1", "resnet18", "resnet50v2"])
def test_a_width_that_is_not_asked_for_is_in_no_spec(name: str) -> None:
    plain = parse({"network": {"architecture": name}})
    usual = architectures[name].options().model_dump()
    assert plain.network.options.keys().isdisjoint({"width", "depth", "blocks"})
    assert parse({"network": {"architecture": name, "options": usual}}) == plain


# --- counting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mlp", "small-cnn", "resnet20v1"])
def test_what_is_counted_of_our_networks_is_what_they_declare(name: str) -> None:
    shape, entry = (3, 17, 19, 4), architectures[name]
    found = counting.counted(entry, shape, entry.options())
    declared = entry.parameters(*shape, entry.options()), entry.multiply_adds(*shape, entry.options())
    assert (found.parameters, found.multiply_adds) == declared
    assert (found.batch_norm, found.dropout, found.refused) == (entry.batch_norm, entry.dropout, "")


@pytest.fixture
def own() -> Iterator[None]:
    """A network in ten lines, declared and forgotten."""
    before = dict(architectures.here)

    @architecture("ten-lines", title="Ten lines", source="a test")
    def ten_lines(channels: int, height: int, width: int, classes: int, options: Any) -> nn.Module:
        """One convolution with batch norm."""
        if torch.linspace(0, 1, 3).tolist()[0] != 0:  # looks at values, which the meta device does not have
            raise AssertionError
        return nn.Sequential(
            nn.Conv2d(channels, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(6, classes),
        )  # fmt: skip

    yield
    architectures.keep(before)


@pytest.mark.usefixtures("own")
def test_a_network_of_ones_own_needs_no_closed_form() -> None:
    entry = architectures["ten-lines"]
    assert entry.parameters(3, 12, 10, 4, entry.options()) == 3 * 6 * 9 + 6 + 12 + 6 * 4 + 4
    assert entry.multiply_adds(3, 12, 10, 4, entry.options()) == 9 * 3 * 6 * 10 * 8 + 6 * 4
    assert entry.has_batch_norm({})
    info = DataInfo(**{**_info(), "height": 2})
    assert not has_dropout(NetworkSpec(architecture="ten-lines"), info)
    found = counting.count("ten-lines", (3, 2, 2, 4), entry.options())
    assert found is not None
    assert "Kernel size" in found.refused


def _info() -> dict[str, Any]:
    from modescape.datasets.here import published

    return vars(published("digits")) | {}


@pytest.mark.usefixtures("own")
def test_a_class_is_declared_like_a_function() -> None:
    @architecture("my-class", title="A class", source="a test")
    class Own(nn.Sequential):
        """Linear."""

        def __init__(self, channels: int, height: int, width: int, classes: int, options: Any) -> None:
            super().__init__(nn.Flatten(), nn.Linear(channels * height * width, classes))

    assert architectures["my-class"].parameters(1, 2, 3, 4, architectures["my-class"].options()) == 4 * 6 + 4
    assert isinstance(network("my-class", {}), Own)


@pytest.mark.usefixtures("own")
def test_counting_changes_no_random_number() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    counting.counted(architectures["ten-lines"], (3, 12, 12, 4), None)
    assert torch.equal(torch.rand(3), expected)


# --- networks of libraries --------------------------------------------------------------------------------------------


def test_names_read_from_sources_are_those_the_libraries_list() -> None:
    assert libraries.names_of("timm") == set(timm.list_models())
    assert libraries.names_of("torchvision") == set(torchvision.models.list_models(module=torchvision.models))
    assert libraries.names_of("no_such_library") == frozenset()


@pytest.mark.parametrize(
    ("name", "options", "batch_norm"),
    [
        ("timm", VIT, False),
        ("timm", {"model": "resnet10t"}, True),
        ("torchvision", {"model": "mobilenet_v3_small"}, True),
        ("torchvision", {"model": "vit_b_16", "image_size": 16, "arguments": ["num_layers=1"]}, None),
    ],
)
def test_models_take_images_of_the_data_and_are_counted(
    name: str, options: dict[str, Any], batch_norm: bool | None
) -> None:
    if batch_norm is None:  # this builder sets the number of layers itself: the library's refusal, in words
        with pytest.raises(InvalidInput, match="cannot build vit_b_16"):
            network(name, options)
        return
    built, entry = network(name, options), architectures[name]
    logits = built.eval()(torch.randn(2, *GREY[:3]))
    assert logits.shape == (2, 7)
    asked = entry.options.model_validate(options)
    assert entry.parameters(*GREY, asked) == size(built)
    assert entry.multiply_adds(*GREY, asked) == performed(built, GREY)
    assert entry.has_batch_norm(asked.model_dump()) is weights.has_batch_norm(built) is batch_norm


@pytest.mark.parametrize(("name", "options"), [("timm", VIT), ("torchvision", {"model": "squeezenet1_1"})])
def test_first_weights_are_the_seed_s_and_no_others(name: str, options: dict[str, Any]) -> None:
    shape = Shape(3, 32, 32, 4)
    torch.manual_seed(9)
    one, other = (weights.flatten(network(name, options, shape, seed)) for seed in (1, 2))
    torch.rand(7)
    assert np.array_equal(one, weights.flatten(network(name, options, shape, 1)))
    assert not np.array_equal(one, other)


def test_images_are_scaled_to_the_side_that_is_asked_for() -> None:
    built = network("timm", VIT | {"image_size": 24}).eval()
    seen: list[torch.Size] = []
    built.patch_embed.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape))  # type: ignore[union-attr,operator]
    flat = torch.full((2, *GREY[:3]), 0.25)
    assert torch.allclose(built(flat), built(torch.full((2, 1, 24, 24), 0.25)), atol=1e-5)
    assert seen == [(2, 1, 24, 24)] * 2


@pytest.mark.parametrize("options", [VIT | {"dropout": 0.2}, {"model": "resnet10t", "dropout": 0.2}])
def test_dropout_can_be_forced_for_monte_carlo_samples(options: dict[str, Any]) -> None:
    built = network("timm", options).eval()
    assert {layer.rate for layer in dropout_layers(built)} == {0.2}
    images = torch.randn(3, *GREY[:3])
    with torch.no_grad():
        plain = built(images)
        with forced_dropout(built, 0.3, np.random.Generator(np.random.SFC64(0)), fixed=True):
            dropped = built(images)
            assert torch.equal(dropped, built(images))
        assert not torch.allclose(plain, dropped)
        assert torch.equal(plain, built(images))


def test_a_wrong_name_is_answered_with_those_it_resembles() -> None:
    with pytest.raises(InvalidInput, match=r"did you mean .*vit_tiny_patch16_224"):
        parse({"network": {"architecture": "timm", "options": {"model": "vit_tiny_patch16"}}})
    with pytest.raises(InvalidInput, match="torchvision has no model 'resnet19'; did you mean resnet18"):
        parse({"network": {"architecture": "torchvision", "options": {"model": "resnet19"}}})


def test_arguments_are_names_and_values_in_a_text_or_an_object() -> None:
    given = {"patch_size": 4, "depths": [1, 2], "qk_norm": True, "norm_layer": "rmsnorm", "drop_path_rate": 0.5}
    options = architectures["timm"].options.model_validate({"arguments": given})
    assert options.arguments[:3] == ("patch_size=4", "depths=1+2", "qk_norm=true")  # type: ignore[attr-defined]
    assert options.more == given | {"depths": (1, 2)}  # type: ignore[attr-defined]
    with pytest.raises(InvalidInput, match=r"network\.options"):
        parse({"network": {"architecture": "timm", "options": {"arguments": ["patch size 4"]}}})


# --- a server asks, a worker counts -----------------------------------------------------------------------------------


def test_a_process_without_torch_asks_and_a_worker_answers(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    entry, options = architectures["timm"], architectures["timm"].options.model_validate(VIT)
    expected = counting.counted(entry, tuple(GREY), options)
    monkeypatch.setattr(counting, "_known", {})
    monkeypatch.setattr(counting, "_wanted", {})
    with monkeypatch.context() as server:
        server.setitem(sys.modules, "torch", None)
        assert entry.parameters(*GREY, options) == 0
        assert len(counting.wanted()) == 1
        assert not kept_counts.ask(store.catalogue)
        assert not kept_counts.ask(store.catalogue)  # and not a second row
    assert len(store.catalogue.entries(kept_counts.SIZE)) == 1
    monkeypatch.setattr(kept_counts, "_in_child", kept_counts.counted)
    assert kept_counts.answer(store.catalogue, "w0") == 1
    assert kept_counts.answer(store.catalogue, "w1") == 0
    store.catalogue.publish({}, lambda _: True)  # a worker that starts sweeps what is said of plug-ins only
    with monkeypatch.context() as server:
        server.setitem(sys.modules, "torch", None)
        assert kept_counts.ask(store.catalogue)
        assert counting.wanted() == {}
        assert entry.parameters(*GREY, options) == expected.parameters
        assert entry.multiply_adds(*GREY, options) == expected.multiply_adds


@pytest.mark.slow
def test_a_worker_counts_in_a_process_of_its_own() -> None:
    options = architectures["timm"].options.model_validate(VIT)
    question = counting.Question("timm", tuple(GREY), options.model_dump(mode="json"))
    other = counting.Question("no-such-net", tuple(GREY), {})
    found = kept_counts._in_child({
        question.key: vars(question) | {"shape": list(GREY)},
        "f" * 64: {"architecture": other.architecture, "shape": list(GREY), "options": {}},
    })  # fmt: skip
    assert found == {question.key: vars(counting.counted(architectures["timm"], tuple(GREY), options))}


@pytest.mark.parametrize(
    ("library", "argument"),
    [
        ("timm", "checkpoint_path=/tmp/ok.pt"),
        ("timm", "pretrained=true"),
        ("timm", "pretrained_cfg_overlay=x"),
        ("timm", "cache_dir=/tmp"),
        ("torchvision", "weights=DEFAULT"),
        ("torchvision", "weights_backbone=DEFAULT"),
    ],
)
def test_weights_of_a_library_come_from_the_seed_and_from_nowhere_else(library: str, argument: str) -> None:
    with pytest.raises(InvalidInput, match=r"would take weights.*initial_weights") as refused:
        parse({"network": {"architecture": library, "options": {"arguments": [argument]}}})
    assert refused.value.field == "network.options.arguments"
