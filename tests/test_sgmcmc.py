"""Chains against the published formulas written out by hand, resumed to the last bit, and whole through every stage."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn import told
from test_figures import Lab as Memory
from test_figures import Point, logits
from torch import nn

import modescape as ms
from modescape.architectures.building import build
from modescape.claims.record import ClaimRecord
from modescape.datasets import loading
from modescape.drawing.figure import encode
from modescape.drawing.reading import FigureNotReady
from modescape.drawing.style import THEMES, Theme
from modescape.errors import InvalidInput, PauseRequested
from modescape.laboratory import Lab
from modescape.methods.ema import EmaOptions
from modescape.methods.method import Neighbourhood
from modescape.methods.pca_random import PcaRandomOptions
from modescape.methods.sgmcmc import CyclicalOptions, Langevin
from modescape.methods.swag import SwagOptions
from modescape.methods.trained import ContinuedOptions
from modescape.plan import plan
from modescape.prices import Work
from modescape.records import DataInfo
from modescape.registry import figures, methods
from modescape.science import weights
from modescape.science.confidence import Word
from modescape.science.seeds import chain_seeds, run_seeds
from modescape.spec import ExperimentSpec, check, parse
from modescape.spec_parts import TrainingSpec
from modescape.stages.chain import chain_evidence
from modescape.training import Arrays, Silent, TrainState, train

SHORT = {"cycles": 2, "epochs_per_cycle": 3, "noise_epochs": 2, "samples_per_cycle": 2, "learning_rate": 0.05}


# --- the calendar -----------------------------------------------------------------------------------------------------


def test_the_rate_falls_along_a_cosine_and_jumps_back() -> None:
    options = CyclicalOptions(cycles=2, epochs_per_cycle=2, noise_epochs=1, samples_per_cycle=1, learning_rate=0.5)
    # L = 4 steps a cycle: 0.25 (cos(pi k / 4) + 1) for k = 0, 1, 2, 3
    half = 0.25 / math.sqrt(2)
    expected = [0.5, 0.25 + half, 0.25, 0.25 - half]
    assert [options.rate(step, 2) for step in range(8)] == pytest.approx(2 * expected, abs=1e-15)


def test_the_published_calendar() -> None:
    options = CyclicalOptions()
    assert (options.epochs, options.samples) == (150, 9)
    # counted from 0: noise in epochs 45 to 49 of each cycle, samples at the ends of epochs 47, 48 and 49
    noisy = [epoch for epoch in range(150) if options.is_noisy(epoch * 782, 782)]
    assert noisy == [*range(45, 50), *range(95, 100), *range(145, 150)]
    assert options.is_noisy(45 * 782, 782)
    assert not options.is_noisy(45 * 782 - 1, 782)
    ends = [48, 49, 50, 98, 99, 100, 148, 149, 150]
    assert options.kept(782) == {epoch * 782: index for index, epoch in enumerate(ends)}
    assert options.last_of_cycles == [2, 5, 8]


def test_the_noise_has_the_published_deviation() -> None:
    # temperature 1/50000 over 50,000 images: sqrt(2 lr) / 50000; at lr = 0.01 that is 2.8e-6 (science h.1)
    assert CyclicalOptions().deviation(0.01, 50_000) == pytest.approx(math.sqrt(0.02) / 50_000, rel=1e-12)
    assert CyclicalOptions().deviation(0.01, 50_000) == pytest.approx(2.8e-6, rel=0.02)
    cold = CyclicalOptions(variant="sghmc", temperature=1.0)
    assert cold.deviation(0.5, 400) == pytest.approx(math.sqrt(2 * 0.9 * 0.5 / 400))
    assert CyclicalOptions(temperature=0).deviation(0.5, 100) == 0


@pytest.mark.parametrize(
    ("options", "field", "says"),
    [
        ({"temperature": -1e-6}, "temperature", "too small"),
        ({"epochs_per_cycle": 2}, "samples_per_cycle", "3 samples do not fit into a cycle of 2"),
        ({"epochs_per_cycle": 4, "noise_epochs": 5}, "noise_epochs", "5 epochs with noise do not fit"),
        ({"alpha": 0.5}, "alpha", "no momentum"),
        ({"cycles": 0}, "cycles", "too small"),
        ({"batch_size": 500}, "batch_size", "more than the 400"),
    ],
)
def test_settings_that_make_no_chain_are_refused(options: dict[str, Any], field: str, says: str) -> None:
    def launch() -> None:
        check(spec([{"method": "sgmcmc", "options": options}]), INFO)

    with pytest.raises(InvalidInput) as refusal:
        launch()
    found = {problem.field: problem.message for problem in refusal.value.problems}
    assert says in found[f"methods.0.options.{field}"]


# --- the updates ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("friction", [1.0, 0.9, 0.3])
def test_updates_equal_the_formulas_on_a_quadratic(friction: float) -> None:
    """Loss theta . A theta / 2, gradient A theta; the formulas once more in numpy, with the same noise."""
    rng = np.random.default_rng(0)
    half = rng.normal(size=(5, 5))
    matrix, start = (half @ half.T).astype(np.float32), rng.normal(size=5).astype(np.float32)
    deviations = [0.0, 0.3, 0.0, 0.2, 0.1]
    rates = [0.1, 0.08, 0.05, 0.02, 0.01]
    theta = torch.from_numpy(start.copy())
    sampler = Langevin(theta, friction=friction, deviation=deviations.__getitem__, seed=7)
    assert bool(sampler.moments) == (friction < 1)
    by_hand, velocity = start.astype(np.float64), np.zeros(5)
    for step, (rate, deviation) in enumerate(zip(rates, deviations, strict=True)):
        sampler.update(theta, torch.from_numpy(matrix) @ theta, rate)
        xi = np.random.Generator(np.random.SFC64([7, step])).standard_normal(5, np.float32)
        velocity = (1 - friction) * velocity - rate * (matrix @ by_hand) + deviation * xi
        by_hand = by_hand + velocity
        assert theta.numpy() == pytest.approx(by_hand, rel=1e-5, abs=1e-6)


def test_noise_is_standard_normal_and_new_at_every_step() -> None:
    sampler = Langevin(torch.zeros(200_000), friction=1.0, deviation=lambda step: 1.0, seed=3)
    first, again, other = sampler.noise(0).numpy(), sampler.noise(0).numpy(), sampler.noise(1).numpy()
    assert (first == again).all()
    # 200,000 numbers: standard errors 0.0022 of the mean, 0.0032 of the variance and 0.0022 of the correlation
    assert first.mean() == pytest.approx(0, abs=0.01)
    assert first.var() == pytest.approx(1, abs=0.015)
    assert np.corrcoef(first, other)[0, 1] == pytest.approx(0, abs=0.01)


def test_sgld_samples_the_posterior_it_is_asked_for() -> None:
    """With loss theta^2 / 2, N = 1 and temperature T the stationary law is N(0, T / (1 - lr / 2)): AR(1) by hand."""
    rate, temperature = 0.1, 0.5
    options = CyclicalOptions(temperature=temperature)
    theta = torch.zeros(20_000)
    sampler = Langevin(theta, friction=1.0, deviation=lambda step: options.deviation(rate, 1), seed=1)
    for _ in range(100):
        sampler.update(theta, theta.clone(), rate)
    # theta' = (1 - lr) theta + sqrt(2 lr T) xi has variance 2 lr T / (1 - (1 - lr)^2); error of it about 0.0053
    assert float(theta.var()) == pytest.approx(temperature / (1 - rate / 2), rel=0.03)


# --- a chain of a real network ----------------------------------------------------------------------------------------

INFO = DataInfo(1, 8, 8, ("a", "b", "c", "d"), 400, 200, 0)


def spec(
    chosen: list[dict[str, Any]], architecture: str = "small-cnn", runs: int = 3, **training: Any
) -> ExperimentSpec:
    return parse(
        {
            "data": {"dataset": "blobs", "input_scale": "standardised", "validation_images": 0},
            "network": {"architecture": architecture},
            "training": {"epochs": 2, "batch_size": 50, "snapshots": 4, **training},
            "ensemble": {"runs": runs},
            "methods": [{"options": {"floor": "none"}, **m} if m["method"] == "random" else m for m in chosen],
            "evaluation": {"embed_images": 50},
        }
    )


class Notebook(Silent):
    """Writes samples and states down; after `stop_after` steps it stops, as a paused stage does."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after, self.steps = stop_after, 0
        self.samples: dict[int, tuple[int, Arrays]] = {}
        self.saved: list[TrainState] = []
        self.rates: list[float] = []

    def snapshot(self, index: int, step: int, tensors: Arrays) -> None:
        self.samples[index] = (step, tensors)

    def point(self, step: int, values: dict[str, float]) -> None:
        self.rates += [values["learning-rate"]] if "learning-rate" in values else []

    def save(self, state: TrainState) -> None:
        self.saved.append(TrainState(state.tensors, json.loads(json.dumps(state.meta))))

    def check(self) -> None:
        self.steps += 1
        if self.stop_after is not None and self.steps > self.stop_after:
            raise PauseRequested("paused by the test")


