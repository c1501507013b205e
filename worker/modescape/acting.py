"""In whose name a thread or a request changes things, and what that one may do.

    with acting(Actor("ada", UserRole.RESEARCHER)):
        store.experiments.cancel("x")          # Forbidden, unless ada launched it

The store asks `actor()` at every change that users ask for, and keeps the answer with it. Where nobody else is served
(a notebook, the command line, a worker) it is the account of this machine that the process runs under, which may do
everything: what it changes are its own files. In a server it is nobody, unless somebody is known to ask.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from modescape.errors import Forbidden


class UserRole(StrEnum):
    """What an account may do, each more than the one before: read everything; launch, and change what is its own;
    everything."""

    VIEWER = "viewer"
    RESEARCHER = "researcher"
    ADMIN = "admin"

    def reaches(self, other: UserRole) -> bool:
        order = list(UserRole)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True)
class Actor:
    """name: by which what it made is known as its own; address: from where it asks, "" from this process; token: id of
    the user's token by which it came, or by which its browser signed in."""

    name: str
    role: UserRole
    address: str = ""
    token: str | None = None

    def may(self, role: UserRole) -> bool:
        return self.role.reaches(role)

    def owns(self, made_by: str) -> bool:
        """Whether it may change what that one made: a researcher its own, an admin everything."""
        return self.may(UserRole.ADMIN) or (self.may(UserRole.RESEARCHER) and made_by == self.name)

    def check(self, role: UserRole, what: str) -> None:
        """Raises Forbidden unless it has that role at least."""
        if not self.may(role):
            article = "an" if role is UserRole.ADMIN else "a"
            raise Forbidden(f"{what} is for {article} {role}; {self.name} is a {self.role}")

    def check_owner(self, made_by: str, what: str) -> None:
        """Raises Forbidden unless `owns`."""
        self.check(UserRole.RESEARCHER, f"changing {what}")
        if not self.owns(made_by):
            whose = f"{made_by} made it" if made_by else "nobody is known to have made it"
            raise Forbidden(f"{what} is not yours to change: {whose}; an admin may, and anybody may clone it")


NOBODY = Actor("nobody", UserRole.VIEWER)
_ACTOR: ContextVar[Actor | None] = ContextVar("actor", default=None)
_serves_others = False


def actor() -> Actor:
    """Who asks here and now."""
    return _ACTOR.get() or (NOBODY if _serves_others else Actor(account(), UserRole.ADMIN))


def serve_others() -> None:
    """From now on this process does nothing in the name of its own account, unless that is told to ask."""
    global _serves_others
    _serves_others = True


def own(key: str) -> str:
    """As a request's key is kept: of everybody who asks another. No name holds a colon."""
    return f"{actor().name}:{key}"


@contextmanager
def acting(one: Actor) -> Iterator[None]:
    """Everything inside is done in the name of that one; threads that are started inside do not take it along."""
    before = _ACTOR.set(one)
    try:
        yield
    finally:
        _ACTOR.reset(before)


@lru_cache
def account() -> str:
    """The name of the account of this machine that runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's account needs no name
        return f"uid {os.getuid()}"
