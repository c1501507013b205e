"""Experiments in groups: how many have each value of a field, with mean and spread of their numbers.

    [Group("cifar10", 24, {"accuracy": Spread(24, 0.64, 0.008)}), ...]

An experiment without the value is in the group None; one with several (methods, tags) is in the group of each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Value = str | float | None
GROUP_NUMBERS = ("accuracy", "ensemble_accuracy", "disagreement", "seconds")  # where nobody says which


@dataclass(frozen=True)
class Spread:
    """n: how many have a number at all; mean None of none, sd (over n - 1) None of fewer than two."""

    n: int
    mean: float | None
    sd: float | None


@dataclass(frozen=True)
class Group:
    value: Value
    n: int
    numbers: Mapping[str, Spread]


@dataclass(frozen=True)
class Columns:
    """What groups are made of. labels: the values; label, row: of every membership its value's number and its row's;
    numbers: of every row, NaN where there is none."""

    labels: Sequence[Value]
    label: NDArray[np.intp]
    row: NDArray[np.intp]
    numbers: Mapping[str, Floats]


def grouped(columns: Columns) -> list[Group]:
    """The largest first, equal ones by their values; what has none last."""
    count = len(columns.labels)
    n = np.bincount(columns.label, minlength=count)
    spreads: dict[str, list[Spread]] = {}
    for name, of_rows in columns.numbers.items():
        values = of_rows[columns.row]
        there = ~np.isnan(values)
        label, values = columns.label[there], values[there]
        with_one = np.bincount(label, minlength=count)
        mean = np.bincount(label, weights=values, minlength=count) / np.maximum(with_one, 1)
        apart = np.bincount(label, weights=(values - mean[label]) ** 2, minlength=count)
        sd = np.sqrt(apart / np.maximum(with_one - 1, 1))
        spreads[name] = [
            Spread(int(k), float(mean[i]) if k else None, float(sd[i]) if k > 1 else None)
            for i, k in enumerate(with_one)
        ]
    found = [
        Group(value, int(n[i]), {name: of_each[i] for name, of_each in spreads.items()})
        for i, value in enumerate(columns.labels)
        if n[i]
    ]
    return sorted(found, key=lambda one: (one.value is None, -one.n, str(one.value)))


def number_of(value: object) -> float:
    return math.nan if value is None else float(value)  # type: ignore[arg-type]
