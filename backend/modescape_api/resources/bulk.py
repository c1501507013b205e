"""The same done to many experiments: those that are named, or all that a line of the search box finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import Field

from modescape import asking
from modescape.columns import EXPERIMENTS
from modescape.errors import Conflict, Forbidden, InvalidInput, NotFound
from modescape.laboratory import purge
from modescape.records import Json
from modescape.searching import LONGEST
from modescape_api.http import problems, replies
from modescape_api.http.bodies import Body, Project, Tag, body, documented
from modescape_api.http.site import Here, Site
from modescape_api.resources.examples import Example, answers

router = APIRouter(tags=["experiments"])

MOST = 1000  # experiments at once
_PAGE = 500


class BulkAction(StrEnum):
    """What can be done to many."""

    CHANGE = "change"  # tags and project
    ARCHIVE = "archive"
    RESTORE = "restore"
    PURGE = "purge"


class Bulk(Body):
    """Which experiments, and what is to be done to each."""

    action: BulkAction = Field(description="change (tags, project), archive, restore or purge.")
    experiments: tuple[str, ...] = Field((), max_length=MOST, description="Slugs or ids.")
    q: str | None = Field(
        None, max_length=LONGEST, description="Instead: all that this line of the search box finds, at most "
        f"{MOST:,}. Archived ones only where it asks for them.",
    )  # fmt: skip
    tag: tuple[Tag, ...] = Field((), max_length=20, description="Tags to add.")
    untag: tuple[Tag, ...] = Field((), max_length=20, description="Tags to take away.")
    project: Project | None = Field(None, description="A project to put them into; empty takes them out of theirs.")
    dry: bool = Field(False, description="Only say which these are and what it would free.")


@dataclass
class Done:
    """done: slugs; failed: why not, by slug; forbidden: how many of them are somebody else's; freed: bytes."""

    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    forbidden: int = 0
    freed: int = 0

    def document(self) -> Json:
        failed = [{"slug": slug, "why": why} for slug, why in self.failed.items()]
        return {"done": self.done, "failed": failed, "freed_bytes": self.freed}


def matching(here: Site, query: Sequence[tuple[str, str]]) -> list[str]:
    """Slugs of all that a query string finds. Raises InvalidInput, for more than MOST too."""
    asked = asking.read(EXPERIMENTS, query)
    return list(_slugs(here, asked))


def _slugs(here: Site, asked: asking.Asked) -> Iterator[str]:
    cursor: str | None = None
    while True:
        page = here.store.experiments.page(replace(asked.query, cursor=cursor, limit=_PAGE))
        if page.total > MOST:
            raise InvalidInput(f"finds {page.total:,} experiments", field="q", allowed=f"at most {MOST:,} at once")
        yield from (row.slug for row in page)
        if (cursor := page.next) is None:
            return


def act(here: Site, asked: Bulk, slugs: Sequence[str]) -> Done:
    """Each by itself: what cannot be done to one is told, and the others are done."""
    if asked.action is BulkAction.CHANGE and not (asked.tag or asked.untag or asked.project is not None):
        raise InvalidInput("nothing to change is named", field="tag", allowed="tag, untag or project")
    of_one: dict[BulkAction, Callable[[str], Any]] = {
        BulkAction.CHANGE: lambda slug: here.store.experiments.patch(
            slug, tag=asked.tag, untag=asked.untag, project=asked.project
        ),
        BulkAction.ARCHIVE: here.store.experiments.archive,
        BulkAction.RESTORE: here.store.experiments.restore,
        BulkAction.PURGE: lambda slug: purge(here.laboratory, slug),
    }
    done = Done()
    for slug in dict.fromkeys(slugs):
        try:
            freed = of_one[asked.action](slug)
            done.done.append(slug)
            done.freed += freed if asked.action is BulkAction.PURGE else 0
        except (Conflict, Forbidden, NotFound, InvalidInput) as error:
            done.failed[slug] = str(error)
            done.forbidden += isinstance(error, Forbidden)
    return done


@router.post(
    "/api/bulk",
    summary="Change, archive, restore or purge many experiments",
    description="Each is done by itself: what cannot be done to one is told in `failed`, and the others are done. With "
    "`dry` nothing is done, and `freed_bytes` is what a purge would free.",
    openapi_extra=documented(Bulk, Example("ask-bulk")),
    responses={
        **answers("What was done", "bulk", "malformed", "forbidden", "not-found", "too-large", "wrong-media-type"),
        **problems.documented("invalid-input"),
    },
)
def bulk(here: Here, asked: Annotated[Bulk, body(Bulk)]) -> Response:
    if (asked.q is None) == (not asked.experiments):
        raise InvalidInput("say which", field="experiments", allowed="either `experiments` or `q`")
    slugs = matching(here, [("q", asked.q)]) if asked.q is not None else list(asked.experiments)
    if asked.dry:
        return replies.json(Done(slugs, freed=here.store.experiments.bytes_of(*slugs)).document())
    return replies.json(act(here, asked, slugs).document())
