"""Stages of one experiment that train their members together: each in a thread of its own, of which one runs at a time.

    Together("branches").run([stage_of_member_0, stage_of_member_1, ...])

A stage runs on until it calls `train`, as if it were alone; when all have come that far (or are over: taken over from
elsewhere, failed, stopped), the thread that called `run` trains those who wait, at once. A member whose training ends,
for whatever reason, goes on with its stage to its end while the others wait; then they are trained on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modescape.errors import StageInterrupted

if TYPE_CHECKING:
    import torch

    from modescape.science.data import Splits
    from modescape.science.seeds import RunSeeds
    from modescape.spec_parts import TrainingSpec
    from modescape.training import TrainListener, TrainState
    from modescape.training_groups import Trainee, Way


@dataclass(eq=False)
class _Waiting:
    """A stage whose member is to be trained. error: how that ended, once it is over; None: at its last step."""

    trainee: Trainee
    splits: Splits
    training: TrainingSpec
    device: str
    over: bool = False
    error: BaseException | None = None


class Together:
    """One use each. way: how `training_groups.train_group` trains those that meet."""

    def __init__(self, way: Way) -> None:
        self.way = way
        self._turn = threading.Condition()  # who holds it runs
        self._running = 0  # stages that neither wait nor are over
        self._waiting: list[_Waiting] = []
        self._off = False

    def run(self, stages: Sequence[Callable[[], object]]) -> None:
        """Run stages to their ends. Raises what the training as a whole raises (an interrupt, or a fault of ours), once
        all stages are over; what one stage raises is its own."""
        threads = [threading.Thread(target=self._stage, args=(stage,), name="member") for stage in stages]
        with self._turn:
            try:
                for thread in threads:  # none runs before this one waits
                    thread.start()
                    self._running += 1
                self._all_wait()
                while self._waiting:
                    self._train()
            except BaseException as error:
                self._end(error)
                raise
        for thread in threads:
            thread.join()

    def train(
        self,
        network: torch.nn.Module,
        splits: Splits,
        training: TrainingSpec,
        seeds: RunSeeds,
        *,
        device: str,
        resume: TrainState | None,
        listener: TrainListener,
    ) -> None:
        """As `training.train`, with the others; called by a stage."""
        from modescape.training_groups import Trainee

        one = _Waiting(Trainee(network, seeds, listener, resume), splits, training, device)
        if self._off:
            raise StageInterrupted("the group it belongs to was ended")
        self._waiting.append(one)
        self._running -= 1
        self._turn.notify_all()
        self._turn.wait_for(lambda: one.over)
        if one.error is not None:
            raise one.error

    def _stage(self, stage: Callable[[], object]) -> None:
        with self._turn:
            try:
                stage()
            finally:
                self._running -= 1
                self._turn.notify_all()

    def _train(self) -> None:
        from modescape.training_groups import train_group

        now, first = list(self._waiting), self._waiting[0]

        def left(place: int, error: Exception | None) -> None:
            self._let_go(now[place], error)

        members = [one.trainee for one in now]
        try:
            train_group(members, first.splits, first.training, way=self.way, device=first.device, left=left)
        except Exception as error:  # such a group cannot be trained that way: each is told
            for one in now:
                self._let_go(one, error)

    def _let_go(self, one: _Waiting, error: BaseException | None) -> None:
        """Let a stage go on, and wait until it is over."""
        if one.over:
            return
        one.over, one.error = True, error
        self._waiting.remove(one)
        self._running += 1
        self._turn.notify_all()
        self._all_wait()

    def _end(self, error: BaseException) -> None:
        """Nobody goes on; returns when all stages are over."""
        self._off = True
        for one in list(self._waiting):
            stopped = StageInterrupted("the group it belongs to was ended")
            stopped.__cause__ = error
            self._let_go(one, stopped)
        self._all_wait()

    def _all_wait(self) -> None:
        self._turn.wait_for(lambda: self._running == 0)
