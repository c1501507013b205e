"""The browser's modules, styles and symbols: pure parts under Node, and how all of it is served."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import urljoin
from xml.etree import ElementTree

import pytest
from playwright.sync_api import Browser, Error, Page, expect, sync_playwright
from serving import Served, served

from modescape.drawing.style import look
from modescape.registry import methods
from modescape_api.http import assets
from modescape_api.resources import events

STATIC = assets.frontend() / "static"
SCRIPTS = sorted(path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*.js"))


@pytest.mark.parametrize("path", sorted((Path(__file__).parent / "browser").glob("*.mjs")), ids=lambda path: path.stem)
def test_pure_parts_pass_their_own_tests(path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.fail("Node is not installed: sudo apt-get install nodejs")
    done = subprocess.run([node, "--test", path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    assert re.search(r"^# pass [1-9]", done.stdout, re.MULTILINE)
    assert "# skipped 0" in done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("scripts")) as running:
        yield running


def test_modules_import_each_other_by_addresses_that_never_change_their_content(site: Served) -> None:
    with site.client() as client:
        for name in SCRIPTS:
            answer = client.get(assets.url(name))
            assert "immutable" in answer.headers["cache-control"], name
            below = re.findall(r'^import .*"(\..+)";$', answer.text, re.MULTILINE)
            assert len(below) == len(re.findall("^import ", (STATIC / name).read_text(encoding="utf-8"), re.MULTILINE))
            addresses = {urljoin(f"/static/{name}", address) for address in below}
            assert addresses <= {*assets.imported(name)}, name


def test_a_module_has_another_address_when_one_below_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "static" / "deep").mkdir(parents=True)
    (tmp_path / "static" / "deep" / "top.js").write_text('import "../low.js";\n')
    (tmp_path / "static" / "low.js").write_text("export const a = 1;\n")
    monkeypatch.setattr(assets, "frontend", lambda: tmp_path)
    addresses = []
    for turn in range(2):
        monkeypatch.setattr(assets, "_changed", lambda turn=turn: turn)
        addresses.append([assets.url("deep/top.js"), assets.url("low.js")])
        assert assets.imported("deep/top.js") == (assets.url("low.js"),)
        (tmp_path / "static" / "low.js").write_text("export const a = 2;\n")
    assert addresses[0][0] != addresses[1][0]
    assert addresses[0][1] != addresses[1][1]
    assets._joined.cache_clear()
    assets._imported.cache_clear()


def test_pages_name_every_module_beforehand() -> None:
    assert len(assets.imported("figure/page.js")) == len(
        {*SCRIPTS} - {"live.js", "stream.js", "launch.js", "examples.js", "figure/page.js", "import.js", "sha256.js",
                      "report.js", "tell.js", "search.js", "columns.js", "plots.js"}
    )  # fmt: skip


def test_templates_say_no_style_but_numbers_for_the_stylesheet() -> None:
    wrong = [
        f"{path.name}: {given}"
        for path in sorted((STATIC.parent / "templates").glob("*.html"))
        for given in re.findall(r'style="([^"]*)"', path.read_text(encoding="utf-8"))
        if not all(part.strip().startswith("--") for part in given.split(";"))
    ]
    assert not wrong, "\n".join(wrong)


def test_templates_are_laid_out_to_be_read() -> None:
    wrong = [
        f"{path.name}:{number}"
        for path in sorted((STATIC.parent / "templates").glob("*.html"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > 120 or line != line.rstrip() or "\t" in line
    ]
    assert not wrong, "longer than 120 characters, or spaces at the end: " + ", ".join(wrong)


def test_a_page_does_not_carry_the_indentation_of_its_template(site: Served) -> None:
    with site.client() as client:
        page = client.get("/catalogue").text
    assert not re.findall(r"^[ \t]+", page, flags=re.MULTILINE)


def test_the_stylesheet_is_served_whole_with_every_component_once(site: Served) -> None:
    parts = sorted(path.name for path in (STATIC / "css").glob("*.css"))
    named = re.findall(r'@import "css/(.+)";', (STATIC / "style.css").read_text(encoding="utf-8"))
    assert sorted(named) == parts
    assert named[-1] == "print.css", "paper has the last word"
    with site.client() as client:
        whole = client.get(assets.url("style.css")).text
    assert "@import" not in whole
    assert all((STATIC / "css" / name).read_text(encoding="utf-8") in whole for name in parts)


def test_every_symbol_that_a_page_may_name_is_in_the_sprite() -> None:
    sprite = ElementTree.parse(STATIC / "sprite.svg")
    drawn = {symbol.get("id") for symbol in sprite.iter("{http://www.w3.org/2000/svg}symbol")}
    groups = ("independent", "trajectory", "baseline", "theory", *methods)
    looks = {f"y-{look(group).symbol.removesuffix('-open')}" for group in groups}
    templates = "".join(path.read_text(encoding="utf-8") for path in (STATIC.parent / "templates").glob("*.html"))
    icons = {f"i-{name}" for name in re.findall(r'm\.icon\("(\w+)"\)', templates)}
    assert len(looks) > 5
    assert looks | icons <= drawn


def test_static_files_stay_within_their_budget(site: Served) -> None:
    with site.client(headers={"accept-encoding": "gzip"}) as client:

        def packed(*names: str) -> int:
            total = 0
            for name in names:
                with client.stream("GET", assets.url(name)) as answer:
                    total += sum(map(len, answer.iter_raw()))
            return total

        assert packed("style.css") <= 12_700  # figures on paper have a layout of their own
        importing = ["import.js", "sha256.js"]  # of one page, which loads no others but app.js
        writing = ["report.js"]  # of the page on which a report is written
        finding = ["search.js", "columns.js"]  # of every page, and of the list
        plotting = ["plots.js", "plots.css"]  # of the page that lays many experiments along axes
        moving = ["figure/steps.js", "figure/webgl.js"]
        assert packed(*{*SCRIPTS} - {*importing, *writing, *finding, *plotting, *moving}) <= 42_700
        assert packed(*moving) <= 2_800
        assert packed("app.js", "tell.js") <= 5_100  # of every page
        assert packed(*writing) <= 1_250  # with what is removed put back
        assert packed(*plotting) <= 6_600
        assert packed(*finding) <= 4_700
        assert packed(*importing) <= 4_200


# -- many tabs --------------------------------------------------------------------------------------------------------


class Wire:
    """Between a browser and a server: it can be held, so that nothing comes through and nothing breaks."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._flows = threading.Event()
        self._flows.set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=50)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._port))
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._flows.wait()
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    @contextmanager
    def held(self) -> Iterator[None]:
        self._flows.clear()
        try:
            yield
        finally:
            self._flows.set()

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def chromium() -> Iterator[Browser]:
    program = shutil.which("chromium")
    assert program is not None, "sudo apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def listeners(site: Served) -> int:
    count: int = site.app.state.site.hub._listeners
    return count


