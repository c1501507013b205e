"""Corrupted test images: what becomes of accuracy and diversity when the test set shifts."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from modescape.errors import InvalidInput, Problem
from modescape.names import keys_of, meant
from modescape.own_files import read_apart
from modescape.own_sets import LONGEST, place_name
from modescape.records import DataInfo
from modescape.registry import corruptions, datasets
from modescape.spec_parts import PLACES, DataSpec, Key, Part, is_same_place, read_by, refuse_stray_path
from modescape.study import MEAN_DIVERGENCE, GroupStudy, OtherSet, Path, study
from modescape.versions import STORED, Added, is_stored

if TYPE_CHECKING:
    from modescape.records import Sizes
    from modescape.spec_parts import BaseSpec

Intensity = Annotated[int, Field(ge=1, le=5)]


class OwnSet(Part):
    """A user's own labelled pictures of the classes that are trained on."""

    dataset: Literal["folder", "npz", "huggingface"] = Field(description="What lies there.")
    path: Path = Field(description="Folder of class folders, .npz file of images and labels, or folder of a saved set.")
    name: str = Field("", max_length=LONGEST, description="What it is called; empty: as its place.")
    white: float | None = Field(
        None, gt=0, le=2**32, description="The value that is white in the pictures; empty means it is found."
    )
    fingerprint: str | None = Field(
        None, max_length=64, description="SHA-256 of the images, filled in when the experiment is created."
    )

    @model_validator(mode="after")
    def _has_white(self) -> OwnSet:
        refuse_stray_path(self.dataset, self.path, self.white)
        return self

    @property
    def title(self) -> str:
        return self.name or place_name(self.path, self.dataset)

    def data(self, side: int | None = None) -> DataSpec:
        """As a data set; side: of the square that its pictures are scaled to."""
        return DataSpec(
            dataset=self.dataset, path=self.path, white=self.white, fingerprint=self.fingerprint,
            validation_images=0, image_size=side,
        )  # fmt: skip


def _kind_of(given: Any) -> str:
    return "named" if isinstance(given, str) else "own"


