"""Training learns, equals the textbook's optimisers, keeps its calendar, and survives being killed to the last bit."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modescape.architectures.building import build
from modescape.datasets import loading
from modescape.errors import InvalidInput, PauseRequested, StageError
from modescape.science import data, weights
from modescape.science.arithmetic import choose_precision, has_cpu_bfloat16, numerics_class
from modescape.science.optimisers import Adam, Descent
from modescape.science.seeds import RunSeeds, run_seeds
from modescape.spec import ExperimentSpec, parse
from modescape.spec_parts import TrainingSpec
from modescape.training import (
    Arrays,
    Plan,
    ProgressReport,
    Silent,
    TrainState,
    decay_mask,
    learning_rate,
    snapshot_steps,
    train,
)


def spec(architecture: str = "small-cnn", dataset: str = "blobs", **training: Any) -> ExperimentSpec:
    chosen = {"epochs": 3, "batch_size": 32, "snapshots": 4, "optimiser": "adam", **training}
    return parse(
        {"data": {"dataset": dataset}, "network": {"architecture": architecture}, "training": chosen, "methods": []}
    )


class Notebook(Silent):
    """Writes everything down; `stop_after` steps it raises, as a paused or killed stage does."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after = stop_after
        self.checks = 0
        self.checkpoints: list[tuple[int, int]] = []
        self.snapshots: list[tuple[int, int]] = []
        self.points: list[tuple[int, dict[str, float]]] = []
        self.reports: list[ProgressReport] = []
        self.saved: list[TrainState] = []
        self.tensors: dict[tuple[str, int], Arrays] = {}

    def checkpoint(self, epoch: int, step: int, tensors: Arrays) -> None:
        self.checkpoints.append((epoch, step))
        self.tensors["checkpoint", step] = tensors

    def snapshot(self, index: int, step: int, tensors: Arrays) -> None:
        self.snapshots.append((index, step))
        self.tensors["snapshot", step] = tensors

    def point(self, step: int, values: dict[str, float]) -> None:
        self.points.append((step, values))

    def progress(self, report: ProgressReport) -> None:
        self.reports.append(report)

    def save(self, state: TrainState) -> None:
        self.saved.append(TrainState(state.tensors, json.loads(json.dumps(state.meta))))

    def check(self) -> None:
        self.checks += 1
        if self.stop_after is not None and self.checks > self.stop_after:
            raise PauseRequested("paused by the test")


def run(
    asked: ExperimentSpec,
    *,
    seeds: RunSeeds | None = None,
    stop_after: int | None = None,
    resume: TrainState | None = None,
    seed: int | None = None,
) -> tuple[nn.Module, Notebook]:
    seeds = seeds or run_seeds(0, run=0)
    splits = loading.load(asked.data, ())
    module = build(asked.network, splits.shape, seed=seeds.weights if seed is None else seed)
    notebook = Notebook(stop_after)
    try:
        train(module, splits, asked.training, seeds, resume=resume, listener=notebook)
    except PauseRequested:
        assert stop_after is not None
    return module, notebook


def same(left: nn.Module, right: nn.Module) -> bool:
    a, b = weights.tensors(left), weights.tensors(right)
    return all(np.array_equal(a[name], b[name]) for name in a)


# --- it learns --------------------------------------------------------------------------------------------------------


def test_it_learns_the_blobs() -> None:
    module, notebook = run(spec(epochs=12))
    first, last = notebook.points[0][1], notebook.points[-1][1]
    assert first["validation/accuracy"] < 0.6
    assert last["validation/accuracy"] > 0.75
    assert last["train/loss"] < 0.7
    assert not module.training  # handed back ready to predict


@pytest.mark.parametrize("optimiser", ["sgd", "momentum"])
def test_descent_learns_too(optimiser: str) -> None:
    asked = spec("mlp", optimiser=optimiser, learning_rate=1e-4, epochs=8)
    _, notebook = run(asked)
    assert notebook.points[-1][1]["train/loss"] < notebook.points[1][1]["train/loss"]


