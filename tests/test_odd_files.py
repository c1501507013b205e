"""Odd files and folders through the API and the pages: problem documents that name them, never a server error."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from tests.serving import Served, served

from modescape.store.own_sets import OwnSets

NOISE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("odd")) as site:
        yield site


@pytest.fixture
def client(site: Served) -> Iterator[httpx.Client]:
    with site.client(headers={"Origin": site.url}) as client:
        yield client


@pytest.fixture
def place(site: Served) -> Path:
    """A folder of its own, from which data may come."""
    root = site.settings.registration_roots[0]
    root.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=root))


def pictures(
    root: Path, values: Callable[[int], np.ndarray] = lambda i: np.roll(NOISE, i), suffix: str = "png"
) -> Path:
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for i in range(10):
            Image.fromarray(values(i)).save(root / name / f"{name}{i}.{suffix}")
    return root


def _cut_jpeg(place: Path) -> Path:
    path = pictures(place / "set", suffix="jpg") / "b" / "b3.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    return place / "set"


def _not_utf8(place: Path) -> Path:
    pictures(place / "set")
    os.rename(place / "set" / "b" / "b3.png", os.fsencode(place / "set" / "b") + b"/b3\xff.png")  # noqa: PTH104
    return place / "set"


def _odd_class(place: Path) -> Path:
    pictures(place / "set")
    os.rename(place / "set" / "b", os.fsencode(place / "set") + b"/b3\xff")  # noqa: PTH104
    return place / "set"


def _deep_colour(place: Path) -> Path:
    from tests.test_pictures_read import tiff

    pictures(place / "set")
    tiff(place / "set" / "b" / "b3.tif", np.zeros((8, 8, 3), np.uint16), bits=16, photometric=2, samples=3)
    return place / "set"


def _ambiguous_floats(place: Path) -> Path:
    return pictures(place / "set", lambda i: np.full((8, 8), 0.3 + i, np.float32), "tif")


def _cut_npz(place: Path) -> Path:
    np.savez(place / "b3.npz", images=np.zeros((20, 4, 4)), labels=np.arange(20) % 2)
    content = (place / "b3.npz").read_bytes()
    (place / "b3.npz").write_bytes(content[:-100])
    return place / "b3.npz"


def _nan(place: Path) -> Path:
    images = np.zeros((20, 4, 4))
    images[3, 1, 2] = np.nan
    np.savez(place / "b3.npz", images=images, labels=np.arange(20) % 2)
    return place / "b3.npz"


ODD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "cut JPEG": (_cut_jpeg, "b/b3.jpg cannot be read as a picture: image file is truncated"),
    "name": (_not_utf8, r"b3\xff.png is not UTF-8"),
    "class name": (_odd_class, r"b3\xff"),
    "16-bit colour": (_deep_colour, "b/b3.tif cannot be read as a picture: it has 16 bits a colour"),
    "floats": (_ambiguous_floats, "a0.tif with 19 more pictures like it goes from"),
    "cut npz": (_cut_npz, "b3.npz cannot be read as .npz"),
    "nan": (_nan, "images holds nan at [3, 1, 2]"),
}


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_set_is_refused_by_name_wherever_it_is_given(client: httpx.Client, place: Path, kind: str) -> None:
    make, words = ODD[kind]
    path = make(place)
    answer = client.post("/api/data", json={"path": str(path), "name": kind})
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert words in answer.json()["errors"][0]["message"]
    assert answer.json()["errors"][0]["field"] == "path"
    page = client.post("/data", data={"path": str(path), "name": kind})
    assert page.status_code == 422
    assert "✗" in page.text
    spec = {
        "data": {"dataset": "folder" if path.is_dir() else "npz", "path": str(path)},
        "training": {"batch_size": 4, "snapshots": 0},
    }
    launched = client.post("/api/experiments", json={"name": kind, "spec": spec})
    assert launched.status_code == 422  # looks are kept: a bad picture is known by now
    assert words in launched.json()["errors"][0]["message"]
    assert kind not in {row["name"] for row in client.get("/api/data").json()["items"]}


def test_a_registered_set_says_how_it_is_read(client: httpx.Client, place: Path) -> None:
    pictures(place / "deep", lambda i: np.full((8, 8), 4000, np.uint16))
    row = client.post("/api/data", json={"path": str(place / "deep"), "name": "deep"}).json()
    assert row["white"] == 4095
    page = client.get("/data").text
    assert "20 of 20 pictures have more than 8 bits a pixel: 4095 is white." in page
    assert "finer than that are lost" in page
    np.savez(place / "floats.npz", images=np.linspace(0, 1.05, 320).reshape(20, 4, 4), labels=np.arange(20) % 2)
    row = client.post("/api/data", json={"path": str(place / "floats.npz"), "name": "floats"}).json()
    assert row["white"] == 1
    assert "Values below 0 and above 1 are cut off." in client.get("/data").text


@pytest.mark.slow
def test_what_is_white_can_be_said_in_the_form(client: httpx.Client, place: Path) -> None:
    np.savez(place / "halves.npz", images=np.linspace(0, 2, 320).reshape(20, 4, 4), labels=np.arange(20) % 2)
    assert 'name="data.white"' in client.get("/launch").text
    halves = {"path": str(place / "halves.npz"), "name": "halves"}
    assert "could mean several things" in client.post("/api/data", json=halves).text
    assert client.post("/api/data", json={**halves, "white": 1}).json()["errors"][0]["field"] == "white"
    form = {**halves, "white": "2"}
    assert client.post("/data", data=form).status_code == 303
    assert "images: 0 to 2, of which 2 is white." in client.get("/data").text
    assert client.get("/gallery?dataset=halves").status_code == 200
    for white in ({}, {"white": None}):  # the form leaves the field empty
        named = {"data": {"dataset": "halves", **white}, "training": {"batch_size": 4, "snapshots": 0}}
        assert client.post("/api/estimate", json={"spec": named}).json()["spec"]["data"]["white"] == 2
    spec: dict[str, Any] = {
        "data": {"dataset": "npz", "path": str(place / "halves.npz")},
        "training": {"batch_size": 4, "snapshots": 0},
    }
    refused = client.post("/api/estimate", json={"spec": spec})
    assert refused.status_code == 422
    assert "data.white" in refused.json()["errors"][0]["allowed"]
    spec["data"]["white"] = 2
    plan = client.post("/api/estimate", json={"spec": spec})
    assert plan.status_code == 200, plan.text
    assert "images: 0 to 2, of which 2 is white." in plan.json()["warnings"]
    spec["data"]["white"] = 1
    beyond = client.post("/api/estimate", json={"spec": spec}).json()["errors"][0]
    assert beyond["field"] == "spec.data.white"


@pytest.fixture
def slow_look(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Looks go on until this is set; no request waits for one."""
    from modescape_api.background import picture_checks

    goes_on = threading.Event()
    check_once = picture_checks.check_once

    def held(*args: Any, **options: Any) -> Any:
        assert goes_on.wait(60)
        return check_once(*args, **options)

    monkeypatch.setattr(picture_checks, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(picture_checks, "check_once", held)
    return goes_on


def test_a_look_that_takes_long_is_answered_with_how_far_it_is(
    client: httpx.Client, place: Path, slow_look: threading.Event
) -> None:
    pictures(place / "set")
    answer = client.post("/api/data", json={"path": str(place / "set"), "name": "slow"})
    assert answer.status_code == 202
    assert answer.json()["looking"]["of"] >= 0
    assert answer.json()["present"] is False
    slow_look.set()
    listed = _until(client, "slow", lambda row: row["present"])
    assert listed["white"] == 255


def test_a_set_that_is_registered_while_the_list_is_made_is_in_it(
    client: httpx.Client, place: Path, slow_look: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_sets = OwnSets.all

    def registered_right_after(store: OwnSets) -> dict[str, dict[str, Any]]:
        before = own_sets(store)
        slow_look.set()
        while "between" not in own_sets(store):
            time.sleep(0.01)
        return before

    pictures(place / "set")
    assert client.post("/api/data", json={"path": str(place / "set"), "name": "between"}).status_code == 202
    monkeypatch.setattr(OwnSets, "all", registered_right_after)
    assert "between" in {row["name"] for row in client.get("/api/data").json()["items"]}


def test_a_look_that_fails_after_its_answer_says_why_in_the_list(
    client: httpx.Client, place: Path, slow_look: threading.Event
) -> None:
    path = _cut_jpeg(place)
    assert client.post("/api/data", json={"path": str(path), "name": "late"}).status_code == 202
    slow_look.set()
    listed = _until(client, "late", lambda row: row["looking"] is None)
    assert "b/b3.jpg cannot be read as a picture" in listed["how"]
    page = client.get("/data").text
    assert "b/b3.jpg cannot be read as a picture" in page
    assert "Unregister late" not in page


def _until(client: httpx.Client, name: str, done: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    for _ in range(600):
        row = {row["name"]: row for row in client.get("/api/data").json()["items"]}[name]
        if done(row):
            return row
        time.sleep(0.05)
    raise AssertionError(row)


@pytest.mark.parametrize("path", ["\ud800", "/nothing/\udcff", "a\0b", "x" * 2000])
def test_a_path_that_no_file_has_is_refused(client: httpx.Client, path: str) -> None:
    for address, body in (
        ("/api/data", {"path": path}),
        ("/api/estimate", {"spec": {"data": {"dataset": "folder", "path": path}}}),
        ("/api/estimate", {"spec": {"ood": [{"dataset": "npz", "path": path}]}}),
        ("/api/estimate", {"spec": {"shift": {"source": "published", "path": path}}}),
    ):
        answer = client.post(address, content=json.dumps(body), headers={"content-type": "application/json"})
        assert answer.status_code in (400, 422), (address, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_table_is_registered_by_its_file_and_its_column_of_labels(client: httpx.Client, place: Path) -> None:
    rows = [f"{i},{i * i % 7},{'ab'[i % 2]}" for i in range(40)]
    (place / "cells.csv").write_text("\n".join(["size,mass,kind", *rows]))
    asked = {"path": str(place / "cells.csv"), "name": "cells"}
    refused = client.post("/api/data", json=asked)
    assert refused.status_code == 422
    (problem,) = refused.json()["errors"]
    assert (problem["field"], problem["allowed"]) == ("label", "one of size, mass, kind")
    form = client.post("/data", data={**asked, "label": "kinds"})
    assert form.status_code == 422
    assert 'value="kinds"' in form.text, "what was typed is still there"
    assert client.post("/data", data={**asked, "label": "kind"}).status_code == 303
    row = next(one for one in client.get("/api/data").json()["items"] if one["name"] == "cells")
    assert (row["dataset"], row["channels"], row["classes"]) == ("table", 2, ["a", "b"])
    spec = {
        "data": {"dataset": "cells"}, "network": {"architecture": "mlp"}, "training": {"batch_size": 4, "snapshots": 0},
    }  # fmt: skip
    estimated = client.post("/api/estimate", json={"spec": spec})
    assert estimated.status_code == 200, estimated.text
    assert estimated.json()["spec"]["data"]["label"] == "kind", "as it was registered"


def test_rows_of_features_are_known_without_a_word_and_other_arrays_when_it_is_said(
    client: httpx.Client, place: Path
) -> None:
    rng = np.random.default_rng(0)
    np.savez(place / "rows.npz", x=rng.normal(size=(90, 5)), y=np.arange(90) % 3)
    row = client.post("/api/data", json={"path": str(place / "rows.npz"), "name": "rows"}).json()
    assert (row["dataset"], row["channels"], row["height"], row["reading"]) == (
        "arrays", 5, 1, ["Numbers are kept as they are."],
    )  # fmt: skip
    np.savez(place / "maps.npz", x=rng.normal(size=(90, 2, 6, 6)), y=np.arange(90) % 3)
    asked = {"path": str(place / "maps.npz"), "name": "maps"}
    assert client.post("/api/data", json=asked).status_code == 422
    assert client.post("/api/data", json={**asked, "numbers": True}).json()["dataset"] == "arrays"
    spec = {
        "data": {"dataset": "rows"},
        "network": {"architecture": "mlp"},
        "training": {"batch_size": 4, "snapshots": 0},
    }
    found = client.post("/api/estimate", json={"spec": spec})
    assert found.status_code == 200, found.text
    assert found.json()["spec"]["data"]["path"].endswith("rows.npz")
