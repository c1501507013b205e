"""t-SNE: its probabilities, its gradient and its maps beside equations written out and beside scikit-learn's."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform
from sklearn.manifold import TSNE, trustworthiness

from modescape.science.tsne import _Pairs, neighbours, tsne

Floats = NDArray[np.float64]


def points(count: int, seed: int = 0) -> Floats:
    """Four groups in fifty dimensions."""
    rng = np.random.default_rng(seed)
    centres = 3.0 * rng.normal(size=(4, 50))
    return np.asarray(centres[rng.integers(0, 4, count)] + rng.normal(size=(count, 50)))


def squares(of: Floats) -> Floats:
    return np.asarray(squareform(pdist(of, "sqeuclidean")))


def first_map(of: Floats) -> Floats:
    left, values, _ = np.linalg.svd(of - of.mean(axis=0), full_matrices=False)
    pca = left[:, :2] * values[:2]
    return np.asarray(pca / pca[:, 0].std())


def divergence(attraction: Floats, places: Floats) -> float:
    """KL(P || Q), equations 2 and 4 of van der Maaten & Hinton (2008)."""
    near = 1.0 / (1.0 + squares(places))
    np.fill_diagonal(near, 0.0)
    there = attraction > 0
    return float((attraction[there] * np.log(attraction[there] / (near / near.sum())[there])).sum())


@pytest.mark.parametrize("perplexity", [2.0, 11.0, 29.0])
def test_each_row_has_the_entropy_of_its_perplexity(perplexity: float) -> None:
    apart = squares(points(40))
    found = neighbours(apart, perplexity=perplexity)
    assert found.sum() == pytest.approx(1)
    np.testing.assert_array_equal(found, found.T)
    assert (found.diagonal() == 0).all()
    rows = np.zeros((40, 40))
    for row in range(40):  # by bisection, a row at a time
        others = np.delete(apart[row], row)
        low, high = 1e-12, 1e12
        for _ in range(200):
            middle = math.sqrt(low * high)
            near = np.exp(-middle * (others - others.min()))
            near /= near.sum()
            bits = -(near[near > 0] * np.log2(near[near > 0])).sum()
            low, high = (middle, high) if 2**bits > perplexity else (low, middle)
        rows[row] = np.insert(near, row, 0.0)
    np.testing.assert_allclose(found, (rows + rows.T) / 80, atol=1e-9)


@pytest.mark.parametrize("count", [40, 310])  # in float64 and in float32
def test_the_first_step_goes_down_the_slope_of_the_divergence(count: int) -> None:
    of = points(count)
    attraction, places = neighbours(squares(of), perplexity=10.0), np.random.default_rng(1).normal(size=(count, 2))
    slope = _Pairs(attraction).gradient(places, exaggeration=1.0)
    for point, axis in ((0, 0), (7, 1), (count - 1, 0)):
        little = np.zeros_like(places)
        little[point, axis] = 1e-5
        by_hand = (divergence(attraction, places + little) - divergence(attraction, places - little)) / 2e-5
        assert slope[point, axis] == pytest.approx(by_hand, rel=1e-4, abs=1e-7)


def cloud(count: int, seed: int = 0) -> Floats:
    """No groups at all: at first sight nothing tells its points apart."""
    return np.random.default_rng(seed).normal(size=(count, 30))


def walks(count: int, seed: int = 0) -> Floats:
    """Four trajectories."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(4, count // 4, 40))
    steps[:, 0] *= 8.0
    return np.asarray(np.cumsum(steps, axis=1).reshape(-1, 40))


@pytest.mark.parametrize("problem", [points, cloud, walks])
@pytest.mark.parametrize("count", [12, 60, pytest.param(320, marks=pytest.mark.slow)])
def test_a_map_is_as_good_as_scikit_learns_exact_one(count: int, problem: Callable[[int, int], Floats]) -> None:
    """Over five problems, since of few points each algorithm now and then ends in another valley."""
    perplexity = min(30.0, (count - 1) / 3)
    ours, theirs, kept = [], [], []
    for seed in range(5 if count < 100 else 1):
        of = problem(count, seed)
        apart, start = squares(of), first_map(of)
        attraction = neighbours(apart, perplexity=perplexity)
        here = tsne(apart, start, perplexity=perplexity)
        model = TSNE(2, perplexity=perplexity, init=1e-4 * start.astype(np.float32), method="exact")
        there = model.fit_transform(of)
        ours.append(divergence(attraction, here))
        theirs.append(divergence(attraction, there))
        kept.append(trustworthiness(of, here, n_neighbors=4) - trustworthiness(of, there, n_neighbors=4))
    assert np.median(ours) <= 1.05 * np.median(theirs)
    assert np.mean(kept) > -0.02


def test_equal_distances_give_equal_maps_to_the_bit() -> None:
    of = points(320)
    apart, start = squares(of), first_map(of)
    first, again = (tsne(apart, start, perplexity=20.0) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_points_that_are_one_point_stay_finite() -> None:
    of = points(12)
    of[4:] = of[0]
    assert np.isfinite(tsne(squares(of), first_map(of), perplexity=3.0)).all()
    assert np.isfinite(tsne(np.zeros((6, 6)), np.zeros((6, 2)), perplexity=2.0)).all()
