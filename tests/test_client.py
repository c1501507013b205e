"""A home and a running server say the same through one surface: records, numbers, figures, errors."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from serving import SPEC, Served, finished, mainly, served, work

import modescape as ms
from modescape.client.http import There
from modescape.client.records import SweepProgress
from modescape.client.workspace import Experiment, Sweep, Workspace
from modescape.errors import ConfigurationError, Conflict, InvalidInput, ModescapeError, NotFound
from modescape.imported.digest import set_digest
from modescape.imported.reading import read
from modescape.records import StageState, Status
from modescape.sending import ServerRefused

TOKEN = "a-token-that-is-long-enough"
OTHER: dict[str, Any] = {**SPEC, "ensemble": {"runs": 2, "seed": 4}, "training": {**SPEC["training"], "epochs": 3}}


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with a token over either database, for tests that read: two small experiments in it have ended, a third
    one waits."""
    own = {"database_url": request.getfixturevalue("postgres_url_of_module")} if request.param == "postgres" else {}
    with served(tmp_path_factory.mktemp("client") / "home", token=TOKEN, **own) as site:
        finished(site.laboratory, "one", tags=("kept",), notes="a note")
        other = site.laboratory.create(OTHER, name="other")
        work(site.laboratory, other.id)
        site.laboratory.create({**SPEC, "ensemble": {"runs": 3, "seed": 9}}, name="waiting")
        yield site


@pytest.fixture(scope="module")
def both(site: Served) -> tuple[Workspace, Workspace]:
    """The home as a store, and as a server."""
    return home_and_server(site)


@pytest.fixture
def fresh(store_url: str, tmp_path: Path) -> Iterator[Served]:
    """One in which nothing is, for tests that launch."""
    with served(tmp_path / "home", database_url=store_url, token=TOKEN) as site:
        yield site


def home_and_server(site: Served) -> tuple[Workspace, Workspace]:
    from modescape.client.workspace import of_settings

    return of_settings(site.settings), ms.connect(site.url, token=TOKEN)


QUERIES: list[dict[str, Any]] = [
    {},
    {"text": "note"},
    {"dataset": "digits", "sort": "created"},
    {"accuracy__gte": 0.6, "sort": "-accuracy"},
    {"status": ["succeeded", "failed"]},
    {"method": "random", "limit": 2},
    {"tag": "kept"},
    {"accuracy__null": True},
    {"created__after": datetime(2020, 1, 1)},
    {"spec.training.epochs__gt": 2, "columns": ("slug", "spec.training.epochs", "spec.ensemble.seed")},
    {"archived": True},
]


@pytest.mark.slow
def test_the_same_lists_records_and_numbers_come_from_a_home_and_from_a_server(
    both: tuple[Workspace, Workspace],
) -> None:
    here, there = both
    for query in QUERIES:
        assert here.experiments(**query) == there.experiments(**query), query
    found = there.experiments("note")
    assert (found.column("slug"), found.total) == (["one"], 1)
    assert found.title == "Experiments where text contains “note”, newest first"
    assert isinstance(found[0]["created_at"], datetime)
    assert there.experiments(limit=1).total == 3
    epochs = here.experiments(columns=["spec.training.epochs"], sort="created")
    assert epochs["spec.training.epochs"] == [2, 3, 2]
    for lab in both:
        named = lab.experiments(columns="name")
        assert named == lab.experiments(columns=["name"]), "one name is one column, and not its letters"
        assert (named.columns, named.text("name")) == (("name",), named.text())
    for slug in ("one", "other", "waiting"):
        mine, theirs = here.experiment(slug), there.experiment(slug)
        assert mine.detail == theirs.detail
        assert mine.spec == theirs.spec
        assert mine.solutions == theirs.solutions
        assert mine.measurements() == theirs.measurements()
        assert mine.measurements(metric="accuracy", value__gte=0.6) == theirs.measurements(
            metric="accuracy", value__gte=0.6
        )
        assert mine.matrices == theirs.matrices
        assert mine.figures == theirs.figures
        assert repr(mine) == repr(theirs)
        assert mine._repr_html_() == theirs._repr_html_()
    one = there.experiment("one")
    assert (one.status, one.detail.notes, one.spec.ensemble.runs) == (Status.SUCCEEDED, "a note", 2)
    assert {stage.state for stage in one.stages} == {StageState.SUCCEEDED}
    assert here.sweeps() == there.sweeps()


