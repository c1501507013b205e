"""Low-loss paths between two optima, and the planes stitched along them (science f.2, f.3).

    path, knots = perpendicular(slope, a, b, settings, knots=9, loss=loss)      # after Fort and Jastrzebski 2019
    for theta in path.at(np.linspace(0, 1, 61)): ...                            # weight vectors [P]

Every method minimises the training loss the way it is evaluated: dropout off, batch-norm statistics of the batch.
What a step does depends on nothing but the seed, which knot is trained, and the step; which knots are made, on nothing
but those made before. A path that was interrupted after any knot and resumed is the same, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from modescape.errors import Diverged

if TYPE_CHECKING:
    import torch

    from modescape.science.data import InputTransform, Split

Floats = NDArray[np.float64]
Theta = NDArray[np.float32]
Bend = Literal["bezier", "chain"]

# A knot is done when its smoothed loss is this many times the worse end's; where a segment between knots lies higher
# than the second, its middle becomes a knot.
DONE, INSERT = 1.0, 1.05
ROUNDS = 3  # of looking for such segments
INSIDE = 5  # points looked at inside a segment
SMOOTHED = 100  # steps that a loss is averaged over


# --- paths ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Polyline:
    """Straight segments through knots [K + 2, P], ends included; fractions of its length are read off `length`."""

    knots: NDArray[np.float32]

    @cached_property
    def length(self) -> Floats:
        """Length up to each knot over the whole length, [K + 2], from 0 to 1."""
        steps = np.linalg.norm(np.diff(self.knots.astype(np.float64), axis=0), axis=1)
        total = np.concatenate([[0.0], np.cumsum(steps)])
        return np.asarray(total / total[-1])

    def at(self, t: Floats) -> Iterator[Theta]:
        """The points at fractions t of the length; the knots themselves are exact."""
        length = self.length
        for share in t:
            k = int(np.clip(np.searchsorted(length, share, side="right") - 1, 0, len(length) - 2))
            inside = (share - length[k]) / (length[k + 1] - length[k])
            first, last = self.knots[k].astype(np.float64), self.knots[k + 1].astype(np.float64)
            yield ((1.0 - inside) * first + inside * last).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Curve:
    """One trained bend C between two ends (Garipov et al. 2018, equations 3 and 4).

    bezier: (1-t)^2 A + 2t(1-t) C + t^2 B; chain: A to C for t < 1/2, then C to B.
    """

    start: Theta
    bend: Theta
    end: Theta
    kind: Bend

    @staticmethod
    def weights(kind: Bend, t: float) -> tuple[float, float, float]:
        """What A, C and B count at t."""
        if kind == "bezier":
            return (1 - t) ** 2, 2 * t * (1 - t), t**2
        return (1 - 2 * t, 2 * t, 0.0) if t < 0.5 else (0.0, 2 - 2 * t, 2 * t - 1)

    def at(self, t: Floats) -> Iterator[Theta]:
        """The points at t."""
        for share in t:
            a, c, b = self.weights(self.kind, float(share))
            yield (a * self.start.astype(np.float64) + c * self.bend + b * self.end).astype(np.float32)


# --- finding them -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a path is trained: Adam's rate, images a step, most epochs a knot (or the bend), and the seed."""

    epochs: int
    learning_rate: float
    batch_size: int
    seed: int


