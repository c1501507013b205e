"""How alike are two solutions, in weight space and in function space? Matrices over many, and maps of them.

    cosines(weights @ weights.T)                     # [S, P] -> [S, S]
    disagreement(labels)                             # [S, N] -> [S, S]
    divergences(optima, everyone, ("js", "kl"))      # [A, N, K] against many [N, K] -> {"js": [A, B], "kl": [A, B]}
    embed(gram(logits), seed=0).tsne                 # [n, 2]

Everything works block by block, in float64 but for `gram`, on arrays that may be memory-mapped, so memory does not grow
with P or N. Each fast form has a plain twin in the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from modescape.science.blocks import blocks
from modescape.science.predictions import entropy, log_softmax, softmax
from modescape.science.scaling import metric_scaling
from modescape.science.tsne import tsne

Array = NDArray[Any]
Floats = NDArray[np.float64]

FEWEST_EMBEDDED = 5  # functions: of fewer, neighbours say nothing

_VALUES = 1 << 15  # probabilities a measure handles at a time: 256 kB, which stay in the processor's cache
_HELD = 1 << 22  # probabilities of all bases that are held while the others are read
_IN_BITS = 16  # classes up to which labels are compared bit by bit
_TOGETHER = 16  # functions that are compared with a base at once
_FEW_CLASSES = 64
_SAME = 1e-6  # a deviation of functions as points, which float32 logits cannot tell from none
_MAPPED_VALUES = 1 << 21  # probabilities that are mapped at a time


def cosines(gram: Floats) -> Floats:
    """Cosine of the angle between weight vectors, from their inner products [S, S]; -1 to 1 (science a.1).

    The row and column of a zero vector are NaN: its direction is undefined.
    """
    norms = np.sqrt(np.diag(gram))
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = np.clip(gram / np.outer(norms, norms), -1.0, 1.0)
    np.fill_diagonal(found, np.where(norms > 0, 1.0, np.nan))
    return found


def disagreement(labels: Array, other: Array | None = None) -> Floats:
    """Fraction of examples on which two solutions predict different classes; [S, N] int -> [S, S], or [S, S2]; 0 to 1
    (science a.2).

    Counts are exact. Labels of few classes are cut into bits, and 64 examples compared at a time; those of many are
    compared one by one, in as few bytes as hold them.
    """
    others = labels if other is None else other
    classes = int(max(labels.max(initial=0), others.max(initial=0))) + 1
    code, count = (_bit_planes, _differing_bits) if classes <= _IN_BITS else (_narrow, _differing)
    left = code(labels, classes)
    right = left if other is None else code(others, classes)
    counts = np.zeros((len(labels), len(others)), np.int64)
    for i in range(len(counts)):
        first = i + 1 if other is None else 0  # the other half is the same
        counts[i, first:] = count(left[:, i], right[:, first:])
    return np.asarray((counts + counts.T if other is None else counts) / labels.shape[1])


def _bit_planes(labels: Array, classes: int) -> NDArray[np.uint64]:
    """labels [S, N] as [bits, S, N/64] words; the padding is zero everywhere and so never differs."""
    planes = []
    for bit in range(max(1, (classes - 1).bit_length())):
        packed = np.packbits((labels >> bit & 1).astype(bool), axis=1)
        planes.append(np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8))).view(np.uint64))
    return np.stack(planes)


def _differing_bits(row: NDArray[np.uint64], rows: NDArray[np.uint64]) -> NDArray[np.int64]:
    """[bits, W], [bits, S, W] -> in how many examples each differs [S]: where any of its bits does."""
    differ = rows[0] ^ row[0]
    for plane in range(1, len(row)):
        differ |= rows[plane] ^ row[plane]
    return np.asarray(np.bitwise_count(differ).sum(axis=1, dtype=np.int64))


def _narrow(labels: Array, classes: int) -> Array:
    return labels.astype(np.min_scalar_type(classes))[None]


def _differing(row: Array, rows: Array) -> list[int]:
    return [int(np.count_nonzero(differ)) for differ in rows[0] != row[0]]


def diversity(disagreement: float, accuracy: float) -> float | None:
    """Normalised diversity d / (1 - a): a is the accuracy of the *sampled* function, not of its base. None where a = 1.

    May exceed 1 (science a.3): two independent functions with a = 0.71 and ten classes give 1.68.
    """
    return disagreement / (1 - accuracy) if accuracy < 1 else None


# ---------------------------------------------------------------------------- distances between output distributions

Measure = Literal["kl", "symmetric-kl", "js", "total-variation", "hellinger", "l2"]


class _Outputs:
    """What F functions say of n examples, for all measures: probabilities and their logarithms, [F, K, n] of few
    classes and [F, n, K] of many, so that numpy's sums run along memory; axis: that of the classes."""

    def __init__(self, logits: Sequence[Array]) -> None:
        self.examples, classes = logits[0].shape
        if classes < _FEW_CLASSES:
            found = log_softmax(np.stack([one.T for one in logits], axis=1).astype(np.float64, order="C"), axis=0)
            self.log, self.axis = np.ascontiguousarray(found.swapaxes(0, 1)), 1
        else:
            self.log, self.axis = log_softmax(np.stack(logits)), 2
        self.p = np.maximum(np.exp(self.log), np.finfo(np.float64).tiny)  # JS takes logarithms of sums of two
        self.own = np.vecdot(_flat(self.p), _flat(self.log))  # minus the sum of their entropies
        self.roots = np.sqrt(self.p)

    def first(self, count: int) -> _Outputs:
        """Those of the first functions alone."""
        found = copy(self)
        found.p, found.log, found.own, found.roots = (
            values[:count] for values in (self.p, self.log, self.own, self.roots)
        )
        return found


