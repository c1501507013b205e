"""What makes functions differ, initial weights or the order of examples? (science g.2; the paper's Figure S4).

Every repetition trains one network again and again at a constant learning rate: the base A, A again, and with other
initial weights (B), another order of examples (C), both (D). The distances of the four from A are compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modescape.claims.claim import margins
from modescape.claims.evidence import SeedsEvidence
from modescape.claims.judging import judge
from modescape.draft import Draft
from modescape.prices import Work
from modescape.science.health import failure
from modescape.science.seeds import ARMS, Arm, arm_seeds
from modescape.spec import ExperimentSpec
from modescape.spec_parts import TrainingSpec, keyed
from modescape.stages.judge import add_claims
from modescape.stages.stage import Context, Json, Task, planner, stage, the_data, the_network, the_recipe
from modescape.stages.train import only_last, run_training
from modescape.studies.seeds.study import SeedsSpec
from modescape.study import needed

_BY_KEY = {arm.key: arm for arm in ARMS}
_BASE, *_OTHERS = ARMS


@planner("seeds", after="shift")
def plan(draft: Draft) -> None:
    study = draft.spec.seeds
    if study is None:
        return
    epochs = study.epochs or draft.spec.training.epochs
    images = draft.n.validation if draft.spec.evaluation.splits[0] == "validation" else draft.n.test
    work = Work(trained=epochs * draft.images_per_epoch, predicted=images)
    arms = list(_arms(study))
    for rate, repetition, arm in arms:
        params = {"learning_rate": study.learning_rates[rate], "repetition": repetition, "arm": arm.key}
        draft.add("arm", f"{rate}/{repetition}/{arm.key}", params, work)
    draft.add("seeds", "all", {}, Work(other=len(arms) * images * draft.classes / 2e8), wants=draft.keys("arm"))
    draft.bytes += 4 * len(arms) * (draft.parameters + images * draft.classes)
    draft.predictions += len(arms) * images
    judged, asked = study.judged(draft.spec), draft.spec.training.learning_rate
    if study.repetitions < 3:
        draft.warnings.append("fewer than 3 repetitions of the seed study; whether initial weights matter more than "
                              "batch order cannot be judged")  # fmt: skip
    if judged != asked:
        draft.warnings.append(
            f"the seed study does not try the experiment's learning rate {asked:g}; its claim is read at {judged:g}"
        )


def _arms(study: SeedsSpec) -> Iterator[tuple[int, int, Arm]]:
    """(position of the learning rate, repetition, arm) of every training, whole repetitions first."""
    for repetition in range(study.repetitions):
        for rate in range(len(study.learning_rates)):
            for arm in ARMS:
                yield rate, repetition, arm


# --- one training -----------------------------------------------------------------------------------------------------


def _training(spec: ExperimentSpec, learning_rate: float) -> TrainingSpec:
    """The experiment's training at a constant learning rate. What then has no effect gets its default, so that equal
    trainings of different experiments are known to be equal."""
    plain = TrainingSpec()
    return only_last(
        spec.training,
        protocol=plain.protocol,
        learning_rate=learning_rate,
        schedule="constant",
        schedule_options={},
        halve_every=plain.halve_every,
        milestones=plain.milestones,
        epochs=needed(spec.seeds).epochs or spec.training.epochs,
    )


def _arm_parts(task: Task) -> Json:
    spec, params = task.spec, task.params
    part = keyed(spec, "data", "network")
    arm = _BY_KEY[params["arm"]]
    return {
        "data": part["data"],
        "network": part["network"],
        "training": keyed(_training(spec, params["learning_rate"])),
        "seeds": arm_seeds(spec.ensemble.seed, params["repetition"], arm).as_dict(),
        "split": spec.evaluation.splits[0],
        # the base's twin has the base's seeds: it must be trained, not taken over
        "again": arm.key == "same",
    }


@stage("arm", version=2, parts=_arm_parts, brought=(the_data, the_network, the_recipe))
def arm(context: Context) -> None:
    spec, params = context.spec, context.params
    seeds = arm_seeds(spec.ensemble.seed, params["repetition"], _BY_KEY[params["arm"]])
    network = context.start(seeds.weights)
    training = _training(spec, params["learning_rate"])
    recorder = run_training(context, network, training, seeds, run=None)
    if recorder.failed:  # at a high rate: a result of this training, and no reason to lose the others
        context.output.extra = {"failed": recorder.failed}
        return
    split = spec.evaluation.splits[0]
    logits = context.logits(network, split)
    failed = failure(logits, context.split(split).numpy_labels(), len(context.splits.classes))
    context.output.extra = {
        "weights": recorder.checkpoints[-1]["weights"],
        "logits": {split: context.keep(logits, "predictions")},
        **({"failed": failed} if failed else {}),
    }
    recorder.close()


# --- all of them ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Repetition:
    """One repetition at one learning rate: labels [N] of the arms that learned, and why others have failed."""

    learning_rate: float
    number: int
    labels: dict[str, NDArray[np.int64]]
    failed: dict[str, str]


def _seeds_parts(task: Task) -> Json:
    spec = task.spec
    part = keyed(spec, "data", "seeds")
    rate = spec.training.learning_rate
    return {**part, "learning_rate": rate, "split": spec.evaluation.splits[0], "margin": spec.margins.g}


@stage("seeds", version=2, parts=_seeds_parts, judges=(SeedsEvidence,), gathers=True)
def seeds(context: Context) -> None:
    """Disagreement and diversity of every combination, rate and repetition; their means; claim (g)."""
    split = context.spec.evaluation.splits[0]
    truth = context.split(split).numpy_labels()
    study = needed(context.spec.seeds)
    repetitions = [
        _repetition(context, rate, number, truth, split)
        for rate in range(len(study.learning_rates))
        for number in range(study.repetitions)
    ]
    found = [row for repetition in repetitions for row in _measure(context, repetition, truth, split)]
    judged = study.judged(context.spec)
    context.output.experiment.finding = {"seeds": {
        "split": split,
        "images": len(truth),
        "judged": judged,
        "training": context.spec.training.learning_rate,
        "failed": sum(len(repetition.failed) for repetition in repetitions),
        "rows": _summary(found),
    }}  # fmt: skip
    _judge(context, [repetition for repetition in repetitions if repetition.learning_rate == judged], truth)


def _repetition(context: Context, rate: int, number: int, truth: NDArray[np.int64], split: str) -> _Repetition:
    labels: dict[str, NDArray[np.int64]] = {}
    failed: dict[str, str] = {}
    for one in ARMS:
        context.control.check()
        key = f"{rate}/{number}/{one.key}"
        why = context.lacking("arm", key)
        if not why:  # as far as the code of its time told
            logits = context.artifacts.array(context.need("arm", key)["logits"][split])
            why = failure(logits, truth, len(context.splits.classes))
        if why:
            failed[one.key] = why
        else:
            labels[one.key] = logits.argmax(axis=-1)
    return _Repetition(needed(context.spec.seeds).learning_rates[rate], number, labels, failed)


def _measure(context: Context, repetition: _Repetition, truth: NDArray[np.int64], split: str) -> list[Json]:
    """Group measurements of one repetition; those of one arm as a row of numbers, None where there are none.

    The diversity is over the error rate of the arm that is not the base, as it is for samples (science a.3).
    """
    rows = []
    base = repetition.labels.get(_BASE.key)
    for one in ARMS:
        own = repetition.labels.get(one.key)
        values: dict[str, float | None] = {"accuracy": None if own is None else float((own == truth).mean())}
        if one is not _BASE:
            apart = None if own is None or base is None else float((own != base).mean())
            error = 1 - values["accuracy"] if values["accuracy"] is not None else 0.0
            values |= {"disagreement": apart, "diversity": apart / error if apart is not None and error > 0 else None}
        details: dict[str, Any] = {"learning_rate": repetition.learning_rate, "repetition": repetition.number}
        if one.key in repetition.failed:
            details["failed"] = repetition.failed[one.key]
        for metric, value in values.items():
            context.add_group(f"seeds/{one.combination}", metric, value, len(truth), split, **details)
        rows.append({"combination": one.combination, "learning_rate": repetition.learning_rate, **values})
    return rows


def _summary(found: list[Json]) -> list[Json]:
    """Mean and standard deviation over repetitions (None for fewer than two) by combination and learning rate."""
    rows = []
    for combination, rate in dict.fromkeys((row["combination"], row["learning_rate"]) for row in found):
        chosen = [row for row in found if (row["combination"], row["learning_rate"]) == (combination, rate)]
        summary: Json = {"combination": combination, "learning_rate": rate}
        for metric in ("accuracy", "disagreement", "diversity"):
            values = [row[metric] for row in chosen if row.get(metric) is not None]
            if values:
                summary[metric] = {
                    "mean": fmean(values), "sd": stdev(values) if len(values) > 1 else None, "n": len(values)
                }  # fmt: skip
        rows.append(summary)
    return rows


def _judge(context: Context, repetitions: list[_Repetition], truth: NDArray[np.int64]) -> None:
    """Claim (g) at one learning rate, from the repetitions of which no training has failed."""
    rate, asked = repetitions[0].learning_rate, context.spec.training.learning_rate
    whole = [repetition for repetition in repetitions if not repetition.failed]
    if not whole:
        return
    evidence = SeedsEvidence(
        classes=len(context.splits.classes),
        truth=truth,
        arms={key: np.stack([repetition.labels[key] for repetition in whole]) for key in ("A", "B", "C", "D")},
        learning_rate=rate,
        numbers=tuple(repetition.number for repetition in whole),
        failed=len(repetitions) - len(whole),
        decided=True,
    )
    records = judge(evidence, margins=margins(context.spec))
    if not math.isclose(rate, asked):
        nearest = f"at the learning rate {rate:g}, of those tried the nearest to the training's {asked:g}"
        records = tuple(replace(record, because=f"{record.because}; {nearest}") for record in records)
    add_claims(context, records)
