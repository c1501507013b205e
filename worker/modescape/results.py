"""What an experiment has found so far, for figures, API and notebook: rows from the store, arrays from the artifacts.

    results = Results(store, artifacts, "quickstart")
    optima = results.solutions(role=Role.OPTIMUM)
    results.logits(optima[0], "test").shape         # (1200, 10)

Read-only, and honest while the experiment still runs: it gives what is there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modescape.artifacts import Artifacts
from modescape.claims import CLAIMS
from modescape.claims.record import ClaimRecord
from modescape.errors import InvalidInput, NotFound
from modescape.finding import Finding
from modescape.listing import Condition
from modescape.methods.trained import FreshOptions
from modescape.names import meant
from modescape.records import Group, Json, Role, SampleSet, StageKind, StageState, group_name
from modescape.registry import methods
from modescape.science.health import run_failure
from modescape.spec import ExperimentSpec, stored
from modescape.store import Store
from modescape.tables import Experiment, LoggedMember, Measurement, Run, Solution, Stage
from modescape.voice import Voice, voice_of

STOPPED = "stopped with an error"  # of a stage, where a run could have diverged and did not


@dataclass(frozen=True)
class MatrixData:
    """values [len(rows), len(columns)] float64; rows and columns are solution numbers (or names of coordinates)."""

    name: str
    split: str
    values: NDArray[np.float64]
    rows: list[int]
    columns: list[Any]
    details: Json
    artifact: str


def kept_failure(left: Mapping[str, Any], main: str, artifacts: Artifacts) -> str:
    """Why a run has failed, read off what its predict stage left; "" when it has not. main: the split of chance."""
    finals = {split: artifacts.sound_array(digest)[-1] for split, digest in left["logits"].items()}
    return run_failure(finals, artifacts.sound_array(left["labels"][main]), main, len(left["classes"]))


def sure_of(labels: NDArray[Any], classes: int) -> NDArray[np.float32]:
    """Logits [..., N, K] of functions of which only the predicted labels [..., N] are known: all on that class, so that
    averages are votes."""
    logits = np.full((*labels.shape, classes), -100.0, np.float32)  # exp(-100) is lost beside 1
    np.put_along_axis(logits, labels[..., None].astype(np.int64), 0.0, axis=-1)
    return logits


class Results:
    """One experiment's rows and arrays. of: its slug, its id, or its row. Raises NotFound when there is no such
    experiment."""

    def __init__(self, store: Store, artifacts: Artifacts, of: str | Experiment) -> None:
        self.store = store
        self.artifacts = artifacts
        self.experiment: Experiment = store.experiments.get(of) if isinstance(of, str) else of

    @cached_property
    def spec(self) -> ExperimentSpec:
        return stored(self.experiment.spec)

    @cached_property
    def voice(self) -> Voice:
        """How sentences about it call its parts."""
        return voice_of(self.experiment.provenance, self.experiment.spec)

    @cached_property
    def stages(self) -> list[Stage]:
        """All, with their results, which can be large: `planned` and `stages_of` are enough for most questions."""
        return self.store.stages.of(self.experiment.id)

    @cached_property
    def planned(self) -> list[Stage]:
        """All, without results."""
        return self.store.stages.without_results(self.experiment.id)

    def stages_of(self, kind: str) -> list[Stage]:
        """Those of a kind, with their results."""
        if kind not in self._by_kind:
            self._by_kind[kind] = self.store.stages.of(self.experiment.id, kind)
        return self._by_kind[kind]

    @cached_property
    def _by_kind(self) -> dict[str, list[Stage]]:
        return {}

    @cached_property
    def runs(self) -> list[Run]:
        return self.store.results.runs(self.experiment.id)

    @cached_property
    def failed(self) -> dict[int, str]:
        """Run -> why it has failed (science.health), of those that have; what they made counts nowhere.

        The stages that train and predict tell it. Predictions from before they did are judged here, by the same rule.
        """
        found = {run.number: run.failed for run in self.runs}
        untold = {run for run, why in found.items() if why is None}
        for stage in self.planned:
            run = stage.params.get("run")
            if run not in found or stage.kind not in (StageKind.TRAIN, StageKind.PREDICT):
                continue
            if stage.state == StageState.FAILED and stage.error.get("type") != "NeedFailed":
                found[run] = f"{stage.kind}/{stage.key} {STOPPED}: {stage.error.get('message', '')}"
            elif run in untold and stage.kind == StageKind.PREDICT and stage.state == StageState.SUCCEEDED:
                kept = next(one for one in self.stages_of(StageKind.PREDICT) if one.id == stage.id)
                found[run] = kept_failure(kept.result["extra"], self.spec.evaluation.splits[0], self.artifacts)
        return {run: why for run, why in found.items() if why}

    @property
    def healthy(self) -> list[int]:
        """Numbers of the runs that have not failed, those that are still in training among them."""
        return [run for run in range(self.spec.ensemble.runs) if run not in self.failed]

    @cached_property
    def failed_chains(self) -> dict[str, dict[int, str]]:
        """Method -> run beside which its chain stood -> why that chain has failed, of those that have."""
        found: dict[str, dict[int, str]] = {}
        for params, why in self.store.stages.failures(self.experiment.id, (StageKind.CHAIN, StageKind.SAMPLE)):
            found.setdefault(params["method"], {}).setdefault(params["run"], why)
        return found

    def chains(self, method: str) -> int:
        """Chains of a method: one beside every run, or (those that train on) one from every healthy run's optimum."""
        return self.spec.ensemble.runs if self._is_apart(method) else len(self.healthy)

    def _is_apart(self, method: str | None) -> bool:
        """Whether its samples are of networks that it trains by itself: what becomes of the run beside one says nothing
        of it."""
        return (
            self.spec.imported is None
            and method is not None
            and method in methods
            and methods[method].trained == "fresh"
        )

    @cached_property
    def _solutions(self) -> list[Solution]:
        """All but those of failed runs, and those whose predictions are not finite, which have no accuracy."""
        found = self.store.results.all_solutions(self.experiment.id)
        return [s for s in found if s.accuracy is not None and (s.run not in self.failed or self._is_apart(s.method))]

    def solutions(
        self,
        *,
        run: int | None = None,
        role: Role | None = None,
        method: str | None = None,
        sample_set: SampleSet | None = None,
    ) -> list[Solution]:
        """Solutions by number, without what has failed; each argument narrows. Optima are the last checkpoints of their
        runs."""
        return [
            s
            for s in self._solutions
            if (run is None or s.run == run)
            and (role is None or s.role == role)
            and (method is None or s.method == method)
            and (sample_set is None or s.sample_set == sample_set)
        ]

    def averaged_set(self, method: str) -> SampleSet:
        """The set of a method's samples that is averaged and compared: fair where a strength is chosen for it."""
        chosen = any(s.kind == "sample" and s.key.endswith(f"/{method}/{SampleSet.FAIR}") for s in self.planned)
        return SampleSet.FAIR if chosen else SampleSet.TYPICAL

    def averaged(self, method: str, run: int) -> list[Solution]:
        """A run's samples of that set: one where the best strength is 0, none where all fell below a floor."""
        return self.solutions(run=run, method=method, sample_set=self.averaged_set(method))

    def group(self, name: str, run: int, size: int) -> list[Solution]:
        """The first `size` functions of a run's part of a group that studies compare; fewer where an accuracy floor let
        fewer pass, and one where a method's best strength is 0.

        Of a chain that started afresh the last sample of each cycle comes first, that of the latest cycle before the
        others, then the second last of each: the first cycle begins far from any solution, its samples are the worst.
        """
        solutions = self.solutions(run=run)
        if name == Group.INDEPENDENT:
            return [s for s in solutions if s.role == Role.OPTIMUM]
        if name == Group.TRAJECTORY:
            checkpoints = [s for s in solutions if s.role != Role.SAMPLE and s.index > 0]  # never the initial weights
            return sorted(checkpoints, key=lambda s: s.index)[-size:]
        places = self.places(name)
        return sorted(self.averaged(name, run), key=lambda s: places.get(s.index, s.index))[:size]

    def places(self, method: str) -> dict[int, int]:
        """Of a method whose chain starts afresh: the place of each sample by its index, those first that stand for it
        where there is room for a few; {} of others, whose samples are alike."""
        if not self._is_apart(method):
            return {}
        entry = methods[method]
        chosen = next(one for one in self.spec.methods if one.method == method)
        options = entry.options.model_validate(chosen.options)
        assert isinstance(options, FreshOptions)  # what `Method.trained` promises
        return {index: place for place, index in enumerate(options.best_first)}

    def last_iterate(self, method: str, run: int) -> Solution | None:
        """Where a method's own training beside a run ended; None for methods that train nothing."""
        entry = self.spec.method(method)
        if entry.trained == "continued" or self.spec.imported is not None:
            return next(iter(self.solutions(run=run, method=method, sample_set=SampleSet.LAST)), None)
        if entry.trained == "fresh":
            return max(self.solutions(run=run, method=method), key=lambda sample: sample.index, default=None)
        return None

    def logits(self, solution: Solution, split: str) -> NDArray[np.float32]:
        """float32 logits [N, K] of one solution, mapped from disk. Raises NotFound when the split was not kept."""
        kept = solution.predictions.get(split)
        if kept is None:
            raise NotFound(
                f"solution {solution.number} has no predictions on {split}; kept: {', '.join(solution.predictions)}"
            )
        array: NDArray[np.float32] = self.artifacts.sound_array(kept["artifact"])[kept["index"]]
        return array if self.spec.has_probabilities else sure_of(array, len(self.class_names))

    def labels_of(self, solutions: Sequence[Solution], split: str) -> NDArray[np.int64]:
        """Predicted labels [S, N] of several solutions: argmax of the logits, ties to the lowest index."""
        if not self.spec.has_probabilities:
            kept = (solution.predictions[split] for solution in solutions)
            return np.stack([self.artifacts.sound_array(one["artifact"])[one["index"]] for one in kept]).astype(
                np.int64
            )
        return np.stack([self.logits(solution, split).argmax(-1) for solution in solutions])

    def true_labels(self, split: str) -> NDArray[np.int64]:
        """True labels [N] of a split. Raises NotFound before the first predict stage has finished."""
        array: NDArray[np.int64] = self.artifacts.sound_array(self._predicted["labels"][split])
        return array

    def image_names(self, split: str) -> list[str] | None:
        """The file or row that each image of a split was, of a user's own set; None of others (and of sets that were
        read before this was kept). Raises NotFound before the first predict stage has finished."""
        kept = self._predicted.get("origins", {}).get(split)
        return None if kept is None else list(json.loads(self.artifacts.sound_array(kept).tobytes()))

    @property
    def class_names(self) -> list[str]:
        imported = self.spec.imported  # whose stages may be those of an import that called its classes otherwise
        return list(self._predicted["classes"] if imported is None else imported.classes)

    @property
    def _predicted(self) -> Json:
        for stage in self.stages_of(StageKind.PREDICT):
            if stage.state == StageState.SUCCEEDED and "labels" in stage.result["extra"]:
                extra: Json = stage.result["extra"]
                return extra
        if not self.healthy:
            raise NotFound("there are no predictions: every run failed")
        raise NotFound("no predictions yet: the first run is still training")

    @property
    def steps_per_epoch(self) -> float | None:
        """Optimiser steps an epoch, read off any checkpoint; None before the first training has reported, and of
        weights that were made elsewhere."""
        for stage in self.stages_of(StageKind.TRAIN) if self.spec.weights is None else ():
            known = stage.result.get("extra", {}) or stage.partial
            for checkpoint in known.get("checkpoints", []):
                if checkpoint["epoch"] > 0:
                    return float(checkpoint["step"] / checkpoint["epoch"])
        return None

    def scores(self, metric: str, split: str) -> dict[int, float]:
        """Solution number -> accuracy, nll, brier, ece or entropy on that split, of every solution that has it."""
        found = self.store.results.measurements(self.experiment.id, metric=metric, split=split).items
        return {m.solution: m.value for m in found if m.solution is not None and m.value is not None}

    def matrix(self, name: str, split: str = "test") -> MatrixData | None:
        """A similarity matrix or embedding, or None while it is not computed. Weight-space matrices have split ""."""
        row = self.store.results.matrix(self.experiment.id, name, split)
        if row is None:
            return None
        values = np.asarray(self.artifacts.sound_array(row.artifact), dtype=np.float64)
        return MatrixData(row.name, row.split, values, row.rows, row.columns, row.details, row.artifact)

    def points(self, run: int, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Steps and values of one curve; empty arrays when there is none."""
        steps, values, _ = self.store.curves.points(self.experiment.id, run, name)
        return steps, values

    def in_training(self) -> list[tuple[int, LoggedMember]]:
        """Members made elsewhere whose points come while they are trained, numbered after those that are here."""
        imported = self.spec.imported
        first = self.spec.ensemble.runs if imported is not None and imported.images else 0
        return list(enumerate(self.store.logged.of_experiment(self.experiment.id), first))

    def measurements(self, *, metric: str | None = None, subject: str | None = None) -> list[Measurement]:
        """Group measurements (subject set), narrowed by metric and subject, which may be an old name; those under shift
        are in `shifted`."""
        return [
            m
            for m in self._measurements
            if m.solution is None
            and (metric is None or m.metric == metric)
            and (subject is None or m.subject == group_name(subject))
        ]

    @cached_property
    def _measurements(self) -> list[Measurement]:
        # thousands under shift, which no other figure reads
        return self.store.results.group_measurements(self.experiment.id, shifted=False)

    def shifted(self, metric: str, *, by_type: bool = False) -> list[Measurement]:
        """A metric of every group of the study of shift, on clean images (intensity 0) and by intensity: means over the
        types of corruption, or of each type by itself."""
        conditions = [
            Condition("metric", "eq", metric),
            Condition("solution", "null", True),
            Condition("intensity", "null", False),
        ]
        found = self.store.results.measurements(self.experiment.id, conditions, sort="subject").items
        return [m for m in found if m.intensity == 0 or (m.corruption is not None) == by_type]

    def extra(self, kind: str, key: str) -> Json | None:
        """What a finished stage left for its dependants; None while it is not finished, or not planned."""
        found = (s for s in self.stages_of(kind) if (s.key, s.state) == (key, StageState.SUCCEEDED))
        kept = (stage.result["extra"] for stage in found)
        return next((extra for extra in kept if not extra.get("skipped") and not extra.get("failed")), None)

    def skipped(self, kind: str, key: str) -> str:
        """Why a stage has ended and left nothing to use; "" when it did, or has not ended."""
        stage = next((s for s in self.stages_of(kind) if s.key == key), None)
        if stage is None or stage.state not in (StageState.SUCCEEDED, StageState.FAILED):
            return ""
        if stage.state == StageState.FAILED:
            return f"{kind}/{key} failed: {stage.error.get('message', '')}"
        extra = stage.result.get("extra", {})
        return str(extra.get("skipped") or extra.get("failed") or "")

    def so_far(self, kind: str, key: str) -> Json:
        """What a stage left, or, while it is not finished, what it has saved on the way; empty before that."""
        partial = next((stage.partial for stage in self.stages_of(kind) if stage.key == key), {})
        return self.extra(kind, key) or partial

    def array(self, digest: str) -> NDArray[Any]:
        """An array that a stage kept, mapped from disk."""
        return self.artifacts.sound_array(digest)

    def claim(self, letter: str) -> ClaimRecord | None:
        """What the verdict says of one claim, as it was judged; None while it is not, or never asked.

        Raises InvalidInput where there is no such claim.
        """
        found = Finding.from_json(self.store.experiments.get(self.experiment.id).finding).claim(letter)
        if found is None and letter not in CLAIMS:
            said = f"there is no claim {letter[:80]!r}{meant(letter, CLAIMS)}"
            raise InvalidInput(said, field="letter", allowed=f"one of {', '.join(CLAIMS)}")
        return found
