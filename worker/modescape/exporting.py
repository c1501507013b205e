"""An experiment as an ensemble in the format that import reads (`imported`): the same names, the same set digest.

    ensemble = ensemble_of(laboratory.results("own"))
    write(ensemble, "own.zip")                          # imported.writing

An imported ensemble goes out as it came in. Of an experiment that was trained here every array and weight that it keeps
has a place; what has none is listed as left out.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from modescape.artifacts import Artifacts
from modescape.errors import NotFound
from modescape.imported import old_exports, parts
from modescape.imported.arrays import Array, held, mapped, padded, picked, refuse, stacked
from modescape.imported.ensemble import (
    TEST,
    Ensemble,
    ExampleSet,
    Labels,
    MethodSamples,
    OutputKind,
    Recipe,
    Tensors,
    place_of,
)
from modescape.imported.ensemble import SetRole as Of
from modescape.imported.manifest import NAME
from modescape.imported.reading import read_format
from modescape.own_sets import place_name
from modescape.pieces import KEPT
from modescape.records import Group, Json, Role, SampleSet, group_name
from modescape.registry import methods
from modescape.results import Results
from modescape.tables import Solution, Stage

_DIGEST = re.compile(r"[0-9a-f]{64}")
CURVES, GIVEN = "curves", "given"  # as `stages.curves` and `stages.given` name them, which load what computes
_ROOMS = {"train": "snapshots", "chain": "chains"}
Found = dict[str, Array | Tensors]


def ensemble_of(results: Results) -> Ensemble:
    """What an experiment keeps, as it would be imported. Raises NotFound before its first run has predictions."""
    kept = (results.experiment.provenance or {}).get(KEPT)
    if kept is None:
        return _Trained(results).ensemble()
    pieces = [
        json.loads(results.artifacts.sound_array(one).tobytes()) for one in ([kept] if isinstance(kept, str) else kept)
    ]
    name, texts = results.experiment.name, {NAME: _manifest([json.loads(one[NAME]) for one in pieces])}
    places = _places([one["files"] for one in pieces]) | dict(_logged(results))
    left_out: tuple[str, ...] = ()
    if not results.spec.imported or not results.spec.imported.epochs:  # members that have others have none together
        left_out = ("what checkpoints of other epochs said",) if any(map(_is_along, places)) else ()
        places = {name: lies for name, lies in places.items() if not _is_along(name)}
    found = read_format(Stored(name, results.artifacts, texts, places))
    return replace(found, name=name, left_out=(*found.left_out, *left_out))


def _is_along(name: str) -> bool:
    return name.startswith("trajectory.")


@dataclass(frozen=True)
class Joined:
    """Small arrays of which each has some members, in their order."""

    digests: tuple[str, ...]


Place = str | Sequence[str] | Joined


@dataclass(frozen=True)
class Stored:
    """Files of an experiment as a container (`imported.containers`). places: name -> digest, or one a member."""

    name: str
    artifacts: Artifacts
    texts: Mapping[str, str]
    places: Mapping[str, Place]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted([*self.texts, *self.places]))

    def size(self, name: str) -> int:
        return len(self.texts[name].encode())

    def open(self, name: str) -> IO[bytes]:
        return io.BytesIO(self.texts[name].encode())

    def array(self, name: str) -> Array:
        lies = self.places[name]
        if isinstance(lies, str):
            return mapped(self.artifacts.sound(lies), name)
        if isinstance(lies, Joined):
            return held(name, np.concatenate([self.artifacts.sound_array(one) for one in lies.digests]))
        return stacked(name, [mapped(self.artifacts.sound(one), f"{name}[{i}]") for i, one in enumerate(lies)])

    def tensors(self, name: str) -> Tensors:
        lies = self.places[name]
        if not isinstance(lies, str):
            raise refuse(name, "it is an array of every member", "tensors")
        return tensors_at(name, self.artifacts.sound(lies))


def _manifest(said: Sequence[Json]) -> str:
    """What all pieces said together, of a list of each."""
    together = {**said[0], "members": [one for piece in said for one in piece["members"]]}
    together["left_out"] = list(dict.fromkeys(one for piece in said for one in piece["left_out"]))
    return json.dumps(together)


def _places(pieces: Sequence[Mapping[str, str | Sequence[str]]]) -> dict[str, Place]:
    """Where the files of all pieces lie: those of one a member, one after another; those that all pieces share, once;
    a member's own, such as its weights; and numbers of every member, such as strengths, joined."""
    found: dict[str, Place] = {}
    for name in dict.fromkeys(name for piece in pieces for name in piece):
        here = [piece[name] for piece in pieces if name in piece]
        texts = [one for one in here if isinstance(one, str)]
        if not texts:
            found[name] = [digest for one in here for digest in one]
        else:
            found[name] = texts[0] if len(set(texts)) == 1 else Joined(tuple(texts))
    return found