def sampled(
    options: CyclicalOptions, architecture: str, *, stop_after: int | None = None, resume: TrainState | None = None
) -> tuple[nn.Module, Notebook]:
    asked = spec([], architecture)
    splits, training = loading.load(asked.data, ()), options.training(asked.training)
    seeds = chain_seeds(0, 0, "sgmcmc")
    module = build(asked.network, splits.shape, seed=seeds.weights if resume is None else 999)
    notebook = Notebook(stop_after)
    recipe = options.recipe(training, images=len(splits.train), seed=11)
    try:
        train(module, splits, training, seeds, resume=resume, listener=notebook, recipe=recipe)
    except PauseRequested:
        assert stop_after is not None
    return module, notebook


@pytest.mark.parametrize("variant", ["sgld", "sghmc"])
@pytest.mark.parametrize("after", [5, 18])
def test_a_resumed_chain_equals_an_uninterrupted_one_bit_for_bit(variant: str, after: int) -> None:
    """7 steps an epoch, 3 epochs a cycle: paused while exploring, and inside the noise."""
    options = CyclicalOptions.model_validate({**SHORT, "variant": variant, "temperature": 1.0})
    whole, undisturbed = sampled(options, "mlp")
    _, broken = sampled(options, "mlp", stop_after=after)
    resumed, rest = sampled(options, "mlp", resume=broken.saved[-1])
    assert weights.flatten(resumed).tobytes() == weights.flatten(whole).tobytes()
    together = {**broken.samples, **rest.samples}
    assert list(together) == list(undisturbed.samples) == [0, 1, 2, 3]
    for index, (step, tensors) in undisturbed.samples.items():
        assert together[index][0] == step
        assert all(np.array_equal(tensors[name], together[index][1][name]) for name in tensors)
    assert [step for step, _ in undisturbed.samples.values()] == [14, 21, 35, 42]


