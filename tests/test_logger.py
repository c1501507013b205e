"""A training loop of one's own tells Modescape: what it logs is judged as `ms.analyse` judges the same arrays, and
neither a server that is away nor a process that is killed loses any of it."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from ports import free_port
from serving import mainly, served
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier
from test_doors import Door, Process, along, member, odds_of, truth

import modescape as ms
from modescape import sending
from modescape.cli import main
from modescape.errors import Conflict, InvalidInput
from modescape.exporting import ensemble_of
from modescape.imported.digest import content_digest, contents, set_digest
from modescape.imported.ensemble import Ensemble, Member
from modescape.imported.reading import read
from modescape.imported.writing import write
from modescape.laboratory import Lab
from modescape.logger import delivery, ensemble
from modescape.logger.left import send
from modescape.logger.spool import Spool, spools
from modescape.sending import ServerDoor
from modescape.settings import Settings

pytestmark = pytest.mark.usefixtures("few_redraws")
NOWHERE = "http://127.0.0.1:9"  # the port of discard, where nothing listens


@pytest.fixture
def door(store_url: str, tmp_path: Path) -> Iterator[Door]:
    with served(tmp_path / "home", database_url=store_url) as site:
        yield Door(site)


@pytest.fixture
def mine(tmp_path: Path) -> Settings:
    """Of whoever trains."""
    return Settings(home=tmp_path / "mine")


def claims(lab: Lab) -> list[dict[str, Any]]:
    return [asdict(one.record) for one in lab.claims()]


def digests(one: Ensemble) -> dict[str, str]:
    """As the set digest has them, which neither the name nor the order of sets changes."""
    return {path: content_digest(inside) for path, inside in contents(one, with_name=False).items()}


def log_one(e: ensemble.EnsembleLog, number: int, steps: int = 10) -> None:
    with e.member(seed=number) as m:
        for step in range(steps):
            m.log(step, loss=1 / (1 + step))
        m.predictions(test=member(number))


def log_two_and_break_off(logged: ensemble.EnsembleLog) -> None:
    with logged as e:
        log_one(e, 0)
        log_one(e, 1)
        raise ZeroDivisionError


def log_twice(logged: ensemble.EnsembleLog) -> None:
    """Two members of one id that differ."""
    with logged as e:
        log_one(e, 0)
        log_other(e)


def log_other(logged: ensemble.EnsembleLog) -> None:
    with logged.member(0) as m:
        m.predictions(test=member(7))


def broken_off(e: ensemble.EnsembleLog) -> None:
    with e.member(1) as m:
        m.predictions(test=member(1))
        m.log(0, loss=1 / 0)


# -- a whole ensemble -------------------------------------------------------------------------------------------------


def train(e: ensemble.EnsembleLog, seeds: range, test: NDArray[Any], rest: tuple[Any, Any]) -> NDArray[np.float64]:
    """scikit-learn's loop; what it said after every epoch, [members, epochs, examples, classes]."""
    said = []
    for seed in seeds:
        network, epochs = MLPClassifier((12,), random_state=seed, learning_rate_init=0.01), []
        with e.member(seed=seed, config={"hidden": 12}) as m:
            for epoch in range(1, 5):
                network.partial_fit(*rest, classes=range(10))
                m.log(epoch, {"train/loss": network.loss_})
                epochs.append(network.predict_log_proba(test))
                m.predictions(epoch, test=epochs[-1])
            m.weights({f"layer{i}.weight": one for i, one in enumerate(network.coefs_)})
        said.append(epochs)
    return np.array(said)


