"""Names that somebody may have meant, and objects that offer them for attributes they do not have."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING, NoReturn

from modescape.errors import NotFound

_SHOWN = 24  # of what is allowed, in one message


def unknown(what: str, name: str, known: Iterable[str], *, noun: str = "") -> str:
    """ "there is no figure 'plain'; did you mean plane? There are plane, tunnel, ..." """
    names = list(dict.fromkeys(known))
    near = get_close_matches(name.lower(), [one.lower() for one in names], n=3, cutoff=0.6)
    meant = [one for one in names if one.lower() in near]
    ask = f"; did you mean {' or '.join(meant)}?" if meant else "."
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    there = f" There are {', '.join(names[:_SHOWN])}{rest}." if names else f" There is no {noun or what} yet."
    return f"there is no {what} {name[:80]!r}{ask}{there}"


def raise_unknown(what: str, name: str, known: Iterable[str]) -> NoReturn:
    """Raises NotFound."""
    raise NotFound(unknown(what, name, known))


class Suggesting:
    """Shows its public names only, and for another attribute says which were near."""

    def __dir__(self) -> list[str]:
        return [name for name in object.__dir__(self) if not name.startswith("_")]

    if not TYPE_CHECKING:  # for a type checker only what is declared is there

        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("_"):  # what copying, displaying and the like look for
                raise AttributeError(name)
            raise AttributeError(unknown(f"{type(self).__name__.lower()} attribute", name, dir(self)))
