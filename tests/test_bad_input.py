"""A hundred kinds of bad input: each is refused with a 4xx that names the field and what is allowed, nothing is
stored."""

from __future__ import annotations

import base64
import copy
import json
import socket
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi.routing import APIRoute
from PIL import Image
from pydantic import ValidationError
from serving import SPEC, Served, served

from modescape.errors import InvalidInput
from modescape.pydantic_errors import check_size
from modescape.registry import presets
from modescape.spec import ExperimentSpec, parse
from modescape_api.http.bodies import Body, read_by
from modescape_api.resources.experiments import Draft
from modescape_api.resources.imports import Import, LookAt, NewMember, NewPoints, Weights
from modescape_api.resources.parcels import NewParcel
from modescape_api.resources.sweeps import SweepDraft


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("home")
    outside = tmp_path_factory.mktemp("outside")
    with served(home) as running:
        root = running.settings.registration_roots[0]
        root.mkdir(parents=True, exist_ok=True)
        _write_bad_data(root, outside)
        yield running


@pytest.fixture(scope="module")
def client(site: Served) -> Iterator[httpx.Client]:
    with site.client() as client:
        yield client


def _write_bad_data(root: Path, outside: Path) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, size=(60, 1, 8, 8), dtype=np.uint8)
    labels = np.arange(60) % 3
    np.savez(outside / "good.npz", images=images, labels=labels)
    (root / "way-out.npz").symlink_to(outside / "good.npz")
    (root / "way-out").symlink_to(outside)
    with_nan = labels.astype(np.float64)
    with_nan[3] = np.nan
    np.savez(root / "nan-labels.npz", images=images, labels=with_nan)
    np.savez(root / "half-labels.npz", images=images, labels=labels + 0.5)
    np.savez(root / "negative-labels.npz", images=images, labels=labels - 1)
    np.savez(root / "short-labels.npz", images=images, labels=labels[:50])
    np.savez(root / "one-class.npz", images=images, labels=np.zeros(60, dtype=np.int64))
    np.savez(root / "no-labels.npz", images=images)
    np.savez(root / "no-images.npz", labels=labels)
    np.savez(root / "empty.npz", images=images[:0], labels=labels[:0])
    np.savez(root / "flat.npz", images=images.reshape(-1), labels=labels)
    nan_images = images.astype(np.float32)
    nan_images[0, 0, 0, 0] = np.nan
    np.savez(root / "nan-images.npz", images=nan_images, labels=labels)
    np.savez(root / "pickled.npz", images=images, labels=np.array([{"a": 1}] * 60, dtype=object))
    (root / "text.npz").write_text("this is no zip file")
    whole = (root / "nan-labels.npz").read_bytes()
    (root / "cut-off.npz").write_bytes(whole[: len(whole) // 2])
    (root / "picture.png").write_bytes(b"not a picture")
    (root / "no-classes").mkdir()
    (root / "one-class" / "cats").mkdir(parents=True)
    Image.fromarray(images[0, 0]).save(root / "one-class" / "cats" / "a.png")
    for name in ("cats", "dogs"):
        (root / "broken" / name).mkdir(parents=True)
        (root / "broken" / name / "a.png").write_bytes(b"not a picture")
    (root / "linked" / "cats").mkdir(parents=True)
    (root / "linked" / "dogs").symlink_to(outside)


def changed(path: str, value: Any) -> dict[str, Any]:
    """The good spec with one value replaced or added."""
    spec: Any = copy.deepcopy(SPEC)
    place = spec
    *parents, last = path.split(".")
    for parent in parents:
        place = place[int(parent)] if isinstance(place, list) else place.setdefault(parent, {})
    if isinstance(place, list):
        place[int(last)] = value
    else:
        place[last] = value
    return {"name": "bad", "spec": spec}


# What is wrong with one value of a spec: (path, value, field the answer must name)
VALUES: list[tuple[str, Any, str]] = [
    ("data.dataset", "cifar11", "spec.data.dataset"),
    ("data.dataset", "", "spec.data.dataset"),
    ("data.dataset", 7, "spec.data.dataset"),
    ("data.dataset", None, "spec.data.dataset"),
    ("data.dataset", "../../etc/passwd", "spec.data.dataset"),
    ("data.input_scale", "raw256", "spec.data.input_scale"),
    ("data.train_images", 0, "spec.data.train_images"),
    ("data.train_images", 1, "spec.data.train_images"),
    ("data.train_images", -5, "spec.data.train_images"),
    ("data.train_images", 10**6, "spec.data.train_images"),
    ("data.train_images", 2.5, "spec.data.train_images"),
    ("data.train_images", "many", "spec.data.train_images"),
    ("data.validation_images", -1, "spec.data.validation_images"),
    ("data.validation_images", 590, "spec.data.train_images"),
    ("data.test_images", 5, "spec.data.test_images"),
    ("data.test_images", 1201, "spec.data.test_images"),
    ("data.split", "random", "spec.data.split"),
    ("data.split_seed", -1, "spec.data.split_seed"),
    ("data.path", "/tmp", "spec.data.path"),
    ("data.colour", "red", "spec.data.colour"),
    ("data", "digits", "spec.data"),
    ("data", [], "spec.data"),
    ("network.architecture", "vgg16", "spec.network.architecture"),
    ("network.architecture", ["small-cnn"], "spec.network.architecture"),
    ("network.options", {"deepness": 3}, "spec.network.options.deepness"),
    ("network.options", [1], "spec.network.options"),
    ("training.protocol", "secret", "spec.training.protocol"),
    ("training.optimiser", "lion", "spec.training.optimiser"),
    ("training.optimiser_options", {"beta1": 1}, "spec.training.optimiser_options.beta1"),
    ("training.loss", "hinge", "spec.training.loss"),
    ("training.learning_rate", 0, "spec.training.learning_rate"),
    ("training.learning_rate", -0.1, "spec.training.learning_rate"),
    ("training.learning_rate", 1e9, "spec.training.learning_rate"),
    ("training.learning_rate", "fast", "spec.training.learning_rate"),
    ("training.schedule", "zigzag", "spec.training.schedule"),
    ("training.schedule", "milestones", "spec.training.milestones"),
    ("training.halve_every", 0, "spec.training.halve_every"),
    ("training.milestones", [{"epoch": 0, "learning_rate": 0.1}], "spec.training.milestones.0.epoch"),
    ("training.milestones", [{"epoch": 1}], "spec.training.milestones.0.learning_rate"),
    ("training.milestones", {"epoch": 1}, "spec.training.milestones"),
    ("training.momentum", 1.0, "spec.training.momentum"),
    ("training.adam_epsilon", 0, "spec.training.adam_epsilon"),
    ("training.weight_decay", -1, "spec.training.weight_decay"),
    ("training.decay_on", "biases", "spec.training.decay_on"),
    ("training.batch_size", 0, "spec.training.batch_size"),
    ("training.batch_size", 128, "spec.training.batch_size"),
    ("training.batch_size", 10**9, "spec.training.batch_size"),
    ("training.epochs", 0, "spec.training.epochs"),
    ("training.epochs", 10**9, "spec.training.epochs"),
    ("training.epochs", 10**30, "spec.training.epochs"),
    ("training.epochs", True, "spec.training.epochs"),
    ("training.epochs", {"a": 1}, "spec.training.epochs"),
    ("training.sampling", "bootstrap", "spec.training.sampling"),
    ("training.augmentation", "cutout", "spec.training.augmentation"),
    ("training.augmentation_options", [], "spec.training.augmentation_options"),
    ("network.options", 0, "spec.network.options"),
    ("training.precision", "float8", "spec.training.precision"),
    ("training.checkpoint_every", 0, "spec.training.checkpoint_every"),
    ("training.snapshots", -1, "spec.training.snapshots"),
    ("training.snapshots", 150, "spec.training.snapshots"),
    ("training.snapshot_window", 0, "spec.training.snapshot_window"),
    ("training.snapshot_window", 1.5, "spec.training.snapshot_window"),
    ("training.dropout", 0.5, "spec.training.dropout"),
    ("ensemble.runs", 0, "spec.ensemble.runs"),
    ("ensemble.runs", -3, "spec.ensemble.runs"),
    ("ensemble.runs", 1001, "spec.ensemble.runs"),
    ("ensemble.runs", None, "spec.ensemble.runs"),
    ("ensemble.seed", -1, "spec.ensemble.seed"),
    ("ensemble.seed", 2**53, "spec.ensemble.seed"),
    ("ensemble.seed", 0.5, "spec.ensemble.seed"),
    ("ensemble.vary", "nothing", "spec.ensemble.vary"),
    ("methods.0.method", "laplace", "spec.methods.0.method"),
    ("methods.0.method", None, "spec.methods.0.method"),
    ("methods.0.spread", -1, "spec.methods.0.spread"),
    ("methods.0.typical", 1001, "spec.methods.0.typical"),
    ("methods.0.options", {"no": 1}, "spec.methods.0.options.no"),
    ("methods", [{"method": "random", "spread": 0, "typical": 0}], "spec.methods.0"),
    ("methods", [{"method": "random"}, {"method": "random"}], "spec.methods.1.method"),
    ("methods", [{"method": "low-rank", "options": {"rank": 8}}], "spec.methods.0.options.rank"),
    ("methods", [{"method": "low-rank", "options": {"rank": 0}}], "spec.methods.0.options.rank"),
    ("methods", [{"spread": 3}], "spec.methods.0"),
    ("methods", ["random"], "spec.methods.0"),
    ("methods", "random", "spec.methods"),
    ("methods", [{"method": "random"}] * 17, "spec.methods"),
    ("evaluation.splits", [], "spec.evaluation.splits"),
    ("evaluation.splits", ["train"], "spec.evaluation.splits.0"),
    ("evaluation.splits", ["test", "test"], "spec.evaluation.splits"),
    ("evaluation.embed_images", 5, "spec.evaluation.embed_images"),
    ("evaluation.embed_runs", 11, "spec.evaluation.embed_runs"),
    ("evaluation.embed_seed", 2**31, "spec.evaluation.embed_seed"),
    ("evaluation.perplexity", 0.5, "spec.evaluation.perplexity"),
    ("connectivity", {"repair": 0}, "spec.connectivity.repair"),
    ("connectivity", {"align": "yes"}, "spec.connectivity.align"),
    ("instability", {"epochs": [False]}, "spec.instability.epochs.0"),
    ("version", 2, "spec.version"),
    ("hidden", 1, "spec.hidden"),
]

# What is wrong with the body around a spec
BODIES: list[tuple[str, Any, str]] = [
    ("an empty name", {"name": "", "spec": SPEC}, "name"),
    ("a blank name", {"name": "   ", "spec": SPEC}, "name"),
    ("a long name", {"name": "x" * 201, "spec": SPEC}, "name"),
    ("a control character", {"name": "a\u0000b", "spec": SPEC}, "name"),
    ("a line in the name", {"name": "a\nb", "spec": SPEC}, "name"),
    ("right-to-left override", {"name": "a\u202eb", "spec": SPEC}, "name"),
    ("an isolate", {"name": "a\u2066b", "spec": SPEC}, "name"),
    ("a code point without a character", {"name": "a\u0378b", "spec": SPEC}, "name"),
    ("a name of joiners", {"name": "\u200d\ufe0f", "spec": SPEC}, "name"),
    ("a number as name", {"name": 5, "spec": SPEC}, "name"),
    ("an override in a tag", {"spec": SPEC, "tags": ["ok", "\u202e"]}, "tags.1"),
    ("a comma in a tag", {"spec": SPEC, "tags": ["a,b"]}, "tags.0"),
    ("an empty tag", {"spec": SPEC, "tags": [""]}, "tags.0"),
    ("too many tags", {"spec": SPEC, "tags": [f"t{i}" for i in range(21)]}, "tags"),
    ("tags as text", {"spec": SPEC, "tags": "a"}, "tags"),
    ("long notes", {"spec": SPEC, "notes": "x" * 10_001}, "notes"),
    ("NUL in the notes", {"spec": SPEC, "notes": "a\u0000"}, "notes"),
    ("an unknown preset", {"preset": "fig-99"}, "preset"),
    ("an unknown preset beside a spec", {"preset": "fig-99", "spec": SPEC}, "preset"),
    ("nothing", {}, "spec"),
    ("a spec that is text", {"spec": "digits"}, "spec"),
    ("a spec that is a list", {"spec": []}, "spec"),
    ("fresh as text", {"spec": SPEC, "fresh": "perhaps"}, "fresh"),
    ("fresh as a number", {"spec": SPEC, "fresh": 0}, "fresh"),
    ("an unknown field", {"spec": SPEC, "owner": "me"}, "owner"),
    ("a list", [1, 2], "body"),
    ("a number", 5, "body"),
    ("null", None, "body"),
    ("text", "hello", "body"),
]

# What is wrong with the path of one's own data, relative to the allowed folder
PATHS = [
    ("npz", "/etc/passwd"),
    ("folder", "/etc"),
    ("npz", "../outside.npz"),
    ("npz", "way-out.npz"),
    ("npz", "way-out/good.npz"),
    ("folder", "linked"),
    ("folder", "way-out"),
    ("npz", "not-there.npz"),
    ("folder", "not-there"),
    ("folder", "nan-labels.npz"),
    ("npz", "no-classes"),
    ("npz", "x" * 300),
    ("npz", "nan-labels.npz"),
    ("npz", "half-labels.npz"),
    ("npz", "negative-labels.npz"),
    ("npz", "short-labels.npz"),
    ("npz", "one-class.npz"),
    ("npz", "no-labels.npz"),
    ("npz", "no-images.npz"),
    ("npz", "empty.npz"),
    ("npz", "flat.npz"),
    ("npz", "nan-images.npz"),
    ("npz", "pickled.npz"),
    ("npz", "text.npz"),
    ("npz", "cut-off.npz"),
    ("folder", "no-classes"),
    ("folder", "one-class"),
    ("folder", "broken"),
]

JSON = {"Content-Type": "application/json"}

# Bodies that are not what they should be: (what, bytes, headers, status)
RAW: list[tuple[str, bytes, dict[str, str], int]] = [
    ("cut off", b'{"spec": {', JSON, 400),
    ("single quotes", b"{'spec': {}}", JSON, 400),
    ("NaN", b'{"spec": {"training": {"learning_rate": NaN}}}', JSON, 400),
    ("a comma too many", b'{"name": "a",}', JSON, 400),
    ("not UTF-8", b'{"name": "\xff\xfe"}', JSON, 400),
    ("a number beyond all bounds", b'{"spec": {"training": {"epochs": 1' + b"0" * 400 + b"}}}", JSON, 400),
    ("too deep", b'{"spec":' * 5000 + b"1" + b"}" * 5000, JSON, 400),
    ("another type", b"name=a", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ("no type", b"{}", {"Content-Type": ""}, 415),
    ("too large", b'{"notes": "' + b"x" * 1_048_577 + b'"}', JSON, 413),
]

# Query strings and addresses: (address, field the answer must name)
QUERIES = [
    ("/api/experiments?colour=red", "colour"),
    ("/api/experiments?dataset__gt=5", "dataset__gt"),
    ("/api/experiments?accuracy__like=5", "accuracy__like"),
    ("/api/experiments?accuracy__gte=high", "accuracy__gte"),
    ("/api/experiments?accuracy__gte=nan", "accuracy__gte"),
    ("/api/experiments?accuracy__lte=inf", "accuracy__lte"),
    ("/api/experiments?runs=2.5", "runs"),
    ("/api/experiments?runs=99999999999999999999", "runs"),
    ("/api/experiments?status=sleeping", "status"),
    ("/api/experiments?created__after=yesterday", "created__after"),
    ("/api/experiments?created__before=0000-00-00", "created__before"),
    ("/api/experiments?archived=maybe", "archived"),
    ("/api/experiments?sort=shoe-size", "sort"),
    ("/api/experiments?limit=0", "limit"),
    ("/api/experiments?limit=1001", "limit"),
    ("/api/experiments?limit=ten", "limit"),
    ("/api/experiments?cursor=garbage", "cursor"),
    ("/api/experiments?cursor=" + base64.urlsafe_b64encode(b'["-created",5,"x"]').decode(), "cursor"),
    ("/api/experiments?cursor=" + base64.urlsafe_b64encode(b'["-created","2026-01-01",[1]]').decode(), "cursor"),
    ("/api/experiments?cursor=" + base64.urlsafe_b64encode(b'{"a":1}').decode(), "cursor"),
    ("/api/experiments?fields=name,shoe", "fields"),
    ("/api/experiments?format=xml", "format"),
    ("/api/experiments?name=" + "x" * 300, "name"),
    ("/api/experiments?q=%00", "q"),
    ("/api/experiments?tag__in=" + ",".join(map(str, range(501))), "tag__in"),
    ("/api/experiments?" + "&".join(f"a{i}=1" for i in range(501)), "parameters"),
    ("/api/events?after=" + "9" * 5000, "after"),
    ("/api/events?after=-1", "after"),
    ("/api/events?after=soon", "after"),
    ("/api/events?after=99999999999999999999", "after"),
    ("/api/artifacts/..%2f..%2fetc%2fpasswd", ""),
    ("/api/artifacts/xyz", "sha256"),
    ("/api/artifacts/" + "0" * 64, ""),
    ("/api/experiments/not-there", ""),
    ("/api/experiments/not-there/solutions", ""),
    ("/api/experiments/%00", ""),
    ("/api/nothing", ""),
]

OPERATIONS = [
    ("PUT", "/api/experiments", 405),
    ("DELETE", "/api/experiments", 405),
    ("PATCH", "/api/estimate", 405),
    ("POST", "/api/experiments/not-there/cancel", 404),
    ("POST", "/api/experiments/not-there/clone", 404),
    ("POST", "/api/experiments/not-there/explode", 404),
    ("DELETE", "/api/experiments/not-there", 404),
]


def refused(answer: httpx.Response, field: str | None = None, *, allowed: bool = True) -> dict[str, Any]:
    """A 4xx problem document that names `field` (a prefix of the field it names is enough) and what is allowed."""
    assert 400 <= answer.status_code < 500, f"{answer.status_code} {answer.text[:500]}"
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["status"] == answer.status_code
    assert document["title"]
    assert document["detail"]
    assert len(answer.content) < 20_000
    if field:
        named = [error for error in document["errors"] if error["field"].startswith(field)]
        assert named, f"{field} is not named: {document}"
        assert all(error["message"] for error in named)
        if allowed:
            assert all(error["allowed"] for error in named), document
    return document


def _id(value: Any) -> str:
    return (value if isinstance(value, str) else repr(value))[:40]


@pytest.mark.parametrize(("path", "value", "field"), VALUES, ids=_id)
def test_a_wrong_value_in_a_spec(client: httpx.Client, path: str, value: Any, field: str) -> None:
    body = json.dumps(changed(path, value))
    for address in ("/api/estimate", "/api/experiments"):
        refused(client.post(address, content=body, headers=JSON), field)


@pytest.mark.parametrize(("body", "field"), [case[1:] for case in BODIES], ids=[case[0] for case in BODIES])
def test_a_wrong_body(client: httpx.Client, body: Any, field: str) -> None:
    for address in ("/api/estimate", "/api/experiments"):
        refused(client.post(address, content=json.dumps(body), headers=JSON), field)


@pytest.mark.parametrize(("dataset", "path"), PATHS, ids=_id)
def test_a_path_that_cannot_be_used(client: httpx.Client, site: Served, dataset: str, path: str) -> None:
    place = str(site.settings.registration_roots[0] / path)
    data = {"dataset": dataset, "path": place, "test_images": 10, "validation_images": 10, "train_images": 20}
    refused(client.post("/api/experiments", json={"spec": {"data": data}}), "spec.data.path")
    if dataset == "npz" or Path(place).is_dir():
        refused(client.post("/api/data", json={"path": place}), "path")


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ({"shift": {"source": "published", "path": "/etc"}}, "spec.shift.path"),
        ({"ood": [{"dataset": "digits"}, {"dataset": "folder", "path": "/etc"}]}, "spec.ood.1.path"),
        ({"shift": {"others": ["digits", {"dataset": "folder", "path": "/etc"}]}}, "spec.shift.others.1.path"),
        ({"shift": {"others": [{"dataset": "npz", "path": "/etc/hostname"}]}}, "spec.shift.others.0.path"),
        ({"studies": {"theirs": [{"deep": {"path": "/etc"}}]}}, "spec.studies.theirs.0.deep.path"),
    ],
    ids=_id,
)
def test_a_path_of_a_study_outside_the_allowed_folders(client: httpx.Client, part: dict[str, Any], field: str) -> None:
    for address in ("/api/estimate", "/api/experiments"):
        answer = refused(client.post(address, json={"spec": {"data": {"dataset": "digits"}, **part}}), field)
        assert "inside" in json.dumps(answer)


@pytest.mark.parametrize(("body", "headers", "status"), [case[1:] for case in RAW], ids=[case[0] for case in RAW])
def test_a_body_that_is_not_json(client: httpx.Client, body: bytes, headers: dict[str, str], status: int) -> None:
    for address in ("/api/experiments", "/api/estimate", "/api/data"):
        answer = client.post(address, content=body, headers=headers)
        assert refused(answer, "body" if status in (400, 413) else "Content-Type")["status"] == status


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"name": "a\\ud800"}', "name"),
        (b'{"tags": ["a", "\\udfff"]}', "tags.1"),
        (b'{"spec": {"data": {"path": "\\ud83d"}}}', "spec.data.path"),
        (b'{"\\ud800": 1}', "body"),
    ],
)
def test_half_a_character_is_refused_by_the_name_of_its_field(client: httpx.Client, body: bytes, field: str) -> None:
    answer = client.post("/api/experiments", content=body, headers=JSON)
    assert "surrogate" in refused(answer, field)["detail"]
    assert answer.status_code == 422
    pair = client.post("/api/estimate", content=b'{"preset": "quickstart", "name": "\\ud83d\\ude42"}', headers=JSON)
    assert pair.status_code == 200, "two halves are a character"


