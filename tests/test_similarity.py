"""Fast forms against plain twins, laws of distances, and maps judged by what they should show."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from modescape.architectures.building import build
from modescape.science import similarity, weights
from modescape.science.predictions import softmax
from modescape.science.scaling import metric_scaling
from modescape.science.similarity import Measure
from modescape.spec_parts import NetworkSpec


def _logits(*shape: int, seed: int = 0, scale: float = 3.0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)


def test_cosine_equals_its_plain_twin() -> None:
    weights = _logits(7, 100_000)
    double = weights.astype(np.float64)
    expected = [[a @ b / np.sqrt((a @ a) * (b @ b)) for b in double] for a in double]
    found = similarity.cosines(double @ double.T)
    assert found == pytest.approx(np.array(expected), abs=1e-12)
    assert (np.diag(found) == 1).all()


def test_cosine_of_a_zero_vector_is_undefined() -> None:
    weights = np.array([[0.0, 0], [1, 0], [-2, 0]])
    found = similarity.cosines(weights @ weights.T)
    assert np.isnan(found[0]).all()
    assert np.isnan(found[:, 0]).all()
    assert found[1, 2] == -1


# ---- what two networks share for free ----


class _RmsNorm(nn.Module):
    """One of somebody's own, known by its name."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.weight


