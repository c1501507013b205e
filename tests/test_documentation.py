"""The documentation site holds every setting, command, address and entry, and asks nothing of another host."""

from __future__ import annotations

import html
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import modescape.testing
from modescape import __version__, registry
from modescape.claims import CLAIMS
from modescape.cli import main, parser
from modescape.settings import Settings
from modescape.testing.contract import rules_of
from modescape_api.app import create_app
from modescape_api.resources.openapi import openapi

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", folder],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr  # strict: a link that leads nowhere is an error
    return folder


def _text(site: Path, page: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", (site / "reference" / f"{page}.html").read_text(encoding="utf-8")))


@pytest.mark.slow
def test_every_setting_command_and_address_is_in_the_reference(site: Path) -> None:
    settings, commands, api = (_text(site, page) for page in ("settings", "command-line", "api"))
    assert [name for name in Settings.model_fields if f"MODESCAPE_{name.upper()}" not in settings] == []
    (choices,) = (action.choices for action in parser()._actions if isinstance(action.choices, dict))
    assert [name for name in choices if f"usage: modescape {name}" not in commands] == []
    document = openapi(create_app(Settings()))
    addresses = [f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods]
    assert [address for address in addresses if address not in api] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["datasets", "architectures", "methods", "corruptions", "studies", "figures", "presets"]
)
def test_every_entry_is_in_the_reference_with_its_options_and_source(site: Path, kind: str) -> None:
    page = " ".join(_text(site, kind).split())
    for name, entry in getattr(registry, kind).items():
        for words in (name, entry.title, entry.summary, entry.source, *entry.options.model_fields):
            assert " ".join(words.replace("`", "").split()) in page, (name, words)


@pytest.mark.slow
def test_every_claim_is_in_the_reference_with_its_margin(site: Path) -> None:
    page = " ".join(_text(site, "claims").split())
    for claim in CLAIMS.values():
        for words in (f"({claim.letter}) {claim.title}", claim.estimand, claim.margin.says, claim.decided_by.words):
            assert words in page, words


@pytest.mark.slow
def test_every_rule_of_every_contract_is_in_the_reference(site: Path) -> None:
    page = " ".join(_text(site, "testing").split())
    for name in modescape.testing.__all__:
        assert name in page or name == "CHECKS", name
        if name.startswith("check_"):
            for rule in rules_of(getattr(modescape.testing, name)):
                assert " ".join(rule.replace("`", "").split()) in page, rule


@pytest.mark.slow
def test_no_page_asks_another_host(site: Path) -> None:
    asked = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=\"?(?:https?:)?//[^>]*>")
    for page in site.rglob("*.html"):
        assert asked.findall(page.read_text(encoding="utf-8")) == [], page
    for style in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//|@import", style.read_text(encoding="utf-8")), style


def test_every_page_of_the_documentation_is_in_its_contents() -> None:
    def listed(part: object) -> set[str]:
        if isinstance(part, str):
            return {part}
        return set().union(*(listed(one) for one in (part.values() if isinstance(part, dict) else part)))  # type: ignore[attr-defined]

    written = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    contents = listed(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    records = {page for page in written if re.fullmatch(r"decisions/\d{4}-[a-z0-9-]+\.md", page)}
    assert written - records <= contents, written - records - contents


def test_decisions_are_numbered_without_gaps_and_dated() -> None:
    records = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    for number, path in enumerate(records, 1):
        title, empty, date, *_ = path.read_text(encoding="utf-8").splitlines()
        assert (path.name[:5], title.split(". ")[0], empty) == (f"{number:04d}-", f"# {number}", ""), path
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", date), path


def test_the_architecture_page_prints_the_contract_that_the_linter_checks() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = [one for one in project["tool"]["importlinter"]["contracts"] if one["type"] == "layers"]
    assert len(contracts) == 2
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for contract in contracts:
        assert "```text\n" + "\n".join(contract["layers"]) + "\n```" in page, contract["name"]


def test_the_version_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"modescape {__version__}\n"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["dynamic"] == ["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == __version__
    assert f"\n## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_licence_is_the_one_that_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license"] == "Apache-2.0"
    assert "Apache License\n                           Version 2.0" in (ROOT / "LICENSE").read_text(encoding="utf-8")


@pytest.mark.parametrize("package", ["worker/modescape", "backend/modescape_api"])
def test_both_packages_say_that_they_are_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").exists()