@pytest.mark.slow
@pytest.mark.parametrize(("there", "store_url"), [(False, "sqlite"), (True, "postgres")], indirect=["store_url"])
def test_a_loop_of_scikit_learn_is_judged_as_its_arrays_are(door: Door, mine: Settings, there: bool) -> None:
    images, labels = load_digits(return_X_y=True)
    images, labels = images[:900] / 16, labels[:900]
    test, y = images[600:], labels[600:]
    where = {"server": door.site.url, "planned": 4} if there else {}
    with ms.ensemble("digits", y, recipe="same", kind="log-probs", settings=mine, **where) as e:
        said = train(e, range(4), test, (images[:600], labels[:600]))
    lab = door.run("digits") if there else e.lab
    by_arrays = ms.analyse(
        said[:, -1], y, trajectory=(range(1, 5), said[:, :-1]), recipe="same", kind="log-probs",
        folder=mine.home.parent / "by-arrays",
    )  # fmt: skip
    assert lab is not None
    ours = [one for one in claims(lab) if one["id"] != "a"]  # which needs weights
    assert ours == claims(by_arrays)
    assert claims(lab)[0]["id"] == "a"
    points = lab.store.curves.points(lab.experiment.id, 3, "train/loss")
    assert points.steps.tolist() == [1, 2, 3, 4]
    assert [one["config"] for one in lab.experiment.provenance["members"]] == [{"hidden": 12}] * 4
    assert spools(mine.spool_folder) == []  # nothing is left to be sent


@pytest.mark.slow
@mainly("postgres")
def test_everything_that_a_member_says_comes_to_the_server(door: Door, mine: Settings) -> None:
    drawn = [np.stack([member(10 * i + s) for s in range(3)]) for i in range(3)]
    with ms.ensemble(
        "all of it", truth(), validation_labels=truth(), recipe="same", planned=3, server=door.site.url, settings=mine
    ) as e:
        for i in range(3):
            with e.member(seed=i, config={"width": 4 + i}) as m:
                m.log(i, {"train/loss": 0.5 + i})
                m.weights({"layer.weight": member(i)})
                for epoch, logits in enumerate(along(i), 1):
                    m.predictions(epoch, test=logits)
                own = (member(i + 40)[:300], truth()[:300])
                m.predictions(
                    9, test=member(i), validation=member(i), ood={"svhn": member(i + 20)[:200]},
                    shift={("fog", 3): member(i + 30), "cifar10.1/1": own},
                )  # fmt: skip
                m.samples(
                    "swag", drawn[i], strength=[1.0 + i, 2.0, 3.0], centre=member(i), validation=drawn[i],
                    ood={"svhn": drawn[i][:, :200]}, shift={"fog/3": drawn[i]},
                )  # fmt: skip
    lab = door.run("all-of-it")
    at_once = ms.analyse(
        np.stack([member(i) for i in range(3)]), truth(), recipe="same", name="all of it",
        members=[Member(f"{i}", i, {"width": 4 + i}) for i in range(3)],
        weights=[{"layer.weight": member(i)} for i in range(3)], validation=(
            np.stack([member(i) for i in range(3)]), truth()), folder=mine.home.parent / "at-once",
        trajectory=([1, 2, 3, 4, 9], np.stack([along(i) for i in range(3)])),
        ood={"svhn": np.stack([member(i + 20)[:200] for i in range(3)])},
        shift={("fog", 3): np.stack([member(i + 30) for i in range(3)]),
               ("cifar10.1", 1): (np.stack([member(i + 40)[:300] for i in range(3)]), truth()[:300])},
        samples={"swag": ms.Samples(
            np.stack(drawn), strength=[[1.0 + i, 2.0, 3.0] for i in range(3)],
            centre=np.stack([member(i) for i in range(3)]),
            validation=np.stack(drawn), ood={"svhn": np.stack(drawn)[:, :, :200]}, shift={"fog/3": np.stack(drawn)})},
    )  # fmt: skip
    assert claims(lab) == claims(at_once)
    assert {one["id"] for one in claims(lab)} >= {"b", "c", "d1", "e2"}
    out = ensemble_of(lab.laboratory.results(lab.experiment.slug))
    assert out.left_out == ()
    assert [(one.id, one.seed, one.config) for one in out.members] == [(f"{i}", i, {"width": 4 + i}) for i in range(3)]
    assert [out.curves[f"{i}"]["train/loss"][:, :2].tolist() for i in range(3)] == [[[i, 0.5 + i]] for i in range(3)]
    ours, theirs = digests(out), digests(ensemble_of(at_once.laboratory.results(at_once.experiment.slug)))
    assert {path: one for path, one in ours.items() if not path.startswith("curves/")} == theirs
    write(out, mine.home.parent / "out.zip")
    assert set_digest(read(mine.home.parent / "out.zip")) == set_digest(out)


