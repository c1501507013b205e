"""Ensembles made elsewhere through a running server: files sent in parts, read in another process, imported at once or
member by member, on both databases."""

from __future__ import annotations

import contextlib
import hashlib
import html
import io
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Page, expect, sync_playwright
from ports import free_port
from real_data import real
from safetensors.numpy import save
from serving import Served, mainly, served
from test_imported_files import REFUSED, SAFETENSORS, folder

import modescape as ms
from modescape import users
from modescape.acting import UserRole
from modescape.apart import Apart, Asked, Limits, Sent
from modescape.artifacts import Artifacts
from modescape.cli import main
from modescape.errors import Conflict, InvalidInput, LeaseLost
from modescape.executor import Executor
from modescape.exporting import ensemble_of
from modescape.forks import Readers
from modescape.laboratory import Lab, Laboratory
from modescape.records import StageOutput
from modescape.sending import ServerDoor, ServerRefused
from modescape.settings import Settings
from modescape.store import Store
from modescape.uploads import QuotaReached, Uploads

pytestmark = pytest.mark.usefixtures("few_redraws")

N, K, T = 500, 4, 4
Json = Any


def member(number: int, *, shape: tuple[int, ...] = (N, K)) -> NDArray[np.float32]:
    """Logits of one of many that know most classes and err apart."""
    rng = np.random.default_rng(100 + number)
    shared = np.random.default_rng(99).normal(size=(N, K))
    return (0.8 * shared + rng.normal(size=shape) + 2.0 * np.eye(K)[truth()]).astype(np.float32)


def truth() -> NDArray[np.int64]:
    return np.random.default_rng(98).integers(0, K, N)


def along(number: int) -> NDArray[np.float32]:
    """The same member while it was trained, [T, N, K]."""
    steps = np.random.default_rng(500 + number).normal(size=(T, N, K)) * 0.1
    return (member(number) + steps).astype(np.float32)


def npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Door:
    """A client of one server."""

    def __init__(self, site: Served) -> None:
        self.site, self.client = site, site.client()

    def send(self, content: bytes, name: str = "x.npy") -> Json:
        answer = self.client.put(f"/api/uploads/{sha(content)}", content=content)
        assert answer.status_code in (200, 201), answer.text
        return {"name": name, "sha256": sha(content)}

    def ensemble(self, members: int = 3) -> list[Json]:
        logits = np.stack([member(i) for i in range(members)])
        return [self.send(npy(logits), "e/preds.npy"), self.send(npy(truth()), "e/y.npy")]

    def opened(self, planned: int = 3, **more: Any) -> str:
        labels = self.send(npy(truth()))["sha256"]
        asked = {"name": "one by one", "planned": planned, "recipe": "same", "truth": {"test": labels}, **more}
        answer = self.client.post("/api/imports", json=asked)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def add(
        self, id_: str, number: int, content: NDArray[Any] | None = None, *, whole: bool = False, epochs: int = T
    ) -> httpx.Response:
        files = [self.send(npy(member(number) if content is None else content), "test.logits.npy")]
        if whole and epochs:
            files.append(self.send(npy(along(number)[:epochs]), "trajectory.test.logits.npy"))
            files.append(self.send(npy(np.arange(1.0, epochs + 1)), "trajectory.epochs.npy"))
        return self.client.put(f"/api/imports/{id_}/members/{number}", json={"files": files, "seed": number})

    def run(self, slug: str) -> Lab:
        laboratory: Laboratory = self.site.laboratory
        executor = Executor(laboratory.store, laboratory.artifacts, laboratory.settings)
        executor.run_experiment(laboratory.store.experiments.get(slug).id, progress=False)
        return Lab(laboratory, slug)


@pytest.fixture
def door(store_url: str, tmp_path: Path) -> Iterator[Door]:
    with served(tmp_path / "home", database_url=store_url) as site:
        yield Door(site)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """One server for what changes little in it."""
    with served(tmp_path_factory.mktemp("doors")) as site:
        yield Door(site)


