"""The REST interface over a real server, a real database and results of the right shape."""

from __future__ import annotations

import asyncio
import csv
import functools
import hashlib
import io
import itertools
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio.to_thread
import httpx
import numpy as np
import plotly.io
import pytest
from fastapi import Response
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from ports import free_port
from safetensors.numpy import load as load_safetensors
from serving import CLASSES, IMAGES, SPEC, Served, finished, served, work
from sqlalchemy.exc import OperationalError

from modescape.errors import DataMissing
from modescape.records import PlannedStage
from modescape.registry import figures
from modescape.settings import Settings
from modescape.spec import parse
from modescape.store import Store
from modescape.tables import Experiment
from modescape_api.app import THREADS, create_app
from modescape_api.background import hub
from modescape_api.background.hub import Hub
from modescape_api.http import replies
from modescape_api.http.site import WAITS
from modescape_api.pages import importing
from modescape_api.pages import reference as reference_pages
from modescape_api.resources import data, imports
from modescape_api.resources import events as event_streams


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("home")) as running:
        yield running


@pytest.fixture(scope="module")
def client(site: Served) -> Iterator[httpx.Client]:
    with site.client() as client:
        yield client


@pytest.fixture(scope="module")
def done(site: Served) -> Experiment:
    return finished(site.laboratory)


def ok(answer: httpx.Response, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json()


# -- launching and lists ----------------------------------------------------------------------------------------------


def test_a_preset_alone_is_enough_to_launch(client: httpx.Client) -> None:
    answer = client.post("/api/experiments", json={"preset": "quickstart"})
    document = ok(answer, 201)
    assert answer.headers["location"] == f"/api/experiments/{document['slug']}"
    assert document["name"] == "Quickstart"
    assert document["status"] == "queued"
    assert document["stages"][0]["kind"] == "train"
    assert document["stages"][0]["state"] == "ready"
    assert ok(client.get(answer.headers["location"]))["digest"] == document["digest"]


def test_the_same_key_and_body_launch_once(client: httpx.Client) -> None:
    body = {"name": "twice", "spec": SPEC}
    headers = {"Idempotency-Key": "press-twice"}
    first = ok(client.post("/api/experiments", json=body, headers=headers), 201)
    second = ok(client.post("/api/experiments", json=body, headers=headers), 201)
    assert first["id"] == second["id"]
    other = client.post("/api/experiments", json={**body, "name": "other"}, headers=headers)
    assert other.status_code == 409
    assert ok(client.get("/api/experiments", params={"name": "twice"}))["total"] == 1


def test_an_estimate_stores_nothing(client: httpx.Client) -> None:
    before = ok(client.get("/api/experiments"))["total"]
    plan = ok(client.post("/api/estimate", json={"spec": SPEC}))
    assert ok(client.get("/api/experiments"))["total"] == before
    kinds = {kind["kind"]: kind["count"] for kind in plan["kinds"]}
    assert kinds == {
        "train": 2, "predict": 2, "compare": 2, "embed": 2, "sample": 4, "ensemble": 1, "examples": 1, "thumbnails": 1,
    }  # fmt: skip
    assert plan["low"] < plan["seconds"] < plan["high"]
    assert plan["sizes"] == {"train": 100, "validation": 50, "test": 40}
    assert plan["solutions"] == 2 * 3 + 2 * 4  # two runs: epochs 0, 1, 2 each, and 2 + 2 samples each


def test_an_estimate_says_what_was_changed_and_what_ran_before(client: httpx.Client, done: Experiment) -> None:
    plan = ok(client.post("/api/estimate", json={"spec": SPEC, "preset": "quickstart"}))
    assert plan["same"] is not None
    assert {"field": "training.epochs", "was": 30, "now": 2} in plan["changed"]


def test_lists_page_by_cursor_and_say_the_question(client: httpx.Client, site: Served, done: Experiment) -> None:
    for i in range(5):
        site.laboratory.create(SPEC, name=f"page {i}", tags=["paged"])
    seen: list[str] = []
    cursor: str | None = None
    while True:
        params = {"tag": "paged", "limit": "2", "sort": "name", **({"cursor": cursor} if cursor else {})}
        page = ok(client.get("/api/experiments", params=params))
        assert set(page) == {"items", "next", "total", "query"}
        assert page["total"] == 5
        seen += [row["name"] for row in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == [f"page {i}" for i in range(5)]
    first = ok(client.get("/api/experiments?tag=paged&limit=3&sort=-created"))
    second = ok(
        client.get("/api/experiments", params={"tag": "paged", "limit": 3, "sort": "-created", "cursor": first["next"]})
    )
    assert [row["name"] for row in first["items"] + second["items"]] == seen[::-1]
    assert page["query"] == "Experiments where tags include paged, by name"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("status=succeeded", True),
        ("status=failed,cancelled", False),
        ("accuracy__gte=0.6&disagreement__lt=0.6", True),
        ("accuracy__gt=0.7", False),
        ("dataset=digits&method=random", True),
        ("method__ne=random", False),
        ("created__after=2020-01-01&created__before=2100-01-01T00:00:00Z", True),
        ("created__before=2020-01-01", False),
        ("name__contains=SMALL", True),
        ("q=small", True),
        ("ensemble_accuracy__null=true", False),
        ("archived=true", False),
        ("runs=2,3&input_scale=raw255", True),
    ],
)
def test_filters_mean_what_they_say(client: httpx.Client, done: Experiment, query: str, expected: bool) -> None:
    page = ok(client.get(f"/api/experiments?{query}&limit=1000"))
    assert (done.id in [row["id"] for row in page["items"]]) is expected


def test_the_question_in_words(client: httpx.Client) -> None:
    page = ok(client.get("/api/experiments?dataset=cifar10,digits&accuracy__gte=.6&sort=-accuracy"))
    expected = "Experiments where dataset is one of cifar10 or digits and accuracy is at least 0.6, by accuracy"
    assert page["query"] == f"{expected}, largest first"


