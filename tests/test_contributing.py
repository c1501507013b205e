"""Every diff of CONTRIBUTING.md is applied to a copy of the product and tried there: one file, known everywhere."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"^## I want to add an? (.+?)\n.*?```diff\n(.*?)```", TEXT, flags=re.S | re.M))

TRY = """
import json, sys
import httpx, modescape as ms
from modescape import registry
from modescape.claims import CLAIMS
from modescape_api.pages import forms
known = {kind: [*getattr(registry, kind)] for kind in
         ("datasets", "architectures", "methods", "corruptions", "studies", "figures", "presets")}
form = json.dumps([str(section) for section in forms.sections(forms.defaults(), was=forms.defaults())])
spec = {
    "data": {"dataset": "digits", "train_images": 200, "validation_images": 100, "input_scale": "unit"},
    "network": {"architecture": "mlp", "options": {"first": 24, "second": 16}},
    "training": {"epochs": 8, "batch_size": 20, "learning_rate": 0.005},
    "ensemble": {"runs": 3},
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
if kind == "study":
    spec["studies"] = {"pruning": {"shares": [0, 0.5]}}
if kind == "claim":
    spec["margins"] = {"i": 0.25}
done = ms.run(spec, folder="home", name="Tried")
print(json.dumps({
    "file": registry.__file__,
    "known": known,
    "form": [name for name in ("shrinkage", "one-layer", "bands", "studies.pruning.shares", "margins.i")
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
    "corruption": ("corruptions", "negative"), "figure": ("figures", "run-accuracies"),
    "study": ("studies", "pruning"), "preset": ("presets", "small-batches"), "claim": ("claims", "i"),
}  # fmt: skip


def test_every_recipe_is_tried() -> None:
    assert RECIPES.keys() == ENTRIES.keys()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ENTRIES)
def test_a_recipe_is_one_file_that_is_known_everywhere(kind: str, tmp_path: Path) -> None:
    for package in ("worker", "backend", "frontend", "migrations"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    assert RECIPES[kind].count("+++ b/") == 1
    subprocess.run(["git", "apply", "-"], cwd=tmp_path, input=RECIPES[kind], text=True, check=True)
    places = os.pathsep.join([str(tmp_path / "worker"), str(tmp_path / "backend")])
    done = subprocess.run(
        [sys.executable, "-c", TRY, kind], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
        env={**os.environ, "PYTHONPATH": places, "MODESCAPE_HOME": str(tmp_path / "kept")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    registry, name = ENTRIES[kind]
    assert found["file"].startswith(str(tmp_path))
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
