"""Sweeps: which cells there are, what is wrong with them, what is done once, what they say together."""

from __future__ import annotations

import csv
import html
import io
import itertools
import json
import math
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from serving import SPEC, Served, served, work
from unlucky import weigh

from modescape.cli import main
from modescape.comparing.ensembles import BOUNDS, Ensemble, Reading, Value, difference_bounds
from modescape.errors import Conflict, InvalidInput, NotFound
from modescape.executor import Executor
from modescape.laboratory import started
from modescape.records import PlannedStage
from modescape.science.confidence import Word
from modescape.science.seeds import run_seeds
from modescape.spec import parse
from modescape.store import Store
from modescape.store.sweeps import NewCell
from modescape.sweeps import launching, telling
from modescape.sweeps.asked import exact, read
from modescape.sweeps.numbers import Numbers
from modescape.sweeps.running import Swept
from modescape.sweeps.telling import CellAnswer, Verdict
from modescape_api.http.replies import csv_lines

LEARNING = {**SPEC["training"], "epochs": 4, "batch_size": 5, "learning_rate": 0.003}
BASE = {**SPEC, "training": LEARNING, "ensemble": {"runs": 3, "seed": 40}}
OVER = {"training.learning_rate": [0.001, 0.003], "methods.random.typical": [2, 3]}


# ---- what is asked ----


def test_cells_are_all_combinations_with_a_seed_of_their_own_each() -> None:
    cells = list(read({"base": BASE, "over": OVER, "runs": 4}).cells())
    assert [tuple(cell.varied.values()) for cell in cells] == list(itertools.product(*OVER.values()))
    assert [cell.document["ensemble"] for cell in cells] == [{"runs": 4, "seed": 40 + i} for i in range(4)]
    assert [cell.document["training"]["learning_rate"] for cell in cells] == [0.001, 0.001, 0.003, 0.003]
    assert BASE["ensemble"] == {"runs": 3, "seed": 40}  # the base is not written into


def test_paired_cells_have_the_bases_seed() -> None:
    assert {c.document["ensemble"]["seed"] for c in read({"base": BASE, "over": OVER, "paired": True}).cells()} == {40}


def test_another_network_does_not_keep_the_bases_options() -> None:
    base = {"network": {"architecture": "small-cnn", "options": {"zero_bias": True}}}
    first, second = read({"base": base, "over": {"network.architecture": ["small-cnn", "mlp"]}}).cells()
    assert first.document["network"]["options"] == {"zero_bias": True}
    assert "options" not in second.document["network"]


