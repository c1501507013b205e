"""Members of one group from their first steps to their last: who is there, who leaves, who is told what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from modescape.errors import InvalidInput
from modescape.science.arithmetic import Precision, arithmetic, choose_precision, generators_aside
from modescape.science.data import Splits
from modescape.science.networks import SeededNetwork, keep_mask
from modescape.science.seeds import RunSeeds
from modescape.spec_parts import STACKED_OPTIMISERS, TrainingSpec
from modescape.training import Recipe, Run, Silent, Telling, TrainListener, TrainState, torch_dropout, train
from modescape.training_groups.on_card import OnCard, cannot_be_captured
from modescape.training_groups.rows import Function, Rows, dropped_in

Way = Literal["branches", "stacked"]


@dataclass(frozen=True)
class Trainee:
    """One member of a group. network: trained in place from its present weights, or from `resume`."""

    network: nn.Module
    seeds: RunSeeds
    listener: TrainListener = field(default_factory=Silent)
    resume: TrainState | None = None


def train_group(
    members: Sequence[Trainee],
    splits: Splits,
    training: TrainingSpec,
    *,
    way: Way,
    device: str = "cpu",
    first_step: int = 0,
    recipe: Recipe | None = None,
    captured: bool | None = None,
    left: Callable[[int, Exception | None], None] = lambda place, error: None,
) -> list[Exception | None]:
    """Train members of one architecture; of each how it ended: None at its last step, else what stopped it (Diverged,
    what its listener raised), with the others trained on. captured: whether steps are `on_card`'s; None: on a GPU.
    left: called with the place of a member, and how it ended, when it leaves. Other arguments as `training.train`'s.

    Raises InvalidInput where the networks or the training cannot be grouped that way (`cannot_be`).
    """
    if (why := cannot_be(way, [one.network for one in members], training)) is not None:
        raise InvalidInput(why, field="way", allowed="alone" if way == "branches" else "alone, branches")
    recipe = recipe or Recipe.of(training, len(splits.train))
    ours = all(isinstance(one.network, SeededNetwork) for one in members)
    precision = choose_precision(training.precision, device, is_ours=ours)
    splits = splits.to(device)
    with arithmetic(device), generators_aside(device):
        on_card = torch.device(device).type == "cuda" if captured is None else captured
        group = _Group(stepping(way, precision, on_card=on_card), left)
        for one in members:
            run = Run(one.network.to(device), splits, training, one.seeds, recipe, device, first_step)
            group.take(Telling(run, one.listener), one.resume)
        group.train()
    return group.ended


def train_alone(
    network: nn.Module,
    splits: Splits,
    training: TrainingSpec,
    seeds: RunSeeds,
    *,
    device: str = "cpu",
    resume: TrainState | None = None,
    listener: TrainListener | None = None,
    first_step: int = 0,
    recipe: Recipe | None = None,
) -> None:
    """`training.train`, on a GPU by captured steps: a group of one."""
    if torch.device(device).type != "cuda" or training.by_epochs:
        train(
            network, splits, training, seeds, device=device, resume=resume, listener=listener, first_step=first_step,
            recipe=recipe,
        )  # fmt: skip
        return
    member = Trainee(network, seeds, listener or Silent(), resume)
    [error] = train_group(
        [member], splits, training, way="branches", device=device, first_step=first_step, recipe=recipe
    )
    if error is not None:
        raise error


def cannot_be(way: Way, networks: Sequence[nn.Module], training: TrainingSpec) -> str | None:
    """Why such a group cannot be trained that way; None where it can."""
    if training.by_epochs:
        return f"the trainer {training.trainer!r} trains one network at a time"
    if way == "branches":
        return None
    shapes = {tuple((name, tuple(p.shape)) for name, p in one.named_parameters()) for one in networks}
    if len(shapes) > 1:
        return "the networks differ in their weights' shapes"
    if training.optimiser not in STACKED_OPTIMISERS:
        return f"the optimiser {training.optimiser!r} moves the tensors of one network"
    drawing = torch_dropout(networks[0])
    return f"{drawing} draws from torch's generator, which all of a group would share" if drawing else None


class _Group:
    """Runs in training, of which any may leave at any step."""

    def __init__(
        self, stepping: Callable[[Sequence[Run]], Stepper], left: Callable[[int, Exception | None], None]
    ) -> None:
        self.stepping, self.left = stepping, left
        self.ended: list[Exception | None] = []
        self._there: dict[int, Telling] = {}  # by their places among the members

    def take(self, telling: Telling, resume: TrainState | None) -> None:
        place = len(self.ended)
        self.ended.append(None)
        self._there[place] = telling
        self._heard(place, lambda: telling.begin(resume))

    def train(self) -> None:
        stepper: Stepper | None = None
        while self._leave_those_at_their_end():
            for place, telling in list(self._there.items()):
                self._heard(place, telling.check)
            # those that are behind catch up first, so that all that step together are at one step
            step = min((one.run.step for one in self._there.values()), default=0)
            now = {place: one for place, one in self._there.items() if one.run.step == step}
            runs = [one.run for one in now.values()]
            if runs:
                if stepper is None or stepper.runs != runs:
                    stepper = self.stepping(runs)
                stepper.learn()
            for place, one in now.items():
                self._heard(place, one.after_step)

    def _leave_those_at_their_end(self) -> bool:
        for place, one in list(self._there.items()):
            if one.run.step >= one.run.plan.steps:
                self._leave(place, one, None)
        return bool(self._there)

    def _heard(self, place: int, tell: Callable[[], None]) -> None:
        """Tell a member: what its listener, or its own numbers, raise concerns it alone."""
        one = self._there[place]
        try:
            tell()
        except Exception as error:
            self._leave(place, one, error)

    def _leave(self, place: int, one: Telling, error: Exception | None) -> None:
        self.ended[place] = error
        del self._there[place]
        one.run.module.eval()
        self.left(place, error)


class Stepper(Protocol):
    """Makes updates of runs that are at one step."""

    @property
    def runs(self) -> list[Run]: ...

    def learn(self) -> None:
        """One update of every run."""


def stepping(way: Way, precision: Precision, *, on_card: bool) -> Callable[[Sequence[Run]], Stepper]:
    """What makes the steps of runs trained that way."""

    def made(runs: Sequence[Run]) -> Stepper:
        stacked = way == "stacked" and len(runs) > 1
        if on_card and cannot_be_captured(runs[0]) is None:
            return OnCard(runs, precision, stacked=stacked)
        return _Stack(runs, precision) if stacked else _Turns(list(runs), precision)

    return made


@dataclass(frozen=True)
class _Turns:
    """Each run's own step in turn, fed as it is alone."""

    runs: list[Run]
    precision: Precision

    def learn(self) -> None:
        for run in self.runs:
            run.learn(run.batch(run.step), self.precision)