@pytest.mark.slow
@pytest.mark.parametrize("there", [False, True], ids=["home", "server"])
def test_members_that_stopped_after_other_epochs_are_one_ensemble(door: Door, mine: Settings, there: bool) -> None:
    where = {"server": door.site.url, "planned": 3} if there else {}
    with ms.ensemble(
        "early", truth(), validation_labels=truth(), recipe="same", settings=mine, **where
    ) as e:  # fmt: skip
        for i, epochs in enumerate((4, 1, 3)):
            with e.member(seed=i) as m:
                for epoch in range(1, epochs):
                    m.predictions(epoch, test=along(i)[epoch])
                m.predictions(epochs, test=member(i), validation=member(i))
    lab = door.run("early") if there else e.lab
    assert lab is not None
    assert [stage.error for stage in lab.stages if stage.state != "succeeded"] == []
    assert len(lab.experiment.provenance["members"]) == 3
    (told,) = [one["sentence"] for one in lab.experiment.provenance["odd"] if one["what"] == "trajectory"]
    assert told.endswith(": at 1, 2, 3 of 0; none of 1; at 1, 2 of 2")
    assert any(told in line for line in lab.odd)
    assert spools(mine.spool_folder) == []


# -- nothing is lost --------------------------------------------------------------------------------------------------

KILLED = """
import sys
import numpy as np
import modescape as ms
from test_doors import member, odds_of, truth

with ms.ensemble("killed", truth(), recipe="same", planned=2, server=sys.argv[1], id="killed") as e:
    for number in range(2):
        with e.member(seed=number) as m:
            for step in range(10**9 if number else 1000):
                m.log(step, loss=step / 7, other=1.0)
                if step % 500 == 0:
                    print(number, step, flush=True)
            m.predictions(test=member(number))
"""