def test_a_diverging_run_stops_with_words() -> None:
    with pytest.raises(StageError, match="learning rate 100 is too high for raw255 pixels"):
        run(spec("mlp", optimiser="sgd", learning_rate=100.0))


# --- it equals the textbook -------------------------------------------------------------------------------------------


def _quadratic(theta: Tensor) -> Tensor:
    return theta * torch.linspace(0.1, 3, theta.numel()) - 1


@pytest.mark.parametrize(
    ("mine", "textbook"),
    [
        (lambda t: Adam(t, epsilon=1e-7), lambda p: torch.optim.Adam([p], lr=0.01, eps=1e-7)),
        (lambda t: Descent(t, momentum=0.0), lambda p: torch.optim.SGD([p], lr=0.01)),
        (lambda t: Descent(t, momentum=0.9), lambda p: torch.optim.SGD([p], lr=0.01, momentum=0.9)),
    ],
)
def test_optimisers_equal_torchs(mine: Callable[[Tensor], Any], textbook: Callable[[Tensor], Any]) -> None:
    theta = torch.linspace(-1, 1, 50)
    twin = theta.clone()
    optimiser, reference = mine(theta), textbook(twin)
    for _ in range(200):
        optimiser.update(theta, _quadratic(theta), 0.01)
        twin.grad = _quadratic(twin)
        reference.step()
    # the same formulas in another order of float32 operations: 200 steps of rounding
    assert torch.allclose(theta, twin, atol=2e-5)


def test_one_step_equals_autograd_and_adam_by_hand() -> None:
    """The whole step (order, loss, weight decay, update) of a network without dropout, written out plainly."""
    asked = parse(
        {
            "data": {"dataset": "blobs", "input_scale": "unit"},
            "network": {"architecture": "small-cnn", "options": {"dropout": 0}},
            "training": {"epochs": 1, "batch_size": 300, "snapshots": 0, "weight_decay": 0.01, "sampling": "epoch"},
        }
    )
    seeds = run_seeds(0, run=0)
    splits = loading.load(asked.data, ())
    twin = build(asked.network, splits.shape, seed=seeds.weights)
    module, _ = run(asked)
    assert isinstance(splits.train.images, Tensor)
    images = splits.train.images.float() / 255
    optimiser = torch.optim.Adam(twin.parameters(), lr=1.6e-3)
    nn.functional.cross_entropy(twin(images), splits.train.labels).backward()  # type: ignore[no-untyped-call]
    for parameter in twin.parameters():
        if parameter.dim() == 4:
            assert parameter.grad is not None
            parameter.grad += 0.01 * parameter.detach()
    optimiser.step()
    # Adam's first step is lr * sign(gradient): a gradient near 0 may differ in sign with the order of summation
    gap = np.abs(weights.flatten(module) - weights.flatten(twin))
    assert np.quantile(gap, 0.99) < 1e-6


def test_weight_decay_acts_on_convolution_kernels_only() -> None:
    asked = spec("resnet20v1", dataset="digits")
    module = build(asked.network, data.Shape(1, 8, 8, 10), seed=0)
    kernels = sum(p.numel() for p in module.parameters() if p.dim() == 4)
    assert decay_mask(module, TrainingSpec()).sum() == kernels
    everything = TrainingSpec.model_validate({"decay_on": "all"})
    assert decay_mask(module, everything).sum() == sum(p.numel() for p in module.parameters())


