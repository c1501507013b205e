"""What monitoring reads, by the parser of those who made the format, on both databases."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving import SPEC, Served, SmallRunner, served, work

from modescape.executor import Executor, Machine
from modescape.readings import Reader
from modescape.store import Store
from modescape.testing.stores import claim, create, finish

Told = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def site(tmp_path: Path, store_url: str) -> Iterator[Served]:
    with served(tmp_path, database_url=store_url) as running:
        yield running


def told(site: Served) -> Told:
    answer = httpx.get(f"{site.url}/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = list(text_string_to_metric_families(answer.text))
    assert all(family.documentation for family in families)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def of(found: Told, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


@pytest.mark.slow
def test_what_waits_and_runs_and_for_how_long(site: Served) -> None:
    store = site.laboratory.store
    assert not [name for name, _ in told(site) if name == "modescape_queue_age_seconds"]
    row = create(store)
    time.sleep(0.3)
    found = told(site)
    assert of(found, "modescape_experiments", status="queued") == 1
    assert of(found, "modescape_queue_stages", queue="cpu") == 2
    assert 0.3 <= of(found, "modescape_queue_age_seconds", queue="cpu") < 30
    for _ in range(2):
        finish(store, claim(store))
    lease = claim(store)
    found = told(site)
    assert of(found, "modescape_stages_running") == 1
    assert of(found, "modescape_queue_age_seconds", queue="cpu") < 0.3 + 5, "since they could be worked on"
    store.leases.give_back(lease)
    store.experiments.archive(row.id)
    assert of(told(site), "modescape_events_total") == store.events.last_id()


@pytest.mark.slow
def test_workers_say_what_they_did_and_how_they_are(site: Served) -> None:
    laboratory, store = site.laboratory, site.laboratory.store
    store.workers.register("w0", device="cpu", numerics="n", queue="cpu", pid=1)
    store.workers.seen("w0", stage_id=None, readings=Reader().read())
    row = laboratory.create(SPEC, name="worked on")
    machine = Machine(device="cpu", title="test", numerics="n")
    executor = Executor(
        store, laboratory.artifacts, laboratory.settings, runner=SmallRunner(), machine=machine, name="w0"
    )
    executor.drain(experiment_id=row.id)
    found = told(site)
    assert of(found, "modescape_workers", state="idle") == 1
    assert of(found, "modescape_worker_stages_total", worker="w0", kind="train", how="succeeded") == 2
    seconds = {stage.kind: 0.0 for stage in store.stages.of(row.id)}
    for stage in store.stages.of(row.id):
        seconds[stage.kind] += stage.seconds
    for kind, expected in seconds.items():
        assert of(found, "modescape_worker_stage_seconds_total", worker="w0", kind=kind) == pytest.approx(
            expected, abs=0.02
        )
    assert of(found, "modescape_worker_memory_bytes", worker="w0") > 10e6
    failing = create(store, name="bad")
    lease = store.leases.claim("w0", experiment_id=failing.id)
    assert lease is not None
    store.leases.fail(lease, {"type": "X", "message": "broken", "traceback": ""})
    kind = lease.stage.kind
    assert of(told(site), "modescape_worker_stages_total", worker="w0", kind=kind, how="failed") == 1
    store.workers.register("w0", device="cpu", numerics="n", queue="cpu", pid=2)
    assert of(told(site), "modescape_worker_stages_total", worker="w0", kind=kind, how="failed") == 1, (
        "also after a restart"
    )


@pytest.mark.slow
def test_a_stage_that_nobody_registered_for_is_counted_nowhere(site: Served) -> None:
    row = site.laboratory.create(SPEC, name="in a notebook")
    work(site.laboratory, row.id)
    assert not [name for name, _ in told(site) if name == "modescape_worker_stages_total"]


def test_requests_are_counted_by_the_address_as_routes_have_it(site: Served) -> None:
    for slug in ("a", "b", "c"):
        httpx.get(f"{site.url}/api/experiments/{slug}")
    httpx.get(f"{site.url}/no/such/place")
    found = told(site)
    route = {"method": "GET", "route": "/api/experiments/{experiment}", "status": "4xx"}
    assert of(found, "modescape_request_seconds_count", **route) >= 3
    assert of(found, "modescape_request_seconds_count", method="GET", route="none", status="4xx") >= 1
    assert not [labels for name, labels in found if "/api/experiments/a" in dict(labels).get("route", "")]
    assert any(name == "process_resident_memory_bytes" for name, _ in found)


def test_a_stranger_reads_no_metrics(tmp_path: Path) -> None:
    with served(tmp_path, token="a-secret-of-many-characters") as site:
        assert httpx.get(f"{site.url}/metrics").status_code == 401


def test_readings_are_of_this_process() -> None:
    reader, began = Reader(), time.monotonic()
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass
    busy, took = reader.read(), time.monotonic() - began
    assert busy["cpu"] * took == pytest.approx(0.3, abs=0.1)  # the kernel counts in hundredths, of threads besides
    began = time.monotonic()
    time.sleep(0.3)
    assert reader.read()["cpu"] * (time.monotonic() - began) < 0.2
    before = busy["memory_bytes"]
    block = np.ones(30_000_000)
    after = reader.read()["memory_bytes"]
    assert 200e6 < after - before < 300e6
    assert block.sum() == 30_000_000
    assert "gpu_memory_bytes" not in busy


def test_a_stage_is_ready_since_it_became_so(store: Store) -> None:
    row = create(store)
    first, *_ = store.stages.of(row.id)
    assert first.ready_at is None, "since its experiment is there"
    assert store.monitoring.waiting()[0].seconds < 5
    lease = claim(store)
    store.leases.give_back(lease)
    again = store.stages.get(lease.stage.id)
    assert again.ready_at is not None
    assert again.ready_at >= row.created_at
