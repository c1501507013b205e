"""One failure costs one thing: runs that diverge or learn nothing, a method that breaks, a chain that explodes.

The trainings are real; what makes them fail is their initial weights (see `unlucky`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn import told
from serving import served
from unlucky import BROKEN_CHAIN, DIVERGED, HEALTHY, SILENT, curse, weigh

from modescape.architectures.architecture import Layer, architecture
from modescape.celery_queue import dispatch
from modescape.database import upgrade
from modescape.drawing.reading import FigureNotReady
from modescape.errors import InvalidInput
from modescape.executor import Executor, Machine
from modescape.exporting import ensemble_of
from modescape.finding import Finding
from modescape.imported.ensemble import SetRole
from modescape.laboratory import Lab, Laboratory
from modescape.methods.sampling import sample as subspace_sample
from modescape.plan import prepare
from modescape.registry import architectures, figures
from modescape.science.health import at_chance
from modescape.science.predictions import softmax
from modescape.science.seeds import chain_seeds, run_seeds, stream_seed
from modescape.settings import Settings
from modescape.stages import chain as chaining
from modescape.stages import runner as real
from modescape.stages import sample as sampling
from modescape.stages.inputs import choose
from modescape_api.pages import claims as pages
from modescape_api.pages import failures
from modescape_api.pages.forms import with_more

CPU = Machine("cpu", "test", "test")
SGMCMC = {"cycles": 2, "epochs_per_cycle": 2, "samples_per_cycle": 1, "noise_epochs": 1, "learning_rate": 0.05}
SPEC: dict[str, Any] = {
    "data": {"dataset": "digits", "input_scale": "standardised", "train_images": 490, "validation_images": 100},
    "network": {"architecture": "mlp"},
    "training": {"learning_rate": 0.005, "epochs": 4, "batch_size": 50, "snapshots": 4},
    "ensemble": {"runs": 6},
    "methods": [
        {"method": "random", "spread": 6, "typical": 3},
        {"method": "dropout", "spread": 2, "typical": 3},
        {"method": "sgmcmc", "options": SGMCMC},
    ],
    "shift": {"corruptions": ["gaussian_noise"], "images": 100},
    "ood": [{"dataset": "permuted", "images": 100}],
    "planes": [{"kind": "line"}, {"kind": "line", "runs": [0, 2]}, {"kind": "line", "runs": [0, 1]}],
    "tunnels": [{"knots": 1, "images": 50, "triangles": False}],
    "connectivity": {"points": 3, "images": 50},
    "instability": {"epochs": [1], "repetitions": 1, "points": 3, "images": 50},
}
SMALL = {key: SPEC[key] for key in ("data", "network", "training", "ensemble", "methods", "shift", "ood")}
SKIPPED = [
    ("predict", "0"), ("sample", "0/random/spread"), ("shift", "0/optimum"), ("sample", "5/sgmcmc/typical"),
    ("connectivity", "1-4"), ("plane", "1/0"), ("plane", "2/0"),
]  # fmt: skip
REMADE = {"sample", "shift", "shift-compare", "compare", "embed", "ensemble", "ood", "ood-compare", "examples"}


@pytest.fixture
def cursed(monkeypatch: pytest.MonkeyPatch) -> None:
    curse(monkeypatch.setattr)


def run(laboratory: Laboratory, spec: dict[str, Any], name: str = "unlucky") -> Lab:
    row = laboratory.create(spec, name=name)
    Executor(laboratory.store, laboratory.artifacts, laboratory.settings, machine=CPU).run_experiment(row.id)
    return Lab(laboratory, row.id)


def stage(lab: Lab, kind: str, key: str) -> Any:
    return next(s for s in lab.stages if (s.kind, s.key) == (kind, key))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("cursed")
def test_an_unlucky_experiment_reaches_its_last_figure_with_the_right_counts(sqlite_url: str, tmp_path: Path) -> None:
    laboratory = Laboratory(Settings(home=tmp_path, database_url=sqlite_url))
    lab = run(laboratory, SPEC)
    assert (lab.experiment.status, lab.healthy) == ("succeeded", HEALTHY)
    assert "loss is nan" in lab.failed[DIVERGED]
    assert "same label" in lab.failed[SILENT] or "at chance" in lab.failed[SILENT]
    assert list(lab.failed_chains) == ["sgmcmc"]
    assert list(lab.failed_chains["sgmcmc"]) == [BROKEN_CHAIN]
    _states(lab)
    _numbers(lab)
    _figures(lab)
    _words(lab)
    _exported(lab)
    _repair(laboratory, lab)


def _exported(lab: Lab) -> None:
    """What healthy runs said of other images goes out; of the failed what there is, and a word where nothing is."""
    out = ensemble_of(lab.laboratory.results(lab.experiment.slug))
    ids = [int(member.id) for member in out.members]
    assert ids == [run for run in range(6) if run != DIVERGED]
    assert any(one.startswith(f"run {DIVERGED}, which failed: ") and "loss is nan" in one for one in out.left_out)
    assert {one.role for one in out.sets.values()} == {SetRole.TEST, SetRole.OOD, SetRole.SHIFT}
    for one in out.sets.values():
        told = np.isfinite(np.stack([np.asarray(row) for row in one.outputs.read()])).all((1, 2))
        assert [run for run, is_told in zip(ids, told, strict=True) if is_told] == [
            run for run in ids if one.role is SetRole.TEST or run in HEALTHY
        ]
    drawn = out.samples["random-typical"].outputs["ood/permuted"].read()
    assert [bool(np.isfinite(own).all()) for own in drawn] == [run in HEALTHY for run in ids]


def _states(lab: Lab) -> None:
    """Trainings are finished, curves and checkpoints kept; what stands on the failed is skipped; broken is broken."""
    trained = stage(lab, "train", "0")
    assert trained.state == "succeeded"
    assert trained.result["extra"]["failed"] == lab.failed[DIVERGED]
    assert [c["epoch"] for c in trained.result["extra"]["checkpoints"]] == [0]
    assert lab.artifacts.exists(trained.result["extra"]["checkpoints"][0]["weights"])
    assert len(lab.points(SILENT, "train/loss")[0]) > 4
    for kind, key in SKIPPED:
        made = stage(lab, kind, key)
        assert (made.state, list(made.result["extra"])) == ("succeeded", ["skipped"]), (kind, key)
        assert not made.result["solutions"]
    # a chain beside a failed run lives on, without an optimum to be measured against
    beside = lab.solutions(run=DIVERGED, method="sgmcmc")
    assert len(beside) == 2
    assert all(s.accuracy is not None and s.disagreement is None and s.cosine is None for s in beside)
    broken = [s for s in lab.stages if s.state == "failed"]
    assert {(s.kind, s.params.get("method") or s.params.get("group")) for s in broken} == {
        ("sample", "dropout"), ("shift", "dropout"),
    }  # fmt: skip
    assert {s.params["run"] for s in broken} == set(HEALTHY)


def _numbers(lab: Lab) -> None:
    """Every number is that of the healthy runs, worked out again."""
    found, row = lab.experiment.finding, lab.experiment
    optima = lab.solutions(role="optimum")
    assert [optimum.run for optimum in optima] == HEALTHY
    labels, truth = lab.labels_of(optima, "test"), lab.true_labels("test")
    assert not any(at_chance(own, truth, 10) for own in labels)
    pairs = [(labels[i] != labels[j]).mean() for j in range(4) for i in range(j)]
    assert row.disagreement == pytest.approx(np.mean(pairs), abs=1e-12)
    assert row.accuracy == pytest.approx((labels == truth).mean(), abs=1e-12)
    assert found["independent"]["pairs"] == 6
    assert found["ensemble"]["members"] == 4
    assert found["failed"]["of"] == 6
    assert set(found["failed"]["runs"]) == {"0", "4"}
    assert {name: (c["of"], list(c["runs"])) for name, c in found["failed"]["chains"].items()} == {"sgmcmc": (6, ["5"])}
    claims = {told.record.id: told.record for told in lab.claims()}
    assert {claims[letter].n for letter in ("a", "b", "c", "e1", "f1", "f2")} == {4}
    assert claims["h"].n == 5
    assert "1 of 6 chains failed" in claims["h"].because
    assert {method.method for method in claims["c"].methods} == {"random"}
    assert "Dropout subspace (sample/1/dropout/spread failed, 3 more like it)" in claims["c"].because
    js = lab.measurements(metric="js_mean", subject="independent")
    assert [m.details["members"] for m in js] == [4]


def _figures(lab: Lab) -> None:
    """All of them are there; those by default go through healthy runs; the one of named runs says why it is closed."""
    absent: dict[str, FigureNotReady] = {}
    for name, figure in figures.items():
        try:
            data = figure.call(lab, figure.options())
        except FigureNotReady as refused:
            absent[name] = refused
            continue
        assert "2 of 6 runs failed" in told(data).caption, name
        assert not data.partial, (name, data.partial)
        assert figure.draw(data, "light").data, name
    assert {"seeds", "landscape", "triangles"} <= absent.keys()
    elsewhere = {"logged-curves"}  # of trainings that others made
    assert not [
        name for name, refused in absent.items() if (refused.planned or refused.closed) and name not in elsewhere
    ]
    drawn = {
        name: figures[name].call(lab, figures[name].options()) for name in ("plane", "tunnel", "cuts", "ensembles")
    }
    assert drawn["plane"].reference == 1
    assert tuple(drawn["tunnel"].study.runs) == (1, 2)
    assert [cut.words for cut in drawn["cuts"].cuts] == ["run 1 to 2"]
    assert "run 0 was named for it, and failed: the training loss is nan" in drawn["cuts"].missing
    assert drawn["ensembles"].runs["independent"] == 4
    with pytest.raises(FigureNotReady, match="run 0 failed") as closed:
        figures["plane"].call(lab, figures["plane"].options(ref=0))
    assert closed.value.closed
    assert {m.details["runs"] for m in lab.measurements(metric="auroc") if m.details["group"] == "independent"} == {4}
    embedded = lab.matrix("tsne-trajectories")
    assert embedded is not None
    known = {s.number: s.run for s in lab.solutions()}
    assert {known[number] for number in embedded.rows} == {1, 2, 3}


def _words(lab: Lab) -> None:
    """The first sentences, and the cause of what is missing, once."""
    assert "2 of 6 runs failed, 1 of 6 cyclical SG-MCMC chains failed" in lab.sentence()
    assert "n = 6 pairs" in lab.sentence()
    assert "2 of 6 runs failed" in Finding.from_json(lab.experiment.finding).line
    (cause,) = failures.causes(lab.stages)
    assert cause.title == "8 sample stages failed"
    assert cause.messages == ["nothing drops here"]
    assert cause.without == "4 shift stages"
    assert cause.retry
    assert not cause.slower
    assert [lost.title for lost in failures.lost(lab)] == [
        "2 of 6 runs failed",
        "1 of 6 cyclical SG-MCMC chains failed",
    ]


def _repair(laboratory: Laboratory, lab: Lab) -> None:
    """The method is mended and retried: what did without it is made again, and nothing else."""
    before = {s.id: s.finished_at for s in lab.stages}
    with pytest.MonkeyPatch.context() as healed:
        healed.setattr(sampling, "draw_samples", subspace_sample)
        laboratory.store.experiments.retry(lab.experiment.id)
        executor = Executor(laboratory.store, laboratory.artifacts, laboratory.settings, machine=CPU)
        executor.run_experiment(lab.experiment.id)
    mended = Lab(laboratory, lab.experiment.id)
    assert {s.state for s in mended.stages} == {"succeeded"}
    again = {s.kind for s in mended.stages if s.finished_at != before[s.id]}
    assert again == REMADE
    claims = {told.record.id: told.record for told in mended.claims()}
    assert {method.method for method in claims["c"].methods} == {"random", "dropout"}
    assert "not among" not in claims["c"].because


@pytest.mark.check
@pytest.mark.timeout(900)
def test_it_ends_the_same_with_workers_that_are_killed(
    postgres_url: str, redis_server: Any, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    """PostgreSQL and Redis (what differs on SQLite and a folder is tried with the queue); of two workers one dies."""
    settings = Settings(home=tmp_path, database_url=postgres_url, broker_url=redis_server.url, lease_seconds=2)
    laboratory = Laboratory(settings)
    row = laboratory.create(SMALL, name="unlucky")
    dispatch(settings, laboratory.store, row.id)
    environment = {
        **os.environ, "MODESCAPE_HOME": str(tmp_path), "MODESCAPE_DATABASE_URL": postgres_url,
        "MODESCAPE_BROKER_URL": redis_server.url, "MODESCAPE_LEASE_SECONDS": "2", "MODESCAPE_PLUGINS": "unlucky",
        "PYTHONPATH": str(Path(__file__).parent),
    }  # fmt: skip
    with (tmp_path / "workers.log").open("ab") as log:
        command = [sys.executable, "-m", "modescape.cli", "worker", "--name"]
        workers = [subprocess.Popen([*command, name], env=environment, stdout=log, stderr=log) for name in ("a", "b")]
        try:
            wait_until(lambda: laboratory.store.experiments.get(row.id).stages_done > 3, 300, "the first stages")
            workers[0].kill()
            wait_until(lambda: laboratory.store.experiments.get(row.id).status.has_ended, 600, "the end")
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
    lab = Lab(laboratory, row.id)
    assert (lab.experiment.status, lab.healthy) == ("succeeded", HEALTHY)
    assert {name: list(chains) for name, chains in lab.failed_chains.items()} == {"sgmcmc": [BROKEN_CHAIN]}
    _numbers(lab)
    _words(lab)
    assert figures["plane"].call(lab, figures["plane"].options()).reference == 1
    laboratory.store.close()


@pytest.mark.slow
@pytest.mark.usefixtures("cursed")
def test_without_a_healthy_run_it_says_that_none_learned(sqlite_url: str, tmp_path: Path) -> None:
    lab = run(Laboratory(Settings(home=tmp_path, database_url=sqlite_url)), {**_plain(1), "methods": []})
    assert lab.experiment.status == "failed"
    assert "no run learned" in lab.sentence()
    (cause,) = failures.causes(lab.stages)
    assert (cause.title, cause.slower, cause.retry) == ("No run learned", "slower", "")
    assert not list(failures.lost(lab))
    with served(tmp_path, database_url=sqlite_url) as site, site.client() as client:
        page = client.get(f"/experiments/{lab.experiment.slug}").text
        curves = client.get(f"/api/experiments/{lab.experiment.slug}/figures/trajectories").text
    assert "Tried again it would end the same." in page
    assert ">Retry<" not in page
    assert page.count("no run learned.") == 9  # claims (a) to (f2), none of which a clone with more would answer
    assert "1 run × " in page
    assert "no run learned, and none has finished an epoch" in curves


def test_a_lower_rate_is_offered_where_a_training_failed_and_not_where_a_stage_broke() -> None:
    broke = {1: "train/1 stopped with an error: out of memory"}
    assert not failures._lost(broke, "1 of 3 runs failed", "run", "the runs", "slower").slower
    both = broke | {2: "the training loss is nan at step 1"}
    assert failures._lost(both, "2 of 3 runs failed", "run", "the runs", "slower").slower == "slower"


def _plain(runs: int) -> dict[str, Any]:
    return {key: SPEC[key] for key in ("data", "network", "training")} | {"ensemble": {"runs": runs}}


@pytest.mark.slow
def test_a_result_of_before_is_judged_when_it_is_taken_over(sqlite_url: str, tmp_path: Path) -> None:
    """Stages of earlier code told no run's failure; their predictions are read once, and the run is known."""
    laboratory = Laboratory(Settings(home=tmp_path, database_url=sqlite_url))
    with pytest.MonkeyPatch.context() as patch:
        weigh({run_seeds(0, 1, "both").weights: 0.0}, patch.setattr)
        first = run(laboratory, _plain(3), "first")
    assert list(first.failed) == [1]
    _forget(laboratory)
    assert list(Lab(laboratory, first.experiment.id).failed) == [1], "an old page judges by the same rule"
    second = run(laboratory, {**_plain(3), "methods": [{"method": "random", "spread": 2, "typical": 0}]}, "second")
    assert {s.reused_from is not None for s in second.stages if s.kind in ("train", "predict")} == {True}
    assert [r.failed for r in second.runs] == ["", first.failed[1], ""]
    assert stage(second, "sample", "1/random/spread").result["extra"] == {"skipped": f"run 1 failed: {first.failed[1]}"}


