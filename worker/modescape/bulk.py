"""The same done to many experiments: those that are named, or all that a line of the search box finds.

    act(laboratory, BulkDeed(BulkAction.CHANGE, tag=("paper",)), matching(laboratory.store, [("q", "accuracy>0.9")]))

Each is done by itself: what cannot be done to one is told, and the others are done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from modescape import asking
from modescape.columns import EXPERIMENTS
from modescape.errors import Conflict, Forbidden, InvalidInput, NotFound
from modescape.laboratory import Laboratory, purge
from modescape.records import BulkAction, BulkDeed, BulkDone
from modescape.store import Store
from modescape.store.creating import checked_new_tags, checked_project

MOST = 1000  # experiments at once
_PAGE = 500


def matching(store: Store, query: Sequence[tuple[str, str]]) -> list[str]:
    """Slugs of all that a query string finds. Raises InvalidInput, for more than MOST too."""
    return list(_slugs(store, asking.read(EXPERIMENTS, query)))


def _slugs(store: Store, asked: asking.Asked) -> Iterator[str]:
    cursor: str | None = None
    while True:
        page = store.experiments.page(replace(asked.query, cursor=cursor, limit=_PAGE))
        if page.total > MOST:
            raise InvalidInput(f"finds {page.total:,} experiments", field="q", allowed=f"at most {MOST:,} at once")
        yield from (row.slug for row in page)
        if (cursor := page.next) is None:
            return


def would(laboratory: Laboratory, slugs: Sequence[str]) -> BulkDone:
    """Which these are, and what purging them would free; nothing is done. Raises NotFound."""
    return BulkDone(list(slugs), freed=laboratory.store.experiments.bytes_of(*slugs))


def act(laboratory: Laboratory, deed: BulkDeed, slugs: Sequence[str]) -> BulkDone:
    """Raises InvalidInput for a change that changes nothing, or that can be made to none."""
    deed.check()
    checked_new_tags(deed.tag)
    checked_project(deed.project or "")
    experiments = laboratory.store.experiments
    of_one: dict[BulkAction, Callable[[str], Any]] = {
        BulkAction.CHANGE: lambda slug: experiments.patch(slug, tag=deed.tag, untag=deed.untag, project=deed.project),
        BulkAction.ARCHIVE: experiments.archive,
        BulkAction.RESTORE: experiments.restore,
        BulkAction.PURGE: lambda slug: purge(laboratory, slug),
    }
    done = BulkDone()
    for slug in dict.fromkeys(slugs):
        try:
            freed = of_one[deed.action](slug)
            done.done.append(slug)
            done.freed += freed if deed.action is BulkAction.PURGE else 0
        except (Conflict, Forbidden, NotFound, InvalidInput) as error:
            done.failed[slug] = str(error)
            done.forbidden += isinstance(error, Forbidden)
    return done
