"""Who may do what: people, programs, and the accounts of this machine; over real sockets, on both databases."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import re
import socket
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import argon2
import httpx
import numpy as np
import pytest
from fastapi.routing import APIRoute
from ports import free_port
from serving import SPEC, Served, served, work
from sqlalchemy import func, select, text

from modescape import logs, neighbours, users
from modescape.acting import Actor, UserRole, account, acting, actor
from modescape.apart import Asked
from modescape.cli import main
from modescape.database import downgrade, open_database, upgrade
from modescape.errors import ConfigurationError, Conflict, Forbidden, InvalidInput, NotFound
from modescape.gathering import About, Intake, SentFile
from modescape.laboratory import Laboratory
from modescape.records import ArtifactInfo, PlannedStage
from modescape.settings import Settings
from modescape.store import Store
from modescape.tables import Experiment, SignInFailure, User
from modescape_api.app import create_app
from modescape_api.http import identity
from modescape_api.resources import events

TOKEN = "a-secret-of-many-characters"
PASSWORDS = {name: f"{name} has a long password" for name in ("ada", "bob", "carol", "vera")}
ROLES = {"ada": UserRole.ADMIN, "bob": UserRole.RESEARCHER, "carol": UserRole.RESEARCHER, "vera": UserRole.VIEWER}
PAGE = {"Accept": "text/html"}


def add_users(store: Store) -> dict[str, str]:
    """Everybody of ROLES, with a password; a token of each."""
    tokens = {}
    for name, role in ROLES.items():
        store.users.add(name, role, users.hash_password(PASSWORDS[name]))
        tokens[name] = users.new_secret(users.TOKEN_PREFIX)
        store.users.add_token(name, "test", users.digest(tokens[name]), timedelta(days=1))
    return tokens


class Lab:
    """A server that asks who one is, and a client for each user."""

    def __init__(self, site: Served) -> None:
        self.site = site
        self.store = site.laboratory.store
        self.tokens = add_users(self.store)

    def client(self, name: str | None, **options: Any) -> httpx.Client:
        headers = {} if name is None else {"Authorization": f"Bearer {self.tokens.get(name, name)}"}
        return self.site.client(headers={**headers, **options.pop("headers", {})}, **options)

    def asked(self, name: str | None, method: str, path: str, **more: Any) -> httpx.Response:
        with self.client(name) as client:
            return client.request(method, path, **more)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with served(tmp_path_factory.mktemp("lab"), token=TOKEN) as site:
        yield Lab(site)


# -- rules ------------------------------------------------------------------------------------------------------------


def test_passwords_are_kept_as_argon2id_with_the_parameters_that_are_promised() -> None:
    kept = users.hash_password("correct horse battery")
    about = argon2.extract_parameters(kept)
    assert (about.type, about.memory_cost, about.time_cost, about.parallelism) == (argon2.Type.ID, 19456, 2, 1)
    assert kept != users.hash_password("correct horse battery"), "a salt of its own each time"
    assert users.password_holds("correct horse battery", kept)
    assert not users.password_holds("correct horse batter", kept)
    assert not users.password_holds("\ud800" * 12, kept)
    assert not users.password_holds("", None), "nobody has no password"


@pytest.mark.parametrize("password", ["", "eleven char", "x" * 1001, "Ada.Lovelace", "\ud800" * 12])
def test_a_password_that_is_short_or_the_name_is_refused(password: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        users.checked_password(password, "ada.lovelace")
    assert refused.value.field == "password"


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "a b",
        "a/b",
        "operator",
        "Operator",
        "a\u202eb",
        "x" * 65,
        "<b>",
        "retention",
        "Nobody",
        "..",
        ".x",
        account(),
    ],
)
def test_names_that_could_be_taken_for_something_else_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        users.checked_name(name)
    assert refused.value.field == "name"


@pytest.mark.parametrize("name", ["ada", "josé", "ada.lovelace@lab.example", "李"])
def test_names_of_all_scripts_are_taken(name: str) -> None:
    assert users.checked_name(name) == name


def test_who_fails_waits_twice_as_long_each_time_and_never_for_good() -> None:
    waits = [users.wait_after("user ada", count) for count in range(100)]
    assert waits[:11] == [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 30]
    assert max(waits) == 30
    waits = [users.wait_after("address 192.0.2.7", count) for count in range(1000)]
    assert (waits[19], waits[20], waits[25], max(waits)) == (0, 1, 32, 900)


def test_addresses_of_one_network_of_ipv6_are_one() -> None:
    assert users.of_address("2001:db8::1") == users.of_address("2001:db8::ffff:1") != users.of_address("2001:db8:0:1::")
    assert users.of_address("192.0.2.7") != users.of_address("192.0.2.8")
    assert users.of_address("::ffff:192.0.2.7") == users.of_address("192.0.2.7")


def test_the_key_of_a_home_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    assert users.home_key(tmp_path) is None
    found: list[str | None] = []
    threads = [threading.Thread(target=lambda: found.append(users.home_key(tmp_path, make=True))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert users.home_key(tmp_path) == users.home_key(tmp_path, make=True) == found[0]
    assert len(found[0] or "") >= 43, "256 bits"
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["key"], "nothing is left beside it"
    (tmp_path / "key").write_text("short\n")
    with pytest.raises(ConfigurationError, match="no key of ours"):
        users.home_key(tmp_path, make=True)


# -- what the store lets whom do --------------------------------------------------------------------------------------


@contextmanager
def by(name: str) -> Iterator[None]:
    with acting(Actor(name, ROLES[name], "192.0.2.7")):
        yield


def test_what_a_researcher_made_is_theirs_and_admins_everything(store: Store) -> None:
    from modescape.testing.stores import create

    with by("bob"):
        row = create(store, name="Bob's")
    assert row.created_by == "bob"
    verbs = [
        lambda: store.experiments.patch(row.id, notes="n"),
        lambda: store.experiments.pause(row.id),
        lambda: store.experiments.resume(row.id),
        lambda: store.experiments.cancel(row.id),
        lambda: store.experiments.retry(row.id),
        lambda: store.experiments.archive(row.id),
        lambda: store.experiments.restore(row.id),
    ]
    for verb in verbs:
        for other in ("carol", "vera"):
            with by(other), pytest.raises(Forbidden, match=r"bob made it|vera is a viewer"):
                verb()
        with by("bob"):
            verb()
    with by("ada"):
        store.experiments.archive(row.id)
    with by("carol"), pytest.raises(Forbidden):
        store.experiments.purge(row.id)
    with by("bob"):
        store.experiments.purge(row.id)
    told = [(deed.who, deed.role, deed.verb, deed.kind, deed.name) for deed in reversed(store.deeds.page())]
    did = ["launch", "change", "pause", "resume", "cancel", "retry", "archive", "restore"]
    assert told == [
        *[("bob", "researcher", verb, "experiment", "Bob's") for verb in did],
        ("ada", "admin", "archive", "experiment", "Bob's"),
        ("bob", "researcher", "purge", "experiment", "Bob's"),
    ]
    assert {deed.address for deed in store.deeds.page()} == {"192.0.2.7"}
    assert [deed.verb for deed in store.deeds.page(who="ada")] == ["archive"]
    assert [deed.verb for deed in store.deeds.page(thing=row.id, limit=2)] == ["purge", "archive"]
    assert len(store.deeds.page(before=store.deeds.page()[-1].id)) == 0


def test_what_is_done_twice_is_told_once(store: Store) -> None:
    from modescape.testing.stores import create

    row = create(store)
    for _ in range(2):
        store.experiments.archive(row.id)
    assert [deed.verb for deed in store.deeds.page()] == ["archive", "launch"]
    assert {deed.who for deed in store.deeds.page()} == {actor().name}


def test_sets_belong_to_who_registered_them(store: Store) -> None:
    place = {"dataset": "folder", "where": "/a"}
    with by("bob"):
        store.own_sets.register("flowers", place)
        store.own_sets.register("flowers", place)  # the same again
    with by("carol"):
        store.own_sets.register("flowers", place)  # as it is already
        with pytest.raises(Forbidden):
            store.own_sets.register("flowers", {"dataset": "folder", "where": "/b"}, replace=True)
        with pytest.raises(Forbidden):
            store.own_sets.unregister("flowers")
    with by("bob"):
        store.own_sets.unregister("flowers")


def test_a_name_for_a_place_is_shown_on_ones_own_experiments_alone(store: Store) -> None:
    from modescape.spec import parse
    from modescape.testing.stores import create

    spec, made = parse({"data": {"dataset": "folder", "path": "/a/pots"}}), {}
    for name in ("bob", "carol"):
        with by(name):
            made[name] = create(store, name, spec=spec).id
    with by("bob"):
        store.own_sets.register("flowers", {"dataset": "folder", "where": "/a/pots"})
    assert {name: store.experiments.get(id_).dataset for name, id_ in made.items()} == {
        "bob": "flowers", "carol": "pots"
    }  # fmt: skip
    with by("bob"):
        store.own_sets.unregister("flowers")
    store.own_sets.register("vases", {"dataset": "folder", "where": "/a/pots"})
    assert {store.experiments.get(id_).dataset for id_ in made.values()} == {"vases"}, "an admin's name is everybody's"


def test_imports_belong_to_who_opened_them(store: Store) -> None:
    with by("bob"):
        row = store.gatherings.open(name="Bob's", planned=2, declared={}, request="r", key=None, kept=())
    assert row.created_by == "bob"
    with by("carol"):
        for verb in (
            lambda: store.gatherings.reopen(row.id, 0, 3),
            lambda: store.gatherings.forget(row.id),
            lambda: store.logged.add(row.id, "m", "b", {}),
        ):
            with pytest.raises(Forbidden):
                verb()
    with by("bob"):
        store.gatherings.forget(row.id)


def test_users_are_added_changed_and_removed_by_admins_and_one_is_always_left(store: Store) -> None:
    add_users(store)
    assert [row.name for row in store.users.all()] == ["ada", "bob", "carol", "vera"]
    with pytest.raises(Conflict, match="'Ada'"):
        store.users.add("Ada", UserRole.VIEWER, None)
    for change in (
        lambda: store.users.change("ada", role=UserRole.VIEWER),
        lambda: store.users.change("ADA", disabled=True),
        lambda: store.users.remove("ada"),
    ):
        with pytest.raises(Conflict, match="nobody would be left"):
            change()
    assert store.users.get("Ada").role is UserRole.ADMIN
    with by("bob"):
        for change in (
            lambda: store.users.change("bob", role=UserRole.ADMIN),
            lambda: store.users.change("bob", disabled=False),
            lambda: store.users.change("carol", password="x"),
            lambda: store.users.remove("bob"),
            lambda: store.users.add("dora", UserRole.VIEWER, None),
            lambda: store.users.add_token("ada", "mine now", "0" * 64, None),
        ):
            with pytest.raises(Forbidden):
                change()
        told = set()
        for change in (
            lambda: store.users.add_token("ghost", "mine now", "0" * 64, None),
            lambda: store.users.add_token("carol", "mine now", "0" * 64, None),
        ):
            with pytest.raises(Forbidden) as refused:
                change()
            told.add(str(refused.value))
        assert len(told) == 1, "who is no admin does not learn who is there"
        for name in ("ghost", "carol"):
            with pytest.raises(Forbidden):
                store.users.change(name, password="x")
        for id_ in (store.users.tokens("ada")[0][0].id, "0" * 36):
            with pytest.raises(NotFound):
                store.users.revoke(id_)
        store.users.change("bob", password=users.hash_password("another password"))
    with pytest.raises(NotFound):
        store.users.get("nobody")
    store.users.remove("carol")
    assert store.users.tokens()
    assert all(row.name != "carol" for _, row in store.users.tokens())


def test_where_no_user_is_an_admin_the_servers_own_token_keeps_people_out(store: Store) -> None:
    for name in ("bob", "carol"):
        store.users.add(name, UserRole.RESEARCHER, users.hash_password(PASSWORDS[name]))
    store.users.change("bob", disabled=True)
    assert store.users.get("bob").disabled
    store.users.change("carol", role=UserRole.VIEWER)
    store.users.change("carol", password="set by an admin")
    with by("carol"):
        store.users.change("carol", password="set by herself")
    carol = store.users.get("carol")
    assert (carol.role, carol.password) == (UserRole.VIEWER, "set by herself")
    store.users.remove("bob")
    assert [row.name for row in store.users.all()] == ["carol"]


def test_people_change_their_own_password_where_the_token_alone_is_an_admin(tmp_path: Path) -> None:
    with served(tmp_path, token=TOKEN) as site:
        site.laboratory.store.users.add("bob", UserRole.RESEARCHER, users.hash_password(PASSWORDS["bob"]))
        asked = {"password": "another long password", "present_password": PASSWORDS["bob"]}
        with site.visitor() as bob:
            assert bob.post("/signin", data={"name": "bob", "password": PASSWORDS["bob"]}).status_code == 303
            assert bob.patch("/api/users/bob", json=asked).status_code == 200
            assert bob.post("/signin", data={"name": "bob", "password": asked["password"]}).status_code == 303
            form = {"present": asked["password"], "password": PASSWORDS["bob"], "again": PASSWORDS["bob"]}
            assert bob.post("/account/password", data=form).status_code == 303
        with site.client(headers={"Authorization": f"Bearer {TOKEN}"}) as admin:
            for change in ({"password": "a third long password"}, {"role": "viewer"}, {"disabled": True}):
                assert admin.patch("/api/users/bob", json=change).status_code == 200
            assert admin.delete("/api/users/bob").status_code == 204


def test_a_name_of_somebody_removed_is_nobodys_again(store: Store) -> None:
    from modescape.testing.stores import create

    add_users(store)
    with by("carol"):
        row = create(store)
    store.users.remove("carol")
    for again in ("carol", "Carol"):
        with pytest.raises(Conflict, match="was removed"):
            store.users.add(again, UserRole.RESEARCHER, None)
    assert store.experiments.get(row.id).created_by == "carol"


def test_the_last_admin_keeps_a_way_in(store: Store) -> None:
    store.users.add("ada", UserRole.ADMIN, None)
    store.users.add("bob", UserRole.RESEARCHER, None)
    assert not store.users.has_admin(), "nobody could sign in"
    token = store.users.add_token("ada", "only", "1" * 64, None)
    assert store.users.has_admin()
    with pytest.raises(Conflict, match="with a password or a token"):
        store.users.revoke(token.id)
    assert store.users.by_token("1" * 64) is not None
    store.users.add("eve", UserRole.ADMIN, None)  # comes in by nothing
    with pytest.raises(Conflict, match="with a password or a token"):
        store.users.remove("ada")
    store.users.add_token("ada", "other", "2" * 64, timedelta(hours=1))
    store.users.revoke(token.id)
    store.users.revoke(store.users.add_token("bob", "his", "3" * 64, None).id)


@pytest.mark.parametrize("lifetime", [None, timedelta(days=90), timedelta(minutes=1)])
def test_a_token_makes_none_that_outlives_it(store: Store, lifetime: timedelta | None) -> None:
    add_users(store)
    parent = store.users.add_token("ada", "brief", "1" * 64, timedelta(hours=1))
    assert parent.expires_at is not None
    with acting(Actor("ada", UserRole.ADMIN, "", parent.id)):
        child = store.users.add_token("ada", "its own", "2" * 64, lifetime)
        other = store.users.add_token("bob", "for bob", "3" * 64, lifetime)
    with acting(Actor("ada", UserRole.ADMIN, "", child.id)):
        grandchild = store.users.add_token("ada", "and its", "4" * 64, lifetime)
    for made in (child, other, grandchild):
        assert made.expires_at is not None
        assert made.expires_at <= parent.expires_at
    store.users.revoke(parent.id)
    assert [store.users.by_token(digit * 64) for digit in "1234"] == [None] * 4, "what was made by it ends with it"
    with acting(Actor("ada", UserRole.ADMIN, "", parent.id)), pytest.raises(Forbidden, match="revoked"):
        store.users.add_token("ada", "late", "5" * 64, None)


def test_keys_of_requests_are_of_who_sent_them(store: Store) -> None:
    from modescape.testing.stores import create

    made = {}
    for name in ("bob", "carol"):
        with by(name):
            about = {"idempotency": ("key", f"request of {name}")}
            opened = {"name": name, "planned": 2, "declared": {}, "request": f"request of {name}", "kept": ()}
            cells = {"name": name, "document": {}, "cells": [], **about}
            first = [create(store, **about), store.gatherings.open(**opened, key="key"), store.sweeps.create(**cells)]
            again = [create(store, **about), store.gatherings.open(**opened, key="key"), store.sweeps.create(**cells)]
        assert [one.id for one in first] == [one.id for one in again]
        made[name] = {one.id for one in first}
    assert not made["bob"] & made["carol"]
    with by("bob"), pytest.raises(Conflict, match="'key' was used for another request"):
        create(store, idempotency=("key", "another request"))


def test_what_was_there_before_is_of_who_made_it(store_url: str) -> None:
    from modescape.testing.stores import create

    def made(store: Store) -> list[str]:
        with by("bob"):
            opened = {"name": "x", "planned": 2, "declared": {}, "request": "r", "kept": ()}
            cells = {"name": "x", "document": {}, "cells": []}
            return [
                create(store, idempotency=("a:b", "r")).id, store.gatherings.open(**opened, key="a:b").id,
                store.sweeps.create(**cells, idempotency=("a:b", "r")).id,
            ]  # fmt: skip

    before = Store(store_url)
    first = made(before)
    for name in ("Carol", "vera"):
        before.users.add(name, UserRole.RESEARCHER, None)
        before.users.remove(name)
    before.close()
    downgrade(store_url, "0018")
    engine = open_database(store_url)
    with engine.begin() as connection:
        assert connection.scalar(text("SELECT key FROM idempotency")) == "a:b"
        connection.execute(text("DELETE FROM deed WHERE name = 'vera'"))
    engine.dispose()
    upgrade(store_url)
    after = Store(store_url)
    assert made(after) == first
    with pytest.raises(Conflict, match="was removed"):
        after.users.add("carol", UserRole.RESEARCHER, None)
    after.users.add("vera", UserRole.RESEARCHER, None)  # nobody remembers
    after.close()


def test_a_server_that_forgets_who_asks_acts_for_nobody() -> None:
    script = (
        "from modescape import acting\nassert acting.actor().role == 'admin'\nacting.serve_others()\n"
        "assert acting.actor() == acting.NOBODY\nwith acting.acting(acting.Actor('bob', acting.UserRole.RESEARCHER)):\n"
        "    assert acting.actor().name == 'bob'"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_two_admins_who_end_each_other_at_once_leave_one(store: Store) -> None:
    for name in ("ada", "eve"):
        store.users.add(name, UserRole.ADMIN, "kept")
    store.users.add("bob", UserRole.RESEARCHER, None)
    begin, refused = threading.Barrier(2), []

    def end(name: str) -> None:
        begin.wait()
        try:
            store.users.change(name, role=UserRole.VIEWER)
        except Conflict as error:
            refused.append(error)

    threads = [threading.Thread(target=end, args=(name,)) for name in ("ada", "eve")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 1
    assert sum(row.role is UserRole.ADMIN for row in store.users.all()) == 1


def test_tokens_hold_until_they_end_are_revoked_or_their_user_is_kept_out(store: Store) -> None:
    tokens = {name: users.digest(secret) for name, secret in add_users(store).items()}

    def holds(name: str) -> bool:
        return store.users.by_token(tokens[name]) is not None

    assert all(map(holds, tokens))
    store.users.add_token("bob", "short", users.digest("short"), timedelta(milliseconds=1))
    time.sleep(0.01)
    assert store.users.by_token(users.digest("short")) is None
    store.users.revoke(next(token.id for token, _ in store.users.tokens("bob") if token.name == "test"))
    store.users.change("carol", disabled=True)
    store.users.remove("vera")
    assert [name for name in tokens if holds(name)] == ["ada"]
    store.users.change("carol", disabled=False)
    assert holds("carol")
    used = store.users.tokens("carol")[0][0].used_at
    assert used is not None
    kept = [digest for digest in tokens.values() if any(digest in str(vars(row)) for row, _ in store.users.tokens())]
    assert len(kept) == 2, "only digests are kept"


def test_browsers_are_signed_out_by_a_new_password_role_and_by_being_kept_out(store: Store) -> None:
    add_users(store)

    def enters(name: str) -> str:
        digest = users.digest(users.new_secret())
        store.users.sign_in(digest, store.users.get(name), "password", "192.0.2.7")
        assert store.users.by_sign_in(digest) is not None
        return digest

    for change in ({"role": UserRole.VIEWER}, {"password": "x"}, {"disabled": True}):
        mine, other = enters("bob"), enters("carol")
        store.users.change("bob", **change)
        assert store.users.by_sign_in(mine) is None
        assert store.users.by_sign_in(other) is not None
        store.users.change("bob", disabled=False)
    mine = enters("bob")
    store.users.sign_out([mine])
    assert store.users.by_sign_in(mine) is None
    token = store.users.add_token("bob", "brief", users.digest("brief"), timedelta(hours=1))
    entered = store.users.sign_in("1" * 64, store.users.get("bob"), "token", "", token=token)
    assert entered.expires_at - entered.created_at <= timedelta(hours=1), "no longer than what let it in"
    store.users.revoke(token.id)
    assert store.users.by_sign_in("1" * 64) is None
    store.users.sign_in("2" * 64, None, "server-token", "")
    store.users.sign_out_by("home-key")
    assert store.users.by_sign_in("2" * 64) is not None
    store.users.sign_out_by("server-token")
    assert store.users.by_sign_in("2" * 64) is None


# -- the accounts of this machine -------------------------------------------------------------------------------------


@contextmanager
def connection(family: socket.AddressFamily, host: str) -> Iterator[tuple[socket.socket, Any, Any]]:
    """A connection to ourselves: the client's socket, and the addresses of both ends as a server is told them."""
    with socket.create_server((host, 0), family=family) as listening:
        client = socket.create_connection(listening.getsockname()[:2])
        taken, theirs = listening.accept()
        with client, taken:
            yield client, theirs[:2], taken.getsockname()[:2]