def test_groups_and_views_are_the_same_from_both(both: tuple[Workspace, Workspace]) -> None:
    home, server = both
    for by, text in (("dataset", ""), ("spec.ensemble.runs", ""), ("tag", "dataset:digits")):
        mine, theirs = home.groups(by, text), server.groups(by, text)
        assert mine.columns[:2] == (by, "n")
        assert (mine.title, list(mine)) == (theirs.title, list(theirs))
    (digits,) = home.groups("dataset", numbers=("accuracy", "spec.ensemble.runs"))
    accuracies = [row["accuracy"] for row in home.experiments() if row["accuracy"] is not None]
    assert digits["n"] == 3
    assert digits["accuracy"] == pytest.approx(np.mean(accuracies))
    assert digits["accuracy sd"] == pytest.approx(np.std(accuracies, ddof=1))
    for one in both:
        with pytest.raises(InvalidInput, match="no number"):
            one.groups("dataset", numbers=("name",))
    kept = server.keep_view("Kept ones", "q=tag:kept&sort=-accuracy&columns=name")
    assert home.views() == server.views() == (kept,)
    for one in both:
        assert one.experiments(view="kept-ones").column("slug") == ["one"]
        assert one.experiments("waiting", view="kept-ones").column("slug") == ["waiting"], "the line instead of its own"
        assert one.groups("status", view="kept-ones").column("n") == [1]
        with pytest.raises(NotFound, match="kept-ones"):
            one.experiments(view="kept")
    home.remove_view("kept-ones")
    assert server.views() == ()


def test_matrices_are_numbers_with_what_their_rows_are(both: tuple[Workspace, Workspace], site: Served) -> None:
    kept = site.laboratory.results("one").matrix("disagreement", "test")
    assert kept is not None
    for lab in both:
        found = lab.experiment("one").matrix("disagreement")
        np.testing.assert_array_equal(np.asarray(found), kept.values)
        assert (found.rows, found.split, found.values.dtype) == (tuple(kept.rows), "test", np.float64)
        assert found.names == (
            "run 0, epoch 0", "run 0, epoch 1", "run 0", "run 1, epoch 0", "run 1, epoch 1", "run 1",
        )  # fmt: skip
        assert lab.experiment("one").matrix("cosine").split == ""
        with pytest.raises(NotFound, match=r"no matrix 'cosin'; did you mean cosine\?"):
            lab.experiment("one").matrix("cosin")
        with pytest.raises(NotFound, match="no split of disagreement 'tset'; did you mean test"):
            lab.experiment("one").matrix("disagreement", "tset")


@pytest.mark.slow
def test_every_figure_that_is_ready_is_the_same_and_one_that_waits_says_for_what(
    both: tuple[Workspace, Workspace],
) -> None:
    from modescape.drawing.reading import FigureNotReady

    here, there = both
    ready = [one.name for one in here.experiment("one").figures if one.state in ("ready", "partial")]
    assert "trajectories" in ready
    for name in ready:
        for form in ("json", "csv"):
            mine, theirs = (lab.experiment("one").picture(name, form) for lab in both)  # type: ignore[arg-type]
            assert (json.loads(mine), name) == (json.loads(theirs), name) if form == "json" else mine == theirs
    figure = there.experiment("one").figure("trajectories", theme="dark")
    assert figure.data
    assert figure == here.experiment("one").figure("trajectories", theme="dark")
    assert figure != there.experiment("one").figure("trajectories")
    for lab in both:
        with pytest.raises(FigureNotReady) as refused:
            lab.experiment("waiting").figure("trajectories")
        assert refused.value.waits_for == ("train",)
        with pytest.raises(NotFound, match=r"no figure 'trajectory'; did you mean .*trajectories"):
            lab.experiment("one").figure("trajectory")
        with pytest.raises(InvalidInput, match="neon"):
            lab.experiment("one").figure("trajectories", theme="neon")
        with pytest.raises(InvalidInput):
            lab.experiment("one").figure("trajectories", colour="red")


