"""Which images? What the runs' final functions say of every example, and small pictures of the examples.

`examples` computes, `thumbnails` keeps pictures where the images are known. A page reads what they leave through
`example_list`. Sets of examples are named by where they are: test, validation, ood/0, shift/fog/3, and
shift/street/1 of a shifted set with images of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from modescape.datasets import loading
from modescape.draft import Draft
from modescape.errors import DataCorrupt, DataMissing, StageError
from modescape.example_list import NO_IMAGES
from modescape.prices import Work
from modescape.records import Absent, Group, Json, Need, PlannedStage, Role, StageState
from modescape.registry import datasets
from modescape.results import Results
from modescape.science.blocks import blocks
from modescape.science.data import ImageFiles, Split
from modescape.science.examples import OfEach, of_each
from modescape.spec import ExperimentSpec
from modescape.spec_parts import DataSpec, keyed
from modescape.stages.given import GIVEN, given_to
from modescape.stages.groups import planned_name
from modescape.stages.stage import Context, Task, planner, stage, the_data
from modescape.tables import Solution, Stage

EXAMPLES, THUMBNAILS = "examples", "thumbnails"
OWN = "own"  # where stages keep what is of shifted sets with images of their own

_VALUES = 1 << 20  # log-probabilities of all members in memory at a time: 8 MB
_SECONDS = 1.5e-7  # a probability of a member: two logarithms, an exponential and an entropy, measured on one core
SIDE = 48  # pixels of a kept picture's longer side, at most; smaller images are kept as they are
MOST_BYTES = 256_000_000  # of one set's pictures; of larger sets the first images have one
_AT_ONCE = 500  # images read at a time
PICTURE_SECONDS = 2e-4  # reading one from memory
MOST_PICTURED = 50_000


# ---- plans ----


@planner("examples", after="shift")
def plan(draft: Draft) -> None:
    """One stage for the numbers as soon as there are two runs, and one for the pictures of each set."""
    if len(draft.runs) < 2:
        return
    wants = draft.keys("predict", "ood", "shift")
    outputs = len(draft.runs) * draft.images * draft.classes
    draft.add(EXAMPLES, "all", {}, Work(other=_SECONDS * outputs), wants=wants)
    for name, at in _pictured(draft.spec).items():
        read = given_to(draft, 0, at)
        params = {"set": name, **(read if read.get(GIVEN) else {})}
        draft.add(THUMBNAILS, name, params, Work(other=PICTURE_SECONDS * min(draft.n.test, MOST_PICTURED)))


def _pictured(spec: ExperimentSpec) -> dict[str, str]:
    """The sets whose pictures are kept here, and where those of an imported ensemble are. The studies of other images
    and of shift keep those of theirs."""
    return {split: f"images/{split}" for split in spec.evaluation.splits}


def asked(spec: ExperimentSpec, stages: Sequence[Stage]) -> list[PlannedStage]:
    """The same for an experiment that was planned before there were these stages."""
    wants = tuple((one.kind, one.key) for one in stages if one.kind in ("predict", "ood", "shift"))
    numbers = PlannedStage(kind=EXAMPLES, key="all", wants=wants, work=Work(other=1.0), optional=True)
    return [numbers, *(asked_pictures(THUMBNAILS, name, {"set": name}) for name in _pictured(spec))]


def asked_pictures(kind: str, key: str, params: Json) -> PlannedStage:
    return PlannedStage(kind=kind, key=key, params=params, work=Work(other=1.0), optional=True)


# ---- numbers ----


@dataclass(frozen=True)
class _Set:
    """One set of examples: outputs [M, N, K] as they lie on the disk; labels [N] where they are known."""

    name: str
    title: str
    outputs: Sequence[NDArray[np.float32]]
    labels: NDArray[np.int64] | None

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        rows = _VALUES // (len(self.outputs) * self.outputs[0].shape[1])
        for part in blocks(self.outputs, rows):
            yield np.stack([own[part] for own in self.outputs])


def _parts(task: Task) -> Json:
    """Beside the predictions themselves only which sets there are."""
    spec = task.spec
    own = sorted(_own_titles(spec).items())
    return {"splits": list(spec.evaluation.splits), "runs": spec.ensemble.runs, "ood": len(spec.ood),
            **({OWN: own} if own else {})}  # fmt: skip


@stage(
    EXAMPLES,
    parts=_parts,
    gathers=True,
    absent=Absent("One run alone makes no ensemble.", add="runs"),
)
def examples(context: Context) -> None:
    """Of every set the numbers [Q, N], the members' labels [N, M] and the ensemble's [N]."""
    results = context.results()
    optima = results.solutions(role=Role.OPTIMUM)
    if len(optima) < 2:
        context.output.extra = {"skipped": "fewer than two runs are healthy, and one alone makes no ensemble"}
        return
    sets = list(_sets(context, results, optima))
    told: dict[str, Json] = {}
    for i, one in enumerate(sets):
        context.control.progress(i, len(sets))
        found = of_each(
            one.blocks(), one.labels, has_probabilities=context.spec.has_probabilities, check=context.control.check
        )
        told[one.name] = _kept(context, one, found)
    context.output.extra = {"sets": told, "runs": [one.run for one in optima], "classes": results.class_names}


def _sets(context: Context, results: Results, optima: Sequence[Solution]) -> Iterator[_Set]:
    for split in context.spec.evaluation.splits:
        yield _Set(split, split, [results.logits(one, split) for one in optima], results.true_labels(split))
    done = {(one.kind, one.key): one for one in context.needs if one.state == StageState.SUCCEEDED}
    for i in range(len(context.spec.ood)):
        left = [_left(done, ("ood", f"{i}/{one.run}")) for one in optima]
        if all(left):
            digests = [one["groups"][planned_name(Group.INDEPENDENT)] for one in left]
            yield _Set(f"ood/{i}", left[0]["title"], [context.artifacts.array(d)[0] for d in digests], None)
    yield from _shifted(context, results, [_left(done, ("shift", f"{one.run}/{_FINAL}")) for one in optima])
    yield from _own(context, [done.get(("shift", f"{one.run}/{_FINAL}")) for one in optima])


_FINAL = planned_name(Group.INDEPENDENT)


def _left(done: dict[Need, Stage], need: Need) -> Json:
    """What a stage left of a run's final function; {} where that is nothing."""
    extra: Json = done[need].result.get("extra", {}) if need in done else {}
    return extra if "logits" in extra or _FINAL in extra.get("groups", {}) else {}


