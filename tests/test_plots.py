"""The plot of many experiments in a real browser: pointed at, picked by dragging and by typing, walked by keys."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect
from serving import Served, served
from sqlalchemy import update
from test_pages import SECONDS, Watched, tab
from test_searching import fill

from modescape import asking
from modescape.columns import EXPERIMENTS
from modescape.database import open_database
from modescape.tables import Experiment
from modescape_api.pages import rendering

pytestmark = pytest.mark.slow
ADDRESS = "/plots?axes=dataset,spec.training.epochs,seconds,accuracy&x=accuracy&y=seconds&colour=status"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("plots")) as running:
        fill(running.laboratory.store, 90)
        with open_database(running.laboratory.store.url).begin() as connection:
            connection.execute(
                update(Experiment).values(finding={})
            )  # theirs are of searches alone: no page tells them
        yield running


@pytest.fixture
def seen(site: Served, browser: Browser) -> Iterator[Watched]:
    watched = tab(browser, site, viewport={"width": 1280, "height": 1500})
    watched.page.goto(ADDRESS)
    yield watched
    watched.page.context.close()
    assert watched.wrong == []


def drag(page: Page, over: Locator, start: tuple[float, float], end: tuple[float, float]) -> None:
    """From one place of an element to another, both in shares of its width and height."""
    box = over.bounding_box()
    assert box is not None
    places = [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in (start, end)]
    page.mouse.move(*places[0])
    page.mouse.down()
    page.mouse.move(*places[1], steps=6)
    page.mouse.up()


def answered(page: Page, site: Served) -> None:
    """What the page says is what the list finds by the line that it hands on."""
    expect(page.locator("#picked-words")).to_contain_text("are picked", timeout=SECONDS)
    line = page.locator("#picked-actions code").inner_text()
    query = asking.read(EXPERIMENTS, [("q", line), ("archived", "false")]).query
    found = {f"/experiments/{row.slug}" for row in site.laboratory.store.experiments.page(query)}
    for kind in ("mark", "line"):
        shown = page.locator(f".{kind}:not(.out)").evaluate_all("all => all.map(one => one.getAttribute('href'))")
        assert set(shown) == found, (kind, line)
    assert page.locator("#picked-words b").first.inner_text() == str(len(found))
    assert page.locator("#picked-rows tbody a").count() == min(50, len(found))
    assert 0 < len(found) < page.locator(".mark").count()


def test_a_box_and_stretches_of_axes_pick_and_are_handed_on(site: Served, seen: Watched) -> None:
    page = seen.page
    drag(page, page.locator("#xy"), (0.3, 0.05), (0.95, 0.7))
    expect(page.locator('#pick [name="from.accuracy"]')).not_to_have_value("")
    answered(page, site)
    page.wait_for_url(re.compile("from.seconds="))
    drag(page, page.locator("[data-strip=dataset]"), (0.5, 0.02), (0.5, 0.45))
    expect(page.locator("#picked-words")).to_contain_text("dataset", timeout=SECONDS)
    answered(page, site)
    drag(page, page.locator("[data-strip='spec.training.epochs']"), (0.5, 0.3), (0.5, 0.98))
    expect(page.locator("#picked-words")).to_contain_text("epochs", timeout=SECONDS)
    answered(page, site)
    page.reload()
    answered(page, site)
    assert page.locator(".brush").count() >= 4, "the axes show what is picked of them"
    count = page.locator("#picked-words b").first.inner_text()
    page.get_by_role("link", name="Show these in the list").click()
    expect(page.locator("#live-count")).to_have_text(f"{count} experiment{'' if count == '1' else 's'}")


def test_a_tap_on_an_axis_lets_go_of_it(site: Served, seen: Watched) -> None:
    page = seen.page
    drag(page, page.locator("[data-strip=x]"), (0.5, 0.5), (0.9, 0.5))
    answered(page, site)
    page.locator("[data-axis=accuracy] .strip").click()
    expect(page.locator("#picked-words")).to_contain_text("Nothing is picked", timeout=SECONDS)
    assert page.locator(".out").count() == 0
    assert page.locator('#pick [name="from.accuracy"]').input_value() == ""


def test_ranges_are_typed_and_words_ticked(site: Served, seen: Watched) -> None:
    page = seen.page
    page.locator('#pick [name="from.seconds"]').fill("30 min".replace(" ", ""))
    page.locator('#pick [name="to.accuracy"]').fill("60%")
    page.locator('#pick [name="to.accuracy"]').press("Enter")
    expect(page.locator("#picked-words")).to_contain_text("up to 60.0 %", timeout=SECONDS)
    answered(page, site)
    page.locator('#pick [name="is.status"][value=failed]').check()
    expect(page.locator("#picked-words")).to_contain_text("status failed", timeout=SECONDS)
    answered(page, site)
    page.locator('#pick [name="none.accuracy"]').check()
    expect(page.locator("#picked-words")).to_contain_text("or none", timeout=SECONDS)
    answered(page, site)
    page.get_by_role("link", name="Let go of all").click()
    expect(page.locator("#picked-words")).to_contain_text("Nothing is picked", timeout=SECONDS)
    page.locator('#pick [name="from.accuracy"]').fill("2")  # beyond the axis: nothing is there, and nothing breaks
    page.locator('#pick [name="from.accuracy"]').press("Enter")
    expect(page.locator("#picked-words")).to_contain_text("0 of 80", timeout=SECONDS)
    page.locator('#pick [name="from.accuracy"]').fill("")
    page.locator('#pick [name="from.seconds"]').fill("much")
    page.locator('#pick [name="from.seconds"]').press("Enter")
    expect(page.locator("#picked-words .err")).to_contain_text("is not a number", timeout=SECONDS)


def test_what_is_picked_goes_along_to_another_look(site: Served, seen: Watched) -> None:
    page = seen.page
    drag(page, page.locator("[data-strip=x]"), (0.5, 0.5), (0.9, 0.5))
    answered(page, site)
    line = page.locator("#picked-actions code").inner_text()
    page.locator("#look [name=y]").fill("runs")
    page.get_by_role("button", name="Draw").click()
    page.wait_for_url(re.compile("y=runs"))
    assert page.locator("#picked-actions code").inner_text() == line
    page.locator("#menu-axes summary").click()
    page.get_by_label("Cost to the left").click()
    page.wait_for_url(re.compile("axes=dataset%2Cseconds"))
    assert page.locator("#picked-actions code").inner_text() == line


def test_a_picture_is_one_stop_and_arrows_go_through_its_marks(seen: Watched) -> None:
    page = seen.page
    assert page.locator("#xy [tabindex='0']").count() == page.locator("#along [tabindex='0']").count() == 1
    page.locator("#xy [tabindex='0']").focus()
    xs = []
    for _ in range(5):
        focused = page.locator("#xy .mark:focus")
        xs.append(float((focused.locator("use").get_attribute("x") or "").rstrip("%")))
        href = focused.get_attribute("href")
        expect(page.locator("#pointed a")).to_have_attribute("href", href or "")
        assert page.locator(".line.lit").get_attribute("href") == href, "the same is lit in the other picture"
        page.keyboard.press("ArrowRight")
    assert xs == sorted(xs)
    href = page.locator("#xy .mark:focus").get_attribute("href")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{href}")


def test_a_line_is_lit_from_near_by_and_a_click_leads_to_its_experiment(seen: Watched) -> None:
    page = seen.page
    page.locator("#along").scroll_into_view_if_needed()
    box = page.locator("#along").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.4)
    expect(page.locator(".line.lit")).to_have_count(1)
    href = page.locator("#pointed a").get_attribute("href")
    page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.4)
    page.wait_for_url(f"**{href}")


def test_on_a_touch_screen_axes_pick_and_a_tap_names_what_is_near(site: Served, browser: Browser) -> None:
    watched = tab(browser, site, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page = watched.page
    page.goto(ADDRESS)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    mark = page.locator(".mark use").nth(5)
    mark.scroll_into_view_if_needed()
    place = mark.bounding_box()
    assert place is not None
    middle = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
    page.touchscreen.tap(*middle)
    expect(page.locator("#pointed a")).to_have_count(1)  # the first tap says which it is, the second leads there
    href = page.locator("#pointed a").get_attribute("href")
    page.touchscreen.tap(*middle)
    page.wait_for_url(f"**{href}")
    page.goto(ADDRESS)
    strip = page.locator("[data-axis=accuracy] .strip")
    strip.scroll_into_view_if_needed()
    box = strip.bounding_box()
    assert box is not None
    x, top = box["x"] + box["width"] / 2, box["y"]
    session = page.context.new_cdp_session(page)
    for kind, share in (("touchStart", 0.2), ("touchMove", 0.3), ("touchMove", 0.5), ("touchEnd", None)):
        points = [] if share is None else [{"x": x, "y": top + share * box["height"]}]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    answered(page, site)
    page.context.close()
    assert watched.wrong == []


def test_without_script_a_table_has_the_links_and_the_form_picks(site: Served, browser: Browser) -> None:
    watched = tab(browser, site, java_script_enabled=False)
    page = watched.page
    page.goto(ADDRESS)
    assert page.locator("#picked-rows tbody a").count() == 50
    page.locator('#pick [name="to.accuracy"]').fill("0.4")
    page.get_by_role("button", name="Pick these").click()
    expect(page.locator("#picked-words")).to_contain_text("accuracy up to 40.0 %")
    answered(page, site)
    page.context.close()


# ---- handed on and taken away ----


def test_what_is_picked_is_compared_and_changed_all_at_once(site: Served, seen: Watched) -> None:
    """Exactly those, by the buttons beneath: no other is compared, tagged or put away."""
    page = seen.page
    drag(page, page.locator("#xy"), (0.72, 0.02), (0.92, 0.75))
    answered(page, site)
    picked = page.locator(".mark:not(.out)").evaluate_all(
        "all => all.map(one => one.getAttribute('href').split('/').at(-1))"
    )
    assert 2 <= len(picked) <= 20
    compare = page.get_by_role("link", name=f"Compare {len(picked)}", exact=True)
    asked = re.findall(r"e=([^&]+)", compare.get_attribute("href") or "")
    assert sorted(asked) == sorted(picked)
    expect(page.locator("#picked-rows [data-chosen]")).to_have_text(f"{len(picked)} selected")
    page.locator("#picked-rows #menu-tags summary").click()
    page.get_by_label("Add tags").fill("picked-here")
    page.get_by_role("button", name="Change", exact=True).click()
    page.wait_for_load_state()
    query = asking.read(EXPERIMENTS, [("q", "tag:picked-here"), ("archived", "false")]).query
    assert sorted(row.slug for row in site.laboratory.store.experiments.page(query)) == sorted(picked)
    page.goto(f"{ADDRESS}&from.accuracy=0.95")
    alone = page.get_by_role("link", name=re.compile("Plot these alone"))
    url = alone.get_attribute("href") or ""
    page.goto(url)
    assert page.locator(".mark").count() == len(re.findall("e=", url))


def test_compare_opens_what_was_picked(site: Served, seen: Watched) -> None:
    page = seen.page
    page.goto(f"{ADDRESS}&from.accuracy=0.9")
    link = page.locator("#picked-actions").get_by_role("link", name=re.compile(r"^Compare \d+"))
    names = page.locator("#picked-rows tbody th a").all_inner_texts()
    link.click()
    page.wait_for_url("**/compare?*")
    assert sorted(page.locator("#live-compared .chip a:first-of-type").all_inner_texts()) == sorted(names)


def test_what_is_shown_is_taken_away_with_its_words(site: Served, seen: Watched) -> None:
    page = seen.page
    drag(page, page.locator("[data-strip=x]"), (0.5, 0.5), (0.9, 0.5))
    answered(page, site)
    counts = [page.locator(f".{kind}").count() for kind in ("mark", "mark:not(.out)")]
    address = page.locator("#picked-actions").get_by_role("link", name="SVG").get_attribute("href") or ""
    assert "from.accuracy=" in address
    with site.client() as client:
        svg = ET.fromstring(client.get(address).content)
        said = " ".join("".join(svg.itertext()).split())
        for words in ("Cost by accuracy", f"n = {counts[0]} experiments", f"{counts[1]} are picked: accuracy",
                      "failed (", "Dataset", "Training epochs", "none"):  # fmt: skip
            assert words in said, words
        points = [one for one in svg.iter("{http://www.w3.org/2000/svg}path") if one.get("class") == "point"]
        assert len(points) == counts[0]
        with Image.open(
            io.BytesIO(client.get(address.replace(".svg", ".png"), params={"width": 640, "scale": 1}).content)
        ) as png:
            assert png.width in (640, 960)
        assert client.get(address.replace(".svg", ".pdf")).content.startswith(b"%PDF")
        assert client.get(address.replace(".svg", ".gif")).status_code in (404, 422)
        assert client.get(address.replace(".svg", ".png"), params={"width": 9}).status_code == 422


def test_what_makes_pictures_is_missing_and_the_buttons_say_so(site: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROWSER_PATH", "/nowhere/chrome")
    rendering.figure_forms.cache.clear()  # type: ignore[attr-defined]
    try:
        with site.client() as client:
            assert client.get(ADDRESS.replace("/plots", "/plots.pdf")).status_code == 406
            page = client.get(ADDRESS, headers={"accept": "text/html"}).text
        assert 'disabled title="PDF: no Chrome or Chromium' in page
    finally:
        rendering.figure_forms.cache.clear()  # type: ignore[attr-defined]
