"""The launch form in a real browser: what it says as one types, and what one press undoes."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect
from serving import Served, served
from test_pages import SECONDS, Watched, tab

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("form")) as running:
        yield running


@pytest.fixture
def seen(site: Served, browser: Browser) -> Iterator[Watched]:
    watched = tab(browser, site, viewport={"width": 1400, "height": 900})
    watched.page.goto("/launch?preset=quickstart")
    yield watched
    watched.page.context.close()
    # That a form was refused is told in its page, and by the browser in its console.
    assert [said for said in watched.wrong if "422" not in said] == []


def test_each_change_is_marked_told_in_a_list_and_undone_alone_or_with_all(seen: Watched) -> None:
    page = seen.page
    epochs, runs = page.locator('[name="training.epochs"]'), page.locator('[name="ensemble.runs"]')
    before = epochs.input_value(), runs.input_value()
    epochs.fill("7")
    runs.fill("4")
    page.locator('[name="methods.dropout.on"]').uncheck()
    expect(page.locator("#changes h3")).to_have_text("3 changes against Quickstart", timeout=SECONDS)
    assert page.locator(".was:visible").count() == 3
    page.get_by_label("Undo Dropout subspace").click()
    expect(page.locator('[name="methods.dropout.on"]')).to_be_checked()
    expect(page.locator("#changes h3")).to_have_text("2 changes against Quickstart", timeout=SECONDS)
    page.locator("#changes").get_by_role("button", name="Undo all").click()
    expect(page.locator("#changes h3")).to_have_count(0, timeout=SECONDS)
    assert (epochs.input_value(), runs.input_value()) == before
    assert page.locator(".was:visible").count() == 0


def test_all_that_is_wrong_is_said_at_once_and_the_price_is_grey_meanwhile(seen: Watched) -> None:
    page = seen.page
    page.locator('[name="name"]').fill("a\u202eb")
    page.locator('[name="training.epochs"]').fill("many")
    page.locator('[name="data.train_images"]').fill("99999")
    page.locator('[name="data.train_images"]').blur()
    for name in ("name", "training.epochs", "data.train_images"):
        expect(page.locator(f'[id="err-{name}"]')).to_be_visible(timeout=SECONDS)
    expect(page.locator("#plan")).to_have_class(re.compile("stale"))
    expect(page.locator("#note")).to_contain_text("3 fields to change first")
    ink = "element => getComputedStyle(element).color"
    grey = page.locator("#plan .total").evaluate(ink)
    assert page.locator("#plan .total").inner_text() != "–", "the price of the form before"
    page.locator('[name="name"]').fill("a name")
    page.locator('[name="training.epochs"]').fill("5")
    page.locator('[name="data.train_images"]').fill("")
    expect(page.locator("#plan")).not_to_have_class(re.compile("stale"), timeout=SECONDS)
    assert page.locator("#plan .total").evaluate(ink) != grey
    assert page.locator(".err:visible").count() == 0


def test_half_widths_follow_the_number_of_runs_and_a_press_takes_as_many_as_d1_needs(seen: Watched) -> None:
    page = seen.page
    row = page.locator("#power tbody tr").filter(has_text="(b)")
    three = row.inner_text()
    page.locator('[name="ensemble.runs"]').fill("10")
    expect(page.locator("#power summary")).to_have_text("What 10 runs can find out", timeout=SECONDS)
    assert row.inner_text() != three
    page.locator('[name="ensemble.runs"]').fill("3")
    needed = page.locator("#power").get_by_role("button", name=re.compile(r"enough for \(b\)", re.I))
    if needed.count() == 0:
        needed = page.locator("#power tbody button").first
    expect(needed).to_be_visible(timeout=SECONDS)
    wanted = needed.get_attribute("value") or ""
    needed.click()
    expect(page.locator('[name="ensemble.runs"]')).to_have_value(wanted)
    expect(page.locator("#power summary")).to_have_text(f"What {wanted} runs can find out", timeout=SECONDS)
    expect(page.locator("#line-4")).to_contain_text(f"{wanted} runs")


def test_help_comes_by_hover_and_by_focus(seen: Watched) -> None:
    page = seen.page
    for name in ("training.learning_rate", "ensemble.seed", "project"):
        said = page.locator(f'[id="help-{name}"]')
        expect(said).to_be_hidden()
        page.locator(f'[name="{name}"]').hover()
        expect(said).to_be_visible()
        page.mouse.move(2, 2)
        expect(said).to_be_hidden()
        page.locator(f'[name="{name}"]').focus()
        expect(said).to_be_visible()
        page.locator('[name="notes"]').focus()
        expect(said).to_be_hidden()


def test_an_empty_field_shows_in_grey_what_it_will_be(seen: Watched) -> None:
    page = seen.page
    rate = page.locator('[name="methods.swag.options.learning_rate"]')
    half = float(page.locator('[name="training.learning_rate"]').input_value()) / 2
    assert float(rate.get_attribute("placeholder") or 0) == pytest.approx(half)
    page.locator('[name="training.learning_rate"]').fill("0.05")
    expect(rate).to_have_attribute("placeholder", "0.025", timeout=SECONDS)
    name = page.locator('[name="name"]')
    expect(name).to_have_attribute("placeholder", "Quickstart")
    page.locator('[name="sweep.field"]').first.fill("training.learning_rate")
    page.locator('[name="sweep.values"]').first.fill("0.001, 0.003")
    expect(name).to_have_attribute("placeholder", re.compile("^Sweep over"), timeout=SECONDS)


def test_programs_follow_what_is_typed_and_are_copied(site: Served, seen: Watched) -> None:
    page = seen.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=site.url)
    page.get_by_text("Command", exact=True).click()
    page.locator('[name="training.epochs"]').fill("9")
    page.locator("[data-copy-of=program-command]").click()
    expect(page.locator("#toast")).to_contain_text("copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith(f"modescape launch - --server {site.url} --name=")
    assert "epochs: 9" in copied
    expect(page.locator("#program-command")).to_contain_text("epochs: 9")


def test_without_script_a_field_is_undone_and_the_price_asked_for(site: Served, browser: Browser) -> None:
    watched = tab(browser, site, java_script_enabled=False)
    page = watched.page
    page.goto("/launch?preset=quickstart")
    before = page.locator('[name="training.epochs"]').input_value()
    page.locator('[name="training.epochs"]').fill("7")
    page.get_by_role("button", name="Check and price").click()
    expect(page.locator("#changes h3")).to_have_text("1 change against Quickstart")
    page.get_by_label("Undo Epochs").click()
    assert page.locator('[name="training.epochs"]').input_value() == before
    expect(page.locator("#changes h3")).to_have_count(0)
    page.context.close()
