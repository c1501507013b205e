"""Pages as they lie on paper and in narrow columns: what is printed, and where words and cells of tables stand."""

from __future__ import annotations

import re
import shutil
import subprocess
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page
from saved_home import opened
from serving import Served, served

pytestmark = pytest.mark.slow

SAVED = Path(__file__).parent / "saved"
WIDTHS = (1400, 768, 360)
NOTE = "Members reach [[every-method: accuracy]].\n\n$$D = \\frac{d(f, g)}{1 - a_f}$$\n\n| a | b |\n|-|-:|\n| c | 1 |"
REPORT = [
    {"kind": "text", "markdown": NOTE},
    {"kind": "claims", "experiment": "every-method"},
    {"kind": "figure", "experiment": "every-method", "figure": "similarity-runs"},
    {"kind": "figure", "experiment": "every-method", "figure": "plane"},
    {"kind": "numbers", "experiments": ["every-method", "fair-strengths"],
     "columns": ["accuracy", "seconds", "result.gain"]},
    {"kind": "methods"},
    {"kind": "references"},
]  # fmt: skip
DRAWN = "one => one.querySelector('.main-svg') || one.querySelector('[data-why]').textContent.trim() !== 'Loading'"
PAGES = (
    "/experiments/every-method",
    "/experiments/every-method/figures/plane",
    "/compare?e=every-method&e=fair-strengths",
    "/reports/told",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("paper") / "home"
    opened(SAVED, home)
    with served(home) as running:
        with running.client() as client:
            assert client.post("/api/reports", json={"name": "Told", "blocks": REPORT}).status_code == 201
        yield running


def opened_page(site: Served, browser: Browser, path: str, width: int = 1400, theme: str = "light") -> Page:
    """With every figure drawn that it has, or saying why it is not."""
    page = browser.new_page(base_url=site.url, viewport={"width": width, "height": 900}, color_scheme=theme)  # type: ignore[arg-type]
    page.goto(path)
    for figure in page.locator("[data-figure]:has(.plot)").all():
        figure.scroll_into_view_if_needed()
        page.wait_for_function(DRAWN, arg=figure.element_handle())
    return page


def printed(page: Page, form: str = "A4") -> list[str]:
    """The words of each sheet."""
    program = shutil.which("pdftotext")
    if program is None:
        pytest.fail("pdftotext is not installed: sudo apt-get install poppler-utils")
    done = subprocess.run([program, "-", "-"], input=page.pdf(format=form), capture_output=True, timeout=60, check=True)
    return done.stdout.decode().split("\f")[:-1]


def squeezed(text: str) -> str:
    """Without spaces, ligatures and hyphens: lines break elsewhere on paper."""
    return re.sub(r"[\s\-\u00ad]", "", unicodedata.normalize("NFKC", text))


@pytest.mark.parametrize(("path", "theme"), [*((path, "light") for path in PAGES), (PAGES[0], "dark")])
def test_paper_has_every_sentence_that_the_screen_has(site: Served, browser: Browser, path: str, theme: str) -> None:
    page = opened_page(site, browser, path, theme=theme)
    said: list[str] = page.evaluate(
        """() => [...document.querySelectorAll(
            "main :is(h1, h2, h3, .prose, .facts dd, figcaption, tbody th, td.num, .note p, li)")]
          .filter(one => one.checkVisibility())
          .filter(one => !one.closest("nav, .menu, form, .on-screen, .controls, details:not([open])"))
          .flatMap(one => one.innerText.split("\\n"))"""
    )
    paper = squeezed("".join(printed(page)))
    assert len(said) > 15
    assert [text for text in said if squeezed(text) not in paper] == []
    page.close()


def test_paper_has_two_figures_a_page_and_no_section_that_is_folded(site: Served, browser: Browser) -> None:
    page = opened_page(site, browser, "/experiments/every-method?fold=spec")
    questions = [squeezed(text) for text in page.locator(".figures > .fig h2").all_inner_texts()]
    for form in ("A4", "Letter"):
        sheets = [squeezed(text) for text in printed(page, form)]
        lines = " ".join(sheets)
        with_figures = [sheet for sheet in sheets if any(one in sheet for one in questions)]
        assert len(with_figures) <= 0.75 * len(questions), form
        for folded in ("Notinthisexperiment", "Departsfrom", "Makeit"):
            assert folded not in lines
    page.close()


def test_no_number_of_a_claim_is_broken_on_paper(site: Served, browser: Browser) -> None:
    page = opened_page(site, browser, "/experiments/every-method")
    page.evaluate(
        """() => {
            for (const one of document.querySelectorAll("#claims details")) one.open = true;
            for (const one of document.querySelectorAll("#claims dt"))
              one.textContent = "accuracy gain of averaging a run's samples over";
            for (const one of document.querySelectorAll("#claims dd")) one.textContent = "−0.000333";
        }"""
    )
    assert "−0.000333" in "\n".join(printed(page)).split("\n")
    page.close()


BROKEN = """() => {
  const found = [], range = document.createRange();
  const texts = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode, cell = text.parentElement.closest("td, th, dt");
    if (!cell?.checkVisibility()) continue;
    for (const word of text.data.matchAll(/[\\p{L}\\p{N}.,−+%×]+/gu)) {
      range.setStart(text, word.index);
      range.setEnd(text, word.index + word[0].length);
      const tops = new Set([...range.getClientRects()].filter(one => one.width > .5).map(one => Math.round(one.top)));
      if (tops.size > 1) found.push(word[0]);
    }
  }
  return found;
}"""


@pytest.mark.parametrize("width", [pytest.param(one, marks=[pytest.mark.check] * (one != 360)) for one in WIDTHS])
def test_no_word_is_broken_inside_a_cell(site: Served, browser: Browser, width: int) -> None:
    for path in (*PAGES, "/experiments/every-method/figures/ensembles?tab=definition", "/catalogue", "/data", "/paper"):
        page = opened_page(site, browser, path, width)
        page.evaluate("document.querySelectorAll('details:not(.menu)').forEach(one => one.open = true)")
        assert page.evaluate(BROKEN) == [], path
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        page.close()


def apart(page: Page) -> list[str]:
    """Cells that are not as wide as the head of their column, and do not begin and end where it does."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll(".report .scroll > table")].flatMap(table =>
            [...table.tBodies[0].rows].flatMap(row => [...row.cells].filter((cell, i) => {
              const own = cell.getBoundingClientRect(), head = table.tHead.rows[0].cells[i].getBoundingClientRect();
              return Math.abs(own.left - head.left) > 1 || Math.abs(own.right - head.right) > 1;
            }).map(cell => cell.textContent.trim())))"""
    )
    return found


