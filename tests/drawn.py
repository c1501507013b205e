"""What the tests of figures share."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Browser, expect

from modescape.drawing.figure import Words
from modescape.registry import figures


def told(data: Any) -> Words:
    """The words of a figure, found by its options: no two figures have the same."""
    (figure,) = (one for one in figures.values() if one.options is type(data.options))
    words: Words = figure.tell(data)
    return words


def comes_once_it_answers(browser: Browser, address: str, lost: str) -> None:
    """The picture of a page whose addresses like `lost` are not answered for a while is there once they are."""
    page = browser.new_page()
    asked: list[str] = []
    page.route(lost, lambda route: (asked.append(route.request.url), route.abort())[1])
    page.goto(address)
    page.wait_for_timeout(1000)
    assert asked
    expect(page.locator(".main-svg")).to_have_count(0)
    page.unroute(lost)
    expect(page.locator(".main-svg").first).to_be_visible(timeout=20_000)
    page.close()
