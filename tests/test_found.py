"""Found: projects, groups, named views and what is done to many, over HTTP as programs and pages use it."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from serving import SPEC, Served, finished, served
from test_searching import fill

from modescape import asking
from modescape.acting import Actor, UserRole, acting
from modescape.columns import EXPERIMENTS
from modescape.errors import Forbidden, InvalidInput, NotFound
from modescape.listing import ListQuery
from modescape.store import Store
from modescape_api.pages import columns

HTML = {"accept": "text/html"}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as running:
        yield running


@pytest.fixture
def client(site: Served) -> Iterator[httpx.Client]:
    with site.client(headers={"Origin": site.url}) as one:
        yield one


def ok(answer: httpx.Response) -> Any:
    assert answer.status_code < 400, answer.text
    return answer.json() if answer.headers["content-type"].startswith("application/json") else answer.text


def launch(client: httpx.Client, name: str, **more: Any) -> str:
    slug: str = ok(client.post("/api/experiments", json={"name": name, "spec": SPEC, **more}))["slug"]
    return slug


def page(client: httpx.Client, address: str) -> str:
    return str(ok(client.get(address, headers=HTML)))


def listed(client: httpx.Client, q: str = "") -> list[str]:
    return sorted(row["name"] for row in ok(client.get("/api/experiments", params={"q": q}))["items"])


# -- projects and clones ----------------------------------------------------------------------------------------------


def test_a_project_is_a_field_that_is_given_changed_counted_and_taken_away(client: httpx.Client) -> None:
    one, two = launch(client, "one", project=" Ölfeld "), launch(client, "two")
    assert ok(client.get(f"/api/experiments/{one}"))["project"] == "Ölfeld"
    ok(client.patch(f"/api/experiments/{two}", json={"project": "ölfeld"}))
    assert listed(client, "project:OLFELD") == ["one", "two"]
    shown = page(client, "/")
    assert shown.count(">Ölfeld</span>") + shown.count(">ölfeld</span>") == 1, "one facet for both spellings"
    assert "/?project=" in shown
    ok(client.patch(f"/api/experiments/{two}", json={"project": ""}))
    assert listed(client, "-has:project") == ["two"]
    assert client.patch(f"/api/experiments/{two}", json={"project": "a\u0000b"}).status_code == 422
    assert client.patch(f"/api/experiments/{two}", json={"project": "x" * 101}).status_code == 422


@pytest.mark.slow
def test_a_clone_names_its_source_until_that_is_purged(client: httpx.Client) -> None:
    source = launch(client, "source", project="P")
    clone = ok(client.post(f"/api/experiments/{source}/clone", json={"changes": {"ensemble": {"seed": 9}}}))
    assert (clone["parent"], clone["project"]) == (source, "P")
    assert f'a clone of <a href="/experiments/{source}">' in page(client, f"/experiments/{clone['slug']}")
    form = page(client, f"/launch?from={source}")
    assert f'name="parent" value="{source}"' in form
    answer = client.post("/launch", data={"parent": source, "name": "by the form", "key": "k", "preset": ""})
    assert answer.status_code == 303, answer.text
    assert ok(client.get("/api" + answer.headers["location"]))["parent"] == source
    assert listed(client, f"parent:{source}") == ["by the form", "source copy"]
    assert client.post("/api/experiments", json={"spec": SPEC, "parent": "not-there"}).status_code == 404
    ok(client.delete(f"/api/experiments/{source}"))
    ok(client.post(f"/api/experiments/{source}/purge"))
    assert ok(client.get(f"/api/experiments/{clone['slug']}"))["parent"] is None
    assert listed(client, "has:parent") == []


# -- groups -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["by the database", "in memory"])
def test_groups_have_the_mean_and_spread_of_a_plain_loop(store: Store, way: str) -> None:
    rows = [row for row in fill(store, 90) if row["archived_at"] is None]
    store.experiments._held._is_wanted = way == "in memory"
    values = {
        "dataset": lambda r: [r["dataset"]], "runs": lambda r: [r["runs"]], "project": lambda r: [r["project"] or None],
        "parent": lambda r: [r["parent"]], "method": lambda r: r["methods"] or [None],
        "spec.training.epochs": lambda r: [float(r["_epochs"])], "result.claims.d1.word": lambda r: [r["_word"]],
        "tag": lambda r: ["Baseline" if tag == "baseline" else tag for tag in r["tags"]] or [None],
    }  # fmt: skip
    for by, of in values.items():
        for line, keep in (("", lambda r: True), ("accuracy>0.3", lambda r: (r["accuracy"] or 0) > 0.3)):
            query = asking.read(EXPERIMENTS, [("q", line)]).query
            expected: dict[Any, list[float | None]] = {}
            for row in filter(keep, rows):
                for value in of(row):
                    expected.setdefault(value, []).append(row["accuracy"])
            found = store.experiments.groups(query, by, ["accuracy"])
            spelled = {("Baseline" if by == "tag" and one.value == "baseline" else one.value): one for one in found}
            assert {key: one.n for key, one in spelled.items()} == {key: len(all_) for key, all_ in expected.items()}, (
                by
            )
            for key, numbers in expected.items():
                there, spread = [one for one in numbers if one is not None], spelled[key].numbers["accuracy"]
                assert spread.n == len(there)
                assert spread.mean == (pytest.approx(statistics.mean(there)) if there else None)
                assert spread.sd == (pytest.approx(statistics.stdev(there)) if len(there) > 1 else None)
            sizes = [one.n for one in found if one.value is not None]
            assert sizes == sorted(sizes, reverse=True)
    with pytest.raises(InvalidInput, match="grouped"):
        store.experiments.groups(ListQuery(), "created", [])


def test_the_page_shows_groups_and_opens_and_closes_them_by_its_address(client: httpx.Client) -> None:
    for name, project in (("one", "A"), ("two", "A"), ("three", "")):
        launch(client, name, project=project)
    told = ok(client.get("/api/groups", params={"by": "project"}))
    assert [(one["value"], one["n"]) for one in told["items"]] == [("A", 2), (None, 1)]
    closed = page(client, "/?group=project")
    assert 'aria-expanded="false"' in closed
    assert ">one</a>" not in closed
    opened = page(client, "/?group=project&open=%3DA")
    assert ">one</a>" in opened
    assert ">three</a>" not in opened
    assert "project%3DA" in opened, "a link to the group alone"
    assert ">three</a>" in page(client, "/?group=project&open=none")
    assert client.get("/api/groups", params={"by": "colour"}).status_code == 422
    assert client.get("/api/groups", params={"by": "dataset", "numbers": "name"}).status_code == 422


# -- columns ----------------------------------------------------------------------------------------------------------


def test_columns_are_those_of_the_address_in_its_order_and_width() -> None:
    shown = columns.shown(["accuracy,name:240,spec.training.epochs:9999,nothing,status,accuracy"], ["result.gain"])
    assert [str(column) for column in shown] == [
        "accuracy", "name:240", "spec.training.epochs:800", "status", "result.gain",
    ]  # fmt: skip
    assert [column.is_asked for column in shown] == [True] * 4 + [False]
    assert str(columns.shown(["accuracy"])[0]) == "name", "a name is always there"
    usual = [column.field.name for column in columns.shown([])]
    assert usual == [field.name for field, cell in EXPERIMENTS.cells if cell.usual]
    for name in EXPERIMENTS.asked:
        if name != "archived":
            assert columns.shown([name])[-1].field.name == name, "every field can be a column"


def test_links_move_columns_leave_them_out_and_put_them_in_without_script(client: httpx.Client) -> None:
    launch(client, "one", tags=["paper"])
    text = page(client, "/?columns=name,accuracy,runs")
    assert "columns=name%2Cruns%2Caccuracy" in text
    assert "columns=name%2Caccuracy" in text
    assert "columns=name%2Caccuracy%2Cruns%2Cowner" not in text
    assert "columns=name%2Caccuracy%2Cruns%2Ctag" in text
    answer = client.get("/filter?columns=name,runs&column=spec.training.epochs")
    assert dict(parse_qsl(urlsplit(answer.headers["location"]).query)) == {"columns": "name,runs,spec.training.epochs"}
    wide = page(client, "/?columns=name:320,tag")
    assert 'data-width="320"' in wide
    assert ">paper</a>" in wide


# -- views ------------------------------------------------------------------------------------------------------------


def test_a_view_is_kept_opened_by_its_name_changed_and_removed(client: httpx.Client) -> None:
    launch(client, "one")
    query = "q=dataset%3Adigits&sort=-accuracy&columns=name%2Caccuracy&cursor=x&open=a"
    answer = client.post("/views", data={"name": "Die Öl-Felder", "query": query})
    assert answer.headers["location"].endswith("view=die-ol-felder")
    [view] = ok(client.get("/api/views"))["items"]
    assert view["query"] == "q=dataset%3Adigits&sort=-accuracy&columns=name%2Caccuracy"
    assert client.get("/?view=die-ol-felder").headers["location"] == view["page"]
    shown = page(client, view["page"])
    assert 'aria-current="true"' in shown[shown.index("Archive") - 400 : shown.index("Die Öl-Felder")]
    assert "changed</small>" not in shown
    assert "changed</small>" in page(client, f"{view['page']}&runs=3"), "another look than the kept one"
    ok(client.patch("/api/views/die-ol-felder", json={"query": "runs=2"}))
    assert client.get("/?view=die-ol-felder").headers["location"] == "/?runs=2&view=die-ol-felder"
    launch(client, "three of them", spec={**SPEC, "ensemble": {"runs": 3, "seed": 1}})
    assert ok(client.get("/api/views/die-ol-felder"))["page"] == "/?runs=2&view=die-ol-felder"
    for given, wanted in {
        "view=die-ol-felder": ["one"],
        "view=die-ol-felder&limit=5&fields=slug": ["one"],
        "view=die-ol-felder&runs=3": ["three-of-them"],  # its address with another filter says all that it shows
    }.items():
        assert [row["slug"] for row in ok(client.get(f"/api/experiments?{given}"))["items"]] == wanted, given
    assert [one["n"] for one in ok(client.get("/api/groups?by=dataset&view=die-ol-felder"))["items"]] == [1]
    assert client.get("/api/experiments?view=nothing").status_code == 404
    assert client.get("/api/views/nothing").status_code == 404
    assert client.post("/api/views", json={"name": "x", "query": "q=" + "a" * 5000}).status_code == 422
    assert client.get("/?view=nothing", headers=HTML).status_code == 404
    client.post("/views/die-ol-felder/remove", data={"next": "/"})
    assert ok(client.get("/api/views"))["items"] == []


def test_a_view_is_its_makers_to_change_and_everybodys_to_open(store: Store) -> None:
    ada, bob = Actor("ada", UserRole.RESEARCHER), Actor("bob", UserRole.RESEARCHER)
    with acting(ada):
        row = store.views.add("Mine", "?runs=3&view=other")
    assert row.query == "runs=3"
    with acting(bob):
        assert store.views.get("mine").id == row.id
        for change in (lambda: store.views.change("mine", name="Yours"), lambda: store.views.remove("mine")):
            with pytest.raises(Forbidden, match="ada made it"):
                change()
        assert store.views.add("Mine", "").slug == "mine-2"
    with acting(Actor("eve", UserRole.VIEWER)), pytest.raises(Forbidden):
        store.views.add("Hers", "")
    with acting(Actor("root", UserRole.ADMIN)):
        store.views.remove("mine")
    with pytest.raises(NotFound):
        store.views.get("mine")


# -- many at once -----------------------------------------------------------------------------------------------------


def test_many_are_tagged_archived_restored_and_purged_and_what_fails_is_told(client: httpx.Client) -> None:
    slugs = [launch(client, name, tags=["old"]) for name in ("one", "two", "three")]
    said = {"action": "change", "q": "one or two", "tag": ["Paper"], "untag": ["OLD"], "project": "P"}
    assert sorted(ok(client.post("/api/bulk", json=said))["done"]) == ["one", "two"]
    assert listed(client, "tag:paper project:p -tag:old") == ["one", "two"]
    done = ok(client.post("/api/bulk", json={"action": "archive", "experiments": [*slugs, "nowhere"]}))
    assert (sorted(done["done"]), [one["slug"] for one in done["failed"]]) == (sorted(slugs), ["nowhere"])
    assert listed(client) == []
    ok(client.post("/api/bulk", json={"action": "restore", "q": "archived:true one"}))
    assert listed(client) == ["one"]
    done = ok(client.post("/api/bulk", json={"action": "purge", "experiments": ["one", "two"]}))
    assert done["done"] == ["two"]
    assert "archive it first" in done["failed"][0]["why"]
    for wrong in (
        {"action": "archive"}, {"action": "archive", "experiments": ["one"], "q": "x"},
        {"action": "change", "experiments": ["one"]}, {"action": "burn", "experiments": ["one"]},
        {"action": "archive", "q": "colour:red"},
    ):  # fmt: skip
        assert client.post("/api/bulk", json=wrong).status_code == 422, wrong


@pytest.mark.slow
def test_what_a_purge_of_many_frees_is_told_before_and_is_what_it_frees(site: Served, client: httpx.Client) -> None:
    first, second = finished(site.laboratory), finished(site.laboratory)  # which share their trainings
    alone = [site.laboratory.store.experiments.bytes_of(row.id) for row in (first, second)]
    both = site.laboratory.store.experiments.bytes_of(first.id, second.id)
    assert both > sum(alone), "what they share is freed by both together only"
    slugs = [first.slug, second.slug]
    dry = ok(client.post("/api/bulk", json={"action": "purge", "experiments": slugs, "dry": True}))
    assert dry["freed_bytes"] == both
    assert len(listed(client)) == 2
    client.post("/archive", data={"ref": slugs})
    asked = client.post("/purge", data={"ref": slugs, "next": "/?archived=true"}, headers=HTML).text
    assert "Delete 2 experiments for good?" in asked
    assert listed(client, "archived:true") != [], "nothing is deleted before it is confirmed"
    told = client.post("/purge", data={"ref": slugs, "sure": "yes", "next": "/"}, headers=HTML).text
    assert "2 deleted" in told
    assert listed(client, "archived:any") == []


def test_the_page_acts_on_all_that_it_finds(client: httpx.Client) -> None:
    for name in ("one", "two", "three"):
        launch(client, name)
    client.post("/change", data={"all": "1", "next": "/?q=-name:two", "tag": "seen, twice"})
    assert listed(client, "tag:twice") == ["one", "three"]
    answer = client.post("/export", data={"ref": ["one", "two"], "format": "csv"})
    assert [line.split(",")[2] for line in ok(client.get(answer.headers["location"])).splitlines()[1:]] == [
        "two",
        "one",
    ]
    answer = client.post("/compare", data={"all": "1", "next": "/?q=tag:twice"})
    assert sorted(value for _, value in parse_qsl(urlsplit(answer.headers["location"]).query)) == ["one", "three"]
    client.post("/archive", data={"all": "1", "next": "/"})
    assert listed(client) == []


@pytest.mark.slow
def test_the_list_says_what_was_done_and_undoes_only_what_was(client: httpx.Client) -> None:
    slugs = [launch(client, name, tags=["Seen"] if name == "one" else []) for name in ("one", "two", "three")]

    def told() -> tuple[str, dict[str, Any]]:
        """The message of the next page, once, and what its button posts."""
        shown = client.get("/", headers={"accept": "text/html,*/*"}).text
        found = re.search(r'class="notice told">\s*<span role="status">([^<]*)</span>(.*?)</div>', shown, re.DOTALL)
        assert found is not None
        assert 'class="notice told"' not in client.get("/", headers={"accept": "text/html,*/*"}).text
        fields: dict[str, Any] = {"ref": re.findall(r'name="ref" value="([^"]+)"', found[2])}
        fields |= dict(re.findall(r'name="(tag|untag|next)" value="([^"]*)"', found[2]))
        return found[1], {"action": (re.findall(r'action="([^"]+)"', found[2]) or [""])[0], **fields}

    client.post("/change", data={"ref": slugs, "tag": "seen", "next": "/"})
    live = client.get("/", headers=HTML).text  # as a script of another tab asks
    assert 'class="notice told"' not in live
    said, undo = told()
    assert said == "3 experiments tagged “seen”; 1 of them had that already."
    assert sorted(undo["ref"]) == ["three", "two"]
    client.post(undo.pop("action"), data=undo)
    assert listed(client, "tag:seen") == ["one"], "as it was before"
    told()
    client.post("/change", data={"ref": "one", "tag": "seen", "next": "/"})
    said, undo = told()
    assert (said, undo["action"]) == ("Nothing changed: 1 experiment was tagged “seen” already.", "")
    client.post("/archive", data={"ref": slugs, "next": "/"})
    said, undo = told()
    assert said == "3 experiments archived."
    assert undo["action"] == "", "they were stopped, which restoring does not undo"
    client.post("/restore", data={"ref": slugs, "next": "/"})
    said, undo = told()
    assert (said, undo["action"], sorted(undo["ref"])) == ("3 experiments restored.", "/archive", sorted(slugs))
    client.post(undo.pop("action"), data=undo)
    told()
    assert listed(client) == []


@pytest.mark.parametrize("kept", ["x", "eyJ3b3JkcyI6IDF9", "_" * 3000, "e30"])
def test_a_message_that_is_none_of_ours_is_left_alone(kept: str, client: httpx.Client) -> None:
    answer = client.get("/", headers={"accept": "*/*", "cookie": f"modescape_told={kept}"})
    assert answer.status_code == 200
    assert 'class="notice told"' not in answer.text


# -- no ghosts --------------------------------------------------------------------------------------------------------


def test_an_archive_that_holds_everything_is_not_nothing_here_yet(client: httpx.Client) -> None:
    assert "Nothing here yet" in page(client, "/")
    slug = launch(client, "one")
    ok(client.delete(f"/api/experiments/{slug}"))
    shown = page(client, "/")
    assert "The only experiment is archived." in shown
    assert "Nothing here yet" not in shown
    assert "Nothing is archived." not in page(client, "/?archived=true")


def test_an_archived_page_says_so_and_offers_no_work(site: Served, client: httpx.Client) -> None:
    slug = launch(client, "one")
    assert "/cancel" in page(client, f"/experiments/{slug}")
    ok(client.delete(f"/api/experiments/{slug}"))
    shown = page(client, f"/experiments/{slug}")
    assert ": it is in no list, nothing of it is computed" in shown
    for work in ("/retry", "/cancel", "/pause", "/resume", f"/launch?from={slug}"):
        assert work not in shown, work
    assert "/restore" in shown


# -- presets by question ----------------------------------------------------------------------------------------------


def test_presets_are_a_list_by_question_which_is_folded_once_one_is_chosen(client: httpx.Client) -> None:
    first = page(client, "/launch")
    assert '<details class="card questions" id="presets" open>' in first
    for question in (
        "Are runs different functions?",
        "What is diversity worth under shift?",
        "What does diversity cost?",
    ):
        assert first.count(f"<h2>{question}</h2>") == 1
    lists = first.split('id="presets"')[1].split("</nav>")[0]
    opened = re.findall(r'<details class="more"( open)?>', lists)
    assert opened.count(" open") == 1, "of the others the questions alone are shown"
    chosen = page(client, "/launch?preset=fig-3-short")
    assert '<details class="card questions" id="presets">' in chosen
    assert 'aria-label="Size of this preset"' in chosen
    assert 'href="/launch?preset=fig-3"' in chosen
    assert 'aria-label="Size of this preset"' not in page(client, "/launch?preset=quickstart"), "it has one size"
