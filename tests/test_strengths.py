"""Averaged samples are judged at the strength that suits each method, and against what trained as long."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn import told
from numpy.typing import NDArray

import modescape
from modescape.architectures.building import build
from modescape.datasets.here import published
from modescape.datasets.loading import load
from modescape.drawing.reading import FigureNotReady
from modescape.errors import StageInterrupted
from modescape.laboratory import Lab
from modescape.methods.sampling import best_strength, grid_in_words, grid_strength
from modescape.plan import Plan, plan
from modescape.registry import figures, methods
from modescape.science import predictions
from modescape.science.data import Shape
from modescape.science.predictions import softmax
from modescape.science.seeds import sample_rng, stream_seed
from modescape.spec import parse
from modescape.stages import sample as sampling
from modescape.stages import strength as walking

Floats = NDArray[np.float64]

RUNGS = {"random": range(-16, 13), "dropout": range(-12, 13), "diagonal": range(-20, 21)}


def everywhere(method: str, nll: Callable[[float], float]) -> float:
    """The best of the whole grid, 0 first among equals."""
    grid = [0.0, *(grid_strength(methods[method], k) for k in RUNGS[method])]
    return min(grid, key=lambda s: (nll(s), s))


def bowl(saved: float, at: float, slope: float = 0.0) -> Callable[[float], float]:
    """NLL of an average: what averaging saves grows with the square of the strength, what perturbing costs with the
    fourth power; slope: of draws whose mean lies off the centre."""
    return lambda s: 0.7 + slope * s / at - saved * (2 * (s / at) ** 2 - (s / at) ** 4)


@pytest.mark.parametrize("method", RUNGS)
@pytest.mark.parametrize("octave", [-5.9, -3.2, -0.4, 0.0, 0.3, 1.9, 4.7])
@pytest.mark.parametrize("saved", [0.002, 0.05, 1.0])
def test_the_walk_finds_the_best_of_the_whole_grid(method: str, octave: float, saved: float) -> None:
    nll = bowl(saved, grid_strength(methods[method], 0) * 2**octave)
    found = best_strength(methods[method], nll)
    assert found.strength == everywhere(method, nll) > 0
    assert found.strengths[0] == 0
    assert list(found.strengths) == sorted(found.strengths)
    assert found.nll == tuple(nll(s) for s in found.strengths)
    assert len(found.strengths) < 20


def test_draws_whose_mean_lies_off_the_centre_do_not_hide_what_stronger_ones_save() -> None:
    nll = bowl(0.03, 6.0, slope=0.01)
    assert nll(1.0) > nll(0.0) > nll(5.657)
    assert best_strength(methods["diagonal"], nll).strength == everywhere("diagonal", nll) == pytest.approx(32**0.5)


@pytest.mark.parametrize(
    "nll", [lambda s: 0.5 + s, lambda s: 0.5 + 1e-6 * s + s**2, lambda s: 0.5, lambda s: 0.5 if s == 0 else math.nan]
)
def test_where_averaging_never_helps_the_best_strength_is_zero(nll: Callable[[float], float]) -> None:
    found = best_strength(methods["random"], nll)
    assert (found.strength, found.end) == (0.0, "")


def test_the_best_at_an_end_of_the_grid_is_said_to_lie_there() -> None:
    assert best_strength(methods["diagonal"], lambda s: -s).end == "highest"
    assert best_strength(methods["diagonal"], lambda s: -s).strength == 1024
    falls_at_once = best_strength(methods["diagonal"], lambda s: -1.0 if 0 < s < 0.001 else s)
    assert (falls_at_once.strength, falls_at_once.end) == (2**-10, "lowest")


def test_the_grid_is_stated() -> None:
    assert grid_in_words(methods["random"]) == "0 and 0.05 × 2^(k/2), k = −16 to 12"
    assert grid_strength(methods["dropout"], 12) == pytest.approx(0.64)
    assert np.isclose(grid_strength(methods["random"], 1) / grid_strength(methods["random"], 0), 2**0.5)


# --- the stages -------------------------------------------------------------------------------------------------------

SPEC: dict[str, Any] = {
    "data": {"dataset": "digits", "train_images": 90, "validation_images": 500, "test_images": 300},
    "network": {"architecture": "mlp"},
    "training": {"epochs": 25, "batch_size": 30, "snapshots": 4},
    "ensemble": {"runs": 3, "seed": 2},
    "methods": [
        {"method": "random", "spread": 2, "typical": 5},
        {"method": "diagonal", "spread": 2, "typical": 4},
        {"method": "swag", "spread": 0, "typical": 6, "options": {"epochs": 5, "columns": 3}},
        {"method": "averaging"},
    ],
    "evaluation": {"averaged": "fair", "embed_runs": 1, "embed_images": 50},
}
SAMPLED = ("random", "diagonal", "swag")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("strengths")


@pytest.fixture(scope="module")
def lab(folder: Path) -> Lab:
    made = modescape.run(SPEC, folder=folder)
    assert [(stage.kind, stage.error) for stage in made.stages if stage.state != "succeeded"] == []
    return made


def left(lab: Lab, kind: str, key: str) -> dict[str, Any]:
    found = lab.extra(kind, key)
    assert found is not None
    return found


def planned(**changes: Any) -> Plan:
    document = SPEC | {part: {**SPEC[part], **fields} for part, fields in changes.items()}
    return plan(parse(document), published("digits"))


def test_strengths_are_chosen_where_asked_for_and_where_there_are_images_to_choose_by() -> None:
    def kinds(made: Plan) -> set[str]:
        return {stage.kind for stage in made.stages} | {s.key.split("/")[-1] for s in made.stages if s.kind == "sample"}

    assert {"strength", "fair"} <= kinds(planned())
    assert not {"strength", "fair"} & kinds(planned(evaluation={"averaged": "typical"}))
    few = planned(data={"validation_images": 499})
    assert not {"strength", "fair"} & kinds(few)
    assert any("499 validation images are too few to choose a strength by" in warning for warning in few.warnings)
    assert not any("too few to choose" in warning for warning in planned().warnings)
    old = parse(SPEC | {"evaluation": {"embed_runs": 1}})
    assert old.evaluation.averaged == "typical"
    assert "averaged" not in old.canonical()


def test_every_method_gets_equally_many_fair_samples() -> None:
    counts = {s.params["count"] for s in planned().stages if s.key.endswith("/fair") or s.kind == "strength"}
    assert counts == {4}  # the fewest narrow samples that any method was asked for


@pytest.mark.slow
@pytest.mark.parametrize("method", SAMPLED)
def test_the_strength_chosen_is_where_the_average_predicts_validation_images_best(lab: Lab, method: str) -> None:
    found = left(lab, "strength", method)
    losses = np.asarray(lab.array(found["losses"]), np.float64)
    assert losses.shape == (len(found["strengths"]), 3, 500)
    means = losses.mean(axis=(1, 2))
    assert found["nll"] == pytest.approx(means, abs=1e-7)
    assert found["strengths"][0] == 0
    assert found["strength"] == found["strengths"][int(means.argmin())]
    rows = [row for row in lab.measurements(metric="nll") if row.subject.startswith(f"strength/{method}/")]
    assert {row.details["strength"]: row.value for row in rows} == dict(
        zip(found["strengths"], found["nll"], strict=True)
    )
    assert [row.details["strength"] for row in rows if row.details["chosen"]] == [found["strength"]]


@pytest.mark.slow
def test_the_curve_is_that_of_averaged_samples(lab: Lab) -> None:
    """Random directions of run 1 again, from its stored weights: 4 steps of every length, along the same directions."""
    optimum = lab.solutions(run=1, role="optimum")[0]
    tensors = lab.artifacts.tensors(str(optimum.weights))
    names = [name for name, _ in build(parse(SPEC).network, Shape(1, 8, 8, 10), seed=0).named_parameters()]
    theta = np.concatenate([np.asarray(tensors[name], np.float64).ravel() for name in names])
    data = load(parse(SPEC).data, ())
    images = data.transform(data.validation.batch(torch.arange(500))).numpy().reshape(500, -1)
    truth = data.validation.numpy_labels()
    found = left(lab, "strength", "random")
    losses = lab.array(found["losses"])
    for i, strength in enumerate(found["strengths"]):
        averaged = np.zeros((500, 10))
        for index in range(4):
            rng = sample_rng(stream_seed(2, "sampling", 1), "random", "grid", index, 0)
            rng.random()
            direction = rng.standard_normal(len(theta))
            moved = theta + strength * np.linalg.norm(theta) * direction / np.linalg.norm(direction)
            averaged += softmax(forward(moved, names, tensors, images)) / 4
        assert losses[i, 1] == pytest.approx(-np.log(averaged[np.arange(500), truth]), abs=2e-4)


def forward(theta: Floats, names: Sequence[str], tensors: Mapping[str, Any], images: Floats) -> Floats:
    """Logits of a multi-layer perceptron in numpy."""
    layers, start = [], 0
    for name in names:
        shape = tuple(tensors[name].shape)
        size = int(np.prod(shape))
        layers.append(theta[start : start + size].reshape(shape))
        start += size
    x = images.astype(np.float64)
    for i in range(0, len(layers), 2):
        x = x @ layers[i].T + layers[i + 1]
        x = x if i == len(layers) - 2 else np.maximum(x, 0)
    return x


@pytest.mark.slow
@pytest.mark.parametrize("method", SAMPLED)
def test_fair_samples_are_fresh_ones_of_that_strength_and_are_what_is_averaged(lab: Lab, method: str) -> None:
    found, truth = left(lab, "strength", method), lab.true_labels("test")
    briers = []
    for run in range(3):
        samples = lab.solutions(run=run, method=method, sample_set="fair")
        assert [s.strength for s in samples] == [found["strength"]] * (4 if found["strength"] else 1)
        p = np.mean([softmax(lab.logits(s, "test")) for s in samples], axis=0)
        briers.append(float(((p - np.eye(10)[truth]) ** 2).sum(axis=1).mean()))
    (row,) = lab.measurements(metric="brier", subject=f"ensemble/{method}/1")
    assert row.value == pytest.approx(np.mean(briers), abs=1e-9)
    gain = next(g for g in lab.experiment.finding["gains"] if g["method"] == method)
    assert (gain["strength"], gain["samples"]) == (found["strength"], 4)
    finals = [softmax(lab.logits(s, "test")) for s in lab.solutions(role="optimum")]
    before = np.mean([((p - np.eye(10)[truth]) ** 2).sum(axis=1).mean() for p in finals])
    assert gain["over_finals"] == pytest.approx(before - np.mean(briers), abs=1e-9)


@pytest.mark.slow
def test_what_trains_on_is_measured_against_the_better_of_run_and_last_iterate(lab: Lab) -> None:
    truth, chosen, lasts = lab.true_labels("test"), [], []
    for run, optimum in enumerate(lab.solutions(role="optimum")):
        (last,) = lab.solutions(run=run, method="swag", sample_set="last")
        assert last.weights == left(lab, "chain", f"{run}/swag")["kept"][-1]["weights"]
        found = left(lab, "last", f"{run}/swag")
        labels = lab.array(found["labels"])
        nll = {
            name: float(-np.log(softmax(lab.array(found["logits"][name]))[np.arange(len(labels)), labels]).mean())
            for name in ("final", "last")
        }
        assert found["nll"] == pytest.approx(nll, abs=1e-9)
        assert found["better"] == (nll["last"] < nll["final"])
        brier = [
            float(((softmax(lab.logits(s, "test")) - np.eye(10)[truth]) ** 2).sum(axis=1).mean())
            for s in (optimum, last)
        ]
        chosen.append(brier[1] if found["better"] else brier[0])
        lasts.append(brier[1])
    gain = next(g for g in lab.experiment.finding["gains"] if g["method"] == "swag")
    averaged = lab.measurements(metric="brier", subject="ensemble/swag/1")[0].value
    assert gain["brier"] == pytest.approx(np.mean(chosen) - averaged, abs=1e-9)
    assert gain["over_last"] == pytest.approx(np.mean(lasts) - averaged, abs=1e-9)
    assert lab.measurements(metric="brier", subject="last/swag")[0].value == pytest.approx(np.mean(lasts), abs=1e-9)
    assert (gain["training"], gain["passes"]) == (1 + 5 / 25, len(lab.averaged("swag", 0)))


@pytest.mark.slow
def test_the_figure_shows_every_strength_that_was_looked_at(lab: Lab) -> None:
    entry = figures["strengths"]
    data = entry.call(lab, entry.options())
    assert [walk.method for walk in data.walks] == list(SAMPLED)
    for walk in data.walks:
        found = left(lab, "strength", walk.method)
        assert walk.strengths.tolist() == found["strengths"]
        assert walk.strengths[walk.chosen] == found["strength"]
    assert len(data.rows()) == sum(len(walk.strengths) for walk in data.walks)
    assert any("0.05 × 2^(k/2)" in text for text in told(data).notes.text)
    assert len(entry.draw(data, "light").data) == 3


@pytest.mark.slow
def test_where_memory_holds_one_run_only_the_same_is_found(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walking, "_HELD_BYTES", 1)
    made = modescape.run(SPEC, folder=tmp_path)
    for method in SAMPLED:
        found, expected = left(made, "strength", method), left(lab, "strength", method)
        assert len(found["runs"]) == 3
        assert found["nll_of_runs"] == expected["nll_of_runs"]


@pytest.mark.slow
def test_todays_rule_stays_an_option(lab: Lab, folder: Path) -> None:
    """Averages of the narrow samples; nothing is chosen, and the figure says so."""
    document = SPEC | {"evaluation": {**SPEC["evaluation"], "averaged": "typical"}, "methods": SPEC["methods"][:1]}
    made = modescape.run(document, folder=folder)
    assert {s.sample_set for s in made.solutions(method="random")} == {"spread", "typical"}
    samples = [made.solutions(run=run, method="random", sample_set="typical") for run in range(3)]
    assert made.averaged("random", 1) == samples[1]
    truth = made.true_labels("test")
    averages = [np.mean([softmax(made.logits(s, "test")) for s in own], axis=0) for own in samples]
    brier = np.mean([((p - np.eye(10)[truth]) ** 2).sum(axis=1).mean() for p in averages])
    (row,) = made.measurements(metric="brier", subject="ensemble/random/1")
    assert row.value == pytest.approx(brier, abs=1e-9)
    entry = figures["strengths"]
    with pytest.raises(FigureNotReady, match="no strengths are chosen"):
        entry.call(made, entry.options())


@pytest.mark.slow
def test_chains_that_failed_decide_about_no_strength(lab: Lab, folder: Path) -> None:
    """A rate that leaves every chain at chance: nothing is chosen for the method, and nothing else is lost."""
    swag = {"method": "swag", "spread": 0, "typical": 4, "options": {"epochs": 5, "columns": 3, "learning_rate": 100}}
    made = modescape.run(SPEC | {"methods": [SPEC["methods"][0], swag]}, folder=folder)
    assert made.experiment.status == "succeeded"
    assert set(made.failed_chains["swag"]) == {0, 1, 2}
    assert left(made, "strength", "swag")["strength"] is None
    assert made.averaged("swag", 0) == []
    assert [gain["method"] for gain in made.experiment.finding["gains"]] == [None, "random"]
    entry = figures["strengths"]
    assert [walk.method for walk in entry.call(made, entry.options()).walks] == ["random"]


@pytest.mark.slow
@pytest.mark.usefixtures("sqlite_url")
def test_samples_that_are_stopped_inside_a_group_go_on_at_its_border_and_end_in_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = {
        "data": {"dataset": "digits", "train_images": 90, "validation_images": 100, "test_images": 700},
        "network": {"architecture": "small-cnn"}, "training": {"epochs": 2, "batch_size": 30, "snapshots": 2},
        "ensemble": {"runs": 1}, "methods": [{"method": "random", "spread": 20, "typical": 0}],
    }  # fmt: skip

    def kept(lab: Lab) -> tuple[Any, list[Any]]:
        rows = [(s.number, s.attempt, s.strength, s.accuracy, s.predictions) for s in lab.solutions(role="sample")]
        return left(lab, "sample", "0/random/spread"), rows

    undisturbed = kept(modescape.run(document, folder=tmp_path / "undisturbed"))
    whole, functions = predictions.predict_each, []

    def stopping(modules: Any, split: Any, *rest: Any, **more: Any) -> Any:
        """Told to stop at the second batch of the second group of several, and of the one that is begun after that."""
        if len(split) != 700 or len(modules) < 8:
            return whole(modules, split, *rest, **more)
        functions.append(len(modules))
        batches, group = iter(range(1000)), len(functions)

        def check() -> None:
            if next(batches) == 1 and group in (2, 3):
                raise StageInterrupted("told to stop")

        return whole(modules, split, *rest, **{**more, "check": check})

    monkeypatch.setattr(sampling, "SAVE_EVERY_SECONDS", -1.0)
    monkeypatch.setattr(predictions, "predict_each", stopping)
    again = modescape.run(document, folder=tmp_path / "stopped")
    assert functions == [8, 8, 8, 8]  # and the first of each attempt alone: 1 + 8, 1, 1 + 8, and the last one
    assert kept(again) == undisturbed
