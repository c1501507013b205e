"""Paths between two optima: their geometry by hand, their training resumed bit for bit, and what lies along them."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from drawn import told

import modescape as ms
from modescape.architectures.building import build
from modescape.artifacts import Artifacts
from modescape.drawing.figure import encode
from modescape.drawing.reading import FigureNotReady
from modescape.drawing.style import THEMES
from modescape.errors import InvalidInput, StageInterrupted
from modescape.executor import Executor, Machine
from modescape.laboratory import Laboratory
from modescape.records import StageOutput
from modescape.registry import figures, presets
from modescape.results import Results
from modescape.science import barriers, low_loss_paths, weights
from modescape.science.data import Shape, Split, make_transform
from modescape.science.low_loss_paths import ROUNDS, Curve, Knot, Polyline, Settings, Slope, Wedges, bend, perpendicular
from modescape.science.predictions import nll
from modescape.settings import Settings as LaboratorySettings
from modescape.spec import parse
from modescape.spec_parts import NetworkSpec
from modescape.stages import filling
from modescape.stages import runner as real
from modescape.store.leases import Lease
from modescape.studies.tunnel import stages
from modescape.studies.tunnel.figure_tunnel import Tunnel, TunnelOptions

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
    return lambda thetas: barriers.profile(on.network, thetas, {"t": on.train}, on.transform)["t"].loss


def test_knots_stay_in_their_slices() -> None:
    a, b, on = optimum(1), optimum(2), slope()
    _, made = perpendicular(on, a, b, SETTINGS, knots=3, loss=training_loss(on))
    along = (b.astype(np.float64) - a) / np.linalg.norm(b.astype(np.float64) - a)
    for knot in made[:3]:
        away = knot.theta - ((1 - knot.t) * a.astype(np.float64) + knot.t * b)
        assert np.linalg.norm(away) > 1e-3
        assert abs(away @ along) < 1e-4 * np.linalg.norm(away)


def knots_found(done: Sequence[Knot] = ()) -> list[Knot]:
    on = slope()
    _, made = perpendicular(on, optimum(1), optimum(2), SETTINGS, knots=2, loss=training_loss(on), done=done)
    return made


def told_of(knots: Sequence[Knot]) -> list[tuple[Any, ...]]:
    return [(knot.t, sha256(knot.theta.tobytes()).hexdigest(), knot.steps, knot.loss) for knot in knots]


@pytest.fixture
def fussy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments are high at 0.9 of the worse end, so that knots are inserted; ten steps are enough for one."""
    monkeypatch.setattr(low_loss_paths, "INSERT", 0.9)
    monkeypatch.setattr(low_loss_paths, "SMOOTHED", 10)


@pytest.mark.slow
@pytest.mark.usefixtures("fussy")
def test_a_path_interrupted_after_any_knot_is_the_same_to_the_byte() -> None:
    made = knots_found()
    assert len(made) > 2 + ROUNDS  # some round inserts more than one: it can be interrupted in its middle
    for n in range(len(made) + 1):
        assert told_of(knots_found(made[:n])) == told_of(made), f"interrupted after knot {n}"
    # of knots that an undisturbed run would not have made in this order, those before the first wrong one are used
    assert told_of(knots_found([*made[:3], made[4], made[3]])) == told_of(made)


@pytest.mark.parametrize("kind", ["bezier", "chain"])
def test_a_bend_is_resumed_bit_for_bit(kind: Any) -> None:
    states: list[dict[str, Any]] = []
    settings = Settings(epochs=20, learning_rate=1e-3, batch_size=32, seed=4)
    whole, steps, _ = bend(slope(), optimum(1), optimum(2), kind, settings, save=lambda n, s: states.append(s))
    assert steps == 160
    again, _, _ = bend(slope(), optimum(1), optimum(2), kind, settings, resume=states[5])
    np.testing.assert_array_equal(whole.bend, again.bend)


