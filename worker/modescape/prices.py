"""What a plan costs: work becomes seconds by what finished stages of the same kind took, on the same data and network.

    prices = Prices(of=shape, batch=128, multiply_adds=1_200_000, batch_norm=False, finished=(...), calibration={...})
    prices.of("train", Work(trained=50_000))        # Cost(seconds=13.8, low=11.0, high=17.2)

Planners say how much there is to do (`Work`) and know no speed. Three things are asked in turn: stages of that kind on
that shape (`Finished`); the trainings and predictions of that shape, or that kind on other shapes; what a worker
measured when it started (`Calibration`). Imports no torch, and asks nobody: the form prices at every key press.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

STAGE_OVERHEAD = 0.4  # seconds: wake-up, loading inputs, writing outputs
PREDICTED_TOGETHER = 500  # images of one forward pass in a prediction

# How far the truth may lie from a price, either way, by what the price rests on.
MEASURED, INFERRED, CALIBRATED, GUESSED = 1.25, 1.5, math.sqrt(3), 3.0
# Without any measurement: one core's multiply-adds a second in training (measured 1.5e10 to 4e10); a prediction has no
# gradients (3.5 times as fast); a step of a small network waits for its operations to be started.
_GUESS = (0.003, 3 / 2e10)  # seconds
PREDICT_PER_TRAIN = 3.5


@dataclass(frozen=True)
class Work:
    """What a stage has to do. trained and predicted: images through the network, with gradients and without; other:
    seconds of everything else, on the core that the planners' constants were measured on."""

    trained: float = 0.0
    predicted: float = 0.0
    other: float = 0.0

    def __add__(self, more: Work) -> Work:
        return Work(self.trained + more.trained, self.predicted + more.predicted, self.other + more.other)

    def __mul__(self, times: float) -> Work:
        return Work(self.trained * times, self.predicted * times, self.other * times)


@dataclass(frozen=True)
class Finished:
    """What finished stages of one kind on one shape amount to: how many, their work, their seconds."""

    kind: str
    shape: str
    stages: float
    work: Work
    seconds: float


@dataclass(frozen=True)
class Line:
    """Seconds of one pass through a network: step + images * multiply_add * (multiply-adds of one image)."""

    step: float
    multiply_add: float

    def an_image(self, multiply_adds: float, together: int) -> float:
        return self.step / together + self.multiply_add * multiply_adds

    def __truediv__(self, times: float) -> Line:
        return Line(self.step / times, self.multiply_add / times)


@dataclass(frozen=True)
class Calibration:
    """What a worker measured when it started (science/calibration.py). train and predict: by whether the network has
    batch norm; other: how many times as long as on the reference core the rest takes."""

    train: Mapping[bool, Line]
    predict: Mapping[bool, Line]
    other: float

    @classmethod
    def read(cls, document: Mapping[str, Any] | None) -> Calibration | None:
        """From a worker's row; None where it has none."""
        if not document:
            return None

        def lines(name: str) -> dict[bool, Line]:
            found = document[name]
            return {norm: Line(**found[key]) for norm, key in ((False, "plain"), (True, "batch_norm"))}

        return cls(lines("train"), lines("predict"), float(document["other"]))

    def as_document(self) -> dict[str, Any]:
        def lines(found: Mapping[bool, Line]) -> dict[str, Any]:
            return {key: vars(found[norm]) for norm, key in ((False, "plain"), (True, "batch_norm"))}

        return {"train": lines(self.train), "predict": lines(self.predict), "other": self.other}


def middle(known: Sequence[Calibration]) -> Calibration | None:
    """One calibration for several workers alike: the slowest of them in each part would be too careful, the mean is
    drawn by one that was disturbed, so the median (the lower of two)."""
    if not known:
        return None

    def line(found: Sequence[Line]) -> Line:
        return sorted(found, key=lambda one: one.an_image(1e6, 100))[(len(found) - 1) // 2]

    return Calibration(
        {norm: line([one.train[norm] for one in known]) for norm in (False, True)},
        {norm: line([one.predict[norm] for one in known]) for norm in (False, True)},
        sorted(one.other for one in known)[(len(known) - 1) // 2],
    )


@dataclass(frozen=True)
class Cost:
    """Seconds of one stage, between low and high."""

    seconds: float
    spread: float

    @property
    def low(self) -> float:
        return self.seconds / self.spread

    @property
    def high(self) -> float:
        return self.seconds * self.spread


TAKEN_OVER = Cost(0.05, MEASURED)  # a stage that is here already: rows are copied


@dataclass(frozen=True)
class Prices:
    """What work costs on one network, one shape of data and one arithmetic.

    shape: names the first two; multiply_adds: of one image forward; finished: of this shape and of others;
    calibration: None where no worker has measured.
    """

    shape: str
    batch: int
    multiply_adds: float
    batch_norm: bool
    finished: Sequence[Finished] = ()
    calibration: Calibration | None = None

    def cost(self, kind: str, work: Work) -> Cost:
        """Of one stage of that kind."""
        factor, spread = self._factors.get(kind) or (1.0, self._spread(work))
        return Cost(factor * (self._expected(work) + STAGE_OVERHEAD), spread)

    @cached_property
    def _factors(self) -> dict[str, tuple[float, float]]:
        """Kind -> how much longer such stages took than rates say, and how far a price may still be from the truth."""
        found = {}
        for kind in {one.kind for one in self.finished}:
            mine = [one for one in self.finished if one.kind == kind]
            own = [one for one in mine if one.shape == self.shape]
            # Comparisons ask the same of a core whatever the network was; trainings do not.
            alike = [one for one in mine if not (one.work.trained or one.work.predicted)]
            if own or alike:
                found[kind] = (self._ratio(own or alike), MEASURED if own else INFERRED)
        return found

    def _ratio(self, finished: Iterable[Finished]) -> float:
        found = list(finished)
        expected = sum(self._expected(one.work) + one.stages * STAGE_OVERHEAD for one in found)
        return sum(one.seconds for one in found) / expected

    def _expected(self, work: Work) -> float:
        """Seconds by rates alone, without what every stage costs."""
        other = self.calibration.other if self.calibration is not None else 1.0
        trained, predicted = self._seconds_an_image
        return work.trained * trained + work.predicted * predicted + work.other * other

    def _spread(self, work: Work) -> float:
        """For a kind that was never seen: by what the rates of its work rest on."""
        needed = [kind for kind, amount in (("train", work.trained), ("predict", work.predicted)) if amount]
        if needed and all(self._measured(kind) is not None for kind in needed):
            return INFERRED
        return GUESSED if self.calibration is None else CALIBRATED

    @cached_property
    def _seconds_an_image(self) -> tuple[float, float]:
        """Of training and of prediction."""
        train = predict = Line(*_GUESS)
        predict = predict / PREDICT_PER_TRAIN
        if self.calibration is not None:
            train, predict = self.calibration.train[self.batch_norm], self.calibration.predict[self.batch_norm]
        return (
            self._measured("train") or train.an_image(self.multiply_adds, self.batch),
            self._measured("predict") or predict.an_image(self.multiply_adds, PREDICTED_TOGETHER),
        )

    def _measured(self, kind: str) -> float | None:
        """Seconds an image in finished trainings or predictions of this shape; None before there are any."""
        for one in self.finished:
            images = one.work.trained if kind == "train" else one.work.predicted
            if one.kind == kind and one.shape == self.shape and images:
                # Stages no longer than what every stage costs say little about images: half of it is theirs then.
                return max(one.seconds - one.stages * STAGE_OVERHEAD, 0.5 * one.seconds) / images
        return None
