"""The parts of a spec: those that every experiment has, and what they have in common with its studies.

A part is frozen, with nothing unknown, no NaN and no truth values where numbers belong.

A field that comes to the spec after experiments were stored is marked `Added`:

    white: Annotated[int | None, Added] = Field(None, description="...")

While it has its default it is in no canonical text and in no stage's key, so that what was promised and computed before
it was there keeps its digest and is found again. A field with a better name than it once had is marked `Renamed`:

    d1: Annotated[float, Renamed("d")] = Field(1.1, description="...")

It is read under both names, and stands under the older one in canonical texts and keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from modescape.errors import InvalidInput, Problem
from modescape.pydantic_errors import LARGEST_WHOLE, invalid
from modescape.registry import Entry, Method, Options, architectures, datasets, methods
from modescape.science.data.tensors import InputScale
from modescape.versions import STORED, Added, Versioned, is_imported, is_stored, renamed

MAX_SEED = LARGEST_WHOLE
PLACES = ("folder", "npz")  # the data sets that are a place of the user's, which a spec names with a path

# Images made up instead of read, with their titles.
SYNTHETIC = {
    "gaussian-noise": "Gaussian noise",
    "uniform-noise": "Uniform noise",
    "constant": "Constant images",
    "permuted": "Permuted pixels",
}

Key = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=64)]


def keyed(model: BaseModel, *fields: str) -> dict[str, Any]:
    """The document (or `fields` of it) that digests and stage keys are made of: without added fields at their defaults.

    Every other value is written out, defaults too.
    """
    document = model.model_dump(mode="json", include=set(fields) or None)
    _strip(model, document)
    return document


@lru_cache(maxsize=256)  # asked of every part of every spec
def _names(model: Any) -> frozenset[str]:
    return frozenset(model.model_fields)


@lru_cache(maxsize=256)
def _added(model: Any) -> dict[str, Any]:
    """Defaults of the fields that are marked `Added`."""
    fields = model.model_fields.items()
    return {name: one.get_default(call_default_factory=True) for name, one in fields if Added in one.metadata}


def _strip(value: Any, document: Any) -> None:
    if isinstance(value, BaseModel):
        added = _added(type(value))
        for name in _names(type(value)) & document.keys():
            inner = getattr(value, name)
            if name in added and inner == added[name]:
                del document[name]
            else:
                _strip(inner, document[name])
        for old, name in renamed(type(value)).items():
            if name in document:
                document[old] = document.pop(name)
        for name, usual in value.usual().items() if isinstance(value, Part) else ():
            if document.get(name) == usual:
                del document[name]
    else:
        for inner, written in _items(value, document):
            _strip(inner, written)


def _items(value: Any, document: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, tuple | list):
        yield from zip(value, document, strict=True)
    elif isinstance(value, Mapping):
        yield from ((inner, document[name]) for name, inner in value.items())


class Part(Versioned):
    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, field: ValidationInfo) -> Any:
        """Python takes true for 1; a spec does not."""
        if isinstance(value, bool) and cls.model_fields[str(field.field_name)].annotation is not bool:
            raise InvalidInput(
                f"is {str(value).lower()}", allowed="a number, a text, an object or a list, as described"
            )
        return value

    def usual(self) -> dict[str, Any]:
        """What it may hold beside its fields, with the values that count as `Added` fields at their defaults."""
        return {}


def _resolve_options(data: Any, key: str, entries: Mapping[str, Entry], default: str | None, stored: bool) -> Any:
    """Validate `options` with the entry's own model and write its defaults out; problems sit at `options.<name>`."""
    if not isinstance(data, dict):
        return data
    name = data.get(key, default)
    if not isinstance(name, str):
        return data
    if name not in entries and stored:
        return data
    if name not in entries:
        raise InvalidInput(f"there is no {key} {name[:80]!r}", field=key, allowed="one of " + ", ".join(entries))
    try:
        return {**data, "options": keyed(read_by(entries[name].options, data.get("options") or {}, "options", stored))}
    except InvalidInput:
        if stored:
            return data
        raise


