"""The groups of functions that shift and out-of-distribution studies compare, M of each, run by run.

Groups are the runs' final functions, "trajectory" (the latest checkpoints of a run) and each method (its first fair
samples where a strength is chosen, else typical ones, of chains the best; weight averages are one function a run).
Equal M, so that divergences compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from modescape.draft import Draft, fair_sets, sample_sets
from modescape.records import Group, Need, Role, SampleSet, group_name
from modescape.science.data import Split
from modescape.science.predictions import ActivationMask
from modescape.spec import ExperimentSpec
from modescape.stages.around import Around
from modescape.stages.stage import Context
from modescape.study import GroupStudy
from modescape.tables import Solution

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class PlannedGroup:
    """One group of one run, under the name it has in keys and params of stages: how many functions it has at most, the
    stages that make them, and those it can do without (a run that only stands beside a chain)."""

    name: str
    run: int
    size: int
    needs: tuple[Need, ...]
    wants: tuple[Need, ...] = ()


def names(spec: ExperimentSpec, study: GroupStudy) -> list[str]:
    """Groups of a study in the order of figures; methods without typical samples are none."""
    sampled = [m.method for m in spec.methods if m.typical or not spec.method(m.method).sampled]
    return [name for name in Group.with_methods(sampled) if study.trajectory or name != Group.TRAJECTORY]


def planned_name(group: str) -> str:
    """What keys and params of stages call a run's part of a group; they never change, and call a final function by its
    role."""
    return Role.OPTIMUM if group == Group.INDEPENDENT else group


def planned(draft: Draft, study: GroupStudy) -> list[PlannedGroup]:
    """Every group of every run, with the stages it waits for."""
    there = {(stage.kind, stage.key) for stage in draft.stages}
    fair = fair_sets(draft.spec, draft.n.held_out)
    found = []
    for name in names(draft.spec, study):
        for run in draft.runs:
            base = tuple(need for need in (("train", f"{run}"), ("predict", f"{run}")) if need in there)
            if name in list(Group):
                size = 1 if name == Group.INDEPENDENT else study.size(draft.spec)
                found.append(PlannedGroup(planned_name(name), run, size, base))
                continue
            averaged = SampleSet.FAIR if name in fair else SampleSet.TYPICAL
            own = [("sample", f"{run}/{name}/{averaged}"), ("chain", f"{run}/{name}")]
            made = tuple(need for need in own if need in there)
            if made:
                chosen = next(m for m in draft.spec.methods if m.method == name)
                typical = dict(sample_sets(draft.spec, chosen))[SampleSet.TYPICAL]
                size = min(study.size(draft.spec), fair.get(name) or typical)
                if draft.spec.method(name).trained == "fresh":
                    found.append(PlannedGroup(name, run, size, made, base))
                else:
                    found.append(PlannedGroup(name, run, size, (*base, *made)))
    return found


def members(context: Context, run: int, name: str, size: int) -> list[Solution]:
    """The first `size` functions of a run's part of a group, by either name (`Results.group`)."""
    return context.results().group(group_name(name), run, size)


class Networks:
    """Functions of one run, each a network of its own that is made once; predicts with all of them together."""

    def __init__(self, context: Context, run: int, solutions: Sequence[Solution]) -> None:
        self.context = context
        around = Around(context, run)
        self._networks: list[torch.nn.Module] = []
        self._masks: list[ActivationMask | None] = []
        for solution in solutions:
            context.control.check()
            self._masks.append(around.place_solution(solution))
            self._networks.append(deepcopy(around.network))

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """[S, n, K] of every function on uint8 images [n, C, H, W]."""
        from modescape.science.predictions import predict_each

        return predict_each(
            self._networks, as_split(self.context, images), self.context.splits.transform,
            device=self.context.device, masks=self._masks, check=self.context.control.check,
        )  # fmt: skip


def as_split(context: Context, images: NDArray[np.uint8]) -> Split:
    """Images [n, C, H, W] that nobody knows labels of, on the device."""
    import torch

    pixels = np.array(images.transpose(0, 2, 3, 1), order="C")  # pixels together: what convolutions like best
    tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(context.device)
    return Split(tensor, torch.zeros(len(images), dtype=torch.int64, device=context.device))
