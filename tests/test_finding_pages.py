"""The list in a real browser: what is said as one types, columns by mouse and keyboard, and lists without ghosts."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect
from serving import SPEC, Served, served
from test_pages import SECONDS, Watched, tab

from modescape.listing import ListQuery

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("finding")) as running:
        for name, tags in (("Ölfeld", ["Baseline"]), ("plain", ["paper"]), ("another", [])):
            running.laboratory.create(SPEC, name=name, tags=tags)
        yield running


@pytest.fixture
def seen(site: Served, browser: Browser) -> Iterator[Watched]:
    watched = tab(browser, site, viewport={"width": 1280, "height": 720})
    yield watched
    watched.page.context.close()
    assert watched.wrong == []


def box(page: Page) -> dict[str, float]:
    found = page.locator("#search").bounding_box()
    assert found is not None
    return dict(found)


def test_what_is_not_understood_is_underlined_where_it_stands_and_explained_as_one_types(seen: Watched) -> None:
    page = seen.page
    page.goto("/")
    page.locator("#search").click()
    page.keyboard.type("ol colour:red accuracy>0.5 ")
    expect(page.locator(".offered .faults")).to_contain_text("there is no field 'colour'", timeout=SECONDS)
    mark = page.locator(".echo mark")
    assert mark.all_inner_texts() == ["colour"]
    letters, field = mark.bounding_box(), box(page)
    assert letters is not None
    ruler = "([text, font]) => { const c = document.createElement('canvas').getContext('2d'); c.font = font;" \
        "return c.measureText(text).width }"  # fmt: skip
    font = page.locator("#search").evaluate(
        "field => ((s) => `${s.fontSize} ${s.fontFamily}`)(getComputedStyle(field))"
    )
    start = page.evaluate(ruler, ["ol ", font])
    padding = page.locator("#search").evaluate("field => parseFloat(getComputedStyle(field).paddingLeft)")
    assert abs(letters["x"] - (field["x"] + padding + start)) < 3, "the underline lies under its word"
    expect(page.locator(".offered > p")).to_contain_text("accuracy is more than 0.5")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?q=**")
    expect(page.locator("#faults mark")).to_have_text("colour")
    expect(page.locator(".echo mark")).to_have_text("colour")


def test_fields_and_values_are_offered_and_taken_by_keyboard(seen: Watched) -> None:
    page = seen.page
    page.goto("/")
    page.locator("#search").click()
    page.keyboard.type("owner:nobody or ta")
    expect(page.locator("[role=option]").first).to_contain_text("tag:", timeout=SECONDS)
    page.keyboard.press("ArrowDown")
    expect(page.locator("#search")).to_have_attribute("aria-activedescendant", "offer-0")
    page.keyboard.press("Enter")
    expect(page.locator("#search")).to_have_value("owner:nobody or tag:")
    expect(page.locator("[role=option]")).to_have_count(2, timeout=SECONDS)  # the tags that there are
    page.keyboard.type("base")
    expect(page.locator("[role=option]")).to_have_count(1, timeout=SECONDS)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#search")).to_have_value("owner:nobody or tag:Baseline ")
    expect(page.locator(".offered")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".offered")).to_be_hidden()
    expect(page.locator("#search")).to_have_value("owner:nobody or tag:Baseline ")  # Escape closes, and clears nothing
    page.keyboard.press("Enter")
    page.wait_for_url("**/?q=**")
    expect(page.locator("#live-list tbody tr")).to_have_count(1)


def test_columns_are_sized_and_put_in_order_by_keyboard_and_by_mouse(seen: Watched) -> None:
    page = seen.page
    page.goto("/?columns=name,runs,accuracy")
    edge = page.locator("#edge-runs")
    before = float(edge.get_attribute("aria-valuenow") or 0)
    edge.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    width = float(edge.get_attribute("aria-valuenow") or 0)
    assert width == pytest.approx(before + 48, abs=2)
    assert f"columns=name,runs:{width:.0f},accuracy" in page.url
    page.reload()
    heading = page.locator("th[data-column=runs]").bounding_box()
    assert heading is not None
    assert heading["width"] == pytest.approx(width, abs=2), "and so it is when the address is opened again"
    place = page.locator("#edge-name").bounding_box()
    assert place is not None
    page.mouse.move(place["x"] + 4, place["y"] + 8)
    page.mouse.down()
    page.mouse.move(place["x"] + 104, place["y"] + 8, steps=4)
    page.mouse.up()
    expect(page).to_have_url(re.compile(r"columns=name:\d+,runs:\d+,accuracy"))
    page.locator("th[data-column=accuracy]").drag_to(page.locator("th[data-column=runs]"))
    page.wait_for_url(re.compile(r"columns=name:\d+,accuracy,runs:\d+"))
    page.locator("#menu-columns summary").press("Enter")
    page.get_by_label("Runs to the left").press("Enter")
    page.wait_for_url(re.compile(r"columns=name(:|%3A)\d+(,|%2C)runs"))


def test_no_tab_shows_what_has_gone(site: Served, seen: Watched) -> None:
    page, store = seen.page, site.laboratory.store
    row = site.laboratory.create(SPEC, name="to be archived", tags=["ghost"])
    page.goto("/?sort=name")
    other = page.context.new_page()
    other.goto(f"/experiments/{row.slug}")
    page.locator("#row-plain").check()
    expect(page.locator("#live-total")).to_contain_text("4")
    store.experiments.archive(row.id)
    for part, text in (("#live-total", "3"), ("#live-count", "3 experiments")):
        expect(page.locator(part)).to_contain_text(text, timeout=SECONDS)
    expect(page.locator("#live-list")).not_to_contain_text("to be archived")
    expect(page.locator("#live-facets")).not_to_contain_text("ghost")
    expect(page.locator("#row-plain")).to_be_checked()
    expect(page.locator("[data-chosen]")).to_have_text("1 selected")
    expect(other.locator("#live-archived")).to_contain_text("Archived", timeout=SECONDS)
    expect(other.locator("#live-actions form")).to_have_count(0)
    store.experiments.purge(row.id)
    expect(other.locator("[role=alert]")).to_have_text("This was deleted for good meanwhile.", timeout=SECONDS)
    assert other.evaluate("document.querySelector('main .head').inert")
    seen.wrong[:] = [text for text in seen.wrong if "404" not in text]
    for one in store.experiments.page().items:
        store.experiments.archive(one.id)
    expect(page.locator("#live-list")).to_contain_text("All 3 experiments are archived.", timeout=SECONDS)
    expect(page.locator("#live-total")).to_have_text("0")
    for one in store.experiments.page(ListQuery(archived=True)).items:
        store.experiments.restore(one.id)
    expect(page.locator("#live-list tbody tr")).to_have_count(3, timeout=SECONDS)


@pytest.mark.parametrize("width", [1400, 768, 360, 320])
def test_the_list_in_groups_with_every_menu_open_stays_inside_the_page(site: Served, seen: Watched, width: int) -> None:
    page = seen.page
    page.set_viewport_size({"width": width, "height": 800})
    page.goto("/?group=tag&open=%3Dpaper&q=colour:red&columns=name,accuracy,runs,tag,project,created_by,status")
    for menu in page.locator("details.menu").all():
        menu.locator("summary").first.click()
        inside = menu.locator("> div").bounding_box()
        assert inside is not None
        assert inside["x"] >= -1, menu.get_attribute("id")
        assert inside["x"] + inside["width"] <= width + 1, menu.get_attribute("id")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.keyboard.press("Escape")


def test_what_is_done_with_ticked_rows_is_at_hand_wherever_one_scrolls(site: Served, browser: Browser) -> None:
    for number in range(20):
        site.laboratory.create(SPEC, name=f"row {number}", tags=["many"])
    for width, height in ((1280, 720), (360, 640)):
        watched = tab(browser, site, viewport={"width": width, "height": height})
        page = watched.page
        page.goto("/?tag=many")
        bar = page.get_by_role("group", name="What is done with the selected rows")
        expect(bar).not_to_be_in_viewport()
        page.locator("[name=ref]").first.click()
        page.locator("[name=ref]").nth(1).click()
        expect(bar).to_be_in_viewport(ratio=1)
        expect(bar).to_contain_text("2 selected")
        page.evaluate("scrollTo({top: 0, behavior: 'instant'})")
        page.locator("[name=ref]").first.scroll_into_view_if_needed()
        expect(bar).to_be_in_viewport(ratio=1)
        bar.get_by_text("Tags, project").click()
        tag, label = page.get_by_label("Add tags"), page.get_by_text("Add tags")
        field, words = tag.bounding_box(), label.bounding_box()
        assert field is not None
        assert words is not None
        assert field["y"] >= words["y"] + 16, "the label stands above its field"
        expect(tag).to_be_in_viewport(ratio=1)
        tag.fill(f"at {width}")
        page.get_by_role("button", name="Change", exact=True).click()
        expect(page.get_by_role("status").filter(has_text=f"2 experiments tagged “at {width}”.")).to_be_visible()
        page.get_by_role("button", name="Undo").click()
        expect(page.get_by_text("2 experiments without the tag")).to_be_visible()
        assert watched.wrong == []
        page.context.close()
    assert not [one for one in site.laboratory.store.experiments.page(ListQuery(limit=200)) if "at 360" in one.tags]


def test_a_first_visit_sees_the_form_below_the_questions(seen: Watched) -> None:
    page = seen.page
    page.goto("/launch")
    height = page.locator("#presets").evaluate("presets => presets.offsetHeight")
    assert height < 600, "2,430 px of presets pushed the form out of sight"
    expect(page.locator('#presets a[href="/launch?preset=quickstart"]')).to_be_visible()
    other = page.locator('#presets a[href="/launch?preset=fig-6-short"]')
    expect(other).to_be_hidden()
    page.get_by_role("heading", name="What does diversity cost?").click()
    expect(other).to_be_visible()
