"""A group trains what its members train alone: to the bit in turn, up to rounding as one function of all weights."""

from __future__ import annotations

import copy
import statistics
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from test_training import Notebook, spec

from modescape.architectures.building import build
from modescape.datasets import loading
from modescape.errors import Diverged, InvalidInput, PauseRequested
from modescape.science import weights
from modescape.science.data import Split, Splits
from modescape.science.seeds import RunSeeds, run_seeds
from modescape.spec import ExperimentSpec
from modescape.training import Recipe, Run, Silent, train
from modescape.training_groups import Trainee, _Stack, cannot_be, train_group

NETWORKS = ("mlp", "small-cnn", "resnet20v1")


def data_of(asked: ExperimentSpec) -> Splits:
    return loading.load(asked.data, ())


def seeds_of(run: int) -> RunSeeds:
    return run_seeds(0, run=run)


def made(asked: ExperimentSpec, splits: Splits, run: int) -> torch.nn.Module:
    return build(asked.network, splits.shape, seed=seeds_of(run).weights)


def alone(asked: ExperimentSpec, splits: Splits, run: int, listener: Any = None) -> torch.nn.Module:
    network = made(asked, splits, run)
    train(network, splits, asked.training, seeds_of(run), listener=listener)
    return network


def flat(network: torch.nn.Module) -> np.ndarray:
    return weights.flatten(network)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", NETWORKS)
def test_in_turn_members_are_to_the_bit_what_they_are_alone(architecture: str) -> None:
    asked = spec(architecture, epochs=2)
    splits = data_of(asked)
    listeners = [Notebook() for _ in range(3)]
    members = [Trainee(made(asked, splits, run), seeds_of(run), listeners[run]) for run in range(3)]
    assert train_group(members, splits, asked.training, way="branches") == [None] * 3
    for run, one in enumerate(members):
        own = Notebook()
        np.testing.assert_array_equal(flat(one.network), flat(alone(asked, splits, run, own)))
        heard = listeners[run]
        assert (heard.checkpoints, heard.snapshots) == (own.checkpoints, own.snapshots)
        assert [step for step, _ in heard.points] == [step for step, _ in own.points]
        assert heard.points == own.points


@pytest.mark.slow
@pytest.mark.parametrize("architecture", NETWORKS)
@pytest.mark.parametrize(
    "changes", [{}, {"optimiser": "momentum", "weight_decay": 1e-3}, {"augmentation": "shift-flip"}]
)
def test_from_equal_states_one_step_of_a_stack_has_the_gradients_of_its_members(
    architecture: str, changes: dict[str, Any]
) -> None:
    asked = spec(architecture, precision="float32", **changes)
    splits = noisy(data_of(asked))
    recipe = Recipe.of(asked.training, len(splits.train))
    networks = [made(asked, splits, run) for run in range(3)]
    runs = [Run(n, splits, asked.training, seeds_of(i), recipe, "cpu", 0) for i, n in enumerate(networks)]
    others = [
        Run(copy.deepcopy(n), splits, asked.training, seeds_of(i), recipe, "cpu", 0) for i, n in enumerate(networks)
    ]
    stack = _Stack(runs, "float32")
    # a bias before batch norm has no gradient but rounding, which Adam makes a step of
    has_norms = any(True for _ in networks[0].buffers())
    for _ in range(1 if has_norms else 2):
        stack.learn()
        for one in others:
            one.learn(one.batch(one.step), "float32")
        apart = [relative(run.gradient, one.gradient) for run, one in zip(runs, others, strict=True)]
        # of half a million activations one may be so near 0 that rounding decides which side of a ReLU it is on
        assert statistics.median(apart) < 1e-5
        assert max(apart) < (0.05 if has_norms else 1e-5)
        for run, one in zip(runs, others, strict=True):
            assert has_norms or relative(run.theta, one.theta) < 1e-5
            assert run.sums.tolist() == pytest.approx(one.sums.tolist(), rel=1e-5)
            for (name, mine), (_, theirs) in zip(run.module.named_buffers(), one.module.named_buffers(), strict=True):
                assert torch.allclose(mine.double(), theirs.double(), rtol=1e-4, atol=1e-6), name


def noisy(splits: Splits) -> Splits:
    """With images of noise: where pixels are alike, features may be exactly 0, and rounding decides their gradients."""
    shape = splits.train.images.shape
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return replace(splits, train=Split(pixels, splits.train.labels))


def relative(ours: torch.Tensor, other: torch.Tensor) -> float:
    return float((ours - other).norm() / other.norm())


@pytest.mark.slow
@pytest.mark.parametrize("way", ["branches", "stacked"])
def test_a_member_that_stops_is_resumed_in_a_group_of_another_size(way: Any) -> None:
    asked = spec("mlp", epochs=4, precision="float32")
    splits = data_of(asked)
    stopped = Notebook(stop_after=30)
    members = [Trainee(made(asked, splits, run), seeds_of(run), stopped if run == 1 else Silent()) for run in range(3)]
    first, second, third = train_group(members, splits, asked.training, way=way)
    assert (first, third) == (None, None)
    assert isinstance(second, PauseRequested)
    state = stopped.saved[-1]
    assert 0 < state.meta["step"] < Recipe.of(asked.training, len(splits.train)).plan.steps
    later = [
        Trainee(made(asked, splits, 1), seeds_of(1), resume=state), Trainee(made(asked, splits, 3), seeds_of(3)),
    ]  # fmt: skip
    assert train_group(later, splits, asked.training, way=way) == [None, None]
    for run, one in ((0, members[0]), (1, later[0]), (2, members[2]), (3, later[1])):
        expected = flat(alone(asked, splits, run))
        if way == "branches":
            np.testing.assert_array_equal(flat(one.network), expected)
        else:
            assert np.linalg.norm(flat(one.network) - expected) < 1e-3 * np.linalg.norm(expected)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["branches", "stacked"])
def test_a_member_that_diverges_leaves_and_the_others_are_as_without_it(way: Any) -> None:
    asked = spec("mlp", epochs=2, precision="float32")
    splits = data_of(asked)
    broken = made(asked, splits, 1)
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    members = [Trainee(n, seeds_of(i)) for i, n in enumerate([made(asked, splits, 0), broken, made(asked, splits, 2)])]
    first, second, third = train_group(members, splits, asked.training, way=way)
    assert (first, third) == (None, None)
    assert isinstance(second, Diverged)
    for run in (0, 2):
        expected = flat(alone(asked, splits, run))
        assert np.linalg.norm(flat(members[run].network) - expected) < 1e-3 * np.linalg.norm(expected)


def test_what_cannot_be_grouped_is_refused_in_words() -> None:
    asked = spec("mlp")
    splits = data_of(asked)
    two = [made(asked, splits, run) for run in range(2)]
    assert cannot_be("stacked", two, asked.training) is None
    assert "optimiser" in str(cannot_be("stacked", two, spec("mlp", optimiser="adamw").training))
    assert cannot_be("branches", two, spec("mlp", optimiser="adamw").training) is None
    other = build(spec("small-cnn").network, splits.shape, seed=0)
    assert "differ" in str(cannot_be("stacked", [two[0], other], asked.training))
    drawing = [torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5)) for _ in range(2)]
    assert "Dropout draws" in str(cannot_be("stacked", drawing, asked.training))
    with pytest.raises(InvalidInput, match="optimiser"):
        train_group(
            [Trainee(n, seeds_of(0)) for n in two], splits, spec("mlp", optimiser="adamw").training, way="stacked"
        )
