"""Samples around a run's optimum, or of a method's own chain: their predictions, and their weights when asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from modescape.draft import Draft, fair_sets, sample_sets
from modescape.errors import StageError
from modescape.methods.method import Draw
from modescape.methods.sampling import Reach, Sampled, calibrate, needs_reach, sample_at
from modescape.methods.sampling import sample as draw_samples
from modescape.prices import Work
from modescape.records import Absent, Need, Role, SampleSet
from modescape.registry import Method, Options, methods
from modescape.science.health import failure, finite
from modescape.science.predictions import Placed
from modescape.science.seeds import stream_seed
from modescape.spec_parts import keyed
from modescape.stages import given
from modescape.stages.around import Around, options_of
from modescape.stages.given import GIVEN, given_parts
from modescape.stages.predict import geometry
from modescape.stages.stage import Context, Json, Task, every_method, planner, stage, the_data, the_method, the_network


@planner("sample", after="chain")
def plan(draft: Draft) -> None:
    for chosen in draft.spec.methods:
        entry = draft.spec.method(chosen.method)
        for sample_set, count in sample_sets(draft.spec, chosen):
            for r in draft.runs:
                floor = (
                    min(draft.n.validation, FLOOR_IMAGES) if sample_set == SampleSet.TYPICAL and entry.sampled else 0
                )
                work = Work(predicted=count * (draft.images + 1.3 * floor))
                params = {"run": r, "method": chosen.method, "sample_set": sample_set, "count": count}
                run, needs = stands_on(entry, r)
                key = f"{r}/{chosen.method}/{sample_set}"
                if draft.spec.imported is not None:
                    params |= given.samples_to(draft, r, chosen.method, SampleSet(sample_set))
                    draft.add("sample", key, params, Work(), needs=[("predict", f"{r}")], solutions=count)
                elif entry.trained == "fresh":  # networks of its own, which the run stands beside
                    draft.add("sample", key, params, work, needs=needs, wants=run, solutions=count)
                else:
                    draft.add("sample", key, params, work, needs=[*run, *needs], solutions=count)


@planner("sample-fair", after="strength")
def plan_fair(draft: Draft) -> None:
    """Samples at the strengths that the stages `strength` choose; planned after those."""
    if draft.spec.imported is not None:
        return
    for name, count in fair_sets(draft.spec, draft.n.held_out).items():
        for r in draft.runs:
            params = {"run": r, "method": name, "sample_set": SampleSet.FAIR, "count": count}
            run, needs = stands_on(methods[name], r)
            needs = [*run, *needs, ("strength", name)]
            work, key = Work(predicted=count * draft.images), f"{r}/{name}/{SampleSet.FAIR}"
            draft.add("sample", key, params, work, needs=needs, solutions=count)


def stands_on(entry: Method, run: int) -> tuple[list[Need], list[Need]]:
    """What the samples of a method around a run are drawn from: the stages of the run, and others."""
    others: list[Need] = []
    if entry.trained is not None:
        others.append(("chain", f"{run}/{entry.name}"))
    if entry.of is not None:
        others.append(("sample", f"{run}/{entry.of}/{SampleSet.TYPICAL}"))
    return [("train", f"{run}"), ("predict", f"{run}")], others


def _parts(task: Task) -> Json:
    if GIVEN in task.params:
        return given_parts(task)
    spec = task.spec
    part = keyed(spec)
    chosen = next(m for m in part["methods"] if m["method"] == task.params["method"])
    return {
        "data": part["data"],
        "splits": part["evaluation"]["splits"],
        "method": chosen["method"],
        "options": chosen["options"],
        "set": task.params["sample_set"],
        "count": task.params["count"],
        "seed": stream_seed(spec.ensemble.seed, "sampling", task.params["run"]),
    }


CALIBRATION_IMAGES = 1000
# A floor lies points below the optimum, and 2,000 images tell half a point: more of them (ImageNet has 50,000) would
# cost more than the samples themselves.
FLOOR_IMAGES = 2000
SAVE_EVERY_SECONDS = 20.0


@dataclass
class _Drawing:
    """A sample set being made. reach and reference are measured first, or known from an earlier attempt."""

    context: Context
    around: Around
    entry: Method
    options: Options
    sample_set: SampleSet
    count: int
    probe: str  # strengths and floors are read off these images
    reach: Reach | None
    reference: float | None = None

    @property
    def seed(self) -> int:
        return stream_seed(self.context.spec.ensemble.seed, "sampling", self.around.run)

    @property
    def is_possible(self) -> bool:
        """False where a method stands on another's samples, and too few of those passed their floor."""
        return self.entry.of is None or self.around.neighbourhood_of(self.entry).snapshots is not None

    def placed(self, start: int) -> Iterator[Placed[Json]]:
        """The samples from `start` on, told with their columns."""
        if self.entry.trained == "fresh":
            return self._kept(start)
        return self._drawn(start) if self.is_possible else iter(())

    def _kept(self, start: int) -> Iterator[Placed[Json]]:
        kept = self.around.chain(self.entry)["kept"]
        for index, found in enumerate(kept[start : self.count], start):
            self.around.place_stored(found["weights"])
            theta = self.around.weights.flatten(self.around.network)
            row: Json = {"index": index, "epoch": found["epoch"], "weights": found["weights"]}
            yield Placed(row | self._geometry(theta), self.around.network)

    def _drawn(self, start: int) -> Iterator[Placed[Json]]:
        around, entry, options = self.around, self.entry, self.options
        neighbourhood = around.neighbourhood_of(entry)
        if self.reach is None and needs_reach(entry, options, self.sample_set):
            self.reach = calibrate(
                entry,
                neighbourhood,
                options,
                accuracy=lambda draw: around.accuracy(draw, self.probe, CALIBRATION_IMAGES),
                chance=1 / len(self.context.splits.classes),
                seed=self.seed,
            )
        if self.sample_set == SampleSet.TYPICAL and getattr(options, "floor", "none") == "drop":
            self.reference = around.accuracy(Draw(neighbourhood.theta, 0.0, 0.0), self.probe, FLOOR_IMAGES)
        for found in self._found(start):
            if found.validation_accuracy is None:  # else it is still there
                around.place(found.draw)
            row: Json = {
                "index": found.index,
                "attempt": found.attempt,
                "seed": self.seed,
                "strength": found.draw.strength,
                "relative": found.draw.relative,
            }
            yield Placed(row | self._geometry(found.draw.theta), around.network, found.draw.mask)

    def _found(self, start: int) -> Iterator[Sampled]:
        """The draws from `start` on that belong to the set."""
        neighbourhood, seed = self.around.neighbourhood_of(self.entry), self.seed
        if self.sample_set == SampleSet.FAIR:
            strength = self.context.need("strength", self.entry.name)["strength"]
            return sample_at(
                self.entry, neighbourhood, self.options, sample_set=SampleSet.FAIR, strength=strength or 0.0,
                count=0 if strength is None else self.count, seed=seed, start=start,
            )  # fmt: skip
        return draw_samples(
            self.entry,
            neighbourhood,
            self.options,
            sample_set=self.sample_set,
            count=self.count,
            seed=seed,
            reach=self.reach,
            accuracy=lambda draw: self.around.accuracy(draw, self.probe, FLOOR_IMAGES),
            reference=self.reference,
            start=start,
        )

    def _geometry(self, theta: NDArray[np.float32]) -> Json:
        if not self.around.has_optimum:
            return {"norm": float(np.linalg.norm(theta.astype(np.float64)))}
        return geometry(theta, self.around.neighbourhood.theta.astype(np.float64))


