"""What a study is: something an experiment does with its runs beyond comparing them, one optional part of its spec.

    @study("tunnels", title="Tunnel", summary="Low-loss paths between two runs.", stages=("tunnel", "triangles"), ...)
    class TunnelSpec(StudySpec): ...

The model says what can be chosen (fields with their bounds) and, in `problems`, what does not fit together or does not
fit the data. All that belongs to a study is one folder of `studies`: this model in `study`, what it does in `stages`,
its figures and presets. A plug-in's study is asked for under `studies`, by its name.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, Self, TypeVar

from pydantic import Field, model_validator

import modescape.registry as registry
from modescape.errors import Problem
from modescape.registry import LAST, methods
from modescape.spec_parts import Part
from modescape.versions import Added

if TYPE_CHECKING:
    from modescape.records import DataInfo, Sizes
    from modescape.spec_parts import BaseSpec, DataSpec, MethodSpec

Run = Annotated[int, Field(ge=0, le=999)]
Path = Annotated[str, Field(max_length=1024)]
BROUGHT = "studies"  # the field of a spec for those of plug-ins, by name


class OtherSet(NamedTuple):
    """A labelled set of other images that networks are asked about: its key among the types of shift, its title, what
    it is."""

    key: str
    title: str
    data: DataSpec


class StudySpec(Part, registry.StudyOptions):
    """Base of what is asked of a study. `problems` yields what is wrong; fields are relative to the study.

    A study with a field `dataset` reads that set; others read what is trained on.
    """

    def problems(self, spec: BaseSpec, info: DataInfo, n: Sizes) -> Iterator[Problem]:
        yield from ()

    def looked_up(self, data: DataSpec, info: DataInfo, folders: Sequence[pathlib.Path]) -> Self:
        """The study once its files were looked at, with their fingerprint filled in; data and info: of the training
        set. Raises DataMissing, DataCorrupt, and InvalidInput with fields relative to the study."""
        return self

    reads_labels: ClassVar[bool] = False  # whether its own images must have their classes

    def own_images(self) -> Iterator[tuple[str, DataSpec]]:
        """A user's own images that it reads, each as a data set, with the field of the study where they are named."""
        yield from ()

    def remarks(self) -> list[str]:
        """What a person should know of a user's own images before a launch, a sentence each. Raises InvalidInput."""
        return []

    def deviations(self) -> Iterator[str]:
        """What in it is not the paper's, for presets that follow it, a sentence each."""
        yield from ()


S = TypeVar("S", bound=StudySpec)


def study(
    name: str,
    *,
    title: str,
    summary: str,
    source: str,
    absent: str,
    stages: tuple[str, ...],
    most: int = 1,
    rows: int = 1,
    runs: int = 0,
    place: int = LAST,
) -> Callable[[type[S]], type[S]]:
    """Declare the study that this model describes; the arguments are `registry.Study`'s."""

    def declare(model: type[S]) -> type[S]:
        registry.studies.add(
            registry.Study(
                name=name, title=title, summary=summary, source=source, options=model, call=model, place=place,
                absent=absent, stages=stages, most=most, rows=rows, runs=runs,
            )
        )  # fmt: skip
        return model

    return declare


def once(name: str) -> Any:
    """The field of a spec in which a study may be asked for."""
    return Field(None, description=registry.studies.declared(name).summary)


def often(name: str) -> Any:
    """The field of a spec in which a study may be asked for several times."""
    entry = registry.studies.declared(name)
    return Field((), max_length=entry.most, description=entry.summary)


def needed(asked: S | None) -> S:
    """A study in what belongs to it: its stages and figures are there only where it was asked for."""
    assert asked is not None
    return asked


def known_run(field: str, run: int, spec: BaseSpec) -> Iterator[Problem]:
    """What is wrong with the number of a run that a field names."""
    if run >= spec.ensemble.runs:
        yield Problem(f"there is no run {run}", field, f"0 to {spec.ensemble.runs - 1}")


