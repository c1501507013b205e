"""For Lightning: `Trainer(callbacks=[LightningMember(m, lambda module: module(test_images))])`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback

from modescape.logger.ensemble import MemberLog
from modescape.logger.loops import Loop


class LightningMember(Callback):  # type: ignore[misc]  # which is Any where Lightning is not installed
    """Everything that the module logs, by step; at the end what it says of the test examples, and its weights.

    predict: the module, in evaluation mode -> outputs [N, K]. every: epochs after which it is asked as well, for the
    trajectory; 0 asks at the end alone.
    """

    def __init__(self, member: MemberLog, predict: Callable[[Any], Any], *, every: int = 0) -> None:
        self._loop = Loop(member, predict, every)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.is_global_zero:
            self._loop.log(trainer.global_step, trainer.logged_metrics)

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.is_global_zero and not trainer.sanity_checking:
            self._loop.log(trainer.global_step, trainer.logged_metrics)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.is_global_zero:
            self._loop.log(trainer.global_step, trainer.logged_metrics)
            self._loop.epoch(trainer.current_epoch + 1, pl_module)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.is_global_zero:
            self._loop.end(pl_module, pl_module)
