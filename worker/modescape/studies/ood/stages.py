"""What do the functions say about images of another kind? Predictions, divergence and detection (science a.11)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modescape.draft import Draft
from modescape.errors import StageError
from modescape.kept_picture_checks import PICTURE_CHECK
from modescape.prices import Work
from modescape.records import Group, PlannedStage, group_name
from modescape.results import Results
from modescape.science.data import ImageFiles, Images
from modescape.science.ood import SCORES, Detection, Noticed, detection, entropy_counts, noticed
from modescape.science.seeds import stream_seed
from modescape.spec import ExperimentSpec
from modescape.spec_parts import keyed
from modescape.stages.around import Around
from modescape.stages.ensemble import deviation
from modescape.stages.examples import MOST_PICTURED, PICTURE_SECONDS, asked_pictures, keep_pictures
from modescape.stages.given import GIVEN, Given, given_parts, given_to
from modescape.stages.groups import as_split, members, names, planned
from modescape.stages.stage import Context, Json, Task, planner, stage, the_other_images
from modescape.studies.ood.images import count_images, outside_images
from modescape.studies.ood.study import OodSpec

SAVE_EVERY_SECONDS = 20.0
MOST_SUBSETS = 20  # groups of M runs whose divergence is averaged, where there are more runs than M
_COMPARED = 5e6  # probabilities a second on one core: softmax, entropies, and 5 scores of 7 groups sorted


@planner("ood", after="ensemble")
def plan(draft: Draft) -> None:
    for i, study in enumerate(draft.spec.ood):
        count, total = count_images(study, draft.n.test), 0
        # a wrong picture costs this study only
        checks = [(PICTURE_CHECK, f"ood.{i}")] if study.dataset == "folder" else []
        groups = planned(draft, study)
        for run in draft.runs:
            read = given_to(
                draft, run, *(at for name in names(draft.spec, study) for at in _places(draft.spec, study, name))
            )
            own = [
                group
                for group in groups
                if group.run == run and (not read or _is_given(draft.spec, study, group.name, read))
            ]
            functions = sum(group.size for group in own)
            wants = list(dict.fromkeys(need for group in own for need in (*group.needs, *group.wants)))
            params = {"set": i, "run": run, "groups": {group.name: group.size for group in own}, **read}
            work = Work(predicted=0 if read else functions * count)
            draft.add("ood", f"{i}/{run}", params, work, needs=checks, wants=wants)
            total += functions
        made = (need for group in groups for need in (*group.needs, *group.wants))
        wants = list(dict.fromkeys(need for need in made if need[0] != "train"))
        wants += [("ood", f"{i}/{run}") for run in draft.runs]
        work = Work(other=2 * total * count * draft.classes / _COMPARED)
        draft.add("ood-compare", f"{i}", {"set": i}, work, needs=checks, wants=wants)
        draft.bytes += 4 * total * count * draft.classes
        draft.predictions += total * count


def _places(spec: ExperimentSpec, study: OodSpec, group: str) -> tuple[str, ...]:
    """Where the outputs of a group on these images are, of an imported ensemble."""
    own = "" if group_name(group) == Group.INDEPENDENT else f"{spec.carried(group).place(group)}/"
    return (f"{own}ood/{study.dataset}",)


def _is_given(spec: ExperimentSpec, study: OodSpec, group: str, read: Json) -> bool:
    return all(place in read[GIVEN] for place in _places(spec, study, group))


def _parts(task: Task) -> Json:
    if GIVEN in task.params:
        return given_parts(task)
    part = keyed(task.spec)
    return {"data": part["data"], "ood": part["ood"][task.params["set"]], "groups": task.params["groups"]}


# ---- predictions of one run's functions ----


@stage("ood", version=2, parts=_parts, brought=(the_other_images,), gathers=True)
def ood(context: Context) -> None:
    """float32 logits [functions, n, K] of every group of one run, kept group by group."""
    study, run = context.spec.ood[context.params["set"]], context.params["run"]
    if GIVEN in context.params:
        _read(context, study)
        return
    groups: dict[str, int] = context.params["groups"]
    chosen = {name: members(context, run, name, size) for name, size in groups.items()}
    if not any(chosen.values()):
        context.output.extra = {"skipped": context.results().failed.get(run, f"run {run} left no functions")}
        return
    found = outside_images(study, context.splits.shape, _test_images(context), context.settings.data_folders)
    images = {"outside": as_split(context, found.pixels)}
    kept: dict[str, str] = {}
    partial = context.lease.stage.partial
    for name, digest in partial.get("groups", {}).items():
        kept[name] = context.keep(np.asarray(context.artifacts.array(digest)), "predictions")
    of = sum(groups.values())
    for i, (name, solutions) in enumerate(chosen.items()):
        if name in kept or not solutions:
            continue
        begun = partial.get("begun", {})
        block = list(context.artifacts.array(begun["logits"])) if begun.get("group") == name else []
        done, saved = sum(list(groups.values())[:i]), time.monotonic()
        placed = Around(context, run).placed(solutions[len(block) :])
        for group in context.logits_of(placed, images):
            block.extend(logits["outside"] for _, logits in group)
            context.control.progress(done + len(block), of)
            if time.monotonic() - saved > SAVE_EVERY_SECONDS and len(block) < len(solutions):
                info = context.artifacts.put_array(np.stack(block), "predictions")
                state = {"groups": kept, "begun": {"group": name, "logits": info.digest}}
                context.control.save_partial(state, artifacts=[*context.output.artifacts, info])
                saved = time.monotonic()
        if block:
            kept[name] = context.keep(np.stack(block), "predictions")
            context.control.save_partial({"groups": kept}, artifacts=context.output.artifacts)
    context.output.extra = {
        "groups": kept,
        "images": len(found.pixels),
        "title": found.title,
        "conversion": found.conversion,
    }


def _read(context: Context, study: OodSpec) -> None:
    """The same of an imported ensemble, whose functions were evaluated elsewhere."""
    if why := context.results().failed.get(context.params["run"]):
        context.output.extra = {"skipped": why}
        return
    given, run = Given(context), context.params["run"]
    chosen = {name: members(context, run, name, size) for name, size in context.params["groups"].items()}
    read = {}
    for name, functions in chosen.items():
        place = _places(context.spec, study, name)[0]
        if functions and (there := given.among(functions, place)):
            read[name] = given.of(place, there)
    if not read:
        context.output.extra = {"skipped": f"run {run} left no functions"}
        return
    context.output.extra = {
        "groups": {name: given.keep_logits(context, own, (len(own),)) for name, own in read.items()},
        "images": len(next(iter(read.values()))[0]),
        "title": _title(context, study),
        "conversion": "",
    }


def _title(context: Context, study: OodSpec) -> str:
    imported = context.spec.imported
    return study.dataset if imported is None else imported.titles.get(study.dataset, study.dataset)


def _test_images(context: Context) -> Images | ImageFiles:
    images = context.splits.test.images
    return images if isinstance(images, ImageFiles) else images.cpu().numpy()


# ---- small pictures of them ----


@planner("ood-thumbnails", after="examples")
def plan_pictures(draft: Draft) -> None:
    for i, study in enumerate(draft.spec.ood):
        checks = [(PICTURE_CHECK, f"ood.{i}")] if study.dataset == "folder" else []
        read = given_to(draft, 0, f"images/ood/{study.dataset}")
        if len(draft.runs) > 1 and (read.get(GIVEN) or not read):  # of an imported set, only if images came with it
            count = min(count_images(study, draft.n.test), MOST_PICTURED)
            draft.add("ood-thumbnails", f"{i}", {"set": i, **read}, Work(other=PICTURE_SECONDS * count), needs=checks)


def later_pictures(spec: ExperimentSpec) -> list[PlannedStage]:
    """The same for an experiment that was planned before there were these stages."""
    known = range(len(spec.ood)) if spec.imported is None else ()
    return [asked_pictures("ood-thumbnails", f"{i}", {"set": i}) for i in known]


def _picture_parts(task: Task) -> Json:
    if GIVEN in task.params:
        return {GIVEN: task.params[GIVEN]}
    part = keyed(task.spec)
    return {"data": part["data"], "ood": part["ood"][task.params["set"]]}


@stage("ood-thumbnails", parts=_picture_parts, brought=(the_other_images,))
def pictures(context: Context) -> None:
    """uint8 [n, C, h, w] of the images as the networks see them, for pages."""
    if GIVEN in context.params:
        keep_pictures(context, context.artifacts.array(next(iter(context.params[GIVEN].values()))))
        return
    study = context.spec.ood[context.params["set"]]
    found = outside_images(study, context.splits.shape, _test_images(context), context.settings.data_folders)
    keep_pictures(context, found.pixels)


# ---- what they say, compared ----


@stage("ood-compare", gathers=True)
def compare(context: Context) -> None:
    """Divergence inside each group, and how well each score detects the images: single functions and ensembles."""
    i = context.params["set"]
    comparison = _Comparison(context, context.spec.ood[i], i)
    groups = names(context.spec, comparison.study)
    for done, name in enumerate(groups):
        context.control.check()
        context.control.progress(done, len(groups))
        if name == Group.INDEPENDENT:
            comparison.independent()
        comparison.group(name)


class _Comparison:
    """One set of images against as many test images of the training set."""

    def __init__(self, context: Context, study: OodSpec, index: int) -> None:
        self.context, self.study, self.index = context, study, index
        self.size = study.size(context.spec)
        self.results: Results = context.results()
        made = {run: context.wanted("ood", f"{index}/{run}") for run in range(context.spec.ensemble.runs)}
        self.made = {
            run: {group_name(name): digest for name, digest in left["groups"].items()}
            for run, left in made.items()
            if left is not None
        }
        if not self.made:
            raise StageError("no run is left to compare: none has learned, or their stages failed")
        self.runs = list(self.made)
        about = next(left for left in made.values() if left is not None)
        splits = context.spec.evaluation.splits
        self.split = "test" if "test" in splits else splits[0]
        images = about["images"]
        self.inside = min(images, len(self.results.true_labels(self.split)))
        self.about: Json = {
            "dataset": study.dataset,
            "title": about["title"],
            "conversion": about["conversion"],
            "size": images,
            "in_size": self.inside,
            "in_split": self.split,
        }

    def add(self, subject: str, metric: str, value: float, n: int, **details: Any) -> None:
        self.context.add_group(f"ood/{self.index}/{subject}", metric, value, n, None, **self.about, **details)

    def functions(self, run: int, group: str) -> list[Pair]:
        """Logits of each function of a group of one run, on the images and on the test images; read when used."""
        digest = self.made[run].get(group)
        if digest is None:
            return []
        outside = self.context.artifacts.array(digest)
        solutions = members(self.context, run, group, len(outside))
        return [
            Pair(logits, self.results.logits(solution, self.split)[: self.inside])
            for logits, solution in zip(outside, solutions, strict=True)
        ]

    def independent(self) -> None:
        """Divergence of M runs; where there are more, the mean over groups of M of them, at most so many, seeded."""
        runs = [pair for run in self.runs for pair in self.functions(run, Group.INDEPENDENT)]
        if len(runs) < self.size:
            return
        subsets = _subsets(len(runs), self.size, self.study.seed)
        pairs = [self._noticed([[runs[place] for place in subset]])[0][0] for subset in subsets]
        self._divergence(Group.INDEPENDENT, pairs, over="groups of runs")

    def group(self, name: str) -> None:
        """Of one group: divergence run by run, and detection by one run's average and by the average over runs."""
        runs = [functions for run in self.runs if (functions := self.functions(run, name))]
        if not runs:
            return
        pairs, everyone = self._noticed(runs)
        whole = [pair for pair in pairs if pair.outside.members == self.size]
        if name != Group.INDEPENDENT and whole:
            self._divergence(name, whole, over="runs", short=len(pairs) - len(whole))
        self._detection(name, "single", pairs, members=max(pair.outside.members for pair in pairs))
        if len(pairs) > 1:
            self._detection(name, "ensemble", [everyone], members=sum(pair.outside.members for pair in pairs))

    def _noticed(self, runs: Sequence[Sequence[Pair]]) -> tuple[list[Both], Both]:
        """Of each run's functions together, and of all runs."""
        self.context.control.check()
        outside, all_outside = noticed([[pair.outside for pair in run] for run in runs])
        inside, all_inside = noticed([[pair.inside for pair in run] for run in runs])
        return [Both(*both) for both in zip(outside, inside, strict=True)], Both(all_outside, all_inside)

    def _divergence(self, group: str, pairs: list[Both], **details: Any) -> None:
        outside = [pair.outside.js_mean for pair in pairs]
        inside = [pair.inside.js_mean for pair in pairs]
        for metric, factor in (("js_mean", 1), ("js_sum", self.size)):
            values, own = [factor * value for value in outside], [factor * value for value in inside]
            self.add(
                group, metric, float(np.mean(values)), len(pairs), group=group, members=self.size,
                sd=deviation(values), values=values, in_sd=deviation(own), in_values=own,
                **{"in": float(np.mean(own))}, **details,
            )  # fmt: skip

    def _detection(self, group: str, functions: str, pairs: list[Both], *, members: int) -> None:
        """functions: "single" (each run's average of its members) or "ensemble" (the average over runs)."""
        runs = sum(Group.INDEPENDENT in made for made in self.made.values())
        about: Json = {"group": group, "functions": functions, "members": members, "runs": runs}
        for score in SCORES:
            if members == 1 and score == "mutual-information":
                continue  # one function has none
            found = [asdict(detection(pair.outside.scores[score], pair.inside.scores[score])) for pair in pairs]
            for metric in (field.name for field in fields(Detection)):
                values = [each[metric] for each in found]
                self.add(
                    f"{group}/{functions}/{score}", metric, float(np.mean(values)), len(values), score=score,
                    sd=deviation(values), values=values, **about,
                )  # fmt: skip
        outside = [pair.outside.scores["entropy"] for pair in pairs]
        inside = [pair.inside.scores["entropy"] for pair in pairs]
        means, own = [float(one.mean()) for one in outside], [float(one.mean()) for one in inside]
        classes = len(self.results.class_names)
        self.add(
            f"{group}/{functions}", "entropy", float(np.mean(means)), len(pairs), **about,
            sd=deviation(means), in_sd=deviation(own), **{"in": float(np.mean(own))},
            counts=np.sum([entropy_counts(one, classes) for one in outside], axis=0).tolist(),
            in_counts=np.sum([entropy_counts(one, classes) for one in inside], axis=0).tolist(),
        )  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """One function's logits on the images outside and on the test images inside."""

    outside: NDArray[np.float32]
    inside: NDArray[np.float32]


@dataclass(frozen=True)
class Both:
    """Several functions together, on the images outside and on the test images inside."""

    outside: Noticed
    inside: Noticed


def _subsets(runs: int, size: int, seed: int) -> list[tuple[int, ...]]:
    """All groups of `size` runs, or that many of them drawn by the seed."""
    if comb(runs, size) <= MOST_SUBSETS:
        return list(combinations(range(runs), size))
    rng = np.random.Generator(np.random.Philox(stream_seed(seed, "ood/runs", 0)))
    drawn: set[tuple[int, ...]] = set()
    while len(drawn) < MOST_SUBSETS:
        drawn.add(tuple(sorted(rng.permutation(runs)[:size].tolist())))
    return sorted(drawn)