def read_by(model: type[BaseModel], given: Any, place: str, stored: bool = False) -> Any:
    """What is given, read by its model. Raises InvalidInput with the fields at `place`."""
    try:
        return model.model_validate(given, context=STORED if stored else None)
    except ValidationError as error:
        found = invalid(error, model)
        problems = [Problem(p.message, f"{place}.{p.field}".strip("."), p.allowed) for p in found.problems]
        raise InvalidInput(str(found), problems=problems) from None


Split = Literal["test", "validation"]
Averaged = Literal["fair", "typical"]


def refuse_stray_path(dataset: str, path: str | None, white: float | None) -> None:
    """Raises InvalidInput for a place without its path, and for a path or a white of any other set."""
    if (dataset in PLACES) != (path is not None):
        raise InvalidInput("belongs to the sets `folder` and `npz`, which need it", field="path", allowed="a path")
    if white is not None and path is None:
        raise InvalidInput("belongs to the sets `folder` and `npz`", field="white", allowed="nothing for this set")


class DataSpec(Part):
    dataset: Key = Field("digits", description="Which data set; `modescape data` lists them.")
    path: str | None = Field(
        None, max_length=1024, description="Folder of class folders, or .npz file, for the sets `folder` and `npz`."
    )
    fingerprint: str | None = Field(
        None, max_length=64, description="SHA-256 of a user's own data, filled in when the experiment is created."
    )
    input_scale: InputScale = Field(  # science n.2
        "raw255",
        description="raw255: pixels 0..255 as in the authors' code; unit: x/255; standardised: per-channel mean 0 and "
        "deviation 1; pixel-mean: x/255 minus the mean image; symmetric: -1..1. It changes the result: runs on raw "
        "pixels diverge two to four times as much as on scaled ones.",
    )
    train_images: int | None = Field(None, ge=2, le=20_000_000, description="Training images; empty means all.")
    validation_images: int | None = Field(
        None,
        ge=0,
        le=1_000_000,
        description="Images for validation: held out of training (empty means the set's default), or the first n of a "
        "validation set that one's own data bring (empty means all).",
    )
    test_images: int | None = Field(
        None, ge=10, le=1_000_000, description="Test images (the first n); empty means all."
    )
    split: Literal["first", "shuffled"] = Field(
        "first",
        description="first: the last images of the training files are validation; shuffled: by the split seed. One's "
        "own images are put in an order drawn from the split seed before either.",
    )
    split_seed: int = Field(
        0, ge=0, le=MAX_SEED, description="Seed of the shuffled split, and of the order of one's own images."
    )
    white: Annotated[float | None, Added] = Field(
        None,
        gt=0,
        le=2**32,
        description="Of a user's own data: the value that is white. Empty means it is found: what files declare, 1 for "
        "floats of 0 to 1, 255 for bytes, the smallest 2^b - 1 that holds other integers.",
    )

    @field_validator("dataset")
    @classmethod
    def _known(cls, name: str, info: ValidationInfo) -> str:
        if name not in datasets and not is_stored(info) and not is_imported(info):
            raise InvalidInput(f"there is no dataset {name!r}", allowed="one of " + ", ".join(datasets))
        return name

    @model_validator(mode="after")
    def _has_path(self) -> DataSpec:
        refuse_stray_path(self.dataset, self.path, self.white)
        return self


class NetworkSpec(Part):
    architecture: Key = Field("small-cnn", description="Which network.")
    options: dict[str, Any] = Field(default_factory=dict, description="The architecture's own options.")

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, data: Any, info: ValidationInfo) -> Any:
        lenient = is_stored(info) or is_imported(info)
        return _resolve_options(data, "architecture", architectures, "small-cnn", lenient)


class Milestone(Part):
    epoch: int = Field(ge=1, le=100_000, description="First epoch (counted from 0) with this rate.")
    learning_rate: float = Field(gt=0, le=100, description="Learning rate from then on.")


