"""Figures: numbers to the digit on tiny hand-made experiments, pictures in every theme, partial results."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from drawn import told
from numpy.typing import NDArray

from modescape.claims.record import ClaimRecord
from modescape.drawing import style
from modescape.drawing.figure import csv, encode, figure_version
from modescape.drawing.frame import Frame, framed, html
from modescape.drawing.numbers import lines
from modescape.drawing.reading import FigureNotReady
from modescape.drawing.style import THEMES, Theme
from modescape.drawing.words import loss, rate
from modescape.errors import InvalidInput, NotFound
from modescape.registry import figures
from modescape.spec import ExperimentSpec
from modescape.spec_parts import MethodSpec
from modescape.studies.landscape.reading import PlaneData
from modescape.voice import HERE, Voice


@dataclass(frozen=True)
class Point:
    """A row of the solution table."""

    number: int
    run: int
    role: str
    index: int
    method: str | None = None
    sample_set: str | None = None
    epoch: float | None = None
    strength: float | None = None
    relative: float | None = None


@dataclass(frozen=True)
class Stored:
    """A row of the matrix table with its array."""

    values: NDArray[np.float64]
    rows: list[int]
    columns: list[Any]
    details: dict[str, Any] = field(default_factory=dict)


@dataclass
class Lab:
    """An experiment in memory: logits by solution number, everything else computed from them."""

    spec: ExperimentSpec
    truth: NDArray[np.int64]
    points_: list[Point] = field(default_factory=list)
    logits_: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    matrices: dict[tuple[str, str], Stored] = field(default_factory=dict)
    curves: dict[tuple[int, str], tuple[list[int], list[float]]] = field(default_factory=dict)
    measured: list[Any] = field(default_factory=list)
    cuts: list[Any] = field(default_factory=list)
    kept: dict[str, NDArray[Any]] = field(default_factory=dict)
    claims: dict[str, ClaimRecord] = field(default_factory=dict)
    classes: Sequence[str] = ("cat", "dog", "eel")
    steps_per_epoch: float | None = 10.0
    voice: Voice = HERE

    @property
    def class_names(self) -> Sequence[str]:
        if not self.logits_:
            raise NotFound("no predictions yet")
        return self.classes

    def add(self, point: Point, logits: NDArray[Any]) -> Point:
        self.points_.append(point)
        self.logits_[point.number] = np.asarray(logits, dtype=np.float32)
        return point

    failed: Mapping[int, str] = field(default_factory=dict)
    failed_chains: Mapping[str, Mapping[int, str]] = field(default_factory=dict)

    @property
    def healthy(self) -> list[int]:
        return [run for run in range(self.spec.ensemble.runs) if run not in self.failed]

    def skipped(self, kind: str, key: str) -> str:
        return ""

    def solutions(
        self,
        *,
        run: int | None = None,
        role: str | None = None,
        method: str | None = None,
        sample_set: str | None = None,
    ) -> list[Point]:
        asked = {"run": run, "role": role, "method": method, "sample_set": sample_set}
        return [
            point
            for point in sorted(self.points_, key=lambda point: point.number)
            if all(value is None or getattr(point, name) == value for name, value in asked.items())
        ]

    def logits(self, solution: Point, split: str) -> NDArray[np.float32]:
        return self.logits_[solution.number]

    def labels_of(self, solutions: Sequence[Point], split: str) -> NDArray[np.int64]:
        return np.stack([self.logits(solution, split).argmax(-1) for solution in solutions])

    def true_labels(self, split: str) -> NDArray[np.int64]:
        return self.truth

    def scores(self, metric: str, split: str) -> Mapping[int, float]:
        if split not in self.spec.evaluation.splits:
            return {}
        return {number: self._score(metric, logits) for number, logits in self.logits_.items()}

    def _score(self, metric: str, logits: NDArray[np.float32]) -> float:
        if metric == "accuracy":
            return float((logits.argmax(1) == self.truth).mean())
        odds = np.exp(logits.astype(np.float64))
        right = odds[np.arange(len(self.truth)), self.truth] / odds.sum(1)
        return float(-np.log(right).mean())

    def measurements(self, *, metric: str | None = None, subject: str | None = None) -> list[Any]:
        return [m for m in self.measured if metric in (None, m.metric) and subject in (None, m.subject)]

    def claim(self, letter: str) -> ClaimRecord | None:
        return self.claims.get(letter)

    def stages_of(self, kind: str) -> list[Any]:
        return [stage for plane in self.cuts for stage in stages_of(plane, self.kept) if stage.kind == kind]

    def array(self, digest: str) -> NDArray[Any]:
        return self.kept[digest]

    def matrix(self, name: str, split: str = "test") -> Stored | None:
        return self.matrices.get((name, split))

    def points(self, run: int, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        steps, values = self.curves.get((run, name), ([], []))
        return np.array(steps, dtype=np.int64), np.array(values, dtype=np.float64)


def stages_of(plane: PlaneData, kept: dict[str, NDArray[Any]], *, done: bool = True) -> list[Any]:
    """The stages that have left such a cut: its grid as far as it is computed, and its points."""
    params = {**plane.params, "name": plane.name}
    if not done:
        return [SimpleNamespace(kind="plane", state="ready", params=params, result={}, partial={})]
    about = {"x": plane.x.tolist(), "y": plane.y.tolist(), "unit": plane.unit, "anchors": plane.anchors,
             "views": plane.views}  # fmt: skip
    rows = list(range(plane.done // len(plane.x)))
    kept[f"{plane.name}/grid"] = plane.scores[rows]
    blocks = [{**about, "scores": f"{plane.name}/grid", "rows": rows, "done": plane.done}]
    if plane.points:
        around = plane.rays.reshape(-1, *plane.own.shape[1:])
        kept[f"{plane.name}/points"] = np.concatenate([plane.own, around])
        blocks.append({**about, "scores": f"{plane.name}/points", "points": plane.points})
    return [
        SimpleNamespace(kind="plane", state="succeeded", params=params, result={"extra": block}, partial={})
        for block in blocks
    ]


# ---- a tiny experiment whose every number can be worked out by hand ----

STRENGTH = np.log(4.0)  # softmax of one label that stands out: 4/6 for it, 1/6 for each of the two others
SURE, UNSURE = np.log(6 / 4), np.log(6.0)  # negative log-likelihood where the label is right, and where it is wrong
TRUTH = [0, 1, 2, 0, 1, 2, 0, 1]

RUN_0 = [[0] * 8, [0, 1, 2, 0, 0, 0, 0, 0], [0, 1, 2, 0, 1, 2, 0, 0]]  # 3, 5, 7 of 8 right
RUN_1 = [[1] * 8, [0, 1, 1, 1, 1, 1, 0, 1], [0, 1, 2, 0, 1, 0, 0, 1]]  # 3, 5, 7 of 8 right; the optima differ twice
RUN_2 = [[2] * 8, [2, 1, 2, 2, 1, 2, 2, 2], [0, 1, 2, 0, 1, 2, 1, 2]]  # 2, 4, 6 of 8 right
SAMPLES_0 = [[0, 1, 2, 0, 2, 2, 0, 0], [1, 2, 0, 0, 1, 2, 0, 0]]  # 6 and 4 right; 1 and 3 changed labels
SAMPLE_1 = [2, 1, 2, 0, 1, 0, 0, 1]  # 6 right; 1 changed label


def logits(labels: Sequence[int]) -> NDArray[np.float64]:
    return STRENGTH * np.eye(3)[list(labels)]


def lab(*, planned: int = 2, done: int = 2, samples: bool = True, compared: bool = True) -> Lab:
    """`done` of `planned` runs; two random samples around run 0 and one around run 1."""
    methods = [{"method": "random", "spread": 2, "typical": 0}] if samples else []
    studies: dict[str, Any] = {"seeds": {"repetitions": 2}, "instability": {"epochs": [0, 1], "repetitions": 2}}
    studies["planes"] = [{}, {"kind": "line"}]
    spec = ExperimentSpec.model_validate(
        {"ensemble": {"runs": planned}, "training": {"epochs": 2}, "methods": methods, **studies}
    )
    made = Lab(spec, np.array(TRUTH))
    weights = {}
    for run, labels in enumerate((RUN_0, RUN_1, RUN_2)[:done]):
        for i, row in enumerate(labels):
            role = "optimum" if i == 2 else "checkpoint"
            point = made.add(Point(10 * run + i, run, role, i, epoch=float(i)), logits(row))
            # two axes a run: it starts on the first and ends on the second, 60 degrees from it half-way
            theta = np.zeros(6)
            theta[2 * run : 2 * run + 2] = [(1, 0), (1, np.sqrt(3)), (0, 1)][i]
            weights[point.number] = theta / np.linalg.norm(theta)
    if samples:
        for i, row in enumerate(SAMPLES_0):
            made.add(
                Point(100 + i, 0, "sample", i, "random", "spread", strength=0.5 + i, relative=0.1 + i), logits(row)
            )
        if done > 1:
            made.add(Point(102, 1, "sample", 0, "random", "spread", strength=0.7, relative=0.2), logits(SAMPLE_1))
    if compared:
        numbers = sorted(weights)
        stacked = np.array([weights[number] for number in numbers])
        made.matrices["cosine", ""] = Stored(stacked @ stacked.T, numbers, numbers)
        everyone = sorted(made.logits_)
        labels_ = np.array([made.logits_[number].argmax(1) for number in everyone])
        differ = (labels_[:, None] != labels_[None]).mean(-1)
        made.matrices["disagreement", "test"] = Stored(differ, everyone, everyone)
    if done > 1:
        made.cuts = [cut("radial"), cut("line")]
    return made


def cut(kind: str) -> PlaneData:
    """Scores that fall with the distance from the optima of the first two runs, on 5 x 5 nodes or on 5."""
    x, y = np.arange(-1.0, 4.0), np.arange(-1.0, 4.0) if kind == "radial" else np.zeros(1)
    anchors = [[3.0, 0.0], [0.0, 2.0] if kind == "radial" else [0.0, 0.0]]
    away = np.stack([np.hypot(x - a, y[:, None] - b) for a, b in anchors], -1)
    near = np.stack([away.min(-1), 1 / (1 + away.min(-1))], -1)
    scores = np.repeat(np.concatenate([near, 1 / (1 + away)], -1)[:, :, None], 2, axis=2)
    points = [
        {"number": 10 * run + i, "run": run, "role": "optimum" if i == 2 else "checkpoint", "method": None, "index": i,
         "epoch": float(i), "x": 1.5 * i * (1 - run), "y": 1.0 * i * run,
         "residual": 2.0 - i, "relative": 0.2 * (2 - i)}
        for run in (0, 1) for i in range(3)
    ]  # fmt: skip
    views = [{"split": "train", "images": 8}, {"split": "test", "images": 8}]
    own, rays = np.full((6, 2, 4), 0.5), np.full((2, 33, 2, 4), 0.5)
    params = {"kind": kind, "runs": [0, 1]}
    return PlaneData(
        kind, params, x, y, 3.0, anchors, views, scores, points, own, rays, x.size * y.size, x.size * y.size
    )


def collect(name: str, results: Lab, **options: Any) -> Any:
    entry = figures[name]
    return entry.call(results, entry.options.model_validate(options))


# ---- training curves ----


def test_training_curves_are_the_scores_of_the_checkpoints() -> None:
    data = collect("trajectories", lab())
    assert [curve.run for curve in data.curves] == [0, 1]
    np.testing.assert_allclose(data.curves[0].accuracy, [3 / 8, 5 / 8, 7 / 8])
    np.testing.assert_allclose(
        data.curves[0].loss, [(right * SURE + (8 - right) * UNSURE) / 8 for right in (3, 5, 7)], rtol=1e-6
    )
    assert data.curves[1].solutions.tolist() == [10, 11, 12]
    assert data.partial == ""
    assert len(data.rows()) == 2 * 3 + 3 + 3


def test_the_ensemble_averages_probabilities() -> None:
    data = collect("trajectories", lab())
    # the optima agree on six examples (2/3 for the right label, all right) and split on two: (2/3 + 1/6)/2 = 5/12
    # for either label, where the tie falls to the lower one, which is wrong both times
    assert data.ensemble.accuracy[-1] == 6 / 8
    np.testing.assert_allclose(data.ensemble.loss[-1], -(6 * np.log(2 / 3) + 2 * np.log(5 / 12)) / 8, rtol=1e-6)
    np.testing.assert_allclose(data.median.accuracy, [3 / 8, 5 / 8, 7 / 8])
    assert [note.label for note in told(data).notes.lines][-1] == "accuracy of 2 together, %"
    assert told(data).notes.lines[-1].values == ("75.0", "–")
    assert "ensemble reaches 75.0 %" in told(data).summary


def test_a_run_that_still_moves_is_drawn_and_counts_in_no_mean() -> None:
    results = lab(planned=3)
    results.curves[2, "validation/loss"] = ([10, 20], [0.9, 0.4])
    results.curves[2, "validation/accuracy"] = ([10, 20], [0.3, 0.99])
    data = collect("trajectories", results)
    assert [curve.finished for curve in data.curves] == [True, True, False]
    assert data.curves[2].epochs.tolist() == [1.0, 2.0]  # ten steps an epoch
    assert data.partial == "after 2 of 3 runs"
    assert told(data).notes.lines[1].values[0] == "87.5"
    assert "Run 2 is still moving" in told(data).caption


def test_training_images_have_curves_but_no_ensemble() -> None:
    results = lab()
    for run in (0, 1):
        results.curves[run, "train/loss"] = ([5, 10, 20], [1.0, 0.5, 0.25])
        results.curves[run, "train/accuracy"] = ([5, 10, 20], [0.5, 0.7, 0.9])
    data = collect("trajectories", results, split="train")
    assert data.ensemble is None
    assert data.median.loss.tolist() == [1.0, 0.5, 0.25]
    assert data.curves[0].solutions.tolist() == [-1, -1, -1]


# ---- similarity ----


def test_similarity_along_a_run() -> None:
    data = collect("similarity-trajectory", lab(), run=0)
    cosine = [[1, 0.5, 0], [0.5, 1, np.sqrt(3) / 2], [0, np.sqrt(3) / 2, 1]]
    np.testing.assert_allclose(data.cosine, cosine, atol=1e-12)
    # labels: 0s against [0,1,2,0,0,0,0,0] differ twice; against the optimum 4 times; the last two twice
    np.testing.assert_allclose(data.disagreement, np.array([[0, 2, 4], [2, 0, 2], [4, 2, 0]]) / 8)
    assert data.numbers.tolist() == [0, 1, 2]
    assert [note.values for note in told(data).notes.lines] == [(".000", "50.0"), (".866", "25.0")]


def test_similarity_across_runs() -> None:
    data = collect("similarity-runs", lab(), blocks=2)
    assert data.numbers.tolist() == [0, 2, 10, 12]  # first and last of each
    assert data.cosine[1, 3] == 0
    assert data.disagreement[1, 3] == 2 / 8
    assert data.partial == ""
    rows = data.rows()
    assert len(rows) == 6
    assert rows[4] == (2, 0, 2.0, 12, 1, 2.0, 0.0, 0.25)


def test_optima_alone_stand_for_their_runs() -> None:
    data = collect("similarity-runs", lab(planned=3, done=3), blocks=1)
    assert data.numbers.tolist() == [2, 12, 22]
    assert "one pair" not in told(data).summary
    assert "n = 3 pairs" in told(data).summary


def test_unfinished_runs_leave_gaps_of_the_final_size() -> None:
    data = collect("similarity-runs", lab(planned=4, done=2), blocks=2)
    assert data.numbers.tolist() == [0, 2, 10, 12, -1, -1, -1, -1]
    assert data.runs.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert np.isnan(data.disagreement[4:]).all()
    assert np.isnan(data.disagreement[:, 4:]).all()
    assert np.isfinite(data.disagreement[:4, :4]).all()
    assert data.partial == "after 2 of 4 runs"
    assert len(data.rows()) == 6


def test_disagreement_needs_no_compare_stage() -> None:
    with_it, without = lab(), lab(compared=False)
    data = collect("similarity-runs", without)
    np.testing.assert_array_equal(data.disagreement, collect("similarity-runs", with_it).disagreement)
    assert data.cosine is None
    assert "not computed yet" in data.missing
    planes = [collect("plane", results) for results in (with_it, without)]
    np.testing.assert_array_equal(planes[0].distance, planes[1].distance)


def test_long_trajectories_are_thinned_and_say_so() -> None:
    spec = ExperimentSpec.model_validate({"ensemble": {"runs": 1}})
    results = Lab(spec, np.array(TRUTH))
    for i in range(300):
        results.add(Point(i, 0, "optimum" if i == 299 else "checkpoint", i, epoch=float(i)), logits(RUN_0[i % 3]))
    data = collect("similarity-trajectory", results)
    assert len(data.numbers) == 128
    assert (data.numbers[0], data.numbers[-1]) == (0, 299)
    assert data.thinned == "128 of 300 checkpoints, evenly."
    assert np.diff(data.numbers).max() <= 3


# ---- the plane ----


def test_plane_places_every_function_by_hand() -> None:
    data = collect("plane", lab())
    assert data.groups == ("independent", "random", "random", "baseline")
    assert data.numbers.tolist() == [12, 100, 101, 2]
    np.testing.assert_array_equal(data.accuracy, [7 / 8, 6 / 8, 4 / 8, 7 / 8])
    np.testing.assert_array_equal(data.distance, [2 / 8, 1 / 8, 3 / 8, 0])
    # over the error rate of the function itself: .25/.125, .125/.25, .375/.5
    np.testing.assert_allclose(data.height, [2, 0.5, 0.75, 0])
    assert data.reference_accuracy == 7 / 8
    assert data.rows()[1] == (100, 0, "random", 0, 0.5, 0.1, 0.75, 0.125, 0.5)
    assert data.rows()[0][4] is None  # an optimum has no strength


def test_plane_around_another_reference() -> None:
    data = collect("plane", lab(), ref=1, normalise=False)
    assert data.numbers.tolist() == [2, 102, 12]
    np.testing.assert_array_equal(data.height, [2 / 8, 1 / 8, 0])


def test_plane_of_every_run_around_its_own_optimum() -> None:
    data = collect("plane", lab(planned=3, done=3), around="own")
    assert data.numbers.tolist() == [2, 12, 22, 100, 101, 102, 2, 12, 22]
    # disagreement of optima: 0-1 two, 0-2 two (positions 6 and 7), 1-2 three (5, 6, 7); each star is its mean of two
    np.testing.assert_allclose(data.distance[:3], np.array([2, 2.5, 2.5]) / 8)
    np.testing.assert_allclose(data.distance[3:6], np.array([1, 3, 1]) / 8)
    assert data.reference_accuracy == pytest.approx((7 + 7 + 6) / 24)


def test_limits_meet_at_chance_and_end_at_the_reference() -> None:
    upper, lower = collect("plane", lab(), family=False).curves
    assert (upper.name, lower.name) == ("upper limit", "lower limit")
    np.testing.assert_allclose([upper.accuracy[0], upper.height[0], lower.height[0]], [1 / 3, 1, 1])
    # at a = a* = 7/8 with three classes: 2 * 7/64 + 1/64 * 1/2 = .2265625, over 1/8
    np.testing.assert_allclose([upper.height[-1], lower.height[-1]], [1.8125, 0], atol=1e-12)


def test_hard_bounds_and_a_given_family_are_drawn_on_request() -> None:
    data = collect("plane", lab(), bounds=True, e=1.0)
    assert [curve.name for curve in data.curves] == [
        "upper limit", "lower limit", "highest possible", "lowest possible", "family",
    ]  # fmt: skip
    # e = 1 is the lower limit itself
    lower, family = data.curves[1], data.curves[-1]
    expected = np.interp(family.accuracy, lower.accuracy, lower.height * (1 - lower.accuracy))
    # (the last point lies on chance, where the limit ends)
    np.testing.assert_allclose((family.height * (1 - family.accuracy))[:-1], expected[:-1], atol=1e-9)


def test_a_perfect_function_has_no_diversity() -> None:
    results = lab()
    results.add(Point(103, 0, "sample", 2, "random", "spread"), logits(TRUTH))
    results.matrices.clear()
    data = collect("plane", results)
    at = data.numbers.tolist().index(103)
    assert np.isnan(data.height[at])
    assert data.distance[at] == 1 / 8
    assert "103,0,random,2,,,1.0,0.125,\n" in csv(data)


def test_plane_is_partial_while_samples_are_missing() -> None:
    results = lab()
    results.points_ = [point for point in results.points_ if point.number != 101]
    assert collect("plane", results).partial == "after 1 of 2 samples"
    assert collect("plane", lab(planned=5)).partial == "after 2 of 5 runs"


def test_methods_can_be_chosen_and_unknown_ones_are_refused() -> None:
    assert collect("plane", lab(), method="independent").groups == ("independent", "baseline")
    assert collect("plane", lab(), method=("random",)).groups == ("random", "random", "baseline")
    with pytest.raises(InvalidInput, match="no method 'dropout'"):
        collect("plane", lab(), method="dropout")


def test_other_distances_wait_for_the_comparison() -> None:
    results = lab()
    with pytest.raises(FigureNotReady) as refusal:
        collect("plane", results, distance="js")
    assert refusal.value.waits_for == ("compare",)
    columns = sorted(results.logits_)
    values = np.arange(2.0 * len(columns)).reshape(2, -1) / 100
    results.matrices["js", "test"] = Stored(values, [2, 12], columns)
    data = collect("plane", results, distance="js", normalise=False)
    expected = [values[0, columns.index(number)] for number in (12, 100, 101)]
    np.testing.assert_array_equal(data.height[:3], expected)
    assert data.curves == ()  # the theory speaks of disagreement


# ---- embeddings ----


def averaged(results: Lab) -> Lab:
    """With what the ensemble stage measures: sizes 1 and 2 of the optima (see the training curves) and of `random`."""

    def row(subject: str, metric: str, value: float, **details: Any) -> Any:
        return SimpleNamespace(
            subject=subject, metric=metric, value=value, split="test", n=8, corruption=None, intensity=None,
            details=details,
        )  # fmt: skip

    values = {"accuracy": (7 / 8, 6 / 8), "brier": (0.25, 0.2), "nll": (0.6, 0.5), "ece": (0.2, 0.3)}
    for group, samples in (("independent", [1, 1]), ("random", [1, 2])):
        for metric, by_size in values.items():
            for size, value in enumerate(by_size, 1):
                results.measured.append(
                    row(
                        f"ensemble/{group}/{size}", metric, value, size=size, sd=0.01 if size == 1 else None,
                        low=value - 0.01, high=value + 0.01, subsets=3 - size, of=3 - size, runs=2, samples=samples,
                    )
                )  # fmt: skip
        for name in ("brier", "entropy", "size"):
            results.measured.append(row(f"ensemble/{group}", f"identity/{name}", 2e-16, tolerance=1e-9, holds=True))
        results.measured.append(row(f"ensemble/{group}", "brier-limit", 0.15))
        for of, ece in (("single", 0.2), ("ensemble", 0.3)):
            results.measured.append(
                row(
                    f"reliability/{group}/{of}/width-15", "reliability", ece, count=[2, 14], confidence=[0.42, 0.66],
                    accuracy=[0.5, 0.9], sd=0.01 if of == "single" else None, runs=2, temperatures=None,
                )
            )  # fmt: skip
    return results


def branched(results: Lab) -> Lab:
    """With what the seed and the instability study measure (their numbers are tested in test_seeds.py)."""

    def add(subject: str, split: str, details: dict[str, Any], values: dict[str, float]) -> None:
        results.measured += [
            SimpleNamespace(
                subject=subject, metric=metric, value=value, split=split, n=8, corruption=None, intensity=None,
                details=details,
            )
            for metric, value in values.items()
        ]  # fmt: skip

    for repetition in (0, 1):
        for step in (1e-4, 1.6e-3):
            for kind, gap in (("base", 0.0), ("same", 0.0), ("weights", 0.3), ("batches", 0.2), ("both", 0.4)):
                values = {"accuracy": 0.5} | ({"disagreement": gap, "diversity": 2 * gap} if kind != "base" else {})
                add(f"seeds/{kind}", "test", {"learning_rate": step, "repetition": repetition}, values)
        for k in (0, 1):
            for split in ("train", "test"):
                values = {"barrier/error": 0.3 - 0.2 * k, "barrier/loss": 0.1, "disagreement": 0.2, "accuracy": 0.5}
                add("instability", split, {"epoch": k, "repetition": repetition}, values)
    return results


def embedded() -> Lab:
    results = lab()
    numbers = [0, 1, 2, 10, 11, 12, 100, 101, 102]
    x = [0, 1, 2, 10, 11, 12, 2.5, 9.0, 12.5]  # sample 101 has strayed to the other run
    place = np.array([x, np.zeros(9)]).T
    details = {"perplexity": 5.0, "seed": 0, "images": 8}
    results.matrices["tsne-samples", "test"] = Stored(place, numbers, ["x", "y"], details)
    results.matrices["tsne-trajectories", "test"] = Stored(place[:6], numbers[:6], ["x", "y"], details)
    return branched(averaged(results))


def test_embedding_counts_who_lies_with_their_own_run() -> None:
    data = collect("tsne-samples", embedded())
    assert data.groups == (*("trajectory",) * 6, *("random",) * 3)
    assert "for 2 of 3 samples" in told(data).summary
    assert "Perplexity 5, seed 0" in told(data).caption
    assert "8 test images" in told(data).caption
    assert data.rows()[6][:6] == (100, 0, "random", 0, None, 2.5)


def test_runs_have_a_map_until_all_are_embedded_together() -> None:
    results = lab()
    data = collect("tsne-trajectories", results)
    assert (data.options.layout, len(data.numbers)) == ("pca", 6)
    assert "until all are embedded" in data.partial
    assert told(data).caption.startswith("Joint PCA of predictions")
    odds = np.exp(np.stack([results.logits_[number].astype(float) for number in data.numbers]))
    rows = (odds / odds.sum(-1, keepdims=True)).reshape(6, -1)
    left, scale, _ = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    assert np.abs(data.position) == pytest.approx(np.abs(left[:, :2] * scale[:2]), abs=1e-5)
    with pytest.raises(FigureNotReady, match="comes after all"):
        collect("tsne-samples", results)
    results.failed = {0: "diverged"}
    results.points_ = [point for point in results.points_ if point.run == 0]
    results.points_ = results.points_[:1]
    with pytest.raises(FigureNotReady):
        collect("tsne-trajectories", results)  # nobody has come to an end


def test_pictures_say_at_which_step_a_point_comes() -> None:
    drawn = figures["tsne-trajectories"].draw(collect("tsne-trajectories", embedded()), "light")
    assert drawn.layout.meta["along"] == {"label": "Epoch", "texts": ["0", "1", "2"], "plays": True}
    strands = {trace.name: trace.meta["at"] for trace in drawn.data}
    assert strands == {"run 0": [0, 1, 2], "run 1": [0, 1, 2], "optima": [2, 2]}
    samples = figures["tsne-samples"].draw(collect("tsne-samples", embedded()), "light")
    assert {tuple(trace.meta["at"]) for trace in samples.data if trace.legendgroup == "random"} == {(2, 2, 2)}


def crowded(samples: int) -> Any:
    """The plane with so many samples, each a little farther than the one before."""
    plane = collect("plane", embedded())
    index = np.concatenate([
        np.flatnonzero(np.array(plane.groups) != "random"), np.resize(plane.where("random"), samples),
    ])  # fmt: skip
    columns = ("numbers", "runs", "indices", "strength", "relative", "accuracy", "distance", "height")
    wide = replace(
        plane, groups=tuple(plane.groups[i] for i in index), **{name: getattr(plane, name)[index] for name in columns}
    )
    return replace(wide, relative=np.arange(len(index)) / 100)


def test_samples_are_shown_by_how_far_they_are_in_equal_steps() -> None:
    drawn = figures["plane"].draw(crowded(96), "light")
    at = {trace.legendgroup: trace.meta["at"] for trace in drawn.data if trace.mode == "markers"}
    assert at["random"] == sorted(at["random"])
    assert np.bincount(at["random"]).tolist() == [4] * 24
    assert {*at["independent"], *at["baseline"]} == {0}  # they are no samples
    along = drawn.layout.meta["along"]
    farthest = rate((96 + len(at["independent"]) + len(at["baseline"]) - 1) / 100, 2)
    assert (along["plays"], along["texts"][-1]) == (False, f"{farthest} of the optimum’s norm")
    few = figures["plane"].draw(collect("plane", embedded()), "light")
    assert "along" not in few.layout.meta  # two samples need no slider


def test_very_many_points_are_given_to_browsers_with_webgl() -> None:
    wide, counts = crowded(3000), []
    for points in ("some", "all"):
        asked = replace(wide, options=wide.options.model_copy(update={"points": points}))
        drawn = figures["plane"].draw(asked, "light")
        counts.append(sum(len(trace.x) for trace in drawn.data if trace.mode == "markers"))
    assert counts[0] <= 2000 < counts[1] == len(wide.numbers)


def test_chains_are_no_samples_of_the_run_whose_number_they_share() -> None:
    results = embedded()
    methods = (*results.spec.methods, MethodSpec(method="sgmcmc"))
    results.spec = results.spec.model_copy(update={"methods": methods})
    results.add(Point(200, 0, "sample", 0, "sgmcmc", "typical"), logits(SAMPLE_1))
    old = results.matrices["tsne-samples", "test"]
    place = np.vstack([old.values, [[11.0, 0.0]]])  # among the checkpoints of the other run
    results.matrices["tsne-samples", "test"] = Stored(place, [*old.rows, 200], old.columns, old.details)
    summary = told(collect("tsne-samples", results)).summary
    assert "for 2 of 3 samples" in summary
    assert "Not counted: 1 sample of chains" in summary
    assert "for 6 of 6 checkpoints" in told(collect("tsne-samples", results, method="sgmcmc")).summary


def test_embedding_of_trajectories_alone() -> None:
    data = collect("tsne-trajectories", embedded())
    assert data.numbers.tolist() == [0, 1, 2, 10, 11, 12]
    assert "for 6 of 6 checkpoints" in told(data).summary


# ---- every figure ----

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("trajectories", {}),
    ("trajectories", {"panel": "loss", "size": "page", "color": "run"}),
    ("similarity-trajectory", {}),
    ("similarity-trajectory", {"panel": "disagreement", "weights": "kernels"}),
    ("similarity-runs", {}),
    ("similarity-runs", {"blocks": 1, "panel": "cosine"}),
    ("tsne-trajectories", {}),
    ("tsne-trajectories", {"color": "run"}),
    ("tsne-samples", {}),
    ("tsne-samples", {"panel": "method", "color": "run"}),
    ("plane", {}),
    ("plane", {"size": "page", "bounds": True, "e": 0.5}),
    ("plane", {"around": "own", "color": "run"}),
    ("ensembles", {}),
    ("ensembles", {"panel": "nll", "size": "page", "band": "all"}),
    ("reliability", {}),
    ("reliability", {"show": "all"}),
    ("landscape", {}),
    ("landscape", {"quantity": "loss", "size": "page", "panel": "other"}),
    ("landscape", {"quantity": "diversity", "split": "train"}),
    ("landscape", {"quantity": "accuracy"}),
    ("cuts", {}),
    ("cuts", {"panel": "loss", "size": "page"}),
    ("seeds", {}),
    ("seeds", {"quantity": "disagreement", "size": "page"}),
    ("seeds", {"panel": "accuracy"}),
    ("instability", {}),
    ("instability", {"quantity": "loss", "split": "train", "panel": "barrier", "size": "page"}),
]


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_every_figure_is_drawn_in_every_theme(name: str, options: dict[str, Any], theme: Theme) -> None:
    data = collect(name, embedded(), **options)
    drawn = figures[name].draw(data, theme).to_dict()
    known = {point.number for point in embedded().points_} | {-1}
    for trace in drawn["data"]:
        assert trace["type"] in ("scatter", "heatmap", "contour")  # SVG: scattergl breaks under our security policy
        if trace["type"] == "scatter" and "markers" in trace["mode"] and trace.get("hoverinfo") != "skip":
            numbers = json.loads(encode_array(trace["customdata"]))
            assert set(numbers) <= known
        for axis in ("x", "y", "z"):
            values = trace.get(axis)
            assert not isinstance(values, dict) or values["dtype"] == "f4"
    if any(trace["type"] == "heatmap" for trace in drawn["data"]):
        assert set(drawn["layout"]["meta"].get("rows", [])) <= known  # of a matrix; a map of weight space has none
    assert "template" not in drawn["layout"]
    assert drawn["layout"]["showlegend"] is False
    assert drawn["layout"]["paper_bgcolor"] == drawn["layout"]["plot_bgcolor"] == style.TRANSPARENT
    assert drawn["layout"]["meta"]["figure"] == name


def encode_array(value: Any) -> str:
    if isinstance(value, dict):
        return json.dumps(np.frombuffer(base64.b64decode(value["bdata"]), value["dtype"]).tolist())
    return json.dumps(list(value))


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_every_figure_says_what_it_shows(name: str, options: dict[str, Any]) -> None:
    data = collect(name, embedded(), **options)
    assert told(data).caption.endswith(".")
    assert told(data).summary.endswith(".")
    assert re.search(r"\d", told(data).summary)
    assert all(len(row) == len(data.columns) for row in data.rows())
    assert data.table().rows == tuple(data.rows())
    for line in told(data).notes.lines:
        assert len(line.values) == len(told(data).notes.head) - 1
        assert not line.look or line.look in style.looks()
    for entry in data.legend:
        assert entry.look in style.looks()


@pytest.mark.parametrize("name", sorted({name for name, _ in VARIANTS}))
def test_figures_wait_for_named_stages(name: str) -> None:
    empty = Lab(lab(planned=3).spec, np.array(TRUTH))
    with pytest.raises(FigureNotReady) as refusal:
        collect(name, empty)
    assert refusal.value.planned
    assert set(refusal.value.waits_for) <= {"train", *figures[name].needs}


def test_figures_that_were_never_planned_say_so() -> None:
    alone = lab(planned=1, done=1, samples=False)
    for name in ("similarity-runs", "tsne-samples", "plane"):
        with pytest.raises(FigureNotReady) as refusal:
            collect(name, alone)
        assert not refusal.value.planned
    with pytest.raises(FigureNotReady, match="no run 7"):
        collect("plane", lab(), ref=7)


def test_one_run_alone_still_has_its_curves() -> None:
    data = collect("trajectories", lab(planned=1, done=1))
    assert data.median is None
    assert data.ensemble is None
    figures["trajectories"].draw(data, "light")


def test_many_points_are_thinned_in_the_picture_and_never_in_the_table() -> None:
    results = lab(compared=False)
    rng = np.random.default_rng(0)
    for i in range(2500):
        labels = rng.integers(0, 3, 8)
        results.add(Point(1000 + i, 0, "sample", 2 + i, "random", "spread"), logits(labels.tolist()))
    data = collect("plane", results, family=False)
    drawn = figures["plane"].draw(data, "light")
    marks = sum(len(trace.x) for trace in drawn.data if trace.mode == "markers")
    assert marks == 2000
    assert len(data.rows()) == 2504
    assert data.thinned == "2\u202f000 of 2\u202f504 points drawn, evenly."


# ---- ways out ----


def test_both_encodings_hold_the_same_numbers() -> None:
    drawn = figures["similarity-runs"].draw(collect("similarity-runs", lab(planned=3), blocks=1), "light")
    typed, plain = json.loads(encode(drawn)), json.loads(encode(drawn, arrays="list"))
    assert b"bdata" not in encode(drawn, arrays="list")
    packed = typed["data"][1]["z"]
    values = np.frombuffer(base64.b64decode(packed["bdata"]), packed["dtype"]).reshape(3, 3)
    listed = plain["data"][1]["z"]
    assert listed[0][2] is None  # the third run is not there yet: null, never NaN
    np.testing.assert_array_equal(values[:2, :2], [row[:2] for row in listed[:2]])


def test_the_standalone_page_asks_nobody_for_anything() -> None:
    drawn = figures["plane"].draw(collect("plane", lab()), "dark")
    page = html(drawn, Frame("a < b", "<i>", "x & y"), theme="dark")
    assert "<h1>a &lt; b</h1>" in page
    assert "<p>&lt;i&gt;</p>" in page
    assert "x &amp; y" in page
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page)


@pytest.mark.parametrize("width", [480, 960])
def test_a_picture_taken_away_has_its_words_inside_it_and_keeps_its_plot(width: int) -> None:
    data = collect("plane", lab())
    plain, drawn = (figures["plane"].draw(data, "light") for _ in range(2))
    words = Frame.of(figures["plane"], data, "<b>" + "m" * 197)
    framed(drawn, words, "light", width)
    layout, before = drawn.layout, plain.layout
    assert layout.width == width
    assert layout.height - layout.margin.t - layout.margin.b == before.height - before.margin.t - before.margin.b
    lines = [note for note in layout.annotations if note.name == "frame"]
    said = unescape("".join(note.text for note in lines if note.font.color == style.token("muted", "light")))
    assert said.startswith("<b>mmm"), "a name is text, never markup"
    assert said.replace(" ", "").endswith(told(data).caption.replace(" ", "")[-40:])
    for note in lines:  # between the picture's edges, in px from above
        top = layout.margin.t if note.y == 1 else layout.height - layout.margin.b
        assert 0 <= top - note.yshift <= layout.height - note.font.size
        assert note.xshift + layout.margin.l == 16
    shown = {trace.name for trace in drawn.data if trace.showlegend}
    assert shown == {entry.title for entry in data.legend if entry.on}
    assert 0 < layout.legend.y < 1


@pytest.mark.parametrize("name", ["similarity-trajectory", "similarity-runs"])
def test_the_last_text_of_a_colour_bar_ends_inside_the_picture(name: str) -> None:
    drawn = figures[name].draw(collect(name, lab()), "light")
    for trace in drawn.data:
        bar = trace.colorbar
        half = style.LETTER * len(bar.ticktext[-1]) / 2
        assert half <= bar.xpad + style.MARGINS["maps"]["r"] + 1, bar.ticktext


@pytest.mark.parametrize("name", ["similarity-trajectory", "similarity-runs"])
def test_the_titles_of_maps_end_before_their_colour_bars_on_paper(name: str) -> None:
    plot = 656 - 24 - style.MARGINS["maps"]["l"] - style.MARGINS["maps"]["r"]  # px; paper without the card's edges
    drawn = figures[name].draw(collect(name, lab()), "light")
    titles = [note for note in drawn.layout.annotations if note.y == 1]
    assert len(titles) == len(drawn.data) == 2
    domains = drawn.layout.xaxis.domain, drawn.layout.xaxis2.domain
    for title, trace, domain in zip(titles, drawn.data, domains, strict=True):
        bar = trace.colorbar
        begins = plot * (bar.x - bar.len - domain[0]) - bar.xpad
        assert style.LETTER * len(title.text) < begins + 10, title.text  # a letter is 5.9 px wide on average


@pytest.mark.parametrize("color", ["run", "method"])
def test_a_legend_has_the_colours_of_what_is_drawn(color: str) -> None:
    data = collect("tsne-samples", embedded(), color=color)
    drawn = framed(
        figures["tsne-samples"].draw(data, "light"), Frame.of(figures["tsne-samples"], data, "x"), "light", 600
    )
    inks = {trace.marker.color for trace in drawn.data if trace.showlegend}
    assert len(inks) == (1 if color == "run" else len(data.legend))
    assert inks == {style.token("text", "light")} if color == "run" else style.token("text", "light") not in inks


def test_no_line_breaks_within_a_number() -> None:
    data = collect("plane", lab())
    words = Frame("?", "name", " ".join(["1\u202f200"] * 60))
    drawn = framed(figures["plane"].draw(data, "light"), words, "light", 480)
    lines = [note.text for note in drawn.layout.annotations if note.name == "frame"][2:]
    assert len(lines) > 3
    assert {word for line in lines for word in line.split(" ")} == {"1\u202f200"}


def test_the_cosine_along_a_run_has_colours_of_its_own_range() -> None:
    data = collect("similarity-trajectory", lab())
    low = float(np.nanmin(data.cosine))
    trace = figures["similarity-trajectory"].draw(data, "light").data[0]
    assert trace.zmin <= low < trace.zmin + 0.5 * (1 - trace.zmin)
    assert (trace.zmax, trace.colorbar.ticktext[-1]) == (1.0, "1")
    across = figures["similarity-runs"].draw(collect("similarity-runs", lab()), "light").data[0]
    assert (across.zmin, across.zmax) == (0, 1)


def test_a_table_is_its_columns_in_plain_numbers_with_none_where_one_is_undefined() -> None:
    found = lines("run", np.array([1, 2]), ("a", "b"), np.array([0.5, np.nan]), None, [np.inf, 3])
    assert found == [("run", 1, "a", 0.5, None, None), ("run", 2, "b", None, None, 3)]
    assert [type(cell) for cell in found[0][1:4]] == [int, str, float]
    assert lines("run", np.array([])) == []
    with pytest.raises(ValueError, match=r"equally long, not \[1, 2\]"):
        lines([1], [1, 2])


def test_csv_has_one_line_a_point() -> None:
    text = csv(collect("plane", lab()))
    lines = text.splitlines()
    assert lines[0] == "solution,run,method,index,strength,relative,accuracy,distance,diversity"
    assert lines[1] == "12,1,independent,2,,,0.875,0.25,2.0"
    assert len(lines) == 5


def test_pictures_have_a_version() -> None:
    assert re.fullmatch(r"[0-9a-f]{16}", figure_version())


@pytest.mark.parametrize(
    ("value", "text"), [(0.3123, ".312"), (1.0, "1.000"), (-0.00831, "−.008"), (-0.0001, ".000"), (np.nan, "–")]
)
def test_rates_have_no_zero_before_the_point(value: float, text: str) -> None:
    assert rate(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.4421, ".442"), (1.2345, "1.23"), (12.345, "12.3"), (np.inf, "–")])
def test_losses_have_three_digits(value: float, text: str) -> None:
    assert loss(value) == text


def test_labels_are_pushed_apart_as_little_as_needed() -> None:
    assert style.apart([10.0, 100.0], 15) == [10.0, 100.0]
    assert style.apart([50.0, 50.0], 15) == [42.5, 57.5]
    placed = style.apart([60.0, 50.0, 52.0], 15)
    assert placed[1] < placed[2] < placed[0]
    assert min(np.diff(sorted(placed))) == pytest.approx(15)
    assert np.mean(placed) == pytest.approx(54)


@pytest.mark.slow
def test_declaring_figures_loads_nothing_heavy() -> None:
    code = (
        "import sys, modescape.figures; from modescape.registry import figures; assert len(figures) >= 6;"
        "print([m for m in ('torch', 'torchvision', 'sklearn', 'scipy', 'plotly') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_browser_draws_every_figure_without_a_word(theme: Theme, tmp_path: Path) -> None:
    """Real Chromium, real Plotly: marks on the page, no console message, no label outside its plot."""
    from playwright.sync_api import sync_playwright
    from plotly.offline import get_plotlyjs

    (tmp_path / "plotly.js").write_text(get_plotlyjs())
    parts = []
    for i, (name, options) in enumerate(VARIANTS):
        drawn = figures[name].draw(collect(name, embedded(), **options), theme)
        parts.append(
            f'<div id="plot{i}" style="width:640px"></div><script>(f => Plotly.newPlot("plot{i}", f.data, f.layout))'
            f"({encode(drawn).decode()})</script>"
        )
    narrow = {"data": [{"y": [0.15, 0.18]}], "layout": {"yaxis": style.y_axis(theme, range=[0.149, 0.171])}}
    draw = f'(f => Plotly.newPlot("narrow", f.data, f.layout))({json.dumps(narrow)})'
    parts.append(f'<div id="narrow"></div><script>{draw}</script>')
    page_file = tmp_path / "page.html"
    page_file.write_text(f'<!doctype html><meta charset="utf-8"><script src="plotly.js"></script>{"".join(parts)}')
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 800, "height": 600})
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(page_file.as_uri())
        page.wait_for_function(f"document.querySelectorAll('.main-svg').length >= {2 * len(VARIANTS)}", timeout=30_000)
        outside = page.evaluate(
            """() => [...document.querySelectorAll('.js-plotly-plot')].flatMap(plot => {
                const box = plot.getBoundingClientRect();
                return [...plot.querySelectorAll('.annotation-text, .xtick text, .ytick text')].filter(text => {
                    const own = text.getBoundingClientRect();
                    return own.left < box.left - 1 || own.right > box.right + 1 || own.bottom > box.bottom + 1;
                }).map(text => plot.id + ': ' + text.textContent);
            })"""
        )
        twice = page.evaluate(
            """() => [...document.querySelectorAll('.js-plotly-plot')].flatMap(plot => {
                const axes = Object.groupBy(plot.querySelectorAll('[class$=tick]:not([class*=cb]) > text'),
                    text => text.parentElement.getAttribute('class'));
                return Object.entries(axes)
                    .map(([axis, texts]) => [axis, texts.map(text => text.textContent).filter(Boolean)])
                    .filter(([, texts]) => new Set(texts).size < texts.length).map(found => `${plot.id} ${found}`);
            })"""
        )
        over = page.evaluate(
            """() => [...document.querySelectorAll('.js-plotly-plot')].flatMap(plot => {
                const labels = [...plot.querySelectorAll('.annotation-text-g')]
                    .map(group => ({ text: group.textContent, box: group.getBoundingClientRect() }));
                const meet = ({ box: a }, { box: b }) =>
                    Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2 &&
                    Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3;
                return labels.flatMap((one, i) => labels.slice(i + 1).filter(other => meet(one, other))
                    .map(other => `${plot.id}: ${one.text} | ${other.text}`));
            })"""
        )
        digits = page.locator("#narrow .ytick > text").all_text_contents()
        browser.close()
    assert said == []
    assert outside == []
    assert over == [], "names on each other"
    assert twice == [], "two ticks of an axis with the same text: too few digits"
    assert len(digits) > 2
    assert [f"{float(text):.4g}".removeprefix("0") for text in digits] == digits  # ".155", never "0.155"


@pytest.mark.parametrize(("bounds", "text"), [([0.149, 0.183], ".155"), ([0.149, 0.29], None), (None, None)])
def test_a_narrow_axis_has_three_digits_without_the_zero(bounds: list[float] | None, text: str | None) -> None:
    aliases = style.y_axis("light", **({"range": bounds} if bounds else {}))["labelalias"]
    assert aliases.get("0.155") == text
    assert (aliases["0.15"], aliases["−0.2"]) == (".15", "−.2")
