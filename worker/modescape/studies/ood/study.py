"""Images of another kind: what networks say of what they were not trained on."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from modescape.errors import InvalidInput, Problem
from modescape.names import meant
from modescape.own_sets import LONGEST
from modescape.registry import datasets
from modescape.spec_parts import MAX_SEED, NUMBERS, SYNTHETIC, Key, is_same_place, refuse_stray_path
from modescape.study import MEAN_DIVERGENCE, GroupStudy, Path, study
from modescape.versions import Added, is_imported, is_stored

if TYPE_CHECKING:
    from modescape.records import DataInfo, Sizes
    from modescape.spec_parts import BaseSpec, DataSpec


@study(
    "ood",
    title="Out of distribution",
    summary="Sets of other images: out of distribution.",
    source="Lakshminarayanan, Pritzel & Blundell 2017, section 3.5",
    absent="No images of another data set were asked for.",
    stages=("ood", "ood-compare", "ood-thumbnails"),
    most=8,
    rows=2,
    place=20,
)
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

    name: Annotated[str, Added] = Field(
        "", max_length=LONGEST, description="What your own images are called; empty: as their place."
    )

    @field_validator("dataset", mode="before")
    @classmethod
    def _known(cls, name: Any, info: ValidationInfo) -> Any:
        known = (*datasets, *SYNTHETIC)
        if isinstance(name, str) and name not in known and not is_stored(info) and not is_imported(info):
            raise InvalidInput(
                f"there is no dataset {name[:80]!r}, and it is not made up here{meant(name, known)}",
                allowed="one of " + ", ".join(known),
            )
        return name

    @model_validator(mode="after")
    def _has_path(self) -> OodSpec:
        refuse_stray_path(self.dataset, self.path, self.white)
        if self.name and self.path is None:
            raise InvalidInput("belongs to your own images", field="name", allowed="nothing for this set")
        return self

    def problems(self, spec: BaseSpec, info: DataInfo, n: Sizes) -> Iterator[Problem]:
        yield from super().problems(spec, info, n)
        if self.dataset in NUMBERS:
            yield Problem(f"{self.dataset} holds numbers that are no pictures", "dataset", "a set of pictures")
        is_same = is_same_place(spec.data.path, self.path) or spec.data.path is self.path is None
        shorter, longer = sorted((f"{self.dataset}-", f"{spec.data.dataset}-"), key=len)
        if (self.dataset == spec.data.dataset and is_same) or (shorter != longer and longer.startswith(shorter)):
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
        from modescape.studies.ood.images import available

        return self.model_copy(update={"fingerprint": available(self, info, folders).fingerprint})

    def own_images(self) -> Iterator[tuple[str, DataSpec]]:
        from modescape.spec_parts import DataSpec

        if self.path is not None:
            yield "", DataSpec(dataset=self.dataset, path=self.path, white=self.white, fingerprint=self.fingerprint)

    def remarks(self) -> list[str]:
        from modescape.studies.ood.images import remarks, title

        return [f"{title(self)}: {sentence}" for sentence in remarks(self)]

    def deviations(self) -> Iterator[str]:
        yield MEAN_DIVERGENCE

    @classmethod
    def choices(cls, field: str) -> Mapping[str, str] | None:
        return {**SYNTHETIC, **{name: entry.title for name, entry in datasets.items()}} if field == "dataset" else None