class TrainingSpec(Part):
    protocol: Literal["paper", "modern", "keras", "custom"] = Field(
        "paper", description="Where the values below come from; what differs from it is shown with the results."
    )
    optimiser: Literal["adam", "sgd", "momentum"] = Field("adam", description="Adam, SGD, or SGD with momentum.")
    learning_rate: float = Field(1.6e-3, gt=0, le=100, description="Initial learning rate.")
    schedule: Literal["constant", "halve", "milestones", "cosine"] = Field(
        "halve",
        description="constant; halve: halved every `halve_every` epochs; milestones: as listed; cosine: to zero.",
    )
    halve_every: int = Field(10, ge=1, le=100_000, description="Epochs between halvings of the learning rate.")
    milestones: tuple[Milestone, ...] = Field((), max_length=64, description="Learning rates by epoch.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of SGD with momentum.")
    adam_epsilon: float = Field(1e-8, gt=0, le=1, description="Adam's epsilon (TensorFlow 1: 1e-8, Keras: 1e-7).")
    weight_decay: float = Field(0.0, ge=0, le=10, description="L2 coefficient added to the gradient (0: none).")
    decay_on: Literal["kernels", "weights", "all"] = Field(
        "kernels",
        description="What the L2 term acts on. kernels: of convolutions, as published; weights: every tensor of two or "
        "more dimensions except embeddings (what networks other than our convolutional ones get unless told "
        "otherwise); all: biases and norms too.",
    )
    batch_size: int = Field(128, ge=1, le=65_536, description="Images a step.")
    epochs: int = Field(10, ge=1, le=100_000, description="Passes over the training images.")
    sampling: Literal["replacement", "epoch"] = Field(
        "replacement",
        description="replacement: batches drawn with replacement (authors' code); epoch: shuffled passes.",
    )
    augmentation: Literal["none", "shift-flip", "crop-flip", "resized-crop-flip"] = Field(
        "none", description="Random changes of training images."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Arithmetic of training; auto takes bfloat16 where the processor or GPU has it in hardware."
    )
    checkpoint_every: int = Field(
        1, ge=1, le=10_000, description="Epochs between kept checkpoints; first and last always."
    )
    snapshots: int = Field(10, ge=0, le=200, description="Weight snapshots kept for the Gaussians.")
    snapshot_window: float = Field(
        0.4, gt=0, le=1, description="Share of the training steps, at the end, they are spread over."
    )


class EnsembleSpec(Part):
    runs: int = Field(3, ge=1, le=1000, description="Independent runs (members).")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Root seed; every other seed is derived from it.")
    vary: Literal["both", "weights", "batches"] = Field(
        "both", description="What differs between runs: initial weights and batch order, or only one of them."
    )


class ImportedSamples(Options):
    """What samples that were made elsewhere carry, in place of a method's own options."""

    title: str = Field("", max_length=200, description="The method's name as it was given; empty: as ours.")
    strength: bool = Field(False, description="Whether a strength was given of each.")
    centre: bool = Field(False, description="Whether they lie around another function than their member.")


class MethodSpec(Part):
    method: Key = Field(description="Which subspace method.")
    spread: int = Field(
        10, ge=0, le=1000, description="Wide samples without rejection, for the diversity-accuracy plane."
    )
    typical: int = Field(
        10, ge=0, le=1000, description="Narrow samples above the accuracy floor, for ensembles and t-SNE."
    )
    options: dict[str, Any] = Field(default_factory=dict, description="The method's own options.")

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, data: Any, info: ValidationInfo) -> Any:
        if is_imported(info):
            options = read_by(ImportedSamples, data.get("options") or {}, "options", is_stored(info))
            return {**data, "options": options.model_dump()}
        return _resolve_options(data, "method", methods, None, is_stored(info))


class EvaluationSpec(Part):
    splits: tuple[Split, ...] = Field(
        ("test",), min_length=1, max_length=2, description="Sets whose predictions are kept for every solution."
    )
    averaged: Annotated[Averaged, Added] = Field(
        "typical",
        description="Samples that are averaged and compared: in claims (e) and (f), in ensembles, under shift and on "
        "other images. fair: those of the one strength at which the average predicts the validation images best "
        "(500 or more are needed), equally many of every method; typical: the narrow ones.",
    )
    embed_images: int = Field(500, ge=10, le=100_000, description="Images whose predictions t-SNE sees (the first n).")
    embed_runs: int = Field(3, ge=1, le=10, description="Trajectories shown together by t-SNE (first healthy ones).")
    embed_seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of t-SNE.")
    perplexity: float | None = Field(None, gt=1, le=1000, description="Perplexity; empty means min(30, (n-1)/3).")


