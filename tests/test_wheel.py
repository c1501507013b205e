"""What a built wheel holds, and what a newcomer does with it who has twenty files and no torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import numpy as np
import pytest
from without import SERVING, TRAINING

import modescape as ms

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow

JUDGED = """
import json, pathlib, sys
import numpy as np
import modescape as ms

logits = np.stack([np.load(path) for path in sorted(pathlib.Path(".").glob("run_*.npy"))])
lab = ms.analyse(logits, np.load("y.npy"), recipe="same", progress=False)
figure = lab.figure("similarity-runs")
matrix = lab.matrix("disagreement")
print(json.dumps([ms.__file__, lab.sentence(), [one.to_json() for one in lab.claims()], matrix.values.tolist()]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def alone(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the wheel is unpacked, with what makes a Python that starts there lack all but the base package."""
    folder = tmp_path_factory.mktemp("installed")
    zipfile.ZipFile(wheel).extractall(folder)
    (folder / "without.py").write_text((ROOT / "tests" / "without.py").read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "sitecustomize.py").write_text(f"import without\nwithout.install(*{(*TRAINING, *SERVING)!r})\n")
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty networks' logits [500, 6], a file each, and the true labels."""
    folder, rng = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    labels = rng.integers(0, 6, 500)
    for i in range(20):
        logits = rng.normal(size=(500, 6)).astype(np.float32)
        logits[np.arange(500), labels] += 2.5
        np.save(folder / f"run_{i:02d}.npy", logits)
    np.save(folder / "y.npy", labels)
    return folder


def python(*arguments: str, cwd: Path, path: Path, home: Path) -> subprocess.CompletedProcess[str]:
    # before the packages of this environment, also before this working tree
    places = f"{path}{os.pathsep}{sysconfig.get_path('purelib')}"
    environment = {**os.environ, "MODESCAPE_HOME": str(home), "PYTHONPATH": places}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=250, check=False
    )


def test_nothing_is_kept_that_a_process_has_left_where_it_stood() -> None:
    """Folders come to the top level by hand alone; a broker's once came by itself."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    folders = {name.partition("/")[0] for name in listed.splitlines() if "/" in name}
    assert folders == {
        "backend", "worker", "frontend", "migrations", "tests", "benchmarks", "docs", "examples", "locks", ".ci",
    }  # fmt: skip


def test_a_wheel_holds_pages_styles_scripts_and_migrations(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, place in (("frontend", "modescape_api/frontend"), ("migrations", "modescape/migrations")):
        listed = subprocess.run(
            ["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        wanted = {name.replace(folder, place, 1) for name in listed.splitlines()}
        assert wanted
        assert wanted <= names, sorted(wanted - names)[:5]
    assert {"modescape/py.typed", "modescape_api/py.typed"} <= names


def test_twenty_files_say_the_same_without_torch_and_server(alone: Path, files: Path, tmp_path: Path) -> None:
    apart = python("-c", JUDGED, cwd=files, path=alone, home=tmp_path / "a")
    assert apart.returncode == 0, apart.stderr
    where, *found = json.loads(apart.stdout)
    assert where == str(alone / "modescape" / "__init__.py")
    logits = np.stack([np.load(files / f"run_{i:02d}.npy") for i in range(20)])
    lab = ms.analyse(logits, np.load(files / "y.npy"), recipe="same", folder=tmp_path / "b", progress=False)
    matrix = lab.matrix("disagreement")
    assert matrix is not None
    expected = [lab.sentence(), [one.to_json() for one in lab.claims()], matrix.values.tolist()]
    assert found == json.loads(json.dumps(expected))
    labels = logits.argmax(-1)
    differ = (labels[:, None] != labels[None]).mean(-1)
    np.testing.assert_allclose(found[-1], differ, atol=1e-12)


def test_the_command_line_imports_and_exports_without_torch_and_server(
    alone: Path, files: Path, tmp_path: Path
) -> None:
    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return python("-m", "modescape.cli", *arguments, cwd=files, path=alone, home=tmp_path / "home")

    brought = command("import", "run_0[0-4].npy", "--labels", "y.npy", "--recipe", "same", "--name", "five")
    assert brought.returncode == 0, brought.stderr
    assert "Members disagree on" in brought.stdout
    out = tmp_path / "out"
    exported = command("export", "five", str(out))
    assert exported.returncode == 0, exported.stderr
    assert {"similarity-runs.html", "ensembles.csv"} <= {path.name for path in (out / "figures").iterdir()}
    back = command("import", str(out), "--look")
    assert back.returncode == 0, back.stderr
    started = command("up")
    assert started.returncode == 1
    assert "pip install 'modescape[server]'" in started.stderr
