"""What was promised before the data were seen, and how often the same trainings were looked at."""

from __future__ import annotations

import importlib.util
import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from markupsafe import escape
from scipy.stats import t as student
from serving import SPEC, Served, served

import modescape as ms
from modescape import power
from modescape.claims import CLAIMS
from modescape.claims.repeated_looks import Look, looked, looking_ahead
from modescape.client.records import Claim
from modescape.database import downgrade, migrations_folder, upgrade
from modescape.finding import Finding
from modescape.laboratory import export
from modescape.records import ListColumns, PlannedStage, Sizes, StageOutput, StageState
from modescape.registry import figures, presets
from modescape.science.seeds import run_seeds, stream_seed
from modescape.settings import Settings
from modescape.spec import ExperimentSpec, parse
from modescape.store import Store
from modescape.studies.landscape.reading import PlaneData
from modescape.tables import Experiment, Stage
from modescape_api.pages import claims

pytestmark = pytest.mark.usefixtures("few_redraws")

RUNS_3, RUNS_6 = (parse({"ensemble": {"runs": runs}}) for runs in (3, 6))
OTHER_METHOD = parse({"ensemble": {"runs": 3}, "methods": [{"method": "random"}]})
OTHER_SEED = parse({"ensemble": {"runs": 3, "seed": 1}})

B: dict[str, Any] = {
    "id": "b", "title": "Alike along, different across", "estimand": "a ratio", "word": "holds", "because": "",
    "margin": math.log(1.25), "n": 5, "N": 1000, "unit": "run", "estimate": 0.8, "low": 0.3, "high": 1.3, "p": 0.02,
    "qualifier": "", "parts": {}, "methods": [], "rests_on": [],
}  # fmt: skip


def launched(store: Store, spec: ExperimentSpec = RUNS_3, name: str = "one", *, judged: bool = True) -> Experiment:
    row = store.experiments.create(name=name, spec=spec, stages=[PlannedStage("compare", "all")])
    if judged:
        lease = store.leases.claim("w", experiment_id=row.id)
        assert lease is not None
        store.leases.finish(lease, StageOutput(experiment=ListColumns(finding={"claims": {"b": B}})), f"memo {row.id}")
    return store.experiments.get(row.id)


def look_of(store: Store, row: Experiment) -> Look:
    return Look.of(row, store.experiments.judged([one["id"] for one in row.earlier]))


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


@pytest.mark.slow
def test_an_experiment_that_never_said_anything_was_no_look(store: Store) -> None:
    stopped = launched(store, judged=False)
    store.experiments.cancel(stopped.id)
    row = launched(store, RUNS_6)
    assert look_of(store, row).number == 1
    assert row.planned_runs == 3, "three were promised all the same"


def test_deleting_an_experiment_does_not_undo_the_look(store: Store) -> None:
    first, second = launched(store), launched(store, RUNS_6)
    store.experiments.archive(first.id)
    store.experiments.purge(first.id)
    look = look_of(store, store.experiments.get(second.id))
    assert (look.number, [one["gone"] for one in look.earlier]) == (2, [True])


def test_a_look_is_announced_before_launch(store: Store) -> None:
    launched(store)
    ahead = Look.ahead(RUNS_6, store.experiments.having_trainings(RUNS_6))
    assert (ahead.number, ahead.planned, ahead.runs) == (2, 3, 6)
    assert "look 2" in looking_ahead(ahead)
    assert Look.ahead(RUNS_3, store.experiments.having_trainings(RUNS_3)).number == 1
    assert Look.ahead(OTHER_SEED, store.experiments.having_trainings(OTHER_SEED)).number == 1
    assert looking_ahead(Look.ahead(OTHER_SEED, [])) == ""


def told(found: dict[str, Any], look: Look) -> list[dict[str, Any]]:
    return [one.to_json() for one in Finding.from_json(found).told(look)]


def test_the_word_at_a_look_is_that_of_the_interval_at_its_level() -> None:
    for k in (1, 2, 3, 7):
        look = Look(k, 3, 6)
        for low in (0.23, 0.3, 0.5):
            error = (0.8 - low) / student.ppf(0.975, 4)
            p = float(student.sf((0.8 - B["margin"]) / error, 4))
            claim = {**B, "low": low, "high": 1.6 - low, "p": p}
            [shown] = told({"claims": {"b": claim}}, look)
            half = student.ppf(1 - 0.025 / k, 4) * error
            known = shown["at_look"]
            assert (known["low"], known["high"]) == (pytest.approx(0.8 - half), pytest.approx(0.8 + half))
            assert known["word"] == ("holds" if 0.8 - half > B["margin"] else "cannot tell")
            assert shown["word"] == "holds", "the word at 5 % stays beside it"


