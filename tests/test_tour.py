"""The first visit: one button in an empty home, and a tour of the argument that nobody is led into."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from every_page import lab
from playwright.sync_api import Browser, expect
from serving import Served, served, work
from sqlalchemy import update

from modescape.claims import CLAIMS
from modescape.claims.record import ClaimRecord
from modescape.finding import Finding
from modescape.records import Status
from modescape.registry import presets
from modescape.science.confidence import Word
from modescape.tables import Experiment
from modescape_api.pages.tour import EXAMPLE, FEW, STEPS, stand


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("first visit")) as running:
        yield running


@pytest.fixture(scope="module")
def example(site: Served) -> Experiment:
    """As the button of the empty home makes it, and computed in short."""
    with site.visitor() as client:
        empty = client.get("/").text
        assert empty.count("<button") - empty[: empty.index("<main")].count("<button") > 0
        first, second = (client.post("/tour", data={"seen": "0"}) for _ in range(2))
        assert first.status_code == 303
        assert first.headers["location"] == second.headers["location"] == "/experiments/quickstart"
        assert client.get("/tour").headers["location"] == "/experiments/quickstart?tour=1#tour"
        assert "still being computed" in client.get("/experiments/quickstart?tour=2").text
    row = site.laboratory.store.experiments.get("quickstart")
    assert row.spec == site.laboratory.create(presets[EXAMPLE].call(), name="the same").spec
    site.laboratory.store.experiments.archive("the-same")
    work(site.laboratory, row.id)
    return row


def test_the_tour_asks_of_figures_that_the_example_has() -> None:
    assert len(STEPS) == 5
    assert [step.figure for step in STEPS] == list(dict.fromkeys(step.figure for step in STEPS))


def test_an_empty_home_offers_one_button(tmp_path: Path) -> None:
    with served(tmp_path) as site, site.visitor() as client:
        page = client.get("/").text
    main = page[page.index('id="live-list"') : page.index('row bulk"')]
    assert re.findall(r"<(?:button|a) .*?>\s*([\w ]+)", main, re.S) == ["Compute an example"]


@pytest.mark.slow
def test_the_one_button_is_all_that_is_seen_and_begins_the_example(tmp_path: Path, browser: Browser) -> None:
    with served(tmp_path) as site:
        page = browser.new_page(base_url=site.url)
        page.goto("/")
        pressed = page.locator("main").locator("button, a, input, select").locator("visible=true")
        expect(pressed).to_have_count(1)
        pressed.click()
        page.wait_for_url("**/experiments/quickstart")
        page.goto("/")
        expect(page.get_by_role("link", name="New experiment")).to_be_visible()
        page.close()


def test_the_tour_has_five_steps_each_beside_its_figure(site: Served, example: Experiment) -> None:
    with site.visitor() as client:
        address, seen = client.get("/tour").headers["location"], []
        while address:
            page = client.get(address.partition("#")[0]).text
            card = page[page.index('class="tour card"') :]
            assert address.endswith("#tour")
            following = page[page.index('id="tour"') :]
            assert re.search(r'<figure class="fig[^"]*" id="([\w-]+)"', following)[1] == STEPS[len(seen)].figure  # type: ignore[index]
            seen.append(re.search(r'id="tour-title">.*?(\d) of 5</span> ([^<]+)', card)[2])  # type: ignore[index]
            following = re.search(r'<a class="btn primary" href="([^"]+)">Next', card)
            address = following[1] if following else ""
        assert seen == [step.title for step in STEPS]
        assert f'href="/experiments/{example.slug}#claims">Read the claims' in card
        for nowhere in ("0", "6", "x", "²", "1" * 5000):
            assert 'class="tour' not in client.get(f"/experiments/{example.slug}?tour={nowhere}").text


def test_the_tour_takes_the_example_and_no_changed_clone_of_it(site: Served, example: Experiment) -> None:
    spec = {**example.spec, "ensemble": {**example.spec["ensemble"], "seed": 77}}
    newer = site.laboratory.create(spec, name="Digits short", preset=EXAMPLE)
    with site.laboratory.store.experiments.database.engine.begin() as connection:
        connection.execute(update(Experiment).where(Experiment.id == newer.id).values(status=Status.SUCCEEDED))
    with site.visitor() as client:
        assert client.get("/tour").headers["location"].startswith(f"/experiments/{example.slug}?")
    site.laboratory.store.experiments.archive(newer.slug)


@pytest.mark.parametrize(
    ("word", "says", "denies"),
    [("holds", "different across runs”, holds", "cannot"), ("cannot tell", "cannot be told yet", "holds")],
)
def test_each_step_says_of_its_claim_what_the_claim_says(word: str, says: str, denies: str) -> None:
    margin = CLAIMS["b"].default_margin
    claim = ClaimRecord(
        "b", CLAIMS["b"].title, "", Word(word), "", margin, 5, 1200, estimate=1.0, low=0.9, high=1.1, p=1e-6
    )
    told = Finding.from_json({"claims": {"b": claim.to_json()}}).told()
    row = SimpleNamespace(slug="e", status=Status.SUCCEEDED)
    found = stand(row, "2", [step.figure for step in STEPS], told)  # type: ignore[arg-type]
    assert found is not None
    assert says in found.here
    assert denies not in found.here
    for step in STEPS:
        assert not re.search("they are equally good|different functions|are different and as accurate", step.see)


def test_the_tour_is_offered_once_in_each_browser_and_never_begins_by_itself(site: Served, example: Experiment) -> None:
    with site.visitor() as client:
        assert "Take the tour" in client.get("/").text
        assert 'class="tour' not in client.get(f"/experiments/{example.slug}").text
        answer = client.post("/tour/leave", data={"next": "/?status=succeeded"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/?status=succeeded")
        assert "Take the tour" not in client.get("/").text
        assert client.get("/tour").status_code == 303, "it is still there for who asks"
    with site.visitor() as other:
        assert "Take the tour" in other.get("/").text
        assert "Take the tour" not in other.get("/?status=succeeded").text


@pytest.mark.slow
def test_where_there_are_many_experiments_nobody_is_new(tmp_path: Path) -> None:
    with served(tmp_path) as site, site.visitor() as client:
        client.post("/tour")
        row = site.laboratory.store.experiments.get("quickstart")
        work(site.laboratory, row.id)
        assert "Take the tour" in client.get("/").text
        for _ in range(FEW):
            site.laboratory.create(row.spec, name="more")
        assert "Take the tour" not in client.get("/").text


@pytest.mark.slow
def test_a_viewer_takes_the_tour_and_computes_nothing(tmp_path: Path) -> None:
    with lab(tmp_path) as site, site.visitor() as client:
        client.post("/signin", data={"name": "vera", "password": "ada has a long password"})
        page = client.get("/tour")
        assert page.status_code == 200
        assert "Compute the example" not in page.text
        assert client.post("/tour").status_code == 403
        assert client.post("/tour/leave").status_code == 303


@pytest.mark.slow
def test_a_step_stands_beside_its_figure_and_can_be_left(site: Served, example: Experiment, browser: Browser) -> None:
    for size in ({"width": 1280, "height": 720}, {"width": 360, "height": 740}):
        context = browser.new_context(base_url=site.url, viewport=size, reduced_motion="reduce")  # type: ignore[arg-type]
        page = context.new_page()
        page.goto("/tour")
        for step in STEPS:
            expect(page.locator("#tour-title")).to_contain_text(step.title)
            figure = page.locator(f"#{step.figure}")
            expect(figure.locator(".main-svg, [data-why] strong").first).to_be_visible(timeout=30_000)
            expect(figure.locator("h2")).to_be_in_viewport()
            whole, card = figure.bounding_box(), page.locator(".tour").bounding_box()
            assert whole is not None
            assert card is not None
            assert card["y"] + card["height"] <= whole["y"], "the step covers nothing of the figure"
            expect(page.locator("#tour-title")).to_be_in_viewport()
            if step is not STEPS[-1]:
                page.locator(".tour").get_by_role("link", name="Next").click()
        page.get_by_role("button", name="Leave the tour").click()
        page.wait_for_url(f"**/experiments/{example.slug}")
        expect(page.locator(".tour")).to_have_count(0)
        page.goto("/")
        expect(page.get_by_text("Take the tour")).to_have_count(0)
        context.close()
