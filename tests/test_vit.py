"""A vision transformer of timm goes through every stage, as an ordinary network: no batch norm, fused attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import modescape as ms

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

VIT = {
    "model": "vit_tiny_patch16_224", "dropout": 0.1,
    "arguments": ["patch_size=2", "depth=1", "embed_dim=16", "num_heads=2"],
}  # fmt: skip
SPEC: dict[str, Any] = {
    "data": {"dataset": "digits", "input_scale": "standardised", "train_images": 400, "validation_images": 100,
             "test_images": 200},
    "network": {"architecture": "timm", "options": VIT},
    "training": {"epochs": 12, "batch_size": 40, "learning_rate": 0.005, "snapshots": 6, "checkpoint_every": 6},
    "ensemble": {"runs": 2},
    "evaluation": {"embed_images": 50},
    "planes": [{"kind": "line", "train_images": 10, "test_images": 10}],
    "tunnels": [{"knots": 1, "epochs": 1, "images": 10, "triangles": False}],
    "connectivity": {"points": 3, "images": 50},
    "instability": {"epochs": [0], "repetitions": 1, "points": 3, "images": 20},
    "shift": {"corruptions": ["brightness"], "intensities": [3], "images": 50},
    "ood": [{"dataset": "gaussian-noise", "images": 50}],
}  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Any:
    methods = [{"method": name, "spread": 1, "typical": 5} for name in ms.registry.methods if name != "sgmcmc"]
    return ms.run({**SPEC, "methods": methods}, folder=tmp_path_factory.mktemp("vit"))


def test_every_stage_succeeds_and_runs_learn(lab: Any) -> None:
    assert {stage.state for stage in lab.stages} == {"succeeded"}
    assert min(one.accuracy for one in lab.solutions(role="optimum")) > 0.15, "chance is .1, its standard error .02"
    sampled = {one.method for one in lab.solutions() if one.method}
    assert sampled >= {"random", "dropout", "activation-dropout", "diagonal", "low-rank", "swag"}


def test_heads_and_units_are_aligned_without_changing_the_function(lab: Any) -> None:
    about = lab.extra("connectivity", "0-1")
    assert about["lines"] == ["straight", "aligned"], "what REPAIR would mean behind a layer norm is not known"
    assert about["changed_labels"] == 0
    assert about["cosine"]["aligned"] > about["cosine"]["straight"]
    assert {len(units) for units in about["order"].values()} == {16, 64}
    for units in about["order"].values():
        assert sorted(units) == list(range(len(units)))
    assert np.isfinite(lab.matrix("barrier-loss-aligned", "test").values).all()