SMALL = {"data": {"dataset": "digits"}, "network": {"architecture": "mlp"}, "ensemble": {"runs": 2}}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ten_tabs_of_a_browser_hear_of_everything_over_one_stream(
    chromium: Browser, tmp_path: Path, wait_until
) -> None:
    """Browsers open six connections to a server, over HTTP/1.1: ten streams would leave none to ask anything else."""
    with served(tmp_path) as site:
        rows = [site.laboratory.create(SMALL, name=f"number {number}") for number in range(3)]
        context = chromium.new_context()
        context.set_default_timeout(30_000)
        tabs: list[tuple[Page, str | None]] = []
        for number in range(10):
            page = context.new_page()
            about = None if number % 4 == 3 else rows[number % 4]
            page.goto(site.url if about is None else f"{site.url}/experiments/{about.slug}")
            if about is not None:
                expect(page.locator("[data-connection]")).to_have_text("live")
            tabs.append((page, about.id if about is not None else None))
        assert listeners(site) == 1

        def hear(verb: str, word: str, now: list[tuple[Page, str | None]]) -> None:
            """Each tab is told of what it shows: of one experiment, or of all in the list."""
            for row in rows:
                getattr(site.laboratory.store.experiments, verb)(row.id)
            for page, about in now:
                for row in rows:
                    if about is None:
                        line = page.locator("main tr", has_text=row.name).first
                        expect(line).to_contain_text(word, timeout=30_000)
                    elif about == row.id:
                        expect(page.locator("#live-status")).to_contain_text(word, timeout=30_000)

        hear("pause", "paused", tabs)
        tabs.pop(0)[0].close()  # the first, which had begun the stream
        hear("resume", "queued", tabs)
        crashed = tabs.pop(0)[0]
        context.new_cdp_session(crashed).send("Page.enable")
        with suppress(Error):
            crashed.goto("chrome://crash", timeout=3000)
        tabs = [(page, about) for page, about in tabs if _lives(page)]
        assert len(tabs) == 8
        hear("pause", "paused", tabs)
        targets = chromium.new_browser_cdp_session()
        [held] = [one for one in targets.send("Target.getTargets")["targetInfos"] if one["type"] == "shared_worker"]
        targets.send("Target.closeTarget", {"targetId": held["targetId"]})  # as when the process that has it crashes
        hear("resume", "queued", tabs)
        assert listeners(site) <= 1
        for page, _ in tabs:
            page.close()
        wait_until(lambda: listeners(site) == 0, 20, "that the stream is given back")


def _lives(page: Page) -> bool:
    try:
        return bool(page.evaluate("1") == 1)
    except Error:
        return False


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_tab_that_nobody_sees_gives_the_stream_back_and_catches_up(
    chromium: Browser, tmp_path: Path, wait_until
) -> None:
    with served(tmp_path) as site:
        row = site.laboratory.create(SMALL, name="one")
        page = chromium.new_page()
        page.goto(f"{site.url}/experiments/{row.slug}")
        expect(page.locator("[data-connection]")).to_have_text("live")
        show = """hidden => {
            Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
            document.dispatchEvent(new Event("visibilitychange"));
        }"""
        page.evaluate(show, True)
        wait_until(lambda: listeners(site) == 0, 20, "that the stream is given back")
        site.laboratory.store.experiments.pause(row.id)
        page.evaluate(show, False)
        expect(page.locator("#live-status")).to_contain_text("paused", timeout=20_000)
        expect(page.locator("[data-connection]")).to_have_text("live")


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("alone", [False, True])
def test_a_page_says_that_it_hears_nothing_and_that_it_does_again(
    alone: bool, chromium: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line is dead and nothing breaks: only the pings stop. alone: in a browser without shared workers."""
    monkeypatch.setattr(events, "PING_SECONDS", 0.5)
    with served(tmp_path) as site, closing(Wire(site.settings.port)) as wire:
        row = site.laboratory.create(SMALL, name="one")
        page = chromium.new_page()
        if alone:
            page.add_init_script("delete self.SharedWorker")
        page.goto(f"{wire.url}/experiments/{row.slug}")
        status = page.locator("[data-connection]")
        expect(status).to_have_text("live")
        with wire.held():
            # Once it has heard its first ping it knows of how many; until then it waits as for a server's usual ones.
            expect(status).to_contain_text("connection lost, trying again in", timeout=45_000)
        expect(status).to_have_text("live", timeout=30_000)
        site.laboratory.store.experiments.pause(row.id)
        expect(page.locator("#live-status")).to_contain_text("paused", timeout=20_000)
