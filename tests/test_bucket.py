"""Artifacts in a bucket of an independent server: machines that share no disk, servers that go away, kills, limits."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import buckets
import numpy as np
import pytest
from serving import SPEC, finished, served
from test_celery_queue import House, chains, executor, expected, house
from test_doors import Door, truth
from test_outages import MB, Writes
from toy_worker import MACHINE, ToyRunner

from modescape import extras
from modescape.artifacts import Artifacts, bucket, objects
from modescape.artifacts import cache as caching
from modescape.artifacts.bucket import Bucket
from modescape.artifacts.cache import Cache
from modescape.artifacts.folder import names_of
from modescape.backup import backup, restore
from modescape.cli import main
from modescape.database import upgrade
from modescape.errors import ConfigurationError, ExtraMissing, NoRoom, StorageAway
from modescape.executor import Executor, Machine
from modescape.laboratory import Laboratory, purge, verify
from modescape.settings import Settings, shown
from modescape.store import leases

TESTS = Path(__file__).parent
About = dict[str, Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[buckets.S3Server]:
    with buckets.running(tmp_path_factory.mktemp("s3") / "server") as server:
        yield server


@pytest.fixture
def way(server: buckets.S3Server) -> buckets.Way:
    return buckets.Way(server)


@pytest.fixture
def about(server: buckets.S3Server) -> About:
    return server.settings()


@pytest.fixture
def by_way(server: buckets.S3Server, way: buckets.Way) -> About:
    return server.settings(way.url)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr("modescape.artifacts.bucket.PROBE_SECONDS", 0.2)
    monkeypatch.setattr(leases, "WAIT_SECONDS", (1.0, 1.0))


def artifacts(home: Path, about: About, **more: Any) -> Artifacts:
    return Artifacts(Settings(home=home, **about, **more).artifact_place)


def environment(about: About) -> dict[str, str]:
    return {f"MODESCAPE_{name.upper()}": value for name, value in about.items()}


def objects_of(server: buckets.S3Server, about: About) -> dict[str, int]:
    """name -> bytes, as the server itself lists them."""
    prefix = about["artifacts"].removeprefix(f"s3://{buckets.BUCKET}/") + "/"
    found = server.client.list_objects_v2(Bucket=buckets.BUCKET, Prefix=prefix).get("Contents", ())
    return {name: one["Size"] for one in found if (name := one["Key"].removeprefix(prefix)) != "probe"}


def uploads_of(server: buckets.S3Server, about: About) -> list[str]:
    prefix = about["artifacts"].removeprefix(f"s3://{buckets.BUCKET}/") + "/"
    found = server.client.list_multipart_uploads(Bucket=buckets.BUCKET).get("Uploads", ())
    return [one["Key"] for one in found if one["Key"].startswith(prefix)]


def key_of(about: About, name: str) -> str:
    return about["artifacts"].removeprefix(f"s3://{buckets.BUCKET}/") + f"/{name}"


def with_bucket(made: House, about: About) -> House:
    given = made.settings.model_dump(include={"home", "database_url", "lease_seconds"})
    return House(Settings(**given, **about), made.store, made.logs)


# -- sending and reading -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_is_there_is_not_sent_again_and_what_breaks_on_the_way_is(
    server: buckets.S3Server, way: buckets.Way, by_way: About, tmp_path: Path
) -> None:
    large = np.random.default_rng(0).random(40 * MB // 8)
    way.breaks_after = [2 * MB, 3 * MB, 200_000]  # of three connections
    info = artifacts(tmp_path / "one", by_way).put_array(large, "matrix")
    assert not way.breaks_after
    assert objects_of(server, by_way) == {names_of(info.digest)[0]: info.bytes}
    assert uploads_of(server, by_way) == []
    before = way.sent
    assert artifacts(tmp_path / "two", by_way).put_array(large, "matrix") == info
    assert way.sent - before < MB
    way.breaks_after = [300, 400]
    np.testing.assert_array_equal(artifacts(tmp_path / "three", by_way).array(info.digest), large)


@pytest.mark.slow
def test_a_large_file_goes_up_and_comes_down_in_little_memory(about: About, tmp_path: Path) -> None:
    """256 MB in blocks; the peak of the process is that of a small file and some parts on their way."""
    program = """
