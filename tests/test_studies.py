"""What every declared study promises, whoever declared it: a place in spec, form, plan and pages, and a folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

import modescape.studies
from modescape.errors import InvalidInput
from modescape.registry import Study, figures, modules_of, presets, studies
from modescape.spec import ExperimentSpec, is_ours, parse, stored, with_studies
from modescape.spec import studies as asked_in
from modescape_api.pages import forms

ROOT = Path(__file__).parent.parent
SMALL: dict[str, Any] = {
    "data": {"dataset": "digits", "train_images": 200, "validation_images": 100, "test_images": 100},
    "network": {"architecture": "mlp", "options": {"first": 8, "second": 8}},
    "training": {"epochs": 8, "batch_size": 20},
    "ensemble": {"runs": 3},
}
NEEDED = {"ood": {"dataset": "uniform-noise"}}  # what has no default
every_study = pytest.mark.parametrize("entry", studies.values(), ids=list(studies))


def with_one(entry: Study) -> dict[str, Any]:
    one = NEEDED.get(entry.name, {})
    return {**SMALL, entry.name: [one] if entry.is_many else one}


@every_study
def test_its_typed_line_in_the_spec_is_what_it_declares(entry: Study) -> None:
    line = ExperimentSpec.model_fields[entry.name]
    assert entry.options in get_args(line.annotation)
    assert line.description == entry.summary
    assert (line.default == ()) == entry.is_many


def test_the_spec_has_no_study_that_is_not_declared() -> None:
    lines = [name for name in ExperimentSpec.model_fields if is_ours(name) and name in studies]
    folders = {name.rpartition(".")[2] for name in modules_of(modescape.studies.__name__)}
    assert lines == list(studies), "in the order of the form"
    assert folders == {entry.options.__module__.split(".")[2] for entry in studies.values()}


@every_study
def test_its_figures_and_presets_are_in_its_folder(entry: Study) -> None:
    folder = entry.options.__module__.rpartition(".")[0]
    about_it = {name for name, figure in figures.items() if set(figure.needs) & set(entry.stages)}
    there = {name for name, figure in figures.items() if figure.draw.__module__.startswith(f"{folder}.")}
    assert about_it == there
    own = [name for name in presets if presets[name].call.__module__.startswith(f"{folder}.")]
    assert all(asked_in(parse(presets[name].call())) for name in own)


@every_study
def test_a_clone_can_have_it_and_what_it_needs(entry: Study) -> None:
    bare = parse({**SMALL, "ensemble": {"runs": 1}}).model_dump(mode="json")
    more = forms.with_more(bare, entry.name)
    assert (more == bare) == (not entry.is_ready)
    if entry.is_ready:
        assert [place.split(".")[0] for place, _ in asked_in(parse(more))] == [entry.name]
        assert more["ensemble"]["runs"] >= entry.runs
        assert forms.with_more(more, entry.name) == more


@every_study
def test_the_form_gives_back_what_it_was_given(entry: Study) -> None:
    spec = parse(with_one(entry))
    again = parse(forms.to_document(forms.to_values(spec.model_dump(mode="json")).items()))
    assert again.digest() == spec.digest()
    assert [
        row.title for row in forms.sections(forms.defaults(), was={})[-1].rows if row.name.startswith(entry.name)
    ] == ([f"{entry.title} {i + 1}" for i in range(entry.rows)] if entry.is_many else [entry.title])


def test_studies_are_replaced_where_they_stand() -> None:
    spec = parse({**SMALL, "tunnels": [{}, {"epochs": 2}], "connectivity": {}})
    found = dict(asked_in(spec))
    assert list(found) == ["tunnels.0", "tunnels.1", "connectivity"]
    longer = found["tunnels.1"].model_copy(update={"epochs": 7})
    changed = with_studies(spec, {"tunnels.1": longer})
    assert [one.epochs for one in changed.tunnels] == [3, 7]
    assert changed.connectivity == spec.connectivity
    assert with_studies(spec, {}) == spec


def test_a_folder_holds_what_is_asked_and_what_is_done() -> None:
    for folder in modules_of(modescape.studies.__name__):
        assert {f"{folder}.study", f"{folder}.stages"} <= set(modules_of(folder))


# ---- one from outside ----

OWN = """
from typing import Annotated

from pydantic import Field

from modescape.prices import Work
from modescape.stages.stage import planner, stage
from modescape.study import StudySpec, ThroughRuns, study