def test_comparisons_are_the_same_and_name_who_is_not_there(both: tuple[Workspace, Workspace], site: Served) -> None:
    here, there = both
    mine, theirs = here.compare("one", "other", "waiting"), there.compare("one", "other", "waiting")
    assert mine == theirs
    assert repr(mine) == repr(theirs)
    assert mine.table() == theirs.table()
    assert mine.figure("accuracy") == theirs.figure("accuracy")
    direct = ms.compare(*(site.laboratory.results(slug) for slug in ("one", "other", "waiting")))
    assert repr(direct) == repr(theirs)
    for lab in both:
        with pytest.raises(InvalidInput, match="one alone"):
            lab.compare("one")
        with pytest.raises(NotFound, match=r"no experiment 'othr'; did you mean other\?"):
            lab.compare("one", "othr")


def test_what_is_misspelt_is_answered_with_what_was_meant(both: tuple[Workspace, Workspace]) -> None:
    messages = []
    for lab in both:
        said = []
        for ask in (
            lambda lab=lab: lab.experiment("on"),
            lambda lab=lab: lab.cancel("on"),
            lambda lab=lab: next(lab.watch("on")),
            lambda lab=lab: lab.experiments(datset="digits"),
            lambda lab=lab: lab.experiments(columns=["acuracy"]),
            lambda lab=lab: lab.experiments(sort="acuracy"),
            lambda lab=lab: lab.experiments(sort="-spec.training.epoch"),
            lambda lab=lab: lab.experiments(columns=["spec.training.epoch"]),
            lambda lab=lab: lab.experiments(accuracy="high"),
            lambda lab=lab: lab.experiment("one").solutions["acuracy"],
        ):
            with pytest.raises(ModescapeError) as refused:
                ask()
            said.append((type(refused.value), str(refused.value)))
        for missing, meant in (("experimnts", "experiments"), ("lunch", "launch")):
            with pytest.raises(AttributeError, match=f"did you mean .*{meant}"):
                getattr(lab, missing)
        with pytest.raises(AttributeError, match="did you mean solutions"):
            lab.experiment("one").solutons  # type: ignore[attr-defined]  # noqa: B018
        messages.append(said)
    assert messages[0] == messages[1]
    assert messages[0][0] == (NotFound, "there is no experiment 'on'; did you mean one? There are waiting, other, one.")
    kinds = [InvalidInput, NotFound, InvalidInput, InvalidInput, NotFound, InvalidInput]
    assert [kind for kind, _ in messages[0][3:9]] == kinds
    assert all("did you mean" in said and "training.epochs" in said for _, said in messages[0][6:8])


def test_what_is_held_shows_its_public_names_and_can_be_looked_at(both: tuple[Workspace, Workspace]) -> None:
    for lab in both:
        one = lab.experiment("one")
        for held in (lab, one, one.solutions):
            names = dir(held)
            assert not [name for name in names if name.startswith("_")]
            copy.copy(held)
        assert {"experiments", "experiment", "launch", "watch", "cancel", "compare", "import_"} <= set(dir(lab))
        assert "3 experiments" in repr(lab)
        assert "<table>" in lab._repr_html_()
        assert "<table>" in one.solutions._repr_html_()
        assert lab._ipython_key_completions_() == ["waiting", "other", "one"]
        assert lab["one"].slug == "one"


