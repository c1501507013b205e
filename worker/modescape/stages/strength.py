"""At which strength are a method's averaged samples best? One for all runs, chosen on validation images.

    strength[m] -> sample[r/m/fair]: fresh samples at that strength

Claims about averages and divergences depend on how strong samples are, and no method should be judged at a strength
that suits another. So each gets the one at which the average of S samples predicts the validation images best, mean
over the runs that have not failed (`subspace.best_strength`; science o.8). The samples looked at here are thrown away.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from itertools import chain, groupby

import numpy as np
from cachetools import FIFOCache
from numpy.typing import NDArray

from modescape.draft import Draft, fair_sets
from modescape.methods.sampling import Choice, best_strength, grid_in_words, sample_at
from modescape.prices import Work
from modescape.records import Absent, Role
from modescape.registry import Method, methods
from modescape.science.predictions import Placed, average
from modescape.science.seeds import stream_seed
from modescape.spec_parts import keyed
from modescape.stages.around import Around, options_of
from modescape.stages.sample import FLOOR_IMAGES, SAVE_EVERY_SECONDS, chain_failure, stands_on
from modescape.stages.stage import Context, Json, Task, planner, stage, the_method

POINTS = 8  # of the grid that are usually looked at; only the price depends on it
_HELD_BYTES = 1e9  # of weights and snapshots of several runs in memory


@planner("strength", after="sample")
def plan(draft: Draft) -> None:
    if draft.spec.imported is not None:
        return
    fair = fair_sets(draft.spec, draft.n.held_out)
    if draft.spec.evaluation.averaged == "fair" and not fair and any(m.typical for m in draft.spec.methods):
        why = (
            "these networks may have been trained on the validation images (`weights.held_out` says that they were "
            "not), so no strength is chosen by them" if draft.seen else
            f"{draft.n.validation} validation images are too few to choose a strength by (500 are needed)"
        )  # fmt: skip
        draft.warnings.append(f"{why}: the narrow samples are averaged instead")
    images = min(draft.n.held_out, FLOOR_IMAGES)
    for name, count in fair.items():
        work = Work(predicted=len(draft.runs) * POINTS * count * images)
        wants = [need for run in draft.runs for needs in stands_on(methods[name], run) for need in needs]
        draft.add("strength", name, {"method": name, "count": count}, work, wants=wants)


def _parts(task: Task) -> Json:
    spec = task.spec
    part = keyed(spec)
    name = task.params["method"]
    return {
        "data": part["data"],
        "method": name,
        "options": next(m for m in part["methods"] if m["method"] == name)["options"],
        "count": task.params["count"],
        "seed": spec.ensemble.seed,
        "runs": spec.ensemble.runs,
    }


@stage(
    "strength",
    parts=_parts,
    brought=(the_method,),
    absent=Absent("Strengths are not chosen: the narrow samples are averaged.", add="fair"),
)
def strength(context: Context) -> None:
    """The strength of one method's fair samples, and what was looked at on the way."""
    found = _Looked(context)
    entry, choice = found.entry, None
    if found.runs:
        choice = best_strength(entry, found.nll)
        order = list(choice.strengths)
        losses = np.stack([np.stack(found.losses[s]) for s in order])  # [points, runs, images]
        per_run = losses.mean(axis=2, dtype=np.float64)
        _tell(context, entry, choice, per_run, losses.shape[2])
        context.output.extra = {
            "strengths": order,
            "nll": list(choice.nll),
            "nll_of_runs": per_run.tolist(),
            "losses": context.keep(losses, "losses"),
            "images": losses.shape[2],
            "end": choice.end,
        }
    context.output.extra |= {
        "strength": None if choice is None else choice.strength,
        "grid": grid_in_words(entry),
        "runs": found.runs,
        "samples": context.params["count"],
    }


def _tell(context: Context, entry: Method, choice: Choice, per_run: NDArray[np.float64], images: int) -> None:
    for value, mean, of_runs in zip(choice.strengths, choice.nll, per_run, strict=True):
        context.add_group(
            f"strength/{entry.name}/{value:.6g}", "nll", mean if math.isfinite(mean) else None, images, "validation",
            strength=value, chosen=value == choice.strength, runs=len(of_runs), samples=context.params["count"],
            sd=float(of_runs.std(ddof=1)) if len(of_runs) > 1 else None,
        )  # fmt: skip