def test_noise_is_added_in_the_last_epochs_only() -> None:
    """Two chains that differ in temperature are one chain until the first noisy step, and two after it."""
    options = {**SHORT, "noise_epochs": 1, "samples_per_cycle": 3}
    _, cold = sampled(CyclicalOptions.model_validate({**options, "temperature": 0.0}), "mlp")
    _, warm = sampled(CyclicalOptions.model_validate({**options, "temperature": 1.0}), "mlp")
    equal = [
        all(np.array_equal(cold.samples[i][1][name], warm.samples[i][1][name]) for name in cold.samples[i][1])
        for i in range(3)
    ]
    assert equal == [True, True, False]
    seven = CyclicalOptions.model_validate(options)
    assert cold.rates[-1] == seven.rate(41, 7)


def test_one_step_of_a_linear_network_by_hand() -> None:
    """Mean cross-entropy, weight decay on everything, noise sqrt(2 lr T / N): one SGLD step from the definitions."""
    options = CyclicalOptions(
        cycles=1, epochs_per_cycle=1, noise_epochs=1, samples_per_cycle=1, learning_rate=0.1, temperature=2.0,
        weight_decay=0.3, batch_size=400,
    )  # fmt: skip
    asked = spec([], precision="float32")  # auto would be bfloat16 where the processor has it
    splits, training = loading.load(asked.data, ()), options.training(asked.training)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    before = weights.flatten(network).astype(np.float64)
    notebook = Notebook()
    recipe = options.recipe(training, images=400, seed=5)
    train(network, splits, training, run_seeds(0, 0), listener=notebook, recipe=recipe)
    rows = torch.arange(400)
    x = splits.transform(splits.train.batch(rows)).reshape(400, 64).double().numpy()
    kernel, bias = before[:256].reshape(4, 64), before[256:]
    logits = x @ kernel.T + bias
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    p[rows, splits.train.labels.numpy()] -= 1
    gradient = np.concatenate([(p.T @ x / 400).ravel(), p.mean(0)]) + 0.3 * before
    xi = np.random.Generator(np.random.SFC64([5, 0])).standard_normal(260, np.float32)
    expected = before - 0.1 * gradient + math.sqrt(2 * 0.1 * 2.0 / 400) * xi
    assert weights.flatten(network) == pytest.approx(expected, abs=2e-6)


