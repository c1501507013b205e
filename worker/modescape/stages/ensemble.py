"""What are ensembles worth, of single networks and of subspace samples? Every size, every group, every split.

A group is one function a run: its optimum, its weight average, or the mean prediction of a method's samples around it,
fair ones where a strength is chosen, else typical ones (science a.8: samples of one run are averaged first, runs
afterwards). Group measurements, by subject:

    ensemble/<group>/<size>                          accuracy, brier, nll, ece: mean over the ensembles of that size;
        nll-calibrated, ece-calibrated: after each ensemble's own temperature, where one could be fitted
    last/<method>                                    the same of the last iterates of a method that trains on
    ensemble/<group>                                 what all members together are made of, and the identities
    reliability/<group>/<single|ensemble>/<bins>     the bins of a reliability diagram; the value is its ECE
        bins: width-15, width-10, mass-15 or mass-10, and the same with /calibrated behind it where temperatures could
        be fitted

Temperatures are fitted on validation images, at least MIN_IMAGES of them. Where their predictions are not kept
(evaluation.splits), this stage makes those it needs on FEW_IMAGES, once, of every function that is averaged. That costs
less than keeping them for all functions, and no other stage's result changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import comb

import numpy as np
from numpy.typing import NDArray

from modescape.claims.record import number
from modescape.draft import Draft, sample_sets
from modescape.prices import Work
from modescape.records import Absent, EventKind, Group, Role, SampleSet, StageKind
from modescape.results import Results
from modescape.science.blocks import blocks
from modescape.science.ensembles import (
    MAX_SUBSETS,
    METRICS,
    TOLERANCE,
    BinKind,
    CalibratedScores,
    EnsembleScores,
    Reliability,
    confidences,
    fit_temperatures,
    reliability,
    sizes,
    subsets,
)
from modescape.science.predictions import average, scores
from modescape.spec_parts import keyed
from modescape.stages.around import Around
from modescape.stages.stage import Context, Json, Task, planner, stage
from modescape.tables import Solution

DIAGRAMS: tuple[tuple[int, BinKind], ...] = ((15, "width"), (10, "width"), (15, "mass"), (10, "mass"))

_VALUES = 1 << 20  # log-probabilities of all members in memory at a time: 8 MB
MIN_IMAGES = 500  # of validation, to fit a temperature
MOST_IMAGES = 5000  # of them, where predictions are kept
FEW_IMAGES = 2000  # where they are made here


@planner("ensemble", after="embed-samples")
def plan(draft: Draft) -> None:
    """One stage as soon as there are two runs; it needs every prediction."""
    runs = draft.spec.ensemble.runs
    if runs < 2:
        return
    ensembles = sum(min(comb(runs, size), MAX_SUBSETS) for size in sizes(runs))
    sets = (pair for chosen in draft.spec.methods for pair in sample_sets(draft.spec, chosen))
    typical = [count for name, count in sets if name == SampleSet.TYPICAL]
    functions, groups = runs * (1 + sum(typical)), 1 + len(typical)
    # Measured on one core: 50 ns to score a probability of one ensemble, 50 ns to average one of a function.
    seconds = (groups * ensembles * 5e-8 + functions * 5e-8) * draft.images * draft.classes
    work, wants = Work(other=seconds), [*draft.keys("predict", "sample"), *draft.keys("last")]
    if "validation" not in draft.spec.evaluation.splits and draft.n.held_out >= MIN_IMAGES:
        work = replace(work, predicted=functions * min(FEW_IMAGES, draft.n.held_out))
        wants = [*draft.keys("train"), *wants]
    draft.add("ensemble", "all", draft.seen, work, wants=wants)


def _parts(task: Task) -> Json:
    """Beside the predictions themselves only which of them form a group: no solution is named by its number."""
    spec = task.spec
    return {
        "splits": list(spec.evaluation.splits),
        "runs": spec.ensemble.runs,
        "methods": [chosen.method for chosen in spec.methods],
        **keyed(spec.evaluation, "averaged"),
        **task.params,
    }


@dataclass(frozen=True)
class _Group:
    """Functions of each run that are averaged first; only runs that have any."""

    name: str
    members: list[list[Solution]]

    def blocks(self, results: Results, split: str) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """Log-probabilities [R, n, K] of the members, a block of examples at a time."""
        stored = [[results.logits(solution, split) for solution in own] for own in self.members]
        rows = _VALUES // (len(stored) * stored[0][0].shape[1])
        for block in blocks([logits for own in stored for logits in own], rows):
            yield block, np.stack([average(logits[block] for logits in own) for own in stored])


def _groups(context: Context, results: Results) -> list[_Group]:
    """Optima first, then methods as in the spec; a method whose samples all fell below its floor is none."""
    found = [_Group(Group.INDEPENDENT, [[optimum] for optimum in results.solutions(role=Role.OPTIMUM)])]
    for chosen in context.spec.methods:
        own = [results.averaged(chosen.method, run) for run in range(context.spec.ensemble.runs)]
        found.append(_Group(chosen.method, [samples for samples in own if samples]))
    return [group for group in found if group.members]


@stage(
    "ensemble",
    version=2,
    parts=_parts,
    gathers=True,
    absent=Absent("One run alone makes no ensemble.", add="runs"),
)
def ensemble(context: Context) -> None:
    """Score every group on every split, and check what must hold of any ensemble."""
    results = context.results()
    if len(results.solutions(role=Role.OPTIMUM)) < 2:
        context.output.extra = {"skipped": "fewer than two runs are healthy, and one alone makes no ensemble"}
        return
    groups, splits = _groups(context, results), context.spec.evaluation.splits
    worst = 0.0
    for i, split in enumerate(splits):
        labels = results.true_labels(split)
        for j, group in enumerate(groups):
            context.control.progress(i * len(groups) + j, len(groups) * len(splits))
            # a temperature is fitted on other images than it is judged on
            can_be_fitted = split != "validation" and context.spec.has_probabilities and context.is_held_out
            temperatures = _temperatures(context, results, group) if can_be_fitted else None
            worst = max(worst, _evaluate(context, results, group, split, labels, temperatures))
        _tell_last(context, results, split, labels)
    context.output.extra = {
        "groups": {group.name: [len(own) for own in group.members] for group in groups},
        "subsets": {f"{size}": len(subsets(len(groups[0].members), size)) for size in sizes(len(groups[0].members))},
        "largest_residual": worst if np.isfinite(worst) else None,
        "tolerance": TOLERANCE,
    }


def _tell_last(context: Context, results: Results, split: str, labels: NDArray[np.int64]) -> None:
    """Scores of the last iterates of methods that train on, mean over runs, with those of the runs' finals."""
    for chosen in context.spec.methods:
        last, final, better = [], [], 0
        for optimum in results.solutions(role=Role.OPTIMUM):
            looked = context.wanted("last", f"{optimum.run}/{chosen.method}")
            found = results.last_iterate(chosen.method, optimum.run)
            if looked is not None and found is not None:
                last.append(scores(results.logits(found, split), labels))
                final.append(scores(results.logits(optimum, split), labels))
                better += looked["better"]
        for metric in METRICS if last else ():
            context.add_group(
                f"last/{chosen.method}", metric, float(np.mean([one[metric] for one in last])), len(labels), split,
                final=float(np.mean([one[metric] for one in final])), runs=len(last), better=better,
            )  # fmt: skip


