"""The columns of lists: one entry in the table of fields, and nothing else, makes a column."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modescape import fields

TESTS = Path(__file__).parent

# A process whose table has one entry more: of recipes, which are stored with experiments and listed nowhere.
LONGER = """
import json, sys
from dataclasses import replace
from pathlib import Path

from modescape import fields
from modescape.fields import Cell, Facet, Field, Kind
from modescape.tables import Experiment

added = Field(
    "recipe", Kind.TEXT, Experiment.recipe, "recipe of the trainings", description="Equal ones share trainings.",
    cell=Cell("Recipe"), facet=Facet("Recipes"),
)
fields.EXPERIMENTS = replace(fields.EXPERIMENTS, all=(*fields.EXPERIMENTS.all, added))

from serving import SPEC, served

with served(Path(sys.argv[1])) as site, site.client() as client:
    row = site.laboratory.create(SPEC, name="ours")
    site.laboratory.create({**SPEC, "training": {**SPEC["training"], "epochs": 3}}, name="another")
    def asked(**query):
        return client.get("/api/experiments", params=query).json()
    told = {
        "recipe": row.recipe,
        "found": asked(recipe=row.recipe),
        "sorted": [item["recipe"] for item in asked(sort="-recipe")["items"]],
        "wrong": asked(recipe__gt="a"),
        "unknown": asked(receipt="a"),
        "csv": client.get("/api/experiments?format=csv").text,
        "openapi": client.get("/api/openapi.json").json()["paths"]["/api/experiments"]["get"]["parameters"],
        "page": client.get("/?columns=recipe").text,
    }
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Any:
    home = str(tmp_path_factory.mktemp("longer"))
    ran = subprocess.run([sys.executable, "-c", LONGER, home], cwd=TESTS, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def test_one_entry_filters_and_sorts_the_store(told: Any) -> None:
    assert [item["name"] for item in told["found"]["items"]] == ["ours"]
    assert len(told["sorted"]) == 2
    assert told["sorted"] == sorted(told["sorted"], reverse=True)


def test_one_entry_is_in_documents_and_csv(told: Any) -> None:
    assert told["found"]["items"][0]["recipe"] == told["recipe"]
    assert told["recipe"] in {line["recipe"] for line in csv.DictReader(told["csv"].splitlines())}


def test_one_entry_is_said_in_sentences_and_errors(told: Any) -> None:
    assert told["found"]["query"] == f"Experiments where recipe of the trainings is {told['recipe']}, newest first"
    assert "recipe__contains" in json.dumps(told["wrong"])
    assert "recipe" in re.split(r"\W+", json.dumps(told["unknown"]))


def test_one_entry_is_a_parameter_of_the_interface(told: Any) -> None:
    [parameter] = [parameter for parameter in told["openapi"] if parameter["name"] == "recipe"]
    assert parameter["schema"] == {"type": "string"}
    assert parameter["description"].startswith("Equal ones share trainings. Also `recipe__ne`")


def test_one_entry_is_a_heading_a_cell_and_a_facet_of_the_page(told: Any) -> None:
    page = told["page"]
    assert re.search(r'<th class="opt" scope="col"><a href="[^"]*sort=recipe[^"]*">Recipe</a></th>', page)
    assert f'<td class="opt">{told["recipe"]}</td>' in page
    assert "<h3>Recipes</h3>" in page


@pytest.mark.parametrize("table", [fields.EXPERIMENTS, fields.SOLUTIONS, fields.MEASUREMENTS], ids=lambda t: t.noun)
def test_names_and_keys_are_given_once(table: fields.Fields[Any]) -> None:
    for given in ([field.name for field in table.all], list(table.keys)):
        assert len(given) == len(set(given))
    assert table.sort.removeprefix("-") in table.asked


def test_every_way_of_showing_a_cell_has_its_macro_and_is_used() -> None:
    template = (TESTS.parent / "frontend" / "templates" / "_cells.html").read_text(encoding="utf-8")
    assert sorted(re.findall(r"macro (\w+)\(", template)) == sorted(fields.Shows)
    assert {cell.shows for _, cell in fields.EXPERIMENTS.cells} == set(fields.Shows)
