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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import Annotated, Any, Self

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

import modescape.registry as registry
from modescape.architectures.building import has_dropout, refusal
from modescape.claims import CLAIMS, Claim
from modescape.claims.claim import Margin
from modescape.errors import InvalidInput, Problem
from modescape.pydantic_errors import check_size, invalid
from modescape.records import DataInfo, Sizes
from modescape.registry import RECIPE, Entry, architectures, corruptions, datasets, methods
from modescape.spec_parts import (
    OURS,
    STACKED_OPTIMISERS,
    BaseSpec,
    MethodSpec,
    Part,
    WeightsSpec,
    batches_of_one,
    keyed,
    read_by,
    steps_per_epoch,
)
from modescape.studies.connectivity.study import ConnectivitySpec
from modescape.studies.instability.study import InstabilitySpec
from modescape.studies.landscape.study import PlaneSpec
from modescape.studies.ood.study import OodSpec
from modescape.studies.seeds.study import SeedsSpec
from modescape.studies.shift.study import ShiftSpec
from modescape.studies.tunnel.study import TunnelSpec
from modescape.study import BROUGHT, StudySpec, names_a_set, often, once, with_named_runs
from modescape.versions import IMPORTED, STORED, VERSION, Added, Renamed, is_stored, lifted, renamed, under_new_names

# The margins that specs have had from the beginning. Those of later claims count as `Added`.
_FIRST_MARGINS = {"a", "b", "c", "d1", "e1", "e2", "f1", "f2", "g", "h"}


def _margins_of(name: str, claims: Iterable[Claim[Any]]) -> type[Part]:
    """A model with a field for the margin of every claim, in the paper's order; claims may share one."""
    return _with_margins(name, tuple({claim.margin.field: claim.margin for claim in claims}.values()))


@lru_cache(maxsize=8)  # asked for with every spec that is read
def _with_margins(name: str, margins: tuple[Margin, ...]) -> type[Part]:
    fields: dict[str, Any] = {}
    for margin in margins:
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
        known = read_by(brought, {name: value for name, value in others.items() if name not in unknown}, "")
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
    if not isinstance(training, Mapping) or "decay_on" in training or not _decays(training):
        return document  # without decay nothing is decided, and no digest moves
    network = document.get("network")
    name = network.get("architecture", "small-cnn") if isinstance(network, Mapping) else "small-cnn"
    if not isinstance(name, str) or name not in architectures:
        return document  # the models say what is wrong with it
    return {**document, "training": {**training, "decay_on": architectures[name].decay_on}}


def _decays(training: Mapping[str, Any]) -> bool:
    name = training.get("optimiser")
    entry = RECIPE["optimiser"].get(name) if isinstance(name, str) and name != "adam" else None
    return bool(training.get("weight_decay")) or bool(entry and entry.decouples)