import resource, sys, numpy as np
from modescape.artifacts import Artifacts
from modescape.settings import Settings
files = Artifacts(Settings().artifact_place)
files.put_array(np.zeros(10), "matrix")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
block = np.random.default_rng(0).random(1 << 17)
info = files.put_blocks((block + i for i in range(256)), (256 << 17,), np.float64, "matrix")
sent = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
files._place.again(info.digest)
files.path(info.digest)
print(sent - before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - sent)
"""
    made = {**os.environ, **environment(about), "MODESCAPE_HOME": str(tmp_path)}
    told = subprocess.run([sys.executable, "-c", program], env=made, capture_output=True, text=True, check=True)
    up, down = (int(one) / 1000 for one in told.stdout.split())
    assert up < 110, "MB: four parts of 8, each as it is read and as it is sent"
    assert down < 60, "MB"


@pytest.mark.slow
def test_a_worker_that_is_killed_while_it_sends_leaves_nothing_that_can_be_read(
    server: buckets.S3Server, way: buckets.Way, by_way: About, tmp_path: Path, sqlite_url: str,
    monkeypatch: pytest.MonkeyPatch, wait_until: Any,
) -> None:  # fmt: skip
    for name, value in environment(by_way).items():
        monkeypatch.setenv(name, value)
    program = f"""
