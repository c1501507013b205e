"""Parts of a training equal what is worked out by hand in numpy; a trainer of one's own; weights to begin with."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_training import Notebook, run, same, spec
from torch import Tensor, nn

from modescape import initial
from modescape.architectures.building import build
from modescape.datasets import loading
from modescape.errors import InvalidInput, StageError
from modescape.plan import prepare
from modescape.recipes.recipe import Examples, augmentation, loss, optimiser, schedule, trainer
from modescape.registry import RECIPE, Registry
from modescape.science import weights
from modescape.science.data import Shape
from modescape.science.optimisers import Torch, Weights, flatten_in_place
from modescape.science.seeds import run_seeds
from modescape.spec import ExperimentSpec, parse, stored, unknown
from modescape.spec_parts import NetworkSpec, TrainingSpec
from modescape.testing import check_optimiser, check_schedule, check_trainer
from modescape.training import Member, rates, train

# --- optimisers, by hand ----------------------------------------------------------------------------------------------

START, SLOPE = np.array([1.0, -2.0, 0.5]), np.array([0.5, 1.0, 3.0])  # gradients are slope * theta


def moved(name: str, updates: int, rate: float, *, decays: bool = False, **options: Any) -> np.ndarray:
    """Where a registered optimiser goes from START; decays: whether weight decay acts there."""
    asked = TrainingSpec.model_validate({"optimiser": name, "optimiser_options": options, "momentum": 0.9})
    module = nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(START)[None])
    theta, gradient = flatten_in_place(module)
    own = RECIPE["optimiser"][name].call(Weights(theta, (module.weight,), (decays,)), asked.options("optimiser"), asked)
    for _ in range(updates):
        with torch.no_grad():
            gradient.copy_(torch.from_numpy(SLOPE).float() * theta)
            own.update(theta, gradient, rate)
    return np.array(theta.detach().numpy(), np.float64)


def test_nesterovs_momentum_by_hand() -> None:
    theta, velocity = START.copy(), np.zeros(3)
    for _ in range(20):  # v <- 0.9 v + g; theta <- theta - lr (g + 0.9 v)
        gradient = SLOPE * theta
        velocity = 0.9 * velocity + gradient
        theta = theta - 0.05 * (gradient + 0.9 * velocity)
    assert moved("momentum", 20, 0.05, nesterov=True) == pytest.approx(theta, abs=1e-5)
    assert moved("momentum", 20, 0.05) != pytest.approx(theta, abs=1e-3)


def test_adamw_by_hand() -> None:
    theta, first, second = START.copy(), np.zeros(3), np.zeros(3)
    for t in range(1, 21):  # Loshchilov and Hutter, algorithm 2, with eta_t alpha as torch's rate
        gradient = SLOPE * theta
        first, second = 0.8 * first + 0.2 * gradient, 0.99 * second + 0.01 * gradient**2
        theta = theta - 0.05 * 0.1 * theta
        theta = theta - 0.05 * (first / (1 - 0.8**t)) / (np.sqrt(second / (1 - 0.99**t)) + 1e-8)
    found = moved("adamw", 20, 0.05, decays=True, weight_decay=0.1, beta1=0.8, beta2=0.99)
    assert found == pytest.approx(theta, abs=1e-5)
    spared = moved("adamw", 20, 0.05, decays=False, weight_decay=0.1)
    assert spared == pytest.approx(moved("adam", 20, 0.05), abs=1e-5)


def test_adam_with_other_decay_rates_by_hand() -> None:
    theta, first, second = START.copy(), np.zeros(3), np.zeros(3)
    for t in range(1, 21):
        gradient = SLOPE * theta
        first, second = 0.5 * first + 0.5 * gradient, 0.9 * second + 0.1 * gradient**2
        theta = theta - 0.05 * (first / (1 - 0.5**t)) / (np.sqrt(second / (1 - 0.9**t)) + 1e-8)
    assert moved("adam", 20, 0.05, beta1=0.5, beta2=0.9) == pytest.approx(theta, abs=1e-5)


def test_rmsprop_and_adagrad_by_hand() -> None:
    theta, square, total, other = START.copy(), np.zeros(3), np.zeros(3), START.copy()
    for _ in range(20):
        gradient = SLOPE * theta
        square = 0.9 * square + 0.1 * gradient**2
        theta = theta - 0.02 * gradient / (np.sqrt(square) + 1e-8)
        gradient = SLOPE * other
        total = total + gradient**2
        other = other - 0.02 * gradient / (np.sqrt(total) + 1e-10)
    assert moved("rmsprop", 20, 0.02, alpha=0.9) == pytest.approx(theta, abs=1e-5)
    assert moved("adagrad", 20, 0.02) == pytest.approx(other, abs=1e-5)


def test_what_an_optimiser_of_others_remembers_is_tensors_and_numbers() -> None:
    class Counting(torch.optim.Optimizer):
        def __init__(self, params: Any, lr: float, kept: object) -> None:
            super().__init__(params, {"lr": lr})
            self.kept = kept

        def step(self, closure: Any = None) -> None:
            for group in self.param_groups:
                for parameter in group["params"]:
                    self.state[parameter]["seen"] = self.kept

    module = nn.Linear(2, 1)
    theta, gradient = flatten_in_place(module)
    given = Weights(theta, tuple(module.parameters()), (True, False))
    first = Torch(given, Counting, kept=0.1)
    first.update(theta, gradient, 0.1)
    again = Torch(given, Counting, kept=0.2)
    again.restore(first.moments)
    assert [own["seen"] for own in again.inner.state.values()] == [0.1, 0.1]
    words = Torch(given, Counting, kept="words")
    words.update(theta, gradient, 0.1)
    with pytest.raises(InvalidInput, match="state 'seen' is a str"):
        _ = words.moments


# --- schedules, by hand -----------------------------------------------------------------------------------------------


def rated(name: str, whole: int, per_epoch: int, **options: Any) -> list[float]:
    asked = TrainingSpec.model_validate(
        {"schedule": name, "schedule_options": options, "epochs": whole, "learning_rate": 2.0}
    )
    return [rates(asked, per_epoch)(step) for step in range(whole * per_epoch)]


def test_warm_up_by_hand() -> None:
    found = rated("warm-up", 4, 5, epochs=2, start=0.1, then="cosine", minimum=0.5)
    assert found[:10] == pytest.approx([2 * (0.1 + 0.9 * s / 10) for s in range(10)])
    # 2 (1/2 + 1/2 (1 + cos) / 2) over the ten steps that are left
    assert found[10:] == pytest.approx([1 + 0.5 * (1 + math.cos(math.pi * s / 10)) for s in range(10)])
    assert rated("warm-up", 4, 5, epochs=2, then="constant")[10:] == [2.0] * 10
    assert rated("warm-up", 4, 5, epochs=2, then="linear")[15] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("name", "options", "twin"),
    [
        ("step", {"every": 2, "factor": 0.3}, lambda o: torch.optim.lr_scheduler.StepLR(o, 2 * 5, 0.3)),
        ("exponential", {"factor": 0.9}, lambda o: torch.optim.lr_scheduler.StepLR(o, 5, 0.9)),
        ("polynomial", {"power": 2.0}, lambda o: torch.optim.lr_scheduler.PolynomialLR(o, 30, 2.0)),
        (
            "one-cycle",
            {"rising": 0.4},
            lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 2.0, total_steps=30, pct_start=0.4),
        ),
        (
            "cosine-restarts",
            {"first": 1, "longer": 2},
            lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 5, 2),
        ),
    ],
)
def test_schedules_equal_torchs(name: str, options: dict[str, Any], twin: Any) -> None:
    inner = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler, expected = twin(inner), []
    for _ in range(30):
        expected.append(inner.param_groups[0]["lr"])
        inner.step()
        scheduler.step()
    assert rated(name, 6, 5, **options) == pytest.approx(expected, rel=1e-6)


# --- losses and mixed examples, by hand -------------------------------------------------------------------------------

LOGITS, LABELS = np.array([[2.0, 0.5, -1.0], [0.0, 1.0, 3.0]]), np.array([0, 1])


def lost(name: str, targets: np.ndarray, **options: Any) -> float:
    entry = RECIPE["loss"][name]
    given = torch.from_numpy(targets)
    given = given.float() if given.is_floating_point() else given
    return float(entry.call(torch.from_numpy(LOGITS).float(), given, entry.options.model_validate(options)))


def probabilities() -> np.ndarray:
    grown = np.exp(LOGITS)
    return np.asarray(grown / grown.sum(1, keepdims=True))


def test_losses_by_hand() -> None:
    p, hard = probabilities(), np.eye(3)[LABELS]
    assert lost("cross-entropy", LABELS) == pytest.approx(-np.log(p[[0, 1], LABELS]).mean(), rel=1e-6)
    smooth = 0.8 * hard + 0.2 / 3  # Szegedy et al.: (1 - eps) one-hot + eps / K
    assert lost("label-smoothing", LABELS, smoothing=0.2) == pytest.approx(
        -(smooth * np.log(p)).sum(1).mean(), rel=1e-6
    )
    focal = -((1 - p[[0, 1], LABELS]) ** 2 * np.log(p[[0, 1], LABELS])).mean()
    assert lost("focal", LABELS, gamma=2.0) == pytest.approx(focal, rel=1e-5)
    assert lost("focal", LABELS, gamma=0.0) == pytest.approx(lost("cross-entropy", LABELS), rel=1e-6)
    assert lost("brier", LABELS) == pytest.approx(((p - hard) ** 2).sum(1).mean(), rel=1e-6)


class Fixed(np.random.Generator):
    """Random numbers that are decided: the share, the order, the middle of the box."""

    def __init__(self, share: float) -> None:
        super().__init__(np.random.PCG64(0))
        self.share = share

    def beta(self, a: Any, b: Any, size: Any = None) -> Any:
        return self.share

    def permutation(self, x: Any, axis: int = 0) -> Any:
        return np.array([1, 0])

    def integers(self, low: Any, *args: Any, **more: Any) -> Any:
        return 2


def mixed(name: str, share: float) -> tuple[Examples, np.ndarray]:
    images = np.arange(2 * 1 * 4 * 4, dtype=np.uint8).reshape(2, 1, 4, 4) * 7
    given = Examples(torch.from_numpy(images), torch.tensor([2, 0]), 3)
    entry = RECIPE["augmentation"][name]
    return entry.call(given, entry.options(), Fixed(share)), images.astype(float)


def test_mixup_and_its_loss_by_hand() -> None:
    found, images = mixed("mixup", 0.75)
    assert np.allclose(found.images.numpy(), 0.75 * images + 0.25 * images[::-1])
    assert found.targets.tolist() == [[0.25, 0, 0.75], [0.75, 0, 0.25]]
    assert found.labels.tolist() == [2, 0]  # an answer is right by the larger share
    assert mixed("mixup", 0.25)[0].labels.tolist() == [0, 2]
    # Zhang et al.: the loss of mixed targets is the mix of both losses
    both = [lost("cross-entropy", np.array(labels)) for labels in ([2, 0], [0, 2])]
    mix = lost("cross-entropy", np.array(found.targets.numpy()))
    assert mix == pytest.approx(0.75 * both[0] + 0.25 * both[1], rel=1e-6)


def test_cutmix_by_hand() -> None:
    # of 4 x 4 a share of 3/4 leaves a box of side 4 sqrt(1/4) = 2 around (2, 2): rows and columns 1 and 2
    found, images = mixed("cutmix", 0.75)
    expected = images.copy()
    expected[:, :, 1:3, 1:3] = images[::-1][:, :, 1:3, 1:3]
    assert np.array_equal(found.images.numpy(), expected)
    assert found.targets.tolist() == [[0.25, 0, 0.75], [0.75, 0, 0.25]]


# --- whole trainings --------------------------------------------------------------------------------------------------

RECIPES: list[dict[str, Any]] = [
    {"optimiser": "adamw", "schedule": "warm-up", "schedule_options": {"epochs": 1}, "loss": "label-smoothing",
     "augmentation": "mixup", "augmentation_options": {"first": "crop-flip"}},
    {"optimiser": "momentum", "optimiser_options": {"nesterov": True}, "learning_rate": 1e-4, "schedule": "one-cycle",
     "augmentation": "cutmix", "loss": "focal"},
    {"optimiser": "nadam", "augmentation": "trivial-augment", "augmentation_options": {"first": "shift-flip"}},
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES, ids=["adamw", "nesterov", "nadam"])
@pytest.mark.parametrize("network", ["small-cnn", "resnet20v1"])
def test_a_run_of_any_recipe_killed_at_any_step_goes_on_to_the_same_bits(recipe: dict[str, Any], network: str) -> None:
    """Dropout, batch norm, mixing and torch's own random numbers together."""
    asked = spec(network, epochs=2, batch_size=75, snapshots=2, **recipe)
    whole, _ = run(asked)
    for after in range(1, 8, 2 if network == "small-cnn" else 3):
        _, broken = run(asked, stop_after=after)
        resumed, _ = run(asked, resume=broken.saved[-1] if broken.saved else None)
        assert same(whole, resumed), after


