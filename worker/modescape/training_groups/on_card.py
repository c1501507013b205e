"""Training steps that a GPU repeats by itself: all that a step needs lies on the card, and is captured once.

A step of a small network is many launches of microseconds each; captured in a CUDA graph they are one, and of several
members, each a branch on a stream of its own, they fill the card. What differs from step to step is read from tensors:
which images (the order of an epoch), how they are moved, the rate, how often was updated. Dropout masks are drawn by a
generator for each member, seeded by member and step before each repetition. So a member's steps are the same alone, in
a group of any size and after a resumption.

On a processor the same step is made operation by operation: that is how it is tested, and no way to train there. It
sees the images that a run alone sees, in its order and moved alike; masks and roundings are its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from modescape.science.arithmetic import Precision
from modescape.science.data.augmentation import drawn_moves, moved
from modescape.science.data.raw import Augmentation
from modescape.science.networks import dropout_layers
from modescape.science.optimisers import Adam, Descent
from modescape.training import Run, seed_of_step, torch_dropout
from modescape.training_groups.rows import Function, Rows, dropped_in

log = logging.getLogger(__name__)

WARM = 3  # steps before the capture, in which libraries choose their kernels
MOVES = ("none", "shift-flip", "crop-flip")  # augmentations whose random numbers are few enough to lie on the card


def cannot_be_captured(run: Run) -> str | None:
    """Why its steps are launched one by one; None where they can be captured."""
    if run.splits.train.is_streamed:
        return "its images are read from disk"
    if run.training.augmentation not in MOVES:
        return f"the augmentation {run.training.augmentation!r} is drawn step by step"
    if not isinstance(run.optimiser, Adam | Descent):
        return f"the optimiser {run.training.optimiser!r} is torch's"
    drawing = torch_dropout(run.module)
    return f"{drawing} draws from torch's generator" if drawing else None


class OnCard:
    """Runs at one step, trained by captured steps. stacked: as one function of all weights; else as branches."""

    def __init__(self, runs: Sequence[Run], precision: Precision, *, stacked: bool) -> None:
        first = runs[0]
        self._device, self._precision = first.device, precision
        self._dropped = dropped_in(first)
        self._rows = Rows(runs)
        self._function = Function(self._rows, precision) if stacked else None
        self._generators = [torch.Generator(self._device) for _ in runs]
        self._streams: list[Any] = []
        plan, images = first.plan, len(first.epoch_order(0))
        self._orders = self._zeros(len(runs), images, dtype=torch.int64)
        self._rates = self._zeros(plan.steps_per_epoch, dtype=torch.float64)
        kind = first.training.augmentation
        self._moves = self._zeros(3, len(runs), images, dtype=torch.float64) if kind != "none" else None
        self._start, self._place = self._zeros(1, dtype=torch.int64), self._zeros(1, dtype=torch.int64)
        self._updates = self._zeros(1, dtype=torch.float64)
        self._epoch = -1
        self._steps: dict[int, Callable[[], object]] = {}

    def _zeros(self, *shape: int, dtype: torch.dtype) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=self._device)

    @property
    def runs(self) -> list[Run]:
        return self._rows.runs

    def learn(self) -> None:
        """One update of every run."""
        first = self.runs[0]
        epoch, place = divmod(first.step, first.plan.steps_per_epoch)
        if epoch != self._epoch:
            self._begin(epoch)
        start = place * first.plan.batch
        images = min(first.plan.batch, self._orders.shape[1] - start)
        self._start.fill_(start)
        self._place.fill_(place)
        self._updates.fill_(self._rows.optimiser.updates + 1)
        if images not in self._steps:  # the last step of an epoch may be shorter
            self._steps[images] = self._captured(images)
        for run, generator in zip(self.runs, self._generators, strict=True):
            generator.manual_seed(seed_of_step(run.seeds.noise, run.step))
        self._steps[images]()
        self._rows.optimiser.updates += 1
        for run in self.runs:
            run.step += 1
            run.optimiser.updates = self._rows.optimiser.updates

    def _begin(self, epoch: int) -> None:
        """Lay what the steps of an epoch need onto the card."""
        first, self._epoch = self.runs[0], epoch
        plan = first.plan
        steps = range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch)
        self._orders.copy_(torch.from_numpy(np.stack([run.epoch_order(epoch) for run in self.runs])))
        self._rates.copy_(torch.tensor([first.rate(step) for step in steps], dtype=torch.float64))
        if self._moves is not None:
            kind, (height, width) = cast(Augmentation, first.training.augmentation), first.splits.shape[1:3]
            total, batch = self._orders.shape[1], plan.batch
            of_all = [
                np.concatenate([
                    drawn_moves(min(batch, total - place * batch), kind, height, width, run.moving(step))
                    for place, step in enumerate(steps)
                ], 1)
                for run in self.runs
            ]  # fmt: skip
            self._moves.copy_(torch.from_numpy(np.stack(of_all, 1)))

    # -- one step ------------------------------------------------------------------------------------------------------

    def _step(self, images: int) -> None:
        """All of it, in operations that read from the card alone."""
        rows, first = self._rows, self.runs[0]
        index = self._start + torch.arange(images, device=self._device)
        chosen = self._orders.index_select(1, index).flatten()
        pixels = self._pixels(chosen, index)
        labels = first.splits.train.labels.index_select(0, chosen).view(len(self.runs), images)
        rows.gradient.zero_()
        if self._function is not None:
            masks = [torch.stack(own) for own in zip(*map(self._masks_of(images), self._generators), strict=True)]
            losses, logits = self._function.differentiate(pixels, labels, masks)
        else:
            losses, logits = self._branches(pixels, labels, images)
        with torch.no_grad():
            rows.decay()
            rows.optimiser.update_on(rows.theta, rows.gradient, self._rates.index_select(0, self._place), self._updates)
            correct = (logits.argmax(-1) == labels).sum(1).double()
            rows.sums += torch.stack([losses.double() * images, correct, torch.full_like(correct, images)], 1)

    def _pixels(self, chosen: Tensor, index: Tensor) -> Tensor:
        """float32 [M, n, C, H, W] as networks see them, each image in channels-last memory."""
        first, members = self.runs[0], len(self.runs)
        train = first.splits.train
        assert isinstance(train.images, Tensor)  # as `cannot_be_captured` has it
        picked = train.images.permute(0, 2, 3, 1).index_select(0, chosen).permute(0, 3, 1, 2)
        if self._moves is not None:
            picked = moved(picked, self._moves.index_select(2, index).flatten(1))
        seen = first.splits.transform(picked)
        return seen.view(members, -1, *seen.shape[1:])

    def _branches(self, pixels: Tensor, labels: Tensor, images: int) -> tuple[Tensor, Tensor]:
        """Each member forward and back, at once where the card has room."""
        main = torch.cuda.current_stream() if self._device.type == "cuda" else None
        found = []
        for i, run in enumerate(self.runs):
            stream = self._stream(i)
            if stream is not None:
                stream.wait_stream(main)
            with torch.cuda.stream(stream) if stream is not None else nullcontext():
                run.module.train()
                masks = self._masks_of(images)(self._generators[i])
                for layer, mask in zip(dropout_layers(run.module), masks, strict=True):
                    layer.mask = mask if mask.numel() else None
                with torch.autocast(
                    self._device.type, torch.bfloat16, enabled=self._precision == "bfloat16", cache_enabled=False
                ):
                    logits = run.module(pixels[i]).float()
                loss = run.loss_of(logits, labels[i], run.loss_options)
                loss.backward()
                for layer in dropout_layers(run.module):
                    layer.mask = None
                found.append((loss.detach(), logits.detach()))
        for i in range(len(self.runs)):
            if (stream := self._stream(i)) is not None and main is not None:
                main.wait_stream(stream)
        return torch.stack([loss for loss, _ in found]), torch.stack([logits for _, logits in found])

    def _stream(self, i: int) -> Any:
        """Of each member its own, where there are several."""
        if self._device.type != "cuda" or len(self.runs) == 1:
            return None
        while len(self._streams) <= i:
            self._streams.append(torch.cuda.Stream())  # type: ignore[no-untyped-call]
        return self._streams[i]

    def _masks_of(self, images: int) -> Callable[[torch.Generator], list[Tensor]]:
        """Draws, of every dropout layer in turn, what one member keeps: uint8 [n, ...], empty where nothing drops."""

        def draw(generator: torch.Generator) -> list[Tensor]:
            found = []
            for layer in self._dropped:
                shape = (images, *layer.shape) if layer.threshold else (0,)
                if layer.last and layer.threshold:
                    n, channels, height, width = shape
                    shape = (n, height, width, channels)
                mask = torch.empty(shape, dtype=torch.uint8, device=self._device)
                if layer.threshold:
                    mask.bernoulli_(1 - layer.threshold / 65536, generator=generator)
                found.append(mask.permute(0, 3, 1, 2) if layer.last and layer.threshold else mask)
            return found

        return draw

    # -- its capture ---------------------------------------------------------------------------------------------------

    def _captured(self, images: int) -> Callable[[], object]:
        """What makes one step: a graph's repetition on a GPU, else the operations."""

        def launched() -> None:
            self._step(images)

        if self._device.type != "cuda":
            return launched
        changed = self._changed()
        kept = [one.clone() for one in changed]
        try:
            return self._graph(launched)
        except RuntimeError as error:  # something in it cannot be captured: a plug-in's loss, a layer of torch's
            log.warning("steps are launched one by one, for they could not be captured: %s", error)
            return launched
        finally:
            torch.cuda.synchronize()
            with torch.no_grad():
                for one, before in zip(changed, kept, strict=True):
                    one.copy_(before)

    def _graph(self, launched: Callable[[], None]) -> Callable[[], object]:
        main, aside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(main)
        with torch.cuda.stream(aside):
            for _ in range(WARM):
                launched()
        main.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        for generator in self._generators:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph):
            launched()
        return graph.replay

    def _changed(self) -> list[Tensor]:
        """What a step changes."""
        rows = self._rows
        buffers = [buffer for run in self.runs for buffer in run.module.buffers()]
        return [rows.theta, rows.gradient, rows.sums, *rows.optimiser.moments.values(), *buffers]
