"""Ten journeys through the pages in Firefox, and axe-core's rules there; all else is asked of Chromium."""

from __future__ import annotations

from collections.abc import Iterator

import axe
import pytest
from every_page import PAGES, everything
from firefox import Firefox, Tab, firefox
from serving import SPEC, Served, work
from test_everybody import CORE

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with everything(tmp_path_factory.mktemp("firefox")) as running:
        yield running


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    with firefox(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def page(running: Firefox) -> Iterator[Tab]:
    tab = running.page(1280, 800)
    yield tab
    wrong = tab.wrong
    tab.close()
    assert wrong == []


def drawn(page: Tab, name: str) -> None:
    page.evaluate("name => document.getElementById(name).scrollIntoView({ behavior: 'instant' })", name)
    page.until("name => document.getElementById(name).querySelector('.plot .main-svg')", name)


def test_an_experiment_is_searched_for_and_opened(page: Tab, site: Served) -> None:
    page.goto(f"{site.url}/")
    page.press("/")
    page.until("() => document.activeElement.id === 'search'")
    page.press(*"other im")
    page.until("() => !document.querySelector('.offered').hidden")
    page.press("Enter")
    page.arrives(r"q=other(\+|%20)im$")
    assert page.count("main tbody tr") == 1
    page.click("main tbody .name a")
    page.arrives("/experiments/other-images$")


def test_a_form_is_filled_in_priced_and_launched(page: Tab, site: Served) -> None:
    page.goto(f"{site.url}/launch?preset=quickstart")
    page.fill("[name='name']", "From Firefox")
    price = page.text("#plan .total")
    page.fill("[name='training.epochs']", "3")
    page.press("Tab")
    page.until("was => document.querySelector('#plan .total').innerText !== was", price)
    assert page.count(".was:not([hidden])") > 0
    page.evaluate("() => document.querySelector('.go button, #go').scrollIntoView()")
    page.click("button.primary")
    page.arrives("/experiments/from-firefox$")
    site.laboratory.store.experiments.cancel("from-firefox")


def test_what_is_wrong_in_a_form_is_said_under_its_field(page: Tab, site: Served) -> None:
    page.goto(f"{site.url}/launch?preset=quickstart")
    page.fill("[name='ensemble.runs']", "none")
    page.press("Tab")
    page.until("() => document.querySelector(\"[name='ensemble.runs']\").getAttribute('aria-invalid') === 'true'")
    assert "none" in page.text("[id='err-ensemble.runs']")
    page.wrong.clear()  # the answer's status, 422


def test_a_page_follows_what_is_computed(page: Tab, site: Served) -> None:
    row = site.laboratory.create({**SPEC, "ensemble": {"runs": 2, "seed": 77}}, name="Followed")
    page.goto(f"{site.url}/experiments/{row.slug}")
    page.evaluate("() => { window.stayed = true; }")
    work(site.laboratory, row.id)
    page.until("() => document.querySelector('#live-status').innerText.includes('succeeded')")
    assert page.evaluate("() => window.stayed")
    drawn(page, "similarity-runs")


def test_points_are_selected_by_keyboard_and_live_in_the_address(page: Tab, site: Served) -> None:
    page.goto(f"{site.url}/experiments/every-method")
    drawn(page, "plane")
    page.evaluate("() => document.querySelector('#plane .plot').focus()")
    page.press("Enter", "ArrowRight", "Space")
    page.until("() => document.querySelector('#selection [data-count]').innerText.startsWith('1 solution')")
    page.until("() => /sel=\\d+/.test(location.search)")
    page.press("Escape", "Escape")
    page.evaluate("() => document.querySelector('#plane .modebar-btn').focus()")
    page.press("ArrowRight", "Enter")
    page.until("() => document.querySelector('#plane .plot').layout.dragmode === 'pan'")


def test_a_word_is_explained_and_a_section_folded(page: Tab, site: Served) -> None:
    page.goto(f"{site.url}/experiments/every-method")
    page.evaluate("() => document.querySelector('.verdict .term').focus()")
    page.until("() => document.querySelector('#def-disagreement').matches(':popover-open')")
    word, said = page.evaluate(
        """() => [".verdict .term", "#def-disagreement"]
            .map(selector => document.querySelector(selector).getBoundingClientRect().y)"""
    )
    assert 0 < said - word < 60, "at its word"
    page.press("Escape")
    page.until("() => !document.querySelector('#def-disagreement').matches(':popover-open')")
    page.click("#trajectories [data-fold]")
    page.until("() => location.search.includes('fold=trajectories')")


def test_the_theme_stays(page: Tab, site: Served) -> None:
    page.goto(f"{site.url}/workers")
    ground = page.evaluate("() => getComputedStyle(document.documentElement).backgroundColor")
    page.click("[data-theme-form] button")
    page.until("was => getComputedStyle(document.documentElement).backgroundColor !== was", ground)
    page.goto(f"{site.url}/catalogue")
    assert page.evaluate("() => document.documentElement.dataset.theme") == "dark"


def test_two_experiments_are_chosen_and_compared(page: Tab, site: Served) -> None:
    page.goto(f"{site.url}/")
    for slug in ("every-method", "fair-strengths"):
        page.click(f"#row-{slug}")
    page.press("c")
    page.arrives("/compare")
    drawn(page, "trajectories-over")
    assert page.count("#trajectories-over .plot .scatterlayer .trace") > 1


def test_a_block_of_a_report_is_moved_by_keys_and_kept(page: Tab, site: Served) -> None:
    page.goto(f"{site.url}/reports/what-it-is-worth?edit=1")
    order = "() => [...document.querySelectorAll('[data-block] b')].map(one => one.innerText)"
    before = page.evaluate(order)
    page.evaluate("() => [...document.querySelectorAll('button')].find(b => b.ariaLabel?.endsWith('2 up')).focus()")
    page.press("Enter")
    page.until(f"was => ({order})()[0] === was", before[1])
    page.evaluate("() => [...document.querySelectorAll('button')].findLast(b => b.innerText === 'Save').focus()")
    page.press("Enter")
    page.arrives("/reports/what-it-is-worth$")
    assert site.laboratory.store.reports.get("what-it-is-worth").blocks[0]["kind"] == "figure"


def test_a_column_is_made_wider_and_kept_as_a_view(page: Tab, site: Served) -> None:
    page.goto(f"{site.url}/")
    page.evaluate("() => document.querySelector('#edge-runs').focus()")
    page.press("ArrowRight", "ArrowRight")
    width = page.until("() => /runs:(\\d+)/.exec(decodeURIComponent(location.search))?.[1]")
    page.click("#menu-view summary")
    page.fill("#menu-view [name='name']", "Wide")
    page.press("Enter")
    page.arrives("view=wide$")
    assert f"runs:{width}" in page.evaluate("() => decodeURIComponent(location.search)")


@pytest.mark.parametrize("theme", ["light", pytest.param("dark", marks=pytest.mark.check)])
@pytest.mark.parametrize("width", [1280, pytest.param(360, marks=pytest.mark.check)])
def test_axe_finds_nothing_in_firefox_either(page: Tab, site: Served, width: int, theme: str) -> None:
    page.resize(width, 800)
    found = {}
    for name in CORE:
        if PAGES[name].opened is not None:
            continue  # what is done there first is done by Playwright
        page.goto(site.url + PAGES[name].path)
        page.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
        for figure in page.evaluate("() => [...document.querySelectorAll('.fig[data-figure]')].map(one => one.id)"):
            page.evaluate("id => document.getElementById(id).scrollIntoView({ behavior: 'instant' })", figure)
            page.until(
                """id => { const one = document.getElementById(id); return one.querySelector('.plot .main-svg')
                    || one.querySelector('[data-why]')?.innerText.trim() !== 'Loading' || one.offsetHeight === 0; }""",
                figure,
            )
        if wrong := axe.findings(lambda script, *given: page.evaluate(script, *given) if given else page.run(script)):
            found[name] = wrong
    assert found == {}