@pytest.mark.parametrize(("address", "field"), QUERIES, ids=_id)
def test_a_wrong_query(client: httpx.Client, address: str, field: str) -> None:
    refused(client.get(address), field)


@pytest.mark.parametrize(("method", "address", "status"), OPERATIONS)
def test_a_wrong_operation(client: httpx.Client, method: str, address: str, status: int) -> None:
    document = refused(client.request(method, address))
    assert document["status"] == status
    if status == 405:
        assert document["errors"][0]["allowed"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "path"),
        ({"path": "/tmp/a", "fetch": "cifar10"}, "path"),
        ({"fetch": "imagenet"}, "fetch"),
        ({"fetch": "nothing"}, "fetch"),
        ({"path": ""}, "path"),
        ({"path": 5}, "path"),
        ({"path": "a\u0000b"}, "path"),
        ({"path": "~nobody-here/x"}, "path"),
        ({"path": "/tmp", "name": "a\u202eb"}, "name"),
    ],
    ids=_id,
)
def test_a_wrong_registration(client: httpx.Client, body: dict[str, Any], field: str) -> None:
    refused(client.post("/api/data", json=body), field)


@pytest.mark.parametrize("key", ["", "x" * 201, "with space", "caf\u00e9"])
def test_a_wrong_idempotency_key(client: httpx.Client, key: str) -> None:
    answer = client.post("/api/experiments", json={"spec": SPEC}, headers={b"Idempotency-Key": key.encode("latin-1")})
    refused(answer, "idempotency-key")