class _Looked:
    """What averages of samples lose on the validation images, by strength and run; can be taken up again.

    losses: strength -> for each of `runs` float32 [n], the negative log-probability of the true class.
    """

    def __init__(self, context: Context) -> None:
        self.context, self.entry = context, methods[context.params["method"]]
        self.options = options_of(context.spec, self.entry)
        self.count: int = context.params["count"]
        self.labels = context.split("validation").numpy_labels()[:FLOOR_IMAGES]
        self._arounds: FIFOCache[int, Around] = FIFOCache(_HELD_BYTES, getsizeof=self._bytes)
        optima = context.results().solutions(role=Role.OPTIMUM)
        self.runs = [optimum.run for optimum in optima if self._is_possible(optimum.run)]
        self.losses: dict[float, list[NDArray[np.float32]]] = {}
        partial = context.lease.stage.partial
        for value, digest in partial.get("looked", []):
            self.losses[value] = list(context.artifacts.array(digest))
        self._saved = time.monotonic()

    def nll(self, value: float) -> float:
        """Of the average at that strength, mean over the runs."""
        if value not in self.losses:
            self.losses[value] = []
            for lost in self._lost(value):
                self.losses[value].append(lost)
                done = sum(len(of_runs) for of_runs in self.losses.values())
                self.context.control.progress(done, max(POINTS * len(self.runs), done + 1), strength=value)
            if time.monotonic() - self._saved > SAVE_EVERY_SECONDS:
                self._save()
        return float(np.mean([one.mean(dtype=np.float64) for one in self.losses[value]]))

    def _lost(self, value: float) -> Iterator[NDArray[np.float32]]:
        """Of the average at that strength, run by run; groups of samples may reach over several."""
        images = {"validation": self.context.split("validation").take(FLOOR_IMAGES)}
        found = chain.from_iterable(self.context.logits_of(self._placed(value), images))
        for _, of_run in groupby(found, key=lambda one: one[0]):
            logs = average(logits["validation"] for _, logits in of_run)
            yield np.asarray(-logs[np.arange(len(self.labels)), self.labels], np.float32)

    def _placed(self, value: float) -> Iterator[Placed[int]]:
        """Every run's samples at that strength, told with the run."""
        for run in self.runs:
            around = self._around(run)
            neighbourhood = around.neighbourhood_of(self.entry)
            for found in sample_at(
                self.entry, neighbourhood, self.options, sample_set="grid", strength=value, count=self.count,
                seed=stream_seed(self.context.spec.ensemble.seed, "sampling", run),
            ):  # fmt: skip
                around.place(found.draw)
                yield Placed(run, around.network, found.draw.mask)

    def _around(self, run: int) -> Around:
        """Runs are asked for in turns, so as many as memory holds are kept."""
        if run not in self._arounds:
            self._arounds[run] = Around(self.context, run)
        return self._arounds[run]

    def _bytes(self, around: Around) -> float:
        """One is held whatever it takes."""
        own = around.neighbourhood_of(self.entry)
        each = own.theta.nbytes + (0 if own.snapshots is None else 2 * own.snapshots.nbytes)
        return min(each, _HELD_BYTES)

    def _is_possible(self, run: int) -> bool:
        """False where what the method stands on has failed: its chain, or too many of another's samples."""
        others = stands_on(self.entry, run)[1]
        if any(self.context.wanted(*need) is None for need in others):
            return False
        around = self._around(run)
        if chain_failure(self.context, around, self.entry):
            return False
        return self.entry.of is None or around.neighbourhood_of(self.entry).snapshots is not None

    def _save(self) -> None:
        arrays = {
            value: self.context.artifacts.put_array(np.stack(one), "losses") for value, one in self.losses.items()
        }
        looked = [[value, info.digest] for value, info in arrays.items()]
        self.context.control.save_partial({"looked": looked}, artifacts=list(arrays.values()))
        self._saved = time.monotonic()
