"""The command line as people type it, against a real folder."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from modescape.cli import main
from modescape.executor import Executor
from modescape.laboratory import Laboratory
from modescape.settings import Settings

SPEC: dict[str, Any] = {
    "data": {"dataset": "digits", "train_images": 200, "test_images": 300},
    "training": {"epochs": 3, "batch_size": 40, "snapshots": 4},
    "ensemble": {"runs": 2, "seed": 5},
    "methods": [{"method": "random", "spread": 3, "typical": 2}, {"method": "averaging"}],
}


def modescape(home: Path, *arguments: str, given: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """A command in this process, with an environment, an input and outputs of its own."""
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.dict(os.environ, MODESCAPE_HOME=str(home), **environment), patch("sys.stdin", io.StringIO(given)),
        redirect_stdout(out), redirect_stderr(err),
    ):  # fmt: skip
        status = main(arguments)
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


def process(home: Path, *arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    script = f"import sys; from modescape.cli import main\n{before}\nsys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, "MODESCAPE_HOME": str(home)}, capture_output=True, text=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `modescape run` has done one small experiment."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "small.json").write_text(json.dumps(SPEC), encoding="utf-8")
    ran = process(folder, "run", str(folder / "small.json"))
    assert ran.returncode == 0, ran.stderr
    assert "Independent runs disagree on" in ran.stdout
    lines = ran.stderr.splitlines()
    assert lines[0] == f"stage 1/{len(lines)}: train 0", "a line for each stage, for this is no terminal"
    assert "\r" not in ran.stderr
    return folder


@pytest.fixture(scope="module")
def exported(home: Path) -> Path:
    ended = modescape(home, "export", "small", str(home / "export"))
    assert ended.returncode == 0, ended.stderr
    return home / "export"


@pytest.mark.slow
def test_an_exported_folder_holds_everything_and_its_checksums_are_true(home: Path, exported: Path) -> None:
    out = exported
    sums = dict(reversed(line.split("  ")) for line in (out / "SHA256SUMS").read_text().splitlines())
    assert {"spec.json", "solutions.json", "README.md", "figures/plane.html", "figures/plane.csv"} <= set(sums)
    for name, digest in sums.items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest, name
    solutions = json.loads((out / "solutions.json").read_text())
    optimum = next(s for s in solutions if s["role"] == "optimum")
    kept = optimum["predictions"]["test"]
    logits = np.load(out / "artifacts" / f"{kept['artifact']}.npy")[kept["index"]]
    assert logits.shape == (300, 10)
    again = modescape(home, "export", "small", str(out))
    assert again.returncode == 1
    assert "not empty" in again.stderr
    assert json.loads((out / "spec.json").read_text())["training"]["epochs"] == 3


@pytest.mark.slow
def test_the_exported_spec_runs_again_without_computing_anything(home: Path, exported: Path) -> None:
    ran = modescape(home, "run", str(exported / "spec.json"), "--name", "small again")
    assert ran.returncode == 0, ran.stderr
    assert "Independent runs disagree" in ran.stdout
    laboratory = Laboratory(Settings(home=home))
    computed = [stage.kind for stage in laboratory.results("small-again").stages if not stage.reused_from]
    laboratory.store.close()
    assert computed == []


class Ended(io.StringIO):
    """A terminal at which somebody has typed Ctrl-D."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    "asked",
    [("purge", "quickstart"), ("migrate", "--to", "base"), ("users", "add", "bob"), ("users", "password", "ada")],
)
@pytest.mark.parametrize("kind", [io.StringIO, Ended])
def test_a_command_that_nobody_answers_says_so(tmp_path: Path, asked: tuple[str, ...], kind: type[io.StringIO]) -> None:
    assert modescape(tmp_path, "launch", "quickstart", "--name", "quickstart").returncode == 0
    added = modescape(tmp_path, "users", "add", "ada", "--admin", "--password-stdin", given="correct horse\n")
    assert added.returncode == 0, added.stderr
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.dict(os.environ, MODESCAPE_HOME=str(tmp_path)), patch("sys.stdin", kind()),
        patch("getpass.getpass", side_effect=EOFError), redirect_stdout(out), redirect_stderr(err),
    ):  # fmt: skip
        status = main(asked)
    assert status == 1
    assert err.getvalue().startswith("modescape: ")
    laboratory = Laboratory(Settings(home=tmp_path))
    assert laboratory.store.experiments.get("quickstart")
    assert [one.name for one in laboratory.store.users.all()] == ["ada"]
    laboratory.store.close()


@pytest.mark.slow
def test_verify_finds_a_changed_file_and_purge_frees_bytes(home: Path, tmp_path: Path) -> None:
    assert modescape(home, "verify").returncode == 0
    spec = {**SPEC, "training": {**SPEC["training"], "epochs": 2}, "methods": SPEC["methods"][:1]}
    other = modescape(home, "run", "-", "--name", "short lived", given=json.dumps(spec))
    assert other.returncode == 0, other.stderr
    refused = modescape(home, "purge", "short-lived", "--yes")
    assert refused.returncode == 1
    assert "archive" in refused.stderr
    laboratory = Laboratory(Settings(home=home))
    laboratory.store.experiments.archive("short-lived")
    assert modescape(home, "purge", "short-lived", given="no\n").returncode == 1
    purged = modescape(home, "purge", "short-lived", "--yes")
    assert purged.returncode == 0, purged.stderr
    assert float(purged.stdout.partition("freed ")[2].split()[0]) > 0
    assert modescape(home, "verify").returncode == 0, "what the other experiment uses is still there"
    victim = next(path for path in sorted((home / "artifacts").glob("??/*.npy")))
    content = victim.read_bytes()
    victim.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    damaged = modescape(home, "verify")
    assert damaged.returncode == 1
    assert f"damaged  {victim.stem}" in damaged.stdout
    assert "done again: " in damaged.stdout
    for row in laboratory.store.experiments.page().items:
        Executor(laboratory.store, laboratory.artifacts, laboratory.settings).run_experiment(row.id)
    assert victim.read_bytes() == content, "made again, to the bit"
    assert modescape(home, "verify").returncode == 0


