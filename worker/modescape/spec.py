"""The promise: what an experiment will do, frozen, validated, with one canonical JSON text and digest.

    spec = ExperimentSpec.model_validate({"data": {"dataset": "digits"}, "network": {"architecture": "small-cnn"}})
    spec.digest()                      # the same for equal specs, whatever the order of keys

Only what changes a result is in a spec. Names, notes and tags belong to the experiment; ports and folders to settings.
Rules inside one field are written on the field; rules across fields are in `check`, which also looks at the data's
real sizes and is what form, API, command line and notebook all call before anything is stored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from modescape import registry
from modescape.claims import CLAIMS, Claim
from modescape.errors import InvalidInput, Problem
from modescape.part import MAX_SEED, PLACES, STORED, Added, Key, Part, Renamed, is_stored, keyed, renamed
from modescape.registry import Entry, architectures, datasets, methods
from modescape.studies.connectivity.spec import ConnectivitySpec
from modescape.studies.instability.spec import InstabilitySpec
from modescape.studies.landscape.spec import PlaneSpec
from modescape.studies.ood.spec import SYNTHETIC, OodSpec
from modescape.studies.seeds.spec import SeedsSpec
from modescape.studies.shift.spec import ShiftSpec
from modescape.studies.tunnel.spec import TunnelSpec
from modescape.study import BROUGHT, StudySpec, often, once, with_named_runs

InputScale = Literal["raw255", "unit", "standardised", "pixel-mean", "symmetric"]
Split = Literal["test", "validation"]
Averaged = Literal["fair", "typical"]


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
        if name not in datasets and not is_stored(info):
            raise InvalidInput(f"there is no dataset {name!r}", allowed="one of " + ", ".join(datasets))
        return name

    @model_validator(mode="after")
    def _has_path(self) -> DataSpec:
        if (self.dataset in PLACES) != (self.path is not None):
            raise InvalidInput("belongs to the sets `folder` and `npz`, which need it", field="path", allowed="a path")
        if self.white is not None and self.path is None:
            raise InvalidInput("belongs to the sets `folder` and `npz`", field="white", allowed="nothing for this set")
        return self


class NetworkSpec(Part):
    architecture: Key = Field("small-cnn", description="Which network.")
    options: dict[str, Any] = Field(default_factory=dict, description="The architecture's own options.")

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, data: Any, info: ValidationInfo) -> Any:
        return _resolve_options(data, "architecture", architectures, "small-cnn", is_stored(info))


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


# The margins that specs have had from the beginning. Those of later claims count as `Added`.
_FIRST_MARGINS = {"a", "b", "c", "d1", "e1", "e2", "f1", "f2", "g", "h"}


def _margins_of(name: str, claims: Iterable[Claim[Any]]) -> type[Part]:
    """A model with a field for the margin of every claim, in the paper's order; claims may share one."""
    fields: dict[str, Any] = {}
    for margin in {claim.margin.field: claim.margin for claim in claims}.values():
        marks = [Added] * (margin.field not in _FIRST_MARGINS) + [Renamed(margin.was)] * bool(margin.was)
        bounds = Field(margin.default, gt=margin.gt, ge=margin.ge, le=margin.le, description=margin.says)
        fields[margin.field] = (Annotated[float, bounds, *marks], margin.default)
    return create_model(name, __base__=Part, **fields)


def every_margin() -> type[Part]:
    """A model of all margins that can be chosen here, also those of claims that plug-ins declare."""
    registry.load()
    return _margins_of("Margins", CLAIMS.values())


class MarginsSpec(_margins_of("_Margins", CLAIMS.values())):  # type: ignore[misc]
    """Where each claim of the verdict is decided (science o.4), promised before there are data. Ratios as ratios.

    The margins of claims that plug-ins declare are kept beside the fields.
    """

    model_config = ConfigDict(extra="allow")

    @model_validator(mode="before")
    @classmethod
    def _of_plug_ins(cls, data: Any, info: ValidationInfo) -> Any:
        if not isinstance(data, Mapping):
            return data
        registry.load()
        own, brought = {*cls.model_fields, *renamed(cls)}, _brought_margins()
        others = {name: value for name, value in data.items() if name not in own}
        unknown = [name for name in others if name not in brought.model_fields]
        if unknown and not is_stored(info):
            raise InvalidInput(
                "is not a known field", field=unknown[0], allowed=", ".join((*cls.model_fields, *brought.model_fields))
            )
        known = _read(brought, {name: value for name, value in others.items() if name not in unknown}, "")
        return {**data, **known.model_dump()}

    def usual(self) -> dict[str, Any]:
        return {name: field.default for name, field in _brought_margins().model_fields.items()}