def _kl(ours: _Outputs, theirs: _Outputs) -> Floats:
    return np.asarray(ours.own[:, None] - _flat(ours.p) @ _flat(theirs.log).T)


def _symmetric_kl(ours: _Outputs, theirs: _Outputs) -> Floats:
    return (_kl(ours, theirs) + _kl(theirs, ours).T) / 2


def _js(ours: _Outputs, theirs: _Outputs) -> Floats:
    """Half of both own terms less sum m log m, which is sum (p + q) / 2 log (p + q) - log 2 for each example."""
    both, log = np.empty((2, *theirs.p.shape))
    mixed = np.empty((len(ours.p), len(theirs.p)))
    for a, p in enumerate(ours.p):
        np.log(np.add(theirs.p, p, out=both), out=log)
        mixed[a] = np.vecdot(_flat(both), _flat(log))
    return np.asarray((ours.own[:, None] + theirs.own - mixed) / 2 + ours.examples * np.log(2))


def _total_variation(ours: _Outputs, theirs: _Outputs) -> Floats:
    """The sum of the larger probabilities less 1, as those of either add up to 1."""
    larger, ones = np.empty_like(theirs.p), np.ones(theirs.p[0].size)
    found = [_flat(np.maximum(theirs.p, p, out=larger)) @ ones for p in ours.p]
    return np.asarray(np.stack(found) - ours.examples)


def _hellinger(ours: _Outputs, theirs: _Outputs) -> Floats:
    return np.asarray(_lengths(ours.roots, theirs.roots, ours.axis) / np.sqrt(2))


def _l2(ours: _Outputs, theirs: _Outputs) -> Floats:
    return _lengths(ours.p, theirs.p, ours.axis)


def _lengths(ours: Floats, theirs: Floats, axis: int) -> Floats:
    """Sums over examples of Euclidean distances."""
    gap, ones = np.empty_like(theirs), np.ones(theirs.shape[axis])
    found = np.empty((len(ours), len(theirs)))
    for a, point in enumerate(ours):
        np.square(np.subtract(theirs, point, out=gap), out=gap)
        squares = ones @ gap if axis == 1 else gap @ ones  # sums as products: numpy's own take half as long again
        found[a] = np.sqrt(squares, out=squares).sum(axis=1)
    return found


def _flat(values: Floats) -> Floats:
    return np.asarray(values.reshape(len(values), -1))


