"""A spec says what it promises, refuses what cannot be, and has one text."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any
from xml.etree import ElementTree

import pytest
from pydantic import Field

from modescape import documents, own_sets
from modescape.datasets.here import published
from modescape.draft import kept_epochs, sample_sets
from modescape.drawing import style
from modescape.errors import DataMissing, InvalidInput
from modescape.plan import departures, differences, plan, prepare
from modescape.records import DataInfo
from modescape.registry import architectures, corruptions, datasets, figures, methods, presets
from modescape.spec import check, parse, sizes, under_protocol
from modescape.spec_parts import Part, keyed, steps_per_epoch
from modescape.stages import KINDS
from modescape.stages.stage import Task
from modescape.sweeps import asked
from modescape.versions import Added

INFO = DataInfo(
    channels=1, height=8, width=8, classes=tuple("0123456789"), train_total=597, test_total=1200, validation_default=197
)


def problems(document: object) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        check(parse(document), INFO)
    return {problem.field: str(problem) for problem in caught.value.problems}


def test_equal_specs_have_one_digest_whatever_the_order_of_keys() -> None:
    one = parse({"data": {"dataset": "digits", "train_images": 300}, "ensemble": {"runs": 4, "seed": 7}})
    other = parse({"ensemble": {"seed": 7, "runs": 4}, "data": {"train_images": 300, "dataset": "digits"}})
    assert one.digest() == other.digest()
    assert one.digest() == hashlib.sha256(one.canonical().encode()).hexdigest()
    assert json.loads(one.canonical())["training"]["learning_rate"] == 1.6e-3  # defaults are written out
    assert parse(json.loads(one.canonical())) == one


def test_a_batch_of_one_image_under_batch_norm_is_refused_where_it_would_come() -> None:
    def refused(architecture: str, method: str = "", **training: Any) -> dict[str, str]:
        document = {
            "network": {"architecture": architecture}, "training": {"sampling": "epoch", "snapshots": 0, **training},
            "methods": [{"method": method, "options": {"batch_size": 57}}] if method else [],
        }  # fmt: skip
        try:
            check(parse(document), INFO)
        except InvalidInput as error:
            return {problem.field: str(problem) for problem in error.problems}
        return {}

    # 400 training images: 57 * 7 + 1
    assert "of 57 (of 400 images) would hold one image" in refused("resnet20v1", batch_size=57)["training.batch_size"]
    assert "every batch would hold one image" in refused("resnet20v1", batch_size=1)["training.batch_size"]
    assert refused("resnet20v1", batch_size=57, sampling="replacement") == {}
    assert refused("small-cnn", batch_size=57) == {}
    assert list(refused("resnet20v1", "sgmcmc", batch_size=50)) == ["methods.0.options.batch_size"]


def test_options_left_out_are_filled_in_from_the_method() -> None:
    spec = parse({"methods": [{"method": "low-rank"}]})
    assert spec.methods[0].options["rank"] == 5
    assert spec.methods[0].options["scaling"] == "covariance"


@pytest.mark.parametrize(
    ("document", "field", "says"),
    [
        ({"data": {"dataset": "nothing"}}, "data.dataset", "digits"),
        ({"network": {"architecture": "vgg"}}, "network.architecture", "small-cnn"),
        ({"methods": [{"method": "magic"}]}, "methods.0.method", "random"),
        ({"methods": [{"method": "low-rank", "options": {"rank": 12}}]}, "methods.0.options.rank", "1 to 9"),
        ({"methods": [{"method": "low-rank", "options": {"rank": 0}}]}, "methods.0.options.rank", "1 to 200"),
        ({"methods": [{"method": "low-rank", "options": {"colour": 1}}]}, "methods.0.options.colour", "not a known"),
        ({"methods": [{"method": "random"}, {"method": "random"}]}, "methods.1.method", "each method once"),
        ({"methods": [{"method": "random", "spread": 0, "typical": 0}]}, "methods.0.typical", "at least one"),
        ({"ensemble": {"runs": 0}}, "ensemble.runs", "0 is too small (allowed: 1 to 1 000)"),
        ({"ensemble": {"seed": -1}}, "ensemble.seed", "-1 is too small (allowed: 0 to 2⁵³ − 1)"),
        ({"ensemble": {"runs": 2.5}}, "ensemble.runs", "not a whole number (allowed: a whole number, 1 to 1 000)"),
        ({"methods": [{"method": "sgmcmc", "options": {"temperature": -1}}]}, "methods.0.options.temperature",
         "-1 is too small (allowed: 0 to 1 000)"),
        ({"shift": {"members": None, "intensities": []}}, "shift.intensities", "has 0 values (allowed: 1 to 5 values)"),
        ({"training": {"momentum": 1}}, "training.momentum", "1 is too large (allowed: at least 0, less than 1)"),
        ({"training": {"epochs": 10**9}}, "training.epochs", "1 to 100 000"),
        ({"training": {"learning_rate": float("nan")}}, "training.learning_rate", "finite"),
        ({"training": {"batch_size": 500}}, "training.batch_size", "1 to 400"),
        ({"training": {"schedule": "milestones"}}, "training.milestones", "at least one"),
        ({"training": {"snapshots": 200, "epochs": 1}}, "training.snapshots", "0 to 1"),
        ({"data": {"train_images": 599}}, "data.train_images", "597"),
        ({"data": {"test_images": 2000}}, "data.test_images", "1200"),
        ({"data": {"dataset": "npz"}}, "data.path", "path"),
        ({"data": {"validation_images": 0}, "evaluation": {"splits": ["validation"]}}, "evaluation.splits", "least 10"),
        ({"surprise": 1}, "surprise", "not a known"),
        ([], "", "[] is not an object"),
    ],
)  # fmt: skip
def test_a_bad_spec_is_refused_with_its_field_and_what_is_allowed(document: object, field: str, says: str) -> None:
    found = problems(document)
    assert field in found, found
    assert says in found[field]


@pytest.mark.parametrize(
    ("document", "field", "says"),
    [
        ({"trainng": {}}, "trainng", "is not a known field; did you mean training?"),
        ({"training": {"epoch": 3}}, "training.epoch", "did you mean epochs?"),
        ({"training": {"optimizer": "adam"}}, "training.optimizer", "did you mean optimiser"),
        ({"methods": [{"method": "random", "options": {"flor": 1}}]}, "methods.0.options.flor", "did you mean floor"),
        ({"shift": {"intensites": [1]}}, "shift.intensites", "did you mean intensities?"),
        ({"data": {"dataset": "CIFAR10"}}, "data.dataset", "there is no dataset 'CIFAR10'; did you mean cifar10?"),
        ({"ood": [{"dataset": "SVHN"}]}, "ood.0.dataset", "did you mean svhn?"),
        ({"shift": {"others": ["Digits"]}}, "shift.others.0", "did you mean digits?"),
        ({"data": {"dataset": "nothing like it"}}, "data.dataset", "there is no dataset 'nothing like it'"),
    ],
)
def test_what_is_nearly_a_name_is_told_of_the_name(document: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(document)
    (problem,) = refused.value.problems
    assert problem.field == field
    assert says in problem.message
    assert ("did you mean" in problem.message) == ("did you mean" in says)


def test_nearly_a_corruption_preset_or_registered_set_is_told_of_it() -> None:
    with pytest.raises(InvalidInput, match="there is no corruption 'contast'; did you mean contrast"):
        prepare({"shift": {"corruptions": ["contast"]}}, ())
    for preset, near in (("quikstart", "quickstart"), ("fig2", "fig-2")):
        with pytest.raises(InvalidInput, match=f"did you mean {near}"):
            documents.read(preset)
        with pytest.raises(InvalidInput, match=f"did you mean {near}"):
            asked.read({"base": preset, "over": {"training.epochs": [1]}})
    sets = {"Noisy Digits": {"dataset": "npz", "where": "/x.npz"}}
    with pytest.raises(InvalidInput, match="did you mean Noisy Digits"):
        own_sets.named({"data": {"dataset": "noisy digits"}}, sets)


@pytest.mark.parametrize(
    ("document", "field", "allowed"),
    [
        ({"shift": {"intensities": [6]}}, "shift.intensities.0", "1 to 5"),
        ({"shift": {"intensities": [2.5]}}, "shift.intensities.0", "a whole number, 1 to 5"),
        ({"seeds": {"learning_rates": [1e-3, -1]}}, "seeds.learning_rates.1", "more than 0, at most 100"),
    ],
)
def test_an_item_that_is_wrong_does_not_make_its_list_too_short_as_well(
    document: object, field: str, allowed: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(document)
    assert [(problem.field, problem.allowed) for problem in caught.value.problems] == [(field, allowed)]


def test_missing_validation_images_are_one_problem_for_all_methods() -> None:
    three = [{"method": name} for name in ("random", "dropout", "diagonal")]
    with pytest.raises(InvalidInput) as caught:
        check(parse({"data": {"validation_images": 0}, "methods": three}), INFO)
    (problem,) = (problem for problem in caught.value.problems if problem.field == "data.validation_images")
    assert all(methods[chosen["method"]].title in problem.message for chosen in three)


def test_every_set_that_is_not_here_is_named_with_its_field() -> None:
    others = [{"dataset": "constant"}, {"dataset": "svhn"}, {"dataset": "digits"}, {"dataset": "cifar100"}]
    with pytest.raises(DataMissing) as caught:
        prepare({"data": {"dataset": "cifar10"}, "ood": others}, ())
    assert [problem.field for problem in caught.value.problems] == ["data.dataset", "ood.1.dataset", "ood.3.dataset"]
    for name in ("cifar10", "svhn", "cifar100"):
        assert f"modescape data fetch {name}" in str(caught.value)


def test_every_problem_is_reported_at_once() -> None:
    assert {"ensemble.runs", "training.epochs"} <= set(problems({"ensemble": {"runs": 0}, "training": {"epochs": 0}}))


def test_steps_follow_the_authors_code_and_whole_epochs() -> None:
    # 49,500 images in batches of 128: 386 steps with replacement (15,440 in 40 epochs), 387 when the rest is used.
    replacement = parse({"training": {"sampling": "replacement"}})
    whole = parse({"training": {"sampling": "epoch"}})
    assert steps_per_epoch(replacement.training, 49_500) == 386
    assert steps_per_epoch(whole.training, 49_500) == 387


def test_sizes_default_to_everything_but_the_validation_images() -> None:
    n = sizes(parse({}), INFO)
    assert (n.train, n.validation, n.test) == (400, 197, 1200)


def test_kept_epochs_always_hold_the_first_and_the_last() -> None:
    assert kept_epochs(5, 1) == [0, 1, 2, 3, 4, 5]
    assert kept_epochs(5, 2) == [0, 2, 4, 5]
    assert kept_epochs(1, 10) == [0, 1]


def test_a_plan_adds_up() -> None:
    spec = parse(presets["quickstart"].call())
    made = plan(spec, INFO)
    runs, sets = spec.ensemble.runs, sum(len(sample_sets(spec, chosen)) for chosen in spec.methods)
    # comparisons and embeddings, two each, ensembles, examples, pictures
    assert len(made.stages) == 2 * runs + runs * sets + 7
    blocks = sorted(
        (stage.params["first_number"], stage.params.get("count", spec.training.epochs + 1))
        for stage in made.stages
        if "first_number" in stage.params
    )
    following = 0
    for first, count in blocks:  # blocks of solution numbers follow one another without gap or overlap
        assert first == following
        following += count
    assert following == made.solutions
    assert made.predictions == made.solutions * 1200
    assert sum(kind.count for kind in made.kinds) == len(made.stages)
    names = {(stage.kind, stage.key) for stage in made.stages}
    assert all(need in names for stage in made.stages for need in stage.needs)


def test_methods_that_are_not_sampled_give_one_solution() -> None:
    spec = parse({"methods": [{"method": "averaging", "spread": 30}]})
    assert sample_sets(spec, spec.methods[0]) == [("typical", 1)]


@pytest.mark.parametrize("name", list(presets))
def test_every_preset_is_a_valid_spec(name: str) -> None:
    entry = presets[name]
    spec = parse(entry.call())
    dataset = datasets[spec.data.dataset]
    info = DataInfo(
        dataset.channels, dataset.height, dataset.width, dataset.classes,
        dataset.train_total, dataset.test_total, dataset.validation_default,
    )  # fmt: skip
    check(spec, info)
    assert plan(spec, info).seconds > 0
    assert not differences(spec, name)
    if entry.twin_of is not None:
        assert entry.twin_of in presets
        assert entry.substitutions, "a short version lists what it substitutes"


@pytest.mark.parametrize("name", list(presets))
def test_every_presets_thumbnail_is_a_drawing_in_colours_there_are(name: str) -> None:
    drawing = presets[name].thumbnail
    root = ElementTree.fromstring(f"<svg>{drawing}</svg>")
    assert {part.tag for part in root.iter()} <= {"svg", "path", "g", "circle", "ellipse"}
    assert len(root) > 0
    inks = set(re.findall(r'(?:fill|stroke)="([^"]+)"', drawing)) - {"none", "currentColor"}
    assert inks <= {f"var(--look-{key})" for key in style.looks()}


def test_a_protocol_fills_what_is_left_open_and_departures_from_it_are_named() -> None:
    modern = parse({"training": {"protocol": "modern", "learning_rate": 0.01}})
    assert modern.data.input_scale == "standardised"
    assert modern.training.sampling == "epoch"
    assert modern.training.schedule == "cosine"
    assert modern.network.options["zero_bias"] is True
    assert [(d.field, d.was, d.now) for d in departures(modern)] == [("training.learning_rate", 1.6e-3, 0.01)]
    keras = parse({"training": {"protocol": "keras"}, "network": {"architecture": "resnet20v1"}})
    assert keras.training.milestones[0].epoch == 81
    assert keras.training.batch_size == 32
    assert not departures(keras)
    assert not departures(parse({}))
    assert parse({"data": {"input_scale": "unit"}, "training": {"protocol": "modern"}}).data.input_scale == "unit"


def test_an_experiment_can_be_put_under_another_protocol() -> None:
    moved = parse(under_protocol(presets["fig-3-short"].call(), "modern"))
    assert moved.training.protocol == "modern"
    assert moved.data.input_scale == "standardised"
    assert moved.training.epochs == 5
    assert moved.ensemble.runs == 5


def test_differences_name_what_was_changed() -> None:
    document = presets["fig-3-short"].call()
    document["ensemble"]["runs"] = 4
    assert [(d.field, d.was, d.now) for d in differences(parse(document), "fig-3-short")] == [("ensemble.runs", 5, 4)]


def test_a_public_set_that_is_not_here_is_planned_only_when_asked() -> None:
    document = {"data": {"dataset": "cifar10", "test_images": 20_000}}
    with pytest.raises(InvalidInput, match=r"10 to 10\D?000"):  # its published size is known
        prepare(document, (), as_published=True)
    document["data"]["test_images"] = 5000
    with pytest.raises(DataMissing, match="modescape data fetch cifar10"):
        prepare(document, ())
    prepared = prepare(document, (), as_published=True)
    assert (prepared.sizes.train, prepared.sizes.test) == (49_500, 5000)
    assert [one.title for one in prepared.missing] == ["CIFAR-10"]


def test_prepare_fills_in_what_the_data_say() -> None:
    prepared = prepare({"data": {"dataset": "digits"}}, ())
    assert prepared.sizes.test == 1200
    assert prepared.plan.parameters == 14_378  # SmallCNN on 1x8x8 (science b.1)


@pytest.mark.parametrize(
    "registry", [datasets, architectures, methods, corruptions, figures, presets], ids=lambda r: r.noun
)
def test_every_entry_describes_itself(registry: object) -> None:
    assert len(registry) > 0  # type: ignore[arg-type]
    for name, entry in registry.items():  # type: ignore[attr-defined]
        assert entry.name == name
        assert entry.title
        assert entry.summary.endswith(".")
        assert entry.source
        entry.options()  # every option has a default
        for option, info in entry.options.model_fields.items():
            assert info.description, f"{name}.{option}"


# Every preset's spec before there were fields marked `Added`, its digest, and what its stages' keys were made of.
PROMISES = json.loads((Path(__file__).parent / "promises.json").read_text())


def promised(document: object) -> dict[str, str]:
    """Digest of a spec, and per kind of stage of what, besides its needs, decides the stages' bytes."""
    spec = parse(document)
    found: dict[str, list[object]] = {}
    for stage in plan(spec, published(spec.data.dataset)).stages:
        stored = type(spec).model_validate_json(spec.model_dump_json())
        parts = dict(KINDS[stage.kind].parts(Task.of(stage, stored)))
        if architectures[spec.network.architecture].batch_norm and stage.kind == "predict":
            del parts["reestimated"]  # what is new in them since; networks without batch norm have nothing new
        found.setdefault(stage.kind, []).append([stage.key, parts])
    texts = {kind: json.dumps(parts, sort_keys=True) for kind, parts in sorted(found.items())}
    return {"spec": spec.digest()} | {
        kind: hashlib.sha256(text.encode()).hexdigest()[:16] for kind, text in texts.items()
    }