# --- SWAG, PCA of random samples, exponential averages ----------------------------------------------------------------


def neighbourhood(parameters: int = 6, count: int = 5) -> Neighbourhood:
    rng = np.random.default_rng(1)
    snapshots = (rng.normal(size=parameters) + 0.3 * rng.normal(size=(count, parameters))).astype(np.float32)
    return Neighbourhood(snapshots[-1], snapshots, ())


def by_the_book(snapshots: np.ndarray, columns: int) -> np.ndarray:
    """SWAG's covariance (Maddox et al. 2019): (diagonal + D^T D / (K - 1)) / 2, collected one by one."""
    mean, squares, deviations = np.zeros(snapshots.shape[1]), np.zeros(snapshots.shape[1]), []
    for n, theta in enumerate(snapshots.astype(np.float64)):
        mean = (mean * n + theta) / (n + 1)
        squares = (squares * n + theta**2) / (n + 1)
        deviations.append(theta - mean)
    kept = np.array(deviations[-columns:])
    return np.asarray((np.diag(squares - mean**2) + kept.T @ kept / (columns - 1)) / 2)


@pytest.mark.parametrize("columns", [5, 3])
def test_swag_samples_have_the_published_covariance(columns: int) -> None:
    """Without sampling error: a draw is linear in its normal numbers, so unit vectors in their place read the map."""
    around, entry = neighbourhood(), methods["swag"]
    assert around.snapshots is not None
    options = SwagOptions(epochs=5, columns=columns)
    draws = [entry.call(around, options, 1.0, Given(row)).theta - around.mean for row in np.eye(6 + columns)]
    together = np.array(draws, dtype=np.float64).T
    assert together @ together.T == pytest.approx(by_the_book(around.snapshots, columns), abs=1e-6)


class Given:
    """A generator whose normal numbers are the ones it was given."""

    def __init__(self, numbers: np.ndarray) -> None:
        self.numbers = numbers

    def standard_normal(self, size: int) -> np.ndarray:
        found, self.numbers = self.numbers[:size], self.numbers[size:]
        return found


def test_swag_is_scaled_by_its_strength_and_can_be_diagonal() -> None:
    around, entry = neighbourhood(), methods["swag"]
    assert around.snapshots is not None
    one, three = (
        entry.call(around, SwagOptions(epochs=5, columns=4), c, np.random.default_rng(0)).theta for c in (1.0, 3.0)
    )
    assert three - around.mean == pytest.approx(3 * (one - around.mean), rel=1e-4, abs=1e-6)
    # diagonal: the first six normal numbers, each with its own deviation over sqrt(2), and nothing else
    alone = entry.call(around, SwagOptions(epochs=5, covariance="diagonal"), 1.0, np.random.default_rng(0)).theta
    sigma = around.snapshots.astype(np.float64).std(0)
    normal = np.random.default_rng(0).standard_normal(6)
    assert alone == pytest.approx(around.mean + sigma * normal / math.sqrt(2), rel=1e-5)