def test_mixing_does_not_touch_what_is_not_asked_of_it() -> None:
    """The same run with every new field written out at its default has the same bits."""
    written = {"optimiser_options": {}, "loss": "cross-entropy", "trainer": "modescape", "augmentation_options": {}}
    assert same(run(spec(epochs=2))[0], run(spec(epochs=2, **written))[0])


def test_older_specs_keep_their_digests() -> None:
    plain = {"data": {"dataset": "blobs"}, "training": {"optimiser": "momentum", "schedule": "cosine"}}
    written = {**plain, "training": {**plain["training"], "optimiser_options": {"nesterov": False}, "loss_options": {}}}
    assert parse(plain).digest() == parse(written).digest()
    assert "loss" not in parse(plain).canonical()
    other = {**plain, "training": {**plain["training"], "optimiser_options": {"nesterov": True}}}
    assert parse(plain).digest() != parse(other).digest()


def test_weight_decay_of_adamw_acts_where_the_network_says() -> None:
    document = {"network": {"architecture": "mlp"}, "training": {"optimiser": "adamw"}}
    assert parse(document).training.decay_on == "weights"
    twice = {"data": {"dataset": "blobs"}, "training": {"optimiser": "adamw", "weight_decay": 1e-4, "snapshots": 0}}
    with pytest.raises(InvalidInput) as caught:
        prepare(twice, ())
    assert [p.field for p in caught.value.problems] == ["training.weight_decay"]


