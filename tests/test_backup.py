"""Copies of a running service: one moment, every row, ids that go on, and either database reads them."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import _postgres_database
from serving import SPEC, finished, work
from sqlalchemy import select, text
from sqlalchemy.engine import make_url
from test_users import add_users

from modescape import backup as chapter
from modescape import users
from modescape.acting import Actor, UserRole, acting
from modescape.backup import Manifest, backup, copies, prune, restore
from modescape.cli import main
from modescape.database import downgrade, open_database, schema_state, upgrade
from modescape.errors import Conflict, DataCorrupt, InvalidInput, NotFound
from modescape.laboratory import Laboratory, purge, verify
from modescape.settings import Settings
from modescape.store import Store
from modescape.tables import Base, Experiment

Rows = dict[str, list[tuple[Any, ...]]]


def settings_of(home: Path, url: str = "") -> Settings:
    return Settings(home=home, **({"database_url": url} if url else {}))


def laboratory(home: Path, url: str = "") -> Laboratory:
    settings = settings_of(home, url)
    home.mkdir(parents=True, exist_ok=True)
    upgrade(settings.database)
    return Laboratory(settings)


def rows_of(settings: Settings) -> Rows:
    """Every row of every table as Python has it, by the code that the product itself reads with."""
    engine = open_database(settings.database)
    with engine.connect() as connection:
        found = {}
        for table in Base.metadata.sorted_tables:
            rows = connection.execute(select(*table.columns)).all()
            found[table.name] = sorted((tuple(row) for row in rows), key=repr)
    engine.dispose()
    return found


def lived_in(lab: Laboratory) -> None:
    """A bit of everything: done, half done, archived, users, what somebody did, odd texts and numbers."""
    done = finished(lab, "done", notes="two\nlines, “quoted”, \\u0000, 李")
    with acting(Actor("bob", UserRole.RESEARCHER, "192.0.2.7")):
        half = lab.create(SPEC, name="half", tags=["a", "c"])
        lab.store.leases.claim("w0", experiment_id=half.id)
    gone = finished(lab, "gone")
    lab.store.experiments.archive(gone.id)
    add_users(lab.store)
    lab.store.users.attempt(["address 192.0.2.7"])
    lab.store.users.sign_in("1" * 64, lab.store.users.get("bob"), "token", "")
    lab.store.users.know_browser("2" * 64, lab.store.users.get("bob"))
    lab.store.users.new_code()
    lab.store.users.remove("vera")
    lab.store.workers.register("w0", device="cpu", numerics="test", queue="cpu", pid=1)
    lab.store.results.put_selection(done.id, [0, 2])


@pytest.fixture
def second_postgres_url(postgres_server: str) -> Iterator[str]:
    yield from _postgres_database(postgres_server)


@pytest.fixture(params=["sqlite", "postgres"])
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Settings]:
    """Where a copy is taken back to: an empty database of either kind."""

    def made() -> Settings:
        if request.param == "sqlite":
            return settings_of(tmp_path / "back")
        url = request.getfixturevalue("second_postgres_url")
        downgrade(url, "base")  # a server's database is there, and empty
        return settings_of(tmp_path / "back", url)

    return made


@pytest.mark.slow
@pytest.mark.parametrize("source", ["sqlite", "postgres"])
def test_either_database_takes_in_what_the_other_had_row_by_row(
    source: str, elsewhere: Callable[[], Settings], tmp_path: Path, postgres_url: str
) -> None:
    lab = laboratory(tmp_path / "home", postgres_url if source == "postgres" else "")
    lived_in(lab)
    before = rows_of(lab.settings)
    assert all(before[name] for name in ("experiment", "stage", "chunk", "matrix", "event", "deed", "user_account"))
    taken = backup(lab, tmp_path / "backups")
    assert (taken.manifest.database, taken.manifest.missing) == ({"postgres": "postgresql"}.get(source, source), [])
    assert {name: kept.rows for name, kept in taken.manifest.tables.items()} == {
        name: len(rows) for name, rows in before.items()
    }
    settings = elsewhere()
    restore(tmp_path / "backups", settings, keep_tokens=True)
    left_out = ("sign_in", "sign_in_failure", "sign_in_code", "known_browser")
    assert all(before[name] for name in left_out), "who had signed out since would be in again"
    assert rows_of(settings) == {**before, **{name: [] for name in left_out}}
    back = Laboratory(settings)
    assert verify(back).sound
    last = lab.store.events.last_id()
    lab.store.experiments.archive("half")
    back.store.experiments.archive("half")
    assert back.store.events.after(last)[0].id == lab.store.events.after(last)[0].id == last + 1
    assert back.store.deeds.page(limit=1)[0].id == lab.store.deeds.page(limit=1)[0].id
    assert back.store.experiments.get("done").notes == "two\nlines, “quoted”, \\u0000, 李"
    from modescape.listing import ListQuery

    assert [row.slug for row in back.store.experiments.page(ListQuery()).items] == ["done"]
    with pytest.raises(Conflict, match="not empty"):
        restore(tmp_path / "backups", settings)
    for one in (lab, back):
        one.store.close()


@pytest.mark.slow
def test_ids_that_were_given_and_are_gone_are_not_given_again(
    elsewhere: Callable[[], Settings], tmp_path: Path
) -> None:
    lab = laboratory(tmp_path / "home")
    row = finished(lab, "gone")
    lab.store.experiments.archive(row.id)
    purge(lab, row.id)
    last = lab.store.events.last_id()
    lab.store.events.prune(0)
    backup(lab, tmp_path / "backups")
    settings = elsewhere()
    restore(tmp_path / "backups", settings)
    back = Store(settings.database)
    back.workers.register("w", device="cpu", numerics="n", queue="cpu", pid=1)
    assert back.events.after()[-1].id == last + 1
    back.close()


@pytest.mark.slow
def test_an_experiment_that_was_half_done_is_finished_with_the_same_bytes(tmp_path: Path) -> None:
    lab = laboratory(tmp_path / "home")
    row = lab.create(SPEC, name="half")
    assert lab.store.leases.claim("killed", experiment_id=row.id, lease_seconds=0.6) is not None
    backup(lab, tmp_path / "backups")
    settings = settings_of(tmp_path / "back")
    restore(tmp_path / "backups", settings)
    back = Laboratory(settings)
    time.sleep(0.7)
    for one in (lab, back):
        one.store.leases.reap()
        work(one, row.id)
        assert one.store.experiments.get(row.id).status == "succeeded"
    assert lab.store.outputs.digests() == back.store.outputs.digests()


@pytest.mark.slow
def test_a_copy_is_of_one_moment_while_others_write(store_url: str, tmp_path: Path) -> None:
    """Two numbers that are equal in every transaction are equal in every copy."""
    lab = laboratory(tmp_path / "home", store_url)
    row, begun, over = finished(lab, "twins"), threading.Event(), threading.Event()

    def change() -> None:
        store, count = Store(lab.settings.database), 0
        while not over.is_set():
            count += 1
            store.experiments.patch(row.id, notes=f"{count}", tags=[f"{count}"])
            begun.set()
        store.close()

    writer = threading.Thread(target=change)
    writer.start()
    try:
        assert begun.wait(20)
        seen = set()
        for _ in range(5):
            taken = backup(lab, tmp_path / "backups")
            kept = next(iter(chapter._lines(taken.folder / "tables" / "experiment.jsonl.gz")))
            told = list(chapter._lines(taken.folder / "tables" / "event.jsonl.gz"))[-1]
            assert kept["tags"] == [kept["notes"]] == told["payload"]["tags"]
            seen.add(kept["notes"])
    finally:
        over.set()
        writer.join()
    assert len(seen) > 1, "somebody wrote"


@pytest.mark.slow
def test_files_are_copied_once_and_go_with_the_last_copy_that_names_them(tmp_path: Path) -> None:
    lab, target = laboratory(tmp_path / "home"), tmp_path / "backups"
    first = finished(lab, "first")
    one = backup(lab, target)
    assert one.copied == one.manifest.artifacts == len(lab.store.outputs.digests())
    second = finished(lab, "second")
    two = backup(lab, target)
    assert two.copied == two.manifest.artifacts - one.manifest.artifacts > 0
    lab.store.experiments.archive(first.id)
    purge(lab, first.id)
    three = backup(lab, target, keep=2)
    assert copies(target) == [three.folder, two.folder]
    pool = {path.stem for path in (target / "artifacts").glob("*/*")}
    assert pool == {digest for digest, _ in chapter._named(two.folder / "tables")}
    assert prune(target, 1) > 0
    pool = {path.stem for path in (target / "artifacts").glob("*/*")}
    assert pool == set(lab.store.outputs.digests())
    assert second.slug
    with pytest.raises(InvalidInput):
        backup(lab, target, keep=0)


def test_nothing_is_deleted_but_what_a_backup_keeps(tmp_path: Path) -> None:
    lab, target, victim = laboratory(tmp_path / "home"), tmp_path / "backups", tmp_path / "victim"
    victim.mkdir()
    digest = "0" * 64
    for path in (victim / "thesis.tex", victim / f"{digest}.npy"):
        path.write_text("kept")
    backup(lab, target)
    (target / "artifacts").mkdir(exist_ok=True)
    (target / "artifacts" / "00").symlink_to(victim)
    own = target / "artifacts" / "ff"
    own.mkdir()
    (own / "notes.txt").write_text("kept")
    (own / f"{'f' * 64}.npy").write_text("named by nothing")
    assert prune(target, 1) == len("named by nothing")
    assert sorted(path.name for path in victim.iterdir()) == [f"{digest}.npy", "thesis.tex"]
    assert [path.name for path in own.iterdir()] == ["notes.txt"]


def test_a_copy_is_its_owners_alone(tmp_path: Path) -> None:
    taken = backup(laboratory(tmp_path / "home"), tmp_path / "backups")
    for path in (tmp_path / "backups", taken.folder):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


@pytest.mark.slow
def test_what_is_damaged_or_missing_is_told_and_nothing_of_it_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = laboratory(tmp_path / "home")
    finished(lab)
    damaged, missing = lab.store.outputs.digests()[:2]
    path = lab.artifacts.path(damaged)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    lab.artifacts.path(missing).unlink()
    monkeypatch.setenv("MODESCAPE_HOME", str(tmp_path / "home"))
    assert main(["backup", str(tmp_path / "backups")]) == 1
    told = capsys.readouterr()
    assert f"{damaged} is missing or damaged" in told.err
    assert f"{missing} is missing or damaged" in told.err
    assert not list((tmp_path / "backups" / "artifacts").glob(f"*/{damaged}*"))
    monkeypatch.setenv("MODESCAPE_HOME", str(tmp_path / "back"))
    assert main(["restore", str(tmp_path / "backups")]) == 1
    told = capsys.readouterr()
    assert f"missing  {damaged}" in told.out


@pytest.mark.slow
def test_files_purged_while_they_are_copied_are_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = laboratory(tmp_path / "home")
    kept, gone = finished(lab, "kept"), finished(lab, "gone")
    copy, purged = chapter._copied, []

    def slow(*given: Any) -> Any:
        if not purged:
            lab.store.experiments.archive(gone.id)
            purged.append(purge(lab, gone.id))
        return copy(*given)

    monkeypatch.setattr(chapter, "_copied", slow)
    taken = backup(lab, tmp_path / "backups")
    assert taken.manifest.missing == []
    assert taken.manifest.tables["experiment"].rows == 1
    assert kept.slug


def changed_copy(backups: Path, to: Path, table: str, change: Callable[[list[dict[str, Any]]], object]) -> Path:
    """A copy in which somebody has changed the rows of a table, and what says of them."""
    shutil.copytree(backups, to)
    (about,) = to.glob("*/manifest.json")
    path, said = about.parent / "tables" / f"{table}.jsonl.gz", json.loads(about.read_text())
    rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    change(rows)
    path.write_bytes(gzip.compress(b"".join(json.dumps(row).encode() + b"\n" for row in rows)))
    said["tables"][table] |= {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "rows": len(rows)}
    about.write_text(json.dumps(said))
    return to


CHANGES: dict[str, tuple[str, Callable[[list[dict[str, Any]]], object]]] = {
    "a column that is none": ("experiment", lambda rows: rows[0].update(nosuch=1)),
    "a value that lacks": ("experiment", lambda rows: rows[0].pop("slug")),
    "no value where there must be one": ("experiment", lambda rows: rows[0].update(slug=None)),
    "a day that is none": ("experiment", lambda rows: rows[0].update(created_at="yesterday")),
    "a day of nowhere": ("experiment", lambda rows: rows[0].update(created_at="2026-01-01T00:00:00")),
    "the same rows twice": ("experiment", lambda rows: rows.extend(rows[:])),
    "a row of nobody's": ("stage", lambda rows: rows[0].update(experiment_id="nobody")),
    "a word for a number": ("stage", lambda rows: rows[0].update(step="many")),
    "a number that is too large": ("stage", lambda rows: rows[0].update(step=2**70)),
    "a truth for a number": ("stage", lambda rows: rows[0].update(step=True)),
    "an object for a name": ("experiment", lambda rows: rows[0].update(name={"a": 1})),
    "bytes that are none": ("chunk", lambda rows: rows[0].update(points="%%%")),
    "a status that nothing has": ("experiment", lambda rows: rows[0].update(status="nonsense")),
}  # fmt: skip


@pytest.mark.slow
def test_a_copy_that_says_what_cannot_be_is_refused_in_words_and_leaves_nothing(
    elsewhere: Callable[[], Settings], tmp_path: Path
) -> None:
    lab = laboratory(tmp_path / "home")
    finished(lab)
    backup(lab, tmp_path / "backups")
    settings, told = elsewhere(), {}
    for number, (what, (table, change)) in enumerate(CHANGES.items()):
        copy = changed_copy(tmp_path / "backups", tmp_path / f"copy {number}", table, change)
        try:
            restore(copy, settings)
            told[what] = "restored"
        except DataCorrupt:
            assert not settings.home.exists(), what
            if settings.database.get_backend_name() != "sqlite":
                assert schema_state(settings.database).found is None, what
    assert told == {}
    restore(tmp_path / "backups", settings)
    assert Laboratory(settings).store.experiments.get("small-one").status == "succeeded"


@pytest.mark.slow
def test_what_was_there_before_stays_where_a_copy_is_refused(tmp_path: Path) -> None:
    lab, settings = laboratory(tmp_path / "home"), settings_of(tmp_path / "back")
    finished(lab)
    backup(lab, tmp_path / "backups")
    copy = changed_copy(tmp_path / "backups", tmp_path / "copy", *CHANGES["a status that nothing has"])
    settings.home.mkdir()
    (settings.home / "notes.txt").write_text("kept")
    with pytest.raises(DataCorrupt, match="nonsense"):
        restore(copy, settings)
    assert not Path(str(settings.database.database)).exists()
    left = {path.name for path in settings.home.rglob("*") if path.is_file() and path.suffix != ".lock"}
    assert left == {"notes.txt"}
    upgrade(settings.database)  # tables that are there, and empty, stay
    with pytest.raises(DataCorrupt, match="nonsense"):
        restore(copy, settings)
    assert schema_state(settings.database).current
    assert not any(rows_of(settings).values())
    assert not list(settings.home.rglob("*.npy"))


@pytest.mark.slow
def test_a_copy_that_was_changed_or_is_none_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    target, settings = tmp_path / "backups", settings_of(tmp_path / "back")
    with pytest.raises(NotFound, match="none"):
        restore(target, settings)
    lab = laboratory(tmp_path / "home")
    finished(lab)
    folder = backup(lab, target).folder
    with pytest.raises(NotFound, match=folder.name):
        restore(target, settings, at="2020-01-01T00-00-00Z")
    path = folder / "tables" / "stage.jsonl.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(DataCorrupt, match="nothing was restored"):
        restore(target, settings)
    assert not (tmp_path / "back").exists()
    path.write_bytes(whole)
    about = folder / "manifest.json"
    said = json.loads(about.read_text())
    for wrong in ({"format": 2}, {"format": 1, "revision": "9999"}):
        about.write_text(json.dumps({**said, **wrong}))
        with pytest.raises(Exception, match=r"format 2|9999"):
            restore(target, settings)
    about.write_text(json.dumps(said))
    assert restore(target, settings, at=folder.name) == Manifest.read(folder)


@pytest.mark.slow
def test_tokens_hold_again_only_where_that_is_asked_for(elsewhere: Callable[[], Settings], tmp_path: Path) -> None:
    lab = laboratory(tmp_path / "home")
    digests = [users.digest(secret) for secret in add_users(lab.store).values()]
    lab.store.links.add("view", "/", "for a friend", users.digest("a link"), timedelta(days=1), without_sign_in=True)
    report = lab.store.reports.create("Told", [{"kind": "text", "id": "a", "markdown": "note"}])
    lab.store.reports.add_image(report.slug, "dot", b"\x89PNG \x00\xff", "image/png", (1, 1))
    backup(lab, tmp_path / "backups")
    settings = elsewhere()
    restore(tmp_path / "backups", settings)
    back = Laboratory(settings)
    assert back.store.links.by_secret(users.digest("a link")) is None
    (image,) = back.store.reports.images(back.store.reports.get("told").id)
    assert back.store.reports.image("told", image.digest).content == b"\x89PNG \x00\xff"
    assert back.store.users.all()
    assert [back.store.users.by_token(digest) for digest in digests] == [None] * len(digests)
    kept = settings_of(tmp_path / "kept")
    restore(tmp_path / "backups", kept, keep_tokens=True)
    assert all(Laboratory(kept).store.users.by_token(digest) is not None for digest in digests)
    assert Laboratory(kept).store.links.by_secret(users.digest("a link")) is not None


def packed(path: Path, content: bytes) -> dict[str, object]:
    """Another file of a table, and what the manifest must say of it to be believed."""
    path.write_bytes(gzip.compress(content))
    return {"rows": content.count(b"\n"), "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "last": None}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("table", "content", "said"),
    [
        ("artifact", b'{"digest": "../../x", "bytes": 1}\n', "no digest"),
        ("artifact", b'{"digest": "' + b"A" * 64 + b'", "bytes": 1}\n', "no digest"),
        ("artifact", b'{"bytes": 1}\n', "no digest"),
        ("fact", b'{"name": "' + b"x" * 2000 + b'"}\n', "more than 1,000 bytes"),
        ("fact", b"[1]\n", "no row"),
        ("fact", b"{\n", "cannot be read"),
    ],
)
def test_what_rows_say_is_looked_at_before_anything_is_made(
    table: str, content: bytes, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = backup(laboratory(tmp_path / "home"), tmp_path / "backups").folder
    monkeypatch.setattr(chapter, "_LONGEST_LINE", 1000)
    about = json.loads((folder / "manifest.json").read_text())
    about["tables"][table] = packed(folder / "tables" / f"{table}.jsonl.gz", content)
    (folder / "manifest.json").write_text(json.dumps(about))
    with pytest.raises(DataCorrupt, match=said):
        restore(tmp_path / "backups", settings_of(tmp_path / "back"))
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize(
    "wrong", [{"tables": {"../../x": {"rows": 0, "sha256": "0"}}}, {"tables": 3}, {"revision": "head"}, {"more": 1}]
)
def test_a_manifest_that_leads_elsewhere_is_none(wrong: dict[str, object], tmp_path: Path) -> None:
    folder = backup(laboratory(tmp_path / "home"), tmp_path / "backups").folder
    about = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**about, **wrong}))
    with pytest.raises(DataCorrupt, match="says what no backup of ours does"):
        restore(tmp_path / "backups", settings_of(tmp_path / "back"))
    assert not (tmp_path / "back").exists()


@pytest.mark.slow
def test_the_copy_of_an_older_version_is_migrated(elsewhere: Callable[[], Settings], tmp_path: Path) -> None:
    """As version 0014 would have written it: its tables have no users, and sweeps no maker."""
    lab = laboratory(tmp_path / "home")
    row = finished(lab, "old")
    downgrade(lab.settings.database, "0014")
    engine = open_database(lab.settings.database)
    partial = tmp_path / "backups" / "2026-11-30T00-00-00Z"
    partial.mkdir(parents=True)
    at, tables = chapter._tables(engine, partial / "tables")
    engine.dispose()
    assert "user_account" not in tables
    told = Manifest(1, "0.1.0", "0014", "sqlite", at.strftime("%Y"), tables, 0, 0)
    (partial / "manifest.json").write_text(json.dumps(dataclasses.asdict(told)))
    settings = elsewhere()
    restore(tmp_path / "backups", settings)
    assert schema_state(settings.database).current
    store = Store(settings.database)
    assert store.experiments.get(row.id).name == "old"
    assert store.users.all() == []
    store.close()


def test_times_and_odd_numbers_keep_their_meaning() -> None:
    from sqlalchemy import Column as C
    from sqlalchemy import DateTime, Float, LargeBinary

    for kind, value, written in (
        (Float(), float("inf"), "Infinity"), (Float(), 0.1, 0.1), (Float(), None, None),
        (LargeBinary(), b"\x00\xff", "AP8="), (LargeBinary(), None, None),
    ):  # fmt: skip
        assert chapter._writing(kind)(value) == written
        assert chapter._reading(C("x", kind), "sqlite")(written) == value
    nan = chapter._writing(Float())(float("nan"))
    assert nan == "NaN"
    assert chapter._reading(C("x", Float()), "sqlite")(nan) != chapter._reading(C("x", Float()), "sqlite")(nan)
    from datetime import datetime

    at = datetime(2026, 11, 30, 14, 5, 0, 123456, tzinfo=UTC)
    for stored, dialect, back in ((at, "postgresql", at), (at.replace(tzinfo=None), "sqlite", at.replace(tzinfo=None))):
        text_ = chapter._writing(DateTime())(stored)
        assert text_ == "2026-11-30T14:05:00.123456Z"
        assert chapter._reading(C("x", DateTime()), dialect)(text_) == back


@pytest.mark.slow
def test_nothing_is_read_that_is_not_ours(store_url: str, tmp_path: Path) -> None:
    lab = laboratory(tmp_path / "home", store_url)
    engine = open_database(lab.settings.database)
    with engine.connect() as connection:
        found = {table.name for table in chapter._described(connection).sorted_tables}
        assert connection.execute(text("SELECT 1")).scalar() == 1
    engine.dispose()
    assert found == {table.name for table in Base.metadata.sorted_tables}
    assert make_url(store_url).get_backend_name() in ("sqlite", "postgresql")
    assert Experiment.__tablename__ in found