def _logged(results: Results) -> Iterator[tuple[str, str]]:
    """Curves that were logged before their member came, which is read with its points beside it."""
    members = (results.experiment.provenance or {})["members"]
    for stage in results.stages:
        if stage.kind == CURVES:
            for place, digest in stage.params.get(GIVEN, {}).items():
                name = place.removeprefix(f"{CURVES}/")
                yield f"{CURVES}/{members[stage.params['run']]['id']}/{name}.npy", digest


def _stage_of(method: str, which: str, run: int) -> tuple[str, str]:
    """Kind and key of the stage that made a run's samples."""
    return ("last", f"{run}/{method}") if which == SampleSet.LAST else ("sample", f"{run}/{method}/{which}")


def tensors_at(name: str, path: Path) -> Tensors:
    return Tensors(name, path.stat().st_size, lambda: path.open("rb"), path)


# --- of an experiment that was trained here ---------------------------------------------------------------------------


@dataclass
class _Trained:
    """What an experiment keeps, by place. used: digests that have one."""

    results: Results
    used: set[str] = field(default_factory=set)
    left_out: list[str] = field(default_factory=list)
    labels: dict[str, Labels] = field(default_factory=dict)  # of sets with images of their own

    def ensemble(self) -> Ensemble:
        solutions = self.results.store.results.all_solutions(self.results.experiment.id)
        if not any(TEST in one.predictions for one in solutions if one.role == "optimum"):
            raise NotFound("no run has predictions yet, so there is no ensemble to write")
        found = old_exports.read_export(self._rows(solutions))
        self.used |= {place["artifact"] for one in solutions for place in one.predictions.values()}
        self.used |= {one.weights for one in solutions if one.weights and one.role == "optimum"}
        imported = self.results.spec.imported
        found = self._with_sets(replace(found, name=self.results.experiment.name, classes=tuple(self._classes())))
        found = replace(found, samples={name: self._whole(one, found) for name, one in found.samples.items()})
        here = {int(member.id) for member in found.members}
        self.left_out += [
            f"run {run}, which failed: {why}" for run, why in self.results.failed.items() if run not in here
        ]
        rest = dict(self._rest(solutions))
        recipe = Recipe.SAME if imported is None else Recipe(imported.recipe)
        kind = OutputKind.LOGITS if self.results.spec.has_probabilities else OutputKind.LABELS
        return replace(found, kind=kind, recipe=recipe, rest=rest, left_out=(*self.left_out, *self._unplaced()))

    def _classes(self) -> list[str]:
        return self.results.class_names

    def _rows(self, solutions: Sequence[Solution]) -> Stored:
        """The layout that export wrote before, of which the arrays stay where they lie."""
        texts = {
            old_exports.SOLUTIONS: json.dumps([self._solution(one) for one in solutions]),
            "runs.json": json.dumps([{"number": run.number, "seeds": run.seeds} for run in self.results.runs]),
        }
        for split in self.results.spec.evaluation.splits:
            labels = "\n".join(map(str, self.results.true_labels(split).tolist()))
            texts[f"images-{split}.csv"] = f"label\n{labels}\n"
        digests = {place["artifact"] for one in solutions for place in one.predictions.values()}
        digests |= {one.weights for one in solutions if one.weights}
        files = (self.results.artifacts.sound(one) for one in digests if self.results.artifacts.exists(one))
        places = {f"artifacts/{path.name}": path.stem for path in files}
        return Stored(self.results.experiment.name, self.results.artifacts, texts, places)

    def _whole(self, samples: MethodSamples, ensemble: Ensemble) -> MethodSamples:
        """With what they were drawn around, where that is not their member, and of last iterates which are better."""
        method, _, which = samples.method.rpartition("-")
        runs = [int(one.id) for one in ensemble.members]
        extras = {run: self.results.extra(*_stage_of(method, which, run)) or {} for run in runs}
        if which == SampleSet.LAST:
            told = [one.get("better", False if run in self.results.failed else None) for run, one in extras.items()]
            return samples if None in told else replace(samples, better=np.array(told, np.bool_))
        centre = {}
        for split in samples.outputs:
            digests = {run: one["centre"][split] for run, one in extras.items() if split in one.get("centre", {})}
            if digests and self._has_all(digests, runs):
                there = {run: self._array(split, one) for run, one in digests.items()}
                centre[split] = _stacked(f"the centres of {samples.method}", there, runs)
                self.used.update(digests.values())
        is_rate = method in methods and methods[method].strength == "rate"  # one that a plug-in brought may be gone
        return replace(samples, centre=centre, is_rate=is_rate or None)

    # ---- other images ----

    def _with_sets(self, ensemble: Ensemble) -> Ensemble:
        """With OOD and shift: of the members, and of those samples that were evaluated, which are the first."""
        sets, samples = dict(ensemble.sets), dict(ensemble.samples)
        runs = [int(member.id) for member in ensemble.members]
        by_group: dict[tuple[str, str], dict[int, Array]] = {}
        digests: dict[tuple[str, str], set[str]] = {}
        for group, place, run, array, digest in [*self._ood(), *self._shift()]:
            by_group.setdefault((group, place), {})[run] = array
            digests.setdefault((group, place), set()).add(digest)
        placed: set[tuple[str, str]] = set()
        for (group, place), rows in by_group.items():
            if self._has_all(rows, runs) and group == Group.INDEPENDENT:
                array = _stacked(place, {run: picked(array, 0) for run, array in rows.items()}, runs)
                sets[place] = self._set(place, array, ensemble)
                placed.add((group, place))
        for (group, place), rows in by_group.items():
            if group in (Group.INDEPENDENT, Group.TRAJECTORY) or place not in sets or not self._has_all(rows, runs):
                continue
            name = f"{group}-{self.results.averaged_set(group)}"
            if name not in samples or any(not self._are_first(group, run, array) for run, array in rows.items()):
                continue  # without a broken one, say: matrices
            functions = [
                [picked(rows[run], i) for i in range(rows[run].shape[0])] if run in rows else [] for run in runs
            ]
            array = padded(f"{place} of {group}", functions)
            samples[name] = replace(samples[name], outputs={**samples[name].outputs, place: array})
            placed.add((group, place))
        along = (place for group, place in by_group if group == Group.TRAJECTORY)
        self.left_out += [f"what checkpoints said of {place}" for place in sorted(set(along))]
        for group, place in sorted(by_group.keys() - placed):
            if group != Group.TRAJECTORY:
                who = "runs" if group == Group.INDEPENDENT else f"samples of {group}"
                self.left_out.append(f"what {who} said of {place}")
        elsewhere = {one for key, some in digests.items() if key not in placed for one in some}
        self.used |= {one for key in placed for one in digests[key]} - elsewhere
        return replace(ensemble, sets=sets, samples=samples)

    def _has_all(self, rows: Mapping[int, Any], runs: Sequence[int]) -> bool:
        """Whether every member has one, but those that have failed, of which nothing else was made."""
        return set(runs) - set(self.results.failed) <= rows.keys() <= set(runs)

    def _are_first(self, method: str, run: int, array: Array) -> bool:
        """Whether functions [S, n, K] are a method's first S samples of the format's, all of them in their order."""
        count, places = array.shape[0], self.results.places(method)
        chosen = self.results.group(method, run, count)
        return [places.get(one.index, one.index) for one in chosen] == list(range(count))

    def _solution(self, row: Solution) -> dict[str, Any]:
        wanted = ("run", "role", "method", "sample_set", "index", "epoch", "strength", "weights", "predictions")
        found = {name: getattr(row, name) for name in wanted}
        if row.role == Role.SAMPLE and row.method is not None and row.sample_set == SampleSet.TYPICAL:
            found["index"] = self.results.places(row.method).get(row.index, row.index)
        return found

    def _set(self, place: str, array: Array, ensemble: Ensemble) -> ExampleSet:
        labels = self.labels.get(place)
        own = None if place.startswith("ood/") else labels is not None
        return parts.set_of(place, array, labels=labels, examples=ensemble.test.count, own_images=own)

    def _ood(self) -> Iterator[tuple[str, str, int, Array, str]]:
        given = [
            (one.name or place_name(one.path, one.dataset)).replace("/", "-") if one.path else one.dataset
            for one in self.results.spec.ood
        ]
        names = [one if given.index(one) == i else f"{one}-{i + 1}" for i, one in enumerate(given)]
        for stage in self._ended("ood"):
            for group, digest in stage.result["extra"].get("groups", {}).items():
                place = place_of(Of.OOD, names[stage.params["set"]])
                yield group_name(group), place, stage.params["run"], self._array(place, digest), digest

    def _shift(self) -> Iterator[tuple[str, str, int, Array, str]]:
        examples = len(self.results.true_labels(TEST)) if TEST in self.results.spec.evaluation.splits else 0
        study, titles = self.results.spec.shift, {}
        if study is not None and self.results.spec.imported is None:
            titles = {other.key: other.title for other in study.other_sets(self.results.spec.data)}
        for stage in self._ended("shift"):
            extra, run, group = stage.result["extra"], stage.params["run"], group_name(stage.params["group"])
            for one in extra.get("own", ()):
                place = place_of(Of.SHIFT, titles.get(one["cell"][0], one["cell"][0]).replace("/", "-"), one["cell"][1])
                own = self._array(place, one["logits"])
                self.labels[place] = self.results.artifacts.sound_array(one["labels"])
                self.used.add(one["labels"])
                functions = [picked(picked(own, s), 0) for s in range(own.shape[0])]
                yield group, place, run, stacked(place, functions), one["logits"]
            if "logits" not in extra or extra["images"] > examples:
                continue  # sums alone: among the rest
            whole = self._array(f"shift/{stage.key}", extra["logits"])
            for c, (name, intensity) in enumerate(extra["cells"]):
                if name is not None:
                    cells = [picked(picked(whole, s), c) for s in range(whole.shape[0])]
                    place = place_of(Of.SHIFT, name, intensity)
                    yield group, place, run, stacked(place, cells), extra["logits"]

    def _ended(self, kind: str) -> Iterator[Stage]:
        for stage in self.results.stages:
            extra = stage.result.get("extra", {}) if stage.kind == kind else {}
            if extra and not extra.get("skipped"):
                yield stage

    def _array(self, name: str, digest: str) -> Array:
        return mapped(self.results.artifacts.sound(digest), name)

    # ---- networks, matrices, and all else ----

    def _rest(self, solutions: Sequence[Solution]) -> Iterator[tuple[str, Array | Tensors]]:
        named = dict(self._named(solutions))
        for name, digest in sorted(named.items()):
            if digest in self.used or not self.results.artifacts.exists(digest):
                continue
            self.used.add(digest)
            path = self.results.artifacts.sound(digest)
            yield name + path.suffix, tensors_at(name, path) if path.suffix != ".npy" else mapped(path, name)

    def _named(self, solutions: Sequence[Solution]) -> Iterator[tuple[str, str]]:
        """name without its ending -> digest."""
        for matrix in self.results.store.results.matrices(self.results.experiment.id):
            yield _plain(f"matrices/{matrix.name}{'.' + matrix.split if matrix.split else ''}"), matrix.artifact
        for one in solutions:
            if one.weights:
                what = "-".join(filter(None, (one.role, one.method, one.sample_set, str(one.index))))
                yield _plain(f"snapshots/{one.run}/{what}"), one.weights
        for stage in self.results.stages:
            kept = {one["digest"]: one for one in stage.result.get("artifacts", [])}
            for at, digest in _digests(stage.result.get("extra", {})):
                if digest in kept:
                    room = "arms" if kept[digest]["kind"] == "weights" else "matrices"
                    yield _plain(f"{_ROOMS.get(stage.kind, f'{room}/{stage.kind}')}/{stage.key}/{at}"), digest
        for stage in self.results.stages:  # what no result names: matrices of an earlier comparison, knots of a path
            for one in stage.result.get("artifacts", []):
                if one["kind"] not in ("labels", "origins"):
                    room = _ROOMS.get(stage.kind, f"{'arms' if one['kind'] == 'weights' else 'matrices'}/{stage.kind}")
                    yield _plain(f"{room}/{stage.key}/{one['kind']}-{one['digest'][:12]}"), one["digest"]

    def _unplaced(self) -> Iterator[str]:
        for stage in self.results.stages:
            for one in stage.result.get("artifacts", []):
                if one["digest"] not in self.used and one["kind"] not in ("labels", "origins"):
                    self.used.add(one["digest"])
                    yield f"{stage.kind}/{stage.key}: {one['kind']} {one['digest'][:12]}"


def _stacked(name: str, rows: Mapping[int, Array], runs: Sequence[int]) -> Array:
    """[runs, ...]: a run that has none is NaN, which counts nowhere."""
    whole = padded(name, [[rows[run]] if run in rows else [] for run in runs])
    return stacked(name, [picked(picked(whole, i), 0) for i in range(len(runs))])


def _digests(value: Any, at: str = "") -> Iterator[tuple[str, str]]:
    """Where in a document digests stand, and which."""
    if isinstance(value, str):
        if _DIGEST.fullmatch(value):
            yield at, value
        return
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inside:
        yield from _digests(one, f"{at}-{key}" if at else str(key))


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._/-]+", "-", name)