def test_lists_come_as_csv_and_newline_json(client: httpx.Client, done: Experiment) -> None:
    answer = client.get("/api/experiments", params={"fields": "slug,accuracy"}, headers={"Accept": "text/csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    lines = answer.text.splitlines()
    assert lines[0] == "slug,accuracy"
    assert f"{done.slug},0.7" in lines
    assert answer.headers["x-total-count"] == str(len(lines) - 1)
    linked = client.get("/api/experiments?format=ndjson&fields=slug,accuracy")
    rows = [json.loads(line) for line in linked.text.splitlines()]
    assert {"slug": done.slug, "accuracy": 0.7} in rows


def test_a_csv_cell_never_is_a_formula(client: httpx.Client, site: Served) -> None:
    site.laboratory.create(SPEC, name="=1+2 formula", tags=["formula"])
    text = client.get("/api/experiments?format=csv&fields=name&tag=formula").text
    assert text.splitlines()[1] == "'=1+2 formula"


def test_names_notes_and_tags_can_change(client: httpx.Client) -> None:
    slug = ok(client.post("/api/experiments", json={"name": "Größe 5", "spec": SPEC}), 201)["slug"]
    assert slug == "groe-5" or slug.isascii()
    changed = ok(
        client.patch(f"/api/experiments/{slug}", json={"name": "new", "tags": ["a", "b", "a"], "notes": "x\ny"})
    )
    assert (changed["name"], changed["slug"], changed["tags"], changed["notes"]) == ("new", slug, ["a", "b"], "x\ny")
    assert ok(client.patch(f"/api/experiments/{slug}", json={}))["name"] == "new"


def test_a_damaged_file_is_not_sent_as_what_it_is_named_by(
    site: Served, client: httpx.Client, done: Experiment
) -> None:
    solution = ok(client.get(f"/api/experiments/{done.slug}/solutions?role=optimum"))["items"][0]
    base = f"/api/experiments/{done.slug}/solutions/{solution['number']}"
    found = site.laboratory.store.results.solution(done.id, solution["number"])
    kept = site.laboratory.store.results.matrices(done.id)[0]
    assert found.weights
    for digest, addresses in (
        (found.weights, (f"/api/artifacts/{found.weights}", f"{base}/weights")),
        (
            found.predictions["test"]["artifact"],
            (f"{base}/predictions", f"/api/experiments/{done.slug}/ensemble.zip"),
        ),
        (
            kept.artifact,
            (
                f"/api/experiments/{done.slug}/matrices/{kept.name}.npy?split={kept.split}",
                f"/api/experiments/{done.slug}/figures/similarity-runs.csv",
            ),
        ),
    ):
        path = site.laboratory.artifacts.path(digest)
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        for address in addresses:
            refused = client.get(address)
            assert (refused.status_code, refused.headers["cache-control"]) == (410, "no-store"), address
            assert "is damaged" in refused.json()["detail"]
        path.write_bytes(content)
        for address in addresses:
            assert client.get(address).status_code == 200, address
    assert "immutable" in client.get(f"/api/artifacts/{found.weights}").headers["cache-control"]


def test_a_priority_is_asked_for_and_can_change(client: httpx.Client) -> None:
    first = ok(client.post("/api/experiments", json={"name": "urgent", "spec": SPEC, "priority": 1}), 201)
    usual = ok(client.post("/api/experiments", json={"name": "usual", "spec": SPEC}), 201)
    assert (first["priority"], usual["priority"]) == (1, 0)
    assert first["digest"] == usual["digest"], "no part of the spec"
    assert ok(client.patch(f"/api/experiments/{first['slug']}", json={"priority": -1}))["priority"] == -1
    assert ok(client.patch(f"/api/experiments/{first['slug']}", json={"notes": "later"}))["priority"] == -1
    assert first["slug"] in [one["slug"] for one in ok(client.get("/api/experiments?priority__lt=0"))["items"]]
    assert ok(client.get("/api/experiments?sort=-priority&fields=priority"))["items"][-1]["priority"] == -1
    refused = client.patch(f"/api/experiments/{first['slug']}", json={"priority": 5})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "priority")
    page = client.get(f"/experiments/{usual['slug']}", headers={"Accept": "text/html"}).text
    assert '<option value="0" selected>normal</option>' in page


def test_an_experiment_can_be_stopped_and_taken_up_again(client: httpx.Client) -> None:
    base = "/api/experiments/" + ok(client.post("/api/experiments", json={"name": "verbs", "spec": SPEC}), 201)["slug"]
    for verb, status in (
        ("pause", "paused"),
        ("pause", "paused"),
        ("resume", "queued"),
        ("resume", "queued"),
        ("cancel", "cancelled"),
        ("cancel", "cancelled"),
        ("retry", "queued"),
    ):
        assert ok(client.post(f"{base}/{verb}"))["status"] == status, verb
    assert client.post(f"{base}/purge").status_code == 409
    assert ok(client.delete(base))["archived_at"] is not None
    assert ok(client.get("/api/experiments", params={"name": "verbs"}))["total"] == 0
    assert ok(client.get("/api/experiments", params={"name": "verbs", "archived": "true"}))["total"] == 1
    assert ok(client.post(f"{base}/restore"))["archived_at"] is None
    client.delete(base)
    assert ok(client.post(f"{base}/purge"))["freed_bytes"] == 0
    assert client.get(base).status_code == 404


@pytest.mark.slow
def test_a_purge_frees_the_files_only_it_used(tmp_path: Path) -> None:
    with served(tmp_path) as site, site.client() as client:
        row = finished(site.laboratory)
        digest = site.laboratory.store.results.all_solutions(row.id)[0].weights
        assert client.get(f"/api/artifacts/{digest}").status_code == 200
        assert client.post(f"/api/experiments/{row.slug}/pause").status_code == 409
        client.delete(f"/api/experiments/{row.slug}")
        assert ok(client.post(f"/api/experiments/{row.slug}/purge"))["freed_bytes"] > 1000
        assert client.get(f"/api/artifacts/{digest}").status_code == 410
        assert list(site.settings.artifact_place.rglob("*.npy")) == []


def test_a_clone_differs_only_where_it_was_told(client: httpx.Client, done: Experiment) -> None:
    body = {"changes": {"ensemble": {"seed": 9}, "data": {"train_images": None}}, "tags": ["copy"]}
    copy = ok(client.post(f"/api/experiments/{done.slug}/clone", json=body), 201)
    assert copy["spec"]["ensemble"] == {**done.spec["ensemble"], "seed": 9}
    assert copy["spec"]["data"]["train_images"] is None  # removed from the patch: the default again
    assert copy["spec"]["training"] == done.spec["training"]
    assert copy["name"] == "small one copy"
    same = ok(client.post(f"/api/experiments/{done.slug}/clone"), 201)
    assert same["digest"] == done.digest


# -- results ----------------------------------------------------------------------------------------------------------


def test_solutions_are_rows_that_can_be_asked_for(client: httpx.Client, done: Experiment) -> None:
    base = f"/api/experiments/{done.slug}/solutions"
    everything = ok(client.get(base))
    assert everything["total"] == 14
    assert [row["number"] for row in everything["items"]] == list(range(14))
    samples = ok(client.get(base, params={"method": "random", "set": "typical", "run": "1"}))
    assert [(row["role"], row["run"], row["set"]) for row in samples["items"]] == [("sample", 1, "typical")] * 2
    best = ok(client.get(base, params={"accuracy__gte": "0.6", "sort": "-accuracy", "fields": "number,accuracy"}))
    assert all(set(row) == {"number", "accuracy"} and row["accuracy"] >= 0.6 for row in best["items"])
    chosen = ok(client.get(base, params={"sel": "0-2,5", "role": "optimum"}))
    assert [row["number"] for row in chosen["items"]] == [2, 5]
    assert ok(client.get(f"{base}/5"))["role"] == "optimum"
    csv = client.get(base, params={"format": "csv"}).text.splitlines()
    assert len(csv) == 15


def test_predictions_weights_and_matrices_are_the_stored_bytes(
    client: httpx.Client, site: Served, done: Experiment
) -> None:
    base = f"/api/experiments/{done.slug}"
    results = site.laboratory.results(done.id)
    solution = results.solutions()[5]
    answer = client.get(f"{base}/solutions/5/predictions", params={"split": "test"})
    logits = np.load(io.BytesIO(answer.content), allow_pickle=False)
    assert logits.dtype == np.float32
    assert logits.shape == (IMAGES, CLASSES)
    assert np.array_equal(logits, results.logits(solution, "test"))
    labels = np.load(io.BytesIO(client.get(f"{base}/labels").content))
    assert np.array_equal(labels, np.arange(IMAGES) % CLASSES)
    weights = client.get(f"{base}/solutions/5/weights")
    assert hashlib.sha256(weights.content).hexdigest() == solution.weights
    assert load_safetensors(weights.content)["w"].shape == (12,)
    npy = client.get(f"{base}/matrices/cosine.npy")
    cosine = np.load(io.BytesIO(npy.content))
    assert cosine.dtype == np.float64
    assert npy.headers["x-rows"] == "0,1,2,3,4,5"
    rows = [line.split(",") for line in client.get(f"{base}/matrices/disagreement.csv").text.splitlines()]
    values = np.array([[float(cell) for cell in row[1:]] for row in rows[1:]])
    assert np.array_equal(values, results.matrix("disagreement", "test").values)  # type: ignore[union-attr]
    document = ok(client.get(f"{base}/matrices/disagreement", params={"split": "test"}))
    assert document["rows"] == [0, 1, 2, 3, 4, 5]
    assert [m["name"] for m in ok(client.get(f"{base}/matrices"))["items"]] == ["cosine", "disagreement"]


def test_a_matrix_is_sent_in_blocks_with_its_numbers_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two blocks the server answers others; numbers come back as they were, those that are none as nothing."""
    random = np.random.default_rng(0)
    values = random.normal(size=(400, 300)) * 10.0 ** random.integers(-300, 300, (400, 300))
    values[0, :4] = (np.nan, np.inf, 0.0, 1.0)
    rows, columns = range(5, 405), ['a "name"', *map(str, range(299))]

    def sent(answer: Response) -> list[bytes]:
        async def read() -> list[bytes]:
            assert isinstance(answer, StreamingResponse)
            return [bytes(block) async for block in answer.body_iterator]  # type: ignore[arg-type]  # all are bytes

        return asyncio.run(read())

    def same(found: list[list[float | None]]) -> None:
        expected = [[value if np.isfinite(value) else None for value in line] for line in values.tolist()]
        assert found == expected

    blocks = sent(replies.matrix_csv(values, rows, columns, name="m.csv"))
    assert max(map(len, blocks)) < 100_000 < sum(map(len, blocks))
    header, *lines = csv.reader(io.StringIO(b"".join(blocks).decode(), newline=""))
    assert header == ["solution", *columns]
    assert [line[0] for line in lines] == [str(row) for row in rows]
    same([[float(cell) if cell else None for cell in line[1:]] for line in lines])
    whole = replies.matrix_json({"name": "m", "shape": [400, 300]}, values, headers={"etag": "x"})
    assert not isinstance(whole, StreamingResponse), "a small one is compressed in one piece"
    monkeypatch.setattr(replies, "_IN_ONE_PIECE", 100_000)
    blocks = sent(replies.matrix_json({"name": "m", "shape": [400, 300]}, values, headers={"etag": "x"}))
    assert max(map(len, blocks)) < 100_000 < sum(map(len, blocks))
    document = json.loads(b"".join(blocks))
    assert json.loads(whole.body) == document
    assert (document["name"], document["shape"]) == ("m", [400, 300])
    same(document["values"])


def test_requests_that_wait_for_another_process_leave_their_threads_to_others(tmp_path: Path) -> None:
    app = create_app(Settings(home=tmp_path))
    limits: list[float] = []

    async def live() -> None:
        async with app.router.lifespan_context(app):
            limiter = anyio.to_thread.current_default_thread_limiter()
            limits.append(limiter.total_tokens)
            async with asynccontextmanager(WAITS[0].dependency)(app.state.site):
                limits.append(limiter.total_tokens)
            limits.append(limiter.total_tokens)

    asyncio.run(live())
    assert limits == [THREADS, THREADS + 1, THREADS]
    waiting = {"/api/imports/look", "/api/imports", "/api/imports/weights", "/api/imports/{id}/members/{member}"}
    found = {
        route.path
        for part in (imports.router, importing.router, data.router, reference_pages.router)
        for route in part.routes
        if isinstance(route, APIRoute) and WAITS[0] in route.dependencies
    }
    assert found == waiting | {"/import", "/import/weights", "/api/data", "/data"}


def test_a_files_ranges_and_caching(client: httpx.Client, site: Served, done: Experiment) -> None:
    digest = site.laboratory.store.results.matrices(done.id)[0].artifact
    whole = client.get(f"/api/artifacts/{digest}")
    assert hashlib.sha256(whole.content).hexdigest() == digest
    assert "immutable" in whole.headers["cache-control"]
    part = client.get(f"/api/artifacts/{digest}", headers={"Range": "bytes=10-19"})
    assert part.status_code == 206
    assert part.content == whole.content[10:20]
    assert client.get(f"/api/artifacts/{digest}", headers={"If-None-Match": f'"{digest}"'}).status_code == 304


def test_a_samples_weights_are_made_when_asked_for(client: httpx.Client, site: Served, done: Experiment) -> None:
    address = f"/api/experiments/{done.slug}/solutions/8/weights"
    waiting = client.get(address)
    assert waiting.status_code == 202
    assert waiting.headers["location"] == address
    assert client.get(address).json()["stage"] == waiting.json()["stage"]
    work(site.laboratory, done.id)
    made = client.get(address)
    assert made.status_code == 200
    assert load_safetensors(made.content)["w"].shape == (12,)
    assert ok(client.get(f"/api/experiments/{done.slug}"))["status"] == "succeeded"


def test_runs_checkpoints_and_curves(client: httpx.Client, done: Experiment) -> None:
    base = f"/api/experiments/{done.slug}"
    runs = ok(client.get(f"{base}/runs"))
    assert [(run["number"], run["accuracy"]) for run in runs["items"]] == [(0, 0.7), (1, 0.7)]
    trajectory = ok(client.get(f"{base}/runs/1/checkpoints"))
    assert [row["epoch"] for row in trajectory["items"]] == [0.0, 1.0, 2.0]
    assert trajectory["items"][-1]["role"] == "optimum"
    curves = ok(client.get(f"{base}/series"))
    assert {row["name"] for row in curves["items"]} >= {"train/loss", "learning-rate"}
    curve = ok(client.get(f"{base}/runs/0/series/train/loss"))
    assert curve["steps"] == list(range(11))
    assert curve["values"][1] == 1.0
    assert client.get(f"{base}/runs/0/series/train/loss?format=csv").text.splitlines()[2].startswith("1,1.0,")


def test_undefined_numbers_are_null(client: httpx.Client, done: Experiment) -> None:
    answer = client.get(f"/api/experiments/{done.slug}/measurements", params={"metric": "disagreement"})
    assert b"NaN" not in answer.content
    assert ok(answer)["items"][0]["value"] is None
    solutions = ok(client.get(f"/api/experiments/{done.slug}/solutions", params={"diversity__null": "true"}))
    assert all(row["diversity"] is None for row in solutions["items"])


@pytest.mark.parametrize("asked", [{"subject": "optimum"}, {"subject__in": "optima,random"}])
def test_old_names_of_a_group_are_still_asked_for(
    client: httpx.Client, done: Experiment, asked: dict[str, str]
) -> None:
    found = ok(client.get(f"/api/experiments/{done.slug}/measurements", params=asked))
    assert {row["subject"] for row in found["items"]} == {"independent"}


def test_a_long_selection_gets_a_short_key(client: httpx.Client, done: Experiment) -> None:
    base = f"/api/experiments/{done.slug}/selections"
    kept = client.post(base, json={"numbers": "0-3,7"})
    assert ok(kept, 201)["numbers"] == [0, 1, 2, 3, 7]
    assert ok(client.get(kept.headers["location"]))["numbers"] == [0, 1, 2, 3, 7]


# -- figures ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_figure_says_how_far_it_is(client: httpx.Client, done: Experiment) -> None:
    listed = ok(client.get(f"/api/experiments/{done.slug}/figures"))["items"]
    assert [figure["name"] for figure in listed] == sorted(figures, key=lambda name: figures[name].order)
    planned = {"train", "predict", "compare", "embed", "sample", "ensemble"}  # no studies in this spec
    for figure in listed:
        there = {need["kind"] for need in figure["needs"]} <= planned
        answer = client.get(figure["links"]["json"])  # the toy runner computes no maps and no ensembles
        assert (answer.status_code == 200) == (figure["state"] == "ready"), figure["name"]
        assert there or figure["state"] == "not-planned", figure["name"]


def test_a_figure_is_plain_plotly_with_its_words(client: httpx.Client, done: Experiment) -> None:
    address = f"/api/experiments/{done.slug}/figures/similarity-runs"
    document = ok(client.get(f"{address}.json"))
    assert document["data"]
    words = document["words"]
    drawn = plotly.io.from_json(client.get(f"{address}.json").text)
    assert len(drawn.data) == len(document["data"]), "Plotly reads it as it is"
    assert words["question"] == figures["similarity-runs"].question
    assert words["caption"]
    assert words["summary"]
    plain = client.get(f"{address}.json?arrays=list").text
    assert "bdata" not in plain
    assert "NaN" not in plain
    assert client.get(f"{address}.csv?blocks=3").text.count("\n") == 1 + 6 * 5 / 2, "a row a pair of checkpoints"
    page = client.get(f"{address}.html")
    assert page.headers["content-type"].startswith("text/html")
    assert "sandbox" in page.headers["content-security-policy"]
    assert client.get(address, headers={"Accept": "text/csv"}).headers["content-type"].startswith("text/csv")


def test_a_picture_narrower_than_its_words_is_refused(client: httpx.Client, done: Experiment) -> None:
    for frame in (1, 40, 319):
        answer = client.get(f"/api/experiments/{done.slug}/figures/similarity-runs.json?frame={frame}")
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "frame"), frame
    for name in ("similarity-runs", "plane", "trajectories"):
        assert client.get(f"/api/experiments/{done.slug}/figures/{name}.json?frame=320").status_code == 200, name


def test_an_unchanged_figure_is_not_sent_again(client: httpx.Client, done: Experiment) -> None:
    address = f"/api/experiments/{done.slug}/figures/similarity-runs.json"
    first = client.get(address)
    again = client.get(address, headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304
    assert again.content == b""
    dark = client.get(address, params={"theme": "dark"}, headers={"If-None-Match": first.headers["etag"]})
    assert dark.status_code == 200
    assert first.headers["content-encoding"] == "gzip"
    bare = client.get(address, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in bare.headers
    assert bare.json() == first.json()


def test_a_figure_that_cannot_be_there_says_why(client: httpx.Client, site: Served) -> None:
    row = site.laboratory.create(SPEC, name="waiting")
    answer = client.get(f"/api/experiments/{row.slug}/figures/plane.json")
    assert answer.status_code == 409
    assert answer.json()["state"] in ("waiting", "not-planned")
    assert answer.json()["detail"]
    client.post(f"/api/experiments/{row.slug}/cancel")


# -- events -----------------------------------------------------------------------------------------------------------


def _read_events(
    url: str, count: int, got: list[dict[str, Any]], headers: dict[str, str], ready: threading.Event
) -> None:
    with httpx.stream("GET", url, headers=headers, timeout=20) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        event: dict[str, Any] = {}
        for line in stream.iter_lines():
            ready.set()
            name, _, value = line.partition(": ")
            if name in ("id", "event"):
                event[name] = value
            elif name == "data":
                event["data"] = json.loads(value)
            elif not line and "data" in event:
                got.append(event)
                event = {}
                if len(got) >= count:
                    return


def test_events_stream_and_resume_where_they_broke_off(client: httpx.Client, site: Served) -> None:
    row = site.laboratory.create(SPEC, name="watched")
    base = f"/api/experiments/{row.slug}"
    got: list[dict[str, Any]] = []
    ready = threading.Event()
    reader = threading.Thread(target=_read_events, args=(f"{site.url}{base}/events", 2, got, {}, ready))
    reader.start()
    assert ready.wait(10)
    client.post(f"{base}/pause")
    client.post(f"{base}/resume")
    reader.join(15)
    assert not reader.is_alive()
    since = int(got[0]["id"])
    page = ok(client.get(f"{base}/events", params={"after": since - 1}))
    assert [str(item["id"]) for item in page["items"]][:2] == [event["id"] for event in got]
    assert all(item["experiment"] == row.id for item in page["items"])
    again: list[dict[str, Any]] = []
    _read_events(f"{site.url}{base}/events", 1, again, {"Last-Event-ID": got[0]["id"]}, threading.Event())
    assert again[0]["id"] == got[1]["id"]
    assert again[0]["data"]["kind"] == again[0]["event"]
    client.post(f"{base}/cancel")


def test_a_listener_from_another_database_is_told_to_reload(site: Served) -> None:
    got: list[dict[str, Any]] = []
    _read_events(f"{site.url}/api/events", 1, got, {"Last-Event-ID": "999999999"}, threading.Event())
    assert got[0]["event"] == "reset"


@pytest.mark.slow
def test_a_page_newer_than_the_pollers_last_look_is_not_told_to_reload(site: Served) -> None:
    row = site.laboratory.create(SPEC, name="fresh page")
    idle = f"{site.url}/api/events"
    holding = threading.Thread(target=_read_events, args=(idle, 6, [], {}, threading.Event()), daemon=True)
    holding.start()  # with somebody listening the poller looks only every half second
    for tag in "abcde":
        site.laboratory.store.experiments.patch(row.slug, tags=[tag])
        newest = site.laboratory.store.events.last_id()
        got: list[dict[str, Any]] = []
        reader = threading.Thread(
            target=_read_events, args=(idle, 1, got, {"Last-Event-ID": str(newest)}, ready := threading.Event())
        )
        reader.start()
        assert ready.wait(10)
        site.laboratory.store.experiments.patch(row.slug, tags=[tag, "more"])
        reader.join(15)
        assert [event["event"] for event in got] == ["changed"]
        assert int(got[0]["id"]) > newest
    holding.join(15)


# -- catalogue, data, workers -----------------------------------------------------------------------------------------


def test_the_catalogue_has_everything_with_schemas(client: httpx.Client) -> None:
    answer = client.get("/api/catalogue")
    found = ok(answer)
    for noun in ("datasets", "architectures", "methods", "figures", "presets"):
        assert found[noun], noun
        assert all(entry["title"] and entry["source"] and "type" in entry["options"] for entry in found[noun])
    assert found["spec"]["title"] == "ExperimentSpec"
    assert client.get("/api/catalogue", headers={"If-None-Match": answer.headers["etag"]}).status_code == 304


@pytest.mark.slow
def test_every_preset_of_the_catalogue_has_its_price(client: httpx.Client) -> None:
    for preset in ok(client.get("/api/catalogue"))["presets"]:
        plan = ok(client.post("/api/estimate", json={"preset": preset["name"]}))
        assert plan["low"] < plan["seconds"] < plan["high"]
        assert plan["words"]["total"]
        assert plan["gpu"] is None, "nothing here supports a price on a GPU"


def test_a_set_that_is_not_here_is_planned_as_published_and_named(client: httpx.Client) -> None:
    body = {"spec": {"data": {"dataset": "cifar10"}, "ood": [{"dataset": "svhn"}], "ensemble": {"runs": 5}}}
    plan = ok(client.post("/api/estimate", json=body))
    assert plan["sizes"] == {"train": 49_500, "validation": 500, "test": 10_000}
    assert [(one["dataset"], one["field"]) for one in plan["missing"]] == [
        ("cifar10", "spec.data.dataset"),
        ("svhn", "spec.ood.0.dataset"),
    ]
    assert plan["missing"][0]["bytes"] == 170_498_071
    answer = client.post("/api/experiments", json=body)
    assert answer.status_code == 409
    assert [error["field"] for error in answer.json()["errors"]] == [one["field"] for one in plan["missing"]]
    page = client.get("/launch?preset=claims", headers={"accept": "text/html"}).text
    assert "Get first: CIFAR-10 (170 MB), SVHN (246 MB)" in page
    price = page[page.index('id="plan-price"') : page.index('id="plan-size"')]
    assert "GPU" not in price, "nothing here supports a price on a GPU"
    assert re.search(r">Short version</a>: \d+\xa0(min\xa0)?to\xa0\d", page), "a range, for nothing was measured"


@pytest.mark.slow
def test_ones_own_data_is_registered_and_launched(client: httpx.Client, site: Served) -> None:
    folder = site.settings.registration_roots[0]
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, size=(120, 1, 8, 8), dtype=np.uint8)
    np.savez(folder / "mine.npz", images=images, labels=np.arange(120) % 3)
    answer = client.post("/api/data", json={"path": str(folder / "mine.npz"), "name": "My scans"})
    registered = ok(answer, 201)
    assert registered["dataset"] == "npz"
    assert registered["fingerprint"] == hashlib.sha256((folder / "mine.npz").read_bytes()).hexdigest()
    listed = {row["name"]: row for row in ok(client.get("/api/data"))["items"]}
    assert listed["My scans"]["own"] is True
    assert listed["My scans"]["present"] is True
    assert listed["digits"]["present"] is True
    spec = {
        "data": {"dataset": "npz", "path": str(folder / "mine.npz"), "test_images": 10, "validation_images": 10},
        "training": {"epochs": 1, "batch_size": 10, "snapshots": 2},
        "ensemble": {"runs": 2},
    }
    made = ok(client.post("/api/experiments", json={"name": "own", "spec": spec}), 201)
    assert made["spec"]["data"]["fingerprint"] == registered["fingerprint"]
    assert made["dataset"] == "My scans"
    by_name = {**spec, "data": {**spec["data"], "dataset": "My scans"}, "ood": [{"dataset": "My scans"}]}
    refused = client.post(
        "/api/experiments", json={"name": "own", "spec": {**by_name, "data": {"dataset": "My scans", "path": "/x"}}}
    )
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "spec.data.path"
    del by_name["data"]["path"]
    for part in ({"data": {"dataset": "my scans"}}, {"ood": [{"dataset": "constant"}, {"dataset": "Scans"}]}):
        refused = client.post("/api/experiments", json={"name": "own", "spec": {**by_name, **part}})
        (problem,) = refused.json()["errors"]
        assert problem["field"] == ("spec.data.dataset" if "data" in part else "spec.ood.1.dataset")
        assert "registered here: My scans" in problem["allowed"]
    del by_name["ood"]
    again = ok(client.post("/api/experiments", json={"name": "own too", "spec": by_name}), 201)
    assert (again["spec"], again["digest"]) == (made["spec"], made["digest"])
    found = ok(client.get("/api/experiments", params={"dataset": "My scans"}))
    assert {row["slug"] for row in found["items"]} == {made["slug"], again["slug"]}
    page = client.get(f"/experiments/{made['slug']}", headers={"accept": "text/html"}).text
    assert "My scans, raw 0–255" in page
    assert re.search(r'<option value="My scans">My scans \(yours\)', client.get("/launch").text)
    os.link(folder / "mine.npz", folder / "other.npz")
    other = {"path": str(folder / "other.npz"), "name": "My scans"}
    assert client.post("/api/data", json=other).status_code == 409
    assert ok(client.post("/api/data", json={**other, "replace": True}), 201)["where"].endswith("other.npz")
    for name, address in (("a/b", "a/b"), ("<i>?#%</i>", "%3Ci%3E%3F%23%25%3C%2Fi%3E")):
        ok(client.post("/api/data", json={**other, "name": name}), 201)
        assert client.delete(f"/api/data/{address}").status_code == 204
    for name in (".", ".."):
        refused = client.post("/api/data", json={**other, "name": name})
        assert refused.json()["errors"][0]["field"] == "name"
    assert client.delete("/api/data/My%20scans").status_code == 204
    assert client.delete("/api/data/My%20scans").status_code == 404
    assert ok(client.get(f"/api/experiments/{made['slug']}"))["dataset"] == "mine"


def test_a_public_set_is_fetched_when_asked(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is a border we do not own: what would download is replaced, everything around it is real."""
    from modescape.datasets import here

    halfway, go_on = threading.Event(), threading.Event()

    def download(name: str, folder: Path, progress: Any) -> None:
        progress(5, 10)
        halfway.set()
        assert go_on.wait(10)
        raise DataMissing(f"{name} could not be fetched: no network")

    def state() -> dict[str, Any]:
        rows = {row["name"]: row for row in ok(client.get("/api/data"))["items"]}
        found: dict[str, Any] = rows["cifar10"]["fetching"]
        return found

    monkeypatch.setattr(here, "fetch", download)
    assert client.post("/api/data", json={"fetch": "cifar10"}).status_code == 202
    assert halfway.wait(10)
    assert (state()["done"], state()["total"], state()["finished"]) == (5, 10, False)
    assert client.post("/api/data", json={"fetch": "cifar10"}).status_code == 409
    go_on.set()
    deadline = time.monotonic() + 10
    while not state()["finished"]:
        assert time.monotonic() < deadline
    assert "no network" in state()["error"]


def test_workers_say_what_they_do(client: httpx.Client, site: Served) -> None:
    site.laboratory.store.workers.register("w0", device="cpu", numerics="n", queue="cpu", pid=1)
    found = {row["name"]: row for row in ok(client.get("/api/workers"))["items"]}
    assert found["w0"]["state"] == "idle"


def test_health(client: httpx.Client) -> None:
    assert ok(client.get("/healthz")) == {"status": "ok"}
    assert ok(client.get("/readyz"))["database"] == "ok"


# -- documentation ----------------------------------------------------------------------------------------------------


def test_every_operation_is_documented_with_examples_and_errors(client: httpx.Client) -> None:
    document = ok(client.get("/api/openapi.json"))
    operations = [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    assert len(operations) > 35
    for name, operation in operations:
        assert operation["summary"], name
        good = {status: answer for status, answer in operation["responses"].items() if status[0] == "2"}
        assert good, name
        binary = any("npy" in form or "safetensors" in form or "octet" in form or "png" in form or "zip" in form
                     for answer in good.values() for form in answer.get("content", {}))  # fmt: skip
        examples = [
            form for answer in good.values() for form in answer.get("content", {}).values() if "example" in form
        ]
        assert examples or binary or set(good) == {"204"}, name  # which has nothing to show
        assert "application/problem+json" in operation["responses"]["500"]["content"], name
        forms = operation.get("requestBody", {}).get("content", {})
        if forms and not any(form == "application/octet-stream" or form.startswith("image/") for form in forms):
            assert operation["requestBody"]["content"]["application/json"]["example"], name
            assert operation["responses"]["422"]["content"]["application/problem+json"]["examples"], name
    text = json.dumps(document)
    assert "HTTPValidationError" not in text
    for reference in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert reference in document["components"]["schemas"], reference


def test_the_documentation_page_needs_no_script_and_no_other_host(client: httpx.Client) -> None:
    page = client.get("/api/docs", headers={"Accept": "text/html"})
    assert page.status_code == 200
    named = ("https://www.w3.org", "https://json-schema.org/draft/")  # what names a standard is not asked for anything
    assert "https://" not in functools.reduce(lambda text, name: text.replace(name, ""), named, page.text)
    for path in ok(client.get("/api/openapi.json"))["paths"]:
        assert path in page.text, path
    assert 'id="invalid-input"' in page.text


# -- the process ------------------------------------------------------------------------------------------------------

_PROBE = """
import sys, threading, time, json, resource
from modescape.settings import Settings
from modescape_api.app import create_app
import uvicorn, urllib.request
settings = Settings()
server = uvicorn.Server(uvicorn.Config(create_app(settings), host="127.0.0.1", port=settings.port, log_config=None))
threading.Thread(target=server.run, daemon=True).start()
def get(path, body=None):
    request = urllib.request.Request(f"http://127.0.0.1:{settings.port}{path}", data=body,
                                     headers={"Content-Type": "application/json"})
    return urllib.request.urlopen(request).read()
while not server.started:
    time.sleep(0.01)
get("/api/experiments"); get("/api/catalogue"); get("/api/openapi.json"); get("/"); get("/launch"); get("/api/data")
get("/api/estimate", b'{"preset": "quickstart"}')
get("/api/experiments", b'{"preset": "quickstart"}')
get("/api/experiments/quickstart/figures")
heavy = [name for name in ("torch", "torchvision", "sklearn", "scipy") if name in sys.modules]
print(json.dumps({"heavy": heavy}))
"""


@pytest.mark.slow
def test_the_web_process_never_loads_what_only_workers_need(tmp_path: Path) -> None:
    environment = {**os.environ, "MODESCAPE_HOME": str(tmp_path), "MODESCAPE_PORT": str(free_port())}
    answer = subprocess.run(
        [sys.executable, "-c", _PROBE], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout.splitlines()[-1])["heavy"] == []


@pytest.mark.slow
def test_the_server_stays_small(tmp_path: Path) -> None:
    """Started as users start it. How soon it answers is `benchmarks/web.py`'s business."""
    port = free_port()
    environment = {**os.environ, "MODESCAPE_HOME": str(tmp_path), "MODESCAPE_PORT": str(port)}
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "modescape.cli", "serve"], env=environment)
    try:
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1) as answer:
                    assert answer.status == 200
                    break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() - started < 60
                time.sleep(0.01)
        status = Path(f"/proc/{process.pid}/status").read_text()
        resident = int(status.split("VmRSS:")[1].split()[0]) / 1024
        assert resident < 150
    finally:
        process.terminate()
        assert process.wait(10) is not None