@pytest.mark.parametrize("width", [*WIDTHS, 688])
def test_cells_of_a_reports_tables_stand_below_their_heads(site: Served, browser: Browser, width: int) -> None:
    page = opened_page(site, browser, "/reports/told", width)
    if width == 688:
        page.emulate_media(media="print")
    assert page.locator(".report .scroll > table").count() == 3
    assert apart(page) == []
    page.close()


def test_a_displayed_formula_has_no_bar_and_is_whole(site: Served, browser: Browser) -> None:
    page = opened_page(site, browser, "/reports/told")
    box = page.locator(".note .math")
    assert box.evaluate("one => one.scrollHeight <= one.clientHeight && one.scrollWidth <= one.clientWidth")
    assert box.evaluate("one => getComputedStyle(one).overflowY") == "hidden"
    over = "one => one.firstElementChild.getBoundingClientRect().top - one.getBoundingClientRect().top"
    assert box.evaluate(over) >= 4
    page.close()


@pytest.mark.parametrize("path", ["/launch?preset=fig-9", "/data", "/catalogue", "/api/docs", "/reports/told"])
def test_no_page_shows_the_marks_of_code(site: Served, path: str) -> None:
    with site.visitor() as client:
        page = client.get(path).text
    shown = re.sub(r"<(script|style|pre|textarea)\b.*?</\1>|<[^>]*>", "", page, flags=re.DOTALL)
    assert "`" not in shown


def test_tools_of_a_plot_cover_nothing_of_it_and_tabs_have_no_bars(site: Served, browser: Browser) -> None:
    for width in (1400, 360):
        page = opened_page(site, browser, "/experiments/every-method", width)
        over = page.evaluate(
            """() => [...document.querySelectorAll(".plot:has(.modebar)")].map(plot =>
                plot.querySelector(".main-svg").getBoundingClientRect().top -
                plot.querySelector(".modebar").getBoundingClientRect().bottom)"""
        )
        assert over
        assert min(over) >= -5, "the last of them are empty"
        tops = """[...document.querySelectorAll(".modebar")].map(one =>
            one.getBoundingClientRect().top - one.closest(".plot").getBoundingClientRect().top)"""
        assert min(page.evaluate(tops)) >= 0, "nor are they cut off"
        for one in page.locator(".sections, .sections ul").all():
            assert one.evaluate("one => one.offsetHeight - one.clientHeight <= 1"), "no bar, and none beside it"
        page.close()


def test_a_legend_without_tabs_above_it_sticks_to_the_top(site: Served, browser: Browser) -> None:
    page = opened_page(site, browser, PAGES[2])
    page.evaluate("scrollTo({ top: 1e6, behavior: 'instant' })")
    page.evaluate("scrollBy({ top: -900, behavior: 'instant' })")
    assert page.locator(".legend").evaluate("one => one.getBoundingClientRect().top") == 0
    page.close()


def test_maps_have_no_legend(site: Served) -> None:
    with site.client() as client:
        for name in ("similarity-runs", "similarity-trajectory"):
            figure = client.get(f"/api/experiments/every-method/figures/{name}.json", params={"frame": 800}).json()
            assert not [trace for trace in figure["data"] if trace.get("showlegend")]


def test_a_figures_controls_say_what_they_are(site: Served) -> None:
    with site.visitor() as client:
        page = client.get("/experiments/every-method/figures/plane").text
    for words in ("Exponent of the family", 'placeholder="fitted"', "Samples of", "What no pair can leave"):
        assert words in page