class _Stack:
    """Runs at one step as one function of all their weights, fed as each is alone."""

    def __init__(self, runs: Sequence[Run], precision: Precision) -> None:
        self._dropped = dropped_in(runs[0])
        self.rows = Rows(runs)
        self._function = Function(self.rows, precision)

    @property
    def runs(self) -> list[Run]:
        return self.rows.runs

    def learn(self) -> None:
        """One update of every run."""
        rows, first, step = self.rows, self.runs[0], self.runs[0].step
        batches = [run.batch(step) for run in self.runs]
        images = torch.stack([first.splits.transform(batch.images) for batch in batches])
        targets = torch.stack([batch.targets for batch in batches])
        losses, logits = self._function.differentiate(images, targets, self._masks(step, images.shape[1]))
        with torch.no_grad():
            rows.decay()
            rows.optimiser.update(rows.theta, rows.gradient, first.rate(step))
            for i, run in enumerate(self.runs):
                run.optimiser.updates = rows.optimiser.updates
                run.count(losses[i], logits[i], batches[i].labels)

    def _masks(self, step: int, images: int) -> list[Tensor]:
        """Of every dropout layer what is kept, uint8 [M, n, ...], drawn by each member as it would alone."""
        drawn: list[list[Tensor]] = [[] for _ in self._dropped]
        for run in self.runs:
            noise = np.random.Generator(np.random.SFC64([run.seeds.noise, step]))
            for own, layer in zip(drawn, self._dropped, strict=True):
                own.append(
                    keep_mask((images, *layer.shape), layer.threshold, noise, device=run.device,
                              channels_last=layer.last, portable=False)
                    if layer.threshold else torch.empty(0, dtype=torch.uint8, device=run.device)
                )  # fmt: skip
        return [torch.stack(own) for own in drawn]