class ExperimentSpec(BaseSpec):
    """Everything that decides an experiment's numbers."""

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

    @classmethod
    def model_validate(cls, obj: Any, *, context: Any = None, **how: Any) -> Self:
        """As pydantic's; one of an ensemble made elsewhere may name data, networks and methods not known here."""
        if context is None and isinstance(obj, Mapping) and obj.get("source") == "imported":
            context = IMPORTED
        return super().model_validate(obj, context=context, **how)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.source == "imported") != (self.imported is not None):
            raise InvalidInput(
                "belongs to an imported ensemble, and only to one", field="imported",
                allowed="an object, with source: imported",
            )  # fmt: skip
        if (self.source == "weights") != (self.weights is not None):
            raise InvalidInput(
                "belongs to weights made elsewhere, and only to them", field="weights",
                allowed="an object, with source: weights",
            )  # fmt: skip
        return self

    @field_validator(BROUGHT, mode="before")
    @classmethod
    def _brought(cls, given: Any, info: ValidationInfo) -> Any:
        if not isinstance(given, Mapping):
            return given
        return {str(name): _study_of(str(name), asked, is_stored(info)) for name, asked in sorted(given.items())}

    @model_validator(mode="before")
    @classmethod
    def _fill_protocol(cls, data: Any, info: ValidationInfo) -> Any:
        if isinstance(data, Mapping):
            data = lifted(data)
            if "margins" not in data and not is_stored(info):
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

        What varies between runs is not in it, for run 0 is the same whatever varies. Ensembles made elsewhere are each
        a recipe of their own: what their spec says of data and network does not make two of them the same.
        """
        whole = keyed(self)
        parts = {name: whole[name] for name in ("data", "network", "training")} | {"seed": self.ensemble.seed}
        if self.weights is not None:  # in place of the training
            parts["training"] = [member.weights for member in self.weights.members]
        if self.imported is not None:
            parts["imported"] = self.imported.digest
        return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


_FIELDS = frozenset(ExperimentSpec.model_fields) - {"version"}


def stored(document: Mapping[str, Any]) -> ExperimentSpec:
    """The spec of an experiment that there is, to be shown: names (of a worker's plug-in) and parts (of a later
    version) that this process does not know stop no page; `unknown` tells them."""
    context = {**STORED, **IMPORTED} if document.get("source") == "imported" else STORED
    return ExperimentSpec.model_validate(lifted(document), context=context)


def unknown(document: Mapping[str, Any]) -> list[str]:
    """What this process does not know of a stored spec: "the method 'x'", "the data set 'y'", ...; nothing needs to be
    known of an imported ensemble."""
    document = lifted(document)
    if document.get("source") == "imported":
        return []
    data, network = document.get("data", {}), document.get("network", {})
    chosen = document.get("methods") or ()
    named = [("data set", name := data.get("dataset"), name in datasets)]
    for study, entry in registry.studies.items():
        asked = document.get(study) or (document.get(BROUGHT) or {}).get(study) if names_a_set(entry) else ()
        offered = entry.options.choices("dataset") or datasets
        sets = [one.get("dataset") for one in ([asked] if isinstance(asked, Mapping) else asked or ())]
        named += [("data set", name, name in offered or name in datasets) for name in sets]
    named += [("architecture", name := network.get("architecture"), name in architectures)]
    named += [("method", name := one.get("method"), name in methods) for one in chosen]
    training = document.get("training", {})
    named += [(part, name := training.get(part), name in known) for part, known in RECIPE.items() if part in training]
    changes = (document.get("shift") or {}).get("corruptions") or ()
    others = (document.get("shift") or {}).get("others") or ()
    named += [("data set", name, name in datasets) for name in others if isinstance(name, str)]
    named += [("corruption", name, name in corruptions) for name in changes]
    named += [("study", name, name in ExperimentSpec.model_fields) for name in document]
    named += [("study", name, name in registry.studies) for name in document.get(BROUGHT) or ()]
    named += [("version", version := document.get("version"), version in (None, VERSION))]
    fields = _not_read(stored(document), {name: document[name] for name in document if name in _FIELDS})
    found = [(kind, name) for kind, name, known in named if name is not None and not known]
    found += [("field", name) for name in fields]
    found += _options_not_read("architecture", [network], architectures)
    found += _options_not_read("method", chosen, methods)
    for part, known in RECIPE.items():
        found += _options_not_read(part, [training], known, f"{part}_options")
    return [f"the {kind} {name!r}" for kind, name in dict.fromkeys(found)]


def _not_read(part: BaseModel, document: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Paths of the fields of a stored document that are not in the part read from it, or not with their values."""
    for name, value in under_new_names(type(part), document).items():
        inner = getattr(part, name, None)
        if name not in type(part).model_fields:
            if not (isinstance(part, Part) and name in part.usual()):
                yield f"{prefix}{name}"
        elif isinstance(inner, BaseModel) and isinstance(value, Mapping):
            yield from _not_read(inner, value, f"{prefix}{name}.")
        elif isinstance(inner, tuple) and isinstance(value, list | tuple):
            if len(inner) != len(value):
                yield f"{prefix}{name}"
            for i, (one, written) in enumerate(zip(inner, value, strict=False)):
                if isinstance(one, BaseModel) and isinstance(written, Mapping):
                    yield from _not_read(one, written, f"{prefix}{name}.{i}.")
        elif isinstance(value, str) and inner != value:
            yield f"{prefix}{name}"