def _brought_margins() -> type[Part]:
    return _margins_of("Brought", (one for one in CLAIMS.values() if one.margin.field not in MarginsSpec.model_fields))


# What a protocol stands for (science c.1), wherever a spec leaves it open. The models' own defaults are the paper's.
PROTOCOLS: dict[str, dict[str, dict[str, Any]]] = {
    "paper": {},
    "custom": {},
    "modern": {
        "data": {"input_scale": "standardised"},
        "network": {"zero_bias": True},
        "training": {"sampling": "epoch", "schedule": "cosine"},
    },
    "keras": {
        "data": {"input_scale": "pixel-mean"},
        "training": {
            "learning_rate": 1e-3, "adam_epsilon": 1e-7, "schedule": "milestones", "batch_size": 32, "epochs": 200,
            "milestones": [{"epoch": epoch, "learning_rate": rate}
                           for epoch, rate in ((81, 1e-4), (121, 1e-5), (161, 1e-6), (181, 5e-7))],
            "sampling": "epoch", "augmentation": "shift-flip", "weight_decay": 2e-4, "decay_on": "kernels",
            "snapshots": 20, "snapshot_window": 0.1,
        },
    },
}  # fmt: skip


def under_protocol(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The same experiment under another protocol: what the protocol stands for replaces what the document says."""
    return _with_protocol(document, name, given_wins=False)


def _with_protocol(document: Mapping[str, Any], name: str, *, given_wins: bool) -> dict[str, Any]:
    merged = dict(document)
    for part, values in PROTOCOLS.get(name, {}).items():
        own = merged.get(part) or {}
        if not isinstance(own, Mapping):
            continue  # the models say what is wrong with it
        if part == "network":
            architecture = own.get("architecture", "small-cnn")
            known = architectures[architecture].options.model_fields if architecture in architectures else {}
            options = own.get("options") or {}
            if isinstance(options, Mapping):
                values = {key: value for key, value in values.items() if key in known}
                merged[part] = {**own, "options": {**values, **options} if given_wins else {**options, **values}}
        else:
            merged[part] = {**values, **own} if given_wins else {**own, **values}
    if not given_wins:
        merged["training"] = {**merged.get("training", {}), "protocol": name}
    return merged


def _with_decay(document: Any) -> Any:
    """Weight decay acts on what the network's entry says, where the document leaves it open."""
    training = document.get("training") if isinstance(document, Mapping) else None
    if not isinstance(training, Mapping) or "decay_on" in training or not training.get("weight_decay"):
        return document  # without decay nothing is decided, and no digest moves
    network = document.get("network")
    name = network.get("architecture", "small-cnn") if isinstance(network, Mapping) else "small-cnn"
    if not isinstance(name, str) or name not in architectures:
        return document  # the models say what is wrong with it
    return {**document, "training": {**training, "decay_on": architectures[name].decay_on}}


class ExperimentSpec(Part):
    """Everything that decides an experiment's numbers."""

    version: Literal[1] = 1
    data: DataSpec = DataSpec()
    network: NetworkSpec = Field(default_factory=lambda: NetworkSpec.model_validate({}))
    training: TrainingSpec = TrainingSpec()
    ensemble: EnsembleSpec = EnsembleSpec()
    methods: tuple[MethodSpec, ...] = Field((), max_length=16, description="Subspace methods, each at most once.")
    evaluation: EvaluationSpec = EvaluationSpec()
    margins: MarginsSpec = MarginsSpec.model_construct()  # `_fill_protocol` asks for those of plug-ins
    shift: ShiftSpec | None = once("shift")
    ood: tuple[OodSpec, ...] = often("ood")
    seeds: SeedsSpec | None = once("seeds")
    planes: tuple[PlaneSpec, ...] = often("planes")
    tunnels: tuple[TunnelSpec, ...] = often("tunnels")
    connectivity: ConnectivitySpec | None = once("connectivity")
    instability: InstabilitySpec | None = once("instability")
    studies: Annotated[dict[str, Any], Added] = Field(
        default_factory=dict, description="Studies that plug-ins bring, by name."
    )

    @field_validator(BROUGHT, mode="before")
    @classmethod
    def _brought(cls, given: Any, info: ValidationInfo) -> Any:
        if not isinstance(given, Mapping):
            return given
        return {str(name): _study_of(str(name), asked, is_stored(info)) for name, asked in sorted(given.items())}

    @model_validator(mode="before")
    @classmethod
    def _fill_protocol(cls, data: Any, info: ValidationInfo) -> Any:
        if is_stored(info):
            data = {name: value for name, value in data.items() if name in cls.model_fields}
        elif isinstance(data, Mapping) and "margins" not in data:
            data = {**data, "margins": {}}
        data = with_named_runs(data)
        training = data.get("training") if isinstance(data, Mapping) else None
        name = training.get("protocol") if isinstance(training, Mapping) else None
        return _with_decay(_with_protocol(data, name, given_wins=True) if isinstance(name, str) else data)

    def asked(self, study: str) -> tuple[StudySpec, ...]:
        """What is asked of a study, as often as it is asked for; () of one that is not."""
        found = getattr(self, study) if is_ours(study) else self.studies.get(study)
        return found if isinstance(found, tuple) else () if found is None else (found,)

    def canonical(self) -> str:
        """One text for equal specs: sorted keys, no spaces, defaults written out."""
        return json.dumps(keyed(self), sort_keys=True, separators=(",", ":"))

    def digest(self) -> str:
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    def recipe(self) -> str:
        """Digest of all that decides a training but the number of its run: equal recipes share trainings.

        What varies between runs is not in it, for run 0 is the same whatever varies.
        """
        whole = keyed(self)
        parts = {name: whole[name] for name in ("data", "network", "training")} | {"seed": self.ensemble.seed}
        return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True)
