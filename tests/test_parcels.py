"""An experiment as one .zip from its page, with sizes and progress; its files and its log as they are asked for."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import time
import zipfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from serving import SPEC, Served, finished, served
from sqlalchemy import update

from modescape import parcels
from modescape.acting import Actor, UserRole, acting
from modescape.errors import Busy, Conflict, InvalidInput, NoRoom, NotFound
from modescape.laboratory import Laboratory, export
from modescape.records import Role
from modescape.settings import Settings
from modescape.store import Store
from modescape.store.parcels import KEPT, ParcelState
from modescape.tables import Parcel, Stage, utcnow
from modescape_api.background import packing
from modescape_api.pages import timelines

Wait = Callable[..., None]


def experiment(store: Store) -> str:
    from modescape.spec import ExperimentSpec

    return store.experiments.create(name="one", spec=ExperimentSpec.model_validate(SPEC), stages=[]).id


# -- the store, on both databases -------------------------------------------------------------------------------------


def test_an_archive_says_how_far_it_is_and_nobody_waits_for_one_that_has_ended(store: Store) -> None:
    id_ = experiment(store)
    row, is_new = store.parcels.create(id_, ["figures", "weights"], 100)
    assert is_new
    again, is_new_too = store.parcels.create(id_, ["weights", "figures"], 100)
    assert (again.id, is_new_too) == (row.id, False)
    store.parcels.heard(row.id, 40, 120)
    (told,) = store.parcels.of(id_)
    assert (told.state, told.done_bytes, told.total_bytes) == (ParcelState.MAKING, 40, 120)
    store.parcels.ready(row.id, 7, 130)
    (told,) = store.parcels.of(id_)
    assert (told.state, told.files, told.done_bytes, told.finished_at is None) == (ParcelState.READY, 7, 130, False)
    kinds = [event.kind for event in store.events.after(0)]
    assert kinds.count("parcel") == 3
    late, _ = store.parcels.create(id_, [], 1)
    _made_earlier(store, late.id, timedelta(minutes=3))
    assert store.parcels.get("one", late.id).state == ParcelState.FAILED
    with pytest.raises(NotFound):
        store.parcels.get("one", "nothing")
    _made_earlier(store, row.id, KEPT + timedelta(minutes=1))
    assert store.parcels.forget() == [row.id]


def test_the_same_again_is_the_one_that_is_here_while_nothing_has_changed(store: Store) -> None:
    id_ = experiment(store)
    row, _ = store.parcels.create(id_, ["weights", "figures"], 100)
    assert store.parcels.unchanged(id_, ["figures", "weights"]) == [], "it is not ready"
    store.parcels.ready(row.id, 7, 130)
    later, _ = store.parcels.create(id_, ["weights"], 50)
    assert [one.id for one in store.parcels.unchanged("one", ["figures", "weights"])] == [row.id]
    assert store.parcels.unchanged(id_, ["figures"]) == []
    assert {one.id for one in store.parcels.kept()} == {row.id, later.id}
    store.experiments.patch(id_, notes="another")
    assert store.parcels.unchanged(id_, ["figures", "weights"]) == []
    store.parcels.failed(later.id, "because")
    assert [one.id for one in store.parcels.kept()] == [row.id]
    store.parcels.drop([row.id])
    assert [one.id for one in store.parcels.of(id_)] == [later.id]


def test_one_person_may_have_four_made_at_once_and_all_together_sixteen(store: Store) -> None:
    asked, some = [[str(part)] for part in parcels.Part], [experiment(store) for _ in range(17)]
    with acting(Actor("ann", UserRole.VIEWER)):
        rows = [store.parcels.create(some.pop(), asked[0], 1)[0] for _ in range(4)]
        with pytest.raises(Busy, match="4 archives of yours"):
            store.parcels.create(rows[0].experiment_id, asked[1], 1)
        assert store.parcels.create(rows[0].experiment_id, asked[0], 1)[1] is False, "the same is no new one"
        store.parcels.ready(rows[1].id, 1, 1)
        store.parcels.create(rows[0].experiment_id, asked[1], 1)
        _made_earlier(store, rows[2].id, timedelta(minutes=3))  # nobody speaks of it any more
        store.parcels.create(rows[0].experiment_id, asked[2], 1)
    for name in ("bob", "cleo", "dan"):
        with acting(Actor(name, UserRole.VIEWER)):
            for part in asked[:4]:
                store.parcels.create(some.pop(), part, 1)
    with acting(Actor("eve", UserRole.ADMIN)), pytest.raises(Busy, match="16 archives of everybody"):
        store.parcels.create(some.pop(), asked[0], 1)


def _made_earlier(store: Store, id_: str, by: timedelta) -> None:
    with store.parcels.database.writing() as change:
        before = change.now - by
        change.session.execute(update(Parcel).where(Parcel.id == id_).values(created_at=before, heard_at=before))


# -- what is in one ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("parcels")) as running:
        finished(running.laboratory, name="small one")
        yield running


@pytest.mark.slow
def test_an_archive_is_made_elsewhere_told_of_and_whole(site: Served, wait_until: Wait) -> None:
    with site.client() as client:
        before = client.get("/api/experiments/small-one/parcels").json()
        kept = {path.stem: path for path in site.laboratory.settings.artifact_place.rglob("*.*")}  # type: ignore[union-attr]
        row = site.laboratory.store.experiments.get("small-one")
        stages = site.laboratory.store.stages.of(row.id)
        named = {one["digest"]: one["kind"] for stage in stages for one in stage.result.get("artifacts", [])}
        weights = sum(kept[digest].stat().st_size for digest, kind in named.items() if kind == "weights")
        assert before["sizes"]["weights"] == weights > 0
        made = client.post("/api/experiments/small-one/parcels", json={"parts": ["figures", "weights"]})
        assert made.status_code == 202
        own = made.headers["location"]
        assert client.get(f"{own}/small-one.zip").status_code == 409
        wait_until(lambda: client.get(own).json()["state"] != "making", seconds=90, what="an archive")
        done = client.get(own).json()
        assert done["state"] == "ready", done
        answer = client.get(done["links"]["file"])
        assert len(answer.content) == done["total_bytes"] == done["done_bytes"]
        with client.stream("GET", done["links"]["file"], headers={"range": "bytes=0-3"}) as part:
            assert (part.status_code, part.read()) == (206, b"PK\x03\x04")
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            names = archive.namelist()
            sums = dict(reversed(line.split("  ")) for line in archive.read("SHA256SUMS").decode().splitlines())  # type: ignore[misc]
            assert sums.keys() == set(names) - {"SHA256SUMS"}
            assert len(names) == done["files"]
            assert all(hashlib.sha256(archive.read(name)).hexdigest() == digest for name, digest in sums.items())
            assert {Path(name).stem for name in names if name.startswith("artifacts/")} == {
                digest for digest, kind in named.items() if kind == "weights"
            }
            assert {"figures/trajectories.csv", "figures/trajectories.svg", "figures/trajectories.pdf"} <= set(names)
            assert json.loads(archive.read("spec.json"))["ensemble"]["runs"] == 2
        assert client.get(f"{own}/other.zip").status_code == 404
        page = client.get("/experiments/small-one", headers={"accept": "text/html"}).text
        assert f'href="{done["links"]["file"]}"' in page
        site.laboratory.settings.made_folder.joinpath(f"{done['id']}.zip").unlink()
        assert client.get(done["links"]["file"]).status_code == 404


class Disk:
    """A folder's disk of so many bytes, of which archives take some."""

    def __init__(self, folder: Path, total: int) -> None:
        self.folder, self.total = folder, total

    @property
    def files(self) -> dict[str, int]:
        return {path.stem: path.stat().st_size for path in self.folder.glob("*.zip")}

    def usage(self, _: object) -> SimpleNamespace:
        return SimpleNamespace(total=self.total, free=self.total - sum(self.files.values()))


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    found = Disk(Settings(home=tmp_path).made_folder, 100_000)
    monkeypatch.setattr(packing.shutil, "disk_usage", found.usage)
    return found


