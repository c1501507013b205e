"""What a plan costs: seconds worked out by hand, stages that are here already, and a real worker's speed."""

from __future__ import annotations

import itertools
import math
import random
import re
import shutil
import sys
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from serving import SPEC, finished, served

import modescape
from modescape.client.workspace import of_settings
from modescape.database import upgrade
from modescape.datasets.here import published
from modescape.drawing.words import between, duration, price
from modescape.errors import InvalidInput
from modescape.imported.ensemble import Recipe
from modescape.imported.memory import from_arrays
from modescape.importing import Answers, bring_in
from modescape.laboratory import Laboratory, started
from modescape.plan import _AT_ONCE, Limits, Machines, _critical_path, _wall_clock, plan, prepare, shape_of, too_much
from modescape.prices import (
    CALIBRATED,
    GUESSED,
    INFERRED,
    MEASURED,
    Calibration,
    Cost,
    Finished,
    Line,
    Prices,
    Work,
    middle,
)
from modescape.records import PlannedStage
from modescape.registry import architectures, presets
from modescape.settings import Settings
from modescape.spec import parse
from modescape.stages.keys import here_already
from modescape.store import Store
from modescape.sweeps import launching

TINY = {
    "data": {"dataset": "digits", "train_images": 100, "validation_images": 50, "test_images": 40},
    "training": {"epochs": 2, "batch_size": 20, "snapshots": 2},
    "ensemble": {"runs": 2},
    "methods": [{"method": "random", "spread": 1, "typical": 1}],
    "evaluation": {"embed_images": 20},
}
SINGLE = ("examples", "thumbnails")  # the stages of single examples
SHAPE = "1x8x8/10 small-cnn"
# A training step of 50 images takes 10 ms and 1e-9 s a multiply-add; a prediction of 500 takes 50 ms and a tenth.
SLOW = Calibration(
    {False: Line(0.01, 1e-9), True: Line(0.1, 1e-9)}, {False: Line(0.05, 1e-10), True: Line(0.5, 1e-10)}, 2.0
)


def prices(*finished: Finished, calibration: Calibration | None = SLOW) -> Prices:
    return Prices(SHAPE, 50, 1e6, batch_norm=False, finished=finished, calibration=calibration)


def test_a_kind_costs_what_stages_of_that_kind_took_on_that_shape() -> None:
    known = prices(
        Finished("train", SHAPE, 4, Work(trained=4000), 40.0),
        Finished("sample", SHAPE, 10, Work(predicted=5000), 100.0),
        Finished("train", "3x32x32/10 small-cnn", 4, Work(trained=4000), 4000.0),
    )
    cost = known.cost("train", Work(trained=1000))
    assert (cost.seconds, cost.spread) == (pytest.approx(10.0), MEASURED)  # a quarter of four that took 40 s
    assert known.cost("sample", Work(predicted=500)).seconds == pytest.approx(10.0), "a sample's own time"
    assert known.cost("sample", Work(predicted=500)).spread == MEASURED


def test_a_kind_never_seen_costs_what_trainings_and_predictions_of_the_shape_do() -> None:
    known = prices(
        Finished("train", SHAPE, 10, Work(trained=40_000), 44.0),  # 0.4 s of each stage is not its images': 1 ms each
        Finished("predict", SHAPE, 10, Work(predicted=40_000), 8.0),  # 0.1 ms an image
    )
    cost = known.cost("chain", Work(trained=3000))
    assert (cost.seconds, cost.spread) == (pytest.approx(3.4), INFERRED)
    assert known.cost("tunnel", Work(trained=3000, predicted=10_000)).seconds == pytest.approx(4.4)


def test_comparisons_on_another_shape_tell_what_they_cost_here_and_trainings_do_not() -> None:
    known = prices(
        Finished("compare", "3x32x32/10 small-cnn", 1, Work(other=10.0), 5.0),
        Finished("train", "3x32x32/10 small-cnn", 1, Work(trained=1000), 500.0),
    )
    cost = known.cost("compare", Work(other=10.0))
    assert (cost.seconds, cost.spread) == (pytest.approx(5.0), INFERRED)
    assert known.cost("train", Work(trained=1000)).spread == CALIBRATED


