"""Functions that were made elsewhere: what they say is read where it was given, in place of training and prediction.

The stages are those of every experiment, so all that compares, judges and draws is the same; only where a network would
be evaluated an array is read (samples: science p.2). Which arrays a stage reads stands in its params, under GIVEN:
place -> digest of an array, where places are those of the folder format (`imported`), for one member:

    test, validation: outputs [N, K]            test/labels, validation/labels: [N]
    trajectory/test: [T, N, K]                  ood/<set>, shift/<type>/<intensity>: [n, K]
    samples/<method>/<any of those>: [S, N, K]  samples/<method>/strength: [S]
    samples/<method>/centre/test: [N, K]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modescape.draft import Draft
from modescape.imported.ensemble import OutputKind
from modescape.imported.kinds import logits_of
from modescape.records import Json, PredictedRun, Role, SampleSet
from modescape.results import sure_of
from modescape.science.blocks import blocks
from modescape.science.health import NOT_FINITE, finite, run_failure
from modescape.science.predictions import nll
from modescape.stages.stage import Context, Task
from modescape.tables import Solution

GIVEN = "given"
PLACE = "place"  # of a stage's samples, where that is not the method's name
ELSEWHERE = "elsewhere"  # arrays that another stage reads, and that decide whether a function has failed
LAST_IMAGES = 5000  # of the validation images, at most, by which it is told whether a last iterate is better
_CONVERSION = 2  # of probabilities; 2: a row of nothing but 0 is no number
_VALUES = 1 << 20  # logits converted at a time: 4 MB


def given_to(draft: Draft, run: int, *prefixes: str) -> Json:
    """The params of a stage that reads a member's arrays at these places and below; {} of one that trains here."""
    if draft.spec.imported is None:
        return {}
    below = tuple(f"{prefix}/" for prefix in prefixes)
    there = draft.given.get(run, {})
    return {GIVEN: {at: digest for at, digest in there.items() if at in prefixes or at.startswith(below)}}


def elsewhere(draft: Draft, run: int, below: str = "") -> Json:
    """For the params of a stage that tells which of a member's functions have failed: all else that those said, of
    images of another kind, of changed ones and of sets that are left aside. below: "", or where a method's samples
    are."""
    sets = (f"{below}ood/", f"{below}shift/")
    aside = {f"{below}{split}" for split in ("test", "validation") if split not in draft.spec.evaluation.splits}
    there = draft.given.get(run, {}).items()
    found = {
        at: digest
        for at, digest in there
        if (at.startswith(sets) or at in aside) and not at.endswith(("/labels", "/names"))
    }
    return {ELSEWHERE: found} if found else {}


def samples_to(draft: Draft, run: int, method: str, sample_set: SampleSet) -> Json:
    """The params of a stage that reads one set of a method's samples around a member."""
    below = draft.spec.carried(method).place(method, sample_set)
    asked = [f"{below}/{what}" for what in (*draft.spec.evaluation.splits, "centre", "strength", "better")]
    place = {} if below == f"samples/{method}" else {PLACE: below}
    return {
        **place,
        **given_to(draft, run, *draft.spec.evaluation.splits, *asked),
        **elsewhere(draft, run, f"{below}/"),
    }


def given_parts(task: Task) -> Json:
    """What of an imported ensemble decides the bytes of a stage that reads it."""
    imported = task.spec.imported
    assert imported is not None
    return {
        "is_copy": task.params["run"] in imported.copies,
        "kind": imported.kind,
        **({"conversion": _CONVERSION} if imported.kind in (OutputKind.PROBS, OutputKind.LOG_PROBS) else {}),
        "classes": len(imported.classes),
        "splits": list(task.spec.evaluation.splits),
        **({} if imported.last_epoch is None else {"epochs": [*imported.epochs, imported.last_epoch]}),
        **{name: value for name, value in task.params.items() if name not in ("run", "first_number")},
    }