@pytest.mark.slow
@pytest.mark.usefixtures("cursed")
def test_a_graph_of_before_loses_no_more_than_one_of_today(sqlite_url: str, tmp_path: Path) -> None:
    """Its arrows must all succeed; what gathers takes what is there all the same, as a retry after an upgrade does."""
    laboratory = Laboratory(Settings(home=tmp_path, database_url=sqlite_url))
    prepared = laboratory.prepare({**_plain(6), "ood": SPEC["ood"]})
    stages = [replace(s, needs=(*s.needs, *s.wants), wants=(), optional=False) for s in prepared.plan.stages]
    row = laboratory.store.experiments.create(name="before", spec=prepared.spec, stages=stages)
    Executor(laboratory.store, laboratory.artifacts, laboratory.settings, machine=CPU).run_experiment(row.id)
    lab = Lab(laboratory, row.id)
    assert (lab.experiment.status, lab.healthy) == ("succeeded", HEALTHY)
    assert "n = 6 pairs" in lab.sentence()
    assert {m.details["runs"] for m in lab.measurements(metric="auroc")} == {4}


PARTLY: dict[str, Any] = {
    "network": {"architecture": "mlp"},
    "training": {"epochs": 8, "batch_size": 40, "learning_rate": 0.001, "snapshots": 4},
    "ensemble": {"runs": 5},
    "methods": [
        {"method": "random", "spread": 10, "typical": 3},
        {"method": "dropout", "spread": 4, "typical": 3},
        {"method": "swag", "spread": 6, "typical": 3, "options": {"epochs": 4, "columns": 3, "learning_rate": 0.001}},
        {"method": "averaging"},
    ],
    "shift": {"corruptions": ["gaussian_noise"]},
}
LOST_CHAIN, LOST_DRAWS = 1, 3


