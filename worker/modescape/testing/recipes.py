"""What every part of a training keeps to: a run killed at any step goes on with the same bits, and members are alike
whoever was trained beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from modescape.errors import Diverged, PauseRequested, StageInterrupted
from modescape.registry import (
    RECIPE,
    AugmentationEntry,
    Entry,
    Loss,
    OptimiserEntry,
    Schedule,
    Trainer,
)
from modescape.science.steps import Examples, Moment
from modescape.testing.contract import (
    SHARED,
    Checked,
    Contract,
    NotAsked,
    Rule,
    at_bounds,
    concerns,
    equal,
    expect,
    module_of,
    refused,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modescape.science.data import Splits
    from modescape.spec_parts import TrainingSpec
    from modescape.training import TrainState

Arrays = Mapping[str, np.ndarray]
EPOCHS, BATCH = 2, 100  # of 300 blobs: three steps each


@dataclass(frozen=True)
class Trial:
    """A part of the recipe, tried in trainings of a small network on blobs."""

    part: str
    entry: Any

    @property
    def module(self) -> str:
        return module_of(self.entry.call)

    @cached_property
    def options(self) -> Any:
        return self.entry.options()

    @cached_property
    def splits(self) -> Splits:
        from modescape.datasets import loading
        from modescape.spec_parts import DataSpec

        return loading.load(DataSpec(dataset="blobs", input_scale="unit", validation_images=50), ())

    @cached_property
    def training(self) -> TrainingSpec:
        from modescape.spec_parts import TrainingSpec

        asked = {"epochs": EPOCHS, "batch_size": BATCH, "sampling": "epoch", "snapshots": 1, "learning_rate": 0.01,
                 "snapshot_window": 1.0}  # fmt: skip
        return TrainingSpec.model_validate({**asked, self.part: self.entry.name})

    def network(self, member: int) -> nn.Module:
        from modescape.architectures.building import build
        from modescape.science.seeds import run_seeds
        from modescape.spec_parts import NetworkSpec

        asked = NetworkSpec(architecture="mlp", options={"first": 8, "second": 6})
        return build(asked, self.splits.shape, seed=run_seeds(0, member).weights)

    def trained(self, member: int = 0, *, stop_after: int | None = None, resume: TrainState | None = None) -> _Heard:
        """A member, from the beginning or from a saved state; stopped before the check of that number."""
        from modescape.science import weights
        from modescape.science.seeds import run_seeds
        from modescape.training import train

        network, heard = self.network(member), _Heard(stop_after)
        with standing(self.part, self.entry):
            try:
                train(network, self.splits, self.training, run_seeds(0, member), listener=heard, resume=resume)
            except StageInterrupted:
                return heard
        heard.final = weights.tensors(network)
        return heard


class _Heard:
    """A listener that remembers what was saved, and stops a training."""

    def __init__(self, stop_after: int | None) -> None:
        self.stop_after, self.checks = stop_after, 0
        self.saved: TrainState | None = None
        self.final: Arrays = {}
        self.checkpoints: list[int] = []

    def checkpoint(self, epoch: int, step: int, tensors: Arrays) -> None:
        self.checkpoints.append(epoch)

    def snapshot(self, index: int, step: int, tensors: Arrays) -> None: ...

    def point(self, step: int, values: dict[str, float]) -> None: ...

    def progress(self, report: Any) -> None: ...

    def save(self, state: TrainState) -> None:
        self.saved = replace(state, tensors={name: value.copy() for name, value in state.tensors.items()})

    def check(self) -> None:
        self.checks += 1
        if self.stop_after is not None and self.checks > self.stop_after:
            raise PauseRequested("stopped by the contract")


@contextmanager
def standing(part: str, entry: Entry) -> Iterator[None]:
    """The entry in the registry for a while, in the place of its name."""
    known = RECIPE[part]
    before = dict(known.here)
    known.keep({**before, entry.name: entry})
    try:
        yield
    finally:
        known.keep(before)


def _same(left: Arrays, right: Arrays) -> bool:
    return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)


# ---- what every part keeps ----


def _is_installed(trial: Trial) -> None:
    package = getattr(trial.entry, "package", "")
    if package and find_spec(package) is None:
        raise NotAsked(f"without {package}")


def goes_on(trial: Trial) -> None:
    """A training killed at any step goes on to the same bits: whatever is remembered is in what is saved."""
    _is_installed(trial)
    whole = trial.trained()
    expect(whole.final, "A training does not come to its end.")
    for after in range(1, whole.checks):
        broken = trial.trained(stop_after=after)
        resumed = trial.trained(resume=broken.saved)
        expect(_same(whole.final, resumed.final), f"Killed at its check {after + 1} it ends in other weights.")


def is_alone(trial: Trial) -> None:
    """A member trained after another, whatever random numbers were drawn between, is the member trained alone."""
    _is_installed(trial)
    import torch

    alone = trial.trained(1).final
    trial.trained(0)
    torch.manual_seed(99)
    np.random.seed(99)
    expect(_same(alone, trial.trained(1).final), "A second training in the same process ends in other weights.")


def tells_divergence(trial: Trial) -> None:
    """A training of weights that are no numbers is told as diverged, and ends in no weights."""
    _is_installed(trial)
    import torch

    from modescape.science.seeds import run_seeds
    from modescape.training import train

    network = trial.network(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(torch.nan)
    with standing(trial.part, trial.entry):
        ask = partial(train, network, trial.splits, trial.training, run_seeds(0, 0), listener=_Heard(None))
        refused("A training of NaN", ask, Diverged)


PART: tuple[Rule[Trial], ...] = (*SHARED, goes_on, is_alone, tells_divergence)


# ---- optimisers ----

OPTIMISER: Contract[Trial] = Contract("optimiser", *PART)
_SLOPES = (0.5, 1.0, 2.0)  # of a bowl whose bottom is at 1


def _moved(trial: Trial, options: Any, rate: float, updates: int) -> np.ndarray:
    """Where an optimiser is after so many updates in a bowl, from 0."""
    import torch

    from modescape.science.optimisers import Weights, flatten_in_place

    module: Any = torch.nn.Linear(len(_SLOPES), 1, bias=False)
    with torch.no_grad():
        module.weight.zero_()
    theta, gradient = flatten_in_place(module)
    with standing("optimiser", trial.entry):
        found = trial.entry.call(Weights(theta, (module.weight,), (False,)), options, trial.training)
    for _ in range(updates):
        with torch.no_grad():
            gradient.copy_(torch.tensor(_SLOPES) * (theta - 1))
            found.update(theta, gradient, rate)
    return np.array(theta.detach().numpy())


@OPTIMISER.rule
def _stands(trial: Trial) -> None:
    """At a rate of 0 nothing moves, whatever its options."""
    for words, options in (("its defaults", trial.options), *at_bounds(trial.entry.options)):
        expect((_moved(trial, options, 0.0, 3) == 0).all(), f"With {words} weights move at a rate of 0.")


@OPTIMISER.rule
def _descends(trial: Trial) -> None:
    """It goes down a bowl, every weight nearer to the bottom, and stays finite with every option at its bounds."""
    found = _moved(trial, trial.options, 0.05, 40)
    expect((np.abs(found - 1) < 1).all(), f"After 40 updates from 0 towards 1 it is at {found}.")
    for words, options in at_bounds(trial.entry.options):
        expect(np.isfinite(_moved(trial, options, 0.01, 10)).all(), f"With {words} weights are no finite numbers.")


# ---- schedules ----

SCHEDULE: Contract[Trial] = Contract("schedule", *PART)


@SCHEDULE.rule
def _rates(trial: Trial) -> None:
    """Rates are finite and not negative, at every step and with every option at its bounds."""
    for words, options in (("its defaults", trial.options), *at_bounds(trial.entry.options)):
        for steps, per_epoch in ((6, 3), (1, 1), (40, 4)):
            for step in range(steps):
                rate = trial.entry.call(Moment(step, steps, per_epoch), options, trial.training)
                expect(np.isfinite(rate) and rate >= 0, f"With {words} the rate of step {step} of {steps} is {rate}.")


@SCHEDULE.rule
def _of_the_step(trial: Trial) -> None:
    """A rate is a function of the step alone: asked backwards it is the same."""
    there = [trial.entry.call(Moment(s, 40, 4), trial.options, trial.training) for s in range(40)]
    back = [trial.entry.call(Moment(s, 40, 4), trial.options, trial.training) for s in reversed(range(40))]
    expect(there == back[::-1], "Asked backwards the rates are others.")


@SCHEDULE.rule
def _scales(trial: Trial) -> None:
    """Twice the learning rate is twice the rate at every step."""
    concerns(trial.entry.name != "milestones")  # whose rates are listed
    twice = trial.training.model_copy(update={"learning_rate": 2 * trial.training.learning_rate})
    for s in range(40):
        one, two = (trial.entry.call(Moment(s, 40, 4), trial.options, t) for t in (trial.training, twice))
        expect(abs(two - 2 * one) <= 1e-9 * abs(two), f"At step {s} they are {one} and {two}.")


# ---- losses ----

LOSS: Contract[Trial] = Contract("loss", *PART)


def _logits(scale: float) -> Tensor:
    import torch

    return torch.randn(12, 5, generator=torch.Generator().manual_seed(3)) * scale


def _labels() -> Tensor:
    import torch

    return torch.arange(12) % 5


@LOSS.rule
def _shares(trial: Trial) -> None:
    """Labels, and shares that are all one class's, are the same target."""
    from torch.nn.functional import one_hot

    logits, labels = _logits(2.0), _labels()
    hard = float(trial.entry.call(logits, labels, trial.options))
    soft = float(trial.entry.call(logits, one_hot(labels, 5).float(), trial.options))
    expect(abs(hard - soft) <= 1e-5 * max(1, abs(hard)), f"They lose {hard} and {soft}.")


