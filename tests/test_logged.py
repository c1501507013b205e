"""Points of members that are trained elsewhere: sent while they are trained, shown as they come, and their curves once
they are there. Through a running server, on both databases."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from playwright.sync_api import sync_playwright
from serving import mainly, served
from test_doors import Door, member

from modescape.exporting import ensemble_of
from modescape.imported.digest import set_digest
from modescape.imported.reading import read
from modescape.imported.writing import write
from modescape.records import EventKind
from modescape.results import Results
from modescape.store import logged

pytestmark = pytest.mark.usefixtures("few_redraws")
Json = Any


class Loop(Door):
    """What a training loop sends."""

    def log(self, id_: str, who: str, batch: str, steps: list[int], **values: list[float | None]) -> httpx.Response:
        times = [1.8e9 + step for step in steps]
        body = {"batch": batch, "logged": [{"steps": steps, "times": times, "values": values}]}
        return self.client.post(f"/api/imports/{id_}/members/{who}/points", json=body)

    def slug(self, id_: str) -> str:
        return str(self.client.get(f"/api/imports/{id_}").json()["experiment"])

    def results(self, id_: str) -> Results:
        """Once all that is planned is done."""
        self.run(self.slug(id_))
        return self.site.laboratory.results(self.slug(id_))

    def figure(self, id_: str, form: str = "csv", **options: str) -> httpx.Response:
        address = f"/api/experiments/{self.slug(id_)}/figures/logged-curves.{form}"
        return self.client.get(address, params=options)

    def drawn(self, id_: str, **options: str) -> list[list[str]]:
        answer = self.figure(id_, **options)
        assert answer.status_code == 200, answer.text
        return [line.split(",") for line in answer.text.split()[1:]]


@pytest.fixture
def door(store_url: str, tmp_path: Path) -> Iterator[Loop]:
    with served(tmp_path / "home", database_url=store_url) as site:
        yield Loop(site)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    with served(tmp_path_factory.mktemp("logged")) as site:
        yield Loop(site)


@pytest.mark.slow
@mainly("postgres")
def test_points_are_shown_before_any_member_is_there_and_are_its_curves_afterwards(door: Loop) -> None:
    id_ = door.opened(2)
    assert door.log(id_, "0", "a", [0, 1, 2], loss=[3.0, 2.0, None]).status_code == 201
    assert door.log(id_, "1", "a", [0, 1], loss=[3.5, 2.5], accuracy=[0.1, 0.2]).status_code == 201
    assert door.drawn(id_, curve="loss") == [
        ["0", "0", "loss", "0", "3.0"], ["0", "0", "loss", "1", "2.0"], ["0", "0", "loss", "2", ""],
        ["1", "1", "loss", "0", "3.5"], ["1", "1", "loss", "1", "2.5"],
    ]  # fmt: skip
    page = door.client.get(f"/experiments/{door.slug(id_)}", headers={"accept": "text/html"}).text
    assert "So far, 0 of 2 members" in page
    assert "Being trained: 0, 1." in " ".join(page.split())
    assert "figures/logged-curves" in page
    said = " ".join(re.sub("<[^>]+>", " ", page).split())
    assert "2 members being trained, of 2 planned" in said
    assert "imported 1 member" not in said
    assert "Curves and parameters are all that came" not in said
    assert "Nothing can be compared" not in said
    assert "which it does not have" not in said
    assert "Seal with 0" not in said
    series = door.client.get(f"/api/experiments/{door.slug(id_)}/series").json()["items"]
    assert [(one["run"], one["name"], one["n"], one["last"], one["smallest"]) for one in series] == [
        (0, "loss", 3, None, 2.0), (1, "loss", 2, 2.5, 2.5), (1, "accuracy", 2, 0.2, 0.1),
    ]  # fmt: skip
    curve = door.client.get(f"/api/experiments/{door.slug(id_)}/runs/1/series/accuracy").json()
    assert (curve["steps"], curve["values"]) == ([0, 1], [0.1, 0.2])
    assert door.add(id_, 0).status_code == 201
    door.run(door.slug(id_))
    words = door.figure(id_, "json", curve="loss").json()["words"]
    assert words["partial"] == "1 member is still being trained"
    series = door.client.get(f"/api/experiments/{door.slug(id_)}/series").json()["items"]
    assert [(one["run"], one["name"]) for one in series] == [(0, "loss"), (1, "loss"), (1, "accuracy")]
    assert door.add(id_, 1).status_code == 201  # whose curves are others: that does not keep it out
    door.client.post(f"/api/imports/{id_}/seal").raise_for_status()
    results = door.results(id_)
    assert {(one.run, one.name, one.n) for one in results.store.curves.of(results.experiment.id)} == {
        (0, "loss", 3), (1, "accuracy", 2), (1, "loss", 2),
    }  # fmt: skip
    curve = results.store.curves.points(results.experiment.id, 1, "loss")
    assert curve.times.tolist() == [1.8e9, 1.8e9 + 1]
    assert door.site.laboratory.store.logged.of(id_) == []


def test_a_batch_that_is_sent_again_changes_nothing(door: Loop) -> None:
    id_ = door.opened()
    assert door.log(id_, "0", "a", [0, 1], loss=[3, 2]).status_code == 201
    assert door.log(id_, "0", "a", [0, 1], loss=[3, 2]).status_code == 200
    assert len(door.drawn(id_)) == 2
    assert door.log(id_, "1", "a", [0, 1], loss=[3, 2]).status_code == 201  # of another member it is another batch
    with ThreadPoolExecutor(8) as threads:
        said = list(
            threads.map(lambda i: door.log(id_, "2", f"b{i % 3}", [i % 3], loss=[i % 3]).status_code, range(24))
        )
    assert sorted(said) == [200] * 21 + [201] * 3
    assert [row[3] for row in door.drawn(id_) if row[1] == "2"] == ["0", "1", "2"]


def test_points_come_in_any_order_and_the_later_of_two_at_one_step_counts(door: Loop) -> None:
    id_ = door.opened()
    door.log(id_, "0", "a", [5, 3], loss=[0.5, 0.3])
    door.log(id_, "0", "b", [4, 3], loss=[0.4, 0.9])
    assert [row[3:] for row in door.drawn(id_)] == [["3", "0.9"], ["4", "0.4"], ["5", "0.5"]]


def test_an_experiment_so_far_tells_its_page_of_new_points_but_not_of_every_batch(door: Loop) -> None:
    id_ = door.opened()
    for number in range(20):
        door.log(id_, "0", f"{number}", [number], loss=[1.0])
    events = door.site.laboratory.store.events.after(0)
    told = [one.payload for one in events if one.kind == EventKind.POINTS]
    assert 1 <= len(told) <= 3
    assert told[0] == {"kind": "curves", "member": "0"}


def test_a_picture_of_points_is_drawn_again_when_more_have_come(door: Loop) -> None:
    id_ = door.opened()
    door.log(id_, "0", "a", [0], loss=[1.0])
    first = door.figure(id_, "json")
    same = door.client.get(str(first.url), headers={"if-none-match": first.headers["etag"]})
    door.log(id_, "0", "b", [1], loss=[0.5])
    other = door.client.get(str(first.url), headers={"if-none-match": first.headers["etag"]})
    assert (same.status_code, other.status_code) == (304, 200)


@pytest.mark.slow
def test_members_that_are_added_after_a_seal_are_logged_to_the_next_look(door: Loop) -> None:
    id_ = door.opened(1)
    door.add(id_, 0)
    door.client.post(f"/api/imports/{id_}/seal").raise_for_status()
    sealed = door.slug(id_)
    assert door.log(id_, "1", "a", [0], loss=[1.0]).status_code == 409
    door.client.post(f"/api/imports/{id_}/reopen", json={"planned": 2}).raise_for_status()
    assert door.log(id_, "1", "a", [0], loss=[1.0]).status_code == 201
    assert door.slug(id_) != sealed
    door.run(door.slug(id_))
    assert [row[1] for row in door.drawn(id_)] == ["1"]
    assert door.client.get(f"/api/experiments/{sealed}/figures/logged-curves.csv").status_code == 409


def test_a_member_that_is_here_takes_no_more_points(shared: Loop) -> None:
    id_ = shared.opened()
    shared.add(id_, 0)
    answer = shared.log(id_, "0", "late", [9], loss=[1.0])
    assert answer.status_code == 409
    assert "member '0' is here already" in answer.json()["detail"]


@pytest.mark.slow
def test_curves_of_a_member_that_comes_while_points_come_are_whole(door: Loop) -> None:
    """However the two fall, every point that was answered with 201 is in the member's curve."""
    id_ = door.opened()
    door.log(id_, "0", "first", [0], loss=[0.0])

    def send(number: int) -> int:
        return door.log(id_, "0", f"{number}", [number], loss=[float(number)]).status_code

    with ThreadPoolExecutor(4) as threads:
        added = threads.submit(door.add, id_, 0)
        said = list(threads.map(send, range(1, 150)))
        assert added.result().status_code == 201
    assert set(said) <= {201, 409}
    results = door.results(id_)
    steps = results.store.curves.points(results.experiment.id, 0, "loss").steps
    assert steps.tolist() == [0, *(number for number, status in enumerate(said, 1) if status == 201)]