@pytest.mark.parametrize(
    ("document", "field", "says"),
    [
        ({"base": BASE, "over": {}}, "over", "no field"),
        ({"base": "nothing-such", "over": OVER}, "base", "no preset"),
        ({"base": BASE, "over": {"training.epochs": [2, 2]}}, "over.training.epochs", "2 twice"),
        ({"base": BASE, "over": {"training.epochs": []}}, "over.training.epochs", "0 values"),
        ({"base": BASE, "over": {"ensemble.seed": [1, 2]}}, "over.ensemble.seed", "cannot be varied"),
        ({"base": BASE, "over": {"ensemble.runs": [2, 3]}, "runs": 3}, "over.ensemble.runs", "given by runs"),
        ({"base": BASE, "over": {"training": [{}], "training.epochs": [1]}}, "over.training", "training.epochs"),
        ({"base": BASE, "over": {"training.epochs": [*range(1, 12)], "training.batch_size": [*range(1, 12)]}}, "over",
         "121 cells"),
        ({"base": BASE, "over": {"methods.absent.typical": [1]}}, "over.methods.absent.typical", "value 1"),
        ({"base": BASE, "over": OVER, "runs": 0}, "runs", ""),
        ({"base": BASE, "over": OVER, "extra": 1}, "extra", ""),
        (["over"], "", "not an object"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_its_field(document: Any, field: str, says: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        list(read(document).cells())
    assert refused.value.field == field
    assert says in str(refused.value)


def test_every_cell_is_checked_before_any_is_stored(tmp_path: Path) -> None:
    laboratory = started(tmp_path, None).laboratory
    over = {"training.learning_rate": [0.001, -1], "trainin.epochs": [1], "training.snapshots": [2, 5000]}
    with pytest.raises(InvalidInput) as refused:
        launching.prepare(laboratory, {"base": BASE, "over": over})
    told = {(p.field, p.message.split(":")[0]) for p in refused.value.problems}
    assert ("over.training.learning_rate", "value -1") in told
    assert ("over.trainin.epochs", "value 1") in told
    del over["trainin.epochs"], over["training.learning_rate"]
    with pytest.raises(InvalidInput) as refused:
        launching.prepare(laboratory, {"base": BASE, "over": over})
    assert [(p.field, p.message.split(":")[0]) for p in refused.value.problems] == [
        ("over.training.snapshots", "value 5000")
    ]
    bad = {**BASE, "training": {**LEARNING, "epochs": 0}}
    with pytest.raises(InvalidInput, match="in every cell: 0 is too small") as refused:
        launching.prepare(laboratory, {"base": bad, "over": {"data.test_images": [20, 30]}})
    assert len(refused.value.problems) == 1, "what is wrong with the base is said once"
    assert laboratory.store.experiments.page().total == 0


def test_cells_that_are_the_same_experiment_are_refused(tmp_path: Path) -> None:
    laboratory = started(tmp_path, None).laboratory
    over = {"training.learning_rate": [1, 1.0]}
    with pytest.raises(InvalidInput, match="same experiment") as refused:
        launching.prepare(laboratory, {"base": BASE, "over": over})
    assert refused.value.field == "over"


# ---- what is kept ----


def cells(count: int = 2) -> list[NewCell]:
    stages = [PlannedStage(kind="train", key=str(i), params={"run": i}) for i in range(2)]
    return [NewCell(f"s: {i}", {"training.epochs": i}, parse({"ensemble": {"seed": i}}), stages) for i in range(count)]


def test_a_sweep_is_stored_whole_or_not_at_all(store: Store) -> None:
    broken = [*cells(2), NewCell("x", {}, parse({}), [PlannedStage(kind="a", key="0", params={})] * 2)]
    with pytest.raises(ValueError, match="same kind and key"):
        store.sweeps.create(name="s", document={}, cells=broken)
    assert store.experiments.page().total == 0
    assert store.sweeps.all() == []
    made = store.sweeps.create(name="s", document={"over": {}}, cells=cells())
    kept = store.sweeps.get(made.slug)
    assert [cell.varied for cell in kept.cells] == [{"training.epochs": 0}, {"training.epochs": 1}]
    assert [row.name for row in kept.experiments] == ["s: 0", "s: 1"]
    assert [row.slug for row in store.sweeps.holding(kept.experiments[0].id)] == ["s"]


def test_stages_of_earlier_cells_are_claimed_first(store: Store) -> None:
    """Whatever ids they have: what cells have in common is there when the next one comes to it."""
    made = store.sweeps.create(name="s", document={}, cells=cells(5))
    order = [row.id for row in store.sweeps.get(made.id).experiments]
    claimed = []
    while (lease := store.leases.claim("w", lease_seconds=60)) is not None:
        claimed.append(order.index(lease.experiment.id))
    assert claimed == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_a_request_that_is_repeated_makes_one_sweep(store: Store) -> None:
    first = store.sweeps.create(name="s", document={}, cells=cells(), idempotency=("k", "d"))
    again = store.sweeps.create(name="s", document={}, cells=cells(), idempotency=("k", "d"))
    assert again.id == first.id
    assert store.experiments.page().total == 2
    with pytest.raises(Conflict):
        store.sweeps.create(name="s", document={}, cells=cells(), idempotency=("k", "other"))


def test_a_purged_cell_leaves_its_place(store: Store) -> None:
    made = store.sweeps.create(name="s", document={}, cells=cells())
    row = store.sweeps.get(made.id).experiments[0]
    store.experiments.archive(row.id)
    store.experiments.purge(row.id)
    assert [cell.experiment is None for cell in store.sweeps.get(made.id).cells] == [True, False]
    with pytest.raises(Conflict):
        store.sweeps.forget(made.id)
    store.sweeps.archive(made.id)
    assert store.sweeps.all() == []
    store.sweeps.forget(made.id)
    assert store.experiments.page().total == 1
    with pytest.raises(NotFound):
        store.sweeps.get(made.id)


# ---- what is computed ----


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """Four tiny cells with one root seed, really computed; two of each two differ in samples only."""
    here = started(tmp_path_factory.mktemp("sweep"), None)
    prepared = launching.prepare(here.laboratory, {"base": BASE, "over": OVER, "paired": True})
    row = launching.create(here.laboratory, prepared, name="paired")
    settings = here.laboratory.settings
    Executor(here.laboratory.store, here.laboratory.artifacts, settings).drain()
    return Swept(here.laboratory, row.id, here)


@pytest.mark.slow
def test_stages_that_cells_have_in_common_are_done_once(swept: Swept) -> None:
    """Cells 1 and 2, and 3 and 4, share a root seed and trainings: nothing of those is trained or predicted twice."""
    for place, row in enumerate(swept.kept.experiments):
        assert row.status == "succeeded"
        stages = swept.laboratory.store.stages.without_results(row.id)
        again = {stage.kind for stage in stages if stage.reused_from is None}
        if place % 2:
            assert not again & {"train", "predict"}
        else:
            assert {"train", "predict"} <= again
    memos = [s.memo for row in swept.kept.experiments for s in swept.laboratory.store.stages.without_results(row.id)
             if s.reused_from is None]  # fmt: skip
    assert len(set(memos)) == len(memos)


def test_the_price_says_what_is_shared(swept: Swept) -> None:
    """Of a sweep not launched yet, by its stage keys; and all is here once it has run."""
    document = {"base": {**BASE, "ensemble": {"runs": 3, "seed": 77}}, "over": OVER, "paired": True}
    laboratory = swept.laboratory
    numerics = Executor(laboratory.store, laboratory.artifacts, laboratory.settings).machine.numerics
    laboratory.store.workers.register("w", device="cpu", numerics=numerics, queue="cpu", pid=1)
    done = [laboratory.store.stages.without_results(row.id) for row in swept.kept.experiments]
    price = launching.prepare(laboratory, document).price
    alike = sum(stage.kind == "thumbnails" for stages in done for stage in stages)  # of the images, whatever the seed
    assert (price.cells, price.stages, price.here) == (4, sum(map(len, done)), alike)
    reused = [stage.kind for stages in done for stage in stages if stage.reused_from is not None]
    assert price.shared == sum(kind != "thumbnails" for kind in reused)
    apart = launching.prepare(laboratory, {**document, "paired": False}).price
    assert apart.shared == 0
    assert apart.seconds > price.seconds
    again = {"base": BASE, "over": OVER, "paired": True}
    assert launching.prepare(laboratory, again).price.here == price.stages


def test_paired_differences_are_the_jackknife_of_the_difference(swept: Swept) -> None:
    """From the kept predictions alone, with scipy's Student t."""
    numbers, laboratory = Numbers(swept.laboratory, swept.kept), swept.laboratory
    correct = []
    for row in swept.kept.experiments:
        results = laboratory.results(row.id)
        optima = results.solutions(role="optimum")
        correct.append((results.labels_of(optima, "test") == results.true_labels("test")).mean(1))
    gap = correct[2] - correct[0]
    n = len(gap)
    error = gap.std(ddof=1) / math.sqrt(n)  # of a mean the jackknife is the usual standard error
    half = stats.t.ppf(0.975, n - 1) * error
    found = numbers.difference(2, "accuracy")
    assert found is not None
    assert found.value == pytest.approx(gap.mean())
    assert found.low == pytest.approx(gap.mean() - half)
    assert found.high == pytest.approx(gap.mean() + half)
    same = numbers.difference(1, "accuracy")  # the same networks
    assert same is not None
    assert same.value == 0
    assert same.low is None


def test_the_gain_is_that_of_averaged_probabilities(swept: Swept) -> None:
    numbers, row = Numbers(swept.laboratory, swept.kept), swept.kept.experiments[2]
    results = swept.laboratory.results(row.id)
    logits = np.stack([results.logits(one, "test") for one in results.solutions(role="optimum")]).astype(np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    truth = results.true_labels("test")
    single = (logits.argmax(-1) == truth).mean()

    def gain(kept: list[int]) -> float:
        alone = (logits[kept].argmax(-1) == truth).mean()
        return float((probabilities[kept].mean(0).argmax(-1) == truth).mean() - alone)

    found = numbers.value(2, "gain")
    assert found is not None
    assert found.value == pytest.approx(gain([0, 1, 2]))
    without = np.array([gain([1, 2]), gain([0, 2]), gain([0, 1])])
    error = math.sqrt(2 / 3 * np.square(without - without.mean()).sum())
    if error:
        assert found.high == pytest.approx(found.value + stats.t.ppf(0.975, 2) * error)
    assert row.ensemble_accuracy == pytest.approx(found.value + single)
    measured = Ensemble(results).statistics["gain"]
    assert measured is not None
    assert math.isnan(measured(np.array([1]))), "so that of two runs there is no spread"


def test_any_number_is_drawn_against_any_varied_field(swept: Swept) -> None:
    numbers = swept.numbers()
    for y, x in itertools.product(numbers.quantities, numbers.fields):
        drawn = swept.figure(y, x=x)
        shown = sum(len(trace.x) for trace in drawn.data)
        assert shown == sum(numbers.value(i, y) is not None for i in range(4))
    with pytest.raises(InvalidInput, match="no number"):
        swept.figure("nothing")
    with pytest.raises(InvalidInput, match="not varied"):
        swept.figure(x="training.epochs")


def test_the_tables_say_what_the_claims_say(swept: Swept) -> None:
    claims = swept.claims()
    rows = list(csv.DictReader(io.StringIO(swept.csv())))
    assert len(rows) == 4 * len(claims) > 0
    assert {row["training.learning_rate"] for row in rows} == {"0.001", "0.003"}
    for row in rows:
        claim = next(claim for claim in claims if claim.letter == row["claim"])
        cell = claim.cells[int(row["cell"]) - 1]
        assert row["word"] == cell.word
        if claim.letter == "b" and cell.value is not None:  # a ratio, as the page, LaTeX and the other table have it
            assert float(row["estimate"]) == pytest.approx(math.exp(cell.value))
            assert f"{float(row['estimate']):.3g} times" == cell.effect
    table = swept.latex()
    assert table.count(r"\\") == 6  # head, cells, all cells
    assert table.count("{") == table.count("}")


# ---- what cells say together ----


def answers(*words: tuple[Word | None, float | None]) -> list[CellAnswer]:
    return [CellAnswer(f"c{i}", word, p=p, tested=p is not None) for i, (word, p) in enumerate(words)]


def over(*words: tuple[Word | None, float | None]) -> telling.ClaimTold:
    return telling._over_cells("a", "title", answers(*words), 0)


YES, NO, OPEN = Word.HOLDS, Word.DOES_NOT_HOLD, Word.CANNOT_TELL


def test_in_every_cell_needs_no_correction() -> None:
    """Each at 2.5 %: Berger's intersection-union test. Holm's correction would leave none of these standing."""
    found = over((YES, 0.02), (YES, 0.024), (YES, 0.02))
    assert found.verdict is Verdict.EVERY
    assert not any(cell.stands for cell in found.cells)
    assert "every one" in found.in_some
    assert "none can be named" in found.in_some


def test_in_some_is_holms_correction_over_the_cells_tested() -> None:
    found = over((YES, 0.008), (YES, 0.02), (OPEN, 0.3), (None, None))
    assert [cell.stands for cell in found.cells] == [True, False, False, False]  # .025/3 = .0083 < .02 > .025/2
    assert found.verdict is Verdict.SOME
    assert "3 cells tested" in found.in_some
    assert "c2" in found.in_every
    assert "c3" in found.in_every
    assert over((YES, 0.009), (YES, 0.02), (OPEN, 0.3)).verdict is Verdict.CANNOT_TELL


def test_a_cell_that_is_a_later_look_says_so_with_the_word_at_its_level() -> None:
    first, second = answers((YES, 0.02), (YES, 0.001))
    found = telling._over_cells("a", "title", [replace(first, look=2, at_look="at 2.5 %: cannot tell"), second], 0)
    assert found.in_every.startswith("Holds in every cell")
    assert "later ones at the same trainings (science o.11): c0: look 2, at 2.5 %: cannot tell." in found.in_every
    assert "look" not in over((YES, 0.02), (YES, 0.001)).in_every


def test_no_two_sentences_contradict_each_other() -> None:
    """Random cells: what is said of every, of some and of none fits together and fits the words."""
    draw = random.Random(0)
    seen = set()
    for _ in range(4000):
        words = []
        for _ in range(draw.randint(1, 5)):
            word = draw.choice([YES, YES, NO, OPEN, None])
            p = None if word is None else draw.choice([0.001, 0.006, 0.012, 0.02, 0.025])
            words.append((word, 0.4 if word is OPEN and draw.random() < 0.7 else None if word is OPEN else p))
        found = over(*words)
        seen.add(found.verdict)
        said_yes, said_no = found.in_some.startswith("Holds"), found.in_every.startswith("Does not")
        every, none = found.in_every.startswith("Holds"), found.in_some.startswith("Hence")
        assert every == all(word is YES for word, _ in words)
        assert none == all(word is NO for word, _ in words)
        assert not (every and said_no)
        assert not (none and said_yes)
        assert not every or said_yes
        assert said_yes == (found.verdict in (Verdict.EVERY, Verdict.SOME, Verdict.MIXED))
        assert said_no == (found.verdict in (Verdict.NONE, Verdict.NOT_EVERY, Verdict.MIXED))
        for cell in found.cells:  # what keeps it open is named
            if not every and not none and cell.word in (None, OPEN):
                assert cell.label in found.in_every or f"all {len(words)}" in found.in_every
    assert seen == set(Verdict) - {Verdict.WAITS}


def test_in_some_errs_in_at_most_one_sweep_of_forty() -> None:
    """Where the claim fails in every cell, cells independent and p uniform: "some" or "every" is said in 2.5 %."""
    draw = np.random.default_rng(0)
    for cells_ in (2, 4):
        wrong = 0
        trials = 4000
        for p in draw.random((trials, cells_)):
            words = [(YES if one <= 0.025 else OPEN, float(one)) for one in p]
            wrong += over(*words).verdict in (Verdict.SOME, Verdict.EVERY)
        assert stats.binomtest(wrong, trials, 0.025, alternative="greater").pvalue > 1e-4


def test_nothing_is_said_before_all_cells_have_ended() -> None:
    found = telling._over_cells("a", "title", answers((YES, 0.001), (None, None)), 1)
    assert found.verdict is Verdict.WAITS
    assert "1 of 2 cells have not ended" in found.in_every
    assert not found.in_some


# ---- over HTTP ----


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("sweeps")) as running:
        yield running


BODY: dict[str, Any] = {"name": "two rates", "base": SPEC, "over": {"training.learning_rate": [0.001, 0.003]}}


@pytest.mark.slow
def test_a_sweep_is_launched_read_acted_on_and_deleted_over_http(site: Served) -> None:
    with site.client() as client:
        price = client.post("/api/sweeps/estimate", json=BODY)
        assert price.status_code == 200
        assert price.json()["cells"] == 2
        made = client.post("/api/sweeps", json=BODY, headers={"Idempotency-Key": "one"})
        assert made.status_code == 201, made.text
        base = made.headers["location"]
        assert client.post("/api/sweeps", json=BODY, headers={"Idempotency-Key": "one"}).headers["location"] == base
        assert [one["slug"] for one in client.get("/api/sweeps").json()["items"]] == ["two-rates"]
        verbs = {"pause": "paused", "resume": "queued", "cancel": "cancelled", "retry": "queued"}
        for verb, status in verbs.items():
            answer = client.post(f"{base}/{verb}").json()
            assert {cell["experiment"]["status"] for cell in answer["cells"]} == {status}, verb
        for cell in answer["cells"]:
            work(site.laboratory, cell["experiment"]["id"])
        found = client.get(base).json()
        assert {cell["experiment"]["status"] for cell in found["cells"]} == {"succeeded"}
        numbers = client.get(f"{base}/numbers").json()["items"]
        assert {(row["number"], row["cell"]) for row in numbers} >= {("accuracy", 1), ("accuracy", 2)}
        figure = client.get(f"{base}/figure.json", params={"y": "accuracy"}).json()
        assert figure["data"][0]["x"] == [0.001, 0.003]
        assert client.get(f"{base}/claims.csv").text.startswith("claim,title,cell,training.learning_rate,experiment")
        assert "tabular" in client.get(f"{base}/claims.tex").text
        assert client.get(f"{base}/figure.json", params={"x": "nothing"}).status_code == 422
        assert client.post(f"{base}/purge").status_code == 409
        assert client.delete(base).status_code == 200
        assert client.post(f"{base}/purge").json()["slug"] == "two-rates"
        assert client.get(base).status_code == 404
        assert client.get("/api/experiments?archived=true").json()["total"] == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), (False, "false"), (None, ""), (3, "3"), (1 / 3, repr(1 / 3)), ("adam", "adam"), ([1, 2], "1;2"),
     ({"a": [1, None]}, '"{""a"":[1,null]}"'), ([{"b": 1}], '"[{""b"":1}]"')],
)  # fmt: skip
def test_a_varied_value_is_the_same_in_the_table_of_claims_and_in_that_of_numbers(value: object, text: str) -> None:
    claims = io.StringIO()
    csv.writer(claims, lineterminator="\r\n").writerow(["b", exact(value), 1])
    _, numbers = csv_lines(["number", "field", "cell"], [["b", value, 1]])
    assert claims.getvalue() == numbers.decode() == f"b,{text},1\r\n"


def test_a_wrong_value_is_named_over_http_and_nothing_is_stored(site: Served) -> None:
    with site.client() as client:
        before = client.get("/api/experiments").json()["total"]
        answer = client.post("/api/sweeps", json={**BODY, "over": {"training.learning_rate": [0.001, "fast"]}})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "over.training.learning_rate"
        assert "value fast" in answer.json()["errors"][0]["message"]
        assert client.get("/api/experiments").json()["total"] == before


def test_a_varied_place_stays_inside_the_allowed_folders(site: Served, tmp_path: Path) -> None:
    """As where one experiment is launched: a path outside is refused, whether it is varied itself or with its part."""
    outside = {"dataset": "folder", "path": str(tmp_path)}
    with site.client() as client:
        for over in ({"data.path": [str(tmp_path)], "data.dataset": ["folder"]}, {"data": [outside]}):
            answer = client.post("/api/sweeps", json={"base": SPEC, "over": over})
            alone = client.post("/api/experiments", json={"spec": {**SPEC, "data": outside}})
            assert answer.status_code == alone.status_code == 422
            assert "folder" in answer.text
            (field,) = (one["field"] for one in answer.json()["errors"])
            assert field == ("over.data.path" if "data.path" in over else "over.data")
        inside = {**SPEC, "data": outside}
        answer = client.post("/api/sweeps", json={"base": inside, "over": {"training.epochs": [2, 3]}})
        assert [one["field"] for one in answer.json()["errors"]] == ["base.data.path"]


def _failing(site: Served, monkeypatch: pytest.MonkeyPatch, name: str, failed: list[list[int]], seed: int = 40) -> str:
    """A paired sweep in whose cells these runs diverge; its address."""
    base = {**BASE, "methods": [], "ensemble": {"runs": 3, "seed": seed}}
    document = {"base": base, "over": {"training.learning_rate": [0.001, 0.003]}, "paired": True}
    row = launching.create(site.laboratory, launching.prepare(site.laboratory, document), name=name)
    executor = Executor(site.laboratory.store, site.laboratory.artifacts, site.laboratory.settings)
    for experiment, runs in zip(site.laboratory.store.sweeps.get(row.id).experiments, failed, strict=True):
        with monkeypatch.context() as patch:
            weigh({run_seeds(seed, run, "both").weights: 1e18 for run in runs}, patch.setattr)
            executor.drain(experiment_id=experiment.id)
    return f"sweeps/{row.slug}"


@pytest.mark.slow
def test_a_paired_difference_says_of_which_runs_it_is_and_ends_where_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(tmp_path / "home") as site, site.visitor() as client:
        place = _failing(site, monkeypatch, "one run failed", [[], [1]])
        rows = client.get(f"/api/{place}/numbers").json()["items"]
        accuracy = {row["cell"]: row for row in rows if row["number"] == "accuracy"}
        kept = site.laboratory.store.sweeps.get(place.rpartition("/")[2])
        both = [
            {one.run: one.accuracy for one in site.laboratory.results(row.id).solutions(role="optimum")}
            for row in kept.experiments
        ]
        assert [sorted(run for run, value in one.items() if value is not None) for one in both] == [[0, 1, 2], [0, 2]]
        gap = np.array([both[1][run] - both[0][run] for run in (0, 2)])
        assert accuracy[2]["difference"] == pytest.approx(gap.mean())
        assert accuracy[2]["difference_runs"] == 2
        half = stats.t.ppf(0.975, 1) * abs(gap[1] - gap[0]) / 2
        assert accuracy[2]["difference_low"] == pytest.approx(max(gap.mean() - half, -1))
        assert accuracy[2]["difference_high"] == pytest.approx(min(gap.mean() + half, 1))
        page = " ".join(html.unescape(client.get(f"/{place}").text).split())
        assert re.search(r"Δ [^<]* of the 2 common runs", page)
        said = client.get(f"/api/{place}/figure.json?difference=true").json()["words"]["summary"]
        assert "of the 2 common runs" in said
        assert "common runs" not in client.get(f"/api/{place}/figure.json").json()["words"]["summary"]


@pytest.mark.parametrize("name", BOUNDS)
def test_an_interval_of_a_difference_ends_where_differences_can_be(name: str) -> None:
    least, most = BOUNDS[name]
    for value, half in itertools.product((-0.8, -0.2, 0.0, 0.7), (0.0, 0.3, 1.8, 4.0)):
        found = Value(value=value, low=value - half, high=value + half).within(*difference_bounds(name))
        assert (found.low, found.high) == (max(value - half, least - most), min(value + half, most - least))
        a, b = Reading(0.5 + value, 2, half, -9, 9), Reading(0.5, 3, 0.01, -9, 9)
        less = a.less(b, name, apart=True)
        assert less.low is not None
        assert less.high is not None
        assert least - most <= less.low <= less.high <= most - least, "where experiments are compared, too"
    assert Value(value=0.1).within(*difference_bounds(name)) == Value(value=0.1), "and none stays none"


@pytest.mark.slow
def test_a_cell_that_failed_has_a_mark_and_says_why_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(tmp_path / "home") as site, site.visitor() as client:
        place = _failing(site, monkeypatch, "a cell failed", [[], [0, 1, 2]])
        page = " ".join(html.unescape(client.get(f"/{place}").text).split())
        assert page.count("every run failed") == 1
        rows = list(csv.DictReader(io.StringIO(client.get(f"/api/{place}/claims.csv").text)))
        assert {row["word"] for row in rows if row["cell"] == "2"} == {"failed"}
        assert "failed" not in {row["word"] for row in rows if row["cell"] == "1"}
        assert re.search(r"^learning rate 0.003 & failed & failed", client.get(f"/api/{place}/claims.tex").text, re.M)
        claim = client.get(f"/api/{place}").json()["claims"][0]
        assert (claim["cells"][1]["mark"], "every run failed" in claim["cells"][1]["because"]) == ("failed", True)
        assert "Failed: learning rate 0.003." in claim["in_every"]
        failed = client.get(f"/api/{place}").json()["cells"][1]["experiment"]["slug"]
        needs = {one["needs"] for one in client.get(f"/api/experiments/{failed}").json()["unanswered"]}
        assert not [words for words in needs if "retry it" in words]
        assert [words for words in needs if "which a retry does not change" in words]
        place = _failing(site, monkeypatch, "all failed", [[0, 1, 2], [0, 1, 2]], seed=41)
        page = client.get(f"/{place}").text
        assert "No cell has been judged yet" not in page
        assert "All cells have ended and none was judged" in page


def test_the_form_launches_a_sweep_and_keeps_what_was_typed(site: Served) -> None:
    form = {"data.dataset": "digits", "network.architecture": "small-cnn", "training.epochs": "2", "do": "launch",
            "training.batch_size": "20", "training.snapshots": "2", "data.train_images": "100", "ensemble.runs": "2",
            "sweep.field": ["training.learning_rate", ""], "sweep.values": ["0.001, 0.003", ""]}  # fmt: skip
    with site.visitor() as visitor:
        answer = visitor.post("/launch", data=form)
        assert answer.status_code == 303, answer.text[-2000:]
        page = visitor.get(answer.headers["location"])
        assert page.status_code == 200
        assert "2 cells" in page.text
        assert "Training › learning rate" in page.text
        bad = visitor.post("/launch", data={**form, "sweep.values": ["0.001, -3", ""]})
        assert bad.status_code == 422
        assert "value -3" in bad.text
        assert 'value="0.001, -3"' in bad.text
        assert visitor.get("/sweeps").text.count("/sweeps/") >= 1


def test_a_list_is_filtered_and_sorted_by_any_field_of_spec_and_result(site: Served) -> None:
    with site.client() as client:
        made = client.post("/api/sweeps", json={**BODY, "name": "listed", "tags": ["listed"]}).json()
        slugs = [cell["experiment"]["slug"] for cell in made["cells"]]
        asked = {"tag": "listed", "fields": "slug,spec.training.learning_rate,spec.network.options.zero_bias"}
        found = client.get("/api/experiments", params={**asked, "sort": "-spec.training.learning_rate"}).json()
        assert found["items"] == [
            {"slug": slugs[1], "spec.training.learning_rate": 0.003, "spec.network.options.zero_bias": "false"},
            {"slug": slugs[0], "spec.training.learning_rate": 0.001, "spec.network.options.zero_bias": "false"},
        ]
        first = client.get(
            "/api/experiments", params={**asked, "sort": "spec.training.learning_rate", "limit": 1}
        ).json()
        second = client.get("/api/experiments", params={**asked, "sort": "spec.training.learning_rate", "limit": 1,
                                                        "cursor": first["next"]}).json()  # fmt: skip
        assert [first["items"][0]["slug"], second["items"][0]["slug"]] == slugs
        assert second["next"] is None
        counts = {
            "spec.training.learning_rate__gt=0.001": 1,
            "spec.network.architecture=small-cnn": 2,
            "spec.network.options.zero_bias=true": 0,
            "result.gain__null=true": 2,
        }
        for condition, count in counts.items():
            assert client.get(f"/api/experiments?tag=listed&{condition}").json()["total"] == count, condition
        assert client.get("/api/experiments?spec.training.nothing=1").status_code == 422
        assert client.get("/api/experiments?sort=spec.training.nothing").status_code == 422
    with site.visitor() as visitor:
        page = visitor.get("/?tag=listed&sort=-spec.training.learning_rate").text
        assert "Training learning rate" in page
        assert "0.003" in page
        more = {"tag": "listed", "field": "spec.training.epochs", "op": "gte", "value": "2", "by": "-result.gain"}
        turned = visitor.get("/filter", params=more)
        assert turned.headers["location"] == "/?tag=listed&spec.training.epochs__gte=2&sort=-result.gain"


def test_values_of_documents_are_compared_on_both_databases(store: Store) -> None:
    from modescape.listing import Condition, ListQuery

    for i, rate in enumerate((0.1, 0.02, 3.0)):
        spec = parse({"training": {"learning_rate": rate}, "network": {"options": {"zero_bias": i == 1}}})
        store.sweeps.create(name=f"s{i}", document={}, cells=[NewCell(f"e{i}", {}, spec, [])])

    def names(*conditions: Condition, **how: Any) -> list[str]:
        return [row.name for row in store.experiments.page(ListQuery(conditions, **how))]

    assert names(sort="spec.training.learning_rate") == ["e1", "e0", "e2"]
    assert names(Condition("spec.training.learning_rate", "gt", 0.05), sort="-spec.training.learning_rate") == [
        "e2",
        "e0",
    ]
    assert names(Condition("spec.network.options.zero_bias", "eq", "true")) == ["e1"]
    assert names(Condition("spec.data.path", "null", True), sort="name") == ["e0", "e1", "e2"]
    assert names(sort="result.claims.a.estimate") == names(sort="id")  # nobody has one: by id
    pages, cursor = [], None
    while True:
        page = store.experiments.page(ListQuery(sort="-spec.training.learning_rate", limit=1, cursor=cursor))
        pages += [row.name for row in page]
        if (cursor := page.next) is None:
            break
    assert pages == ["e2", "e0", "e1"]


def test_more_than_four_experiments_are_compared(site: Served) -> None:
    with site.client() as client:
        over = {"training.learning_rate": [0.001, 0.002, 0.003, 0.004, 0.005, 0.006]}
        made = client.post("/api/sweeps", json={**BODY, "name": "six", "over": over}).json()
        names = [cell["experiment"]["slug"] for cell in made["cells"]]
        found = client.get("/api/compare", params={"e": names}).json()
        assert found["experiments"] == names
        assert client.get("/compare", params={"e": names}, headers={"Accept": "text/html"}).status_code == 200


# ---- from the command line ----


@pytest.mark.slow
def test_the_command_line_prices_launches_and_runs_a_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODESCAPE_HOME", str(tmp_path / "home"))
    file = tmp_path / "rates.yaml"
    file.write_text("base:\n  training: {epochs: 2, batch_size: 20, snapshots: 2}\n"
                    "  data: {dataset: digits, train_images: 100}\n  ensemble: {runs: 2}\n"
                    "over:\n  training.learning_rate: [0.001, 0.003]\n")  # fmt: skip
    assert main(["launch", str(file), "--price"]) == 0
    assert capsys.readouterr().out.startswith("2 cells, ")
    assert main(["launch", str(file), "--here"]) == 0
    said = capsys.readouterr().out
    assert "rates: 2 cells" in said
    assert "learning rate 0.003" in said
    (tmp_path / "bad.json").write_text(json.dumps({"base": {}, "over": {"training.epochs": [-1]}}))
    assert main(["launch", str(tmp_path / "bad.json")]) == 1
    assert "over.training.epochs: value -1" in capsys.readouterr().err
