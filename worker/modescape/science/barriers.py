"""What lies between two networks? Loss, accuracy and labels along any path of weight vectors, and its barrier.

    t = fractions(25)
    found = profile(network, straight(a, b, t), {"train": train, "test": test}, transform)
    barrier(found["train"].loss, t)                  # 0 when the straight line never rises above its chord

A path is any sequence of weight vectors; `profile` places one point after another, so it may be a generator.
Batch-norm statistics belong to one vector of weights: given images to estimate them on, they are estimated again at
every point of a path, its ends included, so that all points are treated alike (science d.7, l.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modescape.science.predictions import Logits, Placed, accuracy, nll, predict_in_groups

if TYPE_CHECKING:
    import torch

    from modescape.science.data import InputTransform, Split

Floats = NDArray[np.float64]
Theta = NDArray[np.float32]

BATCH_NORM_IMAGES = 2000


@dataclass(frozen=True, eq=False)
class Profile:
    """What the points of a path predict on one split: loss [T] in nats, accuracy [T], labels [T, N]."""

    loss: Floats
    accuracy: Floats
    labels: NDArray[np.int64]

    @property
    def error(self) -> Floats:
        """1 - accuracy, [T]."""
        return 1.0 - self.accuracy

    def agreement(self, labels: NDArray[np.integer[Any]]) -> Floats:
        """Share of examples on which each point predicts `labels` [N]; [T]."""
        return np.asarray((self.labels == labels).mean(axis=1))


def fractions(points: int) -> Floats:
    """Where the points of a path lie: evenly from 0 to 1, both included."""
    return np.linspace(0.0, 1.0, points)


def straight(start: Theta, end: Theta, t: Floats) -> Iterator[Theta]:
    """The points (1 - t) start + t end, computed in float64; the ends are exactly the ends."""
    first, last = start.astype(np.float64), end.astype(np.float64)
    for share in t:
        yield ((1.0 - share) * first + share * last).astype(np.float32)


def profile(
    network: torch.nn.Module,
    thetas: Iterable[Theta],
    splits: Mapping[str, Split],
    transform: InputTransform,
    *,
    statistics: Split | None = None,
    device: str | torch.device = "cpu",
    check: Callable[[], None] | None = None,
    told: Callable[[int], None] | None = None,
) -> dict[str, Profile]:
    """Evaluate weight vectors [P] on every split; a Profile for each, by name.

    told hears how many points are done; the rest as in `logits_along`.
    """
    truth = {name: split.numpy_labels() for name, split in splits.items()}
    loss: dict[str, list[float]] = {name: [] for name in splits}
    right: dict[str, list[float]] = {name: [] for name in splits}
    labels: dict[str, list[NDArray[np.int64]]] = {name: [] for name in splits}
    points = logits_along(network, thetas, splits, transform, statistics=statistics, device=device, check=check)
    for done, found in enumerate(points, 1):
        for name, logits in found.items():
            loss[name].append(nll(logits, truth[name]))
            right[name].append(accuracy(logits, truth[name]))
            labels[name].append(logits.argmax(axis=-1))
        if told is not None:
            told(done)
    return {name: Profile(np.array(loss[name]), np.array(right[name]), np.array(labels[name])) for name in splits}


def logits_along(
    network: torch.nn.Module,
    thetas: Iterable[Theta],
    splits: Mapping[str, Split],
    transform: InputTransform,
    *,
    statistics: Split | None = None,
    device: str | torch.device = "cpu",
    check: Callable[[], None] | None = None,
) -> Iterator[dict[str, Logits]]:
    """Logits of weight vectors [P] on every split; several are predicted at a time.

    statistics: training images for batch-norm statistics (the first 2,000 are used), left as they are without;
    check may raise to stop. The network's own weights are overwritten.
    """
    from modescape.science import weights

    def placed() -> Iterator[Placed[None]]:
        for theta in thetas:
            weights.assign(network, theta)
            if statistics is not None:
                weights.refresh_batch_norm(network, statistics, transform, BATCH_NORM_IMAGES)
            yield Placed(None, network)

    for group in predict_in_groups(placed(), splits, transform, device=device, check=check):
        for _, logits in group:
            yield logits


def barrier(losses: Floats, t: Floats) -> float:
    """How far a path rises above its chord: max over t of L(t) - ((1 - t) L(0) + t L(1)), never below 0.

    losses [T] of any kind (nats, error rate) at fractions t [T] that begin with 0 and end with 1 (Frankle et al. 2020,
    but for their mean of the ends in place of the chord; Entezari et al. 2022, definition 2.1).
    """
    chord = (1.0 - t) * losses[0] + t * losses[-1]
    return float(np.max(losses - chord))