def _blobs(folder: Path) -> Path:
    """Four classes of noisy 8x8 pictures: quickly learned, never perfectly, and 1,100 of them to test on."""
    rng = np.random.default_rng(0)
    middles, arrays = rng.uniform(60, 190, (4, 8, 8, 1)), {}
    for name, count in (("train", 480), ("test", 1100)):
        arrays[f"y_{name}"] = np.arange(count) % 4
        noisy = middles[arrays[f"y_{name}"]] + rng.normal(0, 110, (count, 8, 8, 1))
        arrays[f"x_{name}"] = noisy.clip(0, 255).astype(np.uint8)
    np.savez(folder / "blobs.npz", **arrays)
    return folder / "blobs.npz"


@pytest.fixture(scope="module")
def partly(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Five healthy runs; beside one the chain of SWAG explodes, around another no weight dropout can be drawn."""
    home = tmp_path_factory.mktemp("partly")
    path = str(_blobs(home))
    data = {"dataset": "npz", "path": path, "input_scale": "standardised", "validation_images": 80}
    lost, train, draw = chain_seeds(0, LOST_CHAIN, "swag"), chaining.run_training, sampling.draw_samples

    def training(context: Any, network: torch.nn.Module, asked: Any, seeds: Any, **more: Any) -> Any:
        if seeds == lost:
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter.mul_(1e18)
        return train(context, network, asked, seeds, **more)

    def drawing(entry: Any, *args: Any, seed: int, **more: Any) -> Any:
        if entry.name == "dropout" and seed == stream_seed(0, "sampling", LOST_DRAWS):
            raise RuntimeError("nothing drops here")
        return draw(entry, *args, seed=seed, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("modescape.science.isotonic.REDRAWS", 600)
        patch.setattr(chaining, "run_training", training)
        patch.setattr(sampling, "draw_samples", drawing)
        settings = Settings(home=home)
        upgrade(settings.database)
        return run(Laboratory(settings), {**PARTLY, "data": data}, "partly")


FEWER = {"swag": [0, 2, 3, 4], "dropout": [0, 1, 2, 4]}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_method_counts_around_the_runs_where_its_chain_and_samples_are_healthy(partly: Lab) -> None:
    """In every claim, "n of m" said; what is compared with it is of the same runs, worked out again."""
    assert (partly.experiment.status, partly.healthy) == ("succeeded", [0, 1, 2, 3, 4])
    assert {name: list(chains) for name, chains in partly.failed_chains.items()} == {"swag": [LOST_CHAIN]}
    claims = {told.record.id: told.record for told in partly.claims()}
    for letter in ("c", "d1", "d2", "e1", "e2", "f1", "f2"):
        found = {method.method: method.n for method in claims[letter].methods}
        assert found == {"random": None, "swag": 4, "dropout": 4}, letter
        why = claims[letter].because
        assert "SWAG on 4 of 5 healthy runs (its chain beside run 1 failed)" in why, letter
        assert "Dropout subspace on 4 of 5 healthy runs (" in why, letter
        assert "not among" not in why
    for name, runs in FEWER.items():
        (stay,) = (method for method in claims["c"].methods if method.method == name)
        assert stay.parts["from other runs"] == pytest.approx(_apart(partly, name, runs), abs=1e-6)


def _apart(lab: Lab, name: str, runs: list[int]) -> float:
    """Disagreement of a method's narrow samples with the finals of those other runs that it has, too."""
    finals = {optimum.run: lab.labels_of([optimum], "test")[0] for optimum in lab.solutions(role="optimum")}
    near = {r: lab.labels_of(lab.solutions(run=r, method=name, sample_set="typical"), "test") for r in runs}
    return float(np.mean([(near[i] != finals[j]).mean() for i in runs for j in runs if i != j]))


@pytest.mark.slow
def test_its_gain_is_that_around_those_runs(partly: Lab) -> None:
    truth, optima = np.eye(4)[partly.true_labels("test")], {s.run: s for s in partly.solutions(role="optimum")}

    def brier(solutions: list[Any]) -> float:
        mean = np.mean([softmax(partly.logits(one, "test")) for one in solutions], axis=0)
        return float(np.square(mean - truth).sum(axis=1).mean())

    rows = {row["method"]: row for row in partly.experiment.finding["gains"]}
    assert list(rows) == [None, "random", "dropout", "swag", "averaging"]
    for name, runs in FEWER.items():
        single = np.mean([brier([optima[run]]) for run in runs])
        averaged = np.mean([brier(partly.averaged(name, run)) for run in runs])
        assert rows[name]["over_finals"] == pytest.approx(single - averaged, abs=1e-6)
        assert (rows[name]["runs"], rows[name]["of"]) == (4, 5)
    assert "runs" not in rows["random"]
    shown = {row.title for row in pages.gains(partly.spec, Finding.from_json(partly.experiment.finding))}
    assert "SWAG (around 4 of 5 runs)" in shown


@pytest.mark.slow
def test_pictures_say_how_many_of_its_chains_failed(partly: Lab) -> None:
    assert "1 of 5 SWAG chains failed" in partly.sentence()
    for name in ("ensembles", "shift", "tsne-samples"):
        caption = told(figures[name].call(partly, figures[name].options())).caption
        assert "1 of 5 SWAG chains failed and counts nowhere." in caption, name
    assert "chains" not in told(figures["similarity-runs"].call(partly, figures["similarity-runs"].options())).caption
    worked = figures["ensembles"].call(partly, figures["ensembles"].options())
    assert (worked.runs["swag"], worked.runs["random"]) == (4, 5)


def _forget(laboratory: Laboratory) -> None:
    """What the code before did not write: why runs have failed."""
    from sqlalchemy import text

    from modescape.database import open_database

    engine = open_database(laboratory.settings.database)
    with engine.begin() as connection:
        connection.execute(text("UPDATE run SET failed = NULL"))
        for id_, result in connection.execute(text("SELECT id, result FROM stage WHERE kind = 'predict'")).all():
            kept = json.loads(result)
            for told in kept["runs"].values():
                del told["failed"]
            values = {"id": id_, "result": json.dumps(kept)}
            connection.execute(text("UPDATE stage SET result = :result WHERE id = :id"), values)
    engine.dispose()


# ---- which runs are meant ----


def test_the_first_runs_are_the_first_healthy_ones_and_named_ones_are_themselves() -> None:
    failed = {0: "nan", 3: "at chance"}
    assert choose((0, 1), range(6), {}) == ((0, 1), "")
    assert choose((0, 1), range(6), failed) == ((1, 2), "")
    assert choose((0,), range(6), failed) == ((1,), "")
    assert choose((1, 2), range(6), failed) == ((1, 2), "")
    assert choose((2, 3), range(6), failed)[1] == "run 3 was named for it, and failed: at chance"
    assert choose((0, 1, 2), range(4), failed)[1] == "it needs 3 healthy runs, of 4 there are 2"
    assert choose((0, 1), range(6), failed, named=True) == ((0, 1), "run 0 was named for it, and failed: nan")
    assert choose((0, 1), range(6), {3: "nan"}, named=True) == ((0, 1), "")


# ---- at launch ----


def test_a_method_that_needs_dropout_layers_is_refused_where_there_are_none() -> None:
    @architecture(
        "without-dropout", title="Plain", source="a test", layers=lambda c, h, w, k, o: [Layer(1, c * h * w, k)]
    )
    def plain(channels: int, height: int, width: int, classes: int, options: Any) -> torch.nn.Module:
        """A linear network."""
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(channels * height * width, classes))

    chosen = {"data": {"dataset": "digits"}, "methods": [{"method": "activation-dropout"}]}
    try:
        with pytest.raises(InvalidInput) as refused:
            prepare({**chosen, "network": {"architecture": "without-dropout"}}, ())
        (problem,) = refused.value.problems
        assert problem.field == "methods.0.method"
        assert "Plain has none" in problem.message
        assert "small-cnn" in problem.allowed
        assert prepare(chosen, ()).plan.stages
    finally:
        architectures.keep({name: one for name, one in architectures.here.items() if name != "without-dropout"})


