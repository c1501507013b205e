"""Paths of weights: barriers by hand, profiles against one network at a time, batch norm estimated again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from modescape.architectures.building import build
from modescape.datasets import loading
from modescape.science import weights
from modescape.science.barriers import barrier, fractions, profile, straight
from modescape.spec import parse


def test_the_barrier_of_a_parabola_is_its_height_over_the_chord() -> None:
    # L(t) = 3 + 2t + 4h t(1 - t) rises above its chord 3 + 2t by 4h t(1 - t), which is h at t = 1/2
    t = fractions(25)
    assert barrier(3 + 2 * t + 4 * 0.7 * t * (1 - t), t) == pytest.approx(0.7, abs=1e-12)
    # a path that sags below its chord has none; the ends are on the chord
    assert barrier(3 + 2 * t - 4 * 0.7 * t * (1 - t), t) == 0
    assert barrier(3 + 2 * t, t) == pytest.approx(0, abs=1e-12)


def test_the_barrier_is_measured_from_the_chord_not_from_the_mean_of_the_ends() -> None:
    # 0, 1, 4 at 0, 1/2, 1: below the chord everywhere, though the far end is two above the mean of the ends
    assert barrier(np.array([0.0, 1.0, 4.0]), fractions(3)) == 0
    assert barrier(np.array([0.0, 5.0, 4.0]), fractions(3)) == 3  # chord 2 at 1/2


def test_a_straight_line_begins_and_ends_at_its_ends_exactly() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 50)).astype(np.float32)
    points = list(straight(a, b, fractions(5)))
    np.testing.assert_array_equal(points[0], a)
    np.testing.assert_array_equal(points[-1], b)
    np.testing.assert_allclose(points[1], 0.75 * a + 0.25 * b, rtol=1e-6, atol=1e-7)
    assert points[1].dtype == np.float32


def test_a_profile_is_what_each_network_alone_predicts() -> None:
    spec = parse({"data": {"dataset": "blobs"}, "network": {"architecture": "small-cnn"}})
    splits = loading.load(spec.data, ())
    first, second = (build(spec.network, splits.shape, seed=seed).eval() for seed in (1, 2))
    a, b = weights.flatten(first), weights.flatten(second)
    told: list[int] = []
    test, train = splits.test.take(60), splits.train.take(40)
    found = profile(
        build(spec.network, splits.shape, seed=3), straight(a, b, fractions(3)), {"train": train, "test": test},
        splits.transform, told=told.append,
    )  # fmt: skip
    assert told == [1, 2, 3]
    middle = build(spec.network, splits.shape, seed=4).eval()
    with torch.no_grad():
        for own, one, two in zip(middle.parameters(), first.parameters(), second.parameters(), strict=True):
            own.copy_((one.double() / 2 + two.double() / 2).float())
    for name, split in (("train", train), ("test", test)):
        for i, network in enumerate((first, middle, second)):
            with torch.no_grad():
                logits = network(splits.transform(split.batch(torch.arange(len(split)))))
            assert found[name].loss[i] == pytest.approx(float(F.cross_entropy(logits, split.labels)), abs=1e-5)
            assert found[name].accuracy[i] == float((logits.argmax(1) == split.labels).double().mean())
            np.testing.assert_array_equal(found[name].labels[i], logits.argmax(1).numpy())
        np.testing.assert_array_equal(found[name].error, 1 - found[name].accuracy)
        own = found[name].agreement(found[name].labels[0])
        assert own[0] == 1
        assert own[-1] == (found[name].labels[0] == found[name].labels[-1]).mean()


def test_batch_norm_statistics_are_estimated_again_at_every_point() -> None:
    spec = parse({
        "data": {"dataset": "blobs", "train_images": 60, "test_images": 20}, "network": {"architecture": "resnet20v1"},
        "training": {"batch_size": 20},
    })  # fmt: skip
    splits = loading.load(spec.data, ())
    network = build(spec.network, splits.shape, seed=1)
    theta = weights.flatten(network)
    asked = {"test": splits.test}
    stale = profile(network, [theta, 2 * theta], asked, splits.transform)
    fresh = profile(network, [theta, 2 * theta], asked, splits.transform, statistics=splits.train)
    assert not np.allclose(stale["test"].loss, fresh["test"].loss)
    # by hand: the statistics of the last point are those of the training images under its weights
    kept = weights.buffers(network)
    weights.assign(network, 2 * theta)
    weights.refresh_batch_norm(network, splits.train, splits.transform, 2000)
    for name, value in weights.buffers(network).items():
        np.testing.assert_array_equal(value, kept[name])