def test_what_is_wrong_comes_all_at_once(client: httpx.Client) -> None:
    body = changed("training.epochs", 0)
    body["spec"]["ensemble"]["runs"] = 0
    body["spec"]["data"]["dataset"] = "nothing"
    fields = {error["field"] for error in refused(client.post("/api/experiments", json=body))["errors"]}
    assert fields == {"spec.training.epochs", "spec.ensemble.runs", "spec.data.dataset"}


def test_data_that_is_not_here_is_a_conflict_with_the_way_to_get_it(client: httpx.Client) -> None:
    answer = client.post("/api/experiments", json={"spec": {"data": {"dataset": "cifar10"}}})
    if answer.status_code == 201:
        pytest.fail("CIFAR-10 is on this machine: point MODESCAPE_DATA elsewhere")
    assert refused(answer)["status"] == 409
    assert "modescape data fetch cifar10" in answer.json()["detail"]
    outside = {"data": {"dataset": "digits"}, "ood": [{"dataset": "constant"}, {"dataset": "svhn"}]}
    answer = client.post("/api/experiments", json={"spec": outside})
    assert refused(answer)["status"] == 409
    (error,) = answer.json()["errors"]
    assert error["field"] == "spec.ood.1.dataset"
    assert "modescape data fetch svhn" in error["message"]


