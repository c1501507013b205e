"""What was promised before the data were seen, and how often the same trainings were looked at."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from scipy.stats import t as student
from serving import SPEC, Served, served

import modescape as ms
from modescape import finding
from modescape.laboratory import export
from modescape.science.seeds import run_seeds, stream_seed
from modescape.settings import Settings
from modescape.spec import ExperimentSpec, parse
from modescape.store import PlannedStage, StageOutput, Store, downgrade, upgrade
from modescape.tables import Experiment
from modescape_api import claims

RUNS_3, RUNS_6 = (parse({"ensemble": {"runs": runs}}) for runs in (3, 6))
OTHER_METHOD = parse({"ensemble": {"runs": 3}, "methods": [{"method": "random"}]})
OTHER_SEED = parse({"ensemble": {"runs": 3, "seed": 1}})

B: dict[str, Any] = {
    "id": "b", "title": "Alike along, different across", "estimand": "a ratio", "word": "holds", "because": "",
    "margin": math.log(1.25), "n": 5, "N": 1000, "unit": "run", "estimate": 0.8, "low": 0.3, "high": 1.3, "p": 0.02,
    "qualifier": "", "parts": {}, "methods": [], "rests_on": [],
}  # fmt: skip


def launched(store: Store, spec: ExperimentSpec = RUNS_3, name: str = "one", *, judged: bool = True) -> Experiment:
    row = store.create_experiment(name=name, spec=spec, stages=[PlannedStage("compare", "all")])
    if judged:
        lease = store.claim("w", experiment_id=row.id)
        assert lease is not None
        store.finish(lease, StageOutput(experiment={"finding": {"claims": {"b": B}}}), f"memo {row.id}")
    return store.experiment(row.id)


def look_of(store: Store, row: Experiment) -> finding.Look:
    return finding.Look.of(row, store.judged([one["id"] for one in row.earlier]))


# --- looks -----------------------------------------------------------------------------------------------------------


def test_more_runs_after_a_verdict_are_a_second_look_cloned_or_not(store: Store) -> None:
    first = launched(store)
    second = launched(store, RUNS_6, "grown")
    assert (look_of(store, first).number, look_of(store, second).number) == (1, 2)
    look = look_of(store, second)
    assert (look.planned, look.runs) == (3, 6), "what was promised first stays what was promised"
    assert [one["slug"] for one in look.earlier] == ["one"]
    assert (look.level, look.spent) == (0.025, 0.1)
    third = launched(store, OTHER_METHOD, "another method around the same runs")
    assert (look_of(store, third).number, third.planned_runs) == (3, 3)


def test_other_trainings_are_no_second_look(store: Store) -> None:
    launched(store)
    for spec in (OTHER_SEED, parse({"ensemble": {"runs": 3}, "training": {"epochs": 11}})):
        row = launched(store, spec)
        assert (look_of(store, row).number, row.earlier) == (1, [])


def test_run_0_is_shared_whatever_varies(store: Store) -> None:
    launched(store)
    assert look_of(store, launched(store, parse({"ensemble": {"runs": 3, "vary": "weights"}}))).number == 2


def test_the_same_spec_again_is_the_same_look(store: Store) -> None:
    launched(store)
    launched(store)
    assert look_of(store, launched(store)).number == 1
    assert look_of(store, launched(store, RUNS_6)).number == 2, "three times the same question is one look"


def test_an_experiment_that_never_said_anything_was_no_look(store: Store) -> None:
    stopped = launched(store, judged=False)
    store.cancel(stopped.id)
    row = launched(store, RUNS_6)
    assert look_of(store, row).number == 1
    assert row.planned_runs == 3, "three were promised all the same"


def test_deleting_an_experiment_does_not_undo_the_look(store: Store) -> None:
    first, second = launched(store), launched(store, RUNS_6)
    store.archive(first.id)
    store.purge(first.id)
    look = look_of(store, store.experiment(second.id))
    assert (look.number, [one["gone"] for one in look.earlier]) == (2, [True])


def test_a_look_is_announced_before_launch(store: Store) -> None:
    launched(store)
    ahead = finding.Look.ahead(RUNS_6, store.having_trainings(RUNS_6))
    assert (ahead.number, ahead.planned, ahead.runs) == (2, 3, 6)
    assert "look 2" in claims.looking_ahead(ahead)
    assert finding.Look.ahead(RUNS_3, store.having_trainings(RUNS_3)).number == 1
    assert finding.Look.ahead(OTHER_SEED, store.having_trainings(OTHER_SEED)).number == 1
    assert claims.looking_ahead(finding.Look.ahead(OTHER_SEED, [])) == ""


def test_the_word_at_a_look_is_that_of_the_interval_at_its_level() -> None:
    for k in (1, 2, 3, 7):
        look = finding.Look(k, 3, 6)
        for low in (0.23, 0.3, 0.5):
            error = (0.8 - low) / student.ppf(0.975, 4)
            p = float(student.sf((0.8 - B["margin"]) / error, 4))
            claim = {**B, "low": low, "high": 1.6 - low, "p": p}
            [shown] = finding.claims({"claims": {"b": claim}}, look)
            half = student.ppf(1 - 0.025 / k, 4) * error
            known = shown["at_look"]
            assert (known["low"], known["high"]) == (pytest.approx(0.8 - half), pytest.approx(0.8 + half))
            assert known["word"] == ("holds" if 0.8 - half > B["margin"] else "cannot tell")
            assert shown["word"] == "holds", "the word at 5 % stays beside it"


def test_no_level_gives_a_word_that_five_percent_does_not() -> None:
    open_ = {**B, "word": "cannot tell", "p": None, "low": 0.1}
    [shown] = finding.claims({"claims": {"b": open_}}, finding.Look(3, 3, 6))
    assert shown["at_look"]["word"] == "cannot tell"
    [row] = claims.answered({"claims": {"b": open_}}, ("similarity-runs",), finding.Look(3, 3, 6))
    assert row.at_look.startswith("at 1.7 %: cannot tell (")


def test_the_first_look_says_nothing_of_looks() -> None:
    [row] = claims.answered({"claims": {"b": B}}, ())
    assert (row.at_look, claims.looked(finding.Look(1, 3, 3))) == ("", "")
    said = claims.looked(finding.Look(2, 3, 6))
    assert "look 2" in said
    assert "at most 2 × 5 % = 10 % (Bonferroni)" in said
    assert "3 runs were promised at the first launch, 6 here" in said


# --- seeds and arithmetic ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("home")) as running:
        yield running


def expected_seeds(root: int, run: int) -> dict[str, int]:
    return run_seeds(root, run).as_dict() | {"sampling": stream_seed(root, "sampling", run)}


def test_every_run_says_its_seeds_and_its_arithmetic(site: Served, tmp_path: Path) -> None:
    spec = {**SPEC, "methods": [], "training": {"epochs": 1, "batch_size": 50, "snapshots": 0, "precision": "float32"}}
    lab = ms.run(spec, settings=site.settings, name="seeded")
    import torch

    with httpx.Client(base_url=site.url, timeout=30) as client:
        slug = lab.experiment.slug
        items = client.get(f"/api/experiments/{slug}/runs").json()["items"]
        page = client.get(f"/experiments/{slug}").text
        rows = client.get(f"/api/experiments/{slug}/runs?format=csv").text
    assert [run["seeds"] for run in items] == [expected_seeds(3, 0), expected_seeds(3, 1)]
    for run in items:
        used = run["arithmetic"]
        assert (used["precision"], used["device"], used["torch"]) == ("float32", "cpu", str(torch.__version__))
        for seed in run["seeds"].values():
            assert str(seed) in page
            assert str(seed) in rows
    assert str(torch.__version__) in page
    export(lab.laboratory, slug, tmp_path / "out")
    kept = json.loads((tmp_path / "out" / "runs.json").read_text())
    assert [(run["seeds"], run["arithmetic"]) for run in kept] == [(r["seeds"], r["arithmetic"]) for r in items]
    # what is reused brings its arithmetic along
    again = ms.run({**spec, "ensemble": {"runs": 3, "seed": 3}}, settings=site.settings, name="grown")
    assert [run.arithmetic for run in again.runs][:2] == [run["arithmetic"] for run in items]
    with httpx.Client(base_url=site.url, timeout=30) as client:
        about = client.get(f"/api/experiments/{again.experiment.slug}").json()
        asked = client.post("/api/estimate", json={"spec": {**spec, "ensemble": {"runs": 4, "seed": 3}}}).json()
        form = client.get(f"/launch?from={again.experiment.slug}").text
    assert (about["look"]["number"], about["look"]["planned"], about["look"]["runs"]) == (2, 2, 3)
    assert asked["look"]["number"] == 3
    assert "data-look" in form


# --- what was stored before ------------------------------------------------------------------------------------------


def test_old_experiments_get_their_looks_seeds_and_arithmetic(store: Store) -> None:
    first, second = launched(store), launched(store, RUNS_6)
    numerics = "cpu/AVX2/torch 2.9.1+cpu/float32/1 thread"
    trained = {}
    for worker in ("kept", "restarted"):
        train = [PlannedStage("train", "0", params={"run": 0})]
        trained[worker] = store.create_experiment(name=worker, spec=OTHER_SEED, stages=train)
        store.register_worker(worker, device="a processor", numerics=numerics, queue="cpu", pid=1)
        lease = store.claim(worker, experiment_id=trained[worker].id)
        assert lease is not None
        store.finish(lease, StageOutput(extra={"precision": "bfloat16"}), f"memo of {worker}")
    store.register_worker("restarted", device="a processor", numerics="cpu/AVX2/torch 3.0", queue="cpu", pid=2)
    downgrade(store.url, "0002")
    upgrade(store.url)
    third = trained["kept"]
    for row, runs in ((first, 3), (second, 6), (third, 3)):
        kept = store.experiment(row.id)
        assert (kept.recipe, kept.planned_runs, kept.earlier) == (row.recipe, row.planned_runs, row.earlier)
        seed = ExperimentSpec.model_validate(kept.spec).ensemble.seed
        assert [run.seeds for run in store.runs(row.id)] == [expected_seeds(seed, r) for r in range(runs)]
    used = {"precision": "bfloat16", "device": "cpu", "hardware": "AVX2", "torch": "2.9.1+cpu"}
    assert [run.arithmetic for run in store.runs(third.id)] == [used, {}, {}]
    assert store.stages(third.id)[0].result["runs"] == {"0": {"arithmetic": used}}, "for whoever reuses it"
    # a worker that was started again since may have another torch: only the precision is known
    assert store.runs(trained["restarted"].id)[0].arithmetic == {"precision": "bfloat16"}


# --- batch norm ------------------------------------------------------------------------------------------------------


def resnet(settings: Settings, *, keras_norm: bool, epochs: int) -> ms.Lab:
    spec = {
        "data": {"dataset": "digits", "train_images": 200, "validation_images": 20, "test_images": 200},
        "network": {"architecture": "resnet20v1", "options": {"keras_norm": keras_norm}},
        "training": {"epochs": epochs, "batch_size": 20, "snapshots": 0, "learning_rate": 1e-3},
        "ensemble": {"runs": 1},
    }
    return ms.run(spec, settings=settings, name=f"resnet {keras_norm} {epochs}")


def test_what_reestimated_statistics_do_to_an_optimum_is_measured_and_told(site: Served) -> None:
    from modescape.science import weights
    from modescape.science.data import load
    from modescape.science.networks import build
    from modescape.science.predictions import predict

    lab = resnet(site.settings, keras_norm=True, epochs=1)
    [optimum] = lab.solutions(role="optimum")
    [measured] = lab.store.measurements(lab.experiment.id, metric="accuracy-reestimated").items
    assert (measured.solution, measured.split, measured.n) == (optimum.number, "test", 200)
    # by hand: the stored weights, statistics of all 200 training images, labels of the test images
    splits = load(lab.spec.data, site.settings.data_folders)
    network = build(lab.spec.network, splits.shape, seed=0)
    assert optimum.weights is not None
    weights.load_tensors(network, lab.artifacts.tensors(optimum.weights))
    weights.refresh_batch_norm(network, splits.train, splits.transform, 200)
    labels = predict(network, splits.test, splits.transform).argmax(-1)
    assert measured.value == (labels == splits.test.numpy_labels()).mean()
    # ten steps move Keras's running statistics by a tenth: far from where samples have theirs
    assert optimum.accuracy is not None
    assert abs(measured.value - optimum.accuracy) > 0.02
    with httpx.Client(base_url=site.url, timeout=30) as client:
        page = client.get(f"/experiments/{lab.experiment.slug}").text
    assert "Statistics matter here." in page
    assert f"from {100 * optimum.accuracy:.1f} to {100 * measured.value:.1f} % accuracy" in page


def test_statistics_that_agree_are_not_spoken_of(site: Served) -> None:
    lab = resnet(site.settings, keras_norm=False, epochs=12)
    [optimum] = lab.solutions(role="optimum")
    [measured] = lab.store.measurements(lab.experiment.id, metric="accuracy-reestimated").items
    assert optimum.accuracy is not None
    assert measured.value is not None
    assert abs(measured.value - optimum.accuracy) <= 0.02
    with httpx.Client(base_url=site.url, timeout=30) as client:
        assert "Statistics matter here." not in client.get(f"/experiments/{lab.experiment.slug}").text
