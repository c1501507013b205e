"""A plan being written: collects stages, hands out solution numbers, knows sizes and speeds. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from modescape.errors import InvalidInput
from modescape.prices import Work
from modescape.records import DataInfo, Json, PlannedStage, SampleSet, Sizes
from modescape.spec import ExperimentSpec
from modescape.spec_parts import MethodSpec, steps_per_epoch

Given = Mapping[int, Mapping[str, str]]
MOST_STAGES = 15_000  # of one experiment: to plan them costs a second and a half


@dataclass
class Draft:
    """What the planners of `stages` read and add to.

    n: images of each split; parameters: of the network; shape: what finished stages must have in common with these for
    their speed to be this one's (see `plan.shape_of`).
    given: of an ensemble made elsewhere, run -> place -> digest of the array that was given there.
    bytes and predictions: what a planner's stages keep and evaluate beyond training and solutions, added by it;
    warnings: what the user should know before Launch, one sentence each.
    """

    spec: ExperimentSpec
    info: DataInfo
    n: Sizes
    parameters: int
    shape: str = ""
    given: Given = field(default_factory=dict)
    stages: list[PlannedStage] = field(default_factory=list)
    next_number: int = 0
    bytes: float = 0.0
    predictions: int = 0
    warnings: list[str] = field(default_factory=list)

    @property
    def runs(self) -> range:
        return range(self.spec.ensemble.runs)

    @property
    def classes(self) -> int:
        return len(self.info.classes)

    @property
    def epochs(self) -> Sequence[float]:
        """Epochs whose checkpoints are kept; of an ensemble made elsewhere NaN where nobody has said."""
        if self.spec.imported is not None:
            return [*self.spec.imported.epochs, math.nan]
        if self.spec.weights is not None:
            return [*self.spec.weights.epochs, math.nan]
        return kept_epochs(self.spec.training.epochs, self.spec.training.checkpoint_every)

    @property
    def images_per_epoch(self) -> int:
        return steps_per_epoch(self.spec.training, self.n.train) * self.spec.training.batch_size

    @cached_property
    def images(self) -> int:
        """Images of all evaluation splits together."""
        return sum(self.n.test if split == "test" else self.n.validation for split in self.spec.evaluation.splits)

    @property
    def training(self) -> Work:
        """One training of a run."""
        return Work(trained=self.spec.training.epochs * self.images_per_epoch)

    def keys(self, *kinds: str) -> list[tuple[str, str]]:
        """(kind, key) of the stages of those kinds planned so far, for `needs`."""
        return [(stage.kind, stage.key) for stage in self.stages if stage.kind in kinds]

    def add(
        self,
        kind: str,
        key: str,
        params: Json,
        work: Work,
        *,
        needs: Sequence[tuple[str, str]] = (),
        wants: Sequence[tuple[str, str]] = (),
        solutions: int = 0,
        optional: bool = True,
    ) -> None:
        """Plan one stage; one that makes solutions owns the next `solutions` numbers, from params.first_number.

        needs, wants, optional: as `PlannedStage` has them. Raises InvalidInput where an experiment would have too many.
        """
        if len(self.stages) >= MOST_STAGES:
            raise InvalidInput(
                f"this makes more than {MOST_STAGES:,} stages", field="ensemble.runs",
                allowed="fewer runs, or fewer methods and studies; what is wanted of more makes several experiments",
            )  # fmt: skip
        if solutions:
            params = {**params, "first_number": self.next_number}
            self.next_number += solutions
        planned = PlannedStage(
            kind=kind, key=key, needs=tuple(needs), wants=tuple(wants), params=params, work=work, shape=self.shape,
            optional=optional,
        )  # fmt: skip
        self.stages.append(planned)

    @property
    def seen(self) -> Json:
        """For the params of stages that choose something on validation images: that they may have been trained on."""
        return {"held_out": False} if self.n.validation > self.n.held_out else {}


def kept_epochs(epochs: int, every: int) -> list[int]:
    """Epochs whose checkpoints are kept: 0 (the initial weights), every `every`-th, and the last."""
    return sorted({0, *range(every, epochs + 1, every), epochs})


def sample_sets(spec: ExperimentSpec, chosen: MethodSpec) -> list[tuple[str, int]]:
    """The (set, count) pairs a method's choice asks for; what a method itself decides how many of are typical."""
    if spec.imported is not None:
        carried = spec.carried(chosen.method)
        counts = {SampleSet.SPREAD: chosen.spread, SampleSet.TYPICAL: chosen.typical, SampleSet.FAIR: carried.fair}
        return [(name, count) for name, count in counts.items() if count]
    method = spec.method(chosen.method)
    if not method.sampled:
        return [(SampleSet.TYPICAL, method.count(method.options.model_validate(chosen.options)))]
    asked = ((SampleSet.SPREAD, chosen.spread), (SampleSet.TYPICAL, chosen.typical))
    return [(name, count) for name, count in asked if count]


FAIR_IMAGES = 500  # validation images from which a strength can be chosen


def fair_sets(spec: ExperimentSpec, validation: int) -> dict[str, int]:
    """Method -> samples of its fair set, as many for one as for another; {} where strengths are not chosen.

    validation: images of that split that are held out. Methods that are asked for no narrow samples are averaged
    nowhere. Of imported samples those that were chosen before.
    """
    if spec.imported is not None:
        return {one.method: fair for one in spec.methods if (fair := spec.carried(one.method).fair)}
    if spec.evaluation.averaged != "fair" or validation < FAIR_IMAGES:
        return {}
    asked = {m.method: m.typical for m in spec.methods if spec.method(m.method).sampled and m.typical}
    return dict.fromkeys(asked, min(asked.values(), default=0))