@stage(
    "sample",
    version=3,
    parts=_parts,
    brought=(the_method,),
    absent=Absent("No subspace methods were chosen.", add="methods", place="methods.random"),
)
def sample(context: Context) -> None:
    """One sample set of one method around one run: predictions are kept, weights are made again when asked for."""
    spec, params, state = context.spec, context.params, context.lease.stage.partial
    if GIVEN in params:
        given.sample(context)
        return
    run, first, count = params["run"], params["first_number"], params["count"]
    entry = methods[params["method"]]
    around = Around(context, run)
    drawing = _Drawing(
        context,
        around,
        entry,
        options_of(spec, entry),
        SampleSet(params["sample_set"]),
        count,
        # Validation images; without any, training images; never the test set (science d.8).
        probe="validation" if len(context.splits.validation) else "train",
        reach=Reach(**state["reach"]) if state.get("reach") else None,
    )
    failed = chain_failure(context, around, entry)
    if failed:
        context.output.extra = {"failed": failed}
        return
    blocks: dict[str, list[NDArray[np.float32]]] = {split: [] for split in spec.evaluation.splits}
    rows: list[Json] = list(state.get("rows", []))
    for split, digest in state.get("logits", {}).items():
        blocks[split] = list(context.artifacts.array(digest))
    saved = time.monotonic()
    placed = drawing.placed(rows[-1]["index"] + 1 if rows else 0)
    for group in context.logits_of(placed, {split: context.split(split) for split in blocks}):
        for row, logits in group:
            for split, block in blocks.items():
                block.append(logits[split])
            rows.append(row)
        context.control.progress(rows[-1]["index"] + 1, count)
        if time.monotonic() - saved > SAVE_EVERY_SECONDS:
            arrays = [
                (split, context.artifacts.put_array(np.stack(block), "predictions")) for split, block in blocks.items()
            ]
            partial = {"rows": rows, "logits": {split: info.digest for split, info in arrays}}
            context.control.save_partial(
                partial | {"reach": asdict(drawing.reach) if drawing.reach else None},
                artifacts=[info for _, info in arrays],
            )
            saved = time.monotonic()
    base = _base(context, around)
    labels: dict[str, NDArray[np.int64]] = {split: context.split(split).numpy_labels() for split in blocks}
    kept = {split: context.keep(np.stack(block), "predictions") for split, block in blocks.items() if block}
    for i, row in enumerate(rows):
        context.add_solution(
            first + row["index"],
            blocks={split: block[i] for split, block in blocks.items()},
            labels=labels,
            base=None if base is None else base[spec.evaluation.splits[0]].argmax(-1),
            run=run,
            role=Role.SAMPLE,
            method=entry.name,
            sample_set=drawing.sample_set,
            predictions={split: {"artifact": digest, "index": i} for split, digest in kept.items()},
            **row,
        )
    context.output.extra = {
        "centre": _centre(drawing, base) if base is not None else {},
        "asked": count,
        "accepted": len(rows),
        "reach": asdict(drawing.reach) if drawing.reach else None,
        "floor": None
        if drawing.reference is None
        else drawing.reference - getattr(drawing.options, "floor_value", 0.0),
        "floor_split": drawing.probe,
    }