TUNNELS = [{"knots": 2, "images": 100, "triangle_images": 20}, {"method": "bezier", "images": 100, "triangles": False}]
SPEC: dict[str, Any] = {
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
    assert "n = 1 pair" in told(data).caption
    for theme in THEMES:
        assert len(gzip.compress(encode(figures[name].draw(data, theme)))) < 300_000


@pytest.mark.slow
def test_a_figure_of_a_tunnel_that_is_not_there_says_which_are(lab: Any) -> None:
    with pytest.raises(InvalidInput, match="no tunnel 2") as refused:
        figures["tunnel"].call(lab, figures["tunnel"].options(tunnel=2))
    assert [problem.allowed for problem in refused.value.problems] == ["0 to 1"]


# ---- stages that are interrupted, and what is drawn while they run ----

STUDIED = ("tunnel", "triangles")
SMALL = SPEC | {
    "training": {**SPEC["training"], "epochs": 12},  # ends so low that knots of ten steps leave high segments
    "tunnels": [{"knots": 1, "images": 50, "triangle_images": 10}, {**TUNNELS[1], "images": 50}],
}


class Stopping:
    """The real runner, told to stop after every save of a tunnel or of its triangles; no finished ones are reused."""

    def renewed(self, lease: Lease, output: StageOutput, artifacts: Artifacts) -> StageOutput:
        return output

    def stage_key(self, lease: Lease, numerics: str) -> str:
        return real.stage_key(lease, "again" if lease.stage.kind in STUDIED else numerics)

    def run_stage(self, lease: Lease, *rest: Any, device: str) -> StageOutput:
        control = rest[-1]
        save = control.save_partial

        def stopping(*args: Any, **more: Any) -> None:
            save(*args, **more)
            control.stop(StageInterrupted("enough"))

        if lease.stage.kind in STUDIED:
            control.save_partial = stopping
        return real.run_stage(lease, *rest, device=device)


class Bench:
    """An experiment of which only what tunnels need is done, attempt by attempt."""

    def __init__(self, laboratory: Laboratory, runner: Any = real) -> None:
        self.laboratory, self.store = laboratory, laboratory.store
        self.row = laboratory.create(SMALL, name="tunnels")
        machine = Machine("cpu", "test", "test")
        self.executor = Executor(self.store, laboratory.artifacts, laboratory.settings, runner=runner, machine=machine)

    @property
    def results(self) -> Results:
        return self.laboratory.results(self.row.id)

    def attempts(self) -> Iterator[None]:
        """One attempt after another, until nothing is left."""
        while ready := [
            s for s in self.results.stages if s.kind in ("train", "predict", *STUDIED) and s.state == "ready"
        ]:
            lease = self.store.leases.claim("test", stage_id=ready[0].id)
            assert lease is not None
            assert self.executor.work(lease) != "failed", self.store.stages.get(ready[0].id).error
            yield

    def left(self) -> dict[tuple[str, str], Any]:
        """What the stages left, arrays by the sha-256 of their bytes, and the barriers."""
        left = {(s.kind, s.key): s.result["extra"] for s in self.results.stages if s.kind in STUDIED}
        barriers = {(m.subject, m.metric, m.split, m.details["line"]): m.value for m in self.results.measurements()}
        return {**left, ("all", "barriers"): barriers}


def collected(results: Any, name: str, **options: Any) -> Any:
    return figures[name].call(results, figures[name].options(**options))


@pytest.mark.slow
@pytest.mark.usefixtures("fussy", "sqlite_url")
def test_stages_interrupted_at_every_save_leave_the_same_bytes_and_are_drawn_as_they_fill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(low_loss_paths, "ROUNDS", 2)
    monkeypatch.setattr(filling, "SAVE_EVERY_SECONDS", 0.0)
    for name, value in {"POINTS": 4, "ANGLES": 2, "RADII": 2}.items():
        monkeypatch.setattr(stages, name, value)
    laboratory = Laboratory(LaboratorySettings(home=tmp_path))
    undisturbed, again = Bench(laboratory), Bench(laboratory, Stopping())
    assert len(list(undisturbed.attempts())) == 7  # two runs with their predictions, two tunnels, triangles
    left = undisturbed.left()
    assert len(left["tunnel", "0"]["trained"]["knots"]) > 1 + 2  # some round inserts more than one
    complete = {(name, number): values_of(collected(undisturbed.results, name, tunnel=number))
                for name, number in (("tunnel", 0), ("tunnel", 1), ("triangles", 0))}  # fmt: skip
    told: dict[tuple[str, int], list[str]] = {one: [] for one in complete}
    for attempt, _ in enumerate(again.attempts()):
        assert attempt < 100, "every attempt makes more knots"
        for (name, number), whole in complete.items():
            data = so_far(again.results, name, number)
            if isinstance(data, FigureNotReady):
                assert name in data.waits_for
                assert not told[name, number]
                continue
            if data.partial in told[name, number]:
                continue
            told[name, number].append(data.partial)
            values = values_of(data)
            known = np.isfinite(values)
            np.testing.assert_array_equal(values[known], whole[known])
            assert len(data.rows()) == known.sum() / 4  # four quantities
            if len(told[name, number]) in (1, 7):
                figures[name].draw(data, "light")
    assert again.left() == left
    for (name, number), whole in complete.items():
        points = whole.size // (8 if name == "tunnel" else 4)  # every point of a line on two splits
        assert told[name, number] == [*(f"after {i} of {points} points" for i in range(1, points)), ""]
    events = again.store.events.after(experiment_id=again.row.id)
    assert {event.payload["kind"] for event in events if event.kind == "points"} >= set(STUDIED)  # open pages draw it
    laboratory.store.close()


def so_far(results: Results, name: str, number: int) -> Any:
    try:
        return collected(results, name, tunnel=number)
    except FigureNotReady as waiting:
        return waiting


def values_of(data: Any) -> Any:
    return data.profile if isinstance(data, Tunnel) else data.surface


# ---- figures of numbers made by hand ----


def shown(name: str, kept: dict[str, Any], arrays: dict[str, Any], **options: Any) -> Any:
    """A figure of an experiment in memory whose stages left `kept` and `arrays`."""
    results = SimpleNamespace(
        spec=parse(SPEC), so_far=lambda kind, key: kept if kind == name else {}, array=arrays.get,
        failed={}, failed_chains={}, skipped=lambda kind, key: "",
    )  # fmt: skip
    return collected(results, name, **options)


def profile(agreement: Sequence[float], accuracy: Sequence[float]) -> Any:
    """[line, split, quantity, 5]: agreement with A, with B the same backwards."""
    rows = [[1.0] * 5, accuracy, agreement, agreement[::-1]]
    return np.broadcast_to(np.array(rows), (2, 2, 4, 5))


@pytest.mark.parametrize(
    ("agreement", "accuracy", "words"),
    [
        (
            (1, 0.9, 0.8, 0.7, 0.75), (0.9, 0.9, 0.95, 0.9, 0.92),
            (
                "Accuracy along the path rises from 90.0 to 92.0 % on test images; halfway it is 95.0 %, at its lowest "
                "90.0 %.",
                "Agreement with A along the path falls from 100.0 to 75.0 % on test images; halfway it is 80.0 %, at "
                "its lowest 70.0 %.",
                "Agreement with B along the path rises from 75.0 to 100.0 % on test images; halfway it is 80.0 %, at "
                "its lowest 70.0 %.",
            ),
        ),
        (
            (1, 1, 1, 1, 1), (0.9, 0.8, 0.5, 0.8, 0.9),
            (
                "Accuracy along the path begins and ends at 90.0 % on test images; halfway it is 50.0 %, at its lowest "
                "50.0 %.",
                "Agreement with A along the path begins and ends at 100.0 % on test images; halfway it is 100.0 %, at "
                "its lowest 100.0 %.",
                "Agreement with B along the path begins and ends at 100.0 % on test images; halfway it is 100.0 %, at "
                "its lowest 100.0 %.",
            ),
        ),
    ],
)  # fmt: skip
def test_what_is_said_of_a_path_is_what_its_numbers_say(
    agreement: Sequence[float], accuracy: Sequence[float], words: Sequence[str]
) -> None:
    kept = {
        "profile": "p", "trained": {"steps": 100, "loss": 1.0, "knots": []}, "images": {"train": 10, "test": 10},
    }  # fmt: skip
    data = shown("tunnel", kept, {"p": profile(agreement, accuracy)})
    assert told(data).notes.text == tuple(words)


@pytest.mark.parametrize("degrees", [40, 90, 135, 180, 200, 270, 350, 360, 420, 900])
def test_a_fan_of_any_angle_is_drawn_whole_and_no_wedge_hides_another(degrees: int) -> None:
    spans = np.radians(degrees) * np.array([0.1, 0.3, 0.2, 0.4])
    offsets = np.concatenate([[0.0], np.cumsum(spans)])
    surface = np.broadcast_to(np.arange(1, 5)[:, None, None, None] / 4, (4, 4, 3, 6))  # every wedge its own value
    kept = {"surface": "s", "radii": np.linspace(0, 12, 6).tolist(), "lengths": [10.0, 9.0, 8.0, 9.0, 10.0],
            "spans": spans.tolist(), "offsets": offsets.tolist(), "images": 20}  # fmt: skip
    data = shown("triangles", kept, {"s": surface}, panel="accuracy")
    x, y, values = data.raster("accuracy")
    cell = (x[1] - x[0]) * (y[1] - y[0])
    drawn = spans * min(1.0, 360 / degrees)
    for w, span in enumerate(drawn):
        area = (values == surface[w, 0, 0, 0]).sum() * cell
        assert area == pytest.approx(12**2 * span / 2, rel=0.05, abs=12 * (x[1] - x[0]))  # a border of half a cell
    assert ("as wide as they are" in told(data).caption) == (degrees > 360)
    assert ("true inside each wedge" in told(data).caption) == (degrees <= 360)
    layout = figures["triangles"].draw(data, "light").layout
    rim = np.linspace(0, drawn.sum(), 1000)
    for axis, rim_at in ((layout.xaxis, 12 * np.cos(rim)), (layout.yaxis, 12 * np.sin(rim))):
        assert axis.range[0] <= min(0, rim_at.min()) + 1e-9
        assert axis.range[1] >= max(0, rim_at.max()) - 1e-9
    np.testing.assert_allclose([row[1] for row in data.rows()][-1], offsets[-1])  # the table has the true angles


@pytest.mark.check
def test_on_real_images_losses_connect_and_functions_do_not(tmp_path: Path) -> None:
    spec = presets["s2-short"].call()
    spec["data"] |= {"train_images": 3000, "validation_images": 200, "test_images": 200}
    spec["training"] |= {"epochs": 3, "halve_every": 1, "batch_size": 64, "snapshots": 0}
    spec["tunnels"] = [{"images": 200, "batch_size": 64, "triangles": False, "knots": 3}]
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


def test_tunnels_are_chosen_by_their_ends_and_by_their_method_only_where_needed() -> None:
    def offered(*tunnels: dict[str, Any]) -> dict[str, str]:
        spec = parse({**SPEC, "ensemble": {"runs": 3}, "tunnels": tunnels})
        results: Any = SimpleNamespace(spec=spec, so_far=lambda kind, key: {})
        return dict(TunnelOptions.choices(results)["tunnel"])

    assert offered({"runs": [0, 1]}, {"runs": [1, 2]}) == {"0": "runs 0 and 1", "1": "runs 1 and 2"}
    assert offered({"runs": [0, 1]}, {"runs": [0, 1], "method": "bezier"}) == {
        "0": "runs 0 and 1, perpendicular",
        "1": "runs 0 and 1, bezier",
    }
