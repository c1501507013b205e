"""What does the loss look like between solutions? Planes and lines through weight space, and scores on them.

    plane = radial(first.theta, second.theta)             # through the origin and two optima
    axes = plane.axes(33)
    view = View(splits.test, truth, labels_of_both)
    gauge = Gauge(network, splits.transform)
    gauge(plane.at(axes.x[26], axes.y[2]), [view])        # [1, 4]: loss, accuracy, agreement with each optimum

Four cuts: *radial* through the origin and two solutions (Fort, Hu & Lakshminarayanan 2019, figure 5), *affine* through
any three (Garipov et al. 2018), *random* around one along two filter-normalised directions (Li et al. 2018), and the
straight *line* through two. Vectors are float64, so that nodes meant to be a solution give its own float32 bits.

Weight vectors are evaluated one after another over each batch of images (`predict_in_groups`). Measured on one AVX2
thread, processor time: a SmallCNN on 28x28 predicts 13,000 images a second alone; 4 and 16 of them in one grouped
convolution together 4,100 and 3,300 (the depth-wise kernels of a grouped convolution waste the vector units). Planes
are shared between workers by rows instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from modescape.errors import InvalidInput
from modescape.science.predictions import log_softmax
from modescape.science.seeds import sample_rng

if TYPE_CHECKING:
    import torch

    from modescape.science.data import InputTransform, Split

Array = NDArray[Any]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Layout = Sequence[tuple[str, tuple[int, ...]]]
Kind = Literal["radial", "affine", "random", "line"]

POINTS = {"radial": 2, "affine": 3, "random": 1, "line": 2}  # solutions each kind goes through
COARSE = 33  # nodes along an axis for a look; every finer grid divides its steps evenly
MOST = 129  # nodes along an axis at most, however far out a solution lies
_PARALLEL = 1e-6  # sine of the angle below which two directions span no plane


# ---- geometry ----


@dataclass(frozen=True, eq=False)
class Axes:
    """Coordinates of the grid's nodes: x [X] and y [Y]; y is [0] for a line."""

    x: Floats
    y: Floats


@dataclass(frozen=True)
class Place:
    """Where weights lie seen from a plane: coordinates of the nearest point of it, and how far away from that they
    are, in weight space and over their own norm."""

    x: float
    y: float
    residual: float
    relative: float


@dataclass(frozen=True, eq=False)
class Plane:
    """theta = origin + x first + y second, float64 [P]; `second` is None for a line.

    anchors [A, 2]: coordinates of the solutions it was laid through, in the order given; unit: the length the nodes
    divide (|P1|, the longest side, or 1); below and parts: nodes are unit (i - below) / parts on the coarse grid.
    """

    kind: Kind
    origin: Floats
    first: Floats
    second: Floats | None
    anchors: Floats
    unit: float
    below: int
    parts: int

    def at(self, x: float, y: float = 0.0) -> NDArray[np.float32]:
        """Weights float32 [P] of one point."""
        theta = self.origin + x * self.first
        if self.second is not None and y:
            theta += y * self.second
        return theta.astype(np.float32)

    def place(self, theta: Array) -> Place:
        """The nearest point of the plane to theta [P], by least squares: directions need not be orthonormal."""
        away = theta.astype(np.float64) - self.origin
        basis = [self.first] if self.second is None else [self.first, self.second]
        gram = np.array([[a @ b for b in basis] for a in basis])
        found = np.linalg.solve(gram, np.array([a @ away for a in basis]))
        for direction, step in zip(basis, found, strict=True):
            away -= step * direction
        residual, norm = float(np.linalg.norm(away)), float(np.linalg.norm(theta.astype(np.float64)))
        y = float(found[1]) if len(found) > 1 else 0.0
        return Place(float(found[0]), y, residual, residual / norm if norm else math.nan)

    def axes(self, resolution: int) -> Axes:
        """Nodes unit (i - below) / parts; resolution 65 halves the step. Extended by whole steps where a solution
        leaves the range. Raises InvalidInput when that takes more than 129 nodes."""
        x = self._nodes(resolution, self.anchors[:, 0])
        return Axes(x, np.zeros(1) if self.second is None else self._nodes(resolution, self.anchors[:, 1]))

    def _nodes(self, resolution: int, held: Floats) -> Floats:
        finer = (resolution - 1) // (COARSE - 1)
        step = self.unit / (self.parts * finer)
        slack = 1e-9  # a solution on the border, up to rounding, is inside
        low = min(-self.below * finer, math.floor(held.min() / step + slack))
        high = max(resolution - 1 - self.below * finer, math.ceil(held.max() / step - slack))
        if high - low + 1 > MOST:
            raise InvalidInput(
                f"a grid that reaches all solutions would have {high - low + 1} nodes along an axis",
                field="solutions", allowed=f"at most {MOST}: give the solution with the largest norm first",
            )  # fmt: skip
        return np.asarray(self.unit * (np.arange(low, high + 1) / (self.parts * finer)), np.float64)