def test_another_set_under_a_known_name_is_refused_where_it_was_asked_for(tmp_path: Path) -> None:
    """MNIST's files are called as Fashion-MNIST's are."""
    folder = tmp_path / "data" / "fashion-mnist"
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + b"".join(
            n.to_bytes(4, "big") for n in (10, 28, 28)
        ) + bytes(7840))  # fmt: skip
        labels = b"\0\0\x08\x01" + (10).to_bytes(4, "big") + bytes(range(10))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(labels)
    with served(tmp_path) as here, here.client() as client:
        for spec, field in (
            ({**SPEC, "data": {"dataset": "fashion-mnist"}}, "data.dataset"),
            ({**SPEC, "ood": [{"dataset": "fashion-mnist"}]}, "ood.0.dataset"),
        ):
            body = refused(client.post("/api/experiments", json={"spec": spec}), field, allowed=False)
            assert "train-images-idx3-ubyte holds another set" in body["detail"]
            assert "move it elsewhere" in body["detail"]
        form = client.get("/launch?preset=fig-6-short", headers={"accept": "text/html"}).text
        assert "holds another set" in form[form.index('id="err-data.dataset"') :][:400]
        assert client.get("/api/experiments").json()["total"] == 0


def test_a_preset_that_cannot_run_here_says_so_in_few_words(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = replace(presets["quickstart"], call=lambda: {"data": {"dataset": "digits", "train_images": 1790}})
    monkeypatch.setattr(presets, "_entries", {**dict(presets), "quickstart": odd})
    text = client.get("/launch", params={"preset": "blank"}).text
    assert "3 runs · does not fit the data here</small>" in text
    text = client.get("/launch", params={"preset": "blank", "version": "paper"}).text
    assert text.count("needs CIFAR-10 and SVHN</small>") == 2  # the row of divergences, and all claims


def test_wrong_figure_parameters(client: httpx.Client, site: Served) -> None:
    row = site.laboratory.create(SPEC, name="for figures")
    base = f"/api/experiments/{row.slug}"
    try:
        for query, field in (
            ("theme=pink", "theme"),
            ("arrays=xml", "arrays"),
            ("split=train", "split"),
            ("shoe=5", "shoe"),
            ("format=bmp", "format"),
        ):
            refused(client.get(f"{base}/figures/plane?{query}"), field)
        for address in (
            "figures/nothing.json",
            "figures/plane.bmp",
            "matrices/nothing.npy",
            "runs/7/checkpoints",
            "runs/0/series/train/mood",
            "solutions/99",
            "solutions/99/weights",
            "solutions/-1",
            "solutions/99999999999",
            "solutions/one",
            "labels",
            "labels?split=train",
            "selections/nothing",
            "stages?fields=mood",
            "solutions?sel=9-3",
            "solutions?sel=0-99999999",
            "solutions?sel=a",
            "solutions?role=king",
            "solutions?number=99999999999999999999999",
            "measurements?intensity=x",
        ):
            refused(client.get(f"{base}/{address}"))
        refused(client.post(f"{base}/retry?stage=nothing"))
        refused(client.post(f"{base}/selections", json={"numbers": "x"}), "numbers")
        refused(client.patch(base, json={"slug": "mine"}), "slug")
        refused(client.patch(base, json={"name": "a\u0000b"}), "name")
        refused(client.post(f"{base}/clone", json={"changes": {"ensemble": {"runs": 0}}}), "spec.ensemble.runs")
        refused(client.post(f"{base}/clone", json={"changes": []}), "changes")
    finally:
        client.delete(base)
        client.post(f"{base}/purge")


DEEP = "[" * 10_000 + "]" * 10_000
LONG = "9" * 5000


@pytest.mark.parametrize(
    ("action", "fields"),
    [
        ("/import", {"files": DEEP, "do": "import"}),
        ("/import/weights", {"files": DEEP}),
        ("/import/weights", {"data": '{"a":' * 10_000 + "1" + "}" * 10_000, "architecture": "small-cnn"}),
        ("/import/weights", {"more": '{"a": "\\ud800"}', "architecture": "small-cnn"}),
        ("/import/weights", {"options": '{"a": NaN}', "architecture": "small-cnn"}),
        ("/launch", {"data.mean": DEEP}),
        ("/launch/plan", {"evaluation.splits": DEEP}),
        ("/launch", {"ensemble.seed": str(2**64)}),
        ("/launch", {"data.train_images": str(2**64)}),
        ("/launch", {"ensemble.runs": LONG}),
        ("/launch", {"margins.a": "1" + "0" * 4000}),
    ],
    ids=_id,
)
def test_what_is_typed_into_a_form_is_told_and_no_failure(site: Served, action: str, fields: dict[str, str]) -> None:
    with site.visitor() as visitor:
        answer = visitor.post(action, data={"preset": "blank", **fields})
        assert answer.status_code in (200, 422), answer.status_code


@pytest.mark.parametrize("seen", [LONG, "9" * 19, str(2**63), "-1", "x", "\u00b2", ""])
def test_a_stream_begins_anew_after_an_id_that_is_none(client: httpx.Client, seen: str) -> None:
    headers = {b"Last-Event-ID": seen.encode("latin-1"), b"Accept": b"text/event-stream"}
    with client.stream("GET", "/api/events", headers=headers) as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines()
        assert next(lines) == ": modescape"


@pytest.mark.parametrize("name", ["x" * 300, "x" * 3000, "a/" * 1000, "%F0%9F%92%A9" * 80, "style.css%00", "%2e%2e/x"])
def test_a_static_file_of_a_name_that_none_can_have_is_not_found(client: httpx.Client, name: str) -> None:
    assert client.get(f"/static/{name}").status_code == 404


MANY = 50_000
COSTLY: list[tuple[str, dict[str, Any]]] = [
    ("/api/experiments", {f"z{i}": 1 for i in range(MANY)}),
    ("/api/experiments", {"spec": {f"z{i}": 1 for i in range(MANY)}}),
    ("/api/experiments", changed("network.options", {f"z{i}": 1 for i in range(MANY)})),
    ("/api/experiments", changed("methods", [{"method": "none"}] * 10_000)),
    ("/api/sweeps/estimate", {"base": {}, "over": {f"training.z{i}": [1, 2] for i in range(20_000)}}),
    ("/api/sweeps/estimate", {"base": {}, "over": {"training.epochs": list(range(MANY))}}),
    ("/api/sweeps/estimate", {"base": {}, "over": {"a." * 5000 + "b": [1, 2]}}),
    ("/api/sweeps/estimate", {"base": {}, "over": {f"methods.{LONG}": [1, 2]}}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("address", "body"), COSTLY, ids=_id)
def test_no_body_costs_more_than_seconds(client: httpx.Client, address: str, body: dict[str, Any]) -> None:
    """A megabyte of what is not known took minutes, or answered with megabytes."""
    document = refused(client.post(address, json=body, timeout=10))
    assert document["status"] == 422
    assert len(document["errors"]) <= 40


@pytest.mark.parametrize(
    "document",
    [
        {f"k{i}": 1 for i in range(50_000)},
        {"methods": [{f"field {i}": 1 for i in range(900)} for _ in range(40)]},
        {"evaluation": {"splits": [1] * 300_000}},
    ],
    ids=["fields", "objects", "items"],
)
@pytest.mark.parametrize("path", ["/api/estimate", "/api/experiments", "/api/sweeps", "/api/experiments/x/parcels"])
def test_a_body_of_more_values_than_are_looked_at_is_refused_unseen(
    client: httpx.Client, path: str, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong with each of them takes the whole process some 30 us to say, and the body may have 1 MB."""
    assert presets.items(), "each of which is a spec, too"
    for model in (ExperimentSpec, SweepDraft, NewParcel):
        monkeypatch.setattr(model, "model_validate", lambda *_: pytest.fail("it was looked at"))
    answer = client.post(path, json={"spec": document})
    assert answer.status_code == 422
    (problem,) = answer.json()["errors"]
    assert "more than" in problem["message"]
    with pytest.raises(InvalidInput, match="more than"):
        parse(document)


@pytest.mark.parametrize(
    "wrong",
    [{"classes": [1] * 90_000}, {"epochs": ["x"] * 90_000}, {"cells": [[1, 2, 3]] * 30_000}, {"copies": [{}] * 90_000}],
)
def test_of_an_ensemble_made_elsewhere_lists_end_with_the_first_wrong_item(wrong: dict[str, Any]) -> None:
    imported = {"digest": "0" * 64, "classes": [f"class {i}" for i in range(21_841)], "images": 10}
    document = {"source": "imported", "imported": imported}
    found = parse(document).imported
    assert found is not None
    assert len(found.classes) == 21_841, "as many as ImageNet has in all"
    with pytest.raises(ValidationError) as refused:
        ExperimentSpec.model_validate({**document, "imported": imported | wrong})
    assert refused.value.error_count() < 10


def bodies_that_are_read(routes: Iterable[Any]) -> Iterator[type[Body]]:
    for route in routes:
        if isinstance(route, APIRoute):
            yield from read_by(route)
        else:
            yield from bodies_that_are_read(getattr(getattr(route, "original_router", None), "routes", ()))


def findings(model: type[Body], document: Any) -> int:
    try:
        model.model_validate(document)
    except ValidationError as error:
        return error.error_count()
    return 0


@pytest.mark.slow
def test_no_body_has_more_findings_than_can_be_told_at_once(site: Served) -> None:
    """Of a thousand fields that nobody knows, and of as many items as it may have, each wrong, in every list of it."""
    models = set(bodies_that_are_read(site.app.routes))
    assert {LookAt, Import, NewMember, NewPoints, Weights, Draft} <= models
    unknown = {f"field {i}": 1 for i in range(900)}
    for model in sorted(models, key=str):
        for inner, size in (({}, 1), (1, 1), ("x", 1), (unknown, 901), ([unknown], 902), ({"x": [{}] * 900}, 902)):
            for name in model.model_fields:
                document = {name: [inner] * (model.most_values // size - 1)}
                check_size(document, "body", model.most_values)
                assert findings(model, document) <= 6_000, (model, document.keys())


@pytest.mark.parametrize("address", ["/api/experiments", "/", "/gallery", "/api/compare"])
def test_an_address_of_thousands_of_parameters_is_refused_at_once(client: httpx.Client, address: str) -> None:
    query = "&".join(f"z{i}=1" for i in range(7000))
    document = refused(client.get(f"{address}?{query}", timeout=5))
    assert document["status"] == 400


def test_allow_names_all_that_an_address_answers(client: httpx.Client) -> None:
    for address, allow in (
        ("/api/experiments", "GET, HEAD, POST"),
        ("/api/experiments/x", "DELETE, GET, HEAD, PATCH"),
        ("/api/uploads/" + "0" * 64, "DELETE, GET, HEAD, PUT"),
        ("/api/sweeps/x/cancel", "POST"),
        ("/api/sweeps/x/numbers", "GET, HEAD"),
        ("/api/imports/look", "POST"),
    ):
        answer = client.options(address)
        assert (answer.status_code, answer.headers["allow"]) == (405, allow), address
    assert client.post("/api/sweeps/x/numbers").status_code == 405
    assert client.post("/api/sweeps/x/explode").status_code == 404


def test_a_client_that_leaves_while_it_sends_is_no_failure(
    site: Served, client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", site.settings.port)) as connection:
            connection.sendall(b"POST /api/estimate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{")
    assert client.get("/healthz").status_code == 200
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


def test_after_all_this_nothing_was_stored(client: httpx.Client) -> None:
    for archived in ("false", "true"):
        assert client.get("/api/experiments", params={"archived": archived}).json()["total"] == 0
    assert [row["name"] for row in client.get("/api/data").json()["items"] if row["own"]] == []


def test_there_are_a_hundred_kinds() -> None:
    assert len(VALUES) + len(BODIES) + len(PATHS) + len(RAW) + len(QUERIES) + len(OPERATIONS) >= 100


@pytest.mark.slow
@pytest.mark.parametrize(
    "address",
    ["/api/experiments/a%00b", "/experiments/a%00b", "/compare?e=%00", "/api/experiments/%00/events", "/?q=%00",
     "/api/experiments?runs__gte=2147483648", "/api/experiments?q=%00", "/api/selections/%00",
     "/api/experiments/%ed%a0%80"],
)  # fmt: skip
def test_addresses_that_a_database_cannot_hold_are_not_our_failure(
    tmp_path: Path, store_url: str, address: str
) -> None:
    """PostgreSQL's text has no NUL and its integers have 32 bits."""
    with served(tmp_path, database_url=store_url) as site, site.client() as client:
        assert client.get(address).status_code < 500
