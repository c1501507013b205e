"""What was done to many a moment ago: told once on the list that one comes back to, with a button that undoes it.

It waits in a cookie of a minute, for the answer to the form is a redirect.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastapi import Request, Response
from pydantic import TypeAdapter, ValidationError

from modescape.names import folded
from modescape.records import BulkAction, BulkDeed
from modescape.tables import Experiment
from modescape_api.http.identity import TOLD_COOKIE

MOST_UNDONE = 100  # experiments, whose names fit a cookie
_SECONDS = 60
_LONGEST = 3500  # characters of a cookie (http.security)


@dataclass(frozen=True)
class Undo:
    """The form that undoes it: what is posted to /change, /archive or /restore."""

    action: BulkAction
    slugs: tuple[str, ...]
    tag: tuple[str, ...] = ()
    untag: tuple[str, ...] = ()


@dataclass(frozen=True)
class Told:
    words: str
    undo: Undo | None = None


_TOLD = TypeAdapter(Told)


def of(asked: BulkDeed, done: Sequence[str], before: Mapping[str, Experiment]) -> Told:
    """What to say of a deed. before: how the experiments were, empty where they are too many to be undone."""
    rows = [before[slug] for slug in done if slug in before]
    if asked.action is BulkAction.CHANGE:
        return _changed(asked, len(done), rows)
    is_archive = asked.action is BulkAction.ARCHIVE
    moved = [row for row in rows if (row.archived_at is None) == is_archive]
    # What was stopped by archiving goes on by itself by no undoing.
    is_simple = bool(moved) and all(row.status.has_ended for row in moved)
    back = BulkAction.RESTORE if is_archive else BulkAction.ARCHIVE
    return Told(
        f"{_experiments(len(done))} {'archived' if is_archive else 'restored'}.",
        Undo(back, tuple(row.slug for row in moved)) if is_simple else None,
    )


def _changed(asked: BulkDeed, n: int, rows: Sequence[Experiment]) -> Told:
    said = [f"tagged {_quoted(asked.tag)}"] if asked.tag else []
    said += [f"without the tag{'s' * (len(asked.untag) > 1)} {_quoted(asked.untag)}"] if asked.untag else []
    if asked.project is not None:
        said.append(f"in the project {_quoted([asked.project])}" if asked.project else "in no project")
        return Told(f"{_experiments(n)} {' and '.join(said)}.")
    changes = {row.slug: _tags_of(asked, row.tags) for row in rows}
    changed = {slug: change for slug, change in changes.items() if change != ((), ())}
    if rows and not changed:
        return Told(f"Nothing changed: {_experiments(n)} {'was' if n == 1 else 'were'} {' and '.join(said)} already.")
    beside = f"; {n - len(changed)} of them had that already" if rows and len(changed) < n else ""
    undo = None
    if len(set(changed.values())) == 1:
        [(added, gone)] = set(changed.values())
        undo = Undo(BulkAction.CHANGE, tuple(changed), tag=gone, untag=added)
    return Told(f"{_experiments(n)} {' and '.join(said)}{beside}.", undo)


def _tags_of(asked: BulkDeed, tags: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Those that an experiment gets, and those that it loses."""
    had, untag = {folded(one) for one in tags}, {folded(one) for one in asked.untag}
    added = tuple(one for one in asked.tag if folded(one) not in had)
    again = {folded(one) for one in asked.tag}
    return added, tuple(one for one in tags if folded(one) in untag - again)


def _experiments(n: int) -> str:
    return f"{n:,} experiment{'' if n == 1 else 's'}".replace(",", "\u202f")


def _quoted(words: Sequence[str]) -> str:
    return ", ".join(f"“{one}”" for one in words)


def tell(request: Request, answer: Response, told: Told) -> None:
    """To be read by whoever is led on by the answer."""
    kept = _packed(told)
    if len(kept) > _LONGEST:
        kept = _packed(Told(told.words))
    if len(kept) <= _LONGEST:
        answer.set_cookie(
            TOLD_COOKIE, kept, _SECONDS, httponly=True, samesite="lax", secure=request.url.scheme == "https"
        )  # fmt: skip


def _packed(told: Told) -> str:
    """Of letters that a cookie has without quotes."""
    return base64.urlsafe_b64encode(_TOLD.dump_json(told)).decode().rstrip("=")


def waiting(request: Request) -> Told | None:
    """What waits to be told to a browser; what is none of ours is left alone."""
    kept = request.cookies.get(TOLD_COOKIE)
    if not kept or _is_script(request):
        return None
    try:
        return _TOLD.validate_json(base64.urlsafe_b64decode(kept + "=="))
    except (ValidationError, ValueError):
        return None


def forget(request: Request, answer: Response) -> None:
    if TOLD_COOKIE in request.cookies and not _is_script(request):
        answer.delete_cookie(TOLD_COOKIE, httponly=True, samesite="lax")


def _is_script(request: Request) -> bool:
    """live.js, of the page that is being left or of another tab, which shows no message."""
    return request.headers.get("accept") == "text/html"
