"""How alike are two solutions, in weight space and in function space? Matrices over many, and maps of them.

    cosines(weights @ weights.T)                     # [S, P] -> [S, S]
    disagreement(labels)                             # [S, N] -> [S, S]
    divergences(optima, everyone, ("js", "kl"))      # [A, N, K] against many [N, K] -> {"js": [A, B], "kl": [A, B]}
    embed(gram(logits), seed=0).tsne                 # [n, 2]

Everything works block by block in float64 on arrays that may be memory-mapped, so memory does not grow with P or N.
Each fast form has a plain twin in the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from modescape.science.blocks import blocks
from modescape.science.predictions import entropy, log_softmax, softmax
from modescape.science.tsne import tsne

Array = NDArray[Any]
Floats = NDArray[np.float64]

FEWEST_EMBEDDED = 5  # functions: of fewer, neighbours say nothing

_VALUES = 1 << 15  # probabilities a divergence handles at a time: 256 kB, which stay in the processor's cache
_HELD = 1 << 20  # probabilities of the bases that are held while the others are read: 16 MB with their logarithms


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


def diversity(disagreement: float, accuracy: float) -> float | None:
    """Normalised diversity d / (1 - a): a is the accuracy of the *sampled* function, not of its base. None where a = 1.

    May exceed 1 (science a.3): two independent functions with a = 0.71 and ten classes give 1.68.
    """
    return disagreement / (1 - accuracy) if accuracy < 1 else None


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
    logits, so nothing is clipped and KL is finite. A block of examples is read of every function in turn; progress is
    called with examples done and their number.
    """
    sums = {measure: np.zeros((len(bases), len(others))) for measure in measures}
    examples, classes = bases[0].shape
    rows = max(1, _VALUES // classes)
    held = rows * max(1, _HELD // (rows * classes * len(bases)))
    for block in blocks([*bases, *others], held):
        log_bases = [log_softmax(base[block]) for base in bases]
        pairs = [(log_p, np.exp(log_p)) for log_p in log_bases]
        for b, other in enumerate(others):
            if check is not None:
                check()
            for start in range(0, len(pairs[0][0]), rows):
                part = slice(start, start + rows)
                log_q = log_softmax(other[block][part])
                q = np.exp(log_q)
                for a, (log_p, p) in enumerate(pairs):
                    for measure in measures:
                        sums[measure][a, b] += KERNELS[measure](p[part], log_p[part], q, log_q).sum()
        if progress is not None:
            progress(min(block.stop, examples), examples)
    return {measure: found / examples for measure, found in sums.items()}


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
    eigenvalues, vectors = np.linalg.eigh((products + products.T) / 2)
    eigenvalues, vectors = np.maximum(eigenvalues[::-1], 0.0), vectors[:, ::-1]
    vectors = vectors * np.where(vectors[np.abs(vectors).argmax(axis=0), np.arange(count)] < 0, -1.0, 1.0)
    points = vectors * np.sqrt(eigenvalues)
    pca = np.zeros((count, 2))
    pca[:, : min(2, count)] = points[:, :2]
    total = float(eigenvalues.sum())
    share = float(eigenvalues[:2].sum()) / total if total > 0 else 1.0
    mds, stress = _metric_scaling(products, pca)
    if count < FEWEST_EMBEDDED:
        return Embedding(None, pca, mds, seed, None, share, stress)
    used = min(perplexity or min(30.0, max(2.0, (count - 1) / 3)), count - 1.0)
    spread = pca[:, 0].std()
    start = pca / spread * 1e-4 if spread > 0 else pca
    return Embedding(tsne(_squares(products), start, perplexity=used), pca, mds, seed, used, share, stress)


def _squares(products: Floats) -> Floats:
    """Squared distances [n, n] of points with these inner products."""
    own = np.diag(products)
    found = np.maximum(own[:, None] + own[None] - (products + products.T), 0.0)
    np.fill_diagonal(found, 0.0)
    return found


def _metric_scaling(products: Floats, start: Floats) -> tuple[Floats, float]:
    """Points [n, 2] by majorisation from `start`, and sqrt(sum (d - D)^2 / sum D^2) over pairs."""
    from sklearn.manifold import smacof

    targets = np.sqrt(_squares(products))
    scale = float(np.square(targets).sum())
    if scale == 0:
        return start, 0.0
    points, _ = smacof(targets, init=start, n_init=1, max_iter=300, eps=1e-7, normalized_stress=False)
    distances = np.sqrt(np.square(points[:, None] - points[None]).sum(axis=-1))
    return points, float(np.sqrt(np.square(distances - targets).sum() / scale))
