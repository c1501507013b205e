"""The chapters of the science as pages, so that every term leads to its definition, wherever the server stands."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Request, Response

from modescape.errors import ConfigurationError, NotFound
from modescape_api.http.site import Here
from modescape_api.pages.rendering import render

router = APIRouter()

_SECTION = re.compile(r"^## (?:([a-z]\.\d+) )?(.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Section:
    """anchor: "a.2", "" of what has no number; text: as it was written, in Markdown."""

    anchor: str
    title: str
    text: str


@dataclass(frozen=True)
class Chapter:
    letter: str
    title: str
    introduction: str
    sections: tuple[Section, ...]


@cache
def chapters() -> dict[str, Chapter]:
    """By letter. Raises ConfigurationError when the installation lacks them."""
    found = {}
    for path in sorted(_folder().glob("[a-z]-*.md")):
        head, _, body = path.read_text().partition("\n")
        letter, _, title = head.removeprefix("# ").partition(". ")
        introduction, *rest = _SECTION.split(body)
        sections = [Section(rest[i] or "", rest[i + 1], rest[i + 2].strip()) for i in range(0, len(rest), 3)]
        found[letter] = Chapter(letter, title, introduction.strip(), tuple(sections))
    return found


def _folder() -> Path:
    here = Path(__file__).resolve().parents[1]
    for folder in (here / "science", here.parents[1] / "docs" / "science"):
        if folder.is_dir():
            return folder
    raise ConfigurationError(f"the chapters of the science are neither in {here} nor beside it; reinstall modescape")


@router.get("/science")
def definitions(request: Request, here: Here) -> Response:
    return render(request, here, "science.html", chapters=chapters().values(), chapter=None)


@router.get("/science/{letter}")
def chapter_page(request: Request, here: Here, letter: str) -> Response:
    known = chapters()
    if letter not in known:
        raise NotFound(f"there is no chapter {letter[:40]!r}; there are {', '.join(known)}")
    return render(request, here, "science.html", chapters=known.values(), chapter=known[letter])
