"""What `export` of an experiment wrote before the present format: solutions.json with rows of arrays in artifacts/.

Members are the final functions of the runs, the trajectory their checkpoints, samples those of each method and set
(named such as swag-typical, for the sets were drawn for different ends). Arrays of other studies (OOD, shift) have no
names in that layout: they are listed as left out.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from modescape.imported import parts
from modescape.imported.arrays import Array, padded, picked, refuse, stacked
from modescape.imported.containers import Container, text
from modescape.imported.ensemble import (
    TEST,
    VALIDATION,
    Ensemble,
    Labels,
    Member,
    MethodSamples,
    OutputKind,
    Recipe,
    Tensors,
    Trajectory,
)

SOLUTIONS = "solutions.json"
_DIGEST = r"^[0-9a-f]{64}$"


class _Row(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Where(_Row):
    artifact: str = Field(pattern=_DIGEST)
    index: int = Field(ge=0)


class _Solution(_Row):
    run: int
    role: str
    method: str | None = None
    sample_set: str | None = None
    index: int = 0
    epoch: float | None = None
    strength: float | None = None
    weights: str | None = Field(None, pattern=_DIGEST)
    predictions: dict[str, _Where] = Field(default_factory=dict)


class _Run(_Row):
    number: int
    seeds: dict[str, Any] = Field(default_factory=dict)


def read_export(lies: Container) -> Ensemble:
    """Raises InvalidInput where it is not whole."""
    return _Export(lies, _rows(lies, SOLUTIONS, _Solution)).ensemble()


def _rows(lies: Container, name: str, of: Any) -> list[Any]:
    try:
        return TypeAdapter(list[of]).validate_json(text(lies, name))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise refuse(name, f"{where}: {first['msg']}", "the file as export wrote it") from error


@dataclass(frozen=True)
class _Export:
    lies: Container
    solutions: Sequence[_Solution]

    def ensemble(self) -> Ensemble:
        optima = self._of("optimum")
        if not optima:
            raise refuse(SOLUTIONS, "no run of it has ended", "an export of an experiment with predictions")
        runs = [one.run for one in optima]
        splits = [split for split in (TEST, VALIDATION) if all(split in one.predictions for one in optima)]
        if TEST not in splits:
            raise refuse(SOLUTIONS, "its runs have no predictions of the test set", "an experiment that kept them")
        labels = {split: self._labels(split) for split in splits}
        outputs = {split: self._outputs(optima, split) for split in splits}
        examples = outputs[TEST].shape[1]
        splits = [split for split in splits if labels[split] is not None or split == TEST]
        return Ensemble(
            name=self.lies.name,
            kind=OutputKind.LOGITS,
            members=self._members(runs),
            sets={one: parts.set_of(one, outputs[one], labels=labels[one], examples=examples) for one in splits},
            recipe=Recipe.SAME,  # an experiment's runs differ by their seeds alone
            samples=self._samples(runs, splits),
            trajectory=self._trajectory(runs, splits),
            weights={str(one.run): self._weights(one.weights) for one in optima if one.weights},
            left_out=self._left_out(),
        )

    def _of(self, role: str) -> list[_Solution]:
        found = [one for one in self.solutions if one.role == role]
        return sorted(found, key=lambda one: (one.run, one.index))

    def _members(self, runs: Sequence[int]) -> tuple[Member, ...]:
        seeds = (
            {one.number: one.seeds for one in _rows(self.lies, "runs.json", _Run)}
            if "runs.json" in self.lies.names
            else {}
        )
        return tuple(Member(str(run), _seed(seeds.get(run, {})), {"seeds": seeds.get(run, {})}) for run in runs)

    def _outputs(self, solutions: Iterable[_Solution], split: str) -> Array:
        rows = [self._row(one.predictions[split]) for one in solutions]
        return parts.outputs(stacked(f"the {split} predictions of {SOLUTIONS}", rows), OutputKind.LOGITS)

    def _row(self, where: _Where) -> Array:
        return picked(self.lies.array(self._there(f"artifacts/{where.artifact}.npy")), where.index)

    def _weights(self, digest: str) -> Tensors:
        return self.lies.tensors(self._there(f"artifacts/{digest}.safetensors"))

    def _there(self, name: str) -> str:
        if name not in self.lies.names:
            raise refuse(name, f"{SOLUTIONS} names it, and it is not there", "an export with all its files")
        return name

    def _labels(self, split: str) -> Labels | None:
        name = f"images-{split}.csv"
        if name not in self.lies.names:
            return None
        try:
            rows = list(csv.DictReader(io.StringIO(text(self.lies, name))))
            return np.array([int(row["label"]) for row in rows], np.int64)
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise refuse(name, f"its labels cannot be read ({error})", "the file as export wrote it") from error

    def _trajectory(self, runs: Sequence[int], splits: Sequence[str]) -> Trajectory | None:
        """Only where every run kept the same checkpoints."""
        by_run = {run: [one for one in self._of("checkpoint") if one.run == run] for run in runs}
        epochs = [[one.epoch for one in by_run[run]] for run in runs]
        if not epochs[0] or any(one != epochs[0] for one in epochs) or None in epochs[0]:
            return None
        found = {split: self._nested(by_run, runs, split) for split in splits if _all_have(by_run, split)}
        ends = {one.epoch for one in self._of("optimum") if one.run in runs}
        last = ends.pop() if len(ends) == 1 else None
        return Trajectory(np.array(epochs[0], np.float64), found, last) if found else None

    def _samples(self, runs: Sequence[int], splits: Sequence[str]) -> dict[str, MethodSamples]:
        groups: dict[str, dict[int, list[_Solution]]] = {}
        for one in self._of("sample"):
            if one.run in runs:
                by_run = groups.setdefault(f"{one.method}-{one.sample_set}", {run: [] for run in runs})
                by_run[one.run].append(one)
        return {
            method: self._method(method, by_run, runs, splits)
            for method, by_run in sorted(groups.items())
            if _all_have(by_run, TEST)
        }

    def _method(
        self, method: str, by_run: Mapping[int, list[_Solution]], runs: Sequence[int], splits: Sequence[str]
    ) -> MethodSamples:
        strengths = [[one.strength for one in by_run[run]] for run in runs]
        known = all(value is not None for some in strengths for value in some)
        longest = max(len(some) for some in strengths)
        strengths = [[*some, *[0.0] * (longest - len(some))] for some in strengths]  # of none that is there
        outputs = {split: self._nested(by_run, runs, split) for split in splits if _all_have(by_run, split)}
        return MethodSamples(method, outputs, np.array(strengths, np.float64) if known else None)

    def _nested(self, by_run: Mapping[int, list[_Solution]], runs: Sequence[int], split: str) -> Array:
        """[runs, most of one run, N, K]: a run of which fewer were kept ends in NaN, which count nowhere."""
        rows = [[self._row(one.predictions[split]) for one in by_run[run]] for run in runs]
        name = f"the {split} predictions of {SOLUTIONS}"
        return parts.outputs(padded(name, rows), OutputKind.LOGITS, lead=2)

    def _left_out(self) -> tuple[str, ...]:
        used = {where.artifact for one in self.solutions for where in one.predictions.values()}
        used |= {one.weights for one in self.solutions if one.weights}
        return tuple(name for name in self.lies.names if name.startswith("artifacts/") and _stem(name) not in used)


def _stem(name: str) -> str:
    return name.rsplit("/", 1)[-1].split(".", 1)[0]


def _seed(seeds: Mapping[str, Any]) -> int | None:
    found = seeds.get("weights")
    return found if isinstance(found, int) else None


def _all_have(by_run: Mapping[int, list[_Solution]], split: str) -> bool:
    return all(split in one.predictions for some in by_run.values() for one in some)