def test_tables_become_data_frames_and_a_library_that_is_missing_is_named(
    both: tuple[Workspace, Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    for lab in both:
        found = lab.experiment("one").solutions
        frame, arrow = found.to_pandas(), found.to_arrow()
        assert list(frame.columns) == list(found.columns) == arrow.column_names
        assert frame["accuracy"].tolist() == found["accuracy"] == arrow["accuracy"].to_pylist()
        assert str(lab.experiments().to_pandas()["created_at"].dtype).startswith("datetime64")
        assert lab.experiments(dataset="none").to_pandas().empty
    for name in ("pandas", "polars", "pyarrow"):
        monkeypatch.setitem(sys.modules, name, None)
    for name, ask in (("pandas", found.to_pandas), ("polars", found.to_polars), ("pyarrow", found.to_arrow)):
        with pytest.raises(ConfigurationError, match=f"pip install {name}"):
            ask()


def test_polars_reads_a_table_where_it_is_there(both: tuple[Workspace, Workspace]) -> None:
    for lab in both:
        found = lab.experiment("one").solutions
        assert found.to_polars()["accuracy"].to_list() == found["accuracy"]


@pytest.mark.slow
def test_an_ensemble_that_is_exported_is_the_same_from_both(both: tuple[Workspace, Workspace], tmp_path: Path) -> None:
    digests, whole = set(), []
    for number, lab in enumerate(both):
        one = lab.experiment("one")
        assert one.export(tmp_path / f"{number}.zip") > 3
        one.export(tmp_path / f"folder-{number}")
        one.export(tmp_path / f"{number}.npz")
        for path in (f"{number}.zip", f"folder-{number}"):
            digests.add(set_digest(read(tmp_path / path)))
        assert json.loads((tmp_path / f"folder-{number}" / "spec.json").read_text()) == one.detail.spec
        assert (tmp_path / f"folder-{number}" / "figures" / "trajectories.html").is_file()
        folder = tmp_path / f"folder-{number}"
        held = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        sums = held.pop("SHA256SUMS").read_text()
        assert sorted(sums.splitlines()) == sorted(
            f"{sha256(path.read_bytes()).hexdigest()}  {name}" for name, path in held.items()
        )
        whole.append({name for name in held if not name.startswith("artifacts/")})
        for taken in (f"{number}.zip", f"folder-{number}"):
            with pytest.raises(ModescapeError):
                one.export(tmp_path / taken)
        with pytest.raises(NotFound):
            lab.experiment("waiting").export(tmp_path / f"waiting-{number}.zip")
        assert not (tmp_path / f"waiting-{number}.zip").exists()
    assert len(digests) == 1
    assert whole[0] == whole[1], "but for arrays under their digests, both say the same"


def seen_while(watched: Iterator[Any], worker: threading.Thread) -> list[Any]:
    """What a watch says until it ends; the work begins once it has said how things stand."""
    seen = [next(watched)]
    worker.start()
    seen += watched
    worker.join()
    return seen


@pytest.mark.slow
def test_what_is_launched_can_be_watched_to_its_end_and_is_what_the_spec_says(fresh: Served) -> None:
    for number, lab in enumerate(home_and_server(fresh)):
        launched = lab.launch({**SPEC, "ensemble": {"runs": 2, "seed": 20 + number}}, name=f"launched {number}")
        assert isinstance(launched, Experiment)
        assert (launched.slug, launched.status, launched.spec.ensemble.seed) == (
            f"launched-{number}", Status.QUEUED, 20 + number,
        )  # fmt: skip
        worker = threading.Thread(target=work, args=(fresh.laboratory, launched.detail.row["id"]))
        seen = seen_while(launched.watch(), worker)
        assert seen[0].status == Status.QUEUED
        assert (seen[-1].status, seen[-1].done) == (Status.SUCCEEDED, seen[-1].of)
        assert [one.done for one in seen] == sorted(one.done for one in seen)
        assert launched.wait().status == Status.SUCCEEDED
        with pytest.raises(Conflict):
            launched.cancel()
        with pytest.raises(InvalidInput, match=r"ensemble\.runs"):
            lab.launch({**SPEC, "ensemble": {"runs": 0}})


@pytest.mark.slow
def test_the_same_is_done_to_many_and_what_could_not_be_is_told(fresh: Served) -> None:
    for number, workspace in enumerate(home_and_server(fresh)):
        names = [f"of-{number}-{letter}" for letter in "abc"]
        for name in names:
            finished(fresh.laboratory, name)
        done = workspace.change(names[0], names[1], "nowhere", tag="paper", project="Modes")
        assert (done.done, list(done.failed)) == (names[:2], ["nowhere"])
        line = f"tag:paper of-{number}"
        assert sorted(workspace.experiments(line).column("slug")) == names[:2]
        assert workspace.experiment(names[0]).row["project"] == "Modes"
        workspace.change(search=line, untag=["paper"], project="")
        assert workspace.experiments("tag:paper").rows == ()
        with pytest.raises(InvalidInput, match="nothing to change"):
            workspace.change(names[0])
        with pytest.raises(InvalidInput, match="which"):
            workspace.archive()
        with pytest.raises(InvalidInput, match="which"):
            workspace.archive(names[0], search="tag:paper")
        with pytest.raises(InvalidInput):
            workspace.change(names[0], tag="a,b")
        assert sorted(workspace.archive(*names).done) == names
        assert workspace.restore(search=f"archived:true of-{number}-c").done == [names[2]]
        meant = workspace.purge(search=f"archived:true of-{number}", dry=True)
        assert (sorted(meant.done), len(workspace.experiments(archived=True))) == (names[:2], 2)
        refused = workspace.purge(names[0], names[2])
        assert (refused.done, list(refused.failed)) == (names[:1], [names[2]]), "one is not archived"
        assert workspace.purge(names[1]).done == names[1:2]


@pytest.mark.slow
def test_cancelling_ends_a_watch(fresh: Served) -> None:
    for lab in home_and_server(fresh):
        launched = lab.launch({**SPEC, "ensemble": {"runs": 2, "seed": 30}}, name="to be stopped")
        assert isinstance(launched, Experiment)
        seen = seen_while(launched.watch(), threading.Thread(target=launched.cancel))
        assert [one.status for one in seen] == [Status.QUEUED, Status.CANCELLED]


@pytest.mark.slow
def test_what_is_held_goes_on_and_what_was_cancelled_is_taken_up_again(fresh: Served) -> None:
    for lab in home_and_server(fresh):
        one = lab.launch({**SPEC, "ensemble": {"runs": 2, "seed": 31}}, name="to be held")
        assert isinstance(one, Experiment)
        one.pause()
        assert one.status is Status.PAUSED
        one.resume()
        assert one.status is Status.QUEUED
        one.cancel()
        assert {stage.state for stage in one.stages} == {StageState.CANCELLED}
        with pytest.raises(Conflict):
            one.resume()
        lab.retry(one.slug)
        assert one.status is Status.QUEUED
        work(fresh.laboratory, fresh.laboratory.store.experiments.get(one.slug).id)
        assert one.status is Status.SUCCEEDED
        with pytest.raises(Conflict):
            one.retry()
        sweep = lab.launch({"base": SPEC, "over": {"training.epochs": [4, 5]}}, name="to be held too")
        for verb, status in (("pause", Status.PAUSED), ("resume", Status.QUEUED), ("cancel", Status.CANCELLED),
                             ("retry", Status.QUEUED)):  # fmt: skip
            getattr(lab, verb)(sweep.slug)
            assert {cell.status for cell in sweep.cells} == {status}, verb


def test_a_sweep_is_launched_by_the_same_call(fresh: Served) -> None:
    here, there = home_and_server(fresh)
    for lab in (here, there):
        found = lab.launch({"base": SPEC, "over": {"training.epochs": [2, 3]}}, name="epochs")
        assert isinstance(found, Sweep)
        assert "0 of 2 cells ended, over training.epochs" in repr(found)
        with pytest.raises(InvalidInput, match="epohcs"):
            lab.launch({"base": SPEC, "over": {"training.epohcs": [2, 3]}})
    assert here.sweeps() == there.sweeps()
    assert here.sweeps()["cells"] == [2, 2]


@pytest.mark.slow
@mainly("postgres")
def test_a_sweep_is_watched_by_its_slug_until_all_cells_have_ended(fresh: Served) -> None:
    for number, lab in enumerate(home_and_server(fresh)):
        asked = {"base": {**SPEC, "ensemble": {"runs": 2, "seed": 50 + number}}, "over": {"training.epochs": [2, 3]}}
        found = lab.launch(asked, name=f"watched {number}")
        assert isinstance(found, Sweep)
        rows = [fresh.laboratory.store.experiments.get(one.slug) for one in found.experiments]

        def do(rows: Any = rows) -> None:
            for row in rows:
                work(fresh.laboratory, row.id)

        seen = seen_while(lab.watch(found.slug), threading.Thread(target=do))
        assert all(isinstance(one, SweepProgress) for one in seen)
        assert (seen[0].ended, seen[0].cells, seen[0].done) == (0, 2, 0)
        assert (seen[-1].ended, seen[-1].done) == (2, seen[-1].of)
        assert "2 of 2 cells ended" in str(seen[-1])
        assert [one.varied for one in found.cells] == [{"training.epochs": 2}, {"training.epochs": 3}]
        assert {one.status for one in found.wait().cells} == {Status.SUCCEEDED}
    here, there = home_and_server(fresh)
    assert here.sweep("watched-0").cells == there.sweep("watched-0").cells
    with pytest.raises(NotFound, match="did you mean"):
        there.sweep("watched-2")


@pytest.mark.slow
def test_a_sweep_can_be_cancelled_by_its_slug(fresh: Served) -> None:
    for number, lab in enumerate(home_and_server(fresh)):
        found = lab.launch({"base": SPEC, "over": {"training.epochs": [4, 5]}}, name=f"stopped {number}")
        lab.cancel(found.slug)
        assert isinstance(found, Sweep)
        last = found.wait().cells
        assert {one.status for one in last} == {Status.CANCELLED}
        assert len(next(iter(found.watch())).failed) == 2


@pytest.mark.slow
def test_an_estimate_is_the_same_from_both_and_keeps_nothing(both: tuple[Workspace, Workspace], tmp_path: Path) -> None:
    here, there = both
    sweep = {"base": SPEC, "over": {"training.epochs": [2, 7]}}
    (tmp_path / "rates.yaml").write_text(yaml.safe_dump(sweep), encoding="utf-8")
    before = here.experiments().total
    for asked in (SPEC, sweep, tmp_path / "rates.yaml", "quickstart"):
        assert here.estimate(asked) == there.estimate(asked)
    assert (here.experiments().total, here.sweeps().total) == (before, 0)
    assert (here.estimate(sweep).cells, here.estimate(SPEC).cells) == (2, 1)
    assert "2 cells" in str(there.estimate(sweep))
    with pytest.raises(InvalidInput, match="runs"):
        there.estimate({**SPEC, "ensemble": {"runs": 0}})


def test_a_spec_is_launched_from_its_file(fresh: Served, tmp_path: Path) -> None:
    (tmp_path / "slow rates.yaml").write_text(yaml.safe_dump(SPEC), encoding="utf-8")
    for lab, path in zip(
        home_and_server(fresh), (tmp_path / "slow rates.yaml", f"{tmp_path}/slow rates.yaml"), strict=True
    ):
        assert lab.launch(path).slug.startswith("slow-rates")
        with pytest.raises(InvalidInput, match="neither a preset nor a file"):
            lab.launch(tmp_path / "none.yaml")


def test_a_server_that_is_none_or_asks_for_another_token_is_told_at_once(
    site: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ServerRefused, match="token"):
        ms.connect(site.url, token="another-token-of-some-length")
    monkeypatch.setattr("modescape.client.http._PATIENCE", 0.2)
    with pytest.raises(ServerRefused, match="does not answer"):
        ms.connect("http://127.0.0.1:9")
    with pytest.raises(InvalidInput) as refused:
        ms.connect("lab.example")
    assert refused.value.allowed == "http:// or https:// and a host"


@pytest.mark.slow
def test_a_priority_is_given_at_launch_and_later(fresh: Served) -> None:
    for lab in home_and_server(fresh):
        for document in (SPEC, {"base": SPEC, "over": {"training.epochs": [1, 2]}}):
            made = lab.launch(document, name="urgent", priority="high")
            slugs = [made.slug] if not hasattr(made, "cells") else [one.experiment for one in made.cells]
            assert {lab.experiment(slug).detail.row["priority"] for slug in slugs} == {1}
            lab.prioritise(slugs[0], "low")
            assert lab.experiment(slugs[0]).detail.row["priority"] == -1
        with pytest.raises(InvalidInput, match="low, normal, high"):
            lab.launch(SPEC, name="urgent", priority="highest")


@pytest.mark.slow
def test_a_stream_that_breaks_off_goes_on_where_it_was(fresh: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    source = There(fresh.url, TOKEN)
    row = fresh.laboratory.create(SPEC, name="waiting")
    real, broken = source._server.stream, []

    def breaks(path: str, **how: Any) -> Any:
        broken.append(how["headers"].get("Last-Event-ID"))
        if len(broken) == 2:
            raise httpx.ReadError("cut")
        return real(path, **how)

    monkeypatch.setattr(source._server, "stream", breaks)
    monkeypatch.setattr("modescape.client.http._QUIET", 1.0)  # nothing comes for longer than that: the line is cut
    events = source.events("waiting")
    assert next(events) is None
    fresh.laboratory.store.experiments.patch("waiting", notes="first")
    first = next(one for one in events if one is not None)
    time.sleep(1.5)
    fresh.laboratory.store.experiments.patch("waiting", notes="second")
    second = next(one for one in events if one is not None)
    assert (first.kind, second.kind, second.id > first.id) == ("changed", "changed", True)
    assert broken[0] is None
    assert row.slug == "waiting"


@pytest.mark.slow
def test_opening_costs_neither_torch_nor_plotly() -> None:
    script = "import sys, modescape as ms; ms.open, ms.connect; print({'torch', 'plotly', 'pandas'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"


def test_a_home_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        ms.open(tmp_path / "nowhere")


@pytest.mark.slow
@pytest.mark.usefixtures("few_redraws")
def test_claims_are_records_with_words_and_intervals(tmp_path: Path) -> None:
    """Three functions whose answers are known: the record is the one that the notebook's own object tells."""
    generator = np.random.default_rng(7)
    labels = generator.integers(0, 4, 200)
    logits = generator.normal(size=(6, 200, 4))
    logits[:, np.arange(200), labels] += 2
    lab = ms.analyse(logits, labels, recipe="same", folder=tmp_path / "home", progress=False)
    with served(tmp_path / "home") as site:
        here, there = ms.open(tmp_path / "home"), ms.connect(site.url)
        claims = here.experiment(lab.experiment.slug).claims
        assert claims == there.experiment(lab.experiment.slug).claims
        told = {one.record.id: one for one in lab.claims()}
        assert [one.letter for one in claims] == list(told)
        for claim in claims:
            own = told[claim.letter]
            assert (claim.word, claim.effect, claim.interval) == (own.record.word, own.effect, own.interval)
            assert (claim.value, claim.low, claim.high) == (own.bar.value, own.bar.low, own.bar.high)
            assert str(claim).startswith(f"({claim.letter}) {claim.title}: ")
            assert asdict(claim)["n"] == own.record.n


@pytest.mark.slow
@pytest.mark.usefixtures("few_redraws")
def test_predictions_come_in_by_either_and_are_the_same_ensemble(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 5, 150)
    logits = generator.normal(size=(4, 150, 5))
    logits[:, np.arange(150), labels] += 2
    np.savez(tmp_path / "four.npz", logits=logits.astype(np.float32), labels=labels)
    here_home = tmp_path / "here"
    ms.Settings(home=here_home).home.mkdir()
    from modescape.client.workspace import of_settings

    here = of_settings(ms.Settings(home=here_home), new=True)
    mine = here.import_(tmp_path / "four.npz", recipe="same")
    assert mine.status == Status.SUCCEEDED
    assert "4 members" in mine.sentence
    assert "run" not in repr(mine)
    assert mine.matrix("disagreement").names[0] == "member 0"
    with pytest.raises(InvalidInput) as refused:
        here.import_(tmp_path / "four.npz", recipe="equal")
    assert (refused.value.field, refused.value.allowed) == ("recipe", "same, different, unknown")
    with served(tmp_path / "there") as site:
        there = ms.connect(site.url)
        theirs = there.import_(tmp_path / "four.npz", recipe="same")
        with pytest.raises(InvalidInput) as refused:
            there.import_(tmp_path / "four.npz", recipe="equal")
        assert "recipe" in refused.value.field
        assert theirs.detail.spec == mine.detail.spec