def _shifted(context: Context, results: Results, left: Sequence[Json]) -> Iterator[_Set]:
    """Every type and intensity, where the study of shift kept outputs (of many functions it keeps labels alone)."""
    if not all(left):
        return
    kept = [context.artifacts.array(one["logits"])[0] for one in left]
    labels = results.true_labels("test" if "test" in context.spec.evaluation.splits else "validation")
    for c, (name, intensity) in enumerate(left[0]["cells"]):
        if name is not None:
            outputs = [own[c] for own in kept]
            yield _Set(f"shift/{name}/{intensity}", f"{name} {intensity}", outputs, labels[: len(outputs[0])])


def _own(context: Context, stages: Sequence[Stage | None]) -> Iterator[_Set]:
    """Shifted sets with images and labels of their own, where every member was shown them."""
    left = [{} if one is None else one.result.get("extra", {}) for one in stages]
    said = [{tuple(one["cell"]): one for one in extra.get(OWN, ())} for extra in left]
    cells, titles = said[0], _own_titles(context.spec)
    names = Counter(name for name, _ in cells)
    for name, intensity in cells:
        if not all((name, intensity) in one for one in said):
            continue
        shown = [one[name, intensity] for one in said]
        title = titles.get(name, name)
        yield _Set(
            f"shift/{name}/{intensity}", f"{title} {intensity}" if names[name] > 1 else title,
            [context.artifacts.array(one["logits"])[0, 0] for one in shown],
            context.artifacts.array(shown[0]["labels"]),
        )  # fmt: skip


def _own_titles(spec: ExperimentSpec) -> dict[str, str]:
    """What shifted sets with images of their own are called, by their types."""
    if spec.imported is not None:
        return {name: spec.imported.titles.get(name, name) for name, _ in spec.imported.own_images}
    return {} if spec.shift is None else {one.key: one.title for one in spec.shift.other_sets(spec.data)}


