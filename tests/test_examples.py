"""Every example runs as it stands, in a folder of its own, and shows its figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))

# Plotly's own renderer of JSON needs IPython.
SHOWN_AS_JSON = """
import plotly.io, runpy, sys
from plotly.io.base_renderers import ExternalRenderer

class Printed(ExternalRenderer):
    def render(self, figure):
        print(plotly.io.to_json(figure))

plotly.io.renderers["printed"] = Printed()
plotly.io.renderers.default = "printed"
runpy.run_path(sys.argv[1], run_name="__main__")
"""

pytestmark = pytest.mark.slow


def test_there_are_examples() -> None:
    assert EXAMPLES


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_and_shows_its_figures(path: Path, tmp_path: Path) -> None:
    """Figures are shown as JSON, a line each, so that nothing opens a browser; what is kept is kept in the folder."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MODESCAPE_")}
    environment |= {"MODESCAPE_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", SHOWN_AS_JSON, path],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    shown = path.read_text(encoding="utf-8").count(".show()")
    assert shown
    drawn = [line for line in done.stdout.splitlines() if line.startswith('{"data":')]
    assert len(drawn) >= shown, done.stdout[-4000:]
    assert all(json.loads(line)["data"] for line in drawn)
