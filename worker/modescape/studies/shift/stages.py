"""What happens to functions when the test images are corrupted: accuracy, scores and divergence by type and intensity.

Three kinds of stages. `corrupt`: the test images under one type, every intensity, shared by experiments (large sets
are corrupted as they are predicted instead; published sets are only looked at). `shift`: one group of one run predicts
them. `shift-compare`: single functions, ensembles and divergences, and the evidence of claim (f2). Negative
log-likelihoods and calibration errors have twins: after a temperature of each scored prediction's own, fitted to it on
validation images, clean ones.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modescape.claims.evidence import OwnImages, ShiftEvidence, is_whole_shift
from modescape.claims.record import number
from modescape.corruptions import corruption as corrupting
from modescape.corruptions.frost import frost_fingerprint
from modescape.corruptions.published import PublishedSet
from modescape.datasets.here import seed_name
from modescape.draft import Draft
from modescape.errors import ArtifactMissing, DataCorrupt, StageError
from modescape.kept_picture_checks import PICTURE_CHECK
from modescape.prices import Work
from modescape.records import EventKind, Group, Need, PlannedStage, SampleSet, group_name
from modescape.registry import Entry, datasets
from modescape.science.blocks import blocks
from modescape.science.confidence import Estimate, OverPairs, OverRuns, Quantity, estimate, fixed_units
from modescape.science.data import Split
from modescape.science.ensembles import CalibratedScores, EnsembleScores, fit_temperatures, subsets
from modescape.science.predictions import average, entropy, log_softmax
from modescape.spec import ExperimentSpec
from modescape.spec_parts import DataSpec, ImportedSpec, keyed
from modescape.stages import groups
from modescape.stages.ensemble import FEW_IMAGES, MIN_IMAGES
from modescape.stages.examples import OWN, PICTURE_SECONDS, asked_pictures, keep_pictures, small
from modescape.stages.given import GIVEN, Given, given_parts, given_to
from modescape.stages.judge import add_claims, closed_to, judged, lost, waited_for, without
from modescape.stages.stage import Context, Json, Task, planner, stage, the_corruption, the_data
from modescape.studies.shift.others import expected, images_of
from modescape.studies.shift.study import ShiftSpec
from modescape.study import OtherSet, needed
from modescape.tables import Solution

Floats = NDArray[np.float64]
Cell = tuple[str | None, int]  # corruption and intensity; (None, 0) is clean

LOGIT_BYTES = 2e9  # an experiment's shifted logits are kept up to here, beyond it labels and sums
HELD_BYTES = 256e6  # corrupted images of one type are kept up to here, larger ones made as they are predicted
CHUNK_BYTES = 64e6  # of images in memory at a time
SECONDS_PER_VALUE = 1.5e-7  # of corrupting one pixel of one channel, mean over types (1.3e-7 measured at 28x28)
SAVE_EVERY_SECONDS = 20.0
_VALUES = 1 << 21  # probabilities that are compared at a time: 16 MB
SIZES = (1, 2, 4)
PUBLISHED = "published"
_NO_PIXELS = {
    "path", "test_images", "train_images", "validation_images", "split", "split_seed",
    "input_scale", "mean", "deviation", "channel_order",
}  # fmt: skip
CHECK: Need = ("corrupt", PUBLISHED)


@planner("shift", after="ood")
def plan(draft: Draft) -> None:
    study = draft.spec.shift
    if study is None:
        return
    if draft.spec.imported is not None:
        _plan_imported(draft, study, draft.spec.imported)
        return
    types, n = study.types(draft.info), study.count(draft.n.test)
    pixels = draft.info.channels * draft.info.height * draft.info.width
    source, made = _plan_images(draft, study, types, pixels)
    found = groups.planned(draft, study)
    fitted = min(draft.n.held_out, FEW_IMAGES) if draft.n.held_out >= MIN_IMAGES else 0
    cells = 1 + len(types) * len(study.intensities)
    others = study.other_sets(draft.spec.data)
    elsewhere: Json = {OWN: [(other.key, 1) for other in others]} if others else {}
    per_function = (cells - 1) * n + sum(map(expected, others))
    made += [(PICTURE_CHECK, f"shift.{field}") for field, own in study.own_images() if own.dataset == "folder"]
    logits = 4 * cells * n * draft.classes * sum(group.size for group in found)
    keep = "logits" if logits <= LOGIT_BYTES else "labels"
    for group in found:
        made_again = (cells - 1) * n * pixels * SECONDS_PER_VALUE if source == "made" else 0.0
        work = Work(predicted=group.size * (per_function + fitted), other=made_again)
        params = {"run": group.run, "group": group.name, "size": group.size, "types": list(types), "images": n,
                  "source": source, "keep": keep, **elsewhere, **draft.seen}  # fmt: skip
        needs = [*group.needs, *made]
        draft.add("shift", f"{group.run}/{group.name}", params, work, needs=needs, wants=group.wants)
    functions = sum(group.size for group in found)
    values = cells * n * draft.classes * functions
    compared = Work(other=1.2e-7 * values + 1.0)
    draft.add("shift-compare", "all", {"types": list(types), "images": n}, compared, wants=draft.keys("shift"))
    kept = logits
    if keep == "labels":
        kept = cells * n * ((1 if draft.classes <= 256 else 2) * functions + (4 * draft.classes + 8) * len(found))
    draft.bytes += kept
    draft.predictions += functions * per_function
    draft.warnings.append(_price(functions, types, study, n, keep, kept))


def _plan_imported(draft: Draft, study: ShiftSpec, imported: ImportedSpec) -> None:
    """Of an imported ensemble is read what its functions said of shifted images, of every group that was given."""
    cells, count = imported.cells, study.count(draft.n.test)
    params: Json = {"types": list(study.corruptions), "images": count, "cells": cells}
    for group in groups.planned(draft, study):
        below = _below(draft.spec, group.name)
        places = [f"{below}{place}" for place in ("test", *(_place(cell) for cell in cells))]
        others = [_place(cell) for cell in imported.own_images]
        read = given_to(draft, group.run, *places, f"{below}validation", *(f"{below}{place}" for place in others),
                        *(f"{place}/labels" for place in others))  # fmt: skip
        if all(place in read[GIVEN] for place in places):
            own = [cell for cell in imported.own_images if f"{below}{_place(cell)}" in read[GIVEN]]
            own_params = {"run": group.run, "group": group.name, "size": group.size, "keep": "logits", **params, **read,
                          **({OWN: own} if own else {})}  # fmt: skip
            draft.add("shift", f"{group.run}/{group.name}", own_params, Work(), needs=group.needs, wants=group.wants)
    if draft.keys("shift"):
        draft.add("shift-compare", "all", params, Work(other=1.0), wants=draft.keys("shift"))


def _place(cell: Cell) -> str:
    return f"shift/{cell[0]}/{cell[1]}"


def _below(spec: ExperimentSpec, group: str) -> str:
    """Where the arrays of a group are, of an imported ensemble."""
    return "" if group_name(group) == Group.INDEPENDENT else f"{spec.carried(group).place(group)}/"


def _plan_images(
    draft: Draft, study: ShiftSpec, types: Sequence[str], pixels: int
) -> tuple[str, list[tuple[str, str]]]:
    """Where corrupted images come from (stored, made, published), and the stages that must have run before."""
    if study.source == "published":
        draft.add(*CHECK, {"types": list(types)}, Work(other=5.0))
        draft.stages.insert(0, draft.stages.pop())
        return "published", [CHECK]
    bytes_of_type = len(study.intensities) * draft.n.test * pixels
    if bytes_of_type > HELD_BYTES:
        return "made", []
    for name in types:
        params = {"corruption": name, "images": draft.n.test}
        draft.add("corrupt", name, params, Work(other=bytes_of_type * SECONDS_PER_VALUE))
    draft.bytes += len(types) * bytes_of_type
    return "stored", [("corrupt", name) for name in types]


PICTURES = "shift-thumbnails"


@planner(PICTURES, after="examples")
def plan_pictures(draft: Draft) -> None:
    """Of the sets with images of their own; of the test images, changed, those are shown that `corrupt` keeps."""
    study, imported = draft.spec.shift, draft.spec.imported
    if study is None or len(draft.runs) < 2:
        return
    for cell in imported.own_images if imported is not None else ():
        read = given_to(draft, 0, f"images/{_place(cell)}")
        if read[GIVEN]:
            draft.add(PICTURES, f"{cell[0]}/{cell[1]}", read, Work(other=1.0))
    checks = {field for field, own in study.own_images() if own.dataset == "folder"}
    for i, other in enumerate(study.other_sets(draft.spec.data) if imported is None else ()):
        needs = [(PICTURE_CHECK, f"shift.others.{i}")] if f"others.{i}" in checks else []
        draft.add(PICTURES, f"{other.key}/1", {"set": i}, Work(other=PICTURE_SECONDS * expected(other)), needs=needs)


def later_pictures(spec: ExperimentSpec) -> list[PlannedStage]:
    """The same for an experiment that was planned before there were these stages."""
    others = spec.shift.other_sets(spec.data) if spec.shift is not None and spec.imported is None else ()
    return [asked_pictures(PICTURES, f"{other.key}/1", {"set": i}) for i, other in enumerate(others)]


def _pictured(task: Task) -> OtherSet:
    return needed(task.spec.shift).other_sets(task.spec.data)[task.params["set"]]


def _picture_parts(task: Task) -> Json:
    return {GIVEN: task.params[GIVEN]} if GIVEN in task.params else {"data": keyed(_pictured(task).data)}


def _the_pictured(task: Task) -> list[Entry]:
    name = "" if GIVEN in task.params else _pictured(task).data.dataset
    return [datasets[name]] if name in datasets else []


@stage(PICTURES, parts=_picture_parts, brought=(_the_pictured,))
def pictures(context: Context) -> None:
    """uint8 [n, C, h, w] of the images that are evaluated, for pages."""
    if GIVEN in context.params:
        keep_pictures(context, context.artifacts.array(next(iter(context.params[GIVEN].values()))))
        return
    other = needed(context.spec.shift).other_sets(context.spec.data)[context.params["set"]]
    found = images_of(other, context.splits.classes, context.settings.data_folders)
    keep_pictures(context, np.concatenate([small(chunk) for images, _ in found for chunk in _cut(context, images)]))


@planner("shift-check", after="connectivity")
def plan_check(draft: Draft) -> None:
    """Everything waits for the look at a published set, so that nothing is trained for a wrong one; planned last."""
    if CHECK in draft.keys("corrupt"):
        draft.stages = [
            stage if stage.needs or stage.wants or (stage.kind, stage.key) == CHECK else replace(stage, needs=(CHECK,))
            for stage in draft.stages
        ]


def _price(functions: int, types: Sequence[str], study: ShiftSpec, n: int, keep: str, kept: float) -> str:
    count = functions * len(types) * len(study.intensities) * n
    said = f"{count / 1e6:,.0f} million" if count >= 1e6 else f"{count:,}"
    what = "logits" if keep == "logits" else "labels and sums of probabilities, the logits being too many"
    return (
        f"shift: {said} predictions ({functions} functions x {len(types)} types x {len(study.intensities)} intensities "
        f"x {n:,} images), kept as {what} ({kept / 1e6:,.0f} MB)"
    )


# ---- corrupted images ----


def _corrupt_parts(task: Task) -> Json:
    """Only what decides the images, so that experiments share them."""
    spec, study = task.spec, needed(task.spec.shift)
    data = _pixels(spec.data)
    if task.key == PUBLISHED:
        data |= {"test_images": spec.data.test_images}
        return {"data": data, "shift": _images_of(study), "types": task.params["types"]}
    name = task.params["corruption"]
    photographs = {"photographs": study.fingerprint} if _has_photographs(study, name) else {}
    return photographs | {
        "data": data,
        "images": task.params["images"],
        "corruption": name,
        "intensities": list(study.intensities),
        "corruptions": corrupting.VERSION,
    }


def _pixels(data: DataSpec) -> Json:
    """What decides the pixels of the test images: all but where they lie, how many are read, what else is cut from the
    files, and how networks see them. The order of a user's own is in their fingerprint."""
    return {field: value for field, value in keyed(data).items() if field not in _NO_PIXELS}


