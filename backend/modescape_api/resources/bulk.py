"""The same done to many experiments over HTTP (`modescape.bulk`)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import Field

from modescape.bulk import MOST, act, matching, would
from modescape.errors import InvalidInput
from modescape.records import BulkAction, BulkDeed
from modescape.searching import LONGEST
from modescape_api.http import problems, replies
from modescape_api.http.bodies import Body, Project, Tag, body, documented
from modescape_api.http.site import Here
from modescape_api.resources.examples import Example, answers

router = APIRouter(tags=["experiments"])


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

    @property
    def deed(self) -> BulkDeed:
        return BulkDeed(self.action, self.tag, self.untag, self.project)


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
    slugs = matching(here.store, [("q", asked.q)]) if asked.q is not None else list(asked.experiments)
    done = would(here.laboratory, slugs) if asked.dry else act(here.laboratory, asked.deed, slugs)
    return replies.json(done.document())
