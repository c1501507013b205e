"""Every example runs as it stands, in a folder of its own, and shows its figures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from forked import Forks, forks

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))

# Plotly's own renderer of JSON needs IPython. Quickstart itself is run by the journey: here it has fewer of everything.
SHOWN_AS_JSON = """
import plotly.io, runpy, sys
from dataclasses import replace
from plotly.io.base_renderers import ExternalRenderer
from modescape.registry import presets
from modescape.science import isotonic

class Printed(ExternalRenderer):
    def render(self, figure):
        print(plotly.io.to_json(figure))

plotly.io.renderers["printed"] = Printed()
plotly.io.renderers.default = "printed"
isotonic.REDRAWS = 600
small = presets["quickstart"].call()
small["training"]["epochs"] = small["ensemble"]["runs"] = 4
for method in small["methods"]:
    method |= {"spread": 4, "typical": 4} if "spread" in method else {}
presets.keep({**presets.here, "quickstart": replace(presets["quickstart"], call=lambda: small)})
runpy.run_path(sys.argv[1], run_name="__main__")
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run() -> Iterator[Forks]:
    with forks("torch._dynamo", "torchvision", "sklearn.neural_network", "sklearn.manifold", "sklearn.decomposition",
               "plotly.io", "plotly.graph_objects", "alembic.command", "modescape.executor", "modescape.stages",
               "modescape.laboratory", "modescape.comparing", "modescape.importing_weights") as run:  # fmt: skip
        yield run


def test_there_are_examples() -> None:
    assert EXAMPLES


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_and_shows_its_figures(path: Path, run: Forks, tmp_path: Path) -> None:
    """Figures are shown as JSON, a line each, so that nothing opens a browser; what is kept is kept in the folder."""
    printed = run(SHOWN_AS_JSON, tmp_path, f"{path}", MODESCAPE_HOME=f"{tmp_path / 'home'}")
    shown = path.read_text(encoding="utf-8").count(".show()")
    assert shown
    drawn = [line for line in printed.splitlines() if line.startswith('{"data":')]
    assert len(drawn) >= shown, printed[-4000:]
    assert all(json.loads(line)["data"] for line in drawn)
