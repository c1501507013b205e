"""A group trains what its members train alone: to the bit in turn, up to rounding as one function of all weights."""

from __future__ import annotations

import copy
import json
import os
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
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
from modescape.science.data.augmentation import augment, drawn_moves, moved
from modescape.science.optimisers import Adam, Descent
from modescape.science.seeds import RunSeeds, run_seeds
from modescape.spec import ExperimentSpec
from modescape.spec_parts import NetworkSpec
from modescape.training import Recipe, Run, Silent, train
from modescape.training_groups import Trainee, cannot_be, train_group
from modescape.training_groups.group import _Stack
from modescape.training_groups.on_card import OnCard, cannot_be_captured

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


# --- steps that a card repeats ----------------------------------------------------------------------------------------


def captured(
    asked: ExperimentSpec, splits: Splits, runs: range, way: Any = "branches", **more: Any
) -> list[np.ndarray]:
    members = [Trainee(made(asked, splits, run), seeds_of(run)) for run in runs]
    assert train_group(members, splits, asked.training, way=way, captured=True, **more) == [None] * len(runs)
    return [flat(one.network) for one in members]


def started(asked: ExperimentSpec, splits: Splits, runs: int = 3) -> list[Run]:
    recipe = Recipe.of(asked.training, len(splits.train))
    return [Run(made(asked, splits, i), splits, asked.training, seeds_of(i), recipe, "cpu", 0) for i in range(runs)]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", NETWORKS)
def test_a_member_of_captured_branches_has_the_bits_of_one_alone(architecture: str) -> None:
    """Also where the last step of an epoch is a shorter one."""
    asked = spec(architecture, epochs=2, sampling="epoch", augmentation="shift-flip", batch_size=48)
    splits = data_of(asked)
    assert len(splits.train) % 48
    together = captured(asked, splits, range(3))
    for run in range(3):
        np.testing.assert_array_equal(captured(asked, splits, range(run, run + 1))[0], together[run])


@pytest.mark.slow
@pytest.mark.parametrize("augmentation", ["none", "shift-flip", "crop-flip"])
@pytest.mark.parametrize("sampling", ["epoch", "replacement"])
def test_without_dropout_captured_steps_are_those_of_a_run_alone(augmentation: str, sampling: str) -> None:
    """The same images in the same order, moved alike, and the same updates up to rounding."""
    asked = spec("small-cnn", precision="float32", augmentation=augmentation, sampling=sampling, weight_decay=1e-3)
    asked = asked.model_copy(
        update={"network": NetworkSpec.model_validate({"architecture": "small-cnn", "options": {"dropout": 0.0}})}
    )
    splits = noisy(data_of(asked))
    card, host = started(asked, splits), started(asked, splits)
    step = OnCard(card, "float32", stacked=False)
    for _ in range(5):
        step.learn()
        for mine, own in zip(card, host, strict=True):
            own.learn(own.batch(own.step), "float32")
            assert mine.step == own.step
            assert relative(mine.gradient, own.gradient) < 1e-4  # Adam makes much of rounding where gradients are small
            assert relative(mine.theta, own.theta) < 1e-4
            assert mine.sums.tolist() == pytest.approx(own.sums.tolist(), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", NETWORKS)
def test_a_captured_stack_has_the_gradients_of_captured_branches(architecture: str) -> None:
    asked = spec(architecture, precision="float32", augmentation="crop-flip")
    splits = noisy(data_of(asked))
    branches, stack = started(asked, splits), started(asked, splits)
    OnCard(branches, "float32", stacked=False).learn()
    OnCard(stack, "float32", stacked=True).learn()
    for one, other in zip(branches, stack, strict=True):
        assert relative(other.gradient, one.gradient) < 1e-5
        assert other.sums.tolist() == pytest.approx(one.sums.tolist(), rel=1e-5)


@pytest.mark.slow
def test_a_member_of_captured_steps_is_resumed_alone_with_its_bits() -> None:
    asked = spec("small-cnn", epochs=3, augmentation="shift-flip")
    splits = data_of(asked)
    expected = captured(asked, splits, range(2))
    stopped = Notebook(stop_after=25)
    members = [Trainee(made(asked, splits, run), seeds_of(run), stopped if run == 1 else Silent()) for run in range(2)]
    first, second = train_group(members, splits, asked.training, way="branches", captured=True)
    assert first is None
    assert isinstance(second, PauseRequested)
    np.testing.assert_array_equal(flat(members[0].network), expected[0])
    later = Trainee(made(asked, splits, 1), seeds_of(1), resume=stopped.saved[-1])
    assert train_group([later], splits, asked.training, way="branches", captured=True) == [None]
    np.testing.assert_array_equal(flat(later.network), expected[1])


def test_masks_of_captured_steps_keep_their_share_and_are_of_member_and_step_alone() -> None:
    asked = spec("small-cnn")
    splits = data_of(asked)
    runs = started(asked, splits, 2)
    step = OnCard(runs, "float32", stacked=False)
    seen: dict[tuple[int, int], list[torch.Tensor]] = {}
    drawing = step._masks_of

    def watched(images: int) -> Any:
        draw = drawing(images)

        def noted(generator: torch.Generator) -> list[torch.Tensor]:
            found = draw(generator)
            seen[step._generators.index(generator), runs[0].step] = found
            return found

        return noted

    step._masks_of = watched  # type: ignore[method-assign]
    for _ in range(3):
        step.learn()
    again = started(asked, splits, 2)[1:]
    other = OnCard(again, "float32", stacked=False)
    other.learn()
    draw = drawing(runs[0].plan.batch)
    generator = torch.Generator().manual_seed(
        int(np.random.Philox(key=np.array([seeds_of(1).noise, 0], np.uint64)).random_raw())
    )
    for mask, same in zip(seen[1, 0], draw(generator), strict=True):
        assert torch.equal(mask, same)
    rate = asked.network.options.get("dropout", 0.1)
    masks = [mask for found in seen.values() for mask in found]
    kept, total = sum(int(mask.sum()) for mask in masks), sum(mask.numel() for mask in masks)
    assert abs(kept / total - (1 - rate)) < 5 * (rate * (1 - rate) / total) ** 0.5
    assert len({tuple(mask.flatten()[:64].tolist()) for mask in (found[0] for found in seen.values())}) == 6


@pytest.mark.parametrize("kind", ["shift-flip", "crop-flip"])
@pytest.mark.parametrize("shape", [(7, 3, 8, 8), (5, 1, 28, 31), (1, 4, 5, 2)])
def test_images_are_moved_on_the_card_as_they_are_augmented(kind: Any, shape: tuple[int, ...]) -> None:
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    images = images.contiguous(memory_format=torch.channels_last)
    for seed in range(5):
        moves = drawn_moves(len(images), kind, *shape[2:], np.random.default_rng(seed))
        expected = augment(images, kind, np.random.default_rng(seed))
        assert torch.equal(moved(images, torch.from_numpy(moves)), expected)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}, {"momentum": 0.0}])