@pytest.fixture
def packer(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[packing.Packing]:
    """Makes archives of 10,000 bytes."""

    def write(_: object, asked: dict[str, str], to: Path, **__: object) -> None:
        to.write_bytes(b"x" * 10_000)
        store.parcels.ready(asked["parcel"], 1, 10_000)

    monkeypatch.setattr(packing.Maker, "write", write)
    found = packing.Packing(Settings(home=tmp_path), store)
    yield found
    found.end()


def packed(packer: packing.Packing, store: Store, wait_until: Wait, who: str, id_: str, *parts: str) -> str:
    with acting(Actor(who, UserRole.VIEWER)):
        row = packer.start(id_, parts, 10_000)
    wait_until(lambda: store.parcels.get(id_, row.id).state == ParcelState.READY, what="an archive")
    wait_until(lambda: not packer._turn.locked(), what="its end")
    return row.id


def test_archives_of_one_person_take_a_part_of_the_disk_whatever_is_asked_for(
    packer: packing.Packing, store: Store, disk: Disk, wait_until: Wait
) -> None:
    some = [experiment(store) for _ in range(7)]
    anns = packed(packer, store, wait_until, "ann", some[0], "weights")
    vics = [packed(packer, store, wait_until, "vic", id_, "weights") for id_ in some]
    assert disk.files.keys() == {anns, vics[-2], vics[-1]}, "a quarter of the disk is one person's"
    assert {one.id for one in store.parcels.kept()} == disk.files.keys()
    again = [packed(packer, store, wait_until, "vic", some[-1], "weights") for _ in range(5)]
    assert set(again) == {vics[-1]}
    os.utime(disk.folder / f"{vics[-2]}.zip", times=(0, 0))
    os.utime(disk.folder / f"{vics[-1]}.zip", times=(1, 1))
    assert packer.used(store.parcels.get(some[-2], vics[-2])) is not None
    newest = packed(packer, store, wait_until, "vic", some[0], "figures")
    assert disk.files.keys() == {anns, vics[-2], newest}, "what was asked for lately stays"
    with acting(Actor("vic", UserRole.VIEWER)), pytest.raises(Conflict, match="may take 25 kB"):
        packer.start(some[0], ["matrices"], 25_001)
    with acting(Actor("root", UserRole.ADMIN)), pytest.raises(Conflict, match="may take 50 kB"):
        packer.start(some[0], ["matrices"], 50_001)
    assert len(disk.files) == 3, "and nothing went for what is refused"
    for who in ("bob", "cleo", "dan"):
        packed(packer, store, wait_until, who, some[1], f"{who}s")
    assert len(disk.files) == 5, "half of the disk is everybody's"


def test_an_archive_that_nobody_fetches_for_an_hour_goes_with_its_row(
    packer: packing.Packing, store: Store, disk: Disk, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = experiment(store)
    old, new = (packed(packer, store, wait_until, "vic", id_, part) for part in ("weights", "figures"))
    made, _ = store.parcels.create(id_, ["matrices"], 1)
    packer.file(made).write_bytes(b"so far")
    for one in (old, made.id):
        os.utime(disk.folder / f"{one}.zip", times=(time.time() - 3700,) * 2)
    monkeypatch.setattr(packing, "_TIDY", 0.05)
    packing.Packing(Settings(home=disk.folder.parent), store).end()  # looks once
    wait_until(lambda: disk.files.keys() == {new, made.id}, what="one file less")
    wait_until(lambda: {one.id for one in store.parcels.kept()} == {new, made.id}, what="one row less")


@pytest.mark.slow
def test_the_form_begins_one_and_unknown_parts_are_refused(site: Served, wait_until: Wait) -> None:
    with site.visitor() as visitor:
        begun = visitor.post("/experiments/small-one/pack", data={"parts": ["ensemble"]})
        assert begun.headers["location"] == "/experiments/small-one#files"
        row = site.laboratory.store.experiments.get("small-one")

        def state() -> str:
            return site.laboratory.store.parcels.of(row.id)[0].state

        wait_until(lambda: state() != ParcelState.MAKING, seconds=60, what="an archive")
        assert state() == ParcelState.READY
        assert visitor.post("/experiments/small-one/pack", data={"parts": ["everything"]}).status_code == 422


def test_nothing_is_begun_that_the_disk_has_no_room_for(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    laboratory = Laboratory(Settings(home=tmp_path))
    finished(laboratory)
    monkeypatch.setattr("shutil.disk_usage", lambda place: type("Usage", (), disk)())
    disk = {"free": 10**9, "total": 10**11}
    with pytest.raises(NoRoom, match="5 % of the disk are left alone"):
        parcels.pack(laboratory, "small-one", parcels.USUAL, tmp_path / "x.zip", lambda done, total: None)
    disk = {"free": 1000, "total": 1000}
    with pytest.raises(NoRoom, match="are free"):
        parcels.pack(laboratory, "small-one", parcels.USUAL, tmp_path / "x.zip", lambda done, total: None)
    assert not (tmp_path / "x.zip").exists()
    with pytest.raises(InvalidInput):
        parcels.checked(["nothing"])
    laboratory.store.close()


@pytest.mark.slow
def test_files_that_are_lost_are_left_out_and_told(sqlite_url: str, tmp_path: Path) -> None:
    laboratory = Laboratory(Settings(home=tmp_path))
    finished(laboratory)
    stages = laboratory.store.stages.of(laboratory.store.experiments.get("small-one").id)
    named = {one["digest"]: one["kind"] for stage in stages for one in stage.result.get("artifacts", [])}
    optimum = laboratory.store.results.solutions(stages[0].experiment_id, role=Role.OPTIMUM).items[0]
    lost = str(optimum.weights)
    laboratory.artifacts.path(lost).unlink()
    asked = [parcels.Part.WEIGHTS, parcels.Part.ENSEMBLE]
    count = parcels.pack(laboratory, "small-one", asked, tmp_path / "x.zip", lambda *_: None)
    export(laboratory, "small-one", tmp_path / "folder")
    weights = {digest for digest, kind in named.items() if kind == "weights"}
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert len(archive.namelist()) == count
        packed = {Path(name).stem for name in archive.namelist() if name.startswith("artifacts/")}
        assert packed == weights - {lost}
        assert lost in archive.read("README.md").decode()
        assert "ensemble.zip" not in archive.namelist()
    assert {path.stem for path in (tmp_path / "folder" / "artifacts").iterdir()} == named.keys() - {lost}
    assert lost in (tmp_path / "folder" / "README.md").read_text()
    laboratory.store.close()


def test_what_nobody_has_asked_for_lately_does_not_stay_on_the_disk(
    tmp_path: Path, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of an experiment that was purged since, and what a server was making when it was killed."""
    monkeypatch.setattr(packing, "_TIDY", 0.05)
    with served(tmp_path) as site:
        folder = site.settings.made_folder
        folder.mkdir(exist_ok=True)
        (folder / "half").mkdir()
        (folder / "half" / "made").write_bytes(b"x")
        for name in ("old.zip", "new.zip"):
            (folder / name).write_bytes(b"x")
        for name in ("old.zip", "half"):
            os.utime(folder / name, times=(time.time() - KEPT.total_seconds() - 60,) * 2)
        wait_until(lambda: [path.name for path in folder.iterdir()] == ["new.zip"], 20, "an empty folder")


# -- files and log ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_files_have_their_sizes_and_are_found(site: Served) -> None:
    def rows(query: str) -> list[str]:
        page = visitor.get(f"/experiments/small-one?{query}").text
        section = page[page.index('id="live-files"') : page.index('id="log"')]
        return re.findall(r'<th scope="row">([^<]+)</th>', section)

    with site.visitor() as visitor:
        every = rows("")
        assert rows("file=DISAGREE") == [name for name in every if "disagreement" in name] != []
        assert rows("kind=matrix") == [name for name in every if name.startswith("matrix")]
        assert rows("kind=nonsense") == every
        page = visitor.get("/experiments/small-one").text
        row = site.laboratory.store.experiments.get("small-one")
        matrix = next(one for one in site.laboratory.store.results.matrices(row.id) if one.name == "cosine")
        size = site.laboratory.artifacts.path(matrix.artifact).stat().st_size
        assert f'<td class="num">{size / 1000:.1f} kB</td>' in page or f'<td class="num">{size} B</td>' in page


@pytest.mark.slow
def test_the_log_has_a_lane_a_worker_and_shows_what_is_asked_for(site: Served) -> None:
    with site.visitor() as visitor:
        page = visitor.get("/experiments/small-one?stage=train&state=succeeded").text
        log = page[page.index('id="live-log"') :]
        assert re.findall(r'<th scope="row">(\w+) ', log[: log.index("</table>")]) == ["train", "train"]
        row = site.laboratory.store.experiments.get("small-one")
        found = timelines.of(site.laboratory.store.stages.without_results(row.id))
        assert found is not None
        (lane,) = found.lanes
        assert f'aria-label="{lane.worker}: {len(lane.bars)} stages' in page


def test_a_timeline_tells_where_the_time_went() -> None:
    at = utcnow() - timedelta(hours=1)

    def stage(kind: str, worker: str, begin: float, end: float, **more: object) -> Stage:
        return Stage(
            id=f"{kind}{worker}{begin}", kind=kind, key="0", worker=worker, claimed_at=at + timedelta(seconds=begin),
            finished_at=at + timedelta(seconds=end), seconds=end - begin, state="succeeded", attempt=1, **more,
        )  # fmt: skip

    stages = [stage("train", "b", 0, 60), stage("train", "a", 0, 80), stage("predict", "a", 80, 100)]
    taken = Stage(id="x", kind="train", key="9", claimed_at=at - timedelta(days=9), reused_from="y", state="succeeded")
    found = timelines.of([*stages, taken])
    assert found is not None
    assert [(lane.worker, [(bar.left, bar.width) for bar in lane.bars]) for lane in found.lanes] == [
        ("a", [(0.0, 80.0), (80.0, 20.0)]), ("b", [(0.0, 60.0)]),
    ]  # fmt: skip
    assert [(one.kind, one.stages, one.seconds, one.share) for one in found.spent] == [
        ("train", 2, 140.0, 87.5), ("predict", 1, 20.0, 12.5),
    ]  # fmt: skip
    assert (found.length, found.reused, found.left_out) == ("100 s", 1, 0)
    assert timelines.of([taken]) is None