@dataclass(frozen=True, eq=False)
class Slope:
    """The training loss to go down on: a network to put weights in, its images, their transform, and the device.

    check is called before every step and may raise to stop; told hears the loss after it.
    """

    network: torch.nn.Module
    train: Split
    transform: InputTransform
    device: str = "cpu"
    check: Callable[[], None] = lambda: None
    told: Callable[[float], None] = lambda loss: None

    def steps(self, settings: Settings) -> int:
        """Steps at most; a few epochs of a few images would be too few to average a loss over."""
        return max(SMOOTHED, settings.epochs * self.steps_per_epoch(settings))

    def steps_per_epoch(self, settings: Settings) -> int:
        return max(1, len(self.train) // settings.batch_size)


@dataclass(frozen=True, eq=False)
class Knot:
    """A trained knot: its place t on the straight line, its weights, the steps it took and its smoothed loss."""

    t: float
    theta: Theta
    steps: int
    loss: float


def perpendicular(
    slope: Slope,
    start: Theta,
    end: Theta,
    settings: Settings,
    *,
    knots: int,
    loss: Callable[[Sequence[Theta]], Floats],
    done: Sequence[Knot] = (),
    save: Callable[[Sequence[Knot]], None] = lambda knots: None,
) -> tuple[Polyline, list[Knot]]:
    """Knots on the straight line, each moved at right angles to it until its training loss is that of the worse end.

    After Fort and Jastrzebski 2019; optimiser, order and stopping are ours, theirs are not published. A knot starts
    from its place on the line, moved as its outer neighbour was; it takes at least a hundred steps. Where a segment
    between two knots still lies above 1.05 times the worse end, its middle becomes a knot, at most three rounds.

    loss: training loss of weight vectors, [n] in nats; done: knots of an interrupted attempt, in the order they were
    made; save hears of all knots after each. Returns the path and its knots in the order they were made.

    Resuming makes every decision again, from the knots that were there when it was made first, and takes a finished
    knot instead of training it: a round that was interrupted ends with the knots it would have ended with.
    """
    first, last = start.astype(np.float64), end.astype(np.float64)
    along = ((last - first) / np.linalg.norm(last - first)).astype(np.float32)
    worse = float(loss([start, end]).max())
    made: list[Knot] = []
    finished = list(done)

    def make(t: float, theta: Floats) -> None:
        if finished and finished[0].t == t:
            made.append(finished.pop(0))
            return
        finished.clear()  # saved by a version that decided otherwise: they do not follow from those before
        begun = theta.astype(np.float32)
        moved, steps, reached = _to_low_loss(slope, begun, along, settings, knot=len(made), enough=DONE * worse)
        made.append(Knot(t, moved, steps, reached))
        save(made)

    places = [(i + 1) / (knots + 1) for i in range(knots)]
    for n, i in enumerate(_outside_in(knots)):
        # the two before it are its outer neighbour and the one on the other side
        shift = made[n - 2].theta - ((1 - made[n - 2].t) * first + made[n - 2].t * last) if n >= 2 else 0.0
        make(places[i], (1 - places[i]) * first + places[i] * last + shift)
    for _ in range(ROUNDS):
        path = _sorted(start, made, end)
        inner = np.linspace(0, 1, INSIDE + 2)[1:-1]
        high = []
        for left, right in pairwise(path):
            segment = Polyline(np.stack([left.theta, right.theta]))
            if float(loss(list(segment.at(inner))).max()) > INSERT * worse:
                high.append((left, right))
        for left, right in high:
            make((left.t + right.t) / 2, (left.theta.astype(np.float64) + right.theta) / 2)
        if not high:
            break
    return Polyline(np.stack([knot.theta for knot in _sorted(start, made, end)])), made


def _outside_in(count: int) -> list[int]:
    """0, n-1, 1, n-2, ...: from both ends towards the middle."""
    return [i // 2 if i % 2 == 0 else count - 1 - i // 2 for i in range(count)]


def _sorted(start: Theta, knots: Sequence[Knot], end: Theta) -> list[Knot]:
    ends = [Knot(0.0, start, 0, math.nan), Knot(1.0, end, 0, math.nan)]
    return sorted([*ends, *knots], key=lambda knot: knot.t)


def _to_low_loss(
    slope: Slope, theta: Theta, along: Theta, settings: Settings, *, knot: int, enough: float
) -> tuple[Theta, int, float]:
    """(weights, steps, mean loss of the last hundred steps): Adam from `theta`, what a step adds along the unit vector
    `along` taken away again, until the mean loss of a hundred steps is not above `enough`, or the epochs are over."""
    import torch

    with _Descent(slope, theta, settings) as descent:
        direction = torch.from_numpy(along).to(descent.theta.device)
        anchor = float(direction @ descent.theta)
        losses: list[float] = []
        for step in range(slope.steps(settings)):
            losses.append(descent.gradient_at(step, knot))
            with torch.no_grad():
                descent.adam.update(descent.theta, descent.gradient, settings.learning_rate)
                descent.theta.add_(direction, alpha=anchor - float(direction @ descent.theta))
            if len(losses) % SMOOTHED == 0 and float(np.mean(losses[-SMOOTHED:])) <= enough:
                break
        return descent.weights(descent.theta), len(losses), float(np.mean(losses[-SMOOTHED:]))


def bend(
    slope: Slope,
    start: Theta,
    end: Theta,
    kind: Bend,
    settings: Settings,
    *,
    resume: Mapping[str, NDArray[Any]] | None = None,
    save: Callable[[int, dict[str, NDArray[Any]]], None] = lambda steps, state: None,
) -> tuple[Curve, int, float]:
    """Train the one bend of a curve: every step at a point t drawn uniformly (Garipov et al. 2018, equation 2), without
    weight decay. It starts halfway between the ends.

    resume: the state that `save` was last given; save hears of the steps done and the state after every epoch. Returns
    the curve, the steps, and the mean loss of the last hundred (over points of the curve).
    """
    import torch

    middle = ((start.astype(np.float64) + end) / 2).astype(np.float32)
    with _Descent(slope, middle, settings) as descent:
        device = descent.theta.device
        first, last = torch.from_numpy(start).to(device), torch.from_numpy(end).to(device)
        free = descent.theta.clone()
        state = {"theta": free, **descent.adam.moments}
        begun, losses = 0, []
        if resume is not None:
            for name, values in state.items():
                values.copy_(torch.from_numpy(np.array(resume[name])))
            losses = [float(value) for value in resume["losses"]]
            begun = descent.adam.updates = int(resume["step"])
        per_epoch = slope.steps_per_epoch(settings)
        for step in range(begun, slope.steps(settings)):
            t = float(np.random.Generator(np.random.Philox(key=np.array([settings.seed, step], np.uint64))).random())
            a, c, b = Curve.weights(kind, t)
            with torch.no_grad():
                descent.theta.copy_(a * first + c * free + b * last)
            losses = [*losses[-SMOOTHED + 1 :], descent.gradient_at(step, 0)]
            with torch.no_grad():
                descent.gradient.mul_(c)
                descent.adam.update(free, descent.gradient, settings.learning_rate)
            if (step + 1) % per_epoch == 0:
                kept = {name: descent.weights(values) for name, values in state.items()}
                save(step + 1, kept | {"step": np.array(step + 1), "losses": np.array(losses)})
        return Curve(start, descent.weights(free), end, kind), slope.steps(settings), float(np.mean(losses))


class _Descent:
    """A network whose parameters are views of one flat tensor, for the time of a `with`; its gradient at any batch."""

    def __init__(self, slope: Slope, theta: Theta, settings: Settings) -> None:
        from modescape.science.arithmetic import arithmetic
        from modescape.science.optimisers import Adam, flatten_in_place
        from modescape.science.weights import assign

        self.slope, self.settings = slope, settings
        assign(slope.network, theta)
        slope.network.to(slope.device)
        self.theta, self.gradient = flatten_in_place(slope.network)
        self.adam = Adam(self.theta, epsilon=1e-8)
        self._arithmetic = arithmetic(slope.device)

    def __enter__(self) -> _Descent:
        from torch import nn

        self._arithmetic.__enter__()
        self.slope.network.eval()  # dropout off; batch norm by the batch: no statistics belong to weights that move
        for layer in self.slope.network.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.train()
        return self

    def __exit__(self, *raised: object) -> None:
        self.slope.network.eval()
        self._arithmetic.__exit__(None, None, None)

    def gradient_at(self, step: int, knot: int) -> float:
        """Put the gradient of the mean cross-entropy of one batch into `gradient`; the loss in nats."""
        import torch
        from torch.nn import functional as F

        slope, train = self.slope, self.slope.train
        slope.check()
        rng = np.random.Generator(
            np.random.Philox(key=np.array([self.settings.seed, step], np.uint64), counter=[0, 0, knot, 1])
        )
        rows = torch.from_numpy(rng.integers(0, len(train), self.settings.batch_size)).to(train.labels.device)
        self.gradient.zero_()
        images = slope.transform(train.batch(rows).to(slope.device))
        loss = F.cross_entropy(slope.network(images).float(), train.labels[rows].to(slope.device))
        loss.backward()  # type: ignore[no-untyped-call]
        value = float(loss.detach())
        if not math.isfinite(value):
            raise Diverged(f"the loss is {value} at step {step} of a path: take a lower learning rate for the tunnel")
        slope.told(value)
        return value

    def weights(self, values: torch.Tensor) -> NDArray[np.float32]:
        return np.array(values.detach().cpu().numpy())


# --- stitched triangles -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Wedges:
    """The planes through the origin and each two consecutive points of a path, side by side (science f.3).

    units [K, P]: directions of the path's points; radii [K]: their lengths; spans [K - 1]: the angle between each two,
    radians; offsets [K]: where each point lies, from 0.
    """

    units: Floats
    radii: Floats
    spans: Floats
    offsets: Floats

    @staticmethod
    def of(points: Sequence[Theta]) -> Wedges:
        values = np.stack([point.astype(np.float64) for point in points])
        radii = np.linalg.norm(values, axis=1)
        units = values / radii[:, None]
        # by the chord: accurate for the small angles that the arc cosine loses
        spans = 2 * np.arcsin(np.clip(np.linalg.norm(np.diff(units, axis=0), axis=1) / 2, 0, 1))
        return Wedges(units, radii, spans, np.concatenate([[0.0], np.cumsum(spans)]))

    def angles(self, wedge: int, count: int) -> Floats:
        """`count` angles inside a wedge, both borders included, from its first point's direction."""
        return np.linspace(0.0, float(self.spans[wedge]), count)

    def point(self, wedge: int, angle: float, radius: float) -> Theta:
        """Weights of length `radius` at `angle` inside a wedge."""
        span, first, second = float(self.spans[wedge]), self.units[wedge], self.units[wedge + 1]
        if span < 1e-6:  # no plane to speak of: blend
            share = 0.0 if span == 0 else angle / span
            mixed = (1 - share) * first + share * second
        else:
            mixed = (np.sin(span - angle) * first + np.sin(angle) * second) / np.sin(span)
        return np.asarray(radius * mixed, dtype=np.float32)
