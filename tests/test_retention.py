"""What is forgotten after a while, and what never is; on both databases."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from serving import finished
from sqlalchemy import update

from modescape.errors import NotFound
from modescape.laboratory import Laboratory
from modescape.retention import tidy
from modescape.settings import Settings
from modescape.tables import Deed, Experiment, Idempotency, Selection, Worker, utcnow


@pytest.fixture
def laboratory(store_url: str, tmp_path: Path) -> Laboratory:
    return Laboratory(Settings(home=tmp_path, database_url=store_url, keep_events=1000))


def aged(lab: Laboratory, table: Any, column: Any, days: float, *which: Any) -> None:
    """As if it had been written so many days ago."""
    with lab.store.experiments.database.writing() as change:
        change.session.execute(update(table).where(*which).values({column: utcnow() - timedelta(days=days)}))


def settings_of(lab: Laboratory, **changes: Any) -> Laboratory:
    return Laboratory.of(lab.settings.model_copy(update=changes), lab.store, lab.artifacts)


@pytest.mark.slow
def test_by_default_nothing_of_worth_is_forgotten(laboratory: Laboratory) -> None:
    row = finished(laboratory, "kept")
    laboratory.store.experiments.archive(row.id)
    aged(laboratory, Experiment, Experiment.archived_at, 5000)
    aged(laboratory, Deed, Deed.at, 5000)
    files = laboratory.store.outputs.digests()
    assert tidy(laboratory) == {}
    assert laboratory.store.experiments.get("kept").archived_at is not None
    assert len(laboratory.store.deeds.page()) == 2
    assert all(map(laboratory.artifacts.exists, files))


@pytest.mark.slow
def test_selections_go_after_a_year(laboratory: Laboratory) -> None:
    row = finished(laboratory, "kept")
    old, young = (laboratory.store.results.put_selection(row.id, [number]) for number in (0, 1))
    aged(laboratory, Selection, Selection.at, 366, Selection.key == old)
    aged(laboratory, Selection, Selection.at, 364, Selection.key == young)
    assert tidy(settings_of(laboratory, keep_selections_days=0.0)) == {}
    assert tidy(laboratory) == {"selections": 1}
    assert laboratory.store.results.selection(young).numbers == [1]
    with pytest.raises(NotFound):
        laboratory.store.results.selection(old)


def kept(laboratory: Laboratory) -> int:
    return sum(file.is_file() for file in (laboratory.settings.home / "artifacts").glob("*/*"))


@pytest.mark.slow
def test_archived_experiments_go_when_the_operator_says_so(laboratory: Laboratory) -> None:
    old, young, shown = (finished(laboratory, name) for name in ("old", "young", "shown"))
    for row in (old, young):
        laboratory.store.experiments.archive(row.id)
    aged(laboratory, Experiment, Experiment.archived_at, 31, Experiment.id == old.id)
    aged(laboratory, Experiment, Experiment.archived_at, 29, Experiment.id == young.id)
    aged(laboratory, Experiment, Experiment.created_at, 1000)
    before = kept(laboratory)
    assert tidy(settings_of(laboratory, keep_archived_days=30.0)) == {"archived": 1}
    with pytest.raises(NotFound):
        laboratory.store.experiments.get(old.id)
    assert laboratory.store.experiments.get(young.id).name == "young"
    assert laboratory.store.experiments.get(shown.id).name == "shown"
    assert kept(laboratory) < before
    assert (laboratory.store.deeds.page()[0].who, laboratory.store.deeds.page()[0].verb) == ("retention", "purge")
    assert tidy(settings_of(laboratory, keep_archived_days=30.0)) == {}


def test_old_workers_go_but_the_last_of_an_arithmetic_prices_what_comes(laboratory: Laboratory) -> None:
    store = laboratory.store
    for name, numerics, days in (("a", "x", 200), ("b", "x", 100), ("c", "x", 91), ("d", "y", 400), ("e", "z", 1)):
        store.workers.register(name, device="cpu", numerics=numerics, queue="cpu", pid=1)
        aged(laboratory, Worker, Worker.seen_at, days, Worker.name == name)
    assert tidy(laboratory) == {"workers": 2}
    assert [worker.name for worker in store.workers.all()] == ["c", "d", "e"]
    assert tidy(settings_of(laboratory, keep_days=0.0)) == {}


@pytest.mark.slow
def test_keys_of_requests_and_deeds_go_after_their_days(laboratory: Laboratory) -> None:
    finished(laboratory, "asked", idempotency=("key", "digest"))
    aged(laboratory, Idempotency, Idempotency.at, 91)
    aged(laboratory, Deed, Deed.at, 400)
    assert tidy(laboratory) == {"requests": 1}
    assert tidy(settings_of(laboratory, keep_deeds_days=365.0)) == {"deeds": 1}


@pytest.mark.slow
def test_events_stay_as_many_as_is_said(laboratory: Laboratory) -> None:
    for count in range(1200):
        laboratory.store.workers.stopped(f"w{count}")
    last = laboratory.store.events.last_id()
    assert tidy(laboratory) == {"events": 200}
    assert laboratory.store.events.first_id() == last - 999
