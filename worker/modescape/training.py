"""Training one network so that a run killed at any step and resumed gives the same bits as one left alone.

    train(network, splits, spec.training, run_seeds(0, run=0), listener=listener)

Every random number of step s is a function of the run's seeds and s alone (its order of images, its dropout masks, its
augmentation), so the state of a run is its weights, its optimiser's moments and the number of steps done. The data
stays on the device as uint8. All weights are views of one flat tensor, as are their gradients: the optimiser is a
handful of operations on one vector.

On the CPU training uses one thread: several runs side by side, a core each, beat one run on several cores, and bits
do not depend on how many cores a machine has.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modescape.errors import Diverged, InvalidInput, StageError, StageInterrupted
from modescape.registry import RECIPE, AugmentationEntry
from modescape.science import weights
from modescape.science.arithmetic import Precision, arithmetic, choose_precision, generators_aside
from modescape.science.data import Splits
from modescape.science.networks import SeededNetwork, dropout_layers
from modescape.science.optimisers import Optimiser, Weights, flatten_in_place, live_in, restore
from modescape.science.seeds import RunSeeds
from modescape.science.steps import Examples, Moment
from modescape.spec_parts import OURS, TrainingSpec, steps_per_epoch

Arrays = dict[str, np.ndarray]

PROGRESS_SECONDS = 1.0
SAVE_SECONDS = 60.0
_CURVE_POINTS = 40  # training curves get at least this many points, and one an epoch


@dataclass(frozen=True)
class ProgressReport:
    """How far a run is. epoch counts parts too; loss (nats) and accuracy are of recent training batches."""

    step: int
    steps: int
    epoch: float
    epochs: int
    loss: float | None
    accuracy: float | None
    images_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class TrainState:
    """All a run needs to go on from the end of a step: arrays for a file, and a few numbers as JSON."""

    tensors: Arrays
    meta: dict[str, Any]


class TrainListener(Protocol):
    """Who hears of a training. Calls come in this order after a step: snapshot, point, checkpoint, save.

    What `save` was given covers everything told before it: after a resume nothing earlier is told again. `check` is
    called before every step and raises StageInterrupted to stop; it must be cheap.
    """

    def checkpoint(self, epoch: int, step: int, tensors: Arrays) -> None: ...

    def snapshot(self, index: int, step: int, tensors: Arrays) -> None: ...

    def point(self, step: int, values: dict[str, float]) -> None: ...

    def progress(self, report: ProgressReport) -> None: ...

    def save(self, state: TrainState) -> None: ...

    def check(self) -> None: ...


class Silent:
    """A listener that hears nothing; subclass it for what you want to know."""

    def checkpoint(self, epoch: int, step: int, tensors: Arrays) -> None: ...

    def snapshot(self, index: int, step: int, tensors: Arrays) -> None: ...

    def point(self, step: int, values: dict[str, float]) -> None: ...

    def progress(self, report: ProgressReport) -> None: ...

    def save(self, state: TrainState) -> None: ...

    def check(self) -> None: ...


def train(
    module: nn.Module,
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
    """Train `module` in place from its present weights, or from `resume`.

    first_step: the step the present weights are of, when the training branches off another one: schedule and batches
    go on from there, the optimiser begins anew. recipe: what happens at which step, when it is not what `training`
    says. Raises what `listener.check` raises, and Diverged when the loss is no longer a finite number.
    """
    told = listener or Silent()
    if training.by_epochs:
        if first_step or recipe is not None:
            raise InvalidInput(
                f"the trainer {training.trainer!r} begins at the beginning and follows no other recipe",
                field="training.trainer", allowed=OURS,
            )  # fmt: skip
        _train_by_epochs(module, splits, training, seeds, device=device, resume=resume, told=told)
        return
    recipe = recipe or Recipe.of(training, len(splits.train))
    plan = recipe.plan
    precision = choose_precision(training.precision, device, is_ours=isinstance(module, SeededNetwork))
    module.to(device)
    splits = splits.to(device)
    with arithmetic(device), generators_aside(device):
        run = Run(module, splits, training, seeds, recipe, device, first_step)
        told_of = Telling(run, told)
        told_of.begin(resume)
        with _feeding(run, plan.steps) as feed:
            while run.step < plan.steps:
                told_of.check()
                run.learn(feed(run.step), precision)
                told_of.after_step()
    module.eval()


class Telling:
    """What a listener hears of one run, whoever makes its steps."""

    def __init__(self, run: Run, told: TrainListener) -> None:
        self.run, self.told = run, told
        self._pace, self._saved = Pace(run.step), time.monotonic()

    def begin(self, resume: TrainState | None) -> None:
        """Go on from a saved state, or tell the initial weights."""
        run, told = self.run, self.told
        if resume is not None:
            run.restore(resume)
        elif run.first_step == 0:
            told.checkpoint(0, 0, weights.tensors(run.module))
            told.point(0, validation(run.module, run.splits, told.check))
        self._pace = Pace(run.step)

    def check(self) -> None:
        """Raises StageInterrupted when the run is to stop, once its state is saved: an orderly stop loses nothing."""
        try:
            self.told.check()
        except StageInterrupted:
            self.told.save(self.run.state())
            raise

    def after_step(self) -> None:
        """Tell what the step that was just made is told for. Raises Diverged, and what the listener raises."""
        run, told, plan, step = self.run, self.told, self.run.plan, self.run.step
        if step in plan.snapshot_steps:
            told.snapshot(plan.snapshot_steps[step], step, weights.tensors(run.module))
        epoch_done = step % plan.steps_per_epoch == 0
        if epoch_done or step % plan.point_every == 0:
            values = run.curve_values()
            told.point(step, values | (validation(run.module, run.splits, told.check) if epoch_done else {}))
        if step in plan.checkpoint_steps:
            told.checkpoint(step // plan.steps_per_epoch, step, weights.tensors(run.module))
        if self._pace.is_due() or step == plan.steps:
            told.progress(self._pace.report(run, plan))
        if epoch_done or time.monotonic() - self._saved > SAVE_SECONDS:
            told.save(run.state())
            self._saved = time.monotonic()


# --- what happens at which step ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """Which step does what. Steps count from 1: step s is the state after s updates."""

    steps: int
    steps_per_epoch: int
    epochs: int
    batch: int
    point_every: int
    checkpoint_steps: frozenset[int]
    snapshot_steps: dict[int, int]

    @staticmethod
    def of(training: TrainingSpec, images: int) -> Plan:
        per_epoch = steps_per_epoch(training, images)
        steps = training.epochs * per_epoch
        every = range(training.checkpoint_every, training.epochs + 1, training.checkpoint_every)
        kept = {0, *every, training.epochs}
        return Plan(
            steps=steps,
            steps_per_epoch=per_epoch,
            epochs=training.epochs,
            batch=training.batch_size,
            point_every=max(1, per_epoch // -(-_CURVE_POINTS // training.epochs)),
            checkpoint_steps=frozenset(epoch * per_epoch for epoch in kept),
            snapshot_steps=_snapshots(training, steps, per_epoch),
        )


def snapshot_steps(steps: int, count: int, window: float) -> dict[int, int]:
    """Step of each snapshot: `count` evenly over the last `window` of the steps, one at the end (science c.4)."""
    span = max(1, int(steps * window))
    if count > span:
        raise InvalidInput(
            f"{count} snapshots do not fit into {span} steps", field="training.snapshots", allowed=f"0 to {span}"
        )
    return {steps - span + round((i + 1) * span / count): i for i in range(count)}


def _snapshots(training: TrainingSpec, steps: int, per_epoch: int) -> dict[int, int]:
    """Step of each snapshot; of a trainer that hands over epochs at the ends of some of them."""
    if not training.by_epochs:
        return snapshot_steps(steps, training.snapshots, training.snapshot_window)
    ends = snapshot_steps(training.epochs, training.snapshots, training.snapshot_window)
    return {epoch * per_epoch: index for epoch, index in ends.items()}


def learning_rate(training: TrainingSpec, step: int, steps_per_epoch: int) -> float:
    """The rate of the update that makes step + 1 out of `step` (science c.2)."""
    return rates(training, steps_per_epoch)(step)


def rates(training: TrainingSpec, steps_per_epoch: int) -> Callable[[int], float]:
    """The rate by step, as the training's schedule has it."""
    schedule, options = RECIPE["schedule"][training.schedule], training.options("schedule")
    steps = training.epochs * steps_per_epoch
    return lambda step: float(schedule.call(Moment(step, steps, steps_per_epoch), options, training))


