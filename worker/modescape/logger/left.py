"""Spools that a process has left behind: what is in them, and how they go where they were to go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from modescape.errors import Conflict, ModescapeError, NotFound
from modescape.logger.bringing import bring
from modescape.logger.delivery import Delivery
from modescape.logger.spool import Spool, spools
from modescape.sending import ServerDoor
from modescape.settings import Settings


def left(settings: Settings, ids: Sequence[str] = ()) -> Iterator[str]:
    """A line of each. Raises NotFound."""
    for spool in _named(settings, ids):
        members = spool.members
        done, where = sum(one.is_done for one in members), spool.about.server or f"the home {spool.about.home}"
        rest = len(members) - done
        unfinished = f", {rest} unfinished" if rest else ""
        yield (
            f"{spool.id}  {spool.about.name}: {done} members{unfinished}, {spool.size / 1e6:,.1f} MB, to {where}"
            f"{'' if _is_free(spool) else ' (its process is running, and sends it)'}"
        )


def forget(settings: Settings, ids: Sequence[str]) -> Iterator[str]:
    """Raises NotFound, Conflict for one that a process holds."""
    for spool in _named(settings, ids):
        with spool.held():
            spool.forget()
        yield f"forgot {spool.about.name} ({spool.id})"


def send(settings: Settings, ids: Sequence[str], token: str | None, tell: Callable[[str], None]) -> bool:
    """Send those that no running process holds; whether all of them are where they were to go, and so no longer here.
    What ended early is not sealed. Raises NotFound."""
    whole = True
    for spool in _named(settings, ids):
        try:
            spool.hold()
        except Conflict as held:
            tell(f"{held}")
            whole = whole and not ids
            continue
        try:
            _send(spool, settings, token, tell)
            spool.forget()
        except ModescapeError as refused:
            tell(f"{spool.about.name} ({spool.id}) stays: {refused}")
            whole = False
        finally:
            spool.release()
    return whole


def _send(spool: Spool, settings: Settings, token: str | None, tell: Callable[[str], None]) -> None:
    if spool.about.server is not None:
        shown = token or settings.token_for(spool.about.server)
        Delivery(spool, ServerDoor(spool.about.server, shown, tell=tell, patience=60.0), tell).run(is_last=True)
        tell(f"{spool.about.name} ({spool.id}) is at {spool.about.server}")
        return
    home = Path(spool.about.home or settings.home)
    lab = bring(spool, settings if home == settings.home else Settings(home=home), progress=True)
    tell(f"{spool.about.name} ({spool.id}): {lab.sentence()}")


def _named(settings: Settings, ids: Sequence[str]) -> list[Spool]:
    found = spools(settings.spool_folder)
    if unknown := set(ids) - {one.id for one in found}:
        raise NotFound(
            f"there is no spool {', '.join(sorted(unknown))}; there are {', '.join(s.id for s in found) or 'none'}"
        )
    return [one for one in found if not ids or one.id in ids]


def _is_free(spool: Spool) -> bool:
    try:
        with spool.held():
            return True
    except Conflict:
        return False