def test_swag_refuses_more_deviations_than_it_collects() -> None:
    with pytest.raises(InvalidInput, match="20 deviations cannot be kept of 4"):
        parse({"methods": [{"method": "swag", "options": {"epochs": 4}}]})
    with pytest.raises(InvalidInput, match="make 1000 weights"):
        parse({"methods": [{"method": "swag", "options": {"epochs": 1000}}]})


def test_a_continuation_trains_on_at_half_the_first_rate() -> None:
    found = ContinuedOptions(epochs=4, per_epoch=2).training(TrainingSpec(learning_rate=0.02, schedule="halve"))
    assert (found.learning_rate, found.schedule, found.epochs, found.snapshots) == (0.01, "constant", 4, 8)
    assert found.optimiser == "adam"


def test_pca_of_random_samples_is_the_low_rank_gaussian_of_those_samples() -> None:
    around = neighbourhood(count=6)
    draws = [
        entry.call(around, options, 1.0, np.random.default_rng(3)).theta
        for entry, options in (
            (methods["pca-random"], PcaRandomOptions(rank=3)),
            (methods["low-rank"], methods["low-rank"].options(rank=3)),
        )
    ]
    assert (draws[0] == draws[1]).all()
    # fewer samples than asked for: as many directions as there are, instead of a refusal in the middle of a plan
    few = neighbourhood(count=3)
    step = methods["pca-random"].call(few, PcaRandomOptions(rank=4), 1.0, np.random.default_rng(0)).theta - few.mean
    assert few.snapshots is not None
    directions = few.snapshots.astype(np.float64) - few.mean
    outside = step - directions.T @ np.linalg.lstsq(directions.T, step, rcond=None)[0]
    assert np.abs(outside).max() < 1e-6


def test_the_exponential_average_is_its_recursion() -> None:
    around = neighbourhood()
    assert around.snapshots is not None
    running = np.zeros(6)
    for theta in around.snapshots.astype(np.float64):
        running = 0.7 * running + 0.3 * theta
    expected = running / (1 - 0.7**5)
    found = methods["ema"].call(around, EmaOptions(decay=0.7), 0.0, np.random.default_rng(0)).theta
    assert found == pytest.approx(expected, rel=1e-6)
    last = methods["ema"].call(around, EmaOptions(decay=0), 0.0, np.random.default_rng(0)).theta
    assert last == pytest.approx(around.snapshots[-1], rel=1e-6)


# --- plan and stages --------------------------------------------------------------------------------------------------

EVERYTHING: list[dict[str, Any]] = [
    {"method": "pca-random", "spread": 2, "typical": 2, "options": {"rank": 2, "floor": "none"}},
    {"method": "random", "spread": 0, "typical": 4},
    {"method": "swag", "spread": 2, "typical": 2,
     "options": {"epochs": 1, "per_epoch": 4, "columns": 3, "floor": "none"}},
    {"method": "ema"},
    {"method": "sgmcmc", "options": SHORT},
]  # fmt: skip


