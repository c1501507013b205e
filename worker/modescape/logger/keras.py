"""For Keras: `model.fit(..., callbacks=[KerasMember(m, lambda model: model.predict(test_images))])`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import keras

from modescape.logger.ensemble import MemberLog
from modescape.logger.loops import Loop


class KerasMember(keras.callbacks.Callback):  # type: ignore[misc]  # which is Any where Keras is not installed
    """Everything that Keras logs, by batch; at the end what the model says of the test examples, and its weights.

    predict: the model -> outputs [N, K]. every: epochs after which it is asked as well, for the trajectory; 0 asks at
    the end alone.
    """

    def __init__(self, member: MemberLog, predict: Callable[[Any], Any], *, every: int = 0) -> None:
        super().__init__()
        self._loop, self._step = Loop(member, predict, every), 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._step += 1
        self._loop.log(self._step, logs or {})

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._loop.log(self._step, logs or {}, prefix="epoch/")
        self._loop.epoch(epoch + 1, self.model)

    def on_train_end(self, logs: Any = None) -> None:
        values = [keras.ops.convert_to_numpy(one.value) for one in self.model.weights]
        self._loop.end(self.model, dict(zip(fresh([one.path for one in self.model.weights]), values, strict=True)))


def fresh(paths: Sequence[str]) -> list[str]:
    """Paths of variables as a fresh process names them: Keras numbers layers through all models of a process, so that
    the same parameter of two members has two names (dense_2, dense_4). Numbers begin anew in each model."""
    numbers: dict[str, dict[str, int]] = {}

    def named(part: str) -> str:
        base = re.sub(r"_\d+$", "", part)
        before = numbers.setdefault(base, {})
        number = before.setdefault(part, len(before))
        return f"{base}_{number}" if number else base

    return ["/".join(map(named, path.split("/"))) for path in paths]
