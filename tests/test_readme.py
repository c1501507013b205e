"""Every command of the README is one that was run: shell lines and notebook by the journey, the method here."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

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
    rows = [training_row(), coverage_row()]
    assert all(row in README for row in rows), "the README should say:\n" + "\n".join(rows)


def training_row() -> str:
    """From what `benchmarks/training.py --json` printed. By processor time, which a busy machine disturbs least."""
    found = json.loads((ROOT / "benchmarks" / "training.json").read_text(encoding="utf-8"))
    low, high = found["core_ratio_range"]
    return (
        "| Images that a core trains a second, SmallCNN, beside a loop written by hand "
        f"| {found['core_ratio']:.1f} times | {low:.1f} to {high:.1f} | {found['n']} rounds | {found['machine']} |"
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
