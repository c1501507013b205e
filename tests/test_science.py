"""The definitions in docs/science and the code that cites them ("science d.7") lead to each other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from string import ascii_lowercase

import pytest

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "science"
SOURCES = ("worker", "backend", "frontend", "migrations", "benchmarks", "tests", "docs")
KINDS = {".py", ".js", ".css", ".html", ".sh", ".toml", ".md"}

_PLACE = r"\b[a-s](?:\.\d{1,2})?(?![\w.]*\w)"
_CITATION = re.compile(rf"\bscience[\s#]+({_PLACE}(?:(?:,|\s+to|\s+and)[\s#]+{_PLACE})*)", re.IGNORECASE)
_REFERENCE = re.compile(r"(?<![\w.])[a-s]\.\d{1,2}(?![\w.]*\w)")


def cited(text: str) -> Iterator[str]:
    """Chapters ("d") and sections ("d.7") that a text cites; "d.1 to d.4" are four."""
    for found in _CITATION.finditer(text):
        words = re.findall(rf"\bto\b|{_PLACE}", found[1].lower())
        for i, word in enumerate(words):
            if word != "to":
                yield word
            else:
                chapter, first, last = *words[i - 1].split("."), words[i + 1].partition(".")[2]
                yield from (f"{chapter}.{number}" for number in range(int(first) + 1, int(last)))


@cache
def headings() -> dict[str, Path]:
    """Chapter or section -> its page."""
    found = {}
    for page in sorted(PAGES.glob("?-*.md")):
        for place in re.findall(r"^# ([a-s])\. |^## ([a-s]\.\d+) ", page.read_text(encoding="utf-8"), re.MULTILINE):
            found["".join(place)] = page
    return found


@cache
def citations() -> list[tuple[str, str]]:
    """(file, chapter or section) of every citation outside these pages."""
    files = (file for folder in SOURCES for file in sorted((ROOT / folder).rglob("*")))
    return [
        (str(file.relative_to(ROOT)), place)
        for file in files
        if file.suffix in KINDS and PAGES not in file.parents and file != Path(__file__)
        for place in cited(file.read_text(encoding="utf-8"))
    ]


def test_citations_are_found_in_every_form_they_have() -> None:
    assert list(cited("(science d.7; Garipov 2018)")) == ["d.7"]
    assert list(cited("(science a.11, k.5), (science a.3, figure S1), science m.")) == ["a.11", "k.5", "a.3", "m"]
    assert list(cited("Science d.1 to d.4 and o")) == ["d.1", "d.2", "d.3", "d.4", "o"]
    assert list(cited("# as science\n# o.5 has it")) == ["o.5"]
    assert list(cited("from modescape.science import data; the science is in science/, science as it was")) == []


def test_every_citation_leads_to_a_heading() -> None:
    assert len(citations()) > 50
    assert [(file, place) for file, place in citations() if place not in headings()] == []


def test_every_numbered_section_and_every_chapter_is_cited_by_the_code_or_another_page() -> None:
    places = {place for _, place in citations()}
    places |= {place.partition(".")[0] for place in places}
    assert sorted(set(headings()) - places) == []


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.stem)
def test_references_between_the_pages_lead_to_headings(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert [place for place in _REFERENCE.findall(text) if place not in headings()] == []
    links = re.findall(r"\]\(([^)#]+\.md)\)", text)
    assert [link for link in links if not (page.parent / link).is_file()] == []


def test_the_index_has_every_chapter_and_each_counts_its_own_sections() -> None:
    index = (PAGES / "index.md").read_text(encoding="utf-8")
    pages = sorted(PAGES.glob("?-*.md"))
    assert re.findall(r"^\| \[.*?\]\((.*?)\) \|", index, re.MULTILINE) == [page.name for page in pages]
    assert [page.name[0] for page in pages] == list(ascii_lowercase[: len(pages)])
    for page in pages:
        own = [place for place, where in headings().items() if where == page]
        assert own == [page.name[0], *(f"{page.name[0]}.{number}" for number in range(1, len(own)))]