def test_no_level_gives_a_word_that_five_percent_does_not() -> None:
    open_ = {**B, "word": "cannot tell", "p": None, "low": 0.1}
    [shown] = told({"claims": {"b": open_}}, Look(3, 3, 6))
    assert shown["at_look"]["word"] == "cannot tell"
    [row] = claims.answered(Finding.from_json({"claims": {"b": open_}}), ("similarity-runs",), Look(3, 3, 6))
    assert row.at_look.startswith("at 1.7 %: cannot tell (")


def test_lines_of_commands_notebooks_and_clients_say_the_word_of_a_later_look_as_the_page_does() -> None:
    found = Finding.from_json({"claims": {"b": B}})
    for look in (Look(1, 3, 6), Look(2, 3, 6)):
        [one], [row] = found.told(look), claims.answered(found, (), look)
        assert str(Claim.from_json(one.to_json())).partition(": ")[2] == repr(one).partition(": ")[2]
        assert repr(one).endswith(f"; look 2, {row.at_look}" if look.number == 2 else "times)")
    assert "at 2.5 %: " in repr(one)
    weak = Finding.from_json({"claims": {"b": {**B, "p": 0.02}}, "independent": {"disagreement": 0.2, "pairs": 3}})
    assert weak.headline == "Runs are different functions (b)."
    assert "cannot be told yet" in weak.headline_at(Look(2, 3, 6))
    assert claims.headline(claims.answered(weak, (), Look(2, 3, 6))) == (
        "0 of 1 claims holds here at 2.5 %, the level of look 2, 1 cannot be told."
    )
    assert claims.headline(claims.answered(weak, ())) == "1 of 1 claim holds here."


def test_the_first_look_says_nothing_of_looks() -> None:
    [row] = claims.answered(Finding.from_json({"claims": {"b": B}}), ())
    assert (row.at_look, looked(Look(1, 3, 3))) == ("", "")
    said = looked(Look(2, 3, 6))
    assert "look 2" in said
    assert "at most 2 × 5 % = 10 % (Bonferroni)" in said
    assert "3 runs were promised at the first launch, 6 here" in said


def test_a_look_that_waits_for_members_spends_nothing_and_has_no_word_yet() -> None:
    waits = Look(2, 14, 10, first=12, has_begun=False)
    assert (waits.spent, waits.level) == (pytest.approx(0.05), pytest.approx(0.025))
    said = looked(waits)
    assert "will be look 2" in said
    assert "at most 1 × 5 % = 5 % (Bonferroni)" in said
    assert "12 runs were promised at the first launch, 14 when more were awaited." in said
    assert "Beside each interval is the one at 5 %/2." in said
    assert "10 here" not in said, "who is missing is said where it was sealed early"
    so_far = {"claims": {"b": B}, "so_far": {"members": 10, "planned": 14}}
    [row] = claims.answered(Finding.from_json(so_far), (), waits)
    assert re.fullmatch(r"at 2\.5 %: [\d.]+ to [\d.]+ times", row.at_look)


# --- what is still to come ---


def unfinished(*kinds: str, state: StageState = StageState.BLOCKED) -> list[Stage]:
    return [Stage(kind=kind, key="all", state=state) for kind in kinds]


def test_a_claim_whose_stage_is_to_come_is_not_said_to_need_it() -> None:
    spec = parse({"ensemble": {"runs": 3}, "seeds": {}, "methods": [{"method": "random"}]})
    found = Finding.from_json({})
    needs = {one.letter: one.needs for one in found.unanswered(spec, unfinished("seeds", "compare"))}
    assert needs["g"] == "comes with the stage seeds"
    assert needs["a"] == needs["d1"] == "comes with the stage compare"
    assert needs["h"].startswith("needs the method"), "nobody asked for it"
    assert needs["f2"].startswith("needs the study of shift")
    done = unfinished("seeds", "compare", state=StageState.SUCCEEDED)
    assert {one.letter: one.needs for one in found.unanswered(spec, done)}["g"].startswith("needs ")
    failed = unfinished("seeds", state=StageState.FAILED)
    assert {one.letter: one.needs for one in found.unanswered(spec, failed)}["g"] == (
        "the stage seeds has not succeeded; retry it"
    )
    stopped = unfinished("seeds", state=StageState.CANCELLED)
    assert {one.letter: one.needs for one in found.unanswered(spec, stopped)}["g"] == (
        "the stage seeds was cancelled; take the experiment up again"
    )