@study("others", title="Others", summary="Another set.", source="a test", absent="No others were asked for.", stages=())
class Others(StudySpec):
    dataset: str = Field("digits", description="Which set.")


@study("widths", title="Widths", summary="How wide it is.", source="a test", absent="No widths were asked for.",
       stages=("width",), most=3, rows=1, runs=2)
class Widths(ThroughRuns):
    runs: tuple[int, ...] = Field((0, 1), description="Two runs.")
    depth: Annotated[int, Field(ge=1, le=9)] = Field(2, description="How deep.")


@planner("widths", after="connectivity")
def plan(draft):
    for i, asked in enumerate(draft.spec.asked("widths")):
        draft.add("width", f"{i}", {"depth": asked.depth}, Work(other=1), wants=draft.keys("predict"))


@stage("width")
def width(context):
    pass
"""
ASK = """
import json
from own_widths import Widths
from modescape.errors import InvalidInput
from modescape.plan import prepare
from modescape.spec import parse, stored, studies, unknown
from modescape_api.http.replies import encode
from modescape_api.pages import forms
from modescape_api.resources.catalogue import _known_here

document = {"data": {"dataset": "digits"}, "studies": {"widths": [{}, {"runs": [0, 1], "depth": 3}]}}
spec = parse(document)
values = forms.to_values(spec.model_dump(mode="json"))
problems = []
for wrong in ({"widths": [{"depth": 0}]}, {"heights": {}}, {"widths": {}}, {"widths": [{}] * 4}, {"tunnels": {}}, []):
    try:
        parse({"studies": wrong})
    except InvalidInput as error:
        problems.append([[p.field, p.allowed] for p in error.problems])
blank = parse({}).model_dump(mode="json")
print(json.dumps({
    "asked": [place for place, _ in studies(spec)],
    "named": [one.named for one in spec.asked("widths")],
    "kinds": [kind.kind for kind in prepare(document, ()).plan.kinds],
    "again": parse(forms.to_document(values.items())).digest() == spec.digest(),
    "read": stored(spec.model_dump(mode="json")).digest() == spec.digest(),
    "stands": json.loads(spec.canonical())["studies"],
    "problems": problems,
    "more": forms.with_more(blank, "widths")["studies"],
    "runs": forms.with_more({**blank, "ensemble": {"runs": 1}}, "widths")["ensemble"]["runs"],
    "unknown": unknown({"data": {"dataset": "digits"}, "studies": {"others": {"dataset": "gone"}}}),
    "known": json.loads(encode(_known_here()))["studies"][-1]["field"],
    "rows": [row.name for row in forms.sections(values, was=values)[-1].rows][-3:],
    "place": forms.place(forms.Problem("x", "spec.studies.widths.1.depth"), document, values).field,
}))
"""


@pytest.mark.slow
def test_one_from_outside_is_asked_for_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "own_widths.py").write_text(OWN, encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", ASK], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["asked"] == ["studies.widths.0", "studies.widths.1"]
    assert found["named"] == [False, True], "runs that are written down are meant"
    assert found["kinds"][-1] == "width"
    assert found["again"]
    assert found["read"]
    assert found["stands"]["widths"][1] == {"named": True, "runs": [0, 1], "depth": 3}
    fields = [[field for field, _ in problems] for problems in found["problems"]]
    assert fields == [
        ["studies.widths.0.depth"], ["studies.heights"], ["studies.widths"], ["studies.widths"], ["studies.tunnels"],
        ["studies"],
    ]  # fmt: skip
    assert found["problems"][0][0][1] == "1 to 9"
    assert found["problems"][1][0][1] == "others, widths"
    assert found["unknown"] == ["the data set 'gone'"]
    assert found["more"] == {"widths": [{}]}
    assert found["runs"] == 2
    assert found["known"] == "studies.widths"
    assert found["rows"] == ["studies.widths.0", "studies.widths.1", "studies.widths.2"]
    assert found["place"] == "studies.widths.1.depth"


def test_one_that_is_not_loaded_here_is_kept_as_it_stands() -> None:
    document = {**parse(SMALL).model_dump(mode="json"), "studies": {"widths": [{"depth": 3}]}}
    spec = stored(document)
    assert spec.studies == {"widths": [{"depth": 3}]}
    assert asked_in(spec) == []
    assert forms.to_values(document)["ensemble.runs"] == "3"
    with pytest.raises(InvalidInput, match=r"studies.widths: is not a study of a plug-in"):
        parse(document)