@pytest.mark.slow
def test_every_network_says_whether_it_has_dropout_layers() -> None:
    from modescape.architectures.building import build
    from modescape.science.data import Shape
    from modescape.science.networks import dropout_layers
    from modescape.spec_parts import NetworkSpec

    for name, entry in architectures.items():
        network = build(NetworkSpec(architecture=name), Shape(3, 32, 32, 10), seed=0)
        if entry.dropout is not None:  # of a library's networks it hangs on the model
            assert entry.dropout == bool(dropout_layers(network)), name


# ---- what can help ----


def test_a_clone_that_is_slower_has_a_lower_rate_where_it_diverged() -> None:
    spec = prepare(SPEC, ()).spec.model_dump(mode="json")
    assert with_more(spec, "slower")["training"]["learning_rate"] == pytest.approx(0.0017)
    chained = with_more(spec, "slower:sgmcmc")
    assert chained["training"] == spec["training"]
    assert chained["methods"][2]["options"]["learning_rate"] == pytest.approx(0.017)
    assert with_more(spec, "slower:tunnels.0")["tunnels"][0]["learning_rate"] == pytest.approx(0.00033)
    milestones = {**spec, "training": {**spec["training"], "milestones": [{"epoch": 1, "learning_rate": 0.004}]}}
    assert with_more(milestones, "slower")["training"]["milestones"][0]["learning_rate"] == pytest.approx(0.0017)