def test_before_anything_has_finished_a_price_is_what_a_worker_measured_within_a_factor_of_three() -> None:
    cost = prices().cost("train", Work(trained=1000))
    # 20 steps of 10 ms, 1000 images of 1e6 multiply-adds of 1 ns, and 0.4 s for the stage
    assert cost.seconds == pytest.approx(20 * 0.01 + 1000 * 1e-3 + 0.4)
    assert cost.high / cost.low == pytest.approx(3.0)
    assert prices().cost("predict", Work(predicted=1000)).seconds == pytest.approx(2 * 0.05 + 1000 * 1e-4 + 0.4)
    assert prices().cost("compare", Work(other=3.0)).seconds == pytest.approx(3.0 * 2 + 0.4)
    unknown = prices(calibration=None).cost("train", Work(trained=1000))
    assert unknown.high / unknown.low == pytest.approx(GUESSED**2)


UNITS = {"s": 1, "min": 60, "days": 86400}


def seconds(words: str) -> int:
    """What a duration says."""
    if found := re.fullmatch(r"(\d+) h (\d\d)", words):
        return 3600 * int(found[1]) + 60 * int(found[2])
    number, unit = words.split(" ")
    return int(number) * UNITS[unit]


def test_a_duration_is_said_to_a_fifth_at_any_length() -> None:
    for length in [*range(1, 20_000), *range(20_000, 400_000, 7), 7190.0, 86_399.0, 129_590.0, 1e6, 1e7]:
        assert seconds(duration(length)) == pytest.approx(length, rel=0.2001), length
    assert (duration(7190), duration(129_590)) == ("2 h 00", "36 h 00")
    assert (duration(59 * 60), duration(64 * 60), duration(98 * 60)) == ("59 min", "1 h 04", "1 h 38")
    assert (between(113, 360), between(40, 120), between(95, 200)) == ("2 to 6 min", "40 to 120 s", "2 to 3 min")
    assert (price(92, 73, 115), between(73, 115)) == ("≈ 92 s", "73 to 115 s")


def test_several_workers_count_as_the_middle_one() -> None:
    def of(step: float) -> Calibration:
        lines = {norm: Line(step, 1e-9) for norm in (False, True)}
        return Calibration(lines, lines, step)

    found = middle([of(3.0), of(1.0), of(50.0)])
    assert found is not None
    assert (found.train[False].step, found.other) == (3.0, 3.0)
    assert middle([]) is None
    assert Calibration.read(found.as_document()) == found
    assert Calibration.read(None) is None


def test_a_shape_is_images_classes_network_and_arithmetic_not_the_name_of_a_set() -> None:
    info = published("cifar10")
    spec = parse({"data": {"dataset": "cifar10"}})
    assert shape_of(spec, info) == "3x32x32/10 small-cnn"
    assert shape_of(spec, replace(info, channels=1, height=28, width=28)) == "1x28x28/10 small-cnn"
    other = parse({"data": {"dataset": "svhn"}, "training": {"precision": "float32"}})
    assert shape_of(other, info) == "3x32x32/10 small-cnn float32"
    other = parse({"data": {"dataset": "svhn"}, "network": {"options": {"dropout": 0.3}}})
    assert shape_of(other, info) == "3x32x32/10 small-cnn dropout=0.3"


def test_workers_share_the_plan_as_the_store_gives_it_out() -> None:
    """Three runs on two workers: two side by side, each predicting once it is trained, then the third."""
    document = {**TINY, "ensemble": {"runs": 3}, "methods": []}
    info = published("digits")
    spec = parse(document)
    of = shape_of(spec, info)
    train = Finished("train", of, 1, Work(trained=100), 10.0)
    predict = Finished("predict", of, 1, Work(predicted=80), 2.0)
    rest = [Finished(kind, of, 1, Work(other=1.0), 0.0) for kind in ("compare", "embed", "ensemble", *SINGLE)]
    one, two = (
        plan(spec, info, machines=Machines(workers, "cpu/1", (train, predict, *rest), SLOW)) for workers in (1, 2)
    )
    costs = {kind.kind: kind.seconds for kind in two.kinds}
    each, after = costs["train"] / 3, costs["predict"] / 3
    assert one.seconds == pytest.approx(3 * (each + after))
    # 0 and 1 train and predict; then 2 trains and predicts
    assert two.seconds == pytest.approx(2 * (each + after))
    assert two.basis == "from finished stages here"