@pytest.mark.parametrize(
    ("document", "letters"),
    [
        ({"ensemble": {"runs": 2}}, {"b"}),
        ({"ensemble": {"runs": 3}}, {"a", "b"}),
        ({"ensemble": {"runs": 3}, "training": {"epochs": 2}}, {"a"}),
        ({"ensemble": {"runs": 3}, "training": {"epochs": 9, "checkpoint_every": 4}}, {"a", "b"}),
        ({"ensemble": {"runs": 3}, "methods": [{"method": "random", "typical": 0}]}, {"a", "b"}),
        ({"ensemble": {"runs": 2}, "methods": [{"method": "random"}]}, {"b"}),
    ],
)
def test_comparing_answers_what_the_spec_promises_only(document: dict[str, Any], letters: set[str]) -> None:
    rows = Finding.from_json({}).unanswered(parse(document), unfinished("compare"))
    assert {one.letter for one in rows if one.needs.startswith("comes")} == letters


# --- seeds and arithmetic ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("home")) as running:
        yield running


def expected_seeds(root: int, run: int) -> dict[str, int]:
    return run_seeds(root, run).as_dict() | {"sampling": stream_seed(root, "sampling", run)}


@pytest.mark.slow
def test_every_run_says_its_seeds_and_its_arithmetic(site: Served, tmp_path: Path) -> None:
    training = {"epochs": 6, "batch_size": 20, "snapshots": 0, "precision": "float32"}  # enough not to be at chance
    data = {"dataset": "digits", "train_images": 400, "validation_images": 20, "test_images": 200}
    spec = {**SPEC, "data": data, "methods": [], "training": training}
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
    assert 'class="small look"' in form


# --- what was stored before ------------------------------------------------------------------------------------------


def test_old_experiments_get_their_looks_seeds_and_arithmetic(store: Store) -> None:
    first, second = launched(store), launched(store, RUNS_6)
    [script] = (migrations_folder() / "versions").glob("*_seeds_and_looks.py")
    before = re.findall(r'^down_revision.*"(\d+)"', script.read_text(), re.MULTILINE)[0]
    numerics = "cpu/AVX2/torch 2.9.1+cpu/float32/1 thread"
    trained = {}
    for worker in ("kept", "restarted"):
        train = [PlannedStage("train", "0", params={"run": 0})]
        trained[worker] = store.experiments.create(name=worker, spec=OTHER_SEED, stages=train)
        store.workers.register(worker, device="a processor", numerics=numerics, queue="cpu", pid=1)
        lease = store.leases.claim(worker, experiment_id=trained[worker].id)
        assert lease is not None
        store.leases.finish(lease, StageOutput(extra={"precision": "bfloat16"}), f"memo of {worker}")
    store.workers.register("restarted", device="a processor", numerics="cpu/AVX2/torch 3.0", queue="cpu", pid=2)
    downgrade(store.url, before)
    upgrade(store.url)
    third = trained["kept"]
    for row, runs in ((first, 3), (second, 6), (third, 3)):
        kept = store.experiments.get(row.id)
        assert (kept.recipe, kept.planned_runs, kept.earlier) == (row.recipe, row.planned_runs, row.earlier)
        seed = ExperimentSpec.model_validate(kept.spec).ensemble.seed
        assert [run.seeds for run in store.results.runs(row.id)] == [expected_seeds(seed, r) for r in range(runs)]
    used = {"precision": "bfloat16", "device": "cpu", "hardware": "AVX2", "torch": "2.9.1+cpu"}
    assert [run.arithmetic for run in store.results.runs(third.id)] == [used, {}, {}]
    assert store.stages.of(third.id)[0].result["runs"] == {"0": {"arithmetic": used}}, "for whoever reuses it"
    # a worker that was started again since may have another torch: only the precision is known
    assert store.results.runs(trained["restarted"].id)[0].arithmetic == {"precision": "bfloat16"}


# --- batch norm ------------------------------------------------------------------------------------------------------


def resnet(settings: Settings, *, keras_norm: bool, epochs: int) -> ms.Lab:
    spec = {
        "data": {"dataset": "digits", "train_images": 200, "validation_images": 20, "test_images": 200},
        "network": {"architecture": "resnet20v1", "options": {"keras_norm": keras_norm}},
        "training": {"epochs": epochs, "batch_size": 20, "snapshots": 0, "learning_rate": 1e-3},
        "ensemble": {"runs": 1},
    }
    return ms.run(spec, settings=settings, name=f"resnet {keras_norm} {epochs}")