def _kept(context: Context, one: _Set, found: OfEach) -> Json:
    fits = np.uint8 if found.votes.max(initial=0) < 256 else np.uint16 if found.votes.max() < 65536 else np.int32
    return {
        "title": one.title,
        "examples": len(found.answers),
        "numbers": list(found.numbers),
        "values": context.keep(np.stack(list(found.numbers.values())), "examples"),
        "votes": context.keep(np.ascontiguousarray(found.votes.T.astype(fits)), "examples"),
        "answers": context.keep(found.answers.astype(fits), "examples"),
        "labels": None if one.labels is None else context.keep(one.labels, "labels"),
    }


# ---- pictures ----


def _picture_parts(task: Task) -> Json:
    """Only what decides the pictures, so that experiments on the same images share them."""
    name, spec = task.params["set"], task.spec
    if GIVEN in task.params:
        return {GIVEN: task.params[GIVEN], "side": SIDE}
    part: Json = {"data": keyed(spec.data), "set": name, "side": SIDE}
    if spec.imported is not None:  # its images are those of a data set only if the labels are
        part["imported"] = spec.imported.digest
    return part


@stage(THUMBNAILS, parts=_picture_parts, brought=(the_data,), gathers=True)
def thumbnails(context: Context) -> None:
    """uint8 [n, C, h, w] of the first images of a set, or why there are none."""
    try:
        images = _images(context)
    except (DataMissing, DataCorrupt, StageError) as error:
        context.output.extra = {"skipped": str(error)}
        return
    keep_pictures(context, images)


def keep_pictures(context: Context, images: Any) -> None:
    """Of images [N, C, H, W], or files: as many of the first as there is room for, made small."""
    count = len(images)
    first = small(_read(images, [0]))
    kept = min(count, max(1, MOST_BYTES // first[0].size))
    pictures = np.empty((kept, *first.shape[1:]), np.uint8)
    for start in range(0, kept, _AT_ONCE):
        context.control.check()
        context.control.progress(start, kept)
        pictures[start : start + _AT_ONCE] = small(_read(images, range(start, min(start + _AT_ONCE, kept))))
    context.output.extra = {"pictures": context.keep(pictures, "pictures"), "kept": kept, "of": count}


def _images(context: Context) -> Any:
    """The images of the set: an array [N, C, H, W], or files. Raises StageError where nobody knows them."""
    name, spec = context.params["set"], context.spec
    if GIVEN in context.params:
        return context.artifacts.array(next(iter(context.params[GIVEN].values())))
    if spec.imported is not None:
        return _recognised(context, name)
    return _held(context.split(name))


def _held(split: Split) -> Any:
    return split.images if isinstance(split.images, ImageFiles) else split.images.cpu().numpy()


def _recognised(context: Context, name: str) -> Any:
    """The test images of the data set that an imported ensemble names, if its labels are that set's in their order.

    Raises StageError where they are not, DataMissing where the set is not on this machine.
    """
    named = context.spec.data.dataset
    if name != "test" or named not in datasets:
        raise StageError(NO_IMAGES)
    given = next(
        (params["given"]["test/labels"] for need in _predicted(context) if (params := need.params).get(GIVEN)), None
    )
    splits = loading.load(DataSpec(dataset=named), context.settings.data_folders)
    if given is None or not np.array_equal(context.artifacts.array(given), splits.test.numpy_labels()):
        raise StageError(f"the labels are not those of the test images of {named} in their order, so no image is known")
    return _held(splits.test)


def _predicted(context: Context) -> list[Stage]:
    return [one for one in context.store.stages.of(context.lease.experiment.id) if one.kind == "predict"]


def _read(images: Any, rows: Sequence[int]) -> NDArray[np.uint8]:
    read: Callable[[Sequence[int]], NDArray[np.uint8]] | None = getattr(images, "read", None)
    return np.asarray(images[rows[0] : rows[-1] + 1]) if read is None else read(list(rows))


def small(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 [n, C, H, W] with the longer side at most SIDE: box-averaged where it is larger."""
    height, width = images.shape[2:]
    if max(height, width) <= SIDE:
        return images
    scale = SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    planes = [
        [np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BOX)) for plane in image] for image in images
    ]
    return np.asarray(planes, np.uint8)