class DataInfo:
    """What is known of a data set before anything is computed. Sizes in images.

    train_total includes validation where that is cut from it; a set with validation images of its own has
    validation_total of them beside. layout: what is used for what, in words; ignored: what was left aside; remarks:
    how it is read, where that needs saying before a launch, a sentence each.
    """

    channels: int
    height: int
    width: int
    classes: tuple[str, ...]
    train_total: int
    test_total: int
    validation_default: int
    fingerprint: str | None = None
    remarks: tuple[str, ...] = ()
    validation_total: int = 0
    layout: str = ""
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sizes:
    """How many images of each split an experiment uses."""

    train: int
    validation: int
    test: int


def stored(document: Mapping[str, Any]) -> ExperimentSpec:
    """The spec of an experiment that there is, to be shown: names (of a worker's plug-in) and parts (of a later
    version) that this process does not know stop no page; `unknown` tells them."""
    return ExperimentSpec.model_validate(document, context=STORED)


def unknown(document: Mapping[str, Any]) -> list[str]:
    """What this process does not know of a stored spec: "the method 'x'", "the data set 'y'", ..."""
    data, network = document.get("data", {}), document.get("network", {})
    sets = [data.get("dataset"), *(study.get("dataset") for study in document.get("ood") or ())]
    named = [("data set", name, name in datasets or name in SYNTHETIC) for name in sets]
    named += [("architecture", name := network.get("architecture"), name in architectures)]
    named += [("method", name := one.get("method"), name in methods) for one in document.get("methods") or ()]
    named += [("study", name, name in ExperimentSpec.model_fields) for name in document]
    return [f"the {kind} {name!r}" for kind, name, known in dict.fromkeys(named) if name is not None and not known]


def words(field: str, value: str) -> str:
    """One of the closed set of values of a field as people say it."""
    return _WORDS.get(field, {}).get(value, value)


_WORDS = {
    "vary": {"both": "initialisation and order", "weights": "initialisation only", "batches": "order only"},
    "input_scale": {"raw255": "raw 0–255", "unit": "x / 255", "pixel-mean": "minus mean image"},
    "averaged": {"fair": "at their best strength", "typical": "narrow samples"},
    "optimiser": {"adam": "Adam", "sgd": "SGD", "momentum": "SGD with momentum"},
    "zoom": {
        "all": "everything",
        "first": "first solution",
        "second": "second solution",
        "third": "third solution",
    },
}


