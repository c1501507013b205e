"""How fast is this worker? A few seconds of the real training, the real prediction and ordinary array work.

    calibrate("cpu").train[False].an_image(multiply_adds=1.2e6, together=128)     # seconds

A pass through a network costs a step, whatever it computes (its operations must be started), and its multiply-adds; two
shapes of one network tell both. Networks with batch norm are measured apart: theirs is mostly memory traffic.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median

import numpy as np
import torch

from modescape.architectures.building import build
from modescape.errors import StageInterrupted
from modescape.prices import PREDICTED_TOGETHER, Calibration, Line
from modescape.registry import architectures
from modescape.science.data import InputTransform, Shape, Split, Splits, make_transform
from modescape.science.predictions import entropy, predict, softmax
from modescape.science.seeds import run_seeds
from modescape.spec_parts import NetworkSpec, TrainingSpec
from modescape.training import Silent
from modescape.training_groups import train_alone

SECONDS = 0.25  # of each measurement, after what warms it up
NETWORKS = {False: "small-cnn", True: "resnet20v1"}
SIDES = (8, 32)
CLASSES, BATCH, STEPS = 10, 64, 40
# Probabilities a second that the planners' core scored, when their constants for comparisons were measured.
REFERENCE_VALUES = 7e7


class _Clock(Silent):
    """Stops a training after a while; `steps` are the seconds of its steps but the first two."""

    def __init__(self, device: str) -> None:
        self._at: list[float] = []
        self._on_gpu = torch.device(device).type == "cuda"

    def check(self) -> None:
        if self._on_gpu:  # which goes on while we only tell it what to do
            torch.cuda.synchronize()
        self._at.append(time.perf_counter())
        if len(self._at) > 4 and self._at[-1] - self._at[2] > SECONDS:
            raise StageInterrupted("measured for long enough")

    @property
    def steps(self) -> list[float]:
        return [after - before for before, after in zip(self._at[2:], self._at[3:], strict=False)]


def calibrate(device: str) -> Calibration:
    """Measure this process; takes two or three seconds on a core of its own."""
    train_lines, predict_lines = {}, {}
    for norm, name in NETWORKS.items():
        spec = NetworkSpec(architecture=name)
        trained, predicted, sizes = [], [], []
        for side in SIDES:
            splits = _noise(side)
            sizes.append(_multiply_adds(name, splits.shape))
            trained.append(_seconds_of_a_step(spec, splits, device))
            predicted.append(_seconds_of_a_prediction(spec, splits, device))
        train_lines[norm] = _line(trained, sizes, BATCH)
        predict_lines[norm] = _line(predicted, sizes, PREDICTED_TOGETHER)
    return Calibration(train_lines, predict_lines, _array_seconds())


def _noise(side: int) -> Splits:
    """Random images 3 x side x side of random classes."""
    random, count = torch.Generator().manual_seed(0), max(BATCH * STEPS, PREDICTED_TOGETHER)
    images = torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=random).permute(0, 3, 1, 2)
    labels = torch.randint(0, CLASSES, (count,), generator=random)
    every = Split(images, labels)
    transform: InputTransform = make_transform("raw255", every)
    names = tuple(str(name) for name in range(CLASSES))
    return Splits(every.take(BATCH * STEPS), every.take(0), every, names, transform, Shape(3, side, side, CLASSES))


def _multiply_adds(name: str, shape: Shape) -> float:
    entry = architectures[name]
    return float(entry.multiply_adds(*shape, entry.options()))


def _seconds_of_a_step(spec: NetworkSpec, splits: Splits, device: str) -> float:
    clock, training = _Clock(device), TrainingSpec(epochs=1, batch_size=BATCH)
    try:
        network = build(spec, splits.shape, seed=0)
        train_alone(network, splits, training, run_seeds(0, 0, "both"), device=device, listener=clock)
    except StageInterrupted:
        pass
    return median(clock.steps)


def _seconds_of_a_prediction(spec: NetworkSpec, splits: Splits, device: str) -> float:
    network, images = build(spec, splits.shape, seed=0), splits.test.to(device)
    together = PREDICTED_TOGETHER
    return _repeated(partial(predict, network, images, splits.transform, device=device, limit=together, batch=together))


def _array_seconds() -> float:
    """How many times as long as on the reference core array work takes."""
    logits = np.random.default_rng(0).normal(size=(2000, CLASSES))
    return _repeated(lambda: entropy(softmax(logits))) * REFERENCE_VALUES / logits.size


def _repeated(once: Callable[[], object]) -> float:
    """Median seconds of it, after one that warms it up."""
    once()
    found: list[float] = []
    started = time.perf_counter()
    while not found or time.perf_counter() - started < SECONDS:
        before = time.perf_counter()
        once()
        found.append(time.perf_counter() - before)
    return median(found)


def _line(seconds: list[float], multiply_adds: list[float], images: int) -> Line:
    """Through two points; a step never costs less than nothing."""
    (first, second), (small, large) = seconds, multiply_adds
    slope = max(second - first, 0.0) / (images * (large - small)) or second / (images * large)
    return Line(max(0.0, first - images * slope * small), slope)


__all__ = ["calibrate"]
