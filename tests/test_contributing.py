"""Every diff of CONTRIBUTING.md is applied to a copy of the product and tried there: one file, known everywhere."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from forked import forks

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"^## I want to add an? (.+?)\n.*?```diff\n(.*?)```", TEXT, flags=re.S | re.M))

COMPILE_ONCE = "import sys; sys.dont_write_bytecode = False\n"  # whatever the environment says: the copy is ours
TRY = """
import json, sys
import httpx, modescape as ms
from modescape import registry
from modescape.claims import CLAIMS
from modescape.science import isotonic
from modescape_api.pages import forms
isotonic.REDRAWS = 600
known = {kind: [*getattr(registry, kind)] for kind in
         ("datasets", "architectures", "methods", "corruptions", "studies", "figures", "presets",
          "schedules")}
form = json.dumps([str(section) for section in forms.sections(forms.defaults(), was=forms.defaults())])
spec = {
    "data": {"dataset": "digits", "train_images": 200, "validation_images": 50, "test_images": 100,
             "input_scale": "unit"},
    "network": {"architecture": "mlp", "options": {"first": 24, "second": 16}},
    "training": {"epochs": 4, "batch_size": 20, "learning_rate": 0.01, "snapshots": 3},
    "ensemble": {"runs": 3},
    "evaluation": {"embed_images": 20, "embed_runs": 2},
}
kind = sys.argv[1]
if kind == "method":
    spec["methods"] = [{"method": "shrinkage", "spread": 3, "typical": 2}]
if kind == "network":
    spec |= {"network": {"architecture": "one-layer"}, "connectivity": {"points": 3, "images": 20}}
if kind == "data set":
    spec["data"] = {"dataset": "bands", "train_images": 200, "validation_images": 100, "input_scale": "unit"}
if kind == "corruption":
    spec["shift"] = {"corruptions": ["negative"], "images": 20, "members": 2}
if kind == "part of a training":
    spec["training"] |= {"schedule": "sawtooth"}
if kind == "study":
    spec["studies"] = {"pruning": {"shares": [0, 0.5]}}
if kind == "claim":
    spec["margins"] = {"i": 0.25}
done = ms.run(spec, folder="home", name="Tried")
print(json.dumps({
    "file": registry.__file__,
    "known": known,
    "form": [name for name in ("shrinkage", "one-layer", "bands", "sawtooth", "studies.pruning.shares", "margins.i")
             if name in form],
    "states": sorted({str(stage.state) for stage in done.stages}),
    "drawn": {"figure": lambda: len(done.figure("run-accuracies").data),
              "study": lambda: len(done.figure("pruning").data)}.get(kind, int)(),
    "claims": [*CLAIMS],
    "margin": getattr(done.claim("i"), "margin", None) if kind == "claim" else None,
}))
"""
ENTRIES = {
    "method": ("methods", "shrinkage"), "network": ("architectures", "one-layer"), "data set": ("datasets", "bands"),
    "corruption": ("corruptions", "negative"), "part of a training": ("schedules", "sawtooth"),
    "figure": ("figures", "run-accuracies"),
    "study": ("studies", "pruning"), "preset": ("presets", "small-batches"), "claim": ("claims", "i"),
}  # fmt: skip


# A column of a list is no entry of a registry: it is looked for where lists are asked and shown.
TRY_COLUMN = """
import json, sys
from pathlib import Path
from serving import SPEC, served
from modescape import registry
with served(Path("home")) as site, site.client() as client:
    row = site.laboratory.create(SPEC, name="ours")
    site.laboratory.create({**SPEC, "training": {**SPEC["training"], "epochs": 3}}, name="another")
    def asked(**query):
        return client.get("/api/experiments", params=query).json()
    of_list = client.get("/api/openapi.json").json()["paths"]["/api/experiments"]["get"]
    print(json.dumps({
        "file": registry.__file__,
        "recipe": row.recipe,
        "found": asked(recipe=row.recipe),
        "sorted": [item["recipe"] for item in asked(sort="-recipe")["items"]],
        "wrong": asked(recipe__gt="a"),
        "unknown": asked(receipt="a"),
        "one": client.get(f"/api/experiments/{row.slug}").json()["recipe"],
        "csv": client.get("/api/experiments?format=csv").text,
        "parameters": of_list["parameters"],
        "example": of_list["responses"]["200"]["content"]["application/json"]["example"]["items"],
        "usual": client.get("/").text,
        "page": client.get("/?columns=recipe").text,
    }))