@pytest.mark.parametrize(
    ("body", "field", "allowed"),
    [
        ({"logged": [{"steps": [0], "values": {"loss": [1]}}]}, "batch", ""),
        ({"batch": "a", "logged": []}, "logged", ""),
        ({"batch": "a", "logged": [{"steps": [0, 1], "values": {"loss": [1]}}]}, "logged.0.values.loss", "one a step"),
        ({"batch": "a", "logged": [{"steps": [0], "times": [], "values": {"a": [1]}}]}, "logged.0.times", "one a step"),
        ({"batch": "a", "logged": [{"steps": [0.5], "values": {"loss": [1]}}]}, "logged.0.steps.0", ""),
        ({"batch": "a", "logged": [{"steps": [2**63], "values": {"loss": [1]}}]}, "logged.0.steps.0", ""),
        ({"batch": "a", "logged": [{"steps": [0], "values": {"loss": ["low"]}}]}, "logged.0.values.loss.0", ""),
        ({"batch": "a", "logged": [{"steps": [0], "values": {"../loss": [1]}}]}, "logged.values", ""),
        ({"batch": "a", "logged": [{"steps": [0], "values": {"": [1]}}]}, "logged.values", "1 to 100 characters"),
        ({"batch": "a", "logged": [{"steps": [0], "values": {"a\x00b": [1]}}]}, "logged.values", ""),
        ({"batch": "a b", "logged": [{"steps": [0], "values": {"loss": [1]}}]}, "batch", ""),
    ],
)  # fmt: skip
def test_what_is_no_point_is_refused_by_its_place(shared: Loop, body: Json, field: str, allowed: str) -> None:
    answer = shared.client.post(f"/api/imports/{shared.opened()}/members/0/points", json=body)
    assert answer.status_code == 422, answer.text
    found = [one for one in answer.json()["errors"] if one["field"] == field]
    assert found, answer.text
    assert allowed in found[0]["allowed"]