# --- the poller behind the streams -----------------------------------------------------------------------------------


def test_a_page_left_while_its_stream_begins_silences_nobody(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(sqlite_url)
    begun, let_go, read = threading.Event(), threading.Event(), store.events.last_id

    def slow() -> int:
        begun.set()
        let_go.wait(20)
        return read()

    async def live() -> bool:
        hub = Hub(store)
        polling = asyncio.create_task(hub.run())

        async def listen() -> bool:
            async with hub.listening():
                seen = hub.last
                store.experiments.create(name="One", spec=parse(SPEC), stages=[PlannedStage("train", "0")])
                return await hub.wait_for_event(seen, seconds=10)

        monkeypatch.setattr(store.events, "last_id", slow)
        left = asyncio.create_task(listen())
        await asyncio.to_thread(begun.wait, 20)
        left.cancel()
        let_go.set()
        with suppress(asyncio.CancelledError):
            await left
        heard = await listen()
        polling.cancel()
        return heard

    assert asyncio.run(live())
    store.close()


def test_streams_go_on_after_the_database_was_away(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(sqlite_url)
    read, calls = store.events.last_id, itertools.count()

    def away() -> int:
        if next(calls) == 1:  # the poller's first look
            raise OperationalError("SELECT", {}, Exception("the server closed the connection"))
        return read()

    async def live() -> bool:
        hub = Hub(store)
        polling = asyncio.create_task(hub.run())
        monkeypatch.setattr(store.events, "last_id", away)
        async with hub.listening():
            seen = hub.last
            store.experiments.create(name="One", spec=parse(SPEC), stages=[PlannedStage("train", "0")])
            heard = await hub.wait_for_event(seen, seconds=10)
        polling.cancel()
        return heard

    assert asyncio.run(live())
    assert next(calls) > 2
    store.close()


@pytest.mark.slow
def test_whoever_leaves_at_whatever_moment_silences_nobody(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred streams left a thousand times, by being cancelled and by waiting too long, while events come."""
    store, newest = Store(sqlite_url), itertools.count(1)
    monkeypatch.setattr(store.events, "last_id", lambda: next(newest))
    monkeypatch.setattr(hub, "POLL_SECONDS", 0.0)
    drawn = random.Random(0)

    async def live() -> list[bool]:
        hub = Hub(store)
        polling = asyncio.create_task(hub.run())

        async def listen() -> None:
            while True:
                await hub.wait_for_event(hub.last, seconds=drawn.uniform(0, 0.002))

        async with hub.listening():
            streams = [asyncio.create_task(listen()) for _ in range(100)]
            for _ in range(1000):
                await asyncio.sleep(drawn.uniform(0, 0.002))
                left = drawn.randrange(len(streams))
                streams[left].cancel()
                streams[left] = asyncio.create_task(listen())
            for stream in streams:
                stream.cancel()
            heard = await asyncio.gather(*(hub.wait_for_event(hub.last, seconds=10) for _ in range(100)))
        polling.cancel()
        return heard

    assert all(asyncio.run(live()))
    store.close()


def test_the_poller_survives_whatever_the_database_says(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(sqlite_url)
    read, calls = store.events.last_id, itertools.count()

    def odd() -> int:
        if next(calls) == 1:
            raise RuntimeError("cannot execute in a read-only transaction")
        return read()

    async def live() -> bool:
        hub = Hub(store)
        polling = asyncio.create_task(hub.run())
        monkeypatch.setattr(store.events, "last_id", odd)
        async with hub.listening():
            seen = hub.last
            store.experiments.create(name="One", spec=parse(SPEC), stages=[PlannedStage("train", "0")])
            heard = await hub.wait_for_event(seen, seconds=10)
        polling.cancel()
        return heard

    assert asyncio.run(live())
    store.close()


@pytest.mark.slow
def test_streams_left_at_whatever_moment_leave_all_later_ones_whole(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same of whole streams, a hundred at a time: while they begin, read, wait and write."""
    store = Store(sqlite_url)
    row = store.experiments.create(name="One", spec=parse(SPEC), stages=[PlannedStage("train", "0")])
    monkeypatch.setattr(hub, "POLL_SECONDS", 0.01)
    drawn = random.Random(0)

    async def live() -> list[list[str]]:
        async def anybody(_: object) -> object:
            return object()

        asked: Any = SimpleNamespace(scope={})
        door = SimpleNamespace(who=anybody)
        here: Any = SimpleNamespace(hub=Hub(store), store=store, door=door)  # what of the site a stream knows
        polling = asyncio.create_task(here.hub.run())

        async def read(got: list[str]) -> None:
            async for chunk in event_streams._stream(asked, here, None, None, 0, False):
                got.extend(re.findall(r"^id: (\d+)$", chunk.decode(), re.MULTILINE))
                await asyncio.sleep(drawn.uniform(0, 0.001))  # where it may be left, too

        streams = [asyncio.create_task(read([])) for _ in range(100)]
        for leave in range(1000):
            await asyncio.sleep(drawn.uniform(0, 0.002))
            left = drawn.randrange(len(streams))
            streams[left].cancel()
            streams[left] = asyncio.create_task(read([]))
            if leave % 100 == 0:
                await asyncio.to_thread(store.experiments.patch, row.id, notes=str(leave))
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
        found: list[list[str]] = [[] for _ in range(100)]
        later = [asyncio.create_task(read(got)) for got in found]
        async with asyncio.timeout(30):
            while here.hub._listeners < 100:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            since = store.events.last_id()
            for note in "abc":
                await asyncio.to_thread(store.experiments.patch, row.id, notes=note)
            last = str(store.events.last_id())
            while not all(last in got for got in found):
                await asyncio.sleep(0.01)
        for task in (polling, *later):
            task.cancel()
        await asyncio.gather(*later, return_exceptions=True)
        assert here.hub._listeners == 0, "nobody is counted for ever"
        return [[id_ for id_ in got if int(id_) > since] for got in found]

    heard = asyncio.run(live())
    assert len(heard[0]) == 3
    assert all(got == heard[0] for got in heard)
    store.close()
