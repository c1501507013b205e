"""The launch form as data: which controls there are, what is in them, and which spec they mean.

    values = to_values(presets["fig-6-short"].call())      # {"data.dataset": "fashion-mnist", ...}
    to_document(values.items())                            # the spec as JSON again
    sections(values, was=values, problems=())              # what templates/launch.html renders

Labels, limits, help and defaults come from the spec's and the registries' JSON schemas; nothing is listed twice. A
control's name is the path of its value in the spec, with methods by name instead of by place:
`methods.low-rank.options.rank`; options of what is chosen from a registry name their entry:
`training.optimiser_options.adamw.beta1`. Methods and studies are rows with a box that switches them on (`shift.on`); a
study there may be several of has numbered rows, `planes.0` and so on, and only those that are on are in the spec.
The browser posts the form for its plan (see pages/launching.py) and knows no rule of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel, ValidationError
from starlette.datastructures import ImmutableMultiDict

from modescape import documents
from modescape.claims import CLAIMS
from modescape.drawing.words import thousands
from modescape.errors import InvalidInput, Problem
from modescape.presets.base import SHORT_METHODS
from modescape.pydantic_errors import within
from modescape.records import DataInfo, Json, Sizes
from modescape.registry import RECIPE, Entry, Method, Study, architectures, datasets, methods, studies, while_known
from modescape.spec import ExperimentSpec, MarginsSpec, every_margin, parse, place_of, stored, words
from modescape.spec import studies as asked_studies
from modescape.spec_parts import (
    PLACES,
    DataSpec,
    EnsembleSpec,
    EvaluationSpec,
    MethodSpec,
    NetworkSpec,
    TrainingSpec,
)
from modescape.study import BROUGHT, is_open
from modescape.versions import lifted, under_new_names

# number: also a number or one of some words; checks: several of a closed set; list (of numbers), names and milestones:
# typed with commas
Kind = Literal["number", "text", "select", "check", "checks", "list", "names", "milestones"]
_TYPED_WITH_COMMAS = ("list", "names", "milestones", "checks")
_PART = re.compile(r'\s*("(?:[^"]|"")*"(?=\s*(?:,|$))|[^,]*?)\s*(?:,|$)')
Values = dict[str, str]
_QUOTES = "Commas part the names; one that has commas itself stands in quotation marks."


@dataclass(frozen=True)
class Choice:
    """One value a select offers; `note` says why it may not be usable here."""

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Control:
    """One field of the form. value and was (the preset's): texts as typed; allowed: the limits in words; automatic:
    what stands for it where nothing is typed."""

    name: str
    label: str
    kind: Kind
    help: str
    unit: str = ""
    allowed: str = ""
    choices: tuple[Choice, ...] = ()
    value: str = ""
    was: str = ""
    automatic: str = ""
    problem: Problem | None = None

    @property
    def is_changed(self) -> bool:
        return self.value != self.was

    @property
    def chosen(self) -> tuple[str, ...]:
        return tuple(part.strip() for part in self.value.split(",") if part.strip())


@dataclass(frozen=True, kw_only=True)
class Row:
    """A method or a study: whether it is on, and what can be chosen of it. name: what its controls begin with;
    brief: what is chosen, in a few words; look: key of a method's look, "" for a study; was_on: in the preset."""

    name: str
    title: str
    summary: str
    look: str = ""
    on: bool
    was_on: bool
    brief: str = ""
    controls: tuple[Control, ...]
    problem: Problem | None

    @property
    def has_problem(self) -> bool:
        return self.problem is not None or any(control.problem for control in self.controls)


@dataclass(frozen=True)
class Section:
    """A numbered part of the form: what is always seen, and what is folded under `More`; line: what is set in it."""

    number: int
    title: str
    hint: str
    controls: tuple[Control, ...] = ()
    more: tuple[Control, ...] = ()
    rows: tuple[Row, ...] = ()
    line: str = ""

    @property
    def more_is_open(self) -> bool:
        return any(control.problem or control.is_changed for control in self.more)


# What is seen first; every other field of the part is folded. Units are not in the schemas.
_FIRST = {
    "data": ("dataset", "input_scale", "train_images", "path"),
    "network": ("architecture",),
    "training": ("optimiser", "learning_rate", "schedule", "epochs", "batch_size"),
    "ensemble": ("runs", "vary", "seed"),
    "evaluation": ("splits", "averaged", "embed_runs"),
    "margins": (),
}
_UNITS = {
    "train_images": "images",
    "validation_images": "images",
    "test_images": "images",
    "batch_size": "images",
    "embed_images": "images",
    "epochs": "epochs",
    "halve_every": "epochs",
    "checkpoint_every": "epochs",
}
_LABELS = {
    "ensemble.runs": "Independent runs",
    "train_images": "Training images",
    "input_scale": "Input scale",
    "white": "Value that is white",
    "ensemble.seed": "Root seed",
    "spread": "Wide samples",
    "typical": "Narrow samples",
    "vary": "What differs",
    "grouping": "Runs at once",
    "splits": "Predictions kept on",
    "averaged": "Samples averaged",
    "embed_runs": "Runs in t-SNE",
    "embed_images": "Images in t-SNE",
    "embed_seed": "Seed of t-SNE",
    "color": "Colour",
    "training.initial_weights": "Initial weights (fine-tuning)",
    "ref": "Reference run",
    "normalise": "Divide by error rate",
    "ood": "Other images",
    # of figures
    "x.e": "Exponent of the family",
    "x.around": "Samples of",
    "x.limits": "Both limits",
    "x.bounds": "What no pair can leave",
    "x.family": "Fitted family",
    "x.blocks": "Checkpoints a run",
    "x.show": "Curves",
    "x.kind": "Bins by",
    "x.bins": "Number of bins",
    "x.weights": "Weights compared",
}
_PARTS: dict[str, type[BaseModel]] = {
    "data": DataSpec,
    "network": NetworkSpec,
    "training": TrainingSpec,
    "ensemble": EnsembleSpec,
    "evaluation": EvaluationSpec,
    "margins": MarginsSpec,
}


# -- spec -> form -----------------------------------------------------------------------------------------------------


def to_values(document: Mapping[str, Any]) -> Values:
    """Every control's text for a (complete or partial) spec document; what it leaves out gets its default."""
    values = {control.name: control.value for control in _blank()}
    for part, fields in lifted(document).items():
        if part == "methods":
            for method in fields:
                values[f"methods.{method['method']}.on"] = "true"
                for field in ("spread", "typical"):
                    if field in method:
                        values[f"methods.{method['method']}.{field}"] = _text(method[field])
                for option, value in _options(methods, method["method"], method.get("options")).items():
                    values[f"methods.{method['method']}.options.{option}"] = _text(value)
        elif part in studies and fields is not None:
            values |= _study_values(part, fields, "version" in document)
        elif part == BROUGHT:
            for name, asked in fields.items():
                values |= _study_values(name, asked, "version" in document) if name in studies else {}
        elif part in _PARTS:
            for field, value in under_new_names(_PARTS[part], fields).items():
                if part == "network" and field == "options":
                    chosen = fields.get("architecture", values["network.architecture"])
                    values |= {
                        f"network.options.{chosen}.{name}": _text(inner)
                        for name, inner in _options(architectures, chosen, value).items()
                    }
                elif part == "training" and (of := _recipe_part(field)):
                    chosen = fields.get(of, values[f"training.{of}"])
                    values |= {
                        f"training.{field}.{chosen}.{name}": _text(inner)
                        for name, inner in _options(RECIPE[of], chosen, value).items()
                    }
                elif field not in _FILLED_IN:
                    values[f"{part}.{field}"] = _text(value)
    return values


_FILLED_IN = ("fingerprint", "initial_digest")  # when an experiment is created; never typed


def _recipe_part(field: str) -> str:
    """The part of the recipe whose options stand in a field of the training; "" of other fields."""
    part = field.removesuffix("_options")
    return part if part != field and part in RECIPE else ""


def _study_values(name: str, asked: Any, promised: bool) -> Values:
    place, values = place_of(name), {}
    for prefix, one in (
        {f"{place}.{i}": one for i, one in enumerate(asked)}.items() if studies[name].is_many else ((place, asked),)
    ):
        values[f"{prefix}.on"] = "true"
        values |= {f"{prefix}.{field}": _text(value) for field, value in _as_meant(one, promised).items()}
    return values


def _options(registry: Mapping[str, Entry], name: str, given: Mapping[str, Any] | None) -> Json:
    """An entry's options under the names they have now."""
    return under_new_names(registry[name].options, given or {}) if name in registry else dict(given or {})


def _as_meant(study: Mapping[str, Any], promised: bool) -> Json:
    """A study with empty runs where the first healthy ones are meant; in the form what is typed is named. promised: it
    is from a whole spec, which writes its defaults out (see `studies.ThroughRuns`)."""
    shown = {field: value for field, value in study.items() if field != "named"}
    runs, named = study.get("runs") or (), study.get("named", not promised)
    return {**shown, "runs": None} if runs and is_open(runs, named) else shown


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        if any(isinstance(item, dict) and "epoch" not in item for item in value):
            return json.dumps([_as_typed(item) for item in value], ensure_ascii=False)
        if value and isinstance(value[0], dict):
            return ", ".join(f"{item['epoch']}: {item['learning_rate']:g}" for item in value)
        return ", ".join(quoted(item) if isinstance(item, str) else _text(item) for item in value)
    return str(value)


def quoted(name: str) -> str:
    """A text as it is typed among others that commas part."""
    return '"{}"'.format(name.replace('"', '""')) if re.search('[,"]', name) or name[:1] == "[" else name


def _parted(text: str, read: Callable[[str], object]) -> list[object]:
    """What commas part; in quotation marks a text may have commas itself, and is not read."""
    parts = (found[1] for found in _PART.finditer(text))
    return [part[1:-1].replace('""', '"') if len(part) > 1 and part[0] == '"' == part[-1] else read(part)
            for part in parts if part]  # fmt: skip


def _as_typed(item: object) -> object:
    """An object of a list without what is filled in and what was left open."""
    if not isinstance(item, dict):
        return item
    return {key: value for key, value in item.items() if value is not None and key not in _FILLED_IN}


# -- form -> spec -----------------------------------------------------------------------------------------------------


def to_document(form: Iterable[tuple[str, str]]) -> Json:
    """The spec a posted form means. Texts that are no numbers stay texts, so that validation can name them."""
    given = ImmutableMultiDict(list(form))

    def typed(control: Control) -> str | None:
        """None of a control that was left open."""
        if control.kind == "checks":
            text = ", ".join(filter(None, given.getlist(control.name)))
        else:
            text = given.get(control.name, "").strip()
        return text if text or control.kind in _TYPED_WITH_COMMAS else None

    def told(controls: Iterable[Control]) -> Iterator[tuple[str, object]]:
        """What was typed into those that were not left open."""
        for control in controls:
            if (text := typed(control)) is not None:
                yield control.name, _value(control.kind, text)

    document: Json = {"methods": []}
    chosen = given.get("network.architecture", "")
    for name, value in told(control for control in _blank() if control.name in given):
        part, *path = name.split(".")
        if part == "methods" or (name == "data.path" and given.get("data.dataset") not in PLACES):
            continue  # a path typed before another set was chosen is hidden, and not meant
        if part == "network" and path[0] == "options":
            if path[1] != chosen:
                continue
            path = ["options", path[2]]
        if part == "training" and (of := _recipe_part(path[0])):
            if path[1] != given.get(f"training.{of}", ""):
                continue
            path = [path[0], path[2]]
        target = document.setdefault(part, {})
        for step in path[:-1]:
            target = target.setdefault(step, {})
        target[path[-1]] = value
    for name in methods:
        if given.get(f"methods.{name}.on") != "true":
            continue
        entry: Json = {"method": name, "options": {}}
        for field, value in told(_method_controls(name)):
            (entry["options"] if ".options." in field else entry)[field.rsplit(".", 1)[1]] = value
        document["methods"].append(entry)
    for name, offer in studies.items():
        asked = [
            {field.removeprefix(f"{prefix}."): value for field, value in told(_study_controls(name, prefix))}
            for prefix in _rows_on(offer, given)
        ]
        if asked:
            _part_of(document, name)[name] = asked if offer.is_many else asked[0]
    return document


def _part_of(document: Json, study: str) -> Json:
    """Where in a document a study stands: the document itself, or what it has of plug-ins."""
    found: Json = document if place_of(study) == study else document.setdefault(BROUGHT, {})
    return found


def _rows_on(entry: Study, values: Mapping[str, str]) -> list[str]:
    """The rows of a study that are switched on, in order: where the spec's first, second, ... come from."""
    return [prefix for prefix in _row_names(entry, values) if values.get(f"{prefix}.on") == "true"]


def _row_names(entry: Study, values: Mapping[str, str]) -> list[str]:
    """The rows a study has in the form: all that are on, one to spare, and no fewer than it starts with."""
    place = place_of(entry.name)
    if not entry.is_many:
        return [place]
    on = [
        int(middle)
        for name, value in values.items()
        if name.startswith(f"{place}.") and name.endswith(".on") and value == "true"
        if (middle := name.removeprefix(f"{place}.").split(".")[0]).isdecimal() and len(middle) < 3
    ]
    return [f"{place}.{i}" for i in range(max([entry.rows, *(i + 2 for i in on)]))]


def _value(kind: Kind, text: str) -> object:
    if kind == "check":
        return text == "true"
    if kind in ("list", "names", "checks"):
        if (written := _written(text)) is not None:  # objects
            return written
        return _parted(text, _number if kind == "list" else str)
    if kind == "milestones":
        pairs = (part.partition(":") for part in text.split(",") if part.strip())
        return [{"epoch": _number(epoch.strip()), "learning_rate": _number(rate.strip())} for epoch, _, rate in pairs]
    return _number(text) if kind == "number" else text


def _number(text: str) -> int | float | str:
    """The number typed, thousands parted by spaces allowed; or the text itself, for validation to complain about. A
    whole number that JSON's readers take for none is none here."""
    plain = text.replace(" ", "").replace("\u2009", "").replace("\u202f", "").replace("−", "-")
    try:
        return number if abs(number := int(plain)) < 2**63 else float(number)
    except (ValueError, OverflowError):
        try:
            return float(plain)
        except ValueError:
            return text


def place(problem: Problem, document: Mapping[str, Any], values: Mapping[str, str]) -> Problem:
    """The problem with its field as the form names it: `methods.2.options.rank` -> `methods.low-rank.options.rank`,
    `planes.0.runs` -> the first plane that is on."""
    part, *path = problem.field.removeprefix("spec.").split(".")
    name, *inside = path if part == BROUGHT and path else [part, *path]
    if name in studies:
        rows, place = _rows_on(studies[name], values), place_of(name)
        if studies[name].is_many and inside and inside[0].isdigit() and int(inside[0]) < len(rows):
            return replace(problem, field=".".join([rows[int(inside[0])], *(inside[1:2] or ["on"])]))
        return replace(problem, field=".".join([place, *(inside[:1] or ["on"])]))
    if part == "methods" and path and path[0].isdigit() and int(path[0]) < len(document.get("methods", [])):
        name = document["methods"][int(path[0])]["method"]
        return replace(problem, field=".".join(["methods", name, *(path[1:] if path[1:] != ["method"] else ["on"])]))
    if part == "network" and path[:1] == ["options"]:
        return replace(
            problem, field=".".join(["network.options", document.get("network", {}).get("architecture", ""), *path[1:]])
        )
    if part == "training" and path and (of := _recipe_part(path[0])):
        chosen = document.get("training", {}).get(of) or TrainingSpec.model_fields[of].default
        return replace(problem, field=".".join([part, path[0], chosen, *path[1:]]))
    if part == "tags":
        return replace(problem, field="tags")
    if part == "training" and path[:1] == ["milestones"]:
        return replace(problem, field="training.milestones")
    if part == "evaluation" and path[:1] == ["splits"]:
        return replace(problem, field="evaluation.splits")
    return replace(problem, field=".".join([part, *path]))


# -- controls ---------------------------------------------------------------------------------------------------------


def sections(
    values: Mapping[str, str],
    *,
    was: Mapping[str, str],
    problems: Sequence[Problem] = (),
    missing: Mapping[str, str] | None = None,
    own_sets: Sequence[str] = (),
    automatic: Mapping[str, str] | None = None,
) -> list[Section]:
    """The whole form. values and was: texts by control name; missing: data sets that are not here, with their offer;
    own_sets: names that users registered; automatic: what stands for fields that are empty, as `automatic_values`."""
    by_field = {problem.field: problem for problem in reversed(problems)}
    lines = set_in(values)

    def filled(control: Control) -> Control:
        choices = control.choices
        if control.name.endswith(".dataset"):
            offers = missing or {}
            public = (replace(choice, note=offers.get(choice.value, "")) for choice in choices)
            choices = (*public, *(Choice(name, name, "yours") for name in own_sets))
        if control.name.endswith(".others") and own_sets:
            names = ", ".join(map(quoted, own_sets))
            control = replace(control, help=f"{control.help} Registered here: {names}. {_QUOTES}")
        value = values.get(control.name, control.value)
        if control.kind == "select" and value not in {choice.value for choice in choices}:
            choices = (*choices, Choice(value, value, "not loaded here"))
        return replace(
            control,
            choices=choices,
            value=value,
            was=was.get(control.name, control.value),
            automatic=(automatic or {}).get(control.name) or control.automatic,
            problem=by_field.get(control.name),
        )

    def section(number: int, title: str, hint: str, *parts: str) -> Section:
        first: list[Control] = []
        more: list[Control] = []
        for part in parts:
            for control in _controls(part):
                is_first = _field(control, part) in _FIRST[part]
                (first if is_first else more).append(filled(control))
        return Section(number, title, hint, tuple(first), tuple(more), line=lines[number])

    def row(name: str, title: str, summary: str, controls: Sequence[Control], look: str = "") -> Row:
        own = tuple(filled(control) for control in controls)
        on = values.get(f"{name}.on") == "true"
        problem = by_field.get(f"{name}.on")
        was_on = was.get(f"{name}.on") == "true"
        return Row(
            name=name, title=title, summary=summary, look=look, on=on, was_on=was_on, controls=own, problem=problem
        )  # fmt: skip

    sampled = []
    for name, method in methods.items():
        found = row(f"methods.{name}", method.title, method.summary, _method_controls(name), name)
        sampled.append(replace(found, brief=_samples(found, method)))
    offered = [
        row(prefix, study_title(entry, prefix), entry.summary, _study_controls(name, prefix))
        for name, entry in studies.items()
        for prefix in _row_names(entry, values)
    ]
    return [
        section(2, "Data", "Test data are never used for selection.", "data"),
        section(3, "Network", "One network, trained again and again.", "network", "training"),
        section(
            4,
            "Ensemble",
            "What makes the runs differ, and where they are compared.",
            "ensemble",
            "evaluation",
            "margins",
        ),
        Section(
            5,
            "Methods",
            "Each samples around every run. Colour stays with the method on every page.",
            rows=tuple(sampled),
            line=lines[5],
        ),
        Section(
            6,
            "Studies",
            "What the same functions are worth elsewhere, and what lies between them.",
            rows=tuple(offered),
            line=lines[6],
        ),
    ]


def _samples(row: Row, method: Method) -> str:
    found = {control.name.rsplit(".", 1)[-1]: control.value for control in row.controls}
    if not method.sampled:
        return _own_count(row, method)
    if "spread" not in found:
        return ""
    return f"{found['spread'] or 0} wide, {found['typical'] or 0} narrow"


def _own_count(row: Row, method: Method) -> str:
    """How many solutions a run the method makes of the options as typed; "" while they cannot be read."""
    typed = {control.name.rsplit(".", 1)[-1]: _value(control.kind, control.value) for control in row.controls
             if control.value}  # fmt: skip
    try:
        count = method.count(method.options.model_validate(typed))
    except ValidationError:
        return ""
    return "one a run" if count == 1 else f"{count} a run"


def study_title(entry: Study, prefix: str) -> str:
    return f"{entry.title} {int(prefix.rpartition('.')[2]) + 1}" if entry.is_many else entry.title


def option_controls(entry: Entry, prefix: str) -> tuple[Control, ...]:
    """The controls of an entry's own options model."""
    return tuple(_from_schema(entry.options.model_json_schema(), prefix))


@while_known
def _blank() -> tuple[Control, ...]:
    """Every control there can be, at its default."""
    named = [control for part in _PARTS for control in _controls(part)]
    for name in methods:
        named += _method_controls(name)
    return tuple(named)


@while_known
def _controls(part: str) -> tuple[Control, ...]:
    found = []
    model = every_margin() if part == "margins" else _PARTS[part]
    for control in _from_schema(model.model_json_schema(), part):
        field = control.name.split(".")[1]
        if part == "margins":
            control = replace(control, label=f"Margin of claim ({field})")
        if field in _FILLED_IN or control.name == "network.options" or (part == "training" and _recipe_part(field)):
            continue
        if field == "dataset":
            control = _select(control, datasets)
        elif field == "architecture":
            control = _select(control, architectures)
        elif part == "training" and field in RECIPE:
            control = _select(control, RECIPE[field])
        found.append(control)
        if part == "training" and field in RECIPE:
            found += _recipe_options(field)
    order = _FIRST[part]
    found.sort(key=lambda control: order.index(name) if (name := _field(control, part)) in order else len(order))
    if part == "network":
        for name, architecture in architectures.items():
            options = option_controls(architecture, f"network.options.{name}")
            found += [replace(control, label=f"{architecture.title}: {control.label.lower()}") for control in options]
    return tuple(found)


def _field(control: Control, part: str) -> str:
    """The field of a part that a control is, or whose choice it belongs to."""
    field = control.name.removeprefix(f"{part}.").split(".")[0]
    return (_recipe_part(field) if part == "training" else "") or field


def _recipe_options(part: str) -> list[Control]:
    """Controls for the options of everything that can stand in a part of the recipe."""
    found = []
    for name, entry in RECIPE[part].items():
        options = option_controls(entry, f"training.{part}_options.{name}")
        found += [replace(control, label=f"{entry.title}: {control.label.lower()}") for control in options]
    return found


@while_known
def _study_controls(name: str, prefix: str) -> tuple[Control, ...]:
    model = studies[name].options
    found = [
        control
        for control in _from_schema(model.model_json_schema(), prefix)
        if not control.name.endswith((".fingerprint", ".named", ".name"))  # never typed
    ]
    shown = [replace(control, value="") if control.name == f"{prefix}.runs" else control for control in found]
    offers = {control.name: model.choices(control.name.removeprefix(f"{prefix}.")) for control in shown}
    shown.sort(key=lambda control: not offers[control.name])  # what it is about comes first
    return tuple(with_choices(control, offer) if (offer := offers[control.name]) else control for control in shown)


@while_known
def _method_controls(name: str) -> tuple[Control, ...]:
    entry = methods[name]
    own = [
        c
        for c in _from_schema(MethodSpec.model_json_schema(), f"methods.{name}")
        if c.name.endswith((".spread", ".typical"))
    ]
    return (*(own if entry.sampled else ()), *option_controls(entry, f"methods.{name}.options"))


def _select(control: Control, registry: Mapping[str, Entry]) -> Control:
    return with_choices(control, {name: entry.title for name, entry in registry.items()})


def _from_schema(schema: Mapping[str, Any], prefix: str) -> list[Control]:
    definitions = schema.get("$defs", {})
    return [
        _control(name, _resolved(field, definitions), f"{prefix}.{name}")
        for name, field in schema.get("properties", {}).items()
    ]


def _resolved(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> Json:
    """The field with references followed and `X or null` flattened to X (null is the empty text)."""
    merged = dict(field)
    if "$ref" in merged:
        merged = {**definitions[merged.pop("$ref").rsplit("/", 1)[1]], **merged}
    options = [_resolved(option, definitions) for option in merged.pop("anyOf", []) if option.get("type") != "null"]
    if len(options) == 1:
        merged = {**options[0], **merged}
    elif options:
        merged["either"] = options
    return merged


def _control(name: str, field: Mapping[str, Any], path: str) -> Control:
    kind = _kind(name, field)
    items = field.get("items", {})
    enum = field.get("enum") or ([field["const"]] if "const" in field else []) or items.get("enum", [])
    return Control(
        name=path,
        label=_LABELS.get(path) or _LABELS.get(name, name.replace("_", " ").capitalize()),
        kind=kind,
        help=field.get("description", ""),
        unit=_UNITS.get(name, ""),
        allowed=_allowed(field),
        choices=tuple(Choice(str(value), words(name, str(value))) for value in enum),
        value=_text(field.get("default")),
        was=_text(field.get("default")),
        automatic=_automatic(field),
    )


_EMPTY = re.compile(r"[Ee]mpty(?: means| takes|:)? ([^.;(]+)")


def _automatic(field: Mapping[str, Any]) -> str:
    """What a field says of itself left empty, in few words."""
    found = _EMPTY.search(field.get("description", "")) if field.get("default") is None else None
    return found[1].strip().rstrip(",") if found else ""


def _kind(name: str, field: Mapping[str, Any]) -> Kind:
    if name == "milestones":
        return "milestones"
    if "either" in field:
        return "number"  # a number or one of some words; texts pass through
    if "enum" in field or "const" in field:
        values = field.get("enum") or [field["const"]]
        return "select" if any(isinstance(value, str) for value in values) else "number"
    kind = field.get("type")
    if kind == "boolean":
        return "check"
    if kind == "array":
        return _kind_of_list(field.get("items", {}))
    return "number" if kind in ("integer", "number") else "text"


def _kind_of_list(item: Mapping[str, Any]) -> Kind:
    if "enum" in item:
        return "checks"
    kinds = {one.get("type") for one in item.get("anyOf") or item.get("oneOf") or [item]}
    return "names" if "string" in kinds else "list"


def _allowed(field: Mapping[str, Any]) -> str:
    names = {"minimum": "ge", "exclusiveMinimum": "gt", "maximum": "le", "exclusiveMaximum": "lt"}
    return within({short: field[name] for name, short in names.items() if name in field})


def filled(control: Control, *, name: str, value: object) -> Control:
    """The control under another name, with a value in it."""
    return replace(control, name=name, value=_text(value))


def with_choices(control: Control, words: Mapping[str, str]) -> Control:
    """The control as a choice among values with their words, the default first; another value in it is left out."""
    first = next(iter(words))
    value = control.value if control.value in words else first
    choices = tuple(Choice(value, said) for value, said in words.items())
    return replace(control, kind="select", choices=choices, value=value, was=first)


def from_posted(form: Sequence[tuple[str, str]]) -> Values:
    """The texts as they were typed, right or wrong, so that a refused form comes back unchanged."""
    given = ImmutableMultiDict(list(form))
    rows = [(name, prefix) for name, entry in studies.items() for prefix in _row_names(entry, given)]
    every = [*_blank(), *(control for row in rows for control in _study_controls(*row))]
    checks = {control.name for control in every if control.kind == "checks"}
    return {
        name: ", ".join(filter(None, given.getlist(name))) if name in checks else value for name, value in given.items()
    }


def posted(sections: Iterable[Section]) -> list[tuple[str, str]]:
    """What a browser posts of the form as it is shown."""
    rows = [row for section in sections for row in section.rows]
    controls = [control for section in sections for control in (*section.controls, *section.more)]
    controls += [control for row in rows for control in row.controls]
    on = [(f"{row.name}.on", "true") for row in rows if row.on]
    return [*((control.name, control.value) for control in controls), *on]


def as_json(document: Mapping[str, Any]) -> str:
    """A stored spec as people copy it, in the order of the form: PostgreSQL keeps objects in one of its own."""
    like = stored(document).model_dump(mode="json")
    like["network"]["options"] = _option_names(architectures, like["network"]["architecture"])
    for chosen in like["methods"]:
        chosen["options"] = _option_names(methods, chosen["method"])
    return json.dumps(_in_order(document, like), indent=2, ensure_ascii=False)


def _option_names(registry: Mapping[str, Entry], name: str) -> dict[str, None]:
    return dict.fromkeys(registry[name].options.model_fields) if name in registry else {}


def _in_order(value: object, like: object) -> object:
    if isinstance(value, dict) and isinstance(like, dict):
        known = [key for key in like if key in value]
        return {key: _in_order(value[key], like.get(key)) for key in (*known, *sorted(value.keys() - like.keys()))}
    if isinstance(value, list) and isinstance(like, list) and len(value) == len(like):
        return [_in_order(one, other) for one, other in zip(value, like, strict=True)]
    return value


def defaults() -> Values:
    """The form of an empty spec (Blank)."""
    return to_values(parse({}).model_dump(mode="json"))


# -- what is set, and what stands for what is not ---------------------------------------------------------------------


@dataclass(frozen=True)
class Changed:
    """A field that is not as the preset has it. was, now: texts as typed; of what is switched, "on" and "off"."""

    name: str
    label: str
    was: str
    now: str


def changes(sections: Iterable[Section], values: Mapping[str, str]) -> list[Changed]:
    """What differs from the preset, of what counts: options of another choice, and of what is off, do not."""
    found = []
    for section in sections:
        for control in (*section.controls, *section.more):
            if control.is_changed and _counts(control.name, values):
                found.append(Changed(control.name, control.label, control.was or "empty", control.value or "empty"))
        for row in section.rows:
            if row.on != row.was_on:
                words = ("off", "on")
                found.append(Changed(f"{row.name}.on", row.title, words[row.was_on], words[row.on]))
            for control in row.controls if row.on and row.was_on else ():
                if control.is_changed:
                    label = f"{row.title}: {control.label.lower()}"
                    found.append(Changed(control.name, label, control.was or "empty", control.value or "empty"))
    return found


def _counts(name: str, values: Mapping[str, str]) -> bool:
    part, *path = name.split(".")
    if name == "data.path":
        return values.get("data.dataset") in PLACES
    if part == "network" and path[0] == "options":
        return path[1] == values.get("network.architecture")
    if part == "training" and (of := _recipe_part(path[0])):
        return path[1] == values.get(f"training.{of}")
    return True


def set_in(values: Mapping[str, str]) -> dict[int, str]:
    """Of each section by its number, what is set in it, in one line."""

    def of(*names: str) -> list[str]:
        return [values.get(name, "").strip() for name in names]

    dataset, scale, train = of("data.dataset", "data.input_scale", "data.train_images")
    architecture, *recipe = of("network.architecture", *(f"training.{one}" for one in _FIRST["training"]))
    optimiser, rate, schedule, epochs, batch = recipe
    runs, vary, seed = of("ensemble.runs", "ensemble.vary", "ensemble.seed")
    on = [name.removesuffix(".on") for name, value in values.items() if name.endswith(".on") and value == "true"]
    sampled = [methods.title(name) for name in methods if f"methods.{name}" in on]
    asked = [study_title(entry, prefix) for name, entry in studies.items() for prefix in _row_names(entry, values)
             if prefix in on]  # fmt: skip
    said = {
        2: [datasets.title(dataset), f"{train or 'all'} training images", words("input_scale", scale)],
        3: [architectures.title(architecture), f"{words('optimiser', optimiser)} at {rate}",
            f"schedule “{RECIPE['schedule'].title(schedule)}”", f"{epochs} epochs", f"batches of {batch}"],
        4: [f"{runs} run{'' if runs == '1' else 's'} that differ in {words('vary', vary)}", f"root seed {seed}"],
        5: sampled or ["no methods"],
        6: asked or ["no studies"],
    }  # fmt: skip
    return {number: ", ".join(parts) for number, parts in said.items()}


def automatic_values(spec: ExperimentSpec, sizes: Sizes, info: DataInfo) -> Values:
    """What stands for fields that are left empty, by control name: as it would be with the others as they are."""
    found: Values = {
        "data.train_images": thousands(sizes.train), "data.validation_images": thousands(sizes.validation),
        "data.test_images": thousands(sizes.test), "seeds.epochs": str(spec.training.epochs),
        "methods.swag.options.learning_rate": f"{spec.training.learning_rate / 2:g}",
    }  # fmt: skip
    if info.are_pictures:
        found["data.image_size"] = str(info.height)
    if spec.shift is not None:
        found["shift.images"] = thousands(spec.shift.count(sizes.test))
    for place, study in asked_studies(spec):
        if runs := getattr(study, "runs", ()):
            found[f"{place}.runs"] = ", ".join(map(str, runs))
        if getattr(study, "members", 0) is None:
            found[f"{place}.members"] = str(min(5, spec.ensemble.runs))
    return found


# -- the form of a clone with something more --------------------------------------------------------------------------

_RUNS_FOR = {claim.decided_by.add: claim.decided_by.runs for claim in CLAIMS.values()}


def blank() -> Json:
    """A new experiment of defaults, its averages judged fairly: of older specs the model's default says otherwise."""
    return parse({"evaluation": {"averaged": "fair"}}).model_dump(mode="json")


def with_more(document: Json, add: str) -> Json:
    """The same experiment with a study, or with what decides a claim, added; unknown names change nothing."""
    more = deepcopy(document)
    named = [chosen["method"] for chosen in more.get("methods", ())]
    study = studies[add] if add in studies and studies[add].is_ready else None
    if study is not None:
        part = _part_of(more, add)
        part[add] = part.get(add) or ([{}] if study.is_many else {})
    if add == "sgmcmc" and add not in named:
        more["methods"] = [*more.get("methods", ()), {"method": add}]
    without_samples = not any(m.get("typical") for m in more.get("methods", ()))
    takes_samples = add == "methods" or (study is not None and study.options.takes_samples)
    if (takes_samples or add == "fair") and without_samples:
        more["methods"] = [*more.get("methods", ()), *(m for m in SHORT_METHODS if m["method"] not in named)]
    if add == "fair" or (takes_samples and without_samples):
        more["evaluation"] = {**more.get("evaluation", {}), "averaged": "fair"}
    kind, _, number = add.partition(":")
    runs = max(_RUNS_FOR.get(add, 0), study.runs if study is not None else 0)
    if kind == "runs" and number.isdecimal() and len(number) < 4:  # "runs:10": so many
        runs = int(number)
    if runs:
        ensemble = more.get("ensemble", {})
        more["ensemble"] = {**ensemble, "runs": max(runs, ensemble.get("runs", runs))}
    if add == "checkpoints":
        training = more.get("training", {})
        more["training"] = {**training, "checkpoint_every": 1, "epochs": max(3, training.get("epochs", 3))}
    if kind == "slower":
        _slow_down(more, number)
    return more


SLOWER = 3  # times: at the border of divergence a rate is too high by less than that
_USUAL = {"adam": 1.6e-3, "adamw": 1e-3, "sgd": 0.1}  # rates to begin with, by optimiser
_FAR = 10  # times the usual rate: no border is near, and a third of it would diverge again


def _slow_down(document: Json, what: str) -> None:
    """A lower learning rate for what diverged: the method or the study ("tunnels.0") of that name, else the runs."""
    name, _, number = what.partition(".")
    training = document.get("training", {})
    asked = _part_of(document, name).get(name) if name in studies else None
    if number.isdigit() and asked and int(number) < len(asked):
        asked[int(number)]["learning_rate"] = _lower(asked[int(number)]["learning_rate"])
    elif own := [m["options"] for m in document.get("methods", ()) if m["method"] == what and m.get("options")]:
        own[0]["learning_rate"] = _lower(own[0].get("learning_rate") or training["learning_rate"] / 2)
    elif "learning_rate" in training:
        lower, usual = _lower(training["learning_rate"]), _USUAL.get(training.get("optimizer", "adam"))
        training["learning_rate"] = usual if usual and lower > _FAR * usual else lower
        for later in training.get("milestones", ()):
            later["learning_rate"] = min(later["learning_rate"], training["learning_rate"])


def _lower(rate: float) -> float:
    return float(f"{rate / SLOWER:.2g}")


def parts(text: str) -> list[str]:
    """Tags, as they are typed with commas between."""
    return [part.strip() for part in text.split(",") if part.strip()]


def listed(text: str) -> list[object]:
    """Values typed with commas between: numbers, true and false, else texts, which have quotation marks where they have
    commas; a JSON list is taken as it is."""
    words = {"true": True, "false": False, "none": None}
    if (written := _written(text)) is not None:
        return written
    return _parted(text, lambda one: words[one] if one in words else _number(one))


def _written(text: str) -> list[object] | None:
    """What a JSON list says; None of what is none."""
    if not text.lstrip().startswith("["):
        return None
    try:
        found = documents.from_json(text, "")
    except InvalidInput:
        return None
    return found if isinstance(found, list) else None


def paths(document: Mapping[str, Any]) -> list[str]:
    """Fields of the spec that can be varied, by their dotted paths; methods by their names."""
    parts = ("data", "network", "training", "ensemble", "evaluation")
    found = [control.name for part in parts for control in _controls(part)]
    chosen = document.get("network", {}).get("architecture", "small-cnn")
    found += [f"network.options.{name}" for name in _option_names(architectures, str(chosen))]
    for method in document.get("methods", []):
        name = str(method.get("method"))
        found += [f"methods.{name}.typical", f"methods.{name}.spread"]
        found += [f"methods.{name}.options.{option}" for option in _option_names(methods, name)]
    closed = {"ensemble.seed", "data.path", "data.fingerprint"}
    return [name for name in dict.fromkeys(found) if name not in closed]