@dataclass(frozen=True)
class _Temperatures:
    """Of every ensemble that is scored, by size, and on how many images they were fitted."""

    by_size: dict[int, tuple[float, ...]]
    images: int

    @property
    def shown(self) -> list[float]:
        """Of each member, and last of all together."""
        return [*self.by_size[1], self.by_size[max(self.by_size)][0]]


def _temperatures(context: Context, results: Results, group: _Group) -> _Temperatures | None:
    """Fitted on the first validation images; None where those are too few."""
    if "validation" in context.spec.evaluation.splits:
        labels = results.true_labels("validation")[:MOST_IMAGES]
        if len(labels) < MIN_IMAGES:
            return None
        members = np.empty((len(group.members), len(labels), len(results.class_names)))
        for block, logs in group.blocks(results, "validation"):
            if block.start >= len(labels):
                break
            members[:, block] = logs[:, : len(labels) - block.start]
    elif any(need.kind == StageKind.TRAIN for need in context.needs):  # else too few, as the plan knew
        labels = context.split("validation").numpy_labels()[:FEW_IMAGES]
        members = np.stack([_predicted(context, own) for own in group.members])
    else:
        return None
    return _Temperatures(fit_temperatures(members, labels, check=context.control.check), len(labels))


def _predicted(context: Context, solutions: Sequence[Solution]) -> NDArray[np.float64]:
    """Log-probabilities [n, K] of the average of one run's functions on the first validation images."""
    images = {"validation": context.split("validation").take(FEW_IMAGES)}
    groups = context.logits_of(Around(context, solutions[0].run).placed(solutions), images)
    return average(logits["validation"] for _, logits in chain.from_iterable(groups))


