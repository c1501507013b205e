"""Every command of the README is one that was run: shell lines and notebook by the journey, the method here."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)


def shell_lines() -> list[str]:
    """Commands of the shell blocks, and those in backquotes that begin with `modescape`, without comments."""
    lines = [line.split("   #")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    inline = re.findall(r"`(modescape [^`…]+)`", README)
    return [line for line in dict.fromkeys([*lines, *inline]) if line]


def test_no_command_in_the_readme_is_of_a_kind_nobody_runs() -> None:
    known = (
        "make run",
        "make test",
        "make check",
        "make bench",
        "curl ",
        "modescape ",
        "export ",
        "docker compose up",
        "pip install modescape",
    )
    assert not [line for line in shell_lines() if not line.startswith(known)]


def test_the_pictures_are_there() -> None:
    for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (ROOT / picture).exists(), picture


def test_the_numbers_on_the_cover_are_those_of_the_kept_results() -> None:
    rows = [*training_rows(), prediction_row(), map_row(), list_row(), coverage_row()]
    assert "\n".join(rows) in README, "the README should say:\n" + "\n".join(rows)


def kept(name: str) -> Any:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))


def beside(what: str, row: Any, machine: str) -> str:
    low, high = row["range"]
    return f"| {what} | {row['ratio']:.1f} times | {low:.1f} to {high:.1f} | {row['n']} | {machine} |"


def training_rows() -> list[str]:
    """Of benchmarks/stepping.py: also where we are not faster."""
    found = kept("stepping")
    titles = {"small-cnn": "SmallCNN", "medium-cnn": "MediumCNN", "resnet20v1": "ResNet20v1"}
    return [
        beside(f"Training, {title}, {precision}, beside a loop in memory", row["by hand"], found["machine"])
        for name, title in titles.items() for precision in ("float32", "bfloat16")
        if (row := found["rows"].get(f"{name}, {precision}")) is not None
    ]  # fmt: skip


def prediction_row() -> str:
    found = kept("predicting")
    row = found["rows"]["SmallCNN, 3x32x32, one function"]
    return beside("Predictions, SmallCNN, float32, beside a frozen and fused graph", row, found["machine"])


def map_row() -> str:
    found = kept("analysis")
    row = found["rows"]["t-SNE of 500 functions, 10,000 x 10"]
    return beside("t-SNE of 500 functions, beside scikit-learn's on their outputs", row, found["machine"])


def list_row() -> str:
    found = kept("web")
    row = found["rows"]["100,000 experiments, sqlite"]["ms"]["filter and sort, page"]
    return (
        f"| A filtered and sorted page of 100,000 experiments, SQLite | {row['p50']:.0f} ms "
        f"| 95 of 100 within {row['p95']:.0f} ms | {row['n']} | {found['machine']} |"
    )


def coverage_row() -> str:
    """From docs/coverage.md: every claim at n = 5 runs, in runs that are even, uneven and failing."""
    page = (ROOT / "docs" / "coverage.md").read_text(encoding="utf-8")
    each = re.search(r"5 classes, (\d+) in every cell", page)
    cells = re.findall(r"^\| [a-h]\d? \|[^|]+\|[^|]+\| (\d\.\d+) ", page, flags=re.MULTILINE)
    assert each is not None
    assert len(cells) == 3 * 11
    shares = sorted(100 * float(cell) for cell in cells)
    return (
        "| Truths that the verdict's 95 % intervals contain, five runs "
        f"| {statistics.median(shares):.1f} % "
        f"| {shares[1]:.1f} to {shares[-1]:.0f} %, and {shares[0]:.0f} % (f1 where runs fail) "
        f"| {len(cells)} kinds of {each[1]} made-up problems | seeded |"
    )


def notebook(experiment: str) -> str:
    """The README's notebook with this in place of its experiment, and without its last step: opening a window."""
    (block,) = [block for block in blocks("python") if 'ms.run("quickstart")' in block]
    return block.replace('ms.run("quickstart")', f"ms.run({experiment})").replace(".show()", ".to_dict()")


@pytest.mark.slow
def test_the_notebook_runs_in_a_temporary_folder() -> None:
    """On a smaller experiment; the journey runs it on Quickstart, in a folder that is kept."""
    small = {
        "data": {"dataset": "digits", "train_images": 400, "validation_images": 100},
        "training": {"epochs": 2, "batch_size": 20},
        "methods": [{"method": "random", "spread": 3, "typical": 3}],
    }
    done = subprocess.run([sys.executable, "-c", notebook(repr(small))], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert "Independent runs disagree on" in done.stdout


@pytest.mark.slow
def test_the_method_of_the_readme_is_a_method(tmp_path: Path) -> None:
    definition = next(block for block in blocks("python") if "@method" in block)
    (tmp_path / "own_methods.py").write_text(definition, encoding="utf-8")
    code = (
        "import numpy as np\n"
        "from modescape.plugins import load\n"
        "from modescape.registry import methods\n"
        "from modescape.methods.method import Neighbourhood\n"
        "load(('own_methods',))\n"
        "entry = methods['sign-flip']\n"
        "around = Neighbourhood(np.ones(1000, np.float32))\n"
        "draw = entry.call(around, entry.options(), 0.25, np.random.default_rng(0))\n"
        "print((draw.theta == -1).mean())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 0.2 < float(done.stdout) < 0.3
