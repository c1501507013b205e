"""Training several members of an ensemble at once, on one device.

    ended = train_group([Trainee(network, seeds, listener), ...], splits, spec.training, way="stacked")

Small networks leave a card idle: a step is many launches of microseconds. A group shares them. Members are what they
are alone: each has its seeds, its listener, its saved states, at whatever step it is resumed; one that stops, fails or
ends leaves the group, which goes on. Of two ways

- **branches** makes each member's own step in turn: to the bit what it is alone;
- **stacked** makes one step of all at once, as one function of all their weights [M, P] (`torch.func.vmap`). From equal
  states its gradients are those of the members alone up to rounding; bits are another numerics class.

Everything random is drawn by member and step as alone, so both ways see the same images, masks and augmentation.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from modescape.errors import InvalidInput
from modescape.science.arithmetic import Precision, arithmetic, choose_precision
from modescape.science.data import Splits
from modescape.science.networks import CnnBlock, Dropout, SeededNetwork, dropout_layers, keep_mask
from modescape.science.optimisers import Adam, Descent, Weights, rows_of
from modescape.science.seeds import RunSeeds, run_seeds
from modescape.spec_parts import STACKED_OPTIMISERS, TrainingSpec
from modescape.training import Recipe, Run, Silent, Telling, TrainListener, TrainState

Way = Literal["branches", "stacked"]

SECONDS = 1.0  # of each measurement
WARM = 3  # rounds of steps before it


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
    left: Callable[[int, Exception | None], None] = lambda place, error: None,
) -> list[Exception | None]:
    """Train members of one architecture; of each how it ended: None at its last step, else what stopped it (Diverged,
    what its listener raised), with the others trained on. left: called with the place of a member, and how it ended,
    when it leaves; other arguments as `training.train`'s.

    Raises InvalidInput where the networks or the training cannot be grouped that way (`cannot_be`).
    """
    if (why := cannot_be(way, [one.network for one in members], training)) is not None:
        raise InvalidInput(why, field="way", allowed="alone" if way == "branches" else "alone, branches")
    recipe = recipe or Recipe.of(training, len(splits.train))
    ours = all(isinstance(one.network, SeededNetwork) for one in members)
    precision = choose_precision(training.precision, device, is_ours=ours)
    splits = splits.to(device)
    with arithmetic(device), _random_numbers_aside(device):
        group = _Group(way, precision, left)
        for one in members:
            run = Run(one.network.to(device), splits, training, one.seeds, recipe, device, first_step)
            group.take(Telling(run, one.listener), one.resume)
        group.train()
    return group.ended


@dataclass(frozen=True)
class Memory:
    """Bytes. own: what each member keeps as long as it is trained; step: what one member's step takes besides."""

    own: int
    step: int


def memory_of(network: nn.Module, splits: Splits, training: TrainingSpec, device: str) -> Memory:
    """What training such networks takes, found by one step of a copy: on a GPU the most that was allocated, elsewhere
    twice what the step keeps for its way back (the other half being gradients on that way)."""
    with arithmetic(device), _random_numbers_aside(device):
        run, precision = _trial(network, splits, training, device)
        run.learn(run.batch(0), precision)  # optimisers of torch's make their moments now
        tensors = [run.theta, run.gradient, *run.optimiser.moments.values(), *run.module.buffers()]
        own = sum(_bytes(one) for one in tensors) + _bytes(run.theta)  # and an optimiser's scratch
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            run.learn(run.batch(1), precision)
            return Memory(own, torch.cuda.max_memory_allocated() - before)
        kept: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            kept[tensor.data_ptr()] = _bytes(tensor)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            run.learn(run.batch(1), precision)
        return Memory(own, 2 * sum(kept.values()))


