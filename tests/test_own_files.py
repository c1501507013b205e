"""What users' paths lead to is read by another process than the server, within limits, and once."""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import subprocess
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import questions_of_files as questions
from PIL import Image
from serving import served
from test_doors import Process

from modescape import own_files
from modescape.acting import Actor, UserRole, acting
from modescape.datasets.here import describe
from modescape.errors import Busy, InvalidInput
from modescape.forks import Ended, _answer_of
from modescape.own_files import Limits, ReadingApart, reading_apart
from modescape.science.data import bounds
from modescape.science.data.files import version_of_tree
from modescape.science.data.own_folders import scan_folder
from modescape.science.data.own_npz import read_npz
from modescape.spec_parts import DataSpec
from modescape.studies.ood.images import available
from modescape.studies.ood.study import OodSpec


@pytest.fixture(scope="module", autouse=True)
def _importable() -> Iterator[None]:
    """Readers import the questions of this test, too."""
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("PYTHONPATH", f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}")
        yield


@pytest.fixture(scope="module")
def _one(_importable: None) -> Iterator[ReadingApart]:
    with reading_apart(Limits()) as found:
        yield found


@pytest.fixture
def reader(_one: ReadingApart, monkeypatch: pytest.MonkeyPatch) -> ReadingApart:
    monkeypatch.setattr(_one, "started", 0)
    monkeypatch.setattr(_one, "limits", Limits())
    return _one


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "one.txt"
    path.write_text("first\nsecond\n")
    return path


