"""Pages for everybody: by axe-core's rules, by keyboard, by touch, with large letters, and where colours are forced."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import axe
import pytest
from every_page import BEHIND_SIGN_IN, PAGES, Stop, everything, lab, sign_in, visit
from playwright.sync_api import Browser, Page, expect
from serving import Served

from modescape_api.http import assets

pytestmark = pytest.mark.slow

SECONDS = 30_000  # of patience, in ms
FULL = pytest.mark.check
WIDTHS = (1400, 768, 360)
LOOKS = [pytest.param(width, theme, marks=[] if (width, theme) in ((1400, "light"), (360, "dark")) else FULL)
         for width in WIDTHS for theme in ("light", "dark")]  # fmt: skip
# By `make test` in two of the six looks: one of each kind of page. All of them by `make check`.
CORE = ("list", "list, being searched", "keys", "every-method", "running", "failed", "figure", "figure, definition",
        "launch, errors", "import", "compare, side by side", "sweep", "report", "links", "data", "workers")  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with everything(tmp_path_factory.mktemp("everything")) as running:
        yield running


def opened(browser: Browser, site: Served, width: int = 1280, height: int = 720, **more: object) -> Page:
    context = browser.new_context(
        base_url=site.url, viewport={"width": width, "height": height}, bypass_csp=True, reduced_motion="reduce",
        **more,  # type: ignore[arg-type]
    )  # fmt: skip
    context.set_default_timeout(SECONDS)
    return context.new_page()


def asked_of(page: Page, stops: dict[str, Stop], width: int) -> dict[str, list[str]]:
    """By page, what axe finds, and whether it scrolls sideways."""
    found = {}
    for name, stop in stops.items():
        visit(page, stop)
        wrong = axe.findings(page.evaluate)
        if (wide := page.evaluate("document.documentElement.scrollWidth")) > width:
            wrong.append(f"it is {wide} px wide")
        if wrong:
            found[name] = wrong
    return found


@pytest.mark.parametrize(("width", "theme"), LOOKS)
def test_axe_finds_nothing_on_pages_of_each_kind(site: Served, browser: Browser, width: int, theme: str) -> None:
    page = opened(browser, site, width, 900, color_scheme=theme)
    assert asked_of(page, {name: PAGES[name] for name in CORE}, width) == {}
    page.context.close()


@pytest.mark.check
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [*WIDTHS, 320])
def test_axe_finds_nothing_on_any_page(site: Served, browser: Browser, width: int, theme: str) -> None:
    page = opened(browser, site, width, 900, color_scheme=theme)
    assert asked_of(page, {name: stop for name, stop in PAGES.items() if name not in CORE}, width) == {}
    page.context.close()


@pytest.mark.parametrize(("width", "theme"), LOOKS)
def test_axe_finds_nothing_behind_sign_in(tmp_path: Path, browser: Browser, width: int, theme: str) -> None:
    with lab(tmp_path) as site:
        page = opened(browser, site, width, 900, color_scheme=theme)
        assert asked_of(page, {"sign in": Stop("/signin")}, width) == {}
        sign_in(page)
        assert asked_of(page, BEHIND_SIGN_IN, width) == {}
        page.context.close()


# ---- by keyboard ----

_FOCUSED = """() => {
    const one = document.activeElement;
    if (!one || one === document.body) return null;
    const box = one.getBoundingClientRect();
    const within = (at, size) => Math.min(Math.max(at, 1), size - 1);
    const seen = [[.02, .5], [.5, .1], [.5, .5], [.5, .9], [.98, .5]].some(([x, y]) => {
        const [left, top] = [box.x + x * box.width, box.y + y * box.height];
        if (top < 0 || top > innerHeight) return false;
        const over = document.elementFromPoint(within(left, innerWidth), top);
        return over && (one.contains(over) || over.contains(one));
    });
    const { outlineStyle, outlineWidth } = getComputedStyle(one);
    return { name: `${one.tagName} ${(one.ariaLabel || one.textContent || one.name || one.id).trim().slice(0, 40)}`,
        seen, ringed: outlineStyle !== "none" && parseFloat(outlineWidth) >= 2 };
}"""


@pytest.mark.parametrize("width", [pytest.param(1280, marks=FULL), pytest.param(768, marks=FULL), 360])
@pytest.mark.parametrize("name", ["list", "every-method", "experiment, with a selection", "report, edited"])
def test_what_has_the_focus_is_ringed_and_under_nothing(site: Served, browser: Browser, name: str, width: int) -> None:
    page = opened(browser, site, width)
    stop = PAGES.get(name, Stop("/experiments/every-method?sel=0-3"))
    page.goto(stop.path)
    page.add_style_tag(content=".def { display: none !important }")  # it opens over its neighbours and goes by itself
    if "selection" in name:
        page.locator("#selection").wait_for()
    hidden, stops = [], 0
    for _ in range(250):
        page.keyboard.press("Tab")
        at = page.evaluate(_FOCUSED)
        if at is None:
            break
        stops += 1
        if not at["seen"]:  # a figure above it came in this moment
            page.wait_for_timeout(500)
            at = page.evaluate(_FOCUSED)
        if not (at["seen"] and at["ringed"]):
            hidden.append(at)
    assert stops > 40
    assert hidden == []
    page.context.close()


def test_the_buttons_of_a_plot_are_one_stop_and_arrows_move_among_them(site: Served, browser: Browser) -> None:
    page = opened(browser, site)
    visit(page, PAGES["figure"])
    plot = page.locator(".plot")
    assert plot.get_attribute("role") == "group"
    assert plot.locator("svg.main-svg:not([aria-hidden])").count() == 0, "its letters are not read one by one"
    bar = plot.get_by_role("toolbar", name="Tools of the plot")
    assert bar.get_by_role("button").count() > 4
    plot.focus()
    page.keyboard.press("Tab")
    first = bar.get_by_role("button").first
    expect(first).to_be_focused()
    expect(first.locator("..")).to_have_css("opacity", "1")
    page.keyboard.press("ArrowRight")
    second = bar.get_by_role("button").nth(1)
    expect(second).to_be_focused()
    assert second.get_attribute("aria-label") == "Pan"
    page.keyboard.press("Enter")  # of the button, and not into the plot
    page.wait_for_function("document.querySelector('.plot').layout.dragmode === 'pan'")
    page.keyboard.press("End")
    expect(bar.get_by_role("button").last).to_be_focused()
    page.keyboard.press("Tab")
    assert page.evaluate("!document.activeElement.closest('.plot')"), "one more leaves the plot"
    page.context.close()


def test_the_list_of_keys_is_that_of_the_keys_that_do_something(site: Served, browser: Browser) -> None:
    page = opened(browser, site)
    page.goto("/")
    handled = page.evaluate(
        """() => Array.from({ length: 94 }, (_, i) => String.fromCharCode(33 + i)).filter(key => !document.body
            .dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true })))"""
    )
    page.context.close()  # with what those keys began
    page = opened(browser, site)
    page.goto("/")
    told = page.evaluate("[...document.querySelectorAll('#keys kbd')].map(key => key.textContent)")
    assert sorted(key for key in set(told) if len(key) == 1 and key.isascii()) == sorted(handled)
    names = {"ArrowLeft": "←", "ArrowRight": "→", "ArrowUp": "↑", "ArrowDown": "↓", "Escape": "Esc", " ": "Space"}
    source = "".join(path.read_text(encoding="utf-8") for path in (assets.frontend() / "static").rglob("*.js"))
    known = r"(Arrow(?:Left|Right|Up|Down)|Escape|Enter|Tab|Home|End|PageUp|PageDown|Delete|Backspace| )"
    asked = re.findall(rf'key === "{known}"', source)
    asked += re.findall(rf"\b{known}: ", " ".join(re.findall(r"\{ (?:Arrow|Home).*\}", source)))
    assert {names.get(key, key) for key in asked} == {key for key in told if len(key) > 1 or not key.isascii()}
    page.context.close()


# ---- by touch, and without dragging ----


@pytest.fixture
def phone(site: Served, browser: Browser) -> Iterator[Page]:
    page = opened(browser, site, 360, 740, has_touch=True, is_mobile=True)
    yield page
    page.context.close()


def test_a_finger_reads_definitions_and_moments(phone: Page) -> None:
    phone.goto("/experiments/every-method")
    phone.locator(".verdict .term").first.tap()
    expect(phone.locator("#def-disagreement")).to_be_visible()
    phone.locator("h1").tap()
    expect(phone.locator("#def-disagreement")).to_be_hidden()
    moment = phone.locator("time[title]").first
    moment.tap()
    expect(phone.locator("#toast")).to_have_text(moment.get_attribute("title") or "none")


def test_a_finger_takes_points_in_and_out_one_by_one(phone: Page) -> None:
    phone.goto("/experiments/every-method")
    phone.locator("#plane").scroll_into_view_if_needed()
    expect(phone.locator("#plane .main-svg").first).to_be_visible()
    phone.locator("[data-select]").tap()
    phone.locator("#plane header").evaluate("one => one.scrollIntoView()")
    count = phone.locator("#selection [data-count]")
    for end, said in ((min, "1 solution"), (max, "2 solutions"), (max, "1 solution")):
        at = phone.evaluate(  # anew: what is chosen may move the picture
            """() => [...document.querySelectorAll("#plane .plot .points path")]
                .map(mark => mark.getBoundingClientRect())
                .map(box => [box.x + box.width / 2, box.y + box.height / 2])
                .filter(([, y]) => y > 180 && y < 420)"""
        )
        phone.touchscreen.tap(*end(at))
        expect(count).to_have_text(f"{said} selected")
    assert phone.evaluate("document.querySelector('#selection').offsetHeight") < 300
    assert phone.evaluate("getComputedStyle(document.querySelector('#plane .modebar-group')).opacity") == "1"


def test_a_finger_chooses_rows_of_the_list(phone: Page) -> None:
    phone.goto("/")
    for slug in ("every-method", "other-images"):
        phone.locator(f"#row-{slug}").tap()
    phone.get_by_role("button", name="Compare", exact=True).tap()
    phone.wait_for_url("**/compare?e=other-images&e=every-method")


def test_columns_are_made_wider_without_dragging(site: Served, browser: Browser) -> None:
    page = opened(browser, site)
    page.goto("/")
    for _ in range(2):
        page.locator("#menu-columns summary").click()
        page.get_by_role("link", name="Cost wider").click()
    expect(page.locator("th[data-column=seconds]")).to_have_attribute("data-width", "240")
    page.context.close()


# ---- large letters, forced colours, no motion ----


@pytest.mark.parametrize("name", ["list", "every-method", "launch", "report"])
def test_letters_of_twice_the_size_are_not_cut_off(site: Served, browser: Browser, name: str) -> None:
    page = opened(browser, site, 1280, 900)
    visit(page, PAGES[name])
    cut = page.evaluate(
        """() => {
            const all = [...document.body.querySelectorAll(":not(svg *, .plot *, option)")]
                .filter(one => one.checkVisibility());
            const was = all.map(one => getComputedStyle(one)).map(({ fontSize, lineHeight }) => [fontSize, lineHeight]);
            all.forEach((one, i) => ["font-size", "line-height"].forEach((name, k) => parseFloat(was[i][k])
                && one.style.setProperty(name, `${2 * parseFloat(was[i][k])}px`, "important")));
            const hasLetters = one => [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim());
            return all.filter(one => hasLetters(one) && !one.closest(".sr, .skip, .echo, .cut, .name")
                && getComputedStyle(one).overflowY === "hidden" && one.scrollHeight > one.clientHeight + 4)
                .map(one => one.outerHTML.slice(0, 100));
        }"""
    )
    assert cut == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    page.context.close()


def test_where_colours_are_forced_what_is_chosen_and_how_much_is_still_seen(site: Served, browser: Browser) -> None:
    page = opened(browser, site, forced_colors="active")
    page.goto("/experiments/every-method")
    pressed = page.locator(".legend [aria-pressed=true]").first
    assert pressed.evaluate("one => getComputedStyle(one).outlineStyle") == "solid"
    marks = page.locator(".legend [aria-pressed=true] .sym")
    assert len(set(marks.evaluate_all("all => all.map(one => getComputedStyle(one).color)"))) > 3
    page.goto("/")
    ground = "one => getComputedStyle(one).backgroundColor"
    bar = page.locator(".bars i").first
    assert bar.evaluate(ground) != page.locator(".card.scroll").evaluate(ground)
    page.context.close()


def test_where_motion_is_reduced_nothing_moves_by_itself(site: Served, browser: Browser) -> None:
    page = opened(browser, site)  # which asks for that
    for name in ("list", "every-method"):
        visit(page, PAGES[name])
        moving = page.evaluate(
            """() => [...document.querySelectorAll(":not(.plot *)")].map(one => getComputedStyle(one))
                .filter(style => style.animationName !== "none" || style.scrollBehavior === "smooth"
                    || parseFloat(style.transitionDuration) > 0).length"""
        )
        assert moving == 0, name
    page.context.close()
