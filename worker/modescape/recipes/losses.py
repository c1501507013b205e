"""Losses: means over a batch of logits [n, K] against classes [n] or shares of classes [n, K].

The training curve shows the loss that was trained on. Validation and every measure of a function are those of all
experiments, whatever was trained on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from modescape.recipes.recipe import loss
from modescape.registry import NoOptions, Options

if TYPE_CHECKING:
    from torch import Tensor


@loss("cross-entropy", title="Cross entropy", source="science c.2", place=10)
def cross_entropy(logits: Tensor, targets: Tensor, options: NoOptions) -> Tensor:
    """Minus the logarithm of the right class's probability."""
    from torch.nn import functional

    return functional.cross_entropy(logits, targets)


class SmoothingOptions(Options):
    smoothing: float = Field(0.1, ge=0, lt=1, description="Share of the target that is spread over all classes evenly.")


@loss(
    "label-smoothing", title="Label smoothing", source="Szegedy et al. 2016, section 7", options=SmoothingOptions,
    place=20,
)  # fmt: skip
def label_smoothing(logits: Tensor, targets: Tensor, options: SmoothingOptions) -> Tensor:
    """Cross entropy against targets of which a share is spread over all classes."""
    from torch.nn import functional

    return functional.cross_entropy(logits, targets, label_smoothing=options.smoothing)


class FocalOptions(Options):
    gamma: float = Field(2.0, ge=0, le=20, description="How much less examples count that are right already; 0: none.")


@loss("focal", title="Focal loss", source="Lin et al. 2017, equation 4", options=FocalOptions, place=30)
def focal(logits: Tensor, targets: Tensor, options: FocalOptions) -> Tensor:
    """Cross entropy in which classes count less the more probable they are already."""
    logs = logits.log_softmax(-1)
    missing = (-logs.expm1()).clamp_min(1e-6)  # 1 - p; at 0 the slope of a power below 1 is infinite
    return -(_shares(logits, targets) * missing**options.gamma * logs).sum(-1).mean()


@loss("brier", title="Brier score", source="Brier 1950", place=40)
def brier(logits: Tensor, targets: Tensor, options: NoOptions) -> Tensor:
    """Squared distance of the probabilities from the target, summed over classes."""
    return ((logits.softmax(-1) - _shares(logits, targets)) ** 2).sum(-1).mean()


def _shares(logits: Tensor, targets: Tensor) -> Tensor:
    from torch.nn.functional import one_hot

    return targets if targets.is_floating_point() else one_hot(targets, logits.shape[-1]).to(logits.dtype)