def arrays(path: Path, n: int = 60, classes: int = 3, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    np.savez(path, images=rng.integers(0, 256, (n, 8, 8), dtype=np.uint8), labels=np.arange(n) % classes)
    return path


def pictures(root: Path, each: int = 12) -> Path:
    rng = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (root / name).mkdir(parents=True)
        for i in range(each):
            Image.fromarray(rng.integers(0, 256, (9, 8), dtype=np.uint8)).save(root / name / f"{i}.png")
    return root


def bomb(path: Path, gigabytes: int) -> Path:
    """Images and labels that a megabyte a gigabyte is enough for."""
    n = gigabytes * (1 << 30) // 10_000
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        with archive.open("images.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(
                member,
                {"descr": "|u1", "fortran_order": False, "shape": (n, 100, 100)},  # type: ignore[arg-type]
            )
            block = bytes(100 * 10_000)
            for start in range(0, n, 100):
                member.write(block[: 10_000 * min(100, n - start)])
        with archive.open("labels.npy", "w") as member:
            np.save(member, np.arange(n) % 3)
    return path


def huge_png(path: Path, side: int = 100_000) -> Path:
    """A picture of one colour in a few kilobytes, whose header says how large it is."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1 << 20))))
    return path


def refused(ask: Callable[[], Any]) -> str:
    with pytest.raises(InvalidInput) as found:
        ask()
    return str(found.value)


# --- the same answers -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["npz", "folder", "arrays", "table"])
def test_another_process_says_what_this_one_would(kind: str, tmp_path: Path, reader: ReadingApart) -> None:
    path = {
        "npz": lambda: arrays(tmp_path / "a.npz"),
        "arrays": lambda: arrays(tmp_path / "a.npz"),
        "folder": lambda: pictures(tmp_path / "animals"),
        "table": lambda: tmp_path / "a.csv",
    }[kind]()
    if kind == "table":
        path.write_text("x,y,label\n" + "".join(f"{i},{i % 7},{'abc'[i % 3]}\n" for i in range(60)))
    spec = DataSpec(dataset=kind, path=str(path), train_images=20, validation_images=3)
    apart = describe(spec, ())
    assert reader.started == (2 if kind == "folder" else 1)
    reading = DataSpec(dataset=kind, path=str(path))
    here = describe.__globals__["_described_own"].__wrapped__(reading)
    assert describe.__globals__["_told"](here, spec) == apart
    assert apart.fingerprint is not None
    assert len(apart.classes) == (2 if kind == "folder" else 3)


def test_what_was_wrong_over_there_is_the_same_error_here(tmp_path: Path, reader: ReadingApart) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, images=np.zeros((20, 8, 8), np.uint8), labels=np.zeros(20, np.int64))
    apart = refused(lambda: describe(DataSpec(dataset="npz", path=str(path)), ()))
    assert apart == refused(lambda: read_npz(path))
    assert "all training labels are the same" in apart
    assert reader.started == 1
    assert refused(lambda: describe(DataSpec(dataset="npz", path=str(path)), ())) == apart
    assert reader.started == 1, "what is wrong with a file is known as long as it stays the same file"


@pytest.mark.parametrize("split", ["first", "shuffled"])
def test_classes_that_training_lacks_are_those_of_the_labels(split: str, tmp_path: Path) -> None:
    """Beside the indices that `cut` gives, for every number of images: what is told is worked out from them."""
    from modescape.datasets.here import held_out
    from modescape.datasets.splitting import cut

    for seed in range(3):
        rng = np.random.default_rng(seed)
        labels = rng.choice(12, 90, p=rng.dirichlet(np.full(12, 0.4)))
        labels[:12] = np.arange(12)
        path = tmp_path / f"{seed}.npz"
        np.savez(path, images=rng.integers(0, 256, (90, 4, 4), dtype=np.uint8), labels=labels)
        for train, held, test in ((10, 20, 10), (30, 5, 18), (5, 60, 12), (72, 0, 18)):
            spec = DataSpec(dataset="npz", path=str(path), train_images=train, validation_images=held,
                            test_images=test, split=split, split_seed=seed)  # fmt: skip
            info, raw = describe(spec, ()), read_npz(path, None, seed).raw
            chosen = cut(spec, 72, 0, 18, held_out("npz", 72))
            used = {*raw.train_labels[chosen.validation], *raw.test_labels[chosen.test]}
            lacking = used - {*raw.train_labels[chosen.train]}
            said = [one for one in info.remarks if "training images hold none" in one]
            assert len(said) == bool(lacking)
            assert not lacking or f"hold none of {len(lacking)} of the classes" in said[0]


# --- once -------------------------------------------------------------------------------------------------------------


def test_a_file_is_read_once_until_it_is_another_one(file: Path, reader: ReadingApart) -> None:
    first = questions.first_line(str(file))
    assert first[0] == "first"
    assert first[1] != os.getpid()
    assert questions.first_line(str(file)) == first
    before = file.stat()
    other = file.with_name("other")
    other.write_text("other\nsecond\n")
    other.replace(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size, "of the same size and time, but another file"
    assert questions.first_line(str(file))[0] == "other"
    assert reader.started == 2


def test_those_who_ask_at_once_wait_for_one_process(file: Path, reader: ReadingApart) -> None:
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: questions.slowly(str(file)), range(8)))
    assert (len(set(found)), reader.started) == (1, 1)


@pytest.mark.slow
def test_few_wait_and_nobody_for_all_of_them(tmp_path: Path, reader: ReadingApart) -> None:
    """Sixty questions of one user's, of which each would have to be read: others find a place beside them, and what is
    known is told."""
    known, *files = [tmp_path / f"{number}.txt" for number in range(80)]
    for path in (known, *files):
        path.write_text("first\n")
    assert questions.first_line(str(known))[0] == "first"
    took: list[float] = []

    def ask(path: Path, who: str) -> str:
        begun = time.monotonic()
        with acting(Actor(who, UserRole.RESEARCHER)):
            try:
                return str(questions.slowly(str(path)))
            except Busy as error:
                took.append(time.monotonic() - begun)
                return str(error)

    with ThreadPoolExecutor(80) as threads:
        bobs = [threads.submit(ask, path, "bob") for path in files[:60]]
        waited_for(lambda: [None] * len(took), 50)
        carols = [threads.submit(ask, path, "carol") for path in files[60:]]
        assert questions.first_line(str(known))[0] == "first"
        waited_for(lambda: [None] * len(took), 60)
        assert max(took) < 0.4, "they were told at once"
        assert sum("try again" in one.result() for one in bobs) == 52
        assert sum("try again" not in one.result() for one in carols) >= 4
    assert questions.slowly(str(files[-1])), "and then everybody finds a place again"


def test_nobody_waits_for_ever_for_what_somebody_else_has_asked(
    file: Path, reader: ReadingApart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_files, "_PATIENCE", 0.1)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(questions.slowly, str(file))
        waited_for(lambda: [None] * reader.started, 1)
        with pytest.raises(Busy, match="still being read"):
            questions.slowly(str(file))
        assert first.result() == questions.slowly(str(file))


@pytest.mark.slow
def test_pages_open_while_many_ask_of_large_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    data.mkdir()
    path = arrays(data / "a.npz", 300)
    go_on, begun = threading.Event(), threading.Semaphore(0)
    with served(tmp_path / "home", data=str(data)) as site, site.client() as client:
        readers = own_files._READING[-1].readers
        ask = readers.ask

        def slowly(question: dict[str, Any], *, seconds: float) -> dict[str, Any]:
            begun.release()
            assert go_on.wait(30)
            return ask(question, seconds=seconds)

        monkeypatch.setattr(readers, "ask", slowly)

        def estimate(seed: int) -> httpx.Response:
            document = {
                "data": {"dataset": "npz", "path": str(path), "split_seed": seed}, "training": {"snapshots": 0}
            }  # fmt: skip
            return client.post("/api/estimate", json={"spec": document})

        with ThreadPoolExecutor(40) as threads:
            try:
                asked = [threads.submit(estimate, seed) for seed in range(40)]
                assert begun.acquire(timeout=10)
                assert client.get("/").status_code == 200
                until = time.monotonic() + 10
                while sum(one.done() for one in asked) < 32:
                    assert time.monotonic() < until
                    time.sleep(0.02)
                assert client.get("/").status_code == 200
            finally:
                go_on.set()
            answers = [one.result() for one in asked]
    refusals = [answer for answer in answers if answer.status_code != 200]
    assert (len(answers), len(refusals)) == (40, 32), refusals[0].text
    assert {(one.status_code, one.headers.get("retry-after")) for one in refusals} == {(409, "5")}


def test_folders_that_may_not_be_looked_into_are_told_by_name_and_those_of_systems_are_left_out(
    tmp_path: Path, reader: ReadingApart
) -> None:
    root = pictures(tmp_path / "animals")
    spec = DataSpec(dataset="folder", path=str(root))
    first = describe(spec, ())
    for name in (".Trash", "lost+found"):
        pictures(root / name)
        (root / name).chmod(0)
    started = reader.started
    assert describe(spec, ()) == first
    assert reader.started <= started + 2
    (root / "dogs").chmod(0)
    try:
        if os.geteuid() != 0:
            assert "dogs" in refused(lambda: describe(spec, ()))
    finally:
        for name in (".Trash", "lost+found", "dogs"):
            (root / name).chmod(0o700)


def test_a_tree_that_cannot_be_walked_has_a_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The account of tests may look everywhere: what a system says otherwise is said here."""
    root = pictures(tmp_path / "animals")
    whole, scandir = version_of_tree(root), os.scandir

    def refusing(place: str) -> Any:
        if place.endswith("dogs"):
            raise PermissionError(13, "Permission denied", place)
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refusing)
    without = version_of_tree(root)
    assert without != whole
    Image.new("L", (8, 9), 7).save(root / "dogs" / "new.png")
    assert version_of_tree(root) != without, "its own time has changed"
    monkeypatch.undo()
    pictures(root / ".Trash")
    before = version_of_tree(root)
    Image.new("L", (8, 9), 7).save(root / ".Trash" / "new.png")
    assert version_of_tree(root) == before


