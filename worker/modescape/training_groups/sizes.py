"""How many members a group may have, and which way is the faster one: found by a few steps that nobody hears of."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from modescape.science.arithmetic import Precision, arithmetic, choose_precision, generators_aside
from modescape.science.data import Splits
from modescape.science.networks import SeededNetwork
from modescape.science.seeds import run_seeds
from modescape.spec_parts import TrainingSpec
from modescape.training import Recipe, Run
from modescape.training_groups.group import Way, stepping

SECONDS = 1.0  # of each measurement
WARM = 3  # rounds of steps before it


@dataclass(frozen=True)
class Memory:
    """Bytes. own: what each member keeps as long as it is trained; step: what one member's step takes besides."""

    own: int
    step: int


def memory_of(network: nn.Module, splits: Splits, training: TrainingSpec, device: str) -> Memory:
    """What training such networks takes, found by one step of a copy: on a GPU the most that was allocated, elsewhere
    twice what the step keeps for its way back (the other half being gradients on that way)."""
    with arithmetic(device), generators_aside(device):
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
    with arithmetic(device), generators_aside(device):
        return {way: _speed(way, network, splits, training, device, members) for way in ("branches", "stacked")}


def _speed(way: Way, network: nn.Module, splits: Splits, training: TrainingSpec, device: str, members: int) -> float:
    """Of whole rounds of steps in about SECONDS, after WARM of them."""
    trials = [_trial(network, splits, training, device) for _ in range(members)]
    runs, precision = [run for run, _ in trials], trials[0][1]
    on_card = torch.device(device).type == "cuda"
    stepper = stepping(way, precision, on_card=on_card)(runs)

    def round_of_steps() -> None:
        stepper.learn()
        if on_card:
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