KERNELS: dict[Measure, Callable[[_Outputs, _Outputs], Floats]] = {
    "kl": _kl,
    "symmetric-kl": _symmetric_kl,
    "js": _js,
    "total-variation": _total_variation,
    "hellinger": _hellinger,
    "l2": _l2,
}
"""Of A and B functions, the sums over a block of examples [A, B]."""
MEASURES: tuple[Measure, ...] = tuple(KERNELS)


def divergences(
    bases: Sequence[Array],
    others: Sequence[Array],
    measures: Sequence[Measure] = MEASURES,
    *,
    check: Callable[[], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[Measure, Floats]:
    """Mean over examples of each measure, base p against other q: logits [N, K] of A and of B functions -> [A, B] each
    (science a.10).

    kl: sum p log(p/q), nats, not symmetric; symmetric-kl: half of both directions; js: of the pair, at most log 2;
    total-variation: half the L1 distance; hellinger: sqrt(half sum (sqrt p - sqrt q)^2); l2: Euclidean. All from
    logits, so nothing is clipped and KL is finite. Of a function with itself they are 0 to rounding (1e-15).

    Of functions with themselves (others is bases) each pair is compared once where a measure is symmetric.

    A block of examples is read of every function in turn; progress is called with examples done and their number.
    Memory: what is given, and a block of probabilities, of all bases up to `_HELD` (32 MB) and of `_TOGETHER` others,
    five times over.
    """
    sums = {measure: np.zeros((len(bases), len(others))) for measure in measures}
    examples, classes = bases[0].shape
    for block in blocks([*bases, *others], min(_VALUES // _TOGETHER, _HELD // len(bases)) // classes):
        ours = _Outputs([base[block] for base in bases])
        for first in range(0, len(others), _TOGETHER):
            if check is not None:
                check()
            some = slice(first, first + _TOGETHER)
            theirs = _Outputs([other[block] for other in others[some]])
            above = ours.first(some.stop) if others is bases else ours
            for measure, found in sums.items():
                held = ours if measure == "kl" else above
                found[: len(held.p), some] += KERNELS[measure](held, theirs)
        if progress is not None:
            progress(min(block.stop, examples), examples)
    if others is bases:
        for measure, found in sums.items():
            if measure != "kl":
                lower = np.tril_indices(len(bases), -1)
                found[lower] = found.T[lower]
    return {measure: np.maximum(found / examples, 0.0) for measure, found in sums.items()}


def js_mean(probabilities: Array) -> float:
    """M-sample Jensen-Shannon divergence of members [M, N, K], mean over examples, nats: H(mean) - mean H.

    The ordinary 1/M form, 0 to min(log M, log K). Fort et al. 2019 print the sum, M times as much, but their code
    computes this. It grows with M: compare equal M only.
    """
    return _js_mean(list(probabilities), lambda part: np.asarray(probabilities[:, part], np.float64))


def js_mean_of(functions: Sequence[Array]) -> float:
    """`js_mean` of M functions, logits [N, K] each, of which only a block needs to be in memory."""
    return _js_mean(functions, lambda part: softmax(np.stack([function[part] for function in functions])))


def _js_mean(members: Sequence[Array], probabilities: Callable[[slice], Floats]) -> float:
    examples, classes = members[0].shape
    total = 0.0
    for part in blocks(members, 8 * _VALUES // (len(members) * classes)):
        block = probabilities(part)
        total += float((entropy(block.mean(axis=0)) - entropy(block).mean(axis=0)).sum())
    return max(total / int(examples), 0.0)


# ------------------------------------------------------------------------------------------------- maps of functions


def gram(functions: Sequence[Array]) -> Floats:
    """Inner products of softmax outputs less their mean function, [n, n]; `functions`: n arrays of logits [N, K].

    Products of a block in float32, their sum over blocks in float64: squared distances have an error of some 1e-7 of
    the functions' own spread, sum (p - mean)^2. Memory: what is given, n x n, and a block of probabilities twice over
    (16 MB, or 4 rows of all functions where those are more).
    """
    classes = functions[0].shape[1]
    result = np.zeros((len(functions), len(functions)))
    for part in blocks(functions, max(4, _MAPPED_VALUES // (len(functions) * classes))):
        outputs = _probabilities([function[part] for function in functions])
        outputs -= outputs.mean(axis=0)
        result += outputs @ outputs.T
    result -= result.mean(axis=0)  # in float64: the mean above was rounded, for all functions alike
    result -= result.mean(axis=1, keepdims=True)
    return result


def _probabilities(logits: Sequence[Array]) -> NDArray[np.float32]:
    """Softmax of F functions [n, K] each as [F, n K], in an order of their columns that is the same for all."""
    if logits[0].shape[1] < _FEW_CLASSES:  # sums along memory, as in _Outputs
        found = np.stack([one.T for one in logits], axis=1).astype(np.float32, order="C")
        axis = 0
    else:
        found, axis = np.stack(logits).astype(np.float32), 2
    found -= found.max(axis=axis, keepdims=True)
    np.exp(found, out=found)
    found /= found.sum(axis=axis, keepdims=True)
    return np.ascontiguousarray(found.swapaxes(0, 1) if axis == 0 else found).reshape(len(logits), -1)


@dataclass(frozen=True, eq=False)
class Embedding:
    """Three maps of the same functions, each [n, 2].

    tsne: None where there were too few functions (below FEWEST_EMBEDDED: read PCA); pca: the
    exact projection with the largest variance, of which it keeps `share`; mds: metric scaling, the map whose distances
    are nearest to the true ones, with `stress` as relative error.
    """

    tsne: Floats | None
    pca: Floats
    mds: Floats
    seed: int
    perplexity: float | None
    share: float
    stress: float


def embed(products: Floats, *, seed: int, perplexity: float | None = None) -> Embedding:
    """Joint maps from a centred Gram matrix [n, n] (`gram`; science a.12).

    t-SNE (van der Maaten & Hinton 2008) sees distances only, and the rows of U sqrt(lambda) have exactly those of the
    n x N K prediction matrix, so nothing larger than n x n is ever needed. It starts from PCA. The perplexity is
    min(30, max(2, (n - 1) / 3)) unless given, and is lowered to stay below n. Fewer than FEWEST_EMBEDDED have no t-SNE.
    Classical scaling of Euclidean distances *is* PCA, so the third map is metric scaling (SMACOF, de Leeuw 1977).
    """
    count = len(products)
    pca, share = principal(products)
    squares = _squares(products)
    mds, stress = metric_scaling(squares, pca)
    if count < FEWEST_EMBEDDED:
        return Embedding(None, pca, mds, seed, None, share, stress)
    used = min(perplexity or min(30.0, max(2.0, (count - 1) / 3)), count - 1.0)
    spread = float(pca.std(axis=0).max())
    start = pca / spread if spread > _SAME else np.zeros_like(pca)
    return Embedding(tsne(squares, start, perplexity=used), pca, mds, seed, used, share, stress)


def principal(products: Floats) -> tuple[Floats, float]:
    """PCA [n, 2] from a centred Gram matrix [n, n] (`gram`), and the share of the spread that its two axes hold."""
    count = len(products)
    eigenvalues, vectors = np.linalg.eigh((products + products.T) / 2)
    eigenvalues, vectors = np.maximum(eigenvalues[::-1], 0.0), vectors[:, ::-1]
    vectors = vectors * np.where(vectors[np.abs(vectors).argmax(axis=0), np.arange(count)] < 0, -1.0, 1.0)
    points = vectors * np.sqrt(eigenvalues)
    pca = np.zeros((count, 2))
    pca[:, : min(2, count)] = points[:, :2]
    total = float(eigenvalues.sum())
    return pca, float(eigenvalues[:2].sum()) / total if total > 0 else 1.0


def _squares(products: Floats) -> Floats:
    """Squared distances [n, n] of points with these inner products."""
    own = np.diag(products)
    found = np.maximum(own[:, None] + own[None] - (products + products.T), 0.0)
    np.fill_diagonal(found, 0.0)
    return found
