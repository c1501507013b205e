"""Cuts through weight space: geometry by hand, scores against networks built here, and real planes end to end."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from drawn import told
from numpy.typing import NDArray
from serving import SPEC, Served, finished, served
from test_figures import Lab, Point, stages_of

from modescape.database import upgrade
from modescape.drawing import style
from modescape.drawing.figure import csv, encode
from modescape.drawing.reading import FigureNotReady
from modescape.drawing.style import THEMES
from modescape.errors import InvalidInput, StageInterrupted
from modescape.executor import Executor, Machine
from modescape.laboratory import Laboratory
from modescape.plan import prepare
from modescape.prices import Work
from modescape.records import StageOutput
from modescape.registry import architectures, figures, presets
from modescape.results import Results
from modescape.science import landscape
from modescape.settings import Settings
from modescape.spec import ExperimentSpec, parse
from modescape.stages import filling
from modescape.stages import runner as real
from modescape.stages.control import StageControl
from modescape.store import Store
from modescape.store.leases import Lease
from modescape.studies.landscape import stages as stage
from modescape.studies.landscape.reading import PlaneData, computed
from modescape.studies.landscape.study import PlaneSpec

if TYPE_CHECKING:
    from modescape.artifacts import Artifacts

Vector = NDArray[np.float32]


def vector(*values: float) -> Vector:
    return np.array(values, dtype=np.float32)


def drawn(seed: int, size: int = 40) -> Vector:
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


# ---- geometry ----


def test_the_nodes_of_a_radial_plane_are_those_of_the_specification() -> None:
    plane = landscape.radial(vector(3, 0, 4), vector(0, 2, 0))  # norms 5 and 2, at right angles
    axes = plane.axes(33)
    expected = [5 * (i - 2) / 24 for i in range(33)]
    assert axes.x == pytest.approx(expected, abs=1e-12)
    assert axes.y == pytest.approx(expected, abs=1e-12)
    assert axes.x[2] == 0
    assert axes.x[26] == 5
    fine = plane.axes(65)
    assert len(fine.x) == 65
    assert fine.x[::2] == pytest.approx(expected, abs=1e-12)


def test_the_nodes_reach_the_second_optimum_by_whole_steps() -> None:
    # |P2| = 1.5 |P1| upwards: nodes go up to 36/24 instead of 30/24; across they stay
    axes = landscape.radial(vector(4, 0), vector(0, 6)).axes(33)
    assert (len(axes.x), len(axes.y)) == (33, 39)
    assert axes.y[0] == pytest.approx(-4 * 2 / 24)
    assert axes.y[-1] == pytest.approx(6)
    # a second optimum behind the origin: x must reach -1, two steps of 1/24 below it are no longer enough
    behind = landscape.radial(vector(1, 0), vector(-1, 1)).axes(33)
    assert behind.x[0] == pytest.approx(-1)
    assert len(behind.x) == 33 + 22
    with pytest.raises(InvalidInput, match="nodes along an axis") as refused:
        landscape.radial(vector(1, 0), vector(0, 90)).axes(33)
    assert refused.value.field == "solutions"


def test_solutions_that_are_nodes_come_back_bit_for_bit() -> None:
    a, b, c = (drawn(seed, 5000) for seed in range(3))
    radial = landscape.radial(a, b)
    axes = radial.axes(33)
    assert np.array_equal(radial.at(axes.x[26], axes.y[2]), a)
    assert not radial.at(axes.x[2], axes.y[2]).any()
    line = landscape.line(a, b)
    nodes = line.axes(65).x
    assert np.array_equal(line.at(nodes[8]), a)
    assert np.allclose(line.at(nodes[56]), b, rtol=1e-6, atol=1e-7)
    affine = landscape.affine([a, b, c])
    assert any(np.array_equal(affine.at(0.0), theta) for theta in (a, b, c))


def test_projections_are_those_worked_out_by_hand() -> None:
    plane = landscape.radial(vector(3, 0, 0, 0), vector(2, 4, 0, 0))
    assert plane.anchors == pytest.approx(np.array([[3, 0], [2, 4]]))
    place = plane.place(vector(1, 2, 2, 0))  # 2 above the plane of the first two coordinates; norm 3
    assert (place.x, place.y) == (pytest.approx(1), pytest.approx(2))
    assert place.residual == pytest.approx(2)
    assert place.relative == pytest.approx(2 / 3)
    assert np.isnan(plane.place(vector(0, 0, 0, 0)).relative)
    line = landscape.line(vector(0, 1), vector(0, 5))
    place = line.place(vector(3, 2))
    assert (place.x, place.y, place.residual) == (pytest.approx(1), 0, pytest.approx(3))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_an_affine_plane_contains_its_three_points(order: tuple[int, ...]) -> None:
    thetas = [drawn(seed) + 3 for seed in order]
    plane = landscape.affine(thetas)
    axes = plane.axes(33)
    assert (len(axes.x), len(axes.y)) == (33, 33)
    sides = [np.linalg.norm(thetas[i] - thetas[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert plane.unit == pytest.approx(max(sides), rel=1e-6)
    for theta, (x, y) in zip(thetas, plane.anchors, strict=True):
        assert plane.at(x, y) == pytest.approx(theta, abs=1e-5)
        place = plane.place(theta)
        assert (place.x, place.y) == (pytest.approx(x, abs=1e-5), pytest.approx(y, abs=1e-5))
        assert place.residual == pytest.approx(0, abs=1e-5)
        assert axes.x[0] <= x <= axes.x[-1]
        assert axes.y[0] <= y <= axes.y[-1]
    apart = [np.linalg.norm(plane.anchors[i] - plane.anchors[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert apart == pytest.approx(sides, rel=1e-6)  # distances on the picture are distances in weight space


def test_a_random_direction_has_the_norms_of_the_solutions_filters() -> None:
    layout = [("conv.weight", (4, 2, 3)), ("conv.bias", (4,)), ("head.weight", (2, 5)), ("norm.weight", (2,))]
    theta = drawn(0)
    found = landscape.filter_normalised(drawn(1), theta, layout)
    for start, stop, rows in ((0, 24, 4), (28, 38, 2)):
        ours, own = found[start:stop].reshape(rows, -1), theta[start:stop].reshape(rows, -1)
        assert np.linalg.norm(ours, axis=1) == pytest.approx(np.linalg.norm(own, axis=1), rel=1e-6)
        told = drawn(1)[start:stop].reshape(rows, -1)  # the direction within a filter stays
        assert ours / np.linalg.norm(ours, axis=1)[:, None] == pytest.approx(
            told / np.linalg.norm(told, axis=1)[:, None], rel=1e-5
        )
    assert not found[24:28].any()
    assert not found[38:].any()
    plane = landscape.through("random", [theta], layout=layout, seed=3)
    assert np.array_equal(plane.at(0, 0), theta)
    assert plane.axes(33).x == pytest.approx([(i - 16) / 16 for i in range(33)])
    place = plane.place(plane.at(0.5, -0.25))  # though the two directions are not orthogonal
    assert (place.x, place.y) == (pytest.approx(0.5, abs=1e-5), pytest.approx(-0.25, abs=1e-5))
    assert place.residual == pytest.approx(0, abs=1e-5)
    other = landscape.through("random", [theta], layout=layout, seed=4)
    assert not np.allclose(plane.first, other.first)


def test_points_that_span_nothing_are_refused() -> None:
    a = drawn(0)
    for kind, points in (("radial", [a, 2 * a]), ("affine", [a, 2 * a, 3 * a]), ("line", [a, a]), ("affine", [a, a])):
        with pytest.raises(InvalidInput) as refused:
            landscape.through(kind, points)  # type: ignore[arg-type]
        assert refused.value.field == "solutions"
        assert refused.value.allowed


def test_scores_are_those_worked_out_by_hand() -> None:
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.2, 0.3, 0.5], [0.5, 0.25, 0.25]]))
    truth, anchors = np.array([0, 1, 0, 1]), np.array([[0, 1, 2, 0], [1, 1, 1, 1]])
    expected = [-np.log([0.7, 0.6, 0.2, 0.25]).mean(), 0.5, 1.0, 0.25]
    assert landscape.score(logits, truth, anchors) == pytest.approx(expected)
    assert landscape.changed(np.array([0.8, 1.0]), np.array([0.6, 1.0])) == pytest.approx([0.5, np.nan], nan_ok=True)
    assert landscape.score(np.full((2, 3), np.inf), truth[:2], anchors[:, :2])[0] == np.inf
    assert landscape.radii(33) == pytest.approx([(i - 2) / 24 for i in range(33)])


# ---- networks ----


def view(images: Any, labels: Any, anchors: Any) -> landscape.View:
    return landscape.View(images, labels, np.atleast_2d(anchors))


@pytest.mark.slow
def test_a_network_without_biases_predicts_the_same_along_each_ray() -> None:
    """ReLU and linear layers without biases are positively homogeneous: labels depend on the direction alone."""
    import torch
    from torch import nn

    from modescape.science import weights
    from modescape.science.data import InputTransform, Split
    from modescape.science.predictions import predict

    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(144, 16, bias=False), nn.ReLU(),
        nn.Linear(16, 5, bias=False),
    )  # fmt: skip
    labels = torch.randint(5, (200,))
    split = Split(torch.randint(0, 256, (200, 1, 6, 6), dtype=torch.uint8), labels)
    as_they_are = InputTransform("raw255", np.zeros(1, np.float32), np.ones(1, np.float32))
    first = weights.flatten(network)
    second = (first + np.random.default_rng(0).normal(0, 0.3, first.size)).astype(np.float32)
    gauge = landscape.Gauge(network, as_they_are)
    weights.assign(network, first)
    told = predict(network, split, as_they_are).argmax(-1)
    plane = landscape.radial(first, second)
    truth = labels.numpy()
    for angle in np.linspace(0.1, 6.2, 7):  # all around the origin
        unit = plane.unit * np.array([np.cos(angle), np.sin(angle)])
        rays = [gauge(plane.at(*(r * unit)), [view(split, truth, told)])[0] for r in (0.2, 0.7, 1.0, 1.25)]
        assert np.allclose([scores[1:] for scores in rays], rays[0][1:], atol=1e-12), angle
    origin = gauge(plane.at(0, 0), [view(split, truth, told)])[0]
    assert origin[0] == pytest.approx(np.log(5), abs=1e-6)
    assert origin[1] == (truth == 0).mean()


@pytest.mark.slow
def test_batch_norm_is_estimated_anew_at_every_point() -> None:
    import torch
    from torch import nn

    from modescape.science import weights
    from modescape.science.data import InputTransform, Split
    from modescape.science.predictions import predict

    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4))
    split = Split(torch.randint(0, 256, (60, 1, 6, 6), dtype=torch.uint8), torch.randint(4, (60,)))
    as_they_are = InputTransform("raw255", np.zeros(1, np.float32), np.ones(1, np.float32))
    theta = weights.flatten(network)
    gauge = landscape.Gauge(network, as_they_are, statistics=split)
    found = [gauge(scale * theta, [view(split, split.numpy_labels(), np.zeros(60))])[0] for scale in (1.0, 2.0)]
    weights.assign(network, 2 * theta)
    weights.refresh_batch_norm(network, split, as_they_are, 60)
    logits = predict(network, split, as_they_are)
    assert found[1] == pytest.approx(landscape.score(logits, split.numpy_labels(), np.zeros((1, 60))), abs=1e-9)
    assert not np.allclose(found[0], found[1])


# ---- plan and spec ----


def spec_of(*planes: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "data": {"dataset": "digits", "train_images": 100, "validation_images": 60, "test_images": 150},
        "network": {"architecture": "mlp"},
        "training": {"epochs": 2, "batch_size": 20, "snapshots": 4},
        "ensemble": {"runs": 3, "seed": 5},
        "methods": [{"method": "diagonal", "spread": 0, "typical": 3}],
        "planes": list(planes),
        **more,
    }


def test_a_plane_is_planned_in_blocks_of_rows_with_its_price() -> None:
    chosen = {"kind": "radial", "train_images": 80, "test_images": 150}
    plan = prepare(spec_of(chosen, {"kind": "line"}), ()).plan
    stages = {one.key: one for one in plan.stages if one.kind == "plane"}
    assert list(stages) == ["0/0", "0/1", "0/2", "0/3", "0/points", "1/0", "1/points"]
    # 9 of 33 rows of 33 cells, 230 images each; and 3 ms a cell
    assert stages["0/0"].work == Work(predicted=9 * 33 * 230, other=pytest.approx(9 * 33 * 0.003))
    runs = [(kind, f"{run}") for run in range(3) for kind in ("train", "predict")]
    assert list(stages["0/0"].wants) == runs  # of all, for the first healthy ones are taken
    assert ("sample", "0/diagonal/typical") in stages["0/points"].wants
    assert not any(kind == "sample" for kind, _ in stages["0/0"].wants)
    without = prepare(spec_of(), ()).plan
    # cells of the grid, two rays, two solutions, 3 checkpoints of both runs, 3 samples; and the line with its ends
    cells = (33 * 33 + 66 + 2 + 6 + 3) * 230 + 35 * (100 + 150)
    assert plan.predictions - without.predictions in (cells, cells + 35 * 0)
    assert plan.seconds > without.seconds
    fine = prepare(spec_of({"resolution": 65}), ()).plan
    assert sum(one.kind == "plane" for one in fine.stages) == 9


@pytest.mark.parametrize(
    ("plane", "field", "allowed"),
    [
        ({"kind": "radial", "runs": [0]}, "planes.0.runs", "2 different runs"),
        ({"kind": "radial", "runs": [1, 1]}, "planes.0.runs", "2 different runs"),
        ({"kind": "affine", "runs": [0, 1]}, "planes.0.runs", "3 different runs"),
        ({"kind": "random", "runs": [0, 1]}, "planes.0.runs", "1 run"),
        ({"kind": "line", "runs": [0, 7]}, "planes.0.runs", "0 to 2"),
        ({"resolution": 34}, "planes.0.resolution", "33 or 65"),
        ({"kind": "cubic"}, "planes.0.kind", "'radial'"),
        ({"split": "train"}, "planes.0.split", "'test'"),
        ({"train_images": 5}, "planes.0.train_images", "10 to 1"),
        ({"seed": -1}, "planes.0.seed", "0 to 2"),
    ],
)
def test_what_does_not_fit_together_is_refused(plane: dict[str, Any], field: str, allowed: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        prepare(spec_of(plane), ())
    assert refused.value.field == field
    assert allowed in refused.value.allowed


def test_networks_that_cannot_be_aligned_are_refused_before_they_are_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    network = {**dict(architectures), "plugged-in": replace(architectures["mlp"], name="plugged-in", wiring=None,
                                                               unaligned="its units have no order")}  # fmt: skip
    monkeypatch.setattr(architectures, "_entries", network)
    with pytest.raises(InvalidInput) as refused:
        prepare(spec_of(connectivity={}, network={"architecture": "plugged-in"}), ())
    assert refused.value.field == "connectivity.align"
    prepare(spec_of(connectivity={"align": False}, network={"architecture": "plugged-in"}), ())


def test_validation_images_must_be_there_to_be_evaluated() -> None:
    data = {"dataset": "digits", "train_images": 100, "validation_images": 0}
    with pytest.raises(InvalidInput) as refused:
        prepare(spec_of({"split": "validation"}, data=data, methods=[]), ())
    assert refused.value.field == "planes.0.split"


@pytest.mark.parametrize("name", ["fig-5", "fig-5-short", "s1", "s1-short"])
def test_the_presets_are_specs_with_planes(name: str) -> None:
    preset = presets[name]
    spec = parse(preset.call())
    assert spec.planes
    assert {plane.resolution for plane in spec.planes} == ({33} if preset.twin_of else {65})
    assert bool(preset.twin_of) == bool(preset.substitutions)


# ---- figures ----


def made(resolution: int, *, kind: str = "radial", rows: int | None = None, anchors: int = 2) -> PlaneData:
    """A plane of noise, of which `rows` are computed."""
    random = np.random.default_rng(0)
    nodes = np.array([10 * (i - 2) / 24 for i in range(33)]) if resolution == 33 else np.linspace(-1, 12.5, 65)
    height = 1 if kind == "line" else resolution
    scores = random.random((height, resolution, 2, 2 + anchors))
    scores[..., 0] = np.exp(3 * scores[..., 0])
    if rows is not None:
        scores[rows:] = np.nan
    points = [
        {
            "number": 10 * run + i, "run": run, "role": "optimum" if i == 4 else "checkpoint", "method": None,
            "index": i, "epoch": float(i), "x": 2.0 * i, "y": 1.0 * run, "residual": 1.0, "relative": 0.5 - 0.1 * i,
        }
        for run in range(2)
        for i in range(5)
    ]  # fmt: skip
    params = {"kind": kind, "runs": list(range(anchors)), "resolution": resolution}
    return PlaneData(
        name="0", params=params, x=nodes, y=np.zeros(1) if kind == "line" else nodes, unit=10.0,
        anchors=[[10.0, 0.0], [0.0, 9.0], [4.0, 4.0]][:anchors],
        views=[{"split": "train", "images": 1000}, {"split": "test", "images": 500}], scores=scores,
        points=points if rows is None else [], own=random.random((10 if rows is None else 0, 2, 2 + anchors)),
        rays=random.random((anchors, resolution, 2, 2 + anchors)) if rows is None else np.empty((0, 0, 2, 4)),
        done=(rows if rows is not None else height) * resolution, cells=height * resolution,
    )  # fmt: skip


class Cuts(Lab):
    """An experiment in memory with the optima of three runs and some cuts."""

    def __init__(self, *planes: PlaneData, asked: bool = True) -> None:
        document = {"ensemble": {"runs": 3}, "planes": [{}] if asked else []}
        super().__init__(ExperimentSpec.model_validate(document), np.zeros(4, np.int64))
        self.found = list(planes)
        self.waiting: list[PlaneData] = []  # planned, and nothing computed yet
        for run in range(3):
            self.add(Point(10 * run + 4, run, "optimum", 4, epoch=4.0), np.eye(3)[[0, 1, 2, 0]])

    def stages_of(self, kind: str) -> list[Any]:
        there = [stage for plane in self.found for stage in stages_of(plane, self.kept)]
        there += [stage for plane in self.waiting for stage in stages_of(plane, self.kept, done=False)]
        return [stage for stage in there if stage.kind == kind]


def collected(lab: Any, name: str, **options: Any) -> Any:
    entry = figures[name]
    return entry.call(lab, entry.options.model_validate(options))


@pytest.mark.parametrize(("resolution", "quantity"), [(33, "functions"), (65, "functions"), (65, "loss")])
def test_a_plane_stays_within_the_budget_of_a_figure(resolution: int, quantity: str) -> None:
    data = collected(Cuts(made(resolution)), "landscape", quantity=quantity)
    drawn_ = figures["landscape"].draw(data, "light")
    assert len(gzip.compress(encode(drawn_), 5)) <= 300_000
    assert len({(t.zmin, t.zmax) for t in drawn_.data if t.type == "heatmap"}) == 1  # the same colours in all panels


def test_the_numbers_of_a_plane_are_those_that_were_stored() -> None:
    plane = made(33)
    data = collected(Cuts(plane), "landscape")
    assert [panel.key for panel in data.panels] == ["accuracy", "first", "second"]
    assert np.array_equal(data.panels[0].values, plane.scores[:, :, 1, 1])
    assert np.array_equal(data.panels[2].values, plane.scores[:, :, 1, 3])
    on_training = collected(Cuts(plane), "landscape", split="train")
    assert np.array_equal(on_training.panels[0].values, plane.scores[:, :, 0, 1])
    ratio = collected(Cuts(plane), "landscape", quantity="diversity").panels[1]
    expected = (1 - plane.scores[3, 4, 1, 3]) / (1 - plane.scores[3, 4, 1, 1])
    assert ratio.values[3, 4] == pytest.approx(expected)
    losses = collected(Cuts(plane), "landscape", quantity="loss").panels
    assert np.array_equal(losses[0].values, plane.scores[:, :, 0, 0])
    assert [panel.title for panel in losses] == ["training loss", "test loss"]
    assert len(data.rows()) == 10 + 33 * 33
    first = dict(zip(data.columns, data.rows()[0], strict=True))
    assert first["solution"] == 0
    assert first["residual_over_norm"] == 0.5
    assert first["test_agreement_4"] == pytest.approx(float(plane.own[0, 1, 2]))
    assert csv(data).count("\n") == 1 + len(data.rows())
    assert "run 0, epoch 0, is .50 of its norm away" in told(data).caption


def test_what_is_beyond_the_ceiling_of_the_loss_is_drawn_alike() -> None:
    plane = made(33)
    scores = plane.scores.copy()
    scores[..., 0] = 0.5
    scores[5, 5, 1, 0] = 1e6
    scores[6, 6, 1, 0] = np.inf
    drawn_ = figures["landscape"].draw(
        collected(Cuts(replace(plane, scores=scores)), "landscape", quantity="loss"), "dark"
    )
    maps = [trace for trace in drawn_.data if trace.type == "heatmap"]
    assert maps[0].zmax == pytest.approx(np.log10(10 * np.log(3)))
    assert maps[1].z[5][5] == maps[1].z[6][6] == pytest.approx(maps[0].zmax)
    assert maps[1].text[5][5] != maps[1].text[6][6] == "∞"
    assert maps[0].colorbar.ticktext[-1].startswith("≥")


def test_a_partial_plane_is_drawn_as_it_fills() -> None:
    data = collected(Cuts(made(33, rows=5)), "landscape")
    assert data.partial == "after 165 of 1089 points"
    assert data.missing
    drawn_ = figures["landscape"].draw(data, "dark")
    maps = [trace for trace in drawn_.data if trace.type == "heatmap"]
    assert len(maps) == 3
    assert np.isnan(np.asarray(maps[0].z)[5:]).all()
    assert not [trace for trace in drawn_.data if trace.type == "contour"]  # of half a map they would lie
    ratio = collected(Cuts(made(33, rows=5)), "landscape", quantity="diversity")
    drawn_ = figures["landscape"].draw(ratio, "dark")
    assert not [trace for trace in drawn_.data if trace.type == "contour"]
    assert len(drawn_.layout.shapes) == len(ratio.panels)  # the grey ground
    cuts = collected(Cuts(made(33, rows=5)), "cuts")
    assert [cut.words for cut in cuts.cuts] == ["run 0"]  # its ray is the plane's row through the origin
    assert np.array_equal(cuts.cuts[0].scores, made(33, rows=5).scores[2])


@pytest.mark.parametrize(
    ("kind", "anchors", "surface"), [("radial", 2, "rotatable"), ("affine", 3, "flat"), ("random", 1, "rotatable")]
)
def test_every_kind_of_plane_is_drawn_flat_and_as_a_surface(kind: str, anchors: int, surface: str) -> None:
    data = collected(Cuts(made(33, kind=kind, anchors=anchors)), "landscape", surface=surface, size="page")
    drawn_ = figures["landscape"].draw(data, "dark")
    assert sum(t.type == ("heatmap" if surface == "flat" else "surface") for t in drawn_.data) == 1 + anchors
    assert len(gzip.compress(encode(drawn_), 5)) <= 300_000
    assert drawn_.layout.height == data.page_height
    only = collected(Cuts(made(33, kind=kind, anchors=anchors)), "landscape", panel="first")
    assert [panel.key for panel in only.panels] == ["first"]


def test_barriers_are_measured_from_the_line_between_the_ends() -> None:
    plane = made(33, kind="line")
    at = np.array([(i - 4) / 24 for i in range(33)])
    scores = plane.scores.copy()
    # ends at 1 and 2, a top of 5 in the middle: 5 - 1.5; what lies beyond the ends counts for nothing
    scores[0, :, 0, 0] = np.where(at < 0, 9.0, np.where(at > 1, 9.0, 1 + at))
    scores[0, 16, 0, 0] = 5.0
    data = collected(Cuts(replace(plane, x=10 * at, scores=scores)), "cuts")
    assert data.cuts[0].words == "run 0 to 1"
    assert data.cuts[0].barrier(0) == pytest.approx(3.5)
    assert told(data).notes.lines[0].values[0] == "3.50"
    assert "3.50 nats" in told(data).summary
    for theme in THEMES:
        figures["cuts"].draw(data, theme)


def test_cuts_through_the_same_solutions_are_told_apart() -> None:
    around = made(33, kind="random", anchors=1)
    planes = [replace(around, name=f"{i}", params={**around.params, "seed": i, "split": "test"}) for i in range(2)]
    rays = [replace(made(33), name=name) for name in ("2", "3")]  # the same plane twice: its rays are there once
    lab = Cuts(*planes, *rays)
    data = collected(lab, "cuts")
    random = [f"run 0, dir. {i}, seed {seed}" for seed in range(2) for i in (1, 2)]
    assert [cut.words for cut in data.cuts] == ["run 0", "run 1", *random]
    assert [cut.words for cut in collected(lab, "cuts", plane="1").cuts] == ["run 0, dir. 1", "run 0, dir. 2"]
    drawn_ = figures["cuts"].draw(data, "light")
    cut = [trace for trace in drawn_.data if "seed" in trace.name]
    assert {trace.line.color for trace in cut} == {style.run_ink(0, "light")}, "colour is the run, names part them"
    ends = [label.text.replace("<br>", " ") for label in drawn_.layout.annotations if label.name == "end"]
    assert sorted({trace.name for trace in cut}) == sorted({text for text in ends if "seed" in text})
    offered = figures["landscape"].options.choices(lab)["plane"]
    assert list(offered.items())[:3] == [
        ("0", "random around run 0, seed 0"), ("1", "random around run 0, seed 1"), ("2", "origin · run 0 · run 1"),
    ]  # fmt: skip


def sampled(spread: float) -> PlaneData:
    """A plane with three samples that project to within `spread` of the first solution."""
    plane = made(33)
    drawn_ = {**plane.points[4], "role": "sample", "method": "diagonal"}
    samples = [{**drawn_, "number": 100 + i, "index": i, "x": 8 + spread * i / 2} for i in range(3)]
    rest = np.full((3, *plane.own.shape[1:]), 0.5)
    return replace(plane, points=[*plane.points, *samples], own=np.concatenate([plane.own, rest]))


@pytest.mark.parametrize("surface", ["flat", "rotatable"])
def test_samples_are_drawn_over_their_optimum_and_can_be_looked_at_closely(surface: str) -> None:
    data = collected(Cuts(sampled(0.1)), "landscape", surface=surface)
    traces = [t for t in figures["landscape"].draw(data, "light").data if t.type.startswith("scatter")]
    groups = [t.legendgroup for t in traces if t.mode != "lines"]
    assert "diagonal" in groups
    assert groups.index("independent") < groups.index("diagonal")
    close = collected(Cuts(sampled(0.1)), "landscape", zoom="first")
    low, high = figures["landscape"].draw(close, "light").layout.xaxis.range
    assert (low + high) / 2 == pytest.approx(10)  # where the first solution is
    assert high - low == pytest.approx(2 * 1.25 * 2.0)  # as far as the samples, not as the path, which begins at 0
    beyond = collected(Cuts(sampled(0.1)), "landscape", zoom="third")  # a radial plane has two
    assert figures["landscape"].draw(beyond, "light").layout.xaxis.range[0] < 0


def test_a_figure_without_planes_says_why() -> None:
    for name in ("landscape", "cuts"):
        with pytest.raises(FigureNotReady) as absent:
            collected(Cuts(asked=False), name)
        assert not absent.value.planned
        with pytest.raises(FigureNotReady) as waiting:
            collected(Cuts(), name)
        assert waiting.value.waits_for == ("plane",)
    for name in ("landscape", "cuts"):  # a stale link shows what there is, and says so
        assert "'7'" in collected(Cuts(made(33)), name, plane="7").missing
    asked = Cuts(made(33))
    asked.waiting = [replace(made(33), name="radial-4-24-33")]
    for name in ("landscape", "cuts"):
        with pytest.raises(FigureNotReady) as waiting:
            collected(asked, name, plane="radial-4-24-33")
        assert waiting.value.waits_for == ("plane",)
    data = collected(Cuts(made(33)), "landscape", split="validation")
    assert data.panels[0].title == "test accuracy"
    assert "not on validation" in data.missing


# ---- on demand ----


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("home")) as running:
        finished(running.laboratory)
        yield running


@pytest.fixture(scope="module")
def client(site: Served) -> Iterator[httpx.Client]:
    with site.client() as client:
        yield client


ADDRESS = "/api/experiments/small-one/planes"


@pytest.mark.slow
def test_any_three_solutions_can_be_asked_for(site: Served, client: httpx.Client) -> None:
    answer = client.post(ADDRESS, json={"kind": "affine", "solutions": [2, 5, 7], "resolution": 33})
    assert answer.status_code == 202
    asked = answer.json()
    assert asked["plane"] == "affine-2-5-7-33"
    assert answer.headers["location"] == asked["figure"]
    assert asked["figure"].endswith("/figures/landscape.json?plane=affine-2-5-7-33")
    assert [one["key"].rsplit("/", 1)[1] for one in asked["stages"]] == ["0", "1", "2", "3", "points"]
    again = client.post(ADDRESS, json={"solutions": [2, 5, 7]})  # affine and 33 are the defaults
    assert [one["id"] for one in again.json()["stages"]] == [one["id"] for one in asked["stages"]]
    stages = {one.id: one for one in site.laboratory.store.stages.of("small-one")}
    needs = {(need.kind, need.key) for need in site.laboratory.store.stages.needs(asked["stages"][0]["id"])}
    assert {("train", "0"), ("train", "1"), ("sample", "0/random/spread")} <= needs
    assert stages[asked["stages"][0]["id"]].params["solutions"] == [2, 5, 7]
    waiting = client.get(asked["figure"], headers={"prefer": "respond-async"})
    assert waiting.status_code == 202
    page = client.get(asked["page"])
    assert page.status_code == 200
    assert "No point of this plane is computed yet" in page.text
    assert '<option value="affine-2-5-7-33" selected>' in page.text
    line = client.post(ADDRESS, json={"kind": "line", "solutions": [0, 2]})
    assert line.json()["figure"].endswith("/figures/cuts.json?plane=line-0-2-33")
    assert client.get(line.json()["figure"], headers={"prefer": "respond-async"}).status_code == 202
    assert "an affine cut" in client.post(ADDRESS, json={"solutions": [0, 1]}).json()["errors"][0]["allowed"]


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({}, "solutions"),
        ({"solutions": []}, "solutions"),
        ({"solutions": [0, 1]}, "solutions"),
        ({"solutions": [0, 1, 1]}, "solutions"),
        ({"solutions": [0, 1, 2, 3]}, "solutions"),
        ({"solutions": [0, 1, 999]}, "solutions"),
        ({"solutions": [0, 1, -2]}, "solutions.2"),
        ({"solutions": [0, 1, 2.5]}, "solutions.2"),
        ({"solutions": "0,1,2"}, "solutions"),
        ({"kind": "radial", "solutions": [0, 1, 2]}, "solutions"),
        ({"kind": "random", "solutions": [0, 1]}, "solutions"),
        ({"kind": "cubic", "solutions": [0, 1, 2]}, "kind"),
        ({"solutions": [0, 1, 2], "resolution": 34}, "resolution"),
        ({"solutions": [0, 1, 2], "seed": -1}, "seed"),
        ({"solutions": [0, 1, 2], "colour": "red"}, "colour"),
    ],
)
def test_bad_requests_name_the_field_and_what_is_allowed(
    site: Served, client: httpx.Client, asked: dict[str, Any], field: str
) -> None:
    before = len(site.laboratory.store.stages.without_results("small-one"))
    answer = client.post(ADDRESS, json=asked)
    assert answer.status_code == 422, answer.text
    problems = {problem["field"]: problem for problem in answer.json()["errors"]}
    assert field in problems, answer.text
    assert problems[field]["allowed"] or problems[field]["message"] == "is required"
    assert len(site.laboratory.store.stages.without_results("small-one")) == before


def test_experiments_that_cannot_be_cut_say_why(site: Served, client: httpx.Client) -> None:
    fresh = site.laboratory.create(SPEC, name="nothing done", fresh=True)
    refused = client.post(f"/api/experiments/{fresh.slug}/planes", json={"solutions": [0, 1, 2]})
    assert refused.status_code == 409
    assert "no solutions yet" in refused.json()["detail"]
    site.laboratory.store.experiments.archive(fresh.id)
    assert client.post(f"/api/experiments/{fresh.slug}/planes", json={"solutions": [0]}).status_code == 409
    assert client.post("/api/experiments/none-such/planes", json={"solutions": [0]}).status_code == 404


# ---- real planes ----

RADIAL = {"kind": "radial", "train_images": 50, "test_images": 150}
DONE = ("train", "predict", "sample", "plane")


class Bench:
    """Experiments whose stages of some kinds are done here, one after another."""

    def __init__(self, home: Path) -> None:
        self.laboratory = Laboratory(Settings(home=home))
        upgrade(self.laboratory.settings.database)
        machine = Machine("cpu", "test", "test")
        settings = self.laboratory.settings
        self.executor = Executor(self.store, self.laboratory.artifacts, settings, runner=self, machine=machine)
        self.interrupt_after: int | None = None

    @property
    def store(self) -> Store:
        return self.laboratory.store

    def renewed(self, lease: Lease, output: StageOutput, artifacts: Artifacts) -> StageOutput:
        return output

    def stage_key(self, lease: Lease, numerics: str) -> str:
        return real.stage_key(lease, numerics)

    def run_stage(
        self,
        lease: Lease,
        store: Store,
        artifacts: Artifacts,
        settings: Settings,
        control: StageControl,
        *,
        device: str,
    ) -> StageOutput:
        """The real runner; on first attempts a plane saves at every cell and is told to stop after some."""
        filling.SAVE_EVERY_SECONDS = 10.0
        if lease.stage.kind == "plane" and lease.stage.attempt == 1 and self.interrupt_after is not None:
            filling.SAVE_EVERY_SECONDS = 0.0
            told, last = control.progress, self.interrupt_after

            def progress(step: int, steps: int, **numbers: Any) -> None:
                told(step, steps, **numbers)
                if step == last:
                    control.stop(StageInterrupted("enough"))

            control.progress = progress  # type: ignore[method-assign]
        return real.run_stage(lease, store, artifacts, settings, control, device=device)

    def do(self, experiment_id: str, kinds: tuple[str, ...] = DONE) -> Results:
        while True:
            ready = [s for s in self.store.stages.of(experiment_id) if s.kind in kinds and s.state == "ready"]
            if not ready:
                break
            lease = self.store.leases.claim("test", stage_id=ready[0].id)
            assert lease is not None
            assert self.executor.work(lease) != "failed", self.store.stages.get(ready[0].id).error
        return self.laboratory.results(experiment_id)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made_ = Bench(tmp_path_factory.mktemp("planes"))
    yield made_
    made_.store.close()


@pytest.fixture(scope="module")
def results(bench: Bench) -> Results:
    line = {"kind": "line", "train_images": 50, "test_images": 50}
    return bench.do(bench.laboratory.create(spec_of(RADIAL, line), name="planes").id)


@pytest.mark.slow
def test_a_plane_agrees_with_the_solutions_on_it(results: Results) -> None:
    plane = computed(results)[0]
    optima = results.solutions(role="optimum")
    labels = results.true_labels("test")
    assert (plane.done, plane.cells) == (33 * 33, 33 * 33)
    assert [view["images"] for view in plane.views] == [50, 150]
    assert np.isfinite(plane.scores).all()
    own = {point["number"]: scores for point, scores in zip(plane.points, plane.own, strict=True)}
    # exact points: the stored scores of the same images
    for solution in [s for run in (0, 1) for s in results.solutions(run=run)]:
        if solution.run == 1 and solution.role == "sample":
            assert solution.number not in own  # samples of the first run only
            continue
        scores = own[solution.number]
        assert scores[1, 0] == pytest.approx(results.scores("nll", "test")[solution.number], abs=1e-4)
        assert scores[1, 1] == pytest.approx(results.scores("accuracy", "test")[solution.number], abs=1e-4)
        mine, first = (results.logits(s, "test").argmax(-1) for s in (solution, optima[0]))
        assert scores[1, 2] == pytest.approx((mine == first).mean(), abs=1e-12)
    # the first optimum is a node; the origin is another, where every image is the first class
    node = plane.scores[2, 26]
    assert plane.x[26] == pytest.approx(float(optima[0].norm), rel=1e-6)
    assert node[1, 0] == pytest.approx(results.scores("nll", "test")[optima[0].number], abs=1e-4)
    assert node[1, 1] == pytest.approx(results.scores("accuracy", "test")[optima[0].number], abs=1e-4)
    assert node[:, 2] == pytest.approx(1)
    assert plane.scores[2, 2, 1, 1] == (labels == 0).mean()
    assert plane.scores[2, 2, :, 0] == pytest.approx(np.log(10), abs=1e-6)
    # rays: at 1 the optimum itself, and the first one's is the row of the plane
    assert plane.rays[1, 26] == pytest.approx(own[optima[1].number], abs=1e-6)
    assert plane.rays[0] == pytest.approx(plane.scores[2], abs=1e-5)
    # distances: of the optima 0, of a sample small, and Pythagoras holds
    for point in plane.points:
        kept = next(s for s in results.solutions() if s.number == point["number"])
        whole = np.sqrt(point["x"] ** 2 + point["y"] ** 2 + point["residual"] ** 2)
        assert whole == pytest.approx(float(kept.norm), rel=1e-4)
    assert max(p["relative"] for p in plane.points if p["role"] == "optimum") < 1e-4
    line = computed(results)[1]
    assert line.scores[0, 28, 1, 3] == pytest.approx(1)  # at 1 it agrees with the second optimum


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_real_planes_are_drawn(results: Results, theme: Any) -> None:
    for name in ("landscape", "cuts"):
        data = collected(results, name)
        assert not data.partial
        figures[name].draw(data, theme)
    assert [cut.kind for cut in collected(results, "cuts").cuts] == ["line", "ray", "ray"]


@pytest.mark.slow
def test_a_plane_that_was_interrupted_is_the_same_to_the_byte(bench: Bench, results: Results) -> None:
    bench.interrupt_after = 21
    row = bench.laboratory.create(spec_of(RADIAL), name="again", fresh=True)
    try:
        again = bench.do(row.id)
    finally:
        bench.interrupt_after = None
    kept = {s.key: s for s in results.stages if s.kind == "plane"}
    stages = [s for s in again.stages if s.kind == "plane"]
    assert len(stages) == 5
    for one in stages:
        assert one.attempt == 2
        assert one.history[1]["from_step"] > 0
        assert one.result["extra"]["scores"] == kept[one.key].result["extra"]["scores"]  # sha-256 of the bytes
    kinds = [event.kind for event in bench.store.events.after(experiment_id=row.id)]
    assert "points" in kinds  # open pages are told to draw what is there


@pytest.mark.slow
def test_a_running_plane_is_read_from_what_was_saved(bench: Bench, results: Results) -> None:
    row = bench.laboratory.create(spec_of(RADIAL), name="partial", fresh=True)
    first = next(s for s in bench.store.stages.of(row.id) if s.key == "0/0" and s.kind == "plane")
    bench.interrupt_after = 40
    try:
        bench.do(row.id, ("train", "predict"))
        lease = bench.store.leases.claim("test", stage_id=first.id)
        assert lease is not None
        bench.executor.work(lease)
    finally:
        bench.interrupt_after = None
    plane = computed(bench.laboratory.results(row.id))[0]
    assert plane.done >= 40
    assert np.isfinite(plane.scores[0]).all()
    assert np.isnan(plane.scores[1]).all()  # a row of another block
    assert np.isfinite(plane.scores[4, : plane.done - 33]).all()
    assert np.array_equal(plane.scores[0], computed(results)[0].scores[0])
    assert collected(bench.laboratory.results(row.id), "landscape").partial == f"after {plane.done} of 1089 points"


@pytest.mark.slow
def test_a_plane_through_chosen_solutions_is_computed_for_a_finished_experiment(bench: Bench, results: Results) -> None:
    sample = results.solutions(run=2, role="sample")[0]
    checkpoint = results.solutions(run=1, role="checkpoint")[0]
    optimum = results.solutions(run=0, role="optimum")[0]
    chosen = [sample, checkpoint, optimum]
    stages = {s.id: (s.kind, s.key) for s in results.stages}
    cut = PlaneSpec(kind="affine", train_images=20, test_images=20)
    asked = stage.asked(results.spec, cut, chosen, {s.number: stages[s.stage_id] for s in chosen})
    for planned in asked.stages:
        bench.store.stages.add(results.experiment.id, planned)
    found = bench.do(results.experiment.id)
    plane = next(p for p in computed(found) if p.name == asked.name)
    assert plane.done == plane.cells == 33 * 33
    own = {point["number"]: scores for point, scores in zip(plane.points, plane.own, strict=True)}
    for i, solution in enumerate(chosen):
        assert own[solution.number][:, 2 + i] == pytest.approx(1)
        expected = (found.logits(solution, "test")[:20].argmax(-1) == found.true_labels("test")[:20]).mean()
        assert own[solution.number][1, 1] == pytest.approx(expected)
    data = collected(found, "landscape", plane=asked.name)
    assert [anchor.words for anchor in data.anchors] == ["diagonal Gaussian 1, run 2", "run 1, epoch 0", "run 0"]
