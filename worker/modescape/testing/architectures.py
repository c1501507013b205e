"""What every network keeps to: what is declared without torch is what torch builds."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel

from modescape.errors import InvalidInput, StageError
from modescape.registry import Architecture, architectures
from modescape.testing.contract import SHARED, Checked, Contract, at_bounds, concerns, equal, expect, module_of

if TYPE_CHECKING:
    import torch

    from modescape.science.data import Shape


@dataclass(frozen=True)
class Trial:
    entry: Architecture

    @property
    def module(self) -> str:
        return module_of(self.entry.call)

    @property
    def side(self) -> int:
        return max(self.entry.min_side, 9)  # odd sides show whether sizes round up

    @cached_property
    def shape(self) -> Shape:
        from modescape.science.data import Shape

        return Shape(3, self.side, self.side, 7)

    @cached_property
    def grey(self) -> Shape:
        """The smallest images it takes, of one channel, not square."""
        from modescape.science.data import Shape

        return Shape(1, self.entry.min_side, self.entry.min_side + 3, 2)

    def build(self, seed: int, options: BaseModel | None = None, shape: Shape | None = None) -> torch.nn.Module:
        from modescape.architectures.building import build
        from modescape.spec_parts import NetworkSpec

        chosen = {} if options is None else options.model_dump()
        asked = NetworkSpec(architecture=self.entry.name, options=chosen)
        return build(asked, shape or self.shape, seed=seed)

    @cached_property
    def built(self) -> torch.nn.Module:
        return self.build(1)

    @cached_property
    def built_grey(self) -> torch.nn.Module:
        return self.build(1, shape=self.grey)

    def images(self, shape: Shape, n: int = 4) -> torch.Tensor:
        import torch

        return torch.randn(n, *shape[:3], generator=torch.Generator().manual_seed(1))


ARCHITECTURE: Contract[Trial] = Contract("architecture", *SHARED)


@ARCHITECTURE.rule
def _parameters(trial: Trial) -> None:
    """It has as many weights as it declares, for images in colour and grey."""
    for shape, built in ((trial.shape, trial.built), (trial.grey, trial.built_grey)):
        _same_parameters(trial.entry, built, shape, trial.entry.options(), f"images {shape[:3]}")


@ARCHITECTURE.rule
def _multiply_adds(trial: Trial) -> None:
    """Its forward pass takes as many multiplications of its layers' kernels as it declares, counted by torch while it
    runs."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    trial.built.eval()
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # of fused attention it knows none
        trial.built(trial.images(trial.shape, 1).requires_grad_())  # else a first layer may take another way
    declared = trial.entry.multiply_adds(*trial.shape, trial.entry.options())
    equal("number of multiply-adds for one image, as declared,", declared, counter.get_total_flops() // 2)


@ARCHITECTURE.rule
def _layers(trial: Trial) -> None:
    """It has batch normalisation, and layers of dropout, exactly where it declares them."""
    from modescape.science import weights
    from modescape.science.networks import dropout_layers
    from modescape.training import torch_dropout

    has = trial.entry.has_batch_norm(trial.entry.options().model_dump())
    equal("`batch_norm`", has, weights.has_batch_norm(trial.built))
    if trial.entry.dropout is not None:
        plain = torch_dropout(trial.built) is not None
        equal("`dropout`", trial.entry.dropout, plain or bool(dropout_layers(trial.built)))


@ARCHITECTURE.rule
def _logits(trial: Trial) -> None:
    """It takes float32 images [N, C, H, W] from its smallest side up and gives finite float32 logits [N, K]."""
    for shape, built in ((trial.shape, trial.built), (trial.grey, trial.built_grey)):
        logits = _evaluated(built, trial.images(shape))
        equal(f"logits' shape for images {shape[:3]}", tuple(logits.shape), (4, shape.classes))
        equal("logits' type", str(logits.dtype), "torch.float32")
        expect(logits.isfinite().all(), f"Some logits for images {shape[:3]} are not finite.")


@ARCHITECTURE.rule
def _seeds(trial: Trial) -> None:
    """Equal seeds give equal first weights, bit for bit, and others give others."""
    import torch

    own, again, other = (tuple(built.parameters()) for built in (trial.built, trial.build(1), trial.build(2)))
    expect(all(map(torch.equal, own, again)), "Two networks of one seed have different weights.")
    expect(not all(map(torch.equal, own, other)), "Networks of different seeds have the same weights.")


@ARCHITECTURE.rule
def _independent(trial: Trial) -> None:
    """In evaluation an image's logits do not depend on the images beside it, nor on when it is asked."""
    import torch

    images = trial.images(trial.shape)
    whole, again = (_evaluated(trial.built, images) for _ in range(2))
    expect(torch.equal(whole, again), "The same images have other logits the second time.")
    alone = _evaluated(trial.built, images[2:3])
    tolerance = 1e-4 * (1 + float(whole.abs().max()))
    expect(torch.allclose(alone, whole[2:3], atol=tolerance), "An image alone has other logits than in a batch.")


@ARCHITECTURE.rule
def _trains(trial: Trial) -> None:
    """A step of training reaches every weight: none is without a gradient, and all gradients are finite."""
    import torch
    from torch.nn import functional

    from modescape.science.networks import dropout_layers

    built, rng = trial.build(3), np.random.Generator(np.random.SFC64(0))
    for layer in dropout_layers(built):
        layer.rng = rng
    functional.cross_entropy(built.train()(trial.images(trial.shape)), torch.arange(4) % 7).backward()  # type: ignore[no-untyped-call]
    unused = [name for name, one in built.named_parameters() if one.grad is None]
    expect(not unused, f"No gradient reaches {', '.join(unused[:3])}: weights that nothing uses are not trained.")
    broken = [name for name, one in built.named_parameters() if one.grad is not None and not one.grad.isfinite().all()]
    expect(not broken, f"The gradient of {', '.join(broken[:3])} is not finite.")


@ARCHITECTURE.rule
def _travels(trial: Trial) -> None:
    """Its weights and statistics travel as plain arrays: written as safetensors, without pickle, and read into a fresh
    network they make the same function."""
    import torch

    from modescape.artifacts import Artifacts
    from modescape.science import weights

    with tempfile.TemporaryDirectory() as folder:
        files = Artifacts(Path(folder))
        kept = files.put_tensors(weights.tensors(trial.built), "weights")
        other = trial.build(2)
        weights.load_tensors(other, files.tensors(kept.digest))
    images = trial.images(trial.shape)
    same = torch.equal(_evaluated(other, images), _evaluated(trial.built, images))
    expect(same, "Read into a fresh network, its weights and statistics make another function.")


@ARCHITECTURE.rule
def _wired(trial: Trial) -> None:
    """With its hidden units in another order, as it says or as its forward pass shows, it is the same function; where
    there are none it is never aligned."""
    import torch

    from modescape.science import alignment, weights

    concerns(not trial.entry.why_not_aligned)
    module = trial.build(3)
    _unlike_fresh(module)
    images, own = trial.images(trial.shape), weights.tensors(module)
    before = _evaluated(module, images)
    try:
        symmetry = alignment.symmetry_of(trial.entry, module, images)
    except StageError:
        concerns(trial.entry.wiring)
        raise
    expect(symmetry.sizes, "Its wiring names no units.")
    moved = symmetry.permuted(own, symmetry.shuffled(np.random.default_rng(0)))
    expect(any(not np.array_equal(moved[key], own[key]) for key in own), "Its wiring moves no weight.")
    weights.load_tensors(module, moved)
    away = float((_evaluated(module, images) - before).abs().max())
    limit = (1e-5 if trial.entry.wiring is not None else 1e-4) * float(before.abs().max())
    same = torch.isfinite(before).all() and away <= limit
    expect(same, f"With its units in another order, logits are up to {away:.3g} from what they were.")


@ARCHITECTURE.rule
def _bounds(trial: Trial) -> None:
    """With each option at its bounds, and at each of its choices, it has as many weights as it then declares, or says
    in words (as InvalidInput) what is not allowed."""
    for words, options in at_bounds(trial.entry.options):
        try:
            built = trial.build(1, options, trial.grey)
        except InvalidInput as error:
            expect(error.field or error.allowed, f"With {words} it refuses without saying what is allowed: {error}")
        else:
            _same_parameters(trial.entry, built, trial.grey, options, words)


def _same_parameters(entry: Architecture, built: torch.nn.Module, shape: Shape, options: BaseModel, words: str) -> None:
    found = sum(one.numel() for one in built.parameters())
    equal(f"number of weights with {words}, as declared,", entry.parameters(*shape, options), found)


def _evaluated(module: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    import torch

    with torch.no_grad():
        logits: torch.Tensor = module.eval()(images)
    return logits


def _unlike_fresh(module: torch.nn.Module) -> None:
    """Scales, offsets and statistics of batch normalisation that are all different, as after training."""
    import torch

    rng = np.random.default_rng(3)
    for values, low, high in _statistics(module):
        values.copy_(torch.from_numpy(rng.uniform(low, high, tuple(values.shape)).astype(np.float32)))


def _statistics(module: torch.nn.Module) -> Iterator[tuple[Any, float, float]]:
    from torch.nn.modules.batchnorm import _BatchNorm

    for layer in module.modules():
        if isinstance(layer, _BatchNorm):
            for values in (layer.weight, layer.running_var):
                if values is not None:
                    yield values.detach(), 0.5, 1.5
            for values in (layer.bias, layer.running_mean):
                if values is not None:
                    yield values.detach(), -0.3, 0.3


@ARCHITECTURE.lists
def check_architecture(entry: Architecture | str) -> Checked:
    """Is this a network as `modescape.architectures.architecture` asks? Built here, on images of 9 pixels a side, or of
    its smallest side; loads torch.

    Raises ContractBroken with the first rule that does not hold.
    """
    entry = architectures[entry] if isinstance(entry, str) else entry
    return ARCHITECTURE.check(entry.name, Trial(entry))