@pytest.mark.slow
def test_many_are_changed_put_away_and_counted_in_groups(home: Path) -> None:
    """By a line of the search box; what is left of it afterwards is what was there."""
    slug = Laboratory(Settings(home=home)).store.experiments.page().items[0].slug
    assert modescape(home, "views", "keep", "The best", "q=accuracy>0.1&sort=-accuracy").stdout == "the-best\n"
    changed = modescape(home, "change", "--search", "accuracy>0.1", "--tag", "good", "--project", "Modes")
    assert changed.stdout.endswith(": changed\n"), changed.stderr
    assert f"{slug} " in modescape(home, "list", "tag=good", "--view", "the-best").stdout
    counted = json.loads(modescape(home, "list", "--by", "project", "--json").stdout)["items"]
    assert counted[0]["project"] == "Modes"
    assert counted[0]["n"] == len(json.loads(modescape(home, "list", "tag=good", "--json").stdout)["items"])
    refused = modescape(home, "change", slug, "--archive", "--tag", "x")
    assert (refused.returncode, "--archive" in refused.stderr) == (1, True)
    assert modescape(home, "change", slug, "nowhere", "--archive").returncode == 1, "one of them is not there"
    assert slug not in modescape(home, "list").stdout
    assert modescape(home, "change", slug, "--restore").returncode == 0
    assert modescape(home, "change", "--search", "tag:good", "--untag", "good", "--project", "").returncode == 0
    assert modescape(home, "views", "remove", "the-best").returncode == 0
    assert modescape(home, "views").stdout == ""


LATER = ("torch", "scipy", "sklearn", "plotly", "alembic", "httpx", "modescape.plan", "modescape.exporting",
         "modescape.stages", "modescape.comparing")  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "never"),
    [
        (("--help",), ("numpy", "pydantic", "sqlalchemy", "modescape.settings", "modescape.registry", "httpx")),
        (("lits",), ("numpy", "pydantic", "sqlalchemy", "modescape.settings", "modescape.registry", "httpx")),
        pytest.param(("list",), ("modescape.imported", *LATER), marks=pytest.mark.slow),
        pytest.param(("show", "small"), LATER, marks=pytest.mark.slow),
    ],
)
def test_a_command_loads_only_what_it_needs(
    request: pytest.FixtureRequest, tmp_path: Path, arguments: tuple[str, ...], never: tuple[str, ...]
) -> None:
    home = request.getfixturevalue("home") if arguments[0] in ("list", "show") else tmp_path  # the others look nowhere
    say = "import atexit; atexit.register(lambda: print('LOADED', *sys.modules))"
    said = process(home, *arguments, before=say)
    loaded = said.stdout.partition("LOADED ")[2].split()
    assert loaded, said.stderr
    assert [name for name in never if name in loaded] == []


def test_settings_and_data_are_listed(tmp_path: Path) -> None:
    listed = modescape(tmp_path, "settings", MODESCAPE_TOKEN="secret-word")
    assert listed.returncode == 0
    assert "MODESCAPE_PORT" in listed.stdout
    assert "secret-word" not in listed.stdout
    data = modescape(tmp_path, "data")
    assert data.returncode == 0
    rows = {line.split()[0]: line for line in data.stdout.splitlines()}
    assert "here" in rows["digits"]
    assert "modescape data fetch cifar10" in rows["cifar10"]
    assert "170 MB" in rows["cifar10"] or "163 MB" in rows["cifar10"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "nowhere.json"), "neither a preset nor a file"),
        (("data", "fetch"), "which data set"),
        (("data", "fetch", "nothing"), "nothing"),
        (("run", "fig-2"), "modescape data fetch cifar10"),
    ],
)
def test_mistakes_are_one_clear_sentence(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    ended = modescape(tmp_path, *arguments)
    assert ended.returncode == 1
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_a_broken_spec_names_every_field(tmp_path: Path) -> None:
    ended = modescape(tmp_path, "run", "-", given=json.dumps({"ensemble": {"runs": 0}, "training": {"epochs": 10**9}}))
    assert ended.returncode == 1
    assert "ensemble.runs" in ended.stderr
    assert "training.epochs" in ended.stderr
    assert modescape(tmp_path, "run", "-", given="{not json").returncode == 1


def test_a_bad_setting_is_named(tmp_path: Path) -> None:
    ended = modescape(tmp_path, "settings", MODESCAPE_PORT="a lot")
    assert ended.returncode == 1
    assert "MODESCAPE_PORT" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_migrating_to_base_and_back(tmp_path: Path) -> None:
    for target in ("head", "base", "head"):
        if target == "base":
            refused = modescape(tmp_path, "migrate", "--to", target)
            assert refused.returncode == 1
            assert "back to base destroys everything in it; --yes says that this is meant" in refused.stderr
        done = modescape(tmp_path, "migrate", "--to", target, *(["--yes"] if target == "base" else []))
        assert done.returncode == 0, done.stderr