@pytest.mark.slow
def test_what_reestimated_statistics_do_to_an_optimum_is_measured_and_told(site: Served) -> None:
    from modescape.architectures.building import build
    from modescape.datasets.loading import load
    from modescape.science import weights
    from modescape.science.predictions import predict

    lab = resnet(site.settings, keras_norm=True, epochs=1)
    [optimum] = lab.solutions(role="optimum")
    [measured] = lab.store.results.measurements(lab.experiment.id, metric="accuracy-reestimated").items
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


@pytest.mark.slow
def test_statistics_that_agree_are_not_spoken_of(site: Served) -> None:
    lab = resnet(site.settings, keras_norm=False, epochs=12)
    [optimum] = lab.solutions(role="optimum")
    [measured] = lab.store.results.measurements(lab.experiment.id, metric="accuracy-reestimated").items
    assert optimum.accuracy is not None
    assert measured.value is not None
    assert abs(measured.value - optimum.accuracy) <= 0.02
    with httpx.Client(base_url=site.url, timeout=30) as client:
        assert "Statistics matter here." not in client.get(f"/experiments/{lab.experiment.slug}").text


# --- presets "as in the paper" ---------------------------------------------------------------------------------------


def test_presets_of_forty_epochs_take_their_snapshots_at_the_ends_of_the_last_ten() -> None:
    from modescape.training import snapshot_steps

    spec = parse(presets["fig-8"].call()).training
    steps = 386  # an epoch of 49,500 images in batches of 128, drawn with replacement
    found = snapshot_steps(40 * steps, spec.snapshots, spec.snapshot_window)
    assert list(found) == [steps * epoch for epoch in range(31, 41)]
    windows = {
        name: (training.get("snapshots"), training.get("snapshot_window"))
        for name, preset in presets.items()
        if not preset.substitutions and (training := preset.call()["training"])["epochs"] == 40
    }
    assert windows
    assert set(windows.values()) == {(10, 0.25)}, windows


def test_every_preset_as_in_the_paper_declares_what_is_not() -> None:
    for name, preset in presets.items():
        assert bool(preset.deviations) != bool(preset.substitutions), name
        if preset.deviations:
            told = " ".join(preset.deviations)
            assert "bfloat16" in told, name
            assert "initial weights" in told, name
    for name in ("fig-6-resnet20", "fig-7-cifar100", "s6"):
        [about] = [one for one in presets[name].deviations if one.startswith("snapshots")]
        assert "20 over the last 20 of 200 epochs" in about
        assert "dot" in about
        rates = [m["learning_rate"] for m in presets[name].call()["training"]["milestones"]]
        assert rates[-1] == 5e-7, "what the sentence says"
    assert "last 4 of 10 epochs" in " ".join(presets["fig-6"].deviations)
    assert not any(one.startswith("snapshots") for one in presets["fig-8"].deviations)


def test_what_is_not_as_in_the_paper_stands_on_the_form_and_with_the_results(site: Served) -> None:
    with httpx.Client(base_url=site.url, timeout=30) as client:
        form = client.get("/launch?preset=fig-6-resnet20&version=paper").text
        known = {one["name"]: one for one in client.get("/api/catalogue").json()["presets"]}
    for one in presets["fig-6-resnet20"].deviations:
        assert escape(one) in form
    assert known["fig-6-resnet20"]["deviations"] == list(presets["fig-6-resnet20"].deviations)


# --- what stays open -------------------------------------------------------------------------------------------------


def opened(runs: int = 5, images: int = 4000, **changes: Any) -> dict[str, power.Open]:
    spec = parse(
        {"ensemble": {"runs": runs}, "methods": [{"method": "random", "spread": 20, "typical": 10}], **changes}
    )
    return {line.claim: line for line in power.left_open(spec, Sizes(1000, 100, images, held_out=100))}