@pytest.mark.slow
@mainly("sqlite")
def test_a_process_that_is_killed_loses_nothing_that_it_logged(
    door: Door, mine: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is away as long as it runs; another process sends what it left, twice."""
    env = {**os.environ, "MODESCAPE_HOME": str(mine.home), "PYTHONPATH": str(Path(__file__).parent)}
    away = f"http://127.0.0.1:{free_port()}"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, away], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env, text=True
    ) as process:
        assert process.stdout is not None
        said = list(itertools.takewhile(lambda line: line != "1 3000\n", process.stdout))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert "0 500\n" in said
    (spool,) = spools(mine.spool_folder)
    text = (spool.folder / "ensemble.json").read_text(encoding="utf-8").replace(away, door.site.url)
    (spool.folder / "ensemble.json").write_text(text, encoding="utf-8")
    copy = spool.folder.with_name("0123456789ab")
    subprocess.run(["cp", "-r", spool.folder, copy], check=True)
    monkeypatch.setenv("MODESCAPE_HOME", str(mine.home))
    assert main(["spool", "send", spool.id]) == 0
    assert main(["spool", "send", copy.name]) == 0  # of the same import: what is there is there once
    assert spools(mine.spool_folder) == []
    (found,) = door.client.get("/api/imports").json()["items"]
    assert ([one["id"] for one in found["members"]], found["state"]) == (["0"], "open")
    (training,) = door.site.laboratory.store.logged.of(found["id"])
    points = door.site.laboratory.store.logged.curves(found["id"], "1")
    assert training.member == "1"
    assert len(points["loss"].steps) > 3000
    assert points["loss"].steps.tolist() == list(range(len(points["loss"].steps)))
    assert points["loss"].values.tolist() == [step / 7 for step in range(len(points["loss"].steps))]


@pytest.mark.slow
def test_a_server_that_goes_away_and_comes_back_has_all_of_it(
    mine: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "_WAITS", (0.2,))
    server = Process(tmp_path / "theirs")
    try:
        with ms.ensemble("outage", truth(), recipe="same", planned=3, server=server.url, settings=mine) as e:
            log_one(e, 0, 2000)
            _wait(lambda: e.here == {"0"})
            server.kill()
            log_one(e, 1, 2000)
            with e.member(seed=2) as m:
                for step in range(2000):
                    m.log(step, loss=1 / (1 + step))
                    if step == 1000:
                        server.start()
                m.predictions(test=member(2))
        with server.client() as client:
            (found,) = client.get("/api/imports").json()["items"]
            assert (found["state"], [one["id"] for one in found["members"]]) == ("sealed", ["0", "1", "2"])
    finally:
        server.kill()
    theirs = ms.Laboratory(Settings(home=tmp_path / "theirs"))
    given = theirs.store.stages.without_results(found["looks"][0])
    sizes = [
        theirs.artifacts.array(digest).shape
        for one in given
        if one.kind == "curves"
        for digest in one.params["given"].values()
    ]
    assert sizes == [(2000, 3)] * 3


def test_a_server_that_stays_away_holds_nobody_up_and_the_rest_is_kept(
    door: Door, mine: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ensemble, "AT_EXIT", 0.0)
    with ms.ensemble("away", truth(), recipe="same", planned=1, server=NOWHERE, settings=mine) as e:
        log_one(e, 0)
    (spool,) = spools(mine.spool_folder)
    assert f"modescape spool send {spool.id}" in capsys.readouterr().err
    delivery.Delivery(spool, ServerDoor(door.site.url)).run(is_last=True)
    (found,) = door.client.get("/api/imports").json()["items"]
    assert (found["state"], found["here"]) == ("sealed", 1)


def test_what_sends_in_the_background_outlives_what_nobody_thought_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, wait_until
) -> None:
    monkeypatch.setattr(sending, "_WAITS", (0.01,))
    monkeypatch.setattr(delivery, "_EVERY", 0.01)
    turns = itertools.count()

    def run(*, is_last: bool = False) -> None:
        if (turn := next(turns)) < 5:
            raise RuntimeError("first" if turn < 3 else "second")

    courier = delivery.Courier(SimpleNamespace(run=run, spool=SimpleNamespace(folder=tmp_path)))  # type: ignore[arg-type]
    courier.start()
    wait_until(lambda: next(turns) > 20, 10, "that it goes on")
    assert courier.finish(1.0)
    said = [record for record in caplog.records if "could not be sent" in record.message]
    assert len(said) == 2, "each once"


@pytest.mark.parametrize("patience", [0.0, 3.0, 60.0, 100.0])
def test_a_server_is_waited_for_as_long_as_is_said(patience: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that only waiting moves: the pauses grow and fill the time to its end, and no longer."""
    now = [1000.0]
    monkeypatch.setattr(sending, "time", SimpleNamespace(monotonic=lambda: now[0]))
    waited = []
    for pause in sending.pauses(patience):
        waited.append(pause)
        now[0] += pause
    assert sum(waited) == pytest.approx(patience)
    assert waited[:-1] == sorted(waited[:-1])
    assert max(waited, default=0) <= 30


def test_points_that_were_on_their_way_are_sent_with_the_same_bounds_again(mine: Settings) -> None:
    e = ms.ensemble("bounds", truth(), planned=1, server=NOWHERE, settings=mine)
    m = e.member(0)
    for step in range(5):
        m.log(step, loss=step)
    (spool,) = spools(mine.spool_folder)
    (one,) = spool.members
    first = one.waiting(1000)
    assert first is not None
    one.sending(first)
    m.log(5, loss=5)  # before anybody has heard of an answer
    (again,) = Spool(spool.folder).members
    assert again.waiting(1000) == first
    again.sent(first)
    rest = again.waiting(1000)
    assert rest is not None
    assert [line[0] for line in rest.lines] == [5]
    again.sent(rest)
    assert again.waiting(1000) is None


def test_a_line_that_is_cut_off_is_no_point(mine: Settings) -> None:
    e = ms.ensemble("cut", truth(), planned=1, server=NOWHERE, settings=mine)
    e.member(0).log(0, loss=1)
    (one,) = spools(mine.spool_folder)[0].members
    with (one.folder / "points.jsonl").open("ab") as file:
        file.write(b'[1,1.8e9,{"lo')
    points = one.waiting(1000)
    assert points is not None
    assert [line[0] for line in points.lines] == [0]
    assert one.curves()["loss"][:, 0].tolist() == [0]


# -- again, and by several --------------------------------------------------------------------------------------------


def test_a_member_that_is_logged_again_is_there_once(door: Door, mine: Settings) -> None:
    """A script that is started again from its beginning."""
    for _ in range(2):
        with ms.ensemble("again", truth(), planned=2, server=door.site.url, id="again", settings=mine) as e:
            log_one(e, 0)
            _wait(lambda e=e: e.here == {"0"})
    (found,) = door.client.get("/api/imports").json()["items"]
    assert ([one["id"] for one in found["members"]], found["state"]) == (["0"], "open")
    assert spools(mine.spool_folder) == []


def test_a_member_of_other_content_under_the_same_id_is_refused_and_kept(door: Door, mine: Settings) -> None:
    with ms.ensemble("other", truth(), planned=2, server=door.site.url, id="other", settings=mine) as e:
        log_one(e, 0)
    with (
        pytest.raises(Conflict, match="member '0' is here already, of other content"),
        ms.ensemble("other", truth(), planned=2, server=door.site.url, id="other", settings=mine) as e,
    ):
        log_other(e)
    (kept,) = spools(mine.spool_folder)
    assert kept.about.name == "other"
    (found,) = door.client.get("/api/imports").json()["items"]
    assert found["state"] == "open"


@pytest.mark.slow
def test_what_another_process_has_added_keeps_nobody_from_adding_and_sealing_the_rest(
    door: Door, mine: Settings
) -> None:
    with ms.ensemble("both", truth(), planned=2, server=door.site.url, id="both", settings=mine) as e:
        log_one(e, 0)

    def log_both() -> None:
        with ms.ensemble("both", truth(), planned=2, server=door.site.url, id="both", settings=mine) as e:
            log_other(e)
            log_one(e, 1)

    with pytest.raises(Conflict, match=r"All else is there.*modescape spool forget"):
        log_both()
    (found,) = door.client.get("/api/imports").json()["items"]
    assert ([one["id"] for one in found["members"]], found["state"]) == (["0", "1"], "sealed")
    (kept,) = spools(mine.spool_folder)
    assert not send(mine, [kept.id], None, lambda line: None), "it stays until it is forgotten"


@pytest.mark.slow
def test_points_of_a_training_that_was_killed_are_not_those_of_the_next(door: Door, mine: Settings) -> None:
    def trained(steps: int, killed: bool, **values: float) -> None:
        logged = ms.ensemble("killed", truth(), planned=1, server=door.site.url, id="killed", settings=mine)
        with logged as e, e.member(0) as m:
            for step in range(steps):
                m.log(step, values)
            if killed:
                raise KeyboardInterrupt
            m.predictions(test=member(0))

    with pytest.raises(KeyboardInterrupt):
        trained(50, killed=True, loss=5.0, dead=1.0)
    assert send(mine, [one.id for one in spools(mine.spool_folder)], None, lambda line: None)
    trained(20, killed=False, loss=1.0)
    (found,) = door.client.get("/api/imports").json()["items"]
    results = door.site.laboratory.results(found["experiment"])
    door.run(found["experiment"])
    points = results.store.curves.points(results.experiment.id, 0, "loss")
    assert points.steps.tolist() == list(range(20))
    assert set(points.values) == {1.0}
    assert [one.name for one in results.store.curves.of(results.experiment.id)] == ["loss"]


@pytest.mark.slow
def test_processes_that_name_one_ensemble_log_into_it_and_the_last_seals_it(door: Door, mine: Settings) -> None:
    for number in range(3):
        with ms.ensemble("three", truth(), planned=3, server=door.site.url, id="three", settings=mine) as e:
            log_one(e, number)
    (found,) = door.client.get("/api/imports").json()["items"]
    assert ([one["id"] for one in found["members"]], found["state"]) == (["0", "1", "2"], "sealed")


def test_a_loop_goes_on_after_a_reopening_with_the_number_there_is_now(door: Door, mine: Settings) -> None:
    def loop(planned: int, *numbers: int) -> None:
        with ms.ensemble("grows", truth(), planned=planned, server=door.site.url, id="grows", settings=mine) as e:
            for number in numbers:
                if str(number) not in e.here:
                    log_one(e, number)

    loop(2, 0, 1)
    (found,) = door.client.get("/api/imports").json()["items"]
    answer = door.client.post(f"/api/imports/{found['id']}/reopen", json={"planned": 3})
    assert answer.status_code == 200, answer.text
    with pytest.raises(Conflict, match="after a reopening the number it has now"):
        loop(4, 2)
    loop(3, 0, 1, 2)
    (found,) = door.client.get("/api/imports").json()["items"]
    assert ([one["id"] for one in found["members"]], found["planned"], found["state"]) == (["0", "1", "2"], 3, "sealed")


HERE = """
import sys

import modescape as ms
from test_doors import member, truth

with ms.ensemble("once", truth(), recipe="same", planned=2, server=sys.argv[1], id="once") as e:
    print("here:", *sorted(e.here))
    for seed in map(int, sys.argv[2:]):
        if str(seed) not in e.here:
            print("trains", seed)
            with e.member(seed=seed) as m:
                m.predictions(test=member(seed))
"""


@pytest.mark.slow
@mainly("sqlite")
def test_another_process_knows_from_its_first_line_which_members_are_here(door: Door, mine: Settings) -> None:
    env = {**os.environ, "MODESCAPE_HOME": str(mine.home), "PYTHONPATH": os.pathsep.join(sys.path)}

    def ran(*seeds: int) -> list[str]:
        command = [sys.executable, "-c", HERE, door.site.url, *map(str, seeds)]
        return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout.splitlines()

    assert ran(0) == ["here:", "trains 0"]
    assert ran(0) == ["here: 0"]
    assert ran(0, 1) == ["here: 0", "trains 1"]
    assert ran(0, 1) == ["here: 0 1"]
    (found,) = door.client.get("/api/imports").json()["items"]
    assert (found["here"], found["state"]) == (2, "sealed")
    assert spools(mine.spool_folder) == []


def test_a_process_that_finds_all_of_them_seals_what_nobody_has_sealed(door: Door, mine: Settings) -> None:
    shared = {"planned": 2, "server": door.site.url, "id": "broken", "settings": mine}
    with pytest.raises(ZeroDivisionError):
        log_two_and_break_off(ms.ensemble("broken", truth(), **shared))
    (found,) = door.client.get("/api/imports").json()["items"]
    assert (found["here"], found["state"]) == (2, "open")
    with ms.ensemble("broken", truth(), **shared) as e:
        assert e.here == {"0", "1"}
    (found,) = door.client.get("/api/imports").json()["items"]
    assert (found["here"], found["state"]) == (2, "sealed")


def test_what_the_server_refuses_of_an_ensemble_is_said_before_any_training(door: Door, mine: Settings) -> None:
    shared = {"server": door.site.url, "id": "other", "settings": mine}
    with ms.ensemble("other", truth(), planned=2, **shared) as e:
        log_one(e, 0)
    with pytest.raises(Conflict, match="of this id was begun with another"):
        ms.ensemble("other", truth(), planned=3, **shared).__enter__()
    assert spools(mine.spool_folder) == []


def test_of_a_server_that_is_away_the_members_kept_here_are_told(
    mine: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ensemble, "AT_EXIT", 0.0)
    for _ in range(2):
        with ms.ensemble("away", truth(), planned=3, server=NOWHERE, id="away", settings=mine) as e:
            told, here = capsys.readouterr().err, e.here
            if not here:
                log_one(e, 0)
                assert "what is kept on this machine has none of this ensemble" in told
    assert here == {"0"}
    assert "does not answer" in told
    assert "what is kept on this machine has whole: 0" in told


@pytest.mark.slow
def test_a_file_that_two_processes_share_is_sent_again_once_the_other_has_used_it_up(
    door: Door, tmp_path: Path, mine: Settings
) -> None:
    """The epochs of a trajectory are one file for all members; the server lets it go with the first that has it."""
    id_ = door.opened(2)
    sent = {}
    for number in (0, 1):
        for name, values in (
            ("test.logits.npy", member(number)), ("trajectory.test.logits.npy", along(number)),
            ("trajectory.epochs.npy", np.arange(1.0, len(along(number)) + 1)),
        ):  # fmt: skip
            np.save(tmp_path / f"{number}-{name}", values)
        sent[number] = ServerDoor(door.site.url)
    named = {
        number: one.send({path.name.partition("-")[2]: path for path in sorted(tmp_path.glob(f"{number}-*.npy"))})
        for number, one in sent.items()
    }
    shared = {one["sha256"] for one in named[0]} & {one["sha256"] for one in named[1]}
    assert len(shared) == 1
    sent[0].add(id_, "0", named[0])
    found = sent[1].add(id_, "1", named[1])
    assert [one["id"] for one in found["members"]] == ["0", "1"]


def test_without_a_promised_number_all_is_sent_at_the_end(door: Door, mine: Settings) -> None:
    with ms.ensemble("unpromised", truth(), server=door.site.url, settings=mine) as e:
        log_one(e, 0)
        log_one(e, 1)
        assert door.client.get("/api/imports").json()["items"] == []
    (found,) = door.client.get("/api/imports").json()["items"]
    assert (found["planned"], found["here"], found["state"]) == (2, 2, "sealed")
    assert e.page == f"{door.site.url}/experiments/unpromised"


def test_a_member_that_breaks_off_is_none_and_the_others_are(mine: Settings) -> None:
    with ms.ensemble("broken", truth(), settings=mine) as e:
        log_one(e, 0)
        with pytest.raises(ZeroDivisionError):
            broken_off(e)
        log_one(e, 2)
    assert e.lab is not None
    assert [one["id"] for one in e.lab.experiment.provenance["members"]] == ["0", "2"]


@pytest.mark.slow
def test_in_a_home_a_member_counts_once_and_two_that_differ_are_refused(mine: Settings) -> None:
    with ms.ensemble("twice", truth(), settings=mine) as e:
        for number in (0, 1, 0):
            log_one(e, number)
    assert e.lab is not None
    assert e.lab.spec.ensemble.runs == 2
    with pytest.raises(Conflict, match="member '0' was logged twice"):
        log_twice(ms.ensemble("differ", truth(), settings=mine))


def test_what_a_home_was_not_told_to_its_end_can_be_brought_later(
    mine: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODESCAPE_HOME", str(mine.home))
    with pytest.raises(ZeroDivisionError):
        log_two_and_break_off(ms.ensemble("left", truth(), settings=mine))
    assert main(["spool"]) == 0
    assert "left: 2 members" in capsys.readouterr().out
    assert main(["spool", "send"]) == 0
    assert ms.Laboratory(mine).results("left").spec.ensemble.runs == 2
    assert main(["spool", "list"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_a_spool_that_a_process_holds_is_left_to_it(
    mine: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODESCAPE_HOME", str(mine.home))
    with ms.ensemble("mine", truth(), settings=mine) as e:
        (spool,) = spools(mine.spool_folder)
        assert main(["spool", "send", spool.id]) == 1
        assert main(["spool", "forget", spool.id]) == 1
        assert "by a process that is running" in capsys.readouterr().err
        log_one(e, 0)
    assert main(["spool", "forget", "nothing"]) == 1
    assert "there is no spool nothing" in capsys.readouterr().err


# -- errors name what is wrong ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda e, m: m.predictions(test=member(0)[:-1]), "499 examples, and there are 500 labels"),
        (lambda e, m: m.predictions(test=member(0)[0]), "it is [1, 4] for logits"),
        (lambda e, m: m.predictions(test=member(0), validation=member(0)), "true labels are not known"),
        (lambda e, m: m.predictions(-1, test=member(0)), "0 or more"),
        (lambda e, m: m.predictions(test=member(0), shift={("fog", 9): member(0)}), "no intensity from 1 to 5"),
        (lambda e, m: m.samples("a/b", member(0)[None]), "a/b"),
        (lambda e, m: m.samples("swag", member(0)), "swag"),
        (lambda e, m: m.log(0.5, loss=1), "step"),
        (lambda e, m: m.log(0, loss="low"), "loss: is str"),
        (lambda e, m: m.log(0, {"../loss": 1}), "that can be the name of a file"),
        (lambda e, m: m.weights(3), "they are int"),
        (lambda e, m: e.member(config={"a": object()}), "config"),
        (lambda e, m: e.member("x" * 101), "1 to 100 characters"),
        (lambda e, m: ms.ensemble("x", truth(), kind="numbers"), "kind"),
        (lambda e, m: ms.ensemble("x", truth(), planned=0), "1 to 1000"),
        (lambda e, m: ms.ensemble("x", truth(), id="y"), "beside server and planned"),
        (lambda e, m: ms.ensemble("x", truth(), server="lab.example"), "http://"),
    ],
)
def test_what_does_not_fit_is_said_where_it_is_logged(mine: Settings, wrong: Any, says: str) -> None:
    e = ms.ensemble("wrong", truth(), settings=mine)
    with pytest.raises(InvalidInput) as refused:
        wrong(e, e.member(0))
    assert says in "; ".join(map(str, refused.value.problems))


@pytest.mark.slow
@pytest.mark.parametrize(("there", "store_url"), [(False, "sqlite"), (True, "sqlite")], indirect=["store_url"])
def test_probabilities_logged_as_logits_are_told_at_once_and_kept_as_they_were_called(
    door: Door, mine: Settings, capsys: pytest.CaptureFixture[str], there: bool
) -> None:
    where = {"server": door.site.url, "planned": 3} if there else {}
    with ms.ensemble("odds", truth(), recipe="same", settings=mine, **where) as e:
        for i in range(3):
            with e.member(seed=i) as m:
                m.predictions(1, test=odds_of(i) if i else member(i))
                told = capsys.readouterr().err
                assert (f"the rows of member {i}'s predictions sum to 1" in told) is (i > 0)
                m.predictions(2, test=odds_of(i) if i else member(i))
                assert "sum to 1" not in capsys.readouterr().err
    lab = door.run("odds") if there else e.lab
    assert lab is not None
    assert lab.experiment.runs == 3
    assert spools(mine.spool_folder) == []
    assert any("were taken for logits" in line for line in lab.odd)


def test_a_member_without_predictions_is_said_to_have_none(mine: Settings) -> None:
    e = ms.ensemble("none", truth(), settings=mine)
    with pytest.raises(InvalidInput, match="ended without any"), e.member(0) as m:
        m.log(0, loss=1)


def test_a_number_that_is_not_finite_is_a_gap(mine: Settings) -> None:
    with ms.ensemble("gap", truth(), settings=mine) as e, e.member(0) as m:
        for step, value in enumerate((1.0, np.nan, np.float32(3), np.inf)):
            m.log(step, loss=value)
        m.predictions(test=member(0))
    assert e.lab is not None
    values = e.lab.store.curves.points(e.lab.experiment.id, 0, "loss").values
    assert np.isnan(values).tolist() == [False, True, False, True]


def _wait(until: Any) -> None:
    deadline = time.monotonic() + 60
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.05)
