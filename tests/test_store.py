"""The store's promises, the same suite on SQLite and on PostgreSQL; what lists cost; migrations."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from cachetools import TTLCache
from sqlalchemy import JSON, BigInteger, Column, Engine, String, Text, insert, inspect, select, text, update
from sqlalchemy import event as listening
from sqlalchemy.orm import Session

from modescape import listing
from modescape.acting import actor
from modescape.artifacts import Artifacts
from modescape.columns import EXPERIMENTS
from modescape.database import check_schema, downgrade, migrations_folder, open_database, schema_state, upgrade
from modescape.errors import ConfigurationError, Conflict, InvalidInput, LeaseLost, NotFound
from modescape.executor import Executor, Machine
from modescape.listing import AnyOf, Condition, Found, ListQuery
from modescape.names import normal
from modescape.plan import prepare
from modescape.prices import Work
from modescape.records import (
    ListColumns,
    NewMatrix,
    NewMeasurement,
    PlannedStage,
    PredictedRun,
    Progress,
    StageOutput,
    TrainedRun,
    Wish,
)
from modescape.registry import presets
from modescape.settings import Settings
from modescape.spec import parse
from modescape.store import Store, in_memory, results
from modescape.store.leases import Lease, Leases
from modescape.store.outputs import write_rows
from modescape.store.sweeps import NewCell
from modescape.tables import Base, Experiment, Stage, Word, utcnow
from modescape.testing.stores import (
    GRAPH,
    SPEC,
    STORE,
    claim,
    create,
    finish,
    finish_all,
    in_an_hour,
    info,
    predicted,
    stage_id,
    states,
)


@pytest.mark.slow
@pytest.mark.parametrize("rule", STORE.rules.values(), ids=lambda rule: rule.__name__)
def test_a_store_keeps_its_contract(rule: Callable[[Store], None], store: Store) -> None:
    rule(store)


# --- making and finding ----------------------------------------------------------------------------------------------


def test_slugs_are_unique_and_plain(store: Store) -> None:
    names = ["Über <b>10%</b>", "Über <b>10%</b>", "über b 10 b", "日本", "日本", "a_b"]
    slugs = [create(store, name).slug for name in names]
    assert slugs == ["uber-b-10-b", "uber-b-10-b-2", "uber-b-10-b-3", "experiment", "experiment-2", "a-b"]


@pytest.mark.parametrize("values", [{"name": " "}, {"name": "x" * 201}, {"name": "a\nb"}, {"tags": [""]},
                                    {"tags": ["x" * 41]}, {"tags": [str(i) for i in range(21)]},
                                    {"tags": [chr(0x4E00 + i) * 40 for i in range(20)]}])  # fmt: skip
def test_names_and_tags_that_do_not_fit_leave_nothing(store: Store, values: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        create(store, **values)
    assert caught.value.field == next(iter(values))
    assert store.experiments.page().total == 0


@pytest.mark.slow
def test_every_preset_can_be_stored(store: Store) -> None:
    for name, preset in presets.items():
        prepared = prepare(preset.call(), (), as_published=True)
        row = create(store, name=name, preset=name, spec=prepared.spec, stages=prepared.plan.stages)
        planned = [(stage.kind, stage.key, stage.queue, stage.params) for stage in prepared.plan.stages]
        assert [(s.kind, s.key, s.queue, s.params) for s in store.stages.of(row.id)] == planned, name
    assert store.experiments.page().total == len(presets)


def test_the_longest_tags_and_names_that_are_allowed_can_be_stored_and_counted(store: Store) -> None:
    rng = random.Random(4)

    def word(length: int, alphabet: range) -> str:
        return "".join(map(chr, rng.choices(alphabet, k=length)))

    letters = range(ord("a"), ord("z") + 1)
    words = {name: word(64, letters) for name in ("architecture", "dataset")}
    row = create(store, name=word(120, range(0x1F300, 0x1F5FF)), preset=word(64, letters), created_by=word(80, letters),
                 tags=[word(40, letters) for _ in range(20)])  # fmt: skip
    other = create(store, tags=[word(33, range(0x4E00, 0x9FFF)) for _ in range(10)])  # 990 bytes
    with open_database(store.url).begin() as connection:  # as long as plugins may name things
        methods = [word(64, letters) for _ in range(16)]
        connection.execute(update(Experiment).where(Experiment.id == row.id).values(methods=methods, **words))
    assert store.experiments.get(row.slug).methods == methods
    facets = store.experiments.facets()
    assert {tag for tag, _ in facets["tag"]} == {*row.tags, *other.tags}
    assert (words["dataset"], 1) in facets["dataset"]


def test_a_text_column_has_a_width_only_where_every_value_has_that_length(store: Store) -> None:
    """The widths of PostgreSQL are promises about all code to come: ids and digests can keep them, words cannot."""
    engine = open_database(store.url)
    widths = {
        f"{table}.{column['name']}": column["type"].length
        for table in Base.metadata.tables
        for column in inspect(engine).get_columns(table)
        if isinstance(column["type"], String) and column["type"].length is not None
    }
    engine.dispose()
    if engine.dialect.name == "sqlite":  # which reads no widths: old files keep theirs
        widths = {f"{c.table}.{c.name}": c.type.length for table in Base.metadata.tables.values() for c in table.columns
                  if isinstance(c.type, String) and c.type.length is not None}  # fmt: skip
    assert {name for name, width in widths.items() if width not in (36, 64)} == {"selection.key"}


def test_every_text_column_holds_what_the_longest_plugin_would_write(store: Store) -> None:
    """One row of every table with a hundred characters in every column of words, and the largest numbers."""
    rng = random.Random(5)
    rows: dict[str, dict[str, Any]] = {}
    for table in Base.metadata.sorted_tables:
        rows[table.name] = {column.name: _largest(column, rows, rng) for column in table.columns}
    with open_database(store.url).begin() as connection:
        for table in Base.metadata.sorted_tables:
            connection.execute(insert(table), [rows[table.name]])
            key = [column == rows[table.name][column.name] for column in table.primary_key]
            [found] = connection.execute(select(table).where(*key)).mappings()
            assert dict(found) == rows[table.name]


def _largest(column: Column[Any], rows: dict[str, dict[str, Any]], rng: random.Random) -> Any:
    for foreign in column.foreign_keys:
        return rows[foreign.column.table.name][foreign.column.name]
    if isinstance(column.type, Word):
        return max(column.type.words, key=len)
    if isinstance(column.type, Text | String):
        return "".join(rng.choices("abcdefghij-/", k=column.type.length or 100))
    if isinstance(column.type, JSON):
        return ["a list"]
    return {int: 2**63 - 1 if isinstance(column.type, BigInteger) else 2**31 - 1, float: 1e300, bool: True,
            bytes: b"\0\xff", datetime: datetime(2026, 1, 2, tzinfo=UTC)}[column.type.python_type]  # fmt: skip


def test_what_a_damaged_file_makes_a_stage_say_is_recorded(store: Store) -> None:
    class Failing:
        def stage_key(self, *_: object) -> str:
            return "memo"

        def run_stage(self, *_: object, **__: object) -> StageOutput:
            raise ValueError("bad header \0\0 in caf\udce9.png, path C:\\u0000")

    experiment = create(store)
    with TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder))
        machine = Machine("cpu", "a test", "test")
        executor = Executor(store, Artifacts(Path(folder)), settings, runner=Failing(), machine=machine)
        lease = claim(store, "train/0", experiment)
        assert executor.work(lease) == "failed"
    said = r"bad header \x00\x00 in caf\udce9.png, path C:\u0000"
    assert store.stages.get(lease.stage.id).error["message"] == said
    assert store.experiments.get(experiment.id).error == f"train/0: {said}"
    store.catalogue.put("data", "odd", {"says": "a\0b \\u0000 \\\0"})
    assert store.catalogue.entries("data")[0].details == {"says": "a\ufffdb \\u0000 \\\ufffd"}


def test_a_repeated_request_returns_the_first_answer(store: Store) -> None:
    first = create(store, idempotency=("key", "digest"))
    assert create(store, idempotency=("key", "digest")).id == first.id
    with pytest.raises(Conflict, match="another request"):
        create(store, idempotency=("key", "other"))
    assert store.experiments.page().total == 1
    store.experiments.archive(first.id)
    store.experiments.purge(first.id)
    assert create(store, idempotency=("key", "other")).id != first.id, "a purged experiment frees its key"


def test_the_same_request_from_many_threads_makes_one_experiment(store: Store) -> None:
    made: list[str] = []
    together(8, lambda i: made.append(create(store, idempotency=("key", "digest")).id))
    assert len(made) == 8
    assert len(set(made)) == 1
    assert store.experiments.page().total == 1


def test_unknown_references_are_not_found(store: Store) -> None:
    verbs: list[Callable[[str], object]] = [
        store.experiments.get,
        store.experiments.cancel,
        store.experiments.pause,
        store.experiments.resume,
        store.experiments.retry,
        store.experiments.archive,
        store.experiments.restore,
        store.experiments.purge,
        store.stages.of,
        store.results.runs,
    ]
    for verb in verbs:
        with pytest.raises(NotFound, match="nothing-here"):
            verb("nothing-here")
    with pytest.raises(NotFound):
        store.stages.get("nothing-here")
    with pytest.raises(NotFound):
        store.results.solution(create(store).id, 0)


def test_name_tags_and_notes_can_change_and_the_promise_cannot(store: Store) -> None:
    before = create(store)
    after = store.experiments.patch(before.slug, name="New", tags=["x"], notes="n")
    assert (after.name, after.tags, after.notes, after.slug, after.digest) == (
        "New",
        ["x"],
        "n",
        before.slug,
        before.digest,
    )
    assert (before.name, before.tags) == ("Toy", []), "rows read earlier do not change"
    assert store.events.after()[-1].kind == "changed"


def test_tags_that_many_add_at_once_are_all_there(store: Store) -> None:
    slug = create(store).slug
    tags = [f"tag {number}" for number in range(8)]
    threads = [threading.Thread(target=store.experiments.patch, args=(slug,), kwargs={"tag": [tag]}) for tag in tags]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(store.experiments.get(slug).tags) == tags
    store.experiments.patch(slug, tag=["new"], untag=["TAG 1", "tag 2"])
    assert sorted(store.experiments.get(slug).tags) == ["new", "tag 0", *tags[3:]]


# --- transitions -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_many_claimers_share_stages_without_doubles_and_in_one_transaction_each(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = [PlannedStage("train", str(i)) for i in range(60)]
    create(store, stages=stages)
    won: list[str] = []
    asked: list[str] = []
    first = Leases._claim_first

    def counted(self: Leases, owner: str, *rest: Any, **more: Any) -> Any:
        asked.append(owner)
        return first(self, owner, *rest, **more)

    monkeypatch.setattr(Leases, "_claim_first", counted)

    def take(i: int) -> None:
        while lease := store.leases.claim(f"w{i}"):
            won.append(lease.stage.key)

    together(6, take)
    assert sorted(won, key=int) == [str(i) for i in range(60)]
    assert len(asked) <= 60 + 5, "only who comes for the last one comes for nothing"


@pytest.mark.slow
def test_two_last_needs_finishing_together_release_their_dependant(store: Store) -> None:
    """Each transaction alone would see the other need unfinished; experiments are locked, so one comes second."""
    for _ in range(10):
        stages = [PlannedStage("train", "0"), PlannedStage("train", "1"),
                  PlannedStage("compare", "all", (("train", "0"), ("train", "1")))]  # fmt: skip
        experiment = create(store, stages=stages)
        leases = [claim(store), claim(store)]
        together(2, lambda i, leases=leases: finish(store, leases[i]))
        assert states(store, experiment)["compare/all"] == "ready"
        finish_all(store)


def test_retry_right_after_cancel_keeps_what_has_not_stopped_yet(store: Store) -> None:
    experiment = create(store)
    lease = claim(store)
    store.experiments.cancel(experiment.id)
    assert store.leases.wish(lease) is Wish.CANCEL
    store.experiments.retry(experiment.id)
    assert store.leases.wish(lease) is None
    assert states(store, experiment)["train/1"] == "ready"
    finish(store, lease)
    finish_all(store)
    assert store.experiments.get(experiment.id).status == "succeeded"


def test_retry_of_one_stage_leaves_other_failures_alone(store: Store) -> None:
    experiment = create(store)
    for _ in range(2):
        store.leases.fail(claim(store), {"type": "X", "message": "x"})
    store.experiments.retry(experiment.id, stage_id(store, experiment, "train/0"))
    assert states(store, experiment) == {
        "train/0": "ready", "train/1": "failed", "predict/0": "blocked", "predict/1": "failed", "compare/all": "failed",
    }  # fmt: skip
    store.experiments.retry(experiment.id, stage_id(store, experiment, "compare/all"))
    assert states(store, experiment)["train/1"] == "ready", "what it needs is tried again too"
    with pytest.raises(NotFound):
        store.experiments.retry(experiment.id, "no such stage")


def test_a_stage_that_finishes_while_pausing_leaves_its_dependants_paused(store: Store) -> None:
    experiment = create(store, stages=GRAPH[:1] + GRAPH[2:3])
    lease = claim(store)
    store.experiments.pause(experiment.id)
    finish(store, lease)
    assert states(store, experiment) == {"train/0": "succeeded", "predict/0": "paused"}
    store.experiments.resume(experiment.id)
    assert states(store, experiment)["predict/0"] == "ready"


def test_resume_before_the_worker_noticed_the_pause_just_goes_on(store: Store) -> None:
    experiment = create(store)
    lease = claim(store)
    store.experiments.pause(experiment.id)
    store.experiments.resume(experiment.id)
    assert store.leases.wish(lease) is None
    assert store.leases.give_back(lease) == "ready", "the worker had seen the old wish; nobody wants it paused any more"


# --- whose turn it is -------------------------------------------------------------------------------------------------


def trainings(count: int) -> list[PlannedStage]:
    return [PlannedStage("train", str(i)) for i in range(count)]


def claimed(store: Store, **about: Any) -> list[str]:
    """The experiments of all stages that are claimed until none is left, by their names."""
    names = []
    while lease := store.leases.claim("w", **about):
        names.append(lease.experiment.name)
        finish(store, lease)
    return names


@pytest.mark.slow
def test_owners_take_turns_and_so_do_their_experiments(store: Store) -> None:
    create(store, "large", stages=trainings(6), created_by="ada")
    create(store, "small", stages=trainings(2), created_by="ada")
    create(store, "other", stages=trainings(3), created_by="bea")
    assert claimed(store) == ["large", "other", "small", "other", "large", "other", "small", "large", "large", "large",
                              "large"]  # fmt: skip


@pytest.mark.slow
def test_what_comes_late_is_next_and_one_alone_has_all_turns(store: Store) -> None:
    create(store, "large", stages=trainings(100))
    for _ in range(5):
        finish(store, claim(store))
    create(store, "quick", stages=trainings(1))
    assert claimed(store)[:3] == ["large", "quick", "large"]


def test_higher_priorities_are_claimed_before_anybodys_turn(store: Store) -> None:
    create(store, "later", stages=trainings(2), created_by="ada", priority=-1)
    usual = create(store, "usual", stages=trainings(2), created_by="ada")
    create(store, "first", stages=trainings(2), created_by="bea", priority=1)
    assert usual.priority == 0
    assert claimed(store) == ["first", "first", "usual", "usual", "later", "later"]
    with pytest.raises(InvalidInput, match="-1 \\(low\\), 0 \\(normal\\), 1 \\(high\\)"):
        create(store, priority=2)
    with pytest.raises(InvalidInput, match="priority"):
        store.experiments.patch(usual.id, priority=-2)
    other, digest = create(store, "other", stages=trainings(1)), usual.digest
    create(store, "hasty", stages=trainings(1))
    assert store.experiments.patch(other.id, priority=1).digest == digest, "no part of the promise"
    assert claimed(store) == ["other", "hasty"]


@pytest.mark.slow
def test_a_sweep_takes_one_turn_whatever_it_has_of_cells(store: Store) -> None:
    cells = [NewCell(f"cell {i}", {"x": i}, SPEC, trainings(2)) for i in range(4)]
    store.sweeps.create(name="sweep", document={}, cells=cells, priority=0)
    create(store, "alone", stages=trainings(3))
    cell = [f"cell {i}" for i in range(4) for _ in range(2)]
    assert claimed(store) == [cell[0], "alone", cell[1], "alone", cell[2], "alone", *cell[3:]]


def test_what_goes_along_with_a_claimed_stage_takes_no_turn(store: Store) -> None:
    group, _ = create(store, "group", stages=trainings(6)), create(store, "other", stages=trainings(2))
    first = claim(store)
    led = first.experiment
    assert led.id == group.id, "the older one"
    along = store.leases.claim("w", experiment_id=led.id, kind="train")
    assert along is not None
    assert along.experiment.id == led.id
    assert claim(store).experiment.id != led.id, "one turn for all of them"
    assert claim(store).experiment.id == led.id


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_nobody_is_passed_over_twice(store: Store, seed: int) -> None:
    """Whoever waits all the time sees every other one come at most once before his own turn: owners, and what they
    have; whatever is launched and ends meanwhile, and however many workers there are."""
    rng = random.Random(seed)
    held: list[Lease] = []
    passed: dict[tuple[str, str, str], int] = {}  # level, who waits, who came -> how often since his own turn
    made = 0

    def waiting() -> list[Experiment]:
        rows = store.experiments.page(ListQuery(limit=None)).items
        return [one for one in rows if "ready" in states(store, one).values()]

    for _ in range(60):
        act = rng.random()
        if made < 3 or (act < 0.1 and made < 8):
            made += 1
            owner = rng.choice(["ada", "bea"])
            create(
                store, f"{made}", stages=trainings(rng.randint(1, 12)), created_by=owner, priority=rng.choice([0, 0, 1])
            )
        elif act < 0.4 and held:
            finish(store, held.pop(rng.randrange(len(held))))
        else:
            before = waiting()
            lease = store.leases.claim("w")
            assert (lease is None) == (not before)
            if lease is None:
                continue
            held.append(lease)
            came, urgent = lease.experiment, max(one.priority for one in before)
            assert came.priority == urgent
            among = [one for one in before if one.priority == urgent]
            for level, name, of_it in (
                ("owner", came.created_by, {one.created_by for one in among}),
                ("own", came.name, {one.name for one in among if one.created_by == came.created_by}),
            ):
                passed = {k: n for k, n in passed.items() if not (k[0] == level and k[1] == name)}
                for other in of_it - {name}:
                    passed[level, other, name] = passed.get((level, other, name), 0) + 1
                    assert passed[level, other, name] <= 1, f"{other} waits, and {name} came twice"
            names = {one.name for one in before} | {one.created_by for one in before}
            passed = {k: n for k, n in passed.items() if k[1] in names}


# --- lost leases -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("verb", "state"), [("pause", "paused"), ("cancel", "cancelled")])
def test_a_wish_outlives_the_worker(store: Store, verb: str, state: str) -> None:
    experiment = create(store, stages=GRAPH[:1])
    claim(store)
    getattr(store.experiments, verb)(experiment.id)
    store.leases.release_owner("w")
    row = store.experiments.get(experiment.id)
    assert (states(store, experiment)["train/0"], row.status) == (state, state)


def test_the_reaper_repairs_what_should_not_be_blocked(store: Store) -> None:
    experiment = create(store)
    finish(store, claim(store, "train/0"))
    with open_database(store.url).begin() as connection:
        connection.execute(text("UPDATE stage SET state = 'blocked' WHERE kind = 'predict'"))
    store.leases.reap()
    assert states(store, experiment)["predict/0"] == "ready"
    assert states(store, experiment)["predict/1"] == "blocked"


@pytest.mark.slow
def test_ringing_tells_each_ready_stage_once_and_again_when_nobody_came(store: Store) -> None:
    experiment = create(store)
    ready = store.leases.unnotified()
    assert [queue for _, queue in ready] == ["cpu", "cpu"]
    store.leases.mark_notified([id_ for id_, _ in ready])
    assert store.leases.unnotified() == []
    assert store.leases.unnotified(older_than_seconds=60) == []
    assert store.leases.unnotified(older_than_seconds=-1) == ready
    assert store.leases.unnotified(experiment_id="another", older_than_seconds=-1) == []
    finish(store, claim(store, "train/0"))
    assert [id_ for id_, _ in store.leases.unnotified()] == [stage_id(store, experiment, "predict/0")]


def test_seconds_add_up_over_attempts(store: Store) -> None:
    experiment, begun = create(store, stages=GRAPH[:1]), time.monotonic()
    with open_database(store.url).begin() as connection:
        claim(store)
        connection.execute(text("UPDATE stage SET claimed_at = :at"), {"at": _stamp(store, seconds=-5)})
    store.leases.give_back(lease_of(store))
    claim(store)
    with open_database(store.url).begin() as connection:
        connection.execute(text("UPDATE stage SET claimed_at = :at"), {"at": _stamp(store, seconds=-7)})
    finish(store, lease_of(store))
    assert 11.9 <= store.experiments.get(experiment.id).seconds <= 12.1 + time.monotonic() - begun
    entries = store.stages.of(experiment.id)[0].history
    assert [(entry["attempt"], entry["how"]) for entry in entries] == [(1, "given back"), (2, "succeeded")]


def _stamp(store: Store, *, seconds: float) -> Any:
    at = utcnow() + timedelta(seconds=seconds)
    return at.replace(tzinfo=None).isoformat(" ") if store.url.startswith("sqlite") else at


def lease_of(store: Store) -> Lease:
    experiment = store.experiments.page()[0]
    stage = store.stages.of(experiment.id)[0]
    assert stage.lease_token is not None
    standing = store.stages.standing(stage)
    return Lease(stage.lease_token, "w", 30.0, stage, store.experiments.get(experiment.id), standing)


# --- results ---------------------------------------------------------------------------------------------------------


def test_the_comparison_sets_what_lists_show(store: Store) -> None:
    experiment = create(store, stages=[PlannedStage("compare", "all")])
    matrix = NewMatrix(name="cosine", split="", rows=[0, 1], columns=[0, 1], artifact=info("m").digest)
    columns = ListColumns(accuracy=0.9, disagreement=0.1, finding={"text": "different"})
    finish(store, claim(store), StageOutput(matrices=[matrix], artifacts=[info("m")], experiment=columns))
    row = store.experiments.get(experiment.id)
    assert (row.accuracy, row.disagreement, row.finding, row.ensemble_accuracy) == (
        0.9,
        0.1,
        {"text": "different"},
        None,
    )
    kept = store.results.matrix(experiment.id, "cosine", "")
    assert kept is not None
    assert (kept.rows, kept.artifact) == ([0, 1], info("m").digest)
    assert store.results.matrix(experiment.id, "cosine", "test") is None
    assert [m.name for m in store.results.matrices(experiment.id)] == ["cosine"]


def test_findings_of_several_stages_join(store: Store) -> None:
    """Keys replace keys, claims replace claims of the same letter, whichever stage ends first."""
    experiment = create(store, stages=[PlannedStage("compare", "all"), PlannedStage("seeds", "all")])

    def found(**finding: Any) -> StageOutput:
        return StageOutput(experiment=ListColumns(finding=finding))

    first, second = claim(store), claim(store)  # both run at once
    finish(store, second, found(runs=3, claims={"g": {"id": "g", "word": "holds"}}))
    finish(store, first, found(runs=5, split="test", claims={"a": {"id": "a", "word": "cannot tell"}}))
    row = store.experiments.get(experiment.id)
    assert (row.finding["runs"], row.finding["split"], sorted(row.finding["claims"])) == (5, "test", ["a", "g"])


def test_ids_do_not_depend_on_when_a_stage_ran(store: Store) -> None:
    experiment = create(store)
    ids = []
    for _ in range(2):
        lease = claim(store, "train/0", experiment)
        with store._database.writing() as change:
            write_rows(change.session, lease.stage, predicted(0, 0))
            change.session.get_one(Stage, lease.stage.id).result = predicted(0, 0).to_json()
        ids.append([s.id for s in store.results.all_solutions(experiment.id)])
        store.leases.give_back(lease)
    assert ids[0] == ids[1]
    assert len(ids[0]) == 3


def test_files_of_earlier_attempts_stay_with_the_stage(store: Store) -> None:
    create(store, stages=GRAPH[:1])
    lease = claim(store)
    store.leases.save_partial(lease, {"at": 1}, artifacts=[info("checkpoint 1")])
    store.leases.save_partial(lease, {"at": 1}, artifacts=[info("checkpoint 1")])
    store.leases.release_owner("w")
    lease = claim(store)
    finish(store, lease, StageOutput(artifacts=[info("checkpoint 2")]))
    kept = {artifact["digest"] for artifact in store.stages.get(lease.stage.id).result["artifacts"]}
    assert kept == {info("checkpoint 1").digest, info("checkpoint 2").digest}


@pytest.mark.slow
def test_weights_made_again_are_found_at_their_solution(store: Store) -> None:
    experiment = create(store, stages=GRAPH[:1] + GRAPH[2:3])
    finish(store, claim(store))
    finish(store, claim(store), predicted(0, 0))
    assert store.experiments.get(experiment.id).status == "succeeded"
    planned = PlannedStage("materialise", "1", (("predict", "0"),), {"number": 1})
    stage = store.stages.add(experiment.id, planned)
    assert (stage.state, store.stages.add(experiment.slug, planned).id) == ("ready", stage.id)
    assert store.experiments.get(experiment.id).status == "running"
    lease = claim(store, "materialise/1")
    finish(store, lease, StageOutput(weights={1: info("w").digest}, artifacts=[info("w")]))
    assert store.results.solution(experiment.id, 1).weights == info("w").digest
    with pytest.raises(NotFound, match="predict/9"):
        store.stages.add(experiment.id, PlannedStage("materialise", "2", (("predict", "9"),)))


# --- reuse -----------------------------------------------------------------------------------------------------------


def source_and_target(store: Store, output: StageOutput, source: dict[str, Any], target: dict[str, Any]) -> Lease:
    create(store, stages=[PlannedStage("sample", "a", params=source)])
    lease = claim(store)
    run = source.get("run", 0)
    store.leases.save_partial(lease, {}, points={"loss": [(1, 0.5, 0.0), (2, 0.25, 1.0)]}, run=run)
    store.leases.finish(lease, output, "memo")
    create(store, stages=[PlannedStage("sample", "a", params=target)])
    return claim(store)


def test_an_equal_stage_is_taken_over_with_its_own_numbers(store: Store) -> None:
    lease = source_and_target(store, predicted(3, 1), {"run": 1, "first_number": 3}, {"run": 0, "first_number": 10})
    assert not store.leases.reuse(lease, "another memo")
    assert not store.leases.reuse(lease, "memo", exists=lambda digest: False), "its files are gone"
    assert store.leases.reuse(lease, "memo", exists=lambda digest: digest == info("logits 1").digest)
    stage = store.stages.get(lease.stage.id)
    assert (stage.state, stage.memo) == ("succeeded", "memo")
    assert stage.reused_from is not None
    assert [(s.number, s.run) for s in store.results.all_solutions(lease.experiment.id)] == [(10, 0), (11, 0), (12, 0)]
    assert [m.solution for m in store.results.measurements(lease.experiment.id, metric="nll")] == [10]
    assert store.results.runs(lease.experiment.id)[0].accuracy == 0.7
    assert store.curves.points(lease.experiment.id, 0, "loss").values.tolist() == [0.5, 0.25]
    assert store.experiments.get(lease.experiment.id).status == "succeeded"


def test_output_that_names_other_stages_solutions_is_not_moved(store: Store) -> None:
    matrix = NewMatrix(name="js", split="test", rows=[0], columns=[3, 4, 5], artifact=info("m").digest)
    output = StageOutput(matrices=[matrix], artifacts=[info("m")])
    lease = source_and_target(store, output, {"first_number": 3}, {"first_number": 10})
    assert not store.leases.reuse(lease, "memo")
    create(store, stages=[PlannedStage("sample", "a", params={"first_number": 3})])
    assert store.leases.reuse(claim(store), "memo"), "with equal numbers it fits as it is"


def test_work_that_another_experiment_is_at_is_waited_for_and_taken_over(store: Store) -> None:
    for _ in range(2):  # one stage each, which are the same work
        create(store, stages=GRAPH[:1])
    first, second = claim(store, owner="w1"), claim(store, owner="w2")
    assert first.experiment.id != second.experiment.id
    assert store.leases.begin(first, "memo")
    assert not store.leases.begin(second, "memo")
    waiting = store.stages.get(second.stage.id)
    assert (waiting.state, waiting.lease_owner, waiting.losses) == ("ready", None, 0)
    assert store.leases.claim("w2") is None
    assert store.leases.claim("w2", stage_id=second.stage.id) is None, "nor when it is woken for it"
    store.leases.finish(first, StageOutput(), "memo")
    assert store.leases.reuse(claim(store, owner="w2"), "memo")
    assert store.stages.get(second.stage.id).reused_from == first.stage.id


def test_work_whose_worker_died_is_waited_for_no_longer(store: Store) -> None:
    for _ in range(2):
        create(store, stages=GRAPH[:1])
    first, second = claim(store, owner="w1"), claim(store, owner="w2")
    store.leases.begin(first, "memo")
    assert not store.leases.begin(second, "memo")
    assert store.leases.reap(in_an_hour()) == [first.stage.id]
    again = claim(store, owner="w2")
    assert again.stage.id in (first.stage.id, second.stage.id)
    assert store.leases.begin(again, "memo")
    assert store.leases.claim("w3") is None, "one of the two is enough"


def test_a_fresh_experiment_waits_for_nobody_and_other_work_for_none(store: Store) -> None:
    create(store, stages=GRAPH[:1])
    create(store, stages=GRAPH[:1], fresh=True)
    create(store, stages=GRAPH[:1])
    leases = [claim(store, owner=f"w{i}") for i in range(3)]
    assert [lease.experiment.fresh for lease in sorted(leases, key=lambda lease: lease.experiment.fresh)] == [
        False, False, True,
    ]  # fmt: skip
    fresh = next(lease for lease in leases if lease.experiment.fresh)
    others = [lease for lease in leases if lease is not fresh]
    assert store.leases.begin(others[0], "memo")
    assert store.leases.begin(fresh, "memo")
    assert store.leases.begin(others[1], "another memo")


def test_a_fresh_experiment_reuses_nothing(store: Store) -> None:
    create(store, stages=GRAPH[:1])
    finish(store, claim(store))
    create(store, stages=GRAPH[:1], fresh=True)
    assert not store.leases.reuse(claim(store), "memo train/0")


# --- archive, restore, purge -----------------------------------------------------------------------------------------


def test_archived_experiments_leave_the_list_and_come_back(asked: Store) -> None:
    experiment = create(asked)
    lease = claim(asked)
    assert asked.experiments.archive(experiment.id).archived_at is not None
    assert asked.leases.wish(lease) == "cancel"
    assert asked.experiments.page().total == 0
    assert [e.id for e in asked.experiments.page(ListQuery(archived=True))] == [experiment.id]
    assert asked.experiments.page(ListQuery(archived=None)).total == 1
    asked.experiments.archive(experiment.id)
    asked.leases.give_back(lease)
    row = asked.experiments.restore(experiment.id)
    assert (row.archived_at, row.status) == (None, "cancelled")


def test_purge_counts_who_else_names_a_file(store: Store) -> None:
    shared, own = info("shared", 1000), info("own", 10)
    first = create(store, stages=GRAPH[:1])
    finish(store, claim(store), StageOutput(artifacts=[shared, own]))
    second = create(store, stages=GRAPH[:1])
    finish(store, claim(store), StageOutput(artifacts=[shared]))
    assert (store.experiments.bytes_of(first.id), store.experiments.bytes_of(second.id)) == (10, 0)
    with pytest.raises(Conflict, match="archive it first"):
        store.experiments.purge(first.id)
    store.experiments.archive(first.id)
    purged = store.experiments.purge(first.id)
    assert (purged.bytes, list(purged.files), len(purged.stages)) == (10, [own.digest], 1)
    with pytest.raises(NotFound):
        store.experiments.get(first.id)
    assert store.outputs.digests() == [shared.digest]
    store.experiments.archive(second.id)
    assert list(store.experiments.purge(second.id).files) == [shared.digest]
    assert store.stages.unfinished() == set()


def test_a_worker_whose_experiment_was_purged_has_lost_its_stage(store: Store) -> None:
    experiment = create(store)
    lease = claim(store)
    assert store.stages.oldest_running() is not None
    store.experiments.archive(experiment.id)
    store.experiments.purge(experiment.id)
    assert store.stages.oldest_running() is None
    with pytest.raises(LeaseLost):
        store.leases.beat(lease)
    with pytest.raises(LeaseLost):
        finish(store, lease)


# --- curves ----------------------------------------------------------------------------------------------------------


def test_points_beyond_the_checkpoint_are_drawn_again(store: Store) -> None:
    experiment = create(store)
    lease = claim(store)
    store.leases.save_partial(lease, {}, points={"loss": [(i, float(-i), 0.0) for i in range(1500)]}, run=0)
    store.leases.save_partial(
        lease, {}, points={"loss": [(i, 5.0, 0.0) for i in range(1200, 1210)]}, run=0, drop_after_step=1199
    )
    curve = store.curves.points(experiment.id, 0, "loss")
    assert curve.steps.tolist() == list(range(1210))
    assert curve.values[1199:1202].tolist() == [-1199.0, 5.0, 5.0]
    [series] = store.curves.of(experiment.id)
    assert (series.n, series.smallest, series.largest, series.last_step) == (1210, -1199.0, 5.0, 1209)
    store.leases.save_partial(lease, {}, run=0, drop_after_step=-1)
    assert len(store.curves.points(experiment.id, 0, "loss").steps) == 0
    assert store.curves.of(experiment.id)[0].n == 0


# --- lists -----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["by the database", "in memory"])
def asked(request: pytest.FixtureRequest, store: Store) -> Store:
    """A store whose lists are asked for one way or the other."""
    held = store.experiments._held
    held._is_wanted = request.param == "in memory"
    return store


def fill(store: Store, count: int) -> list[dict[str, Any]]:
    """`count` experiments straight into the table, with repeated values and gaps."""
    rng = random.Random(1)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    spec = SPEC.model_dump(mode="json")
    rows = [
        {
            "id": f"{i:08d}-0000-4000-8000-000000000000", "slug": f"e-{i}", "notes": "",
            "name": f"Experiment {i}" if i % 7 else f"100%_{i}",
            "tags":
                rng.choice([[], ["paper"], ["paper", "draft"]]), "spec": spec, "digest": SPEC.digest(), "fresh": False,
            "created_by": "", "created_at": start + timedelta(minutes=i // 3), "status":
            rng.choice(["queued", "running", "succeeded", "failed"]), "dataset": rng.choice(["digits", "cifar10"]),
            "input_scale": "unit", "architecture": rng.choice(["small-cnn", "resnet18"]),
            "methods": rng.choice([[], ["random"], ["random", "dropout"]]), "runs": 3, "stages_total": 9,
            "stages_done": rng.randrange(9), "seconds": rng.random() * 100, "finding": {},
            "accuracy": round(rng.random(), 2) if i % 5 else None, "disagreement": None, "archived_at":
            start if i % 10 == 0 else None,
        }
        for i in range(count)
    ]  # fmt: skip
    engine = open_database(store.url)
    with engine.begin() as connection:
        connection.execute(insert(Experiment), rows)
    engine.dispose()
    return rows


CONDITIONS: list[tuple[Condition | AnyOf, Callable[[dict[str, Any]], bool]]] = [
    (Condition("status", "eq", "failed"), lambda r: r["status"] == "failed"),
    (Condition("status", "in", ["failed", "queued"]), lambda r: r["status"] in ("failed", "queued")),
    (Condition("status", "notin", ["failed"]), lambda r: r["status"] != "failed"),
    (Condition("accuracy", "gte", 0.5), lambda r: r["accuracy"] is not None and r["accuracy"] >= 0.5),
    (Condition("accuracy", "lt", 0.25), lambda r: r["accuracy"] is not None and r["accuracy"] < 0.25),
    (Condition("accuracy", "ne", 0.5), lambda r: r["accuracy"] != 0.5),
    (Condition("accuracy", "null", True), lambda r: r["accuracy"] is None),
    (Condition("accuracy", "null", False), lambda r: r["accuracy"] is not None),
    (Condition("stages_done", "gt", 4), lambda r: r["stages_done"] > 4),
    (Condition("seconds", "lte", 50), lambda r: r["seconds"] <= 50),
    (Condition("method", "eq", "dropout"), lambda r: "dropout" in r["methods"]),
    (Condition("method", "ne", "dropout"), lambda r: "dropout" not in r["methods"]),
    (Condition("tag", "in", ["draft", "other"]), lambda r: "draft" in r["tags"]),
    (Condition("tag", "null", True), lambda r: not r["tags"]),
    (Condition("name", "contains", "100%_"), lambda r: r["name"].startswith("100%_")),
    (Condition("name", "notcontains", "EXPERIMENT"), lambda r: not r["name"].startswith("Experiment")),
    (Condition("text", "contains", "experiment 12"), lambda r: "Experiment 12" in r["name"]),
    (Condition("created", "gte", datetime(2026, 1, 1, 0, 20, tzinfo=UTC)), lambda r: r["created_at"].minute >= 20),
    (AnyOf((Condition("status", "eq", "failed"), Condition("tag", "eq", "draft"))),
     lambda r: r["status"] == "failed" or "draft" in r["tags"]),
    (AnyOf(()), lambda r: False),
]  # fmt: skip


@pytest.mark.slow
def test_conditions_find_what_a_plain_loop_finds(asked: Store) -> None:
    rows = [row for row in fill(asked, 150) if row["archived_at"] is None]
    for condition, meets in CONDITIONS:
        expected = {row["id"] for row in rows if meets(row)}
        page = asked.experiments.page(ListQuery((condition,), limit=1000))
        assert {e.id for e in page} == expected, condition
        assert page.total == len(expected)
    both = (Condition("dataset", "eq", "digits"), Condition("method", "eq", "random"))
    expected = {row["id"] for row in rows if row["dataset"] == "digits" and "random" in row["methods"]}
    assert {e.id for e in asked.experiments.page(ListQuery(both, limit=1000))} == expected


@pytest.mark.parametrize(
    "sort", ["-created", "created", "accuracy", "-accuracy", "name", "-seconds", "disagreement", "-id"]
)
def test_pages_show_every_row_once_in_order_and_those_without_value_last(asked: Store, sort: str) -> None:
    rows = [row for row in fill(asked, 80) if row["archived_at"] is None]
    column = {"created": "created_at"}.get(sort.lstrip("-"), sort.lstrip("-"))
    down = sort.startswith("-")
    valued = sorted((r for r in rows if r[column] is not None), key=lambda r: (r[column], r["id"]), reverse=down)
    empty = sorted((r for r in rows if r[column] is None), key=lambda r: r["id"], reverse=down)
    seen: list[str] = []
    cursor = None
    while True:
        page = asked.experiments.page(ListQuery(sort=sort, cursor=cursor, limit=7))
        assert page.total == len(rows)
        seen += [e.id for e in page]
        cursor = page.next
        if cursor is None:
            break
    if column == "name" and asked.url.startswith("postgres"):  # its collation is not by code point
        assert sorted(seen) == sorted(r["id"] for r in rows)
    else:
        assert seen == [r["id"] for r in valued + empty]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        (ListQuery((Condition("colour", "eq", "x"),)), "colour"),
        (ListQuery((Condition("accuracy", "like", 1),)), "accuracy"),
        (ListQuery((Condition("accuracy", "gte", "high"),)), "accuracy"),
        (ListQuery((Condition("runs", "eq", True),)), "runs"),
        (ListQuery((Condition("runs", "contains", "3"),)), "runs"),
        (ListQuery((Condition("method", "gt", "x"),)), "method"),
        (ListQuery((Condition("text", "gt", "x"),)), "text"),
        (ListQuery(sort="-colour"), "sort"),
        (ListQuery(cursor="§§"), "cursor"),
        (ListQuery(cursor="WyJuYW1lIiwieCIsInkiXQ"), "cursor"),
        (ListQuery(limit=0), "limit"),
        (ListQuery(limit=1001), "limit"),
    ],
)
def test_questions_that_make_no_sense_name_the_field(asked: Store, query: ListQuery, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        asked.experiments.page(query)
    assert caught.value.field == field
    assert caught.value.allowed


def test_lists_do_not_read_specs(store: Store) -> None:
    create(store)
    [row] = store.experiments.page()
    with pytest.raises(Exception, match="spec"):
        _ = row.spec


def test_facets_count_what_the_filter_leaves(asked: Store) -> None:
    rows = [row for row in fill(asked, 200) if row["archived_at"] is None and row["dataset"] == "digits"]
    facets = asked.experiments.facets(ListQuery((Condition("dataset", "eq", "digits"),)))
    assert facets["dataset"] == [("digits", len(rows))]
    for name, column in (("status", "status"), ("method", "methods"), ("tag", "tags")):
        expected: dict[str, int] = {}
        for row in rows:
            for value in row[column] if isinstance(row[column], list) else [row[column]]:
                expected[value] = expected.get(value, 0) + 1
        assert dict(facets[name]) == expected
        assert [count for _, count in facets[name]] == sorted(expected.values(), reverse=True)


def test_solutions_are_asked_for_like_experiments(store: Store) -> None:
    experiment = create(store, stages=GRAPH[:1])
    finish(store, claim(store), predicted(0, 0))
    page = store.results.solutions(experiment.id, [Condition("accuracy", "gte", 0.55)], sort="-accuracy", limit=1)
    assert ([s.number for s in page], page.total) == ([2], 2)
    page = store.results.solutions(
        experiment.id, [Condition("accuracy", "gte", 0.55)], sort="-accuracy", limit=1, cursor=page.next
    )
    assert ([s.number for s in page], page.next) == ([1], None)
    assert [s.number for s in store.results.solutions(experiment.id, role="optimum")] == [2]
    with pytest.raises(InvalidInput):
        store.results.solutions(experiment.id, colour="red")


def plans(store: Store, ask: Callable[[], object]) -> list[str]:
    """How the database goes about each statement of `ask`, in its own words (seconds are benchmarks/web.py's)."""
    asked: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    listening.listen(Engine, "before_cursor_execute", note)
    try:
        ask()
    finally:
        listening.remove(Engine, "before_cursor_execute", note)
    word = "EXPLAIN" if store.url.startswith("postgres") else "EXPLAIN QUERY PLAN"
    with open_database(store.url).connect() as connection:
        return [
            "\n".join(str(row[-1]) for row in connection.exec_driver_sql(f"{word} {statement}", parameters))
            for statement, parameters in asked
            if statement.startswith("SELECT")
        ]


def test_counts_that_take_long_are_told_again_for_two_seconds_until_something_happens(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    seconds = store.experiments._counted.ttl
    monkeypatch.setattr(store.experiments, "_counted", TTLCache(maxsize=64, ttl=seconds, timer=lambda: clock[0]))
    counted: list[ListQuery] = []
    count = store.experiments._count
    monkeypatch.setattr(store.experiments, "_count", lambda query: (counted.append(query), count(query))[1])
    monkeypatch.setattr(in_memory, "LONG", 3600.0)  # whatever the machine does besides
    create(store)
    for _ in range(2):
        assert sum(count for _, count in store.experiments.facets()["status"]) == 1
    assert len(counted) == 2, "counted at once, and so every time"
    monkeypatch.setattr(in_memory, "LONG", -1.0)
    of_digits = ListQuery((Condition("dataset", "eq", "digits"),))
    for query in (ListQuery(), of_digits):
        counted.clear()
        for _ in range(3):
            assert sum(count for _, count in store.experiments.facets(query)["status"]) == 1
        assert len(counted) == 1
        clock[0] += 2.1
        assert sum(count for _, count in store.experiments.facets(query)["status"]) == 1
        assert len(counted) == 2
        create(store)
        assert sum(count for _, count in store.experiments.facets(query)["status"]) == 2, "it has happened"
        store.experiments.archive(store.experiments.page().items[0].id)
        assert sum(count for _, count in store.experiments.facets(query)["status"]) == 1


SEARCHED = [
    "one and two",
    "ONE",
    "o",
    "two, \"quoted\" and 'so'",
    "100%_sure",
    "a*b OR c",
    "naïve",
    "(x) - y",
    "one_two",
    "tw",
]


@pytest.mark.slow
@pytest.mark.parametrize("few", [1000, 1, -1], ids=["by index", "where many have it by reading", "by reading"])
def test_text_is_found_in_names_and_notes_however_it_is_found(
    store: Store, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so it is after names and notes have changed and rows are gone. Against a loop over what there is."""
    monkeypatch.setattr(listing, "_FEW", few)
    for i, words in enumerate(SEARCHED):
        tags = ["tagged Um"] * (i % 3)
        create(store, name=words if i % 2 else f"Number {i}", notes="" if i % 2 else words, tags=tags)
    first, second, third, *_ = store.experiments.page()
    store.experiments.patch(first.id, name="Renamed to one")
    store.experiments.patch(second.id, notes="a note: two")
    store.experiments.archive(third.id)
    store.experiments.cancel(third.id)
    store.experiments.purge(third.id)
    rows = [store.experiments.get(row.id) for row in store.experiments.page()]
    assert len(rows) == len(SEARCHED) - 1
    for asked in {
        *SEARCHED,
        "Number",
        "RENAMED",
        "note: two",
        "um",
        "%",
        "_",
        '"',
        "' OR",
        "one two",
        "nothing at all",
    }:
        said = {row.id: (row.name, row.slug, row.notes, *row.tags, row.project) for row in rows}
        having = {key for key, texts in said.items() if any(asked.lower() in one.lower() for one in texts)}
        for operator, expected in (("contains", having), ("notcontains", {row.id for row in rows} - having)):
            found = store.experiments.page(ListQuery((Condition("text", operator, asked),)))
            assert {row.id for row in found} == expected, (asked, operator)
            assert found.total == len(expected)


def test_rare_text_is_found_by_an_index(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_memory, "LONG", 3600.0)  # whatever the machine does besides
    fill(store, 3_000)
    if store.url.startswith("postgres"):
        with open_database(store.url).begin() as connection:
            connection.execute(text("ANALYZE experiment"))
    asked = ListQuery((Condition("text", "contains", "iment 2346"),))
    assert [row.name for row in store.experiments.page(asked)] == ["Experiment 2346"]
    steps = "\n".join(plans(store, lambda: store.experiments.page(asked)))
    assert ("ix_experiment_text" if store.url.startswith("postgres") else "VIRTUAL TABLE INDEX") in steps
    assert "Seq Scan on experiment" not in steps
    assert "SCAN experiment\n" not in steps + "\n"


@pytest.mark.slow
def test_a_list_costs_what_it_shows_not_what_there_is(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Page 1, a page far on and the counts walk an index in its order: nothing is sorted, no unseen row is read."""
    monkeypatch.setattr(in_memory, "LONG", 3600.0)  # whatever the machine does besides
    fill(store, 5_000)
    postgres = store.url.startswith("postgres")
    if postgres:  # as its autovacuum does in time
        with open_database(store.url).execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text("VACUUM ANALYZE"))
    first = store.experiments.page()
    far = store.experiments.page(ListQuery(limit=1000)).next
    assert (len(first), first.total > 4000) == (50, True)
    for cursor in (None, far):
        found = plans(store, lambda: store.experiments.page(ListQuery(cursor=cursor)))  # noqa: B023  # asked at once
        assert len(found) == 2, found  # how many there are, and the rows, whatever their number
        assert "ix_experiment_list" in found[-1], found
        assert "Sort" not in found[-1], found
        assert "TEMP B-TREE" not in found[-1], found
    for counted in plans(store, lambda: store.experiments.facets()):  # PostgreSQL reads small rows as they lie
        assert postgres or "COVERING INDEX" in counted or counted == "SEARCH event", counted
    some = ListQuery((Condition("accuracy", "gte", 0.5), Condition("method", "eq", "random")), sort="-accuracy")
    if not postgres:  # rows are long there, and are read only when it is known which
        for statement in plans(store, lambda: store.experiments.page(some)):
            assert "COVERING INDEX ix_experiment_columns" in statement, statement
            assert "SCAN experiment\n" not in statement, statement
    # A sort is what shows that these words would be there to be found.
    sorted_ = plans(store, lambda: store.experiments.page(ListQuery(sort="-accuracy")))
    assert ("Sort" if postgres else "TEMP B-TREE") in sorted_[-1], sorted_


ASKED_OF_MANY = [
    *(ListQuery((one,)) for one, _ in CONDITIONS),
    *(
        ListQuery(sort=f"{way}{field.name}")
        for field in EXPERIMENTS.asked.values()
        if field.sortable
        for way in ("", "-")
    ),
    *(ListQuery(sort=f"{way}{name}") for name in ("spec.training.batch_size", "result.gain") for way in ("", "-")),
    ListQuery(
        (Condition("spec.training.optimiser", "eq", "adam"), Condition("result.gain", "null", True)), archived=True
    ),
    ListQuery((Condition("text", "contains", "7"),), sort="-accuracy"),
]


@pytest.mark.slow
def test_among_many_lists_read_no_row_that_they_do_not_show(store: Store) -> None:
    """Every condition, sort, search and count, whatever the field, once its column has been read."""
    fill(store, 300)
    store.experiments._held._is_wanted = True
    by_database = Store(store.url).experiments
    for query in ASKED_OF_MANY:
        by_database._counted.clear()
        assert dict(store.experiments.facets(query)) == dict(by_database.facets(query)), query
        page, expected = store.experiments.page(query), by_database.page(query)
        if query.sort not in ("name", "-name", "architecture", "-architecture") or store.url.startswith("sqlite"):
            assert [row.id for row in page] == [row.id for row in expected], query
        assert (page.total, page.next is None) == (expected.total, expected.next is None), query
        following = plans(store, lambda: store.experiments.page(query))  # noqa: B023  # asked at once
        assert len(following) == 2, following  # the last event, and the rows that are shown by their ids
        assert "event" in following[0].lower() or "Result" in following[0], following
        assert "SCAN experiment" not in following[1], following
        assert len(plans(store, lambda: store.experiments.facets(query))) == 1  # noqa: B023  # asked at once
        assert plans(store, lambda: store.experiments.facets(query))[0] == following[0]  # noqa: B023


@pytest.mark.slow
def test_what_is_held_of_lists_follows_every_change(store: Store) -> None:
    """Sixty changes at random, by this process or another: after each, lists are those of the database."""
    rng, other = random.Random(2), Store(store.url)
    held, plain = store.experiments, Store(store.url).experiments
    held._held._is_wanted = True
    for number in range(6):
        create(store, name=f"number {number}", stages=GRAPH[:2], tags=["a"] * (number % 2))
    questions = [
        ListQuery(sort="-seconds", limit=3), ListQuery((Condition("status", "ne", "queued"),), sort="name"),
        ListQuery((Condition("tag", "in", ["a", "b"]),), archived=None), ListQuery(archived=True),
        ListQuery((Condition("text", "contains", "two"),), sort="spec.ensemble.runs"),
        ListQuery((Condition("result.gain", "null", True),), sort="-started"),
    ]  # fmt: skip
    for step in range(60):
        of = rng.choice([store, other])
        rows = of.experiments.page(ListQuery(archived=None)).items
        row = rng.choice(rows)
        with suppress(Conflict):
            match rng.randrange(9):
                case 0:
                    of.experiments.patch(row.id, name=rng.choice(["one", "two", "Two and three"]))
                case 1:
                    of.experiments.patch(row.id, tags=rng.choice([[], ["a"], ["b", "c"]]), notes="two")
                case 2:
                    of.experiments.archive(row.id)
                case 3:
                    of.experiments.restore(row.id)
                case 4:
                    of.experiments.purge(row.id)
                case 5:
                    of.experiments.cancel(row.id)
                case 6:
                    of.experiments.retry(row.id)
                case 7:
                    create(of, name=f"later {step}", stages=GRAPH[:2])
                case 8:
                    while (lease := of.leases.claim("w")) is not None:
                        found = ListColumns(
                            accuracy=rng.random(), finding={"ensemble": {"accuracy": 0.7, "single": 0.6}}
                        )
                        of.leases.finish(lease, StageOutput(experiment=found), f"memo {step} {lease.stage.id}")
        if step % 20 == 19:
            store.events.prune(rng.choice([0, 3]))
        for query in questions:
            page, expected = held.page(query), plain.page(query)
            assert ([row.id for row in page], page.total) == ([row.id for row in expected], expected.total), (
                step,
                query,
            )
            plain._counted.clear()
            assert held.facets(query) == plain.facets(query), (step, query)
    assert held._held._rows is not None


@pytest.mark.slow
def test_a_page_goes_on_behind_a_row_whose_word_has_changed(store: Store) -> None:
    """Words are ordered as the database has them, also those that went, and those that came back."""
    fill(store, 40)
    held, plain = store.experiments, Store(store.url).experiments
    held._held._is_wanted = True
    for sort, word in (("name", "a word that nobody had"), ("-name", "zz, neither")):
        first = held.page(ListQuery(sort=sort, limit=10))
        last, question = first.items[-1], ListQuery(sort=sort, limit=10, cursor=first.next)
        held.patch(last.id, name=word)
        assert [row.id for row in held.page(question)] == [row.id for row in plain.page(question)]
        held.page(ListQuery(sort=sort, limit=10))
        held.patch(last.id, name=last.name)
        whole = ListQuery(sort=sort, limit=40)
        assert [row.id for row in held.page(whole)] == [row.id for row in plain.page(whole)]


# What is typed -> names that have it, by hand: case is folded (Unicode 15, 3.13 D144), accents are dropped of Latin,
# Greek and Cyrillic letters, compatibility forms are one, and voiced kana, vowel signs and points stay.
OIL, STREET, SIGMA = {"ÖL", "öl", "O\u0308lfeld"}, {"STRASSE", "straße ẞ"}, {"ΑΣ", "ας"}
ALIKE: dict[str, set[str]] = {
    "öl": OIL, "ÖL": OIL, "O\u0308L": OIL, "ol": OIL, "o\u0308l": OIL,
    "ß": STREET, "ẞ": STREET, "SS": STREET, "strasse": STREET, "straße": STREET,
    "σ": SIGMA, "ς": SIGMA, "Σ": SIGMA, "ασ": SIGMA, "ιστανβ": set(),
    "ISTANBUL": {"İstanbul", "istanbul 2"}, "istanbul": {"İstanbul", "istanbul 2"},
    "елка": {"Ёлка"}, "ёлка": {"Ёлка"}, "Ε\u0301": {"έτη"}, "ετη": {"έτη"},
    "fine": {"ﬁne ①"}, "e 1": {"ﬁne ①"}, "wide": {"ｗｉｄｅ"}, "ｆｉｎｅ": {"ﬁne ①"},
    "か": {"かん"}, "が": {"がん"}, "नि": {"निर"}, "न": {"निर", "नर"},
    "two words": {"two\u00a0words"}, "100%": {"100%_"}, "%_": {"100%_"}, "_": {"100%_"}, "nothing": set(),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("field", ["name", "text"])
def test_texts_are_found_by_the_same_letters_whoever_typed_them_and_whoever_looks(store: Store, field: str) -> None:
    for name in {normal(name) for found in ALIKE.values() for name in found}:
        create(store, name=name)
    held, plain = store.experiments, Store(store.url).experiments
    held._held._is_wanted = True
    for part, expected in ALIKE.items():
        query = ListQuery((Condition(field, "contains", part),), limit=100)
        for way in (held, plain):
            assert {row.name for row in way.page(query)} == {normal(name) for name in expected}, part


def test_only_the_columns_asked_for_last_are_held(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store, 10)
    monkeypatch.setattr(in_memory, "_MOST_COLUMNS", 3)
    held, plain = store.experiments, Store(store.url).experiments
    held._held._is_wanted = True
    for number in range(5):
        query = ListQuery((Condition(f"spec.methods.{number}.method", "null", True),), sort="-seconds")
        assert [row.id for row in held.page(query)] == [row.id for row in plain.page(query)]
    rows = held._held._rows
    assert rows is not None
    assert len(rows.columns) == 3
    assert set(rows.places) <= {f"{way}{name}" for name in rows.columns for way in ("", "-")}
    held.patch(held.page().items[0].id, notes="other")
    assert held._held._rows is rows, "what has changed was read, not everything again"
    assert rows.places, "no order has changed"


def test_a_page_of_which_a_row_has_gone_meanwhile_has_a_next_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL reads the rows later than it was found out which."""
    fill(store, 30)
    held = store.experiments
    held._held._is_wanted = True
    find = held._held.find

    def with_one_that_went(session: Session, query: ListQuery) -> Found | None:
        found = find(session, query)
        assert found is not None
        return replace(found, keys=[*found.keys[:2], "purged meanwhile", *found.keys[3:]])

    monkeypatch.setattr(held._held, "find", with_one_that_went)
    page = held.page(ListQuery(limit=10))
    monkeypatch.undo()
    rest = held.page(ListQuery(limit=30, cursor=page.next))
    assert page.next is not None
    assert len(page) + len(rest) == page.total - 1


def test_every_change_of_what_a_list_shows_is_told(store: Store) -> None:
    """Also where nothing has happened to the experiment: a name is registered for its folder."""
    scans = on_own(store, "/data/lungs")
    held = store.experiments
    held._held._is_wanted = True
    assert [row.dataset for row in held.page()] == ["lungs"]
    store.own_sets.register("patients", {"dataset": "folder", "where": "/data/lungs"})
    assert [row.id for row in held.page(ListQuery((Condition("dataset", "eq", "patients"),)))] == [scans.id]


def test_a_list_is_held_from_when_it_took_long_among_many(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    create(store)
    monkeypatch.setattr(in_memory, "LONG", -1.0)
    store.experiments.page()
    store.experiments.facets()
    assert not store.experiments._held._is_wanted, "it is one of few"
    monkeypatch.setattr(in_memory, "MANY", 1)
    assert [row.name for row in store.experiments.page()] == [row.name for row in store.experiments.page()]
    assert store.experiments._held._is_wanted


# --- events ----------------------------------------------------------------------------------------------------------


def test_pruning_keeps_the_last_events_and_never_gives_an_id_twice(store: Store) -> None:
    experiment = create(store)
    finish_all(store)
    last = store.events.last_id()
    assert store.events.prune(3) == last - 3
    assert [event.id for event in store.events.after()] == [last - 2, last - 1, last]
    assert store.events.first_id() == last - 2
    store.experiments.archive(experiment.id)
    store.experiments.purge(experiment.id)
    assert store.events.last_id() > last


@pytest.mark.slow
def test_a_reader_misses_no_event_while_many_write(store: Store) -> None:
    """Ids must become visible in their order: a reader that has seen n never finds a smaller one later."""
    experiments = [create(store, stages=[PlannedStage("train", "0")]) for _ in range(4)]
    leases = [claim(store, "train/0", experiment) for experiment in experiments]
    writing = threading.Event()
    seen: list[int] = []

    def read() -> None:
        last = 0
        while True:
            final = writing.is_set()
            for event in store.events.after(last, limit=100_000):
                last = event.id
                seen.append(event.id)
            if final:
                return
            time.sleep(0.001)  # a reader that never rests keeps the writers from this process's only interpreter

    reader = threading.Thread(target=read)
    reader.start()

    def write(i: int) -> None:
        for step in range(40):
            store.leases.beat(leases[i], Progress(step, 0))

    together(4, write)
    writing.set()
    reader.join()
    assert seen == [event.id for event in store.events.after(0, limit=100_000)]


# --- workers and small things ----------------------------------------------------------------------------------------


def test_workers_come_work_and_go(store: Store) -> None:
    store.workers.register("gpu0", device="H100", numerics="cuda/1", queue="gpu", pid=7)
    store.workers.seen("gpu0", stage_id="s")
    store.workers.keep_speed("gpu0", "small-cnn", 5000.0)
    [worker] = store.workers.all()
    assert (worker.name, worker.device, worker.stage_id, worker.speed, worker.stopped_at) == (
        "gpu0", "H100", "s", {"small-cnn": 5000.0}, None)  # fmt: skip
    store.workers.stopped("gpu0")
    assert store.workers.all()[0].stopped_at is not None
    store.workers.register("gpu0", device="H100", numerics="cuda/1", queue="gpu", pid=8)
    assert (store.workers.all()[0].speed, store.workers.all()[0].pid) == ({"small-cnn": 5000.0}, 8)
    store.workers.register("gpu0", device="H100", numerics="cuda/2", queue="gpu", pid=9)
    assert store.workers.all()[0].speed == {}, "another torch may have another speed"


def test_what_a_worker_measured_stays_while_its_arithmetic_and_device_do(store: Store) -> None:
    said = {"device": "H100", "numerics": "cuda/1", "queue": "gpu"}
    store.workers.register("gpu0", **said, pid=7)
    assert store.workers.calibration("gpu0") is None
    store.workers.calibrated("gpu0", {"other": 1.5})
    store.workers.register("gpu0", **said, pid=8)
    assert store.workers.calibration("gpu0") == {"other": 1.5}
    store.workers.register("gpu0", **{**said, "device": "A100"}, pid=9)
    assert store.workers.calibration("gpu0") is None


def test_finished_work_is_summed_by_kind_shape_and_arithmetic_older_counting_less(store: Store) -> None:
    planned = PlannedStage("train", "0", work=Work(trained=1000, other=0.5), shape="1x8x8/10 small-cnn")
    create(store, stages=[planned])
    lease = claim(store)
    store.workers.learn(lease.stage, "cpu/1", 10.0)
    store.workers.learn(lease.stage, "cpu/1", 20.0)
    store.workers.learn(lease.stage, "cuda/1", 1.0)
    [found] = store.workers.finished_work("cpu/1")
    assert (found.kind, found.shape) == ("train", "1x8x8/10 small-cnn")
    assert (found.stages, found.seconds) == pytest.approx((1.98, 29.8))
    assert found.work == Work(trained=pytest.approx(1980), other=pytest.approx(0.99))
    [other] = store.workers.finished_work("cuda/1")
    assert (other.stages, other.seconds) == (1.0, 1.0)
    assert store.workers.finished_work("cpu/2") == []


def test_stage_keys_are_here_once_a_stage_has_succeeded_under_them(store: Store) -> None:
    create(store, stages=GRAPH[:1])
    store.leases.finish(claim(store), StageOutput(), "one")
    assert store.stages.here_already({"one", "two"}) == {"one"}
    assert store.stages.here_already(set()) == set()


def test_a_fact_is_set_once_among_many(store: Store) -> None:
    won: list[bool] = []
    together(6, lambda i: won.append(store.catalogue.set_fact_once("quickstart", f"by {i}")))
    assert sorted(won) == [False] * 5 + [True]


def on_own(store: Store, path: str, kind: str = "folder") -> Experiment:
    spec = parse({"data": {"dataset": kind, "path": path}})
    return store.experiments.create(name="own", spec=spec, stages=[])


def test_a_users_own_set_is_listed_under_its_name(store: Store) -> None:
    scans, other = on_own(store, "/data/lungs"), on_own(store, "/data/cifar10")
    array = on_own(store, "/data/more/cells.npz", "npz")
    assert [e.dataset for e in (scans, other, array)] == ["lungs", "cifar10 (folder)", "cells"]
    store.own_sets.register("Lungs, 2024", {"dataset": "folder", "where": "/data/lungs"})
    assert store.experiments.get(scans.id).dataset == "Lungs, 2024"  # also what was launched before
    assert on_own(store, "/data/lungs").dataset == "Lungs, 2024"
    assert dict(store.experiments.facets()["dataset"]) == {"Lungs, 2024": 2, "cifar10 (folder)": 1, "cells": 1}
    store.own_sets.unregister("Lungs, 2024")
    assert store.experiments.get(scans.id).dataset == "lungs"
    with pytest.raises(NotFound):
        store.own_sets.unregister("Lungs, 2024")


def test_a_name_belongs_to_one_place_until_it_is_given_to_another(store: Store) -> None:
    here, there = ({"dataset": "folder", "where": place} for place in ("/a", "/b"))
    store.own_sets.register("Cafe\u0301", here)
    store.own_sets.register("Caf\u00e9", {**here, "train": 9})  # the same letters, the same place: looked at again
    with pytest.raises(Conflict, match="registered for /a"):
        store.own_sets.register("Café", there)
    store.own_sets.register("Café", there, replace=True)
    assert store.own_sets.all() == {"Café": {**there, "created_by": actor().name}}
    for taken in ("cifar10", "", "x" * 65):
        with pytest.raises(InvalidInput):
            store.own_sets.register(taken, here)


def test_experiments_on_own_data_get_their_names_when_the_database_is_migrated(store: Store) -> None:
    store.own_sets.register("Scans", {"dataset": "folder", "where": "/data/lungs"})
    made = [
        on_own(store, "/data/lungs"),
        on_own(store, "/data/svhn"),
        on_own(store, "/x/a.b.npz", "npz"),
        create(store),
    ]
    names = [store.experiments.get(e.id).dataset for e in made]
    downgrade(store.url, "0002")
    old = ["folder", "folder", "npz", "digits"]
    with open_database(store.url).connect() as connection:
        kept = dict(connection.execute(text("SELECT id, dataset FROM experiment")).all())
    assert [kept[e.id] for e in made] == old
    upgrade(store.url)
    assert [store.experiments.get(e.id).dataset for e in made] == names == ["Scans", "svhn (folder)", "a.b", "digits"]


def test_measurements_get_the_one_name_of_their_group_and_lose_nothing(store: Store) -> None:
    experiment = create(store)
    lease = store.leases.claim("w")
    assert lease is not None
    names = {
        "ensemble/optimum/2": "ensemble/independent/2", "ensemble/optimum": "ensemble/independent",
        "reliability/optimum/single/width-10": "reliability/independent/single/width-10",
        "ood/0/optimum/single/energy": "ood/0/independent/single/energy", "ood/1/random": "ood/1/random",
        "shift/independent/4": "shift/independent/4", "independent": "independent",
        "ensemble/optimum-like/2": "ensemble/optimum-like/2", "ensemble/random/2": "ensemble/random/2",
    }  # fmt: skip

    def details(i: int, subject: str) -> dict[str, Any]:
        return {"members": i, **({"group": subject.split("/")[2]} if subject.startswith("ood") else {})}

    rows = [
        NewMeasurement(metric="nll", value=float(i), subject=new, details=details(i, new))
        for i, new in enumerate(names.values())
    ]
    finish(store, lease, StageOutput(measurements=rows))

    def told() -> dict[str, tuple[Any, ...]]:
        found = store.results.measurements(experiment.id).items
        return {row.subject: (row.id, row.value, row.details) for row in found}

    now = told()
    assert set(now) == set(names.values())
    downgrade(store.url, "0007")
    assert told() == {old: (*now[new][:2], details(i, old)) for i, (old, new) in enumerate(names.items())}
    upgrade(store.url)
    assert told() == now


def test_selections(store: Store) -> None:
    experiment = create(store)
    with pytest.raises(InvalidInput, match="no solution 0"):
        store.results.put_selection(experiment.id, [0])
    finish(store, claim(store, "train/0"), predicted(0, 0))
    with pytest.raises(InvalidInput, match="no solution 99999") as refused:
        store.results.put_selection(experiment.id, range(100_000))
    last = store.results.all_solutions(experiment.id)[-1].number
    assert (refused.value.field, refused.value.allowed) == ("numbers", f"0 to {last}")
    assert store.results.put_selection(experiment.id, [])
    key = store.results.put_selection(experiment.id, [2, 1, 2])
    assert store.results.put_selection(experiment.id, [1, 2]) == key
    assert store.results.selection(key).numbers == [1, 2]
    with pytest.raises(NotFound):
        store.results.selection("nothing")


def test_an_experiment_has_so_many_selections_and_of_more_the_newest(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "MOST_SELECTIONS", 2)
    experiment, other = create(store), create(store)
    for _ in range(2):
        finish(store, claim(store, "train/0"), predicted(0, 0))
    there = store.results.put_selection(other.id, [1])
    keys = [store.results.put_selection(experiment.id, numbers) for numbers in ([0], [1], [2])]
    with pytest.raises(NotFound):
        store.results.selection(keys[0])
    assert [store.results.selection(key).numbers for key in (*keys[1:], there)] == [[1], [2], [1]]


def test_list_columns_can_be_derived_again(store: Store) -> None:
    experiment = create(store)
    finish_all(store)
    assert store.experiments.recompute_list_columns() == 0
    with open_database(store.url).begin() as connection:
        connection.execute(text("UPDATE experiment SET status = 'running', stages_done = 0"))
    assert store.experiments.recompute_list_columns() == 1
    row = store.experiments.get(experiment.id)
    assert (row.status, row.stages_done) == ("succeeded", 5)


@pytest.mark.slow
def test_random_verbs_never_break_the_rules(store: Store) -> None:
    """Any order of users' and workers' verbs leaves a graph that keeps its promises."""
    rng = random.Random(5)
    experiment = create(store)
    leases: list[Lease] = []

    def claim_one() -> None:
        lease = store.leases.claim("w")
        if lease:
            leases.append(lease)

    def end_one(how: Callable[[Lease], object]) -> None:
        if leases:
            how(leases.pop(rng.randrange(len(leases))))

    moves: list[Callable[[], object]] = [
        claim_one,
        claim_one,
        claim_one,
        lambda: end_one(lambda lease: finish(store, lease)),
        lambda: end_one(lambda lease: finish(store, lease)),
        lambda: end_one(lambda lease: store.leases.fail(lease, {"type": "X", "message": "x"})),
        lambda: end_one(store.leases.give_back),
        lambda: store.experiments.cancel(experiment.id),
        lambda: store.experiments.pause(experiment.id),
        lambda: store.experiments.resume(experiment.id),
        lambda: store.experiments.retry(experiment.id),
        lambda: store.leases.reap(),
        lambda: store.leases.release_owner("w"),
    ]
    for _ in range(90):
        with suppress(Conflict, LeaseLost):
            rng.choice(moves)()
        stages = {stage.id: stage for stage in store.stages.of(experiment.id)}
        needs: dict[str, list[Stage]] = {}
        for child, parent in store.stages.arrows(experiment.id):
            needs.setdefault(child, []).append(stages[parent])
        for stage in stages.values():
            parents = [parent.state for parent in needs.get(stage.id, [])]
            if stage.state in ("ready", "running", "paused", "succeeded"):
                assert set(parents) <= {"succeeded"}, (stage.kind, stage.key, parents)
            if stage.state == "blocked":
                assert set(parents) & {"blocked", "ready", "running", "paused"}, (stage.kind, stage.key, parents)
                assert not set(parents) & {"failed", "cancelled"}, (stage.kind, stage.key, parents)
            assert (stage.lease_token is not None) == (stage.state == "running")
        assert store.experiments.recompute_list_columns() == 0


# --- doing without what failed ---------------------------------------------------------------------------------------

# train/0 -> predict/0 ~~> compare/all -> embed/all; train/1 -> predict/1 ~~>: the waves are what can be done without
LOOSE = (
    PlannedStage("train", "0", params={"run": 0}, optional=True),
    PlannedStage("train", "1", params={"run": 1}, optional=True),
    PlannedStage("predict", "0", (("train", "0"),), {"run": 0}, optional=True),
    PlannedStage("predict", "1", (("train", "1"),), {"run": 1}, optional=True),
    PlannedStage("compare", "all", wants=(("predict", "0"), ("predict", "1"))),
    PlannedStage("embed", "all", (("compare", "all"),), optional=True),
)
ERROR = {"type": "StageError", "message": "no luck"}


def test_a_stage_does_without_what_failed_and_waits_for_the_rest(store: Store) -> None:
    experiment = create(store, stages=LOOSE)
    assert states(store, experiment)["compare/all"] == "blocked"
    store.leases.fail(claim(store, "train/0"), ERROR)
    assert states(store, experiment) == {
        "train/0": "failed", "train/1": "ready", "predict/0": "failed", "predict/1": "blocked",
        "compare/all": "blocked", "embed/all": "blocked",
    }  # fmt: skip
    finish_all(store)
    assert [s.state for s in store.stages.of(experiment.id)].count("succeeded") == 4
    row = store.experiments.get(experiment.id)
    assert (row.status, row.error, row.stages_done) == ("succeeded", "train/0: no luck", 4)
    standing = store.stages.standing(store.stages.get(stage_id(store, experiment, "compare/all")))
    assert {(need.kind, need.key) for need in standing.needs} == {("predict", "0"), ("predict", "1")}
    assert (standing.firm, standing.failed) == (set(), {})


def test_what_failed_is_told_from_inside_results_and_stages_are_read_by_kind(store: Store) -> None:
    experiment = create(store, stages=LOOSE)
    finish(store, claim(store, "train/0"), StageOutput(extra={"failed": "loss is nan", "checkpoints": [1, 2]}))
    finish(store, claim(store, "train/1"), StageOutput(extra={"checkpoints": []}))
    finish(store, claim(store, "predict/0"), StageOutput(extra={"failed": ""}))
    told = store.stages.failures(experiment.slug, ("train", "predict"))
    assert told == [(store.stages.get(stage_id(store, experiment, "train/0")).params, "loss is nan")]
    assert store.stages.failures(experiment.id, ("predict", "compare")) == []
    every = store.stages.of(experiment.id)
    for kind in ("train", "predict", "compare", "unheard-of"):
        assert [one.id for one in store.stages.of(experiment.id, kind)] == [one.id for one in every if one.kind == kind]
    with pytest.raises(NotFound):
        store.stages.failures("nobody", ("train",))


@pytest.mark.slow
def test_what_a_stage_says_last_comes_with_its_end(store: Store) -> None:
    create(store)
    lease = claim(store)
    before = store.events.last_id()
    store.leases.finish(lease, StageOutput(), "memo", Progress(40, 40, {"loss": 0.25}))
    stage = store.stages.get(lease.stage.id)
    assert (stage.state, stage.step, stage.steps, stage.progress) == ("succeeded", 40, 40, {"loss": 0.25})
    told = [(event.kind, event.payload.get("loss")) for event in store.events.after(before)]
    assert told[:2] == [("progress", 0.25), ("stage-succeeded", None)]


def test_a_stage_that_is_left_without_anything_fails_too_and_names_the_first_cause(store: Store) -> None:
    experiment = create(store, stages=LOOSE)
    for name in ("train/0", "train/1"):
        store.leases.fail(claim(store, name), ERROR)
    assert set(states(store, experiment).values()) == {"failed"}
    assert store.experiments.get(experiment.id).status == "failed", "compare/all is not optional"
    error = store.stages.get(stage_id(store, experiment, "embed/all")).error
    assert error["message"] == "needs train/0, which failed"
    assert error["cause"] == stage_id(store, experiment, "train/0")


def test_what_was_made_without_a_result_is_made_again_once_that_comes(store: Store) -> None:
    experiment = create(store, stages=LOOSE)
    store.leases.fail(claim(store, "train/0"), ERROR)
    finish_all(store)
    store.experiments.retry(experiment.id)
    assert states(store, experiment)["compare/all"] == "succeeded", "nothing is lost while it may fail again"
    store.leases.fail(claim(store, "train/0"), ERROR)
    assert store.experiments.get(experiment.id).status == "succeeded"
    store.experiments.retry(experiment.id)
    for name in ("train/0", "predict/0"):
        finish(store, claim(store, name))
    assert states(store, experiment)["compare/all"] == "ready"
    assert store.experiments.get(experiment.id).status == "running"
    finish(store, claim(store, "compare/all"))
    finish(store, claim(store, "embed/all"))
    assert store.leases.claim("w") is None
    assert [(s.state, s.attempt) for s in store.stages.of(experiment.id)[4:]] == [("succeeded", 2)] * 2
    assert (store.experiments.get(experiment.id).status, store.experiments.get(experiment.id).error) == (
        "succeeded",
        None,
    )


def test_a_result_that_comes_while_a_stage_works_without_it_makes_it_work_again(store: Store) -> None:
    experiment = create(store, stages=LOOSE)
    store.leases.fail(claim(store, "train/0"), ERROR)
    finish(store, claim(store, "train/1"))
    finish(store, claim(store, "predict/1"))
    working = claim(store, "compare/all")
    store.experiments.retry(experiment.id)
    for name in ("train/0", "predict/0"):
        finish(store, claim(store, name, experiment))
    finish(store, working)
    assert states(store, experiment)["compare/all"] == "ready"
    assert states(store, experiment)["embed/all"] == "blocked"
    finish_all(store)
    assert store.experiments.get(experiment.id).status == "succeeded"
    assert store.stages.get(working.stage.id).attempt == 2


def test_a_stage_that_is_retried_is_waited_for_again(store: Store) -> None:
    experiment = create(store, stages=LOOSE)
    store.leases.fail(claim(store, "train/0"), ERROR)
    finish(store, claim(store, "train/1"))
    finish(store, claim(store, "predict/1"))
    assert states(store, experiment)["compare/all"] == "ready"
    store.experiments.retry(experiment.id)
    assert states(store, experiment)["compare/all"] == "blocked"
    finish_all(store)
    assert {stage.attempt for stage in store.stages.of(experiment.id)[2:]} == {1}


def test_why_a_run_has_failed_is_kept_and_told_with_the_stage(store: Store) -> None:
    experiment = create(store, stages=LOOSE)
    finish(store, claim(store, "train/0"), StageOutput(runs={0: TrainedRun({}, "nan")}, extra={"failed": "nan"}))
    assert [run.failed for run in store.results.runs(experiment.id)] == ["nan", None]
    assert store.stages.of(experiment.id)[0].progress == {"failed": "nan"}
    again = create(store, name="Again", stages=LOOSE)
    assert store.leases.reuse(claim(store, "train/0", again), "memo train/0")
    assert store.results.runs(again.id)[0].failed == "nan"


def test_an_old_result_is_taken_over_with_what_it_did_not_tell(store: Store) -> None:
    create(store, stages=LOOSE)
    finish(store, claim(store, "train/0"))
    again = create(store, name="Again", stages=LOOSE)

    def renew(output: StageOutput) -> StageOutput:
        return StageOutput(runs={0: PredictedRun(None, None, "at chance")}, extra=output.extra)

    assert store.leases.reuse(claim(store, "train/0", again), "memo train/0", renew=renew)
    assert store.results.runs(again.id)[0].failed == "at chance"


@pytest.mark.slow
def test_random_failures_and_retries_never_break_the_rules_of_what_can_be_done_without(store: Store) -> None:
    rng = random.Random(7)
    experiment = create(store, stages=LOOSE)
    leases: list[Lease] = []
    for _ in range(90):
        move = rng.choice(("claim", "claim", "finish", "fail", "retry", "reap"))
        with suppress(Conflict, LeaseLost):
            if move == "claim" and (lease := store.leases.claim("w")):
                leases.append(lease)
            elif move in ("finish", "fail") and leases:
                lease = leases.pop(rng.randrange(len(leases)))
                _ = finish(store, lease) if move == "finish" else store.leases.fail(lease, ERROR)
            elif move == "retry":
                store.experiments.retry(experiment.id)
            elif move == "reap":
                store.leases.reap()
        for stage in store.stages.of(experiment.id):
            standing = store.stages.standing(stage)
            firm = {need.state for need in standing.needs if need.id in standing.firm}
            loose = {need.state for need in standing.needs if need.id not in standing.firm}
            waiting = {"blocked", "ready", "running", "paused"}
            if stage.state == "ready":
                assert firm <= {"succeeded"}
            if stage.state == "blocked":
                assert (firm | loose) & waiting, (stage.kind, stage.key)
                assert "failed" not in firm
        assert store.experiments.recompute_list_columns() == 0


# --- schema ----------------------------------------------------------------------------------------------------------


def _is_of(dialect: str, given: Any, *_: Any) -> bool:
    """Whether a database of that kind has it and the models say so: some indexes are SQLite's alone, and its index of
    texts is tables of their own."""
    if given.name.startswith("experiment_text"):
        return False
    only = getattr(given, "_ddl_if", None)
    return only is None or only.dialect == dialect


@pytest.mark.slow
def test_migrations_go_up_down_and_up_and_equal_the_models(store_url: str) -> None:
    assert schema_state(store_url).current
    downgrade(store_url, "base")
    assert schema_state(store_url).found is None
    engine = open_database(store_url)
    assert set(inspect(engine).get_table_names()) <= {"alembic_version"}
    with pytest.raises(ConfigurationError, match="modescape migrate"):
        check_schema(store_url)
    upgrade(store_url)
    upgrade(store_url)
    check_schema(store_url)
    with engine.connect() as connection:
        options = {"compare_type": True, "include_object": partial(_is_of, connection.dialect.name)}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


@pytest.mark.slow
def test_an_experiment_outlives_every_step_between_versions(store: Store) -> None:
    experiment = create(store, name="Kept", tags=["old"])
    finish_all(store)
    before = store.stages.of(experiment.id)
    revisions = sorted(path.stem.split("_")[0] for path in (migrations_folder() / "versions").glob("[0-9]*.py"))
    for revision in (*reversed(revisions[:-1]), *revisions[1:]):
        (downgrade if revision < schema_state(store.url).found else upgrade)(store.url, revision)
        assert schema_state(store.url).found == revision
    [row] = store.experiments.page()
    assert (row.id, row.name, row.tags, row.status) == (experiment.id, "Kept", ["old"], "succeeded")
    assert [(s.id, s.state) for s in store.stages.of(experiment.id)] == [(s.id, s.state) for s in before]


def test_a_newer_schema_is_refused_with_the_way_out(store_url: str) -> None:
    engine = open_database(store_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    for start in (upgrade, check_schema):
        with pytest.raises(ConfigurationError, match=r"9999.*pip install --upgrade"):
            start(store_url)


def test_an_unknown_revision_is_refused(store_url: str) -> None:
    with pytest.raises(ConfigurationError, match="nonsense"):
        downgrade(store_url, "nonsense")


_ENTER_AND_LEAVE = """
import sys
from modescape.database import open_database
print("ready", flush=True)
for name in sys.stdin:
    for turn in range(6):
        engine = open_database(f"sqlite:///{name.strip()}")
        with engine.begin() as connection:
            if turn % 2:
                connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS one (two)")
            else:
                connection.exec_driver_sql("SELECT * FROM sqlite_master").all()
        engine.dispose()
    print("done", flush=True)
"""


@pytest.mark.slow
def test_many_processes_may_open_and_leave_one_database_at_the_same_moment(tmp_path: Path) -> None:
    """SQLite waits for a lock, but not for the one under which a file gets its journal (1 in 70 of these failed)."""
    running = [
        subprocess.Popen([sys.executable, "-c", _ENTER_AND_LEAVE], text=True, stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(4)
    ]  # fmt: skip
    for turn in ("ready", *range(100)):
        for process in running:
            assert process.stdout
            said = process.stdout.readline()
            assert said, process.communicate()[1]
        for process in running:
            assert process.stdin
            process.stdin.write(f"{tmp_path}/{turn}.db\n")
            process.stdin.flush()
    for process in running:
        assert process.communicate(timeout=60)[1] == ""
        assert process.returncode == 0


@pytest.mark.slow
def test_many_processes_may_create_the_same_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    program = "import sys; from modescape.database import upgrade; upgrade(sys.argv[1])"
    running = [subprocess.Popen([sys.executable, "-c", program, url], stderr=subprocess.PIPE) for _ in range(4)]
    for process in running:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors.decode()
    check_schema(url)
    journal = sqlite3.connect(tmp_path / "new.db").execute("PRAGMA journal_mode").fetchone()
    assert journal == ("wal",)


@pytest.mark.parametrize("again", [open_database, check_schema, schema_state, Store])
def test_a_process_that_opens_its_database_again_keeps_its_locks(
    again: Callable[[str], object], tmp_path: Path
) -> None:
    """POSIX ends all locks that a process has on a file as soon as it closes one of its descriptors of it. Another that
    leaves then takes itself for the last one, and takes the log away from under those that are still writing into it:
    "database disk image is malformed"."""
    url, log = f"sqlite:///{tmp_path / 'lab.db'}", tmp_path / "lab.db-wal"
    upgrade(url)
    script = f"import sqlite3; sqlite3.connect({str(tmp_path / 'lab.db')!r}).execute('SELECT * FROM alembic_version')"
    with open_database(url).begin() as connection:
        connection.execute(text("SELECT version_num FROM alembic_version"))
        again(url)
        before = log.stat().st_ino
        subprocess.run([sys.executable, "-c", script], check=True)
        assert log.exists(), "a process that came and went took the log away"
        assert log.stat().st_ino == before


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite://", "needs a file"),
        ("sqlite:////no/such/folder/x.db", "folder /no/such/folder"),
        ("mysql://host/db", "sqlite|driver"),
        ("not a url", "not one we can open"),
        ("postgresql://localhost:1/none", "does not answer"),
    ],
)
def test_databases_that_cannot_be_opened_are_named(url: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        schema_state(url)


def test_the_migrations_are_found_in_the_repository() -> None:
    assert (migrations_folder() / "versions").is_dir()


def together(count: int, work: Callable[[int], object]) -> None:
    """Run `work(0)` … `work(count - 1)` at the same moment; raises what one of them raised."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(count)

    def run(i: int) -> None:
        try:
            barrier.wait()
            work(i)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
