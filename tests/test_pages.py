"""The pages in a real browser: launching, watching, selecting, and what makes a page usable by everyone."""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import plotly
import plotly.graph_objects as go
import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect
from serving import SPEC, Served, finished, served

from modescape.drawing import style
from modescape.drawing.figure import Legend
from modescape.drawing.frame import Frame, framed
from modescape.executor import Executor

pytestmark = pytest.mark.slow

PAGES = (
    "/",
    "/launch",
    "/experiments/{slug}",
    "/experiments/{slug}/figures/plane",
    "/experiments/{slug}/figures/plane?tab=data",
    "/experiments/{slug}/figures/plane?tab=definition",
    "/workers",
    "/catalogue",
    "/gallery?dataset=blobs&image=3",
    "/paper",
    "/compare?e={slug}",
    "/compare?e={slug}&e=second",
    "/plots?colour=status",
    "/plots?e={slug}&e=second",
    "/data",
    "/nothing-here",
)
WIDTHS = (320, 360, 768, 1000)  # of a window, in px: of telephones, a tablet and half a screen
SECONDS = 30_000  # of patience for the browser, in ms; the machine may be busy


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("pages")) as running:
        yield running


class Watched:
    """A tab that remembers everything that should not happen: console errors, exceptions, requests to other hosts."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.page = context.new_page()
        self.page.set_default_timeout(SECONDS)
        self.wrong: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda m: self.wrong.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", lambda request: self._request(request.url, url))

    def _request(self, asked: str, url: str) -> None:
        self.asked.append(asked)
        if not asked.startswith((url, "data:", "blob:")):
            self.wrong.append(f"asked another host: {asked}")


def tab(browser: Browser, site: Served, **options: object) -> Watched:
    context = browser.new_context(base_url=site.url, **options)  # type: ignore[arg-type]
    return Watched(context, site.url)


def open_figures(page: Page) -> None:
    """Bring every figure of this experiment into view, one after another, until it is drawn."""
    for figure in page.locator("[data-figure]:has(.plot)").all():
        figure.scroll_into_view_if_needed()
        expect(figure.locator(".plot .main-svg").first).to_be_visible(timeout=SECONDS)


@pytest.fixture(scope="module")
def launched(site: Served, browser: Browser) -> str:
    """A tiny experiment launched from the form and computed by the real stages while its page is open."""
    seen = tab(browser, site, viewport={"width": 1440, "height": 900})
    page = seen.page
    page.goto("/launch?preset=quickstart")
    page.get_by_label("Name", exact=True).fill("A tiny one")
    page.get_by_label("Independent runs").fill("2")
    page.locator('[name="training.epochs"]').fill("3")
    with page.expect_response(lambda answer: answer.url.endswith("/launch/plan") and answer.ok):
        for name in ("random", "dropout", "diagonal", "low-rank"):
            page.locator(f'details:has([name="methods.{name}.spread"]) summary').click()
            page.locator(f'[name="methods.{name}.spread"]').fill("3")
            page.locator(f'[name="methods.{name}.typical"]').fill("3")
            page.keyboard.press("Tab")
    for total in page.locator("#plan .total, #go-total").all():  # nothing has been measured here: a range
        expect(total).to_have_text(re.compile(r"^\d+ (s )?to \d+ (s|min)$"))
    expect(page.locator(".was:visible")).to_have_count(10)  # runs, epochs, and two of each method: "was 30 restore"
    page.get_by_role("button", name="Launch").click()
    page.wait_for_url("**/experiments/a-tiny-one")

    laboratory = site.laboratory
    row = laboratory.store.experiments.get("a-tiny-one")
    executor = Executor(laboratory.store, laboratory.artifacts, laboratory.settings, name="tests")
    worker = threading.Thread(target=executor.drain, kwargs={"experiment_id": row.id}, daemon=True)
    worker.start()
    expect(page.locator("#live-status")).to_contain_text("succeeded", timeout=180_000)  # without a reload
    worker.join(30)
    expect(page.locator("#live-verdict")).to_contain_text("Independent runs disagree on")
    open_figures(page)
    expect(page.locator(".figures .js-plotly-plot")).to_have_count(8)
    assert seen.wrong == []
    page.context.close()
    return "a-tiny-one"


@pytest.fixture(scope="module")
def another(site: Served) -> str:
    """A second one, smaller, about validation images first as the paper is; computed by the real stages."""
    laboratory = site.laboratory
    splits = {**SPEC["evaluation"], "splits": ["validation", "test"]}
    learned = {**SPEC["training"], "epochs": 20, "learning_rate": 0.005}
    row = laboratory.create({**SPEC, "training": learned, "evaluation": splits}, name="second")
    Executor(laboratory.store, laboratory.artifacts, laboratory.settings, name="tests").drain(experiment_id=row.id)
    return row.slug


def test_an_experiment_launched_from_the_form_shows_every_figure_without_a_reload(launched: str, site: Served) -> None:
    row = site.laboratory.store.experiments.get(launched)
    assert (row.status, row.runs, row.spec["training"]["epochs"]) == ("succeeded", 2, 3)
    assert [(m["spread"], m["typical"]) for m in row.spec["methods"][:4]] == [(3, 3)] * 4


def test_no_card_leaves_half_a_row_empty(launched: str, site: Served, browser: Browser) -> None:
    seen = tab(browser, site, viewport={"width": 1440, "height": 900})
    seen.page.goto(f"/experiments/{launched}")
    rows = seen.page.evaluate(
        """() => Object.values(Object.groupBy(document.querySelectorAll('.figures > .fig'), card => card.offsetTop))
            .map(row => row.reduce((sum, card) => sum + card.offsetWidth, 0) / row[0].parentElement.offsetWidth)"""
    )
    assert 4 < len(rows) < 8  # some side by side
    assert min(rows) > 0.9
    seen.page.context.close()


def test_figures_that_are_ready_are_given_on_the_first_split_unless_asked(
    launched: str, another: str, site: Served
) -> None:
    with site.client() as client:
        for slug, split in ((launched, "test"), (another, "validation")):
            for figure in client.get(f"/api/experiments/{slug}/figures").json()["items"]:
                answer = client.get(figure["links"]["json"])
                assert (answer.status_code == 200) == (figure["state"] == "ready"), (slug, figure["name"], answer.text)
            for name in ("trajectories", "tsne-trajectories", "plane", "similarity-runs"):
                words = client.get(f"/api/experiments/{slug}/figures/{name}.json").json()["words"]
                assert f"{split} images" in words["caption"].lower(), name
        page = client.get(f"/experiments/{another}/figures/plane", headers={"accept": "text/html"}).text
        assert '<option value="validation" selected>' in page
        other = client.get(f"/experiments/{another}/figures/plane?split=test", headers={"accept": "text/html"}).text
        assert '<option value="test" selected>' in other
        refused = client.get(f"/api/experiments/{another}/figures/tsne-samples.json?split=test")
    assert refused.status_code == 409
    assert "by validation images only" in refused.text


def test_each_plot_is_named_by_its_summary_and_has_its_table(launched: str, site: Served, browser: Browser) -> None:
    seen = tab(browser, site)
    page = seen.page
    page.goto(f"/experiments/{launched}")
    open_figures(page)
    for plot in page.locator(".plot").all():
        assert plot.get_attribute("role") == "group"
        assert re.search(r"\d", plot.get_attribute("aria-label") or ""), "the name is the computed summary"
    page.goto(f"/experiments/{launched}/figures/plane?tab=data")
    shown = page.locator("main table tbody tr").count()
    lines = httpx.get(f"{site.url}/api/experiments/{launched}/figures/plane.csv?size=page").text.splitlines()
    assert shown == len(lines) - 1
    assert seen.wrong == []
    page.context.close()


def test_a_selection_lives_in_url_plots_and_bar(launched: str, site: Served, browser: Browser) -> None:
    solutions = site.laboratory.store.results.all_solutions(site.laboratory.store.experiments.get(launched).id)
    dropout = sorted(s.number for s in solutions if s.method == "dropout" and s.sample_set == "spread" and s.run == 0)
    seen = tab(browser, site, viewport={"width": 1440, "height": 900})
    page = seen.page
    page.goto(f"/experiments/{launched}?sel={dropout[0]}-{dropout[-1]}")
    bar = page.locator("#selection")
    expect(bar).to_contain_text("3 solutions selected")
    expect(bar).to_contain_text("dropout 3")
    open_figures(page)
    data = "document.querySelector('#plane .plot').data"
    faded = f"{data}.some(t => Array.isArray(t.marker?.opacity) && t.marker.opacity.includes(0.3))"
    page.wait_for_function(faded)
    bar.get_by_role("button", name="Table").click()
    expect(page.locator("#selected tbody tr")).to_have_count(3)
    page.keyboard.press("Escape")
    page.locator("h1").click()
    page.keyboard.press("Escape")
    expect(bar).to_be_hidden()
    page.wait_for_function("!location.search.includes('sel=')")
    page.wait_for_function(f"!({faded})")

    plot = page.locator("#plane .plot")
    plot.focus()
    for key in ("Enter", "ArrowRight", "Space"):
        page.keyboard.press(key)
    expect(bar).to_contain_text("1 solution selected")
    assert page.locator("#announce").text_content()
    page.wait_for_function("/sel=\\d+/.test(location.search)")

    page.get_by_role("button", name=re.compile("random", re.I)).first.click()
    page.wait_for_function("/method=/.test(location.search) && !/method=[^&]*random/.test(location.search)")
    page.wait_for_function(f"{data}.filter(t => t.legendgroup === 'random').every(t => t.visible === false)")
    assert seen.wrong == []
    page.context.close()


def test_zoom_and_theme_survive(launched: str, site: Served, browser: Browser) -> None:
    seen = tab(browser, site, color_scheme="dark", viewport={"width": 1280, "height": 900})
    page = seen.page
    page.goto(f"/experiments/{launched}/figures/plane?plane.x=20,60")
    open_figures(page)
    assert page.evaluate("document.querySelector('.plot').layout.xaxis.range") == [20, 60]
    dark = page.evaluate("getComputedStyle(document.body.parentElement).backgroundColor")
    page.get_by_role("button", name="Change between light and dark").click()
    page.wait_for_function("document.documentElement.dataset.theme === 'light'")
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "light", "the server renders the cookie's theme"
    assert page.evaluate("getComputedStyle(document.body.parentElement).backgroundColor") != dark
    assert seen.wrong == []
    page.context.close()


def test_figures_download_as_pictures_made_here(launched: str, site: Served, browser: Browser) -> None:
    seen = tab(browser, site)
    page = seen.page
    page.goto(f"/experiments/{launched}/figures/plane")
    open_figures(page)
    for form, magic in (("SVG", b"<svg"), ("PNG", b"\x89PNG")):
        with page.expect_download() as started:
            page.get_by_role("link", name=form, exact=True).click()
        assert started.value.suggested_filename == f"{launched}-plane.{form[:3].lower()}"
        picture = Path(started.value.path()).read_bytes()
        assert picture.startswith(magic)
        if form == "SVG":
            said = re.sub(r"<[^>]+>", " ", picture.decode())
            for words in ("What does diversity cost?", "A tiny one", "dropout subspace", "Each point is one function"):
                assert words in said, words
    page.get_by_label("Width of the PNG in pixels").fill("1200")
    with page.expect_download() as started:
        page.get_by_role("link", name="PNG", exact=True).click()
    with Image.open(started.value.path()) as picture_of_that_width:
        assert picture_of_that_width.width == 1200
    buttons = page.evaluate("[...document.querySelectorAll('.modebar-btn')].map(b => b.dataset.title)")
    assert buttons
    assert not [title for title in buttons if re.search("share|cloud|plotly", title, re.I)]
    assert seen.wrong == []
    page.context.close()


def test_the_legend_of_a_picture_taken_away_ends_above_its_plot(browser: Browser) -> None:
    """As Plotly lays it out, at every width the pictures are made in."""
    legend = tuple(Legend(f"g{i}", f"a method of name {i}"[: 5 + 2 * i], "random") for i in range(8))
    page = browser.new_page()
    page.set_content("<div id=plot></div>")
    page.add_script_tag(path=str(Path(plotly.__file__).parent / "package_data" / "plotly.min.js"))
    margins = ({"l": 40, "r": 16}, {"l": 40, "r": 108}, {"l": 160, "r": 8})
    for margin, width in itertools.product(margins, (480, 560, 598, 700, 800, 960, 1200)):
        layout = style.layout("light", kind="scatter", height=400, revision="x")
        drawn = go.Figure(layout=layout).update_layout(margin=margin).add_scatter(x=[1, 2], y=[1, 2])
        framed(drawn, Frame("A question?", "A name", "A caption.", legend), "light", width)
        lowest = page.evaluate(
            """async figure => {
                await Plotly.newPlot("plot", figure.data, figure.layout);
                const top = document.querySelector(".main-svg").getBoundingClientRect().top;
                const texts = [...document.querySelectorAll(".legendtext")];
                return Math.max(...texts.map(text => text.getBoundingClientRect().bottom)) - top;
            }""",
            json.loads(drawn.to_json()),
        )
        before = style.MARGINS["scatter"]["t"]  # px above the plot, for its titles
        assert lowest <= drawn.layout.margin.t - before + 2, (margin, width)
    page.close()


AUDIT = (Path(__file__).parent / "audit.js").read_text(encoding="utf-8")


@pytest.mark.usefixtures("another")
def test_every_page_passes_the_audit_in_both_themes(launched: str, site: Served, browser: Browser) -> None:
    seen = tab(browser, site, viewport={"width": 1280, "height": 900})
    found = {}
    for path in PAGES:
        seen.page.goto(path.format(slug=launched), wait_until="load")
        for theme in ("light", "dark"):
            seen.page.emulate_media(color_scheme=theme)
            if wrong := seen.page.evaluate(AUDIT):
                found[path, theme] = wrong
    assert found == {}
    assert [text for text in seen.wrong if "404" not in text] == []
    seen.page.context.close()


@pytest.fixture(scope="module")
def long_name(site: Served) -> str:
    """One whose name of 200 letters has no place to break a line."""
    return finished(site.laboratory, name="W" * 200, tags=["w" * 40]).slug


@pytest.mark.usefixtures("another")
def test_no_page_scrolls_sideways(launched: str, long_name: str, site: Served, browser: Browser) -> None:
    seen = tab(browser, site)
    page = seen.page
    wide = {}
    asked = (*PAGES, "/launch?from={slug}", "/api/docs")
    for address in sorted({path.format(slug=slug) for path in asked for slug in (launched, long_name)}):
        page.set_viewport_size({"width": WIDTHS[0], "height": 640})
        page.goto(address, wait_until="load")
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 640})
            found = page.evaluate("document.documentElement.scrollWidth")
            if found > width:
                wide[address, width] = found
    assert wide == {}
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 640})
        page.goto(f"/experiments/{launched}")
        open_figures(page)
        assert page.evaluate("document.documentElement.scrollWidth") == width
    page.context.close()


def test_long_effects_leave_the_words_of_claims_their_place(launched: str, site: Served, browser: Browser) -> None:
    page = tab(browser, site).page
    page.goto(f"/experiments/{launched}", wait_until="load")
    for width in WIDTHS[:2]:
        page.set_viewport_size({"width": width, "height": 640})
        rows = page.evaluate(
            """() => [...document.querySelectorAll("#claims > div > .card > table > tbody > tr:not(.why)")].map(row => {
                row.querySelector(".num").innerHTML =
                    "<b>−0.00443 of the ensemble’s gain</b><small>(−0.0391 to 27.7, at 98.8 %)</small>";
                const word = row.querySelector(".word"), inside = word.querySelector("b").getBoundingClientRect();
                return { word: inside.right, effect: row.querySelector(".num").getBoundingClientRect().left,
                    height: word.getBoundingClientRect().height,
                    margin: row.querySelector(".margin-of").getBoundingClientRect().width };
            })"""
        )
        assert rows
        for row in rows:
            assert row["word"] <= row["effect"] + 16, "the word ends where the effect's padding does"
            assert row["height"] < 120, "no letter stands alone"
            assert row["margin"] >= 120
    page.context.close()


def test_the_launch_button_is_seen_wherever_the_page_is_scrolled_to(site: Served, browser: Browser) -> None:
    page = tab(browser, site).page
    page.goto("/launch")
    button = page.get_by_role("button", name="Launch", exact=True)
    for width, tall in ((1400, 900), (1280, 720), (768, 1024), (360, 640)):
        page.set_viewport_size({"width": width, "height": tall})
        height = page.evaluate("document.documentElement.scrollHeight")
        for place in (0, height // 4, height // 2, height):
            page.evaluate("place => scrollTo({ top: place, behavior: 'instant' })", place)
            box = button.bounding_box()
            assert box is not None
            assert 0 <= box["y"] <= tall - box["height"], (width, place)
            on_top = "({ x, y, width, height }) => document.elementFromPoint(x + width / 2, y + height / 2).textContent"
            assert page.evaluate(on_top, box) == "Launch"
    page.context.close()


def test_a_page_prints_every_figure_whole_from_the_browsers_own_menu(
    launched: str, site: Served, browser: Browser
) -> None:
    seen = tab(browser, site, color_scheme="dark", viewport={"width": 1440, "height": 900})
    page = seen.page
    page.goto(f"/experiments/{launched}")
    while not page.evaluate("!!window.Plotly"):  # it comes when the page is idle, before any figure is near
        page.wait_for_timeout(100)
    drawn = (
        "[...document.querySelectorAll('[data-figure] .plot')].map(plot => plot.querySelectorAll('.main-svg').length)"
    )
    assert 0 in page.evaluate(drawn), "not all have been seen"
    page.evaluate(
        """() => addEventListener("beforeprint", () => {
            const card = document.querySelector(".fig");
            window.printed = [...document.querySelectorAll("[data-figure] .plot")].map(plot => ({
                drawn: plot.querySelectorAll(".main-svg").length > 0, width: plot._fullLayout?.width,
                ink: plot._fullLayout?.font.color }));
            window.ground = getComputedStyle(card).getPropertyValue("--text");
        })"""
    )
    for form in ("A4", "Letter"):
        assert page.pdf(format=form).startswith(b"%PDF")
        printed = page.evaluate("window.printed")
        assert len(printed) >= 8
        assert {(one["drawn"], one["width"]) for one in printed} == {(True, 656)}  # A4 has 688 px between its margins
    light = {one["ink"] for one in printed}
    assert page.evaluate("document.documentElement.dataset.theme ?? ''") == "", "it is dark again"

    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.set_viewport_size({"width": 688, "height": 1017})
    for figure in page.locator("[data-figure]").all():
        expect(figure.locator("h2")).to_be_visible()  # its question
        expect(figure.locator("figcaption")).to_be_visible()
        box = figure.locator(".plot").bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + 656 <= 688
        assert box["height"] < 950, "it fits on a page of either size"
    for bar in page.locator("#claims path.bar").all():
        expect(bar).to_be_visible()  # the whiskers
    for hidden in ("nav.sections", "#selection", "button[data-print]", "#log"):
        expect(page.locator(hidden).first).to_be_hidden()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    dark = "document.querySelector('[data-figure] .plot')._fullLayout.font.color"
    page.set_viewport_size({"width": 1440, "height": 900})
    open_figures(page)
    for _ in range(100):
        if page.evaluate(dark) not in light:
            break
        page.wait_for_timeout(100)
    assert page.evaluate(dark) not in light
    page.context.close()


def test_a_solution_that_a_plot_does_not_show_is_marked_there_by_its_run_and_method(
    launched: str, site: Served, browser: Browser
) -> None:
    solutions = site.laboratory.store.results.all_solutions(site.laboratory.store.experiments.get(launched).id)
    chosen = next(s for s in solutions if (s.method, s.sample_set, s.run) == ("dropout", "spread", 0))
    stand = [s.number for s in solutions if (s.method, s.sample_set, s.run) == ("dropout", "typical", 0)]
    seen = tab(browser, site, viewport={"width": 1440, "height": 900})
    page = seen.page
    page.goto(f"/experiments/{launched}?sel={chosen.number}")
    open_figures(page)
    map_ = page.locator("#tsne-samples")
    expect(map_.locator(".absent")).to_contain_text("The selected solution is not in this picture; marked are points")
    marked = """() => document.querySelector("#tsne-samples .plot").data
        .filter(trace => Array.isArray(trace.marker?.opacity))
        .flatMap(trace => Array.from(trace.customdata).filter((_, i) => trace.marker.opacity[i] === 1))"""
    assert sorted(page.evaluate(marked)) == sorted(stand)
    expect(page.locator("#plane .absent")).to_be_hidden()
    assert seen.wrong == []
    page.context.close()


def test_the_focus_is_seen_and_keys_work_outside_fields_only(launched: str, site: Served, browser: Browser) -> None:
    seen = tab(browser, site)
    page = seen.page
    page.goto("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineWidth") == "2px"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.type("nt?")
    assert page.url.rstrip("/") == site.url
    page.locator("h1").click()
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.get_by_label("single keys are on").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("n")
    assert page.url.rstrip("/") == site.url, "single keys can be switched off"
    page.get_by_label("Search").fill("tiny")
    page.keyboard.press("Enter")
    expect(page.locator("main tbody tr")).to_have_count(1)
    assert seen.wrong == []
    page.context.close()


def test_the_list_never_loads_plotly_and_keeps_its_budget(launched: str, site: Served) -> None:
    with site.client(headers={"accept": "text/html", "accept-encoding": "gzip"}) as client:
        for path in ("/", "/launch"):
            with client.stream("GET", path) as answer:
                weight = sum(len(part) for part in answer.iter_raw())
                linked = answer.headers
            page = client.get(path).text
            assert linked["content-encoding"] == "gzip"
            sources = re.findall(r'(?:src|href)="(/static/[^"]+)"', page.split("</head>")[0])
            for source in [s for s in sources if "plotly" not in s]:
                with client.stream("GET", source) as answer:
                    weight += sum(len(part) for part in answer.iter_raw())
            assert "<script src" not in page
            assert weight <= 60 * 1024, path


def test_forms_work_without_script_and_say_what_is_wrong(site: Served, browser: Browser) -> None:
    context = browser.new_context(base_url=site.url, java_script_enabled=False)
    page = context.new_page()
    page.goto("/launch?preset=quickstart")
    page.locator('[name="ensemble.runs"]').fill("none")
    page.locator('[name="training.epochs"]').fill("-3")
    page.locator('details:has([name="methods.low-rank.options.rank"]) summary').click()
    page.locator('[name="methods.low-rank.options.rank"]').fill("0")
    page.get_by_role("button", name="Launch").click()
    summary = page.get_by_role("alert")
    expect(summary).to_contain_text("Ensemble › runs")
    expect(summary).to_contain_text("Methods › low-rank › rank")
    assert page.locator('[name="ensemble.runs"]').input_value() == "none", "what was typed comes back"
    assert page.locator('[name="training.epochs"]').get_attribute("aria-invalid") == "true"
    expect(page.locator('details:has([name="methods.low-rank.options.rank"])')).to_have_attribute("open", "")
    page.locator('[name="ensemble.runs"]').fill("2")
    page.locator('[name="training.epochs"]').fill("3")
    page.locator('[name="methods.low-rank.options.rank"]').fill("2")
    page.get_by_role("button", name="Launch").click()
    page.wait_for_url("**/experiments/*")
    expect(page.locator("h1")).to_have_text("Quickstart")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#live-status")).to_contain_text("cancelled")
    context.close()


def test_the_options_of_a_recipe_are_those_of_what_is_chosen(site: Served, browser: Browser) -> None:
    watched = tab(browser, site)
    page = watched.page
    page.goto("/launch?preset=quickstart")
    section = page.locator("section[aria-labelledby=s3]")
    section.locator("details.more summary").click()
    decay = page.locator('[name="training.optimiser_options.adamw.weight_decay"]')
    expect(decay).to_be_hidden()
    page.locator('[name="training.optimiser"]').select_option("adamw")
    expect(decay).to_be_visible()
    expect(page.locator('[name="training.optimiser_options.adam.beta1"]')).to_be_hidden()
    page.locator('[name="training.schedule"]').select_option("warm-up")
    warm = page.locator('[name="training.schedule_options.warm-up.epochs"]')
    warm.fill("999")
    warm.press("Tab")
    said = page.locator('[id="err-training.schedule_options.warm-up.epochs"]')
    expect(said).to_contain_text("999 epochs of warm-up are more than the training's")
    warm.fill("1")
    warm.press("Tab")
    expect(said).to_have_count(0)
    assert [text for text in watched.wrong if "422" not in text] == []
    page.context.close()


def test_what_a_refused_form_says_stays_under_its_fields(site: Served, browser: Browser) -> None:
    page = tab(browser, site).page
    page.goto("/launch?preset=quickstart")
    page.get_by_label("Name", exact=True).fill("a\u202eb")
    for row in ("shift", "methods.sgmcmc"):
        page.locator(f'[name="{row}.on"]').check()
        page.locator(f'.method:has([name="{row}.on"]) summary').click()
    page.locator('[name="shift.intensities"]').fill("6")
    page.locator('[name="methods.sgmcmc.options.temperature"]').fill("-1")
    page.get_by_role("button", name="Launch").click()  # without its name the form is read once more
    expect(page.locator('[id="err-name"]')).to_contain_text("a direction override, U+202E")
    page.get_by_label("Name", exact=True).fill("plain")
    with page.expect_response(lambda answer: answer.url.endswith("/launch/plan")):
        page.get_by_role("button", name="Launch").click()
    expect(page.locator("#note")).to_contain_text("Methods › sgmcmc › temperature: -1 is too small")
    for name in ("shift.intensities", "methods.sgmcmc.options.temperature"):
        expect(page.locator(f'[id="err-{name}"]')).to_contain_text("is too")
        expect(page.locator(f'[name="{name}"]')).to_have_attribute("aria-invalid", "true")
    expect(page.locator(".method.bad")).to_have_count(2)
    page.context.close()


def test_what_people_type_is_shown_and_never_run(site: Served, browser: Browser) -> None:
    nasty = '"><img src=x onerror=alert(1)><script>alert(2)</script>{{ 7 * 7 }}'
    row = finished(site.laboratory, name="nasty notes", notes=nasty)
    seen = tab(browser, site)
    seen.page.on("dialog", lambda dialog: seen.wrong.append(f"a dialog: {dialog.message}"))
    seen.page.goto(f"/experiments/{row.slug}")
    expect(seen.page.locator("main p.prose").first).to_have_text(nasty)
    assert seen.page.locator("main img").count() == 0
    seen.page.goto("/?q=" + "%22%3E%3Cscript%3Ealert(3)%3C/script%3E")
    assert seen.page.locator("#search").input_value() == '"><script>alert(3)</script>'
    assert seen.wrong == []
    seen.page.context.close()


def test_pressing_launch_twice_makes_one_experiment(site: Served) -> None:
    with site.visitor(follow_redirects=False) as client:
        page = client.get("/launch?preset=quickstart").text
        fields = dict(re.findall(r'name="(key|preset)" value="([^"]*)"', page))
        form = {**fields, "name": "pressed twice", "data.dataset": "digits", "network.architecture": "small-cnn"}
        places = [client.post("/launch", data=form).headers["location"] for _ in range(2)]
        assert places[0] == places[1]
        changed = client.post("/launch", data={**form, "name": "another"})
        assert changed.headers["location"] != places[0]


def test_forms_of_other_sites_change_nothing(launched: str, site: Served) -> None:
    with site.client(headers={"accept": "text/html", "Origin": "http://evil.example"}) as client:
        for path, form in (
            (f"/experiments/{launched}/archive", {}),
            ("/launch", {"data.dataset": "digits"}),
            ("/archive", {"ref": launched}),
            ("/data/fetch", {"name": "cifar10"}),
            (f"/experiments/{launched}/edit", {"name": "mine"}),
        ):
            assert client.post(path, data=form).status_code == 403, path
    assert site.laboratory.store.experiments.get(launched).archived_at is None


def test_the_page_answers_the_query_string_of_the_api(launched: str, site: Served) -> None:
    with site.client(headers={"accept": "text/html"}) as client:
        for query in ("status=succeeded", "dataset=digits&runs__gte=2&sort=name", "method=random", "q=tiny"):
            asked = client.get(f"/api/experiments?{query}", headers={"accept": "application/json"}).json()
            page = client.get(f"/?{query}").text
            shown = re.findall(r'name="ref" id="row-([^"]+)"', page)
            assert shown == [item["slug"] for item in asked["items"]], query
        ignored = client.get("/?nonsense=1&sort=sideways")
        assert ignored.status_code == 200
        assert "Ignored" in ignored.text


def test_compared_figures_have_the_same_axes_and_zoom_together(
    launched: str, another: str, site: Served, browser: Browser
) -> None:
    seen = tab(browser, site, viewport={"width": 1440, "height": 900})
    page = seen.page
    page.goto("/")
    page.get_by_label("Select A tiny one", exact=True).check()
    page.get_by_label(f"Select {another}", exact=True).check()
    page.locator("h1").click()
    page.keyboard.press("c")
    page.wait_for_url(re.compile(r"/compare\?e=[a-z-]+&e=[a-z-]+$"))
    page.get_by_role("link", name="Side by side").click()
    page.wait_for_url(re.compile(r"&pictures=beside$"))
    open_figures(page)
    ranges = """name => [...document.querySelectorAll(`[data-figure=${name}] .plot`)].map(
        plot => ["xaxis", "yaxis"].map(axis => plot._fullLayout[axis].range.map(x => x.toFixed(6)).join()).join(" "))"""
    for name in ("trajectories", "reliability"):
        one, other = page.evaluate(ranges, name)
        assert one == other, name
    scales = """() => [...document.querySelectorAll("[data-figure=similarity-runs] .plot")].map(plot => plot._fullData
        .filter(trace => trace.type === "heatmap").map(map => `${map.zmin} ${map.zmax}`).join())"""
    page.wait_for_function(f"() => new Set(({scales})()).size === 1")
    page.get_by_label("same scales").uncheck()
    page.wait_for_function(f"() => new Set(({ranges})('trajectories')).size === 2")  # one trained longer than the other
    first = "document.querySelector('[data-figure=trajectories] .plot')"
    page.evaluate(f"() => Plotly.relayout({first}, {{'xaxis.range': [0.5, 1]}})")
    page.wait_for_function(
        "() => [...document.querySelectorAll('[data-figure=trajectories] .plot')]"
        ".every(plot => plot._fullLayout.xaxis.range.join() === '0.5,1')"
    )
    assert "trajectories.x=0.5,1" in page.url
    # Squeezed until they would lie on each other, the names at the ends of curves are parted again.
    gaps = f"""() => {{
        const plot = {first};
        const mine = label => label.name === "end" && label.yref === "y";
        const ends = plot._fullLayout.annotations.flatMap((label, i) => (mine(label) ? [i] : []));
        const tops = ends.map(i => plot.querySelector(`.annotation[data-index="${{i}}"] .annotation-text-g`)
            .getBoundingClientRect().top).sort((a, b) => a - b);
        return tops.slice(1).map((top, i) => top - tops[i]);
    }}"""
    page.evaluate(f"() => Plotly.relayout({first}, {{'xaxis.autorange': true, 'yaxis.range': [-1000, 1000]}})")
    page.wait_for_function(f"() => ({gaps})().every(gap => gap > 14.5 && gap < 16)")
    assert len(page.evaluate(gaps)) > 0
    assert seen.wrong == []
    page.context.close()


def test_experiments_lie_over_each_other_by_colour_and_leave_by_the_legend(
    launched: str, another: str, site: Served, browser: Browser
) -> None:
    seen = tab(browser, site, viewport={"width": 1440, "height": 900})
    page = seen.page
    slug = site.laboratory.store.experiments.get(another).slug
    page.goto(f"/compare?e={launched}&e={slug}")
    open_figures(page)
    plot = page.locator("#trajectories-over .plot")
    traces = """name => (document.getElementById(`${name}-over`).querySelector(".plot").data ?? [])
        .map(trace => [trace.meta.experiment, (trace.line ?? trace.marker).color, trace.visible])"""
    drawn = page.evaluate(traces, "trajectories")
    panels = """name => document.getElementById(`${name}-over`).querySelector(".plot").data.map(trace => trace.yaxis)"""
    assert len(set(page.evaluate(panels, "trajectories"))) == 2
    inks = {one: {ink for experiment, ink, _ in drawn if experiment == f"e:{one}"} for one in (launched, slug)}
    assert [len(found) for found in inks.values()] == [1, 1], inks
    assert inks[launched] != inks[slug]
    assert "on the same axes" in (plot.get_attribute("aria-label") or "")
    button = page.locator(f"button[data-group='e:{slug}']")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "false")
    page.wait_for_function(f"() => ({traces})('trajectories').every(([e, , on]) => on === (e !== 'e:{slug}'))")
    page.set_viewport_size({"width": 700, "height": 900})
    page.reload()  # and the address remembers it
    expect(button).to_have_attribute("aria-pressed", "false")
    open_figures(page)
    # one panel at a time, where the names of both would reach into each other
    page.wait_for_function(f"() => new Set(({panels})('trajectories')).size === 1")
    assert seen.wrong == []
    page.context.close()


def test_a_comparison_fills_while_an_experiment_is_computed(
    launched: str, another: str, site: Served, browser: Browser
) -> None:
    laboratory = site.laboratory
    row = laboratory.create(laboratory.store.experiments.get(another).spec, name="under way")
    seen = tab(browser, site, viewport={"width": 1440, "height": 900})
    page = seen.page
    page.goto(f"/compare?e={launched}&e={row.slug}")
    accuracy = page.locator("#live-numbers tbody tr").first.locator("td")
    expect(accuracy.last).to_have_text("–")
    page.evaluate("() => (window.stayed = true)")
    Executor(laboratory.store, laboratory.artifacts, laboratory.settings, name="tests").drain(experiment_id=row.id)
    expect(accuracy.last).to_contain_text("points", timeout=SECONDS)
    expect(page.locator("#live-compared .s-succeeded")).to_have_count(2)
    assert page.evaluate("() => window.stayed")
    assert seen.wrong == []
    page.context.close()


def test_two_selected_solutions_are_cut_through_from_the_bar(launched: str, site: Served, browser: Browser) -> None:
    laboratory = site.laboratory
    row = laboratory.store.experiments.get(launched)
    optima = [s.number for s in laboratory.store.results.all_solutions(row.id) if s.role == "optimum"]
    seen = tab(browser, site, viewport={"width": 1440, "height": 900})
    page = seen.page
    page.goto(f"/experiments/{launched}?sel={optima[0]}")
    bar = page.locator("#selection")
    expect(bar).to_contain_text("1 solution selected")
    expect(bar.get_by_role("button", name="Straight line")).to_be_hidden()  # a line needs two
    page.goto(f"/experiments/{launched}?sel={optima[0]},{optima[1]}")
    expect(bar.get_by_role("button", name="Plane", exact=True)).to_be_hidden()  # and a plane three
    bar.get_by_role("button", name="Straight line").click()
    page.wait_for_url(re.compile(rf"/{launched}/figures/cuts\?plane=line-{optima[0]}-{optima[1]}-\d+$"))
    executor = Executor(laboratory.store, laboratory.artifacts, laboratory.settings, name="tests")
    executor.drain(experiment_id=row.id)
    expect(page.locator(".plot .main-svg").first).to_be_visible(timeout=SECONDS)  # filled without a reload
    assert "1 straight line" in (page.locator(".plot").first.get_attribute("aria-label") or "")
    assert seen.wrong == []
    page.context.close()


def test_an_unknown_address_gives_a_page_that_says_so(site: Served) -> None:
    with site.client(headers={"accept": "text/html"}) as client:
        for path in ("/experiments/none", "/experiments/none/figures/plane", "/static/none.js"):
            answer = client.get(path)
            assert answer.status_code == 404
            assert "<h1>Not found</h1>" in answer.text


def test_people_sign_in_beyond_loopback(tmp_path: Path, browser: Browser) -> None:
    with served(tmp_path, token="a secret of some length") as site:
        seen = tab(browser, site)
        page = seen.page
        page.goto("/workers")
        expect(page.locator("h1")).to_have_text("Sign in")
        assert page.evaluate(AUDIT.replace('"nav", ', "")) == []
        page.get_by_label("Token").fill("wrong")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_contain_text("not known here")
        page.get_by_label("Token").fill("a secret of some length")
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("h1")).to_have_text("Workers")
        page.get_by_role("button", name="Sign out").click()
        expect(page.locator("h1")).to_have_text("Sign in")
        page.context.close()