def radial(first: Array, second: Array) -> Plane:
    """The plane through the origin and two solutions [P]: e1 along the first, e2 at right angles toward the second.

    Nodes R (i - 2) / 24, R = |first|: the origin and the first solution are nodes (science f.1). Raises InvalidInput
    when the two point the same way.
    """
    p, q = first.astype(np.float64), second.astype(np.float64)
    r, length = _length(p), _length(q)
    e1 = p / r
    across = q - (q @ e1) * e1
    height = float(np.linalg.norm(across))
    if height < _PARALLEL * length:
        raise InvalidInput("the two solutions and the origin lie on one line", field="solutions", allowed=_SPANNING)
    anchors = np.array([[r, 0.0], [q @ e1, height]])
    return Plane("radial", np.zeros_like(p), e1, across / height, anchors, r, below=2, parts=24)


def affine(points: Sequence[Array]) -> Plane:
    """The plane through three solutions [P] (Garipov et al. 2018, appendix A.1): x along the longest side.

    The longest side is the base, so that the third solution lies beside it and within its length: nodes L (i - 4) / 24
    reach from L / 6 before the base to L / 6 beyond. Both ends of the base are nodes.
    """
    thetas = [point.astype(np.float64) for point in points]
    sides = [(0, 1), (0, 2), (1, 2)]
    a, b = max(sides, key=lambda side: float(np.linalg.norm(thetas[side[1]] - thetas[side[0]])))
    c = 3 - a - b
    base = thetas[b] - thetas[a]
    length = _length(base)
    e1 = base / length
    away = thetas[c] - thetas[a]
    across = away - (away @ e1) * e1
    height = float(np.linalg.norm(across))
    if height < _PARALLEL * length:
        raise InvalidInput("the three solutions lie on one line", field="solutions", allowed=_SPANNING)
    anchors = np.zeros((3, 2))
    anchors[b] = length, 0.0
    anchors[c] = away @ e1, height
    return Plane("affine", thetas[a], e1, across / height, anchors, length, below=4, parts=24)


def around(theta: Array, layout: Layout, seed: int) -> Plane:
    """The plane through one solution along two random directions, each filter as long as the solution's own (Li et al.
    2018, section 4); batch-norm and bias entries are zero. Nodes (i - 16) / 16: at 1 a filter that points its own way
    is doubled. The directions are not orthogonal, but nearly."""
    rng = sample_rng(seed, "landscape", "random", 0, 0)
    origin = theta.astype(np.float64)
    first = filter_normalised(rng.standard_normal(theta.size), origin, layout)
    second = filter_normalised(rng.standard_normal(theta.size), origin, layout)
    return Plane("random", origin, first, second, np.zeros((1, 2)), 1.0, below=16, parts=16)


def line(first: Array, second: Array) -> Plane:
    """The straight line from one solution to another and a sixth of its length beyond both: nodes L (i - 4) / 24."""
    p = first.astype(np.float64)
    along = second.astype(np.float64) - p
    length = _length(along)
    anchors = np.array([[0.0, 0.0], [length, 0.0]])
    return Plane("line", p, along / length, None, anchors, length, below=4, parts=24)