@LOSS.rule
def _slopes(trial: Trial) -> None:
    """It is one finite number with finite slopes, however sure the logits, with every option at its bounds."""
    for words, options in (("its defaults", trial.options), *at_bounds(trial.entry.options)):
        for scale in (0.0, 1.0, 1000.0):
            logits = _logits(scale).requires_grad_()
            lost = trial.entry.call(logits, _labels(), options)
            equal("shape", tuple(lost.shape), ())
            lost.backward()
            assert logits.grad is not None
            sound = bool(lost.isfinite()) and bool(logits.grad.isfinite().all())
            number = float(lost.detach())
            expect(sound, f"With {words} and logits of {scale:g} it is {number}, or a slope is not finite.")


@LOSS.rule
def _right_is_better(trial: Trial) -> None:
    """The right answer loses less than a wrong one, and the order of a batch does not matter."""
    from torch.nn.functional import one_hot

    right = 4.0 * one_hot(_labels(), 5).float()
    lost = float(trial.entry.call(right, _labels(), trial.options))
    wrong = float(trial.entry.call(right.roll(1, 1), _labels(), trial.options))
    expect(lost < wrong, f"Right answers lose {lost}, wrong ones {wrong}.")
    logits = _logits(2.0)
    there, back = (float(trial.entry.call(x, y, trial.options))
                   for x, y in ((logits, _labels()), (logits.flip(0), _labels().flip(0))))  # fmt: skip
    expect(abs(there - back) <= 1e-5 * max(1, abs(there)), f"Backwards the batch loses {back} instead of {there}.")


