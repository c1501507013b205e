"""`modescape users` and `modescape tokens`: who may come in to the server of this home, by whoever owns its files."""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from modescape import users
from modescape.acting import UserRole
from modescape.errors import InvalidInput

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from modescape.settings import Settings
    from modescape.store import Store

    Command = Callable[[Settings, argparse.Namespace], int]

DAYS = 90.0


def add_to(command: Callable[[str, Command, str], ArgumentParser]) -> None:
    people = command("users", change_users, "list who may sign in; add, change or remove somebody; link: sign in once")
    actions = ("list", "add", "change", "password", "remove", "link")
    people.add_argument("action", nargs="?", default="list", choices=actions)
    people.add_argument("name", nargs="?", help="who")
    people.add_argument("--role", choices=[str(role) for role in UserRole], help="what they may do; researcher if new")
    people.add_argument("--admin", action="store_const", const="admin", dest="role", help="short for --role admin")
    people.add_argument("--disabled", choices=("yes", "no"), help="whether they are kept out")
    people.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
    people.add_argument("--no-password", action="store_true", help="of a new user: comes in by tokens alone")
    tokens = command("tokens", _tokens, "list tokens of programs; make or revoke one")
    tokens.add_argument("action", nargs="?", default="list", choices=("list", "add", "revoke"))
    tokens.add_argument("user", nargs="?", help="whose; of revoke: the token's id")
    tokens.add_argument("--name", default="command line", help="what a new one is for")
    tokens.add_argument("--days", type=float, default=DAYS, help=f"how long it holds ({DAYS:.0f}); 0: until revoked")


def _store(settings: Settings, *, new: bool = False) -> Store:
    from modescape.database import check_schema, upgrade
    from modescape.store import Store

    if new:  # the first admin is added before a server ever ran
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        upgrade(settings.database)
    check_schema(settings.database)
    return Store(settings.database)


def change_users(settings: Settings, parsed: argparse.Namespace) -> int:
    store = _store(settings, new=parsed.action == "add")
    if parsed.action == "list":
        for row in store.users.all():
            how = "password" if row.password else "tokens alone"
            print(f"{row.name:30} {row.role:10} {how:12} {'kept out' if row.disabled else ''}".rstrip())
        return 0
    if parsed.action == "link":
        print(f"{_address(settings)}/signin?code={store.users.new_code()}")
        return 0
    if not parsed.name:
        raise InvalidInput("who?", field="name", allowed="as `modescape users` lists them")
    if parsed.action == "add":
        name = users.checked_name(parsed.name)
        kept = None if parsed.no_password else users.hash_password(_password(name, parsed))
        row = store.users.add(name, UserRole(parsed.role or UserRole.RESEARCHER), kept)
        print(f"{row.name} may sign in as {row.role}" if kept else f"{row.name} is a {row.role}; make a token")
    elif parsed.action == "change":
        if parsed.role is None and parsed.disabled is None:
            raise InvalidInput("what?", field="change", allowed="--role ROLE, --disabled yes or no")
        role = None if parsed.role is None else UserRole(parsed.role)
        row = store.users.change(
            parsed.name, role=role, disabled=None if parsed.disabled is None else parsed.disabled == "yes"
        )
        print(f"{row.name} is a {row.role}{', kept out' if row.disabled else ''}; browsers have to sign in again")
    elif parsed.action == "password":
        row = store.users.get(parsed.name)
        store.users.change(row.name, password=users.hash_password(_password(row.name, parsed)))
        print(f"{row.name} has a new password; browsers have to sign in again")
    else:
        store.users.remove(parsed.name)
        print(f"{parsed.name} is removed; what they made stays")
    return 0


def _address(settings: Settings) -> str:
    """Where the server of this home is found: where people open it, as it said when it was started, or by settings."""
    if settings.public_url:
        return settings.public_url.rstrip("/")
    try:
        return (settings.home / "url").read_text(encoding="utf-8").strip() or settings.url
    except FileNotFoundError:
        return settings.url


def _password(name: str, parsed: argparse.Namespace) -> str:
    """From standard input, or asked for twice on a terminal; never from the arguments, which others can list."""
    if parsed.password_stdin:
        return users.checked_password(sys.stdin.readline().rstrip("\r\n"), name)
    if not sys.stdin.isatty():
        raise InvalidInput("there is no terminal to ask for it", field="password", allowed="--password-stdin")
    given = users.checked_password(getpass.getpass(f"Password of {name}: "), name)
    if getpass.getpass("Once more: ") != given:
        raise InvalidInput("is not the same twice", field="password", allowed="the same again")
    return given


def _tokens(settings: Settings, parsed: argparse.Namespace) -> int:
    store = _store(settings)
    if parsed.action == "list":
        for token, row in store.users.tokens(parsed.user):
            ends = f"until {token.expires_at:%Y-%m-%d}" if token.expires_at else "until revoked"
            used = f"used {token.used_at:%Y-%m-%d %H:%M}" if token.used_at else "never used"
            print(f"{token.id}  {row.name:20} {token.name:20} {ends:16} {used}")
        return 0
    if not parsed.user:
        raise InvalidInput("is needed", field="user", allowed="a user's name; of revoke, a token's id")
    if parsed.action == "add":
        if not (parsed.days == 0 or 0 < parsed.days <= users.LONGEST_DAYS):
            allowed = f"more than 0, at most {users.LONGEST_DAYS}; 0: until revoked"
            raise InvalidInput(f"is {parsed.days:g}", field="days", allowed=allowed)
        secret = users.new_secret(users.TOKEN_PREFIX)
        lifetime = timedelta(days=parsed.days) if parsed.days else None
        store.users.add_token(parsed.user, parsed.name, users.digest(secret), lifetime)
        print(secret)
    else:
        store.users.revoke(parsed.user)
        print("it holds no longer")
    return 0
