"""Studies: what an experiment does with its runs beyond comparing them. Each is one optional part of the spec.

A study says what can be chosen (fields with their bounds) and, in `problems`, what does not fit together or does not
fit the data. What it does is in `stages`, one module a study.
"""

from __future__ import annotations

import math
import os
import pathlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from modescape.errors import InvalidInput, Problem
from modescape.part import MAX_SEED, PLACES, Added, Key, Part, is_stored
from modescape.registry import architectures, corruptions, datasets, methods

if TYPE_CHECKING:
    from modescape.spec import DataInfo, DataSpec, ExperimentSpec, MethodSpec, Sizes

Intensity = Annotated[int, Field(ge=1, le=5)]
LearningRate = Annotated[float, Field(gt=0, le=100)]
Run = Annotated[int, Field(ge=0, le=999)]
Path = Annotated[str, Field(max_length=1024)]


class Study(Part):
    """Base of the optional parts. `problems` yields what is wrong; fields are relative to the study."""

    def problems(self, spec: ExperimentSpec, info: DataInfo, n: Sizes) -> Iterator[Problem]:
        yield from ()

    def looked_up(self, data: DataSpec, info: DataInfo, folders: Sequence[pathlib.Path]) -> Self:
        """The study once its files were looked at, with their fingerprint filled in; data and info: of the training
        set. Raises DataMissing, DataCorrupt, and InvalidInput with fields relative to the study."""
        return self


def _known_run(field: str, run: int, spec: ExperimentSpec) -> Iterator[Problem]:
    if run >= spec.ensemble.runs:
        yield Problem(f"there is no run {run}", field, f"0 to {spec.ensemble.runs - 1}")


def _typical(chosen: MethodSpec) -> int:
    """Typical samples a run that a method gives; 0 for an average, which is one function and no sample of anything."""
    if chosen.method not in methods:  # a worker's plug-in
        return chosen.typical
    method = methods[chosen.method]
    if method.sampled:
        return chosen.typical
    count = method.count(method.options.model_validate(chosen.options))
    return count if count > 1 else 0


