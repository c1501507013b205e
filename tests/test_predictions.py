"""Scores against other libraries and by hand; predictions against the plain loop."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from modescape.architectures.building import build
from modescape.science import predictions
from modescape.science.data import InputTransform, Shape, Split
from modescape.science.in_blocks import in_blocks
from modescape.science.networks import Cnn
from modescape.science.predictions import ActivationMask, Placed
from modescape.spec_parts import NetworkSpec

EXAMPLES, CLASSES, MEMBERS = 3000, 10, 4


@pytest.fixture(scope="module")
def logits() -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(0, 2, (MEMBERS, EXAMPLES, CLASSES)).astype(np.float32)


@pytest.fixture(scope="module")
def labels(logits: NDArray[np.float32]) -> NDArray[np.int64]:
    """True labels of which about half are predicted."""
    rng = np.random.default_rng(1)
    return np.where(rng.random(EXAMPLES) < 0.5, logits[0].argmax(-1), rng.integers(CLASSES, size=EXAMPLES))


# --- scores -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow  # importing torchmetrics takes several seconds
def test_scores_equal_other_libraries(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
    from scipy.stats import entropy
    from sklearn.metrics import accuracy_score, log_loss
    from torchmetrics.functional.classification import multiclass_calibration_error

    found = predictions.scores(logits[0], labels)
    probabilities = torch.from_numpy(logits[0]).double().softmax(-1)
    one_hot = np.eye(CLASSES)[labels]
    assert found["accuracy"] == accuracy_score(labels, logits[0].argmax(-1))
    assert found["nll"] == pytest.approx(log_loss(labels, probabilities.numpy(), labels=range(CLASSES)), abs=1e-6)
    assert found["brier"] == pytest.approx(((probabilities.numpy() - one_hot) ** 2).sum(-1).mean(), abs=1e-12)
    expected = multiclass_calibration_error(probabilities, torch.from_numpy(labels), CLASSES, n_bins=15, norm="l1")
    assert found["ece"] == pytest.approx(float(expected), abs=1e-6)
    assert found["entropy"] == pytest.approx(entropy(probabilities.numpy(), axis=-1).mean(), abs=1e-12)


@pytest.mark.slow  # importing scikit-learn
def test_brier_scores_equal_scikit_learn_summed_over_classes(
    logits: NDArray[np.float32], labels: NDArray[np.int64]
) -> None:
    from sklearn.metrics import brier_score_loss

    for member in logits:
        p = predictions.softmax(member)
        expected = sum(brier_score_loss(labels == k, p[:, k]) for k in range(CLASSES))
        assert predictions.brier(p, labels) == pytest.approx(expected, abs=1e-12)


def test_softmax_equals_scipy(logits: NDArray[np.float32]) -> None:
    from scipy.special import log_softmax, softmax

    assert predictions.log_softmax(logits) == pytest.approx(log_softmax(logits.astype(np.float64), axis=-1), abs=1e-12)
    assert predictions.softmax(logits) == pytest.approx(softmax(logits.astype(np.float64), axis=-1), abs=1e-12)


def test_scores_of_uniform_and_of_certain_predictions_are_known() -> None:
    labels = np.array([0, 1, 2, 0])
    uniform = predictions.scores(np.zeros((4, 3)), labels)
    assert uniform["brier"] == pytest.approx(1 - 1 / 3)
    assert uniform["nll"] == pytest.approx(math.log(3)) == pytest.approx(uniform["entropy"])
    certain = predictions.scores(1e4 * np.eye(3)[labels], labels)
    assert certain == {"accuracy": 1, "nll": 0, "brier": 0, "ece": 0, "entropy": 0}
    wrong = predictions.scores(1e4 * np.eye(3)[(labels + 1) % 3], labels)
    assert wrong["brier"] == 2
    assert wrong["nll"] == pytest.approx(1e4)  # finite: log-softmax needs no epsilon
    assert wrong["ece"] == 1


def test_ties_go_to_the_lowest_class() -> None:
    assert predictions.accuracy(np.zeros((2, 3)), np.array([0, 1])) == 0.5


def test_calibration_bins_are_open_below_and_closed_above() -> None:
    # two bins: 0.5 belongs to (0, 0.5], 0.75 and 1 to (0.5, 1]
    probabilities = np.array([[0.5, 0.5], [0.75, 0.25], [1.0, 0.0]])
    labels = np.array([0, 1, 0])
    # first bin: |1 - 0.5| * 1; second: |1 - 1.75| over its two examples
    assert predictions.ece(probabilities, labels, bins=2) == pytest.approx((0.5 + 0.75) / 3)


def test_an_ensemble_averages_probabilities(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
    mean = torch.from_numpy(logits).double().softmax(-1).mean(0).numpy()
    found = predictions.average(logits)
    assert predictions.softmax(found) == pytest.approx(mean, abs=1e-12)
    assert np.exp(found) == pytest.approx(mean, abs=1e-12)
    assert predictions.scores(found, labels)["brier"] == pytest.approx(predictions.brier(mean, labels), abs=1e-12)
    assert predictions.average(logits[::-1]) == pytest.approx(found, abs=1e-12)


def test_an_ensemble_of_extreme_members_stays_finite() -> None:
    members = [np.array([[3000.0, 0.0]]), np.array([[2000.0, 0.0]])]
    assert predictions.nll(predictions.average(members), np.array([1])) == pytest.approx(2000 + math.log(2))


def test_the_average_of_no_members_is_refused() -> None:
    with pytest.raises(ValueError, match="no members"):
        predictions.average([])


# --- predictions ------------------------------------------------------------------------------------------------------


def _split(count: int = 230, side: int = 12) -> Split:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 1, side, side), dtype=torch.uint8, generator=generator)
    return Split(images, torch.zeros(count, dtype=torch.int64))


def _network(architecture: str = "small-cnn", side: int = 12) -> torch.nn.Module:
    network = NetworkSpec.model_validate({"architecture": architecture})
    return build(network, Shape(1, side, side, CLASSES), seed=1)


RAW = InputTransform("raw255", np.zeros(1, np.float32), np.ones(1, np.float32))
UNIT = InputTransform("unit", np.zeros(1, np.float32), np.full(1, 1 / 255, np.float32))


@pytest.mark.parametrize("architecture", ["small-cnn", "mlp", "resnet20v1"])
def test_predictions_equal_the_plain_loop(architecture: str) -> None:
    network, split = _network(architecture), _split()
    network.train()
    found = predictions.predict(network, split, UNIT, batch=64)
    assert found.dtype == np.float32
    assert found.shape == (230, CLASSES)
    assert network.training  # left as it was
    network.eval()
    with torch.no_grad():
        expected = network(split.images.float() / 255).numpy()
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("side", [9, 13, 16])
@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("small-cnn", {"order": "conv-relu-pool-drop", "last_relu": True}),
        ("medium-cnn", {"width": 8}),
        ("resnet20v1", {"width": 4}),
        ("resnet18", {"width": 4}),
    ],
)
def test_a_network_in_blocks_is_the_same_function(architecture: str, options: dict[str, Any], side: int) -> None:
    spec = NetworkSpec.model_validate({"architecture": architecture, "options": options})
    network = build(spec, Shape(3, side, side, 7), seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():  # as it is after training, running statistics and all
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.mul_(1 + 0.3 * torch.rand(value.shape, generator=generator))
                value.add_(0.05 * torch.rand(value.shape, generator=generator))
    network.eval()
    images = torch.randn(20, 3, side, side, generator=generator)
    function = in_blocks(network, images.shape)
    assert function is not None
    with torch.no_grad():
        expected = network(images).numpy()
        for count in (20, 7):
            found = function(images[:count].to_mkldnn()).numpy()
            assert found == pytest.approx(expected[:count], abs=1e-5 * float(abs(expected).max()))


class _Doubled(Cnn):
    def forward(self, images: Any) -> torch.Tensor:
        return 2 * super().forward(images)


def test_a_network_that_computes_something_else_keeps_doing_so() -> None:
    split = _split(20)
    plain = predictions.predict(_network(), split, UNIT)
    derived, hooked, replaced = _network(), _network(), _network()
    derived.__class__ = _Doubled
    hooked.register_forward_hook(lambda _, given, found: found * 3)
    replaced.blocks[1].conv.padding_mode = "circular"
    assert predictions.predict(derived, split, UNIT) == pytest.approx(2 * plain, abs=1e-5)
    for network in (hooked, replaced):
        found = predictions.predict(network.eval(), split, UNIT)
        with torch.no_grad():
            assert found == pytest.approx(network(split.images.float() / 255).numpy(), abs=1e-5)
        assert abs(found - plain).max() > 1e-3


def test_predictions_repeat_bit_for_bit_and_can_stop_early() -> None:
    network, split = _network(), _split()
    first = predictions.predict(network, split, RAW)
    assert (predictions.predict(network, split, RAW) == first).all()
    assert predictions.predict(network, split, RAW, limit=50) == pytest.approx(first[:50], rel=1e-5, abs=1e-3)

    class Stop(Exception):
        pass

    def stop() -> None:
        raise Stop

    with pytest.raises(Stop):
        predictions.predict(network, split, RAW, check=stop)


@pytest.mark.parametrize("architecture", ["small-cnn", "mlp"])
def test_several_networks_predict_together_what_each_predicts_alone(architecture: str) -> None:
    networks, split = [_network(architecture) for _ in range(4)], _split()
    for seed, network in enumerate(networks):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)), alpha=0.1)
    networks[1].train()
    masks = [None, None, ActivationMask(0.3, 7, per_example=False), ActivationMask(0.3, 7, per_example=True)]
    found = predictions.predict_each(networks, split, UNIT, masks=masks, batch=64)
    alone = [predictions.predict(n, split, UNIT, mask=m, batch=64) for n, m in zip(networks, masks, strict=True)]
    assert found.shape == (4, 230, CLASSES)
    assert np.array_equal(found, np.stack(alone))
    assert networks[1].training  # left as it was
    with pytest.raises(ValueError, match="no network"):
        predictions.predict_each([], split, UNIT)


MASKED = [None, ActivationMask(0.3, 7, per_example=False), ActivationMask(0.3, 8, per_example=True)]
TORCHVISION = {"model": "mobilenet_v3_small"}  # batch norm


def _functions(network: torch.nn.Module, masks: list[ActivationMask | None]) -> Iterator[Placed[int]]:
    """Nine functions, one after another in one network: weights and running statistics of their own, masks in turn."""
    start = deepcopy(network.state_dict())
    for seed in range(9):
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, value in network.state_dict().items():
                value.copy_(start[name])
                if value.is_floating_point():
                    value.mul_(1 + 0.2 * torch.rand(value.shape, generator=generator))
        yield Placed(seed, network, masks[seed % len(masks)])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "options", "side", "masks"),
    [
        ("small-cnn", {}, 13, [None]), ("small-cnn", {}, 12, MASKED), ("resnet20v1", {"width": 4}, 16, [None]),
        ("mlp", {}, 12, MASKED), ("torchvision", TORCHVISION, 32, [None]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("channels", [1, 3])
def test_functions_predicted_in_groups_have_the_bits_of_each_alone(
    architecture: str, options: dict[str, Any], side: int, masks: list[ActivationMask | None], channels: int
) -> None:
    spec = NetworkSpec.model_validate({"architecture": architecture, "options": options})
    network = build(spec, Shape(channels, side, side, CLASSES), seed=1)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (90, channels, side, side), dtype=torch.uint8, generator=generator)
    whole = Split(images, torch.zeros(90, dtype=torch.int64))
    splits = {"whole": whole, "few": whole.take(31)}
    first = {name: value.clone() for name, value in network.state_dict().items()}
    alone = [
        {name: predictions.predict(one.network, split, UNIT, mask=one.mask) for name, split in splits.items()}
        for one in _functions(network, masks)
    ]
    assert np.ptp([found["whole"] for found in alone], axis=0).max() > 0
    for together, sizes in ((1, [1] * 9), (2, [2] * 4 + [1]), (7, [7, 2]), (None, None)):
        network.load_state_dict(first)
        groups = list(predictions.predict_in_groups(_functions(network, masks), splits, UNIT, together=together))
        assert sizes is None or [len(group) for group in groups] == sizes
        for (number, found), expected in zip([one for group in groups for one in group], alone, strict=True):
            for name in splits:
                assert np.array_equal(found[name], expected[name]), (together, number, name)


def test_a_group_holds_no_more_than_memory_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    network, split = _network(), _split(40)
    own = sum(one.numel() * 4 for one in (*network.parameters(), *network.buffers()))
    monkeypatch.setattr(predictions, "_HELD", 3 * (2 * own + 40 * CLASSES * 4))
    groups = predictions.predict_in_groups(_functions(network, [None]), {"all": split}, UNIT)
    assert [[number for number, _ in group] for group in groups] == [[0], [1, 2, 3], [4, 5, 6], [7, 8]]
    monkeypatch.undo()
    groups = predictions.predict_in_groups(_functions(network, [None]), {"all": split}, UNIT)
    assert [len(group) for group in groups] == [1, 8]


def test_a_group_takes_no_longer_than_it_may_be_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "_SECONDS", 0.0)
    groups = predictions.predict_in_groups(_functions(_network(), [None]), {"all": _split(40)}, UNIT)
    assert [len(group) for group in groups] == [1] * 9


def test_a_network_that_cannot_be_copied_is_predicted_alone() -> None:
    network, split = _network(), _split(40)
    network.register_buffer("expanded", torch.zeros(1).expand(3), persistent=False)
    first = {name: value.clone() for name, value in network.state_dict().items()}
    alone = [predictions.predict(one.network, split, UNIT) for one in _functions(network, [None])]
    network.load_state_dict(first)
    groups = list(predictions.predict_in_groups(_functions(network, [None]), {"all": split}, UNIT, together=4))
    assert [len(group) for group in groups] == [4, 1, 1, 1, 1, 1]
    assert [number for group in groups for number, _ in group] == [*range(9)]
    for (_, found), expected in zip([one for group in groups for one in group], alone, strict=True):
        assert np.array_equal(found["all"], expected)


def test_on_a_card_functions_wait_for_their_images_and_what_follows_for_all_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The card itself is made up: what is asked of it, in order."""
    asked: list[str] = []

    class Stream:
        device = torch.device("cuda", 0)

        def __init__(self, name: str) -> None:
            self.name = name

        def wait_stream(self, other: Any) -> None:
            asked.append(f"{self.name} waits for {other.name}")

    @contextmanager
    def within(stream: Stream) -> Iterator[None]:
        asked.append(f"on {stream.name}")
        yield
        asked.append("off")

    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream("main"))
    monkeypatch.setattr(torch.cuda, "stream", within)
    answers = [partial(torch.full, (1,), value) for value in (1.0, 2.0, 3.0)]
    assert [float(one) for one in predictions._launched(answers, [Stream("a"), Stream("b")])] == [1, 2, 3]
    launched = ["on a", "off", "on b", "off", "on a", "off"]  # two have room at once
    assert asked == ["a waits for main", "b waits for main", *launched, "main waits for a", "main waits for b"]