def test_updates_read_from_the_card_are_those_of_the_optimiser(options: dict[str, Any]) -> None:
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(3, 50, generator=draw)
    made_of = (lambda theta: Descent(theta, **options)) if options else (lambda theta: Adam(theta, 1e-8))
    on_card, alone = made_of(rows.clone()), [made_of(row.clone()) for row in rows]
    theta, own = rows.clone(), [row.clone() for row in rows]
    for step in range(30):
        gradient, rate = torch.randn(3, 50, generator=draw), 0.01 / (1 + step)
        on_card.update_on(
            theta, gradient, torch.tensor([rate], dtype=torch.float64), torch.tensor([step + 1.0], dtype=torch.float64)
        )
        for one, row, piece in zip(alone, own, gradient, strict=True):
            one.update(row, piece, rate)
    assert relative(theta, torch.stack(own)) < 1e-6


def test_what_cannot_be_captured_says_why() -> None:
    asked = spec("mlp")
    splits = data_of(asked)

    def why(network: torch.nn.Module | None = None, **changes: Any) -> str | None:
        training = spec("mlp", **changes).training
        recipe = Recipe.of(training, len(splits.train))
        return cannot_be_captured(
            Run(network or made(asked, splits, 0), splits, training, seeds_of(0), recipe, "cpu", 0)
        )

    assert why() is None
    assert "mixup" in str(why(augmentation="mixup"))
    assert "adamw" in str(why(optimiser="adamw"))
    features = splits.shape.channels * splits.shape.height * splits.shape.width
    drawing = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(features, 4))
    assert "Dropout draws" in str(why(drawing))


@pytest.mark.check
def test_stacked_runs_are_those_alone_in_distribution() -> None:
    """Accuracy, and disagreement between runs, of 12 runs each: the differences' 95 % intervals hold 0."""
    asked = spec("mlp", epochs=8, precision="float32")
    splits = data_of(asked)
    test = splits.transform(splits.test.images)

    def answers(networks: list[torch.nn.Module]) -> np.ndarray:
        with torch.no_grad():
            return np.stack([network.eval()(test).argmax(1).numpy() for network in networks])

    members = [Trainee(made(asked, splits, run), seeds_of(run)) for run in range(12)]
    train_group(members, splits, asked.training, way="stacked")
    found = answers([one.network for one in members])
    own = answers([alone(asked, splits, 100 + run) for run in range(12)])
    labels = splits.test.labels.numpy()

    def mean_and_error(values: np.ndarray) -> tuple[float, float]:
        return float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5)

    for measure in (
        lambda said: (said == labels).mean(1),
        lambda said: np.array([(said[2 * i] != said[2 * i + 1]).mean() for i in range(6)]),
    ):
        (a, ea), (b, eb) = mean_and_error(measure(found)), mean_and_error(measure(own))
        assert abs(a - b) < 3 * (ea**2 + eb**2) ** 0.5


@pytest.mark.check
def test_the_command_for_a_card_passes_on_a_processor(tmp_path: Path) -> None:
    root = Path(__file__).parent.parent
    command = [
        sys.executable,
        root / "benchmarks" / "gpu_check.py",
        "cpu",
        "--out",
        tmp_path,
        "--presets",
        "quickstart",
    ]
    paths = os.pathsep.join(str(root / name) for name in ("worker", "backend", "benchmarks"))
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "gpu_check_cpu.json").read_text())
    assert found["fell_short"] == []
    assert {"sameness", "speed", "product"} <= found.keys()
