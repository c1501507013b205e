"""The plug-in package of the tests, installed as pip installs one: into a folder of its own, with its metadata."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

PACKAGE = Path(__file__).parent / "plugin_package"
HERE = Path(__file__).parent


def install(folder: Path, *, version: str | None = None) -> Path:
    """The folder to put on PYTHONPATH, with the package's modules and its distribution's metadata."""
    about = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    shutil.copytree(PACKAGE / "their_lab", folder / "their_lab", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PACKAGE / "their_claim.py", folder)
    told = folder / f"their_lab-{version or about['version']}.dist-info"
    told.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {version or about['version']}\n"
    (told / "METADATA").write_text(metadata, encoding="utf-8")
    points = "".join(f"{name} = {module}\n" for name, module in about["entry-points"]["modescape"].items())
    (told / "entry_points.txt").write_text(f"[modescape]\n{points}", encoding="utf-8")
    (told / "RECORD").write_text("", encoding="utf-8")
    return folder


def environment(folder: Path, home: Path, **more: str) -> dict[str, str]:
    """Of a process beside which the package is installed."""
    return {**os.environ, "PYTHONPATH": str(folder), "MODESCAPE_HOME": str(home), **more}


def python(code: str, folder: Path, home: Path, **more: str) -> str:
    """What a process prints that has the package beside it. Raises AssertionError with what went wrong."""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(folder, home, **more), capture_output=True, text=True,
        timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout
