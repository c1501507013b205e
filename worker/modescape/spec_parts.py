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

import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import pairwise
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
from modescape.names import meant
from modescape.pydantic_errors import LARGEST_WHOLE, invalid
from modescape.records import SampleSet
from modescape.registry import RECIPE, Entry, Method, Options, architectures, datasets, methods
from modescape.science.data.tensors import ChannelOrder, InputScale
from modescape.versions import STORED, Added, Versioned, is_imported, is_stored, renamed

MAX_SEED = LARGEST_WHOLE
PICTURES = ("folder", "npz")  # one's own, which a spec names with a path
NUMBERS = ("arrays", "table")
PLACES = (*PICTURES, *NUMBERS, "huggingface")

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
        """Python takes true for 1, and 1 for true; a spec does neither."""
        if cls.model_fields[str(field.field_name)].annotation is bool:
            if not isinstance(value, bool):  # pydantic takes 1, "on" and "f" for what they are not
                raise InvalidInput(f"{value!r:.40} is not true or false", allowed="true or false")
        else:
            for place, one in enumerate(value) if isinstance(value, list | tuple) else [("", value)]:
                if isinstance(one, bool):
                    allowed = "a number, a text, an object or a list, as described"
                    raise InvalidInput(f"is {str(one).lower()}", field=str(place), allowed=allowed)
        return value

    def usual(self) -> dict[str, Any]:
        """What it may hold beside its fields, with the values that count as `Added` fields at their defaults."""
        return {}


def _resolve_options(
    data: Any, key: str, entries: Mapping[str, Entry], default: str | None, stored: bool, place: str = "options"
) -> Any:
    """Validate options with the entry's own model and write its defaults out; problems sit at `options.<name>`."""
    if not isinstance(data, dict):
        return data
    name = data.get(key, default)
    if not isinstance(name, str):
        return data
    if name not in entries and stored:
        return data
    if name not in entries:
        raise InvalidInput(
            f"there is no {key} {name[:80]!r}{meant(name, entries)}", field=key, allowed="one of " + ", ".join(entries)
        )
    try:
        given = (data.get(place) or {}) if stored else data.get(place, {})
        return {**data, place: keyed(read_by(entries[name].options, given, place, stored))}
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


Level = Annotated[float, Field(ge=-1000, le=1000)]
PositiveLevel = Annotated[float, Field(gt=0, le=1000)]
Split = Literal["test", "validation"]
Averaged = Literal["fair", "typical"]


def refuse_stray_path(dataset: str, path: str | None, white: float | None) -> None:
    """Raises InvalidInput for a place without its path, and for a path or a white of any other set."""
    if (dataset in PLACES) != (path is not None):
        wanted = ", ".join(PLACES)
        raise InvalidInput(f"belongs to the sets {wanted}, which need it", field="path", allowed="a path")
    if white is not None and dataset not in PICTURES:
        raise InvalidInput("belongs to the sets `folder` and `npz`", field="white", allowed="nothing for this set")


def is_same_place(path: str | None, other: str | None) -> bool:
    """Whether two paths of specs mean one folder or file."""
    return path is not None and other is not None and os.path.realpath(path) == os.path.realpath(other)


