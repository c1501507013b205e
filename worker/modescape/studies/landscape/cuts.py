"""Cuts through weight space: which there are, what they go through, and how they are told apart."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modescape.drawing.groups import refuse_skipped
from modescape.drawing.reading import FigureNotReady
from modescape.drawing.words import thousands
from modescape.records import Role
from modescape.registry import method_title
from modescape.results import Results
from modescape.studies.landscape.reading import PlaneData, planned_cuts
from modescape.tables import Solution

LOSS, ACCURACY, AGREEMENT = 0, 1, 2  # places in the last axis of a cut's scores; one agreement a solution
SPLIT_WORDS = {"train": "training", "test": "test", "validation": "validation"}


@dataclass(frozen=True)
class Anchor:
    """A solution the plane goes through."""

    number: int
    run: int
    words: str
    x: float
    y: float


def through(results: Results, params: Mapping[str, Any]) -> list[Solution]:
    """The solutions a cut goes through, in its order."""
    if "solutions" in params:
        known_ones = {solution.number: solution for solution in results.solutions()}
        lost = [number for number in params["solutions"] if number not in known_ones]
        if lost:
            raise FigureNotReady(f"it goes through solution {lost[0]}, whose run or predictions failed", closed=True)
        return [known_ones[number] for number in params["solutions"]]
    return [results.solutions(run=run, role=Role.OPTIMUM)[0] for run in params["runs"]]


def refuse_closed(results: Results, names: Iterable[str], there: Collection[str]) -> None:
    """Raises FigureNotReady when none of these cuts is there and one of them was skipped."""
    if not any(name in there for name in names):
        for name in names:
            refuse_skipped(results, "plane", f"{name}/0")


def closed(results: Results, names: Iterable[str]) -> str:
    """Which of these cuts are not there because of what has failed, and why."""
    lost = [(name, results.skipped("plane", f"{name}/0")) for name in names]
    return " ".join(f"Cut {name} is not shown: {why}." for name, why in lost if why)


def anchors_of(results: Results, plane: PlaneData) -> tuple[Anchor, ...]:
    """The solutions a cut goes through, in its order, with words that tell them apart."""
    return tuple(
        Anchor(solution.number, solution.run, _words(solution), float(x), float(y))
        for solution, (x, y) in zip(through(results, plane.params), plane.anchors, strict=True)
    )


_KINDS = {"radial": "origin · {}", "affine": "{}", "random": "random around {}", "line": "line {}"}


def titles(results: Results, *, lines: bool) -> dict[str, str]:
    """Name -> what a cut goes through, in words, of all planned ones; with `lines` those that hold straight lines."""
    chosen = {
        name: params
        for name, params in planned_cuts(results).items()
        if (params["kind"] != "affine" if lines else params["kind"] != "line")
    }
    words = []
    for params in chosen.values():
        if "solutions" in params:
            known_ones = {solution.number: solution for solution in results.solutions()}
            numbers = params["solutions"]
            through = [_words(known_ones[n]) if n in known_ones else f"solution {n}, which failed" for n in numbers]
        else:
            through = [f"run {run}" for run in params["runs"]]
        words.append(_KINDS[params["kind"]].format(" · ".join(through)))
    return dict(zip(chosen, told_apart(words, list(chosen.values())), strict=True))


# What else may differ between cuts through the same solutions, and how it is said.
_DETAILS: Mapping[str, Callable[[Any], str]] = {
    "seed": lambda seed: f"seed {seed}",
    "split": lambda split: f"{SPLIT_WORDS[split]} images",
    "resolution": lambda points: f"{points} points",
    "train_images": lambda images: f"{thousands(images)} training images",
    "test_images": lambda images: f"{thousands(images)} images",
}


def details_of(params: Mapping[str, Any]) -> tuple[Any, ...]:
    """What `_DETAILS` are of a cut; only random directions have a seed."""
    return tuple(params.get(key) if key != "seed" or params["kind"] == "random" else None for key in _DETAILS)


def told_apart(words: Sequence[str], cuts: Sequence[Mapping[str, Any]]) -> list[str]:
    """The words; equal ones with the details in which their cuts differ."""
    found = []
    for word, params in zip(words, cuts, strict=True):
        twins = [details_of(other) for same, other in zip(words, cuts, strict=True) if same == word]
        said = [
            says(value)
            for i, (says, value) in enumerate(zip(_DETAILS.values(), details_of(params), strict=True))
            if len({twin[i] for twin in twins}) > 1
        ]
        found.append(", ".join((word, *said)))
    return found


def _words(solution: Solution) -> str:
    if solution.role == Role.OPTIMUM:
        return f"run {solution.run}"
    if solution.method is None:
        return f"run {solution.run}, epoch {solution.epoch:.4g}"
    return f"{method_title(solution.method)} {solution.index + 1}, run {solution.run}"
