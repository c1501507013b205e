"""How fast are functions compared and mapped, beside the strongest other way known? One thread each, in turn in every
round, on the same arrays; the answers must agree.

    python benchmarks/analysis.py --rounds 5          # prints a line each and keeps results/analysis.json

disagreement: scipy's pdist, "hamming", on float64 labels. divergences: all six, pair by pair, in numpy, each pair once
through its kernel in blocks that stay in the cache (`plain`). map: scikit-learn's TSNE (Barnes-Hut, started from PCA)
on the raw matrix of probabilities; ours from the Gram matrix, which is counted apart and together. Ratios are other /
ours: above 1 ours is faster. Functions are random walks around several centres, as runs with their checkpoints are.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from _beside import beside, keep, timed
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from modescape.science import similarity
from modescape.science.predictions import log_softmax, softmax
from modescape.science.tsne import tsne

Floats = NDArray[np.float64]
CLOCK = time.process_time  # one thread: a busy machine disturbs it less than the clock on the wall


def functions(count: int, examples: int, classes: int, *, centres: int = 10) -> list[NDArray[np.float32]]:
    """Logits [N, K] each: walks of equal length around centres, accurate to about two thirds."""
    random = np.random.default_rng(0)
    truth = 2.0 * random.normal(size=(examples, classes))
    found = []
    for _ in range(centres):
        at = truth + random.normal(size=(examples, classes))
        for _ in range(-(-count // centres)):
            at = at + 0.1 * random.normal(size=(examples, classes))
            found.append(at.astype(np.float32))
    return found[:count]


def plain(bases: list[NDArray[np.float32]], others: list[NDArray[np.float32]]) -> dict[str, Floats]:
    """All six measures of every pair, in blocks of 32,768 probabilities."""
    examples, classes = bases[0].shape
    sums = {measure: np.zeros((len(bases), len(others))) for measure in similarity.MEASURES}
    for start in range(0, examples, (1 << 15) // classes):
        part = slice(start, start + (1 << 15) // classes)
        log_bases = [log_softmax(one[part]) for one in bases]
        held = [(log_p, np.exp(log_p)) for log_p in log_bases]
        for b, other in enumerate(others):
            log_q = log_softmax(other[part])
            q = np.exp(log_q)
            for a, (log_p, p) in enumerate(held):
                middle, gap, root = (p + q) / 2, p - q, np.exp(log_p / 2) - np.exp(log_q / 2)
                ratio = log_p - log_q
                mixed = np.einsum("nk,nk->n", middle, np.log(np.maximum(middle, np.finfo(np.float64).tiny)))
                own = np.einsum("nk,nk->n", p, log_p) + np.einsum("nk,nk->n", q, log_q)
                sums["kl"][a, b] += np.einsum("nk,nk->", p, ratio)
                sums["symmetric-kl"][a, b] += np.einsum("nk,nk->", gap, ratio) / 2
                sums["js"][a, b] += (own / 2 - mixed).sum()
                sums["total-variation"][a, b] += np.abs(gap).sum() / 2
                sums["hellinger"][a, b] += np.sqrt(np.einsum("nk,nk->n", root, root) / 2).sum()
                sums["l2"][a, b] += np.sqrt(np.einsum("nk,nk->n", gap, gap)).sum()
    return {measure: found / examples for measure, found in sums.items()}


def disagreements(count: int, examples: int, classes: int, rounds: int) -> Any:
    from scipy.spatial.distance import pdist, squareform

    labels = np.stack([one.argmax(1) for one in functions(count, examples, classes)])
    numbers = labels.astype(np.float64)

    def same(ours: Floats, other: Floats) -> None:
        np.testing.assert_allclose(ours, squareform(other), atol=1e-12)

    return beside(rounds, lambda: similarity.disagreement(labels), lambda: pdist(numbers, "hamming"), same, CLOCK)


def divergences(bases: int, others: int, examples: int, classes: int, rounds: int) -> Any:
    every = functions(max(bases, others), examples, classes)

    def same(ours: dict[str, Floats], other: dict[str, Floats]) -> None:
        for measure, values in other.items():
            np.testing.assert_allclose(ours[measure], values, atol=1e-12)

    some, all_ = every[:bases], every[:others]
    if bases == others:  # each pair once, as `plain` does not
        all_ = some
    return beside(rounds, lambda: similarity.divergences(some, all_), lambda: plain(some, all_), same, CLOCK)


def maps(count: int, examples: int, classes: int, rounds: int) -> Any:
    from sklearn.manifold import TSNE, trustworthiness

    every = functions(count, examples, classes, centres=20)
    raw = np.stack([softmax(one).ravel() for one in every]).astype(np.float32)
    gram_seconds, products = timed(lambda: similarity.gram(every), CLOCK)
    squares = similarity._squares(products)
    places = similarity.embed(products, seed=0).pca
    start = places / places[:, 0].std()
    found: dict[str, float] = {}

    def same(ours: Floats, other: Floats) -> None:
        for name, places in (("ours", ours), ("other", other)):
            near = trustworthiness(np.sqrt(squares), places, metric="precomputed", n_neighbors=12)
            found[f"trustworthiness of {name}"] = round(float(near), 4)

    row = beside(
        rounds, lambda: tsne(squares, start, perplexity=30.0),
        lambda: TSNE(init="pca", random_state=0, n_jobs=1).fit_transform(raw), same, CLOCK,
    )  # fmt: skip
    together = round(row["other"] / (row["ours"] + gram_seconds), 2)
    return {**row, "gram": round(gram_seconds, 3), "ratio with gram": together, **found}


CASES: dict[str, Callable[[int], Any]] = {
    "disagreement of 500 x 10,000, 10 classes": lambda n: disagreements(500, 10_000, 10, n),
    "disagreement of 1,000 x 10,000, 10 classes": lambda n: disagreements(1_000, 10_000, 10, n),
    "disagreement of 500 x 10,000, 100 classes": lambda n: disagreements(500, 10_000, 100, n),
    "disagreement of 200 x 10,000, 1,000 classes": lambda n: disagreements(200, 10_000, 1_000, n),
    "six divergences of 100 x 100 functions, 10,000 x 10": lambda n: divergences(100, 100, 10_000, 10, n),
    "six divergences of 10 x 500 functions, 10,000 x 10": lambda n: divergences(10, 500, 10_000, 10, n),
    "six divergences of 10 x 60 functions, 10,000 x 100": lambda n: divergences(10, 60, 10_000, 100, n),
    "t-SNE of 500 functions, 10,000 x 10": lambda n: maps(500, 10_000, 10, n),
    "t-SNE of 2,000 functions, 2,500 x 10": lambda n: maps(2_000, 2_500, 10, n),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="part of a line's name")
    asked = parser.parse_args()
    rows = {}
    with threadpool_limits(limits=1):
        for name, case in CASES.items():
            if asked.only in name:
                rows[name] = case(asked.rounds)
                print(f"{name}: {rows[name]}", flush=True)
    if not asked.only:
        keep("analysis", rows, numpy=np.__version__, threads=1)


if __name__ == "__main__":
    main()
