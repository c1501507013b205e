"""Paths between two optima: their geometry by hand, their training resumed bit for bit, and what lies along them."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import modescape as ms
from modescape.errors import InvalidInput
from modescape.figures import THEMES, encode
from modescape.registry import figures, presets
from modescape.science import paths, weights
from modescape.science.data import Shape, Split, make_transform
from modescape.science.networks import build
from modescape.science.predictions import nll
from modescape.science.tunnel import Curve, Polyline, Settings, Slope, Wedges, bend, perpendicular
from modescape.spec import NetworkSpec, parse

A, B = np.array([2.0, 0.0], np.float32), np.array([0.0, 1.0], np.float32)


def test_a_polyline_goes_through_its_knots_and_is_measured_by_its_length() -> None:
    line = Polyline(np.array([[0, 0], [3, 4], [3, 5], [3, 10]], np.float32))  # segments of 5, 1 and 5
    np.testing.assert_allclose(line.length, [0, 5 / 11, 6 / 11, 1])
    found = np.stack(list(line.at(np.array([0, 2.5 / 11, 5 / 11, 8.5 / 11, 1.0]))))
    np.testing.assert_allclose(found, [[0, 0], [1.5, 2], [3, 4], [3, 7.5], [3, 10]], atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "t", "counts"),
    [("bezier", 0.0, (1, 0, 0)), ("bezier", 0.25, (9 / 16, 6 / 16, 1 / 16)), ("bezier", 0.5, (1 / 4, 1 / 2, 1 / 4)),
     ("bezier", 1.0, (0, 0, 1)), ("chain", 0.0, (1, 0, 0)), ("chain", 0.25, (0.5, 0.5, 0)), ("chain", 0.5, (0, 1, 0)),
     ("chain", 0.75, (0, 0.5, 0.5)), ("chain", 1.0, (0, 0, 1))],
)  # fmt: skip
def test_curves_mix_ends_and_bend(kind: Any, t: float, counts: tuple[float, ...]) -> None:
    assert Curve.weights(kind, t) == pytest.approx(counts)
    bent = np.array([5.0, 7.0], np.float32)
    (point,) = Curve(A, bent, B, kind).at(np.array([t]))
    np.testing.assert_allclose(point, counts[0] * A + counts[1] * bent + counts[2] * B, atol=1e-6)


def test_wedges_keep_lengths_and_meet_at_the_points_of_the_path() -> None:
    rng = np.random.default_rng(0)
    points = [rng.normal(size=40).astype(np.float32) for _ in range(4)]
    wedges = Wedges.of(points)
    for k in range(3):
        cosine = np.dot(points[k], points[k + 1]) / np.linalg.norm(points[k]) / np.linalg.norm(points[k + 1])
        assert wedges.spans[k] == pytest.approx(np.arccos(cosine), abs=1e-6)
        np.testing.assert_allclose(wedges.point(k, 0.0, float(wedges.radii[k])), points[k], atol=1e-5)
        np.testing.assert_allclose(
            wedges.point(k, wedges.spans[k], float(wedges.radii[k + 1])), points[k + 1], atol=1e-5
        )
        assert np.linalg.norm(wedges.point(k, 0.3 * wedges.spans[k], 2.5)) == pytest.approx(2.5, abs=1e-5)
    np.testing.assert_allclose(wedges.offsets, np.concatenate([[0], np.cumsum(wedges.spans)]))
    nearly = Wedges.of([points[0], points[0] * 2])
    assert nearly.spans[0] < 1e-6
    np.testing.assert_allclose(nearly.point(0, 0.0, 1.0), points[0] / np.linalg.norm(points[0]), atol=1e-6)


SHAPE = Shape(1, 8, 8, 3)


def slope() -> Slope:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 256)
    images = rng.integers(0, 60, (256, 1, 8, 8)) + 60 * labels[:, None, None, None]
    train = Split(torch.from_numpy(images.astype(np.uint8)), torch.from_numpy(labels))
    return Slope(build(NetworkSpec(architecture="mlp"), SHAPE, seed=0), train, make_transform("unit", train))


def optimum(seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return weights.flatten(build(NetworkSpec(architecture="mlp"), SHAPE, seed=seed))


SETTINGS = Settings(epochs=1, learning_rate=1e-3, batch_size=32, seed=4)


def training_loss(on: Slope) -> Any:
    return lambda thetas: paths.profile(on.network, thetas, {"t": on.train}, on.transform)["t"].loss


def test_knots_stay_in_their_slices_and_are_resumed_bit_for_bit() -> None:
    a, b = optimum(1), optimum(2)
    on, kept = slope(), []
    whole, made = perpendicular(
        on, a, b, SETTINGS, knots=3, loss=training_loss(on), save=lambda k: kept.append(list(k))
    )
    along = (b.astype(np.float64) - a) / np.linalg.norm(b.astype(np.float64) - a)
    for knot in made[:3]:
        away = knot.theta - ((1 - knot.t) * a.astype(np.float64) + knot.t * b)
        assert np.linalg.norm(away) > 1e-3
        assert abs(away @ along) < 1e-4 * np.linalg.norm(away)
    on = slope()
    again, _ = perpendicular(on, a, b, SETTINGS, knots=3, loss=training_loss(on), done=kept[1])
    np.testing.assert_array_equal(whole.knots, again.knots)


@pytest.mark.parametrize("kind", ["bezier", "chain"])
def test_a_bend_is_resumed_bit_for_bit(kind: Any) -> None:
    states: list[dict[str, Any]] = []
    settings = Settings(epochs=20, learning_rate=1e-3, batch_size=32, seed=4)
    whole, steps, _ = bend(slope(), optimum(1), optimum(2), kind, settings, save=lambda n, s: states.append(s))
    assert steps == 160
    again, _, _ = bend(slope(), optimum(1), optimum(2), kind, settings, resume=states[5])
    np.testing.assert_array_equal(whole.bend, again.bend)


TUNNELS = [{"knots": 2, "images": 100, "triangle_images": 20}, {"method": "bezier", "images": 100, "triangles": False}]
SPEC = {
    "data": {"dataset": "digits", "train_images": 300, "validation_images": 100, "test_images": 200},
    "training": {"epochs": 4, "batch_size": 32, "snapshots": 0},
    "ensemble": {"runs": 2},
    "tunnels": TUNNELS,
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return ms.run(SPEC, folder=tmp_path_factory.mktemp("tunnel"))


@pytest.mark.slow
def test_the_ends_of_a_tunnel_are_the_runs_and_barriers_follow_from_the_profile(lab: Any) -> None:
    assert {stage.state for stage in lab.stages} == {"succeeded"}
    truth = lab.true_labels("test")[:100]
    scores = [nll(lab.logits(s, "test")[:100], truth) for s in lab.solutions(role="optimum")]
    for i in range(2):
        profile = lab.array(lab.extra("tunnel", f"{i}")["profile"])
        for line in (0, 1):  # path, straight
            assert profile[line, 1, 0, [0, -1]] == pytest.approx(scores, abs=1e-4)
            assert profile[line, 1, 2, 0] == profile[line, 1, 3, -1] == 1.0
            t = np.linspace(0, 1, 61)
            for j, split in enumerate(("train", "test")):
                curve = profile[line, j, 0]
                rise = max(curve - ((1 - t) * curve[0] + t * curve[-1]))
                name = ("path", "straight")[line]
                found = [m.value for m in lab.measurements(metric="barrier/loss", subject=f"tunnel/{i}")
                         if (m.split, m.details["line"]) == (split, name)]  # fmt: skip
                assert found == [pytest.approx(rise, abs=1e-12)]
    kept = lab.extra("triangles", "0")
    surface = lab.array(kept["surface"])
    assert surface.shape == (len(kept["spans"]), 4, 16, 32)
    np.testing.assert_allclose(surface[:-1, :, -1], surface[1:, :, 0], atol=0.06)  # neighbours share a border


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [("tunnel", {}), ("tunnel", {"tunnel": 1, "split": "train", "panel": "loss", "size": "page"}), ("triangles", {}),
     ("triangles", {"panel": "loss", "size": "page"})],
)  # fmt: skip
def test_the_figures_of_tunnels_are_drawn(lab: Any, name: str, options: dict[str, Any]) -> None:
    data = figures[name].call(lab, figures[name].options(**options))
    assert data.rows()
    assert len(data.rows()[0]) == len(data.columns)
    assert "n = 1 pair" in data.caption
    for theme in THEMES:
        assert len(gzip.compress(encode(figures[name].draw(data, theme)))) < 300_000


@pytest.mark.slow
def test_a_figure_of_a_tunnel_that_is_not_there_says_which_are(lab: Any) -> None:
    with pytest.raises(InvalidInput, match="no tunnel 2") as refused:
        figures["tunnel"].call(lab, figures["tunnel"].options(tunnel=2))
    assert [problem.allowed for problem in refused.value.problems] == ["0 to 1"]


@pytest.mark.slow
def test_on_real_images_losses_connect_and_functions_do_not(tmp_path: Path) -> None:
    spec = presets["s2-short"].call()
    spec["data"] |= {"train_images": 6000, "validation_images": 500, "test_images": 1000}
    spec["training"] |= {"epochs": 3, "halve_every": 1, "snapshots": 0}
    spec["tunnels"] = [{"images": 500, "triangles": False, "knots": 5}]
    lab = ms.run(spec, folder=tmp_path)
    path, straight = lab.array(lab.extra("tunnel", "0")["profile"])
    worse = max(path[0, 0, [0, -1]])
    assert max(straight[0, 0]) > 1.5 * worse  # training loss of the straight line
    assert max(path[0, 0]) <= 1.1 * worse
    assert min(path[1, 1]) > min(path[1, 1, [0, -1]]) - 0.05  # test accuracy stays
    assert path[1, 2, 30] < 0.95  # and agreement with A does not
    assert path[1, 2, -1] < 0.92


@pytest.mark.parametrize(
    ("tunnel", "field"),
    [({"runs": [1, 1]}, "tunnels.0.runs"), ({"runs": [0, 2]}, "tunnels.0.runs"),
     ({"method": "warp"}, "tunnels.0.method"),
     ({"knots": 0}, "tunnels.0.knots")],
)  # fmt: skip
def test_tunnels_that_cannot_be_are_refused_by_name(tunnel: dict[str, Any], field: str) -> None:
    from modescape.plan import prepare

    with pytest.raises(InvalidInput) as refused:
        prepare(SPEC | {"tunnels": [tunnel]}, ())
    assert field in {problem.field for problem in refused.value.problems}


@pytest.mark.parametrize("name", ["s2", "s2-short", "s3", "s3-short", "connectivity", "connectivity-short"])
def test_the_presets_ask_for_what_they_say(name: str) -> None:
    spec = parse(presets[name].call())
    assert spec.tunnels or spec.connectivity
    assert (presets[name].twin_of is None) == (spec.data.dataset == "cifar10")