def test_a_clone_is_told_the_spread_of_the_experiment_and_not_the_simulated_one() -> None:
    """Half-widths worked out here: 5 runs have the interval that was found, n runs t(n - 1)/t(4) x sqrt(5/n) of it."""
    half = 1.04  # of ln 2, from 0.707 to 5.65 times, at 98.75 %
    own = power.Own("Quick", {"d1": power.Spread(half, 5, 0.00625)})

    def line(runs: int) -> power.Open:
        spec = parse({"ensemble": {"runs": runs}, "methods": [{"method": "random", "spread": 20, "typical": 10}]})
        lines = power.left_open(spec, Sizes(1000, 100, 1200, held_out=100), own)
        said = power.basis(lines, own)
        assert "(d1): from the spread of the 5 runs of Quick" in said
        assert "The others are simulated" in said
        assert "Your own data may give wider intervals" in said
        return next(one for one in lines if one.claim == "d1")

    assert line(5).half_width == pytest.approx(half)
    at_ten = half * student.ppf(1 - 0.00625, 9) / student.ppf(1 - 0.00625, 4) * math.sqrt(0.5)
    assert line(10).half_width == pytest.approx(at_ten)
    assert line(10).words == f"effects below {1.1 * math.exp(at_ten):.2g} times stay open"
    assert (line(10).own, line(10).runs) == (5, 10)
    enough = next(
        n for n in range(3, 101)
        if half * student.ppf(1 - 0.00625, n - 1) / student.ppf(1 - 0.00625, 4) * math.sqrt(5 / n) <= math.log(2)
    )  # fmt: skip
    assert line(5).needs == enough > 5, "what left the claim open is not enough"
    assert all(one.own == 0 for one in opened().values())
    assert "Simulated for 5 runs that differ little" in power.basis(list(opened().values()))


def test_a_ratio_is_open_below_its_margin_times_the_exponential_of_the_half_width() -> None:
    line = opened()["d1"]
    assert (line.runs, line.images, line.samples) == (5, 4000, 20)
    assert line.half_width is not None
    assert line.words == f"effects below {1.1 * math.exp(line.half_width):.2g} times stay open"
    edited = opened(margins={"d1": 2.0})["d1"]
    assert edited.words == f"effects below {2 * math.exp(line.half_width):.2g} times stay open"


def test_as_many_runs_are_needed_as_tell_an_effect_of_twice_the_margin() -> None:
    """Read off the table by hand: the first number of runs whose half-width is at most ln 2, of (a) its margin."""
    rows = json.loads(power.TABLE.read_text())["rows"]

    def first(claim: str, images: int, samples: int, most: float) -> int | None:
        sizes = {r["runs"]: r for r in rows if (r["claim"], r["images"], r["samples"]) == (claim, images, samples)}
        return next(
            (n for n in sorted(sizes) if sizes[n]["told"] >= 0.5 and (sizes[n]["half_width"] or 9) <= most), None
        )

    for images in (1000, 2000, 4000, 10_000):
        line = opened(runs=3, images=images)["d1"]
        assert line.needs == first("d1/graded", images, 20, math.log(2)), images
    assert opened(runs=10, images=1000)["d1"].needs == 5, "whatever is planned"
    assert opened(runs=3)["a"].needs == first("a", 0, 0, 0.1) == 4
    few = {"methods": [{"method": "random", "spread": 5, "typical": 5}]}
    assert opened(runs=3, images=1000, **few)["d1"].needs == first("d1/graded", 1000, 5, math.log(2)) == 10
    lone = opened(seeds={"repetitions": 3})["g"]
    assert lone.needs is None, "its trainings are counted otherwise"


def test_linear_estimands_are_open_within_a_half_width_of_their_margin() -> None:
    lines = opened()
    e1, e2, a = (lines[claim].half_width or 0.0 for claim in ("e1", "e2", "a"))
    assert lines["e1"].words == f"shares above {0.9 - e1:.2g} stay open"
    assert lines["e2"].words == f"gains of less than {5 + 100 * e2:.2g} % more stay open"
    assert lines["a"].words == f"mean cosines beyond ±{0.1 - a:.2g} stay open"


def test_the_simulated_size_is_never_larger_than_the_planned_one() -> None:
    line = opened(runs=9, images=3999)["d1"]
    assert (line.runs, line.images, line.samples) == (5, 2000, 20)


def test_more_runs_and_more_images_leave_less_open() -> None:
    for claim in ("a", "b", "c", "d1", "d2", "e1", "e2", "f1"):
        assert (opened(runs=5)[claim].half_width or 9) < (opened(runs=3)[claim].half_width or 0), claim
    for claim in ("b", "e1", "e2"):
        assert (opened(images=10_000)[claim].half_width or 9) < (opened(images=1000)[claim].half_width or 0), claim