"""


LIBRARIES = ("torch", "torchvision", "sklearn.manifold", "sklearn.decomposition", "scipy.optimize", "plotly.io",
             "plotly.graph_objects", "fastapi", "uvicorn", "sqlalchemy.dialects.sqlite", "alembic.command", "httpx",
             "safetensors.numpy", "pydantic_settings", "PIL.ImageSequence")  # fmt: skip
Tried = Callable[[str, str], Any]


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tried]:
    """What a script tells of a copy of the product to which one recipe is applied, in a process of its own."""
    copy = tmp_path_factory.mktemp("copy")
    for package in ("worker", "backend", "frontend", "migrations"):
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))

    def apply(kind: str, *more: str) -> None:
        subprocess.run(["git", "apply", *more, "-"], cwd=copy, input=RECIPES[kind], text=True, check=True)

    with forks(*LIBRARIES) as run:

        def tried(kind: str, script: str) -> Any:
            assert RECIPES[kind].count("+++ b/") == 1
            apply(kind)
            folder = tmp_path_factory.mktemp("tried")
            path = (copy / "worker", copy / "backend", ROOT / "tests")
            found = json.loads(
                run(COMPILE_ONCE + script, folder, kind, path=path, MODESCAPE_HOME="kept").splitlines()[-1]
            )
            apply(kind, "--reverse")
            assert found["file"].startswith(str(copy))
            return found

        yield tried


def test_every_recipe_is_tried() -> None:
    assert RECIPES.keys() == {*ENTRIES, "list column"}


@pytest.fixture(scope="module")
def told(tried: Tried) -> Any:
    return tried("list column", TRY_COLUMN)


@pytest.mark.slow
def test_a_column_of_one_entry_filters_and_sorts_the_store(told: Any) -> None:
    assert [item["name"] for item in told["found"]["items"]] == ["ours"]
    assert len(set(told["sorted"])) == 2
    assert told["sorted"] == sorted(told["sorted"], reverse=True)


@pytest.mark.slow
def test_a_column_of_one_entry_is_in_documents_and_csv(told: Any) -> None:
    assert told["found"]["items"][0]["recipe"] == told["one"] == told["recipe"]
    assert told["recipe"] in {line["recipe"] for line in csv.DictReader(told["csv"].splitlines())}


@pytest.mark.slow
def test_a_column_of_one_entry_is_said_in_sentences_and_errors(told: Any) -> None:
    assert told["found"]["query"] == f"Experiments where recipe is {told['recipe']}, newest first"
    assert "recipe__contains" in json.dumps(told["wrong"])
    assert "recipe" in re.split(r"\W+", json.dumps(told["unknown"]))


@pytest.mark.slow
def test_a_column_of_one_entry_is_a_parameter_and_in_the_example_of_the_interface(told: Any) -> None:
    [parameter] = [parameter for parameter in told["parameters"] if parameter["name"] == "recipe"]
    assert parameter["schema"] == {"type": "string"}
    assert parameter["description"].startswith("Equal ones share trainings. Also `recipe__ne`")
    assert told["example"][0]["recipe"] == "c41f…"
    assert list(told["example"][0]) == list(told["found"]["items"][0])


@pytest.mark.slow
def test_a_column_of_one_entry_is_a_choice_a_heading_and_a_cell_of_the_page(told: Any) -> None:
    assert re.search(r'<a href="[^"]*columns=[^"]*recipe">\+ Recipe</a>', told["usual"])
    assert ">Recipe</a></th>" not in told["usual"]
    heading = (
        r'<th class="opt" scope="col" data-column="recipe"><a id="head-recipe" href="[^"]*sort=recipe[^"]*">Recipe</a>'
    )
    assert re.search(heading, re.sub(r"\s*\n\s*", "", re.sub(r"\s+(data-column)", r" \1", told["page"])))
    assert f'<td class="opt">{told["recipe"]}</td>' in told["page"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ENTRIES)
def test_a_recipe_is_one_file_that_is_known_everywhere(kind: str, tried: Tried) -> None:
    found = tried(kind, TRY)
    registry, name = ENTRIES[kind]
    assert name in (found["known"] | {"claims": found["claims"]})[registry]
    assert found["states"] == ["succeeded"]
    in_form = {
        "study": "studies.pruning.shares",
        "claim": "margins.i",
        "corruption": None,
        "figure": None,
        "preset": None,
    }
    assert found["form"] == [control for control in [in_form.get(kind, name)] if control]
    assert found["drawn"] == {"figure": 1, "study": 3}.get(kind, 0)
    assert found["margin"] == (pytest.approx(math.log(0.25)) if kind == "claim" else None)
