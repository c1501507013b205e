"""Pictures as pages show them, of the saved home in a real browser: step by step, as surfaces, whole at every width."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from drawn import comes_once_it_answers
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from saved_home import opened
from serving import Served, served

pytestmark = pytest.mark.slow

POINTS = """() => [...document.querySelectorAll('.plot .scatterlayer .point')]
    .filter(point => point.getBoundingClientRect().width > 0).length"""
CUT = """() => [...document.querySelectorAll('.js-plotly-plot')].flatMap(plot => {
    const box = plot.getBoundingClientRect();
    const texts = plot.querySelectorAll('.annotation-text-g, .xtick text, .ytick text, .cbaxis text');
    return [...texts].filter(text => {
        const own = text.getBoundingClientRect();
        return own.width && (own.left < box.left - 1 || own.right > box.right + 1 || own.bottom > box.bottom + 1);
    }).map(text => plot.closest('[data-figure]').id + ': ' + text.textContent);
})"""
LOADED = """() => [...document.querySelectorAll('[data-figure]:not([hidden])')].every(card =>
    card.querySelector('.plot').dataset.live || !card.querySelector('[data-why]').textContent.includes('Loading'))"""
NO_WEBGL = """const get = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...more) {
    return kind.includes('webgl') ? null : get.call(this, kind, ...more);
};"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    settings = opened(Path(__file__).parent / "saved", tmp_path_factory.mktemp("saved") / "home")
    with served(settings.home) as running:
        yield running


def shown(site: Served, browser: Browser, path: str, **how: object) -> Page:
    """A page whose first picture is drawn."""
    page = browser.new_context(base_url=site.url, **how).new_page()  # type: ignore[arg-type]
    page.goto(f"/experiments/{path}")
    page.wait_for_selector(".plot[data-live]")
    return page


def test_runs_are_played_epoch_by_epoch_and_stop_where_one_says(site: Served, browser: Browser) -> None:
    page = shown(site, browser, "every-method/figures/tsne-trajectories")
    steps = page.locator("[data-steps]")
    slider, said, play = steps.locator("input"), steps.locator("output"), steps.locator("[data-play]")
    expect(said).to_have_text("Epoch 6")
    everything = page.evaluate(POINTS)
    assert everything == 14 + 2  # seven checkpoints of two runs, and a star on the last of each
    slider.press("Home")
    expect(said).to_have_text("Epoch 0")
    page.wait_for_function(f"() => ({POINTS})() === 2")
    assert slider.get_attribute("aria-valuetext") == "Epoch 0"
    slider.press("ArrowRight")
    page.wait_for_function(f"() => ({POINTS})() === 4")
    play.press("Space")
    expect(play).to_have_text("Stop")
    expect(said).not_to_have_text("Epoch 1")
    play.press("Escape")
    expect(play).to_have_text("Play")
    stopped = said.text_content()
    page.wait_for_timeout(800)  # longer than a step takes
    assert said.text_content() == stopped
    play.press("Space")
    expect(said).to_have_text("Epoch 6", timeout=10_000)
    expect(play).to_have_text("Play")  # and it ends by itself
    assert page.evaluate(POINTS) == everything
    page.context.close()


def test_nothing_plays_where_motion_is_not_wanted(site: Served, browser: Browser) -> None:
    page = shown(site, browser, "every-method/figures/tsne-trajectories", reduced_motion="reduce")
    steps = page.locator("[data-steps]")
    expect(steps.locator("[data-play]")).to_be_hidden()
    steps.get_by_role("button", name="One step back").click()
    expect(steps.locator("output")).to_have_text("Epoch 5")
    page.context.close()


def test_samples_are_shown_up_to_a_strength(site: Served, browser: Browser) -> None:
    page = shown(site, browser, "every-method/figures/plane")
    slider = page.locator("[data-steps] input")
    counts = [page.evaluate(POINTS)]
    for step in range(int(slider.get_attribute("max") or 0) - 1, -1, -4):
        slider.fill(f"{step}")
        page.wait_for_timeout(150)
        counts.append(page.evaluate(POINTS))
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] < counts[0]
    assert page.evaluate("document.querySelectorAll('.plot .scatterlayer .trace.scatter').length") > 3
    assert counts[-1] >= 3  # the runs and the reference are no samples
    page.context.close()


def test_a_surface_stands_beside_the_map_and_turns_by_keys(site: Served, browser: Browser) -> None:
    page = shown(site, browser, "between-optima/figures/landscape")
    surface = page.locator("#landscape-surface .plot")
    surface.scroll_into_view_if_needed()
    page.wait_for_selector("#landscape-surface .plot[data-live]", timeout=30_000)
    where = "document.querySelector('#landscape-surface .plot')._fullLayout.scene.camera.eye.x"
    before = page.evaluate(where)
    surface.press("ArrowLeft")
    page.wait_for_function(f"() => {where} !== {before}")
    page.context.close()


def test_without_webgl_the_map_stands_alone(site: Served, browser: Browser) -> None:
    context = browser.new_context(base_url=site.url)
    context.add_init_script(NO_WEBGL)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto("/experiments/between-optima/figures/landscape")
    page.wait_for_selector("#landscape .plot[data-live]")
    expect(page.locator("#landscape-surface")).to_be_hidden()
    assert "WebGL" not in page.locator("main").inner_text()
    assert wrong == []
    context.close()


