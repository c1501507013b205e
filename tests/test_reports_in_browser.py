"""Reports in a real browser: blocks are moved by drag and by keys, pages pass the audit, and figures are printed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from serving import Served, finished, served

pytestmark = pytest.mark.slow

AUDIT = (Path(__file__).parent / "audit.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("told")) as running:
        finished(running.laboratory, name="small one")
        yield running


@pytest.fixture
def written(site: Served) -> Iterator[str]:
    """A report of every kind of block, with a long word and a formula."""
    word = "W" * 200
    note = f"# Head\n\n{word} [[small-one: accuracy]] $x^2$\n\n$$\\frac{{a}}{{b}}$$\n\n| a | b |\n|-|-:|\n| 1 | 2 |"
    parts = [{"kind": "text", "markdown": note}, {"kind": "figure", "experiment": "small-one",
              "figure": "similarity-runs"},
             {"kind": "numbers", "experiments": ["small-one"]}, {"kind": "methods"},
             {"kind": "references"}]  # fmt: skip
    with site.client() as client:
        slug = client.post("/api/reports", json={"name": "Told", "blocks": parts}).json()["slug"]
        yield slug
        client.delete(f"/api/reports/{slug}")


def order(page: Page) -> list[str]:
    found: list[str] = page.evaluate("[...document.querySelectorAll('[data-block] b')].map(b => b.textContent)")
    return found


def test_blocks_are_moved_by_drag_and_by_keys_and_saved_in_their_order(
    site: Served, browser: Browser, written: str
) -> None:
    page = browser.new_page(base_url=site.url, viewport={"width": 1200, "height": 1600})
    page.goto(f"/reports/{written}?edit=1")
    assert order(page) == ["Note", "Figure", "Numbers", "Methods", "References"]
    grip = page.locator("[data-block] [data-grip]").nth(3)
    grip.hover()
    page.mouse.down()
    target = page.locator("[data-block]").nth(1).bounding_box()
    assert target is not None
    page.mouse.move(target["x"] + 30, target["y"] + 5, steps=8)
    page.mouse.up()
    assert order(page) == ["Note", "Methods", "Figure", "Numbers", "References"]
    expect(page.locator("#announce")).to_have_text("Moved to place 2 of 5; save to keep it")
    up = page.get_by_role("button", name="Move References 5 up")
    up.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    expect(up).to_be_focused()
    assert order(page) == ["Note", "Methods", "References", "Figure", "Numbers"]
    page.get_by_role("button", name="Save", exact=True).last.click()
    page.wait_for_url(f"**/reports/{written}")
    kept = site.laboratory.store.reports.get(written).blocks
    assert [one["kind"] for one in kept] == ["text", "methods", "references", "figure", "numbers"]
    page.close()


def test_nothing_is_kept_before_it_is_saved(site: Served, browser: Browser, written: str) -> None:
    reports = site.laboratory.store.reports
    before = reports.get(written).blocks
    page = browser.new_page(base_url=site.url, viewport={"width": 1200, "height": 900})
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    page.goto(f"/reports/{written}?edit=1")
    page.get_by_label("Note in Markdown").fill("A draft")
    page.get_by_role("button", name="Remove Numbers 3").click()
    assert order(page) == ["Note", "Figure", "Numbers", "Methods", "References"]
    expect(page.locator("[data-block]:visible")).to_have_count(4)
    page.get_by_role("button", name="Put Numbers 3 back").click()
    expect(page.locator("[data-block]:visible")).to_have_count(5)
    page.get_by_role("button", name="Remove Numbers 3").click()
    page.get_by_role("button", name="Claims", exact=True).click()  # the page comes back with the draft
    expect(page.get_by_text("Not saved yet.")).to_be_visible()
    assert order(page) == ["Note", "Figure", "Methods", "References", "Claims"]
    expect(page.get_by_label("Note in Markdown")).to_have_value("A draft")
    expect(page.locator("[data-block]").last).to_be_in_viewport()
    page.get_by_role("link", name="Back without saving").click()
    page.wait_for_url(f"**/reports/{written}")
    assert asked == []
    assert (reports.get(written).blocks, reports.get(written).revision) == (before, 1)
    page.close()


def test_reports_and_links_pass_the_audit_and_do_not_scroll_sideways(
    site: Served, browser: Browser, written: str
) -> None:
    wrong: dict[tuple[str, object], object] = {}
    page = browser.new_page(base_url=site.url)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    with site.client() as client:
        client.post("/api/links", json={"to": f"/reports/{written}", "name": "W" * 100})
    for path in ("/reports", f"/reports/{written}", f"/reports/{written}?edit=1", "/links?to=/experiments/small-one"):
        page.goto(path, wait_until="load")
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)
            if found := page.evaluate(AUDIT):
                wrong[path, theme] = found
        for width in (320, 768, 1000):
            page.set_viewport_size({"width": width, "height": 640})
            if page.evaluate("document.documentElement.scrollWidth") > width:
                wrong[path, width] = page.evaluate("document.documentElement.scrollWidth")
    assert wrong == {}
    assert said == []
    page.close()


def test_a_figure_of_a_report_is_drawn_with_its_number_and_what_it_shows(
    site: Served, browser: Browser, written: str
) -> None:
    page = browser.new_page(base_url=site.url)
    page.goto(f"/reports/{written}")
    figure = page.locator("[data-figure]")
    figure.scroll_into_view_if_needed()
    expect(figure.locator(".main-svg").first).to_be_visible(timeout=30_000)
    expect(figure.locator("figcaption")).to_contain_text("Figure 1. ")
    expect(figure.locator("figcaption")).to_contain_text("40 test images.")
    for entry in ("independent", "random"):  # a map names its rows itself
        expect(figure.locator(f"[data-entry={entry}]")).to_be_hidden()
    block = {"kind": "figure", "experiment": "small-one", "figure": "plane"}
    with site.client() as client:
        other = client.post("/api/reports", json={"name": "Plane", "blocks": [block]}).json()["slug"]
        page.goto(f"/reports/{other}")
        figure.scroll_into_view_if_needed()
        expect(figure.locator("[data-entry=independent]")).to_be_visible(timeout=30_000)
        expect(figure.locator("[data-entry=trajectory]")).to_be_hidden()  # of the experiment, not of this figure
        client.delete(f"/api/reports/{other}")
    page.close()