class DataSpec(Part):
    dataset: Key = Field("digits", description="Which data set; `modescape data` lists them.")
    path: str | None = Field(
        None,
        max_length=1024,
        description="Folder of class folders (`folder`), .npz file of pictures (`npz`) or of "
        "other numbers (`arrays`), .csv or .parquet (`table`), or folder of a saved set (`huggingface`).",
    )
    fingerprint: str | None = Field(
        None, max_length=64, description="SHA-256 of a user's own data, filled in when the experiment is created."
    )
    input_scale: InputScale = Field(  # science n.2
        "raw255",
        description="raw255: pixels 0..255 as in the authors' code; unit: x/255; standardised: per-channel mean 0 and "
        "deviation 1; pixel-mean: x/255 minus the mean image; symmetric: -1..1; mean-std: x/255 minus `mean`, over "
        "`deviation`. It changes the result: runs on raw pixels diverge two to four times as much as on scaled ones.",
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
    image_size: Annotated[int | None, Added] = Field(
        None, ge=4, le=1024, description="Side of the square, in pixels, that all pictures are scaled to (bilinear). "
        "Empty means they stay as they are."
    )  # fmt: skip
    label: Annotated[str | None, Added] = Field(
        None, max_length=200, description="Of a table: its column of labels. Empty means one called label, target, "
        "class or y."
    )  # fmt: skip
    white: Annotated[float | None, Added] = Field(
        None,
        gt=0,
        le=2**32,
        description="Of a user's own pictures: the value that is white. Empty means it is found: what files declare, 1 "
        "for floats of 0 to 1, 255 for bytes, the smallest 2^b - 1 that holds other integers.",
    )

    mean: Annotated[tuple[Level, ...], Added] = Field(
        (), max_length=4, description="Of mean-std: what is taken from x/255, for each channel or for all."
    )
    deviation: Annotated[tuple[PositiveLevel, ...], Added] = Field(
        (), max_length=4, description="Of mean-std: what the rest is divided by, for each channel or for all."
    )
    channel_order: Annotated[ChannelOrder, Added] = Field(
        "rgb", description="rgb: channels as the files have them; bgr: the other way round, as OpenCV reads pictures."
    )

    @field_validator("dataset", mode="before")
    @classmethod
    def _known(cls, name: Any, info: ValidationInfo) -> Any:
        """Before it is asked whether it could be a name at all, so that CIFAR10 is told of cifar10."""
        if isinstance(name, str) and name not in datasets and not is_stored(info) and not is_imported(info):
            raise InvalidInput(
                f"there is no dataset {name[:80]!r}{meant(name, datasets)}", allowed="one of " + ", ".join(datasets)
            )
        return name

    @model_validator(mode="after")
    def _has_path(self) -> DataSpec:
        refuse_stray_path(self.dataset, self.path, self.white)
        if self.label is not None and self.dataset != "table":
            raise InvalidInput("belongs to the set `table`", field="label", allowed="nothing for this set")
        return self

    @model_validator(mode="after")
    def _has_scale(self) -> DataSpec:
        is_given = self.input_scale == "mean-std"
        for field, values in (("mean", self.mean), ("deviation", self.deviation)):
            if bool(values) != is_given:
                raise InvalidInput(
                    "belongs to the input scale mean-std, which needs it", field=field, allowed="a number a channel"
                )
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


OURS = "modescape"  # the trainer that is our own loop
STACKED_OPTIMISERS = ("adam", "sgd", "momentum")  # one update moves the weights of all of a group
_Chosen = Annotated[dict[str, Any], Added]


class TrainingSpec(Part):
    protocol: Literal["paper", "modern", "keras", "custom"] = Field(
        "paper", description="Where the values below come from; what differs from it is shown with the results."
    )
    trainer: Annotated[Key, Added] = Field(
        OURS, description="Who trains: our own loop, or a plug-in that hands over weights after every epoch."
    )
    trainer_options: _Chosen = Field(default_factory=dict, description="The trainer's own options.")
    optimiser: Key = Field("adam", description="What moves the weights along the gradients.")
    optimiser_options: _Chosen = Field(default_factory=dict, description="The optimiser's own options.")
    loss: Annotated[Key, Added] = Field("cross-entropy", description="What is made small.")
    loss_options: _Chosen = Field(default_factory=dict, description="The loss's own options.")
    learning_rate: float = Field(1.6e-3, gt=0, le=100, description="Initial learning rate.")
    schedule: Key = Field("halve", description="The learning rate by step.")
    schedule_options: _Chosen = Field(default_factory=dict, description="The schedule's own options.")
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
    augmentation: Key = Field("none", description="Random changes of training images.")
    augmentation_options: _Chosen = Field(default_factory=dict, description="The augmentation's own options.")
    initial_weights: Annotated[str | None, Added] = Field(
        None,
        max_length=1024,
        description="What every run begins with instead of random weights: a .safetensors file whose tensors have the "
        "network's own names, or the digest of weights that this home keeps.",
    )
    initial_digest: Annotated[str | None, Added] = Field(
        None, max_length=64, description="SHA-256 of the initial weights, filled in when the experiment is created."
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

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, data: Any, info: ValidationInfo) -> Any:
        lenient = is_stored(info) or is_imported(info)
        for part, entries in RECIPE.items():
            usual, place = cls.model_fields[part].default, f"{part}_options"
            if isinstance(data, dict) and (part in data or place in data):  # of the usual ones nothing is written out
                data = _resolve_options(data, part, entries, usual, lenient, place)
        return data

    def options(self, part: str) -> Any:
        """The options of a part of the recipe, read by their model; RECIPE names the parts."""
        return RECIPE[part][getattr(self, part)].options.model_validate(getattr(self, f"{part}_options"))

    @property
    def by_epochs(self) -> bool:
        """Whether weights are known at the ends of epochs only."""
        return self.trainer != OURS


class EnsembleSpec(Part):
    runs: int = Field(3, ge=1, le=1000, description="Independent runs (members).")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Root seed; every other seed is derived from it.")
    vary: Literal["both", "weights", "batches", "head"] = Field(
        "both",
        description="What differs between runs: initial weights and batch order, or only one of them. With "
        "`initial_weights`: head: a fresh last layer and batch order; batches: batch order only.",
    )
    grouping: Annotated[Literal["auto", "alone", "branches", "stacked"], Added] = Field(
        "auto",
        description="How a worker trains runs. alone: one at a time; branches: several in turn, step by step, each to "
        "the bit as alone; stacked: several as one function of all their weights, equal to alone up to rounding; auto: "
        "alone on a processor, and on a GPU what was measured to be faster there.",
    )


class ImportedSamples(Options):
    """What samples that were made elsewhere carry, in place of a method's own options."""

    title: str = Field("", max_length=200, description="The method's name as it was given; empty: as ours.")
    strength: bool = Field(False, description="Whether a strength was given of each.")
    centre: bool = Field(False, description="Whether they lie around another function than their member.")
    sets: Annotated[dict[SampleSet, str], Added] = Field(
        default_factory=dict, description="Where each set of its samples lies; empty: all are typical, under its name."
    )
    rate: Annotated[bool, Added] = Field(False, description="Whether strengths are rates, such as dropout's.")
    fair: Annotated[int, Added] = Field(0, ge=0, description="Samples at one strength that were chosen to be averaged.")

    def place(self, method: str, sample_set: SampleSet | None = None) -> str:
        """Where a set's arrays lie, as stages name places; None: of the set that is averaged and compared."""
        if sample_set is None:
            sample_set = SampleSet.FAIR if SampleSet.FAIR in self.sets else SampleSet.TYPICAL
        return f"samples/{self.sets.get(sample_set, method)}"


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
            return {**data, "options": keyed(options)}
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


ImportedRecipe = Literal["same", "different", "unknown"]


class ImportedSpec(Part):
    """An ensemble that was made elsewhere: what its arrays are, and how its members came about (science p)."""

    digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the whole set of arrays, without names.")
    kind: Literal["logits", "probs", "log-probs", "labels"] = Field(
        "logits", description="What the arrays of predictions hold."
    )
    recipe: ImportedRecipe = Field(
        "unknown",
        description="same: members differ in their seeds only, which claims about runs stand on; different: they do "
        "not; unknown: nobody has said.",
    )
    classes: tuple[Annotated[str, StringConstraints(max_length=200)], ...] = Field(
        max_length=100_000, fail_fast=True, description="Names of the classes, in the order of the arrays."
    )
    images: int = Field(ge=0, le=20_000_000, description="Test images; 0 where only curves and parameters are known.")
    validation: int = Field(0, ge=0, le=20_000_000, description="Validation images.")
    epochs: tuple[float, ...] = Field(
        (), max_length=10_000, fail_fast=True, description="Epochs of the checkpoints before the last."
    )
    last_epoch: Annotated[float | None, Added] = Field(None, description="Epoch of the last, where it is known.")
    cells: tuple[tuple[str, int], ...] = Field(
        (), fail_fast=True, description="Types and intensities of shift that were given."
    )
    own_images: Annotated[tuple[tuple[str, int], ...], Added] = Field(
        (), fail_fast=True, description="Types and intensities of shift whose images are not the test images changed."
    )
    titles: dict[str, str] = Field(
        default_factory=dict, description="Names of sets and types as they were given, where a spec writes others."
    )
    copies: tuple[int, ...] = Field(
        (), fail_fast=True, description="Members that equal an earlier one to the bit, by number."
    )
    planned: Annotated[int, Added] = Field(
        0,
        ge=0,
        le=1000,
        description="Members promised, of an ensemble that waits for some; 0: nothing is awaited.",
    )


Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
STATED = r"^(0?\.\d{1,9}|1(\.0{1,9})?|0|\d{1,3}(\.\d{1,9})? ?%)$"


class GivenMember(Part):
    """The weights of one member, as files (.safetensors) that the store of artifacts has."""

    weights: Digest = Field(description="SHA-256 of the file of its weights.")
    snapshots: tuple[Digest, ...] = Field(
        (), max_length=1000, description="SHA-256 of files of its weights on the way there, one for each of `epochs`."
    )
    accuracy: Annotated[str, StringConstraints(pattern=STATED)] | None = Field(
        None, description="Accuracy on the test set that is stated of it, with the digits that are: .9173 or 91.73 %."
    )


class WeightsSpec(Part):
    """Weights that were made elsewhere, in place of trainings (science p.5)."""

    members: tuple[GivenMember, ...] = Field(min_length=1, max_length=1000, description="The members, in order.")
    keys: Literal["by-name", "by-order"] = Field(
        "by-name",
        description="How tensors find their place. by-name: by their names, without prefixes such as `module.`; "
        "by-order: layer by layer, among those of the same tensors and shapes.",
    )
    epochs: tuple[Annotated[float, Field(ge=0, le=1e9)], ...] = Field(
        (), max_length=1000, description="Epochs of the snapshots, increasing."
    )
    window: float = Field(
        0.4, gt=0, le=1, description="Share of the epochs, at the end, whose snapshots the Gaussians are made of."
    )
    recipe: ImportedRecipe = Field(
        "unknown",
        description="same: members differ in their seeds only, which claims about runs stand on; different: they do "
        "not; unknown: nobody has said.",
    )
    held_out: Annotated[bool, Added] = Field(
        False,
        description="Whether the validation images, the last of the training files, were kept out of these trainings. "
        "Nobody else knows: where it is not said, no temperature and no strength is chosen on them.",
    )

    @model_validator(mode="after")
    def _fits(self) -> WeightsSpec:
        if any(late <= early for early, late in pairwise(self.epochs)):
            raise InvalidInput("they do not increase", field="epochs", allowed="each later than the one before")
        for i, member in enumerate(self.members):
            if len(member.snapshots) != len(self.epochs):
                raise InvalidInput(
                    f"{len(member.snapshots)} snapshots at {len(self.epochs)} epochs",
                    field=f"members.{i}.snapshots", allowed="one for each of `epochs`",
                )  # fmt: skip
        return self

    def gaussian(self) -> list[int]:
        """Which of the snapshots Gaussians are made of: the late ones, never the initial weights."""
        last = max(self.epochs, default=0.0)
        return [i for i, epoch in enumerate(self.epochs) if epoch > 0 and epoch > last * (1 - self.window)]

    def is_copy(self, member: int) -> bool:
        """Whether its file is that of an earlier member."""
        return self.members[member].weights in [one.weights for one in self.members[:member]]


class BaseSpec(Part):
    """What every experiment has. Methods and studies know a spec by this; `spec.ExperimentSpec` adds the studies."""

    version: Literal[1] = 1  # versions.VERSION, written out for the type checker
    source: Annotated[Literal["trained", "imported", "weights"], Added] = Field(
        "trained",
        description="trained: here, by this spec; imported: outputs made elsewhere, read as they were given; weights: "
        "weights made elsewhere, evaluated here.",
    )
    imported: Annotated[ImportedSpec | None, Added] = Field(None, description="The ensemble that was imported.")
    weights: Annotated[WeightsSpec | None, Added] = Field(None, description="The weights that were given.")
    data: DataSpec = DataSpec()
    network: NetworkSpec = Field(default_factory=lambda: NetworkSpec.model_validate({}))
    training: TrainingSpec = TrainingSpec()
    ensemble: EnsembleSpec = EnsembleSpec()
    methods: tuple[MethodSpec, ...] = Field((), max_length=16, description="Subspace methods, each at most once.")
    evaluation: EvaluationSpec = EvaluationSpec()

    @property
    def recipe_of_runs(self) -> ImportedRecipe:
        """Whether the runs differ in their seeds only; of trainings here they do."""
        given = self.imported or self.weights
        return "same" if given is None else given.recipe

    @property
    def snapshots(self) -> int:
        """Snapshots of every run that Gaussians are made of."""
        return self.training.snapshots if self.weights is None else len(self.weights.gaussian())

    @property
    def has_probabilities(self) -> bool:
        """Whether functions say more than the class they predict."""
        return self.imported is None or self.imported.kind != "labels"

    def carried(self, name: str) -> ImportedSamples:
        """What imported samples of a method carry; nothing where they are drawn here."""
        if self.imported is None:
            return ImportedSamples()
        return ImportedSamples.model_validate(next((one.options for one in self.methods if one.method == name), {}))

    def method(self, name: str) -> Method:
        """What a method is to this experiment: of imported samples only what they carry. Raises InvalidInput."""
        if self.imported is None:
            return methods[name]
        carried = self.carried(name)
        title = carried.title or methods.title(name)
        return Method(
            name=name, title=title, summary=f"{title}, imported", source="", options=ImportedSamples,
            call=_unknown_here, look=None, centre="mean" if carried.centre else "optimum",
            strength=("rate" if carried.rate else "scale") if carried.strength else None,
            sampled=not carried.sets or name not in methods or methods[name].sampled,
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
    normed = architectures[network.architecture].has_batch_norm(network.options)
    if normed and (size == 1 or is_left_over):
        of = "every batch" if size == 1 else f"the last of every epoch's batches of {size} (of {images} images)"
        yield Problem(
            f"{of} would hold one image, which batch norm cannot learn from",
            "batch_size",
            "2 or more, and not one that leaves a single image over",
        )