class Process:
    """`modescape serve` in a process of its own, which may be killed and started again on the same home."""

    def __init__(self, home: Path, **changes: str) -> None:
        self.port = free_port()
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MODESCAPE_")},
            "MODESCAPE_HOME": str(home), "MODESCAPE_PORT": str(self.port), **changes,
        }  # fmt: skip
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "modescape.cli", "serve"]
        self.process = subprocess.Popen(command, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"{self.url}/healthz", timeout=5).raise_for_status()
                return
            except httpx.HTTPError:
                assert self.process.poll() is None, "the server did not start"
                assert time.monotonic() < deadline, "the server did not answer"
                time.sleep(0.1)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=120)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def largest(self) -> int:
        """Bytes of memory that it has held at most."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]


def sent(client: httpx.Client, path: Path) -> list[Json]:
    """A file, or those of a folder, sent as the page does."""
    found = []
    for one in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if one.is_file():
            content = one.read_bytes()
            answer = client.put(f"/api/uploads/{sha(content)}", content=content)
            assert answer.status_code in (200, 201), answer.text
            found.append(
                {"name": one.relative_to(path if path.is_dir() else path.parent).as_posix(), "sha256": sha(content)}
            )
    return found


# -- files in parts ----------------------------------------------------------------------------------------------------


def test_a_file_is_sent_in_parts_and_whole_when_its_digest_is_right(shared: Door) -> None:
    content = os.urandom(3_000_000)
    address, cuts = f"/api/uploads/{sha(content)}", [0, 1_200_000, 1_200_001, 3_000_000]
    assert shared.client.head(address).headers["upload-offset"] == "0"
    for first, end in itertools.pairwise(cuts):
        said = {"content-range": f"bytes {first}-{end - 1}/{len(content)}"}
        answer = shared.client.put(address, content=content[first:end], headers=said)
        assert answer.status_code == (201 if end == len(content) else 200)
        assert answer.json() == {"sha256": sha(content), "received": end, "complete": end == len(content)}
        assert shared.client.head(address).headers["upload-offset"] == str(end)
    assert shared.client.head(address).headers["upload-complete"] == "?1"
    again = shared.client.put(address, content=content)
    assert (again.status_code, again.json()["complete"]) == (200, True)
    assert shared.client.delete(address).status_code == 204
    assert shared.client.get(address).json()["received"] == 0


def test_what_came_before_a_connection_broke_stays(shared: Door) -> None:
    content = os.urandom(4_000_000)
    digest = sha(content)
    host, port = shared.site.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as line:
        head = f"PUT /api/uploads/{digest} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {len(content)}\r\n\r\n"
        line.sendall(head.encode())
        line.sendall(content[:2_500_000])
        deadline = time.monotonic() + 20
        while shared.client.get(f"/api/uploads/{digest}").json()["received"] < 2_500_000:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    while True:  # until the server has seen that the connection is gone
        here = shared.client.get(f"/api/uploads/{digest}").json()["received"]
        said = {"content-range": f"bytes {here}-{len(content) - 1}/{len(content)}"}
        answer = shared.client.put(f"/api/uploads/{digest}", content=content[here:], headers=said)
        if answer.status_code != 409:
            break
        assert time.monotonic() < deadline
    assert here == 2_500_000
    assert (answer.status_code, answer.json()["complete"]) == (201, True)


def test_bytes_that_are_not_what_their_digest_says_are_forgotten(shared: Door) -> None:
    digest = sha(b"something else")
    answer = shared.client.put(f"/api/uploads/{digest}", content=b"these bytes")
    assert answer.status_code == 422
    assert sha(b"these bytes") in answer.json()["detail"]
    assert answer.json()["errors"][0]["field"] == "sha256"
    assert shared.client.get(f"/api/uploads/{digest}").json()["received"] == 0


@pytest.mark.parametrize("said", ["bytes 5-2/10", "bytes 0-3/3", "lines 0-3/9", "bytes 0-3"])
def test_a_range_that_says_nothing_is_refused(shared: Door, said: str) -> None:
    answer = shared.client.put(f"/api/uploads/{'0' * 64}", content=b"abcd", headers={"content-range": said})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "Content-Range")


def test_bytes_from_the_wrong_place_are_refused_with_the_right_one(shared: Door) -> None:
    content = os.urandom(1000)
    address = f"/api/uploads/{sha(content)}"
    shared.client.put(address, content=content[:400], headers={"content-range": "bytes 0-399/1000"})
    answer = shared.client.put(address, content=content[500:], headers={"content-range": "bytes 500-999/1000"})
    assert answer.status_code == 409
    assert "go on at 400" in answer.json()["detail"]


def test_a_name_that_is_no_digest_reaches_no_file(shared: Door) -> None:
    for name in ("abc", "A" * 64, "..%2f..%2fetc%2fpasswd", "0" * 63 + "g"):
        assert shared.client.put(f"/api/uploads/{name}", content=b"x").status_code in (404, 422)


def test_what_exceeds_the_quota_is_refused_in_words_and_room_comes_back(tmp_path: Path) -> None:
    with served(tmp_path, upload_quota=0.001) as site, site.client() as client:
        small, large = os.urandom(600_000), os.urandom(600_000)
        assert client.put(f"/api/uploads/{sha(small)}", content=small).status_code == 201
        answer = client.put(f"/api/uploads/{sha(large)}", content=large)
        assert answer.status_code == 413
        assert "MODESCAPE_UPLOAD_QUOTA" in answer.json()["detail"]
        assert "0.6 MB are here" in answer.json()["detail"]
        client.delete(f"/api/uploads/{sha(small)}")
        assert client.put(f"/api/uploads/{sha(large)}", content=large).status_code == 201


@pytest.mark.slow
def test_of_six_that_are_sent_at_once_and_fit_one_by_one_one_is_taken(tmp_path: Path) -> None:
    begun = threading.Barrier(6)

    def slowly(content: bytes) -> Iterator[bytes]:
        yield content[:90_000]
        with contextlib.suppress(threading.BrokenBarrierError):
            begun.wait(1)  # none is whole before all have begun
        yield content[90_000:]

    def send(number: int) -> int:
        content = os.urandom(2_500_000)
        with site.client() as client:
            said = {"content-length": f"{len(content)}"}
            return client.put(f"/api/uploads/{sha(content)}", content=slowly(content), headers=said).status_code

    with served(tmp_path, upload_quota=3e-3) as site, ThreadPoolExecutor(6) as threads:
        assert sorted(threads.map(send, range(6))) == [201, *[413] * 5]


class SlowForm:
    """A form with a file of so many bytes that has begun to be sent, and goes on no further."""

    def __init__(self, site: Served, token: str, size: int) -> None:
        lead = b'--XX\r\nContent-Disposition: form-data; name="file"; filename="a.npy"\r\n\r\n'
        lines = (
            "POST /import HTTP/1.1", f"Host: 127.0.0.1:{site.settings.port}", f"Authorization: Bearer {token}",
            f"Origin: {site.url}", "Content-Type: multipart/form-data; boundary=XX", f"Content-Length: {size}", "", "",
        )  # fmt: skip
        self.connection = socket.create_connection(("127.0.0.1", site.settings.port))
        self.connection.sendall("\r\n".join(lines).encode() + lead + b"x" * 1000)

    def status(self) -> int:
        """What the server says while the form is not whole."""
        self.connection.settimeout(20)
        return int(self.connection.recv(4096).split()[1])


def test_forms_with_files_have_their_room_before_they_are_read(tmp_path: Path, wait_until: Any) -> None:
    with served(tmp_path, upload_quota=20e-3, token="a-secret-of-many-characters") as site:
        uploads, tokens = site.app.state.site.intake.uploads, {}
        for name in ("ann", "bob", "cleo"):
            site.laboratory.store.users.add(name, UserRole.RESEARCHER, None)
            tokens[name] = users.new_secret(users.TOKEN_PREFIX)
            site.laboratory.store.users.add_token(name, "t", users.digest(tokens[name]), None)

        def awaited() -> int:
            return sum(one.bytes + one.awaited for one in uploads.all())

        first = SlowForm(site, tokens["ann"], 6_000_000)
        wait_until(lambda: awaited() == 6_000_000, what="room for the first")
        assert SlowForm(site, tokens["ann"], 6_000_000).status() == 413, "half of the quota is one user's"
        second = SlowForm(site, tokens["bob"], 9_000_000)
        wait_until(lambda: awaited() == 15_000_000, what="room for the second")
        assert SlowForm(site, tokens["cleo"], 6_000_000).status() == 413, "and no more than the quota is everybody's"
        with site.client(headers={"Authorization": f"Bearer {tokens['cleo']}"}) as client:
            content = os.urandom(6_000_000)
            assert client.put(f"/api/uploads/{sha(content)}", content=content).status_code == 413
        for one in (first, second):
            one.connection.close()
        wait_until(lambda: awaited() == 0, what="all room")
        small = [SlowForm(site, tokens["ann"], 1_200_000) for _ in range(2)]
        wait_until(lambda: awaited() == 2_400_000, what="room for two")
        assert SlowForm(site, tokens["ann"], 1_200_000).status() == 409, "two at once are one user's"
        for one in small:
            one.connection.close()


def test_a_form_is_not_read_that_the_disk_has_no_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(tmp_path) as site, site.visitor() as visitor:
        file = {"file": ("a.npy", npy(truth()))}
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=10**9, free=5 * 10**7))
        assert visitor.post("/import", files=file).status_code == 507
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=10**9, free=6 * 10**7))
        assert visitor.post("/import", files=file).status_code == 422, "it has labels alone"


def test_what_is_announced_has_its_room_until_it_is_here_or_forgotten(tmp_path: Path) -> None:
    uploads, first, second = Uploads(tmp_path, quota=100), b"1" * 60, b"2" * 60

    def send(content: bytes, first: int, last: int) -> None:
        with uploads.receiving(sha(content), offset=first, total=60) as file:
            file.write(content[first:last])
        uploads.finish(sha(content), 60)

    send(first, 0, 10)
    assert [(one.bytes, one.awaited, one.complete) for one in uploads.all()] == [(10, 50, False)]
    uploads = Uploads(tmp_path, quota=100)  # of another process
    with pytest.raises(QuotaReached, match="announced"):
        send(second, 0, 60)
    send(first, 10, 60)
    assert [(one.bytes, one.awaited, one.complete) for one in uploads.all() if one.bytes] == [(60, 0, True)]
    uploads.forget(sha(first))
    send(second, 0, 10)
    uploads.forget(sha(second))
    send(first, 0, 60)


def test_what_nobody_goes_on_sending_is_swept_and_what_is_used_stays(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, quota=10_000)
    for content, end in ((b"whole", 5), (b"partial", 3)):
        with uploads.receiving(sha(content), offset=0, total=len(content)) as file:
            file.write(content[:end])
        uploads.finish(sha(content), len(content))
    day = 24 * 3600
    assert uploads.sweep(time.time() + 0.9 * day) == 0
    assert uploads.sweep(time.time() + 1.1 * day) == 3
    assert uploads.state(sha(b"whole")).complete
    assert uploads.sweep(time.time() + 8 * day) == 5


def test_what_was_made_something_of_stays_for_an_hour_unless_others_need_its_room(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, quota=100)

    def send(content: bytes) -> None:
        with uploads.receiving(sha(content), offset=0, total=len(content)) as file:
            file.write(content)
        uploads.finish(sha(content), len(content))

    first, second, third = b"1" * 40, b"2" * 40, b"3" * 40
    send(first)
    uploads.let_go(sha(first))
    assert uploads.path(sha(first)).read_bytes() == first, "asked for again it is as it was"
    uploads.let_go(sha(first))
    send(second)
    assert uploads.sweep(time.time() + 3500) == 0
    send(third)
    assert not uploads.state(sha(first)).complete
    assert uploads.state(sha(second)).complete
    uploads.let_go(sha(third))
    assert uploads.sweep(time.time() + 3700) == 40


def test_two_that_send_the_same_file_at_once_do_not_mix(tmp_path: Path) -> None:
    uploads, content = Uploads(tmp_path, quota=10_000), b"0123456789"
    with uploads.receiving(sha(content), offset=0, total=10) as file:
        file.write(content[:4])
        with (
            pytest.raises(Conflict, match="being sent by somebody else"),
            uploads.receiving(sha(content), offset=4, total=10),
        ):
            pass
        with pytest.raises(InvalidInput, match="more bytes than it announces"):
            file.write(b"4567890")
    assert uploads.state(sha(content)).received == 4


# -- what is in files is read elsewhere --------------------------------------------------------------------------------


def test_files_are_understood_and_what_only_the_user_knows_is_asked(shared: Door) -> None:
    found = shared.client.post("/api/imports/look", json={"files": shared.ensemble()}).json()
    assert found["may"] is True
    assert [(one["place"], one["shape"], one["labelled"]) for one in found["sets"]] == [("test", [3, N, K], True)]
    right = [float(np.mean(member(i).argmax(-1) == truth())) for i in range(3)]
    assert [one["accuracy"] for one in found["members"]] == pytest.approx(right)
    asked = next(one for one in found["odd"] if one["what"] == "recipe")
    assert [one["value"] for one in asked["choices"]] == ["same", "different", "unknown"]


def test_a_file_each_is_put_together_by_name_in_the_order_people_count(shared: Door) -> None:
    files = [shared.send(npy(member(i)), f"runs/run_{i}.npy") for i in (10, 2, 1)]
    files.append(shared.send(npy(truth()), "runs/t.npy"))
    found = shared.client.post("/api/imports/look", json={"files": files}).json()
    assert [one["id"] for one in found["members"]] == ["run_1", "run_2", "run_10"]
    two = [*files, shared.send(npy(truth()[::-1].copy()), "runs/z.npy")]
    asked = shared.client.post("/api/imports/look", json={"files": two}).json()
    assert asked["may"] is False
    assert [one["value"] for one in asked["odd"][0]["choices"]] == ["t", "z"]
    three = shared.client.post("/api/imports/look", json={"files": two, "labels": "t.npy"}).json()
    assert (three["may"], len(three["members"])) == (True, 3)


def test_labels_that_lie_elsewhere_on_the_server_are_not_opened(shared: Door, tmp_path: Path) -> None:
    np.save(tmp_path / "secret.npy", truth())
    outputs = np.stack([member(i) for i in range(3)])
    beside = shared.send(npy(outputs[:, :-1]), "e/other.npy")
    for files in ([shared.send(npy(outputs), "preds.npy")], [shared.send(npy(outputs), "e/preds.npy"), beside]):
        asked = {"files": files, "labels": str(tmp_path / "secret.npy")}
        answer = shared.client.post("/api/imports/look", json=asked)
        assert answer.status_code == 422 or answer.json()["may"] is False, answer.text
        missing = shared.client.post("/api/imports/look", json={**asked, "labels": str(tmp_path / "none.npy")})
        assert answer.text.replace("secret", "none") == missing.text, "nor is it told whether there is such a file"


@pytest.mark.slow
@pytest.mark.parametrize("form", ["folder", "zip", "npz", "a file a member"])
@pytest.mark.parametrize("field", ["labels", "outputs"])
def test_a_name_of_no_array_is_refused_with_those_that_are_there(shared: Door, form: str, field: str) -> None:
    arrays = {"preds": np.stack([member(i) for i in range(3)]), "y": truth()}
    if form == "a file a member":
        arrays = {**{f"m{i}": member(i) for i in range(3)}, "y": truth()}
    file = io.BytesIO()
    if form == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            for name, array in arrays.items():
                archive.writestr(f"{name}.npy", npy(array))
    else:
        np.savez(file, **arrays)
    packed = [shared.send(file.getvalue(), f"x.{form}")]
    files = packed if form in ("zip", "npz") else [shared.send(npy(one), f"e/{at}.npy") for at, one in arrays.items()]
    for path in ("/api/imports/look", "/api/imports"):
        answer = shared.client.post(path, json={"name": "x", "files": files, field: "gone"})
        assert answer.status_code == 422, answer.text
        (problem,) = answer.json()["errors"]
        assert problem["message"] == f"gone: no array of that name is there for {field}"
        assert problem["allowed"] == ", ".join(sorted(arrays))
        if path.endswith("look") and form != "a file a member":
            right = {"labels": "y.npy", "outputs": "preds.npy"}[field]
            answer = shared.client.post(path, json={"files": files, field: right})
            assert answer.json()["may"] is True, answer.text


def test_an_open_question_stops_an_import_and_its_answer_lets_it_in(shared: Door) -> None:
    rows = np.stack([member(i) for i in range(3)]).astype(np.float64)
    odds = np.exp(rows) / np.exp(rows).sum(-1, keepdims=True)
    files = [
        shared.send(npy(odds.astype(np.float32)), "test.logits.npy"), shared.send(npy(truth()), "test.labels.npy"),
    ]  # fmt: skip
    refused = shared.client.post("/api/imports", json={"name": "odds", "files": files})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "kind")
    let_in = shared.client.post("/api/imports", json={"name": "odds", "files": files, "kind": "probs"})
    assert let_in.status_code == 201
    assert let_in.json()["state"] == "sealed"


def odds_of(number: int) -> NDArray[np.float32]:
    rows = np.exp(member(number).astype(np.float64))
    return np.asarray(rows / rows.sum(-1, keepdims=True), np.float32)


def test_one_member_of_another_kind_than_was_declared_is_asked_about_by_name(shared: Door) -> None:
    outputs = np.stack([member(0), odds_of(1), member(2)])
    files = [shared.send(npy(outputs), "e/preds.npy"), shared.send(npy(truth()), "e/y.npy")]
    asked = {"name": "mixed", "files": files, "kind": "logits"}
    refused = shared.client.post("/api/imports", json=asked)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "mixed")
    assert refused.json()["errors"][0]["message"].startswith("Member 1: outputs on test were taken for logits")
    assert shared.client.post("/api/imports/look", json=asked).json()["may"] is False
    assert shared.client.post("/api/imports/look", json={**asked, "mixed": "keep"}).json()["may"] is True
    assert shared.client.post("/api/imports", json={**asked, "mixed": "keep"}).status_code == 201


def test_a_member_of_another_kind_than_those_before_it_is_told_what_to_send(shared: Door) -> None:
    id_ = shared.opened()
    path = f"/api/imports/{id_}/members"
    first = {"files": [shared.send(npy(odds_of(0)), "m.npy")], "kind": "probs"}
    assert shared.client.put(f"{path}/0", json=first).status_code == 201
    second = {"files": [shared.send(npy(member(1)), "m.npy")]}
    refused = shared.client.put(f"{path}/1", json=second)
    assert refused.status_code == 422
    (error,) = refused.json()["errors"]
    assert error == {
        "field": "1: kind", "allowed": "probs",
        "message": "its outputs were taken for logits, and those of the members before it for probabilities: send its "
        "probabilities, of these numbers z scipy.special.softmax(z, -1); or say kind probs where they are such already",
    }  # fmt: skip
    made = {"files": [shared.send(npy(odds_of(1)), "m.npy")]}
    assert shared.client.put(f"{path}/1", json=made).status_code == 201


def test_a_member_of_another_kind_than_was_declared_is_asked_about_when_it_comes(shared: Door) -> None:
    id_ = shared.opened(kind="logits")
    assert shared.add(id_, 0).status_code == 201
    files = [shared.send(npy(odds_of(1)), "test.logits.npy")]
    path = f"/api/imports/{id_}/members/1"
    refused = shared.client.put(path, json={"files": files})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "mixed")
    assert refused.json()["errors"][0]["message"].startswith("Member 1: outputs on test were taken for logits")
    assert len(shared.client.get(f"/api/imports/{id_}").json()["members"]) == 1
    other = shared.client.put(path, json={"files": files, "kind": "probs"})
    assert (other.status_code, other.json()["errors"][0]["field"]) == (422, "kind")
    assert shared.client.put(path, json={"files": files, "mixed": "keep"}).status_code == 201
    assert shared.client.put(path, json={"files": files, "mixed": "keep"}).status_code == 200
    more = {"files": [shared.send(npy(odds_of(2)), "test.logits.npy")], "kind": "logits"}
    assert shared.client.put(f"/api/imports/{id_}/members/2", json=more).status_code == 201
    sealed = shared.client.post(f"/api/imports/{id_}/seal").json()
    assert any(one["sentence"].startswith("Member 1: outputs on test were taken for logits") for one in sealed["odd"])


def test_temperatures_of_members_that_come_one_by_one_are_said_in_one_sentence(shared: Door) -> None:
    outputs = np.stack([member(number) * scale for number, scale in enumerate((9, 12, 1))])
    together = [shared.send(npy(outputs), "e/preds.npy"), shared.send(npy(truth()), "e/y.npy")]
    look = shared.client.post("/api/imports/look", json={"name": "hot", "files": together, "kind": "logits"}).json()
    id_ = shared.opened(kind="logits")
    for number, one in enumerate(outputs):
        assert shared.add(id_, number, one).status_code == 201
    sealed = shared.client.post(f"/api/imports/{id_}/seal").json()
    (told,), (of_all,) = ([one for one in found["odd"] if one["what"] == "temperature"] for found in (sealed, look))
    assert told["sentence"] == of_all["sentence"]
    assert told["sentence"].startswith("Members 0 and 1: the temperature that fits best is ")


def test_a_member_whose_kind_nobody_declared_says_it_itself(shared: Door) -> None:
    id_ = shared.opened()
    files = [shared.send(npy(odds_of(0).round(1)), "test.logits.npy")]
    refused = shared.client.put(f"/api/imports/{id_}/members/0", json={"files": files})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "kind")
    said = shared.client.put(f"/api/imports/{id_}/members/0", json={"files": files, "kind": "probs"})
    assert said.status_code == 201, said.text


@pytest.mark.parametrize("name", ["../evil.npy", "/etc/evil.npy", "a/../../evil.npy", "..\\evil.npy", "C:/evil.npy",
                                  "a\nb.npy", "x" * 400, "."])  # fmt: skip
def test_names_that_lead_out_are_refused_before_anything_is_read(shared: Door, name: str) -> None:
    files = [shared.send(npy(truth()), name), shared.send(npy(member(0)), "test.logits.npy")]
    answer = shared.client.post("/api/imports/look", json={"files": files})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"].startswith("files")
    assert not list(shared.site.settings.upload_folder.parent.rglob("evil*"))


def test_a_file_that_was_not_sent_is_named(shared: Door) -> None:
    answer = shared.client.post("/api/imports/look", json={"files": [{"name": "a.npz", "sha256": "0" * 64}]})
    assert answer.status_code == 404
    assert "PUT it to /api/uploads/" in answer.json()["detail"]


UNSENDABLE = {
    "nothing in it",
    "a link that leads out",
    "a folder that leads out",
    "a link to itself",
    "nothing of that name",
}


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    found = Process(tmp_path_factory.mktemp("process"))
    yield found
    found.kill()


@pytest.mark.slow
@pytest.mark.parametrize("case", sorted({*REFUSED, *(f"weights: {one}" for one in SAFETENSORS)} - UNSENDABLE))
def test_a_malformed_file_is_refused_in_words_and_the_server_lives_on(
    case: str, process: Process, tmp_path: Path
) -> None:
    weights = case.removeprefix("weights: ")
    if weights != case:
        data, words = SAFETENSORS[weights]
        path = folder(tmp_path, {"weights/0.safetensors": data})
    else:
        make, words = REFUSED[case]
        path = make(tmp_path)
    with process.client() as client:
        answer = client.post("/api/imports", json={"name": "x", "files": sent(client, path)})
        assert answer.status_code == 422, answer.text
        assert re.search(words, answer.json()["detail"]), answer.json()["detail"]
        assert "/reading/" not in answer.text, "where a server keeps files is its own affair"
        assert client.get("/api/imports").json()["items"] == []
        assert client.get("/healthz").status_code == 200
    assert process.largest() < 500e6


def test_an_archive_that_unpacks_to_a_hundred_gigabytes_is_refused_in_no_memory(shared: Door) -> None:
    """A terabyte promised by nested deflate would be more; a directory that lies is refused for what it says."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("test.labels.npy", npy(truth()))
        archive.writestr("test.logits.npy", bytes(10_000_000))
        entry = archive.getinfo("test.logits.npy")
        entry.file_size = 100 << 30  # what the directory says, in its extra field of ZIP64
    files = [shared.send(file.getvalue(), "bomb.npz")]
    answer = shared.client.post("/api/imports/look", json={"files": files})
    assert answer.status_code == 422, answer.text
    assert "bomb.npz" in answer.json()["detail"]