import sys; sys.path.insert(0, {str(TESTS)!r})
from toy_worker import MACHINE, ToyRunner
from modescape.celery_queue import worker_main
from modescape.records import StageOutput
from modescape.settings import Settings
import numpy as np
class Large(ToyRunner):
    def run_stage(self, lease, store, artifacts, *rest, **more):
        info = artifacts.put_array(np.random.default_rng(7).random(60_000_000 // 8), "matrix")
        return StageOutput(artifacts=[info], extra={{"value": info.digest}})
worker_main(Settings(), sys.argv[1], runner=Large(), machine=MACHINE)
"""
    made = with_bucket(house(tmp_path, sqlite_url, None), by_way)
    try:
        way.seconds_a_block = 0.005
        experiment = made.launch(chains(1, steps=1)[:1])
        made.start("a", "-c", program, "a")
        wait_until(lambda: way.sent > 20 * MB, 60, "a third of the file to be sent")
        made.kill("a")
        assert [name for name in objects_of(server, by_way) if name.endswith(".npy")] == []
        assert len(uploads_of(server, by_way)) == 1
        [left] = [path for path in (tmp_path / "cache" / "tmp").iterdir() if path.stat().st_size > 50 * MB]
        way.seconds_a_block = 0.0
        made.start("a", "-c", program, "a")
        wait_until(lambda: made.has_ended(experiment), 60, "the end")
    finally:
        made.close()
    array = np.random.default_rng(7).random(60_000_000 // 8)
    digest = Artifacts(tmp_path / "folder").put_array(array, "matrix").digest
    assert made.values(experiment) == {"train/0": digest}
    assert not left.exists(), "nobody writes it any more"
    files = artifacts(tmp_path / "other", by_way)
    np.testing.assert_array_equal(files.array(digest), array)
    files.sweep({digest}, grace_seconds=-60)
    assert len(uploads_of(server, by_way)) == 1, "a large file may be on its way for a day"
    files.sweep({digest}, grace_seconds=-100_000)
    assert uploads_of(server, by_way) == []


# -- a server that goes away -------------------------------------------------------------------------------------------


def working(made: House, runner: ToyRunner) -> Executor:
    return Executor(
        made.store, Artifacts(made.settings.artifact_place), made.settings, runner=runner, machine=MACHINE, name="w"
    )


@pytest.mark.slow
def test_some_seconds_without_the_server_are_waited_for(
    way: buckets.Way, by_way: About, tmp_path: Path, sqlite_url: str
) -> None:
    made = with_bucket(house(tmp_path, sqlite_url, None), by_way)
    experiment = made.launch(chains(1, steps=1)[:1])

    def away() -> None:
        way.cut()
        threading.Timer(2.0, way.mend).start()

    runner = Writes(away)
    assert working(made, runner).drain() == 1
    [stage] = made.store.stages.of(experiment.id)
    assert (stage.state, stage.attempt, runner.begun, stage.waits) == ("succeeded", 1, 1, None)
    made.close()


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_work_waits_for_the_server_and_goes_on_by_itself(
    way: buckets.Way, by_way: About, tmp_path: Path, sqlite_url: str, wait_until: Any, caplog: pytest.LogCaptureFixture
) -> None:
    made = with_bucket(house(tmp_path, sqlite_url, None), by_way)
    worker = working(made, Writes(way.cut))
    experiment = made.launch(chains(1, steps=1)[:1])
    assert worker.drain() == 1
    [stage] = made.store.stages.of(experiment.id)
    assert (stage.state, stage.losses, stage.error) == ("ready", 0, {})
    assert stage.waits.startswith(f"the bucket {by_way['artifacts']} does not answer (")
    assert buckets.SECRET not in stage.waits
    assert "the bucket cannot be used, and work waits" in caplog.text
    assert (worker.drain(), worker.lacks_room is None) == (0, False)
    about_it = {"artifacts": by_way["artifacts"], "s3_endpoint": way.url, "s3_key": buckets.KEY,
                "s3_secret": buckets.SECRET, "database_url": sqlite_url}  # fmt: skip
    with served(tmp_path / "web", **about_it) as site, site.client() as client:
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["database"]) == (503, "ok")
        assert "does not answer" in ready.json()["artifacts"]
        assert client.get(f"/api/experiments/{experiment.slug}").json()["waits"] == stage.waits
        with pytest.raises(StorageAway, match="does not answer"):
            verify(Laboratory(made.settings))
        way.mend()
        worker._runner = Writes()
        wait_until(lambda: worker.drain() == 1, 20, "the stage to be taken up")
        [stage] = made.store.stages.of(experiment.id)
        assert (stage.state, stage.waits) == ("succeeded", None)
        assert "the bucket can be used again" in caplog.text
        wait_until(lambda: client.get("/readyz").status_code == 200, 10, "readiness")
        digest = stage.result["artifacts"][0]["digest"]
        assert hashlib.sha256(client.get(f"/api/artifacts/{digest}").content).hexdigest() == digest
        way.cut()
        other = client.get(f"/api/artifacts/{'0' * 64}")
        assert (other.status_code, other.json()["type"]) == (503, "/api/docs#storage-away")
        assert client.get(f"/api/artifacts/{digest}").status_code == 200, "it has a copy"
    made.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"),
    [({"s3_secret": "wrong"}, "refuses what is asked of it"),
     ({"s3_key": None, "s3_secret": None}, "without credentials"),
     ({"artifacts": "s3://nowhere/x"}, "is not there")],
    ids=["secret", "no credentials", "bucket"],
)  # fmt: skip
def test_what_a_server_refuses_is_said_at_once(
    change: About, said: str, about: About, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    files, begun = artifacts(tmp_path, {**about, **change}), time.monotonic()
    for do in (lambda: files.put_array(np.zeros(3), "matrix"), files.check_room):
        with pytest.raises(StorageAway, match=said) as raised:
            do()
        assert buckets.SECRET not in str(raised.value)
    assert said in str(files.why_not_written())
    assert time.monotonic() - begun < 10


def raised_by(do: Any) -> tuple[BaseException | None, float]:
    """What it raised, and after how many seconds; ends after 15 whatever it does."""
    told: list[BaseException | None] = []

    def run() -> None:
        try:
            do()
        except BaseException as error:
            told.append(error)
        else:
            told.append(None)

    begun, thread = time.monotonic(), threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(15)
    assert told, "it still hangs"
    return told[0], time.monotonic() - begun


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_a_server_that_goes_silent_is_away_within_the_limit_of_each_request(
    way: buckets.Way, by_way: About, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = artifacts(tmp_path, by_way)
    kept = files.put_array(np.zeros(3), "matrix").digest
    for name in ("ANSWER_SECONDS", "REQUEST_SECONDS"):
        monkeypatch.setattr(objects, name, 1.0)
    monkeypatch.setattr(objects, "_SLOWEST", 20 * MB)
    files._place.again(kept)
    way.silent = True
    large = np.random.default_rng(0).random(20 * MB // 8)
    for do in (
        lambda: files.put_array(np.ones(3), "matrix"), lambda: files.put_array(large, "matrix"),
        lambda: files.exists(kept), lambda: files.array(kept), lambda: files.sweep(set()), files.check_room,
        lambda: files._place._objects.put("x", Path(__file__), 100, ""),  # type: ignore[attr-defined]
    ):  # fmt: skip
        error, seconds = raised_by(do)
        assert isinstance(error, StorageAway), error
        assert "does not answer" in str(error)
        assert seconds < 9
    way.silent = False
    assert files.exists(kept)
    np.testing.assert_array_equal(files.array(files.put_array(large, "matrix").digest), large)


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_nobody_waits_while_a_silent_server_is_asked_whether_it_is_there(
    way: buckets.Way, by_way: About, tmp_path: Path, wait_until: Any
) -> None:
    given = {**by_way, "home": tmp_path}
    files = Artifacts(Settings(**given).artifact_place)
    files.reach()
    way.silent = True
    time.sleep(0.3)  # what was found is no longer known
    asked = [threading.Thread(target=files.lack, daemon=True) for _ in range(4)]
    begun = time.monotonic()
    for one in asked:
        one.start()
    wait_until(lambda: sum(one.is_alive() for one in asked) <= 1, 1, "all but the one that asks")
    assert files.lack() is None, "what was last found"
    assert time.monotonic() - begun < 1
    wait_until(lambda: "does not answer" in str(files.lack()), 3, "that it takes long to be told")
    assert time.monotonic() - begun < objects.PROBE_SECONDS
    asked[0].join(objects.PROBE_SECONDS + 2)
    assert [one.is_alive() for one in asked] == [False] * 4
    assert "does not answer" in str(files._place._probed[1])  # type: ignore[attr-defined]
    way.silent = False
    wait_until(lambda: files.lack() is None, 10, "the server to be there again")


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_a_404_of_no_s3_server_says_nothing_of_what_is_there(
    server: buckets.S3Server, way: buckets.Way, by_way: About, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path / "home", **by_way)
    settings.home.mkdir()
    upgrade(settings.database)
    lab = Laboratory(settings)
    row = finished(lab, "done")
    digests = lab.store.outputs.digests()
    lab.artifacts.put_scratch("stage.1", {"x": np.zeros(3)})
    before = objects_of(server, by_way)
    far = artifacts(tmp_path / "far", by_way)
    everything: tuple[bytes, ...] = (b"HEAD", b"GET", b"PUT", b"POST", b"DELETE")
    for says_404 in (everything, (b"HEAD", b"GET")):
        way.says_404 = says_404
        for do in (
            lambda: verify(lab), lambda: far.exists(digests[0]), lambda: far.array(digests[0]),
            lambda: far.scratch("stage.1"), lambda: far.delete(digests[0]), lambda: far.set_aside(digests[0]),
            lambda: far.sweep(set()), far.reach, far._place._objects.probe,  # type: ignore[attr-defined]
        ):  # fmt: skip
            with pytest.raises(StorageAway, match="does not answer"):
                do()
    way.says_404 = everything
    with pytest.raises(StorageAway):
        far.put_array(np.ones(7), "matrix")
    with pytest.raises(StorageAway):
        far.put_array(np.ones(20 * MB // 8), "matrix")
    way.says_404 = (b"HEAD",)
    with pytest.raises(StorageAway, match="both"):
        far.exists(digests[0])
    way.says_404 = ()
    assert objects_of(server, by_way) == before
    time.sleep(bucket.PROBE_SECONDS)  # what was found last is believed for so long
    assert verify(lab).sound
    assert lab.store.experiments.get(row.id).status == "succeeded"
    assert not far.exists("0" * 64)
    lab.store.close()


class Answers:
    """What takes every request, and answers 200 with a page."""

    def __init__(self) -> None:
        page = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        self._door = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._door.getsockname()[1]}"

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    with self._door.accept()[0] as one:
                        one.recv(1 << 16)
                        one.sendall(page)

        threading.Thread(target=serve, daemon=True).start()


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_what_takes_everything_and_keeps_nothing_is_no_storage(about: About, tmp_path: Path) -> None:
    files = artifacts(tmp_path, {**about, "s3_endpoint": Answers().url})
    assert "does not keep what is written to it" in str(files.why_not_written())
    with pytest.raises(StorageAway, match="answers without LastModified"):
        files.exists("0" * 64)
    with pytest.raises(StorageAway, match="answers without LastModified"):
        files.put_array(np.zeros(3), "matrix")


# -- what is damaged, purged, copied -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("how", ["damaged", "gone"])
def test_objects_that_are_damaged_or_missing_are_made_again(
    how: str, server: buckets.S3Server, about: About, tmp_path: Path, sqlite_url: str
) -> None:
    made = with_bucket(house(tmp_path, sqlite_url, None), about)
    experiment = made.launch(chains(1, steps=6, seconds=0))
    executor(made).drain()
    victim = made.store.stages.of(experiment.id)[0].result["artifacts"][0]["digest"]
    key = key_of(about, names_of(victim)[0])
    if how == "gone":
        server.client.delete_object(Bucket=buckets.BUCKET, Key=key)
    else:
        server.client.put_object(Bucket=buckets.BUCKET, Key=key, Body=b"x" * 100)
    laboratory = Laboratory(made.settings)
    found = verify(laboratory)
    assert (found.missing, found.damaged) == (((victim,), ()) if how == "gone" else ((), (victim,)))
    assert (f"damaged/{victim}.npy" in objects_of(server, about)) == (how == "damaged")
    if how == "damaged":
        assert f"set aside in {about['artifacts']}/damaged" in found.text()
    executor(made).drain()
    assert made.values(experiment) == expected(1, 6)
    assert verify(laboratory).sound
    made.store.experiments.archive(experiment.id)
    time.sleep(2.5)  # what was written in this moment is left for a sweep: servers tell whole seconds
    assert purge(laboratory, experiment.id) > 0
    assert [name for name in objects_of(server, about) if not name.startswith("damaged/")] == []
    made.close()


@pytest.mark.slow
def test_a_backup_of_either_is_taken_back_into_the_other(
    server: buckets.S3Server, about: About, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path / "home", **about)
    settings.home.mkdir()
    upgrade(settings.database)
    lab = Laboratory(settings)
    row = finished(lab, "done")
    taken = backup(lab, tmp_path / "backups")
    assert taken.manifest.missing == []
    assert taken.copied == taken.manifest.artifacts == len(lab.store.outputs.digests()) > 5
    assert backup(lab, tmp_path / "backups").copied == 0
    folder = Settings(home=tmp_path / "folder")
    restore(tmp_path / "backups", folder)
    assert verify(Laboratory(folder)).sound
    again = Settings(home=tmp_path / "again", **server.settings())
    restore(tmp_path / "backups", again)
    back = Laboratory(again)
    assert verify(back).sound
    assert objects_of(server, {"artifacts": again.artifacts}) == objects_of(server, about)
    np.testing.assert_array_equal(back.results(row.id).true_labels("test"), lab.results(row.id).true_labels("test"))
    for one in (lab, back):
        one.store.close()


@pytest.mark.slow
def test_a_sweep_leaves_what_was_put_again_since_it_was_listed(about: About, tmp_path: Path) -> None:
    files, other = artifacts(tmp_path / "one", about), artifacts(tmp_path / "two", about)
    arrays = [np.full(3, float(i)) for i in range(3)]
    digests = [files.put_array(one, "matrix").digest for one in arrays]
    time.sleep(3.5)
    place = files._place
    listed = list(place._objects.list())  # type: ignore[attr-defined]
    place._objects.list = lambda: iter(listed)  # type: ignore[attr-defined]
    other.put_array(arrays[1], "matrix")
    assert files.sweep(set(), grace_seconds=1.5) == 2 * files_bytes(listed)
    assert [files.exists(one) for one in digests] == [False, True, False]


def files_bytes(listed: list[objects.Entry]) -> int:
    return next(one.bytes for one in listed if one.name.endswith(".npy"))


@pytest.mark.slow
def test_a_purge_leaves_what_rows_name_again(
    about: About, tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = with_bucket(house(tmp_path, sqlite_url, None), about)
    experiment = made.launch(chains(3, steps=1, seconds=0))
    executor(made).drain()
    laboratory, other = Laboratory(made.settings), artifacts(tmp_path / "other", about)
    digests = laboratory.store.outputs.digests()
    made.store.experiments.archive(experiment.id)
    drop, again = laboratory.artifacts.drop_scratch, []

    def dropped(stage_id: str) -> None:
        if not again:
            again.append(made.launch(chains(3, steps=1, seconds=0)))
            executor(made).drain()
        drop(stage_id)

    monkeypatch.setattr(laboratory.artifacts, "drop_scratch", dropped)
    monkeypatch.setattr(Bucket, "delete", lambda *_: pytest.fail("rows name it again"))
    assert purge(laboratory, experiment.id) == 0
    assert laboratory.store.outputs.digests() == digests
    assert all(other.exists(one) for one in digests)
    made.close()


@pytest.mark.slow
def test_what_is_put_while_it_is_purged_stays_until_somebody_names_it(
    about: About, tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = with_bucket(house(tmp_path, sqlite_url, None), about)
    experiment = made.launch(chains(2, steps=1, seconds=0))
    executor(made).drain()
    laboratory, other = Laboratory(made.settings), artifacts(tmp_path / "other", about)
    first, *rest = laboratory.store.outputs.digests()
    array = laboratory.artifacts.array(first).copy()
    made.store.experiments.archive(experiment.id)
    time.sleep(2.5)  # servers tell whole seconds
    drop = laboratory.artifacts.drop_scratch

    def dropped(stage_id: str) -> None:
        assert other.put_array(array, "matrix").digest == first
        drop(stage_id)

    monkeypatch.setattr(laboratory.artifacts, "drop_scratch", dropped)
    purge(laboratory, experiment.id)
    assert [other.exists(one) for one in (first, *rest)] == [True] + [False] * len(rest)
    made.close()


@pytest.mark.slow
def test_times_are_by_the_clock_here_whatever_the_servers_is(about: About, tmp_path: Path) -> None:
    place = artifacts(tmp_path, about)._place
    told = {"LastModified": datetime(2020, 1, 1, 12, tzinfo=UTC),
            "ResponseMetadata": {"HTTPHeaders": {"date": "Wed, 01 Jan 2020 12:00:40 GMT"}}}  # fmt: skip
    modified = place._objects._modified(told, told)  # type: ignore[attr-defined]
    assert 39 < (datetime.now(UTC) - modified).total_seconds() < 42


def test_uploads_are_forgotten_of_every_page(about: About, tmp_path: Path) -> None:
    its = artifacts(tmp_path, about)._place._objects  # type: ignore[attr-defined]
    begun = datetime(2020, 1, 1, tzinfo=UTC)
    pages = [
        {"Uploads": [{"Key": f"k{i}", "UploadId": f"u{i}", "Initiated": begun}], "IsTruncated": i < 2,
         "NextKeyMarker": f"k{i}", "NextUploadIdMarker": f"u{i}"} for i in range(3)
    ]  # fmt: skip
    asked, forgotten = [], []

    def call(method: str, *_: Any, **arguments: Any) -> Any:
        if method == "abort_multipart_upload":
            return forgotten.append(arguments["Key"])
        asked.append(arguments.get("KeyMarker"))
        return pages[len(asked) - 1]

    its._call = call
    its.drop_uploads(time.time())
    assert (asked, forgotten) == ([None, "k0", "k1"], ["k0", "k1", "k2"])


# -- copies on this machine --------------------------------------------------------------------------------------------


def keep(cache: Cache, number: int, size: int) -> str:
    content = np.random.default_rng(number).bytes(size)
    with cache.writing(size) as written:
        written.write(content)
        cache.keep(written, names_of(digest := written.hash.hexdigest())[0])
    return digest


def used(cache: Cache, digest: str, seconds_ago: float) -> None:
    path = cache.folder / names_of(digest)[0]
    os.utime(path, ns=(time.time_ns() - int(seconds_ago * 1e9), path.stat().st_mtime_ns))


def test_copies_go_by_their_last_use_and_what_was_just_asked_for_stays(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1000)
    digests = [keep(cache, i, 200) for i in range(5)]
    for i, digest in enumerate(digests):
        used(cache, digest, 1000 - i)
    assert cache.find(digests[0]) is not None, "used just now"
    new = keep(cache, 5, 200)
    assert [cache.find(one) is not None for one in (*digests, new)] == [True, False, False, True, True, True]
    mapped = np.memmap(cache.folder / names_of(digests[3])[0], mode="r")
    used(cache, digests[3], 2000)
    many = [keep(cache, i, 200) for i in range(6, 9)]
    assert cache.find(digests[3]) is None
    assert hashlib.sha256(mapped).hexdigest() == digests[3], "whoever has it open reads on"
    assert all(cache.find(one) for one in many)
    assert keep(cache, 9, 5000) is not None, "one that is larger than the limit is needed all the same"


@pytest.mark.slow
def test_processes_share_the_limit_and_kills_leave_nothing(tmp_path: Path) -> None:
    program = f"""
import random, sys
from pathlib import Path
from modescape.artifacts import cache
from modescape.artifacts.folder import names_of
cache.HOLD_SECONDS = 0.0
own = cache.Cache(Path({str(tmp_path / "cache")!r}), 100_000)
number = int(sys.argv[1])
for i in range(10**9 if number == 0 else 60):
    with own.writing(9000) as written:
        written.write(random.Random(random.randrange(60)).randbytes(9000))
        own.keep(written, names_of(written.hash.hexdigest())[0])
"""
    command = [sys.executable, "-c", program]
    running = [subprocess.Popen([*command, str(at)]) for at in range(4)]
    folder = tmp_path / "cache"
    sizes = []
    while any(one.poll() is None for one in running[1:]):
        sizes.append(sum(_size(path) for path in folder.glob("[0-9a-f][0-9a-f]/*")))
        time.sleep(0.05)
    running[0].send_signal(signal.SIGKILL)
    running[0].wait()
    assert [one.wait() for one in running[1:]] == [0, 0, 0]
    assert 50_000 < max(sizes) <= 100_000
    keep(Cache(folder, 100_000), 0, 10)  # it may have been killed while it noted how many there are
    copies = list(folder.glob("[0-9a-f][0-9a-f]/*"))
    assert all(hashlib.sha256(path.read_bytes()).hexdigest() == path.stem for path in copies)
    assert sum(_size(path) for path in copies) <= int((folder / "bytes").read_text()) <= 100_000


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def test_files_of_whoever_was_killed_are_cleared_and_those_of_the_living_stay(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1000)
    with cache.writing(None) as written:
        (tmp_path / "tmp" / "dead").write_bytes(b"x")
        keep(Cache(tmp_path, 1000), 0, 10)
        assert {path.name for path in (tmp_path / "tmp").iterdir()} == {Path(written.file.name).name}


def test_a_count_that_is_lost_or_wrong_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching, "HOLD_SECONDS", 0.0)
    cache = Cache(tmp_path, 1000)
    for i in range(3):
        keep(cache, i, 100)
    for wrong in ("", "nonsense", "999"):
        (tmp_path / "bytes").write_text(wrong)
        keep(cache, 3, 100)
        assert int((tmp_path / "bytes").read_text()) == 400
        cache.drop(hashlib.sha256(np.random.default_rng(3).bytes(100)).hexdigest())
    assert int((tmp_path / "bytes").read_text()) == 300


def test_a_folder_of_copies_that_cannot_be_made_is_no_room(about: About, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        place = Settings(home=tmp_path, **about, cache=folder).artifact_place
        assert isinstance(place, objects.Address)
        cache = Cache(place.cache, 1000)
        with pytest.raises(NoRoom, match=str(folder)):
            keep(cache, 0, 10)
        assert cache.find("0" * 64) is None
        assert f"{tmp_path / 'file'} is no folder" in str(cache.why_not_written())
        with pytest.raises(NoRoom):
            Artifacts(place).check_room()


def test_copies_are_read_where_nothing_can_be_written(tmp_path: Path) -> None:
    """By somebody who may not: of the folder, and of the lock alone."""
    program = """
import os, sys
from pathlib import Path
from modescape.artifacts.cache import Cache
from modescape.errors import NoRoom
folder, digest = Path(sys.argv[1]), sys.argv[2]
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
cache = Cache(folder, 1000)
found = cache.find(digest)
print(found is not None and len(found.read_bytes()), cache.find("0" * 64))
for do in (lambda: cache.writing(10).__enter__(), lambda: cache.drop(digest)):
    try:
        do()
    except NoRoom as error:
        print("may not be written" in str(error))
print(cache.why_not_written())
"""
    with tempfile.TemporaryDirectory() as name:  # which others may enter
        Path(name).chmod(0o755)
        folder = Path(name) / "cache"
        digest = keep(Cache(folder, 1000), 0, 10)
        for path in (*folder.rglob("*"), folder):
            path.chmod(0o555 if path.is_dir() else 0o444)
        command = [sys.executable, "-c", program, str(folder), digest]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        folder.chmod(0o755)
    assert told == ["10 None", "True", "True", "the folder of copies cannot be written"]


# -- settings ----------------------------------------------------------------------------------------------------------


def test_settings_of_a_bucket_are_understood_and_their_secrets_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"MODESCAPE_HOME": str(tmp_path), "MODESCAPE_ARTIFACTS": "s3://my-bucket/labs/one/",
             "MODESCAPE_S3_ENDPOINT": "http://127.0.0.1:9000", "MODESCAPE_S3_KEY": "the-key-id",
             "MODESCAPE_S3_SECRET": "the-secret", "MODESCAPE_CACHE_GIGABYTES": "2.5"}  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    place = Settings().artifact_place
    assert isinstance(place, objects.Address)
    assert (place.bucket, place.prefix, place.where) == ("my-bucket", "labs/one/", "s3://my-bucket/labs/one")
    assert (place.cache, place.cache_bytes, place.secret) == (tmp_path / "cache", 2_500_000_000, "the-secret")
    assert main(["settings"]) == 0
    told = capsys.readouterr().out + repr(place)
    assert "s3://my-bucket/labs/one" in told
    assert not any(secret in told for secret in ("the-key-id", "the-secret"))
    with served(tmp_path / "web", artifacts="s3://my-bucket", s3_endpoint="http://127.0.0.1:1") as site:
        with site.client() as client:
            plan = client.post("/api/estimate", json={"spec": SPEC}).json()
        assert (plan["free_bytes"], plan["refused"]) == (None, [])


@pytest.mark.parametrize(
    "change",
    [{"artifacts": "s3://key:secret@bucket/x"}, {"artifacts": "https://secret/x"}, {"artifacts": "s3://secret x"},
     {"artifacts": "s3://bucket/x?secret=1"}, {"artifacts": "s3://b/x", "s3_endpoint": "http://key:secret@host"},
     {"artifacts": "s3://bucket/x", "s3_endpoint": "host:secret"},
     {"artifacts": "s3://bucket/x", "s3_endpoint": "https://host?secret=1"},
     {"artifacts": "s3://bucket/x", "s3_endpoint": "https://host/#secret"},
     {"artifacts": "s3://bucket//secret"}, {"artifacts": "s3://bucket/secret/../x"}, {"artifacts": "s3://bucket/./x"},
     {"artifacts": "s3://bucket/x//"}],
)  # fmt: skip
def test_addresses_that_are_none_are_refused_and_not_quoted(change: About, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, **change)
    with pytest.raises(ConfigurationError, match=r"MODESCAPE_(ARTIFACTS|S3_ENDPOINT)") as refused:
        _ = settings.artifact_place
    told = str(refused.value) + shown(settings, "artifacts") * ("s3_endpoint" not in change)
    assert "secret" not in told + (shown(settings, "s3_endpoint") if "s3_endpoint" in change else "")


def test_without_s3fs_the_line_that_installs_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "has", lambda module: module != "s3fs")
    with pytest.raises(ExtraMissing, match=r"s3://bucket/x needs s3fs, .*pip install 'modescape\[s3\]'"):
        artifacts(tmp_path, {"artifacts": "s3://bucket/x"})


# -- machines that share no disk ---------------------------------------------------------------------------------------

REAL = {
    "data": {"dataset": "digits", "train_images": 200, "validation_images": 100, "test_images": 200},
    "network": {"architecture": "mlp"},
    "training": {"epochs": 3, "batch_size": 20, "snapshots": 2},
    "ensemble": {"runs": 4, "seed": 3},
    "methods": [{"method": "random", "spread": 2, "typical": 2}],
    "evaluation": {"embed_images": 20, "embed_runs": 2},
}


def digests_of(laboratory: Laboratory, experiment_id: str) -> dict[str, list[str]]:
    return {
        f"{stage.kind}/{stage.key}": sorted(one["digest"] for one in stage.result["artifacts"])
        for stage in laboratory.store.stages.of(experiment_id)
    }


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_workers_and_server_that_share_no_disk_make_what_a_folder_has(
    server: buckets.S3Server, about: About, tmp_path: Path, postgres_url: str, redis_server: Any, wait_until: Any
) -> None:
    """Two workers, each with a home of its own, and the server on a third; and the same experiment in a folder."""
    shared = {**about, "database_url": postgres_url, "broker_url": redis_server.url, "lease_seconds": "5"}
    workers = []
    for name in ("a", "b"):
        made = {**os.environ, **environment(shared), "MODESCAPE_HOME": str(tmp_path / name), "MODESCAPE_DEVICE": "cpu"}
        with (tmp_path / f"{name}.log").open("wb") as log:
            command = [sys.executable, "-m", "modescape.cli", "worker", "--name", name]
            workers.append(subprocess.Popen(command, env=made, stdout=log, stderr=log))
    try:
        with served(tmp_path / "web", **shared) as site, site.client() as client:
            store = site.laboratory.store
            wait_until(lambda: len(store.workers.living()) == 2, 120, "both workers")
            row = client.post("/api/experiments", json={"spec": REAL, "name": "shared"}).json()
            wait_until(lambda: store.experiments.get(row["slug"]).status.has_ended, 300, "the end")
            assert store.experiments.get(row["slug"]).status == "succeeded"
            made_there = digests_of(site.laboratory, store.experiments.get(row["slug"]).id)
            for digest in sorted({one for some in made_there.values() for one in some})[:10]:
                answer = client.get(f"/api/artifacts/{digest}")
                assert hashlib.sha256(answer.content).hexdigest() == digest
            for figure in ("plane", "similarity-runs"):
                assert client.get(f"/api/experiments/{row['slug']}/figures/{figure}").status_code == 200
            assert client.get(f"/api/experiments/{row['slug']}/ensemble.zip").status_code == 200
            assert client.get("/readyz").status_code == 200
            sound = verify(site.laboratory)
            assert (sound.sound, sound.artifacts) == (True, len({one for some in made_there.values() for one in some}))
    finally:
        for process in workers:
            process.terminate()
        assert [process.wait(30) for process in workers] == [0, 0]
    homes = [[path for path in (tmp_path / name / "cache").glob("??/*") if path.is_file()] for name in ("a", "b")]
    assert all(homes), "both have worked"
    assert not any((tmp_path / name / "artifacts").exists() for name in ("a", "b", "web"))
    assert [name for name in objects_of(server, about) if name.startswith("scratch/")] == []
    alone = Settings(home=tmp_path / "folder", device="cpu")
    alone.home.mkdir()
    upgrade(alone.database)
    folder = Laboratory(alone)
    twin = folder.create(REAL, name="folder")
    executing = Executor(folder.store, folder.artifacts, alone, machine=Machine.here(alone))
    executing.run_experiment(twin.id)
    assert digests_of(folder, twin.id) == made_there
    folder.store.close()


@pytest.mark.slow
def test_an_ensemble_is_imported_into_a_bucket_by_a_process_that_knows_no_key(
    server: buckets.S3Server, about: About, tmp_path: Path
) -> None:
    with served(tmp_path / "home", **about) as site:
        door = Door(site)
        asked = {"name": "three", "files": door.ensemble(), "recipe": "same"}
        answer = door.client.post("/api/imports", json=asked)
        assert answer.status_code == 201, answer.text
        lab = door.run(answer.json()["experiment"])
        assert lab.experiment.status == "succeeded"
        np.testing.assert_array_equal(lab.true_labels("test"), truth())
        assert verify(site.laboratory).sound
        one_by_one = door.opened(planned=2)
        for number in range(2):
            assert door.add(one_by_one, number).status_code in (200, 201)
    assert not (tmp_path / "home" / "artifacts").exists()
    assert list((tmp_path / "home" / "cache" / "tmp").iterdir()) == []


def test_others_write_while_it_is_looked_whether_files_are_there(tmp_path: Path, sqlite_url: str) -> None:
    """Of a bucket that may be far away: nothing is locked meanwhile."""
    made = house(tmp_path, sqlite_url, None)
    for _ in range(2):
        experiment = made.launch(chains(1, steps=1, seconds=0)[:1], fresh=False)
        worker, asked = executor(made), []

        def exists(digest: str, asked: list[str] = asked) -> bool:
            made.store.workers.register("other", device="cpu", numerics="test", queue="cpu", pid=1)
            asked.append(digest)
            return True

        worker.artifacts.exists = exists  # type: ignore[method-assign]
        worker.drain()
    assert (len(asked), made.store.stages.of(experiment.id)[0].reused_from is None) == (1, False)
    made.close()