def test_predicting_leaves_the_weights_alone() -> None:
    network = _network("resnet20v1")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    predictions.predict(network, _split(40), UNIT)
    assert all((value == before[name]).all() for name, value in network.state_dict().items())


def test_no_images_are_refused() -> None:
    with pytest.raises(ValueError, match="no images"):
        predictions.predict(_network(), _split(0), RAW)


def test_one_mask_makes_a_function_and_a_mask_per_image_does_not() -> None:
    network, one = _network(), _split(1)
    split = Split(one.images.expand(300, -1, -1, -1).contiguous(), torch.zeros(300, dtype=torch.int64))
    fixed = predictions.predict(network, split, UNIT, mask=ActivationMask(0.3, 7, per_example=False))
    assert np.ptp(fixed, axis=0) == pytest.approx(np.zeros(CLASSES), abs=1e-5)  # 300 equal images, one answer
    fresh = predictions.predict(network, split, UNIT, mask=ActivationMask(0.3, 7, per_example=True))
    assert (np.ptp(fresh, axis=0) > 1e-3).all()
    plain = predictions.predict(network, split, UNIT)
    assert np.abs(fixed - plain).max() > 1e-3
    # the mask is its seed's, and is gone afterwards
    again = predictions.predict(network, split, UNIT, mask=ActivationMask(0.3, 7, per_example=False))
    other = predictions.predict(network, split, UNIT, mask=ActivationMask(0.3, 8, per_example=False))
    assert (again == fixed).all()
    assert not (other == fixed).all()
    assert (predictions.predict(network, split, UNIT, mask=ActivationMask(0.0, 7, per_example=False)) == plain).all()
