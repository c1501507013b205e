"""What one step of a training sees: its place in the whole, and its examples. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Moment:
    """The update that makes step + 1 out of `step`; steps: of the whole training; per_epoch: of one epoch."""

    step: int
    steps: int
    per_epoch: int

    @property
    def epoch(self) -> int:
        """Whole epochs before it."""
        return self.step // self.per_epoch

    @property
    def epochs(self) -> float:
        """Epochs before it, parts too."""
        return self.step / self.per_epoch


@dataclass(frozen=True, eq=False)
class Examples:
    """A batch of training examples.

    images: [n, C, H, W], uint8 or float32 pixels of 0 to 255, before the input scale; labels: int64 [n], the class that
    an answer is right by; classes: how many there are; shares: float32 [n, K], how much of each class is in an example,
    None where all of it is its label's.
    """

    images: Tensor
    labels: Tensor
    classes: int
    shares: Tensor | None = None

    @property
    def targets(self) -> Tensor:
        """What a loss is asked with: shares [n, K] where there are any, else labels [n]."""
        return self.labels if self.shares is None else self.shares

    def known_shares(self) -> Tensor:
        """Shares [n, K], of unmixed examples one-hot."""
        from torch.nn.functional import one_hot

        return one_hot(self.labels, self.classes).float() if self.shares is None else self.shares