@pytest.mark.parametrize(
    ("training", "field"),
    [
        ({"optimiser": "lion"}, "training.optimiser"),
        ({"loss": "hinge"}, "training.loss"),
        ({"optimiser": "adamw", "optimiser_options": {"beta3": 1}}, "training.optimiser_options.beta3"),
        ({"augmentation": "mixup", "augmentation_options": {"alpha": 0}}, "training.augmentation_options.alpha"),
        ({"schedule": "warm-up", "schedule_options": {"epochs": 99}}, "training.schedule_options.epochs"),
        ({"schedule_options": {"every": 3}}, "training.schedule_options.every"),
        ({"initial_weights": "/nowhere/at.safetensors"}, "training.initial_weights"),
        ({"trainer": "lightning"}, "training.trainer"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_told_with_its_field(training: dict[str, Any], field: str) -> None:
    asked = {"data": {"dataset": "blobs"}, "training": {"snapshots": 0, **training}, "ensemble": {"vary": "batches"}}
    with pytest.raises(InvalidInput) as caught:
        prepare(asked, ())
    assert field in [problem.field for problem in caught.value.problems]


def test_a_stored_recipe_of_a_plug_in_that_is_gone_is_shown_and_named() -> None:
    document = parse({}).model_dump(mode="json")
    document["training"] |= {"optimiser": "lion", "optimiser_options": {"c": 2}, "trainer": "lightning"}
    assert stored(document).training.optimiser == "lion"
    assert {"the optimiser 'lion'", "the trainer 'lightning'"} <= set(unknown(document))


# --- a trainer, an optimiser and an augmentation of one's own ---------------------------------------------------------


@pytest.fixture
def own() -> Any:
    """Registries as they were, afterwards."""
    before = {part: dict(known.here) for part, known in RECIPE.items()}
    yield
    for part, known in RECIPE.items():
        known.keep(before[part])


SMALL = {"epochs": 3, "batch_size": 75, "sampling": "epoch", "snapshots": 2, "snapshot_window": 1.0}


def by_hand(**training: Any) -> ExperimentSpec:
    return spec("mlp", **SMALL, trainer="by-hand", **training)


def descends(member: Member, velocity: np.ndarray) -> float:
    """One epoch of plain descent with momentum, in an order of the member's own random numbers."""
    order = member.rng.permutation(len(member.splits.train))
    lost = 0.0
    for rows in np.array_split(order, 4):
        chosen = torch.from_numpy(rows)
        images = member.splits.transform(member.splits.train.batch(chosen))
        loss = nn.functional.cross_entropy(member.network(images), member.splits.train.labels[chosen])
        member.network.zero_grad()
        loss.backward()
        for parameter, moment in zip(member.network.parameters(), velocity, strict=True):
            assert parameter.grad is not None
            moment *= 0.5
            moment += parameter.grad.numpy()
            parameter.data -= 1e-5 * torch.from_numpy(moment)
        lost = float(loss.detach())
    return lost


@pytest.mark.usefixtures("own")
def test_a_trainer_of_ones_own_is_resumed_from_what_it_handed_over() -> None:
    @trainer("by-hand", title="By hand", source="a test")
    def train_by_hand(member: Member, options: Any) -> None:
        """Plain descent with momentum."""
        velocity: Any = [np.zeros(tuple(p.shape), np.float32) for p in member.network.parameters()]
        if member.state:
            velocity = [member.state[f"{i}"].copy() for i in range(len(velocity))]
        for _ in member.remaining:
            loss = descends(member, velocity)
            member.hand_over(loss=loss, state={f"{i}": v for i, v in enumerate(velocity)})

    asked = by_hand()
    whole, notebook = run(asked)
    assert notebook.checkpoints == [(0, 0), (1, 4), (2, 8), (3, 12)]
    assert [step for _, step in notebook.snapshots] == [8, 12]  # at ends of epochs: 3 - 3 + round(3 / 2), 3
    losses = [values["train/loss"] for _, values in notebook.points if "train/loss" in values]
    assert losses[-1] < losses[0]
    stops = range(1, notebook.checks)
    assert len(stops) > 3
    for after in stops:
        _, broken = run(asked, stop_after=after)
        resumed, _ = run(asked, resume=broken.saved[-1] if broken.saved else None)
        assert same(whole, resumed), after


@pytest.mark.usefixtures("own")
def test_what_a_trainer_fails_to_hand_over_is_told() -> None:
    kept: dict[str, Any] = {}

    @trainer("by-hand", title="By hand", source="a test")
    def train_by_hand(member: Member, options: Any) -> None:
        """Whatever the test says."""
        kept["train"](member)

    def lazily(member: Member) -> None:
        for _ in member.remaining:
            pass

    def never(member: Member) -> None:
        return

    def too_often(member: Member) -> None:
        for _ in range(4):
            member.hand_over()

    for does, words in ((lazily, "did not hand over epoch 1"), (never, "0 of 3"), (too_often, "more than 3 epochs")):
        kept["train"] = does
        with pytest.raises(StageError, match=words):
            run(by_hand())
    kept["train"] = lambda member: member.hand_over(loss=math.nan)
    with pytest.raises(StageError, match="loss that the trainer 'by-hand' handed over after epoch 1 is nan"):
        run(by_hand())
    kept["train"] = lambda member: member.hand_over({"weight": np.zeros(3, np.float32)})
    with pytest.raises(InvalidInput, match="missing"):
        run(by_hand())


@pytest.mark.usefixtures("own")
def test_what_needs_our_own_loop_is_refused_for_other_trainers() -> None:
    @trainer("by-hand", title="By hand", source="a test")
    def train_by_hand(member: Member, options: Any) -> None:
        """Nothing."""

    asked = by_hand().model_dump(mode="json") | {
        "methods": [{"method": "swag"}], "seeds": {"learning_rates": [0.01]}, "instability": {"epochs": [0]},
        "training": {**SMALL, "trainer": "by-hand", "snapshots": 4},
    }  # fmt: skip
    with pytest.raises(InvalidInput) as caught:
        prepare(asked, ())
    fields = {problem.field for problem in caught.value.problems}
    assert {"methods.0.method", "seeds", "instability", "training.snapshots"} <= fields
    splits = loading.load(by_hand().data, ())
    network = build(by_hand().network, splits.shape, seed=0)
    with pytest.raises(InvalidInput, match="begins at the beginning"):
        train(network, splits, by_hand().training, run_seeds(0, 0), first_step=4, listener=Notebook())


@pytest.mark.usefixtures("own")
def test_an_optimiser_and_an_augmentation_of_ones_own_are_two_functions() -> None:
    @optimiser("asgd", title="ASGD", source="a test")
    def asgd(given: Weights, options: Any, training: TrainingSpec) -> Torch:
        """torch's averaged descent."""
        return Torch(given, torch.optim.ASGD)

    @augmentation("inverted", title="Inverted", source="a test")
    def inverted(examples: Examples, options: Any, rng: np.random.Generator) -> Examples:
        """Dark is light in every second image."""
        chosen = torch.from_numpy(rng.random(len(examples.labels)) < 0.5)[:, None, None, None]
        return Examples(torch.where(chosen, 255 - examples.images, examples.images), examples.labels, examples.classes)

    asked = spec("mlp", epochs=2, optimiser="asgd", learning_rate=1e-5, augmentation="inverted", snapshots=0)
    whole, _ = run(asked)
    _, broken = run(asked, stop_after=11)
    assert same(whole, run(asked, resume=broken.saved[-1])[0])
    assert not same(whole, run(spec("mlp", epochs=2, optimiser="asgd", learning_rate=1e-5, snapshots=0))[0])


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("declare", [optimiser, schedule, loss, augmentation, trainer])
def test_a_function_that_cannot_be_called_as_its_kind_is_is_refused_where_it_is_declared(declare: Any) -> None:
    def wrong(batch: Any, labels: Any, rng: Any, options: Any, more: Any) -> Any:
        """Too much."""

    with pytest.raises(ValueError, match=r"wrong\(batch: .* is to be an? \w+, which is called as wrong\(\w+, "):
        declare("wrong", title="Wrong", source="nowhere")(wrong)


def test_a_rate_of_its_own_is_refused_of_an_optimiser_of_torchs_kind() -> None:
    one = nn.Parameter(torch.zeros(2))
    with pytest.raises(InvalidInput, match=r"lr=0\.1, and the schedule says the rate"):
        Torch(Weights(one.detach(), (one,), (True,)), torch.optim.Adamax, lr=0.1)


@pytest.mark.slow
def test_the_parts_of_the_example_keep_their_contracts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "examples"))
    monkeypatch.delitem(sys.modules, "own_recipe", raising=False)
    before = [(known, dict(known.here)) for known in Registry.all]
    importlib.import_module("own_recipe")
    assert not check_trainer("sharpness-aware").not_asked
    assert not check_optimiser("averaged-descent").not_asked
    assert not check_schedule("triangle").not_asked
    for known, entries in before:
        known.keep(entries)


# --- weights to begin with --------------------------------------------------------------------------------------------


def small(seed: int, classes: int = 4) -> nn.Module:
    return build(NetworkSpec(architecture="mlp", options={"first": 8, "second": 6}), Shape(1, 8, 8, classes), seed=seed)


def given(network: nn.Module) -> dict[str, Tensor]:
    return {name: torch.from_numpy(value) for name, value in weights.tensors(network).items()}


def test_all_but_the_head_is_the_files() -> None:
    network, other = small(0), small(1)
    head = initial.head_of(network)
    assert {tuple(given(network)[name].shape) for name in head} == {(4, 6), (4,)}
    before = weights.tensors(network)
    assert initial.put(network, given(other), fresh_head=True) == tuple(sorted(head))
    for name, value in weights.tensors(network).items():
        assert np.array_equal(value, (before if name in head else weights.tensors(other))[name]), name
    assert initial.put(network, given(other), fresh_head=False) == ()
    assert same(network, other)
    wider = small(2, classes=7)
    assert initial.put(wider, given(other), fresh_head=False) == tuple(sorted(initial.head_of(wider)))


@pytest.mark.parametrize("given", ["/nowhere/at.safetensors", "x" * 1000, "no\0file"])
def test_a_file_that_is_not_there_is_said_once(given: str) -> None:
    with pytest.raises(InvalidInput, match="there is no file") as refused:
        initial.looked_at(parse({**TUNED, "training": {**TUNED["training"], "initial_weights": given}}))
    assert str(refused.value).count("allowed") == 1


def test_tensors_of_another_network_are_refused_by_name() -> None:
    fits = given(small(1))
    first = next(iter(fits))
    for wrong, words in (
        ({name: value for name, value in fits.items() if name != first}, f"without {first}"),
        ({**fits, "extra": torch.zeros(2)}, "with further extra"),
        ({**fits, first: torch.zeros(3)}, rf"with {first} of shape \(3,\) instead of"),
    ):
        with pytest.raises(InvalidInput, match=words) as caught:
            initial.put(small(0), wrong, fresh_head=True)
        assert caught.value.field == "training.initial_weights"


TUNED: dict[str, Any] = {
    "data": {"dataset": "blobs", "input_scale": "unit"},
    "network": {"architecture": "mlp", "options": {"first": 16, "second": 12}},
    "training": {"epochs": 8, "batch_size": 30, "learning_rate": 0.005, "snapshots": 0},
    "ensemble": {"runs": 3},
}


@pytest.mark.slow
@pytest.mark.parametrize("vary", ["head", "batches"])
def test_fine_tuned_runs_share_their_start_and_their_claims_say_so(tmp_path: Path, vary: str) -> None:
    import modescape as ms

    shape = loading.load(parse(TUNED).data, ()).shape
    start = build(parse(TUNED).network, shape, seed=11)
    save_file(given(start), tmp_path / "start.safetensors")
    asked = {**TUNED, "training": {**TUNED["training"], "initial_weights": str(tmp_path / "start.safetensors")},
             "ensemble": {"runs": 3, "vary": vary}}  # fmt: skip
    lab = ms.run(asked, folder=tmp_path / "home")
    head = initial.head_of(start)
    results = lab
    firsts = [s for s in results.solutions() if s.role == "checkpoint" and s.epoch == 0]
    assert len(firsts) == 3
    laid = [results.artifacts.tensors(s.weights) for s in firsts]
    for tensors in laid:
        for name, value in weights.tensors(start).items():
            if name not in head:
                assert np.array_equal(tensors[name], value), name
    same_head = all(np.array_equal(laid[0][name], other[name]) for other in laid[1:] for name in head)
    assert same_head == (vary == "batches")
    claims = results.experiment.finding["claims"]
    for letter in ("a", "b"):
        assert "fine-tunings of one start" in claims[letter]["because"], claims[letter]
    assert not any("one start" in claim["because"] for name, claim in claims.items() if name not in ("a", "b"))


def test_runs_with_a_given_start_cannot_differ_in_it(tmp_path: Path) -> None:
    shape = loading.load(parse(TUNED).data, ()).shape
    path = tmp_path / "start.safetensors"
    save_file(given(build(parse(TUNED).network, shape, seed=11)), path)

    def fields(training: dict[str, Any], **more: Any) -> list[str]:
        with pytest.raises(InvalidInput) as caught:
            prepare({**TUNED, "training": {**TUNED["training"], **training}, **more}, ())
        return [problem.field for problem in caught.value.problems]

    assert fields({"initial_weights": str(path)}) == ["ensemble.vary"]
    assert fields({}, ensemble={"runs": 3, "vary": "head"}) == ["ensemble.vary"]
    seeds = {"seeds": {"learning_rates": [1e-4]}, "ensemble": {"runs": 3, "vary": "head"}}
    assert fields({"initial_weights": str(path)}, **seeds) == ["seeds"]


def test_a_start_that_was_changed_is_refused_when_it_is_used(tmp_path: Path) -> None:
    path = tmp_path / "start.safetensors"
    save_file(given(small(1)), path)
    asked = {**TUNED, "training": {**TUNED["training"], "initial_weights": str(path)}, "ensemble": {"vary": "head"}}
    ready = prepare(asked, ()).spec
    assert ready.training.initial_digest is not None
    save_file(given(small(2)), path)
    from modescape.artifacts import Artifacts

    with pytest.raises(InvalidInput, match="other bytes"):
        initial.read(ready.training, Artifacts(tmp_path))
    path.write_bytes(b"no safetensors")
    with pytest.raises(InvalidInput, match="cannot be read"):
        prepare(asked, ())


def test_kept_weights_are_named_by_their_digest(tmp_path: Path) -> None:
    from modescape.artifacts import Artifacts

    artifacts = Artifacts(tmp_path)
    digest = artifacts.put_tensors(weights.tensors(small(5)), "weights").digest
    training = TrainingSpec.model_validate({"initial_weights": digest})
    network = small(0)
    initial.put(network, initial.read(training, artifacts), fresh_head=False)
    assert same(network, small(5))
    gone = TrainingSpec.model_validate({"initial_weights": "0" * 64})
    with pytest.raises(InvalidInput, match="no file"):
        initial.read(gone, artifacts)