ENDS = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]


@pytest.mark.parametrize(("family", "host"), ENDS)
def test_the_kernel_says_whose_a_connection_is(
    family: socket.AddressFamily, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connection(family, host) as (client, theirs, ours):
        assert neighbours.owner(theirs, ours) == os.getuid()
        assert neighbours.owner(ours, theirs) == os.getuid(), "the other end is ours as well"
        assert neighbours.owner((theirs[0], theirs[1] ^ 1), ours) is None
        with monkeypatch.context() as patched:  # a kernel that answers no such question
            patched.setattr(neighbours, "_NETLINK_SOCK_DIAG", 31)
            assert neighbours.owner(theirs, ours) == os.getuid()
        client.close()
        assert neighbours.owner(theirs, ours) is None, "who has gone is nobody, and not root"
    assert neighbours.owner(("192.0.2.7", 5), ours) is None
    assert neighbours.owner(None, ours) is None


def test_of_a_socket_for_both_families_the_owner_is_told() -> None:
    with (
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listening,
        socket.create_connection(("127.0.0.1", listening.getsockname()[1])),
    ):
        taken, theirs = listening.accept()
        with taken:
            assert theirs[0].startswith("::ffff:")
            assert neighbours.owner(theirs[:2], taken.getsockname()[:2]) == os.getuid()


def test_accounts_without_a_number_here_are_nobodys() -> None:
    """In a user namespace that maps none, all accounts have one number, that of the process itself too."""
    script = (
        "import os, socket\nfrom modescape import neighbours\nserver = socket.create_server(('127.0.0.1', 0))\n"
        "port = server.getsockname()[1]\nwith socket.create_connection(('127.0.0.1', port)) as line:\n"
        "    taken, theirs = server.accept()\n    ours = taken.getsockname()\n"
        "    assert neighbours._asked(socket.AF_INET, (socket.inet_aton(theirs[0]), theirs[1]), "
        "(socket.inet_aton(ours[0]), ours[1])) == os.getuid()\n"
        "    print(neighbours.owner(theirs, ours), neighbours.is_ours('127.0.0.1', port))"
    )
    asked = ["unshare", "--user", sys.executable, "-c", script]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split() == ["None", "False"]


_ASK = """
import os, socket, sys
os.setuid(int(sys.argv[1]))
for path in sys.argv[3:]:
    with socket.socket() as one:
        one.connect(("127.0.0.1", int(sys.argv[2])))
        one.sendall(f"GET {path} HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\nConnection: close\\r\\n\\r\\n".encode())
        print(one.makefile("rb").readline().split()[1].decode())
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can ask as another account")
def test_another_account_of_the_machine_sees_nothing(tmp_path: Path) -> None:
    paths = ["/api/experiments", "/", "/api/me", "/healthz"]

    def told(site: Served, account: int) -> list[str]:
        asked = [sys.executable, "-I", "-c", _ASK, str(account), str(site.settings.port), *paths]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()

    with served(tmp_path) as site:
        assert told(site, os.getuid()) == ["200"] * 4
        assert told(site, 65534) == ["401"] * 3 + ["200"]
    with served(tmp_path, open=True) as site:
        assert told(site, 65534) == ["200"] * 4


def test_what_comes_through_a_proxy_is_not_taken_for_our_account(tmp_path: Path) -> None:
    with served(tmp_path, allowed_hosts="lab.example.org") as site, site.client() as client:
        assert client.get("/api/me").json()["name"] == actor().name
        for header in ("X-Forwarded-For", "Forwarded", "Via", "X-Real-IP", "X-Forwarded-Host", "X-Forwarded-Proto"):
            assert client.get("/api/me", headers={header: "for=192.0.2.7"}).status_code == 401, header
        assert client.get("/api/me", headers={"Host": "lab.example.org"}).status_code == 401


def test_open_is_refused_beyond_loopback(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="MODESCAPE_OPEN"):
        create_app(Settings(home=tmp_path, host="0.0.0.0", token=TOKEN, open=True))


def test_beyond_loopback_an_admin_is_as_good_as_a_token(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, host="0.0.0.0")
    with pytest.raises(ConfigurationError, match="users add"):
        create_app(settings)
    assert main_in(tmp_path, "users", "add", "ada", "--admin", "--no-password") == 0
    with pytest.raises(ConfigurationError, match="users add"):
        create_app(settings)  # she could not sign in
    assert main_in(tmp_path, "tokens", "add", "ada") == 0
    create_app(settings)


def main_in(home: Path, *arguments: str) -> int:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MODESCAPE_HOME", str(home))
        return main(arguments)


def test_where_the_account_cannot_be_told_the_printed_address_lets_in_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "owner", lambda client, server: None)
    with served(tmp_path) as site:
        key = users.home_key(tmp_path)
        assert key is not None, "made when the server starts"
        code = site.laboratory.store.users.new_code()
        with site.client(headers=PAGE) as client:
            assert client.get("/").headers["location"] == "/signin?next=%2F"
            linked = client.get(f"/signin?code={code}", headers={"Sec-Fetch-Site": "cross-site"})
            assert linked.status_code == 403, "a page of somebody else's signs nobody in"
            wrong = client.get("/signin?code=wrong")
            assert (wrong.status_code, "was opened before" in wrong.text) == (403, True)
            let_in = client.get(f"/signin?code={code}")
            assert (let_in.status_code, let_in.headers["location"]) == (303, "/")
            assert code not in str(let_in.headers)
            assert client.get("/").status_code == 200
            shown = client.get("/account")
            assert "Browsers that are signed in" in shown.text
            assert "Sign out all" not in shown.text, "there is no other"
        with site.client(headers=PAGE) as other:
            assert other.get(f"/signin?code={code}").status_code == 403, "once"
            assert other.get(f"/signin?key={key}").status_code == 200, "the key is in no address"
            assert other.get("/").status_code == 303
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(users, "CODE", timedelta(0))
            late = site.laboratory.store.users.new_code()
        assert not site.laboratory.store.users.take_code(users.digest(late)), "and for a few minutes"
        with site.client(headers={"Authorization": f"Bearer {key}"}) as client:
            assert client.get("/api/me").json() == {
                "name": "operator", "role": "admin", "address": "127.0.0.1", "signed_in": False
            }  # fmt: skip
        (tmp_path / "url").write_text(site.url)
        here = Settings(home=tmp_path)
        assert here.token_for(site.url) == key
        assert here.token_for("http://lab.example.org:8000") is None
        assert here.token_for(site.url.replace(str(site.settings.port), "1")) is None, "another server of this machine"
        (tmp_path / "other").mkdir()
        assert Settings(home=tmp_path / "other").token_for(site.url) is None
    with served(tmp_path) as again, again.client(headers={"Authorization": f"Bearer {key}"}) as client:
        assert client.get("/api/me").status_code == 200, "the same after a restart"


# -- who may ask for what ---------------------------------------------------------------------------------------------

FOR_STRANGERS = {("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/static/{name:path}"), ("GET", "/signin"),
                 ("POST", "/signin"), ("GET", "/s/{secret}")}  # fmt: skip
PLACES = {"experiment": "bobs", "sweep": "x", "user": "bob", "token": "x", "id": "x", "name": "x", "member": "x"}


def routes(site: Served) -> list[tuple[str, str, APIRoute]]:
    """Every method and path template there is."""

    def all_of(some: Any) -> Iterator[APIRoute]:
        for route in some:
            if isinstance(route, APIRoute):
                yield route
            elif hasattr(route, "original_router"):
                yield from all_of(route.original_router.routes)

    return sorted(
        {(method, route.path): (method, route.path, route)
         for route in all_of(site.app.routes) for method in route.methods}.values(), key=lambda one: one[:2],
    )  # fmt: skip


def address(path: str) -> str:
    return re.sub(r"\{(\w+)(:\w+)?\}", lambda found: PLACES.get(found[1], "x"), path)


def test_strangers_are_answered_at_a_few_addresses_alone(lab: Lab) -> None:
    asked = routes(lab.site)
    assert len(asked) > 120
    with lab.client(None, headers={"Origin": lab.site.url}) as client:
        for method, path, _ in asked:
            answer = client.request(method, address(path))
            if (method, path) in FOR_STRANGERS:
                assert answer.status_code != 401, (method, path)
            else:
                assert answer.status_code == 401, (method, path, answer.status_code)
                assert "modescape_" not in answer.text


@pytest.mark.slow
def test_every_address_asks_for_the_role_it_says(lab: Lab) -> None:
    """A viewer changes nothing but what is for viewers, and nobody but an admin sees what is for admins."""
    refused, allowed = set(), set()
    for method, path, route in routes(lab.site):
        if path in ("/api/events", "/api/experiments/{experiment}/events"):
            continue  # they never end
        role = identity.needed(route.endpoint, method)
        for name in ("vera", "bob"):
            if (method, path) in FOR_STRANGERS or path == "/signout":
                continue
            answer = lab.asked(name, method, address(path), headers={"Origin": lab.site.url})
            is_refused = answer.status_code == 403 and f"{method} {address(path)} is for a" in answer.text
            assert is_refused == (not ROLES[name].reaches(role)), (name, method, path, answer.status_code, answer.text)
            (refused if is_refused else allowed).add((name, method, path))
    assert ("vera", "POST", "/api/experiments") in refused
    assert ("vera", "POST", "/api/estimate") in allowed
    assert ("bob", "GET", "/api/users") in refused
    assert ("bob", "POST", "/api/experiments") in allowed
    changing = {(method, path) for _, method, path in refused if method not in identity.SAFE}
    assert len(changing) > 40


def test_an_experiment_is_changed_by_who_made_it_through_every_door(lab: Lab) -> None:
    made = lab.asked("bob", "POST", "/api/experiments", json={"name": "Bobs", "spec": SPEC})
    assert (made.status_code, made.json()["created_by"]) == (201, "bob")
    slug = made.json()["slug"]
    base = f"/api/experiments/{slug}"
    form = {"headers": {**PAGE, "Origin": lab.site.url}}
    for method, path, more in (
        ("PATCH", base, {"json": {"notes": "mine"}}), ("DELETE", base, {}),
        *(("POST", f"{base}/{verb}", {}) for verb in ("cancel", "pause", "resume", "retry")),
    ):  # fmt: skip
        answer = lab.asked("carol", method, path, **more)
        if path.endswith("retry"):
            continue  # there is nothing to retry, whoever asks
        assert answer.status_code == 403, (method, path)
        assert "bob made it" in answer.json()["detail"]
    assert lab.asked("carol", "POST", f"/experiments/{slug}/cancel", **form).status_code == 403
    assert lab.asked("carol", "POST", "/archive", data={"ref": slug}, **form).status_code == 403
    page = lab.asked("carol", "GET", f"/experiments/{slug}", **form).text
    assert "bob made it: an admin may change it, and you may clone it" in page
    assert f'action="/experiments/{slug}/cancel"' not in page
    assert f'action="/experiments/{slug}/cancel"' in lab.asked("bob", "GET", f"/experiments/{slug}", **form).text
    viewer = lab.asked("vera", "GET", f"/experiments/{slug}", **form).text
    assert 'href="/launch">' not in viewer
    may = re.sub(r'<form action="/(theme|signout)"', "", viewer).split("<main")[1]
    assert re.findall(r'<form [^>]*method="post" action="([^"]*)"', may) == [f"/experiments/{slug}/pack"], "to read it"
    assert may.count('method="post"') == 1
    form_of_launch = lab.asked("vera", "GET", "/launch", **form).text
    assert "launching is for researchers" in form_of_launch
    assert 'value="launch"' not in form_of_launch
    copy = lab.asked("carol", "POST", f"{base}/clone", json={"name": "Carols"})
    assert (copy.status_code, copy.json()["created_by"]) == (201, "carol")
    assert lab.asked("ada", "POST", f"{base}/cancel").status_code == 200
    for one in (slug, copy.json()["slug"]):
        lab.asked("ada", "DELETE", f"/api/experiments/{one}")
    told = lab.asked("ada", "GET", "/api/deeds").json()["items"]
    assert [(row["who"], row["verb"], row["name"]) for row in told][:4] == [
        ("ada", "archive", "Carols"), ("ada", "archive", "Bobs"), ("ada", "cancel", "Bobs"),
        ("carol", "launch", "Carols"),
    ]  # fmt: skip


@pytest.mark.slow
def test_people_sign_in_change_their_password_and_out(lab: Lab) -> None:
    with lab.site.visitor() as client, lab.site.visitor() as other:
        for browser in (client, other):
            wrong = browser.post("/signin", data={"name": "carol", "password": "not her password"})
            assert (wrong.status_code, "Name or password is wrong" in wrong.text) == (403, True)
            nobody = browser.post("/signin", data={"name": "nobody", "password": "not his password"})
            assert nobody.text.replace("nobody", "carol") == wrong.text, "who is here is not told"
            entered = browser.post(
                "/signin", data={"name": "Carol", "password": PASSWORDS["carol"], "next": "/account"}
            )
            assert (entered.status_code, entered.headers["location"]) == (303, "/account")
            cookie, known = entered.headers.get_list("set-cookie")
            assert all(word in cookie for word in ("HttpOnly", "SameSite=lax", "Path=/", "Max-Age=2592000"))
            assert all(word in known for word in ("HttpOnly", "SameSite=strict", "Path=/", "Max-Age=31536000"))
        assert lab.store.users.by_sign_in(users.digest(client.cookies[identity.COOKIE])) is not None
        page = client.get("/account")
        assert "Browsers that are signed in" in page.text
        for form, field in (
            ({"present": "no", "password": "a new password", "again": "a new password"}, "present"),
            ({"present": PASSWORDS["carol"], "password": "short", "again": "short"}, "password"),
            ({"present": PASSWORDS["carol"], "password": "a new password", "again": "another one"}, "again"),
        ):
            refused = client.post("/account/password", data=form)
            assert (refused.status_code, f"✗ {field}: " in refused.text) == (422, True), field
        new = {"present": PASSWORDS["carol"], "password": "a new password", "again": "a new password"}
        assert client.post("/account/password", data=new).status_code == 303
        assert client.get("/account").status_code == 200, "this browser goes on"
        assert other.get("/account").status_code == 303, "others sign in again"
        made = client.post("/account/tokens", data={"name": "cluster", "days": "7"})
        (secret,) = re.findall(r"modescape_[\w-]{43}", made.text)
        assert made.headers["cache-control"] == "no-store"
        assert secret not in client.get("/account").text, "told once"
        assert lab.asked(secret, "GET", "/api/me").json()["name"] == "carol"
        id_ = lab.asked("carol", "GET", "/api/tokens").json()["items"][0]["id"]
        client.post("/account/tokens/revoke", data={"id": id_})
        assert lab.asked(secret, "GET", "/api/me").status_code == 401
        held = client.cookies[identity.COOKIE]
        client.post("/signout")
        assert client.get("/account").status_code == 303
        client.cookies.set(identity.COOKIE, held)
        assert client.get("/account").status_code == 303, "what the cookie held holds no longer"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["sign out", "kept out", "revoked"])
def test_a_stream_ends_when_who_opened_it_may_not_come_in_any_more(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "PING_SECONDS", 0.2)
    with served(tmp_path, token=TOKEN) as site, site.visitor() as client:
        tokens, store = add_users(site.laboratory.store), site.laboratory.store
        client.post("/signin", data={"name": "bob", "password": PASSWORDS["bob"]})
        bearer = {} if how == "sign out" else {"Authorization": f"Bearer {tokens['bob']}"}
        cookies = dict(client.cookies) if how == "sign out" else {}
        with httpx.stream("GET", f"{site.url}/api/events", headers=bearer, cookies=cookies, timeout=20) as stream:
            lines = stream.iter_lines()
            for _ in range(6):  # it goes on for a while
                next(lines)
            if how == "sign out":
                client.post("/signout")
            elif how == "kept out":
                store.users.change("bob", disabled=True)
            else:
                store.users.revoke(store.users.tokens("bob")[0][0].id)
            left = sum(1 for _ in lines)
        assert left < 40, "and then ends"


@pytest.mark.slow
def test_attempts_to_sign_in_are_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "modescape.access")

    def logged() -> list[str]:
        found = [f"{one.levelname} {one.getMessage()}" for one in caplog.records if one.name == "modescape.access"]
        caplog.clear()
        return found

    with served(tmp_path, token=TOKEN) as site, site.visitor() as client:
        add_users(site.laboratory.store)
        wrong = {"name": "bob", "password": "wrong password"}
        for _ in range(users.FREE_FAILURES["user"]):
            client.post("/signin", data=wrong)
        assert logged() == ["WARNING a wrong password for 'bob' from 127.0.0.1"] * users.FREE_FAILURES["user"]
        statuses = (client.post("/signin", data=wrong).status_code for _ in range(6))  # the first waits are short
        assert 429 in statuses
        *_, line = logged()
        assert line.startswith("WARNING a password for 'bob' from 127.0.0.1 was not looked at: too many attempts")
        for _ in range(users.FREE_FAILURES["user"] + 1):
            client.post("/signin", data={"name": "hunter2 hunter2", "password": "x"})
        lines = logged()
        assert lines
        assert all("a name that nobody has" in line for line in lines)
        assert "hunter2" not in "".join(lines)
        client.post("/signin", data={"name": "carol", "password": PASSWORDS["carol"]})
        assert logged() == ["INFO 'carol' signed in from 127.0.0.1 by password"]
        client.post("/signin", data={"token": "modescape_" + "x" * 43})
        client.get("/signin?code=wrong")
        assert logged() == ["WARNING a wrong token from 127.0.0.1", "WARNING a wrong code from 127.0.0.1"]
        for _ in range(30):
            status = client.post("/signin", data={"token": "wrong"}).status_code
        assert status == 429
        assert any("a token from 127.0.0.1 was not looked at: too many attempts" in line for line in logged())


@pytest.mark.slow
def test_what_no_limit_keeps_from_coming_is_a_line_a_minute_with_a_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(logs, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    caplog.set_level("INFO", "modescape.access")

    def logged() -> list[str]:
        found = [one.getMessage() for one in caplog.records if one.name == "modescape.access"]
        caplog.clear()
        return found

    with served(tmp_path, token="x" * users.GUESSABLE) as site, site.visitor() as client:
        for _ in range(30):
            client.get("/api/me", headers={"Authorization": "Bearer modescape_wrong"})
            client.get("/signin?code=wrong")
        assert logged() == ["a wrong token from 127.0.0.1", "a wrong code from 127.0.0.1"]
        clock[0] += 61
        client.get("/api/me", headers={"Authorization": "Bearer wrong"})
        assert logged() == ["a wrong token from 127.0.0.1, and 29 more like it"]
        statuses = [client.post("/signin", data={"name": f"n{i}", "password": "x"}).status_code for i in range(60)]
        free = users.FREE_FAILURES["address"]
        assert statuses[:free] == [403] * free
        heard = statuses.count(403)
        assert heard < 30
        lines = logged()
        assert sum("was not looked at" in line for line in lines) == 1
        assert len(lines) == heard + 1
        with site.laboratory.store.users.database.reading() as session:
            kept = session.scalar(select(func.count()).select_from(SignInFailure))
        assert kept == heard + 1, "a name each that was looked at, and the address"


def test_of_many_addresses_all_that_come_late_are_one_line(caplog: pytest.LogCaptureFixture) -> None:
    seldom = logs.Seldom(logging.getLogger("modescape.access"), most=10)
    for number in range(1000):
        seldom.warning(f"address {number}", "a wrong token from %s", number)
    assert len(caplog.records) == 11


def test_who_must_wait_costs_no_row_whatever_the_name(store: Store) -> None:
    address = users.of_address("192.0.2.7")
    while store.users.attempt([users.of_user("bob"), address]) == 0:
        continue

    def kept() -> list[tuple[str, int]]:
        with store.users.database.reading() as session:
            return [(row.key, row.count) for row in session.scalars(select(SignInFailure).order_by(SignInFailure.key))]

    before = kept()
    assert {key for key, _ in before} == {users.of_user("bob"), address}
    while store.users.attempt([address]) == 0:
        continue
    before = kept()
    waits = [store.users.attempt([users.of_user(f"name {number}"), address]) for number in range(20)]
    assert min(waits) > 0
    assert kept() == before


@pytest.mark.slow
def test_attempts_are_limited_by_user_and_told_and_forgiven(tmp_path: Path) -> None:
    with served(tmp_path, token=TOKEN) as site, site.visitor() as client:
        store = site.laboratory.store
        tokens = add_users(store)
        for _ in range(users.FREE_FAILURES["user"]):
            assert client.post("/signin", data={"name": "bob", "password": "wrong password"}).status_code == 403
        right = {"name": "bob", "password": PASSWORDS["bob"]}
        late = client.post("/signin", data=right)
        assert (late.status_code, "too many attempts failed; try again in" in late.text) == (429, True)
        assert late.headers["retry-after"] in ("1", "2")
        assert client.post("/signin", data={"name": "carol", "password": PASSWORDS["carol"]}).status_code == 303
        time.sleep(1.05)
        assert client.post("/signin", data=right).status_code == 303
        for _ in range(users.FREE_FAILURES["user"]):  # and begins anew
            assert client.post("/signin", data={"name": "bob", "password": "wrong password"}).status_code == 403
        revoked = tokens["carol"]
        store.users.revoke(store.users.tokens("carol")[0][0].id)
        for _ in range(30):  # what is no guess is not counted as one
            for wrong in (revoked, f"{users.TOKEN_PREFIX}{'x' * 43}"):
                assert httpx.get(f"{site.url}/api/me", headers={"Authorization": f"Bearer {wrong}"}).status_code == 401
            assert client.get("/signin?code=wrong").status_code == 403
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        assert httpx.get(f"{site.url}/api/me", headers=bearer).status_code == 200
        statuses = [
            httpx.get(f"{site.url}/api/me", headers={"Authorization": "Bearer wrong"}).status_code for _ in range(25)
        ]
        assert statuses[-1] == 429
        answer = httpx.get(f"{site.url}/api/me", headers=bearer)
        assert answer.status_code == 429, "the right one, which is short, is not heard either"
        assert 1 <= int(answer.headers["retry-after"]) <= 900
        mine = {"Authorization": f"Bearer {tokens['bob']}"}
        assert httpx.get(f"{site.url}/api/me", headers=mine).status_code == 200, "nobody guesses 256 bits"


@pytest.mark.slow
def test_a_browser_that_has_signed_in_before_is_not_held_up_by_others(tmp_path: Path) -> None:
    with served(tmp_path, token=TOKEN) as site, site.visitor() as bobs, site.visitor() as carols:
        store = site.laboratory.store
        add_users(store)
        right = {"name": "bob", "password": PASSWORDS["bob"]}
        assert bobs.post("/signin", data=right).status_code == 303
        assert carols.post("/signin", data={"name": "carol", "password": PASSWORDS["carol"]}).status_code == 303
        bobs.post("/signout")
        far = [users.of_user("bob"), users.of_address("127.0.0.1")]
        while store.users.attempt(far) == 0:  # from many addresses, and from this one
            continue
        assert bobs.post("/signin", data=right).status_code == 303
        assert carols.post("/signin", data=right).status_code == 429, "one that is known for carol is not for bob"
        with site.visitor(cookies={identity.BROWSER_COOKIE: "made up"}) as made_up:
            assert made_up.post("/signin", data=right).status_code == 429
        wrong = {**right, "password": "not his password"}
        statuses = [bobs.post("/signin", data=wrong).status_code for _ in range(users.FREE_FAILURES["browser"] + 1)]
        assert statuses == [403] * users.FREE_FAILURES["browser"] + [429], (
            "who has taken it guesses no more than others"
        )


@pytest.mark.slow
def test_who_shares_a_browser_guesses_no_more_and_holds_up_nobody(tmp_path: Path) -> None:
    with served(tmp_path, token=TOKEN) as site, site.visitor() as shared:
        add_users(site.laboratory.store)
        bob, carol = ({"name": name, "password": PASSWORDS[name]} for name in ("bob", "carol"))
        assert shared.post("/signin", data=bob).status_code == 303
        copied = shared.cookies[identity.BROWSER_COOKIE]
        assert shared.post("/signin", data=carol).status_code == 303
        assert shared.cookies[identity.BROWSER_COOKIE] != copied
        statuses = []
        with site.visitor(cookies={identity.BROWSER_COOKIE: copied}) as bobs:
            for _ in range(users.FREE_FAILURES["user"] + 1):  # a right one of his own between his guesses
                statuses.append(bobs.post("/signin", data={**carol, "password": "a guess of hers"}).status_code)
                assert bobs.post("/signin", data=bob).status_code == 303
        assert statuses[-1] == 429
        assert shared.post("/signin", data=carol).status_code == 303, "where she has signed in before she is heard"


def test_a_password_that_changes_meanwhile_lets_nobody_in(store: Store) -> None:
    add_users(store)
    before, found = store.users.get("bob"), list[str]()

    def enter() -> None:
        try:
            store.users.sign_in("d" * 64, before, "password", "192.0.2.7")
            found.append("in")
        except Forbidden:
            found.append("refused")

    late = threading.Thread(target=enter)
    with store.users.database.writing() as change:
        row = change.session.get_one(User, before.id, with_for_update=True)
        late.start()
        late.join(0.5)
        assert found == [], "who comes in waits for who changes"
        row.password = "another"
    late.join(20)
    assert found == ["refused"]


def test_signing_in_again_ends_the_former_sign_in_of_the_browser(lab: Lab) -> None:
    with lab.site.visitor() as client:
        held = []
        for name in ("bob", "vera"):
            client.post("/signin", data={"name": name, "password": PASSWORDS[name]})
            held.append(users.digest(client.cookies[identity.COOKIE]))
    assert [lab.store.users.by_sign_in(digest) is not None for digest in held] == [False, True]


def test_who_has_no_user_sees_and_ends_the_sign_ins_by_the_servers_secrets(lab: Lab) -> None:
    with lab.site.visitor() as one, lab.site.visitor() as other:
        for browser in (one, other):
            assert browser.post("/signin", data={"token": TOKEN}).status_code == 303
        assert "Sign out all others" in one.get("/account").text
        one.post("/account/signout-others")
        assert one.get("/account").status_code == 200
        assert other.get("/account").status_code == 303


def test_what_was_sent_is_of_who_sent_it(lab: Lab) -> None:
    content = b"these are no numbers"
    sha = hashlib.sha256(content).hexdigest()
    address = f"/api/uploads/{sha}"
    assert lab.asked("bob", "PUT", address, content=content).status_code == 201
    seen = {who: lab.asked(who, "GET", address).json()["complete"] for who in ("bob", "carol", "ada")}
    assert seen == {"bob": True, "carol": False, "ada": True}
    assert lab.asked("carol", "DELETE", address).status_code == 204
    assert lab.asked("bob", "GET", address).json()["complete"], "it is not hers to forget"
    asked = {"name": "x", "files": [{"name": "x.csv", "sha256": sha}]}
    used = {who: lab.asked(who, "POST", "/api/imports", json=asked).status_code for who in ("bob", "carol", "ada")}
    assert used == {"bob": 422, "carol": 404, "ada": 422}, "it is read, and is none; for carol it is not here"
    part = {"content-range": f"bytes 0-3/{len(content)}"}
    assert lab.asked("carol", "PUT", address, content=content[:4], headers=part).json()["received"] == 4
    assert lab.asked("ada", "DELETE", address).status_code == 204
    assert not lab.asked("bob", "GET", address).json()["complete"]


def test_one_user_sends_half_of_what_all_may_and_admins_see_and_forget_it(tmp_path: Path) -> None:
    contents = {who: [f"{who:7}{number}".encode() * 10 for number in range(4)] for who in ("bob", "carol", "ada")}
    with served(tmp_path, token=TOKEN, upload_quota=500e-9) as site, site.client() as client:
        held = {who: {"Authorization": f"Bearer {token}"} for who, token in add_users(site.laboratory.store).items()}

        def send(who: str, number: int) -> httpx.Response:
            content = contents[who][number]
            address = f"/api/uploads/{hashlib.sha256(content).hexdigest()}"
            return client.put(address, content=content, headers=held[who])

        assert [send("bob", number).status_code for number in range(3)] == [201, 201, 201]
        more = b"x" * 40
        refused = client.put(f"/api/uploads/{hashlib.sha256(more).hexdigest()}", content=more, headers=held["bob"])
        assert (refused.status_code, "one user" in refused.json()["detail"]) == (413, True)
        assert [send("carol", number).status_code for number in range(2)] == [201, 201]
        for method in ("GET", "DELETE"):
            assert client.request(method, "/api/uploads?sender=carol", headers=held["bob"]).status_code == 403
        seen = client.get("/api/uploads", headers=held["ada"]).json()["items"]
        assert Counter(one["sender"] for one in seen if one["complete"]) == {"bob": 3, "carol": 2}
        assert sum(one["bytes"] for one in seen) == sum(map(len, [*contents["bob"][:3], *contents["carol"][:2]]))
        assert all(0 <= one["age_seconds"] < 60 for one in seen)
        assert client.delete("/api/uploads?sender=bob", headers=held["ada"]).status_code == 204
        seen = client.get("/api/uploads", headers=held["ada"]).json()["items"]
        assert [one["sender"] for one in seen if one["complete"]] == ["carol", "carol"]
        assert [send("ada", number).status_code for number in range(4)] == [201, 201, 201, 201]
        client.delete("/api/uploads?sender=carol", headers=held["ada"])
        part = {"content-range": "bytes 0-3/50", **held["bob"]}
        sha = hashlib.sha256(more).hexdigest()
        assert client.put(f"/api/uploads/{sha}", content=more[:4], headers=part).json()["received"] == 4
        client.delete(f"/api/uploads/{sha}", headers=held["ada"])
        assert client.get(f"/api/uploads/{sha}", headers=held["bob"]).json()["received"] == 0
        client.delete(f"/api/uploads/{hashlib.sha256(contents['ada'][0]).hexdigest()}", headers=held["ada"])
        told = [(one.who, one.verb, one.kind, one.name, one.details) for one in site.laboratory.store.deeds.page()]
        assert [one for one in told if one[1] == "forget"] == [
            ("ada", "forget", "sent file", sha[:12], {"of": ["bob"]}),
            ("ada", "forget", "sent files", "carol", {}), ("ada", "forget", "sent files", "bob", {}),
        ], "one's own are nobody else's business"  # fmt: skip


def test_nothing_is_read_that_is_sent_to_somebody_elses_import(lab: Lab) -> None:
    with by("bob"):
        row = lab.store.gatherings.open(
            name="Bob's", planned=2, declared={"labels": [], "classes": [], "tags": []}, request="r", key=None, kept=()
        )
    content = b"these are no numbers either"
    sha = hashlib.sha256(content).hexdigest()
    for who, status in (("carol", 403), ("bob", 422)):
        lab.asked(who, "PUT", f"/api/uploads/{sha}", content=content)
        member = {"files": [{"name": "x.csv", "sha256": sha}]}
        answer = lab.asked(who, "PUT", f"/api/imports/{row.id}/members/1", json=member)
        assert answer.status_code == status, answer.text


def test_who_is_here_is_told_by_no_answer(lab: Lab) -> None:
    answers = [lab.asked("bob", "POST", "/api/tokens", json={"name": "x", "user": name}) for name in ("ghost", "vera")]
    answers += [lab.asked("bob", "PATCH", f"/api/users/{name}", json={"disabled": True}) for name in ("ghost", "vera")]
    assert [answer.status_code for answer in answers] == [403] * 4
    told = [{**answer.json(), "instance": ""} for answer in answers]
    assert told[0] == told[1]
    assert told[2] == told[3]
    of_vera = lab.store.users.tokens("vera")[0][0].id
    missing = [lab.asked("bob", "DELETE", f"/api/tokens/{id_}") for id_ in (of_vera, "0" * 36)]
    assert [answer.status_code for answer in missing] == [404, 404]


def test_a_secret_that_nobody_guesses_is_heard_whoever_guesses(tmp_path: Path) -> None:
    long = "x" * users.GUESSABLE
    with served(tmp_path, token=long) as site:
        for _ in range(40):
            assert httpx.get(f"{site.url}/api/me", headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert httpx.get(f"{site.url}/api/me", headers={"Authorization": f"Bearer {long}"}).status_code == 200


def test_of_many_guesses_at_once_each_meets_those_before_it(store: Store) -> None:
    key, begin, heard = users.of_user("bob"), threading.Barrier(20), []

    def guess() -> None:
        begin.wait()
        heard.append(store.users.attempt([key, users.of_address("192.0.2.7")]) == 0)

    threads = [threading.Thread(target=guess) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(heard) == users.FREE_FAILURES["user"]
    store.users.succeeded([key, users.of_address("192.0.2.7")])
    assert store.users.attempt([key]) == 0


def test_failures_count_less_with_time() -> None:
    assert [users.still(32, timedelta(minutes=passed)) for passed in (0, 9, 10, 20, 60, 10_000)] == [
        32,
        32,
        16,
        8,
        0,
        0,
    ]


@pytest.mark.parametrize("change", ["password", "disabled", "removed", "revoked"])
def test_what_was_shown_must_still_hold_when_the_sign_in_begins(store: Store, change: str) -> None:
    add_users(store)
    shown, token = store.users.get("bob"), store.users.tokens("bob")[0][0]
    if change == "password":
        store.users.change("bob", password="another")
    elif change == "disabled":
        store.users.change("bob", disabled=True)
    elif change == "removed":
        store.users.remove("bob")
    else:
        store.users.revoke(token.id)
    with pytest.raises(Forbidden, match="sign in again"):
        store.users.sign_in("0" * 64, shown, "token" if change == "revoked" else "password", "", token=token)


def test_stages_are_added_to_ones_own_experiments(store: Store) -> None:
    from modescape.testing.stores import create

    with by("bob"):
        row = create(store)
    for other in ("carol", "vera"):
        with by(other), pytest.raises(Forbidden):
            store.stages.add(row.id, PlannedStage("materialise", "0"))
    with by("bob"):
        stage = store.stages.add(row.id, PlannedStage("materialise", "0"))
    with by("vera"):
        assert store.stages.add(row.id, PlannedStage("materialise", "0")).id == stage.id, "what is there is told"
    assert store.deeds.page()[0].details == {"stage": "materialise/0"}
    store.experiments.archive(row.id)
    with by("bob"), pytest.raises(Conflict, match="archived"):
        store.stages.add(row.id, PlannedStage("materialise", "1"))


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0, reason="only root can listen as another account")
def test_the_key_is_shown_to_nobody_else_who_listens(tmp_path: Path) -> None:
    users.home_key(tmp_path, make=True)
    script = (
        "import os, socket, sys, time\nserver = socket.create_server(('127.0.0.1', 0))\nprint(server.getsockname()[1], "
        "flush=True)\nos.setuid(int(sys.argv[1]))\nother = socket.create_server(('127.0.0.1', 0))\n"
        "print(other.getsockname()[1], flush=True)\nother.accept()\nother.accept()\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-I", "-c", script, "65534"], stdout=subprocess.PIPE, text=True) as stranger:
        assert stranger.stdout is not None
        stranger.stdout.readline()
        port = stranger.stdout.readline().strip()
        (tmp_path / "url").write_text(f"http://127.0.0.1:{port}")
        assert Settings(home=tmp_path).token_for(f"http://127.0.0.1:{port}") is None
        stranger.kill()
    with served(tmp_path) as site:
        (tmp_path / "url").write_text(site.url)
        assert Settings(home=tmp_path).token_for(site.url) == users.home_key(tmp_path)


@pytest.mark.slow
def test_another_server_token_ends_what_came_in_by_the_one_before(tmp_path: Path) -> None:
    with served(tmp_path, token=TOKEN) as site, site.visitor() as client:
        assert client.post("/signin", data={"token": TOKEN}).status_code == 303
        cookie = client.cookies[identity.COOKIE]
        assert hashlib.sha256(TOKEN.encode()).hexdigest() not in str(cookie)
    for token, status in ((TOKEN, 200), (TOKEN + "2", 303), (TOKEN, 303)):
        with served(tmp_path, token=token) as site, site.visitor(cookies={identity.COOKIE: cookie}) as client:
            assert client.get("/workers").status_code == status


def test_admins_manage_users_on_their_page_and_over_rest(lab: Lab) -> None:
    made = lab.asked("ada", "POST", "/api/users", json={"name": "dora", "role": "viewer"})
    assert (made.status_code, made.json()["has_password"], made.json()["created_by"]) == (201, False, "ada")
    assert lab.asked("ada", "POST", "/api/users", json={"name": "DORA"}).status_code == 409
    short = lab.asked("ada", "POST", "/api/users", json={"name": "emil", "password": "short"})
    assert (short.status_code, short.json()["errors"][0]["field"]) == (422, "password")
    changed = lab.asked("ada", "PATCH", "/api/users/dora", json={"role": "researcher", "disabled": True})
    assert (changed.json()["role"], changed.json()["disabled"]) == ("researcher", True)
    with lab.client("ada", headers={**PAGE, "Origin": lab.site.url}) as client:
        page = client.get("/users").text
        assert "dora" in page
        assert "kept out" in page
        assert client.post("/users/change", data={"name": "dora", "disabled": "false"}).status_code == 303
        assert client.post("/users", data={"name": "emil", "password": "a long password"}).status_code == 303
        last = client.post("/users/change", data={"name": "ada", "role": "viewer"})
        assert (last.status_code, "nobody would be left" in last.text) == (409, True)
        assert client.post("/users/change", data={"name": "emil", "remove": "true"}).status_code == 303
        assert "emil" in client.get("/deeds").text
    assert lab.asked("ada", "DELETE", "/api/users/dora").status_code == 204
    own = lab.asked("bob", "PATCH", "/api/users/bob", json={"password": "another password", "present_password": "no"})
    assert (own.status_code, own.json()["errors"][0]["field"]) == (422, "present_password")
    mine = {"password": PASSWORDS["bob"] + "2", "present_password": PASSWORDS["bob"]}
    assert lab.asked("bob", "PATCH", "/api/users/bob", json=mine).status_code == 200
    assert lab.asked("bob", "GET", "/api/tokens?of=*").status_code == 403
    assert lab.asked("ada", "GET", "/api/tokens?of=*").json()["total"] >= 4


def test_the_visitor_behind_a_trusted_proxy_is_told_apart(tmp_path: Path) -> None:
    with served(tmp_path, token=TOKEN, trusted_proxies="127.0.0.1") as site, site.client() as client:
        seen = {
            forwarded: client.get(
                "/api/me", headers={"Authorization": f"Bearer {TOKEN}", "X-Forwarded-For": forwarded}
            ).json()["address"]
            for forwarded in ("192.0.2.7", "203.0.113.9, 192.0.2.7", "192.0.2.7, 127.0.0.1", "2001:db8::1")
        }
    assert set(seen.values()) == {"192.0.2.7", "2001:db8::1"}, "the last that is no proxy's: others can be made up"


# -- the command line -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_users_and_tokens_by_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import io

    def command(*arguments: str, given: str = "") -> str:
        monkeypatch.setattr(sys, "stdin", io.StringIO(given))
        status = main_in(tmp_path, *arguments)
        out = capsys.readouterr()
        return out.out if status == 0 else out.err

    said = command("users", "add", "ada", "--admin", "--password-stdin", given="correct horse battery\n")
    assert said == "ada may sign in as admin\n"
    assert "--password-stdin" in command("users", "add", "bob")
    address, _, code = command("users", "link").strip().partition("/signin?code=")
    assert address == Settings(home=tmp_path).url
    assert len(code) >= 43
    (tmp_path / "url").write_text("http://127.0.0.1:1234")
    assert command("users", "link").startswith("http://127.0.0.1:1234/signin?code=")
    assert "12 to 1000" in command("users", "add", "bob", "--password-stdin", given="short\n")
    assert "make a token" in command("users", "add", "bob", "--no-password")
    secret = command("tokens", "add", "bob", "--name", "cluster", "--days", "1").strip()
    assert secret.startswith(users.TOKEN_PREFIX)
    assert "bob" in command("tokens")
    assert "cluster" in command("tokens", "list", "bob")
    assert "kept out" in command("users", "change", "bob", "--role", "viewer", "--disabled", "yes")
    assert command("users").splitlines()[1].split()[:2] == ["bob", "viewer"]
    assert "nobody would be left" in command("users", "remove", "ada")
    assert "is needed" in command("tokens", "add")
    for days in ("1e12", "inf", "nan", "-5"):
        assert "more than 0, at most 3650; 0: until revoked" in command("tokens", "add", "bob", "--days", days)
    store = Store(Settings(home=tmp_path).database)
    assert [store.users.take_code(users.digest(code)) for _ in range(2)] == [True, False]
    assert users.password_holds("correct horse battery", store.users.get("ada").password)
    assert "new password" in command("users", "password", "ada", "--password-stdin", given="another long one\n")
    assert users.password_holds("another long one", store.users.get("ada").password)
    assert "holds no longer" in command("tokens", "revoke", store.users.tokens()[0][0].id)
    assert store.users.tokens() == []
    assert {deed.who for deed in store.deeds.page()} == {actor().name}
    store.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [["users", "add", "ada", "--admin", "--no-password"], ["migrate"], ["launch", "quickstart"],
                ["run", "-"], ["serve"], ["up"], ["worker"]],
)  # fmt: skip
def test_whichever_command_is_first_keeps_what_it_makes_to_its_account(
    command: list[str], tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    """Where the home was there, and open, before; nothing that was in it was ours to close."""
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    home.chmod(0o755)
    program = "import os, sys\nfrom modescape.cli import main\nos.umask(0o022)\nsys.exit(main(sys.argv[1:]))"
    environment = {**os.environ, "MODESCAPE_HOME": str(home), "MODESCAPE_PORT": str(free_port())}
    if command[0] in ("serve", "worker"):
        subprocess.run([sys.executable, "-c", program, "migrate"], env=environment, check=True, capture_output=True)
        home.chmod(0o755)
    process = subprocess.Popen([sys.executable, "-c", program, *command], env=environment, stdin=subprocess.PIPE,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        assert process.stdin
        process.stdin.write(json.dumps(SPEC).encode() if "-" in command else b"")
        process.stdin.close()
        wait_until(lambda: home.stat().st_mode & 0o077 == 0 and any(home.glob("modescape.db")), 60, "a closed home")
        if command[0] not in ("serve", "worker", "up"):
            process.wait(60)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) & 0o077 for path in home.rglob("*")}
        assert modes
        assert set(modes.values()) == {0}, modes
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.slow
def test_no_command_leaves_a_file_that_other_accounts_read(tmp_path: Path) -> None:
    """Those that only ask make a database, too, where there is none: each begins in an empty and open home."""
    commands = [
        ["list"], ["show", "x"], ["estimate", "quickstart"], ["reports"], ["export", "x", "y"], ["figures", "x"],
        ["cancel", "x"], ["verify"], ["backup", str(tmp_path / "copy")], ["plugins"], ["data"], ["tokens"],
        ["purge", "x", "--yes"], ["spool"], ["worker", "--check"],
    ]  # fmt: skip
    program = (
        "import json, os, sys\nfrom modescape.cli import main\nos.umask(0o022)\n"
        "for command in json.loads(sys.argv[1]):\n"
        "    home = os.path.join(sys.argv[2], command[0])\n    os.mkdir(home)\n"
        "    os.environ['MODESCAPE_HOME'] = home\n    print(command[0], main(command), flush=True)\n"
    )
    asked = [sys.executable, "-c", program, json.dumps(commands), str(tmp_path)]
    done = subprocess.run(asked, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    made = {str(path.relative_to(tmp_path)): stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("*/*")}
    assert {name.partition("/")[0] for name in made} >= {"list", "estimate", "reports"}
    assert {name: oct(mode) for name, mode in made.items() if mode & 0o077} == {}


def test_what_a_worker_does_is_nobodys_deed(lab: Lab) -> None:
    with acting(Actor("bob", UserRole.RESEARCHER)):
        row = lab.site.laboratory.create(SPEC, name="worked on")
    before = len(lab.store.deeds.page())
    work(lab.site.laboratory, row.id)
    assert lab.store.experiments.get(row.id).status == "succeeded"
    assert len(lab.store.deeds.page()) == before


@pytest.mark.slow
def test_a_user_keeps_and_awaits_no_more_than_is_theirs(store_url: str, tmp_path: Path) -> None:
    def laboratory(**changes: Any) -> Laboratory:
        return Laboratory(Settings(home=tmp_path, database_url=store_url, max_gigabytes=0, **changes))

    free = laboratory()
    store = free.store
    store.workers.register("w0", device="cpu", numerics="n", queue="cpu", pid=1)
    with by("bob"):
        first = free.create(SPEC, name="first")
    work(free, first.id)
    kept = store.experiments.used_by("bob").bytes
    assert kept == sum(store.outputs.artifact(digest).bytes for digest in store.outputs.digests()) > 0
    assert store.experiments.used_by("carol").bytes == 0
    assert store.experiments.used_by("bob").seconds == 0
    other = {**SPEC, "ensemble": {"runs": 2, "seed": 4}}
    small = laboratory(user_gigabytes=1.01 * kept / 1e9)
    with by("bob"), pytest.raises(InvalidInput, match=r"bob keeps .* of the .* that one user may"):
        small.create(other, name="second")
    for who in ("carol", "ada"):
        with by(who):
            small = laboratory(user_gigabytes=1.0) if who == "carol" else small
            row = small.create(other, name=f"of {who}")
            assert row.created_by == who
            store.experiments.cancel(row.id)
    with by("bob"):
        with pytest.raises(InvalidInput, match="that one user may have waiting"):
            laboratory(user_machine_days=1e-9).create(other, name="third")
        third = free.create(other, name="third")
    estimates = sum(stage.estimate for stage in store.stages.of(third.id))
    assert store.experiments.used_by("bob").seconds == pytest.approx(estimates)


@pytest.fixture
def roomy(store_url: str, tmp_path: Path) -> Laboratory:
    """Where one user may keep what one experiment of SPEC keeps, and half of another's."""
    settings = Settings(home=tmp_path, database_url=store_url, max_gigabytes=0)
    planned = Laboratory(settings).prepare(SPEC).plan.bytes
    return Laboratory(settings.model_copy(update={"user_gigabytes": 1.5 * planned / 1e9}))


def another(seed: int) -> dict[str, Any]:
    return {**SPEC, "ensemble": {"runs": 2, "seed": seed}}


MORE = r"bob keeps .* more are under way, of the .* that one user may \(MODESCAPE_USER_GIGABYTES\)"


def test_what_is_under_way_counts_with_what_it_will_keep(roomy: Laboratory) -> None:
    experiments = roomy.store.experiments
    with by("bob"):
        first = roomy.create(SPEC, name="first", idempotency=("k", "r"))
        with pytest.raises(InvalidInput, match=MORE):
            roomy.create(another(4), name="second")
        assert roomy.create(SPEC, name="first", idempotency=("k", "r")).id == first.id
        experiments.cancel(first.id)
        second = roomy.create(another(4), name="second")
        with pytest.raises(InvalidInput, match=MORE):
            experiments.retry(first.id)
        assert experiments.get(first.id).status == "cancelled", "nothing of it was done"
        experiments.cancel(second.id)
        experiments.retry(first.id)
        with pytest.raises(InvalidInput, match=MORE):
            experiments.retry(second.id)
    experiments.retry(second.id)  # an admin's
    assert experiments.used_by("bob").awaited == first.planned_bytes + second.planned_bytes
    with by("bob"):
        with pytest.raises(InvalidInput, match=MORE):
            roomy.store.stages.add(first.id, PlannedStage("materialise", "0"))
        experiments.archive(second.id)
        experiments.archive(first.id)
        roomy.create(another(5), name="third")
        assert experiments.restore(second.id).archived_at is None, "it has ended and keeps nothing"


@pytest.mark.parametrize("verb", ["create", "retry"])
def test_of_two_at_once_that_fit_one_by_one_one_is_refused(roomy: Laboratory, verb: str) -> None:
    experiments = roomy.store.experiments
    prepared = [roomy.prepare(another(seed)) for seed in (4, 5)]
    begin, refused = threading.Barrier(2), []

    def launched(number: int) -> Experiment:
        one = prepared[number]
        return experiments.create(
            name=f"n{number}", spec=one.spec, stages=one.plan.stages, bytes=one.plan.new_bytes
        )  # fmt: skip

    if verb == "retry":
        with by("bob"):
            for number in range(2):
                experiments.cancel(launched(number).id)

    def ask(number: int) -> None:
        with by("bob"):  # both have been looked at, and fit
            begin.wait()
            try:
                launched(number) if verb == "create" else experiments.retry(f"n{number}")
            except InvalidInput as error:
                refused.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 1
    assert [row.status for row in experiments.page()].count("queued") == 1


def test_sweeps_and_imports_are_asked_too(roomy: Laboratory) -> None:
    from modescape.imported.memory import from_arrays
    from modescape.importing import bring_in
    from modescape.store.sweeps import NewCell

    plans = [roomy.prepare(another(seed)) for seed in (4, 5)]
    cells = [NewCell("cell", {}, one.spec, one.plan.stages, one.plan.new_bytes) for one in plans]
    random = np.random.default_rng(0)
    ensemble = from_arrays(random.normal(size=(2, 40, 10)), random.integers(0, 10, 40), recipe="same")
    with by("bob"):
        with pytest.raises(InvalidInput, match=MORE):
            roomy.store.sweeps.create(name="both", document={}, cells=cells)
        assert roomy.store.sweeps.all() == []
        roomy.store.sweeps.create(name="one", document={}, cells=cells[:1])
        assert bring_in(roomy, ensemble, name="small").planned_bytes < cells[0].bytes / 2
    small = Laboratory(roomy.settings.model_copy(update={"user_gigabytes": 1e-9}))
    with by("carol"), pytest.raises(InvalidInput, match="MODESCAPE_USER_GIGABYTES"):
        bring_in(small, ensemble, name="small")


def test_what_is_sent_to_an_import_counts_before_it_is_read(tmp_path: Path) -> None:
    with served(tmp_path, token=TOKEN, user_gigabytes=1e-9) as site:
        bearer = {"Authorization": f"Bearer {add_users(site.laboratory.store)['bob']}"}
        content = b"these are no numbers"
        sha = hashlib.sha256(content).hexdigest()
        with site.client(headers=bearer) as client:
            client.put(f"/api/uploads/{sha}", content=content)
            answer = client.post("/api/imports", json={"name": "x", "files": [{"name": "x.csv", "sha256": sha}]})
        assert (answer.status_code, "MODESCAPE_USER_GIGABYTES" in answer.text) == (422, True)


def test_labels_that_are_declared_of_an_import_count_until_it_is_forgotten(store_url: str, tmp_path: Path) -> None:
    def intake(**limits: float) -> Intake:
        return Intake(Laboratory(Settings(home=tmp_path, database_url=store_url, **limits)))

    def sent(to: Intake, seed: int) -> str:
        file = io.BytesIO()
        np.save(file, np.random.default_rng(seed).integers(0, 9, 1000).astype(np.uint8))
        digest = hashlib.sha256(content := file.getvalue()).hexdigest()
        with to.uploads.receiving(digest, offset=0, total=len(content)) as end:
            end.write(content)
        to.uploads.finish(digest, len(content))
        return digest

    free, small = intake(max_gigabytes=0), intake(max_gigabytes=0, user_gigabytes=12e-6)
    with by("bob"):
        labels = [sent(free, seed) for seed in range(2)]
        first = small.open("first", 2, labels={"test": labels[0]})
        kept = first.declared["labels"][0]["file"]
        assert free.laboratory.store.experiments.used_by("bob").kept == kept["bytes"] == 8128
        free.open("the same labels", 2, labels={"test": labels[0]})
        assert free.laboratory.store.experiments.used_by("bob").kept == kept["bytes"]
        with pytest.raises(InvalidInput, match="MODESCAPE_USER_GIGABYTES"):
            small.open("second", 2, labels={"test": labels[1]})
        file = {"place": "test", "count": 1000, "file": {**kept, "digest": "0" * 64, "shape": [1000]}}
        with pytest.raises(InvalidInput, match=r"with this, bob keeps .*MODESCAPE_USER_GIGABYTES"):
            small.store.open(  # of two at once, the second that has been looked at
                name="second", planned=2, declared={"labels": [file]}, request="r", key=None,
                kept=[ArtifactInfo("0" * 64, "labels", "int64", (1000,), 8000)],
            )  # fmt: skip
        for limit in (0.5e-6, 5e-6):  # of what is sent, and of what is kept of it
            with pytest.raises(InvalidInput, match="MODESCAPE_MAX_GIGABYTES"):
                intake(max_gigabytes=limit).open("third", 2, labels={"test": labels[1]})
        names = [row.name for row in free.store.all()]
        assert sorted(names) == ["first", "the same labels"]
        for row in free.store.all():
            assert free.laboratory.artifacts.exists(kept["digest"])
            free.forget(row.id)
        assert free.laboratory.store.experiments.used_by("bob").kept == 0
        assert not free.laboratory.artifacts.exists(kept["digest"])
        small.open("second", 2, labels={"test": labels[1]})


def test_what_is_refused_once_it_was_read_leaves_no_open_import(store_url: str, tmp_path: Path) -> None:
    def intake(**limits: float) -> Intake:
        return Intake(Laboratory(Settings(home=tmp_path, database_url=store_url, max_gigabytes=0, **limits)))

    file, random = io.BytesIO(), np.random.default_rng(0)
    np.savez_compressed(file, logits=random.integers(0, 9, (3, 500, 10)) / 2, labels=random.integers(0, 10, 500))
    digest = hashlib.sha256(content := file.getvalue()).hexdigest()
    files, asked = [SentFile("a.npz", digest)], Asked("logits", "same")
    small = intake(user_gigabytes=1.5 * len(content) / 1e9)
    with by("bob"):
        with small.uploads.receiving(digest, offset=0, total=len(content)) as end:
            end.write(content)
        small.uploads.finish(digest, len(content))
        with pytest.raises(InvalidInput, match="with this, bob keeps"):
            small.archive("packed", files, asked, about=About(key="k"))
        assert small.store.all() == []
        row = intake().archive("packed", files, asked, about=About(key="k"))
        assert row.experiment_id is not None


def test_the_address_that_is_printed_signs_in_once_where_the_account_cannot_be_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modescape import supervisor

    with served(tmp_path) as site:
        assert supervisor._entrance(site.url, site.settings) == site.url, "it is seen who asks"
        monkeypatch.setattr(neighbours, "owner", lambda client, server: None)
        printed = supervisor._entrance(site.url, site.settings)
        assert users.home_key(tmp_path) not in printed
        with site.client(headers=PAGE) as client:
            assert [client.get(printed).headers.get("location") for _ in range(2)] == ["/", None]