def test_no_member_has_more_points_or_curves_than_are_kept(shared: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logged, "MOST_POINTS", 5)
    monkeypatch.setattr(logged, "MOST_CURVES", 2)
    id_ = shared.opened()
    assert shared.log(id_, "0", "a", [0, 1, 2], loss=[1, 1, 1]).status_code == 201
    many = shared.log(id_, "0", "b", [3, 4, 5], loss=[1, 1, 1])
    wide = shared.log(id_, "0", "c", [3], a=[1], b=[1])
    assert (many.status_code, wide.status_code) == (422, 422)
    assert "has 6 points with these" in many.json()["detail"]
    assert "has 3 curves with these" in wide.json()["detail"]
    assert len(shared.drawn(id_)) == 3  # of what was refused nothing is kept


def test_an_import_that_is_not_there_takes_no_points(shared: Loop) -> None:
    assert shared.log("nowhere", "0", "a", [0], loss=[1.0]).status_code == 404


def test_a_single_member_with_curves_goes_out_with_its_predictions(shared: Loop, tmp_path: Path) -> None:
    id_ = shared.opened(1)
    shared.log(id_, "0", "a", [0], loss=[1.0])
    shared.add(id_, 0)
    shared.client.post(f"/api/imports/{id_}/seal").raise_for_status()
    results = shared.results(id_)
    out = ensemble_of(results)
    assert np.array_equal(out.test.outputs.read()[0], member(0))
    assert {name: curve.tolist() for name, curve in out.curves["0"].items()} == {"loss": [[0, 1.0, 1.8e9]]}
    assert not [one for one in out.left_out if one.startswith("curves")]
    write(out, tmp_path / "out.zip")
    assert set_digest(read(tmp_path / "out.zip")) == set_digest(out)


@pytest.mark.slow
def test_a_browser_draws_points_as_they_come(shared: Loop, wait_until: Any) -> None:
    """Without a reload: the page hears of them and asks for the picture again."""
    id_ = shared.opened()
    shared.log(id_, "0", "a", [0, 1], loss=[2.0, 1.0])
    shared.run(shared.slug(id_))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"{shared.site.url}/experiments/{shared.slug(id_)}")
        page.evaluate("document.querySelector('#logged-curves').scrollIntoView()")

        def drawn() -> list[int]:
            """Points of each curve."""
            plot = "document.querySelector('#logged-curves .plot')"
            found: list[int] = page.evaluate(f"({plot}?.calcdata ?? []).map(one => one.length)")
            return found

        wait_until(lambda: drawn() == [2], 60, "the first curve")
        shared.log(id_, "0", "b", [2, 3], loss=[0.5, 0.25])
        shared.log(id_, "1", "a", [0, 1], loss=[3.0, 2.0])
        wait_until(lambda: drawn() == [4, 2], 60, "the points that came later")
        browser.close()