class _SmallViT(nn.Module):
    """Patches of 4 x 4, a position each, one block of attention, layer norm and RMS norm; K rows twice: in the head and
    in the layer before the last."""

    def __init__(self, classes: int, width: int = 16) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.positions = nn.Parameter(torch.randn(1, 4, width) / 4)
        self.norm1, self.norm2 = nn.LayerNorm(width), _RmsNorm(width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.wide = nn.Linear(width, classes)
        self.norm3 = nn.LayerNorm(classes)
        self.head = nn.Linear(classes, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return torch.as_tensor(self.head(self.norm3(torch.relu(self.wide(self.norm2(x)).mean(1)))))


def _trained(classes: int, seed: int) -> dict[str, NDArray[np.float64]]:
    """Weights that moved a little from where they started; the head's rows moved together, as with many classes."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    found = {}
    for name, parameter in _SmallViT(classes).named_parameters():
        values = parameter.detach().numpy().astype(np.float64)
        found[name] = values + 0.01 * rng.normal(size=values.shape)
    found["head.weight"] += 0.5
    found["head.bias"] -= 2.0
    return found


@pytest.mark.parametrize("classes", [7, 1000])
def test_a_cosine_without_the_heads_class_mean_and_norms_is_that_of_the_rest(classes: int) -> None:
    """A ViT of two runs that have nothing in common reads far from 0, and near it without what is the same for all."""
    network = _SmallViT(classes)
    runs = [_trained(classes, seed) for seed in (1, 2)]
    norms = weights.norm_parameters(network)
    head = weights.head_parameters(network, (3, 8, 8), classes)
    assert set(norms) == {"norm1.weight", "norm1.bias", "norm2.weight", "norm3.weight", "norm3.bias"}
    assert head == ("head.weight", "head.bias")
    left = {name: np.stack([run[name].ravel() for run in runs]) for name in runs[0] if name not in norms}
    for name in head:
        left[name] = weights.without_class_mean(left[name], classes)
    rest = np.concatenate(list(left.values()), axis=1)
    found = similarity.cosines(rest @ rest.T)[0, 1]

    def by_hand(run: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        kept = [run["positions"], run["patches.weight"], run["patches.bias"], run["wide.weight"], run["wide.bias"]]
        kept += [value for name, value in run.items() if name.startswith("attention")]
        kept += [run["head.weight"] - run["head.weight"].mean(axis=0), run["head.bias"] - run["head.bias"].mean()]
        return np.concatenate([value.ravel() for value in kept])

    a, b = map(by_hand, runs)
    assert found == pytest.approx(a @ b / np.sqrt((a @ a) * (b @ b)), abs=1e-12)
    whole = [np.concatenate([value.ravel() for value in run.values()]) for run in runs]
    plain = whole[0] @ whole[1] / np.sqrt((whole[0] @ whole[0]) * (whole[1] @ whole[1]))
    assert plain > 0.4
    assert abs(found) < 0.1


@pytest.mark.parametrize("name", ["mlp", "small-cnn", "resnet20v1", "resnet18"])
def test_the_head_of_every_network_of_ours_is_found_and_left_as_it_is(name: str) -> None:
    shape = (3, 8, 8) if name == "mlp" else (3, 32, 32)
    network = build(NetworkSpec.model_validate({"architecture": name}), (*shape, 10), seed=0)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    head = weights.head_parameters(network, shape, 10)
    last = [key for key, _ in network.named_parameters()][-2:]
    assert list(head) == last
    assert all((network.state_dict()[key] == value).all() for key, value in before.items())
    scales = [
        key for key, parameter in network.named_parameters() if f"{key.rpartition('.')[0]}.running_mean" in before
    ]
    assert list(weights.norm_parameters(network)) == scales


def test_a_last_layer_whose_class_mean_matters_is_no_head() -> None:
    scaled = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU())  # logits are cut off at 0
    assert weights.head_parameters(scaled, (3, 2, 2), 5) == ()
    unused = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    unused.add_module("spare", nn.Identity())
    unused.spare.add_module("never", nn.Linear(4, 4))  # changes nothing, whatever is added
    assert weights.head_parameters(unused, (3, 2, 2), 4) == ("1.weight", "1.bias")


@pytest.mark.parametrize(("classes", "examples"), [(2, 1), (10, 63), (10, 64), (10, 1000), (100, 130), (1000, 65)])
def test_disagreement_counts_exactly(classes: int, examples: int) -> None:
    rng = np.random.default_rng(classes)
    labels = rng.integers(classes, size=(9, examples)).astype(np.int64)
    expected = (labels[:, None] != labels[None]).mean(axis=-1)
    assert (similarity.disagreement(labels) == expected).all()
    assert (similarity.disagreement(labels[:3], labels[3:]) == expected[:3, 3:]).all()
    assert (similarity.disagreement(labels.astype(np.uint16)) == expected).all()


def test_disagreement_is_a_distance() -> None:
    labels = np.random.default_rng(3).integers(10, size=(8, 500))
    d = similarity.disagreement(labels)
    assert (np.diag(d) == 0).all()
    assert (d == d.T).all()
    assert all(d[i, j] <= d[i, k] + d[k, j] for i, j, k in product(range(8), repeat=3))


def test_diversity_divides_by_the_error_of_the_sample() -> None:
    # two independent functions, a = a* = 0.71 with ten classes: 0.486556 / 0.29
    assert similarity.diversity(0.486556, 0.71) == pytest.approx(1.677778, abs=1e-5)
    assert similarity.diversity(0.1, 1.0) is None


def _plain(measure: Measure, p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """Each measure as science writes it, one example after another."""
    total = 0.0
    for a, b in zip(p, q, strict=True):
        middle = (a + b) / 2
        total += {
            "kl": sum(a * np.log(a / b)),
            "symmetric-kl": (sum(a * np.log(a / b)) + sum(b * np.log(b / a))) / 2,
            "js": (sum(a * np.log(a / middle)) + sum(b * np.log(b / middle))) / 2,
            "total-variation": sum(abs(a - b)) / 2,
            "hellinger": np.sqrt(sum((np.sqrt(a) - np.sqrt(b)) ** 2) / 2),
            "l2": np.sqrt(sum((a - b) ** 2)),
        }[measure]
    return total / len(p)


@pytest.mark.parametrize("classes", [2, 5, 63, 64, 150])
def test_divergences_equal_their_definitions(classes: int) -> None:
    bases, others = _logits(2, 40, classes), _logits(18, 40, classes, seed=1)
    found = similarity.divergences(bases, others)
    assert set(found) == set(similarity.MEASURES)
    for measure in similarity.MEASURES:
        expected = [[_plain(measure, softmax(base), softmax(other)) for other in others] for base in bases]
        assert found[measure] == pytest.approx(np.array(expected), abs=1e-12)


def test_functions_beside_themselves_have_the_divergences_of_any_two_groups() -> None:
    """Each pair is then compared once: the other half is its mirror."""
    functions = list(_logits(40, 30, 10))  # more than are compared at once
    found, beside_copies = (similarity.divergences(functions, others) for others in (functions, list(functions)))
    for measure, values in found.items():
        assert values == pytest.approx(beside_copies[measure], abs=1e-12), measure
        if measure != "kl":
            np.testing.assert_array_equal(values, values.T)
    assert found["kl"] != pytest.approx(found["kl"].T, abs=1e-3)


def test_divergences_equal_scipy() -> None:
    from scipy.spatial import distance
    from scipy.stats import entropy

    logits = _logits(2, 300, 10)
    found = {measure: values[0, 0] for measure, values in similarity.divergences(logits[:1], logits[1:]).items()}
    p, q = softmax(logits)
    both = list(zip(p, q, strict=True))
    expected = {
        "kl": entropy(p, q, axis=-1).mean(),
        "symmetric-kl": (entropy(p, q, axis=-1) + entropy(q, p, axis=-1)).mean() / 2,
        "js": np.mean(distance.jensenshannon(p, q, axis=-1) ** 2),  # scipy gives its root
        "total-variation": np.mean([distance.cityblock(a, b) for a, b in both]) / 2,
        "hellinger": np.mean([distance.euclidean(np.sqrt(a), np.sqrt(b)) for a, b in both]) / np.sqrt(2),
        "l2": np.mean([distance.euclidean(a, b) for a, b in both]),
    }
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.slow  # importing scikit-learn
def test_cosine_and_disagreement_equal_scikit_learn() -> None:
    from sklearn.metrics import pairwise_distances
    from sklearn.metrics.pairwise import cosine_similarity

    weights = _logits(6, 5000).astype(np.float64)
    assert similarity.cosines(weights @ weights.T) == pytest.approx(cosine_similarity(weights), abs=1e-12)
    labels = np.random.default_rng(5).integers(10, size=(6, 777))
    assert similarity.disagreement(labels) == pytest.approx(pairwise_distances(labels, metric="hamming"), abs=1e-12)


def test_divergences_do_not_depend_on_the_blocks() -> None:
    bases, others = _logits(2, 9000, 10), _logits(2, 9000, 10, seed=1)
    whole = similarity.divergences(bases, others)
    halves = [similarity.divergences(bases[:, part], others[:, part]) for part in (slice(0, 4500), slice(4500, None))]
    for measure in similarity.MEASURES:
        assert whole[measure] == pytest.approx((halves[0][measure] + halves[1][measure]) / 2, abs=1e-12)


def test_a_function_is_at_no_distance_from_itself_and_bounds_hold() -> None:
    certain = np.array([[[2000.0, 0, 0]] * 5], np.float32)
    opposite = np.array([[[0.0, 2000, 0]] * 5], np.float32)
    for logits in (certain, _logits(1, 50, 3)):
        for measure, found in similarity.divergences(logits, logits).items():
            assert found[0, 0] == pytest.approx(0, abs=1e-12), measure
    far = similarity.divergences(certain, opposite)
    assert far["kl"][0, 0] == pytest.approx(2000)  # finite: nothing was clipped
    assert far["js"][0, 0] == pytest.approx(np.log(2))
    assert far["total-variation"][0, 0] == pytest.approx(1)
    assert far["hellinger"][0, 0] == pytest.approx(1)
    assert far["l2"][0, 0] == pytest.approx(np.sqrt(2))


def test_check_is_called_for_every_function_and_may_stop() -> None:
    class Stop(Exception):
        pass

    def stop() -> None:
        raise Stop

    with pytest.raises(Stop):
        similarity.divergences(_logits(1, 5, 3), _logits(1, 5, 3), check=stop)


def test_js_of_members_is_the_entropy_difference_and_bounded() -> None:
    members = softmax(_logits(5, 3000, 10))
    mean = members.mean(axis=0)
    expected = np.mean([(p * np.log(p / mean)).sum(axis=-1).mean() for p in members])
    assert similarity.js_mean(members) == pytest.approx(expected, abs=1e-12)
    assert similarity.js_mean(members[[2, 0, 4, 1, 3]]) == pytest.approx(expected, abs=1e-12)
    assert similarity.js_mean(np.eye(5)[:, None]) == pytest.approx(np.log(5))  # five certain, different answers
    assert similarity.js_mean(members[[0, 0, 0]]) == pytest.approx(0, abs=1e-12)


def test_the_pair_divergence_is_js_of_two_members() -> None:
    logits = _logits(2, 200, 10)
    pair = similarity.divergences(logits[:1], logits[1:], ("js",))["js"][0, 0]
    assert pair == pytest.approx(similarity.js_mean(softmax(logits)), abs=1e-12)


@pytest.mark.parametrize("classes", [4, 100])  # summed along examples and along classes
def test_gram_has_the_distances_of_the_predictions(classes: int) -> None:
    logits = _logits(6, 90, classes)
    flat = softmax(logits).reshape(6, -1)
    products = similarity.gram(list(logits))
    squares = np.diag(products)
    distances = squares[:, None] + squares[None] - 2 * products
    spread = np.square(flat - flat.mean(axis=0)).sum(axis=1).max()
    assert distances == pytest.approx(((flat[:, None] - flat[None]) ** 2).sum(axis=-1), abs=1e-6 * spread)
    assert products.sum(axis=0) == pytest.approx(np.zeros(6), abs=1e-6 * spread)


def _three_groups(each: int = 12) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Functions scattered around three centres."""
    centres = _logits(3, 60, 5, scale=4)
    group = np.repeat(np.arange(3), each)
    return centres[group] + _logits(3 * each, 60, 5, seed=5, scale=0.7), group


@pytest.mark.parametrize("count", [12, 60, 350])
def test_functions_that_are_one_function_are_mapped_to_one_point(count: int) -> None:
    """Rounding is not spread out to a picture."""
    found = similarity.embed(similarity.gram([_logits(40, 10)] * count), seed=0)
    assert found.tsne is not None
    for points in (found.tsne, found.pca):
        assert np.ptp(points, axis=0) == pytest.approx([0, 0], abs=1e-5)


def test_maps_keep_neighbours_together_and_repeat_exactly() -> None:
    logits, group = _three_groups()
    products = similarity.gram(list(logits))
    maps = similarity.embed(products, seed=3)
    again = similarity.embed(products, seed=3)
    assert maps.perplexity == pytest.approx(35 / 3)
    assert 0 < maps.share <= 1
    for points, repeated in ((maps.tsne, again.tsne), (maps.pca, again.pca), (maps.mds, again.mds)):
        assert points is not None
        assert repeated is not None
        assert (points == repeated).all()
        assert points.shape == (36, 2)
        distances = ((points[:, None] - points[None]) ** 2).sum(axis=-1) + np.diag(np.full(36, np.inf))
        assert (group[distances.argmin(axis=1)] == group).all()


def test_pca_matches_the_singular_values_of_the_predictions() -> None:
    logits, _ = _three_groups(4)
    flat = softmax(logits).reshape(12, -1)
    values = np.linalg.svd(flat - flat.mean(axis=0), compute_uv=False)
    maps = similarity.embed(similarity.gram(list(logits)), seed=0)
    assert (maps.pca**2).sum(axis=0) == pytest.approx(values[:2] ** 2)
    assert maps.share == pytest.approx((values[:2] ** 2).sum() / (values**2).sum())


def test_metric_scaling_keeps_distances_better_than_the_projection() -> None:
    logits, _ = _three_groups(5)
    products = similarity.gram(list(logits))
    maps = similarity.embed(products, seed=0)
    true = np.sqrt(np.maximum(np.diag(products)[:, None] + np.diag(products) - 2 * products, 0))

    def stress(points: NDArray[np.float64]) -> float:
        flat = np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=-1))
        return float(np.sqrt(((flat - true) ** 2).sum() / (true**2).sum()))

    assert stress(maps.mds) < stress(maps.pca)
    assert maps.stress == pytest.approx(stress(maps.mds), rel=1e-6)