class ImportedSpec(Part):
    """An ensemble that was made elsewhere: what its arrays are, and how its members came about (science p)."""

    digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the whole set of arrays, without names.")
    kind: Literal["logits", "probs", "log-probs", "labels"] = Field(
        "logits", description="What the arrays of predictions hold."
    )
    recipe: Literal["same", "different", "unknown"] = Field(
        "unknown",
        description="same: members differ in their seeds only, which claims about runs stand on; different: they do "
        "not; unknown: nobody has said.",
    )
    classes: tuple[Annotated[str, StringConstraints(max_length=200)], ...] = Field(
        min_length=2, max_length=100_000, description="Names of the classes, in the order of the arrays."
    )
    images: int = Field(ge=1, le=20_000_000, description="Test images.")
    validation: int = Field(0, ge=0, le=20_000_000, description="Validation images.")
    epochs: tuple[float, ...] = Field((), max_length=10_000, description="Epochs of the checkpoints before the last.")
    cells: tuple[tuple[str, int], ...] = Field((), description="Types and intensities of shift that were given.")
    titles: dict[str, str] = Field(
        default_factory=dict, description="Names of sets and types as they were given, where a spec writes others."
    )
    copies: tuple[int, ...] = Field((), description="Members that equal an earlier one to the bit, by number.")
    planned: Annotated[int, Added] = Field(
        0,
        ge=0,
        le=1000,
        description="Members promised, of an ensemble that waits for some; 0: nothing is awaited.",
    )


class BaseSpec(Part):
    """What every experiment has. Methods and studies know a spec by this; `spec.ExperimentSpec` adds the studies."""

    version: Literal[1] = 1  # versions.VERSION, written out for the type checker
    source: Annotated[Literal["trained", "imported"], Added] = Field(
        "trained", description="trained: here, by this spec; imported: made elsewhere, and read as it was given."
    )
    imported: Annotated[ImportedSpec | None, Added] = Field(None, description="The ensemble that was imported.")
    data: DataSpec = DataSpec()
    network: NetworkSpec = Field(default_factory=lambda: NetworkSpec.model_validate({}))
    training: TrainingSpec = TrainingSpec()
    ensemble: EnsembleSpec = EnsembleSpec()
    methods: tuple[MethodSpec, ...] = Field((), max_length=16, description="Subspace methods, each at most once.")
    evaluation: EvaluationSpec = EvaluationSpec()

    @property
    def has_probabilities(self) -> bool:
        """Whether functions say more than the class they predict."""
        return self.imported is None or self.imported.kind != "labels"

    def method(self, name: str) -> Method:
        """What a method is to this experiment: of imported samples only what they carry. Raises InvalidInput."""
        if self.imported is None:
            return methods[name]
        chosen = next((one.options for one in self.methods if one.method == name), {})
        carried = ImportedSamples.model_validate(chosen)
        title = carried.title or methods.title(name)
        return Method(
            name=name, title=title, summary=f"{title}, imported", source="", options=ImportedSamples,
            call=_unknown_here, look=None, centre="mean" if carried.centre else "optimum",
            strength="scale" if carried.strength else None,
        )  # fmt: skip


def _unknown_here(*_: object) -> Any:
    raise NotImplementedError("imported samples are not drawn here")


def steps_per_epoch(training: TrainingSpec, train_images: int) -> int:
    """Optimiser steps an epoch: whole batches only when drawing with replacement, else the last batch may be short."""
    batch = training.batch_size
    if training.sampling == "replacement":
        return max(1, train_images // batch)
    return -(-train_images // batch)


def batches_of_one(network: NetworkSpec, training: TrainingSpec, images: int) -> Iterator[Problem]:
    """Batch norm takes one image's features for the mean of all: layers without positions refuse it, others learn it.

    training: the one meant, which may be a method's own.
    """
    size = training.batch_size
    is_left_over = training.sampling == "epoch" and size < images and images % size == 1
    if architectures[network.architecture].batch_norm and (size == 1 or is_left_over):
        of = "every batch" if size == 1 else f"the last of every epoch's batches of {size} (of {images} images)"
        yield Problem(
            f"{of} would hold one image, which batch norm cannot learn from",
            "batch_size",
            "2 or more, and not one that leaves a single image over",
        )