class Given:
    """The arrays that a stage was given."""

    def __init__(self, context: Context) -> None:
        assert context.spec.imported is not None
        self._kind = OutputKind(context.spec.imported.kind)
        self._classes = len(context.spec.imported.classes)
        self._places: Mapping[str, str] = context.params[GIVEN]
        self._elsewhere: Mapping[str, str] = context.params.get(ELSEWHERE, {})
        self._artifacts = context.artifacts

    def __contains__(self, place: str) -> bool:
        return place in self._places

    def digest(self, place: str) -> str:
        return self._places[place]

    def array(self, place: str) -> NDArray[Any]:
        found: NDArray[Any] = self._artifacts.array(self._places[place])
        return found

    def functions(self, place: str) -> list[NDArray[Any]]:
        """Every function's outputs as they were given, [N, K] or labels [N], memory-mapped."""
        outputs = self.array(place)
        return list(outputs) if outputs.ndim > (1 if self._kind is OutputKind.LABELS else 2) else [outputs]

    def of(self, place: str, solutions: Sequence[Solution]) -> list[NDArray[Any]]:
        """The outputs there of a member's final function, or of those of its samples."""
        every = self.functions(place)
        return [every[one.index] if one.role == Role.SAMPLE else every[-1] for one in solutions]

    def among(self, solutions: Sequence[Solution], *places: str) -> list[Solution]:
        """Those of a member's functions that were evaluated at all these places: of its samples it may be the first."""
        count = min(len(self.functions(place)) for place in places)
        return [one for one in solutions if one.role != Role.SAMPLE or one.index < count]

    def broken(self) -> set[int]:
        """Which of the functions have said something elsewhere that is no number, by their places among them."""
        found: set[int] = set()
        for digest in self._elsewhere.values() if self._kind is not OutputKind.LABELS else ():
            array = self._artifacts.array(digest)
            every = array if array.ndim > 2 else array[None]
            found |= {i for i, outputs in enumerate(every) if not self.is_finite(outputs)}
        return found

    def is_finite(self, outputs: NDArray[Any]) -> bool:
        """Whether what a function says, [N, K], are numbers throughout."""
        if self._kind is OutputKind.LABELS:
            return True
        parts = blocks([outputs], _VALUES // self._classes)
        return sum(not finite(self.logits(outputs[part])) for part in parts) == 0

    def logits(self, outputs: NDArray[Any]) -> NDArray[np.float32]:
        """float32 logits of outputs, or log-probabilities where those were given, which serve as well."""
        if self._kind is OutputKind.LABELS:
            return sure_of(outputs, self._classes)
        return np.asarray(logits_of(self._kind, outputs), np.float32)

    def keep(self, context: Context, functions: Sequence[NDArray[Any]]) -> str:
        """Keep functions' outputs as `Results` reads them, block by block: logits [S, N, K], or labels [S, N] where no
        more is known."""
        if self._kind is OutputKind.LABELS:
            return context.keep(np.stack(functions).astype(np.int32), "predictions")
        return self.keep_logits(context, functions, (len(functions),))

    def keep_logits(
        self, context: Context, functions: Sequence[NDArray[Any]], lead: tuple[int, ...], count: int | None = None
    ) -> str:
        """Keep float32 logits [*lead, N, K], whatever is known, of functions in C order; count: of the first so many
        examples."""
        examples = len(functions[0]) if count is None else min(count, len(functions[0]))

        def converted() -> Iterator[NDArray[np.float32]]:
            for outputs in functions:
                for part in blocks([outputs[:examples]], _VALUES // self._classes):
                    yield self.logits(outputs[:examples][part])

        return context.keep_blocks(converted(), (*lead, examples, self._classes), np.float32, "predictions")

    def answers(self, place: str) -> NDArray[np.int64]:
        """Labels [N] of the one function there."""
        outputs = self.array(place)
        parts = blocks([outputs], _VALUES // self._classes)
        return np.concatenate([self.logits(outputs[part]).argmax(-1) for part in parts])

    def kept(self, digest: str, index: int) -> NDArray[np.float32]:
        """Logits [N, K] of a function of what `keep` left."""
        outputs: NDArray[Any] = self._artifacts.array(digest)[index]
        return self.logits(outputs) if self._kind is OutputKind.LABELS else outputs

    def labels(self, splits: Sequence[str]) -> dict[str, NDArray[np.int64]]:
        return {split: np.asarray(self.array(f"{split}/labels"), np.int64) for split in splits}


def predict(context: Context) -> None:
    """A member's outputs and those of its checkpoints, as `predict` leaves them of a run."""
    imported, splits = context.spec.imported, context.spec.evaluation.splits
    assert imported is not None
    given, run, first = Given(context), context.params["run"], context.params["first_number"]
    labels, main = given.labels(splits), splits[0]
    functions = {split: given.functions(split) for split in splits}
    along = [split for split in splits if f"trajectory/{split}" in given]
    epochs = imported.epochs if along == list(splits) else ()
    for split in along if epochs else ():
        functions[split] = [*given.functions(f"trajectory/{split}"), *functions[split]]
    kept = {split: given.keep(context, outputs) for split, outputs in functions.items()}
    finals: dict[str, NDArray[np.float32]] = {split: given.kept(digest, -1) for split, digest in kept.items()}
    failed = run_failure(finals, labels[main], main, len(imported.classes)) or (NOT_FINITE if given.broken() else "")
    if run in imported.copies:
        failed = "it equals an earlier member to the bit, and one function given twice is one function"
    answers = finals[main].argmax(-1)
    before = 0 if epochs[:1] == (0.0,) else 1  # checkpoint 0 is the initial weights, whoever trained
    for i in range(len(epochs) + 1):
        context.add_solution(
            first + i,
            blocks={split: given.kept(digest, i) for split, digest in kept.items()},
            labels=labels,
            base=answers,
            run=run,
            role=Role.OPTIMUM if i == len(epochs) else Role.CHECKPOINT,
            index=before + i,
            epoch=epochs[i] if i < len(epochs) else imported.last_epoch if epochs else None,
            weights=given.digest("weights") if i == len(epochs) and "weights" in given else None,
            predictions={split: {"artifact": digest, "index": i} for split, digest in kept.items()},
        )
    accuracies = [solution.accuracy for solution in context.output.solutions if solution.accuracy is not None]
    context.output.runs = {
        run: PredictedRun(context.output.solutions[-1].accuracy, max(accuracies, default=None), failed)
    }
    context.output.extra = {
        "labels": {split: context.keep(values, "labels") for split, values in labels.items()},
        "classes": list(imported.classes),
        "logits": kept,
    }
    if names := {split: given.digest(f"{split}/names") for split in splits if f"{split}/names" in given}:
        context.output.extra["origins"] = names


def last(context: Context) -> None:
    """Where a method trained on to from a member, as `last` leaves it: what was told of which of them is better, else
    what they say on validation images."""
    sample(context)
    given, below = Given(context), context.params[PLACE]
    found: Json = {"images": 0, "nll": None, "better": False}
    places = ("validation", f"{below}/validation")
    if f"{below}/better" in given:
        found["better"] = bool(given.array(f"{below}/better"))
    elif all(place in given for place in (*places, "validation/labels")):
        labels = given.labels(["validation"])["validation"][:LAST_IMAGES]
        final, iterate = (nll(given.logits(given.functions(place)[-1][:LAST_IMAGES]), labels) for place in places)
        found = {"images": len(labels), "nll": {"final": final, "last": iterate}, "better": iterate < final}
    context.output.extra |= found


def sample(context: Context) -> None:
    """A set of a member's samples of one method, as `sample` leaves them, with the strengths given."""
    spec, params = context.spec, context.params
    given, name, splits = Given(context), params["method"], spec.evaluation.splits
    below = params.get(PLACE, f"samples/{name}")
    labels = given.labels(splits)
    answers = given.answers(splits[0])
    strengths = given.array(f"{below}/strength") if f"{below}/strength" in given else None
    kept = {split: given.keep(context, given.functions(f"{below}/{split}")) for split in splits}
    centres = {split: place for split in splits if (place := f"{below}/centre/{split}") in given}
    broken = given.broken()
    if not all(given.is_finite(given.array(place)) for place in centres.values()):
        broken = set(range(params["count"]))  # nothing can be said of samples around a function that is none
    for i in range(params["count"]):
        context.add_solution(
            params["first_number"] + i,
            is_finite=i not in broken,
            blocks={split: given.kept(digest, i) for split, digest in kept.items()},
            labels=labels,
            base=answers,
            run=params["run"],
            role=Role.SAMPLE,
            method=name,
            sample_set=SampleSet(params["sample_set"]),
            index=i,
            strength=None if strengths is None else float(strengths[i]),
            predictions={split: {"artifact": digest, "index": i} for split, digest in kept.items()},
        )
    context.output.extra = {
        "centre": {split: given.keep_logits(context, [given.array(place)], ()) for split, place in centres.items()},
        "asked": params["count"],
        "accepted": params["count"],
    }