def test_the_plan_names_chains_their_samples_and_their_price() -> None:
    asked = spec(EVERYTHING, runs=2)
    check(asked, INFO)
    made = plan(asked, INFO)
    stages = {(stage.kind, stage.key): stage for stage in made.stages}
    assert {key for kind, key in stages if kind == "chain"} == {"0/swag", "1/swag", "0/sgmcmc", "1/sgmcmc"}
    assert stages["chain", "0/sgmcmc"].needs == ()
    assert stages["chain", "1/swag"].needs == (("train", "1"),)
    assert ("chain", "0/sgmcmc") in stages["sample", "0/sgmcmc/typical"].needs
    assert ("sample", "0/random/typical") in stages["sample", "0/pca-random/typical"].needs
    assert stages["sample", "0/sgmcmc/typical"].params["count"] == 4
    # 6 epochs of 7 steps of 64 images against 2 epochs of 8 steps of 50
    assert stages["chain", "0/sgmcmc"].work == Work(trained=6 * 7 * 64)
    assert stages["train", "0"].work == Work(trained=2 * 8 * 50)
    assert stages["chain", "0/sgmcmc"].estimate > stages["train", "0"].estimate > 0
    without = plan(spec([m for m in EVERYTHING if m["method"] != "sgmcmc"], runs=2), INFO)
    logits = 4 * (made.solutions - without.solutions) * 200 * 4
    matrix = 8 * (made.solutions**2 - without.solutions**2)
    assert made.bytes - without.bytes == logits + matrix + 4 * 2 * 5 * made.parameters
    assert "cycles" in made.answers


def test_pca_of_random_samples_asks_for_random_samples() -> None:
    with pytest.raises(InvalidInput) as refusal:
        check(spec([{"method": "pca-random", "options": {"floor": "none"}}]), INFO)
    problem = refusal.value.problems[0]
    assert problem.field == "methods.0.method"
    assert "5 are needed, this plan has 0" in problem.message
    assert "random as well" in problem.allowed


def test_the_plan_warns_of_samples_before_the_noise_and_of_high_rates() -> None:
    chosen = {**SHORT, "samples_per_cycle": 3, "learning_rate": 0.5}
    warnings = plan(spec([{"method": "sgmcmc", "options": chosen}]), INFO).warnings
    assert any("1 of the 3 samples of each cycle come before its noise" in warning for warning in warnings)
    assert any("0.5 was published for a network with batch norm" in warning for warning in warnings)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return ms.run(spec(EVERYTHING, "mlp").model_dump(mode="json"), folder=tmp_path_factory.mktemp("chains"))


@pytest.mark.slow
def test_every_method_ends_as_solutions_that_can_be_put_back(lab: Lab) -> None:
    assert_everything_can_be_put_back(lab, run=1)
    chained = lab.solutions(run=1, method="sgmcmc")
    assert [sample.index for sample in chained] == [0, 1, 2, 3]
    assert [sample.epoch for sample in chained] == [2, 3, 5, 6]
    assert all(sample.weights and sample.sample_set == "typical" and sample.role == "sample" for sample in chained)


@pytest.mark.slow
def test_so_do_they_with_batch_norm(tmp_path: Path) -> None:
    """A chain's sample keeps the statistics it was trained with; those of drawn samples are estimated again."""
    asked = spec(EVERYTHING, "resnet20v1", runs=1).model_dump(mode="json")
    asked["data"] |= {"train_images": 160}
    asked["network"]["options"] = {"keras_norm": False}  # or their statistics are those of hardly any step
    asked["training"] |= {"batch_size": 16, "epochs": 3, "snapshots": 2, "snapshot_window": 1.0}
    assert_everything_can_be_put_back(ms.run(asked, folder=tmp_path), run=0)


def assert_everything_can_be_put_back(lab: Lab, run: int) -> None:
    """Each sample of each method, placed again, predicts what was kept: to the bit. SWAG's fifth is its last."""
    failed = [stage for stage in lab.stages if stage.state != "succeeded"]
    assert not failed, [(stage.kind, stage.key, stage.error) for stage in failed]
    counts = {name: len(lab.solutions(run=run, method=name)) for name in methods if lab.solutions(method=name)}
    assert counts == {"pca-random": 4, "random": 4, "swag": 5, "ema": 1, "sgmcmc": 4}
    around = placed(lab, run=run)
    for sample in lab.solutions(run=run, role="sample"):
        assert around.place_solution(sample) is None
        again = around.context.logits(around.network, "test")
        assert np.array_equal(again, lab.logits(sample, "test")), (sample.method, sample.index)