def _images_of(study: ShiftSpec) -> Json:
    """The part of the study that decides which images are evaluated."""
    return keyed(study, "source", "fingerprint", "intensities")


@stage("corrupt", parts=_corrupt_parts, brought=(the_data, the_corruption), only_looks=lambda key: key == PUBLISHED)
def corrupt(context: Context) -> None:
    """The whole test split under one type: uint8 [intensities, N, C, H, W]; or a look at the published set."""
    study = needed(context.spec.shift)
    if context.lease.stage.key == PUBLISHED:
        _published(context).check_labels(context.split("test").numpy_labels())
        return
    name, total = context.params["corruption"], context.params["images"]
    shape = context.splits.shape
    images = np.zeros((len(study.intensities), total, shape.channels, shape.height, shape.width), np.uint8)
    done, before = _taken_up(context)
    if done:
        images[:done] = before["images"]
    saved = time.monotonic()
    for i in range(done, len(study.intensities)):
        for start, clean in _chunks(context, total, rounds=i, of=len(study.intensities)):
            indices = np.arange(start, start + len(clean))
            images[i, indices] = _corrupted(context, clean, name, study.intensities[i], indices)
        if time.monotonic() - saved > SAVE_EVERY_SECONDS and i + 1 < len(study.intensities):
            _save(context, i + 1, {"images": images[: i + 1]})
            saved = time.monotonic()
    context.output.extra = {"images": context.keep(images, "images"), "intensities": list(study.intensities)}