@pytest.mark.slow  # importing scikit-learn
@pytest.mark.parametrize("count", [3, 40, 200])
def test_metric_scaling_is_scikit_learns_smacof(count: int) -> None:
    from sklearn.manifold import smacof

    points = np.random.default_rng(count).normal(size=(count, 20))
    points[-1] = points[0]  # one function twice
    apart = np.sqrt(np.square(points[:, None] - points[None]).sum(axis=-1))
    start = points[:, :2] - points[:, :2].mean(axis=0)
    found, stress = metric_scaling(np.square(apart), start)
    expected, raw = smacof(apart, init=start, n_init=1, max_iter=300, eps=1e-7, normalized_stress=False)
    centred = expected - expected.mean(axis=0)
    np.testing.assert_allclose(found - found.mean(axis=0), centred, atol=1e-4 * np.abs(centred).max())
    assert stress == pytest.approx(np.sqrt(2 * raw / np.square(apart).sum()), rel=1e-6, abs=1e-7)
    assert metric_scaling(np.zeros((4, 4)), start[:4])[1] == 0.0


def test_metric_scaling_is_the_map_that_plain_majorisation_ends_at() -> None:
    """de Leeuw's update X <- B(X) X / n, written out and repeated until nothing moves."""
    logits, _ = _three_groups(5)
    products = similarity.gram(list(logits))
    maps, squares = similarity.embed(products, seed=0), np.diag(products)
    true = np.sqrt(np.maximum(squares[:, None] + squares - 2 * products, 0))
    points = maps.pca
    for _ in range(5000):
        apart = np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=-1)) + np.eye(len(points))
        ratios = true / apart
        points = (ratios.sum(axis=1)[:, None] * points - ratios @ points) / len(points)
    flat = np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=-1))
    assert maps.stress == pytest.approx(np.sqrt(((flat - true) ** 2).sum() / (true**2).sum()), abs=1e-5)
    assert np.abs(maps.mds - points).max() < 0.01 * np.ptp(points)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_too_few_functions_for_tsne_still_have_the_other_maps(count: int) -> None:
    maps = similarity.embed(similarity.gram(list(_logits(count, 20, 3))), seed=0)
    assert maps.tsne is None
    assert maps.perplexity is None
    assert maps.pca.shape == maps.mds.shape == (count, 2)
    assert np.isfinite(maps.pca).all()
    assert np.isfinite(maps.mds).all()


def test_perplexity_stays_below_the_number_of_functions_and_duplicates_are_fine() -> None:
    logits = _logits(6, 30, 3)
    logits[3:] = logits[0]
    maps = similarity.embed(similarity.gram(list(logits)), seed=0, perplexity=30.0)
    assert maps.perplexity == 5
    assert maps.tsne is not None
    assert np.isfinite(maps.tsne).all()