def _evaluate(
    context: Context,
    results: Results,
    group: _Group,
    split: str,
    labels: NDArray[np.int64],
    temperatures: _Temperatures | None,
) -> float:
    """Everything about one group on one split; the largest residual of an identity."""
    runs = len(group.members)
    scores = EnsembleScores(runs)
    twins = None if temperatures is None else CalibratedScores(runs, temperatures.by_size)
    calibration = [_Confidences(labels, None, runs)]
    if temperatures is not None:
        calibration.append(_Confidences(labels, temperatures.shown, runs))
    for block, logs in group.blocks(results, split):
        scores.add(logs, labels[block], check=context.control.check)
        if twins is not None:
            twins.add(logs, labels[block], check=context.control.check)
        functions = [*logs, average(logs)]
        for sure in calibration:
            sure.add(block, functions)
    samples = [len(own) for own in group.members]  # averaged in a run first
    told = context.spec.has_probabilities  # else only how often the majority is right
    is_fair = group.name != Group.INDEPENDENT and results.averaged_set(group.name) == SampleSet.FAIR
    drawn: Json = {"set": SampleSet.FAIR} if is_fair else {}
    for size, chosen in scores.subsets.items():
        found: dict[str, tuple[NDArray[np.float64], Json]] = {
            metric: (values, {}) for metric, values in scores.of(size).items()
        }
        if twins is not None and temperatures is not None:
            fitted: Json = {"temperatures": list(temperatures.by_size[size]), "fitted_on": temperatures.images}
            found |= {f"{metric}-calibrated": (values, fitted) for metric, values in twins.of(size).items()}
        for metric, (values, about) in found.items() if told else [("accuracy", found["accuracy"])]:
            context.add_group(
                f"ensemble/{group.name}/{size}",
                metric,
                float(values.mean()),
                len(labels),
                split,
                size=size,
                sd=deviation(values),
                low=number(float(values.min())),
                high=number(float(values.max())),
                subsets=len(chosen),
                of=comb(runs, size),
                runs=runs,
                samples=[min(samples), max(samples)],
                **drawn,
                **about,
            )
    if not told:
        return 0.0
    _tell_parts(context, group.name, scores, split)
    for sure in calibration:
        sure.tell(context, group.name, split)
    return _tell_identities(context, group.name, scores, split)


def _tell_parts(context: Context, name: str, scores: EnsembleScores, split: str) -> None:
    total, aleatoric, epistemic = scores.entropy
    limit = scores.expected_brier(None)
    parts = {"entropy": total, "aleatoric": aleatoric, "epistemic": epistemic, "ambiguity": scores.ambiguity}
    for metric, value in (parts | ({"brier-limit": limit} if scores.members > 1 else {})).items():
        context.add_group(f"ensemble/{name}", metric, value, scores.examples, split, members=scores.members)


def _tell_identities(context: Context, name: str, scores: EnsembleScores, split: str) -> float:
    """Residuals as measurements; one that is too large is also an event, because it means that a number is wrong."""
    identities = scores.identities()
    for identity in identities:
        context.add_group(
            f"ensemble/{name}", f"identity/{identity.name}", identity.residual, scores.examples, split,
            left=number(identity.left), right=number(identity.right), tolerance=TOLERANCE, holds=identity.holds,
        )  # fmt: skip
        if not identity.holds:
            context.control.note(
                EventKind.IDENTITY,
                {"identity": identity.name, "group": name, "split": split, "left": number(identity.left),
                 "right": number(identity.right), "tolerance": TOLERANCE},
            )  # fmt: skip
    residuals = [identity.residual for identity in identities]
    return max(residual if np.isfinite(residual) else np.inf for residual in residuals)


_Pair = tuple[NDArray[np.float64], NDArray[np.bool_]]


class _Confidences:
    """How sure each member, and last their ensemble, are of each example, and whether they are right."""

    def __init__(self, labels: NDArray[np.int64], temperatures: list[float] | None, members: int) -> None:
        self.labels, self.fitted = labels, temperatures
        self.temperatures = temperatures or [1.0] * (members + 1)
        self._blocks: list[list[_Pair]] = [[] for _ in self.temperatures]

    def add(self, block: slice, functions: Sequence[NDArray[np.float64]]) -> None:
        """Log-probabilities [n, K] of each member and of the ensemble, for one block of examples."""
        for kept, outputs, temperature in zip(self._blocks, functions, self.temperatures, strict=True):
            kept.append(confidences(outputs, self.labels[block], temperature=temperature))

    def tell(self, context: Context, name: str, split: str) -> None:
        """Reliability of single members, pooled over them, and of the ensemble, in every kind of bins."""
        *own, together = [_joined(blocks) for blocks in self._blocks]
        pooled, suffix = _joined(own), "/calibrated" if self.fitted else ""
        for bins, kind in DIAGRAMS:
            each = np.array([reliability(*member, bins=bins, kind=kind).ece for member in own])
            whole = reliability(*together, bins=bins, kind=kind)
            for of, shown, value, used in (
                ("single", reliability(*pooled, bins=bins, kind=kind), float(each.mean()), slice(None, -1)),
                ("ensemble", whole, whole.ece, slice(-1, None)),
            ):
                context.add_group(
                    f"reliability/{name}/{of}/{kind}-{bins}{suffix}",
                    "reliability",
                    value,
                    len(self.labels),
                    split,
                    sd=deviation(each) if of == "single" else None,
                    runs=len(own),
                    temperatures=self.fitted and self.fitted[used],
                    **_bins(shown),
                )


def _joined(blocks: list[_Pair]) -> _Pair:
    return np.concatenate([sure for sure, _ in blocks]), np.concatenate([right for _, right in blocks])


def _bins(found: Reliability) -> Json:
    """Bins as JSON, the empty ones left out."""
    there = found.count > 0
    return {
        "count": found.count[there].tolist(),
        "confidence": found.confidence[there].tolist(),
        "accuracy": found.accuracy[there].tolist(),
    }


def deviation(values: NDArray[np.float64] | Sequence[float]) -> float | None:
    """Sample standard deviation; None for fewer than two."""
    return number(float(np.std(values, ddof=1))) if len(values) > 1 else None
