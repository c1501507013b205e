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
        self._told: dict[str, Any] = {}

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self._tell(trainer)  # what the module's own hooks logged, which come after a callback's

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._tell(trainer)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            self._tell(trainer)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._tell(trainer)
        if trainer.is_global_zero:
            self._loop.epoch(trainer.current_epoch + 1, pl_module)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._tell(trainer)
        if trainer.is_global_zero:
            self._loop.end(pl_module, pl_module)

    def _tell(self, trainer: Any) -> None:
        """What was measured since the last time: the trainer goes on giving old values beside new ones."""
        if trainer.is_global_zero:
            metrics = trainer.logged_metrics
            new = {name: value for name, value in metrics.items() if not _is_same(value, self._told.get(name))}
            self._told.update(new)  # which keeps them, so that no other value comes to lie where they do
            self._loop.log(trainer.global_step, new)


def _is_same(value: Any, told: Any) -> bool:
    """Whether they lie at one place in memory: what is measured anew lies at another."""
    if not (hasattr(value, "data_ptr") and hasattr(told, "data_ptr")):
        return value is told
    return bool(value.data_ptr() == told.data_ptr())