def _corrupted(
    context: Context, clean: NDArray[np.uint8], name: str, intensity: int, indices: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Test images [n, C, H, W] under one type. Raises DataCorrupt when the photographs of frost have changed."""
    study = needed(context.spec.shift)
    photographs = None
    if _has_photographs(study, name):
        assert study.path is not None
        photographs = Path(study.path)
        if frost_fingerprint(photographs) != study.fingerprint:
            raise DataCorrupt(f"{photographs} has changed since the experiment was created; clone it to use that")
    return corrupting.corrupt(
        clean, name, intensity, indices=indices, dataset=seed_name(context.spec.data),
        frost_textures=photographs, check=context.control.check,
    )  # fmt: skip


def _has_photographs(study: ShiftSpec, name: str) -> bool:
    return name == "frost" and study.source == "generated" and study.path is not None


def _save(context: Context, done: int, tensors: Mapping[str, NDArray[Any]]) -> None:
    """What a later attempt goes on from: arrays of what is done. Files first, then the row that names them."""
    lease = context.lease
    name = f"{lease.stage.id}-{lease.stage.attempt}-{done}"
    context.artifacts.put_scratch(name, tensors, {"done": f"{done}"})
    context.control.save_partial({"resume": name}, step=done)
    context.artifacts.drop_scratch(lease.stage.id, keep=name)


def _taken_up(context: Context) -> tuple[int, dict[str, NDArray[Any]]]:
    """How many parts an earlier attempt has done, and their arrays. A lost file costs time, not results."""
    name = context.lease.stage.partial.get("resume")
    if name is None:
        return 0, {}
    try:
        tensors, metadata = context.artifacts.scratch(name)
    except ArtifactMissing as missing:
        context.control.note(EventKind.RESTARTED, {"reason": str(missing)})
        return 0, {}
    return int(metadata["done"]), tensors


def _published(context: Context) -> PublishedSet:
    study = needed(context.spec.shift)
    assert study.path is not None
    return PublishedSet(Path(study.path), context.split("test"), context.splits.classes)


def _chunks(
    context: Context, total: int, *, rounds: int = 0, of: int = 1, name: str = "test"
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """(start, uint8 images [n, C, H, W]) of the first `total` images of a split, telling how far it is."""
    import torch

    split = context.split(name)
    size = _chunk_size(context)
    for start in range(0, total, size):
        context.control.check()
        context.control.progress(rounds * total + start, of * total)
        rows = torch.arange(start, min(start + size, total), device=split.labels.device)
        yield start, split.batch(rows).cpu().numpy()


def _chunk_size(context: Context) -> int:
    shape = context.splits.shape
    return max(1, min(2000, int(CHUNK_BYTES / (shape.channels * shape.height * shape.width))))


class _Images:
    """The corrupted images a shift stage predicts, from wherever the plan takes them."""

    def __init__(self, context: Context) -> None:
        self.context, self.total = context, int(context.params["images"])
        self.source = context.params["source"]
        self._set = _published(context) if self.source == "published" else None

    def chunks(self, name: str, intensity: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """(start, images [n, C, H, W]) under one type and intensity."""
        size = _chunk_size(self.context)
        for start in range(0, self.total, size):
            self.context.control.check()
            yield start, self._read(name, intensity, start, min(start + size, self.total))

    def _read(self, name: str, intensity: int, start: int, stop: int) -> NDArray[np.uint8]:
        import torch

        context = self.context
        if self.source == "stored":
            made = context.need("corrupt", name)
            stored: NDArray[np.uint8] = context.artifacts.array(made["images"])
            return stored[made["intensities"].index(intensity), start:stop]
        if self._set is not None:
            return self._set.images(name, intensity, start, stop)
        split = context.split("test")
        clean = split.batch(torch.arange(start, stop, device=split.labels.device)).cpu().numpy()
        return _corrupted(context, clean, name, intensity, np.arange(start, stop))


# ---- one group of one run ----


def _shift_parts(task: Task) -> Json:
    if GIVEN in task.params:
        return given_parts(task)
    spec = task.spec
    params = {key: value for key, value in task.params.items() if key != "run"}
    data = _pixels(spec.data) | {"test_images": spec.data.test_images}
    study = needed(spec.shift)
    own = [keyed(m) for m in spec.methods if m.method == task.params["group"]]
    brought = [_pixels(own) for _, own in study.own_images()]
    return {"data": data, "splits": spec.evaluation.splits, "shift": _images_of(study), "params": params, "method": own,
            "scale": spec.data.input_scale, "corruptions": corrupting.VERSION,
            **({OWN: brought} if brought else {})}  # fmt: skip


def _the_others(task: Task) -> list[Entry]:
    return [datasets[name] for name, _ in task.params.get(OWN, ()) if name in datasets and GIVEN not in task.params]


@stage("shift", version=3, parts=_shift_parts, brought=(_the_others,))
def shift(context: Context) -> None:
    """What one group of one run says of the first test images, clean and under every type and intensity."""
    params = context.params
    solutions = groups.members(context, params["run"], params["group"], params["size"])
    cells = _cells(context)
    if GIVEN in params:
        _read(context, solutions, cells)
        return
    kept = _Kept(context, functions=len(solutions), cells=len(cells))
    if solutions:
        networks = groups.Networks(context, params["run"], solutions)
        images = _Images(context)
        if kept.done == 0:
            kept.put(0, 0, _clean(context, networks, solutions, "test", kept.images))
            kept.done = 1
        saved = time.monotonic()
        steps = (len(cells) - 1) * kept.images
        for c in range(kept.done, len(cells)):
            name, intensity = cells[c]
            assert name is not None
            for start, chunk in images.chunks(name, intensity):
                kept.put(c, start, networks.logits(chunk))
                about = {"corruption": name, "intensity": intensity}
                context.control.progress((c - 1) * kept.images + start + len(chunk), steps, **about)
            kept.done = c + 1
            if time.monotonic() - saved > SAVE_EVERY_SECONDS:
                kept.save()
                saved = time.monotonic()
    context.output.extra = {
        "cells": [list(cell) for cell in cells],
        "images": kept.images,
        "functions": [{"role": s.role, "set": s.sample_set, "index": s.index} for s in solutions],
        **kept.keep(),
        **(_validated(context, networks, solutions) if solutions else {}),
        **(_elsewhere(context, networks) if solutions else {}),
    }


def _elsewhere(context: Context, networks: groups.Networks) -> Json:
    """What the functions say of the sets that have images of their own: logits [S, 1, n, K], and the labels."""
    found, study = [], needed(context.spec.shift)
    for other in study.other_sets(context.spec.data) if OWN in context.params else ():
        parts = list(images_of(other, context.splits.classes, context.settings.data_folders))
        chunks = (chunk for images, _ in parts for chunk in _cut(context, images))
        logits = np.concatenate([networks.logits(chunk) for chunk in chunks], axis=1)
        labels = np.concatenate([own for _, own in parts])
        kept = context.keep(logits[:, None], "predictions"), context.keep(labels, "labels")
        found.append({"cell": [other.key, 1], "logits": kept[0], "labels": kept[1]})
    return {OWN: found} if found else {}


def _cut(context: Context, images: Split) -> Iterator[NDArray[np.uint8]]:
    """uint8 images [n, C, H, W] of a whole split."""
    import torch

    for start in range(0, len(images), _chunk_size(context)):
        context.control.check()
        rows = torch.arange(start, min(start + _chunk_size(context), len(images)), device=images.labels.device)
        yield images.batch(rows).cpu().numpy()


def _validated(context: Context, networks: groups.Networks, solutions: Sequence[Solution]) -> Json:
    """What a temperature is fitted to: log-probabilities [n, K] of the functions' average on the first validation
    images; nothing where those are too few."""
    total = min(len(context.splits.validation), FEW_IMAGES)
    if total < MIN_IMAGES or not context.is_held_out:
        return {}
    logs = average(_clean(context, networks, solutions, "validation", total))
    return {"validation": context.keep(np.asarray(logs, np.float32), "probabilities")}


def _read(context: Context, solutions: Sequence[Solution], cells: Sequence[Cell]) -> None:
    """The same of functions that were evaluated elsewhere."""
    given, own, count = Given(context), _below(context.spec, context.params["group"]), context.params["images"]
    places = [f"{own}{'test' if name is None else f'shift/{name}/{intensity}'}" for name, intensity in cells]
    others = [f"{own}{_place(cell)}" for cell in context.params.get(OWN, ())]
    solutions = given.among(solutions, *places, *others)
    outputs = [given.of(place, solutions) for place in places]
    by_function = [said[i] for i in range(len(solutions)) for said in outputs]
    context.output.extra = {
        "cells": [list(cell) for cell in cells],
        "images": count,
        "functions": [{"role": s.role, "set": s.sample_set, "index": s.index} for s in solutions],
        "logits": given.keep_logits(context, by_function, (len(solutions), len(cells)), count),
    }
    held = given.of(f"{own}validation", solutions) if f"{own}validation" in given else []
    if held and len(held[0]) >= MIN_IMAGES:
        logs = average(given.logits(outputs[:FEW_IMAGES]) for outputs in held)
        context.output.extra["validation"] = context.keep(np.asarray(logs, np.float32), "probabilities")
    if OWN in context.params:
        context.output.extra[OWN] = [
            _read_own(context, given, (name, intensity), solutions) for name, intensity in context.params[OWN]
        ]


def _read_own(context: Context, given: Given, cell: Cell, solutions: Sequence[Solution]) -> Json:
    """What they said of a set with images of its own, as logits [S, 1, n, K], and its labels."""
    outputs = given.of(f"{_below(context.spec, context.params['group'])}{_place(cell)}", solutions)
    labels = np.asarray(given.array(f"{_place(cell)}/labels"), np.int64)
    return {
        "cell": list(cell),
        "logits": given.keep_logits(context, outputs, (len(outputs), 1)),
        "labels": context.keep(labels, "labels"),
    }


def _cells(context: Context) -> list[Cell]:
    if context.spec.imported is not None:
        return [(None, 0), *context.spec.imported.cells]
    types, intensities = context.params["types"], needed(context.spec.shift).intensities
    return [(None, 0), *((name, intensity) for name in types for intensity in intensities)]


def _clean(
    context: Context, networks: groups.Networks, solutions: Sequence[Solution], split: str, count: int
) -> NDArray[np.float32]:
    """Logits [S, n, K] of the first images of a split as they are: those kept before, else made now."""
    results = context.results()
    if all(split in solution.predictions for solution in solutions):
        return np.stack([results.logits(solution, split)[:count] for solution in solutions])
    return np.concatenate([networks.logits(chunk) for _, chunk in _chunks(context, count, name=split)], axis=1)


class _Kept:
    """What a shift stage keeps of its logits, filled cell by cell: all of them, or labels and sums.

    labels [S, cells, n]; sums of probabilities [cells, n, K], of entropies [cells, n], and the mean Jensen-Shannon
    divergence of pairs of functions [cells, n] (NaN for a single one), all float32.
    """

    def __init__(self, context: Context, *, functions: int, cells: int) -> None:
        self.context, self.images = context, int(context.params["images"])
        classes, n = len(context.splits.classes), self.images
        if context.params["keep"] == "logits":
            shapes: dict[str, tuple[tuple[int, ...], Any]] = {"logits": ((functions, cells, n, classes), np.float32)}
        else:
            shapes = {
                "labels": ((functions, cells, n), np.uint8 if classes <= 256 else np.uint16),
                "sums": ((cells, n, classes), np.float32),
                "entropies": ((cells, n), np.float32),
                "divergences": ((cells, n), np.float32),
            }
        self.arrays = {name: np.zeros(shape, dtype) for name, (shape, dtype) in shapes.items()}
        self.done, before = _taken_up(context)
        for key, array in before.items():
            self._finished(key, self.arrays[key])[...] = array

    def _finished(self, key: str, array: NDArray[Any]) -> NDArray[Any]:
        return array[:, : self.done] if key in ("logits", "labels") else array[: self.done]

    def put(self, cell: int, start: int, logits: NDArray[np.float32]) -> None:
        """Logits [S, n, K] of a cell's images from `start` on."""
        rows = slice(start, start + logits.shape[1])
        if "logits" in self.arrays:
            self.arrays["logits"][:, cell, rows] = logits
            return
        found = Functions.of(logits)
        self.arrays["labels"][:, cell, rows] = found.labels
        self.arrays["sums"][cell, rows] = found.mean * len(logits)
        self.arrays["entropies"][cell, rows] = found.entropy * len(logits)
        self.arrays["divergences"][cell, rows] = found.divergence

    def save(self) -> None:
        """So that a later attempt goes on after the last finished cell."""
        _save(self.context, self.done, {key: self._finished(key, array) for key, array in self.arrays.items()})

    def keep(self) -> dict[str, str]:
        kinds = {"logits": "predictions", "labels": "labels", "sums": "probabilities"}
        return {key: self.context.keep(array, kinds.get(key, key)) for key, array in self.arrays.items()}


@dataclass(frozen=True, eq=False)
class Functions:
    """A group's functions on n images of one cell.

    labels [S, n]; mean: of their probabilities [n, K]; logs: its logarithm; entropy: mean over functions [n];
    divergence: Jensen-Shannon of two, mean over pairs [n], NaN for a single function.
    """

    labels: NDArray[np.integer[Any]]
    mean: Floats
    logs: Floats
    entropy: Floats
    divergence: Floats

    @classmethod
    def of(cls, logits: NDArray[np.float32]) -> Functions:
        """From logits [S, n, K]."""
        logs = log_softmax(logits)
        each = np.exp(logs)
        own = -np.einsum("snk,snk->sn", each, np.maximum(logs, -1e6))  # 0 log 0 = 0
        mean = each.mean(axis=0)
        if mean.min(initial=1.0) > 1e-280:
            log_mean = np.log(mean)
        else:
            log_mean = np.logaddexp.reduce(logs, axis=0) - np.log(len(logs))
        return cls(logits.argmax(-1), mean, log_mean, own.mean(axis=0), pair_divergence(each, own))


def pair_divergence(probabilities: Floats, entropies: Floats) -> Floats:
    """Jensen-Shannon divergence of two functions, mean over all pairs [n]; NaN for one. [S, n, K] and [S, n], nats."""
    count = len(probabilities)
    if count < 2:
        return np.full(probabilities.shape[1], np.nan)
    total = np.zeros(probabilities.shape[1])
    for i in range(count):
        for j in range(i):
            total += entropy((probabilities[i] + probabilities[j]) / 2)
    pairs = count * (count - 1) / 2
    return np.asarray(np.maximum(total / pairs - entropies.mean(axis=0), 0.0))


# ---- all groups of all runs ----


def _compare_parts(task: Task) -> Json:
    spec, study = task.spec, needed(task.spec.shift)
    # whether words may be given of members made elsewhere is theirs, too
    wordless = {"closed": closed_to(spec), "waits": waited_for(spec)} if spec.imported is not None else {}
    return {"shift": keyed(study), "params": task.params, "runs": spec.ensemble.runs, "seed": spec.ensemble.seed,
            "methods": [m.method for m in spec.methods], "size": study.size(spec),
            "data": spec.data.dataset, "fingerprint": spec.data.fingerprint,
            "margins": [spec.margins.f1, spec.margins.f2], **wordless}  # fmt: skip


@stage("shift-compare", version=4, parts=_compare_parts, judges=(ShiftEvidence,), gathers=True)
def shift_compare(context: Context) -> None:
    """Scores of single functions and ensembles, and divergences, by type and intensity; then claim (f2)."""
    labels = context.results().true_labels("test")[: context.params["images"]]
    compared = _Compared(context, _cells(context), labels)
    saved, of = time.monotonic(), len(compared.shown)
    for c in range(compared.done, of):
        context.control.progress(c, of)
        compared.add(c)
        if time.monotonic() - saved > SAVE_EVERY_SECONDS:
            compared.save()
            saved = time.monotonic()
    compared.tell()
    if compared.evident:
        records = judged(context, compared.evidence())
        add_claims(context, (without(record, compared.lost, compared.runs) for record in records))


@dataclass(frozen=True, eq=False)
class _Shown:
    """Images that groups were shown: a cell of the test images, or a set with images of its own (own: its number)."""

    cell: Cell
    labels: NDArray[np.int64]
    own: int | None = None


class _Compared:
    """Numbers of every group by cell, filled cell by cell; can be saved and taken up again.

    values: "metric|group|size" -> [ensembles, shown] and "js_mean|group" -> [units, shown], units being runs, or sets
    of M runs for independent ones; NaN where a group was not shown a set. clean and shifted: divergences of pairs per
    image, of runs [n, n, N] under "independent", of samples inside runs [n, N] under the method's name; elsewhere: the
    same on every set with images of its own that all of these were shown; methods: those with their runs, from which
    those that have failed there are missing.
    """

    def __init__(self, context: Context, cells: Sequence[Cell], labels: NDArray[np.int64]) -> None:
        self.context, self.labels = context, labels
        spec, study = context.spec, needed(context.spec.shift)
        self.size, self.seed = study.size(spec), spec.ensemble.seed
        self.classes = len(context.results().class_names)
        self.groups: dict[str, list[_Stored]] = {}
        for name in groups.names(spec, study):
            planned = groups.planned_name(name)
            keys = [need.key for need in context.needs if need.key.partition("/")[2] == planned]
            left = {key: context.wanted("shift", key) for key in keys}  # None: it failed, or was skipped as its run had
            there = [_Stored(context, key, kept) for key, kept in left.items() if kept and kept["functions"]]
            kept = sorted(there, key=lambda stored: stored.run)
            if kept:
                self.groups[name] = kept
        if Group.INDEPENDENT not in self.groups:
            raise StageError("no run is left to compare: none has learned, or their stages failed")
        self.values: dict[str, Floats] = {}
        self.runs = [stored.run for stored in self.groups[Group.INDEPENDENT]]
        runs = len(self.runs)
        self.lost = lost(context.results(), self.runs, "shift")
        had = {name: [run for run in self.runs if run not in self.lost.get(name, {})] for name in self.groups}
        self.methods = {
            name: had[name] for name, kept in self.groups.items()
            if self._is_sampled(name) and [k.run for k in kept] == had[name]
            and min(k.functions for k in kept) > 1
        }  # fmt: skip
        # of a method whose best strength is 0 there is one function a run, so nothing to compare
        self.alike = [
            name for name, kept in self.groups.items()
            if self._is_sampled(name) and name not in self.methods and all(k.is_alone for k in kept)
        ]  # fmt: skip
        others = self.groups[Group.INDEPENDENT][0].own_sets(context)
        self.shown = [*(_Shown(cell, labels) for cell in cells), *others]
        compared = [Group.INDEPENDENT, *self.methods]
        self.counted = [
            c for c, one in enumerate(self.shown)
            if c > 0 and all(stored.saw(one) for name in compared for stored in self.groups[name])
        ]  # fmt: skip
        self.clean, self.shifted = self._nothing(len(labels)), self._nothing(len(labels))
        self.elsewhere = {
            f"{c}|{name}": zeros for c in self.counted if self.shown[c].own is not None
            for name, zeros in self._nothing(len(self.shown[c].labels)).items()
        }  # fmt: skip
        self.answers = {f"{c}": np.zeros((runs, len(one.labels)), np.int64)
                        for c, one in enumerate(self.shown) if one.own is not None}  # fmt: skip
        self.finals = np.zeros((runs, len(labels)), np.int64)
        self._temperatures = {name: self._fitted(kept) for name, kept in self.groups.items()}
        self.done, before = _taken_up(context)
        for key, array in before.items():
            kind, _, rest = key.partition("/")
            if rest:
                getattr(self, kind)[group_name(rest)] = array
            else:
                self.finals = array

    def _nothing(self, images: int) -> dict[str, Floats]:
        """Zeros for the divergences of pairs of runs, and of samples inside the runs of every method."""
        runs = len(self.runs)
        shapes: dict[str, tuple[int, ...]] = {name: (len(own), images) for name, own in self.methods.items()}
        shapes[Group.INDEPENDENT] = (runs, runs, images)
        return {name: np.zeros(shape) for name, shape in shapes.items()}

    def _is_sampled(self, group: str) -> bool:
        return group not in list(Group) and self.context.spec.method(group).sampled

    @property
    def evident(self) -> bool:
        """Whether claim (f2) is about these data: several runs, samples inside them, and intensities 1 to 5."""
        has_samples, units = bool(self.methods or self.alike), len(self.groups[Group.INDEPENDENT])
        return is_whole_shift(self.context.spec) and has_samples and units > 1

    def add(self, cell: int) -> None:
        """Take in one cell of every group, a block of images at a time."""
        shown = self.shown[cell]
        for name, kept in self.groups.items():
            if not all(stored.saw(shown) for stored in kept):
                continue
            scored = EnsembleScores(len(kept), seed=self.seed, only=_sizes(len(kept)))
            twins = CalibratedScores(len(kept), self._temperatures[name], seed=self.seed)
            apart = _Apart(len(kept), len(shown.labels), self._sets_of_runs(name, len(kept)))
            values = max(len(kept), *(one.functions for one in kept)) * self.classes
            check = self.context.control.check
            for part in blocks([array for stored in kept for array in stored.mapped(cell, shown)], _VALUES // values):
                found = []
                for stored in kept:
                    check()
                    found.append(stored.read(cell, shown, part))
                logs = np.stack([one.logs for one in found])
                scored.add(logs, shown.labels[part], check=check)
                twins.add(logs, shown.labels[part], check=check)
                apart.add(part, found)
                self._gather(name, found, cell, part)
            self._score(name, scored, twins, cell)
            self._diverge(name, apart, cell)
        self.done = cell + 1

    def _fitted(self, kept: Sequence[_Stored]) -> dict[int, tuple[float, ...]]:
        """Temperatures of every ensemble of a group, by size; nothing where they cannot be fitted."""
        own = [stored.validation for stored in kept]
        logs = [one for one in own if one is not None]
        if len(logs) < len(own):
            return {}
        spec = self.context.spec
        if spec.imported is not None and "validation" not in spec.evaluation.splits:
            return {}  # not everything was evaluated on it, so it was left aside
        imported = self.context.results().true_labels("validation") if spec.imported is not None else None
        whole = self.context.split("validation").numpy_labels() if imported is None else imported
        labels = whole[: len(logs[0])]
        check = self.context.control.check
        return fit_temperatures(np.stack(logs), labels, only=_sizes(len(kept)), seed=self.seed, check=check)

    def _score(self, name: str, scored: EnsembleScores, twins: CalibratedScores, cell: int) -> None:
        for size in scored.subsets:
            for metric, values in scored.of(size).items():
                self._put(f"{metric}|{name}|{size}", cell, values)
        for size in twins.subsets:
            for metric, values in twins.of(size).items():
                self._put(f"{metric}-calibrated|{name}|{size}", cell, values)

    def _sets_of_runs(self, name: str, runs: int) -> tuple[tuple[int, ...], ...]:
        """Of which the divergence is told: sets of M runs, or each run's functions by themselves."""
        if name != Group.INDEPENDENT:
            return ()
        return subsets(runs, self.size, seed=self.seed) if runs >= self.size else ()

    def _diverge(self, name: str, apart: _Apart, cell: int) -> None:
        """js_mean of M functions (science a.9): of sets of M runs, or of M functions inside each run."""
        if name == Group.INDEPENDENT:
            if apart.sets:
                self._put(f"js_mean|{name}", cell, apart.of_sets())
            return
        full = [i for i, stored in enumerate(self.groups[name]) if stored.functions == self.size]
        if full and self.size > 1:
            self._put(f"js_mean|{name}", cell, [float(apart.inside[i].mean()) for i in full])

    def _gather(self, name: str, found: Sequence[Functions], cell: int, part: slice) -> None:
        if name == Group.INDEPENDENT and cell in self._others:
            self.answers[f"{cell}"][:, part] = np.stack([one.labels[0] for one in found])
        if cell > 0 and cell not in self.counted:
            return
        into = self.clean if cell == 0 else self.shifted
        if cell in self._others:
            into = {one: self.elsewhere[f"{cell}|{one}"] for one in (Group.INDEPENDENT, *self.methods)}
        weight = 1.0 if cell == 0 else 1.0 / len(self.counted)
        if name == Group.INDEPENDENT:
            if cell == 0:
                self.finals[:, part] = np.stack([one.labels[0] for one in found])
            own = [entropy(one.mean) for one in found]
            for i in range(len(found)):
                for j in range(i):
                    apart = entropy((found[i].mean + found[j].mean) / 2) - (own[i] + own[j]) / 2
                    into[name][i, j, part] += weight * np.maximum(apart, 0.0)
                    into[name][j, i, part] = into[name][i, j, part]
        elif name in self.methods:
            into[name][:, part] += weight * np.stack([one.divergence for one in found])

    def _put(self, key: str, cell: int, values: Any) -> None:
        if key not in self.values:
            self.values[key] = np.full((len(values), len(self.shown)), np.nan)
        self.values[key][:, cell] = values

    def save(self) -> None:
        kinds: dict[str, Mapping[str, NDArray[Any]]] = {
            "values": self.values, "clean": self.clean, "shifted": self.shifted, "elsewhere": self.elsewhere,
            "answers": self.answers,
        }  # fmt: skip
        tensors = {f"{kind}/{key}": array for kind, arrays in kinds.items() for key, array in arrays.items()}
        _save(self.context, self.done, tensors | {"finals": self.finals})

    @property
    def _others(self) -> list[int]:
        """Places among what was shown of the sets with images of their own."""
        return [c for c, one in enumerate(self.shown) if one.own is not None]

    def tell(self) -> None:
        """One row per group, size, metric and cell; rows of an intensity without a type are means over the types."""
        rows, source = self._rows(), self._source()
        for key, values in self.values.items():
            metric, name, *size = key.split("|")
            subject = "/".join(["shift", name, *size])
            about = self._about(name, int(size[0]) if size else None, len(values))
            for (corruption, intensity), places in rows.items():
                means = values[:, places].mean(axis=1)
                if np.isnan(means).all():
                    continue  # a set that this group was not shown
                details = {**about, "sd": float(means.std(ddof=1)) if len(means) > 1 else None}
                if corruption is None and intensity > 0:
                    details |= {"types": len(places), "from": source}
                if places[0] in self._others:
                    details |= {OWN: True}
                self.context.add_group(
                    subject, metric, float(means.mean()), len(self.shown[places[0]].labels), "test",
                    corruption=corruption, intensity=intensity, **details,
                )  # fmt: skip
        for c in self._others:
            self._tell_other(self.shown[c], self.answers[f"{c}"])

    def _tell_other(self, shown: _Shown, answers: NDArray[np.int64]) -> None:
        """What a set with images of its own does to single runs: accuracy and disagreement there, less on the test
        images. They were drawn independently, so the variances of both add (science o.2)."""
        closed, runs = closed_to(self.context.spec), len(self.runs)
        right = OverRuns.of(self.finals == self.labels), OverRuns.of(answers == shown.labels)
        apart = (
            OverPairs.of(runs, lambda i, j, own=own: own[i] != own[j], own.shape[1])  # type: ignore[misc]
            for own in (self.finals, answers)
        )
        corruption, intensity = shown.cell
        for metric, (here, there) in (("accuracy-change", right), ("disagreement-change", tuple(apart))):
            if metric == "disagreement-change" and runs < 2:
                continue
            with fixed_units() if closed else nullcontext():
                found = _change(here, there, runs)
            everyone = np.arange(runs)
            self.context.add_group(
                f"shift/{Group.INDEPENDENT}/1", metric, found.value, len(shown.labels), "test",
                corruption=corruption, intensity=intensity, here=here.mean(everyone), there=there.mean(everyone),
                low=number(found.low), high=number(found.high), error=number(found.error), runs=runs,
                images_only=bool(closed), title=self._title(shown),
            )  # fmt: skip

    def _title(self, shown: _Shown) -> str:
        spec, name = self.context.spec, str(shown.cell[0])
        if spec.imported is not None:
            return spec.imported.titles.get(name, name)
        titles = {other.key: other.title for other in needed(spec.shift).other_sets(spec.data)}
        return name if shown.own is None else titles.get(name, name)

    def _rows(self) -> dict[Cell, list[int]]:
        """Cells, and for every intensity the mean over types, with their places: over those of the test images, or
        where there are none over the other sets."""
        rows = {one.cell: [c] for c, one in enumerate(self.shown)}
        for intensity in needed(self.context.spec.shift).intensities:
            places = [c for c, one in enumerate(self.shown) if one.cell[1] == intensity]
            changed = [c for c in places if self.shown[c].own is None]
            rows[None, intensity] = changed or places
        return rows

    def _source(self) -> Json:
        """Where the corrupted images come from, for the captions of figures."""
        study = needed(self.context.spec.shift)
        if self.context.spec.imported is not None:
            return {"source": "imported"}
        folder = None if study.path is None else Path(study.path).name
        if study.source == "published":
            return {"source": study.source, "folder": folder}
        shape = self.context.splits.shape
        return {
            "source": study.source,
            "version": corrupting.VERSION,
            "constants": corrupting.table_for(shape.height, shape.width),
            "photographs": folder,
        }

    def _about(self, name: str, size: int | None, units: int) -> Json:
        """size: runs averaged; members: functions compared (js_mean) or averaged inside each run (scores)."""
        functions = [stored.functions for stored in self.groups[name]]
        if size is None:
            return {"members": self.size, "units": units}
        return {"size": size, "members": max(functions), "units": units}

    def evidence(self) -> ShiftEvidence:
        fewer = {tuple(own): own for own in self.methods.values() if own != self.runs}
        whole = replace(
            self._evidence(self.runs), alike=self.alike, failed=self.context.spec.ensemble.runs - len(self.runs)
        )
        return replace(whole, partial=tuple(map(self._evidence, fewer.values())))

    def _evidence(self, runs: list[int]) -> ShiftEvidence:
        """Of some runs, with the methods that have just these."""
        places = [self.runs.index(run) for run in runs]
        pairs = np.ix_(places, places)
        own = [name for name, had in self.methods.items() if had == runs]
        return ShiftEvidence(
            classes=self.classes,
            truth=self.labels,
            finals=self.finals[places],
            clean_between=self.clean[Group.INDEPENDENT][pairs],
            shifted_between=self.shifted[Group.INDEPENDENT][pairs],
            clean_within={name: self.clean[name] for name in own},
            shifted_within={name: self.shifted[name] for name in own},
            titles={name: self.context.spec.method(name).title for name in (*own, *self.alike)},
            numbers=tuple(runs),
            decided=True,
            own={
                f"{c}": OwnImages(
                    self.elsewhere[f"{c}|{Group.INDEPENDENT}"][pairs],
                    {name: self.elsewhere[f"{c}|{name}"] for name in own},
                )
                for c in self.counted if c in self._others
            },
            over=self._over(),
        )  # fmt: skip

    def _over(self) -> str:
        """What the mean under shift goes over, where that is not every type at every intensity."""
        if self.context.spec.imported is None and not self._others:
            return ""
        named = [f"{self._title(self.shown[c])} {self.shown[c].cell[1]}" for c in self.counted
                 if c not in self._others]  # fmt: skip
        own = [
            f"{self._title(self.shown[c])} ({len(self.shown[c].labels):,} images of its own, drawn independently)"
            for c in self.counted if c in self._others
        ]  # fmt: skip
        several = named if len(named) <= 6 else [f"{len(named)} types and intensities"]
        return "the mean over " + ", ".join([*several, *own])


def _change(here: Quantity, there: Quantity, units: int) -> Estimate:
    """The mean there less the mean here, of images that were drawn independently."""
    return estimate(
        lambda runs: there.mean(runs) - here.mean(runs), units, margin=0.0, influence=[there.examples, here.examples]
    )


def _sizes(runs: int) -> list[int]:
    """How many runs are averaged in what is scored."""
    return [size for size in dict.fromkeys((*SIZES, runs)) if size <= runs]


class _Apart:
    """How far functions of a group are apart on every image of a cell, nats: entropies of each run's mean [runs, n],
    of the mean over each set of runs [sets, n], and inside each run that of its mean less the mean one [runs, n]."""

    def __init__(self, runs: int, images: int, sets: Sequence[Sequence[int]]) -> None:
        self.sets, self.inside = sets, np.empty((runs, images))
        self._own, self._together = np.empty((runs, images)), np.empty((len(sets), images))

    def add(self, part: slice, found: Sequence[Functions]) -> None:
        for i, one in enumerate(found):
            self._own[i, part] = entropy(one.mean)
            self.inside[i, part] = self._own[i, part] - one.entropy
        for row, one_set in zip(self._together, self.sets, strict=True):
            row[part] = entropy(np.mean([found[i].mean for i in one_set], axis=0))

    def of_sets(self) -> list[float]:
        """js_mean of each set of runs, mean over images."""
        return [
            float(row.mean() - np.mean([self._own[i].mean() for i in one_set]))
            for row, one_set in zip(self._together, self.sets, strict=True)
        ]


class _Stored:
    """What one shift stage kept, read cell by cell."""

    def __init__(self, context: Context, key: str, kept: Json) -> None:
        self.kept = kept
        self.run = int(key.partition("/")[0])
        self.functions = len(self.kept["functions"])
        names = [name for name in ("logits", "labels", "sums", "entropies", "divergences") if name in self.kept]
        self._arrays = {name: context.artifacts.array(self.kept[name]) for name in names}
        self._own = {_place(one["cell"]): context.artifacts.array(one["logits"]) for one in kept.get(OWN, [])}
        # log-probabilities [n, K] of the average; None where there are too few validation images
        self.validation = context.artifacts.array(kept["validation"]) if "validation" in kept else None

    @property
    def is_alone(self) -> bool:
        """Whether it is the one fair sample of a run: fair samples are never rejected, so the best strength is 0."""
        return [function["set"] for function in self.kept["functions"]] == [SampleSet.FAIR]

    def own_sets(self, context: Context) -> list[_Shown]:
        return [
            _Shown((one["cell"][0], one["cell"][1]), context.artifacts.array(one["labels"]), own)
            for own, one in enumerate(self.kept.get(OWN, []))
        ]

    def saw(self, shown: _Shown) -> bool:
        return shown.own is None or _place(shown.cell) in self._own

    def mapped(self, cell: int, shown: _Shown) -> list[NDArray[Any]]:
        """What is read of it from the disk, [n, K] each."""
        logits = self._logits(cell, shown)
        return [self._arrays["sums"][cell]] if logits is None else list(logits)

    def _logits(self, cell: int, shown: _Shown) -> NDArray[np.float32] | None:
        """[S, n, K], where they were kept."""
        if shown.own is not None:
            return self._own[_place(shown.cell)][:, 0]
        return self._arrays["logits"][:, cell] if "logits" in self._arrays else None

    def read(self, cell: int, shown: _Shown, part: slice) -> Functions:
        logits, arrays = self._logits(cell, shown), self._arrays
        if logits is not None:
            return Functions.of(np.asarray(logits[:, part]))
        mean = np.asarray(arrays["sums"][cell, part], np.float64) / self.functions
        # float32 has no smaller number: a class below it counts as that likely (science a.4)
        logs = np.log(np.maximum(mean, np.finfo(np.float32).tiny))
        return Functions(
            np.asarray(arrays["labels"][:, cell, part]),
            mean,
            logs,
            np.asarray(arrays["entropies"][cell, part], np.float64) / self.functions,
            np.asarray(arrays["divergences"][cell, part], np.float64),
        )