def parse(data: Any) -> ExperimentSpec:
    """The spec that `data` (decoded JSON) describes. Raises InvalidInput with every problem and its field."""
    try:
        return ExperimentSpec.model_validate(data)
    except ValidationError as error:
        raise invalid(error, ExperimentSpec) from None


def invalid(error: ValidationError, model: type[BaseModel] | None = None) -> InvalidInput:
    """Pydantic's findings in our words: field, what is wrong, what is allowed (unknown fields: those of `model`)."""
    problems: list[Problem] = []
    findings = error.errors()
    wrong_inside = {item["loc"][:-1] for item in findings}
    for item in findings:
        if item["type"] == "too_short" and item["loc"] in wrong_inside:
            continue  # items that are wrong are not counted: the list is too short only without them
        path = ".".join(str(part) for part in item["loc"])
        inner = item.get("ctx", {}).get("error")
        if isinstance(inner, InvalidInput):
            problems += [Problem(p.message, ".".join(filter(None, (path, p.field))), p.allowed) for p in inner.problems]
        else:
            known = _known_fields(model, item["loc"]) if model else ""
            bounds = _bounds(model, item["loc"]) if model else {}
            problems.append(describe_finding(item, path, known=known, bounds=bounds))
    return InvalidInput("; ".join(str(problem) for problem in problems), problems=problems)


def sizes(spec: ExperimentSpec, info: DataInfo) -> Sizes:
    """Images used of each split; may be impossible, which `check` reports."""
    asked = spec.data
    validation = info.validation_default if asked.validation_images is None else asked.validation_images
    cut_off = 0 if info.validation_total else validation
    train = info.train_total - cut_off if asked.train_images is None else asked.train_images
    test = info.test_total if asked.test_images is None else asked.test_images
    return Sizes(train, validation, test)