@pytest.mark.parametrize("name", PROMISES)
def test_what_was_promised_before_a_field_was_added_keeps_its_digest_and_its_keys(name: str) -> None:
    found, before = promised(PROMISES[name]["document"]), PROMISES[name]["promised"]
    assert {kind: found[kind] for kind in before} == before  # kinds of stages that came since were promised nothing


def test_an_added_field_is_in_the_text_once_it_is_set() -> None:
    class Inner(Part):
        old: int = 1
        new: Annotated[int, Added] = 2

    class Outer(Part):
        inners: tuple[Inner, ...] = (Inner(), Inner(new=3))
        options: dict[str, int] = Field({"new": 2})
        added: Annotated[Inner | None, Added] = None

    assert keyed(Outer()) == {"inners": [{"old": 1}, {"old": 1, "new": 3}], "options": {"new": 2}}
    assert keyed(Outer(added=Inner()), "added") == {"added": {"old": 1}}


def test_a_renamed_field_is_read_under_both_names_and_promised_under_the_older() -> None:
    old, new = ({"margins": {name: 1.3}} for name in ("d", "d1"))
    assert parse(old) == parse(new)
    assert parse(old).margins.d1 == 1.3
    assert parse(old).digest() == parse(new).digest()
    assert '"d":1.3' in parse(new).canonical()
    assert '"d1"' not in parse(new).canonical()
    with pytest.raises(InvalidInput, match=r"margins.d1: is given as 'd', its older name, too"):
        parse({"margins": {"d": 1.3, "d1": 1.3}})
    with pytest.raises(InvalidInput, match=r"margins.d1"):
        parse({"margins": {"d": -1}})


