"""Specs as people write them: YAML and JSON, and the schema by which an editor completes and checks them."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from serving import served

import modescape as ms
from modescape import documents
from modescape.cli import main
from modescape.errors import InvalidInput
from modescape.plan import prepare
from modescape.registry import RECIPE, architectures, datasets, methods, presets
from modescape.schemas import spec_schema, sweep_schema
from modescape.spec import parse
from modescape.sweeps import asked

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
Json = dict[str, Any]


@pytest.fixture(scope="module")
def spec() -> Draft202012Validator:
    return Draft202012Validator(spec_schema())


@pytest.fixture(scope="module")
def sweep() -> Draft202012Validator:
    return Draft202012Validator(sweep_schema())


# -- YAML -------------------------------------------------------------------------------------------------------------

# What YAML 1.2.2 says of plain scalars in its core schema (section 10.3.2), and where version 1.1 says otherwise.
SCALARS: dict[str, Any] = {
    "1e-3": 0.001, "1.6e-3": 0.0016, "2E4": 20000.0, ".5": 0.5, "-7": -7, "+7": 7, "010": 10, "0x1F": 31, "0o17": 15,
    "no": "no", "on": "on", "Yes": "Yes", "true": True, "FALSE": False, "~": None, "null": None, "2026-01-02":
    "2026-01-02", "12:30": "12:30", "1_000": "1_000", "'1'": "1", '"true"': "true", "resnet20v1": "resnet20v1",
}  # fmt: skip


@pytest.mark.parametrize(("text", "value"), SCALARS.items(), ids=SCALARS)
def test_a_scalar_is_what_version_1_2_says(text: str, value: object) -> None:
    found = documents.from_yaml(f"a: {text}")["a"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\nb: 2\na: 3", "'a' is there twice"),
        ("a: {b: 1, b: 2}", "'b' is there twice"),
        ("1: 2", "a name that is no text"),
        ("? [a]\n: 2", "a name that is no text"),
        ("a: [1", "line 1"),
        ("a: .nan", "what JSON cannot"),
        ("a: &b [*b]", "what JSON cannot"),
        ("a: !!binary aGk=", "what JSON cannot"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("a: 1\n---\nb: 2", "expected a single document"),
    ],
)
def test_what_no_spec_can_be_is_refused_with_its_line(text: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as caught:
        documents.from_yaml(text, "mine.yaml")
    assert "mine.yaml" in str(caught.value)


def test_what_is_written_once_may_stand_in_several_places() -> None:
    text = "x: &usual {epochs: 3, batch_size: 8}\ny: {<<: *usual, epochs: 5}\nz: *usual"
    usual = {"epochs": 3, "batch_size": 8}
    assert documents.from_yaml(text) == {"x": usual, "y": usual | {"epochs": 5}, "z": usual}


def test_a_file_says_the_same_in_both_languages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"$schema": "http://x/spec.json", "ensemble": {"runs": 2}}))
    (tmp_path / "a.YML").write_text("# yaml-language-server: $schema=http://x/spec.json\nensemble:\n  runs: 2\n")
    first, second = documents.read(tmp_path / "a.json"), documents.read(str(tmp_path / "a.YML"))
    assert first == second == documents.Written({"ensemble": {"runs": 2}}, "a")
    for text in ("ensemble: {runs: 2}", '{"ensemble": {"runs": 2}}'):
        monkeypatch.setattr("sys.stdin.read", lambda text=text: text, raising=False)
        assert documents.read("-").document == {"ensemble": {"runs": 2}}
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    for name, says in (
        ("b.yaml", "is not text"),
        ("nowhere.yaml", "neither a preset nor a file"),
        ("c.json", "neither"),
    ):
        with pytest.raises(InvalidInput, match=says):
            documents.read(tmp_path / name)


@pytest.mark.slow
def test_a_notebook_runs_a_file(tmp_path: Path) -> None:
    (tmp_path / "few.yaml").write_text(
        "data: {dataset: digits, train_images: 200, test_images: 300}\n"
        "network: {architecture: mlp, options: {first: 8, second: 8}}\n"
        "training: {epochs: 2, batch_size: 40, learning_rate: 3e-3, snapshots: 3}\nensemble: {runs: 2}\n"
    )
    lab = ms.run(tmp_path / "few.yaml", folder=tmp_path / "home", progress=False)
    assert (lab.experiment.name, lab.spec.training.learning_rate) == ("few", 0.003)


# -- the schema -------------------------------------------------------------------------------------------------------


def test_every_preset_and_what_a_home_keeps_of_it_keeps_to_the_schema(spec: Draft202012Validator) -> None:
    Draft202012Validator.check_schema(spec.schema)
    for preset in presets.values():
        for document in (preset.call(), parse(preset.call()).model_dump(mode="json")):
            assert [error.message for error in spec.iter_errors(document)] == [], preset.name


def test_every_example_keeps_to_the_schema_that_its_first_line_names(
    spec: Draft202012Validator, sweep: Draft202012Validator
) -> None:
    assert len(EXAMPLES) >= 2
    for path in EXAMPLES:
        document = documents.read(path).document
        named, known = ("sweep", sweep) if asked.is_sweep(document) else ("spec", spec)
        first = path.read_text(encoding="utf-8").splitlines()[0]
        assert first == f"# yaml-language-server: $schema=http://127.0.0.1:8000/api/schema/{named}.json"
        assert [error.message for error in known.iter_errors(document)] == [], path
        for one in asked.read(document).cells() if named == "sweep" else ():
            parse(one.document)
        if named == "spec":
            parse(document)


WRONG: dict[str, tuple[Json, str]] = {
    "a part": ({"trainig": {}}, "$"),
    "a field": ({"training": {"learning_rte": 0.1}}, "$.training"),
    "a data set": ({"data": {"dataset": "cifar-10"}}, "$.data.dataset"),
    "a network": ({"network": {"architecture": "smallcn"}}, "$.network.architecture"),
    "an option of a network": ({"network": {"architecture": "mlp", "options": {"frist": 3}}}, "$.network.options"),
    "an option of the usual network": ({"network": {"options": {"zero_bais": True}}}, "$.network.options"),
    "another network's option": ({"network": {"architecture": "mlp", "options": {"depth": 3}}}, "$.network.options"),
    "an option's value": ({"network": {"architecture": "mlp", "options": {"first": 0}}}, "$.network.options.first"),
    "a method": ({"methods": [{"method": "radnom"}]}, "$.methods[0].method"),
    "an option of a method": (
        {"methods": [{"method": "random"}, {"method": "low-rank", "options": {"rnak": 2}}]}, "$.methods[1].options",
    ),
    "no method": ({"methods": [{"typical": 3}]}, "$.methods[0]"),
    "an optimiser": ({"training": {"optimiser": "sdg"}}, "$.training.optimiser"),
    "another optimiser's option": (
        {"training": {"optimiser": "adam", "optimiser_options": {"nesterov": True}}}, "$.training.optimiser_options",
    ),
    "a number that is too large": ({"ensemble": {"runs": 1001}}, "$.ensemble.runs"),
    "a number as a text": ({"training": {"epochs": "ten"}}, "$.training.epochs"),
    "a truth as a number": ({"training": {"epochs": True}}, "$.training.epochs"),
    "a margin": ({"margins": {"z": 1.0}}, "$.margins"),
    "a set of other images": ({"ood": [{"dataset": "gaussian"}]}, "$.ood[0].dataset"),
    "a study": ({"studies": {"prunning": {}}}, "$.studies"),
    "a type of shift": ({"shift": {"corruptions": ["fogg"]}}, "$.shift.corruptions[0]"),
}  # fmt: skip


@pytest.mark.parametrize(("document", "place"), WRONG.values(), ids=WRONG)
def test_what_is_misspelt_is_marked_where_it_stands_and_refused_by_the_product_too(
    spec: Draft202012Validator, document: Json, place: str
) -> None:
    error = best_match(spec.iter_errors(document))
    assert error is not None
    assert error.json_path == place
    with pytest.raises(InvalidInput):
        prepare(document, ())


def offered(schema: Json, document: Json, path: list[str | int]) -> list[str]:
    """What an editor offers at a place of a document: of every subschema that applies there, conditions decided by
    what is written so far (as JSON Schema says they are), names of fields and values of an enumeration."""

    def applying(at: Json, value: Any) -> Iterator[Json]:
        yield at
        if "$ref" in at:
            yield from applying(schema["$defs"][at["$ref"].rpartition("/")[2]], value)
        for inner in (*at.get("allOf", ()), *at.get("anyOf", ())):
            yield from applying(inner, value)
        if "if" in at:
            holds = Draft202012Validator({**at["if"], "$defs": schema["$defs"]}).is_valid(value)
            yield from applying(at["then" if holds else "else"], value) if ("then" if holds else "else") in at else ()

    here, value = [*applying(schema, document)], document
    for step in path:
        value = value[step] if isinstance(value, list) or step in value else {}
        within = [one["items"] if isinstance(step, int) else one.get("properties", {}).get(step) for one in here
                  if (("items" in one) if isinstance(step, int) else True)]  # fmt: skip
        here = [found for one in within if one for found in applying(one, value)]
    return [name for one in here for name in (*one.get("properties", ()), *one.get("enum", ()))]


def test_an_editor_completes_names_and_the_options_of_what_is_named(spec: Draft202012Validator) -> None:
    schema = dict(spec.schema)
    assert {"data", "network", "training", "methods", "planes", "tunnels"} <= set(offered(schema, {}, []))
    assert offered(schema, {}, ["data", "dataset"]) == list(datasets)
    assert offered(schema, {}, ["network", "architecture"]) == list(architectures)
    assert offered(schema, {"methods": [{}]}, ["methods", 0, "method"]) == list(methods)
    for name, entry in architectures.items():
        written = {"network": {"architecture": name}}
        assert sorted(offered(schema, written, ["network", "options"])) == sorted(entry.options.model_fields), name
    assert offered(schema, {"network": {}}, ["network", "options"]) == [
        *architectures["small-cnn"].options.model_fields
    ]
    for name, entry in methods.items():
        written = {"methods": [{"method": name}]}
        assert sorted(offered(schema, written, ["methods", 0, "options"])) == sorted(entry.options.model_fields), name
    for part, known in RECIPE.items():
        assert offered(schema, {}, ["training", part]) == list(known)
        for name, entry in known.items():
            written = {"training": {part: name}}
            found = offered(schema, written, ["training", f"{part}_options"])
            assert sorted(found) == sorted(entry.options.model_fields), (part, name)


def test_names_that_fields_once_had_are_read_and_not_recommended(spec: Draft202012Validator) -> None:
    document = {"margins": {"d": 1.2}}
    assert parse(document).margins.d1 == 1.2
    assert spec.is_valid(document)
    assert spec.schema["$defs"]["MarginsSpec"]["properties"]["d"]["deprecated"] is True


def test_a_sweep_is_completed_and_checked_too(sweep: Draft202012Validator) -> None:
    Draft202012Validator.check_schema(sweep.schema)
    paths = sweep.schema["properties"]["over"]["properties"]
    assert {"training.learning_rate", "network.options.first", "methods.dropout.typical", "data.dataset"} <= set(paths)
    assert not {path for path in paths if path in asked.CLOSED or path.startswith(("imported", "weights"))}
    good: Json = {"base": "quickstart", "over": {"training.learning_rate": [1e-3], "methods.random.typical": [2, 3]}}
    assert sweep.is_valid(good)
    assert sweep.is_valid({**good, "base": {"network": {"architecture": "mlp"}}, "paired": True, "runs": 4})
    bad: Mapping[str, Any] = {
        "a preset": {"base": "quikstart"}, "a rate": {"over": {"training.learning_rate": [-1]}},
        "nothing": {"over": {}}, "no values": {"over": {"training.epochs": []}}, "runs": {"runs": 0},
        "a field": {"ovr": 1},
        "inside": {"base": {"network": {"architecture": "mlpp"}}}, "a path": {"over": {"training..epochs": [1]}},
    }  # fmt: skip
    for what, change in bad.items():
        assert not sweep.is_valid({**copy.deepcopy(good), **change}), what


@pytest.mark.slow
def test_server_and_command_line_say_the_same_schema(tmp_path: Path) -> None:
    with served(tmp_path / "home") as site, site.client() as client:
        for name, arguments in (("spec", []), ("sweep", ["--sweep"])):
            answer = client.get(f"/api/schema/{name}.json")
            assert main(["schema", str(tmp_path / f"{name}.json"), *arguments]) == 0
            assert json.loads((tmp_path / f"{name}.json").read_text()) == answer.json()
            again = client.get(f"/api/schema/{name}.json", headers={"If-None-Match": answer.headers["etag"]})
            assert again.status_code == 304