def placed(lab: Lab, run: int) -> Any:
    """`Around` as a later stage would have it, without being one."""
    from types import SimpleNamespace

    from modescape.stages.around import Around
    from modescape.stages.stage import Context

    class Anywhere(Context):
        def need(self, kind: str, key: str) -> dict[str, Any]:
            found = next(stage for stage in lab.stages if (stage.kind, stage.key) == (kind, key))
            extra: dict[str, Any] = found.result["extra"]
            return extra

        def lacking(self, kind: str, key: str) -> str:
            return ""

    lease: Any = SimpleNamespace(stage=SimpleNamespace(params={}), experiment=lab.experiment)
    control: Any = SimpleNamespace(check=lambda: None)
    laboratory = lab.laboratory
    context = Anywhere(lease, laboratory.store, laboratory.artifacts, laboratory.settings, control, "cpu")
    return Around(context, run)


@pytest.mark.slow
def test_the_evidence_of_the_cycles_is_the_last_sample_of_each(lab: Lab) -> None:
    evidence = chain_evidence(lab)
    assert evidence is not None
    assert evidence.labels.shape == (3, 2, 200)
    for run in range(3):
        for cycle, index in enumerate((1, 3)):
            sample = lab.solutions(run=run, method="sgmcmc")[index]
            assert (evidence.labels[run, cycle] == lab.logits(sample, "test").argmax(1)).all()
    assert evidence.finals is not None
    assert (evidence.truth == lab.true_labels("test")).all()
    # chains are no runs: other initial weights, so other functions
    assert all((evidence.labels[run, 1] != evidence.finals[run]).any() for run in range(3))


@pytest.mark.slow
def test_the_figure_of_cycles_shows_every_pair(lab: Lab) -> None:
    entry = figures["cycles"]
    found = entry.call(lab, entry.options())
    last = {(run, c): lab.solutions(run=run, method="sgmcmc")[2 * c + 1] for run in range(3) for c in range(2)}
    labels = {key: lab.logits(sample, "test").argmax(1) for key, sample in last.items()}
    truth = lab.true_labels("test")
    expected = {}
    for one, first in labels.items():
        for two, second in labels.items():
            if (one[0] == two[0] and one[1] < two[1]) or (one[0] < two[0] and one[1] != two[1]):
                kind = "cycles" if one[0] == two[0] else "chains"
                apart = (first != second).mean()
                over = np.mean([apart / (first != truth).mean(), apart / (second != truth).mean()])
                expected[kind, last[one].number, last[two].number] = (apart, over)
    assert sum(key[0] == "cycles" for key in expected) == 3
    assert sum(key[0] == "chains" for key in expected) == 6
    rows = [dict(zip(found.columns, row, strict=True)) for row in found.rows()]
    assert len(rows) == 3 + 6 + 3
    for row in rows:
        if row["between"] != "runs":
            pair = expected[row["between"], row["solution"], row["other_solution"]]
            assert (row["disagreement"], row["diversity"]) == pytest.approx(pair, abs=1e-12)
    assert told(found).summary.count("n = ") == 3


def chains_by_hand(chains: int = 2, images: int = 8) -> Memory:
    """Two chains of two cycles of one sample, each wrong on other images; two separate runs that are never wrong."""
    chain = {"cycles": 2, "epochs_per_cycle": 2, "noise_epochs": 1, "samples_per_cycle": 1}
    asked = spec([{"method": "sgmcmc", "options": chain}], runs=2)
    truth = np.arange(images) % 3
    made = Memory(asked, truth)
    for run in range(2):
        made.add(Point(run, run, "optimum", 2, epoch=2.0), logits(truth.tolist()))
    wrong = {(0, 0): [0], (0, 1): [0, 1], (1, 0): [4, 5], (1, 1): [4]}
    for (run, cycle), images_wrong in wrong.items():
        labels = truth.copy()
        labels[images_wrong] = (labels[images_wrong] + 1) % 3
        if run < chains:
            point = Point(10 + 2 * run + cycle, run, "sample", cycle, "sgmcmc", "typical", epoch=2.0 * cycle + 2)
            made.add(point, logits(labels.tolist()))
    return made