# ---- runs that are named, and the first healthy ones ----


def cut(spec_: object) -> tuple[tuple[int, ...], bool]:
    plane = parse(spec_).planes[0]
    return plane.runs, plane.named


THREE = {"data": {"dataset": "digits"}, "ensemble": {"runs": 4}}


@pytest.mark.parametrize(
    ("kind", "first"), [("radial", (0, 1)), ("line", (0, 1)), ("affine", (0, 1, 2)), ("random", (0,))]
)
def test_runs_that_are_written_down_are_named_and_others_are_the_first_healthy(
    kind: str, first: tuple[int, ...]
) -> None:
    left_open, empty, named, others = (
        {**THREE, "planes": [{"kind": kind, **runs}]}
        for runs in ({}, {"runs": []}, {"runs": list(first)}, {"runs": [run + 1 for run in first]})
    )
    assert cut(left_open) == cut(empty) == (first, False)
    assert cut(named) == (first, True)
    assert cut(others) == (tuple(run + 1 for run in first), False)  # which can mean nothing else
    assert parse(left_open).digest() == parse(empty).digest() != parse(named).digest()
    assert parse(parse(named).model_dump(mode="json")) == parse(named)
    assert parse(parse(left_open).model_dump(mode="json")) == parse(left_open)


@pytest.mark.parametrize("part", ["planes", "tunnels"])
def test_a_spec_that_wrote_its_defaults_out_still_means_the_first_healthy_runs(part: str) -> None:
    """As those that were promised before do: they tell their version, and nothing of what was named."""
    spec_ = parse({**THREE, part: [{}]})
    document = spec_.model_dump(mode="json")
    before = [{name: value for name, value in study.items() if name != "named"} for study in document[part]]
    assert before[0]["runs"] == [0, 1]
    assert parse({**document, part: before}).digest() == spec_.digest()
    assert '"named"' not in spec_.canonical()
    written = {key: value for key, value in document.items() if key != "version"} | {part: before}
    assert getattr(parse(written), part)[0].named


@pytest.mark.parametrize("part", ["planes", "tunnels"])
def test_the_form_tells_named_runs_from_the_first_healthy_ones(part: str) -> None:
    from modescape_api.pages.forms import to_document, to_values

    for study in ({}, {"runs": [0, 1]}, {"runs": [1, 2]}):
        spec_ = parse({**THREE, part: [study]})
        whole = spec_.model_dump(mode="json")
        stored_ = [{k: v for k, v in one.items() if k != "named" or v} for one in whole[part]]
        for document in (whole, {**whole, part: stored_}):
            values = to_values(document)
            assert values[f"{part}.0.runs"] == ", ".join(map(str, study.get("runs", ())))
            posted = parse(to_document(values.items()))
            assert getattr(posted, part) == getattr(spec_, part)