class Mixed(nn.Module):
    """A network as people bring them: torch's own dropout, convolutions of three ranks, embeddings, a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 4, 4, 4)
        self.along = nn.Conv1d(4, 4, 3, padding=1)
        self.deep = nn.Conv3d(1, 1, 1)
        self.norm = nn.LayerNorm(4)
        self.places = nn.Embedding(4, 4)
        self.pos_embedding = nn.Parameter(torch.zeros(1, 4, 4))
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(16, 4)

    def forward(self, images: Tensor) -> Tensor:
        features = self.patches(images).flatten(2)  # [N, 4, 4]
        features = self.along(features) + self.deep(features[:, None, None])[:, 0, 0]
        features = self.norm(features) + self.places.weight + self.pos_embedding
        found: Tensor = self.head(self.dropout(features).flatten(1))
        return found


def sizes_decayed(decay_on: str) -> dict[str, bool]:
    module = Mixed()
    mask = decay_mask(module, TrainingSpec.model_validate({"decay_on": decay_on}))
    parts = mask.split([p.numel() for p in module.parameters()])
    return {name: bool(part.all()) for (name, _), part in zip(module.named_parameters(), parts, strict=True)}


def test_weight_decay_tells_kernels_of_any_rank_weights_and_embeddings_apart() -> None:
    kernels = {"patches.weight", "along.weight", "deep.weight"}
    assert {name for name, acts in sizes_decayed("kernels").items() if acts} == kernels
    assert {name for name, acts in sizes_decayed("weights").items() if acts} == kernels | {"head.weight"}
    assert all(sizes_decayed("all").values())


def test_weight_decay_of_other_networks_acts_on_weights_unless_told() -> None:
    def decays(architecture: str, **training: Any) -> str:
        return parse({"network": {"architecture": architecture}, "training": training}).training.decay_on

    assert decays("mlp", weight_decay=1e-4) == "weights"
    assert decays("mlp", weight_decay=1e-4, decay_on="all") == "all"
    assert decays("resnet20v1", weight_decay=1e-4) == "kernels"
    assert decays("mlp") == "kernels"  # where nothing decays an old spec is the same spec


# --- torch's own layers -----------------------------------------------------------------------------------------------


def mixed(
    seeds: RunSeeds, *, resume: TrainState | None = None, stop_after: int | None = None
) -> tuple[Mixed, Notebook]:
    asked = spec(epochs=2, sampling="epoch", snapshots=0)
    splits = loading.load(asked.data, ())
    torch.manual_seed(0)
    module, notebook = Mixed(), Notebook(stop_after)
    torch.seed()  # the global generator is anywhere
    with suppress(PauseRequested):
        train(module, splits, asked.training, seeds, listener=notebook, resume=resume)
    return module, notebook


def test_torchs_own_dropout_is_a_function_of_the_runs_seeds_and_the_step() -> None:
    seeds = run_seeds(0, run=0)
    whole, _ = mixed(seeds)
    again, _ = mixed(seeds)
    assert same(whole, again)
    _, broken = mixed(seeds, stop_after=7)
    resumed, _ = mixed(seeds, resume=broken.saved[-1])
    assert same(whole, resumed)
    other, _ = mixed(replace(seeds, noise=seeds.noise + 1))
    assert not same(whole, other)


def test_a_training_leaves_torchs_generator_as_it_was() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    run(spec(epochs=1, snapshots=0))
    assert torch.equal(torch.rand(3), expected)


# --- its calendar -----------------------------------------------------------------------------------------------------


def rates(per_epoch: int = 2, **training: Any) -> list[float]:
    asked = TrainingSpec.model_validate({"learning_rate": 1.0, **training})
    return [learning_rate(asked, step, per_epoch) for step in range(0, asked.epochs * per_epoch, per_epoch)]


def test_schedules_follow_their_definitions() -> None:
    assert rates(schedule="constant", epochs=3) == [1, 1, 1]
    # the authors': times one half every 10 epochs
    assert rates(schedule="halve", epochs=31)[9:11] == [1, 0.5]
    assert rates(schedule="halve", epochs=31)[30] == 0.125
    # Keras: 1e-4 from epoch 81 on, 1e-5 from 121 on
    milestones = [{"epoch": 81, "learning_rate": 1e-4}, {"epoch": 121, "learning_rate": 1e-5}]
    keras = rates(schedule="milestones", epochs=130, milestones=milestones)
    assert (keras[80], keras[81], keras[120], keras[121]) == (1, 1e-4, 1e-4, 1e-5)
    cosine = rates(schedule="cosine", epochs=4)
    assert cosine == pytest.approx([1, 0.5 + 0.5 * 0.5**0.5, 0.5, 0.5 - 0.5 * 0.5**0.5])


def test_snapshots_lie_evenly_over_the_window_and_end_at_the_end() -> None:
    assert list(snapshot_steps(100, 10, 0.4)) == [64, 68, 72, 76, 80, 84, 88, 92, 96, 100]
    assert snapshot_steps(100, 0, 0.4) == {}
    # the authors' own: e = 30..39 of 40 epochs of 386 steps are the ends of the last 10 epochs
    assert list(snapshot_steps(40 * 386, 10, 0.25)) == [386 * e for e in range(31, 41)]
    for steps in (5, 7, 33):
        for count in range(1, steps + 1):
            assert len(snapshot_steps(steps, count, 1.0)) == count
    with pytest.raises(InvalidInput, match="do not fit"):
        snapshot_steps(10, 5, 0.4)


def test_checkpoints_and_snapshots_come_when_planned() -> None:
    asked = spec(epochs=5, checkpoint_every=2, snapshots=3)
    module, notebook = run(asked)
    per_epoch = 300 // 32  # with replacement: whole batches
    assert notebook.checkpoints == [(e, e * per_epoch) for e in (0, 2, 4, 5)]
    assert [index for index, _ in notebook.snapshots] == [0, 1, 2]
    assert notebook.snapshots[-1][1] == 5 * per_epoch
    final = weights.tensors(module)
    for kind in ("checkpoint", "snapshot"):
        last = notebook.tensors[kind, 5 * per_epoch]
        assert all(np.array_equal(last[name], final[name]) for name in final)
    initial = build(asked.network, loading.load(asked.data, ()).shape, seed=run_seeds(0, run=0).weights)
    assert np.array_equal(weights.from_tensors(initial, notebook.tensors["checkpoint", 0]), weights.flatten(initial))


def test_curves_have_a_point_an_epoch_and_about_forty_in_all() -> None:
    _, notebook = run(spec(epochs=3))
    validated = [step for step, values in notebook.points if "validation/loss" in values]
    assert validated == [0, 9, 18, 27]
    assert notebook.points[-1][1].keys() == {
        "train/loss", "train/accuracy", "learning-rate", "validation/loss", "validation/accuracy",
    }  # fmt: skip
    assert Plan.of(TrainingSpec.model_validate({"epochs": 5}), 55_000).point_every == 429 // 8


def test_progress_and_checks_come_at_every_step() -> None:
    _, notebook = run(spec(epochs=2))
    assert notebook.checks >= 18
    last = notebook.reports[-1]
    assert (last.step, last.steps, last.epoch, last.seconds_left) == (18, 18, 2.0, 0.0)
    assert last.images_per_second > 0
    assert last.loss is not None


def test_whole_epochs_show_every_image_once() -> None:
    asked = spec(sampling="epoch", batch_size=70)  # 300 images: 4 batches and a short one
    plan = Plan.of(asked.training, 300)
    assert plan.steps_per_epoch == 5
    _, notebook = run(asked)
    assert notebook.points[-1][0] == 15


# --- seeds ------------------------------------------------------------------------------------------------------------


def test_equal_seeds_give_equal_bits_and_each_stream_matters() -> None:
    asked = parse(
        {
            "data": {"dataset": "blobs"},
            "training": {"epochs": 1, "batch_size": 50, "snapshots": 0, "augmentation": "crop-flip"},
        }
    )
    base = RunSeeds(weights=1, batches=2, noise=3, augmentation=4)
    reference, _ = run(asked, seeds=base)
    assert same(reference, run(asked, seeds=base)[0])
    for stream in ("weights", "batches", "noise", "augmentation"):
        changed = RunSeeds(**{**base.as_dict(), stream: 77})
        assert not same(reference, run(asked, seeds=changed)[0]), stream


def test_threads_and_other_peoples_numbers_change_nothing() -> None:
    reference, _ = run(spec(epochs=1, snapshots=1))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.manual_seed(123)
    again, _ = run(spec(epochs=1, snapshots=1))
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)
    assert same(reference, again)


# --- killed and resumed -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked",
    [
        spec(epochs=3),
        spec("mlp", optimiser="momentum", learning_rate=1e-4, sampling="epoch", schedule="cosine"),
        spec("small-cnn", augmentation="shift-flip", weight_decay=1e-3, optimiser="sgd", learning_rate=1e-5),
        spec("resnet20v1", epochs=2, batch_size=100, snapshots=2),
    ],
    ids=["adam", "momentum", "augmented", "batch-norm"],
)
@pytest.mark.parametrize("after", [7, 15, 23])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(asked: ExperimentSpec, after: int) -> None:
    whole, notebook = run(asked)
    _, broken = run(asked, stop_after=after)
    state = broken.saved[-1] if broken.saved else None
    resumed, rest = run(asked, resume=state, seed=None if state is None else 999)
    assert same(whole, resumed)
    start = state.meta["step"] if state else -1
    assert rest.points == [point for point in notebook.points if point[0] > start]
    assert rest.checkpoints == [c for c in notebook.checkpoints if c[1] > start]
    assert rest.snapshots == [s for s in notebook.snapshots if s[1] > start]


def test_a_state_saved_inside_an_epoch_goes_on_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = spec("resnet20v1", epochs=2, batch_size=60, snapshots=2)
    whole, notebook = run(asked)
    monkeypatch.setattr("modescape.training.SAVE_SECONDS", 0.0)
    _, every = run(asked)
    assert [state.meta["step"] for state in every.saved] == list(range(1, 11))
    for state in (every.saved[2], every.saved[6]):
        resumed, rest = run(asked, resume=state, seed=999)
        assert same(whole, resumed)
        assert rest.points == [point for point in notebook.points if point[0] > state.meta["step"]]


# --- arithmetic -------------------------------------------------------------------------------------------------------


def test_precision_is_chosen_by_features(tmp_path: Path) -> None:
    with_bfloat16, without, arm = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    with_bfloat16.write_text("processor\t: 0\nflags\t\t: fpu avx2 avx512_bf16 sha_ni\n")
    without.write_text("processor\t: 0\nflags\t\t: fpu avx2 avx512f\n")
    arm.write_text("processor\t: 0\nFeatures\t: fp asimd bf16 i8mm\n")
    assert has_cpu_bfloat16(with_bfloat16)
    assert has_cpu_bfloat16(arm)
    assert not has_cpu_bfloat16(without)
    assert not has_cpu_bfloat16(tmp_path / "not-linux")
    assert choose_precision("float32", "cpu") == "float32"
    assert choose_precision("bfloat16", "cpu") == "bfloat16"
    assert choose_precision("auto", "cpu") == ("bfloat16" if has_cpu_bfloat16() else "float32")
    assert choose_precision("auto", "cpu", is_ours=False) == "float32"
    assert choose_precision("bfloat16", "cpu", is_ours=False) == "bfloat16"
    assert numerics_class("cpu", "float32") != numerics_class("cpu", "bfloat16")


def test_bfloat16_trains_and_keeps_float32_weights() -> None:
    module, notebook = run(spec(epochs=6, precision="bfloat16"))
    assert weights.flatten(module).dtype == np.float32
    assert notebook.points[-1][1]["train/loss"] < notebook.points[1][1]["train/loss"]


@pytest.mark.slow
def test_training_on_a_processor_does_not_load_torchs_compiler() -> None:
    """use_deterministic_algorithms imports it (two seconds and 900 modules); only a GPU needs that call."""
    script = (
        "import sys; from modescape.architectures.building import build; from modescape.datasets import loading\n"
        "from modescape.science.seeds import run_seeds; from modescape.training import train\n"
        "from modescape.spec import parse\n"
        "asked = parse({'data': {'dataset': 'blobs'}, 'training': {'epochs': 1, 'snapshots': 0}})\n"
        "splits = loading.load(asked.data, ())\n"
        "train(build(asked.network, splits.shape, seed=0), splits, asked.training, run_seeds(0, run=0))\n"
        "print([m for m in ('torch._dynamo', 'torch._inductor', 'sympy', 'triton') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