def through(kind: Kind, points: Sequence[Array], *, layout: Layout = (), seed: int = 0) -> Plane:
    """The cut of that kind through solutions [P]. Raises InvalidInput when they do not span one."""
    if len(points) != POINTS[kind]:
        raise InvalidInput(f"{len(points)} given", field="solutions", allowed=f"{POINTS[kind]} for a {kind} cut")
    if kind == "affine":
        return affine(points)
    if kind == "random":
        return around(points[0], layout, seed)
    return radial(points[0], points[1]) if kind == "radial" else line(points[0], points[1])


_SPANNING = "solutions that span a plane"


def _length(vector: Floats) -> float:
    length = float(np.linalg.norm(vector))
    if not length:
        raise InvalidInput("two of the points are the same", field="solutions", allowed=_SPANNING)
    return length


def filter_normalised(direction: Array, theta: Array, layout: Layout) -> Floats:
    """The direction with each filter (first index of a kernel) as long as theta's, zero in tensors of one dimension.

    All [P]; layout: (name, shape) of each tensor in order. A filter of zeros stays one.
    """
    result = np.zeros(direction.size)
    start = 0
    for _, shape in layout:
        stop = start + math.prod(shape)
        if len(shape) >= 2:
            rows = direction[start:stop].astype(np.float64).reshape(shape[0], -1)
            own = np.linalg.norm(theta[start:stop].astype(np.float64).reshape(shape[0], -1), axis=1)
            result[start:stop] = (rows * (own / np.linalg.norm(rows, axis=1))[:, None]).ravel()
        start = stop
    if start != direction.size:
        raise InvalidInput(f"the layout describes {start} weights, the solution has {direction.size}", field="layout")
    return result


def radii(resolution: int) -> Floats:
    """Distances from the origin along a ray, over the solution's norm: (i - 2) / 24, or half the step."""
    finer = (resolution - 1) // (COARSE - 1)
    return np.asarray((np.arange(resolution) - 2 * finer) / (24 * finer), np.float64)


# ---- scores ----


@dataclass(frozen=True, eq=False)
class View:
    """Images to look at with every weight vector: their true labels [N] and what each anchor says of them [A, N]."""

    images: Split
    truth: Ints
    anchors: Ints


def score(logits: Array, truth: Ints, anchors: Ints) -> Floats:
    """Loss (nats), accuracy, and agreement with each anchor, [2 + A]; a loss that is no number counts as infinite."""
    with np.errstate(invalid="ignore", over="ignore"):
        loss = float(-log_softmax(logits)[np.arange(len(truth)), truth].mean())
    labels = logits.argmax(axis=-1)
    same = [(labels == anchor).mean() for anchor in anchors]
    return np.array([loss if math.isfinite(loss) else math.inf, (labels == truth).mean(), *same])


def changed(agreement: Array, accuracy: Array) -> Floats:
    """Disagreement over error rate, (1 - agreement) / (1 - accuracy) (science a.3, figure S1); NaN without errors."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(accuracy < 1, (1 - agreement) / (1 - accuracy), np.nan), np.float64)


@dataclass(frozen=True, eq=False)
class Gauge:
    """Scores of any weights of one network.

    statistics: training images batch-norm statistics are estimated on anew at every point (science d.7); None for
    networks without batch norm. check is called before each batch and may raise to stop.
    """

    network: torch.nn.Module
    transform: InputTransform
    statistics: Split | None = None
    device: str = "cpu"
    check: Callable[[], None] | None = None

    def __call__(self, theta: NDArray[np.float32], views: Sequence[View]) -> Floats:
        """[S, 2 + A] of weights [P] in S views."""
        return next(self.each([theta], views))

    def each(self, thetas: Iterable[NDArray[np.float32]], views: Sequence[View]) -> Iterator[Floats]:
        """The same of many weights, of which several are predicted at a time."""
        from modescape.science.barriers import logits_along

        images = {f"{number}": view.images for number, view in enumerate(views)}
        points = logits_along(
            self.network, thetas, images, self.transform, statistics=self.statistics, device=self.device,
            check=self.check,
        )  # fmt: skip
        for found in points:
            seen = zip(found.values(), views, strict=True)
            yield np.stack([score(logits, view.truth, view.anchors) for logits, view in seen])
