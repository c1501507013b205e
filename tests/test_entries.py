"""An entry from outside is one file: it brings its look, its alignment, its family and its thumbnail with it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from modescape.registry import architectures, corruptions, datasets, methods, presets

OWN = '''
import numpy as np

from modescape.architectures.architecture import Layer, architecture
from modescape.corruptions.corruption import corruption
from modescape.datasets.dataset import dataset
from modescape.methods.method import SampledOptions, draw_at, method
from modescape.presets.base import experiment, preset
from modescape.registry import Family, Look
from modescape.science.data.raw import RawData


@dataset("stripes", title="Stripes", source="a test", channels=1, height=8, width=8, classes=("a", "b"),
         train_total=60, test_total=20, validation_default=10)
def stripes(location, spec):
    """Light in every second row or column."""
    images = np.zeros((80, 1, 8, 8), np.uint8)
    images[::2, :, ::2] = images[1::2, :, :, ::2] = 200
    labels = np.arange(80) % 2
    return RawData(images[:60], labels[:60], images[60:], labels[60:], ("a", "b"))


def wiring(network, notes):
    notes.layer(network.hidden, None, "hidden")
    notes.layer(network.head, "hidden", None)


def layers(channels, height, width, classes, options):
    return [Layer(1, channels * height * width, 5), Layer(1, 5, classes)]


@architecture("own-net", title="OwnNet", source="a test", layers=layers, dropout=False, wiring=wiring)
def own_net(channels, height, width, classes, options):
    """Five hidden units."""
    from torch import nn

    class OwnNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden, self.head = nn.Linear(channels * height * width, 5), nn.Linear(5, classes)

        def forward(self, images):
            return self.head(self.hidden(images.flatten(1)).relu())

    return OwnNet()


@architecture("other-net", title="OtherNet", source="a test", layers=layers, dropout=False,
              unaligned="the units of other-net are ordered")
def other_net(channels, height, width, classes, options):
    """Another one."""
    return own_net(channels, height, width, classes, options)


@method("shrink", title="Shrinking", summary="The solution, scaled down.", source="a test", centre="optimum",
        strength="rate", options=SampledOptions, look=Look("bowtie", "dash", "#123456", "#FEDCBA"))
def shrink(around, options, strength, rng):
    return draw_at(around, around.theta * (1 - strength * rng.random()), strength)


@method("plain", title="Plain", summary="No look of its own.", source="a test", centre="optimum", strength="rate",
        options=SampledOptions)
def plain(around, options, strength, rng):
    return draw_at(around, around.theta * (1 - strength), strength)


@corruption("inverted", title="Inverted", family=Family("light", "Light"), small=True, is_random=False,
            cifar=(0.2, 0.4, 0.6, 0.8, 1), imagenet=(0.2, 0.4, 0.6, 0.8, 1))
def inverted(batch, share):
    """Dark is light."""
    return batch.x * (1 - share) + (1 - batch.x) * share


@preset("stripes-short", title="Stripes, short", summary="Three small networks.", paper="", source="a test",
        substitutions=("everything",), thumbnail='<path d="M4 2v38h66"/>')
def stripes_short():
    return experiment({"dataset": "stripes"}, "own-net", {"epochs": 2, "batch_size": 10, "snapshots": 2}, runs=2,
                      methods=[{"method": "shrink", "spread": 2, "typical": 2}],
                      studies={"connectivity": {"points": 3, "images": 20},
                               "shift": {"corruptions": ["inverted"], "images": 20, "members": 2}})
'''

ASK = """
import json
from modescape import plugins, registry
from modescape.errors import InvalidInput
plugins.load(("own_entries",))
from modescape.corruptions.corruption import applicable
from modescape.drawing import style
from modescape.plan import prepare
from modescape_api.resources.catalogue import _known_here
from modescape_api.http.replies import encode
kinds = ("datasets", "architectures", "methods", "corruptions", "presets")
known = json.loads(encode(_known_here()))
document = registry.presets["stripes-short"].call()
planned = prepare(document, ())
try:
    prepare({**document, "network": {"architecture": "other-net"}}, ())
    refused = ""
except InvalidInput as error:
    refused = str(error)
print(json.dumps({
    "last": {kind: [entry["name"] for entry in known[kind]][-2:] for kind in kinds},
    "look": {entry["name"]: entry["look"] for entry in known["methods"]},
    "families": [entry["family"] for entry in known["corruptions"]][-1],
    "css": "--look-shrink: #123456;" in style.css() and "--look-shrink: #FEDCBA;" in style.css(),
    "symbol": style.look("shrink").symbol,
    "applies": "inverted" in applicable(1, 8, 8),
    "parameters": planned.plan.parameters,
    "refused": refused,
}))
"""

RUN = """
import modescape as ms
from modescape import plugins, registry
plugins.load(("own_entries",))
done = ms.run("stripes-short", folder="home")
states = {stage.kind: stage.state for stage in done.stages}
print(sorted({str(stage.state) for stage in done.stages}), "connectivity" in states, "corrupt" in states)
drawn = str(done.figure("plane").to_dict())
print("#123456" in drawn)
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_entries.py").write_text(OWN, encoding="utf-8")
    return folder


def said(script: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=folder, timeout=280)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_entries_from_outside_come_last_and_bring_what_ours_have(own: Path) -> None:
    found = json.loads(said(ASK, own))
    assert found["last"] == {
        "datasets": ["huggingface", "stripes"], "architectures": ["own-net", "other-net"],
        "methods": ["shrink", "plain"],
        "corruptions": ["saturate", "inverted"], "presets": ["claims-short", "stripes-short"],
    }  # fmt: skip
    assert found["look"]["shrink"] == "shrink"
    assert found["look"]["plain"].startswith("spare-")
    assert found["families"] == "light"
    assert found["css"]
    assert found["symbol"] == "bowtie"
    assert found["applies"]
    assert found["parameters"] == 64 * 5 + 5 + 5 * 2 + 2
    assert "the units of other-net are ordered, so they cannot be aligned" in found["refused"]


@pytest.mark.slow
def test_an_experiment_of_entries_from_outside_is_done_aligned_and_drawn(own: Path) -> None:
    assert said(RUN, own) == "['succeeded'] True True\nTrue\n"


@pytest.mark.parametrize("registry", [datasets, architectures, methods, corruptions, presets], ids=lambda r: r.noun)
def test_no_two_of_our_entries_claim_one_place(registry: object) -> None:
    places = [entry.place for entry in registry.values()]  # type: ignore[attr-defined]
    assert len(set(places)) == len(places)
    assert places == sorted(places)


@pytest.mark.slow
def test_threads_that_look_at_once_see_everything() -> None:
    """The first requests of a server come together, and none is told that there is no such figure."""
    program = (
        "import threading\nfrom modescape.registry import figures, presets\nfound = []\n"
        "def look(): found.append((len(list(figures)), 'plane' in figures, len(presets) > 20))\n"
        "threads = [threading.Thread(target=look) for _ in range(8)]\n"
        "[one.start() for one in threads], [one.join() for one in threads]\nprint(len(set(found)), found[0][1:])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1 (True, True)"


def test_a_name_that_is_not_known_has_the_default() -> None:
    assert methods.get("nobodys") is None
    assert methods.get("random", None) is methods["random"]