def test_pairs_of_cycles_by_hand() -> None:
    entry = figures["cycles"]
    found = entry.call(chains_by_hand(), entry.options())
    rows = {(row["between"], row["solution"], row["other_solution"]): row
            for row in (dict(zip(found.columns, values, strict=True)) for values in found.rows())}  # fmt: skip
    assert set(rows) == {
        ("cycles", 10, 11), ("cycles", 12, 13), ("chains", 10, 13), ("chains", 11, 12), ("runs", 0, 1),
    }  # fmt: skip
    # chain 0 changes image 1 between its cycles: 1/8 over error rates 1/8 and 2/8, mean (1 + 1/2) / 2
    assert (rows["cycles", 10, 11]["disagreement"], rows["cycles", 10, 11]["diversity"]) == (0.125, 0.75)
    # cycle 2 of chain 0 and cycle 1 of chain 1 are wrong on two images each, none in common: 4/8 over 2/8
    assert (rows["chains", 11, 12]["disagreement"], rows["chains", 11, 12]["diversity"]) == (0.5, 2.0)
    assert rows["runs", 0, 1]["diversity"] is None  # no errors to divide by
    assert "cycles of one chain .75" in told(found).summary
    one = entry.call(chains_by_hand(chains=1), entry.options(quantity="disagreement"))
    assert one.partial == "after 1 of 2 chains"
    assert "chains" not in one.kinds


def test_cycles_name_the_interval_against_separate_runs() -> None:
    results, entry = chains_by_hand(), figures["cycles"]
    words = "separate runs / cycles"
    assert not any(words in text for text in told(entry.call(results, entry.options())).notes.text)  # not judged yet
    parts = {"ratio to those runs": 2.6, "its lower end": 1.4, "its upper end": 4.85}
    results.claims["h"] = ClaimRecord("h", "H", "", Word.HOLDS, "", 0.1, 5, 8, parts=parts)
    assert (
        "Disagreement, separate runs / cycles: 2.60 (1.40 to 4.85); n = 5 chains and 2 runs, 8 images."
        in told(entry.call(results, entry.options())).notes.text
    )


VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("cycles", {}),
    ("cycles", {"quantity": "disagreement", "size": "page"}),
    ("cycles", {"panel": "diversity"}),
    ("cycles", {"panel": "schedule"}),
]


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_cycles_are_drawn_in_every_theme(name: str, options: dict[str, Any], theme: Theme) -> None:
    entry, results = figures[name], chains_by_hand()
    found = entry.call(results, entry.options(**options))
    assert told(found).caption.endswith(".")
    assert all(len(line.values) == len(told(found).notes.head) - 1 for line in told(found).notes.lines)
    drawn = entry.draw(found, theme)
    plain = drawn.to_dict()
    assert plain["layout"]["meta"]["figure"] == name
    assert "template" not in plain["layout"]
    assert {trace["type"] for trace in plain["data"]} == {"scatter"}
    assert len(encode(drawn)) < 100_000


def test_the_figure_of_cycles_says_what_is_missing() -> None:
    class Empty:
        def __init__(self, asked: ExperimentSpec) -> None:
            self.spec = asked
            self.failed = self.failed_chains = {}

        def solutions(self, **_: Any) -> list[Any]:
            return []

    entry = figures["cycles"]
    with pytest.raises(FigureNotReady, match="s5-short") as never:
        entry.call(Empty(spec([])), entry.options())
    assert not never.value.planned
    with pytest.raises(FigureNotReady) as later:
        entry.call(Empty(spec([{"method": "sgmcmc", "options": SHORT}])), entry.options())
    assert later.value.waits_for == ("chain", "sample")
    lost = Empty(spec([{"method": "sgmcmc", "options": SHORT}]))
    lost.failed_chains = {"sgmcmc": dict.fromkeys(range(lost.spec.ensemble.runs), "it is at chance")}
    with pytest.raises(FigureNotReady, match="every chain has failed: it is at chance") as closed:
        entry.call(lost, entry.options())
    assert closed.value.closed