# ---- augmentations ----

AUGMENTATION: Contract[Trial] = Contract("augmentation", *PART)


def _examples(channels: int = 3) -> Examples:
    import torch

    rng = np.random.default_rng(4)
    images = torch.from_numpy(rng.integers(0, 256, (10, channels, 12, 12), dtype=np.uint8))
    return Examples(images, torch.arange(10) % 4, 4)


def _augmented(trial: Trial, options: Any, seed: int, given: Examples) -> Examples:
    import torch

    torch.manual_seed(seed)
    found = trial.entry.call(given, options, np.random.default_rng(seed))
    expect(isinstance(found, Examples), f"It returns a {type(found).__name__}, expected are Examples.")
    return found  # type: ignore[no-any-return]


@AUGMENTATION.rule
def _keeps_shape(trial: Trial) -> None:
    """Examples stay as many and as large, pixels between 0 and 255, labels classes, shares of classes sum to 1, with
    every option at its bounds, in colour and grey."""
    _is_installed(trial)
    import torch

    for words, options in (("its defaults", trial.options), *at_bounds(trial.entry.options)):
        for channels in (3, 1):
            given = _examples(channels)
            found = _augmented(trial, options, 5, given)
            equal(f"shape of images with {words}", tuple(found.images.shape), tuple(given.images.shape))
            expect(found.images.dtype in (torch.uint8, torch.float32), f"Its pixels are {found.images.dtype}.")
            sound = bool(((found.images >= 0) & (found.images <= 255)).all())
            expect(sound, f"With {words} pixels leave 0 to 255.")
            expect(set(found.labels.tolist()) <= set(range(4)), f"With {words} labels are no classes.")
            if found.shares is not None:
                equal(f"shape of shares with {words}", tuple(found.shares.shape), (10, 4))
                sums = found.shares.sum(-1)
                expect(bool(((sums - 1).abs() < 1e-5).all()), f"With {words} shares sum to {sums.tolist()}.")