def members_that_fit(free: int, needed: Memory, way: Way) -> int:
    """How many members at once `free` bytes allow; of branches one makes its step at a time."""
    if way == "branches":
        return max(0, (free - needed.step) // needed.own)
    return free // (needed.own + needed.step)


def measure(
    network: nn.Module, splits: Splits, training: TrainingSpec, device: str, *, members: int = 8
) -> dict[Way, float]:
    """Training images a second of a group, by the way it is trained."""
    with arithmetic(device), _random_numbers_aside(device):
        return {way: _speed(way, network, splits, training, device, members) for way in ("branches", "stacked")}


def _speed(way: Way, network: nn.Module, splits: Splits, training: TrainingSpec, device: str, members: int) -> float:
    """Of whole rounds of steps in about SECONDS, after WARM of them."""
    trials = [_trial(network, splits, training, device) for _ in range(members)]
    runs, precision = [run for run, _ in trials], trials[0][1]
    stack = _Stack(runs, precision) if way == "stacked" else None

    def round_of_steps() -> None:
        if stack is not None:
            stack.learn()
        else:
            for run in runs:
                run.learn(run.batch(run.step), precision)
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize()

    for _ in range(WARM):
        round_of_steps()
    rounds, started = 0, time.perf_counter()
    while rounds == 0 or time.perf_counter() - started < SECONDS:
        round_of_steps()
        rounds += 1
    return rounds * members * training.batch_size / (time.perf_counter() - started)


def _trial(network: nn.Module, splits: Splits, training: TrainingSpec, device: str) -> tuple[Run, Precision]:
    """A run of a copy that nobody hears of."""
    precision = choose_precision(training.precision, device, is_ours=isinstance(network, SeededNetwork))
    recipe = Recipe.of(training, len(splits.train))
    copied = copy.deepcopy(network).to(device)
    return Run(copied, splits.to(device), training, run_seeds(0, 0, "both"), recipe, device, 0), precision


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


@contextmanager
def _random_numbers_aside(device: str) -> Iterator[None]:
    place = torch.device(device)
    with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
        yield


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
    drawing = [type(one).__name__ for one in networks[0].modules() if isinstance(one, nn.modules.dropout._DropoutNd)]
    return f"{drawing[0]} draws from torch's generator, which all of a group would share" if drawing else None


class _Group:
    """Runs in training, of which any may leave at any step."""

    def __init__(self, way: Way, precision: Precision, left: Callable[[int, Exception | None], None]) -> None:
        self.way, self.precision, self.left = way, precision, left
        self.ended: list[Exception | None] = []
        self._there: dict[int, Telling] = {}  # by their places among the members

    def take(self, telling: Telling, resume: TrainState | None) -> None:
        place = len(self.ended)
        self.ended.append(None)
        self._there[place] = telling
        self._heard(place, lambda: telling.begin(resume))

    def train(self) -> None:
        stack: _Stack | None = None
        while self._leave_those_at_their_end():
            for place, telling in list(self._there.items()):
                self._heard(place, telling.check)
            # those that are behind catch up first, so that all that step together are at one step
            step = min((one.run.step for one in self._there.values()), default=0)
            now = {place: one for place, one in self._there.items() if one.run.step == step}
            if self.way == "stacked" and len(now) > 1:
                runs = [one.run for one in now.values()]
                if stack is None or stack.runs != runs:
                    stack = _Stack(runs, self.precision)
                stack.learn()
            else:
                stack = None
                for one in now.values():
                    one.run.learn(one.run.batch(step), self.precision)
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


class _Stack:
    """Runs at one step as one function of all their weights, theta [M, P]; each run's own are rows of it."""

    def __init__(self, runs: Sequence[Run], precision: Precision) -> None:
        self.runs, self.precision = list(runs), precision
        first = self.runs[0]
        self._base = _plain(first.module)
        self._features = _features_of_dropout(first)
        self.theta = torch.stack([run.theta for run in self.runs])
        self.gradient = torch.zeros_like(self.theta)
        self.optimiser = self._of_all(first)
        names = [name for name, _ in first.module.named_buffers()]
        own = [dict(run.module.named_buffers()) for run in self.runs]
        self.buffers = {name: torch.stack([one[name] for one in own]) for name in names}
        for i, run in enumerate(self.runs):
            run.live_in(self.theta[i], self.gradient[i])
            rows_of(self.optimiser, run.optimiser, i)
            for name, buffer in run.module.named_buffers():
                buffer.data = self.buffers[name][i]
        self._pieces = [(name, piece.numel(), piece.shape) for name, piece in first.module.named_parameters()]

    def _of_all(self, first: Run) -> Adam | Descent:
        """One optimiser of what all of them remember."""
        made = first.recipe.optimiser(Weights(self.theta, (), ()))
        assert isinstance(made, Adam | Descent)  # as `cannot_be` has it
        made.updates = first.optimiser.updates
        for name, moment in made.moments.items():
            moment.copy_(torch.stack([run.optimiser.moments[name] for run in self.runs]))
        return made

    def learn(self) -> None:
        """One update of every run."""
        first, step = self.runs[0], self.runs[0].step
        batches = [run.batch(step) for run in self.runs]
        images = torch.stack([first.splits.transform(batch.images) for batch in batches])
        targets = torch.stack([batch.targets for batch in batches])
        masks = self._masks(step, images.shape[1])
        found, (losses, logits) = vmap(grad_and_value(self._loss, has_aux=True), randomness="error")(
            self._named(self.theta), self.buffers, images, targets, masks
        )
        with torch.no_grad():
            self.gradient.copy_(torch.cat([found[name].flatten(1) for name, *_ in self._pieces], 1))
            if first.decayed is not None:
                self.gradient.addcmul_(self.theta, first.decayed, value=first.training.weight_decay)
            self.optimiser.update(self.theta, self.gradient, first.rate(step))
            for i, run in enumerate(self.runs):
                run.optimiser.updates = self.optimiser.updates
                run.count(losses[i], logits[i], batches[i].labels)

    def _loss(
        self,
        weights: dict[str, Tensor],
        buffers: dict[str, Tensor],
        images: Tensor,
        targets: Tensor,
        masks: list[Tensor],
    ) -> tuple[Tensor, Tensor]:
        first = self.runs[0]
        for layer, mask in zip(dropout_layers(self._base), masks, strict=True):
            layer.mask = mask if mask.numel() else None
        with torch.autocast(first.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            logits = functional_call(self._base, (weights, buffers), (images,)).float()
        return first.loss_of(logits, targets, first.loss_options), logits

    def _named(self, theta: Tensor) -> dict[str, Tensor]:
        found, start = {}, 0
        for name, count, shape in self._pieces:
            found[name] = theta[:, start : start + count].view(-1, *shape)
            start += count
        return found

    def _masks(self, step: int, images: int) -> list[Tensor]:
        """Of every dropout layer what is kept, uint8 [M, n, ...], drawn by each member as it would alone."""
        drawn: list[list[Tensor]] = [[] for _ in self._features]
        for run in self.runs:
            noise = np.random.Generator(np.random.SFC64([run.seeds.noise, step]))
            for layer, (threshold, shape, last) in enumerate(self._features):
                drawn[layer].append(
                    keep_mask((images, *shape), threshold, noise, device=run.device, channels_last=last, portable=False)
                    if threshold else torch.empty(0, dtype=torch.uint8, device=run.device)
                )  # fmt: skip
        return [torch.stack(own) for own in drawn]


def _plain(network: nn.Module) -> nn.Module:
    """A copy whose layers are torch's own operations; its weights are of no importance."""
    base = copy.deepcopy(network).train()
    for layer in base.modules():
        if isinstance(layer, CnnBlock):
            layer.plain = True
    return base


def _features_of_dropout(run: Run) -> list[tuple[int, tuple[int, ...], bool]]:
    """Of every dropout layer in their order of drawing: threshold, shape of one example's features, whether they lie
    channels-last. Found by a step that changes nothing."""
    network = copy.deepcopy(run.module).train()
    layers = dropout_layers(network)
    seen: dict[int, tuple[int, tuple[int, ...], bool]] = {}
    order: list[int] = []

    def seeing(place: int, layer: Dropout) -> Callable[[Tensor], Tensor]:
        def keep(features: Tensor) -> Tensor:
            last = features.is_contiguous(memory_format=torch.channels_last) if features.dim() == 4 else False
            seen[place] = layer.threshold, tuple(features.shape[1:]), last
            order.append(place)
            return torch.ones_like(features, dtype=torch.uint8)

        return keep

    for place, layer in enumerate(layers):
        layer.keep = seeing(place, layer)  # type: ignore[method-assign, assignment]
    batch = run.batch(run.step)
    precision = torch.autocast(run.device.type, torch.bfloat16, enabled=False)
    with precision:
        network(run.splits.transform(batch.images))
    if order != sorted(order) or len(order) != len(set(order)):
        raise InvalidInput("its dropout layers are not used once each, in their order", field="network")
    return [seen.get(place, (0, (), False)) for place in range(len(layers))]
