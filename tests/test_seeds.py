"""Seed arms and branches of one training, by the real executor: exact zeros, shared streams, recomputed numbers."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from drawn import told
from numpy.typing import NDArray

from modescape import presets
from modescape.architectures.building import build
from modescape.datasets import loading
from modescape.drawing.figure import csv, encode
from modescape.drawing.reading import FigureNotReady
from modescape.drawing.style import THEMES
from modescape.errors import InvalidInput, StageInterrupted
from modescape.executor import Executor
from modescape.laboratory import Lab, Laboratory, run
from modescape.plan import Machines, prepare
from modescape.records import StageOutput
from modescape.registry import figures
from modescape.science import data, weights
from modescape.science.seeds import ARMS, arm_seeds, branch_seeds, run_seeds
from modescape.settings import Settings
from modescape.spec import ExperimentSpec, parse
from modescape.stages import runner as real
from modescape.stages.stage import Task
from modescape.store.leases import Lease
from modescape.tables import Stage
from modescape.training import Silent, train
from modescape.voice import HERE, Voice

assert presets

RATES = (1e-3, 100.0)  # at the second some trainings diverge
SPEC: dict[str, Any] = {
    "data": {"dataset": "blobs"},
    "network": {"architecture": "mlp"},
    "training": {
        "epochs": 3, "batch_size": 20, "snapshots": 0, "optimiser": "sgd", "learning_rate": 3e-3, "schedule": "halve",
        "halve_every": 2,
    },
    "ensemble": {"runs": 1, "seed": 7},
    "evaluation": {"splits": ["test", "validation"], "embed_images": 20},
    "seeds": {"learning_rates": list(RATES), "repetitions": 2, "epochs": 2},
    "instability": {"epochs": [0, 2], "repetitions": 1, "points": 5, "images": 40},
}  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """One small experiment with both studies, done here."""
    return run(SPEC, settings=Settings(home=tmp_path_factory.mktemp("home"), device="cpu"), name="seeds")


def stage(lab: Lab, kind: str, key: str) -> Stage:
    return next(s for s in lab.stages if (s.kind, s.key) == (kind, key))


def extra(lab: Lab, kind: str, key: str) -> dict[str, Any]:
    found: dict[str, Any] = stage(lab, kind, key).result["extra"]
    return found


def labels(lab: Lab, key: str) -> NDArray[np.int64]:
    return np.asarray(lab.artifacts.array(extra(lab, "arm", key)["logits"]["test"])).argmax(1)


def collect(name: str, results: Any, **options: Any) -> Any:
    entry = figures[name]
    return entry.call(results, entry.options.model_validate(options))


# --- seeds ------------------------------------------------------------------------------------------------------------


def test_arms_share_exactly_what_they_say() -> None:
    a, same, b, c, d = (arm_seeds(3, 1, arm) for arm in ARMS)
    assert a == same
    assert (b.batches, b.noise, b.augmentation) == (a.batches, a.noise, a.augmentation)
    assert b.weights != a.weights
    assert c.weights == a.weights
    assert {c.batches, c.noise, c.augmentation}.isdisjoint({a.batches, a.noise, a.augmentation})
    assert (d.weights, d.batches) == (b.weights, c.batches)
    everything = [arm_seeds(3, repetition, arm).as_dict().values() for repetition in range(4) for arm in ARMS]
    assert len({seed for seeds in everything for seed in seeds}) == 4 * 2 * 4  # fresh ones in every repetition
    assert run_seeds(3, 0).weights not in {seed for seeds in everything for seed in seeds}


def test_branches_differ_in_their_order_of_examples_only() -> None:
    left, right = branch_seeds(3, 0, 0), branch_seeds(3, 0, 1)
    assert left.weights == right.weights == run_seeds(3, 0).weights
    orders = {branch_seeds(3, repetition, side).batches for repetition in range(3) for side in (0, 1)}
    assert len(orders | {run_seeds(3, 0).batches}) == 7


def test_other_initial_weights_see_the_same_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = parse(SPEC)
    splits = loading.load(spec.data, ())
    plain, seen = data.Split.batch, []

    def recorded(self: data.Split, indices: torch.Tensor, **options: Any) -> torch.Tensor:
        if len(self) == len(splits.train):
            seen.append(indices.tolist())
        return plain(self, indices, **options)

    monkeypatch.setattr(data.Split, "batch", recorded)
    orders, starts = {}, {}
    for arm in ARMS:
        seeds = arm_seeds(0, 0, arm)
        network = build(spec.network, splits.shape, seed=seeds.weights)
        starts[arm.key] = weights.flatten(network)
        seen.clear()
        train(network, splits, spec.training.model_copy(update={"epochs": 1}), seeds)
        orders[arm.key] = list(seen)
    assert orders["A"] == orders["B"] == orders["same"]
    assert orders["C"] == orders["D"] != orders["A"]
    np.testing.assert_array_equal(starts["A"], starts["C"])
    np.testing.assert_array_equal(starts["B"], starts["D"])
    assert not np.array_equal(starts["A"], starts["B"])


class Kept(Silent):
    def __init__(self) -> None:
        self.tensors: dict[int, dict[str, NDArray[Any]]] = {}

    def checkpoint(self, epoch: int, step: int, tensors: dict[str, NDArray[Any]]) -> None:
        self.tensors[epoch] = tensors


@pytest.mark.parametrize(("optimiser", "equal"), [("sgd", True), ("momentum", False)])
def test_a_branch_with_the_old_order_is_the_old_training_but_for_the_optimiser(optimiser: str, equal: bool) -> None:
    """Without a memory of the optimiser nothing is lost at the branching point: schedule and batches go on."""
    spec = parse({**SPEC, "training": {**SPEC["training"], "optimiser": optimiser}})
    splits, seeds = loading.load(spec.data, ()), run_seeds(0, 0)
    whole, kept = build(spec.network, splits.shape, seed=seeds.weights), Kept()
    train(whole, splits, spec.training, seeds, listener=kept)
    branch, heard = build(spec.network, splits.shape, seed=99), Kept()
    weights.load_tensors(branch, kept.tensors[1])
    train(branch, splits, spec.training, seeds, listener=heard, first_step=300 // 20)
    assert list(heard.tensors) == [2, 3]  # it does not begin again at 0
    assert np.array_equal(weights.flatten(branch), weights.flatten(whole)) == equal


# --- specs and plans --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        ({"seeds": {"learning_rates": [1e-3, 3e-3, 1e-3]}}, "seeds.learning_rates", "0.001 is listed twice"),
        ({"seeds": {"learning_rates": []}}, "seeds.learning_rates", "has 0 values"),
        ({"seeds": {"learning_rates": [-1.0]}}, "seeds.learning_rates.0", "too small"),
        ({"seeds": {"repetitions": 0}}, "seeds.repetitions", "too small"),
        ({"instability": {"epochs": [1, 0, 1]}}, "instability.epochs", "1 is listed twice"),
        ({"instability": {"epochs": [3]}}, "instability.epochs", "training ends after epoch 3"),
        ({"instability": {"epochs": [-1]}}, "instability.epochs.0", "too small"),
        ({"instability": {"points": 2}}, "instability.points", "too small"),
        (
            {"instability": {"epochs": [0, 1]}, "training": {**SPEC["training"], "checkpoint_every": 2}},
            "instability.epochs",
            "no checkpoint of epoch 1 is kept: training.checkpoint_every is 2",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_its_field(change: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        prepare({**SPEC, **change}, ())
    assert refusal.value.problems[0].field == field
    assert says in str(refusal.value)


def test_a_branch_may_leave_where_a_checkpoint_is_kept() -> None:
    sparse = {**SPEC, "training": {**SPEC["training"], "checkpoint_every": 2}}
    kinds = [planned.kind for planned in prepare(sparse, ()).plan.stages]
    assert kinds.count("branch") == 4


def test_the_plan_counts_five_trainings_a_rate_and_repetition_in_rounds() -> None:
    alone, three = (prepare(SPEC, (), machines=Machines(workers)).plan for workers in (1, 3))
    counts = {cost.kind: cost.count for cost in alone.kinds}
    assert (counts["arm"], counts["seeds"], counts["branch"], counts["instability"]) == (20, 1, 4, 2)
    whole = sum(cost.seconds for cost in alone.kinds)
    assert alone.seconds == pytest.approx(whole)
    longest = max(stage.estimate for stage in alone.stages)
    assert whole / 3 <= three.seconds <= whole / 3 + 5 * longest  # a worker idles only while nothing can be claimed
    assert {"seeds", "instability"} <= set(alone.answers)
    said = " ".join(alone.warnings)
    assert "fewer than 3 repetitions" in said
    assert "learning rate 0.003; its claim is read at 0.001" in said


def test_arms_of_two_experiments_are_one_whatever_has_no_effect_on_them() -> None:
    def parts(change: dict[str, Any]) -> list[Any]:
        spec = parse({**SPEC, **change})
        params = {"learning_rate": 1e-3, "repetition": 0, "arm": "A"}
        return [real.KINDS["arm"].parts(Task("arm", "0/0/A", params, spec))]

    same = parts({})
    more = {"learning_rates": [1e-3], "repetitions": 1, "epochs": 2}
    schedule = {**SPEC["training"], "schedule": "cosine", "learning_rate": 0.5, "epochs": 9, "snapshots": 2}
    assert parts({"seeds": more, "instability": None, "training": schedule}) == same
    assert parts({"seeds": {**more, "epochs": 3}}) != same
    assert parts({"training": {**SPEC["training"], "optimiser": "momentum"}}) != same
    assert parts({"ensemble": {"runs": 1, "seed": 8}}) != same


# --- done by the executor ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_same_seeds_give_exactly_the_same_function_trained_twice(lab: Lab) -> None:
    for repetition in (0, 1):
        again = stage(lab, "arm", f"0/{repetition}/same")
        assert again.reused_from is None  # really trained, not taken over
        assert extra(lab, "arm", again.key)["weights"] == extra(lab, "arm", f"0/{repetition}/A")["weights"]
        assert extra(lab, "arm", again.key)["logits"] == extra(lab, "arm", f"0/{repetition}/A")["logits"]
    for metric in ("disagreement", "diversity"):
        values = [m.value for m in lab.measurements(metric=metric, subject="seeds/same")]
        assert len(values) == 4
        assert set(values) <= {0.0, None}  # None: the diverged ones
        assert values.count(0.0) >= 2


@pytest.mark.slow
def test_every_number_is_found_again_from_the_stored_predictions(lab: Lab) -> None:
    truth = lab.true_labels("test")
    failed = 0
    for subject, arm in (("same", "same"), ("weights", "B"), ("batches", "C"), ("both", "D"), ("base", "A")):
        for m in lab.measurements(subject=f"seeds/{subject}"):
            assert (m.split, m.n) == ("test", 200)
            rate = RATES.index(m.details["learning_rate"])
            base, own = (f"{rate}/{m.details['repetition']}/{name}" for name in ("A", arm))
            if "failed" in m.details:
                assert m.value is None
                assert m.details["learning_rate"] == 100
                assert any(why in m.details["failed"] for why in ("learning rate 100 is too high", "at chance"))
                assert m.details["failed"] == extra(lab, "arm", own)["failed"]
                failed += m.metric == "accuracy"
                continue
            right = np.count_nonzero(labels(lab, own) == truth) / 200
            expected: float | None = right
            if m.metric != "accuracy":
                lost = "failed" in extra(lab, "arm", base)
                differ = np.nan if lost else np.count_nonzero(labels(lab, own) != labels(lab, base)) / 200
                expected = None if lost else differ if m.metric == "disagreement" else differ / (1 - right)
            assert m.value == (None if expected is None else pytest.approx(expected, abs=1e-12))
    assert failed == sum("failed" in s.result["extra"] for s in lab.stages if s.kind == "arm") > 0
    assert len(lab.measurements(metric="accuracy", subject="seeds/base")) == 4


@pytest.mark.slow
def test_the_finding_holds_means_and_the_claim(lab: Lab) -> None:
    found = lab.store.experiments.get("seeds").finding
    assert found["seeds"]["judged"] == 1e-3
    assert found["seeds"]["failed"] == sum("failed" in s.result["extra"] for s in lab.stages if s.kind == "arm")
    row = next(r for r in found["seeds"]["rows"] if r["combination"] == "batches" and r["learning_rate"] == 1e-3)
    kept = lab.measurements(metric="disagreement", subject="seeds/batches")
    values = [m.value for m in kept if m.details["learning_rate"] == 1e-3 and m.value is not None]
    assert row["disagreement"]["n"] == 2
    assert row["disagreement"]["mean"] == pytest.approx(statistics.fmean(values))
    assert row["disagreement"]["sd"] == pytest.approx(statistics.stdev(values))
    claim = found["claims"]["g"]
    assert claim["word"] == "cannot tell"  # two repetitions
    assert "at the learning rate 0.001, of those tried the nearest to the training's 0.003" in claim["because"]


@pytest.mark.slow
def test_a_late_branch_ends_near_its_twin_an_early_one_elsewhere(lab: Lab) -> None:
    network = build(lab.spec.network, loading.load(lab.spec.data, ()).shape, seed=0)

    def end(key: str) -> NDArray[np.float32]:
        digest = extra(lab, "branch", key)["weights"]
        return weights.from_tensors(network, lab.artifacts.tensors(digest))

    ends = {key: end(key) for key in ("0/0/0", "0/0/1", "2/0/0", "2/0/1")}
    assert not np.array_equal(ends["0/0/0"], ends["2/0/0"])
    early, late = (np.linalg.norm(ends[f"{k}/0/0"] - ends[f"{k}/0/1"]) for k in (0, 2))
    assert 0 < late < early


@pytest.mark.slow
def test_barriers_are_those_of_the_line_between_the_branches(lab: Lab) -> None:
    splits = loading.load(lab.spec.data, ())
    for k in (0, 2):
        ends = [lab.artifacts.tensors(extra(lab, "branch", f"{k}/0/{side}")["weights"]) for side in (0, 1)]
        for split, images in (("train", splits.train.take(40)), ("test", splits.test.take(40))):
            losses, errors, predicted = [], [], []
            for t in (0.0, 0.25, 0.5, 0.75, 1.0):
                network = build(lab.spec.network, splits.shape, seed=0).eval()
                weights.load_tensors(network, {n: ((1 - t) * ends[0][n] + t * ends[1][n]) for n in ends[0]})
                with torch.no_grad():
                    logits = network(splits.transform(images.batch(torch.arange(40)))).double()
                losses.append(float(torch.nn.functional.cross_entropy(logits, images.labels)))
                predicted.append(logits.argmax(1))
                errors.append(float((predicted[-1] != images.labels).double().mean()))
            found = {
                m.metric: m.value
                for m in lab.measurements(subject="instability")
                if (m.details["epoch"], m.split) == (k, split)
            }
            for metric, values in (("barrier/loss", losses), ("barrier/error", errors)):
                above = [v - (values[0] + i / 4 * (values[-1] - values[0])) for i, v in enumerate(values)]
                assert found[metric] == pytest.approx(max(above), abs=1e-5)
            assert found["disagreement"] == float((predicted[0] != predicted[-1]).double().mean())


@pytest.mark.slow
def test_a_later_experiment_takes_over_the_arms_it_shares(lab: Lab) -> None:
    more = {**SPEC, "seeds": {"learning_rates": [1e-3], "repetitions": 1, "epochs": 2}, "instability": None}
    second = run(more, settings=lab.laboratory.settings, name="again")
    arms = [s for s in second.stages if s.kind == "arm"]
    assert len(arms) == 5
    assert all(s.reused_from is not None for s in arms)
    assert [m.value for m in second.measurements(metric="disagreement", subject="seeds/same")] == [0.0]


class Interrupting:
    """The real runner, but each stage named is stopped once: at its n-th check, or after its end (inf), before that is
    stored."""

    def __init__(self, stops: dict[str, float]) -> None:
        self.stops = stops
        self.resumed: list[str] = []
        self.stage_key = real.stage_key

    def run_stage(self, lease: Lease, *rest: Any, device: str) -> StageOutput:
        control, name = rest[-1], f"{lease.stage.kind}/{lease.stage.key}"
        if lease.stage.partial:
            self.resumed.append(name)
        left, check = self.stops.pop(name, None), control.check

        def counted() -> None:
            nonlocal left
            if left is not None:
                left -= 1
                if left < 0:
                    raise StageInterrupted("stopped by the test")
            check()

        control.check = counted
        output = real.run_stage(lease, *rest, device=device)
        if left is not None:
            raise StageInterrupted("stopped by the test")
        return output


@pytest.mark.slow
def test_interrupted_arms_branches_and_lines_end_with_the_same_bytes(lab: Lab, tmp_path: Path) -> None:
    laboratory = Laboratory(Settings(home=tmp_path, device="cpu"))
    from modescape.database import upgrade

    upgrade(laboratory.settings.database)
    row = laboratory.create(SPEC, name="interrupted")
    # 15 steps an epoch: inside the second epoch of an arm, inside the last of a branch, within a line (begun anew)
    ended = dict.fromkeys(("train/0", "arm/0/0/C", "branch/2/0/0"), math.inf)
    runner = Interrupting({"arm/0/0/B": 20, "branch/2/0/1": 5, "instability/2/0": 3, **ended})
    executor = Executor(laboratory.store, laboratory.artifacts, laboratory.settings, runner=runner)
    executor.run_experiment(row.id)
    assert runner.stops == {}
    assert set(runner.resumed) == {"arm/0/0/B", "branch/2/0/1", *ended}
    undisturbed = {(s.kind, s.key): s.result["extra"] for s in lab.stages if s.kind in ("arm", "branch", "instability")}
    found = {(s.kind, s.key): s.result["extra"] for s in laboratory.store.stages.of(row.id)}
    assert {key: found[key] for key in undisturbed} == undisturbed
    assert not list((laboratory.settings.artifact_place / "scratch").glob("*"))
    laboratory.store.close()


# --- figures ----------------------------------------------------------------------------------------------------------


@dataclass
class Found:
    """An experiment in memory that has group measurements and nothing else."""

    spec: ExperimentSpec
    kept: list[Any] = field(default_factory=list)
    voice: Voice = HERE
    failed: dict[int, str] = field(default_factory=dict)
    failed_chains: dict[str, dict[int, str]] = field(default_factory=dict)

    def skipped(self, kind: str, key: str) -> str:
        return ""

    def add(self, subject: str, split: str, details: dict[str, Any], **values: float | None) -> None:
        self.kept += [
            SimpleNamespace(
                subject=subject, metric=metric.replace("__", "/"), value=value, split=split, n=200, details=details
            )
            for metric, value in values.items()
        ]

    def measurements(self, *, metric: str | None = None, subject: str | None = None) -> Iterator[Any]:
        return (m for m in self.kept if metric in (None, m.metric) and subject in (None, m.subject))


def seeds_found() -> Found:
    """Two rates, two repetitions; disagreements by hand, accuracies .8 and .9; one training diverged."""
    found = Found(parse({**SPEC, "training": {**SPEC["training"], "learning_rate": 1e-3},
                         "seeds": {"learning_rates": [1e-4, 1e-3], "repetitions": 2}}))  # fmt: skip
    for rate, accuracy in ((1e-4, 0.8), (1e-3, 0.9)):
        for repetition in (0, 1):
            details = {"learning_rate": rate, "repetition": repetition}
            found.add("seeds/base", "test", details, accuracy=accuracy)
            for kind, d in (("same", 0.0), ("weights", 0.10), ("batches", 0.05), ("both", 0.12)):
                if (kind, rate, repetition) == ("batches", 1e-4, 1):
                    details = {**details, "failed": "the training loss is nan"}
                    found.add("seeds/batches", "test", details, accuracy=None, disagreement=None, diversity=None)
                    continue
                d += 0.02 * repetition * (d > 0)
                found.add("seeds/" + kind, "test", {"learning_rate": rate, "repetition": repetition},
                          accuracy=accuracy, disagreement=d, diversity=d / (1 - accuracy))  # fmt: skip
    return found


def test_the_seed_figure_shows_every_repetition_and_its_mean() -> None:
    data_ = collect("seeds", seeds_found())
    assert len(data_.rows()) == 2 * 2 * 5
    assert data_.judged == 1e-3
    chosen = data_.where("weights", 1e-3)
    np.testing.assert_allclose(data_.disagreement[chosen], [0.10, 0.12])
    np.testing.assert_allclose(data_.distance[chosen], [1.0, 1.2])
    # means at 1e-3: weights 11, batches 6, both 13, same 0 percent; deviations .02 / sqrt 2
    assert [(n.label, n.values) for n in told(data_).notes.lines] == [
        ("both", ("13.0", "1.4")), ("initial weights", ("11.0", "1.4")), ("batch order", ("6.0", "1.4")),
        ("nothing", ("0", "–")),
    ]  # fmt: skip
    assert told(data_).notes.text == ("At the learning rate 0.001.", "Same seeds: exactly 0 in all 4 pairs.")
    assert "other initial weights 11.0 ± 1.4 %, another batch order 6.0 ± 1.4 %" in told(data_).summary
    assert "1 training diverged and is left out" in told(data_).caption
    assert "batches,0.0001,1,,,\n" in csv(data_)


def test_the_seed_figure_draws_zeros_inside_its_frame() -> None:
    for quantity, top in (("diversity", 1.4), ("disagreement", 14.0)):
        drawn = figures["seeds"].draw(collect("seeds", seeds_found(), quantity=quantity), "light")
        low, high = drawn.layout.yaxis.range
        assert low < 0 < top < high
        same = [t for t in drawn.data if t.name == "nothing" and t.mode == "markers" and t.yaxis == "y"]
        assert np.asarray(same[0].y).tolist() == [0, 0, 0, 0]


def instability_found() -> Found:
    found = Found(parse(SPEC))
    for k, error in ((0, 0.30), (2, 0.01)):
        for repetition in (0, 1):
            for split, more in (("train", 0.0), ("test", 0.02)):
                found.add("instability", split, {"epoch": k, "repetition": repetition},
                          barrier__error=error + more + 0.02 * repetition, barrier__loss=10 * error,
                          disagreement=0.1 + more, accuracy=0.8)  # fmt: skip
    return found


def test_the_instability_figure_means_its_pairs() -> None:
    data_ = collect("instability", instability_found())
    assert len(data_.rows()) == 8
    epochs, means = data_.means("barrier", "test")
    assert epochs.tolist() == [0, 2]
    np.testing.assert_allclose(means, [33, 4])
    np.testing.assert_allclose(data_.means("disagreement", "train")[1], [10, 10])
    assert told(data_).notes.lines[0].values == ("33.0", "1.4", "12.0", "80.0")
    assert "33.0 points of error apart on test images" in told(data_).summary
    assert told(data_).summary.count("points") == 2
    planned = {**SPEC, "instability": {**SPEC["instability"], "repetitions": 3}}
    some = collect("instability", replace(instability_found(), spec=parse(planned)))
    assert some.partial == "after 4 of 6 pairs of branches"
    nats = collect("instability", instability_found(), quantity="loss", split="train")
    np.testing.assert_allclose(nats.means("barrier", "train")[1], [3, 0.1])
    assert nats.shown() == ("train",)
    assert told(nats).notes.head[1] == "barrier, nats"


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("seeds", {}),
        ("seeds", {"quantity": "disagreement", "size": "page"}),
        ("seeds", {"panel": "accuracy"}),
        ("instability", {}),
        ("instability", {"quantity": "loss", "split": "train", "size": "page", "panel": "barrier"}),
    ],
)
def test_both_figures_draw_in_every_theme(name: str, options: dict[str, Any], theme: Any) -> None:
    found = seeds_found() if name == "seeds" else instability_found()
    drawn = figures[name].draw(collect(name, found, **options), theme)
    assert 1000 < len(encode(drawn)) < 300_000
    assert b"NaN" not in encode(drawn, "list")


def test_figures_say_what_they_wait_for_and_what_was_not_asked_for() -> None:
    for name, kinds in (("seeds", ("arm", "seeds")), ("instability", ("train", "branch", "instability"))):
        with pytest.raises(FigureNotReady) as refusal:
            collect(name, Found(parse(SPEC)))
        assert refusal.value.waits_for == kinds
        with pytest.raises(
            FigureNotReady, match=f"no .* in this spec; the preset .*{'s4' if name == 'seeds' else name}"
        ):
            collect(name, Found(parse({**SPEC, "seeds": None, "instability": None})))