@study(
    "shift",
    title="Corruptions",
    summary="Evaluation on corrupted test images.",
    source="Ovadia et al. 2019; Hendrycks & Dietterich 2019",
    absent="No corruptions were asked for.",
    stages=("corrupt", "shift", "shift-compare", "shift-thumbnails"),
    place=10,
)
class ShiftSpec(GroupStudy):
    """Accuracy, Brier score and Jensen-Shannon divergence against the intensity of corruptions (science j.1)."""

    reads_labels = True

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
    others: Annotated[
        tuple[Annotated[Annotated[Key, Tag("named")] | Annotated[OwnSet, Tag("own")], Discriminator(_kind_of)], ...],
        Added,
    ] = Field(
        (),
        max_length=8,
        description="Labelled sets of other images of the same classes, such as CIFAR-10.1, by the names they have "
        "here (one's own are registered under Data): their test images, or all where there is no test set, at most "
        "10,000, are a type of their own at intensity 1.",
    )
    images: int | None = Field(
        None,
        ge=10,
        le=1_000_000,
        description="Test images evaluated (the first n); empty: 2,000, or all if fewer.",
    )

    @field_validator("others", mode="before")
    @classmethod
    def _each(cls, given: Any, info: ValidationInfo) -> Any:
        """Names and objects, each told by its place."""
        if not isinstance(given, list | tuple):
            return given
        for i, one in enumerate(given):
            if isinstance(one, str) and not re.fullmatch(r"[a-z0-9][a-z0-9-]{,63}", one):
                raise InvalidInput(
                    f"no data set is called {one[:60]!r}{meant(one, datasets)}", field=f"{i}",
                    allowed="a set's name, one that is registered in this home, or an object with its place",
                )  # fmt: skip
        return tuple(
            read_by(OwnSet, one, f"{i}", is_stored(info)) if isinstance(one, Mapping) else one
            for i, one in enumerate(given)
        )

    @model_validator(mode="after")
    def _has_path(self) -> ShiftSpec:
        if self.source == "published" and self.path is None:
            raise InvalidInput("is where the published set lies", field="path", allowed="a path")
        return self

    def count(self, test: int) -> int:
        """Images evaluated of `test` there are."""
        return min(2000, test) if self.images is None else self.images

    def other_sets(self, data: DataSpec) -> list[OtherSet]:
        """The sets of other images; data: what is trained on, whose pictures may be scaled to one size."""
        titles = {i: one.title for i, one in enumerate(self.others) if isinstance(one, OwnSet)}
        keys = keys_of([*corruptions, *(one for one in self.others if isinstance(one, str)), *titles.values()])
        found = []
        for i, one in enumerate(self.others):
            if isinstance(one, OwnSet):
                found.append(OtherSet(keys[titles[i]], titles[i], one.data(data.image_size)))
            else:
                named = {"dataset": one, "image_size": data.image_size}
                title = datasets[one].title if one in datasets else one  # a worker's plug-in
                found.append(OtherSet(one, title, DataSpec.model_validate(named, context=STORED)))
        return found

    def own_images(self) -> Iterator[tuple[str, DataSpec]]:
        own = ((i, one) for i, one in enumerate(self.others) if isinstance(one, OwnSet))
        yield from ((f"others.{i}", one.data()) for i, one in own)

    def types(self, info: DataInfo) -> tuple[str, ...]:
        """The types asked for; if none is named, all that apply, or all that such a published set has."""
        from modescape.corruptions.corruption import EXTRA, applicable

        if self.corruptions:
            return self.corruptions
        if self.source == "generated":
            return applicable(info.channels, info.height, info.width)
        main = info.height >= 224  # ImageNet-C comes with its four extra types apart
        return tuple(name for name, kind in corruptions.items() if not main or kind.family != EXTRA)

    def problems(self, spec: BaseSpec, info: DataInfo, n: Sizes) -> Iterator[Problem]:
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
                    f"there is no corruption {name[:60]!r}{meant(name, corruptions)}",
                    "corruptions",
                    "some of " + ", ".join(corruptions),
                )
            elif self.source == "generated" and name not in fitting:
                yield Problem(
                    f"{name} does not apply to images of {info.height}x{info.width} pixels and {info.channels} "
                    f"channel{'s' * (info.channels > 1)}",
                    "corruptions",
                    "some of " + ", ".join(fitting),
                )
        yield from self._problems_of_others(spec)
        if self.images is not None and self.images > n.test:
            yield Problem(f"{self.images} of {n.test} test images asked for", "images", f"10 to {n.test}, or empty")

    def _problems_of_others(self, spec: BaseSpec) -> Iterator[Problem]:
        fitting = [name for name in datasets if name not in PLACES and name != spec.data.dataset]
        named, before = {name.casefold() for name in corruptions}, set[str]()
        for one in self.others:
            title = one.title if isinstance(one, OwnSet) else one
            if title.casefold() in named:
                why = f"{title[:60]} is the name of a corruption, and types of shift are told apart by their names"
                yield Problem(why, "others", "another name: {dataset, path, name} says what a set is called here")
            elif title.casefold() in before:
                yield Problem(f"{title[:60]} is there already", "others", "each at most once")
            elif isinstance(one, OwnSet) and is_same_place(one.path, spec.data.path):
                yield Problem(f"{title} is what the networks are trained on", "others", "another set")
            elif isinstance(one, str) and one not in fitting:
                is_trained = one == spec.data.dataset
                why = (
                    "is what the networks are trained on"
                    if is_trained
                    else f"is no set with a name{meant(one, fitting)}"
                )
                allowed = f"some of {', '.join(fitting)}, or of those registered under Data"
                yield Problem(f"{one[:60]!r} {why}", "others", allowed)
            before.add(title.casefold())

    def looked_up(self, data: DataSpec, info: DataInfo, folders: Sequence[pathlib.Path]) -> Self:
        return self._with_images(data, info, folders)._with_others(data, info, folders)

    def _with_others(self, data: DataSpec, info: DataInfo, folders: Sequence[pathlib.Path]) -> Self:
        from modescape.studies.shift.others import looked_at

        found = [looked_at(other, info, folders) for other in self.other_sets(data)]
        others = tuple(
            one.model_copy(update={"fingerprint": fingerprint}) if isinstance(one, OwnSet) else one
            for one, fingerprint in zip(self.others, found, strict=True)
        )
        return self if others == self.others else self.model_copy(update={"others": others})

    def _with_images(self, data: DataSpec, info: DataInfo, folders: Sequence[pathlib.Path]) -> Self:
        if self.path is None:
            return self
        if self.source == "generated":
            return self.model_copy(update={"fingerprint": _of_frost(str(self.path))})
        found = _of_published(str(self.path), info, self.types(info), self.intensities, data, tuple(folders))
        return self.model_copy(update={"fingerprint": found})

    def deviations(self) -> Iterator[str]:
        if self.source == "generated":
            yield (
                "corruptions made here with the published constants, frost from textures of our own, instead of the "
                "published files (choose published, and a folder)"
            )
        yield MEAN_DIVERGENCE


@read_apart(lambda path: [path], field="path")
def _of_frost(path: str) -> str:
    """Fingerprint of photographs of frost. Raises InvalidInput."""
    from modescape.corruptions.frost import frost_fingerprint

    return frost_fingerprint(pathlib.Path(path))


@read_apart(lambda path, info, types, intensities, data, folders: [path, data.path], field="path")
def _of_published(
    path: str,
    info: DataInfo,
    types: tuple[str, ...],
    intensities: tuple[int, ...],
    data: DataSpec,
    folders: tuple[pathlib.Path, ...],
) -> str:
    """Fingerprint of a published set of corrupted images. Raises InvalidInput, DataCorrupt."""
    from modescape.corruptions.published import check_set
    from modescape.datasets.here import own_test

    return check_set(path, info, types, intensities, own=own_test(data, folders))
