"""Scores and divergences of groups under corruption, as lines by intensity."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from modescape.drawing import groups
from modescape.drawing.figure import FigureData
from modescape.drawing.numbers import number
from modescape.drawing.options import FigureOptions, Groups, Names, groups_asked, refuse_unknown
from modescape.drawing.reading import FigureNotReady, Floats, Ints
from modescape.drawing.words import listed, thousands
from modescape.figures.shared import scores
from modescape.figures.shared.scores import value_of
from modescape.registry import corruptions
from modescape.results import Results
from modescape.study import needed
from modescape.tables import Measurement

Metric = Literal["accuracy", "brier", "nll", "ece", "nll-calibrated", "ece-calibrated", "js_mean"]
TITLES: Mapping[str, str] = {**scores.TITLES, "js_mean": "Jensen–Shannon divergence, nats"}
WORDS: Mapping[str, str] = {**scores.WORDS, "js_mean": "Jensen–Shannon divergence"}
PLACES = {"range": [-0.2, 1.2], "tickvals": [0, 1], "ticktext": ["test", "own"]}  # below a set with its own images
SOLID = 4  # runs in the solid ensemble, as in the paper, where there are as many


@dataclass(frozen=True)
class Line:
    """One quantity of one group by intensity. corruption: "" for the mean over types; size: runs averaged, 0 for
    divergences; members: functions of a run that are averaged (scores) or compared (divergences); value and sd over
    ensembles or runs [T], NaN where undefined; units: how many ensembles or runs."""

    group: str
    metric: Metric
    size: int
    corruption: str
    intensities: Ints
    value: Floats
    sd: Floats
    members: int
    units: int

    def at(self, intensity: int) -> float:
        """Value at one intensity, or the largest there is, as of images of their own; NaN where it is missing."""
        where = np.flatnonzero(self.intensities == min(intensity, self.intensities[-1]))
        return float(self.value[where[0]]) if len(where) else math.nan


@dataclass(frozen=True)
class Source:
    """Where the corrupted images come from, as words, how many types they are of, and how many images."""

    words: str
    types: tuple[str, ...]
    images: int


@dataclass(frozen=True)
class OwnImages:
    """A set with images of its own: what it is called, and how many of them there are by intensity."""

    title: str
    counts: Mapping[int, int]

    @property
    def is_graded(self) -> bool:
        """Whether there are such at intensities, as of an ensemble made elsewhere; those at 1 alone are at none."""
        return [*self.counts] != [1]

    @property
    def images(self) -> int:
        return max(self.counts.values())

    @property
    def words(self) -> str:
        counts = listed([thousands(count) for count in dict.fromkeys(self.counts.values())])
        return f"{self.title}: {counts} images of its own{' by intensity' * self.is_graded}"


@dataclass(frozen=True, kw_only=True)
class ShiftData(FigureData):
    """Lines of groups by intensity; solid: runs averaged in the solid ones; own: the sets with images of their own, by
    their type. What the line of one that is at no intensity says at 1 is of its images, what it says at 0 of the test
    images."""

    lines: tuple[Line, ...]
    solid: int
    source: Source
    own: Mapping[str, OwnImages]

    def title_of(self, name: str) -> str:
        """As people read a type: "Gaussian noise", "CIFAR-10.1"."""
        return self.own[name].title if name in self.own else type_title(name)

    def is_graded(self, name: str) -> bool:
        """Whether a type is at intensities: of the test images, or of its own."""
        return name not in self.own or self.own[name].is_graded

    def has_intensities(self, line: Line) -> bool:
        """The same of a line. A mean over types has them, unless none of the types has."""
        return any(map(self.is_graded, self._types(line)))

    def _types(self, line: Line) -> Sequence[str]:
        return (line.corruption,) if line.corruption else self.source.types

    def intensities(self, line: Line) -> list[int | None]:
        """As cells of a table: images of their own are at none."""
        known = self.has_intensities(line)
        return [int(one) if known or one == 0 else None for one in line.intensities]

    def images(self, line: Line) -> list[int]:
        """Of how many images each value is."""
        own = [self.own[name].counts for name in self._types(line) if name in self.own]
        return [
            sum(counts.get(int(one), 0) for counts in own) if own and one else self.source.images
            for one in line.intensities
        ]

    @property
    def last(self) -> int:
        """The largest intensity; 0 where all images are their own."""
        return max((int(line.intensities[-1]) for line in self.lines if self.has_intensities(line)), default=0)


def _lines(rows: Sequence[Measurement], metric: Metric) -> list[Line]:
    """Rows of one metric as lines; clean images (intensity 0) begin every line."""
    clean: dict[str, Measurement] = {}
    by: dict[tuple[str, str], list[Measurement]] = {}
    for row in rows:
        if row.intensity == 0:
            clean[row.subject] = row
        else:
            by.setdefault((row.subject, row.corruption or ""), []).append(row)
    return [_line(subject, corruption, metric, [clean[subject], *found]) for (subject, corruption), found in by.items()]


def _line(subject: str, corruption: str, metric: Metric, rows: Sequence[Measurement]) -> Line:
    _, group, *size = subject.split("/")
    rows = sorted(rows, key=lambda row: row.intensity or 0)
    return Line(
        group=group,
        metric=metric,
        size=int(size[0]) if size else 0,
        corruption=corruption,
        intensities=np.array([row.intensity for row in rows], dtype=np.int64),
        value=np.array([number(row.value) for row in rows]),
        sd=np.array([number(row.details["sd"]) for row in rows]),
        members=int(rows[0].details["members"]),
        units=int(rows[0].details["units"]),
    )


def type_title(name: str) -> str:
    """ "Gaussian noise" """
    return corruptions[name].title if name in corruptions else name.replace("_", " ")


group_title = partial(groups.group_title, trajectory="one trajectory")


def _not_ready(results: Results) -> FigureNotReady:
    if results.spec.shift is None:
        return FigureNotReady("no corruptions in this spec; clone it and add a study of shift")
    if results.shifted("accuracy"):
        return FigureNotReady(scores.no_temperature(results.spec, "test"))
    return FigureNotReady("groups are compared when all of them have seen every corruption",
                          waits_for=("shift", "shift-compare"))  # fmt: skip


class ShiftOptions(FigureOptions):
    """Which types and groups are shown."""

    redraws: ClassVar[bool] = True

    corruption: Names = Field((), max_length=19, description="Types of corruption, comma-separated; empty means all.")
    method: Groups = Field(
        (), max_length=16, description="Groups shown, comma-separated: independent, trajectory, methods; empty: all."
    )

    def groups_of(self, results: Results) -> list[str]:
        """Groups asked for, in the order of the spec. Raises InvalidInput for one it does not have."""
        return groups_asked(self.method, results)

    @classmethod
    def choices(cls, results: Results) -> Mapping[str, Mapping[str, str]]:
        types = (row.corruption for row in results.shifted("accuracy", by_type=True) if row.corruption)
        own = own_images(results)
        titles = {name: own[name].title if name in own else type_title(name) for name in types}
        return {"corruption": {"": "all", **titles}}


def read_lines(results: Results, options: ShiftOptions, metrics: Sequence[Metric], *, by_type: bool) -> list[Line]:
    """Lines of the groups and types asked for. Raises FigureNotReady, and InvalidInput for types that are not there."""
    groups, found = options.groups_of(results), []
    for metric in metrics:
        found += _lines(results.shifted(metric, by_type=by_type or bool(options.corruption)), metric)
    if not found:
        raise _not_ready(results)
    there = list(dict.fromkeys(line.corruption for line in found if line.corruption))
    refuse_unknown("corruption", options.corruption, there, "corruption")
    shown = [line for line in found if not options.corruption or line.corruption in options.corruption]
    shown.sort(key=lambda line: groups.index(line.group) if line.group in groups else -1)
    if not any(line.group in groups for line in shown):
        raise FigureNotReady("none of the groups asked for was shown corrupted images")
    return [line for line in shown if line.group in groups]


def source_of(results: Results, chosen: Sequence[str]) -> Source:
    """Read off the means over all types, which say where their images come from."""
    clean, *rows = sorted(results.shifted("accuracy"), key=lambda row: row.intensity or 0)
    about: Mapping[str, Any] = rows[-1].details["from"]
    types = tuple(chosen) or needed(results.spec.shift).corruptions
    if not types:
        there = dict.fromkeys(row.corruption for row in results.shifted("accuracy", by_type=True) if row.corruption)
        own = own_images(results)  # which are in no mean over types, unless there are no others
        types = tuple(name for name in there if name not in own) or tuple(there)
    if about["source"] == "imported":
        return Source("as the members saw them elsewhere", types, int(clean.n or 0))
    if about["source"] == "published":
        return Source(f"the published set in the folder {about['folder']}", types, int(clean.n or 0))
    constants = "CIFAR" if about["constants"] == "cifar" else "ImageNet"
    words = f"corrupted here with the {constants} constants, version {about['version']}, not a published set"
    if results.spec.data.dataset == "fashion-mnist":
        words = f"in-house F-MNIST-C ({constants} constants), version {about['version']}"
    if "frost" in types:
        photographs = about.get("photographs")
        words += f"; frost is from the photographs in {photographs}" if photographs else "; frost is procedural"
    return Source(words, types, int(clean.n or 0))


@dataclass(frozen=True)
class OtherImages:
    """What a set with images of its own does to single runs: accuracy or disagreement here, on the test images, and
    there; the change with its interval (NaN where there is none), over images alone where only_images says so."""

    title: str
    images: int
    here: float
    there: float
    low: float
    high: float
    images_only: bool


def other_images(results: Results, metric: Literal["accuracy-change", "disagreement-change"]) -> list[OtherImages]:
    return [
        OtherImages(
            row.details["title"], int(row.n or 0), float(row.details["here"]), float(row.details["there"]),
            number(row.details["low"]), number(row.details["high"]), bool(row.details["images_only"]),
        )
        for row in results.shifted(metric, by_type=True)
    ]  # fmt: skip


def own_images(results: Results) -> dict[str, OwnImages]:
    """The sets with images of their own, by their type."""
    found: dict[str, OwnImages] = {}
    for row in sorted(results.shifted("accuracy-change", by_type=True), key=lambda row: row.intensity or 0):
        before = found[row.corruption].counts if row.corruption in found else {}
        counts = {**before, int(row.intensity or 0): int(row.n or 0)}
        found[row.corruption or ""] = OwnImages(row.details["title"], counts)
    return found


def bounds_of(lines: Sequence[Line], metric: Metric) -> list[float]:
    return scores.bounds_of(metric, np.concatenate([line.value for line in lines]) if lines else np.array([]))


def hover(data: ShiftData, line: Line, i: int) -> str:
    if line.size:
        inside = f", {line.members} samples each" if line.members > 1 else ""
        head = ("one run" if line.size == 1 else f"{line.size} runs averaged") + inside
    else:
        head = f"{line.members} functions"
    spread = f" ± {value_of(line.metric, float(line.sd[i]))}" if np.isfinite(line.sd[i]) else ""
    unit = " %" if line.metric == "accuracy" else ""
    intensity = data.intensities(line)[i]
    clean = "clean" if data.has_intensities(line) else "the test images"
    where = "images of its own" if intensity is None else f"intensity {intensity}" if intensity else clean
    where = f"{data.title_of(line.corruption)}, {where}" if line.corruption else where
    value = f"{value_of(line.metric, float(line.value[i]))}{spread}{unit}"
    return f"<b>{group_title(line.group)}, {head}</b><br>{where}<br>{WORDS[line.metric]}  {value}"