@AUGMENTATION.rule
def _draws(trial: Trial) -> None:
    """The same random numbers give the same examples, and what it was given is as it was."""
    _is_installed(trial)
    given, before = _examples(), _examples()
    one, two = (_augmented(trial, trial.options, 6, given) for _ in range(2))
    expect(bool((one.images == two.images).all()), "Asked twice with the same random numbers, images differ.")
    expect(bool((one.targets == two.targets).all()), "Asked twice with the same random numbers, targets differ.")
    expect(bool((given.images == before.images).all()), "It changed the images it was given.")


# ---- trainers ----

TRAINER: Contract[Trial] = Contract("trainer", *PART)


@TRAINER.rule
def _hands_over(trial: Trial) -> None:
    """It hands over every epoch, and its weights are others than it began with."""
    from modescape.science import weights

    heard = trial.trained()
    equal("checkpoints' epochs", heard.checkpoints, list(range(EPOCHS + 1)))
    expect(not _same(heard.final, weights.tensors(trial.network(0))), "Its weights are those it began with.")


@TRAINER.rule
def _members_differ(trial: Trial) -> None:
    """Members with other batches end in other weights, from the same start too."""
    from modescape.science import weights
    from modescape.science.seeds import run_seeds
    from modescape.training import train

    ends = []
    for run in (0, 1):
        network = trial.network(0)
        with standing(trial.part, trial.entry):
            train(network, trial.splits, trial.training, run_seeds(0, run, "batches"), listener=_Heard(None))
        ends.append(weights.tensors(network))
    expect(not _same(*ends), "Two orders of examples end in the same weights.")


# ---- asked of an entry ----


def _check(contract: Contract[Trial], part: str, entry: Entry | str) -> Checked:
    found = RECIPE[part][entry] if isinstance(entry, str) else entry
    return contract.check(found.name, Trial(part, found))


@OPTIMISER.lists
def check_optimiser(entry: OptimiserEntry | str) -> Checked:
    """Is this an optimiser as `modescape.recipes.recipe` asks? Tried in a bowl and in small trainings.

    Raises ContractBroken with the first rule that does not hold.
    """
    return _check(OPTIMISER, "optimiser", entry)


@SCHEDULE.lists
def check_schedule(entry: Schedule | str) -> Checked:
    """Is this a schedule as `modescape.recipes.recipe` asks? Tried step by step and in small trainings.

    Raises ContractBroken with the first rule that does not hold.
    """
    return _check(SCHEDULE, "schedule", entry)


@LOSS.lists
def check_loss(entry: Loss | str) -> Checked:
    """Is this a loss as `modescape.recipes.recipe` asks? Tried on made-up logits and in small trainings.

    Raises ContractBroken with the first rule that does not hold.
    """
    return _check(LOSS, "loss", entry)


@AUGMENTATION.lists
def check_augmentation(entry: AugmentationEntry | str) -> Checked:
    """Is this an augmentation as `modescape.recipes.recipe` asks? Tried on made-up images and in small trainings.

    Raises ContractBroken with the first rule that does not hold.
    """
    return _check(AUGMENTATION, "augmentation", entry)


@TRAINER.lists
def check_trainer(entry: Trainer | str) -> Checked:
    """Is this a trainer as `modescape.training.Member` asks? Tried in small trainings, killed after every epoch.

    Raises ContractBroken with the first rule that does not hold.
    """
    return _check(TRAINER, "trainer", entry)


RECIPES: Mapping[str, Callable[..., Checked]] = {
    "optimisers": check_optimiser, "schedules": check_schedule, "losses": check_loss,
    "augmentations": check_augmentation, "trainers": check_trainer,
}  # fmt: skip