def _base(context: Context, around: Around) -> dict[str, NDArray[np.float32]] | None:
    """Logits of the run's optimum by split; None beside a run that has failed."""
    predicted = context.wanted("predict", f"{around.run}") if around.has_optimum else None
    if predicted is None:
        return None
    return {split: context.artifacts.array(predicted["logits"][split])[-1] for split in context.spec.evaluation.splits}


def chain_failure(context: Context, around: Around, entry: Method) -> str:
    """Why the chain that the method's samples come from has failed, by its last weights; "" for other methods."""
    if entry.trained is None:
        return ""
    around.place_stored(around.chain(entry)["kept"][-1]["weights"])
    if not finite(around.weights.flatten(around.network)):
        return "its weights are not all finite numbers"
    main = context.spec.evaluation.splits[0]
    logits, labels = context.logits(around.network, main), context.split(main).numpy_labels()
    return failure(logits, labels, len(context.splits.classes))


def _centre(drawing: _Drawing, base: dict[str, NDArray[np.float32]]) -> dict[str, str]:
    """Predictions of the mean that a method starts from, for reading it at equal accuracy; the optimum's where the
    method had nothing to start from, and so made no samples."""
    context, around, entry = drawing.context, drawing.around, drawing.entry
    if entry.centre != "mean" or not entry.sampled:
        return {}
    if drawing.is_possible:
        mean = Draw(around.neighbourhood_of(entry).mean.astype(np.float32), 0.0, 0.0)
        around.place(mean)
        base = {split: around.logits(mean, split) for split in base}
    return {split: context.keep(logits, "predictions") for split, logits in base.items()}


@stage("materialise", brought=(the_data, the_network, every_method))
def materialise(context: Context) -> None:
    """The weights of one sample, made again from its seed, index and attempt."""
    number = context.params["number"]
    solution = context.store.results.solution(context.lease.experiment.id, number)
    around = Around(context, solution.run)
    if around.place_solution(solution) is not None:
        raise StageError(
            f"solution {number} is the optimum's weights under a dropout mask; ask for solution weights of the optimum"
        )
    info = context.artifacts.put_tensors(around.weights.tensors(around.network), "weights", {"solution": str(number)})
    context.output.artifacts.append(info)
    context.output.weights = {number: info.digest}
