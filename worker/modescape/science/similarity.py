"""How alike are two solutions in function space? Matrices over many, and maps of them.

    disagreement(labels)                             # [S, N] -> [S, S]
    divergences(optima, everyone, ("js", "kl"))      # [A, N, K] against many [N, K] -> {"js": [A, B], "kl": [A, B]}
    embed(gram(logits), seed=0).tsne                 # [n, 2]

Everything works block by block in float64 on arrays that may be memory-mapped, so memory does not grow with P or N.
Each fast form has a plain twin in the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from modescape.science.predictions import entropy, log_softmax, softmax

Array = NDArray[Any]
Floats = NDArray[np.float64]

_VALUES = 1 << 15  # probabilities a divergence handles at a time: 256 kB, which stay in the processor's cache


def disagreement(labels: Array, other: Array | None = None) -> Floats:
    """Fraction of examples on which two solutions predict different classes; [S, N] int -> [S, S], or [S, S2]; 0 to 1
    (science a.2).

    Labels are cut into bits and 64 examples compared at a time: two labels differ where any of their bits does.
    Counts are exact. (500 solutions, 10,000 examples, 10 classes on one thread: 0.17 s; one-hot products 0.35 s.)
    """
    classes = int(max(labels.max(initial=0), 0 if other is None else other.max(initial=0))) + 1
    left = _bit_planes(labels, classes)
    right = left if other is None else _bit_planes(other, classes)
    counts = np.empty((len(labels), right.shape[1]), np.int64)
    for i in range(len(labels)):
        differ = right[0] ^ left[0, i]
        for plane in range(1, len(left)):
            differ |= right[plane] ^ left[plane, i]
        counts[i] = np.bitwise_count(differ).sum(axis=1, dtype=np.int64)
    return np.asarray(counts / labels.shape[1])


def _bit_planes(labels: Array, classes: int) -> NDArray[np.uint64]:
    """labels [S, N] as [bits, S, N/64] words; the padding is zero everywhere and so never differs."""
    planes = []
    for bit in range(max(1, (classes - 1).bit_length())):
        packed = np.packbits((labels >> bit & 1).astype(bool), axis=1)
        planes.append(np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8))).view(np.uint64))
    return np.stack(planes)


# ---------------------------------------------------------------------------- distances between output distributions

Measure = Literal["kl", "symmetric-kl", "js", "total-variation", "hellinger", "l2"]
Kernel = Callable[[Floats, Floats, Floats, Floats], Floats]  # (p, log p, q, log q) [..., K] -> per example


def _kl(p: Floats, log_p: Floats, q: Floats, log_q: Floats) -> Floats:
    return np.asarray(np.einsum("...k,...k->...", p, log_p - log_q))


def _symmetric_kl(p: Floats, log_p: Floats, q: Floats, log_q: Floats) -> Floats:
    return np.asarray(np.einsum("...k,...k->...", p - q, log_p - log_q) / 2)


def _js(p: Floats, log_p: Floats, q: Floats, log_q: Floats) -> Floats:
    middle = (p + q) / 2
    log_middle = np.log(np.maximum(middle, np.finfo(np.float64).tiny))
    own = np.einsum("...k,...k->...", p, log_p) + np.einsum("...k,...k->...", q, log_q)
    return np.asarray(np.maximum(own / 2 - np.einsum("...k,...k->...", middle, log_middle), 0.0))


def _total_variation(p: Floats, log_p: Floats, q: Floats, log_q: Floats) -> Floats:
    return np.asarray(np.abs(p - q).sum(axis=-1) / 2)


def _hellinger(p: Floats, log_p: Floats, q: Floats, log_q: Floats) -> Floats:
    gap = np.exp(log_p / 2) - np.exp(log_q / 2)
    return np.asarray(np.sqrt(np.einsum("...k,...k->...", gap, gap) / 2))


def _l2(p: Floats, log_p: Floats, q: Floats, log_q: Floats) -> Floats:
    gap = p - q
    return np.asarray(np.sqrt(np.einsum("...k,...k->...", gap, gap)))


KERNELS: dict[Measure, Kernel] = {
    "kl": _kl,
    "symmetric-kl": _symmetric_kl,
    "js": _js,
    "total-variation": _total_variation,
    "hellinger": _hellinger,
    "l2": _l2,
}
MEASURES: tuple[Measure, ...] = tuple(KERNELS)


def divergences(
    bases: Array,
    others: Iterable[Array],
    measures: Sequence[Measure] = MEASURES,
    *,
    check: Callable[[], None] | None = None,
) -> dict[Measure, Floats]:
    """Mean over examples of each measure, base p against other q: logits [A, N, K] and B times [N, K] -> [A, B] each
    (science a.10).

    kl: sum p log(p/q), nats, not symmetric; symmetric-kl: half of both directions; js: of the pair, at most log 2;
    total-variation: half the L1 distance; hellinger: sqrt(half sum (sqrt p - sqrt q)^2); l2: Euclidean. All from
    logits, so nothing is clipped and KL is finite. `others` is read once, one function at a time.
    """
    columns: dict[Measure, list[Floats]] = {measure: [] for measure in measures}
    base_logs = [log_softmax(base) for base in bases]
    for other in others:
        if check is not None:
            check()
        rows = max(1, _VALUES // other.shape[-1])
        sums = {measure: np.zeros(len(base_logs)) for measure in measures}
        for start in range(0, len(other), rows):
            part = slice(start, start + rows)
            log_q = log_softmax(other[part])
            q = np.exp(log_q)
            for a, logs in enumerate(base_logs):
                log_p = logs[part]
                p = np.exp(log_p)
                for measure in measures:
                    sums[measure][a] += KERNELS[measure](p, log_p, q, log_q).sum()
        for measure in measures:
            columns[measure].append(sums[measure] / len(other))
    empty = np.empty((len(base_logs), 0))
    return {measure: np.stack(found, axis=1) if found else empty for measure, found in columns.items()}


def js_mean(probabilities: Array) -> float:
    """M-sample Jensen-Shannon divergence of members [M, N, K], mean over examples, nats: H(mean) - mean H.

    The ordinary 1/M form, 0 to min(log M, log K). Fort et al. 2019 print the sum, M times as much, but their code
    computes this. It grows with M: compare equal M only.
    """
    count, examples, classes = probabilities.shape
    total, rows = 0.0, max(1, 8 * _VALUES // (count * classes))
    for start in range(0, int(examples), rows):
        block = np.asarray(probabilities[:, start : start + rows], np.float64)
        total += float((entropy(block.mean(axis=0)) - entropy(block).mean(axis=0)).sum())
    return max(total / int(examples), 0.0)


# ------------------------------------------------------------------------------------------------- maps of functions


def gram(functions: Sequence[Array]) -> Floats:
    """Inner products of centred softmax outputs, [n, n] float64; `functions`: n arrays of logits [N, K]."""
    examples, classes = functions[0].shape
    result = np.zeros((len(functions), len(functions)))
    rows = max(1, 16 * _VALUES // (len(functions) * classes))
    for start in range(0, examples, rows):
        block = np.stack([softmax(function[start : start + rows]).ravel() for function in functions])
        block -= block.mean(axis=0)
        result += block @ block.T
    return result


@dataclass(frozen=True, eq=False)
class Embedding:
    """Three maps of the same functions, each [n, 2].

    tsne: perplexity and seed as given here, None where there were too few functions (below 5: read PCA); pca: the
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
    min(30, max(2, (n - 1) / 3)) unless given, and is lowered to stay below n.
    Classical scaling of Euclidean distances *is* PCA, so the third map is metric scaling (SMACOF, de Leeuw 1977).
    """
    count = len(products)
    eigenvalues, vectors = np.linalg.eigh((products + products.T) / 2)
    eigenvalues, vectors = np.maximum(eigenvalues[::-1], 0.0), vectors[:, ::-1]
    vectors = vectors * np.where(vectors[np.abs(vectors).argmax(axis=0), np.arange(count)] < 0, -1.0, 1.0)
    points = vectors * np.sqrt(eigenvalues)
    pca = np.zeros((count, 2))
    pca[:, : min(2, count)] = points[:, :2]
    total = float(eigenvalues.sum())
    share = float(eigenvalues[:2].sum()) / total if total > 0 else 1.0
    mds, stress = _metric_scaling(products, pca)
    if count < 5:
        return Embedding(None, pca, mds, seed, None, share, stress)
    used = min(perplexity or min(30.0, max(2.0, (count - 1) / 3)), count - 1.0)
    return Embedding(_tsne(points, pca, seed, used), pca, mds, seed, used, share, stress)


def _tsne(points: Floats, pca: Floats, seed: int, perplexity: float) -> Floats:
    from sklearn.manifold import TSNE

    spread = pca[:, 0].std()
    start = (pca / spread * 1e-4 if spread > 0 else pca).astype(np.float32)  # scikit-learn's own PCA start
    model = TSNE(2, perplexity=perplexity, init=start, random_state=seed, method="exact", n_jobs=1)
    return np.asarray(model.fit_transform(points), np.float64)


def _metric_scaling(products: Floats, start: Floats) -> tuple[Floats, float]:
    """Points [n, 2] by majorisation from `start`, and sqrt(sum (d - D)^2 / sum D^2) over pairs."""
    from sklearn.manifold import smacof

    squares = np.diag(products)
    targets = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * products, 0.0))
    np.fill_diagonal(targets, 0.0)
    scale = float(np.square(targets).sum())
    if scale == 0:
        return start, 0.0
    points, _ = smacof((targets + targets.T) / 2, init=start, n_init=1, max_iter=300, eps=1e-7, normalized_stress=False)
    distances = np.sqrt(np.square(points[:, None] - points[None]).sum(axis=-1))
    return points, float(np.sqrt(np.square(distances - targets).sum() / scale))