def test_closed_gates_are_told_before_launch() -> None:
    assert opened(runs=2)["b"].words == "stays open: 3 runs are needed"
    assert opened(images=900)["d1"].words == "stays open: 1000 test images are needed"
    assert opened(images=900)["b"].half_width is not None
    few = opened(methods=[{"method": "random", "spread": 5, "typical": 2, "options": {"strengths": "uniform"}}])
    assert few["c"].words == "stays open: 3 samples of a method are needed in every run"
    assert few["d1"].words.startswith("mostly stays open: too few samples")
    assert set(opened(methods=[])) == {"a", "b"}, "what is not asked is not spoken of"
    assert opened(seeds={"repetitions": 4})["g"].runs == 4


def test_every_claim_can_be_told_before_launch() -> None:
    methods = [{"method": "random"}, {"method": "sgmcmc"}]
    lines = opened(methods=methods, seeds={}, shift={"images": 1000})
    assert list(lines) == list(CLAIMS)
    for claim, line in lines.items():
        assert line.words != "not simulated", claim


@pytest.mark.slow
def test_the_table_is_what_the_script_writes() -> None:
    script = Path(__file__).parents[1] / "benchmarks" / "power.py"
    about = importlib.util.spec_from_file_location("power_script", script)
    assert about is not None
    assert about.loader is not None
    made = importlib.util.module_from_spec(about)
    about.loader.exec_module(made)
    written = json.loads(power.TABLE.read_text())["rows"]
    claims = {row["claim"].split("/")[0] for row in written}
    assert claims == set(CLAIMS)
    # few redraws move no half-width by more than 1.3 %; the size at which everything is made, and one where only what
    # depends on samples is
    for runs, images, samples in ((made.RUNS[0], made.IMAGES[0], made.SAMPLES[0]), (4, 1000, 10)):
        for row in made.cell(runs, images, samples, made.replicates_of(runs)):
            where = ("claim", "runs", "images", "samples")
            [known] = [one for one in written if all(one[name] == row[name] for name in where)]
            assert row["told"] == pytest.approx(known["told"], abs=0.1), row
            if row["half_width"] is not None:
                assert row["half_width"] == pytest.approx(known["half_width"], rel=0.03), row


def test_the_form_says_what_stays_open(site: Served) -> None:
    with httpx.Client(base_url=site.url, timeout=30) as client:
        asked = client.post("/api/estimate", json={"spec": {**SPEC, "ensemble": {"runs": 4, "seed": 3}}}).json()["open"]
        form = client.get("/launch?preset=quickstart").text
    assert [line["claim"] for line in asked["claims"]] == ["a", "b", "c", "d1", "d2", "e1", "e2", "f1"]
    assert "Simulated for 4 runs" in asked["basis"]
    assert "runs can find out" in form
    assert "effects below" in form


# --- figures as the paper opens them ---------------------------------------------------------------------------------


def test_maps_open_by_run_and_similarity_with_final_solutions() -> None:
    for name in ("tsne-trajectories", "tsne-samples"):
        assert figures[name].options().color == "run", name
    assert figures["plane"].options().color == "method"
    assert figures["similarity-runs"].options().blocks == 1


def test_samples_of_chains_are_not_drawn_on_a_plane_they_are_not_on() -> None:
    from modescape.studies.landscape.cuts import Anchor
    from modescape.studies.landscape.figure_landscape import _of_the_runs

    def point(number: int, method: str | None, relative: float) -> dict[str, Any]:
        return {"number": number, "method": method, "relative": relative}

    points = [point(0, None, 0.0), point(1, "sgmcmc", 0.99), point(2, "diagonal", 0.3), point(3, "sgmcmc", 1.0)]
    plane = PlaneData(
        "0", {}, np.zeros(2), np.zeros(2), 1.0, [], [], np.zeros((2, 2, 1, 3)), points,
        np.arange(12.0).reshape(4, 1, 3), np.empty(0), 4, 4,
    )  # fmt: skip
    anchor = Anchor(number=0, run=0, words="run 0", x=0.0, y=0.0)
    kept, words = _of_the_runs(plane, [anchor])
    assert [one["number"] for one in kept.points] == [0, 2]
    assert kept.own[:, 0, 0].tolist() == [0.0, 6.0], "its scores go with a point"
    assert words.startswith("2 samples of chains")
    assert ".99 of their norm" in words
    through, _ = _of_the_runs(plane, [anchor, replace(anchor, number=3)])
    assert [one["number"] for one in through.points] == [0, 2, 3], "a plane through one shows it"
    assert _of_the_runs(replace(plane, points=points[:1], own=plane.own[:1]), [anchor])[1] == ""