@pytest.mark.parametrize(
    ("optimizer", "rate", "lower"),
    [("adam", 20.0, 1.6e-3), ("adam", 0.03, 0.01), ("adamw", 0.5, 1e-3), ("sgd", 20.0, 0.1), ("sgd", 0.9, 0.3)],
)
def test_a_rate_far_from_all_that_learn_gives_way_to_the_usual_one(optimizer: str, rate: float, lower: float) -> None:
    spec = prepare(SPEC, ()).spec.model_dump(mode="json")
    training = {**spec["training"], "optimizer": optimizer, "learning_rate": rate}
    assert with_more({**spec, "training": training}, "slower")["training"]["learning_rate"] == pytest.approx(lower)


def test_keys_of_stages_without_failures_are_as_before() -> None:
    """Which versions stages have, and which of their needs are in their keys, decides what is found again."""
    versions = {name: kind.version for name, kind in real.KINDS.items()}
    assert versions["train"] == versions["chain"] == versions["plane"] == 1
    assert versions["predict"] == 2  # in oneDNN's layout since then
    assert {name: kind.uses for name, kind in real.KINDS.items() if kind.through is not None} == {
        "plane": ("train", "predict", "sample"), "tunnel": ("train",), "triangles": ("train", "tunnel"),
        "branch": ("train",),
    }  # fmt: skip