def test_a_price_on_a_gpu_is_given_only_where_one_was_measured() -> None:
    info = published("cifar10")
    spec = parse({"data": {"dataset": "cifar10"}, "ensemble": {"runs": 1}})
    assert plan(spec, info).gpu is None
    found = plan(spec, info, gpu=Machines(1, "cuda/H100", (), SLOW)).gpu
    assert found is not None
    assert found.basis == "from a first measurement of the workers"
    assert found.high / found.low == pytest.approx(3.0)


def test_a_laboratory_asks_its_living_workers_and_names_a_gpu_it_knows(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    upgrade(settings.database)
    laboratory = Laboratory(settings)
    assert laboratory.machines() == Machines()
    for name, numerics in (("a", "cpu/1"), ("b", "cpu/1"), ("gpu", "cuda/1")):
        laboratory.store.workers.register(name, device="x", numerics=numerics, queue="cpu", pid=1)
    laboratory.store.workers.calibrated("a", SLOW.as_document())
    assert laboratory.machines() == Machines(2, "cpu/1", (), SLOW)
    assert laboratory.prepare(TINY).plan.gpu is None, "it has measured nothing"
    laboratory.store.workers.calibrated("gpu", SLOW.as_document())
    assert laboratory.prepare(TINY).plan.gpu is not None
    for name in ("a", "b"):
        laboratory.store.workers.stopped(name)
    assert laboratory.machines().numerics == "cuda/1"
    assert laboratory.prepare(TINY).plan.gpu is None, "the price is one on a GPU already"


# ---- what is here already ----


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> modescape.Lab:
    return modescape.run(TINY, folder=tmp_path_factory.mktemp("prices"))


def known_here(lab: modescape.Lab) -> Laboratory:
    """Its laboratory with a worker of the arithmetic that has done it."""
    from modescape.executor import Machine

    here = Machine.here(lab.laboratory.settings)
    lab.store.workers.register("w", device=here.title, numerics=here.numerics, queue="cpu", pid=1)
    return lab.laboratory


@pytest.mark.slow
def test_the_same_spec_again_is_all_here(lab: modescape.Lab) -> None:
    found = known_here(lab).prepare(TINY).plan
    assert found.here == len(found.stages) == len(lab.stages)
    assert all(kind.here == kind.count for kind in found.kinds)
    assert found.seconds < 2
    assert known_here(lab).prepare(TINY, fresh=True).plan.here == 0


def test_more_runs_find_the_earlier_ones_and_what_stands_on_them_alone(lab: modescape.Lab) -> None:
    found = known_here(lab).prepare({**TINY, "ensemble": {"runs": 3}}).plan
    here = {kind.kind: (kind.here, kind.count) for kind in found.kinds}
    assert here == {
        "train": (2, 3), "predict": (2, 3), "sample": (4, 6), "compare": (0, 2), "embed": (0, 2), "ensemble": (0, 1),
        "examples": (0, 1), "thumbnails": (1, 1),
    }  # fmt: skip
    longer = known_here(lab).prepare({**TINY, "training": {**TINY["training"], "epochs": 3}}).plan
    assert longer.here == 1  # pictures of the same images
    other = {**TINY, "evaluation": {"embed_images": 20, "splits": ["validation", "test"]}}
    assert {kind.kind: kind.here for kind in known_here(lab).prepare(other).plan.kinds}["train"] == 2


@pytest.mark.slow
def test_what_is_said_to_be_here_is_what_a_worker_takes_over(lab: modescape.Lab) -> None:
    laboratory = known_here(lab)
    wider = {**TINY, "methods": [*TINY["methods"], {"method": "diagonal", "spread": 1, "typical": 1}]}
    promised = laboratory.prepare(wider).plan.here
    again = modescape.run(wider, settings=laboratory.settings, name="wider")
    assert (
        promised == sum(stage.reused_from is not None for stage in again.stages) == 10
    )  # 2 x train, predict, 2 samples; what the runs say of single examples, and pictures of those


@pytest.mark.parametrize("name", sorted(presets))
def test_every_stage_of_every_preset_can_be_here_already(name: str) -> None:
    """Whatever a stage's key is made of, it is there before the stage is stored."""
    prepared = prepare(presets[name].call(), [], as_published=True)
    looks = {(one.kind, one.key) for one in prepared.plan.stages if one.kind == "look" or one.key == "check"}
    here = here_already(prepared.spec, prepared.plan.stages, "cpu/1", set)
    assert here == {(one.kind, one.key) for one in prepared.plan.stages} - looks


@pytest.mark.parametrize("numerics", ["cpu/AVX512/torch 2/float32/1 thread", "cpu/AVX512/torch 2/bfloat16/1 thread"])
def test_another_engine_of_a_network_is_told_from_the_one_before(
    numerics: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it came to other bits: trained in float32 on a processor."""
    kept: set[str] = set()
    prepared = prepare(TINY, [], as_published=True)

    def taken_over() -> set[tuple[str, str]]:
        return here_already(prepared.spec, prepared.plan.stages, numerics, kept.__and__)

    def keep(memos: Collection[str]) -> set[str]:
        kept.update(memos)
        return set(memos)

    everything = here_already(prepared.spec, prepared.plan.stages, numerics, keep)
    assert taken_over() == everything
    before = {**architectures}["small-cnn"]
    monkeypatch.setitem(architectures._entries, "small-cnn", replace(before, engine=before.engine + 1))
    now = taken_over()
    if "bfloat16" in numerics:
        assert now == everything
    else:  # pictures of the same images are still here
        assert {kind for kind, _ in now} == {"thumbnails"}


def test_stages_that_were_done_price_the_next(lab: modescape.Lab) -> None:
    laboratory = known_here(lab)
    kinds = {one.kind for one in lab.store.workers.finished_work(laboratory.machines().numerics)}
    assert kinds == {stage.kind for stage in lab.stages}
    other = {**TINY, "ensemble": {"runs": 2, "seed": 5}}
    found = laboratory.prepare(other).plan
    assert found.here == 1  # pictures of the same images
    assert found.basis == "from finished stages here"
    assert found.high / found.low == pytest.approx(MEASURED**2)
    spent = sum(stage.seconds for stage in lab.stages)
    assert math.isclose(found.seconds, spent, rel_tol=0.5), "one worker, the same work again"


@pytest.mark.slow
def test_a_worker_measures_itself_in_seconds() -> None:
    from modescape.calibration import calibrate

    found = calibrate("cpu")
    for line in (*found.train.values(), *found.predict.values()):
        assert 0 <= line.step < 1
        assert 1e8 < 1 / line.multiply_add < 1e13
    assert 0.01 < found.other < 100
    assert Calibration.read(found.as_document()) == found


def test_sums_of_finished_work_need_no_work_in_old_rows(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'old.db'}"
    upgrade(url)
    store = Store(url)
    row = Laboratory(Settings(home=tmp_path, database_url=url)).create(TINY, name="old")
    stage = store.stages.of(row.id)[0]
    stage.work = None
    store.workers.learn(stage, "cpu/1", 3.0)
    assert store.workers.finished_work("cpu/1") == []


# --- the critical path ------------------------------------------------------------------------------------------------


def test_the_critical_path_is_the_longest_of_all_chains() -> None:
    """Against every chain there is, of a graph made at random; and no more than what one worker needs."""
    draw = random.Random(3)
    for _ in range(30):
        names = [("k", str(i)) for i in range(9)]
        stages = [
            PlannedStage(
                *name, needs=tuple(n for n in names[:i] if draw.random() < 0.3),
                wants=tuple(n for n in names[:i] if draw.random() < 0.1),
            )
            for i, name in enumerate(names)
        ]  # fmt: skip
        costs = {name: Cost(draw.random() * 10, 1.0) for name in names}
        waited = {(one.kind, one.key): {*one.needs, *one.wants} for one in stages}

        def chains(name, waited=waited):
            yield (name,)
            for need in waited[name]:
                yield from ((*before, name) for before in chains(need, waited))

        longest = max(sum(costs[n].seconds for n in chain) for name in names for chain in chains(name))
        path = _critical_path(stages, costs)
        assert sum(link.seconds for link in path) == pytest.approx(longest)
        following = itertools.pairwise(path)
        assert all((before.kind, before.key) in waited[after.kind, after.key] for before, after in following)
        assert _wall_clock(stages, costs, 9) == pytest.approx(longest)  # a worker for each: nothing else is waited for


def test_a_plan_without_stages_has_no_critical_path() -> None:
    assert _critical_path([], {}) == ()


# --- what one launch may cost -----------------------------------------------------------------------------------------

LARGE: list[dict[str, Any]] = [
    {"ensemble": {"runs": 60}},
    {"training": {"epochs": 5000}},
    {"ensemble": {"runs": 12}, "methods": [{"method": "random", "spread": 300, "typical": 900}]},
    {"network": {"options": {"width": 128}}},
    {"data": {"dataset": "digits", "test_images": 900}, "training": {"epochs": 200, "snapshots": 150}},
]


@pytest.fixture
def home(tmp_path: Path) -> Laboratory:
    return started(tmp_path / "home", None).laboratory


def limited(home: Laboratory, **limits: float) -> Laboratory:
    return Laboratory(home.settings.model_copy(update=limits))


@pytest.mark.slow
@pytest.mark.parametrize("changes", LARGE)
@pytest.mark.parametrize("what", ["bytes", "machine_seconds"])
def test_the_numbers_that_a_refusal_allows_are_allowed(home: Laboratory, changes: dict[str, Any], what: str) -> None:
    large = home.prepare(changes)
    half = getattr(large.plan, what) / 2
    found = too_much(large, home.machines(), Limits(**{what: half}))
    assert found[0].field
    for one in found:
        most = int(one.allowed.removeprefix("at most ").replace(",", ""))
        document = large.spec.model_dump(mode="json")
        *steps, last = one.field.split(".")
        place: Any = document
        for step in steps:
            place = place[int(step) if isinstance(place, list) else step]
        assert place[last] > most
        place[last] = most
        assert getattr(home.prepare(document).plan, what) <= half


@pytest.mark.slow
def test_a_launch_that_costs_too_much_names_what_to_change_and_stores_nothing(home: Laboratory) -> None:
    plan = home.prepare({"ensemble": {"runs": 50}}).plan
    tight = limited(home, max_gigabytes=plan.bytes / 1e9 / 5)
    with pytest.raises(InvalidInput, match=r"it would keep .* a launch may keep .*MODESCAPE_MAX_GIGABYTES") as refused:
        tight.create({"ensemble": {"runs": 50}}, name="large")
    assert refused.value.field == "ensemble.runs"
    assert 1 <= int(refused.value.allowed.removeprefix("at most ")) <= 10
    slow = limited(home, max_machine_days=plan.machine_seconds / 86_400 / 5)
    with pytest.raises(InvalidInput, match=r"of machine time, .*MODESCAPE_MAX_MACHINE_DAYS"):
        slow.create({"ensemble": {"runs": 50}}, name="large")
    assert home.store.experiments.page().total == 0
    anything = limited(home, max_gigabytes=0.0, max_machine_days=0.0)
    assert anything.limits.exceeded(1e30, 1e30) == []
    with pytest.raises(InvalidInput, match=r"it would keep .* are free on the disk of .*artifacts, of which 5 %"):
        home.create({"ensemble": {"runs": 1000}, "training": {"epochs": 100_000}}, name="93 PB")


def test_a_small_experiment_on_a_nearly_full_disk_is_told(home: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=2_000_000))
    with pytest.raises(InvalidInput, match=r"it would keep 5\.\d+ MB, and 2 MB are free on the disk of"):
        home.create({}, name="small")


@pytest.mark.slow
def test_what_is_here_already_costs_nothing_again(tmp_path: Path) -> None:
    with served(tmp_path / "home") as site:
        finished(site.laboratory)
        stages = site.laboratory.store.stages.of(site.laboratory.store.experiments.page().items[0].id)
        plan = site.laboratory.prepare(SPEC).plan
        assert plan.new_bytes == plan.bytes, "another runner's keys"
        done = replace(plan, here=len(stages))
        assert done.new_bytes == 0
        assert replace(plan, here=len(stages) // 2).new_bytes < plan.bytes


def test_sweeps_are_limited_as_a_whole(home: Laboratory) -> None:
    document = {"base": {}, "over": {"training.learning_rate": [0.001, 0.002, 0.003, 0.004]}}
    prepared = launching.prepare(home, document)
    whole = sum(one.prepared.plan.new_bytes for one in prepared.cells)
    tight = limited(home, max_gigabytes=whole / 1e9 / 2)
    with pytest.raises(InvalidInput, match="4 cells are too many together") as refused:
        launching.create(tight, prepared, name="cells")
    assert (refused.value.field, refused.value.allowed[:13]) == ("over", "about 2 cells")
    tighter = limited(home, max_gigabytes=whole / 1e9 / 10)
    with pytest.raises(InvalidInput) as refused:
        launching.create(tighter, prepared, name="cells")
    assert {one.field for one in refused.value.problems} >= {"base.training.epochs"} or refused.value.field == "runs"
    assert home.store.sweeps.all() == []
    assert launching.create(home, prepared, name="cells").slug == "cells"


def test_imports_are_limited(home: Laboratory) -> None:
    ensemble = from_arrays(np.random.default_rng(0).normal(size=(3, 500, 10)).astype(np.float32), np.arange(500) % 10)
    with pytest.raises(InvalidInput, match="it would keep"):
        bring_in(limited(home, max_gigabytes=1e-6), ensemble, name="given", answers=Answers(recipe=Recipe.SAME))
    assert not (home.settings.artifact_place / "tmp").exists(), "before anything is kept"
    assert bring_in(home, ensemble, name="given", answers=Answers(recipe=Recipe.SAME)).slug == "given"


def test_every_door_refuses_and_the_estimate_still_tells_the_price(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(tmp_path / "home", max_machine_days=1e-9) as site, site.client() as client:
        told = client.post("/api/estimate", json={"spec": SPEC}).json()
        assert told["bytes"] > 0
        assert told["free_bytes"] > 0
        assert "spec.ensemble.runs" not in [one["field"] for one in told["refused"]], "one run takes longer than that"
        assert "MODESCAPE_MAX_MACHINE_DAYS" in told["refused"][0]["message"]
        answer = client.post("/api/experiments", json={"spec": SPEC})
        assert (answer.status_code, answer.json()["type"]) == (422, "/api/docs#invalid-input")
        assert [one["field"] for one in answer.json()["errors"]] == [one["field"] for one in told["refused"]]
        sweep = {"base": SPEC, "over": {"training.epochs": [2, 3]}}
        assert client.post("/api/sweeps", json=sweep).status_code == 422
        assert client.post("/api/sweeps/estimate", json=sweep).json()["refused"]
        for lab in (of_settings(site.settings), modescape.connect(site.url)):
            assert "a launch is refused: " in str(lab.estimate(SPEC))
            with pytest.raises(InvalidInput, match="of machine time"):
                lab.launch(SPEC)
        page = client.get("/launch?preset=quickstart", headers={"Accept": "text/html"}).text
        assert re.search(r"MB of [\d.]+ GB\s+free", page)
        assert "of machine time" in page
        assert site.laboratory.store.experiments.page().total == 0


# --- what a plan itself costs ----------------------------------------------------------------------------------------


def lines_of(work: Callable[[], object]) -> int:
    """Lines of Python that are run for it, each turn of a loop by itself: a time that no machine changes."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Callable[..., object]:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.slow
def test_a_plan_of_twice_as_many_runs_costs_twice_as_much(tmp_path: Path) -> None:
    lab = started(tmp_path / "home", None).laboratory

    def spec(runs: int) -> dict[str, Any]:
        return {**SPEC, "ensemble": {"runs": runs}, "methods": [{"method": "random", "spread": 1, "typical": 1}]}

    lab.prepare(spec(2))  # what is read once
    few, many = (lines_of(lambda: lab.prepare(spec(runs))) for runs in (50, 100))  # noqa: B023  # asked at once
    assert many < 2.2 * few, (few, many)


@pytest.mark.slow
def test_a_spec_or_a_sweep_of_very_many_stages_is_refused_before_they_are_planned(tmp_path: Path) -> None:
    spec = {**SPEC, "ensemble": {"runs": 1000}, "connectivity": {}}
    over = {"training.learning_rate": [i / 1e4 for i in range(1, 40)]}
    cells = {"base": {**SPEC, "ensemble": {"runs": 900}}, "over": over}
    with served(tmp_path / "home") as site, site.client() as client:
        alone = client.post("/api/estimate", json={"spec": spec})
        swept = client.post("/api/sweeps/estimate", json=cells)
    assert (alone.status_code, alone.json()["errors"][0]["field"]) == (422, "spec.ensemble.runs")
    assert "more than 15,000 stages" in alone.json()["detail"]
    assert (swept.status_code, swept.json()["errors"][0]["field"]) == (422, "over")
    assert "more than 50,000 stages" in swept.json()["detail"]


def test_plans_take_turns_and_say_so_when_they_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modescape.plan.PLANNING_SECONDS", 0.05)
    with served(tmp_path / "home") as site, site.client() as client:
        with _AT_ONCE, _AT_ONCE:
            refused = client.post("/api/estimate", json={"spec": SPEC})
            lists = client.get("/api/experiments")
        assert (refused.status_code, lists.status_code) == (409, 200)
        assert refused.headers["retry-after"]
        assert client.post("/api/estimate", json={"spec": SPEC}).status_code == 200