@pytest.mark.parametrize("said", [b'7\n{"answer": 1}', b"7\n", b"", b"7\nTraceback\n  of it", b"7\nx\n1"])
def test_whatever_a_fork_has_said_before_it_was_ended_it_is_ended(said: bytes) -> None:
    with pytest.raises(Ended, match="the process that read it failed"):
        _answer_of(bytearray(said), 1.0)


def test_a_picture_that_is_added_or_changed_is_seen(tmp_path: Path, reader: ReadingApart) -> None:
    root = pictures(tmp_path / "animals")
    spec = DataSpec(dataset="folder", path=str(root))
    first = describe(spec, ())
    assert describe(spec.model_copy(update={"train_images": 5}), ()).fingerprint == first.fingerprint
    assert reader.started == 3, "its names and times, its pictures; then its names and times"
    Image.new("L", (8, 9), 7).save(root / "cats" / "0.png")
    changed = describe(spec, ())
    assert changed.fingerprint != first.fingerprint
    Image.new("L", (8, 9), 8).save(root / "dogs" / "new.png")
    assert describe(spec, ()).train_total + describe(spec, ()).test_total == 25
    assert changed.fingerprint == scan_folder_digest(root, without="new.png")


def scan_folder_digest(root: Path, without: str) -> str:
    (root / "dogs" / without).unlink()
    return scan_folder(root).fingerprint(0)