def _options_not_read(
    kind: str, chosen: Sequence[Mapping[str, Any]], entries: Mapping[str, Entry], place: str = "options"
) -> list[Any]:
    """The options of known entries that their models do not have, as "x of y"."""
    return [
        ("option", f"{option} of the {kind} {one[kind]}")
        for one in chosen
        if one.get(kind) in entries
        for option in under_new_names(entries[one[kind]].options, one.get(place) or {})
        if option not in entries[one[kind]].options.model_fields
    ]


def words(field: str, value: str) -> str:
    """One of the closed set of values of a field as people say it; an optimiser by its title."""
    if field == "optimiser":
        return RECIPE[field].title(value)
    return _WORDS.get(field, {}).get(value, value)


_WORDS = {
    "vary": {
        "both": "initialisation and order",
        "weights": "initialisation only",
        "batches": "order only",
        "head": "fresh head and order",
    },
    "input_scale": {"raw255": "raw 0–255", "unit": "x / 255", "pixel-mean": "minus mean image"},
    "averaged": {"fair": "at their best strength", "typical": "narrow samples"},
    "zoom": {
        "all": "everything",
        "first": "first solution",
        "second": "second solution",
        "third": "third solution",
    },
}


MOST_OF_IMPORTED = 150_000  # values: it names its classes; its lists end with the first item that is wrong


def parse(data: Any) -> ExperimentSpec:
    """The spec that `data` (decoded JSON) describes. Raises InvalidInput with every problem and its field."""
    if isinstance(data, dict):
        check_size({name: part for name, part in data.items() if name != "imported"}, "")
        check_size(data.get("imported"), "imported", MOST_OF_IMPORTED)
    try:
        return ExperimentSpec.model_validate(data)
    except ValidationError as error:
        raise invalid(error, ExperimentSpec) from None


def sizes(spec: ExperimentSpec, info: DataInfo) -> Sizes:
    """Images used of each split; may be impossible, which `check` reports."""
    if spec.imported is not None:
        return Sizes(0, spec.imported.validation, spec.imported.images, held_out=spec.imported.validation)
    asked = spec.data
    validation = info.validation_default if asked.validation_images is None else asked.validation_images
    cut_off = 0 if info.validation_total else validation
    train = info.train_total - cut_off if asked.train_images is None else asked.train_images
    test = info.test_total if asked.test_images is None else asked.test_images
    is_held_out = spec.weights is None or spec.weights.held_out or info.validation_total > 0
    return Sizes(train, validation, test, held_out=validation if is_held_out else 0)