def test_marks_drawn_with_webgl_are_the_same_picture(site: Served, browser: Browser) -> None:
    """Under the pages' own security policy, which an older Plotly's WebGL did not keep to."""
    page = shown(site, browser, "every-method/figures/plane", viewport={"width": 1000, "height": 900})
    page.evaluate(
        """() => {
            const { data, layout } = document.querySelector('.plot');
            const others = data.map(trace => trace.mode === 'markers' ? { ...trace, type: 'scattergl' } : trace);
            return Promise.all([['svg', data], ['gl', others]].map(([id, traces]) => {
                const made = Object.assign(document.createElement('div'), { id });
                document.querySelector('main').replaceChildren(...document.querySelectorAll('#svg'), made);
                return Plotly.newPlot(made, traces, { ...layout, width: 600, height: 500 }, { displayModeBar: false });
            }));
        }"""
    )
    page.wait_for_timeout(500)
    svg, gl = (
        np.asarray(Image.open(io.BytesIO(page.locator(f"#{name}").screenshot())).convert("RGB"), float)
        for name in ("svg", "gl")
    )
    differs = np.abs(svg - gl).max(-1) > 64
    ink = np.abs(svg - svg[2, 2]).max(-1) > 64
    assert ink.sum() > 500
    assert differs.sum() < 0.2 * ink.sum()  # edges of marks are smoothed otherwise
    page.context.close()


WIDE = [360, pytest.param(768, marks=pytest.mark.check), pytest.param(1400, marks=pytest.mark.check)]


@pytest.mark.parametrize("width", WIDE)
@pytest.mark.parametrize("slug", ["every-method", "fair-strengths", "other-images", "between-optima", "with-failures",
                                  "where-difference-comes-from"])  # fmt: skip
def test_nothing_of_a_picture_is_cut(slug: str, width: int, site: Served, browser: Browser) -> None:
    page = shown(site, browser, f"{slug}?open=log", viewport={"width": width, "height": 6000})
    for card in page.locator("[data-figure]").all():
        card.scroll_into_view_if_needed()
    page.wait_for_function(LOADED, timeout=60_000)
    page.wait_for_timeout(500)
    assert page.evaluate(CUT) == []
    page.context.close()


@pytest.mark.parametrize("name", ["plane", "cuts", "shift", "strengths"])
def test_nothing_of_a_large_picture_is_cut_on_a_phone(name: str, site: Served, browser: Browser) -> None:
    slug = {"plane": "every-method", "cuts": "between-optima", "shift": "other-images", "strengths": "fair-strengths"}
    page = shown(site, browser, f"{slug[name]}/figures/{name}", viewport={"width": 360, "height": 900})
    page.wait_for_timeout(500)
    assert page.evaluate(CUT) == []
    page.context.close()


@pytest.mark.parametrize("lost", ["**/plotly*", "**/api/**"])
def test_what_did_not_come_is_asked_for_again(site: Served, browser: Browser, lost: str) -> None:
    """A server that is started again while somebody reads: pictures come by themselves once it answers."""
    comes_once_it_answers(browser, f"{site.url}/experiments/every-method/figures/plane", lost)


def test_a_picture_that_cannot_be_made_says_so(site: Served, browser: Browser) -> None:
    page = shown(site, browser, "every-method/figures/plane")
    page.route("**/api/**", lambda route: route.abort())
    page.locator("[data-image=svg]").first.click()
    expect(page.locator("#toast")).to_contain_text("No picture was made")
    page.context.close()


@pytest.mark.parametrize("width", [1400, 1280, 1000])
def test_the_table_beside_a_picture_has_whole_words_and_is_not_scrolled(
    width: int, site: Served, browser: Browser
) -> None:
    page = browser.new_page(base_url=site.url, viewport={"width": width, "height": 900})
    page.goto("/experiments/every-method")
    page.locator("#ensembles").scroll_into_view_if_needed()
    page.wait_for_selector("#ensembles .plot[data-live]")
    beside = page.locator("#ensembles .beside")
    assert beside.locator("tbody tr").count() == 10
    assert beside.evaluate("one => one.scrollWidth - one.clientWidth") <= 0
    lines = """one => [...one.querySelectorAll("tbody th")].map(head => {
        const range = document.createRange();
        range.selectNodeContents(head);
        return [head.textContent.trim(), new Set([...range.getClientRects()].map(box => Math.round(box.top))).size];
    })"""
    for title, count in beside.evaluate(lines):
        assert count <= len(title.replace("-", " ").split()), f"{title!r} is broken inside a word"
    assert page.locator(".top .search").evaluate("one => one.clientWidth") >= (220 if width >= 1280 else 160)
    page.close()


def test_a_part_of_a_picture_is_shown_without_dragging(site: Served, browser: Browser) -> None:
    """Two numbers are typed for each axis; what is dragged stands there too, and the next choice keeps it."""
    page = shown(site, browser, "every-method/figures/plane")
    across, up = page.locator('[name="plane.x"]'), page.locator('[name="plane.y"]')
    ranges = "() => ['xaxis', 'yaxis'].map(axis => document.querySelector('#plane .plot').layout[axis].range)"
    whole = page.evaluate(ranges)
    across.fill("50,80")
    across.press("Enter")
    page.wait_for_url("**plane.x=50,80*")
    page.wait_for_selector(".plot[data-live]")
    assert page.evaluate(ranges) == [[50, 80], whole[1]]
    page.evaluate("() => Plotly.relayout(document.querySelector('#plane .plot'), {'yaxis.range': [0, 1.5]})")
    expect(up).to_have_value("0,1.5")
    page.locator('[name="color"]').select_option("run")
    page.wait_for_url("**color=run*")
    page.wait_for_selector(".plot[data-live]")
    assert page.evaluate(ranges) == [[50, 80], [0, 1.5]]
    across.fill("")
    across.press("Enter")
    page.wait_for_selector(".plot[data-live]")
    expect(across).to_have_value("")
    page.wait_for_function(f"() => ({ranges})()[0][0] !== 50")
    page.context.close()
