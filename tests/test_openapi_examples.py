"""Each example of the OpenAPI document, a file in resources/examples, is held against what the server really answers.

Real answers are those of the saved home (saved_home.py) and of what is asked of it here. An example has the keys and
types of a real answer, at every depth; an excerpt may leave keys out.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from pydantic import BaseModel
from saved_home import opened
from serving import SPEC, Served, served

from modescape.executor import Executor
from modescape.readings import Reader
from modescape.sweeps import launching
from modescape_api.resources import (
    bulk,
    cuts,
    data,
    experiments,
    imports,
    links,
    notices,
    parcels,
    reports,
    selections,
    sweeps,
    users,
    views,
)
from modescape_api.resources.examples import FOLDER, Example

Json = Any
# Where an example leaves keys out.
EXCERPTS = {
    *("catalogue/methods/0", "estimate", "experiment/findings", "experiment/links", "figure", "figure/data/0"),
    *("schema/properties", "schema/$defs", "schema/$defs/DataSpec", "schema/$defs/DataSpec/properties"),
    *("schema/$defs/DataSpec/properties/dataset", "figures/items/0", "figures/items/0/links", "sweep-figure/data/0"),
}
# What is an object with names of its own: of parts, options, layouts, whatever a stage says.
OPEN = {
    "base",
    "over",
    "varied",
    "spec",
    "parts",
    "progress",
    "details",
    "speed",
    "payload",
    "left",
    "layout",
    "options",
    "sizes",
    "words",
    "config",
    "samples",
}
TWO = np.arange(20) % 2

ASKED: dict[str, type[BaseModel]] = {
    "ask-bulk": bulk.Bulk,
    "ask-change": experiments.Changes,
    "ask-clone": experiments.Copy,
    "ask-cut": cuts.Through,
    "ask-parcel": parcels.NewParcel,
    "ask-link": links.NewLink,
    "ask-report": reports.NewReport,
    "ask-report-change": reports.ReportChange,
    "ask-data": data.Wanted,
    "ask-estimate": experiments.Draft,
    "ask-experiment": experiments.Draft,
    "ask-import": imports.Import,
    "ask-weights": imports.Weights,
    "ask-look": imports.LookAt,
    "ask-member": imports.NewMember,
    "ask-points": imports.NewPoints,
    "ask-recipient": notices.NewRecipient,
    "ask-reopening": imports.Reopening,
    "ask-sealing": imports.Sealing,
    "ask-selection": selections.Chosen,
    "ask-sweep": sweeps.SweepDraft,
    "ask-token": users.NewToken,
    "ask-user": users.NewUser,
    "ask-user-change": users.UserChanges,
    "ask-view": views.NewView,
    "ask-view-change": views.ViewChanges,
}


def kind(value: Json) -> str:
    names = {bool: "flag", int: "number", float: "number", str: "text", dict: "object", list: "list"}
    return "null" if value is None else names[type(value)]


def unlike(example: Json, real: list[Json], place: str) -> Iterator[str]:
    """What in the example none of the real values bears out."""
    if kind(example) not in {kind(value) for value in real}:
        yield f"{place} is {kind(example)}, really {sorted({kind(value) for value in real})}"
    elif isinstance(example, dict) and place.rpartition("/")[2] not in OPEN:
        theirs = [value for value in real if isinstance(value, dict)]
        if (never := set.intersection(*map(set, theirs)) - set(example)) and place not in EXCERPTS:
            yield f"{place} lacks {sorted(never)}"
        for key, value in example.items():
            if found := [one[key] for one in theirs if key in one]:
                yield from unlike(value, found, f"{place}/{key}")
            else:
                yield f"{place}/{key} is in no real answer"
    elif isinstance(example, list):
        items = [item for value in real if isinstance(value, list) for item in value]
        for number, item in enumerate(example):
            yield from unlike(item, items, f"{place}/{number}")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("examples") / "home"
    saved = opened(Path(__file__).parent / "saved", home).home
    with served(saved, data_roots=str(home), notify_hosts="127.0.0.1") as running:
        yield running


@pytest.fixture(scope="module")
def answers(site: Served) -> dict[str, list[Json]]:
    """Real answers, by the name of the example."""
    store = site.laboratory.store
    with site.client() as client:

        def ok(answer: httpx.Response) -> Json:
            assert answer.status_code < 300, answer.text
            return answer.json()

        slugs = [row["slug"] for row in ok(client.get("/api/experiments"))["items"]]
        every = "/api/experiments/every-method"
        bases = [f"/api/experiments/{slug}" for slug in slugs]

        def of_all(*paths: str) -> list[Json]:
            return [ok(client.get(f"{base}/{path}")) for base in bases for path in paths]

        sample = ok(client.get(f"{every}/solutions?role=sample&limit=1"))["items"][0]
        planned = {"preset": "quickstart", "spec": {"data": {"dataset": "digits"}, "ensemble": {"runs": 3}}}
        launched = ok(client.post("/api/experiments", json=planned))
        stages = {base: ok(client.get(f"{base}/stages"))["items"] for base in bases}
        running = stages[bases[0]][0]
        store.workers.register("lab-cpu0", device="cpu", numerics="saved", queue="cpu", pid=4242)
        store.workers.register("lab-cpu1", device="cpu", numerics="saved", queue="cpu", pid=4243)
        store.workers.keep_speed("lab-cpu0", "mlp", 3600.0)
        store.workers.seen("lab-cpu0", stage_id=running["id"], readings=Reader().read())
        found = {
            "catalogue": [ok(client.get("/api/catalogue"))],
            "checkpoints": of_all("runs/0/checkpoints"),
            "comparison": [ok(client.get("/api/compare", params={"e": [a, b]})) for a, b in itertools.pairwise(slugs)],
            "data": [ok(client.get("/api/data"))],
            "events": of_all("events?after=0"),
            "experiment": [launched, *(ok(client.get(base)) for base in bases)],
            "experiments": [ok(client.get("/api/experiments"))],
            "figure": of_all("figures/trajectories", "figures/plane?arrays=list"),
            "figures": of_all("figures"),
            "healthz": [ok(client.get("/healthz"))],
            "matrices": of_all("matrices"),
            "measurements": of_all("measurements?limit=1000"),
            "paper": [ok(client.get("/api/paper"))],
            "points": of_all("runs/0/series/train/loss"),
            "readyz": [ok(client.get("/readyz"))],
            "runs": of_all("runs"),
            "schema": [ok(client.get(f"/api/schema/{of}.json")) for of in ("spec", "sweep")],
            "series": of_all("series"),
            "solution": [ok(client.get(f"{every}/solutions/{sample['number']}"))],
            "solutions": of_all("solutions", "solutions?role=sample"),
            "stage": [ok(client.get(f"{base}/stages/{one['id']}")) for base in bases for one in stages[base]],
            "stages": of_all("stages"),
            "workers": [ok(client.get("/api/workers"))],
        }
        found["search"] = [ok(client.get("/api/search", params={"q": "colour:red acc"}))]
        found["axes"] = [ok(client.get("/api/axes", params={"axes": "architecture,accuracy,seconds"}))]
        found["groups"] = [ok(client.get("/api/groups", params={"by": "dataset", "numbers": "accuracy,disagreement"}))]
        view = {"name": "Best", "query": "q=dataset:digits&sort=-accuracy"}
        found["view"] = [ok(client.post("/api/views", json=view))]
        found["views"] = [ok(client.get("/api/views"))]
        tagged = {"action": "change", "experiments": [slugs[0], "not-there"], "tag": ["paper"]}
        found["bulk"] = [ok(client.post("/api/bulk", json=tagged))]
        spec = {"data": {"dataset": "digits"}, "ensemble": {"runs": 3, "seed": 77}}
        over = {"base": {"data": {"dataset": "digits"}}, "over": {"training.learning_rate": [0.001, 0.003]}}
        found["sweep-estimate"] = [ok(client.post("/api/sweeps/estimate", json=over))]
        swept = _swept(site)
        found["sweep"] = [ok(client.get(swept))]
        found["sweeps"] = [ok(client.get("/api/sweeps"))]
        found["sweep-numbers"] = [ok(client.get(f"{swept}/numbers"))]
        found["sweep-figure"] = [ok(client.get(f"{swept}/figure.json?y=accuracy"))]
        found["estimate"] = [ok(client.post("/api/estimate", json={"spec": spec}))]
        found["selection"] = [ok(client.post(f"{bases[0]}/selections", json={"numbers": "0-2"}))]
        found["cut"] = [ok(client.post(f"{bases[0]}/planes", json={"kind": "affine", "solutions": [0, 1, 2]}))]
        found["cut-is-there"] = found["cut"]  # the same but for its state
        found["examples-asked"] = [ok(client.post(f"{every}/examples"))]
        Executor(store, site.laboratory.artifacts, site.settings).run_experiment(
            store.experiments.get("every-method").id, progress=False
        )
        found["examples"] = [ok(client.get(f"{every}/examples?sort=-wrong_and_sure&limit=2"))]
        found["example-sets"] = [ok(client.get(f"{every}/examples/sets"))]
        found["example-classes"] = [ok(client.get(f"{every}/examples/classes"))]
        found["example-points"] = [ok(client.get(f"{every}/examples/points"))]
        found["weights"] = [ok(client.get(f"{every}/solutions/{sample['number']}/weights"))]
        np.savez(site.settings.home / "mine.npz", images=np.arange(720, dtype=np.uint8).reshape(20, 6, 6), labels=TWO)
        mine = {"path": str(site.settings.home / "mine.npz"), "name": "mine"}
        found["data-registered"] = [ok(client.post("/api/data", json=mine))]
        found |= imported(client)
        found |= _let_in(site)
        ok(client.delete(bases[1]))
        found["purged"] = [ok(client.post(f"{bases[1]}/purge"))]
    return found


def imported(client: httpx.Client) -> dict[str, list[Json]]:
    """An ensemble with a copy, of which a member comes alone."""
    logits, labels = np.random.default_rng(0).normal(size=(3, 30, 4)), np.arange(30) % 4
    logits[2] = logits[1]

    def sent(name: str, array: np.ndarray) -> Json:
        file = io.BytesIO()
        np.save(file, array)
        digest = hashlib.sha256(file.getvalue()).hexdigest()
        uploads.append(client.put(f"/api/uploads/{digest}", content=file.getvalue()).json())
        return {"name": name, "sha256": digest}

    uploads: list[Json] = []
    files = [sent("test.logits.npy", logits), sent("test.labels.npy", labels)]
    seen = client.post("/api/imports/look", json={"files": files}).json()
    asked = {"name": "alone", "planned": 2, "kind": "logits", "recipe": "same", "truth": {"test": files[1]["sha256"]}}
    made = client.post("/api/imports", json=asked).json()
    member = {"files": [sent("test.logits.npy", logits[0])], "seed": 7, "config": {"learning_rate": 0.1}, "by": "me"}
    filled = client.put(f"/api/imports/{made['id']}/members/7", json=member).json()
    origin = client.get(f"/api/experiments/{filled['experiment']}/provenance").json()
    points = {"batch": "8-0", "logged": [{"steps": [0], "values": {"loss": [2.5]}}]}
    taken = client.post(f"/api/imports/{made['id']}/members/8/points", json=points).json()
    return {
        "upload": uploads, "uploads": [client.get("/api/uploads").json()], "look": [seen], "import": [filled],
        "imports": [client.get("/api/imports").json()],
        "provenance": [origin], "points-taken": [taken],
    }  # fmt: skip


def _let_in(site: Served) -> dict[str, list[Json]]:
    """A user and a token of theirs, with which they ask."""
    with site.client() as client:
        user = client.post("/api/users", json={"name": "ada", "password": "correct horse battery"}).json()
        tokens = [client.post("/api/tokens", json={"name": "cluster", "user": "ada", "days": n}) for n in (9, None)]
        bearer = {"Authorization": f"Bearer {tokens[0].json()['token']}"}
        return {
            "user": [user],
            "users": [client.get("/api/users").json()],
            "token": [one.json() for one in tokens],
            "me": [client.get("/api/me", headers=bearer).json()],
            "tokens": [client.get("/api/tokens", headers=bearer).json()],
            "deeds": [client.get("/api/deeds").json()],
            "figure-forms": [client.get("/api/figure-forms").json()],
            **_written(client),
            **_packed(client),
            "link": [client.post("/api/links", json={"to": "/", "name": "for a friend"}).json()],
            "links": [client.get("/api/links").json()],
            **_told(client),
        }


def _packed(client: httpx.Client) -> dict[str, list[Json]]:
    """An experiment as an archive that is made."""
    experiment = client.get("/api/experiments?limit=1").json()["items"][0]["slug"]
    made = client.post(f"/api/experiments/{experiment}/parcels", json={"parts": ["matrices"]}).json()
    for _ in range(600):
        if client.get(made["links"]["self"]).json()["state"] != "making":
            break
        time.sleep(0.1)
    return {"parcel": [made], "parcels": [client.get(f"/api/experiments/{experiment}/parcels").json()]}


def _written(client: httpx.Client) -> dict[str, list[Json]]:
    """A report, and an image in it."""
    made = client.post("/api/reports", json={"name": "Ours", "blocks": [{"kind": "text", "markdown": "x"}]}).json()
    dot = io.BytesIO()
    Image.new("RGB", (2, 2)).save(dot, "PNG")
    png = {"content-type": "image/png"}
    image = client.post(f"/api/reports/{made['slug']}/images", content=dot.getvalue(), headers=png).json()
    return {
        "report": [client.get(f"/api/reports/{made['slug']}").json()],
        "reports": [client.get("/api/reports").json()], "report-image": [image],
        "report-revisions": [client.get(f"/api/reports/{made['slug']}/revisions").json()],
        "report-revision": [client.get(f"/api/reports/{made['slug']}/revisions/1").json()],
    }  # fmt: skip


def _told(client: httpx.Client) -> dict[str, list[Json]]:
    """An address, and a message to try it."""
    made = client.post("/api/recipients", json={"address": "https://127.0.0.1:9/"}).json()
    return {
        "recipient": [made],
        "recipients": [client.get("/api/recipients").json()],
        "notice": [client.post(f"/api/recipients/{made['id']}/test").json()],
        "notices": [client.get(f"/api/recipients/{made['id']}/notices").json()],
    }


def _swept(site: Served) -> str:
    """The address of a sweep whose cells are finished."""
    base = {**SPEC, "training": {**SPEC["training"], "batch_size": 5}, "ensemble": {"runs": 3}, "methods": []}
    document = {"base": base, "over": {"training.learning_rate": [0.001, 0.003], "training.epochs": [2, 4]}}
    laboratory = site.laboratory
    row = launching.create(laboratory, launching.prepare(laboratory, document), name="swept")
    executor = Executor(laboratory.store, laboratory.artifacts, laboratory.settings)
    for experiment in laboratory.store.sweeps.get(row.id).experiments:
        executor.drain(experiment_id=experiment.id)
    return f"/api/sweeps/{row.slug}"


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.json"))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in names() if name not in ASKED])
def test_an_example_has_the_keys_and_types_of_real_answers(name: str, answers: dict[str, list[Json]]) -> None:
    found = list(unlike(Example(name).read(), answers[name], name))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", ASKED)
def test_an_example_of_a_body_is_one_that_is_taken(name: str) -> None:
    ASKED[name].model_validate(Example(name).read())


def test_a_key_too_many_or_too_few_and_another_type_are_found() -> None:
    real = [{"a": 1, "b": None, "c": [{"d": "x"}]}, {"a": 2, "b": "y", "c": []}]
    assert list(unlike({"a": 1.5, "b": "z", "c": [{"d": "w"}]}, real, "")) == []
    assert list(unlike({"a": 1, "b": None, "c": [], "e": 1}, real, "")) == ["/e is in no real answer"]
    assert list(unlike({"a": 1, "b": None}, real, "")) == [" lacks ['c']"]
    assert list(unlike({"a": "1", "b": None, "c": [{"d": None}]}, real, "")) == [
        "/a is text, really ['number']", "/c/0/d is null, really ['text']",
    ]  # fmt: skip