def _late(spec: ExperimentSpec) -> int:
    """Checkpoints a run keeps after its initial weights."""
    return -(-spec.training.epochs // spec.training.checkpoint_every)


def _twice(field: str, values: Sequence[float]) -> Iterator[Problem]:
    for i, value in enumerate(values):
        if value in values[:i]:
            yield Problem(f"{value:g} is listed twice", field, "each value once")


class GroupStudy(Study):
    """Studies that evaluate groups of functions on other images: every run's optimum and weight average, M late
    checkpoints of each run, and M typical samples of each method (of chains the last of their cycles)."""

    members: int | None = Field(
        None,
        ge=2,
        le=100,
        description="Functions of each group that are compared (M); empty means 5, or what the smallest group has.",
    )
    trajectory: bool = Field(True, description="Also late checkpoints of each run, as a group of their own.")

    def size(self, spec: ExperimentSpec) -> int:
        """M, the same for every group, so that divergences can be compared."""
        if self.members is not None:
            return self.members
        groups = [
            spec.ensemble.runs,
            *(_typical(chosen) for chosen in spec.methods),
            *([_late(spec)] if self.trajectory else []),
        ]
        return min([5, *(count for count in groups if count > 1)])

    def problems(self, spec: ExperimentSpec, info: DataInfo, n: Sizes) -> Iterator[Problem]:
        size, runs = self.size(spec), spec.ensemble.runs
        if self.members is not None and size > runs:
            yield Problem(
                f"groups of {size} cannot be made of {runs} run{'s' * (runs > 1)}",
                "members",
                f"2 to {runs}, or more runs" if runs > 1 else f"empty, or at least {size} runs",
            )
        late = _late(spec)
        if self.trajectory and late < size:
            yield Problem(
                f"groups of {size} cannot be made of the {late} checkpoint{'s' * (late > 1)} after the first",
                "trajectory",
                "false, more epochs, or checkpoints kept more often",
            )
        for chosen in spec.methods:
            typical = _typical(chosen)
            if 0 < typical < size:
                most = min(typical, runs)
                yield Problem(
                    f"groups of {size} cannot be made of {typical} typical "
                    f"sample{'s' * (typical > 1)} of {chosen.method}",
                    "members",
                    f"2 to {most}, or more typical samples" if most > 1 else f"{size} typical samples or more, or none",
                )


def said_of_chains(groups: Collection[str]) -> list[str]:
    """For captions: which of their samples chains among these groups are represented by."""
    chains = [methods[name] for name in methods if name in groups and methods[name].trained == "fresh"]
    return [f"{chain.title}: the last samples of its cycles, latest cycle first." for chain in chains]


class ShiftSpec(GroupStudy):
    """Accuracy, Brier score and Jensen-Shannon divergence against the intensity of corruptions (science j.1)."""

    source: Literal["generated", "published"] = Field(
        "generated",
        description="generated: our corruptions of the test images; published: a CIFAR-10-C, CIFAR-100-C or "
        "ImageNet-C folder.",
    )
    path: Path | None = Field(
        None,
        description="Folder of the published set; for generated ones, of photographs of frost (PNG or JPEG, the first "
        "five by name), empty: textures made up here.",
    )
    fingerprint: str | None = Field(
        None,
        max_length=64,
        description="SHA-256 of the published files' names, sizes and times, or of the photographs; filled in at "
        "launch.",
    )
    corruptions: tuple[str, ...] = Field(
        (), max_length=19, description="Which types; empty means all that apply to the images."
    )
    intensities: tuple[Intensity, ...] = Field(
        (1, 2, 3, 4, 5), min_length=1, max_length=5, description="Which intensities, 1 to 5."
    )
    images: int | None = Field(
        None,
        ge=10,
        le=1_000_000,
        description="Test images evaluated (the first n); empty: 2,000, or all if fewer.",
    )

    @model_validator(mode="after")
    def _has_path(self) -> ShiftSpec:
        if self.source == "published" and self.path is None:
            raise InvalidInput("is where the published set lies", field="path", allowed="a path")
        return self

    def count(self, test: int) -> int:
        """Images evaluated of `test` there are."""
        return min(2000, test) if self.images is None else self.images

    def types(self, info: DataInfo) -> tuple[str, ...]:
        """The types asked for; if none is named, all that apply, or all that such a published set has."""
        from modescape.corruptions.corruption import EXTRA, applicable

        if self.corruptions:
            return self.corruptions
        if self.source == "generated":
            return applicable(info.channels, info.height, info.width)
        main = info.height >= 224  # ImageNet-C comes with its four extra types apart
        return tuple(name for name, kind in corruptions.items() if not main or kind.family != EXTRA)

    def problems(self, spec: ExperimentSpec, info: DataInfo, n: Sizes) -> Iterator[Problem]:
        from modescape.corruptions.corruption import applicable

        yield from super().problems(spec, info, n)
        fitting = applicable(info.channels, info.height, info.width)
        for field, values in (("corruptions", self.corruptions), ("intensities", self.intensities)):
            twice = [value for i, value in enumerate(values) if value in values[:i]]
            if twice:
                yield Problem(f"{twice[0]} is listed twice", field, "each at most once")
        for name in self.corruptions:
            if name not in corruptions:
                yield Problem(
                    f"there is no corruption {name[:60]!r}", "corruptions", "some of " + ", ".join(corruptions)
                )
            elif self.source == "generated" and name not in fitting:
                yield Problem(
                    f"{name} does not apply to images of {info.height}x{info.width} pixels and {info.channels} "
                    f"channel{'s' * (info.channels > 1)}",
                    "corruptions",
                    "some of " + ", ".join(fitting),
                )
        if self.images is not None and self.images > n.test:
            yield Problem(f"{self.images} of {n.test} test images asked for", "images", f"10 to {n.test}, or empty")

    def looked_up(self, data: DataSpec, info: DataInfo, folders: Sequence[pathlib.Path]) -> Self:
        if self.path is None:
            return self
        if self.source == "generated":
            from modescape.corruptions.frost import frost_fingerprint

            return self.model_copy(update={"fingerprint": frost_fingerprint(pathlib.Path(self.path))})
        from modescape.science.corrupted import look_at
        from modescape.science.data import own_test

        found = look_at(self.path, info, self.types(info), self.intensities, own=own_test(data, folders))
        return self.model_copy(update={"fingerprint": found})


# Images made up instead of read, with their titles.
SYNTHETIC = {
    "gaussian-noise": "Gaussian noise",
    "uniform-noise": "Uniform noise",
    "constant": "Constant images",
    "permuted": "Permuted pixels",
}


class OodSpec(GroupStudy):
    """Behaviour on images of another kind (science a.11, k.5)."""

    dataset: Key = Field(
        description="Images of another set, converted to the size and channels of training, or synthetic ones: "
        "gaussian-noise, uniform-noise, constant, permuted."
    )
    path: Path | None = Field(
        None, description="Folder of pictures, or .npz file with `images`, for the sets folder and npz."
    )
    fingerprint: str | None = Field(
        None, max_length=64, description="SHA-256 of your own images, filled in when the experiment is created."
    )
    images: int | None = Field(
        None,
        ge=10,
        le=1_000_000,
        description="Images evaluated, drawn by the seed; empty means 10,000 or all if fewer.",
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of the choice, and of synthetic images.")
    white: Annotated[float | None, Added] = Field(
        None, gt=0, le=2**32, description="The value that is white in your own images; empty means it is found."
    )

    @field_validator("dataset")
    @classmethod
    def _known(cls, name: str, info: ValidationInfo) -> str:
        if name not in SYNTHETIC and name not in datasets and not is_stored(info):
            raise InvalidInput(
                f"there is no dataset {name!r}, and it is not made up here",
                allowed="one of " + ", ".join((*datasets, *SYNTHETIC)),
            )
        return name

    @model_validator(mode="after")
    def _has_path(self) -> OodSpec:
        if (self.dataset in PLACES) != (self.path is not None):
            raise InvalidInput("belongs to the sets `folder` and `npz`, which need it", field="path", allowed="a path")
        if self.white is not None and self.path is None:
            raise InvalidInput("belongs to the sets `folder` and `npz`", field="white", allowed="nothing for this set")
        return self

    def problems(self, spec: ExperimentSpec, info: DataInfo, n: Sizes) -> Iterator[Problem]:
        yield from super().problems(spec, info, n)
        own, other = (None if path is None else os.path.realpath(path) for path in (spec.data.path, self.path))
        shorter, longer = sorted((f"{self.dataset}-", f"{spec.data.dataset}-"), key=len)
        if (self.dataset, other) == (spec.data.dataset, own) or (shorter != longer and longer.startswith(shorter)):
            # the second: digits-0-4 is a part of digits
            yield Problem(
                f"{self.dataset} is, or shares images with, what the networks are trained on",
                "dataset" if self.path is None else "path",
                "another set of images, or one of " + ", ".join(SYNTHETIC),
            )
        if self.dataset == "permuted" and self.images is not None and self.images > n.test:
            yield Problem(f"{self.images} of {n.test} test images asked for", "images", f"10 to {n.test}, or empty")

    def looked_up(self, data: DataSpec, info: DataInfo, folders: Sequence[pathlib.Path]) -> Self:
        if self.dataset in SYNTHETIC:
            return self
        from modescape.science.outside import look_at

        return self.model_copy(update={"fingerprint": look_at(self, info, folders).fingerprint})


class SeedsSpec(Study):
    """What makes functions differ: initial weights or batch order? (science g.2)."""

    learning_rates: tuple[LearningRate, ...] = Field(
        (1e-4, 3e-4, 1e-3, 1.6e-3, 3e-3), min_length=1, max_length=20, description="Constant learning rates compared."
    )
    repetitions: int = Field(3, ge=1, le=100, description="Independent repetitions of every pair: the units.")
    epochs: int | None = Field(None, ge=1, le=100_000, description="Epochs; empty means those of the training.")

    def judged(self, spec: ExperimentSpec) -> float:
        """The learning rate that claim (g) is read at: the training's own, else the one whose ratio to it is nearest
        to 1."""
        return min(self.learning_rates, key=lambda rate: abs(math.log(rate / spec.training.learning_rate)))

    def problems(self, spec: ExperimentSpec, info: DataInfo, n: Sizes) -> Iterator[Problem]:
        yield from _twice("learning_rates", self.learning_rates)


class ThroughRuns(Study):
    """Base of studies that go through the optima of some runs.

    `named` tells runs that somebody wrote down from those that are meant when nothing is said: a spec writes its
    defaults out, so both may read [0, 1]. In a document that tells its version, which is one that was promised before,
    the first runs are those meant when nothing is said; in any other what is written down is named.
    """

    named: Annotated[bool, Added] = Field(
        False,
        description="Whether the first runs are meant by their numbers, so that one that failed closes this picture. "
        "Else the next healthy one takes its place. Filled in: runs that are written down are meant.",
    )

    @classmethod
    def taken(cls, data: Mapping[str, Any]) -> int:
        """How many runs it goes through."""
        return 2

    @model_validator(mode="before")
    @classmethod
    def _meant(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        runs = data.get("runs")
        if runs is None or (isinstance(runs, list | tuple) and not runs):
            return {**data, "runs": tuple(range(cls.taken(data))), "named": False}
        if isinstance(runs, list | tuple) and list(runs) != list(range(len(runs))):
            return {**data, "named": False}  # these can only be meant by their numbers
        return data


def is_open(runs: Sequence[int], named: bool) -> bool:
    """Whether these are the runs that are meant when nothing is said: the first healthy ones."""
    return not named and tuple(runs) == tuple(range(len(runs)))


def with_named_runs(document: Any) -> Any:
    """A document of an experiment, in which runs that somebody wrote down are named."""
    if not isinstance(document, Mapping) or "version" in document:
        return document
    found = dict(document)
    for part in ("planes", "tunnels"):
        if isinstance(studies := found.get(part), list | tuple):
            found[part] = [
                {"named": True, **study} if isinstance(study, Mapping) and study.get("runs") else study
                for study in studies
            ]
    return found


class PlaneSpec(ThroughRuns):
    """A cut through the loss landscape (science f.1)."""

    kind: Literal["radial", "affine", "random", "line"] = Field(
        "radial",
        description="radial: through the origin and two optima; affine: through three optima; random: around one "
        "optimum along two filter-normalised random directions; line: straight between two optima and beyond.",
    )
    runs: tuple[Run, ...] = Field(
        (0, 1), min_length=1, max_length=3,
        description="The runs whose optima it contains; empty means the first healthy ones.",
    )  # fmt: skip
    resolution: Literal[33, 65] = Field(33, description="Points along each axis: 33 for a look, 65 for print.")
    split: Literal["test", "validation"] = Field("test", description="Images evaluated beside the training images.")
    train_images: int = Field(1000, ge=10, le=1_000_000, description="Training images evaluated (the first n).")
    test_images: int = Field(
        1000, ge=10, le=1_000_000, description="Test or validation images evaluated (the first n)."
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of random directions.")

    @classmethod
    def taken(cls, data: Mapping[str, Any]) -> int:
        return {"affine": 3, "random": 1}.get(str(data.get("kind")), 2)

    def problems(self, spec: ExperimentSpec, info: DataInfo, n: Sizes) -> Iterator[Problem]:
        wanted = self.taken({"kind": self.kind})
        if len(self.runs) != wanted or len(set(self.runs)) != wanted:
            words = "1 run" if wanted == 1 else f"{wanted} different runs"
            article = "an" if self.kind == "affine" else "a"
            yield Problem(f"{article} {self.kind} cut goes through {words}, got {len(self.runs)}", "runs", words)
        for run in self.runs:
            yield from _known_run("runs", run, spec)
        if self.split == "validation" and n.validation < 10:
            yield Problem(f"validation has {n.validation} images", "split", "test, or at least 10 validation images")


class TunnelSpec(ThroughRuns):
    """A low-loss path between the optima of two runs (science f.2, f.3)."""

    runs: tuple[Run, Run] = Field((0, 1), description="The two ends; empty means the first two healthy runs.")
    method: Literal["perpendicular", "bezier", "chain"] = Field(
        "perpendicular",
        description="perpendicular: knots on the straight line, each moved to low loss at right angles to it; bezier, "
        "chain: one trained bend (Garipov et al. 2018).",
    )
    knots: int = Field(9, ge=1, le=100, description="Inner knots of the perpendicular method.")
    epochs: int = Field(
        3, ge=1, le=10_000, description="Most epochs each knot, or the bend, is trained for; a bend needs about 30."
    )
    learning_rate: float = Field(1e-3, gt=0, le=100, description="Adam's learning rate.")
    batch_size: int = Field(128, ge=1, le=65_536, description="Images a step.")
    images: int = Field(2000, ge=10, le=1_000_000, description="Images of each split the path is evaluated on.")
    triangles: bool = Field(True, description="Also the stitched triangles from the origin along the path.")
    triangle_images: int = Field(500, ge=10, le=1_000_000, description="Test images the triangles are evaluated on.")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of the batches.")

    def problems(self, spec: ExperimentSpec, info: DataInfo, n: Sizes) -> Iterator[Problem]:
        if self.runs[0] == self.runs[1]:
            yield Problem("a tunnel needs two different ends", "runs", "two different runs")
        for run in self.runs:
            yield from _known_run("runs", run, spec)


class ConnectivitySpec(Study):
    """Linear mode connectivity before and after permutation alignment (science l.1, l.2)."""

    points: int = Field(25, ge=3, le=201, description="Points along each straight line, ends included.")
    images: int = Field(2000, ge=10, le=1_000_000, description="Images of each split evaluated.")
    align: bool = Field(True, description="Also after weight matching (Ainsworth et al. 2022).")
    repair: bool = Field(
        True,
        description="Also with REPAIR (Jordan et al. 2022); for networks without batch norm, others always get new "
        "statistics.",
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of the order in which layers are matched.")

    def problems(self, spec: ExperimentSpec, info: DataInfo, n: Sizes) -> Iterator[Problem]:
        if spec.ensemble.runs < 2:
            yield Problem("one run has no pair", "", "at least 2 runs")
        why = architectures[spec.network.architecture].why_not_aligned
        if self.align and why:
            can_be = [name for name, entry in architectures.items() if not entry.why_not_aligned]
            yield Problem(
                f"{why}, so they cannot be aligned", "align", "false, or one of the networks " + ", ".join(can_be)
            )


class InstabilitySpec(Study):
    """Two trainings that share their first k epochs: are they connected? (Frankle et al. 2020; science l.1)."""

    epochs: tuple[Annotated[int, Field(ge=0, le=100_000)], ...] = Field(
        (0, 1, 2), min_length=1, max_length=32, description="Epochs k at which run 0 branches; 0 is the start."
    )
    points: int = Field(25, ge=3, le=201, description="Points along each straight line, ends included.")
    images: int = Field(2000, ge=10, le=1_000_000, description="Images of each split evaluated.")
    repetitions: int = Field(3, ge=1, le=100, description="Pairs of branches from each epoch.")

    def problems(self, spec: ExperimentSpec, info: DataInfo, n: Sizes) -> Iterator[Problem]:
        last, every = spec.training.epochs, spec.training.checkpoint_every
        yield from _twice("epochs", self.epochs)
        for k in self.epochs:
            if k >= last:
                yield Problem(f"there is nothing to train from epoch {k} on, training ends after epoch {last}",
                              "epochs", f"0 to {last - 1}")  # fmt: skip
            elif k % every:
                yield Problem(
                    f"no checkpoint of epoch {k} is kept: training.checkpoint_every is {every}",
                    "epochs",
                    f"multiples of {every} below {last}, or training.checkpoint_every of 1",
                )
