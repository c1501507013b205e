"""Pages and the browser say that an experiment has ended, to whoever asked for it by a click."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect
from serving import SPEC, Served, served, work

pytestmark = pytest.mark.slow

NOTIFICATIONS = """
window.shown = [];
window.Notification = class {
  static get permission() { return localStorage.getItem("granted") ?? "default"; }  // of the site, not of a page
  static requestPermission() {
    window.asked = true;
    localStorage.setItem("granted", "granted");
    return Promise.resolve("granted");
  }
  constructor(title, options) { window.shown.push([title, options.body]); }
};
const later = window.setInterval;
window.setInterval = (f, ms) => later(f, Math.min(ms, 300));
const now = Date.now;
Date.now = () => now() * 100;  // 15 s pass in 150 ms
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("told")) as running:
        yield running


def test_who_asked_is_told_in_every_page_and_by_the_browser(site: Served, browser: Browser) -> None:
    row = site.laboratory.create(SPEC, name="a & b")
    other = site.laboratory.create({**SPEC, "ensemble": {"runs": 2, "seed": 9}}, name="not asked for")
    context = browser.new_context(base_url=site.url)
    context.add_init_script(NOTIFICATIONS)
    page, elsewhere = context.new_page(), context.new_page()
    page.goto(f"/experiments/{row.slug}")
    elsewhere.goto("/data")
    assert not page.evaluate("window.asked")  # nobody is asked before a click
    button = page.get_by_role("button", name="Tell me when it ends")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    assert page.evaluate("window.asked")
    work(site.laboratory, other.id)
    work(site.laboratory, row.id)
    for one in (page, elsewhere):
        told = one.locator(".notice.told")
        expect(told).to_contain_text("a & b has succeeded", timeout=20_000)
        expect(told.get_by_role("link")).to_have_attribute("href", f"/experiments/{row.slug}")
        expect(told).to_have_count(1)
    expect(button).to_be_hidden()  # there is no end to wait for any more
    shown = page.evaluate("window.shown") + elsewhere.evaluate("window.shown")
    assert shown == [["Modescape", "a & b has succeeded"]]
    page.locator(".notice.told").get_by_role("button", name="Close").click()
    expect(page.locator(".notice.told")).to_have_count(0)
    page.reload()
    expect(page.locator(".notice.told")).to_have_count(0)  # once
    context.close()


def test_without_tls_pages_say_so_and_the_browser_is_not_asked(site: Served, browser: Browser) -> None:
    row = site.laboratory.create({**SPEC, "ensemble": {"runs": 2, "seed": 11}}, name="plain")
    context = browser.new_context(base_url=site.url)
    context.add_init_script(NOTIFICATIONS + "Object.defineProperty(window, 'isSecureContext', {value: false});")
    page = context.new_page()
    page.goto(f"/experiments/{row.slug}")
    button = page.get_by_role("button", name="Tell me when it ends")
    button.click()
    expect(page.locator("[data-tell-note]")).to_contain_text("only over TLS or on this machine")
    assert not page.evaluate("window.asked")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "false")
    context.close()
