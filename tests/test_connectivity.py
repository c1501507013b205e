"""Straight lines between runs: barriers recomputed from the weights; what alignment changes and what it leaves."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn import told

import modescape as ms
from modescape.architectures.building import build
from modescape.datasets import loading
from modescape.drawing.figure import encode
from modescape.drawing.style import THEMES
from modescape.drawing.words import loss
from modescape.errors import InvalidInput
from modescape.plan import prepare
from modescape.registry import figures
from modescape.science import weights

SPEC: dict[str, Any] = {
    "data": {"dataset": "digits", "train_images": 400, "validation_images": 100, "test_images": 200},
    "training": {"epochs": 6, "batch_size": 32, "snapshots": 0},
    "ensemble": {"runs": 3},
    "connectivity": {"points": 5, "images": 150},
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return ms.run(SPEC, folder=tmp_path_factory.mktemp("lines"))


@pytest.mark.slow
def test_barriers_follow_from_the_weights(lab: Any) -> None:
    """The straight line between runs 0 and 2 in plain torch and numpy."""
    assert {stage.state for stage in lab.stages} == {"succeeded"}
    splits = loading.load(lab.spec.data, lab.laboratory.settings.data_folders)
    network = build(lab.spec.network, splits.shape, seed=0)
    ends = [dict(lab.artifacts.tensors(s.weights)) for s in lab.solutions(role="optimum")]
    losses = []
    for t in np.linspace(0, 1, 5):
        mixed = {k: ((1 - t) * ends[0][k].astype(np.float64) + t * ends[2][k]).astype(np.float32) for k in ends[0]}
        weights.load_tensors(network.eval(), mixed)
        with torch.no_grad():
            logits = network(splits.test.images[:150].float())
        losses.append(float(torch.nn.functional.cross_entropy(logits.double(), splits.test.labels[:150])))
    t = np.linspace(0, 1, 5)
    expected = max(losses - ((1 - t) * losses[0] + t * losses[-1]))
    found = lab.matrix("barrier-loss-straight", "test").values
    assert found[0, 2] == pytest.approx(expected, abs=1e-4)
    for line in ("straight", "aligned", "repaired"):
        for metric in ("loss", "error"):
            matrix = lab.matrix(f"barrier-{metric}-{line}", "train").values
            np.testing.assert_array_equal(matrix, matrix.T)
            assert not np.diag(matrix).any()


@pytest.mark.slow
def test_alignment_brings_weights_together_and_leaves_functions(lab: Any) -> None:
    pairs = np.triu_indices(3, 1)
    straight, aligned = (lab.matrix(f"cosine-{line}", "").values[pairs] for line in ("straight", "aligned"))
    assert (aligned > straight + 0.05).all()
    train = [lab.matrix(f"barrier-loss-{line}", "train").values[pairs] for line in ("straight", "aligned")]
    # in networks this small, on raw pixels, matching finds little: no gain is promised, only no loss beyond noise
    assert train[1].mean() <= 1.05 * train[0].mean()
    assert (train[1] <= 1.25 * train[0]).all()
    for pair in ("0-1", "0-2", "1-2"):
        about = lab.extra("connectivity", pair)
        assert about["changed_labels"] == 0
        assert about["change"] < 1e-5
        for units in about["order"].values():
            assert sorted(units) == list(range(len(units)))


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"quantity": "error", "split": "train", "panel": "aligned", "size": "page"}])
def test_the_figure_is_drawn(lab: Any, options: dict[str, Any]) -> None:
    figure = figures["connectivity"]
    data = figure.call(lab, figure.options(**options))
    assert len(data.rows()) == 3
    assert len(data.rows()[0]) == len(data.columns)
    assert "n = 3 pairs of 3 runs; 150 " in told(data).caption
    assert "on 400 training images" in told(data).caption
    assert "and no label" in told(data).caption
    assert "None is repaired" not in told(data).caption
    traced = replace(data, barriers={line: one for line, one in data.barriers.items() if line != "repaired"})
    assert "None is repaired: the network does not say how it is wired" in told(traced).caption
    assert "None is repaired" not in told(replace(traced, repairs=False)).caption
    for theme in THEMES:
        assert len(gzip.compress(encode(figure.draw(data, theme)))) < 300_000


@pytest.mark.slow
def test_it_is_said_in_how_many_pairs_alignment_and_repair_helped(lab: Any) -> None:
    """Neither has to lower a barrier: whatever they did is counted, never assumed."""
    figure = figures["connectivity"]
    data = figure.call(lab, figure.options(split="train"))
    pairs = np.triu_indices(3, 1)
    found = [lab.matrix(f"barrier-loss-{line}", "train").values[pairs] for line in ("straight", "aligned", "repaired")]
    for words, change in zip(("Aligning", "Repair after it"), np.diff(found, axis=0), strict=True):
        text = next(text for text in told(data).notes.text if text.startswith(words))
        assert f"lowers the barrier of {(change < 0).sum()} of 3 pairs" in text
        assert ("raises that of" in text) == (change > 0).any()
        assert f"mean change {loss(float(change.mean()))} ± {loss(float(change.std(ddof=1)))} nats" in text
    assert f"{loss(float(found[2].mean()))} with activity repaired as well" in told(data).summary


@pytest.mark.slow
def test_batch_norm_statistics_take_the_place_of_repair(tmp_path: Path) -> None:
    """They are estimated anew on every line, so that a repaired one would be the aligned one again."""
    lab = ms.run(
        {
            "data": {"dataset": "digits", "train_images": 60, "validation_images": 20, "test_images": 40},
            "network": {"architecture": "resnet20v1", "options": {"keras_norm": False}},
            "training": {"epochs": 10, "batch_size": 20, "snapshots": 0},
            "ensemble": {"runs": 2},
            "connectivity": {"points": 3, "images": 20},
        },
        folder=tmp_path,
    )
    assert lab.extra("connectivity", "0-1")["lines"] == ["straight", "aligned"]
    assert lab.extra("connectivity", "0-1")["change"] < 1e-5
    assert lab.matrix("barrier-loss-repaired", "test") is None
    data = figures["connectivity"].call(lab, figures["connectivity"].options())
    assert "Batch-norm statistics estimated anew at every point, on 60 training images" in told(data).caption
    assert "epaired" not in told(data).caption
    assert list(data.barriers) == ["straight", "aligned"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"ensemble": {"runs": 1}}, "connectivity"), ({"connectivity": {"points": 2}}, "connectivity.points"),
     ({"connectivity": {"images": 3}}, "connectivity.images")],
)  # fmt: skip
def test_lines_that_cannot_be_drawn_are_refused_by_name(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        prepare(SPEC | changes, ())
    assert field in {problem.field for problem in refused.value.problems}