@pytest.mark.slow
def test_changes_in_the_form_read_nothing_again(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    path = arrays(data / "a.npz", 300)
    with served(tmp_path / "home", data=str(data)) as site, site.client() as client:
        document = {"data": {"dataset": "npz", "path": str(path)}, "training": {"snapshots": 0},
                    "ood": [{"dataset": "npz", "path": str(arrays(data / "b.npz", 50, seed=1))}]}  # fmt: skip
        answer = client.post("/api/estimate", json={"spec": document})
        assert answer.status_code == 200, answer.text
        started = own_files._READING[-1].started
        assert started == 2, "one for each file"
        for number in (200, 205, 210):
            changed = {**document, "data": {**document["data"], "train_images": number, "input_scale": "unit"}}
            assert client.post("/api/estimate", json={"spec": changed}).status_code == 200
        assert own_files._READING[-1].started == started


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_one_that_hangs_is_ended_and_says_which_limit(
    file: Path, reader: ReadingApart, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions.slowly(str(file))  # the seconds in which it begins are nobody's
    monkeypatch.setattr(reader, "limits", Limits(seconds=2))
    said = refused(lambda: questions.hangs(str(file)))
    assert "reading took more than 2 seconds" in said
    monkeypatch.setattr(reader, "limits", Limits())
    assert "MODESCAPE_READ_SECONDS" in said
    until = time.monotonic() + 5
    while running_forks(reader):  # a fork that was killed is there until it is waited for
        assert time.monotonic() < until
        time.sleep(0.01)
    assert questions.first_line(str(file))[0] == "first", "others are read"


@pytest.mark.slow
def test_one_that_computes_for_too_long_is_ended(
    file: Path, reader: ReadingApart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "limits", Limits(seconds=0.5))
    monkeypatch.setattr(reader.readers, "ask", patiently(reader.readers.ask))
    said = refused(lambda: questions.computes(str(file)))
    assert "seconds of a processor" in said


def patiently(ask: Callable[..., Any]) -> Callable[..., Any]:
    """Wait for longer than a processor may be used, so that it is the kernel that ends the process."""
    return lambda question, *, seconds: ask(question, seconds=30)


def test_one_that_is_killed_is_an_error_in_words_and_is_asked_again(file: Path, reader: ReadingApart) -> None:
    for number in (1, 2):
        assert "was ended (SIGKILL)" in refused(lambda: questions.is_killed(str(file)))
        assert reader.started == number


def test_one_that_takes_too_much_memory_says_which_limit(
    file: Path, reader: ReadingApart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "limits", Limits(memory=64 << 20))
    assert questions.takes(str(file), 16 << 20) == 1
    said = refused(lambda: questions.takes(str(file), 256 << 20))
    assert "more memory than is allowed" in said
    assert "0.0625 GiB of memory (MODESCAPE_READ_MEMORY)" in said


def test_a_reader_writes_no_file(file: Path, reader: ReadingApart) -> None:
    refused(lambda: questions.writes(str(file)))
    assert not file.with_name("one.txt.written").exists() or not file.with_name("one.txt.written").read_bytes()


def test_pictures_and_archives_are_as_large_as_settings_say(
    tmp_path: Path, reader: ReadingApart, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = pictures(tmp_path / "animals")
    huge_png(root / "cats" / "huge.png")
    said = refused(lambda: describe(DataSpec(dataset="folder", path=str(root)), ()))
    assert "cats/huge.png" in said
    assert "MODESCAPE_READ_PIXELS" in said
    (root / "cats" / "huge.png").unlink()
    monkeypatch.setattr(reader, "limits", Limits(pixels=50))
    said = refused(lambda: describe(DataSpec(dataset="folder", path=str(root)), ()))
    assert "more than 50 pixels" in said
    path = arrays(tmp_path / "a.npz")
    monkeypatch.setattr(reader, "limits", Limits(unpacked=1000))
    assert "MODESCAPE_READ_UNPACKED" in refused(lambda: describe(DataSpec(dataset="npz", path=str(path)), ()))


def test_workers_keep_to_the_same_sizes(tmp_path: Path) -> None:
    """They read by themselves: what bounds them are their settings, taken when they begin."""
    root = pictures(tmp_path / "animals")
    bounds.keep_within(pixels=50, unpacked=1000)
    assert "more than 50 pixels" in refused(lambda: scan_folder(root))
    assert "MODESCAPE_READ_UNPACKED" in refused(lambda: read_npz(arrays(tmp_path / "a.npz")))


@pytest.mark.slow
def test_an_archive_whose_list_lies_is_read_as_far_as_the_list_says(tmp_path: Path, reader: ReadingApart) -> None:
    """A thousandth of what is in it is promised: nothing more is unpacked, and it is told to be damaged."""
    path = bomb(tmp_path / "lies.npz", 1)
    with zipfile.ZipFile(path) as archive:
        (entry,) = [one for one in archive.infolist() if one.filename == "images.npy"]
    raw = path.read_bytes()
    true, said = struct.pack("<L", entry.file_size), struct.pack("<L", entry.file_size // 1000)
    at = raw.rindex(b"PK\x01\x02" + raw[raw.index(b"PK\x01\x02") + 4 : raw.index(b"PK\x01\x02") + 20])
    assert raw[at + 24 : at + 28] == true
    path.write_bytes(raw[: at + 24] + said + raw[at + 28 :])
    assert "cannot be read" in refused(lambda: describe(DataSpec(dataset="npz", path=str(path)), ()))


def test_images_of_another_kind_are_read_apart_too(tmp_path: Path, reader: ReadingApart) -> None:
    info = describe(DataSpec(dataset="npz", path=str(arrays(tmp_path / "a.npz"))), ())
    study = OodSpec(dataset="folder", path=str(pictures(tmp_path / "animals")))
    assert available(study, info, ()).count == 24
    assert reader.started == 3


# --- the server's process ---------------------------------------------------------------------------------------------


def running_forks(reader: ReadingApart) -> list[int]:
    process = reader.readers._process
    return [] if process is None else [one.pid for one in psutil.Process(process.pid).children(recursive=True)]


@pytest.mark.slow
def test_fourteen_megabytes_that_are_fourteen_gigabytes_cost_the_server_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    path, larger = bomb(data / "bomb.npz", 2), bomb(data / "larger.npz", 3)
    assert path.stat().st_size < 14e6
    huge_png(pictures(data / "animals") / "cats" / "huge.png")
    site = Process(
        tmp_path / "home", MODESCAPE_DATA=str(data), MODESCAPE_READ_MEMORY="1", MODESCAPE_READ_UNPACKED="2.5"
    )
    try:
        with site.client() as client:
            client.get("/data").raise_for_status()
            client.post("/api/data", json={"path": str(arrays(data / "a.npz"))}).raise_for_status()
            before = site.largest()
            told = {}
            for name in ("bomb.npz", "larger.npz", "animals"):
                answer = client.post("/api/data", json={"path": str(data / name)})
                assert answer.status_code == 422, answer.text
                told[name] = answer.json()["detail"]
                where = {"dataset": "folder" if name == "animals" else "npz", "path": str(data / name)}
                form = client.post("/api/estimate", json={"spec": {"data": where}})
                assert form.status_code == 422, form.text
        assert "MODESCAPE_READ_MEMORY" in told["bomb.npz"]
        assert "MODESCAPE_READ_UNPACKED" in told["larger.npz"]
        assert "MODESCAPE_READ_PIXELS" in told["animals"]
        assert site.largest() - before < 20e6
        assert larger.exists()
    finally:
        site.kill()


@pytest.mark.slow
@pytest.mark.parametrize("how", [pytest.param(signal.SIGTERM, marks=pytest.mark.check), signal.SIGKILL])
def test_nothing_is_left_when_the_server_stops(how: signal.Signals, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    site = Process(tmp_path / "home", MODESCAPE_DATA=str(data))
    try:
        path = bomb(data / "slow.npz", 1)
        with site.client() as client:
            thread = threading.Thread(target=lambda: asked(client, path), daemon=True)
            thread.start()
            family = waited_for(lambda: psutil.Process(site.process.pid).children(recursive=True), 2)
            site.process.send_signal(how)
            site.process.wait(20)
        _, alive = psutil.wait_procs(family, timeout=5)
        assert not alive, [one.cmdline() for one in alive]
    finally:
        if site.process.poll() is None:
            site.kill()


def asked(client: httpx.Client, path: Path) -> None:
    with contextlib.suppress(httpx.HTTPError):  # the server ends meanwhile
        client.post("/api/data", json={"path": str(path)})


def waited_for(find: Callable[[], list[psutil.Process]], count: int) -> list[psutil.Process]:
    until = time.monotonic() + 30
    while len(found := find()) < count:
        assert time.monotonic() < until
        time.sleep(0.02)
    return found


@pytest.mark.slow
def test_who_asks_at_the_moment_it_ends_for_want_of_questions_is_answered_to_the_end(tmp_path: Path) -> None:
    """The question lies there when it looks for the last time, and what answers it takes longer than its ending."""
    (tmp_path / "brief.py").write_text(
        "import select, time\n"
        "from modescape.forks import answer_in_forks\n"
        "waited = select.select\n"
        "def late(*given):\n"
        "    select.select = waited\n"
        "    time.sleep(1)\n"
        "    return [], [], []\n"
        "select.select = late\n"
        "answer_in_forks(lambda asked: time.sleep(0.3) or asked, idle=0.05)\n"
    )
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
        from modescape.forks import Readers

        readers = Readers("brief")
        try:
            assert readers.ask({"number": 1}, seconds=30) == {"number": 1}
            first = readers._process
            assert readers.ask({"number": 2}, seconds=30) == {"number": 2}, "the next process answers"
            assert first is not readers._process
        finally:
            readers.end()


@pytest.mark.slow
def test_the_process_that_forks_ends_when_nobody_asks_for_long_and_begins_again(tmp_path: Path) -> None:
    """Who asks while it ends is answered: by it, or by the next."""
    (tmp_path / "brief.py").write_text(
        "from modescape.forks import answer_in_forks\nanswer_in_forks(lambda asked: asked, idle=0.05)\n"
    )
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
        from modescape.forks import Readers

        readers = Readers("brief")
        try:
            seen: set[int] = set()
            for number in range(40):
                assert readers.ask({"number": number}, seconds=30) == {"number": number}
                assert isinstance(readers._process, subprocess.Popen)
                seen.add(readers._process.pid)
                time.sleep(0.003 * number if number < 30 else 0.0499)
            assert len(seen) > 1
        finally:
            readers.end()
