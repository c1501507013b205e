"""What is forgotten after a while, so that a laboratory runs for years: done by every worker now and then, and harmless
when several do it at once.

    tidied = tidy(laboratory)          # {"events": 1200, "workers": 3, "archived": 1, …}, of what there was to forget

How long things stay is in the settings (`MODESCAPE_KEEP_…`). Results are never touched, but for experiments that were
archived longer ago than the operator keeps them.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

from modescape.acting import Actor, UserRole, acting
from modescape.errors import Conflict, NotFound
from modescape.laboratory import Laboratory, purge
from modescape.users import RETENTION

_ACTOR = Actor(RETENTION, UserRole.ADMIN)
AT_ONCE = 20  # experiments: a purge deletes files


def tidy(laboratory: Laboratory) -> dict[str, int]:
    """Forget what is older than the settings keep it; how many of each."""
    store, settings = laboratory.store, laboratory.settings
    found = {"events": store.events.prune(settings.keep_events)}
    if days := settings.keep_days:
        found["workers"] = store.workers.forget(timedelta(days=days))
        found["requests"] = store.experiments.forget_requests(timedelta(days=days))
    if days := settings.keep_selections_days:
        found["selections"] = store.results.forget_selections(timedelta(days=days))
    if days := settings.keep_deeds_days:
        found["deeds"] = store.deeds.forget(timedelta(days=days))
    if days := settings.keep_archived_days:
        found["archived"] = _purge(laboratory, timedelta(days=days))
    return {name: count for name, count in found.items() if count}


def _purge(laboratory: Laboratory, age: timedelta) -> int:
    count = 0
    for id_ in laboratory.store.experiments.archived_before(age, limit=AT_ONCE):
        with suppress(NotFound, Conflict), acting(_ACTOR):  # another worker was first, or somebody restored it
            purge(laboratory, id_)
            count += 1
    return count