def recipe_unknown(spec: BaseSpec) -> Iterator[Problem]:
    """What is wrong with training anything beside weights that were made elsewhere."""
    if spec.weights is not None:
        yield Problem("it trains networks, and the recipe of weights made elsewhere is not known here")


def twice(field: str, values: Sequence[float]) -> Iterator[Problem]:
    """What is wrong with values of which each may be there once."""
    for i, value in enumerate(values):
        if value in values[:i]:
            yield Problem(f"{value:g} is listed twice", field, "each value once")


def _typical(chosen: MethodSpec) -> int:
    """Typical samples a run that a method gives; 0 for an average, which is one function and no sample of anything."""
    if chosen.method not in methods:  # a worker's plug-in
        return chosen.typical
    method = methods[chosen.method]
    if method.sampled:
        return chosen.typical
    count = method.count(method.options.model_validate(chosen.options))
    return count if count > 1 else 0


def _late(spec: BaseSpec) -> int:
    """Checkpoints a run keeps after its initial weights."""
    return -(-spec.training.epochs // spec.training.checkpoint_every)


# Of every study that compares divergences of groups, for presets that follow the paper.
MEAN_DIVERGENCE = (
    "Jensen-Shannon divergence as the authors' code computes it: a mean over members, where the text has a sum"
)


class GroupStudy(StudySpec):
    """Studies that evaluate groups of functions on other images: every run's optimum and weight average, M late
    checkpoints of each run, and M typical samples of each method (of chains the last of their cycles)."""

    takes_samples = True

    members: int | None = Field(
        None,
        ge=2,
        le=100,
        description="Functions of each group that are compared (M); empty means 5, or what the smallest group has.",
    )
    trajectory: bool = Field(True, description="Also late checkpoints of each run, as a group of their own.")

    def size(self, spec: BaseSpec) -> int:
        """M, the same for every group, so that divergences can be compared."""
        if self.members is not None:
            return self.members
        groups = [
            spec.ensemble.runs,
            *(_typical(chosen) for chosen in spec.methods),
            *([_late(spec)] if self.trajectory else []),
        ]
        return min([5, *(count for count in groups if count > 1)])

    def problems(self, spec: BaseSpec, info: DataInfo, n: Sizes) -> Iterator[Problem]:
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


class ThroughRuns(StudySpec):
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
    return with_changed(
        document,
        lambda entry: issubclass(entry.options, ThroughRuns),
        lambda field, asked: {"named": True, **asked} if asked.get("runs") else asked,
    )


# -- documents, before they are specs ---------------------------------------------------------------------------------

Json = dict[str, Any]


def names_a_set(entry: registry.Study) -> bool:
    """Whether a study reads a data set that it names."""
    return "dataset" in entry.options.model_fields


def names_others(entry: registry.Study) -> bool:
    """Whether a study reads other labelled sets that it names."""
    return "others" in entry.options.model_fields


def with_changed(
    document: Mapping[str, Any], which: Callable[[registry.Study], bool], change: Callable[[str, Json], Json]
) -> Json:
    """The document of an experiment with some of its studies changed: `change` gets the field each stands in and what
    is asked of it. What is no object is left to the models to complain of."""
    chosen = [name for name, entry in registry.studies.items() if which(entry)]

    def changed(field: str, asked: Any) -> Any:
        if isinstance(asked, list | tuple):
            return [changed(f"{field}.{i}", one) for i, one in enumerate(asked)]
        return change(field, dict(asked)) if isinstance(asked, Mapping) else asked

    found = {name: changed(name, asked) if name in chosen else asked for name, asked in document.items()}
    if isinstance(brought := document.get(BROUGHT), Mapping):
        found[BROUGHT] = {
            name: changed(f"{BROUGHT}.{name}", asked) if name in chosen else asked for name, asked in brought.items()
        }
    return found
