"""The browser's modules, styles and symbols: pure parts under Node, and how all of it is served."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin
from xml.etree import ElementTree

import pytest
from serving import Served, served

from modescape.drawing.style import look
from modescape.registry import methods
from modescape_api.http import assets

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
        {*SCRIPTS} - {"live.js", "launch.js", "examples.js", "figure/page.js", "import.js", "sha256.js"}
    )


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

        assert packed("style.css") <= 12_000
        importing = ["import.js", "sha256.js"]  # of one page, which loads no others but app.js
        assert packed(*{*SCRIPTS} - {*importing}) <= 33_000
        assert packed(*importing) <= 4_200