@pytest.fixture
def readers() -> Iterator[Readers]:
    found = Readers("modescape.reading_process")
    yield found
    found.end()


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["memory", "time", "death"])
def test_a_reading_process_that_goes_wrong_is_ended_and_said(
    harm: str, tmp_path: Path, readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that reads does another thing where it would limit itself: takes memory, sleeps, or is killed."""
    programs = {
        "memory": "setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)); bytes(4 << 30)",
        "time": "time.sleep(60)",
        "death": "os.kill(os.getpid(), 9)",
    }
    (tmp_path / "sitecustomize.py").write_text(
        "import os, resource, time\n"
        f"setrlimit = resource.setrlimit\ndef harm(*_):\n    {programs[harm]}\nresource.setrlimit = harm\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    limits = Limits(seconds=5 if harm == "time" else 60)
    reader = Apart(tmp_path / "uploads", Artifacts(tmp_path / "artifacts"), limits, readers)
    path = tmp_path / "y.npy"
    path.write_bytes(npy(truth()))
    said = {"memory": "failed", "time": "more than 5 seconds", "death": "SIGKILL"}[harm]
    for _ in range(2):
        with pytest.raises(InvalidInput, match=f"it could not be read: .*{said}"):
            reader.look([Sent("y.npy", path)], Asked())
    assert not list((tmp_path / "uploads" / "reading").iterdir()), "the folder it read is removed"


@pytest.mark.slow
def test_each_look_has_a_process_of_its_own_without_our_settings_and_one_that_somebody_ended_begins_again(
    tmp_path: Path, readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODESCAPE_TOKEN", "a secret of thirty-two characters")
    reader = Apart(tmp_path / "uploads", Artifacts(tmp_path / "artifacts"), readers=readers)
    path = tmp_path / "test.npz"
    np.savez(path, logits=np.stack([member(i) for i in range(3)]), labels=truth())
    first = reader.look([Sent("test.npz", path)], Asked())
    with readers.connected() as line:
        process = int(line.recv(100))
        assert os.getsid(process) == process != os.getsid(0)
        assert b"MODESCAPE_TOKEN" not in Path(f"/proc/{process}/environ").read_bytes()
    assert readers._process is not None
    readers._process.kill()
    readers._process.wait()
    assert reader.look([Sent("test.npz", path)], Asked()) == first


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "called"), [("three", "three"), ("a/../b.pt\n", "a-..-b.pt-"), ("..", "the files"), (None, "the files")]
)
def test_what_is_said_of_files_that_were_sent_calls_them_by_the_name_they_were_given(
    tmp_path: Path, readers: Readers, name: str | None, called: str
) -> None:
    np.save(tmp_path / "y.npy", truth())
    files = [Sent(f"run_{i}/notes.txt", tmp_path / "y.npy") for i in range(2)]
    reader = Apart(tmp_path / "uploads", Artifacts(tmp_path / "artifacts"), readers=readers)
    with pytest.raises(InvalidInput) as refused:
        reader.look(files, Asked(name=name))
    assert refused.value.problems[0].message.startswith(f"{called}: it holds run_0/notes.txt, run_1/notes.txt: no ")
    assert not list((tmp_path / "uploads" / "reading").iterdir())


def test_the_limit_of_memory_is_the_readers(tmp_path: Path) -> None:
    """With less than it has already, whatever it reads is too much that does not fit into what it has freed."""
    path = tmp_path / "test.npz"
    np.savez_compressed(path, logits=np.zeros((2, 1_000_000, K), np.float32), labels=np.zeros(1_000_000, np.int64))
    reader = Apart(tmp_path / "uploads", Artifacts(tmp_path / "artifacts"), Limits(memory=1 << 20))
    with pytest.raises(InvalidInput, match=r"could not be read|more memory") as refused:
        reader.look([Sent("test.npz", path)], Asked())
    assert "MODESCAPE_IMPORT_MEMORY" in refused.value.problems[0].allowed


# -- at once -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@mainly("sqlite")
def test_an_archive_becomes_the_experiment_that_python_makes_of_the_same_arrays(door: Door, tmp_path: Path) -> None:
    files = door.ensemble()
    asked = {"name": "three", "files": files, "recipe": "same", "notes": "from a cluster", "tags": ["wrn"], "by": "me"}
    answer = door.client.post("/api/imports", json=asked, headers={"idempotency-key": "k1"})
    assert answer.status_code == 201, answer.text
    found = answer.json()
    assert (found["state"], found["here"], found["planned"]) == ("sealed", 3, 3)
    again = door.client.post("/api/imports", json=asked, headers={"idempotency-key": "k1"})
    assert (again.status_code, again.json()["id"]) == (201, found["id"])
    other = door.client.post("/api/imports", json={**asked, "recipe": "unknown"}, headers={"idempotency-key": "k1"})
    assert other.status_code == 409
    lab = door.run(found["experiment"])
    logits = np.stack([member(i) for i in range(3)])
    same = ms.analyse(logits, truth(), recipe="same", folder=tmp_path / "python", progress=False)
    assert lab.experiment.spec["imported"]["digest"] == same.experiment.spec["imported"]["digest"]
    assert lab.sentence() == same.sentence()
    origin = lab.experiment.provenance
    assert {one["sha256"] for one in origin["files"]} == {one["sha256"] for one in files}
    assert (origin["by"], origin["members"][2]["id"]) == ("me", "2")
    assert door.site.laboratory.store.gatherings.get(found["id"]).sealed
    twice = door.client.post("/api/imports", json={**asked, "name": "three again"})
    assert twice.status_code == 201, "the files are there for whoever asks again"


@pytest.mark.slow
@pytest.mark.parametrize("key", [{"idempotency-key": "once"}, {}])
def test_the_same_import_asked_for_four_times_at_once(door: Door, key: dict[str, str]) -> None:
    asked = {"name": "four", "files": door.ensemble(), "recipe": "same"}

    def ask(_: int) -> Json:
        with door.site.client() as client:
            answer = client.post("/api/imports", json=asked, headers=key)
        assert answer.status_code == 201, answer.text
        found: Json = answer.json()
        return found

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(4)))
    assert {(one["here"], one["planned"], one["state"]) for one in answers} == {(3, 3, "sealed")}
    made = door.client.get("/api/experiments").json()["items"]
    assert len(made) == len({one["experiment"] for one in answers}) == (1 if key else 4)
    assert {one["runs"] for one in made} == {3}


def test_two_ensembles_on_the_same_data_are_no_looks_at_each_other(shared: Door) -> None:
    looks = []
    for seed in (0, 5):
        logits = np.stack([member(seed + i) for i in range(3)])
        files = [shared.send(npy(logits), "p.npy"), shared.send(npy(truth()), "y.npy")]
        made = shared.client.post("/api/imports", json={"name": f"of {seed}", "files": files}).json()
        looks.append(shared.site.laboratory.store.experiments.get(made["experiment"]))
    assert looks[0].recipe != looks[1].recipe
    assert looks[1].earlier == []


# -- member by member --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@mainly("postgres")
def test_before_the_seal_there_are_numbers_and_no_word_and_sealing_is_the_first_look(door: Door) -> None:
    id_ = door.opened(planned=4)
    for i in range(3):
        assert door.add(id_, i, whole=True).status_code == 201
    made = door.client.get(f"/api/imports/{id_}").json()
    assert (made["state"], made["here"], made["planned"]) == ("open", 3, 4)
    slug = made["experiment"]
    lab = door.run(slug)
    document = door.client.get(f"/api/experiments/{slug}").json()
    assert document["verdict"].startswith("So far, 3 of 4 members")
    claims = document["findings"]["claims"]
    assert "b" in {one["id"] for one in claims}
    for one in claims:
        assert one["word"] is None  # none is said before the seal
        assert one["p"] is None
        assert (one["survives"], one["tested"], one["at_look"]["word"]) == (False, 0, None)
        assert "so far, 3 of 4 members" in one["because"]
    assert all(one["low"] < one["estimate"] < one["high"] for one in claims if one["id"] == "b")
    page = door.client.get(f"/experiments/{slug}").text
    assert "So far, 3 of 4 members" in page
    rows = page[page.index('<tbody role="rowgroup"') : page.index('id="spec"')]
    words = {one.strip() for one in re.findall(r">([^<>]*)<", rows)}
    assert not words & {"holds", "does not hold", "cannot tell", "with all tests at once"}
    assert "so far, 3 of 4 members" in words
    assert all(method["estimate"] is None or method["estimate"]["p_holds"] is None
               for one in claims for method in one["methods"]), "no test of a method either"  # fmt: skip
    asked = {"fields": "slug,result.claims.b.word,result.claims.b.p,result.claims.b.estimate"}
    (row,) = door.client.get("/api/experiments", params=asked).json()["items"]
    values = [row[f"result.claims.b.{name}"] for name in ("word", "p", "estimate")]
    assert (values[:2], values[2] is not None) == ([None, None], True)
    for shown in (repr(ms.connect(door.site.url).experiment(slug)), repr(lab)):
        assert "no word yet" in shown
        assert not re.search(r"\bholds\b|does not hold|cannot tell", shown)
    twin = door.opened(planned=4, recipe="different")
    for i in range(3):
        door.add(twin, i, whole=True)
    other = door.client.get(f"/api/imports/{twin}").json()["experiment"]
    door.run(other)
    compared = door.client.get("/api/compare", params=[("e", slug), ("e", other)]).json()
    assert {answer["word"] for one in compared["claims"] for answer in one["answers"] if answer} == {
        "so far, 3 of 4 members"
    }
    differences = [one["differences"][1] for one in compared["numbers"] if one["differences"][1] is not None]
    assert differences
    assert all(one["low"] is None for one in differences), "these are the same functions"
    assert all(one["values"][1] is None or one["values"][1]["low"] is None for one in compared["numbers"]), (
        "members of another recipe have no spread"
    )
    drawn = [one["name"] for one in door.client.get(f"/api/experiments/{slug}/figures").json()["items"]]
    for name in drawn:
        table = door.client.get(f"/api/experiments/{slug}/figures/{name}?format=csv")
        assert not re.search(r"\bholds\b|does not hold", table.text), name

    assert door.add(id_, 3, whole=True).status_code == 201
    sealed = door.client.post(f"/api/imports/{id_}/seal").json()
    assert (sealed["state"], sealed["experiment"], sealed["looks"]) == ("sealed", slug, [slug])
    assert door.client.post(f"/api/imports/{id_}/seal").json() == sealed
    lab = door.run(slug)
    words = {one.record.id: one.record.word for one in lab.claims()}
    logits, steps = np.stack([member(i) for i in range(4)]), np.stack([along(i) for i in range(4)])
    at_once = ms.analyse(logits, truth(), recipe="same", trajectory=(np.arange(1.0, T + 1), steps), progress=False)
    assert words == {one.record.id: one.record.word for one in at_once.claims()}
    assert "holds" in words.values()
    assert door.site.laboratory.look(lab.experiment).number == 1


@pytest.mark.slow
@mainly("postgres")
def test_reopened_it_goes_on_as_another_experiment_which_is_the_second_look(door: Door) -> None:
    id_ = door.opened(planned=3)
    for i in range(3):
        door.add(id_, i, whole=True)
    first = door.client.post(f"/api/imports/{id_}/seal").json()["experiment"]
    before = door.run(first).sentence()
    assert door.add(id_, 3, whole=True).status_code == 409
    assert door.client.post(f"/api/imports/{id_}/reopen", json={"planned": 3}).status_code == 422
    assert door.client.post(f"/api/imports/{id_}/reopen", json={"planned": 5}).json()["state"] == "open"
    added = door.add(id_, 3, whole=True)
    assert added.status_code == 201
    second = added.json()["experiment"]
    assert second != first
    assert door.run(first).sentence() == before
    assert door.run(second).sentence().startswith("So far, 4 of 5")
    waits = door.client.get(f"/api/experiments/{second}").json()["look"]
    assert (waits["number"], waits["planned"], waits["first"], waits["has_begun"]) == (2, 5, 3, False)
    assert waits["level_spent_at_most"] == pytest.approx(0.05), "a look comes with its seal"
    page = door.client.get(f"/experiments/{second}").text
    assert "Sealed, this will be look 2" in page
    assert "at 2.5 %: " in page
    assert not re.search(r"at 2\.5 %: (cannot tell|holds|does not hold)", page)
    assert door.client.post(f"/api/imports/{id_}/seal").json()["looks"] == [first, second]
    lab = door.run(second)
    look = door.site.laboratory.look(lab.experiment)
    assert (look.number, look.planned, look.runs, look.spent) == (2, 5, 4, pytest.approx(0.1))
    assert [one["slug"] for one in look.earlier] == [first]
    page = html.unescape(door.client.get(f"/experiments/{second}").text)
    early = "5 members were planned and 4 came, so which are missing may depend on what was seen of these"
    assert early in page
    assert "3 members were promised at the first launch, 5 when more were awaited" in page
    assert "4 here" not in page
    assert early in "".join(one["sentence"] for one in door.client.get(f"/api/experiments/{second}").json()["odd"])
    for shown in (ms.connect(door.site.url).experiment(second), lab):
        lines = repr(shown).splitlines()
        assert lines[1].startswith("Sealed early, with 4 of 5 members: members are different functions (b).")
        assert any(early in line for line in lines)
        starred = any(" * " in line or " *," in line for line in lines if line.startswith("("))
        assert starred == any(line.startswith("* with Holm's correction") for line in lines)


@pytest.mark.slow
def test_the_same_member_again_changes_nothing_and_another_of_its_id_is_refused(door: Door) -> None:
    id_ = door.opened(planned=2)
    first = door.add(id_, 0)
    again = door.add(id_, 0)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    other = door.add(id_, 0, member(7))
    assert other.status_code == 409
    assert "'0' is here already, of other content" in other.json()["detail"]
    door.add(id_, 1)
    more = door.add(id_, 2)
    assert (more.status_code, "2 members were planned" in more.json()["detail"]) == (409, True)


def test_a_member_that_does_not_fit_is_refused_by_what_differs(shared: Door) -> None:
    id_ = shared.opened(planned=3)
    shared.add(id_, 0)
    fewer = shared.add(id_, 1, member(1)[:, :3])
    assert fewer.status_code == 422, fewer.text
    files = [shared.send(npy(member(1)), "test.logits.npy"), shared.send(npy(member(3)[:50]), "ood/svhn.logits.npy")]
    other = shared.client.put(f"/api/imports/{id_}/members/1", json={"files": files})
    assert other.status_code == 422
    assert "ood/svhn" in other.json()["detail"]
    assert shared.client.get(f"/api/imports/{id_}").json()["here"] == 1


@pytest.mark.slow
@pytest.mark.parametrize(("who", "fewer"), [(1, 1), (0, 0), (2, 0)])
def test_a_member_that_stopped_early_costs_the_trajectory_and_nothing_else(
    door: Door, who: int, fewer: int, tmp_path: Path
) -> None:
    id_ = door.opened(planned=3)
    for number in range(3):
        answer = door.add(id_, number, whole=True, epochs=fewer if number == who else T)
        assert answer.status_code == 201, answer.text
    sealed = door.client.post(f"/api/imports/{id_}/seal").json()
    assert (sealed["state"], sealed["here"]) == ("sealed", 3)
    (told,) = [one for one in sealed["odd"] if one["what"] == "trajectory"]
    assert told["level"] == "left-out"
    assert told["sentence"].startswith("Checkpoints of training are left out")
    lab = door.run(sealed["experiment"])
    assert [stage.error for stage in lab.stages if stage.state != "succeeded"] == []
    without = ms.analyse(
        np.stack([member(i) for i in range(3)]), truth(), recipe="same", folder=tmp_path / "here", progress=False
    )
    measured = [{(m.metric, m.subject): m.value for m in one.measurements()} for one in (lab, without)]
    assert measured[0] == measured[1] != {}
    out = ensemble_of(lab.laboratory.results(lab.experiment.slug))
    assert out.trajectory is None
    assert out.left_out == ("what checkpoints of other epochs said",)
    assert np.array_equal(out.test.outputs.read(), np.stack([member(i) for i in range(3)]))
    page = door.client.get(f"/experiments/{sealed['experiment']}").text
    assert "Checkpoints of training are left out" in page


def test_a_members_outputs_of_another_shape_are_refused_in_the_words_of_one_member(shared: Door) -> None:
    id_ = shared.opened(planned=3)
    sigmoid = shared.add(id_, 0, 1 / (1 + np.exp(-member(0)[:, 0])))
    assert sigmoid.status_code == 422
    (error,) = sigmoid.json()["errors"]
    assert error["allowed"].startswith("[examples, classes]; one number an example, of a sigmoid")
    assert "np.stack([1 - p, p], -1)" in error["allowed"]
    named = shared.client.put(
        f"/api/imports/{id_}/members/0",
        json={"files": [shared.send(npy(member(0)), "test.logits.npy"),
                        shared.send(npy(member(0)[:, 0]), "samples/swag/test.logits.npy")]},
    )  # fmt: skip
    assert named.json()["errors"][0]["allowed"].startswith("[samples or checkpoints, examples, classes]")


@pytest.mark.slow
def test_weights_of_members_that_came_one_by_one_are_told_of_when_all_are_there(door: Door) -> None:
    id_ = door.opened(planned=2)
    for number in range(2):
        tensors = {"stem": np.ones((2, 2), np.float32), "head": np.ones((3 + number, 2), np.float32)}
        files = [door.send(npy(member(number)), "test.logits.npy"), door.send(save(tensors), "weights.safetensors")]
        answer = door.client.put(f"/api/imports/{id_}/members/{number}", json={"files": files})
        assert answer.status_code in (200, 201), answer.text
        assert not [one for one in answer.json()["odd"] if one["what"] == "weights"]
    sealed = door.client.post(f"/api/imports/{id_}/seal").json()
    (told,) = [one["sentence"] for one in sealed["odd"] if one["what"] == "weights"]
    assert told.endswith("Left out: head, [3, 2] of member 0 and [4, 2] of member 1")


def test_an_entry_that_is_wrong_is_the_one_thing_that_is_wrong(shared: Door) -> None:
    answer = shared.client.post("/api/imports/weights", json={
        "name": "x", "architecture": "mlp", "data": "digits", "files": [{"name": "a.safetensors", "sha256": "zz"}],
    })  # fmt: skip
    assert [one["field"] for one in answer.json()["errors"]] == ["files.0.sha256"]


@pytest.mark.slow
def test_a_copy_of_an_earlier_member_is_left_out_and_said(shared: Door) -> None:
    id_ = shared.opened(planned=3)
    for i, content in enumerate((member(0), member(1), member(0))):
        shared.add(id_, i, content)
    shared.client.post(f"/api/imports/{id_}/seal")
    slug = shared.client.get(f"/api/imports/{id_}").json()["experiment"]
    spec = shared.client.get(f"/api/experiments/{slug}").json()["spec"]
    assert spec["imported"]["copies"] == [2]
    lab = shared.run(slug)
    assert "equals an earlier member" in str(lab.failed[2])
    assert any("equal to member 0" in one["sentence"] for one in lab.experiment.provenance["odd"])


@pytest.mark.slow
def test_members_that_come_at_the_same_moment_are_all_there(door: Door) -> None:
    id_ = door.opened(planned=6)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda i: door.add(id_, i).status_code, range(6)))
    assert answers == [201] * 6
    found = door.client.get(f"/api/imports/{id_}").json()
    assert sorted(one["id"] for one in found["members"]) == [str(i) for i in range(6)]
    lab = door.run(found["experiment"])
    assert lab.sentence().startswith("So far, 6 of 6")


@pytest.mark.slow
def test_what_was_read_of_earlier_members_is_not_read_again(shared: Door) -> None:
    id_ = shared.opened(planned=3)
    for i in range(2):
        shared.add(id_, i)
    slug = shared.client.get(f"/api/imports/{id_}").json()["experiment"]
    shared.run(slug)
    store = shared.site.laboratory.store
    before = {one.key: one.finished_at for one in store.stages.of(slug) if one.kind == "predict"}
    shared.add(id_, 2)
    shared.run(slug)
    after = {one.key: one.finished_at for one in store.stages.of(slug) if one.kind == "predict"}
    assert {key: after[key] for key in before} == before
    assert len(after) == 3


@pytest.mark.slow
def test_a_worker_whose_plan_was_replaced_changes_nothing(store: Store, tmp_path: Path) -> None:
    with served(tmp_path / "home", database_url=str(store.url)) as site:
        door = Door(site)
        id_ = door.opened(planned=3)
        for i in range(2):
            door.add(id_, i)
        experiment = store.experiments.get(door.client.get(f"/api/imports/{id_}").json()["experiment"])
        lease = store.leases.claim("slow", experiment_id=experiment.id)
        assert lease is not None
        door.add(id_, 2)
        with pytest.raises(LeaseLost):
            store.leases.finish(lease, StageOutput(), "0" * 64)
        assert door.run(experiment.slug).sentence().startswith("So far, 3 of 3")


@pytest.mark.slow
def test_an_import_without_members_can_be_forgotten_and_one_with_them_goes_with_its_experiment(door: Door) -> None:
    empty, filled = door.opened(), door.opened()
    door.add(filled, 0)
    assert door.client.post(f"/api/imports/{empty}/seal").status_code == 409
    assert door.client.delete(f"/api/imports/{empty}").status_code == 204
    assert door.client.get(f"/api/imports/{empty}").status_code == 404
    assert door.client.delete(f"/api/imports/{filled}").status_code == 409
    slug = door.client.get(f"/api/imports/{filled}").json()["experiment"]
    store = door.site.laboratory.store
    store.experiments.archive(slug)
    store.experiments.purge(slug)
    assert door.client.get(f"/api/imports/{filled}").status_code == 404


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"name": "x"}, "files"),
        ({"name": "x", "planned": 0}, "planned"),
        ({"name": "x", "planned": 3, "truth": {"ood": "0" * 64}}, "truth"),
        ({"name": "x", "planned": 3, "kind": "scores"}, "kind"),
        ({"name": "", "planned": 3}, "name"),
        ({"name": "x", "planned": 3, "colour": "red"}, "colour"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_its_field(shared: Door, asked: Json, field: str) -> None:
    answer = shared.client.post("/api/imports", json=asked)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"].startswith(field)


@pytest.mark.slow
@pytest.mark.parametrize("members", [2, pytest.param(4, marks=pytest.mark.check)])
def test_a_server_killed_at_any_moment_loses_no_member(tmp_path: Path, members: int) -> None:
    """Each member is sent twice: by a request in which the server is killed, later each time, and by one after it."""
    process = Process(tmp_path / "home")
    try:

        def put(i: int) -> httpx.Response:
            content = npy(member(i))
            with process.client() as client:
                if not client.get(f"/api/uploads/{sha(content)}").json()["complete"]:
                    client.put(f"/api/uploads/{sha(content)}", content=content)
                files = [{"name": "m.npy", "sha256": sha(content)}]
                return client.put(f"/api/imports/{id_}/members/{i}", json={"files": files})

        def put_into_the_dark(i: int) -> None:
            with contextlib.suppress(httpx.HTTPError):
                put(i)

        with process.client() as client:
            labels = npy(truth())
            client.put(f"/api/uploads/{sha(labels)}", content=labels)
            asked = {"name": "killed", "planned": members, "recipe": "same", "truth": {"test": sha(labels)}}
            id_ = client.post("/api/imports", json=asked).json()["id"]
        begun = time.monotonic()
        assert put(0).status_code == 201
        usual = time.monotonic() - begun
        for i in range(1, members):
            sender = threading.Thread(target=put_into_the_dark, args=(i,))
            sender.start()
            time.sleep(usual * i / members)
            process.kill()
            sender.join()
            process.start()
            assert put(i).status_code in (200, 201)
        with process.client() as client:
            found = client.post(f"/api/imports/{id_}/seal").json()
        process.kill()
        assert [one["id"] for one in found["members"]] == [str(i) for i in range(members)]
        assert found["state"] == "sealed"
        laboratory = Laboratory(Settings(home=tmp_path / "home"))
        Executor(laboratory.store, laboratory.artifacts, laboratory.settings).run_experiment(
            laboratory.store.experiments.get(found["experiment"]).id, progress=False
        )
        lab = Lab(laboratory, found["experiment"])
        at_once = ms.analyse(np.stack([member(i) for i in range(members)]), truth(), recipe="same", progress=False)
        assert lab.sentence() == at_once.sentence()
        laboratory.store.close()
    finally:
        process.kill()


@pytest.mark.slow
def test_of_one_member_is_said_what_is_known_and_that_it_cannot_be_compared(shared: Door) -> None:
    files = [shared.send(npy(member(0)), "e/preds.npy"), shared.send(npy(truth()), "e/y.npy")]
    look = shared.client.post("/api/imports/look", json={"files": files}).json()
    (told,) = [one for one in look["odd"] if one["what"] == "alone"]
    assert (told["level"], "which can be compared with nothing" in told["sentence"]) == ("told", True)
    assert look["may"], "nothing is asked of it"
    slug = shared.client.post("/api/imports", json={"name": "one", "files": files}).json()["experiment"]
    shared.run(slug)
    page = " ".join(html.unescape(re.sub("<[^>]+>", " ", shared.client.get(f"/experiments/{slug}").text)).split())
    right = f"right on {100 * float(np.mean(member(0).argmax(-1) == truth())):.2f}"
    assert re.search(rf"One member, {right}\s% of the test images\.", page)
    assert page.count("One member alone is compared with nothing.") == 1
    assert "needs 3 or more members" in page
    for name in ("tsne-trajectories", "similarity-runs"):
        answer = shared.client.get(f"/api/experiments/{slug}/figures/{name}.json")
        assert answer.status_code == 409, name
    drawn = shared.client.get(f"/api/experiments/{slug}/figures/tsne-trajectories.json?layout=pca").json()
    assert "a map needs two functions" in drawn["detail"]
    assert "Joint" not in page


def test_that_a_member_is_alone_is_said_of_no_piece_of_an_ensemble(shared: Door) -> None:
    id_ = shared.opened(planned=3)
    for i in range(2):
        odd = shared.add(id_, i).json()["odd"]
        assert "alone" not in [one["what"] for one in odd], i
    early = shared.opened(planned=3, name="sealed with one")
    shared.add(early, 0)
    odd = shared.client.post(f"/api/imports/{early}/seal").json()["odd"]
    assert "alone" in [one["what"] for one in odd]


# -- the page ----------------------------------------------------------------------------------------------------------


def hidden(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found is not None, f"the page has no field {name}"
    return html.unescape(found[1])


def test_the_page_takes_one_file_without_a_script(shared: Door) -> None:
    file = io.BytesIO()
    np.savez(file, preds=np.stack([member(i) for i in range(3)]), y=truth())
    with shared.site.visitor() as visitor:
        assert 'href="/import" aria-current="page"' in visitor.get("/import").text
        seen = visitor.post("/import", files={"file": ("wrn.npz", file.getvalue())}, data={"files": ""})
        assert seen.status_code == 200, seen.text
        assert "3 members" in " ".join(seen.text.split())
        assert "Are the members of one recipe" in seen.text
        form = {name: hidden(seen.text, name) for name in ("files", "key")}
        asked = {**form, "recipe": "same", "kind": "logits", "name": "by the page", "do": "import"}
        made = [visitor.post("/import", data=asked) for _ in range(2)]
        assert [one.status_code for one in made] == [303, 303]
        assert made[0].headers["location"] == made[1].headers["location"], "pressed twice it is one experiment"
        page = visitor.get(made[0].headers["location"]).text
    assert sha(file.getvalue()) in page
    assert "one recipe, different seeds" in page


def test_the_page_keeps_what_lacks_labels_and_takes_them_beside_it(shared: Door) -> None:
    files = [shared.send(npy(member(i)), f"run_{i}.npy") for i in range(3)]
    with shared.site.visitor() as visitor:
        refused = visitor.post("/import", data={"files": json.dumps(files)})
        assert refused.status_code == 422
        said = " ".join(html.unescape(re.sub("<[^>]+>", " ", refused.text)).split())
        assert "the true labels are missing: run_0 float32 [500, 4]" in said
        assert "Sent, and kept: run_0.npy, run_1.npy, run_2.npy. Add what is missing" in said
        kept = hidden(refused.text, "files")
        assert json.loads(kept) == files
        seen = visitor.post("/import", files={"file": ("y.npy", npy(truth()))}, data={"files": kept})
        assert "3 members" in " ".join(seen.text.split())
        empty = visitor.post("/import", files={"file": ("runs.pkl", b"x")}).text
        assert 'id="kept"' not in empty, "of what cannot be read nothing is kept"


@pytest.mark.slow
def test_a_browser_adds_labels_to_files_that_were_dropped_without(tmp_path: Path) -> None:
    program = shutil.which("chromium")
    assert program is not None, "sudo apt-get install chromium"
    with sync_playwright() as playwright, served(tmp_path / "home") as site:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.goto(f"{site.url}/import")
        runs = [{"name": f"run_{i}.npy", "mimeType": "", "buffer": npy(member(i))} for i in range(4)]
        page.set_input_files("#file", runs)
        page.wait_for_selector("#kept", timeout=60_000)
        page.set_input_files("#file", [{"name": "y.npy", "mimeType": "", "buffer": npy(truth())}])
        page.wait_for_selector("#understood", timeout=60_000)
        assert "4 members, logits, 4 classes" in " ".join(page.inner_text("main").split())
        browser.close()


def test_accuracies_are_those_of_the_answer_about_the_order_of_classes(shared: Door) -> None:
    """Columns turned by one place: what was right on most is right on few until they are turned back."""
    turned = np.roll(np.stack([member(i) for i in range(3)]), 1, axis=-1)
    files = [shared.send(npy(turned), "e/preds.npy"), shared.send(npy(truth()), "e/y.npy")]
    straight = [float(np.mean(member(i).argmax(-1) == truth())) for i in range(3)]
    for answer, right in ((None, None), ("apply", straight), ("keep", None)):
        asked = {"files": files, "kind": "logits", "recipe": "same", "permutation": answer}
        look = shared.client.post("/api/imports/look", json=asked).json()
        told = [one["accuracy"] for one in look["members"]]
        assert told == pytest.approx(right) if right else max(told) < 0.3, answer
        assert "permutation" in [one["what"] for one in look["odd"]], "it can be answered otherwise"
        assert ("temperature" in [one["what"] for one in look["odd"]]) == (answer == "keep"), answer
        assert look["may"] == (answer is not None)


def test_the_page_says_what_is_wrong_and_keeps_what_was_sent(shared: Door) -> None:
    rows = np.stack([member(i) for i in range(3)]).astype(np.float64)
    odds = (np.exp(rows) / np.exp(rows).sum(-1, keepdims=True)).astype(np.float32)
    files = [shared.send(npy(odds), "test.logits.npy"), shared.send(npy(truth()), "test.labels.npy")]
    with shared.site.visitor() as visitor:
        empty = visitor.post("/import", data={"files": ""})
        assert (empty.status_code, "choose a file" in empty.text) == (422, True)
        pickled = visitor.post("/import", files={"file": ("runs.pkl", b"x")})
        assert (pickled.status_code, "it is a pickle" in pickled.text) == (422, True)
        asked = {"files": json.dumps(files), "name": "odds", "do": "import"}
        refused = visitor.post("/import", data=asked)
        assert refused.status_code == 422
        assert 'name="kind" value="probs"' in " ".join(refused.text.split())
        assert json.loads(hidden(refused.text, "files")) == files
        forged = visitor.post("/import", data=asked, headers={"Origin": "https://elsewhere.example"})
        assert forged.status_code == 403


def test_the_page_of_a_growing_experiment_seals_and_reopens_it(shared: Door) -> None:
    id_ = shared.opened(planned=3)
    for i in range(2):
        shared.add(id_, i)
    slug = shared.client.get(f"/api/imports/{id_}").json()["experiment"]
    with shared.site.visitor() as visitor:
        assert "Seal with 2 of 3" in visitor.get(f"/experiments/{slug}").text
        waiting = " ".join(re.sub("<[^>]+>", "", visitor.get("/import").text).split())
        assert re.search(r"\S · 2 of 3 ", waiting), "a name that ends in a digit stays apart from the count"
        assert "one by one" in waiting
        assert visitor.post(f"/imports/{id_}/seal").headers["location"] == f"/experiments/{slug}"
        page = visitor.get(f"/experiments/{slug}").text
        assert "Seal" not in page
        assert "Sealed early" not in page, "there are no claims yet, in which it would stand"
        said = "3 members were planned and 2 came"
        assert said in page
        assert visitor.post(f"/imports/{id_}/reopen", data={"planned": 4}).status_code == 303
    assert shared.client.get(f"/api/imports/{id_}").json()["state"] == "open"


@pytest.mark.slow
def test_a_page_tells_a_reopened_ensemble_as_it_stands_before_anything_is_judged(door: Door) -> None:
    def said(slug: str) -> str:
        page = door.client.get(f"/experiments/{slug}").text
        part = page[page.index('id="live-growing"') : page.index('id="live-verdict"')]
        return " ".join(re.sub("<[^>]+>", "", part).split())

    def told(slug: str, after: int) -> list[str]:
        id_ = door.site.laboratory.store.experiments.get(slug).id
        return [one.kind for one in door.site.laboratory.store.events.after(after, experiment_id=id_)]

    id_ = door.opened(planned=4)
    for i in range(2):
        door.add(id_, i, whole=True)
    first = door.client.post(f"/api/imports/{id_}/seal").json()["experiment"]
    door.run(first)
    last = door.site.laboratory.store.events.last_id
    at = last()
    door.client.post(f"/api/imports/{id_}/reopen", json={"planned": 5}).raise_for_status()
    assert told(first, at) == ["changed"]
    assert "Reopened, 2 of 5 members" in said(first)
    assert "What is below stays as it was sealed" in said(first)
    assert "Seal with 2 of 5" in said(first)
    assert "the page will say that 5 were planned" in said(first)
    assert "nothing is tested" not in said(first)
    assert "4 were planned" not in said(first)
    at = last()
    again = door.client.post(f"/api/imports/{id_}/seal").json()
    second = again["experiment"]
    assert again["looks"] == [first, second]
    assert told(first, at) == ["changed"]
    assert f"It goes on as {second}, sealed with 2 of 5 members" in said(first)
    assert "5 members were planned and 2 came" in door.client.get(f"/experiments/{second}").text
    at = last()
    door.client.post(f"/api/imports/{id_}/reopen", json={"planned": 6}).raise_for_status()
    assert told(first, at) == told(second, at) == ["changed"]
    assert f"It goes on as {second}, which waits for members: 2 of 6 members so far" in said(first)
    assert "Reopened, 2 of 6 members" in said(second)
    third = door.add(id_, 2, whole=True).json()["experiment"]
    assert f"It goes on as {third}, which waits for members: 3 of 6 members so far" in said(second)
    assert "So far, 3 of 6 members" in said(third)
    door.client.post(f"/api/imports/{id_}/seal").raise_for_status()
    assert f"It goes on as {third}, sealed with 3 of 6 members" in said(first)
    assert "members" not in said(third), "it is sealed, whether or not anything is judged yet"


def test_a_seal_is_refused_in_words_where_other_members_are_here_than_were_shown(shared: Door) -> None:
    id_ = shared.opened(planned=3)
    shared.add(id_, 0)
    slug = shared.client.get(f"/api/imports/{id_}").json()["experiment"]
    address = f"/api/imports/{id_}/seal"
    with shared.site.visitor() as visitor:
        page = visitor.get(f"/experiments/{slug}").text
        seen = re.search(r'name="here" value="(\d+)"', page[page.index('id="seal-early"') :])
        assert seen is not None
        assert seen[1] == "1"
        shared.add(id_, 1)
        refused = visitor.post(f"/imports/{id_}/seal", data={"here": seen[1]})
        assert refused.status_code == 409
        assert "2 members are here by now, not 1: nothing was sealed" in " ".join(refused.text.split())
    for here, status in ((1, 409), (-1, 422), ("two", 422), (2, 200), (2, 200), (None, 200)):
        assert shared.client.post(address, json={"here": here}).status_code == status, here
    late = shared.client.post(address, json={"here": 3})
    assert (late.status_code, late.json()["detail"]) == (
        409, "2 members are here by now, not 3: it is sealed with them"
    )  # fmt: skip
    assert shared.client.get(f"/api/imports/{id_}").json()["looks"] == [slug]


def parts(page: Page) -> Json:
    """What is said in every part of an open page that moves, but for ages, and which figures there are."""
    return page.evaluate(
        """() => Object.fromEntries([
          ...[...document.querySelectorAll("[data-live][id]")].map(one => {
            const copy = one.cloneNode(true);
            copy.querySelectorAll("time").forEach(age => age.remove());
            return [one.id, copy.textContent];
          }),
          ["figures", [...document.querySelectorAll("[data-figure]")].map(one => `${one.id} ${one.className}`)],
        ])"""
    )


def assert_true_to_now(page: Page, ended: Callable[[Page], None]) -> None:
    """An open page has come to say what the same page says when it is asked for again."""
    ended(page)
    page.wait_for_timeout(3000)  # the last events, and the refresh of them
    before = parts(page)
    page.reload()
    after = parts(page)
    shown = {at for at in after if at.startswith("live-why")}  # of figures that the script has drawn or refused
    assert {at: said for at, said in before.items() if at not in shown} == {
        at: said for at, said in after.items() if at not in shown
    }


@pytest.mark.slow
def test_an_open_page_follows_members_as_they_come_and_the_seal(tmp_path: Path) -> None:
    program = shutil.which("chromium")
    assert program is not None, "sudo apt-get install chromium"
    with sync_playwright() as playwright, served(tmp_path / "home") as site:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page, door = browser.new_page(), Door(site)
        failures: list[str] = []
        page.on("pageerror", lambda error: failures.append(str(error)))
        id_ = door.opened(planned=4)
        points = {"batch": "a", "logged": [{"steps": [0, 1], "values": {"loss": [2.0, 1.0]}}]}
        door.client.post(f"/api/imports/{id_}/members/0/points", json=points).raise_for_status()
        slug = door.client.get(f"/api/imports/{id_}").json()["experiment"]
        page.goto(f"{site.url}/experiments/{slug}")
        growing = page.locator("#live-growing")
        expect(growing).to_contain_text("Being trained: 0.")
        figures = page.locator("[data-figure]").count()
        door.add(id_, 0, whole=True)
        door.run(slug)
        expect(growing).to_contain_text("So far, 1 of 4 members", timeout=15_000)
        expect(growing).not_to_contain_text("Being trained")
        assert page.locator("[data-figure]").count() > figures, "more is drawn of members than of their curves"
        expect(page.locator("#live-subject")).to_contain_text("imported 1 member")
        growing.locator("summary").click()
        door.add(id_, 1, whole=True)
        door.add(id_, 2, whole=True)
        door.run(slug)
        expect(growing.locator("summary")).to_contain_text("Seal with 3 of 4", timeout=15_000)
        expect(growing).to_contain_text("So far, 3 of 4 members")
        expect(growing.locator("#seal")).to_be_visible()  # it is as open as it was
        expect(growing.locator("summary")).to_be_focused()
        expect(growing.locator("input[name=here]")).to_have_value("3")
        expect(page.locator("#live-subject")).to_contain_text("imported 3 members")
        door.client.post(f"/api/imports/{id_}/seal", json={"here": 3}).raise_for_status()
        door.run(slug)
        expect(growing).to_have_text("", timeout=15_000)
        expect(page.locator("#live-status")).to_contain_text("succeeded", timeout=15_000)
        assert_true_to_now(page, lambda page: expect(page.locator("#live-claims")).to_contain_text("Sealed early"))
        door.client.post(f"/api/imports/{id_}/reopen", json={"planned": 5}).raise_for_status()
        expect(growing.locator("h2")).to_have_text("Reopened, 3 of 5 members", timeout=15_000)
        door.client.post(f"/api/imports/{id_}/seal").raise_for_status()
        expect(growing).to_contain_text("sealed with 3 of 5 members", timeout=15_000)
        door.client.post(f"/api/imports/{id_}/reopen", json={"planned": 6}).raise_for_status()
        expect(growing).to_contain_text("3 of 6 members so far", timeout=15_000)
        assert failures == []
        browser.close()


@pytest.mark.slow
def test_an_open_page_lets_go_of_figures_that_turn_out_not_to_be_drawn(tmp_path: Path) -> None:
    """No line of a stage stays that is not true any more: what lies below the screen moves like what is in it."""
    program = shutil.which("chromium")
    assert program is not None, "sudo apt-get install chromium"
    with sync_playwright() as playwright, served(tmp_path / "home") as site:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page, door = browser.new_page(), Door(site)
        asked = {"name": "at once", "recipe": "same", "files": door.ensemble()}
        slug = door.client.post("/api/imports", json=asked).json()["experiment"]
        page.goto(f"{site.url}/experiments/{slug}")
        expect(page.locator("#live-status")).to_contain_text("queued")
        waiting = page.locator("[data-why]", has_text="Waits for")
        assert waiting.count() > 0
        door.run(slug)
        assert_true_to_now(page, lambda page: expect(page.locator("#live-status")).to_contain_text("succeeded"))
        expect(page.locator("[data-connection]")).to_be_hidden()
        assert waiting.count() == 0
        browser.close()


@pytest.mark.slow
def test_a_browser_drops_files_sends_them_in_parts_and_a_worker_judges_them(tmp_path: Path) -> None:
    """A newcomer's way: files chosen on the page, the connection lost on the way, questions, Import, the finding."""
    program = shutil.which("chromium")
    assert program is not None, "sudo apt-get install chromium"
    with sync_playwright() as playwright, served(tmp_path / "home") as site:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        failures: list[str] = []
        page.on("pageerror", lambda error: failures.append(str(error)))
        lost = {"times": 0}

        def lose(route: Any) -> None:
            if route.request.method == "PUT" and lost["times"] < 2:
                lost["times"] += 1
                route.abort()
            else:
                route.continue_()

        page.route("**/api/uploads/**", lose)
        page.goto(f"{site.url}/import")
        chosen = [{"name": f"run_{i}.npy", "mimeType": "", "buffer": npy(member(i))} for i in range(3)]
        chosen.append({"name": "y.npy", "mimeType": "", "buffer": npy(truth())})
        page.set_input_files("#file", chosen)
        page.wait_for_selector("#understood", timeout=60_000)
        assert lost["times"] == 2
        assert "3 members, logits, 4 classes" in " ".join(page.inner_text("main").split())
        page.check("input[name=recipe][value=same]")
        page.fill("#name", "from a browser")
        page.focus("button[value=import]")
        page.keyboard.press("Enter")
        page.wait_for_url("**/experiments/from-a-browser")
        Door(site).run("from-a-browser")
        page.reload()
        assert "Members disagree on" in page.inner_text("#live-verdict")
        assert failures == []
        browser.close()


CSV_OF_KERAS = b"epoch,accuracy,loss\n0,0.5,1.2\n1,0.7,0.8\n0,0.4,1.3\n1,0.6,0.9\n2,0.8,0.5\n"


def test_logs_alone_are_understood_and_imported_on_the_page(shared: Door) -> None:
    sent = json.dumps([shared.send(CSV_OF_KERAS, "appended.csv")])
    with shared.site.visitor() as visitor:
        page = visitor.post("/import", data={"files": sent}).text
        made = visitor.post("/import", data={"files": sent, "do": "import", "name": "logs of Keras"})
        on_it = visitor.get(made.headers["location"]).text
    said = " ".join(html.unescape(re.sub("<[^>]+>", " ", page)).split())
    assert "What was understood 2 members, curves and parameters alone" in said
    assert 'name="do" value="import"' in page
    assert "Go on" not in said[said.index("What was understood") :]
    assert 'id="kind"' not in page, "there are no numbers to say it of"
    assert (made.status_code, made.headers["location"]) == (303, "/experiments/logs-of-keras")
    assert "Curves and parameters are all that came with these members" in on_it


@pytest.mark.slow
def test_a_browser_brings_in_logs_of_each_tracker(tmp_path: Path) -> None:
    """Folders and files as they lie in public repositories, chosen on the page."""
    logs = real("real/trackers")
    program = shutil.which("chromium")
    assert program is not None, "sudo apt-get install chromium"
    with sync_playwright() as playwright, served(tmp_path / "home") as site:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        for number, place in enumerate(
            ("mlruns-files", "mlruns-files/mlruns", "lightning-mnist", "tensorboard-tf2",
             "keras-csvlogger/mnist-two-runs-appended.csv")
        ):  # fmt: skip
            page.goto(f"{site.url}/import")
            chooser = "#file" if place.endswith(".csv") else "[data-import]:not(#weights) [data-folder]"
            page.set_input_files(chooser, logs / place)
            page.wait_for_selector("#understood", timeout=60_000)
            assert "curves and parameters alone" in page.inner_text("main")
            page.fill("#name", f"logs {number}")
            page.click("button[value=import]")
            page.wait_for_url(f"**/experiments/logs-{number}")
        browser.close()


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_sends_patterns_folders_and_files(
    shared: Door, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODESCAPE_HOME", str(tmp_path / "nowhere"))
    for i in range(3):
        (tmp_path / f"run_{i}").mkdir()
        (tmp_path / f"run_{i}" / "test.npy").write_bytes(npy(member(i)))
    (tmp_path / "y.npy").write_bytes(npy(truth()))
    (tmp_path / "all.npy").write_bytes(npy(np.stack([member(i) for i in range(3)])))
    to = ["--labels", str(tmp_path / "y.npy"), "--recipe", "same", "--server", shared.site.url]
    digests = []
    for place, name in ((f"{tmp_path}/run_*/test.npy", "by pattern"), (f"{tmp_path}/all.npy", "by file")):
        assert main(["import", place, "--name", name, *to]) == 0
        said = capsys.readouterr().out
        slug = said.split()[-1].rpartition("/")[2]
        assert f"{name}: 3 members, logits, 4 classes; recipe: same" in said
        found = shared.client.get(f"/api/experiments/{slug}").json()
        assert found["name"] == name
        digests.append(found["spec"]["imported"]["images"])
    assert digests == [N, N]
    assert not (tmp_path / "nowhere").exists(), "nothing is kept here"
    assert main(["import", f"{tmp_path}/y.npy", "--server", shared.site.url]) == 1
    assert "true labels are another" in capsys.readouterr().err
    np.savez(tmp_path / "two.npz", one=member(0), two=member(1), y=truth())
    looks = []
    for where in ([], ["--server", shared.site.url]):
        assert main(["import", str(tmp_path / "two.npz"), "--look", *where]) == 0
        looks.append(capsys.readouterr().out)
    assert looks[0] == looks[1], "a look says the same here and there"
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "m.npy").symlink_to(tmp_path / "run_0" / "test.npy")
    assert main(["import", f"{tmp_path}/linked/*.npy", "--look", *to]) == 0
    assert f"m.npy is a link: {tmp_path / 'run_0' / 'test.npy'} is sent" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_waits_for_a_server_that_is_away_and_goes_on_where_it_was(tmp_path: Path) -> None:
    """It answers nothing at first, then breaks the second part off, then is itself."""
    content = np.random.default_rng(0).bytes(20_000_000)
    (tmp_path / "x.npy").write_bytes(content)
    said: list[str] = []
    with served(tmp_path / "home") as site:
        door = ServerDoor(site.url, tell=said.append)
        calls = {"put": 0}
        ask = door._server._client.request

        def sometimes(method: str, url: str, **how: Any) -> httpx.Response:
            if method == "PUT":
                calls["put"] += 1
                if calls["put"] == 2:
                    raise httpx.ConnectError("connection refused")
            return ask(method, url, **how)

        door._server._client.request = sometimes  # type: ignore[method-assign]
        files = door.send({"x.npy": tmp_path / "x.npy"})
        assert files == [{"name": "x.npy", "sha256": sha(content)}]
        assert calls["put"] == 4, "three parts, one of them twice"
        assert any("connection refused" in line and "trying again" in line for line in said)
        assert site.client().get(f"/api/uploads/{sha(content)}").json()["complete"]
    with pytest.raises(ServerRefused, match="does not answer"):
        ServerDoor(site.url, patience=0.1).send({"x.npy": tmp_path / "x.npy"})


@pytest.mark.slow
def test_the_command_shows_the_token(tmp_path: Path) -> None:
    secret = "a secret of thirty-two characters"
    (tmp_path / "y.npy").write_bytes(npy(truth()))
    with served(tmp_path / "home", token=secret) as site:
        with pytest.raises(ServerRefused, match="sign in first"):
            ServerDoor(site.url).send({"y.npy": tmp_path / "y.npy"})
        assert ServerDoor(site.url, secret).send({"y.npy": tmp_path / "y.npy"})
