"""For Hugging Face's Trainer: `Trainer(..., callbacks=[TrainerMember(m, lambda model: model(**test).logits)])`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback

from modescape.logger.ensemble import MemberLog
from modescape.logger.loops import Loop


class TrainerMember(TrainerCallback):  # type: ignore[misc]  # which is Any where transformers is not installed
    """Everything that the trainer logs, by step; at the end what the model says of the test examples, and its weights.

    predict: the model, in evaluation mode -> outputs [N, K]. every: epochs after which it is asked as well, for the
    trajectory; 0 asks at the end alone.
    """

    def __init__(self, member: MemberLog, predict: Callable[[Any], Any], *, every: int = 0) -> None:
        self._loop = Loop(member, predict, every)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self._loop.log(state.global_step, logs or {})

    def on_epoch_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self._loop.epoch(round(state.epoch), model)

    def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self._loop.end(model, model)