def check(spec: ExperimentSpec, info: DataInfo) -> None:
    """Rules across fields and against the data's real sizes. Raises InvalidInput naming every problem.

    Of an ensemble made elsewhere nothing is asked for that its arrays could lack."""
    if spec.imported is not None:
        return
    problems: list[Problem] = []

    def wrong(field: str, message: str, allowed: str = "") -> None:
        problems.append(Problem(message, field, allowed))

    n = sizes(spec, info)
    if not info.are_pictures:
        problems += _of_numbers(spec)
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
    problems += _odd_scales(spec, info)
    trained_here = spec.weights is None
    if trained_here and spec.training.batch_size > max(n.train, 1):
        wrong(
            "training.batch_size",
            f"{spec.training.batch_size} is more than the {n.train} training images",
            f"1 to {n.train}",
        )
    for problem in batches_of_one(spec.network, spec.training, n.train) if trained_here else ():
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
    if why := refusal(spec.network, info):
        wrong("network.options", f"{architecture.title} cannot be made for these images: {why}", "other options")
    if trained_here and spec.training.schedule == "milestones":
        epochs = [m.epoch for m in spec.training.milestones]
        if not epochs or epochs != sorted(set(epochs)):
            wrong("training.milestones", "the schedule `milestones` needs them", "at least one, epochs increasing")
    total_steps = spec.training.epochs * steps_per_epoch(spec.training, n.train)
    units, noun = (spec.training.epochs, "epochs") if spec.training.by_epochs else (total_steps, "steps")
    window = max(1, int(units * spec.training.snapshot_window))
    if trained_here and spec.training.snapshots > window:
        wrong(
            "training.snapshots",
            f"{spec.training.snapshots} snapshots do not fit into the last {window} {noun}",
            f"0 to {window}",
        )
    if spec.weights is not None:
        problems += _given(spec, spec.weights)
    else:
        problems += _of_recipe(spec, n)
        problems += _of_start(spec)
    kept = "training.snapshots" if trained_here else "weights.epochs"
    seen: set[str] = set()
    floored: list[str] = []
    for i, chosen in enumerate(spec.methods):
        where, method = f"methods.{i}", methods[chosen.method]
        if chosen.method in seen:
            wrong(f"{where}.method", f"{chosen.method} is listed twice", "each method once")
        seen.add(chosen.method)
        if method.sampled and chosen.spread + chosen.typical == 0:
            wrong(f"{where}.typical", "no samples asked for", "at least one spread or typical sample")
        if method.needs_snapshots and spec.snapshots < 2:
            wrong(
                kept,
                f"{method.title} needs at least 2 snapshots, this plan keeps {spec.snapshots}",
                "2 or more",
            )
        if method.needs_dropout and not has_dropout(spec.network, info):
            wrong(
                f"{where}.method",
                f"{method.title} drops units in dropout layers that can be switched while a network predicts "
                f"(modescape.science.networks.Dropout), and {architecture.title} has none",
                "a method that moves weights, or one of the networks "
                + ", ".join(name for name, entry in architectures.items() if entry.dropout),
            )
        rank = chosen.options.get("rank")
        if isinstance(rank, int) and method.needs_snapshots and rank > spec.snapshots - 1:
            wrong(
                f"{where}.options.rank",
                f"rank {rank} needs at least {rank + 1} snapshots, this plan keeps {spec.snapshots}",
                f"1 to {max(1, spec.snapshots - 1)}, or {kept} of {rank + 1} or more",
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


def _of_numbers(spec: ExperimentSpec) -> Iterator[Problem]:
    """What cannot be asked of examples that are no pictures."""
    if spec.data.input_scale not in ("raw255", "standardised"):
        yield Problem(
            f"{spec.data.input_scale} is defined for pixels, and {spec.data.dataset} holds other numbers",
            "data.input_scale", "raw255 (as they are), or standardised",
        )  # fmt: skip
    if spec.data.image_size is not None:
        yield Problem("scales pictures, and these examples are none", "data.image_size", "nothing")
    if spec.training.augmentation != "none":
        yield Problem("changes pictures, and these examples are none", "training.augmentation", "none")
    if spec.shift is not None:
        yield Problem("corruptions are defined for pictures, and these examples are none", "shift", "none")
    if spec.ood:
        yield Problem("images of another kind stand beside pictures, and these examples are none", "ood", "none")


def _of_recipe(spec: ExperimentSpec, n: Sizes) -> Iterator[Problem]:
    """What the parts of the training do not fit."""
    training = spec.training
    for part, entries in RECIPE.items():
        for p in training.options(part).problems(spec, n):
            yield Problem(p.message, f"training.{part}_options.{p.field}", p.allowed)
        package = getattr(entries[getattr(training, part)], "package", "")
        if package and find_spec(package) is None:
            yield Problem(
                f"{entries[getattr(training, part)].title} is {package}'s, which is not installed here",
                f"training.{part}", f"pip install {package}, or another one",
            )  # fmt: skip
    optimiser = RECIPE["optimiser"][training.optimiser]
    if optimiser.decouples and training.weight_decay:
        yield Problem(
            f"{optimiser.title} shrinks weights by its own weight_decay, and would by this one a second time",
            "training.weight_decay", "0, and training.optimiser_options.weight_decay",
        )  # fmt: skip
    if training.by_epochs:
        yield from _not_trained_here(spec)
    yield from _not_grouped(spec)


def _not_grouped(spec: ExperimentSpec) -> Iterator[Problem]:
    """What a group of runs cannot be trained with."""
    grouping, training = spec.ensemble.grouping, spec.training
    if grouping in ("branches", "stacked") and training.by_epochs:
        title = RECIPE["trainer"].title(training.trainer)
        yield Problem(f"{title} trains one network at a time", "ensemble.grouping", "auto, alone")
    elif grouping == "stacked" and training.optimiser not in STACKED_OPTIMISERS:
        title = RECIPE["optimiser"].title(training.optimiser)
        yield Problem(f"{title} moves the tensors of one network", "ensemble.grouping", "auto, alone, branches")


def _not_trained_here(spec: ExperimentSpec) -> Iterator[Problem]:
    """What goes on from a run's weights, or trains by another rate, needs our own loop."""
    title = RECIPE["trainer"].title(spec.training.trainer)
    for i, chosen in enumerate(spec.methods):
        if methods[chosen.method].trained is not None:
            yield Problem(
                f"{methods[chosen.method].title} trains by our own loop, and the runs are trained by {title}: they "
                "would not be alike", f"methods.{i}.method", "a method that trains nothing",
            )  # fmt: skip
    for study in ("seeds", "instability"):
        if spec.asked(study):
            yield Problem(
                f"its trainings are made by our own loop, and the runs by {title}: they would not be alike",
                study, f"training.trainer {RECIPE['trainer'].title(OURS)!r}",
            )  # fmt: skip


def _of_start(spec: ExperimentSpec) -> Iterator[Problem]:
    """Runs that begin with given weights differ in what is left to differ."""
    vary, given = spec.ensemble.vary, spec.training.initial_weights is not None
    if given and vary not in ("head", "batches"):
        yield Problem(
            "runs that begin with given weights cannot differ in their initial weights", "ensemble.vary",
            "head: a fresh last layer and the order of examples; batches: the order of examples only",
        )  # fmt: skip
    if not given and vary == "head":
        yield Problem(
            "only runs with `training.initial_weights` have a fresh head", "ensemble.vary", "both, weights, batches"
        )
    if given and spec.seeds is not None:
        yield Problem("the seed study asks what initial weights do, which are given here", "seeds", "no seed study")


def _odd_scales(spec: ExperimentSpec, info: DataInfo) -> Iterator[Problem]:
    """Means and deviations for another number of channels than the images have."""
    for field, values in (("mean", spec.data.mean), ("deviation", spec.data.deviation)):
        if len(values) not in (0, 1, info.channels):
            yield Problem(
                f"{len(values)} numbers, and the images have {info.channels} channels",
                f"data.{field}", f"one number, or {info.channels}",
            )  # fmt: skip


def _given(spec: ExperimentSpec, weights: WeightsSpec) -> Iterator[Problem]:
    """What weights made elsewhere cannot do: they come without the recipe of their trainings."""
    if len(weights.members) != spec.ensemble.runs:
        yield Problem(
            f"{spec.ensemble.runs}, and weights of {len(weights.members)} members were given",
            "ensemble.runs", f"{len(weights.members)}",
        )  # fmt: skip
    for i, chosen in enumerate(spec.methods):
        yield from _untrained(chosen, f"methods.{i}", spec.snapshots)


def _untrained(chosen: MethodSpec, where: str, snapshots: int) -> Iterator[Problem]:
    """What of a method that trains on cannot be made of snapshots that were given; one that trains anew cannot be."""
    entry, columns = methods[chosen.method], chosen.options.get("columns", 0)
    if entry.trained == "fresh":
        yield Problem(
            f"{entry.title} trains, and the recipe of weights made elsewhere is not known here",
            f"{where}.method", "a method that trains nothing",
        )  # fmt: skip
    elif entry.trained == "continued" and snapshots < 2:
        yield Problem(
            f"{entry.title} needs at least 2 late snapshots, {snapshots} were given", "weights.epochs", "2 or more"
        )
    elif entry.trained == "continued" and columns > snapshots and chosen.options.get("covariance") == "full":
        yield Problem(f"{columns}, and {snapshots} late snapshots were given", f"{where}.options.columns",
                      f"2 to {snapshots}")  # fmt: skip


def is_ours(study: str) -> bool:
    """Whether a study has a field of its own in a spec; those of plug-ins stand together in one."""
    return study in _FIELDS


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
        return read_by(entry.options, asked, name, stored)
    if not isinstance(asked, list | tuple) or len(asked) > entry.most:
        raise InvalidInput("is not such a list", field=name, allowed=f"a list of at most {entry.most}")
    return tuple(read_by(entry.options, one, f"{name}.{i}", stored) for i, one in enumerate(asked))
