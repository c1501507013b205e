"""What the callbacks for other libraries' loops have in common (`lightning`, `transformers`, `keras`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from modescape.logger.ensemble import MemberLog


class Loop:
    """One training. predict: the model -> outputs [N, K]; every: epochs between two that are asked, 0 for the last
    alone."""

    def __init__(self, member: MemberLog, predict: Callable[[Any], Any], every: int) -> None:
        self._member, self._predict, self._every = member, predict, every
        self._last = 0

    def log(self, step: int, values: Mapping[str, Any], *, prefix: str = "") -> None:
        """The numbers among what a library logs."""
        found = {f"{prefix}{name}": number for name, value in values.items() if (number := _number(value)) is not None}
        self._member.log(step, found)

    def epoch(self, epoch: int, model: Any) -> None:
        self._last = max(epoch, self._last + 1)  # a second call of a library's loop counts from the start again
        if self._every and self._last % self._every == 0:
            self._member.predictions(self._last, test=self._asked(model))

    def end(self, model: Any, weights: Any) -> None:
        """Asked again also where the last epoch was: a library may have put the best epoch's weights back since, or an
        average of several, and what the member says is of the weights that it leaves."""
        self._member.predictions(self._last if self._every else None, test=self._asked(model))
        self._member.weights(weights)

    def _asked(self, model: Any) -> Any:
        was = getattr(model, "training", None)
        if was and hasattr(model, "eval"):
            model.eval()
        try:
            return self._predict(model)
        finally:
            if was and hasattr(model, "train"):
                model.train()


def _number(value: Any) -> float | None:
    """None of a text, a list, or whatever else a library logs."""
    try:
        return None if isinstance(value, str) else float(value)
    except (TypeError, ValueError, RuntimeError):
        return None
