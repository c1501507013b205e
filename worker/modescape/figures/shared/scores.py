"""Scores of ensembles by size: their measures in words, and the groups that have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

from modescape.drawing.groups import group_title, left_out
from modescape.drawing.numbers import finite
from modescape.drawing.options import FilterOptions
from modescape.drawing.reading import FigureNotReady, Floats
from modescape.drawing.words import loss, percent, rate
from modescape.records import Group
from modescape.results import Results
from modescape.spec import ExperimentSpec

Metric = Literal["accuracy", "brier", "nll", "ece", "nll-calibrated", "ece-calibrated"]
METRICS: tuple[Metric, ...] = ("accuracy", "brier", "nll", "ece", "nll-calibrated", "ece-calibrated")
# After every prediction's own temperature: pooled first, then calibrated. Only where temperatures could be fitted.
TWINS: Mapping[str, Metric] = {"nll": "nll-calibrated", "ece": "ece-calibrated"}
TITLES: Mapping[str, str] = {
    "accuracy": "accuracy, %",
    "brier": "Brier score, 0 to 2",
    "nll": "NLL, nats",
    "ece": "calibration error",
    "nll-calibrated": "NLL after temperature, nats",
    "ece-calibrated": "calibration error after temperature",
}
WORDS: Mapping[str, str] = {
    "accuracy": "accuracy",
    "brier": "Brier score",
    "nll": "negative log-likelihood",
    "ece": "expected calibration error",
    "nll-calibrated": "negative log-likelihood after each prediction’s own temperature",
    "ece-calibrated": "expected calibration error after each prediction’s own temperature",
}
title = partial(group_title, independent="optima")


def value_of(metric: str, value: float) -> str:
    return percent(value) if metric == "accuracy" else loss(value) if metric.startswith("nll") else rate(value)


def drawn(metric: str, values: Floats) -> Floats:
    """In the unit of the axis."""
    return 100 * values if metric == "accuracy" else values


def bounds_of(metric: str, values: Floats) -> list[float]:
    """Room for values of a measure, in the unit of the axis; divergences are seen from zero on."""
    shown = drawn(metric, finite(values))
    if not len(shown):
        return [0.0, 1.0]
    low, high = 0.0 if metric == "js_mean" else float(shown.min()), float(shown.max())
    pad = max(0.05 * (high - low), 1e-3 * max(abs(high), 1e-3))
    return [-pad if metric == "js_mean" else max(0.0, low - pad), high + pad]


def groups_of(results: Results, options: FilterOptions) -> list[str]:
    """Groups asked for: the optima first, then methods in the order of the spec."""
    methods = options.methods_of(results)
    groups = [*([Group.INDEPENDENT] if not options.method or Group.INDEPENDENT in options.method else []), *methods]
    if not groups:
        raise FigureNotReady("none of the groups asked for makes an ensemble")
    return groups


def refusal(results: Results, split: str) -> FigureNotReady:
    """Why there is nothing to show."""
    if results.spec.ensemble.runs < 2:
        return FigureNotReady("one run makes no ensemble; launch with 2 runs or more")
    if len(results.healthy) < 2:
        return FigureNotReady(f"fewer than two runs make no ensemble. {left_out(results)}", closed=True)
    if split not in results.spec.evaluation.splits:
        return FigureNotReady(f"no predictions on {split} images in this spec")
    if not results.spec.has_probabilities:
        return FigureNotReady("it needs probabilities, and labels alone came with the members", closed=True)
    return FigureNotReady("ensembles are scored when all predictions are there", waits_for=("ensemble",))


def no_temperature(spec: ExperimentSpec, split: str) -> str:
    """Why predictions have no twin after temperature."""
    if split == "validation":
        return "temperatures are fitted on validation images and judged on others"
    if spec.weights is not None and not spec.weights.held_out:
        return (
            "temperatures are fitted on images that no network was trained on, and nobody has said that the validation "
            "images are such (`weights.held_out`)"
        )
    return (
        "temperatures are fitted on 500 validation images or more; this experiment has fewer, or is of an older version"
    )


def twin_words(why_not: str, asked: Sequence[str], shown: Sequence[str]) -> list[str]:
    """What the twins of measures in a table are, or why there are none; nothing where no measure has one."""
    if not any(metric in TWINS for metric in asked):
        return []
    if len(shown) > len(asked):
        return ["After temperature: one number a prediction, fitted to it on validation images after averaging."]
    return [f"Without a temperature beside it: {why_not}."]