def steps_per_epoch(training: TrainingSpec, train_images: int) -> int:
    """Optimiser steps an epoch: whole batches only when drawing with replacement, else the last batch may be short."""
    batch = training.batch_size
    if training.sampling == "replacement":
        return max(1, train_images // batch)
    return -(-train_images // batch)


def check(spec: ExperimentSpec, info: DataInfo) -> None:
    """Rules across fields and against the data's real sizes. Raises InvalidInput naming every problem."""
    problems: list[Problem] = []

    def wrong(field: str, message: str, allowed: str = "") -> None:
        problems.append(Problem(message, field, allowed))

    n = sizes(spec, info)
    if info.validation_total and n.validation > info.validation_total:
        wrong("data.validation_images", f"{n.validation} asked for", f"0 to {info.validation_total}, the set's own")
    if info.validation_total and not 2 <= n.train <= info.train_total:
        wrong("data.train_images", f"{n.train} asked for", f"2 to {info.train_total}")
    elif not info.validation_total and (n.train < 2 or n.train + n.validation > info.train_total):
        wrong(
            "data.train_images",
            f"{n.train} for training and {n.validation} for validation were asked for, the set has {info.train_total}",
            f"at most {info.train_total} together, at least 2 for training",
        )
    if n.test > info.test_total:
        wrong("data.test_images", f"{n.test} asked for", f"10 to {info.test_total}")
    if spec.training.batch_size > max(n.train, 1):
        wrong(
            "training.batch_size",
            f"{spec.training.batch_size} is more than the {n.train} training images",
            f"1 to {n.train}",
        )
    for problem in batches_of_one(spec, spec.training, n.train):
        wrong(f"training.{problem.field}", problem.message, problem.allowed)
    if "validation" in spec.evaluation.splits and n.validation < 10:
        wrong("evaluation.splits", f"validation has {n.validation} images", "test, or at least 10 validation images")
    if len(set(spec.evaluation.splits)) < len(spec.evaluation.splits):
        wrong("evaluation.splits", "the same split twice", "each split once")
    architecture = architectures[spec.network.architecture]
    if min(info.height, info.width) < architecture.min_side:
        wrong(
            "network.architecture",
            f"{architecture.title} needs images of at least {architecture.min_side} pixels, "
            f"{spec.data.dataset} has {info.height}x{info.width}",
            ", ".join(name for name, a in architectures.items() if a.min_side <= min(info.height, info.width)),
        )
    if spec.training.schedule == "milestones":
        epochs = [m.epoch for m in spec.training.milestones]
        if not epochs or epochs != sorted(set(epochs)):
            wrong("training.milestones", "the schedule `milestones` needs them", "at least one, epochs increasing")
    total_steps = spec.training.epochs * steps_per_epoch(spec.training, n.train)
    window = max(1, int(total_steps * spec.training.snapshot_window))
    if spec.training.snapshots > window:
        wrong(
            "training.snapshots",
            f"{spec.training.snapshots} snapshots do not fit into the last {window} steps",
            f"0 to {window}",
        )
    seen: set[str] = set()
    floored: list[str] = []
    for i, chosen in enumerate(spec.methods):
        where, method = f"methods.{i}", methods[chosen.method]
        if chosen.method in seen:
            wrong(f"{where}.method", f"{chosen.method} is listed twice", "each method once")
        seen.add(chosen.method)
        if method.sampled and chosen.spread + chosen.typical == 0:
            wrong(f"{where}.typical", "no samples asked for", "at least one spread or typical sample")
        if method.needs_snapshots and spec.training.snapshots < 2:
            wrong(
                "training.snapshots",
                f"{method.title} needs at least 2 snapshots, this plan keeps {spec.training.snapshots}",
                "2 or more",
            )
        if method.needs_dropout and not has_dropout(spec.network, info):
            wrong(
                f"{where}.method",
                f"{method.title} drops units in dropout layers, and {architecture.title} has none",
                "a method that moves weights, or one of the networks "
                + ", ".join(name for name, entry in architectures.items() if entry.dropout),
            )
        rank = chosen.options.get("rank")
        if isinstance(rank, int) and method.needs_snapshots and rank > spec.training.snapshots - 1:
            wrong(
                f"{where}.options.rank",
                f"rank {rank} needs at least {rank + 1} snapshots, this plan keeps {spec.training.snapshots}",
                f"1 to {max(1, spec.training.snapshots - 1)}, or training.snapshots of {rank + 1} or more",
            )
        if method.of is not None:
            narrow = next((other.typical for other in spec.methods if other.method == method.of), 0)
            enough = 1 + (rank if isinstance(rank, int) else 1)
            if narrow < enough:
                wrong(
                    f"{where}.method",
                    f"{method.title} stands on the narrow samples of {method.of}: {enough} are needed, "
                    f"this plan has {narrow}",
                    f"{method.of} as well, with at least {enough} narrow samples",
                )
        problems += [
            Problem(p.message, f"{where}.options.{p.field}", p.allowed)
            for p in method.options.model_validate(chosen.options).problems(spec, n)
        ]
        if chosen.typical and chosen.options.get("floor") not in (None, "none") and method.sampled:
            floored.append(method.title)
    if floored and n.validation < 10:
        wrong(
            "data.validation_images",
            f"{n.validation}, and the accuracy floor of {', '.join(floored)} needs validation images",
            "10 or more",
        )
    for field, study in studies(spec):
        problems += [
            Problem(p.message, f"{field}.{p.field}" if p.field else field, p.allowed)
            for p in study.problems(spec, info, n)
        ]
    if problems:
        raise InvalidInput("; ".join(str(problem) for problem in problems), problems=problems)


def batches_of_one(spec: ExperimentSpec, training: TrainingSpec, images: int) -> Iterator[Problem]:
    """Batch norm takes one image's features for the mean of all: layers without positions refuse it, others learn it.

    training: the one meant, which may be a method's own.
    """
    size = training.batch_size
    is_left_over = training.sampling == "epoch" and size < images and images % size == 1
    if architectures[spec.network.architecture].batch_norm and (size == 1 or is_left_over):
        of = "every batch" if size == 1 else f"the last of every epoch's batches of {size} (of {images} images)"
        yield Problem(
            f"{of} would hold one image, which batch norm cannot learn from",
            "batch_size",
            "2 or more, and not one that leaves a single image over",
        )


def has_dropout(network: NetworkSpec, info: DataInfo) -> bool:
    """Whether a network has dropout layers. One that does not say so is built and looked at, which loads torch; the
    web process knows only networks that say."""
    declared = architectures[network.architecture].dropout
    if declared is not None:
        return declared
    from modescape.science.data import Shape
    from modescape.science.networks import build, dropout_layers

    shape = Shape(info.channels, info.height, info.width, len(info.classes))
    return bool(dropout_layers(build(network, shape, seed=0)))


def is_ours(study: str) -> bool:
    """Whether a study has a field of its own in a spec; those of plug-ins stand together in one."""
    return study in ExperimentSpec.model_fields


def place_of(study: str) -> str:
    """Where a study stands in a spec: "tunnels", "studies.widths"."""
    return study if is_ours(study) else f"{BROUGHT}.{study}"


def studies(spec: ExperimentSpec) -> list[tuple[str, StudySpec]]:
    """The studies an experiment asks for, each with the field it stands in."""
    found: list[tuple[str, StudySpec]] = []
    for name, entry in registry.studies.items():
        asked = spec.asked(name)
        found += [(f"{place_of(name)}.{i}" if entry.is_many else place_of(name), one) for i, one in enumerate(asked)]
    return found


def with_studies(spec: ExperimentSpec, changed: Mapping[str, StudySpec]) -> ExperimentSpec:
    """The spec with other studies in these of its fields, which are as `studies` gives them."""
    update: dict[str, Any] = {BROUGHT: dict(spec.studies)}
    for name, entry in registry.studies.items():
        place = place_of(name)
        asked = spec.asked(name)
        now = tuple(changed.get(f"{place}.{i}" if entry.is_many else place, one) for i, one in enumerate(asked))
        if now != asked:
            (update if is_ours(name) else update[BROUGHT])[name] = now if entry.is_many else now[0]
    return spec.model_copy(update=update)


def _study_of(name: str, asked: Any, stored: bool) -> Any:
    """What is asked of a plug-in's study, read by its model; as it stands where a stored one is not loaded here."""
    if name not in registry.studies or is_ours(name):
        if stored:
            return asked
        brought = [known for known in registry.studies if not is_ours(known)]
        raise InvalidInput("is not a study of a plug-in", field=name, allowed=", ".join(brought) or "none is loaded")
    entry = registry.studies[name]
    if not entry.is_many:
        return _read(entry.options, asked, name, stored)
    if not isinstance(asked, list | tuple) or len(asked) > entry.most:
        raise InvalidInput("is not such a list", field=name, allowed=f"a list of at most {entry.most}")
    return tuple(_read(entry.options, one, f"{name}.{i}", stored) for i, one in enumerate(asked))


def _read(model: type[BaseModel], given: Any, place: str, stored: bool = False) -> Any:
    """What is given, read by its model. Raises InvalidInput with the fields at `place`."""
    try:
        return model.model_validate(given, context=STORED if stored else None)
    except ValidationError as error:
        found = invalid(error, model)
        problems = [Problem(p.message, f"{place}.{p.field}".strip("."), p.allowed) for p in found.problems]
        raise InvalidInput(str(found), problems=problems) from None


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
    return {**data, "options": keyed(_read(entries[name].options, data.get("options") or {}, "options"))}


def describe_finding(
    item: ErrorDetails, field: str, *, known: str = "", bounds: Mapping[str, float] | None = None
) -> Problem:
    """One of pydantic's findings in our words. known: the allowed names, when a name is not one of them; bounds: all
    of the value's, where the finding names only the one that was crossed."""
    is_unknown = item["type"] == "extra_forbidden"
    return Problem(_words(item), field, known if is_unknown and known else _allowed(item, bounds or {}))


# What a value is not, by the first word of pydantic's type of finding.
_KINDS = {
    "int": "a whole number", "float": "a number", "finite": "a finite number", "string": "text",
    "bool": "true or false",
    "model": "an object", "dict": "an object", "tuple": "a list", "list": "a list", "none": "null",
    "missing": "a value",
}  # fmt: skip


def _words(item: ErrorDetails) -> str:
    kind, given, context = item["type"], item["input"], item.get("ctx", {})
    text = "null" if given is None else repr(given)
    shown = text if len(text) <= 80 else text[:77] + "..."
    if kind == "missing":
        return "is required"
    if kind == "extra_forbidden":
        return "is not a known field"
    if kind.startswith("greater_than"):
        return f"{shown} is too small"
    if kind.startswith("less_than"):
        return f"{shown} is too large"
    if kind in ("too_short", "too_long"):
        return f"has {len(given)} value{'s' * (len(given) != 1)}"
    if kind in ("string_too_short", "string_too_long"):
        return f"has {len(given)} character{'s' * (len(given) != 1)}"
    if "expected" in context or "pattern" in context:
        return f"{shown} is not allowed"
    if kind.split("_")[0] in _KINDS:
        return f"{shown} is not {_KINDS[kind.split('_')[0]]}"
    said = item["msg"].removeprefix("Value error, ")
    return f"{said[:1].lower()}{said[1:]}, got {shown}"


def _allowed(item: ErrorDetails, bounds: Mapping[str, float]) -> str:
    kind, context = item["type"], item.get("ctx", {})
    if "expected" in context:
        return str(context["expected"])
    if "pattern" in context:
        return f"text matching {context['pattern']}"
    if "multiple_of" in context:
        return f"a multiple of {context['multiple_of']}"
    bounds = {**context, **bounds}
    if kind.endswith(("too_short", "too_long")):
        return f"{within(bounds)} {'characters' if kind.startswith('string') else 'values'}"
    limits = within({name: value for name, value in bounds.items() if not name.endswith("_length")})
    if kind.startswith(("greater_than", "less_than")):
        return limits
    return ", ".join(filter(None, (_KINDS.get(kind.split("_")[0], ""), limits)))


def within(bounds: Mapping[str, Any]) -> str:
    """Bounds in words: "1 to 5", "more than 0, at most 100"; keys as in pydantic's fields, others are ignored."""
    low, high = (bounds.get(name, bounds.get(length)) for name, length in (("ge", "min_length"), ("le", "max_length")))
    if low is not None and high is not None:
        return f"{_number(low)} to {_number(high)}"
    known = {"more than": bounds.get("gt"), "at least": low, "less than": bounds.get("lt"), "at most": high}
    return ", ".join(f"{words} {_number(value)}" for words, value in known.items() if value is not None)


def _number(value: float) -> str:
    if value == MAX_SEED:
        return "2⁵³ − 1"
    return f"{value:,}".replace(",", " ") if isinstance(value, int) else f"{value:g}"


_BOUNDS = ("ge", "gt", "le", "lt", "min_length", "max_length")


def _bounds(model: type[BaseModel], loc: tuple[int | str, ...]) -> dict[str, float]:
    """The bounds written on the field or item at `loc` of `model`."""
    here: Any = model
    written: list[Any] = []
    for part in loc:
        owner = _model_in(here)
        if isinstance(part, str) and owner is not None and part in owner.model_fields:
            field = owner.model_fields[part]
            here, written = field.annotation, list(field.metadata)
        elif isinstance(part, int):
            here, written = _item_in(here)
        else:
            return {}
    return {name: value for one in written for name in _BOUNDS if (value := getattr(one, name, None)) is not None}


def _item_in(annotation: Any) -> tuple[Any, list[Any]]:
    """What the items of a list are (looked for through optionals), and what is written on them."""
    if get_origin(annotation) is not tuple:
        lists = (part for part in get_args(annotation) if get_origin(part) is tuple)
        annotation = next(lists, None)
    item = next(iter(get_args(annotation)), None)
    if get_origin(item) is not Annotated:
        return item, []
    inner, *written = get_args(item)
    return inner, [one for mark in written for one in (mark.metadata if isinstance(mark, FieldInfo) else [mark])]


def _known_fields(model: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    """The names allowed where an unknown one was found at `loc` of `model`."""
    here: Any = model
    for part in loc[:-1]:
        if (
            isinstance(part, str)
            and isinstance(here, type)
            and issubclass(here, BaseModel)
            and part in here.model_fields
        ):
            here = _model_in(here.model_fields[part].annotation)
    return ", ".join(here.model_fields) if isinstance(here, type) and issubclass(here, BaseModel) else ""


def _model_in(annotation: Any) -> Any:
    """The model a field holds, looked for through optionals, lists and tuples."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)