@dataclass(frozen=True)
class Recipe:
    """How a training goes from step to step.

    plan: which steps keep something; rate(step): of the update that makes step + 1 out of `step`; optimiser(weights):
    what does the updates.
    """

    plan: Plan
    rate: Callable[[int], float]
    optimiser: Callable[[Weights], Optimiser]

    @staticmethod
    def of(training: TrainingSpec, images: int) -> Recipe:
        """What the spec says."""
        plan = Plan.of(training, images)
        entry, options = RECIPE["optimiser"][training.optimiser], training.options("optimiser")
        return Recipe(
            plan=plan,
            rate=rates(training, plan.steps_per_epoch),
            optimiser=lambda weights: cast(Optimiser, entry.call(weights, options, training)),
        )


# --- one run ----------------------------------------------------------------------------------------------------------


class Run:
    """A network in training: its data, its optimiser, the number of steps done, and sums for the curves."""

    def __init__(
        self,
        module: nn.Module,
        splits: Splits,
        training: TrainingSpec,
        seeds: RunSeeds,
        recipe: Recipe,
        device: str,
        first_step: int,
    ) -> None:
        self.module, self.splits, self.training, self.seeds = module, splits, training, seeds
        self.recipe, self.plan, self.rate = recipe, recipe.plan, recipe.rate
        self.device = torch.device(device)
        self.dropouts = dropout_layers(module)
        self.theta, self.gradient = flatten_in_place(module)
        self.decayed = decay_mask(module, training).to(self.device) if training.weight_decay else None
        self.optimiser = recipe.optimiser(weights_of(module, self.theta, training))
        self.loss_of, self.loss_options = RECIPE["loss"][training.loss].call, training.options("loss")
        self.augmentation: AugmentationEntry = RECIPE["augmentation"][training.augmentation]
        self.augmenting = training.options("augmentation")
        self.step = self.first_step = first_step
        self.loss = math.nan  # of the curve's last window, for progress reports
        self.accuracy = math.nan
        self.sums = torch.zeros(
            3, dtype=torch.float64, device=self.device
        )  # loss, correct, images since the last point
        self._order: dict[int, Tensor] = {}

    def batch(self, step: int) -> Examples:
        """The examples of one step; they depend on nothing but the seeds and the step."""
        epoch, position = divmod(step, self.plan.steps_per_epoch)
        if epoch not in self._order:
            self._order = {epoch: torch.from_numpy(self.epoch_order(epoch)).to(self.device)}
        chosen = self._order[epoch][position * self.plan.batch : (position + 1) * self.plan.batch]
        train, classes = self.splits.train, len(self.splits.classes)
        if self.training.augmentation == "none":
            return Examples(train.batch(chosen), train.labels[chosen], classes)
        rng = self.moving(step)
        images = train.batch(chosen, augmentation=self.augmentation.reading(self.augmenting), rng=rng)
        if self.augmentation.draws == "torch":
            _seed_torch(self.seeds.augmentation, step)
        examples = self.augmentation.call(Examples(images, train.labels[chosen], classes), self.augmenting, rng)
        return cast(Examples, examples)

    def moving(self, step: int) -> np.random.Generator:
        """Random numbers of a step's augmentation."""
        return np.random.Generator(np.random.SFC64([self.seeds.augmentation, step]))

    def epoch_order(self, epoch: int) -> np.ndarray:
        """Which training images an epoch sees, in turn, int64."""
        rng = np.random.Generator(np.random.Philox(key=np.array([self.seeds.batches, epoch], np.uint64)))
        images = len(self.splits.train)
        if self.training.sampling == "replacement":
            return rng.integers(0, images, self.plan.steps_per_epoch * self.plan.batch)
        return rng.permutation(images)

    def learn(self, batch: Examples, precision: Precision) -> None:
        """One update."""
        self.module.train()
        noise = np.random.Generator(np.random.SFC64([self.seeds.noise, self.step]))
        for layer in self.dropouts:
            layer.rng = noise
        _seed_torch(self.seeds.noise, self.step)
        images = self.splits.transform(batch.images)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            logits = self.module(images).float()
        loss = self.loss_of(logits, batch.targets, self.loss_options)
        self.gradient.zero_()
        loss.backward()
        rate = self.rate(self.step)
        with torch.no_grad():
            if self.decayed is not None:
                self.gradient.addcmul_(self.theta, self.decayed, value=self.training.weight_decay)
            self.optimiser.update(self.theta, self.gradient, rate)
            self.count(loss, logits, batch.labels)

    def count(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """An update was made: sums for the curves, and the step."""
        correct = (logits.argmax(1) == labels).sum()
        n = len(labels)
        self.sums += torch.stack([loss.double() * n, correct, torch.full_like(correct, n)])
        self.step += 1

    def live_in(self, theta: Tensor, gradient: Tensor) -> None:
        """Let the network's weights and gradients, [P] each, lie there; theta holds them already."""
        self.theta, self.gradient = theta, gradient
        live_in(self.module, theta, gradient)

    def curve_values(self) -> dict[str, float]:
        """Training loss and accuracy since the last point (dropout on, weights in motion), and the rate just used."""
        loss, correct, images = (float(value) for value in self.sums.cpu())
        self.sums.zero_()
        self.loss, self.accuracy = loss / images, correct / images
        if not math.isfinite(self.loss):
            raise Diverged(
                f"the training loss is {self.loss} at step {self.step}: the learning rate "
                f"{self.training.learning_rate:g} is too high for {self.splits.transform.kind} pixels"
            )
        rate = self.rate(self.step - 1)
        return {"train/loss": self.loss, "train/accuracy": self.accuracy, "learning-rate": rate}

    def state(self) -> TrainState:
        arrays = {"theta": self.theta, "sums": self.sums} | {
            f"optimiser.{name}": moment for name, moment in self.optimiser.moments.items()
        }
        tensors = {name: np.array(tensor.detach().cpu().numpy()) for name, tensor in arrays.items()}
        tensors |= {f"buffer.{name}": value for name, value in weights.buffers(self.module).items()}
        return TrainState(tensors, {"step": self.step, "epoch": self.step // self.plan.steps_per_epoch})

    def restore(self, state: TrainState) -> None:
        with torch.no_grad():
            self.theta.copy_(torch.from_numpy(np.array(state.tensors["theta"])))
            self.sums.copy_(torch.from_numpy(np.array(state.tensors["sums"])))
        weights.assign_buffers(self.module, _under("buffer.", state.tensors))
        self.step = int(state.meta["step"])
        moments = {name: torch.from_numpy(np.array(v)) for name, v in _under("optimiser.", state.tensors).items()}
        restore(self.optimiser, moments, self.step - self.first_step)


def validation(module: nn.Module, splits: Splits, check: Callable[[], None]) -> dict[str, float]:
    """Cross entropy and accuracy on the validation images, dropout off; nothing without validation images."""
    split = splits.validation
    if len(split) == 0:
        return {}
    module.eval()
    loss, correct = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(split), 500):
            check()
            rows = torch.arange(start, min(start + 500, len(split)), device=split.labels.device)
            logits = module(splits.transform(split.batch(rows)))
            labels = split.labels[rows]
            loss += float(F.cross_entropy(logits, labels, reduction="sum"))
            correct += int((logits.argmax(1) == labels).sum())
    return {"validation/loss": loss / len(split), "validation/accuracy": correct / len(split)}


def _under(prefix: str, arrays: Arrays) -> Arrays:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def weights_of(module: nn.Module, theta: Tensor, training: TrainingSpec) -> Weights:
    """The weights of a network that is flat already, as an optimiser gets them."""
    parameters = tuple(module.parameters())
    chosen = _decayed(module, training)
    return Weights(theta, parameters, tuple(p in chosen for p in parameters))


def decay_mask(module: nn.Module, training: TrainingSpec) -> Tensor:
    """1 where weight decay acts, [P] (science c.2).

    kernels: of convolutions of any rank (linear ones in a network without any); weights: every tensor of two or more
    dimensions but embeddings; all: everything.
    """
    chosen = _decayed(module, training)
    return torch.cat([torch.full((p.numel(),), float(p in chosen)) for p in module.parameters()])


def _decayed(module: nn.Module, training: TrainingSpec) -> set[nn.Parameter]:
    return {"kernels": _kernels, "weights": _weights, "all": _everything}[training.decay_on](module)


def _everything(module: nn.Module) -> set[nn.Parameter]:
    return set(module.parameters())


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def _kernels(module: nn.Module) -> set[nn.Parameter]:
    kinds = _CONVOLUTIONS if any(isinstance(m, _CONVOLUTIONS) for m in module.modules()) else (nn.Linear,)
    layers = [m for m in module.modules() if isinstance(m, kinds)]
    return {p for layer in layers for p in layer.parameters() if p.dim() >= 2}


def _weights(module: nn.Module) -> set[nn.Parameter]:
    """Embeddings are layers of torch's kinds, and the loose tensors whose names say so (a ViT's `pos_embedding`)."""
    tables = [p for m in module.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag) for p in m.parameters()]
    loose = [p for name, p in module.named_parameters() if "embed" in name.rpartition(".")[2]]
    return {p for p in module.parameters() if p.dim() >= 2} - {*tables, *loose}


@contextmanager
def _feeding(run: Run, steps: int) -> Iterator[Callable[[int], Examples]]:
    """A function from step to batch; for images read from disk the next batch is read while this one is learned, unless
    that would draw from torch's generator beside the network."""
    if not run.splits.train.is_streamed or run.augmentation.draws == "torch":
        yield run.batch
        return
    with ThreadPoolExecutor(1) as reader:
        ahead: dict[int, Future[Examples]] = {}

        def feed(step: int) -> Examples:
            batch = ahead.pop(step).result() if step in ahead else run.batch(step)
            if step + 1 < steps:
                ahead[step + 1] = reader.submit(run.batch, step + 1)
            return batch

        yield feed


class Pace:
    """Speed and time left, from the steps of this process; the first reading waits a second."""

    def __init__(self, step: int) -> None:
        self.start_step, self.start = step, time.monotonic()
        self.last = self.start

    def is_due(self) -> bool:
        return time.monotonic() - self.last >= PROGRESS_SECONDS

    def report(self, run: Run, plan: Plan) -> ProgressReport:
        self.last = time.monotonic()
        seconds = max(self.last - self.start, 1e-9)
        done = run.step - self.start_step
        loss, correct, images = (float(value) for value in run.sums.cpu())
        recent = images > 0
        return ProgressReport(
            step=run.step,
            steps=plan.steps,
            epoch=run.step / plan.steps_per_epoch,
            epochs=plan.epochs,
            loss=_finite(loss / images if recent else run.loss),
            accuracy=_finite(correct / images if recent else run.accuracy),
            images_per_second=done * plan.batch / seconds,
            seconds_left=(plan.steps - run.step) * seconds / max(done, 1),
        )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


# --- trained by somebody else -----------------------------------------------------------------------------------------


class Member:
    """One member of an ensemble, as a trainer gets it: a network to train by any means, an epoch at a time.

        for epoch in member.remaining:
            ...                                        # train member.network on member.splits.train
            member.hand_over(loss=0.3, state={"momentum": velocity})

    network: on `device`, with its initial weights, or those handed over last when a killed run goes on; splits: on the
    device; training: what the spec says; seeds: this member's; epoch: how many were handed over; state: the arrays
    handed over with the last one. What else is remembered from epoch to epoch a resumed run does not have, and it would
    end in other weights. Every epoch begins with the network in training mode and with random numbers of member and
    epoch: `rng`, the network's dropout, torch's global generators.
    """

    def __init__(
        self, network: nn.Module, splits: Splits, training: TrainingSpec, seeds: RunSeeds, device: str,
        told: TrainListener,
    ) -> None:  # fmt: skip
        self.network, self.splits, self.training, self.seeds, self.device = network, splits, training, seeds, device
        self.epoch = 0
        self.state: Mapping[str, np.ndarray] = {}
        self._plan, self._told = Plan.of(training, len(splits.train)), told
        self._started = time.monotonic()
        self._first = 0
        self._rng = self._seeded()

    @property
    def remaining(self) -> Iterator[int]:
        """The epochs still to be trained, counted from 0; each is to be handed over before the next is asked for."""
        for epoch in range(self.epoch, self.training.epochs):
            yield epoch
            if self.epoch != epoch + 1:
                raise StageError(f"the trainer {self.training.trainer!r} did not hand over epoch {epoch + 1}")

    @property
    def rng(self) -> np.random.Generator:
        """Random numbers of this member and epoch."""
        return self._rng

    def check(self) -> None:
        """To be called now and then inside an epoch: raises StageInterrupted when the training is to stop."""
        self._told.check()

    def hand_over(
        self,
        tensors: Mapping[str, np.ndarray] | None = None,
        *,
        loss: float | None = None,
        accuracy: float | None = None,
        state: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """One epoch more is done.

        tensors: its weights and buffers by the network's own names, where they are not in the network already; loss and
        accuracy: of its training, for the curves; state: what the next epoch needs beside the weights. Raises Diverged
        for a loss or weights that are no finite numbers, InvalidInput for tensors of another network, StageError for an
        epoch too many, StageInterrupted when the training is to stop.
        """
        if self.epoch >= self.training.epochs:
            raise StageError(f"the trainer {self.training.trainer!r} handed over more than {self.epoch} epochs")
        if tensors is not None:
            weights.load_tensors(self.network, tensors)
        self.epoch += 1
        self._refuse_what_is_not_finite(loss)
        self.state = {name: np.array(value) for name, value in (state or {}).items()}
        self._tell(loss, accuracy)
        self._rng = self._seeded()
        self.check()

    def _refuse_what_is_not_finite(self, loss: float | None) -> None:
        by = f"the trainer {self.training.trainer!r} handed over after epoch {self.epoch}"
        if loss is not None and not math.isfinite(loss):
            raise Diverged(f"the training loss that {by} is {loss}")
        if not np.isfinite(weights.flatten(self.network)).all():
            raise Diverged(f"the weights that {by} are not all finite numbers")

    def _tell(self, loss: float | None, accuracy: float | None) -> None:
        step, plan, told = self.epoch * self._plan.steps_per_epoch, self._plan, self._told
        tensors = weights.tensors(self.network)
        if step in plan.snapshot_steps:
            told.snapshot(plan.snapshot_steps[step], step, tensors)
        curves = {"train/loss": loss, "train/accuracy": accuracy}
        values = {name: float(value) for name, value in curves.items() if value is not None}
        told.point(step, values | validation(self.network, self.splits, self.check))
        if step in plan.checkpoint_steps:
            told.checkpoint(self.epoch, step, tensors)
        told.progress(self._report(step, loss, accuracy))
        own = {f"state.{name}": value for name, value in self.state.items()}
        tensors = {f"network.{name}": value for name, value in tensors.items()}
        told.save(TrainState(tensors | own, {"step": step, "epoch": self.epoch}))

    def _report(self, step: int, loss: float | None, accuracy: float | None) -> ProgressReport:
        seconds, done = max(time.monotonic() - self._started, 1e-9), self.epoch - self._first
        images = done * self._plan.steps_per_epoch * self._plan.batch
        left = (self.training.epochs - self.epoch) * seconds / max(done, 1)
        return ProgressReport(
            step, self._plan.steps, self.epoch, self.training.epochs, loss, accuracy, images / seconds, left
        )

    def begin(self, resume: TrainState | None) -> None:
        """Tell the initial weights, or go on from what was handed over last."""
        if resume is None:
            self._told.checkpoint(0, 0, weights.tensors(self.network))
            self._told.point(0, validation(self.network, self.splits, self.check))
            return
        weights.load_tensors(self.network, _under("network.", resume.tensors))
        self.state = _under("state.", resume.tensors)
        self.epoch = self._first = int(resume.meta["epoch"])
        self._rng = self._seeded()

    def _seeded(self) -> np.random.Generator:
        """Random numbers of the epoch that begins: of its order, of the network's dropout, of torch's generators."""
        noise = np.random.Generator(np.random.SFC64([self.seeds.noise, self.epoch]))
        for layer in dropout_layers(self.network):
            layer.rng = noise
        self.network.train()
        _seed_torch(self.seeds.noise, self.epoch)
        return np.random.Generator(np.random.SFC64([self.seeds.batches, self.epoch]))


def _train_by_epochs(
    module: nn.Module, splits: Splits, training: TrainingSpec, seeds: RunSeeds, *, device: str,
    resume: TrainState | None, told: TrainListener,
) -> None:  # fmt: skip
    """As `train`, by a trainer of the registry. Raises StageError where it does not hand over every epoch."""
    module.to(device)
    with arithmetic(device), generators_aside(device):
        member = Member(module, splits.to(device), training, seeds, device, told)
        member.begin(resume)
        member.check()
        RECIPE["trainer"][training.trainer].call(member, training.options("trainer"))
    if member.epoch != training.epochs:
        raise StageError(f"the trainer {training.trainer!r} handed over {member.epoch} of {training.epochs} epochs")
    module.eval()


# --- randomness of torch's own layers ---------------------------------------------------------------------------------


def seed_of_step(noise: int, step: int) -> int:
    """64 bits for a generator of torch's that draws in this step."""
    return int(np.random.Philox(key=np.array([noise, step], np.uint64)).random_raw())


def torch_dropout(module: nn.Module) -> str | None:
    """A layer that draws from torch's generator, by its kind; None without one."""
    kinds = (type(one).__name__ for one in module.modules() if isinstance(one, nn.modules.dropout._DropoutNd))
    return next(kinds, None)


def _seed_torch(noise: int, step: int) -> None:
    """What a layer of torch draws in this step (`nn.Dropout`, stochastic depth) depends on the seed and the step alone.

    Networks of ours draw nothing from torch. Costs 10 to 30 microseconds, where a step takes
    thousands.
    """
    drawn = seed_of_step(noise, step)
    torch.default_generator.manual_seed(drawn)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed(drawn)
